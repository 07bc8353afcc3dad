//! What works without a quorum, what waits for one, alarms and faults.

use std::time::{Duration, Instant};

use super::{Bed, LIMIT, peer};
use crate::guest::memory::etcd::{Alarm, Error};

#[tokio::test]
async fn one_of_three_may_be_missing() {
    let bed = Bed::of(3).await;
    bed.etcd.stop(bed.id(1));
    assert_eq!(bed.etcd.leader(), Some(bed.id(2)));
    assert_eq!(bed.etcd.access_keys(bed.id(2), true).await, Ok(()));
    assert_eq!(bed.etcd.member_list(bed.id(3), true).await.unwrap().len(), 3);
}

#[tokio::test]
async fn without_a_quorum_only_what_one_member_knows_is_told() {
    let bed = Bed::of(3).await;
    let (etcd, first) = (&bed.etcd, bed.id(1));
    etcd.stop(bed.id(2));
    etcd.stop(bed.id(3));
    let began = Instant::now();
    assert_eq!(etcd.member_list(first, true).await, Err(Error::Timeout));
    assert!(began.elapsed() >= LIMIT, "etcd waits for a quorum before it refuses");
    assert_eq!(etcd.member_list(first, false).await.unwrap().len(), 3);
    assert_eq!(etcd.status(first).unwrap().leader, None);
    assert_eq!(etcd.alarms(first, None).await, Err(Error::Timeout));
    assert_eq!(etcd.access_keys(first, false).await, Err(Error::Timeout));
    assert_eq!(etcd.access_keys(first, true).await, Err(Error::Timeout));
    assert_eq!(etcd.member_add(first, &[peer(4)], true).await.unwrap_err(), Error::Unhealthy);
    assert_eq!(etcd.member_remove(first, bed.id(3)).await, Err(Error::Timeout), "who is down may go, by a quorum");
    assert_eq!(etcd.member_promote(first, bed.id(3)).await, Err(Error::NoLeader));
    assert_eq!(etcd.move_leader(first, bed.id(2)).await, Err(Error::NotLeader));
}

#[tokio::test]
async fn a_call_that_waits_goes_on_when_the_quorum_is_back() {
    let mut bed = Bed::of(3).await;
    bed.etcd.stop(bed.id(2));
    bed.etcd.stop(bed.id(3));
    // Long enough for any machine: the call ends by an event.
    std::sync::Arc::get_mut(&mut bed.etcd).unwrap().request_timeout = Duration::from_secs(60);
    let listing = bed.etcd.member_list(bed.id(1), true);
    tokio::pin!(listing);
    assert!(futures::poll!(&mut listing).is_pending());
    bed.etcd.start(bed.id(2)).unwrap();
    assert_eq!(listing.await.unwrap().len(), 3);
}

#[tokio::test]
async fn who_is_cut_off_knows_the_members_of_then() {
    let bed = Bed::of(3).await;
    let (etcd, first) = (&bed.etcd, bed.id(1));
    etcd.isolate(first, true);
    assert_eq!((etcd.leader(), etcd.status(first).unwrap().leader), (Some(bed.id(2)), None));
    etcd.member_remove(bed.id(2), first).await.unwrap();
    assert_eq!(etcd.member_list(first, false).await.unwrap().len(), 3);
    assert_eq!(etcd.member_list(first, true).await, Err(Error::Timeout));
    assert!(etcd.is_running(first), "nobody could tell it");
    etcd.isolate(first, false);
    assert!(!etcd.is_running(first));
}

#[tokio::test]
async fn leadership_moves_to_voters_that_run() {
    let bed = Bed::of(3).await;
    let (etcd, first) = (&bed.etcd, bed.id(1));
    assert_eq!(etcd.move_leader(bed.id(2), first).await, Err(Error::NotLeader));
    assert_eq!(etcd.move_leader(first, crate::guest::memory::etcd::MemberId(7)).await, Err(Error::BadTransferee));
    etcd.stop(bed.id(3));
    assert_eq!(etcd.move_leader(first, bed.id(3)).await, Err(Error::TransferTimeout));
    assert_eq!(etcd.move_leader(first, bed.id(2)).await, Ok(()));
    assert_eq!(etcd.leader(), Some(bed.id(2)));
}

