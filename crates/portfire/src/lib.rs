//! Background jobs for Rust: call a function, and it runs in the background, reliably.
//!
//! ```standalone_crate
//! use portfire::prelude::*;
//!
//! #[job]
//! async fn send_welcome(user_id: u64, lang: &str) -> Result<(), JobError> {
//!     println!("welcome, user {user_id}, in {lang}");
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> portfire::Result<()> {
//!     let storage = portfire::open("memory:").await?; // or "sqlite://app.db"
//!     let client = Client::new(storage.clone());
//!     let id = client.enqueue(send_welcome(42, "en")).await?; // stored from here on
//! #   let job = { let client = client.clone(); move || client.blocking().job(id) };
//! #   let shutdown_signal = || async move { while !matches!(job(), Ok(Some(job)) if job.state.name().is_final()) { tokio::task::yield_now().await } };
//!
//!     let server = Server::builder(storage).start().await?;
//!     server.run_until(shutdown_signal()).await?; // until Ctrl-C
//! #   assert_eq!(client.job(id).await?.unwrap().state.name(), portfire::StateName::Succeeded);
//!     Ok(())
//! }
//! ```
//!
//! What is promised: once `enqueue` has returned `Ok` the job is durable and runs **at least once**;
//! without a fault exactly once. It survives restarts and crashes, and failures are retried, 10 times
//! by default.
//!
//! # Jobs
//! [`#[job]`](macro@job) makes a function a job. The function then makes its own call:
//! `send_welcome(42, "en")` runs nothing and returns a [`Call`], with arguments that the compiler has
//! checked. `&T` parameters are written from the reference and lent to the body. An `async fn` runs as
//! a task, an `fn` on a thread that may block. Awaiting the call itself runs the body in place.
//!
//! A job returns `()` or a `Result`. Its error decides what happens next: any error is retried by the
//! policy; [`JobError`] can ask for [no retry](JobError::permanent), for [another wait](JobError::retry_after),
//! for [another time](JobError::snooze), or to be [discarded](JobError::discard).
//!
//! What the server supplies is not passed by the caller: services with `#[inject]`, the
//! [`JobContext`], the [`CancellationToken`], the [`Tick`] of a schedule, and with `#[parent]` what the
//! job before has returned. Methods of a service are jobs with
//! [`#[jobs]`](macro@prelude::jobs).
//!
//! # Client
//! [`Client`] enqueues, schedules, requeues, deletes; `call.queue("mail").priority(7).tag("eu")` says
//! something about one call. [`Client::enqueue_in`] stores a job in a transaction of yours.
//! In a handler, `cx.tx()` makes its writes to the same SQLite file and its completion one commit: see
//! [`Completed`]. [`set_global`] makes [`enqueue`] and its like work from anywhere, and
//! [`Client::blocking`] from code without a runtime.
//!
//! # Jobs that belong together
//! [`Client::continue_with`] runs a job after another: after its success, its failure, or any end.
//! `call.after(left).after(right)` waits for several. A [`Chain`] is stored in one commit, and with `pipe` each
//! step takes what the one before returned, by a parameter `#[parent]` of the same type:
//!
//! ```
//! use portfire::prelude::*;
//!
//! #[job]
//! async fn extract(order: u64) -> Result<Vec<u64>, JobError> {
//!     Ok(vec![order])
//! }
//! #[job]
//! async fn load(table: &str, #[parent] rows: Vec<u64>) -> Result<usize, JobError> {
//!     Ok(rows.len())
//! }
//! #[job]
//! async fn publish() {}
//!
//! # #[tokio::main]
//! # async fn main() -> portfire::Result<()> {
//! # let client = Client::new(portfire::open("memory:").await?);
//! let last = client.enqueue(extract(7).pipe(load("t1")).then(publish())).await?;
//! let batch = client
//!     .batch("import")
//!     .add_all((1..=100).map(|order| extract(order).pipe(load("t1"))))
//!     .on_success(publish())
//!     .enqueue()
//!     .await?;
//! # assert_eq!(client.batch_record(batch).await?.unwrap().members.total, 200);
//! # Ok(()) }
//! ```
//!
//! A [`Batch`] is created whole or not at all, and [watched](BatchHandle::record) and
//! [cancelled](BatchHandle::cancel) as one.
//!
//! # Recurring jobs
//! `client.recurring("daily-report", cron!("0 8 * * *"), report()).tz("Europe/Amsterdam").upsert().await?`
//! stores a [`Recurring`] job, which any server then fires, each occurrence once; [`RecurringJob`] triggers,
//! pauses, watches and removes it. `#[job(cron = "0 3 * * *")]` declares one in code. A parameter of type
//! [`Tick`] gets the instant that the schedule named.
//!
//! # Rules
//! [`Unique`] keeps a second call from being stored while one holds its key, [`Limit`] bounds how many jobs
//! run at a time and start in a time; both stand in the attribute or in a call. [`Client::lock`] is for what
//! is no job.
//!
//! # Server
//! [`Server::builder`] takes services, queues, workers, filters and processes of your own, and says at
//! once everything that is missing. All linked jobs are registered, or those of [`jobs!`].
//! [`Server::run_until`] ends it in good order: jobs that do not end in time go back to their queues.
//!
//! # Storage
//! [`open`] takes a URL: `sqlite://app.db` (with the feature `sqlite`), or `memory:`. Several processes
//! may share one file: each may serve, enqueue, or only read.
//!
//! # Testing
//! [`#[portfire::test]`](macro@test) gives a test a [`TestPortfire`](testing::TestPortfire): jobs in memory,
//! a clock that the test moves, and a `drain` that runs what is due, without waiting. [`lock`] keeps a
//! change of a job from making stored jobs unreadable.
//!
//! # Features
//! | feature | default | what it costs |
//! |---|---|---|
//! | `sqlite` | yes | the embedded storage; compiles SQLite once, about a minute |
//! | `capture` | no | the `tracing` layer `Capture`, which puts what handlers say into their jobs' logs; `tracing-subscriber` without its writers |

#[doc(hidden)]
#[path = "generated.rs"]
pub mod __private;
mod acquire;
mod args;
mod completed;
mod declared;
mod global;
mod inject;
pub mod lock;
mod methods;
mod open;
mod parents;
pub mod prelude;
pub mod testing;
#[cfg(feature = "sqlite")]
mod transaction;

pub use acquire::LockExt;
pub use completed::Completed;
pub use global::{
    add_to_batch, batch, blocking, cancel_batch, continue_with, delete, enqueue, enqueue_many,
    enqueue_unique, global, recurring, recurring_job, requeue, schedule, set_global,
};
pub use inject::Inject;
pub use methods::{ClientExt, JobService, On};
pub use open::open;
#[cfg(feature = "sqlite")]
pub use transaction::{JobTx, TransactionExt};

pub use portfire_core::client::{
    BlockingClient, BlockingRecurringJob, ClientBuilder, ClientFilter, CreateIn, block_on,
};
pub use portfire_core::{
    Action, After, AfterFailure, Antecedent, AnyCall, Backoff, Batch, BatchChanged, BatchFilter,
    BatchHandle, BatchId, BatchPage, BatchRecord, BatchState, BoxError, BoxFuture, Bucket, Call,
    CancelReason, Cancelled, Capabilities, Cause, Chain, Change, Changed, Client, ClientError,
    Clock, Conflict, Continuation, ContinueWith, Counts, Created, Cursor, Dependency, Enqueue,
    ErrorRecord, Exceeded, Expect, Finish, Folded, Heard, HistoryEntry, Inline, IntoChain,
    IntoDuration, InvalidJob, JobError, JobFilter, JobFn, JobId, JobOptions, JobPage, JobRecord,
    JobState, Json, KeyRecord, KindName, KindRecord, Layer, Level, Limit, LimitName, LimitRecord,
    LimitRule, LimitTarget, LimitUse, Limits, Lock, LockGuard, LockRecord, LogLine, LogPage,
    ManualClock, MemoryStorage, Misfire, Monitor, Moved, NewBatch, NewJob, NewRecurring,
    NotesRecord, Occurrence, Outcome, Overlap, ParentError, ParentOutcome, ParentResult, Progress,
    Progression, QueueName, QueueRecord, Rate, Reason, Recurring, RecurringFilter, RecurringId,
    RecurringJob, RecurringPage, RecurringRecord, Retention, RetryPolicy, RunRecord, Schedule,
    ServerId, ServerRecord, StateName, StatisticsRecord, Storage, StorageError, StorageInfo,
    SystemClock, Takes, Ties, Timestamp, Transitions, Unique, UniqueKey, UniqueScope, Upserted,
    WaitingRecord, When, Window,
};
/// Why a job is not running, and what keeps jobs from running: [`Client::explain`], [`Client::problems`].
pub use portfire_core::{explain, problems};
/// Cron texts and time zones; the macro [`cron!`] checks a text while the program is compiled.
pub use portfire_cron as cron;
pub use portfire_macros::{FromServices, cron, job, test};
#[cfg(feature = "capture")]
pub use portfire_server::Capture;
pub use portfire_server::{
    AppliedFilter, BackgroundProcess, Bar, CancellationToken, ElectFilter, FromServices,
    HandlerResult, Health, JobContext, JobDescriptor, JobSet, KindFilters, Need, Next, Phase, Pool,
    Problem, ProcessContext, Scope, Server, ServerBuilder, ServerFilter, ServerStats, ServiceError,
    ServiceHealth, Services, Shutdown, ShutdownReport, StartError, Tick, filter_fn, filter_with,
    process_fn, shutdown_signal,
};
/// The SQLite storage with its settings, for what a URL cannot say.
#[cfg(feature = "sqlite")]
pub use portfire_sqlite as sqlite;
/// JSON values, for functions named by `migrate`.
pub use serde_json;

/// What a job, a test or a small `main` returns when nothing better is at hand: every error converts
/// into [`JobError`] by `?`.
pub type Result<T, E = JobError> = std::result::Result<T, E>;

/// Collects job functions and services with jobs for `Server::builder(..).register(..)`:
/// `portfire::jobs![send_welcome, EmailService]`.
///
/// Write it with its path: the attribute `#[jobs]` of the prelude has the same name.
///
/// A server that is given none registers every job that is linked into the program. List them where
/// that is not wanted, or where a crate of jobs is otherwise never named and so is left out by the
/// linker.
#[macro_export]
macro_rules! jobs {
    ($($job:ty),* $(,)?) => {{
        let mut jobs: ::std::vec::Vec<&'static $crate::JobDescriptor> = ::std::vec::Vec::new();
        $(jobs.extend(<$job as $crate::JobSet>::descriptors());)*
        jobs
    }};
}

/// The README's programs are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct ReadMe;
