//! Who owns which fields: `metadata.managedFields`, read and written as `managedfields/internal` of apimachinery does.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::fieldset::FieldSet;

/// Entries of updates that an object keeps apart; older ones are merged into one.
const MAX_UPDATERS: usize = 10;
/// The manager of merged old entries.
const ANCIENT: &str = "ancient-changes";

/// How fields came to be owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What tells the entries of one object apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerId {
    /// Name of the field manager.
    pub manager: String,
    /// How it owns the fields.
    pub operation: Operation,
    /// Empty for an apply, whose entry moves with its version.
    pub api_version: String,
    /// Subresource that was written, or empty.
    pub subresource: String,
}

impl ManagerId {
    /// The identity of a write.
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        let api_version = if operation == Operation::Apply { "" } else { api_version };
        Self { manager: manager.into(), operation, api_version: api_version.into(), subresource: subresource.into() }
    }
}

/// The manager as a conflict names it. Times are not part of an identity and never shown.
impl std::fmt::Display for ManagerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// The fields.
    pub fields: FieldSet,
    /// The version of the kind in which the fields are written.
    pub api_version: String,
    /// When it last changed something, in seconds; none when it never did.
    pub time: Option<String>,
}

/// Every manager of an object, by identity. They are few, and every object of a server has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managers(Vec<(ManagerId, Owned)>);

/// What a written object says of its managers.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Said {
    /// Nothing that can be read.
    #[default]
    Nothing,
    /// That all of them be forgotten: an empty list, or one empty entry.
    Reset,
    /// That it has these.
    Managers(Managers),
}

impl Said {
    /// Takes what an object says out of it.
    pub fn take(object: &mut Value) -> Self {
        let Some(said) = crate::object::remove_meta(object, "managedFields") else { return Self::Nothing };
        match said.as_array().map(Vec::as_slice) {
            Some([]) => Self::Reset,
            Some([entry]) if entry.as_object().is_some_and(serde_json::Map::is_empty) => Self::Reset,
            Some(entries) => match Managers::read(entries) {
                Some(managers) if !managers.is_empty() => Self::Managers(managers),
                _ => Self::Nothing,
            },
            None => Self::Nothing,
        }
    }
}

impl Managers {
    /// Reads entries; none when one of them cannot be read.
    fn read(entries: &[Value]) -> Option<Self> {
        let mut managers = Self::default();
        for entry in entries {
            let (id, owned) = read(entry)?;
            managers.insert(id, owned);
        }
        Some(managers)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each manager and what it owns, by identity.
    pub fn iter(&self) -> impl Iterator<Item = &(ManagerId, Owned)> {
        self.0.iter()
    }

    fn place(&self, id: &ManagerId) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(id))
    }

    /// What a manager owns.
    pub fn get(&self, id: &ManagerId) -> Option<&Owned> {
        self.place(id).ok().and_then(|index| self.0.get(index)).map(|(_, owned)| owned)
    }

    /// What a manager owns, to be changed.
    pub fn get_mut(&mut self, id: &ManagerId) -> Option<&mut Owned> {
        let index = self.place(id).ok()?;
        self.0.get_mut(index).map(|(_, owned)| owned)
    }

    /// Sets what a manager owns; answers with what it owned.
    pub fn insert(&mut self, id: ManagerId, owned: Owned) -> Option<Owned> {
        match self.place(&id) {
            Ok(index) => self.0.get_mut(index).map(|(_, known)| std::mem::replace(known, owned)),
            Err(index) => {
                self.0.insert(index, (id, owned));
                None
            }
        }
    }

    /// Drops a manager; answers with what it owned.
    pub fn remove(&mut self, id: &ManagerId) -> Option<Owned> {
        self.place(id).ok().map(|index| self.0.remove(index).1)
    }

    /// Keeps those of which a rule says so.
    pub fn retain(&mut self, mut rule: impl FnMut(&ManagerId, &mut Owned) -> bool) {
        self.0.retain_mut(|(id, owned)| rule(id, owned));
    }

    /// Whether the same managers own the same, whenever they came to it.
    pub fn equals_but_times(&self, other: &Self) -> bool {
        let is_same = |((one_id, one), (other_id, other)): (&(ManagerId, Owned), &(ManagerId, Owned))| {
            one_id == other_id && one.api_version == other.api_version && one.fields == other.fields
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(is_same)
    }

    /// Merges the oldest updates of one version until few enough are left.
    pub fn cap_updaters(&mut self) {
        let updaters = self.0.iter().filter(|(id, _)| id.operation == Operation::Update);
        let mut left = updaters.clone().count();
        if left <= MAX_UPDATERS {
            return;
        }
        let mut updaters: Vec<_> = updaters.map(|(id, owned)| (owned.time.clone(), id.clone())).collect();
        updaters.sort();
        let mut first_of: BTreeMap<String, ManagerId> = BTreeMap::new();
        for (time, id) in updaters {
            if left <= MAX_UPDATERS {
                break;
            }
            let version = id.api_version.clone();
            let Some(first) = first_of.get(&version).cloned() else {
                first_of.insert(version, id);
                continue;
            };
            let bucket = ManagerId::new(ANCIENT, Operation::Update, &version, "");
            let older = self.remove(&bucket).or_else(|| self.remove(&first));
            if let (Some(older), Some(owned)) = (older, self.remove(&id)) {
                let mut fields = owned.fields;
                fields.unite(&older.fields);
                self.insert(bucket, Owned { fields, api_version: version, time });
            }
            left -= 1;
        }
    }
}

/// Writes `metadata.managedFields`: applies before updates, older before younger.
impl Serialize for Managers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by(|(one, one_owned), (other, other_owned)| {
            (one.operation, &one_owned.time, &one.manager)
                .cmp(&(other.operation, &other_owned.time, &other.manager))
                .then_with(|| one_owned.api_version.cmp(&other_owned.api_version))
                .then_with(|| one.subresource.cmp(&other.subresource))
        });
        serializer.collect_seq(entries.into_iter().map(|(id, owned)| Entry {
            api_version: &owned.api_version,
            fields_type: FIELDS_TYPE,
            fields_v1: &owned.fields,
            manager: &id.manager,
            operation: id.operation.name(),
            subresource: &id.subresource,
            time: owned.time.as_deref(),
        }))
    }
}

/// The format in which fields are written.
const FIELDS_TYPE: &str = "FieldsV1";

/// One entry as objects show it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    api_version: &'a str,
    fields_type: &'static str,
    fields_v1: &'a FieldSet,
    manager: &'a str,
    operation: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subresource: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
}

fn read(entry: &Value) -> Option<(ManagerId, Owned)> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    if text("apiVersion").is_empty() || text("fieldsType") != FIELDS_TYPE {
        return None;
    }
    let id = ManagerId {
        manager: text("manager").into(),
        operation,
        api_version: if operation == Operation::Apply { String::new() } else { text("apiVersion").into() },
        subresource: text("subresource").into(),
    };
    let fields = entry.get("fieldsV1").map(FieldSet::from_fields_v1).unwrap_or_default();
    let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
    Some((id, Owned { fields, api_version: text("apiVersion").into(), time }))
}
