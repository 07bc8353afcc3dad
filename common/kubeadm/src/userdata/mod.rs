//! Boot data: what a machine reads at its first boot to become a node.

mod cloud_config;
mod ignition;

use crate::{
    api::{
        files::{File, User},
        spec::{ClusterConfiguration, Format, KubeadmConfigSpec},
    },
    pki::{Pair, Purpose},
};

/// What a machine does with kubeadm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// `kubeadm init`, with its two documents.
    Init {
        /// `ClusterConfiguration`.
        cluster: String,
        /// `InitConfiguration`.
        init: String,
    },
    /// `kubeadm join`, with its document.
    Join {
        /// `JoinConfiguration`.
        join: String,
        /// Whether the machine joins the control plane.
        control_plane: bool,
    },
}

/// Everything that boot data is made of, resolved: no content or password is elsewhere any more.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// Commands, disks, mounts, time servers, verbosity.
    pub spec: &'a KubeadmConfigSpec,
    /// Files of certificates, before the user's.
    pub certificates: Vec<File>,
    /// The user's files, with their content.
    pub files: Vec<File>,
    /// The user's users, with their password hashes.
    pub users: Vec<User>,
    /// What kubeadm does.
    pub run: Run,
}

/// Why boot data cannot be written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A field has a value that the format cannot carry.
    #[error("{field}: {reason}")]
    Field {
        /// Path of the field in the spec.
        field: String,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// Serialising failed.
    #[error("cannot write the boot data: {0}")]
    Write(String),
}

pub(crate) fn wrong(field: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Field { field: field.into(), reason: reason.into() }
}

/// Writes boot data in the format that the spec asks for.
pub fn render(input: &Input<'_>) -> Result<Vec<u8>, Error> {
    match input.spec.format.unwrap_or_default() {
        Format::CloudConfig => Ok(cloud_config::render(input).into_bytes()),
        Format::Ignition => ignition::render(input),
    }
}

/// The files of a Secret of the PKI. There is none of what is empty (an external CA has no key) and of what has no place
/// (the key of an external etcd's CA, which no machine needs).
pub fn certificate_files(purpose: Purpose, pair: &Pair, cluster: &ClusterConfiguration) -> Vec<File> {
    let external = cluster.etcd.as_ref().and_then(|etcd| etcd.external.as_ref());
    let folder = match cluster.certificates_dir.trim_end_matches('/') {
        "" => "/etc/kubernetes/pki",
        folder => folder,
    };
    let (certificate, key) = match (purpose, external) {
        (Purpose::EtcdCa, Some(external)) => (external.ca_file.clone(), String::new()),
        (Purpose::ApiServerEtcdClient, Some(external)) => (external.cert_file.clone(), external.key_file.clone()),
        (purpose, _) => match purpose.files() {
            Some((certificate, key)) => (format!("{folder}/{certificate}"), format!("{folder}/{key}")),
            None => return Vec::new(),
        },
    };
    let file = |path: String, permissions: &str, content: &str| File {
        path,
        owner: "root:root".to_owned(),
        permissions: permissions.to_owned(),
        content: content.to_owned(),
        ..File::default()
    };
    [file(certificate, "0640", &pair.certificate), file(key, "0600", &pair.key)]
        .into_iter()
        .filter(|file| !file.content.is_empty() && !file.path.is_empty())
        .collect()
}

/// `kubeadm`'s verbosity flag, or nothing.
fn verbosity(spec: &KubeadmConfigSpec) -> String {
    spec.verbosity.map(|level| format!("--v {level}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
