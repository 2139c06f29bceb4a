//! A call of a job function that has not run yet: [`Call`], made by the functions that `#[job]` writes.
//!
//! Calls that belong together are a [`Chain`]; whatever can be stored by one call of the client is
//! [`Enqueue`]. What a call says about its key and its limits is in [`Unique`] and [`Limit`].

mod any;
mod chain;
mod limit;
mod parent;
mod template;
mod unique;

use std::borrow::Cow;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::continuation::{After, Antecedent, Dependency};
use crate::duration::IntoDuration;
use crate::job::{InvalidJob, JobId, Json, NewJob, QueueName, When};
use crate::job_error::JobError;
use crate::retry::RetryPolicy;
use crate::storage::BoxFuture;
use crate::transition::Retention;

pub use any::{AnyCall, Enqueue};
pub use chain::{Chain, IntoChain};
pub use limit::Limit;
pub use parent::{ParentError, ParentResult};
pub use unique::Unique;

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
    /// How many parents it takes something from, at least; `None` when it takes nothing, and what its
    /// parents returned need not be kept for it.
    const PARENTS: Option<usize> = None;
    /// What a successful run returns: the `T` of its `Result<T, E>`.
    type Output: 'static;

    /// How long its jobs are kept after their end; `None` for as long as the storage says. Stored with
    /// each call, because the storage that ends a job may know nothing of its handler.
    fn retention() -> Option<Retention> {
        None
    }

    /// The longest wait in the queue of calls that name none; `None` for any.
    fn start_within() -> Option<Duration> {
        None
    }

    /// The key that calls hold which name none.
    fn unique() -> Option<Unique> {
        None
    }

    /// The limits that all of its calls are under.
    fn limits() -> Vec<Limit> {
        Vec::new()
    }
}

