//! What the running jobs of a sequence say about themselves.

use std::collections::BTreeMap;

use portfire_core::notes::{BARS_MAX, LINE_BYTES_MAX, LOG_BYTES_MAX, NOTED_KEYS_MAX};
use portfire_core::{Annotation, CycleRequest, Json, Level, LogLine, Notes, Progress};

use super::Script;

impl Script {
    /// Has some claims speak, mostly those of the cycle's server.
    pub(super) fn speak(&mut self, request: &mut CycleRequest) {
        if !self.random.chance(40) {
            return;
        }
        for _ in 0..1 + self.random.below(2) {
            let claim = self.claim_of(&request.server);
            let notes = if self.random.chance(2) { self.flood() } else { self.words() };
            request.notes.push(Annotation::new(claim, notes));
        }
    }

    fn words(&mut self) -> Notes {
        let mut notes = Notes { piece: self.random.below(4) as u32, ..Notes::default() };
        for _ in 0..self.random.below(3) {
            let text = self.random.pick(&["begun", "é ' \"\n", ""]).to_owned();
            notes.lines.push(self.line(text));
        }
        for _ in 0..self.random.below(3) {
            let bar = self.random.pick(&["rows", "é", ""]).to_owned();
            let (done, total) = (self.random.below(12) as u64, self.random.below(10) as u64);
            notes.progress.push(Progress { bar, done, total });
        }
        if self.random.chance(30) {
            let value = Json::stored(format!("{{\"n\": {}}}", self.random.below(9)));
            notes.metadata.insert(self.random.pick(&["rows", "é"]).to_owned(), value);
        }
        if self.random.chance(30) {
            notes.tags = vec![self.random.pick(&["eu", "late", ""]).to_owned(); 2];
        }
        notes
    }

    fn line(&mut self, text: String) -> LogLine {
        let level = self.random.pick(&[Level::Debug, Level::Info, Level::Warn, Level::Error]);
        LogLine { attempt: self.random.below(3) as u32, at: self.start, level, text }
    }

    /// More than is kept.
    fn flood(&mut self) -> Notes {
        let lines = LOG_BYTES_MAX / LINE_BYTES_MAX + 3;
        let lines = (0..lines).map(|_| self.line("é".repeat(LINE_BYTES_MAX))).collect();
        let bar = |n| Progress { bar: format!("bar {n}"), done: 1, total: 2 };
        let key = |n| (format!("key {n}"), Json::empty());
        Notes {
            piece: 9,
            lines,
            progress: (0..BARS_MAX + 2).map(bar).collect(),
            metadata: (0..NOTED_KEYS_MAX + 2).map(key).collect::<BTreeMap<_, _>>(),
            tags: (0..20).map(|n| format!("tag {n}")).collect(),
        }
    }
}
