//! etcd of a workload cluster: who its members are, and the three calls that change them.
//!
//! One client speaks to one member over one connection, which the caller opens (in production a port-forward to the
//! member's pod). The server must prove with a certificate of the cluster's etcd CA that it serves the node asked for.

mod tls;

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};

pub use tls::{TlsError, client_config, peer_certificate};

#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
mod api {
    tonic::include_proto!("etcdserverpb");
}

use api::{
    AlarmRequest, AlarmType, MemberListRequest, MemberRemoveRequest, MoveLeaderRequest, StatusRequest,
    cluster_client::ClusterClient, maintenance_client::MaintenanceClient,
};

/// Limits of speaking to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the handshakes of a new connection.
    pub connect: Duration,
    /// Of one call.
    pub call: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), call: Duration::from_secs(15) }
    }
}

/// How members are spoken to.
#[derive(Clone)]
pub struct Manner {
    /// Our certificate, and whom we trust.
    pub tls: Arc<rustls::ClientConfig>,
    /// How long we wait.
    pub limits: Limits,
}

/// A member of an etcd cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Identity; above what JSON numbers can hold exactly.
    pub id: u64,
    /// Name of its node; empty until it has started for the first time.
    pub name: String,
    /// Whether it only follows: it does not vote yet.
    pub learner: bool,
    /// Alarms it raised.
    pub alarms: Vec<Alarm>,
}

/// What a member complains about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Its database is full.
    NoSpace,
    /// Its data differs from its peers'.
    Corrupt,
    /// An alarm that this release does not know.
    Other,
}

impl Alarm {
    /// As etcd writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
            Self::Other => "UNKNOWN",
        }
    }
}

/// An etcd cluster as one of its members sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Its members.
    pub members: Vec<Member>,
    /// Identity of the leader; 0 while there is none.
    pub leader: u64,
}

impl View {
    /// The member of a node.
    pub fn member(&self, node: &str) -> Option<&Member> {
        self.members.iter().find(|member| !node.is_empty() && member.name == node)
    }

    /// Whether a node's member leads.
    pub fn leads(&self, node: &str) -> bool {
        self.member(node).is_some_and(|member| member.id == self.leader)
    }
}

/// Why etcd could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot connect to etcd on {node}: {reason}")]
    Connect {
        /// Node of the member.
        node: String,
        /// What went wrong.
        reason: String,
    },
    /// A call failed.
    #[error("etcd on {node} refused {call}: {reason}")]
    Call {
        /// Node of the member.
        node: String,
        /// The call.
        call: &'static str,
        /// What etcd said.
        reason: String,
    },
    /// A member that never started when it was looked at has done so meanwhile.
    #[error("the etcd member {0} has started meanwhile")]
    Started(String),
    /// A member that is alone cannot leave.
    #[error("member {0:x} is the only member of its cluster")]
    OnlyMember(u64),
}

/// A connection to one member.
pub struct Client {
    node: String,
    cluster: ClusterClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

impl Client {
    /// Speaks to the member on `node` over `stream`.
    pub async fn over<S>(stream: S, manner: &Manner, node: &str) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |reason: String| Error::Connect { node: node.to_owned(), reason };
        let name = ServerName::try_from(node.to_owned()).map_err(|error| failed(error.to_string()))?;
        let connecting = async {
            let stream = tokio_rustls::TlsConnector::from(Arc::clone(&manner.tls)).connect(name, stream).await;
            let stream = stream.map_err(|error| failed(error.to_string()))?;
            // The channel asks its connector again after a loss; there is one stream only, so that fails then.
            let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
            let connector = tower::service_fn(move |_: Uri| {
                let taken = once.lock().take();
                async move { taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
            });
            let endpoint =
                Endpoint::try_from(format!("http://{node}:2379")).map_err(|error| failed(error.to_string()))?;
            let endpoint = endpoint.timeout(manner.limits.call);
            endpoint.connect_with_connector(connector).await.map_err(|error| failed(error.to_string()))
        };
        let channel = tokio::time::timeout(manner.limits.connect, connecting)
            .await
            .map_err(|_| failed(format!("no answer within {} s", manner.limits.connect.as_secs())))??;
        Ok(Self {
            node: node.to_owned(),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel),
        })
    }

    /// Members, leader and alarms.
    pub async fn view(&mut self) -> Result<View, Error> {
        let status = self.maintenance.status(StatusRequest {}).await;
        let leader = status.map_err(|status| self.refused("Status", &status))?.into_inner().leader;
        let alarms = self.maintenance.alarm(AlarmRequest::default()).await;
        let alarms = alarms.map_err(|status| self.refused("Alarm", &status))?.into_inner().alarms;
        let mut members = self.members().await?;
        for member in &mut members {
            let raised = alarms.iter().filter(|alarm| alarm.member_id == member.id);
            member.alarms = raised.filter_map(|alarm| known_alarm(alarm.alarm)).collect();
        }
        Ok(View { members, leader })
    }

    /// Removes a member; one that is gone is fine. One that has another name by now than `name` stays: it has started
    /// since that was decided.
    pub async fn remove(&mut self, id: u64, name: &str) -> Result<(), Error> {
        let members = self.members().await?;
        let Some(found) = members.iter().find(|member| member.id == id) else { return Ok(()) };
        if found.name != name {
            return Err(Error::Started(found.name.clone()));
        }
        if members.len() == 1 {
            return Err(Error::OnlyMember(id));
        }
        let removed = self.cluster.member_remove(MemberRemoveRequest { id }).await;
        removed.map(drop).map_err(|status| self.refused("MemberRemove", &status))
    }

    /// Makes another member lead; this one must lead.
    pub async fn move_leader(&mut self, to: u64) -> Result<(), Error> {
        let moved = self.maintenance.move_leader(MoveLeaderRequest { target_id: to }).await;
        moved.map(drop).map_err(|status| self.refused("MoveLeader", &status))
    }

    async fn members(&mut self) -> Result<Vec<Member>, Error> {
        // Linearizable: a member that lags behind must not answer for the cluster.
        let listed = self.cluster.member_list(MemberListRequest { linearizable: true }).await;
        let listed = listed.map_err(|status| self.refused("MemberList", &status))?.into_inner().members;
        let member = |member: api::Member| Member {
            id: member.id,
            name: member.name,
            learner: member.is_learner,
            alarms: vec![],
        };
        Ok(listed.into_iter().map(member).collect())
    }

    fn refused(&self, call: &'static str, status: &tonic::Status) -> Error {
        let reason = format!("{}: {}", status.code(), status.message());
        Error::Call { node: self.node.clone(), call, reason }
    }
}

fn known_alarm(alarm: i32) -> Option<Alarm> {
    match AlarmType::try_from(alarm) {
        Ok(AlarmType::None) => None,
        Ok(AlarmType::Nospace) => Some(Alarm::NoSpace),
        Ok(AlarmType::Corrupt) => Some(Alarm::Corrupt),
        Err(_) => Some(Alarm::Other),
    }
}

#[cfg(test)]
mod tests;
