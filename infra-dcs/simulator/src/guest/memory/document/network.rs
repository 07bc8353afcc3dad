//! The network as cloud-init's sources describe it: OpenStack's `network_data.json`, and network configuration in
//! versions 1 and 2. Only wired NICs with fixed addresses: the simulated networks have no DHCP server, no VLANs, and
//! nothing to bond.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::reader::{Fields, Item, Read, wrong};
use crate::guest::memory::network::Profile;

/// Types of links in `network_data.json` that are wired NICs, of those that OpenStack names.
const WIRED: [&str; 12] =
    ["bridge", "cascading", "dvs", "ethernet", "hw_veb", "hyperv", "ovs", "phy", "tap", "vhostuser", "vif", "macvtap"];

fn address(item: &Item<'_>) -> Read<IpAddr> {
    let text = item.text()?;
    text.parse().or_else(|_| item.wrong(format!("{text:?} is no IP address")))
}

/// An address with its prefix: `10.0.0.1/24`, or `10.0.0.1` and a mask or prefix length.
fn net(path: &str, text: &str, mask: Option<&str>) -> Read<IpNet> {
    if text.contains('/') {
        return text.parse().or_else(|_| wrong(path, format!("{text:?} is no address with a prefix")));
    }
    let Ok(address) = text.parse::<IpAddr>() else { return wrong(path, format!("{text:?} is no IP address")) };
    let Some(mask) = mask else { return wrong(path, format!("{text:?} has neither a prefix nor a netmask")) };
    let prefix = match mask.parse::<IpAddr>() {
        Ok(mask) => ipnet::ip_mask_to_prefix(mask).ok(),
        Err(_) => mask.parse().ok(),
    };
    let net = prefix.and_then(|prefix| IpNet::new(address, prefix).ok());
    match net {
        Some(net) => Ok(net),
        None => wrong(path, format!("{mask:?} is no netmask for {address}")),
    }
}

/// Adds a route; those to everywhere are gateways.
fn route(profile: &mut Profile, destination: IpNet, gateway: IpAddr) {
    if destination.prefix_len() == 0 {
        profile.gateways.push(gateway);
    } else {
        profile.routes.push((destination, gateway));
    }
}

fn mtu(fields: &Fields<'_>) -> Read<Option<u32>> {
    match fields.integer("mtu")? {
        None => Ok(None),
        Some(mtu) => match u32::try_from(mtu).ok().filter(|mtu| (68..=65_536).contains(mtu)) {
            Some(mtu) => Ok(Some(mtu)),
            None => wrong(fields.path("mtu"), format!("{mtu} is no MTU")),
        },
    }
}

/// Reads `network_data.json`.
pub fn openstack(bytes: &[u8]) -> Read<Vec<Profile>> {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return wrong("network_data.json", "not JSON");
    };
    let item = Item::new("network_data.json", &value);
    let fields = item.fields()?;
    let mut profiles: Vec<(String, Profile)> = fields.each("links", |link| {
        let id = link.required("id")?;
        let kind = link.text("type")?.unwrap_or_else(|| "phy".to_owned());
        if !WIRED.contains(&kind.as_str()) {
            return wrong(link.path("type"), format!("links of type {kind:?} are not played by this image"));
        }
        let mac = link.text("ethernet_mac_address")?.map(|mac| mac.to_ascii_lowercase());
        let interface = link.text("name")?;
        if mac.is_none() && interface.is_none() {
            return link.wrong("No mac_address or name entry");
        }
        for name in ["vif_id", "tap_id"] {
            link.text(name)?;
        }
        // A name given beside a hardware address renames the NIC; it is found by the address either way.
        let interface = interface.filter(|_| mac.is_none());
        Ok((
            id.clone(),
            Profile { origin: link.path("id") + "=" + &id, interface, mac, mtu: mtu(link)?, ..Profile::default() },
        ))
    })?;
    for network in fields.list("networks")? {
        let network_fields = network.fields()?;
        openstack_network(&network_fields, &mut profiles)?;
        network_fields.finish()?;
    }
    let services = services(&fields)?;
    if let Some((_, first)) = profiles.first_mut() {
        let known = first.name_servers.clone();
        first.name_servers.extend(services.into_iter().filter(|server| !known.contains(server)));
    }
    fields.finish()?;
    Ok(profiles.into_iter().map(|(_, profile)| profile).collect())
}

