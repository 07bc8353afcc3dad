//! The `DCSCluster` controller: the login, the site, the endpoint, and the rule that keeps control plane VMs apart.

mod decide;
mod rule;

use std::{sync::Arc, time::Duration};

use cluster_api::{
    conditions::{Claim, types as common},
    labels, owner, paused,
    v1beta2::{Cluster, GROUP as CORE},
};
use dcs_proto::{MachineError, error::Reason, v1};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use manager::{
    Informer, Manager, ObjectKey, Outcome, ReconcileError, Reconciler, Writer, clock::Clock, fault,
    secrets::SecretCache,
};
use serde_json::json;

use decide::{Login, judge};

use crate::{
    api::{
        CLUSTER_FINALIZER, DCSCluster, DCSClusterStatus, DCSMachine, Initialization, cluster::ControlPlaneHAStatus,
        settle_conditions,
    },
    credentials::{self, SILENCE, Silence},
    disks,
    machine::{BY_CLUSTER, Caches, types},
    management::Management,
    site::{Site, Sites},
};

/// Every effect of this controller, for crash tests.
pub const EFFECTS: &[&str] = &[
    "cluster-add-finalizer",
    "cluster-endpoint",
    "cluster-record-silence",
    "cluster-put-rule",
    "cluster-delete-rule",
    "cluster-remove-finalizer",
    "cluster-status",
];

/// Time after which something that was missing is looked for again.
const MISSING: Duration = Duration::from_secs(20);

/// Reconciles `DCSCluster`s.
pub struct ClusterReconciler {
    caches: Caches,
    writer: Writer,
    secrets: SecretCache,
    clock: Arc<dyn Clock>,
    sites: Sites,
    management: Arc<Management>,
}

/// What one pass sees.
struct Scene {
    key: ObjectKey,
    infra: Arc<DCSCluster>,
    cluster: Option<Arc<Cluster>>,
    machines: Vec<Arc<DCSMachine>>,
}

impl ClusterReconciler {
    /// A reconciler over these caches.
    pub fn new(manager: &Manager, caches: Caches, sites: Sites, management: Arc<Management>) -> Self {
        Self { caches, writer: manager.writer(), secrets: manager.secrets(), clock: manager.clock(), sites, management }
    }

    fn observe(&self, infra: Arc<DCSCluster>) -> Scene {
        let key = ObjectKey::of(&*infra);
        let cluster = owner::of_kind(&infra.metadata, CORE, "Cluster")
            .and_then(|owner| self.caches.clusters.get(&key.sibling(&owner.name)));
        let name = infra.labels().get(labels::CLUSTER_NAME).cloned();
        let name = name.or_else(|| cluster.as_ref().map(|cluster| cluster.name_any()));
        let machines = name
            .map(|name| self.caches.machines.by_index(BY_CLUSTER, &key.sibling(name).to_string()))
            .unwrap_or_default();
        Scene { key, infra, cluster, machines }
    }

    /// Tries the login; asks for nothing but the site itself.
    async fn login(&self, scene: &Scene) -> Result<(Login, Option<Site>), ReconcileError> {
        let name = scene.infra.spec.credential_secret_ref.name.clone();
        let Some(secret) = self.secrets.get(&scene.key.sibling(&name)).await? else {
            return Ok((Login::SecretMissing(name), None));
        };
        let login = match credentials::of(&secret, &scene.infra) {
            Ok(credentials) => credentials,
            Err(error) => return Ok((Login::SecretInvalid(error.to_string()), None)),
        };
        let site = self.sites.site(login);
        let answer =
            site.call(|mut client, session| async move { client.get_site(v1::GetSiteRequest { session }).await });
        let answer = answer.await;
        self.record_silence(scene, &secret, answer.as_ref().err()).await?;
        Ok(match answer {
            Ok(found) => (Login::Accepted(found), Some(site)),
            Err(error) => (Login::Refused { error, secret: name }, None),
        })
    }

