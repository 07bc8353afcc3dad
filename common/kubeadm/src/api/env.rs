//! The schema of core's `EnvVar`, as Kubernetes' own tools write it: the derived one lacks defaults and map types.

use serde_json::{Value, json};

/// A quantity such as `500m` or `2Gi`.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// An environment variable.
pub(super) fn schema() -> Value {
    let text = |says: &str| json!({"type": "string", "description": says});
    let flag = |says: &str| json!({"type": "boolean", "description": says});
    let object = |says: &str, required: &[&str], properties: Value| {
        json!({
            "type": "object", "description": says, "required": required, "properties": properties,
            "x-kubernetes-map-type": "atomic",
        })
    };
    let key = |says: &str| {
        let name = json!({"type": "string", "default": "", "description": "Name of the object."});
        let fields = json!({"key": text("Key."), "name": name, "optional": flag("Whether it may be missing.")});
        object(says, &["key"], fields)
    };
    let divisor = json!({
        "description": "Unit of the value; 1 when absent.", "x-kubernetes-int-or-string": true, "pattern": QUANTITY,
    });
    let optional = json!({"type": "boolean", "default": false, "description": "Whether it may be missing."});
    let file = json!({
        "key": text("Key in the file."), "path": text("Path in the volume."), "volumeName": text("The volume."),
        "optional": optional,
    });
    let field = json!({"fieldPath": text("Path of the field."), "apiVersion": text("Version that the path is of.")});
    let resource = json!({
        "resource": text("Name: limits.cpu."), "containerName": text("The container."), "divisor": divisor,
    });
    let sources = json!({
        "configMapKeyRef": key("From a ConfigMap."),
        "secretKeyRef": key("From a Secret."),
        "fieldRef": object("From a field of the pod.", &["fieldPath"], field),
        "resourceFieldRef": object("From a resource of a container.", &["resource"], resource),
        "fileKeyRef": object("From a file in a volume.", &["key", "path", "volumeName"], file),
    });
    json!({
        "type": "object", "required": ["name"],
        "properties": {
            "name": text("Name."),
            "value": text("Value; excludes valueFrom."),
            "valueFrom": {
                "type": "object", "description": "Where the value is; excludes value.", "properties": sources,
            },
        },
    })
}
