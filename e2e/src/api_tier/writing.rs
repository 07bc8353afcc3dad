//! Writes that are taken: what is filled in, subresources, field managers, and what `kubectl get` shows.

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use serde_json::{Value, json};

use super::{
    Check, check,
    objects::{
        BOOTSTRAP, BOOTSTRAP_OLD, CONTROL_PLANE, CONTROL_PLANE_OLD, NAMESPACE, config, config_template, control_plane,
        dcs_cluster, dcs_machine, dcs_machine_template, dcs_pool, object, old_control_plane, with,
    },
    server::{Server, accepted, refused, same},
};

const DEFINITIONS: [(&str, &[&str]); 9] = [
    ("kubeadmconfigs.bootstrap.cluster.x-k8s.io", &["v1beta1", "v1beta2"]),
    ("kubeadmconfigtemplates.bootstrap.cluster.x-k8s.io", &["v1beta1", "v1beta2"]),
    ("kubeadmcontrolplanes.controlplane.cluster.x-k8s.io", &["v1beta1", "v1beta2"]),
    ("kubeadmcontrolplanetemplates.controlplane.cluster.x-k8s.io", &["v1beta1", "v1beta2"]),
    ("dcsclusters.infrastructure.cluster.x-k8s.io", &["v1beta1"]),
    ("dcsclustertemplates.infrastructure.cluster.x-k8s.io", &["v1beta1"]),
    ("dcsmachines.infrastructure.cluster.x-k8s.io", &["v1beta1"]),
    ("dcsmachinetemplates.infrastructure.cluster.x-k8s.io", &["v1beta1"]),
    ("dcsiphostnamepools.infrastructure.cluster.x-k8s.io", &["v1beta1"]),
];

pub fn checks<'a>(server: &'a Server<'a>) -> Vec<Check<'a>> {
    let mut checks: Vec<Check<'a>> = DEFINITIONS
        .iter()
        .map(|(name, versions)| check(format!("{name} is established"), established(server, name, versions)))
        .collect();
    checks.extend([
        check("a control plane gets its defaults", defaults(server)),
        check("a v1beta1 control plane gets its defaults", old_defaults(server)),
        check("a template gets defaults in a topology's dry run alone", dry_run_defaults(server)),
        check("a missing disk is a warning, not a refusal", warned(server)),
        check("a status is written through its subresource alone", status(server)),
        check("a malformed condition is refused by field", malformed_condition(server)),
        check("v1beta1 shows readiness", old_readiness(server)),
        check("a control plane is scaled", scaled(server)),
        check("a scale to an unusable number is refused", scaled_wrongly(server)),
        check("two managers apply one object at two versions", applied_by_two(server)),
        check("an apply that changes nothing writes nothing", applied_again(server)),
        check("an empty label survives v1beta1", empty_label(server)),
    ]);
    checks.extend(
        SHOWN.iter().map(|(kind, columns)| {
            check(format!("kubectl get {kind} shows its columns"), shown(server, kind, columns))
        }),
    );
    checks.push(check("kubectl get cluster-api shows all kinds", category(server)));
    checks
}

async fn established(server: &Server<'_>, name: &str, versions: &[&str]) -> Result<()> {
    let definition = Api::<CustomResourceDefinition>::all(server.client()).get(name).await?;
    let status = definition.status.context("no status")?;
    let conditions = status.conditions.unwrap_or_default();
    let is_true = |type_: &str| conditions.iter().any(|found| found.type_ == type_ && found.status == "True");
    ensure!(is_true("Established") && is_true("NamesAccepted"), "{conditions:?}");
    ensure!(!is_true("NonStructuralSchema"), "{conditions:?}");
    let served: Vec<String> =
        definition.spec.versions.into_iter().filter(|version| version.served).map(|version| version.name).collect();
    ensure!(served == versions, "serves {served:?}");
    let labels = definition.metadata.labels.unwrap_or_default();
    let newest = versions.last().copied().unwrap_or_default();
    for (contract, version) in [("v1beta1", "v1beta1"), ("v1beta2", newest)] {
        let label = labels.get(&format!("cluster.x-k8s.io/{contract}"));
        ensure!(label.is_some_and(|label| label == version), "contract {contract} is at {label:?}");
    }
    ensure!(status.stored_versions == Some(vec![newest.to_owned()]), "stores {:?}", status.stored_versions);
    Ok(())
}