    /// Records until when the site takes no login, and forgets it when it took one.
    async fn record_silence(
        &self,
        scene: &Scene,
        secret: &Secret,
        refused: Option<&MachineError>,
    ) -> Result<(), ReconcileError> {
        let known = Silence::of(&scene.infra);
        let wanted = match refused {
            None => None,
            Some(error) if matches!(error.reason, Reason::Credentials | Reason::LockedOut) => {
                let until = error.retry_after.and_then(|after| self.clock.now().checked_add(after).ok());
                until.map(|until| Silence::new(secret, until))
            }
            // It says nothing of the login.
            Some(_) => return Ok(()),
        };
        let same = match (&known, &wanted) {
            (Some(known), Some(wanted)) => known.is_like(wanted),
            (known, wanted) => known.is_none() == wanted.is_none(),
        };
        if same {
            return Ok(());
        }
        let value = wanted.map(|silence| serde_json::to_string(&silence)).transpose()?;
        let patch = json!({"metadata": {"annotations": {SILENCE: value}}});
        let written = self.writer.merge(&*scene.infra, patch);
        fault::around("cluster-record-silence", written).await.map(drop)
    }

    async fn delete(&self, scene: &Scene) -> Result<Outcome, ReconcileError> {
        if !scene.infra.finalizers().iter().any(|finalizer| finalizer == CLUSTER_FINALIZER) {
            return Ok(Outcome::Settled);
        }
        if !scene.machines.is_empty() {
            let names: Vec<_> = scene.machines.iter().map(|machine| machine.name_any()).collect();
            let message = format!("waiting until these machines are gone: {}", names.join(", "));
            let deleting = Claim::new(common::READY, false, "Deleting", message);
            // Machines and disks go by this condition: a login that is refused or gone holds them up, and is tried again
            // here alone.
            let (condition, _) = judge(&self.login(scene).await?.0);
            self.show(scene, vec![condition, deleting], shown(&scene.infra)).await?;
            return Ok(Outcome::Requeue(MISSING));
        }
        let pools = self.caches.pools.all();
        let left = disks::left_of(pools.iter().map(AsRef::as_ref), &scene.infra);
        if !left.is_empty() {
            let names: Vec<_> = left.into_iter().collect();
            let message = format!("waiting until these pools have deleted its volumes: {}", names.join(", "));
            let deleting = Claim::new(common::READY, false, "Deleting", message);
            let (condition, _) = judge(&self.login(scene).await?.0);
            self.show(scene, vec![condition, deleting], shown(&scene.infra)).await?;
            return Ok(Outcome::Requeue(MISSING));
        }
        if rule::is_owned(&scene.infra) {
            let (login, site) = self.login(scene).await?;
            let Some(site) = site else {
                let (condition, after) = judge(&login);
                self.show(scene, vec![condition], shown(&scene.infra)).await?;
                return Ok(Outcome::Requeue(after));
            };
            if let Err(error) = self.delete_rule(scene, &site).await? {
                self.show(scene, vec![rule::failed(&error)], shown(&scene.infra)).await?;
                return Ok(Outcome::Requeue(MISSING));
            }
        }
        let removed = self.writer.remove_finalizer(&*scene.infra, CLUSTER_FINALIZER);
        fault::around("cluster-remove-finalizer", removed).await?;
        Ok(Outcome::Settled)
    }

    /// Writes the status. `rule` is what is known of the exclusion rule.
    async fn show(
        &self,
        scene: &Scene,
        mut claims: Vec<Claim>,
        rule: Option<ControlPlaneHAStatus>,
    ) -> Result<(), ReconcileError> {
        let before = scene.infra.status.clone().unwrap_or_default();
        let has = |claims: &[Claim], type_: &str| claims.iter().any(|claim| claim.type_ == type_);
        let accepted = claims.iter().any(|claim| claim.type_ == types::CREDENTIALS && claim.status == true.into());
        // Once usable it stays so: core takes it as initialised. What is wrong shows in the conditions.
        let ready = before.ready == Some(true) || (accepted && scene.infra.spec.control_plane_endpoint.is_some());
        claims.push(paused::claim(scene.cluster.as_deref(), &scene.infra.metadata));
        if !has(&claims, common::READY) {
            let blocking = claims.iter().find(|claim| claim.type_ == types::CREDENTIALS && claim.status != true.into());
            claims.push(match blocking {
                Some(claim) => Claim::new(common::READY, false, claim.reason.clone(), claim.message.clone()),
                None if ready => Claim::holds(common::READY, "Ready"),
                None => Claim::new(common::READY, false, "Provisioning", "the site is being looked at"),
            });
        }
        let status = DCSClusterStatus {
            conditions: settle_conditions(
                &before.conditions,
                claims,
                scene.infra.metadata.generation,
                self.clock.now(),
            ),
            control_plane_ha: rule,
            failure_domains: None,
            initialization: ready.then_some(Initialization { provisioned: Some(true) }),
            ready: Some(ready),
        };
        fault::around("cluster-status", self.writer.apply_status(&*scene.infra, &status)).await
    }
}

