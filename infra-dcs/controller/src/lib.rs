//! Cluster API infrastructure provider for Huawei DCS: the Kubernetes side. It talks to the site through the machine
//! service of its adapter and knows nothing of the site's own API.

pub mod api;
pub mod claims;
pub mod cluster;
pub mod credentials;
pub mod disks;
pub mod guest;
pub mod machine;
mod management;
pub mod pool;
pub mod site;
pub mod template;
pub mod webhooks;

use std::{path::PathBuf, sync::Arc};

use clap::Parser;
use cluster_api::labels;
use kube::ResourceExt;
use manager::{Identity, Informer, Manager, ObjectKey, StartError, cli::ManagerArgs};

use crate::{
    cluster::ClusterReconciler,
    disks::{Disks, Sources},
    machine::{Caches, MachineReconciler},
    management::Management,
    pool::PoolReconciler,
    site::Sites,
    template::TemplateReconciler,
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
    let effects = machine::EFFECTS.iter().chain(cluster::EFFECTS).chain(pool::EFFECTS);
    effects.chain(disks::EFFECTS).chain(template::EFFECTS).copied()
}

/// Who this provider's process is.
pub const IDENTITY: Identity = Identity {
    name: "basalt-dcs-controller",
    provider: "infrastructure-dcs",
    version: env!("CARGO_PKG_VERSION"),
    lease: "controller-leader-election-capdcs",
    field_manager: "basalt-dcs-controller",
};

/// Objects worked on at once.
#[derive(Clone, Copy, Debug)]
pub struct Concurrency {
    /// Machines.
    pub machines: usize,
    /// Clusters, and pools as many.
    pub clusters: usize,
}

/// Wires the provider and runs it until it is told to stop.
pub async fn run(args: Args) -> Result<(), StartError> {
    let mut manager = Manager::new(args.manager, IDENTITY).await?;
    let concurrency = Concurrency { machines: args.dcsmachine_concurrency, clusters: args.dcscluster_concurrency };
    register(&mut manager, &Sites::at_socket(args.adapter_socket), concurrency);
    manager.run().await
}

/// Adds this provider's controllers and webhooks to a process.
pub fn register(manager: &mut Manager, sites: &Sites, concurrency: Concurrency) {
    let machines = Informer::default()
        .index(machine::BY_POOL, machine::by_pool)
        .index(machine::BY_CLUSTER, machine::by_cluster)
        .index(machine::BY_TASK, machine::by_task)
        .index(machine::BY_QUEUE, machine::by_queue);
    let caches = Caches {
        machines: manager.informer(machines),
        infras: manager.informer(Informer::default()),
        pools: manager.informer(Informer::default().index(disks::BY_TASK, disks::by_task)),
        owners: manager.informer(Informer::default()),
        clusters: manager.informer(Informer::default()),
    };
    let management = Arc::new(Management::new(manager.client()));

    let reconciler = MachineReconciler::new(manager, caches.clone(), sites.clone(), Arc::clone(&management));
    let (of_site, clock) = (caches.clone(), manager.clock());
    let (of_pool, of_infra, of_cluster) = (caches.machines.clone(), caches.machines.clone(), caches.machines.clone());
    let of_machines = manager
        .controller("dcsmachine", &caches.machines, reconciler, concurrency.machines)
        .watches(&caches.owners, machine::woken_by_owner)
        .watches(&caches.machines, move |old, new| machine::woken_by_permit(&of_site, old, new, clock.now()))
        .watches(&caches.pools, move |old, new| machine::woken_by_pool(&of_pool, old, new))
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

    let templates: Informer<api::DCSMachineTemplate> = manager.informer(Informer::default());
    let reconciler = TemplateReconciler::new(manager, templates.clone(), caches.clone(), sites.clone());
    let of_namespace = templates.clone();
    manager
        .controller("dcsmachinetemplate", &templates, reconciler, concurrency.clusters)
        .watches(&caches.infras, move |old, new| template::woken_by_infra(&of_namespace, old, new));

    let sources = Sources { caches: caches.clone(), templates };
    let disks = Disks::new(manager, sources, sites.clone(), Arc::clone(&management));
    let reconciler = ClusterReconciler::new(manager, caches.clone(), sites.clone(), management);
    let infras = caches.infras.clone();
    manager
        .controller("dcscluster", &caches.infras, reconciler, concurrency.clusters)
        .watches(&caches.clusters, cluster::woken_by_cluster)
        .watches(&caches.machines, move |old, new| cluster::woken_by_machine(&infras, old, new));

    let reconciler = PoolReconciler::new(manager, caches.pools.clone(), caches.machines.clone(), disks);
    let (pools, machines) = (caches.pools.clone(), caches.machines.clone());
    let of_pools = manager
        .controller("dcsiphostnamepool", &caches.pools, reconciler, concurrency.clusters)
        .watches(&caches.machines, pool::woken_by_machine)
        .watches(&caches.infras, move |old, new| {
            let facts = |infra: &api::DCSCluster| {
                let refused = infra.status.as_ref().and_then(|status| {
                    api::condition(&status.conditions, machine::types::CREDENTIALS).map(|known| known.status.clone())
                });
                (refused, infra.metadata.deletion_timestamp.is_some())
            };
            let (Some(infra), true) = (new, old.map(facts) != new.map(facts)) else { return Vec::new() };
            disks::woken_by_infra(pools.all().iter().map(AsRef::as_ref), infra)
        })
        .watches(&caches.clusters, move |old, new| {
            let paused = |cluster: &cluster_api::v1beta2::Cluster| cluster.spec.paused;
            let (Some(cluster), true) = (new, old.map(paused) != new.map(paused)) else { return Vec::new() };
            let of_cluster = machines.by_index(machine::BY_CLUSTER, &ObjectKey::of(cluster).to_string());
            let pool = |machine: &Arc<api::DCSMachine>| {
                ObjectKey::of(&**machine).sibling(machine.spec.ip_host_pool_ref.name.clone())
            };
            of_cluster.iter().map(pool).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
        });

    let (machines, pools) = (caches.machines.clone(), caches.pools.clone());
    let (wake_machine, wake_pool) = (of_machines.requeue(), of_pools.requeue());
    sites.on_task_end(move |task| {
        for machine in machines.by_index(machine::BY_TASK, task) {
            wake_machine.changed(ObjectKey::of(&*machine));
        }
        for pool in pools.by_index(disks::BY_TASK, task) {
            wake_pool.changed(ObjectKey::of(&*pool));
        }
    });

    manager.webhooks(webhooks::routes(&caches));
}
