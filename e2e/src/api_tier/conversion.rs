//! Objects read and written at both versions through the API server.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    Check, check,
    objects::{
        BOOTSTRAP, BOOTSTRAP_OLD, CONTROL_PLANE, CONTROL_PLANE_OLD, config, config_template, control_plane_template,
        object, old_control_plane, with,
    },
    server::{Server, accepted, same},
};

const CONVERSION_DATA: &str = "cluster.x-k8s.io/conversion-data";

pub fn checks<'a>(server: &'a Server<'a>) -> Vec<Check<'a>> {
    vec![
        check("a v1beta1 control plane is read at v1beta2", old_is_read(server)),
        check("a v1beta1 client keeps what it cannot say", kept_by_old_client(server)),
        check("a v1beta1 client takes a limit out", taken_out_by_old_client(server)),
        check("templates go to v1beta1 and back", templates(server)),
        check("a list mixes no versions", listed(server)),
    ]
}

async fn old_is_read(server: &Server<'_>) -> Result<()> {
    accepted(server.create(&old_control_plane("converted")).await)?;
    let new = accepted(server.get(CONTROL_PLANE, "KubeadmControlPlane", "converted").await)?;
    let machines = json!({
        "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DCSMachineTemplate", "name": "cp"},
        "deletion": {"nodeDrainTimeoutSeconds": 60, "nodeDeletionTimeoutSeconds": 300},
    });
    same("machineTemplate.spec", &new["spec"]["machineTemplate"]["spec"], &machines)?;
    let config = &new["spec"]["kubeadmConfigSpec"];
    let flags = json!([{"name": "audit-log-mode", "value": "batch"}, {"name": "profiling", "value": "false"}]);
    same("flags", &config["clusterConfiguration"]["apiServer"]["extraArgs"], &flags)?;
    for section in ["initConfiguration", "joinConfiguration"] {
        let limit = &config[section]["timeouts"]["controlPlaneComponentHealthCheckSeconds"];
        same(section, limit, &json!(240))?;
    }
    same("maxSurge", &new["spec"]["rollout"]["strategy"]["rollingUpdate"]["maxSurge"], &json!(0))?;
    // What was said in v1beta1 is said there still.
    let old = accepted(server.get(CONTROL_PLANE_OLD, "KubeadmControlPlane", "converted").await)?;
    let server = &old["spec"]["kubeadmConfigSpec"]["clusterConfiguration"]["apiServer"];
    same("timeoutForControlPlane", &server["timeoutForControlPlane"], &json!("4m0s"))?;
    same("nodeDeletionTimeout", &old["spec"]["machineTemplate"]["nodeDeletionTimeout"], &json!("5m0s"))
}

/// A `KubeadmConfig` that says what v1beta1 cannot, and what it says elsewhere.
fn modern(name: &str) -> Value {
    config(
        name,
        json!({
            "files": [{"path": "/a", "append": false, "content": "x"}],
            "initConfiguration": {"timeouts": {"discoverySeconds": 7, "controlPlaneComponentHealthCheckSeconds": 9}},
            "joinConfiguration": {
                "controlPlane": {}, "nodeRegistration": {"taints": []},
                "timeouts": {"etcdAPICallSeconds": 3, "controlPlaneComponentHealthCheckSeconds": 9},
            },
        }),
    )
}

async fn kept_by_old_client(server: &Server<'_>) -> Result<()> {
    let new = accepted(server.create(&modern("kept")).await)?;
    let old = accepted(server.get(BOOTSTRAP_OLD, "KubeadmConfig", "kept").await)?;
    ensure!(old["metadata"]["annotations"][CONVERSION_DATA].is_string(), "no {CONVERSION_DATA}");
    same(
        "timeoutForControlPlane",
        &old["spec"]["clusterConfiguration"]["apiServer"]["timeoutForControlPlane"],
        &json!("9s"),
    )?;
    let changed = accepted(server.replace(&with(old, "/spec/verbosity", json!(5))).await)?;
    same("verbosity", &changed["spec"]["verbosity"], &json!(5))?;
    let back = accepted(server.get(BOOTSTRAP, "KubeadmConfig", "kept").await)?;
    same("spec", &back["spec"], &with(new, "/spec/verbosity", json!(5))["spec"])?;
    ensure!(back["metadata"].get("annotations").is_none(), "{CONVERSION_DATA} is stored");
    Ok(())
}

