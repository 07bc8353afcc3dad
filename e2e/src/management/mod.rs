//! The management cluster: real etcd, kube-apiserver and kube-controller-manager as processes on loopback.

mod pki;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use kube::{Client, Config, config::Kubeconfig};
use tokio::process::Command;

pub use pki::Pki;

use crate::process::{self, Process};

/// Where a management cluster listens on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// etcd's clients.
    pub etcd: u16,
    /// etcd's peers, of which there are none.
    pub etcd_peer: u16,
    /// The API server.
    pub api_server: u16,
}

impl Ports {
    /// The usual ones, for a run in a network namespace of its own.
    pub const USUAL: Self = Self { etcd: 2379, etcd_peer: 2380, api_server: 6443 };
    /// How many there are.
    pub const COUNT: u16 = 3;

    /// Ports in a row.
    pub fn starting_at(first: u16) -> Self {
        Self { etcd: first, etcd_peer: first + 1, api_server: first + 2 }
    }

    fn etcd(self) -> String {
        format!("https://127.0.0.1:{}", self.etcd)
    }

    fn etcd_peer(self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_peer)
    }

    fn api_server(self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }
}

/// Controllers that Cluster API relies on: garbage collection, namespaces, service accounts, and the aggregation of
/// cluster roles through which core gets its rights on the providers' kinds.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
clusterrole-aggregation-controller,root-ca-certificate-publisher-controller";

/// A running management cluster.
pub struct Management {
    /// Its certificates; also the webhooks'.
    pub pki: Pki,
    /// kubectl's configuration with all rights.
    pub kubeconfig: PathBuf,
    /// Client with all rights.
    pub client: Client,
    ports: Ports,
    toolchain: PathBuf,
    dir: PathBuf,
    processes: Vec<Process>,
}

impl Management {
    /// Starts everything under `dir` and returns when the API server is ready.
    pub async fn start(toolchain: &Path, dir: &Path, logs: &Path, ports: Ports) -> Result<Self> {
        let pki = Pki::create(&dir.join("pki"))?;
        let kubeconfig = dir.join("admin.kubeconfig");
        fs::write(&kubeconfig, pki.client_kubeconfig(&ports.api_server(), "admin"))?;
        let etcd = start_etcd(toolchain, dir, &pki, logs, ports)?;
        let mut api_server = start_api_server(toolchain, dir, &pki, logs, ports)?;
        let client = client(&kubeconfig).await?;
        let ready = client.clone();
        api_server
            .wait_until("ready", Duration::from_secs(90), async move || {
                match http::Request::get("/readyz").body(Vec::new()) {
                    Ok(request) => ready.request_text(request).await.is_ok(),
                    Err(_) => false,
                }
            })
            .await?;
        let controllers = start_controllers(toolchain, dir, &pki, logs, ports)?;
        let processes = vec![etcd, api_server, controllers];
        Ok(Self {
            pki,
            kubeconfig,
            client,
            ports,
            toolchain: toolchain.to_path_buf(),
            dir: dir.to_path_buf(),
            processes,
        })
    }

    /// kubectl against this cluster.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = Command::new(self.toolchain.join("kubectl"));
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig).env("HOME", &self.dir);
        kubectl
    }

    /// The variables by which etcdctl reaches the store.
    pub fn etcdctl_variables(&self) -> [(&'static str, OsString); 4] {
        [
            ("ETCDCTL_ENDPOINTS", self.ports.etcd().into()),
            ("ETCDCTL_CACERT", self.pki.ca().into()),
            ("ETCDCTL_CERT", self.pki.certificate("etcd-client").into()),
            ("ETCDCTL_KEY", self.pki.key("etcd-client").into()),
        ]
    }

    /// Server-side apply of these objects (JSON), as a user with all rights.
    pub async fn apply(&self, objects: &str) -> Result<()> {
        let mut kubectl = self.kubectl();
        kubectl.args(["apply", "--server-side", "--force-conflicts", "--filename", "-"]);
        process::output(&mut kubectl, Some(objects.as_bytes())).await.map(drop)
    }

    /// A kubeconfig that speaks as this service account, so that its RBAC is enforced.
    pub async fn service_account_kubeconfig(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let mut kubectl = self.kubectl();
        kubectl.args(["create", "token", account, "--namespace", namespace, "--duration=24h"]);
        let token = process::output(&mut kubectl, None).await?;
        let path = self.dir.join(format!("{account}.kubeconfig"));
        fs::write(&path, self.pki.token_kubeconfig(&self.ports.api_server(), token.trim(), namespace))?;
        Ok(path)
    }

    /// Its processes.
    pub fn running(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter()
    }

    /// Processes that must keep running.
    pub fn processes(&mut self) -> &mut [Process] {
        &mut self.processes
    }

    /// Ends all processes, the API server before its store.
    pub async fn stop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            process.stop().await;
        }
    }
}

