//! Management clusters without cert-manager: `deploy/self-managed` as its users install it, and managers that make their
//! webhook certificates themselves with no other rights than it gives.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use xtask::paths;

use super::server::Server;
use crate::{
    environment::Inputs,
    management::Management,
    manifests,
    process::Process,
    providers::{Installed, Provider},
};

/// How long the managers may take to make their authorities known.
const LIMIT: Duration = Duration::from_secs(60);

/// Installs the overlay over what is there and starts the managers again with its arguments. From then on the API server
/// looks for the webhooks behind Services that nobody serves here, so that no check of theirs may follow.
pub async fn certificates_are_made_known(
    server: &Server<'_>,
    management: &Management,
    inputs: &Inputs,
    managers: &mut [(Installed, Process)],
) -> Result<()> {
    let overlay = paths::workspace().join("deploy/self-managed");
    let objects = manifests::render(&inputs.toolchain, &overlay, &paths::run_dir("api").join("rendered")).await?;
    let is_left = |object: &&Value| object.to_string().contains("cert-manager.io/");
    ensure!(objects.iter().find(is_left).is_none(), "the overlay still asks for cert-manager");
    management.apply(&manifests::list(&objects)).await?;
    for (installed, process) in managers {
        process.stop().await;
        installed.add_arguments(certificate_arguments(&objects, installed.provider())?);
        *process = installed.start()?;
        installed.wait_ready(process).await?;
    }
    let deadline = Instant::now() + LIMIT;
    loop {
        let unknown = without_authority(server).await?;
        match unknown.first() {
            None => return Ok(()),
            Some(first) if Instant::now() > deadline => {
                bail!("{} of our webhooks know no authority after {} s, {first} is one", unknown.len(), LIMIT.as_secs())
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// What the overlay adds to a manager's arguments.
fn certificate_arguments(objects: &[Value], provider: &Provider) -> Result<Vec<String>> {
    let is_its =
        |object: &&Value| object["kind"] == "Deployment" && object["metadata"]["namespace"] == provider.account.0;
    let deployment = objects.iter().find(is_its).with_context(|| format!("no Deployment of {}", provider.name))?;
    let pod = &deployment["spec"]["template"]["spec"];
    ensure!(!pod.to_string().contains("\"secretName\""), "the Deployment of {} still mounts a Secret", provider.name);
    let arguments = pod.pointer("/containers/0/args").and_then(Value::as_array).into_iter().flatten();
    let wanted = ["--webhook-cert-secret=", "--webhook-service-name="];
    let found: Vec<String> = arguments
        .filter_map(Value::as_str)
        .filter(|argument| wanted.iter().any(|prefix| argument.starts_with(prefix)))
        .map(str::to_owned)
        .collect();
    ensure!(found.len() == wanted.len(), "{} is given only {found:?}", provider.name);
    Ok(found)
}

/// Our webhooks and conversions whose clients know no authority.
async fn without_authority(server: &Server<'_>) -> Result<Vec<String>> {
    let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations,customresourcedefinitions";
    let label = "--selector=cluster.x-k8s.io/provider in (bootstrap-kubeadm,control-plane-kubeadm,infrastructure-dcs)";
    let listed = server.kubectl(&["get", kinds, label, "--output=json"], None).await?;
    let mut listed: Value = serde_json::from_str(&listed)?;
    let mut found = 0;
    let mut unknown = Vec::new();
    for object in listed["items"].as_array_mut().into_iter().flatten() {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        for client in manifests::client_configs(object) {
            found += 1;
            ensure!(client["service"].is_object(), "{name} is not reached by a Service: {client}");
            if client["caBundle"].as_str().is_none_or(str::is_empty) {
                unknown.push(name.clone());
            }
        }
    }
    ensure!(found > 5, "only {found} of our webhooks are installed");
    Ok(unknown)
}
