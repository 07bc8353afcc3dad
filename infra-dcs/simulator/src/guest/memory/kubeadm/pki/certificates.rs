//! The phase `certs`: the certificates of a control plane machine, with kubeadm's names and its checks of what is there.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use super::{Authority, Certificate, KeyStore, Leaf, load_certificate, load_key};
use crate::guest::memory::kubeadm::{
    cidr::Cidr,
    config::types::{ApiEndpoint, ClusterConfiguration},
    files::Files,
};

/// Authorities by the base name of their files, and the leaves of each.
const AUTHORITIES: [(&str, &str, &[Kind]); 3] = [
    ("ca", "ca", &[Kind::ApiServer, Kind::KubeletClient]),
    ("front-proxy-ca", "front-proxy-ca", &[Kind::FrontProxyClient]),
    ("etcd/ca", "etcd-ca", &[Kind::EtcdServer, Kind::EtcdPeer, Kind::EtcdHealthcheck, Kind::EtcdClient]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ApiServer,
    KubeletClient,
    FrontProxyClient,
    EtcdServer,
    EtcdPeer,
    EtcdHealthcheck,
    EtcdClient,
}

impl Kind {
    /// Name of its phase and base name of its files.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ApiServer => ("apiserver", "apiserver"),
            Self::KubeletClient => ("apiserver-kubelet-client", "apiserver-kubelet-client"),
            Self::FrontProxyClient => ("front-proxy-client", "front-proxy-client"),
            Self::EtcdServer => ("etcd-server", "etcd/server"),
            Self::EtcdPeer => ("etcd-peer", "etcd/peer"),
            Self::EtcdHealthcheck => ("etcd-healthcheck-client", "etcd/healthcheck-client"),
            Self::EtcdClient => ("apiserver-etcd-client", "apiserver-etcd-client"),
        }
    }

    fn common_name(self, node: &str) -> &str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::KubeletClient => "kube-apiserver-kubelet-client",
            Self::FrontProxyClient => "front-proxy-client",
            Self::EtcdServer | Self::EtcdPeer => node,
            Self::EtcdHealthcheck => "kube-etcd-healthcheck-client",
            Self::EtcdClient => "kube-apiserver-etcd-client",
        }
    }

    fn is_server(self) -> bool {
        matches!(self, Self::ApiServer | Self::EtcdServer | Self::EtcdPeer)
    }
}

/// What certificates are made of.
pub struct Request<'a> {
    /// The cluster.
    pub cluster: &'a ClusterConfiguration,
    /// Name of the node.
    pub node: &'a str,
    /// Where this machine's API server listens.
    pub endpoint: &'a ApiEndpoint,
    /// The machine's clock.
    pub now: Timestamp,
    /// Keys.
    pub keys: &'a KeyStore,
}