async fn defaults(server: &Server<'_>) -> Result<()> {
    let open = with(with(control_plane("defaults"), "/spec/replicas", Value::Null), "/spec/version", json!("1.34.5-3"));
    let found = accepted(server.create(&open).await)?;
    same("replicas", &found["spec"]["replicas"], &json!(1))?;
    same("version", &found["spec"]["version"], &json!("v1.34.5-3"))?;
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
    same("strategy", &found["spec"]["rollout"]["strategy"], &strategy)
}

async fn old_defaults(server: &Server<'_>) -> Result<()> {
    let open = with(old_control_plane("old-defaults"), "/spec/rolloutStrategy", Value::Null);
    let found = accepted(server.create(&with(open, "/spec/replicas", Value::Null)).await)?;
    same("replicas", &found["spec"]["replicas"], &json!(1))?;
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
    same("strategy", &found["spec"]["rolloutStrategy"], &strategy)
}

async fn dry_run_defaults(server: &Server<'_>) -> Result<()> {
    let plain = config_template("dry", json!({"verbosity": 1}));
    let found = accepted(server.create_dry(&plain).await)?;
    ensure!(found["spec"]["template"]["spec"].get("format").is_none(), "an ordinary dry run is filled in: {found}");
    let asked = with(plain, "/metadata/annotations", json!({"topology.cluster.x-k8s.io/dry-run": ""}));
    let found = accepted(server.create_dry(&asked).await)?;
    same("format", &found["spec"]["template"]["spec"]["format"], &json!("cloud-config"))?;
    let found = accepted(server.create(&with(asked, "/metadata/name", json!("not-dry"))).await)?;
    ensure!(found["spec"]["template"]["spec"].get("format").is_none(), "what is stored is filled in: {found}");
    Ok(())
}

async fn warned(server: &Server<'_>) -> Result<()> {
    let disks = "/spec/template/spec/vmConfig/dcsMachineDiskSpec";
    let bare = json!([{"quantity": 0, "systemVolume": true, "datastoreName": "d"}]);
    accepted(server.create(&with(dcs_machine_template("bare"), disks, bare)).await).map(drop)
}

fn ready(reason: &str) -> Value {
    json!([{
        "type": "Ready", "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z",
    }])
}

async fn status(server: &Server<'_>) -> Result<()> {
    let created = accepted(server.create(&config("status", json!({"verbosity": 1}))).await)?;
    let filled =
        with(created, "/status", json!({"conditions": ready("Ready"), "initialization": {"dataSecretCreated": true}}));
    let ignored = accepted(server.replace(&filled).await)?;
    ensure!(ignored.get("status").is_none(), "the object itself takes a status");
    let version = ignored["metadata"]["resourceVersion"].clone();
    let filled = with(with(filled, "/spec/verbosity", json!(9)), "/metadata/resourceVersion", version);
    let written = accepted(server.replace_status(&filled).await)?;
    same("spec.verbosity", &written["spec"]["verbosity"], &json!(1))?;
    same("status", &written["status"]["initialization"]["dataSecretCreated"], &json!(true))
}

async fn malformed_condition(server: &Server<'_>) -> Result<()> {
    let created = accepted(server.create(&config("bad-status", json!({"verbosity": 1}))).await)?;
    let filled = with(created, "/status", json!({"conditions": ready("not a reason")}));
    refused(server.replace_status(&filled).await, &["status.conditions[0].reason"])
}

async fn old_readiness(server: &Server<'_>) -> Result<()> {
    let created = accepted(server.create(&config("old-status", json!({"verbosity": 1}))).await)?;
    let filled =
        with(created, "/status", json!({"conditions": ready("Ready"), "initialization": {"dataSecretCreated": true}}));
    accepted(server.replace_status(&filled).await)?;
    let old = accepted(server.get(BOOTSTRAP_OLD, "KubeadmConfig", "old-status").await)?;
    same("status.ready", &old["status"]["ready"], &json!(true))?;
    same("status.v1beta2", &old["status"]["v1beta2"]["conditions"][0]["type"], &json!("Ready"))
}

