//! The only place that changes anything: machines and what belongs to them in the management cluster, etcd and kubeadm's
//! configuration in the workload cluster. Each effect is safe to repeat, and named so that tests can crash around it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use cluster_api::{
    conditions::{self, Claim},
    labels::CLONED_FROM_NAME,
    v1beta2::{ContractReference, Machine},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::ResourceExt;
use kubeadm::api::v1beta2::{self as bootstrap, KubeadmConfig};
use manager::{
    Category, ObjectKey, ReconcileError, Writer, Written, fault,
    remembered::{OBJECTS, Remembered},
    workload::WorkloadClient,
};
use serde_json::{Value, json};

use super::{
    desired::{self, Role},
    foreign::Foreign,
    names::{CLEANUP_HOOK, FIELD_MANAGER, METADATA_MANAGER, machine},
    observe::Observed,
    ownership,
    wanted::Wanted,
};
use crate::{
    api::v1beta2::KubeadmControlPlane,
    workload::{self, EtcdAccess, Pods},
};

/// Every effect of this controller, by the name of its crash points.
pub const EFFECTS: &[&str] = &[
    "add-finalizer",
    "adopt-machine",
    "create-certificate",
    "own-secret",
    "create-kubeconfig",
    "renew-kubeconfig",
    "own-template",
    "sync-machine",
    "hand-over-metadata",
    "sync-metadata",
    "record-machine-name",
    "create-infrastructure",
    "label-infrastructure",
    "create-config",
    "create-machine",
    "delete-leftover",
    "note-on-control-plane",
    "delete-machine",
    "move-etcd-leader",
    "remove-etcd-member",
    "remove-hook",
    "write-kubeadm-config",
    "keep-add-ons",
    "note-certificate-expiry",
    "write-machine-conditions",
    "write-status",
    "remove-finalizer",
];

/// Performs effects.
pub struct Actor {
    pub(super) writer: Writer,
    pub(super) foreign: Arc<Foreign>,
    pub(super) pods: Arc<dyn Pods>,
    /// Digest of what was applied last to an object, by its UID: an apply that changes nothing is not sent. It is right as long
    /// as no earlier apply comes after a later one, so each is for the version of the object that was read.
    applied: Remembered<String, u64>,
}

impl Actor {
    /// Over the process's writer.
    pub fn new(writer: Writer, foreign: Arc<Foreign>, pods: Arc<dyn Pods>) -> Self {
        Self { writer, foreign, pods, applied: Remembered::new(OBJECTS) }
    }

    /// Brings what may change in place to the machines and what belongs to them.
    pub async fn sync(&self, observed: &Observed) -> Result<(), ReconcileError> {
        for machine in &observed.machines {
            if machine.is_deleting() {
                self.sync_deleting(&observed.wanted, machine).await?;
                continue;
            }
            let wanted = desired::existing_machine(&observed.wanted, machine);
            let body = json!(wanted);
            if self.is_due(machine.uid(), &body, &json!(**machine)) {
                fault::around("sync-machine", self.writer.apply(&wanted, Some(machine))).await?;
                self.note_applied(machine.uid(), &body);
            }
            self.sync_metadata(observed, machine).await?;
        }
        Ok(())
    }

    /// A machine that is being deleted: only what its deletion depends on.
    async fn sync_deleting(&self, wanted: &Wanted, machine: &Machine) -> Result<(), ReconcileError> {
        let deletion = desired::deletion(wanted);
        if machine.spec.deletion.as_ref() == Some(&deletion) && machine.spec.taints == wanted.taints {
            return Ok(());
        }
        let patch = json!({"spec": {"deletion": deletion, "taints": wanted.taints}});
        fault::around("sync-machine", self.writer.merge(machine, patch)).await.map(drop)
    }