/// A step of the phase that failed: its name below `certs/` and why.
pub type Failure = (&'static str, String);

/// Makes what is missing and checks what is there.
pub fn run(files: &mut dyn Files, request: &Request<'_>, print: &mut dyn FnMut(String)) -> Result<(), Failure> {
    let directory = request.cluster.certificates_dir.as_str();
    print(format!("[certs] Using certificateDir folder {directory:?}"));
    for (base, name, leaves) in AUTHORITIES {
        let authority = authority(files, request, base, name, print)?;
        for leaf in leaves {
            self::leaf(files, request, base, authority.as_ref(), *leaf, print)?;
        }
    }
    service_account(files, request, print).map_err(|why| ("sa", why))
}

/// Finds or makes an authority; none where its key is kept elsewhere.
fn authority(
    files: &mut dyn Files,
    request: &Request<'_>,
    base: &'static str,
    name: &'static str,
    print: &mut dyn FnMut(String),
) -> Result<Option<(Certificate, rcgen::KeyPair)>, Failure> {
    let directory = &request.cluster.certificates_dir;
    let (crt, key) = (format!("{directory}/{base}.crt"), format!("{directory}/{base}.key"));
    let fail = |why: String| (name, why);
    match (files.is_file(&crt), files.is_file(&key)) {
        (true, has_key) => {
            let certificate = load_certificate(files, &crt)
                .map_err(|why| fail(format!("failure loading {base} certificate: {why}")))?;
            warn_of_period(base, &certificate, request.now, print);
            if !certificate.is_ca {
                return Err(fail(format!("certificate {base} is not a CA")));
            }
            if !has_key {
                print(format!("[certs] Using existing {base} keyless certificate authority"));
                return Ok(None);
            }
            print(format!("[certs] Using existing {base} certificate authority"));
            let key = load_key(files, &key)
                .map_err(|why| fail(format!("failure loading {base} certificate authority: {why}")))?;
            Ok(Some((certificate, key)))
        }
        (false, true) => {
            let why = load_certificate(files, &crt).err().unwrap_or_default();
            Err(fail(format!("failure loading {base} certificate: {why}")))
        }
        (false, false) => {
            let made = new_authority(request, base).map_err(fail)?;
            print(format!("[certs] Generating {base:?} certificate and key"));
            files.write(&key, 0o600, made.2.as_bytes());
            files.write(&crt, 0o644, made.1.as_bytes());
            Ok(Some((made.0, made.3)))
        }
    }
}

fn new_authority(request: &Request<'_>, base: &str) -> Result<(Certificate, String, String, rcgen::KeyPair), String> {
    let name = match base {
        "ca" => "kubernetes",
        "etcd/ca" => "etcd-ca",
        other => other,
    };
    // Never from the stock: an authority identifies its cluster.
    let key = request.cluster.encryption_algorithm.parse::<super::Algorithm>()?.generate()?;
    let life = request.cluster.ca_certificate_validity_period.unwrap_or_default();
    let mut params =
        Leaf { dns: vec![name.to_owned()], client: false, ..Leaf::client(name, &[], after(request.now, life)) }
            .params(request.now.checked_sub(SignedDuration::from_mins(5)).unwrap_or(request.now))
            .map_err(|error| error.to_string())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages.push(rcgen::KeyUsagePurpose::KeyCertSign);
    let made =
        params.self_signed(&key).map_err(|error| format!("unable to create self-signed CA certificate: {error}"))?;
    Ok((Certificate::from_der(made.der())?, made.pem(), key.serialize_pem(), key))
}

fn leaf(
    files: &mut dyn Files,
    request: &Request<'_>,
    authority_base: &str,
    authority: Option<&(Certificate, rcgen::KeyPair)>,
    kind: Kind,
    print: &mut dyn FnMut(String),
) -> Result<(), Failure> {
    let directory = &request.cluster.certificates_dir;
    let (phase, base) = kind.names();
    let (crt, key_file) = (format!("{directory}/{base}.crt"), format!("{directory}/{base}.key"));
    let fail = |why: String| (phase, why);
    if files.is_file(&crt) {
        let found =
            load_certificate(files, &crt).map_err(|why| fail(format!("failure loading {base} certificate: {why}")))?;
        let issuer = load_certificate(files, &format!("{directory}/{authority_base}.crt"))
            .map_err(|why| fail(format!("couldn't load CA certificate {authority_base}: {why}")))?;
        warn_of_period(base, &found, request.now, print);
        if !found.is_signed_by(&issuer) {
            return Err(fail(format!("[certs] certificate {base} not signed by CA certificate {authority_base}")));
        }
        load_key(files, &key_file).map_err(|why| fail(format!("failure loading {base} key: {why}")))?;
        print(format!("[certs] Using existing {base} certificate and key on disk"));
        return Ok(());
    }
    let Some((certificate, key)) = authority else {
        return Err(fail(format!("couldn't load {authority_base} certificate authority from {directory}")));
    };
    let (dns, addresses) = alternative_names(kind, request)
        .map_err(|why| fail(format!("couldn't create {phase:?} certificate: {why}")))?;
    let life = request.cluster.certificate_validity_period.unwrap_or_default();
    let wanted = Leaf {
        dns,
        addresses,
        server: kind.is_server(),
        client: kind != Kind::ApiServer,
        ..Leaf::client(kind.common_name(request.node), &[], after(request.now, life))
    };
    let mut issue = || -> Result<(), String> {
        let leaf_key = request.keys.take(request.cluster.encryption_algorithm.parse()?)?;
        let copy = rcgen::KeyPair::from_pem(&key.serialize_pem()).map_err(|error| error.to_string())?;
        let pem = Authority::new(certificate.clone(), copy)?.issue(&wanted, &leaf_key.pair)?;
        files.write(&key_file, 0o600, leaf_key.pem.as_bytes());
        files.write(&crt, 0o644, pem.as_bytes());
        Ok(())
    };
    issue().map_err(fail)?;
    print(format!("[certs] Generating {base:?} certificate and key"));
    if kind.is_server() {
        let addresses: Vec<String> = wanted.addresses.iter().map(ToString::to_string).collect();
        print(format!(
            "[certs] {base} serving cert is signed for DNS names [{}] and IPs [{}]",
            wanted.dns.join(" "),
            addresses.join(" ")
        ));
    }
    Ok(())
}

fn alternative_names(kind: Kind, request: &Request<'_>) -> Result<(Vec<String>, Vec<IpAddr>), String> {
    let cluster = request.cluster;
    let advertised = &request.endpoint.advertise_address;
    let advertised: IpAddr = advertised.parse().map_err(|_| {
        format!("error parsing LocalAPIEndpoint AdvertiseAddress {advertised}: is not a valid textual representation of an IP address")
    })?;
    let (mut dns, mut addresses): (Vec<String>, Vec<IpAddr>) = (vec![request.node.to_owned()], Vec::new());
    let local = cluster.etcd.local.as_ref();
    let more = match kind {
        Kind::ApiServer => {
            dns.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned));
            if !cluster.networking.dns_domain.is_empty() {
                dns.push(format!("kubernetes.default.svc.{}", cluster.networking.dns_domain));
            }
            addresses.push(service_address(cluster, 1)?);
            addresses.push(advertised);
            if !cluster.control_plane_endpoint.is_empty() {
                let (host, _) = super::super::config::host_port(&cluster.control_plane_endpoint).ok_or_else(|| {
                    format!("error parsing cluster controlPlaneEndpoint {:?}", cluster.control_plane_endpoint)
                })?;
                add_name(host, &mut dns, &mut addresses);
            }
            cluster.api_server.cert_sans.as_slice()
        }
        Kind::EtcdServer | Kind::EtcdPeer => {
            dns.push("localhost".to_owned());
            addresses.extend([advertised, [127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()]);
            match kind {
                Kind::EtcdServer => local.map_or(&[][..], |etcd| etcd.server_cert_sans.as_slice()),
                _ => local.map_or(&[][..], |etcd| etcd.peer_cert_sans.as_slice()),
            }
        }
        _ => return Ok((Vec::new(), Vec::new())),
    };
    for name in more {
        add_name(name, &mut dns, &mut addresses);
    }
    let mut seen = std::collections::HashSet::new();
    dns.retain(|name| seen.insert(name.clone()));
    let mut seen = std::collections::HashSet::new();
    addresses.retain(|address| seen.insert(*address));
    Ok((dns, addresses))
}

