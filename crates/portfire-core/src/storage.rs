//! The storage contract: what a backend promises, one sentence per guarantee.
//!
//! Everything that writes is in [`Storage`]; everything that reads for people is in [`Monitor`].
//! `portfire-conformance` has a named case for each sentence, and a model that every storage is compared with.
//!
//! # Rules that hold for every call
//! - **One call is one atomic change**: all of it is applied, or nothing. What one call applied is
//!   seen by every later call of every process.
//! - **Batch first**: a call takes many jobs at the price of one commit. Callers that come together
//!   share commits (group commit); a caller alone waits for nobody.
//! - **Durable**: a call that returned `Ok` survives what the storage says it survives
//!   ([`StorageInfo::durability`]).
//! - **Every call can be repeated** after [`Unavailable`](StorageError::Unavailable), when nobody
//!   knows whether it was applied: creates by job id, finishes by (job, attempt), claims by
//!   [`CycleRequest::key`], changes by revision; the rest changes nothing the second time.
//! - **Storage time** decides every stored instant. It never runs backwards, even when the host's
//!   clock does, and never stands still: behind an instant that is stored it goes on by the time that passes, at
//!   most a sixteenth slower, until the clock has caught up ([`clock`](crate::clock)). An instant has come when storage time is equal or later: a job is due at its
//!   `run_at`, expired at its `expires_at`, a lease has lapsed at its end.
//! - **State changes go through** [`transition::next`](crate::transition::next); an event it refuses is not written.
//! - **Counters** change in the same commit as the jobs they count.
//! - **Cost** does not grow with history or backlog: no call counts rows or scans finished jobs beyond a bound
//!   of its own, which its documentation names.
//! - **Cancel safety**: dropping a call's future leaves it applied or not applied, never half, and
//!   holds no lock.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

use crate::batch::{BatchChange, BatchChanged, BatchId, NewBatch};
use crate::clock::Timestamp;
use crate::continuation::ParentOutcome;
use crate::error::StorageError;
use crate::job::{JobId, JobOptions, Json, KindName, NewJob, QueueName, When};
use crate::limit::{LimitRule, LimitTarget};
use crate::lock::{LockAnswer, LockRequest};
use crate::monitor::Monitor;
use crate::moved::Transitions;
use crate::notes::Annotation;
use crate::recurring::{DueRecurring, Fire, Fired, RecurringChange, RecurringChanged};
use crate::state::{ErrorRecord, ServerId, StateName};
use crate::ties::Ties;
use crate::transition::{Event, RECOVERIES_MAX, Refusal};
use crate::wakeup::Wakeups;

/// A boxed future that may be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The answer of a storage call.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StorageError>>;

/// Most jobs in one call: [`Storage::create`] refuses more, and every `max` above it means it. Lists of
/// finishes and changes are taken whole.
pub const BATCH_MAX: usize = 10_000;

