//! The control plane provider: scaled up and down, machines lost, replaced and deleted by users, versions changed; and the
//! end of it all.

use std::{sync::Arc, time::Duration};

use controlplane_kubeadm::{
    controlplane::{ControlPlanes, Settings, names::FINALIZER},
    etcd::Limits,
};
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Scenario, checks};
use crate::{
    chance::Chance,
    journal::Violation,
    kinds::{
        self, CLUSTER, DEFINITION, KUBEADM_CONFIG, KUBEADM_CONTROL_PLANE, MACHINE, SECRET, SIM_CLUSTER, SIM_MACHINE,
        SIM_TEMPLATE,
    },
    models::{bootstrap::Bootstrap, health::HealthCheck, infrastructure::Infrastructure, pods::ModelPods},
    plan::Horizon,
    store::{Kind, Store, finalizers, is_deleting, items, text},
    world::World,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "control-plane",
    horizon: Horizon { calls: 900, events: 450, time: Duration::from_secs(700), instances: 2 },
    worlds: 350,
    effects: || controlplane_kubeadm::controlplane::act::EFFECTS.to_vec(),
    tell: |world| tell(world).boxed(),
};

/// Time for one change of the control plane: several machines one after the other, each after the last is healthy.
const LIMIT: Duration = Duration::from_secs(90 * 60);
/// The slowest machine: longer than health checks and backoffs, and no longer, for nothing new comes of waiting.
const SLOW: Duration = Duration::from_secs(6 * 60);

async fn tell(mut world: World) -> Result<(), Violation> {
    let chance = world.chance.of("story");
    world.workload.is_managed();
    let workload = Arc::clone(&world.workload);
    let infrastructure = Infrastructure::new(
        world.store("infrastructure"),
        Arc::clone(&workload),
        world.chance.of("infrastructure"),
        SLOW,
    );
    world.model("infrastructure", infrastructure);
    world.model("bootstrap", Bootstrap::new(world.store("bootstrap"), workload.store()));
    world.model("health checks", HealthCheck::new(world.store("health checks"), Arc::clone(&workload)));
    // Providers find the version of a kind by its definition.
    world.user.within("").create(DEFINITION, kinds::kubeadm_config());
    checks::always(&world, &[KUBEADM_CONTROL_PLANE]);
    let store = world.store("checks");
    world.journal.watch_over(move || is_held(&store));
    let in_pods = Arc::clone(&workload);
    world.run(
        controlplane_kubeadm::IDENTITY,
        Arc::new(move |manager, link| {
            let settings = Settings { concurrency: 4, grace: Duration::from_secs(300), etcd: Limits::default() };
            ControlPlanes::register(manager, settings, ModelPods::new(link, &in_pods));
        }),
    );
    let mut replicas = *chance.pick(&[1, 1, 3]).unwrap_or(&1);
    create(&world.user, replicas, chance.once_in(2));
    for _ in 0..=chance.below(2) {
        settled(&world, replicas).await?;
        change(&world, &chance, &mut replicas).await;
    }
    settled(&world, replicas).await?;
    checks::quiet(&world).await?;
    world.user.delete(CLUSTER, "c");
    let store = world.user.clone();
    world
        .until("I10", LIMIT, || {
            checks::nothing_is_left(
                &store,
                &[CLUSTER, KUBEADM_CONTROL_PLANE, MACHINE, KUBEADM_CONFIG, SIM_CLUSTER, SIM_MACHINE, SECRET],
            )
        })
        .await
}

/// I6: a control plane that has made anything is there until that is gone.
fn is_held(store: &Store) -> Result<(), Violation> {
    let Some(control_plane) = store.get(KUBEADM_CONTROL_PLANE, "cp") else { return Ok(()) };
    if finalizers(&control_plane).contains(&FINALIZER) {
        return Ok(());
    }
    let uid = text(&control_plane, "/metadata/uid");
    for kind in [MACHINE, KUBEADM_CONFIG, SIM_MACHINE, SECRET] {
        for object in store.list(kind) {
            if items(&object, "/metadata/ownerReferences").any(|owner| owner["uid"] == uid) {
                let name = text(&object, "/metadata/name");
                return Err(Violation::new("I6", format!("{} {name} is there, and cp has no finalizer", kind.kind)));
            }
        }
    }
    Ok(())
}

