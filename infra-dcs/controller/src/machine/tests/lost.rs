//! Uploads whose answers were lost: what they may bring later does not stay. And media that are out of date.

use super::*;
use crate::machine::media::{self, Rest};

const LINGERS: i64 = 180;

fn later(seconds: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

fn medium(deleted: bool, until: Option<Timestamp>) -> Media {
    Media { path: "m.iso".into(), datastore: "urn:d".into(), deleted, until, ..Media::default() }
}

#[rstest]
#[case::lies_there(medium(false, None), Rest::Remove)]
#[case::gone(medium(true, None), Rest::Nothing)]
#[case::may_return(medium(true, Some(later(9))), Rest::MayReturn(later(9)))]
#[case::returns_no_more(medium(true, Some(ago(1))), Rest::Remove)]
fn a_medium_is_gone_once_nothing_can_bring_it_back(#[case] medium: Media, #[case] expected: Rest) {
    assert_eq!(media::rest(&medium, now()), expected);
}

#[test]
fn only_a_removal_after_the_last_upload_is_the_last() {
    let before = media::removed(medium(false, Some(later(9))), now());
    assert_eq!((before.deleted, before.until), (true, Some(later(9))));
    let after = media::removed(before, later(9));
    assert_eq!((after.deleted, after.until), (true, None));
}

#[test]
fn an_upload_that_was_begun_and_not_recorded_is_in_doubt() {
    let mut record = World::attempted().record;
    assert_eq!(media::unrecorded("m", &record, now()).unwrap().until, None, "none was begun");
    record.uploading = true;
    let found = media::unrecorded("m", &record, now()).unwrap();
    assert_eq!((found.path.as_str(), found.until), ("m-0b7c1f0e.iso", Some(later(LINGERS))));
}

fn with(world: World, deleted: bool, until: Option<Timestamp>) -> World {
    world.but(|world| world.record.media = Some(medium(deleted, until)))
}

fn joined(world: World) -> World {
    world.but(|world| world.owner.as_mut().unwrap().status = Some(from(json!({"nodeRef": {"name": "m"}}))))
}

/// While a machine runs, when it goes, and when an attempt is given up: the entry and the name stay until it is over.
#[rstest]
#[case::running(joined(with(World::running().vm(Running, ""), true, Some(later(70)))), Step::Wait, Some(70))]
#[case::running_and_over(joined(with(World::running().vm(Running, ""), true, Some(ago(1)))), Step::DeleteMedia, Some(0))]
#[case::going(with(World::running().no_vm(), true, Some(later(70))).deleting(), Step::Wait, Some(70))]
#[case::gone(with(World::running().no_vm(), true, Some(ago(1))).deleting(), Step::DeleteMedia, Some(0))]
#[case::given_up(with(World::created().task(Work::Create, Failed).no_vm(), true, Some(later(70))), Step::Wait, Some(70))]
fn it_is_removed_once_more(#[case] world: World, #[case] step: Step, #[case] again: Option<u64>) {
    let plan = world.plan();
    assert_eq!((plan.step, plan.again), (step, again.map(Duration::from_secs)));
}

#[test]
fn a_medium_that_may_return_counts_as_removed() {
    let plan = joined(with(World::running().vm(Running, ""), true, Some(later(70)))).plan();
    let detached = plan.conditions.iter().find(|claim| claim.type_ == types::DETACHED).unwrap();
    assert_eq!(detached.status, Status::True);
}

fn made_from(digest: &str, now: Reading<Option<String>>) -> World {
    World::created().vm(Stopped, "m.iso").but(|world| {
        digest.clone_into(&mut world.record.media.as_mut().unwrap().data);
        world.boot = now;
    })
}

fn boot(digest: Option<&str>) -> Reading<Option<String>> {
    Reading::Known(digest.map(str::to_owned))
}

#[rstest]
#[case::same(made_from("a", boot(Some("a"))), Step::PowerOn)]
#[case::changed(made_from("a", boot(Some("b"))), Step::Delete)]
#[case::gone(made_from("a", boot(None)), Step::PowerOn)]
#[case::of_an_older_release(made_from("", Reading::Unread), Step::PowerOn)]
#[case::started(made_from("a", boot(Some("b"))).vm(Running, "m.iso"), Step::Provision)]
fn boot_data_that_changed_is_not_started_with(#[case] world: World, #[case] expected: Step) {
    assert_eq!(world.plan().step, expected);
}

#[test]
fn boot_data_is_looked_at_before_the_first_start_alone() {
    assert!(matches!(made_from("a", Reading::Unread).decide(), Verdict::Need(Read::BootData)));
    assert!(matches!(made_from("a", Reading::Unread).vm(Running, "m.iso").decide(), Verdict::Plan(_)));
    assert_eq!(media::digest_of(b"a"), media::digest_of(b"a"));
    assert_ne!(media::digest_of(b"a"), media::digest_of(b"b"));
}
