//! Ignition documents as a provider renders them, in short.

use jiff::Timestamp;
use kubeadm::{
    api::spec::EncryptionAlgorithm,
    pki::{self, Purpose},
};
use serde_json::{Value, json};

pub const TOKEN: &str = "abcdef.0123456789abcdef";

/// Files of a cluster's authorities, and the pin of the first.
pub struct Pki {
    files: Vec<(String, String)>,
    pub pin: String,
    pub authority: String,
}

impl Pki {
    pub fn new() -> Self {
        let mut files = Vec::new();
        let (mut pin, mut authority) = (String::new(), String::new());
        for purpose in Purpose::STACKED {
            let pair = pki::generate(purpose, EncryptionAlgorithm::EcdsaP256, None, Timestamp::now()).unwrap();
            let (certificate, key) = purpose.files().unwrap();
            files.push((format!("/etc/kubernetes/pki/{certificate}"), pair.certificate.clone()));
            files.push((format!("/etc/kubernetes/pki/{key}"), pair.key.to_string()));
            if purpose == Purpose::ClusterCa {
                pin = pki::pins(&pair.certificate).unwrap().remove(0);
                authority = pair.certificate;
            }
        }
        Self { files, pin, authority }
    }

    /// Certificate and key of an administrator, PEM.
    pub fn administrator(&self) -> String {
        let text = |path: &str| self.files.iter().find(|(known, _)| known.ends_with(path)).unwrap().1.clone();
        let ca = pki::Pair { certificate: text("/pki/ca.crt"), key: text("/pki/ca.key").into() };
        let leaf = pki::Leaf {
            name: "admin",
            organisations: &["system:masters"],
            dns: &[],
            addresses: &[],
            server: false,
            client: true,
        };
        let pair = pki::issue(&ca, &leaf, EncryptionAlgorithm::EcdsaP256, Timestamp::now()).unwrap();
        format!("{}{}", pair.certificate, *pair.key)
    }
}

fn file(path: &str, mode: u32, text: &str) -> Value {
    let mut source = "data:,".to_owned();
    text.bytes().for_each(|byte| source.push_str(&format!("%{byte:02x}")));
    json!({"path": path, "mode": mode, "overwrite": true, "contents": {"source": source}})
}

/// A machine of this name and address that runs kubeadm with a configuration.
pub fn machine(name: &str, address: &str, verb: &str, configuration: &str, pki: Option<&Pki>) -> Value {
    let profile = format!(
        "[connection]\nid=eth0\ntype=ethernet\ninterface-name=eth0\n[ipv4]\nmethod=manual\naddress1={address}/8\n[ipv6]\n\
         method=disabled\n"
    );
    let script = format!(
        "#!/bin/bash\nset -e\nkubeadm {verb} --config /etc/kubeadm.yml\nmkdir -p /run/cluster-api\necho success > \
         /run/cluster-api/bootstrap-success.complete\nmv /etc/kubeadm.yml /tmp/\n"
    );
    let unit = "[Unit]\nDescription=kubeadm\nAfter=containerd.service\nConditionPathExists=/etc/kubeadm.yml\n[Service]\n\
                Type=oneshot\nExecStart=/etc/kubeadm.sh\n[Install]\nWantedBy=multi-user.target\n";
    let mut files = vec![
        file("/etc/hostname", 0o644, &format!("{name}\n")),
        file("/etc/kubeadm.sh", 0o700, &script),
        file("/etc/kubeadm.yml", 0o600, configuration),
        file("/etc/NetworkManager/system-connections/eth0.nmconnection", 0o600, &profile),
    ];
    files.extend(pki.into_iter().flat_map(|pki| &pki.files).map(|(path, text)| file(path, 0o600, text)));
    json!({
        "ignition": {"version": "3.3.0"},
        "storage": {"files": files},
        "systemd": {"units": [{"name": "kubeadm.service", "enabled": true, "contents": unit}]},
    })
}

pub fn init(endpoint: &str) -> String {
    format!(
        "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nclusterName: c1\nkubernetesVersion: \
         v1.36.3\ncontrolPlaneEndpoint: {endpoint}\nencryptionAlgorithm: ECDSA-P256\nimageRepository: \
         registry.example/k8s\nnetworking:\n  podSubnet: 10.244.0.0/16\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: \
         InitConfiguration\nbootstrapTokens:\n- token: {TOKEN}\n"
    )
}

pub fn join(endpoint: &str, pki: &Pki, control_plane: bool) -> String {
    let more = if control_plane { "controlPlane: {}\n" } else { "" };
    format!(
        "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n{more}discovery:\n  bootstrapToken:\n    token: \
         {TOKEN}\n    apiServerEndpoint: {endpoint}\n    caCertHashes: ['{}']\n",
        pki.pin
    )
}
