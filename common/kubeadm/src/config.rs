//! The documents that kubeadm reads: `ClusterConfiguration`, `InitConfiguration`, `JoinConfiguration`, in the API version
//! that fits the machine's Kubernetes.

use cluster_api::version::Version;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::{
    conversion::go_duration,
    spec::{
        Arg, ClusterConfiguration, Component, Etcd, InitConfiguration, JoinConfiguration, LocalApiEndpoint,
        NodeRegistration, Timeouts,
    },
};

/// API version of kubeadm's documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KubeadmApi {
    /// Kubernetes 1.22 to 1.30.
    V1Beta3,
    /// Kubernetes 1.31 and later.
    V1Beta4,
}

/// Why a document cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// kubeadm of this version reads none of our formats.
    #[error("Kubernetes {0} is older than 1.22, the oldest that can be bootstrapped")]
    TooOld(Version),
    /// Serialising failed.
    #[error("cannot write kubeadm's configuration: {0}")]
    Write(String),
}

impl KubeadmApi {
    /// The version that kubeadm of a Kubernetes release reads; suffixes do not count.
    pub fn for_version(version: &Version) -> Result<Self, Error> {
        if version.is_at_least(1, 31) {
            Ok(Self::V1Beta4)
        } else if version.is_at_least(1, 22) {
            Ok(Self::V1Beta3)
        } else {
            Err(Error::TooOld(version.clone()))
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::V1Beta3 => "kubeadm.k8s.io/v1beta3",
            Self::V1Beta4 => "kubeadm.k8s.io/v1beta4",
        }
    }

    fn is_newer(self) -> bool {
        self == Self::V1Beta4
    }
}

/// What a `ClusterConfiguration` says that is kept elsewhere in Cluster API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Name of the cluster.
    pub name: String,
    /// Version of the machine, as the user wrote it.
    pub version: String,
    /// `host:port` of the API server; the configuration's own wins.
    pub endpoint: String,
    /// DNS domain of services; may be empty.
    pub dns_domain: String,
    /// CIDR blocks of services, joined by commas; may be empty.
    pub service_subnet: String,
    /// CIDR blocks of pods, joined by commas; may be empty.
    pub pod_subnet: String,
}

/// The two documents of `kubeadm init`.
pub fn init(
    api: KubeadmApi,
    cluster: &ClusterConfiguration,
    init: &InitConfiguration,
    facts: &ClusterFacts,
) -> Result<(String, String), Error> {
    Ok((yaml(&cluster_document(api, cluster, init, facts)?)?, yaml(&init_document(api, init)?)?))
}

/// The document of `kubeadm join`.
pub fn join(api: KubeadmApi, join: &JoinConfiguration) -> Result<String, Error> {
    let mut document = frame(api, "JoinConfiguration");
    document.insert("nodeRegistration".into(), node(api, join.node_registration.as_ref())?);
    put_text(&mut document, "caCertPath", &join.ca_cert_path);
    document.insert("discovery".into(), discovery(api, join)?);
    if let Some(control_plane) = &join.control_plane {
        let endpoint = endpoint(control_plane.local_api_endpoint.as_ref())?;
        document.insert("controlPlane".into(), json!({"localAPIEndpoint": endpoint}));
    }
    put_list(&mut document, "skipPhases", &join.skip_phases)?;
    if let Some(patches) = &join.patches {
        document.insert("patches".into(), plain(patches)?);
    }
    if let (true, Some(timeouts)) = (api.is_newer(), &join.timeouts) {
        document.insert("timeouts".into(), durations(timeouts));
    }
    yaml(&Value::Object(document))
}

