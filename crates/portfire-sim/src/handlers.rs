//! The handlers of the simulated jobs: each behaves in one of the ways that jobs do, and writes to
//! the log of effects when it begins and ends.

use std::sync::Arc;
use std::time::Duration;

use portfire_core::client::ClientError;
use portfire_core::retry::Backoff;
use portfire_core::{
    BoxFuture, Cause, Exceeded, InvalidJob, JobError, JobId, JobOptions, Json, KindName, NewJob,
    RetryPolicy, StorageError,
};
use portfire_server::services::Need;
use portfire_server::{
    Handler, HandlerDefaults, HandlerResult, Invocation, JobContext, JobDescriptor, KindFilters,
};
use serde::{Deserialize, Serialize};

use crate::executor::PLANNED_PANIC;
use crate::marks::Mark;
use crate::place::{Place, RunGuard};
use crate::rng::Rng;

const MILLI: Duration = Duration::from_millis(1);

/// How long an [`Kind::Overlong`] attempt may take.
const TIMEOUT: Duration = Duration::from_millis(400);

/// How a handler behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Returns soon.
    Quick,
    /// Takes up to three leases, and heeds its token.
    Long,
    /// Takes up to three leases, whatever its token says.
    Stubborn,
    /// Fails a few times, then returns.
    Flaky,
    /// Always fails.
    Doomed,
    /// Fails in a way that no retry heals.
    Permanent,
    /// Likewise, until somebody has repaired the cause and asks for another run.
    Broken,
    /// Crashes its process.
    Poison,
    /// Asks to run later a few times, then returns.
    Sleepy,
    /// Panics a few times, then returns.
    Panicky,
    /// Blocks its thread, heeding its token or not.
    Blocking,
    /// Takes itself out.
    Discarding,
    /// Runs into its timeout a few times, then returns.
    Overlong,
    /// Enqueues another job.
    Parent,
    /// Has no handler anywhere.
    Unknown,
}

/// What a job is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Args {
    /// How long it takes.
    millis: u32,
    /// How often it does what it does before it returns.
    times: u32,
    /// How often it is retried.
    retries: u32,
}