/// The objects of a cluster, as a user applies them. Its machines, and the infrastructure template, may have a label.
fn create(user: &Store, replicas: u64, is_labelled: bool) {
    let reference = |kind: Kind, name: &str| json!({"apiGroup": kind.group, "kind": kind.kind, "name": name});
    let labelled = |labels: Value| if is_labelled { json!({"labels": labels}) } else { json!({}) };
    let template = json!({"metadata": labelled(json!({"disk": "fast"})), "spec": {}});
    user.create(SIM_TEMPLATE, json!({"metadata": {"name": "t"}, "spec": {"template": template}}));
    user.create(SIM_CLUSTER, json!({"metadata": {"name": "c"}, "spec": {}}));
    user.create(
        CLUSTER,
        json!({"metadata": {"name": "c"}, "spec": {
            "infrastructureRef": reference(SIM_CLUSTER, "c"), "controlPlaneRef": reference(KUBEADM_CONTROL_PLANE, "cp"),
        }}),
    );
    // Quick keys: what is simulated is time.
    let config = json!({"clusterConfiguration": {"encryptionAlgorithm": "ECDSA-P256"}});
    user.create(
        KUBEADM_CONTROL_PLANE,
        json!({"metadata": {"name": "cp"}, "spec": {
            "replicas": replicas, "version": "v1.34.5", "kubeadmConfigSpec": config,
            "machineTemplate": {
                "metadata": labelled(json!({"team": "a"})),
                "spec": {"infrastructureRef": reference(SIM_TEMPLATE, "t")},
            },
        }}),
    );
}

/// One thing that users do, or that happens to machines.
async fn change(world: &World, chance: &Chance, replicas: &mut u64) {
    let machines = world.user.list(MACHINE);
    let picked = chance.pick(&machines).map(|machine| text(machine, "/metadata/name").to_owned());
    match chance.below(6) {
        0 => {
            let version = if chance.once_in(2) { "v1.34.6" } else { "v1.34.7" };
            world.user.merge(KUBEADM_CONTROL_PLANE, "cp", json!({"spec": {"version": version}}));
        }
        // A machine fails for good; with one machine that is the end of any cluster.
        1 if *replicas == 3 => world.workload.power_off(&picked.unwrap_or_default()),
        2 if *replicas == 3 => world.user.delete(MACHINE, &picked.unwrap_or_default()),
        3 => world.pause(chance.between(Duration::from_secs(1), Duration::from_secs(200))).await,
        4 => {
            let stories = [vec![None], vec![Some("a")], vec![Some("a"), None], vec![None, Some("b")]];
            for team in chance.pick(&stories).into_iter().flatten() {
                let labels = json!({"machineTemplate": {"metadata": {"labels": {"team": team}}}});
                world.user.merge(KUBEADM_CONTROL_PLANE, "cp", json!({"spec": labels}));
                sleep(chance.between(Duration::from_secs(1), Duration::from_secs(30))).await;
            }
        }
        _ => {
            *replicas = if *replicas == 1 { 3 } else { 1 };
            world.user.merge(KUBEADM_CONTROL_PLANE, "cp", json!({"spec": {"replicas": *replicas}}));
        }
    }
    // Some do not wait until it is done.
    if chance.once_in(3) {
        sleep(chance.between(Duration::from_secs(1), Duration::from_secs(60))).await;
        *replicas = if *replicas == 1 { 3 } else { 1 };
        world.user.merge(KUBEADM_CONTROL_PLANE, "cp", json!({"spec": {"replicas": *replicas}}));
    }
    // Or stop it halfway.
    if chance.once_in(4) {
        sleep(chance.between(Duration::from_secs(1), Duration::from_secs(60))).await;
        world.pause(chance.between(Duration::from_secs(1), Duration::from_secs(200))).await;
    }
}

