//! Programs that ask and tell the system about itself.

use super::{Context, Exit, Flags, ended};

/// What succeeds and changes nothing here.
pub(super) fn nothing(_context: &mut Context<'_>) -> Exit {
    Exit::default()
}

pub(super) fn constant(context: &mut Context<'_>) -> Exit {
    Exit::ok(if context.name == "arch" { "x86_64\n" } else { "2\n" })
}

pub(super) fn hostname(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "sfidIA", "F", &[("short", 's'), ("fqdn", 'f'), ("all-ip-addresses", 'I')])?;
        if flags.has('I') || flags.has('i') {
            let addresses: Vec<_> =
                context.machine.network.addresses().into_iter().map(|(_, address)| address.to_string()).collect();
            return Ok(Exit::ok(addresses.join(" ") + "\n"));
        }
        if let Some(name) = flags.operands.first() {
            context.machine.hostname = name.clone();
            return Ok(Exit::default());
        }
        let name = &context.machine.hostname;
        let short = name.split('.').next().unwrap_or_default();
        Ok(Exit::ok(format!("{}\n", if flags.has('s') { short } else { name })))
    })())
}

pub(super) fn hostnamectl(context: &mut Context<'_>) -> Exit {
    let args: Vec<&str> = context.args.iter().map(String::as_str).filter(|arg| !arg.starts_with("--")).collect();
    match args.as_slice() {
        [] | ["status"] => Exit::ok(format!(" Static hostname: {}\n", context.machine.hostname)),
        ["hostname"] => Exit::ok(format!("{}\n", context.machine.hostname)),
        ["set-hostname" | "hostname", name] => {
            let name = (*name).to_owned();
            if let Err(error) = context.machine.root.write("/etc/hostname", format!("{name}\n").into_bytes()) {
                return context.fail(1, error);
            }
            context.machine.hostname = name;
            Exit::default()
        }
        [verb, ..] => context.fail(1, format!("Unknown command verb {verb}.")),
    }
}

pub(super) fn uname(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "asnrvmpio", "", &[("all", 'a')])?;
        let name = context.machine.hostname.clone();
        let parts = [('s', "Linux"), ('n', name.as_str()), ('r', "6.1.0"), ('m', "x86_64")];
        let wanted = |letter: char| flags.has('a') || flags.has(letter) || (flags.set.is_empty() && letter == 's');
        let shown: Vec<&str> = parts.iter().filter(|(letter, _)| wanted(*letter)).map(|(_, text)| *text).collect();
        Ok(Exit::ok(shown.join(" ") + "\n"))
    })())
}

pub(super) fn id(context: &mut Context<'_>) -> Exit {
    if context.name == "whoami" {
        return Exit::ok("root\n");
    }
    ended((|| {
        let flags = Flags::parse(context, "ugnrG", "", &[("user", 'u'), ("group", 'g'), ("name", 'n')])?;
        let name = flags.operands.first().map_or("root", String::as_str);
        let Some(user) = context.machine.root.user(name) else {
            return Err(context.fail(1, format!("'{name}': no such user")));
        };
        let (_, group) = context.machine.root.owner_names(user.owner);
        let (uid, gid) = (user.owner.uid, user.owner.gid);
        Ok(Exit::ok(match (flags.has('u'), flags.has('g') || flags.has('G'), flags.has('n')) {
            (true, _, false) => format!("{uid}\n"),
            (true, _, true) => format!("{name}\n"),
            (_, true, false) => format!("{gid}\n"),
            (_, true, true) => format!("{group}\n"),
            _ => format!("uid={uid}({name}) gid={gid}({group}) groups={gid}({group})\n"),
        }))
    })())
}

pub(super) fn date(context: &mut Context<'_>) -> Exit {
    let milliseconds = i64::try_from(context.machine.clock.now()).unwrap_or(i64::MAX);
    let Ok(now) = jiff::Timestamp::from_millisecond(milliseconds) else { return context.fail(1, "invalid time") };
    let format = context.args.iter().find_map(|arg| arg.strip_prefix('+'));
    let format = match (format, context.args.iter().any(|arg| arg.starts_with("-I") || arg.starts_with("--iso"))) {
        (Some(format), _) => format,
        (None, true) => "%Y-%m-%dT%H:%M:%S+00:00",
        (None, false) => "%a %b %e %H:%M:%S UTC %Y",
    };
    match jiff::fmt::strtime::format(format, &now.to_zoned(jiff::tz::TimeZone::UTC)) {
        Ok(text) => Exit::ok(text + "\n"),
        Err(_) => context.fail(1, format!("invalid format '{format}'")),
    }
}

/// Path under `/proc/sys` of a parameter.
fn parameter_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

/// Sets a kernel parameter; false where the kernel has none of this name.
pub(in crate::guest::memory) fn set_parameter(
    machine: &mut crate::guest::memory::machine::Machine,
    name: &str,
    value: &str,
) -> bool {
    // Unknown parameters are those of modules that are not loaded, and of typing errors.
    const TREES: [&str; 6] = ["net.", "vm.", "kernel.", "fs.", "user.", "net/"];
    if !TREES.iter().any(|tree| name.starts_with(tree)) {
        return false;
    }
    let path = parameter_path(name);
    machine.root.put(&path, format!("{value}\n").into_bytes(), 0o644, Default::default()).is_ok()
}

