//! What kubelet reads when it starts, and what keeps it from starting.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::Value;

use super::flags;
use crate::guest::memory::{
    document::cloud_config::is_host_name,
    kubeadm::{
        config::{
            self,
            types::{Arg, Taint},
        },
        files::Files,
        kubelet as written, manifests,
        pki::{self, Certificate},
    },
};

/// Where kubelet has its credentials; flags that name other places are refused.
pub const KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
const PLACES: [(&str, &str); 4] = [
    ("bootstrap-kubeconfig", "/etc/kubernetes/bootstrap-kubelet.conf"),
    ("cert-dir", "/var/lib/kubelet/pki"),
    ("kubeconfig", KUBECONFIG),
    ("root-dir", written::DIRECTORY),
];
/// The taint of nodes that a cloud provider has not looked at yet.
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// Where kubelet serves unless it is told otherwise.
const PORT: u16 = 10250;

/// Where kubelet keeps a serving certificate that the cluster signed, and its key.
pub const SERVING: &str = "/var/lib/kubelet/pki/kubelet-server-current.pem";

/// Labels in Kubernetes' own name spaces that a node may give itself.
const OWN_LABELS: [&str; 13] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "kubernetes.io/role",
];

/// kubelet's settings, as far as others see them.
#[derive(Clone, Debug, Default)]
pub struct KubeletSettings {
    /// Name of the node.
    pub node: String,
    /// Labels of its own.
    pub labels: BTreeMap<String, String>,
    /// Taints that it registers with.
    pub taints: Vec<Taint>,
    /// `spec.providerID`
    pub provider_id: String,
    /// Addresses it was told to use: one, or one of each family.
    pub node_ips: Vec<IpAddr>,
    /// Whether a cloud provider outside of it looks after its node.
    pub has_cloud: bool,
    /// Where it serves.
    pub port: u16,
    /// Where its static pods lie.
    pub static_pods: String,
    /// Its serving certificate, where one was given; otherwise it signs its own.
    pub serving: Option<Certificate>,
    /// Whether it asks the cluster for its serving certificate (`serverTLSBootstrap`).
    pub asks_for_serving: bool,
    /// Whether it registers its node at all.
    pub registers: bool,
    /// Most pods on the node.
    pub max_pods: u64,
}

impl KubeletSettings {
    /// Reads what kubelet is started with: the arguments of its command line, and the configuration that they name. The
    /// error is what kubelet says before it exits.
    pub fn read(files: &dyn Files, arguments: &[String], hostname: &str) -> Result<Self, String> {
        let flags = parse(arguments)?;
        let value = |name: &str| manifests::argument(&flags, name);
        let configuration = configuration(files, value("config").unwrap_or(written::CONFIGURATION))?;
        // A flag wins over the configuration.
        let is_on = |flag: &str, field: &str| value(flag).map_or(configuration[field] == true, |text| text == "true");
        let is_off =
            |flag: &str, field: &str| value(flag).map_or(configuration[field] == false, |text| text == "false");
        let number = |flag: &str, field: &str| {
            value(flag).and_then(|text| text.parse().ok()).or_else(|| configuration[field].as_u64())
        };
        let has_cloud = value("cloud-provider") == Some("external");
        let static_pods = value("pod-manifest-path").or_else(|| configuration["staticPodPath"].as_str());
        let asks_for_serving = is_on("rotate-server-certificates", "serverTLSBootstrap");
        Ok(Self {
            node: node_name(value("hostname-override"), hostname)?,
            labels: labels(&flags)?,
            taints: taints(value("register-with-taints"), &configuration, has_cloud),
            provider_id: value("provider-id")
                .or_else(|| configuration["providerID"].as_str())
                .unwrap_or_default()
                .to_owned(),
            node_ips: node_ips(value("node-ip").unwrap_or_default())?,
            has_cloud,
            port: number("port", "port")
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port > 0)
                .unwrap_or(PORT),
            serving: serving(files, &configuration, &flags, asks_for_serving)?,
            asks_for_serving,
            static_pods: static_pods.unwrap_or_default().to_owned(),
            registers: !is_off("register-node", "registerNode"),
            max_pods: number("max-pods", "maxPods").filter(|count| *count > 0).unwrap_or(110),
        })
    }

    /// The address that it tells of a machine that has this one on its default route.
    pub fn address(&self, routed: IpAddr) -> IpAddr {
        self.node_ips.first().copied().filter(|address| !address.is_unspecified()).unwrap_or(routed)
    }
}

