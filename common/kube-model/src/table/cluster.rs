//! Nodes, namespaces, and what is kept in them beside workloads.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    AGE, NAME, Printer,
    cells::{NONE, age, joined, list, name, number, size, text, text_or},
    column, duration, text as text_column, wide,
};

pub(super) const NODES: Printer = Printer {
    columns: &[
        NAME,
        text_column("Status"),
        text_column("Roles"),
        AGE,
        text_column("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ],
    cells: node,
};

pub(super) const NAMESPACES: Printer = Printer {
    columns: &[NAME, text_column("Status"), AGE],
    cells: |namespace, now| vec![name(namespace), text(namespace, "/status/phase").into(), age(namespace, now)],
};

pub(super) const EVENTS: Printer = Printer {
    columns: &[
        text_column("Last Seen"),
        text_column("Type"),
        text_column("Reason"),
        text_column("Object"),
        wide("Subobject"),
        wide("Source"),
        text_column("Message"),
        wide("First Seen"),
        wide("Count"),
        column("Name", "string", "name", 1),
    ],
    cells: event,
};

pub(super) const SECRETS: Printer = Printer {
    columns: &[NAME, text_column("Type"), text_column("Data"), AGE],
    cells: |secret, now| {
        vec![name(secret), text(secret, "/type").into(), size(secret, "/data").into(), age(secret, now)]
    },
};

pub(super) const CONFIG_MAPS: Printer = Printer {
    columns: &[NAME, text_column("Data"), AGE],
    cells: |map, now| vec![name(map), (size(map, "/data") + size(map, "/binaryData")).into(), age(map, now)],
};

pub(super) const SERVICE_ACCOUNTS: Printer =
    Printer { columns: &[NAME, AGE], cells: |account, now| vec![name(account), age(account, now)] };

pub(super) const LEASES: Printer = Printer {
    columns: &[NAME, text_column("Holder"), AGE],
    cells: |lease, now| vec![name(lease), text(lease, "/spec/holderIdentity").into(), age(lease, now)],
};

pub(super) const BINDINGS: Printer = Printer {
    columns: &[NAME, text_column("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")],
    cells: |binding, now| {
        let role = format!("{}/{}", text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
        let subjects = |kind: &str| {
            let subjects = list(binding, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
            let name = |subject| match kind {
                "ServiceAccount" => format!("{}/{}", text(subject, "/namespace"), text(subject, "/name")),
                _ => text(subject, "/name").to_owned(),
            };
            Value::from(subjects.map(name).collect::<Vec<_>>().join(", "))
        };
        let mut cells = vec![name(binding), role.into(), age(binding, now)];
        cells.extend(["User", "Group", "ServiceAccount"].map(subjects));
        cells
    },
};

pub(super) const SIGNING_REQUESTS: Printer = Printer {
    columns: &[
        NAME,
        AGE,
        text_column("SignerName"),
        text_column("Requestor"),
        text_column("RequestedDuration"),
        text_column("Condition"),
    ],
    cells: |request, now| {
        let asked = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
        let asked = asked.map_or_else(|| NONE.to_owned(), |asked| duration::human(SignedDuration::from_secs(asked)));
        vec![
            name(request),
            age(request, now),
            text_or(request, "/spec/signerName", NONE).into(),
            text(request, "/spec/username").into(),
            asked.into(),
            signing_state(request).into(),
        ]
    },
};

fn signing_state(request: &Value) -> String {
    let has = |kind: &str| list(request, "/status/conditions").iter().any(|condition| condition["type"] == kind);
    let mut states = vec![match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }];
    states.extend(has("Failed").then_some("Failed"));
    states.extend((!text(request, "/status/certificate").is_empty()).then_some("Issued"));
    joined(states)
}

fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(node, "/status/conditions").iter().rfind(|condition| condition["type"] == "Ready");
    let status = match ready {
        Some(ready) if ready["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let is_cordoned = node.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or_default();
    let address = |kind: &str| {
        let address = list(node, "/status/addresses").iter().find(|address| address["type"] == kind);
        Value::from(address.map_or(NONE, |address| text(address, "/address")))
    };
    let known = |field: &str| text_or(node, field, duration::UNKNOWN).to_owned();
    let mut kernel = known("/status/nodeInfo/kernelVersion");
    let architecture = text(node, "/status/nodeInfo/architecture");
    if !architecture.is_empty() {
        kernel = format!("{kernel} ({architecture})");
    }
    vec![
        name(node),
        joined([status].into_iter().chain(is_cordoned.then_some("SchedulingDisabled"))).into(),
        roles(node).into(),
        age(node, now),
        text(node, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        known("/status/nodeInfo/osImage").into(),
        kernel.into(),
        known("/status/nodeInfo/containerRuntimeVersion").into(),
    ]
}

fn roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let role = |(key, value): (&'_ String, &'_ Value)| {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or_default(),
            None => "",
        };
        Some(role.to_owned()).filter(|role| !role.is_empty())
    };
    let roles: BTreeSet<_> = labels.filter_map(role).collect();
    if roles.is_empty() { NONE.to_owned() } else { joined(roles.iter().map(String::as_str)) }
}

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let since = |pointer| duration::since(text(event, pointer), now);
    let is_set = |pointer: &str| event.pointer(pointer).is_some_and(|value| !value.is_null());
    let first = since(if is_set("/firstTimestamp") { "/firstTimestamp" } else { "/eventTime" });
    let (last, count) = if is_set("/series") {
        (since("/series/lastObservedTime"), number(event, "/series/count"))
    } else {
        let last = if is_set("/lastTimestamp") { since("/lastTimestamp") } else { first.clone() };
        // Events of the newer kind that happened once have no count.
        (last, number(event, "/count").max(1))
    };
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    let object = match text(event, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = text_or(event, "/source/component", text(event, "/reportingComponent"));
    let source = match text_or(event, "/source/host", text(event, "/reportingInstance")) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    };
    vec![
        last.into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        object.into(),
        text(event, "/involvedObject/fieldPath").into(),
        source.into(),
        text(event, "/message").trim().into(),
        first.into(),
        count.into(),
        name(event),
    ]
}
