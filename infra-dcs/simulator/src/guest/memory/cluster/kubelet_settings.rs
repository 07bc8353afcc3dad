//! What kubelet reads when it starts, and what keeps it from starting.

use std::{collections::BTreeMap, net::IpAddr, sync::LazyLock};

use serde_json::Value;

use crate::guest::memory::kubeadm::{
    config::{
        self,
        types::{Arg, Taint},
    },
    files::Files,
    kubelet as written, manifests,
    pki::{self, Certificate},
};

/// Names of kubelet 1.36's flags, one a line.
static FLAGS: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("flags/kubelet.txt").lines().collect());

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
    /// Address it was told to use.
    pub node_ip: Option<IpAddr>,
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
    /// Reads what kubeadm wrote. The error is what kubelet says before it exits.
    pub fn read(files: &dyn Files, hostname: &str) -> Result<Self, String> {
        let path = written::CONFIGURATION;
        let text = files.text(path).ok_or_else(|| {
            format!("failed to load kubelet config file, path: {path}, error: open {path}: no such file or directory")
        })?;
        let configuration = config::from_yaml(&text)
            .map_err(|error| format!("failed to load kubelet config file, path: {path}, error: {error}"))?;
        if configuration["kind"] != "KubeletConfiguration" {
            return Err(format!(
                "failed to load kubelet config file, path: {path}, error: it is no KubeletConfiguration"
            ));
        }
        let flags = written::flags(files);
        if let Some(flag) = flags.iter().find(|flag| !FLAGS.contains(&flag.name.as_str())) {
            return Err(format!("failed to parse kubelet flag: unknown flag: --{}", flag.name));
        }
        let value = |name: &str| manifests::argument(&flags, name);
        let static_pods = configuration["staticPodPath"].as_str().unwrap_or_default().to_owned();
        let node_ip = value("node-ip").filter(|text| !text.is_empty()).map(|text| {
            let first = text.split(',').next().unwrap_or_default();
            first.parse().map_err(|_| format!("bad --node-ip {text:?}: invalid IP address"))
        });
        Ok(Self {
            node: value("hostname-override").unwrap_or(hostname).trim().to_lowercase(),
            labels: labels(&flags)?,
            taints: taints(value("register-with-taints").unwrap_or_default(), &configuration)?,
            provider_id: value("provider-id").unwrap_or_default().to_owned(),
            node_ip: node_ip.transpose()?,
            serving: serving(files, &configuration, &flags)?,
            asks_for_serving: configuration["serverTLSBootstrap"] == true,
            static_pods,
            registers: value("register-node") != Some("false") && configuration["registerNode"] != false,
            max_pods: configuration["maxPods"].as_u64().filter(|count| *count > 0).unwrap_or(110),
        })
    }
}

fn labels(flags: &[Arg]) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::new();
    let given = flags.iter().filter(|flag| flag.name == "node-labels").flat_map(|flag| flag.value.split(','));
    for pair in given.map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            format!("invalid argument {pair:?} for \"--node-labels\" flag: malformed pair, expect string=string")
        })?;
        all.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    let is_foreign = |key: &str| {
        let Some((domain, _)) = key.split_once('/') else { return false };
        let ours = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
        let may = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
        (ours("kubernetes.io") || ours("k8s.io"))
            && !may("kubelet.kubernetes.io")
            && !may("node.kubernetes.io")
            && !OWN_LABELS.contains(&key)
    };
    let foreign: Vec<&str> = all.keys().map(String::as_str).filter(|key| is_foreign(key)).collect();
    if foreign.is_empty() {
        return Ok(all);
    }
    Err(format!(
        "failed to validate kubelet flags: unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: \
         [{}]\n--node-labels in the 'kubernetes.io' namespace must begin with an allowed prefix (kubelet.kubernetes.io, \
         node.kubernetes.io) or be in the specifically allowed set ({})",
        foreign.join(" "),
        OWN_LABELS.join(", ")
    ))
}

fn taints(flag: &str, configuration: &Value) -> Result<Vec<Taint>, String> {
    let mut all: Vec<Taint> = serde_json::from_value(configuration["registerWithTaints"].clone()).unwrap_or_default();
    for text in flag.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let (rest, effect) = text
            .rsplit_once(':')
            .filter(|(_, effect)| ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(effect))
            .ok_or_else(|| {
                format!("invalid argument {flag:?} for \"--register-with-taints\" flag: invalid taint spec: {text}")
            })?;
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        all.push(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned(), time_added: None });
    }
    Ok(all)
}

/// The certificate with which kubelet serves, and the authorities of its clients.
fn serving(files: &dyn Files, configuration: &Value, flags: &[Arg]) -> Result<Option<Certificate>, String> {
    let path = |field: &str, flag: &str| {
        let given = manifests::argument(flags, flag).or_else(|| configuration[field].as_str());
        given.filter(|path| !path.is_empty()).map(str::to_owned)
    };
    let authority = configuration.pointer("/authentication/x509/clientCAFile").and_then(Value::as_str);
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
        let asks = configuration["serverTLSBootstrap"] == true;
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
        Files::write(&mut files, written::FLAGS, 0o644, format!("{}={flags:?}\n", written::VARIABLE).as_bytes());
        KubeletSettings::read(&files, "Host")
    }

    #[test]
    fn flags_become_the_nodes_properties() {
        let flags = "--node-labels=a=b,node.kubernetes.io/x=y --register-with-taints=k=v:NoSchedule --provider-id=dcs://m \
                     --protect-kernel-defaults=true --node-ip=127.0.0.7";
        let settings = read(flags, "").unwrap();
        assert_eq!((settings.node.as_str(), settings.provider_id.as_str()), ("host", "dcs://m"));
        assert_eq!(settings.labels["node.kubernetes.io/x"], "y");
        assert_eq!(settings.taints[0].flag(), "k=v:NoSchedule");
        assert_eq!(settings.node_ip, Some([127, 0, 0, 7].into()));
        assert_eq!(settings.static_pods, "/m");
    }

    #[test]
    fn kubelet_exits_at_what_it_does_not_accept() {
        assert_eq!(read("--what=1", "").unwrap_err(), "failed to parse kubelet flag: unknown flag: --what");
        assert!(
            read("--node-labels=node-role.kubernetes.io/worker=", "")
                .unwrap_err()
                .contains("[node-role.kubernetes.io/worker]")
        );
        assert!(read("--node-ip=NODE_IP", "").unwrap_err().contains("bad --node-ip"));
        let missing = "tlsCertFile: /k.crt\ntlsPrivateKeyFile: /k.key\n";
        assert!(read("", missing).unwrap_err().contains("open /k.crt: no such file or directory"));
    }
}
