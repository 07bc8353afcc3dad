//! What a machine's boot data is made from: Secrets, read as they are now.

use std::sync::Arc;

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};
use cluster_api::{labels, owner};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kubeadm::{api::spec::EncryptionAlgorithm, pki};
use manager::{ReconcileError, fault, secrets};
use zeroize::Zeroizing;

use super::{
    MachineReconciler, Scene,
    act::{Obstacle, obstacle},
    decide::types,
    media,
    record::Attempt,
    status,
};
use crate::{
    api::machine::NetworkConfig,
    disks::{data_disks, declared, standing},
    guest::{self, Format, KubeletCertificate},
};

impl MachineReconciler {
    /// A digest of the boot data as it is now; none where it is missing.
    pub(super) async fn boot_digest(&self, scene: &Scene) -> Result<Option<String>, ReconcileError> {
        let name = scene.owner.as_ref().and_then(|owner| owner.spec.bootstrap.data_secret_name.clone());
        let Some(name) = name else { return Ok(None) };
        let found = self.secrets.get(&scene.key.sibling(name)).await?;
        Ok(found.and_then(|found| secrets::value(&found, "value").map(media::digest_of)))
    }

    /// The boot data of a machine with the digest of what it is made from, or what stands in the way.
    pub(super) async fn boot_data(
        &self,
        scene: &Scene,
        attempt: &Attempt,
        disks: &[guest::Disk],
    ) -> Result<Result<(guest::BootData, String), Obstacle>, ReconcileError> {
        let missing =
            |name: &str| Err(obstacle(types::MEDIA, "SecretNotFound", format!("Secret {name} does not exist")));
        let Some(owner) = &scene.owner else { return Ok(missing("with the boot data")) };
        let name = owner.spec.bootstrap.data_secret_name.clone().unwrap_or_default();
        let Some(bootstrap) = self.secrets.get(&scene.key.sibling(&name)).await? else { return Ok(missing(&name)) };
        let Some(value) = secrets::value(&bootstrap, "value") else {
            return Ok(Err(obstacle(
                types::MEDIA,
                "BootstrapRenderError",
                format!("Secret {name} lacks the key value"),
            )));
        };
        let cluster = &owner.spec.cluster_name;
        let authority = pki::Purpose::ClusterCa.secret_name(cluster);
        let Some(authority) = self.secrets.get(&scene.key.sibling(authority.clone())).await? else {
            return Ok(missing(&authority));
        };
        let network = scene.record.network.clone().unwrap_or_default();
        let hostname = status::hostname(&scene.machine, &scene.record);
        let failed = |message: String| Ok(Err(obstacle(types::MEDIA, "BootstrapRenderError", message)));
        let kubelet = match kubelet_certificate(&authority, &hostname, &network, self.clock.now()) {
            Ok(kubelet) => kubelet,
            Err(error) => return failed(format!("certificate of the kubelet: {error}")),
        };
        let encryption = if owner.is_control_plane() {
            match self.encryption(scene).await? {
                Ok(encryption) => Some(encryption),
                Err(obstacle) => return Ok(Err(obstacle)),
            }
        } else {
            None
        };
        let format = secrets::value(&bootstrap, "format").and_then(|format| std::str::from_utf8(format).ok());
        let rendered = Format::parse(format).and_then(|format| {
            guest::render(&guest::Input {
                machine: &scene.key.name,
                instance: &attempt.id,
                hostname: &hostname,
                network: &network,
                disks,
                kubelet: kubelet.as_ref(),
                encryption: encryption.as_ref().map(|text| text.as_str()),
                format,
                value,
            })
        });
        match rendered {
            Ok(data) => Ok(Ok((data, media::digest_of(value)))),
            Err(error) => failed(error.to_string()),
        }
    }

