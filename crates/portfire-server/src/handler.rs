//! A handler as the server knows it: [`JobDescriptor`], written by `#[job]` and collected at link time.

use std::time::Duration;

use portfire_core::{BoxFuture, InvalidJob, JobError, Json, NewRecurring, RetryPolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::JobContext;
use crate::filter::KindFilters;
use crate::services::{Need, Scope};

/// What a handler returns: its result as JSON (`None` for `()`), or why there is none.
pub type HandlerResult = Result<Option<Json>, JobError>;

/// One run of a handler.
#[derive(Debug)]
pub struct Invocation {
    /// The stored arguments.
    pub args: Json,
    /// The job and its attempt.
    pub context: JobContext,
    /// The services of this run.
    pub services: Scope,
}

/// The code of a handler.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// Runs as a task.
    Async(fn(Invocation) -> BoxFuture<'static, HandlerResult>),
    /// Runs on a thread of the blocking pool.
    Blocking(fn(Invocation) -> HandlerResult),
}

/// What a handler's attribute says about its jobs; the options of a call win over it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HandlerDefaults {
    /// How failures are retried. Default: the server's policy.
    pub retry: Option<RetryPolicy>,
    /// Longest run of one attempt. Default: none.
    pub timeout: Option<Duration>,
}

/// A parameter that the caller passes, as written to `jobs.lock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParamShape {
    /// Its name, the key in the stored object.
    pub name: &'static str,
    /// Other keys under which it is found.
    pub aliases: &'static [&'static str],
    /// Its type as written in the source.
    pub ty: &'static str,
    /// Whether a stored object may lack it.
    pub optional: bool,
}

/// A job function, as the server finds it.
#[derive(Clone, Copy, Debug)]
pub struct JobDescriptor {
    /// The name under which its jobs are stored.
    pub kind: &'static str,
    /// Names under which they were stored before.
    pub aliases: &'static [&'static str],
    /// The version of its arguments, from 1.
    pub version: u32,
    /// The queue of calls that name none.
    pub queue: &'static str,
    /// What its attribute says.
    pub defaults: fn() -> HandlerDefaults,
    /// The filters of its attribute.
    pub filters: fn() -> KindFilters,
    /// The parameters that callers pass.
    pub params: fn() -> Vec<ParamShape>,
    /// The services it cannot run without.
    pub needs: fn() -> Vec<Need>,
    /// The recurring job that its attribute declares; the server stores it under its own application's name
    /// when it starts.
    pub recurring: Option<fn() -> NewRecurring>,
    /// Its code.
    pub handler: Handler,
    /// Where it is in the source, as `file:line`.
    pub location: &'static str,
}

inventory::collect!(JobDescriptor);

/// What can be registered by name: a job function, or a service with all of its jobs. Implemented by
/// what `#[job]` and `#[jobs]` write; `portfire::jobs![send_welcome, EmailService]` collects it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no jobs",
    note = "put `#[job]` on the function, or `#[jobs]` on an impl block of the type"
)]
pub trait JobSet {
    /// The descriptors, in the order of the source.
    fn descriptors() -> Vec<&'static JobDescriptor>;
}

/// All job functions that are linked into this program, by kind.
pub fn linked_jobs() -> Vec<&'static JobDescriptor> {
    let mut jobs: Vec<_> = inventory::iter::<JobDescriptor>.into_iter().collect();
    jobs.sort_by_key(|job| (job.kind, job.location));
    jobs
}

/// Decodes stored arguments for a handler. Called by what `#[job]` writes.
///
/// # Errors
/// A permanent [`JobError`] of class `undecodable_args` that names the path in the JSON, what was
/// expected and what was found.
#[doc(hidden)]
pub fn decode_args<T: DeserializeOwned>(args: &Json) -> Result<T, JobError> {
    let mut deserializer = serde_json::Deserializer::from_str(args.as_str());
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let message = format!("the stored arguments do not fit, at `{path}`: {}", error.inner());
        JobError::permanent(message).with_class("undecodable_args")
    })
}

/// Encodes what a handler returned. Called by what `#[job]` writes.
///
/// # Errors
/// A permanent [`JobError`] of class `unencodable_result`. The server knows it: the job has done its work
/// and succeeds without a result, and its log says why.
#[doc(hidden)]
pub fn encode_result<T: Serialize>(value: &T) -> HandlerResult {
    let json = Json::encode(value).map_err(|error| {
        let reason = match error {
            InvalidJob::Encode { reason } => reason,
            other => other.to_string(),
        };
        JobError::permanent(UnencodableResult(reason)).with_class("unencodable_result")
    })?;
    Ok((json.as_str() != "null").then_some(json))
}

/// Why what a handler returned cannot be stored.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be written as JSON: {0}")]
pub(crate) struct UnencodableResult(String);
