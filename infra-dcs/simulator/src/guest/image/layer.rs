//! One layer of a container image: an uncompressed tar whose bytes depend on its content alone.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use aws_lc_rs::digest;
use tar::{EntryType, Header};

use super::output;

/// Collects the content of a layer, then writes it.
#[derive(Default)]
pub struct Layer {
    entries: Vec<(String, Source)>,
}

enum Source {
    /// A host file, executable.
    File(PathBuf),
    Text {
        content: String,
        mode: u32,
    },
    Link(String),
}

impl Layer {
    /// A layer with the accounts that programs look up.
    pub fn new() -> Self {
        Self::default()
            .text("etc/passwd", 0o644, "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532::/:/sbin/nologin\n")
            .text("etc/group", 0o644, "root:x:0:\nnonroot:x:65532:\n")
            .text("etc/nsswitch.conf", 0o644, "hosts: files dns\n")
    }

    /// Adds a host file as an executable. `path` has no leading slash.
    pub fn file(mut self, path: &str, source: impl Into<PathBuf>) -> Self {
        self.entries.push((path.to_owned(), Source::File(source.into())));
        self
    }

    /// Adds a file with this content.
    pub fn text(mut self, path: &str, mode: u32, content: &str) -> Self {
        self.entries.push((path.to_owned(), Source::Text { content: content.to_owned(), mode }));
        self
    }

    /// Adds a symbolic link.
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.entries.push((path.to_owned(), Source::Link(target.to_owned())));
        self
    }

    /// Adds programs of a root file system with every shared library they load.
    pub fn programs(mut self, root: &Path, programs: &[&str]) -> Result<Self> {
        let mut libraries = BTreeSet::new();
        for program in programs {
            let linked = output(Command::new("chroot").arg(root).args(["ldd", program]))?;
            libraries.extend(linked.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
            let real = inside(root, program)?;
            self = self.file(program.trim_start_matches('/'), real);
        }
        for library in libraries {
            let real = inside(root, &library)?;
            self = self.file(library.trim_start_matches('/'), real);
        }
        Ok(self)
    }

    /// Writes the tar to `path`; returns its digest (hex) and size in bytes.
    pub fn write(self, path: &Path) -> Result<(String, u64)> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut tar = tar::Builder::new(Hashing::new(BufWriter::with_capacity(1 << 20, file)));
        let mut dirs = BTreeSet::new();
        add_dir(&mut tar, "tmp", 0o1777, &mut dirs)?;
        for (path, source) in self.entries {
            add_parents(&mut tar, &path, &mut dirs)?;
            match source {
                Source::File(file) => {
                    let mut content = File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
                    let size = content.metadata()?.len();
                    append(&mut tar, EntryType::Regular, &path, 0o755, size, &mut content)?;
                }
                Source::Text { content, mode } => {
                    let bytes = content.as_bytes();
                    append(&mut tar, EntryType::Regular, &path, mode, bytes.len() as u64, &mut &*bytes)?;
                }
                Source::Link(target) => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, &path, target)?;
                }
            }
        }
        tar.into_inner()?.finish()
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    kind: EntryType,
    path: &str,
    mode: u32,
    size: u64,
    content: &mut dyn Read,
) -> Result<()> {
    tar.append_data(&mut header(kind, mode, size), path, content)?;
    Ok(())
}

fn add_dir<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32, done: &mut BTreeSet<String>) -> Result<()> {
    if done.insert(path.to_owned()) {
        append(tar, EntryType::Directory, path, mode, 0, &mut io::empty())?;
    }
    Ok(())
}

fn add_parents<W: Write>(tar: &mut tar::Builder<W>, path: &str, done: &mut BTreeSet<String>) -> Result<()> {
    for (at, _) in path.match_indices('/') {
        add_dir(tar, &path[..at], 0o755, done)?;
    }
    Ok(())
}

/// The host path of a file named from inside a root file system, its links followed inside.
fn inside(root: &Path, path: &str) -> Result<PathBuf> {
    let real = output(Command::new("chroot").arg(root).args(["readlink", "--canonicalize-existing", path]))?;
    Ok(root.join(real.trim().trim_start_matches('/')))
}

struct Hashing<W> {
    inner: W,
    digest: digest::Context,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, digest: digest::Context::new(&digest::SHA256), size: 0 }
    }

    fn finish(mut self) -> Result<(String, u64)> {
        self.inner.flush()?;
        Ok((hex::encode(self.digest.finish()), self.size))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.digest.update(&buffer[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
