//! Manifests that refer to what is not there, a wrong password, a wrong version: each is named by a condition of the object
//! that a user looks at, and the cluster goes on by itself soon after it is right.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::api::DynamicObject;
use reqwest::Method;
use serde_json::{Value, json};
use xtask::progress::Progress;

use super::steps;
use crate::{cluster::Shape, environment::Environment, invariants, tree};

/// How soon what is wrong is named, and how soon what has appeared is taken up.
const SOON: Duration = Duration::from_secs(30);
/// How long is watched that a wrong password is not tried again.
const NO_SECOND_LOGIN: Duration = Duration::from_secs(15);
/// How long it may take until a boot that failed is named: a console is read when a machine is late.
const BOOT: Duration = Duration::from_secs(300);
/// A version that no kubeadm here can install.
const UNKNOWN_VERSION: &str = "v1.99.0";
/// What conditions say of a machine that cannot boot, before the end of its console.
const BOOT_FAILED: &str = "the boot failed";

const DCS: &str = "infrastructure.cluster.x-k8s.io";
const CLUSTER: Kind = ("cluster.x-k8s.io", "v1beta2", "Cluster");
const MACHINE: Kind = ("cluster.x-k8s.io", "v1beta2", "Machine");
const CONTROL_PLANE: Kind = ("controlplane.cluster.x-k8s.io", "v1beta2", "KubeadmControlPlane");
const DCS_CLUSTER: Kind = (DCS, "v1beta1", "DCSCluster");
const DCS_MACHINE: Kind = (DCS, "v1beta1", "DCSMachine");

