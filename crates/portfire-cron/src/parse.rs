//! Reads a cron text, field by field.
//!
//! The grammar is that of Cronos: a field is `*` or `?` with an optional step, or a list of values,
//! ranges and steps; day of month knows `L`, `L-n`, `LW` and `nW` besides, day of week `nL` and `n#k`,
//! and every field `H` and `H/n`.

use std::ops::Range;

use crate::error::{CronError, CronErrorKind as Kind, is_unseen};
use crate::field::Field;
use crate::nearest::{nearest, question};
use crate::reader::FieldReader;
use crate::shape::list;

/// The longest text that is read, in bytes: more than the longest that says something new.
pub const MAX_LENGTH: usize = 1_024;

/// The macros and what they stand for.
pub(crate) const MACROS: [(&str, &str); 9] = [
    ("@every_second", "* * * * * *"),
    ("@every_minute", "* * * * *"),
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// How many fields a text must have. A macro is read in every format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CronFormat {
    /// Five fields, or six with the seconds first.
    #[default]
    Any,
    /// Five fields: minute, hour, day of month, month, day of week.
    Minutes,
    /// Six fields: the second first.
    Seconds,
}

/// One part of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    /// `*`, `?`, `*/step`.
    Every { step: u8 },
    /// `7`.
    Value(u8),
    /// `5/step`: from a value to the last.
    From { low: u8, step: u8 },
    /// `2-5`, `2-5/step`; it wraps around when `high` is below `low`.
    Range { low: u8, high: u8, step: u8 },
    /// `H`, `H/step`.
    Hash { step: Option<u8> },
    /// `L`, `L-n`, `LW`, `L-nW`.
    LastDay { before: u8, nearest_weekday: bool },
    /// `15W`.
    NearestWeekday(u8),
    /// `5L`.
    LastWeekday(u8),
    /// `5#2`.
    NthWeekday { weekday: u8, nth: u8 },
}

/// What the parts of a text are handed to.
pub(crate) trait Sink {
    /// A part of a field; the fields come in their order, five or six of them.
    fn term(&mut self, field: Field, term: Term);
    /// Whether `H` has a value here.
    fn is_seeded(&self) -> bool;
}

/// Reads a text.
pub(crate) fn parse(text: &str, format: CronFormat, sink: &mut impl Sink) -> Result<(), CronError> {
    if text.len() > MAX_LENGTH {
        return Err(too_long(text));
    }
    let words = Words::of(text);
    let Some((start, end)) = words.get(0) else {
        let problem = "the text is empty";
        return Err(CronError::new(Kind::Empty, None, problem, wanted(format), text, 0..0));
    };
    if text.as_bytes()[start] == b'@' {
        let meaning = meaning_of(text, start..end, &words)?;
        return parse(meaning, CronFormat::Any, sink);
    }
    let first = match (words.count, format) {
        (5, CronFormat::Any | CronFormat::Minutes) => 1,
        (6, CronFormat::Any | CronFormat::Seconds) => 0,
        _ => return Err(wrong_count(text, format, &words)),
    };
    for (index, field) in Field::ALL[first..].iter().enumerate() {
        if let Some((start, end)) = words.get(index) {
            FieldReader { text, at: start, end, field: *field, sink }.read()?;
        }
    }
    Ok(())
}

/// The words between blanks and tabs. Places of the first seven are kept: more are too many.
struct Words {
    places: [(usize, usize); 7],
    count: usize,
}

impl Words {
    fn of(text: &str) -> Words {
        let mut words = Words { places: [(0, 0); 7], count: 0 };
        let mut start = None;
        for (at, byte) in text.bytes().enumerate().chain([(text.len(), b' ')]) {
            let blank = byte == b' ' || byte == b'\t';
            match start {
                None if !blank => start = Some(at),
                Some(begun) if blank => {
                    if let Some(place) = words.places.get_mut(words.count) {
                        *place = (begun, at);
                    }
                    words.count += 1;
                    start = None;
                }
                _ => {}
            }
        }
        words
    }

