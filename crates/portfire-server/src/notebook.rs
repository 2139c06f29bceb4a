//! What an attempt says about itself, until it is sent: [`Notebook`].
//!
//! Handlers write whenever they like, from any thread, and never wait: a note is a few bytes in memory.
//! The dispatcher takes what is new in numbered pieces and sends them with its cycles. Everything here
//! has a bound, so a handler that floods its log fills neither memory nor storage.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use portfire_core::job::{METADATA_KEY_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX};
use portfire_core::notes::{
    BAR_BYTES_MAX, BARS_MAX, LINE_BYTES_MAX, LOG_BYTES_MAX, NOTED_KEYS_MAX, NOTED_VALUE_BYTES_MAX,
};
use portfire_core::{InvalidJob, Json, Level, LogLine, Notes, Progress, Timestamp};

/// What most lines do not exceed, in bytes, and most pieces in lines: room for so much is made at once.
const LINE_BYTES_USUAL: usize = 64;
const LINES_USUAL: usize = 16;

/// What a line costs of the log's bytes besides its text, so that a flood of empty lines has an end too.
const LINE_COST: usize = 32;

/// Kept free for the line that says how much was dropped.
const LAST_LINE_BYTES: usize = 256;

/// The notes of one attempt. Nothing is allocated until something is said.
pub(crate) struct Notebook {
    attempt: u32,
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    /// Nothing was said yet.
    #[default]
    Blank,
    Open(Box<Pages>),
    /// The attempt has ended; nobody hears what is said now.
    Closed,
}

/// What was said.
#[derive(Default)]
pub(crate) struct Pages {
    attempt: u32,
    /// The number of the next piece.
    piece: u32,
    /// Whether the dispatcher knows that there is something to take.
    announced: bool,
    lines: Vec<LogLine>,
    /// Of all lines, those that were taken too.
    log_bytes: usize,
    dropped_lines: u64,
    dropped_bytes: u64,
    bars: Vec<BarPage>,
    metadata: BTreeMap<String, Json>,
    /// Keys whose values were not taken yet.
    fresh_keys: BTreeSet<String>,
    tags: Vec<String>,
    tags_taken: usize,
    /// The piece that was taken last. It may still be on its way.
    taken: Option<Notes>,
    /// The next piece, while somebody else tries to bring it to the storage.
    lent: Option<Notes>,
}

struct BarPage {
    progress: Progress,
    /// Whether it moved since it was taken.
    moved: bool,
    /// Whether it was said that it went beyond its total.
    overrun: bool,
}

impl Notebook {
    /// A blank one for this attempt of a job.
    pub(crate) fn new(attempt: u32) -> Notebook {
        Notebook { attempt, state: Mutex::default() }
    }

