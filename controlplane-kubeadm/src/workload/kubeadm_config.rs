//! The `ConfigMap` `kubeadm-config`, from which `kubeadm join` takes the cluster's configuration, and the role bindings
//! that newer kubeadms expect. Both are brought to the target version before its first machine joins.

use cluster_api::version::Version;
use k8s_openapi::api::{
    core::v1::ConfigMap,
    rbac::v1::{ClusterRoleBinding, RoleRef, Subject},
};
use kube::{
    Api,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use kubeadm::{
    api::spec::{ClusterConfiguration, ImageMeta, InitConfiguration},
    config::{self, ClusterFacts, KubeadmApi},
};
use manager::workload::WorkloadClient;
use serde_json::{Map, Value, json};

use super::{Error, KUBE_SYSTEM};

const NAME: &str = "kubeadm-config";
const KEY: &str = "ClusterConfiguration";

/// What the configuration shall say.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Version of machines that join from now on.
    pub version: &'a Version,
    /// That version as the user wrote it.
    pub version_text: &'a str,
    /// The cluster's settings; nothing but the version is changed where absent.
    pub cluster: Option<&'a ClusterConfiguration>,
}

/// The stored configuration brought to the target; `None` when it says that already. What is not ours (networks, names,
/// the DNS add-on, the life of authorities) stays as it is.
pub fn updated(stored: &str, target: &Target<'_>) -> Result<Option<String>, Error> {
    let bad =
        |reason: &dyn std::fmt::Display| Error::Content(format!("ConfigMap {KUBE_SYSTEM}/{NAME}, key {KEY}: {reason}"));
    let before: Value = if stored.trim().is_empty() {
        json!({})
    } else {
        serde_saphyr::from_str(stored).map_err(|error| bad(&error))?
    };
    let before = before.as_object().cloned().ok_or_else(|| bad(&"it is not a mapping"))?;
    let api = KubeadmApi::for_version(target.version).map_err(|error| bad(&error))?;
    let facts = ClusterFacts { version: target.version_text.to_owned(), ..ClusterFacts::default() };
    let cluster = target.cluster.cloned().unwrap_or_default();
    let (rendered, _) =
        config::init(api, &cluster, &InitConfiguration::default(), &facts).map_err(|error| bad(&error))?;
    let rendered: Map<String, Value> = serde_saphyr::from_str(&rendered).map_err(|error| bad(&error))?;
    let mut after = before.clone();
    let mut replaced = vec!["apiVersion", "kind", "kubernetesVersion"];
    if target.cluster.is_some() {
        replaced.extend([
            "featureGates",
            "apiServer",
            "controllerManager",
            "scheduler",
            "certificateValidityPeriod",
            "encryptionAlgorithm",
            "etcd",
        ]);
        if !cluster.image_repository.is_empty() {
            replaced.push("imageRepository");
        }
    } else if before.get("apiVersion") != rendered.get("apiVersion") {
        return Err(bad(
            &"its format changes with this version, for which spec.kubeadmConfigSpec.clusterConfiguration is needed",
        ));
    }
    for field in replaced {
        match rendered.get(field) {
            Some(value) => after.insert(field.to_owned(), value.clone()),
            None => after.remove(field),
        };
    }
    if same(&before, &after) {
        return Ok(None);
    }
    serde_saphyr::to_string(&after).map(Some).map_err(|error| bad(&error))
}

/// Equal but for what means nothing: empty fields, and what kubeadm fills in where nothing is said.
fn same(before: &Map<String, Value>, after: &Map<String, Value>) -> bool {
    fn plain(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let kept = fields.iter().map(|(name, value)| (name.clone(), plain(value)));
                let means_nothing = |name: &str, value: &Value| {
                    matches!(value, Value::Null)
                        || value.as_object().is_some_and(Map::is_empty)
                        || value.as_array().is_some_and(Vec::is_empty)
                        || value == ""
                        || name == "dataDir" && value == "/var/lib/etcd"
                };
                Value::Object(kept.filter(|(name, value)| !means_nothing(name, value)).collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
            other => other.clone(),
        }
    }
    plain(&Value::Object(before.clone())) == plain(&Value::Object(after.clone()))
}

/// Brings the stored configuration to the target, unless it is there.
pub async fn write(client: &WorkloadClient, target: &Target<'_>) -> Result<(), Error> {
    edit(client, |stored| updated(stored, target)).await
}

/// Stores the DNS add-on's image, unless it is there.
pub(super) async fn write_dns(client: &WorkloadClient, dns: Option<&ImageMeta>) -> Result<(), Error> {
    edit(client, |stored| {
        let bad = |reason: &dyn std::fmt::Display| {
            Error::Content(format!("ConfigMap {KUBE_SYSTEM}/{NAME}, key {KEY}: {reason}"))
        };
        let mut document: Map<String, Value> = serde_saphyr::from_str(stored).map_err(|error| bad(&error))?;
        let wanted = serde_json::to_value(dns.cloned().unwrap_or_default()).map_err(|error| bad(&error))?;
        if document.get("dns").unwrap_or(&json!({})) == &wanted {
            return Ok(None);
        }
        document.insert("dns".to_owned(), wanted);
        serde_saphyr::to_string(&document).map(Some).map_err(|error| bad(&error))
    })
    .await
}

