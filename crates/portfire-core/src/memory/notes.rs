//! What running jobs say about themselves.

use std::collections::BTreeMap;

use super::jobs::Number;
use crate::clock::Timestamp;
use crate::error::StorageError;
use crate::job::Json;
use crate::monitor::{Cursor, PAGE_MAX};
use crate::notes::{
    BARS_MAX, LINE_BYTES_MAX, LOG_BYTES_MAX, Level, LogLine, LogPage, NOTED_KEYS_MAX,
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
                let (attempt, text) = (place.0, text.to_owned());
                page.lines.push(LogLine { attempt, at: line.at, level: line.level, text });
                page.next = Some(Cursor(format!("{}.{}.{number}", place.0, place.1)));
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
            let text = cut(text);
            if self.bytes + text.len() <= LOG_BYTES_MAX {
                self.bytes += text.len();
                texts.push_str(text);
                lines.push(Line { at, level, end: texts.len() });
            }
        }
        Piece { place, texts, lines }
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

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
}

/// An overlong line up to a character border.
fn cut(text: &str) -> &str {
    let border = (0..=LINE_BYTES_MAX.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    &text[..border.unwrap_or(0)]
}

/// The attempt and piece, and the line of it, at which a page ended.
fn parse(text: &str) -> Option<((u32, u32), usize)> {
    let mut parts = text.splitn(3, '.');
    let place = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((place, parts.next()?.parse().ok()?))
}
