//! Whether they may: the node authorizer and RBAC, as `--authorization-mode=Node,RBAC` asks them in turn.

use kube_model::{ApiError, List, ListParams, Qualified, Server, Target};
use serde_json::Value;

use super::{
    authn::{MASTERS, NODE_PREFIX, NODES, User},
    rbac::{self, Rule},
    request::{Attributes, ResourceAttributes},
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Something that somebody would do to what no namespace holds.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Verb.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural.
    pub resource: &'a str,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Name, or empty.
    pub name: &'a str,
}

/// Whether somebody may, as a `SubjectAccessReview` answers it; an error is what they would be told.
pub fn review(server: &Server, user: &User, question: Question<'_>) -> Result<(), ApiError> {
    let resource = ResourceAttributes {
        group: question.group.to_owned(),
        resource: question.resource.to_owned(),
        subresource: question.subresource.to_owned(),
        name: question.name.to_owned(),
        ..ResourceAttributes::default()
    };
    let attributes = Attributes { verb: question.verb.to_owned(), path: String::new(), resource: Some(resource) };
    authorize(server, user, &attributes)
}

/// Lets a request pass, or says why not.
pub(super) fn authorize(server: &Server, user: &User, attributes: &Attributes) -> Result<(), ApiError> {
    if user.is_in(MASTERS) {
        return Ok(());
    }
    let mut reasons = Vec::new();
    if let Some(node) = node_name(user) {
        match node_allows(server, node, attributes) {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.extend(Some(reason).filter(|reason| !reason.is_empty())),
        }
    }
    if is_allowed_by_rbac(server, user, attributes) {
        return Ok(());
    }
    Err(forbidden(user, attributes, &reasons.concat()))
}

/// The answer to those who may not (`endpoints/handlers/responsewriters/errors.go`).
fn forbidden(user: &User, attributes: &Attributes, reason: &str) -> ApiError {
    let name = &user.name;
    let verb = &attributes.verb;
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let Some(resource) = &attributes.resource else {
        let why = format!("User {name:?} cannot {verb} path {:?}{reason}", attributes.path);
        return ApiError::forbidden(Qualified { group: "", resource: "" }, "", &why);
    };
    let place = match resource.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let full = resource.full_resource();
    let group = &resource.group;
    let why = format!("User {name:?} cannot {verb} resource {full:?} in API group {group:?} {place}{reason}");
    ApiError::forbidden(Qualified { group, resource: &resource.resource }, &resource.name, &why)
}

// === nodes ===

/// The node of a kubelet.
pub(super) fn node_name(user: &User) -> Option<&str> {
    user.name.strip_prefix(NODE_PREFIX).filter(|_| user.is_in(NODES))
}

/// What a kubelet may do (`plugin/pkg/auth/authorizer/node`); an error is the authorizer's reason, or empty.
fn node_allows(server: &Server, node: &str, attributes: &Attributes) -> Result<(), String> {
    let Some(resource) = &attributes.resource else { return Err(String::new()) };
    let verb = attributes.verb.as_str();
    let is_own = resource.name == node;
    match (resource.group.as_str(), resource.resource.as_str(), resource.subresource.as_str()) {
        ("", "nodes", "") => match verb {
            "create" | "update" | "patch" => Ok(()),
            "get" | "list" | "watch" if is_own => Ok(()),
            "get" | "list" | "watch" if resource.name.is_empty() => {
                Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            "get" | "list" | "watch" => {
                Err(format!("node '{node}' cannot read '{}', only its own Node object", resource.name))
            }
            _ => Err(String::new()),
        },
        ("", "pods", "") => match verb {
            "create" | "delete" => Ok(()),
            "list" | "watch" if resource.selected_node == node => Ok(()),
            "get" => related(node, runs_on(server, resource, node)),
            "list" | "watch" => Err("can only list/watch pods with spec.nodeName field selector".into()),
            _ => Err(String::new()),
        },
        ("", "nodes" | "pods", "status") if ["update", "patch"].contains(&verb) => Ok(()),
        ("", "pods", "eviction") if verb == "create" => Ok(()),
        ("", kind @ ("secrets" | "configmaps"), _) => {
            let is_read = ["get", "list", "watch"].contains(&verb) && resource.subresource.is_empty();
            if !is_read {
                return Err("can only read resources of this type".into());
            }
            if resource.name.is_empty() {
                return Err("No Object name found".into());
            }
            related(node, is_used_on(server, resource, kind, node))
        }
        ("coordination.k8s.io", "leases", _) => {
            if !["get", "create", "update", "patch", "delete"].contains(&verb) {
                return Err("can only get, create, update, patch, or delete a node lease".into());
            }
            if resource.namespace != "kube-node-lease" {
                return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
            }
            if verb != "create" && !is_own {
                return Err("can only access node lease with the same name as the requesting node".into());
            }
            Ok(())
        }
        _ if rbac::NODE_RULES.iter().any(|rule| rule.allows(attributes)) => Ok(()),
        _ => Err(String::new()),
    }
}

fn related(node: &str, is_related: bool) -> Result<(), String> {
    if is_related { Ok(()) } else { Err(format!("no relationship found between node '{node}' and this object")) }
}

/// Whether a pod is there and runs on a node.
pub(super) fn runs_on(server: &Server, resource: &ResourceAttributes, node: &str) -> bool {
    let target = Target {
        version: "v1".into(),
        plural: "pods".into(),
        namespace: resource.namespace.clone(),
        name: resource.name.clone(),
        ..Target::default()
    };
    server.get(&target, false).is_ok_and(|pod| pod.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node))
}

