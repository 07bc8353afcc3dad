//! What the API server fills in: each kind created in a dry run, and the whole object recorded.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Corner, answer::Transcript, checks};

checks! {
    Use: pods, workloads, services, storage, others, cluster_scoped;
}

/// A pod of one container.
fn spec() -> Value {
    json!({"containers": [{"name": "c", "image": "registry.k8s.io/web:1.0"}]})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": spec()})
}

async fn create(c: &Corner, heard: &mut Transcript, label: &str, path: &str, object: &Value) -> Result<()> {
    let mut object = object.clone();
    object["metadata"]["name"] = json!(format!("made-{}", label.to_lowercase().replace(' ', "-")));
    heard.add(label, &c.post(&format!("{path}?dryRun=All"), &object).await?);
    Ok(())
}

async fn pods(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let path = c.core("pods");
    create(c, &mut heard, "plain", &path, &json!({"spec": spec()})).await?;
    let mut rich = spec();
    rich["containers"][0] = json!({
        "name": "c", "image": "web",
        "ports": [{"containerPort": 80}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}, {"name": "A", "value": ""}],
        "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
        "readinessProbe": {"tcpSocket": {"port": 80}},
        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    });
    rich["initContainers"] = json!([{"name": "i", "image": "a/web:latest"}]);
    rich["volumes"] = json!([
        {"name": "v"}, {"name": "h", "hostPath": {"path": "/x"}}, {"name": "s", "secret": {"secretName": "s"}},
        {"name": "m", "configMap": {"name": "m"}},
        {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
    ]);
    create(c, &mut heard, "rich", &path, &json!({"spec": rich})).await?;
    let mut host = spec();
    host["hostNetwork"] = json!(true);
    host["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    host["priorityClassName"] = json!("system-node-critical");
    host["automountServiceAccountToken"] = json!(false);
    create(c, &mut heard, "host network", &path, &json!({"spec": host})).await?;
    heard.finish()
}

async fn workloads(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let selector = json!({"matchLabels": {"app": "a"}});
    let whole = json!({"spec": {"selector": selector, "template": template()}});
    for (label, plural) in [("Deployment", "deployments"), ("DaemonSet", "daemonsets"), ("ReplicaSet", "replicasets")] {
        create(c, &mut heard, label, &c.group("apps/v1", plural), &whole).await?;
    }
    let mut set = whole.clone();
    set["spec"]["serviceName"] = json!("s");
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "v"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }}]);
    create(c, &mut heard, "StatefulSet", &c.group("apps/v1", "statefulsets"), &set).await?;
    let mut once = template();
    once["spec"]["restartPolicy"] = json!("Never");
    create(c, &mut heard, "Job", &c.group("batch/v1", "jobs"), &json!({"spec": {"template": once}})).await?;
    let job = json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once}}}});
    create(c, &mut heard, "CronJob", &c.group("batch/v1", "cronjobs"), &job).await?;
    let budget = json!({"spec": {"selector": selector, "minAvailable": 1}});
    create(c, &mut heard, "PodDisruptionBudget", &c.group("policy/v1", "poddisruptionbudgets"), &budget).await?;
    let scaler = json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    let path = c.group("autoscaling/v2", "horizontalpodautoscalers");
    create(c, &mut heard, "HorizontalPodAutoscaler", &path, &scaler).await?;
    heard.finish()
}

