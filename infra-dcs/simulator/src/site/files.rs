//! Files on datastores, and the tickets with which hosts take them.

use serde::{Deserialize, Serialize};

use super::{Effect, Result, Site, codes};

/// An uploaded file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Id.
    pub id: u64,
    /// Datastore.
    pub datastore: u64,
    /// Name, unique on the datastore.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub created: u64,
}

/// Permission to upload one file through one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Secret path segment.
    pub path: String,
    /// Secret that the upload shows.
    pub token: String,
    /// Host that takes it.
    pub host: u64,
    /// Datastore.
    pub datastore: u64,
    /// File name.
    pub name: String,
    /// Announced size in bytes.
    pub size: u64,
    /// End, milliseconds since the epoch.
    pub expires: u64,
}

impl Site {
    /// Step one of an upload: VRM picks a host and hands out a ticket.
    pub fn apply_upload(&mut self, now: u64, datastore: u64, name: &str, size: u64) -> Result<Ticket> {
        let store = self.datastores.get(&datastore).ok_or(codes::DATASTORE_NOT_FOUND)?;
        let plain = |letter: char| !letter.is_control() && !matches!(letter, '/' | '\\' | '@');
        if name.is_empty() || name.chars().count() > 256 || !name.chars().all(plain) || name.starts_with('.') {
            return Err(codes::BAD_PARAMETER.because("fileName: 1…256 characters, no path, no @"));
        }
        if size == 0 {
            return Err(codes::BAD_PARAMETER.because("fileSize: bytes, at least 1"));
        }
        if !store.uploads {
            return Err(codes::DATASTORE_UNSUITABLE.because("files cannot be uploaded to this datastore"));
        }
        if store.status != "NORMAL" {
            return Err(codes::DATASTORE_STATE.because(&*store.status));
        }
        let exists = self.files.values().any(|file| file.datastore == datastore && file.name == name);
        if exists && !self.policy.upload_overwrites {
            return codes::FILE_EXISTS.refuse();
        }
        if size.div_ceil(1 << 30) > self.free_gb(datastore) {
            return codes::NO_SPACE.refuse();
        }
        let healthy: Vec<u64> = store
            .hosts
            .iter()
            .copied()
            .filter(|host| self.hosts.get(host).is_some_and(|host| host.status == "normal" && !host.maintaining))
            .collect();
        if healthy.is_empty() {
            return codes::DATASTORE_NOT_CONNECTED.refuse();
        }
        let pick = usize::try_from(self.random() % healthy.len() as u64).unwrap_or_default();
        let ticket = Ticket {
            path: format!("{:016x}{:016x}", self.random(), self.random()),
            token: format!("{:016x}{:016x}", self.random(), self.random()),
            host: healthy[pick],
            datastore,
            name: name.to_owned(),
            size,
            expires: now + self.policy.upload_expire_seconds * 1000,
        };
        self.uploads.retain(|_, other| other.expires > now);
        self.uploads.insert(ticket.path.clone(), ticket.clone());
        self.changed();
        Ok(ticket)
    }

    /// Takes back the tickets of a host for a datastore; tells how many.
    pub fn cancel_uploads(&mut self, datastore: u64, host: Option<u64>) -> Result<usize> {
        if !self.datastores.contains_key(&datastore) {
            return codes::DATASTORE_NOT_FOUND.refuse();
        }
        let before = self.uploads.len();
        self.uploads.retain(|_, ticket| ticket.datastore != datastore || host.is_some_and(|host| host != ticket.host));
        Ok(before - self.uploads.len())
    }

    /// The ticket of an upload that arrives, with the right token and in time.
    pub fn ticket(&self, now: u64, path: &str, token: &str) -> Option<Ticket> {
        self.uploads.get(path).filter(|ticket| ticket.token == token && ticket.expires > now).cloned()
    }

    /// The file of a ticket has arrived whole: it exists from now on. The engine moves the bytes to this id.
    pub fn uploaded(&mut self, now: u64, ticket: &Ticket) -> Result<u64> {
        self.uploads.remove(&ticket.path).ok_or(codes::GONE)?;
        let same = self.files.values().find(|file| file.datastore == ticket.datastore && file.name == ticket.name);
        if let Some(id) = same.map(|file| file.id) {
            if !self.policy.upload_overwrites {
                return codes::FILE_EXISTS.refuse();
            }
            self.files.remove(&id);
            self.effects.push(Effect::RemoveFile { file: id });
        }
        let id = self.id_after(30_000);
        let file = File { id, datastore: ticket.datastore, name: ticket.name.clone(), size: ticket.size, created: now };
        self.files.insert(id, file);
        self.changed();
        Ok(id)
    }

    /// Deletes a file that no VM has in its drive.
    pub fn delete_file(&mut self, datastore: u64, id: u64) -> Result<()> {
        if self.files.get(&id).is_none_or(|file| file.datastore != datastore) {
            return Err(codes::GONE.because(format!("file {id}")));
        }
        if self.drive_with(id).is_some() {
            return codes::FILE_IN_USE.refuse();
        }
        self.files.remove(&id);
        self.effects.push(Effect::RemoveFile { file: id });
        self.changed();
        Ok(())
    }
}
