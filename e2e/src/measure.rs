//! What running costs: processes from `/proc`, API requests from the management cluster's audit log, calls of the site
//! from its counters.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::{
    environment::Environment,
    providers::{BOOTSTRAP, CONTROL_PLANE, CORE, DCS, Provider},
};

/// Clock ticks in a second of `/proc/<pid>/stat`: fixed by Linux's interface to user space.
const TICKS: f64 = 100.0;

/// Memory and processor time of one process.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Name of the process.
    pub name: String,
    /// Resident memory now, MiB.
    pub rss: f64,
    /// Most resident memory so far, MiB.
    pub peak: f64,
    /// Processor time so far, seconds.
    pub cpu: f64,
}

/// What our processes, core and the adapter use.
pub fn processes(environment: &Environment) -> Result<Vec<Usage>> {
    environment.pids().into_iter().map(|(name, pid)| usage(name, pid)).collect()
}

/// What one process uses.
pub fn usage(name: String, pid: u32) -> Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("{name} has ended"))?;
    let mebibytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold blanks; what follows it does not: state is field 3, user and system time are 14 and 15.
    let fields =
        stat.rsplit_once(") ").map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    let ticks: f64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum();
    Ok(Usage { rss: mebibytes("VmRSS:"), peak: mebibytes("VmHWM:"), cpu: ticks / TICKS, name })
}

/// Requests of one process to the management API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// By `verb resource`, lease renewals apart.
    pub by_kind: BTreeMap<String, usize>,
    /// Reads and writes of the leader's lease.
    pub leases: usize,
    /// Refused with 409.
    pub conflicts: usize,
    /// Refused with 429.
    pub throttled: usize,
}

impl Requests {
    /// Requests that change something.
    pub fn writes(&self) -> usize {
        self.matching(|verb| !["get", "list", "watch"].contains(&verb))
    }

    /// Requests that read, watches apart: those are opened again from time to time.
    pub fn reads(&self) -> usize {
        self.matching(|verb| ["get", "list"].contains(&verb))
    }

    /// What came after `earlier`, an older count of the same process.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |kind: &String| earlier.by_kind.get(kind).copied().unwrap_or_default();
        let new = self.by_kind.iter().map(|(kind, count)| (kind.clone(), count.saturating_sub(before(kind))));
        Self {
            by_kind: new.filter(|(_, count)| *count > 0).collect(),
            leases: self.leases.saturating_sub(earlier.leases),
            conflicts: self.conflicts.saturating_sub(earlier.conflicts),
            throttled: self.throttled.saturating_sub(earlier.throttled),
        }
    }

    fn matching(&self, wanted: impl Fn(&str) -> bool) -> usize {
        let verb = |kind: &str| kind.split(' ').next().is_some_and(&wanted);
        self.by_kind.iter().filter(|(kind, _)| verb(kind)).map(|(_, count)| count).sum()
    }
}

/// Requests by the name of the provider.
pub type ByProvider = BTreeMap<&'static str, Requests>;

/// Reads the audit log of the management API server from where it was when this was made.
pub struct Audit {
    path: PathBuf,
    from: u64,
}

impl Audit {
    /// From now on.
    pub fn from_now(logs: &Path) -> Result<Self> {
        let path = logs.join("audit.log");
        let from = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
        Ok(Self { path, from })
    }

    /// Requests since then, by the name of the provider.
    pub fn requests(&self) -> Result<ByProvider> {
        let mut all = ByProvider::new();
        read(&self.path, self.from, &mut all)?;
        Ok(all)
    }
}

/// Adds the requests that an audit log tells of from an offset on; returns where its last whole line ends.
pub fn read(log: &Path, from: u64, all: &mut ByProvider) -> Result<u64> {
    let mut file = File::open(log).with_context(|| format!("cannot read {}", log.display()))?;
    file.seek(SeekFrom::Start(from))?;
    let (mut file, mut line, mut end) = (BufReader::new(file), String::new(), from);
    loop {
        line.clear();
        let length = file.read_line(&mut line)?;
        // The last line may still be being written.
        if !line.ends_with('\n') {
            return Ok(end);
        }
        end += u64::try_from(length)?;
        count(&serde_json::from_str(&line).context("the audit log holds a line that is no JSON")?, all);
    }
}

fn count(event: &Value, all: &mut ByProvider) {
    let user = event["user"]["username"].as_str().unwrap_or_default();
    let provider = [&CORE, &BOOTSTRAP, &CONTROL_PLANE, &DCS].into_iter().find(|one| is_account(one, user));
    let (Some(provider), Some("ResponseComplete")) = (provider, event["stage"].as_str()) else { return };
    let requests = all.entry(provider.name).or_default();
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut resource = text("/objectRef/resource");
    if resource == "leases" {
        requests.leases += 1;
        return;
    }
    let part = text("/objectRef/subresource");
    if !part.is_empty() {
        resource = format!("{resource}/{part}");
    }
    *requests.by_kind.entry(format!("{} {resource}", text("/verb"))).or_default() += 1;
    requests.conflicts += usize::from(event["responseStatus"]["code"] == 409);
    requests.throttled += usize::from(event["responseStatus"]["code"] == 429);
}

fn is_account(provider: &Provider, user: &str) -> bool {
    let (namespace, account) = provider.account;
    user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) == Some((namespace, account))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(user: &str, verb: &str, resource: &str, code: u16) -> String {
        let event = serde_json::json!({
            "stage": "ResponseComplete", "verb": verb, "user": {"username": format!("system:serviceaccount:{user}")},
            "objectRef": {"resource": resource}, "responseStatus": {"code": code},
        });
        format!("{event}\n")
    }

    #[test]
    fn an_audit_log_is_read_on_from_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("audit.log");
        let core = "capi-system:capi-manager";
        let rest = line(core, "get", "machines", 200);
        let first = line(core, "patch", "machines", 200)
            + &line(core, "patch", "machines", 409)
            + &line("default:somebody", "patch", "machines", 200);
        fs::write(&log, format!("{first}{}", &rest[..20])).unwrap();
        let mut all = ByProvider::new();
        let end = read(&log, 0, &mut all).unwrap();
        assert_eq!(end, first.len() as u64);
        assert_eq!((all["core"].writes(), all["core"].reads(), all["core"].conflicts), (2, 0, 1));
        assert_eq!(all.len(), 1, "others are not counted");
        let before = all.clone();
        fs::write(&log, format!("{first}{rest}")).unwrap();
        read(&log, end, &mut all).unwrap();
        let new = all["core"].since(&before["core"]);
        assert_eq!((new.writes(), new.reads(), new.conflicts), (0, 1, 0));
    }
}