    async fn sync_metadata(&self, observed: &Observed, machine: &Machine) -> Result<(), ReconcileError> {
        let name = machine.name_any();
        let config = machine.spec.bootstrap.config_ref.as_ref().map(|config| config.name.as_str());
        let config = config_of(config.unwrap_or_default());
        let parts = [
            (config, observed.configs.get(&name).map(|config| &config.metadata)),
            (machine.spec.infrastructure_ref.clone(), observed.infrastructure.get(&name).map(|metadata| &**metadata)),
        ];
        for (reference, metadata) in parts {
            let Some(metadata) = metadata else { continue };
            let body = self.metadata_body(&reference, &observed.wanted, metadata).await?;
            if self.is_due(metadata.uid.clone(), &body, &json!({"metadata": metadata})) {
                self.change_metadata(&reference, &observed.wanted, &body).await?;
            }
        }
        Ok(())
    }

    /// Brings an object's labels and annotations to those of `body`. What was applied before is not known after a start:
    /// then the managed fields tell whether there is anything to do.
    async fn change_metadata(
        &self,
        reference: &ContractReference,
        wanted: &Wanted,
        body: &Value,
    ) -> Result<(), ReconcileError> {
        let Some(mut live) = self.foreign.live_metadata(reference, &wanted.namespace).await? else { return Ok(()) };
        let all = ["labels", "annotations"].map(|field| (field, body["metadata"][field].clone()));
        let is_there = contains(&json!({"metadata": live}), &json!({"metadata": Value::from_iter(all)}));
        if is_there && ownership::has_no_more_than(&live, body) {
            self.note_applied(live.uid, body);
            return Ok(());
        }
        if let Some(fields) = ownership::handed_over(&live) {
            let write = self.foreign.replace_managed_fields(reference, &wanted.namespace, &live, &fields);
            live = fault::around("hand-over-metadata", write).await?;
        }
        fault::around("sync-metadata", self.put_metadata(reference, wanted, &live, body)).await
    }

    /// Whether an apply would change anything: something is not there as wanted, or more was wanted before.
    fn is_due(&self, uid: Option<String>, wanted: &Value, current: &Value) -> bool {
        let applied = uid.and_then(|uid| self.applied.get(&uid));
        applied != Some(digest(wanted)) || !contains(current, wanted)
    }

    fn note_applied(&self, uid: Option<String>, body: &Value) {
        if let Some(uid) = uid {
            self.applied.insert(uid, digest(body));
        }
    }

    /// Makes the objects of a machine, the Machine itself last. A repeat under the same name continues.
    pub async fn create(
        &self,
        wanted: &Wanted,
        template: &Value,
        name: &str,
        role: Role,
        failure_domain: &str,
        remediation: Option<&str>,
    ) -> Result<(), ReconcileError> {
        let reference = infrastructure_of(wanted, name);
        let resource = self.foreign.resource(&reference.api_group, &reference.kind).await?;
        let infrastructure = desired::infrastructure(wanted, name, &resource.api_version, template)
            .map_err(|error| ReconcileError::new(Category::Terminal, error.to_string()))?;
        fault::around("create-infrastructure", self.make(&reference, wanted, infrastructure)).await?;
        let mut config = json!(desired::config(wanted, name, role));
        config["apiVersion"] = json!(bootstrap::API_VERSION);
        config["kind"] = json!("KubeadmConfig");
        if let Some(object) = config.as_object_mut() {
            object.retain(|_, value| !value.is_null());
        }
        fault::around("create-config", self.make(&config_of(name), wanted, config)).await?;
        let machine = desired::new_machine(wanted, name, failure_domain, &reference.kind, remediation);
        let made = fault::around("create-machine", self.writer.apply(&machine, None)).await?;
        self.note_applied(made.uid(), &json!(desired::existing_machine(wanted, &made)));
        Ok(())
    }

    /// Whether what an interrupted pass made under a recorded name still fits: an infrastructure object keeps what it was
    /// cloned from.
    pub async fn may_continue(&self, wanted: &Wanted, name: &str) -> Result<bool, ReconcileError> {
        let found = self.foreign.metadata(&infrastructure_of(wanted, name), &wanted.namespace).await?;
        let annotations = found.as_ref().and_then(|metadata| metadata.annotations.as_ref());
        Ok(annotations.and_then(|all| all.get(CLONED_FROM_NAME)).is_none_or(|from| *from == wanted.infrastructure.name))
    }

