//! Where memory guests may answer other than a real cluster, and why.

/// A place at which memory guests are excused.
#[derive(Debug)]
pub struct Exception {
    /// `theme/check/field…`; `*` stands for any text, and what is below the place is meant too.
    pub place: &'static str,
    /// Why a memory guest need not, or cannot, answer as a real cluster does.
    pub why: &'static str,
}

/// All of them. One that excuses nothing any more fails the suite.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        place: "discovery/groups/admissionregistration.k8s.io",
        why: "webhooks and policies of admission are not called",
    },
    Exception {
        place: "discovery/resources/admissionregistration.k8s.io~1*",
        why: "webhooks and policies of admission are not called",
    },
    Exception { place: "discovery/groups/apiregistration.k8s.io", why: "no other API server is behind this one" },
    Exception { place: "discovery/resources/apiregistration.k8s.io~1*", why: "no other API server is behind this one" },
    Exception { place: "discovery/groups/autoscaling", why: "nothing measures what pods use" },
    Exception { place: "discovery/resources/autoscaling~1*", why: "nothing measures what pods use" },
    Exception { place: "discovery/groups/events.k8s.io", why: "events are of the core group alone" },
    Exception { place: "discovery/resources/events.k8s.io~1*", why: "events are of the core group alone" },
    Exception { place: "discovery/groups/flowcontrol.apiserver.k8s.io", why: "requests are served as they come" },
    Exception { place: "discovery/resources/flowcontrol.apiserver.k8s.io~1*", why: "requests are served as they come" },
    Exception { place: "discovery/groups/networking.k8s.io", why: "there is no network behind ingresses and policies" },
    Exception {
        place: "discovery/resources/networking.k8s.io~1*",
        why: "there is no network behind ingresses and policies",
    },
    Exception { place: "discovery/groups/node.k8s.io", why: "there is one container runtime, and it runs nothing" },
    Exception {
        place: "discovery/resources/node.k8s.io~1*",
        why: "there is one container runtime, and it runs nothing",
    },
    Exception { place: "discovery/groups/resource.k8s.io", why: "there are no devices to claim" },
    Exception { place: "discovery/resources/resource.k8s.io~1*", why: "there are no devices to claim" },
    Exception { place: "discovery/paths/~1metrics", why: "nobody reads what a memory guest would count" },
    Exception {
        place: "system/default_roles",
        why: "the rules of every server are part of the authorizer, where a thousand clusters share them",
    },
    Exception {
        place: "system/default_bindings",
        why: "the bindings of every server are part of the authorizer, where a thousand clusters share them",
    },
    Exception {
        place: "system/config_maps/kube-system~1extension-apiserver-authentication",
        why: "no other API server asks how this one knows users",
    },
    Exception {
        place: "system/config_maps/kube-system~1kube-apiserver-legacy-service-account-token-tracking",
        why: "there are no tokens in Secrets to track",
    },
    Exception {
        place: "system/service_accounts/kube-system/*-controller",
        why: "controllers speak in the process and need no account",
    },
    Exception { place: "access/escalation", why: "who may write roles is trusted: only administrators do here" },
    Exception { place: "access/service_account_tokens", why: "no pod runs that would present a token" },
];
