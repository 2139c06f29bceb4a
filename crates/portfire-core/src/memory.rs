//! [`MemoryStorage`]: the rules of the [`engine`](crate::engine) over maps, in one process.
//!
//! One mutex around plain, ordered data; nothing waits inside it. Every answer is a function of the
//! calls and the clock alone, so a run can be repeated exactly.
//!
//! # What is chosen where the contract leaves room
//! - An instant has come when storage time is equal or later: a job is due at its `run_at`, expired
//!   at its `expires_at`, a server may be declared dead at its `lease_until`.
//! - Jobs that are due or expired at the same instant come in the order of their creation.
//! - "The newest created first" is by the order in which the storage took the jobs.
//! - Bounds are checked first, then what jobs and batches name and whether ids are taken, in the order of the call.
//! - The end of an attempt by anything but its own finish (a retirement, a rescue, a deletion) bears
//!   no attempt in the history.
//! - A repeated cycle whose first claim holds nothing any more claims anew: the server never heard of
//!   those jobs, so it asks for as many as before.
//! - An id of a server that was forgotten after its day is still refused by `announce`.
//! - Bounds given as `max` are cut to [`BATCH_MAX`]; lists of finishes and changes are taken whole.
//! - At the end of a call's changes first its ends and starts are worked off, in their order, then one waiter goes on
//!   for each slot or turn that was freed. A promotion works its own off by the outbox, and leaves slots to its last part.
//! - An end keeps the state that it was, and decides by that, also when the job has moved on since; result and
//!   error are passed only while it has not. While the outbox works off an end, another of the same job counts
//!   for nothing.
//! - A delay that would end after the last instant, when the job is released, ends there.
//! - While a call stores jobs no batch ends: then its new batches are looked at in order, then those that a
//!   replacement emptied.
//! - A kind's running jobs are counted from its first rule on. A job of a kind that has a rule no more frees no slot of
//!   its line: promotions let those waiters go.
//! - Of a log those lines are dropped, each on its own, that would bring their attempt over its bound.

mod attempts;
mod batches;
mod changes;
mod creation;
mod entries;
mod jobs;
mod journal;
mod keys;
mod kinds;
mod limits;
mod links;
mod locks;
mod moves;
mod names;
mod notes;
mod outbox;
mod pages;
mod queues;
mod recurring;
mod rows;
mod servers;
mod tally;
mod upkeep;
mod views;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::batch::{
    BatchChange, BatchChanged, BatchFilter, BatchId, BatchPage, BatchRecord, NewBatch,
};
use crate::clock::{Clock, StorageTime, SystemClock, Timestamp};
use crate::continuation::{Antecedent, Continuation};
use crate::engine::{Agenda, Origin};
use crate::job::{JobId, Limits, NewJob, QueueName};
use crate::limit::{KeyRecord, LimitName, LimitRecord, LimitRule, LimitTarget};
use crate::lock::{LockAnswer, LockRecord, LockRequest};
use crate::monitor::{
    Bucket, Counts, Cursor, JobFilter, JobPage, KindRecord, Monitor, QueueRecord, ServerRecord,
    StatisticsRecord, WaitingRecord,
};
use crate::moved::{TransitionHub, Transitions};
use crate::notes::{LogPage, NotesRecord};
use crate::recurring::{
    DueRecurring, Fire, Fired, RecurringChange, RecurringChanged, RecurringFilter, RecurringId,
    RecurringPage, RecurringRecord, RunRecord,
};
use crate::state::{HistoryEntry, JobRecord, ServerId};
use crate::storage::{
    Answer, BATCH_MAX, Capabilities, Change, Changed, Claim, Cleaned, Created, Cycle, CycleRequest,
    Lost, NewServer, Promoted, RescueRequest, Rescued, Storage, StorageInfo,
};
use crate::transition::Retention;
use crate::wakeup::{WakeupHub, Wakeups};

use batches::Batches;
use jobs::Jobs;
use journal::Journal;
use keys::Keys;
use links::Links;
use locks::Locks;
use names::Names;
use notes::AllNotes;
use outbox::Outbox;
use recurring::Recurring;
use servers::Servers;

