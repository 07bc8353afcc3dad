//! Who reaches which API server: by cables, and by certificates as the clocks of both ends judge them.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use jiff::Timestamp;

use super::{Cluster, Presence, kubelet::Kubelet};
use crate::guest::memory::{
    cable::Cable,
    host::Names,
    kubeadm::{
        config::host_port,
        kubeconfig::{Identity, Kubeconfig},
        pki,
    },
    machine_clock::MachineClock,
};

/// Port of a server whose URL names none.
const HTTPS: u16 = 443;

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
    /// Where that is; none where its name is nobody's.
    server: Option<SocketAddr>,
    /// Its own certificate; none where it has another credential.
    own: Option<Period>,
    /// Authorities that the API server's certificate must come from.
    authorities: Vec<Period>,
}

impl Contact {
    /// By what a kubeconfig says, and the machine's names of others.
    pub fn of(kubeconfig: &Kubeconfig, names: &Names) -> Self {
        let own = match &kubeconfig.identity {
            Identity::Certificate { certificate, .. } => Period::all(certificate).into_iter().next(),
            Identity::Token(_) | Identity::Anonymous => None,
        };
        Self { server: address_of(&kubeconfig.server, names), own, authorities: Period::all(&kubeconfig.authority) }
    }
}

/// `https://host:port`, the host by its address or a name in the machine's `/etc/hosts`.
fn address_of(server: &str, names: &Names) -> Option<SocketAddr> {
    let (host, port) = host_port(server.strip_prefix("https://")?.trim_end_matches('/'))?;
    Some(SocketAddr::new(names.resolve(host)?, port.unwrap_or(HTTPS)))
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
        let has_etcd = self.etcd.serves();
        let mut present = self.present.lock();
        let answer = present.fronts.values().filter(|front| has_etcd && !front.cable.is_unplugged());
        let answering: BTreeSet<SocketAddr> = answer.map(|front| front.address).collect();
        let before = std::mem::replace(&mut present.answering, answering);
        before.symmetric_difference(&present.answering).for_each(|address| self.signals.changed(*address));
    }

    /// Whether any API server can answer.
    pub fn is_serving(&self) -> bool {
        self.etcd.serves() && self.present.lock().fronts.values().any(|front| !front.cable.is_unplugged())
    }

    /// Whether a kubelet reaches an API server by the address in its kubeconfig, a machine's or one of a load balancer, and
    /// both believe each other's certificates. At any other address nobody of the cluster answers.
    pub(super) fn reaches(&self, kubelet: &Kubelet, contact: &Contact) -> bool {
        let Some(server) = contact.server.filter(|_| self.etcd.serves()) else { return false };
        let ends = self.signals.behind(server);
        let is_direct = ends == [server];
        let present = self.present.lock();
        present.fronts.values().filter(|front| ends.contains(&front.address)).any(|front| {
            // A machine reaches itself without a cable.
            let is_own = is_direct && front.address.ip() == kubelet.machine.address;
            let is_plugged = !kubelet.cable.is_unplugged() && !front.cable.is_unplugged();
            (is_own || is_plugged) && front.trusts(kubelet, contact)
        })
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

    #[test]
    fn servers_are_found_by_address_or_name() {
        let names = Names::read("127.0.0.7 api.example.org  API\n# 127.0.0.8 commented\n");
        let found = |server: &str| address_of(server, &names).map(|address| address.to_string()).unwrap_or_default();
        for (server, address) in [
            ("https://127.0.0.1:6443", "127.0.0.1:6443"),
            ("https://[::1]:6443/", "[::1]:6443"),
            ("https://api.example.org:6443", "127.0.0.7:6443"),
            ("https://api", "127.0.0.7:443"),
            ("https://commented:6443", ""),
            ("http://127.0.0.1:6443", ""),
        ] {
            assert_eq!(found(server), address, "{server}");
        }
    }
}
