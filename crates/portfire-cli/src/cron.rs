//! `portfire cron`: the next occurrences of a cron text, and what it says. Needs no storage.

use std::io::Write;

use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};
use portfire_core::{Clock, SystemClock};
use portfire_cron::{CronError, CronExpression, CronFormat, Field, Zone};
use serde::Serialize;

use crate::command::{CronCommand, CronTextArgs};
use crate::failure::Failure;
use crate::{answer, escape};

/// How many occurrences `explain` lists.
const EXPLAINED: usize = 5;

pub(crate) fn run(command: &CronCommand, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        CronCommand::Next { asked, inclusive, count } => {
            let question = Question::read(asked, *inclusive, json, out)?;
            question.next(usize::try_from(*count).unwrap_or(usize::MAX), json, out)
        }
        CronCommand::Explain { asked } => {
            Question::read(asked, false, json, out)?.explain(json, out)
        }
    }
}

/// What is asked, checked.
struct Question {
    cron: CronExpression,
    zone: Zone,
    /// Microseconds since the Unix epoch.
    from: i64,
    /// Whether the start was asked to count.
    inclusive: bool,
    /// Whether the start is a little later than `from` says.
    is_finer: bool,
}

/// An occurrence, for programs.
#[derive(Serialize)]
struct Occurrence {
    at: String,
    utc: String,
}

/// The answer of `next`, for programs.
#[derive(Serialize)]
struct Next<'a> {
    expression: &'a str,
    description: String,
    zone: &'a str,
    from: String,
    inclusive: bool,
    occurrences: Vec<Occurrence>,
}

/// The answer of `explain`, for programs.
#[derive(Serialize)]
struct Explained<'a> {
    expression: &'a str,
    description: String,
    fields: Vec<ExplainedField>,
    /// Whether it runs in both passes of an hour that the clock repeats.
    interval: bool,
    /// Whether any day matches.
    reachable: bool,
    zone: &'a str,
    from: String,
    occurrences: Vec<Occurrence>,
}

#[derive(Serialize)]
struct ExplainedField {
    field: &'static str,
    description: String,
}

/// A refused text, for programs.
#[derive(Serialize)]
struct Refused<'a> {
    error: Refusal<'a>,
}

#[derive(Serialize)]
struct Refusal<'a> {
    kind: &'a str,
    field: Option<&'a str>,
    message: String,
    problem: &'a str,
    allowed: &'a str,
    text: &'a str,
    /// The bytes of `text` that are at fault.
    start: usize,
    end: usize,
}

impl Question {
    fn read(
        args: &CronTextArgs,
        inclusive: bool,
        json: bool,
        out: &mut dyn Write,
    ) -> Result<Question, Failure> {
        let format = if args.seconds { CronFormat::Seconds } else { CronFormat::Any };
        let cron = match CronExpression::read(&args.expression, format, args.seed.as_deref()) {
            Ok(cron) => cron,
            Err(error) => {
                if json {
                    answer::json(&Refused { error: Refusal::of(&error) }, out)?;
                }
                return Err(refused(&error).told());
            }
        };
        let zone = Zone::parse(&args.tz).map_err(|error| Failure::usage(error.to_string()))?;
        let (from, is_finer) = match &args.from {
            Some(text) => instant(text, &zone)?,
            None => (SystemClock.now().as_micros(), false),
        };
        Ok(Question { cron, zone, from, inclusive, is_finer })
    }

    fn occurrences(&self, count: usize) -> Vec<i64> {
        // What is a little later than a microsecond is past it.
        let first = if self.inclusive && !self.is_finer {
            self.cron.next_from(self.from, &self.zone)
        } else {
            self.cron.next_after(self.from, &self.zone)
        };
        let next = |at: &i64| self.cron.next_after(*at, &self.zone);
        std::iter::successors(first, next).take(count).collect()
    }

    fn next(&self, count: usize, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
        let occurrences = self.occurrences(count);
        if json {
            let answer = Next {
                expression: self.cron.as_str(),
                description: self.cron.describe(),
                zone: self.zone.name(),
                from: with_offset(self.from, &self.zone),
                inclusive: self.inclusive,
                occurrences: self.for_programs(&occurrences),
            };
            return answer::json(&answer, out);
        }
        self.list(&occurrences, "", out)
    }