fn services(fields: &Fields<'_>) -> Read<Vec<IpAddr>> {
    fields.each("services", |service| {
        let kind = service.required("type")?;
        if kind != "dns" {
            return wrong(service.path("type"), format!("services of type {kind:?} are not known"));
        }
        match service.get("address") {
            Some(item) => address(&item),
            None => wrong(service.path("address"), "is required"),
        }
    })
}

fn openstack_network(fields: &Fields<'_>, profiles: &mut [(String, Profile)]) -> Read<()> {
    for name in ["id", "network_id"] {
        fields.text(name)?;
    }
    let link = fields.required("link")?;
    let Some((_, profile)) = profiles.iter_mut().find(|(id, _)| *id == link) else {
        return wrong(fields.path("link"), format!("there is no link {link:?}"));
    };
    let kind = fields.required("type")?;
    if !matches!(kind.as_str(), "ipv4" | "ipv6") {
        return wrong(
            fields.path("type"),
            format!("networks of type {kind:?} are not played by this image: no DHCP server"),
        );
    }
    let mask = fields.text("netmask")?;
    let found = net(&fields.path("ip_address"), &fields.required("ip_address")?, mask.as_deref())?;
    if found.addr().is_ipv4() != (kind == "ipv4") {
        return wrong(fields.path("ip_address"), format!("{} is no {kind} address", found.addr()));
    }
    profile.addresses.push(found);
    let routes = fields.each("routes", |route| {
        let destination = net(&route.path("network"), &route.required("network")?, route.text("netmask")?.as_deref())?;
        match route.get("gateway") {
            Some(item) => Ok((destination, address(&item)?)),
            None => wrong(route.path("gateway"), "is required"),
        }
    })?;
    if let Some(item) = fields.get("gateway") {
        profile.gateways.push(address(&item)?);
    }
    for (destination, gateway) in routes {
        route(profile, destination, gateway);
    }
    let mut servers: Vec<IpAddr> = fields.list("dns_nameservers")?.iter().map(address).collect::<Read<_>>()?;
    servers.extend(services(fields)?);
    for server in servers {
        if !profile.name_servers.contains(&server) {
            profile.name_servers.push(server);
        }
    }
    Ok(())
}

/// Reads a network configuration of version 1 or 2.
pub fn cloud_init(value: &Value) -> Read<Vec<Profile>> {
    let top = Item::new("network-config", value);
    let fields = top.fields()?;
    // The whole may stand below `network`.
    let inner = fields.get("network");
    if let Some(inner) = &inner {
        fields.finish()?;
        return versions(&inner.fields()?);
    }
    versions(&fields)
}

fn versions(fields: &Fields<'_>) -> Read<Vec<Profile>> {
    let profiles = match fields.integer("version")? {
        Some(1) => version_1(fields)?,
        Some(2) => version_2(fields)?,
        _ => return wrong(fields.path("version"), "must be 1 or 2"),
    };
    fields.finish()?;
    Ok(profiles)
}

fn version_1(fields: &Fields<'_>) -> Read<Vec<Profile>> {
    let mut servers = Vec::new();
    let mut profiles = Vec::new();
    for item in fields.list("config")? {
        let entry = item.fields()?;
        match entry.required("type")?.as_str() {
            "physical" => {
                let mac = entry.text("mac_address")?.map(|mac| mac.to_ascii_lowercase());
                let interface = Some(entry.required("name")?).filter(|_| mac.is_none());
                let mut profile =
                    Profile { origin: item.path.clone(), interface, mac, mtu: mtu(&entry)?, ..Profile::default() };
                entry.boolean("accept-ra")?;
                for subnet in entry.list("subnets")? {
                    let subnet = subnet.fields()?;
                    subnet_1(&subnet, &mut profile)?;
                    subnet.finish()?;
                }
                profiles.push(profile);
            }
            "nameserver" => {
                servers.extend(one_or_more(&entry, "address")?);
                if let Some(item) = entry.get("search") {
                    item.text().map(|_| ()).or_else(|_| item.texts().map(|_| ()))?;
                }
                entry.text("interface")?;
            }
            kind => return wrong(entry.path("type"), format!("{kind:?} is not played by this image")),
        }
        entry.finish()?;
    }
    if let Some(first) = profiles.first_mut() {
        first.name_servers.extend(servers);
    }
    Ok(profiles)
}