fn cluster_document(
    api: KubeadmApi,
    cluster: &ClusterConfiguration,
    init: &InitConfiguration,
    facts: &ClusterFacts,
) -> Result<Value, Error> {
    let mut document = frame(api, "ClusterConfiguration");
    document.insert("etcd".into(), etcd(api, cluster.etcd.as_ref())?);
    let endpoint =
        if cluster.control_plane_endpoint.is_empty() { &facts.endpoint } else { &cluster.control_plane_endpoint };
    put_text(&mut document, "controlPlaneEndpoint", endpoint);
    put_text(&mut document, "clusterName", &facts.name);
    put_text(&mut document, "kubernetesVersion", &facts.version);
    put_text(&mut document, "certificatesDir", &cluster.certificates_dir);
    put_text(&mut document, "imageRepository", &cluster.image_repository);
    let mut networking = Map::new();
    put_text(&mut networking, "dnsDomain", &facts.dns_domain);
    put_text(&mut networking, "serviceSubnet", &facts.service_subnet);
    put_text(&mut networking, "podSubnet", &facts.pod_subnet);
    document.insert("networking".into(), Value::Object(networking));
    if !cluster.feature_gates.is_empty() {
        document.insert("featureGates".into(), plain(&cluster.feature_gates)?);
    }
    let mut server = Map::new();
    if let Some(api_server) = &cluster.api_server {
        let shared = Component {
            extra_args: api_server.extra_args.clone(),
            extra_volumes: api_server.extra_volumes.clone(),
            extra_envs: api_server.extra_envs.clone(),
        };
        server = component(api, Some(&shared))?;
        put_list(&mut server, "certSANs", &api_server.cert_sans)?;
    }
    let health_check =
        init.timeouts.as_ref().and_then(|timeouts| timeouts.control_plane_component_health_check_seconds);
    if let (false, Some(limit)) = (api.is_newer(), health_check) {
        server.insert("timeoutForControlPlane".into(), seconds(limit));
    }
    document.insert("apiServer".into(), Value::Object(server));
    document.insert("controllerManager".into(), Value::Object(component(api, cluster.controller_manager.as_ref())?));
    document.insert("scheduler".into(), Value::Object(component(api, cluster.scheduler.as_ref())?));
    document.insert("dns".into(), cluster.dns.as_ref().map_or(Ok(json!({})), plain)?);
    if api.is_newer() {
        document.insert("proxy".into(), json!({}));
        let lives = [
            ("certificateValidityPeriod", cluster.certificate_validity_period_days),
            ("caCertificateValidityPeriod", cluster.ca_certificate_validity_period_days),
        ];
        for (name, days) in lives {
            if let Some(days) = days.and_then(|days| u64::try_from(days).ok()).filter(|days| *days > 0) {
                document.insert(name.into(), json!(go_duration(days * 24 * 3600)));
            }
        }
        if let Some(algorithm) = cluster.encryption_algorithm {
            document.insert("encryptionAlgorithm".into(), plain(&algorithm)?);
        }
    }
    Ok(Value::Object(document))
}

fn init_document(api: KubeadmApi, init: &InitConfiguration) -> Result<Value, Error> {
    let mut document = frame(api, "InitConfiguration");
    if !init.bootstrap_tokens.is_empty() {
        let tokens = init.bootstrap_tokens.iter().map(|token| {
            let mut fields = plain(token)?;
            if let Some(fields) = fields.as_object_mut()
                && let Some(ttl) = fields.remove("ttlSeconds").and_then(|ttl| ttl.as_u64())
            {
                fields.insert("ttl".into(), json!(go_duration(ttl)));
            }
            Ok(fields)
        });
        document.insert("bootstrapTokens".into(), Value::Array(tokens.collect::<Result<_, Error>>()?));
    }
    document.insert("nodeRegistration".into(), node(api, init.node_registration.as_ref())?);
    document.insert("localAPIEndpoint".into(), endpoint(init.local_api_endpoint.as_ref())?);
    put_list(&mut document, "skipPhases", &init.skip_phases)?;
    if let Some(patches) = &init.patches {
        document.insert("patches".into(), plain(patches)?);
    }
    if let (true, Some(timeouts)) = (api.is_newer(), &init.timeouts) {
        document.insert("timeouts".into(), durations(timeouts));
    }
    Ok(Value::Object(document))
}

fn frame(api: KubeadmApi, kind: &str) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("apiVersion".into(), json!(api.name()));
    document.insert("kind".into(), json!(kind));
    document
}

fn component(api: KubeadmApi, component: Option<&Component>) -> Result<Map<String, Value>, Error> {
    let mut fields = Map::new();
    let Some(component) = component else { return Ok(fields) };
    put_args(api, &mut fields, "extraArgs", &component.extra_args)?;
    put_list(&mut fields, "extraVolumes", &component.extra_volumes)?;
    if let (true, Some(envs)) = (api.is_newer(), &component.extra_envs) {
        fields.insert("extraEnvs".into(), plain(envs)?);
    }
    Ok(fields)
}

