//! Durations as text: numbers and units, such as `10m` or `1h30m`.
//!
//! ```
//! use portfire_cron::duration;
//! use std::time::Duration;
//!
//! assert_eq!(duration::parse("1h30m"), Ok(Duration::from_secs(5_400)));
//! assert_eq!(duration::words(Duration::from_secs(5_400)), "1h30m");
//! assert_eq!(duration::parse("10 minutes").unwrap_err().to_string(), "expected a unit after 10, found ` `");
//! ```

use std::fmt;
use std::time::Duration;

/// The units, the largest first, in milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Far beyond the year 9999, and still far from an overflow in microseconds.
const MILLIS_MAX: u64 = i64::MAX as u64 / 1_000;

/// Reads a duration: whole numbers, each with its unit (`ms s m h d w`), that add up; blanks may stand
/// between the parts. At most some 290,000 years.
///
/// # Errors
/// [`InvalidDuration`] for every other text.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(InvalidDuration::new("it is empty"));
    }
    let mut sum = 0u64;
    while !rest.is_empty() {
        let (number, tail) = split(rest, |c| c.is_ascii_digit());
        let (unit, tail) = split(tail, |c| c.is_ascii_alphabetic());
        sum = sum.checked_add(part(number, unit, tail)?).ok_or_else(too_long)?;
        rest = tail.trim_start();
    }
    if sum > MILLIS_MAX { Err(too_long()) } else { Ok(Duration::from_millis(sum)) }
}

/// A duration as [`parse`] reads it, the largest units first; what is shorter than a millisecond is left out.
pub fn words(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in UNITS {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn part(number: &str, unit: &str, tail: &str) -> Result<u64, InvalidDuration> {
    if number.is_empty() {
        let found = unit.chars().chain(tail.chars()).next();
        return Err(InvalidDuration(match found {
            Some(found) => format!("expected a number, found `{found}`"),
            None => "expected a number".into(),
        }));
    }
    if unit.is_empty() {
        return Err(InvalidDuration(match tail.chars().next() {
            Some(found) => format!("expected a unit after {number}, found `{found}`"),
            None => format!("{number} has no unit"),
        }));
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(InvalidDuration(format!("`{unit}` is not a unit")));
    };
    let number: u64 = number.parse().map_err(|_| too_long())?;
    number.checked_mul(*factor).ok_or_else(too_long)
}

fn too_long() -> InvalidDuration {
    InvalidDuration::new("it is too long")
}

/// Why a text is no duration, in words that follow it: "it is empty", "10 has no unit".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDuration(String);

impl InvalidDuration {
    fn new(reason: &str) -> InvalidDuration {
        InvalidDuration(reason.to_owned())
    }
}

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidDuration {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_units_add_up() {
        for (text, millis) in [
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            (" 1d 2h ", 93_600_000),
            ("500ms", 500),
            ("0s", 0),
            ("1w 1d 1h 1m 1s 1ms", 694_861_001),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, reason) in [
            ("", "it is empty"),
            ("10", "10 has no unit"),
            ("ten minutes", "expected a number, found `t`"),
            ("10 m", "expected a unit after 10, found ` `"),
            ("1.5h", "expected a unit after 1, found `.`"),
            ("-1s", "expected a number, found `-`"),
            ("10min", "`min` is not a unit"),
            ("99999999999999999999s", "it is too long"),
            ("9999999999999w", "it is too long"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), reason, "{text}");
        }
    }

    #[test]
    fn words_are_read_again() {
        for text in ["0s", "500ms", "10m", "1h30m", "1w1d1h1m1s1ms"] {
            assert_eq!(words(parse(text).unwrap()), text);
        }
        assert_eq!(words(Duration::from_micros(1_500)), "1ms");
    }
}
