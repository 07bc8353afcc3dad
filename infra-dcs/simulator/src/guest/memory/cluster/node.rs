//! Node objects and mirror pods: what a kubelet tells the API server of its machine. Pure.

use std::net::IpAddr;

use aws_lc_rs::digest;
use serde_json::{Map, Value, json};

use super::{kubelet_settings::KubeletSettings, static_pod::Trouble};
use crate::guest::memory::kubeadm::version::Version;

/// The machine under a node.
#[derive(Clone, Debug)]
pub struct MachineFacts {
    /// Host name.
    pub hostname: String,
    /// Address on the default route.
    pub address: IpAddr,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Size of the system disk in bytes.
    pub disk_bytes: u64,
    /// kubelet's version.
    pub version: Version,
    /// A UUID that stays with the machine.
    pub machine_id: String,
    /// A UUID of this boot.
    pub boot_id: String,
}

/// Why a node is not ready, in kubelet's words.
pub const NO_NETWORK: &str = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
     message:Network plugin returns error: cni plugin not initialized";

/// A node as kubelet registers it.
pub fn object(settings: &KubeletSettings) -> Value {
    let mut labels: Map<String, Value> =
        settings.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    for (key, value) in [
        ("beta.kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/hostname", settings.node.as_str()),
    ] {
        labels.insert(key.to_owned(), value.into());
    }
    let mut spec = json!({});
    if !settings.provider_id.is_empty() {
        spec["providerID"] = settings.provider_id.as_str().into();
    }
    if !settings.taints.is_empty() {
        spec["taints"] = json!(settings.taints);
    }
    let mut annotations = json!({"volumes.kubernetes.io/controller-managed-attach-detach": "true"});
    if let Some(addresses) = provided_addresses(settings) {
        annotations["alpha.kubernetes.io/provided-node-ip"] = addresses.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": settings.node, "labels": labels, "annotations": annotations},
        "spec": spec,
    })
}

/// The addresses that kubelet names to its cloud provider: those that it was told to use.
fn provided_addresses(settings: &KubeletSettings) -> Option<String> {
    let given: Vec<String> =
        settings.node_ips.iter().filter(|address| !address.is_unspecified()).map(IpAddr::to_string).collect();
    (settings.has_cloud && !given.is_empty()).then(|| given.join(","))
}

/// The addresses that kubelet tells: without `--node-ip`, those of a cloud's machine are its provider's to tell.
fn addresses(settings: &KubeletSettings, machine: &MachineFacts) -> Value {
    let internal = |address: IpAddr| json!({"type": "InternalIP", "address": address.to_string()});
    let own = (!settings.has_cloud || !settings.node_ips.is_empty()).then(|| settings.address(machine.address));
    let second = settings.node_ips.get(1).copied();
    let mut all: Vec<Value> = own.into_iter().chain(second).map(internal).collect();
    all.push(json!({"type": "Hostname", "address": settings.node}));
    all.into()
}

/// The status that kubelet keeps, but for the conditions.
pub fn status(settings: &KubeletSettings, machine: &MachineFacts) -> Value {
    let memory = machine.memory_mb * 1024;
    let capacity = |memory: u64| {
        json!({
            "cpu": machine.cpus.to_string(),
            "memory": format!("{memory}Ki"),
            "ephemeral-storage": format!("{}Ki", machine.disk_bytes / 1024),
            "hugepages-1Gi": "0",
            "hugepages-2Mi": "0",
            "pods": settings.max_pods.to_string(),
        })
    };
    json!({
        "addresses": addresses(settings, machine),
        "capacity": capacity(memory),
        // kubelet keeps 100 MiB free before it evicts.
        "allocatable": capacity(memory.saturating_sub(100 * 1024)),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": settings.port}},
        "nodeInfo": {
            "architecture": "amd64",
            "bootID": machine.boot_id,
            "containerRuntimeVersion": "containerd://2.2.9",
            "kernelVersion": "0.0.0-memory",
            "kubeProxyVersion": "",
            "kubeletVersion": format!("v{}", machine.version),
            "machineID": machine.machine_id.replace('-', ""),
            "operatingSystem": "linux",
            "osImage": "Memory guest",
            "systemUUID": machine.machine_id,
        },
    })
}

