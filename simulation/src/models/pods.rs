//! Control plane pods of the workload cluster, as an instance of the control plane provider reaches them.

use std::sync::Arc;

use controlplane_kubeadm::{
    etcd::{self, Manner, View},
    workload::{Error, Member, Pods},
};
use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use manager::workload::WorkloadClient;
use tokio::time::sleep;

use super::{etcd::Refusal, workload::WorkloadCluster};
use crate::{
    journal::Violation,
    plan::CallFault,
    wire::{Link, PATIENCE},
};

/// When certificates expire: not within any story.
const EXPIRY: &str = "2030-01-01T00:00:00Z";

/// The way of one instance into the pods.
pub struct ModelPods {
    link: Arc<Link>,
    workload: Arc<WorkloadCluster>,
}

impl ModelPods {
    /// A way over this network.
    pub fn new(link: &Arc<Link>, workload: &Arc<WorkloadCluster>) -> Arc<Self> {
        Arc::new(Self { link: Arc::clone(link), workload: Arc::clone(workload) })
    }

    /// One call to a node's pod; `work` is what it does there.
    async fn call<T>(
        &self,
        call: &'static str,
        node: &str,
        work: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, etcd::Error> {
        let what = format!("etcd on {node}: {call}");
        let fault = self.link.plan.next_call();
        let lost = || etcd::Error::Connect { node: node.to_owned(), reason: "the connection was lost".to_owned() };
        self.link.leave(fault, &what).await.map_err(|_| lost())?;
        if self.workload.is_silent() {
            sleep(PATIENCE).await;
            self.link.journal.note(&self.link.name, what, "no answer: silent");
            return Err(lost());
        }
        let refused = |reason: String| etcd::Error::Call { node: node.to_owned(), call, reason };
        if matches!(fault, Some(CallFault::Refuse(_) | CallFault::Late(_))) {
            self.link.journal.note(&self.link.name, what, "refused");
            return Err(refused("Unavailable: etcdserver: request timed out".to_owned()));
        }
        if !self.workload.running().iter().any(|running| running == node) {
            self.link.journal.note(&self.link.name, what, "no such member runs");
            return Err(lost());
        }
        let outcome = work();
        self.link.journal.note(&self.link.name, what, outcome.as_ref().err().cloned().unwrap_or_default());
        self.link.journal.check();
        self.link.arrive(fault).await.map_err(|_| lost())?;
        outcome.map_err(refused)
    }
}

impl Pods for ModelPods {
    fn etcd<'a>(
        &'a self,
        _: &'a WorkloadClient,
        node: &'a str,
        _: &'a Manner,
    ) -> BoxFuture<'a, Result<Box<dyn Member>, Error>> {
        async move {
            self.call("connect", node, || Ok(())).await?;
            let pods = Self { link: Arc::clone(&self.link), workload: Arc::clone(&self.workload) };
            Ok(Box::new(ModelMember { pods, node: node.to_owned() }) as Box<dyn Member>)
        }
        .boxed()
    }

    fn certificate_expiry<'a>(
        &'a self,
        _: &'a WorkloadClient,
        node: &'a str,
        _: u16,
    ) -> BoxFuture<'a, Result<Timestamp, Error>> {
        async move {
            self.call("look at the certificate", node, || Ok(())).await?;
            EXPIRY.parse().map_err(|_| Error::Content("the certificate cannot be read".to_owned()))
        }
        .boxed()
    }
}

/// One member, as an instance speaks to it.
struct ModelMember {
    pods: ModelPods,
    node: String,
}

impl Member for ModelMember {
    fn view(&mut self) -> BoxFuture<'_, Result<View, etcd::Error>> {
        let view = || {
            self.pods.workload.with_etcd(|etcd, _| {
                let member = |member: &super::etcd::Member| etcd::Member {
                    id: member.id,
                    name: if member.is_started { member.host.clone() } else { String::new() },
                    learner: member.is_learner,
                    alarms: Vec::new(),
                };
                Ok(View { members: etcd.members().iter().map(member).collect(), leader: etcd.leader() })
            })
        };
        self.pods.call("view", &self.node, view).boxed()
    }

    fn remove<'a>(&'a mut self, id: u64, name: &'a str) -> BoxFuture<'a, Result<(), etcd::Error>> {
        async move {
            let look = |etcd: &mut super::etcd::Etcd| {
                let found = etcd.members().iter().find(|member| member.id == id).cloned();
                (found, etcd.members().len())
            };
            let (found, count) = self.pods.workload.with_etcd(|etcd, _| look(etcd));
            let Some(found) = found else { return Ok(()) };
            let shown = if found.is_started { found.host.as_str() } else { "" };
            if shown != name {
                return Err(etcd::Error::Started(shown.to_owned()));
            }
            if count == 1 {
                return Err(etcd::Error::OnlyMember(id));
            }
            let (link, workload) = (Arc::clone(&self.pods.link), Arc::clone(&self.pods.workload));
            let remove = move || {
                workload.with_etcd(|etcd, running| {
                    // etcd refuses what would cost it its quorum; whoever asks for that has not looked.
                    let removed = etcd.remove(id, running);
                    if removed == Err(Refusal::NotEnoughStarted) {
                        let what = format!("{} is to be removed, and etcd would lose its quorum", found.host);
                        link.journal.violate(Violation::new("I1", what));
                    }
                    removed.map(drop).map_err(|refusal| refusal.to_string())
                })
            };
            self.pods.call("remove member", &self.node, remove).await
        }
        .boxed()
    }

    fn move_leader(&mut self, to: u64) -> BoxFuture<'_, Result<(), etcd::Error>> {
        let (workload, from) = (Arc::clone(&self.pods.workload), self.node.clone());
        let hand_over = move || {
            workload
                .with_etcd(|etcd, running| etcd.move_leader(&from, to, running).map_err(|refusal| refusal.to_string()))
        };
        self.pods.call("move leader", &self.node, hand_over).boxed()
    }
}
