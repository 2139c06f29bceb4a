//! What happens after a failure: [`RetryPolicy`] and its arithmetic. Pure; randomness comes in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::InvalidJob;
use crate::state::ErrorRecord;

/// Longest wait between two attempts, whatever the backoff says.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Most retries a policy may ask for.
pub const RETRIES_MAX: u32 = 1_000;

/// Whether, when and how often a failed job runs again.
///
/// The default is Hangfire's: 10 retries, `(n-1)^4 + 15 + rand(0..30)·n` seconds before the n-th,
/// then the job is failed and kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryPolicy {
    /// Retries after the first run. 0 means none; at most [`RETRIES_MAX`]. Default: 10.
    pub max: u32,
    /// The wait before each retry. Default: [`Backoff::Hangfire`].
    pub backoff: Backoff,
    /// Share of the wait that is drawn at random, 0.0 to 1.0, taken off the wait. Default: 0.
    ///
    /// Hangfire's backoff has randomness of its own and ignores it.
    pub jitter: f64,
    /// When not empty, only errors of these classes are retried. Default: empty.
    ///
    /// A class matches by its whole name (`std::io::error::Error`) or its last segment (`Error`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Errors of these classes are not retried. Default: empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// What becomes of a job whose retries are spent. Default: [`Exceeded::Fail`].
    pub exceeded: Exceeded,
}

/// The wait before the n-th retry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Backoff {
    /// `(n-1)^4 + 15 + rand(0..30)·n` seconds: about 30 s, then a minute, 4 hours in all for 10.
    /// Source: Hangfire, `AutomaticRetryAttribute.SecondsToDelay`, after Sidekiq.
    Hangfire,
    /// Always the same wait.
    Fixed(Duration),
    /// `base · 2^(n-1)`, at most `cap`.
    Exponential {
        /// The first wait.
        base: Duration,
        /// The longest wait.
        cap: Duration,
    },
    /// One wait for each retry; the last one repeats. Empty means no wait.
    Delays(Vec<Duration>),
}

/// What becomes of a job whose retries are spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exceeded {
    /// It is failed and kept until someone acts.
    #[default]
    Fail,
    /// It is deleted, with the error kept until the retention ends.
    Delete,
}

/// What a policy decides about one failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Run again after this wait.
    Retry(Duration),
    /// Give up: the job is failed.
    Fail,
    /// Give up: the job is deleted.
    Delete,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            max: 10,
            backoff: Backoff::Hangfire,
            jitter: 0.0,
            only: Vec::new(),
            except: Vec::new(),
            exceeded: Exceeded::Fail,
        }
    }
}

impl RetryPolicy {
    /// The first failure is the last.
    pub fn none() -> RetryPolicy {
        RetryPolicy::times(0)
    }

    /// So many retries with Hangfire's waits.
    pub fn times(max: u32) -> RetryPolicy {
        RetryPolicy { max, ..RetryPolicy::default() }
    }

    /// The same with another backoff.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> RetryPolicy {
        RetryPolicy { backoff, ..self }
    }

    /// The same with another end.
    #[must_use]
    pub fn exceeded(self, exceeded: Exceeded) -> RetryPolicy {
        RetryPolicy { exceeded, ..self }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`InvalidJob::Retry`] for over [`RETRIES_MAX`] retries or a jitter outside 0 to 1.
    pub fn validate(&self) -> Result<(), InvalidJob> {
        let refuse = |reason: String| Err(InvalidJob::Retry { reason });
        if self.max > RETRIES_MAX {
            return refuse(format!("{} retries, and at most {RETRIES_MAX} are taken", self.max));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return refuse(format!("a jitter of {} is not between 0 and 1", self.jitter));
        }
        Ok(())
    }

    /// Decides about a failure, when `failures` earlier ones were counted since the run began.
    ///
    /// `random` is any number; the waits are drawn from it.
    pub fn after_failure(&self, failures: u32, error: &ErrorRecord, random: u64) -> AfterFailure {
        if failures < self.max && self.retries_class(&error.class) {
            return AfterFailure::Retry(self.delay(failures.saturating_add(1), random));
        }
        match self.exceeded {
            Exceeded::Fail => AfterFailure::Fail,
            Exceeded::Delete => AfterFailure::Delete,
        }
    }

    /// The wait before the `n`-th retry, `n` from 1; never over [`RETRY_DELAY_MAX`].
    pub fn delay(&self, n: u32, random: u64) -> Duration {
        let n = n.max(1);
        let plain = match &self.backoff {
            Backoff::Hangfire => return hangfire_delay(n, random),
            Backoff::Fixed(wait) => *wait,
            Backoff::Exponential { base, cap } => {
                let factor = 1u32.checked_shl(n - 1).unwrap_or(u32::MAX);
                base.saturating_mul(factor).min(*cap)
            }
            Backoff::Delays(waits) => {
                let nth = waits.get(n as usize - 1).or(waits.last());
                nth.copied().unwrap_or_default()
            }
        };
        let plain = plain.min(RETRY_DELAY_MAX);
        // 53 random bits make a fraction in [0, 1) without rounding.
        let fraction = (random >> 11) as f64 / (1u64 << 53) as f64;
        plain.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * fraction)
    }

    fn retries_class(&self, class: &str) -> bool {
        let named = |name: &String| class == name || class.rsplit("::").next() == Some(name);
        let wanted = self.only.is_empty() || self.only.iter().any(named);
        wanted && !self.except.iter().any(named)
    }
}