impl Reconciler for ClusterReconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(infra) = self.caches.infras.get(key) else { return Ok(Outcome::Settled) };
        if decide::is_external(&infra) {
            return Ok(Outcome::Settled);
        }
        let scene = self.observe(infra);
        if paused::is_paused(scene.cluster.as_deref(), &scene.infra.metadata) {
            self.show(&scene, decide::kept(&scene.infra), shown(&scene.infra)).await?;
            return Ok(Outcome::Settled);
        }
        if scene.infra.metadata.deletion_timestamp.is_some() {
            return self.delete(&scene).await;
        }
        if scene.cluster.is_none() {
            return Ok(Outcome::Settled);
        }
        let added = self.writer.add_finalizer(&*scene.infra, CLUSTER_FINALIZER);
        if !scene.infra.finalizers().iter().any(|finalizer| finalizer == CLUSTER_FINALIZER) {
            fault::around("cluster-add-finalizer", added).await?;
            return Ok(Outcome::Requeue(Duration::ZERO));
        }
        if scene.infra.spec.control_plane_endpoint.is_none() {
            let balancer = &scene.infra.spec.control_plane_load_balancer;
            let patch = json!({"spec": {"controlPlaneEndpoint": {"host": balancer.host, "port": balancer.port}}});
            fault::around("cluster-endpoint", self.writer.merge(&*scene.infra, patch)).await?;
            return Ok(Outcome::Requeue(Duration::ZERO));
        }
        let (login, site) = self.login(&scene).await?;
        let (condition, after) = judge(&login);
        let Some(site) = site else {
            self.show(&scene, vec![condition], shown(&scene.infra)).await?;
            return Ok(Outcome::Requeue(after));
        };
        let (mut claims, mut again) = (vec![condition], None);
        let kept = self.keep_rule(&scene, &site).await?;
        if let Some((claim, after)) = kept.said {
            claims.push(claim);
            again = after;
        }
        self.show(&scene, claims, kept.status).await?;
        Ok(again.map_or(Outcome::Settled, Outcome::Requeue))
    }
}

/// What is shown of the exclusion rule.
fn shown(infra: &DCSCluster) -> Option<ControlPlaneHAStatus> {
    infra.status.as_ref()?.control_plane_ha.clone()
}

/// The `DCSCluster` of a Cluster.
pub fn woken_by_cluster(old: Option<&Cluster>, new: Option<&Cluster>) -> Vec<ObjectKey> {
    let facts = |cluster: &Cluster| (cluster.spec.paused, cluster.metadata.deletion_timestamp.is_some());
    if let (Some(old), Some(new)) = (old, new)
        && facts(old) == facts(new)
    {
        return Vec::new();
    }
    let Some(cluster) = new.or(old) else { return Vec::new() };
    let reference = cluster.spec.infrastructure_ref.as_ref().filter(|reference| reference.kind == "DCSCluster");
    reference
        .map(|reference| ObjectKey::new(cluster.namespace().unwrap_or_default(), reference.name.clone()))
        .into_iter()
        .collect()
}

/// The `DCSCluster` of a machine, when the set of VMs that the exclusion rule covers may have changed.
pub fn woken_by_machine(
    infras: &Informer<DCSCluster>,
    old: Option<&DCSMachine>,
    new: Option<&DCSMachine>,
) -> Vec<ObjectKey> {
    let facts = |machine: &DCSMachine| (rule::member(machine).is_some(), machine.metadata.deletion_timestamp.is_some());
    if old.map(facts) == new.map(facts) {
        return Vec::new();
    }
    let Some(machine) = new.or(old) else { return Vec::new() };
    let Some(cluster) = machine.labels().get(labels::CLUSTER_NAME) else { return Vec::new() };
    let of_cluster = infras.all();
    let of_cluster = of_cluster.iter().filter(|infra| {
        infra.namespace() == machine.namespace() && infra.labels().get(labels::CLUSTER_NAME) == Some(cluster)
    });
    of_cluster.map(|infra| ObjectKey::of(&**infra)).collect()
}
