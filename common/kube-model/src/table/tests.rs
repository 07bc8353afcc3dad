use super::*;
use crate::{apply::schema::Schema, builtin, crd};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn cells_of(group: &str, object: &Value) -> Vec<Value> {
    (printer(group, object["kind"].as_str().unwrap()).cells)(object, now())
}

#[test]
fn every_printer_fills_its_columns() {
    for (_, resource) in builtin::registry().iter() {
        let printer = printer(&resource.group, &resource.kind);
        let object = json!({"kind": resource.kind, "metadata": {"name": "a"}});
        assert_eq!(printer.columns.len(), (printer.cells)(&object, now()).len(), "{}", resource.kind);
    }
}

#[test]
fn pods_say_what_their_containers_do() {
    let pod = |status: Value| {
        let mut pod = json!({
            "kind": "Pod", "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "x"}], "initContainers": [{"name": "i"}]},
        });
        pod["status"] = status;
        cells_of("", &pod).into_iter().skip(1).take(4).map(|cell| cell.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(pod(json!({"phase": "Pending"})), ["0/1", "Pending", "0", "10m"]);
    let running = json!({"name": "x", "ready": true, "restartCount": 2, "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:09:00Z"}}});
    assert_eq!(
        pod(json!({"phase": "Running", "containerStatuses": [running]})),
        ["1/1", "Running", "2 (60s ago)", "10m"]
    );
    let waiting = json!({"name": "x", "ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    assert_eq!(pod(json!({"phase": "Running", "containerStatuses": [waiting]}))[1], "CrashLoopBackOff");
    let failing = json!({"name": "i", "restartCount": 3, "state": {"terminated": {"exitCode": 2}}});
    let state = pod(json!({"phase": "Pending", "initContainerStatuses": [failing]}));
    assert_eq!(state[1..3], ["Init:ExitCode:2", "3"]);
    let done = json!({"name": "x", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    assert_eq!(pod(json!({"phase": "Succeeded", "containerStatuses": [done]}))[1], "Completed");
}

#[test]
fn nodes_say_role_and_state() {
    let node = json!({
        "kind": "Node", "spec": {"unschedulable": true},
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "x"}},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.3", "kernelVersion": "6", "architecture": "amd64"}},
    });
    let wanted = [
        "n",
        "NotReady,SchedulingDisabled",
        "control-plane,x",
        "<unknown>",
        "v1.36.3",
        "10.0.0.1",
        "<none>",
        "<unknown>",
        "6 (amd64)",
        "<unknown>",
    ];
    assert_eq!(cells_of("", &node), wanted);
}

#[test]
fn services_and_endpoints_are_cut_short() {
    let service = json!({
        "kind": "Service", "metadata": {"name": "s"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "selector": {"a": "b"},
            "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]},
    });
    assert_eq!(cells_of("", &service)[1..5], ["LoadBalancer", "10.0.0.1", "<pending>", "80:30080/TCP,53/UDP"]);
    let addresses: Vec<_> = (1..6).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
    let endpoints = json!({
        "kind": "Endpoints", "metadata": {"name": "e"}, "subsets": [{"addresses": addresses, "ports": [{"port": 1}]}],
    });
    assert_eq!(cells_of("", &endpoints)[1], "10.0.0.1:1,10.0.0.2:1,10.0.0.3:1 + 2 more...");
}

#[test]
fn custom_resources_have_the_columns_of_their_definition() {
    let definition = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "additionalPrinterColumns": [
                {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                {"name": "Spec", "type": "string", "jsonPath": ".spec", "priority": 1},
                {"name": "Since", "type": "date", "jsonPath": ".spec.since"},
            ]}]},
    });
    let widget = json!({
        "metadata": {"name": "w", "resourceVersion": "7"}, "spec": {"size": 3, "since": "2026-01-01T00:00:00Z"},
    });
    let widget = Arc::new(Stored::new(Arc::new(widget), Arc::default()));
    let resource = Arc::new(crd::resource(&Arc::new(definition), None).unwrap());
    let tables = Tables::new(resource, "v1", "v1", Include::Nothing);
    let table = tables.of_object(&widget, now());
    let spec = r#"{"since":"2026-01-01T00:00:00Z","size":3}"#;
    assert_eq!(table["rows"], json!([{"cells": ["w", 3, null, spec, "10m"], "object": null}]));
    let names: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["Name", "Size", "Ready", "Spec", "Since"]);
    assert_eq!(table["metadata"], json!({"resourceVersion": "7"}));
}

#[test]
fn only_the_first_line_of_a_watch_names_the_columns() {
    let resource = Arc::new(Resource::new("", "v1", "ConfigMap", "configmaps", true, Schema::Untyped));
    let tables = Tables::new(resource, "v1", "v1beta1", Include::Metadata);
    let line =
        Bytes::from(json!({"type": "ADDED", "object": {"metadata": {"name": "a"}, "data": {"x": "y"}}}).to_string());
    let first: Value = serde_json::from_slice(&tables.of_line(&line, true, now())).unwrap();
    assert_eq!(first["object"]["columnDefinitions"].as_array().unwrap().len(), 3);
    assert_eq!(first["object"]["rows"][0]["cells"], json!(["a", 1, "<unknown>"]));
    assert_eq!(first["object"]["rows"][0]["object"]["apiVersion"], "meta.k8s.io/v1beta1");
    let second: Value = serde_json::from_slice(&tables.of_line(&line, false, now())).unwrap();
    assert_eq!(second["object"]["columnDefinitions"], Value::Null);
    let error = Bytes::from(json!({"type": "ERROR", "object": {"kind": "Status"}}).to_string());
    assert_eq!(tables.of_line(&error, true, now()), error);
}

#[test]
fn a_job_shows_what_it_has_come_to() {
    let cells = |job: Value| (workloads::JOBS.cells)(&job, now());
    let running = json!({"metadata": {"name": "j"}, "spec": {"completions": 3, "parallelism": 2},
        "status": {"succeeded": 1, "startTime": "2026-01-01T00:00:00Z"}});
    assert_eq!(cells(running)[1..4], [json!("Running"), json!("1/3"), json!("10m")]);
    let complete = json!({"metadata": {"name": "j"}, "spec": {"parallelism": 2}, "status": {
        "succeeded": 2, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:07Z",
        "conditions": [{"type": "Complete", "status": "True"}]}});
    assert_eq!(cells(complete)[1..4], [json!("Complete"), json!("2/1 of 2"), json!("7s")]);
    let fresh = json!({"metadata": {"name": "j"}, "spec": {}});
    assert_eq!(cells(fresh)[1..4], [json!("Running"), json!("0/1"), json!("")]);
}