/// Largest args that [`Limits`] can allow.
const ARGS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Keeps everything in this process: for tests, for simulation, and for jobs that may die with the
/// process. Use it as an `Arc<dyn Storage>`.
///
/// ```
/// use std::sync::Arc;
/// use portfire_core::{ManualClock, MemoryStorage, Storage};
///
/// let clock = Arc::new(ManualClock::default());
/// let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::with_clock(clock));
/// assert_eq!(storage.info().name, "memory");
/// ```
pub struct MemoryStorage {
    data: Mutex<Data>,
    time: StorageTime,
    limits: Limits,
    hub: WakeupHub,
    transitions: TransitionHub,
}

impl MemoryStorage {
    /// An empty storage on the clock of the host, with default retention and limits.
    pub fn new() -> MemoryStorage {
        MemoryStorage::builder().build()
    }

    /// An empty storage on this clock, with default retention and limits.
    pub fn with_clock(clock: Arc<dyn Clock>) -> MemoryStorage {
        MemoryStorage::builder().clock(clock).build()
    }

    /// An empty storage with other settings.
    pub fn builder() -> MemoryStorageBuilder {
        MemoryStorageBuilder {
            clock: Arc::new(SystemClock),
            retention: Retention::default(),
            limits: Limits::default(),
            vouches: true,
        }
    }

    /// Does one call: all of it inside the lock, the hints after it.
    fn call<T>(&self, act: impl FnOnce(&mut Data) -> T) -> T {
        // Nothing in here panics half-way on anyone's input, so a poisoned lock still holds whole data.
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        data.now = self.time.now(data.now);
        data.jobs.told = self.transitions.is_heard().then(Vec::new);
        let answer = act(&mut data);
        data.names.keys.clear();
        let Hints { work, control } = std::mem::take(&mut data.jobs.hints);
        // Within the lock, so that they come in the order of the calls.
        self.transitions.tell(data.jobs.told.take().unwrap_or_default());
        drop(data);
        if work {
            self.hub.work();
        }
        if control {
            self.hub.control();
        }
        answer
    }
}

impl Default for MemoryStorage {
    fn default() -> MemoryStorage {
        MemoryStorage::new()
    }
}

impl std::fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStorage").field("time", &self.time).finish_non_exhaustive()
    }
}

/// Settings of a [`MemoryStorage`]. Made by [`MemoryStorage::builder`].
#[derive(Clone, Debug)]
pub struct MemoryStorageBuilder {
    clock: Arc<dyn Clock>,
    retention: Retention,
    limits: Limits,
    vouches: bool,
}

impl MemoryStorageBuilder {
    /// Takes the time from here. Default: the clock of the host. With another a lease that lapses counts as a crash,
    /// as tests want it; by that of the host it does not, because the process, which has the storage, lives.
    pub fn clock(self, clock: Arc<dyn Clock>) -> MemoryStorageBuilder {
        MemoryStorageBuilder { clock, vouches: false, ..self }
    }

    /// Keeps final jobs for so long, unless their call said otherwise. Default: [`Retention::default`].
    pub fn retention(self, retention: Retention) -> MemoryStorageBuilder {
        MemoryStorageBuilder { retention, ..self }
    }

    /// Takes jobs within these bounds; over 16 MiB of args means 16 MiB. Default: [`Limits::default`].
    pub fn limits(self, limits: Limits) -> MemoryStorageBuilder {
        let args_bytes_max = limits.args_bytes_max.min(ARGS_BYTES_MAX);
        MemoryStorageBuilder { limits: Limits { args_bytes_max }, ..self }
    }

    /// The storage, empty.
    pub fn build(self) -> MemoryStorage {
        let time = StorageTime::new(self.clock);
        let now = time.now(Timestamp::MIN);
        let jobs = Jobs::new(self.retention);
        MemoryStorage {
            data: Mutex::new(Data::new(now, self.limits, jobs, Servers::new(self.vouches))),
            time,
            limits: self.limits,
            hub: WakeupHub::default(),
            transitions: TransitionHub::default(),
        }
    }
}

