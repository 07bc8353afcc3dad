use std::{
    fs,
    time::{Duration, Instant},
};

use super::{
    document::{Pki, init, join, machine},
    site::{Admin, Site},
};

/// Memory and CPU time of this process.
fn usage() -> (u64, f64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let times: Vec<f64> =
        stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2).map(|ticks| ticks.parse().unwrap()).collect();
    (field("VmRSS:") / 1024, times.iter().sum::<f64>() / 100.0)
}

/// What clusters of one control plane machine and one worker cost: `BASALT_FLEET=1000 cargo test --release --test memory
/// -- --ignored --nocapture fleet`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; proves nothing"]
async fn what_a_fleet_costs() {
    let count: u16 = std::env::var("BASALT_FLEET").map_or(50, |text| text.parse().unwrap());
    let site = Site::new(1.0);
    let (empty, _) = usage();
    let begun = Instant::now();
    let mut admins = Vec::new();
    for number in 0..count {
        let pki = Pki::new();
        let (first, second) = (site.address(2 * number + 1), site.address(2 * number + 2));
        let endpoint = format!("{first}:6443");
        let id = format!("i-{number}");
        site.power_on(&id, &machine("cp-1", &first, "init", &init(&endpoint), Some(&pki))).await;
        admins.push((number, Admin::new(&pki, &endpoint), endpoint, pki, second));
    }
    for (number, _, endpoint, pki, second) in &admins {
        site.says(&format!("i-{number}"), "initialized successfully!").await;
        let id = format!("i-w{number}");
        site.power_on(&id, &machine("w-1", second, "join", &join(endpoint, pki, false), None)).await;
    }
    for (_, admin, ..) in &admins {
        admin.node_is("w-1", "True").await;
    }
    drop(admins);
    let (full, busy) = usage();
    println!(
        "{count} clusters ready after {:.1} s; CPU {busy:.1} s; RSS {full} MiB, {} KiB a cluster",
        begun.elapsed().as_secs_f64(),
        (full - empty) * 1024 / u64::from(count)
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (after, idle) = usage();
    println!("idle for 60 s: {:.0} mCPU; RSS {after} MiB", (idle - busy) / 60.0 * 1000.0);
}
