//! Small objects of every kind, to which a check adds what it is about.

use serde_json::{Value, json};

/// Namespace of all objects of the checks.
pub const NAMESPACE: &str = "checks";
pub const BOOTSTRAP: &str = "bootstrap.cluster.x-k8s.io/v1beta2";
pub const BOOTSTRAP_OLD: &str = "bootstrap.cluster.x-k8s.io/v1beta1";
pub const CONTROL_PLANE: &str = "controlplane.cluster.x-k8s.io/v1beta2";
pub const CONTROL_PLANE_OLD: &str = "controlplane.cluster.x-k8s.io/v1beta1";
pub const DCS: &str = "infrastructure.cluster.x-k8s.io/v1beta1";

/// An object of our kinds.
pub fn object(api_version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
}

/// `object` with `value` at a JSON pointer, made on the way; `Null` takes the field out.
pub fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    let mut place = &mut object;
    for field in parent.split('/').skip(1) {
        place = match field.parse::<usize>() {
            Ok(index) if place.is_array() => &mut place[index],
            _ => &mut place[field],
        };
    }
    match (place.as_object_mut(), value) {
        (Some(fields), Value::Null) => {
            fields.remove(name);
        }
        (_, value) => place[name] = value,
    }
    object
}

/// A `KubeadmConfig`.
pub fn config(name: &str, spec: Value) -> Value {
    object(BOOTSTRAP, "KubeadmConfig", name, spec)
}

/// A `KubeadmConfigTemplate` whose clones have this spec.
pub fn config_template(name: &str, spec: Value) -> Value {
    object(BOOTSTRAP, "KubeadmConfigTemplate", name, json!({"template": {"spec": spec}}))
}

/// A `KubeadmControlPlane` of three machines.
pub fn control_plane(name: &str) -> Value {
    let template = json!({"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DCSMachineTemplate", "name": "cp"});
    let spec = json!({
        "replicas": 3, "version": "v1.34.5-3", "machineTemplate": {"spec": {"infrastructureRef": template}},
        "kubeadmConfigSpec": {"clusterConfiguration": {"certificatesDir": "/etc/kubernetes/pki"}},
    });
    object(CONTROL_PLANE, "KubeadmControlPlane", name, spec)
}

/// A v1beta1 `KubeadmControlPlane` as DCS users write it.
pub fn old_control_plane(name: &str) -> Value {
    let template = json!({"apiVersion": DCS, "kind": "DCSMachineTemplate", "name": "cp"});
    let spec = json!({
        "replicas": 3, "version": "v1.34.5-3",
        "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}},
        "machineTemplate": {"infrastructureRef": template, "nodeDrainTimeout": "1m", "nodeDeletionTimeout": "5m"},
        "kubeadmConfigSpec": {
            "format": "ignition",
            "clusterConfiguration": {
                "apiServer": {"extraArgs": {"profiling": "false", "audit-log-mode": "batch"}, "timeoutForControlPlane": "4m0s"},
            },
            "joinConfiguration": {"nodeRegistration": {"kubeletExtraArgs": {"node-ip": "NODE_IP"}}},
        },
    });
    object(CONTROL_PLANE_OLD, "KubeadmControlPlane", name, spec)
}

/// A `KubeadmControlPlaneTemplate` whose clones have this spec.
pub fn control_plane_template(name: &str, spec: Value) -> Value {
    object(CONTROL_PLANE, "KubeadmControlPlaneTemplate", name, json!({"template": {"spec": spec}}))
}

/// A `DCSCluster`.
pub fn dcs_cluster(name: &str) -> Value {
    let spec = json!({
        "controlPlaneLoadBalancer": {"type": "external", "host": "10.0.0.100", "port": 6443},
        "controlPlaneEndpoint": {"host": "10.0.0.100", "port": 6443},
        "credentialSecretRef": {"name": "login"}, "networkType": "kube-ovn", "site": "5A1C0D3E",
    });
    object(DCS, "DCSCluster", name, spec)
}

/// The spec of a `DCSMachine`.
fn machine_spec() -> Value {
    json!({
        "vmTemplateName": "t", "ipHostPoolRef": {"name": "pool"},
        "vmConfig": {
            "dcsMachineCpuSpec": {"quantity": 4}, "dcsMachineMemorySpec": {"quantity": 8192},
            "dcsMachineDiskSpec": [
                {"quantity": 0, "systemVolume": true, "datastoreClusterName": "d"},
                {"quantity": 100, "datastoreClusterName": "d", "path": "/var/lib/kubelet", "format": "xfs"},
                {"quantity": 100, "datastoreClusterName": "d", "path": "/var/lib/containerd", "format": "xfs"},
            ],
        },
    })
}

/// A `DCSMachine`.
pub fn dcs_machine(name: &str) -> Value {
    object(DCS, "DCSMachine", name, machine_spec())
}

/// A `DCSMachineTemplate`.
pub fn dcs_machine_template(name: &str) -> Value {
    object(DCS, "DCSMachineTemplate", name, json!({"template": {"spec": machine_spec()}}))
}

/// A `DCSIpHostnamePool` with one entry, which has a disk.
pub fn dcs_pool(name: &str) -> Value {
    let disk = json!({"slot": 0, "quantityGB": 10, "datastoreName": "d", "path": "/var/cpaas", "format": "xfs"});
    let entry = json!({
        "ip": "10.0.0.7", "mask": "24", "gateway": "10.0.0.1", "dns": "10.0.0.2;10.0.0.3", "hostname": "n7",
        "machineName": "n7", "persistentDisk": [disk],
    });
    object(DCS, "DCSIpHostnamePool", name, json!({"pool": [entry]}))
}
