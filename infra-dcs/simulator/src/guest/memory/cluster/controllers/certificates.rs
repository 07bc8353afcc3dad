//! Requests for certificates: what is approved without a person, what is signed, and what is thrown away
//! (`pkg/controller/certificates/{approver,signer,cleaner}`).

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Context, earliest, moment};
use crate::guest::memory::{
    api_server::{Question, User, review},
    cluster::api::{SIGNING_REQUESTS, name},
    kubeadm::pki::{self, Leaf, request::SigningRequest},
};

/// Signer of kubelets' certificates as clients.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signer of kubelets' certificates as servers.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// How long a request is kept after it was decided.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// How long a request waits for a decision or a signature.
const PENDING: SignedDuration = SignedDuration::from_hours(24);
/// Shortest life of a certificate, whatever is asked for.
const SHORTEST: i64 = 600;

/// See the module. Answers when the next request is thrown away.
pub fn pass(context: &Context<'_>) -> Option<Timestamp> {
    let mut due = None;
    for request in context.api.list(SIGNING_REQUESTS, "") {
        match end(&request) {
            Some(end) if end < context.now => {
                context.api.by("kube-controller-manager").delete(SIGNING_REQUESTS, "", name(&request), None);
                continue;
            }
            end => due = earliest(due, end),
        }
        if is_issued(&request) || has(&request, "Denied") || has(&request, "Failed") {
            continue;
        }
        let Ok(asked) = read(&request) else { continue };
        if has(&request, "Approved") {
            sign(context, &request, &asked);
        } else {
            approve(context, &request, &asked);
        }
    }
    due
}

fn conditions(request: &Value) -> impl Iterator<Item = &Value> {
    request["status"]["conditions"].as_array().into_iter().flatten()
}

/// Whether a request has a condition, such as `Approved`.
pub fn has(request: &Value, kind: &str) -> bool {
    conditions(request).any(|condition| condition["type"] == kind && condition["status"] != "False")
}

fn is_issued(request: &Value) -> bool {
    request["status"]["certificate"].as_str().is_some_and(|text| !text.is_empty())
}

/// When a request is thrown away.
fn end(request: &Value) -> Option<Timestamp> {
    let after = |from: &Value, life: SignedDuration| moment(from)?.checked_add(life).ok();
    let mut ends: Vec<Timestamp> = conditions(request)
        .filter_map(|condition| {
            let is_open = condition["type"] == "Approved" && !is_issued(request);
            after(&condition["lastUpdateTime"], if is_open { PENDING } else { DECIDED })
        })
        .collect();
    if conditions(request).next().is_none() {
        ends.extend(after(&request["metadata"]["creationTimestamp"], PENDING));
    }
    ends.into_iter().min()
}

fn read(request: &Value) -> Result<SigningRequest, String> {
    let text = BASE64_STANDARD.decode(request["spec"]["request"].as_str().unwrap_or_default());
    SigningRequest::from_pem(&text.map_err(|error| error.to_string())?)
}

// === approval ===

