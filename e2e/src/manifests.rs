//! Provider manifests as their users install them, made fit for processes on loopback: no pods, no cert-manager,
//! webhooks at a URL with the environment's CA.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use base64::Engine;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::process;

/// What a provider's rendered manifests come to.
pub struct Components {
    /// Objects to apply, in an order in which they can be applied.
    pub objects: Vec<Value>,
    /// Arguments of the manager container.
    pub arguments: Vec<String>,
}

/// Renders a kustomization and fills `${VAR:=default}` as clusterctl does.
pub async fn render(toolchain: &Path, kustomization: &Path, scratch: &Path) -> Result<Vec<Value>> {
    let mut kustomize = Command::new(toolchain.join("kubectl"));
    kustomize.arg("kustomize").arg(kustomization);
    let raw = process::output(&mut kustomize, None).await?;
    let file = scratch.join("components.yaml");
    fs::write(&file, raw)?;
    let mut generate = Command::new(toolchain.join("clusterctl"));
    generate
        .args(["generate", "yaml", "--from"])
        .arg(&file)
        .env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true")
        .env("XDG_CONFIG_HOME", scratch)
        .env("HOME", scratch);
    let yaml = process::output(&mut generate, None).await?;
    documents(&yaml).with_context(|| format!("manifests of {}", kustomization.display()))
}

/// The documents of a YAML stream, empty ones left out.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Takes rendered manifests apart: what is applied, and how the manager is started.
pub fn for_processes(mut objects: Vec<Value>, webhook_port: u16, ca: &Path) -> Result<Components> {
    let ca = base64::engine::general_purpose::STANDARD.encode(fs::read(ca)?);
    let deployment = objects.iter().find(|object| kind(object) == "Deployment");
    let container = deployment.and_then(|deployment| deployment.pointer("/spec/template/spec/containers/0/args"));
    let Some(arguments) = container.and_then(Value::as_array) else {
        bail!("the manifests hold no Deployment with arguments");
    };
    let replaced =
        ["--diagnostics-address", "--insecure-diagnostics", "--leader-elect", "--webhook-", "--adapter-socket"];
    let arguments = arguments
        .iter()
        .filter_map(Value::as_str)
        .filter(|argument| !replaced.iter().any(|prefix| argument.starts_with(prefix)))
        .map(str::to_owned)
        .collect();
    objects.retain(|object| !["Deployment", "Service", "Certificate", "Issuer"].contains(&kind(object)));
    for object in &mut objects {
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.remove("cert-manager.io/inject-ca-from");
        }
        for client in client_configs(object) {
            let path = client.pointer("/service/path").and_then(Value::as_str).unwrap_or("/");
            *client = json!({"url": format!("https://127.0.0.1:{webhook_port}{path}"), "caBundle": ca});
        }
    }
    objects.sort_by_key(|object| match kind(object) {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ServiceAccount" | "ClusterRole" | "Role" => 2,
        "ClusterRoleBinding" | "RoleBinding" => 3,
        _ => 9,
    });
    Ok(Components { objects, arguments })
}

/// Where the API server finds the webhooks of a configuration, or the conversion of a kind.
pub fn client_configs(object: &mut Value) -> Vec<&mut Value> {
    match kind(object) {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            let webhooks = object.get_mut("webhooks").and_then(Value::as_array_mut);
            webhooks.into_iter().flatten().filter_map(|webhook| webhook.get_mut("clientConfig")).collect()
        }
        "CustomResourceDefinition" => object.pointer_mut("/spec/conversion/webhook/clientConfig").into_iter().collect(),
        _ => Vec::new(),
    }
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// A `List` of these objects, as one JSON text for kubectl.
pub fn list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}
