//! Batches: jobs that are created together and watched as one.
//!
//! A batch ends when it is sealed, has started, and all of its members are final. Members are jobs and
//! nested batches. It ends `succeeded` when all members succeeded, `cancelled` when it or one above it was cancelled,
//! else `failed`. What waits for it ([`Antecedent::Batch`](crate::Antecedent)) is released once, at the first end that is
//! the one it waits for.
//!
//! A member that is requeued reopens the batch: its numbers stay exact, and what was released stays
//! released. A batch of which members have failed can still succeed: when they are requeued and all have succeeded in the
//! end, what waits for its success is released, as in Sidekiq, where a callback on success comes after the retries. Once a
//! member was deleted, a failed batch has *failed for good*: what waits for its success is deleted. Somebody who takes a
//! job out does not want it done. A member that failed counts as deleted when its retention has ended, and a nested batch
//! that has failed for good is a deleted member of the one around it.
//!
//! Jobs are added to a batch that has not ended, by anyone who knows its id: a running member
//! can, because the batch cannot end before it does. An ended batch takes none, since its callbacks have
//! gone out without them (Hangfire would reopen it silently).
//!
//! A member cannot wait for the end of its own batch, nor for a job or batch that waits for it: such a
//! [circle](crate::circle) is refused when it is about to be closed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::continuation::Dependency;
use crate::job::{InvalidJob, JobId, excerpt};
use crate::monitor::Cursor;
use crate::state::StateName;

/// How long an ended batch is kept when it does not say otherwise: 7 days, as in Hangfire.
pub const BATCH_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long an open batch waits for its seal before it is cancelled as abandoned by who built it.
pub const BATCH_OPEN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How deep batches may stand in one another.
pub const BATCH_DEPTH_MAX: usize = 100;

/// The name of a batch: a UUIDv7 that the client makes before the batch is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(JobId);

impl BatchId {
    /// The batch with this UUID.
    pub const fn new(id: JobId) -> BatchId {
        BatchId(id)
    }

    /// The id with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> BatchId {
        BatchId(JobId::from_bytes(bytes))
    }

    /// The 16 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for BatchId {
    type Err = InvalidJob;

    fn from_str(text: &str) -> Result<BatchId, InvalidJob> {
        match text.parse() {
            Ok(id) => Ok(BatchId(id)),
            Err(_) => Err(InvalidJob::BatchId { text: excerpt(text) }),
        }
    }
}

/// A batch that is about to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewBatch {
    /// Its name, made by the client.
    pub id: BatchId,
    /// What people call it; at most 200 bytes.
    pub description: String,
    /// The batch it is a member of, stored or earlier in the same call.
    pub parent: Option<BatchId>,
    /// What it waits for before it starts: until then its members stand `awaiting`.
    pub after: Vec<Dependency>,
    /// Whether members come in further calls: it starts and ends only after its seal. This is how a
    /// batch larger than one call is created without any member running before all are stored.
    pub open: bool,
    /// How long it is kept after its end, and after its last member was cleaned. Default: [`BATCH_RETENTION`].
    pub retention: Duration,
}

impl NewBatch {
    /// A batch without a description, of its own, sealed, that may start at once.
    pub fn new(id: BatchId) -> NewBatch {
        NewBatch {
            id,
            description: String::new(),
            parent: None,
            after: Vec::new(),
            open: false,
            retention: BATCH_RETENTION,
        }
    }

    /// Checks every bound; storages call it before they store anything.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn validate(&self) -> Result<(), InvalidJob> {
        if self.description.len() > 200 {
            return Err(InvalidJob::Batch {
                batch: self.id,
                reason: "its description has over 200 bytes".to_owned(),
            });
        }
        crate::ties::validate_dependencies(&self.after)
    }
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Takes members and has not started.
    Open,
    /// Sealed, and waits for what it is to run after.
    Awaiting,
    /// Its members run.
    Started,
    /// Was cancelled, and has members that are not final yet.
    Cancelling,
    /// All members succeeded. Final, unless a member is requeued.
    Succeeded,
    /// All members are final and some did not succeed. Final, unless a member is requeued: what waits for its success waits
    /// for that, as long as no member was deleted.
    Failed,
    /// Was cancelled, and all members are final. Final for ever.
    Cancelled,
}