/// Where jobs live: the writing half of the contract. See the [module](self) for what holds throughout.
///
/// It is [`Any`], so that code which needs what only one storage can do, such as a transaction of its
/// database, finds out whether it has that one.
pub trait Storage: Monitor + Any + fmt::Debug + Send + Sync + 'static {
    /// Stores jobs, all or none.
    ///
    /// Each is created `scheduled` when its [`When`] lies ahead, else `enqueued` at the end of its
    /// queue, in the order given. Its body is immutable from here on. A job whose id is stored
    /// already with the same kind and args changes nothing and answers [`Created::existing`]; a
    /// repeat within one call counts as that too. A queue comes to be by the first job that names it.
    ///
    /// # Errors
    /// [`Invalid`](StorageError::Invalid) when any of the jobs breaks a bound, or there are more
    /// than [`BATCH_MAX`]; [`IdTaken`](StorageError::IdTaken) when an id is stored with another kind
    /// or other args. Nothing is stored in either case.
    fn create(&self, jobs: Vec<NewJob>) -> Answer<'_, Vec<Created>> {
        self.create_batches(Vec::new(), jobs)
    }

    /// Stores batches and jobs, all or none: as [`create`](Self::create), with the batches before the jobs.
    ///
    /// *Dependencies*: a job whose [`after`](crate::Ties::after) is not empty is created `awaiting`. What it
    /// names must be stored, or stand earlier in this call; so no chain can bite its own tail, and a member
    /// that would close a [circle](crate::circle) through its batch is refused. The parent is
    /// read in the same commit: one that has ended already decides at once, as far as its end decides, and a job whose
    /// dependencies are all fulfilled is created as if it had none. When the last one is fulfilled later, the
    /// job is released: it enters `enqueued`, or `scheduled` when its [`When`] lies ahead then (a delay counts
    /// from the release). When one cannot be fulfilled any more it is deleted, for the reason of
    /// [`unmet_reason`](crate::Dependency::unmet_reason) or [`unmet_for_good`](crate::Dependency::unmet_for_good);
    /// one that cannot be fulfilled at the creation leaves a
    /// job that was created `awaiting` and deleted. The end of a job or batch, what it releases and deletes,
    /// and all counters are one commit, up to [`RELEASE_MAX`] jobs in a call; what is left is done by the next
    /// calls of [`promote`](Self::promote). Ends are worked off in their order (a job, its batch if that ends
    /// by it, the batch above), those who wait in the order of their creation. The first end that decides counts: a
    /// parent that is requeued and ends again releases nothing twice. Who leaves `awaiting` by hand waits for nothing
    /// any more. An antecedent is not cleaned while a job waits for it.
    ///
    /// *Failed parents*: success and deletion decide about all who wait, a failure about those who wait for a failure or
    /// any end. Who waits for success or deletion waits on while the parent stands failed, also when it is created then.
    /// It hears of the next end: the requeued parent succeeds, or is deleted. To those who wait the end of the
    /// retention of a failed parent is its deletion: [`clean`](Self::clean) tells them first, and removes the parent when
    /// nobody waits any more. A batch that ends as failed has *failed for good* when a member was deleted: that decides
    /// about all. It comes to that later, too, when a failed member is deleted or cleaned. A nested batch that has failed
    /// for good counts as deleted in the one around it, and a member that has failed counts as deleted from its cleaning on.
    ///
    /// *Batches*: see [`batch`](crate::batch). A member of a batch that has not started waits for its start,
    /// besides its own dependencies. Members count in their batch in the commit that moves them; no batch ends
    /// before all jobs of the call are stored. A batch whose own dependencies cannot be fulfilled takes the
    /// members of its call, and is cancelled with it. A batch id that is stored already changes nothing.
    ///
    /// *Unique keys*: see [`unique`](crate::unique). A job that is rejected is not stored: its [`Created::id`]
    /// is the id of the holder, and [`existing`](Created::existing) is set; who waits for it by a dependency
    /// later in the call waits for the holder. Jobs of one call conflict as those of several do, in their
    /// order. A replaced job is deleted, for the reason "replaced by job …".
    ///
    /// *Limits*: see [`limit`](crate::limit). A rule that a job declares is stored with it.
    ///
    /// # Errors
    /// As [`create`](Self::create); [`Invalid`](StorageError::Invalid) also for a dependency or a batch
    /// that is not there, for a member of a batch that has ended or was cancelled, for one that waits for its own batch or one
    /// above that, or for what waits for one of them, and for batches in one another
    /// more than [`BATCH_DEPTH_MAX`](crate::batch::BATCH_DEPTH_MAX) deep: each as things stand when the call comes. A job whose id is stored already is
    /// not looked at further.
    fn create_batches(&self, batches: Vec<NewBatch>, jobs: Vec<NewJob>)
    -> Answer<'_, Vec<Created>>;

    /// Seals or cancels a batch.
    ///
    /// Cancelling is one write. From then on [`cycle`](Self::cycle) gives out no member of it or of a batch in
    /// it: a member whose turn comes is deleted instead. [`promote`](Self::promote) deletes the members in
    /// pieces, in the order of their creation, the running ones with them. Members cannot be requeued or
    /// rescheduled any more ([`Changed::Refused`]).
    ///
    /// # Errors
    /// As every call.
    fn change_batch(&self, batch: BatchId, change: BatchChange) -> Answer<'_, BatchChanged>;

    /// Changes recurring jobs: see [`RecurringChange`]. The first instant of a new or changed schedule is
    /// the first one after storage time.
    ///
    /// # Errors
    /// [`Invalid`](StorageError::Invalid) when a definition breaks a bound, or its schedule cannot be read or its zone is
    /// unknown here.
    fn change_recurring(&self, change: RecurringChange) -> Answer<'_, RecurringChanged>;

    /// Tells which recurring jobs are due in storage time, the earliest first, up to `max`. Writes nothing.
    fn due_recurring(&self, max: u32) -> Answer<'_, DueRecurring>;

    /// Fires occurrences, each plan on its own and atomically.
    ///
    /// A plan is applied only while the recurring job has the plan's revision. Its runs are jobs with the ids
    /// of [`JobId::of_occurrence`](crate::JobId::of_occurrence) and the tie [`Occurrence`](crate::Occurrence),
    /// delayed by [`jitter_of`](crate::recurring::jitter_of). The overlap rule looks at all remembered runs that
    /// have not ended, in the same commit; each run is remembered, also one that was passed over, and so is the
    /// outcome of its job whenever that ends. A run that is requeued has not ended, and is remembered again if it
    /// was forgotten. A run whose unique key is held is passed over; one whose job is stored
    /// already counts as made.
    fn fire(&self, plans: Vec<Fire>) -> Answer<'_, Vec<Fired>>;

    /// Sets a limit by hand, at once and for as long as it is not set again; `None` removes it, so that
    /// what code declares counts again. Raising it wakes those who wait.
    ///
    /// A queue's limit bounds how many of its jobs are claimed; nobody waits in a line for it.
    ///
    /// # Errors
    /// [`Invalid`](StorageError::Invalid) for a rule that breaks a bound.
    fn set_limit(&self, target: LimitTarget, rule: Option<LimitRule>) -> Answer<'_, ()>;

    /// Takes, renews or gives back a lock: see [`lock`](crate::lock).
    ///
    /// # Errors
    /// [`Invalid`](StorageError::Invalid) for a name, owner or lease over its bound.
    fn lock(&self, request: LockRequest) -> Answer<'_, LockAnswer>;

    /// Makes a server known, with a lease that begins now.
    ///
    /// Repeating it while the server is alive only renews the lease. An id that was declared dead
    /// or has retired is refused for ever.
    ///
    /// # Errors
    /// [`ServerGone`](StorageError::ServerGone) for a dead id.
    fn announce(&self, server: NewServer) -> Answer<'_, ()>;

    /// Renews a server's lease, and tells which of the jobs it thinks it holds it holds no longer.
    ///
    /// A lease that has lapsed but was not yet declared dead is renewed: nobody took its jobs.
    ///
    /// # Errors
    /// [`ServerGone`](StorageError::ServerGone) when the server was declared dead.
    fn heartbeat(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>>;

    /// Tells which of these jobs the server holds no longer, without writing anything.
    ///
    /// # Errors
    /// [`ServerGone`](StorageError::ServerGone) when the server was declared dead.
    fn verify(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>>;

    /// Ends a server in good order: what it still holds is released to its old place, failures
    /// unchanged, and its id is dead. Unknown and dead ids change nothing.
    fn retire(&self, server: ServerId) -> Answer<'_, ()>;

    /// Records what a server finished, and claims more jobs for it, in one commit.
    ///
    /// *Finishing*: each [`Finish`] is fenced on its own: it is applied only while the job is
    /// `processing`, held by this server, under this attempt. A finish of this server's that was
    /// applied before and whose job still stands where it was put answers [`Verdict::Already`]; any
    /// other mismatch answers [`Verdict::Fenced`] and leaves no trace: no history, no counter, no
    /// child released. An attempt that something else ended (a release by [`retire`](Self::retire), a
    /// rescue, a deletion) bears no attempt number in the history.
    ///
    /// *Notes* are taken down before the finishes, each fenced as a finish is: of an attempt that holds the
    /// job, or whose own finish the job still stands where it was put by (what is said after a handler has
    /// completed its job in its own transaction). Others are silently dropped. A
    /// [piece](crate::notes::Notes::piece) that is there already is passed over.
    ///
    /// *Claiming*: takes up to [`ClaimRequest::max`] jobs that are `enqueued` in the named queues: the queues
    /// in the order given, in a queue the higher priority first, in a priority the earlier place first. Jobs
    /// that have waited in a queue for at least [`ClaimRequest::aging`], counted from
    /// [`enqueued_at`](ClaimedJob::enqueued_at), come before the others of that queue, the earliest place
    /// first. A paused queue is passed over. Each job goes to one claim only. The finishes are applied, and
    /// what they release is released, before the claim looks. A job whose limits are used up is not claimed:
    /// see [`limit`](crate::limit). A claim moves or deletes at most [`RELEASE_MAX`] jobs that it may not take;
    /// [`more`](Cycle::more) tells that it ended at that bound.
    ///
    /// *Kinds*: a server that states [its kinds](NewServer::kinds) is given jobs of these alone. A job of another kind
    /// that its claim meets is set aside, before its limits are looked at: it keeps its state, its place and its
    /// history, and to a server that has the kind, or states none, all is as if nobody had met it. So a job
    /// is moved once however many such servers meet it, and those behind it do not wait. One that is
    /// [too late](JobOptions::expires_at) is deleted instead. A suspect of such a kind stays where it is, and the server is not
    /// emptied for it.
    ///
    /// *Suspects* are jobs whose servers crashed twice. They stand apart in their queues, and whether a claim gets one is
    /// decided by [`Suspicion::allowance`](crate::suspects::Suspicion::allowance): see [`suspects`](crate::suspects).
    /// The one that came there last, of those whose kind the server has, is given first, whatever its queue and priority; before all other jobs of the claim.
    /// A suspect whose limits are used up stays there.
    ///
    /// A repeat with the same [`key`](CycleRequest::key) and `repeated` set answers the claim of
    /// the first time again, as far as the server still holds it, and claims nothing anew unless the
    /// first time was never applied or nothing of its claim is held any more.
    ///
    /// # Errors
    /// [`ServerGone`](StorageError::ServerGone) when the server was declared dead: nothing is applied.
    fn cycle(&self, request: CycleRequest) -> Answer<'_, Cycle>;

    /// Declares servers dead whose lease has lapsed, and returns the jobs of dead servers.
    ///
    /// Death is one compare-and-set on the server's lease, in storage time; a dead server can never
    /// renew. Two rescuers return a job once. A storage that knows sooner that a server's process has
    /// ended may declare it dead sooner.
    ///
    /// How a server was lost ([`Loss`](crate::Loss)) is settled when it is declared dead, by what it held
    /// then, however many calls return that. A lease that lapsed counts as a crash, unless the storage knows
    /// that the process lives. Of a crash:
    /// - Each job that was held has one crash more. It goes to its old place, or apart from the second on.
    /// - A job that was held alone has one recovery more, or is failed as poison when it has survived
    ///   [`RescueRequest::recoveries_max`] already; unless another server crashed after its claim.
    /// - The jobs of a server are returned in the order in which it claimed them.
    ///
    /// Then it fails jobs that were set aside, whose kind no live server has had for
    /// [`RescueRequest::unknown_kind_grace`], and which have waited in their queue for so long themselves: the earliest
    /// place first, with the error [`unknown_kind`](ErrorRecord::unknown_kind). A server is alive until its
    /// lease ends or it dies, in storage time. The grace counts from the end of the last server that had the kind, or
    /// from when the first of the waiting jobs was set aside, whichever came later. Time in which no server at all was
    /// alive does not count. A job that is too late by then is deleted instead.
    fn rescue(&self, request: RescueRequest) -> Answer<'_, Rescued>;

    /// Moves scheduled jobs whose instant has come (in storage time) to the end of their queues, the
    /// earliest first, those of one instant in the order of their creation; up to `max`.
    ///
    /// Before that it goes on with what is left of releases, then of cancelled batches; after it, it moves jobs
    /// whose limit has room to their queues: of a line under a mere concurrency one, under a rate as many as
    /// may start, without a rule all. Up to `max` in all. For a queue whose rate was used up and has something
    /// left again it gives the work hint; [`next_in`](Promoted::next_in) tells when it will have.
    fn promote(&self, max: u32) -> Answer<'_, Promoted>;

    /// Applies explicit changes, each on its own: requeue, delete, reschedule.
    ///
    /// A change with an [`Expect`] is applied only when it holds at that moment. A change is judged in this
    /// order, and the first that applies is the answer: the job is missing; the expectation does not hold; the
    /// job stands there already; the state machine refuses; its batch was cancelled; another job holds its
    /// unique key. A job that is
    /// `processing` and is deleted is taken from its holder at once: its finish is fenced, and the
    /// holder hears of it by [`heartbeat`](Self::heartbeat) or [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`Invalid`](StorageError::Invalid) when an instant lies beyond the year 9999: nothing is applied.
    fn change(&self, changes: Vec<Change>) -> Answer<'_, Vec<Changed>>;

    /// Removes up to `max` final jobs whose retention has ended, with their history and all else that belongs
    /// to them; nothing else. Of a failed job for whose success someone waits those who wait are told first, up to
    /// [`RELEASE_MAX`] in a call; while some are left the job stays. Also forgets dead servers without jobs after a day, and statistics after their
    /// time (hours after 2 days, days after 400), up to `max` ended batches whose retention has passed and of
    /// which no member is stored, unique keys and locks whose time is over. Cancels batches that stand open
    /// longer than [`BATCH_OPEN_MAX`](crate::batch::BATCH_OPEN_MAX).
    fn clean(&self, max: u32) -> Answer<'_, Cleaned>;

    /// Pauses or resumes a queue. A paused queue takes jobs and gives none; what runs, runs on.
    /// Persistent. The queue need not exist yet: pausing makes it known, resuming an unknown one
    /// changes nothing.
    fn set_queue_paused(&self, queue: QueueName, paused: bool) -> Answer<'_, ()>;

    /// Listens to hints of this storage, also those of other processes as far as it can hear them.
    fn wakeups(&self) -> Wakeups;

    /// Listens to the transitions of jobs that are made by this process on this storage, whatever call they come from: each is
    /// told once, after its commit, in the order of the commits; only what a handler commits in a transaction of its own may
    /// come a moment later than what followed from it. What other processes do is not heard, nor what is
    /// enqueued in a [transaction of the caller's](Capabilities::caller_transactions).
    ///
    /// Default: a listener that hears nothing ([`Capabilities::tells_transitions`] says so).
    fn transitions(&self) -> Transitions {
        Transitions::none()
    }

    /// What this storage is and promises.
    fn info(&self) -> StorageInfo;
}

/// What a storage is and promises; shown at start and by `portfire status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StorageInfo {
    /// `memory`, `sqlite`, …
    pub name: &'static str,
    /// Where, without secrets: a path or a host.
    pub location: String,
    /// What a call that returned `Ok` survives, in words.
    pub durability: &'static str,
    /// Largest args in bytes.
    pub args_bytes_max: usize,
    /// What it can do beyond the contract.
    pub capabilities: Capabilities,
}