fn approve(context: &Context<'_>, request: &Value, asked: &SigningRequest) {
    let spec = &request["spec"];
    if spec["signerName"] != KUBELET_CLIENT || check_kubelet_client(asked, &usages(request)).is_err() {
        return;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let groups = spec["groups"].as_array().into_iter().flatten().map(text).collect();
    let user = User::named(&text(&spec["username"]), groups);
    let own = (user.name == asked.name).then_some(("selfnodeclient", "self kubelet client"));
    let permissions = own.into_iter().chain([("nodeclient", "kubelet client")]);
    let granted = permissions.into_iter().find(|(subresource, _)| {
        let question = Question {
            verb: "create",
            group: "certificates.k8s.io",
            resource: "certificatesigningrequests",
            subresource,
            name: "",
        };
        review(context.server, &user, question).is_ok()
    });
    let Some((_, what)) = granted else { return };
    let condition = json!({
        "type": "Approved", "status": "True", "reason": "AutoApproved",
        "message": format!("Auto approving {what} certificate after SubjectAccessReview."),
    });
    let _ = context.api.by("kube-controller-manager").merge_approval(name(request), json!([condition]));
}

/// What those are for whom a certificate is.
fn usages(request: &Value) -> Vec<&str> {
    request["spec"]["usages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// All of the wanted usages, and none besides but `key encipherment`.
fn check_usages(usages: &[&str], wanted: &[&str]) -> Result<(), String> {
    let is_known = |usage: &&str| wanted.contains(usage) || *usage == "key encipherment";
    if usages.iter().all(is_known) && wanted.iter().all(|usage| usages.contains(usage)) {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

fn check_kubelet(asked: &SigningRequest) -> Result<(), String> {
    if asked.organisations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".into());
    }
    if !asked.emails.is_empty() {
        return Err("Email subjectAltNames are not allowed".into());
    }
    if !asked.uris.is_empty() {
        return Err("URI subjectAltNames are not allowed".into());
    }
    if !asked.name.starts_with("system:node:") {
        return Err("subject common name does not begin with system:node:".into());
    }
    Ok(())
}

fn check_kubelet_client(asked: &SigningRequest, usages: &[&str]) -> Result<(), String> {
    check_kubelet(asked)?;
    if !asked.dns.is_empty() {
        return Err("DNS subjectAltNames are not allowed".into());
    }
    if !asked.addresses.is_empty() {
        return Err("IP subjectAltNames are not allowed".into());
    }
    check_usages(usages, &["client auth", "digital signature"])
}

fn check_kubelet_serving(asked: &SigningRequest, usages: &[&str]) -> Result<(), String> {
    check_kubelet(asked)?;
    if asked.dns.is_empty() && asked.addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    check_usages(usages, &["digital signature", "server auth"])
}

fn check_client(usages: &[&str]) -> Result<(), String> {
    let known = ["client auth", "digital signature", "key encipherment"];
    match usages.iter().find(|usage| !known.contains(usage)) {
        Some(usage) => Err(format!("invalid usage for client certificate: {usage}")),
        None if !usages.contains(&"client auth") => {
            Err("missing required usage for client certificate: client auth".into())
        }
        None => Ok(()),
    }
}

// === signatures ===

fn sign(context: &Context<'_>, request: &Value, asked: &SigningRequest) {
    let Some(authority) = context.signer else { return };
    let usages = usages(request);
    let checked = match request["spec"]["signerName"].as_str().unwrap_or_default() {
        KUBELET_CLIENT => check_kubelet_client(asked, &usages),
        KUBELET_SERVING => check_kubelet_serving(asked, &usages),
        CLIENT => check_client(&usages),
        LEGACY => Ok(()),
        _ => return,
    };
    let api = context.api.by("kube-controller-manager");
    if let Err(why) = checked {
        let mut all: Vec<Value> = conditions(request).cloned().collect();
        all.push(json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why}));
        let _ = api.merge_status(SIGNING_REQUESTS, "", name(request), json!({"conditions": all}));
        return;
    }
    let longest = context.manager.map_or(0, |flags| i64::try_from(flags.signing_life.as_secs()).unwrap_or(i64::MAX));
    let life = request["spec"]["expirationSeconds"].as_i64().map_or(longest, |life| life.max(SHORTEST).min(longest));
    let leaf = Leaf {
        name: asked.name.clone(),
        organisations: asked.organisations.clone(),
        dns: asked.dns.clone(),
        addresses: asked.addresses.clone(),
        server: usages.contains(&"server auth"),
        client: usages.contains(&"client auth"),
        not_after: context.now.checked_add(SignedDuration::from_secs(life)).unwrap_or(context.now),
    };
    match authority.issue(&leaf, &asked.key) {
        Ok(certificate) => {
            let status = json!({"certificate": BASE64_STANDARD.encode(certificate)});
            let _ = api.merge_status(SIGNING_REQUESTS, "", name(request), status);
        }
        Err(why) => tracing::debug!(request = name(request), why, "A certificate cannot be signed."),
    }
}

/// The certificate in an issued request, PEM.
pub fn issued(request: &Value) -> Option<String> {
    let text = request["status"]["certificate"].as_str().filter(|text| !text.is_empty())?;
    let text = BASE64_STANDARD.decode(text).ok()?;
    pki::certificates_of(&text).ok()?;
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_are_kept_for_their_time() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let mut request = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(end(&request), at("2026-01-02T00:00:00Z"));
        request["status"]["conditions"] =
            json!([{"type": "Approved", "status": "True", "lastUpdateTime": "2026-01-01T12:00:00Z"}]);
        assert_eq!(end(&request), at("2026-01-02T12:00:00Z"));
        request["status"]["certificate"] = "eA==".into();
        assert_eq!(end(&request), at("2026-01-01T13:00:00Z"));
    }

    #[test]
    fn usages_are_exact() {
        assert_eq!(check_usages(&["client auth", "digital signature"], &["client auth", "digital signature"]), Ok(()));
        assert!(check_usages(&["client auth", "server auth"], &["client auth"]).is_err());
        assert!(check_usages(&["key encipherment"], &["client auth"]).is_err());
        assert!(check_client(&["client auth", "key encipherment"]).is_ok());
        assert!(check_client(&["digital signature"]).is_err());
    }
}
