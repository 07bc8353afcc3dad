//! The status of a `DCSMachine`, rebuilt from its record and what was just decided. Pure.

use cluster_api::conditions::{Claim, Status, types as common};
use jiff::Timestamp;

use super::{decide::types, record::Record};
use crate::api::{
    Condition, DCSMachine, DCSMachineStatus, Initialization,
    machine::{Address, AddressType},
    settle_conditions,
};

/// The status that the machine shall show.
pub fn status(
    machine: &DCSMachine,
    record: &Record,
    paused: Claim,
    said: &[Claim],
    now: Timestamp,
) -> DCSMachineStatus {
    let before = machine.status.clone().unwrap_or_default();
    let provisioned = machine.spec.provider_id.is_some();
    let media = record.media.as_ref();
    let network = record.network.clone();
    DCSMachineStatus {
        additional_nic: network.as_ref().map(|network| network.addition_nic.clone()).unwrap_or_default(),
        addresses: if provisioned { addresses(machine, record) } else { Vec::new() },
        cd_rom_datastore_urn: media.map(|media| media.datastore.clone()),
        cd_rom_detached: media.map(|media| media.detached),
        cd_rom_file: media.map(|media| media.path.clone()),
        cd_rom_file_deleted: media.map(|media| media.deleted),
        conditions: conditions(machine, record, &before.conditions, paused, said, now),
        failure_domain: record.placement.as_ref().and_then(|placement| placement.failure_domain.clone()),
        failure_domains: None,
        initialization: provisioned.then_some(Initialization { provisioned: Some(true) }),
        network_config: network,
        ready: Some(provisioned),
    }
}

/// The name that the guest gives itself.
pub fn hostname(machine: &DCSMachine, record: &Record) -> String {
    let network = record.network.as_ref();
    network.and_then(|network| network.hostname.clone()).unwrap_or_else(|| vm_name(machine, record))
}

/// The name of the VM at the site.
pub fn vm_name(machine: &DCSMachine, record: &Record) -> String {
    let network = record.network.as_ref();
    network
        .and_then(|network| network.machine_name.clone())
        .unwrap_or_else(|| machine.metadata.name.clone().unwrap_or_default())
}

fn addresses(machine: &DCSMachine, record: &Record) -> Vec<Address> {
    let network = record.network.as_ref();
    let ips = network.into_iter().flat_map(|network| [network.ip.clone(), network.ipv6.clone()]).flatten();
    let bare = |text: String| text.split('/').next().unwrap_or_default().to_owned();
    let mut addresses: Vec<_> = ips.map(|ip| Address { address: bare(ip), type_: AddressType::InternalIP }).collect();
    addresses.push(Address { address: hostname(machine, record), type_: AddressType::Hostname });
    addresses
}

fn conditions(
    machine: &DCSMachine,
    record: &Record,
    before: &[Condition],
    paused: Claim,
    said: &[Claim],
    now: Timestamp,
) -> Vec<Condition> {
    let mut claims = vec![paused];
    claims.extend(said.iter().cloned());
    let has = |claims: &[Claim], type_: &str| claims.iter().any(|claim| claim.type_ == type_);
    if record.network.is_some() && !has(&claims, types::CLAIMED) {
        claims.push(Claim::holds(types::CLAIMED, "Claimed"));
    }
    if record.media.is_some() && !has(&claims, types::MEDIA) {
        claims.push(Claim::holds(types::MEDIA, "Uploaded"));
    }
    if machine.metadata.deletion_timestamp.is_some() {
        claims.push(Claim::holds(common::DELETING, "Deleting"));
    }
    claims.push(ready(machine, &claims));
    settle_conditions(before, claims, machine.metadata.generation, now)
}

/// True when the VM runs as it should; else the first thing that it waits for.
fn ready(machine: &DCSMachine, claims: &[Claim]) -> Claim {
    if machine.metadata.deletion_timestamp.is_some() {
        let waiting = claims.iter().find(|claim| claim.status == Status::False && claim.type_ != common::PAUSED);
        let message = waiting.map(|claim| claim.message.as_str()).filter(|message| !message.is_empty());
        // Between two things that are waited for there is none to name.
        let message = message.unwrap_or("the VM and what belongs to it are being removed");
        return Claim::new(common::READY, false, "Deleting", message);
    }
    // Disks that are appended to a running machine do not take its readiness away.
    let disks = if machine.spec.provider_id.is_none() { types::DISKS } else { types::PROVISIONED };
    let blocking = [types::CLAIMED, types::MEDIA, disks, types::PROVISIONED, types::BOOTED];
    let missing = claims.iter().find(|claim| claim.status != Status::True && blocking.contains(&claim.type_.as_str()));
    match missing {
        Some(claim) => Claim::new(common::READY, false, claim.reason.clone(), claim.message.clone()),
        None if machine.spec.provider_id.is_some() => Claim::holds(common::READY, "Ready"),
        None => Claim::new(common::READY, false, "Provisioning", "the machine is being made"),
    }
}

/// The conditions that a paused machine keeps: those it has, without what the status derives anew.
pub fn kept(machine: &DCSMachine) -> Vec<Claim> {
    let derived = [common::READY, common::PAUSED, common::DELETING];
    let conditions = machine.status.iter().flat_map(|status| &status.conditions);
    let as_claim = |condition: &Condition| {
        let status = match condition.status.as_str() {
            "True" => Status::True,
            "False" => Status::False,
            _ => Status::Unknown,
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Claim::new(condition.type_.clone(), status, text(&condition.reason), text(&condition.message))
    };
    conditions.filter(|condition| !derived.contains(&condition.type_.as_str())).map(as_claim).collect()
}
