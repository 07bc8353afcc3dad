//! The site's hands: keeps the model's time moving, keeps disk files, and drives the guests.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::Audit,
    clock::Clock,
    faults::Faults,
    guest::{
        GuestDisk, GuestError, GuestEvent, GuestNic, GuestPlatform, GuestSpec, PowerOff, StopReason,
        contents::Contents, faults::Staging,
    },
    site::{Effect, Site, VmId, VmStatus, power::OffOutcome},
};

/// A guest that is not powered on by then will not be.
const POWER_ON_LIMIT: Duration = Duration::from_secs(120);
/// Far above what a platform gives a guest to shut down; only a platform that hangs gets here.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(900);
/// Longest sleep of the loop: what only the clock control moves is noticed by then.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// Folders of the data directory whose files belong to objects of the site.
const FOLDERS: [&str; 3] = ["disks", "files", "uploads"];
/// Field of a saved state that belongs to the guests.
const GUESTS: &str = "guests";
/// Where guests have no content, the time in which a real one would have brought up its tools.
const TOOLS_DELAY: Duration = Duration::from_millis(200);

/// A running site.
pub struct Engine {
    site: Mutex<Site>,
    /// Time.
    pub clock: Arc<Clock>,
    /// Faults of calls.
    pub faults: Mutex<Faults>,
    /// Audit.
    pub audit: Audit,
    /// Ends the engine and its listeners.
    pub stop: CancellationToken,
    guests: Arc<dyn GuestPlatform>,
    guests_have_content: bool,
    data_dir: PathBuf,
    wake: Notify,
}

impl Engine {
    /// A site with its hands; nothing moves before [`Engine::run`].
    pub fn new(
        site: Site,
        data_dir: &Path,
        guests: Arc<dyn GuestPlatform>,
        guests_have_content: bool,
        clock: Arc<Clock>,
    ) -> io::Result<Arc<Self>> {
        for folder in FOLDERS {
            fs::create_dir_all(data_dir.join(folder))?;
        }
        Ok(Arc::new(Self {
            site: Mutex::new(site),
            clock,
            faults: Mutex::default(),
            audit: Audit::open(&data_dir.join("audit.jsonl"))?,
            stop: CancellationToken::new(),
            guests,
            guests_have_content,
            data_dir: data_dir.to_owned(),
            wake: Notify::new(),
        }))
    }

    /// Works on the site as it stands now.
    pub fn with<T>(&self, work: impl FnOnce(&mut Site, u64) -> T) -> T {
        let mut site = self.site.lock();
        let now = self.clock.now();
        site.advance(now);
        let result = work(&mut site, now);
        site.advance(now);
        drop(site);
        self.wake.notify_one();
        result
    }

    /// File of a volume.
    pub fn disk_path(&self, volume: u64) -> PathBuf {
        self.data_dir.join("disks").join(format!("volume-{volume}.img"))
    }

    /// Where an uploaded file lies.
    pub fn file_path(&self, file: u64) -> PathBuf {
        self.data_dir.join("files").join(format!("{file}.iso"))
    }

    /// Where an upload is collected until it is whole.
    pub fn upload_path(&self, ticket: &str) -> PathBuf {
        self.data_dir.join("uploads").join(ticket)
    }

    /// Directory of everything that the simulator keeps.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The last lines of a VM's console.
    pub fn console(&self, vm: u64, lines: usize) -> Vec<String> {
        self.guests.console(&VmId(vm).to_string(), lines)
    }

    /// What tests can do to guests.
    pub fn staging(&self) -> &dyn Staging {
        self.guests.staging()
    }