    /// The encryption configuration of the cluster: the user's own, else one generated once. It is read as it is now:
    /// after a rotation of keys the next machine gets the new ones.
    async fn encryption(&self, scene: &Scene) -> Result<Result<Zeroizing<String>, Obstacle>, ReconcileError> {
        const KEY: &str = "encryption-provider.conf";
        let own = scene.infra.as_ref().and_then(|infra| infra.spec.encryption_provider_config_ref.clone());
        let cluster = scene.cluster.as_deref();
        let name = match (&own, cluster) {
            (Some(reference), _) => reference.name.clone(),
            (None, Some(cluster)) => {
                format!("{}-encryption-provider", cluster.metadata.name.as_deref().unwrap_or_default())
            }
            (None, None) => return Ok(Err(obstacle(types::MEDIA, "ClusterNotFound", "the Cluster does not exist"))),
        };
        let key = scene.key.sibling(&name);
        let secret = match self.secrets.get_live(&key).await? {
            Some(secret) => secret,
            None if own.is_some() => {
                let message = format!("Secret {name} of encryptionProviderConfigRef does not exist");
                return Ok(Err(obstacle(types::MEDIA, "SecretNotFound", message)));
            }
            None => {
                let Some(cluster) = cluster else {
                    return Ok(Err(obstacle(types::MEDIA, "ClusterNotFound", "the Cluster does not exist")));
                };
                let mut secret = Secret::default();
                secret.metadata.name = Some(name.clone());
                secret.metadata.namespace = Some(scene.key.namespace.clone());
                let cluster_name = cluster.metadata.name.clone().unwrap_or_default();
                secret.metadata.labels = Some([(labels::CLUSTER_NAME.to_owned(), cluster_name)].into());
                // Owned by the Cluster, so that a move takes it along; never by what can be replaced.
                secret.metadata.owner_references = Some(vec![owner::controller(cluster)]);
                secret.type_ = Some(labels::SECRET_TYPE.to_owned());
                secret.data =
                    Some([(KEY.to_owned(), ByteString(encryption_configuration()?.as_bytes().to_vec()))].into());
                let uid = cluster.metadata.uid.clone().unwrap_or_default();
                let created = self.writer.create_secret(&secret, &uid);
                Arc::new(fault::around("machine-create-encryption-secret", created).await?)
            }
        };
        match secrets::value(&secret, KEY).and_then(|bytes| std::str::from_utf8(bytes).ok()) {
            Some(text) => Ok(Ok(Zeroizing::new(text.to_owned()))),
            None => Ok(Err(obstacle(types::MEDIA, "SecretInvalid", format!("Secret {name} lacks the key {KEY}")))),
        }
    }
}

/// The disks that a machine's guest sets up: those of its template, then those of its pool entry.
pub(super) fn boot_disks(scene: &Scene) -> Vec<guest::Disk> {
    let config = scene.machine.spec.vm_config.as_ref();
    let mut disks = guest::disks_of_template(config.map(|config| &*config.dcs_machine_disk_spec).unwrap_or_default());
    if let (Some(pool), Some(ip)) = (scene.pool.as_deref(), scene.record.ip()) {
        let holds_data = |slot| standing::holds_data(pool, ip, slot);
        disks.extend(guest::disks_of_entry(declared(pool, ip), data_disks(&scene.machine.spec), holds_data));
    }
    disks
}

/// A certificate for the kubelet's own server; none when the authority's key is kept elsewhere.
fn kubelet_certificate(
    authority: &Secret,
    hostname: &str,
    network: &NetworkConfig,
    now: Timestamp,
) -> Result<Option<KubeletCertificate>, pki::Error> {
    let text =
        |key: &str| secrets::value(authority, key).and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned);
    let (Some(certificate), Some(key)) = (text("tls.crt"), text("tls.key").filter(|key| !key.is_empty())) else {
        return Ok(None);
    };
    let (names, addresses) = guest::kubelet_names(hostname, network);
    let dns: Vec<_> = names.iter().map(String::as_str).collect();
    let common_name = format!("system:node:{hostname}");
    let leaf = pki::Leaf {
        name: &common_name,
        organisations: &["system:nodes"],
        dns: &dns,
        addresses: &addresses,
        server: true,
        client: false,
    };
    let authority = pki::Pair { certificate, key: Zeroizing::new(key) };
    let issued = pki::issue(&authority, &leaf, EncryptionAlgorithm::EcdsaP256, now)?;
    Ok(Some(KubeletCertificate { certificate: issued.certificate, key: issued.key }))
}

/// A configuration that encrypts Secrets with a new key.
fn encryption_configuration() -> Result<Zeroizing<String>, ReconcileError> {
    let mut key = Zeroizing::new([0_u8; 32]);
    rand::fill(key.as_mut_slice()).map_err(|_| ReconcileError::transient("the system gives no randomness"))?;
    let key = Zeroizing::new(STANDARD.encode(key.as_slice()));
    Ok(Zeroizing::new(format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources:\n  - secrets\n  \
         providers:\n  - aescbc:\n      keys:\n      - name: key1\n        secret: {}\n  - identity: {{}}\n",
        key.as_str()
    )))
}
