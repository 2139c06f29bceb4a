//! Durations as text, such as `"10m"` or `"1h30m"`, for what is said in words.

use std::time::Duration;

use crate::job::{InvalidJob, excerpt};

/// The units, the largest first, in milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// What says how long: a [`Duration`], or a text of numbers and units (`ms s m h d w`) such as `"10m"`
/// or `"1h30m"`.
pub trait IntoDuration {
    /// The duration.
    ///
    /// # Errors
    /// [`InvalidJob::Duration`] for a text that is none, with the reason.
    fn into_duration(self) -> Result<Duration, InvalidJob>;
}

impl IntoDuration for Duration {
    fn into_duration(self) -> Result<Duration, InvalidJob> {
        Ok(self)
    }
}

impl IntoDuration for &str {
    fn into_duration(self) -> Result<Duration, InvalidJob> {
        parse(self)
    }
}

/// Reads a duration.
///
/// ```
/// use portfire_core::duration;
/// assert_eq!(duration::parse("1h30m").unwrap().as_secs(), 5_400);
/// assert!(duration::parse("10 minutes").is_err());
/// ```
///
/// # Errors
/// [`InvalidJob::Duration`] that says what is wrong.
pub fn parse(text: &str) -> Result<Duration, InvalidJob> {
    millis(text)
        .map(Duration::from_millis)
        .map_err(|reason| InvalidJob::Duration { text: excerpt(text), reason })
}

fn millis(text: &str) -> Result<u64, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty".into());
    }
    let mut sum = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        sum = sum.checked_add(part(number, unit, tail)?).ok_or("it is too long")?;
        rest = tail.trim_start();
    }
    // Far beyond the year 9999, and still far from an overflow in microseconds.
    if sum > i64::MAX as u64 / 1_000 { Err("it is too long".into()) } else { Ok(sum) }
}

fn part(number: &str, unit: &str, tail: &str) -> Result<u64, String> {
    if number.is_empty() {
        let found = unit.chars().chain(tail.chars()).next();
        return Err(match found {
            Some(found) => format!("expected a number, found `{found}`"),
            None => "expected a number".into(),
        });
    }
    if unit.is_empty() {
        return Err(match tail.chars().next() {
            Some(found) => format!("expected a unit after {number}, found `{found}`"),
            None => format!("{number} has no unit"),
        });
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("`{unit}` is not a unit"));
    };
    let number: u64 = number.parse().map_err(|_| "it is too long")?;
    number.checked_mul(*factor).ok_or_else(|| "it is too long".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_units_add_up() {
        assert_eq!(parse("1w 1d 1h 1m 1s 1ms"), Ok(Duration::from_millis(694_861_001)));
        assert_eq!("0s".into_duration(), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, reason) in [
            ("", "it is empty"),
            ("10", "10 has no unit"),
            ("10 m", "expected a unit after 10, found ` `"),
            ("-1s", "expected a number, found `-`"),
            ("10min", "`min` is not a unit"),
            ("99999999999999w", "it is too long"),
        ] {
            let refusal = parse(text).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }
}
