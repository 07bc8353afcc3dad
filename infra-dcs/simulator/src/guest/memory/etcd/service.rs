//! A member's gRPC services over one stream.

use std::{sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status, service::Routes};

use super::{Alarm, EtcdCluster, Member, MemberId, MemberStatus};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Calls of one connection that are served at a time.
const CALLS: u32 = 64;
/// Bytes of a database for each of its revisions, about, and of an empty one.
const REVISION_BYTES: u64 = 1_024;
const EMPTY_BYTES: u64 = 1 << 20;

#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
pub(in crate::guest::memory) mod api {
    tonic::include_proto!("etcdserverpb");
}

use api::{
    alarm_request::AlarmAction,
    cluster_server::{Cluster, ClusterServer},
    maintenance_server::{Maintenance, MaintenanceServer},
};

/// Serves a member to whoever is at the other end of `stream`, until one of the three ends. TLS is that of
/// [`tls::mutual`](crate::guest::memory::tls::mutual).
pub async fn serve<S>(cluster: Arc<EtcdCluster>, id: MemberId, stream: S, tls: Arc<ServerConfig>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(stopped) = cluster.serving(id) else { return };
    let serving = async {
        let stream = match timeout(HANDSHAKE_LIMIT, TlsAcceptor::from(tls).accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(member = %id, %error, "TLS handshake with etcd failed."),
            Err(_) => return tracing::debug!(member = %id, "TLS handshake with etcd took too long."),
        };
        let service = Service { cluster, id };
        let routes = Routes::new(ClusterServer::new(service.clone())).add_service(MaintenanceServer::new(service));
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(CALLS)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes.prepare()));
        if let Err(error) = connection.await {
            tracing::trace!(member = %id, %error, "Connection to etcd ended.");
        }
    };
    tokio::select! {
        () = stopped.cancelled() => {}
        () = serving => {}
    }
}

#[derive(Clone)]
struct Service {
    cluster: Arc<EtcdCluster>,
    id: MemberId,
}

impl Service {
    fn header(&self) -> api::ResponseHeader {
        let (cluster_id, raft_term) = {
            let model = &self.cluster.state.lock().model;
            (model.cluster_id(), model.term())
        };
        let revision = i64::try_from(self.cluster.keys.revision()).unwrap_or(i64::MAX);
        api::ResponseHeader { cluster_id, member_id: self.id.0, revision, raft_term }
    }

    /// The header of calls that concern members, which names no revision.
    fn member_header(&self) -> api::ResponseHeader {
        api::ResponseHeader { revision: 0, ..self.header() }
    }

    /// Size of the database, and of what is used of it.
    fn sizes(&self, status: &MemberStatus) -> (i64, i64) {
        let used = EMPTY_BYTES + self.cluster.keys.revision() * REVISION_BYTES;
        let size = status.db_size.unwrap_or(used);
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        (number(size), number(used.min(size)))
    }
}

fn shown(member: Member) -> api::Member {
    let Member { id, name, peer_urls, client_urls, is_learner } = member;
    api::Member { id: id.0, name, peer_ur_ls: peer_urls, client_ur_ls: client_urls, is_learner }
}

fn all_shown(members: Vec<Member>) -> Vec<api::Member> {
    members.into_iter().map(shown).collect()
}

fn alarm_type(alarm: Alarm) -> api::AlarmType {
    match alarm {
        Alarm::NoSpace => api::AlarmType::Nospace,
        Alarm::Corrupt => api::AlarmType::Corrupt,
    }
}