/// What a storage can do beyond the contract, which each keeps whole. By default nothing of it.
///
/// It is for those who must not expect more than there is: a test suite, a page that offers an action, a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// What is stored outlives the process.
    pub persistent: bool,
    /// Several processes may work on it at a time.
    pub shared: bool,
    /// It sees at once that the process of a server has ended, and whether one lives whose lease has lapsed.
    pub sees_processes: bool,
    /// Jobs can be stored in a transaction of the caller's (`enqueue_in`).
    pub caller_transactions: bool,
    /// A handler can commit its own writes and the success of its job together (`cx.tx()`).
    pub job_transactions: bool,
    /// It tells of the transitions that this process makes ([`Storage::transitions`]).
    pub tells_transitions: bool,
}

impl Capabilities {
    /// In words, what the storage cannot do.
    ///
    /// ```
    /// use portfire_core::{MemoryStorage, Storage};
    ///
    /// let missing = MemoryStorage::new().info().capabilities.missing();
    /// assert!(missing.contains(&"keep jobs when the process ends"));
    /// ```
    pub fn missing(&self) -> Vec<&'static str> {
        let all = [
            (self.persistent, "keep jobs when the process ends"),
            (self.shared, "be shared by several processes"),
            (self.sees_processes, "see a dead process before its lease lapses"),
            (self.caller_transactions, "store jobs in a transaction of yours"),
            (self.job_transactions, "complete a job in a transaction of its handler"),
            (self.tells_transitions, "tell of transitions"),
        ];
        all.into_iter().filter(|(can, _)| !can).map(|(_, what)| what).collect()
    }
}

