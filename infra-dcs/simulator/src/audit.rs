//! The audit: who asked what, when, with which outcome, and how many changes it made. JSON lines in a file, and the
//! latest records in memory for the control API. Bodies and secrets never appear.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use parking_lot::Mutex;
use serde::Serialize;

/// Records kept in memory; the file has them all.
const KEPT: usize = 50_000;

/// One call.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Counts from 1.
    pub seq: u64,
    /// Arrival, milliseconds since the epoch.
    pub time: u64,
    /// `vrm`, `host` or `control`.
    pub listener: &'static str,
    /// Login name; empty before login.
    pub user: String,
    /// Method.
    pub method: String,
    /// Path and query. The secret segment of upload paths is left out.
    pub path: String,
    /// HTTP status; 0 where the connection was cut.
    pub status: u16,
    /// Error code, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Changes made to the site.
    pub effects: u64,
    /// Task that was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// Injected fault, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Duration in milliseconds.
    pub took: u64,
}

struct Inner {
    file: File,
    records: VecDeque<Record>,
    seq: u64,
}

/// The audit of one simulator.
pub struct Audit {
    inner: Mutex<Inner>,
}

impl Audit {
    /// Appends to the file at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { inner: Mutex::new(Inner { file, records: VecDeque::new(), seq: 0 }) })
    }

    /// Writes a record; its number is given here.
    pub fn write(&self, mut record: Record) {
        let mut inner = self.inner.lock();
        inner.seq += 1;
        record.seq = inner.seq;
        if let Ok(mut line) = serde_json::to_vec(&record) {
            line.push(b'\n');
            if let Err(error) = inner.file.write_all(&line) {
                tracing::error!(%error, "The audit cannot be written.");
            }
        }
        if inner.records.len() == KEPT {
            inner.records.pop_front();
        }
        inner.records.push_back(record);
    }

    /// Records after number `since`, oldest first, at most `limit` of the newest.
    pub fn since(&self, since: u64, limit: usize) -> Vec<Record> {
        let inner = self.inner.lock();
        let wanted: Vec<&Record> = inner.records.iter().filter(|record| record.seq > since).collect();
        wanted.iter().skip(wanted.len().saturating_sub(limit)).map(|record| (*record).clone()).collect()
    }

    /// Forgets the records in memory.
    pub fn forget(&self) {
        self.inner.lock().records.clear();
    }
}