/// A job that takes a `T` from its parent: it has a parameter `#[parent] input: T`. Implemented by
/// `#[job]`, and asked for by [`Chain::pipe`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take `{T}` from its parent",
    label = "needs a parameter `#[parent] input: {T}`",
    note = "`a.pipe(b)` hands what `a` returns to the `#[parent]` parameter of `b`; use `a.then(b)` when nothing is handed on"
)]
pub trait Takes<T>: JobFn {}

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
    call: AnyCall,
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
        Call { call: AnyCall::of::<J>(args), job: PhantomData }
    }

    /// Puts the job into another queue.
    pub fn queue(mut self, queue: impl Into<Cow<'static, str>>) -> Call<J> {
        match QueueName::new(queue) {
            Ok(queue) => self.call.queue = queue,
            Err(mistake) => self.call.mistake(mistake),
        }
        self
    }

    /// Ranks the job within its queue: higher first. Default: 0.
    pub fn priority(mut self, priority: i16) -> Call<J> {
        self.call.priority = priority;
        self
    }

    /// Runs the job later: after a `Duration`, or at a `SystemTime` or [`Timestamp`].
    ///
    /// Of a job that waits for others the delay counts from their end.
    pub fn delay(mut self, when: impl Into<When>) -> Call<J> {
        self.call.when = when.into();
        self
    }

    /// Retries failures by this policy.
    pub fn retry(mut self, policy: RetryPolicy) -> Call<J> {
        match policy.validate() {
            Ok(()) => self.call.options.retry = Some(policy),
            Err(mistake) => self.call.mistake(mistake),
        }
        self
    }

    /// Stops an attempt that runs longer; that counts as a failure of class `timeout`. For the thread of a blocking
    /// handler see [`JobOptions::timeout`](crate::JobOptions::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Call<J> {
        self.call.options.timeout = Some(timeout);
        self
    }

    /// Keeps the job for this long after its end.
    pub fn retention(mut self, retention: Retention) -> Call<J> {
        self.call.options.retention = Some(retention);
        self
    }

    /// Adds a word to find the job by.
    pub fn tag(mut self, tag: impl Into<String>) -> Call<J> {
        self.call.options.tags.push(tag.into());
        self
    }

    /// Adds a free text under a key.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Call<J> {
        self.call.options.metadata.insert(key.into(), value.into());
        self
    }

    /// Deletes the job instead of running it when it has waited longer in its queue (Hangfire's latency
    /// timeout): a `Duration`, or a text such as `"10m"`.
    pub fn start_within(mut self, time: impl IntoDuration) -> Call<J> {
        match time.into_duration() {
            Ok(time) => self.call.options.start_deadline = Some(time),
            Err(mistake) => self.call.mistake(mistake),
        }
        self
    }

    /// Starts no attempt after this instant: the job is deleted instead.
    pub fn expires_at(mut self, at: impl Into<Timestamp>) -> Call<J> {
        self.call.options.expires_at = Some(at.into());
        self
    }

    /// Hands the trace of who enqueues on to the handler: a W3C `traceparent`.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Call<J> {
        self.call.options.traceparent = Some(traceparent.into());
        self
    }

    /// Stores the job under this id, so that enqueueing it twice is enqueueing it once.
    pub fn id(mut self, id: JobId) -> Call<J> {
        self.call.id = Some(id);
        self
    }

    /// As [`id`](Self::id), with the [id of this name](JobId::from_name): one job for each name, as long
    /// as it is stored. Give names a prefix of your own, as `invoice:2026-17`.
    pub fn key(self, name: &str) -> Call<J> {
        self.id(JobId::from_name(name))
    }

    /// Runs the job after a job or a batch has succeeded. Named several times, it waits for all of them.
    ///
    /// When what it waits for is deleted, the job is deleted. When it fails, the job waits on: for its requeue and success.
    pub fn after(self, antecedent: impl Into<Antecedent>) -> Call<J> {
        self.after_on(antecedent, After::Success)
    }

    /// Runs the job after a job or a batch has ended, no matter how.
    pub fn after_end(self, antecedent: impl Into<Antecedent>) -> Call<J> {
        self.after_on(antecedent, After::End)
    }

    /// Runs the job after this end of a job or a batch.
    pub fn after_on(mut self, antecedent: impl Into<Antecedent>, after: After) -> Call<J> {
        self.call.after.push(Dependency::on(antecedent).after(after));
        self
    }

    /// Lets one job at a time hold a key, instead of what the attribute says; `None` for no key at all.
    pub fn unique(mut self, unique: impl Into<Option<Unique>>) -> Call<J> {
        self.call.unique = unique.into();
        self
    }

    /// Puts the job under a limit, besides those of its attribute. One of the same name replaces it.
    pub fn limit(mut self, limit: Limit) -> Call<J> {
        self.call.limits.retain(|other| !other.has_name_of(&limit));
        self.call.limits.push(limit);
        self
    }

    /// This call, and after its success the next one.
    pub fn then<N: IntoChain>(self, next: N) -> Chain<N::Last> {
        self.into_chain().then(next)
    }

    /// This call, and after an end of it the next one.
    pub fn then_on<N: IntoChain>(self, after: After, next: N) -> Chain<N::Last> {
        self.into_chain().then_on(after, next)
    }

    /// This call, and after its success the next one, which takes what this one returns: see
    /// [`Chain::pipe`].
    pub fn pipe<K: Takes<J::Output>>(self, next: Call<K>) -> Chain<K> {
        self.into_chain().pipe(next)
    }

    /// The same call, whose job's type is forgotten, so that calls of different jobs fit into one list.
    pub fn any(self) -> AnyCall {
        self.call
    }

    /// The serialised arguments.
    ///
    /// # Errors
    /// The first mistake that was made in building the call.
    pub fn args(&self) -> Result<&Json, &InvalidJob> {
        self.call.args()
    }

    /// The job to store; `make_id` is asked when the call names no id.
    ///
    /// # Errors
    /// The first mistake that was made in building the call.
    pub fn into_new_job(self, make_id: impl FnOnce() -> JobId) -> Result<NewJob, InvalidJob> {
        self.call.into_new_job(make_id, None)
    }
}

/// Runs the job in place, once, without storing anything: the arguments make the same way through
/// JSON as those of a stored job. Nothing retries it.
impl<J: Inline> IntoFuture for Call<J> {
    type Output = Result<J::Output, JobError>;
    type IntoFuture = BoxFuture<'static, Result<J::Output, JobError>>;

    fn into_future(self) -> Self::IntoFuture {
        match self.call.args {
            Ok(args) => J::run_inline(args),
            Err(mistake) => Box::pin(async { Err(JobError::permanent(mistake)) }),
        }
    }
}

impl<J: JobFn> fmt::Debug for Call<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.call, f)
    }
}

impl<J: JobFn> Clone for Call<J> {
    fn clone(&self) -> Call<J> {
        Call { call: self.call.clone(), job: PhantomData }
    }
}
