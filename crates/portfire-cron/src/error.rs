//! Why a text is not a cron expression: the field, what is wrong, what is allowed, and where.

use std::fmt;
use std::ops::Range;

use crate::field::Field;

/// Characters of a line of [`CronError::render`].
const LINE: usize = 72;

/// What is wrong with a cron text, for programs; people read [`CronError`]'s text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CronErrorKind {
    /// There is nothing in it.
    Empty,
    /// It is longer than [`MAX_LENGTH`](crate::MAX_LENGTH).
    TooLong,
    /// It has fewer fields than it must have.
    TooFewFields,
    /// It has more fields than it may have.
    TooManyFields,
    /// It begins with `@`, and is no macro.
    UnknownMacro,
    /// A name is that of no month, or of no day of the week.
    UnknownName,
    /// A number is too small or too large for its place.
    OutOfRange,
    /// A value is missing where one must follow.
    Incomplete,
    /// A character has no meaning at its place.
    Unexpected,
    /// It has an `H`, and no seed was given to choose a value by.
    MissingSeed,
}

impl CronErrorKind {
    /// The kind in lower case with underscores, such as `out_of_range`: stable, for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            CronErrorKind::Empty => "empty",
            CronErrorKind::TooLong => "too_long",
            CronErrorKind::TooFewFields => "too_few_fields",
            CronErrorKind::TooManyFields => "too_many_fields",
            CronErrorKind::UnknownMacro => "unknown_macro",
            CronErrorKind::UnknownName => "unknown_name",
            CronErrorKind::OutOfRange => "out_of_range",
            CronErrorKind::Incomplete => "incomplete",
            CronErrorKind::Unexpected => "unexpected",
            CronErrorKind::MissingSeed => "missing_seed",
        }
    }
}

/// A text that is not a cron expression.
///
/// In one line it says the field, what is wrong, and what is allowed; `{:#}` and
/// [`render`](CronError::render) add the text with a caret under the place:
///
/// ```
/// let error = portfire_cron::CronExpression::parse("0 24 * * *").unwrap_err();
/// assert_eq!(error.to_string(), "hour: `24` is out of range; expected a number between 0 and 23");
/// assert_eq!(
///     error.render(),
///     "hour: `24` is out of range; expected a number between 0 and 23\n  0 24 * * *\n    ^^"
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct CronError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: CronErrorKind,
    field: Option<Field>,
    problem: String,
    allowed: String,
    text: String,
    span: Range<usize>,
}

impl CronError {
    pub(crate) fn new(
        kind: CronErrorKind,
        field: Option<Field>,
        problem: impl Into<String>,
        allowed: impl Into<String>,
        text: &str,
        span: Range<usize>,
    ) -> CronError {
        let (problem, allowed) = (problem.into(), allowed.into());
        CronError(Box::new(Inner { kind, field, problem, allowed, text: text.to_owned(), span }))
    }

    /// What is wrong, for programs.
    pub fn kind(&self) -> CronErrorKind {
        self.0.kind
    }

    /// The field that is at fault, where it is one.
    pub fn field(&self) -> Option<Field> {
        self.0.field
    }

    /// What is wrong, in words, without the field.
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// What is allowed at the place, in words.
    pub fn allowed(&self) -> &str {
        &self.0.allowed
    }

    /// The text; of one that is too long, its beginning.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The bytes of [`text`](CronError::text) that are at fault; empty where something is missing.
    pub fn span(&self) -> Range<usize> {
        self.0.span.clone()
    }

    /// The message, the text, and carets under what is at fault; of an empty text the message. A long text is shown in part, and
    /// control characters as `�`.
    pub fn render(&self) -> String {
        let Inner { kind, text, span, .. } = &*self.0;
        if *kind == CronErrorKind::Empty {
            return self.to_string();
        }
        let before = text.get(..span.start).unwrap_or(text).chars().count();
        let wide = text.get(span.clone()).unwrap_or("").chars().count().max(1);
        let (skip, cut_before) = if before + wide.min(LINE / 2) > LINE {
            (before.saturating_sub(LINE / 2), true)
        } else {
            (0, false)
        };
        let mut shown = String::from(if cut_before { "…" } else { "" });
        shown.extend(text.chars().skip(skip).take(LINE).map(printable));
        let cut_after = text.chars().nth(skip + LINE).is_some();
        if cut_after {
            shown.push('…');
        }
        let column = before - skip + usize::from(cut_before);
        let carets = wide.min((LINE + usize::from(cut_before)).saturating_sub(column)).max(1);
        format!("{self}\n  {shown}\n  {}{}", " ".repeat(column), "^".repeat(carets))
    }
}

/// Terminals and error messages get no control characters.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if is_unseen(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Control characters, and those that have no width or reorder a line.
pub(crate) fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return f.write_str(&self.render());
        }
        if let Some(field) = self.0.field {
            write!(f, "{field}: ")?;
        }
        write!(f, "{}; {}", self.0.problem, self.0.allowed)
    }
}

impl fmt::Debug for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CronError")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .field("text", &self.0.text)
            .field("span", &self.0.span)
            .finish()
    }
}

impl std::error::Error for CronError {}
