//! What guest tools would tell: host name and addresses, looked up from outside in the machine's namespaces.

use std::{fs, net::IpAddr};

use serde::Deserialize;
use tokio::process::Command;

use super::command;
use crate::guest::GuestError;

/// What a guest says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Host name.
    pub hostname: String,
    /// Global addresses by hardware address of the physical NIC that carries them.
    pub addresses: Vec<(String, IpAddr)>,
}

impl Facts {
    /// Whether the guest has come up far enough to have tools running: it has a name and an address.
    pub fn is_up(&self) -> bool {
        !self.hostname.is_empty() && self.hostname != "localhost" && !self.addresses.is_empty()
    }
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: Option<IpAddr>,
    #[serde(default)]
    scope: String,
}

/// Whatever the kernel shows from outside of the addresses that the NICs of process `pid` carry: empty as long as there
/// are none, another text when they change. Costs two reads.
pub fn addresses_at_a_glance(pid: i32) -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    glance(&read("route"), &read("if_inet6"))
}

/// A NIC with an IPv4 address has a route to its own network; IPv6 addresses are listed with their scope, 00 is global.
fn glance(routes: &str, inet6: &str) -> String {
    let own =
        routes.lines().filter(|line| line.starts_with("eth") && line.split_whitespace().nth(2) == Some("00000000"));
    let global = inet6.lines().filter(|line| {
        let mut fields = line.split_whitespace().skip(3);
        fields.next() == Some("00") && fields.nth(1).is_some_and(|name| name.starts_with("eth"))
    });
    own.chain(global).collect::<Vec<_>>().join("\n")
}

/// Asks the namespaces of process `pid`.
pub async fn ask(pid: i32) -> Result<Facts, GuestError> {
    let script = "hostname; exec ip -json address show up";
    let answer = command::output(Command::new("nsenter").args([
        "--target",
        &pid.to_string(),
        "--net",
        "--uts",
        "--",
        "sh",
        "-c",
        script,
    ]))
    .await?;
    let (hostname, links) = answer.split_once('\n').unwrap_or((&answer, "[]"));
    parse(hostname, links).map_err(|error| GuestError::Host { what: "guest tools".into(), reason: error.to_string() })
}

fn parse(hostname: &str, links: &str) -> serde_json::Result<Facts> {
    let links: Vec<Link> = serde_json::from_str(links)?;
    let mut addresses = Vec::new();
    // Only the machine's own NICs: bridges and pod interfaces are no business of the site.
    for link in links.into_iter().filter(|link| link.ifname.starts_with("eth")) {
        for address in link.addr_info {
            if let (Some(local), "global") = (address.local, address.scope.as_str()) {
                addresses.push((link.address.clone(), local));
            }
        }
    }
    Ok(Facts { hostname: hostname.trim().to_owned(), addresses })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_show_in_the_routes_and_in_the_list_of_ipv6() {
        let head = "Iface\tDestination\tGateway \tFlags\n";
        let own = "eth0\t00004D0A\t00000000\t0001\n";
        let others = "eth0\t00000000\t01004D0A\t0003\ncni0\t0000F40A\t00000000\t0001\n";
        assert_eq!(glance(head, ""), "");
        assert_eq!(glance(&format!("{head}{others}"), ""), "", "neither gateways nor bridges of pods");
        assert_eq!(glance(&format!("{head}{own}{others}"), ""), own.trim_end());
        let link = "fe800000000000002a6ed4fffe000001 02 40 20 80     eth0\n";
        let global = "fd000000000000000000000000000011 02 40 00 80     eth0\n";
        let loopback = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(glance(head, &format!("{loopback}{link}{global}")), global.trim_end());
    }

    #[test]
    fn only_global_addresses_of_nics_count() {
        let links = r#"[{},{"ifname":"lo","address":"00:00:00:00:00:00","addr_info":[{"local":"127.0.0.1","scope":"host"}]},
            {"ifname":"eth0","address":"28:6e:d4:00:00:01","addr_info":[{"local":"10.77.1.1","scope":"global"},{"local":"fe80::1","scope":"link"}]},
            {"ifname":"cni0","address":"aa:aa:aa:aa:aa:aa","addr_info":[{"local":"10.244.0.1","scope":"global"}]}]"#;
        let facts = parse("cp-1\n", links).unwrap();
        assert_eq!(facts.addresses, [("28:6e:d4:00:00:01".to_owned(), "10.77.1.1".parse().unwrap())]);
        assert!(facts.is_up());
        assert!(!parse("localhost", links).unwrap().is_up());
        assert!(!parse("cp-1", "[]").unwrap().is_up());
    }
}
