//! What is asked of the site for a machine, and what its answers mean. Pure.

use dcs_proto::v1;

use super::{
    record::{Placement, Record},
    status,
};
use crate::api::{
    DCSMachine, DCSMachineSpec,
    machine::{DiskSpec, NetworkConfig},
};

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

/// The names of a machine's spec and pool entry to be resolved. The last datastore is the boot medium's, when one is
/// named. The failure domain of its Machine, a compute cluster, goes before what the spec names.
pub fn placement(
    spec: &DCSMachineSpec,
    failure_domain: Option<&str>,
    network: Option<&NetworkConfig>,
    media_gib: u64,
) -> v1::ResolvePlacementRequest {
    let place = |type_: &str| {
        [&spec.resource, &spec.location]
            .into_iter()
            .flatten()
            .find(|place| place.type_ == type_)
            .map(|place| v1::Reference { name: text(place.name.as_ref()), urn: text(place.urn.as_ref()) })
    };
    let disk = |disk: &DiskSpec| v1::DatastoreReference {
        name: text(disk.datastore_name.as_ref()),
        cluster_name: text(disk.datastore_cluster_name.as_ref()),
        urn: text(disk.datastore_urn.as_ref()),
        needed_gib: u64::try_from(disk.quantity).unwrap_or_default(),
    };
    let mut datastores: Vec<_> = ordered_disks(spec).into_iter().map(disk).collect();
    datastores.extend(media(spec).map(|media| v1::DatastoreReference { needed_gib: media_gib, ..media }));
    v1::ResolvePlacementRequest {
        session: String::new(),
        template: Some(v1::Reference { name: spec.vm_template_name.clone(), urn: String::new() }),
        compute_cluster: failure_domain
            .map(|name| v1::Reference { name: name.to_owned(), urn: String::new() })
            .or_else(|| place("cluster")),
        folder: place("folder"),
        networks: networks(spec, network),
        datastores,
    }
}

/// The datastore of a volume that a machine's VM must see, to be resolved.
pub fn volume_placement(
    spec: &DCSMachineSpec,
    failure_domain: Option<&str>,
    store: v1::DatastoreReference,
) -> v1::ResolvePlacementRequest {
    v1::ResolvePlacementRequest {
        folder: None,
        networks: Vec::new(),
        datastores: vec![store],
        ..placement(spec, failure_domain, None, 0)
    }
}

/// The VM template alone.
pub fn template(spec: &DCSMachineSpec) -> v1::ResolvePlacementRequest {
    v1::ResolvePlacementRequest {
        template: Some(v1::Reference { name: spec.vm_template_name.clone(), urn: String::new() }),
        ..v1::ResolvePlacementRequest::default()
    }
}

/// The system disk first, then the others as they are declared: the order of sequence numbers.
fn ordered_disks(spec: &DCSMachineSpec) -> Vec<&DiskSpec> {
    let disks = spec.vm_config.as_ref().map(|config| config.dcs_machine_disk_spec.as_slice()).unwrap_or_default();
    let (mut first, rest): (Vec<_>, Vec<_>) = disks.iter().partition(|disk| disk.system_volume == Some(true));
    first.extend(rest);
    first
}

/// The datastore that is named for boot media.
fn media(spec: &DCSMachineSpec) -> Option<v1::DatastoreReference> {
    let config = spec.vm_config.as_ref()?;
    let name = text(config.cd_rom_datastore_name.as_ref());
    let cluster_name = text(config.cd_rom_datastore_cluster_name.as_ref());
    (!name.is_empty() || !cluster_name.is_empty()).then(|| v1::DatastoreReference {
        name,
        cluster_name,
        ..v1::DatastoreReference::default()
    })
}

/// Port groups, the primary NIC's first. The entry goes before the template; without any the VM template's NIC stays.
fn networks(spec: &DCSMachineSpec, network: Option<&NetworkConfig>) -> Vec<v1::NetworkReference> {
    let reference = |urn: Option<&String>, switch: Option<&String>, group: Option<&String>| {
        let found =
            v1::NetworkReference { switch_name: text(switch), port_group_name: text(group), port_group_urn: text(urn) };
        let complete =
            !found.port_group_urn.is_empty() || (!found.switch_name.is_empty() && !found.port_group_name.is_empty());
        complete.then_some(found)
    };
    let of_entry = network.and_then(|entry| {
        reference(entry.port_group_urn.as_ref(), entry.dv_switch_name.as_ref(), entry.port_group_name.as_ref())
    });
    let of_template = spec.vm_config.as_ref().and_then(|config| {
        reference(config.port_group_urn.as_ref(), config.dv_switch_name.as_ref(), config.port_group_name.as_ref())
    });
    let primary = of_entry.or(of_template);
    let additional = network.map(|network| network.addition_nic.as_slice()).unwrap_or_default();
    if primary.is_none() && additional.is_empty() {
        return Vec::new();
    }
    let mut all = vec![primary.clone().unwrap_or_default()];
    all.extend(additional.iter().map(|nic| {
        reference(nic.port_group_urn.as_ref(), nic.dv_switch_name.as_ref(), nic.port_group_name.as_ref())
            .or_else(|| primary.clone())
            .unwrap_or_default()
    }));
    all
}

