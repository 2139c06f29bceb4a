//! Reads one field of a cron text.

use std::ops::Range;

use crate::error::{CronError, CronErrorKind as Kind, is_unseen};
use crate::field::Field;
use crate::nearest::{nearest, question};
use crate::parse::{Sink, Term, shown};

/// What can follow a part of a list.
fn after(part: &str) -> &'static str {
    if part.contains('/') {
        "expected `,` or the end of the field"
    } else if part.contains('-') {
        "expected `/`, `,` or the end of the field"
    } else {
        "expected `-`, `/`, `,` or the end of the field"
    }
}

/// A number that is wanted somewhere.
#[derive(Clone, Copy)]
struct Wanted {
    /// What it is for, when it is not a value of the field.
    what: Option<&'static str>,
    least: u8,
    most: u8,
    /// What is allowed, when there is more to say than the bounds.
    allowed: Option<&'static str>,
}

impl Wanted {
    fn new(what: &'static str, least: u8, most: u8) -> Wanted {
        Wanted { what: Some(what), least, most, allowed: None }
    }

    fn value_of(field: Field) -> Wanted {
        let allowed = Some(field.allowed());
        Wanted { what: None, least: field.first(), most: field.last(), allowed }
    }

    fn advice(&self) -> String {
        let Wanted { least, most, .. } = self;
        match self.allowed {
            Some(allowed) => format!("expected {allowed}"),
            None => format!("expected a number between {least} and {most}"),
        }
    }
}

/// Reads one field.
pub(crate) struct FieldReader<'t, S> {
    /// The whole text, of which the field is a part.
    pub(crate) text: &'t str,
    /// What is read next.
    pub(crate) at: usize,
    /// Where the field ends.
    pub(crate) end: usize,
    pub(crate) field: Field,
    pub(crate) sink: &'t mut S,
}

impl<S: Sink> FieldReader<'_, S> {
    pub(crate) fn read(mut self) -> Result<(), CronError> {
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
            return Err(self.unexpected("expected the end of the field"));
        }
        self.sink.term(self.field, term);
        Ok(())
    }

    fn last_day(mut self) -> Result<(), CronError> {
        self.at += 1;
        let before =
            if self.accept(b'-') { self.number(Wanted::new("the offset", 0, 30))? } else { 0 };
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
            let start = self.at;
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
                    let nth = self.number(Wanted::new("the week", 1, 5))?;
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
                return Err(self.unexpected(after(&self.text[start..self.at])));
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
        self.number(Wanted::new("the step", 1, largest)).map(Some)
    }

    fn value(&mut self) -> Result<u8, CronError> {
        match self.peek() {
            Some(byte) if byte.is_ascii_alphabetic() => self.name(),
            _ => self.number(Wanted::value_of(self.field)),
        }
    }

    /// A number of one or two digits.
    fn number(&mut self, wanted: Wanted) -> Result<u8, CronError> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..self.end];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(self.no_number(wanted));
        }
        self.at += digits;
        let number = &self.text[start..self.at];
        match number.parse::<u8>() {
            Ok(value) if digits <= 2 && (wanted.least..=wanted.most).contains(&value) => Ok(value),
            _ => {
                let what = wanted.what.map_or(String::new(), |what| format!("{what} "));
                let problem = format!("{what}`{}` is out of range", shown(number));
                Err(self.error(Kind::OutOfRange, problem, wanted.advice(), start..self.at))
            }
        }
    }

    /// There is no digit where a number must be.
    fn no_number(&self, wanted: Wanted) -> CronError {
        let what = wanted.what.unwrap_or("a value");
        let before = self.text[..self.at].chars().next_back().filter(|c| !c.is_whitespace());
        let problem = match (before, self.peek()) {
            (_, Some(found)) if !matches!(found, b',' | b'-' | b'/') => {
                return self.unexpected(&wanted.advice());
            }
            (Some(before), _) => format!("{what} is missing after `{before}`"),
            (None, found) => {
                format!("{what} is missing before `{}`", char::from(found.unwrap_or(b' ')))
            }
        };
        self.error(Kind::Incomplete, problem, wanted.advice(), self.at..self.at)
    }

    /// A name of three letters. `SUNL` is one with an `L` behind it.
    fn name(&mut self) -> Result<u8, CronError> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..self.end];
        let letters = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = &self.text[start..start + letters];
        let (name, tail) = word.split_at_checked(3).unwrap_or((word, ""));
        let last = self.field == Field::DayOfWeek && tail.eq_ignore_ascii_case("L");
        match self.field.value_named(name) {
            Some(value) if tail.is_empty() || last => {
                self.at += 3;
                Ok(value)
            }
            _ => Err(self.unknown_name(start..start + letters)),
        }
    }

    fn unknown_name(&self, place: Range<usize>) -> CronError {
        let word = &self.text[place.clone()];
        let name = word.get(..3).unwrap_or(word);
        let known = |field: &Field| field.value_named(name).is_some();
        let owner = [Field::Month, Field::DayOfWeek].into_iter().find(known);
        let names = self.field.value_names();
        let advice = match owner {
            Some(owner) if owner == self.field => {
                format!("names have three letters: write `{}`", name.to_ascii_uppercase())
            }
            Some(owner) => format!("names like it belong into the {owner}"),
            None if names.is_empty() || word.len() == 1 => {
                return self.unexpected(&Wanted::value_of(self.field).advice());
            }
            None => question(&nearest(word, names.iter().copied()))
                .unwrap_or_else(|| Wanted::value_of(self.field).advice()),
        };
        let problem = format!(
            "`{}` is no {}",
            shown(word),
            match self.field {
                Field::DayOfMonth => "number",
                Field::DayOfWeek => "day of the week",
                field => field.name(),
            }
        );
        self.error(Kind::UnknownName, problem, advice, place)
    }

    /// The next character has no meaning here.
    fn unexpected(&self, expected: &str) -> CronError {
        let found = self.text[self.at..self.end].chars().next().unwrap_or_default();
        let place = self.at..self.at + found.len_utf8();
        let first = !self.text[..self.at].ends_with(|c: char| !c.is_whitespace());
        let problem = if is_unseen(found) || found.is_whitespace() {
            format!("the invisible character U+{:04X} has no meaning", u32::from(found))
        } else if first {
            format!("`{found}` cannot stand here")
        } else {
            format!("`{found}` cannot follow `{}`", self.so_far())
        };
        self.error(Kind::Unexpected, problem, self.advice(found, expected), place)
    }

    /// The field up to here, at most its last few characters.
    fn so_far(&self) -> &str {
        let before = &self.text[..self.at];
        let start = before.rfind([' ', '\t']).map_or(0, |blank| blank + 1);
        let skip = before[start..].char_indices().nth_back(7).map_or(start, |(at, _)| start + at);
        &before[skip..]
    }

    /// What to write instead.
    fn advice(&self, found: char, expected: &str) -> String {
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
            _ => expected,
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
