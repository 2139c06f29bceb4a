//! The storage of a test: memory, which in inline mode runs what it has just stored.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use portfire_core::storage::Answer;
use portfire_core::{
    Antecedent, BatchChange, BatchChanged, BatchFilter, BatchId, BatchPage, BatchRecord, Bucket,
    Change, Changed, Claim, Cleaned, Continuation, Counts, Created, Cursor, Cycle, CycleRequest,
    DueRecurring, Fire, Fired, HistoryEntry, JobFilter, JobId, JobPage, JobRecord, KeyRecord,
    KindRecord, LimitName, LimitRecord, LimitRule, LimitTarget, LockAnswer, LockRecord,
    LockRequest, LogPage, Lost, MemoryStorage, Monitor, NewBatch, NewJob, NewServer, NotesRecord,
    Promoted, QueueName, QueueRecord, RecurringChange, RecurringChanged, RecurringFilter,
    RecurringId, RecurringPage, RecurringRecord, RescueRequest, Rescued, RunRecord, ServerId,
    ServerRecord, StatisticsRecord, Storage, StorageInfo, Timestamp, WaitingRecord, Wakeups,
};

use super::runner::Runner;

#[derive(Debug)]
pub(super) struct TestStorage {
    memory: Arc<MemoryStorage>,
    inline: Mutex<Inline>,
}

/// The runner of inline mode. It has a client, which has this storage, so this must not own it.
#[derive(Default)]
struct Inline(Option<Weak<Runner>>);

impl std::fmt::Debug for Inline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "inline" } else { "stored" })
    }
}

impl TestStorage {
    pub(super) fn new(memory: Arc<MemoryStorage>) -> TestStorage {
        TestStorage { memory, inline: Mutex::default() }
    }

    /// Runs what is due after everything that creates jobs.
    pub(super) fn run_at_once(&self, runner: &Arc<Runner>) {
        self.lock().0 = Some(Arc::downgrade(runner));
    }

    fn runner(&self) -> Option<Arc<Runner>> {
        self.lock().0.as_ref().and_then(Weak::upgrade)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inline> {
        self.inline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for TestStorage {
    fn create(&self, jobs: Vec<NewJob>) -> Answer<'_, Vec<Created>> {
        Box::pin(async move {
            let created = self.memory.create(jobs).await?;
            if let Some(runner) = self.runner() {
                runner.drain().await;
            }
            Ok(created)
        })
    }

    fn create_batches(
        &self,
        batches: Vec<NewBatch>,
        jobs: Vec<NewJob>,
    ) -> Answer<'_, Vec<Created>> {
        Box::pin(async move {
            let created = self.memory.create_batches(batches, jobs).await?;
            if let Some(runner) = self.runner() {
                runner.drain().await;
            }
            Ok(created)
        })
    }

    fn change_batch(&self, batch: BatchId, change: BatchChange) -> Answer<'_, BatchChanged> {
        self.memory.change_batch(batch, change)
    }

