//! The exclusion rule: the site keeps the control plane's VMs on different hosts.

use std::{collections::BTreeSet, time::Duration};

use cluster_api::{conditions::Claim, labels};
use dcs_proto::{MachineError, error::Reason, v1};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use manager::{ReconcileError, fault};

use super::{ClusterReconciler, Scene};
use crate::{
    api::{
        Condition, DCSCluster, DCSMachine,
        cluster::{ControlPlaneHAMember, ControlPlaneHAStatus},
        condition,
    },
    disks::record::Key,
    machine::Record,
    site::Site,
};

/// Type of its condition.
pub(super) const CONDITION: &str = "ControlPlaneHAReady";
/// Longest name of a rule.
const NAME_LIMIT: usize = 255;
/// Time between two tries after the site refused something.
const CONVERGE: Duration = Duration::from_secs(60);
/// Time between two looks at a placement that has not converged: the site moves VMs within a minute or not at all.
const SOON: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(60);

/// What is known of the rule after a pass.
pub(super) struct Kept {
    pub(super) status: Option<ControlPlaneHAStatus>,
    pub(super) said: Option<(Claim, Option<Duration>)>,
}

/// Whether a rule was made for this cluster.
pub(super) fn is_owned(infra: &DCSCluster) -> bool {
    infra.status.as_ref().is_some_and(|status| status.control_plane_ha.is_some())
}

/// A control plane VM that belongs into the rule, with its compute cluster.
pub(super) fn member(machine: &DCSMachine) -> Option<(ControlPlaneHAMember, String)> {
    let eligible = machine.labels().contains_key(labels::CONTROL_PLANE)
        && machine.metadata.deletion_timestamp.is_none()
        && machine.spec.provider_id.is_some();
    let urn = machine.spec.vm_urn.clone().filter(|_| eligible)?;
    let cluster = Record::of(machine).ok()?.placement?.compute_cluster;
    Some((ControlPlaneHAMember { machine_name: Some(machine.name_any()), vm_urn: Some(urn) }, cluster))
}

/// Name of a cluster's rule.
fn name(infra: &DCSCluster) -> String {
    let (namespace, cluster) = (infra.namespace().unwrap_or_default(), infra.name_any());
    let whole = format!("capi-{namespace}-{cluster}-cp");
    if whole.len() <= NAME_LIMIT {
        return whole;
    }
    // Kubernetes names are ASCII; the tail keeps two long names apart.
    Key::new(&whole, 0).volume_name(&whole[..NAME_LIMIT - 9])
}

/// The condition of a rule that could not be kept.
pub(super) fn failed(error: &MachineError) -> Claim {
    Claim::new(CONDITION, false, "ControlPlaneHAFailed", error.to_string())
}

fn pending(message: impl Into<String>) -> Claim {
    Claim::new(CONDITION, false, "ControlPlaneHAPending", message)
}

/// When to look again at a placement that has not converged.
fn look_again(shown: Option<&Condition>, now: Timestamp) -> Duration {
    let pending = shown.filter(|condition| condition.status != "True");
    let since = pending.map_or(SignedDuration::ZERO, |pending| now.duration_since(pending.last_transition_time.0));
    if since < SignedDuration::from_mins(1) { SOON } else { LATER }
}