type Kind = (&'static str, &'static str, &'static str);

/// Everything that a control plane machine refers to is missing at first, and appears one by one.
pub async fn is_named_and_recovered_from(
    environment: &mut Environment,
    shapes: &[Shape],
    progress: &Progress,
) -> Result<()> {
    for shape in shapes {
        let mut story = Story { environment, shape, objects: shape.objects()?, progress };
        story.credentials().await?;
        story.objects().await?;
        story.site().await?;
        steps::available(environment, shape, progress).await?;
        invariants::hold(environment, shape).await?;
        steps::delete(environment, shape, progress).await?;
    }
    Ok(())
}

/// The guest's kubeadm refuses a version that it does not know: the end of its console is shown, and the machine is made
/// anew when the version is corrected.
pub async fn wrong_version_is_recovered_from(
    environment: &mut Environment,
    shapes: &[Shape],
    progress: &Progress,
) -> Result<()> {
    for shape in shapes {
        let wrong = Shape { version: UNKNOWN_VERSION.to_owned(), ..shape.clone() };
        let story = Story { environment, shape, objects: wrong.objects()?, progress };
        steps::apply_as_user(story.environment, &story.objects).await?;
        for (kind, text) in [(DCS_MACHINE, UNKNOWN_VERSION), (MACHINE, BOOT_FAILED), (CONTROL_PLANE, BOOT_FAILED)] {
            story.named_within(BOOT, kind, text, "a version that the guest refuses").await?;
        }
        let failed = steps::machines(environment, shape).await?;
        let stage = progress.stage("the right version: the machine is made anew");
        steps::apply_as_user(environment, &shape.objects()?).await?;
        let deadline = Instant::now() + SOON;
        let names = |machines: &[DynamicObject]| machines.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>();
        loop {
            let now = names(&steps::machines(environment, shape).await?);
            if !now.is_empty() && now.iter().all(|name| !names(&failed).contains(name)) {
                break;
            }
            if Instant::now() > deadline {
                bail!("after {} s the machines are still {now:?}", SOON.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        stage.done("");
        steps::available(environment, shape, progress).await?;
        invariants::hold(environment, shape).await?;
        steps::delete(environment, shape, progress).await?;
    }
    Ok(())
}

struct Story<'a> {
    environment: &'a Environment,
    shape: &'a Shape,
    objects: Vec<Value>,
    progress: &'a Progress,
}

impl Story<'_> {
    /// No Secret, then one with a wrong password, then the right one.
    async fn credentials(&mut self) -> Result<()> {
        let secret = format!("{}-credentials", self.shape.name);
        let late = ["Secret", "DCSMachineTemplate", "DCSIpHostnamePool"];
        let early: Vec<Value> =
            self.objects.iter().filter(|object| !late.iter().any(|kind| object["kind"] == *kind)).cloned().collect();
        steps::apply_as_user(self.environment, &early).await?;
        self.named(DCS_CLUSTER, &secret, "no Secret with credentials").await?;
        self.named(CLUSTER, &secret, "no Secret with credentials").await?;

        self.environment.site.stage(Method::POST, "counters/reset", &json!({})).await?;
        let mut wrong = self.document("Secret", &secret)?;
        wrong["stringData"]["authKey"] = json!("not-the-password");
        steps::apply_as_user(self.environment, &[wrong]).await?;
        self.named(DCS_CLUSTER, "password", "wrong password").await?;
        tokio::time::sleep(NO_SECOND_LOGIN).await;
        let counters = self.environment.site.control("counters").await?;
        if counters["failedLogins"] != 1 {
            bail!("a wrong password is tried once, but the site counts {counters}");
        }
        let right = self.document("Secret", &secret)?;
        steps::apply_as_user(self.environment, &[right]).await?;
        self.is_ready(DCS_CLUSTER, "the right password").await
    }

    /// No machine template, then one whose pool is missing.
    async fn objects(&mut self) -> Result<()> {
        let (template, pool) = (format!("{}-cp-template", self.shape.name), format!("{}-cp-pool", self.shape.name));
        self.named(CONTROL_PLANE, &template, "no machine template").await?;
        let mut late = self.document("DCSMachineTemplate", &template)?;
        let spec = &mut late["spec"]["template"]["spec"];
        spec["location"]["name"] = json!("late-folder");
        spec["vmConfig"]["portGroupName"] = json!("late-port-group");
        spec["vmConfig"]["cdRomDatastoreName"] = json!("late-datastore");
        self.environment.site.stage(Method::DELETE, "vms/basalt-node", &json!({})).await?;
        steps::apply_as_user(self.environment, &[late]).await?;
        self.named(DCS_MACHINE, &pool, "no pool").await?;
        self.named(MACHINE, &pool, "no pool").await?;
        let late = self.document("DCSIpHostnamePool", &pool)?;
        steps::apply_as_user(self.environment, &[late]).await
    }

    /// What the machine template names at the site appears one by one.
    async fn site(&mut self) -> Result<()> {
        let site = &self.environment.site;
        self.named(DCS_MACHINE, "basalt-node", "no VM template").await?;
        let template = json!({
            "name": "basalt-node", "datastore": "ds-san-1", "disksGb": [40], "nics": ["dvs-kubernetes/pg-nodes"],
        });
        site.stage(Method::POST, "templates", &template).await?;
        self.named(DCS_MACHINE, "late-folder", "no folder").await?;
        site.stage(Method::POST, "folders", &json!({"path": "late-folder"})).await?;
        self.named(DCS_MACHINE, "late-port-group", "no port group").await?;
        let group = json!({"switch": "dvs-kubernetes", "name": "late-port-group", "vlan": 100});
        site.stage(Method::POST, "port-groups", &group).await?;
        self.named(DCS_MACHINE, "late-datastore", "no datastore").await?;
        site.stage(Method::POST, "datastores", &json!({"name": "late-datastore", "capacityGb": 1000})).await
    }

    /// An object of the manifests by its kind and name.
    fn document(&self, kind: &str, name: &str) -> Result<Value> {
        let found = self.objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.cloned().with_context(|| format!("the manifests hold no {kind} {name}"))
    }

    /// Waits until an object of the cluster says so in the message of a condition.
    async fn named(&self, kind: Kind, text: &str, what: &str) -> Result<()> {
        self.named_within(SOON, kind, text, what).await
    }

    /// The same with a limit of its own.
    async fn named_within(&self, limit: Duration, kind: Kind, text: &str, what: &str) -> Result<()> {
        let says = |object: &DynamicObject| {
            let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
            let mut messages = conditions.into_iter().flatten().filter_map(|condition| condition["message"].as_str());
            messages.any(|message| message.contains(text))
        };
        self.until(limit, kind, &format!("{what}: named by the {}", kind.2), says).await
    }

    async fn is_ready(&self, kind: Kind, what: &str) -> Result<()> {
        let what = format!("{what}: the {} is ready", kind.2);
        self.until(SOON, kind, &what, |object| tree::is_true(object, "Ready")).await
    }

    async fn until(
        &self,
        limit: Duration,
        kind: Kind,
        what: &str,
        holds: impl Fn(&DynamicObject) -> bool,
    ) -> Result<()> {
        let stage = self.progress.stage(what);
        let objects = tree::api(&self.environment.management.client, &self.shape.namespace, kind);
        let deadline = Instant::now() + limit;
        loop {
            let all = objects.list(&kube::api::ListParams::default()).await?.items;
            let prefix = |object: &&DynamicObject| {
                object.metadata.name.as_deref().is_some_and(|name| name.starts_with(&self.shape.name))
            };
            let mine: Vec<&DynamicObject> = all.iter().filter(prefix).collect();
            if mine.iter().any(|object| holds(object)) {
                stage.done("");
                return Ok(());
            }
            if Instant::now() > deadline {
                let statuses: Vec<String> =
                    mine.iter().map(|object| object.data["status"]["conditions"].to_string()).collect();
                bail!("{what}: not within {} s; conditions: {}", limit.as_secs(), statuses.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}
