//! What makes pods, and what guards them.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, NAME, Printer,
    cells::{age, containers, labels, name, number, scalar, selector, selector_or_none},
    duration, number as number_column, text as text_column, wide,
};

pub(super) const DEPLOYMENTS: Printer = Printer {
    columns: &[
        NAME,
        text_column("Ready"),
        text_column("Up-to-date"),
        text_column("Available"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |deployment, now| {
        let mut cells = vec![
            name(deployment),
            ready(deployment),
            number(deployment, "/status/updatedReplicas").into(),
            number(deployment, "/status/availableReplicas").into(),
            age(deployment, now),
        ];
        cells.extend(containers(deployment));
        cells.push(selector(deployment, "/spec/selector").into());
        cells
    },
};

pub(super) const REPLICA_SETS: Printer = Printer {
    columns: &[
        NAME,
        number_column("Desired"),
        number_column("Current"),
        number_column("Ready"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |set, now| {
        let counts = [desired(set), number(set, "/status/replicas"), number(set, "/status/readyReplicas")];
        with_pods(set, &counts, &[], now)
    },
};

pub(super) const DAEMON_SETS: Printer = Printer {
    columns: &[
        NAME,
        number_column("Desired"),
        number_column("Current"),
        number_column("Ready"),
        number_column("Up-to-date"),
        number_column("Available"),
        text_column("Node Selector"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |set, now| {
        let counts = [
            "/status/desiredNumberScheduled",
            "/status/currentNumberScheduled",
            "/status/numberReady",
            "/status/updatedNumberScheduled",
            "/status/numberAvailable",
        ];
        let nodes = labels(set, "/spec/template/spec/nodeSelector");
        with_pods(set, &counts.map(|count| number(set, count)), &[nodes], now)
    },
};

pub(super) const STATEFUL_SETS: Printer = Printer {
    columns: &[NAME, text_column("Ready"), AGE, wide("Containers"), wide("Images")],
    cells: |set, now| {
        let mut cells = vec![name(set), ready(set), age(set, now)];
        cells.extend(containers(set));
        cells
    },
};

pub(super) const JOBS: Printer = Printer {
    columns: &[
        NAME,
        text_column("Status"),
        text_column("Completions"),
        text_column("Duration"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |job, now| {
        let mut cells =
            vec![name(job), standing(job).into(), completions(job).into(), took(job, now).into(), age(job, now)];
        cells.extend(containers(job));
        cells.push(selector(job, "/spec/selector").into());
        cells
    },
};

/// What a job has come to.
fn standing(job: &Value) -> &'static str {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
    let holds = |type_: &str| {
        conditions.into_iter().flatten().any(|condition| condition["type"] == type_ && condition["status"] == "True")
    };
    if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if crate::object::is_deleting(job) {
        "Terminating"
    } else {
        let known = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
        known.into_iter().find(|type_| holds(type_)).unwrap_or("Running")
    }
}

fn completions(job: &Value) -> String {
    let succeeded = number(job, "/status/succeeded");
    let wanted = |field: &str| job["spec"][field].as_i64();
    match (wanted("completions"), wanted("parallelism").unwrap_or_default()) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

/// How long a job has run, or ran.
fn took(job: &Value, now: Timestamp) -> String {
    let moment = |field: &str| job["status"][field].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    moment("startTime").map_or_else(String::new, |start| {
        let end = moment("completionTime").unwrap_or(now);
        duration::human(end.duration_since(start))
    })
}

pub(super) const DISRUPTION_BUDGETS: Printer = Printer {
    columns: &[
        NAME,
        text_column("Min Available"),
        text_column("Max Unavailable"),
        number_column("Allowed Disruptions"),
        AGE,
    ],
    cells: |budget, now| {
        let bound = |pointer| scalar(budget, pointer).unwrap_or_else(|| "N/A".into()).into();
        vec![
            name(budget),
            bound("/spec/minAvailable"),
            bound("/spec/maxUnavailable"),
            number(budget, "/status/disruptionsAllowed").into(),
            age(budget, now),
        ]
    },
};

/// Wanted replicas; one, when nobody says.
fn desired(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

fn ready(object: &Value) -> Value {
    format!("{}/{}", number(object, "/status/readyReplicas"), desired(object)).into()
}

/// Name, counts, more, age, and what is known of the pods.
fn with_pods(object: &Value, counts: &[i64], more: &[String], now: Timestamp) -> Vec<Value> {
    let mut cells = vec![name(object)];
    cells.extend(counts.iter().map(|count| Value::from(*count)));
    cells.extend(more.iter().map(|text| Value::from(text.as_str())));
    cells.push(age(object, now));
    cells.extend(containers(object));
    cells.push(selector_or_none(object, "/spec/selector").into());
    cells
}
