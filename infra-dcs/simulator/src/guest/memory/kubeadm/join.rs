//! `kubeadm join`: of a worker, or of another machine of the control plane.

use serde_json::Value;

use super::{
    Retry,
    client::Client,
    command::{self, Options},
    config::{
        self, Join,
        types::{ClusterConfiguration, JoinControlPlane, NodeRegistration, Timeouts},
    },
    discovery::discover,
    files::Files,
    host::{EtcdClient, Host, Member},
    init::{annotate, mark, wait_for_components, wait_for_kubelet, write_manifest},
    kubeconfig::{self, Kubeconfig},
    kubelet, manifests,
    phases::{Phases, failed},
    pki::certificates,
    preflight,
};

type Print<'a> = &'a mut (dyn FnMut(String) + Send);

/// kubelet's kubeconfig while it asks for a certificate.
pub const BOOTSTRAP_KUBECONFIG: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
/// kubelet's kubeconfig.
pub const KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
const SYSTEM_MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";

/// Runs all phases.
pub async fn run(options: &Options, host: &dyn Host, files: &mut dyn Files, print: Print<'_>) -> Result<(), String> {
    let path = options.config.as_deref().ok_or("memory guests play kubeadm with --config only")?;
    let text = command::config_file(files, path)?;
    let mut given = config::read_join(&text, &command::defaults(host, "")).map_err(|error| error.to_string())?;
    given.warnings.iter().for_each(|warning| print(format!("W {warning}")));
    if let Some(name) = &options.node_name {
        given.node.node_registration.name.clone_from(name);
    }
    given.node.node_registration.ignore_preflight_errors.extend(options.ignored.iter().cloned());
    let skipped = if options.skipped.is_empty() { given.node.skip_phases.clone() } else { options.skipped.clone() };
    let phases = Phases::without(skipped);

    if phases.runs("preflight") {
        print("[preflight] Running pre-flight checks".to_owned());
        let ignored = &given.node.node_registration.ignore_preflight_errors;
        preflight::join(host, files, &given.node, ignored, print).map_err(|why| failed("preflight", why))?;
    }
    let known = Known::find(host, files, &given, print).await.map_err(|why| failed("preflight", why))?;
    let run = Run { host, given: &given, known: &known, phases };
    if let Some(control_plane) = &given.node.control_plane {
        run.prepare(files, control_plane, print)?;
        run.check_etcd(files, print).await?;
    }
    run.start_kubelet(files, print).await?;
    match &given.node.control_plane {
        Some(control_plane) => {
            run.join_etcd(files, control_plane, print).await?;
            run.join_control_plane(files, control_plane, print).await?;
            print("This node has joined the cluster and a new control plane instance was created".to_owned());
        }
        None => print("This node has joined the cluster".to_owned()),
    }
    Ok(())
}

/// What is known of the cluster after discovery.
struct Known {
    kubeconfig: Kubeconfig,
    cluster: ClusterConfiguration,
    kubelet: Value,
}

impl Known {
    async fn find(host: &dyn Host, files: &dyn Files, given: &Join, print: Print<'_>) -> Result<Self, String> {
        let timeouts = &given.node.timeouts;
        let kubeconfig = discover(host, files, &given.node.discovery, host.facts().limit(timeouts.discovery())).await?;
        print(
            "[preflight] Reading configuration from the \"kubeadm-config\" ConfigMap in namespace \"kube-system\"..."
                .to_owned(),
        );
        let mut client = Client::new(host, &kubeconfig, kubeconfig.authority.is_empty())
            .map_err(|why| format!("unable to access the cluster: {why}"))?;
        let limit = host.facts().limit(timeouts.api_call());
        let wrong = |why: String| format!("unable to fetch the kubeadm-config ConfigMap: {why}");
        let stored = system_map(host, &mut client, "kubeadm-config", limit)
            .await
            .map_err(|why| wrong(format!("failed to get config map: {why}")))?;
        let text = stored["data"]["ClusterConfiguration"].as_str().unwrap_or_default();
        let cluster = config::read_stored_cluster(text, &command::defaults(host, ""));
        let cluster =
            cluster.map_err(|error| wrong(format!("failed to decode cluster configuration data: {error}")))?;
        let stored = system_map(host, &mut client, "kubelet-config", limit).await.map_err(|why| {
            wrong(format!("failed to get component configs: could not download the kubelet configuration from ConfigMap \"kubelet-config\": {why}"))
        })?;
        let kubelet = config::from_yaml(stored["data"]["kubelet"].as_str().unwrap_or_default());
        let kubelet = kubelet.map_err(|error| wrong(format!("failed to get component configs: {error}")))?;
        Ok(Self { kubeconfig, cluster, kubelet })
    }
}

struct Run<'a> {
    host: &'a dyn Host,
    given: &'a Join,
    known: &'a Known,
    phases: Phases,
}

