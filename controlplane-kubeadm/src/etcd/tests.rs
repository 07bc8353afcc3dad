//! Against a real etcd, where `BASALT_TOOLCHAIN_BIN` names the folder with its binary.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use jiff::Timestamp;
use kubeadm::{
    api::spec::EncryptionAlgorithm,
    pki::{self, Leaf, Pair, Purpose},
};
use tokio::net::TcpStream;

use super::{api::MemberAddRequest, *};

struct Node {
    process: Child,
    client: SocketAddr,
    peer: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Site {
    etcd: PathBuf,
    folder: tempfile::TempDir,
    ca: Pair,
    tls: Arc<rustls::ClientConfig>,
}

fn issue(ca: &Pair, name: &str, dns: &[&str], server: bool) -> Pair {
    let leaf = Leaf { name, organisations: &[], dns, addresses: &[Ipv4Addr::LOCALHOST.into()], server, client: true };
    pki::issue(ca, &leaf, EncryptionAlgorithm::EcdsaP256, Timestamp::now()).unwrap()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

impl Site {
    fn new() -> Option<Self> {
        let etcd = PathBuf::from(std::env::var_os("BASALT_TOOLCHAIN_BIN")?).join("etcd");
        if !etcd.exists() {
            return None;
        }
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ca = pki::generate(Purpose::EtcdCa, EncryptionAlgorithm::EcdsaP256, None, Timestamp::now()).unwrap();
        let client = issue(&ca, "cluster-api.x-k8s.io", &[], false);
        let tls =
            client_config(ca.certificate.as_bytes(), client.certificate.as_bytes(), client.key.as_bytes()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), &ca.certificate).unwrap();
        Some(Self { etcd, folder, ca, tls })
    }

    /// Starts a member; `others` are members that exist, as `name=peer URL`.
    fn start(&self, name: &str, peer: u16, others: &[String]) -> Node {
        let folder = self.folder.path();
        let pair = issue(&self.ca, name, &[name, "localhost"], true);
        let path = |file: &str| folder.join(format!("{name}.{file}"));
        std::fs::write(path("crt"), &pair.certificate).unwrap();
        std::fs::write(path("key"), pair.key.as_bytes()).unwrap();
        let client: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()).into();
        let (client_url, peer_url) = (format!("https://{client}"), format!("http://127.0.0.1:{peer}"));
        let members = others.iter().cloned().chain([format!("{name}={peer_url}")]).collect::<Vec<_>>().join(",");
        let state = if others.is_empty() { "new" } else { "existing" };
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let file = |path: &Path| path.to_string_lossy().into_owned();
        let process = Command::new(&self.etcd)
            .args([
                flag("name", name),
                flag("data-dir", &file(&path("data"))),
                flag("listen-client-urls", &client_url),
                flag("advertise-client-urls", &client_url),
                flag("listen-peer-urls", &peer_url),
                flag("initial-advertise-peer-urls", &peer_url),
                flag("initial-cluster", &members),
                flag("initial-cluster-state", state),
                flag("cert-file", &file(&path("crt"))),
                flag("key-file", &file(&path("key"))),
                flag("trusted-ca-file", &file(&folder.join("ca.crt"))),
                flag("client-cert-auth", "true"),
                flag("log-level", "error"),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Node { process, client, peer: peer_url }
    }

    async fn connect(&self, at: SocketAddr, name: &str) -> Result<Client, Error> {
        let stream = TcpStream::connect(at)
            .await
            .map_err(|error| Error::Connect { node: name.to_owned(), reason: error.to_string() })?;
        let manner = Manner { tls: Arc::clone(&self.tls), limits: Limits::default() };
        Client::over(stream, &manner, name).await
    }

    /// Asks until the member answers as wanted.
    async fn view(&self, node: &Node, name: &str, wanted: impl Fn(&View) -> bool) -> (Client, View) {
        let mut last = String::new();
        for _ in 0..100 {
            match self.connect(node.client, name).await {
                Ok(mut client) => match client.view().await {
                    Ok(view) if wanted(&view) => return (client, view),
                    other => last = format!("{other:?}"),
                },
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{name} never answered as wanted: {last}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_etcd_is_seen_led_and_shrunk() {
    let Some(site) = Site::new() else {
        eprintln!("skipped: BASALT_TOOLCHAIN_BIN names no folder with etcd");
        return;
    };
    let first = site.start("n1", free_port(), &[]);
    let (mut client, view) = site.view(&first, "n1", |view| view.leader != 0).await;
    assert!(view.leads("n1") && !view.members[0].learner && view.members[0].alarms.is_empty());
    let alone = view.members[0].id;
    assert!(matches!(client.remove(alone, "n1").await, Err(Error::OnlyMember(id)) if id == alone));

    // A member whose certificate says another name is not believed.
    let other = site.connect(first.client, "n9").await;
    assert!(matches!(other, Err(Error::Connect { .. })));

    // A learner that never started has no name; it goes, and going twice is fine.
    let add = MemberAddRequest { peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()], is_learner: true };
    client.cluster.member_add(add).await.unwrap();
    let view = client.view().await.unwrap();
    let learner = view.members.iter().find(|member| member.learner).unwrap().clone();
    assert!(learner.name.is_empty() && view.members.len() == 2);
    client.remove(learner.id, "").await.unwrap();
    client.remove(learner.id, "").await.unwrap();
    assert_eq!(client.view().await.unwrap().members.len(), 1);

    // A second voter takes over, and the first leaves.
    let peer = free_port();
    let add = MemberAddRequest { peer_ur_ls: vec![format!("http://127.0.0.1:{peer}")], is_learner: false };
    client.cluster.member_add(add).await.unwrap();
    let second = site.start("n2", peer, &[format!("n1={}", first.peer)]);
    let (mut through_second, view) =
        site.view(&second, "n2", |view| view.member("n2").is_some() && view.leads("n1")).await;
    let (old, new) = (view.member("n1").unwrap().id, view.member("n2").unwrap().id);
    let mut moved = client.move_leader(new).await;
    for _ in 0..50 {
        if moved.is_ok() {
            break;
        }
        // A member that has just started is no transferee yet.
        tokio::time::sleep(Duration::from_millis(100)).await;
        moved = client.move_leader(new).await;
    }
    moved.unwrap();
    assert!(through_second.view().await.unwrap().leads("n2"));
    // etcd lets nobody leave before the members have known each other for some seconds.
    let mut removed = through_second.remove(old, "n1").await;
    for _ in 0..100 {
        if removed.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        removed = through_second.remove(old, "n1").await;
    }
    removed.unwrap();
    let left = through_second.view().await.unwrap();
    assert_eq!(left.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["n2"]);
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let Some(site) = Site::new() else {
        eprintln!("skipped: BASALT_TOOLCHAIN_BIN names no folder with etcd");
        return;
    };
    let node = site.start("n1", free_port(), &[]);
    let _ = site.view(&node, "n1", |view| view.leader != 0).await;
    let stranger = Site::new().unwrap();
    assert!(matches!(stranger.connect(node.client, "n1").await, Err(Error::Connect { .. })));
}
