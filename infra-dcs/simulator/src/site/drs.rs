//! DRS rules, and the balancing that keeps exclusion rules.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{ComputeCluster, Entity, Result, Site, VmStatus, codes, tasks::Work};

const EXCLUSION: u8 = 2;
const MOST_RULES: usize = 20;

/// A rule of a compute cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Index that VRM assigned; moves when another rule is deleted.
    pub index: u64,
    /// Name, unique in the cluster.
    pub name: String,
    /// 1 affinity, 2 exclusion.
    pub kind: u8,
    /// Members.
    pub vms: BTreeSet<u64>,
    /// Milliseconds since the epoch.
    pub created: u64,
    /// Milliseconds since the epoch.
    pub updated: u64,
}

impl Rule {
    /// Whether the rule keeps this VM apart from others.
    pub fn excludes(&self, vm: u64) -> bool {
        self.kind == EXCLUSION && self.vms.contains(&vm)
    }
}

/// One item of `drsSetting.drsRules`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleRequest {
    operation_type: Option<u8>,
    rule_index: Option<u64>,
    rule_name: Option<String>,
    rule_type: Option<u8>,
    vms: Option<Vec<Member>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Member {
    urn: String,
}

impl Site {
    /// The compute cluster of an id.
    pub fn cluster(&self, id: u64) -> Result<&ComputeCluster> {
        self.clusters.get(&id).ok_or_else(|| codes::CLUSTER_NOT_FOUND.into())
    }

    /// Applies operations on rules: all of them or, with a refusal, none.
    pub fn change_rules(&mut self, now: u64, id: u64, requests: &[RuleRequest]) -> Result<()> {
        let mut cluster = self.cluster(id)?.clone();
        if !cluster.drs && !requests.is_empty() {
            return codes::DRS_OFF.refuse();
        }
        for request in requests {
            self.change_rule(now, &mut cluster, request)?;
        }
        self.clusters.insert(id, cluster);
        self.changed();
        self.balance(now);
        Ok(())
    }

    fn change_rule(&self, now: u64, cluster: &mut ComputeCluster, request: &RuleRequest) -> Result<()> {
        match request.operation_type {
            Some(0) => {
                let index = request.rule_index.ok_or(codes::RULE_INDEX_MISSING)?;
                let at = position(cluster, index)?;
                cluster.rules.remove(at);
                // Later rules move up: a remembered index may name another rule now.
                for rule in &mut cluster.rules[at..] {
                    rule.index -= 1;
                }
                cluster.next_rule = cluster.next_rule.saturating_sub(1);
                Ok(())
            }
            Some(1) => {
                let index = request.rule_index.ok_or(codes::RULE_INDEX_MISSING)?;
                let at = position(cluster, index)?;
                let name = request.rule_name.clone().unwrap_or_else(|| cluster.rules[at].name.clone());
                name_fits(&name)?;
                if cluster.rules.iter().any(|rule| rule.name == name && rule.index != index) {
                    return codes::RULE_NAME_USED.refuse();
                }
                if request.rule_type.is_some_and(|kind| kind != cluster.rules[at].kind) {
                    return Err(codes::RULE_TYPE.because("the type is fixed after creation"));
                }
                let members = match &request.vms {
                    Some(members) => self.members(cluster, members)?,
                    None => cluster.rules[at].vms.clone(),
                };
                no_conflict(cluster, cluster.rules[at].kind, &members)?;
                let rule = &mut cluster.rules[at];
                (rule.name, rule.vms, rule.updated) = (name, members, now);
                Ok(())
            }
            Some(2) => {
                let name = request.rule_name.clone().unwrap_or_default();
                name_fits(&name)?;
                if cluster.rules.iter().any(|rule| rule.name == name) {
                    return codes::RULE_NAME_USED.refuse();
                }
                let kind = request.rule_type.filter(|kind| matches!(kind, 1 | 2)).ok_or(codes::RULE_TYPE)?;
                if cluster.rules.len() >= MOST_RULES {
                    return codes::TOO_MANY_RULES.refuse();
                }
                let vms = self.members(cluster, request.vms.as_deref().unwrap_or_default())?;
                no_conflict(cluster, kind, &vms)?;
                let index = cluster.next_rule;
                cluster.next_rule += 1;
                cluster.rules.push(Rule { index, name, kind, vms, created: now, updated: now });
                Ok(())
            }
            _ => codes::RULE_OPERATION.refuse(),
        }
    }

    fn members(&self, cluster: &ComputeCluster, members: &[Member]) -> Result<BTreeSet<u64>> {
        if members.len() > self.policy.rule_max_vms {
            return Err(codes::RULE_TOO_MANY_VMS.because(format!("at most {}", self.policy.rule_max_vms)));
        }
        members
            .iter()
            .map(|member| match self.parse(&member.urn) {
                Some(Entity::Vm(id)) if self.vms.get(&id).is_some_and(|vm| vm.cluster == cluster.id) => Ok(id),
                _ => Err(codes::RULE_VM_ELSEWHERE.because(&*member.urn)),
            })
            .collect()
    }

    /// Members that are gone leave their rules.
    pub(super) fn forget_in_rules(&mut self, vm: u64) {
        for rule in self.clusters.values_mut().flat_map(|cluster| &mut cluster.rules) {
            rule.vms.remove(&vm);
        }
    }

    /// One pass of DRS at its automatic level: moves one running VM that breaks an exclusion rule to a host where it
    /// does not. A mounted medium keeps a VM where it is.
    pub fn balance(&mut self, now: u64) {
        let movable = |vm: &&super::Vm| {
            vm.status == VmStatus::Running && vm.task.is_none() && vm.medium.is_none() && !vm.bound_to_host
        };
        let offender = self.vms.values().filter(movable).find_map(|vm| {
            let forbidden = self.forbidden_hosts(vm.id);
            if !vm.host.is_some_and(|host| forbidden.contains(&host)) {
                return None;
            }
            self.place(vm.id).ok().map(|host| (vm.id, host))
        });
        if let Some((id, host)) = offender {
            if let Some(vm) = self.vms.get_mut(&id) {
                vm.status = VmStatus::Migrating;
            }
            self.accept_vm(now, "system", id, Work::Migrate { vm: id, host });
        }
    }
}

fn position(cluster: &ComputeCluster, index: u64) -> Result<usize> {
    cluster
        .rules
        .iter()
        .position(|rule| rule.index == index)
        .ok_or_else(|| codes::RULE_NOT_FOUND.because(index.to_string()))
}

/// What one rule keeps apart no other may keep together.
fn no_conflict(cluster: &ComputeCluster, kind: u8, vms: &BTreeSet<u64>) -> Result<()> {
    let opposed = |rule: &&Rule| rule.kind != kind && rule.vms.intersection(vms).count() > 1;
    match cluster.rules.iter().find(opposed) {
        Some(rule) => Err(codes::RULE_CONFLICT.because(&*rule.name)),
        None => Ok(()),
    }
}

fn name_fits(name: &str) -> Result<()> {
    let length = name.chars().count();
    if length == 0 || length > 255 || name.contains(':') { codes::RULE_NAME.refuse() } else { Ok(()) }
}
