//! kubeadm's rules for its documents, in its words.

use std::net::IpAddr;

use super::{
    ConfigError,
    types::{
        ApiEndpoint, Arg, ClusterConfiguration, Discovery, InitConfiguration, JoinConfiguration, NodeRegistration,
    },
    wrong,
};
use crate::guest::memory::kubeadm::cidr::Cidr;

const ALGORITHMS: [&str; 5] = ["ECDSA-P256", "ECDSA-P384", "RSA-2048", "RSA-3072", "RSA-4096"];
/// Of kubeadm 1.36 and of the versions before it back to 1.30.
const FEATURE_GATES: [&str; 6] = [
    "ControlPlaneKubeletLocalMode",
    "EtcdLearnerMode",
    "NodeLocalCRISocket",
    "PublicKeysECDSA",
    "RootlessControlPlane",
    "WaitForAllControlPlaneComponents",
];
const SERVICE_ADDRESSES: u128 = 10;
const SERVICE_BITS: u8 = 20;
const POD_ADDRESSES: u128 = 14;
const NODE_MASK_SPREAD: u8 = 16;

/// Errors by field.
#[derive(Default)]
struct Errors(Vec<String>);

impl Errors {
    fn invalid(&mut self, path: &str, value: impl std::fmt::Debug, detail: impl std::fmt::Display) {
        self.0.push(format!("{path}: Invalid value: {value:?}: {detail}"));
    }

    /// For what must not be shown.
    fn invalid_secret(&mut self, path: &str, detail: &str) {
        self.0.push(format!("{path}: Invalid value: <secret contents redacted>: {detail}"));
    }

    fn required(&mut self, path: &str, detail: &str) {
        self.0.push(format!("{path}: Required value: {detail}"));
    }

    fn finish(self) -> Result<(), ConfigError> {
        match self.0.as_slice() {
            [] => Ok(()),
            [one] => Err(wrong(one.clone())),
            all => Err(wrong(format!("[{}]", all.join(", ")))),
        }
    }
}

/// Validates the documents of an init.
pub fn init(node: &InitConfiguration, cluster: &ClusterConfiguration) -> Result<(), ConfigError> {
    let mut errors = Errors::default();
    registration(&node.node_registration, &mut errors);
    for (index, token) in node.bootstrap_tokens.iter().enumerate() {
        let path = format!("bootstrapTokens.{index}");
        if !is_token(&token.token) {
            errors.invalid_secret(&format!("{path}.token"), "the bootstrap token is invalid");
        }
        for usage in token.usages.iter().filter(|usage| !["signing", "authentication"].contains(&usage.as_str())) {
            errors.invalid(
                &format!("{path}.usages"),
                &token.usages,
                format!("invalid bootstrap token usage string: {usage}, valid usage options: authentication, signing"),
            );
        }
        for group in token.groups.iter().filter(|group| !is_bootstrap_group(group)) {
            errors.invalid(
                &format!("{path}.groups"),
                &token.groups,
                format!("bootstrap group {group:?} is invalid (must match \\Asystem:bootstrappers:[a-z0-9:-]{{0,255}}[a-z0-9]\\z)"),
            );
        }
        if token.ttl.is_some() && token.expires.is_some() {
            errors.invalid(&path, "", "the BootstrapToken .TTL and .Expires fields are mutually exclusive");
        }
    }
    self::cluster(cluster, &mut errors);
    endpoint(&node.local_api_endpoint, "localAPIEndpoint", &mut errors);
    certificate_key(&node.certificate_key, "certificateKey", &mut errors);
    errors.finish()
}

/// Validates the document of a join.
pub fn join(node: &JoinConfiguration) -> Result<(), ConfigError> {
    let mut errors = Errors::default();
    discovery(&node.discovery, &mut errors);
    registration(&node.node_registration, &mut errors);
    if let Some(control_plane) = &node.control_plane {
        endpoint(&control_plane.local_api_endpoint, "controlPlane.localAPIEndpoint", &mut errors);
        certificate_key(&control_plane.certificate_key, "controlPlane.certificateKey", &mut errors);
    }
    let path = &node.ca_cert_path;
    if !path.starts_with('/') || std::path::Path::new(path).extension().is_none_or(|extension| extension != "crt") {
        errors.invalid("caCertPath", path, "the ca certificate path must be an absolute path");
    }
    errors.finish()
}

