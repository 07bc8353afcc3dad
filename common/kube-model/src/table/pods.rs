//! Pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    AGE, NAME, Printer,
    cells::{NONE, age, is_deleting, is_true, list, name, number, text, text_or},
    duration, text as text_column, wide,
};

pub(super) const PODS: Printer = Printer {
    columns: &[
        NAME,
        text_column("Ready"),
        text_column("Status"),
        text_column("Restarts"),
        AGE,
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ],
    cells,
};

/// Why the kubelet of a lost node is not asked any more.
const NODE_LOST: &str = "NodeLost";

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let state = State::of(pod);
    let restarts = match state.last_restart {
        Some(last) if state.restarts > 0 => format!("{} ({} ago)", state.restarts, duration::since(last, now)),
        _ => state.restarts.to_string(),
    };
    vec![
        name(pod),
        format!("{}/{}", state.ready, state.total).into(),
        state.reason.into(),
        restarts.into(),
        age(pod, now),
        text_or(pod, "/status/podIPs/0/ip", NONE).into(),
        text_or(pod, "/spec/nodeName", NONE).into(),
        text_or(pod, "/status/nominatedNodeName", NONE).into(),
        readiness_gates(pod).into(),
    ]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.into();
    }
    let open = gates.iter().filter(|gate| is_true(pod, text(gate, "/conditionType"))).count();
    format!("{open}/{}", gates.len())
}

/// What the containers of a pod amount to.
struct State<'a> {
    total: usize,
    ready: usize,
    reason: String,
    restarts: i64,
    /// When a container ended last that was started again.
    last_restart: Option<&'a str>,
}

/// Restarts, added up.
#[derive(Clone, Copy, Default)]
struct Restarts<'a> {
    count: i64,
    last: Option<&'a str>,
}

impl<'a> Restarts<'a> {
    fn add(&mut self, status: &'a Value) {
        self.count += number(status, "/restartCount");
        // Times of RFC 3339 in UTC sort as texts do.
        let ended = Some(text(status, "/lastState/terminated/finishedAt")).filter(|ended| !ended.is_empty());
        self.last = self.last.max(ended);
    }
}

impl<'a> State<'a> {
    fn of(pod: &'a Value) -> Self {
        let sidecars: Vec<_> = list(pod, "/spec/initContainers")
            .iter()
            .filter(|container| text(container, "/restartPolicy") == "Always")
            .map(|container| text(container, "/name"))
            .collect();
        let mut state = Self {
            total: list(pod, "/spec/containers").len() + sidecars.len(),
            ready: 0,
            reason: text_or(pod, "/status/reason", text(pod, "/status/phase")).to_owned(),
            restarts: 0,
            last_restart: None,
        };
        let is_gated = |one: &Value| one["type"] == "PodScheduled" && one["reason"] == "SchedulingGated";
        if list(pod, "/status/conditions").iter().any(is_gated) {
            state.reason = "SchedulingGated".into();
        }
        let (all, of_sidecars, is_initializing) = state.initialize(pod, &sidecars);
        let restarts = if !is_initializing || is_true(pod, "Initialized") { state.run(pod, of_sidecars) } else { all };
        (state.restarts, state.last_restart) = (restarts.count, restarts.last);
        let phase = text(pod, "/status/phase");
        if is_deleting(pod) && text(pod, "/status/reason") == NODE_LOST {
            state.reason = "Unknown".into();
        } else if is_deleting(pod) && !["Failed", "Succeeded"].contains(&phase) {
            state.reason = "Terminating".into();
        }
        state
    }

    /// Looks at the init containers up to the first that is not done: restarts of all and of sidecars, and whether
    /// there was such a one.
    fn initialize(&mut self, pod: &'a Value, sidecars: &[&str]) -> (Restarts<'a>, Restarts<'a>, bool) {
        let (mut all, mut of_sidecars) = (Restarts::default(), Restarts::default());
        for (index, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            all.add(status);
            let is_sidecar = sidecars.contains(&text(status, "/name"));
            if is_sidecar {
                of_sidecars.add(status);
            }
            let ended = status.pointer("/state/terminated").filter(|ended| !ended.is_null());
            if ended.is_some_and(|ended| number(ended, "/exitCode") == 0) {
                continue;
            }
            if is_sidecar && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            let waits_for = text(status, "/state/waiting/reason");
            self.reason = if let Some(ended) = ended {
                format!("Init:{}", how_it_ended(ended))
            } else if !["", "PodInitializing"].contains(&waits_for) {
                format!("Init:{waits_for}")
            } else {
                format!("Init:{index}/{}", list(pod, "/spec/initContainers").len())
            };
            return (all, of_sidecars, true);
        }
        (all, of_sidecars, false)
    }

    /// Looks at the containers, of which the first has the last word.
    fn run(&mut self, pod: &'a Value, of_sidecars: Restarts<'a>) -> Restarts<'a> {
        let mut restarts = of_sidecars;
        let (mut is_running, mut failure) = (false, None);
        for status in list(pod, "/status/containerStatuses").iter().rev() {
            restarts.add(status);
            let waits_for = text(status, "/state/waiting/reason");
            let ended = status.pointer("/state/terminated").filter(|ended| !ended.is_null());
            if !waits_for.is_empty() {
                waits_for.clone_into(&mut self.reason);
            } else if let Some(ended) = ended {
                self.reason = how_it_ended(ended);
                if number(ended, "/exitCode") != 0 {
                    failure = Some(self.reason.clone());
                }
            } else if status["ready"] == true && status.pointer("/state/running").is_some() {
                is_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if is_running && is_true(pod, "Ready") {
                self.reason = "Running".into();
            } else if let Some(failure) = failure {
                self.reason = failure;
            } else if is_running {
                self.reason = "NotReady".into();
            }
        }
        restarts
    }
}

fn how_it_ended(ended: &Value) -> String {
    match (text(ended, "/reason"), number(ended, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(ended, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Marks the row of a pod that runs no more.
pub(super) fn mark_completed(pod: &Value, row: &mut Value) {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return,
    };
    row["conditions"] = json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]);
}
