//! What is served, as OpenAPI: a document for each group and version (v3), and one for all (v2).
//!
//! Clients read from them which fields there are (`kubectl explain`), that the server checks fields (`fieldValidation`),
//! which patches it takes, and how lists are merged. Documents of built-in kinds are made when somebody asks first, and
//! all servers of a process share them; those of custom resources are made anew for each request.

mod protobuf;
mod routes;
mod schema;
mod v2;
mod v3;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    builtin,
    registry::{Registry, Resource},
};

/// A document, ready to be sent.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its text.
    pub bytes: Bytes,
    /// A hash of the text, by which clients know whether they have it.
    pub hash: String,
}

impl Document {
    fn new(bytes: Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Self { hash: format!("{:016X}", hasher.finish()), bytes }
    }

    fn from_json(value: &Value) -> Self {
        Self::new(value.to_string().into())
    }
}

/// A version of a group.
type GroupVersion = (String, String);

fn group_versions(registry: &Registry) -> BTreeSet<GroupVersion> {
    let versions = |resource: &Arc<Resource>| -> Vec<GroupVersion> {
        resource.versions.iter().map(|version| (resource.group.clone(), version.name.clone())).collect()
    };
    registry.iter().flat_map(|(_, resource)| versions(resource)).collect()
}

fn resources(registry: &Registry, group: &str, version: &str) -> Vec<Arc<Resource>> {
    let is_served = |resource: &&Arc<Resource>| {
        resource.group == group && resource.versions.iter().any(|served| served.name == version)
    };
    registry.iter().map(|(_, resource)| resource).filter(is_served).cloned().collect()
}

/// Whether all resources are those that every server has.
fn are_built_in<'a>(mut resources: impl Iterator<Item = &'a Arc<Resource>>) -> bool {
    let built_in = builtin::registry();
    resources.all(|resource| {
        let known = built_in.find(&resource.group, &resource.stored, &resource.plural);
        known.is_some_and(|(_, known)| Arc::ptr_eq(&known, resource))
    })
}

/// `/openapi/v3`: where the documents are.
pub fn index(registry: &Registry) -> Value {
    let paths: BTreeMap<String, Value> = group_versions(registry)
        .into_iter()
        .filter_map(|(group, version)| {
            let document = group_version(registry, &group, &version)?;
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            let url = format!("/openapi/v3/{path}?hash={}", document.hash);
            Some((path, json!({"serverRelativeURL": url})))
        })
        .collect();
    json!({"paths": paths})
}

/// `/openapi/v3/api/VERSION` or `/openapi/v3/apis/GROUP/VERSION`; none when nothing is served there.
pub fn group_version(registry: &Registry, group: &str, version: &str) -> Option<Document> {
    static SHARED: LazyLock<Mutex<BTreeMap<GroupVersion, Document>>> = LazyLock::new(Mutex::default);
    let resources = resources(registry, group, version);
    if resources.is_empty() {
        return None;
    }
    let make = || Document::from_json(&v3::document(&resources, group, version));
    if !are_built_in(resources.iter()) {
        return Some(make());
    }
    Some(SHARED.lock().entry((group.to_owned(), version.to_owned())).or_insert_with(make).clone())
}

/// A form of the document of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As JSON.
    Json,
    /// As the protobuf message of gnostic, for which Go clients ask.
    Protobuf,
}

/// `/openapi/v2`.
pub fn all(registry: &Registry, form: Form) -> Document {
    static SHARED: LazyLock<Mutex<BTreeMap<Form, Document>>> = LazyLock::new(Mutex::default);
    let make = || {
        let served = group_versions(registry)
            .into_iter()
            .flat_map(|(group, version)| {
                let resources = resources(registry, &group, &version);
                resources.into_iter().map(move |resource| (resource, version.clone()))
            })
            .collect::<Vec<_>>();
        let document = v2::document(&served);
        match form {
            Form::Json => Document::from_json(&document),
            Form::Protobuf => Document::new(protobuf::encode(&document).into()),
        }
    };
    if !are_built_in(registry.iter().map(|(_, resource)| resource)) {
        return make();
    }
    SHARED.lock().entry(form).or_insert_with(make).clone()
}

#[cfg(test)]
mod tests;
