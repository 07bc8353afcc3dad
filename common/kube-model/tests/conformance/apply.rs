//! Server-side apply.

use serde_json::{Value, json};

use crate::{
    checks,
    cluster::{Cluster, config_map, owners, version, widget},
};

checks!(
    an_apply_creates_and_owns,
    an_apply_that_changes_nothing_writes_nothing,
    a_conflict_names_fields_and_managers,
    conflicts_of_several_are_listed,
    force_takes_over,
    an_equal_value_is_shared,
    what_is_given_up_goes,
    an_updated_field_stays_when_it_is_given_up,
    keyed_lists_are_merged_by_item,
    sets_are_merged_by_value,
    atomic_lists_are_replaced,
    open_fields_are_merged_by_key,
    a_status_is_applied_apart,
    a_missing_object_has_no_status,
    what_was_there_before_belongs_to_nobody,
    faulty_applies_are_refused,
    unknown_fields_are_refused,
    an_apply_names_a_version_or_uid,
    an_apply_in_another_version_keeps_ownership,
    core_lists_have_their_keys,
    yaml_is_understood,
);

fn names(object: &Value, list: &str) -> Vec<String> {
    let items = object["spec"][list].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["name"].as_str().or(item.as_str()).unwrap_or_default().to_owned()).collect()
}

