use dcs_proto::v1::PowerState;
use rstest::rstest;

use super::{Cut, NAME, World, attach, declared, detach, mark};
use crate::{
    api::pool::{DiskPhase, PersistentDisk},
    disks::{decide::User, sequence::slot_of},
};

#[rstest]
#[case(Cut::BeforeRecord)]
#[case(Cut::BeforeCall)]
#[case(Cut::BeforeOutcome)]
#[case(Cut::Answer)]
fn a_rolling_replacement_hands_the_disk_on_whatever_dies(#[case] cut: Cut) {
    let mut world = World::new();
    let step = |world: &mut World, expected: DiskPhase| {
        // The pass that does the work is cut short; the next ones must come to the same.
        world.pass(cut);
        world.settle();
        assert_eq!(world.phase(), Some(expected), "{world:#?}");
        assert_eq!(world.site.wrongs, Vec::<String>::new());
    };
    step(&mut world, DiskPhase::Available);
    world.site.add_vm("urn:old", PowerState::Stopped);
    world.user = attach("urn:old");
    step(&mut world, DiskPhase::Attached);
    world.site.vm("urn:old").unwrap().set_state(PowerState::Running);
    world.user = User::Attach { vm: "urn:old".into(), used: true };
    step(&mut world, DiskPhase::Attached);
    assert!(world.record.as_ref().unwrap().used);
    let volume = world.record.as_ref().unwrap().volume.clone();

    world.user = User::Still;
    step(&mut world, DiskPhase::Attached);
    world.site.vm("urn:old").unwrap().set_state(PowerState::Stopped);
    world.user = detach("urn:old");
    step(&mut world, DiskPhase::Available);
    world.site.delete_vm("urn:old");
    world.user = User::Nobody;
    step(&mut world, DiskPhase::Available);
    let given_back = world.record.clone().unwrap();
    assert_eq!((given_back.vm, given_back.freed.is_some()), (None, true), "the entry is free again");

    world.user = User::Waits;
    step(&mut world, DiskPhase::Available);
    world.site.add_vm("urn:new", PowerState::Stopped);
    world.user = attach("urn:new");
    step(&mut world, DiskPhase::Attached);
    let record = world.record.unwrap();
    assert_eq!((record.volume, record.vm.as_deref(), record.used), (volume, Some("urn:new"), true));
    assert_eq!(world.site.vm("urn:new").unwrap().disks[0].sequence, 4, "system, two data disks, one empty number");
}

/// The documented migration: system, kubelet, etcd, containerd, cpaas; the new template keeps two data disks.
fn old_machine() -> World {
    let mut world = World::new();
    world.site.add_vm("urn:old", PowerState::Running);
    let own = world.site.add_volume("urn:cpaas", "c1-cp-1-0005");
    (own.independent, own.owner) = (false, None);
    world.site.plug("urn:cpaas", "urn:old", 5);
    world.user = attach("urn:old");
    world.data_disks = 4;
    world.claim = Some(("urn:old".into(), 5));
    world.declared = Some(PersistentDisk { slot: 1, ..declared() });
    world
}

#[test]
fn a_disk_of_an_old_template_is_taken_over() {
    assert_eq!((slot_of(5, 2), slot_of(4, 2), slot_of(3, 2)), (Some(1), Some(0), None));
    let mut world = old_machine();
    world.pass(Cut::Never);
    world.claim = None;
    let taken = world.record.clone().unwrap();
    assert_eq!((taken.volume.as_deref(), taken.used, taken.foreign), (Some("urn:cpaas"), true, true));
    assert_eq!((world.phase(), world.site.made), (Some(DiskPhase::Attached), 0), "nothing is touched while it runs");

    world.site.vm("urn:old").unwrap().set_state(PowerState::Stopped);
    world.user = detach("urn:old");
    world.settle();
    let volume = world.site.volumes[0].clone();
    assert_eq!((volume.name.as_str(), volume.independent, volume.owner), (NAME, true, Some(mark())));
    world.site.delete_vm("urn:old");
    world.site.add_vm("urn:new", PowerState::Stopped);
    (world.user, world.data_disks) = (attach("urn:new"), 2);
    world.settle();
    assert_eq!(world.site.wrongs, Vec::<String>::new());
    assert_eq!(world.site.vm("urn:new").unwrap().disks[0].sequence, 5);
}

#[rstest]
#[case::size(|world: &mut World| world.declared.as_mut().unwrap().quantity_gb = 41, "it has 40 GiB, quantityGB says 41")]
#[case::store(|world: &mut World| {
        let declared = world.declared.as_mut().unwrap();
        (declared.datastore_cluster_name, declared.datastore_name) = (None, Some("ds-2".into()));
    }, "it lies on ds-1, datastoreName says ds-2")]
#[case::store_cluster(|world: &mut World| world.declared.as_mut().unwrap().datastore_cluster_name = Some("x".into()), "it lies on dsc, datastoreClusterName says x")]
#[case::bus(|world: &mut World| world.declared.as_mut().unwrap().pci_type = Some("SCSI".into()), "it is on bus VIRTIO, pciType says SCSI")]
#[case::no_such_disk(|world: &mut World| world.claim = Some(("urn:old".into(), 4)), "VM urn:old has no disk with sequence number 4")]
fn a_claim_is_strict_until_the_declaration_is_right(#[case] spoil: fn(&mut World), #[case] expected: &str) {
    let mut world = old_machine();
    let right = world.clone();
    spoil(&mut world);
    world.pass(Cut::Never);
    assert_eq!(world.phase(), Some(DiskPhase::Error));
    assert!(world.error().starts_with("ClaimMismatch: ") && world.error().contains(expected), "{}", world.error());
    let pending = world.record.as_ref().unwrap();
    assert_eq!((pending.volume.as_deref(), pending.vm.as_deref()), (None, Some("urn:old")), "its VM must not go yet");
    // Thin provisioning, file system, path and options are not compared.
    world.declared = Some(PersistentDisk {
        is_thin: Some(true),
        format: Some("xfs".into()),
        path: Some("/var/cpaas".into()),
        ..right.declared.unwrap()
    });
    world.claim = right.claim;
    world.pass(Cut::Never);
    assert_eq!(world.phase(), Some(DiskPhase::Attached));
}
