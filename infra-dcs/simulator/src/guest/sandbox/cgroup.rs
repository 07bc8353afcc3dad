//! Control groups of machines on cgroup v1 (hybrid): one group per hierarchy and machine, below the simulator's own.
//!
//! A machine is found and killed by its groups, never by a remembered process id alone. Where the groups are is written
//! down before the first is made: another process, in groups of its own, would look in another place.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::guest::GuestError;

const MOUNT: &str = "/sys/fs/cgroup";

/// Hierarchies without which systemd, containerd or kubelet does not start.
const REQUIRED: &[&str] = &["cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids", "systemd"];

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Directory below `/sys/fs/cgroup`, for example `memory`, `systemd` or `unified`.
    pub name: String,
    /// The group that this process is in, as a directory.
    own: PathBuf,
}

/// The hierarchies that this process is in and may use.
pub fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    Ok(parse(&fs::read_to_string("/proc/self/cgroup")?)
        .into_iter()
        .map(|(name, path)| {
            let own = Path::new(MOUNT).join(&name).join(path.trim_start_matches('/'));
            Hierarchy { name, own }
        })
        .filter(|hierarchy| hierarchy.own.is_dir())
        .collect())
}

/// Hierarchies that a machine cannot do without and that are not there.
pub fn missing(present: &[Hierarchy]) -> Vec<&'static str> {
    let is_there = |name: &str| present.iter().any(|hierarchy| hierarchy.name.split(',').any(|part| part == name));
    REQUIRED.iter().copied().filter(|name| !is_there(name)).collect()
}

/// Names and paths from the text of `/proc/<pid>/cgroup`.
fn parse(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let name = match controllers {
            "" => "unified",
            other => other.strip_prefix("name=").unwrap_or(other),
        };
        found.push((name.to_owned(), path.to_owned()));
    }
    found
}

/// File in a site's data directory with its [`SiteGroups`].
const RECORD: &str = "control-groups.json";

/// The groups of one site's machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteGroups {
    hierarchies: Vec<Hierarchy>,
    /// Name of the site's group in each hierarchy.
    name: String,
}

impl SiteGroups {
    /// Groups for the site whose data lies in `data_dir`, below those of this process.
    pub fn make(data_dir: &Path) -> io::Result<Self> {
        let groups = Self::below_own(data_dir)?;
        let fresh = data_dir.join(RECORD).with_extension("new");
        fs::write(&fresh, serde_json::to_vec(&groups)?)?;
        fs::rename(fresh, data_dir.join(RECORD))?;
        Ok(groups)
    }

    /// The groups that an earlier process made for the site; none where none did.
    pub fn find(data_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(data_dir.join(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        }
    }

    fn below_own(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.canonicalize()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, path.as_os_str().as_encoded_bytes());
        let name = format!("basalt-dcs-{}", hex::encode(&digest.as_ref()[..4]));
        let hierarchies = hierarchies()?;
        if let Some(missing) = missing(&hierarchies).first() {
            return Err(io::Error::other(format!(
                "hierarchy `{missing}` is not mounted below {MOUNT} (`ip netns exec` hides them, `nsenter --net` does not)"
            )));
        }
        Ok(Self { hierarchies, name })
    }

    /// Names of the hierarchies, as a guest mounts them.
    pub fn names(&self) -> Vec<String> {
        self.hierarchies.iter().map(|hierarchy| hierarchy.name.clone()).collect()
    }