fn etcd(api: KubeadmApi, etcd: Option<&Etcd>) -> Result<Value, Error> {
    let Some(etcd) = etcd else { return Ok(json!({})) };
    let mut fields = Map::new();
    // kubeadm refuses both; the certificates are chosen for the external one.
    if let Some(external) = &etcd.external {
        fields.insert("external".into(), plain(external)?);
    } else if let Some(local) = &etcd.local {
        let mut document = Map::new();
        put_text(&mut document, "imageRepository", &local.image_repository);
        put_text(&mut document, "imageTag", &local.image_tag);
        document.insert("dataDir".into(), json!(local.data_dir));
        put_args(api, &mut document, "extraArgs", &local.extra_args)?;
        if let (true, Some(envs)) = (api.is_newer(), &local.extra_envs) {
            document.insert("extraEnvs".into(), plain(envs)?);
        }
        put_list(&mut document, "serverCertSANs", &local.server_cert_sans)?;
        put_list(&mut document, "peerCertSANs", &local.peer_cert_sans)?;
        fields.insert("local".into(), Value::Object(document));
    }
    Ok(Value::Object(fields))
}

fn node(api: KubeadmApi, node: Option<&NodeRegistration>) -> Result<Value, Error> {
    let mut fields = Map::new();
    // Absent taints must be written as null: kubeadm then sets its own. An empty list means none.
    fields.insert("taints".into(), node.map_or(Ok(Value::Null), |node| plain(&node.taints))?);
    let Some(node) = node else { return Ok(Value::Object(fields)) };
    put_text(&mut fields, "name", &node.name);
    put_text(&mut fields, "criSocket", &node.cri_socket);
    put_args(api, &mut fields, "kubeletExtraArgs", &node.kubelet_extra_args)?;
    put_list(&mut fields, "ignorePreflightErrors", &node.ignore_preflight_errors)?;
    if let Some(policy) = node.image_pull_policy {
        fields.insert("imagePullPolicy".into(), plain(&policy)?);
    }
    if let (true, Some(serial)) = (api.is_newer(), node.image_pull_serial) {
        fields.insert("imagePullSerial".into(), json!(serial));
    }
    Ok(Value::Object(fields))
}

fn endpoint(endpoint: Option<&LocalApiEndpoint>) -> Result<Value, Error> {
    endpoint.map_or(Ok(json!({})), plain)
}

fn discovery(api: KubeadmApi, join: &JoinConfiguration) -> Result<Value, Error> {
    let mut fields = Map::new();
    if let Some(discovery) = &join.discovery {
        if let Some(token) = &discovery.bootstrap_token {
            let mut document = plain(token)?;
            document["token"] = json!(token.token);
            fields.insert("bootstrapToken".into(), document);
        }
        if let Some(file) = &discovery.file {
            fields.insert("file".into(), json!({"kubeConfigPath": file.kube_config_path}));
        }
        put_text(&mut fields, "tlsBootstrapToken", &discovery.tls_bootstrap_token);
    }
    let limit = join.timeouts.as_ref().and_then(|timeouts| timeouts.tls_bootstrap_seconds);
    if let (false, Some(limit)) = (api.is_newer(), limit) {
        fields.insert("timeout".into(), seconds(limit));
    }
    Ok(Value::Object(fields))
}

fn durations(timeouts: &Timeouts) -> Value {
    let limits = [
        ("controlPlaneComponentHealthCheck", timeouts.control_plane_component_health_check_seconds),
        ("kubeletHealthCheck", timeouts.kubelet_health_check_seconds),
        ("kubernetesAPICall", timeouts.kubernetes_api_call_seconds),
        ("etcdAPICall", timeouts.etcd_api_call_seconds),
        ("tlsBootstrap", timeouts.tls_bootstrap_seconds),
        ("discovery", timeouts.discovery_seconds),
    ];
    let set = limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), seconds(limit?))));
    Value::Object(set.collect())
}

fn seconds(seconds: i32) -> Value {
    json!(go_duration(u64::try_from(seconds).unwrap_or(0)))
}

