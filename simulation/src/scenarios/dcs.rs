//! The DCS provider: a cluster with its machines, disks that outlive VMs, an exclusion rule; a machine that is replaced;
//! and the end of it all.

use std::{sync::Arc, time::Duration};

use dcs_controller::{Concurrency, site::Sites};
use futures::FutureExt;
use kubeadm::{
    api::spec::EncryptionAlgorithm,
    pki::{self, Purpose},
};
use manager::clock::Clock;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{CANARY, Scenario, checks};
use crate::{
    chance::Chance,
    journal::Violation,
    kinds::{CLUSTER, DCS_CLUSTER, DCS_MACHINE, DCS_POOL, MACHINE, SECRET},
    models::{
        self, bootstrap,
        site::{self, Site},
    },
    plan::Horizon,
    store::{Kind, Store, items, text},
    world::World,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "dcs",
    horizon: Horizon { calls: 750, events: 400, time: Duration::from_secs(500), instances: 2 },
    worlds: 350,
    effects: || dcs_controller::effects().collect(),
    tell: |world| tell(world).boxed(),
};

/// Time in which everything must be there: attempts that fail are begun again after minutes.
const LIMIT: Duration = Duration::from_secs(60 * 60);

async fn tell(mut world: World) -> Result<(), Violation> {
    let chance = world.chance.of("story");
    let site = Site::new(world.store("site"), Arc::clone(&world.workload), world.chance.of("site"));
    tokio::spawn(models::live(
        site::Life(Arc::clone(&site)),
        Arc::clone(&world.journal),
        world.chance.of("life of the site"),
        (Duration::ZERO, Duration::ZERO),
    ));
    world.far_end(Arc::clone(&site) as Arc<_>);
    checks::always(&world, &[DCS_CLUSTER, DCS_MACHINE, DCS_POOL]);
    let machines = create(&world, &chance)?;
    let addresses: Vec<_> = (0..=machines.len()).map(address).collect();
    let watched = Arc::clone(&site);
    world.journal.watch_over(move || watched.check(&addresses));
    let at_site = Arc::clone(&site);
    world.run(
        dcs_controller::IDENTITY,
        Arc::new(move |manager, link| {
            let sites = Sites::over(site::transport(&at_site, link));
            dcs_controller::register(manager, &sites, Concurrency { machines: 10, clusters: 4 });
        }),
    );
    interfere(&world, &chance, &machines).await;
    let store = world.user.clone();
    let at_site = Arc::clone(&site);
    world
        .until("converges", LIMIT, || {
            all_run(&store)?;
            at_site.misplaced().map_or(Ok(()), |name| Err(format!("VM {name} is not in its folder")))
        })
        .await?;
    checks::quiet(&world).await?;
    world.user.delete(CLUSTER, "c");
    let store = world.user.clone();
    world
        .until("I10", LIMIT, || checks::nothing_is_left(&store, &[CLUSTER, MACHINE, DCS_MACHINE, DCS_CLUSTER]))
        .await?;
    // A pool outlives clusters: it goes when the user says so, and with it its disks.
    world.user.delete(DCS_POOL, "pool");
    let store = world.user.clone();
    world
        .until("I10", LIMIT, || {
            checks::nothing_is_left(&store, &[DCS_POOL])?;
            match site.leftovers() {
                left if left.is_empty() => Ok(()),
                left => Err(format!("at the site: {}", left.join(", "))),
            }
        })
        .await
}

fn address(number: usize) -> String {
    format!("10.0.0.{}", 10 + number)
}

