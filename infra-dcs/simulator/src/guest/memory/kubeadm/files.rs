//! The machine's files, as much as programs on it need of them.

use crate::guest::memory::root::{Kind, Owner, Root};

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A regular file, links followed.
    File,
    /// A directory.
    Directory,
}

/// A file system in memory. Paths are absolute.
pub trait Files: Send + Sync {
    /// Content of a file; none where there is no file.
    fn read(&self, path: &str) -> Option<Vec<u8>>;
    /// What is there.
    fn entry(&self, path: &str) -> Option<Entry>;
    /// Names in a directory, sorted; empty where there is none.
    fn list(&self, directory: &str) -> Vec<String>;
    /// Writes a file and the directories above it.
    fn write(&mut self, path: &str, mode: u32, content: &[u8]);
    /// Makes a directory and those above it.
    fn make_directory(&mut self, path: &str);
    /// Removes a file; one that is not there is a success.
    fn remove(&mut self, path: &str);

    /// Content of a text file.
    fn text(&self, path: &str) -> Option<String> {
        self.read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether a regular file is there.
    fn is_file(&self, path: &str) -> bool {
        self.entry(path) == Some(Entry::File)
    }
}

impl Files for Root {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.is_file(path).then(|| Root::read(self, path).ok()).flatten().map(|content| content.to_vec())
    }

    fn entry(&self, path: &str) -> Option<Entry> {
        match self.metadata(path).ok()?.kind {
            Kind::Directory => Some(Entry::Directory),
            _ => Some(Entry::File),
        }
    }

    fn list(&self, directory: &str) -> Vec<String> {
        Root::list(self, directory).unwrap_or_default()
    }

    fn write(&mut self, path: &str, mode: u32, content: &[u8]) {
        // A disk in memory has room, and no path of kubeadm's is a directory unless the user made one of that name.
        let _ = self.put(path, content, mode, Owner::default());
    }

    fn make_directory(&mut self, path: &str) {
        let _ = self.make_directories(path);
    }

    fn remove(&mut self, path: &str) {
        let _ = self.remove_file(path);
    }
}

/// Files for tests.
#[cfg(test)]
pub fn empty() -> Root {
    use crate::guest::memory::root::{FileSystem, Volume};
    Root::new(Volume::new(FileSystem::new("ext4", "", "")))
}
