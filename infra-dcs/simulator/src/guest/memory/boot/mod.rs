//! From power-on to a running machine.
//!
//! ```text
//!  mounts ─► medium ─┬─ label ignition: applied once, before all else; presets
//!                    └─ config drive, NoCloud: network data, host name
//!         ─► fstab ─► host name ─► kernel parameters ─► network ─► `online`
//!         ─► cloud-init: bootcmd, modules
//!         ─► units of multi-user.target, in order
//!         ─► cloud-init: runcmd, once for an instance
//!         ─► Booted
//! ```
//!
//! What marks a first boot as done lies in the machine's root, as on a real one.

mod cloud;
mod medium;
#[cfg(test)]
mod tests;
mod units;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use medium::Source;

use super::{
    clock::GuestClock,
    disk::{BlockDevice, Content, Disk, Partition, Table, TableKind},
    document::ignition,
    machine::{Machine, Observer},
    network::{Network, keyfile},
    root::{Mount, Owner, Volume},
    shell::{self, Commands},
    systemd::{self, start::MainCommand},
};
use crate::guest::{GuestNic, iso::Medium};

/// Where Ignition leaves word that it ran.
const IGNITION_DONE: &str = "/etc/.ignition-result.json";
/// What a machine starts.
const DEFAULT_TARGET: &str = "multi-user.target";

/// What a machine finds when its power comes.
pub struct PowerOn {
    /// The file system on the system disk; [`image::system_disk`](super::image::system_disk) makes a new one. It must
    /// be kept over power cycles.
    pub system: Volume,
    /// Size of the system disk in bytes.
    pub system_size: u64,
    /// Data disks in the order of their sequence numbers, named `vdb`, `vdc` and so on. What is on them must be kept.
    pub disks: Vec<BlockDevice>,
    /// NICs.
    pub nics: Vec<GuestNic>,
    /// The medium in the CD-ROM drive.
    pub medium: Option<Medium>,
    /// Time.
    pub clock: Arc<dyn GuestClock>,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
    /// What a command of the boot may use.
    pub limits: shell::Limits,
}

/// A machine that runs.
#[derive(Debug)]
pub struct Booted {
    /// The machine, with everything that boot has left in it.
    pub machine: Machine,
    /// Its host name.
    pub hostname: String,
    /// Addresses by hardware address of the NIC that carries them.
    pub addresses: Vec<(String, IpAddr)>,
    /// How kubelet was started; none where it was not.
    pub kubelet: Option<MainCommand>,
}

/// Why a machine did not come up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {message}")]
pub struct BootFailure {
    /// Unit or step, for example `ignition`, `network`, `kubeadm.service`, `runcmd`.
    pub step: String,
    /// What went wrong there.
    pub message: String,
}

fn failure<T>(step: impl Into<String>, message: impl ToString) -> Result<T, BootFailure> {
    Err(BootFailure { step: step.into(), message: message.to_string() })
}

/// Boots a machine. The failure is on its console as well.
pub async fn boot(power_on: PowerOn, commands: &mut dyn Commands) -> Result<Booted, BootFailure> {
    let observer = Arc::clone(&power_on.observer);
    let result = steps(power_on, commands).await;
    match &result {
        Ok(booted) => booted.machine.say(&format!("{} login:", booted.hostname)),
        Err(error) => observer.console(&format!("boot failed: {error}")),
    }
    result
}

async fn steps(power_on: PowerOn, commands: &mut dyn Commands) -> Result<Booted, BootFailure> {
    let limits = power_on.limits;
    let mut machine = powered(&power_on)?;
    let source = match power_on.medium {
        Some(medium) => medium::source(&medium, &machine).or_else(|message| failure("medium", message))?,
        None => Source::None,
    };
    let first_boot = !machine.root.exists(IGNITION_DONE);
    let mut instance = None;
    match source {
        Source::Ignition(bytes) if first_boot => apply_ignition(&bytes, &mut machine)?,
        Source::Ignition(_) => machine.say("ignition: not the first boot; nothing to do"),
        Source::Cloud(seed) => instance = Some(cloud::detect(seed, &mut machine)?),
        Source::None => {}
    }
    let failed = shell::mount_all(&mut machine);
    if let Some(reason) = failed.first() {
        return failure("local-fs.target", reason);
    }
    host_name(&mut machine)?;
    kernel_parameters(&mut machine);
    network(&mut machine)?;
    if let Some(instance) = &instance {
        cloud::configure(instance, limits, &mut machine, commands).await?;
    }
    units::start(DEFAULT_TARGET, limits, &mut machine, commands).await?;
    if let Some(instance) = &instance {
        cloud::finish(instance, limits, &mut machine, commands).await?;
    }
    let kubelet = if machine.services.is_active(units::KUBELET) { Some(units::kubelet(&machine)?) } else { None };
    Ok(Booted { hostname: machine.hostname.clone(), addresses: machine.network.addresses(), kubelet, machine })
}

/// A machine as its kernel finds it: disks, file systems in memory, devices.
fn powered(power_on: &PowerOn) -> Result<Machine, BootFailure> {
    let system = Disk::default();
    let partition = Partition {
        number: 1,
        label: "root".to_owned(),
        type_code: String::new(),
        start_mib: 1,
        size_bytes: power_on.system_size.saturating_sub(2 << 20),
        disk: Disk::with(power_on.system.clone()),
    };
    system.set(Content::Partitioned(Table { kind: TableKind::Gpt, partitions: vec![partition] }));
    let system =
        BlockDevice { name: "vda".to_owned(), size_bytes: power_on.system_size, serial: String::new(), disk: system };
    let disks = std::iter::once(system).chain(power_on.disks.iter().cloned()).collect();
    let mut machine = Machine::new(
        power_on.system.clone(),
        disks,
        Network::bare(&power_on.nics),
        Arc::clone(&power_on.clock),
        Arc::clone(&power_on.observer),
    );
    match kernel(&mut machine) {
        Ok(()) => Ok(machine),
        Err(error) => failure("kernel", format!("the system disk is not one of this image: {error}")),
    }
}

