//! Locks between processes, held under a lease and fenced by a number that only rises.
//!
//! For what is no job: a migration, a file, a machine. A lock ends with its holder's lease at the latest,
//! so a holder that was paused may believe it still holds it: hand the [fence](LockAnswer::Held) to whatever is protected.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;

/// Longest name of a lock, and of an owner, in bytes.
pub const LOCK_NAME_BYTES_MAX: usize = 255;

/// What is asked about a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockRequest {
    /// Take it, if nobody holds it. Its holder gets its own grant again, renewed: so the call can be
    /// repeated.
    Acquire {
        /// The lock: any text of 1 to 255 bytes.
        name: String,
        /// Who asks; unique among all who might.
        owner: String,
        /// How long it is held without a renewal: 1 ms to a day.
        lease: Duration,
    },
    /// Hold it longer.
    Renew {
        /// The lock.
        name: String,
        /// The fence of the grant.
        fence: u64,
        /// How long from now.
        lease: Duration,
    },
    /// Give it back.
    Release {
        /// The lock.
        name: String,
        /// The fence of the grant.
        fence: u64,
    },
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockAnswer {
    /// It is held by who asked.
    Held {
        /// Higher than that of every earlier grant of this lock.
        fence: u64,
        /// Until when, in storage time.
        until: Timestamp,
    },
    /// Someone else holds it.
    Taken {
        /// Until when at the latest, unless it is renewed.
        until: Timestamp,
    },
    /// The grant with this fence has ended; nothing changed.
    Lost,
    /// It is given back. Those who wait hear a [`control`](crate::Wakeups::control) hint.
    Released,
}

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockRecord {
    /// Its name.
    pub name: String,
    /// Who holds it.
    pub owner: String,
    /// The number of the grant.
    pub fence: u64,
    /// Until when.
    pub until: Timestamp,
}