    /// Writes something down, unless the attempt has ended. The second answer tells whether the
    /// dispatcher is to be told that there is something to take.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&mut Pages) -> T) -> (Option<T>, bool) {
        let mut state = self.lock();
        if let State::Blank = *state {
            *state = State::Open(Box::new(Pages { attempt: self.attempt, ..Pages::default() }));
        }
        let State::Open(pages) = &mut *state else { return (None, false) };
        let written = write(pages);
        let announce = !pages.announced && !pages.is_taken();
        pages.announced |= announce;
        (Some(written), announce)
    }

    /// What was set under a key in this attempt.
    pub(crate) fn metadata(&self, key: &str) -> Option<Json> {
        match &*self.lock() {
            State::Open(pages) => pages.metadata.get(key).cloned(),
            State::Blank | State::Closed => None,
        }
    }

    /// The next piece, when anything is new.
    pub(crate) fn take(&self) -> Option<Notes> {
        let mut state = self.lock();
        let State::Open(pages) = &mut *state else { return None };
        let notes = pages.take()?;
        pages.taken = Some(notes.clone());
        Some(notes)
    }

    /// All pieces that may not have arrived yet: one is under way at most, and storages pass over a
    /// piece that they have. Until it is known what became of them nothing else is taken, so that the
    /// pieces stay the same.
    pub(crate) fn lend(&self) -> Vec<Notes> {
        let mut state = self.lock();
        let State::Open(pages) = &mut *state else { return Vec::new() };
        pages.give_back();
        pages.lent = pages.take();
        pages.taken.iter().chain(&pages.lent).cloned().collect()
    }

    /// What was lent has arrived, or comes back to be sent with what was said since.
    pub(crate) fn lent(&self, arrived: bool) {
        if let State::Open(pages) = &mut *self.lock() {
            match arrived {
                true => (pages.taken, pages.lent) = (None, None),
                false => pages.give_back(),
            }
        }
    }

    /// The last piece; what is said from now on is dropped.
    pub(crate) fn close(&self, at: Timestamp) -> Option<Notes> {
        let state = std::mem::replace(&mut *self.lock(), State::Closed);
        let State::Open(mut pages) = state else { return None };
        pages.give_back();
        pages.tell_dropped(at);
        pages.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// Adds a line to the log, or counts it as dropped.
    pub(crate) fn log(&mut self, level: Level, at: Timestamp, line: Line) {
        let cost = line.text.len() + LINE_COST;
        if self.log_bytes + cost > LOG_BYTES_MAX - LAST_LINE_BYTES {
            self.dropped_lines += 1;
            self.dropped_bytes += line.bytes as u64;
            return;
        }
        self.log_bytes += cost;
        if self.lines.is_empty() {
            self.lines.reserve(LINES_USUAL);
        }
        self.lines.push(LogLine { attempt: self.attempt, at, level, text: line.finish() });
    }

    /// The bar of this name, begun or with another total; `None` when there are too many.
    pub(crate) fn bar(&mut self, name: &str, total: u64) -> Option<usize> {
        let name = match name {
            "" => "progress".to_owned(),
            name => clean(name, BAR_BYTES_MAX),
        };
        let known = self.bars.iter().position(|bar| bar.progress.bar == name);
        match known {
            Some(at) => {
                let bar = &mut self.bars[at];
                bar.progress.total = total;
                bar.progress.done = bar.progress.done.min(total);
                bar.moved = true;
                Some(at)
            }
            None if self.bars.len() >= BARS_MAX => None,
            None => {
                let progress = Progress { bar: name, done: 0, total };
                self.bars.push(BarPage { progress, moved: true, overrun: false });
                Some(self.bars.len() - 1)
            }
        }
    }

    /// Moves a bar; beyond its total it stays there, which is said once.
    pub(crate) fn move_bar(&mut self, bar: usize, at: Timestamp, to: impl FnOnce(u64) -> u64) {
        let Some(bar) = self.bars.get_mut(bar) else { return };
        let total = bar.progress.total;
        let wanted = to(bar.progress.done);
        let done = wanted.min(total);
        bar.moved |= done != bar.progress.done;
        bar.progress.done = done;
        if wanted > total && !std::mem::replace(&mut bar.overrun, true) {
            let name = bar.progress.bar.clone();
            let text = format!(
                "the progress bar `{name}` went beyond its total of {total}; it stays there"
            );
            self.log(Level::Warn, at, Line::of(text));
        }
    }

    /// Sets a key.
    pub(crate) fn set(&mut self, key: &str, value: Json) -> Result<(), InvalidJob> {
        let fits = (1..=METADATA_KEY_BYTES_MAX).contains(&key.len()) && !key.contains('\0');
        if !fits || value.as_str().len() > NOTED_VALUE_BYTES_MAX {
            return Err(InvalidJob::Metadata { key: clean(key, 80) });
        }
        if !self.metadata.contains_key(key) && self.metadata.len() >= NOTED_KEYS_MAX {
            return Err(InvalidJob::TooMuchMetadata { count: self.metadata.len() + 1 });
        }
        self.metadata.insert(key.to_owned(), value);
        self.fresh_keys.insert(key.to_owned());
        Ok(())
    }

    /// Adds a tag to those of the call, of which there are `called`.
    pub(crate) fn tag(&mut self, tag: &str, called: &[String]) {
        let tag = clean(tag, TAG_BYTES_MAX);
        let known = called.contains(&tag) || self.tags.contains(&tag);
        if !tag.is_empty() && !known && called.len() + self.tags.len() < TAGS_MAX {
            self.tags.push(tag);
        }
    }

    fn is_taken(&self) -> bool {
        self.lines.is_empty()
            && self.fresh_keys.is_empty()
            && self.tags.len() == self.tags_taken
            && self.bars.iter().all(|bar| !bar.moved)
    }

    fn take(&mut self) -> Option<Notes> {
        self.announced = false;
        if self.is_taken() || self.lent.is_some() {
            return None;
        }
        let fresh = std::mem::take(&mut self.fresh_keys);
        let value = |key: String| self.metadata.get(&key).cloned().map(|value| (key, value));
        let notes = Notes {
            piece: self.piece,
            lines: std::mem::take(&mut self.lines),
            progress: self.bars.iter_mut().filter_map(BarPage::take).collect(),
            metadata: fresh.into_iter().filter_map(value).collect(),
            tags: self.tags[self.tags_taken..].to_vec(),
        };
        self.tags_taken = self.tags.len();
        self.piece += 1;
        Some(notes)
    }

    fn give_back(&mut self) {
        let Some(notes) = self.lent.take() else { return };
        self.lines.splice(..0, notes.lines);
        for progress in &notes.progress {
            let bar = self.bars.iter_mut().find(|bar| bar.progress.bar == progress.bar);
            bar.into_iter().for_each(|bar| bar.moved = true);
        }
        self.fresh_keys.extend(notes.metadata.into_keys());
        self.tags_taken -= notes.tags.len();
        self.piece = notes.piece;
    }

    fn tell_dropped(&mut self, at: Timestamp) {
        if self.dropped_lines == 0 {
            return;
        }
        let (lines, bytes) = (self.dropped_lines, self.dropped_bytes);
        let kept = LOG_BYTES_MAX / 1024;
        let text = format!(
            "{lines} more lines of {bytes} bytes in all were dropped: an attempt keeps {kept} KiB of log"
        );
        self.lines.push(LogLine { attempt: self.attempt, at, level: Level::Warn, text });
    }
}

