//! Performs one claimed job: [`Performer`] finds the handler, runs it inside the filters, and decides
//! how the attempt ended. Workers, tests and the simulator run jobs through this one type.
//!
//! It neither claims nor stores: a [`ClaimedJob`] goes in and a [`Finish`] comes out. Retries are
//! decided here, as a plain rule, by the policy of the call, else of the handler's attribute, else of
//! the server; the storage counts the failure in the commit that moves the job.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use portfire_core::engine::attempts::too_late;
use portfire_core::job_error::Steer;
use portfire_core::{
    AfterFailure, Annotation, BoxFuture, CancelReason, Cause, ClaimedJob, Client, ErrorRecord,
    Finish, HistoryEntry, Level, Notes, Outcome, RetryPolicy, Timestamp,
};
use tokio::sync::{Notify, oneshot};
use tracing::Instrument;

use crate::cancellation::CancellationToken;
use crate::context::{JobContext, Place};
use crate::desk::Desk;
use crate::filter::{ElectFilter, Next, ServerFilter};
use crate::handler::{Handler, HandlerResult, Invocation};
use crate::innermost::{Innermost, ThreadSlot};
use crate::lane::Seat;
use crate::panics::{caught, caught_in};
use crate::registry::{Registered, Registry};
use crate::runtime::Runtime;
use crate::services::Services;

/// How long an async handler may go on after its job was deleted. Its result counts for nothing by
/// then; the time is there to put things in order.
pub const DELETED_GRACE: Duration = Duration::from_secs(5);

/// How long a thread may run on after its attempt before the job's log tells that it is waited for.
const OVERTIME_TOLD_AFTER: Duration = Duration::from_secs(1);

/// How long a worker waits for the history of a job that has no handler here.
const HISTORY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Default wait of a job that has no handler here.
pub(crate) const UNKNOWN_KIND_DELAY: Duration = Duration::from_secs(30);
/// Default time for which a job without a handler waits for one.
pub(crate) use portfire_core::storage::UNKNOWN_KIND_GRACE;

/// Default for the largest result that is kept, in bytes.
pub(crate) const RESULT_BYTES_MAX: usize = 1024 * 1024;

/// Turns claimed jobs into finishes: handlers, services and filters put together.
pub struct Performer {
    registry: Registry,
    services: Arc<Services>,
    client: Client,
    runtime: Arc<dyn Runtime>,
    filters: Vec<Arc<dyn ServerFilter>>,
    elect: Vec<Arc<dyn ElectFilter>>,
    retry: RetryPolicy,
    unknown_kind_delay: Duration,
    unknown_kind_grace: Duration,
    result_bytes_max: usize,
    /// Of jobs that no pool has in hand.
    desk: Arc<Desk>,
}

/// A performed job: what to tell the storage of it, in one cycle.
#[derive(Clone, Debug)]
pub struct Performed {
    /// How the attempt ended.
    pub finish: Finish,
    /// What it said.
    pub notes: Vec<Annotation>,
}

impl Performer {
    /// A performer without filters that retries by the default policy. Handlers get `client` as the
    /// client of their context.
    pub fn new(
        registry: Registry,
        services: Services,
        client: Client,
        runtime: Arc<dyn Runtime>,
    ) -> Performer {
        let desk = Desk::new(None, Arc::clone(&runtime), Arc::new(Notify::new()));
        Performer {
            registry,
            services: Arc::new(services),
            client,
            runtime,
            desk: Arc::new(desk),
            filters: Vec::new(),
            elect: Vec::new(),
            retry: RetryPolicy::default(),
            unknown_kind_delay: UNKNOWN_KIND_DELAY,
            unknown_kind_grace: UNKNOWN_KIND_GRACE,
            result_bytes_max: RESULT_BYTES_MAX,
        }
    }

