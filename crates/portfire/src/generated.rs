//! What the code that the macros write stands on. Not for people: it changes without notice.

use std::fmt;
use std::sync::Arc;

use portfire_core::Call;
use portfire_core::job_error::IntoJobError;
use portfire_server::handler::encode_result;
use portfire_server::{HandlerResult, Scope};
use serde::Serialize;

pub use crate::args::{Arg, ArgsReader, ArgsWriter, Field, Migrate, Migrated, decode};
pub use crate::completed::without_receipt;
pub use crate::declared::{Declared, declare};
pub use crate::inject::Inject;
pub use crate::methods::JobService;
pub use crate::parents::{
    ParentValue, parent, parent_error, parent_result, parent_results, parents,
};
pub use inventory;
pub use portfire_core::{
    Backoff, BoxFuture, Conflict, Exceeded, Inline, JobError, JobFn, Json as StoredJson, Limit,
    Misfire, Overlap, Retention, RetryPolicy, Schedule, Takes, Unique,
};
pub use portfire_server::{
    FromServices, Handler, HandlerDefaults, Invocation, JobContext, JobDescriptor, JobSet,
    KindFilters, Need, ParamShape, Scope as ServiceScope, ServiceError,
};

/// What a job function may return, whatever is in it: [`Returned::checked`] looks at that.
#[diagnostic::on_unimplemented(
    message = "a job cannot return `{Self}`",
    label = "not `()` or a `Result`",
    note = "a job returns `()` or `Result<T, E>`: write `Result<{Self}, JobError>` and return `Ok(..)`"
)]
pub trait JobReturn {
    /// What is stored of a success.
    type Output: 'static;
}

impl JobReturn for () {
    type Output = ();
}

impl<T: 'static, E> JobReturn for Result<T, E> {
    type Output = T;
}

/// What a job function may return when its parts are looked at: a success that can be stored, and an
/// error that can be one of a job.
pub trait HandlerReturn: JobReturn {
    /// The success, or what should happen instead.
    ///
    /// # Errors
    /// The handler's error.
    fn into_result(self) -> Result<Self::Output, JobError>;

    /// The success as it is stored.
    ///
    /// # Errors
    /// The given error, or that the success cannot be JSON.
    fn store(result: Result<Self::Output, JobError>) -> HandlerResult;
}

impl HandlerReturn for () {
    fn into_result(self) -> Result<(), JobError> {
        Ok(())
    }

    fn store(result: Result<(), JobError>) -> HandlerResult {
        result.map(|()| None)
    }
}

impl<T: Serialize + 'static, E: IntoJobError> HandlerReturn for Result<T, E> {
    fn into_result(self) -> Result<T, JobError> {
        self.map_err(IntoJobError::into_job_error)
    }

    fn store(result: Result<T, JobError>) -> HandlerResult {
        encode_result(&result?)
    }
}

/// How what a job function returns is taken. Like a [`Field`] it is checked in its constructor alone,
/// so that a wrong type is one error.
pub struct Returned<R: JobReturn> {
    /// The success, or what should happen instead.
    pub into_result: fn(R) -> Result<R::Output, JobError>,
    /// The success as it is stored.
    pub store: fn(Result<R::Output, JobError>) -> HandlerResult,
}

impl<R: JobReturn> Returned<R> {
    /// For a type whose parts fit.
    pub const fn checked() -> Returned<R>
    where
        R: HandlerReturn,
    {
        Returned { into_result: R::into_result, store: R::store }
    }
}

impl<R: JobReturn> fmt::Debug for Returned<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Returned")
    }
}

/// Leaves a result as it is: the inline counterpart of [`Returned::store`].
///
/// # Errors
/// The given one.
pub fn unchanged<T>(result: Result<T, JobError>) -> Result<T, JobError> {
    result
}

/// The call with these arguments.
pub fn call<J: JobFn>(args: ArgsWriter) -> Call<J> {
    Call::from_args(args.finish())
}

/// The service of an `#[inject]` parameter.
///
/// # Errors
/// What the scope says.
pub fn inject<T: Send + Sync + 'static>(services: &Scope) -> Result<Arc<T>, JobError> {
    Ok(services.get()?)
}