fn add_name(name: &str, dns: &mut Vec<String>, addresses: &mut Vec<IpAddr>) {
    match name.parse() {
        Ok(address) => addresses.push(address),
        Err(_) => dns.push(name.to_owned()),
    }
}

/// The n-th address of the services' first range.
pub fn service_address(cluster: &ClusterConfiguration, index: u128) -> Result<IpAddr, String> {
    let subnet = &cluster.networking.service_subnet;
    let first = subnet.split(',').next().and_then(Cidr::parse).and_then(|range| range.address(index));
    first.ok_or_else(|| format!("unable to get IP address {index} from the given CIDR: {subnet}"))
}

fn service_account(files: &mut dyn Files, request: &Request<'_>, print: &mut dyn FnMut(String)) -> Result<(), String> {
    let directory = &request.cluster.certificates_dir;
    let (key_file, public) = (format!("{directory}/sa.key"), format!("{directory}/sa.pub"));
    if files.is_file(&key_file) {
        let key = load_key(files, &key_file)
            .map_err(|why| format!("file {key_file} existed but it could not be loaded properly: {why}"))?;
        print("[certs] Using the existing \"sa\" key".to_owned());
        if !files.is_file(&public) {
            files.write(&public, 0o600, key.public_key_pem().as_bytes());
        }
        return Ok(());
    }
    print("[certs] Generating \"sa\" key and public key".to_owned());
    let key = request.keys.take(request.cluster.encryption_algorithm.parse()?)?;
    files.write(&key_file, 0o600, key.pem.as_bytes());
    files.write(&public, 0o600, key.pair.public_key_pem().as_bytes());
    Ok(())
}

/// What a machine must have before it joins a control plane: the authorities and the service accounts' keys.
pub fn shared(files: &dyn Files, request: &Request<'_>, print: &mut dyn FnMut(String)) -> Result<(), String> {
    let directory = &request.cluster.certificates_dir;
    let mut errors = Vec::new();
    for (base, name) in [("ca", "CA"), ("front-proxy-ca", "front-proxy CA"), ("etcd/ca", "etcd CA")] {
        match load_certificate(files, &format!("{directory}/{base}.crt")) {
            Err(why) => errors.push(format!("failure loading certificate for {name}: {why}")),
            Ok(certificate) if !certificate.is_ca => errors.push(format!("certificate {name} is not a CA")),
            Ok(certificate) => {
                warn_of_period(name, &certificate, request.now, print);
                if let Err(why) = load_key(files, &format!("{directory}/{base}.key")) {
                    print(format!("W assuming external key for {name}: {why}"));
                }
            }
        }
    }
    let public = format!("{directory}/sa.pub");
    if let Err(why) = load_key(files, &format!("{directory}/sa.key")) {
        errors.push(format!("failure loading key for service account: {why}"));
    } else if !files.text(&public).is_some_and(|text| text.contains("-----BEGIN")) {
        errors.push(format!(
            "failure loading key for service account: couldn't load the public key file {public}: error reading public \
             key file {public}: open {public}: no such file or directory"
        ));
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        all => Err(format!("[{}]", all.join(", "))),
    }
}

fn warn_of_period(base: &str, certificate: &Certificate, now: Timestamp, print: &mut dyn FnMut(String)) {
    if let Some(why) = certificate.period_warning(now) {
        print(format!("W WARNING: could not validate bounds for certificate {base}: {why}"));
    }
}

/// A moment later by this.
pub fn after(now: Timestamp, life: std::time::Duration) -> Timestamp {
    SignedDuration::try_from(life).ok().and_then(|life| now.checked_add(life).ok()).unwrap_or(now)
}
