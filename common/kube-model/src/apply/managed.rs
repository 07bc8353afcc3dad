//! Who owns which fields: `metadata.managedFields`, read and written as `managedfields/internal` of apimachinery does.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fieldset::FieldSet;
use crate::object;

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

/// Every manager of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managers(pub BTreeMap<ManagerId, Owned>);

impl Managers {
    /// Reads the entries of an object; an object with an entry that cannot be read counts as one without any.
    pub fn of(object: &Value) -> Self {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let managers: Option<BTreeMap<_, _>> = entries.into_iter().flatten().map(read).collect();
        Self(managers.unwrap_or_default())
    }

    /// Whether an object asks for its entries to be forgotten: by an empty list, or by one empty entry.
    pub fn is_reset(object: &Value) -> bool {
        match object.pointer("/metadata/managedFields").and_then(Value::as_array).map(Vec::as_slice) {
            Some([]) => true,
            Some([entry]) => entry.as_object().is_some_and(serde_json::Map::is_empty),
            _ => false,
        }
    }

    /// Writes the entries into an object.
    pub fn write(&self, object: &mut Value) {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by(|(a, a_owned), (b, b_owned)| {
            let key = |id: &ManagerId, owned: &Owned| (id.operation, owned.time.clone(), id.manager.clone());
            key(a, a_owned)
                .cmp(&key(b, b_owned))
                .then_with(|| a_owned.api_version.cmp(&b_owned.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        let entries: Vec<_> = entries.into_iter().map(|(id, owned)| entry(id, owned)).collect();
        if entries.is_empty() {
            object::remove_meta(object, "managedFields");
        } else {
            object::set_meta(object, "managedFields", Value::Array(entries));
        }
    }

    /// Merges the oldest updates of one version until few enough are left.
    pub fn cap_updaters(&mut self) {
        let mut updaters: Vec<_> = self
            .0
            .iter()
            .filter(|(id, _)| id.operation == Operation::Update)
            .map(|(id, owned)| (owned.time.clone(), id.clone()))
            .collect();
        updaters.sort();
        let mut left = updaters.len();
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
            let older = self.0.remove(&bucket).or_else(|| self.0.remove(&first));
            if let (Some(older), Some(owned)) = (older, self.0.remove(&id)) {
                let fields = owned.fields.union(&older.fields);
                self.0.insert(bucket, Owned { fields, api_version: version, time });
            }
            left -= 1;
        }
    }
}

fn read(entry: &Value) -> Option<(ManagerId, Owned)> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
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

fn entry(id: &ManagerId, owned: &Owned) -> Value {
    let mut entry = json!({
        "manager": id.manager,
        "operation": id.operation.name(),
        "apiVersion": owned.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned.fields.to_fields_v1(),
    });
    if let Some(time) = &owned.time {
        entry["time"] = json!(time);
    }
    if !id.subresource.is_empty() {
        entry["subresource"] = json!(id.subresource);
    }
    entry
}
