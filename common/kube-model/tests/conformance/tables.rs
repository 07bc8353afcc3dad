//! Objects as tables: columns, cells, what goes with a row, watches.

use serde_json::{Value, json};

use crate::{
    checks,
    cluster::{Cluster, config_map, version, widget},
};

checks!(
    columns_of_built_in_kinds,
    cells_of_small_kinds,
    cells_of_pods,
    cells_of_workloads,
    cells_of_services,
    cells_of_nodes,
    cells_of_storage,
    cells_of_events_and_requests,
    columns_of_custom_resources,
    rows_carry_what_was_asked_for,
    lists_as_tables_have_pages,
    the_first_accepted_form_counts,
    writes_answer_with_tables,
    a_watch_names_its_columns_once,
);

/// What kubectl accepts.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                     application/json";

async fn table(c: &Cluster, path: &str) -> Value {
    let table = c.get_as(path, TABLE).await.ok();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")), "{path}");
    table
}

/// Columns as name, type, format and priority in one text.
fn columns(table: &Value) -> Vec<String> {
    let text = |column: &Value, field: &str| column[field].as_str().unwrap().to_owned();
    let shown = |column: &Value| {
        let format = Some(text(column, "format")).filter(|format| !format.is_empty());
        let wide = (column["priority"] != 0).then(|| "wide".to_owned());
        let parts = [Some(text(column, "name")), Some(text(column, "type")), format, wide];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    table["columnDefinitions"].as_array().unwrap().iter().map(shown).collect()
}

/// The cells of the only row; how old something is counts as `AGE`.
fn cells(table: &Value) -> Value {
    let names = table["columnDefinitions"].as_array().unwrap();
    let row = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(row.len(), names.len(), "{table}");
    let cell = |(column, cell): (&Value, &Value)| match column["name"].as_str().unwrap() {
        "Age" | "Created At" => json!("AGE"),
        _ => cell.clone(),
    };
    names.iter().zip(row).map(cell).collect()
}

/// Columns of built-in kinds: name, type, format, and whether they are only wide.
const COLUMNS: [(&str, &str); 27] = [
    ("/api/v1/namespaces", "Name string name, Status string, Age string"),
    ("/api/v1/configmaps", "Name string name, Data string, Age string"),
    ("/api/v1/secrets", "Name string name, Type string, Data string, Age string"),
    ("/api/v1/serviceaccounts", "Name string name, Age string"),
    ("/api/v1/endpoints", "Name string name, Endpoints string, Age string"),
    (
        "/api/v1/pods",
        "Name string name, Ready string, Status string, Restarts string, Age string, IP string wide, Node \
         string wide, Nominated Node string wide, Readiness Gates string wide",
    ),
    (
        "/api/v1/nodes",
        "Name string name, Status string, Roles string, Age string, Version string, Internal-IP string \
         wide, External-IP string wide, OS-Image string wide, Kernel-Version string wide, \
         Container-Runtime string wide",
    ),
    (
        "/api/v1/services",
        "Name string name, Type string, Cluster-IP string, External-IP string, Port(s) string, Age string, \
         Selector string wide",
    ),
    (
        "/api/v1/events",
        "Last Seen string, Type string, Reason string, Object string, Subobject string wide, Source string \
         wide, Message string, First Seen string wide, Count string wide, Name string name wide",
    ),
    (
        "/api/v1/persistentvolumes",
        "Name string name, Capacity string, Access Modes string, Reclaim Policy string, Status string, \
         Claim string, StorageClass string, VolumeAttributesClass string, Reason string, Age string, \
         VolumeMode string wide",
    ),
    (
        "/api/v1/persistentvolumeclaims",
        "Name string name, Status string, Volume string, Capacity string, Access Modes string, \
         StorageClass string, VolumeAttributesClass string, Age string, VolumeMode string wide",
    ),
    (
        "/apis/apps/v1/deployments",
        "Name string name, Ready string, Up-to-date string, Available string, Age string, Containers \
         string wide, Images string wide, Selector string wide",
    ),
    (
        "/apis/apps/v1/replicasets",
        "Name string name, Desired integer, Current integer, Ready integer, Age string, Containers string \
         wide, Images string wide, Selector string wide",
    ),
    (
        "/apis/apps/v1/daemonsets",
        "Name string name, Desired integer, Current integer, Ready integer, Up-to-date integer, Available \
         integer, Node Selector string, Age string, Containers string wide, Images string wide, Selector \
         string wide",
    ),
    (
        "/apis/apps/v1/statefulsets",
        "Name string name, Ready string, Age string, Containers string wide, Images string wide",
    ),
    ("/apis/rbac.authorization.k8s.io/v1/roles", "Name string name, Created At date"),
    ("/apis/rbac.authorization.k8s.io/v1/clusterroles", "Name string name, Created At date"),
    (
        "/apis/rbac.authorization.k8s.io/v1/rolebindings",
        "Name string name, Role string, Age string, Users string wide, Groups string wide, ServiceAccounts \
         string wide",
    ),
    (
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        "Name string name, Role string, Age string, Users string wide, Groups string wide, ServiceAccounts \
         string wide",
    ),
    ("/apis/coordination.k8s.io/v1/leases", "Name string name, Holder string, Age string"),
    (
        "/apis/policy/v1/poddisruptionbudgets",
        "Name string name, Min Available string, Max Unavailable string, Allowed Disruptions integer, Age \
         string",
    ),
    (
        "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        "Name string name, Age string, SignerName string, Requestor string, RequestedDuration string, \
         Condition string",
    ),
    (
        "/apis/discovery.k8s.io/v1/endpointslices",
        "Name string name, AddressType string, Ports string, Endpoints string, Age string",
    ),
    (
        "/apis/storage.k8s.io/v1/storageclasses",
        "Name string name, Provisioner string, ReclaimPolicy string, VolumeBindingMode string, \
         AllowVolumeExpansion string, Age string",
    ),
    (
        "/apis/storage.k8s.io/v1/volumeattachments",
        "Name string name, Attacher string name, PV string, Node string, Attached boolean, Age string",
    ),
    ("/apis/storage.k8s.io/v1/csinodes", "Name string name, Drivers integer, Age string"),
    ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "Name string name, Created At date"),
];