impl Args {
    /// Whether a job whose retries are spent is deleted rather than failed.
    fn is_deleted_in_the_end(&self) -> bool {
        self.times.is_multiple_of(2)
    }
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Kind; 15] = [
        Kind::Quick,
        Kind::Long,
        Kind::Stubborn,
        Kind::Flaky,
        Kind::Doomed,
        Kind::Permanent,
        Kind::Broken,
        Kind::Poison,
        Kind::Sleepy,
        Kind::Panicky,
        Kind::Blocking,
        Kind::Discarding,
        Kind::Overlong,
        Kind::Parent,
        Kind::Unknown,
    ];

    /// Its stored name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Quick => "quick",
            Kind::Long => "long",
            Kind::Stubborn => "stubborn",
            Kind::Flaky => "flaky",
            Kind::Doomed => "doomed",
            Kind::Permanent => "permanent",
            Kind::Broken => "broken",
            Kind::Poison => "poison",
            Kind::Sleepy => "sleepy",
            Kind::Panicky => "panicky",
            Kind::Blocking => "blocking",
            Kind::Discarding => "discarding",
            Kind::Overlong => "overlong",
            Kind::Parent => "parent",
            Kind::Unknown => "unknown",
        }
    }

    /// The kind with this name.
    pub(crate) fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it crashes its process.
    pub(crate) fn kills(self) -> bool {
        self == Kind::Poison
    }

    /// How a run of it ends by its own doing, with how many failures; `None` when that is open.
    pub(crate) fn expected(self, args: &Json) -> Option<(Cause, u32)> {
        let args: Args = args.decode().ok()?;
        match self {
            Kind::Quick | Kind::Long | Kind::Stubborn | Kind::Sleepy | Kind::Blocking => {
                Some((Cause::Succeeded, 0))
            }
            Kind::Parent => Some((Cause::Succeeded, 0)),
            Kind::Flaky | Kind::Panicky => Some((Cause::Succeeded, args.times)),
            Kind::Doomed if args.is_deleted_in_the_end() => {
                Some((Cause::Discarded, args.retries + 1))
            }
            Kind::Doomed => Some((Cause::Failed, args.retries + 1)),
            Kind::Permanent => Some((Cause::Failed, 1)),
            // No attempt, and so no failure.
            Kind::Unknown => Some((Cause::Failed, 0)),
            Kind::Discarding => Some((Cause::Discarded, 0)),
            // Whether an attempt is in time depends on what holds up its process, and which is the first on that as well.
            Kind::Overlong | Kind::Poison | Kind::Broken => None,
        }
    }

    /// How many times its handler begins when nothing goes wrong; `None` when that is open.
    pub(crate) fn runs_in_calm(self, args: &Json) -> Option<u32> {
        let args: Args = args.decode().ok()?;
        match self {
            Kind::Flaky | Kind::Panicky | Kind::Sleepy | Kind::Overlong => Some(args.times + 1),
            Kind::Doomed => Some(args.retries + 1),
            Kind::Unknown => Some(0),
            Kind::Poison => None,
            _ => Some(1),
        }
    }

    /// A job of this kind.
    pub(crate) fn job(self, id: JobId, lease: Duration, rng: &mut Rng) -> NewJob {
        let times = rng.between(1, 3) as u32;
        let retries = if self == Kind::Doomed { rng.between(0, 3) as u32 } else { times + 2 };
        let longest = match self {
            Kind::Long | Kind::Stubborn => 3 * lease,
            Kind::Blocking => lease,
            _ => 60 * MILLI,
        };
        let millis = rng.time(Duration::ZERO, longest).as_millis() as u32;
        let args = Json::encode(&Args { millis, times, retries });
        let mut job =
            NewJob::new(id, KindName::stored(self.name()), args.unwrap_or_else(|_| Json::empty()));
        let wait = rng.time(MILLI, 1_500 * MILLI);
        job.options = JobOptions::default();
        let policy = RetryPolicy::times(retries).backoff(Backoff::Fixed(wait));
        let deleted = Args { millis, times, retries }.is_deleted_in_the_end();
        let exceeded = if deleted { Exceeded::Delete } else { Exceeded::Fail };
        job.options.retry = Some(policy.exceeded(exceeded));
        if self == Kind::Overlong {
            job.options.timeout = Some(TIMEOUT);
        }
        job
    }
}

macro_rules! descriptors {
    ($($name:ident = $kind:expr, $handler:expr;)+) => {
        $(static $name: JobDescriptor = JobDescriptor {
            kind: $kind.name(),
            aliases: &[],
            version: 1,
            queue: "default",
            defaults: HandlerDefaults::default,
            filters: KindFilters::default,
            params: Vec::new,
            needs,
            recurring: None,
            handler: $handler,
            location: concat!(file!(), ":", line!()),
        };)+

        /// All handlers.
        pub(crate) static DESCRIPTORS: &[&JobDescriptor] = &[$(&$name,)+];
    };
}

/// The kinds that the second program has no handlers of.
const FOREIGN: [Kind; 3] = [Kind::Quick, Kind::Doomed, Kind::Sleepy];

/// The handlers of the program that runs on a host: there are two, as in a deployment that goes on, and the second
/// lacks some.
pub(crate) fn of_program(host: usize) -> impl Iterator<Item = &'static JobDescriptor> {
    let foreign = |job: &JobDescriptor| FOREIGN.iter().any(|kind| kind.name() == job.kind);
    DESCRIPTORS.iter().copied().filter(move |job| host.is_multiple_of(2) || !foreign(job))
}

fn needs() -> Vec<Need> {
    vec![Need::of::<Place>()]
}

