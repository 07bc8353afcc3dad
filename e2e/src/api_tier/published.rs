//! Manifests as DCS users have them: the published pages, filled in.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Check, check, objects::NAMESPACE, server::Server};
use crate::{
    cluster::{BootFormat, Shape},
    demo,
    ground::Ground,
    manifests,
};

pub fn checks<'a>(server: &'a Server<'a>) -> Result<Vec<Check<'a>>> {
    let shape = |name: &str, boot| -> Result<Vec<Value>> {
        let shape = Shape {
            name: name.to_owned(),
            namespace: NAMESPACE.to_owned(),
            index: 0,
            control_plane: 3,
            workers: 2,
            version: demo::pinned_version()?,
            boot,
            ground: Ground::ISOLATED,
        };
        // Kinds of the core have its own webhooks, which do not run here.
        let is_ours = |object: &Value| {
            let group = object["apiVersion"].as_str().unwrap_or_default().split('/').next().unwrap_or_default();
            group != "cluster.x-k8s.io"
        };
        Ok(shape.objects()?.into_iter().filter(is_ours).collect())
    };
    Ok(vec![
        check(
            "published manifests pass a server-side dry run",
            applied(server, shape("dry", BootFormat::Ignition)?, true),
        ),
        check("published manifests apply", applied(server, shape("whole", BootFormat::Ignition)?, false)),
        check(
            "published manifests apply with cloud-init",
            applied(server, shape("cloud", BootFormat::CloudConfig)?, false),
        ),
    ])
}

/// Applies as a user does, twice: the second time nothing is to do.
async fn applied(server: &Server<'_>, objects: Vec<Value>, dry_run: bool) -> Result<()> {
    ensure!(objects.len() > 5, "only {} objects", objects.len());
    let list = manifests::list(&objects);
    let mode = if dry_run { "--dry-run=server" } else { "--dry-run=none" };
    let arguments = ["apply", "--server-side", mode, "--filename", "-", "--output=name"];
    let names = server.kubectl(&arguments, Some(&list)).await?;
    ensure!(names.lines().count() == objects.len(), "applied {names}");
    // Client-side apply sends the object through the other path of admission: a merge patch of what changed.
    if !dry_run {
        let arguments = ["apply", "--filename", "-"];
        let again = server.kubectl(&arguments, Some(&list)).await?;
        ensure!(again.lines().all(|line| !line.contains("created")), "made again: {again}");
    }
    Ok(())
}
