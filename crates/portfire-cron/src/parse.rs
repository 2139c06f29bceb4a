//! Reads a cron text, field by field.
//!
//! The grammar is that of Cronos: a field is `*` or `?` with an optional step, or a list of values,
//! ranges and steps; day of month knows `L`, `L-n`, `LW` and `nW` besides, day of week `nL` and `n#k`,
//! and every field `H` and `H/n`.

use std::ops::Range;

use crate::error::{CronError, CronErrorKind as Kind};
use crate::field::Field;
use crate::nearest::{nearest, question};

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

/// What can follow a value of a list.
const AFTER_VALUE: &str = "`-`, `/`, `,` or the end of the field";

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
pub(crate) fn parse(
    text: &str,
    format: CronFormat,
    sink: &mut impl Sink,
) -> Result<(), CronError> {
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
            FieldParser { text, at: start, end, field: *field, sink }.read()?;
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
    let least = if format == CronFormat::Seconds { 6 } else { 5 };
    let most = if format == CronFormat::Minutes { 5 } else { 6 };
    let fields = if words.count == 1 { "field" } else { "fields" };
    let found = format!("the text has {} {fields}", words.count);
    if words.count < least {
        let fields = &Field::ALL[6 - least + words.count..];
        let missing: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        let problem = format!("{found}, {} is missing", missing.join(", "));
        let end = text.trim_end_matches([' ', '\t']).len();
        let field = fields.first().copied();
        return CronError::new(Kind::TooFewFields, field, problem, wanted(format), text, end..end);
    }
    let start = words.get(most).map_or(text.len(), |(start, _)| start);
    let end = text.trim_end_matches([' ', '\t']).len();
    CronError::new(Kind::TooManyFields, None, found, wanted(format), text, start..end)
}

/// What a macro stands for.
fn meaning_of(
    text: &str,
    place: Range<usize>,
    words: &Words,
) -> Result<&'static str, CronError> {
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
            let allowed = question(&nearest(name, names())).unwrap_or_else(|| {
                format!("allowed are {}", names().collect::<Vec<_>>().join(", "))
            });
            Err(CronError::new(Kind::UnknownMacro, None, problem, allowed, text, place))
        }
    }
}

/// Reads one field.
struct FieldParser<'t, S> {
    text: &'t str,
    at: usize,
    end: usize,
    field: Field,
    sink: &'t mut S,
}