/// The command line, which may name no other places than those that are played.
fn parse(arguments: &[String]) -> Result<Vec<Arg>, String> {
    let kubelet = flags::program("kubelet").ok_or("kubelet's flags are not known")?;
    let parsed = kubelet.parse(arguments.iter().map(String::as_str));
    let flags = parsed.map_err(|why| format!("failed to parse kubelet flag: {why}"))?;
    let place = |flag: &Arg| {
        PLACES.iter().find(|(name, place)| *name == flag.name && flag.value.trim_end_matches('/') != *place)
    };
    match flags.iter().find_map(place) {
        Some((name, place)) => {
            Err(format!("--{name} other than {place} is not modelled by memory guests; remove the flag"))
        }
        None => Ok(flags),
    }
}

fn configuration(files: &dyn Files, path: &str) -> Result<Value, String> {
    let why = |why: String| format!("failed to load kubelet config file, path: {path}, error: {why}");
    let text = files.text(path).ok_or_else(|| why(format!("open {path}: no such file or directory")))?;
    let configuration = config::from_yaml(&text).map_err(|error| why(error.to_string()))?;
    if configuration["kind"] == "KubeletConfiguration" {
        Ok(configuration)
    } else {
        Err(why("it is no KubeletConfiguration".to_owned()))
    }
}

fn node_name(given: Option<&str>, hostname: &str) -> Result<String, String> {
    let name = given.filter(|name| !name.is_empty()).unwrap_or(hostname).trim().to_lowercase();
    if name.is_empty() { Err("failed to run Kubelet: empty hostname is invalid".to_owned()) } else { Ok(name) }
}

fn node_ips(text: &str) -> Result<Vec<IpAddr>, String> {
    let wrong = |why: &str| format!("failed to run Kubelet: bad --node-ip {text:?}: {why}");
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let all: Vec<IpAddr> =
        parts.map(|part| part.parse().map_err(|_| wrong("invalid IP address"))).collect::<Result<_, _>>()?;
    match all.as_slice() {
        [] | [_] => Ok(all),
        [one, other] if one.is_ipv4() != other.is_ipv4() => {
            if all.iter().any(IpAddr::is_unspecified) {
                return Err(wrong("dual-stack node IP cannot include '0.0.0.0' or '::'"));
            }
            Ok(all)
        }
        _ => Err(wrong("must contain either a single IP or a dual-stack pair of IPs")),
    }
}

fn labels(flags: &[Arg]) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::new();
    let given = flags.iter().filter(|flag| flag.name == "node-labels").flat_map(|flag| flag.value.split(','));
    for (key, value) in given.filter_map(|pair| pair.split_once('=')) {
        all.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    let is_foreign = |key: &str| {
        let Some((domain, _)) = key.split_once('/') else { return false };
        let is_below = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
        (is_below("kubernetes.io") || is_below("k8s.io"))
            && !is_below("kubelet.kubernetes.io")
            && !is_below("node.kubernetes.io")
            && !OWN_LABELS.contains(&key)
    };
    let foreign: Vec<&str> = all.keys().map(String::as_str).filter(|key| is_foreign(key)).collect();
    if foreign.is_empty() {
        return match all.iter().find(|(key, value)| !is_label(key, value)) {
            Some((key, value)) => Err(format!(
                "failed to validate kubelet flags: invalid node labels: '{key}={value}': keys and values have at most 63 \
                 letters, digits, '-', '_' and '.', and begin and end with a letter or digit"
            )),
            None => Ok(all),
        };
    }
    Err(format!(
        "failed to validate kubelet flags: unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: \
         [{}]\n--node-labels in the 'kubernetes.io' namespace must begin with an allowed prefix (kubelet.kubernetes.io, \
         node.kubernetes.io) or be in the specifically allowed set ({})",
        foreign.join(" "),
        OWN_LABELS.join(", ")
    ))
}