impl ClusterReconciler {
    /// Brings the rule in line with the control plane's VMs. Nothing is asked of the site while nothing changes.
    pub(super) async fn keep_rule(&self, scene: &Scene, site: &Site) -> Result<Kept, ReconcileError> {
        let before = scene.infra.status.as_ref().and_then(|status| status.control_plane_ha.clone());
        let wanted = scene.infra.spec.control_plane_ha.as_ref().and_then(|ha| ha.enabled) == Some(true);
        if !wanted {
            if before.is_some()
                && let Err(error) = self.delete_rule(scene, site).await?
            {
                return Ok(Kept { status: before, said: Some((failed(&error), Some(CONVERGE))) });
            }
            return Ok(Kept { status: None, said: None });
        }
        let members: Vec<_> = scene.machines.iter().filter_map(|machine| member(machine)).collect();
        let clusters: BTreeSet<_> = members.iter().map(|(_, cluster)| cluster.clone()).collect();
        let members: Vec<_> = members.into_iter().map(|(member, _)| member).collect();
        if members.len() < 2 {
            let message = "a rule needs two control plane machines at least";
            return Ok(Kept { status: before, said: Some((pending(message), None)) });
        }
        let Some(compute_cluster) = clusters.first().cloned().filter(|_| clusters.len() == 1) else {
            let message = format!("control plane machines lie in several compute clusters: {clusters:?}");
            let error = MachineError::new(Reason::Placement, message);
            return Ok(Kept { status: before, said: Some((failed(&error), None)) });
        };
        let name = name(&scene.infra);
        let same = before.as_ref().is_some_and(|before| {
            before.members.as_deref() == Some(&members)
                && before.rule_name.as_deref() == Some(&name)
                && before.cluster_urn.as_deref() == Some(&compute_cluster)
        });
        let shown = scene.infra.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        if same && condition(shown, CONDITION).is_some_and(|condition| condition.status == "True") {
            return Ok(Kept { status: before, said: Some((Claim::holds(CONDITION, CONDITION), None)) });
        }
        let mut status = before.clone();
        if !same {
            match self.put_rule(scene, site, &name, &compute_cluster, &members).await? {
                Err(error) => return Ok(Kept { status: before, said: Some((failed(&error), Some(CONVERGE))) }),
                Ok(rule) => {
                    status = Some(ControlPlaneHAStatus {
                        cluster_urn: Some(compute_cluster),
                        members: Some(members.clone()),
                        rule_index: Some(rule.index),
                        rule_name: Some(name),
                    });
                }
            }
        }
        let said = match self.hosts(site, &members).await {
            Err(error) => (failed(&error), Some(CONVERGE)),
            Ok(hosts) if hosts.len() == members.len() => (Claim::holds(CONDITION, CONDITION), None),
            Ok(_) => {
                let message = "PlacementNotConverged: two of the VMs share a host; the site moves them";
                (pending(message), Some(look_again(condition(shown, CONDITION), self.clock.now())))
            }
        };
        Ok(Kept { status, said: Some(said) })
    }

    async fn put_rule(
        &self,
        scene: &Scene,
        site: &Site,
        name: &str,
        compute_cluster: &str,
        members: &[ControlPlaneHAMember],
    ) -> Result<Result<v1::ExclusionRule, MachineError>, ReconcileError> {
        let owner = v1::Owner {
            management_cluster: self.management.uid().await?,
            resource: scene.key.to_string(),
            uid: scene.infra.metadata.uid.clone().unwrap_or_default(),
            cluster: scene.key.to_string(),
        };
        let machine_urns: Vec<_> = members.iter().filter_map(|member| member.vm_urn.clone()).collect();
        let call = site.call(|mut client, session| {
            let request = v1::PutExclusionRuleRequest {
                session,
                compute_cluster_urn: compute_cluster.to_owned(),
                name: name.to_owned(),
                machine_urns: machine_urns.clone(),
                owner: Some(owner.clone()),
            };
            async move { client.put_exclusion_rule(request).await }
        });
        Ok(fault::around("cluster-put-rule", call).await)
    }

    /// Deletes the rule; one that is gone is fine.
    pub(super) async fn delete_rule(
        &self,
        scene: &Scene,
        site: &Site,
    ) -> Result<Result<(), MachineError>, ReconcileError> {
        let Some(rule) = scene.infra.status.as_ref().and_then(|status| status.control_plane_ha.clone()) else {
            return Ok(Ok(()));
        };
        let call = site.call(|mut client, session| {
            let request = v1::DeleteExclusionRuleRequest {
                session,
                compute_cluster_urn: rule.cluster_urn.clone().unwrap_or_default(),
                name: rule.rule_name.clone().unwrap_or_default(),
            };
            async move { client.delete_exclusion_rule(request).await }
        });
        Ok(match fault::around("cluster-delete-rule", call).await {
            Err(error) if error.reason != Reason::NotFound => Err(error),
            _ => Ok(()),
        })
    }

    /// The hosts on which the members run.
    async fn hosts(&self, site: &Site, members: &[ControlPlaneHAMember]) -> Result<BTreeSet<String>, MachineError> {
        let mut hosts = BTreeSet::new();
        for member in members {
            let urn = member.vm_urn.clone().unwrap_or_default();
            let vm = site
                .call(|mut client, session| {
                    let urn = urn.clone();
                    async move { client.get_machine(v1::GetMachineRequest { session, urn }).await }
                })
                .await?;
            hosts.insert(vm.host_urn);
        }
        Ok(hosts)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_placement_is_looked_at_often_while_the_site_may_still_move_machines() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let shown = |status: &str, time: &str| Condition {
            type_: CONDITION.into(),
            status: status.into(),
            last_transition_time: Time(time.parse().unwrap()),
            message: None,
            observed_generation: None,
            reason: None,
            severity: None,
        };
        assert_eq!(look_again(None, now), SOON);
        assert_eq!(look_again(Some(&shown("True", "2026-01-01T00:00:00Z")), now), SOON, "a member has just joined");
        assert_eq!(look_again(Some(&shown("False", "2026-01-01T00:09:30Z")), now), SOON);
        assert_eq!(look_again(Some(&shown("False", "2026-01-01T00:08:00Z")), now), LATER);
    }
}