/// Most jobs that one call releases, or deletes because a condition cannot be met any more; a flood of
/// continuations is then done in several commits, and blocks nobody.
pub const RELEASE_MAX: usize = 1_000;

/// Default of [`RescueRequest::unknown_kind_grace`]: a day.
pub const UNKNOWN_KIND_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// What [`Storage::create`] answers for one job.
#[must_use = "a job that stands for the request may have been there before, under another id"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The job that stands for the request: the new one, or the one that holds its unique key.
    pub id: JobId,
    /// Whether it was there before this call.
    pub existing: bool,
}

/// A server that is about to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewServer {
    /// Its id, never used before.
    pub id: ServerId,
    /// The name people gave it; several may share one.
    pub name: String,
    /// The queues it takes jobs from.
    pub queues: Vec<QueueName>,
    /// How many jobs it runs at a time.
    pub workers: u32,
    /// How long it is alive without a heartbeat.
    pub lease: Duration,
    /// The kinds that it has handlers of, aliases included; empty when it does not say, and then it takes every job.
    pub kinds: Vec<KindName>,
}

/// The right to finish a job: which job, in which attempt.
///
/// Only a claim gives one out. The attempt is the fencing token: the next claim has a higher one,
/// and this one then changes nothing any more. Pass it to outside systems that can compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: u32,
    /// Where the storage finds the job fastest; 0 when unknown. Not part of the right.
    pub locator: i64,
}