async fn scaled(server: &Server<'_>) -> Result<()> {
    let created = accepted(server.create(&control_plane("scaled")).await)?;
    accepted(server.replace_status(&with(created, "/status", json!({"replicas": 2, "selector": "a=b"}))).await)?;
    for (version, replicas) in [(CONTROL_PLANE, 5), (CONTROL_PLANE_OLD, 1)] {
        let scale = accepted(server.scale(version, "KubeadmControlPlane", "scaled", replicas).await)?;
        same("scale", &scale["spec"]["replicas"], &json!(replicas))?;
        same("status", &scale["status"], &json!({"replicas": 2, "selector": "a=b"}))?;
        let found = accepted(server.get(CONTROL_PLANE, "KubeadmControlPlane", "scaled").await)?;
        same("spec.replicas", &found["spec"]["replicas"], &json!(replicas))?;
    }
    Ok(())
}

async fn scaled_wrongly(server: &Server<'_>) -> Result<()> {
    accepted(server.create(&control_plane("scaled-wrongly")).await)?;
    for replicas in [0, 2] {
        let scaled = server.scale(CONTROL_PLANE, "KubeadmControlPlane", "scaled-wrongly", replicas).await;
        refused(scaled, &["spec.replicas"]).with_context(|| format!("{replicas} machines"))?;
    }
    Ok(())
}

async fn applied_by_two(server: &Server<'_>) -> Result<()> {
    let old = object(
        BOOTSTRAP_OLD,
        "KubeadmConfig",
        "shared",
        json!({
            "format": "ignition",
            "clusterConfiguration": {"apiServer": {"extraArgs": {"v": "2"}, "timeoutForControlPlane": "4m0s"}},
        }),
    );
    let new = config("shared", json!({"verbosity": 4, "joinConfiguration": {"timeouts": {"discoverySeconds": 7}}}));
    accepted(server.apply("older", &old).await)?;
    accepted(server.apply("newer", &new).await)?;
    // Each applies what it wants again, as GitOps does, and the other's stays.
    accepted(server.apply("older", &old).await)?;
    let found = accepted(server.get(BOOTSTRAP, "KubeadmConfig", "shared").await)?;
    same("verbosity", &found["spec"]["verbosity"], &json!(4))?;
    same("format", &found["spec"]["format"], &json!("ignition"))?;
    same(
        "flags",
        &found["spec"]["clusterConfiguration"]["apiServer"]["extraArgs"],
        &json!([{"name": "v", "value": "2"}]),
    )?;
    same("restored limit", &found["spec"]["joinConfiguration"]["timeouts"]["discoverySeconds"], &json!(7))?;
    same(
        "moved limit",
        &found["spec"]["initConfiguration"]["timeouts"]["controlPlaneComponentHealthCheckSeconds"],
        &json!(240),
    )?;
    ensure!(found["metadata"].get("annotations").is_none(), "conversion left {}", found["metadata"]["annotations"]);
    let other = with(new, "/spec/format", json!("cloud-config"));
    refused(server.apply("newer", &other).await, &["conflict", ".spec.format"])
}

async fn applied_again(server: &Server<'_>) -> Result<()> {
    // As v1beta1 shows it: `1m`, or a reference without a namespace, is not what is read back, with upstream neither, and
    // so is written by each apply.
    let mut old = old_control_plane("again-old");
    for (field, shown) in
        [("nodeDrainTimeout", "1m0s"), ("nodeDeletionTimeout", "5m0s"), ("infrastructureRef/namespace", NAMESPACE)]
    {
        old = with(old, &format!("/spec/machineTemplate/{field}"), json!(shown));
    }
    for object in [control_plane("again"), old, dcs_cluster("again"), dcs_pool("again")] {
        accepted(server.apply("checks", &object).await)?;
        // The first repeat may move what admission filled in to its new owner.
        let before = accepted(server.apply("checks", &object).await)?;
        let after = accepted(server.apply("checks", &object).await)?;
        let metadata = |object: &Value| {
            json!([object["metadata"]["resourceVersion"].clone(), object["metadata"]["managedFields"].clone()])
        };
        same("metadata", &metadata(&after), &metadata(&before))
            .with_context(|| format!("{} {}", object["apiVersion"], object["kind"]))?;
    }
    Ok(())
}

