//! Static pods of a control plane machine as kubeadm writes them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    config::types::{ApiEndpoint, Arg, ClusterConfiguration, Component, HostPathMount},
    files::{Entry, Files},
    images,
};

mod arguments;
pub mod patches;

pub use arguments::command;

/// Where kubelet looks for static pods.
pub const DIRECTORY: &str = "/etc/kubernetes/manifests";
/// The components beside etcd.
pub const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// Key of etcd's annotation with its client URL.
pub const ETCD_URL_ANNOTATION: &str = "kubeadm.kubernetes.io/etcd.advertise-client-urls";
/// Key of the API server's annotation with its endpoint.
pub const API_SERVER_ANNOTATION: &str = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint";
/// Mounted where the machine has them, because links in /etc/ssl/certs may lead there.
const CA_DIRECTORIES: [&str; 5] = [
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];

/// Path of a component's manifest.
pub fn path(component: &str) -> String {
    format!("{DIRECTORY}/{component}.yaml")
}

/// `https://address:port`
pub fn url(address: &str, port: u16) -> String {
    if address.contains(':') { format!("https://[{address}]:{port}") } else { format!("https://{address}:{port}") }
}

/// The pod of the API server, the controller manager or the scheduler.
pub fn component(
    cluster: &ClusterConfiguration,
    endpoint: &ApiEndpoint,
    files: &dyn Files,
    name: &str,
    health_check_seconds: u64,
) -> Value {
    let (settings, base, cpu, address, port, annotations) = match name {
        "kube-apiserver" => (
            cluster.api_server.component(),
            arguments::api_server(cluster, endpoint),
            "250m",
            endpoint.advertise_address.clone(),
            endpoint.bind_port,
            json!({API_SERVER_ANNOTATION: endpoint.to_string()}),
        ),
        "kube-controller-manager" => (
            cluster.controller_manager.clone(),
            arguments::controller_manager(cluster, files),
            "200m",
            probe_address(&cluster.controller_manager),
            10257,
            Value::Null,
        ),
        _ => (
            cluster.scheduler.clone(),
            arguments::scheduler(),
            "100m",
            probe_address(&cluster.scheduler),
            10259,
            Value::Null,
        ),
    };
    let mut command = vec![name.to_owned()];
    command.extend(arguments::command(base, &settings.extra_args));
    let (volumes, mounts) = volumes(cluster, files, name, &settings.extra_volumes);
    let live = if name == "kube-controller-manager" { "/healthz" } else { "/livez" };
    let mut container = json!({
        "name": name,
        "image": images::kubernetes(cluster, name),
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": mounts,
        "livenessProbe": probe(&address, live, "HTTPS", [10, 15, 8, 10]),
        "startupProbe": probe(&address, live, "HTTPS", [10, 15, health_check_seconds.div_ceil(10), 10]),
        "resources": {"requests": {"cpu": cpu}},
        "ports": [{"name": "probe-port", "containerPort": port, "protocol": "TCP"}],
    });
    if name != "kube-controller-manager" {
        container["readinessProbe"] = probe(&address, "/readyz", "HTTPS", [0, 15, 3, 1]);
    }
    if !settings.extra_envs.is_empty() {
        container["env"] = settings.extra_envs.into();
    }
    pod(name, container, volumes, annotations)
}

/// etcd's pod. `members` are the names and peer URLs of all members where this one joins others.
pub fn etcd(
    cluster: &ClusterConfiguration,
    endpoint: &ApiEndpoint,
    node: &str,
    members: &[(String, String)],
    health_check_seconds: u64,
) -> Value {
    let local = cluster.etcd.local.clone().unwrap_or_default();
    let mut command = vec!["etcd".to_owned()];
    command.extend(arguments::command(arguments::etcd(cluster, endpoint, node, members), &local.extra_args));
    let certificates = format!("{}/etcd", cluster.certificates_dir);
    let address = if endpoint.advertise_address.contains(':') { "::1" } else { "127.0.0.1" };
    let mut container = json!({
        "name": "etcd",
        "image": images::etcd(cluster),
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": [
            {"name": "etcd-data", "mountPath": local.data_dir},
            {"name": "etcd-certs", "mountPath": certificates},
        ],
        "livenessProbe": probe(address, "/livez", "HTTP", [10, 15, 8, 10]),
        "readinessProbe": probe(address, "/readyz", "HTTP", [0, 15, 3, 1]),
        "startupProbe": probe(address, "/readyz", "HTTP", [10, 15, health_check_seconds.div_ceil(10), 10]),
        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}},
        "ports": [{"name": "probe-port", "containerPort": 2381, "protocol": "TCP"}],
    });
    if !local.extra_envs.is_empty() {
        container["env"] = local.extra_envs.into();
    }
    let volumes = json!([
        {"name": "etcd-certs", "hostPath": {"path": certificates, "type": "DirectoryOrCreate"}},
        {"name": "etcd-data", "hostPath": {"path": local.data_dir, "type": "DirectoryOrCreate"}},
    ]);
    pod("etcd", container, volumes, json!({ETCD_URL_ANNOTATION: url(&endpoint.advertise_address, 2379)}))
}

