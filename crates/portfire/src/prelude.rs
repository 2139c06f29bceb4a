//! What most programs with jobs use: `use portfire::prelude::*;`.

#[cfg(feature = "sqlite")]
pub use crate::TransactionExt;
pub use crate::{
    After, Batch, CancellationToken, Client, ClientExt, Completed, Conflict, FromServices, Inject,
    JobContext, JobError, JobId, Limit, LockExt, Misfire, Next, Overlap, ParentError, ParentResult,
    RetryPolicy, Server, Services, Tick, Unique, filter_fn, job, shutdown_signal,
};
pub use portfire_macros::{cron, jobs};