impl Claim {
    /// The right to finish this attempt of this job.
    pub const fn new(job: JobId, attempt: u32) -> Claim {
        Claim { job, attempt, locator: 0 }
    }
}

/// A job as its worker gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedJob {
    /// The right to finish it.
    pub claim: Claim,
    /// Which handler runs it.
    pub kind: KindName,
    /// The handler's arguments.
    pub args: Json,
    /// Its queue.
    pub queue: QueueName,
    /// Its rank.
    pub priority: i16,
    /// What its call said.
    pub options: JobOptions,
    /// What it waited for, belongs to, and is limited by.
    pub ties: Ties,
    /// How those that it waited for ended, as far as [`pass`](crate::Dependency::pass) asked, in its order.
    pub parents: Vec<ParentOutcome>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it last entered its queue, also by a release or rescue, which keep its place.
    pub enqueued_at: Timestamp,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// Failures since its run began.
    pub failures: u32,
    /// Crashes since its run began that it alone can have caused, and survived.
    pub recoveries: u32,
}

/// One server's report and wish. See [`Storage::cycle`].
#[derive(Clone, Debug)]
pub struct CycleRequest {
    /// The server.
    pub server: ServerId,
    /// Names this cycle among all of the server; needed to repeat it.
    pub key: u64,
    /// Whether a cycle with this key was sent before and its answer was lost.
    pub repeated: bool,
    /// What running jobs say.
    pub notes: Vec<Annotation>,
    /// What is done.
    pub finished: Vec<Finish>,
    /// What is wanted; `None` to claim nothing.
    pub claim: Option<ClaimRequest>,
}