/// The objects of a cluster, as users and the other providers make them; answers with the names of the machines.
fn create(world: &World, chance: &Chance) -> Result<Vec<String>, Violation> {
    let user = &world.user;
    let reference = |kind: Kind, name: &str| json!({"apiGroup": kind.group, "kind": kind.kind, "name": name});
    let secret = |name: &str, data: Value| user.create(SECRET, json!({"metadata": {"name": name}, "stringData": data}));
    secret("login", json!({"authUser": "u", "authKey": CANARY, "endpoint": "https://10.0.0.1:7443"}));
    let now = world.journal.clock().now();
    let authority = pki::generate(Purpose::ClusterCa, EncryptionAlgorithm::EcdsaP256, None, now)
        .map_err(|error| Violation::new("harness", error.to_string()))?;
    secret("c-ca", json!({"tls.crt": authority.certificate, "tls.key": authority.key.as_str()}));
    bootstrap::put_token(world.workload.store());
    let count = 1 + usize::try_from(chance.below(3)).unwrap_or_default();
    let has_disks = chance.once_in(2);
    // One entry more than machines, so that a replacement may come before its predecessor is gone.
    let entry = |number: usize| {
        let disks = if has_disks {
            json!([{"slot": 0, "quantityGB": 40, "datastoreName": "ds", "path": "/data"}])
        } else {
            json!([])
        };
        json!({"ip": address(number), "mask": "24", "gateway": "10.0.0.1", "persistentDisk": disks})
    };
    user.create(
        DCS_POOL,
        json!({"metadata": {"name": "pool"}, "spec": {"pool": (0..=count).map(entry).collect::<Vec<_>>()}}),
    );
    user.create(
        DCS_CLUSTER,
        json!({"metadata": {"name": "c"}, "spec": {
            "controlPlaneLoadBalancer": {"type": "external", "host": "10.0.0.1", "port": 6443},
            "credentialSecretRef": {"name": "login"}, "networkType": "kube-ovn", "site": "site-1",
            "controlPlaneHA": {"enabled": chance.once_in(2)},
        }}),
    );
    user.create(
        CLUSTER,
        json!({"metadata": {"name": "c"}, "spec": {"infrastructureRef": reference(DCS_CLUSTER, "c")}}),
    );
    let names: Vec<_> = (0..count).map(|number| format!("m-{number}")).collect();
    for name in &names {
        machine(user, name, "m-0");
    }
    Ok(names)
}

/// A machine with its boot data, which another provider has made: the first makes the cluster, the others join it.
fn machine(user: &Store, name: &str, first: &str) {
    // They join as workers: nobody here would take a member that goes out of etcd.
    let value = if name == first { bootstrap::init_data() } else { bootstrap::join_data(false) };
    let data = json!({"value": value, "format": "cloud-config"});
    user.create(SECRET, json!({"metadata": {"name": format!("{name}-boot")}, "stringData": data}));
    user.create(
        DCS_MACHINE,
        json!({
            "metadata": {"name": name, "labels": {"cluster.x-k8s.io/cluster-name": "c"}},
            "spec": {
                "vmTemplateName": "t", "ipHostPoolRef": {"name": "pool"}, "location": {"type": "folder", "name": "vms"},
                "vmConfig": {
                    "dcsMachineCpuSpec": {"quantity": 4}, "dcsMachineMemorySpec": {"quantity": 8192},
                    "dcsMachineDiskSpec": [{"quantity": 40, "systemVolume": true, "datastoreName": "ds"}],
                },
            },
        }),
    );
    let reference = json!({"apiGroup": DCS_MACHINE.group, "kind": DCS_MACHINE.kind, "name": name});
    user.create(
        MACHINE,
        json!({
            "metadata": {"name": name, "labels": {"cluster.x-k8s.io/control-plane": ""}},
            "spec": {
                "clusterName": "c", "version": "v1.34.5", "infrastructureRef": reference,
                "bootstrap": {"dataSecretName": format!("{name}-boot")},
            },
        }),
    );
}

/// What users do meanwhile, in some worlds.
async fn interfere(world: &World, chance: &Chance, machines: &[String]) {
    sleep(chance.between(Duration::ZERO, Duration::from_secs(200))).await;
    match chance.below(6) {
        0 => world.pause(chance.between(Duration::from_secs(1), Duration::from_secs(200))).await,
        1 | 2 if machines.len() > 1 => {
            world.user.delete(MACHINE, &machines[1]);
            machine(&world.user, "m-9", "m-0");
        }
        // Everything is given up while it is being made.
        3 => world.user.delete(CLUSTER, "c"),
        _ => {}
    }
}

fn all_run(store: &Store) -> Result<(), String> {
    if store.get(CLUSTER, "c").is_some_and(|cluster| crate::store::is_deleting(&cluster)) {
        return Err("the Cluster is still there".to_owned());
    }
    for machine in store.list(MACHINE) {
        let name = text(&machine, "/metadata/name");
        if crate::store::is_deleting(&machine) {
            return Err(format!("Machine {name} is still there"));
        }
        if text(&machine, "/status/nodeRef/name").is_empty() {
            return Err(format!("Machine {name} has no node"));
        }
        let infrastructure = store.get(DCS_MACHINE, name).ok_or_else(|| format!("DCSMachine {name} is gone"))?;
        let holds = |type_: &str| {
            items(&infrastructure, "/status/conditions").any(|one| one["type"] == type_ && one["status"] == "True")
        };
        for type_ in ["Ready", "CDROMDetached"] {
            if !holds(type_) {
                return Err(format!("DCSMachine {name} is not {type_}"));
            }
        }
    }
    Ok(())
}
