//! Conversion of a `KubeadmConfigSpec`.

use serde_json::{Map, Value, json};

use super::{
    ConvertError,
    value::{object, prune, seconds_to_duration, take, take_seconds},
};

const HEALTH_CHECK: &str = "controlPlaneComponentHealthCheckSeconds";
const TLS_BOOTSTRAP: &str = "tlsBootstrapSeconds";
const COMPONENTS: [&str; 3] = ["apiServer", "controllerManager", "scheduler"];

/// A v1beta1 spec at `path` becomes a v1beta2 one. `restored` is the spec from before a conversion down, or `Null`.
pub fn up(spec: &mut Map<String, Value>, restored: &Value, path: &str) -> Result<(), ConvertError> {
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
            let path = format!("{path}.clusterConfiguration.apiServer");
            health_check = take_seconds(server, "timeoutForControlPlane", &path)?;
        }
        if let Some(local) = object(cluster, "etcd").and_then(|etcd| object(etcd, "local")) {
            args_up(local, "extraArgs");
        }
    }
    let mut tls_bootstrap = None;
    for name in ["initConfiguration", "joinConfiguration"] {
        let Some(section) = object(spec, name) else { continue };
        for gone in ["apiVersion", "kind"] {
            section.remove(gone);
        }
        if let Some(node) = object(section, "nodeRegistration") {
            args_up(node, "kubeletExtraArgs");
        }
        for (index, token) in items(section, &["bootstrapTokens"]).enumerate() {
            if let Some(ttl) = take_seconds(token, "ttl", &format!("{path}.{name}.bootstrapTokens[{index}]"))? {
                token.insert("ttlSeconds".to_owned(), json!(ttl));
            }
        }
        if let Some(discovery) = object(section, "discovery") {
            tls_bootstrap = take_seconds(discovery, "timeout", &format!("{path}.{name}.discovery"))?;
        }
    }
    for partition in items(spec, &["diskSetup", "partitions"]) {
        // v1beta1 demands the field; beside a layout of its own, false says nothing.
        let has_layout = partition.get("diskLayout").and_then(Value::as_array).is_some_and(|layout| !layout.is_empty());
        if has_layout && partition.get("layout") == Some(&json!(false)) {
            partition.remove("layout");
        }
    }
    timeouts_up(spec, restored, health_check, tls_bootstrap);
    booleans_up(spec, restored);
    let mut value = Value::Object(std::mem::take(spec));
    prune(&mut value);
    if let Value::Object(fields) = value {
        *spec = fields;
    }
    Ok(())
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
        for token in items(fields, &["bootstrapTokens"]) {
            if let Some(ttl) = take(token, "ttlSeconds").as_ref().and_then(seconds_to_duration) {
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

/// Limits that v1beta1 has elsewhere or not at all. What it does not have is restored; of the two that it has, what it
/// says now wins, and what it does not say any more was taken out there.
fn timeouts_up(spec: &mut Map<String, Value>, restored: &Value, health_check: Option<i32>, tls_bootstrap: Option<i32>) {
    const SECTIONS: [&str; 2] = ["initConfiguration", "joinConfiguration"];
    for section in SECTIONS {
        if let Some(timeouts) = restored[section].get("timeouts").filter(|timeouts| timeouts.is_object()) {
            entry(spec, section).insert("timeouts".to_owned(), timeouts.clone());
        }
    }
    let before = timeout(spec, SECTIONS[0], HEALTH_CHECK);
    let now = health_check.map(Value::from);
    if now != before {
        // v1beta1 has one limit for both; a join that had another of its own keeps that when init's goes.
        for section in SECTIONS {
            match &now {
                Some(limit) => set_timeout(spec, section, HEALTH_CHECK, limit.clone()),
                None if timeout(spec, section, HEALTH_CHECK) == before => drop_timeout(spec, section, HEALTH_CHECK),
                None => {}
            }
        }
    }
    match tls_bootstrap {
        Some(limit) => set_timeout(spec, SECTIONS[1], TLS_BOOTSTRAP, json!(limit)),
        None => drop_timeout(spec, SECTIONS[1], TLS_BOOTSTRAP),
    }
}

fn set_timeout(spec: &mut Map<String, Value>, section: &str, name: &str, limit: Value) {
    entry(entry(spec, section), "timeouts").insert(name.to_owned(), limit);
}

fn drop_timeout(spec: &mut Map<String, Value>, section: &str, name: &str) {
    if let Some(timeouts) = object(spec, section).and_then(|section| object(section, "timeouts")) {
        timeouts.remove(name);
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
    if fields.get(name) != Some(&json!(true)) {
        fields.remove(name);
        if *before == json!(false) {
            fields.insert(name.to_owned(), json!(false));
        }
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