impl CycleRequest {
    /// A cycle that neither finishes nor claims.
    pub fn new(server: ServerId, key: u64) -> CycleRequest {
        CycleRequest {
            server,
            key,
            repeated: false,
            notes: Vec::new(),
            finished: Vec::new(),
            claim: None,
        }
    }
}

/// The wish for jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The queues, the preferred first.
    pub queues: Vec<QueueName>,
    /// Most jobs to claim; at most [`BATCH_MAX`].
    pub max: u32,
    /// Jobs that have waited in their queue so long are taken first, whatever their priority; `None` for strict
    /// priorities. To find them a storage need not look past more than 1,000 jobs of a priority that were given
    /// back, or came up from the line of a limit, and have not waited so long yet: one behind them is found when
    /// those are claimed, or have waited so long themselves.
    pub aging: Option<Duration>,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// Of which attempt.
    pub claim: Claim,
    /// How it ended.
    pub outcome: Outcome,
    /// How long the handler ran; zero when it never started.
    pub duration: Duration,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler returned.
    Succeeded {
        /// What it returned, when that was anything.
        result: Option<Json>,
    },
    /// It failed and is tried again.
    Retry {
        /// After this wait in storage time.
        delay: Duration,
        /// What went wrong.
        error: ErrorRecord,
    },
    /// It failed for the last time.
    Failed {
        /// What went wrong.
        error: ErrorRecord,
    },
    /// It asked to run later; no failure is counted.
    Snoozed {
        /// After this wait.
        delay: Duration,
    },
    /// There is no handler of this kind here; no failure is counted.
    Parked {
        /// After this wait.
        delay: Duration,
    },
    /// The server gives it back; it goes to its old place and no failure is counted.
    Released,
    /// It is taken out by its handler, a filter, or its retry policy.
    Discarded {
        /// Why, in words.
        reason: String,
        /// The error that led to it; counted as a failure.
        error: Option<ErrorRecord>,
    },
}