impl BarPage {
    fn take(&mut self) -> Option<Progress> {
        std::mem::take(&mut self.moved).then(|| self.progress.clone())
    }
}

/// How much a piece weighs on its way to the storage, in bytes.
pub(crate) fn weight(notes: &Notes) -> usize {
    let lines: usize = notes.lines.iter().map(|line| line.text.len() + LINE_COST).sum();
    let values: usize =
        notes.metadata.iter().map(|(key, json)| key.len() + json.as_str().len()).sum();
    lines + values + BAR_BYTES_MAX * notes.progress.len() + TAG_BYTES_MAX * notes.tags.len()
}

/// A line as it is written: what is over the bound is counted, not kept.
#[derive(Default)]
pub(crate) struct Line {
    text: String,
    /// Of everything that was written.
    bytes: usize,
}

impl Line {
    /// Puts something into words. Not under the lock of a notebook: the words are the user's code.
    pub(crate) fn of(text: impl fmt::Display) -> Line {
        let mut line = Line { text: String::with_capacity(LINE_BYTES_USUAL), bytes: 0 };
        // A `Display` that gives up is cut where it did.
        let _ = write!(line, "{text}");
        line
    }

    fn finish(mut self) -> String {
        if self.bytes > self.text.len() {
            let room = LINE_BYTES_MAX - '…'.len_utf8();
            self.text.truncate(cut(&self.text, room).len());
            self.text.push('…');
        }
        self.text
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // Most pieces are as they are to be, and there is room for them.
        let is_whole = self.bytes == self.text.len();
        if is_whole && piece.len() <= LINE_BYTES_MAX - self.bytes && !piece.as_bytes().contains(&0)
        {
            self.text.push_str(piece);
            self.bytes += piece.len();
            return Ok(());
        }
        for part in piece.split_inclusive('\0') {
            let (part, nul) = match part.strip_suffix('\0') {
                Some(part) => (part, "\u{fffd}"),
                None => (part, ""),
            };
            for part in [part, nul] {
                self.bytes += part.len();
                // Once something was left out nothing more is taken, so that a line has no hole.
                if self.bytes - part.len() == self.text.len() {
                    self.text.push_str(cut(part, LINE_BYTES_MAX - self.text.len()));
                }
            }
        }
        Ok(())
    }
}

