//! The platform of memory guests: machines by their ids, their disks, their consoles, their faults.

mod staging;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use futures::future::{BoxFuture, FutureExt, join_all};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::{
    boot::{self, PowerOn},
    cluster::{Around, Clusters, DiskFaults, SavedCluster},
    console::Console,
    disk::{BlockDevice, Disk},
    host::{self, Hardware, Powered, Programs, Settings},
    image,
    kubeadm::pki::KeyStore,
    machine::Observer,
    machine_clock::MachineClock,
    root::Volume,
    shell::Limits,
};
use crate::{
    clock::Clock,
    guest::{
        GuestDisk, GuestError, GuestEvent, GuestPlatform, GuestSpec, PowerOff, StopReason,
        contents::Contents,
        faults::{Afflictions, Staging},
        iso,
    },
};

/// Lines of console that go with a failed boot.
const FAILURE_LINES: usize = 15;

/// See the [module](self). Clones are one platform.
#[derive(Clone)]
pub struct MemoryGuests {
    site: Arc<Site>,
}

struct Site {
    settings: Arc<Settings>,
    keys: Arc<KeyStore>,
    clusters: Arc<Clusters>,
    clock: Arc<Clock>,
    events: mpsc::Sender<GuestEvent>,
    machines: Mutex<HashMap<String, Entry>>,
    content: Mutex<DiskContents>,
}

/// What is on the backing files: the files themselves stay empty.
#[derive(Default)]
struct DiskContents {
    kept: HashMap<PathBuf, Kept>,
    /// How many may be known before those are looked for whose files are gone.
    enough: usize,
}

impl DiskContents {
    /// Fewer than these are not worth a look.
    const FEW: usize = 64;

    /// What is on a backing file: nothing, where the file is another than the one known.
    fn disk(&mut self, path: &Path, blank: impl FnOnce() -> Disk) -> Disk {
        let file = identity(path).unwrap_or_default();
        match self.kept.get(path) {
            Some(kept) if kept.file == file => kept.disk.clone(),
            _ => {
                let disk = blank();
                self.kept.insert(path.to_owned(), Kept { file, disk: disk.clone() });
                // A look at every file for every disk would be most of what a large site does.
                if self.kept.len() > self.enough {
                    self.kept.retain(|path, kept| kept.is_at(path));
                    self.enough = Self::FEW.max(2 * self.kept.len());
                }
                disk
            }
        }
    }

    /// Forgets those of these files that are gone.
    fn forget(&mut self, paths: &[PathBuf]) {
        for path in paths {
            if self.kept.get(path).is_some_and(|kept| !kept.is_at(path)) {
                self.kept.remove(path);
            }
        }
    }
}

/// A machine that was powered on at least once.
#[derive(Default)]
struct Entry {
    console: Arc<Console>,
    afflictions: Afflictions,
    disk: Arc<DiskFaults>,
    running: Option<Running>,
    /// Files of the disks that it had when it was powered on last.
    disks: Vec<PathBuf>,
}

struct Running {
    powered: Arc<Powered>,
    order: Arc<watch::Sender<Order>>,
    off: watch::Receiver<bool>,
}

/// What a running machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Order {
    Run,
    Reboot,
    Stop(StopReason),
}

/// What is kept over a restart of the simulator, contents by their names.
#[derive(Default, Deserialize, Serialize)]
struct Saved {
    /// Time of the site, in milliseconds since the epoch.
    now: u64,
    /// Disks by the paths of their backing files.
    disks: BTreeMap<PathBuf, String>,
    clusters: Vec<String>,
}

/// Content of a backing file, and which file that was: numbers of volumes come round again.
struct Kept {
    file: (u64, Option<SystemTime>),
    disk: Disk,
}

impl Kept {
    fn is_at(&self, path: &Path) -> bool {
        identity(path) == Some(self.file)
    }
}

fn identity(path: &Path) -> Option<(u64, Option<SystemTime>)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.created().ok()))
}

impl MemoryGuests {
    /// A platform without machines. `around` is what the site has for them.
    pub fn new(settings: Settings, around: Around, events: mpsc::Sender<GuestEvent>) -> Self {
        let site = Site {
            settings: Arc::new(settings),
            keys: Arc::default(),
            clock: Arc::clone(&around.clock),
            clusters: Clusters::new(around),
            events,
            machines: Mutex::default(),
            content: Mutex::default(),
        };
        let site = Arc::new(site);
        let heirs = Arc::downgrade(&site);
        site.clusters.on_heir(move |machine, change| {
            if let Some(site) = heirs.upgrade() {
                site.afflict(machine, change);
            }
        });
        Self { site }
    }

