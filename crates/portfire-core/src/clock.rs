//! Time as the storages see it: [`Timestamp`] and the [`Clock`] that tells it.
//!
//! Storage time decides everything that is stored. This is the only file of the crate that reads
//! the system clock; everything else gets an instant as an argument, so that tests move time.
//!
//! # When the clock of a host goes back
//! Storage time never does: see [`StorageTime`]. It goes on from the latest instant that was seen, by the time
//! that really passes, and a sixteenth slower than that until the clock has caught up. So one commit of a clock
//! that was an hour ahead stops nothing: delays, retries, rates and leases last up to 7 % longer for
//! 16 hours, and are right again. Recurring jobs come early meanwhile, by what is left of the hour.
//! [`Monitor::skew`](crate::Monitor::skew) tells how much that is, and [`problems`](crate::problems) tells people.
//!
//! - *Several processes* on one storage each go by their own monotonic clock, and by the latest instant that is
//!   stored: every commit stores its own, so none of them is behind another by more than the time since the last
//!   commit of any. A heartbeat is a commit.
//! - *After a restart* a process knows the stored instant only, and goes on from there. What passed while no
//!   process ran is not counted as long as the clock is behind.
//! - *Slower, not stopped*: an hour's stop would hold up every job. *Slower, not at pace*: at pace the storage
//!   would stay ahead for ever, and each night's report would come an hour early.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    /// The present instant. May jump in either direction; storages go by it through [`StorageTime`].
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, by a clock that never jumps. `None` when there is no such clock: then each
    /// move of [`now`](Self::now) forward counts as time that has passed. Default: `None`.
    fn passed(&self) -> Option<Duration> {
        None
    }
}

/// The clock of the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn passed(&self) -> Option<Duration> {
        static START: OnceLock<Instant> = OnceLock::new();
        Some(START.get_or_init(Instant::now).elapsed())
    }
}

/// While storage time is ahead of the clock, it loses one part in so many of the time that passes.
const CATCH_UP: u32 = 16;

/// Storage time, as one process sees it: its [`Clock`], but never back, and never standing still.
///
/// See the [module](self) for what it does when the clock goes back. Cheap to read; threads share one.
///
/// ```
/// use portfire_core::clock::{ManualClock, StorageTime};
/// use portfire_core::Clock;
/// use std::{sync::Arc, time::Duration};
///
/// let clock = Arc::new(ManualClock::default());
/// let time = StorageTime::new(clock.clone());
/// let before = time.now(clock.now());
/// clock.set(before.saturating_sub(Duration::from_secs(3_600)));
/// clock.advance(Duration::from_secs(16));
/// assert_eq!(time.now(before).since(before), Duration::from_secs(15));
/// ```
#[derive(Debug)]
pub struct StorageTime {
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

/// From where storage time goes on.
#[derive(Debug, Default)]
struct Seen {
    /// The latest instant that came from the clock or from the storage.
    at: Timestamp,
    /// Time that had passed then.
    elapsed: Duration,
    /// For a clock that cannot tell how much time has passed: what it said last, and the sum of its moves.
    said: Option<Timestamp>,
    moved: Duration,
}

impl StorageTime {
    /// Goes by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> StorageTime {
        StorageTime { clock, seen: Mutex::default() }
    }

    /// The present: not before `mark`, the latest instant that is stored, and not before any that was told.
    pub fn now(&self, mark: Timestamp) -> Timestamp {
        self.read(mark).0
    }

    /// How far the present is ahead of the clock; zero when all is well.
    pub fn skew(&self, mark: Timestamp) -> Duration {
        let (now, clock) = self.read(mark);
        now.since(clock)
    }

    /// The present, and what the clock says.
    fn read(&self, mark: Timestamp) -> (Timestamp, Timestamp) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = self.clock.passed();
        let clock = self.clock.now();
        let elapsed = elapsed.unwrap_or_else(|| seen.moved_to(clock));
        let passed = elapsed.saturating_sub(seen.elapsed);
        let slower = seen.at.saturating_add(passed - passed / CATCH_UP);
        let now = slower.max(clock).max(mark);
        if now > slower {
            (seen.at, seen.elapsed) = (now, elapsed);
        }
        (now, clock)
    }
}

impl Seen {
    fn moved_to(&mut self, clock: Timestamp) -> Duration {
        let said = self.said.replace(clock).unwrap_or(clock);
        self.moved += clock.since(said);
        self.moved
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
    /// The present, and the time that has passed.
    now: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> ManualClock {
        ManualClock { now: Mutex::new((now, Duration::ZERO)) }
    }

    /// Moves the clock forward: so much time passes.
    pub fn advance(&self, by: Duration) {
        let mut now = self.lock();
        let (at, elapsed) = *now;
        *now = (at.saturating_add(by), elapsed.saturating_add(by));
    }

    /// Puts the clock anywhere, also back, without time passing: hosts do that.
    pub fn set(&self, to: Timestamp) {
        self.lock().0 = to;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.lock().0
    }

    fn passed(&self) -> Option<Duration> {
        Some(self.lock().1)
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

    const HOUR: Duration = Duration::from_secs(3_600);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn storage_time_is_the_clock_while_that_goes_forward() {
        let clock = Arc::new(ManualClock::default());
        let time = StorageTime::new(clock.clone());
        for by in [0, 1, 3_600, 1] {
            clock.advance(secs(by));
            assert_eq!(time.now(Timestamp::MIN), clock.now());
            assert_eq!(time.skew(Timestamp::MIN), Duration::ZERO);
        }
        clock.set(clock.now().saturating_add(HOUR));
        assert_eq!(time.now(Timestamp::MIN), clock.now());
    }

    #[test]
    fn behind_a_mark_it_goes_on_a_little_slower_until_the_clock_has_caught_up() {
        let clock = Arc::new(ManualClock::default());
        let mark = clock.now().saturating_add(HOUR);
        let time = StorageTime::new(clock.clone());
        assert_eq!((time.now(mark), time.skew(mark)), (mark, HOUR));
        // However often it is read.
        for _ in 0..32 {
            clock.advance(secs(1));
            time.now(mark);
        }
        assert_eq!(time.now(mark), mark.saturating_add(secs(30)));
        assert_eq!(time.skew(mark), HOUR - secs(2));
        clock.advance(16 * HOUR - secs(32));
        assert_eq!((time.now(mark), time.skew(mark)), (clock.now(), Duration::ZERO));
        clock.advance(secs(1));
        assert_eq!(time.now(mark), clock.now());
    }

    #[test]
    fn a_clock_that_goes_to_and_fro_does_not_drive_it_ahead() {
        let clock = Arc::new(ManualClock::default());
        let time = StorageTime::new(clock.clone());
        let start = time.now(Timestamp::MIN);
        let right = clock.now();
        for _ in 0..100 {
            clock.set(right.saturating_sub(HOUR));
            time.now(start);
            clock.set(right);
            assert_eq!(time.now(start), right);
        }
    }

    /// A clock that only says what time it is.
    #[derive(Debug, Default)]
    struct Plain(ManualClock);

    impl Clock for Plain {
        fn now(&self) -> Timestamp {
            self.0.now()
        }
    }

    #[test]
    fn a_clock_without_elapsed_time_counts_by_its_moves_forward() {
        let clock = Arc::new(Plain::default());
        let time = StorageTime::new(clock.clone());
        let mark = time.now(Timestamp::MIN);
        clock.0.set(mark.saturating_sub(HOUR));
        assert_eq!(time.now(mark), mark);
        clock.0.advance(secs(16));
        assert_eq!(time.now(mark), mark.saturating_add(secs(15)));
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
