//! What every simulation rests on: a seed repeats itself, and what goes wrong is noticed and made small.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::{collections::BTreeSet, sync::atomic::Ordering};

use rstest::rstest;
use simulation::{
    run,
    scenarios::{self, Scenario},
};

fn scenario(name: &str) -> &'static Scenario {
    scenarios::ALL.iter().find(|scenario| scenario.name == name).unwrap()
}

/// The first difference is what a person wants to see; whole timelines are too long to read.
#[rstest]
#[case("bootstrap")]
#[case("control-plane")]
#[case("dcs")]
fn the_same_seed_gives_the_same_timeline(#[case] name: &str) {
    for seed in 0..3 {
        let (one, other) = (run::one(scenario(name), seed, None), run::one(scenario(name), seed, None));
        for (one, other) in one.entries.iter().zip(&other.entries) {
            assert_eq!(one, other, "{name} {seed}");
        }
        assert_eq!((one.entries.len(), one.progress, one.lasted), (other.entries.len(), other.progress, other.lasted));
        assert_eq!(one.violation, other.violation);
    }
}

/// A taste of what the simulation tier runs thousands of.
#[rstest]
#[case("bootstrap")]
#[case("control-plane")]
#[case("dcs")]
fn worlds_end_well(#[case] name: &str) {
    const WORLDS: u64 = 4;
    let tally = run::Tally::default();
    let failed = run::many(scenario(name), 0..WORLDS, 2, 1, || false, &tally);
    assert_eq!(
        (tally.passed.load(Ordering::Relaxed), failed.first().and_then(|run| run.violation.clone())),
        (WORLDS, None)
    );
}

#[test]
fn a_plan_without_some_faults_has_the_others() {
    let seed = (0..1000).find(|seed| run::plan_of(scenario("dcs"), *seed).faults().len() > 3).unwrap();
    let plan = run::plan_of(scenario("dcs"), seed);
    let fewer = plan.only(&BTreeSet::from([0, 2]));
    assert_eq!(fewer.faults(), [plan.faults()[0], plan.faults()[2]]);
    assert_eq!(run::plan_of(scenario("dcs"), seed).faults(), plan.faults(), "a seed has one plan");
}

/// A world in which something impossible is asked for: it must be noticed, and told with no more faults than it needs.
#[test]
fn what_never_comes_true_is_noticed_and_needs_no_fault() {
    const DOOMED: Scenario = Scenario {
        name: "doomed",
        horizon: simulation::plan::Horizon {
            calls: 10,
            events: 100,
            time: std::time::Duration::from_secs(10),
            instances: 1,
        },
        worlds: 1,
        effects: Vec::new,
        tell: |world| {
            Box::pin(async move {
                let limit = std::time::Duration::from_secs(60);
                world.until("converges", limit, || Err("nothing can be so".to_owned())).await
            })
        },
    };
    let seed = (0..1000).find(|seed| run::plan_of(&DOOMED, *seed).faults().len() > 3).unwrap();
    let failed = run::one(&DOOMED, seed, None);
    assert_eq!(failed.violation.as_ref().map(|violation| violation.rule), Some("converges"));
    let (kept, fewest) = run::minimise(&DOOMED, &failed);
    assert!(kept.is_empty() && fewest.violation.is_some(), "{kept:?}");
}