/// The conditions of a node whose kubelet is alive. `since` is when each took its state.
pub fn conditions(network: Result<(), &str>, now: &str, previous: Option<&Value>) -> Value {
    let pressure = [
        ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ];
    let mut all: Vec<(&str, &str, &str, &str)> =
        pressure.map(|(kind, reason, message)| (kind, "False", reason, message)).to_vec();
    all.push(match network {
        Ok(()) => ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        Err(why) => ("Ready", "False", "KubeletNotReady", why),
    });
    all.into_iter()
        .map(|(kind, status, reason, message)| condition(kind, status, reason, message, now, previous))
        .collect()
}

/// The conditions of a node that nothing is heard of, as the node controller writes them.
pub fn unknown(now: &str, previous: Option<&Value>) -> Value {
    let message = "Kubelet stopped posting node status.";
    ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
        .into_iter()
        .map(|kind| {
            let mut condition = condition(kind, "Unknown", "NodeStatusUnknown", message, now, previous);
            // The node controller has heard nothing: the last word stays.
            if let Some(known) = find(previous, kind) {
                condition["lastHeartbeatTime"] = known["lastHeartbeatTime"].clone();
            }
            condition
        })
        .collect()
}

fn find<'a>(conditions: Option<&'a Value>, kind: &str) -> Option<&'a Value> {
    conditions?.as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: &str, previous: Option<&Value>) -> Value {
    let same = find(previous, kind).filter(|known| known["status"] == status);
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": same.map_or_else(|| now.into(), |known| known["lastTransitionTime"].clone()),
    })
}

/// Status of a condition of a node.
pub fn condition_status<'a>(node: &'a Value, kind: &str) -> &'a str {
    find(node.pointer("/status/conditions"), kind)
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or_default()
}

/// Hash of a static pod's manifest, as kubelet names it in annotations.
pub fn manifest_hash(manifest: &Value) -> String {
    let hash = digest::digest(&digest::SHA256, manifest.to_string().as_bytes());
    hex::encode(&hash.as_ref()[..16])
}

/// The mirror of a static pod in the API.
pub fn mirror(manifest: &Value, node: &Value, now: &str) -> Value {
    let mut pod = manifest.clone();
    let hash = manifest_hash(manifest);
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    if let Some(fields) = pod.as_object_mut() {
        fields.remove("status");
    }
    pod["metadata"]["name"] = format!("{}-{name}", manifest["metadata"]["name"].as_str().unwrap_or_default()).into();
    for (key, value) in [
        ("kubernetes.io/config.hash", hash.as_str()),
        ("kubernetes.io/config.mirror", &hash),
        ("kubernetes.io/config.seen", now),
        ("kubernetes.io/config.source", "file"),
    ] {
        pod["metadata"]["annotations"][key] = value.into();
    }
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"], "controller": true,
    }]);
    pod["spec"]["nodeName"] = name.into();
    pod["spec"]["tolerations"] = json!([{"effect": "NoExecute", "operator": "Exists"}]);
    pod
}

