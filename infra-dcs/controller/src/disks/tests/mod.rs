//! The state machine, against a site that does what it is told and remembers it: phase by phase, after a crash in each
//! of them, and in any order of events.

mod handover;
mod invariant;
mod phases;
mod site;
mod world;

use dcs_proto::v1;

use super::decide::User;
use crate::api::pool::PersistentDisk;
use site::Model;
use world::{Cut, World};

const NAME: &str = "pool-48fbf301";
const DATA_DISKS: u32 = 2;

fn mark() -> v1::Owner {
    v1::Owner { resource: "ns/pool/10.0.0.7/0".into(), management_cluster: "mc".into(), ..v1::Owner::default() }
}

fn declared() -> PersistentDisk {
    PersistentDisk { slot: 0, quantity_gb: 40, datastore_cluster_name: Some("dsc".into()), ..PersistentDisk::default() }
}

fn attach(vm: &str) -> User {
    User::Attach { vm: vm.into(), used: false }
}

fn detach(vm: &str) -> User {
    User::Detach { vm: vm.into() }
}

/// The list of effects is what crash tests go by: what is missing there is never tested.
#[test]
fn the_list_of_effects_is_complete() {
    let source = include_str!("../act.rs");
    let (_, code) = source.split_once("];").unwrap();
    let named: std::collections::BTreeSet<&str> =
        code.split('"').filter(|text| text.starts_with("disks-") && !text.contains(' ')).collect();
    assert_eq!(named, super::EFFECTS.iter().copied().collect());
    assert_eq!(
        code.matches("writer.merge").count(),
        2,
        "a write was added: put it between crash points, then count it"
    );
}
