//! Cluster API infrastructure provider for Huawei DCS: the Kubernetes side. It talks to the site through the machine
//! service of its adapter and knows nothing of the site's own API.

pub mod api;
pub mod claims;
pub mod cluster;
pub mod credentials;
pub mod guest;
pub mod machine;
mod management;
pub mod pool;
pub mod site;
pub mod webhooks;

use std::{path::PathBuf, sync::Arc};

use clap::Parser;
use cluster_api::labels;
use kube::ResourceExt;
use manager::{Identity, Informer, Manager, ObjectKey, StartError, cli::ManagerArgs};

use crate::{
    cluster::ClusterReconciler,
    machine::{Caches, MachineReconciler},
    management::Management,
    pool::PoolReconciler,
    site::Sites,
};

/// Runs Kubernetes nodes as virtual machines on Huawei DCS.
#[derive(Parser)]
#[command(name = "basalt-dcs-controller", version)]
pub struct Args {
    #[command(flatten)]
    manager: ManagerArgs,
    /// Unix socket of the adapter that talks to the sites
    #[arg(long, env = "ADAPTER_SOCKET", default_value = "/run/basalt/machine.sock", value_name = "PATH")]
    adapter_socket: PathBuf,
    /// Number of machines worked on at once
    #[arg(long, env = "DCSMACHINE_CONCURRENCY", default_value_t = 20)]
    dcsmachine_concurrency: usize,
    /// Number of clusters worked on at once
    #[arg(long, env = "DCSCLUSTER_CONCURRENCY", default_value_t = 10)]
    dcscluster_concurrency: usize,
}

/// Every effect of this provider, for crash tests.
pub fn effects() -> impl Iterator<Item = &'static str> {
    machine::EFFECTS.iter().chain(cluster::EFFECTS).chain(pool::EFFECTS).copied()
}

/// Wires the provider and runs it until it is told to stop.
pub async fn run(args: Args) -> Result<(), StartError> {
    let identity = Identity {
        name: "basalt-dcs-controller",
        provider: "infrastructure-dcs",
        version: env!("CARGO_PKG_VERSION"),
        lease: "controller-leader-election-capdcs",
        field_manager: "basalt-dcs-controller",
    };
    let mut manager = Manager::new(args.manager, identity).await?;
    let machines = Informer::default()
        .index(machine::BY_POOL, machine::by_pool)
        .index(machine::BY_CLUSTER, machine::by_cluster)
        .index(machine::BY_TASK, machine::by_task);
    let caches = Caches {
        machines: manager.informer(machines),
        infras: manager.informer(Informer::default()),
        pools: manager.informer(Informer::default()),
        owners: manager.informer(Informer::default()),
        clusters: manager.informer(Informer::default()),
    };
    let sites = Sites::at_socket(args.adapter_socket);
    let management = Arc::new(Management::new(manager.client()));

    let reconciler = MachineReconciler::new(&manager, caches.clone(), sites.clone(), Arc::clone(&management));
    let (of_pool, of_infra, of_cluster) = (caches.machines.clone(), caches.machines.clone(), caches.machines.clone());
    let controller = manager
        .controller("dcsmachine", &caches.machines, reconciler, args.dcsmachine_concurrency)
        .watches(&caches.owners, machine::woken_by_owner)
        .watches(&caches.pools, move |_, new| machine::woken_by_pool(&of_pool, new))
        .watches(&caches.infras, move |old, new| {
            let facts = |infra: &api::DCSCluster| (infra.status.clone(), infra.spec.clone());
            let (Some(infra), true) = (new, old.map(facts) != new.map(facts)) else { return Vec::new() };
            let Some(cluster) = infra.labels().get(labels::CLUSTER_NAME) else { return Vec::new() };
            machine::woken_by_cluster(&of_infra, &ObjectKey::of(infra).sibling(cluster.clone()))
        })
        .watches(&caches.clusters, move |old, new| {
            let facts = |cluster: &cluster_api::v1beta2::Cluster| {
                (cluster.spec.paused, cluster.is_infrastructure_provisioned())
            };
            let (Some(cluster), true) = (new, old.map(facts) != new.map(facts)) else { return Vec::new() };
            machine::woken_by_cluster(&of_cluster, &ObjectKey::of(cluster))
        });
    let (of_task, requeue) = (caches.machines.clone(), controller.requeue());
    sites.on_task_end(move |task| {
        for machine in of_task.by_index(machine::BY_TASK, task) {
            requeue.changed(ObjectKey::of(&*machine));
        }
    });

    let reconciler = ClusterReconciler::new(&manager, caches.clone(), sites, management);
    let infras = caches.infras.clone();
    manager
        .controller("dcscluster", &caches.infras, reconciler, args.dcscluster_concurrency)
        .watches(&caches.clusters, cluster::woken_by_cluster)
        .watches(&caches.machines, move |old, new| cluster::woken_by_machine(&infras, old, new));

    let reconciler = PoolReconciler::new(&manager, caches.pools.clone(), caches.machines.clone());
    manager
        .controller("dcsiphostnamepool", &caches.pools, reconciler, args.dcscluster_concurrency)
        .watches(&caches.machines, pool::woken_by_machine);

    manager.webhooks(webhooks::routes());
    manager.run().await
}
