//! `serve`: flags, logs, and the life of the process.

use std::{fs, io::IsTerminal, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    Config, Guests, MemorySettings, Simulator,
    fabric::{self, FabricConfig, load_balancer::LoadBalancerSpec, signals::Signals},
    guest::{
        image::ImageDir,
        memory::{
            cluster::Pace,
            host::Settings,
            kubeadm::{images::Registries, version::Version},
        },
    },
    site::inventory::SiteFile,
    tls::CertificateFiles,
};

/// What machines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GuestKind {
    /// They have no content: for tests of the API.
    None,
    /// Linux sandboxes that boot the guest image; need root.
    Sandbox,
    /// Played in this process, on loopback, without root: thousands fit.
    Memory,
}

/// Format of the logs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags of `serve`; each has an environment variable of the same meaning.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Directory for disks, uploaded files, audit.jsonl, state.json and certificates. A state saved there is continued.
    #[arg(long, env = "BASALT_SIMULATOR_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// Address of the VRM REST API (HTTPS).
    #[arg(long, env = "BASALT_SIMULATOR_LISTEN", default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// Address where the physical hosts take uploads (HTTPS).
    #[arg(long, env = "BASALT_SIMULATOR_UPLOAD_LISTEN", default_value = "127.0.0.1:8443")]
    upload_listen: SocketAddr,
    /// Address of the control API and page (HTTP, loopback only).
    #[arg(long, env = "BASALT_SIMULATOR_CONTROL_LISTEN", default_value = "127.0.0.1:7480")]
    control_listen: SocketAddr,
    /// What powered-on machines are. Memory guests need addresses of 127.0.0.0/8: in the pools that machines get theirs
    /// from, and in --load-balancer.
    #[arg(long, env = "BASALT_SIMULATOR_GUESTS", value_enum, default_value = "none")]
    guests: GuestKind,
    /// Bridge to which the machines' NICs are plugged, and which carries registry and load balancers.
    #[arg(long, env = "BASALT_SIMULATOR_BRIDGE", default_value = "br0")]
    bridge: String,
    /// Version of Kubernetes in memory guests whose VM template's name does not tell one (as `node-v1.35.4` does).
    #[arg(long, env = "BASALT_SIMULATOR_KUBERNETES_VERSION", value_name = "VERSION", default_value = "v1.36.3", value_parser = kubernetes_version)]
    kubernetes_version: Version,
    /// Where memory guests can pull from: an image's name must begin with one of these [default: anything is served].
    #[arg(
        long = "image-repository",
        env = "BASALT_SIMULATOR_IMAGE_REPOSITORIES",
        value_name = "PREFIX",
        value_delimiter = ','
    )]
    image_repositories: Vec<String>,
    /// Makes unknown fields of kubeadm's documents errors in memory guests. kubeadm only warns of them, and a mistake in
    /// what renders the documents would pass.
    #[arg(long, env = "BASALT_SIMULATOR_STRICT_KUBEADM")]
    strict_kubeadm: bool,
    /// Factor on the time that memory guests and their clusters take before they give up or notice a silence: kubeadm's
    /// four minutes, the forty seconds until a node counts as unknown. 1 is Kubernetes' own.
    #[arg(long, env = "BASALT_SIMULATOR_GUEST_PACE", value_name = "FACTOR", default_value_t = 1.0)]
    guest_pace: f64,
    /// Guest image, or the cache that `image build` filled. Needed for `--guests sandbox` and for the registry.
    #[arg(long, env = "BASALT_SIMULATOR_IMAGE_DIR", value_name = "DIR", required_if_eq("guests", "sandbox"))]
    image_dir: Option<PathBuf>,
    /// Address of the image registry on the fabric; opened for sandbox guests.
    #[arg(long, env = "BASALT_SIMULATOR_REGISTRY_LISTEN", default_value = "10.77.0.1:5000")]
    registry_listen: SocketAddr,
    /// A load balancer on the fabric: ADDRESS:PORT=BACKEND[:PORT],… Repeat for more. Back ends are judged by HTTPS /healthz.
    #[arg(long = "load-balancer", value_name = "SPEC")]
    load_balancers: Vec<LoadBalancerSpec>,
    /// Site file (JSON); without it, the site that `inventory` prints.
    #[arg(long, env = "BASALT_SIMULATOR_SITE_FILE", value_name = "FILE")]
    site_file: Option<PathBuf>,
    /// Certificate of both HTTPS listeners (PEM). Without it an own authority signs one; it is ca.crt in the data directory.
    #[arg(long, env = "BASALT_SIMULATOR_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, env = "BASALT_SIMULATOR_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Factor on the time that all tasks take; 0 ends them at once. Overrides the site file.
    #[arg(long, env = "BASALT_SIMULATOR_LATENCY_SCALE")]
    latency_scale: Option<f64>,
    /// Seed of ids, jitter and faults. Overrides the site file.
    #[arg(long, env = "BASALT_SIMULATOR_SEED")]
    seed: Option<u64>,
    /// Format of the logs on standard error.
    #[arg(long, env = "BASALT_SIMULATOR_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What is logged, as `level` or `target=level,…`.
    #[arg(long, env = "BASALT_SIMULATOR_LOG", default_value = "info")]
    log: EnvFilter,
}