    fn change_recurring(&self, change: RecurringChange) -> Answer<'_, RecurringChanged> {
        Box::pin(async move {
            let changed = self.memory.change_recurring(change).await?;
            if let (RecurringChanged::Triggered(_), Some(runner)) = (&changed, self.runner()) {
                runner.drain().await;
            }
            Ok(changed)
        })
    }

    fn due_recurring(&self, max: u32) -> Answer<'_, DueRecurring> {
        self.memory.due_recurring(max)
    }

    fn fire(&self, plans: Vec<Fire>) -> Answer<'_, Vec<Fired>> {
        self.memory.fire(plans)
    }

    fn set_limit(&self, target: LimitTarget, rule: Option<LimitRule>) -> Answer<'_, ()> {
        self.memory.set_limit(target, rule)
    }

    fn lock(&self, request: LockRequest) -> Answer<'_, LockAnswer> {
        self.memory.lock(request)
    }

    fn announce(&self, server: NewServer) -> Answer<'_, ()> {
        self.memory.announce(server)
    }

    fn heartbeat(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        self.memory.heartbeat(server, held)
    }

    fn verify(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        self.memory.verify(server, held)
    }

    fn retire(&self, server: ServerId) -> Answer<'_, ()> {
        self.memory.retire(server)
    }

    fn cycle(&self, request: CycleRequest) -> Answer<'_, Cycle> {
        self.memory.cycle(request)
    }

    fn rescue(&self, request: RescueRequest) -> Answer<'_, Rescued> {
        self.memory.rescue(request)
    }

    fn promote(&self, max: u32) -> Answer<'_, Promoted> {
        self.memory.promote(max)
    }

    fn change(&self, changes: Vec<Change>) -> Answer<'_, Vec<Changed>> {
        self.memory.change(changes)
    }

    fn clean(&self, max: u32) -> Answer<'_, Cleaned> {
        self.memory.clean(max)
    }

    fn set_queue_paused(&self, queue: QueueName, paused: bool) -> Answer<'_, ()> {
        self.memory.set_queue_paused(queue, paused)
    }

    fn wakeups(&self) -> Wakeups {
        self.memory.wakeups()
    }

    fn info(&self) -> StorageInfo {
        self.memory.info()
    }
}

impl Monitor for TestStorage {
    fn now(&self) -> Answer<'_, Timestamp> {
        self.memory.now()
    }

    fn skew(&self) -> Answer<'_, Duration> {
        self.memory.skew()
    }

    fn counts(&self) -> Answer<'_, Counts> {
        self.memory.counts()
    }

    fn job(&self, id: JobId) -> Answer<'_, Option<JobRecord>> {
        self.memory.job(id)
    }

    fn history(&self, id: JobId) -> Answer<'_, Vec<HistoryEntry>> {
        self.memory.history(id)
    }

    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage> {
        self.memory.jobs(filter)
    }

    fn queues(&self) -> Answer<'_, Vec<QueueRecord>> {
        self.memory.queues()
    }

    fn kinds(&self) -> Answer<'_, Vec<KindRecord>> {
        self.memory.kinds()
    }

    fn waiting(&self, id: JobId) -> Answer<'_, Option<WaitingRecord>> {
        self.memory.waiting(id)
    }

    fn continuations(&self, on: Antecedent, max: u32) -> Answer<'_, Vec<Continuation>> {
        self.memory.continuations(on, max)
    }

    fn batch(&self, id: BatchId) -> Answer<'_, Option<BatchRecord>> {
        self.memory.batch(id)
    }

    fn batches(&self, filter: BatchFilter) -> Answer<'_, BatchPage> {
        self.memory.batches(filter)
    }

    fn recurring(&self, id: RecurringId) -> Answer<'_, Option<RecurringRecord>> {
        self.memory.recurring(id)
    }

    fn recurring_jobs(&self, filter: RecurringFilter) -> Answer<'_, RecurringPage> {
        self.memory.recurring_jobs(filter)
    }

    fn runs(&self, id: RecurringId, max: u32) -> Answer<'_, Vec<RunRecord>> {
        self.memory.runs(id, max)
    }

    fn limits(&self) -> Answer<'_, Vec<LimitRecord>> {
        self.memory.limits()
    }

    fn limit_keys(&self, limit: LimitName) -> Answer<'_, Vec<KeyRecord>> {
        self.memory.limit_keys(limit)
    }

    fn locks(&self) -> Answer<'_, Vec<LockRecord>> {
        self.memory.locks()
    }

    fn notes(&self, id: JobId) -> Answer<'_, NotesRecord> {
        self.memory.notes(id)
    }

    fn log(&self, id: JobId, after: Option<Cursor>, max: u32) -> Answer<'_, LogPage> {
        self.memory.log(id, after, max)
    }

    fn servers(&self) -> Answer<'_, Vec<ServerRecord>> {
        self.memory.servers()
    }

    fn statistics(&self, bucket: Bucket, since: Timestamp) -> Answer<'_, Vec<StatisticsRecord>> {
        self.memory.statistics(bucket, since)
    }
}