/// Status of a pod on a node: running, or kept from it.
pub fn pod_status(pod: &Value, trouble: Option<&Trouble>, host: &str, address: &str, started: &str) -> Value {
    let ready = if trouble.is_none() { "True" } else { "False" };
    // Mirrors of static pods have no generation.
    let generation = pod["metadata"]["generation"].as_u64();
    let generation = generation.filter(|_| pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null());
    let condition = |kind: &str, status: &str| {
        let mut condition =
            json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": started});
        if let Some(generation) = generation {
            condition["observedGeneration"] = generation.into();
        }
        if status == "False" {
            condition["reason"] = "ContainersNotReady".into();
            condition["message"] = "containers with unready status".into();
        }
        condition
    };
    let running = json!({"running": {"startedAt": started}});
    let state = match trouble {
        None => running.clone(),
        Some(trouble) => json!({"waiting": {"reason": trouble.reason, "message": trouble.message}}),
    };
    let containers = |list: &str| pod["spec"][list].as_array().cloned().unwrap_or_default();
    let statuses: Vec<Value> = containers("containers")
        .iter()
        .map(|container| container_status(pod, container, started, state.clone(), trouble.is_none()))
        .collect();
    // Nothing runs in them: those that are to end have ended, the others go on beside the pod's containers.
    let initial: Vec<Value> = containers("initContainers")
        .iter()
        .map(|container| {
            let goes_on = container["restartPolicy"] == "Always";
            let state = match trouble {
                Some(_) => state.clone(),
                None if goes_on => running.clone(),
                None => json!({"terminated": {
                    "exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": started,
                }}),
            };
            let mut status = container_status(pod, container, started, state, trouble.is_none());
            status["started"] = (trouble.is_none() && goes_on).into();
            status
        })
        .collect();
    let mut status = json!({
        "phase": if trouble.is_none() { "Running" } else { "Pending" },
        "conditions": [
            condition("PodReadyToStartContainers", "True"),
            condition("Initialized", "True"),
            condition("Ready", ready),
            condition("ContainersReady", ready),
            condition("PodScheduled", "True"),
        ],
        "containerStatuses": statuses,
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": started,
    });
    if let Some(generation) = generation {
        status["observedGeneration"] = generation.into();
    }
    // What several containers have in sum is not said.
    if let [only] = pod["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice) {
        status["resources"] = only["resources"].clone();
        if only["resources"]["requests"].is_object() {
            status["allocatedResources"] = only["resources"]["requests"].clone();
        }
    }
    if !initial.is_empty() {
        status["initContainerStatuses"] = initial.into();
    }
    status
}

fn container_status(pod: &Value, container: &Value, started: &str, state: Value, is_ready: bool) -> Value {
    let hex = |text: &str| hex::encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let identity = format!("{}{}{started}", pod["metadata"]["uid"], container["name"]);
    let image = container["image"].as_str().unwrap_or_default();
    let resources = match &container["resources"] {
        Value::Null => json!({}),
        resources => resources.clone(),
    };
    let mut status = json!({
        "name": container["name"],
        "image": image,
        "imageID": format!("{}@sha256:{}", repository(image), hex(image)),
        "containerID": format!("containerd://{}", hex(&identity)),
        "ready": is_ready,
        "started": is_ready,
        "restartCount": 0,
        "lastState": {},
        "state": state,
        "resources": resources,
        "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
    });
    if container["resources"]["requests"].is_object() {
        status["allocatedResources"] = container["resources"]["requests"].clone();
    }
    let mounts: Vec<Value> = container["volumeMounts"].as_array().into_iter().flatten().map(mount_status).collect();
    if !mounts.is_empty() {
        status["volumeMounts"] = mounts.into();
    }
    status
}

/// An image's name without its tag.
fn repository(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or_default();
    let tag = name.split_once([':', '@']).map_or(0, |(before, _)| name.len() - before.len());
    &image[..image.len() - tag]
}

fn mount_status(mount: &Value) -> Value {
    let mut status = json!({"name": mount["name"], "mountPath": mount["mountPath"]});
    if mount["readOnly"] == true {
        status["readOnly"] = true.into();
        status["recursiveReadOnly"] = "Disabled".into();
    }
    status
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn conditions_keep_the_time_of_their_last_change() {
        let first = conditions(Err(NO_NETWORK), "t1", None);
        let ready = conditions(Ok(()), "t2", Some(&first));
        let later = conditions(Ok(()), "t3", Some(&ready));
        let of = |all: &Value, kind: &str| find(Some(all), kind).unwrap().clone();
        assert_eq!(of(&later, "Ready")["lastTransitionTime"], "t2");
        assert_eq!(of(&later, "DiskPressure")["lastTransitionTime"], "t1");
        assert_eq!(of(&later, "Ready")["lastHeartbeatTime"], "t3");
        let lost = unknown("t4", Some(&later));
        assert_eq!(
            (of(&lost, "Ready")["status"].as_str(), of(&lost, "Ready")["lastHeartbeatTime"].as_str()),
            (Some("Unknown"), Some("t3"))
        );
        assert_eq!(condition_status(&json!({"status": {"conditions": lost}}), "Ready"), "Unknown");
    }

    #[test]
    fn images_are_known_by_their_repository() {
        for (image, wanted) in [("web", "web"), ("host:5000/a/web:1.0", "host:5000/a/web"), ("a/web@sha256:0", "a/web")]
        {
            assert_eq!(repository(image), wanted);
        }
    }
}
