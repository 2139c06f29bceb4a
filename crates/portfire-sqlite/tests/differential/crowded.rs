//! A database that is used through several handles in turn, in a crowd: each operation is handed in
//! together with others that are refused or find nothing to do, so that it shares its commit with
//! them and must not feel it. In company several operations that change something share one.

use std::any::Any;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use portfire_conformance::differential::Grouped;

use portfire_core::{
    Action, Answer, Antecedent, BatchChange, BatchChanged, BatchFilter, BatchId, BatchPage,
    BatchRecord, Bucket, Change, Changed, Claim, Cleaned, Continuation, Counts, Created, Cursor,
    Cycle, CycleRequest, DueRecurring, Fire, Fired, HistoryEntry, JobFilter, JobId, JobPage,
    JobRecord, Json, KeyRecord, KindName, KindRecord, LimitName, LimitRecord, LimitRule,
    LimitTarget, LockAnswer, LockRecord, LockRequest, LogPage, Lost, Monitor, NewBatch, NewJob,
    NewServer, NotesRecord, Promoted, QueueName, QueueRecord, RecurringChange, RecurringChanged,
    RecurringFilter, RecurringId, RecurringPage, RecurringRecord, RescueRequest, Rescued,
    RunRecord, ServerId, ServerRecord, StatisticsRecord, Storage, StorageError, StorageInfo,
    Timestamp, WaitingRecord, Wakeups,
};
use portfire_sqlite::{HeldCommits, SqliteStorage};

/// Two handles on one file, as two processes have.
#[derive(Debug)]
pub(crate) struct Crowded {
    handles: [SqliteStorage; 2],
    turn: AtomicUsize,
    /// The handle whose commits are held back: all goes to it, and nobody else joins.
    held: Mutex<Option<usize>>,
}

/// The same, when the test says what shares a commit.
pub(crate) struct InCompany(pub(crate) Arc<Crowded>);

impl Grouped for InCompany {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.0) as Arc<dyn Storage>
    }

    fn hold(&self) -> Box<dyn Any + Send> {
        let place = self.0.turn.fetch_add(1, Ordering::Relaxed) % self.0.handles.len();
        *self.0.held.lock().unwrap() = Some(place);
        let commits = self.0.handles[place].hold_commits();
        Box::new(Company { of: Arc::clone(&self.0), _commits: commits })
    }

    fn commits(&self) -> Option<u64> {
        Some(self.0.handles.iter().map(SqliteStorage::commits).sum())
    }
}

/// Ends the company, and then lets the commit be made.
struct Company {
    of: Arc<Crowded>,
    _commits: HeldCommits,
}

impl Drop for Company {
    fn drop(&mut self) {
        *self.of.held.lock().unwrap() = None;
    }
}

impl Crowded {
    pub(crate) fn new(handles: [SqliteStorage; 2]) -> Crowded {
        Crowded { handles, turn: AtomicUsize::new(0), held: Mutex::default() }
    }

    fn handle(&self) -> &SqliteStorage {
        let held = *self.held.lock().unwrap();
        let next = || self.turn.fetch_add(1, Ordering::Relaxed) % self.handles.len();
        &self.handles[held.unwrap_or_else(next)]
    }

    /// Does an operation in the crowd.
    fn write<'a, T: Send + 'a>(
        &'a self,
        operation: impl FnOnce(&'a SqliteStorage) -> Answer<'a, T>,
    ) -> Answer<'a, T> {
        let handle = self.handle();
        let mut answer = operation(handle);
        if self.held.lock().unwrap().is_some() {
            return answer;
        }
        Box::pin(async move {
            // A process that was told no instant need not hold time up when the clock goes back.
            for handle in &self.handles {
                handle.now().await?;
            }
            let mut before = refused(handle);
            let mut after = idle(handle);
            let mut done = None;
            let (mut before_done, mut after_done) = (false, false);
            poll_fn(|cx| {
                before_done = before_done || poll_checked(&mut before, cx).is_ready();
                if done.is_none()
                    && let Poll::Ready(answer) = answer.as_mut().poll(cx)
                {
                    done = Some(answer);
                }
                after_done = after_done || poll_checked(&mut after, cx).is_ready();
                match done.take_if(|_| before_done && after_done) {
                    Some(answer) => Poll::Ready(answer),
                    None => Poll::Pending,
                }
            })
            .await
        })
    }
}

