//! Creating and replacing objects.

use serde_json::{Value, json};

use crate::{
    checks,
    cluster::{Cluster, config_map, owners, settled, version, widget},
};

checks!(
    a_created_object_is_read_back,
    a_taken_name_is_refused,
    a_missing_namespace_is_refused,
    a_missing_object_is_named,
    names_are_generated,
    bad_metadata_is_refused,
    a_stale_update_is_refused,
    an_update_that_changes_nothing_keeps_the_version,
    a_custom_update_needs_a_version,
    a_core_update_needs_no_version,
    an_update_of_another_uid_is_refused,
    an_update_under_another_name_is_refused,
    another_namespace_or_kind_is_refused,
    the_generation_counts_what_is_wanted,
    a_generation_counts_everything_without_a_status,
    the_status_is_written_apart,
    a_status_write_changes_nothing_else,
    secrets_take_texts,
    unknown_fields_are_pruned_and_defaults_filled_in,
    a_faulty_custom_resource_is_refused,
    a_lease_is_created_by_an_update,
    names_of_roles_are_parts_of_paths,
    built_in_kinds_may_come_as_protobuf,
    a_dry_run_stores_nothing,
    metadata_that_is_not_the_clients_to_set,
    versions_of_a_kind_show_the_same_object,
    updates_are_recorded,
);

async fn a_created_object_is_read_back(c: &Cluster) {
    let answer = c.post(&c.core("configmaps"), &config_map("a", &json!({"x": "1"}))).await;
    assert_eq!(answer.code, 201);
    let created = answer.ok();
    assert_eq!(settled(&created), config_map("a", &json!({"x": "1"})));
    assert_eq!(created["metadata"]["namespace"], json!(c.namespace));
    assert!(created["metadata"]["uid"].is_string() && created["metadata"]["creationTimestamp"].is_string());
    assert_eq!(c.get(&c.core("configmaps/a")).await.ok(), created);
}

