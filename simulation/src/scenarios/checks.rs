//! The invariants that every scenario keeps, and what it asks at its end.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    journal::{Entry, Violation},
    kinds::SECRET,
    store::{Kind, Store, at, is_deleting, items, secret_value, text},
    world::World,
};

/// How long after the goal the last passes may still note it.
const SETTLES: Duration = Duration::from_secs(200);
/// How long nobody of ours may write anything then; longer than every resync.
const QUIET: Duration = Duration::from_secs(700);

/// Watches over the conditions of these kinds in each state that comes about (I8), and over secrets in them (I9).
pub fn always(world: &World, kinds: &'static [Kind]) {
    let (store, system) = (world.store("checks"), world.workload.store().within("kube-system"));
    let (seen, looked): (Mutex<BTreeMap<String, String>>, _) = (Mutex::default(), AtomicU64::new(0));
    world.journal.watch_over(move || {
        let version = store.server().version();
        if looked.swap(version, Ordering::Relaxed) == version {
            return Ok(());
        }
        // What joins a machine to the cluster, beside what stands in every credential.
        let tokens = system.list(SECRET);
        let tokens = tokens.iter().filter_map(|secret| String::from_utf8(secret_value(secret, "token-secret")).ok());
        let tokens = tokens.filter(|token| !token.is_empty());
        let secrets: Vec<_> = tokens.chain(["PRIVATE KEY".to_owned(), super::CANARY.to_owned()]).collect();
        for kind in kinds {
            for object in store.list(*kind) {
                let (name, version) = (text(&object, "/metadata/name"), text(&object, "/metadata/resourceVersion"));
                let key = format!("{}/{name}", kind.plural);
                if seen.lock().insert(key.clone(), version.to_owned()).as_deref() == Some(version) {
                    continue;
                }
                conditions_explain(&key, &object)?;
                holds_no_secret(&key, &object, &secrets)?;
            }
        }
        Ok(())
    });
}

/// I8: what is not as it shall be says why.
fn conditions_explain(key: &str, object: &Value) -> Result<(), Violation> {
    for condition in items(object, "/status/conditions") {
        let type_ = text(condition, "/type");
        let is_silent = text(condition, "/reason").is_empty();
        let sums_up = matches!(type_, "Ready" | "Available") && condition["status"] != "True";
        if is_silent || (sums_up && text(condition, "/message").is_empty()) {
            return Err(Violation::new("I8", format!("{key}: condition {type_} does not say why: {condition}")));
        }
    }
    Ok(())
}

/// I9: none of these in a status or an annotation.
fn holds_no_secret(key: &str, object: &Value, secrets: &[String]) -> Result<(), Violation> {
    for part in ["/status", "/metadata/annotations"] {
        let shown = at(object, part).map(Value::to_string).unwrap_or_default();
        if secrets.iter().any(|secret| shown.contains(secret)) {
            return Err(Violation::new("I9", format!("{key}: a secret stands in {part}")));
        }
    }
    Ok(())
}

/// I7: once everything is as wanted, nobody of ours writes anything but its lease. Nothing goes wrong meanwhile: a refused
/// call is a cause to say something.
pub async fn quiet(world: &World) -> Result<(), Violation> {
    world.plan.rest(true);
    sleep(SETTLES).await;
    let before = world.journal.entries().len();
    sleep(QUIET).await;
    world.plan.rest(false);
    let entries = world.journal.entries();
    match entries[before..].iter().find(|entry| is_write(entry)) {
        None => Ok(()),
        Some(entry) => Err(Violation::new("I7", format!("a write without a cause: {entry}"))),
    }
}

/// What only looks: of API servers, of etcd, of the machine service.
const LOOKS: &[&str] =
    &["get ", "watch ", "connect", "view", "look at ", "Get", "Find", "Resolve", "Watch", "OpenSession"];

/// Whether an entry is something that one of ours does to anything but a lease: to an object, to a member of etcd, at the site.
fn is_write(entry: &Entry) -> bool {
    let what = entry.what.rsplit(": ").next().unwrap_or_default();
    let is_ours = ["-kubeadm-", "-dcs-"].iter().any(|ours| entry.actor.contains(ours));
    is_ours && !entry.is_fault && !what.contains("leases") && !LOOKS.iter().any(|look| what.starts_with(look))
}

/// I10: nothing of these kinds is left.
pub fn nothing_is_left(store: &Store, kinds: &[Kind]) -> Result<(), String> {
    let left: Vec<_> = kinds
        .iter()
        .flat_map(|kind| {
            let state = |object: &Arc<Value>| if is_deleting(object) { " (deleting)" } else { "" };
            store
                .list(*kind)
                .into_iter()
                .map(move |object| format!("{}/{}{}", kind.plural, text(&object, "/metadata/name"), state(&object)))
        })
        .collect();
    if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("control-plane-kubeadm-0", "apply machines/m/status", true)]
    #[case("control-plane-kubeadm-0", "workload: patch configmaps/kubeadm-config", true)]
    #[case("control-plane-kubeadm-1", "etcd on m: remove member", true)]
    #[case("control-plane-kubeadm-1", "etcd on m: view", false)]
    #[case("infrastructure-dcs-0", "site: PutExclusionRule", true)]
    #[case("infrastructure-dcs-0", "site: GetTask", false)]
    #[case("infrastructure-dcs-0", "update leases/controller-leader-election-capdcs", false)]
    #[case("bootstrap-kubeadm-0", "watch machines", false)]
    #[case("core", "patch machines/m", false)]
    fn what_changes_anything_is_told_from_what_looks(#[case] actor: &str, #[case] what: &str, #[case] changes: bool) {
        let entry = Entry {
            at: Duration::ZERO,
            actor: actor.into(),
            what: what.to_owned(),
            outcome: String::new(),
            is_fault: false,
        };
        assert_eq!(is_write(&entry), changes);
    }
}