async fn columns_of_built_in_kinds(c: &Cluster) {
    for (path, wanted) in COLUMNS {
        assert_eq!(columns(&table(c, &format!("{path}?limit=1")).await).join(", "), wanted, "{path}");
    }
}

async fn cells_of_small_kinds(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({"x": "1", "y": "2"}))).await.ok();
    assert_eq!(cells(&table(c, &c.core("configmaps/a")).await), json!(["a", 2, "AGE"]));
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"x": "1"}});
    c.post(&c.core("secrets"), &secret).await.ok();
    assert_eq!(cells(&table(c, &c.core("secrets/s")).await), json!(["s", "Opaque", 1, "AGE"]));
    let path = format!("/api/v1/namespaces/{}", c.namespace);
    assert_eq!(cells(&table(c, &path).await), json!([c.namespace, "Active", "AGE"]));
    let role = json!({"metadata": {"name": "r"}, "rules": []});
    let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/", c.namespace);
    c.post(&format!("{roles}roles"), &role).await.ok();
    let shown = table(c, &format!("{roles}roles/r")).await;
    let created = c.get(&format!("{roles}roles/r")).await.ok()["metadata"]["creationTimestamp"].clone();
    assert_eq!(shown["rows"][0]["cells"], json!(["r", created]));
    let binding = json!({
        "metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [
            {"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"},
            {"kind": "User", "name": "v", "apiGroup": "rbac.authorization.k8s.io"},
            {"kind": "ServiceAccount", "name": "x", "namespace": "default"},
        ],
    });
    c.post(&format!("{roles}rolebindings"), &binding).await.ok();
    let wanted = json!(["b", "Role/r", "AGE", "u, v", "", "default/x"]);
    assert_eq!(cells(&table(c, &format!("{roles}rolebindings/b")).await), wanted);
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", c.namespace);
    c.post(&leases, &json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}})).await.ok();
    assert_eq!(cells(&table(c, &format!("{leases}/l")).await), json!(["l", "me", "AGE"]));
}

