//! `kubeadm init`.

use serde_json::{Value, json};

use super::{
    Retry,
    client::{Client, ClientError},
    command::{self, Options},
    config::{
        self, Init,
        types::{ClusterConfiguration, NodeRegistration, Taint, Timeouts},
    },
    files::Files,
    host::Host,
    kubeconfig::{self, Kubeconfig, endpoint_url},
    kubelet, manifests,
    manifests::patches,
    objects::{self, Placed},
    phases::{Phases, failed},
    pki::certificates,
    preflight,
};

type Print<'a> = &'a mut (dyn FnMut(String) + Send);

/// Runs all phases.
pub async fn run(options: &Options, host: &dyn Host, files: &mut dyn Files, print: Print<'_>) -> Result<(), String> {
    let path = options.config.as_deref().ok_or("memory guests play kubeadm with --config only")?;
    let token = command::fresh_token();
    let text = command::config_file(files, path)?;
    let mut given = config::read_init(&text, &command::defaults(host, &token)).map_err(|error| error.to_string())?;
    given.warnings.iter().for_each(|warning| print(format!("W {warning}")));
    if given.cluster.etcd.external.is_some() {
        return Err("etcd.external: memory guests have no external etcd; leave it to stacked members".into());
    }
    if let Some(name) = &options.node_name {
        given.node.node_registration.name.clone_from(name);
    }
    given.node.node_registration.ignore_preflight_errors.extend(options.ignored.iter().cloned());
    let mut skipped = if options.skipped.is_empty() { given.node.skip_phases.clone() } else { options.skipped.clone() };
    if given.cluster.dns.disabled {
        skipped.push("addon/coredns".into());
    }
    if given.cluster.proxy.disabled {
        skipped.push("addon/kube-proxy".into());
    }
    print(format!("[init] Using Kubernetes version: {}", given.cluster.kubernetes_version));
    let has_own_kubelet = given.kubelet.is_some();
    let configuration = kubelet::complete(given.kubelet.take(), &given.cluster);
    let run = Run { host, given: &given, kubelet: configuration, has_own_kubelet, phases: Phases::without(skipped) };
    run.before(files, print)?;
    run.start(files, print).await?;
    run.upload(files, print).await?;
    print(String::new());
    print("Your Kubernetes control-plane has initialized successfully!".to_owned());
    Ok(())
}

struct Run<'a> {
    host: &'a dyn Host,
    given: &'a Init,
    kubelet: Value,
    /// Whether the documents say something of kubelets.
    has_own_kubelet: bool,
    phases: Phases,
}