impl Run<'_> {
    fn registration(&self) -> &NodeRegistration {
        &self.given.node.node_registration
    }

    fn timeouts(&self) -> &Timeouts {
        &self.given.node.timeouts
    }

    fn patches(&self) -> Option<&str> {
        self.given.node.patches.as_ref().map(|patches| patches.directory.as_str())
    }

    /// What a machine of the control plane needs before its kubelet starts.
    fn prepare(&self, files: &mut dyn Files, control_plane: &JoinControlPlane, print: Print<'_>) -> Result<(), String> {
        let (host, cluster) = (self.host, &self.known.cluster);
        let endpoint = &control_plane.local_api_endpoint;
        let certificates = certificates::Request {
            cluster,
            node: &self.registration().name,
            endpoint,
            now: host.now(),
            keys: host.keys(),
        };
        if self.phases.runs("preflight") {
            if cluster.control_plane_endpoint.is_empty() {
                return Err(failed(
                    "preflight",
                    not_ready(
                        "unable to add a new control plane instance to a cluster that doesn't have a stable \
                     controlPlaneEndpoint address",
                    ),
                ));
            }
            certificates::shared(files, &certificates, print).map_err(|why| failed("preflight", not_ready(&why)))?;
            print(
                "[preflight] Running pre-flight checks before initializing the new control plane instance".to_owned(),
            );
            let ignored = &self.registration().ignore_preflight_errors;
            preflight::control_plane(host, files, cluster, endpoint, true, ignored, print)
                .and_then(|()| preflight::pull(host, cluster, &self.registration().image_pull_policy, ignored, print))
                .map_err(|why| failed("preflight", why))?;
        }
        if self.phases.runs("control-plane-prepare/certs") {
            certificates::run(files, &certificates, print)
                .map_err(|(step, why)| failed("control-plane-prepare/certs", format!("{step}: {why}")))?;
        }
        if self.phases.runs("control-plane-prepare/kubeconfig") {
            let request = kubeconfig::Request {
                cluster,
                node: &self.registration().name,
                endpoint,
                now: host.now(),
                keys: host.keys(),
                joins: true,
            };
            kubeconfig::run(files, &request, print).map_err(|(_, why)| {
                failed("control-plane-prepare/kubeconfig", format!("error generating kubeconfig files: {why}"))
            })?;
        }
        if self.phases.runs("control-plane-prepare/control-plane") {
            print(format!("[control-plane] Using manifest folder {:?}", manifests::DIRECTORY));
            let seconds = self.timeouts().control_plane().as_secs();
            for component in manifests::COMPONENTS {
                print(format!("[control-plane] Creating static Pod manifest for {component:?}"));
                let pod = manifests::component(cluster, endpoint, files, component, seconds);
                write_manifest(files, self.patches(), component, pod, print)
                    .map_err(|why| failed("control-plane-prepare/control-plane", why))?;
            }
        }
        Ok(())
    }

    /// A client of the members that there are.
    async fn etcd(&self, files: &dyn Files) -> Result<Box<dyn EtcdClient>, String> {
        let admin = Kubeconfig::read(files, "/etc/kubernetes/admin.conf")?;
        let mut client = Client::new(self.host, &admin, false)?;
        let mut retry = Retry::new(self.host, self.host.facts().limit(self.timeouts().etcd_call()));
        let urls = loop {
            match etcd_urls(&mut client).await {
                Ok(urls) => break urls,
                Err(why) if !retry.again().await => return Err(why),
                Err(_) => {}
            }
        };
        let certificate = files.read(&format!("{}/etcd/healthcheck-client.crt", self.known.cluster.certificates_dir));
        let dialled = self.host.etcd(&urls, &certificate.unwrap_or_default());
        dialled.map_err(unsynced)
    }

    /// No machine joins etcd while one of its members does not answer.
    async fn check_etcd(&self, files: &dyn Files, print: Print<'_>) -> Result<(), String> {
        if !self.phases.runs("check-etcd") {
            return Ok(());
        }
        print("[check-etcd] Checking that the etcd cluster is healthy".to_owned());
        let wrong = |why: String| failed("check-etcd", why);
        let etcd = self.etcd(files).await.map_err(wrong)?;
        let limit = self.host.facts().limit(self.timeouts().etcd_call());
        let mut retry = Retry::new(self.host, limit);
        let endpoints = loop {
            match etcd.endpoints().await {
                Ok(endpoints) => break endpoints,
                Err(why) if !retry.again().await => return Err(wrong(unsynced(why))),
                Err(_) => {}
            }
        };
        for endpoint in endpoints {
            let mut retry = Retry::new(self.host, limit);
            while let Err(why) = etcd.status(&endpoint) {
                if !retry.again().await {
                    return Err(wrong(format!("etcd cluster is not healthy: {why}")));
                }
            }
        }
        Ok(())
    }

    /// Starts kubelet, which asks for a certificate of its own.
    async fn start_kubelet(&self, files: &mut dyn Files, print: Print<'_>) -> Result<(), String> {
        if !self.phases.runs("kubelet-start") {
            return Ok(());
        }
        let (host, registration) = (self.host, self.registration());
        let wrong = |why: String| failed("kubelet-start", why);
        let kubeconfig = &self.known.kubeconfig;
        let text = config::yaml(&kubeconfig::document(
            &kubeconfig.server,
            &self.known.cluster.cluster_name,
            "tls-bootstrap-token-user",
            &kubeconfig.authority,
            &kubeconfig.identity,
        ));
        files.write(BOOTSTRAP_KUBECONFIG, 0o600, text.map_err(|error| wrong(error.to_string()))?.as_bytes());
        if !files.is_file(&self.given.node.ca_cert_path) {
            files.write(&self.given.node.ca_cert_path, 0o644, &kubeconfig.authority);
        }
        let name = kubelet::node_name(registration);
        self.refuse_twin(name).await.map_err(wrong)?;
        let request = kubelet::Request {
            configuration: &self.known.kubelet,
            registration,
            hostname: &host.facts().hostname,
            patches: self.patches(),
            registers_taints: self.given.node.control_plane.is_none(),
        };
        kubelet::write(files, &request, print).map_err(wrong)?;
        print("[kubelet-start] Starting the kubelet".to_owned());
        host.restart_kubelet(files);
        wait_for_kubelet(host, self.timeouts(), print).await.map_err(|why| failed("kubelet-wait-bootstrap", why))?;
        print("[kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap".to_owned());
        let limit = host.facts().limit(self.timeouts().tls_bootstrap());
        let mut retry = Retry::new(host, limit);
        // kubelet tries again by itself; here a restart is how it does.
        let bootstrapped = loop {
            if files.is_file(KUBECONFIG) {
                break Ok(());
            }
            if !retry.again().await {
                break Err(wrong_bootstrap());
            }
            host.restart_kubelet(files);
        };
        files.remove(BOOTSTRAP_KUBECONFIG);
        bootstrapped
    }

    /// Two nodes of one name would write over each other.
    async fn refuse_twin(&self, name: &str) -> Result<(), String> {
        let kubeconfig = &self.known.kubeconfig;
        let mut client = Client::new(self.host, kubeconfig, kubeconfig.authority.is_empty())
            .map_err(|_| "could not create client from bootstrap kubeconfig".to_owned())?;
        let node = match client.get(&format!("/api/v1/nodes/{name}")).await {
            Ok(node) => node,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(format!("cannot get Node {name:?}: {error}")),
        };
        let conditions = node["status"]["conditions"].as_array();
        let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        if conditions.is_some_and(|conditions| conditions.iter().any(is_ready)) {
            return Err(format!(
                "a Node with name {name:?} and status \"Ready\" already exists in the cluster. You must delete the existing \
                 Node or change the name of this new joining Node"
            ));
        }
        Ok(())
    }

    /// Adds this machine's etcd to the others': as a learner first.
    async fn join_etcd(
        &self,
        files: &mut dyn Files,
        control_plane: &JoinControlPlane,
        print: Print<'_>,
    ) -> Result<(), String> {
        if !self.phases.runs("etcd-join") {
            return Ok(());
        }
        let wrong =
            |why: String| failed("etcd-join", format!("error creating local etcd static pod manifest file: {why}"));
        let (host, cluster, endpoint) = (self.host, &self.known.cluster, &control_plane.local_api_endpoint);
        let etcd = self.etcd(files).await.map_err(wrong)?;
        let limit = host.facts().limit(self.timeouts().etcd_call());
        let peer = manifests::url(&endpoint.advertise_address, 2380);
        let mut retry = Retry::new(host, limit);
        let member = loop {
            match add_learner(etcd.as_ref(), &peer).await {
                Ok(member) => break member,
                Err(why) if !retry.again().await => return Err(wrong(why)),
                Err(_) => {}
            }
        };
        print("[etcd] Announced new etcd member joining to the existing etcd cluster".to_owned());
        print("[etcd] Creating static Pod manifest for \"etcd\"".to_owned());
        let name = &self.registration().name;
        let members = etcd.members().await.map_err(wrong)?.into_iter().map(|known| {
            let shown = match known {
                ref this if this.peer_url == peer => name.clone(),
                ref other if other.name.is_empty() => format!("{:x}", other.id),
                ref other => other.name.clone(),
            };
            (shown, known.peer_url)
        });
        let seconds = self.timeouts().control_plane().as_secs();
        let pod = manifests::etcd(cluster, endpoint, name, &members.collect::<Vec<_>>(), seconds);
        files.make_directory(&cluster.etcd.local.as_ref().map(|etcd| etcd.data_dir.clone()).unwrap_or_default());
        write_manifest(files, self.patches(), "etcd", pod, print).map_err(wrong)?;
        host.restart_kubelet(files);
        let mut retry = Retry::new(host, limit);
        while let Err(why) = promote(host, etcd.as_ref(), member.id).await {
            if !retry.again().await {
                return Err(wrong(why));
            }
        }
        print("[etcd] Waiting for the new etcd member to join the cluster. This can take up to 40s".to_owned());
        Ok(())
    }

    async fn join_control_plane(
        &self,
        files: &mut dyn Files,
        control_plane: &JoinControlPlane,
        print: Print<'_>,
    ) -> Result<(), String> {
        let host = self.host;
        let name = kubelet::node_name(self.registration());
        let admin = Kubeconfig::read(files, "/etc/kubernetes/admin.conf");
        let client = admin.and_then(|admin| Client::new(host, &admin, false));
        let mut client = client.map_err(|why| failed("control-plane-join/mark-control-plane", why))?;
        annotate(host, &mut client, name, &self.registration().cri_socket, self.timeouts())
            .await
            .map_err(|why| failed("kubelet-start", why))?;
        if self.phases.runs("control-plane-join/mark-control-plane") {
            let taints = self.registration().taints.clone().unwrap_or_default();
            mark(host, &mut client, name, &taints, self.timeouts(), print).await.map_err(|why| {
                failed(
                    "control-plane-join/mark-control-plane",
                    format!("error applying control-plane label and taints: {why}"),
                )
            })?;
        }
        if self.phases.runs("wait-control-plane") {
            let endpoint = control_plane.local_api_endpoint.to_string();
            wait_for_components(host, files, &endpoint, self.timeouts(), print)
                .await
                .map_err(|why| failed("wait-control-plane", why))?;
        }
        Ok(())
    }
}

