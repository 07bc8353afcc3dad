//! What must survive a crash and a move of the disks of a pool: an annotation. The status is rebuilt from it. Pure.
//!
//! Only the pool controller writes it. A record is written before the call that it speaks of, under the pool's resource
//! version: nobody can claim an entry while its disks are being deleted, and no call goes unremembered.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::DCSIpHostnamePool;

/// The annotation; its value is JSON with a version.
pub const ANNOTATION: &str = "infrastructure.cluster.x-k8s.io/dcs-disks";
/// Annotation by which an operator has lost volumes made anew, empty: `ip/slot`, separated by commas.
pub const RECREATE: &str = "infrastructure.cluster.x-k8s.io/recreate-volumes";
/// The version written.
const VERSION: u32 = 1;

/// Identity of a disk within its pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    /// Key of the entry.
    pub ip: String,
    /// Number of the disk in its entry.
    pub slot: i64,
}

impl Key {
    /// The disk of a slot of an entry.
    pub fn new(ip: &str, slot: i64) -> Self {
        Self { ip: ip.to_owned(), slot }
    }

    /// Name of its volume: pool, and the first 8 hex digits of the SHA-256 of `ip/slot`.
    pub fn volume_name(&self, pool: &str) -> String {
        let hash = digest::digest(&digest::SHA256, self.to_string().as_bytes());
        format!("{pool}-{}", hex::encode(&hash.as_ref()[..4]))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.ip, self.slot)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (ip, slot) = text.split_once('/').ok_or_else(|| format!("{text:?} is no ip/slot"))?;
        let slot = slot.parse().map_err(|_| format!("{text:?} is no ip/slot"))?;
        Ok(Self::new(ip, slot))
    }
}

/// All records of a pool.
pub type Disks = BTreeMap<Key, Record>;

/// What is recorded of one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Name of the `DCSCluster` whose site holds the volume.
    pub cluster: String,
    /// Name of the Machine that it serves, or served last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// That Machine's UID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub machine_uid: String,
    /// The call that makes the volume, written before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// URN of the volume, once it was seen whole. From here on only this one counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Its size in GiB.
    #[serde(skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Its datastore.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub datastore: String,
    /// VM that holds it, or may: written before it is attached, forgotten once it is seen free. Without a volume, the VM
    /// of which a disk is to be taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// VM whose machine asked for it to be taken out: it is never put in there again. The machine deletes the VM only
    /// once it reads this, because a call that puts it in could still be on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// A guest has had it: no file system on it means that data is lost.
    #[serde(skip_serializing_if = "is_false")]
    pub used: bool,
    /// The volume was made otherwise, and does not have its name and properties yet.
    #[serde(skip_serializing_if = "is_false")]
    pub foreign: bool,
    /// It is being deleted: written before the call, never taken back.
    #[serde(skip_serializing_if = "is_false")]
    pub ending: bool,
    /// When it was last given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freed: Option<Timestamp>,
    /// Work under way at the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// What failed last, until it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A call that makes a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was recorded.
    pub at: Timestamp,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Makes the volume.
    Create,
    /// Attaches it.
    Attach,
    /// Detaches it.
    Detach,
    /// Deletes it.
    Delete,
}

/// Work under way at the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The site's id.
    pub id: String,
    /// What it does.
    pub work: Work,
    /// Since when.
    pub since: Timestamp,
}

/// Something that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For people.
    pub message: String,
    /// It is tried again from here on.
    pub until: Timestamp,
    /// It does not pass by itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub grave: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde wants")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde wants")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    disks: Disks,
}

/// The records of a pool; an error when there are some that cannot be read, because acting without them could make a
/// second volume, or format one that holds data.
pub fn of_pool(pool: &DCSIpHostnamePool) -> Result<Disks, String> {
    let annotations = pool.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(ANNOTATION)) else {
        return Ok(Disks::new());
    };
    let document: Document =
        serde_json::from_str(text).map_err(|error| format!("annotation {ANNOTATION} is not readable: {error}"))?;
    if document.version > VERSION {
        return Err(format!("annotation {ANNOTATION} has version {}, this release reads {VERSION}", document.version));
    }
    Ok(document.disks)
}

/// Records as the pool's annotation; none when nothing is recorded.
pub fn annotation(disks: &Disks) -> Option<String> {
    if disks.is_empty() {
        return None;
    }
    serde_json::to_string(&Document { version: VERSION, disks: disks.clone() }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DCSIpHostnamePoolSpec;

    #[test]
    fn a_volume_is_found_by_a_name_that_never_changes() {
        assert_eq!(Key::new("10.0.0.7", 0).volume_name("pool"), "pool-48fbf301");
    }

    #[test]
    fn records_survive_the_annotation_and_unreadable_ones_stop_everything() {
        let mut pool = DCSIpHostnamePool::new("p", DCSIpHostnamePoolSpec::default());
        assert_eq!(of_pool(&pool), Ok(Disks::new()));
        let record = Record { cluster: "c".into(), volume: Some("urn:v".into()), used: true, ..Record::default() };
        let disks = Disks::from([(Key::new("10.0.0.7", 3), record)]);
        let mut write = |text: String| {
            pool.metadata.annotations = Some([(ANNOTATION.to_owned(), text)].into());
            of_pool(&pool)
        };
        assert_eq!(write(annotation(&disks).unwrap()), Ok(disks));
        for bad in ["{", r#"{"version": 9, "disks": {}}"#, r#"{"version": 1, "disks": {"10.0.0.7": {}}}"#] {
            assert!(write(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
