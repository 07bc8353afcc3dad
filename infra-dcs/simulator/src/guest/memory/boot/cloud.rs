//! cloud-init's part of a boot.

use serde_json::{Value, json};

use super::{BootFailure, failure, medium::Seed};
use crate::guest::memory::{
    document::{
        cloud_config::{self, CloudConfig, Stage},
        network,
    },
    machine::Machine,
    network::{Profile, keyfile},
    root::Owner,
    shell::{self, Commands, Ended, Job, Limits},
};

/// The instance that the machine was last.
const INSTANCE_ID: &str = "/var/lib/cloud/data/instance-id";
const SCRIPT: &str = "/var/lib/cloud/instance/scripts/runcmd";
const BOOT_SCRIPT: &str = "/run/cloud-init/bootcmd";
/// Left when all is done.
const FINISHED: &str = "/var/lib/cloud/instance/boot-finished";

/// What a boot knows of cloud-init's instance.
pub(super) struct Instance {
    config: CloudConfig,
    /// Whether it boots for the first time.
    is_new: bool,
}

/// Reads the source; the network's profiles and the host name of a new instance are written.
pub(super) fn detect(seed: Seed, machine: &mut Machine) -> Result<Instance, BootFailure> {
    let step = "cloud-init";
    let meta = metadata(&seed).or_else(|reason| failure(step, reason))?;
    let text = |name: &str| meta.get(name).and_then(Value::as_str).map(str::to_owned);
    let (id, hostname) = if seed.openstack { ("uuid", "hostname") } else { ("instance-id", "local-hostname") };
    let Some(id) = text(id).filter(|id| !id.is_empty()) else {
        return failure(step, format!("the metadata has no {id:?}"));
    };
    let hostname = text(hostname);
    let facts = facts(&meta, &id, hostname.as_deref());
    let config = match &seed.user_data {
        Some(bytes) => cloud_config::parse(bytes, &facts).or_else(|error| failure(step, error))?,
        None => CloudConfig::default(),
    };
    let before = machine.root.read_text(INSTANCE_ID).unwrap_or_default();
    let is_new = before.trim() != id;
    let source = if seed.openstack { "DataSourceConfigDrive" } else { "DataSourceNoCloud" };
    machine.say(&format!("cloud-init: {source}, instance {id}{}", if is_new { ", first boot" } else { "" }));
    if !is_new {
        return Ok(Instance { config, is_new });
    }
    let profiles = profiles(&seed).or_else(|error| failure(step, error))?;
    write_profiles(&profiles, machine).or_else(|reason| failure(step, reason))?;
    let name = config.hostname.clone().or(hostname).filter(|_| !config.preserve_hostname);
    if let Some(name) = name {
        // What stands after the first dot is the domain.
        let short = name.split('.').next().unwrap_or_default();
        let written = machine.root.write("/etc/hostname", format!("{short}\n").into_bytes());
        written.or_else(|error| failure(step, format!("/etc/hostname: {error}")))?;
    }
    let noted = machine.root.put(INSTANCE_ID, format!("{id}\n").into_bytes(), 0o644, Owner::default());
    noted.or_else(|error| failure(step, format!("{INSTANCE_ID}: {error}")))?;
    Ok(Instance { config, is_new })
}

fn metadata(seed: &Seed) -> Result<Value, String> {
    let meta: Value = if seed.openstack {
        serde_json::from_slice(&seed.meta_data).map_err(|_| "meta_data.json is not JSON".to_owned())?
    } else {
        let text = String::from_utf8_lossy(&seed.meta_data);
        cloud_config::yaml(&text).map_err(|error| format!("meta-data: {error}"))?
    };
    if meta.is_object() { Ok(meta) } else { Err("the metadata is no map".to_owned()) }
}

/// What a template may ask for: `ds.meta_data` with names in which `-` is `_` as well, and the standardized `v1`.
fn facts(meta: &Value, id: &str, hostname: Option<&str>) -> Value {
    let mut known = meta.as_object().cloned().unwrap_or_default();
    known.insert("instance-id".to_owned(), json!(id));
    known.insert("local-hostname".to_owned(), json!(hostname));
    let renamed: Vec<_> = known
        .iter()
        .filter(|(name, _)| name.contains('-'))
        .map(|(name, value)| (name.replace('-', "_"), value.clone()))
        .collect();
    known.extend(renamed);
    let v1 = json!({
        "instance_id": id, "local_hostname": hostname, "cloud_name": "openstack", "platform": "config-disk",
        "region": known.get("region"), "availability_zone": known.get("availability_zone"),
    });
    json!({"ds": {"meta_data": known}, "v1": v1, "instance_id": id, "local_hostname": hostname})
}

