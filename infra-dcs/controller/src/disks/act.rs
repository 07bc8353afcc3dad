//! The effects on disks: what the pool's disks need is read, decided together, recorded in one write, then done.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use dcs_proto::{MachineError, error::Reason, v1};
use kube::ResourceExt;
use manager::{Category, Manager, ObjectKey, ReconcileError, Writer, clock::Clock, fault, secrets::SecretCache};
use serde_json::{Value, json};

use super::{
    Shown,
    decide::{Call, Facts, Plan, Read, Reading, Verdict, decide},
    observe::{Disk, Sources, data_disks},
    outcome::{Answer, CREDENTIALS, after_call},
    record::{self, ANNOTATION, Disks as Records, RECREATE},
    sequence::bus_of,
};
use crate::{
    api::{DCSCluster, DCSIpHostnamePool, POOL_FINALIZER},
    machine::placement_request,
    management::Management,
    site::{Site, Sites},
};

/// Every effect on disks, for crash tests.
pub const EFFECTS: &[&str] = &[
    "disks-record",
    "disks-create",
    "disks-adopt",
    "disks-attach",
    "disks-detach",
    "disks-delete",
    "disks-record-outcome",
];

/// Readings before one decision; each narrows what is unknown, so more would be a loop.
const READS: usize = 6;

/// The keeper of the disks of all pools.
pub struct Disks {
    sources: Sources,
    writer: Writer,
    secrets: SecretCache,
    clock: Arc<dyn Clock>,
    sites: Sites,
    management: Arc<Management>,
}

/// What one pass reads at the sites: everything once.
#[derive(Default)]
struct Readings {
    sites: HashMap<String, Result<Site, MachineError>>,
    listed: HashMap<String, Result<Vec<v1::Volume>, MachineError>>,
    machines: HashMap<String, Result<Option<v1::Machine>, MachineError>>,
}

/// A disk with what is planned for it.
struct Planned {
    disk: Disk,
    plan: Plan,
}

impl Disks {
    /// A keeper over these caches.
    pub fn new(manager: &Manager, sources: Sources, sites: Sites, management: Arc<Management>) -> Self {
        Self {
            sources,
            writer: manager.writer(),
            secrets: manager.secrets(),
            clock: manager.clock(),
            sites,
            management,
        }
    }

    /// One pass over the disks of a pool.
    pub async fn pass(&self, pool: &DCSIpHostnamePool) -> Result<Shown, ReconcileError> {
        let records = match record::of_pool(pool) {
            Ok(records) => records,
            Err(message) => return Ok(Shown::unreadable(pool, message)),
        };
        let disks = self.sources.disks(pool, &records);
        if disks.is_empty() && records.is_empty() {
            return Ok(Shown::default());
        }
        let mut readings = Readings::default();
        let mut busy = BTreeSet::new();
        let mut planned = Vec::new();
        for disk in disks {
            let plan = self.plan(pool, &records, &disk, &busy, &mut readings).await?;
            busy.extend(works_on(&plan));
            planned.push(Planned { disk, plan });
        }
        let written = self.write_ahead(pool, &records, &planned).await?;
        let done = self.carry_out(pool, &planned, &readings, written).await?;
        Ok(Shown::of(pool, planned.iter().map(|planned| (&planned.disk, &planned.plan)), done, self.clock.now()))
    }

