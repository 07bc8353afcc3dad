//! The controller of control planes: observe, decide, act, say.

pub mod act;
mod compare;
pub mod decide;
mod desired;
mod details;
pub mod facts;
mod foreign;
pub mod health;
pub mod names;
pub mod observe;
mod ownership;
mod pace;
mod pass;
mod report;
mod secrets;
pub mod status;
mod wakes;
pub mod wanted;

use std::{collections::HashMap, sync::Arc, time::Duration};

use cluster_api::{
    conditions::Claim,
    owner, paused,
    v1beta2::{Cluster, GROUP, Machine},
};
use jiff::Timestamp;
use kube::ResourceExt;
use kubeadm::api::v1beta2::KubeadmConfig;
use manager::{
    Informer, Manager, ObjectKey, Outcome, ReconcileError, Reconciler, clock::Clock, fault, random::Random,
    workload::WorkloadClusters,
};
use parking_lot::Mutex;

use self::{act::Actor, foreign::Foreign, names::FINALIZER, observe::Caches, secrets::Secrets};
use crate::{
    api::v1beta2::KubeadmControlPlane,
    etcd::Limits,
    workload::{Alarms, Pods},
};

/// What users may set by flag.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Control planes worked on at the same time.
    pub concurrency: usize,
    /// A cluster that is silent for longer than this tells nothing any more: what it said before is withdrawn.
    pub grace: Duration,
    /// Limits of speaking to etcd.
    pub etcd: Limits,
}

/// Brings control planes to what they shall be.
pub struct ControlPlanes {
    caches: Caches,
    actor: Actor,
    foreign: Arc<Foreign>,
    secrets: Secrets,
    workload: WorkloadClusters,
    alarms: Alarms,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    grace: Duration,
    /// What is remembered of a control plane between passes; all of it can be lost.
    memory: Mutex<HashMap<ObjectKey, Memory>>,
}

/// What is remembered of a control plane between passes.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// When its workload cluster was first asked.
    asked: Option<Timestamp>,
    /// When its workload cluster last answered.
    answered: Option<Timestamp>,
    /// When its add-ons were last found right, and for which wish.
    add_ons: Option<(Duration, String)>,
    /// Since when details of its report wait to be written.
    unsaid: Option<Duration>,
}

impl ControlPlanes {
    /// Adds the controller to a process; returns its cache of control planes.
    pub fn register(manager: &mut Manager, settings: Settings, pods: Arc<dyn Pods>) -> Informer<KubeadmControlPlane> {
        let control_planes: Informer<KubeadmControlPlane> = manager.informer(Informer::default());
        let clusters: Informer<Cluster> = manager.informer(Informer::default());
        let machines: Informer<Machine> =
            manager.informer(Informer::default().index(observe::BY_CLUSTER, observe::by_cluster));
        let configs: Informer<KubeadmConfig> = manager.informer(Informer::default());
        let alarms = Alarms::default();
        let foreign = Arc::new(Foreign::new(manager.client(), manager.clock()));
        let reconciler = Self {
            caches: Caches {
                control_planes: control_planes.clone(),
                clusters: clusters.clone(),
                machines: machines.clone(),
                configs: configs.clone(),
            },
            actor: Actor::new(manager.writer(), Arc::clone(&foreign), pods),
            foreign,
            secrets: Secrets::new(manager, settings.etcd),
            workload: manager.workload(),
            alarms: alarms.clone(),
            clock: manager.clock(),
            random: manager.random(),
            grace: settings.grace,
            memory: Mutex::default(),
        };
        let controller = manager.controller("kubeadmcontrolplane", &control_planes, reconciler, settings.concurrency);
        let requeue = controller.requeue();
        alarms.wake(move |key| requeue.changed(key));
        let controller = controller.watches(&clusters, |old, new| wakes::of_cluster(old, new).into_iter().collect());
        // A machine of the cluster that is not ours matters too: the control plane's deletion waits for it.
        let of_machine = move |machine: &Machine| {
            let cluster = clusters.get(&ObjectKey::of(machine).sibling(&machine.spec.cluster_name))?;
            wakes::control_plane_of(&cluster)
        };
        let lookup = of_machine.clone();
        let controller =
            controller.watches(&machines, move |old, new| new.or(old).and_then(&lookup).into_iter().collect());
        let _ = controller.watches(&configs, move |old, new| {
            let machine = wakes::machine_of_new_config(old, new).and_then(|key| machines.get(&key));
            let machine = machine.filter(|machine| machine.node_name().is_some());
            machine.and_then(|machine| of_machine(&machine)).into_iter().collect()
        });
        control_planes
    }
}

impl Reconciler for ControlPlanes {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(control_plane) = self.caches.control_planes.get(key) else {
            self.memory.lock().remove(key);
            self.alarms.stop(key);
            return Ok(Outcome::Settled);
        };
        let owner = owner::of_kind(&control_plane.metadata, GROUP, "Cluster");
        // Core adds the owner; that wakes us.
        let Some(cluster_key) = owner.map(|owner| key.sibling(&owner.name)) else { return Ok(Outcome::Settled) };
        let Some(cluster) = self.caches.clusters.get(&cluster_key) else {
            return Err(ReconcileError::transient(format!("Cluster {cluster_key} is not in the cache")));
        };
        let deleting = control_plane.metadata.deletion_timestamp.is_some();
        if !deleting && !control_plane.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
            let add = self.actor.writer.add_finalizer(&*control_plane, FINALIZER);
            fault::around("add-finalizer", add).await?;
            return Ok(Outcome::Settled);
        }
        let pause: Claim = paused::claim(Some(&cluster), &control_plane.metadata);
        if paused::is_paused(Some(&cluster), &control_plane.metadata) {
            self.alarms.stop(key);
            self.report_paused(&control_plane, pause).await?;
            return Ok(Outcome::Settled);
        }
        self.pass(key, control_plane, cluster, pause).await
    }
}
