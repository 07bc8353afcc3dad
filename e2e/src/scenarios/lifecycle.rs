//! Clusters made, used, left alone, scaled and deleted.

use std::time::Duration;

use anyhow::Result;
use xtask::progress::Progress;

use super::{crashes, idle, steps, used};
use crate::{
    cluster::Shape,
    conformance::{self, Purpose, Source, Subject},
    environment::Environment,
    invariants,
};

/// Creates the clusters side by side, uses each, deletes each.
pub async fn whole(
    environment: &mut Environment,
    shapes: &[Shape],
    purpose: Option<Purpose>,
    progress: &Progress,
) -> Result<()> {
    for shape in shapes {
        steps::apply_as_user(environment, &shape.objects()?).await?;
    }
    for shape in shapes {
        steps::available(environment, shape, progress).await?;
    }
    used_and_deleted(environment, shapes, purpose, progress).await
}

/// Creates a cluster, leaves it alone, uses it, holds it against what a real one answers, and deletes it.
pub async fn left_alone(
    environment: &mut Environment,
    shapes: &[Shape],
    purpose: Purpose,
    progress: &Progress,
) -> Result<()> {
    for shape in shapes {
        steps::create(environment, shape, progress).await?;
        idle::costs_nothing(environment, shape, progress).await?;
    }
    used_and_deleted(environment, shapes, Some(purpose), progress).await
}

async fn used_and_deleted(
    environment: &mut Environment,
    shapes: &[Shape],
    purpose: Option<Purpose>,
    progress: &Progress,
) -> Result<()> {
    for shape in shapes {
        steps::nodes_ready(environment, shape, Duration::from_secs(90), progress).await?;
        used::cluster(environment, shape, progress).await?;
        // The records are of a cluster with several machines of each role.
        if let Some(purpose) = purpose.filter(|_| (shape.control_plane, shape.workers) == (3, 2)) {
            conforms(environment, shape, purpose, progress).await?;
        }
        invariants::hold(environment, shape).await?;
    }
    for shape in shapes {
        steps::delete(environment, shape, progress).await?;
    }
    Ok(())
}

/// Holds a finished cluster against what a real one answers, or records that.
async fn conforms(environment: &Environment, shape: &Shape, purpose: Purpose, progress: &Progress) -> Result<()> {
    let dir = environment.dir.join("conformance").join(&shape.name);
    let source = Source {
        management: &environment.management.client,
        namespace: &shape.namespace,
        cluster: &shape.name,
        guests: shape.ground.guests,
        toolchain: &environment.toolchain,
        dir: &dir,
    };
    conformance::run(&Subject::find(&source).await?, purpose, None, progress).await
}

/// Scales workers 2 to 4 to 1, for which the pool grows by an entry, and the control plane 1 to 3 to 1,
/// while processes die at the steps that only this comes to.
pub async fn scale(environment: &mut Environment, shapes: &[Shape], progress: &Progress) -> Result<()> {
    for shape in shapes {
        let mut shape = shape.clone();
        steps::create(environment, &shape, progress).await?;
        steps::add_worker_entry(environment, &shape, 4).await?;
        crashes::arm_scaling(environment)?;
        for (control_plane, workers) in [(3, 4), (1, 1)] {
            steps::scale(environment, &mut shape, control_plane, workers, progress).await?;
            used::members_vote(environment, &shape).await?;
            invariants::hold(environment, &shape).await?;
        }
        crashes::disarm_scaling(environment).await?;
        used::cluster(environment, &shape, progress).await?;
        steps::delete(environment, &shape, progress).await?;
    }
    Ok(())
}
