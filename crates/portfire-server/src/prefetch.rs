//! How many jobs a lane fetches ahead: [`Pace`] measures how long its jobs take.
//!
//! A claim costs a commit, so short jobs must come in large batches; a long job must not wait here
//! behind another while a second server is idle. So a lane fetches ahead what its workers will end
//! in the next 50 ms or so: hundreds of jobs in a flood of short ones, none when each takes seconds.

use std::time::Duration;

use crate::in_hand::AHEAD_MAX;

/// How much work is fetched ahead.
const AHEAD: Duration = Duration::from_millis(50);

/// How many jobs the mean remembers, about.
const MEMORY: f64 = 32.0;

/// Measures how long jobs take.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Mean time of a job in seconds; `None` before the first.
    mean: Option<f64>,
    last_end: Duration,
}

impl Pace {
    /// A job has ended.
    pub(crate) fn ended(&mut self, took: Duration, now: Duration) {
        let took = took.as_secs_f64();
        let mean = self.mean.unwrap_or(took);
        self.mean = Some(mean + (took - mean) / MEMORY);
        self.last_end = now;
    }

    /// Jobs to have ready besides those for free workers, when so many of the workers are busy.
    pub(crate) fn ahead(&self, workers: usize, busy: usize, now: Duration) -> usize {
        let Some(mut mean) = self.mean else { return 0 };
        if busy >= workers {
            // When nothing has ended for a while, what runs takes longer than what ran before.
            mean = mean.max(now.saturating_sub(self.last_end).as_secs_f64());
        }
        // A cast of a float saturates, also that of an infinite one.
        ((AHEAD.as_secs_f64() * workers as f64 / mean) as usize).min(AHEAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn long_jobs_are_not_fetched_ahead_even_when_many_end_at_once() {
        let mut pace = Pace::default();
        assert_eq!(pace.ahead(20, 0, ms(0)), 0);
        (0..20).for_each(|_| pace.ended(ms(2_000), ms(2_000)));
        assert_eq!(pace.ahead(20, 0, ms(2_000)), 0);
    }

    #[test]
    fn short_jobs_are_fetched_ahead_until_they_grow_long() {
        let mut pace = Pace::default();
        pace.ended(Duration::ZERO, ms(1));
        assert_eq!(pace.ahead(10, 0, ms(1)), AHEAD_MAX);
        (0..100).for_each(|_| pace.ended(ms(10), ms(100)));
        assert!((40..60).contains(&pace.ahead(10, 10, ms(100))), "{pace:?}");
        assert_eq!(pace.ahead(10, 10, ms(1_000)), 0);
    }
}
