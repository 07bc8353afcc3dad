//! Sandbox guests: a machine is a set of Linux namespaces in which a real systemd boots from what the site attached.
//!
//! ```text
//! <data>/guests/<id>/   upper/ work/ plain/   the system disk: survives power cycles
//!                       root/                 where the machine mounts it, in its own namespace
//!                       medium/               content of the CD-ROM
//!                       launch.json           what its first process is told
//!                       console.log
//! ```
//! Isolation here is for tests, not against hostile code.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
};
use tracing::{debug, warn};

use super::{GuestError, GuestEvent, GuestPlatform, GuestSpec, PowerOff, StopReason, image::ImageDir};

mod cgroup;
pub mod clean;
mod command;
mod console;
mod disk;
pub mod exec;
mod first_boot;
pub mod launch;
mod network;
pub mod probe;
mod system_disk;
mod tools;

use cgroup::SiteGroups;
use disk::Device;
use launch::Launch;

/// How long a guest may take to shut down: systemd gives its services 90 s.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(150);
/// How often a machine that boots is looked at for an address; asking its tools costs four processes and waits for one.
const TOOLS_STARTING: Duration = Duration::from_millis(500);
/// How often a machine that is up is looked at for other addresses, and after how many looks it is asked all the same.
const TOOLS_RUNNING: Duration = Duration::from_secs(5);
const TOOLS_LOOKS: u32 = 24;
/// Lines of console that go with a failed boot.
const FAILURE_LINES: usize = 15;
/// inotify instances the host must allow: a control plane machine uses up to 30, a worker half of that.
const INOTIFY_INSTANCES: u64 = 8192;

/// Where sandbox guests live and what they are plugged into.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// The site's data directory.
    pub data_dir: PathBuf,
    /// The guest image.
    pub image: ImageDir,
    /// Bridge in the simulator's network namespace.
    pub bridge: String,
    /// The simulator's program, which a machine's first process runs (see [`launch`]).
    pub launcher: PathBuf,
}

/// See the [module](self).
#[derive(Clone)]
pub struct SandboxGuests {
    site: Arc<Site>,
}

struct Site {
    config: SandboxConfig,
    groups: SiteGroups,
    running: Mutex<HashMap<String, Arc<Machine>>>,
    events: mpsc::Sender<GuestEvent>,
}

/// A machine that is powered on.
struct Machine {
    /// Its first process; 0 until it exists.
    init: watch::Sender<i32>,
    /// The power was cut on purpose.
    cut: AtomicBool,
    /// Turns true when nothing of it is left.
    off: watch::Sender<bool>,
}

impl SandboxGuests {
    /// A platform for one site. What an earlier process left running loses its power, and gives back what it held.
    pub async fn start(config: SandboxConfig, events: mpsc::Sender<GuestEvent>) -> Result<Self, GuestError> {
        let refused = |what: &str, error: &dyn std::fmt::Display| GuestError::Host {
            what: what.to_owned(),
            reason: error.to_string(),
        };
        let guests = config.data_dir.join("guests");
        fs::create_dir_all(&guests).map_err(|error| refused(&format!("directory {}", guests.display()), &error))?;
        let config = SandboxConfig {
            data_dir: config.data_dir.canonicalize().map_err(|error| refused("data directory", &error))?,
            ..config
        };
        for removed in clean::clean(&config.data_dir).await? {
            warn!(removed, "An earlier run left something.");
        }
        let groups = SiteGroups::make(&config.data_dir).map_err(|error| refused("control groups", &error))?;
        raise_inotify_limit();
        Ok(Self { site: Arc::new(Site { config, groups, running: Mutex::default(), events }) })
    }
}

/// The first limit that many machines on one kernel meet.
fn raise_inotify_limit() {
    let path = "/proc/sys/fs/inotify/max_user_instances";
    let now: u64 = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    if now < INOTIFY_INSTANCES
        && let Err(error) = fs::write(path, INOTIFY_INSTANCES.to_string())
    {
        warn!(limit = now, %error, "Cannot raise fs.inotify.max_user_instances; about four machines fit.");
    }
}

impl Site {
    fn machine_dir(&self, id: &str) -> PathBuf {
        self.config.data_dir.join("guests").join(id)
    }

