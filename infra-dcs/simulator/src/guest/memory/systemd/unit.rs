//! Unit files. Format: systemd.syntax(7); keys: systemd.unit(5), systemd.service(5), systemd.mount(5).

/// A unit as its files describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Name with suffix.
    pub name: String,
    /// Description; empty without one.
    pub description: String,
    /// Units that it must have.
    pub requires: Vec<String>,
    /// Units that are started with it.
    pub wants: Vec<String>,
    /// Units that it starts after.
    pub after: Vec<String>,
    /// Units that it starts before.
    pub before: Vec<String>,
    /// All must hold, else it is skipped.
    pub conditions: Vec<Condition>,
    /// All must hold, else it fails.
    pub assertions: Vec<Condition>,
    /// What a service runs.
    pub service: Service,
    /// What a mount mounts.
    pub mount: Option<MountUnit>,
    /// What enabling it does.
    pub install: Install,
}

/// A condition on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is asked, without `Condition` or `Assert`, for example `PathExists`.
    pub kind: String,
    /// Of what.
    pub value: String,
    /// Whether the answer must be no.
    pub negated: bool,
    /// Whether it suffices that one of those that say so holds.
    pub triggering: bool,
}

/// Section `[Service]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `oneshot`, `simple` and so on; empty is `simple`.
    pub kind: String,
    /// Commands before the main one.
    pub exec_start_pre: Vec<Exec>,
    /// Main commands.
    pub exec_start: Vec<Exec>,
    /// Commands after the main one.
    pub exec_start_post: Vec<Exec>,
    /// Whether a one-shot counts as running when it is done.
    pub remain_after_exit: bool,
    /// Variables.
    pub environment: Vec<(String, String)>,
    /// Files of variables; a leading `-` allows that one is missing.
    pub environment_files: Vec<String>,
    /// Working directory.
    pub directory: Option<String>,
    /// Directories that are made before it starts.
    pub directories: Vec<String>,
    /// Seconds that starting may take.
    pub timeout_start: Option<u64>,
    /// Exit statuses besides 0 that count as success.
    pub success: Vec<u8>,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Words, quotes removed, specifiers and variables not yet replaced.
    pub argv: Vec<String>,
    /// Whether a failure is ignored.
    pub may_fail: bool,
}

/// Section `[Mount]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountUnit {
    /// Device.
    pub what: String,
    /// Mount point.
    pub place: String,
    /// Type; empty takes what is there.
    pub kind: String,
    /// Options.
    pub options: String,
}

/// Section `[Install]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Install {
    /// Targets that want it.
    pub wanted_by: Vec<String>,
    /// Targets that require it.
    pub required_by: Vec<String>,
    /// Other names.
    pub alias: Vec<String>,
}

/// What is wrong with a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{unit}: {reason}")]
pub struct UnitError {
    /// Unit, or file of it.
    pub unit: String,
    /// What is wrong.
    pub reason: String,
}

/// Keys without effect on what is modelled: limits, logging, sandboxing, restarts, and how a unit stops.
const IGNORED_PREFIXES: [&str; 17] = [
    "Limit",
    "Protect",
    "Private",
    "Restrict",
    "Standard",
    "Syslog",
    "Restart",
    "StartLimit",
    "Tasks",
    "CPU",
    "Memory",
    "IO",
    "OOM",
    "Kill",
    "Timeout",
    "Watchdog",
    "Capability",
];
const IGNORED: [&str; 21] = [
    "Documentation",
    "DefaultDependencies",
    "PartOf",
    "IgnoreOnIsolate",
    "RefuseManualStart",
    "RefuseManualStop",
    "StopWhenUnneeded",
    "CollectMode",
    "JobTimeoutSec",
    "Delegate",
    "ExecStop",
    "ExecStopPost",
    "ExecReload",
    "UMask",
    "Nice",
    "Slice",
    "NotifyAccess",
    "PIDFile",
    "AmbientCapabilities",
    "NoNewPrivileges",
    "Also",
];
const IGNORED_MORE: [&str; 8] = [
    "RuntimeDirectoryMode",
    "TTYPath",
    "GuessMainPID",
    "Sockets",
    "DirectoryMode",
    "LazyUnmount",
    "SloppyOptions",
    "DefaultInstance",
];

