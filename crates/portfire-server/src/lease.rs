//! The server's lease as the server sees it: until when it may act under which id.
//!
//! The storage decides when a lease has lapsed, in its own time. A server must stop *before* that,
//! and it cannot ask: so it counts from the moment at which it **sent** the last renewal that
//! succeeded, on a clock that never jumps, and takes a tenth of the lease off as a margin.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use portfire_core::ServerId;
use tokio::sync::watch;

/// The lease of this process, shared by everything that acts under it.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Time without a renewal after which nothing is done any more.
    valid_for: Duration,
    /// The end of its validity, in nanoseconds of the runtime's clock; 0 when there is no lease.
    valid_until: AtomicU64,
    holder: Mutex<Holder>,
    /// Counts changes, for those who wait.
    changes: watch::Sender<u64>,
}

/// Under which id a server acts. A server that was declared dead goes on as another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) server: ServerId,
    /// Counts the ids that this process has had, from 1.
    pub(crate) incarnation: u64,
    /// Whether the storage has said that the id is dead.
    gone: bool,
}

impl Lease {
    /// A lease of this length that was not granted yet.
    pub(crate) fn new(server: ServerId, lease: Duration) -> Lease {
        Lease {
            valid_for: lease - lease / 10,
            valid_until: AtomicU64::new(0),
            holder: Mutex::new(Holder { server, incarnation: 1, gone: false }),
            changes: watch::Sender::new(0),
        }
    }

    /// Under which id the server acts.
    pub(crate) fn holder(&self) -> Holder {
        self.lock().clone()
    }

    /// Whether the server may act.
    pub(crate) fn is_valid(&self, now: Duration) -> bool {
        nanos(now) < self.valid_until.load(Ordering::Acquire)
    }

    /// When the server must stop acting; zero without a lease.
    pub(crate) fn valid_until(&self) -> Duration {
        Duration::from_nanos(self.valid_until.load(Ordering::Acquire))
    }

    /// The storage has granted or renewed it; the request was sent at `sent_at`.
    pub(crate) fn renewed(&self, incarnation: u64, sent_at: Duration) {
        let holder = self.lock();
        if holder.incarnation == incarnation && !holder.gone {
            let until = nanos(sent_at.saturating_add(self.valid_for));
            self.valid_until.store(until, Ordering::Release);
        }
        drop(holder);
        self.changed();
    }

    /// The storage has said that the id of this incarnation is dead.
    pub(crate) fn gone(&self, incarnation: u64) {
        let mut holder = self.lock();
        if holder.incarnation == incarnation {
            holder.gone = true;
            self.valid_until.store(0, Ordering::Release);
        }
        drop(holder);
        self.changed();
    }

    /// Whether the present id is dead.
    pub(crate) fn is_gone(&self) -> bool {
        self.lock().gone
    }

    /// Goes on under another id, which has no lease yet.
    pub(crate) fn reborn(&self, server: ServerId) -> Holder {
        let mut holder = self.lock();
        *holder = Holder { server, incarnation: holder.incarnation + 1, gone: false };
        let reborn = holder.clone();
        drop(holder);
        self.changed();
        reborn
    }

    /// Hears of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Holder> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 2^64 nanoseconds are 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease() -> Lease {
        Lease::new(ServerId::new("a"), 30 * SECOND)
    }

    #[test]
    fn it_is_valid_for_nine_tenths_from_the_moment_of_sending() {
        let lease = lease();
        assert!(!lease.is_valid(Duration::ZERO));
        lease.renewed(1, 5 * SECOND);
        assert!(lease.is_valid(31 * SECOND));
        assert!(!lease.is_valid(32 * SECOND));
    }

    #[test]
    fn a_late_answer_to_a_dead_id_renews_nothing() {
        let lease = lease();
        lease.gone(1);
        lease.renewed(1, SECOND);
        assert!(!lease.is_valid(SECOND));
        assert_eq!(lease.reborn(ServerId::new("b")).incarnation, 2);
        lease.renewed(1, SECOND);
        assert!(!lease.is_valid(SECOND));
        lease.renewed(2, SECOND);
        assert!(lease.is_valid(SECOND));
    }
}