    /// Ids of the machines that have a directory, powered on or not.
    fn machines_on_disk(&self) -> Result<Vec<String>, GuestError> {
        let guests = self.config.data_dir.join("guests");
        let names = fs::read_dir(&guests)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect());
        names.map_err(|error| GuestError::Host { what: guests.display().to_string(), reason: error.to_string() })
    }

    fn machine(&self, id: &str) -> Option<Arc<Machine>> {
        self.running.lock().get(id).cloned()
    }

    async fn tell(&self, event: GuestEvent) {
        // A closed channel means that the site is gone: nobody is left to be told.
        let _ = self.events.send(event).await;
    }

    async fn power_on(self: &Arc<Self>, spec: GuestSpec) -> Result<(), GuestError> {
        let id = spec.id.clone();
        check_id(&id)?;
        let machine = Arc::new(Machine {
            init: watch::Sender::new(0),
            cut: AtomicBool::new(false),
            off: watch::Sender::new(false),
        });
        {
            let mut running = self.running.lock();
            if running.contains_key(&id) {
                return Err(GuestError::AlreadyRunning(id));
            }
            running.insert(id.clone(), machine.clone());
        }
        // In a task of its own: a caller that gives up half way must not leave half a machine.
        let site = self.clone();
        let started = tokio::spawn(async move {
            let mut held = Held::default();
            match site.start(&spec, &machine, &mut held).await {
                Ok(child) => {
                    tokio::spawn(site.clone().watch(spec, machine, child, held));
                    Ok(())
                }
                Err(error) => {
                    site.release(&spec, &held).await;
                    site.running.lock().remove(&spec.id);
                    machine.off.send_replace(true);
                    Err(error)
                }
            }
        });
        started
            .await
            .unwrap_or_else(|error| Err(GuestError::Host { what: format!("start of {id}"), reason: error.to_string() }))
    }

    /// Everything up to the machine's first process; what is taken of the host is noted in `held` as it is taken.
    async fn start(
        self: &Arc<Self>,
        spec: &GuestSpec,
        machine: &Machine,
        held: &mut Held,
    ) -> Result<Child, GuestError> {
        let dir = self.machine_dir(&spec.id);
        let host = |what: &str| {
            let what = format!("{what} of machine {}", spec.id);
            move |error: std::io::Error| GuestError::Host { what, reason: error.to_string() }
        };
        system_disk::prepare(&dir, spec.disks.iter().find(|disk| disk.system)).map_err(host("system disk"))?;
        forget_last_start(&dir).map_err(host("directory"))?;
        let medium = first_boot::insert(spec.cdrom.as_deref(), &dir.join("medium"))
            .map_err(|error| GuestError::Cdrom { id: spec.id.clone(), reason: format!("{error:#}") })?;
        for (name, file) in disk::names(&spec.disks) {
            held.disks.push(Device { name, minor: disk::attach(&file).await? });
        }
        held.groups = true;
        let groups = self.groups.create(&spec.id, spec.cpus, spec.memory_mb)?;
        let console = console::open().map_err(host("console"))?;
        let launch = Launch {
            golden: self.config.image.root(),
            groups,
            hierarchies: self.groups.names(),
            disks: held.disks.clone(),
            console: console.path.clone(),
            medium,
        };
        let text = serde_json::to_vec_pretty(&launch).map_err(|error| host("launch file")(error.into()))?;
        fs::write(dir.join(launch::LAUNCH), text).map_err(host("launch file"))?;
        let child = spawn(&self.config.launcher, &dir, &console).map_err(host("first process"))?;
        drop(console.slave);
        self.clone().read_console(spec.id.clone(), console.master);

        let init = first_process(&child).await.ok_or_else(|| GuestError::Host {
            what: format!("first process of machine {}", spec.id),
            reason: console::tail(&dir.join("console.log"), FAILURE_LINES).join("\n"),
        })?;
        machine.init.send_replace(init);
        for nic in &spec.nics {
            network::plug(&self.config.bridge, &spec.id, nic, init).await?;
        }
        fs::write(dir.join(launch::GO), "").map_err(host("start"))?;
        Ok(child)
    }

    /// Follows a running machine to its end.
    async fn watch(self: Arc<Self>, spec: GuestSpec, machine: Arc<Machine>, mut child: Child, held: Held) {
        let init = *machine.init.borrow();
        let tools = tokio::spawn(self.clone().ask_tools(spec.id.clone(), init));
        let status = child.wait().await;
        tools.abort();
        debug!(machine = spec.id, ?status, "Guest ended.");
        self.release(&spec, &held).await;
        let code = status.ok().and_then(|status| status.code());
        let dir = self.machine_dir(&spec.id);
        let reason = match code {
            _ if machine.cut.load(Ordering::SeqCst) => StopReason::Killed,
            Some(launch::BOOT_FAILED) => StopReason::BootFailed(boot_failure(&dir)),
            Some(0) => StopReason::PoweredOffInside,
            _ => StopReason::Killed,
        };
        self.running.lock().remove(&spec.id);
        machine.off.send_replace(true);
        self.tell(GuestEvent::Stopped { id: spec.id, reason }).await;
    }

    /// Gives back what a machine held of the host.
    async fn release(&self, spec: &GuestSpec, held: &Held) {
        if held.groups {
            let (groups, id) = (self.groups.clone(), spec.id.clone());
            let removed = tokio::task::spawn_blocking(move || groups.remove(&id)).await;
            if let Ok(Err(error)) = removed {
                warn!(machine = spec.id, %error, "Cannot remove the control groups of a machine.");
            }
        }
        for nic in &spec.nics {
            network::unplug(&spec.id, nic.index).await;
        }
        for device in &held.disks {
            if let Err(error) = disk::detach(device.minor).await {
                warn!(machine = spec.id, %error, "Cannot detach a disk.");
            }
        }
    }

    fn read_console(self: Arc<Self>, id: String, master: std::os::fd::OwnedFd) {
        let log = self.machine_dir(&id).join("console.log");
        tokio::task::spawn_blocking(move || {
            let copied = console::copy(master, &log, |line| {
                // The console must never wait for a slow reader; the log has every line.
                let _ = self.events.try_send(GuestEvent::Console { id: id.clone(), line });
            });
            if let Err(error) = copied {
                warn!(machine = id, %error, "Cannot write the console's log.");
            }
        });
    }

    async fn ask_tools(self: Arc<Self>, id: String, init: i32) {
        let (mut told, mut seen, mut looks) = (None, String::new(), 0);
        loop {
            let now = tools::addresses_at_a_glance(init);
            looks += 1;
            let changed = now != seen || told.is_none() || looks >= TOOLS_LOOKS;
            if !now.is_empty() && changed {
                (seen, looks) = (now, 0);
                match tools::ask(init).await {
                    Ok(facts) if facts.is_up() && told.as_ref() != Some(&facts) => {
                        told = Some(facts.clone());
                        let tools::Facts { hostname, addresses } = facts;
                        self.tell(GuestEvent::ToolsRunning { id: id.clone(), addresses, hostname }).await;
                    }
                    Ok(_) => {}
                    Err(error) => debug!(machine = id, %error, "Guest tools do not answer."),
                }
            }
            tokio::time::sleep(if told.is_some() { TOOLS_RUNNING } else { TOOLS_STARTING }).await;
        }
    }

    async fn power_off(&self, id: &str, how: PowerOff) -> Result<(), GuestError> {
        let Some(machine) = self.machine(id) else { return Ok(()) };
        let limit = match how {
            PowerOff::Safe => SHUTDOWN_LIMIT,
            PowerOff::Force => Duration::from_secs(30),
        };
        let mut off = machine.off.subscribe();
        let end = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < end {
            let init = *machine.init.borrow();
            // A machine that is just being started has no process yet, and one whose systemd does not run yet is deaf:
            // both are asked again.
            if init != 0 {
                self.signal(id, &machine, init, how).await?;
            }
            let pause = if init == 0 { Duration::from_millis(100) } else { Duration::from_secs(10) };
            if tokio::time::timeout(pause, off.wait_for(|off| *off)).await.is_ok() {
                return Ok(());
            }
        }
        Err(GuestError::ShutdownTimeout(id.to_owned(), limit))
    }

    async fn signal(&self, id: &str, machine: &Machine, init: i32, how: PowerOff) -> Result<(), GuestError> {
        match how {
            // SIGRTMIN+4 is systemd's word for power-off. Real-time signals have numbers only.
            PowerOff::Safe => {
                let sent = command::output(Command::new("kill").args(["-s", "38", &init.to_string()])).await;
                // It may have ended since; a process that is there and cannot be signalled is an error.
                if Path::new(&format!("/proc/{init}")).exists() {
                    sent?;
                }
            }
            PowerOff::Force => {
                machine.cut.store(true, Ordering::SeqCst);
                if let Some(pid) = Pid::from_raw(init) {
                    // It may have ended meanwhile.
                    let _ = kill_process(pid, Signal::KILL);
                }
                // A wrong process id must not leave a machine running.
                let (groups, id) = (self.groups.clone(), id.to_owned());
                let removed = tokio::task::spawn_blocking(move || groups.remove(&id)).await;
                if let Ok(Err(error)) = removed {
                    return Err(GuestError::Host { what: "power-off".into(), reason: error.to_string() });
                }
            }
        }
        Ok(())
    }

    async fn destroy(&self, id: &str) -> Result<(), GuestError> {
        check_id(id)?;
        self.power_off(id, PowerOff::Force).await?;
        let dir = self.machine_dir(id);
        match tokio::task::spawn_blocking(move || fs::remove_dir_all(dir)).await {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(GuestError::Host { what: format!("system disk of machine {id}"), reason: error.to_string() })
            }
            _ => Ok(()),
        }
    }
}