/// Keys that a real systemd would act on.
const NOT_MODELLED: [&str; 6] =
    ["ExecCondition", "OnFailure", "OnSuccess", "FailureAction", "SuccessAction", "RootDirectory"];

/// Keys that make directories, and where.
const DIRECTORIES: [(&str, &str); 5] = [
    ("CacheDirectory", "/var/cache"),
    ("ConfigurationDirectory", "/etc"),
    ("LogsDirectory", "/var/log"),
    ("RuntimeDirectory", "/run"),
    ("StateDirectory", "/var/lib"),
];

/// Reads a unit's file and drop-ins, in this order.
pub fn parse(name: &str, texts: &[(String, String)]) -> Result<Unit, UnitError> {
    let mut unit = Unit { name: name.to_owned(), ..Unit::default() };
    if name.strip_suffix(".mount").is_some() {
        unit.mount = Some(MountUnit::default());
    }
    for (path, text) in texts {
        read_file(path, text, &mut unit)?;
    }
    check(&unit)?;
    Ok(unit)
}

/// Whether a text is a unit file's at all: sections, and `key=value` lines that are known.
pub fn check_syntax(name: &str, text: &str) -> Result<(), UnitError> {
    read_file(name, text, &mut Unit { name: name.to_owned(), ..Unit::default() })
}

fn read_file(path: &str, text: &str, unit: &mut Unit) -> Result<(), UnitError> {
    let wrong = |number: usize, reason: String| UnitError { unit: format!("{path}:{number}"), reason };
    let mut section = String::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        while line.ends_with('\\') {
            line.pop();
            line.push(' ');
            // Comments within a continued line are passed over.
            match lines.next() {
                Some((_, next)) if next.trim_start().starts_with(['#', ';']) => line.push('\\'),
                Some((_, next)) => line.push_str(next.trim()),
                None => break,
            }
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| wrong(number, "Missing '='.".to_owned()))?;
        let (key, value) = (key.trim(), value.trim());
        if section.is_empty() {
            return Err(wrong(number, "Assignment outside of section.".to_owned()));
        }
        if section.starts_with("X-") || key.starts_with("X-") {
            continue;
        }
        assign(unit, &section, key, value).map_err(|reason| wrong(number, reason))?;
    }
    Ok(())
}

/// A later value adds to a list, and an empty one clears it.
fn extend(list: &mut Vec<String>, value: &str) {
    if value.is_empty() {
        list.clear();
    }
    list.extend(value.split_whitespace().map(str::to_owned));
}

