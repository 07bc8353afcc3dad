//! Reads of one pass: nodes, static pods, etcd through one of its members.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::{Api, ResourceExt, api::ListParams};
use manager::workload::WorkloadClient;

use super::{Error, Host, KUBE_SYSTEM, Pods, Workload};
use crate::{
    controlplane::{facts::Etcd, names::NODE_ROLE},
    etcd::Manner,
};

/// Name of the `ConfigMap` with kubeadm's configuration.
const KUBEADM_CONFIG: &str = "kubeadm-config";
/// Limit of a read. An API server that lost its etcd member keeps requests waiting; the next connection leads to another.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// How etcd is reached.
#[derive(Clone)]
pub enum EtcdAccess {
    /// Not at all: it is someone else's.
    External,
    /// Its certificates are not usable, for this reason.
    Broken(String),
    /// Through its pods.
    Pods(Manner),
}

/// Whether `kubeadm init` is done: its configuration is stored.
pub async fn is_initialized(client: &WorkloadClient) -> Result<bool, Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.client().clone(), KUBE_SYSTEM);
    in_time(async { Ok(maps.get_opt(KUBEADM_CONFIG).await?.is_some()) }).await
}

async fn in_time<T>(read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(LIMIT, read).await.unwrap_or(Err(Error::Silent))
}

/// Reads what conditions and decisions need. `hosts` are the machines, the best to ask etcd first. An error means that the
/// API server does not answer; what it refuses becomes part of the answer.
pub async fn read(
    client: &WorkloadClient,
    pods: &dyn Pods,
    hosts: &[Host],
    access: &EtcdAccess,
) -> Result<Workload, Error> {
    let (nodes, statics) = tokio::join!(in_time(read_nodes(client, hosts)), in_time(read_pods(client)));
    let mut workload = Workload { nodes: settle(nodes)?, pods: settle(statics)?, etcd: Etcd::External };
    workload.etcd = match access {
        EtcdAccess::External => Etcd::External,
        EtcdAccess::Broken(reason) => Etcd::Unknown(reason.clone()),
        EtcdAccess::Pods(manner) => {
            let nodes: Vec<_> = hosts.iter().filter_map(|host| workload.node_of(host)).collect();
            read_etcd(client, pods, &nodes, manner).await
        }
    };
    Ok(workload)
}

/// What the API server refused as text; that it does not answer stays an error.
fn settle<T>(read: Result<T, Error>) -> Result<Result<T, String>, Error> {
    match read {
        Ok(found) => Ok(Ok(found)),
        Err(error) if error.is_unreachable() => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}

async fn read_nodes(client: &WorkloadClient, hosts: &[Host]) -> Result<BTreeMap<String, Node>, Error> {
    let api: Api<Node> = Api::all(client.client().clone());
    let listed = api.list(&ListParams::default().labels(NODE_ROLE)).await?;
    let mut nodes: BTreeMap<_, _> = listed.items.into_iter().map(|node| (node.name_any(), node)).collect();
    for name in hosts.iter().filter_map(|host| host.node.as_ref()) {
        // A node that lost its label is still the machine's.
        if !nodes.contains_key(name)
            && let Some(node) = api.get_opt(name).await?
        {
            nodes.insert(name.clone(), node);
        }
    }
    Ok(nodes)
}

async fn read_pods(client: &WorkloadClient) -> Result<BTreeMap<String, Pod>, Error> {
    let api: Api<Pod> = Api::namespaced(client.client().clone(), KUBE_SYSTEM);
    let listed = api.list(&ListParams::default().labels(super::CONTROL_PLANE_PODS)).await?;
    Ok(listed.items.into_iter().map(|pod| (pod.name_any(), pod)).collect())
}

async fn read_etcd(client: &WorkloadClient, pods: &dyn Pods, nodes: &[String], manner: &Manner) -> Etcd {
    let mut failure = "no Machine has a Node yet".to_owned();
    for node in nodes {
        let asked = async {
            let mut etcd = pods.etcd(client, node, manner).await?;
            Ok::<_, Error>(etcd.view().await?)
        };
        match asked.await {
            Ok(view) => return Etcd::Known(view),
            Err(error) => failure = error.to_string(),
        }
    }
    Etcd::Unknown(failure)
}