fn discovery(discovery: &Discovery, errors: &mut Errors) {
    match (&discovery.bootstrap_token, &discovery.file) {
        (None, None) => errors.invalid("discovery", "", "bootstrapToken or file must be set"),
        (Some(_), Some(_)) => errors.invalid("discovery", "", "bootstrapToken and file cannot both be set"),
        _ => {}
    }
    if let Some(token) = &discovery.bootstrap_token {
        let path = "discovery.bootstrapToken";
        if token.api_server_endpoint.is_empty() {
            errors.required(path, "APIServerEndpoint is not set");
        }
        if token.ca_cert_hashes.is_empty() && !token.unsafe_skip_ca_verification {
            errors.invalid(
                &format!("{path}.caCertHashes"),
                "",
                "using token-based discovery without caCertHashes can be unsafe. Set unsafeSkipCAVerification as true \
                 in your kubeadm config file or pass --discovery-token-unsafe-skip-ca-verification flag to continue",
            );
        }
        if !is_token(&token.token) {
            errors.invalid_secret(&format!("{path}.token"), "the bootstrap token is invalid");
        }
        let endpoint = &token.api_server_endpoint;
        if host_port(endpoint).is_none_or(|(_, port)| port.is_none()) {
            let detail = format!("address {endpoint}: missing port in address");
            errors.invalid(&format!("{path}.apiServerEndpoint"), endpoint, detail);
        }
    }
    if !discovery.tls_bootstrap_token.is_empty() && !is_token(&discovery.tls_bootstrap_token) {
        errors.invalid_secret("discovery.tlsBootstrapToken", "the bootstrap token is invalid");
    }
}

fn cluster(cluster: &ClusterConfiguration, errors: &mut Errors) {
    let networking = &cluster.networking;
    if !is_subdomain(&networking.dns_domain) {
        errors.invalid("networking.dnsDomain", &networking.dns_domain, NOT_A_SUBDOMAIN);
    }
    for (path, text, least) in [
        ("networking.serviceSubnet", &networking.service_subnet, SERVICE_ADDRESSES),
        ("networking.podSubnet", &networking.pod_subnet, POD_ADDRESSES),
    ] {
        subnets(cluster, path, text, least, errors);
    }
    names(&cluster.api_server.cert_sans, "apiServer.certSANs", errors);
    for (path, arguments) in [
        ("apiServer.extraArgs", &cluster.api_server.extra_args),
        ("controllerManager.extraArgs", &cluster.controller_manager.extra_args),
        ("scheduler.extraArgs", &cluster.scheduler.extra_args),
    ] {
        extra_arguments(arguments, path, errors);
    }
    if !cluster.certificates_dir.starts_with('/') {
        errors.invalid("certificatesDir", &cluster.certificates_dir, "path is not absolute");
    }
    for gate in cluster.feature_gates.keys().filter(|gate| !FEATURE_GATES.contains(&gate.as_str())) {
        errors.invalid("featureGates", &cluster.feature_gates, format!("{gate} is not a valid feature name."));
    }
    if !cluster.control_plane_endpoint.is_empty() && host_port(&cluster.control_plane_endpoint).is_none() {
        errors.invalid("controlPlaneEndpoint", &cluster.control_plane_endpoint, "endpoint is not valid");
    }
    match (&cluster.etcd.local, &cluster.etcd.external) {
        (Some(_), Some(_)) => {
            errors.invalid("etcd", "", ".Etcd.Local and .Etcd.External are mutually exclusive");
        }
        (Some(local), None) => {
            if !local.data_dir.starts_with('/') {
                errors.invalid("etcd.local.dataDir", &local.data_dir, "path is not absolute");
            }
            names(&local.server_cert_sans, "etcd.local.serverCertSANs", errors);
            names(&local.peer_cert_sans, "etcd.local.peerCertSANs", errors);
            extra_arguments(&local.extra_args, "etcd.local.extraArgs", errors);
        }
        _ => {}
    }
    if !ALGORITHMS.contains(&cluster.encryption_algorithm.as_str()) {
        let detail = format!(
            "Invalid encryption algorithm {:?}. Must be one of [{}]",
            cluster.encryption_algorithm,
            ALGORITHMS.join(" ")
        );
        errors.invalid("encryptionAlgorithm", &cluster.encryption_algorithm, detail);
    }
}

