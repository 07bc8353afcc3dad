//! Starts units. One-shots run to their end; of the image's own services who plays them sees that they are started.

use std::time::Duration;

use super::{BootFailure, failure};
use crate::guest::memory::{
    machine::Machine,
    shell::{self, Commands, Job, Limits},
    systemd::{
        self, Start, State,
        start::{MainCommand, command_line, environment, main_command, make_directories, unmet},
        unit::{Exec, MountUnit, Unit},
    },
};

/// The unit whose command line is asked for.
pub(super) const KUBELET: &str = "kubelet.service";
/// A service of a document that is no one-shot goes on by itself; what it does at its start has this long.
const SERVICE_LIMITS: Limits = Limits { steps: 100_000, time: Duration::from_secs(5) };

/// Starts all units of a target. A unit that fails stops those that require it and no others; the first failure is
/// returned when all had their turn.
pub(super) async fn start(
    target: &str,
    limits: Limits,
    machine: &mut Machine,
    commands: &mut dyn Commands,
) -> Result<(), BootFailure> {
    let plan = systemd::plan(&machine.root, target).or_else(|error| failure("systemd", error))?;
    let mut first = None;
    for Start { unit, requires } in plan {
        let missing = requires.iter().find(|name| machine.services.state(name) == Some(State::Failed));
        let result = match missing {
            Some(name) => Err(format!("Dependency failed: {name}")),
            None => one(&unit, limits, machine, commands).await,
        };
        if let Err(message) = result {
            machine.services.set(&unit.name, State::Failed);
            machine.say(&format!("[FAILED] Failed to start {}: {message}", title(&unit)));
            first.get_or_insert(BootFailure { step: unit.name.clone(), message });
        }
    }
    first.map_or(Ok(()), Err)
}

fn title(unit: &Unit) -> String {
    if unit.description.is_empty() { unit.name.clone() } else { format!("{} - {}", unit.name, unit.description) }
}

async fn one(unit: &Unit, limits: Limits, machine: &mut Machine, commands: &mut dyn Commands) -> Result<(), String> {
    // kubeadm, or another unit, may have started it meanwhile.
    if machine.services.is_active(&unit.name) {
        return Ok(());
    }
    if let Some(condition) = unmet(&unit.conditions, machine) {
        let negation = if condition.negated { "!" } else { "" };
        machine.say(&format!("{}: skipped, Condition{}={negation}{}", unit.name, condition.kind, condition.value));
        return Ok(());
    }
    if let Some(assertion) = unmet(&unit.assertions, machine) {
        return Err(format!("Assertion failed: Assert{}={}", assertion.kind, assertion.value));
    }
    if let Some(mount) = &unit.mount {
        mount_unit(mount, machine)?;
        machine.services.set(&unit.name, State::Active);
        machine.say(&format!("[  OK  ] Mounted {}", title(unit)));
        return Ok(());
    }
    if !unit.name.ends_with(".service") || systemd::is_own(&machine.root, &unit.name) {
        machine.services.set(&unit.name, State::Active);
        if unit.name.ends_with(".service") {
            machine.say(&format!("[  OK  ] Started {}", title(unit)));
        }
        return Ok(());
    }
    let oneshot = unit.service.kind == "oneshot";
    machine.say(&format!("         Starting {}...", title(unit)));
    let time = unit.service.timeout_start.map_or(limits.time, |seconds| limits.time.min(Duration::from_secs(seconds)));
    let limits = if oneshot { Limits { time, ..limits } } else { SERVICE_LIMITS };
    let service = &unit.service;
    make_directories(service, &mut machine.root)?;
    for exec in service.exec_start_pre.iter().chain(&service.exec_start).chain(&service.exec_start_post) {
        execute(unit, exec, limits, oneshot, machine, commands).await?;
    }
    let stays = !oneshot || unit.service.remain_after_exit;
    machine.services.set(&unit.name, if stays { State::Active } else { State::Done });
    machine.say(&format!("[  OK  ] {} {}", if oneshot { "Finished" } else { "Started" }, title(unit)));
    Ok(())
}

async fn execute(
    unit: &Unit,
    exec: &Exec,
    limits: Limits,
    must_end: bool,
    machine: &mut Machine,
    commands: &mut dyn Commands,
) -> Result<(), String> {
    let env = environment(&unit.service, &machine.root, &shell::base_environment())?;
    let line = command_line(exec, unit, &machine.hostname, &env);
    let directory = unit.service.directory.clone().unwrap_or_else(|| "/".to_owned());
    let job = Job { argv: &line.argv, env: &env, directory: &directory, tag: &unit.name };
    let ended = shell::run(job, limits, machine, commands).await;
    // What goes on for ever is what a service should do.
    let runs_on = !must_end && ended.stopped.is_some();
    if ended.is_success() || line.may_fail || runs_on {
        return Ok(());
    }
    if ended.stopped.is_none() && unit.service.success.contains(&ended.code) {
        return Ok(());
    }
    Err(ended.reason())
}

fn mount_unit(mount: &MountUnit, machine: &mut Machine) -> Result<(), String> {
    if machine.root.mounted_at(&mount.place).is_some() {
        return Ok(());
    }
    let made = machine.root.make_directories(&mount.place);
    made.map_err(|error| format!("{}: {error}", mount.place))?;
    let kind = Some(mount.kind.as_str()).filter(|kind| !kind.is_empty());
    shell::mount_one(machine, &mount.what, &mount.place, kind, &mount.options)
}

/// How kubelet's unit starts it now.
pub(super) fn kubelet(machine: &Machine) -> Result<MainCommand, BootFailure> {
    main_command(&machine.root, KUBELET, &machine.hostname).or_else(|reason| failure(KUBELET, reason))
}
