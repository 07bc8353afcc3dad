use std::{net::SocketAddr, time::Duration};

use dcs_simulator::{
    fabric::load_balancer,
    guest::{
        GuestPlatform, PowerOff,
        faults::{Accident, AfflictionsChange, Staging},
    },
};
use tokio::net::TcpListener;

use super::{
    document::{Pki, init, join, machine},
    site::{Admin, Site, until},
};

/// A load balancer before three machines.
async fn balance(site: &Site) -> String {
    let listen: SocketAddr = format!("{}:6443", site.address(100)).parse().unwrap();
    let back_ends: Vec<SocketAddr> =
        (1..=3).map(|number| format!("{}:6443", site.address(number)).parse().unwrap()).collect();
    let listener = TcpListener::bind(listen).await.unwrap();
    let signals = site.signals.clone();
    tokio::spawn(async move { load_balancer::serve(listener, &back_ends, Some(&signals)).await });
    listen.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_of_three_and_a_worker_behind_a_load_balancer() {
    let site = Site::new(0.05);
    let pki = Pki::new();
    let endpoint = balance(&site).await;
    let admin = Admin::new(&pki, &endpoint);
    site.power_on("i-1", &machine("cp-1", &site.address(1), "init", &init(&endpoint), Some(&pki))).await;
    site.says("i-1", "Your Kubernetes control-plane has initialized successfully!").await;
    admin.node_is("cp-1", "True").await;
    assert_eq!(site.told().tools.get("i-1").map(String::as_str), Some("cp-1"));

    let worker = machine("w-1", &site.address(11), "join", &join(&endpoint, &pki, false), None);
    site.power_on("i-11", &worker).await;
    for number in [2, 3] {
        let (id, name) = (format!("i-{number}"), format!("cp-{number}"));
        let configuration = join(&endpoint, &pki, true);
        site.power_on(&id, &machine(&name, &site.address(number), "join", &configuration, Some(&pki))).await;
        site.says(&id, "This node has joined the cluster and a new control plane instance was created").await;
        admin.node_is(&name, "True").await;
    }
    admin.node_is("w-1", "True").await;
    let clusters = site.guests.clusters();
    assert_eq!(clusters.len(), 1);
    assert_eq!((clusters[0].authority.as_str(), clusters[0].machines.len()), (pki.pin.as_str(), 4));

    // One of three may go.
    site.guests.power_off("i-1", PowerOff::Force).await.unwrap();
    admin.node_is("cp-1", "Unknown").await;
    let again = machine("cp-1", &site.address(1), "init", &init(&endpoint), Some(&pki));
    site.power_on("i-1", &again).await;
    admin.node_is("cp-1", "True").await;

    // Two of three may not: there is no quorum, and nothing answers.
    let pulled = AfflictionsChange { partitioned: Some(true), ..AfflictionsChange::default() };
    let plugged = AfflictionsChange { partitioned: Some(false), ..AfflictionsChange::default() };
    for id in ["i-2", "i-3"] {
        site.guests.afflict(id, pulled).unwrap();
    }
    until("no quorum", || !site.guests.clusters()[0].serving).await;
    for id in ["i-2", "i-3"] {
        site.guests.afflict(id, plugged).unwrap();
    }
    until("quorum again", || site.guests.clusters()[0].serving).await;
    for name in ["cp-1", "cp-2", "cp-3", "w-1"] {
        admin.node_is(name, "True").await;
    }
    site.guests.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_reboots_or_crashes_keeps_its_disks() {
    let site = Site::new(0.05);
    let (admin, document) = site.alone().await;
    let before = admin.get("/api/v1/nodes/cp-1").await;
    site.guests.strike("i-1", Accident::Reboot).await.unwrap();
    site.says("i-1", "The machine is rebooted.").await;
    until("it serves again", || site.guests.clusters().iter().any(|cluster| cluster.serving)).await;
    admin.node_is("cp-1", "True").await;
    let after = admin.get("/api/v1/nodes/cp-1").await;
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    let boots = (&before["status"]["nodeInfo"]["bootID"], &after["status"]["nodeInfo"]["bootID"]);
    assert_ne!(boots.0, boots.1);

    site.guests.strike("i-1", Accident::Crash).await.unwrap();
    until("it is off", || site.told().stopped.iter().any(|(id, _)| id == "i-1")).await;
    site.guests.destroy("i-1").await.unwrap();
    assert!(site.guests.clusters().is_empty(), "nobody holds its data any more");
    // A machine of that id on a new disk begins from nothing.
    std::fs::remove_file(site.directory.path().join("i-1.img")).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    site.power_on("i-1", &document).await;
    admin.node_is("cp-1", "True").await;
    let anew = admin.get("/api/v1/nodes/cp-1").await;
    assert_ne!(anew["metadata"]["uid"], after["metadata"]["uid"]);
}
