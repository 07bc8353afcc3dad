//! One pass over one control plane.

use std::{sync::Arc, time::Duration};

use cluster_api::{
    conditions::{self, Claim, Status},
    labels::REMEDIATE_MACHINE,
    v1beta2::{Cluster, ContractReference, Machine},
    version::Version,
};
use jiff::Timestamp;
use kube::ResourceExt;
use manager::{
    Category, ObjectKey, Outcome, ReconcileError, fault,
    workload::{ConnectError, WorkloadClient},
};
use serde_json::json;

use super::{
    ControlPlanes, act,
    decide::{self, Decision, Exit, Handover, Step, delete::Deletion},
    desired::Role,
    facts::{Facts, Remediation},
    health::{self, Blind, Health},
    names::{
        FINALIZER, NEXT_MACHINE, REMEDIATION_IN_PROGRESS, SKIP_CORE_DNS, SKIP_KUBE_PROXY, condition, machine, reason,
    },
    observe::{Observed, State},
    pace::{TEMPLATE, is_young},
    report::Report,
    secrets, status,
};
use crate::{
    api::v1beta2::KubeadmControlPlane,
    workload::{self, AddOns, EtcdAccess, Target, Workload},
};

/// Add-ons that were right are looked at again after this time.
const ADD_ONS: Duration = Duration::from_secs(600);
/// Time until an API server's certificate that could not be read is looked at again.
const EXPIRY_LATER: Duration = Duration::from_secs(10);
/// Look again after a step whose traces wake nobody.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// What a pass found out in the workload cluster.
pub(super) struct Seen {
    pub(super) client: Option<WorkloadClient>,
    access: EtcdAccess,
    pub(super) workload: Result<Workload, String>,
    health: Health,
    pub(super) initialized: bool,
}

impl ControlPlanes {
    pub(super) async fn pass(
        &self,
        key: &ObjectKey,
        control_plane: Arc<KubeadmControlPlane>,
        cluster: Arc<Cluster>,
        paused: Claim,
    ) -> Result<Outcome, ReconcileError> {
        let now = self.clock.now();
        let observed = Observed::read(&self.caches, &self.foreign, control_plane, cluster, now).await?;
        let mut report = Report::new(&observed, paused);
        if let Some(refusal) = Self::refusal(&observed) {
            report.failure = Some(refusal.clone());
            self.write(&observed, &report, false).await?;
            return Err(ReconcileError::new(Category::Terminal, refusal));
        }
        if !observed.orphans.is_empty() && !observed.is_deleting() {
            self.actor.adopt(&observed).await?;
            return Ok(Outcome::Requeue(SOON));
        }
        let result = if observed.is_deleting() {
            self.wind_down(key, &observed, &mut report).await
        } else {
            self.work(key, &observed, &mut report).await
        };
        // Who wrote first is no news; what else went wrong is for people to read.
        report.failure =
            result.as_ref().err().filter(|error| error.category != Category::Conflict).map(ToString::to_string);
        let completed = report.deletion_completed();
        let written = if completed { Ok(None) } else { self.write(&observed, &report, result.is_ok()).await };
        let outcome = result?;
        let more_to_say = written?;
        if completed {
            let remove = self.actor.writer.remove_finalizer(&*observed.control_plane, FINALIZER);
            fault::around("remove-finalizer", remove).await?;
            self.memory.lock().remove(key);
            self.alarms.stop(key);
            self.secrets.forget(&ObjectKey::of(&*observed.cluster));
            return Ok(Outcome::Settled);
        }
        Ok(outcome.no_later(more_to_say))
    }

    /// Why the cluster's machines cannot be this control plane's.
    fn refusal(observed: &Observed) -> Option<String> {
        if observed.is_deleting() {
            return None;
        }
        let ours = observed.wanted.parsed_version().map(|version| version.minor());
        let refused = |orphan: &Arc<Machine>| {
            let name = orphan.name_any();
            let config = orphan.spec.bootstrap.config_ref.as_ref();
            if config.is_none_or(|config| config.kind != "KubeadmConfig") {
                return Some(format!("Machine {name} cannot be adopted: its bootstrap.configRef is no KubeadmConfig"));
            }
            let theirs = orphan.spec.version.parse::<Version>().ok().map(|version| version.minor());
            let apart = ours.zip(theirs).is_some_and(|(ours, theirs)| theirs.1.abs_diff(ours.1) > 1);
            let version = &orphan.spec.version;
            apart.then(|| {
                format!(
                    "Machine {name} cannot be adopted: its version {version} is more than one minor from spec.version"
                )
            })
        };
        observed.conflict.clone().or_else(|| observed.orphans.iter().find_map(refused))
    }

