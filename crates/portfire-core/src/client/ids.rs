//! Ids that rise: [`IdSource`].

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;
use crate::job::JobId;

/// Makes UUIDv7 ids that rise within the process, also within a millisecond and when the clock
/// steps back (RFC 9562, section 6.2, method 3: more precise time in the leading random bits).
pub(super) struct IdSource {
    /// The last instant that was used, in units of 1/4096 ms.
    last: AtomicU64,
    entropy: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl IdSource {
    pub(super) fn new(entropy: Box<dyn Fn() -> u64 + Send + Sync>) -> IdSource {
        IdSource { last: AtomicU64::new(0), entropy }
    }

    /// A bit pattern that nobody else has: the source's randomness.
    pub(super) fn random(&self) -> u64 {
        (self.entropy)()
    }

    pub(super) fn next(&self, now: Timestamp) -> JobId {
        let now = u64::try_from(now.as_micros()).unwrap_or(0).saturating_mul(4096) / 1000;
        let rise = |last: u64| now.max(last + 1);
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| Some(rise(l)));
        let tick = rise(last.unwrap_or_default());
        let at = Timestamp::from_micros(((tick / 4096) * 1000) as i64);
        // Of 80 bits the uuid takes 12 + 62: the version and variant overwrite six.
        let fine = u128::from(tick % 4096) << 64;
        JobId::from_parts(at, fine | u128::from((self.entropy)()))
    }
}

/// Randomness of the operating system, as the standard library hands it out for hash maps.
pub(super) fn os_random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // A new state differs from the last; hashing a constant with its keys gives 64 mixed bits.
    RandomState::new().hash_one(0u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};

    #[test]
    fn ids_rise_within_a_millisecond_and_against_the_clock() {
        let clock = ManualClock::default();
        let ids = IdSource::new(Box::new(|| 7));
        let first = ids.next(clock.now());
        let second = ids.next(clock.now());
        clock.set(clock.now().saturating_sub(std::time::Duration::from_secs(3600)));
        let third = ids.next(clock.now());
        assert!(first < second && second < third);
    }

    #[test]
    fn the_randomness_differs_from_call_to_call() {
        let drawn: std::collections::BTreeSet<u64> = (0..100).map(|_| os_random()).collect();
        assert_eq!(drawn.len(), 100);
    }
}
