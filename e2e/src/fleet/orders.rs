//! What a user of the fleet orders: clusters, more workers, fewer, none.

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

use super::plan::Plan;
use crate::{cluster::Shape, tree};

const CLUSTER: (&str, &str, &str) = ("cluster.x-k8s.io", "v1beta2", "Cluster");
const DEPLOYMENT: (&str, &str, &str) = ("cluster.x-k8s.io", "v1beta2", "MachineDeployment");
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
    let api = tree::api(&client, &shape.namespace, DEPLOYMENT);
    let name = format!("{}-md-0", shape.name);
    let patch = Patch::Merge(json!({"spec": {"replicas": workers}}));
    let parameters = PatchParams::default();
    let asked = (|| api.patch(&name, &parameters, &patch)).retry(patience()).when(is_busy).await;
    asked.map(drop).with_context(|| format!("MachineDeployment {name}"))
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