fn pod(name: &str, container: Value, volumes: Value, annotations: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "kube-system",
            "labels": {"component": name, "tier": "control-plane"},
        },
        "spec": {
            "containers": [container],
            "hostNetwork": true,
            "priority": 2_000_001_000,
            "priorityClassName": "system-node-critical",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": volumes,
        },
        "status": {},
    });
    if !annotations.is_null() {
        pod["metadata"]["annotations"] = annotations;
    }
    pod
}

/// `[initialDelay, timeout, failures, period]` in seconds.
fn probe(host: &str, path: &str, scheme: &str, [delay, timeout, failures, period]: [u64; 4]) -> Value {
    let mut probe = json!({
        "httpGet": {"path": path, "port": "probe-port", "scheme": scheme},
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "periodSeconds": period,
    });
    if !host.is_empty() {
        probe["httpGet"]["host"] = host.into();
    }
    if delay > 0 {
        probe["initialDelaySeconds"] = delay.into();
    }
    probe
}

/// Where a component answers; empty for the pod's own address, where it listens on all.
fn probe_address(component: &Component) -> String {
    let bound = component.extra_args.iter().rev().find(|argument| argument.name == "bind-address");
    match bound.map(|argument| argument.value.as_str()) {
        None => "127.0.0.1".into(),
        Some("0.0.0.0" | "::") => String::new(),
        Some(address) => address.to_owned(),
    }
}

/// Volumes and mounts, those of the user in place of kubeadm's where the names are the same.
fn volumes(
    cluster: &ClusterConfiguration,
    files: &dyn Files,
    component: &str,
    extra: &[HostPathMount],
) -> (Value, Value) {
    let mut volumes: BTreeMap<String, Value> = BTreeMap::new();
    let mut mounts: BTreeMap<String, Value> = BTreeMap::new();
    let mut add = |name: &str, host: &str, container: &str, read_only: bool, kind: &str| {
        let mut source = json!({"path": host});
        if !kind.is_empty() {
            source["type"] = kind.into();
        }
        volumes.insert(name.to_owned(), json!({"name": name, "hostPath": source}));
        let mut mount = json!({"name": name, "mountPath": container});
        if read_only {
            mount["readOnly"] = true.into();
        }
        mounts.insert(name.to_owned(), mount);
    };
    if component == "kube-scheduler" {
        let file = "/etc/kubernetes/scheduler.conf";
        add("kubeconfig", file, file, true, "FileOrCreate");
    } else {
        let directory = &cluster.certificates_dir;
        add("k8s-certs", directory, directory, true, "DirectoryOrCreate");
        add("ca-certs", "/etc/ssl/certs", "/etc/ssl/certs", true, "DirectoryOrCreate");
        for directory in CA_DIRECTORIES.into_iter().filter(|path| files.entry(path) == Some(Entry::Directory)) {
            let name = directory.trim_start_matches('/').replace('/', "-");
            add(&name, directory, directory, true, "DirectoryOrCreate");
        }
        if component == "kube-controller-manager" {
            let file = "/etc/kubernetes/controller-manager.conf";
            add("kubeconfig", file, file, true, "FileOrCreate");
        }
    }
    for volume in extra {
        add(&volume.name, &volume.host_path, &volume.mount_path, volume.read_only, &volume.path_type);
    }
    (volumes.into_values().collect(), mounts.into_values().collect())
}

/// Value of a flag in a container's command; the last one counts.
pub fn flag<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let command = pod.pointer("/spec/containers/0/command")?.as_array()?;
    let flags = command.iter().rev().filter_map(|part| part.as_str()?.strip_prefix("--")?.split_once('='));
    flags.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// The named argument of a list; the last one counts.
pub fn argument<'a>(arguments: &'a [Arg], name: &str) -> Option<&'a str> {
    arguments.iter().rev().find(|argument| argument.name == name).map(|argument| argument.value.as_str())
}
