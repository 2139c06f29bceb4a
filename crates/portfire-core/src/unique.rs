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
    /// is not lost, let it hold its key [`UntilStarted`](UniqueScope::UntilStarted).
    Debounce,
}
