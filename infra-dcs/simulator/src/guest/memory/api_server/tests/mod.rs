//! An API server as clients meet it: over TLS, with kube's client and with clients of our own.

mod access;
mod fleet;
mod forward;
mod objects;
mod spdy;
mod storage;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::future::BoxFuture;
use kube::{Client, config::Kubeconfig};
use kube_model::{Server, Sources, Target, WriteParams};
use serde_json::{Value, json};

use super::{Access, ApiServer, Config, MODEL_OPTIONS, PodPorts, PodStream, Storage, StorageError, kubeadm_objects};
use crate::guest::memory::{
    testing::{Authority, Hand, Pair},
    tls::ServerFiles,
};

/// Names that no object has had.
struct Counter(Hand, AtomicU64);

impl Sources for Counter {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(i64::try_from(self.0.time().now()).unwrap()).unwrap()
    }

    fn uid(&self) -> String {
        format!("uid-{}", self.1.fetch_add(1, Ordering::Relaxed))
    }

    fn name_suffix(&self) -> String {
        format!("{:05}", self.1.fetch_add(1, Ordering::Relaxed))
    }
}

/// etcd that can be taken away.
#[derive(Default)]
struct Switch {
    is_off: AtomicBool,
}

impl Storage for Switch {
    fn access(&self, _: Access) -> BoxFuture<'_, Result<(), StorageError>> {
        let outcome =
            if self.is_healthy() { Ok(()) } else { Err(StorageError("etcdserver: request timed out".into())) };
        Box::pin(std::future::ready(outcome))
    }

    fn is_healthy(&self) -> bool {
        !self.is_off.load(Ordering::Relaxed)
    }
}

/// A pod that says on port 7 what it hears, and listens nowhere else.
struct Echo;

impl PodPorts for Echo {
    fn connect<'a>(&'a self, _: &'a str, _: &'a str, port: u16) -> BoxFuture<'a, Result<Box<dyn PodStream>, String>> {
        Box::pin(async move {
            if port != 7 {
                return Err(format!("dial tcp4 127.0.0.1:{port}: connect: connection refused"));
            }
            let (near, far) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(far);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
            });
            Ok(Box::new(near) as Box<dyn PodStream>)
        })
    }
}

/// A cluster with one API server.
struct Bed {
    hand: Hand,
    authority: Authority,
    model: Arc<Server>,
    storage: Arc<Switch>,
    api: ApiServer,
}

impl Bed {
    async fn new() -> Self {
        Self::with(Arc::new(Echo), None).await
    }

    /// One with other pods, or with an etcd that is more than a switch.
    async fn with(ports: Arc<dyn PodPorts>, etcd: Option<Arc<dyn Storage>>) -> Self {
        // Tests of one process race to be first; any provider will do.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let hand = Hand::at_present();
        let authority = Authority::new("kubernetes");
        let model = Arc::new(Server::new(Arc::new(Counter(hand.clone(), AtomicU64::new(0))), MODEL_OPTIONS));
        let storage = Arc::new(Switch::default());
        let pair = authority.server(&["127.0.0.1", "kubernetes"]);
        let config = Config {
            server: Arc::clone(&model),
            git_version: "v1.34.2",
            files: ServerFiles {
                certificate: pair.certificate.as_bytes(),
                key: pair.key.as_bytes(),
                client_ca: authority.pem.as_bytes(),
            },
            time: hand.time(),
            storage: etcd.unwrap_or_else(|| Arc::clone(&storage) as Arc<dyn Storage>),
            ports,
            cable: Default::default(),
        };
        let api = ApiServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), config).await.unwrap();
        let bed = Self { hand, authority, model, storage, api };
        for object in kubeadm_objects() {
            bed.create(object);
        }
        bed
    }

    /// Makes an object behind the API server's back.
    #[track_caller]
    fn create(&self, object: Value) {
        create(&self.model, object);
    }

    fn create_pod(&self, name: &str, node: &str) {
        self.create(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i:1"}]},
        }));
    }

    fn client(&self, user: Value) -> Client {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://{}", self.api.address()),
                "certificate-authority-data": BASE64_STANDARD.encode(&self.authority.pem),
            }}],
            "users": [{"name": "u", "user": user}],
        });
        let config: Kubeconfig = serde_json::from_value(config).unwrap();
        // Reading a kubeconfig touches no network: it is done at once.
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(config, &options);
        let mut config = futures::executor::block_on(config).unwrap();
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    fn client_of(&self, pair: &Pair) -> Client {
        self.client(json!({
            "client-certificate-data": BASE64_STANDARD.encode(&pair.certificate),
            "client-key-data": BASE64_STANDARD.encode(&pair.key),
        }))
    }

    fn user(&self, name: &str, groups: &[&str]) -> Client {
        self.client_of(&self.authority.client(name, groups))
    }

    fn admin(&self) -> Client {
        self.user("kubernetes-admin", &["kubeadm:cluster-admins"])
    }
}

#[track_caller]
fn create(model: &Server, object: Value) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let version = text("/apiVersion");
    let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
    let target = Target {
        group: group.into(),
        version: version.into(),
        plural: format!("{}s", text("/kind").to_lowercase()),
        namespace: text("/metadata/namespace"),
        ..Target::default()
    };
    model.create(&target, object, &WriteParams { manager: "test".into(), ..WriteParams::default() }).unwrap();
}

/// Code and message of a refusal.
fn refused<T: std::fmt::Debug>(outcome: Result<T, kube::Error>) -> (u16, String) {
    match outcome.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.message),
        other => panic!("not an answer: {other}"),
    }
}
