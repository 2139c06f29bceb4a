//! What most programs with jobs use: `use portfire::prelude::*;`.

pub use crate::{
    After, Batch, CancellationToken, Client, ClientExt, Conflict, FromServices, Inject, JobContext,
    JobError, JobId, Limit, LockExt, Misfire, Next, Overlap, ParentError, ParentResult,
    RetryPolicy, Server, Services, Tick, Unique, filter_fn, job, shutdown_signal,
};
pub use portfire_macros::{cron, jobs};
