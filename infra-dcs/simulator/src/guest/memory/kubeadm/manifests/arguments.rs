//! Flags of the components as kubeadm sets them.

use super::{argument, url};
use crate::guest::memory::kubeadm::{
    config::types::{ApiEndpoint, Arg, ClusterConfiguration},
    files::Files,
};

/// kubeadm's flags in order of their names, without those that the user gives; then the user's in their order.
pub fn command(mut base: Vec<(String, String)>, extra: &[Arg]) -> Vec<String> {
    base.sort();
    let kept = base.into_iter().filter(|(name, _)| extra.iter().all(|argument| argument.name != *name));
    let given = extra.iter().map(|argument| (argument.name.clone(), argument.value.clone()));
    kept.chain(given).map(|(name, value)| format!("--{name}={value}")).collect()
}

fn owned<const N: usize>(flags: [(&str, &str); N]) -> Vec<(String, String)> {
    flags.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// The API server's.
pub fn api_server(cluster: &ClusterConfiguration, endpoint: &ApiEndpoint) -> Vec<(String, String)> {
    let mut flags = owned([
        ("advertise-address", endpoint.advertise_address.as_str()),
        ("enable-admission-plugins", "NodeRestriction"),
        ("service-cluster-ip-range", &cluster.networking.service_subnet),
        ("enable-bootstrap-token-auth", "true"),
        ("secure-port", &endpoint.bind_port.to_string()),
        ("allow-privileged", "true"),
        ("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname"),
        ("requestheader-username-headers", "X-Remote-User"),
        ("requestheader-group-headers", "X-Remote-Group"),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        ("requestheader-allowed-names", "front-proxy-client"),
        ("service-account-issuer", &format!("https://kubernetes.default.svc.{}", cluster.networking.dns_domain)),
    ]);
    for (flag, file) in [
        ("service-account-key-file", "sa.pub"),
        ("service-account-signing-key-file", "sa.key"),
        ("client-ca-file", "ca.crt"),
        ("tls-cert-file", "apiserver.crt"),
        ("tls-private-key-file", "apiserver.key"),
        ("kubelet-client-certificate", "apiserver-kubelet-client.crt"),
        ("kubelet-client-key", "apiserver-kubelet-client.key"),
        ("requestheader-client-ca-file", "front-proxy-ca.crt"),
        ("proxy-client-cert-file", "front-proxy-client.crt"),
        ("proxy-client-key-file", "front-proxy-client.key"),
        ("etcd-cafile", "etcd/ca.crt"),
        ("etcd-certfile", "apiserver-etcd-client.crt"),
        ("etcd-keyfile", "apiserver-etcd-client.key"),
    ] {
        flags.push((flag.to_owned(), format!("{}/{file}", cluster.certificates_dir)));
    }
    let local = if endpoint.advertise_address.contains(':') { "::1" } else { "127.0.0.1" };
    let advertised = cluster.etcd.local.as_ref().and_then(|etcd| argument(&etcd.extra_args, "advertise-client-urls"));
    flags.push(("etcd-servers".to_owned(), advertised.map_or_else(|| url(local, 2379), str::to_owned)));
    let extra = &cluster.api_server.extra_args;
    if argument(extra, "authorization-config").is_none() {
        let mode = argument(extra, "authorization-mode").unwrap_or("Node,RBAC");
        flags.push(("authorization-mode".to_owned(), mode.to_owned()));
    }
    flags
}

/// The controller manager's.
pub fn controller_manager(cluster: &ClusterConfiguration, files: &dyn Files) -> Vec<(String, String)> {
    let kubeconfig = "/etc/kubernetes/controller-manager.conf";
    let in_pki = |file: &str| format!("{}/{file}", cluster.certificates_dir);
    let authority = in_pki("ca.crt");
    // Without the authority's key there is nothing to sign with.
    let signs = files.is_file(&in_pki("ca.key"));
    let signing = |file: &str| if signs { in_pki(file) } else { String::new() };
    let mut flags = owned([
        ("bind-address", "127.0.0.1"),
        ("leader-elect", "true"),
        ("kubeconfig", kubeconfig),
        ("authentication-kubeconfig", kubeconfig),
        ("authorization-kubeconfig", kubeconfig),
        ("client-ca-file", &authority),
        ("requestheader-client-ca-file", &in_pki("front-proxy-ca.crt")),
        ("root-ca-file", &authority),
        ("service-account-private-key-file", &in_pki("sa.key")),
        ("cluster-signing-cert-file", &signing("ca.crt")),
        ("cluster-signing-key-file", &signing("ca.key")),
        ("use-service-account-credentials", "true"),
        ("controllers", "*,bootstrapsigner,tokencleaner"),
    ]);
    if !cluster.networking.pod_subnet.is_empty() {
        flags.extend(owned([
            ("allocate-node-cidrs", "true"),
            ("cluster-cidr", &cluster.networking.pod_subnet),
            ("service-cluster-ip-range", &cluster.networking.service_subnet),
        ]));
    }
    if !cluster.cluster_name.is_empty() {
        flags.extend(owned([("cluster-name", &cluster.cluster_name)]));
    }
    flags
}

/// The scheduler's.
pub fn scheduler() -> Vec<(String, String)> {
    let kubeconfig = "/etc/kubernetes/scheduler.conf";
    owned([
        ("bind-address", "127.0.0.1"),
        ("leader-elect", "true"),
        ("kubeconfig", kubeconfig),
        ("authentication-kubeconfig", kubeconfig),
        ("authorization-kubeconfig", kubeconfig),
    ])
}

/// etcd's.
pub fn etcd(
    cluster: &ClusterConfiguration,
    endpoint: &ApiEndpoint,
    node: &str,
    members: &[(String, String)],
) -> Vec<(String, String)> {
    let address = endpoint.advertise_address.as_str();
    let local = if address.contains(':') { "::1" } else { "127.0.0.1" };
    let (client, peer) = (url(address, 2379), url(address, 2380));
    let data = cluster.etcd.local.as_ref().map(|etcd| etcd.data_dir.clone()).unwrap_or_default();
    let metrics = url(local, 2381).replacen("https", "http", 1);
    let mut flags = owned([
        ("name", node),
        ("listen-client-urls", &format!("{},{client}", url(local, 2379))),
        ("advertise-client-urls", &client),
        ("listen-peer-urls", &peer),
        ("initial-advertise-peer-urls", &peer),
        ("data-dir", &data),
        ("client-cert-auth", "true"),
        ("peer-client-cert-auth", "true"),
        ("snapshot-count", "10000"),
        ("listen-metrics-urls", &metrics),
        ("feature-gates", "InitialCorruptCheck=true"),
        ("watch-progress-notify-interval", "5s"),
    ]);
    for (flag, file) in [
        ("cert-file", "server.crt"),
        ("key-file", "server.key"),
        ("trusted-ca-file", "ca.crt"),
        ("peer-cert-file", "peer.crt"),
        ("peer-key-file", "peer.key"),
        ("peer-trusted-ca-file", "ca.crt"),
    ] {
        flags.push((flag.to_owned(), format!("{}/etcd/{file}", cluster.certificates_dir)));
    }
    if members.is_empty() {
        flags.extend(owned([("initial-cluster", &format!("{node}={peer}"))]));
    } else {
        let all: Vec<String> = members.iter().map(|(name, url)| format!("{name}={url}")).collect();
        flags.extend(owned([("initial-cluster", &all.join(",")), ("initial-cluster-state", "existing")]));
    }
    flags
}
