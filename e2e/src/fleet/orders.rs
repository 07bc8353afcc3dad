//! What a user of the fleet orders: clusters, more workers, fewer, another version, a new machine for a bad one, none.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use backon::{ConstantBuilder, Retryable};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};

use super::{census::Role, plan::Plan};
use crate::{cluster::Shape, tree};

const CLUSTER: (&str, &str, &str) = ("cluster.x-k8s.io", "v1beta2", "Cluster");
const DEPLOYMENT: (&str, &str, &str) = ("cluster.x-k8s.io", "v1beta2", "MachineDeployment");
const CONTROL_PLANE: (&str, &str, &str) = ("controlplane.cluster.x-k8s.io", "v1beta2", "KubeadmControlPlane");
const MACHINE: (&str, &str, &str) = ("cluster.x-k8s.io", "v1beta2", "Machine");
/// What Cluster API does not own: its user takes it away.
const LEFT: &[(&str, &str, &str)] = &[
    ("infrastructure.cluster.x-k8s.io", "v1beta1", "DCSIpHostnamePool"),
    ("infrastructure.cluster.x-k8s.io", "v1beta1", "DCSMachineTemplate"),
    ("bootstrap.cluster.x-k8s.io", "v1beta2", "KubeadmConfigTemplate"),
];

/// How often a request is made that a busy server turns away.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// Size of the value in a Secret of others.
const FOREIGN_BYTES: usize = 2048;

/// Creates the namespace of the fleet.
pub async fn namespace(client: &Client, name: &str) -> Result<()> {
    let object = Namespace { metadata: named(name), ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Creates all objects of a cluster.
pub async fn create(client: Client, shape: Shape) -> Result<()> {
    for object in Plan::objects(&shape)? {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        create_one(&client, &shape.namespace, object).await.with_context(|| format!("{kind} of {}", shape.name))?;
    }
    Ok(())
}

async fn create_one(client: &Client, namespace: &str, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.clone().context("an object without kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let parameters = PostParams::default();
    match (|| api.create(&parameters, &object)).retry(patience()).when(is_busy).await {
        // The answer to an earlier attempt was lost: nobody else makes these.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        answer => Ok(answer.map(drop)?),
    }
}

/// Asks for so many workers of a cluster.
pub async fn scale(client: Client, shape: Shape, workers: u32) -> Result<()> {
    let deployment = format!("{}-md-0", shape.name);
    change(&client, &shape, DEPLOYMENT, &deployment, json!({"spec": {"replicas": workers}})).await
}

/// Asks for another version of the machines of a role, which come from a template of their own.
pub async fn upgrade(client: Client, shape: Shape, role: Role, version: String) -> Result<()> {
    let template = Plan::template_of(&shape, role, &version)?;
    let reference = json!({"name": template["metadata"]["name"]});
    create_one(&client, &shape.namespace, template).await.context("the template of the new version")?;
    let (kind, name, spec) = match role {
        Role::ControlPlane => {
            let machine = json!({"spec": {"infrastructureRef": reference}});
            (CONTROL_PLANE, format!("{}-kcp", shape.name), json!({"version": version, "machineTemplate": machine}))
        }
        Role::Worker => {
            let machine = json!({"version": version, "infrastructureRef": reference});
            (DEPLOYMENT, format!("{}-md-0", shape.name), json!({"template": {"spec": machine}}))
        }
    };
    change(&client, &shape, kind, &name, json!({"spec": spec})).await
}

/// Says that a machine is bad and shall be replaced, which takes a health check that looks after it.
pub async fn remediate(client: Client, shape: Shape, machine: String) -> Result<()> {
    let (cluster, labels) = (&shape.name, json!({"cluster.x-k8s.io/cluster-name": shape.name}));
    let silent = json!({"type": "Ready", "status": "Unknown", "timeoutSeconds": 300});
    let check = json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineHealthCheck",
        "metadata": {"name": cluster},
        "spec": {
            "clusterName": cluster, "selector": {"matchLabels": labels},
            "checks": {"unhealthyNodeConditions": [silent]},
        },
    });
    create_one(&client, &shape.namespace, check).await.context("the health check")?;
    let bad = json!({"metadata": {"annotations": {"cluster.x-k8s.io/remediate-machine": ""}}});
    change(&client, &shape, MACHINE, &machine, bad).await
}

async fn change(client: &Client, shape: &Shape, kind: (&str, &str, &str), name: &str, patch: Value) -> Result<()> {
    let api = tree::api(client, &shape.namespace, kind);
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
    let asked = (|| api.patch(name, &parameters, &patch)).retry(patience()).when(is_busy).await;
    asked.map(drop).with_context(|| format!("{} {name}", kind.2))
}

/// Asks for the end of a cluster.
pub async fn delete(client: Client, shape: Shape) -> Result<()> {
    let api = tree::api(&client, &shape.namespace, CLUSTER);
    let parameters = DeleteParams::default();
    let asked = (|| api.delete(&shape.name, &parameters)).retry(patience()).when(is_busy).await;
    asked.map(drop).with_context(|| format!("Cluster {}", shape.name))
}

/// Takes away what Cluster API leaves, when the clusters are gone, and waits until it is gone too.
pub async fn clear(client: &Client, namespace: &str, limit: Duration) -> Result<()> {
    let deadline = std::time::Instant::now() + limit;
    let (parameters, all) = (DeleteParams::default(), ListParams::default());
    for resource in LEFT {
        let api = tree::api(client, namespace, *resource);
        (|| api.delete_collection(&parameters, &all)).retry(patience()).when(is_busy).await?;
        loop {
            let left = api.list_metadata(&all).await?.items.len();
            if left == 0 {
                break;
            }
            if std::time::Instant::now() > deadline {
                bail!("{left} objects of kind {} are not gone after {} s", resource.2, limit.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Creates a Secret that is of no concern to any manager.
pub async fn foreign_secret(client: Client, namespace: String, number: u32) -> Result<()> {
    let value = ByteString(vec![b'x'; FOREIGN_BYTES]);
    let secret = Secret {
        metadata: named(&format!("foreign-{number:06}")),
        data: Some([("value".to_owned(), value)].into()),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let parameters = PostParams::default();
    Ok((|| api.create(&parameters, &secret)).retry(patience()).when(is_busy).await.map(drop)?)
}

/// How often and when a request is made again.
fn patience() -> ConstantBuilder {
    ConstantBuilder::default().with_delay(PAUSE).with_max_times(ATTEMPTS)
}

/// Whether a busy server or webhook turned a request away.
fn is_busy(error: &kube::Error) -> bool {
    !matches!(error, kube::Error::Api(status) if status.code < 429)
}

fn named(name: &str) -> kube::api::ObjectMeta {
    kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() }
}