/// Flags: a map in v1beta3 (the last of a name wins), a list in v1beta4.
fn put_args(api: KubeadmApi, fields: &mut Map<String, Value>, name: &str, args: &[Arg]) -> Result<(), Error> {
    if args.is_empty() {
        return Ok(());
    }
    let value = if api.is_newer() {
        plain(&args)?
    } else {
        Value::Object(args.iter().map(|arg| (arg.name.clone(), json!(arg.value))).collect())
    };
    fields.insert(name.to_owned(), value);
    Ok(())
}

fn put_list<T: Serialize>(fields: &mut Map<String, Value>, name: &str, items: &[T]) -> Result<(), Error> {
    if !items.is_empty() {
        fields.insert(name.to_owned(), plain(&items)?);
    }
    Ok(())
}

fn put_text(fields: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        fields.insert(name.to_owned(), json!(text));
    }
}

fn plain<T: Serialize + ?Sized>(value: &T) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|error| Error::Write(error.to_string()))
}

fn yaml(document: &Value) -> Result<String, Error> {
    serde_saphyr::to_string(document).map_err(|error| Error::Write(error.to_string()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn read(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap()
    }

    fn facts() -> ClusterFacts {
        ClusterFacts {
            name: "c1".into(),
            version: "v1.34.5-3".into(),
            endpoint: "10.0.0.1:6443".into(),
            dns_domain: String::new(),
            service_subnet: "10.96.0.0/16".into(),
            pod_subnet: "10.244.0.0/16,fd00::/48".into(),
        }
    }

    #[rstest]
    #[case("v1.22.0", KubeadmApi::V1Beta3)]
    #[case("v1.30.14-acp.1", KubeadmApi::V1Beta3)]
    #[case("v1.31.0-rc.1", KubeadmApi::V1Beta4)]
    #[case("v1.36.3", KubeadmApi::V1Beta4)]
    fn the_api_version_follows_kubernetes(#[case] version: &str, #[case] api: KubeadmApi) {
        assert_eq!(KubeadmApi::for_version(&version.parse().unwrap()).unwrap(), api);
        assert!(KubeadmApi::for_version(&"v1.21.9".parse().unwrap()).is_err());
    }

    #[test]
    fn init_says_everything_in_the_newer_form() {
        let cluster: ClusterConfiguration = serde_json::from_value(json!({
            "imageRepository": "cloud.alauda.io/alauda",
            "etcd": {"local": {"imageTag": "v3.6.14"}},
            "dns": {"imageTag": "1.14.2"},
            "apiServer": {"extraArgs": [{"name": "profiling", "value": "false"}], "certSANs": ["a"]},
            "certificateValidityPeriodDays": 365,
        }))
        .unwrap();
        let settings: InitConfiguration = serde_json::from_value(json!({
            "nodeRegistration": {"kubeletExtraArgs": [{"name": "provider-id", "value": "PROVIDER_ID"}]},
            "timeouts": {"controlPlaneComponentHealthCheckSeconds": 240},
        }))
        .unwrap();
        let (cluster, init) = init(KubeadmApi::V1Beta4, &cluster, &settings, &facts()).unwrap();
        let cluster = read(&cluster);
        assert_eq!(cluster["kubernetesVersion"], "v1.34.5-3");
        assert_eq!(cluster["controlPlaneEndpoint"], "10.0.0.1:6443");
        assert_eq!(
            cluster["apiServer"],
            json!({"extraArgs": [{"name": "profiling", "value": "false"}], "certSANs": ["a"]})
        );
        assert_eq!(cluster["etcd"], json!({"local": {"imageTag": "v3.6.14", "dataDir": ""}}));
        assert_eq!(cluster["certificateValidityPeriod"], "8760h0m0s");
        assert_eq!(cluster["networking"]["podSubnet"], "10.244.0.0/16,fd00::/48");
        let init = read(&init);
        assert_eq!(init["nodeRegistration"]["taints"], Value::Null);
        assert_eq!(init["timeouts"], json!({"controlPlaneComponentHealthCheck": "4m0s"}));
    }

    #[test]
    fn the_older_form_has_maps_and_the_limit_elsewhere() {
        let cluster: ClusterConfiguration =
            serde_json::from_value(json!({"scheduler": {"extraArgs": [{"name": "v", "value": "4"}]}})).unwrap();
        let settings: InitConfiguration = serde_json::from_value(
            json!({"timeouts": {"controlPlaneComponentHealthCheckSeconds": 90, "discoverySeconds": 3}}),
        )
        .unwrap();
        let (cluster, init) = init(KubeadmApi::V1Beta3, &cluster, &settings, &facts()).unwrap();
        let cluster = read(&cluster);
        assert_eq!(cluster["scheduler"]["extraArgs"], json!({"v": "4"}));
        assert_eq!(cluster["apiServer"], json!({"timeoutForControlPlane": "1m30s"}));
        assert!(cluster.get("proxy").is_none() && read(&init).get("timeouts").is_none());
    }

    /// Everything that a user can say.
    fn whole() -> (ClusterConfiguration, InitConfiguration, JoinConfiguration) {
        let volumes =
            json!([{"name": "v", "hostPath": "/h", "mountPath": "/m", "readOnly": true, "pathType": "Directory"}]);
        let envs = json!([{"name": "HTTP_PROXY", "value": "http://p:3128"}]);
        let args = json!([{"name": "bind-address", "value": "::"}, {"name": "v", "value": "4"}, {"name": "empty", "value": ""}]);
        let node = json!({
            "name": "{{ ds.meta_data.local_hostname }}", "criSocket": "unix:///run/containerd/containerd.sock",
            "kubeletExtraArgs": [{"name": "node-labels", "value": "a=b"}], "ignorePreflightErrors": ["SystemVerification"],
            "imagePullPolicy": "IfNotPresent", "imagePullSerial": false, "taints": [{"key": "k", "effect": "NoExecute", "value": "yes"}],
        });
        let timeouts = json!({
            "controlPlaneComponentHealthCheckSeconds": 240, "kubeletHealthCheckSeconds": 60, "kubernetesAPICallSeconds": 90,
            "etcdAPICallSeconds": 3600, "tlsBootstrapSeconds": 1, "discoverySeconds": 0,
        });
        let cluster = json!({
            "etcd": {"local": {"imageRepository": "r", "imageTag": "t", "dataDir": "/var/lib/etcd", "extraArgs": args,
                "extraEnvs": envs, "serverCertSANs": ["s"], "peerCertSANs": ["p"]}},
            "controlPlaneEndpoint": "api.example.org:6443",
            "apiServer": {"extraArgs": args, "extraVolumes": volumes, "extraEnvs": envs, "certSANs": ["10.0.0.1", "api.example.org"]},
            "controllerManager": {"extraArgs": args}, "scheduler": {"extraVolumes": volumes},
            "dns": {"imageRepository": "r", "imageTag": "v1.12"}, "certificatesDir": "/etc/kubernetes/pki",
            "imageRepository": "registry.example.org", "featureGates": {"NodeLocalCRISocket": true},
            "certificateValidityPeriodDays": 365, "caCertificateValidityPeriodDays": 3650, "encryptionAlgorithm": "ECDSA-P256",
        });
        let init = json!({
            "bootstrapTokens": [{"token": "abcdef.0123456789abcdef", "description": "d", "ttlSeconds": 3600,
                "usages": ["signing", "authentication"], "groups": ["system:bootstrappers:kubeadm:default-node-token"]}],
            "nodeRegistration": node, "localAPIEndpoint": {"advertiseAddress": "10.0.0.2", "bindPort": 6443},
            "skipPhases": ["addon/kube-proxy"], "patches": {"directory": "/etc/kubernetes/patches"}, "timeouts": timeouts,
        });
        let join = json!({
            "nodeRegistration": node, "caCertPath": "/etc/kubernetes/pki/ca.crt",
            "discovery": {"tlsBootstrapToken": "abcdef.0123456789abcdef", "bootstrapToken": {"token": "abcdef.0123456789abcdef",
                "apiServerEndpoint": "10.0.0.1:6443", "caCertHashes": ["sha256:aa"], "unsafeSkipCAVerification": false}},
            "controlPlane": {"localAPIEndpoint": {"advertiseAddress": "10.0.0.2"}},
            "skipPhases": ["preflight"], "patches": {"directory": "/p"}, "timeouts": timeouts,
        });
        (
            serde_json::from_value(cluster).unwrap(),
            serde_json::from_value(init).unwrap(),
            serde_json::from_value(join).unwrap(),
        )
    }

    #[rstest]
    #[case(KubeadmApi::V1Beta3)]
    #[case(KubeadmApi::V1Beta4)]
    fn whole_documents_are_stable(#[case] api: KubeadmApi) {
        let (cluster, settings, joining) = whole();
        let (cluster, initial) = init(api, &cluster, &settings, &facts()).unwrap();
        let all = format!("{cluster}---\n{initial}---\n{}", join(api, &joining).unwrap());
        insta::assert_snapshot!(format!("whole_documents_{api:?}"), all);
    }

    #[rstest]
    #[case(KubeadmApi::V1Beta3)]
    #[case(KubeadmApi::V1Beta4)]
    fn empty_documents_are_stable(#[case] api: KubeadmApi) {
        let (cluster, initial) = init(api, &Default::default(), &Default::default(), &ClusterFacts::default()).unwrap();
        let all = format!("{cluster}---\n{initial}---\n{}", join(api, &Default::default()).unwrap());
        insta::assert_snapshot!(format!("empty_documents_{api:?}"), all);
    }

    #[test]
    fn an_external_etcd_wins_over_a_local_one() {
        let cluster: ClusterConfiguration = serde_json::from_value(json!({"etcd": {"local": {"dataDir": "/d"},
            "external": {"endpoints": ["https://e"], "caFile": "/a", "certFile": "/b", "keyFile": "/c"}}}))
        .unwrap();
        let (cluster, _) = init(KubeadmApi::V1Beta4, &cluster, &Default::default(), &facts()).unwrap();
        let external = json!({"endpoints": ["https://e"], "caFile": "/a", "certFile": "/b", "keyFile": "/c"});
        assert_eq!(read(&cluster)["etcd"], json!({"external": external}));
    }

    #[test]
    fn texts_that_yaml_takes_for_something_else_stay_texts() {
        let texts = [
            "true",
            "yes",
            "on",
            "n",
            "null",
            "~",
            "4",
            "0644",
            "1e3",
            "1_000",
            "0x1f",
            "12:30:45",
            "2026-01-01",
            "=",
            "<<",
            "",
            " a",
            "a: b",
            "a #b",
            "*x",
            "&x",
            "!x",
            "{a}",
            "[a]",
            "%a",
            "@a",
            "`a",
            "-",
            "?",
            "a\nb",
            "\u{85}",
            "'",
            "\"",
            "\\",
        ];
        let args = texts.iter().enumerate().map(|(index, text)| json!({"name": format!("a{index}"), "value": text}));
        let args = json!({"scheduler": {"extraArgs": args.collect::<Vec<_>>()}});
        let cluster: ClusterConfiguration = serde_json::from_value(args).unwrap();
        let (cluster, _) = init(KubeadmApi::V1Beta4, &cluster, &Default::default(), &facts()).unwrap();
        // Quoted as kubeadm's own reader needs it, which takes more for something else than ours does.
        insta::assert_snapshot!(cluster);
        let cluster = read(&cluster);
        let arrived = cluster["scheduler"]["extraArgs"].as_array().unwrap().iter().map(|arg| arg["value"].as_str());
        assert!(arrived.eq(texts.iter().map(|text| Some(*text))));
    }

    #[test]
    fn a_join_of_the_control_plane_is_marked_even_when_empty() {
        let settings: JoinConfiguration = serde_json::from_value(json!({
            "controlPlane": {},
            "discovery": {"bootstrapToken": {"token": "abcdef.0123456789abcdef", "apiServerEndpoint": "h:1", "caCertHashes": ["sha256:x"]}},
            "nodeRegistration": {"taints": []},
        }))
        .unwrap();
        let document = read(&join(KubeadmApi::V1Beta4, &settings).unwrap());
        assert_eq!(document["controlPlane"], json!({"localAPIEndpoint": {}}));
        assert_eq!(document["nodeRegistration"]["taints"], json!([]));
        assert_eq!(document["discovery"]["bootstrapToken"]["apiServerEndpoint"], "h:1");
    }
}