/// A client from a kubeconfig file.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
    config.read_timeout = Some(Duration::from_secs(30));
    Client::try_from(config).context("cannot make a client")
}

fn start_etcd(toolchain: &Path, dir: &Path, pki: &Pki, logs: &Path, ports: Ports) -> Result<Process> {
    let data = dir.join("etcd");
    fs::create_dir_all(&data)?;
    let (clients, peers) = (ports.etcd(), ports.etcd_peer());
    let mut etcd = Command::new(toolchain.join("etcd"));
    etcd.args(["--name=management", "--client-cert-auth", "--unsafe-no-fsync", "--log-level=warn"])
        .arg(format!("--data-dir={}", data.display()))
        .args([format!("--listen-client-urls={clients}"), format!("--advertise-client-urls={clients}")])
        .args([format!("--listen-peer-urls={peers}"), format!("--initial-advertise-peer-urls={peers}")])
        .arg(format!("--initial-cluster=management={peers}"))
        .arg(format!("--cert-file={}", pki.certificate("etcd").display()))
        .arg(format!("--key-file={}", pki.key("etcd").display()))
        .arg(format!("--trusted-ca-file={}", pki.ca().display()));
    Process::start("etcd", &mut etcd, logs)
}

fn start_api_server(toolchain: &Path, dir: &Path, pki: &Pki, logs: &Path, ports: Ports) -> Result<Process> {
    let policy = dir.join("audit-policy.yaml");
    fs::write(&policy, AUDIT_POLICY)?;
    let mut server = Command::new(toolchain.join("kube-apiserver"));
    server
        .arg(format!("--etcd-servers={}", ports.etcd()))
        .arg(format!("--etcd-cafile={}", pki.ca().display()))
        .arg(format!("--etcd-certfile={}", pki.certificate("etcd-client").display()))
        .arg(format!("--etcd-keyfile={}", pki.key("etcd-client").display()))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .arg(format!("--secure-port={}", ports.api_server))
        .args(["--endpoint-reconciler-type=none", "--authorization-mode=Node,RBAC", "--allow-privileged=true"])
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        .arg(format!("--tls-cert-file={}", pki.certificate("apiserver").display()))
        .arg(format!("--tls-private-key-file={}", pki.key("apiserver").display()))
        .arg(format!("--client-ca-file={}", pki.ca().display()))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!("--service-account-key-file={}", pki.service_account_public().display()))
        .arg(format!("--service-account-signing-key-file={}", pki.service_account_private().display()))
        .arg(format!("--audit-policy-file={}", policy.display()))
        .arg(format!("--audit-log-path={}", logs.join("audit.log").display()))
        // Whoever reads it on the way must not see it begin anew after the default of 100 MB.
        .arg("--audit-log-maxsize=100000");
    Process::start("kube-apiserver", &mut server, logs)
}

fn start_controllers(toolchain: &Path, dir: &Path, pki: &Pki, logs: &Path, ports: Ports) -> Result<Process> {
    let kubeconfig = dir.join("controller-manager.kubeconfig");
    fs::write(&kubeconfig, pki.client_kubeconfig(&ports.api_server(), "controller-manager"))?;
    let mut controllers = Command::new(toolchain.join("kube-controller-manager"));
    controllers
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .args(["--secure-port=0", "--leader-elect=false", "--use-service-account-credentials=true"])
        .arg(format!("--service-account-private-key-file={}", pki.service_account_private().display()))
        .arg(format!("--root-ca-file={}", pki.ca().display()))
        .arg(format!("--controllers={CONTROLLERS}"));
    Process::start("kube-controller-manager", &mut controllers, logs)
}

/// Who asked for what, without bodies: the source of request counts per manager. Nobody else's requests are written down,
/// so that the log of a fleet costs the API server little.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
omitManagedFields: true
rules:
- level: None
  userGroups: [system:serviceaccounts:kube-system]
- level: Metadata
  userGroups: [system:serviceaccounts]
- level: None
";