impl Outcome {
    /// What it is to the state machine.
    pub fn event(&self) -> Event {
        match self {
            Outcome::Succeeded { .. } => Event::Succeed,
            Outcome::Retry { delay, .. } => Event::Retry(*delay),
            Outcome::Failed { .. } => Event::Fail,
            Outcome::Snoozed { delay } => Event::Snooze(*delay),
            Outcome::Parked { delay } => Event::Park(*delay),
            Outcome::Released => Event::Release,
            Outcome::Discarded { error, .. } => Event::Discard { failed: error.is_some() },
        }
    }
}

/// What [`Storage::cycle`] answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cycle {
    /// One for each finish, in its order.
    pub verdicts: Vec<Verdict>,
    /// The jobs that are the server's now.
    pub claimed: Vec<ClaimedJob>,
    /// Whether the claim ended because it had moved or deleted [`RELEASE_MAX`] jobs: there may be others behind
    /// them, so claim again. `false` in the answer to a repeated cycle whose jobs the server still holds.
    pub more: bool,
}

/// What became of a finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is recorded.
    Applied,
    /// This attempt was ended before by a finish of its own, perhaps with another outcome, and the job
    /// still stands where that put it; nothing changed.
    Already,
    /// The attempt no longer holds the job; nothing changed.
    Fenced,
    /// There is no such job; nothing changed.
    Missing,
}

/// A claim that is no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The claim as it was given.
    pub claim: Claim,
    /// What became of the job.
    pub reason: LostReason,
}