    /// The clusters on its machines.
    pub fn workload_clusters(&self) -> &Arc<Clusters> {
        &self.site.clusters
    }
}

impl Site {
    async fn power_on(self: &Arc<Self>, spec: GuestSpec) -> Result<(), GuestError> {
        let (id, cdrom) = (spec.id.clone(), spec.cdrom.clone());
        let medium = match cdrom {
            None => None,
            Some(path) => {
                let read = tokio::task::spawn_blocking(move || iso::read(&path)).await;
                let wrong = |reason: String| GuestError::Cdrom { id: id.clone(), reason };
                Some(read.map_err(|error| wrong(error.to_string()))?.map_err(|error| wrong(error.to_string()))?)
            }
        };
        let system = spec.disks.iter().find(|disk| disk.system);
        let hardware = Hardware {
            id: id.clone(),
            cpus: spec.cpus,
            memory_mb: spec.memory_mb,
            disk_bytes: system.map_or(0, |disk| disk.size_bytes),
            version: self.settings.version_of(&spec.image),
            disk: Arc::clone(&self.machines.lock().entry(id.clone()).or_default().disk),
        };
        let clock = MachineClock::new(Arc::clone(&self.clock));
        let powered = Powered::new(
            hardware,
            clock,
            Arc::clone(&self.settings),
            Arc::clone(&self.keys),
            Arc::clone(&self.clusters),
        );
        let order = Arc::new(watch::Sender::new(Order::Run));
        let (off, is_off) = watch::channel(false);
        let console = {
            let mut machines = self.machines.lock();
            let entry = machines.entry(id.clone()).or_default();
            if entry.running.is_some() {
                return Err(GuestError::AlreadyRunning(id));
            }
            staging::apply(&powered, entry.afflictions);
            entry.disks = spec.disks.iter().map(|disk| disk.path.clone()).collect();
            entry.running = Some(Running { powered: Arc::clone(&powered), order: Arc::clone(&order), off: is_off });
            Arc::clone(&entry.console)
        };
        let medium = Mutex::new(medium);
        let life = Life { site: Arc::clone(self), spec, medium, powered, console, order };
        tokio::spawn(async move {
            let reason = life.live().await;
            life.powered.power_off();
            if let Some(entry) = life.site.machines.lock().get_mut(&life.spec.id) {
                entry.running = None;
            }
            off.send_replace(true);
            // A closed channel means that the site is gone: nobody is left to be told.
            let _ = life.site.events.send(GuestEvent::Stopped { id: life.spec.id.clone(), reason }).await;
        });
        Ok(())
    }

    async fn stop(&self, id: &str, reason: StopReason) {
        let off = self.machines.lock().get(id).and_then(|entry| entry.running.as_ref()).map(|running| {
            // Whoever asks first gives the reason.
            running.order.send_if_modified(|order| {
                let is_first = !matches!(order, Order::Stop(_));
                if is_first {
                    *order = Order::Stop(reason);
                }
                is_first
            });
            running.off.clone()
        });
        if let Some(mut off) = off {
            // It fails only when the machine's task is gone, and with it the machine.
            let _ = off.wait_for(|off| *off).await;
        }
    }

    async fn destroy(&self, id: &str) {
        self.stop(id, StopReason::Killed).await;
        let gone = self.machines.lock().remove(id);
        self.clusters.forget_machine(id);
        self.content.lock().forget(&gone.map(|entry| entry.disks).unwrap_or_default());
    }

    /// Keeps all disks, and then what clusters share: a member that a disk knows is never missing in its cluster.
    fn save(&self, contents: &mut Contents) -> io::Result<Value> {
        let now = self.clock.now();
        let disks: Vec<(PathBuf, Disk)> = {
            let content = self.content.lock();
            let present = content.kept.iter().filter(|(path, kept)| kept.is_at(path));
            present.map(|(path, kept)| (path.clone(), kept.disk.clone())).collect()
        };
        let mut saved = Saved { now, ..Saved::default() };
        for (path, disk) in disks {
            let name = contents.put(&serde_json::to_vec(&disk)?)?;
            let path = path.strip_prefix(contents.base()).unwrap_or(&path).to_owned();
            saved.disks.insert(path, name);
        }
        for cluster in self.clusters.all() {
            saved.clusters.push(contents.put(&serde_json::to_vec(&cluster.saved())?)?);
        }
        Ok(serde_json::to_value(saved)?)
    }

