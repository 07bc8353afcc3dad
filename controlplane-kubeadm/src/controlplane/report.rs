//! What a pass says: conditions of machines, and the status of the control plane.

use std::{collections::BTreeMap, time::Duration};

use cluster_api::{
    conditions::{self, Claim, Status, settle},
    labels::{CLUSTER_NAME, CONTROL_PLANE},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use manager::{ObjectKey, ReconcileError, fault};
use serde_json::{Value, json};

use super::{
    ControlPlanes, act,
    decide::{Blocked, Decision, Wait, delete::Deletion},
    details::{self, Details},
    facts::{Facts, Remediation},
    health::{self, Blind},
    names::{REMEDIATION_IN_PROGRESS, condition, machine},
    observe::{Observed, State},
    status::{self, Inputs, Reach},
};
use crate::api::v1beta2::{
    Initialization, KubeadmControlPlane, KubeadmControlPlaneStatus, LastRemediation, StatusVersion,
};

/// Most names of workers in the message of a deletion.
const WORKERS: usize = 5;

/// What a pass found out, in the order in which it did.
pub(super) struct Report {
    pub(super) facts: Facts,
    pub(super) paused: Claim,
    pub(super) certificates: Claim,
    pub(super) health: Vec<Claim>,
    pub(super) initialized: bool,
    pub(super) members_match: bool,
    pub(super) blocked: Blocked,
    pub(super) remediated: BTreeMap<String, Option<Claim>>,
    pub(super) deletion: Option<Deletion>,
    /// Why the pass ended early.
    pub(super) failure: Option<String>,
}

impl Report {
    /// Before anything was looked at.
    pub(super) fn new(observed: &Observed, paused: Claim) -> Self {
        let initialized = observed.control_plane.is_initialized();
        let state = State { initialized, certificates_available: false };
        let before = observed.control_plane.conditions();
        let kept = |type_: &str| conditions::get(before, type_).map(as_claim);
        let unknown = || Claim::new(condition::CERTIFICATES, Status::Unknown, "InternalError", "Not looked at yet");
        Self {
            facts: observed.facts(Err("not looked at yet"), state, 0),
            paused,
            certificates: kept(condition::CERTIFICATES).unwrap_or_else(unknown),
            health: Vec::new(),
            initialized,
            members_match: false,
            blocked: Blocked::default(),
            remediated: BTreeMap::new(),
            deletion: None,
            failure: None,
        }
    }

    /// Says why a decision waits, where nothing else does.
    pub(super) fn explain(&mut self, decision: &Decision) {
        let Some((type_, line)) = decision.next.as_ref().err().and_then(Wait::explained) else { return };
        let claim = self.health.iter_mut().find(|claim| claim.type_ == type_ && claim.status != Status::True);
        if let Some(claim) = claim {
            status::add_line(claim, &line);
        }
    }

    /// The workload cluster cannot be looked at, for a reason that lies in the management cluster.
    pub(super) fn see_nothing(&mut self, observed: &Observed, blind: &Blind) {
        let unknown = health::unknown(&observed.subjects(None), observed.wanted.has_managed_etcd(), blind);
        self.health = unknown.control_plane;
    }

    /// Whether nothing is left of the control plane but itself.
    pub(super) fn deletion_completed(&self) -> bool {
        self.deletion == Some(Deletion::Completed)
    }

    fn deletion_claim(&self) -> (&'static str, String) {
        match &self.deletion {
            Some(Deletion::WaitingForWorkers { pools, machines }) => {
                let lists = [("MachinePools", pools), ("Machines", machines)];
                let lines = lists.iter().filter(|(_, names)| !names.is_empty());
                let lines: Vec<_> =
                    lines.map(|(kind, names)| format!("* {kind}: {}", status::named(names, WORKERS))).collect();
                (
                    "WaitingForWorkersDeletion",
                    format!("KubeadmControlPlane deletion blocked because:\n{}", lines.join("\n")),
                )
            }
            Some(Deletion::DeleteMachines) => {
                let count = self.facts.machines.len();
                let plural = if count == 1 { "" } else { "s" };
                let stale =
                    status::stale_deletions(&self.facts).map(|stale| format!("\n* {stale}")).unwrap_or_default();
                ("WaitingForMachineDeletion", format!("Deleting {count} Machine{plural}{stale}"))
            }
            Some(Deletion::Completed) => ("DeletionCompleted", String::new()),
            None => ("InternalError", "Please check controller logs for errors".to_owned()),
        }
    }
}

fn as_claim(condition: &Condition) -> Claim {
    let status = match condition.status.as_str() {
        "True" => Status::True,
        "False" => Status::False,
        _ => Status::Unknown,
    };
    Claim::new(condition.type_.clone(), status, condition.reason.clone(), condition.message.clone())
}

impl ControlPlanes {
    /// Says that nothing is done.
    pub(super) async fn report_paused(
        &self,
        control_plane: &KubeadmControlPlane,
        pause: Claim,
    ) -> Result<(), ReconcileError> {
        let before = control_plane.conditions();
        let generation = control_plane.metadata.generation;
        let claims =
            before.iter().filter(|condition| condition.type_ != pause.type_).map(as_claim).chain([pause.clone()]);
        let mut status = control_plane.status.clone().unwrap_or_default();
        let kept = before.iter().filter(|condition| condition.type_ != pause.type_).cloned();
        let paused = settle(before, claims.collect(), generation, self.clock.now());
        let paused = paused.into_iter().filter(|condition| condition.type_ == pause.type_);
        status.conditions = kept.chain(paused).collect();
        fault::around("write-status", self.actor.writer.apply_status(control_plane, &status)).await
    }

    /// Says what the pass found out, on the machines and on the control plane. Details may have to wait: then for how long.
    pub(super) async fn write(
        &self,
        observed: &Observed,
        report: &Report,
        succeeded: bool,
    ) -> Result<Option<Duration>, ReconcileError> {
        let key = ObjectKey::of(&*observed.control_plane);
        let unsaid = self.memory.lock().get(&key).and_then(|memory| memory.unsaid);
        let mut details = Details::new(unsaid, self.clock.monotonic());
        let mut outcome = Ok(());
        for fact in &report.facts.machines {
            let Some(machine) = observed.machine(&fact.name) else { continue };
            let remediated = report.remediated.get(&fact.name);
            let (claims, removed): (Vec<_>, &[&str]) = match remediated {
                Some(None) => (Vec::new(), &[machine::OWNER_REMEDIATED]),
                Some(Some(claim)) => (vec![claim.clone()], &[]),
                None => (Vec::new(), &[]),
            };
            let generation = machine.metadata.generation;
            let wanted = act::with_claims(&fact.conditions, claims, removed, generation, observed.now);
            let shown = machine.conditions();
            if wanted == shown || details.leave(details::matter_in_conditions(shown, &wanted)) {
                continue;
            }
            // One machine that changed meanwhile does not keep the others, or the status, from being written.
            outcome = outcome.and(self.actor.machine_conditions(machine, &wanted).await);
        }
        let status = rendered(observed, report, succeeded);
        let shown = observed.control_plane.status.as_ref();
        let left =
            shown.is_some_and(|shown| *shown == status || details.leave(details::matter_in_status(shown, &status)));
        if !left {
            let write = self.actor.writer.apply_status(&*observed.control_plane, &status);
            outcome = outcome.and(fault::around("write-status", write).await);
        }
        self.memory.lock().entry(key).or_default().unsaid = details.waiting_since();
        outcome.map(|()| details.rest())
    }
}

/// The status of a control plane.
fn rendered(observed: &Observed, report: &Report, succeeded: bool) -> KubeadmControlPlaneStatus {
    let control_plane = &observed.control_plane;
    let before = control_plane.status.clone().unwrap_or_default();
    let facts = &report.facts;
    let initialized =
        conditions::get(&before.conditions, condition::INITIALIZED).filter(|found| found.status == "True");
    let inputs = Inputs {
        facts,
        replicas: observed.wanted.replicas,
        deletion: observed.is_deleting().then(|| report.deletion_claim()),
        health: &report.health,
        certificates: report.certificates.clone(),
        blocked: report.blocked.clone(),
        failure: report.failure.clone(),
        missing_template: observed.template.as_ref().err().cloned(),
        reach: Reach {
            initialized: report.initialized,
            since: initialized.map(|condition| condition.last_transition_time.0),
            members_match: report.members_match,
        },
        paused: report.paused.clone(),
    };
    let mut claims = status::conditions(&inputs);
    // What was not looked at in this pass still stands.
    for type_ in [condition::ETCD, condition::COMPONENTS] {
        if claims.iter().all(|claim| claim.type_ != type_) {
            claims.extend(conditions::get(&before.conditions, type_).map(as_claim));
        }
    }
    let generation = control_plane.metadata.generation;
    let count = |type_: &str| {
        Some(i32::try_from(facts.machines.iter().filter(|machine| machine.is_true(type_)).count()).unwrap_or(i32::MAX))
    };
    let versions = status::versions(observed.machines.iter().map(|machine| {
        let info = machine.status.as_ref().and_then(|status| status.node_info.as_ref());
        let kubelet = info.map(|info| info.kubelet_version.as_str()).filter(|version| !version.is_empty());
        kubelet.unwrap_or(&machine.spec.version)
    }));
    let conditions = settle(&before.conditions, claims, generation, observed.now);
    let replicas = Some(i32::try_from(facts.machines.len()).unwrap_or(i32::MAX));
    KubeadmControlPlaneStatus {
        deprecated: Some(deprecated(observed, report, &conditions)),
        conditions,
        initialization: report.initialized.then_some(Initialization { control_plane_initialized: Some(true) }),
        selector: format!("{CLUSTER_NAME}={},{CONTROL_PLANE}", observed.wanted.cluster),
        replicas,
        ready_replicas: count("Ready"),
        available_replicas: count("Available"),
        up_to_date_replicas: count(machine::UP_TO_DATE),
        version: versions.first().map_or(before.version, |(version, _)| version.clone()),
        versions: versions
            .into_iter()
            .map(|(version, count)| StatusVersion { version, replicas: Some(count) })
            .collect(),
        observed_generation: if succeeded { generation } else { before.observed_generation },
        last_remediation: last_remediation(observed, facts).or(before.last_remediation),
    }
}

fn last_remediation(observed: &Observed, facts: &Facts) -> Option<LastRemediation> {
    let in_progress = observed.annotation(REMEDIATION_IN_PROGRESS).and_then(|text| Remediation::parse(text));
    let newest = || {
        facts
            .machines
            .iter()
            .filter_map(super::facts::MachineFact::remediation_for)
            .max_by_key(|record| record.timestamp)
    };
    in_progress.or_else(newest).map(|record| LastRemediation {
        machine: record.machine,
        time: Time(record.timestamp),
        retry_count: record.retry_count,
    })
}

/// What readers of v1beta1 see: counters, and the conditions that existed then.
fn deprecated(observed: &Observed, report: &Report, conditions: &[Condition]) -> Value {
    let facts = &report.facts;
    let before = observed.control_plane.status.as_ref().and_then(|status| status.deprecated.as_ref());
    let before = before.and_then(|before| before["v1beta1"]["conditions"].as_array()).map(Vec::as_slice);
    let shown = status::v1beta1::conditions(
        facts,
        conditions,
        observed.is_deleting(),
        report.failure.as_deref(),
        before.unwrap_or_default(),
    );
    let ready = facts.machines.iter().filter(|machine| machine.is_true("NodeReady")).count();
    json!({"v1beta1": {
        "conditions": shown,
        "updatedReplicas": facts.machines.iter().filter(|machine| machine.is_up_to_date()).count(),
        "readyReplicas": ready,
        "unavailableReplicas": facts.machines.len() - ready,
    }})
}
