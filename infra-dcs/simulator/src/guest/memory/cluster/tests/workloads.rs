use std::sync::Arc;

use kube_model::{ApiError, DeleteParams, Target};
use serde_json::{Value, json};

use super::fixture::{Guest, Site, get, is_ready, until};
use crate::guest::memory::cluster::{
    Cluster,
    api::{Api, BUDGETS, DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS, JOBS, PODS, SERVICES, STATEFUL_SETS, name},
};

/// A cluster of one node.
async fn single(site: &Site) -> (Guest, Arc<Cluster>) {
    let mut guest = site.machine("cp-1", 1);
    let endpoint = format!("{}:6443", site.address(1));
    guest.succeeds("init", &Site::init_documents(&endpoint)).await;
    let cluster = site.clusters.by_authority(&guest.pin()).unwrap();
    until("the node is ready", || is_ready(&cluster, "cp-1")).await;
    (guest, cluster)
}

/// A template of pods that may be anywhere.
fn template(command: &[&str], restarts: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "restartPolicy": restarts,
            "tolerations": [{"operator": "Exists"}],
            "initContainers": [{"name": "init", "image": "registry.example/init:1"}],
            "containers": [{
                "name": "c", "image": "registry.example/c:1", "command": command,
                "ports": [{"name": "http", "containerPort": 8080}],
            }],
        },
    })
}

fn workload(kind: &str, name: &str, replicas: u64, more: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template(&[], "Always"),
        },
    });
    json_patch::merge(&mut object["spec"], more);
    object
}

fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_is_not_written_again() {
    let site = Site::new();
    let (_guest, cluster) = single(&site).await;
    let api = Api::new(&cluster.server, "test");
    api.create(DEPLOYMENTS, "default", workload("Deployment", "web", 2, &json!({}))).unwrap();
    let versions = || -> Vec<String> {
        let all = [PODS, DEPLOYMENTS].into_iter().flat_map(|kind| api.list(kind, ""));
        all.map(|object| format!("{} {}", name(&object), object["metadata"]["resourceVersion"])).collect()
    };
    until("all pods are ready", || {
        let pods = api.list(PODS, "");
        pods.len() >= 7 && pods.iter().all(|pod| has_condition(pod, "Ready"))
    })
    .await;
    // What controllers conclude from it comes a little later; then nothing does.
    let mut quiet = 0;
    let mut before = versions();
    until("nothing is written any more", || {
        let now = versions();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        quiet == 100
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_to_their_end() {
    let site = Site::new();
    let (_guest, cluster) = single(&site).await;
    let api = Api::new(&cluster.server, "test");
    let job = |name: &str, spec: Value| {
        api.create(
            JOBS,
            "default",
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}),
        )
    };
    let refused = job("wrong", json!({"template": template(&[], "Always")})).unwrap_err();
    assert!(refused.message().contains("restartPolicy: Required value"), "{}", refused.message());
    job("good", json!({"completions": 3, "parallelism": 2, "template": template(&["true"], "Never")})).unwrap();
    job("bad", json!({"backoffLimit": 0, "template": template(&["sh", "-c", "exit 3"], "Never")})).unwrap();
    job("again", json!({"backoffLimit": 1, "template": template(&["false"], "OnFailure")})).unwrap();
    cluster.wake();
    until("the good one completes", || has_condition(&get(&cluster, JOBS, "default", "good"), "Complete")).await;
    let good = get(&cluster, JOBS, "default", "good");
    assert_eq!((&good["status"]["succeeded"], &good["status"]["active"]), (&json!(3), &Value::Null));
    for (name, failed) in [("bad", json!(1)), ("again", Value::Null)] {
        until("it fails", || has_condition(&get(&cluster, JOBS, "default", name), "Failed")).await;
        let job = get(&cluster, JOBS, "default", name);
        assert_eq!(job["status"]["failed"], failed, "{job}");
        assert!(job["status"]["conditions"].to_string().contains("BackoffLimitExceeded"), "{job}");
    }
    let pods = api.list(PODS, "default");
    let succeeded: Vec<_> = pods.iter().filter(|pod| pod["status"]["phase"] == "Succeeded").collect();
    assert_eq!(succeeded.len(), 3, "they stay to be looked at");
    assert!(succeeded.iter().all(|pod| pod["metadata"]["finalizers"].is_null()), "and may go");
    let initial = &succeeded[0]["status"]["initContainerStatuses"][0];
    assert_eq!(initial["state"]["terminated"]["exitCode"], 0);
    let failed = pods.iter().find(|pod| pod["status"]["phase"] == "Failed").unwrap();
    assert_eq!(failed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn stateful_sets_count_their_pods() {
    let site = Site::new();
    let (_guest, cluster) = single(&site).await;
    let api = Api::new(&cluster.server, "test");
    api.create(STATEFUL_SETS, "default", workload("StatefulSet", "db", 3, &json!({"serviceName": "db"}))).unwrap();
    cluster.wake();
    let ready = |count: u64| get(&cluster, STATEFUL_SETS, "default", "db")["status"]["readyReplicas"] == count;
    until("three are ready", || ready(3)).await;
    let names = || api.list(PODS, "default").iter().map(|pod| name(pod).to_owned()).collect::<Vec<_>>();
    assert_eq!(names(), ["db-0", "db-1", "db-2"]);
    let uid = |pod: &str| get(&cluster, PODS, "default", pod)["metadata"]["uid"].clone();
    let (first, last) = (uid("db-0"), uid("db-2"));
    // A new template goes to those above the partition only.
    let change = json!({"spec": {
        "updateStrategy": {"rollingUpdate": {"partition": 2}},
        "template": {"metadata": {"annotations": {"a": "b"}}},
    }});
    api.merge(STATEFUL_SETS, "default", "db", change).unwrap();
    cluster.wake();
    until("the last is new", || uid("db-2").is_string() && uid("db-2") != last && ready(3)).await;
    assert_eq!(uid("db-0"), first);
    api.merge(STATEFUL_SETS, "default", "db", json!({"spec": {"replicas": 1}})).unwrap();
    cluster.wake();
    until("the highest numbers are gone", || names() == ["db-0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_get_addresses_and_endpoints() {
    let site = Site::new();
    let (_guest, cluster) = single(&site).await;
    let api = Api::new(&cluster.server, "test");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    });
    let made = api.create(SERVICES, "default", service.clone()).unwrap();
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    assert!(address.starts_with("10."), "{made}");
    assert_eq!((&made["spec"]["type"], &made["spec"]["clusterIPs"][0]), (&json!("ClusterIP"), &json!(address)));
    let mut foreign = service;
    foreign["metadata"]["name"] = "foreign".into();
    foreign["spec"]["clusterIP"] = "192.0.2.1".into();
    let refused = api.create(SERVICES, "default", foreign).unwrap_err();
    assert!(refused.message().contains("The range of valid IPs is 10.96.0.0/12"), "{}", refused.message());

    api.create(DEPLOYMENTS, "default", workload("Deployment", "web", 2, &json!({}))).unwrap();
    cluster.wake();
    let subset = || get(&cluster, ENDPOINTS, "default", "web")["subsets"][0].clone();
    until("both pods are there", || subset()["addresses"].as_array().is_some_and(|all| all.len() == 2)).await;
    assert_eq!(subset()["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    let slices = || {
        let all = api.list(ENDPOINT_SLICES, "default");
        all.into_iter()
            .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "web")
            .collect::<Vec<_>>()
    };
    until("they are in one slice", || {
        let slices = slices();
        slices.len() == 1 && slices[0]["endpoints"].as_array().is_some_and(|all| all.len() == 2)
    })
    .await;
    assert_eq!(slices()[0]["endpoints"][0]["conditions"]["ready"], true);
    let own = get(&cluster, ENDPOINT_SLICES, "default", "kubernetes");
    assert_eq!(own["endpoints"][0]["addresses"], json!([site.address(1)]));
    assert_eq!(own["ports"][0]["port"], 6443);

    api.delete(SERVICES, "default", "web", None);
    cluster.wake();
    until("they go with the Service", || slices().is_empty() && subset().is_null()).await;
}

fn evict(cluster: &Cluster, pod: &str) -> Result<(), ApiError> {
    let target = Target {
        version: "v1".into(),
        plural: "pods".into(),
        namespace: "default".into(),
        name: pod.to_owned(),
        subresource: "eviction".into(),
        ..Target::default()
    };
    let outcome = cluster.server.evict(&target, &DeleteParams::default()).map(drop);
    cluster.wake();
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_stand_in_the_way_of_evictions() {
    let site = Site::new();
    let (_guest, cluster) = single(&site).await;
    let api = Api::new(&cluster.server, "test");
    api.create(DEPLOYMENTS, "default", workload("Deployment", "web", 2, &json!({}))).unwrap();
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
    });
    api.create(BUDGETS, "default", budget).unwrap();
    cluster.wake();
    let status = |field: &str| get(&cluster, BUDGETS, "default", "web")["status"][field].clone();
    until("both count", || status("currentHealthy") == 2).await;
    let pods = api.list(PODS, "default");
    let refused = evict(&cluster, name(&pods[0])).unwrap_err();
    assert_eq!(refused.code(), 429);
    assert_eq!(refused.message(), "Cannot evict pod as it would violate the pod's disruption budget.");
    let text = serde_json::to_value(&refused.0).unwrap();
    assert_eq!(text["details"]["causes"][0]["reason"], "DisruptionBudget");
    assert_eq!(
        text["details"]["causes"][0]["message"],
        "The disruption budget web needs 2 healthy pods and has 2 currently"
    );

    api.merge(BUDGETS, "default", "web", json!({"spec": {"minAvailable": 1}})).unwrap();
    let early = evict(&cluster, name(&pods[0]));
    until("one may go", || status("disruptionsAllowed") == 1 || early.is_ok()).await;
    if let Err(early) = early {
        assert_eq!(early.code(), 429, "the change was not seen yet");
        evict(&cluster, name(&pods[0])).unwrap();
    }
    until("it goes", || get(&cluster, PODS, "default", name(&pods[0])).is_null()).await;
    until("it is replaced", || status("currentHealthy") == 2 && status("disruptedPods").is_null()).await;
}