    /// Drives the site until it is stopped, then powers every guest off.
    pub async fn run(self: Arc<Self>, mut events: mpsc::Receiver<GuestEvent>) {
        let mut balanced = 0;
        loop {
            // What guests told comes before new effects: a guest that went off must not be taken for its successor.
            while let Ok(event) = events.try_recv() {
                self.heard(event);
            }
            let (effects, due, now) = {
                let mut site = self.site.lock();
                let now = self.clock.now();
                site.advance(now);
                if now >= balanced + 2_000 {
                    balanced = now;
                    site.balance(now);
                }
                (std::mem::take(&mut site.effects), site.next_due(), now)
            };
            for effect in &effects {
                self.clone().act(effect);
            }
            let sleep = due.map_or(LONGEST_SLEEP, |due| Duration::from_millis(due.saturating_sub(now)));
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(sleep.min(LONGEST_SLEEP)) => {}
                event = events.recv() => if let Some(event) = event { self.heard(event) },
            }
        }
        // Events are still read, or a platform that reports the end of its guests would wait for a reader.
        let mut shutdown = self.guests.shutdown();
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = events.recv() => {}
            }
        }
    }

    fn heard(&self, event: GuestEvent) {
        let known = |id: &str| VmId::parse(id).map(|id| id.0);
        match event {
            GuestEvent::Console { id, line } => tracing::trace!(vm = id, line, "Console."),
            GuestEvent::ToolsRunning { id, addresses, hostname } => {
                if let Some(vm) = known(&id) {
                    self.with(|site, _| site.tools_running(vm, &addresses, &hostname));
                }
            }
            GuestEvent::Stopped { id, reason } => {
                tracing::info!(vm = id, ?reason, "Guest is off.");
                let Some(vm) = known(&id) else { return };
                self.with(|site, _| match reason {
                    StopReason::PoweredOffInside | StopReason::Killed => site.guest_off(vm),
                    StopReason::BootFailed(why) => site.boot_failed(vm, &why),
                });
            }
        }
    }

    fn act(self: Arc<Self>, effect: &Effect) {
        match *effect {
            Effect::BlankDisk { volume, bytes } => report(set_size(&self.disk_path(volume), bytes, true), volume),
            Effect::SizeDisk { volume, bytes } => report(set_size(&self.disk_path(volume), bytes, false), volume),
            Effect::RemoveDisk { volume } => report(remove(&self.disk_path(volume)), volume),
            Effect::RemoveFile { file } => report(remove(&self.file_path(file)), file),
            Effect::PowerOn { task, vm } => {
                tokio::spawn(async move {
                    let powered = self.power_on(vm).await;
                    self.with(|site, now| site.powered_on(now, task, vm, powered));
                    if powered && !self.guests_have_content {
                        self.pretend_tools(vm).await;
                    }
                });
            }
            Effect::PowerOff { task, vm, safe } => {
                tokio::spawn(async move {
                    let outcome = self.power_off(vm, safe).await;
                    self.with(|site, now| site.powered_off(now, task, vm, outcome));
                });
            }
            Effect::Destroy { vm } => {
                tokio::spawn(async move {
                    let id = VmId(vm).to_string();
                    if let Err(error) = self.guests.destroy(&id).await {
                        tracing::error!(vm = id, %error, "Guest of a deleted VM cannot be removed.");
                    }
                });
            }
        }
    }

    async fn power_on(&self, vm: u64) -> bool {
        let Some(spec) = self.spec(vm) else { return false };
        let id = spec.id.clone();
        for disk in &spec.disks {
            // A disk that could not be made when its volume was gets another chance here.
            if let Err(error) = set_size(&disk.path, disk.size_bytes, false) {
                tracing::error!(vm = id, %error, "Disk file cannot be made.");
                return false;
            }
        }
        match timeout(POWER_ON_LIMIT, self.guests.power_on(spec)).await {
            Ok(Ok(()) | Err(GuestError::AlreadyRunning(_))) => true,
            Ok(Err(error)) => {
                tracing::warn!(vm = id, %error, "Guest cannot be powered on.");
                false
            }
            Err(_) => {
                tracing::error!(vm = id, "Guest platform did not answer in time.");
                false
            }
        }
    }

    async fn power_off(&self, vm: u64, safe: bool) -> OffOutcome {
        let id = VmId(vm).to_string();
        let how = if safe { PowerOff::Safe } else { PowerOff::Force };
        match timeout(POWER_OFF_LIMIT, self.guests.power_off(&id, how)).await {
            Ok(Ok(()) | Err(GuestError::NotRunning(_))) => OffOutcome::Off,
            Ok(Err(error)) => {
                tracing::warn!(vm = id, %error, "Guest is not off.");
                OffOutcome::Refused
            }
            Err(_) => OffOutcome::Refused,
        }
    }

    async fn pretend_tools(&self, vm: u64) {
        let boots = self.with(|site, _| site.vms.get(&vm).map(|vm| vm.boots));
        tokio::time::sleep(TOOLS_DELAY).await;
        self.with(|site, _| {
            let same_boot = site.vms.get(&vm).map(|vm| vm.boots) == boots;
            let running = site.vms.get(&vm).is_some_and(|vm| vm.status == VmStatus::Running);
            if site.policy.tools_without_guest && same_boot && running {
                site.tools_running(vm, &[], "");
            }
        });
    }

    /// What the guest is told: no more than the site was.
    fn spec(&self, id: u64) -> Option<GuestSpec> {
        let site = self.site.lock();
        let vm = site.vms.get(&id)?;
        let disks = site.disks_of(id).into_iter().filter(|(_, at)| at.done).map(|(volume, at)| GuestDisk {
            sequence: at.sequence,
            path: self.disk_path(volume.id),
            size_bytes: volume.bytes(),
            volume_id: volume.id.to_string(),
            system: at.sequence == 1,
        });
        let nics = (0_u32..).zip(&vm.nics).map(|(index, nic)| GuestNic {
            index,
            mac: nic.mac.clone(),
            port_group: site.port_groups.get(&nic.port_group).map(|group| group.name.clone()).unwrap_or_default(),
        });
        Some(GuestSpec {
            id: VmId(id).to_string(),
            name: vm.name.clone(),
            image: vm.image.clone(),
            cpus: vm.cpus,
            memory_mb: vm.memory_mb,
            disks: disks.collect(),
            nics: nics.collect(),
            cdrom: site.file_in_drive(id).map(|file| self.file_path(file)),
        })
    }

    /// Writes the site's state to a file, whole or not at all, and what is on guests' disks beside it. It may take a while
    /// where many guests are played.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut contents = Contents::of(path);
        let guests = self.guests.save(&mut contents)?;
        let mut state = self.with(|site, _| serde_json::to_value(site))?;
        state[GUESTS] = guests;
        let bytes = serde_json::to_vec(&state)?;
        let temporary = path.with_extension("tmp");
        // The state holds the users' passwords.
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        contents.prune()
    }

    /// Removes what a killed process or another state of the site left: everything that belongs to no object of the site,
    /// and everything at all where the site is new. Ids come round again, and a new disk must not show what was on an
    /// old one.
    pub async fn sweep(&self, site_is_new: bool) -> anyhow::Result<()> {
        let (machines, wanted) = if site_is_new {
            Default::default()
        } else {
            let site = self.site.lock();
            let machines: BTreeSet<String> = site.vms.keys().map(|id| VmId(*id).to_string()).collect();
            let disks = site.volumes.keys().map(|id| self.disk_path(*id));
            (machines, disks.chain(site.files.keys().map(|id| self.file_path(*id))).collect::<BTreeSet<PathBuf>>())
        };
        self.guests.keep_only(&machines).await?;
        for folder in FOLDERS {
            for entry in fs::read_dir(self.data_dir.join(folder))? {
                let path = entry?.path();
                if !wanted.contains(&path) {
                    remove(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                }
            }
        }
        Ok(())
    }

    /// Takes the site's state from a file. What had power in it gets power again; guests of now are switched off.
    pub async fn load(&self, path: &Path) -> anyhow::Result<()> {
        let text = fs::read(path)?;
        let site: Site = serde_json::from_slice(&text)?;
        let mut state: serde_json::Map<String, Value> = serde_json::from_slice(&text)?;
        let guests = state.remove(GUESTS).unwrap_or_default();
        let before: Vec<u64> = self.with(|site, _| site.vms.keys().copied().collect());
        for vm in before {
            self.guests.power_off(&VmId(vm).to_string(), PowerOff::Force).await?;
        }
        self.guests.restore(&Contents::of(path), &guests).context("what was on the machines' disks")?;
        self.with(|current, now| {
            *current = site;
            current.power_restored(now);
        });
        self.sweep(false).await
    }
}

/// Makes a sparse file of this size; `blank` forgets what was in it.
fn set_size(path: &Path, bytes: u64, blank: bool) -> io::Result<()> {
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
    if blank {
        file.set_len(0)?;
    }
    if file.metadata()?.len() == bytes { Ok(()) } else { file.set_len(bytes) }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn report(result: io::Result<()>, id: u64) {
    if let Err(error) = result {
        tracing::error!(%error, id, "Backing file cannot be changed.");
    }
}