fn one_or_more(fields: &Fields<'_>, name: &'static str) -> Read<Vec<IpAddr>> {
    match fields.get(name) {
        None => Ok(Vec::new()),
        Some(item) if item.value.is_array() => item.list()?.iter().map(address).collect(),
        Some(item) => Ok(vec![address(&item)?]),
    }
}

fn subnet_1(fields: &Fields<'_>, profile: &mut Profile) -> Read<()> {
    let kind = fields.required("type")?;
    if kind == "manual" {
        return Ok(());
    }
    if !matches!(kind.as_str(), "static" | "static6") {
        return wrong(fields.path("type"), format!("{kind:?} is not played by this image: no DHCP server"));
    }
    let mask = fields.text("netmask")?;
    profile.addresses.push(net(&fields.path("address"), &fields.required("address")?, mask.as_deref())?);
    if let Some(item) = fields.get("gateway") {
        profile.gateways.push(address(&item)?);
    }
    profile.name_servers.extend(one_or_more(fields, "dns_nameservers")?);
    if let Some(item) = fields.get("dns_search") {
        item.text().map(|_| ()).or_else(|_| item.texts().map(|_| ()))?;
    }
    fields.text("control")?;
    let routes = fields.each("routes", |fields| {
        let text = match fields.text("destination")? {
            Some(text) => text,
            None => fields.required("network")?,
        };
        fields.integer("metric")?;
        let destination = net(&fields.path("network"), &text, fields.text("netmask")?.as_deref())?;
        match fields.get("gateway") {
            Some(item) => Ok((destination, address(&item)?)),
            None => wrong(fields.path("gateway"), "is required"),
        }
    })?;
    for (destination, gateway) in routes {
        route(profile, destination, gateway);
    }
    Ok(())
}

fn version_2(fields: &Fields<'_>) -> Read<Vec<Profile>> {
    fields.text("renderer")?;
    let mut profiles = Vec::new();
    let Some(ethernets) = fields.get("ethernets") else { return Ok(profiles) };
    for (id, value) in ethernets.map()? {
        let item = Item::new(format!("{}.{id}", ethernets.path), value);
        let entry = item.fields()?;
        let (mut mac, mut name) = (None, None);
        let matches = entry.get("match").is_some();
        entry.within("match", |matched| {
            mac = matched.text("macaddress")?.map(|mac| mac.to_ascii_lowercase());
            name = matched.text("name")?;
            matched.text("driver")?;
            Ok(())
        })?;
        entry.text("set-name")?;
        entry.boolean("optional")?;
        for family in ["dhcp4", "dhcp6"] {
            if entry.boolean(family)? == Some(true) {
                return wrong(entry.path(family), "not played by this image: no DHCP server");
            }
        }
        entry.boolean("accept-ra")?;
        let interface = if matches { name } else { Some(id.clone()) };
        let mut profile =
            Profile { origin: item.path.clone(), interface, mac, mtu: mtu(&entry)?, ..Profile::default() };
        for item in entry.list("addresses")? {
            profile.addresses.push(net(&item.path, &item.text()?, None)?);
        }
        for gateway in ["gateway4", "gateway6"] {
            if let Some(item) = entry.get(gateway) {
                profile.gateways.push(address(&item)?);
            }
        }
        entry.within("nameservers", |servers| {
            servers.texts("search")?;
            profile.name_servers = servers.list("addresses")?.iter().map(address).collect::<Read<_>>()?;
            Ok(())
        })?;
        let routes = entry.each("routes", |fields| {
            let to = fields.required("to")?;
            fields.integer("metric")?;
            fields.boolean("on-link")?;
            let via = match fields.get("via") {
                Some(item) => address(&item)?,
                None => return wrong(fields.path("via"), "is required"),
            };
            let everywhere = if via.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            let to = if to == "default" { everywhere } else { &to };
            Ok((net(&fields.path("to"), to, None)?, via))
        })?;
        for (destination, gateway) in routes {
            route(&mut profile, destination, gateway);
        }
        entry.finish()?;
        profiles.push(profile);
    }
    Ok(profiles)
}
