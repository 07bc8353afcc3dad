//! The effects of the machine controller: one step each, with its record.

use std::{sync::Arc, time::Duration};

use cluster_api::conditions::Claim;
use dcs_proto::{
    error::{RUNNING_DRIVE, Reason},
    v1,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::Resource;
use manager::{Category, ObjectKey, ReconcileError, fault};
use serde_json::{Value, json};

use super::{
    MachineReconciler, Scene,
    boot_data::boot_disks,
    decide::{Step, refused, types},
    media,
    record::{Attempt, Media, Record, Seen, Task, Work},
    request,
};
use crate::{
    api::{DCSIpHostnamePool, DCSMachine, MACHINE_FINALIZER, POOL_FINALIZER, pool::PoolEntry},
    claims::{self, Claim as EntryClaim},
    credentials,
    disks::standing,
    guest::{self, Format},
    site::Site,
};

/// Every effect of this controller, for crash tests.
pub const EFFECTS: &[&str] = &[
    "machine-add-finalizer",
    "machine-claim-entry",
    "machine-record-entry",
    "machine-forget-entry",
    "machine-warn",
    "machine-record-placement",
    "machine-begin-attempt",
    "machine-create-encryption-secret",
    "machine-ask-disks",
    "machine-begin-upload",
    "machine-put-media",
    "machine-record-media",
    "machine-create",
    "machine-record-created",
    "machine-adopt",
    "machine-record-progress",
    "machine-move",
    "machine-record-moved",
    "machine-grow-disk",
    "machine-record-growing",
    "machine-attach-media",
    "machine-record-attached",
    "machine-record-drive",
    "machine-power-on",
    "machine-record-started",
    "machine-provision",
    "machine-record-missing",
    "machine-detach-media",
    "machine-record-detached",
    "machine-delete-media",
    "machine-record-media-deleted",
    "machine-power-off",
    "machine-record-stopping",
    "machine-delete",
    "machine-record-deleting",
    "machine-next-attempt",
    "machine-release-entry",
    "machine-retain-entry",
    "machine-remove-finalizer",
    "machine-status",
];

/// Space that a boot medium may need, in GiB.
const MEDIA_GIB: u64 = 1;

/// Something that is missing or refused: what to say, and when to look again.
pub(super) type Obstacle = (Claim, Duration);

type Acted = Result<Option<Obstacle>, ReconcileError>;

const AGAIN: Duration = Duration::from_secs(20);

pub(super) fn obstacle(type_: &str, reason: &str, message: impl Into<String>) -> Obstacle {
    (Claim::new(type_, false, reason, message), AGAIN)
}

impl MachineReconciler {
    /// Carries out one step. What the site refuses is an obstacle; what the API server refuses is an error.
    pub(super) async fn act(&self, scene: &Scene, step: Step) -> Acted {
        match step {
            Step::Wait => Ok(None),
            Step::AddFinalizer => {
                let added = self.writer.add_finalizer(&*scene.machine, MACHINE_FINALIZER);
                fault::around("machine-add-finalizer", added).await.map(|()| None)
            }
            Step::RemoveFinalizer => {
                let removed = self.writer.remove_finalizer(&*scene.machine, MACHINE_FINALIZER);
                fault::around("machine-remove-finalizer", removed).await.map(|()| None)
            }
            Step::ClaimEntry(entry) => self.claim(scene, &entry).await,
            Step::RecordEntry(entry) => {
                self.record("machine-record-entry", scene, |record| record.network = Some(entry.network())).await
            }
            Step::ForgetEntry => {
                let forget = |record: &mut Record| (record.network, record.placement) = (None, None);
                self.record("machine-forget-entry", scene, forget).await
            }
            Step::Release => self.change_claims("machine-release-entry", scene, false).await,
            Step::Retain => self.change_claims("machine-retain-entry", scene, true).await,
            Step::BeginAttempt => {
                let attempt = Attempt {
                    number: 1,
                    id: self.new_id()?,
                    at: self.clock.now(),
                    not_before: None,
                    last_failure: None,
                };
                self.record("machine-begin-attempt", scene, |record| record.attempt = Some(attempt)).await
            }
            Step::RecordMissing(missing) => {
                let since = missing.then(|| self.clock.now());
                self.record("machine-record-missing", scene, |record| record.missing_since = since).await
            }
            Step::RecordProgress(progress) => {
                let seen = Seen { progress, at: self.clock.now() };
                let note = |record: &mut Record| record.task.iter_mut().for_each(|task| task.seen = Some(seen));
                self.record("machine-record-progress", scene, note).await
            }
            Step::AskDisks(wish) => self.record("machine-ask-disks", scene, |record| record.disks = Some(wish)).await,
            Step::NextAttempt(attempt) => self.next_attempt(scene, attempt).await,
            Step::Adopt(urn) => {
                fault::around("machine-adopt", self.patch(scene, &scene.record, json!({"vmUrn": urn}))).await
            }
            Step::Provision => {
                let id = guest::provider_id(&scene.key.name);
                let record = Record { task: None, ..scene.record.clone() };
                fault::around("machine-provision", self.patch(scene, &record, json!({"providerID": id}))).await
            }
            step => self.act_at_site(scene, step).await,
        }
    }

    async fn act_at_site(&self, scene: &Scene, step: Step) -> Acted {
        let site = match self.site(scene).await? {
            Ok(site) => site,
            Err(obstacle) => return Ok(Some(obstacle)),
        };
        match step {
            Step::Resolve => self.resolve(scene, &site).await,
            Step::PutMedia => self.put_media(scene, &site).await,
            Step::Create => self.create(scene, &site).await,
            Step::DeleteMedia => self.delete_media(scene, &site).await,
            Step::MoveToFolder(folder) => self.move_into(scene, &site, &folder).await,
            step => self.simple(scene, &site, &step).await,
        }
    }

    /// Steps that are one call on the VM and a task.
    async fn simple(&self, scene: &Scene, site: &Site, step: &Step) -> Acted {
        let (urn, owner) = (scene.vm_urn(), self.owner_mark(scene).await?);
        let attempt = scene.record.attempt.as_ref().map(|attempt| attempt.id.clone()).unwrap_or_default();
        let media = scene.record.media.clone();
        let (work, doing, recorded, answer) = match step {
            Step::GrowDisk(growth) => {
                let call = site.call(|mut client, session| {
                    let request = v1::GrowDiskRequest {
                        session,
                        machine_urn: urn.clone(),
                        volume_urn: growth.volume.clone(),
                        owner: Some(owner.clone()),
                        attempt: attempt.clone(),
                        size_gib: growth.gib,
                    };
                    async move { client.grow_disk(request).await }
                });
                let answer = fault::around("machine-grow-disk", call).await;
                (Work::GrowDisk, "growing a disk", "machine-record-growing", answer)
            }
            Step::AttachMedia => {
                let Some(media) = media else { return Ok(None) };
                let call = site.call(|mut client, session| {
                    let request = v1::AttachBootMediaRequest {
                        session,
                        machine_urn: urn.clone(),
                        owner: Some(owner.clone()),
                        attempt: attempt.clone(),
                        path: media.path.clone(),
                        datastore_urn: media.datastore.clone(),
                    };
                    async move { client.attach_boot_media(request).await }
                });
                let answer = fault::around("machine-attach-media", call).await;
                if !media.on_power && answer.as_ref().is_err_and(|error| error.is_about(RUNNING_DRIVE)) {
                    let note = |record: &mut Record| record.media.iter_mut().for_each(|media| media.on_power = true);
                    return self.record("machine-record-drive", scene, note).await;
                }
                (Work::AttachMedia, "attaching the boot medium", "machine-record-attached", answer)
            }
            Step::DetachMedia => {
                let call = site.call(|mut client, session| {
                    let (machine_urn, owner, attempt) = (urn.clone(), Some(owner.clone()), attempt.clone());
                    let request = v1::DetachBootMediaRequest { session, machine_urn, owner, attempt };
                    async move { client.detach_boot_media(request).await }
                });
                let answer = fault::around("machine-detach-media", call).await;
                (Work::DetachMedia, "detaching the boot medium", "machine-record-detached", answer)
            }
            Step::PowerOn => {
                let call = site.call(|mut client, session| {
                    let (urn, owner, attempt) = (urn.clone(), Some(owner.clone()), attempt.clone());
                    async move { client.power_on(v1::PowerOnRequest { session, urn, owner, attempt }).await }
                });
                let answer = fault::around("machine-power-on", call).await;
                (Work::PowerOn, "starting the VM", "machine-record-started", answer)
            }
            Step::PowerOff => {
                let call = site.call(|mut client, session| {
                    let (urn, owner, attempt) = (urn.clone(), Some(owner.clone()), attempt.clone());
                    let request = v1::PowerOffRequest { session, urn, owner, attempt, force: false };
                    async move { client.power_off(request).await }
                });
                let answer = fault::around("machine-power-off", call).await;
                (Work::PowerOff, "stopping the VM", "machine-record-stopping", answer)
            }
            Step::Delete => {
                let survivors = standing::surviving_volumes(scene.pool.as_deref());
                let call = site.call(|mut client, session| {
                    let request = v1::DeleteMachineRequest {
                        session,
                        urn: urn.clone(),
                        owner: Some(owner.clone()),
                        attempt: attempt.clone(),
                        surviving_volume_urns: survivors.0.clone(),
                        surviving_volume_names: survivors.1.clone(),
                    };
                    async move { client.delete_machine(request).await }
                });
                let answer = fault::around("machine-delete", call).await;
                (Work::Delete, "deleting the VM", "machine-record-deleting", answer)
            }
            other => return Err(ReconcileError::new(Category::Bug, format!("{other:?} is no step at the site"))),
        };
        match answer {
            Err(error) => Ok(Some(refused(condition_of(work), doing, &error))),
            Ok(task) => {
                let now = self.clock.now();
                self.record(recorded, scene, |record| {
                    record.task = task_record(&task, work, now);
                    if work == Work::PowerOn {
                        record.started_at = record.started_at.or(Some(now));
                    }
                })
                .await
            }
        }
    }

    async fn move_into(&self, scene: &Scene, site: &Site, folder: &str) -> Acted {
        let owner = self.owner_mark(scene).await?;
        let attempt = scene.record.attempt.as_ref().map(|attempt| attempt.id.clone()).unwrap_or_default();
        let call = site.call(|mut client, session| {
            let request = v1::MoveMachineRequest {
                session,
                urn: scene.vm_urn(),
                owner: Some(owner.clone()),
                attempt: attempt.clone(),
                folder_urn: folder.to_owned(),
            };
            async move { client.move_machine(request).await }
        });
        match fault::around("machine-move", call).await {
            Err(error) => Ok(Some(refused(types::PROVISIONED, "moving the VM into its folder", &error))),
            Ok(task) => {
                let now = self.clock.now();
                self.record("machine-record-moved", scene, |record| {
                    record.task = task_record(&task, Work::Move, now);
                    record.moved = true;
                })
                .await
            }
        }
    }

    async fn resolve(&self, scene: &Scene, site: &Site) -> Acted {
        let wanted =
            request::placement(&scene.machine.spec, scene.failure_domain(), scene.record.network.as_ref(), MEDIA_GIB);
        let answer = site
            .call(|mut client, session| {
                let request = v1::ResolvePlacementRequest { session, ..wanted.clone() };
                async move { client.resolve_placement(request).await }
            })
            .await;
        let found = match answer {
            Ok(found) => found,
            Err(error) => return Ok(Some(refused(types::PROVISIONED, "resolving names", &error))),
        };
        if !found.warnings.is_empty() {
            self.warn(scene, "DatastoreAlmostFull", &found.warnings.join("; ")).await?;
        }
        match request::placed(&scene.machine.spec, scene.failure_domain(), &found) {
            Err((reason, message)) => Ok(Some(obstacle(types::PROVISIONED, reason, message))),
            Ok(placement) => {
                self.record("machine-record-placement", scene, |record| record.placement = Some(placement)).await
            }
        }
    }

    /// Tells people of something that stops nothing: once a machine, as an Event. That it cannot be told stops nothing
    /// either.
    async fn warn(&self, scene: &Scene, reason: &'static str, note: &str) -> Result<(), ReconcileError> {
        let event = event(&scene.machine, reason, note, self.clock.now());
        if let Err(error) = fault::around("machine-warn", self.writer.create(&event)).await {
            tracing::warn!(%error, reason, note, "Could not write an Event.");
        }
        Ok(())
    }

    async fn create(&self, scene: &Scene, site: &Site) -> Acted {
        let owner = self.owner_mark(scene).await?;
        let Some(wanted) = request::machine(&scene.machine, &scene.record, owner) else {
            return Err(ReconcileError::new(Category::Bug, "a VM is to be made without placement or attempt"));
        };
        let call = site.call(|mut client, session| {
            let request = v1::CreateMachineRequest { session, ..wanted.clone() };
            async move { client.create_machine(request).await }
        });
        match fault::around("machine-create", call).await {
            Err(error) => Ok(Some(refused(types::PROVISIONED, "making the VM", &error))),
            Ok(task) => {
                let now = self.clock.now();
                let record = Record { task: task_record(&task, Work::Create, now), ..scene.record.clone() };
                let spec = if task.entity_urn.is_empty() { json!({}) } else { json!({"vmUrn": task.entity_urn}) };
                fault::around("machine-record-created", self.patch(scene, &record, spec)).await
            }
        }
    }

    async fn next_attempt(&self, scene: &Scene, attempt: Attempt) -> Acted {
        let record = Record {
            // Names are resolved anew: what they stood for may have been the cause.
            placement: None,
            attempt: Some(Attempt { id: self.new_id()?, ..attempt }),
            uploading: false,
            media: None,
            moved: false,
            task: None,
            started_at: None,
            disks: None,
            ..scene.record.clone()
        };
        fault::around("machine-next-attempt", self.patch(scene, &record, json!({"vmUrn": null}))).await
    }

    async fn delete_media(&self, scene: &Scene, site: &Site) -> Acted {
        let now = self.clock.now();
        let unrecorded = || media::unrecorded(&scene.key.name, &scene.record, now);
        let Some(media) = scene.record.media.clone().or_else(unrecorded) else { return Ok(None) };
        let owner = self.owner_mark(scene).await?;
        let call = site.call(|mut client, session| {
            let (path, datastore_urn) = (media.path.clone(), media.datastore.clone());
            let request = v1::DeleteBootMediaRequest { session, path, datastore_urn, owner: Some(owner.clone()) };
            async move { client.delete_boot_media(request).await }
        });
        match fault::around("machine-delete-media", call).await {
            Err(error) if error.reason != Reason::NotFound => {
                Ok(Some(refused(types::DETACHED, "removing the boot medium", &error)))
            }
            _ => {
                self.record("machine-record-media-deleted", scene, |record| {
                    // Why the VM could not be made is what the next attempt tells of the one before.
                    record.task = record.task.take().filter(|task| task.work == Work::Create);
                    record.uploading = false;
                    record.media = Some(media::removed(media.clone(), now));
                })
                .await
            }
        }
    }

    async fn put_media(&self, scene: &Scene, site: &Site) -> Acted {
        let (Some(placement), Some(attempt)) = (&scene.record.placement, &scene.record.attempt) else {
            return Err(ReconcileError::new(Category::Bug, "boot data is to be made without placement or attempt"));
        };
        let disks = boot_disks(scene);
        let (data, digest) = match self.boot_data(scene, attempt, &disks).await? {
            Ok(data) => data,
            Err(obstacle) => return Ok(Some(obstacle)),
        };
        let owner = self.owner_mark(scene).await?;
        let format = match data.format {
            Format::Ignition => v1::MediaFormat::Ignition,
            Format::CloudConfig => v1::MediaFormat::ConfigDrive,
        };
        let wanted = v1::PutBootMediaRequest {
            session: String::new(),
            owner: Some(owner),
            attempt: attempt.id.clone(),
            datastore_urn: placement.media_datastore.clone(),
            compute_cluster_urn: placement.compute_cluster.clone(),
            format: format.into(),
            user_data: data.user_data,
            meta_data: data.meta_data,
            network_data: data.network_data,
            file_name: media::name(&scene.key.name, attempt),
        };
        // Recorded before the call: who finds this mark knows of an upload whose end nobody saw.
        let in_doubt = scene.record.uploading;
        let scene = if in_doubt { scene.clone() } else { self.begin_upload(scene).await? };
        let call = site.upload(|mut client, session| {
            let request = v1::PutBootMediaRequest { session, ..wanted.clone() };
            async move { client.put_boot_media(request).await }
        });
        match fault::around("machine-put-media", call).await {
            Err(error) => Ok(Some(refused(types::MEDIA, "uploading the boot medium", &error))),
            Ok(put) => {
                let media = Media {
                    path: put.path,
                    datastore: put.datastore_urn,
                    data: digest,
                    slots: disks.iter().filter_map(|disk| disk.slot).collect(),
                    detached: false,
                    deleted: false,
                    until: in_doubt.then(|| media::lingers_until(self.clock.now())),
                    on_power: false,
                };
                self.record("machine-record-media", &scene, |record| {
                    record.uploading = false;
                    record.media = Some(media);
                })
                .await
            }
        }
    }

    /// Records that an upload begins; answers with the scene as it is then.
    async fn begin_upload(&self, scene: &Scene) -> Result<Scene, ReconcileError> {
        let record = Record { uploading: true, ..scene.record.clone() };
        let written = fault::around("machine-begin-upload", self.write(scene, &record, json!({}))).await?;
        Ok(Scene { machine: Arc::new(written), record, ..scene.clone() })
    }

    async fn claim(&self, scene: &Scene, entry: &PoolEntry) -> Acted {
        let Some(pool) = scene.pool.as_deref() else { return Ok(None) };
        let mut held = claims::of_pool(pool);
        held.insert(entry.ip().to_owned(), EntryClaim::by(&scene.key.name));
        let mut finalizers = pool.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == POOL_FINALIZER) {
            finalizers.push(POOL_FINALIZER.to_owned());
        }
        let (name, value) = claims::annotation(&held);
        let patch = json!({"metadata": {"annotations": {name: value}, "finalizers": finalizers}});
        // Fails when anyone wrote the pool since: then the choice is made again.
        fault::around("machine-claim-entry", self.writer.merge(pool, patch)).await.map(|_: DCSIpHostnamePool| None)
    }

    /// Gives the machine's entry back, or marks it as held by a VM that is left running.
    async fn change_claims(&self, effect: &'static str, scene: &Scene, retain: bool) -> Acted {
        let Some(pool) = scene.pool.as_deref() else { return Ok(None) };
        let mut held = claims::of_pool(pool);
        let own = |claim: &EntryClaim| claim.machine == scene.key.name && !claim.retained;
        if retain {
            held.values_mut().filter(|claim| own(claim)).for_each(|claim| claim.retained = true);
        } else {
            held.retain(|_, claim| !own(claim));
        }
        let (name, value) = claims::annotation(&held);
        let patch = json!({"metadata": {"annotations": {name: value}}});
        fault::around(effect, self.writer.merge(pool, patch)).await.map(|_: DCSIpHostnamePool| None)
    }

    async fn record(&self, effect: &'static str, scene: &Scene, change: impl FnOnce(&mut Record)) -> Acted {
        let mut record = scene.record.clone();
        change(&mut record);
        fault::around(effect, self.patch(scene, &record, json!({}))).await
    }

    async fn patch(&self, scene: &Scene, record: &Record, spec: Value) -> Acted {
        self.write(scene, record, spec).await.map(|_| None)
    }

    /// Writes the record, and fields of the spec that are ours, unless someone wrote the object since it was read.
    async fn write(&self, scene: &Scene, record: &Record, spec: Value) -> Result<DCSMachine, ReconcileError> {
        let annotations = json!({super::record::ANNOTATION: record.to_json()});
        let mut patch = json!({"metadata": {"annotations": annotations}});
        if spec.as_object().is_some_and(|fields| !fields.is_empty()) {
            patch["spec"] = spec;
        }
        self.writer.merge(&*scene.machine, patch).await
    }

    /// The site of the machine's cluster, or why it cannot be asked.
    pub(super) async fn site(&self, scene: &Scene) -> Result<Result<Site, Obstacle>, ReconcileError> {
        let Some(infra) = scene.infra.as_deref() else {
            return Ok(Err(obstacle(types::PROVISIONED, "DCSClusterNotFound", "the DCSCluster does not exist")));
        };
        let name = &infra.spec.credential_secret_ref.name;
        let Some(secret) = self.secrets.get(&scene.key.sibling(name)).await? else {
            let message = format!("Secret {name} with the site's credentials does not exist");
            return Ok(Err(obstacle(types::PROVISIONED, "CredentialsMissing", message)));
        };
        match credentials::of(&secret, infra) {
            Ok(credentials) => Ok(Ok(self.sites.site(credentials))),
            Err(error) => Ok(Err(obstacle(types::PROVISIONED, "CredentialsInvalid", error.to_string()))),
        }
    }

    /// The id of an attempt: a UUID that nothing else ever has.
    fn new_id(&self) -> Result<String, ReconcileError> {
        let mut bytes = uuid::Bytes::default();
        self.random.secret(&mut bytes).map_err(|error| ReconcileError::transient(error.to_string()))?;
        Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
    }

    async fn owner_mark(&self, scene: &Scene) -> Result<v1::Owner, ReconcileError> {
        let cluster =
            scene.owner.as_ref().map(|owner| owner.spec.cluster_name.clone()).or_else(|| scene.cluster_name());
        Ok(v1::Owner {
            management_cluster: self.management.uid().await?,
            resource: scene.key.to_string(),
            uid: scene.machine.metadata.uid.clone().unwrap_or_default(),
            cluster: ObjectKey::new(scene.key.namespace.clone(), cluster.unwrap_or_default()).to_string(),
        })
    }
}

/// A warning about a machine. Its name makes it one for each reason, however often it is told.
fn event(machine: &DCSMachine, reason: &str, note: &str, now: Timestamp) -> Event {
    let meta = &machine.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let uid = meta.uid.clone().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{}.{}", reason.to_lowercase(), uid.split('-').next().unwrap_or_default())),
            namespace: meta.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some("Placing".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(note.chars().take(1024).collect()),
        reason: Some(reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(DCSMachine::api_version(&()).into_owned()),
            kind: Some(DCSMachine::kind(&()).into_owned()),
            name: Some(name.clone()),
            namespace: meta.namespace.clone(),
            uid: Some(uid),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(crate::IDENTITY.name.to_owned()),
        reporting_instance: Some(crate::IDENTITY.name.to_owned()),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

fn condition_of(work: Work) -> &'static str {
    match work {
        Work::PowerOff => types::STOP_PENDING,
        Work::DetachMedia => types::DETACHED,
        _ => types::PROVISIONED,
    }
}

fn task_record(task: &v1::Task, work: Work, since: Timestamp) -> Option<Task> {
    (!task.id.is_empty()).then(|| Task { id: task.id.clone(), work, since, seen: None })
}
