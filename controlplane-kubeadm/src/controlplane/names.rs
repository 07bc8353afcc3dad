//! Names that users and core know control planes by.

/// API version of control planes in owner references.
pub const API_VERSION: &str = "controlplane.cluster.x-k8s.io/v1beta2";

/// Finalizer of a control plane.
pub const FINALIZER: &str = "kubeadm.controlplane.cluster.x-k8s.io";
/// Field manager of specs and of what only we write.
pub const FIELD_MANAGER: &str = "capi-kubeadmcontrolplane";
/// Field manager of labels and annotations of bootstrap and infrastructure objects.
pub const METADATA_MANAGER: &str = "capi-kubeadmcontrolplane-metadata";

/// Annotation on a control plane: CoreDNS is left alone.
pub const SKIP_CORE_DNS: &str = "controlplane.cluster.x-k8s.io/skip-coredns";
/// Annotation on a control plane: kube-proxy is left alone.
pub const SKIP_KUBE_PROXY: &str = "controlplane.cluster.x-k8s.io/skip-kube-proxy";
/// Annotation on a control plane: a machine was deleted for its bad health and is not replaced yet.
pub const REMEDIATION_IN_PROGRESS: &str = "controlplane.cluster.x-k8s.io/remediation-in-progress";
/// Annotation on a machine: it replaces one that was deleted for its bad health.
pub const REMEDIATION_FOR: &str = "controlplane.cluster.x-k8s.io/remediation-for";
/// Annotation on a control plane with the name of the machine being made, written before any of its objects is: a
/// crash between them is continued under the same name and leaves nothing behind.
pub const NEXT_MACHINE: &str = "controlplane.cluster.x-k8s.io/next-machine";
/// Core's finalizer of a Machine (`clusterv1.MachineFinalizer`).
pub const MACHINE_FINALIZER: &str = "machine.cluster.x-k8s.io";
/// Annotation on a machine: its deletion waits until its etcd member is gone.
pub const CLEANUP_HOOK: &str = "pre-terminate.delete.hook.machine.cluster.x-k8s.io/kcp-cleanup";
/// Annotation on a cluster: version of the step of an upgrade over several minors that is under way.
pub const UPGRADE_STEP: &str = "topology.internal.cluster.x-k8s.io/upgrade-step";

/// Label and taint key of control plane nodes.
pub const NODE_ROLE: &str = "node-role.kubernetes.io/control-plane";

/// Conditions of control planes.
pub mod condition {
    pub use cluster_api::conditions::types::{AVAILABLE, DELETING, PAUSED};

    /// kubeadm's configuration is readable in the workload cluster: `kubeadm init` is done.
    pub const INITIALIZED: &str = "Initialized";
    /// The cluster's certificate authorities exist.
    pub const CERTIFICATES: &str = "CertificatesAvailable";
    /// etcd is healthy.
    pub const ETCD: &str = "EtcdClusterHealthy";
    /// The static pods are healthy.
    pub const COMPONENTS: &str = "ControlPlaneComponentsHealthy";
    /// The machines are ready.
    pub const MACHINES_READY: &str = "MachinesReady";
    /// The machines are as the spec wants them.
    pub const MACHINES_UP_TO_DATE: &str = "MachinesUpToDate";
    /// Machines are being replaced.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// There are fewer machines than wanted.
    pub const SCALING_UP: &str = "ScalingUp";
    /// There are more machines than wanted.
    pub const SCALING_DOWN: &str = "ScalingDown";
    /// Unhealthy machines are being replaced.
    pub const REMEDIATING: &str = "Remediating";
}

/// Conditions of control plane machines.
pub mod machine {
    /// The API server's static pod.
    pub const API_SERVER: &str = "APIServerPodHealthy";
    /// The controller manager's static pod.
    pub const CONTROLLER_MANAGER: &str = "ControllerManagerPodHealthy";
    /// The scheduler's static pod.
    pub const SCHEDULER: &str = "SchedulerPodHealthy";
    /// etcd's static pod.
    pub const ETCD_POD: &str = "EtcdPodHealthy";
    /// etcd's member.
    pub const ETCD_MEMBER: &str = "EtcdMemberHealthy";
    /// The node has what kubeadm gives control plane nodes.
    pub const NODE: &str = "NodeKubeadmLabelsAndTaintsSet";
    /// The machine is as the spec wants it.
    pub const UP_TO_DATE: &str = "UpToDate";
    /// Set by health checks; ours to act on.
    pub const OWNER_REMEDIATED: &str = "OwnerRemediated";
    /// Set by health checks.
    pub const HEALTH_CHECK: &str = "HealthCheckSucceeded";

    /// What only we write.
    pub const OURS: [&str; 7] = [API_SERVER, CONTROLLER_MANAGER, SCHEDULER, ETCD_POD, ETCD_MEMBER, NODE, UP_TO_DATE];

    /// The static pods that every machine runs.
    pub const COMPONENTS: [&str; 3] = [API_SERVER, CONTROLLER_MANAGER, SCHEDULER];
}

/// Reasons of conditions.
pub mod reason {
    /// Looking failed.
    pub const INSPECTION_FAILED: &str = "InspectionFailed";
    /// The workload cluster does not answer.
    pub const CONNECTION_DOWN: &str = "ConnectionDown";
    /// Healthy.
    pub const HEALTHY: &str = "Healthy";
    /// Not healthy.
    pub const NOT_HEALTHY: &str = "NotHealthy";
    /// Nobody knows.
    pub const HEALTH_UNKNOWN: &str = "HealthUnknown";
    /// Being deleted.
    pub const DELETING: &str = "Deleting";
    /// Something of ours failed.
    pub const INTERNAL_ERROR: &str = "InternalError";
    /// This machine is never replaced for its health as things stand.
    pub const CANNOT_BE_REMEDIATED: &str = "CannotBeRemediated";
    /// This machine is replaced for its health once something else is over.
    pub const REMEDIATION_DEFERRED: &str = "RemediationDeferred";
    /// This machine was deleted for its bad health.
    pub const MACHINE_DELETING: &str = "MachineDeleting";
}
