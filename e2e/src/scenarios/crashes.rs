//! Our processes are killed before and after each of their effects; the next one converges, and nothing is made twice
//! or left behind.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use xtask::progress::Progress;

use super::{steps, used};
use crate::{cluster::Shape, crash_points::CrashPoint, environment::Environment, invariants};

/// How long a life with a crash at every step may take on a busy two-core machine.
const LIMIT: Duration = Duration::from_secs(900);

/// Effects that the plain life of a cluster of one control plane machine and one worker does not come to.
const NOT_IN_A_PLAIN_LIFE: &[&str] = &[];

/// One cluster's life, in which every process dies before and after each of its effects, once each.
pub async fn at_every_effect(environment: &mut Environment, shapes: &[Shape], progress: &Progress) -> Result<()> {
    let points = CrashPoint::all();
    for shape in shapes {
        let left = life(environment, shape, &points, progress).await?;
        let reached = points.len() - left.len();
        progress.line(format!("    {reached} of {} crash points reached", points.len()));
        let expected = |name: &&String| {
            let effect = name.rsplit_once('.').map_or(name.as_str(), |(effect, _)| effect);
            !NOT_IN_A_PLAIN_LIFE.contains(&effect)
        };
        let missed: Vec<&String> = left.iter().filter(expected).collect();
        if !missed.is_empty() {
            bail!("no process came to these crash points: {missed:?}");
        }
    }
    Ok(())
}

/// For each crash point one cluster's life, in which only that crash happens.
pub async fn one_by_one(environment: &mut Environment, shapes: &[Shape], progress: &Progress) -> Result<()> {
    for point in CrashPoint::all() {
        for shape in shapes {
            let context = || format!("with a crash at {}", point.name());
            life(environment, shape, &[point], progress).await.with_context(context)?;
        }
    }
    Ok(())
}

/// Creates, uses and deletes a cluster with these crashes on the way; returns those that did not come about.
async fn life(
    environment: &mut Environment,
    shape: &Shape,
    points: &[CrashPoint],
    progress: &Progress,
) -> Result<BTreeSet<String>> {
    environment.crash_points.arm(points)?;
    apply(environment, shape).await?;
    steps::available_within(environment, shape, LIMIT, progress).await?;
    used::members_vote(environment, shape).await?;
    invariants::one_vm_per_machine(environment, shape).await?;
    steps::delete_within(environment, shape, LIMIT, progress).await?;
    // Whoever is being started again must not be seen as fallen once nobody is asked to crash.
    environment.settle().await?;
    environment.crash_points.disarm()
}

/// `kubectl apply` until it goes through: a webhook may be down for the moment that its process takes to start again.
async fn apply(environment: &mut Environment, shape: &Shape) -> Result<()> {
    let objects = shape.objects()?;
    let deadline = Instant::now() + LIMIT;
    while let Err(refused) = steps::apply_as_user(environment, &objects).await {
        environment.keep_up()?;
        if Instant::now() > deadline {
            return Err(refused);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
