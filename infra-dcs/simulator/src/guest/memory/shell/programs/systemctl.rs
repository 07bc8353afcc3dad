//! `systemctl`: what scripts of a first boot ask of systemd. Services do not run here; who plays them sees in
//! [`Services`](crate::guest::memory::systemd::Services) which were started.

use super::{Context, Exit};
use crate::guest::memory::{
    machine::Machine,
    systemd::{self, State},
};

pub(super) fn systemctl(context: &mut Context<'_>) -> Exit {
    let quiet = context.args.iter().any(|arg| arg == "-q" || arg == "--quiet");
    let now = context.args.iter().any(|arg| arg == "--now");
    let known = [
        "-q",
        "--quiet",
        "--now",
        "--no-block",
        "--system",
        "--force",
        "-f",
        "--no-pager",
        "--wait",
        "--runtime",
        "--no-reload",
    ];
    let mut words = Vec::new();
    let mut property = None;
    let mut args = context.args.iter();
    while let Some(arg) = args.next() {
        if arg == "-p" || arg == "--property" {
            property = args.next().cloned();
        } else if let Some(name) = arg.strip_prefix("--property=") {
            property = Some(name.to_owned());
        } else if arg.starts_with('-') && !known.contains(&arg.as_str()) && !arg.starts_with("--value") && arg != "-n" {
            return context.fail(1, format!("unrecognized option '{arg}'"));
        } else if !arg.starts_with('-') {
            words.push(arg.clone());
        }
    }
    // `service NAME VERB` is the other way round.
    if context.name == "service" && words.len() == 2 {
        words.swap(0, 1);
    }
    let Some((verb, names)) = words.split_first() else {
        return context.fail(1, "this image's systemctl wants a verb");
    };
    if verb == "daemon-reload" || verb == "daemon-reexec" || verb == "reset-failed" {
        return Exit::default();
    }
    if verb == "is-system-running" {
        return Exit::ok("running\n");
    }
    if verb == "preset-all" {
        return match systemd::preset_all(&mut context.machine.root) {
            Ok(_) => Exit::default(),
            Err(error) => Exit::fail(1, error.to_string()),
        };
    }
    if names.is_empty() {
        return context.fail(1, "Too few arguments.");
    }
    let mut exit = Exit::default();
    for name in names {
        let name = systemd::full_name(name);
        one(context, verb, &name, (quiet, now, property.as_deref()), &mut exit);
    }
    exit
}

fn one(
    context: &mut Context<'_>,
    verb: &str,
    name: &str,
    (quiet, now, property): (bool, bool, Option<&str>),
    exit: &mut Exit,
) {
    let machine = &mut *context.machine;
    let exists = systemd::find(&machine.root, name).is_some();
    let masked = systemd::is_masked(&machine.root, name);
    match verb {
        "start" | "restart" | "reload-or-restart" | "try-restart" | "reload" => {
            let running = machine.services.is_active(name);
            if masked {
                return exit.complain(1, format!("Failed to {verb} {name}: Unit {name} is masked."));
            }
            if !exists {
                return exit.complain(5, format!("Failed to {verb} {name}: Unit {name} not found."));
            }
            if (verb == "start" && running) || (verb == "try-restart" && !running) {
                return;
            }
            if let Err(error) = systemd::load(&machine.root, name) {
                return exit.complain(1, format!("Failed to {verb} {name}: {error}"));
            }
            start(machine, name);
        }
        "stop" | "kill" => {
            if !exists && !masked {
                return exit.complain(5, format!("Failed to stop {name}: Unit {name} not loaded."));
            }
            machine.services.stop(name);
        }
        "enable" | "reenable" | "preset" => {
            if let Err(error) = systemd::enable(&mut machine.root, name) {
                return exit.complain(1, format!("Failed to enable unit: {}", error.reason));
            }
            if now {
                start(machine, name);
            }
        }
        "disable" => {
            if !exists {
                return exit.complain(1, format!("Failed to disable unit: Unit file {name} does not exist."));
            }
            systemd::disable(&mut machine.root, name);
            if now {
                machine.services.stop(name);
            }
        }
        "mask" => {
            let path = format!("/etc/systemd/system/{name}");
            if machine.root.is_file(&path) {
                return exit.complain(1, format!("Failed to mask unit: File '{path}' already exists."));
            }
            let done = if masked { Ok(()) } else { machine.root.symlink("/dev/null", &path) };
            if let Err(error) = done {
                return exit.complain(1, format!("Failed to mask unit: {error}"));
            }
            if now {
                machine.services.stop(name);
            }
        }
        "unmask" => {
            let path = format!("/etc/systemd/system/{name}");
            if masked && let Err(error) = machine.root.remove_file(&path) {
                exit.complain(1, format!("Failed to unmask unit: {error}"));
            }
        }
        _ => ask(machine, verb, name, (quiet, property), exit),
    }
}

