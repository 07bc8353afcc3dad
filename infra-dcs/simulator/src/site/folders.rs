//! VM folders: grouping without meaning for placement.

use super::{Entity, Folder, Result, Site, codes};

impl Site {
    /// The parent of a URN: a folder, or none for the site.
    pub fn folder_parent(&self, urn: Option<&str>) -> Result<Option<u64>> {
        match urn.map(|urn| self.parse(urn)) {
            None | Some(Some(Entity::Site)) => Ok(None),
            Some(Some(Entity::Folder(id))) if self.folders.contains_key(&id) => Ok(Some(id)),
            Some(Some(Entity::Folder(_))) => codes::FOLDER_NOT_FOUND.refuse(),
            Some(_) => codes::BAD_URN.refuse(),
        }
    }

    /// Makes a folder.
    pub fn create_folder(&mut self, name: &str, parent: Option<u64>) -> Result<u64> {
        if name.is_empty() || name.chars().count() > 256 {
            return Err(codes::BAD_PARAMETER.because("name: 1…256 characters"));
        }
        if self.folders.values().any(|folder| folder.parent == parent && folder.name == name) {
            return codes::FOLDER_NAME_USED.refuse();
        }
        let id = self.id_after(390);
        self.folders.insert(id, Folder { id, name: name.to_owned(), parent });
        self.changed();
        Ok(id)
    }

    /// Deletes an empty folder.
    pub fn delete_folder(&mut self, id: u64) -> Result<()> {
        if !self.folders.contains_key(&id) {
            return codes::FOLDER_NOT_FOUND.refuse();
        }
        let used = self.folders.values().any(|folder| folder.parent == Some(id))
            || self.vms.values().any(|vm| vm.folder == Some(id));
        if used {
            return codes::FOLDER_NOT_EMPTY.refuse();
        }
        self.folders.remove(&id);
        self.changed();
        Ok(())
    }

    /// Moves a VM into a folder.
    pub fn move_vm(&mut self, urn: &str, folder: Option<u64>) -> Result<u64> {
        let Some(Entity::Vm(id)) = self.parse(urn) else { return codes::BAD_URN.refuse() };
        self.vm_mut(id)?.folder = folder;
        self.changed();
        Ok(id)
    }
}