    fn explain(&self, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
        let occurrences = self.occurrences(EXPLAINED);
        let fields = Field::ALL.map(|field| ExplainedField {
            field: field.name(),
            description: self.cron.describe_field(field),
        });
        if json {
            let answer = Explained {
                expression: self.cron.as_str(),
                description: self.cron.describe(),
                fields: Vec::from(fields),
                interval: self.cron.is_interval(),
                reachable: self.cron.is_reachable(),
                zone: self.zone.name(),
                from: with_offset(self.from, &self.zone),
                occurrences: self.for_programs(&occurrences),
            };
            return answer::json(&answer, out);
        }
        writeln!(out, "{}\n{}\n", escape::plain(self.cron.as_str()), self.cron.describe())?;
        for field in fields {
            writeln!(out, "{:13} {}", field.field, field.description)?;
        }
        let passes = if self.cron.is_interval() {
            "in both passes: it names an interval"
        } else {
            "in the first pass only: it names fixed times"
        };
        writeln!(out, "\nIn an hour that the clock repeats it runs {passes}.")?;
        writeln!(out, "\nNext in {}:", escape::plain(self.zone.name()))?;
        self.list(&occurrences, "  ", out)
    }

    fn list(&self, occurrences: &[i64], indent: &str, out: &mut dyn Write) -> Result<(), Failure> {
        if occurrences.is_empty() {
            writeln!(out, "{indent}never")?;
        }
        for at in occurrences {
            let utc = Zone::utc().rfc3339(*at);
            if self.zone == Zone::utc() {
                writeln!(out, "{indent}{utc}")?;
            } else {
                writeln!(out, "{indent}{}  {utc}", self.zone.rfc3339(*at))?;
            }
        }
        Ok(())
    }

    fn for_programs(&self, occurrences: &[i64]) -> Vec<Occurrence> {
        let both = |at: &i64| Occurrence {
            at: with_offset(*at, &self.zone),
            utc: Zone::utc().rfc3339(*at),
        };
        occurrences.iter().map(both).collect()
    }
}

/// An instant with the offset of the zone in numbers, also in universal time.
fn with_offset(at: i64, zone: &Zone) -> String {
    let text = zone.rfc3339(at);
    match text.strip_suffix('Z') {
        Some(text) => format!("{text}+00:00"),
        None => text,
    }
}

/// The microsecond of an instant, and whether the instant is a little later than it.
fn instant(text: &str, zone: &Zone) -> Result<(i64, bool), Failure> {
    let refuse = || {
        let shown: String = text.chars().take(64).collect();
        Failure::usage(format!(
            "`{shown}` is not an instant: expected RFC 3339 such as 2026-11-21T08:00:00Z, or a local time such as 2026-11-21T08:00"
        ))
    };
    // In pieces, because a `Timestamp` ends a day before the calendar does.
    let pieces = Pieces::parse(text.trim()).map_err(|_| refuse())?;
    let local = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    let nanos = match pieces.to_numeric_offset() {
        Some(offset) => nanos(local, offset),
        // It names a zone of its own.
        None if pieces.time_zone_annotation().is_some() => return Err(refuse()),
        None if *zone == Zone::utc() => nanos(local, Offset::UTC),
        None => {
            let rules = TimeZone::get(zone.name()).map_err(|_| refuse())?;
            rules.to_timestamp(local).map_err(|_| refuse())?.as_nanosecond()
        }
    };
    let micros = i64::try_from(nanos.div_euclid(1_000)).map_err(|_| refuse())?;
    Ok((micros, nanos.rem_euclid(1_000) != 0))
}

/// The nanosecond at which a clock of this offset shows a time.
fn nanos(local: DateTime, offset: Offset) -> i128 {
    const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    local.duration_since(EPOCH).as_nanos() - i128::from(offset.seconds()) * 1_000_000_000
}

/// The failure of a refused text: the message, and under it the text with carets.
fn refused(error: &CronError) -> Failure {
    let rendered = error.render();
    let place: Vec<String> = rendered.lines().skip(1).map(str::to_owned).collect();
    Failure::usage(error.to_string()).with_place(place)
}

impl<'a> Refusal<'a> {
    fn of(error: &'a CronError) -> Refusal<'a> {
        let span = error.span();
        Refusal {
            kind: error.kind().as_str(),
            field: error.field().map(Field::name),
            message: error.to_string(),
            problem: error.problem(),
            allowed: error.allowed(),
            text: error.text(),
            start: span.start,
            end: span.end,
        }
    }
}