fn poll_checked(crowd: &mut Answer<'_, ()>, cx: &mut std::task::Context<'_>) -> Poll<()> {
    crowd.as_mut().poll(cx).map(|done| done.expect("the crowd is answered as it should be"))
}

/// A create that is refused after half of it was written, in a queue and of a kind that come to be
/// by it and must be gone with it.
fn refused(handle: &SqliteStorage) -> Answer<'_, ()> {
    let id = JobId::from_bytes([0xff; 16]);
    let kind = KindName::stored("refused");
    let mut one = NewJob::new(id, kind.clone(), Json::stored("1"));
    one.queue = QueueName::stored("refused");
    let mut other = one.clone();
    other.args = Json::stored("2");
    Box::pin(async move {
        match handle.create(vec![one, other]).await {
            Err(StorageError::IdTaken { job }) => {
                assert_eq!(job, id);
                Ok(())
            }
            other => panic!("{other:?}"),
        }
    })
}

/// Operations that find nothing to do.
fn idle(handle: &SqliteStorage) -> Answer<'_, ()> {
    Box::pin(async move {
        let nobody = ServerId::new("nobody");
        let cycle = handle.cycle(CycleRequest::new(nobody, 1)).await;
        assert!(matches!(cycle, Err(StorageError::ServerGone { .. })), "{cycle:?}");
        let job = JobId::from_bytes([0xff; 16]);
        let change = Change { job, action: Action::Requeue, expect: None };
        assert_eq!(handle.change(vec![change]).await?, [Changed::Missing]);
        Ok(())
    })
}

impl Storage for Crowded {
    fn create(&self, jobs: Vec<NewJob>) -> Answer<'_, Vec<Created>> {
        self.write(|handle| handle.create(jobs))
    }

    fn create_batches(
        &self,
        batches: Vec<NewBatch>,
        jobs: Vec<NewJob>,
    ) -> Answer<'_, Vec<Created>> {
        self.write(|handle| handle.create_batches(batches, jobs))
    }

    fn change_batch(&self, batch: BatchId, change: BatchChange) -> Answer<'_, BatchChanged> {
        self.write(|handle| handle.change_batch(batch, change))
    }

    fn change_recurring(&self, change: RecurringChange) -> Answer<'_, RecurringChanged> {
        self.write(|handle| handle.change_recurring(change))
    }

    fn due_recurring(&self, max: u32) -> Answer<'_, DueRecurring> {
        self.write(|handle| handle.due_recurring(max))
    }

    fn fire(&self, plans: Vec<Fire>) -> Answer<'_, Vec<Fired>> {
        self.write(|handle| handle.fire(plans))
    }

    fn set_limit(&self, target: LimitTarget, rule: Option<LimitRule>) -> Answer<'_, ()> {
        self.write(|handle| handle.set_limit(target, rule))
    }

    fn lock(&self, request: LockRequest) -> Answer<'_, LockAnswer> {
        self.write(|handle| handle.lock(request))
    }

    fn announce(&self, server: NewServer) -> Answer<'_, ()> {
        self.write(|handle| handle.announce(server))
    }

    fn heartbeat(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        self.write(|handle| handle.heartbeat(server, held))
    }

    fn verify(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        self.write(|handle| handle.verify(server, held))
    }

    fn retire(&self, server: ServerId) -> Answer<'_, ()> {
        self.write(|handle| handle.retire(server))
    }

    fn cycle(&self, request: CycleRequest) -> Answer<'_, Cycle> {
        self.write(|handle| handle.cycle(request))
    }

    fn rescue(&self, request: RescueRequest) -> Answer<'_, Rescued> {
        self.write(|handle| handle.rescue(request))
    }

    fn promote(&self, max: u32) -> Answer<'_, Promoted> {
        self.write(|handle| handle.promote(max))
    }

    fn change(&self, changes: Vec<Change>) -> Answer<'_, Vec<Changed>> {
        self.write(|handle| handle.change(changes))
    }

    fn clean(&self, max: u32) -> Answer<'_, Cleaned> {
        self.write(|handle| handle.clean(max))
    }

    fn set_queue_paused(&self, queue: QueueName, paused: bool) -> Answer<'_, ()> {
        self.write(|handle| handle.set_queue_paused(queue, paused))
    }

    fn wakeups(&self) -> Wakeups {
        self.handle().wakeups()
    }

    fn info(&self) -> StorageInfo {
        self.handle().info()
    }
}

