//! What running jobs say about themselves.

use std::collections::BTreeMap;

use super::jobs::Number;
use portfire_core::clock::Timestamp;
use portfire_core::engine::notes::{LinePlace, cut, take_bar, take_line, take_tag, takes_metadata};
use portfire_core::engine::pages::refuse;
use portfire_core::error::StorageError;
use portfire_core::job::Json;
use portfire_core::monitor::{Cursor, PAGE_MAX};
use portfire_core::notes::{Level, LogLine, LogPage, Notes, NotesRecord};

/// What one job has said.
#[derive(Default)]
struct Said {
    record: NotesRecord,
    /// In the order of their places; a piece without lines is there too.
    pieces: Vec<Piece>,
    /// The last attempt that spoke, and how many bytes of its log are kept.
    attempt: u32,
    bytes: usize,
}

/// The lines of one piece, close together: most logs are written and never read.
struct Piece {
    /// The attempt, and the number among its pieces.
    place: (u32, u32),
    texts: String,
    lines: Vec<Line>,
}

/// A line without its text, and where that ends.
struct Line {
    at: Timestamp,
    level: Level,
    end: usize,
}

/// What all jobs have said.
#[derive(Default)]
pub(super) struct AllNotes(BTreeMap<Number, Said>);

impl AllNotes {
    /// Takes down a piece of what an attempt says, once. `tags` are those of the job's call.
    pub(super) fn take(&mut self, job: Number, attempt: u32, notes: Notes, tags: &[String]) {
        let said = self.0.entry(job).or_default();
        let place = (attempt, notes.piece);
        let Err(free) = said.pieces.binary_search_by_key(&place, |piece| piece.place) else {
            return;
        };
        let piece = said.take_lines(place, &notes.lines);
        if said.pieces.is_empty() {
            // Most jobs end before they have said a second one.
            said.pieces.reserve_exact(1);
        }
        said.pieces.insert(free, piece);
        let NotesRecord { progress, tags: added, .. } = &mut said.record;
        notes.progress.into_iter().for_each(|moved| take_bar(progress, moved));
        notes.tags.into_iter().for_each(|tag| take_tag(added, tags, tag));
        said.take_metadata(notes.metadata);
    }

    pub(super) fn record(&self, job: Number) -> NotesRecord {
        self.0.get(&job).map(|said| said.record.clone()).unwrap_or_default()
    }

    pub(super) fn remove(&mut self, job: Number) {
        self.0.remove(&job);
    }

    /// A page of the log of a job, which may be not stored.
    pub(super) fn log(
        &self,
        job: Option<Number>,
        after: Option<Cursor>,
        max: u32,
    ) -> Result<LogPage, StorageError> {
        let behind = match &after {
            Some(cursor) => Some(cursor.0.parse::<LinePlace>().map_err(|_| refuse(cursor))?),
            None => None,
        };
        let Some(job) = job else { return Ok(LogPage::default()) };
        let mut page = LogPage { lines: Vec::new(), next: after };
        let Some(said) = self.0.get(&job) else { return Ok(page) };
        let LinePlace { attempt, piece, line: seen } = behind.unwrap_or_default();
        let first = (attempt, piece);
        let start = said.pieces.partition_point(|piece| piece.place < first);
        for piece in &said.pieces[start..] {
            let place = piece.place;
            let skipped = match behind {
                Some(_) if place == first => seen.saturating_add(1),
                _ => 0,
            };
            for (number, (line, text)) in piece.lines().enumerate().skip(skipped) {
                if page.lines.len() == max.min(PAGE_MAX) as usize {
                    return Ok(page);
                }
                let ((attempt, piece), text) = (place, text.to_owned());
                page.lines.push(LogLine { attempt, at: line.at, level: line.level, text });
                let last = LinePlace { attempt, piece, line: number };
                page.next = Some(Cursor(last.to_string()));
            }
        }
        Ok(page)
    }
}

impl Said {
    /// The lines that the attempt may still say.
    fn take_lines(&mut self, place: (u32, u32), said: &[LogLine]) -> Piece {
        let (attempt, _) = place;
        if self.attempt != attempt {
            (self.attempt, self.bytes) = (attempt, 0);
        }
        let bytes = said.iter().map(|line| cut(&line.text).len()).sum();
        let (mut texts, mut lines) = (String::with_capacity(bytes), Vec::with_capacity(said.len()));
        for &LogLine { at, level, ref text, .. } in said {
            if let Some(text) = take_line(&mut self.bytes, text) {
                texts.push_str(text);
                lines.push(Line { at, level, end: texts.len() });
            }
        }
        Piece { place, texts, lines }
    }

    fn take_metadata(&mut self, set: BTreeMap<String, Json>) {
        let metadata = &mut self.record.metadata;
        for (key, value) in set {
            if takes_metadata(metadata.len(), metadata.contains_key(&key), &value) {
                metadata.insert(key, value);
            }
        }
    }
}

impl Piece {
    fn lines(&self) -> impl Iterator<Item = (&Line, &str)> {
        let mut start = 0;
        self.lines.iter().map(move |line| {
            let text = &self.texts[start..line.end];
            start = line.end;
            (line, text)
        })
    }
}