descriptors! {
    QUICK = Kind::Quick, Handler::Async(|run| Box::pin(quick(run)));
    LONG = Kind::Long, Handler::Async(|run| Box::pin(long(run)));
    STUBBORN = Kind::Stubborn, Handler::Async(|run| Box::pin(stubborn(run)));
    FLAKY = Kind::Flaky, Handler::Async(|run| Box::pin(flaky(run)));
    DOOMED = Kind::Doomed, Handler::Async(|run| Box::pin(doomed(run)));
    PERMANENT = Kind::Permanent, Handler::Async(|run| Box::pin(permanent(run)));
    BROKEN = Kind::Broken, Handler::Async(|run| Box::pin(broken(run)));
    POISON = Kind::Poison, Handler::Async(|run| Box::pin(poison(run)));
    SLEEPY = Kind::Sleepy, Handler::Async(|run| Box::pin(sleepy(run)));
    PANICKY = Kind::Panicky, Handler::Async(panicky);
    BLOCKING = Kind::Blocking, Handler::Blocking(blocking);
    DISCARDING = Kind::Discarding, Handler::Async(|run| Box::pin(discarding(run)));
    OVERLONG = Kind::Overlong, Handler::Async(|run| Box::pin(overlong(run)));
    PARENT = Kind::Parent, Handler::Async(|run| Box::pin(parent(run)));
}

/// A run that has begun: its arguments, its place, and the guard that writes its end.
fn begin(
    invocation: &Invocation,
    blocking: bool,
) -> Result<(Args, Arc<Place>, RunGuard), JobError> {
    let place = invocation.services.get::<Place>()?;
    let args = invocation.args.decode()?;
    let guard = place.begin(&invocation.context, blocking);
    Ok((args, place, guard))
}

async fn quick(run: Invocation) -> HandlerResult {
    let (args, place, guard) = begin(&run, false)?;
    if args.millis > 0 {
        place.sleep(args.millis * MILLI).await;
    }
    guard.done();
    Ok(None)
}

async fn long(run: Invocation) -> HandlerResult {
    let (args, place, guard) = begin(&run, false)?;
    let mut left = args.millis * MILLI;
    while left > Duration::ZERO {
        let part = left.min(place.patience());
        if let Some(stop) = place.sleep_unless_cancelled(&run.context, part).await {
            return Err(stop.into());
        }
        place.check_overtime(&run.context);
        left -= part;
    }
    guard.done();
    Ok(Json::encode(&args.millis).ok())
}

async fn stubborn(run: Invocation) -> HandlerResult {
    let (args, place, guard) = begin(&run, false)?;
    let mut left = args.millis * MILLI;
    while left > Duration::ZERO {
        let part = left.min(place.patience());
        place.sleep(part).await;
        place.note_ignored(&run.context);
        left -= part;
    }
    guard.done();
    Ok(None)
}

async fn flaky(run: Invocation) -> HandlerResult {
    let (args, place, guard) = begin(&run, false)?;
    place.sleep(args.millis * MILLI).await;
    if run.context.failures() < args.times {
        return Err(JobError::new("not yet"));
    }
    guard.done();
    Ok(None)
}

async fn doomed(run: Invocation) -> HandlerResult {
    let (args, place, _guard) = begin(&run, false)?;
    place.sleep(args.millis * MILLI).await;
    Err(JobError::new("never"))
}

async fn permanent(run: Invocation) -> HandlerResult {
    let (_, _, _guard) = begin(&run, false)?;
    Err(JobError::permanent("no"))
}

async fn broken(run: Invocation) -> HandlerResult {
    let (_, _, guard) = begin(&run, false)?;
    if run.context.attempt() == 1 {
        return Err(JobError::permanent("not yet repaired"));
    }
    guard.done();
    Ok(None)
}

async fn poison(run: Invocation) -> HandlerResult {
    let (args, place, _guard) = begin(&run, false)?;
    place.sleep(args.millis * MILLI).await;
    place.crash();
    std::future::pending().await
}