/// The longest beginning of so many bytes that ends between characters.
fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// The longest beginning of so many bytes of the text without NUL, which not every storage can hold.
fn clean(text: &str, bytes: usize) -> String {
    let text = cut(text, bytes).replace('\0', "\u{fffd}");
    cut(&text, bytes).to_owned()
}

impl fmt::Debug for Notebook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.lock() {
            State::Blank => "Notebook(blank)",
            State::Open(_) => "Notebook(open)",
            State::Closed => "Notebook(closed)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::MIN;

    fn texts(notes: &Notes) -> Vec<&str> {
        notes.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn pieces_are_numbered_and_hold_only_what_is_new() {
        let notebook = Notebook::new(1);
        assert_eq!(notebook.take(), None);
        assert!(notebook.write(|pages| pages.log(Level::Info, AT, Line::of("a"))).1);
        assert!(!notebook.write(|pages| pages.log(Level::Info, AT, Line::of("b"))).1, "told once");
        let first = notebook.take().unwrap();
        assert_eq!((first.piece, texts(&first)), (0, vec!["a", "b"]));
        assert_eq!(notebook.take(), None);
        notebook.write(|pages| pages.set("k", Json::stored("1")).unwrap());
        notebook.write(|pages| pages.tag("eu", &[]));
        let bar = notebook.write(|pages| pages.bar("rows", 10)).0.flatten().unwrap();
        notebook.write(|pages| pages.move_bar(bar, AT, |_| 3));
        let second = notebook.take().unwrap();
        assert_eq!((second.piece, second.lines.len(), second.metadata.len()), (1, 0, 1));
        assert_eq!(second.tags, ["eu"]);
        assert_eq!(second.progress, [Progress { bar: "rows".into(), done: 3, total: 10 }]);
        assert_eq!(notebook.close(AT), None);
        assert_eq!(
            notebook.write(|pages| pages.log(Level::Info, AT, Line::of("late"))),
            (None, false)
        );
    }

    #[test]
    fn what_was_lent_arrives_or_comes_back_before_what_was_said_since() {
        let notebook = Notebook::new(1);
        let say = |text: &'static str| {
            _ = notebook.write(|pages| pages.log(Level::Info, AT, Line::of(text)))
        };
        let set = |value: &str| {
            notebook.write(|pages| pages.set("k", Json::stored(value))).0.unwrap().unwrap();
        };
        say("sent");
        let sent = notebook.take().unwrap();
        say("lent");
        set("1");
        notebook.write(|pages| pages.tag("eu", &[]));
        let bar = notebook.write(|pages| pages.bar("rows", 10)).0.flatten().unwrap();
        let lent = notebook.lend();
        assert_eq!((lent.len(), &lent[0]), (2, &sent), "it may not have arrived");
        say("since");
        set("2");
        assert_eq!(notebook.take(), None, "the pieces must stay the same");
        notebook.lent(false);
        let piece = notebook.take().unwrap();
        assert_eq!((piece.piece, texts(&piece)), (1, vec!["lent", "since"]));
        assert_eq!((piece.metadata["k"].as_str(), &piece.tags[..]), ("2", &["eu".to_owned()][..]));
        assert_eq!(piece.progress.len(), 1);

        notebook.write(|pages| pages.move_bar(bar, AT, |_| 4));
        assert_eq!(notebook.lend().len(), 2);
        notebook.lent(true);
        say("after");
        let last = notebook.close(AT).unwrap();
        assert_eq!((last.piece, texts(&last), last.progress.len()), (3, vec!["after"], 0));
        notebook.lent(false);
        assert_eq!(notebook.take(), None, "it is closed");
    }