impl Monitor for Crowded {
    fn now(&self) -> Answer<'_, Timestamp> {
        self.write(|handle| handle.now())
    }

    fn skew(&self) -> Answer<'_, Duration> {
        self.write(|handle| handle.skew())
    }

    fn counts(&self) -> Answer<'_, Counts> {
        self.handle().counts()
    }

    fn job(&self, id: JobId) -> Answer<'_, Option<JobRecord>> {
        self.handle().job(id)
    }

    fn history(&self, id: JobId) -> Answer<'_, Vec<HistoryEntry>> {
        self.handle().history(id)
    }

    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage> {
        self.handle().jobs(filter)
    }

    fn queues(&self) -> Answer<'_, Vec<QueueRecord>> {
        self.handle().queues()
    }

    fn kinds(&self) -> Answer<'_, Vec<KindRecord>> {
        self.handle().kinds()
    }

    fn waiting(&self, id: JobId) -> Answer<'_, Option<WaitingRecord>> {
        self.handle().waiting(id)
    }

    fn continuations(&self, on: Antecedent, max: u32) -> Answer<'_, Vec<Continuation>> {
        self.handle().continuations(on, max)
    }

    fn batch(&self, id: BatchId) -> Answer<'_, Option<BatchRecord>> {
        self.handle().batch(id)
    }

    fn batches(&self, filter: BatchFilter) -> Answer<'_, BatchPage> {
        self.handle().batches(filter)
    }

    fn recurring(&self, id: RecurringId) -> Answer<'_, Option<RecurringRecord>> {
        self.handle().recurring(id)
    }

    fn recurring_jobs(&self, filter: RecurringFilter) -> Answer<'_, RecurringPage> {
        self.handle().recurring_jobs(filter)
    }

    fn runs(&self, id: RecurringId, max: u32) -> Answer<'_, Vec<RunRecord>> {
        self.handle().runs(id, max)
    }

    fn limits(&self) -> Answer<'_, Vec<LimitRecord>> {
        self.handle().limits()
    }

    fn limit_keys(&self, limit: LimitName) -> Answer<'_, Vec<KeyRecord>> {
        self.handle().limit_keys(limit)
    }

    fn locks(&self) -> Answer<'_, Vec<LockRecord>> {
        self.handle().locks()
    }

    fn notes(&self, id: JobId) -> Answer<'_, NotesRecord> {
        self.handle().notes(id)
    }

    fn log(&self, id: JobId, after: Option<Cursor>, max: u32) -> Answer<'_, LogPage> {
        self.handle().log(id, after, max)
    }

    fn servers(&self) -> Answer<'_, Vec<ServerRecord>> {
        self.handle().servers()
    }

    fn statistics(&self, bucket: Bucket, since: Timestamp) -> Answer<'_, Vec<StatisticsRecord>> {
        self.handle().statistics(bucket, since)
    }
}
