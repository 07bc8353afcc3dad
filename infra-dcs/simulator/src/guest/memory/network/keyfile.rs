//! NetworkManager's keyfiles, as far as wired connections with fixed addresses go. Format: the manual page
//! nm-settings-keyfile(5).

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{NetworkError, Profile, wrong};
use crate::guest::memory::root::{Kind, Root};

/// Where profiles lie.
pub const FOLDER: &str = "/etc/NetworkManager/system-connections";

/// Keys of the sections that are read; whatever else they hold would be lost silently.
const CONNECTION: &[&str] = &[
    "id",
    "uuid",
    "type",
    "interface-name",
    "autoconnect",
    "autoconnect-priority",
    "autoconnect-retries",
    "permissions",
    "timestamp",
    "wait-device-timeout",
    "zone",
    "multi-connect",
];
const ETHERNET: &[&str] = &["mac-address", "mtu", "cloned-mac-address", "wake-on-lan", "auto-negotiate"];
const ADDRESSES: &[&str] = &[
    "method",
    "gateway",
    "dns",
    "dns-search",
    "dns-priority",
    "dns-options",
    "never-default",
    "may-fail",
    "ignore-auto-dns",
    "ignore-auto-routes",
    "route-metric",
    "addr-gen-mode",
    "ip6-privacy",
    "dad-timeout",
    "required-timeout",
];

/// The profiles that NetworkManager would bring up, in the order in which it does.
pub fn profiles(root: &Root) -> Result<Vec<Profile>, NetworkError> {
    let mut found = Vec::new();
    for name in root.list(FOLDER).unwrap_or_default() {
        let path = format!("{FOLDER}/{name}");
        let Ok(metadata) = root.metadata(&path) else { continue };
        // The names that NetworkManager passes over.
        if metadata.kind != Kind::File || name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if !name.ends_with(".nmconnection") {
            continue;
        }
        if metadata.mode & 0o077 != 0 || metadata.owner.uid != 0 {
            let reason = format!(
                "NetworkManager ignores it: it must belong to root with mode 0600, and has {:04o} of user {}",
                metadata.mode, metadata.owner.uid
            );
            return Err(wrong(path, reason));
        }
        let text = root.read_text(&path).map_err(|error| wrong(&path, error.to_string()))?;
        if let Some(profile) = parse(&path, &text)? {
            found.push(profile);
        }
    }
    // The higher priority first; names decide between equals.
    found.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    Ok(found.into_iter().map(|(_, profile)| profile).collect())
}

/// Writes a profile as a keyfile, as cloud-init's renderer for NetworkManager does.
pub fn render(profile: &Profile, name: &str) -> String {
    let mut text = format!("[connection]\nid=cloud-init {name}\ntype=ethernet\nautoconnect-priority=120\n");
    if let Some(interface) = &profile.interface {
        text.push_str(&format!("interface-name={interface}\n"));
    }
    text.push_str("\n[ethernet]\n");
    if let Some(mac) = &profile.mac {
        text.push_str(&format!("mac-address={mac}\n"));
    }
    if let Some(mtu) = profile.mtu {
        text.push_str(&format!("mtu={mtu}\n"));
    }
    for (name, is_v4) in [("ipv4", true), ("ipv6", false)] {
        text.push_str(&format!("\n[{name}]\n"));
        let addresses: Vec<_> = profile.addresses.iter().filter(|address| address.addr().is_ipv4() == is_v4).collect();
        if addresses.is_empty() {
            text.push_str("method=disabled\n");
            continue;
        }
        text.push_str("method=manual\n");
        for (number, address) in (1..).zip(addresses) {
            text.push_str(&format!("address{number}={address}\n"));
        }
        let of_family = |address: &&IpAddr| address.is_ipv4() == is_v4;
        if let Some(gateway) = profile.gateways.iter().find(of_family) {
            text.push_str(&format!("gateway={gateway}\n"));
        } else {
            text.push_str("never-default=true\n");
        }
        for (number, (destination, gateway)) in
            (1..).zip(profile.routes.iter().filter(|(_, gateway)| gateway.is_ipv4() == is_v4))
        {
            text.push_str(&format!("route{number}={destination},{gateway}\n"));
        }
        let servers: String =
            profile.name_servers.iter().filter(of_family).map(|server| format!("{server};")).collect();
        if !servers.is_empty() {
            text.push_str(&format!("dns={servers}\n"));
        }
    }
    text
}

type Sections = BTreeMap<String, BTreeMap<String, String>>;

fn sections(path: &str, text: &str) -> Result<Sections, NetworkError> {
    let mut sections = Sections::new();
    let mut current = None::<String>;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.entry(name.to_owned()).or_default();
            current = Some(name.to_owned());
            continue;
        }
        let (Some(section), Some((key, value))) = (&current, line.split_once('=')) else {
            return Err(wrong(path, format!("line {number} is neither a [section] nor key=value")));
        };
        sections.entry(section.clone()).or_default().insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(sections)
}

