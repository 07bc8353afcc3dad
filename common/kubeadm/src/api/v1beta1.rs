//! The v1beta1 schema, as what it differs in from v1beta2.
//!
//! v1beta1 is served until upstream ends it. Its types exist only as a schema: objects are converted as JSON.
//! Differences follow upstream's own list: flags are maps, some settings are elsewhere, hardly anything is bounded.

use serde_json::{Map, Value, json};

/// Turns the schema of a v1beta2 `KubeadmConfigSpec` into that of v1beta1.
pub fn spec_schema(spec: &mut Value) {
    relax(spec);
    let fields = &mut spec["properties"];
    fields["useExperimentalRetryJoin"] = json!({"type": "boolean"});
    let types = json!({"apiVersion": {"type": "string"}, "kind": {"type": "string"}});
    for section in ["clusterConfiguration", "initConfiguration", "joinConfiguration"] {
        merge(&mut fields[section]["properties"], &types);
        fields[section]["properties"]["nodeRegistration"]["properties"]["kubeletExtraArgs"] = args();
    }
    let cluster = &mut fields["clusterConfiguration"]["properties"];
    if let Some(cluster) = cluster.as_object_mut() {
        cluster.remove("nodeRegistration");
    }
    merge(
        cluster,
        &json!({
            "kubernetesVersion": {"type": "string", "minLength": 1, "maxLength": 256},
            "clusterName": {"type": "string", "minLength": 1, "maxLength": 63},
            "networking": {"type": "object", "properties": {
                "serviceSubnet": {"type": "string", "minLength": 1, "maxLength": 1024},
                "podSubnet": {"type": "string", "minLength": 1, "maxLength": 1024},
                "dnsDomain": {"type": "string", "minLength": 1, "maxLength": 253},
            }},
        }),
    );
    for component in ["apiServer", "controllerManager", "scheduler"] {
        cluster[component]["properties"]["extraArgs"] = args();
    }
    cluster["apiServer"]["properties"]["timeoutForControlPlane"] = json!({"type": "string"});
    cluster["etcd"]["properties"]["local"]["properties"]["extraArgs"] = args();
    let init = &mut fields["initConfiguration"]["properties"];
    remove(init, "timeouts");
    remove(&mut init["localAPIEndpoint"]["properties"]["bindPort"], "minimum");
    let token = &mut init["bootstrapTokens"]["items"]["properties"];
    remove(token, "ttlSeconds");
    token["ttl"] = json!({"type": "string"});
    for limit in ["minLength", "maxLength"] {
        remove(&mut token["token"], limit);
    }
    let join = &mut fields["joinConfiguration"]["properties"];
    remove(join, "timeouts");
    join["discovery"]["properties"]["timeout"] = json!({"type": "string"});
    remove(&mut join["controlPlane"]["properties"]["localAPIEndpoint"]["properties"]["bindPort"], "minimum");
    remove(&mut fields["mounts"]["items"], "maxItems");
    let partition = &mut fields["diskSetup"]["properties"]["partitions"]["items"];
    partition["required"] = json!(["device", "layout"]);
    remove(partition, "x-kubernetes-validations");
    // It came when v1beta2 was there already, and is bounded in both.
    partition["properties"]["diskLayout"]["minItems"] = json!(1);
}

/// The schema of a v1beta1 `KubeadmConfig` status, from that of v1beta2.
pub fn status_schema(status: &mut Value) {
    let conditions = status["properties"]["conditions"].take();
    relax(status);
    let fields = &mut status["properties"];
    remove(fields, "initialization");
    remove(&mut fields["observedGeneration"], "minimum");
    let legacy = fields["deprecated"]["properties"]["v1beta1"]["properties"].take();
    remove(fields, "deprecated");
    merge(fields, &legacy);
    merge(
        fields,
        &json!({
            "ready": {"type": "boolean"},
            "v1beta2": {"type": "object", "properties": {"conditions": conditions}},
        }),
    );
}

/// Schema of what a `KubeadmConfig` keeps of v1beta1 in its v1beta2 status.
pub fn deprecated_status(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    deprecated(&json!({"failureReason": {"type": "string", "minLength": 1, "maxLength": 256}}))
}

/// Schema of what a v1beta2 status keeps of v1beta1: conditions and failure message, and these fields.
pub fn deprecated(more: &Value) -> schemars::Schema {
    let mut fields = json!({
        "conditions": legacy_conditions(),
        "failureMessage": {"type": "string", "minLength": 1, "maxLength": MESSAGE_LIMIT},
    });
    merge(&mut fields, more);
    let inner = json!({"type": "object", "description": "What v1beta1 shows.", "properties": fields});
    schemars::json_schema!({"type": "object", "properties": {"v1beta1": inner}})
}

/// Longest message of a v1beta1 condition, in characters.
pub const MESSAGE_LIMIT: usize = 10240;

/// The schema of v1beta1's own conditions.
pub fn legacy_conditions() -> Value {
    json!({"type": "array", "items": {
        "type": "object",
        "required": ["lastTransitionTime", "status", "type"],
        "properties": {
            "type": {"type": "string", "minLength": 1, "maxLength": 256},
            "status": {"type": "string"},
            "severity": {"type": "string", "maxLength": 32},
            "reason": {"type": "string", "minLength": 1, "maxLength": 256},
            "message": {"type": "string", "minLength": 1, "maxLength": MESSAGE_LIMIT},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        },
    }})
}

fn args() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

/// v1beta1 bounds lists and structures from above only, and declares no list types.
pub fn relax(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for gone in ["minProperties", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"] {
                fields.remove(gone);
            }
            if fields.get("type") == Some(&json!("array")) {
                fields.remove("minItems");
                fields.remove("x-kubernetes-validations");
            }
            fields.values_mut().for_each(relax);
        }
        Value::Array(items) => items.iter_mut().for_each(relax),
        _ => {}
    }
}

fn merge(into: &mut Value, more: &Value) {
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let (Some(into), Some(more)) = (into.as_object_mut(), more.as_object()) {
        into.extend(more.clone());
    }
}

fn remove(fields: &mut Value, name: &str) {
    if let Some(fields) = fields.as_object_mut() {
        fields.remove(name);
    }
}