/// Runs a site until a signal ends it.
pub fn run(args: ServeArgs) -> Result<()> {
    let colours = std::io::stderr().is_terminal();
    let logs =
        tracing_subscriber::fmt().with_env_filter(args.log.clone()).with_ansi(colours).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(args))
}

async fn serve(args: ServeArgs) -> Result<()> {
    if args.guests == GuestKind::Memory {
        allow_many_files();
    }
    let signals = Signals::default();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let sandbox = args.guests == GuestKind::Sandbox;
    let registry = match &args.image_dir {
        Some(dir) if sandbox => Some((args.registry_listen, ImageDir::open(dir)?.registry())),
        _ => None,
    };
    let _fabric = if registry.is_some() || !args.load_balancers.is_empty() {
        let bridge = (args.guests != GuestKind::Memory).then(|| args.bridge.clone());
        let signals = (args.guests == GuestKind::Memory).then(|| signals.clone());
        let config = FabricConfig { bridge, registry, load_balancers: args.load_balancers.clone(), signals };
        Some(fabric::start(config).await?)
    } else {
        None
    };
    let simulator = Simulator::start(config(args, signals)?).await?;
    tracing::info!(
        vrm = %simulator.address, hosts = %simulator.upload_address, control = %format!("http://{}", simulator.control_address),
        "The site is open."
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("Shutting down.");
    simulator.shutdown().await
}

/// Every control plane machine listens, and every connection of a cluster ends in this process.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(limit = limit.current, %error, "Cannot raise the number of open files; few clusters will fit.");
    }
}

fn kubernetes_version(text: &str) -> Result<Version, String> {
    let version = Version::parse(text).filter(|version| version.major == 1);
    version.ok_or_else(|| format!("`{text}` is no version of Kubernetes, such as v1.36.3"))
}

fn config(args: ServeArgs, signals: Signals) -> Result<Config> {
    let mut site = match &args.site_file {
        None => SiteFile::default(),
        Some(path) => {
            let text = fs::read(path).with_context(|| format!("--site-file: cannot read {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("--site-file: {}", path.display()))?
        }
    };
    site.latency.scale = args.latency_scale.unwrap_or(site.latency.scale);
    site.seed = args.seed.unwrap_or(site.seed);
    anyhow::ensure!(
        args.guest_pace.is_finite() && args.guest_pace > 0.0,
        "--guest-pace: {} is no factor; give a number above 0",
        args.guest_pace
    );
    let guests = match (args.guests, args.image_dir) {
        (GuestKind::Memory, _) => {
            let registries = Registries { repositories: args.image_repositories, ..Registries::default() };
            let machines = Settings {
                kubernetes: args.kubernetes_version,
                registries,
                wait_scale: args.guest_pace,
                strict_kubeadm: args.strict_kubeadm,
            };
            let pace = Pace { scale: args.guest_pace, ..Pace::default() };
            Guests::Memory(MemorySettings { machines, pace, signals })
        }
        (GuestKind::Sandbox, Some(image_dir)) => {
            let launcher = std::env::current_exe().context("own program")?;
            Guests::Sandbox { image_dir, bridge: args.bridge, launcher }
        }
        _ => Guests::None,
    };
    Ok(Config {
        data_dir: args.data_dir,
        listen: args.listen,
        upload_listen: args.upload_listen,
        control_listen: args.control_listen,
        guests,
        site,
        certificate: args.tls_cert.zip(args.tls_key).map(|(cert, key)| CertificateFiles { cert, key }),
    })
}