    async fn work(&self, key: &ObjectKey, observed: &Observed, report: &mut Report) -> Result<Outcome, ReconcileError> {
        self.actor.own_template(observed).await?;
        let cluster = &observed.cluster;
        let blind = |message: &str| Blind { reason: reason::INSPECTION_FAILED, message: message.to_owned() };
        if !cluster.is_infrastructure_provisioned() {
            report.see_nothing(
                observed,
                &blind("Waiting for Cluster status.initialization.infrastructureProvisioned to be true"),
            );
            return Ok(Outcome::Settled);
        }
        let was_initialized = observed.control_plane.is_initialized();
        let server = observed.wanted.endpoint.as_ref().map(|endpoint| format!("https://{endpoint}"));
        let (certificates, kubeconfig) =
            self.secrets.provide(&observed.wanted, was_initialized, server.as_deref()).await;
        report.certificates = match certificates {
            Ok(claim) => claim,
            Err(error) => {
                report.certificates = secrets::unknown(&error);
                return Err(error);
            }
        };
        if server.is_none() {
            report.see_nothing(observed, &blind("Waiting for Cluster spec.controlPlaneEndpoint to be set"));
            return Ok(Outcome::Settled);
        }
        kubeconfig?;
        self.actor.sync(observed).await?;
        let seen = self.look(key, observed, report).await?;
        let state =
            State { initialized: seen.initialized, certificates_available: report.certificates.status == Status::True };
        let tie = self.random.below(u64::MAX);
        let mut facts = observed.facts(seen.workload.as_ref().map_err(String::as_str), state, tie);
        Self::judge(observed, &seen, &mut facts, report);
        let decision = match (&seen.workload, seen.initialized) {
            (Err(reason), true) => decide::next_unseen(&facts, reason),
            _ => decide::next(&facts),
        };
        report.blocked = decision.blocked();
        report.explain(&decision);
        report.remediated.clone_from(&decision.remediated);
        report.facts = facts;
        self.keep_notes(observed, &decision).await?;
        let outcome = self.perform(key, observed, &seen, report, &decision).await?;
        Ok(self.paced(key, observed, &seen, report, outcome))
    }

    /// Asks the workload cluster.
    async fn look(&self, key: &ObjectKey, observed: &Observed, report: &mut Report) -> Result<Seen, ReconcileError> {
        let subjects = observed.subjects(None);
        let managed = observed.wanted.has_managed_etcd();
        let cluster = ObjectKey::of(&*observed.cluster);
        let access = self.secrets.etcd(&observed.wanted, &cluster).await?;
        let mut seen = Seen {
            client: None,
            access,
            workload: Err("the control plane is not initialized".to_owned()),
            health: Health::default(),
            initialized: observed.control_plane.is_initialized(),
        };
        let not_yet = || Blind {
            reason: reason::INSPECTION_FAILED,
            message: "Waiting for Cluster control plane to be initialized".to_owned(),
        };
        if !seen.initialized && !may_initialize(&observed.machines) {
            seen.health = health::unknown(&subjects, managed, &not_yet());
            return Ok(seen);
        }
        self.memory.lock().entry(key.clone()).or_default().asked.get_or_insert(observed.now);
        match self.workload.connect(&cluster).await {
            Ok(client) => seen.client = Some(client),
            Err(ConnectError::Management(error)) => return Err(error),
            Err(ConnectError::Unreachable(error)) => seen.workload = Err(error.to_string()),
        }
        if let Some(client) = &seen.client
            && !seen.initialized
        {
            // What fails before the first start is no failure.
            seen.initialized = workload::is_initialized(client).await.unwrap_or(false);
        }
        if !seen.initialized {
            seen.health = health::unknown(&subjects, managed, &not_yet());
            return Ok(seen);
        }
        report.initialized = true;
        if let Some(client) = &seen.client {
            self.alarms.follow(key, client);
            let pods = &*self.actor.pods;
            seen.workload = workload::read(client, pods, &observed.hosts(), &seen.access).await.map_err(|error| {
                self.workload.report_down(&cluster, &error.to_string());
                self.alarms.stop(key);
                error.to_string()
            });
        }
        match &seen.workload {
            Ok(workload) => {
                let subjects = observed.subjects(Some(workload));
                self.memory.lock().entry(key.clone()).or_default().answered = Some(observed.now);
                seen.health = health::evaluate(&subjects, workload);
                report.members_match = health::members_match(&subjects, workload, observed.now);
            }
            Err(error) => seen.health = self.silent(key, observed, error),
        }
        Ok(seen)
    }