impl<S: Sink> FieldParser<'_, S> {
    fn read(mut self) -> Result<(), CronError> {
        match self.peek() {
            Some(b'*' | b'?') => {
                self.at += 1;
                let step = self.step(self.field.last())?.unwrap_or(1);
                self.finish(Term::Every { step })
            }
            Some(b'L' | b'l') if self.field == Field::DayOfMonth => self.last_day(),
            Some(b'H' | b'h') => self.hash(),
            _ => self.list(),
        }
    }

    fn peek(&self) -> Option<u8> {
        (self.at < self.end).then(|| self.text.as_bytes()[self.at])
    }

    /// Takes the character when it is next; letters in either case.
    fn accept(&mut self, wanted: u8) -> bool {
        let accepted = self.peek().is_some_and(|byte| byte.eq_ignore_ascii_case(&wanted));
        self.at += usize::from(accepted);
        accepted
    }

    /// The field ends here, and this was its only part.
    fn finish(self, term: Term) -> Result<(), CronError> {
        if self.at < self.end {
            return Err(self.unexpected("the end of the field"));
        }
        self.sink.term(self.field, term);
        Ok(())
    }

    fn last_day(mut self) -> Result<(), CronError> {
        self.at += 1;
        let before = if self.accept(b'-') {
            self.number(0, 30, "days before the last day", "a number between 0 and 30")?
        } else {
            0
        };
        let nearest_weekday = self.accept(b'W');
        self.finish(Term::LastDay { before, nearest_weekday })
    }

    fn hash(mut self) -> Result<(), CronError> {
        let start = self.at;
        self.at += 1;
        let largest = if self.field == Field::DayOfMonth { 28 } else { self.field.last() };
        let step = self.step(largest)?;
        if self.at == self.end && !self.sink.is_seeded() {
            let problem = "`H` stands for a value that is chosen by a seed, and no seed was given";
            let allowed = "give one, such as the name of the job, or write a value";
            return Err(self.error(Kind::MissingSeed, problem, allowed, start..self.end));
        }
        self.finish(Term::Hash { step })
    }

    fn list(mut self) -> Result<(), CronError> {
        let mut alone = true;
        loop {
            let value = self.value()?;
            match (self.peek(), self.field) {
                (Some(b'W' | b'w'), Field::DayOfMonth) if alone => {
                    self.at += 1;
                    return self.finish(Term::NearestWeekday(value));
                }
                (Some(b'L' | b'l'), Field::DayOfWeek) if alone => {
                    self.at += 1;
                    return self.finish(Term::LastWeekday(value % 7));
                }
                (Some(b'#'), Field::DayOfWeek) if alone => {
                    self.at += 1;
                    let nth = self.number(1, 5, "which week", "a number between 1 and 5")?;
                    return self.finish(Term::NthWeekday { weekday: value % 7, nth });
                }
                _ => {}
            }
            let term = self.range(value)?;
            self.sink.term(self.field, term);
            alone = false;
            if self.at == self.end {
                return Ok(());
            }
            if !self.accept(b',') {
                return Err(self.unexpected(AFTER_VALUE));
            }
        }
    }

    /// What follows a value: the rest of a range, or a step.
    fn range(&mut self, low: u8) -> Result<Term, CronError> {
        if self.accept(b'-') {
            let high = self.value()?;
            let step = self.step(self.field.last())?.unwrap_or(1);
            return Ok(Term::Range { low, high, step });
        }
        Ok(match self.step(self.field.last())? {
            Some(step) => Term::From { low, step },
            None => Term::Value(low),
        })
    }

    fn step(&mut self, largest: u8) -> Result<Option<u8>, CronError> {
        if !self.accept(b'/') {
            return Ok(None);
        }
        let allowed = format!("a number between 1 and {largest}");
        self.number(1, largest, "the step", &allowed).map(Some)
    }

    fn value(&mut self) -> Result<u8, CronError> {
        let field = self.field;
        match self.peek() {
            Some(byte) if byte.is_ascii_alphabetic() && !field.value_names().is_empty() => {
                self.name()
            }
            _ => self.number(field.first(), field.last(), "", field.allowed()),
        }
    }

    /// A number of one or two digits; `what` it is for, when not the field's value.
    fn number(
        &mut self,
        least: u8,
        most: u8,
        what: &str,
        allowed: &str,
    ) -> Result<u8, CronError> {
        let start = self.at;
        let digits = self.text.as_bytes()[start..self.end]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 {
            return Err(self.no_number(what, allowed));
        }
        self.at += digits;
        let number = &self.text[start..self.at];
        match number.parse::<u8>() {
            Ok(value) if digits <= 2 && (least..=most).contains(&value) => Ok(value),
            _ => {
                let what = if what.is_empty() { String::new() } else { format!("{what}, ") };
                let problem = format!("{what}`{}`{} is out of range", shown(number), {
                    if what.is_empty() { "" } else { "," }
                });
                let allowed = format!("expected {allowed}");
                Err(self.error(Kind::OutOfRange, problem, allowed, start..self.at))
            }
        }
    }

    /// There is no digit where a number must be.
    fn no_number(&self, what: &str, allowed: &str) -> CronError {
        let what = if what.is_empty() { "a value" } else { what };
        let before = self.text[..self.at].chars().next_back().filter(|c| !c.is_whitespace());
        let problem = match (before, self.peek()) {
            (_, Some(found)) if !matches!(found, b',' | b'-' | b'/') => {
                return self.unexpected(allowed);
            }
            (Some(before), _) => format!("{what} is missing after `{before}`"),
            (None, found) => {
                format!("{what} is missing before `{}`", char::from(found.unwrap_or(b' ')))
            }
        };
        let allowed = format!("expected {allowed}");
        self.error(Kind::Incomplete, problem, allowed, self.at..self.at)
    }

    /// A name of three letters. `SUNL` is one with an `L` behind it.
    fn name(&mut self) -> Result<u8, CronError> {
        let (start, names) = (self.at, self.field.value_names());
        let letters = self.text.as_bytes()[start..self.end]
            .iter()
            .take_while(|byte| byte.is_ascii_alphabetic())
            .count();
        let word = &self.text[start..start + letters];
        let known = word
            .get(..3)
            .and_then(|name| names.iter().position(|known| known.eq_ignore_ascii_case(name)));
        let tail = word.get(3..).unwrap_or_default();
        let last_of = self.field == Field::DayOfWeek && tail.eq_ignore_ascii_case("L");
        match known {
            Some(index) if tail.is_empty() || last_of => {
                self.at += 3;
                Ok(self.field.first() + index as u8)
            }
            _ => Err(self.unknown_name(start..start + letters, known.map(|index| names[index]))),
        }
    }

    fn unknown_name(&self, place: Range<usize>, meant: Option<&str>) -> CronError {
        let word = &self.text[place.clone()];
        if word.len() == 1 {
            return self.unexpected(self.field.allowed());
        }
        let problem = format!("`{}` is not a name in this field", shown(word));
        let allowed = match meant {
            Some(name) => format!("names have three letters: write `{name}`"),
            None => question(&nearest(word, self.field.value_names().iter().copied()))
                .unwrap_or_else(|| format!("expected {}", self.field.allowed())),
        };
        self.error(Kind::UnknownName, problem, allowed, place)
    }

    /// The next character has no meaning here.
    fn unexpected(&self, allowed: &str) -> CronError {
        let found = self.text[self.at..self.end].chars().next().unwrap_or_default();
        let place = self.at..self.at + found.len_utf8();
        let first = !self.text[..self.at].ends_with(|c: char| !c.is_whitespace());
        let problem = if found.is_control() {
            format!("the control character U+{:04X} has no meaning", u32::from(found))
        } else if first {
            format!("`{found}` cannot stand here")
        } else {
            format!("`{found}` cannot follow `{}`", self.so_far())
        };
        self.error(Kind::Unexpected, problem, self.advice(found, allowed), place)
    }

    /// The field up to here, at most its last few characters.
    fn so_far(&self) -> &str {
        let before = &self.text[..self.at];
        let start = before.rfind([' ', '\t']).map_or(0, |blank| blank + 1);
        let skip = before[start..].char_indices().nth_back(7).map_or(start, |(at, _)| start + at);
        &before[skip..]
    }

    /// What to write instead.
    fn advice(&self, found: char, allowed: &str) -> String {
        let field = self.field;
        let advice = match (found.to_ascii_uppercase(), field) {
            ('*' | '?', _) => "`*` stands alone, or with a step as in `*/5`",
            (',' | '-', _) if self.so_far().starts_with(['*', '?']) => {
                "`*` is every value already: it takes a step at most"
            }
            ('L', Field::DayOfMonth) => "`L` stands first: `L`, `L-3` or `LW`",
            ('L', Field::DayOfWeek) => "`L` follows a single day: `5L` is the last Friday",
            ('L', _) => "`L` belongs into the day of month or the day of week",
            ('W', Field::DayOfMonth) => "`W` follows a single day: `15W`, or `LW`",
            ('W', _) => "`W` belongs into the day of month",
            ('#', Field::DayOfWeek) => "`#` follows a single day: `5#2` is the second Friday",
            ('#', _) => "`#` belongs into the day of week",
            ('H', _) => "`H` stands alone, or with a step as in `H/5`",
            _ => return format!("expected {allowed}"),
        };
        advice.to_owned()
    }

    fn error(
        &self,
        kind: Kind,
        problem: impl Into<String>,
        allowed: impl Into<String>,
        place: Range<usize>,
    ) -> CronError {
        CronError::new(kind, Some(self.field), problem, allowed, self.text, place)
    }
}

/// At most the first characters of a word, for a message.
fn shown(word: &str) -> String {
    let mut shown: String = word.chars().filter(|c| !c.is_control()).take(24).collect();
    if shown.len() < word.len() {
        shown.push('…');
    }
    shown
}
