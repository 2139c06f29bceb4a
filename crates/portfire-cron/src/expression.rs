//! [`CronExpression`]: a checked cron text.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::error::CronError;
use crate::field::{Field, Weekday};
use crate::parse::{self, CronFormat, Sink, Term};
use crate::schedule::{INTERVAL, LAST_DAY, LAST_WEEKDAY, NEAREST_WEEKDAY, NTH_WEEKDAY, Schedule};
use crate::seed::Seed;

/// A checked cron text.
///
/// Two are equal when they mean the same: `0-59 * * * *` equals `* * * * *`. The text is kept beside,
/// with single blanks and capital letters.
///
/// ```
/// use portfire_cron::{CronExpression, Zone};
///
/// let cron: CronExpression = "0  8 * * mon-fri".parse()?;
/// assert_eq!(cron.as_str(), "0 8 * * MON-FRI");
/// assert_eq!(cron.describe(), "every weekday at 08:00");
///
/// let amsterdam = Zone::parse("Europe/Amsterdam")?;
/// let next = cron.next_after(1_795_219_200_000_000, &amsterdam); // Saturday, 21 November 2026
/// assert_eq!(next, Some(1_795_417_200_000_000)); // Monday at 08:00 in Amsterdam, 07:00 UTC
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CronExpression {
    text: Cow<'static, str>,
    pub(crate) schedule: Schedule,
}

impl CronExpression {
    /// Reads a text of five fields, or of six with the seconds first, or a macro such as `@daily`.
    ///
    /// # Errors
    /// A [`CronError`] that says the field, what is wrong and what is allowed. `H` is refused: it
    /// needs a seed, see [`parse_seeded`](CronExpression::parse_seeded).
    pub fn parse(text: &str) -> Result<CronExpression, CronError> {
        CronExpression::read(text, CronFormat::Any, None)
    }

    /// Reads a text that must have so many fields. Macros are read in every format.
    ///
    /// # Errors
    /// As [`parse`](CronExpression::parse).
    pub fn parse_format(text: &str, format: CronFormat) -> Result<CronExpression, CronError> {
        CronExpression::read(text, format, None)
    }

    /// Reads a text in which `H` stands for a value of its field that the seed chooses: the same one
    /// for the same seed, for ever, and other ones for other seeds, so that many jobs with the text
    /// `H H * * *` spread over the day. The name of the job makes a good seed.
    ///
    /// `H/15` runs every 15 units from a first value that the seed chooses. In the day of month `H` is at
    /// most 28. The text of the expression has the chosen values, so that it means the same without the
    /// seed. Macros mean what they mean without a seed: `@daily` is midnight.
    ///
    /// # Errors
    /// As [`parse`](CronExpression::parse).
    pub fn parse_seeded(text: &str, seed: &str) -> Result<CronExpression, CronError> {
        CronExpression::read(text, CronFormat::Any, Some(seed))
    }

    /// Reads a text of a format, with a seed for `H` when one is given.
    ///
    /// # Errors
    /// As [`parse`](CronExpression::parse).
    pub fn read(
        text: &str,
        format: CronFormat,
        seed: Option<&str>,
    ) -> Result<CronExpression, CronError> {
        let mut builder = Builder { schedule: Schedule::EMPTY, seed: seed.map(Seed::of) };
        parse::parse(text, format, &mut builder)?;
        let text = Cow::Owned(normalised(text, builder.seed));
        Ok(CronExpression { text, schedule: builder.finish() })
    }

    /// Every minute: `* * * * *`.
    pub const fn minutely() -> CronExpression {
        CronExpression { text: Cow::Borrowed("* * * * *"), schedule: Schedule::MINUTELY }
    }

    /// Every hour at a minute: `m * * * *`.
    ///
    /// # Errors
    /// When the minute is over 59.
    pub fn hourly(minute: u8) -> Result<CronExpression, CronError> {
        CronExpression::parse(&format!("{minute} * * * *"))
    }

