//! Finds and removes what a killed simulator left of its machines.

use std::{io, path::Path};

use super::{cgroup::SiteGroups, disk};
use crate::guest::GuestError;

/// Kills the machines of the site whose data lies in `data_dir`, removes their control groups and detaches their disks.
/// Network ports and mounts went with the machines' namespaces. Returns one line for each thing removed.
pub async fn clean(data_dir: &Path) -> Result<Vec<String>, GuestError> {
    let refused = |what: String| move |error: io::Error| GuestError::Host { what, reason: error.to_string() };
    let data_dir = data_dir.canonicalize().map_err(refused(format!("data directory {}", data_dir.display())))?;
    let groups = SiteGroups::of(&data_dir).map_err(refused("control groups".into()))?;
    let mut removed = Vec::new();
    for id in groups.machines() {
        let (groups, name) = (groups.clone(), id.clone());
        let killed = tokio::task::spawn_blocking(move || groups.remove(&name))
            .await
            .map_err(|error| refused("task".into())(error.into()))?
            .map_err(refused(format!("machine {id}")))?;
        removed.push(format!("machine {id} with {killed} processes"));
    }
    for minor in disk::attached_below(&data_dir).await? {
        disk::detach(minor).await?;
        removed.push(format!("loop device {minor}"));
    }
    Ok(removed)
}
