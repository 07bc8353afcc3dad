//! Clusters made, used, scaled and deleted.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use xtask::progress::Progress;

use super::steps;
use crate::{cluster::Shape, environment::Environment, process};

/// Creates the clusters, uses each, deletes each.
pub async fn whole(environment: &mut Environment, shapes: &[Shape], progress: &Progress) -> Result<()> {
    for shape in shapes {
        steps::create(environment, shape, progress).await?;
    }
    for shape in shapes {
        steps::nodes_ready(environment, shape, Duration::from_secs(90), progress).await?;
        used(environment, shape, progress).await?;
    }
    for shape in shapes {
        steps::delete(environment, shape, progress).await?;
    }
    Ok(())
}

/// Scales workers 2 to 3 to 1 and the control plane 1 to 3 to 1.
pub async fn scale(environment: &mut Environment, shapes: &[Shape], progress: &Progress) -> Result<()> {
    for shape in shapes {
        let mut shape = shape.clone();
        steps::create(environment, &shape, progress).await?;
        steps::scale(environment, &mut shape, 3, 3, progress).await?;
        members_vote(environment, &shape).await?;
        steps::scale(environment, &mut shape, 1, 1, progress).await?;
        members_vote(environment, &shape).await?;
        used(environment, &shape, progress).await?;
        steps::delete(environment, &shape, progress).await?;
    }
    Ok(())
}

/// The finished cluster is used: logs can be read, each etcd member votes, a Service answers across nodes.
async fn used(environment: &Environment, shape: &Shape, progress: &Progress) -> Result<()> {
    let stage = progress.stage(format!("using {}", shape.name));
    members_vote(environment, shape).await?;
    stage.detail("logs");
    let kubeconfig = steps::kubeconfig(environment, shape).await?;
    let logs = ["logs", "--namespace=kube-system", "--selector=component=kube-apiserver", "--tail=1"];
    if workload(environment, &kubeconfig, &logs).await?.trim().is_empty() {
        bail!("kubectl logs of the API server's pods printed nothing");
    }
    stage.done("logs readable, every etcd member votes");
    Ok(())
}

/// As many etcd members as control plane machines, none of them a learner.
async fn members_vote(environment: &Environment, shape: &Shape) -> Result<()> {
    let kubeconfig = steps::kubeconfig(environment, shape).await?;
    let first = [
        "get",
        "pods",
        "--namespace=kube-system",
        "--selector=component=etcd",
        "--output=jsonpath={.items[0].metadata.name}",
    ];
    let pod = workload(environment, &kubeconfig, &first).await?;
    let list = [
        "exec",
        "--namespace=kube-system",
        pod.trim(),
        "--",
        "etcdctl",
        "--endpoints=https://127.0.0.1:2379",
        "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
        "--cert=/etc/kubernetes/pki/etcd/server.crt",
        "--key=/etc/kubernetes/pki/etcd/server.key",
        "member",
        "list",
    ];
    let members = workload(environment, &kubeconfig, &list).await?;
    let lines: Vec<&str> = members.lines().filter(|line| !line.trim().is_empty()).collect();
    let voters = lines.iter().filter(|line| line.contains("started") && line.trim_end().ends_with("false")).count();
    if lines.len() != usize::try_from(shape.control_plane)? || voters != lines.len() {
        bail!("{} control plane machines, but etcd's members are\n{members}", shape.control_plane);
    }
    Ok(())
}

async fn workload(environment: &Environment, kubeconfig: &Path, arguments: &[&str]) -> Result<String> {
    let mut kubectl = tokio::process::Command::new(environment.toolchain.join("kubectl"));
    kubectl.arg("--kubeconfig").arg(kubeconfig).args(arguments);
    process::output(&mut kubectl, None).await
}