    /// Every day at a time: `m h * * *`.
    ///
    /// # Errors
    /// When the hour is over 23 or the minute over 59.
    pub fn daily(hour: u8, minute: u8) -> Result<CronExpression, CronError> {
        CronExpression::parse(&format!("{minute} {hour} * * *"))
    }

    /// Every week on a day, at a time: `m h * * d`.
    ///
    /// # Errors
    /// When the hour is over 23 or the minute over 59.
    pub fn weekly(day: Weekday, hour: u8, minute: u8) -> Result<CronExpression, CronError> {
        CronExpression::parse(&format!("{minute} {hour} * * {}", day.number()))
    }

    /// Every month on a day, at a time: `m h d * *`. Months that lack the day are left out.
    ///
    /// # Errors
    /// When the day is not 1 to 31, the hour over 23 or the minute over 59.
    pub fn monthly(day: u8, hour: u8, minute: u8) -> Result<CronExpression, CronError> {
        CronExpression::parse(&format!("{minute} {hour} {day} * *"))
    }

    /// Every year on a day of a month, at a time: `m h d M *`.
    ///
    /// # Errors
    /// When the month is not 1 to 12, the day not 1 to 31, the hour over 23 or the minute over 59.
    pub fn yearly(month: u8, day: u8, hour: u8, minute: u8) -> Result<CronExpression, CronError> {
        CronExpression::parse(&format!("{minute} {hour} {day} {month} *"))
    }

    /// Never: `0 0 31 2 *`, the 31st of February. For what is only run by hand.
    pub const fn never() -> CronExpression {
        CronExpression { text: Cow::Borrowed("0 0 31 2 *"), schedule: Schedule::NEVER }
    }

    /// The text, with single blanks and capital letters, and with values in place of `H`; a macro in
    /// small letters.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names intervals: a `*`, a range or a step stands in the second, minute or hour. Such
    /// an expression runs in both passes of an hour that the clock repeats; any other runs once.
    pub const fn is_interval(&self) -> bool {
        self.schedule.has(INTERVAL)
    }

    /// Whether there is a day that matches. `0 0 31 2 *` never occurs.
    pub fn is_reachable(&self) -> bool {
        self.schedule.is_reachable()
    }

    /// The expression in words, such as `every weekday at 08:00`.
    pub fn describe(&self) -> String {
        crate::describe::describe(self)
    }

    /// The values of one field in words, such as `0, 15, 30 and 45`, or `every` for all of them.
    pub fn describe_field(&self, field: Field) -> String {
        crate::describe::describe_field(&self.schedule, field)
    }

    /// What the macro `cron!` writes: an expression that was checked while the program was compiled.
    #[doc(hidden)]
    pub const fn __checked(text: &'static str, sets: [u64; 6], rules: [u8; 3]) -> CronExpression {
        CronExpression { text: Cow::Borrowed(text), schedule: Schedule::from_parts(sets, rules) }
    }

    /// What [`__checked`](CronExpression::__checked) makes the expression of.
    #[doc(hidden)]
    pub const fn __parts(&self) -> ([u64; 6], [u8; 3]) {
        self.schedule.parts()
    }
}

impl FromStr for CronExpression {
    type Err = CronError;

    fn from_str(text: &str) -> Result<CronExpression, CronError> {
        CronExpression::parse(text)
    }
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CronExpression").field(&self.text).finish()
    }
}

impl PartialEq for CronExpression {
    fn eq(&self, other: &CronExpression) -> bool {
        self.schedule == other.schedule
    }
}

impl Eq for CronExpression {}

impl Hash for CronExpression {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.schedule.hash(state);
    }
}

/// Single blanks, capital letters, values for `H`; macros in small letters.
fn normalised(text: &str, seed: Option<Seed>) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in text.split([' ', '\t']).filter(|word| !word.is_empty()) {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.push_str(word);
    }
    if normal.starts_with('@') {
        normal.make_ascii_lowercase();
        return normal;
    }
    normal.make_ascii_uppercase();
    match seed {
        Some(seed) if normal.contains('H') => with_values(&normal, seed),
        _ => normal,
    }
}

