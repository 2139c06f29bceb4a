//! Limits: how many jobs of a key run at a time, and how many start in a window of time.
//!
//! A **slot** of a concurrency limit is a running job that names the key: it is counted from live claims,
//! so whatever ends a claim frees it and no crash can leak one. A job that finds its key full at a claim
//! waits in the key's line, in the order of priority and creation, still `enqueued`; when one of the
//! key's jobs leaves `processing`, the first of the line goes to the end of its queue in the same commit.
//! Because it goes to the *end*, partitions of one limit (tenants) take turns, however long the line of one of them is.
//!
//! Who comes up so has the *turn*, and passes it on in the same commit when it leaves its queue without being
//! claimed: because it was deleted or rescheduled, or has to wait for another of its keys. Those of a paused
//! queue take no turn: they go to their queue together with the next of another. In a queue that no server
//! works on a turn is passed on by the next [promotion](crate::Storage::promote).
//!
//! A job that enters its queue goes into the line at once when its key is full or has a line already. A key
//! counts once for a job, however often the job names it. What a key's rate remembers is kept until
//! [`clean`](crate::Storage::clean) finds that it no longer matters.
//!
//! A **rate** counts claims, also those that are given back. [`RateWindow`] is the arithmetic, shared by all storages.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::job::{InvalidJob, KindName, QueueName, excerpt};

/// Most limits that one job names.
pub const LIMITS_MAX: usize = 4;

/// Longest partition, in bytes.
const PARTITION_BYTES_MAX: usize = 200;

/// The name of a limit: 1 to 64 letters, digits and `_ . -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LimitName(Box<str>);

