//! A call of a job function that has not run yet: [`Call`], made by the functions that `#[job]` writes.

use std::borrow::Cow;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;

use crate::job::{InvalidJob, JobId, JobOptions, Json, KindName, NewJob, QueueName, When};
use crate::job_error::JobError;
use crate::retry::RetryPolicy;
use crate::storage::BoxFuture;
use crate::transition::Retention;

/// A job function, as `#[job]` makes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job",
    note = "put `#[job]` on the function, or `#[jobs]` on the impl block of the method"
)]
pub trait JobFn: 'static {
    /// The stable name under which calls are stored.
    const KIND: &'static str;
    /// The queue of calls that name none.
    const QUEUE: &'static str = "default";
    /// The rank of calls that name none.
    const PRIORITY: i16 = 0;
    /// What a successful run returns: the `T` of its `Result<T, E>`.
    type Output: 'static;

    /// How long its jobs are kept after their end; `None` for as long as the storage says. Stored with
    /// each call, because the storage that ends a job may know nothing of its handler.
    fn retention() -> Option<Retention> {
        None
    }
}

/// A job that needs nothing of a server: no service, no context, no cancellation token. Its calls can
/// be awaited, which runs the body in place.
#[diagnostic::on_unimplemented(
    message = "a call of `{Self}` cannot be awaited: the job needs something that only a server supplies",
    note = "enqueue the call, or run the body with `{Self}::run(..)`, which takes all of its parameters"
)]
pub trait Inline: JobFn {
    /// Decodes the arguments and runs the body. Called by [`Call`]'s `IntoFuture`.
    #[doc(hidden)]
    fn run_inline(args: Json) -> BoxFuture<'static, Result<Self::Output, JobError>>;
}

/// A call of a job function: checked arguments, already serialised, with the options of this call.
///
/// Options given here win over those of the function's attribute. A mistake in one of them, such as
/// an illegal queue name, is kept and reported when the call is enqueued.
#[must_use = "a call does nothing until it is enqueued (`client.enqueue(call).await?`)"]
pub struct Call<J: JobFn> {
    id: Option<JobId>,
    args: Result<Json, InvalidJob>,
    queue: QueueName,
    priority: i16,
    when: When,
    options: JobOptions,
    job: PhantomData<fn() -> J>,
}

impl<J: JobFn> Call<J> {
    /// A call with these arguments, an object by parameter name. Used by what `#[job]` writes.
    #[doc(hidden)]
    pub fn new<A: Serialize + ?Sized>(args: &A) -> Call<J> {
        Call::from_args(Json::encode(args))
    }

    /// A call with arguments that are JSON already. Used by what `#[job]` writes.
    #[doc(hidden)]
    pub fn from_args(args: Result<Json, InvalidJob>) -> Call<J> {
        Call {
            id: None,
            args,
            queue: QueueName::stored(J::QUEUE),
            priority: J::PRIORITY,
            when: When::Now,
            options: JobOptions { retention: J::retention(), ..JobOptions::default() },
            job: PhantomData,
        }
    }

    /// Puts the job into another queue.
    pub fn queue(mut self, queue: impl Into<Cow<'static, str>>) -> Call<J> {
        match QueueName::new(queue) {
            Ok(queue) => self.queue = queue,
            Err(mistake) => self.args = Err(mistake),
        }
        self
    }

    /// Ranks the job within its queue: higher first. Default: 0.
    pub fn priority(mut self, priority: i16) -> Call<J> {
        self.priority = priority;
        self
    }

    /// Runs the job later: after a `Duration`, or at a `SystemTime` or [`Timestamp`](crate::Timestamp).
    pub fn delay(mut self, when: impl Into<When>) -> Call<J> {
        self.when = when.into();
        self
    }

    /// Retries failures by this policy.
    pub fn retry(mut self, policy: RetryPolicy) -> Call<J> {
        match policy.validate() {
            Ok(()) => self.options.retry = Some(policy),
            Err(mistake) => self.args = Err(mistake),
        }
        self
    }

    /// Stops an attempt that runs longer; that counts as a failure of class `timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Call<J> {
        self.options.timeout = Some(timeout);
        self
    }

    /// Keeps the job for this long after its end.
    pub fn retention(mut self, retention: Retention) -> Call<J> {
        self.options.retention = Some(retention);
        self
    }

    /// Adds a word to find the job by.
    pub fn tag(mut self, tag: impl Into<String>) -> Call<J> {
        self.options.tags.push(tag.into());
        self
    }

    /// Adds a free text under a key.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Call<J> {
        self.options.metadata.insert(key.into(), value.into());
        self
    }

    /// Stores the job under this id, so that enqueueing it twice is enqueueing it once.
    pub fn id(mut self, id: JobId) -> Call<J> {
        self.id = Some(id);
        self
    }

    /// The serialised arguments.
    ///
    /// # Errors
    /// The first mistake that was made in building the call.
    pub fn args(&self) -> Result<&Json, &InvalidJob> {
        self.args.as_ref()
    }

    /// The job to store; `make_id` is asked when the call names no id.
    ///
    /// # Errors
    /// The first mistake that was made in building the call.
    pub fn into_new_job(self, make_id: impl FnOnce() -> JobId) -> Result<NewJob, InvalidJob> {
        let args = self.args?;
        let id = self.id.unwrap_or_else(make_id);
        Ok(NewJob {
            queue: self.queue,
            priority: self.priority,
            when: self.when,
            options: self.options,
            ..NewJob::new(id, KindName::stored(J::KIND), args)
        })
    }
}

/// Runs the job in place, once, without storing anything: the arguments make the same way through
/// JSON as those of a stored job. Nothing retries it.
impl<J: Inline> IntoFuture for Call<J> {
    type Output = Result<J::Output, JobError>;
    type IntoFuture = BoxFuture<'static, Result<J::Output, JobError>>;

    fn into_future(self) -> Self::IntoFuture {
        match self.args {
            Ok(args) => J::run_inline(args),
            Err(mistake) => Box::pin(async { Err(JobError::permanent(mistake)) }),
        }
    }
}

impl<J: JobFn> fmt::Debug for Call<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The arguments may hold secrets; they are not for logs.
        f.debug_struct("Call").field("kind", &J::KIND).field("queue", &self.queue).finish()
    }
}

impl<J: JobFn> Clone for Call<J> {
    fn clone(&self) -> Call<J> {
        Call {
            id: self.id,
            args: self.args.clone(),
            queue: self.queue.clone(),
            priority: self.priority,
            when: self.when,
            options: self.options.clone(),
            job: PhantomData,
        }
    }
}
