//! Conversion of a `KubeadmConfigSpec`.

use serde_json::{Map, Value, json};

use super::value::{duration_to_seconds, object, prune, seconds_to_duration, take};

const HEALTH_CHECK: &str = "controlPlaneComponentHealthCheckSeconds";
const TLS_BOOTSTRAP: &str = "tlsBootstrapSeconds";
const COMPONENTS: [&str; 3] = ["apiServer", "controllerManager", "scheduler"];

/// A v1beta1 spec becomes a v1beta2 one. `restored` is the spec from before a conversion down, or `Null`.
pub fn up(spec: &mut Map<String, Value>, restored: &Value) {
    spec.remove("useExperimentalRetryJoin");
    let mut health_check = None;
    if let Some(cluster) = object(spec, "clusterConfiguration") {
        for gone in ["apiVersion", "kind", "networking", "kubernetesVersion", "clusterName"] {
            cluster.remove(gone);
        }
        for component in COMPONENTS {
            if let Some(component) = object(cluster, component) {
                args_up(component, "extraArgs");
            }
        }
        if let Some(server) = object(cluster, "apiServer") {
            health_check = take(server, "timeoutForControlPlane").as_ref().and_then(duration_to_seconds);
        }
        if let Some(local) = object(cluster, "etcd").and_then(|etcd| object(etcd, "local")) {
            args_up(local, "extraArgs");
        }
    }
    let mut tls_bootstrap = None;
    for section in ["initConfiguration", "joinConfiguration"] {
        let Some(section) = object(spec, section) else { continue };
        for gone in ["apiVersion", "kind"] {
            section.remove(gone);
        }
        if let Some(node) = object(section, "nodeRegistration") {
            args_up(node, "kubeletExtraArgs");
        }
        for token in section.get_mut("bootstrapTokens").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(token) = token.as_object_mut()
                && let Some(ttl) = take(token, "ttl").as_ref().and_then(duration_to_seconds)
            {
                token.insert("ttlSeconds".to_owned(), json!(ttl));
            }
        }
        if let Some(discovery) = object(section, "discovery") {
            tls_bootstrap = take(discovery, "timeout").as_ref().and_then(duration_to_seconds);
        }
    }
    timeouts_up(spec, restored, health_check, tls_bootstrap);
    booleans_up(spec, restored);
    let mut value = Value::Object(std::mem::take(spec));
    prune(&mut value);
    if let Value::Object(fields) = value {
        *spec = fields;
    }
}

/// A v1beta2 spec becomes a v1beta1 one.
pub fn down(spec: &mut Map<String, Value>) {
    let health_check = timeout(spec, "initConfiguration", HEALTH_CHECK);
    let tls_bootstrap = timeout(spec, "joinConfiguration", TLS_BOOTSTRAP);
    for section in ["initConfiguration", "joinConfiguration"] {
        let Some(fields) = object(spec, section) else { continue };
        fields.remove("timeouts");
        if let Some(node) = object(fields, "nodeRegistration") {
            args_down(node, "kubeletExtraArgs");
        }
        for token in fields.get_mut("bootstrapTokens").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(token) = token.as_object_mut()
                && let Some(ttl) = take(token, "ttlSeconds").as_ref().and_then(seconds_to_duration)
            {
                token.insert("ttl".to_owned(), ttl);
            }
        }
        if fields.is_empty() {
            spec.remove(section);
        }
    }
    if let Some(cluster) = object(spec, "clusterConfiguration") {
        for component in COMPONENTS {
            if let Some(component) = object(cluster, component) {
                args_down(component, "extraArgs");
            }
        }
        if let Some(local) = object(cluster, "etcd").and_then(|etcd| object(etcd, "local")) {
            args_down(local, "extraArgs");
        }
    }
    if let Some(limit) = health_check.as_ref().and_then(seconds_to_duration) {
        let cluster = entry(spec, "clusterConfiguration");
        entry(cluster, "apiServer").insert("timeoutForControlPlane".to_owned(), limit);
    }
    if let Some(limit) = tls_bootstrap.as_ref().and_then(seconds_to_duration) {
        let join = entry(spec, "joinConfiguration");
        entry(join, "discovery").insert("timeout".to_owned(), limit);
    }
    // v1beta1 demands the field.
    for partition in items(spec, &["diskSetup", "partitions"]) {
        partition.entry("layout").or_insert(json!(false));
    }
}

fn timeout(spec: &Map<String, Value>, section: &str, name: &str) -> Option<Value> {
    spec.get(section)?.get("timeouts")?.get(name).cloned()
}

