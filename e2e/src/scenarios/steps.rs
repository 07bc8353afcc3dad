//! Steps that scenarios and the demo are made of.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use xtask::progress::Progress;

use crate::{cluster::Shape, environment::Environment, management, manifests, process, tree};

/// How long a cluster may take to become Available on a busy two-core machine.
const CREATE_LIMIT: Duration = Duration::from_secs(420);
/// How long a cluster's deletion may take there.
const DELETE_LIMIT: Duration = Duration::from_secs(300);

const CLUSTER: (&str, &str, &str) = ("cluster.x-k8s.io", "v1beta2", "Cluster");
const MACHINE: (&str, &str, &str) = ("cluster.x-k8s.io", "v1beta2", "Machine");

/// Applies a cluster's manifests as a user would and waits until it and all its machines are Available; returns how
/// long that took.
pub async fn create(environment: &mut Environment, shape: &Shape, progress: &Progress) -> Result<Duration> {
    apply_as_user(environment, &shape.objects()?).await?;
    available(environment, shape, progress).await
}

/// Waits until a cluster and all its machines are Available; returns how long that took.
pub async fn available(environment: &mut Environment, shape: &Shape, progress: &Progress) -> Result<Duration> {
    available_within(environment, shape, CREATE_LIMIT, progress).await
}

