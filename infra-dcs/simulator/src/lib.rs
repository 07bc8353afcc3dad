//! A simulated Huawei DCS site whose virtual machines boot for real.
//!
//! ```text
//!  client ── HTTPS ──► vrm/   REST, faults, audit ─┐
//!  client ── HTTPS ──► vrm/upload, "hosts" ────────┼─► engine ──► site/   the pure model
//!  tests  ── HTTP  ──► control/ ───────────────────┘      └─────► guest/  what machines boot; fabric/ beside it
//! ```

use std::{
    fs::{File, TryLockError},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustls::crypto::aws_lc_rs;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

pub mod audit;
pub mod clock;
pub mod control;
pub mod engine;
pub mod fabric;
pub mod faults;
pub mod guest;
pub mod serve;
pub mod server;
pub mod site;
pub mod tls;
pub mod vrm;

use engine::Engine;
use guest::{
    GuestPlatform,
    image::ImageDir,
    memory::platform::MemoryGuests,
    none::NoGuests,
    sandbox::{SandboxConfig, SandboxGuests},
};
use site::{Site, inventory::SiteFile};
use tls::CertificateFiles;

/// Events that guests may be ahead of the site: a few lines of console from a hundred machines.
const EVENTS: usize = 1024;
/// Powering off every guest takes its time; what is not done by then is left to `clean`.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(60);

/// What a powered-on VM is.
#[derive(Clone, Debug)]
pub enum Guests {
    /// Nothing: it runs and does nothing. For tests of the API.
    None,
    /// A Linux sandbox.
    Sandbox {
        /// Where the guest image lies.
        image_dir: PathBuf,
        /// Bridge to which NICs are plugged.
        bridge: String,
        /// This program, which a machine's first process runs.
        launcher: PathBuf,
    },
    /// Played in this process.
    Memory(MemorySettings),
}

/// Settings of memory guests.
#[derive(Clone, Debug, Default)]
pub struct MemorySettings {
    /// Versions of Kubernetes and what can be pulled.
    pub machines: guest::memory::host::Settings,
    /// Periods of clusters.
    pub pace: guest::memory::cluster::Pace,
    /// Who is told when an API server comes, goes or stops answering.
    pub signals: fabric::signals::Signals,
}

/// A simulator's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory for disks, files, audit, state, certificates.
    pub data_dir: PathBuf,
    /// REST listener.
    pub listen: SocketAddr,
    /// Listener of the hosts.
    pub upload_listen: SocketAddr,
    /// Control listener.
    pub control_listen: SocketAddr,
    /// Guests.
    pub guests: Guests,
    /// The site, where no saved state is found.
    pub site: SiteFile,
    /// Certificate; none signs one.
    pub certificate: Option<CertificateFiles>,
}

impl Config {
    /// A site on free ports of loopback, without guests: for tests in one process.
    pub fn local(data_dir: impl Into<PathBuf>, site: SiteFile) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            data_dir: data_dir.into(),
            listen: any,
            upload_listen: any,
            control_listen: any,
            guests: Guests::None,
            site,
            certificate: None,
        }
    }
}

/// A running simulator. Dropping it cuts everything off; [`Simulator::shutdown`] ends it in order.
pub struct Simulator {
    /// REST listener's address.
    pub address: SocketAddr,
    /// Address of the hosts' listener.
    pub upload_address: SocketAddr,
    /// Control listener's address.
    pub control_address: SocketAddr,
    /// Certificate authority of both HTTPS listeners, PEM; none where a certificate was given.
    pub ca: Option<PathBuf>,
    engine: Arc<Engine>,
    services: JoinSet<()>,
    /// Held as long as the simulator lives; the kernel gives it back however that ends.
    _claim: File,
}

