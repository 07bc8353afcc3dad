//! What starting a unit means: its conditions, variables and command lines.

use std::collections::BTreeMap;

use super::unit::{Condition, Exec, Service, Unit};
use crate::guest::memory::{
    machine::Machine,
    root::{Kind, Root},
};

/// A command line of a service, ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Whether a failure is ignored.
    pub may_fail: bool,
}

/// What a service's main process is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MainCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables from the unit, its drop-ins and environment files.
    pub environment: BTreeMap<String, String>,
}

/// The condition that keeps a unit from starting.
pub fn unmet<'a>(conditions: &'a [Condition], machine: &Machine) -> Option<&'a Condition> {
    let (either, all): (Vec<_>, Vec<_>) = conditions.iter().partition(|condition| condition.triggering);
    let failed = all.into_iter().find(|condition| !holds(condition, machine));
    failed.or_else(|| {
        let none = !either.is_empty() && either.iter().all(|condition| !holds(condition, machine));
        none.then(|| either[0])
    })
}

fn holds(condition: &Condition, machine: &Machine) -> bool {
    let root = &machine.root;
    let value = condition.value.as_str();
    let metadata = root.metadata(value).ok();
    let answer = match condition.kind.as_str() {
        "PathExists" | "PathIsReadWrite" => metadata.is_some(),
        "PathExistsGlob" => {
            let (folder, pattern) = value.rsplit_once('/').unwrap_or(("", value));
            let pattern: Vec<_> = pattern.chars().map(|c| (c, false)).collect();
            let names = root.list(if folder.is_empty() { "/" } else { folder }).unwrap_or_default();
            names.iter().any(|name| crate::guest::memory::shell::covers(&pattern, name))
        }
        "PathIsDirectory" => root.is_directory(value),
        "PathIsSymbolicLink" => root.link_metadata(value).is_ok_and(|metadata| metadata.kind == Kind::Link),
        "PathIsMountPoint" => root.mounted_at(value).is_some(),
        "DirectoryNotEmpty" => root.list(value).is_ok_and(|names| !names.is_empty()),
        "FileNotEmpty" => metadata.is_some_and(|metadata| metadata.kind == Kind::File && metadata.size > 0),
        "FileIsExecutable" => metadata.is_some_and(|metadata| metadata.mode & 0o111 != 0),
        "Virtualization" => matches!(value, "yes" | "true" | "vm" | "kvm"),
        "Architecture" => matches!(value, "x86-64" | "native"),
        "Host" => value == machine.hostname,
        "User" => matches!(value, "root" | "0"),
        "Capability" => true,
        // Neither a kernel command line nor a first boot in systemd's sense.
        _ => false,
    };
    answer != condition.negated
}

/// Variables of a service: the base, `Environment=`, then files, each over what came before. The name of a file that is
/// missing and must not be, as error.
pub fn environment(
    service: &Service,
    root: &Root,
    base: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut variables = base.clone();
    variables.extend(service.environment.iter().cloned());
    for file in &service.environment_files {
        let (path, optional) = file.strip_prefix('-').map_or((file.as_str(), false), |path| (path, true));
        match root.read_text(path) {
            Ok(text) => variables.extend(environment_file(&text)),
            Err(_) if optional => {}
            Err(error) => return Err(format!("Failed to load environment file {path}: {error}")),
        }
    }
    Ok(variables)
}

/// Makes the directories that a service wants.
pub fn make_directories(service: &Service, root: &mut Root) -> Result<(), String> {
    for path in &service.directories {
        root.make_directories(path).map_err(|error| format!("Failed to set up directory {path}: {error}"))?;
    }
    Ok(())
}

/// Lines `NAME=value`, the value quoted or not.
fn environment_file(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            let value = value.trim();
            let unquoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
            Some((name.trim().to_owned(), unquoted.unwrap_or(value).replace("\\\"", "\"")))
        })
        .collect()
}

/// A command line with specifiers and variables replaced: `$NAME` as a word of its own is split into words, `${NAME}`
/// never.
pub fn command_line(exec: &Exec, unit: &Unit, hostname: &str, variables: &BTreeMap<String, String>) -> CommandLine {
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    let mut argv = Vec::new();
    for word in &exec.argv {
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if let Some(name) = word.strip_prefix('$').filter(|name| is_name(name)) {
            argv.extend(value(name).split_whitespace().map(str::to_owned));
            continue;
        }
        let word = word.replace("%n", &unit.name).replace("%H", hostname).replace("%%", "%");
        argv.push(braced(&word, &value));
    }
    CommandLine { argv, may_fail: exec.may_fail }
}

/// The main command line of a service and its variables, by what its files say now. A reason where it cannot be started.
pub fn main_command(root: &Root, name: &str, hostname: &str) -> Result<MainCommand, String> {
    if super::is_masked(root, name) {
        return Err(format!("Unit {name} is masked."));
    }
    let unit = super::load(root, name).map_err(|error| error.to_string())?;
    let unit = unit.ok_or_else(|| format!("Unit {name} not found."))?;
    let environment = environment(&unit.service, root, &BTreeMap::new())?;
    let main = unit.service.exec_start.first();
    let argv = main.map_or_else(Vec::new, |exec| command_line(exec, &unit, hostname, &environment).argv);
    Ok(MainCommand { argv, environment })
}

/// `${NAME}` replaced wherever it stands; `$$` is a dollar.
fn braced<'v>(word: &str, value: &dyn Fn(&str) -> &'v str) -> String {
    let mut result = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            result.push_str(value(name));
            rest = after;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result + rest
}
