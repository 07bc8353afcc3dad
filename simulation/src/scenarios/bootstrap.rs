//! The bootstrap provider: several machines of a control plane that all want to make the cluster, workers, machines so
//! slow that their tokens must be kept alive, and the end of it all.

use std::{sync::Arc, time::Duration};

use bootstrap_kubeadm::config::Settings;
use futures::FutureExt;
use kubeadm::{api::spec::EncryptionAlgorithm, kubeconfig, pki::Pair};
use manager::clock::Clock;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Scenario, checks};
use crate::{
    chance::Chance,
    journal::Violation,
    kinds::{CLUSTER, CONFIG_MAP, KUBEADM_CONFIG, MACHINE, SECRET, SIM_CLUSTER, SIM_MACHINE},
    models::{Model, infrastructure::Infrastructure},
    plan::Horizon,
    store::{Store, flag, items, secret_value, text},
    world::World,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "bootstrap",
    horizon: Horizon { calls: 200, events: 120, time: Duration::from_secs(200), instances: 2 },
    worlds: 9300,
    effects: || bootstrap_kubeadm::config::EFFECTS.to_vec(),
    tell: |world| tell(world).boxed(),
};

/// Time in which everything must be there once nothing goes wrong any more: the longest backoff of a queue, the slowest
/// machine, and some air.
const LIMIT: Duration = Duration::from_secs(50 * 60);
/// Life of a token.
const TOKEN: Duration = Duration::from_secs(15 * 60);
/// The slowest machine: it outlives its token, which must be kept alive or replaced.
const SLOW: Duration = Duration::from_secs(25 * 60);

async fn tell(mut world: World) -> Result<(), Violation> {
    let chance = world.chance.of("story");
    let infrastructure = Infrastructure::new(
        world.store("infrastructure"),
        Arc::clone(&world.workload),
        world.chance.of("infrastructure"),
        SLOW,
    );
    world.model("infrastructure", infrastructure);
    world.model("kubeconfig", Kubeconfig { store: world.store("kubeconfig") });
    checks::always(&world, &[KUBEADM_CONFIG]);
    world.run(
        bootstrap_kubeadm::IDENTITY,
        Arc::new(|manager, _| {
            bootstrap_kubeadm::register(manager, Settings { token_ttl: TOKEN }, 10);
        }),
    );
    let machines = create(&world.user, &chance);
    interfere(&world, &chance, &machines).await;
    let (store, workload) = (world.user.clone(), Arc::clone(&world.workload));
    world
        .until("converges", LIMIT, || {
            if let Some(failed) = workload.failed().first() {
                return Err(format!("host {failed} could not join"));
            }
            all_are_nodes(&store)
        })
        .await?;
    checks::quiet(&world).await?;
    world.user.delete(CLUSTER, "c");
    let store = world.user.clone();
    world
        .until("I10", LIMIT, || {
            checks::nothing_is_left(
                &store,
                &[CLUSTER, MACHINE, KUBEADM_CONFIG, SIM_CLUSTER, SIM_MACHINE, SECRET, CONFIG_MAP],
            )
        })
        .await
}

/// The objects of a cluster, as a user applies them; answers with the names of the machines.
fn create(user: &Store, chance: &Chance) -> Vec<String> {
    user.create(SIM_CLUSTER, json!({"metadata": {"name": "c"}, "spec": {}}));
    let reference =
        |kind: crate::store::Kind, name: &str| json!({"apiGroup": kind.group, "kind": kind.kind, "name": name});
    user.create(
        CLUSTER,
        json!({"metadata": {"name": "c"}, "spec": {"infrastructureRef": reference(SIM_CLUSTER, "c")}}),
    );
    let control_planes = 1 + chance.below(3);
    let workers = chance.below(3);
    let names = (0..control_planes)
        .map(|number| format!("cp-{number}"))
        .chain((0..workers).map(|number| format!("w-{number}")));
    let names: Vec<_> = names.collect();
    for name in &names {
        let labels = if name.starts_with("cp") { json!({"cluster.x-k8s.io/control-plane": ""}) } else { json!({}) };
        // Quick keys: what is simulated is time.
        let spec = json!({"clusterConfiguration": {"encryptionAlgorithm": "ECDSA-P256"}});
        let spec = if name.starts_with("cp") { spec } else { json!({"joinConfiguration": {}}) };
        user.create(KUBEADM_CONFIG, json!({"metadata": {"name": name}, "spec": spec}));
        user.create(SIM_MACHINE, json!({"metadata": {"name": name}, "spec": {}}));
        let spec = json!({
            "clusterName": "c", "version": "v1.34.5",
            "bootstrap": {"configRef": reference(KUBEADM_CONFIG, name)}, "infrastructureRef": reference(SIM_MACHINE, name),
        });
        let metadata = json!({"name": name, "labels": labels});
        user.create(MACHINE, json!({"metadata": metadata, "spec": spec}));
    }
    names
}