async fn edit(client: &WorkloadClient, change: impl Fn(&str) -> Result<Option<String>, Error>) -> Result<(), Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.client().clone(), KUBE_SYSTEM);
    let found = maps.get(NAME).await?;
    let stored = found.data.as_ref().and_then(|data| data.get(KEY));
    let stored = stored.ok_or_else(|| Error::Content(format!("ConfigMap {KUBE_SYSTEM}/{NAME} has no key {KEY}")))?;
    let Some(text) = change(stored)? else { return Ok(()) };
    // Under the version it was read at: who wrote it meanwhile is not overwritten, the next pass tries again.
    let patch = json!({"metadata": {"resourceVersion": found.metadata.resource_version}, "data": {KEY: text}});
    maps.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// Creates the role bindings that kubeadm 1.29 and 1.37 make and newer machines count on; what exists is left alone.
pub async fn ensure_rbac(client: &WorkloadClient, version: &Version) -> Result<(), Error> {
    if version.is_at_least(1, 38) {
        return Ok(());
    }
    let bindings: Api<ClusterRoleBinding> = Api::all(client.client().clone());
    let wanted = [
        ("kubeadm:cluster-admins", "cluster-admin", "Group", "kubeadm:cluster-admins"),
        ("kubeadm:apiserver-kubelet-client", "system:kubelet-api-admin", "User", "kube-apiserver-kubelet-client"),
    ];
    for (name, role, kind, subject) in wanted {
        if bindings.get_opt(name).await?.is_some() {
            continue;
        }
        let group = "rbac.authorization.k8s.io".to_owned();
        let binding = ClusterRoleBinding {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            role_ref: RoleRef { api_group: group.clone(), kind: "ClusterRole".to_owned(), name: role.to_owned() },
            subjects: Some(vec![Subject {
                api_group: Some(group),
                kind: kind.to_owned(),
                name: subject.to_owned(),
                namespace: None,
            }]),
        };
        match bindings.create(&PostParams::default(), &binding).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kubeadm::api::spec::{ApiServer, Arg};

    use super::*;

    const STORED: &str = "apiServer: {}\napiVersion: kubeadm.k8s.io/v1beta4\ncaCertificateValidityPeriod: 87600h0m0s\n\
        certificatesDir: /etc/kubernetes/pki\nclusterName: c\ncontrolPlaneEndpoint: 10.0.0.1:6443\ncontrollerManager: {}\n\
        dns:\n  imageTag: v1.12.1\netcd:\n  local:\n    dataDir: /var/lib/etcd\nimageRepository: registry.example\n\
        kind: ClusterConfiguration\nkubernetesVersion: v1.34.5\nnetworking:\n  dnsDomain: cluster.local\n  podSubnet: 10.2.0.0/16\n\
        scheduler: {}\n";

    fn target<'a>(version: &'a Version, text: &'a str, cluster: &'a ClusterConfiguration) -> Target<'a> {
        Target { version, version_text: text, cluster: Some(cluster) }
    }

    #[test]
    fn a_configuration_that_fits_is_not_written() {
        let (version, cluster) = ("v1.34.5".parse().unwrap(), ClusterConfiguration::default());
        assert_eq!(updated(STORED, &target(&version, "v1.34.5", &cluster)).unwrap(), None);
    }

    #[test]
    fn an_upgrade_changes_version_and_settings_and_keeps_the_rest() {
        let version = "v1.35.6-acp.1".parse().unwrap();
        let api_server =
            ApiServer { extra_args: vec![Arg { name: "v".to_owned(), value: "2".to_owned() }], ..ApiServer::default() };
        let cluster = ClusterConfiguration { api_server: Some(api_server), ..ClusterConfiguration::default() };
        let text = updated(STORED, &target(&version, "v1.35.6-acp.1", &cluster)).unwrap().unwrap();
        let after: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(after["kubernetesVersion"], "v1.35.6-acp.1");
        assert_eq!(after["apiServer"]["extraArgs"][0]["name"], "v");
        assert_eq!(after["networking"]["podSubnet"], "10.2.0.0/16");
        assert_eq!(after["imageRepository"], "registry.example");
        assert_eq!(after["dns"]["imageTag"], "v1.12.1");
        assert_eq!(after["caCertificateValidityPeriod"], "87600h0m0s");
        assert_eq!(after["clusterName"], "c");
    }

    #[test]
    fn an_empty_document_is_filled_and_a_broken_one_is_named() {
        let (version, cluster) = ("v1.34.5".parse().unwrap(), ClusterConfiguration::default());
        assert!(updated("", &target(&version, "v1.34.5", &cluster)).unwrap().unwrap().contains("v1.34.5"));
        let error = updated("- a", &target(&version, "v1.34.5", &cluster)).unwrap_err();
        assert!(error.to_string().contains("kubeadm-config"));
    }
}