/// The verbs that only ask.
fn ask(machine: &Machine, verb: &str, name: &str, (quiet, property): (bool, Option<&str>), exit: &mut Exit) {
    let exists = systemd::find(&machine.root, name).is_some();
    let masked = systemd::is_masked(&machine.root, name);
    let say = |exit: &mut Exit, text: &str| {
        if !quiet {
            exit.print(format!("{text}\n"));
        }
    };
    match verb {
        "is-active" | "status" => match machine.services.state(name) {
            Some(State::Active) => say(exit, "active"),
            Some(State::Failed) => {
                exit.code = 3;
                say(exit, "failed");
            }
            _ if !exists && verb == "status" => exit.complain(4, format!("Unit {name} could not be found.")),
            _ => {
                exit.code = 3;
                say(exit, "inactive");
            }
        },
        "is-failed" => {
            let failed = machine.services.state(name) == Some(State::Failed);
            exit.code = u8::from(!failed);
            say(exit, if failed { "failed" } else { "inactive" });
        }
        "is-enabled" => {
            let links = [
                "multi-user.target",
                "default.target",
                "local-fs.target",
                "network-online.target",
                "graphical.target",
                "sysinit.target",
            ];
            let enabled =
                links.iter().any(|target| systemd::wanted_by(&machine.root, target).iter().any(|unit| unit == name));
            match (exists, masked, enabled) {
                (false, ..) => {
                    exit.complain(4, format!("Failed to get unit file state for {name}: No such file or directory"));
                }
                (_, true, _) => {
                    exit.code = 1;
                    say(exit, "masked");
                }
                (_, _, true) => say(exit, "enabled"),
                _ => {
                    exit.code = 1;
                    say(exit, "disabled");
                }
            }
        }
        "show" => {
            let state = if machine.services.is_active(name) { "active" } else { "inactive" };
            let load = if masked {
                "masked"
            } else if exists {
                "loaded"
            } else {
                "not-found"
            };
            for (key, value) in [("ActiveState", state), ("LoadState", load)] {
                if property.is_none_or(|property| property.split(',').any(|wanted| wanted == key)) {
                    exit.print(format!("{key}={value}\n"));
                }
            }
        }
        "cat" => {
            let path = systemd::find(&machine.root, name).unwrap_or_default();
            match machine.root.read_text(&path) {
                Ok(text) if exists => exit.print(format!("# {path}\n{text}")),
                _ => exit.complain(1, format!("No files found for {name}.")),
            }
        }
        _ => exit.complain(1, format!("Unknown command verb {verb}.")),
    }
}

/// The image's own services are played by others; what a document brought is run by the shell.
fn start(machine: &mut Machine, name: &str) {
    if name.ends_with(".service") && !systemd::is_own(&machine.root, name) {
        machine.services.request(name);
    } else {
        machine.services.set(name, State::Active);
    }
}
