//! What most programs with jobs use: `use portfire::prelude::*;`.

pub use crate::{
    CancellationToken, Client, ClientExt, FromServices, Inject, JobContext, JobError, JobId, Next,
    RetryPolicy, Server, Services, filter_fn, job, shutdown_signal,
};
pub use portfire_macros::{cron, jobs};
