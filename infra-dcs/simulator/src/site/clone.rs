//! Deploying a VM from a VM template: every rule about its disks, NICs and place.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Bus, Effect, Entity, Nic, Result, Site, Vm, VmStatus, Volume, VolumeStatus,
    cdrom::{self, Medium},
    codes,
    policy::Release,
    space_gb,
    tasks::{Accepted, Work},
    volumes::properties_fit,
};

/// Body of the clone call. Fields that are not named here are taken and ignored, as VRM does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloneRequest {
    name: Option<String>,
    description: Option<String>,
    group: Option<String>,
    location: Option<String>,
    parent_obj_urn: Option<String>,
    is_template: Option<bool>,
    is_link_clone: Option<bool>,
    auto_boot: Option<bool>,
    is_binding_host: Option<bool>,
    #[serde(rename = "clonedVmUUID")]
    cloned_vm_uuid: Option<String>,
    os_options: Option<Value>,
    vm_config: Option<ConfigRequest>,
    vm_customization: Option<Value>,
    custom_properties: Option<BTreeMap<String, String>>,
    cd_rom_protocol: Option<String>,
    cd_rom_device_path: Option<String>,
    cd_rom_attach_at_power_on: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigRequest {
    cpu: Option<CpuRequest>,
    memory: Option<MemoryRequest>,
    disks: Option<Vec<DiskRequest>>,
    nics: Option<Vec<NicRequest>>,
}

/// Virtual CPUs, as calls tell them.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct CpuRequest {
    pub(super) quantity: u32,
}

