//! What most programs with jobs use: `use portfire::prelude::*;`.

pub use crate::{
    CancellationToken, Client, ClientExt, FromServices, Inject, JobContext, JobError, JobId,
    RetryPolicy, Services, job,
};
pub use portfire_macros::jobs;
