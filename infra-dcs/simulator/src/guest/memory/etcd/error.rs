//! What etcd answers when it refuses, with etcd's codes and texts (`api/v3rpc/rpctypes`): clients match on both.

use tonic::{Code, Status};

/// A refused call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No member has that id, or it was removed.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// A member of that id is there already.
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    /// Another member has that peer URL.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// Peer URLs that are none.
    #[error("etcdserver: given member URLs are invalid")]
    BadUrls,
    /// Too few of the members that would be left have ever started.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Too few members are connected to change the membership.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// A voter cannot be promoted.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// The learner lags behind.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// There is a learner already.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// Learners serve no more than their status.
    #[error("etcdserver: rpc not supported for learner")]
    NotSupportedForLearner,
    /// There is no leader.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// Only the leader does this.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// Leadership cannot go to that member.
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    /// The other member did not take over.
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TransferTimeout,
    /// No quorum answered in time.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The member does not run.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The database is full.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The data of members differs.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// A hash was asked for a revision that is not there yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
}

impl Error {
    /// gRPC's code for it.
    pub fn code(self) -> Code {
        match self {
            Self::MemberNotFound => Code::NotFound,
            Self::BadUrls => Code::InvalidArgument,
            Self::MemberExists
            | Self::PeerUrlExists
            | Self::NotEnoughStarted
            | Self::NotLearner
            | Self::LearnerNotReady
            | Self::TooManyLearners
            | Self::NotSupportedForLearner
            | Self::NotLeader
            | Self::BadTransferee => Code::FailedPrecondition,
            Self::Unhealthy | Self::NoLeader | Self::Timeout | Self::Stopped => Code::Unavailable,
            Self::NoSpace => Code::ResourceExhausted,
            Self::Corrupt => Code::DataLoss,
            Self::FutureRevision => Code::OutOfRange,
            // etcd has no code for this one either.
            Self::TransferTimeout => Code::Unknown,
        }
    }

    /// Whether etcd waits before it answers so: a quorum may yet come back.
    pub(super) fn is_late(self) -> bool {
        matches!(self, Self::Timeout | Self::NoLeader | Self::TransferTimeout)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Why a member's process does not come up; the words are those of its log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The cluster has members already.
    #[error("the cluster is bootstrapped already")]
    Bootstrapped,
    /// There is nothing to start from: no data, and no place among the members.
    #[error("member {0} has no data on this machine")]
    NoData(super::MemberId),
    /// It was taken out of the cluster.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// No member waits for this peer URL.
    #[error("couldn't find local name {name:?} in the initial cluster configuration")]
    NotAdded {
        /// Name of the member that wants to start.
        name: String,
    },
    /// `--initial-cluster` is not what the members are.
    #[error("error validating peerURLs: member count is unequal")]
    CountUnequal,
    /// A URL of `--initial-cluster` belongs to nobody.
    #[error("error validating peerURLs: unmatched member while checking PeerURLs ({url:?})")]
    Unmatched {
        /// The URL.
        url: String,
    },
    /// Nobody who is running could be asked for the members.
    #[error("cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs")]
    Unreachable,
}