fn kernel(machine: &mut Machine) -> Result<(), super::root::Errno> {
    for (path, kind) in
        [("/dev", "devtmpfs"), ("/proc", "proc"), ("/sys", "sysfs"), ("/run", "tmpfs"), ("/tmp", "tmpfs")]
    {
        machine.root.mount(Mount {
            path: path.to_owned(),
            source: kind.to_owned(),
            options: "rw,nosuid,nodev".to_owned(),
            device: None,
            volume: Volume::memory(),
        })?;
    }
    let root = &mut machine.root;
    root.set_mode("/tmp", 0o1777)?;
    for (name, minor) in [("null", 3), ("zero", 5), ("random", 8), ("urandom", 9), ("kmsg", 11)] {
        root.character_device(&format!("/dev/{name}"), 1, minor)?;
    }
    for (name, minor) in [("tty", 0), ("console", 1)] {
        root.character_device(&format!("/dev/{name}"), 5, minor)?;
    }
    root.put("/proc/cmdline", b"root=/dev/vda1 console=ttyS0\n".as_slice(), 0o444, Owner::default())?;
    // A kernel forwards nothing until it is told to.
    root.put("/proc/sys/net/ipv4/ip_forward", b"0\n".as_slice(), 0o644, Owner::default())?;
    root.put("/proc/modules", Vec::new(), 0o444, Owner::default())?;
    for nic in &machine.network.nics {
        let folder = format!("/sys/class/net/{}", nic.name);
        root.put(&format!("{folder}/address"), format!("{}\n", nic.mac).into_bytes(), 0o444, Owner::default())?;
    }
    for device in &machine.disks {
        let folder = format!("/sys/block/{}", device.name);
        root.put(
            &format!("{folder}/size"),
            format!("{}\n", device.size_bytes / 512).into_bytes(),
            0o444,
            Owner::default(),
        )?;
        if !device.serial.is_empty() {
            // virtio has room for 20 bytes.
            let serial: String = device.serial.chars().take(20).collect();
            root.put(&format!("{folder}/serial"), serial.into_bytes(), 0o444, Owner::default())?;
        }
    }
    machine.settle_devices()
}

fn apply_ignition(bytes: &[u8], machine: &mut Machine) -> Result<(), BootFailure> {
    let document = ignition::parse(bytes).or_else(|error| failure("ignition", error))?;
    ignition::apply(&document, machine).or_else(|error| failure("ignition", error))?;
    let result =
        format!("{{\"provisioningBootID\": \"{}\", \"userConfigProvided\": true}}\n", machine.new_uuid("boot"));
    let written = machine.root.put(IGNITION_DONE, result.into_bytes(), 0o644, Owner::default());
    written.or_else(|error| failure("ignition", format!("{IGNITION_DONE}: {error}")))?;
    machine.say("ignition: done");
    // systemd's part of a first boot.
    let missing = systemd::preset_all(&mut machine.root).or_else(|error| failure("systemd", error))?;
    for unit in missing {
        machine.say(&format!("systemd: {unit} is preset to be enabled, but this image has no such unit"));
    }
    Ok(())
}

fn host_name(machine: &mut Machine) -> Result<(), BootFailure> {
    let text = machine.root.read_text("/etc/hostname").unwrap_or_default();
    let name =
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or("localhost");
    if !super::document::cloud_config::is_host_name(name) {
        return failure("hostname", format!("/etc/hostname: {name:?} is no host name"));
    }
    name.clone_into(&mut machine.hostname);
    machine.say(&format!("systemd: Hostname set to <{name}>."));
    Ok(())
}

fn kernel_parameters(machine: &mut Machine) {
    // Of files of one name that of the last folder wins; all in the order of their names.
    let mut files = BTreeMap::new();
    for folder in ["/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d"] {
        for name in machine.root.list(folder).unwrap_or_default() {
            files.insert(name.clone(), format!("{folder}/{name}"));
        }
    }
    for path in files.into_values() {
        let text = machine.root.read_text(&path).unwrap_or_default();
        for name in shell::apply_parameters(machine, &text) {
            machine
                .say(&format!("systemd-sysctl: {path}: couldn't write '{name}', ignoring: No such file or directory"));
        }
    }
}

fn network(machine: &mut Machine) -> Result<(), BootFailure> {
    let profiles = keyfile::profiles(&machine.root).or_else(|error| failure("network", error))?;
    for profile in profiles {
        let line = match machine.network.bring_up(&profile) {
            Ok(Some(nic)) => {
                let addresses: Vec<_> = nic.addresses.iter().map(ToString::to_string).collect();
                format!("NetworkManager: {}: {} ({})", nic.name, addresses.join(" "), profile.origin)
            }
            Ok(None) => format!("NetworkManager: {}: a stronger profile has the NIC", profile.origin),
            Err(error) => return failure("network", error),
        };
        machine.say(&line);
    }
    let servers = &machine.network.name_servers;
    if !servers.is_empty() {
        let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        let written = machine.root.write("/etc/resolv.conf", text.into_bytes());
        written.or_else(|error| failure("network", format!("/etc/resolv.conf: {error}")))?;
    }
    let addresses = machine.network.addresses();
    if addresses.is_empty() {
        machine.say("NetworkManager: no NIC has an address");
    } else {
        machine.observer.online(&machine.hostname, &addresses);
    }
    Ok(())
}
