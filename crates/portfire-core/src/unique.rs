//! Unique jobs: at most one job holds a key at a time.
//!
//! The key is taken in the commit that stores the job and given back in the commit that ends its scope,
//! whatever ends it: the job's end, its deletion, a rescue that gives it up. A job that is requeued after
//! its end takes the key again, and is refused when another job has it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::state::StateName;
use crate::transition::Transition;

/// Longest key, in bytes.
pub const UNIQUE_KEY_BYTES_MAX: usize = 512;

/// A key that one job at a time may hold, and what happens to a job that finds it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueKey {
    /// The key: 1 to 512 bytes. All kinds and queues share the keys of a storage.
    pub key: String,
    /// How long the job holds it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scope: UniqueScope,
    /// What happens when it is held.
    #[serde(default, skip_serializing_if = "is_default")]
    pub conflict: Conflict,
}

/// What is usual is left out of what is stored.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How long a job holds its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UniqueScope {
    /// Until its first claim, its deletion, or its end.
    UntilStarted,
    /// Until its end, with all retries.
    #[default]
    UntilFinished,
    /// For so long from its creation, even after its end; given back sooner only by its deletion. A job
    /// that has ended is kept as long, also where its retention is shorter.
    Within(Duration),
}

impl UniqueKey {
    /// Until when a job that was created then holds the key, if that is a matter of time.
    pub fn held_until(&self, created_at: Timestamp) -> Option<Timestamp> {
        match self.scope {
            UniqueScope::Within(time) => Some(created_at.saturating_add(time)),
            UniqueScope::UntilStarted | UniqueScope::UntilFinished => None,
        }
    }

    /// Keeps a job that ends as long as it holds the key. Storages call it for each transition.
    pub fn keep(&self, made: &mut Transition, created_at: Timestamp) {
        // Its deletion gives the key back.
        if made.to.state != StateName::Deleted
            && let Some(expires_at) = &mut made.expires_at
            && let Some(until) = self.held_until(created_at)
        {
            *expires_at = until.max(*expires_at);
        }
    }
}

/// What happens to a new job whose key another job holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// It is not stored; the answer is the id of the job that holds the key.
    #[default]
    Reject,
    /// The new job takes the key, and the holder is deleted if it has not ended. A holder that is
    /// processing stays, as with `Reject`.
    Replace,
    /// The holder waits anew for the new job's delay, when it is scheduled or enqueued; otherwise, and
    /// for a new job without a delay, as with `Reject`. The holder keeps its arguments. Each new instant is an
    /// entry of its history; one that it waits for already changes nothing. So that what comes while it runs
    /// is not lost, let it hold its key [`UntilStarted`](UniqueScope::UntilStarted). Who calls again and again
    /// delays it for ever: see [`DebounceAtMost`](Conflict::DebounceAtMost).
    Debounce,
    /// As `Debounce`, but no call delays the holder beyond so long after its own creation: it runs then at the
    /// latest, however often it is called. The bound of the call that comes counts.
    DebounceAtMost(Duration),
}

impl Conflict {
    /// To which instant the holder of a key moves, when a job comes that is to run at `run_at`; `None` when it
    /// stays. The holder was created at `created_at` and waits until `waits_until`, or in its queue.
    pub fn debounced(
        self,
        created_at: Timestamp,
        waits_until: Option<Timestamp>,
        run_at: Timestamp,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let bound = match self {
            Conflict::Debounce => Timestamp::MAX,
            Conflict::DebounceAtMost(max) => created_at.saturating_add(max),
            Conflict::Reject | Conflict::Replace => return None,
        };
        let to = run_at.min(bound);
        // What is in its queue because the bound has come is not taken out again.
        let is_due = waits_until.is_none() && bound < run_at && bound <= now;
        (!is_due && waits_until != Some(to)).then_some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_debounced_job_moves_up_to_its_bound() {
        let bounded = Conflict::DebounceAtMost(Duration::from_secs(100));
        let moved = |waits_until: Option<i64>, run_at, now| {
            bounded.debounced(at(0), waits_until.map(at), at(run_at), at(now))
        };
        assert_eq!(moved(Some(30), 60, 30), Some(at(60)));
        assert_eq!(moved(Some(60), 120, 90), Some(at(100)));
        assert_eq!(moved(Some(100), 125, 95), None);
        assert_eq!(moved(Some(100), 140, 110), None);
        // In its queue: still before the bound, then because of it.
        assert_eq!(moved(None, 90, 60), Some(at(90)));
        assert_eq!(moved(None, 140, 110), None);
        assert_eq!(Conflict::Debounce.debounced(at(0), None, at(140), at(110)), Some(at(140)));
        assert_eq!(Conflict::Reject.debounced(at(0), None, at(140), at(110)), None);
    }
}
