//! Admission of what kubelets write (`--enable-admission-plugins=NodeRestriction`, which kubeadm sets): to their own node,
//! and to pods that run on it; and of who approves requests for certificates (`CertificateApproval`). What a request's body
//! says is not looked at.

use kube_model::{ApiError, Qualified, Server};

use super::{
    authn::User,
    authz::{node_name, runs_on},
    certificates,
    request::Attributes,
};

/// Lets a write pass, or says why not.
pub(super) fn admit(server: &Server, user: &User, attributes: &Attributes) -> Result<(), ApiError> {
    certificates::admit_decision(server, user, attributes)?;
    let (Some(node), Some(resource)) = (node_name(user), &attributes.resource) else { return Ok(()) };
    if !attributes.is_write() || !resource.group.is_empty() {
        return Ok(());
    }
    let name = resource.name.as_str();
    let why = match (resource.resource.as_str(), resource.subresource.as_str(), attributes.verb.as_str()) {
        ("nodes", _, "update" | "patch") if name != node => {
            format!("node {node:?} is not allowed to modify node {name:?}")
        }
        ("pods", "status", _) if !runs_on(server, resource, node) => {
            format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")
        }
        ("pods", "eviction", _) if !runs_on(server, resource, node) => {
            format!("node {node} can only evict pods with spec.nodeName set to itself")
        }
        ("pods", "", "delete") if !runs_on(server, resource, node) => {
            format!("node {node:?} can only delete pods with spec.nodeName set to itself")
        }
        _ => return Ok(()),
    };
    Err(ApiError::forbidden(Qualified { group: "", resource: &resource.resource }, name, &why))
}
