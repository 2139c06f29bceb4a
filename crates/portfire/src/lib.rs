//! Background jobs for Rust: call a function and it runs reliably, now, later or on a schedule.

#[doc(hidden)]
#[path = "generated.rs"]
pub mod __private;
mod args;
mod inject;
mod methods;

pub mod prelude;

pub use inject::Inject;
pub use methods::{ClientExt, JobService, On};
pub use portfire_core::{
    Action, AfterFailure, Backoff, Call, CancelReason, Cancelled, Change, Changed, Client,
    ClientError, Created, Exceeded, Expect, Inline, InvalidJob, JobError, JobFn, JobId, JobOptions,
    JobRecord, JobState, KindName, MemoryStorage, Monitor, QueueName, Retention, RetryPolicy,
    StateName, Storage, StorageError, Timestamp, When,
};
pub use portfire_macros::{FromServices, job};
pub use portfire_server::{
    CancellationToken, FromServices, JobContext, JobDescriptor, JobSet, Need, Scope, ServiceError,
    Services,
};

/// What a job or a test returns when nothing better is at hand: every error converts into
/// [`JobError`] by `?`.
pub type Result<T, E = JobError> = std::result::Result<T, E>;

/// Collects job functions and services with jobs for `Server::builder(..).register(..)`:
/// `jobs![send_welcome, EmailService]`.
///
/// Write it with its path, `portfire::jobs![..]`: the attribute `#[jobs]` of the prelude has the same name.
///
/// A server that is given none registers every job that is linked into the program. List them where
/// that is not wanted, or where a crate of jobs is otherwise never named and so is left out by the linker.
#[macro_export]
macro_rules! jobs {
    ($($job:ty),* $(,)?) => {{
        let mut jobs: ::std::vec::Vec<&'static $crate::JobDescriptor> = ::std::vec::Vec::new();
        $(jobs.extend(<$job as $crate::JobSet>::descriptors());)*
        jobs
    }};
}