async fn a_taken_name_is_refused(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await.ok();
    let again = c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await;
    again.refused(409, "AlreadyExists", r#"configmaps "a" already exists"#);
    assert_eq!(again.body["details"], json!({"name": "a", "kind": "configmaps"}));
    let mut kept = widget("w", &json!({}));
    kept["metadata"]["finalizers"] = json!(["model.test/f"]);
    c.post(&c.widgets(""), &kept).await.ok();
    c.delete(&c.widgets("/w"), &json!({})).await.ok();
    let again = c.post(&c.widgets(""), &kept).await;
    again.refused(409, "AlreadyExists", r#"object is being deleted: widgets.model.test "w" already exists"#);
    assert_eq!(again.body["details"], json!({"name": "w", "group": "model.test", "kind": "widgets"}));
    c.patch(&c.widgets("/w"), "merge", &json!({"metadata": {"finalizers": null}})).await.ok();
}

async fn a_missing_namespace_is_refused(c: &Cluster) {
    let refused = c.post("/api/v1/namespaces/nowhere-at-all/configmaps", &config_map("a", &json!({}))).await;
    refused.refused(404, "NotFound", r#"namespaces "nowhere-at-all" not found"#);
    assert_eq!(refused.body["details"], json!({"name": "nowhere-at-all", "kind": "namespaces"}));
}

async fn a_missing_object_is_named(c: &Cluster) {
    let missing = c.get(&c.widgets("/w")).await;
    missing.refused(404, "NotFound", r#"widgets.model.test "w" not found"#);
    assert_eq!(missing.body["details"], json!({"name": "w", "group": "model.test", "kind": "widgets"}));
    assert_eq!((&missing.body["status"], &missing.body["apiVersion"]), (&json!("Failure"), &json!("v1")));
    for answer in [
        c.put(&c.core("configmaps/a"), &config_map("a", &json!({}))).await,
        c.patch(&c.core("configmaps/a"), "merge", &json!({})).await,
        c.delete(&c.core("configmaps/a"), &json!({})).await,
    ] {
        answer.refused(404, "NotFound", r#"configmaps "a" not found"#);
    }
    assert_eq!(c.get("/apis/model.test/v1/gadgets").await.code, 404);
    assert_eq!(c.get("/apis/model.test/v7/widgets").await.code, 404);
}

async fn names_are_generated(c: &Cluster) {
    let body = json!({"metadata": {"generateName": "gen-"}});
    let first = c.post(&c.core("configmaps"), &body).await.ok();
    let second = c.post(&c.core("configmaps"), &body).await.ok();
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    assert!(name(&first).starts_with("gen-") && name(&first).len() == 9, "{first}");
    assert_ne!(name(&first), name(&second));
    assert_eq!(first["metadata"]["generateName"], "gen-");
}

async fn bad_metadata_is_refused(c: &Cluster) {
    let refused = c.post(&c.core("configmaps"), &config_map("Bad", &json!({}))).await;
    refused.refused(
        422,
        "Invalid",
        "ConfigMap \"Bad\" is invalid: metadata.name: Invalid value: \"Bad\": a lowercase RFC 1123 subdomain must \
         consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric \
         character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    );
    assert_eq!(refused.body["details"]["causes"][0]["field"], "metadata.name");
    assert_eq!(refused.body["details"]["causes"][0]["reason"], "FieldValueInvalid");
    let mut object = config_map("a", &json!({}));
    object["metadata"]["labels"] = json!({"a": "not a label"});
    assert_eq!(c.post(&c.core("configmaps"), &object).await.body["details"]["causes"][0]["field"], "metadata.labels");
    object = config_map("a", &json!({}));
    object["metadata"]["finalizers"] = json!(["loose"]);
    let refused = c.post(&c.core("configmaps"), &object).await;
    refused.refused(
        422,
        "Invalid",
        "ConfigMap \"a\" is invalid: metadata.finalizers[0]: Invalid value: \"loose\": name is neither a standard finalizer \
         name nor is it fully qualified",
    );
    object = config_map("a", &json!({}));
    object["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": ""}]);
    let refused = c.post(&c.core("configmaps"), &object).await;
    assert_eq!(refused.body["details"]["causes"][0]["field"], "metadata.ownerReferences.uid");
    let nameless = c.post(&c.core("configmaps"), &json!({"metadata": {}})).await;
    nameless.refused(
        422,
        "Invalid",
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
    );
}

async fn a_stale_update_is_refused(c: &Cluster) {
    let first = c.post(&c.core("configmaps"), &config_map("a", &json!({"x": "1"}))).await.ok();
    let mut second = first.clone();
    second["data"]["x"] = json!("2");
    c.put(&c.core("configmaps/a"), &second).await.ok();
    let refused = c.put(&c.core("configmaps/a"), &second).await;
    refused.refused(
        409,
        "Conflict",
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again",
    );
    assert_eq!(refused.body["details"], json!({"name": "a", "kind": "configmaps"}));
}

async fn an_update_that_changes_nothing_keeps_the_version(c: &Cluster) {
    for (collection, object) in
        [(c.core("configmaps"), config_map("a", &json!({"x": "1"}))), (c.widgets(""), widget("a", &json!({"size": 1})))]
    {
        let first = c.post(&collection, &object).await.ok();
        let same = c.put(&format!("{collection}/a"), &first).await.ok();
        assert_eq!(first, same);
        let same = c.patch(&format!("{collection}/a"), "merge", &json!({"metadata": {"labels": {}}})).await.ok();
        assert_eq!(first, same);
    }
}

async fn a_custom_update_needs_a_version(c: &Cluster) {
    c.post(&c.widgets(""), &widget("w", &json!({}))).await.ok();
    let refused = c.put(&c.widgets("/w"), &widget("w", &json!({"size": 1}))).await;
    refused.refused(
        422,
        "Invalid",
        "widgets.model.test \"w\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
    );
}

async fn a_core_update_needs_no_version(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await.ok();
    let updated = c.put(&c.core("configmaps/a"), &config_map("a", &json!({"x": "1"}))).await.ok();
    assert_eq!(updated["data"], json!({"x": "1"}));
}

async fn an_update_of_another_uid_is_refused(c: &Cluster) {
    let live = c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await.ok();
    let mut other = live.clone();
    other["metadata"]["uid"] = json!("another");
    let refused = c.put(&c.core("configmaps/a"), &other).await;
    let uid = live["metadata"]["uid"].as_str().unwrap();
    refused.refused(
        409,
        "Conflict",
        &format!(
            "Operation cannot be fulfilled on configmaps \"a\": StorageError: invalid object, Code: 4, Key: \
             /registry/configmaps/{}/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
             precondition: another, UID in object meta: {uid}",
            c.namespace
        ),
    );
}

async fn an_update_under_another_name_is_refused(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await.ok();
    c.put(&c.core("configmaps/a"), &config_map("b", &json!({}))).await.refused(
        400,
        "BadRequest",
        "the name of the object (b) does not match the name on the URL (a)",
    );
}

async fn another_namespace_or_kind_is_refused(c: &Cluster) {
    let mut object = config_map("a", &json!({}));
    object["metadata"]["namespace"] = json!("default");
    c.post(&c.core("configmaps"), &object).await.refused(
        400,
        "BadRequest",
        "the namespace of the provided object does not match the namespace sent on the request",
    );
    let mut object = widget("w", &json!({}));
    object["apiVersion"] = json!("model.test/v1beta1");
    c.post(&c.widgets(""), &object).await.refused(
        400,
        "BadRequest",
        "the API version in the data (model.test/v1beta1) does not match the expected API version (model.test/v1)",
    );
    object = widget("w", &json!({}));
    object["kind"] = json!("Plain");
    c.post(&c.widgets(""), &object).await.refused(
        422,
        "Invalid",
        "Plain.model.test \"w\" is invalid: kind: Invalid value: \"Plain\": must be Widget",
    );
    object.as_object_mut().unwrap().remove("kind");
    assert_eq!(c.post(&c.widgets(""), &object).await.code, 400);
}

async fn the_generation_counts_what_is_wanted(c: &Cluster) {
    let first = c.post(&c.widgets(""), &widget("w", &json!({"size": 1}))).await.ok();
    assert_eq!(first["metadata"]["generation"], 1);
    let labelled = c.patch(&c.widgets("/w"), "merge", &json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let grown = c.patch(&c.widgets("/w"), "merge", &json!({"spec": {"size": 2}})).await.ok();
    assert_eq!(grown["metadata"]["generation"], 2);
    let told = c.patch(&c.widgets("/w/status"), "merge", &json!({"status": {"phase": "x"}})).await.ok();
    assert_eq!(told["metadata"]["generation"], 2);
    let map = c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await.ok();
    assert_eq!(map["metadata"].get("generation"), None);
}

async fn a_generation_counts_everything_without_a_status(c: &Cluster) {
    let path = format!("/apis/model.test/v1/namespaces/{}/plains", c.namespace);
    let plain = json!({"apiVersion": "model.test/v1", "kind": "Plain", "metadata": {"name": "p"}, "status": {"a": 1}});
    let first = c.post(&path, &plain).await.ok();
    assert_eq!((&first["status"], &first["metadata"]["generation"]), (&json!({"a": 1}), &json!(1)));
    let told = c.patch(&format!("{path}/p"), "merge", &json!({"status": {"a": 2}})).await.ok();
    assert_eq!((&told["status"], &told["metadata"]["generation"]), (&json!({"a": 2}), &json!(2)));
    assert_eq!(c.get(&format!("{path}/p/status")).await.code, 404);
}

async fn the_status_is_written_apart(c: &Cluster) {
    let mut object = widget("w", &json!({"size": 1}));
    object["status"] = json!({"phase": "given"});
    let created = c.post(&c.widgets(""), &object).await.ok();
    assert_eq!(created.get("status"), None);
    let told = c.patch(&c.widgets("/w/status"), "merge", &json!({"status": {"phase": "told"}})).await.ok();
    assert_eq!(told["status"]["phase"], "told");
    let kept = c.patch(&c.widgets("/w"), "merge", &json!({"status": {"phase": "other"}})).await.ok();
    assert_eq!(kept["status"]["phase"], "told");
    assert_eq!(version(&kept), version(&told));
}

async fn a_status_write_changes_nothing_else(c: &Cluster) {
    let created = c.post(&c.widgets(""), &widget("w", &json!({"size": 1}))).await.ok();
    let mut told = created.clone();
    told["spec"]["size"] = json!(9);
    told["metadata"]["labels"] = json!({"a": "b"});
    told["status"] = json!({"phase": "told"});
    let told = c.put(&c.widgets("/w/status"), &told).await.ok();
    assert_eq!((&told["spec"]["size"], &told["status"]["phase"]), (&json!(1), &json!("told")));
    assert_eq!(told["metadata"].get("labels"), None);
    // The status of a built-in kind can be written together with metadata, but not with its spec.
    let name = format!("node-{}", c.namespace);
    let node = json!({"metadata": {"name": name}, "status": {"phase": "Pending"}});
    let node = c.post("/api/v1/nodes", &node).await.ok();
    assert_eq!(node["status"]["phase"], "Pending");
    let patch =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"unschedulable": true}, "status": {"phase": "Running"}});
    let node = c.patch(&format!("/api/v1/nodes/{name}/status"), "merge", &patch).await.ok();
    assert_eq!((&node["status"]["phase"], &node["metadata"]["labels"]["a"]), (&json!("Running"), &json!("b")));
    assert_eq!(node["spec"].get("unschedulable"), None);
    c.delete(&format!("/api/v1/nodes/{name}"), &json!({})).await.ok();
}

async fn secrets_take_texts(c: &Cluster) {
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "text"}, "data": {"b": "Yg=="}});
    let created = c.post(&c.core("secrets"), &secret).await.ok();
    assert_eq!(created["data"], json!({"a": "dGV4dA==", "b": "Yg=="}));
    assert_eq!((&created["type"], created.get("stringData")), (&json!("Opaque"), None));
    let bad = json!({"metadata": {"name": "t"}, "data": {"b": "?"}});
    c.post(&c.core("secrets"), &bad).await.refused(
        400,
        "BadRequest",
        "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 0",
    );
}