/// Limits that v1beta1 has elsewhere or not at all: restored first, then what v1beta1 says wins.
fn timeouts_up(spec: &mut Map<String, Value>, restored: &Value, health_check: Option<i32>, tls_bootstrap: Option<i32>) {
    for section in ["initConfiguration", "joinConfiguration"] {
        if let Some(timeouts) = restored[section].get("timeouts").filter(|timeouts| timeouts.is_object()) {
            entry(spec, section).insert("timeouts".to_owned(), timeouts.clone());
        }
    }
    if let Some(limit) = health_check {
        // v1beta1 has one limit for both; the join's own is kept where it says the same.
        for section in ["initConfiguration", "joinConfiguration"] {
            entry(entry(spec, section), "timeouts").insert(HEALTH_CHECK.to_owned(), json!(limit));
        }
    }
    if let Some(limit) = tls_bootstrap {
        let same_as_init = timeout(spec, "initConfiguration", HEALTH_CHECK);
        let timeouts = entry(entry(spec, "joinConfiguration"), "timeouts");
        timeouts.insert(TLS_BOOTSTRAP.to_owned(), json!(limit));
        match same_as_init {
            Some(limit) => timeouts.insert(HEALTH_CHECK.to_owned(), limit),
            None => timeouts.remove(HEALTH_CHECK),
        };
    }
}

/// In v1beta1 a plain `false` may mean that nothing was said: it stays only where it was said before.
fn booleans_up(spec: &mut Map<String, Value>, restored: &Value) {
    let strict = &restored["ignition"]["containerLinuxConfig"]["strict"];
    if let Some(config) = object(spec, "ignition").and_then(|ignition| object(ignition, "containerLinuxConfig")) {
        unsaid(config, "strict", strict);
    }
    for file in items(spec, &["files"]) {
        let before =
            first_with(&restored["files"], "path", file.get("path")).get("append").cloned().unwrap_or_default();
        unsaid(file, "append", &before);
    }
    for component in COMPONENTS {
        let known = &restored["clusterConfiguration"][component]["extraVolumes"];
        for volume in items(spec, &["clusterConfiguration", component, "extraVolumes"]) {
            let before =
                first_with(known, "hostPath", volume.get("hostPath")).get("readOnly").cloned().unwrap_or_default();
            unsaid(volume, "readOnly", &before);
        }
    }
    let known = &restored["joinConfiguration"]["discovery"];
    let Some(discovery) = object(spec, "joinConfiguration").and_then(|join| object(join, "discovery")) else { return };
    if let Some(token) = object(discovery, "bootstrapToken") {
        unsaid(token, "unsafeSkipCAVerification", &known["bootstrapToken"]["unsafeSkipCAVerification"]);
    }
    let Some(config) = object(discovery, "file").and_then(|file| object(file, "kubeConfig")) else { return };
    let known = &known["file"]["kubeConfig"];
    if let Some(cluster) = object(config, "cluster") {
        unsaid(cluster, "insecureSkipTLSVerify", &known["cluster"]["insecureSkipTLSVerify"]);
    }
    if let Some(exec) = object(config, "user").and_then(|user| object(user, "exec")) {
        unsaid(exec, "provideClusterInfo", &known["user"]["exec"]["provideClusterInfo"]);
    }
}

fn unsaid(fields: &mut Map<String, Value>, name: &str, before: &Value) {
    if fields.get(name) == Some(&json!(false)) && *before != json!(false) {
        fields.remove(name);
    }
}

fn first_with<'a>(list: &'a Value, field: &str, value: Option<&Value>) -> &'a Value {
    static NOTHING: Value = Value::Null;
    let found = list.as_array().into_iter().flatten().find(|item| item.get(field) == value);
    found.unwrap_or(&NOTHING)
}

/// Flags as a map become a list, ordered by name.
fn args_up(fields: &mut Map<String, Value>, name: &str) {
    if let Some(Value::Object(args)) = fields.get(name) {
        let mut args: Vec<(&String, &Value)> = args.iter().collect();
        args.sort_by_key(|(name, _)| *name);
        let list = args.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        fields.insert(name.to_owned(), Value::Array(list));
    }
}

/// Flags as a list become a map; the last of a name wins.
fn args_down(fields: &mut Map<String, Value>, name: &str) {
    if let Some(Value::Array(args)) = fields.get(name) {
        let pairs =
            args.iter().filter_map(|arg| Some((arg.get("name")?.as_str()?.to_owned(), arg.get("value")?.clone())));
        let map: Map<String, Value> = pairs.collect();
        fields.insert(name.to_owned(), Value::Object(map));
    }
}

fn entry<'a>(fields: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = fields.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("made an object just above"),
    }
}

/// The objects in a list at a place.
fn items<'a>(fields: &'a mut Map<String, Value>, path: &[&str]) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let mut place = None;
    if let Some((first, rest)) = path.split_first() {
        place = fields.get_mut(*first);
        for field in rest {
            place = place.and_then(|value| value.get_mut(*field));
        }
    }
    place.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}
