//! Durations as text, such as `"10m"` or `"1h30m"`, for what is said in words.

use std::time::Duration;

use crate::job::{InvalidJob, excerpt};

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
    portfire_cron::duration::parse(text)
        .map_err(|error| InvalidJob::Duration { text: excerpt(text), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_text_and_the_reason() {
        assert_eq!("1h30m".into_duration(), Ok(Duration::from_secs(5_400)));
        let refusal = parse("10min").unwrap_err().to_string();
        assert!(
            refusal.contains("`10min`") && refusal.contains("`min` is not a unit"),
            "{refusal}"
        );
    }
}