/// Applies the settings of a file's text; the names that the kernel does not have.
pub(in crate::guest::memory) fn apply_parameters(
    machine: &mut crate::guest::memory::machine::Machine,
    text: &str,
) -> Vec<String> {
    let mut unknown = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        let Some((name, value)) = line.split_once('=') else { continue };
        let (name, optional) = name.trim().strip_prefix('-').map_or((name.trim(), false), |name| (name, true));
        if !set_parameter(machine, name, value.trim()) && !optional {
            unknown.push(name.to_owned());
        }
    }
    unknown
}

pub(super) fn sysctl(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [
            ("system", 'S'),
            ("write", 'w'),
            ("values", 'n'),
            ("load", 'p'),
            ("quiet", 'q'),
            ("ignore", 'e'),
            ("all", 'a'),
        ];
        // The file after `-p` may be missing.
        let flags = Flags::parse(context, "Swnpqea", "", &long)?;
        let mut exit = Exit::default();
        let unknown = |exit: &mut Exit, name: &str| {
            if !flags.has('e') {
                let path = parameter_path(name);
                exit.complain(1, format!("sysctl: cannot stat {path}: No such file or directory"));
            }
        };
        if flags.has('S') || flags.has('p') {
            let mut files: Vec<String> = Vec::new();
            if flags.has('S') {
                for folder in ["/usr/lib/sysctl.d", "/etc/sysctl.d"] {
                    let names = context.machine.root.list(folder).unwrap_or_default();
                    files.extend(names.into_iter().map(|name| format!("{folder}/{name}")));
                }
                files.push("/etc/sysctl.conf".to_owned());
            } else if flags.operands.is_empty() {
                files.push("/etc/sysctl.conf".to_owned());
            } else {
                files.extend(flags.operands.iter().map(|name| context.path(name)));
            }
            for file in files {
                match context.machine.root.read_text(&file) {
                    Ok(text) => {
                        for name in apply_parameters(context.machine, &text) {
                            unknown(&mut exit, &name);
                        }
                    }
                    Err(error) if flags.has('p') => {
                        exit.complain(1, format!("sysctl: cannot open \"{file}\": {error}"));
                    }
                    Err(_) => {}
                }
            }
            return Ok(exit);
        }
        for operand in &flags.operands {
            if let Some((name, value)) = operand.split_once('=') {
                if !set_parameter(context.machine, name.trim(), value.trim()) {
                    unknown(&mut exit, name.trim());
                } else if !flags.has('q') {
                    exit.print(format!("{} = {}\n", name.trim(), value.trim()));
                }
                continue;
            }
            match context.machine.root.read_text(&parameter_path(operand)) {
                Ok(text) if flags.has('n') => exit.print(text),
                Ok(text) => exit.print(format!("{operand} = {text}")),
                Err(_) => unknown(&mut exit, operand),
            }
        }
        Ok(exit)
    })())
}

/// Where loaded modules are listed.
const MODULES: &str = "/proc/modules";

pub(super) fn modprobe(context: &mut Context<'_>) -> Exit {
    // What nodes of Kubernetes load; the names of others may be typing errors.
    const KNOWN: [&str; 22] = [
        "overlay",
        "br_netfilter",
        "nf_conntrack",
        "nf_conntrack_ipv4",
        "ip_vs",
        "ip_vs_rr",
        "ip_vs_wrr",
        "ip_vs_sh",
        "ip_tables",
        "iptable_nat",
        "iptable_filter",
        "ip6_tables",
        "xt_conntrack",
        "vxlan",
        "geneve",
        "openvswitch",
        "nf_nat",
        "nbd",
        "rbd",
        "tun",
        "veth",
        "dm_crypt",
    ];
    let all = context.args.iter().any(|arg| arg == "-a");
    let names: Vec<&String> = context.args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if context.args.iter().any(|arg| arg == "-r") {
        return Exit::default();
    }
    let mut exit = Exit::default();
    for name in names.into_iter().take(if all { usize::MAX } else { 1 }) {
        let normal = name.replace('-', "_");
        if !KNOWN.contains(&normal.as_str()) {
            exit.complain(1, format!("modprobe: FATAL: Module {name} not found in directory /lib/modules/6.1.0"));
            continue;
        }
        let loaded = context.machine.root.read_text(MODULES).unwrap_or_default();
        if !loaded.lines().any(|line| line.starts_with(&format!("{normal} "))) {
            let line = format!("{normal} 16384 0 - Live 0x0000000000000000\n");
            if let Err(error) = context.machine.root.append(MODULES, line.as_bytes()) {
                exit.complain(1, format!("modprobe: {error}"));
            }
        }
    }
    exit
}

pub(super) fn lsmod(context: &mut Context<'_>) -> Exit {
    let loaded = context.machine.root.read_text(MODULES).unwrap_or_default();
    let mut exit = Exit::ok("Module                  Size  Used by\n");
    for name in loaded.lines().filter_map(|line| line.split(' ').next()) {
        exit.print(format!("{name:24}16384  0\n"));
    }
    exit
}

pub(super) fn getenforce(_context: &mut Context<'_>) -> Exit {
    Exit::ok("Disabled\n")
}