    /// Health while the cluster does not answer: what it said stands for a while.
    fn silent(&self, key: &ObjectKey, observed: &Observed, error: &str) -> Health {
        let (last, asked) = self.memory.lock().get(key).map_or((None, None), |memory| (memory.answered, memory.asked));
        // A process that has just started knows no more than when it first asked.
        let since = initialized_since(&observed.control_plane).into_iter().chain(last).chain(asked).max();
        let patient = since.is_none_or(|since| observed.now.duration_since(since).unsigned_abs() <= self.grace);
        let known = conditions::get(observed.control_plane.conditions(), condition::COMPONENTS).is_some();
        if patient && known {
            return Health::default();
        }
        let when = last.map(|last| format!("Last successful probe at {}. ", last.strftime("%Y-%m-%dT%H:%M:%SZ")));
        let message = format!("{}Remote connection down: {error}", when.unwrap_or_default());
        let blind = Blind { reason: reason::CONNECTION_DOWN, message };
        health::unknown(&observed.subjects(None), observed.wanted.has_managed_etcd(), &blind)
    }

    /// Takes the machines' conditions of this pass into facts and report.
    fn judge(observed: &Observed, seen: &Seen, facts: &mut Facts, report: &mut Report) {
        for fact in &mut facts.machines {
            let Some(machine) = observed.machine(&fact.name) else { continue };
            let kubelet = machine.status.as_ref().and_then(|status| status.node_info.as_ref());
            let kubelet = kubelet.map(|info| info.kubelet_version.as_str());
            let mut claims = vec![status::up_to_date(&fact.outdated, &machine.spec.version, kubelet)];
            claims.extend(seen.health.machines.get(&fact.name).cloned().unwrap_or_default());
            fact.conditions =
                act::with_claims(machine.conditions(), claims, &[], machine.metadata.generation, observed.now);
        }
        report.health.clone_from(&seen.health.control_plane);
    }

    /// Keeps the annotations right that tell of work under way.
    async fn keep_notes(&self, observed: &Observed, decision: &Decision) -> Result<(), ReconcileError> {
        let mut notes = serde_json::Map::new();
        if decision.forget_remediation {
            notes.insert(REMEDIATION_IN_PROGRESS.to_owned(), json!(null));
        }
        if let Some(name) = observed.annotation(NEXT_MACHINE) {
            // Its machine is there, or is not wanted any more.
            let goes_on = matches!(decision.next, Ok(Step::Create { .. }) | Err(_));
            let is_over =
                observed.machine(name).is_some() || !goes_on && self.actor.abandon(&observed.wanted, name).await?;
            if is_over {
                notes.insert(NEXT_MACHINE.to_owned(), json!(null));
            }
        }
        if notes.is_empty() { Ok(()) } else { self.note(observed, notes).await }
    }

    async fn note(
        &self,
        observed: &Observed,
        notes: serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), ReconcileError> {
        let key = ObjectKey::of(&*observed.control_plane);
        let patch = json!({"metadata": {"annotations": notes}});
        let write = self.actor.writer.merge_anyway::<KubeadmControlPlane>(&key, &patch);
        fault::around("note-on-control-plane", write).await.map(drop)
    }