/// What became of a job that its server thought it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// It was deleted.
    Deleted,
    /// It was returned, taken by another attempt, or has ended otherwise.
    Taken,
    /// It is no longer stored.
    Missing,
}

/// The bounds of a rescue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RescueRequest {
    /// Crashes that a job alone can have caused, and may survive before it is failed as poison.
    /// Default: [`RECOVERIES_MAX`].
    pub recoveries_max: u32,
    /// Most jobs to return in one call, and most to fail for want of a handler. Default: 1,000.
    pub max: u32,
    /// How long no live server must have had a handler of a job's kind before the job is failed. Default:
    /// [`UNKNOWN_KIND_GRACE`].
    pub unknown_kind_grace: Duration,
}

impl Default for RescueRequest {
    fn default() -> RescueRequest {
        RescueRequest {
            recoveries_max: RECOVERIES_MAX,
            max: 1_000,
            unknown_kind_grace: UNKNOWN_KIND_GRACE,
        }
    }
}

/// What a rescue did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Servers that were declared dead by this call.
    pub dead: Vec<ServerId>,
    /// Jobs that went back to their queues.
    pub returned: u32,
    /// Jobs that were failed as poison.
    pub poisoned: u32,
    /// Jobs that were failed because no server had a handler of their kind.
    pub unhandled: u32,
    /// Whether dead servers still hold jobs, or more may be failed: call again.
    pub more: bool,
}

/// What a promotion did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promoted {
    /// Jobs that went to their queues because their instant had come.
    pub promoted: u32,
    /// Jobs that were released or deleted because what they waited for has ended, deleted because their
    /// batch was cancelled, or moved because their limit has room.
    pub released: u32,
    /// Time until there is more to do: zero when more are due now or releases are left, `None` when nothing is to come.
    pub next_in: Option<Duration>,
}

/// What a cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Jobs that were removed.
    pub jobs: u32,
    /// Whether more jobs or batches have expired: call again.
    pub more: bool,
}

/// An explicit change of one job.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which job.
    pub job: JobId,
    /// What to do.
    pub action: Action,
    /// What must hold; `None` for whatever holds.
    pub expect: Option<Expect>,
}

/// What an explicit change does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// To the end of its queue. Of a final job this begins a new run: failures and recoveries are 0.
    Requeue,
    /// Out.
    Delete {
        /// Why, in words; shown in the history.
        reason: String,
    },
    /// To wait for an instant; one that is past waits until the next promotion.
    Reschedule(When),
}

/// What must hold for a change to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The job is in one of these states.
    States(Vec<StateName>),
    /// The job has made exactly so many transitions.
    Revision(u32),
}

impl Expect {
    /// Whether it holds for a job with this state and revision.
    pub fn holds(&self, state: StateName, revision: u32) -> bool {
        match self {
            Expect::States(states) => states.contains(&state),
            Expect::Revision(expected) => *expected == revision,
        }
    }
}

/// What became of a change.
#[must_use = "the change may have been refused, or the job may be missing: ask `is_done`"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changed {
    /// It is applied.
    Applied {
        /// Where the job stood before.
        from: StateName,
        /// Its transitions now.
        revision: u32,
    },
    /// The job stood where the change leads to already: a requeue of an enqueued job, a delete of a
    /// deleted one. Nothing changed.
    Unchanged,
    /// What was expected does not hold. Nothing changed.
    Unexpected {
        /// Where the job stands.
        state: StateName,
        /// Its transitions.
        revision: u32,
    },
    /// The state machine does not allow it. Nothing changed.
    Refused(Refusal),
    /// Another job holds its unique key. Nothing changed.
    Conflict {
        /// Which job.
        with: JobId,
    },
    /// There is no such job.
    Missing,
}

impl Changed {
    /// Whether the job now stands where the change leads to.
    #[must_use]
    pub fn is_done(self) -> bool {
        matches!(self, Changed::Applied { .. } | Changed::Unchanged)
    }
}
