//! From facts to boot data. Pure: everything that is kept elsewhere has been read before.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use cluster_api::{
    v1beta2::NetworkRanges,
    version::{InvalidVersion, Version},
};
use k8s_openapi::api::core::v1::Taint;
use kube::ResourceExt;
use kubeadm::{
    api::{
        files::{ContentFormat, Encoding, File, User},
        spec::{Discovery, JoinConfiguration, KubeadmConfigSpec},
    },
    config::{self, ClusterFacts, KubeadmApi},
    pki::{self, Pair, Purpose},
    template,
    userdata::{self, Input, Run},
};

use super::{discovery, observe::Facts};

/// Workers register with this taint; core removes it once it has synced their labels.
const UNINITIALIZED: &str = "node.cluster.x-k8s.io/uninitialized";

/// Why boot data cannot be made from an object; the message names the field.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field asks for what is not possible; only a change of the object helps.
    #[error("{0}")]
    Field(String),
    /// A value of a Secret is unusable; the Secret's change helps, and nobody wakes us then.
    #[error("{0}")]
    Secret(String),
    /// kubeadm's documents cannot be written.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The boot data cannot be written.
    #[error(transparent)]
    UserData(#[from] userdata::Error),
    /// The cluster CA cannot be read.
    #[error(transparent)]
    Pki(#[from] pki::Error),
}

/// A value of a Secret that a file or user refers to: where it is asked for, Secret, key.
pub type Reference<'a> = (String, &'a str, &'a str);

/// Every value of a Secret that a spec refers to.
pub fn references(spec: &KubeadmConfigSpec) -> Vec<Reference<'_>> {
    let files = spec.files.iter().enumerate().filter_map(|(index, file)| {
        let secret = &file.content_from.as_ref()?.secret;
        Some((format!("files[{index}].contentFrom"), secret.name.as_str(), secret.key.as_str()))
    });
    let users = spec.users.iter().enumerate().filter_map(|(index, user)| {
        let secret = &user.passwd_from.as_ref()?.secret;
        Some((format!("users[{index}].passwdFrom"), secret.name.as_str(), secret.key.as_str()))
    });
    files.chain(users).collect()
}

/// The first field that is a template over the control plane's version, if one is.
pub fn first_template(spec: &KubeadmConfigSpec) -> Option<String> {
    let index = spec.files.iter().position(|file| file.content_format == Some(ContentFormat::Template))?;
    Some(format!("files[{index}].contentFormat"))
}

/// What a spec refers to, read.
#[derive(Clone, Default)]
pub struct Resolved {
    /// Values of Secrets, by Secret and key.
    pub values: BTreeMap<(String, String), Vec<u8>>,
    /// Kubernetes version of the control plane, where a template asks for it.
    pub control_plane_version: Option<String>,
}

/// Boot data of the machine that makes the cluster.
pub fn init(facts: &Facts, certificates: &[(Purpose, Pair)], resolved: &Resolved) -> Result<Vec<u8>, Error> {
    let spec = &facts.config.spec.0;
    let api = KubeadmApi::for_version(&version(facts)?)?;
    let cluster = facts.cluster_configuration();
    let settings = spec.init_configuration.clone().unwrap_or_default();
    let (documents, init) = config::init(api, &cluster, &settings, &cluster_facts(facts))?;
    render(facts, certificates, resolved, Run::Init { cluster: documents, init })
}

/// Boot data of a machine that joins.
pub fn join(
    facts: &Facts,
    certificates: &[(Purpose, Pair)],
    resolved: &Resolved,
    control_plane: bool,
) -> Result<Vec<u8>, Error> {
    let api = KubeadmApi::for_version(&version(facts)?)?;
    let mut settings = facts.join_configuration();
    if control_plane {
        settings.control_plane.get_or_insert_default();
    } else {
        if settings.control_plane.is_some() {
            return Err(Error::Field("joinConfiguration.controlPlane: must not be set on a worker".to_owned()));
        }
        taint(&mut settings);
    }
    let join = config::join(api, &settings)?;
    // Only control plane machines get keys; a worker needs nothing but the pin in its discovery.
    let written = if control_plane { certificates } else { &[] };
    render(facts, written, resolved, Run::Join { join, control_plane })
}

fn taint(settings: &mut JoinConfiguration) {
    let node = settings.node_registration.get_or_insert_default();
    let taints = node.taints.get_or_insert_default();
    if !taints.iter().any(|taint| taint.key == UNINITIALIZED && taint.effect == "NoSchedule") {
        taints.push(Taint { key: UNINITIALIZED.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() });
    }
}