/// Everything the storage holds.
struct Data {
    /// Storage time: the highest that the clock ever told.
    now: Timestamp,
    jobs: Jobs,
    servers: Servers,
    /// The bounds of what is stored.
    limits: Limits,
    names: Names,
    links: Links,
    batches: Batches,
    outbox: Outbox,
    keys: Keys,
    recurring: Recurring,
    locks: Locks,
    notes: AllNotes,
    /// The keys of limits that this call freed a slot or a turn of, one for each.
    freed: Vec<String>,
    /// What this call must still do.
    agenda: Agenda,
    /// While a call may be refused: what it has changed.
    journal: Option<Journal>,
    /// What is to be stored with the body of the job that is being stored.
    origin: Option<Origin>,
}

impl Data {
    fn new(now: Timestamp, limits: Limits, jobs: Jobs, servers: Servers) -> Data {
        Data {
            now,
            jobs,
            servers,
            limits,
            names: Names::default(),
            links: Links::default(),
            batches: Batches::default(),
            outbox: Outbox::default(),
            keys: Keys::default(),
            recurring: Recurring::default(),
            locks: Locks::default(),
            notes: AllNotes::default(),
            freed: Vec::new(),
            agenda: Agenda::default(),
            journal: None,
            origin: None,
        }
    }
}

/// Which wake-ups a call owes.
#[derive(Default)]
struct Hints {
    work: bool,
    control: bool,
}

impl Storage for MemoryStorage {
    fn create_batches(
        &self,
        batches: Vec<NewBatch>,
        jobs: Vec<NewJob>,
    ) -> Answer<'_, Vec<Created>> {
        Box::pin(async move { self.call(|data| data.create(&batches, jobs)) })
    }

    fn change_batch(&self, batch: BatchId, change: BatchChange) -> Answer<'_, BatchChanged> {
        Box::pin(async move { Ok(self.call(|data| data.change_batch(batch, &change))) })
    }

    fn change_recurring(&self, change: RecurringChange) -> Answer<'_, RecurringChanged> {
        Box::pin(async move { self.call(|data| data.change_recurring(change, &self.limits)) })
    }

    fn due_recurring(&self, max: u32) -> Answer<'_, DueRecurring> {
        Box::pin(async move { Ok(self.call(|data| data.recurring.due(cut(max), data.now))) })
    }

    fn fire(&self, plans: Vec<Fire>) -> Answer<'_, Vec<Fired>> {
        Box::pin(async move { Ok(self.call(|data| data.fire(plans))) })
    }

    fn set_limit(&self, target: LimitTarget, rule: Option<LimitRule>) -> Answer<'_, ()> {
        Box::pin(async move { self.call(|data| data.set_limit(target, rule)) })
    }

    fn lock(&self, request: LockRequest) -> Answer<'_, LockAnswer> {
        Box::pin(async move { self.call(|data| data.lock(request)) })
    }

    fn announce(&self, server: NewServer) -> Answer<'_, ()> {
        Box::pin(async move { self.call(|data| data.announce(server)) })
    }

    fn heartbeat(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        Box::pin(async move { self.call(|data| data.heartbeat(&server, &held)) })
    }

    fn verify(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        Box::pin(async move { self.call(|data| data.verify(&server, &held)) })
    }

    fn retire(&self, server: ServerId) -> Answer<'_, ()> {
        Box::pin(async move {
            self.call(|data| data.retire(&server));
            Ok(())
        })
    }

    fn cycle(&self, request: CycleRequest) -> Answer<'_, Cycle> {
        Box::pin(async move { self.call(|data| data.cycle(request)) })
    }

    fn rescue(&self, request: RescueRequest) -> Answer<'_, Rescued> {
        Box::pin(async move { Ok(self.call(|data| data.rescue(request))) })
    }

    fn promote(&self, max: u32) -> Answer<'_, Promoted> {
        Box::pin(async move { Ok(self.call(|data| data.promote(max))) })
    }

    fn change(&self, changes: Vec<Change>) -> Answer<'_, Vec<Changed>> {
        Box::pin(async move { self.call(|data| data.change(changes)) })
    }

    fn clean(&self, max: u32) -> Answer<'_, Cleaned> {
        Box::pin(async move { Ok(self.call(|data| data.clean(max))) })
    }

    fn set_queue_paused(&self, queue: QueueName, paused: bool) -> Answer<'_, ()> {
        Box::pin(async move {
            self.call(|data| data.jobs.set_queue_paused(&queue, paused));
            Ok(())
        })
    }

    fn wakeups(&self) -> Wakeups {
        self.hub.subscribe()
    }

    fn transitions(&self) -> Transitions {
        self.transitions.subscribe()
    }

    fn info(&self) -> StorageInfo {
        StorageInfo {
            name: "memory",
            location: "this process".to_owned(),
            durability: "nothing: the jobs live as long as this process",
            args_bytes_max: self.limits.args_bytes_max,
            capabilities: Capabilities { tells_transitions: true, ..Capabilities::default() },
        }
    }
}