/// What a machine holds of the host.
#[derive(Default)]
struct Held {
    disks: Vec<Device>,
    groups: bool,
}

/// Ids become directory names.
fn check_id(id: &str) -> Result<(), GuestError> {
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '-';
    if id.is_empty() || !id.chars().all(plain) {
        return Err(GuestError::Host {
            what: "machine id".into(),
            reason: format!("`{id}` has other characters than letters, digits and `-`"),
        });
    }
    Ok(())
}

/// Removes what the last start left for this one to find.
fn forget_last_start(dir: &Path) -> std::io::Result<()> {
    for name in [launch::GO, launch::FAILURE] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn spawn(launcher: &Path, dir: &Path, console: &console::Console) -> std::io::Result<Child> {
    Command::new(launcher)
        .arg("guest-enter")
        .arg(dir)
        .stdin(Stdio::from(console.slave.try_clone()?))
        .stdout(Stdio::from(console.slave.try_clone()?))
        .stderr(Stdio::from(console.slave.try_clone()?))
        // Ctrl-C at the simulator's terminal is for the simulator, which then powers its machines off.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// The process that `unshare` forks: the machine's first.
async fn first_process(child: &Child) -> Option<i32> {
    let parent = child.id()?;
    for _ in 0..200 {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        if let Some(pid) = children.split_whitespace().next().and_then(|pid| pid.parse().ok()) {
            return Some(pid);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    None
}

fn boot_failure(dir: &Path) -> String {
    let reason = fs::read_to_string(dir.join(launch::FAILURE)).unwrap_or_default();
    let console = console::tail(&dir.join("console.log"), FAILURE_LINES).join("\n");
    format!("{reason}\n{console}").trim().to_owned()
}

impl GuestPlatform for SandboxGuests {
    fn power_on(&self, spec: GuestSpec) -> BoxFuture<'_, Result<(), GuestError>> {
        async move { self.site.power_on(spec).await }.boxed()
    }

    fn power_off<'a>(&'a self, id: &'a str, how: PowerOff) -> BoxFuture<'a, Result<(), GuestError>> {
        self.site.power_off(id, how).boxed()
    }

    fn destroy<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), GuestError>> {
        self.site.destroy(id).boxed()
    }

    fn keep_only<'a>(&'a self, known: &'a BTreeSet<String>) -> BoxFuture<'a, Result<(), GuestError>> {
        async move {
            for id in self.site.machines_on_disk()? {
                // What has another name is nothing of ours.
                if !known.contains(&id) && check_id(&id).is_ok() {
                    self.site.destroy(&id).await?;
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn console(&self, id: &str, lines: usize) -> Vec<String> {
        if check_id(id).is_err() {
            return Vec::new();
        }
        console::tail(&self.site.machine_dir(id).join("console.log"), lines)
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async move {
            let ids: Vec<String> = self.site.running.lock().keys().cloned().collect();
            let ends = ids.iter().map(|id| self.site.power_off(id, PowerOff::Force));
            for result in futures::future::join_all(ends).await {
                if let Err(error) = result {
                    warn!(%error, "Cannot power a machine off.");
                }
            }
        }
        .boxed()
    }
}