    /// Retries by this policy where neither the call nor the handler's attribute says anything.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Performer {
        self.retry = policy;
        self
    }

    /// Adds a filter inside of those added before.
    #[must_use]
    pub fn filter(mut self, filter: Arc<dyn ServerFilter>) -> Performer {
        self.filters.push(filter);
        self
    }

    /// Adds a filter that may replace outcomes; it is asked after those added before.
    #[must_use]
    pub fn elect(mut self, filter: Arc<dyn ElectFilter>) -> Performer {
        self.elect.push(filter);
        self
    }

    /// The wait of a job that has no handler here and was given out all the same, because the server states no kinds.
    /// Default: 30 s.
    #[must_use]
    pub fn unknown_kind_delay(mut self, delay: Duration) -> Performer {
        self.unknown_kind_delay = delay;
        self
    }

    /// How long a job without a handler waits for one before it is failed. Default: 24 h.
    #[must_use]
    pub fn unknown_kind_grace(mut self, grace: Duration) -> Performer {
        self.unknown_kind_grace = grace;
        self
    }

    /// The largest result that is kept, in bytes of JSON. Default: 1 MiB. See
    /// [`ServerBuilder::result_bytes_max`](crate::ServerBuilder::result_bytes_max).
    #[must_use]
    pub fn result_bytes_max(mut self, bytes: usize) -> Performer {
        self.result_bytes_max = bytes;
        self
    }

    /// How long a job without a handler waits for one.
    pub(crate) fn grace(&self) -> Duration {
        self.unknown_kind_grace
    }

    /// The handlers.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The client that handlers get.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs a claimed job to the end of its attempt. Never fails and never panics: whatever goes
    /// wrong is the outcome.
    ///
    /// When the token fires for a timeout or a lost lease, an async handler is polled once more and
    /// then dropped; for a deleted job it has [`DELETED_GRACE`]; for a shutdown it runs on. A handler
    /// on a blocking thread cannot be dropped: at its timeout the attempt ends and the thread is
    /// left to itself, otherwise this waits for it. When the job [bars others](portfire_core::Ties::bar_others)
    /// this waits for the thread after the timeout, too.
    ///
    /// # Cancel safety
    /// Dropping the future drops an async handler at the await where it stands; a blocking one runs
    /// on, unheard.
    pub async fn perform(&self, job: ClaimedJob, token: CancellationToken) -> Performed {
        let attempt = self.attempt(job, token, &self.desk, None).await;
        let claim = attempt.finish.claim;
        let notes = attempt.notes.map(|notes| Annotation::new(claim, *notes));
        Performed { finish: attempt.finish, notes: notes.into_iter().collect() }
    }

    /// As [`perform`](Self::perform), with what its worker needs to know besides.
    pub(crate) async fn attempt(
        &self,
        job: ClaimedJob,
        token: CancellationToken,
        desk: &Arc<Desk>,
        seat: Option<Seat>,
    ) -> Attempt {
        let claim = job.claim;
        let started = self.runtime.elapsed();
        let result_bytes_max = self.result_bytes_max;
        let place = Place { desk: Arc::clone(desk), seat, started, result_bytes_max };
        let context = JobContext::placed(job, token, self.client.clone(), Some(place));
        let unstarted = match (
            too_late(context.options(), context.job().enqueued_at, context.claimed_at()),
            self.registry.find(context.kind().as_str()),
        ) {
            (None, Some(entry)) => return self.start(entry, context, started).await,
            (None, None) => self.unknown_kind(&context).await,
            (Some(reason), _) => {
                tracing::warn!(job_id = %context.id(), kind = %context.kind(), reason, "job discarded");
                Outcome::Discarded { reason, error: None }
            }
        };
        let outcome = fitted(&context, self.elected(&context, unstarted));
        let finish = Finish { claim, outcome, duration: Duration::ZERO };
        let notes = context.close().map(Box::new);
        Attempt { finish, notes, context, thread: None }
    }

    /// Runs the handler of a job to the end of the attempt.
    async fn start(&self, entry: &Registered, context: JobContext, started: Duration) -> Attempt {
        let thread = ThreadSlot::default();
        let span = job_span(&context);
        // All code of the user's runs in here, also what is dropped and what is put into words.
        let decided = caught_in(async {
            let ended = self.run(entry, &context, &thread).await;
            self.outcome(entry, &context, ended).await
        });
        let decided = decided.instrument(span.clone()).await;
        let thread = self.until_returned(&context, thread.into_inner()).await;
        let duration = self.runtime.elapsed().saturating_sub(started);
        let outcome = span.in_scope(|| {
            let panicked = |message| ErrorRecord::new("panic", message);
            let outcome = decided
                .unwrap_or_else(|message| self.failure(entry, &context, panicked(message), None));
            let outcome = fitted(&context, self.elected(&context, outcome));
            log_outcome(&context, &outcome);
            outcome
        });
        let finish = Finish { claim: context.claim(), outcome, duration };
        let notes = context.close().map(Box::new);
        Attempt { finish, notes, context, thread }
    }

    /// Waits for the thread of a handler beside which no other may run. What its job occupies is free when the
    /// attempt is reported: a thread that ignored its timeout must have returned by then.
    async fn until_returned(
        &self,
        job: &JobContext,
        thread: Option<oneshot::Receiver<()>>,
    ) -> Option<oneshot::Receiver<()>> {
        if !job.ties().bar_others() {
            return thread;
        }
        let mut thread = thread?;
        tokio::select! {
            biased;
            _ = &mut thread => return None,
            () = self.runtime.sleep(OVERTIME_TOLD_AFTER) => {}
        }
        let text = "the attempt is over, but its thread still runs: until it returns the job stays \
            `processing` and keeps its limits, its unique key and its place among the runs of a recurring job";
        tracing::warn!(job_id = %job.id(), kind = %job.kind(), attempt = job.attempt(), "{text}");
        job.log_at(Level::Warn, text);
        let _ = thread.await;
        None
    }

    /// Runs the handler inside the filters until it has ended, or must be dropped.
    async fn run(&self, entry: &Registered, job: &JobContext, thread: &ThreadSlot) -> Ended {
        let args = job.job().args.clone();
        let services = Arc::clone(&self.services).into_scope();
        let invocation = Invocation { args, context: job.clone(), services };
        let handler = entry.descriptor.handler;
        let innermost = Innermost { handler, invocation, runtime: &*self.runtime, thread };
        let own = &entry.filters.around;
        let run = match self.filters.is_empty() && own.is_empty() {
            true => innermost.run(),
            false => Next::new(&self.filters, own, innermost).run(job),
        };
        self.supervise(run, self.timeout(entry, job), handler, job.cancellation()).await
    }

    fn timeout(&self, entry: &Registered, job: &JobContext) -> Option<Duration> {
        job.options().timeout.or(entry.defaults.timeout)
    }

    async fn supervise(
        &self,
        mut run: BoxFuture<'_, HandlerResult>,
        timeout: Option<Duration>,
        handler: Handler,
        token: &CancellationToken,
    ) -> Ended {
        // Short handlers are ready at once, and then need neither timer nor listener.
        if let Some(result) = poll_once(run.as_mut()).await {
            return Ended::Returned(result);
        }
        let blocking = matches!(handler, Handler::Blocking(_));
        tokio::select! {
            biased;
            result = run.as_mut() => return Ended::Returned(result),
            () = self.must_be_dropped(timeout, blocking, token) => {}
        }
        // Its token has fired: it may notice and return, but not wait for anything any more.
        match poll_once(run.as_mut()).await {
            Some(result) => Ended::Returned(result),
            None => Ended::Dropped,
        }
    }

    /// Returns when the handler may not run on. Its token has fired by then.
    async fn must_be_dropped(
        &self,
        timeout: Option<Duration>,
        blocking: bool,
        token: &CancellationToken,
    ) {
        let mut expired = std::pin::pin!(async {
            match timeout {
                Some(timeout) => self.runtime.sleep(timeout).await,
                None => std::future::pending().await,
            }
            token.source().cancel(CancelReason::Timeout);
        });
        tokio::select! {
            biased;
            () = expired.as_mut() => return,
            cancelled = token.cancelled() => match cancelled.reason {
                CancelReason::Timeout => return,
                // Another server may have the job by now.
                CancelReason::LeaseLost if !blocking => return,
                CancelReason::Deleted if !blocking => return self.runtime.sleep(DELETED_GRACE).await,
                // At a shutdown the server drops the whole attempt in the end. A thread cannot be
                // dropped: it holds its slot anyway.
                _ => {}
            }
        }
        expired.await;
    }

    /// Decides how an attempt ended.
    async fn outcome(&self, entry: &Registered, job: &JobContext, ended: Ended) -> Outcome {
        // Whatever came after that changes nothing any more.
        if let Some(result) = job.completed() {
            return Outcome::Succeeded { result: result.clone() };
        }
        let stopped = job.cancellation().reason();
        let error = match ended {
            Ended::Returned(Ok(result)) => return Outcome::Succeeded { result },
            Ended::Returned(Err(error)) => error,
            Ended::Dropped => return self.stopped(entry, job, stopped),
        };
        match error.steer() {
            Steer::Permanent => Outcome::Failed { error: error.record() },
            Steer::Snooze(delay) => Outcome::Snoozed { delay: *delay },
            Steer::Discard(reason) => Outcome::Discarded { reason: reason.clone(), error: None },
            Steer::RetryAfter(wait) => self.failure(entry, job, error.record(), Some(*wait)),
            Steer::Elsewhere(wait) => self.elsewhere(job, *wait, error.record()).await,
            // A token that has not fired cannot have been noticed: that is an error like others,
            // and releasing the job would run it for ever.
            Steer::Cancelled(_) if stopped.is_some() => self.stopped(entry, job, stopped),
            _ => self.failure(entry, job, error.record(), None),
        }
    }

    /// An attempt that did not reach its end because its token fired.
    fn stopped(
        &self,
        entry: &Registered,
        job: &JobContext,
        reason: Option<CancelReason>,
    ) -> Outcome {
        let timeout = self.timeout(entry, job);
        match (reason, timeout) {
            (Some(CancelReason::Timeout), Some(timeout)) => {
                let message = format!("the attempt ran longer than its timeout of {timeout:?}");
                self.failure(entry, job, ErrorRecord::new("timeout", message), None)
            }
            // After a shutdown the job goes back to its place. After a lost lease the release is
            // refused if another server has the job, and after a deletion always.
            _ => Outcome::Released,
        }
    }

    /// What the retry policy makes of a failure.
    fn failure(
        &self,
        entry: &Registered,
        job: &JobContext,
        error: ErrorRecord,
        wait: Option<Duration>,
    ) -> Outcome {
        let policy = job.options().retry.as_ref().or(entry.defaults.retry.as_ref());
        let policy = policy.unwrap_or(&self.retry);
        match policy.after_failure(job.failures(), &error, self.runtime.random()) {
            AfterFailure::Retry(delay) => Outcome::Retry { delay: wait.unwrap_or(delay), error },
            AfterFailure::Fail => Outcome::Failed { error },
            AfterFailure::Delete => Outcome::Discarded {
                reason: "its retries are spent".to_owned(),
                error: Some(error),
            },
        }
    }

    /// A job without a handler waits for a server that has one. A server that states its kinds is not given such jobs.
    async fn unknown_kind(&self, job: &JobContext) -> Outcome {
        let (kind, delay) = (job.kind(), self.unknown_kind_delay);
        let error = ErrorRecord::unknown_kind(kind, self.unknown_kind_grace);
        let outcome = self.elsewhere(job, delay, error).await;
        if let Outcome::Parked { .. } = outcome {
            tracing::warn!(job_id = %job.id(), %kind, ?delay, "no handler of this kind here; the job waits for a server that has one");
        }
        outcome
    }

    /// A job that this program cannot run waits, at no cost, for one that can; after the grace it is failed with this
    /// error, so that it does not wait unseen for ever.
    async fn elsewhere(&self, job: &JobContext, delay: Duration, error: ErrorRecord) -> Outcome {
        let parked = Outcome::Parked { delay };
        // The first claim cannot have been parked before.
        if job.attempt() == 1 {
            return parked;
        }
        let history = tokio::select! {
            biased;
            history = caught_in(self.client.storage().history(job.id())) => Some(history),
            // A storage that does not answer must not keep the worker.
            () = self.runtime.sleep(HISTORY_WAIT_MAX) => None,
        };
        match history {
            Some(Ok(Ok(history))) => match waited_elsewhere(&history, job.claimed_at()) {
                Some(waited) if waited >= self.unknown_kind_grace => Outcome::Failed { error },
                _ => parked,
            },
            unread => {
                tracing::debug!(job_id = %job.id(), ?unread, "history not read; parked again");
                parked
            }
        }
    }

    fn elected(&self, job: &JobContext, mut outcome: Outcome) -> Outcome {
        let of_kind = self.registry.find(job.kind().as_str()).map(|entry| &entry.filters.elect);
        for filter in self.elect.iter().chain(of_kind.into_iter().flatten()) {
            let mut candidate = outcome.clone();
            match caught(|| filter.elect(job, &mut candidate)) {
                Ok(()) => outcome = candidate,
                Err(message) => {
                    tracing::error!(job_id = %job.id(), message, "an elect filter panicked; the outcome stays");
                }
            }
        }
        outcome
    }
}

