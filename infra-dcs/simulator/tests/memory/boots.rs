use dcs_simulator::guest::{
    GuestError, GuestPlatform, PowerOff, StopReason,
    faults::{Accident, Staging},
};
use serde_json::json;

use super::{
    document::{Pki, init, machine},
    site::{Site, until},
};

async fn failure(site: &Site, id: &str) -> String {
    let mut why = None;
    until("the boot fails", || {
        let told = site.told();
        why = told.stopped.iter().find(|(stopped, _)| stopped == id).map(|(_, reason)| reason.clone());
        why.is_some()
    })
    .await;
    match why {
        Some(StopReason::BootFailed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_off_loopback_are_refused_with_the_cure() {
    let site = Site::new(0.05);
    site.power_on("i-1", &machine("cp-1", "10.1.2.3", "init", &init("10.1.2.3:6443"), None)).await;
    let why = failure(&site, "i-1").await;
    assert!(why.contains("has the address 10.1.2.3") && why.contains("127.0.0.0/8"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeadm_that_fails_is_told_by_the_console_of_a_machine_that_goes_on() {
    let site = Site::new(0.01);
    let pki = Pki::new();
    let endpoint = format!("{}:6443", site.address(1));
    let configuration = init(&endpoint).replace("clusterName", "clusterNome");
    site.power_on("i-1", &machine("cp-1", &site.address(1), "init", &configuration, Some(&pki))).await;
    site.says("i-1", "boot failed: kubeadm.service").await;
    assert!(site.console("i-1").contains("unknown field \"clusterNome\""), "{}", site.console("i-1"));
    // Nothing of Kubernetes runs on it, nor does after another boot.
    assert!(site.guests.clusters().is_empty());
    site.guests.strike("i-1", Accident::Reboot).await.unwrap();
    site.says("i-1", "The machine is rebooted.").await;
    until("it fails again", || site.console("i-1").matches("boot failed: kubeadm.service").count() == 2).await;
    assert!(site.guests.clusters().is_empty());
    assert!(!site.console("i-1").contains("Started kubelet.service"), "{}", site.console("i-1"));
    // Its guest tools answer: it can still be asked to shut down.
    assert!(site.told().stopped.is_empty());
    site.guests.power_off("i-1", PowerOff::Safe).await.unwrap();
    until("its end is told", || site.told().stopped.contains(&("i-1".into(), StopReason::PoweredOffInside))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_can_be_repeated() {
    let site = Site::new(0.05);
    let document = machine("m", &site.address(1), "version", "", None);
    site.power_on("i-1", &document).await;
    let twice = site.guests.power_on(site.spec("i-1", &document)).await;
    assert!(matches!(twice, Err(GuestError::AlreadyRunning(_))), "{twice:?}");
    for _ in 0..2 {
        site.guests.power_off("i-1", PowerOff::Safe).await.unwrap();
        site.guests.destroy("i-1").await.unwrap();
    }
    until("its end is told", || site.told().stopped.contains(&("i-1".into(), StopReason::PoweredOffInside))).await;
    assert_eq!(site.told().stopped.len(), 1);
    assert!(site.console("i-1").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_may_undo_what_the_image_sets() {
    let site = Site::new(0.01);
    let pki = Pki::new();
    let endpoint = format!("{}:6443", site.address(1));
    let mut document = machine("cp-1", &site.address(1), "init", &init(&endpoint), Some(&pki));
    let file = json!({"path": "/etc/sysctl.d/95-site.conf", "mode": 0o644,
        "contents": {"source": "data:,net.ipv4.ip_forward%20%3D%200%0A"}});
    document["storage"]["files"].as_array_mut().unwrap().push(file);
    site.power_on("i-1", &document).await;
    site.says("i-1", "boot failed: kubeadm.service").await;
    let console = site.console("i-1");
    assert!(console.contains("/proc/sys/net/ipv4/ip_forward contents are not set to 1"), "{console}");
}