    /// Deletes what an interrupted pass made for a machine that is not wanted any more. `false` when the Machine itself
    /// was made after all: then everything is its own.
    pub async fn abandon(&self, wanted: &Wanted, name: &str) -> Result<bool, ReconcileError> {
        // The cache may lag behind another process that led before us.
        if self.writer.api::<Machine>(&wanted.namespace).get_metadata_opt(name).await?.is_some() {
            return Ok(false);
        }
        for leftover in [infrastructure_of(wanted, name), config_of(name)] {
            let delete = self.foreign.delete_owned(&leftover, &wanted.namespace, &wanted.uid);
            fault::around("delete-leftover", delete).await?;
        }
        Ok(true)
    }

    /// Makes an object, in one write: [`ownership`] parts what may change from what is fixed once it does. Where a template
    /// brings labels or annotations of its own, which stay, they are parted at once. Until its Machine is made, nobody acts
    /// on the object.
    async fn make(&self, reference: &ContractReference, wanted: &Wanted, body: Value) -> Result<(), ReconcileError> {
        let key = ObjectKey::new(&wanted.namespace, &reference.name);
        let fixed = desired::without_changing(wanted, body.clone());
        if ownership::is_origin_alone(&fixed) {
            let made = self.foreign.apply(reference, &key, &body, FIELD_MANAGER).await?;
            let body = self.metadata_body(reference, wanted, &made).await?;
            self.note_applied(made.uid, &body);
            return Ok(());
        }
        let made = self.foreign.apply(reference, &key, &fixed, FIELD_MANAGER).await?;
        let body = self.metadata_body(reference, wanted, &made).await?;
        fault::around("label-infrastructure", self.put_metadata(reference, wanted, &made, &body)).await
    }

    /// Gives an object, as it was read, the labels and annotations that may change: those of [`Actor::metadata_body`].
    async fn put_metadata(
        &self,
        reference: &ContractReference,
        wanted: &Wanted,
        read: &ObjectMeta,
        body: &Value,
    ) -> Result<(), ReconcileError> {
        let key = ObjectKey::new(&wanted.namespace, &reference.name);
        let mut guarded = body.clone();
        guarded["metadata"]["resourceVersion"] = json!(read.resource_version);
        self.foreign.apply(reference, &key, &guarded, METADATA_MANAGER).await?;
        self.note_applied(read.uid.clone(), body);
        Ok(())
    }

    async fn metadata_body(
        &self,
        reference: &ContractReference,
        wanted: &Wanted,
        metadata: &ObjectMeta,
    ) -> Result<Value, ReconcileError> {
        let resource = self.foreign.resource(&reference.api_group, &reference.kind).await?;
        Ok(desired::metadata_only(wanted, metadata, &resource.api_version, &reference.kind))
    }

    /// Makes the cluster an owner of the infrastructure template.
    pub async fn own_template(&self, observed: &Observed) -> Result<(), ReconcileError> {
        let Ok(template) = &observed.template else { return Ok(()) };
        let owners = template.owner_references.as_deref().unwrap_or_default();
        let cluster = cluster_api::owner::plain(&*observed.cluster);
        if owners.iter().any(|owner| owner.uid == cluster.uid) {
            return Ok(());
        }
        let owners: Vec<_> = owners.iter().chain([&cluster]).collect();
        let patch = json!({"metadata": {"resourceVersion": template.resource_version, "ownerReferences": owners}});
        let merge = self.foreign.merge(&observed.wanted.infrastructure, &observed.wanted.namespace, &patch);
        fault::around("own-template", merge).await.map(drop)
    }

