//! What the code that the macros write stands on. Not for people: it changes without notice.

use std::sync::Arc;

use portfire_core::Call;
use portfire_core::job_error::IntoJobError;
use portfire_server::{HandlerResult, Scope};
use serde::Serialize;

pub use crate::args::{Arg, ArgsReader, ArgsWriter, Field, Migrate, Migrated, decode};
pub use crate::inject::Inject;
pub use crate::methods::JobService;
pub use inventory;
pub use portfire_core::{
    Backoff, BoxFuture, Exceeded, Inline, JobError, JobFn, Json as StoredJson, Retention,
    RetryPolicy,
};
pub use portfire_server::handler::encode_result;
pub use portfire_server::{
    FromServices, Handler, HandlerDefaults, Invocation, JobContext, JobDescriptor, JobSet, Need,
    ParamShape, Scope as ServiceScope, ServiceError,
};

/// What a job function may return.
#[diagnostic::on_unimplemented(
    message = "a job cannot return `{Self}`",
    label = "not `()` or a `Result`",
    note = "a job returns `()` or `Result<T, E>`: write `Result<{Self}, JobError>` and return `Ok(..)`"
)]
pub trait JobReturn {
    /// What is stored of a success.
    type Output: Serialize + 'static;

    /// The success, or what should happen instead.
    ///
    /// # Errors
    /// The handler's error.
    fn into_result(self) -> Result<Self::Output, JobError>;
}

impl JobReturn for () {
    type Output = ();

    fn into_result(self) -> Result<(), JobError> {
        Ok(())
    }
}

impl<T: Serialize + 'static, E: IntoJobError> JobReturn for Result<T, E> {
    type Output = T;

    fn into_result(self) -> Result<T, JobError> {
        self.map_err(IntoJobError::into_job_error)
    }
}

/// Makes the result of a handler from that of its function.
pub fn stored<T: Serialize>(result: Result<T, JobError>) -> HandlerResult {
    encode_result(&result?)
}

/// Leaves a result as it is: the inline counterpart of [`stored`].
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
