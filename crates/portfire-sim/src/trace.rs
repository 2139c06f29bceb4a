//! The trace of a run: a hash over everything that happened, and the lines themselves when a seed
//! is replayed for reading.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::lock;

/// Most lines that are kept; the oldest go first.
const LINES_MAX: usize = 500_000;

/// What happened, as a hash and, when wanted, as text.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: AtomicU64,
    kept: bool,
    lines: Mutex<std::collections::VecDeque<String>>,
}

impl Trace {
    /// A trace that keeps its lines, or only their hash.
    pub(crate) fn new(kept: bool) -> Trace {
        Trace { kept, ..Trace::default() }
    }

    /// Whether lines are kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Takes a number into the hash.
    pub(crate) fn mix(&self, number: u64) {
        let old = self.hash.load(Ordering::Relaxed);
        let new = (old ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.hash.store(new, Ordering::Relaxed);
    }

    /// Writes a line when lines are kept. What it says is not hashed; see [`mix`](Self::mix).
    pub(crate) fn line(&self, at: Duration, text: impl FnOnce() -> String) {
        if !self.kept {
            return;
        }
        let mut lines = lock(&self.lines);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(format!("{:>12.6} {}", at.as_secs_f64(), text()));
    }

    /// The hash so far: equal for equal runs.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.load(Ordering::Relaxed)
    }

    /// The lines, the oldest first.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.lines)).into()
    }
}