/// What users do meanwhile, in some worlds.
async fn interfere(world: &World, chance: &Chance, machines: &[String]) {
    sleep(chance.between(Duration::ZERO, Duration::from_secs(60))).await;
    match chance.below(6) {
        0 => world.pause(chance.between(Duration::from_secs(1), Duration::from_secs(200))).await,
        // A machine that has not booted yet is given up, and will not boot: if it held the lock, another must take it. One that
        // had become a member of etcd beside one other would take etcd along, and no provider could help that.
        1 => {
            if let Some(name) = chance.pick(machines).filter(|name| !name.ends_with("-0")) {
                let is_provisioned = world
                    .user
                    .get(MACHINE, name)
                    .is_some_and(|machine| flag(&machine, "/status/initialization/infrastructureProvisioned"));
                if !is_provisioned && !world.workload.has_host(name) {
                    world.workload.give_up(name);
                    world.user.delete(MACHINE, name);
                }
            }
        }
        // Boot data that nobody has read is lost.
        2 => {
            if let Some(name) = chance.pick(machines).filter(|name| !world.workload.has_host(name)) {
                world.user.delete(SECRET, name);
            }
        }
        _ => {}
    }
}

fn all_are_nodes(store: &Store) -> Result<(), String> {
    for machine in store.list(MACHINE) {
        if text(&machine, "/status/nodeRef/name").is_empty() {
            return Err(format!("Machine {} has no node", text(&machine, "/metadata/name")));
        }
    }
    for config in store.list(KUBEADM_CONFIG) {
        let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        if !items(&config, "/status/conditions").any(is_ready) {
            return Err(format!("KubeadmConfig {} is not ready", text(&config, "/metadata/name")));
        }
    }
    Ok(())
}

/// Whoever makes the kubeconfig of a cluster once its authority is there; a control plane provider does in earnest.
struct Kubeconfig {
    store: Store,
}

impl Model for Kubeconfig {
    fn step(&mut self) -> Option<Duration> {
        let name = kubeconfig::secret_name("c");
        let (Some(cluster), Some(authority)) = (self.store.get(CLUSTER, "c"), self.store.get(SECRET, "c-ca")) else {
            return None;
        };
        if self.store.get(SECRET, &name).is_some() || crate::store::is_deleting(&cluster) {
            return None;
        }
        let part = |key| String::from_utf8(secret_value(&authority, key)).unwrap_or_default();
        let pair = Pair { certificate: part("tls.crt"), key: part("tls.key").into() };
        let now = self.store.journal().clock().now();
        let made = kubeconfig::generate("c", "https://10.0.0.1:6443", &pair, EncryptionAlgorithm::EcdsaP256, now);
        let Ok(text_of_it) = made else {
            let what = "the cluster's authority signs no kubeconfig";
            self.store.journal().violate(Violation::new("certificates", what));
            return None;
        };
        let owner = json!({"apiVersion": CLUSTER.api_version(), "kind": "Cluster", "name": "c", "uid": text(&cluster, "/metadata/uid")});
        let labels = json!({"cluster.x-k8s.io/cluster-name": "c"});
        self.store.create(
            SECRET,
            json!({
                "metadata": {"name": name, "ownerReferences": [owner], "labels": labels},
                "type": "cluster.x-k8s.io/secret", "stringData": {"value": text_of_it},
            }),
        );
        None
    }
}