fn render(facts: &Facts, certificates: &[(Purpose, Pair)], resolved: &Resolved, run: Run) -> Result<Vec<u8>, Error> {
    let spec = &facts.config.spec.0;
    let cluster = facts.cluster_configuration();
    let certificates =
        certificates.iter().flat_map(|(purpose, pair)| userdata::certificate_files(*purpose, pair, &cluster));
    let mut files = files(spec, resolved)?;
    if let (Run::Join { .. }, Some((path, content))) = (&run, discovery::kubeconfig(discovery_of(facts))?) {
        files.push(File {
            path,
            owner: "root:root".to_owned(),
            permissions: "0640".to_owned(),
            content,
            ..File::default()
        });
    }
    let input = Input { spec, certificates: certificates.collect(), files, users: users(spec, resolved)?, run };
    Ok(userdata::render(&input)?)
}

fn discovery_of(facts: &Facts) -> Option<&Discovery> {
    facts.config.spec.0.join_configuration.as_ref()?.discovery.as_ref()
}

fn files(spec: &KubeadmConfigSpec, resolved: &Resolved) -> Result<Vec<File>, Error> {
    spec.files.iter().enumerate().map(|(index, file)| resolve_file(index, file, resolved)).collect()
}

fn resolve_file(index: usize, file: &File, resolved: &Resolved) -> Result<File, Error> {
    let mut file = file.clone();
    let source = file.content_from.take();
    if let Some(source) = &source {
        let field = format!("files[{index}].contentFrom");
        let (name, key) = (&source.secret.name, &source.secret.key);
        match String::from_utf8(value(resolved, name, key, &field)?.clone()) {
            Ok(text) => file.content = text,
            Err(bytes) => take_bytes(&mut file, bytes.as_bytes(), &format!("{field}: key {key} of Secret {name}"))?,
        }
    }
    if file.content_format.take() == Some(ContentFormat::Template) {
        let version = resolved.control_plane_version.as_deref();
        file.content = template::render(&file.content, version).map_err(|error| match source {
            Some(_) => Error::Secret(format!("files[{index}] ({}): {}", file.path, error.redacted())),
            None => Error::Field(format!("files[{index}] ({}): {error}", file.path)),
        })?;
    }
    Ok(file)
}

/// A content that is no text is carried in base64, whatever else it is encoded as already.
fn take_bytes(file: &mut File, bytes: &[u8], what: &str) -> Result<(), Error> {
    file.encoding = Some(match file.encoding {
        None => Encoding::Base64,
        Some(Encoding::Gzip) => Encoding::GzipBase64,
        Some(Encoding::Base64 | Encoding::GzipBase64) => {
            return Err(Error::Secret(format!("{what} is no text, so it is not base64")));
        }
    });
    if file.content_format == Some(ContentFormat::Template) {
        return Err(Error::Secret(format!("{what} is no text, so it is no template")));
    }
    file.content = STANDARD.encode(bytes);
    Ok(())
}

fn users(spec: &KubeadmConfigSpec, resolved: &Resolved) -> Result<Vec<User>, Error> {
    let user = |(index, user): (usize, &User)| {
        let mut user = user.clone();
        if let Some(source) = user.passwd_from.take() {
            let field = format!("users[{index}].passwdFrom");
            let (name, key) = (&source.secret.name, &source.secret.key);
            let hash = std::str::from_utf8(value(resolved, name, key, &field)?).ok().map(str::trim_end);
            let hash = hash.filter(|hash| !hash.is_empty() && !hash.contains(['\n', ':']));
            let refuse = || Error::Secret(format!("{field}: key {key} of Secret {name} is no password hash"));
            user.passwd = hash.ok_or_else(refuse)?.to_owned();
        }
        Ok(user)
    };
    spec.users.iter().enumerate().map(user).collect()
}

fn value<'a>(resolved: &'a Resolved, secret: &str, key: &str, field: &str) -> Result<&'a Vec<u8>, Error> {
    let value = resolved.values.get(&(secret.to_owned(), key.to_owned()));
    value.ok_or_else(|| Error::Secret(format!("{field}: Secret {secret} has no key {key}")))
}

fn version(facts: &Facts) -> Result<Version, Error> {
    let field = if facts.owner.is_pool { "MachinePool spec.template.spec.version" } else { "Machine spec.version" };
    facts.owner.version.parse().map_err(|error: InvalidVersion| Error::Field(format!("{field}: {error}")))
}

fn cluster_facts(facts: &Facts) -> ClusterFacts {
    let cluster = &facts.cluster.spec;
    let network = cluster.cluster_network.clone().unwrap_or_default();
    let joined = |ranges: Option<NetworkRanges>| ranges.map(|ranges| ranges.joined()).unwrap_or_default();
    ClusterFacts {
        name: facts.cluster.name_any(),
        version: facts.owner.version.clone(),
        endpoint: facts.endpoint().unwrap_or_default(),
        dns_domain: network.service_domain.unwrap_or_default(),
        service_subnet: joined(network.services),
        pod_subnet: joined(network.pods),
    }
}

#[cfg(test)]
mod tests;