    fn get(&self, index: usize) -> Option<(usize, usize)> {
        (index < self.count).then(|| self.places.get(index).copied()).flatten()
    }
}

fn too_long(text: &str) -> CronError {
    let shown = text.char_indices().nth(60).map_or(text.len(), |(at, _)| at);
    let problem = format!("the text is {} bytes long", text.len());
    let allowed = format!("at most {MAX_LENGTH} are allowed");
    CronError::new(Kind::TooLong, None, problem, allowed, &text[..shown], 0..shown)
}

fn wanted(format: CronFormat) -> &'static str {
    match format {
        CronFormat::Any => {
            "expected five fields (minute, hour, day of month, month, day of week), or six with the second first"
        }
        CronFormat::Minutes => {
            "expected five fields (minute, hour, day of month, month, day of week)"
        }
        CronFormat::Seconds => {
            "expected six fields (second, minute, hour, day of month, month, day of week)"
        }
    }
}

fn wrong_count(text: &str, format: CronFormat, words: &Words) -> CronError {
    if let Some(other) = other_blank(text) {
        return other;
    }
    let least = if format == CronFormat::Seconds { 6 } else { 5 };
    let most = if format == CronFormat::Minutes { 5 } else { 6 };
    let fields = if words.count == 1 { "field" } else { "fields" };
    let found = format!("the text has {} {fields}", words.count);
    if words.count < least {
        let fields = &Field::ALL[6 - least + words.count..];
        let missing: Vec<String> = fields.iter().map(Field::to_string).collect();
        let are = if missing.len() == 1 { "is" } else { "are" };
        let problem = format!("{found}, {} {are} missing", list(&missing, "and"));
        let end = text.trim_end_matches([' ', '\t']).len();
        let field = fields.first().copied();
        return CronError::new(Kind::TooFewFields, field, problem, wanted(format), text, end..end);
    }
    let start = words.get(most).map_or(text.len(), |(start, _)| start);
    let end = text.trim_end_matches([' ', '\t']).len();
    CronError::new(Kind::TooManyFields, None, found, wanted(format), text, start..end)
}

/// A blank of another sort, such as the one that cannot be broken at: text from a web page has them, and
/// nobody sees that they part no fields.
fn other_blank(text: &str) -> Option<CronError> {
    let (at, blank) =
        text.char_indices().find(|(_, c)| c.is_whitespace() && !matches!(c, ' ' | '\t'))?;
    let problem = format!("the blank U+{:04X} parts no fields", u32::from(blank));
    let allowed = "put an ordinary blank in its place";
    let place = at..at + blank.len_utf8();
    Some(CronError::new(Kind::Unexpected, None, problem, allowed, text, place))
}

/// What a macro stands for.
fn meaning_of(text: &str, place: Range<usize>, words: &Words) -> Result<&'static str, CronError> {
    let name = &text[place.clone()];
    let known = MACROS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let names = || MACROS.iter().map(|(name, _)| *name);
    match known {
        Some((_, meaning)) if words.count == 1 => Ok(meaning),
        Some((known, _)) => {
            let start = words.get(1).map_or(text.len(), |(start, _)| start);
            let end = text.trim_end_matches([' ', '\t']).len();
            let problem = "there is more after the macro";
            let allowed = format!("`{known}` stands alone");
            Err(CronError::new(Kind::TooManyFields, None, problem, allowed, text, start..end))
        }
        None => {
            let problem = format!("`{}` is not a macro", shown(name));
            let allowed = question(&nearest(name, names()))
                .unwrap_or_else(|| format!("expected {}", names().collect::<Vec<_>>().join(", ")));
            Err(CronError::new(Kind::UnknownMacro, None, problem, allowed, text, place))
        }
    }
}

/// At most the first characters of a word, for a message.
pub(crate) fn shown(word: &str) -> String {
    let mut shown: String = word.chars().filter(|c| !is_unseen(*c)).take(24).collect();
    if shown.len() < word.len() {
        shown.push('…');
    }
    shown
}