fn unsynced(why: String) -> String {
    format!("error syncing endpoints with etcd: {why}")
}

fn not_ready(why: &str) -> String {
    format!(
        "\nOne or more conditions for hosting a new control plane instance is not satisfied.\n\n{why}\n\nPlease ensure \
         that:\n* The cluster has a stable controlPlaneEndpoint address.\n* The certificates that must be shared among \
         control plane instances are provided.\n"
    )
}

/// URLs of all members by their pods' annotations.
async fn etcd_urls(client: &mut Client<'_>) -> Result<Vec<String>, String> {
    let path = "/api/v1/namespaces/kube-system/pods?labelSelector=component%3Detcd%2Ctier%3Dcontrol-plane";
    let pods =
        client.get(path).await.map_err(|error| format!("could not retrieve the list of etcd endpoints: {error}"))?;
    let urls = pods["items"].as_array().into_iter().flatten();
    let urls = urls.filter_map(|pod| pod["metadata"]["annotations"][manifests::ETCD_URL_ANNOTATION].as_str());
    let urls: Vec<String> = urls.map(str::to_owned).collect();
    if urls.is_empty() { Err("could not retrieve the list of etcd endpoints: no etcd pods".into()) } else { Ok(urls) }
}

/// Adds a learner, unless an earlier try has.
async fn add_learner(etcd: &dyn EtcdClient, peer_url: &str) -> Result<Member, String> {
    match etcd.members().await?.into_iter().find(|member| member.peer_url == peer_url) {
        Some(member) => Ok(member),
        None => etcd.add_learner(peer_url).await,
    }
}