fn profiles(seed: &Seed) -> Result<Vec<Profile>, crate::guest::memory::document::DocumentError> {
    match &seed.network {
        None => Ok(Vec::new()),
        Some(bytes) if seed.openstack => network::openstack(bytes),
        Some(bytes) => network::cloud_init(&cloud_config::yaml(&String::from_utf8_lossy(bytes))?),
    }
}

fn write_profiles(profiles: &[Profile], machine: &mut Machine) -> Result<(), String> {
    for profile in profiles {
        let name = profile.interface.clone().or_else(|| {
            let nics = machine.network.nics.iter();
            nics.clone().find(|nic| profile.mac.as_ref() == Some(&nic.mac)).map(|nic| nic.name.clone())
        });
        let name = name.unwrap_or_else(|| profile.mac.clone().unwrap_or_default().replace(':', ""));
        let path = format!("{}/cloud-init-{name}.nmconnection", keyfile::FOLDER);
        let text = keyfile::render(profile, &name);
        let written = machine.root.put(&path, text.into_bytes(), 0o600, Owner::default());
        written.map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

/// Commands of each boot, and what is configured once.
pub(super) async fn configure(
    instance: &Instance,
    limits: Limits,
    machine: &mut Machine,
    commands: &mut dyn Commands,
) -> Result<(), BootFailure> {
    script("bootcmd", BOOT_SCRIPT, &instance.config.boot_commands, limits, machine, commands).await?;
    if instance.is_new {
        cloud_config::apply_stage(&instance.config, Stage::Configure, machine)
            .or_else(|error| failure("cloud-init", error))?;
    }
    Ok(())
}

/// What comes last, once.
pub(super) async fn finish(
    instance: &Instance,
    limits: Limits,
    machine: &mut Machine,
    commands: &mut dyn Commands,
) -> Result<(), BootFailure> {
    if instance.is_new {
        cloud_config::apply_stage(&instance.config, Stage::Deferred, machine)
            .or_else(|error| failure("cloud-init", error))?;
        script("runcmd", SCRIPT, &instance.config.run_commands, limits, machine, commands).await?;
    }
    let written = machine.root.put(FINISHED, b"done\n".as_slice(), 0o644, Owner::default());
    written.or_else(|error| failure("cloud-init", format!("{FINISHED}: {error}")))?;
    machine.say("cloud-init: finished");
    Ok(())
}

/// Runs commands as one script of `sh`, as cloud-init does. It goes on after a failure; the machine fails at its end.
async fn script(
    section: &str,
    path: &str,
    items: &[String],
    limits: Limits,
    machine: &mut Machine,
    commands: &mut dyn Commands,
) -> Result<(), BootFailure> {
    if items.is_empty() {
        return Ok(());
    }
    let mut text = "#!/bin/sh\n".to_owned();
    let mut first_lines = Vec::new();
    for item in items {
        first_lines.push(text.lines().count() + 1);
        text.push_str(item);
        text.push('\n');
    }
    let written = machine.root.put(path, text.into_bytes(), 0o700, Owner::default());
    written.or_else(|error| failure(section, format!("{path}: {error}")))?;
    machine.say(&format!("cloud-init: running {section} ({} commands)", items.len()));
    let argv = [path.to_owned()];
    let job = Job { argv: &argv, env: &shell::base_environment(), directory: "/", tag: "" };
    let ended = shell::run(job, limits, machine, commands).await;
    let Ended { first_failure, .. } = &ended;
    match first_failure {
        Some((line, status)) if ended.stopped.is_none() => {
            let index = first_lines.iter().rposition(|first| first <= line).unwrap_or_default();
            let said = if ended.last_error.is_empty() { String::new() } else { format!(": {}", ended.last_error) };
            failure(format!("{section}[{index}]"), format!("exit status {status}{said}"))
        }
        _ if ended.is_success() => Ok(()),
        _ => failure(section, ended.reason()),
    }
}