fn subnets(cluster: &ClusterConfiguration, path: &str, text: &str, least: u128, errors: &mut Errors) {
    if text.is_empty() {
        return;
    }
    let Some(ranges) = text.split(',').map(Cidr::parse).collect::<Option<Vec<_>>>() else {
        errors.invalid(path, text, "couldn't parse subnet");
        return;
    };
    let is_one_per_family = match ranges.as_slice() {
        [_] => true,
        [one, two] => one.is_ipv4() != two.is_ipv4(),
        _ => false,
    };
    if !is_one_per_family {
        errors.invalid(
            path,
            text,
            "expected one (IPv4 or IPv6) CIDR or two CIDRs from each family for dual-stack networking",
        );
    }
    for range in &ranges {
        if range.size() < least {
            let detail = format!("subnet with {} address(es) is too small, the minimum is {least}", range.size());
            errors.invalid(path, range.to_string(), detail);
        }
        if path.ends_with("serviceSubnet") && range.bits() - range.prefix() > SERVICE_BITS {
            let detail = format!(
                "specified service subnet is too large; for {}-bit addresses, the mask must be >= {}",
                range.bits(),
                range.bits() - SERVICE_BITS
            );
            errors.invalid(path, range.to_string(), detail);
        }
        if path.ends_with("podSubnet") {
            let mask = node_mask(cluster, range);
            if range.prefix() > mask {
                let detail = format!(
                    "the size of pod subnet with mask {} is smaller than the size of node subnet with mask {mask}",
                    range.prefix()
                );
                errors.invalid(path, range.to_string(), detail);
            } else if mask - range.prefix() > NODE_MASK_SPREAD {
                let detail = format!(
                    "pod subnet mask ({}) and node-mask ({mask}) difference is greater than {NODE_MASK_SPREAD}",
                    range.prefix()
                );
                errors.invalid(path, range.to_string(), detail);
            }
        }
    }
}

/// The mask of one node's part of the pods' range.
fn node_mask(cluster: &ClusterConfiguration, range: &Cidr) -> u8 {
    let (flag, default) =
        if range.is_ipv4() { ("node-cidr-mask-size-ipv4", 24) } else { ("node-cidr-mask-size-ipv6", 64) };
    let given = cluster.controller_manager.extra_args.iter().rev().find(|argument| argument.name == flag);
    given.and_then(|argument| argument.value.parse().ok()).unwrap_or(default)
}

fn names(names: &[String], path: &str, errors: &mut Errors) {
    for name in names {
        let is_name = is_subdomain(name) || name.strip_prefix("*.").is_some_and(is_subdomain);
        if !is_name && name.parse::<IpAddr>().is_err() {
            let detail = "altname is not a valid IP address, DNS label or a DNS label with subdomain wildcards";
            errors.invalid(path, name, detail);
        }
    }
}

fn extra_arguments(arguments: &[Arg], path: &str, errors: &mut Errors) {
    if arguments.iter().any(|argument| argument.name.is_empty()) {
        errors.invalid(path, "", "argument has an empty name");
    }
}

fn registration(node: &NodeRegistration, errors: &mut Errors) {
    if !is_subdomain(&node.name) {
        errors.invalid("nodeRegistration.name", &node.name, NOT_A_SUBDOMAIN);
    }
    extra_arguments(&node.kubelet_extra_args, "nodeRegistration.kubeletExtraArgs", errors);
    if !["Always", "IfNotPresent", "Never"].contains(&node.image_pull_policy.as_str()) {
        let detail = "invalid image pull policy";
        errors.invalid("nodeRegistration.imagePullPolicy", &node.image_pull_policy, detail);
    }
}

fn endpoint(endpoint: &ApiEndpoint, path: &str, errors: &mut Errors) {
    if endpoint.advertise_address.parse::<IpAddr>().is_err() {
        errors.invalid(&format!("{path}.advertiseAddress"), &endpoint.advertise_address, "ip address is not valid");
    }
    if !(1..=65535).contains(&endpoint.bind_port) {
        errors.invalid(&format!("{path}.bindPort"), endpoint.bind_port, "port number is not valid");
    }
}

fn certificate_key(key: &str, path: &str, errors: &mut Errors) {
    if !key.is_empty() && !hex::decode(key).is_ok_and(|bytes| bytes.len() == 32) {
        errors.invalid_secret(path, "certificate key decoding error: it must be an AES key of size 32, in hex");
    }
}

const NOT_A_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
     or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// RFC 1123, lower case, at most 253 characters.
fn is_subdomain(name: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let (first, last) = (label.bytes().next(), label.bytes().last());
        first.is_some_and(plain) && last.is_some_and(plain) && label.bytes().all(|byte| plain(byte) || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`
pub fn is_token(token: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    token.split_once('.').is_some_and(|(id, secret)| id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret))
}

fn is_bootstrap_group(group: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    group.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
        rest.len() <= 256
            && rest.bytes().all(|byte| plain(byte) || byte == b':' || byte == b'-')
            && rest.bytes().last().is_some_and(plain)
    })
}

/// Host and port of an endpoint that may lack the port; none where it is neither an address nor a name.
pub fn host_port(endpoint: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match endpoint.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
            (host, port)
        }
        None if endpoint.matches(':').count() > 1 => (endpoint, None),
        None => endpoint.split_once(':').map_or((endpoint, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => None,
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0)?),
    };
    (host.parse::<IpAddr>().is_ok() || is_subdomain(&host.to_ascii_lowercase())).then_some((host, port))
}
