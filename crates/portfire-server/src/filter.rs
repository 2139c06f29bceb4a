//! The rules around performing a job: [`ServerFilter`] runs around the handler, [`ElectFilter`] may
//! replace how an attempt ends, [`AppliedFilter`] hears how it ended once that is stored, and of every other transition.
//!
//! The fourth kind, before and after a job is stored, is
//! [`ClientFilter`](portfire_core::client::ClientFilter).
//!
//! What Hangfire does with filters of its own is done elsewhere here, because it is simpler so:
//! **retries** are a plain rule of the [`Performer`](crate::perform::Performer) (a policy decides,
//! the storage counts the failure in the commit that moves the job), and **statistics** are counters
//! of the storage that change in the same commit as the jobs they count. As filters both would need
//! writes of their own, and a crash between two writes would make them wrong.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use portfire_core::{BoxFuture, Finish, Moved, Outcome};

use crate::context::JobContext;
use crate::handler::HandlerResult;
use crate::innermost::Innermost;

/// Runs around every handler. The first filter added is the outermost.
///
/// A filter that does not call [`Next::run`] keeps the handler from running; what it returns is then
/// the result of the attempt. A panic in a filter is a failure of the attempt.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot run around handlers",
    note = "implement `ServerFilter` for it, or use `filter_fn` or `filter_with`"
)]
pub trait ServerFilter: Send + Sync + 'static {
    /// Performs the job, usually by `next.run(job).await` with something before and after it.
    fn perform<'a>(&'a self, job: &'a JobContext, next: Next<'a>) -> BoxFuture<'a, HandlerResult>;
}

/// May replace the outcome of an attempt before it is stored.
///
/// Asked for every outcome, also those of jobs without a handler, but not for jobs that the server
/// gives back at its shutdown without having started them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot replace outcomes",
    note = "implement `ElectFilter` for it"
)]
pub trait ElectFilter: Send + Sync + 'static {
    /// Looks at the outcome and may put another in its place. A panic is logged and leaves the
    /// outcome as it was.
    fn elect(&self, job: &JobContext, candidate: &mut Outcome);
}

/// Hears of an outcome once it is stored, and of every other transition that this process makes.
///
/// An outcome is told at most once for each attempt: not for what the storage refused, not for jobs that the server gives
/// back unstarted, and not when the process ends between the commit and the call. Called where the next jobs are fetched, so it must be quick.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot hear of what is stored",
    note = "implement `AppliedFilter` for it"
)]
pub trait AppliedFilter: Send + Sync + 'static {
    /// The attempt has ended so. A panic is logged.
    ///
    /// Default: nothing.
    fn applied(&self, job: &JobContext, finish: &Finish) {
        let _ = (job, finish);
    }

    /// A job has moved by what this process has done on the server's storage: created, claimed, promoted, released,
    /// requeued, deleted, rescued, failed as poison, or ended by an attempt of its own (of which [`applied`](Self::applied)
    /// hears as well). Hangfire calls `IApplyStateFilter` so. Alerts on failures belong here: a job that is failed as poison, or
    /// because no server has its kind, has no attempt that ends so.
    ///
    /// Told after the commit, in the order of the commits, by a task of its own: a slow filter holds up no job. One that
    /// is more than 1,024 commits behind misses some, which is logged. A server with any applied filter has its storage note
    /// every transition, which costs SQLite a small read for each. It does not hear of what other processes do, nor
    /// of what this one does after the server's end. A panic is logged.
    ///
    /// Default: nothing.
    fn moved(&self, moved: &Moved) {
        let _ = moved;
    }
}

/// The filters that belong to one job function: `#[job(filter = …, elect = …, applied = …)]` (Hangfire's attributes on a
/// job's method).
///
/// They come after those of the server, which are further outside, in the order in which they were added. They are made
/// once for each server, when it is built.
///
/// ```
/// # use portfire_server::{HandlerResult, JobContext, KindFilters, Next, filter_fn};
/// let timed = filter_fn(async |job: &JobContext, next: Next<'_>| next.run(job).await);
/// let filters = KindFilters::default().filter(timed);
/// # let _ = filters;
/// ```
#[derive(Clone, Default)]
pub struct KindFilters {
    pub(crate) around: Vec<Arc<dyn ServerFilter>>,
    pub(crate) elect: Vec<Arc<dyn ElectFilter>>,
    pub(crate) applied: Vec<Arc<dyn AppliedFilter>>,
}

impl KindFilters {
    /// Runs this filter around the handler, inside of those before.
    pub fn filter(mut self, filter: impl ServerFilter) -> KindFilters {
        self.around.push(Arc::new(filter));
        self
    }

    /// Lets this filter replace outcomes, after those before.
    pub fn elect(mut self, filter: impl ElectFilter) -> KindFilters {
        self.elect.push(Arc::new(filter));
        self
    }

    /// Tells this filter of outcomes and transitions of these jobs once they are stored.
    pub fn applied(mut self, filter: impl AppliedFilter) -> KindFilters {
        self.applied.push(Arc::new(filter));
        self
    }
}

impl fmt::Debug for KindFilters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KindFilters { around, elect, applied } = self;
        let counts = (around.len(), elect.len(), applied.len());
        write!(f, "KindFilters({} around, {} elect, {} applied)", counts.0, counts.1, counts.2)
    }
}

