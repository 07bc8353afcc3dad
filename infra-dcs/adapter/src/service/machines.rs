//! Virtual machines.

use std::time::Duration;

use dcs_proto::{
    MachineError,
    error::{FOREIGN_MACHINE, Reason},
    v1::{
        Console, CreateMachineRequest, DeleteMachineRequest, Disk, FindMachinesRequest, FindMachinesResponse,
        GetConsoleRequest, GetMachineRequest, GrowDiskRequest, Machine, MoveMachineRequest, Nic, Owner,
        PowerOffRequest, PowerOnRequest, PowerState, Task,
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use super::tasks;
use crate::{
    fault,
    session::Session,
    vrm::{codes, codes::done, path_of, wire},
};

/// First word of the description of every machine of ours.
const MARK: &str = "capi-dcs";
/// A template that is being cloned refuses others for a moment.
const TEMPLATE_BUSY: Duration = Duration::from_secs(3);

pub(super) async fn create(session: &Session, request: CreateMachineRequest) -> Result<Task, MachineError> {
    let owner = request.owner.clone().unwrap_or_default();
    if request.attempt.is_empty() || owner.uid.is_empty() {
        return Err(MachineError::new(Reason::Invalid, "attempt and owner.uid: must not be empty"));
    }
    if let Some(known) = by_attempt(session, &request.attempt, &request.name).await? {
        return adopt(session, &known).await;
    }
    let path = format!("{}/action/clone", path_of(&request.template_urn)?);
    let template: wire::Vm = session.vrm.offer(&path_of(&request.template_urn)?, &[]).await?;
    let body = clone_body(&request, &owner, &template);
    let sent = session.vrm.send::<wire::Started>(Method::POST, &path, &[], Some(&body));
    match fault::around("vrm-clone", sent).await {
        Ok(started) => Ok(tasks::started(session, &started, "")),
        // An earlier try of this attempt has come through after all.
        Err(error) if codes::is(&error, done::UUID_EXISTS) => {
            match by_attempt(session, &request.attempt, &request.name).await? {
                Some(known) => Ok(adopt(session, &known).await?),
                None => Err(MachineError { reason: Reason::OutcomeUnknown, ..error }),
            }
        }
        Err(error) if error.reason == Reason::Busy && error.retry_after.is_none() => {
            Err(error.retry_after(TEMPLATE_BUSY))
        }
        Err(error) => Err(error),
    }
}

/// The machine that an attempt made. The site knows it by the UUID that it was given; the mark confirms it. Another
/// machine of that name is a conflict: a second one would have its address too.
async fn by_attempt(session: &Session, attempt: &str, name: &str) -> Result<Option<wire::Vm>, MachineError> {
    let path = format!("{}/vms", session.site_path);
    let is_it =
        |vm: &wire::Vm| vm.uuid.as_deref() == Some(attempt) || mark_of(vm).is_some_and(|(_, marked)| marked == attempt);
    let known: Vec<wire::Vm> = session.vrm.list(&path, &[("uuid", attempt)], "vms").await?;
    if let Some(vm) = known.into_iter().find(is_it) {
        return Ok(Some(vm));
    }
    // A site that does not honour the UUID still keeps the mark: the name leads to it.
    let namesakes: Vec<wire::Vm> = session.vrm.list(&path, &[("name", name)], "vms").await?;
    let namesakes = namesakes.into_iter().filter(|vm| vm.name == name && vm.is_template != Some(true));
    let mut others = Vec::new();
    for vm in namesakes.filter(|vm| vm.status != "recycling") {
        if is_it(&vm) {
            return Ok(Some(vm));
        }
        others.push(vm);
    }
    let Some(other) = others.first() else { return Ok(None) };
    let whose = mark_of(other).map_or("nobody known here".to_owned(), |(owner, _)| owner.resource);
    let message = format!("VM {} is called {name} too and belongs to {whose}; rename or delete it", other.urn);
    Err(MachineError::new(Reason::Conflict, message).about(FOREIGN_MACHINE, name))
}

async fn adopt(session: &Session, vm: &wire::Vm) -> Result<Task, MachineError> {
    let running = if vm.status == "creating" { tasks::running_on(session, &vm.urn).await? } else { None };
    Ok(running.unwrap_or_else(|| tasks::done(&vm.urn)))
}

fn clone_body(request: &CreateMachineRequest, owner: &Owner, template: &wire::Vm) -> Value {
    let template_nics = template.vm_config.nics.as_deref().unwrap_or_default();
    let disks: Vec<Value> = request
        .disks
        .iter()
        .map(|disk| {
            let mut fields =
                json!({"sequenceNum": disk.sequence, "pciType": "VIRTIO", "datastoreUrn": disk.datastore_urn});
            if disk.size_gib > 0 {
                fields["quantityGB"] = json!(disk.size_gib);
            }
            if disk.system {
                fields["isDataCopy"] = json!(true);
            }
            fields
        })
        .collect();
    let mut config = json!({
        "cpu": {"quantity": request.cpus},
        "memory": {"quantityMB": request.memory_mib},
        "properties": {"recoverByHost": true},
        "disks": disks,
    });
    if !request.nics.is_empty() {
        let nic = |(index, nic): (usize, &dcs_proto::v1::NicSpec)| {
            // A NIC that the template has keeps its name; another name would add one.
            let name = template_nics.get(index).map(|nic| nic.name.clone()).filter(|name| !name.is_empty());
            let name = name.unwrap_or_else(|| format!("Network Adapter {index}"));
            let mut fields = json!({"name": name, "sequenceNum": index});
            if !nic.port_group_urn.is_empty() {
                fields["portGroupUrn"] = json!(nic.port_group_urn);
            }
            fields
        };
        config["nics"] = request.nics.iter().enumerate().map(nic).collect();
    }
    let mut body = json!({
        "name": request.name,
        "description": mark(owner, &request.attempt),
        "group": owner.uid,
        "clonedVmUUID": request.attempt,
        // The default would start it before its disks and its boot medium are there.
        "autoBoot": false,
        "isTemplate": false,
        "isLinkClone": false,
        "vmConfig": config,
    });
    if !request.boot_media_path.is_empty() {
        body["cdRomProtocol"] = json!("file");
        body["cdRomDevicePath"] = json!(request.boot_media_path);
        body["cdRomAttachAtPowerOn"] = json!(true);
    }
    for (name, urn) in [("location", &request.compute_cluster_urn), ("parentObjUrn", &request.folder_urn)] {
        if !urn.is_empty() {
            body[name] = json!(urn);
        }
    }
    body
}

fn mark(owner: &Owner, attempt: &str) -> String {
    format!(
        "{MARK} {} uid={} cluster={} management={} attempt={attempt}",
        owner.resource, owner.uid, owner.cluster, owner.management_cluster
    )
}

/// Owner and attempt that a machine is marked with.
fn mark_of(vm: &wire::Vm) -> Option<(Owner, String)> {
    let mut words = vm.description.as_deref()?.split(' ');
    if words.next() != Some(MARK) {
        return None;
    }
    let mut owner = Owner { resource: words.next()?.to_owned(), ..Owner::default() };
    let mut attempt = String::new();
    for word in words {
        match word.split_once('=') {
            Some(("uid", value)) => value.clone_into(&mut owner.uid),
            Some(("cluster", value)) => value.clone_into(&mut owner.cluster),
            Some(("management", value)) => value.clone_into(&mut owner.management_cluster),
            Some(("attempt", value)) => value.clone_into(&mut attempt),
            _ => {}
        }
    }
    Some((owner, attempt))
}

pub(super) async fn get(session: &Session, request: GetMachineRequest) -> Result<Machine, MachineError> {
    let path = path_of(&request.urn)?;
    let vm: wire::Vm = session.vrm.get(&path, &[]).await?;
    let media = match vm.cd_rom_status.as_deref() {
        Some("empty") | None => String::new(),
        Some(_) => media_of(session, &path).await?,
    };
    Ok(translate(vm, media))
}

/// Path of the medium in a machine's drive.
pub(super) async fn media_of(session: &Session, path: &str) -> Result<String, MachineError> {
    match session.vrm.ask::<Value>(&format!("{path}/action/describeCdrom"), None).await {
        Ok(value) => Ok(value["devicePath"].as_str().unwrap_or_default().to_owned()),
        Err(error) if codes::is(&error, done::MEDIA_DETACHED) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn translate(vm: wire::Vm, boot_media: String) -> Machine {
    let (owner, attempt) = mark_of(&vm).map_or((None, String::new()), |(owner, attempt)| (Some(owner), attempt));
    let state = match vm.status.as_str() {
        "running" => PowerState::Running,
        "stopped" => PowerState::Stopped,
        "creating" => PowerState::Creating,
        _ => PowerState::Transition,
    };
    let disk = |disk: wire::Disk| Disk {
        volume_urn: disk.volume_urn.unwrap_or_default(),
        name: disk.disk_name.unwrap_or_default(),
        sequence: disk.sequence_num,
        size_gib: disk.quantity_gb,
        datastore_urn: disk.datastore_urn.unwrap_or_default(),
        independent: disk.indep_disk == Some(true) && disk.persistent_disk == Some(true),
        bus: disk.pci_type.unwrap_or_default(),
    };
    let nic = |nic: wire::Nic| {
        let listed = nic.ip_list.unwrap_or_default();
        let all = listed.split([',', ';', ' ']).map(str::to_owned).chain(nic.ip).chain(nic.ips6.unwrap_or_default());
        let mut addresses: Vec<String> = all.filter(|address| !address.is_empty() && address != "0.0.0.0").collect();
        addresses.dedup();
        Nic {
            name: nic.name,
            mac: nic.mac.unwrap_or_default(),
            port_group_urn: nic.port_group_urn.unwrap_or_default(),
            addresses,
            sequence: nic.sequence_num.unwrap_or_default(),
        }
    };
    let folder_urn = vm.params.and_then(|params| params.parent_obj_urn).filter(|urn| !urn.is_empty());
    Machine {
        urn: vm.urn,
        name: vm.name,
        state: state.into(),
        state_text: vm.status,
        uuid: vm.uuid.unwrap_or_default(),
        owner,
        attempt,
        compute_cluster_urn: vm.cluster_urn.unwrap_or_default(),
        host_urn: vm.host_urn.unwrap_or_default(),
        host_name: vm.host_name.unwrap_or_default(),
        cpus: vm.vm_config.cpu.quantity,
        memory_mib: vm.vm_config.memory.quantity_mb,
        disks: vm.vm_config.disks.unwrap_or_default().into_iter().map(disk).collect(),
        nics: vm.vm_config.nics.unwrap_or_default().into_iter().map(nic).collect(),
        boot_media,
        tools_running: vm.pv_driver_status.as_deref() == Some("running"),
        is_template: vm.is_template == Some(true),
        folder_urn,
    }
}

/// The lists of the answer decide: a call that moves nothing is answered with success too.
pub(super) async fn move_into(session: &Session, request: MoveMachineRequest) -> Result<Task, MachineError> {
    let path = format!("{}/folder/action/move-into-folder", session.site_path);
    let body = json!({"elementType": 1, "elementUrns": [request.urn], "parentFolderUrn": request.folder_urn});
    let sent = session.vrm.send::<wire::Moved>(Method::POST, &path, &[], Some(&body));
    let answer = fault::around("vrm-move", sent).await?;
    let is_it = |element: &&wire::MovedVm| element.vm_id.as_deref() == request.urn.rsplit(':').next();
    if let Some(refused) = answer.failed.iter().flatten().find(is_it) {
        let code = refused.error_code.as_ref().map(wire::number).unwrap_or_default();
        let says = refused.error_des.as_deref().unwrap_or("the site gives no reason");
        return Err(codes::error(&code, 400, says));
    }
    let started = wire::Started { task_urn: answer.task_urn, ..wire::Started::default() };
    if started.task_urn.is_some() || answer.succeeded.iter().flatten().any(|element| is_it(&element)) {
        return Ok(tasks::started(session, &started, &request.urn));
    }
    let message = format!("the site does not say that it moved {}", request.urn);
    Err(MachineError::new(Reason::OutcomeUnknown, message))
}

pub(super) async fn find(
    session: &Session,
    request: FindMachinesRequest,
) -> Result<FindMachinesResponse, MachineError> {
    let filters =
        [("uuid", &request.attempt), ("group", &request.owner_uid), ("name", &request.name), ("ip", &request.address)];
    let query: Vec<(&str, &str)> =
        filters.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (*name, value.as_str())).collect();
    if query.is_empty() {
        return Err(MachineError::new(Reason::Invalid, "one of attempt, owner_uid, name and address must be set"));
    }
    let path = format!("{}/vms", session.site_path);
    let found: Vec<wire::Vm> = session.vrm.list(&path, &query, "vms").await?;
    let mut machines = Vec::new();
    for listed in found.into_iter().filter(|vm| vm.is_template != Some(true)) {
        if !request.name.is_empty() && listed.name != request.name {
            continue;
        }
        // Lists lack what the comparison and the caller need.
        let machine = match get(session, GetMachineRequest { session: String::new(), urn: listed.urn }).await {
            Ok(machine) => machine,
            Err(error) if error.reason == Reason::NotFound => continue,
            Err(error) => return Err(error),
        };
        let uid = machine.owner.as_ref().map(|owner| owner.uid.as_str()).unwrap_or_default();
        let fits = (request.attempt.is_empty()
            || machine.attempt == request.attempt
            || machine.uuid == request.attempt)
            && (request.owner_uid.is_empty() || uid == request.owner_uid)
            && (request.address.is_empty() || machine.nics.iter().any(|nic| nic.addresses.contains(&request.address)));
        if fits {
            machines.push(machine);
        }
    }
    Ok(FindMachinesResponse { machines })
}

pub(super) async fn power_on(session: &Session, request: PowerOnRequest) -> Result<Task, MachineError> {
    let path = format!("{}/action/start", path_of(&request.urn)?);
    let sent = session.vrm.send::<wire::Started>(Method::POST, &path, &[], None);
    accept(session, fault::around("vrm-start", sent).await, done::STARTED, &request.urn)
}

pub(super) async fn power_off(session: &Session, request: PowerOffRequest) -> Result<Task, MachineError> {
    let path = format!("{}/action/stop", path_of(&request.urn)?);
    let body = json!({"mode": if request.force { "force" } else { "safe" }});
    let sent = session.vrm.send::<wire::Started>(Method::POST, &path, &[], Some(&body));
    accept(session, fault::around("vrm-stop", sent).await, done::STOPPED, &request.urn)
}

pub(super) async fn delete(session: &Session, request: DeleteMachineRequest) -> Result<Task, MachineError> {
    let path = path_of(&request.urn)?;
    // Deleting takes every attached disk along: this look is the last line before data is lost.
    let vm: wire::Vm = match session.vrm.get(&path, &[]).await {
        Ok(vm) => vm,
        Err(error) if error.reason == Reason::NotFound => return Ok(tasks::done(&request.urn)),
        Err(error) => return Err(error),
    };
    if let (Some((owner, _)), Some(asking)) = (mark_of(&vm), &request.owner)
        && owner.uid != asking.uid
        && owner.resource != asking.resource
    {
        let message = format!("{} belongs to {}, not to {}", vm.name, owner.resource, asking.resource);
        return Err(MachineError::new(Reason::Conflict, message));
    }
    for disk in vm.vm_config.disks.iter().flatten() {
        let survives = disk.volume_urn.as_ref().is_some_and(|urn| request.surviving_volume_urns.contains(urn))
            || disk.disk_name.as_ref().is_some_and(|name| request.surviving_volume_names.contains(name));
        if survives || (disk.indep_disk == Some(true) && disk.persistent_disk == Some(true)) {
            let name = disk.disk_name.as_deref().unwrap_or("a persistent volume");
            let message = format!("{name} is still attached to {} and must survive it: detach it first", vm.name);
            return Err(MachineError::new(Reason::Conflict, message));
        }
    }
    let query = [("isReserveDisks", "0"), ("isFormat", "0")];
    let sent = session.vrm.send::<wire::Started>(Method::DELETE, &path, &query, None);
    accept(session, fault::around("vrm-delete", sent).await, done::MACHINE_GONE, &request.urn)
}

/// Sizes are totals, in MB at the site.
pub(super) async fn grow_disk(session: &Session, request: GrowDiskRequest) -> Result<Task, MachineError> {
    let path = format!("{}/action/expandvol", path_of(&request.machine_urn)?);
    let body = json!({"volUrn": request.volume_urn, "size": request.size_gib.saturating_mul(1024)});
    let sent = session.vrm.send::<wire::Started>(Method::POST, &path, &[], Some(&body));
    accept(session, fault::around("vrm-grow-disk", sent).await, done::LARGE_ENOUGH, &request.machine_urn)
}

pub(super) async fn console(session: &Session, request: GetConsoleRequest) -> Result<Console, MachineError> {
    let path = format!("{}/action/getConsoleOutput", path_of(&request.urn)?);
    let answer: Value = session.vrm.ask(&path, Some(&json!({"length": request.lines}))).await?;
    Ok(Console { output: answer["output"].as_str().unwrap_or_default().to_owned() })
}

/// The task of a call; a refusal that says that it is so already counts as done.
pub(super) fn accept(
    session: &Session,
    sent: Result<wire::Started, MachineError>,
    already: &[&str],
    entity_urn: &str,
) -> Result<Task, MachineError> {
    match sent {
        Ok(started) => Ok(tasks::started(session, &started, entity_urn)),
        Err(error) if codes::is(&error, already) => Ok(tasks::done(entity_urn)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use dcs_proto::v1::{DiskSpec, NicSpec};

    use super::*;

    fn owner() -> Owner {
        Owner { management_cluster: "mc".into(), resource: "ns/m".into(), uid: "u1".into(), cluster: "ns/c".into() }
    }

    #[test]
    fn a_mark_reads_back() {
        let vm = wire::Vm { description: Some(mark(&owner(), "a1")), ..wire::Vm::default() };
        assert_eq!(mark_of(&vm), Some((owner(), "a1".to_owned())));
        for foreign in [None, Some("made by hand".to_owned())] {
            assert_eq!(mark_of(&wire::Vm { description: foreign, ..wire::Vm::default() }), None);
        }
    }

    #[test]
    fn a_clone_never_starts_by_itself_and_keeps_the_templates_size() {
        let request = CreateMachineRequest {
            attempt: "a1".into(),
            name: "m".into(),
            cpus: 4,
            memory_mib: 4096,
            disks: vec![
                DiskSpec { sequence: 1, size_gib: 0, datastore_urn: "d".into(), system: true },
                DiskSpec { sequence: 2, size_gib: 10, datastore_urn: "d".into(), system: false },
            ],
            nics: vec![NicSpec { port_group_urn: "p".into() }, NicSpec::default()],
            ..CreateMachineRequest::default()
        };
        let template = wire::Vm {
            vm_config: wire::VmConfig {
                nics: Some(vec![wire::Nic { name: "uplink".into(), ..wire::Nic::default() }]),
                ..wire::VmConfig::default()
            },
            ..wire::Vm::default()
        };
        let body = clone_body(&request, &owner(), &template);
        let names: Vec<_> = body["vmConfig"]["nics"].as_array().unwrap().iter().map(|nic| &nic["name"]).collect();
        assert_eq!(names, ["uplink", "Network Adapter 1"]);
        assert_eq!((&body["autoBoot"], &body["clonedVmUUID"]), (&json!(false), &json!("a1")));
        assert!(body["vmConfig"]["disks"][0].get("quantityGB").is_none());
        assert_eq!(body["vmConfig"]["disks"][1]["quantityGB"], 10);
        assert!(body.get("location").is_none(), "what is not chosen is left to the site");
    }
}
