//! A machine's NICs: bare at power-on; what they carry comes from the files of the first boot alone.

pub mod keyfile;
#[cfg(test)]
mod tests;

use std::{fmt::Write as _, net::IpAddr};

use ipnet::IpNet;

use crate::guest::GuestNic;

/// All NICs of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// NICs by their index.
    pub nics: Vec<Nic>,
    /// Name servers of all connections, in order, each once.
    pub name_servers: Vec<IpAddr>,
}

/// A NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// Name, for example `eth0`.
    pub name: String,
    /// Hardware address in lower case.
    pub mac: String,
    /// Name of the port group that it is plugged into.
    pub port_group: String,
    /// Whether a profile was brought up on it.
    pub is_up: bool,
    /// MTU.
    pub mtu: u32,
    /// Addresses with their prefix.
    pub addresses: Vec<IpNet>,
    /// Gateways of default routes.
    pub gateways: Vec<IpAddr>,
    /// Further routes: destination and gateway.
    pub routes: Vec<(IpNet, IpAddr)>,
}

/// A connection as a document describes it, to be brought up on the NIC that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Where it comes from, for messages.
    pub origin: String,
    /// Name of the NIC; none matches by hardware address, or any.
    pub interface: Option<String>,
    /// Hardware address in lower case.
    pub mac: Option<String>,
    /// MTU; none keeps the NIC's.
    pub mtu: Option<u32>,
    /// Addresses.
    pub addresses: Vec<IpNet>,
    /// Gateways of default routes.
    pub gateways: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<(IpNet, IpAddr)>,
    /// Name servers.
    pub name_servers: Vec<IpAddr>,
}

/// What is wrong with a description of the network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {reason}")]
pub struct NetworkError {
    /// The file, or section of it.
    pub origin: String,
    /// What is wrong, and the cure where it is not plain.
    pub reason: String,
}

pub(super) fn wrong(origin: impl Into<String>, reason: impl Into<String>) -> NetworkError {
    NetworkError { origin: origin.into(), reason: reason.into() }
}

impl Network {
    /// The bare NICs of a virtual machine.
    pub fn bare(nics: &[GuestNic]) -> Self {
        let mut nics: Vec<_> = nics.iter().collect();
        nics.sort_by_key(|nic| nic.index);
        let nics = nics
            .into_iter()
            .map(|nic| Nic {
                name: format!("eth{}", nic.index),
                mac: nic.mac.to_ascii_lowercase(),
                port_group: nic.port_group.clone(),
                mtu: 1500,
                ..Nic::default()
            })
            .collect();
        Self { nics, name_servers: Vec::new() }
    }

    /// Brings up a profile; none where a stronger one has taken its NIC. A NIC that is not there is an error: the
    /// profile would wait for it for ever.
    pub fn bring_up(&mut self, profile: &Profile) -> Result<Option<&Nic>, NetworkError> {
        let names = |nic: &Nic| {
            profile.interface.as_ref().is_none_or(|name| *name == nic.name)
                && profile.mac.as_ref().is_none_or(|mac| *mac == nic.mac)
        };
        let Some(index) = self.nics.iter().position(|nic| names(nic) && !nic.is_up) else {
            if self.nics.iter().any(names) {
                return Ok(None);
            }
            let what = match (&profile.interface, &profile.mac) {
                (Some(name), Some(mac)) => format!("{name} with the hardware address {mac}"),
                (Some(name), None) => name.clone(),
                (None, Some(mac)) => format!("with the hardware address {mac}"),
                (None, None) => "at all".to_owned(),
            };
            let here: Vec<_> = self.nics.iter().map(|nic| format!("{} ({})", nic.name, nic.mac)).collect();
            let reason = format!("no NIC {what}; there are: {}", here.join(", "));
            return Err(wrong(&profile.origin, reason));
        };
        for address in &profile.addresses {
            if let Some(other) = self.nics.iter().find(|nic| nic.addresses.iter().any(|it| it.addr() == address.addr()))
            {
                return Err(wrong(&profile.origin, format!("address {} is on {} already", address.addr(), other.name)));
            }
        }
        for gateway in &profile.gateways {
            if !profile.addresses.iter().any(|address| address.contains(gateway)) {
                let reason = format!("gateway {gateway} lies in no network of its addresses: nothing would reach it");
                return Err(wrong(&profile.origin, reason));
            }
        }
        for server in &profile.name_servers {
            if !self.name_servers.contains(server) {
                self.name_servers.push(*server);
            }
        }
        let nic = &mut self.nics[index];
        nic.is_up = true;
        nic.mtu = profile.mtu.unwrap_or(nic.mtu);
        nic.addresses = profile.addresses.clone();
        nic.gateways = profile.gateways.clone();
        nic.routes = profile.routes.clone();
        Ok(Some(nic))
    }

    /// Addresses by hardware address of the NIC that carries them.
    pub fn addresses(&self) -> Vec<(String, IpAddr)> {
        let nics = self.nics.iter();
        nics.flat_map(|nic| nic.addresses.iter().map(|address| (nic.mac.clone(), address.addr()))).collect()
    }

    /// The address that programs take which look for the one of the default route, as kubeadm and kubelet do: of the
    /// first NIC with a gateway of the family.
    pub fn default_address(&self, is_v4: bool) -> Option<IpAddr> {
        let of_family = |address: &IpAddr| address.is_ipv4() == is_v4;
        let nic = self.nics.iter().find(|nic| nic.gateways.iter().any(of_family))?;
        nic.addresses.iter().map(IpNet::addr).find(of_family)
    }

    /// The output of `ip route` (or `ip -6 route`).
    pub fn routes(&self, is_v4: bool) -> String {
        let mut text = String::new();
        for (index, nic) in (0u32..).zip(&self.nics) {
            for gateway in nic.gateways.iter().filter(|gateway| gateway.is_ipv4() == is_v4) {
                let metric = 100 + index;
                let _ = writeln!(text, "default via {gateway} dev {} proto static metric {metric}", nic.name);
            }
        }
        for (index, nic) in (0u32..).zip(&self.nics) {
            let metric = 100 + index;
            for address in nic.addresses.iter().filter(|address| address.addr().is_ipv4() == is_v4) {
                let source = if is_v4 { format!(" scope link src {}", address.addr()) } else { String::new() };
                let _ = writeln!(text, "{} dev {} proto kernel{source} metric {metric}", address.trunc(), nic.name);
            }
            for (destination, gateway) in nic.routes.iter().filter(|(_, gateway)| gateway.is_ipv4() == is_v4) {
                let _ = writeln!(text, "{destination} via {gateway} dev {} proto static metric {metric}", nic.name);
            }
        }
        text
    }
}
