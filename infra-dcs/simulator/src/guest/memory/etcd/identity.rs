//! Identities as etcd computes them (`api/membership/member.go`, `cluster.go`), so that they look and collide alike.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::model::MemberId;

/// Name of a cluster whose token nobody set.
const TOKEN: &str = "etcd-cluster";

fn hashed(bytes: &[u8]) -> u64 {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    hash.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The first member of a new cluster.
pub fn bootstrapped(peer_url: &str) -> MemberId {
    MemberId(hashed(format!("{peer_url}{TOKEN}").as_bytes()))
}

/// A member that is added at a time, in milliseconds since the epoch.
pub fn added(peer_urls: &[String], now: u64) -> MemberId {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    MemberId(hashed(format!("{}{}", urls.concat(), now / 1_000).as_bytes()))
}

/// The cluster that these members found.
pub fn cluster(members: &[MemberId]) -> u64 {
    let bytes: Vec<u8> = members.iter().flat_map(|id| id.0.to_be_bytes()).collect();
    hashed(&bytes)
}