async fn services(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let path = c.core("services");
    let with = |more: Value| {
        let mut spec = json!({"selector": {"app": "a"}, "ports": [{"port": 80}]});
        json_merge(&mut spec, more);
        json!({"spec": spec})
    };
    // A dry run gives no address; one that is asked for is checked all the same.
    for (label, more) in [
        ("ClusterIP", json!({})),
        ("headless", json!({"clusterIP": "None"})),
        ("NodePort", json!({"type": "NodePort"})),
        ("LoadBalancer", json!({"type": "LoadBalancer"})),
        ("ExternalName", json!({"type": "ExternalName", "externalName": "x.test"})),
        ("outside", json!({"clusterIP": "203.0.113.7"})),
    ] {
        let mut object = with(more);
        if label == "ExternalName" {
            object["spec"]["ports"] = json!([]);
        }
        object["metadata"]["name"] = json!(format!("made-{}", label.to_lowercase()));
        let mut answer = c.post(&format!("{path}?dryRun=All"), &object).await?;
        let ports = answer.body.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten() {
            if port["nodePort"].as_u64().is_some_and(|port| (30_000..32_768).contains(&port)) {
                port["nodePort"] = json!("…");
            }
        }
        drawn(&mut answer.body);
        heard.add(label, &answer);
    }
    let slice = json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]});
    create(c, &mut heard, "EndpointSlice", &c.group("discovery.k8s.io/v1", "endpointslices"), &slice).await?;
    let ingress = json!({"spec": {"rules": [{"http": {"paths": [{
        "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}},
    }]}}]}});
    create(c, &mut heard, "Ingress", &c.group("networking.k8s.io/v1", "ingresses"), &ingress).await?;
    let policy = json!({"spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}});
    create(c, &mut heard, "NetworkPolicy", &c.group("networking.k8s.io/v1", "networkpolicies"), &policy).await?;
    heard.finish()
}

/// An address of the cluster's range that was drawn by lot becomes a word.
pub(super) fn drawn(service: &mut Value) {
    let Some(spec) = service.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    if spec["clusterIP"].as_str().is_some_and(|address| address.starts_with("10.")) {
        spec["clusterIP"] = json!("{address}");
        spec["clusterIPs"] = json!(["{address}"]);
    }
}

fn json_merge(target: &mut Value, more: Value) {
    if let (Value::Object(target), Value::Object(more)) = (target, more) {
        target.extend(more);
    }
}

async fn storage(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    create(c, &mut heard, "PersistentVolumeClaim", &c.core("persistentvolumeclaims"), &claim).await?;
    let volume = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"},
    }});
    create(c, &mut heard, "PersistentVolume", "/api/v1/persistentvolumes", &volume).await?;
    let class = json!({"provisioner": "x.test/p"});
    create(c, &mut heard, "StorageClass", "/apis/storage.k8s.io/v1/storageclasses", &class).await?;
    let attachment =
        json!({"spec": {"attacher": "x.test/p", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
    create(c, &mut heard, "VolumeAttachment", "/apis/storage.k8s.io/v1/volumeattachments", &attachment).await?;
    create(c, &mut heard, "CSIDriver", "/apis/storage.k8s.io/v1/csidrivers", &json!({"spec": {}})).await?;
    heard.finish()
}

async fn others(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    create(c, &mut heard, "ConfigMap", &c.core("configmaps"), &json!({"data": {"a": "b"}})).await?;
    create(c, &mut heard, "Secret", &c.core("secrets"), &json!({"stringData": {"a": "b"}})).await?;
    create(c, &mut heard, "ServiceAccount", &c.core("serviceaccounts"), &json!({})).await?;
    let quota = json!({"spec": {"hard": {"pods": "10"}}});
    create(c, &mut heard, "ResourceQuota", &c.core("resourcequotas"), &quota).await?;
    let limits = json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}});
    create(c, &mut heard, "LimitRange", &c.core("limitranges"), &limits).await?;
    let event = json!({
        "involvedObject": {"kind": "Pod", "namespace": c.namespace, "name": "p"}, "reason": "R", "message": "m",
        "type": "Normal", "reportingComponent": "x.test/c", "source": {"component": "c"},
    });
    create(c, &mut heard, "Event", &c.core("events"), &event).await?;
    let lease = json!({"spec": {"holderIdentity": "h", "leaseDurationSeconds": 15}});
    create(c, &mut heard, "Lease", &c.group("coordination.k8s.io/v1", "leases"), &lease).await?;
    let rbac = "rbac.authorization.k8s.io/v1";
    let rules = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    create(c, &mut heard, "Role", &c.group(rbac, "roles"), &rules).await?;
    let binding = json!({
        "roleRef": {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}],
    });
    create(c, &mut heard, "RoleBinding", &c.group(rbac, "rolebindings"), &binding).await?;
    heard.finish()
}

async fn cluster_scoped(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    create(c, &mut heard, "Namespace", "/api/v1/namespaces", &json!({})).await?;
    let node = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    create(c, &mut heard, "Node", "/api/v1/nodes", &node).await?;
    let rules = json!({"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]});
    create(c, &mut heard, "ClusterRole", "/apis/rbac.authorization.k8s.io/v1/clusterroles", &rules).await?;
    let class = json!({"value": 10});
    create(c, &mut heard, "PriorityClass", "/apis/scheduling.k8s.io/v1/priorityclasses", &class).await?;
    let definition = json!({
        "metadata": {"name": "things.conformance.test"},
        "spec": {
            "group": "conformance.test", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All";
    heard.add("CustomResourceDefinition", &c.post(path, &definition).await?);
    heard.finish()
}