    async fn perform(
        &self,
        key: &ObjectKey,
        observed: &Observed,
        seen: &Seen,
        report: &mut Report,
        decision: &Decision,
    ) -> Result<Outcome, ReconcileError> {
        let step = match &decision.next {
            Ok(step) => step,
            Err(wait) => {
                tracing::debug!(?wait, "Waiting.");
                return Ok(Outcome::Requeue(wait.after()));
            }
        };
        if *step != Step::Settle {
            tracing::info!(?step, "Acting.");
        }
        match step {
            Step::Settle => return self.settle(key, observed, seen).await,
            Step::RemoveStray { id, name } => {
                let client = reached(seen)?;
                let through = staying_nodes(observed, seen);
                self.actor.remove_member(client, &seen.access, (*id, name), &through).await.map_err(failed)?;
            }
            Step::LetGo { machine, exit } => {
                if let Some(exit) = exit {
                    self.leave(observed, seen, report, machine, exit).await?;
                    // The connection may end at the API server that has just lost its etcd member, where requests hang.
                    self.alarms.stop(key);
                    self.workload.forget(&ObjectKey::of(&*observed.cluster));
                }
                if let Some(machine) = observed.machine(machine) {
                    self.actor.remove_hook(machine).await?;
                }
            }
            Step::Create { init, failure_domain, rollout } => {
                if *rollout {
                    self.prepare_rollout(observed, seen).await?;
                }
                self.create(observed, *init, failure_domain).await?;
            }
            Step::Delete { machine, handover, rollout } => {
                if *rollout {
                    self.prepare_rollout(observed, seen).await?;
                }
                self.hand_over(seen, handover.as_ref()).await?;
                if let Some(machine) = observed.machine(machine) {
                    self.actor.delete(machine).await?;
                }
            }
            Step::Remediate { record, handover } => {
                self.hand_over(seen, handover.as_ref()).await?;
                self.remediate(observed, record).await?;
            }
        }
        Ok(Outcome::Requeue(SOON))
    }

    /// Everything is as wanted: add-ons and notes.
    async fn settle(&self, key: &ObjectKey, observed: &Observed, seen: &Seen) -> Result<Outcome, ReconcileError> {
        let (Some(client), true) = (&seen.client, seen.initialized) else { return Ok(Outcome::Settled) };
        let cluster = observed.wanted.cluster_configuration();
        let add_ons = AddOns {
            version: observed.wanted.version.clone(),
            repository: cluster.map(|cluster| cluster.image_repository.clone()).unwrap_or_default(),
            dns: cluster.and_then(|cluster| cluster.dns.clone()),
            skip_kube_proxy: observed.annotation(SKIP_KUBE_PROXY).is_some(),
            skip_core_dns: observed.annotation(SKIP_CORE_DNS).is_some() || cluster.is_none(),
        };
        let wish = format!("{add_ons:?}");
        let now = self.clock.monotonic();
        let is_right = self.memory.lock().get(key).is_some_and(|memory| {
            memory.add_ons.as_ref().is_some_and(|(when, kept)| *kept == wish && now.saturating_sub(*when) < ADD_ONS)
        });
        if !is_right {
            fault::around("keep-add-ons", workload::keep_add_ons(client, &add_ons)).await.map_err(failed)?;
            self.memory.lock().entry(key.clone()).or_default().add_ons = Some((now, wish));
        }
        let mut outcome = Outcome::Settled;
        for (config, node) in observed.without_expiry() {
            let port = bind_port(&config.spec.0);
            match self.actor.pods.certificate_expiry(client, &node, port).await {
                Ok(expiry) => {
                    self.actor.note_expiry(&config, expiry).await?;
                }
                // Its API server is not registered yet, or starts again: it is looked at a little later.
                Err(error) => {
                    tracing::debug!(%error, node, "The API server's certificate is not readable yet.");
                    if observed.machines.iter().any(|machine| is_young(machine, observed.now)) {
                        outcome = Outcome::Requeue(EXPIRY_LATER);
                    }
                }
            }
        }
        Ok(outcome)
    }