/// Whether these may be a label: the key a name, after a domain or without one, the value a name or nothing.
fn is_label(key: &str, value: &str) -> bool {
    let is_name = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        text.len() <= 63 && text.bytes().all(inner) && is_end(text.bytes().next()) && is_end(text.bytes().last())
    };
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    is_name(name) && domain.is_none_or(is_host_name) && (value.is_empty() || is_name(value))
}

/// Taints of the flag, else those of the configuration; and that of a node that waits for its cloud provider.
fn taints(flag: Option<&str>, configuration: &Value, has_cloud: bool) -> Vec<Taint> {
    let taint = |key: &str, value: &str, effect: &str| Taint {
        key: key.to_owned(),
        value: value.to_owned(),
        effect: effect.to_owned(),
        time_added: None,
    };
    let mut all: Vec<Taint> = match flag {
        None => serde_json::from_value(configuration["registerWithTaints"].clone()).unwrap_or_default(),
        Some(text) => {
            let specs = text.split(',').filter_map(|spec| spec.trim().rsplit_once(':'));
            let read = specs.map(|(rest, effect)| {
                let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
                taint(key, value, effect)
            });
            read.collect()
        }
    };
    all.extend(has_cloud.then(|| taint(UNINITIALIZED, "true", "NoSchedule")));
    all
}