async fn empty_label(server: &Server<'_>) -> Result<()> {
    let metadata = json!({"labels": {"role": ""}});
    let old = with(old_control_plane("labelled"), "/spec/machineTemplate/metadata", metadata.clone());
    accepted(server.create(&old).await)?;
    let found = accepted(server.get(CONTROL_PLANE, "KubeadmControlPlane", "labelled").await)?;
    same("metadata", &found["spec"]["machineTemplate"]["metadata"], &metadata)
}

/// Kinds, also by their short names, and what the head of their table must be.
const SHOWN: &[(&str, &str)] = &[
    ("kubeadmconfigs", "NAME CLUSTER DATA SECRET CREATED AGE"),
    ("kubeadmconfigs.v1beta1.bootstrap.cluster.x-k8s.io", "NAME CLUSTER AGE"),
    ("kubeadmconfigtemplates", "NAME CLUSTERCLASS CLUSTER AGE"),
    ("kcp", "NAME CLUSTER AVAILABLE DESIRED CURRENT READY AVAILABLE UP-TO-DATE INITIALIZED AGE VERSION"),
    (
        "kubeadmcontrolplanes.v1beta1.controlplane.cluster.x-k8s.io",
        "NAME CLUSTER INITIALIZED API SERVER AVAILABLE REPLICAS READY UPDATED UNAVAILABLE AGE VERSION",
    ),
    ("kubeadmcontrolplanetemplates", "NAME CLUSTERCLASS AGE"),
    ("dcsc", "NAME CLUSTER READY ENDPOINT SITE HA AGE"),
    ("dcsm", "NAME CLUSTER MACHINE READY PROVIDERID IP AGE"),
    ("dcsmt", "NAME VMTEMPLATE CPU MEMORY POOL"),
    ("dcspool", "NAME TOTAL FREE DISKS DISKERRORS AGE"),
];

async fn shown(server: &Server<'_>, kind: &str, columns: &str) -> Result<()> {
    let name = format!("shown-{}", kind.split('.').take(2).collect::<Vec<_>>().join("-"));
    let object = match kind.split('.').next().unwrap_or_default() {
        "kubeadmconfigs" => config(&name, json!({"verbosity": 1})),
        "kubeadmconfigtemplates" => config_template(&name, json!({"verbosity": 1})),
        "kcp" | "kubeadmcontrolplanes" => control_plane(&name),
        "kubeadmcontrolplanetemplates" => {
            super::objects::control_plane_template(&name, json!({"remediation": {"maxRetry": 1}}))
        }
        "dcsc" => dcs_cluster(&name),
        "dcsm" => dcs_machine(&name),
        "dcsmt" => dcs_machine_template(&name),
        _ => dcs_pool(&name),
    };
    accepted(server.create(&object).await)?;
    let table = server.kubectl(&["get", kind, &name, "--namespace", NAMESPACE], None).await?;
    let head = table.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(head == columns, "the head is {head:?}");
    Ok(())
}

async fn category(server: &Server<'_>) -> Result<()> {
    let objects = [
        config("listed", json!({"verbosity": 1})),
        config_template("listed", json!({"verbosity": 1})),
        control_plane("listed"),
        super::objects::control_plane_template("listed", json!({"remediation": {"maxRetry": 1}})),
        dcs_cluster("listed"),
        dcs_machine("listed"),
        dcs_machine_template("listed"),
        dcs_pool("listed"),
    ];
    for object in &objects {
        accepted(server.create(object).await)?;
    }
    let names = server.kubectl(&["get", "cluster-api", "--namespace", NAMESPACE, "--output=name"], None).await?;
    for object in &objects {
        let kind = format!("{}.", object["kind"].as_str().unwrap_or_default().to_lowercase());
        ensure!(
            names.lines().any(|line| line.starts_with(&kind) && line.ends_with("/listed")),
            "{kind} is not in {names}"
        );
    }
    Ok(())
}