/// Memory, as calls tell it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct MemoryRequest {
    #[serde(rename = "quantityMB", alias = "quantityMb")]
    pub(super) quantity_mb: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DiskRequest {
    sequence_num: u32,
    pci_type: Option<String>,
    #[serde(rename = "quantityGB", alias = "quantityGb")]
    quantity_gb: Option<u64>,
    datastore_urn: Option<String>,
    volume_urn: Option<String>,
    is_data_copy: Option<bool>,
    #[serde(default)]
    is_thin: Option<bool>,
    #[serde(default)]
    indep_disk: Option<bool>,
    #[serde(default)]
    persistent_disk: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NicRequest {
    name: Option<String>,
    port_group_urn: Option<String>,
    sequence_num: Option<u32>,
}

/// A disk of the VM to be: a new volume or one that exists.
#[derive(Debug)]
enum PlannedDisk {
    New { sequence: u32, bus: Bus, size_gb: u64, datastore: u64, thin: bool, independent: bool, persistent: bool },
    Existing { sequence: u32, bus: Bus, volume: u64 },
}

impl PlannedDisk {
    fn slot(&self) -> (u32, Bus) {
        match self {
            Self::New { sequence, bus, .. } | Self::Existing { sequence, bus, .. } => (*sequence, *bus),
        }
    }
}

/// A NIC of the VM to be.
#[derive(Debug)]
struct PlannedNic {
    name: String,
    sequence: u32,
    port_group: u64,
}

impl Site {
    /// Accepts the deployment of a VM from `source`. The VM is there at once, in state `creating`.
    pub fn clone_vm(&mut self, now: u64, user: &str, source: u64, request: CloneRequest) -> Result<Accepted> {
        let origin = self.vm(source)?;
        // Clones of one source may be made side by side; nothing else may be under way with it.
        let origin = self.without_task(origin, "CloneVM")?.clone();
        match (origin.is_template, origin.status) {
            (_, VmStatus::Stopped) => {}
            (false, VmStatus::Running) => return codes::STOP_FIRST.refuse(),
            (_, other) => return Err(codes::VM_STATE.because(other.word())),
        }
        let name = request.name.clone().unwrap_or_default();
        let config = request.vm_config.clone().unwrap_or_default();
        texts_fit(&name, request.description.as_deref(), request.group.as_deref())?;
        if request.is_link_clone == Some(true) {
            return Err(codes::BAD_PARAMETER.because("isLinkClone: linked clones are not offered by this site"));
        }
        properties_fit(request.custom_properties.as_ref().unwrap_or(&BTreeMap::new()))?;
        let uuid = match &request.cloned_vm_uuid {
            None => self.new_uuid(),
            Some(text) => self.chosen_uuid(text)?,
        };
        let (cluster, host) =
            self.location(request.location.as_deref(), &origin, request.is_binding_host == Some(true))?;
        let folder = self.parent_folder(request.parent_obj_urn.as_deref(), origin.folder)?;
        let folder = if self.policy.clone_takes_folder { folder } else { origin.folder };
        let cpus = config.cpu.map_or(origin.cpus, |cpu| cpu.quantity);
        let memory_mb = config.memory.map_or(origin.memory_mb, |memory| memory.quantity_mb);
        sizes_fit(cpus, memory_mb)?;
        let disks = self.plan_disks(&origin, config.disks.as_deref())?;
        self.disks_fit(cluster, &disks)?;
        let nics = self.plan_nics(&origin, config.nics.as_deref())?;
        let customization = request.vm_customization.unwrap_or(Value::Null);
        customization_fits(&customization, nics.len(), self.policy.release)?;
        let medium = self.clone_medium(
            request.cd_rom_protocol.as_deref(),
            request.cd_rom_device_path.as_deref(),
            request.cd_rom_attach_at_power_on,
            now,
        )?;

        let id = self.new_vm_id();
        let nics = nics.into_iter().map(|planned| self.make_nic(planned)).collect();
        self.vms.insert(
            id,
            Vm {
                uuid,
                description: request.description.unwrap_or_default(),
                group: request.group,
                custom_properties: request.custom_properties.unwrap_or_default(),
                is_template: request.is_template == Some(true),
                image: origin.image.clone(),
                folder,
                host,
                bound_to_host: host.is_some(),
                cpus,
                memory_mb,
                nics,
                medium,
                os_options: request.os_options.unwrap_or(Value::Null),
                customization,
                ..Vm::new(id, name.clone(), cluster, now)
            },
        );
        self.make_disks(id, &name, disks);
        // The default is true, whatever a caller may have in mind.
        let templates = (origin.is_template, request.is_template == Some(true));
        let boot = request.auto_boot.unwrap_or(true) && !templates.1;
        Ok(self.accept(now, user, Work::Deploy { vm: id, source, boot, templates }, Entity::Vm(id), name))
    }

    fn chosen_uuid(&self, text: &str) -> Result<String> {
        // Braces, URNs and digits without hyphens are UUIDs to a library, not to this call.
        let uuid = uuid::Uuid::parse_str(text).ok().filter(|_| text.len() == 36).map(|uuid| uuid.to_string());
        let uuid = uuid.ok_or_else(|| codes::BAD_PARAMETER.because(format!("clonedVmUUID: {text:?} is not a UUID")))?;
        if self.vms.values().any(|vm| vm.uuid == uuid) {
            return codes::UUID_USED.refuse();
        }
        Ok(uuid)
    }

    /// Compute cluster, and the host where it is bound to one.
    fn location(&self, urn: Option<&str>, origin: &Vm, bind: bool) -> Result<(u64, Option<u64>)> {
        match urn.map(|urn| self.parse(urn)) {
            None | Some(Some(Entity::Cluster(_))) if bind => {
                Err(codes::BAD_LOCATION.because("isBindingHost needs a host as location"))
            }
            None => Ok((origin.cluster, None)),
            Some(Some(Entity::Cluster(id))) if self.clusters.contains_key(&id) => Ok((id, None)),
            Some(Some(Entity::Host(id))) if bind => {
                self.hosts.get(&id).map(|host| (host.cluster, Some(id))).ok_or_else(|| codes::BAD_LOCATION.into())
            }
            Some(_) => Err(codes::BAD_LOCATION.because(urn.unwrap_or_default())),
        }
    }

    fn parent_folder(&self, urn: Option<&str>, inherited: Option<u64>) -> Result<Option<u64>> {
        match urn.map(|urn| self.parse(urn)) {
            None => Ok(inherited),
            Some(Some(Entity::Site)) => Ok(None),
            Some(Some(Entity::Folder(id))) if self.folders.contains_key(&id) => Ok(Some(id)),
            Some(Some(Entity::Folder(_))) => codes::FOLDER_NOT_FOUND.refuse(),
            Some(_) => codes::BAD_URN.refuse(),
        }
    }

    /// A datastore that takes new volumes.
    pub(super) fn usable_datastore(&self, urn: &str) -> Result<u64> {
        let Some(Entity::Datastore(id)) = self.parse(urn) else {
            return Err(codes::BAD_URN.because(format!("datastoreUrn {urn:?}")));
        };
        let datastore = self.datastores.get(&id).ok_or_else(|| codes::DATASTORE_NOT_FOUND.because(urn))?;
        match datastore.status.as_str() {
            "NORMAL" => Ok(id),
            "READONLY" | "WRITE_PROTECT" => codes::DATASTORE_READ_ONLY.refuse(),
            other => Err(codes::DATASTORE_STATE.because(other)),
        }
    }

    fn plan_disks(&self, origin: &Vm, wanted: Option<&[DiskRequest]>) -> Result<Vec<PlannedDisk>> {
        let template: BTreeMap<u32, (&Volume, Bus)> =
            self.disks_of(origin.id).into_iter().map(|(volume, at)| (at.sequence, (volume, at.bus))).collect();
        let Some(wanted) = wanted else {
            let like = |(sequence, (volume, bus)): (&u32, &(&Volume, Bus))| PlannedDisk::New {
                sequence: *sequence,
                bus: *bus,
                size_gb: volume.size_gb,
                datastore: volume.datastore,
                thin: volume.thin,
                independent: false,
                persistent: true,
            };
            return Ok(template.iter().map(like).collect());
        };
        let most = if self.policy.release == Release::R6 { 11 } else { 25 };
        if wanted.len() > most {
            return Err(codes::BAD_DISKS.because(format!("{} disks, at most {most}", wanted.len())));
        }
        let planned: Vec<PlannedDisk> =
            wanted.iter().map(|disk| self.plan_disk(&template, disk)).collect::<Result<_>>()?;
        let (mut slots, mut volumes) = (BTreeSet::new(), BTreeSet::new());
        for disk in &planned {
            let (sequence, bus) = disk.slot();
            if !bus.has_slot(sequence, self.policy.release) || !slots.insert(sequence) {
                return Err(codes::SLOT_TAKEN.because(format!("sequenceNum {sequence}")));
            }
            if let PlannedDisk::Existing { volume, .. } = disk
                && !volumes.insert(*volume)
            {
                return Err(codes::BAD_DISKS.because("volumeUrn: one volume is two disks"));
            }
        }
        if !slots.contains(&1) {
            return Err(codes::BAD_DISKS.because("sequenceNum 1, the system disk, is missing"));
        }
        Ok(planned)
    }

    fn plan_disk(&self, template: &BTreeMap<u32, (&Volume, Bus)>, disk: &DiskRequest) -> Result<PlannedDisk> {
        let sequence = disk.sequence_num;
        let like = template.get(&sequence);
        if sequence == 1 && (disk.volume_urn.is_some() || disk.is_data_copy == Some(false)) {
            return Err(codes::BAD_DISKS.because("sequenceNum 1 holds the operating system: a copy of the source's"));
        }
        let bus = match (disk.pci_type.as_deref(), like) {
            (None, Some((_, bus))) => *bus,
            (word, _) => Bus::read(word, self.policy.release)?,
        };
        if let Some(urn) = &disk.volume_urn {
            let Some(Entity::Volume(volume)) = self.parse(urn) else { return codes::BAD_URN.refuse() };
            self.free_volume(volume)?;
            return Ok(PlannedDisk::Existing { sequence, bus, volume });
        }
        let urn = disk.datastore_urn.as_deref();
        let urn = urn.ok_or_else(|| codes::BAD_DISKS.because(format!("disk {sequence}: datastoreUrn is missing")))?;
        let datastore = self.usable_datastore(urn)?;
        let copied = like.filter(|_| disk.is_data_copy.unwrap_or(true)).map(|(volume, _)| volume.size_gb);
        let size_gb = match (copied, disk.quantity_gb) {
            (Some(size), Some(wanted)) if self.policy.clone_grows_disks => wanted.max(size),
            (Some(size), _) => size,
            (None, Some(wanted)) if wanted > 0 => wanted,
            (None, _) => return Err(codes::BAD_DISKS.because(format!("disk {sequence}: quantityGB is missing"))),
        };
        let thin = disk.is_thin.unwrap_or(false);
        self.volume_fits(datastore, size_gb, thin)?;
        Ok(PlannedDisk::New {
            sequence,
            bus,
            size_gb,
            datastore,
            thin,
            independent: disk.indep_disk.unwrap_or(false),
            persistent: disk.persistent_disk.unwrap_or(true),
        })
    }

    /// All disks have space, and one host of the cluster sees them all.
    fn disks_fit(&self, cluster: u64, disks: &[PlannedDisk]) -> Result<()> {
        let mut needed: BTreeMap<u64, u64> = BTreeMap::new();
        for disk in disks {
            match disk {
                PlannedDisk::New { size_gb, datastore, thin, .. } => {
                    *needed.entry(*datastore).or_default() += space_gb(*size_gb, *thin);
                }
                PlannedDisk::Existing { volume, .. } => {
                    needed.entry(self.volumes[volume].datastore).or_default();
                }
            }
        }
        for (datastore, gb) in &needed {
            if *gb > self.free_gb(*datastore) {
                let name = &self.datastores[datastore].name;
                return Err(
                    codes::NO_SPACE.because(format!("{name}: {gb} GB needed, {} GB free", self.free_gb(*datastore)))
                );
            }
        }
        let datastores: Vec<u64> = needed.into_keys().collect();
        if self.hosts_with(cluster, &datastores).is_empty() {
            return Err(codes::NO_PLACEMENT.because("no host of the cluster sees all datastores of the VM"));
        }
        Ok(())
    }

    fn plan_nics(&self, origin: &Vm, wanted: Option<&[NicRequest]>) -> Result<Vec<PlannedNic>> {
        let Some(wanted) = wanted else {
            let like =
                |nic: &Nic| PlannedNic { name: nic.name.clone(), sequence: nic.sequence, port_group: nic.port_group };
            return Ok(origin.nics.iter().map(like).collect());
        };
        if wanted.len() > 12 {
            return Err(codes::BAD_NICS.because("at most 12 NICs"));
        }
        let (mut names, mut sequences, mut planned) = (BTreeSet::new(), BTreeSet::new(), vec![]);
        for (index, nic) in wanted.iter().enumerate() {
            let name = nic.name.clone().unwrap_or_else(|| format!("Network Adapter {index}"));
            let sequence = nic.sequence_num.unwrap_or(u32::try_from(index).unwrap_or(u32::MAX));
            if !names.insert(name.clone()) || !sequences.insert(sequence) || sequence > 15 {
                return Err(codes::BAD_NICS.because(format!("NIC {name:?}, sequenceNum {sequence}")));
            }
            let like = origin.nics.iter().find(|known| known.name == name);
            let port_group = match (&nic.port_group_urn, like) {
                (Some(urn), _) => self.port_group(urn)?,
                (None, Some(like)) => like.port_group,
                (None, None) => return Err(codes::BAD_NICS.because(format!("NIC {name:?} has no portGroupUrn"))),
            };
            planned.push(PlannedNic { name, sequence, port_group });
        }
        planned.sort_by_key(|nic| nic.sequence);
        Ok(planned)
    }

    /// The port group of a URN.
    pub fn port_group(&self, urn: &str) -> Result<u64> {
        match self.parse(urn) {
            Some(Entity::PortGroup(switch, id))
                if self.port_groups.get(&id).is_some_and(|group| group.switch == switch) =>
            {
                Ok(id)
            }
            _ => Err(codes::PORT_GROUP_NOT_FOUND.because(urn)),
        }
    }

    fn clone_medium(
        &self,
        protocol: Option<&str>,
        path: Option<&str>,
        at_power_on: Option<bool>,
        now: u64,
    ) -> Result<Option<Medium>> {
        let Some(path) = path else { return Ok(None) };
        if self.policy.release == Release::R6 {
            // Release 6 does not know the fields, and ignores what it does not know.
            return Ok(None);
        }
        let medium = Medium::read(path, protocol, self.policy.release, now)?;
        if medium.protocol != cdrom::FILE {
            return codes::CD_PROTOCOL.refuse();
        }
        self.medium_file(&medium)?;
        Ok(at_power_on.unwrap_or(false).then_some(medium))
    }

    fn make_nic(&mut self, planned: PlannedNic) -> Nic {
        Nic {
            id: self.id_after(5_000),
            name: planned.name,
            sequence: planned.sequence,
            port_group: planned.port_group,
            mac: self.new_mac(),
            addresses: vec![],
        }
    }

    fn make_disks(&mut self, vm: u64, name: &str, disks: Vec<PlannedDisk>) {
        for disk in disks {
            match disk {
                PlannedDisk::New { sequence, bus, size_gb, datastore, thin, independent, persistent } => {
                    let id = self.id_after(900);
                    let uuid = self.new_uuid();
                    let mut volume = Volume::new(id, uuid, format!("{name}-{sequence:04}"), size_gb, datastore);
                    (volume.thin, volume.independent, volume.persistent) = (thin, independent, persistent);
                    volume.status = VolumeStatus::Creating;
                    volume.attach(vm, sequence, bus);
                    self.volumes.insert(volume);
                }
                PlannedDisk::Existing { sequence, bus, volume } => {
                    self.volumes.change(volume, |volume| volume.attach(vm, sequence, bus));
                }
            }
        }
    }

    /// The deployment is done: its disks have files, and it starts where that was asked.
    pub(super) fn deployed(&mut self, now: u64, task: u64, id: u64, boot: bool) {
        for (volume, bytes) in self.disks_in_the_making(id) {
            self.volumes.change(volume, |volume| volume.status = VolumeStatus::Use);
            self.effects.push(Effect::BlankDisk { volume, bytes });
        }
        if let Some(vm) = self.vms.get_mut(&id) {
            vm.status = VmStatus::Stopped;
        }
        if boot { self.place_and_start(now, task, id, true) } else { self.succeed(now, task, None) }
    }

    /// The disks that a deployment makes, and their sizes in bytes.
    fn disks_in_the_making(&self, vm: u64) -> Vec<(u64, u64)> {
        let made = self.volumes.of_vm(vm).filter(|volume| volume.status == VolumeStatus::Creating);
        made.map(|volume| (volume.id, volume.bytes())).collect()
    }

    /// A failed deployment leaves a VM without the disks it should have got, or nothing. Volumes that were there before stay.
    pub(super) fn deploy_failed(&mut self, id: u64, vanish: bool) {
        for (volume, _) in self.disks_in_the_making(id) {
            self.volumes.remove(volume);
        }
        let there_before: Vec<u64> = self.volumes.of_vm(id).map(|volume| volume.id).collect();
        for volume in there_before {
            self.volumes.change(volume, |volume| volume.attachment = None);
        }
        if vanish {
            self.vms.remove(&id);
        } else if let Some(vm) = self.vms.get_mut(&id) {
            vm.status = VmStatus::Stopped;
        }
    }
}

/// Lengths of the free texts of a VM.
pub(super) fn texts_fit(name: &str, description: Option<&str>, group: Option<&str>) -> Result<()> {
    let long = |text: Option<&str>, most: usize| text.is_some_and(|text| text.chars().count() > most);
    if long(Some(name), 256) || long(description, 1024) || long(group, 1024) {
        return Err(codes::BAD_PARAMETER.because("name ≤256, description and group ≤1024 characters"));
    }
    Ok(())
}

/// Virtual CPUs and memory within the site's limits.
pub(super) fn sizes_fit(cpus: u32, memory_mb: u64) -> Result<()> {
    if !(1..=64).contains(&cpus) || !(128..=1_048_576).contains(&memory_mb) {
        return Err(codes::BAD_PARAMETER.because("cpu.quantity 1…64, memory.quantityMB 128…1048576"));
    }
    Ok(())
}

/// The customization's host name and number of NICs. What it asks of the guest stays with the guest.
fn customization_fits(customization: &Value, nics: usize, release: Release) -> Result<()> {
    if let Some(hostname) = customization["hostname"].as_str().filter(|hostname| !hostname.is_empty()) {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        let too_long = release == Release::R6 && hostname.len() > 15;
        if too_long || !hostname.chars().all(allowed) || hostname.chars().all(|digit| digit.is_ascii_digit()) {
            return Err(codes::CUSTOM_HOST_NAME.because(hostname));
        }
    }
    let Some(specification) = customization["nicSpecification"].as_array() else { return Ok(()) };
    if specification.len() != nics {
        return codes::CUSTOM_COUNT.refuse();
    }
    for nic in specification {
        if nic["sequenceNum"].as_u64().is_some_and(|number| !(1..=12).contains(&number)) {
            return Err(codes::BAD_NICS.because("nicSpecification.sequenceNum: 1…12"));
        }
        for field in ["ip", "netmask", "gateway", "setdns", "adddns"] {
            if let Some(text) = nic[field].as_str().filter(|text| !text.is_empty())
                && text.parse::<std::net::Ipv4Addr>().is_err()
            {
                return Err(codes::CUSTOM_IP.because(format!("{field} {text:?}")));
            }
        }
    }
    Ok(())
}
