//! What a pass sees, and what it reads at the site on a decision's demand.

use std::{collections::BTreeSet, sync::Arc};

use cluster_api::{labels, owner, v1beta2::GROUP as CORE};
use dcs_proto::{error::Reason, v1};
use kube::ResourceExt;
use manager::{Category, ObjectKey, ReconcileError};

use super::{
    BY_POOL, BY_QUEUE, Caches, MachineReconciler, Scene, console,
    decide::{Facts, Plan, Read, Reading, Step, Verdict, decide},
    permits,
    record::Record,
};
use crate::api::{DCSCluster, DCSMachine};

impl Caches {
    /// The infrastructure of a machine's cluster.
    pub(super) fn infra_of(&self, machine: &DCSMachine) -> Option<Arc<DCSCluster>> {
        let key = ObjectKey::of(machine);
        let cluster = self.clusters.get(&key.sibling(machine.labels().get(labels::CLUSTER_NAME)?.clone()))?;
        self.infras.get(&key.sibling(&cluster.spec.infrastructure_ref.as_ref()?.name))
    }

    /// The machines at the site of `infra` that are being made or wait for that.
    pub(super) fn queue(&self, infra: &DCSCluster) -> Vec<Arc<DCSMachine>> {
        let site = site_of(infra);
        let mut queue = self.machines.by_index(BY_QUEUE, BY_QUEUE);
        queue.retain(|machine| self.infra_of(machine).is_some_and(|infra| site_of(&infra) == site));
        queue
    }
}

/// Reads at the site before one decision; each narrows what is unknown, so more would be a loop.
const READS: usize = 6;

impl MachineReconciler {
    pub(super) fn observe(&self, machine: Arc<DCSMachine>, record: Record) -> Scene {
        let key = ObjectKey::of(&*machine);
        let owner = owner::of_kind(&machine.metadata, CORE, "Machine")
            .and_then(|owner| self.caches.owners.get(&key.sibling(&owner.name)));
        let cluster_name = owner
            .as_ref()
            .map(|owner| owner.spec.cluster_name.clone())
            .or_else(|| machine.labels().get(labels::CLUSTER_NAME).cloned());
        let cluster = cluster_name.and_then(|name| self.caches.clusters.get(&key.sibling(name)));
        let infra = cluster
            .as_ref()
            .and_then(|cluster| cluster.spec.infrastructure_ref.as_ref())
            .and_then(|reference| self.caches.infras.get(&key.sibling(&reference.name)));
        let pool = self.caches.pools.get(&key.sibling(&machine.spec.ip_host_pool_ref.name));
        Scene { key, machine, record, owner, cluster, infra, pool }
    }

    /// Addresses that the other machines of the pool record.
    fn recorded(&self, scene: &Scene) -> BTreeSet<String> {
        let pool = scene.key.sibling(&scene.machine.spec.ip_host_pool_ref.name).to_string();
        let others = self.caches.machines.by_index(BY_POOL, &pool);
        let others = others.iter().filter(|other| other.name_any() != scene.key.name);
        others.filter_map(|other| Record::of(other).ok()?.ip().map(str::to_owned)).collect()
    }

    /// Whether it is this machine's turn to be made, among all of its site.
    fn permit(&self, scene: &Scene) -> bool {
        let Some(infra) = &scene.infra else { return false };
        let queue = self.caches.queue(infra);
        permits::granted(&scene.machine, queue.iter().map(AsRef::as_ref), self.clock.now())
    }

    /// Decides, reading at the site what the decision needs.
    pub(super) async fn decide(&self, scene: &Scene) -> Result<Plan, ReconcileError> {
        let mut facts = Facts {
            machine: &scene.machine,
            record: &scene.record,
            owner: scene.owner.as_deref(),
            cluster: scene.cluster.as_deref(),
            infra: scene.infra.as_deref(),
            pool: scene.pool.as_deref(),
            recorded: self.recorded(scene),
            permit: scene.record.attempt.is_some() || self.permit(scene),
            now: self.clock.now(),
            vm: Reading::Unread,
            found: Reading::Unread,
            task: Reading::Unread,
            console: Reading::Unread,
            boot: Reading::Unread,
        };
        let mut recalled = false;
        for _ in 0..READS {
            match decide(&facts) {
                // What was seen a moment ago will do to wait on, not to act on.
                Verdict::Plan(plan) if recalled && plan.step != Step::Wait => {
                    self.read(scene, Read::Machine, &mut facts).await?;
                    recalled = false;
                }
                Verdict::Plan(plan) => return Ok(plan),
                Verdict::Need(Read::Machine) => match self.looks.recent(scene, state_of(&facts.task), facts.now) {
                    Reading::Unread => self.read(scene, Read::Machine, &mut facts).await?,
                    known => (facts.vm, recalled) = (known, true),
                },
                Verdict::Need(read) => self.read(scene, read, &mut facts).await?,
            }
        }
        Err(ReconcileError::new(Category::Bug, "a decision asked for the same facts again"))
    }

