//! Steps that scenarios and the demo are made of.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use xtask::progress::Progress;

use crate::{cluster::Shape, environment::Environment, management, manifests, process, tree};

/// How long a cluster may take to become Available on a busy two-core machine.
const CREATE_LIMIT: Duration = Duration::from_secs(420);

const CLUSTER: (&str, &str, &str) = ("cluster.x-k8s.io", "v1beta2", "Cluster");
const MACHINE: (&str, &str, &str) = ("cluster.x-k8s.io", "v1beta2", "Machine");

/// Applies a cluster's manifests as a user would and waits until it and all its machines are Available; returns how
/// long that took.
pub async fn create(environment: &mut Environment, shape: &Shape, progress: &Progress) -> Result<Duration> {
    let objects = shape.objects()?;
    let stage = progress.stage(format!("cluster {}", shape.name));
    apply_as_user(environment, &objects).await?;
    let started = Instant::now();
    let clusters = tree::api(&environment.management.client, &shape.namespace, CLUSTER);
    let machines = tree::api(&environment.management.client, &shape.namespace, MACHINE);
    let mut shown = String::new();
    loop {
        let cluster = clusters.get(&shape.name).await?;
        let mine = ListParams::default().labels(&format!("cluster.x-k8s.io/cluster-name={}", shape.name));
        let machines = machines.list(&mine).await?.items;
        // Core calls a cluster Available with one control plane machine of three: all that were asked for must be.
        let available = machines.iter().filter(|machine| tree::is_true(machine, "Available")).count();
        let wanted = usize::try_from(shape.control_plane + shape.workers)?;
        if tree::is_true(&cluster, "Available") && machines.len() == wanted && available == wanted {
            break;
        }
        let now = milestones(&cluster, &machines);
        if now != shown {
            progress.line(format!("    {:>6.1} s  {now}", started.elapsed().as_secs_f64()));
            stage.detail(&now);
            shown = now;
        }
        let fallen = environment.fallen();
        if !fallen.is_empty() {
            bail!("processes ended by themselves: {}", fallen.join(", "));
        }
        if started.elapsed() > CREATE_LIMIT {
            let tree = tree::render(&environment.management.client, &shape.namespace).await.unwrap_or_default();
            bail!("cluster {} is not Available after {} s\n{tree}", shape.name, CREATE_LIMIT.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let took = started.elapsed();
    stage.done(format!("Available, {} + {} machines", shape.control_plane, shape.workers));
    Ok(took)
}

/// `kubectl apply` of a user, client side, as the published pages say.
pub async fn apply_as_user(environment: &Environment, objects: &[Value]) -> Result<()> {
    let mut kubectl = environment.management.kubectl();
    kubectl.args(["apply", "--filename", "-"]);
    process::output(&mut kubectl, Some(manifests::list(objects).as_bytes())).await.map(drop)
}

fn milestones(cluster: &DynamicObject, machines: &[DynamicObject]) -> String {
    let steps = [
        ("InfrastructureReady", "infrastructure"),
        ("ControlPlaneInitialized", "API server"),
        ("RemoteConnectionProbe", "connection"),
        ("ControlPlaneAvailable", "control plane"),
        ("WorkersAvailable", "workers"),
    ];
    let reached: Vec<&str> =
        steps.iter().filter(|(condition, _)| tree::is_true(cluster, condition)).map(|(_, name)| *name).collect();
    let phase = |machine: &DynamicObject| machine.data["status"]["phase"].as_str().unwrap_or("Pending").to_owned();
    let mut phases: Vec<(String, usize)> = Vec::new();
    for machine in machines {
        let phase = phase(machine);
        match phases.iter_mut().find(|(known, _)| *known == phase) {
            Some((_, count)) => *count += 1,
            None => phases.push((phase, 1)),
        }
    }
    let available = machines.iter().filter(|machine| tree::is_true(machine, "Available")).count();
    let phases: Vec<String> = phases.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    format!("ready: [{}]  machines: [{}], {available} available", reached.join(", "), phases.join(", "))
}

/// The workload cluster's kubeconfig, from the Secret that the control plane provider keeps.
pub async fn kubeconfig(environment: &Environment, shape: &Shape) -> Result<PathBuf> {
    let secrets: Api<Secret> = Api::namespaced(environment.management.client.clone(), &shape.namespace);
    let secret = secrets.get(&format!("{}-kubeconfig", shape.name)).await?;
    let value =
        secret.data.and_then(|mut data| data.remove("value")).context("the kubeconfig Secret has no `value`")?;
    let path = environment.dir.join(format!("{}.kubeconfig", shape.name));
    fs::write(&path, value.0)?;
    Ok(path)
}

/// Waits until every node of the cluster is Ready.
pub async fn nodes_ready(environment: &Environment, shape: &Shape, limit: Duration, progress: &Progress) -> Result<()> {
    let stage = progress.stage("nodes");
    let kubeconfig = kubeconfig(environment, shape).await?;
    let nodes: Api<Node> = Api::all(management::client(&kubeconfig).await?);
    let wanted = usize::try_from(shape.control_plane + shape.workers)?;
    let deadline = Instant::now() + limit;
    loop {
        let listed = nodes.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        let ready = listed.iter().filter(|node| is_ready(node)).count();
        if ready == wanted && listed.len() == wanted {
            stage.done(format!("{ready} Ready"));
            return Ok(());
        }
        stage.detail(format!("{ready} of {wanted} Ready"));
        if Instant::now() > deadline {
            bail!("{ready} of {wanted} nodes are Ready after {} s", limit.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}

/// Sets the replicas of a control plane or a machine deployment and waits until that many machines, and nodes, are
/// left and ready.
pub async fn scale(
    environment: &mut Environment,
    shape: &mut Shape,
    control_plane: u32,
    workers: u32,
    progress: &Progress,
) -> Result<()> {
    let client = environment.management.client.clone();
    let wanted = [
        ("controlplane.cluster.x-k8s.io", "KubeadmControlPlane", format!("{}-kcp", shape.name), control_plane),
        ("cluster.x-k8s.io", "MachineDeployment", format!("{}-md-0", shape.name), workers),
    ];
    for (group, kind, name, replicas) in wanted {
        let api = tree::api(&client, &shape.namespace, (group, "v1beta2", kind));
        api.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": replicas}}))).await?;
    }
    (shape.control_plane, shape.workers) = (control_plane, workers);
    let stage = progress.stage(format!("scaling {} to {control_plane}+{workers}", shape.name));
    let machines = tree::api(&client, &shape.namespace, MACHINE);
    let mine = ListParams::default().labels(&format!("cluster.x-k8s.io/cluster-name={}", shape.name));
    let deadline = Instant::now() + CREATE_LIMIT;
    loop {
        let machines = machines.list(&mine).await?.items;
        let available = machines.iter().filter(|machine| tree::is_true(machine, "Available")).count();
        let wanted = usize::try_from(control_plane + workers)?;
        if machines.len() == wanted && available == wanted {
            break;
        }
        stage.detail(format!("{} machines, {available} available", machines.len()));
        if Instant::now() > deadline {
            bail!(
                "{} machines, {available} available, wanted {wanted}, after {} s",
                machines.len(),
                CREATE_LIMIT.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    stage.done("");
    nodes_ready(environment, shape, Duration::from_secs(90), progress).await
}

/// Deletes a cluster and checks that nothing of it is left: no object, no VM, no disk, no boot medium.
pub async fn delete(environment: &mut Environment, shape: &Shape, progress: &Progress) -> Result<()> {
    let stage = progress.stage(format!("deleting {}", shape.name));
    let clusters = tree::api(&environment.management.client, &shape.namespace, CLUSTER);
    clusters.delete(&shape.name, &kube::api::DeleteParams::default()).await?;
    let deadline = Instant::now() + Duration::from_secs(300);
    while clusters.get_opt(&shape.name).await?.is_some() {
        if Instant::now() > deadline {
            let tree = tree::render(&environment.management.client, &shape.namespace).await.unwrap_or_default();
            bail!("cluster {} is not gone after 300 s\n{tree}", shape.name);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // What a user applied and Cluster API does not own: pools and templates; the pools hold the persistent disks.
    for (version, kind) in [("v1beta1", "DCSIpHostnamePool"), ("v1beta1", "DCSMachineTemplate")] {
        let api = tree::api(
            &environment.management.client,
            &shape.namespace,
            ("infrastructure.cluster.x-k8s.io", version, kind),
        );
        for object in api.list(&ListParams::default()).await?.items {
            let name = object.metadata.name.unwrap_or_default();
            if name.starts_with(&format!("{}-", shape.name)) {
                api.delete(&name, &kube::api::DeleteParams::default()).await?;
                while api.get_opt(&name).await?.is_some() {
                    if Instant::now() > deadline {
                        bail!("{kind} {name} is not gone");
                    }
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
        }
    }
    let left = left_on_site(environment, shape).await?;
    if !left.is_empty() {
        bail!("left on the site after deletion: {}", left.join(", "));
    }
    stage.done("nothing left on the site");
    Ok(())
}

/// VMs, disks and uploaded files of the site that belong to a cluster.
async fn left_on_site(environment: &Environment, shape: &Shape) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for what in ["vms", "volumes", "files"] {
        let document = environment.site.control(what).await?;
        let items = document.as_array().or_else(|| document["items"].as_array()).cloned().unwrap_or_default();
        let names = items.iter().filter(|item| item["isTemplate"] != true).filter_map(|item| item["name"].as_str());
        left.extend(
            names.filter(|name| name.contains(&format!("{}-", shape.name))).map(|name| format!("{what}/{name}")),
        );
    }
    Ok(left)
}

/// Saves objects, logs' last lines and the site's audit of a failed scenario.
pub async fn dump(environment: &Environment, scenario: &str) {
    let dir = environment.dir.join("failed").join(scenario.replace(' ', "-"));
    let _ = fs::create_dir_all(&dir);
    for namespace in ["cpaas-system", "cpaas-system-1"] {
        if let Ok(objects) = tree::objects(&environment.management.client, namespace).await {
            let _ = fs::write(
                dir.join(format!("{namespace}.json")),
                serde_json::to_vec_pretty(&objects).unwrap_or_default(),
            );
        }
    }
    for what in ["vms", "volumes", "tasks", "audit"] {
        if let Ok(document) = environment.site.control(what).await {
            let _ = fs::write(dir.join(format!("site-{what}.json")), document.to_string());
        }
    }
    let _ = fs::write(dir.join("tails.txt"), super::tails(environment, 60));
    println!("        objects, logs and the site's audit: {}", dir.display());
}
