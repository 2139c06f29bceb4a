//! What running jobs say about themselves.

use std::collections::BTreeMap;

use super::jobs::Number;
use crate::error::StorageError;
use crate::job::Json;
use crate::monitor::{Cursor, PAGE_MAX};
use crate::notes::{
    BARS_MAX, LINE_BYTES_MAX, LOG_BYTES_MAX, LogLine, LogPage, NOTED_KEYS_MAX,
    NOTED_VALUE_BYTES_MAX, Notes, NotesRecord, Progress,
};

/// Longest name of a bar, and longest tag, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Most tags of a job, with those of its call.
const TAGS_MAX: usize = 16;

/// What one job has said.
#[derive(Default)]
struct Said {
    record: NotesRecord,
    /// The lines by attempt and piece; a piece without lines is there too.
    pieces: BTreeMap<(u32, u32), Vec<LogLine>>,
    /// The last attempt that spoke, and how many bytes of its log are kept.
    attempt: u32,
    bytes: usize,
}

/// What all jobs have said.
#[derive(Default)]
pub(super) struct AllNotes(BTreeMap<Number, Said>);

impl AllNotes {
    /// Takes down a piece of what an attempt says, once. `tags` are those of the job's call.
    pub(super) fn take(&mut self, job: Number, attempt: u32, notes: Notes, tags: &[String]) {
        let said = self.0.entry(job).or_default();
        let piece = (attempt, notes.piece);
        if said.pieces.contains_key(&piece) {
            return;
        }
        let lines = said.take_lines(attempt, notes.lines);
        said.pieces.insert(piece, lines);
        notes.progress.into_iter().for_each(|moved| said.take_bar(moved));
        said.take_metadata(notes.metadata);
        notes.tags.into_iter().for_each(|tag| said.take_tag(tag, tags));
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
            Some(cursor) => Some(parse(&cursor.0).ok_or_else(|| super::pages::refuse(cursor))?),
            None => None,
        };
        let Some(job) = job else { return Ok(LogPage::default()) };
        let mut page = LogPage { lines: Vec::new(), next: after };
        let Some(said) = self.0.get(&job) else { return Ok(page) };
        let (first, seen) = behind.unwrap_or_default();
        for (&place, lines) in said.pieces.range(first..) {
            let skipped = match behind {
                Some(_) if place == first => seen.saturating_add(1),
                _ => 0,
            };
            for (number, line) in lines.iter().enumerate().skip(skipped) {
                if page.lines.len() == max.min(PAGE_MAX) as usize {
                    return Ok(page);
                }
                page.lines.push(line.clone());
                page.next = Some(Cursor(format!("{}.{}.{number}", place.0, place.1)));
            }
        }
        Ok(page)
    }
}

impl Said {
    /// The lines that the attempt may still say.
    fn take_lines(&mut self, attempt: u32, lines: Vec<LogLine>) -> Vec<LogLine> {
        if self.attempt != attempt {
            (self.attempt, self.bytes) = (attempt, 0);
        }
        let mut taken = Vec::with_capacity(lines.len());
        for mut line in lines {
            cut(&mut line.text);
            if self.bytes + line.text.len() <= LOG_BYTES_MAX {
                self.bytes += line.text.len();
                taken.push(LogLine { attempt, ..line });
            }
        }
        taken
    }

    fn take_bar(&mut self, moved: Progress) {
        let moved = Progress { done: moved.done.min(moved.total), ..moved };
        let bars = &mut self.record.progress;
        match bars.iter().position(|bar| bar.bar == moved.bar) {
            Some(place) => bars[place] = moved,
            None if bars.len() < BARS_MAX && is_name(&moved.bar) => bars.push(moved),
            None => {}
        }
    }

    fn take_metadata(&mut self, set: BTreeMap<String, Json>) {
        let metadata = &mut self.record.metadata;
        for (key, value) in set {
            let fits = value.as_str().len() <= NOTED_VALUE_BYTES_MAX;
            if fits && (metadata.contains_key(&key) || metadata.len() < NOTED_KEYS_MAX) {
                metadata.insert(key, value);
            }
        }
    }

    fn take_tag(&mut self, tag: String, of_call: &[String]) {
        let tags = &mut self.record.tags;
        let is_new = !of_call.contains(&tag) && !tags.contains(&tag);
        if is_new && of_call.len() + tags.len() < TAGS_MAX && is_name(&tag) {
            tags.push(tag);
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
}

/// Cuts an overlong line at a character border.
fn cut(text: &mut String) {
    if text.len() > LINE_BYTES_MAX {
        let border = (0..=LINE_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(border.unwrap_or(0));
    }
}

/// The attempt and piece, and the line of it, at which a page ended.
fn parse(text: &str) -> Option<((u32, u32), usize)> {
    let mut parts = text.splitn(3, '.');
    let place = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((place, parts.next()?.parse().ok()?))
}