async fn unknown_fields_are_pruned_and_defaults_filled_in(c: &Cluster) {
    let spec = json!({"typo": 1, "ports": [{"name": "a", "typo": 1}], "open": {"any": {"thing": null}}});
    let created = c.post(&c.widgets(""), &widget("w", &spec)).await.ok();
    assert_eq!(
        created["spec"],
        json!({"mode": "fast", "ports": [{"name": "a", "protocol": "TCP"}], "open": {"any": {"thing": null}}})
    );
}

async fn a_faulty_custom_resource_is_refused(c: &Cluster) {
    let causes = async |spec: Value| {
        let refused = c.post(&c.widgets(""), &widget("w", &spec)).await;
        assert_eq!((refused.code, &refused.body["reason"]), (422, &json!("Invalid")), "{refused:?}");
        let causes = refused.body["details"]["causes"].as_array().cloned().unwrap_or_default();
        let shown = causes.iter().map(|cause| json!([cause["field"], cause["reason"]]));
        (refused.body["message"].as_str().unwrap_or_default().to_owned(), Value::Array(shown.collect()))
    };
    assert_eq!(causes(json!({"size": "big"})).await, (
        "Widget.model.test \"w\" is invalid: spec.size: Invalid value: \"string\": spec.size in body must be of type \
         integer: \"string\""
            .into(),
        json!([["spec.size", "FieldValueTypeInvalid"]])
    ));
    assert_eq!(causes(json!({"size": 0})).await, (
        "Widget.model.test \"w\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or \
         equal to 1"
            .into(),
        json!([["spec.size", "FieldValueInvalid"]])
    ));
    assert_eq!(causes(json!({"mode": "wild"})).await, (
        "Widget.model.test \"w\" is invalid: spec.mode: Unsupported value: \"wild\": supported values: \"fast\", \"slow\""
            .into(),
        json!([["spec.mode", "FieldValueNotSupported"]])
    ));
    assert_eq!(
        causes(json!({"ports": [{}]})).await,
        (
            "Widget.model.test \"w\" is invalid: spec.ports[0].name: Required value".into(),
            json!([["spec.ports[0].name", "FieldValueRequired"]])
        )
    );
    assert_eq!(
        causes(json!({"ports": [{"name": "a"}, {"name": "a"}]})).await,
        (
            "Widget.model.test \"w\" is invalid: spec.ports[1]: Duplicate value: {\"name\":\"a\"}".into(),
            json!([["spec.ports[1]", "FieldValueDuplicate"]])
        )
    );
}