impl Run<'_> {
    fn cluster(&self) -> &ClusterConfiguration {
        &self.given.cluster
    }

    fn registration(&self) -> &NodeRegistration {
        &self.given.node.node_registration
    }

    fn patches(&self) -> Option<&str> {
        self.given.node.patches.as_ref().map(|patches| patches.directory.as_str())
    }

    fn timeouts(&self) -> &Timeouts {
        &self.given.node.timeouts
    }

    /// Everything up to the files: preflight, certs, kubeconfig, etcd, control-plane.
    fn before(&self, files: &mut dyn Files, print: Print<'_>) -> Result<(), String> {
        let (host, cluster, node) = (self.host, self.cluster(), &self.given.node);
        let ignored = &self.registration().ignore_preflight_errors;
        if self.phases.runs("preflight") {
            print("[preflight] Running pre-flight checks".to_owned());
            preflight::control_plane(host, files, cluster, &node.local_api_endpoint, false, ignored, print)
                .and_then(|()| {
                    print("[preflight] Pulling images required for setting up a Kubernetes cluster".to_owned());
                    preflight::pull(host, cluster, &self.registration().image_pull_policy, ignored, print)
                })
                .map_err(|why| failed("preflight", why))?;
        }
        if self.phases.runs("certs") {
            let request = certificates::Request {
                cluster,
                node: &self.registration().name,
                endpoint: &node.local_api_endpoint,
                now: host.now(),
                keys: host.keys(),
            };
            certificates::run(files, &request, print).map_err(|(step, why)| failed(&format!("certs/{step}"), why))?;
        }
        if self.phases.runs("kubeconfig") {
            let request = kubeconfig::Request {
                cluster,
                node: &self.registration().name,
                endpoint: &node.local_api_endpoint,
                now: host.now(),
                keys: host.keys(),
                joins: false,
            };
            kubeconfig::run(files, &request, print)
                .map_err(|(step, why)| failed(&format!("kubeconfig/{step}"), why))?;
        }
        let seconds = self.timeouts().control_plane().as_secs();
        if self.phases.runs("etcd") && self.phases.runs("etcd/local") {
            print(format!("[etcd] Creating static Pod manifest for local etcd in {:?}", manifests::DIRECTORY));
            let pod = manifests::etcd(cluster, &node.local_api_endpoint, &self.registration().name, &[], seconds);
            write_manifest(files, self.patches(), "etcd", pod, print).map_err(|why| failed("etcd/local", why))?;
            let directory = cluster.etcd.local.as_ref().map(|etcd| etcd.data_dir.clone()).unwrap_or_default();
            files.make_directory(&directory);
        }
        if self.phases.runs("control-plane") {
            print(format!("[control-plane] Using manifest folder {:?}", manifests::DIRECTORY));
            for component in manifests::COMPONENTS {
                let step = component.trim_start_matches("kube-");
                if !self.phases.runs(&format!("control-plane/{step}")) {
                    continue;
                }
                print(format!("[control-plane] Creating static Pod manifest for {component:?}"));
                let pod = manifests::component(cluster, &node.local_api_endpoint, files, component, seconds);
                write_manifest(files, self.patches(), component, pod, print)
                    .map_err(|why| failed(&format!("control-plane/{step}"), why))?;
            }
        }
        Ok(())
    }

    /// kubelet and what it runs.
    async fn start(&self, files: &mut dyn Files, print: Print<'_>) -> Result<(), String> {
        let host = self.host;
        if self.phases.runs("kubelet-start") {
            let request = kubelet::Request {
                configuration: &self.kubelet,
                registration: self.registration(),
                hostname: &host.facts().hostname,
                patches: self.patches(),
                registers_taints: false,
            };
            kubelet::write(files, &request, print).map_err(|why| failed("kubelet-start", why))?;
            print("[kubelet-start] Starting the kubelet".to_owned());
            host.restart_kubelet(files);
        }
        if self.phases.runs("wait-control-plane") {
            let directory = manifests::DIRECTORY;
            print(format!(
                "[wait-control-plane] Waiting for the kubelet to boot up the control plane as static Pods from directory \
                 {directory:?}"
            ));
            wait_for_kubelet(host, self.timeouts(), print).await.map_err(|why| failed("wait-control-plane", why))?;
            wait_for_components(host, files, &self.given.node.local_api_endpoint.to_string(), self.timeouts(), print)
                .await
                .map_err(|why| failed("wait-control-plane", why))?;
        }
        Ok(())
    }

    /// What goes into the cluster.
    async fn upload(&self, files: &mut dyn Files, print: Print<'_>) -> Result<(), String> {
        let (host, cluster) = (self.host, self.cluster());
        let load = |name: &str| Kubeconfig::read(files, &format!("/etc/kubernetes/{name}"));
        let admin = load("admin.conf").map_err(|why| failed("upload-config/kubeadm", why))?;
        let server = admin.server.clone();
        let version = &host.facts().version;
        if self.phases.runs("upload-config") || self.phases.runs("kubeconfig") {
            // The administrators' group gets its rights from the one identity that needs none.
            let super_admin = load("super-admin.conf").unwrap_or_else(|_| admin.clone());
            let mut client =
                Client::new(host, &super_admin, false).map_err(|why| failed("upload-config/kubeadm", why))?;
            self.put(&mut client, "upload-config/kubeadm", &[objects::administrators()]).await.map_err(|why| {
                failed("upload-config/kubeadm", format!("could not bootstrap the admin user in file admin.conf: unable to create ClusterRoleBinding: {why}"))
            })?;
        }
        let mut client = Client::new(host, &admin, false).map_err(|why| failed("upload-config/kubeadm", why))?;
        if self.phases.runs("upload-config/kubeadm") {
            print("[upload-config] Storing the configuration used in ConfigMap \"kubeadm-config\" in the \"kube-system\" Namespace".to_owned());
            self.phase(&mut client, "upload-config/kubeadm", objects::kubeadm_config(cluster, version)).await?;
        }
        if self.phases.runs("upload-config/kubelet") {
            print("[kubelet] Creating a ConfigMap \"kubelet-config\" in namespace kube-system with the configuration for the kubelets in the cluster".to_owned());
            let objects = objects::kubelet_config(&self.kubelet, self.has_own_kubelet);
            self.phase(&mut client, "upload-config/kubelet", objects).await?;
        }
        let node = kubelet::node_name(self.registration());
        if self.phases.runs("upload-config/kubelet") {
            annotate(host, &mut client, node, &self.registration().cri_socket, self.timeouts()).await.map_err(
                |why| {
                    failed(
                        "upload-config/kubelet",
                        format!("error writing Crisocket information for the control-plane node: {why}"),
                    )
                },
            )?;
        }
        if self.phases.runs("mark-control-plane") {
            let taints = self.registration().taints.clone().unwrap_or_default();
            mark(host, &mut client, node, &taints, self.timeouts(), print)
                .await
                .map_err(|why| failed("mark-control-plane", why))?;
        }
        if self.phases.runs("bootstrap-token") {
            print("[bootstrap-token] Configuring bootstrap tokens, cluster-info ConfigMap, RBAC Roles".to_owned());
            let list = &self.given.node.bootstrap_tokens;
            let made = objects::bootstrap(list, &server, &admin.authority, host.now());
            self.phase(&mut client, "bootstrap-token", made).await?;
        }
        if self.phases.runs("kubelet-finalize") {
            finalize_kubelet(files);
        }
        for (phase, name, made) in [
            ("addon/coredns", "CoreDNS", objects::core_dns(cluster, version)),
            (
                "addon/kube-proxy",
                "kube-proxy",
                objects::kube_proxy(
                    cluster,
                    &endpoint_url(cluster, &self.given.node.local_api_endpoint),
                    self.given.kube_proxy.as_ref(),
                ),
            ),
        ] {
            if self.phases.runs(phase) {
                self.phase(&mut client, phase, made).await?;
                print(format!("[addons] Applied essential addon: {name}"));
            }
        }
        Ok(())
    }

    async fn phase(
        &self,
        client: &mut Client<'_>,
        phase: &str,
        objects: Result<Vec<Placed>, String>,
    ) -> Result<(), String> {
        let objects = objects.map_err(|why| failed(phase, why))?;
        self.put(client, phase, &objects).await.map_err(|why| failed(phase, why))
    }

    async fn put(&self, client: &mut Client<'_>, phase: &str, objects: &[Placed]) -> Result<(), String> {
        let timeout = self.host.facts().limit(self.timeouts().api_call());
        for Placed { collection, object } in objects {
            let mut retry = Retry::new(self.host, timeout);
            loop {
                let Err(error) = client.create_or_update(collection, object).await else { break };
                if !error.is_passing() || !retry.again().await {
                    return Err(format!("{phase}: {}: {error}", object["kind"].as_str().unwrap_or_default()));
                }
            }
        }
        Ok(())
    }
}

