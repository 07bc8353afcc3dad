//! Containers that end: those of pods whose restart policy is not `Always`. Nothing runs in them, so that they end well
//! after a moment, unless their command says otherwise: `sleep`, `true`, `false` and `exit` are understood, also in the
//! script of a shell. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::controllers::{earliest, moment, time};

/// How long a container runs that does not say so.
const MOMENT: Duration = Duration::from_secs(1);
/// No container runs for less: its times are whole seconds.
const SHORTEST: SignedDuration = SignedDuration::from_secs(1);
const SHELLS: [&str; 4] = ["sh", "bash", "ash", "dash"];

/// How a container's program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// After how long; none for one that goes on.
    pub after: Option<Duration>,
    /// Exit status.
    pub code: u8,
}

/// What a container runs.
pub fn program(container: &Value) -> Program {
    let words = |field: &str| container[field].as_array().into_iter().flatten().filter_map(Value::as_str);
    let command: Vec<&str> = words("command").chain(words("args")).collect();
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    match command.as_slice() {
        [shell, flag, script, ..] if SHELLS.contains(&base(shell).as_str()) && flag.ends_with('c') => run(script),
        command => run(&command.join(" ")),
    }
}

/// Goes through a script's commands one by one.
fn run(script: &str) -> Program {
    let (mut after, mut code) = (MOMENT, 0);
    for command in script.split([';', '\n', '&', '|']) {
        let mut words = command.split_whitespace();
        let name = words.next().map(|word| word.rsplit('/').next().unwrap_or_default());
        let argument = words.next();
        match name {
            None => {}
            Some("sleep") => match argument.and_then(|text| text.trim_end_matches('s').parse::<u64>().ok()) {
                Some(seconds) => after = after.saturating_add(Duration::from_secs(seconds)),
                None => return Program { after: None, code: 0 },
            },
            Some("exit") => {
                let given = argument.and_then(|text| text.parse().ok());
                return Program { after: Some(after), code: given.unwrap_or(code) };
            }
            Some("false") => code = 1,
            Some(_) => code = 0,
        }
    }
    Program { after: Some(after), code }
}

/// A pod's state once containers have ended.
pub struct Progress {
    /// The change of its status; none while nothing has ended.
    pub status: Option<Value>,
    /// When the next container ends.
    pub next: Option<Timestamp>,
}

/// Lets those containers of a running pod end whose time is over. `scale` is a factor on the time that they run.
pub fn progress(pod: &Value, now: Timestamp, scale: f64) -> Progress {
    let restarts = pod["spec"]["restartPolicy"] == "OnFailure";
    let containers = pod["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice);
    let mut statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    let (mut next, mut is_changed) = (None, false);
    for status in &mut statuses {
        let Some(begun) = moment(&status["state"]["running"]["startedAt"]) else { continue };
        let Some(container) = containers.iter().find(|container| container["name"] == status["name"]) else { continue };
        let Program { after: Some(after), code } = program(container) else { continue };
        let after = SignedDuration::try_from(after.mul_f64(scale)).unwrap_or(SignedDuration::MAX).max(SHORTEST);
        let end = begun.checked_add(after).unwrap_or(Timestamp::MAX);
        if end > now {
            next = earliest(next, Some(end));
            continue;
        }
        is_changed = true;
        let ended = json!({"terminated": {
            "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
            "startedAt": time(begun), "finishedAt": time(now), "containerID": status["containerID"],
        }});
        if code != 0 && restarts {
            status["restartCount"] = json!(status["restartCount"].as_u64().unwrap_or_default() + 1);
            status["lastState"] = ended;
            status["state"] = json!({"running": {"startedAt": time(now)}});
            next = earliest(next, now.checked_add(after).ok());
        } else {
            status["state"] = ended;
            (status["ready"], status["started"]) = (false.into(), false.into());
        }
    }
    Progress { status: is_changed.then(|| ended(pod, &statuses, now)), next }
}

fn ended(pod: &Value, statuses: &[Value], now: Timestamp) -> Value {
    let codes: Option<Vec<u64>> =
        statuses.iter().map(|status| status["state"]["terminated"]["exitCode"].as_u64()).collect();
    let phase = match &codes {
        None => "Running",
        Some(codes) if codes.iter().all(|code| *code == 0) => "Succeeded",
        Some(_) => "Failed",
    };
    let is_ready = statuses.iter().all(|status| status["ready"] == true);
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in &mut conditions {
        let depends = ["Ready", "ContainersReady"].iter().any(|kind| condition["type"] == *kind);
        if depends && !is_ready && condition["status"] != "False" {
            condition["status"] = "False".into();
            condition["reason"] = if phase == "Failed" { "PodFailed" } else { "PodCompleted" }.into();
            condition["lastTransitionTime"] = time(now).into();
        }
        if phase == "Succeeded" && condition["type"] == "Initialized" {
            condition["reason"] = "PodCompleted".into();
        }
        // Its sandbox goes with its last container.
        if codes.is_some() && condition["type"] == "PodReadyToStartContainers" {
            condition["status"] = "False".into();
            condition["lastTransitionTime"] = time(now).into();
        }
    }
    // Fields of states that are over must go: a merge patch keeps what it does not name.
    json!({"phase": phase, "containerStatuses": statuses, "conditions": conditions})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn commands_say_how_they_end() {
        let of = |command: &[&str]| program(&json!({"command": command}));
        let well = Program { after: Some(MOMENT), code: 0 };
        assert_eq!(of(&[]), well);
        assert_eq!(of(&["/app/server", "--flag"]), well);
        assert_eq!(of(&["/bin/false"]), Program { code: 1, ..well });
        assert_eq!(of(&["sh", "-c", "echo hello; exit 3"]), Program { code: 3, ..well });
        assert_eq!(of(&["sleep", "infinity"]).after, None);
        let slept = of(&["/bin/sh", "-ec", "sleep 4\nexit 1"]);
        assert_eq!(slept, Program { after: Some(Duration::from_secs(5)), code: 1 });
    }

    #[test]
    fn a_pod_ends_with_its_containers() {
        let mut pod = json!({
            "spec": {"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b", "command": ["sleep", "9"]}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [
                    {"name": "a", "ready": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
                    {"name": "b", "ready": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
                ],
            },
        });
        let at = |second: u8| format!("2026-01-01T00:00:{second:02}Z").parse::<Timestamp>().unwrap();
        let none = progress(&pod, at(0), 1.0);
        assert!(none.status.is_none());
        assert_eq!(none.next, Some(at(1)));
        let first = progress(&pod, at(2), 1.0);
        assert_eq!(first.next, Some(at(10)));
        let status = first.status.unwrap();
        assert_eq!((&status["phase"], &status["conditions"][0]["status"]), (&json!("Running"), &json!("False")));
        pod["status"] = status;
        let second = progress(&pod, at(10), 1.0).status.unwrap();
        assert_eq!(second["phase"], "Succeeded");
        assert_eq!(second["containerStatuses"][1]["state"]["terminated"]["reason"], "Completed");
    }

    #[test]
    fn failed_containers_start_again_where_the_pod_says_so() {
        let pod = json!({
            "spec": {"restartPolicy": "OnFailure", "containers": [{"name": "a", "command": ["false"]}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "a", "ready": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
            ]},
        });
        let progress = progress(&pod, "2026-01-01T00:00:01Z".parse().unwrap(), 1.0);
        let status = progress.status.unwrap();
        assert_eq!((&status["phase"], &status["containerStatuses"][0]["restartCount"]), (&json!("Running"), &json!(1)));
        assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    }
}
