//! systemd, as far as a boot needs it: unit files, what is enabled, in which order it starts.

mod order;
pub mod start;
#[cfg(test)]
mod tests;
pub mod unit;

use std::collections::{BTreeMap, VecDeque};

pub use order::{Start, plan};
use unit::{Unit, UnitError};

use super::root::Root;

/// Where units lie, the strongest first.
pub const FOLDERS: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];
/// Presets of the first boot, the strongest first.
const PRESETS: [&str; 2] = ["/etc/systemd/system-preset", "/usr/lib/systemd/system-preset"];

/// State of a unit that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Running, or done and remembered.
    Active,
    /// A one-shot that is done.
    Done,
    /// It failed.
    Failed,
}

/// What has been started since power-on.
#[derive(Clone, Debug, Default)]
pub struct Services {
    states: BTreeMap<String, State>,
    starts: BTreeMap<String, u32>,
    requests: VecDeque<String>,
}

impl Services {
    /// State of a unit; none where it was not started.
    pub fn state(&self, unit: &str) -> Option<State> {
        self.states.get(unit).copied()
    }

    /// Whether a unit runs.
    pub fn is_active(&self, unit: &str) -> bool {
        self.state(unit) == Some(State::Active)
    }

    /// How often a unit was started: a restart counts, so who plays a service sees that it must begin anew.
    pub fn starts(&self, unit: &str) -> u32 {
        self.starts.get(unit).copied().unwrap_or_default()
    }

    /// Marks a unit as started, with this outcome.
    pub fn set(&mut self, unit: &str, state: State) {
        *self.starts.entry(unit.to_owned()).or_default() += 1;
        self.states.insert(unit.to_owned(), state);
    }

    /// Asks for a unit of a document to be started, by whoever runs commands.
    pub fn request(&mut self, unit: &str) {
        self.requests.push_back(unit.to_owned());
    }

    /// The next unit that is to be started.
    pub fn requested(&mut self) -> Option<String> {
        self.requests.pop_front()
    }

    /// Marks a unit as stopped.
    pub fn stop(&mut self, unit: &str) {
        self.states.remove(unit);
    }
}

/// The name of a unit as systemctl takes it: without a suffix it is a service.
pub fn full_name(name: &str) -> String {
    const SUFFIXES: [&str; 8] = [".service", ".socket", ".target", ".mount", ".timer", ".path", ".slice", ".swap"];
    if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) { name.to_owned() } else { format!("{name}.service") }
}

/// Path of a unit's file; none where there is none, and `/dev/null` where it is masked.
pub fn find(root: &Root, name: &str) -> Option<String> {
    let folder = FOLDERS.iter().find(|folder| root.link_metadata(&format!("{folder}/{name}")).is_ok())?;
    let path = format!("{folder}/{name}");
    if root.read_link(&path).is_ok_and(|target| target == "/dev/null") {
        return Some("/dev/null".to_owned());
    }
    // An empty file masks, as the link to nothing does.
    match root.metadata(&path) {
        Ok(metadata) if metadata.kind == super::root::Kind::File && metadata.size > 0 => Some(path),
        Ok(_) => Some("/dev/null".to_owned()),
        Err(_) => None,
    }
}

/// Whether a unit is masked.
pub fn is_masked(root: &Root, name: &str) -> bool {
    find(root, name).as_deref() == Some("/dev/null")
}

/// Whether a unit is the image's own.
pub fn is_own(root: &Root, name: &str) -> bool {
    find(root, name).is_some_and(|path| path.starts_with(FOLDERS[2]))
}

/// Reads a unit with its drop-ins; none where there is no file, or it is masked.
pub fn load(root: &Root, name: &str) -> Result<Option<Unit>, UnitError> {
    let path = match find(root, name) {
        Some(path) if path != "/dev/null" => path,
        _ => return Ok(None),
    };
    let mut texts = vec![(path.clone(), root.read_text(&path).unwrap_or_default())];
    // Drop-ins of all folders in the order of their names; of the same name the strongest folder's.
    let mut drop_ins = BTreeMap::new();
    for folder in FOLDERS.iter().rev() {
        let folder = format!("{folder}/{name}.d");
        for file in root.list(&folder).unwrap_or_default() {
            if file.strip_suffix(".conf").is_some() {
                drop_ins.insert(file.clone(), format!("{folder}/{file}"));
            }
        }
    }
    for path in drop_ins.into_values() {
        texts.push((path.clone(), root.read_text(&path).unwrap_or_default()));
    }
    unit::parse(name, &texts).map(Some)
}