fn assign(unit: &mut Unit, section: &str, key: &str, value: &str) -> Result<(), String> {
    let service = &mut unit.service;
    match (section, key) {
        ("Unit", "Description") => value.clone_into(&mut unit.description),
        ("Unit", "Requires" | "BindsTo" | "Requisite") => extend(&mut unit.requires, value),
        ("Unit", "Wants") => extend(&mut unit.wants, value),
        ("Unit", "After") => extend(&mut unit.after, value),
        ("Unit", "Before") => extend(&mut unit.before, value),
        ("Unit", "RequiresMountsFor" | "WantsMountsFor") => {
            unit.after.extend(value.split_whitespace().map(|path| format!("{}.mount", escape_path(path))));
        }
        ("Unit", key) if key.starts_with("Condition") => condition(&mut unit.conditions, &key[9..], value)?,
        ("Unit", key) if key.starts_with("Assert") => condition(&mut unit.assertions, &key[6..], value)?,
        ("Unit", "Conflicts") if value.split_whitespace().all(|name| name.ends_with(".target")) => {}
        ("Unit", "Conflicts") => return Err(format!("Conflicts={value} is not modelled; stop the unit in a script")),
        ("Service", "User" | "Group") if ["", "root", "0"].contains(&value) => {}
        ("Service", "User" | "Group") => {
            return Err(format!("{key}={value} is not modelled: services run as root here"));
        }
        (_, key) if NOT_MODELLED.contains(&key) => return Err(format!("{key}= is not modelled; remove it")),
        ("Service", key) if directory_of(key).is_some() => {
            let parent = directory_of(key).unwrap_or_default();
            service.directories.extend(value.split_whitespace().map(|name| format!("{parent}/{name}")));
        }
        ("Service", "Type") => value.clone_into(&mut service.kind),
        ("Service", "ExecStartPre") => exec(&mut service.exec_start_pre, value)?,
        ("Service", "ExecStart") => exec(&mut service.exec_start, value)?,
        ("Service", "ExecStartPost") => exec(&mut service.exec_start_post, value)?,
        ("Service", "RemainAfterExit") => service.remain_after_exit = boolean(value)?,
        ("Service", "WorkingDirectory") => {
            service.directory = Some(value.trim_start_matches('-').to_owned()).filter(|path| !path.is_empty());
        }
        ("Service", "Environment") if value.is_empty() => service.environment.clear(),
        ("Service", "Environment") => {
            for word in words(value)? {
                let (name, value) =
                    word.split_once('=').ok_or_else(|| format!("Environment={word} is no NAME=value"))?;
                service.environment.push((name.to_owned(), value.to_owned()));
            }
        }
        ("Service", "EnvironmentFile") if value.is_empty() => service.environment_files.clear(),
        ("Service", "EnvironmentFile") => service.environment_files.push(value.to_owned()),
        ("Service", "TimeoutStartSec" | "TimeoutSec") => service.timeout_start = seconds(value)?,
        ("Service", "SuccessExitStatus") => {
            service.success.extend(value.split_whitespace().filter_map(|code| code.parse::<u8>().ok()));
        }
        ("Mount", key) => {
            let mount = unit.mount.get_or_insert_default();
            match key {
                "What" => value.clone_into(&mut mount.what),
                "Where" => value.clone_into(&mut mount.place),
                "Type" => value.clone_into(&mut mount.kind),
                "Options" => value.clone_into(&mut mount.options),
                key if is_ignored(key) => {}
                _ => return Err(format!("Unknown key '{key}' in section [Mount]")),
            }
        }
        ("Install", "WantedBy") => extend(&mut unit.install.wanted_by, value),
        ("Install", "RequiredBy") => extend(&mut unit.install.required_by, value),
        ("Install", "Alias") => extend(&mut unit.install.alias, value),
        ("Unit" | "Service" | "Install", key) if is_ignored(key) => {}
        ("Unit" | "Service" | "Install", _) => return Err(format!("Unknown key '{key}' in section [{section}]")),
        // Timers, sockets and paths are kept and never fire here.
        ("Timer" | "Socket" | "Path" | "Swap" | "Slice", _) => {}
        _ => return Err(format!("Unknown section '{section}'")),
    }
    Ok(())
}

fn directory_of(key: &str) -> Option<&'static str> {
    DIRECTORIES.iter().find(|(known, _)| *known == key).map(|(_, parent)| *parent)
}

