//! Descriptors of a shell and where they lead.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::guest::memory::{
    machine::Machine,
    root::{Errno, Kind},
};

/// Most bytes that a pipe or command substitution holds.
const MAX_BUFFER: usize = 16 << 20;

/// What is still to be read.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Arc<[u8]>,
    at: usize,
}

impl Input {
    pub(super) fn new(bytes: impl Into<Arc<[u8]>>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { bytes: bytes.into(), at: 0 }))
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let rest = self.bytes[self.at..].to_vec();
        self.at = self.bytes.len();
        rest
    }

    /// A line without its end, and whether it had one; none at the end.
    pub(super) fn line(&mut self, delimiter: u8) -> Option<(Vec<u8>, bool)> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().position(|byte| *byte == delimiter);
        let line = rest[..end.unwrap_or(rest.len())].to_vec();
        self.at += end.map_or(rest.len(), |end| end + 1);
        Some((line, end.is_some()))
    }
}

/// The console, to which lines go as soon as they are whole.
#[derive(Debug, Default)]
pub(super) struct Console {
    /// Who speaks.
    tag: String,
    partial: Vec<u8>,
    /// Last line that was not empty.
    last: String,
}

impl Console {
    pub(super) fn new(tag: &str) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { tag: tag.to_owned(), ..Self::default() }))
    }

    fn write(&mut self, bytes: &[u8], machine: &Machine) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.line(&line, machine);
        }
    }

    fn line(&mut self, line: &[u8], machine: &Machine) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        machine.say(&if self.tag.is_empty() { line.to_owned() } else { format!("{}: {line}", self.tag) });
        if !line.is_empty() {
            line.clone_into(&mut self.last);
        }
    }

    /// Writes what has no line end yet; the last line said.
    pub(super) fn finish(&mut self, machine: &Machine) -> String {
        if !self.partial.is_empty() {
            let rest = std::mem::take(&mut self.partial);
            self.line(&rest, machine);
        }
        self.last.clone()
    }
}

/// Where a descriptor leads.
#[derive(Clone, Debug)]
pub(super) enum Stream {
    Input(Arc<Mutex<Input>>),
    Buffer(Arc<Mutex<Vec<u8>>>),
    Console(Arc<Mutex<Console>>),
    /// The end of a file, by its path.
    File(String),
    Null,
}

/// All descriptors.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(BTreeMap<u32, Stream>);

impl Files {
    pub(super) fn standard(output: Stream, error: Stream) -> Self {
        Self(BTreeMap::from([(0, Stream::Null), (1, output), (2, error)]))
    }

    pub(super) fn set(&mut self, descriptor: u32, stream: Stream) {
        self.0.insert(descriptor, stream);
    }

    pub(super) fn close(&mut self, descriptor: u32) {
        self.0.remove(&descriptor);
    }

    pub(super) fn get(&self, descriptor: u32) -> Option<&Stream> {
        self.0.get(&descriptor)
    }

    /// The source of a descriptor that reads.
    pub(super) fn input(&self, descriptor: u32) -> Option<Arc<Mutex<Input>>> {
        match self.0.get(&descriptor) {
            Some(Stream::Input(input)) => Some(Arc::clone(input)),
            Some(_) => Some(Input::new(Vec::new())),
            None => None,
        }
    }

    /// Writes to a descriptor; what it costs beside the bytes themselves, in bytes.
    pub(super) fn write(&self, descriptor: u32, bytes: &[u8], machine: &mut Machine) -> Result<u64, String> {
        match self.0.get(&descriptor) {
            None => return Err("write error: Bad file descriptor".to_owned()),
            Some(Stream::Null | Stream::Input(_)) => {}
            Some(Stream::Buffer(buffer)) => {
                let mut buffer = buffer.lock();
                if buffer.len() + bytes.len() > MAX_BUFFER {
                    return Err(format!("write error: more than {MAX_BUFFER} bytes in a pipe"));
                }
                buffer.extend_from_slice(bytes);
            }
            Some(Stream::Console(console)) => console.lock().write(bytes, machine),
            Some(Stream::File(path)) => {
                let before = machine.root.metadata(path).map_or(0, |metadata| metadata.size);
                machine.root.append(path, bytes).map_err(|error| format!("write error: {error}"))?;
                return Ok(before);
            }
        }
        Ok(0)
    }

    /// Opens a file for writing.
    pub(super) fn open_write(&self, path: &str, append: bool, machine: &mut Machine) -> Result<Stream, Errno> {
        match path {
            "/dev/stdout" | "/proc/self/fd/1" | "/dev/fd/1" => return self.get(1).cloned().ok_or(Errno::NotFound),
            "/dev/stderr" | "/proc/self/fd/2" | "/dev/fd/2" => return self.get(2).cloned().ok_or(Errno::NotFound),
            "/dev/console" | "/dev/kmsg" | "/dev/tty0" | "/dev/ttyS0" => return Ok(Stream::Console(Console::new(""))),
            _ => {}
        }
        match machine.root.metadata(path) {
            Ok(metadata) if metadata.kind == Kind::Character => return Ok(Stream::Null),
            Ok(metadata) if metadata.kind == Kind::Block => return Err(Errno::NotPermitted),
            _ => {}
        }
        if append {
            machine.root.append(path, b"")?;
        } else {
            machine.root.write(path, Vec::new())?;
        }
        Ok(Stream::File(path.to_owned()))
    }
}