    /// Makes the control plane the controller of machines that have none.
    pub async fn adopt(&self, observed: &Observed) -> Result<(), ReconcileError> {
        let api = self.writer.api::<KubeadmControlPlane>(&observed.wanted.namespace);
        let now = api.get_metadata_opt(&observed.wanted.name).await?;
        // One that goes takes its machines along: who deletes it to be rid of it alone must not lose them.
        let stays = |metadata: &ObjectMeta| {
            metadata.deletion_timestamp.is_none() && metadata.uid.as_ref() == Some(&observed.wanted.uid)
        };
        if !now.is_some_and(|now| stays(&now.metadata)) {
            return Err(ReconcileError::new(Category::Conflict, "the control plane is being deleted"));
        }
        for machine in &observed.orphans {
            let others = machine.metadata.owner_references.iter().flatten().cloned();
            let owners: Vec<_> = others.chain([observed.wanted.controller_reference()]).collect();
            let patch = json!({"metadata": {"ownerReferences": owners}});
            fault::around("adopt-machine", self.writer.merge(&**machine, patch)).await?;
        }
        Ok(())
    }

    /// Deletes a machine.
    pub async fn delete(&self, machine: &Machine) -> Result<(), ReconcileError> {
        fault::around("delete-machine", self.writer.delete(machine)).await
    }

    /// Lets the deletion of a machine go on.
    pub async fn remove_hook(&self, machine: &Machine) -> Result<(), ReconcileError> {
        if !machine.annotations().contains_key(CLEANUP_HOOK) {
            return Ok(());
        }
        fault::around("remove-hook", self.annotate(machine, json!({CLEANUP_HOOK: null}))).await
    }

