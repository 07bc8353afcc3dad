//! kubeadm's configuration file: YAML documents of `kubeadm.k8s.io/v1beta3` and `v1beta4`.
//!
//! kubeadm warns of fields that it does not know and goes on without them (`documentMapToInitConfiguration`); so does this
//! one, unless the site wants them to be errors. Documents of kubelet and kube-proxy are passed through. Errors never
//! repeat the text.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::version::Version;

mod defaults;
pub mod duration;
mod legacy;
pub mod types;
mod validate;

pub use validate::{host_port, is_token};

pub use defaults::{Defaults, control_plane_taint};
pub use types::{ClusterConfiguration, InitConfiguration, JoinConfiguration};

const GROUP: &str = "kubeadm.k8s.io";
const KUBELET_GROUP: &str = "kubelet.config.k8s.io";
const KUBE_PROXY_GROUP: &str = "kubeproxy.config.k8s.io";
/// The first kubeadm that reads and writes v1beta4.
const FIRST_WITH_V1BETA4: (u32, u32) = (1, 31);

/// Why a configuration cannot be used, as kubeadm puts it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

fn wrong(reason: impl Into<String>) -> ConfigError {
    ConfigError(reason.into())
}

/// What `kubeadm init` was given, defaulted and validated.
pub struct Init {
    /// The machine's part.
    pub node: InitConfiguration,
    /// The cluster's part.
    pub cluster: ClusterConfiguration,
    /// `KubeletConfiguration`, where one was given.
    pub kubelet: Option<Value>,
    /// `KubeProxyConfiguration`, where one was given.
    pub kube_proxy: Option<Value>,
    /// What kubeadm warns of.
    pub warnings: Vec<String>,
}

/// What `kubeadm join` was given, defaulted and validated.
pub struct Join {
    /// The document.
    pub node: JoinConfiguration,
    /// What kubeadm warns of.
    pub warnings: Vec<String>,
}

/// Group, version and kind of a document.
#[derive(Clone, PartialEq, Eq)]
struct Gvk {
    group: String,
    version: String,
    kind: String,
}

impl fmt::Display for Gvk {
    /// As Go prints the structure.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, version, kind } = self;
        write!(formatter, "schema.GroupVersionKind{{Group:{group:?}, Version:{version:?}, Kind:{kind:?}}}")
    }
}

struct Document {
    gvk: Gvk,
    content: Value,
}

/// Reads the file given to `kubeadm init --config`.
pub fn read_init(text: &str, machine: &Defaults<'_>) -> Result<Init, ConfigError> {
    let (mut node, mut cluster, mut kubelet, mut kube_proxy) = (None, None, None, None);
    let mut warnings = Vec::new();
    for document in split(text)? {
        match (document.gvk.group.as_str(), document.gvk.kind.as_str()) {
            (GROUP, "InitConfiguration") => node = Some(decode(document, machine, &mut warnings)?),
            (GROUP, "ClusterConfiguration") => cluster = Some(decode(document, machine, &mut warnings)?),
            (KUBELET_GROUP, "KubeletConfiguration") => kubelet = Some(document.content),
            (KUBE_PROXY_GROUP, "KubeProxyConfiguration") => kube_proxy = Some(document.content),
            (GROUP, _) => {
                check_version(&document.gvk, machine.version, &mut warnings)?;
                warnings.push(ignored(&document.gvk));
            }
            _ => warnings.push(ignored(&document.gvk)),
        }
    }
    if node.is_none() && cluster.is_none() {
        return Err(wrong("no InitConfiguration or ClusterConfiguration kind was found in the configuration file"));
    }
    let (mut node, mut cluster): (InitConfiguration, ClusterConfiguration) =
        (node.unwrap_or_default(), cluster.unwrap_or_default());
    machine.init(&mut node, &mut cluster)?;
    validate::init(&node, &cluster)?;
    Ok(Init { node, cluster, kubelet, kube_proxy, warnings })
}

/// Reads the file given to `kubeadm join --config`.
pub fn read_join(text: &str, machine: &Defaults<'_>) -> Result<Join, ConfigError> {
    let (mut node, mut warnings) = (None::<JoinConfiguration>, Vec::new());
    for document in split(text)? {
        if document.gvk.kind == "JoinConfiguration" {
            node = Some(decode(document, machine, &mut warnings)?);
        } else {
            warnings.push(ignored(&document.gvk));
        }
    }
    let mut node = node.ok_or_else(|| wrong("no JoinConfiguration found in the supplied config"))?;
    machine.join(&mut node)?;
    validate::join(&node)?;
    Ok(Join { node, warnings })
}

/// Reads the `ClusterConfiguration` that a cluster keeps in its `ConfigMap` `kubeadm-config`.
pub fn read_stored_cluster(text: &str, machine: &Defaults<'_>) -> Result<ClusterConfiguration, ConfigError> {
    let document = split(text)?.into_iter().find(|document| document.gvk.kind == "ClusterConfiguration");
    let document = document.ok_or_else(|| wrong("missing ClusterConfiguration document"))?;
    // An older or newer kubeadm may have stored it, so that what is unknown in it is nobody's mistake.
    let lenient = Defaults { is_strict: false, ..*machine };
    let mut cluster: ClusterConfiguration = decode(document, &lenient, &mut Vec::new())?;
    machine.cluster(&mut cluster)?;
    Ok(cluster)
}