async fn taken_out_by_old_client(server: &Server<'_>) -> Result<()> {
    accepted(server.create(&modern("taken")).await)?;
    let old = accepted(server.get(BOOTSTRAP_OLD, "KubeadmConfig", "taken").await)?;
    accepted(server.replace(&with(old, "/spec/clusterConfiguration", Value::Null)).await)?;
    let back = accepted(server.get(BOOTSTRAP, "KubeadmConfig", "taken").await)?;
    same("init", &back["spec"]["initConfiguration"]["timeouts"], &json!({"discoverySeconds": 7}))?;
    same("join", &back["spec"]["joinConfiguration"]["timeouts"], &json!({"etcdAPICallSeconds": 3}))
}

async fn templates(server: &Server<'_>) -> Result<()> {
    let cases = [
        (config_template("there-and-back", modern("")["spec"].clone()), BOOTSTRAP, BOOTSTRAP_OLD),
        (
            control_plane_template(
                "there-and-back",
                json!({
                    // v1beta1 fills the strategy in; said, it is the same in both.
                    "rollout": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
                    "kubeadmConfigSpec": {"format": "ignition"}, "remediation": {"maxRetry": 2, "retryPeriodSeconds": 0},
                    "machineTemplate": {"spec": {"deletion": {"nodeDrainTimeoutSeconds": 90}}},
                }),
            ),
            CONTROL_PLANE,
            CONTROL_PLANE_OLD,
        ),
    ];
    for (template, new_version, old_version) in cases {
        let kind = template["kind"].as_str().unwrap_or_default();
        let new = accepted(server.create(&template).await)?;
        let old = accepted(server.get(old_version, kind, "there-and-back").await)?;
        accepted(server.replace(&with(old, "/metadata/labels", json!({"a": "b"}))).await)?;
        let back = accepted(server.get(new_version, kind, "there-and-back").await)?;
        same("spec", &back["spec"], &new["spec"])?;
        same("labels", &back["metadata"]["labels"], &json!({"a": "b"}))?;
    }
    // An empty v1beta1 template is one, and comes back as metadata alone.
    let empty =
        object(BOOTSTRAP_OLD, "KubeadmConfigTemplate", "empty", json!({"template": {"metadata": {}, "spec": {}}}));
    accepted(server.create(&empty).await)?;
    let new = accepted(server.get(BOOTSTRAP, "KubeadmConfigTemplate", "empty").await)?;
    ensure!(new.get("spec").is_none(), "spec is {}", new["spec"]);
    Ok(())
}

async fn listed(server: &Server<'_>) -> Result<()> {
    accepted(server.create(&modern("listed-new")).await)?;
    accepted(server.create(&object(BOOTSTRAP_OLD, "KubeadmConfig", "listed-old", json!({"verbosity": 1}))).await)?;
    for version in ["v1beta1", "v1beta2"] {
        let kind = format!("kubeadmconfigs.{version}.bootstrap.cluster.x-k8s.io");
        let arguments = ["get", &kind, "--namespace", super::objects::NAMESPACE, "--output=json"];
        let list: Value = serde_json::from_str(&server.kubectl(&arguments, None).await?)?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(items.len() >= 2, "{} items", items.len());
        for item in items {
            same("apiVersion", &item["apiVersion"], &json!(format!("bootstrap.cluster.x-k8s.io/{version}")))?;
        }
    }
    Ok(())
}