    async fn read(&self, scene: &Scene, read: Read, facts: &mut Facts<'_>) -> Result<(), ReconcileError> {
        if read == Read::BootData {
            facts.boot = Reading::Known(self.boot_digest(scene).await?);
            return Ok(());
        }
        let site = match self.site(scene).await? {
            Ok(site) => site,
            Err((condition, _)) => {
                match read {
                    Read::Machine => facts.vm = Reading::Barred(condition),
                    Read::Found => facts.found = Reading::Barred(condition),
                    Read::Task => facts.task = Reading::Barred(condition),
                    Read::Console => facts.console = Reading::Barred(condition),
                    Read::BootData => {}
                }
                return Ok(());
            }
        };
        match read {
            Read::Machine => {
                let urn = scene.vm_urn();
                let answer = site.call(|mut client, session| {
                    let urn = urn.clone();
                    async move { client.get_machine(v1::GetMachineRequest { session, urn }).await }
                });
                facts.vm = match answer.await {
                    Ok(vm) => Reading::Known(Some(vm)),
                    Err(error) if error.reason == Reason::NotFound => Reading::Known(None),
                    Err(error) => Reading::Failed(error),
                };
                if let Reading::Known(vm) = &facts.vm {
                    self.looks.keep(scene, state_of(&facts.task), vm.clone(), facts.now);
                }
            }
            Read::Found => {
                let attempt = scene.record.attempt.as_ref().map(|attempt| attempt.id.clone()).unwrap_or_default();
                let answer = site.call(|mut client, session| {
                    let attempt = attempt.clone();
                    let request = v1::FindMachinesRequest { session, attempt, ..v1::FindMachinesRequest::default() };
                    async move { client.find_machines(request).await }
                });
                facts.found = match answer.await {
                    Ok(found) => Reading::Known(found.machines),
                    Err(error) if error.reason == Reason::NotFound => Reading::Known(Vec::new()),
                    Err(error) => Reading::Failed(error),
                };
            }
            Read::Task => {
                let id = scene.record.task.as_ref().map(|task| task.id.clone()).unwrap_or_default();
                let answer = site.call(|mut client, session| {
                    let id = id.clone();
                    async move { client.get_task(v1::GetTaskRequest { session, id }).await }
                });
                facts.task = match answer.await {
                    Ok(task) => Reading::Known(task),
                    Err(error) => Reading::Failed(error),
                };
            }
            Read::Console => {
                let urn = scene.vm_urn();
                let answer = site.call(|mut client, session| {
                    let request = v1::GetConsoleRequest { session, urn: urn.clone(), lines: console::ASKED };
                    async move { client.get_console(request).await }
                });
                facts.console = match answer.await {
                    Ok(console) => Reading::Known(console.output),
                    Err(error) => Reading::Failed(error),
                };
            }
            Read::BootData => {}
        }
        Ok(())
    }
}

/// The state in which a task was found.
fn state_of(task: &Reading<v1::Task>) -> Option<v1::TaskState> {
    match task {
        Reading::Known(task) => Some(task.state()),
        Reading::Unread | Reading::Failed(_) | Reading::Barred(_) => None,
    }
}

/// What tells sites apart: the deploy permits are per site.
fn site_of(infra: &DCSCluster) -> String {
    let credentials = || format!("{}/{}", infra.namespace().unwrap_or_default(), infra.spec.credential_secret_ref.name);
    infra.spec.site.clone().filter(|site| !site.is_empty()).unwrap_or_else(credentials)
}
