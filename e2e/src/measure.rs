//! What running costs: processes from `/proc`, API requests from the management cluster's audit log, calls of the site
//! from its counters.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
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

fn usage(name: String, pid: u32) -> Result<Usage> {
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
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// By `verb resource`, lease renewals apart.
    pub by_kind: BTreeMap<String, usize>,
    /// Reads and writes of the leader's lease.
    pub leases: usize,
    /// Refused with 409.
    pub conflicts: usize,
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

    fn matching(&self, wanted: impl Fn(&str) -> bool) -> usize {
        let verb = |kind: &str| kind.split(' ').next().is_some_and(&wanted);
        self.by_kind.iter().filter(|(kind, _)| verb(kind)).map(|(_, count)| count).sum()
    }
}

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
    pub fn requests(&self) -> Result<BTreeMap<&'static str, Requests>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut all = BTreeMap::new();
        for line in BufReader::new(file).lines() {
            // The last line may still be being written.
            let Ok(event) = serde_json::from_str::<Value>(&line?) else { continue };
            let user = event["user"]["username"].as_str().unwrap_or_default();
            let provider = [&CORE, &BOOTSTRAP, &CONTROL_PLANE, &DCS].into_iter().find(|one| is_account(one, user));
            let (Some(provider), "ResponseComplete") = (provider, event["stage"].as_str().unwrap_or_default()) else {
                continue;
            };
            let requests: &mut Requests = all.entry(provider.name).or_default();
            let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let mut resource = text("/objectRef/resource");
            if resource == "leases" {
                requests.leases += 1;
                continue;
            }
            let part = text("/objectRef/subresource");
            if !part.is_empty() {
                resource = format!("{resource}/{part}");
            }
            *requests.by_kind.entry(format!("{} {resource}", text("/verb"))).or_default() += 1;
            requests.conflicts += usize::from(event["responseStatus"]["code"] == 409);
        }
        Ok(all)
    }
}

fn is_account(provider: &Provider, user: &str) -> bool {
    let (namespace, account) = provider.account;
    user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) == Some((namespace, account))
}