impl Monitor for MemoryStorage {
    fn now(&self) -> Answer<'_, Timestamp> {
        Box::pin(async move { Ok(self.call(|data| data.now)) })
    }

    fn skew(&self) -> Answer<'_, Duration> {
        Box::pin(async move { Ok(self.time.skew(self.call(|data| data.now))) })
    }

    fn counts(&self) -> Answer<'_, Counts> {
        Box::pin(async move { Ok(self.call(|data| data.jobs.tally.counts().clone())) })
    }

    fn job(&self, id: JobId) -> Answer<'_, Option<JobRecord>> {
        Box::pin(async move {
            Ok(self.call(|data| data.jobs.find(id).map(|number| data.jobs[number].record.clone())))
        })
    }

    fn history(&self, id: JobId) -> Answer<'_, Vec<HistoryEntry>> {
        Box::pin(async move {
            let history = self
                .call(|data| data.jobs.find(id).map(|number| data.jobs[number].history.clone()));
            Ok(history.unwrap_or_default())
        })
    }

    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage> {
        Box::pin(async move { self.call(|data| pages::page(data, &filter)) })
    }

    fn queues(&self) -> Answer<'_, Vec<QueueRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.jobs.queues.records())) })
    }

    fn kinds(&self) -> Answer<'_, Vec<KindRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.jobs.tally.kinds())) })
    }

    fn waiting(&self, id: JobId) -> Answer<'_, Option<WaitingRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.waiting(id))) })
    }

    fn continuations(&self, on: Antecedent, max: u32) -> Answer<'_, Vec<Continuation>> {
        Box::pin(async move { Ok(self.call(|data| data.continuations(on, max))) })
    }

    fn batch(&self, id: BatchId) -> Answer<'_, Option<BatchRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.batch_record(id))) })
    }

    fn batches(&self, filter: BatchFilter) -> Answer<'_, BatchPage> {
        Box::pin(async move { self.call(|data| data.batches.page(&filter)) })
    }

    fn recurring(&self, id: RecurringId) -> Answer<'_, Option<RecurringRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.recurring.get(&id).cloned())) })
    }

    fn recurring_jobs(&self, filter: RecurringFilter) -> Answer<'_, RecurringPage> {
        Box::pin(async move { self.call(|data| data.recurring.page(&filter)) })
    }

    fn runs(&self, id: RecurringId, max: u32) -> Answer<'_, Vec<RunRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.recurring.runs(&id, max))) })
    }

    fn limits(&self) -> Answer<'_, Vec<LimitRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.jobs.limits.records())) })
    }

    fn limit_keys(&self, limit: LimitName) -> Answer<'_, Vec<KeyRecord>> {
        Box::pin(
            async move { Ok(self.call(|data| data.jobs.limits.key_records(&limit, data.now))) },
        )
    }

    fn locks(&self) -> Answer<'_, Vec<LockRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.locks.records(data.now))) })
    }

    fn notes(&self, id: JobId) -> Answer<'_, NotesRecord> {
        Box::pin(async move { Ok(self.call(|data| data.notes_record(id))) })
    }

    fn log(&self, id: JobId, after: Option<Cursor>, max: u32) -> Answer<'_, LogPage> {
        Box::pin(async move { self.call(|data| data.notes.log(data.jobs.find(id), after, max)) })
    }

    fn servers(&self) -> Answer<'_, Vec<ServerRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.servers.records(data.now))) })
    }

    fn statistics(&self, bucket: Bucket, since: Timestamp) -> Answer<'_, Vec<StatisticsRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.jobs.tally.statistics(bucket, since))) })
    }
}

/// A bound that a caller gives.
fn cut(max: u32) -> usize {
    (max as usize).min(BATCH_MAX)
}

/// How long a dead server is shown.
const DEAD_SHOWN: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