impl LimitName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidJob::Limit`] when it is empty, too long or has other characters.
    pub fn new(name: impl Into<Box<str>>) -> Result<LimitName, InvalidJob> {
        let name = name.into();
        let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || name.chars().count() > 64 || !name.chars().all(legal) {
            let reason = "a name has 1 to 64 letters, digits or any of `_ . -`";
            return Err(InvalidJob::Limit { name: excerpt(&name), reason: reason.to_owned() });
        }
        Ok(LimitName(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LimitName {
    type Error = InvalidJob;

    fn try_from(name: String) -> Result<LimitName, InvalidJob> {
        LimitName::new(name)
    }
}

impl From<LimitName> for String {
    fn from(name: LimitName) -> String {
        name.0.into()
    }
}

impl Borrow<str> for LimitName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A limit that a job is under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitUse {
    /// Which limit.
    pub limit: LimitName,
    /// Which part of it: each partition is counted on its own, under the same rule. Empty for the limit
    /// as a whole; at most 200 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub partition: String,
    /// The rule that the code declares, stored when it differs from what the code declared last. While someone has
    /// set the limit by hand it does not count. A limit that has no rule at all limits nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<LimitRule>,
}

impl LimitUse {
    /// What is counted together: the name, and after a colon the partition if there is one.
    pub fn key(&self) -> String {
        if self.partition.is_empty() {
            return self.limit.as_str().to_owned();
        }
        [self.limit.as_str(), ":", &self.partition].concat()
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`InvalidJob::Limit`] that says which is broken.
    pub fn validate(&self) -> Result<(), InvalidJob> {
        let size = self.partition.len();
        if size > PARTITION_BYTES_MAX {
            let reason = format!(
                "its partition has {size} bytes: expected at most {PARTITION_BYTES_MAX}; hash what is longer"
            );
            return Err(InvalidJob::Limit { name: excerpt(self.limit.as_str()), reason });
        }
        self.declared.map_or(Ok(()), |rule| rule.validate(self.limit.as_str()))
    }
}

/// How much is allowed at a time and in a time; what is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRule {
    /// Jobs that run at a time: 1 to 100,000. One makes a mutex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Claims in a window of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl LimitRule {
    /// So many at a time.
    pub const fn concurrency(jobs: u32) -> LimitRule {
        LimitRule { concurrency: Some(jobs), rate: None }
    }

    /// So many starts in a time.
    pub const fn rate(count: u32, per: Duration, window: Window) -> LimitRule {
        LimitRule { concurrency: None, rate: Some(Rate { count, per, window }) }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`InvalidJob::Limit`] that names the limit and what is wrong.
    pub fn validate(&self, name: &str) -> Result<(), InvalidJob> {
        let refuse = |reason: &str| {
            Err(InvalidJob::Limit { name: excerpt(name), reason: reason.to_owned() })
        };
        if self.concurrency.is_some_and(|jobs| !(1..=100_000).contains(&jobs)) {
            return refuse("a concurrency is 1 to 100,000; to stop all jobs pause their queue");
        }
        let Some(rate) = self.rate else { return Ok(()) };
        if !(1..=1_000_000).contains(&rate.count) {
            return refuse("a rate is 1 to 1,000,000 starts");
        }
        let longest = Duration::from_secs(366 * 24 * 60 * 60);
        if !(Duration::from_millis(100)..=longest).contains(&rate.per) {
            return refuse("the window of a rate is 100 ms to 366 days long");
        }
        Ok(())
    }
}

/// So many starts in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Starts: 1 to 1,000,000.
    pub count: u32,
    /// The length of the window: 100 ms to 366 days.
    pub per: Duration,
    /// How windows lie.
    #[serde(default)]
    pub window: Window,
}

/// How the windows of a rate lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// One after another, aligned to 1970: each takes its count, so two counts may meet at a border.
    Fixed,
    /// Any window of this length has at most the count. Starts in one sixteenth of the window are remembered
    /// together, as if all were its last: a full rate may use up to a sixteenth less than its count.
    #[default]
    Sliding,
}

/// What a limit is set for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitTarget {
    /// The jobs that name it, each partition on its own.
    Named(LimitName),
    /// All jobs of a queue.
    Queue(QueueName),
    /// All jobs of a kind.
    Kind(KindName),
}

/// A limit as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitRecord {
    /// What it is for.
    pub target: LimitTarget,
    /// What it allows.
    pub rule: LimitRule,
    /// Whether someone set it, so that code does not change it.
    pub set: bool,
}

/// What one key of a limit is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyRecord {
    /// The key: a limit's name, and after a colon its partition.
    pub key: String,
    /// Its running jobs.
    pub running: u64,
    /// Jobs in its line.
    pub waiting: u64,
    /// When its rate allows the next start; `None` when it does now.
    pub next_at: Option<Timestamp>,
}

/// Parts of a sliding window.
const PARTS: i64 = 16;

/// How many starts a key has had, as far as its rate must know. The same arithmetic in every storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RateWindow {
    /// Starts that lay in one part of time: the last of them, in microseconds, and how many; the oldest first.
    /// It says nothing of how long a part is, because the rule may change.
    parts: Vec<(i64, u32)>,
}

impl RateWindow {
    /// Whether it remembers no start.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many may start now.
    pub fn available(&self, rate: &Rate, now: Timestamp) -> u32 {
        let taken: u64 = self.counted(rate, now).map(|&(_, count)| u64::from(count)).sum();
        rate.count.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    /// Counts starts, and forgets those that no longer matter.
    pub fn take(&mut self, rate: &Rate, now: Timestamp, count: u32) {
        let (horizon, now) = (horizon(rate, now), now.as_micros());
        self.parts.retain(|&(last, _)| last > horizon);
        match self.parts.last_mut() {
            Some((last, taken)) if *last >= beginning(rate, now) => {
                *last = now.max(*last);
                *taken = taken.saturating_add(count);
            }
            _ => self.parts.push((now, count)),
        }
    }

    /// When the next may start, if none may now.
    pub fn next_at(&self, rate: &Rate, now: Timestamp) -> Option<Timestamp> {
        if self.available(rate, now) > 0 {
            return None;
        }
        let leaves = |last: i64| match rate.window {
            Window::Fixed => beginning(rate, last).saturating_add(micros(rate.per)),
            Window::Sliding => last.saturating_add(micros(rate.per)),
        };
        // The count may have been lowered meanwhile: then more than one part has to leave.
        let mut taken: u64 = self.counted(rate, now).map(|&(_, count)| u64::from(count)).sum();
        for &(last, count) in self.counted(rate, now) {
            taken -= u64::from(count);
            if taken < u64::from(rate.count) {
                return Some(Timestamp::from_micros(leaves(last)));
            }
        }
        None
    }

    fn counted(&self, rate: &Rate, now: Timestamp) -> impl Iterator<Item = &(i64, u32)> {
        let horizon = horizon(rate, now);
        self.parts.iter().filter(move |(last, _)| *last > horizon)
    }
}

/// Starts at this instant or earlier no longer count.
fn horizon(rate: &Rate, now: Timestamp) -> i64 {
    match rate.window {
        Window::Fixed => beginning(rate, now.as_micros()) - 1,
        Window::Sliding => now.as_micros().saturating_sub(micros(rate.per)),
    }
}

/// Where the part of time begins that an instant lies in.
fn beginning(rate: &Rate, at: i64) -> i64 {
    let width = match rate.window {
        Window::Fixed => micros(rate.per),
        Window::Sliding => (micros(rate.per) / PARTS).max(1),
    };
    at - at.rem_euclid(width)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_micros((seconds * 1e6) as i64)
    }

    #[test]
    fn no_window_of_a_sliding_rate_ever_has_more_than_its_count() {
        let rate = Rate { count: 7, per: Duration::from_secs(10), window: Window::Sliding };
        let mut window = RateWindow::default();
        let mut starts: Vec<i64> = Vec::new();
        let mut now = 0i64;
        for step in 0..4_000i64 {
            now += (step * 7_919) % 900_000;
            let free = window.available(&rate, Timestamp::from_micros(now));
            let take = free.min((step % 4) as u32);
            window.take(&rate, Timestamp::from_micros(now), take);
            starts.extend((0..take).map(|_| now));
            let within = starts.iter().filter(|&&start| start > now - 10_000_000).count();
            assert!(within <= 7, "{within} starts in the 10 s before {now}");
        }
        assert!(starts.len() > 1_000, "{}", starts.len());
    }

    #[test]
    fn a_rate_that_is_lowered_counts_what_started_before() {
        for window in [Window::Sliding, Window::Fixed] {
            let mut starts = RateWindow::default();
            let mut taken: Vec<i64> = Vec::new();
            let mut now = 0i64;
            for (count, seconds) in [(9, 3_600), (9, 60), (4, 60), (2, 1)] {
                let rate = Rate { count, per: Duration::from_secs(seconds), window };
                for step in 0..500i64 {
                    let at = Timestamp::from_micros(now);
                    let take = starts.available(&rate, at).min((step % 3) as u32);
                    starts.take(&rate, at, take);
                    taken.extend((0..take).map(|_| now));
                    let first = match window {
                        Window::Sliding => now - micros(rate.per) + 1,
                        Window::Fixed => beginning(&rate, now),
                    };
                    let within = taken.iter().filter(|&&start| start >= first).count();
                    assert!(
                        take == 0 || within <= count as usize,
                        "{within} at {now} under {rate:?}"
                    );
                    now += (step * 7_919) % (seconds as i64 * 40_000) + 1;
                }
            }
            assert!(taken.len() > 100, "{}", taken.len());
        }
    }

    #[test]
    fn a_fixed_rate_takes_its_count_in_each_window() {
        let rate = Rate { count: 3, per: Duration::from_secs(60), window: Window::Fixed };
        let mut window = RateWindow::default();
        assert_eq!(window.available(&rate, at(59.0)), 3);
        window.take(&rate, at(59.0), 3);
        assert_eq!(window.available(&rate, at(59.9)), 0);
        assert_eq!(window.next_at(&rate, at(59.9)), Some(at(60.0)));
        assert_eq!(window.available(&rate, at(60.0)), 3);
        assert_eq!(window.next_at(&rate, at(60.0)), None);
    }

    #[test]
    fn the_next_start_is_when_the_oldest_leaves() {
        let rate = Rate { count: 2, per: Duration::from_secs(16), window: Window::Sliding };
        let mut window = RateWindow::default();
        window.take(&rate, at(0.5), 1);
        window.take(&rate, at(5.5), 1);
        let next = window.next_at(&rate, at(6.0)).unwrap();
        assert_eq!(next, at(16.5));
        assert_eq!(window.available(&rate, next), 1);
        assert_eq!(window.available(&rate, at(16.4)), 0);
    }

    #[test]
    fn a_limit_of_nothing_is_refused() {
        let refused = LimitRule::concurrency(0).validate("mail").unwrap_err().to_string();
        assert!(refused.contains("`mail`") && refused.contains("pause"), "{refused}");
        assert!(LimitName::new("a:b").is_err() && LimitName::new("").is_err());
    }
}
