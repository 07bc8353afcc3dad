//! etcd's rules, call by call, and its protocol.

mod membership;
mod protocol;
mod quorum;

use std::{sync::Arc, time::Duration};

use super::{EtcdCluster, Keys, MemberId, Model, Rules};
use crate::guest::memory::testing::Hand;

/// Short, so that tests of what waits do not.
const LIMIT: Duration = Duration::from_millis(100);
/// Long enough for whoever was connected to count as such.
const HEALTHY: u64 = 5_000;

struct NoKeys;

impl Keys for NoKeys {
    fn revision(&self) -> u64 {
        42
    }
}

struct Bed {
    hand: Hand,
    etcd: Arc<EtcdCluster>,
    /// Members in the order in which they joined.
    ids: Vec<MemberId>,
}

fn peer(number: usize) -> String {
    format!("https://10.0.0.{number}:2380")
}

fn client(number: usize) -> String {
    format!("https://10.0.0.{number}:2379")
}

impl Bed {
    /// A cluster of so many voters `m1`, `m2` and so on, all healthy; `m1` leads.
    async fn of(voters: usize) -> Self {
        let hand = Hand::at_present();
        let etcd = EtcdCluster::new(Model::new(Rules::default()), LIMIT, hand.time(), Arc::new(NoKeys));
        let first = etcd.bootstrap("m1", &peer(1), &client(1)).unwrap();
        let mut bed = Self { hand, etcd, ids: vec![first] };
        for number in 2..=voters {
            bed.hand.advance(HEALTHY);
            let id = bed.add_learner(number).await;
            bed.start_new(number);
            bed.hand.advance(HEALTHY);
            bed.etcd.member_promote(first, id).await.unwrap();
            bed.ids.push(id);
        }
        bed.hand.advance(HEALTHY);
        bed
    }

    fn id(&self, number: usize) -> MemberId {
        self.ids[number - 1]
    }

    async fn add_learner(&self, number: usize) -> MemberId {
        self.etcd.member_add(self.id(1), &[peer(number)], true).await.unwrap().0.id
    }

    /// Starts an added member, as kubeadm writes its manifest.
    fn start_new(&self, number: usize) -> MemberId {
        let name = format!("m{number}");
        let named = |member: super::Member| {
            let name = if member.name.is_empty() { name.clone() } else { member.name };
            (name, member.peer_urls[0].clone())
        };
        let initial: Vec<_> = self.etcd.members().into_iter().map(named).collect();
        self.etcd.join(&name, &client(number), &initial).unwrap()
    }
}