/// The outcome without a result that is too large to keep. The handler has done its work, and running it
/// again would give the same: so the job succeeds, and its log says what is missing.
fn fitted(job: &JobContext, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Succeeded { result } => Outcome::Succeeded { result: job.fit_result(result) },
        outcome => outcome,
    }
}

impl fmt::Debug for Performer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Performer").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// The end of an attempt, as its worker gets it.
pub(crate) struct Attempt {
    pub(crate) finish: Finish,
    /// What it said last.
    pub(crate) notes: Option<Box<Notes>>,
    pub(crate) context: JobContext,
    /// Ends when the thread of a blocking handler has returned. Only an attempt that timed out ends
    /// before its thread, and only when its job bars no others.
    pub(crate) thread: Option<oneshot::Receiver<()>>,
}

/// How the run of a handler ended.
enum Ended {
    /// By itself, or by a panic.
    Returned(HandlerResult),
    /// It was dropped, or left to its thread.
    Dropped,
}

async fn poll_once<T>(mut future: Pin<&mut (dyn Future<Output = T> + Send)>) -> Option<T> {
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// The span that everything of an attempt happens in. Its name and fields are documented in the crate.
fn job_span(job: &JobContext) -> tracing::Span {
    let make = || {
        tracing::info_span!(
            "portfire.job",
            job_id = %job.id(),
            kind = %job.kind(),
            queue = %job.queue(),
            attempt = job.attempt(),
            server = job.server_id().map(tracing::field::display),
            traceparent = job.traceparent(),
        )
    };
    #[cfg(feature = "capture")]
    let make = || crate::capture::spanned(job, make);
    make()
}

/// Time since the job was first parked, for want of a program that can run it. A program that could, and a requeue or a new
/// instant, begin it anew.
fn waited_elsewhere(history: &[HistoryEntry], now: Timestamp) -> Option<Duration> {
    // A release or a rescue says nothing of who can run it.
    let waits_still = |entry: &HistoryEntry| {
        use Cause::{Claimed, Parked, Promoted, Released, Rescued};
        matches!(entry.cause, Parked | Promoted | Claimed | Released | Rescued)
    };
    let anew = history.iter().rposition(|entry| !waits_still(entry)).map_or(0, |at| at + 1);
    let first = history[anew..].iter().find(|entry| entry.cause == Cause::Parked)?;
    Some(now.since(first.since()))
}

fn log_outcome(job: &JobContext, outcome: &Outcome) {
    let (job_id, kind, attempt) = (job.id(), job.kind(), job.attempt());
    match outcome {
        Outcome::Retry { delay, error } => {
            tracing::warn!(%job_id, %kind, attempt, ?delay, %error, "job failed and is retried");
        }
        Outcome::Failed { error } => tracing::error!(%job_id, %kind, attempt, %error, "job failed"),
        Outcome::Discarded { reason, error } => {
            let error = error.as_ref().map(tracing::field::display);
            tracing::warn!(%job_id, %kind, attempt, reason, error, "job discarded");
        }
        outcome => {
            tracing::debug!(%job_id, %kind, attempt, outcome = outcome_name(outcome), "job ended")
        }
    }
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Snoozed { .. } => "snoozed",
        Outcome::Parked { .. } => "parked",
        Outcome::Released => "released",
        _ => "ended",
    }
}
