//! The `DCSMachineTemplate` controller: what a node made from a template offers, for autoscalers that begin at none.
//!
//! Everything but the architecture is in the spec. That one is the VM template's, so the site is asked for it once a
//! generation.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cluster_api::{
    labels, owner, paused,
    v1beta2::{Cluster, GROUP as CORE},
};
use dcs_proto::v1;
use kube::ResourceExt;
use manager::{Informer, Manager, ObjectKey, Outcome, ReconcileError, Reconciler, Writer, fault, secrets::SecretCache};

use crate::{
    api::{DCSCluster, DCSMachineSpec, DCSMachineTemplate, template::DCSMachineTemplateStatus, template::NodeInfo},
    credentials,
    machine::{Caches, template_request},
    site::Sites,
};

/// Every effect of this controller, for crash tests.
pub const EFFECTS: &[&str] = &["template-status"];

/// Where a node keeps what its pods write.
const KUBELET: &str = "/var/lib/kubelet";
/// Time after which a site that could not be asked is asked again.
const AGAIN: Duration = Duration::from_secs(120);

/// Reconciles templates.
pub struct TemplateReconciler {
    templates: Informer<DCSMachineTemplate>,
    caches: Caches,
    writer: Writer,
    secrets: SecretCache,
    sites: Sites,
}

impl TemplateReconciler {
    /// A reconciler over these caches.
    pub fn new(manager: &Manager, templates: Informer<DCSMachineTemplate>, caches: Caches, sites: Sites) -> Self {
        Self { templates, caches, writer: manager.writer(), secrets: manager.secrets(), sites }
    }

    /// The cluster of a template: its owner, or the one it is labelled with. A class's template has none.
    fn cluster(&self, template: &DCSMachineTemplate) -> Option<Arc<Cluster>> {
        let name = owner::of_kind(&template.metadata, CORE, "Cluster").map(|owner| owner.name.clone());
        let name = name.or_else(|| template.labels().get(labels::CLUSTER_NAME).cloned())?;
        self.caches.clusters.get(&ObjectKey::of(template).sibling(name))
    }

    /// The architecture of the VM template, where its site tells, and when to ask again where it could not be asked.
    async fn architecture(
        &self,
        spec: &DCSMachineSpec,
        infra: &DCSCluster,
    ) -> Result<(Option<String>, Option<Duration>), ReconcileError> {
        let name = &infra.spec.credential_secret_ref.name;
        let Some(secret) = self.secrets.get(&ObjectKey::of(infra).sibling(name)).await? else {
            return Ok((None, Some(AGAIN)));
        };
        let Ok(credentials) = credentials::of(&secret, infra) else { return Ok((None, Some(AGAIN))) };
        let wanted = template_request(spec);
        let site = self.sites.site(credentials);
        let answer = site.call(|mut client, session| {
            let request = v1::ResolvePlacementRequest { session, ..wanted.clone() };
            async move { client.resolve_placement(request).await }
        });
        match answer.await {
            Ok(found) => {
                let told = found.template.map(|template| template.architecture);
                Ok((told.filter(|text| !text.is_empty()), None))
            }
            Err(error) => {
                tracing::debug!(%error, "The site does not tell the architecture of a VM template.");
                Ok((None, Some(AGAIN)))
            }
        }
    }
}

impl Reconciler for TemplateReconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(template) = self.templates.get(key) else { return Ok(Outcome::Settled) };
        let cluster = self.cluster(&template);
        if template.metadata.deletion_timestamp.is_some() || paused::is_paused(cluster.as_deref(), &template.metadata) {
            return Ok(Outcome::Settled);
        }
        let infra = cluster
            .as_ref()
            .and_then(|cluster| cluster.spec.infrastructure_ref.as_ref())
            .and_then(|reference| self.caches.infras.get(&key.sibling(&reference.name)))
            .filter(|infra| infra.status.as_ref().and_then(|status| status.ready) == Some(true));
        let spec = &template.spec.template.spec;
        let known = known(&template);
        let (architecture, again) = match (known, infra) {
            (Some(known), _) => (Some(known), None),
            (None, None) => (None, None),
            (None, Some(infra)) => self.architecture(spec, &infra).await?,
        };
        let status = status(spec, architecture, template.metadata.generation);
        fault::around("template-status", self.writer.apply_status(&*template, &status)).await?;
        Ok(again.map_or(Outcome::Settled, Outcome::Requeue))
    }
}