#[tokio::test]
async fn a_full_database_takes_no_writes_until_its_alarm_is_taken_back() {
    let bed = Bed::of(3).await;
    let (etcd, first, second) = (&bed.etcd, bed.id(1), bed.id(2));
    etcd.set_db_size(second, 3 << 30);
    assert_eq!(etcd.alarms(first, None).await.unwrap(), [(second, Alarm::NoSpace)]);
    assert_eq!(etcd.access_keys(first, true).await, Err(Error::NoSpace));
    assert_eq!(etcd.access_keys(first, false).await, Ok(()));
    etcd.defragment(second).unwrap();
    assert_eq!(etcd.status(second).unwrap().db_size, None);
    assert_eq!(etcd.alarm_deactivate(first, second, Alarm::NoSpace).await, Ok(true));
    assert_eq!(etcd.alarm_deactivate(first, second, Alarm::NoSpace).await, Ok(false));
    assert_eq!(etcd.access_keys(first, true).await, Ok(()));
}

#[tokio::test]
async fn corrupt_data_is_served_to_nobody() {
    let bed = Bed::of(3).await;
    let (etcd, second) = (&bed.etcd, bed.id(2));
    let hash = |id| etcd.hash(id, 42, 42).unwrap();
    assert_eq!(hash(bed.id(1)), hash(second));
    etcd.set_corrupt(second, true);
    assert_ne!(hash(bed.id(1)), hash(second));
    assert_eq!(etcd.alarms(second, Some(Alarm::Corrupt)).await.unwrap(), [(second, Alarm::Corrupt)]);
    assert_eq!(etcd.access_keys(bed.id(1), false).await, Err(Error::Corrupt));
    etcd.set_corrupt(second, false);
    assert_eq!(hash(bed.id(1)), hash(second));
    assert_eq!(etcd.access_keys(bed.id(1), true).await, Ok(()));
}

#[tokio::test]
async fn a_database_that_stays_full_raises_its_alarm_again() {
    let bed = Bed::of(3).await;
    let (etcd, first, second) = (&bed.etcd, bed.id(1), bed.id(2));
    etcd.set_full(second, true);
    assert_eq!(etcd.alarms_of(second), [Alarm::NoSpace]);
    etcd.defragment(second).unwrap();
    assert_eq!(etcd.alarm_deactivate(first, second, Alarm::NoSpace).await, Ok(true));
    assert_eq!(etcd.access_keys(first, true).await, Ok(()), "another member's database has room");
    assert_eq!(etcd.access_keys(second, true).await, Err(Error::NoSpace));
    assert_eq!(etcd.access_keys(first, true).await, Err(Error::NoSpace), "the alarm is everybody's");
    etcd.set_full(second, false);
    assert!(!etcd.has_alarm(Alarm::NoSpace));
    assert_eq!(etcd.access_keys(second, true).await, Ok(()));
}

#[tokio::test]
async fn a_slow_leader_slows_writes() {
    let bed = Bed::of(3).await;
    let (etcd, first) = (&bed.etcd, bed.id(1));
    etcd.slow_disk(first, Duration::from_millis(20));
    let began = Instant::now();
    assert_eq!(etcd.access_keys(bed.id(2), true).await, Ok(()));
    assert!(began.elapsed() >= Duration::from_millis(20));
    etcd.slow_disk(first, Duration::from_secs(60));
    assert_eq!(etcd.access_keys(bed.id(2), true).await, Err(Error::Timeout));
    assert_eq!(etcd.access_keys(bed.id(2), false).await, Ok(()));
}
