//! Who reaches which API server: by cables, and by certificates as the clocks of both ends judge them.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use jiff::Timestamp;

use super::{Cluster, Presence, kubelet::Kubelet};
use crate::guest::memory::{
    cable::Cable,
    kubeadm::{
        config::host_port,
        kubeconfig::{Identity, Kubeconfig},
        pki,
    },
    machine_clock::MachineClock,
};

/// When a certificate is valid. Read once and looked at in every pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Period {
    begin: Timestamp,
    end: Timestamp,
}

impl Period {
    fn holds(&self, now: Timestamp) -> bool {
        self.begin <= now && now <= self.end
    }

    /// Of every certificate of a PEM text.
    fn all(text: &[u8]) -> Vec<Self> {
        let found = pki::certificates_of(text).unwrap_or_default();
        found.iter().map(|one| Self { begin: one.not_before, end: one.not_after }).collect()
    }
}

/// Of a bundle of authorities one is enough.
fn any_holds(periods: &[Period], now: Timestamp) -> bool {
    periods.iter().any(|period| period.holds(now))
}

/// How a kubelet speaks to its API server, by its kubeconfig.
#[derive(Debug, Default)]
pub struct Contact {
    /// `https://host:port`
    server: String,
    /// Its own certificate; none where it has another credential.
    own: Option<Period>,
    /// Authorities that the API server's certificate must come from.
    authorities: Vec<Period>,
}

impl Contact {
    /// By what a kubeconfig says.
    pub fn of(kubeconfig: &Kubeconfig) -> Self {
        let own = match &kubeconfig.identity {
            Identity::Certificate { certificate, .. } => Period::all(certificate).into_iter().next(),
            Identity::Token(_) | Identity::Anonymous => None,
        };
        Self { server: kubeconfig.server.clone(), own, authorities: Period::all(&kubeconfig.authority) }
    }
}

/// An API server that listens.
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    cable: Cable,
    clock: MachineClock,
    /// Its certificate.
    own: Option<Period>,
    /// Authorities that its clients' certificates must come from.
    authorities: Vec<Period>,
}

impl Listening {
    /// An API server on a machine with this cable and clock, with its certificate and its clients' authorities, PEM.
    pub fn new(address: SocketAddr, cable: Cable, clock: MachineClock, certificate: &[u8], client_ca: &[u8]) -> Self {
        let own = Period::all(certificate).into_iter().next();
        Self { address, cable, clock, own, authorities: Period::all(client_ca) }
    }

    /// Whether a handshake succeeds: each end judges what the other shows by its own clock.
    fn trusts(&self, kubelet: &Kubelet, contact: &Contact) -> bool {
        let (here, there) = (self.clock.now(), kubelet.clock.now());
        let is_server_valid = self.own.is_some_and(|own| own.holds(there)) && any_holds(&contact.authorities, there);
        let is_client_valid = contact.own.is_none_or(|own| own.holds(here) && any_holds(&self.authorities, here));
        is_server_valid && is_client_valid
    }
}

impl Cluster {
    /// An API server listens, as long as the answer is kept.
    pub(super) fn add_front(self: &Arc<Self>, listening: Listening) -> Presence {
        let presence = self.presence(|present, ticket| drop(present.fronts.insert(ticket, listening)));
        self.announce();
        presence
    }

    /// Tells of API servers that answer since the last time, or do not any more.
    pub(super) fn announce(&self) {
        let has_etcd = self.etcd.has_quorum();
        let mut present = self.present.lock();
        let answer = present.fronts.values().filter(|front| has_etcd && !front.cable.is_unplugged());
        let answering: BTreeSet<SocketAddr> = answer.map(|front| front.address).collect();
        let before = std::mem::replace(&mut present.answering, answering);
        before.symmetric_difference(&present.answering).for_each(|address| self.signals.changed(*address));
    }

    /// Whether any API server can answer.
    pub fn is_serving(&self) -> bool {
        self.etcd.has_quorum() && self.present.lock().fronts.values().any(|front| !front.cable.is_unplugged())
    }

    /// Whether a kubelet reaches an API server by the address in its kubeconfig, a machine's or one of a load balancer, and
    /// both believe each other's certificates.
    pub(super) fn reaches(&self, kubelet: &Kubelet, contact: &Contact) -> bool {
        if !self.etcd.has_quorum() {
            return false;
        }
        let host = contact.server.strip_prefix("https://").unwrap_or(&contact.server);
        let host = host_port(host).map_or("", |(host, _)| host);
        let is_plugged = !kubelet.cable.is_unplugged();
        let present = self.present.lock();
        let named = present.fronts.values().find(|front| front.address.ip().to_string() == host);
        let answers = |front: &Listening| !front.cable.is_unplugged() && front.trusts(kubelet, contact);
        match named {
            // A machine reaches itself without a cable.
            Some(front) if front.address.ip() == kubelet.machine.address => front.trusts(kubelet, contact),
            Some(front) => is_plugged && answers(front),
            None => is_plugged && present.fronts.values().any(answers),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_period_has_both_of_its_ends() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let period = Period { begin: at(10), end: at(20) };
        assert_eq!([9, 10, 20, 21].map(|second| period.holds(at(second))), [false, true, true, false]);
        assert!(any_holds(&[period, Period { begin: at(30), end: at(40) }], at(35)));
        assert!(!any_holds(&[], at(10)));
    }
}