async fn cells_of_pods(c: &Cluster) {
    if !c.is_model() {
        // Pods are admitted only where there is a service account.
        let account = c.core("serviceaccounts/default");
        c.eventually(|| async { c.get(&account).await.code == 200 }).await;
    }
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "containers": [{"name": "x", "image": "i"}, {"name": "y", "image": "j"}],
            "initContainers": [{"name": "s", "image": "k", "restartPolicy": "Always"}],
            "readinessGates": [{"conditionType": "example.com/gate"}], "schedulerName": "nobody",
        },
    });
    c.post(&c.core("pods"), &pod).await.ok();
    let path = c.core("pods/p");
    let shown = |table: Value| cells(&table);
    let none = "<none>";
    let wanted = json!(["p", "0/3", "Pending", "0", "AGE", none, none, none, "0/1"]);
    assert_eq!(shown(table(c, &path).await), wanted);
    let running = |name: &str, restarts: i64| {
        json!({"name": name, "image": "i", "imageID": "", "ready": true, "started": true, "restartCount": restarts,
            "state": {"running": {"startedAt": "2020-01-01T00:00:00Z"}}})
    };
    let mut failing = running("y", 1);
    failing["ready"] = json!(false);
    failing["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "example.com/gate", "status": "True"}],
        "initContainerStatuses": [running("s", 0)], "containerStatuses": [running("x", 2), failing],
    }});
    let set = |status: Value| async move {
        c.patch(&c.core("pods/p/status"), "merge", &status).await.ok();
        cells(&table(c, &c.core("pods/p")).await)
    };
    assert_eq!(set(status).await, json!(["p", "2/3", "CrashLoopBackOff", "3", "AGE", "10.0.0.1", none, none, "1/1"]));
    let ended = |code: i64, reason: &str| {
        json!({"name": "x", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "reason": reason}}})
    };
    let mut other = ended(0, "Completed");
    other["name"] = json!("y");
    let status = json!({"status": {"phase": "Failed", "containerStatuses": [ended(3, "Error"), other]}});
    assert_eq!(set(status).await[2], "Error");
    let row = &table(c, &path).await["rows"][0];
    let condition = &row["conditions"][0];
    assert_eq!((&condition["type"], &condition["reason"]), (&json!("Completed"), &json!("Failed")));
    c.delete(&path, &json!({"gracePeriodSeconds": 0})).await;
}

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "x", "image": "i"}, {"name": "y", "image": "j"}],
            "nodeSelector": {"disk": "none", "a": "b"}, "schedulerName": "nobody"},
    })
}

async fn cells_of_workloads(c: &Cluster) {
    let apps = format!("/apis/apps/v1/namespaces/{}", c.namespace);
    let selector = json!({"matchLabels": {"app": "a"}, "matchExpressions": [
        {"key": "z", "operator": "NotIn", "values": ["q", "p"]}, {"key": "y", "operator": "DoesNotExist"},
    ]});
    let workload = |name: &str, replicas: Option<i64>| {
        let mut workload = json!({"metadata": {"name": name}, "spec": {"selector": selector, "template": template()}});
        if let Some(replicas) = replicas {
            workload["spec"]["replicas"] = json!(replicas);
        }
        workload
    };
    let selected = "app=a,!y,z notin (p,q)";
    c.post(&format!("{apps}/deployments"), &workload("d", Some(0))).await.ok();
    let wanted = json!(["d", "0/0", 0, 0, "AGE", "x,y", "i,j", selected]);
    assert_eq!(cells(&table(c, &format!("{apps}/deployments/d")).await), wanted);
    c.post(&format!("{apps}/replicasets"), &workload("r", Some(0))).await.ok();
    let wanted = json!(["r", 0, 0, 0, "AGE", "x,y", "i,j", selected]);
    assert_eq!(cells(&table(c, &format!("{apps}/replicasets/r")).await), wanted);
    c.post(&format!("{apps}/daemonsets"), &workload("s", None)).await.ok();
    let wanted = json!(["s", 0, 0, 0, 0, 0, "a=b,disk=none", "AGE", "x,y", "i,j", selected]);
    assert_eq!(cells(&table(c, &format!("{apps}/daemonsets/s")).await), wanted);
    let mut set = workload("t", None);
    set["spec"]["serviceName"] = json!("t");
    let set = c.post(&format!("{apps}/statefulsets?dryRun=All"), &set).await;
    assert_eq!(set.code, 201);
    let budgets = format!("/apis/policy/v1/namespaces/{}/poddisruptionbudgets", c.namespace);
    let budget = json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": "50%", "selector": {}}});
    c.post(&budgets, &budget).await.ok();
    assert_eq!(cells(&table(c, &format!("{budgets}/b")).await), json!(["b", "N/A", "50%", 0, "AGE"]));
}

