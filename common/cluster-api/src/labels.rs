//! Labels, annotations and finalizers of the Cluster API contracts.

/// Label with the name of the cluster that an object belongs to.
pub const CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
/// Label (empty value) on control plane machines and what is made for them.
pub const CONTROL_PLANE: &str = "cluster.x-k8s.io/control-plane";
/// Label with the name of the control plane object that made a machine.
pub const CONTROL_PLANE_NAME: &str = "cluster.x-k8s.io/control-plane-name";
/// Label with the name of a machine deployment.
pub const DEPLOYMENT_NAME: &str = "cluster.x-k8s.io/deployment-name";
/// Label that says which manager instance may act on an object (`--watch-filter`).
pub const WATCH_FILTER: &str = "cluster.x-k8s.io/watch-filter";
/// Label (empty value) on templates and objects that a topology owns.
pub const TOPOLOGY_OWNED: &str = "topology.cluster.x-k8s.io/owned";

/// Annotation: the object is paused, whatever its value.
pub const PAUSED: &str = "cluster.x-k8s.io/paused";
/// Annotation: another system manages this infrastructure object (contract rule IC-10: an annotation, not a label).
pub const MANAGED_BY: &str = "cluster.x-k8s.io/managed-by";
/// Annotation: picked first on scale-down.
pub const DELETE_MACHINE: &str = "cluster.x-k8s.io/delete-machine";
/// Annotation with the name of the template an object was cloned from.
pub const CLONED_FROM_NAME: &str = "cluster.x-k8s.io/cloned-from-name";
/// Annotation with the group and kind (`Kind.group`) of the template an object was cloned from.
pub const CLONED_FROM_GROUP_KIND: &str = "cluster.x-k8s.io/cloned-from-groupkind";
/// Annotation that keeps what an older API version cannot say.
pub const CONVERSION_DATA: &str = "cluster.x-k8s.io/conversion-data";
/// Annotation on an object that `clusterctl move` deletes at the source: webhooks let it through.
pub const DELETE_FOR_MOVE: &str = "clusterctl.cluster.x-k8s.io/delete-for-move";
/// Annotation that keeps `clusterctl move` waiting.
pub const BLOCK_MOVE: &str = "clusterctl.cluster.x-k8s.io/block-move";
/// Annotation of a server-side apply dry run by the topology controller.
pub const TOPOLOGY_DRY_RUN: &str = "topology.cluster.x-k8s.io/dry-run";
/// Annotation with the expiry of a machine's certificates, RFC 3339.
pub const CERTIFICATES_EXPIRY: &str = "machine.cluster.x-k8s.io/certificates-expiry";
/// Annotation: this machine is to be remediated, whatever its health.
pub const REMEDIATE_MACHINE: &str = "cluster.x-k8s.io/remediate-machine";
/// Prefix of annotations that hold a machine's deletion before its infrastructure goes.
pub const PRE_TERMINATE_HOOK: &str = "pre-terminate.delete.hook.machine.cluster.x-k8s.io";
/// Prefix of annotations that hold a machine's deletion before its node is drained.
pub const PRE_DRAIN_HOOK: &str = "pre-drain.delete.hook.machine.cluster.x-k8s.io";

/// Type of every Secret that belongs to a cluster.
pub const SECRET_TYPE: &str = "cluster.x-k8s.io/secret";