/// Patches a static pod and writes it.
pub fn write_manifest(
    files: &mut dyn Files,
    patches: Option<&str>,
    component: &str,
    pod: Value,
    print: &mut dyn FnMut(String),
) -> Result<(), String> {
    let pod = patches::apply(files, patches, component, pod, print)
        .map_err(|why| format!("failed to patch static Pod manifest file for {component:?}: {why}"))?;
    let text = config::yaml(&pod).map_err(|error| error.to_string())?;
    files.write(&manifests::path(component), 0o600, text.as_bytes());
    Ok(())
}

/// Waits until kubelet answers.
pub async fn wait_for_kubelet(host: &dyn Host, timeouts: &Timeouts, print: Print<'_>) -> Result<(), String> {
    let limit = timeouts.kubelet();
    print(format!(
        "[kubelet-check] Waiting for a healthy kubelet at http://127.0.0.1:10248/healthz. This can take up to {}",
        config::duration::format(limit)
    ));
    let mut retry = Retry::new(host, host.facts().limit(limit));
    let last = loop {
        match host.kubelet_health() {
            Ok(()) => {
                print("[kubelet-check] The kubelet is healthy".to_owned());
                return Ok(());
            }
            Err(why) if !retry.again().await => break why,
            Err(_) => {}
        }
    };
    print("[kubelet-check] The kubelet is not healthy after the time given".to_owned());
    print("Unfortunately, an error has occurred, likely caused by:".to_owned());
    print("\t- The kubelet is not running".to_owned());
    print(format!("kubelet: {last}"));
    Err("failed while waiting for the kubelet to start: The HTTP call equal to 'curl -sSL http://127.0.0.1:10248/healthz' \
         returned error: Get \"http://127.0.0.1:10248/healthz\": dial tcp 127.0.0.1:10248: connect: connection refused"
        .into())
}