async fn sleepy(run: Invocation) -> HandlerResult {
    let (args, place, guard) = begin(&run, false)?;
    place.sleep(args.millis * MILLI).await;
    if place.snoozes_left(&run.context, args.times) {
        return Err(JobError::snooze(20 * args.millis * MILLI));
    }
    guard.done();
    Ok(None)
}

/// Panics before its future is made, or in its first or a later poll.
fn panicky(run: Invocation) -> BoxFuture<'static, HandlerResult> {
    let times = run.args.decode::<Args>().map_or(0, |args| args.times);
    if run.context.failures() == 1 && times > 1 {
        // Unwinding without the hook: nothing is printed.
        let begun = begin(&run, false);
        drop(begun);
        std::panic::resume_unwind(Box::new(format!("{PLANNED_PANIC} of the function")));
    }
    Box::pin(async move {
        let (args, place, guard) = begin(&run, false)?;
        if run.context.failures() < args.times {
            place.world().hit(Mark::Panicked);
            if args.millis % 2 == 0 {
                place.sleep(args.millis * MILLI).await;
            }
            std::panic::resume_unwind(Box::new(format!("{PLANNED_PANIC} of the future")));
        }
        guard.done();
        Ok(None)
    })
}

fn blocking(run: Invocation) -> HandlerResult {
    let (args, place, guard) = begin(&run, true)?;
    let heeds = args.times % 2 == 0;
    let mut left = args.millis * MILLI;
    while left > Duration::ZERO {
        let part = left.min(place.patience());
        place.block(part);
        if heeds {
            run.context.cancellation().check()?;
        } else {
            place.note_ignored(&run.context);
        }
        left -= part;
    }
    guard.done();
    Ok(None)
}

async fn discarding(run: Invocation) -> HandlerResult {
    let (_, _, _guard) = begin(&run, false)?;
    Err(JobError::discard("not wanted any more"))
}

async fn overlong(run: Invocation) -> HandlerResult {
    let (args, place, guard) = begin(&run, false)?;
    if run.context.failures() < args.times {
        let stop = place.sleep_unless_cancelled(&run.context, 4 * TIMEOUT).await;
        if args.millis % 2 == 0 {
            return Err(stop.map_or_else(|| JobError::new("too slow"), JobError::from));
        }
        place.world().hit(Mark::TimedOut);
        std::future::pending::<()>().await;
    }
    guard.done();
    Ok(None)
}

async fn parent(run: Invocation) -> HandlerResult {
    let (args, place, guard) = begin(&run, false)?;
    let child = child_of(&run.context, args);
    place.asks_for(&child);
    loop {
        match run.context.client().create(vec![child.clone()]).await {
            Ok(created) => {
                if created.iter().any(|created| created.existing) {
                    place.world().hit(Mark::ChildRepeated);
                }
                place.was_promised(child.id);
                break;
            }
            Err(error) if error.is_transient() => {
                let wait = place.sleep_unless_cancelled(&run.context, 200 * MILLI).await;
                if let Some(stop) = wait {
                    return Err(stop.into());
                }
            }
            // Its batch was cancelled, or has ended without an attempt that is not heard any more.
            Err(ClientError::Invalid(InvalidJob::BatchEnded { .. }))
            | Err(ClientError::Storage(StorageError::Invalid(InvalidJob::BatchEnded { .. }))) => {
                break;
            }
            Err(error) => return Err(JobError::permanent(error)),
        }
    }
    guard.done();
    Ok(None)
}

/// The job that a parent enqueues: the same in every attempt, so that it is enqueued once.
fn child_of(parent: &JobContext, args: Args) -> NewJob {
    let mut bytes = *parent.id().as_bytes();
    bytes[15] ^= 0xff;
    let args = Json::encode(&Args { times: 0, ..args }).unwrap_or_else(|_| Json::empty());
    let kind = KindName::stored(Kind::Quick.name());
    let mut child = NewJob::new(JobId::from_bytes(bytes), kind, args);
    child.queue = parent.queue().clone();
    child.ties.batch = parent.ties().batch;
    child
}
