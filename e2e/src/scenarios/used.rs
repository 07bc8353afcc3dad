//! A finished cluster is used, as its owner would.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::progress::Progress;

use super::steps;
use crate::{cluster::Shape, environment::Environment, ground::Guests, process};

/// A Deployment with one pod per node, as far as the scheduler can, and a Service in front of it. The image is in the
/// registry of the site's fabric under any repository.
const WEB: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations: [{operator: Exists}]
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
      containers: [{name: web, image: registry.k8s.io/web:1.0, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";

/// A line a pod: its name and its node.
const POD_AND_NODE: &str = r#"--output=jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName}{"\n"}{end}"#;

/// How long pods may take to run, and a name to resolve, on a busy two-core machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Each etcd member votes; a Service answers across nodes, by its name; logs can be read. Pods of memory guests run
/// nothing: there a Deployment is rolled out.
pub async fn cluster(environment: &Environment, shape: &Shape, progress: &Progress) -> Result<()> {
    let stage = progress.stage(format!("using {}", shape.name));
    let kubectl = Workload::of(environment, shape).await?;
    stage.detail("etcd members");
    members_vote(environment, shape).await?;
    stage.detail("Deployment and Service");
    if environment.ground.guests == Guests::Memory {
        kubectl.rolls_out().await?;
        stage.done("every etcd member votes, a Deployment is rolled out");
        return Ok(());
    }
    let nodes = kubectl.serves().await?;
    stage.detail("logs");
    let pod = kubectl.static_pod("kube-apiserver").await?;
    if kubectl.run(&["logs", "--namespace=kube-system", &pod, "--tail=1"], None).await?.trim().is_empty() {
        bail!("kubectl logs of {pod} printed nothing");
    }
    stage.done(format!("every etcd member votes, a Service answers from {nodes} nodes, logs can be read"));
    Ok(())
}

/// As many etcd members as control plane machines, none of them a learner.
pub async fn members_vote(environment: &Environment, shape: &Shape) -> Result<()> {
    if environment.ground.guests == Guests::Memory {
        return modelled_members_vote(environment, shape).await;
    }
    let kubectl = Workload::of(environment, shape).await?;
    let member = kubectl.static_pod("etcd").await?;
    let list = [
        "exec",
        "--namespace=kube-system",
        &member,
        "--",
        "etcdctl",
        "--endpoints=https://127.0.0.1:2379",
        "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
        "--cert=/etc/kubernetes/pki/etcd/server.crt",
        "--key=/etc/kubernetes/pki/etcd/server.key",
        "member",
        "list",
    ];
    let members = kubectl.run(&list, None).await?;
    let lines: Vec<&str> = members.lines().filter(|line| !line.trim().is_empty()).collect();
    let voters = lines.iter().filter(|line| line.contains("started") && line.trim_end().ends_with("false")).count();
    if lines.len() != usize::try_from(shape.control_plane)? || voters != lines.len() {
        bail!("{} control plane machines, but etcd's members are\n{members}", shape.control_plane);
    }
    Ok(())
}

/// The same of the etcd that memory guests share, as the simulator knows it.
async fn modelled_members_vote(environment: &Environment, shape: &Shape) -> Result<()> {
    let vms = steps::vms(environment, shape).await?;
    let clusters = environment.site.control("guest-clusters").await?;
    let runs_on = |cluster: &&Value| vms.iter().any(|vm| is_among(&vm["id"], &cluster["machines"]));
    let cluster = clusters.as_array().into_iter().flatten().find(runs_on);
    let members = cluster.and_then(|cluster| cluster["members"].as_array()).context("no cluster runs on the VMs")?;
    let voters = members.iter().filter(|member| member["running"] == true && member["isLearner"] == false).count();
    if members.len() != usize::try_from(shape.control_plane)? || voters != members.len() {
        bail!("{} control plane machines, but etcd's members are {members:?}", shape.control_plane);
    }
    Ok(())
}

fn is_among(one: &Value, all: &Value) -> bool {
    all.as_array().is_some_and(|all| all.contains(one))
}

/// kubectl against a workload cluster.
struct Workload<'a> {
    environment: &'a Environment,
    kubeconfig: std::path::PathBuf,
}

impl<'a> Workload<'a> {
    async fn of(environment: &'a Environment, shape: &Shape) -> Result<Self> {
        Ok(Self { environment, kubeconfig: steps::kubeconfig(environment, shape).await? })
    }

    async fn run(&self, arguments: &[&str], input: Option<&[u8]>) -> Result<String> {
        kubectl(self.environment, &self.kubeconfig, arguments, input).await
    }

    /// A static pod of a node that exists: the mirror pod of a machine that was taken away outlives it for a moment.
    async fn static_pod(&self, component: &str) -> Result<String> {
        let nodes = self.run(&["get", "nodes", "--output=jsonpath={.items[*].metadata.name}"], None).await?;
        let selector = format!("--selector=component={component}");
        let pods = self.run(&["get", "pods", "--namespace=kube-system", &selector, POD_AND_NODE], None).await?;
        let on_node = |line: &&str| line.split(' ').nth(1).is_some_and(|node| nodes.split(' ').any(|one| one == node));
        let pod = pods.lines().find(on_node).and_then(|line| line.split(' ').next());
        pod.map(str::to_owned).with_context(|| format!("no {component} pod runs on one of the nodes {nodes}:\n{pods}"))
    }

    /// Runs [`WEB`] until its pods are ready.
    async fn rolls_out(&self) -> Result<()> {
        self.run(&["apply", "--filename", "-"], Some(WEB.as_bytes())).await?;
        let rollout = ["rollout", "status", "deployment/web", &format!("--timeout={}s", LIMIT.as_secs())];
        self.run(&rollout, None).await.map(drop)
    }

    /// The same, and calls the Service by its name from a pod until each pod has answered; returns on how many nodes
    /// they run.
    async fn serves(&self) -> Result<usize> {
        self.rolls_out().await?;
        let pods = self.run(&["get", "pods", "--selector=app=web", POD_AND_NODE], None).await?;
        let (mut names, mut nodes) = (Vec::new(), std::collections::BTreeSet::new());
        for (name, node) in pods.lines().filter_map(|line| line.split_once(' ')) {
            names.push(name);
            nodes.insert(node);
        }
        let deadline = std::time::Instant::now() + LIMIT;
        let mut answered = std::collections::BTreeSet::new();
        while answered.len() < names.len() {
            let call =
                ["exec", "deployment/web", "--", "curl", "--silent", "--max-time", "3", "http://web.default.svc"];
            let said = self.run(&call, None).await;
            match &said {
                Ok(text) => answered.extend(names.iter().copied().filter(|name| text.contains(name))),
                Err(error) if std::time::Instant::now() > deadline => bail!("the Service does not answer: {error:#}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
            if std::time::Instant::now() > deadline {
                bail!("of the pods {names:?} only {answered:?} answered through the Service; last answer: {said:?}");
            }
        }
        Ok(nodes.len())
    }
}

/// Runs kubectl with a workload cluster's kubeconfig.
pub async fn kubectl(
    environment: &Environment,
    kubeconfig: &Path,
    arguments: &[&str],
    input: Option<&[u8]>,
) -> Result<String> {
    let mut kubectl = tokio::process::Command::new(environment.toolchain.join("kubectl"));
    kubectl.arg("--kubeconfig").arg(kubeconfig).args(arguments);
    process::output(&mut kubectl, input).await
}
