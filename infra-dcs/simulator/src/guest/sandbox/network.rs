//! NICs: veth pairs between the site's bridge and a machine's network namespace.

use tokio::process::Command;

use super::command;
use crate::guest::{GuestError, GuestNic};

/// Plugs a bare NIC into the network namespace of process `pid`: hardware address and cable, nothing else.
pub async fn plug(bridge: &str, id: &str, nic: &GuestNic, pid: i32) -> Result<(), GuestError> {
    let port = port_name(id, nic.index);
    let pid = pid.to_string();
    let name = format!("eth{}", nic.index);
    // A port left over from a machine of this name that did not end cleanly.
    unplug(id, nic.index).await;
    ip(&["link", "add", &port, "type", "veth", "peer", "name", &name, "address", &nic.mac, "netns", &pid]).await?;
    ip(&["link", "set", &port, "master", bridge, "up"]).await
}

/// Removes the site's end of a NIC; it goes by itself with the machine's namespace, only later.
pub async fn unplug(id: &str, index: u32) {
    // Not being there is what is wanted.
    let _ = ip(&["link", "delete", &port_name(id, index)]).await;
}

/// Name of the site's end: interface names have at most 15 characters.
fn port_name(id: &str, index: u32) -> String {
    let tail: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let keep = tail.len().saturating_sub(10);
    format!("g{}.{index}", &tail[keep..])
}

async fn ip(arguments: &[&str]) -> Result<(), GuestError> {
    command::output(Command::new("ip").args(arguments)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_fit_an_interface_name() {
        assert_eq!(port_name("i-0000000A", 0), "gi0000000A.0");
        assert!(port_name("i-123456789012345", 12).len() <= 15);
    }
}
