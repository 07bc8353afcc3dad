//! Boot media as they are recorded, and those that a lost call may yet bring. Pure.
//!
//! An upload whose answer is lost may end long after its call: when its file was removed already, it lies there again,
//! with what a guest joins by. So who removes a medium of which that may be true removes it once more, later.

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};

use super::record::{Attempt, Media, Record};

/// Time in which an upload may end whose outcome is not known: the limit of the call (`site`), and time for a host to put
/// away what it has received.
const LINGERS: SignedDuration = SignedDuration::from_secs(180);

/// File name of an attempt's boot medium.
pub(super) fn name(machine: &str, attempt: &Attempt) -> String {
    format!("{machine}-{}.iso", attempt.id.split('-').next().unwrap_or_default())
}

/// A digest of boot data: tells whether a medium was made from what there is now.
pub(super) fn digest_of(data: &[u8]) -> String {
    hex::encode(&digest::digest(&digest::SHA256, data).as_ref()[..8])
}

/// Until when uploads may end that were begun up to now.
pub(super) fn lingers_until(now: Timestamp) -> Timestamp {
    now.checked_add(LINGERS).unwrap_or(Timestamp::MAX)
}

/// The medium that an attempt may have uploaded without coming to record it: known by its name alone.
pub(super) fn unrecorded(machine: &str, record: &Record, now: Timestamp) -> Option<Media> {
    let (placement, attempt) = (record.placement.as_ref()?, record.attempt.as_ref()?);
    Some(Media {
        path: name(machine, attempt),
        datastore: placement.media_datastore.clone(),
        data: String::new(),
        slots: Vec::new(),
        detached: true,
        deleted: false,
        until: record.uploading.then(|| lingers_until(now)),
        on_power: false,
    })
}

/// The record of a medium after its removal, which began at `now`.
pub(super) fn removed(media: Media, now: Timestamp) -> Media {
    Media { detached: true, deleted: true, until: media.until.filter(|until| now < *until), ..media }
}

/// What is still to be done to be rid of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing: it is gone for good.
    Nothing,
    /// It is to be removed, maybe once more.
    Remove,
    /// It is gone, and may come back until then.
    MayReturn(Timestamp),
}

pub(super) fn rest(media: &Media, now: Timestamp) -> Rest {
    match media.until {
        _ if !media.deleted => Rest::Remove,
        None => Rest::Nothing,
        Some(until) if now < until => Rest::MayReturn(until),
        Some(_) => Rest::Remove,
    }
}
