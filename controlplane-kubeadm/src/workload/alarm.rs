//! Watches that wake. Decisions read a workload cluster live, each time they are taken; these watches only say when that
//! is worth while, so a watch that is lost costs time and never truth.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use manager::{ObjectKey, workload::WorkloadClient};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};

use super::{CONTROL_PLANE_PODS, KUBE_SYSTEM};
use crate::controlplane::names::NODE_ROLE;

/// The server ends a watch after this time, in seconds; API servers refuse nothing below five minutes.
const LIFE: u32 = 290;
/// A watch that has not ended this much later has lost its server.
const LATE: Duration = Duration::from_secs(10);

/// How eagerly watches are begun again.
#[derive(Clone, Copy)]
struct Pace {
    /// Pause before a watch that ended is begun again.
    pause: Duration,
    /// Watches that fail sooner than this say so only after it: whoever they wake begins them again.
    short: Duration,
}

const PACE: Pace = Pace { pause: Duration::from_secs(1), short: Duration::from_secs(20) };

type Wake = Box<dyn Fn(ObjectKey) + Send + Sync>;

/// Follows the control plane pods and nodes of workload clusters, and wakes the control plane when their state changes;
/// cheap to clone.
#[derive(Clone, Default)]
pub struct Alarms {
    wake: Arc<OnceLock<Wake>>,
    running: Arc<Mutex<HashMap<ObjectKey, AbortHandle>>>,
}

impl Alarms {
    /// Says whom to tell. To be called once.
    pub fn wake(&self, wake: impl Fn(ObjectKey) + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Follows the cluster of a control plane, unless that is done already.
    pub fn follow(&self, key: &ObjectKey, client: &WorkloadClient) {
        let mut running = self.running.lock();
        if running.get(key).is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (wake, name, client) = (Arc::clone(&self.wake), key.clone(), client.stream().clone());
        let tell = move || {
            if let Some(wake) = wake.get() {
                wake(name.clone());
            }
        };
        running.insert(key.clone(), tokio::spawn(follow(client, PACE, tell)).abort_handle());
    }

    /// Follows no longer: the control plane is gone, or its connection is given up.
    pub fn stop(&self, key: &ObjectKey) {
        if let Some(task) = self.running.lock().remove(key) {
            task.abort();
        }
    }
}

/// Tells of changes until a watch fails, and of that.
async fn follow(client: Client, pace: Pace, tell: impl Fn()) {
    let begun = Instant::now();
    let nodes = heed(Api::<Node>::all(client.clone()), NODE_ROLE, node_state, pace, &tell);
    let pods = heed(Api::<Pod>::namespaced(client, KUBE_SYSTEM), CONTROL_PLANE_PODS, pod_state, pace, &tell);
    tokio::select! {
        biased;
        () = nodes => {}
        () = pods => {}
    }
    sleep(pace.short.saturating_sub(begun.elapsed())).await;
    tell();
}

/// Tells of objects whose state is another than before; returns when the watch fails.
async fn heed<K>(api: Api<K>, labels: &str, state: fn(&K) -> String, pace: Pace, tell: &impl Fn())
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut known = HashMap::new();
    let parameters = WatchParams::default().labels(labels).timeout(LIFE);
    loop {
        let deadline = Instant::now() + Duration::from_secs(LIFE.into()) + LATE;
        // From any version: what exists is told first, and compared with what was known before.
        let Ok(events) = api.watch(&parameters, "0").await else { return };
        let mut events = pin!(events);
        loop {
            let changed = match timeout_at(deadline, events.next()).await {
                Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    let shown = state(&object);
                    known.insert(object.name_any(), shown.clone()) != Some(shown)
                }
                Ok(Some(Ok(WatchEvent::Deleted(object)))) => known.remove(&object.name_any()).is_some(),
                Ok(Some(Ok(WatchEvent::Bookmark(_)))) => false,
                Ok(None) => break,
                Ok(Some(Ok(WatchEvent::Error(_)) | Err(_))) | Err(_) => return,
            };
            if changed {
                tell();
            }
        }
        sleep(pace.pause).await;
    }
}

/// What health depends on, of a node: heartbeats and images do not count.
fn node_state(node: &Node) -> String {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let taints: Vec<_> = taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    format!("{:?} {}", ready.map(|condition| &condition.status), taints.join(","))
}

/// What health depends on, of a static pod.
fn pod_state(pod: &Pod) -> String {
    let Some(status) = &pod.status else { return String::new() };
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let containers: Vec<_> = status.container_statuses.iter().flatten().map(|container| &container.state).collect();
    let waiting: Vec<_> = containers
        .iter()
        .filter_map(|state| state.as_ref()?.waiting.as_ref().map(|waiting| waiting.reason.as_deref()))
        .collect();
    format!("{:?} {:?} {waiting:?}", status.phase, ready.map(|condition| &condition.status))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, ready: &str, heartbeat: u32) -> Value {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "resourceVersion": heartbeat.to_string()},
            "status": {"phase": "Running", "conditions": conditions},
        })
    }

    /// An API server that answers each watch of pods with the next of `streams`, and then with refusals; nodes are silent.
    fn server(streams: Vec<Vec<Value>>) -> Client {
        let streams = Arc::new(Mutex::new(streams.into_iter()));
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let next = if request.uri().path().ends_with("/pods") { streams.lock().next() } else { None };
            let is_pods = request.uri().path().ends_with("/pods");
            async move {
                let (code, body) = match next {
                    Some(events) => (200, events.iter().map(|event| format!("{event}\n")).collect::<String>()),
                    None if is_pods => (403, json!({"kind": "Status", "code": 403, "status": "Failure"}).to_string()),
                    None => std::future::pending().await,
                };
                http::Response::builder().status(code).body(Body::from(body.into_bytes()))
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn changes_of_state_are_told_once_and_the_end_at_last() {
        let event = |type_: &str, object: Value| json!({"type": type_, "object": object});
        let client = server(vec![
            vec![
                event("ADDED", pod("etcd-n1", "False", 1)),
                event("MODIFIED", pod("etcd-n1", "False", 2)),
                event("MODIFIED", pod("etcd-n1", "True", 3)),
            ],
            // Begun again: what is as before is not told again; what is gone is.
            vec![event("ADDED", pod("etcd-n1", "True", 3)), event("DELETED", pod("etcd-n1", "True", 4))],
        ]);
        let told = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&told);
        let (begun, pace) = (Instant::now(), Pace { pause: Duration::ZERO, short: Duration::from_millis(50) });
        follow(client, pace, move || {
            counter.fetch_add(1, Ordering::SeqCst);
        })
        .await;
        assert_eq!(told.load(Ordering::SeqCst), 4, "new, ready, gone, and that the watch failed");
        assert!(begun.elapsed() >= pace.short, "a watch that is refused does not wake in a loop");
    }
}
