//! Generation of the schemas, once a process.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::{
    Resource,
    api::{
        apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        authentication::v1::{SelfSubjectReview, TokenReview},
        authorization::v1::{
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
        },
        autoscaling::v1::Scale,
        batch::v1::{CronJob, Job},
        certificates::v1::CertificateSigningRequest,
        coordination::v1::Lease,
        core::v1::{
            Binding, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim,
            Pod, PodTemplate, ResourceQuota, Secret, Service, ServiceAccount,
        },
        discovery::v1::EndpointSlice,
        policy::v1::{Eviction, PodDisruptionBudget},
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
        scheduling::v1::PriorityClass,
        storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, ObjectMeta, Status},
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::topology;
use crate::builtin;

/// Where documents keep their schemas; references begin with it.
const PLACE: &str = "#/components/schemas/";
/// Name of the metadata of every object.
pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Fields that Kubernetes 1.35 and 1.36 added to the types from which schemas are generated, which are those of 1.34.
const NEWER: [(&str, &str, &str); 9] = [
    ("io.k8s.api.core.v1.NodeStatus", "declaredFeatures", "array"),
    ("io.k8s.api.core.v1.PodCertificateProjection", "userAnnotations", "object"),
    ("io.k8s.api.core.v1.PodSpec", "schedulingGroup", "object"),
    ("io.k8s.api.core.v1.PodStatus", "allocatedResources", "object"),
    ("io.k8s.api.core.v1.PodStatus", "resources", "object"),
    ("io.k8s.api.core.v1.ResourceHealth", "message", "string"),
    ("io.k8s.api.core.v1.VolumeMountStatus", "volumeStatus", "object"),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        "observedGeneration",
        "integer",
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionCondition",
        "observedGeneration",
        "integer",
    ),
];

/// Schemas by name, which refer to each other.
#[derive(Debug)]
pub struct Definitions {
    schemas: Map<String, Value>,
    /// Names of the schemas of kinds, by group and kind.
    kinds: BTreeMap<(&'static str, &'static str), String>,
}

impl Definitions {
    /// Those of the built-in kinds. All servers of a process share them; the first who asks waits some milliseconds.
    pub fn built_in() -> &'static Self {
        static SHARED: LazyLock<Definitions> = LazyLock::new(generate);
        &SHARED
    }

    /// Name of the schema of a kind.
    pub fn kind(&self, group: &str, kind: &str) -> Option<&str> {
        let is_wanted = |(known, _): &(&(&str, &str), &String)| known.0 == group && known.1 == kind;
        self.kinds.iter().find(is_wanted).map(|(_, name)| name.as_str())
    }

    /// A schema by its name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.schemas.get(name)
    }

    /// The schema that another one refers to, or itself.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        reference(schema).and_then(|name| self.get(name)).unwrap_or(schema)
    }
}

/// Name of the schema that another one refers to.
pub(super) fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(PLACE)
}

/// Collects schemas.
struct Collector {
    generator: SchemaGenerator,
    kinds: BTreeMap<(&'static str, &'static str), String>,
}

impl Collector {
    fn add<T: JsonSchema + Resource>(&mut self) {
        self.generator.subschema_for::<T>();
        self.kinds.insert((T::GROUP, T::KIND), T::schema_name().into_owned());
    }
}