/// The text with the values that a seed chooses in place of each `H`.
fn with_values(text: &str, seed: Seed) -> String {
    let skip = Field::ALL.len().saturating_sub(text.split(' ').count());
    let words = text.split(' ').zip(&Field::ALL[skip..]).map(|(word, field)| {
        let Some(rest) = word.strip_prefix('H') else { return word.to_owned() };
        let step = rest.strip_prefix('/').and_then(|step| step.parse().ok());
        match seed.choose(*field, step) {
            Term::Range { low, high, step } => format!("{low}-{high}/{step}"),
            Term::From { low, step } => format!("{low}/{step}"),
            Term::Value(value) => value.to_string(),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Gathers the sets.
struct Builder {
    schedule: Schedule,
    seed: Option<Seed>,
}

impl Builder {
    fn finish(mut self) -> Schedule {
        if self.schedule.seconds == 0 {
            self.schedule.seconds = 1;
        }
        self.schedule
    }

    fn add(&mut self, field: Field, bits: u64) {
        let schedule = &mut self.schedule;
        match field {
            Field::Second => schedule.seconds |= bits,
            Field::Minute => schedule.minutes |= bits,
            Field::Hour => schedule.hours |= bits as u32,
            Field::DayOfMonth => schedule.days |= bits as u32,
            Field::Month => schedule.months |= bits as u16,
            // 7 is Sunday, too.
            Field::DayOfWeek => schedule.weekdays |= (bits | bits >> 7) as u8 & 0x7F,
        }
    }
}

impl Sink for Builder {
    fn term(&mut self, field: Field, term: Term) {
        let term = match (term, self.seed) {
            (Term::Hash { step }, Some(seed)) => seed.choose(field, step),
            (term, _) => term,
        };
        let is_interval =
            matches!(term, Term::Every { .. } | Term::From { .. } | Term::Range { .. });
        if is_interval && field.is_of_time() {
            self.schedule.flags |= INTERVAL;
        }
        let (first, last) = (field.first(), field.last());
        let all = range(first, last, 1);
        let bits = match term {
            Term::Every { step } => range(first, last, step),
            Term::Value(value) => 1 << value,
            Term::From { low, step } => range(low, last, step),
            Term::Range { low, high, step } => around(field, low, high, step),
            // The parser lets `H` pass only with a seed, and then it was replaced above.
            Term::Hash { .. } => 0,
            Term::LastDay { before, nearest_weekday } => {
                self.schedule.before_last = before;
                self.schedule.flags |= LAST_DAY | if nearest_weekday { NEAREST_WEEKDAY } else { 0 };
                all
            }
            Term::NearestWeekday(day) => {
                self.schedule.flags |= NEAREST_WEEKDAY;
                1 << day
            }
            Term::LastWeekday(weekday) => {
                self.schedule.flags |= LAST_WEEKDAY;
                1 << weekday
            }
            Term::NthWeekday { weekday, nth } => {
                self.schedule.flags |= NTH_WEEKDAY;
                self.schedule.nth = nth;
                1 << weekday
            }
        };
        self.add(field, bits);
    }

    fn is_seeded(&self) -> bool {
        self.seed.is_some()
    }
}

/// The values from `low` to `high`.
fn range(low: u8, high: u8, step: u8) -> u64 {
    (low..=high).step_by(usize::from(step.max(1))).fold(0, |bits, value| bits | 1 << value)
}

/// The values of a range; it wraps around when `high` is below `low`.
fn around(field: Field, low: u8, high: u8, step: u8) -> u64 {
    if low <= high {
        return range(low, high, step);
    }
    let (first, last) = (field.first(), field.last_distinct());
    // A range from 7 is one from Sunday.
    if low > last {
        return range(first, high, step);
    }
    let step = step.max(1);
    let carried = step - 1 - (last - low) % step;
    range(low, last, step) | range(first + carried, high, step)
}