impl Simulator {
    /// Starts a site; when this returns, all listeners are open.
    pub async fn start(config: Config) -> Result<Self> {
        // Somebody else in the process may have chosen a provider; any will do.
        let _ = aws_lc_rs::default_provider().install_default();
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
        let claim = claim(&config.data_dir)?;
        if !config.control_listen.ip().is_loopback() {
            bail!("--control-listen: the control API has no authentication; give it a loopback address");
        }
        let listener = bind(config.listen, "--listen").await?;
        let upload_listener = bind(config.upload_listen, "--upload-listen").await?;
        let control_listener = bind(config.control_listen, "--control-listen").await?;
        let (address, upload_address) = (listener.local_addr()?, upload_listener.local_addr()?);
        let control_address = control_listener.local_addr()?;
        let tls =
            tls::server_config(&config.data_dir, config.certificate.as_ref(), &[address.ip(), upload_address.ip()])?;

        let clock = Arc::new(clock::Clock::default());
        let (sender, events) = mpsc::channel(EVENTS);
        let (guests, have_content): (Arc<dyn GuestPlatform>, bool) = match config.guests {
            Guests::None => (Arc::new(NoGuests::new(sender)), false),
            Guests::Sandbox { image_dir, bridge, launcher } => {
                let image = ImageDir::open(&image_dir)?;
                let config = SandboxConfig { data_dir: config.data_dir.clone(), image, bridge, launcher };
                (Arc::new(SandboxGuests::start(config, sender).await?), true)
            }
            Guests::Memory(MemorySettings { machines, pace, signals }) => {
                let around = guest::memory::cluster::Around { clock: Arc::clone(&clock), pace, signals };
                (Arc::new(MemoryGuests::new(machines, around, sender)), true)
            }
        };
        let saved = config.data_dir.join("state.json");
        let now = clock.now();
        let mut site = Site::build(&config.site, now).context("site file")?;
        // Nobody can take a loop device out of a machine that has it mounted: two machines would write to one disk.
        site.policy.disk_hot_unplug &= !have_content;
        let engine = Engine::new(site, &config.data_dir, guests, have_content, clock)?;
        if saved.exists() {
            engine.load(&saved).await.with_context(|| format!("cannot load the saved state {}", saved.display()))?;
            tracing::info!(path = %saved.display(), "Saved state is loaded; the site file is not used.");
        } else {
            engine.sweep(true).await.context("what an earlier run left")?;
        }
        tracing::info!(site = ?engine.with(|site, _| site.summary()), "Site is ready.");

        let mut services = JoinSet::new();
        let stop = engine.stop.clone();
        services.spawn(server::serve(
            listener,
            Some(tls.clone()),
            vrm::router(engine.clone(), upload_address.to_string()),
            stop.clone(),
        ));
        services.spawn(server::serve(upload_listener, Some(tls), vrm::upload::router(engine.clone()), stop.clone()));
        services.spawn(server::serve(control_listener, None, control::router(engine.clone()), stop));
        services.spawn(engine.clone().run(events));
        let ca = config.certificate.is_none().then(|| config.data_dir.join("ca.crt"));
        Ok(Self { address, upload_address, control_address, ca, engine, services, _claim: claim })
    }

    /// The site and its hands, for tests in the same process.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Saves the state, powers every guest off and ends.
    pub async fn shutdown(mut self) -> Result<()> {
        let saved = self.engine.save(&self.engine.data_dir().join("state.json")).context("the state cannot be saved");
        self.engine.stop.cancel();
        let ended = tokio::time::timeout(SHUTDOWN_LIMIT, async { while self.services.join_next().await.is_some() {} });
        if ended.await.is_err() {
            bail!("guests are still running after {SHUTDOWN_LIMIT:?}; `basalt-dcs-simulator clean` removes them");
        }
        saved
    }
}

/// Makes a data directory this process's own. Two simulators on one would kill each other's machines and share their disks.
pub fn claim(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("lock");
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("a simulator is running in {}; end it first", data_dir.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag}: cannot listen on {address}"))
}