fn hangfire_delay(n: u32, random: u64) -> Duration {
    let n = u64::from(n);
    let seconds = (n - 1).saturating_pow(4).saturating_add(15).saturating_add(random % 30 * n);
    Duration::from_secs(seconds).min(RETRY_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(class: &str) -> ErrorRecord {
        ErrorRecord::new(class, "broken")
    }

    #[test]
    fn the_default_waits_are_hangfires() {
        let policy = RetryPolicy::default();
        let bounds = [(1, 15, 44), (2, 16, 74), (3, 31, 118), (6, 640, 814), (10, 6576, 6866)];
        for (n, least, most) in bounds {
            for random in 0..30 {
                let seconds = policy.delay(n, random).as_secs();
                assert!((least..=most).contains(&seconds), "retry {n}: {seconds}");
            }
        }
        assert_eq!(policy.delay(1, 0).as_secs(), 15);
        assert_eq!(policy.delay(1, 29).as_secs(), 44);
    }

    #[test]
    fn no_wait_overflows_or_exceeds_a_day() {
        for n in [1, 64, 1_000, u32::MAX] {
            assert!(RetryPolicy::default().delay(n, u64::MAX) <= RETRY_DELAY_MAX);
            let base = Duration::from_secs(u64::MAX);
            let steep = RetryPolicy::default().backoff(Backoff::Exponential { base, cap: base });
            assert!(steep.delay(n, u64::MAX) <= RETRY_DELAY_MAX);
        }
    }

    #[test]
    fn exactly_max_failures_are_retried() {
        let policy = RetryPolicy::times(2);
        let decide = |failures| policy.after_failure(failures, &error("E"), 0);
        assert!(matches!(decide(0), AfterFailure::Retry(_)));
        assert!(matches!(decide(1), AfterFailure::Retry(_)));
        assert_eq!(decide(2), AfterFailure::Fail);
        assert_eq!(RetryPolicy::none().after_failure(0, &error("E"), 0), AfterFailure::Fail);
        let deletes = RetryPolicy::none().exceeded(Exceeded::Delete);
        assert_eq!(deletes.after_failure(0, &error("E"), 0), AfterFailure::Delete);
    }

    #[test]
    fn classes_are_matched_whole_or_by_their_last_segment() {
        let only = RetryPolicy { only: vec!["Timeout".into()], ..RetryPolicy::default() };
        let except = RetryPolicy { except: vec!["app::Bad".into()], ..RetryPolicy::default() };
        let retries = |policy: &RetryPolicy, class: &str| {
            matches!(policy.after_failure(0, &error(class), 0), AfterFailure::Retry(_))
        };
        assert!(retries(&only, "app::Timeout"));
        assert!(!retries(&only, "app::TimeoutTwice"));
        assert!(!retries(&except, "app::Bad"));
        assert!(retries(&except, "other::Bad"));
    }

    #[test]
    fn the_last_of_the_given_delays_repeats() {
        let seconds = Duration::from_secs;
        let policy = RetryPolicy::default().backoff(Backoff::Delays(vec![seconds(1), seconds(5)]));
        let waits: Vec<_> = (1..=4).map(|n| policy.delay(n, 7).as_secs()).collect();
        assert_eq!(waits, [1, 5, 5, 5]);
    }

    #[test]
    fn jitter_only_shortens() {
        let policy = RetryPolicy {
            backoff: Backoff::Fixed(Duration::from_secs(10)),
            jitter: 0.5,
            ..RetryPolicy::default()
        };
        for random in [0, u64::MAX / 2, u64::MAX] {
            let wait = policy.delay(1, random);
            assert!((Duration::from_secs(5)..=Duration::from_secs(10)).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn absurd_policies_are_refused() {
        assert!(RetryPolicy::times(1_001).validate().is_err());
        assert!(RetryPolicy { jitter: 1.5, ..RetryPolicy::default() }.validate().is_err());
        assert!(RetryPolicy { jitter: f64::NAN, ..RetryPolicy::default() }.validate().is_err());
        assert!(RetryPolicy::default().validate().is_ok());
    }
}