    async fn plan(
        &self,
        pool: &DCSIpHostnamePool,
        records: &Records,
        disk: &Disk,
        busy: &BTreeSet<String>,
        readings: &mut Readings,
    ) -> Result<Plan, ReconcileError> {
        let record = records.get(&disk.key);
        let statuses = pool.status.iter().flat_map(|status| &status.persistent_disk_status);
        let shown = { statuses }.find(|shown| shown.ip == disk.key.ip && shown.slot == disk.key.slot);
        let Some(infra) = disk.infra.as_deref().filter(|_| disk.hands_off.is_none()) else {
            return Ok(Plan::hands_off(disk.hands_off.as_ref(), record, shown));
        };
        let name = infra.name_any();
        let mark = v1::Owner { management_cluster: self.management.uid().await?, ..disk.mark.clone() };
        let vm_of_record = record.and_then(|record| record.vm.clone());
        let (mut volume, mut vm, mut task) = (Reading::Unread, Reading::Unread, Reading::Unread);
        for _ in 0..READS {
            let facts = Facts {
                key: &disk.key,
                name: &disk.name,
                mark: &mark,
                declared: disk.declared.as_ref(),
                record,
                shown,
                user: &disk.user,
                cluster: disk.holder.as_ref().map(|_| name.as_str()),
                holder: disk.holder.as_ref().map(|holder| (holder.name.as_str(), holder.uid.as_str())),
                data_disks: disk.holder.as_ref().map_or(0, |holder| data_disks(&holder.machine.spec)),
                claim: disk.claim.as_ref().map(|(vm, sequence)| (vm.as_str(), *sequence)),
                ending: disk.ending,
                recreate: disk.recreate,
                busy: vm_of_record.iter().chain(disk.user.vm()).any(|vm| busy.contains(vm)),
                listed: match readings.listed.get(&name) {
                    None => Reading::Unread,
                    Some(Ok(listed)) => Reading::Known(listed.as_slice()),
                    Some(Err(error)) => Reading::Failed(error.clone()),
                },
                volume: volume.clone(),
                vm: vm.clone(),
                task: task.clone(),
                now: self.clock.now(),
            };
            let read = match decide(&facts) {
                Verdict::Plan(plan) => return Ok(plan),
                Verdict::Need(read) => read,
            };
            let site = self.site(infra, readings).await?;
            match read {
                Read::Volumes => {
                    let listed = volumes_of(&site, &pool.name_any()).await;
                    readings.listed.insert(name.clone(), listed);
                }
                Read::Volume(urn) => volume = reading(volume_at(&site, &urn).await),
                Read::Machine(urn) => {
                    if !readings.machines.contains_key(&urn) {
                        let machine = machine_at(&site, &urn).await;
                        readings.machines.insert(urn.clone(), machine);
                    }
                    vm = readings.machines.get(&urn).map_or(Reading::Unread, |machine| reading(machine.clone()));
                }
                Read::Task => {
                    let id = record.and_then(|record| record.task.as_ref()).map(|task| task.id.clone());
                    task = reading(task_at(&site, id.unwrap_or_default()).await);
                }
            }
        }
        Err(ReconcileError::new(Category::Bug, "a decision on a disk asked for the same facts again"))
    }

    /// The site of a cluster; logged in to when first needed.
    async fn site(
        &self,
        infra: &DCSCluster,
        readings: &mut Readings,
    ) -> Result<Result<Site, MachineError>, ReconcileError> {
        let name = infra.name_any();
        if let Some(known) = readings.sites.get(&name) {
            return Ok(known.clone());
        }
        let secret = &infra.spec.credential_secret_ref.name;
        let refused = |message: String| Err(MachineError::new(Reason::Credentials, message));
        let missing = || {
            let message = format!("Secret {secret} with the site's credentials does not exist");
            MachineError::new(Reason::Credentials, message).about(CREDENTIALS, secret)
        };
        let site = match self.secrets.get(&ObjectKey::of(infra).sibling(secret)).await? {
            None => Err(missing()),
            Some(found) => match crate::credentials::of(&found, infra) {
                Ok(credentials) => Ok(self.sites.site(credentials)),
                Err(error) => refused(error.to_string()),
            },
        };
        readings.sites.insert(name, site.clone());
        Ok(site)
    }

    /// Writes what must be remembered before the calls, unless anyone wrote the pool since it was read: then nobody's
    /// entry is touched and the next pass decides anew. Returns the pool as it became.
    async fn write_ahead(
        &self,
        pool: &DCSIpHostnamePool,
        before: &Records,
        planned: &[Planned],
    ) -> Result<Option<(DCSIpHostnamePool, Records)>, ReconcileError> {
        let after: Records = planned
            .iter()
            .filter_map(|planned| Some((planned.disk.key.clone(), planned.plan.record.clone()?)))
            .collect();
        let asked = pool.annotations().contains_key(RECREATE);
        // An order is carried out once; one that the site could not be asked about stays.
        let answered = planned.iter().all(|planned| !planned.disk.recreate || planned.plan.error.is_none());
        if after == *before && !(asked && answered) {
            return Ok(None);
        }
        let mut annotations = json!({ANNOTATION: record::annotation(&after)});
        if asked && answered {
            annotations[RECREATE] = Value::Null;
        }
        let mut patch = json!({"metadata": {"annotations": annotations}});
        let protected = pool.finalizers().iter().any(|finalizer| finalizer == POOL_FINALIZER);
        if !after.is_empty() && !protected && pool.metadata.deletion_timestamp.is_none() {
            let mut finalizers = pool.finalizers().to_vec();
            finalizers.push(POOL_FINALIZER.to_owned());
            patch["metadata"]["finalizers"] = json!(finalizers);
        }
        let written = fault::around("disks-record", self.writer.merge(pool, patch)).await?;
        Ok(Some((written, after)))
    }