/// Waits until the control plane is as wanted.
async fn settled(world: &World, replicas: u64) -> Result<(), Violation> {
    let (store, workload) = (world.user.clone(), Arc::clone(&world.workload));
    world
        .until("converges", LIMIT, || {
            let machines = store.list(MACHINE);
            let names: Vec<_> = machines.iter().map(|machine| text(machine, "/metadata/name").to_owned()).collect();
            let count = u64::try_from(names.len()).unwrap_or(u64::MAX);
            if count != replicas || machines.iter().any(|machine| is_deleting(machine)) {
                return Err(format!("there are Machines {names:?}, {replicas} are wanted"));
            }
            let version = store.get(KUBEADM_CONTROL_PLANE, "cp");
            let version = version.as_ref().map(|cp| text(cp, "/spec/version")).unwrap_or_default();
            if let Some(old) = machines.iter().find(|machine| text(machine, "/spec/version") != version) {
                return Err(format!("Machine {} is not of version {version}", text(old, "/metadata/name")));
            }
            let (members, learners) = workload.with_etcd(|etcd, _| {
                let mut hosts: Vec<_> = etcd.members().iter().map(|member| member.host.clone()).collect();
                hosts.sort();
                (hosts, etcd.members().iter().any(|member| member.is_learner))
            });
            if members != names || learners || workload.running() != names {
                return Err(format!("etcd has the members {members:?}, {names:?} are the Machines"));
            }
            let control_plane = store.get(KUBEADM_CONTROL_PLANE, "cp").ok_or("the control plane is gone")?;
            let is_available = |condition: &Value| condition["type"] == "Available" && condition["status"] == "True";
            if !items(&control_plane, "/status/conditions").any(is_available) {
                return Err("the control plane is not Available".to_owned());
            }
            labelled(&store, &control_plane)
        })
        .await
}

/// Whether the objects of machines have the labels that they shall have, and no label that they had before.
fn labelled(store: &Store, control_plane: &Value) -> Result<(), String> {
    let template = store.get(SIM_TEMPLATE, "t").ok_or("the template is gone")?;
    let team = text(control_plane, "/spec/machineTemplate/metadata/labels/team");
    let disk = text(&template, "/spec/template/metadata/labels/disk");
    for (kind, disk) in [(MACHINE, ""), (KUBEADM_CONFIG, ""), (SIM_MACHINE, disk)] {
        for object in store.list(kind) {
            let label = |name: &str| text(&object, &format!("/metadata/labels/{name}")).to_owned();
            if (label("team"), label("disk")) != (team.to_owned(), disk.to_owned()) {
                let name = text(&object, "/metadata/name");
                let labels = &object["metadata"]["labels"];
                return Err(format!("{} {name} has the labels {labels}; team {team:?}, disk {disk:?}", kind.kind));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::trial;

    #[test]
    fn a_control_plane_without_its_finalizer_owns_nothing() {
        trial::within(async |world| {
            create(&world.user, 1, false);
            let uid = world.user.get(KUBEADM_CONTROL_PLANE, "cp").map(|cp| text(&cp, "/metadata/uid").to_owned());
            assert_eq!(is_held(&world.user), Ok(()));
            let owner = json!({"apiVersion": "v1", "kind": "KubeadmControlPlane", "name": "cp", "uid": uid});
            world.user.create(SECRET, json!({"metadata": {"name": "c-ca", "ownerReferences": [owner]}}));
            assert_eq!(is_held(&world.user).map_err(|violation| violation.rule), Err("I6"));
            let held = json!({"metadata": {"finalizers": [FINALIZER]}});
            world.user.merge(KUBEADM_CONTROL_PLANE, "cp", held);
            assert_eq!(is_held(&world.user), Ok(()));
        });
    }
}