async fn cells_of_services(c: &Cluster) {
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let headless = json!({
        "clusterIP": "None", "selector": {"b": "2", "a": "1"}, "externalIPs": ["192.0.2.1", "192.0.2.2"],
        "ports": [{"name": "x", "port": 80, "protocol": "TCP"}, {"name": "y", "port": 53, "protocol": "UDP"}],
    });
    c.post(&c.core("services"), &service("h", headless)).await.ok();
    let wanted = json!(["h", "ClusterIP", "None", "192.0.2.1,192.0.2.2", "80/TCP,53/UDP", "AGE", "a=1,b=2"]);
    assert_eq!(cells(&table(c, &c.core("services/h")).await), wanted);
    let named = json!({"type": "ExternalName", "externalName": "example.com"});
    c.post(&c.core("services"), &service("n", named)).await.ok();
    let wanted = json!(["n", "ExternalName", "<none>", "example.com", "<none>", "AGE", "<none>"]);
    assert_eq!(cells(&table(c, &c.core("services/n")).await), wanted);
    let addresses: Vec<_> = (1..6).map(|n| json!({"ip": format!("192.0.2.{n}")})).collect();
    let endpoints =
        json!({"metadata": {"name": "e"}, "subsets": [{"addresses": addresses, "ports": [{"port": 8080}]}]});
    c.post(&c.core("endpoints"), &endpoints).await.ok();
    let wanted = json!(["e", "192.0.2.1:8080,192.0.2.2:8080,192.0.2.3:8080 + 2 more...", "AGE"]);
    assert_eq!(cells(&table(c, &c.core("endpoints/e")).await), wanted);
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", c.namespace);
    let slice = json!({
        "metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["192.0.2.1"]}, {"addresses": ["192.0.2.2"]}],
    });
    c.post(&slices, &slice).await.ok();
    let wanted = json!(["s", "IPv4", "80", "192.0.2.1,192.0.2.2", "AGE"]);
    assert_eq!(cells(&table(c, &format!("{slices}/s")).await), wanted);
    c.post(&slices, &json!({"metadata": {"name": "t"}, "addressType": "IPv4", "endpoints": []})).await.ok();
    let wanted = json!(["t", "IPv4", "<unset>", "<unset>", "AGE"]);
    assert_eq!(cells(&table(c, &format!("{slices}/t")).await), wanted);
}

async fn cells_of_nodes(c: &Cluster) {
    let name = format!("{}-node", c.namespace);
    let path = format!("/api/v1/nodes/{name}");
    let node = json!({
        "metadata": {"name": name, "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/a": "x"}},
        "spec": {"unschedulable": true},
    });
    c.post("/api/v1/nodes", &node).await.ok();
    let (none, unknown) = ("<none>", "<unknown>");
    let wanted =
        json!([name, "Unknown,SchedulingDisabled", "a,worker", "AGE", "", none, none, unknown, unknown, unknown]);
    assert_eq!(cells(&table(c, &path).await), wanted);
    let status = json!({"status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "ExternalIP", "address": "192.0.2.2"}],
        "nodeInfo": {
            "kubeletVersion": "v1.36.3", "osImage": "Linux", "kernelVersion": "6.1", "architecture": "arm64",
            "containerRuntimeVersion": "containerd://2.0", "bootID": "", "kubeProxyVersion": "", "machineID": "",
            "operatingSystem": "linux", "systemUUID": "",
        },
    }});
    c.patch(&format!("{path}/status"), "merge", &status).await.ok();
    c.patch(&path, "merge", &json!({"spec": {"unschedulable": null}})).await.ok();
    let shown = cells(&table(c, &path).await);
    c.delete(&path, &json!({})).await.ok();
    assert_eq!(
        shown,
        json!([
            name,
            "Ready",
            "a,worker",
            "AGE",
            "v1.36.3",
            "192.0.2.1",
            "192.0.2.2",
            "Linux",
            "6.1 (arm64)",
            "containerd://2.0",
        ])
    );
}