    #[test]
    fn a_flood_of_lines_ends_in_one_that_says_so() {
        for text in ["x".repeat(100), String::new()] {
            let notebook = Notebook::new(1);
            for _ in 0..20_000 {
                notebook.write(|pages| pages.log(Level::Info, AT, Line::of(&text)));
            }
            let notes = notebook.close(AT).unwrap();
            let bytes: usize = notes.lines.iter().map(|line| line.text.len()).sum();
            assert!(bytes <= LOG_BYTES_MAX && notes.lines.len() < 9_000, "{bytes}");
            let last = &notes.lines.last().unwrap().text;
            let dropped = 20_001 - notes.lines.len();
            assert!(last.starts_with(&format!("{dropped} more lines")), "{last}");
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_holds_no_nul() {
        let notebook = Notebook::new(1);
        notebook.write(|pages| pages.log(Level::Info, AT, Line::of("é".repeat(LINE_BYTES_MAX))));
        notebook.write(|pages| pages.log(Level::Info, AT, Line::of(format_args!("a\0{}", "b\0"))));
        let exact = "x".repeat(LINE_BYTES_MAX);
        notebook.write(|pages| pages.log(Level::Info, AT, Line::of(&exact)));
        let notes = notebook.take().unwrap();
        assert!(notes.lines[0].text.len() <= LINE_BYTES_MAX && notes.lines[0].text.ends_with("é…"));
        assert_eq!(texts(&notes)[1..], ["a\u{fffd}b\u{fffd}", &exact]);
    }

    #[test]
    fn a_bar_stays_within_its_total_and_says_so_once() {
        let notebook = Notebook::new(1);
        let bar = notebook.write(|pages| pages.bar("rows", 2)).0.flatten().unwrap();
        for _ in 0..5 {
            notebook.write(|pages| pages.move_bar(bar, AT, |done| done + 1));
        }
        let notes = notebook.take().unwrap();
        assert_eq!((notes.progress[0].done, notes.lines.len()), (2, 1));
        assert!(texts(&notes)[0].contains("`rows` went beyond its total of 2"));
        let many = (0..40)
            .filter_map(|n| notebook.write(|pages| pages.bar(&format!("bar {n}"), 1)).0.flatten());
        assert_eq!(many.count(), BARS_MAX - 1);
    }

    #[test]
    fn what_is_over_a_bound_is_refused_or_cut() {
        let notebook = Notebook::new(1);
        let set = |key: &str, value: &str| {
            notebook.write(|pages| pages.set(key, Json::stored(value))).0.unwrap()
        };
        assert!(matches!(set("", "1"), Err(InvalidJob::Metadata { .. })));
        let huge = "1".repeat(NOTED_VALUE_BYTES_MAX + 1);
        assert!(matches!(set("k", &huge), Err(InvalidJob::Metadata { .. })));
        (0..NOTED_KEYS_MAX).for_each(|n| set(&format!("k{n}"), "1").unwrap());
        assert!(matches!(set("more", "1"), Err(InvalidJob::TooMuchMetadata { count: 65 })));
        assert_eq!(set("k0", "2"), Ok(()));
        let called: Vec<String> = (0..14).map(|n| n.to_string()).collect();
        for tag in ["", "3", "a", "a", &"\0".repeat(64), "over"] {
            notebook.write(|pages| pages.tag(tag, &called));
        }
        assert_eq!(notebook.take().unwrap().tags, ["a", &"\u{fffd}".repeat(21)]);
    }
}
