//! What a machine reads at its first boot: the boot data of the bootstrap provider, completed with what only this
//! provider knows of the machine. Pure: the same input gives the same bytes.

mod cloud;
mod disks;
mod ignition;
mod network;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::api::machine::NetworkConfig;

pub use disks::{Disk, of_entry as disks_of_entry, of_template as disks_of_template};

/// Where the encryption configuration of the API server lies.
pub const ENCRYPTION_PATH: &str = "/etc/kubernetes/encryption-provider.conf";
/// The script that the documented `preKubeadmCommands` call.
pub const DISK_SETUP_PATH: &str = "/etc/disk-setup.sh";
const KUBELET_CERTIFICATE_PATH: &str = "/etc/kubernetes/pki/kubelet.crt";
const KUBELET_KEY_PATH: &str = "/etc/kubernetes/pki/kubelet.key";

/// Why boot data cannot be completed.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// An unknown format.
    #[error("invalid format, expected ignition or cloud-config, got {0}")]
    Format(String),
    /// The document cannot be read.
    #[error("boot data: {0}")]
    Document(#[from] ::ignition::ParseError),
    /// A placeholder could not be replaced.
    #[error("boot data: {0}")]
    Placeholder(#[from] ::ignition::PlaceholderError),
    /// A placeholder is left.
    #[error("boot data: {path} still holds the placeholder {token}")]
    PlaceholderLeft {
        /// Path of the file.
        path: String,
        /// The token.
        token: &'static str,
    },
    /// cloud-config that cannot be read.
    #[error("boot data: not a cloud-config document: {0}")]
    CloudConfig(String),
    /// The pool entry is no network configuration.
    #[error("pool entry {ip}: {reason}")]
    Network {
        /// Key of the entry.
        ip: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// It cannot be written.
    #[error("boot data cannot be written: {0}")]
    Write(#[from] serde_json::Error),
}

/// Format of boot data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Ignition, any version that the `ignition` crate reads.
    Ignition,
    /// cloud-config.
    CloudConfig,
}

impl Format {
    /// The format that a boot data Secret names; the contract's default is cloud-config.
    pub fn parse(name: Option<&str>) -> Result<Self, RenderError> {
        match name {
            Some("ignition") => Ok(Self::Ignition),
            Some("cloud-config") | None => Ok(Self::CloudConfig),
            Some(other) => Err(RenderError::Format(other.to_owned())),
        }
    }
}

/// Certificate and key of a kubelet's own server, in PEM.
#[derive(Clone)]
pub struct KubeletCertificate {
    /// Certificate.
    pub certificate: String,
    /// Key.
    pub key: Zeroizing<String>,
}

/// All that boot data is made from.
pub struct Input<'a> {
    /// Name of the `DCSMachine`.
    pub machine: &'a str,
    /// Identity of the VM instance: chosen anew for each VM.
    pub instance: &'a str,
    /// Host name of the guest.
    pub hostname: &'a str,
    /// The claimed pool entry.
    pub network: &'a NetworkConfig,
    /// Disks in the order of their sequence numbers, the system disk left out.
    pub disks: &'a [Disk],
    /// Certificate of the kubelet's own server; none when the cluster's authority is external.
    pub kubelet: Option<&'a KubeletCertificate>,
    /// Encryption configuration, on control plane machines.
    pub encryption: Option<&'a str>,
    /// Format of the boot data.
    pub format: Format,
    /// The boot data.
    pub value: &'a [u8],
}

/// What goes onto the boot medium.
#[derive(Clone)]
pub struct BootData {
    /// Its format.
    pub format: Format,
    /// The completed document.
    pub user_data: Vec<u8>,
    /// `meta_data.json` of a config drive; empty for Ignition.
    pub meta_data: Vec<u8>,
    /// `network_data.json` of a config drive; empty for Ignition.
    pub network_data: Vec<u8>,
}

/// A file added to the boot data.
struct Addition {
    path: &'static str,
    name: String,
    content: Vec<u8>,
    mode: u32,
    /// A file of this path in the boot data wins.
    yields: bool,
}

impl Addition {
    fn path(&self) -> String {
        format!("{}{}", self.path, self.name)
    }

    fn at(path: &'static str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self { path, name: String::new(), content: content.into(), mode, yields: false }
    }
}

/// Completes boot data for one machine.
pub fn render(input: &Input<'_>) -> Result<BootData, RenderError> {
    let nics = network::nics(input.network)?;
    let additions = additions(input, &nics);
    let provider_id = provider_id(input.machine);
    let ip = input.network.ip.clone().unwrap_or_default();
    let tokens: [(&'static str, &str); 2] = [("PROVIDER_ID", &provider_id), ("NODE_IP", &ip)];
    match input.format {
        Format::Ignition => Ok(BootData {
            format: Format::Ignition,
            user_data: ignition::complete(input.value, &additions, &tokens)?,
            meta_data: Vec::new(),
            network_data: Vec::new(),
        }),
        Format::CloudConfig => Ok(BootData {
            format: Format::CloudConfig,
            user_data: cloud::complete(input.value, &additions, &tokens)?,
            meta_data: cloud::meta_data(input.instance, input.hostname)?,
            network_data: network::network_data(&nics)?,
        }),
    }
}

/// The provider id of a machine, which its node shows too.
pub fn provider_id(machine: &str) -> String {
    format!("dcs://{machine}")
}

/// Names and addresses that the certificate of a machine's kubelet must cover.
pub fn kubelet_names(hostname: &str, network: &NetworkConfig) -> (Vec<String>, Vec<IpAddr>) {
    let addresses = [&network.ip, &network.ipv6];
    let bare = |text: &String| text.split('/').next().and_then(|text| text.parse().ok());
    (vec![hostname.to_owned()], addresses.into_iter().flatten().filter_map(bare).collect())
}

fn additions(input: &Input<'_>, nics: &[network::Nic]) -> Vec<Addition> {
    let mut files = vec![
        Addition::at("/etc/hostname", format!("{}\n", input.hostname), 0o644),
        Addition::at("/etc/resolv.conf", network::resolv_conf(nics), 0o644),
    ];
    for (index, nic) in nics.iter().enumerate() {
        files.push(Addition {
            path: "/etc/NetworkManager/system-connections/",
            name: format!("eth{index}.nmconnection"),
            content: network::keyfile(index, nic).into_bytes(),
            // NetworkManager ignores keyfiles that others may read.
            mode: 0o600,
            yields: false,
        });
    }
    if let Some(script) = disks::script(input.instance, input.disks) {
        files.push(Addition::at(DISK_SETUP_PATH, script, 0o755));
    }
    if let Some(kubelet) = input.kubelet {
        let certificate = Addition::at(KUBELET_CERTIFICATE_PATH, kubelet.certificate.as_bytes(), 0o644);
        let key = Addition::at(KUBELET_KEY_PATH, kubelet.key.as_bytes(), 0o600);
        files.extend([certificate, key].map(|file| Addition { yields: true, ..file }));
    }
    if let Some(encryption) = input.encryption {
        files.push(Addition { yields: true, ..Addition::at(ENCRYPTION_PATH, encryption, 0o600) });
    }
    files
}
