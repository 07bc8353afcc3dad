//! Members that come, are promoted, and go.

use super::{Bed, HEALTHY, peer};
use crate::guest::memory::etcd::{Error, MemberId, StartError};

#[tokio::test]
async fn identities_are_those_of_etcd() {
    use crate::guest::memory::etcd::identity;
    // What a single etcd with its defaults calls itself.
    let id = identity::bootstrapped("http://localhost:2380");
    assert_eq!((id.to_string(), identity::cluster(&[id])), ("8e9e05c52164694d".into(), 0xcdf8_1819_4e3a_8c32));
}

#[tokio::test]
async fn a_learner_becomes_a_voter_when_it_has_caught_up() {
    let bed = Bed::of(1).await;
    let (etcd, first) = (&bed.etcd, bed.id(1));
    let (learner, members) = etcd.member_add(first, &[peer(2)], true).await.unwrap();
    assert_eq!((learner.is_learner, learner.name.as_str(), members.len()), (true, "", 2));
    assert_eq!(etcd.leader(), Some(first), "a learner has no vote that could be missed");
    assert_eq!(etcd.member_promote(first, learner.id).await, Err(Error::LearnerNotReady), "it has not started");
    bed.hand.advance(1_000);
    assert_eq!(etcd.member_add(first, &[peer(3)], true).await.unwrap_err(), Error::TooManyLearners);

    assert_eq!(bed.start_new(2), learner.id);
    assert_eq!(etcd.member_promote(first, learner.id).await, Err(Error::LearnerNotReady), "it lags behind");
    let status = etcd.status(learner.id).unwrap();
    assert_eq!((status.is_learner, status.leader), (true, Some(first)));
    assert_eq!(etcd.member_list(learner.id, false).await, Err(Error::NotSupportedForLearner));
    assert_eq!(etcd.access_keys(learner.id, false).await, Err(Error::NotSupportedForLearner));

    bed.hand.advance(200);
    let members = etcd.member_promote(first, learner.id).await.unwrap();
    assert!(members.iter().all(|member| !member.is_learner && member.is_started()));
    assert_eq!(etcd.member_promote(first, learner.id).await, Err(Error::NotLearner));
    assert_eq!(etcd.member_list(learner.id, true).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_a_member_is_refused() {
    let bed = Bed::of(1).await;
    let (etcd, first) = (&bed.etcd, bed.id(1));
    let add = async |urls: &[&str]| {
        let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
        etcd.member_add(first, &urls, true).await.unwrap_err()
    };
    for bad in [&[][..], &["10.0.0.2:2380"], &["https://10.0.0.2"], &["https://10.0.0.2:2380/path"]] {
        assert_eq!(add(bad).await, Error::BadUrls, "{bad:?}");
    }
    assert_eq!(add(&[&peer(1)]).await, Error::PeerUrlExists);
    let nobody = MemberId(7);
    assert_eq!(etcd.member_remove(first, nobody).await, Err(Error::MemberNotFound));
    assert_eq!(etcd.member_promote(first, nobody).await, Err(Error::MemberNotFound));
    assert_eq!(etcd.member_update(first, nobody, &[peer(9)]).await, Err(Error::MemberNotFound));
    assert_eq!(etcd.member_remove(nobody, first).await, Err(Error::Stopped), "nobody listens there");
}

#[tokio::test]
async fn an_added_voter_counts_before_it_has_started() {
    let bed = Bed::of(1).await;
    let (etcd, first) = (&bed.etcd, bed.id(1));
    let second = etcd.member_add(first, &[peer(2)], false).await.unwrap().0.id;
    assert_eq!(etcd.leader(), None, "one of two is no quorum");
    assert_eq!(etcd.member_list(first, true).await, Err(Error::Timeout));
    bed.hand.advance(1_000);
    assert_eq!(etcd.member_add(first, &[peer(3)], false).await.unwrap_err(), Error::NotEnoughStarted);
    assert_eq!(bed.start_new(2), second);
    assert_eq!(etcd.leader(), Some(first));
    assert_eq!(etcd.member_list(first, true).await.unwrap().len(), 2);
}

#[tokio::test]
async fn only_peers_that_are_connected_for_some_time_count() {
    let bed = Bed::of(2).await;
    bed.etcd.stop(bed.id(2));
    bed.etcd.start(bed.id(2)).unwrap();
    let add = async || bed.etcd.member_add(bed.id(1), &[peer(3)], true).await.map(drop);
    assert_eq!(add().await, Err(Error::Unhealthy));
    bed.hand.advance(HEALTHY);
    assert_eq!(add().await, Ok(()));
}

#[tokio::test]
async fn a_removed_member_ends_and_never_comes_back() {
    let bed = Bed::of(3).await;
    let (etcd, third) = (&bed.etcd, bed.id(3));
    assert_eq!(etcd.member_remove(bed.id(1), third).await.unwrap().len(), 2);
    assert!(!etcd.is_running(third));
    assert_eq!(etcd.start(third), Err(StartError::Removed));
    assert_eq!(etcd.member_remove(bed.id(1), third).await, Err(Error::MemberNotFound));
}

#[tokio::test]
async fn a_leader_can_remove_itself() {
    let bed = Bed::of(3).await;
    let (etcd, first) = (&bed.etcd, bed.id(1));
    let term = etcd.status(first).unwrap().term;
    assert_eq!(etcd.member_remove(first, first).await.unwrap().len(), 2);
    assert!(!etcd.is_running(first));
    let status = etcd.status(bed.id(2)).unwrap();
    assert_eq!((status.leader, status.term > term), (Some(bed.id(2)), true));
}

#[tokio::test]
async fn the_only_member_stays() {
    let bed = Bed::of(1).await;
    assert_eq!(bed.etcd.member_remove(bed.id(1), bed.id(1)).await, Err(Error::NotEnoughStarted));
}

#[tokio::test]
async fn who_is_down_may_go_but_not_who_is_needed() {
    let bed = Bed::of(3).await;
    let (etcd, first) = (&bed.etcd, bed.id(1));
    etcd.stop(bed.id(3));
    assert_eq!(etcd.member_remove(first, bed.id(2)).await, Err(Error::Unhealthy));
    assert_eq!(etcd.member_remove(first, bed.id(3)).await.unwrap().len(), 2);
}

#[tokio::test]
async fn data_survives_a_stop_but_not_the_machine() {
    let bed = Bed::of(3).await;
    let (etcd, third) = (&bed.etcd, bed.id(3));
    etcd.stop(third);
    assert_eq!(etcd.status(third), Err(Error::Stopped));
    etcd.start(third).unwrap();
    assert_eq!(etcd.member_list(third, true).await.unwrap().len(), 3);
    etcd.destroy(third);
    assert_eq!(etcd.start(third), Err(StartError::NoData(third)));
    assert_eq!(etcd.members().len(), 3, "only a removal takes it off the list");
}

#[tokio::test]
async fn a_join_must_know_the_members() {
    let bed = Bed::of(1).await;
    bed.add_learner(2).await;
    let join = |name: &str, initial: &[(&str, String)]| {
        let initial: Vec<_> = initial.iter().map(|(name, url)| ((*name).to_owned(), url.clone())).collect();
        bed.etcd.join(name, "https://10.0.0.2:2379", &initial).map(drop)
    };
    let unknown = || StartError::NotAdded { name: "m2".into() };
    assert_eq!(join("m2", &[("m1", peer(1)), ("m3", peer(2))]), Err(unknown()));
    assert_eq!(join("m2", &[("m2", peer(2))]), Err(StartError::CountUnequal));
    let wrong = join("m2", &[("m1", peer(1)), ("m2", peer(9))]);
    assert_eq!(wrong, Err(StartError::Unmatched { url: peer(9) }));
    bed.etcd.stop(bed.id(1));
    assert_eq!(join("m2", &[("m1", peer(1)), ("m2", peer(2))]), Err(StartError::Unreachable));
    bed.etcd.start(bed.id(1)).unwrap();
    assert_eq!(join("m2", &[("m1", peer(1)), ("m2", peer(2))]), Ok(()));
    let again = bed.etcd.bootstrap("m9", &peer(9), "https://10.0.0.9:2379");
    assert_eq!(again, Err(StartError::Bootstrapped));
}