    /// Moves etcd's leadership to the first heir that takes it.
    pub async fn move_leader(
        &self,
        client: &WorkloadClient,
        access: &EtcdAccess,
        from: &str,
        heirs: &[(u64, String)],
    ) -> Result<(), workload::Error> {
        let EtcdAccess::Pods(manner) = access else { return Ok(()) };
        // Only the leader can hand over.
        let mut leader = self.pods.etcd(client, from, manner).await?;
        let mut failure = None;
        for (id, _) in heirs {
            if !leader.view().await?.leads(from) {
                return Ok(());
            }
            match fault::around("move-etcd-leader", leader.move_leader(*id)).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Removes an etcd member through the first other node that answers.
    pub async fn remove_member(
        &self,
        client: &WorkloadClient,
        access: &EtcdAccess,
        (id, name): (u64, &str),
        through: &[String],
    ) -> Result<(), workload::Error> {
        let EtcdAccess::Pods(manner) = access else { return Ok(()) };
        let mut failure = workload::Error::Content("no other etcd member can be asked".to_owned());
        for node in through {
            match self.pods.etcd(client, node, manner).await {
                Ok(mut etcd) => return Ok(fault::around("remove-etcd-member", etcd.remove(id, name)).await?),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Writes conditions that are ours to a machine; `wanted` has everybody's.
    pub async fn machine_conditions(&self, machine: &Machine, wanted: &[Condition]) -> Result<(), ReconcileError> {
        let (ours, shared): (Vec<_>, Vec<_>) = wanted.iter().cloned().partition(is_ours);
        let are_shown = shared.iter().eq(machine.conditions().iter().filter(|condition| !is_ours(condition)));
        let write = async {
            if are_shown {
                // Each is an entry of its own: what core writes meanwhile is no conflict.
                return self.writer.apply_conditions(machine, &ours).await;
            }
            // A health check asks by a condition that we answer, and take away once it is over: what it read counts.
            let patch = json!({"status": {"conditions": wanted}});
            self.writer.merge_status(machine, patch).await
        };
        fault::around("write-machine-conditions", write).await
    }

    /// Notes on a KubeadmConfig when the API server's certificate expires.
    pub async fn note_expiry(&self, config: &KubeadmConfig, expiry: Timestamp) -> Result<(), ReconcileError> {
        let text = expiry.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let note = json!({cluster_api::labels::CERTIFICATES_EXPIRY: text});
        fault::around("note-certificate-expiry", self.annotate(config, note)).await
    }

    /// Sets annotations that are ours alone; `null` takes one away.
    async fn annotate<K: Written>(&self, object: &K, annotations: Value) -> Result<(), ReconcileError> {
        let patch = json!({"metadata": {"uid": object.uid(), "annotations": annotations}});
        self.writer.merge_anyway::<K>(&ObjectKey::of(object), &patch).await.map(drop)
    }
}

fn is_ours(condition: &Condition) -> bool {
    machine::OURS.contains(&condition.type_.as_str())
}

/// The infrastructure object of a machine that is made from the template.
fn infrastructure_of(wanted: &Wanted, name: &str) -> ContractReference {
    ContractReference {
        api_group: wanted.infrastructure.api_group.clone(),
        kind: desired::clone_kind(&wanted.infrastructure.kind).to_owned(),
        name: name.to_owned(),
    }
}

fn config_of(name: &str) -> ContractReference {
    ContractReference {
        api_group: bootstrap::GROUP.to_owned(),
        kind: "KubeadmConfig".to_owned(),
        name: name.to_owned(),
    }
}

/// A machine's conditions with ours in place: others' stay as they are, in their order. `None` removes ours.
pub fn with_claims(
    before: &[Condition],
    claims: Vec<Claim>,
    removed: &[&str],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut ours = conditions::settle(before, claims, generation, now);
    let mut after = Vec::with_capacity(before.len() + ours.len());
    for condition in before.iter().filter(|condition| !removed.contains(&condition.type_.as_str())) {
        match ours.iter().position(|claimed| claimed.type_ == condition.type_) {
            Some(index) => after.push(ours.remove(index)),
            None => after.push(condition.clone()),
        }
    }
    after.extend(ours);
    after
}

/// Stands for a body. Maps are sorted, so the same object has the same digest within a process.
fn digest(body: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    hasher.finish()
}

/// What the API server does not store.
fn is_nothing(value: &Value) -> bool {
    let is_empty_object = value.as_object().is_some_and(serde_json::Map::is_empty);
    value.is_null() || is_empty_object || value.as_array().is_some_and(Vec::is_empty)
}

/// Whether an object has everything that another says, ignoring what only it has.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(name, value)| match whole.get(name) {
            Some(present) => contains(present, value),
            None => is_nothing(value) || name == "apiVersion" || name == "kind",
        }),
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|wanted| whole.iter().any(|present| contains(present, wanted)))
        }
        (whole, part) => whole == part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crash tests iterate over the list: an effect that is missing in it is never crashed around.
    #[test]
    fn every_effect_is_listed_and_every_listed_effect_exists() {
        fn sources(folder: &std::path::Path, text: &mut String) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    sources(&path, text);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    text.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        let mut text = String::new();
        sources(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut text);
        let name = |after: &str| after.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned);
        let used: std::collections::BTreeSet<String> =
            text.split(&["fault::", "around("].concat()).filter_map(name).collect();
        let listed: std::collections::BTreeSet<String> = EFFECTS.iter().map(|effect| (*effect).to_owned()).collect();
        assert_eq!(used, listed);
    }

    #[test]
    fn what_is_there_is_not_applied_again() {
        let current = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"list": [{"x": 1, "y": 2}]}});
        assert!(contains(&current, &json!({"metadata": {"labels": {"a": "1"}, "annotations": {}}, "kind": "K"})));
        assert!(contains(&current, &json!({"spec": {"list": [{"x": 1}]}})));
        assert!(!contains(&current, &json!({"metadata": {"labels": {"c": ""}}})));
        assert!(!contains(&current, &json!({"spec": {"list": [{"x": 2}]}})));
    }

    #[test]
    fn claims_replace_ours_and_leave_others_in_their_place() {
        let now = Timestamp::UNIX_EPOCH;
        let claim = |type_: &str, holds: bool| Claim::new(type_, holds, "Reason", "");
        let before: Vec<_> = ["Z", "Ours", "Gone", "A"]
            .into_iter()
            .flat_map(|type_| conditions::settle(&[], vec![claim(type_, true)], None, now))
            .collect();
        let after = with_claims(&before, vec![claim("Ours", false), claim("New", true)], &["Gone"], None, now);
        let shown: Vec<_> = after.iter().map(|found| (found.type_.as_str(), found.status.as_str())).collect();
        assert_eq!(shown, [("Z", "True"), ("Ours", "False"), ("A", "True"), ("New", "True")]);
        assert_eq!(with_claims(&after, vec![claim("Ours", false), claim("New", true)], &["Gone"], None, now), after);
    }
}
