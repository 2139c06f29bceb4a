//! The nouns of Portfire, its pure state machine, the storage contract, the client and the storage in memory.
//! No runtime and no IO.
//!
//! - *A job and its life*: [`job`], [`state`], [`job_error`], [`notes`], and the rules of it: [`transition`], [`retry`].
//! - *What ties jobs*: [`ties`] holds them together; [`continuation`], [`batch`] (with [`circle`]), [`unique`],
//!   [`limit`], [`recurring`].
//! - *The contract*: [`storage`], [`monitor`], [`wakeup`], [`error`], and [`lock`] beside jobs; [`engine`] holds the rules
//!   that every storage follows, [`memory`] keeps its rows in maps, and a [`layer`] is a storage around another.
//! - *The client*: [`call`], [`client`], which create and steer jobs; [`explain`] and [`problems`], which say why
//!   jobs do not run.
//! - *Under all of it*: [`clock`] and [`duration`].
//!
//! Most users depend on `portfire`, which re-exports what they need.

pub mod batch;
pub mod call;
pub mod circle;
pub mod client;
pub mod clock;
pub mod continuation;
pub mod duration;
pub mod engine;
pub mod error;
pub mod explain;
pub mod job;
pub mod job_error;
pub mod layer;
pub mod limit;
pub mod lock;
pub mod memory;
pub mod monitor;
pub mod moved;
pub mod notes;
pub mod problems;
pub mod recurring;
pub mod retry;
pub mod state;
pub mod storage;
pub mod suspects;
pub mod ties;
pub mod transition;
pub mod unique;
pub mod wakeup;

pub use batch::{
    BatchChange, BatchChanged, BatchFilter, BatchId, BatchPage, BatchRecord, BatchState, NewBatch,
    Progression,
};
pub use call::{
    AnyCall, Call, Chain, Enqueue, Inline, IntoChain, JobFn, Limit, ParentError, ParentResult,
    Takes, Unique,
};
pub use client::{
    Batch, BatchHandle, Client, ClientError, ContinueWith, Lock, LockGuard, Recurring,
    RecurringJob, Upserted,
};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use continuation::{After, Antecedent, Continuation, Dependency, ParentOutcome};
pub use duration::IntoDuration;
pub use error::{BoxError, StorageError};
pub use explain::{Explanation, Reason};
pub use job::{InvalidJob, JobId, JobOptions, Json, KindName, Limits, NewJob, QueueName, When};
pub use job_error::{CancelReason, Cancelled, JobError};
pub use layer::Layer;
pub use limit::{
    KeyRecord, LimitName, LimitRecord, LimitRule, LimitTarget, LimitUse, Rate, Window,
};
pub use lock::{LockAnswer, LockRecord, LockRequest};
pub use memory::{MemoryStorage, MemoryStorageBuilder};
pub use monitor::{
    Bucket, Counts, Cursor, JobFilter, JobPage, KindRecord, Monitor, QueueRecord, ServerRecord,
    StatisticsRecord, WaitingRecord,
};
pub use moved::{Heard, Moved, TransitionHub, Transitions};
pub use notes::{Annotation, Level, LogLine, LogPage, Notes, NotesRecord, Progress};
pub use recurring::{
    DueRecurring, Fire, FireAction, Fired, Misfire, NewRecurring, Overlap, RecurringChange,
    RecurringChanged, RecurringFilter, RecurringId, RecurringPage, RecurringRecord, RunRecord,
    Schedule,
};
pub use retry::{AfterFailure, Backoff, Exceeded, RetryPolicy};
pub use state::{
    Cause, ErrorRecord, Folded, HistoryEntry, JobRecord, JobState, ServerId, StateName,
};
pub use storage::{
    Action, Answer, BoxFuture, Capabilities, Change, Changed, Claim, ClaimRequest, ClaimedJob,
    Cleaned, Created, Cycle, CycleRequest, Expect, Finish, Lost, LostReason, NewServer, Outcome,
    Promoted, RescueRequest, Rescued, Storage, StorageInfo, Verdict,
};
pub use ties::{Occurrence, Ties};
pub use transition::{Event, Loss, Place, Refusal, Retention, Standing, Transition};
pub use unique::{Conflict, UniqueKey, UniqueScope};
pub use wakeup::{Wakeup, WakeupHub, Wakeups};