async fn an_apply_creates_and_owns(c: &Cluster) {
    let mut object = widget(
        "w",
        &json!({
            "size": 1, "ports": [{"name": "a", "port": 1}], "tags": ["x"], "atoms": ["p"], "open": {"k": {"l": 1}},
            "texts": {"t": "1"},
        }),
    );
    object["metadata"]["labels"] = json!({"l": "1"});
    let created = c.apply(&c.widgets("/w"), "me", "", &object).await;
    assert_eq!(created.code, 201);
    assert_eq!(
        owners(&created.body),
        [json!(["me", "Apply", null, {
            "f:metadata": {"f:labels": {"f:l": {}}},
            "f:spec": {
                "f:size": {}, "f:ports": {r#"k:{"name":"a"}"#: {".": {}, "f:name": {}, "f:port": {}}},
                "f:tags": {r#"v:"x""#: {}}, "f:atoms": {}, "f:open": {"f:k": {".": {}, "f:l": {}}}, "f:texts": {"f:t": {}},
            },
        }])]
    );
    assert_eq!(created.body["spec"]["mode"], "fast");
    let entry = &created.body["metadata"]["managedFields"][0];
    assert_eq!((&entry["apiVersion"], &entry["fieldsType"]), (&json!("model.test/v1"), &json!("FieldsV1")));
    assert!(entry["time"].is_string());
}

async fn an_apply_that_changes_nothing_writes_nothing(c: &Cluster) {
    let object = widget("w", &json!({"size": 1}));
    let first = c.apply(&c.widgets("/w"), "me", "", &object).await.ok();
    let again = c.apply(&c.widgets("/w"), "me", "", &object).await;
    assert_eq!((again.code, &again.body), (200, &first));
}

async fn a_conflict_names_fields_and_managers(c: &Cluster) {
    c.apply(&c.widgets("/w"), "one", "", &widget("w", &json!({"size": 1}))).await.ok();
    let refused = c.apply(&c.widgets("/w"), "two", "", &widget("w", &json!({"size": 2}))).await;
    refused.refused(409, "Conflict", "Apply failed with 1 conflict: conflict with \"one\": .spec.size");
    assert_eq!(
        refused.body["details"],
        json!({"causes": [{
            "reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.size",
        }]})
    );
}

async fn conflicts_of_several_are_listed(c: &Cluster) {
    let first = json!({"size": 1, "ports": [{"name": "a", "port": 1}]});
    c.apply(&c.widgets("/w"), "one", "", &widget("w", &first)).await.ok();
    c.patch(&c.widgets("/w"), "merge", &json!({"spec": {"mode": "slow"}})).await.ok();
    let second = json!({"size": 2, "mode": "fast", "ports": [{"name": "a", "port": 2}]});
    let refused = c.apply(&c.widgets("/w"), "two", "", &widget("w", &second)).await;
    assert_eq!(refused.code, 409);
    let mut causes = refused.body["details"]["causes"].as_array().cloned().unwrap_or_default();
    causes.sort_by_key(ToString::to_string);
    let cause = |manager: &str, field: &str| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": field});
    let mut wanted = vec![
        cause("\"one\"", ".spec.size"),
        cause("\"one\"", r#".spec.ports[name="a"].port"#),
        cause("\"conformance\" using model.test/v1", ".spec.mode"),
    ];
    wanted.sort_by_key(ToString::to_string);
    assert_eq!(causes, wanted);
    let message = refused.body["message"].as_str().unwrap();
    assert!(message.starts_with("Apply failed with 3 conflicts: conflicts with \"conformance\" using model.test/v1:\n- .spec.mode\nconflicts with \"one\":\n"), "{message}");
}

async fn force_takes_over(c: &Cluster) {
    c.apply(&c.widgets("/w"), "one", "", &widget("w", &json!({"size": 1, "mode": "slow"}))).await.ok();
    let taken = c.apply(&c.widgets("/w"), "two", "&force=true", &widget("w", &json!({"size": 2}))).await.ok();
    assert_eq!(taken["spec"], json!({"size": 2, "mode": "slow"}));
    assert_eq!(
        owners(&taken),
        [
            json!(["one", "Apply", null, {"f:spec": {"f:mode": {}}}]),
            json!(["two", "Apply", null, {"f:spec": {"f:size": {}}}]),
        ]
    );
}

async fn an_equal_value_is_shared(c: &Cluster) {
    let object = widget("w", &json!({"size": 1}));
    c.apply(&c.widgets("/w"), "one", "", &object).await.ok();
    let shared = c.apply(&c.widgets("/w"), "two", "", &object).await.ok();
    let managers: Vec<_> = owners(&shared).iter().map(|owner| owner[0].clone()).collect();
    assert_eq!(managers, [json!("one"), json!("two")]);
    // Who changed nothing did it at no time.
    let entries = shared["metadata"]["managedFields"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["time"].is_string() == (entry["manager"] == "one")), "{entries:?}");
    let kept = c.apply(&c.widgets("/w"), "one", "", &widget("w", &json!({}))).await.ok();
    assert_eq!(kept["spec"]["size"], 1);
    assert_eq!(
        owners(&kept),
        [json!(["one", "Apply", null, {"f:spec": {}}]), json!(["two", "Apply", null, {"f:spec": {"f:size": {}}}]),]
    );
}

async fn what_is_given_up_goes(c: &Cluster) {
    let spec = json!({"size": 1, "texts": {"a": "1", "b": "1"}, "tags": ["x"], "ports": [{"name": "p"}]});
    c.apply(&c.widgets("/w"), "me", "", &widget("w", &spec)).await.ok();
    let less = c.apply(&c.widgets("/w"), "me", "", &widget("w", &json!({"texts": {"b": "1"}}))).await.ok();
    assert_eq!(less["spec"], json!({"mode": "fast", "texts": {"b": "1"}}));
    let none = c.apply(&c.widgets("/w"), "me", "", &widget("w", &json!({}))).await.ok();
    assert_eq!(none["spec"].get("texts"), None);
    let map = |data: Value| {
        let mut map = config_map("m", &data);
        map["metadata"]["labels"] = json!({"l": "1"});
        map
    };
    c.apply(&c.core("configmaps/m"), "me", "", &map(json!({"x": "1", "y": "1"}))).await.ok();
    let less = c.apply(&c.core("configmaps/m"), "me", "", &config_map("m", &json!({"y": "1"}))).await.ok();
    assert_eq!((&less["data"], less["metadata"].get("labels")), (&json!({"y": "1"}), None));
}

async fn an_updated_field_stays_when_it_is_given_up(c: &Cluster) {
    c.apply(&c.widgets("/w"), "me", "", &widget("w", &json!({"size": 1}))).await.ok();
    let updated = c.patch(&c.widgets("/w?fieldManager=editor"), "merge", &json!({"spec": {"size": 2}})).await.ok();
    assert_eq!(owners(&updated), [json!(["editor", "Update", null, {"f:spec": {"f:size": {}}}])]);
    let kept = c.apply(&c.widgets("/w"), "me", "", &widget("w", &json!({}))).await.ok();
    assert_eq!(kept["spec"]["size"], 2);
}

async fn keyed_lists_are_merged_by_item(c: &Cluster) {
    let ports = |ports: Value| widget("w", &json!({"ports": ports}));
    c.apply(&c.widgets("/w"), "one", "", &ports(json!([{"name": "a", "port": 1}, {"name": "b"}]))).await.ok();
    let both = c.apply(&c.widgets("/w"), "two", "", &ports(json!([{"name": "c"}, {"name": "b"}]))).await.ok();
    assert_eq!(names(&both, "ports"), ["a", "c", "b"]);
    let less = c.apply(&c.widgets("/w"), "one", "", &ports(json!([{"name": "a"}]))).await.ok();
    assert_eq!(
        less["spec"]["ports"],
        json!([
            {"name": "a", "protocol": "TCP"}, {"name": "c", "protocol": "TCP"}, {"name": "b", "protocol": "TCP"},
        ])
    );
    let gone = c.apply(&c.widgets("/w"), "two", "", &widget("w", &json!({}))).await.ok();
    assert_eq!(names(&gone, "ports"), ["a"]);
}

async fn sets_are_merged_by_value(c: &Cluster) {
    let tags = |tags: Value| widget("w", &json!({"tags": tags}));
    c.apply(&c.widgets("/w"), "one", "", &tags(json!(["a", "b"]))).await.ok();
    let both = c.apply(&c.widgets("/w"), "two", "", &tags(json!(["b", "c"]))).await.ok();
    assert_eq!(names(&both, "tags"), ["a", "b", "c"]);
    let less = c.apply(&c.widgets("/w"), "one", "", &tags(json!([]))).await.ok();
    assert_eq!(names(&less, "tags"), ["b", "c"]);
}

async fn atomic_lists_are_replaced(c: &Cluster) {
    let atoms = |atoms: Value| widget("w", &json!({"atoms": atoms}));
    c.apply(&c.widgets("/w"), "one", "", &atoms(json!(["a", "b"]))).await.ok();
    let refused = c.apply(&c.widgets("/w"), "two", "", &atoms(json!(["b"]))).await;
    refused.refused(409, "Conflict", "Apply failed with 1 conflict: conflict with \"one\": .spec.atoms");
    let taken = c.apply(&c.widgets("/w"), "two", "&force=true", &atoms(json!(["b"]))).await.ok();
    assert_eq!(names(&taken, "atoms"), ["b"]);
}

async fn open_fields_are_merged_by_key(c: &Cluster) {
    let open = |open: Value| widget("w", &json!({"open": open}));
    c.apply(&c.widgets("/w"), "one", "", &open(json!({"a": {"x": 1}, "l": [1]}))).await.ok();
    let both = c.apply(&c.widgets("/w"), "two", "", &open(json!({"a": {"y": [2]}}))).await.ok();
    assert_eq!(both["spec"]["open"], json!({"a": {"x": 1, "y": [2]}, "l": [1]}));
    let less = c.apply(&c.widgets("/w"), "one", "", &open(json!({"a": {}}))).await.ok();
    assert_eq!(less["spec"]["open"], json!({"a": {"y": [2]}}));
}

async fn a_status_is_applied_apart(c: &Cluster) {
    c.apply(&c.widgets("/w"), "me", "", &widget("w", &json!({"size": 1}))).await.ok();
    let status = |kind: &str| {
        let mut object = widget("w", &json!({}));
        object.as_object_mut().unwrap().remove("spec");
        object["status"] = json!({"conditions": [{"type": kind, "status": "True"}]});
        object
    };
    c.apply(&c.widgets("/w/status"), "me", "", &status("A")).await.ok();
    let both = c.apply(&c.widgets("/w/status"), "other", "", &status("B")).await.ok();
    assert_eq!(both["status"]["conditions"].as_array().unwrap().len(), 2);
    let mine = owners(&both).into_iter().find(|owner| owner[0] == "me" && owner[2] == "status").unwrap();
    assert_eq!(
        mine[3],
        json!({"f:status": {"f:conditions": {
            r#"k:{"type":"A"}"#: {".": {}, "f:status": {}, "f:type": {}},
        }}})
    );
    // An apply of the whole keeps its hands off the status.
    let mut whole = status("C");
    whole["spec"] = json!({"size": 2});
    let kept = c.apply(&c.widgets("/w"), "me", "", &whole).await.ok();
    assert_eq!((&kept["status"], &kept["spec"]["size"]), (&both["status"], &json!(2)));
    let less = c
        .apply(
            &c.widgets("/w/status"),
            "other",
            "",
            &json!({
                "apiVersion": "model.test/v1", "kind": "Widget", "metadata": {"name": "w"}, "status": {},
            }),
        )
        .await
        .ok();
    assert_eq!(less["status"]["conditions"], json!([{"type": "A", "status": "True"}]));
}

async fn a_missing_object_has_no_status(c: &Cluster) {
    let mut object = widget("w", &json!({}));
    object["status"] = json!({"phase": "x"});
    c.apply(&c.widgets("/w/status"), "me", "", &object).await.refused(
        404,
        "NotFound",
        "widgets.model.test \"w\" not found",
    );
}

async fn what_was_there_before_belongs_to_nobody(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({"x": "1"}))).await.ok();
    let reset = json!({"metadata": {"managedFields": [{}]}});
    c.patch(&c.core("configmaps/a"), "merge", &reset).await.ok();
    let refused = c.apply(&c.core("configmaps/a"), "me", "", &config_map("a", &json!({"x": "2"}))).await;
    refused.refused(
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.x",
    );
}