/// The architecture that is shown for the template as it is now.
fn known(template: &DCSMachineTemplate) -> Option<String> {
    let status = template.status.as_ref()?;
    let is_current = status.observed_generation == template.metadata.generation;
    status.node_info.as_ref().filter(|_| is_current)?.architecture.clone()
}

fn status(spec: &DCSMachineSpec, architecture: Option<String>, generation: Option<i64>) -> DCSMachineTemplateStatus {
    let mut capacity = BTreeMap::new();
    if let Some(config) = &spec.vm_config {
        let mut offers = |name: &str, quantity: i64, unit: &str| {
            if quantity > 0 {
                capacity.insert(name.to_owned(), format!("{quantity}{unit}"));
            }
        };
        offers("cpu", config.dcs_machine_cpu_spec.quantity, "");
        offers("memory", config.dcs_machine_memory_spec.quantity, "Mi");
        let disk = config.dcs_machine_disk_spec.iter().find(|disk| disk.path.as_deref() == Some(KUBELET));
        offers("ephemeral-storage", disk.map_or(0, |disk| disk.quantity), "Gi");
    }
    let node_info = NodeInfo { architecture, operating_system: Some("linux".to_owned()) };
    DCSMachineTemplateStatus { capacity, node_info: Some(node_info), observed_generation: generation }
}

/// The templates that may be asked about once an infrastructure is usable: those of its namespace.
pub fn woken_by_infra(
    templates: &Informer<DCSMachineTemplate>,
    old: Option<&DCSCluster>,
    new: Option<&DCSCluster>,
) -> Vec<ObjectKey> {
    let ready = |infra: Option<&DCSCluster>| infra?.status.as_ref()?.ready;
    let Some(infra) = new.filter(|_| ready(old) != ready(new)) else { return Vec::new() };
    let all = templates.all();
    let of_namespace = all.iter().filter(|template| template.namespace() == infra.namespace());
    of_namespace.map(|template| ObjectKey::of(&**template)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template() -> DCSMachineTemplate {
        serde_json::from_value(json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1",
            "kind": "DCSMachineTemplate", "metadata": {"name": "t", "namespace": "ns", "generation": 3},
            "spec": {"template": {"spec": {"vmTemplateName": "image", "ipHostPoolRef": {"name": "p"}, "vmConfig": {
                "dcsMachineCpuSpec": {"quantity": 8}, "dcsMachineMemorySpec": {"quantity": 16384},
                "dcsMachineDiskSpec": [{"quantity": 0, "systemVolume": true}, {"quantity": 100, "path": KUBELET}]}}}}}))
        .unwrap()
    }

    #[test]
    fn a_template_shows_what_its_nodes_offer() {
        let template = template();
        let status = status(&template.spec.template.spec, Some("arm64".into()), Some(3));
        assert_eq!(
            serde_json::to_value(status).unwrap(),
            json!({"capacity": {"cpu": "8", "memory": "16384Mi", "ephemeral-storage": "100Gi"},
                "nodeInfo": {"architecture": "arm64", "operatingSystem": "linux"}, "observedGeneration": 3})
        );
    }

    #[test]
    fn the_site_is_asked_once_a_generation() {
        let mut template = template();
        assert_eq!(known(&template), None);
        template.status = Some(status(&template.spec.template.spec, Some("amd64".into()), Some(3)));
        assert_eq!(known(&template).as_deref(), Some("amd64"));
        template.metadata.generation = Some(4);
        assert_eq!(known(&template), None, "it may name another VM template");
    }
}