/// The same with a limit of its own.
pub async fn available_within(
    environment: &mut Environment,
    shape: &Shape,
    limit: Duration,
    progress: &Progress,
) -> Result<Duration> {
    let stage = progress.stage(format!("cluster {}", shape.name));
    let started = Instant::now();
    let clusters = tree::api(&environment.management.client, &shape.namespace, CLUSTER);
    let mut shown = String::new();
    loop {
        let cluster = clusters.get(&shape.name).await?;
        let machines = machines(environment, shape).await?;
        // Core calls a cluster Available with one control plane machine of three: all that were asked for must be.
        let available = machines.iter().filter(|machine| tree::is_true(machine, "Available")).count();
        let wanted = usize::try_from(shape.control_plane + shape.workers)?;
        if tree::is_true(&cluster, "Available") && machines.len() == wanted && available == wanted {
            stage.done(format!("Available, {} + {} machines", shape.control_plane, shape.workers));
            return Ok(started.elapsed());
        }
        let now = milestones(&cluster, &machines);
        if now != shown {
            progress.line(format!("    {:>6.1} s  {now}", started.elapsed().as_secs_f64()));
            stage.detail(&now);
            shown = now;
        }
        environment.keep_up()?;
        if started.elapsed() > limit {
            let tree = tree::render(&environment.management.client, &shape.namespace).await.unwrap_or_default();
            let consoles = consoles(environment, shape, 12).await;
            bail!("cluster {} is not Available after {} s\n{tree}\n{consoles}", shape.name, limit.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Core's Machines of a cluster.
pub async fn machines(environment: &Environment, shape: &Shape) -> Result<Vec<DynamicObject>> {
    let machines = tree::api(&environment.management.client, &shape.namespace, MACHINE);
    let mine = ListParams::default().labels(&format!("cluster.x-k8s.io/cluster-name={}", shape.name));
    Ok(machines.list(&mine).await?.items)
}

/// The last lines that the machines of a cluster wrote to their consoles: where a boot that failed says why.
pub async fn consoles(environment: &Environment, shape: &Shape, lines: usize) -> String {
    let mut text = String::new();
    for vm in vms(environment, shape).await.unwrap_or_default() {
        let name = vm["name"].as_str().unwrap_or_default();
        let console = environment.site.control(&format!("console/{name}?lines={lines}")).await.unwrap_or_default();
        let written = console["lines"].as_array().cloned().unwrap_or_default();
        text.push_str(&format!("--- console of {name}\n"));
        written.iter().filter_map(Value::as_str).for_each(|line| text.push_str(&format!("{line}\n")));
        if let Some(failure) = console["bootFailure"].as_str() {
            text.push_str(&format!("boot failed: {failure}\n"));
        }
    }
    text
}

/// The VMs of a cluster, as the site shows them.
pub async fn vms(environment: &Environment, shape: &Shape) -> Result<Vec<Value>> {
    let prefix = format!("{}-", shape.name);
    let all = environment.site.control("vms").await?.as_array().cloned().unwrap_or_default();
    let is_mine = |vm: &Value| vm["isTemplate"] != true && vm["name"].as_str().unwrap_or_default().starts_with(&prefix);
    Ok(all.into_iter().filter(is_mine).collect())
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
    let deadline = Instant::now() + CREATE_LIMIT;
    loop {
        let machines = machines(environment, shape).await?;
        environment.keep_up()?;
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

/// Appends an entry to the pool of the workers, as a user does whose published three are not enough.
pub async fn add_worker_entry(environment: &Environment, shape: &Shape, number: u8) -> Result<()> {
    let resource = ("infrastructure.cluster.x-k8s.io", "v1beta1", "DCSIpHostnamePool");
    let pools = tree::api(&environment.management.client, &shape.namespace, resource);
    let name = format!("{}-worker-pool", shape.name);
    let pool = pools.get(&name).await?;
    let mut entries = pool.data["spec"]["pool"].as_array().cloned().unwrap_or_default();
    let mut entry = entries.last().cloned().context("the pool has no entry")?;
    let host = format!("{}-worker-{number}", shape.name);
    (entry["hostname"], entry["machineName"]) = (json!(host), json!(host));
    entry["ip"] = json!(shape.worker_address(number).to_string());
    entries.push(entry);
    let patch = Patch::Merge(json!({"spec": {"pool": entries}}));
    pools.patch(&name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Deletes a cluster and checks that nothing of it is left: no object, no VM, no disk, no boot medium.
pub async fn delete(environment: &mut Environment, shape: &Shape, progress: &Progress) -> Result<()> {
    delete_within(environment, shape, DELETE_LIMIT, progress).await
}

/// The same with a limit of its own.
pub async fn delete_within(
    environment: &mut Environment,
    shape: &Shape,
    limit: Duration,
    progress: &Progress,
) -> Result<()> {
    let stage = progress.stage(format!("deleting {}", shape.name));
    let deadline = Instant::now() + limit;
    let clusters = tree::api(&environment.management.client, &shape.namespace, CLUSTER);
    gone(environment, &clusters, &shape.name, deadline).await?;
    // What a user applied and Cluster API does not own: pools and templates; the pools hold the persistent disks.
    for kind in ["DCSIpHostnamePool", "DCSMachineTemplate"] {
        let resource = ("infrastructure.cluster.x-k8s.io", "v1beta1", kind);
        let api = tree::api(&environment.management.client, &shape.namespace, resource);
        for object in api.list(&ListParams::default()).await?.items {
            let name = object.metadata.name.unwrap_or_default();
            if name.starts_with(&format!("{}-", shape.name)) {
                gone(environment, &api, &name, deadline).await?;
            }
        }
    }
    let left = left_on_site(environment, shape).await?;
    if !left.is_empty() {
        bail!("left on the site after deletion: {}", left.join(", "));
    }
    // What an object owned goes after it, by the garbage collector.
    loop {
        let left = left_in_namespace(environment, shape).await?;
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("left in the management cluster after deletion: {}", left.join(", "));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stage.done("nothing left");
    Ok(())
}

/// Objects of a cluster: those of the kinds of Cluster API, and each `Secret` and `ConfigMap` that providers made for it.
async fn left_in_namespace(environment: &Environment, shape: &Shape) -> Result<Vec<String>> {
    let client = &environment.management.client;
    let of_cluster = ListParams::default().labels(&format!("cluster.x-k8s.io/cluster-name={}", shape.name));
    let prefix = format!("{}-", shape.name);
    let mut left: Vec<String> = tree::objects(client, &shape.namespace)
        .await?
        .iter()
        .filter_map(|object| {
            let name = object.metadata.name.as_deref()?;
            let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
            (name == shape.name || name.starts_with(&prefix)).then(|| format!("{kind}/{name}"))
        })
        .collect();
    let secrets = Api::<Secret>::namespaced(client.clone(), &shape.namespace).list_metadata(&of_cluster).await?;
    left.extend(secrets.items.iter().map(|secret| format!("Secret/{}", secret.name_any())));
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &shape.namespace);
    let maps = maps.list_metadata(&ListParams::default()).await?;
    let names = maps.items.iter().map(ResourceExt::name_any).filter(|name| name.starts_with(&prefix));
    left.extend(names.map(|name| format!("ConfigMap/{name}")));
    Ok(left)
}

/// Deletes an object and waits until it is gone. A webhook whose process is being started again refuses for a moment.
async fn gone(environment: &mut Environment, api: &Api<DynamicObject>, name: &str, deadline: Instant) -> Result<()> {
    let mut asked = false;
    let mut refused = String::new();
    while let Some(object) = api.get_opt(name).await? {
        if !asked {
            match api.delete(name, &DeleteParams::default()).await {
                Ok(_) => asked = true,
                Err(error) => refused = error.to_string(),
            }
        }
        environment.keep_up()?;
        if Instant::now() > deadline {
            let namespace = object.metadata.namespace.unwrap_or_default();
            let tree = tree::render(&environment.management.client, &namespace).await.unwrap_or_default();
            bail!("{name} is not gone in time. {refused}\n{tree}");
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

/// VMs, disks, uploaded files and rules of the site that belong to a cluster.
async fn left_on_site(environment: &Environment, shape: &Shape) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for what in ["vms", "volumes", "files", "rules"] {
        let document = environment.site.control(what).await?;
        let items = document.as_array().or_else(|| document["items"].as_array()).cloned().unwrap_or_default();
        let names = items.iter().filter(|item| item["isTemplate"] != true).filter_map(|item| item["name"].as_str());
        left.extend(
            names.filter(|name| name.contains(&format!("{}-", shape.name))).map(|name| format!("{what}/{name}")),
        );
    }
    Ok(left)
}

/// Saves objects, logs' last lines, consoles and the site's audit of a failed scenario.
pub async fn dump(environment: &Environment, scenario: &str, shapes: &[Shape]) {
    let dir = environment.dir.join("failed").join(scenario.replace(' ', "-"));
    let _ = fs::create_dir_all(&dir);
    for shape in shapes {
        if let Ok(objects) = tree::objects(&environment.management.client, &shape.namespace).await {
            let _ = fs::write(
                dir.join(format!("{}.json", shape.namespace)),
                serde_json::to_vec_pretty(&objects).unwrap_or_default(),
            );
        }
        let _ = fs::write(dir.join(format!("{}-consoles.txt", shape.name)), consoles(environment, shape, 400).await);
    }
    for what in ["vms", "volumes", "files", "tasks", "audit", "violations"] {
        if let Ok(document) = environment.site.control(what).await {
            let _ = fs::write(dir.join(format!("site-{what}.json")), document.to_string());
        }
    }
    let _ = fs::write(dir.join("tails.txt"), super::tails(environment, 60));
    println!("        objects, logs and the site's audit: {}", dir.display());
}