    fn restore(&self, contents: &Contents, saved: &Value) -> io::Result<()> {
        // A state that was saved with other guests, or by an earlier version, says nothing of disks.
        if saved.is_null() {
            return Ok(());
        }
        let saved = Saved::deserialize(saved)?;
        let mut restored = HashMap::new();
        for (path, name) in &saved.disks {
            let disk: Disk = serde_json::from_slice(&contents.get(name)?)?;
            let path = contents.base().join(path);
            // A disk whose file is gone is gone.
            if let Some(file) = identity(&path) {
                restored.insert(path, Kept { file, disk });
            }
        }
        let clusters = saved.clusters.iter().map(|name| Ok(serde_json::from_slice(&contents.get(name)?)?));
        let clusters: Vec<SavedCluster> = clusters.collect::<io::Result<_>>()?;
        // What was written later than now would be in the future for all who read it.
        self.clock.advance(saved.now.saturating_sub(self.clock.now()));
        self.clusters.restore(clusters);
        *self.content.lock() = DiskContents { enough: 2 * restored.len(), kept: restored };
        Ok(())
    }

    /// The file system of the machine's image on its system disk.
    fn system(&self, spec: &GuestSpec) -> Volume {
        let fresh = image::system_disk;
        let Some(disk) = spec.disks.iter().find(|disk| disk.system) else { return fresh() };
        let kept = self.content.lock().disk(&disk.path, || Disk::with(fresh()));
        kept.volume().unwrap_or_else(fresh)
    }

    fn data_disks(&self, disks: &[GuestDisk]) -> Vec<BlockDevice> {
        let mut data: Vec<&GuestDisk> = disks.iter().filter(|disk| !disk.system).collect();
        data.sort_by_key(|disk| disk.sequence);
        let device = |(letter, disk): (char, &GuestDisk)| BlockDevice {
            name: format!("vd{letter}"),
            size_bytes: disk.size_bytes,
            serial: disk.volume_id.clone(),
            disk: self.content.lock().disk(&disk.path, Disk::default),
        };
        ('b'..='z').zip(data).map(device).collect()
    }
}

/// A machine from its power-on to its end.
struct Life {
    site: Arc<Site>,
    spec: GuestSpec,
    /// What was in the drive when the power came, until it is booted from.
    medium: Mutex<Option<iso::Medium>>,
    powered: Arc<Powered>,
    console: Arc<Console>,
    order: Arc<watch::Sender<Order>>,
}

impl Life {
    async fn live(&self) -> StopReason {
        let mut orders = self.order.subscribe();
        loop {
            let stop = async {
                let next = orders.wait_for(|order| *order != Order::Run).await;
                next.map_or(Order::Stop(StopReason::Killed), |order| order.clone())
            };
            let told = tokio::select! {
                told = stop => told,
                why = self.boot() => Order::Stop(StopReason::BootFailed(why)),
            };
            match told {
                Order::Stop(reason) => return reason,
                Order::Run | Order::Reboot => {
                    self.say("The machine is rebooted.");
                    self.powered.reboot();
                    self.order.send_replace(Order::Run);
                    orders.mark_unchanged();
                }
            }
        }
    }

    fn say(&self, line: &str) {
        self.console.push(line);
        let _ = self.site.events.try_send(GuestEvent::Console { id: self.spec.id.clone(), line: line.to_owned() });
    }

    /// The medium in the drive. Machines that run keep none in memory: a reboot finds what is there by then.
    async fn medium(&self) -> Option<iso::Medium> {
        let at_power_on = self.medium.lock().take();
        if at_power_on.is_some() {
            return at_power_on;
        }
        let path = self.spec.cdrom.clone()?;
        tokio::task::spawn_blocking(move || iso::read(&path)).await.ok()?.ok()
    }

