//! The numbers under which states, causes and the like are stored, both ways.
//!
//! A number that this version does not know is an error, never a value: it comes from a newer version, or
//! from damage, and whatever it were read as would be acted upon.

use std::error::Error;
use std::fmt;

use portfire_core::{After, BatchState, Cause, Level, StateName};
use rusqlite::types::Type;

/// A stored number that stands for nothing here.
#[derive(Debug)]
struct UnknownCode {
    what: &'static str,
    code: i64,
}

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnknownCode { what, code } = self;
        write!(
            f,
            "{what} {code} is unknown to this version; a newer Portfire wrote it, or the file is damaged"
        )
    }
}

impl Error for UnknownCode {}

/// Says that a stored number is none of those that this version writes; it is answered as corrupt.
pub(crate) fn unknown(what: &'static str, code: i64) -> rusqlite::Error {
    let error = Box::new(UnknownCode { what, code });
    rusqlite::Error::FromSqlConversionFailure(0, Type::Integer, error)
}

/// The place of a value in the list under which it is stored.
fn place<T: PartialEq>(all: &[T], value: &T) -> i64 {
    // Each list holds every value of its type, as the test below sees.
    all.iter().position(|listed| listed == value).map_or(-1, |place| place as i64)
}

fn at<T: Copy>(all: &[T], what: &'static str, code: i64) -> rusqlite::Result<T> {
    let found = usize::try_from(code).ok().and_then(|place| all.get(place));
    found.copied().ok_or_else(|| unknown(what, code))
}

/// The state that is stored under this number.
pub(crate) fn state(code: i64) -> rusqlite::Result<StateName> {
    at(&StateName::ALL, "state", code)
}

/// The place of a cause in [`Cause::ALL`], under which it is stored.
pub(crate) fn cause_code(cause: Cause) -> i64 {
    place(&Cause::ALL, &cause)
}

/// The cause that is stored under this number.
pub(crate) fn cause(code: i64) -> rusqlite::Result<Cause> {
    at(&Cause::ALL, "cause", code)
}

/// The place of a state in [`BatchState::ALL`], under which it is stored.
pub(crate) fn batch_state_code(state: BatchState) -> i64 {
    place(&BatchState::ALL, &state)
}

/// The state of a batch that is stored under this number.
pub(crate) fn batch_state(code: i64) -> rusqlite::Result<BatchState> {
    at(&BatchState::ALL, "batch state", code)
}

/// Conditions, each at the number under which it is stored.
const CONDITIONS: [After; 4] = [After::Success, After::Failure, After::Deletion, After::End];

pub(crate) fn after_code(after: After) -> i64 {
    place(&CONDITIONS, &after)
}

/// The condition that is stored under this number.
pub(crate) fn after(code: i64) -> rusqlite::Result<After> {
    at(&CONDITIONS, "condition", code)
}

/// Levels, each at the number under which it is stored.
const LEVELS: [Level; 4] = [Level::Debug, Level::Info, Level::Warn, Level::Error];

pub(crate) fn level_code(level: Level) -> u8 {
    place(&LEVELS, &level) as u8
}

/// The level that is stored under this number.
pub(crate) fn level(code: u8) -> rusqlite::Result<Level> {
    at(&LEVELS, "level", i64::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write;

    #[test]
    fn every_value_comes_back_from_its_number() {
        for value in StateName::ALL {
            assert_eq!(state(write::code(value) as i64).unwrap(), value);
        }
        for value in Cause::ALL {
            assert_eq!(cause(cause_code(value)).unwrap(), value);
        }
        for value in BatchState::ALL {
            assert_eq!(batch_state(batch_state_code(value)).unwrap(), value);
        }
        for value in CONDITIONS {
            assert_eq!(after(after_code(value)).unwrap(), value);
        }
        for value in LEVELS {
            assert_eq!(level(level_code(value)).unwrap(), value);
        }
    }

    #[test]
    fn an_unknown_number_is_an_error_that_says_what_it_is() {
        for code in [-1, 7, i64::MAX] {
            assert!(state(code).is_err() && after(code).is_err(), "{code}");
        }
        assert!(cause(-1).is_err() && cause(99).is_err() && batch_state(99).is_err());
        assert!(level(4).is_err());
        let text = cause(99).unwrap_err().to_string();
        assert!(text.contains("cause 99 is unknown to this version"), "{text}");
    }
}
