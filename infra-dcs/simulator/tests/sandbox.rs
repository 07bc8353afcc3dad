//! Machines that boot for real. Needs root, a kernel that can (see `basalt-dcs-simulator probe`) and a guest image, whose
//! directory `BASALT_IMAGE_DIR` names; without them the test says so and proves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod medium;

use std::{
    collections::BTreeSet,
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use dcs_simulator::guest::{
    GuestDisk, GuestEvent, GuestNic, GuestPlatform, GuestSpec, PowerOff, StopReason,
    image::ImageDir,
    sandbox::{SandboxConfig, SandboxGuests, clean, probe},
};
use serde_json::json;
use tokio::sync::mpsc;

const INSIDE: &str = "BASALT_SANDBOX_TEST_INSIDE";
const MAC: &str = "28:6e:d4:00:00:01";

/// What the first boot writes: counts boots on the data disk, which it formats once, and shows the disks' names.
const BOOT_SCRIPT: &str = "#!/bin/sh
set -e
blkid /dev/vdb || mkfs.xfs -q /dev/vdb
grep -q /data /etc/fstab || echo '/dev/vdb /data xfs defaults 0 0' >>/etc/fstab
mkdir -p /data
mountpoint -q /data || mount /data
echo boot >>/data/boots
echo boot >>/root/boots
echo \"boots: $(wc -l </data/boots) on the data disk, $(wc -l </root/boots) on the system disk, vdc has $(blockdev --getsize64 /dev/vdc) bytes\"
";

fn ignition(script: &str) -> serde_json::Value {
    let file = |path: &str, mode: u32, text: &str| {
        let mut source = "data:,".to_owned();
        text.bytes().for_each(|byte| source.push_str(&format!("%{byte:02x}")));
        json!({"path": path, "mode": mode, "overwrite": true, "contents": {"source": source}})
    };
    let profile = "[connection]\nid=eth0\ntype=ethernet\ninterface-name=eth0\n[ipv4]\nmethod=manual\naddress1=10.77.1.1/16\n[ipv6]\nmethod=disabled\n";
    let unit = "[Unit]\nAfter=local-fs.target\n[Service]\nType=oneshot\nStandardOutput=journal+console\nExecStart=/etc/boot.sh\n[Install]\nWantedBy=multi-user.target\n";
    json!({
        "ignition": {"version": "3.3.0"},
        "storage": {"files": [
            file("/etc/hostname", 0o644, "node-1\n"),
            file("/etc/boot.sh", 0o755, script),
            file("/etc/NetworkManager/system-connections/eth0.nmconnection", 0o600, profile),
        ]},
        "systemd": {"units": [{"name": "boot.service", "enabled": true, "contents": unit}]},
    })
}

struct Site {
    data: PathBuf,
    guests: SandboxGuests,
    events: mpsc::Receiver<GuestEvent>,
    kept: Vec<GuestEvent>,
}

impl Site {
    async fn start(data: &Path, image: &Path) -> Self {
        let (sender, events) = mpsc::channel(4096);
        let config = SandboxConfig {
            data_dir: data.to_owned(),
            image: ImageDir::open(image).unwrap(),
            bridge: "br0".into(),
            launcher: env!("CARGO_BIN_EXE_basalt-dcs-simulator").into(),
        };
        let guests = SandboxGuests::start(config, sender).await.unwrap();
        Self { data: data.to_owned(), guests, events, kept: Vec::new() }
    }

    fn machine(&self, document: &serde_json::Value) -> GuestSpec {
        let disk = |sequence: u32, megabytes: u64| {
            let path = self.data.join(format!("volume-{sequence}"));
            File::create(&path).unwrap().set_len(megabytes << 20).unwrap();
            GuestDisk {
                sequence,
                path,
                size_bytes: megabytes << 20,
                volume_id: sequence.to_string(),
                system: sequence == 1,
            }
        };
        let cdrom = self.data.join("medium.iso");
        medium::write(&cdrom, document);
        GuestSpec {
            id: "i-00000001".into(),
            name: "vm-1".into(),
            image: "template".into(),
            cpus: 1,
            memory_mb: 1024,
            disks: vec![disk(1, 1024), disk(5, 512), disk(9, 64)],
            nics: vec![GuestNic { index: 0, mac: MAC.into(), port_group: "any".into() }],
            cdrom: Some(cdrom),
        }
    }

    /// The first event that `wanted` takes, the others are kept for later calls; they are shown if none comes.
    async fn event<T>(&mut self, what: &str, wanted: impl Fn(&GuestEvent) -> Option<T>) -> T {
        if let Some((at, found)) = self.kept.iter().enumerate().find_map(|(at, event)| Some((at, wanted(event)?))) {
            self.kept.remove(at);
            return found;
        }
        let (events, kept) = (&mut self.events, &mut self.kept);
        let found = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let event = events.recv().await.expect("the platform is there");
                if let Some(found) = wanted(&event) {
                    return found;
                }
                kept.push(event);
            }
        });
        match found.await {
            Ok(found) => found,
            Err(late) => panic!("no event `{what}` ({late}) among {:#?}", self.kept),
        }
    }

    async fn line(&mut self, text: &str) -> String {
        self.event(text, |event| match event {
            GuestEvent::Console { line, .. } if line.contains(text) => Some(line.clone()),
            _ => None,
        })
        .await
    }

    async fn stopped(&mut self) -> StopReason {
        self.event("stopped", |event| match event {
            GuestEvent::Stopped { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    }
}

async fn machines_boot_keep_their_disks_and_leave_nothing(data: &Path, image: &Path) {
    let mut site = Site::start(data, image).await;
    let spec = site.machine(&ignition(BOOT_SCRIPT));
    site.guests.power_on(spec.clone()).await.unwrap();
    assert!(site.guests.power_on(spec.clone()).await.is_err(), "a running machine is not started twice");
    let (addresses, hostname) = site
        .event("tools", |event| match event {
            GuestEvent::ToolsRunning { addresses, hostname, .. } => Some((addresses.clone(), hostname.clone())),
            _ => None,
        })
        .await;
    let address: IpAddr = "10.77.1.1".parse().unwrap();
    assert_eq!((addresses, hostname.as_str()), (vec![(MAC.to_owned(), address)], "node-1"));
    let line = site.line("boots:").await;
    assert!(line.contains("boots: 1 on the data disk, 1 on the system disk, vdc has 67108864 bytes"), "{line}");

    // Looked up, never tried: where it failed, trying it would set the clock of the host.
    let bounds = |status: &str| {
        let set =
            status.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("a bounding set").trim().to_owned();
        u64::from_str_radix(&set, 16).unwrap()
    };
    let entered = Command::new(env!("CARGO_BIN_EXE_basalt-dcs-simulator"))
        .arg("exec")
        .arg("--data-dir")
        .arg(data)
        .args([spec.id.as_str(), "cat", "/proc/1/status", "/proc/self/status"])
        .output()
        .unwrap();
    let statuses = String::from_utf8(entered.stdout).unwrap();
    let (init, own) = statuses.split_once("Name:\tcat").expect("two processes");
    for (who, set) in [("systemd", bounds(init)), ("a command that enters", bounds(own))] {
        // SYS_MODULE, SYS_RAWIO, SYS_BOOT, SYS_TIME, AUDIT_CONTROL, MAC_OVERRIDE, MAC_ADMIN.
        for capability in [16, 17, 22, 25, 30, 32, 33] {
            assert_eq!(set >> capability & 1, 0, "{who} has capability {capability}");
        }
    }

    site.guests.power_off(&spec.id, PowerOff::Safe).await.unwrap();
    assert_eq!(site.stopped().await, StopReason::PoweredOffInside);

    // The medium is taken out: what it configured stays.
    site.guests.power_on(GuestSpec { cdrom: None, ..spec.clone() }).await.unwrap();
    let line = site.line("boots:").await;
    assert!(line.contains("boots: 2 on the data disk, 2 on the system disk"), "{line}");
    site.guests.power_off(&spec.id, PowerOff::Force).await.unwrap();
    assert_eq!(site.stopped().await, StopReason::Killed);
    site.guests.power_off(&spec.id, PowerOff::Force).await.expect("off is off");
    assert!(site.guests.console(&spec.id, 200).iter().any(|line| line.contains("boots: 2")));

    site.guests.destroy(&spec.id).await.unwrap();
    assert!(!data.join("guests").join(&spec.id).exists());
    let error = site.guests.power_on(spec).await.expect_err("the content of its system disk is gone");
    assert!(error.to_string().contains("system disk"), "{error}");
    site.guests.shutdown().await;
    assert_eq!(clean::clean(data).await.unwrap(), Vec::<String>::new());
}

async fn a_refused_document_fails_the_boot_with_its_reason(data: &Path, image: &Path) {
    let mut site = Site::start(data, image).await;
    let spec = site.machine(&json!({"ignition": {"version": "2.3.0"}}));
    site.guests.power_on(spec.clone()).await.unwrap();
    match site.stopped().await {
        StopReason::BootFailed(reason) => assert!(reason.contains("ignition, stage fetch"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(clean::clean(data).await.unwrap(), Vec::<String>::new());
}

async fn clean_finds_a_machine_that_nobody_watches(data: &Path, image: &Path) {
    let mut site = Site::start(data, image).await;
    let spec = site.machine(&ignition(BOOT_SCRIPT));
    site.guests.power_on(spec.clone()).await.unwrap();
    site.line("boots:").await;
    let removed = clean::clean(data).await.unwrap();
    assert!(removed.iter().any(|line| line.starts_with(&format!("machine {}", spec.id))), "{removed:?}");
    assert_eq!(site.stopped().await, StopReason::Killed);
    assert_eq!(clean::clean(data).await.unwrap(), Vec::<String>::new());

    // The next platform of the site knows no machine of that name: its content goes.
    drop(site);
    let site = Site::start(data, image).await;
    site.guests.keep_only(&BTreeSet::new()).await.unwrap();
    assert!(!data.join("guests").join(&spec.id).exists());
}

/// All cases in one test: they share the network namespace that this program runs itself in.
#[test]
fn sandbox_guests() {
    let Some(image) = std::env::var_os("BASALT_IMAGE_DIR").map(PathBuf::from) else {
        eprintln!("SKIPPED: BASALT_IMAGE_DIR names no guest image");
        return;
    };
    let obstacles = probe::obstacles(false);
    if !obstacles.is_empty() {
        eprintln!("SKIPPED: sandbox guests cannot run here: {}", obstacles.join("; "));
        return;
    }
    if std::env::var_os(INSIDE).is_none() {
        let status = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox_guests", "--nocapture"])
            .env(INSIDE, "1")
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        return;
    }
    for arguments in
        ["link set lo up", "link add br0 type bridge", "address add 10.77.0.1/16 dev br0", "link set br0 up"]
    {
        assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let data = tempfile::tempdir().unwrap();
        machines_boot_keep_their_disks_and_leave_nothing(data.path(), &image).await;
        let data = tempfile::tempdir().unwrap();
        a_refused_document_fails_the_boot_with_its_reason(data.path(), &image).await;
        let data = tempfile::tempdir().unwrap();
        clean_finds_a_machine_that_nobody_watches(data.path(), &image).await;
    });
}
