//! What the tests of this folder share: a machine on a clock that jumps, and ears for its console.

use std::{net::IpAddr, sync::Arc};

use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::{
    boot::{BootFailure, Booted, PowerOn, boot},
    clock::{GuestClock, tests::JumpingClock},
    disk::{BlockDevice, Disk},
    image,
    machine::{Machine, Observer},
    network::Network,
    root::Volume,
    shell::{Call, Commands, Ended, Exit, Job, Limits, base_environment, run},
};
use crate::guest::{GuestNic, iso::Medium};

/// Remembers all that a machine says.
#[derive(Default)]
pub(super) struct Recorder {
    lines: Mutex<Vec<String>>,
    online: Mutex<Vec<(String, Vec<(String, IpAddr)>)>>,
}

impl Recorder {
    pub(super) fn text(&self) -> String {
        self.lines.lock().join("\n")
    }

    pub(super) fn online(&self) -> Vec<(String, Vec<(String, IpAddr)>)> {
        self.online.lock().clone()
    }
}

impl Observer for Recorder {
    fn console(&self, line: &str) {
        self.lines.lock().push(line.to_owned());
    }

    fn online(&self, hostname: &str, addresses: &[(String, IpAddr)]) {
        self.online.lock().push((hostname.to_owned(), addresses.to_vec()));
    }
}

/// A kubeadm that notes its calls and does what the machine sees of a real one.
#[derive(Default)]
pub(super) struct Kubeadm {
    pub(super) calls: Vec<Vec<String>>,
    pub(super) code: u8,
}

impl Commands for Kubeadm {
    fn has(&self, name: &str) -> bool {
        name == "kubeadm"
    }

    fn run<'a>(&'a mut self, call: Call<'a>) -> BoxFuture<'a, Exit> {
        self.calls.push(call.argv.to_vec());
        let code = self.code;
        Box::pin(async move {
            if code != 0 {
                return Exit::fail(code, "error execution phase preflight");
            }
            let root = &mut call.machine.root;
            root.put(
                "/var/lib/kubelet/config.yaml",
                b"kind: KubeletConfiguration\n".as_slice(),
                0o644,
                Default::default(),
            )
            .unwrap();
            let flags = b"KUBELET_KUBEADM_ARGS=\"--node-ip=10.0.0.5 --node-labels=a=b\"\n";
            root.put("/var/lib/kubelet/kubeadm-flags.env", flags.as_slice(), 0o644, Default::default()).unwrap();
            call.machine.services.set("kubelet.service", super::systemd::State::Active);
            Exit::ok("Your Kubernetes control-plane has initialized successfully!\n")
        })
    }
}

/// A virtual machine that can be switched on again and again.
pub(super) struct Vm {
    pub(super) system: Volume,
    pub(super) disks: Vec<BlockDevice>,
    pub(super) nics: usize,
    pub(super) clock: Arc<JumpingClock>,
    pub(super) recorder: Arc<Recorder>,
}

pub(super) const GIB: u64 = 1 << 30;

impl Vm {
    pub(super) fn new() -> Self {
        Self {
            system: image::system_disk(),
            disks: Vec::new(),
            nics: 2,
            clock: Arc::default(),
            recorder: Arc::default(),
        }
    }

    pub(super) fn with_disk(mut self, gib: u64) -> Self {
        let letter = char::from(b'b' + u8::try_from(self.disks.len()).unwrap());
        self.disks.push(BlockDevice {
            name: format!("vd{letter}"),
            size_bytes: gib * GIB,
            serial: format!("volume-{letter}"),
            disk: Disk::default(),
        });
        self
    }

    pub(super) fn nics(&self) -> Vec<GuestNic> {
        let nic = |index: u32| GuestNic { index, mac: format!("28:6E:D4:00:00:0{index}"), port_group: "pg".to_owned() };
        (0..u32::try_from(self.nics).unwrap()).map(nic).collect()
    }

    pub(super) async fn boot(
        &self,
        medium: Option<Medium>,
        commands: &mut dyn Commands,
    ) -> Result<Booted, BootFailure> {
        let power_on = PowerOn {
            system: self.system.clone(),
            system_size: 40 * GIB,
            disks: self.disks.clone(),
            nics: self.nics(),
            medium,
            clock: self.clock.clone(),
            observer: self.recorder.clone(),
            limits: Limits::default(),
        };
        boot(power_on, commands).await
    }

    /// A machine with these disks that was never booted.
    pub(super) fn machine(&self) -> Machine {
        let clock: Arc<dyn GuestClock> = self.clock.clone();
        let mut machine = Machine::new(
            self.system.clone(),
            self.disks.clone(),
            Network::bare(&self.nics()),
            clock,
            self.recorder.clone(),
        );
        machine.settle_devices().unwrap();
        if !machine.root.exists("/dev/null") {
            machine.root.character_device("/dev/null", 1, 3).unwrap();
        }
        machine
    }
}

/// Runs a script of bash on a machine; what it printed, errors among it.
pub(super) async fn bash(machine: &mut Machine, recorder: &Recorder, script: &str) -> (Ended, String) {
    let before = recorder.text().len();
    let argv = ["bash".to_owned(), "-c".to_owned(), script.to_owned()];
    let job = Job { argv: &argv, env: &base_environment(), directory: "/root", tag: "" };
    let ended = run(job, Limits::default(), machine, &mut Kubeadm::default()).await;
    (ended, recorder.text()[before..].trim_start_matches('\n').to_owned())
}

/// A medium with this label and these files.
pub(super) fn medium(label: &str, files: &[(&str, &[u8])]) -> Medium {
    let files = files.iter().map(|(path, content)| ((*path).into(), content.to_vec())).collect();
    Medium { label: label.to_owned(), files }
}
