//! What a running job says about itself: log lines, progress bars, metadata and tags.
//!
//! Notes travel with the server's [`cycle`](crate::Storage::cycle), fenced like a finish and applied before
//! it, in the same commit. They belong to the job and go with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::job::Json;
use crate::storage::Claim;

/// Most bytes of log text that an attempt keeps; the rest is dropped, and a last line says how much.
pub const LOG_BYTES_MAX: usize = 256 * 1024;
/// Longest log line, in bytes; the rest of it is cut off.
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// Longest name of a progress bar, in bytes.
pub const BAR_BYTES_MAX: usize = 64;
/// Most progress bars of a job.
pub const BARS_MAX: usize = 32;
/// Most metadata keys that a job can set while it runs.
pub const NOTED_KEYS_MAX: usize = 64;
/// Largest value of one metadata key, in bytes of JSON.
pub const NOTED_VALUE_BYTES_MAX: usize = 64 * 1024;

/// How important a log line is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For who looks for a fault.
    Debug,
    /// For who watches.
    #[default]
    Info,
    /// Something is odd.
    Warn,
    /// Something went wrong.
    Error,
}

impl Level {
    /// The name in lower case, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// A line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// In which attempt.
    pub attempt: u32,
    /// When: the instant of the claim plus the time that the attempt had run.
    pub at: Timestamp,
    /// How important.
    pub level: Level,
    /// What was said. May hold any character but NUL.
    pub text: String,
}

/// A progress bar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Its name within the job: 1 to [`BAR_BYTES_MAX`] bytes.
    pub bar: String,
    /// How far it is; never over the total.
    pub done: u64,
    /// How far it goes.
    pub total: u64,
}

/// A piece of what an attempt says; the values of a bar or a key replace those of earlier pieces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// The number of this piece among those of its attempt, from 0. A piece that was applied before
    /// is not applied again.
    pub piece: u32,
    /// Log lines, the oldest first.
    pub lines: Vec<LogLine>,
    /// Bars that moved.
    pub progress: Vec<Progress>,
    /// Metadata that was set; at most [`NOTED_KEYS_MAX`] keys in all, later ones are dropped.
    pub metadata: BTreeMap<String, Json>,
    /// Tags that were added; at most [`TAGS_MAX`](crate::job::TAGS_MAX) in all with those of the call, later ones
    /// are dropped.
    pub tags: Vec<String>,
}

impl Notes {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
            && self.progress.is_empty()
            && self.metadata.is_empty()
            && self.tags.is_empty()
    }
}

/// Notes with the right to write them.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// The attempt that speaks. It is heard while it holds its job, and after its own finish for as long as
    /// the job stands where that has put it.
    pub claim: Claim,
    /// What it says; shared, so that a call which may have to be repeated does not copy a log of megabytes.
    pub notes: Arc<Notes>,
}

impl Annotation {
    /// What an attempt says.
    pub fn new(claim: Claim, notes: Notes) -> Annotation {
        Annotation { claim, notes: Arc::new(notes) }
    }
}

/// What a job has said about itself, without its log.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NotesRecord {
    /// Its bars, in the order in which they first came.
    pub progress: Vec<Progress>,
    /// Its metadata, over that of the call.
    pub metadata: BTreeMap<String, Json>,
    /// The tags it added.
    pub tags: Vec<String>,
}

/// A page of a job's log, in the order of attempts and of what was said.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// Where to go on, also later when more was said; `None` when nothing was said yet.
    pub next: Option<crate::monitor::Cursor>,
}
