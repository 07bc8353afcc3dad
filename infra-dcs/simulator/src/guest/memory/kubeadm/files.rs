//! The machine's files, as much as programs on it need of them.

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A regular file, links followed.
    File,
    /// A directory.
    Directory,
}

/// A file system in memory. Paths are absolute.
pub trait Files: Send {
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

/// Files for tests: a map.
#[cfg(test)]
#[derive(Clone, Default)]
pub struct MapFiles(pub std::collections::BTreeMap<String, Vec<u8>>);

#[cfg(test)]
impl Files for MapFiles {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.0.get(path).cloned()
    }

    fn entry(&self, path: &str) -> Option<Entry> {
        let below = format!("{}/", path.trim_end_matches('/'));
        if self.0.contains_key(path) {
            Some(Entry::File)
        } else {
            self.0.keys().any(|known| known.starts_with(&below)).then_some(Entry::Directory)
        }
    }

    fn list(&self, directory: &str) -> Vec<String> {
        let below = format!("{}/", directory.trim_end_matches('/'));
        let names = self.0.keys().filter_map(|path| path.strip_prefix(&below)?.split('/').next().map(str::to_owned));
        names.filter(|name| !name.is_empty()).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    fn write(&mut self, path: &str, _mode: u32, content: &[u8]) {
        self.0.insert(path.to_owned(), content.to_owned());
    }

    fn make_directory(&mut self, path: &str) {
        self.0.insert(format!("{}/", path.trim_end_matches('/')), Vec::new());
    }

    fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }
}