    /// Makes the calls, and records what came of them. Returns the records as they are then.
    async fn carry_out(
        &self,
        pool: &DCSIpHostnamePool,
        planned: &[Planned],
        readings: &Readings,
        written: Option<(DCSIpHostnamePool, Records)>,
    ) -> Result<Records, ReconcileError> {
        let (pool, before) = match written {
            Some(written) => written,
            None => (pool.clone(), record::of_pool(pool).unwrap_or_default()),
        };
        let mut after = before.clone();
        for Planned { disk, plan } in planned {
            let (Some(call), Some(infra), Some(recorded)) = (&plan.call, &disk.infra, &plan.record) else { continue };
            let Some(Ok(site)) = readings.sites.get(&infra.name_any()) else { continue };
            let answer = self.call(site, disk, call).await?;
            after.insert(disk.key.clone(), after_call(recorded, call, &answer, self.clock.now()));
        }
        if after != before {
            // What was done stays done, whoever wrote the pool meanwhile; these records are nobody else's.
            let patch =
                json!({"metadata": {"uid": pool.uid(), "annotations": {ANNOTATION: record::annotation(&after)}}});
            let key = ObjectKey::of(&pool);
            let recorded = self.writer.merge_anyway::<DCSIpHostnamePool>(&key, &patch);
            fault::around("disks-record-outcome", recorded).await?;
        }
        Ok(after)
    }

    async fn call(&self, site: &Site, disk: &Disk, call: &Call) -> Result<Answer, ReconcileError> {
        let owner = v1::Owner { management_cluster: self.management.uid().await?, ..disk.mark.clone() };
        Ok(match call {
            Call::Create => self.create(site, disk, owner).await,
            Call::Adopt(urn) => {
                let wanted = v1::AdoptVolumeRequest {
                    urn: urn.clone(),
                    name: disk.name.clone(),
                    owner: Some(owner),
                    ..v1::AdoptVolumeRequest::default()
                };
                let adopted = site.call(|mut client, session| {
                    let request = v1::AdoptVolumeRequest { session, ..wanted.clone() };
                    async move { client.adopt_volume(request).await }
                });
                fault::around("disks-adopt", adopted).await.map(|_| v1::Task::default())
            }
            Call::Attach { volume, vm, sequence, bus } => {
                let wanted = v1::AttachVolumeRequest {
                    machine_urn: vm.clone(),
                    volume_urn: volume.clone(),
                    owner: Some(owner),
                    sequence: *sequence,
                    bus: bus.clone(),
                    ..v1::AttachVolumeRequest::default()
                };
                let attached = site.call(|mut client, session| {
                    let request = v1::AttachVolumeRequest { session, ..wanted.clone() };
                    async move { client.attach_volume(request).await }
                });
                fault::around("disks-attach", attached).await
            }
            Call::Detach { volume, vm } => {
                let wanted = v1::DetachVolumeRequest {
                    machine_urn: vm.clone(),
                    volume_urn: volume.clone(),
                    owner: Some(owner),
                    ..v1::DetachVolumeRequest::default()
                };
                let detached = site.call(|mut client, session| {
                    let request = v1::DetachVolumeRequest { session, ..wanted.clone() };
                    async move { client.detach_volume(request).await }
                });
                fault::around("disks-detach", detached).await
            }
            Call::Delete(urn) => {
                let wanted = v1::DeleteVolumeRequest {
                    urn: urn.clone(),
                    name: disk.name.clone(),
                    owner: Some(owner),
                    ..v1::DeleteVolumeRequest::default()
                };
                let deleted = site.call(|mut client, session| {
                    let request = v1::DeleteVolumeRequest { session, ..wanted.clone() };
                    async move { client.delete_volume(request).await }
                });
                fault::around("disks-delete", deleted).await
            }
        })
    }

