//! Which resources a server knows, and how each behaves where kinds differ.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use serde_json::{Value, json};

use crate::{
    apply::{Versions, schema::Schema},
    crd::Definition,
    errors::{ApiError, FieldError, Qualified},
};

/// Turns an object of one version of its kind into another version, given by name; an error is a sentence.
pub type Convert = Arc<dyn Fn(&Value, &str) -> Result<Value, String> + Send + Sync>;
/// Changes an object before ownership is recorded; sees the version of the request, whose name is given. An error says
/// why the object cannot even be decoded.
pub type Amend = Arc<dyn Fn(&mut Value, &str) -> Result<(), String> + Send + Sync>;
/// Sets what only the server may set: the new object and, for an update, the stored one, in the stored version.
pub type Prepare = Arc<dyn Fn(&mut Value, Option<&Value>) + Send + Sync>;
/// What is wrong with an object, in the version of the request, whose name is given.
pub type Validate = Arc<dyn Fn(&Value, &str) -> Vec<FieldError> + Send + Sync>;

/// What is wrong with a change of an object, given the new and the stored one in the stored version.
pub type ValidateUpdate = Arc<dyn Fn(&Value, &Value) -> Vec<FieldError> + Send + Sync>;
/// Admission of a new object: fills in what depends on other objects, or refuses it. What it fills in has no owner.
pub type Admit = Arc<dyn Fn(&mut Value, &dyn Others) -> Result<(), ApiError> + Send + Sync>;

/// What an admission may know beside its object.
pub trait Others {
    /// Another object, by group, kind, namespace and name.
    fn get(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// The end of a generated name.
    fn name_suffix(&self) -> String;
}

/// A served version of a kind.
#[derive(Clone, Debug)]
pub struct Version {
    /// Name, such as `v1beta2`.
    pub name: String,
    /// Topology of its fields.
    pub schema: Schema,
}

/// Ways in which kinds differ from each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    /// Defined by a `CustomResourceDefinition`: no strategic merge, updates name their resource version, and a write
    /// to the status changes nothing else.
    pub is_custom: bool,
    /// `metadata.generation` counts changes of what is wanted.
    pub has_generation: bool,
    /// There is a status subresource: other writes do not change the status.
    pub has_status: bool,
    /// There is an approval subresource: conditions that only those write who approve.
    pub has_approval: bool,
    /// The status can be given when the object is created.
    pub creates_status: bool,
    /// An update of a missing object creates it.
    pub creates_on_update: bool,
    /// An update may leave out the resource version.
    pub updates_unconditionally: bool,
    /// A deletion answers with the object, not with a `Status`.
    pub returns_deleted: bool,
    /// Names are whatever a path can hold: those of roles have colons.
    pub has_path_names: bool,
    /// Names are one part of a domain: dots are none of theirs.
    pub has_label_names: bool,
    /// Objects are deleted one by one, never as a collection.
    pub deletes_one_by_one: bool,
    /// How many there are to be of what it keeps can be read and set apart from the rest.
    pub has_scale: bool,
    /// Objects are questions: they are answered when they are created, by whoever is in front of the server, and never kept.
    pub is_asked: bool,
    /// Deletion waits for somebody else, as for the kubelet of a pod: seconds that the object itself asks for.
    pub grace: Option<fn(&Value) -> i64>,
}

/// A subresource that somebody in front of a server answers, as discovery shows it.
#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    /// Its name.
    pub name: &'static str,
    /// Kind of what is sent or answered.
    pub kind: &'static str,
    /// What can be done with it.
    pub verbs: &'static [&'static str],
}

/// A resource: a kind under its plural.
#[derive(Clone)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// Name of the kind.
    pub kind: String,
    /// Plural, as paths have it.
    pub plural: String,
    /// Singular, for discovery.
    pub singular: String,
    /// Short names, for discovery.
    pub short_names: Vec<String>,
    /// Groups of resources to which it belongs, such as `all`, for discovery.
    pub categories: Vec<String>,
    /// Subresources that others answer, for discovery.
    pub foreign: Vec<Subresource>,
    /// Whether its objects live in namespaces.
    pub is_namespaced: bool,
    /// Served versions, the preferred one first.
    pub versions: Vec<Version>,
    /// Name of the version in which objects are kept.
    pub stored: String,
    /// Ways in which the kind differs from others.
    pub behaviour: Behaviour,
    /// The `CustomResourceDefinition` that it was read from, if it was.
    pub definition: Option<Arc<Value>>,
    /// Fields that field selectors may name, as dotted paths, besides name and namespace.
    pub selectable: Vec<String>,
    /// Conversion between versions; without one only `apiVersion` differs.
    pub convert: Option<Convert>,
    /// What decoding drops from what a client sends. A configuration that is applied does not pass through it.
    pub decode: Option<Amend>,
    /// Defaults, and what else is put into another form.
    pub default: Option<Amend>,
    /// What the server sets.
    pub prepare: Option<Prepare>,
    /// Admission.
    pub admit: Option<Admit>,
    /// Validation.
    pub validate: Option<Validate>,
    /// Validation of changes.
    pub validate_update: Option<ValidateUpdate>,
    /// What that definition says of its versions.
    pub(crate) defined: Option<Arc<Definition>>,
}