fn is_ignored(key: &str) -> bool {
    IGNORED.contains(&key)
        || IGNORED_MORE.contains(&key)
        || IGNORED_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

fn condition(list: &mut Vec<Condition>, kind: &str, value: &str) -> Result<(), String> {
    const KNOWN: [&str; 16] = [
        "PathExists",
        "PathExistsGlob",
        "PathIsDirectory",
        "PathIsSymbolicLink",
        "PathIsMountPoint",
        "PathIsReadWrite",
        "DirectoryNotEmpty",
        "FileNotEmpty",
        "FileIsExecutable",
        "FirstBoot",
        "Virtualization",
        "KernelCommandLine",
        "Host",
        "Architecture",
        "User",
        "Capability",
    ];
    if value.is_empty() {
        list.clear();
        return Ok(());
    }
    if !KNOWN.contains(&kind) {
        return Err(format!("Unknown condition '{kind}'"));
    }
    let (triggering, value) = value.strip_prefix('|').map_or((false, value), |rest| (true, rest.trim_start()));
    let (negated, value) = value.strip_prefix('!').map_or((false, value), |rest| (true, rest.trim_start()));
    list.push(Condition { kind: kind.to_owned(), value: value.to_owned(), negated, triggering });
    Ok(())
}

fn exec(list: &mut Vec<Exec>, value: &str) -> Result<(), String> {
    if value.is_empty() {
        list.clear();
        return Ok(());
    }
    let mut rest = value;
    let mut may_fail = false;
    // The prefixes that decide about failure, and those that decide about rights, which are all here.
    while let Some(prefix) = rest.chars().next().filter(|c| "-@:+!".contains(*c)) {
        may_fail |= prefix == '-';
        rest = &rest[1..];
    }
    let argv = words(rest)?;
    match argv.first() {
        None => return Err("Empty command line".to_owned()),
        Some(program) if program.contains('/') && !program.starts_with('/') => {
            return Err(format!("Neither a valid executable name nor an absolute path: {program}"));
        }
        Some(_) => {}
    }
    list.push(Exec { argv, may_fail });
    Ok(())
}

/// Splits a line into words, as systemd does with quotes and C escapes.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                begun = true;
            }
            (_, '\\') => {
                begun = true;
                match chars.next() {
                    Some('n') => word.push('\n'),
                    Some('t') => word.push('\t'),
                    Some('s') => word.push(' '),
                    Some(c @ ('"' | '\'' | '\\')) => word.push(c),
                    Some('x') => {
                        let digits: String = chars.by_ref().take(2).collect();
                        let byte = u8::from_str_radix(&digits, 16).map_err(|_| format!("bad escape \\x{digits}"))?;
                        word.push(char::from(byte));
                    }
                    Some(c) => return Err(format!("unknown escape \\{c}")),
                    None => return Err("a backslash at the end".to_owned()),
                }
            }
            (None, c) if c.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                    begun = false;
                }
            }
            (_, c) => {
                begun = true;
                word.push(c);
            }
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    if begun {
        words.push(word);
    }
    Ok(words)
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err(format!("{text:?} is no boolean")),
    }
}

/// Seconds of a time span; none is without limit.
fn seconds(text: &str) -> Result<Option<u64>, String> {
    if matches!(text, "infinity" | "0") {
        return Ok(None);
    }
    let mut total = 0;
    for part in text.split_whitespace() {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let number: u64 = part[..digits].parse().map_err(|_| format!("{text:?} is no time span"))?;
        let factor = match &part[digits..] {
            "" | "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" | "hr" => 3600,
            _ => return Err(format!("{text:?} is no time span")),
        };
        total += number * factor;
    }
    Ok(Some(total))
}

fn check(unit: &Unit) -> Result<(), UnitError> {
    let wrong = |reason: String| Err(UnitError { unit: unit.name.clone(), reason });
    let service = &unit.service;
    if unit.name.ends_with(".service") {
        if !matches!(
            service.kind.as_str(),
            "" | "simple" | "exec" | "forking" | "oneshot" | "dbus" | "notify" | "notify-reload" | "idle"
        ) {
            return wrong(format!("Failed to parse service type: {}", service.kind));
        }
        if service.exec_start.is_empty() && service.kind != "oneshot" {
            return wrong("Service has no ExecStart= setting. Refusing.".to_owned());
        }
        if service.exec_start.len() > 1 && service.kind != "oneshot" {
            return wrong(
                "Service has more than one ExecStart= setting, which is only allowed for Type=oneshot services. Refusing."
                    .to_owned(),
            );
        }
    }
    if let Some(mount) = &unit.mount {
        if mount.what.is_empty() || mount.place.is_empty() {
            return wrong("What= or Where= setting is missing. Refusing.".to_owned());
        }
        if format!("{}.mount", escape_path(&mount.place)) != unit.name {
            return wrong(format!("Where= setting ({}) doesn't match unit name. Refusing.", mount.place));
        }
    }
    Ok(())
}

/// The part of a unit's name that stands for a path: systemd.unit(5), "String Escaping for Inclusion in Unit Names".
pub fn escape_path(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return "-".to_owned();
    }
    let mut name = String::new();
    for (index, byte) in parts.join("/").bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            b if b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.') => name.push(char::from(b)),
            b => name.push_str(&format!("\\x{b:02x}")),
        }
    }
    name
}