async fn faulty_applies_are_refused(c: &Cluster) {
    let object = widget("w", &json!({}));
    let refused = c.patch_raw(&c.widgets("/w"), "application/apply-patch+yaml", &object.to_string()).await;
    refused.refused(
        422,
        "Invalid",
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
    );
    let mut owned = object.clone();
    owned["metadata"]["managedFields"] = json!([]);
    c.apply(&c.widgets("/w"), "me", "", &owned).await.refused(400, "BadRequest", "metadata.managedFields must be nil");
    let mut old = object.clone();
    old["apiVersion"] = json!("model.test/v1beta1");
    c.apply(&c.widgets("/w"), "me", "", &old).await.refused(
        400,
        "BadRequest",
        "invalid object type: model.test/v1beta1, Kind=Widget",
    );
    c.patch(&c.widgets("/w?force=true"), "merge", &json!({})).await.refused(
        422,
        "Invalid",
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
    );
}

async fn unknown_fields_are_refused(c: &Cluster) {
    let refused = c.apply(&c.widgets("/w"), "me", "", &widget("w", &json!({"typo": 1}))).await;
    refused.refused(
        500,
        "",
        "failed to create typed patch object (/w; model.test/v1, Kind=Widget): .spec.typo: field not declared in schema",
    );
    let twice = widget("w", &json!({"ports": [{"name": "a"}, {"name": "a"}]}));
    let refused = c.apply(&c.widgets("/w"), "me", "", &twice).await;
    refused.refused(
        500,
        "",
        "failed to create typed patch object (/w; model.test/v1, Kind=Widget): .spec.ports: duplicate entries for key \
         [name=\"a\"]",
    );
}

