//! Where memory guests may answer other than a real cluster, and why.

/// A place at which memory guests are excused.
#[derive(Debug)]
pub struct Exception {
    /// `theme/check/field…`; `*` stands for any text, and what is below the place is meant too.
    pub place: &'static str,
    /// Why a memory guest need not, or cannot, answer as a real cluster does.
    pub why: &'static str,
}

const ACCOUNTS: &str = "controllers speak in the process and need no account";
const DISTRIBUTION: &str = "the disks of memory guests have no distribution's certificates, which kubeadm would mount";
const LEASES: &str = "what runs in one process has nobody to agree with who leads, and a thousand clusters would renew";
const OTHER_NODES: &str =
    "the pod network of the sandbox image lets kubelets read all nodes, that of memory guests asks nobody";

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
    Exception {
        place: "discovery/resources/v1/bindings",
        why: "schedulers bind by pods/binding, the older path is asked for by nobody",
    },
    Exception {
        place: "discovery/resources/v1/componentstatuses",
        why: "deprecated since 1.19, and asked for by nobody",
    },
    Exception {
        place: "discovery/resources/v1/namespaces~1finalize",
        why: "the finalizers of a namespace are those of its controller, which is part of the model",
    },
    Exception { place: "discovery/resources/v1/*~1proxy", why: "nothing listens behind nodes, pods and services" },
    Exception { place: "discovery/resources/v1/pods~1attach", why: "no program runs to be attached to" },
    Exception { place: "discovery/resources/v1/pods~1ephemeralcontainers", why: "no program runs to be looked into" },
    Exception { place: "discovery/resources/v1/pods~1exec", why: "no program runs beside which another could" },
    Exception { place: "discovery/resources/v1/pods~1resize", why: "no program runs that would use more or less" },
    Exception {
        place: "discovery/resources/v1/replicationcontrollers*",
        why: "superseded by ReplicaSets, which are played",
    },
    Exception { place: "discovery/resources/v1/serviceaccounts~1token", why: "no pod runs that would present a token" },
    Exception { place: "defaults/pods/*/warnings", why: "no policy of pod security is set where nothing runs" },
    Exception {
        place: "defaults/storage/PersistentVolume*/body/metadata/finalizers",
        why: "there is no volume to be protected while it is used",
    },
    Exception { place: "defaults/services/Ingress", why: "there is no network behind ingresses and policies" },
    Exception { place: "defaults/services/NetworkPolicy", why: "there is no network behind ingresses and policies" },
    Exception { place: "defaults/services/NodePort/body/spec/ports", why: "nothing listens on ports of nodes" },
    Exception { place: "defaults/services/LoadBalancer/body/spec/ports", why: "nothing listens on ports of nodes" },
    Exception { place: "defaults/workloads/HorizontalPodAutoscaler", why: "nothing measures what pods use" },
    Exception {
        place: "addons/core_dns/deployment/status/conditions/Progressing/message",
        why: "the hash of a template is that of its JSON, and not of Go's picture of it",
    },
    Exception { place: "static_pods/*/0/spec/*ca-certificates", why: DISTRIBUTION },
    Exception {
        place: "defaults/cluster_scoped/CustomResourceDefinition/body/status",
        why: "a definition is accepted within the request that makes it: nobody has to wait for it",
    },
    Exception {
        place: "etcd/refused_forwards/tunnel",
        why: "SPDY within a WebSocket is refused as by servers before 1.30, upon which clients speak SPDY",
    },
    Exception {
        place: "kubectl/open_api/index/paths",
        why: "there is a document for each group and version that is served, and for nothing else",
    },
    Exception {
        place: "nodes/*/0/annotations/kubeadm.alpha.kubernetes.io~1cri-socket",
        why: "the socket is noted on the node as kubeadm did until 1.35, for all versions that are played",
    },
    Exception {
        place: "nodes/*/0/status",
        why: "what a kernel and a container runtime can do, and what was pulled, is nothing where neither is",
    },
    Exception { place: "workloads/logs/log/has said", why: "no program runs that would say anything" },
    Exception {
        place: "workloads/service_endpoints/*/metadata/annotations",
        why: "nobody measures how long a change takes to reach the proxies",
    },
    Exception { place: "access/nodes/all nodes", why: OTHER_NODES },
    Exception { place: "access/nodes/other node", why: OTHER_NODES },
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
    Exception { place: "system/service_accounts/kube-system/*-controller", why: ACCOUNTS },
    Exception { place: "system/leases/apiserver", why: LEASES },
    Exception { place: "system/leases/kube-controller-manager", why: LEASES },
    Exception { place: "system/leases/kube-scheduler", why: LEASES },
    Exception { place: "system/service_accounts/kube-system/bootstrap-signer", why: ACCOUNTS },
    Exception { place: "system/service_accounts/kube-system/generic-garbage-collector", why: ACCOUNTS },
    Exception { place: "system/service_accounts/kube-system/horizontal-pod-autoscaler", why: ACCOUNTS },
    Exception { place: "system/service_accounts/kube-system/legacy-service-account-token-cleaner", why: ACCOUNTS },
    Exception { place: "system/service_accounts/kube-system/persistent-volume-binder", why: ACCOUNTS },
    Exception { place: "system/service_accounts/kube-system/pod-garbage-collector", why: ACCOUNTS },
    Exception { place: "system/service_accounts/kube-system/root-ca-cert-publisher", why: ACCOUNTS },
    Exception { place: "system/service_accounts/kube-system/token-cleaner", why: ACCOUNTS },
    Exception { place: "access/escalation", why: "who may write roles is trusted: only administrators do here" },
    Exception { place: "access/service_account_tokens", why: "no pod runs that would present a token" },
];