fn generate() -> Definitions {
    let mut settings = SchemaSettings::draft07();
    settings.definitions_path = PLACE.into();
    let mut collector = Collector { generator: settings.into_generator(), kinds: BTreeMap::new() };
    macro_rules! add {
        ($($kind:ty),* $(,)?) => { $(collector.add::<$kind>();)* };
    }
    add!(ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service);
    add!(
        ServiceAccount,
        DaemonSet,
        Deployment,
        ReplicaSet,
        StatefulSet,
        Job,
        Lease,
        EndpointSlice,
        PodDisruptionBudget
    );
    add!(ClusterRole, ClusterRoleBinding, Role, RoleBinding, CSINode, StorageClass, VolumeAttachment, Eviction);
    add!(CertificateSigningRequest, CustomResourceDefinition, ControllerRevision, CronJob, LimitRange, PodTemplate);
    add!(SelfSubjectReview, TokenReview, LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview);
    add!(SubjectAccessReview);
    add!(ResourceQuota, PriorityClass, CSIDriver, CSIStorageCapacity, VolumeAttributesClass, Scale, Binding);
    let Collector { mut generator, kinds } = collector;
    generator.subschema_for::<DeleteOptions>();
    generator.subschema_for::<ListMeta>();
    generator.subschema_for::<ObjectMeta>();
    generator.subschema_for::<Status>();
    let mut schemas = generator.take_definitions(false);
    for (name, field, kind) in NEWER {
        if let Some(Value::Object(properties)) = schemas.get_mut(name).and_then(|schema| schema.get_mut("properties")) {
            let schema = match kind {
                "array" => json!({"type": kind, "items": {"type": "string"}}),
                _ => json!({"type": kind}),
            };
            properties.insert(field.into(), schema);
        }
    }
    for (key, name) in &kinds {
        if let Some(schema) = schemas.get_mut(name) {
            finish_kind(schema, key.0, key.1);
        }
    }
    for (_, resource) in builtin::registry().iter() {
        let name = kinds.get(&(resource.group.as_str(), resource.kind.as_str()));
        if let (Some(name), Some(version)) = (name, resource.versions.first()) {
            topology::mark(&mut schemas, name, &version.schema);
        }
    }
    Definitions { schemas, kinds }
}

/// The types know metadata that are always there; to a client they are optional.
fn finish_kind(schema: &mut Value, group: &str, kind: &str) {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let required: Vec<_> = required.into_iter().filter(|field| field != "metadata").collect();
    if let Some(fields) = schema.as_object_mut() {
        if required.is_empty() {
            fields.remove("required");
        } else {
            fields.insert("required".into(), Value::Array(required));
        }
        fields
            .insert("x-kubernetes-group-version-kind".into(), json!([{"group": group, "kind": kind, "version": "v1"}]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(definitions: &Definitions, value: &Value) {
        if value.get("$ref").is_some_and(Value::is_string) {
            assert!(reference(value).and_then(|name| definitions.get(name)).is_some(), "{value}");
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|value| check(definitions, value)),
            Value::Array(items) => items.iter().for_each(|value| check(definitions, value)),
            _ => {}
        }
    }

    #[test]
    fn every_built_in_kind_has_a_schema_whose_references_resolve() {
        let definitions = Definitions::built_in();
        for (_, resource) in builtin::registry().iter() {
            let name = definitions.kind(&resource.group, &resource.kind).expect(&resource.kind);
            assert!(definitions.get(name).unwrap().pointer("/properties/metadata").is_some(), "{name}");
        }
        definitions.schemas.values().for_each(|schema| check(definitions, schema));
    }

    #[test]
    fn newer_fields_are_not_there_yet() {
        // Otherwise the list can be shortened.
        for (name, field, _) in NEWER {
            assert!(
                Definitions::built_in().get(name).unwrap()["properties"][field].get("description").is_none(),
                "{field}"
            );
        }
    }

    #[test]
    fn lists_say_how_they_are_merged() {
        let containers =
            &Definitions::built_in().get("io.k8s.api.core.v1.PodSpec").unwrap()["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        let ports = &Definitions::built_in().get("io.k8s.api.core.v1.Container").unwrap()["properties"]["ports"];
        assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
        let args = &Definitions::built_in().get("io.k8s.api.core.v1.Container").unwrap()["properties"]["args"];
        assert_eq!(args["x-kubernetes-list-type"], "atomic");
        let meta = &Definitions::built_in().get(OBJECT_META).unwrap()["properties"]["finalizers"];
        assert_eq!(
            (&meta["x-kubernetes-list-type"], &meta["x-kubernetes-patch-strategy"]),
            (&json!("set"), &json!("merge"))
        );
    }
}