/// What comes inside of a filter: the next filter, or the handler.
pub struct Next<'a> {
    rest: &'a [Arc<dyn ServerFilter>],
    /// Those of the job function, inside of the others.
    own: &'a [Arc<dyn ServerFilter>],
    innermost: Innermost<'a>,
}

impl<'a> Next<'a> {
    pub(crate) fn new(
        rest: &'a [Arc<dyn ServerFilter>],
        own: &'a [Arc<dyn ServerFilter>],
        innermost: Innermost<'a>,
    ) -> Next<'a> {
        Next { rest, own, innermost }
    }

    /// Runs it. The handler sees the job as it was claimed.
    ///
    /// # Errors
    /// What the handler, or a filter inside, returned; a panic of the handler is an error of class
    /// `panic`.
    pub fn run<'b>(self, job: &'b JobContext) -> BoxFuture<'b, HandlerResult>
    where
        'a: 'b,
    {
        if let Some((filter, rest)) = self.rest.split_first() {
            return filter.perform(job, Next { rest, ..self });
        }
        match self.own.split_first() {
            Some((filter, own)) => filter.perform(job, Next { own, ..self }),
            None => self.innermost.run(),
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({} filters)", self.rest.len() + self.own.len())
    }
}

/// A filter that is an async function, or an async closure that captures nothing.
///
/// ```
/// use portfire_server::{JobContext, filter::{Next, filter_fn}};
/// let timed = filter_fn(async |job: &JobContext, next: Next<'_>| {
///     let result = next.run(job).await;
///     println!("{} ended: {}", job.kind(), result.is_ok());
///     result
/// });
/// # let _ = timed;
/// ```
pub fn filter_fn<F>(perform: F) -> impl ServerFilter
where
    F: for<'a> FilterFn<'a> + 'static,
{
    struct FromFn<F>(F);
    impl<F: for<'a> FilterFn<'a> + 'static> ServerFilter for FromFn<F> {
        fn perform<'a>(&'a self, job: &'a JobContext, next: Next<'a>) -> Performing<'a> {
            self.0.call(job, next)
        }
    }
    FromFn(perform)
}

/// A filter that is an async function of some state, which it shares between all jobs.
///
/// ```
/// use portfire_server::{JobContext, filter::{Next, filter_with}};
/// use std::sync::atomic::{AtomicU64, Ordering};
/// let counted = filter_with(AtomicU64::new(0), async |count: &AtomicU64, job: &JobContext, next: Next<'_>| {
///     count.fetch_add(1, Ordering::Relaxed);
///     next.run(job).await
/// });
/// # let _ = counted;
/// ```
pub fn filter_with<S, F>(state: S, perform: F) -> impl ServerFilter
where
    S: Send + Sync + 'static,
    F: for<'a> FilterWithFn<'a, S> + 'static,
{
    struct FromFn<S, F>(S, F);
    impl<S, F> ServerFilter for FromFn<S, F>
    where
        S: Send + Sync + 'static,
        F: for<'a> FilterWithFn<'a, S> + 'static,
    {
        fn perform<'a>(&'a self, job: &'a JobContext, next: Next<'a>) -> Performing<'a> {
            self.1.call(&self.0, job, next)
        }
    }
    FromFn(state, perform)
}

type Performing<'a> = BoxFuture<'a, HandlerResult>;

/// What [`filter_fn`] takes. Implemented by async functions of `(&JobContext, Next<'_>)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a filter",
    note = "a filter is an `async fn(&JobContext, Next<'_>) -> HandlerResult`",
    note = "a closure that captures something cannot be one: use `filter_with(state, …)`, or implement `ServerFilter`"
)]
pub trait FilterFn<'a>: Send + Sync {
    /// Calls it.
    fn call(&self, job: &'a JobContext, next: Next<'a>) -> BoxFuture<'a, HandlerResult>;
}

impl<'a, F, Fut> FilterFn<'a> for F
where
    F: Fn(&'a JobContext, Next<'a>) -> Fut + Send + Sync,
    Fut: Future<Output = HandlerResult> + Send + 'a,
{
    fn call(&self, job: &'a JobContext, next: Next<'a>) -> Performing<'a> {
        Box::pin(self(job, next))
    }
}

/// What [`filter_with`] takes. Implemented by async functions of `(&S, &JobContext, Next<'_>)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a filter",
    note = "a filter with state is an `async fn(&S, &JobContext, Next<'_>) -> HandlerResult`"
)]
pub trait FilterWithFn<'a, S>: Send + Sync {
    /// Calls it.
    fn call(&self, state: &'a S, job: &'a JobContext, next: Next<'a>) -> Performing<'a>;
}

impl<'a, S, F, Fut> FilterWithFn<'a, S> for F
where
    S: 'a,
    F: Fn(&'a S, &'a JobContext, Next<'a>) -> Fut + Send + Sync,
    Fut: Future<Output = HandlerResult> + Send + 'a,
{
    fn call(&self, state: &'a S, job: &'a JobContext, next: Next<'a>) -> Performing<'a> {
        Box::pin(self(state, job, next))
    }
}