async fn cells_of_storage(c: &Cluster) {
    let claims = c.core("persistentvolumeclaims");
    let claim = json!({
        "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "nobody", "resources": {"requests": {"storage": "1Gi"}}},
    });
    c.post(&claims, &claim).await.ok();
    let wanted = json!(["c", "Pending", "", "", "", "nobody", "<unset>", "AGE", "Filesystem"]);
    assert_eq!(cells(&table(c, &format!("{claims}/c")).await), wanted);
    let name = format!("{}-volume", c.namespace);
    let path = format!("/api/v1/persistentvolumes/{name}");
    let volume = json!({
        "metadata": {"name": name},
        "spec": {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
            "storageClassName": "nobody", "persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": "/nowhere"}},
    });
    c.post("/api/v1/persistentvolumes", &volume).await.ok();
    let shown = cells(&table(c, &path).await);
    c.delete(&path, &json!({})).await;
    let phase = &shown[4];
    assert!(phase == "Pending" || phase == "Available", "{phase}");
    let wanted = json!([name, "10Gi", "RWO,RWX", "Delete", phase, "", "nobody", "<unset>", "", "AGE", "Filesystem"]);
    assert_eq!(shown, wanted);
    let name = format!("{}-class", c.namespace);
    let class = json!({"metadata": {"name": name}, "provisioner": "example.com/nobody", "reclaimPolicy": "Retain"});
    let path = "/apis/storage.k8s.io/v1/storageclasses";
    c.post(path, &class).await.ok();
    let shown = cells(&table(c, &format!("{path}/{name}")).await);
    c.delete(&format!("{path}/{name}"), &json!({})).await.ok();
    assert_eq!(shown, json!([name, "example.com/nobody", "Retain", "Immediate", false, "AGE"]));
}

async fn cells_of_events_and_requests(c: &Cluster) {
    let event = json!({
        "metadata": {"name": "e"}, "type": "Normal", "reason": "Because", "message": " it is so\n", "count": 3,
        "involvedObject": {"kind": "ConfigMap", "name": "a", "namespace": c.namespace, "fieldPath": "data.x"},
        "source": {"component": "conformance", "host": "here"}, "lastTimestamp": "2020-01-01T00:00:00Z",
        "firstTimestamp": "2020-01-01T00:00:00Z",
    });
    c.post(&c.core("events"), &event).await.ok();
    let mut shown = cells(&table(c, &c.core("events/e")).await);
    for time in [0, 7] {
        assert!(shown[time].as_str().unwrap().contains('y') || c.is_model(), "{shown}");
        shown[time] = json!("TIME");
    }
    assert_eq!(
        shown,
        json!(["TIME", "Normal", "Because", "configmap/a", "data.x", "conformance, here", "it is so", "TIME", 3, "e",])
    );
}

async fn columns_of_custom_resources(c: &Cluster) {
    let mut object = widget(
        "w",
        &json!({
            "size": 3, "ports": [{"name": "a", "port": 80}], "tags": ["x", "y"], "atoms": ["1", "2"],
            "open": {"flag": true}, "texts": {"since": "soon"},
        }),
    );
    object["metadata"]["annotations"] = json!({"model.test/dotted": "yes"});
    c.post(&c.widgets(""), &object).await.ok();
    let shown = table(c, &c.widgets("/w")).await;
    let wanted = [
        "Name string name",
        "Size integer",
        "Mode string",
        "Ready string",
        "First Port integer",
        "Tags string wide",
        "Last Atom string wide",
        "Dotted string",
        "Open boolean",
        "Since date",
        "Age date",
    ];
    assert_eq!(columns(&shown), wanted);
    assert_eq!(cells(&shown), json!(["w", 3, "fast", null, 80, "[\"x\",\"y\"]", "2", "yes", true, "<invalid>", "AGE"]));
    let status =
        json!({"status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]}});
    c.patch(&c.widgets("/w/status"), "merge", &status).await.ok();
    assert_eq!(cells(&table(c, &c.widgets("/w")).await)[3], "True");
    c.post(&c.widgets(""), &widget("v", &json!({}))).await.ok();
    let wanted = json!(["v", null, "fast", null, null, null, null, null, null, null, "AGE"]);
    assert_eq!(cells(&table(c, &c.widgets("/v")).await), wanted);
    let older = format!("/apis/model.test/v1beta1/namespaces/{}/widgets/w", c.namespace);
    assert_eq!(columns(&table(c, &older).await), ["Name string name", "Age date"]);
}

async fn rows_carry_what_was_asked_for(c: &Cluster) {
    let object = c.post(&c.core("configmaps"), &config_map("a", &json!({"x": "1"}))).await.ok();
    let row = |query: &'static str| async move {
        table(c, &c.core(&format!("configmaps/a{query}"))).await["rows"][0].clone()
    };
    for query in ["", "?includeObject=Metadata"] {
        let shown = row(query).await;
        let metadata = json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
        });
        assert_eq!(shown["object"], metadata);
        assert_eq!(shown.get("conditions"), None);
    }
    assert_eq!(row("?includeObject=Object").await["object"], object);
    assert_eq!(row("?includeObject=None").await["object"], Value::Null);
    c.get_as(&c.core("configmaps/a?includeObject=Some"), TABLE).await.refused(
        400,
        "BadRequest",
        "Unable to convert to Table as requested: includeObject: Invalid value: \"Some\": must be 'Metadata', 'Object', \
         'None', or empty",
    );
    let older = c.get_as(&c.core("configmaps/a"), "application/json;as=Table;v=v1beta1;g=meta.k8s.io").await.ok();
    assert_eq!(older["apiVersion"], "meta.k8s.io/v1beta1");
    assert_eq!(older["rows"][0]["object"]["apiVersion"], "meta.k8s.io/v1beta1");
    let missing = c.get_as(&c.core("configmaps/b"), TABLE).await;
    missing.refused(404, "NotFound", "configmaps \"b\" not found");
}