/// Waits until API server, controller manager and scheduler of this machine answer.
pub async fn wait_for_components(
    host: &dyn Host,
    files: &dyn Files,
    endpoint: &str,
    timeouts: &Timeouts,
    print: Print<'_>,
) -> Result<(), String> {
    let wrong = |why: String| format!("failed while waiting for the control plane to start: {why}");
    let limit = timeouts.control_plane();
    print(format!(
        "[control-plane-check] Waiting for healthy control plane components. This can take up to {}",
        config::duration::format(limit)
    ));
    let mut local = Kubeconfig::read(files, "/etc/kubernetes/admin.conf").map_err(wrong)?;
    local.server = format!("https://{endpoint}");
    let mut client = Client::new(host, &local, false).map_err(wrong)?;
    let mut errors = Vec::new();
    for component in manifests::COMPONENTS {
        let limit = if errors.is_empty() { host.facts().limit(limit) } else { std::time::Duration::ZERO };
        let mut retry = Retry::new(host, limit);
        loop {
            let state = match host.component_health(component) {
                // The API server has a port that all can reach; its certificate is looked at too.
                Ok(()) if component == "kube-apiserver" => client.get("/livez").await.map(drop).or_else(refused),
                other => other,
            };
            match state {
                Ok(()) => {
                    print(format!("[control-plane-check] {component} is healthy"));
                    break;
                }
                Err(why) if !retry.again().await => {
                    print(format!("[control-plane-check] {component} is not healthy after the time given"));
                    errors.push(format!("{component} check failed: {why}"));
                    break;
                }
                Err(_) => {}
            }
        }
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(wrong(one.clone())),
        all => Err(wrong(format!("[{}]", all.join(", ")))),
    }
}

/// A health check that is answered with a refusal of this identity is answered.
fn refused(error: ClientError) -> Result<(), String> {
    match error {
        ClientError::Status { code: 401 | 403, .. } => Ok(()),
        other => Err(other.to_string()),
    }
}

/// Notes the container runtime's socket on the node, as soon as kubelet has registered it.
pub async fn annotate(
    host: &dyn Host,
    client: &mut Client<'_>,
    node: &str,
    socket: &str,
    timeouts: &Timeouts,
) -> Result<(), String> {
    let patch = json!({"metadata": {"annotations": {"kubeadm.alpha.kubernetes.io/cri-socket": socket}}});
    patch_node(host, client, node, timeouts, &|_| patch.clone()).await
}

/// Labels and taints a node as one of the control plane.
pub async fn mark(
    host: &dyn Host,
    client: &mut Client<'_>,
    node: &str,
    taints: &[Taint],
    timeouts: &Timeouts,
    print: Print<'_>,
) -> Result<(), String> {
    let labels = ["node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers"];
    print(format!(
        "[mark-control-plane] Marking the node {node} as control-plane by adding the labels: [{}]",
        labels.join(" ")
    ));
    if !taints.is_empty() {
        let flags: Vec<String> = taints.iter().map(Taint::flag).collect();
        print(format!(
            "[mark-control-plane] Marking the node {node} as control-plane by adding the taints [{}]",
            flags.join(" ")
        ));
    }
    patch_node(host, client, node, timeouts, &|present: &Value| {
        let mut all = json!(taints);
        if let (Some(all), Some(present)) = (all.as_array_mut(), present["spec"]["taints"].as_array()) {
            for taint in present {
                if !all.iter().any(|known| known["key"] == taint["key"] && known["effect"] == taint["effect"]) {
                    all.push(taint.clone());
                }
            }
        }
        json!({
            "metadata": {"labels": {labels[0]: "", labels[1]: ""}},
            "spec": {"taints": all},
        })
    })
    .await
}

async fn patch_node(
    host: &dyn Host,
    client: &mut Client<'_>,
    node: &str,
    timeouts: &Timeouts,
    patch: &(dyn Fn(&Value) -> Value + Sync),
) -> Result<(), String> {
    let path = format!("/api/v1/nodes/{node}");
    let mut retry = Retry::new(host, host.facts().limit(timeouts.api_call()));
    loop {
        let changed = match client.get(&path).await {
            Ok(present) => client.patch(&path, &patch(&present)).await,
            Err(error) => Err(error),
        };
        match changed {
            Ok(_) => return Ok(()),
            Err(error) if !retry.again().await => return Err(format!("error patching Node {node:?}: {error}")),
            Err(_) => {}
        }
    }
}

/// Lets kubelet's kubeconfig name the file that kubelet rotates.
fn finalize_kubelet(files: &mut dyn Files) {
    const ROTATED: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    let path = "/etc/kubernetes/kubelet.conf";
    let Ok(present) = Kubeconfig::read(files, path) else { return };
    let kubeconfig::Identity::Certificate { certificate, key } = &present.identity else { return };
    files.write(ROTATED, 0o600, &[certificate.as_slice(), key.as_slice()].concat());
    let Some(Ok(mut document)) = files.text(path).map(|text| config::from_yaml(&text)) else { return };
    document["users"][0]["user"] = json!({"client-certificate": ROTATED, "client-key": ROTATED});
    if let Ok(text) = config::yaml(&document) {
        files.write(path, 0o600, text.as_bytes());
    }
}