    /// An etcd member leaves. The member list is read once more just before, and the decision taken again on it.
    async fn leave(
        &self,
        observed: &Observed,
        seen: &Seen,
        report: &Report,
        machine: &str,
        exit: &Exit,
    ) -> Result<(), ReconcileError> {
        let client = reached(seen)?;
        let fresh = workload::read(client, &*self.actor.pods, &observed.hosts(), &seen.access).await.map_err(failed)?;
        let facts = Facts { etcd: fresh.etcd, ..report.facts.clone() };
        match decide::members::terminate(&facts) {
            Ok(Step::LetGo { machine: still, exit: Some(now) }) if still == machine && now == *exit => {}
            Ok(Step::LetGo { machine: still, exit: None }) if still == machine => return Ok(()),
            _ => return Err(ReconcileError::new(Category::Conflict, "etcd changed meanwhile; deciding again")),
        }
        if !exit.heir.is_empty() {
            self.actor.move_leader(client, &seen.access, &exit.node, &exit.heir).await.map_err(failed)?;
        }
        let mut through = staying_nodes(observed, seen);
        through.retain(|node| *node != exit.node);
        self.actor.remove_member(client, &seen.access, (exit.id, &exit.node), &through).await.map_err(failed)
    }

    async fn hand_over(&self, seen: &Seen, handover: Option<&Handover>) -> Result<(), ReconcileError> {
        let Some((node, heirs)) = handover else { return Ok(()) };
        self.actor.move_leader(reached(seen)?, &seen.access, node, heirs).await.map_err(failed)
    }

    /// What machines of the target version read when they join.
    async fn prepare_rollout(&self, observed: &Observed, seen: &Seen) -> Result<(), ReconcileError> {
        let client = reached(seen)?;
        let version = observed.wanted.parsed_version().ok_or_else(|| {
            ReconcileError::new(
                Category::Terminal,
                format!("spec.version: {:?} is no version", observed.wanted.version),
            )
        })?;
        let spec = super::desired::config_spec(&observed.wanted, Role::Join);
        let target = Target {
            version: &version,
            version_text: &observed.wanted.version,
            cluster: observed.wanted.cluster_configuration().and(spec.cluster_configuration.as_ref()),
        };
        let write = async {
            workload::ensure_rbac(client, &version).await?;
            workload::write_kubeadm_config(client, &target).await
        };
        fault::around("write-kubeadm-config", write).await.map_err(failed)
    }

    async fn create(&self, observed: &Observed, init: bool, failure_domain: &str) -> Result<(), ReconcileError> {
        let wanted = &observed.wanted;
        // A missing template is said before anything is recorded.
        let template = self.actor.foreign.get(&wanted.infrastructure, &wanted.namespace).await?;
        let template = template.ok_or_else(|| {
            let ContractReference { kind, name, .. } = &wanted.infrastructure;
            ReconcileError::new(Category::Waiting(TEMPLATE), format!("{kind} {name} does not exist"))
        })?;
        let name = match observed.annotation(NEXT_MACHINE).filter(|name| observed.machine(name).is_none()) {
            Some(name) if self.actor.may_continue(wanted, name).await? => name.clone(),
            leftover => {
                if let Some(name) = leftover
                    && !self.actor.abandon(wanted, name).await?
                {
                    return Err(ReconcileError::new(
                        Category::Conflict,
                        format!("Machine {name} is not in the cache yet"),
                    ));
                }
                self.record_name(observed).await?
            }
        };
        let role = if init { Role::Init } else { Role::Join };
        let remediation = observed.annotation(REMEDIATION_IN_PROGRESS).map(String::as_str);
        let template = serde_json::to_value(template)?;
        self.actor.create(wanted, &template, &name, role, failure_domain, remediation).await?;
        let mut notes = serde_json::Map::from_iter([(NEXT_MACHINE.to_owned(), json!(null))]);
        if remediation.is_some() {
            // The new machine carries the record now.
            notes.insert(REMEDIATION_IN_PROGRESS.to_owned(), json!(null));
        }
        self.note(observed, notes).await
    }

    /// Chooses the name of the next machine and records it, so that whoever goes on uses the same.
    async fn record_name(&self, observed: &Observed) -> Result<String, ReconcileError> {
        let name = observed.wanted.machine_name(&self.random.name_suffix());
        let name = name.map_err(|error| ReconcileError::new(Category::Terminal, error.to_string()))?;
        let patch = json!({"metadata": {"annotations": {NEXT_MACHINE: name}}});
        let record = self.actor.writer.merge(&*observed.control_plane, patch);
        fault::around("record-machine-name", record).await?;
        Ok(name)
    }

