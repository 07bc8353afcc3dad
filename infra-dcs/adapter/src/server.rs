//! The gRPC server on a Unix socket.

use std::{
    fs,
    num::NonZeroU32,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use dcs_proto::v1::machine_service_server::MachineServiceServer;
use process::telemetry::{self, TelemetryArgs};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::{StreamExt, wrappers::UnixListenerStream};
use tonic::transport::{Endpoint, Server};

use crate::{service::Service, session::Sessions, vrm::Rate};

/// Largest message, in bytes: boot data with room.
const MESSAGE_LIMIT: usize = 128 << 20;
/// Calls of one connection under way at once.
const CONCURRENT: usize = 256;

/// Serves the machine service of the DCS controller: the one that speaks VRM's REST.
#[derive(Parser)]
#[command(name = "basalt-dcs-adapter", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve on a Unix socket until told to stop
    Serve(Serve),
    /// Ask a serving adapter whether it is healthy; for exec probes
    Probe {
        /// The socket
        #[arg(long, env = "ADAPTER_SOCKET", default_value = "/run/basalt/machine.sock")]
        socket: PathBuf,
    },
}

#[derive(Args)]
struct Serve {
    /// The socket; its folder is made readable for this user alone
    #[arg(long, env = "ADAPTER_SOCKET", default_value = "/run/basalt/machine.sock")]
    socket: PathBuf,
    /// User ids that may connect, besides this process's own
    #[arg(long, env = "ALLOW_UID", value_delimiter = ',')]
    allow_uid: Vec<u32>,
    /// PEM file of certificate authorities that sites are trusted by
    #[arg(long, env = "CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Trust any certificate of any site. For tests
    #[arg(long, env = "INSECURE_SKIP_TLS_VERIFY")]
    insecure_skip_tls_verify: bool,
    /// Calls that may start at one site in a second; twice as many may start at once after a pause. A site that says
    /// that it has too much to do gets half as many for a minute
    #[arg(long, env = "CALLS_PER_SECOND", default_value = "10")]
    calls_per_second: NonZeroU32,
    /// Describe the service to whoever asks; for tools such as grpcurl
    #[arg(long, env = "REFLECTION")]
    reflection: bool,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

/// Why the adapter does not serve. Each is a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag has a value that cannot be.
    #[error("{0}")]
    Flags(String),
    /// The socket cannot be made.
    #[error("cannot serve on {path}: {source}", path = path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    CaFile {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The service's description cannot be served.
    #[error("cannot describe the service: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Serving failed.
    #[error("serving failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The probe got another answer.
    #[error("not healthy: {0}")]
    Unhealthy(String),
}

/// Runs a command.
pub async fn run(cli: Cli) -> Result<(), Error> {
    // A second installation is impossible in one process; tests may have made the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli.command {
        Command::Serve(options) => serve(options).await,
        Command::Probe { socket } => probe(&socket).await,
    }
}

async fn serve(options: Serve) -> Result<(), Error> {
    let telemetry =
        telemetry::init(&options.telemetry, "basalt-dcs-adapter", env!("CARGO_PKG_VERSION")).map_err(Error::Flags)?;
    let bundle = match &options.ca_file {
        Some(path) => fs::read_to_string(path).map_err(|source| Error::CaFile { path: path.clone(), source })?,
        None => String::new(),
    };
    let listener = bind(&options.socket).map_err(|source| Error::Socket { path: options.socket.clone(), source })?;
    let mut allowed = options.allow_uid;
    allowed.push(rustix::process::geteuid().as_raw());
    let peers = UnixListenerStream::new(listener).filter(move |peer| match peer {
        Ok(stream) => is_allowed(stream, &allowed),
        Err(_) => true,
    });
    let (reporter, health) = tonic_health::server::health_reporter();
    let rate = Rate::a_second(options.calls_per_second);
    let sessions = Sessions::new(bundle, options.insecure_skip_tls_verify, rate);
    let service = MachineServiceServer::new(Service::new(sessions)).max_decoding_message_size(MESSAGE_LIMIT);
    reporter.set_serving::<MachineServiceServer<Service>>().await;
    let description = || {
        let builder = tonic_reflection::server::Builder::configure();
        builder.register_encoded_file_descriptor_set(dcs_proto::DESCRIPTORS).build_v1()
    };
    let reflection = options.reflection.then(description).transpose()?;
    tracing::info!(socket = %options.socket.display(), "Serving.");
    let served = Server::builder()
        .concurrency_limit_per_connection(CONCURRENT)
        .trace_fn(call_span)
        .timeout(Duration::from_secs(330))
        .add_service(health)
        .add_service(service)
        .add_optional_service(reflection)
        .serve_with_incoming_shutdown(peers, process::terminated())
        .await;
    let _ = fs::remove_file(&options.socket);
    telemetry.flush().await;
    Ok(served?)
}

/// The span of a call, which continues the trace of the controller's effect.
fn call_span(request: &http::Request<()>) -> tracing::Span {
    let call = request.uri().path().rsplit('/').next().unwrap_or_default();
    let span = tracing::info_span!("call", call, otel.name = call);
    telemetry::continue_trace(&span, request.headers());
    span
}

/// Makes the socket in a folder that only this user may enter; one that a dead process left is removed.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    if path.exists() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn is_allowed(stream: &UnixStream, allowed: &[u32]) -> bool {
    let peer = stream.peer_cred().map(|credentials| credentials.uid()).ok();
    let fits = peer.is_some_and(|uid| allowed.contains(&uid));
    if !fits {
        tracing::warn!(?peer, "Refused a connection; name the user by --allow-uid if it shall be let in.");
    }
    fits
}

async fn probe(socket: &Path) -> Result<(), Error> {
    const LIMIT: Duration = Duration::from_secs(3);
    let unhealthy = |reason: &dyn std::fmt::Display| Error::Unhealthy(reason.to_string());
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()))?.connect_timeout(LIMIT).timeout(LIMIT);
    let channel = endpoint.connect().await.map_err(|error| unhealthy(&error))?;
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let answer = client.check(request).await.map_err(|error| unhealthy(&error.message()))?.into_inner();
    if answer.status() == tonic_health::pb::health_check_response::ServingStatus::Serving {
        return Ok(());
    }
    Err(unhealthy(&answer.status().as_str_name()))
}
