//! The guest's network: NetworkManager keyfiles, resolver, and the config drive's `network_data.json`.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::json;

use super::RenderError;
use crate::api::machine::NetworkConfig;

/// Length of an IPv6 prefix that says none.
const DEFAULT_PREFIX6: u8 = 64;

/// A NIC, with its texts read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nic {
    address: Option<Ipv4Net>,
    address6: Option<Ipv6Net>,
    gateway: Option<Ipv4Addr>,
    dns: Vec<IpAddr>,
}

/// The NICs of a pool entry, the primary one first.
pub(super) fn nics(network: &NetworkConfig) -> Result<Vec<Nic>, RenderError> {
    let key = network.ip.clone().unwrap_or_default();
    let wrong = |reason: String| RenderError::Network { ip: key.clone(), reason };
    let primary = nic(&network.ip, &network.ipv6, &network.mask, &network.gateway, &network.dns).map_err(wrong)?;
    if primary.address.is_none() {
        return Err(wrong("ip must be given".to_owned()));
    }
    let mut nics = vec![primary];
    for (index, other) in network.addition_nic.iter().enumerate() {
        let nic = nic(&other.ip, &other.ipv6, &other.mask, &other.gateway, &other.dns);
        nics.push(nic.map_err(|reason| wrong(format!("additionNic[{index}]: {reason}")))?);
    }
    Ok(nics)
}

type Text = Option<String>;

fn nic(ip: &Text, ipv6: &Text, mask: &Text, gateway: &Text, dns: &Text) -> Result<Nic, String> {
    let given = |text: &Text| text.clone().filter(|text| !text.trim().is_empty());
    let address = match given(ip) {
        None => None,
        Some(ip) => {
            let address: Ipv4Addr = ip.parse().map_err(|_| format!("ip {ip:?} is no IPv4 address"))?;
            let mask = given(mask).unwrap_or_default();
            let prefix = mask.parse().ok().and_then(|prefix| Ipv4Net::new(address, prefix).ok());
            Some(prefix.ok_or_else(|| format!("mask {mask:?} is no prefix length such as \"24\""))?)
        }
    };
    let address6 = match given(ipv6) {
        None => None,
        Some(text) => {
            let parsed = text
                .parse::<Ipv6Net>()
                .ok()
                .or_else(|| Ipv6Net::new(text.parse::<Ipv6Addr>().ok()?, DEFAULT_PREFIX6).ok());
            Some(parsed.ok_or_else(|| format!("ipv6 {text:?} is no IPv6 address"))?)
        }
    };
    let gateway = match given(gateway) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| format!("gateway {text:?} is no IPv4 address"))?),
    };
    let dns = given(dns).unwrap_or_default();
    let servers = dns.split(';').map(str::trim).filter(|text| !text.is_empty());
    let dns = servers
        .map(|text| text.parse().map_err(|_| format!("dns {text:?} is no address; separate servers by ';'")))
        .collect::<Result<_, _>>()?;
    Ok(Nic { address, address6, gateway, dns })
}

/// The keyfile of the NIC that the guest sees as `eth<index>`.
pub(super) fn keyfile(index: usize, nic: &Nic) -> String {
    let mut text = format!(
        "[connection]\nid=eth{index}\ntype=ethernet\ninterface-name=eth{index}\nautoconnect=true\nautoconnect-priority=100\n\n\
         [ethernet]\n\n[ipv4]\n"
    );
    let (mut servers4, mut servers6) = (String::new(), String::new());
    for server in &nic.dns {
        let servers = if server.is_ipv4() { &mut servers4 } else { &mut servers6 };
        let _ = write!(servers, "{server};");
    }
    match nic.address {
        None => text.push_str("method=disabled\n"),
        Some(address) => {
            let gateway = nic.gateway.map(|gateway| format!(",{gateway}")).unwrap_or_default();
            let _ = writeln!(text, "method=manual\naddress1={address}{gateway}");
            if nic.gateway.is_none() && index > 0 {
                // Without a gateway of its own it must not take the default route.
                text.push_str("never-default=true\n");
            }
            if !servers4.is_empty() {
                let _ = writeln!(text, "dns={servers4}");
            }
        }
    }
    text.push_str("\n[ipv6]\n");
    match nic.address6 {
        None => text.push_str("method=disabled\n"),
        Some(address) => {
            let _ = writeln!(text, "method=manual\naddress1={address}");
            if !servers6.is_empty() {
                let _ = writeln!(text, "dns={servers6}");
            }
        }
    }
    text
}

/// The resolver's file: every server once, in order.
pub(super) fn resolv_conf(nics: &[Nic]) -> String {
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in nics.iter().flat_map(|nic| &nic.dns) {
        if !servers.contains(server) {
            servers.push(*server);
        }
    }
    servers.iter().fold(String::new(), |mut text, server| {
        let _ = writeln!(text, "nameserver {server}");
        text
    })
}

/// `network_data.json` of a config drive (OpenStack's format).
pub(super) fn network_data(nics: &[Nic]) -> Result<Vec<u8>, RenderError> {
    let (mut links, mut networks, mut services) = (Vec::new(), Vec::new(), Vec::new());
    for (index, nic) in nics.iter().enumerate() {
        let name = format!("eth{index}");
        links.push(json!({"id": name, "name": name, "type": "phy", "mtu": null}));
        let dns: Vec<_> = nic.dns.iter().map(ToString::to_string).collect();
        if let Some(address) = nic.address {
            let routes: Vec<_> = nic
                .gateway
                .iter()
                .map(|gateway| json!({"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": gateway.to_string()}))
                .collect();
            networks.push(json!({
                "id": format!("{name}-ipv4"), "link": name, "type": "ipv4",
                "ip_address": address.addr().to_string(), "netmask": address.netmask().to_string(),
                "routes": routes, "dns_nameservers": dns,
            }));
        }
        if let Some(address) = nic.address6 {
            networks.push(json!({
                "id": format!("{name}-ipv6"), "link": name, "type": "ipv6",
                "ip_address": address.addr().to_string(), "netmask": address.netmask().to_string(), "routes": [],
            }));
        }
        services.extend(dns.into_iter().map(|address| json!({"type": "dns", "address": address})));
    }
    Ok(serde_json::to_vec(&json!({"links": links, "networks": networks, "services": services}))?)
}