    async fn remediate(&self, observed: &Observed, record: &Remediation) -> Result<(), ReconcileError> {
        let Some(machine) = observed.machine(&record.machine) else { return Ok(()) };
        // Recorded first: after a crash in between the machine is still there, and the record counts for nothing.
        let note = serde_json::Map::from_iter([(REMEDIATION_IN_PROGRESS.to_owned(), json!(record.to_annotation()))]);
        self.note(observed, note).await?;
        self.actor.delete(machine).await
    }

    /// The end of a control plane.
    async fn wind_down(
        &self,
        key: &ObjectKey,
        observed: &Observed,
        report: &mut Report,
    ) -> Result<Outcome, ReconcileError> {
        let state = State { initialized: observed.control_plane.is_initialized(), certificates_available: true };
        report.initialized = state.initialized;
        report.facts = observed.facts(Err("the control plane is being deleted"), state, 0);
        if let Ok(seen) = self.look(key, observed, report).await {
            let mut facts = observed.facts(seen.workload.as_ref().map_err(String::as_str), state, 0);
            Self::judge(observed, &seen, &mut facts, report);
            report.facts = facts;
        }
        let cluster = ObjectKey::of(&*observed.cluster);
        let pools =
            if observed.machines.is_empty() { Vec::new() } else { self.foreign.machine_pools(&cluster).await? };
        let deletion = decide::delete::next(observed.machines.len(), &observed.others, &pools);
        report.deletion = Some(deletion.clone());
        match deletion {
            Deletion::Completed => return Ok(Outcome::Settled),
            Deletion::WaitingForWorkers { .. } => {}
            Deletion::DeleteMachines => {
                for machine in &observed.machines {
                    if !machine.is_deleting() {
                        self.actor.delete(machine).await?;
                    }
                }
                // Hooks of machines that are deleting already; of the others in the pass that their deletion wakes.
                for machine in observed.machines.iter().filter(|machine| machine.is_deleting()) {
                    self.actor.remove_hook(machine).await?;
                }
            }
        }
        Ok(Outcome::Requeue(Duration::from_secs(30)))
    }
}

/// Nodes through which etcd can be changed, the best first.
fn staying_nodes(observed: &Observed, seen: &Seen) -> Vec<String> {
    let Ok(workload) = &seen.workload else { return Vec::new() };
    observed.hosts().iter().filter_map(|host| workload.node_of(host)).collect()
}

/// Whether the first `kubeadm init` may be done and may count: it takes a machine that runs. A single machine that goes
/// away will not be what the cluster starts from: were it taken for initialized, its replacement would try to join nothing.
pub(super) fn may_initialize(machines: &[Arc<Machine>]) -> bool {
    let stays = |only: &Machine| {
        let unhealthy = conditions::is_false(only.conditions(), machine::OWNER_REMEDIATED);
        !only.is_deleting() && !unhealthy && !only.annotations().contains_key(REMEDIATE_MACHINE)
    };
    let counts = if let [only] = machines { stays(only) } else { true };
    counts && machines.iter().any(|machine| machine.is_infrastructure_provisioned())
}

fn initialized_since(control_plane: &KubeadmControlPlane) -> Option<Timestamp> {
    let condition = conditions::get(control_plane.conditions(), condition::INITIALIZED)?;
    (condition.status == "True").then_some(condition.last_transition_time.0)
}

fn reached(seen: &Seen) -> Result<&WorkloadClient, ReconcileError> {
    seen.client.as_ref().ok_or_else(|| ReconcileError::transient("the workload cluster does not answer"))
}

fn failed(error: workload::Error) -> ReconcileError {
    match error {
        workload::Error::Api(error) => ReconcileError::from(error).context("workload cluster"),
        workload::Error::Content(reason) => ReconcileError::new(Category::Waiting(Duration::from_secs(60)), reason),
        other => ReconcileError::transient(other.to_string()),
    }
}

fn bind_port(config: &kubeadm::api::spec::KubeadmConfigSpec) -> u16 {
    let init = config.init_configuration.as_ref().and_then(|init| init.local_api_endpoint.as_ref());
    let join = config.join_configuration.as_ref().and_then(|join| join.control_plane.as_ref());
    let join = join.and_then(|control_plane| control_plane.local_api_endpoint.as_ref());
    let port = [init, join].into_iter().flatten().find_map(|endpoint| endpoint.bind_port);
    port.and_then(|port| u16::try_from(port).ok()).unwrap_or(6443)
}
