//! The CD-ROM drive: what may be put in when, and what stays.

use serde::{Deserialize, Serialize};

use super::{
    Result, Site, VmStatus, codes,
    files::File,
    policy::Release,
    tasks::{Accepted, Work},
};

/// Protocol of a file on a datastore.
pub const FILE: &str = "file";

/// A medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Medium {
    /// `8@name.iso`, or a share's path.
    pub path: String,
    /// `file`, `cifs`, …
    pub protocol: String,
    /// When it was put in, milliseconds since the epoch.
    pub since: u64,
    /// False while the attach task runs.
    pub done: bool,
}

impl Medium {
    /// Checks path and protocol of a call.
    pub fn read(path: &str, protocol: Option<&str>, release: Release, now: u64) -> Result<Self> {
        let known: &[&str] = match release {
            Release::R6 => &["cifs", "sff", "datastore"],
            Release::Fc881 => &["cifs", "sff", FILE, "nfs"],
        };
        let protocol = protocol.unwrap_or("cifs").to_ascii_lowercase();
        if !known.contains(&protocol.as_str()) {
            return Err(codes::CD_PROTOCOL.because(protocol));
        }
        if path.is_empty() || path.len() > 256 {
            return Err(codes::CD_PATH.because("devicePath: 1…256 characters"));
        }
        Ok(Self { path: path.to_owned(), protocol, since: now, done: true })
    }

    /// Datastore id and file name of a medium on a datastore.
    fn on_datastore(&self) -> Option<(u64, &str)> {
        let (datastore, name) = self.path.split_once('@')?;
        Some((datastore.parse().ok()?, name))
    }
}

impl Site {
    /// The uploaded file that a medium names.
    pub(super) fn medium_file(&self, medium: &Medium) -> Result<&File> {
        if !matches!(medium.protocol.as_str(), FILE | "datastore") {
            // No host of this site reaches any share.
            return codes::CD_SHARE_UNREACHABLE.refuse();
        }
        let (datastore, name) = medium.on_datastore().ok_or_else(|| codes::CD_PATH.because(&*medium.path))?;
        if !self.datastores.contains_key(&datastore) {
            return codes::DATASTORE_NOT_FOUND.refuse();
        }
        let file = self.files.values().find(|file| file.datastore == datastore && file.name == name);
        file.ok_or_else(|| codes::CD_ISO_MISSING.because(&*medium.path))
    }

    /// A VM can read its medium, if it has one.
    pub(super) fn medium_readable(&self, id: u64) -> Result<()> {
        match &self.vm(id)?.medium {
            Some(medium) => self.medium_file(medium).map(|_| ()),
            None => Ok(()),
        }
    }

    /// File in the drive of a VM, if any.
    pub fn file_in_drive(&self, id: u64) -> Option<u64> {
        let medium = self.vms.get(&id)?.medium.as_ref()?;
        self.medium_file(medium).ok().map(|file| file.id)
    }

    /// Puts a medium in: into a running VM, or (8.8.1) into a stopped one for its power-on.
    pub fn attach_cd(
        &mut self,
        now: u64,
        user: &str,
        id: u64,
        path: &str,
        protocol: Option<&str>,
        at_power_on: bool,
    ) -> Result<Accepted> {
        let release = self.policy.release;
        let vm = self.idle(id, "AttachCdrom")?;
        if vm.is_template {
            return codes::TEMPLATE_CLONING_ATTACH.refuse();
        }
        if vm.medium.is_some() {
            return codes::CD_MOUNTED.refuse();
        }
        let mut medium = Medium::read(path, protocol, release, now)?;
        match vm.status {
            VmStatus::Running => {}
            VmStatus::Stopped if release == Release::Fc881 && at_power_on && medium.protocol == FILE => {}
            VmStatus::Stopped => return codes::VM_STATE.refuse(),
            _ => return codes::RUNNING_OR_STOPPED.refuse(),
        }
        if medium.protocol == FILE && medium.on_datastore().is_none() {
            return Err(codes::CD_PATH.because(path));
        }
        medium.done = false;
        self.vm_mut(id)?.medium = Some(medium);
        Ok(self.accept_vm(now, user, id, Work::AttachCd { vm: id }))
    }

    pub(super) fn medium_attached(&mut self, now: u64, task: u64, id: u64) {
        if let Err(error) = self.medium_readable(id) {
            return self.fail_task(now, task, error.code, false);
        }
        if let Some(medium) = self.vms.get_mut(&id).and_then(|vm| vm.medium.as_mut()) {
            medium.done = true;
        }
        self.succeed(now, task, None);
    }

    /// Takes the medium out; of a running VM only.
    pub fn detach_cd(&mut self, now: u64, user: &str, id: u64) -> Result<Accepted> {
        let vm = self.idle(id, "DetachCdrom")?;
        if vm.medium.is_none() {
            return codes::CD_NOT_MOUNTED.refuse();
        }
        if vm.status != VmStatus::Running {
            return Err(codes::VM_STATE.because("a medium can be taken out of a running VM only"));
        }
        Ok(self.accept_vm(now, user, id, Work::DetachCd { vm: id }))
    }

    /// VM whose drive holds a file.
    pub fn drive_with(&self, file: u64) -> Option<u64> {
        self.vms.keys().copied().find(|vm| self.file_in_drive(*vm) == Some(file))
    }
}