/// Gives a learner its vote, once it has started; one that has it is a success.
async fn promote(host: &dyn Host, etcd: &dyn EtcdClient, id: u64) -> Result<(), String> {
    match etcd.members().await?.into_iter().find(|known| known.id == id) {
        Some(known) if !known.is_learner => Ok(()),
        Some(known) if known.name.is_empty() => {
            let why = host.component_health("etcd").err().unwrap_or_default();
            Err(format!("the etcd member {id:x} is not started {why}").trim_end().to_owned())
        }
        Some(_) => etcd.promote(id).await,
        None => Err(format!("member {id:x} not found")),
    }
}

/// A `ConfigMap` of `kube-system`.
async fn system_map(
    host: &dyn Host,
    client: &mut Client<'_>,
    name: &str,
    limit: std::time::Duration,
) -> Result<Value, String> {
    let mut retry = Retry::new(host, limit);
    loop {
        match client.get(&format!("{SYSTEM_MAPS}/{name}")).await {
            Ok(map) => return Ok(map),
            Err(error) if !error.is_passing() || !retry.again().await => return Err(error.to_string()),
            Err(_) => {}
        }
    }
}

fn wrong_bootstrap() -> String {
    failed("kubelet-wait-bootstrap", "failed while waiting for TLS bootstrap: context deadline exceeded")
}