    /// Makes a volume on a datastore that the holder's VM will see.
    async fn create(&self, site: &Site, disk: &Disk, owner: v1::Owner) -> Answer {
        let (Some(declared), Some(holder)) = (&disk.declared, &disk.holder) else {
            return Err(MachineError::new(Reason::Invalid, "the disk is not declared, or nobody holds its entry"));
        };
        let size_gib = u64::try_from(declared.quantity_gb).unwrap_or_default();
        let text = |name: &Option<String>| name.clone().unwrap_or_default();
        let store = v1::DatastoreReference {
            name: text(&declared.datastore_name),
            cluster_name: text(&declared.datastore_cluster_name),
            urn: String::new(),
            needed_gib: size_gib,
        };
        let wanted = placement_request(&holder.machine.spec, holder.failure_domain(), store);
        let resolved = site.call(|mut client, session| {
            let request = v1::ResolvePlacementRequest { session, ..wanted.clone() };
            async move { client.resolve_placement(request).await }
        });
        let placement = resolved.await?;
        if let Some(missing) = placement.unresolved.first() {
            let message = format!("{} {}: {}", missing.kind, missing.name, missing.message);
            return Err(MachineError::new(missing.reason(), message));
        }
        let wanted = v1::CreateVolumeRequest {
            owner: Some(owner),
            name: disk.name.clone(),
            size_gib,
            datastore_urn: placement.datastore_urns.first().cloned().unwrap_or_default(),
            thin: declared.is_thin,
            bus: bus_of(declared).to_owned(),
            ..v1::CreateVolumeRequest::default()
        };
        let created = site.call(|mut client, session| {
            let request = v1::CreateVolumeRequest { session, ..wanted.clone() };
            async move { client.create_volume(request).await }
        });
        fault::around("disks-create", created).await
    }
}

/// The VM that a plan keeps busy: a site does one thing on a VM at a time.
fn works_on(plan: &Plan) -> Option<String> {
    use crate::api::pool::DiskPhase::{Attaching, Detaching};
    let moving = matches!(plan.phase, Some(Attaching | Detaching));
    plan.record.as_ref().filter(|_| moving).and_then(|record| record.vm.clone())
}

fn reading<T>(answer: Result<T, MachineError>) -> Reading<T> {
    answer.map_or_else(Reading::Failed, Reading::Known)
}

async fn volumes_of(site: &Result<Site, MachineError>, pool: &str) -> Result<Vec<v1::Volume>, MachineError> {
    let found = site.as_ref().map_err(Clone::clone)?.call(|mut client, session| {
        let name_prefix = format!("{pool}-");
        let request = v1::FindVolumesRequest { session, name_prefix, ..v1::FindVolumesRequest::default() };
        async move { client.find_volumes(request).await }
    });
    Ok(found.await?.volumes)
}

async fn volume_at(site: &Result<Site, MachineError>, urn: &str) -> Result<Option<v1::Volume>, MachineError> {
    let found = site.as_ref().map_err(Clone::clone)?.call(|mut client, session| {
        let request = v1::FindVolumesRequest { session, urn: urn.to_owned(), ..v1::FindVolumesRequest::default() };
        async move { client.find_volumes(request).await }
    });
    Ok(found.await?.volumes.into_iter().next())
}

async fn machine_at(site: &Result<Site, MachineError>, urn: &str) -> Result<Option<v1::Machine>, MachineError> {
    let found = site.as_ref().map_err(Clone::clone)?.call(|mut client, session| {
        let request = v1::GetMachineRequest { session, urn: urn.to_owned() };
        async move { client.get_machine(request).await }
    });
    match found.await {
        Ok(machine) => Ok(Some(machine)),
        Err(error) if error.reason == Reason::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn task_at(site: &Result<Site, MachineError>, id: String) -> Result<v1::Task, MachineError> {
    let found = site.as_ref().map_err(Clone::clone)?.call(|mut client, session| {
        let request = v1::GetTaskRequest { session, id: id.clone() };
        async move { client.get_task(request).await }
    });
    found.await
}