/// Names of the units that a target or unit pulls in by links, as `systemctl enable` makes them.
pub fn wanted_by(root: &Root, name: &str) -> Vec<String> {
    let mut found = linked(root, name, "wants");
    found.extend(required_by(root, name));
    found
}

/// Those of them without which it does not start.
pub fn required_by(root: &Root, name: &str) -> Vec<String> {
    linked(root, name, "requires")
}

fn linked(root: &Root, name: &str, kind: &str) -> Vec<String> {
    let folders = FOLDERS.iter().map(|folder| root.list(&format!("{folder}/{name}.{kind}")).unwrap_or_default());
    let mut found: Vec<String> = folders.flatten().collect();
    found.sort();
    found.dedup();
    found
}

/// Makes the links that the unit's `[Install]` section asks for.
pub fn enable(root: &mut Root, name: &str) -> Result<(), UnitError> {
    let wrong = |reason: String| UnitError { unit: name.to_owned(), reason };
    let path = find(root, name).ok_or_else(|| wrong(format!("Unit file {name} does not exist.")))?;
    let unit = load(root, name)?.ok_or_else(|| wrong(format!("Unit file {name} is masked.")))?;
    let links = unit.install.wanted_by.iter().map(|target| (target, "wants"));
    let links = links.chain(unit.install.required_by.iter().map(|target| (target, "requires")));
    for (target, kind) in links {
        let link = format!("/etc/systemd/system/{target}.{kind}/{name}");
        let made = root.make_parents(&link).and_then(|()| match root.symlink(&path, &link) {
            Err(super::root::Errno::Exists) => Ok(()),
            other => other,
        });
        made.map_err(|error| wrong(format!("cannot enable it: {link}: {error}")))?;
    }
    for alias in &unit.install.alias {
        let link = format!("/etc/systemd/system/{alias}");
        if !root.exists(&link) {
            root.symlink(&path, &link).map_err(|error| wrong(format!("cannot enable it: {link}: {error}")))?;
        }
    }
    Ok(())
}

/// Removes the links that [`enable`] made.
pub fn disable(root: &mut Root, name: &str) {
    let folder = FOLDERS[0];
    for entry in root.list(folder).unwrap_or_default() {
        if entry.rsplit_once('.').is_some_and(|(_, kind)| kind == "wants" || kind == "requires") {
            let link = format!("{folder}/{entry}/{name}");
            if root.link_metadata(&link).is_ok() {
                // It was there a moment ago; nobody else is at work here.
                let _ = root.remove_file(&link);
            }
        }
    }
}

/// Applies the presets of the first boot: the first line that names a unit decides. The units without a file.
pub fn preset_all(root: &mut Root) -> Result<Vec<String>, UnitError> {
    let mut files = BTreeMap::new();
    for folder in PRESETS.iter().rev() {
        for name in root.list(folder).unwrap_or_default() {
            files.insert(name.clone(), format!("{folder}/{name}"));
        }
    }
    let (mut decided, mut missing) = (Vec::new(), Vec::new());
    for path in files.into_values() {
        let text = root.read_text(&path).unwrap_or_default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
            let (verb, unit) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let unit = unit.trim().to_owned();
            if decided.contains(&unit) || unit.contains('*') {
                continue;
            }
            match verb {
                "enable" if find(root, &unit).is_none() => missing.push(unit.clone()),
                "enable" if !is_masked(root, &unit) => enable(root, &unit)?,
                "disable" => disable(root, &unit),
                "enable" | "ignore" => {}
                _ => return Err(UnitError { unit: path, reason: format!("unknown verb {verb:?}") }),
            }
            decided.push(unit);
        }
    }
    Ok(missing)
}