async fn a_lease_is_created_by_an_update(c: &Cluster) {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/l", c.namespace);
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}});
    let made = c.put(&path, &lease).await;
    assert_eq!((made.code, &made.body["spec"]["holderIdentity"]), (201, &json!("me")));
    assert_eq!(c.put(&path, &lease).await.code, 422);
}

async fn names_of_roles_are_parts_of_paths(c: &Cluster) {
    let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles", c.namespace);
    let role = |name: &str| json!({"metadata": {"name": name}, "rules": []});
    c.post(&roles, &role("kubeadm:Config")).await.ok();
    assert_eq!(c.get(&format!("{roles}/kubeadm:Config")).await.ok()["metadata"]["name"], "kubeadm:Config");
    c.post(&roles, &role("a%b")).await.refused(
        422,
        "Invalid",
        "Role.rbac.authorization.k8s.io \"a%b\" is invalid: metadata.name: Invalid value: \"a%b\": may not contain '%'",
    );
}

async fn built_in_kinds_may_come_as_protobuf(c: &Cluster) {
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", c.namespace);
    // A lease `l` that lasts 40 s, as apimachinery's serializer writes it.
    let lease = "6b3873000a1f0a16636f6f7264696e6174696f6e2e6b38732e696f2f763112054c6561736512260a110a016c12001a0022002a0032\
                 003800420012110a001028220b0880e2cfaa06108094ef3a1a002200";
    let protobuf = "application/vnd.kubernetes.protobuf";
    let made = c.post_raw(&leases, protobuf, hex::decode(lease).expect("hexadecimal")).await.ok();
    assert_eq!(made["spec"]["leaseDurationSeconds"], 40);
    assert_eq!(made["spec"]["renewTime"], "2023-11-14T22:13:20.123456Z");
    assert_eq!(c.post_raw(&leases, protobuf, b"{}".to_vec()).await.code, 400);
}