/// A profile with its priority; none where it does not connect by itself.
fn parse(path: &str, text: &str) -> Result<Option<(i32, Profile)>, NetworkError> {
    let sections = sections(path, text)?;
    let bad = |reason: String| wrong(path, reason);
    for (name, keys) in &sections {
        let known: &[&str] = match name.as_str() {
            "connection" => CONNECTION,
            "ethernet" | "802-3-ethernet" => ETHERNET,
            "ipv4" | "ipv6" => ADDRESSES,
            "proxy" | "user" => continue,
            _ => return Err(bad(format!("section [{name}] is not known to this image"))),
        };
        let is_list = |key: &str| {
            let digits = |prefix: &str| {
                key.strip_prefix(prefix)
                    .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
            };
            known == ADDRESSES && (digits("address") || digits("route"))
        };
        if let Some(key) = keys.keys().find(|key| !known.contains(&key.as_str()) && !is_list(key)) {
            return Err(bad(format!("[{name}] has no key {key}")));
        }
    }
    let empty = BTreeMap::new();
    let section = |name: &str| sections.get(name).unwrap_or(&empty);
    let connection = section("connection");
    match connection.get("type").map(String::as_str) {
        Some("ethernet" | "802-3-ethernet") => {}
        Some(other) => return Err(bad(format!("connection.type {other:?} is not known to this image; use ethernet"))),
        None => return Err(bad("connection.type is missing".to_owned())),
    }
    if connection.get("autoconnect").is_some_and(|value| value == "false") {
        return Ok(None);
    }
    let number = |what: &str, text: &String| text.parse().map_err(|_| bad(format!("{what} {text:?} is no number")));
    let priority = connection.get("autoconnect-priority").map(|text| number("connection.autoconnect-priority", text));
    let ethernet = sections.get("ethernet").or_else(|| sections.get("802-3-ethernet")).unwrap_or(&empty);
    let mut profile = Profile {
        origin: path.to_owned(),
        interface: connection.get("interface-name").cloned(),
        mac: ethernet.get("mac-address").map(|mac| mac.to_ascii_lowercase()),
        mtu: match ethernet.get("mtu") {
            Some(text) => u32::try_from(number("ethernet.mtu", text)?).ok().filter(|mtu| *mtu > 0),
            None => None,
        },
        ..Profile::default()
    };
    for (name, is_v4) in [("ipv4", true), ("ipv6", false)] {
        family(path, name, is_v4, section(name), &mut profile)?;
    }
    Ok(Some((priority.transpose()?.unwrap_or_default(), profile)))
}

fn family(
    path: &str,
    name: &str,
    is_v4: bool,
    keys: &BTreeMap<String, String>,
    profile: &mut Profile,
) -> Result<(), NetworkError> {
    let bad = |reason: String| wrong(path, format!("[{name}] {reason}"));
    let address = |what: &str, text: &str| {
        text.parse::<IpAddr>()
            .ok()
            .filter(|address| address.is_ipv4() == is_v4)
            .ok_or_else(|| bad(format!("{what}: {text:?} is no address of this family")))
    };
    let listed = |prefix: &str| {
        let mut found: Vec<(u32, &String)> =
            keys.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.parse().ok()?, value))).collect();
        found.sort_by_key(|(number, _)| *number);
        found
    };
    let (addresses, routes) = (listed("address"), listed("route"));
    let method = keys.get("method").map(String::as_str);
    match method {
        Some("manual") if addresses.is_empty() => return Err(bad("method=manual needs address1".to_owned())),
        Some("manual") => {}
        Some("disabled" | "ignore" | "link-local") | None if addresses.is_empty() => return Ok(()),
        // Nobody answers in the simulated networks.
        Some("auto" | "dhcp") => {
            return if is_v4 { Err(bad("method=auto: no DHCP server on this network".to_owned())) } else { Ok(()) };
        }
        _ => return Err(bad(format!("method {:?} does not go with addresses", method.unwrap_or_default()))),
    }
    let never_default = keys.get("never-default").is_some_and(|value| value == "true" || value == "1");
    let mut gateways = Vec::new();
    for (number, text) in addresses {
        let what = format!("address{number}");
        let mut parts = text.split(',').map(str::trim);
        let first = parts.next().unwrap_or_default();
        let net = match first.split_once('/') {
            Some(_) => first.parse::<IpNet>().ok(),
            None => first.parse::<IpAddr>().ok().map(IpNet::from),
        };
        let net = net.filter(|net| net.addr().is_ipv4() == is_v4);
        profile.addresses.push(net.ok_or_else(|| bad(format!("{what}: {first:?} is no address with a prefix")))?);
        if let Some(text) = parts.next().filter(|text| !text.is_empty()) {
            gateways.push(address(&what, text)?);
        }
        if parts.next().is_some() {
            return Err(bad(format!("{what}: {text:?} has more than an address and a gateway")));
        }
    }
    if let Some(text) = keys.get("gateway") {
        gateways.push(address("gateway", text)?);
    }
    if !never_default {
        profile.gateways.extend(gateways.first());
    }
    for (number, text) in routes {
        let what = format!("route{number}");
        let mut parts = text.split(',').map(str::trim);
        let first = parts.next().unwrap_or_default();
        let destination: IpNet =
            first.parse().map_err(|_| bad(format!("{what}: {first:?} is no network with a prefix")))?;
        let via = parts.next().filter(|text| !text.is_empty()).ok_or_else(|| bad(format!("{what} has no gateway")))?;
        profile.routes.push((destination, address(&what, via)?));
    }
    for server in keys.get("dns").into_iter().flat_map(|text| text.split([';', ','])) {
        let server = server.trim();
        if !server.is_empty() {
            profile.name_servers.push(address("dns", server)?);
        }
    }
    Ok(())
}