    /// Makes a machine's groups with its limits; returns their directories.
    pub fn create(&self, id: &str, cpus: u32, memory_mb: u64) -> Result<Vec<PathBuf>, GuestError> {
        let refused = |what: &Path, error: io::Error| GuestError::Host {
            what: format!("control group {}", what.display()),
            reason: error.to_string(),
        };
        let mut groups = Vec::new();
        for hierarchy in &self.hierarchies {
            let site = hierarchy.own.join(&self.name);
            let group = site.join(id);
            if hierarchy.name == "cpuset" {
                // New cpuset groups are empty and admit no process until told which CPUs and memory nodes they have.
                fs::create_dir_all(&site).map_err(|error| refused(&site, error))?;
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = fs::read(hierarchy.own.join(file)).map_err(|error| refused(&site, error))?;
                    fs::write(site.join(file), value).map_err(|error| refused(&site, error))?;
                }
                fs::write(site.join("cgroup.clone_children"), "1").map_err(|error| refused(&site, error))?;
            }
            fs::create_dir_all(&group).map_err(|error| refused(&group, error))?;
            let limits = match hierarchy.name.as_str() {
                "cpu" | "cpu,cpuacct" => {
                    vec![("cpu.cfs_period_us", 100_000), ("cpu.cfs_quota_us", u64::from(cpus) * 100_000)]
                }
                "memory" => vec![("memory.limit_in_bytes", memory_mb << 20)],
                _ => Vec::new(),
            };
            for (file, value) in limits {
                fs::write(group.join(file), value.to_string()).map_err(|error| refused(&group.join(file), error))?;
            }
            groups.push(group);
        }
        Ok(groups)
    }

    /// Ids of all machines that have groups.
    pub fn machines(&self) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        for hierarchy in &self.hierarchies {
            for entry in fs::read_dir(hierarchy.own.join(&self.name)).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    ids.insert(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        ids
    }

    /// The first process of a running machine, as this process sees it.
    pub fn init_of(&self, id: &str) -> Option<i32> {
        let pids = self.groups(id).find(|group| group.is_dir()).map(|group| processes(&group)).unwrap_or_default();
        pids.into_iter().find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            // The last of its ids is the one in its own namespace.
            let own = status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last());
            own == Some("1") && status.contains("Name:\tsystemd\n")
        })
    }

    /// Makes this process one of the machine's, so that it ends with it.
    pub fn join(&self, id: &str) -> io::Result<()> {
        self.groups(id).try_for_each(|group| fs::write(group.join("cgroup.procs"), "0"))
    }

    /// Kills every process of a machine and removes its groups. Blocks for up to some seconds.
    /// Returns how many processes were still there.
    pub fn remove(&self, id: &str) -> io::Result<usize> {
        let mut killed = BTreeSet::<i32>::new();
        for _ in 0..100 {
            let pids: BTreeSet<i32> = self.groups(id).flat_map(|group| processes(&group)).collect();
            for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                // It may have ended since it was listed.
                let _ = kill_process(pid, Signal::KILL);
            }
            killed.extend(&pids);
            if pids.is_empty() && self.groups(id).all(|group| remove_tree(&group).is_ok()) {
                self.leave();
                return Ok(killed.len());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(io::Error::other(format!("processes of machine {id} cannot be killed")))
    }

    /// Removes the site's own groups where no machine is in them.
    pub fn leave(&self) {
        for hierarchy in &self.hierarchies {
            // Other machines may still be there: then it stays, and that is right.
            let _ = fs::remove_dir(hierarchy.own.join(&self.name));
        }
    }

    fn groups(&self, id: &str) -> impl Iterator<Item = PathBuf> {
        self.hierarchies.iter().map(move |hierarchy| hierarchy.own.join(&self.name).join(id))
    }
}

fn processes(group: &Path) -> Vec<i32> {
    let mut found: Vec<i32> = fs::read_to_string(group.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 0)
        .collect();
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(processes(&entry.path()));
        }
    }
    found
}

/// Removes a group and the groups in it; a group's files go with its directory.
fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn groups_are_found_where_they_were_made() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(SiteGroups::find(dir.path()).unwrap(), None);
        let own = dir.path().join("fs/memory/elsewhere");
        let hierarchies = vec![Hierarchy { name: "memory".into(), own: own.clone() }];
        let groups = SiteGroups { hierarchies, name: "site".into() };
        fs::write(dir.path().join(RECORD), serde_json::to_vec(&groups).unwrap()).unwrap();
        let found = SiteGroups::find(dir.path()).unwrap().unwrap();
        assert_eq!(found, groups);

        fs::create_dir_all(own.join("site/i-00000001/nested")).unwrap();
        fs::create_dir_all(own.join("site/i-00000002")).unwrap();
        assert_eq!(found.machines(), ["i-00000001".to_owned(), "i-00000002".to_owned()].into());
        assert_eq!(found.remove("i-00000001").unwrap(), 0);
        assert_eq!(found.machines(), ["i-00000002".to_owned()].into(), "the other machine's group stays");
        found.remove("i-00000002").unwrap();
        assert!(own.exists() && !own.join("site").exists(), "the site's own group goes with its last machine");
    }

    #[test]
    fn hierarchies_are_named_by_their_mount() {
        let text = "9:name=systemd:/\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/x\n";
        let expected = [("systemd", "/"), ("memory", "/a/b"), ("cpu,cpuacct", "/"), ("unified", "/x")];
        assert_eq!(parse(text), expected.map(|(name, path)| (name.to_owned(), path.to_owned())));
    }
}