async fn an_apply_names_a_version_or_uid(c: &Cluster) {
    let mut map = config_map("a", &json!({"x": "1"}));
    map["metadata"]["uid"] = json!("gone");
    c.apply(&c.core("configmaps/a"), "me", "", &map).await.refused(
        409,
        "Conflict",
        "Operation cannot be fulfilled on configmaps \"a\": uid mismatch: the provided object specified uid gone, and no \
         existing object was found",
    );
    let live = c.apply(&c.core("configmaps/a"), "me", "", &config_map("a", &json!({"x": "1"}))).await.ok();
    map["metadata"] = json!({"name": "a", "resourceVersion": "1"});
    let refused = c.apply(&c.core("configmaps/a"), "me", "", &map).await;
    assert_eq!((refused.code, &refused.body["reason"]), (409, &json!("Conflict")));
    map["metadata"]["resourceVersion"] = json!(version(&live));
    map["data"]["x"] = json!("2");
    assert_eq!(c.apply(&c.core("configmaps/a"), "me", "", &map).await.ok()["data"]["x"], "2");
}

async fn an_apply_in_another_version_keeps_ownership(c: &Cluster) {
    let mut object = widget("w", &json!({"size": 1, "texts": {"a": "1"}}));
    c.apply(&c.widgets("/w"), "me", "", &object).await.ok();
    object["apiVersion"] = json!("model.test/v1beta1");
    object["spec"] = json!({"size": 1});
    let path = c.widgets("/w").replace("/v1/", "/v1beta1/");
    let moved = c.apply(&path, "me", "", &object).await.ok();
    assert_eq!(moved["spec"].get("texts"), None);
    assert_eq!(owners(&moved), [json!(["me", "Apply", null, {"f:spec": {"f:size": {}}}])]);
    assert_eq!(moved["metadata"]["managedFields"][0]["apiVersion"], "model.test/v1beta1");
}

async fn core_lists_have_their_keys(c: &Cluster) {
    c.eventually(|| async { c.get(&c.core("serviceaccounts/default")).await.code == 200 || c.is_model() }).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "a", "image": "x:1", "env": [{"name": "E", "value": "1"}],
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "1"}},
        }],
    }});
    let created = c.apply(&c.core("pods/p"), "me", "", &pod).await.ok();
    assert_eq!(
        owners(&created)[0][3],
        json!({"f:spec": {
            "f:automountServiceAccountToken": {},
            "f:containers": {r#"k:{"name":"a"}"#: {
                ".": {}, "f:name": {}, "f:image": {},
                "f:env": {r#"k:{"name":"E"}"#: {".": {}, "f:name": {}, "f:value": {}}},
                "f:ports": {r#"k:{"containerPort":80,"protocol":"TCP"}"#: {".": {}, "f:containerPort": {}, "f:protocol": {}}},
                "f:resources": {"f:limits": {"f:cpu": {}}},
            }},
        }})
    );
}

async fn yaml_is_understood(c: &Cluster) {
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: text\ndata:\n  x: |\n    text\n";
    let path = c.core("configmaps/text?fieldManager=me");
    let created = c.patch_raw(&path, "application/apply-patch+yaml", yaml).await;
    assert_eq!((created.code, &created.body["data"]["x"]), (201, &json!("text\n")));
}