async fn lists_as_tables_have_pages(c: &Cluster) {
    for name in ["a", "b", "c"] {
        c.post(&c.widgets(""), &widget(name, &json!({}))).await.ok();
    }
    let names = |table: &Value| {
        let rows = table["rows"].as_array().unwrap().iter();
        rows.map(|row| row["cells"][0].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = table(c, &c.widgets("?limit=2")).await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let next = first["metadata"]["continue"].as_str().unwrap();
    let second = table(c, &c.widgets(&format!("?limit=2&continue={next}"))).await;
    assert_eq!(names(&second), ["c"]);
    assert_eq!(second["metadata"].get("continue"), None);
    assert_eq!(version(&second), version(&first));
    let none = table(c, &c.widgets("?labelSelector=no%3Dbody")).await;
    assert_eq!((&none["rows"], columns(&none).len()), (&json!([]), 11));
}

async fn the_first_accepted_form_counts(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await.ok();
    let path = c.core("configmaps/a");
    for (accept, kind) in [
        ("application/json,application/json;as=Table;v=v1;g=meta.k8s.io", "ConfigMap"),
        ("application/json;as=Table;v=v7;g=meta.k8s.io,application/json", "ConfigMap"),
        ("application/json;q=0.5,application/json;as=Table;v=v1;g=meta.k8s.io;q=0.9", "Table"),
        ("text/plain,application/json;as=Table;v=v1;g=meta.k8s.io", "Table"),
        ("*/*", "ConfigMap"),
    ] {
        assert_eq!(c.get_as(&path, accept).await.ok()["kind"], kind, "{accept}");
    }
}

async fn writes_answer_with_tables(c: &Cluster) {
    let body = config_map("a", &json!({"x": "1"})).to_string().into_bytes();
    let made = c.post_as(&c.core("configmaps"), TABLE, body).await;
    assert_eq!((made.code, &made.body["kind"]), (201, &json!("Table")), "{made:?}");
    assert_eq!(cells(&made.body), json!(["a", 1, "AGE"]));
}

async fn a_watch_names_its_columns_once(c: &Cluster) {
    let since = c.get(&c.widgets("")).await.ok();
    let path = c.widgets(&format!("?watch=1&resourceVersion={}", version(&since)));
    for name in ["a", "b"] {
        c.post(&c.widgets(""), &widget(name, &json!({"size": 1}))).await.ok();
    }
    let events = c.watch_as(&path, 2, TABLE).await;
    let shown: Vec<_> = events
        .iter()
        .map(|(kind, table)| {
            let columns = table["columnDefinitions"].as_array().map(Vec::len);
            (kind.as_str(), table["kind"].as_str().unwrap(), columns, table["rows"][0]["cells"][0].as_str().unwrap())
        })
        .collect();
    assert_eq!(shown, [("ADDED", "Table", Some(11), "a"), ("ADDED", "Table", None, "b")]);
    let object = c.get(&c.widgets("/a")).await.ok();
    assert_eq!(events[0].1["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);
}