/// The placement that an answer gives; else why not, as reason and message.
pub fn placed(
    spec: &DCSMachineSpec,
    failure_domain: Option<&str>,
    found: &v1::Placement,
) -> Result<Placement, (&'static str, String)> {
    if !found.unresolved.is_empty() {
        let missing: Vec<_> = found
            .unresolved
            .iter()
            .map(|missing| {
                let detail = if missing.message.is_empty() { "not found".to_owned() } else { missing.message.clone() };
                format!("{} {:?}: {detail}", missing.kind, missing.name)
            })
            .collect();
        let first = found.unresolved.first();
        let reason = match first.map(|missing| (missing.kind.as_str(), missing.reason())) {
            Some((_, v1::Reason::Ambiguous)) => "AmbiguousName",
            Some((_, v1::Reason::Capacity)) => "InsufficientCapacity",
            Some(("VM template", _)) => "VMTemplateNotFound",
            Some(("compute cluster", _)) => "ComputeClusterNotFound",
            Some(("folder", _)) => "FolderNotFound",
            Some(("switch", _)) => "SwitchNotFound",
            Some(("port group", _)) => "PortGroupNotFound",
            _ => "DatastoreNotFound",
        };
        return Err((reason, missing.join("; ")));
    }
    let template = found.template.clone().unwrap_or_default();
    let disks = ordered_disks(spec);
    if let Some(system) = disks.first()
        && system.quantity > 0
        && u64::try_from(system.quantity).unwrap_or_default() < template.system_disk_gib
    {
        return Err((
            "SystemDiskTooSmall",
            format!(
                "the system disk has {} GB, VM template {} needs {}; use 0 or at least that",
                system.quantity, spec.vm_template_name, template.system_disk_gib
            ),
        ));
    }
    let disk_datastores: Vec<_> = found.datastore_urns.iter().take(disks.len()).cloned().collect();
    let system_datastore =
        disk_datastores.first().cloned().filter(|urn| !urn.is_empty()).unwrap_or(template.system_datastore_urn);
    Ok(Placement {
        template: template.urn,
        compute_cluster: found.compute_cluster_urn.clone(),
        folder: found.folder_urn.clone(),
        port_groups: found.port_group_urns.clone(),
        media_datastore: found.datastore_urns.get(disks.len()).cloned().unwrap_or(system_datastore),
        disk_datastores,
        failure_domain: failure_domain.map(str::to_owned),
    })
}

/// The disks to be made, by their sequence numbers, without their datastores.
pub fn disks(spec: &DCSMachineSpec) -> Vec<v1::DiskSpec> {
    let disk = |(disk, sequence): (&DiskSpec, u32)| v1::DiskSpec {
        sequence,
        size_gib: u64::try_from(disk.quantity).unwrap_or_default(),
        datastore_urn: String::new(),
        system: disk.system_volume == Some(true),
    };
    ordered_disks(spec).into_iter().zip(1..).map(disk).collect()
}

/// The VM to be made; none when the record lacks what must come before.
pub fn machine(machine: &DCSMachine, record: &Record, owner: v1::Owner) -> Option<v1::CreateMachineRequest> {
    let (placement, attempt) = (record.placement.as_ref()?, record.attempt.as_ref()?);
    let config = machine.spec.vm_config.as_ref()?;
    let disks = disks(&machine.spec)
        .into_iter()
        .zip(&placement.disk_datastores)
        .map(|(disk, datastore)| v1::DiskSpec { datastore_urn: datastore.clone(), ..disk })
        .collect();
    let nics = placement.port_groups.iter().map(|urn| v1::NicSpec { port_group_urn: urn.clone() }).collect();
    Some(v1::CreateMachineRequest {
        session: String::new(),
        attempt: attempt.id.clone(),
        owner: Some(owner),
        name: status::vm_name(machine, record),
        template_urn: placement.template.clone(),
        compute_cluster_urn: placement.compute_cluster.clone(),
        folder_urn: placement.folder.clone(),
        cpus: u32::try_from(config.dcs_machine_cpu_spec.quantity).ok()?,
        memory_mib: u64::try_from(config.dcs_machine_memory_spec.quantity).ok()?,
        disks,
        nics,
        boot_media_path: record.media.as_ref().map(|media| media.path.clone()).unwrap_or_default(),
    })
}