    /// Boots, and runs until it is dropped. Returns only when the boot fails.
    async fn boot(&self) -> String {
        let (refusal, mut refused) = watch::channel(None::<String>);
        let observer = Arc::new(Watcher {
            id: self.spec.id.clone(),
            console: Arc::clone(&self.console),
            events: self.site.events.clone(),
            refusal,
            is_online: AtomicBool::new(false),
        });
        let power_on = PowerOn {
            limits: Limits::default(),
            system: self.site.system(&self.spec),
            system_size: self.powered.disk_bytes,
            disks: self.site.data_disks(&self.spec.disks),
            nics: self.spec.nics.clone(),
            medium: self.medium().await,
            clock: Arc::new(self.powered.clock.clone()),
            observer: Arc::clone(&observer) as Arc<dyn Observer>,
        };
        let mut programs = Programs(Arc::clone(&self.powered));
        let outcome = tokio::select! {
            outcome = boot::boot(power_on, &mut programs) => outcome.map_err(|failure| failure.to_string()),
            why = wait_for_refusal(&mut refused) => Err(why),
        };
        match outcome {
            Ok(booted) => {
                if booted.kubelet.is_some() && self.powered.kubelet().is_none() {
                    let address = host::address(&booted.machine);
                    self.powered.start_kubelet(&booted.machine.root, &booted.hostname, address);
                }
                drop(booted);
                // Whatever changes the network later is refused all the same.
                wait_for_refusal(&mut refused).await
            }
            // A machine of which only a unit failed goes on: people log in to it, and its tools answer.
            Err(_) if observer.is_online() => wait_for_refusal(&mut refused).await,
            Err(why) => {
                self.say(&why);
                format!("{why}\n{}", self.console.tail(FAILURE_LINES).join("\n")).trim().to_owned()
            }
        }
    }
}

async fn wait_for_refusal(refused: &mut watch::Receiver<Option<String>>) -> String {
    match refused.wait_for(Option::is_some).await.map(|why| why.clone()) {
        Ok(Some(why)) => why,
        // Nobody is left who could refuse.
        _ => std::future::pending().await,
    }
}

/// Hands on what a machine tells while it boots.
struct Watcher {
    id: String,
    console: Arc<Console>,
    events: mpsc::Sender<GuestEvent>,
    refusal: watch::Sender<Option<String>>,
    is_online: AtomicBool,
}

impl Watcher {
    /// Whether the network came up, and with it the guest tools.
    fn is_online(&self) -> bool {
        self.is_online.load(Ordering::Relaxed)
    }
}

impl Observer for Watcher {
    fn console(&self, line: &str) {
        self.console.push(line);
        // The console must never wait for a slow reader; what is kept has every line.
        let _ = self.events.try_send(GuestEvent::Console { id: self.id.clone(), line: line.to_owned() });
    }

    fn online(&self, hostname: &str, addresses: &[(String, IpAddr)]) {
        if let Some((mac, address)) = addresses.iter().find(|(_, address)| !address.is_loopback()) {
            self.refusal.send_replace(Some(format!(
                "network: the NIC {mac} has the address {address}: memory guests live on this host's loopback; give machines, \
                 pools and load balancers addresses of 127.0.0.0/8"
            )));
            return;
        }
        self.is_online.store(true, Ordering::Relaxed);
        let event = GuestEvent::ToolsRunning {
            id: self.id.clone(),
            addresses: addresses.to_vec(),
            hostname: hostname.to_owned(),
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            let _ = events.send(event).await;
        });
    }
}

impl GuestPlatform for MemoryGuests {
    fn power_on(&self, spec: GuestSpec) -> BoxFuture<'_, Result<(), GuestError>> {
        async move { self.site.power_on(spec).await }.boxed()
    }

    fn power_off<'a>(&'a self, id: &'a str, how: PowerOff) -> BoxFuture<'a, Result<(), GuestError>> {
        async move {
            let reason = match how {
                PowerOff::Safe => StopReason::PoweredOffInside,
                PowerOff::Force => StopReason::Killed,
            };
            self.site.stop(id, reason).await;
            Ok(())
        }
        .boxed()
    }

    fn destroy<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), GuestError>> {
        async move {
            self.site.destroy(id).await;
            Ok(())
        }
        .boxed()
    }

    fn keep_only<'a>(&'a self, known: &'a BTreeSet<String>) -> BoxFuture<'a, Result<(), GuestError>> {
        async move {
            let mut all = self.site.clusters.machines();
            all.extend(self.site.machines.lock().keys().cloned());
            for id in all.difference(known) {
                self.site.destroy(id).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn console(&self, id: &str, lines: usize) -> Vec<String> {
        self.site.machines.lock().get(id).map(|entry| entry.console.tail(lines)).unwrap_or_default()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async move {
            let ids: Vec<String> = self.site.machines.lock().keys().cloned().collect();
            join_all(ids.iter().map(|id| self.site.stop(id, StopReason::Killed))).await;
        }
        .boxed()
    }

    fn save(&self, contents: &mut Contents) -> io::Result<Value> {
        self.site.save(contents)
    }

    fn restore(&self, contents: &Contents, saved: &Value) -> io::Result<()> {
        self.site.restore(contents, saved)
    }

    fn staging(&self) -> &dyn Staging {
        self
    }
}
