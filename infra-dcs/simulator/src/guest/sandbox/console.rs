//! A machine's serial console: a pseudo-terminal that the guest has as `/dev/console`, read into a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

/// Longest line; more is another one.
const LINE: u64 = 16 * 1024;
/// How much of the end of a console's file is looked at.
const TAIL: u64 = 256 * 1024;

/// Both ends of a console.
pub struct Console {
    /// The simulator's end.
    pub master: OwnedFd,
    /// The guest's end.
    pub slave: OwnedFd,
    /// Device node of the guest's end.
    pub path: String,
}

/// Makes a console.
pub fn open() -> io::Result<Console> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname(&master, Vec::new())?.to_string_lossy().into_owned();
    let slave = rustix::fs::open(path.as_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Console { master, slave, path })
}

/// Copies what the guest writes into the log until the guest is gone, and hands each complete line to `line`. Blocks.
pub fn copy(master: OwnedFd, log: &Path, mut line: impl FnMut(String)) -> io::Result<()> {
    let mut log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut reader = BufReader::new(File::from(master));
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        // A guest that never ends its line must not fill the memory.
        match reader.by_ref().take(LINE).read_until(b'\n', &mut bytes) {
            // EIO is how a pseudo-terminal says that its other end is closed everywhere.
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {
                let text = clean(&String::from_utf8_lossy(&bytes));
                if !text.is_empty() {
                    writeln!(log, "{text}")?;
                    line(text);
                }
            }
        }
    }
}

/// The last lines of a console's log, oldest first.
pub fn tail(log: &Path, lines: usize) -> Vec<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// A line without escape sequences and control characters.
fn clean(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next_if_eq(&'[').is_some() {
                while characters.next_if(|next| !next.is_ascii_alphabetic()).is_some() {}
                characters.next();
            }
        } else if !character.is_control() || character == '\t' {
            text.push(character);
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn escape_sequences_are_removed() {
        assert_eq!(clean("\u{1b}[0;32m  OK  \u{1b}[0m] Started.\r\n"), "  OK  ] Started.");
        assert_eq!(clean("\u{7}\r\n"), "");
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("console.log");
        assert!(tail(&log, 3).is_empty());
        std::fs::write(&log, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&log, 2), ["b", "c"]);
        assert_eq!(tail(&log, 9), ["a", "b", "c"]);
    }
}