/// Whether a pod of the node mounts or reads an object.
fn is_used_on(server: &Server, resource: &ResourceAttributes, kind: &str, node: &str) -> bool {
    let target = Target {
        version: "v1".into(),
        plural: "pods".into(),
        namespace: resource.namespace.clone(),
        ..Target::default()
    };
    let params = ListParams { fields: format!("spec.nodeName={node}"), ..ListParams::default() };
    let Ok(pods) = server.list(&target, &params) else { return false };
    let (by_key, key) = if kind == "secrets" { ("secretName", "secret") } else { ("name", "configMap") };
    pods.items.iter().any(|pod| {
        let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
        let mut named = volumes.filter_map(|volume| volume.get(key)?.get(by_key)?.as_str());
        named.any(|name| name == resource.name)
    })
}

// === RBAC ===

/// Whether a binding of the cluster, or one that every cluster has, lets the request pass.
fn is_allowed_by_rbac(server: &Server, user: &User, attributes: &Attributes) -> bool {
    if rbac::built_in_rules(user).any(|rule| rule.allows(attributes)) {
        return true;
    }
    let bound = |plural: &str, namespace: &str| list(server, plural, namespace);
    let cluster = bound("clusterrolebindings", "");
    let namespace = attributes.resource.as_ref().map_or("", |resource| resource.namespace.as_str());
    let local = if namespace.is_empty() { Vec::new() } else { bound("rolebindings", namespace) };
    cluster.iter().map(|binding| (binding, "")).chain(local.iter().map(|binding| (binding, namespace))).any(
        |(binding, namespace)| names(binding, user, namespace) && role_allows(server, binding, namespace, attributes),
    )
}

/// The rules that somebody has in a namespace, as a `SelfSubjectRulesReview` lists them.
pub(super) fn rules(server: &Server, user: &User, namespace: &str) -> Vec<Value> {
    let built_in = rbac::built_in_rules(user).map(Rule::document);
    let everywhere = list(server, "clusterrolebindings", "").into_iter().map(|binding| (binding, ""));
    let here = list(server, "rolebindings", namespace).into_iter().map(|binding| (binding, namespace));
    let bound = everywhere.chain(here).filter(|(binding, namespace)| names(binding, user, namespace));
    let bound = bound.flat_map(|(binding, namespace)| role_rules(server, &binding, namespace));
    let all = if user.is_in(MASTERS) { rbac::built_in_role("cluster-admin") } else { &[] };
    all.iter().map(Rule::document).chain(built_in).chain(bound.map(|rule| rule.document())).collect()
}

fn list(server: &Server, plural: &str, namespace: &str) -> Vec<std::sync::Arc<Value>> {
    let target = Target {
        group: GROUP.into(),
        version: "v1".into(),
        plural: plural.into(),
        namespace: namespace.into(),
        ..Target::default()
    };
    server.list(&target, &ListParams::default()).map(List::into_fields).unwrap_or_default()
}

/// Whether a binding is for a user.
fn names(binding: &Value, user: &User, namespace: &str) -> bool {
    let subjects = binding.get("subjects").and_then(Value::as_array).into_iter().flatten();
    subjects.into_iter().any(|subject| {
        let text = |field: &str| subject.get(field).and_then(Value::as_str).unwrap_or_default();
        match text("kind") {
            "User" => text("name") == user.name,
            "Group" => user.is_in(text("name")),
            "ServiceAccount" => {
                let of = Some(text("namespace")).filter(|given| !given.is_empty()).unwrap_or(namespace);
                user.name == format!("system:serviceaccount:{of}:{}", text("name"))
            }
            _ => false,
        }
    })
}

fn role_allows(server: &Server, binding: &Value, namespace: &str, attributes: &Attributes) -> bool {
    role_rules(server, binding, namespace).iter().any(|rule| rule.allows(attributes))
}

/// The rules of the role that a binding gives.
fn role_rules(server: &Server, binding: &Value, namespace: &str) -> Vec<Rule> {
    let text = |field: &str| binding.pointer(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/roleRef/kind"), text("/roleRef/name"));
    let (plural, namespace) = if kind == "Role" { ("roles", namespace) } else { ("clusterroles", "") };
    let target = Target {
        group: GROUP.into(),
        version: "v1".into(),
        plural: plural.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Target::default()
    };
    match server.get(&target, false) {
        Ok(role) => {
            let rules = role.get("rules").and_then(Value::as_array).into_iter().flatten();
            rules.map(Rule::read).collect()
        }
        Err(_) if kind == "ClusterRole" => rbac::built_in_role(name).to_vec(),
        Err(_) => Vec::new(),
    }
}
