//! Locks between processes, held under a lease and fenced by a number that only rises.
//!
//! For what is no job: a migration, a file, a machine. A lock ends with its holder's lease at the latest,
//! so a holder that was paused may believe it still holds it: hand the [fence](LockAnswer::Held) to whatever is protected.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::job::InvalidJob;

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

impl LockRequest {
    /// Which lock it is about.
    pub fn name(&self) -> &str {
        match self {
            LockRequest::Acquire { name, .. }
            | LockRequest::Renew { name, .. }
            | LockRequest::Release { name, .. } => name,
        }
    }

    /// Checks every bound; storages call it before they look at the lock.
    ///
    /// # Errors
    /// [`InvalidJob::Lock`] that says which bound is broken.
    pub fn validate(&self) -> Result<(), InvalidJob> {
        let (name, owner, lease) = match self {
            LockRequest::Acquire { name, owner, lease } => (name, Some(owner), Some(*lease)),
            LockRequest::Renew { name, lease, .. } => (name, None, Some(*lease)),
            LockRequest::Release { name, .. } => (name, None, None),
        };
        validate_text("name", name)?;
        owner.map_or(Ok(()), |owner| validate_text("owner", owner))?;
        match lease.filter(|lease| !(LEASE_MIN..=LEASE_MAX).contains(lease)) {
            None => Ok(()),
            Some(lease) => {
                let reason = format!("a lease of {lease:?}: expected 1 ms to a day");
                Err(InvalidJob::Lock { reason })
            }
        }
    }
}

const LEASE_MIN: Duration = Duration::from_millis(1);
const LEASE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

fn validate_text(what: &str, text: &str) -> Result<(), InvalidJob> {
    let size = text.len();
    if (1..=LOCK_NAME_BYTES_MAX).contains(&size) {
        return Ok(());
    }
    let reason = format!("its {what} has {size} bytes: expected 1 to {LOCK_NAME_BYTES_MAX}");
    Err(InvalidJob::Lock { reason })
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