fn read_alarm(kind: i32) -> Option<Alarm> {
    match api::AlarmType::try_from(kind) {
        Ok(api::AlarmType::Nospace) => Some(Alarm::NoSpace),
        Ok(api::AlarmType::Corrupt) => Some(Alarm::Corrupt),
        Ok(api::AlarmType::None) | Err(_) => None,
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn member_add(
        &self,
        request: Request<api::MemberAddRequest>,
    ) -> Result<Response<api::MemberAddResponse>, Status> {
        let api::MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let (member, members) = self.cluster.member_add(self.id, &peer_ur_ls, is_learner).await?;
        let header = Some(self.member_header());
        Ok(Response::new(api::MemberAddResponse { header, member: Some(shown(member)), members: all_shown(members) }))
    }

    async fn member_remove(
        &self,
        request: Request<api::MemberRemoveRequest>,
    ) -> Result<Response<api::MemberRemoveResponse>, Status> {
        let members = self.cluster.member_remove(self.id, MemberId(request.into_inner().id)).await?;
        Ok(Response::new(api::MemberRemoveResponse { header: Some(self.member_header()), members: all_shown(members) }))
    }

    async fn member_update(
        &self,
        request: Request<api::MemberUpdateRequest>,
    ) -> Result<Response<api::MemberUpdateResponse>, Status> {
        let api::MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let members = self.cluster.member_update(self.id, MemberId(id), &peer_ur_ls).await?;
        Ok(Response::new(api::MemberUpdateResponse { header: Some(self.member_header()), members: all_shown(members) }))
    }

    async fn member_list(
        &self,
        request: Request<api::MemberListRequest>,
    ) -> Result<Response<api::MemberListResponse>, Status> {
        let members = self.cluster.member_list(self.id, request.into_inner().linearizable).await?;
        Ok(Response::new(api::MemberListResponse { header: Some(self.member_header()), members: all_shown(members) }))
    }

    async fn member_promote(
        &self,
        request: Request<api::MemberPromoteRequest>,
    ) -> Result<Response<api::MemberPromoteResponse>, Status> {
        let members = self.cluster.member_promote(self.id, MemberId(request.into_inner().id)).await?;
        Ok(Response::new(api::MemberPromoteResponse {
            header: Some(self.member_header()),
            members: all_shown(members),
        }))
    }
}

#[tonic::async_trait]
impl Maintenance for Service {
    async fn alarm(&self, request: Request<api::AlarmRequest>) -> Result<Response<api::AlarmResponse>, Status> {
        let request = request.into_inner();
        let (id, kind) = (MemberId(request.member_id), read_alarm(request.alarm));
        let changed = |is_new: bool, alarm| if is_new { vec![(id, alarm)] } else { Vec::new() };
        let alarms = match (AlarmAction::try_from(request.action), kind) {
            (Ok(AlarmAction::Activate), Some(alarm)) => {
                changed(self.cluster.alarm_activate(self.id, id, alarm).await?, alarm)
            }
            (Ok(AlarmAction::Deactivate), Some(alarm)) => {
                changed(self.cluster.alarm_deactivate(self.id, id, alarm).await?, alarm)
            }
            (Ok(AlarmAction::Get), kind) => self.cluster.alarms(self.id, kind).await?,
            // Nothing is changed, but a quorum is needed to say so.
            _ => self.cluster.alarms(self.id, None).await.map(|_| Vec::new())?,
        };
        let shown = |(member, alarm): (MemberId, Alarm)| api::AlarmMember {
            member_id: member.0,
            alarm: alarm_type(alarm).into(),
        };
        let alarms = alarms.into_iter().map(shown).collect();
        Ok(Response::new(api::AlarmResponse { header: Some(self.header()), alarms }))
    }

    async fn status(&self, _: Request<api::StatusRequest>) -> Result<Response<api::StatusResponse>, Status> {
        let status = self.cluster.status(self.id)?;
        let (db_size, db_size_in_use) = self.sizes(&status);
        let mut errors = Vec::new();
        if status.leader.is_none() {
            errors.push(super::Error::NoLeader.to_string());
        }
        errors.extend(
            status
                .alarms
                .iter()
                .map(|(member, alarm)| format!("memberID:{} alarm:{} ", member.0, alarm_type(*alarm).as_str_name())),
        );
        // Members of etcd 3.5 know neither of these three.
        let is_recent = !status.version.starts_with("3.5.");
        let storage = status.version.rsplit_once('.').map_or_else(String::new, |(minor, _)| format!("{minor}.0"));
        Ok(Response::new(api::StatusResponse {
            header: Some(self.header()),
            version: status.version,
            db_size,
            leader: status.leader.map_or(0, |leader| leader.0),
            raft_index: status.index,
            raft_term: status.term,
            raft_applied_index: status.index,
            errors,
            db_size_in_use,
            is_learner: status.is_learner,
            storage_version: if is_recent { storage } else { String::new() },
            db_size_quota: if is_recent { i64::try_from(status.quota).unwrap_or(i64::MAX) } else { 0 },
            downgrade_info: is_recent.then(api::DowngradeInfo::default),
        }))
    }

    async fn defragment(
        &self,
        _: Request<api::DefragmentRequest>,
    ) -> Result<Response<api::DefragmentResponse>, Status> {
        self.cluster.defragment(self.id)?;
        Ok(Response::new(api::DefragmentResponse::default()))
    }

    async fn hash_kv(&self, request: Request<api::HashKvRequest>) -> Result<Response<api::HashKvResponse>, Status> {
        let current = self.header().revision;
        let asked = request.into_inner().revision;
        let (hash, revision) = self.cluster.hash(self.id, if asked == 0 { current } else { asked }, current)?;
        Ok(Response::new(api::HashKvResponse {
            header: Some(self.header()),
            hash,
            compact_revision: -1,
            hash_revision: revision,
        }))
    }

    async fn move_leader(
        &self,
        request: Request<api::MoveLeaderRequest>,
    ) -> Result<Response<api::MoveLeaderResponse>, Status> {
        self.cluster.move_leader(self.id, MemberId(request.into_inner().target_id)).await?;
        Ok(Response::new(api::MoveLeaderResponse::default()))
    }
}
