//! The invariants that every scenario keeps, and what it asks at its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

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
    let (store, tokens) = (world.store("checks"), world.workload.store().within("kube-system"));
    let (journal, looked) = (Arc::downgrade(&world.journal), AtomicU64::new(0));
    for secret in ["PRIVATE KEY", super::CANARY] {
        world.journal.keep_secret(secret);
    }
    world.journal.watch_over(move || {
        let version = store.server().version();
        let before = looked.swap(version, Ordering::Relaxed);
        let Some(journal) = journal.upgrade().filter(|_| before != version) else { return Ok(()) };
        // Versions of objects are those of the server at which they were written.
        let is_new = |object: &Arc<Value>| {
            text(object, "/metadata/resourceVersion").parse::<u64>().is_ok_and(|written| written > before)
        };
        let all = kinds.iter().flat_map(|kind| store.list(*kind).into_iter().map(move |object| (kind, object)));
        let changed: Vec<_> = all.filter(|(_, object)| is_new(object)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        // What joins a machine to the cluster, beside what stands in every credential.
        for secret in tokens.list(SECRET) {
            let token = String::from_utf8(secret_value(&secret, "token-secret")).unwrap_or_default();
            if !token.is_empty() {
                journal.keep_secret(&token);
            }
        }
        let secrets = journal.secrets();
        changed.iter().try_for_each(|(kind, object)| {
            let key = format!("{}/{}", kind.plural, text(object, "/metadata/name"));
            conditions_explain(&key, object)?;
            holds_no_secret(&key, object, &secrets)
        })
    });
}

/// I8: what has a status has conditions, and those that are not as they shall be say why.
fn conditions_explain(key: &str, object: &Value) -> Result<(), Violation> {
    let has_status = at(object, "/status").and_then(Value::as_object).is_some_and(|status| !status.is_empty());
    if has_status && items(object, "/status/conditions").next().is_none() {
        return Err(Violation::new("I8", format!("{key} has a status and no condition: {}", object["status"])));
    }
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
    use serde_json::json;

    use super::*;
    use crate::{kinds::KUBEADM_CONFIG, models::bootstrap, world::trial};

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

    /// The rule that is broken in a world in which this is done, if one is.
    fn broken<T>(does: impl AsyncFnOnce(&World) -> T) -> Option<&'static str> {
        trial::broken(Duration::from_secs(1), async |world| {
            always(world, &[KUBEADM_CONFIG]);
            does(world).await
        })
    }

    #[rstest]
    #[case::explained(json!({"conditions": [{"type": "Ready", "status": "False", "reason": "Waits", "message": "for a"}]}), None)]
    #[case::no_condition(json!({"dataSecretName": "a"}), Some("I8"))]
    #[case::no_reason(json!({"conditions": [{"type": "Sound", "status": "True"}]}), Some("I8"))]
    #[case::no_message(json!({"conditions": [{"type": "Ready", "status": "False", "reason": "Waits"}]}), Some("I8"))]
    #[case::a_secret(json!({"conditions": [{"type": "Sound", "status": "True", "reason": "Usesthekey"}]}), Some("I9"))]
    fn a_status_that_says_too_little_or_too_much_is_noticed(#[case] status: Value, #[case] rule: Option<&str>) {
        let object = json!({"status": status});
        let found =
            conditions_explain("a", &object).and_then(|()| holds_no_secret("a", &object, &["thekey".to_owned()]));
        assert_eq!(found.err().map(|violation| violation.rule), rule);
    }

    #[test]
    fn a_token_of_the_workload_cluster_is_a_secret() {
        let told = |message: &str| {
            broken(async |world| {
                bootstrap::put_token(world.workload.store());
                world.user.create(KUBEADM_CONFIG, json!({"metadata": {"name": "a"}}));
                world.journal.check();
                let condition = json!({
                    "type": "Ready", "status": "False", "reason": "Waits", "message": message,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                });
                world.user.merge_status(KUBEADM_CONFIG, "a", json!({"conditions": [condition]}));
            })
        };
        assert_eq!(told("uses abcdef"), None);
        assert_eq!(told("uses 0123456789abcdef"), Some("I9"));
    }

    #[test]
    fn what_is_left_is_named() {
        let found = broken(async |world| {
            assert_eq!(nothing_is_left(&world.user, &[KUBEADM_CONFIG]), Ok(()));
            world.user.create(KUBEADM_CONFIG, json!({"metadata": {"name": "a"}}));
            assert_eq!(nothing_is_left(&world.user, &[KUBEADM_CONFIG]), Err("kubeadmconfigs/a".to_owned()));
        });
        assert_eq!(found, None);
    }

    #[test]
    fn whoever_writes_without_a_cause_is_noticed() {
        let writes = |actor| {
            broken(async |world| {
                let store = world.store(actor);
                tokio::spawn(async move {
                    sleep(SETTLES + QUIET / 2).await;
                    store.create(KUBEADM_CONFIG, json!({"metadata": {"name": "a"}}));
                });
                quiet(world).await.unwrap_or_else(|violation| world.journal.violate(violation));
            })
        };
        assert_eq!(writes("a user"), None);
        assert_eq!(writes("bootstrap-kubeadm-0"), Some("I7"));
    }
}