/// The certificate with which kubelet serves, and the authorities of its clients.
fn serving(files: &dyn Files, configuration: &Value, flags: &[Arg], asks: bool) -> Result<Option<Certificate>, String> {
    let path = |field: &str, flag: &str| {
        let given = manifests::argument(flags, flag).or_else(|| configuration[field].as_str());
        given.filter(|path| !path.is_empty()).map(str::to_owned)
    };
    let authority = manifests::argument(flags, "client-ca-file")
        .or_else(|| configuration.pointer("/authentication/x509/clientCAFile").and_then(Value::as_str));
    if let Some(path) = authority.filter(|path| !path.is_empty()) {
        let why = |why: String| {
            format!("failed to construct kubelet dependencies: unable to load client CA file {path}: {why}")
        };
        let text = files.read(path).ok_or_else(|| why(format!("open {path}: no such file or directory")))?;
        pki::certificates_of(&text).map_err(why)?;
    }
    let (Some(certificate), Some(key)) =
        (path("tlsCertFile", "tls-cert-file"), path("tlsPrivateKeyFile", "tls-private-key-file"))
    else {
        // What the cluster signed earlier.
        return Ok(if asks { pki::load_certificate(files, SERVING).ok() } else { None });
    };
    let why = |why: String| format!("failed to initialize kubelet server: {why}");
    let found = pki::load_certificate(files, &certificate).map_err(why)?;
    let loaded = pki::load_key(files, &key).map_err(why)?;
    if found.fits(&loaded) { Ok(Some(found)) } else { Err(why("tls: private key does not match public key".into())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::guest::memory::kubeadm::files;

    fn read(flags: &str, configuration: &str) -> Result<KubeletSettings, String> {
        let mut files = files::empty();
        let text = format!("kind: KubeletConfiguration\nstaticPodPath: /m\n{configuration}");
        Files::write(&mut files, written::CONFIGURATION, 0o644, text.as_bytes());
        let arguments: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
        KubeletSettings::read(&files, &arguments, "Host")
    }

    #[test]
    fn flags_become_the_nodes_properties() {
        let flags = "--node-labels=a=b,node.kubernetes.io/x=y --register-with-taints=k=v:NoSchedule --provider-id dcs://m \
                     --protect-kernel-defaults=true --node-ip=127.0.0.7,fd00::7 -v=2";
        let settings = read(flags, "").unwrap();
        assert_eq!((settings.node.as_str(), settings.provider_id.as_str()), ("host", "dcs://m"));
        assert_eq!(settings.labels["node.kubernetes.io/x"], "y");
        assert_eq!(settings.taints[0].flag(), "k=v:NoSchedule");
        assert_eq!(settings.address([127, 0, 0, 1].into()), IpAddr::from([127, 0, 0, 7]));
        assert_eq!((settings.static_pods.as_str(), settings.registers, settings.port), ("/m", true, 10250));
        assert!(!settings.has_cloud);
    }

    #[test]
    fn flags_win_over_the_configuration() {
        let configuration = "maxPods: 5\nregisterNode: true\nserverTLSBootstrap: true\nproviderID: dcs://c\n\
                             registerWithTaints: [{key: c, effect: NoSchedule}]\n";
        let given = read("", configuration).unwrap();
        assert_eq!(
            (given.max_pods, given.provider_id.as_str(), given.taints[0].flag()),
            (5, "dcs://c", "c:NoSchedule".into())
        );
        assert!(given.registers && given.asks_for_serving);
        let flags = "--max-pods=7 --register-node=0 --rotate-server-certificates=false --register-with-taints=f:NoExecute \
                     --pod-manifest-path=/p --hostname-override=Other --port=10260";
        let settings = read(flags, configuration).unwrap();
        assert_eq!((settings.max_pods, settings.port, settings.static_pods.as_str()), (7, 10260, "/p"));
        assert!(!settings.registers && !settings.asks_for_serving);
        assert_eq!((settings.node.as_str(), settings.taints.len()), ("other", 1));
    }

    #[test]
    fn a_node_of_a_cloud_waits_for_its_provider() {
        let settings = read("--cloud-provider=external", "").unwrap();
        assert_eq!(settings.taints[0].flag(), "node.cloudprovider.kubernetes.io/uninitialized=true:NoSchedule");
        assert!(settings.has_cloud);
    }

    #[test]
    fn kubelet_exits_at_what_it_does_not_accept() {
        for (flags, expected) in [
            ("--what=1", "failed to parse kubelet flag: unknown flag: --what"),
            ("stray", "failed to parse kubelet flag: unknown command stray"),
            (
                "--node-labels=a",
                "failed to parse kubelet flag: invalid argument \"a\" for \"--node-labels\" flag: malformed pair, expect \
                 string=string",
            ),
            (
                "--max-pods=x",
                "failed to parse kubelet flag: invalid argument \"x\" for \"--max-pods\" flag: strconv.ParseInt: parsing \
                 \"x\": invalid syntax",
            ),
            (
                "--register-with-taints=a=b:Foo",
                "failed to parse kubelet flag: invalid argument \"a=b:Foo\" for \"--register-with-taints\" flag: invalid \
                 taint effect: Foo, unsupported taint effect",
            ),
            ("--node-ip=NODE_IP", "failed to run Kubelet: bad --node-ip \"NODE_IP\": invalid IP address"),
            (
                "--node-ip=127.0.0.1,127.0.0.2",
                "failed to run Kubelet: bad --node-ip \"127.0.0.1,127.0.0.2\": must contain either a single IP or a \
                 dual-stack pair of IPs",
            ),
            (
                "--config=/etc/kubelet.yaml",
                "failed to load kubelet config file, path: /etc/kubelet.yaml, error: open /etc/kubelet.yaml: no such file \
                 or directory",
            ),
            (
                "--kubeconfig=/root/k",
                "--kubeconfig other than /etc/kubernetes/kubelet.conf is not modelled by memory guests; remove the flag",
            ),
        ] {
            assert_eq!(read(flags, "").unwrap_err(), expected);
        }
        for label in ["a=b!", "-a=b", "a/b/c=d", "a_b.c/x=y"] {
            let wrong = read(&format!("--node-labels={label}"), "").unwrap_err();
            assert!(wrong.starts_with("failed to validate kubelet flags: invalid node labels: '"), "{wrong}");
        }
        let foreign = read("--node-labels=node-role.kubernetes.io/worker=", "").unwrap_err();
        assert!(foreign.contains("[node-role.kubernetes.io/worker]"), "{foreign}");
        let missing = "tlsCertFile: /k.crt\ntlsPrivateKeyFile: /k.key\n";
        assert!(read("", missing).unwrap_err().contains("open /k.crt: no such file or directory"));
    }
}
