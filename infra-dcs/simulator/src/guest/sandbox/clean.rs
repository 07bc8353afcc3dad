//! Finds and removes what a killed simulator left of its machines.

use std::{io, path::Path};

use super::{cgroup::SiteGroups, disk};
use crate::guest::GuestError;

/// Kills the machines of the site whose data lies in `data_dir`, removes their control groups and detaches their disks.
/// Network ports and mounts went with the machines' namespaces. Returns one line for each thing removed. What cannot be
/// removed is the error, after everything else was.
pub async fn clean(data_dir: &Path) -> Result<Vec<String>, GuestError> {
    let refused = |what: String| move |error: io::Error| GuestError::Host { what, reason: error.to_string() };
    let data_dir = data_dir.canonicalize().map_err(refused(format!("data directory {}", data_dir.display())))?;
    let (mut removed, mut failed) = (Vec::new(), None);
    if let Some(groups) = SiteGroups::find(&data_dir).map_err(refused("control groups".into()))? {
        for id in groups.machines() {
            let (groups, name) = (groups.clone(), id.clone());
            let killed = tokio::task::spawn_blocking(move || groups.remove(&name)).await.map_err(io::Error::from);
            match killed.and_then(|killed| killed) {
                Ok(killed) => removed.push(format!("machine {id} with {killed} processes")),
                Err(error) => failed = Some(refused(format!("machine {id}"))(error)),
            }
        }
        groups.leave();
    }
    for minor in disk::attached_below(&data_dir).map_err(refused("loop devices".into()))? {
        match disk::detach(minor).await {
            Ok(()) => removed.push(format!("loop device {minor}")),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(removed), Err)
}
