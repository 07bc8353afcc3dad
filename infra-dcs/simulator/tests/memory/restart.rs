use std::{path::Path, time::Duration};

use dcs_simulator::guest::{
    GuestPlatform,
    contents::Contents,
    memory::{
        cluster::{Around, Pace},
        host::Settings,
        platform::MemoryGuests,
    },
};
use tokio::sync::mpsc;

use super::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn machines_resume_from_their_disks_after_a_restart_of_the_simulator() {
    let site = Site::new(0.05);
    let (admin, document) = site.alone().await;
    let before = admin.get("/api/v1/nodes/cp-1").await;

    let state = site.directory.path().join("state.json");
    let mut contents = Contents::of(&state);
    let saved = site.guests.save(&mut contents).unwrap();
    contents.prune().unwrap();
    site.guests.shutdown().await;

    let (sender, mut events) = mpsc::channel(1024);
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let pace = Pace { scale: 0.05, slow_disk: Duration::from_millis(100) };
    let settings = Settings { wait_scale: 0.05, ..Settings::default() };
    let guests = MemoryGuests::new(settings, Around { pace, ..Around::default() }, sender);
    guests.restore(&Contents::of(&state), &saved).unwrap();
    assert_eq!(guests.workload_clusters().count(), 1);
    guests.power_on(site.spec("i-1", &document)).await.unwrap();
    admin.node_is("cp-1", "True").await;
    let after = admin.get("/api/v1/nodes/cp-1").await;
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"], "it did not begin anew");
    let console = guests.console("i-1", 1000).join("\n");
    assert!(!console.contains("[init]"), "kubeadm ran once:\n{console}");

    // The machine's disk is gone with its file, and with it the cluster.
    guests.keep_only(&Default::default()).await.unwrap();
    assert_eq!(guests.workload_clusters().count(), 0);
    assert!(Path::new(&state).with_extension("guests").is_dir());
}
