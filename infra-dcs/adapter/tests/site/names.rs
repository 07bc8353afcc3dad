//! Names are exact here, though the site's filters are not.

use dcs_adapter::service::Service;
use dcs_proto::v1::{
    DatastoreReference, NetworkReference, Placement, Reason, Reference, ResolvePlacementRequest,
    machine_service_server::MachineService,
};
use serde_json::{Value, json};
use tonic::Request;

use super::{
    at, seen,
    stub::{Call, Reply, Stub},
};

fn item(urn: &str, name: &str) -> Value {
    json!({"urn": format!("urn:sites:S:{urn}"), "name": name, "status": "NORMAL", "actualFreeSizeGB": 100})
}

/// Every list has what is asked for beside what only resembles it.
fn site(call: &Call) -> Option<Reply> {
    let templates = [
        item("vms:i-1", "Node"),
        item("vms:i-2", "node"),
        item("vms:i-3", "node-2"),
        item("vms:i-4", "two"),
        item("vms:i-5", "two"),
        item("vms:i-6", "plain"),
    ];
    let folders = |parent: &str| match parent {
        "urn:sites:S" => vec![item("folders:1", "a"), item("folders:2", "A")],
        "urn:sites:S:folders:1" => vec![item("folders:3", "b")],
        _ => vec![],
    };
    match call.path.strip_prefix("/service/sites/S")? {
        "/vms" => Some(call.page("vms", &templates)),
        "/vms/i-6" => Some(Reply::json(json!({"urn": "urn:sites:S:vms:i-6", "name": "plain", "isTemplate": false}))),
        path if path.starts_with("/vms/") => Some(Reply::json(json!({
            "urn": format!("urn:sites:S:vms:{}", &path[5..]), "name": "node", "isTemplate": true, "clusterUrn": "urn:sites:S:clusters:1",
            "vmConfig": {"disks": [{"sequenceNum": 1, "quantityGB": 40, "datastoreUrn": "urn:sites:S:datastores:1"}]}}))),
        "/clusters" => {
            Some(Reply::json(json!({"clusters": [item("clusters:1", "compute"), item("clusters:2", "compute-b")]})))
        }
        "/folder" => Some(call.page("folders", &folders(&call.query("parentObjUrn")))),
        "/dvswitchs" => {
            Some(Reply::json(json!({"dvSwitchs": [item("dvswitchs:1", "dvs"), item("dvswitchs:2", "DVS")]})))
        }
        "/dvswitchs/1/portgroups" => Some(call.page(
            "portGroups",
            &[item("dvswitchs:1:portgroups:1", "vlan1"), item("dvswitchs:1:portgroups:2", "vlan10")],
        )),
        "/datastores" => Some(call.page("datastores", &[item("datastores:1", "ds"), item("datastores:2", "ds-2")])),
        _ => None,
    }
}

fn named(name: &str) -> Reference {
    Reference { name: name.into(), urn: String::new() }
}

fn network(switch: &str, group: &str) -> NetworkReference {
    NetworkReference { switch_name: switch.into(), port_group_name: group.into(), port_group_urn: String::new() }
}

fn everything() -> ResolvePlacementRequest {
    ResolvePlacementRequest {
        session: String::new(),
        template: Some(named("node")),
        compute_cluster: Some(named("compute")),
        folder: Some(named("a/b")),
        networks: vec![network("dvs", "vlan1")],
        datastores: vec![DatastoreReference { name: "ds".into(), needed_gib: 40, ..DatastoreReference::default() }],
    }
}

async fn resolve(service: &Service, session: &str, request: ResolvePlacementRequest) -> Placement {
    let request = ResolvePlacementRequest { session: session.into(), ..request };
    seen(service.resolve_placement(Request::new(request)).await).unwrap()
}

#[tokio::test]
async fn everything_is_found_by_its_exact_name() {
    let stub = Stub::start(site).await;
    let (service, session) = at(&stub).await;
    let found = resolve(&service, &session, everything()).await;
    assert!(found.unresolved.is_empty(), "{:?}", found.unresolved);
    let template = found.template.unwrap();
    assert_eq!((template.urn.as_str(), template.system_disk_gib), ("urn:sites:S:vms:i-2", 40));
    assert_eq!(found.compute_cluster_urn, "urn:sites:S:clusters:1");
    assert_eq!(found.folder_urn, "urn:sites:S:folders:3");
    assert_eq!(found.port_group_urns, ["urn:sites:S:dvswitchs:1:portgroups:1"]);
    assert_eq!(found.datastore_urns, ["urn:sites:S:datastores:1"]);
}

#[tokio::test]
async fn what_is_missing_or_ambiguous_is_named_with_its_kind() {
    let stub = Stub::start(site).await;
    let (service, session) = at(&stub).await;
    let store =
        |name: &str, needed_gib| DatastoreReference { name: name.into(), needed_gib, ..DatastoreReference::default() };
    let cases: [(ResolvePlacementRequest, &str, &str, Reason); 9] = [
        (
            ResolvePlacementRequest { template: Some(named("nod")), ..everything() },
            "VM template",
            "nod",
            Reason::NotFound,
        ),
        (
            ResolvePlacementRequest { template: Some(named("two")), ..everything() },
            "VM template",
            "two",
            Reason::Ambiguous,
        ),
        (
            ResolvePlacementRequest { template: Some(named("plain")), ..everything() },
            "VM template",
            "plain",
            Reason::Invalid,
        ),
        (
            ResolvePlacementRequest { compute_cluster: Some(named("comp")), ..everything() },
            "compute cluster",
            "comp",
            Reason::NotFound,
        ),
        (ResolvePlacementRequest { folder: Some(named("a/c")), ..everything() }, "folder", "a/c", Reason::NotFound),
        (
            ResolvePlacementRequest { networks: vec![network("dv", "vlan1")], ..everything() },
            "switch",
            "dv",
            Reason::NotFound,
        ),
        (
            ResolvePlacementRequest { networks: vec![network("dvs", "vlan")], ..everything() },
            "port group",
            "vlan",
            Reason::NotFound,
        ),
        (
            ResolvePlacementRequest { datastores: vec![store("dss", 1)], ..everything() },
            "datastore",
            "dss",
            Reason::NotFound,
        ),
        (
            ResolvePlacementRequest { datastores: vec![store("ds", 101)], ..everything() },
            "datastore",
            "ds",
            Reason::Capacity,
        ),
    ];
    for (request, kind, name, reason) in cases {
        let unresolved = resolve(&service, &session, request).await.unresolved;
        assert_eq!(unresolved.len(), 1, "{unresolved:?}");
        let found = &unresolved[0];
        assert_eq!((found.kind.as_str(), found.name.as_str(), found.reason()), (kind, name, reason));
        assert!(found.message.contains(name), "{found:?}");
    }
}

/// Machines are made in groups: what the site offers is read once for all of them.
#[tokio::test]
async fn machines_that_are_made_together_share_what_was_read() {
    let stub = Stub::start(site).await;
    let (service, session) = at(&stub).await;
    let all = (0..5).map(|_| resolve(&service, &session, everything()));
    for found in futures_util::future::join_all(all).await {
        assert!(found.unresolved.is_empty());
    }
    for list in ["/vms", "/vms/i-2", "/clusters", "/dvswitchs", "/portgroups", "/datastores"] {
        assert_eq!(stub.count("GET", list), 1, "{list}");
    }
}
