//! kubelet's files as kubeadm writes them.

use serde_json::{Value, json};

use super::{
    config::types::{ClusterConfiguration, NodeRegistration},
    files::Files,
    manifests::{self, patches},
    pki::certificates::service_address,
};

/// kubelet's directory.
pub const DIRECTORY: &str = "/var/lib/kubelet";
/// kubelet's configuration.
pub const CONFIGURATION: &str = "/var/lib/kubelet/config.yaml";
/// Flags that kubeadm gives kubelet.
pub const FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
/// The variable in [`FLAGS`].
pub const VARIABLE: &str = "KUBELET_KUBEADM_ARGS";

/// Completes a `KubeletConfiguration` as kubeadm does before it stores it in the cluster.
pub fn complete(given: Option<Value>, cluster: &ClusterConfiguration) -> Value {
    let mut configuration = given.unwrap_or_else(|| json!({}));
    let dns = service_address(cluster, 10).map_or_else(|_| "10.96.0.10".to_owned(), |address| address.to_string());
    let zero = "0s";
    let defaults = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"cacheTTL": zero, "enabled": true},
            "x509": {"clientCAFile": format!("{}/ca.crt", cluster.certificates_dir)},
        },
        "authorization": {"mode": "Webhook", "webhook": {"cacheAuthorizedTTL": zero, "cacheUnauthorizedTTL": zero}},
        "cgroupDriver": "systemd",
        "clusterDNS": [dns],
        "clusterDomain": cluster.networking.dns_domain,
        "containerRuntimeEndpoint": "",
        "cpuManagerReconcilePeriod": zero,
        "evictionPressureTransitionPeriod": zero,
        "fileCheckFrequency": zero,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "httpCheckFrequency": zero,
        "imageMaximumGCAge": zero,
        "imageMinimumGCAge": zero,
        "crashLoopBackOff": {},
        "logging": no_logging(),
        "memorySwap": {},
        "nodeStatusReportFrequency": zero,
        "nodeStatusUpdateFrequency": zero,
        "rotateCertificates": true,
        "runtimeRequestTimeout": zero,
        "shutdownGracePeriod": zero,
        "shutdownGracePeriodCriticalPods": zero,
        "staticPodPath": manifests::DIRECTORY,
        "streamingConnectionIdleTimeout": zero,
        "syncFrequency": zero,
        "volumeStatsAggPeriod": zero,
    });
    fill(&mut configuration, &defaults);
    configuration["rotateCertificates"] = true.into();
    configuration
}

/// How components log that were told nothing of it.
pub fn no_logging() -> Value {
    let buffer = || json!({"infoBufferSize": "0"});
    json!({"flushFrequency": 0, "options": {"json": buffer(), "text": buffer()}, "verbosity": 0})
}

/// Puts what is missing.
fn fill(object: &mut Value, defaults: &Value) {
    let (Value::Object(fields), Value::Object(defaults)) = (object, defaults) else { return };
    for (name, default) in defaults {
        match fields.get_mut(name) {
            Some(present) => fill(present, default),
            None => {
                fields.insert(name.clone(), default.clone());
            }
        }
    }
}

/// What kubelet's files are made of.
pub struct Request<'a> {
    /// The cluster's configuration for kubelets.
    pub configuration: &'a Value,
    /// The node.
    pub registration: &'a NodeRegistration,
    /// The machine's host name.
    pub hostname: &'a str,
    /// Directory of patches.
    pub patches: Option<&'a str>,
    /// Whether kubelet registers the taints: control plane nodes get theirs later.
    pub registers_taints: bool,
}

/// Writes flags and configuration.
pub fn write(files: &mut dyn Files, request: &Request<'_>, print: &mut dyn FnMut(String)) -> Result<(), String> {
    let node = request.registration;
    let mut base = vec![("container-runtime-endpoint".to_owned(), node.cri_socket.clone())];
    let taints = node.taints.as_deref().unwrap_or_default();
    if request.registers_taints && !taints.is_empty() {
        let taints: Vec<String> = taints.iter().map(super::config::types::Taint::flag).collect();
        base.push(("register-with-taints".to_owned(), taints.join(",")));
    }
    if node_name(node) != request.hostname {
        base.push(("hostname-override".to_owned(), node_name(node).to_owned()));
    }
    let flags = manifests::command(base, &node.kubelet_extra_args).join(" ");
    print(format!("[kubelet-start] Writing kubelet environment file with flags to file {FLAGS:?}"));
    files.write(FLAGS, 0o644, format!("{VARIABLE}={flags:?}\n").as_bytes());
    let configuration = patches::apply(
        files,
        request.patches,
        "kubeletconfiguration",
        request.configuration.clone(),
        print,
    )
    .map_err(|why| {
        format!(
            "error writing kubelet configuration to disk: could not apply patches to the KubeletConfiguration: {why}"
        )
    })?;
    print(format!("[kubelet-start] Writing kubelet configuration to file {CONFIGURATION:?}"));
    files.write(CONFIGURATION, 0o644, patches::kubelet_file(&configuration)?.as_bytes());
    Ok(())
}

/// The name under which kubelet registers.
pub fn node_name(node: &NodeRegistration) -> &str {
    manifests::argument(&node.kubelet_extra_args, "hostname-override").unwrap_or(&node.name)
}