impl Resource {
    /// A resource without peculiarities: one version, kept as it is written.
    pub fn new(group: &str, version: &str, kind: &str, plural: &str, is_namespaced: bool, schema: Schema) -> Self {
        Self {
            group: group.into(),
            kind: kind.into(),
            plural: plural.into(),
            singular: kind.to_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            foreign: Vec::new(),
            is_namespaced,
            versions: vec![Version { name: version.into(), schema }],
            stored: version.into(),
            behaviour: Behaviour { updates_unconditionally: true, ..Behaviour::default() },
            definition: None,
            selectable: Vec::new(),
            convert: None,
            decode: None,
            default: None,
            prepare: None,
            admit: None,
            validate: None,
            validate_update: None,
            defined: None,
        }
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.into() } else { format!("{}/{version}", self.group) }
    }

    /// Whether a text is `group/version`, or the version alone in the core group.
    fn is_version(&self, text: &str, version: &str) -> bool {
        if self.group.is_empty() {
            return text == version;
        }
        text.strip_prefix(&self.group).and_then(|rest| rest.strip_prefix('/')) == Some(version)
    }

    /// The resource as messages name it.
    pub fn qualified(&self) -> Qualified<'_> {
        Qualified { group: &self.group, resource: &self.plural }
    }

    /// The kind as messages name it.
    pub fn qualified_kind(&self) -> Qualified<'_> {
        Qualified { group: &self.group, resource: &self.kind }
    }

    /// An object in another version, borrowed when it is in that version already.
    pub fn to_version<'a>(&self, object: &'a Value, version: &str) -> Result<Cow<'a, Value>, ApiError> {
        if object.get("apiVersion").and_then(Value::as_str).is_some_and(|given| self.is_version(given, version)) {
            return Ok(Cow::Borrowed(object));
        }
        let wanted = self.api_version(version);
        let mut converted = match &self.convert {
            Some(convert) => convert(object, version)
                .map_err(|why| ApiError::internal(&format!("conversion to {wanted} failed: {why}")))?,
            None => object.clone(),
        };
        converted["apiVersion"] = json!(wanted);
        Ok(Cow::Owned(converted))
    }
}

impl Versions for Resource {
    fn schema(&self, api_version: &str) -> Option<&Schema> {
        let version = self.versions.iter().find(|version| self.is_version(api_version, &version.name))?;
        Some(&version.schema)
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        let version = api_version.rsplit('/').next()?;
        self.schema(api_version)?;
        self.to_version(object, version).ok().map(Cow::into_owned)
    }
}

/// Place of a resource in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(pub(crate) usize);

/// The resources of a server.
#[derive(Clone, Default)]
pub struct Registry {
    resources: Vec<Arc<Resource>>,
    /// By group and plural.
    by_path: HashMap<String, HashMap<String, ResourceId>>,
}

impl Registry {
    /// Adds a resource, or replaces the one of the same group and plural.
    pub fn install(&mut self, resource: Resource) -> ResourceId {
        let group = self.by_path.entry(resource.group.clone()).or_default();
        let id = *group.entry(resource.plural.clone()).or_insert(ResourceId(self.resources.len()));
        let resource = Arc::new(resource);
        match self.resources.get_mut(id.0) {
            Some(known) => *known = resource,
            None => self.resources.push(resource),
        }
        id
    }

    /// The resource of a group and plural, in whatever version.
    pub fn known(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.get(self.by_path.get(group)?.get(plural)?.0)
    }

    /// Whether there are resources of a group.
    pub fn has_group(&self, group: &str) -> bool {
        self.by_path.contains_key(group)
    }

    /// The resource of a path, when it serves that version.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<(ResourceId, Arc<Resource>)> {
        let id = *self.by_path.get(group)?.get(plural)?;
        let resource = self.resources.get(id.0)?;
        resource.versions.iter().any(|served| served.name == version).then(|| (id, Arc::clone(resource)))
    }

    /// The resource of a kind, in whatever version.
    pub fn find_kind(&self, group: &str, kind: &str) -> Option<ResourceId> {
        self.iter().find(|(_, resource)| resource.group == group && resource.kind == kind).map(|(id, _)| id)
    }

    /// The resource of an id of this registry.
    pub fn get(&self, id: ResourceId) -> Option<&Arc<Resource>> {
        self.resources.get(id.0)
    }

    /// Every resource, in the order of installation.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceId, &Arc<Resource>)> {
        self.resources.iter().enumerate().map(|(index, resource)| (ResourceId(index), resource))
    }
}