/// Writes the `ClusterConfiguration` as this kubeadm stores it.
pub fn stored_cluster(cluster: &ClusterConfiguration, kubeadm: &Version) -> Result<String, ConfigError> {
    let mut document = serde_json::to_value(cluster).map_err(|error| wrong(error.to_string()))?;
    let version = if reads_v1beta4(kubeadm) { "v1beta4" } else { "v1beta3" };
    if version == "v1beta3" {
        legacy::downgrade(&mut document);
    }
    document["apiVersion"] = format!("{GROUP}/{version}").into();
    document["kind"] = "ClusterConfiguration".into();
    yaml(&document)
}

/// A document as YAML text.
pub fn yaml(document: &Value) -> Result<String, ConfigError> {
    serde_saphyr::to_string(document).map_err(|error| wrong(error.to_string()))
}

/// Reads a YAML document, without repeating it in the error.
pub fn from_yaml(text: &str) -> Result<Value, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| wrong(error.to_string()))
}

fn reads_v1beta4(kubeadm: &Version) -> bool {
    (kubeadm.major, kubeadm.minor) >= FIRST_WITH_V1BETA4
}

fn ignored(gvk: &Gvk) -> String {
    let Gvk { group, version, kind } = gvk;
    format!("[config] WARNING: Ignored configuration document with GroupVersionKind {group}/{version}, Kind={kind}")
}

fn split(text: &str) -> Result<Vec<Document>, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let values: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| wrong(error.to_string()))?;
    let mut documents: Vec<Document> = Vec::new();
    for content in values.into_iter().filter(|value| !value.is_null()) {
        let field = |name: &str| content[name].as_str().unwrap_or_default().to_owned();
        let api_version = field("apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version.as_str()));
        let gvk = Gvk { group: group.to_owned(), version: version.to_owned(), kind: field("kind") };
        if [&gvk.group, &gvk.version, &gvk.kind].iter().any(|part| part.is_empty()) {
            return Err(wrong(format!(
                "invalid configuration for GroupVersionKind {group}/{version}, Kind={}: kind and apiVersion is \
                 mandatory information that must be specified",
                gvk.kind
            )));
        }
        if documents.iter().any(|known| known.gvk.kind == gvk.kind) {
            return Err(wrong(format!("invalid configuration: kind {:?} is specified twice in YAML file", gvk.kind)));
        }
        documents.push(Document { gvk, content });
    }
    Ok(documents)
}

fn check_version(gvk: &Gvk, kubeadm: &Version, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let Gvk { version, kind, .. } = gvk;
    match version.as_str() {
        "v1beta4" if reads_v1beta4(kubeadm) => Ok(()),
        "v1beta3" if reads_v1beta4(kubeadm) => {
            warnings.push(format!(
                "your configuration file uses a deprecated API spec: \"{GROUP}/v1beta3\" (kind: {kind:?}). Please use \
                 'kubeadm config migrate --old-config old-config-file --new-config new-config-file', which will write \
                 the new, similar spec using a newer API version."
            ));
            Ok(())
        }
        "v1beta3" => Ok(()),
        old @ ("v1alpha1" | "v1alpha2" | "v1alpha3" | "v1beta1" | "v1beta2") => {
            let last = match old {
                "v1alpha1" => "v1.11",
                "v1alpha2" => "v1.12",
                "v1alpha3" => "v1.14",
                "v1beta1" => "v1.15",
                _ => "v1.22",
            };
            Err(wrong(format!(
                "your configuration file uses an old API spec: \"{GROUP}/{old}\" (kind: {kind:?}). Please use kubeadm \
                 {last} instead and run 'kubeadm config migrate --old-config old-config-file --new-config \
                 new-config-file', which will write the new, similar spec using a newer API version."
            )))
        }
        _ => Err(wrong(format!("no kind {kind:?} is registered for version \"{GROUP}/{version}\" in scheme"))),
    }
}

fn decode<T: DeserializeOwned>(
    document: Document,
    machine: &Defaults<'_>,
    warnings: &mut Vec<String>,
) -> Result<T, ConfigError> {
    let Document { gvk, mut content } = document;
    if gvk.group != GROUP {
        return Err(wrong(format!("unknown configuration {gvk}")));
    }
    check_version(&gvk, machine.version, warnings)?;
    let mut unknown = Vec::new();
    if gvk.version == "v1beta3" {
        unknown = legacy::upgrade(&gvk.kind, &mut content).map_err(|why| decoding(&gvk, &why))?;
    }
    if let Some(fields) = content.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    drop_nulls(&mut content);
    let read = serde_ignored::deserialize(content, |path| unknown.push(field_path(&path.to_string())));
    let value: T = read.map_err(|why| decoding(&gvk, &why.to_string()))?;
    if unknown.is_empty() {
        return Ok(value);
    }
    unknown.sort();
    let fields: Vec<String> = unknown.iter().map(|field| format!("unknown field {field:?}")).collect();
    let error = decoding(&gvk, &format!("strict decoding error: {}", fields.join(", ")));
    if machine.is_strict {
        return Err(error);
    }
    warnings.push(error.0);
    Ok(value)
}

fn decoding(gvk: &Gvk, why: &str) -> ConfigError {
    wrong(format!("error unmarshaling configuration {gvk}: {why}"))
}

/// To Go, null is absent.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let kept: Map<String, Value> =
                std::mem::take(fields).into_iter().filter(|(_, value)| !value.is_null()).collect();
            *fields = kept;
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// `apiServer.extraArgs.0.x` or with `?` for what is optional, as Kubernetes writes it: `apiServer.extraArgs[0].x`.
fn field_path(path: &str) -> String {
    let mut text = String::new();
    for part in path.split('.').filter(|part| *part != "?") {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push_str(&format!("[{part}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(part);
        }
    }
    text
}

#[cfg(test)]
mod tests;