async fn a_dry_run_stores_nothing(c: &Cluster) {
    let made = c.post(&c.core("configmaps?dryRun=All"), &config_map("a", &json!({"x": "1"}))).await;
    assert_eq!((made.code, &made.body["data"]["x"]), (201, &json!("1")));
    assert_eq!(c.get(&c.core("configmaps/a")).await.code, 404);
    let live = c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await.ok();
    let patched = c.patch(&c.core("configmaps/a?dryRun=All"), "merge", &json!({"data": {"x": "1"}})).await.ok();
    assert_eq!(patched["data"]["x"], "1");
    assert_eq!(c.delete(&c.core("configmaps/a?dryRun=All"), &json!({"dryRun": ["All"]})).await.code, 200);
    assert_eq!(c.get(&c.core("configmaps/a")).await.ok(), live);
}

async fn metadata_that_is_not_the_clients_to_set(c: &Cluster) {
    let mut object = config_map("a", &json!({}));
    for (name, value) in [
        ("uid", json!("mine")),
        ("creationTimestamp", json!("2001-01-01T00:00:00Z")),
        ("deletionTimestamp", json!("2001-01-01T00:00:00Z")),
        ("generation", json!(7)),
    ] {
        object["metadata"][name] = value;
    }
    let created = c.post(&c.core("configmaps"), &object).await.ok();
    let metadata = &created["metadata"];
    assert_ne!(metadata["uid"], "mine");
    assert_ne!(metadata["creationTimestamp"], "2001-01-01T00:00:00Z");
    assert_eq!(metadata.get("deletionTimestamp"), None);
    let mut changed = created.clone();
    changed["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    assert_eq!(c.put(&c.core("configmaps/a"), &changed).await.ok(), created);
    object["metadata"]["name"] = json!("b");
    object["metadata"]["resourceVersion"] = json!("1");
    c.post(&c.core("configmaps"), &object).await.refused(
        500,
        "",
        "resourceVersion should not be set on objects to be created",
    );
}

async fn versions_of_a_kind_show_the_same_object(c: &Cluster) {
    let created = c.post(&c.widgets(""), &widget("w", &json!({"size": 3}))).await.ok();
    let path = c.widgets("/w").replace("/v1/", "/v1beta1/");
    let other = c.get(&path).await.ok();
    assert_eq!(other["apiVersion"], "model.test/v1beta1");
    assert_eq!((&other["spec"], version(&other)), (&created["spec"], version(&created)));
    let patched = c.patch(&path, "merge", &json!({"spec": {"size": 4}})).await.ok();
    assert_eq!(patched["apiVersion"], "model.test/v1beta1");
    assert_eq!(c.get(&c.widgets("/w")).await.ok()["spec"]["size"], 4);
}

async fn updates_are_recorded(c: &Cluster) {
    let mut object = config_map("a", &json!({"x": "1"}));
    object["metadata"]["labels"] = json!({"l": "1"});
    let created = c.post(&c.core("configmaps?fieldManager=maker"), &object).await.ok();
    assert_eq!(
        owners(&created),
        [json!(["maker", "Update", null, {
            "f:metadata": {"f:labels": {".": {}, "f:l": {}}}, "f:data": {".": {}, "f:x": {}},
        }])]
    );
    let patched = c.patch(&c.core("configmaps/a"), "merge", &json!({"data": {"x": "2", "y": "1"}})).await.ok();
    assert_eq!(
        owners(&patched),
        [
            json!(["conformance", "Update", null, {"f:data": {"f:x": {}, "f:y": {}}}]),
            json!(["maker", "Update", null, {"f:metadata": {"f:labels": {".": {}, "f:l": {}}}, "f:data": {}}]),
        ]
    );
    // Forgotten on request.
    let reset = c.patch(&c.core("configmaps/a"), "merge", &json!({"metadata": {"managedFields": [{}]}})).await.ok();
    assert_eq!(owners(&reset), [] as [Value; 0]);
}
