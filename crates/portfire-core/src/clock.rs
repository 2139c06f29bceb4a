//! Time as the storages see it: [`Timestamp`] and the [`Clock`] that tells it.
//!
//! Storage time decides everything that is stored. This is the only file of the crate that reads
//! the system clock; everything else gets an instant as an argument, so that tests move time.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in storage time: microseconds since the Unix epoch, UTC.
///
/// Written as RFC 3339 text in JSON and on pages. Legal instants run from the epoch to the end of
/// the year 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch, the earliest instant.
    pub const MIN: Timestamp = Timestamp(0);
    /// The latest instant, 9999-12-30T21:59:59.999999Z: still in the year 9999 in every time zone.
    pub const MAX: Timestamp = Timestamp(253_402_207_199_999_999);

    /// The instant so many microseconds after the Unix epoch; clamped to the legal range.
    pub const fn from_micros(micros: i64) -> Timestamp {
        if micros < 0 {
            Timestamp::MIN
        } else if micros > Timestamp::MAX.0 {
            Timestamp::MAX
        } else {
            Timestamp(micros)
        }
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The instant `by` later, or `None` when that is past [`Timestamp::MAX`].
    pub fn checked_add(self, by: Duration) -> Option<Timestamp> {
        let micros = i64::try_from(by.as_micros()).ok()?;
        let sum = self.0.checked_add(micros)?;
        (sum <= Timestamp::MAX.0).then_some(Timestamp(sum))
    }

    /// The instant `by` later; [`Timestamp::MAX`] when that is out of range.
    pub fn saturating_add(self, by: Duration) -> Timestamp {
        self.checked_add(by).unwrap_or(Timestamp::MAX)
    }

    /// The instant `by` earlier; the epoch when that is out of range.
    pub fn saturating_sub(self, by: Duration) -> Timestamp {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.0.saturating_sub(micros))
    }

    /// Time from `earlier` to this instant; zero when `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::MIN.saturating_add(since_epoch)
    }
}

impl From<Timestamp> for SystemTime {
    fn from(at: Timestamp) -> SystemTime {
        UNIX_EPOCH + at.since(Timestamp::MIN)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => write!(f, "{instant:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an instant between the Unix epoch and the year 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an instant: expected RFC 3339 between 1970 and 9999, such as 2026-11-21T08:00:00Z"
)]
pub struct ParseTimestampError {
    text: String,
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Timestamp, ParseTimestampError> {
        let refuse = || ParseTimestampError { text: text.chars().take(64).collect() };
        let instant: jiff::Timestamp = text.trim().parse().map_err(|_| refuse())?;
        let micros = instant.as_microsecond();
        if micros < 0 { Err(refuse()) } else { Ok(Timestamp(micros)) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Tells storage time. Storages that live in a database use the database's clock instead.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The present instant. May jump in either direction; storages keep a high-water mark.
    fn now(&self) -> Timestamp;
}

/// The clock of the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// A clock that stands still until a test moves it.
///
/// ```
/// use portfire_core::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::default();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(before), Duration::from_secs(60));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Timestamp>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> ManualClock {
        ManualClock { now: Mutex::new(now) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.lock();
        *now = now.saturating_add(by);
    }

    /// Puts the clock anywhere, also back: hosts do that.
    pub fn set(&self, to: Timestamp) {
        *self.lock() = to;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Timestamp> {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    /// Stands at 2026-01-01T00:00:00Z.
    fn default() -> ManualClock {
        ManualClock::at(Timestamp::from_micros(1_767_225_600_000_000))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_its_text() {
        let at = Timestamp::from_micros(1_767_225_600_123_456);
        assert_eq!(at.to_string(), "2026-01-01T00:00:00.123456Z");
        assert_eq!(at.to_string().parse(), Ok(at));
        assert_eq!(Timestamp::MAX.to_string().parse(), Ok(Timestamp::MAX));
    }

    #[test]
    fn adding_past_the_year_9999_is_refused() {
        let now = ManualClock::default().now();
        let to_2999 = Duration::from_secs(973 * 366 * 86_400);
        assert!(now.checked_add(to_2999).is_some());
        assert_eq!(now.checked_add(Duration::MAX), None);
        assert_eq!(now.saturating_add(Duration::MAX), Timestamp::MAX);
    }

    #[test]
    fn time_since_a_later_instant_is_zero() {
        let now = ManualClock::default().now();
        assert_eq!(now.since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn a_text_before_the_epoch_or_without_meaning_is_refused() {
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
        let refusal = "tomorrow".parse::<Timestamp>().unwrap_err();
        assert!(refusal.to_string().contains("`tomorrow`"));
    }
}