impl BatchState {
    /// All states.
    pub const ALL: [BatchState; 7] = [
        BatchState::Open,
        BatchState::Awaiting,
        BatchState::Started,
        BatchState::Cancelling,
        BatchState::Succeeded,
        BatchState::Failed,
        BatchState::Cancelled,
    ];

    /// The state of a job that corresponds to its end, for conditions; `None` while it has not ended.
    pub const fn end(self) -> Option<StateName> {
        match self {
            BatchState::Succeeded => Some(StateName::Succeeded),
            BatchState::Failed => Some(StateName::Failed),
            BatchState::Cancelled => Some(StateName::Deleted),
            _ => None,
        }
    }

    /// The name in lower case, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            BatchState::Open => "open",
            BatchState::Awaiting => "awaiting",
            BatchState::Started => "started",
            BatchState::Cancelling => "cancelling",
            BatchState::Succeeded => "succeeded",
            BatchState::Failed => "failed",
            BatchState::Cancelled => "cancelled",
        }
    }
}

/// How many members of a batch stand where; `pending + succeeded + failed + deleted = total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progression {
    /// Members that were ever added; a nested batch is one.
    pub total: u64,
    /// Members that are not final.
    pub pending: u64,
    /// Members that succeeded.
    pub succeeded: u64,
    /// Members that failed, and may be requeued.
    pub failed: u64,
    /// Members that were deleted, or had failed and were cleaned; of nested batches, those that were cancelled or have
    /// failed for good.
    pub deleted: u64,
}

impl Progression {
    /// Counts a member that leaves one state and enters another; one that leaves none is new.
    pub fn count(&mut self, from: Option<StateName>, to: StateName) {
        match from {
            Some(from) => {
                let counter = self.of(from);
                *counter = counter.saturating_sub(1);
            }
            None => self.total += 1,
        }
        *self.of(to) += 1;
    }

    fn of(&mut self, state: StateName) -> &mut u64 {
        match state {
            StateName::Succeeded => &mut self.succeeded,
            StateName::Failed => &mut self.failed,
            StateName::Deleted => &mut self.deleted,
            _ => &mut self.pending,
        }
    }

    /// How a batch with these members ends once none is pending.
    pub const fn end(&self, cancelled: bool) -> BatchState {
        if cancelled {
            BatchState::Cancelled
        } else if self.failed + self.deleted == 0 {
            BatchState::Succeeded
        } else {
            BatchState::Failed
        }
    }
}

/// Everything a storage knows about a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BatchRecord {
    /// Its name.
    pub id: BatchId,
    /// What people call it.
    pub description: String,
    /// The batch it is a member of.
    pub parent: Option<BatchId>,
    /// What it waited for before it started.
    pub after: Vec<Dependency>,
    /// Where it stands.
    pub state: BatchState,
    /// Why it was cancelled, in words; of one in a cancelled batch the reason of that.
    pub reason: Option<String>,
    /// Its members, counted.
    pub members: Progression,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it ended; `None` while it has not, or was reopened.
    pub ended_at: Option<Timestamp>,
    /// When it may be cleaned, provided that no member is stored any more.
    pub expires_at: Option<Timestamp>,
}

/// An explicit change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchChange {
    /// No more calls come from who builds it: an open batch starts, or awaits what it runs after.
    Seal,
    /// It and all nested ones are cancelled. One write, however many members there are: from then on no
    /// member is given to a server; `promote` deletes the members in pieces, also those that run.
    Cancel {
        /// Why, in words; shown in the members' histories.
        reason: String,
    },
}

/// What became of a change of a batch.
#[must_use = "the batch may be missing, or have ended before"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchChanged {
    /// It is applied; the batch stands here now.
    Applied(BatchState),
    /// The batch stands there already, or has ended; nothing changed.
    Unchanged(BatchState),
    /// There is no such batch.
    Missing,
}

/// Which batches to list; the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchFilter {
    /// Only in this state.
    pub state: Option<BatchState>,
    /// Only members of this batch.
    pub parent: Option<BatchId>,
    /// Go on after the page that ended here.
    pub after: Option<Cursor>,
    /// Most batches on the page; 0 means 50, and at most [`PAGE_MAX`](crate::monitor::PAGE_MAX).
    pub max: u32,
}

/// A page of batches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BatchPage {
    /// The batches.
    pub batches: Vec<BatchRecord>,
    /// Where to go on; `None` when this was the last page.
    pub next: Option<Cursor>,
}
