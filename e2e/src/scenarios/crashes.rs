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

/// Crash points that the plain life of a cluster of one control plane machine and one worker does not come to, by the
/// beginnings of their names, and why.
const NOT_IN_A_PLAIN_LIFE: &[(&str, &str)] = &[
    ("adopt-machine", "machines that were there before their control plane"),
    ("cluster-delete-rule", "a rule needs two control plane machines"),
    ("cluster-endpoint", "the manifests set the endpoint"),
    ("cluster-put-rule", "a rule needs two control plane machines"),
    ("cluster-record-silence", "an account that is locked"),
    ("create-certificates", "the control plane provider makes them first"),
    ("delete-leftover", "a machine that is not wanted any more when its creation is taken up again"),
    ("disks-adopt", "volumes of VMs of old templates"),
    ("disks-mark", "volumes that are not as they should be"),
    ("extend-token", "a machine that takes minutes to join"),
    ("hand-over-metadata", "labels or annotations that change"),
    ("label-infrastructure", "a template whose machines have labels of their own"),
    ("machine-adopt", "a VM that an earlier process made and did not note"),
    ("machine-attach-media", "a site that takes no medium with the clone"),
    ("machine-forget-entry", "two machines that record one address"),
    ("machine-grow-disk", "a system disk larger than the template's"),
    ("machine-move", "a VM that its site did not make in its folder"),
    ("machine-next-attempt", "a clone that failed"),
    ("machine-record-attached", "a site that takes no medium with the clone"),
    ("machine-record-drive", "a drive that takes media of running VMs only"),
    ("machine-record-growing", "a system disk larger than the template's"),
    ("machine-record-missing", "a VM that somebody deletes"),
    ("machine-record-moved", "a VM that its site did not make in its folder"),
    ("machine-record-progress", "a clone that takes minutes"),
    ("machine-retain-entry", "a VM that is kept"),
    ("machine-warn", "a datastore that is almost full"),
    ("machine-record-created.after", "the next process finds the VM made"),
    ("machine-record-deleting.after", "the next process finds the VM going or gone"),
    ("machine-record-detached.after", "the next process finds the drive empty"),
    ("machine-record-started.after", "the next process finds the VM running"),
    ("machine-record-stopping.after", "the next process finds the VM stopping or stopped"),
    ("move-etcd-leader", "a control plane that shrinks"),
    ("own-data-secret", "a data Secret whose owner is not noted"),
    ("own-secret", "Secrets that a user brought"),
    ("pool-drop-claims", "a machine whose finalizer somebody took away"),
    ("pool-release-retained", "a VM that is kept"),
    ("record-endpoint", "the control plane provider writes it"),
    ("remove-etcd-member", "a control plane that shrinks"),
    ("remove-stale-lock", "a lock whose holder is gone"),
    ("renew-kubeconfig", "half a year"),
    ("replace-data-secret", "a data Secret that somebody deleted"),
    ("sync-metadata", "labels or annotations that change"),
    ("take-over-certificates", "no control plane provider, and a machine that goes before it made the cluster"),
    ("vrm-adopt-volume", "volumes of VMs of old templates"),
    ("vrm-attach-media", "a site that takes no medium with the clone"),
    ("vrm-change-rule", "a rule needs two control plane machines"),
    ("vrm-grow-disk", "a system disk larger than the template's"),
    ("vrm-move", "a VM that its site did not make in its folder"),
    ("vrm-mark-volume", "volumes that are not as they should be"),
    ("write-kubeadm-config", "a change of version"),
];

/// Effects after whose loss a provider must wait: the site may still make the volume whose creation was never answered. They
/// are left to [`one_by_one`].
const QUARANTINED: &[&str] = &["disks-create", "vrm-create-volume"];

/// Effects that only a control plane of several machines comes to, and must.
const OF_SCALING: &[&str] = &["cluster-put-rule", "remove-etcd-member", "vrm-change-rule"];
/// Effects that it may come to: leadership is moved only from a machine that leads.
const PERHAPS_OF_SCALING: &[&str] = &["cluster-delete-rule", "move-etcd-leader"];

/// One cluster's life, in which every process dies before and after each of its effects, once each.
pub async fn at_every_effect(environment: &mut Environment, shapes: &[Shape], progress: &Progress) -> Result<()> {
    let mut points = CrashPoint::all();
    points.retain(|point| !QUARANTINED.contains(&point.effect));
    for shape in shapes {
        let left = life(environment, shape, &points, progress).await?;
        progress.line(format!("    {} of {} crash points reached", points.len() - left.len(), points.len()));
        let unexpected = |name: &&String| !NOT_IN_A_PLAIN_LIFE.iter().any(|(start, _)| name.starts_with(start));
        let missed: Vec<&String> = left.iter().filter(unexpected).collect();
        if !missed.is_empty() {
            bail!("no process came to these crash points: {missed:?}");
        }
    }
    Ok(())
}

/// Asks for crashes at the steps that only scaling comes to.
pub fn arm_scaling(environment: &mut Environment) -> Result<()> {
    let effects = OF_SCALING.iter().chain(PERHAPS_OF_SCALING).copied();
    let points: Vec<CrashPoint> = CrashPoint::of(effects).collect();
    environment.crash_points.arm(&points)
}

/// Ends what [`arm_scaling`] began; fails when a crash that must have come about did not.
pub async fn disarm_scaling(environment: &mut Environment) -> Result<()> {
    let left = environment.disarm().await?;
    let missed: Vec<String> =
        CrashPoint::of(OF_SCALING.iter().copied()).map(CrashPoint::name).filter(|name| left.contains(name)).collect();
    if !missed.is_empty() {
        bail!("no process came to these crash points: {missed:?}");
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
    invariants::hold(environment, shape).await?;
    steps::delete_within(environment, shape, LIMIT, progress).await?;
    environment.disarm().await
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
