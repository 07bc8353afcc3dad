//! Port-forward over a WebSocket, up to etcd behind it.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tonic::transport::{Endpoint, Uri};

use super::{Bed, PodPorts, PodStream, refused};
use crate::guest::memory::{
    etcd::{
        self, EtcdCluster, MemberId, Model, Rules,
        service::api::{MemberListRequest, cluster_client::ClusterClient},
    },
    testing::{Authority, Hand},
    tls::{self, ServerFiles},
};

#[tokio::test]
async fn bytes_go_both_ways() {
    let bed = Bed::new().await;
    bed.create_pod("p", "a");
    let pods: Api<Pod> = Api::namespaced(bed.admin(), "kube-system");
    let mut forwarder = pods.portforward("p", &[7, 81]).await.unwrap();
    let mut stream = forwarder.take_stream(7).unwrap();
    let sent: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut heard = vec![0; sent.len()];
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let (wrote, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut heard));
    wrote.unwrap();
    read.unwrap();
    assert_eq!(sent, heard);
    let why = forwarder.take_error(81).unwrap().await.unwrap();
    assert!(why.starts_with("error forwarding port 81 to pod p, uid ") && why.ends_with("connection refused"), "{why}");
}

#[tokio::test]
async fn a_forward_ends_with_the_server() {
    let bed = Bed::new().await;
    bed.create_pod("p", "a");
    let pods: Api<Pod> = Api::namespaced(bed.admin(), "kube-system");
    let mut forwarder = pods.portforward("p", &[7]).await.unwrap();
    let mut stream = forwarder.take_stream(7).unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    bed.api.stop().await;
    assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
}

#[tokio::test]
async fn what_cannot_be_forwarded_is_refused() {
    let bed = Bed::new().await;
    bed.create_pod("nowhere", "");
    let answer = async |client: kube::Client, pod: &str| {
        let pods: Api<Pod> = Api::namespaced(client, "kube-system");
        refused(pods.portforward(pod, &[7]).await.map(drop))
    };
    assert_eq!(answer(bed.admin(), "missing").await, (404, "pods \"missing\" not found".into()));
    let nowhere = "pod nowhere does not have a host assigned".to_owned();
    assert_eq!(answer(bed.admin(), "nowhere").await, (400, nowhere));
    assert_eq!(answer(bed.user("somebody", &[]), "nowhere").await.0, 403);
}

/// Pods of etcd, all of them one member.
struct EtcdPods {
    etcd: Arc<EtcdCluster>,
    member: MemberId,
    tls: Arc<rustls::ServerConfig>,
}

impl PodPorts for EtcdPods {
    fn connect<'a>(&'a self, _: &'a str, _: &'a str, port: u16) -> BoxFuture<'a, Result<Box<dyn PodStream>, String>> {
        assert_eq!(port, 2379);
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(etcd::serve(Arc::clone(&self.etcd), self.member, far, Arc::clone(&self.tls)));
        Box::pin(std::future::ready(Ok(Box::new(near) as Box<dyn PodStream>)))
    }
}

struct NoKeys;

impl etcd::Keys for NoKeys {
    fn revision(&self) -> u64 {
        1
    }
}

#[tokio::test]
async fn etcd_is_reached_through_its_pod() {
    let authority = Authority::new("etcd-ca");
    let time = Hand::at_present().time();
    let cluster =
        EtcdCluster::new(Model::new(Rules::default()), Duration::from_secs(5), time.clone(), Arc::new(NoKeys));
    let member = cluster.bootstrap("a", "https://10.0.0.1:2380", "https://10.0.0.1:2379").unwrap();
    let pair = authority.server(&["a"]);
    let files = ServerFiles {
        certificate: pair.certificate.as_bytes(),
        key: pair.key.as_bytes(),
        client_ca: authority.pem.as_bytes(),
    };
    let tls = tls::mutual(files, &time).unwrap();
    let bed = Bed::with(Arc::new(EtcdPods { etcd: cluster, member, tls }), None).await;
    bed.create_pod("etcd-a", "a");

    let pods: Api<Pod> = Api::namespaced(bed.admin(), "kube-system");
    let mut forwarder = pods.portforward("etcd-a", &[2379]).await.unwrap();
    let stream = forwarder.take_stream(2379).unwrap();
    let client = authority.client("root", &["system:masters"]);
    let connector = TlsConnector::from(authority.client_tls(Some(&client), &["h2"]));
    let stream = connector.connect("a".try_into().unwrap(), stream).await.unwrap();
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_: Uri| {
        let taken = once.lock().take();
        async move { taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    let channel = Endpoint::from_static("http://a:2379").connect_with_connector(connector).await.unwrap();
    let listed = ClusterClient::new(channel).member_list(MemberListRequest { linearizable: true }).await.unwrap();
    let names: Vec<_> = listed.into_inner().members.into_iter().map(|member| member.name).collect();
    assert_eq!(names, ["a"]);
}
