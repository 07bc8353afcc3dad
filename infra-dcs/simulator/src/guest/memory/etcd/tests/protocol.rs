//! The protocol: TLS and gRPC over a stream.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code,
    transport::{Channel, Endpoint, Uri},
};

use super::{Bed, client, peer};
use crate::guest::memory::{
    etcd::{
        MemberId, serve,
        service::api::{
            AlarmRequest, AlarmType, HashKvRequest, MemberAddRequest, MemberListRequest, MemberPromoteRequest,
            MemberRemoveRequest, MoveLeaderRequest, StatusRequest, alarm_request::AlarmAction,
            cluster_client::ClusterClient, maintenance_client::MaintenanceClient,
        },
    },
    testing::{Authority, Pair},
    tls::{self, ServerFiles},
};

struct Wires {
    authority: Authority,
    client: Pair,
}

impl Wires {
    fn new() -> Self {
        let authority = Authority::new("etcd-ca");
        let client = authority.client("kube-apiserver-etcd-client", &["system:masters"]);
        Self { authority, client }
    }

    /// A member's end of a new stream is served; gives the other.
    fn stream(&self, bed: &Bed, id: MemberId) -> DuplexStream {
        let pair = self.authority.server(&["m"]);
        let files = ServerFiles {
            certificate: pair.certificate.as_bytes(),
            key: pair.key.as_bytes(),
            client_ca: self.authority.pem.as_bytes(),
        };
        let tls = tls::mutual(files, &bed.hand.time()).unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(Arc::clone(&bed.etcd), id, far, tls));
        near
    }

    async fn channel(&self, bed: &Bed, id: MemberId) -> Channel {
        let tls = self.authority.client_tls(Some(&self.client), &["h2"]);
        let name = "m".try_into().unwrap();
        let stream = TlsConnector::from(tls).connect(name, self.stream(bed, id)).await.unwrap();
        let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
        let connector = tower::service_fn(move |_: Uri| {
            let taken = once.lock().take();
            async move { taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
        });
        Endpoint::from_static("http://m:2379").connect_with_connector(connector).await.unwrap()
    }
}

#[tokio::test]
async fn members_and_alarms_over_grpc() {
    let (bed, wires) = (Bed::of(2).await, Wires::new());
    let (first, second) = (bed.id(1).0, bed.id(2).0);
    let channel = wires.channel(&bed, bed.id(1)).await;
    let mut cluster = ClusterClient::new(channel.clone());
    let mut maintenance = MaintenanceClient::new(channel);

    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader, status.version.as_str(), status.storage_version.as_str()), (first, "3.6.6", "3.6.0"));
    assert!(status.db_size >= status.db_size_in_use && status.errors.is_empty());
    let header = status.header.unwrap();
    assert_eq!((header.member_id, header.revision), (first, 42));

    let added = MemberAddRequest { peer_ur_ls: vec![peer(3)], is_learner: true };
    let added = cluster.member_add(added).await.unwrap().into_inner();
    let learner = added.member.unwrap();
    assert!(learner.is_learner && added.members.len() == 3);
    let promoted = cluster.member_promote(MemberPromoteRequest { id: learner.id }).await.unwrap_err();
    let text = "etcdserver: can only promote a learner member which is in sync with leader";
    assert_eq!((promoted.code(), promoted.message()), (Code::FailedPrecondition, text));
    let removed = cluster.member_remove(MemberRemoveRequest { id: learner.id }).await.unwrap().into_inner();
    let names: Vec<_> = removed.members.iter().map(|member| member.name.as_str()).collect();
    assert!(names.len() == 2 && names.contains(&"m1") && names.contains(&"m2"));
    let missing = cluster.member_remove(MemberRemoveRequest { id: learner.id }).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "etcdserver: member not found"));

    let raise =
        AlarmRequest { action: AlarmAction::Activate.into(), member_id: second, alarm: AlarmType::Nospace.into() };
    maintenance.alarm(raise).await.unwrap();
    let raised = maintenance.alarm(AlarmRequest::default()).await.unwrap().into_inner().alarms;
    assert_eq!(raised.iter().map(|alarm| (alarm.member_id, alarm.alarm)).collect::<Vec<_>>(), [(second, 1)]);
    let errors = maintenance.status(StatusRequest {}).await.unwrap().into_inner().errors;
    assert_eq!(errors, [format!("memberID:{second} alarm:NOSPACE ")]);
    let lower = AlarmRequest { action: AlarmAction::Deactivate.into(), ..raise };
    assert_eq!(maintenance.alarm(lower).await.unwrap().into_inner().alarms.len(), 1);

    assert_eq!(maintenance.hash_kv(HashKvRequest::default()).await.unwrap().into_inner().hash_revision, 42);
    let future = maintenance.hash_kv(HashKvRequest { revision: 43 }).await.unwrap_err();
    assert_eq!(future.code(), Code::OutOfRange);
    maintenance.move_leader(MoveLeaderRequest { target_id: second }).await.unwrap();
    let again = maintenance.move_leader(MoveLeaderRequest { target_id: second }).await.unwrap_err();
    assert_eq!((again.code(), again.message()), (Code::FailedPrecondition, "etcdserver: not leader"));
}

#[tokio::test]
async fn a_learner_tells_its_status_alone() {
    let (bed, wires) = (Bed::of(1).await, Wires::new());
    bed.add_learner(2).await;
    let learner = bed.start_new(2);
    let channel = wires.channel(&bed, learner).await;
    let status = MaintenanceClient::new(channel.clone()).status(StatusRequest {}).await.unwrap().into_inner();
    assert!(status.is_learner);
    let listed = ClusterClient::new(channel).member_list(MemberListRequest { linearizable: false }).await.unwrap_err();
    let text = "etcdserver: rpc not supported for learner";
    assert_eq!((listed.code(), listed.message()), (Code::FailedPrecondition, text));
}

#[tokio::test]
async fn connections_end_with_the_member() {
    let (bed, wires) = (Bed::of(3).await, Wires::new());
    let mut cluster = ClusterClient::new(wires.channel(&bed, bed.id(3)).await);
    let list = MemberListRequest { linearizable: true };
    assert_eq!(cluster.member_list(list).await.unwrap().into_inner().members[0].client_ur_ls.len(), 1);
    bed.etcd.stop(bed.id(3));
    assert!(cluster.member_list(list).await.is_err());
    assert_eq!(bed.etcd.members().iter().filter(|member| member.client_urls == [client(3)]).count(), 1);
}

#[tokio::test]
async fn clients_without_a_certificate_are_turned_away() {
    let (bed, wires) = (Bed::of(1).await, Wires::new());
    let stranger = Authority::new("another").client("admin", &[]);
    for pair in [None, Some(&stranger)] {
        let tls = wires.authority.client_tls(pair, &["h2"]);
        let connecting = TlsConnector::from(tls).connect("m".try_into().unwrap(), wires.stream(&bed, bed.id(1)));
        // With TLS 1.3 a client learns of it with its first read.
        let refused = match connecting.await {
            Err(_) => true,
            Ok(mut stream) => !matches!(tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await, Ok(1..)),
        };
        assert!(refused);
    }
}
