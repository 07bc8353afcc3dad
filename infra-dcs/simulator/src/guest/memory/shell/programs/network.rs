//! Programs that look at the network. Nothing is sent: what needs an answer from outside fails.

use std::net::IpAddr;

use super::{Context, Exit};

pub(super) fn ip(context: &mut Context<'_>) -> Exit {
    let mut is_v4 = true;
    let (mut brief, mut one_line) = (false, false);
    let mut words = Vec::new();
    for arg in context.args {
        match arg.as_str() {
            "-6" => is_v4 = false,
            "-4" => is_v4 = true,
            "-br" | "-brief" => brief = true,
            "-o" | "-oneline" => one_line = true,
            flag if flag.starts_with('-') => return context.fail(255, format!("Option \"{flag}\" is unknown")),
            word => words.push(word),
        }
    }
    let network = &context.machine.network;
    match words.as_slice() {
        ["r" | "ro" | "route", rest @ ..] => match rest {
            [] | ["show" | "list" | "ls"] => Exit::ok(network.routes(is_v4)),
            ["show" | "list" | "ls", "default"] => {
                let routes = network.routes(is_v4);
                let found: String = routes
                    .lines()
                    .filter(|line| line.starts_with("default "))
                    .map(|line| format!("{line}\n"))
                    .collect();
                Exit::ok(found)
            }
            ["get", target, ..] => match target.parse::<IpAddr>() {
                Ok(address) => match network.default_address(address.is_ipv4()) {
                    Some(source) => Exit::ok(format!("{address} src {source} uid 0\n")),
                    None => Exit::fail(2, "RTNETLINK answers: Network is unreachable"),
                },
                Err(_) => context.fail(1, format!("\"{target}\" is no address")),
            },
            _ => context.fail(1, "this image's ip shows routes and does not change them"),
        },
        ["a" | "addr" | "address" | "l" | "link", rest @ ..] => {
            let wanted = rest.iter().rfind(|word| !matches!(**word, "show" | "list" | "ls" | "dev"));
            if let Some(name) =
                wanted.filter(|name| network.nics.iter().all(|nic| nic.name != **name && **name != "lo"))
            {
                return Exit::fail(1, format!("Device \"{name}\" does not exist."));
            }
            let mut exit = Exit::default();
            for (index, nic) in (2..).zip(&network.nics).filter(|(_, nic)| wanted.is_none_or(|name| nic.name == **name))
            {
                let state = if nic.is_up { "UP" } else { "DOWN" };
                let addresses: Vec<String> = nic.addresses.iter().map(ToString::to_string).collect();
                if brief {
                    exit.print(format!("{} {state} {}\n", nic.name, addresses.join(" ")));
                    continue;
                }
                if one_line {
                    for address in &nic.addresses {
                        let family = if address.addr().is_ipv4() { "inet" } else { "inet6" };
                        exit.print(format!("{index}: {}    {family} {address} scope global {}\n", nic.name, nic.name));
                    }
                    continue;
                }
                exit.print(format!(
                    "{index}: {}: <BROADCAST,MULTICAST,{state}> mtu {} state {state}\n",
                    nic.name, nic.mtu
                ));
                exit.print(format!("    link/ether {} brd ff:ff:ff:ff:ff:ff\n", nic.mac));
                for address in nic.addresses.iter().filter(|_| !words[0].starts_with('l')) {
                    let family = if address.addr().is_ipv4() { "inet" } else { "inet6" };
                    exit.print(format!("    {family} {address} scope global {}\n", nic.name));
                }
            }
            exit
        }
        _ => context.fail(255, format!("Object \"{}\" is unknown to this image's ip", words.first().unwrap_or(&""))),
    }
}

pub(super) fn unreachable(context: &mut Context<'_>) -> Exit {
    let target = context.args.iter().rfind(|arg| !arg.starts_with('-')).map_or("", String::as_str);
    let code = match context.name {
        "curl" => 7,
        "wget" => 4,
        _ => 1,
    };
    context.fail(code, format!("{target}: this image reaches nothing outside but through kubeadm"))
}

pub(super) fn getent(context: &mut Context<'_>) -> Exit {
    let [database, keys @ ..] = context.args else { return context.fail(1, "wrong number of arguments") };
    let file = match database.as_str() {
        "passwd" => "/etc/passwd",
        "group" => "/etc/group",
        "hosts" | "ahosts" => "/etc/hosts",
        other => return context.fail(1, format!("Unknown database: {other}")),
    };
    let text = context.machine.root.read_text(file).unwrap_or_default();
    let mut exit = Exit::default();
    for line in text.lines() {
        let named = |key: &String| match file {
            "/etc/hosts" => line.split_whitespace().any(|word| word == key),
            _ => line.split(':').next() == Some(key),
        };
        if keys.is_empty() || keys.iter().any(named) {
            exit.print(format!("{line}\n"));
        }
    }
    if exit.stdout.is_empty() && !keys.is_empty() {
        exit.code = 2;
    }
    exit
}

pub(super) fn nmcli(context: &mut Context<'_>) -> Exit {
    let words: Vec<&str> = context.args.iter().map(String::as_str).filter(|arg| !arg.starts_with('-')).collect();
    match words.as_slice() {
        ["connection" | "con" | "c", "reload"] | ["general" | "g", ..] => Exit::default(),
        ["device" | "dev" | "d", "status"] | ["device" | "dev" | "d"] => {
            let mut exit = Exit::default();
            for nic in &context.machine.network.nics {
                let state = if nic.is_up { "connected" } else { "disconnected" };
                exit.print(format!("{} ethernet {state}\n", nic.name));
            }
            exit
        }
        _ => context.fail(2, "this image's nmcli does not change connections; write keyfiles instead"),
    }
}
