//! Where a case plays: a storage of its own, and short words for what cases do to it.

mod recurring;
mod ties;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portfire_core::{
    Action, Cause, Change, Changed, ClaimRequest, Cleaned, Client, Counts, Created, CycleRequest,
    Expect, HistoryEntry, JobFilter, JobId, JobRecord, Json, KindName, NewJob, Outcome, Promoted,
    QueueName, QueueRecord, RescueRequest, Rescued, ServerId, ServerRecord, StateName, Storage,
    Timestamp, When,
};

use crate::fixture::{Fixture, Fixtures};
use crate::server::Server;

pub use recurring::{at, cron, every, name, recurring};
pub use ties::{ids, limit, numbers, under};

/// The lease of a server that says nothing else.
pub const LEASE: Duration = Duration::from_secs(30);

/// A day, after which succeeded and deleted jobs expire.
pub const DAY: Duration = Duration::from_secs(86_400);

/// So many seconds.
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A queue name that is known to be legal.
pub fn queue(name: &'static str) -> QueueName {
    QueueName::new(name).expect("a legal queue name")
}

/// A kind that is known to be legal.
pub fn kind(name: &'static str) -> KindName {
    KindName::new(name).expect("a legal kind")
}

/// JSON text that is known to be well formed.
pub fn json(text: &str) -> Json {
    Json::from_bytes(text.as_bytes().to_vec()).expect("well-formed JSON")
}

/// A case's own storage. Clones see the same one.
#[derive(Clone)]
pub struct Stage {
    fixtures: Fixtures,
    fixture: Arc<dyn Fixture>,
    /// Another handle on the same data, when this stage is not the first.
    handle: Option<Arc<dyn Storage>>,
    ids: Arc<AtomicU64>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("storage", &self.storage()).finish_non_exhaustive()
    }
}

/// Making things and moving time.
impl Stage {
    /// A stage on a fresh storage.
    pub async fn new(fixtures: Fixtures) -> Stage {
        let fixture = fixtures.make().await;
        Stage { fixtures, fixture, handle: None, ids: Arc::new(AtomicU64::new(1)) }
    }

    /// The storage, to call it directly.
    pub fn storage(&self) -> Arc<dyn Storage> {
        self.handle.clone().unwrap_or_else(|| self.fixture.storage())
    }

    /// A client of the storage.
    pub fn client(&self) -> Client {
        Client::new(self.storage())
    }

    /// Another fresh storage, as a second application would have.
    pub async fn elsewhere(&self) -> Stage {
        let fixture = self.fixtures.make().await;
        Stage { fixture, handle: None, ..self.clone() }
    }

    /// The same data through a handle of its own, as another process would see it.
    pub async fn second(&self) -> Stage {
        Stage { handle: Some(self.fixture.second().await), ..self.clone() }
    }

    /// Closes the storage and opens it again on the same data.
    pub async fn reopen(&self) {
        self.fixture.reopen().await;
    }

    /// Moves storage time forward.
    pub async fn advance(&self, by: Duration) {
        self.fixture.advance(by).await;
    }

    /// Moves the host's clock back.
    pub async fn set_clock_back(&self, by: Duration) {
        self.fixture.set_clock_back(by).await;
    }

    /// How far storage time is ahead of the clock.
    pub async fn skew(&self) -> Duration {
        self.storage().skew().await.expect("the storage tells it")
    }

    /// The present in storage time.
    pub async fn now(&self) -> Timestamp {
        self.storage().now().await.expect("the time is told")
    }

    /// A fresh id, later than all before it.
    pub fn id(&self) -> JobId {
        let n = self.ids.fetch_add(1, Ordering::Relaxed);
        let base = 1_700_000_000_000_000;
        JobId::from_parts(Timestamp::from_micros(base + n as i64 * 1_000), u128::from(n))
    }

    /// A job of kind `probe` for the default queue.
    pub fn new_job(&self) -> NewJob {
        NewJob::new(self.id(), kind("probe"), Json::empty())
    }

    /// Several of them.
    pub fn new_jobs(&self, n: usize) -> Vec<NewJob> {
        (0..n).map(|_| self.new_job()).collect()
    }

    /// A job for this queue.
    pub fn new_job_in(&self, name: &'static str) -> NewJob {
        let mut job = self.new_job();
        job.queue = queue(name);
        job
    }

    /// A server with the usual lease, announced.
    pub async fn server(&self, name: &str) -> Server {
        self.server_with_lease(name, LEASE).await
    }

    /// A server with this lease, announced.
    pub async fn server_with_lease(&self, name: &str, lease: Duration) -> Server {
        let server = Server::new(self.clone(), name, lease);
        server.announce().await.expect("a new server is taken");
        server
    }

    /// Waits until a hint is heard, as long as the fixture says that one may take.
    ///
    /// # Panics
    /// When none comes.
    pub async fn heard<T>(&self, hint: impl Future<Output = T>, of: &str) -> T {
        let max = self.fixture.hint_max();
        match tokio::time::timeout(max, hint).await {
            Ok(heard) => heard,
            Err(_) => panic!("nothing was heard of {of} within {max:?}"),
        }
    }

    /// Lets the usual lease of every server lapse.
    pub async fn lapse(&self) {
        self.advance(LEASE + secs(1)).await;
    }
}

/// Writing.
impl Stage {
    /// Stores jobs.
    pub async fn create(&self, jobs: Vec<NewJob>) -> Vec<Created> {
        self.storage().create(jobs).await.expect("the jobs are stored")
    }

    /// Stores a job.
    pub async fn create_one(&self, job: NewJob) -> JobId {
        self.create(vec![job]).await[0].id
    }

    /// Stores so many jobs in the default queue, in one call.
    pub async fn enqueue(&self, n: usize) -> Vec<JobId> {
        self.create(self.new_jobs(n)).await.into_iter().map(|created| created.id).collect()
    }

    /// Stores a job in the default queue.
    pub async fn enqueue_one(&self) -> JobId {
        self.create_one(self.new_job()).await
    }

    /// Stores a job in this queue.
    pub async fn enqueue_in(&self, queue: &'static str) -> JobId {
        self.create_one(self.new_job_in(queue)).await
    }

    /// Stores a job in the default queue with this rank.
    pub async fn enqueue_ranked(&self, priority: i16) -> JobId {
        let mut job = self.new_job();
        job.priority = priority;
        self.create_one(job).await
    }

    /// Stores a job that is to run later.
    pub async fn schedule(&self, when: impl Into<When>) -> JobId {
        let mut job = self.new_job();
        job.when = when.into();
        self.create_one(job).await
    }

    /// Applies one change.
    pub async fn change(&self, job: JobId, action: Action) -> Changed {
        self.change_if(job, action, None).await
    }

    /// Applies one change when something holds.
    pub async fn change_if(&self, job: JobId, action: Action, expect: Option<Expect>) -> Changed {
        let changes = vec![Change { job, action, expect }];
        let changed = self.storage().change(changes).await.expect("the change is answered");
        assert_eq!(changed.len(), 1, "one answer for each change");
        changed[0]
    }

    /// Asks for another run.
    pub async fn requeue(&self, job: JobId) -> Changed {
        self.change(job, Action::Requeue).await
    }

    /// Takes a job out.
    pub async fn delete(&self, job: JobId) -> Changed {
        self.change(job, Action::Delete { reason: "not wanted".into() }).await
    }

    /// Moves a job to an instant.
    pub async fn reschedule(&self, job: JobId, when: impl Into<When>) -> Changed {
        self.change(job, Action::Reschedule(when.into())).await
    }

    /// Promotes everything that is due.
    pub async fn promote(&self) -> Promoted {
        self.storage().promote(10_000).await.expect("promoted")
    }

    /// Rescues with the default bounds.
    pub async fn rescue(&self) -> Rescued {
        self.rescue_with(RescueRequest::default()).await
    }

    /// Rescues with these bounds.
    pub async fn rescue_with(&self, request: RescueRequest) -> Rescued {
        self.storage().rescue(request).await.expect("rescued")
    }

    /// Cleans up to `max` jobs.
    pub async fn clean(&self, max: u32) -> Cleaned {
        self.storage().clean(max).await.expect("cleaned")
    }

    /// Pauses or resumes a queue.
    pub async fn pause(&self, name: &'static str, paused: bool) {
        self.storage().set_queue_paused(queue(name), paused).await.expect("paused or resumed");
    }

    /// Brings a new job into a state, in the shortest way; `None` when nothing leads there.
    ///
    /// A job that is awaiting waits for the seal of a batch of its own. One that is processing is held
    /// by a server of its own with a lease of a year.
    pub async fn job_in(&self, state: StateName) -> Option<JobId> {
        let mut job = self.new_job();
        let id = job.id;
        // A queue of its own, so that the claim below takes this job and no other.
        job.queue = QueueName::new(format!("walk-{id}")).expect("a legal queue name");
        let claim = Some(ClaimRequest { queues: vec![job.queue.clone()], max: 1, aging: None });
        if state == StateName::Scheduled {
            job.when = When::In(secs(3_600));
        }
        if state == StateName::Awaiting {
            let batch = self.new_open_batch();
            job.ties.batch = Some(batch.id);
            self.store(vec![batch], vec![job]).await;
            return Some(id);
        }
        self.create_one(job).await;
        let outcome = match state {
            StateName::Scheduled | StateName::Awaiting | StateName::Enqueued => return Some(id),
            StateName::Deleted => {
                let _ = self.delete(id).await;
                return Some(id);
            }
            StateName::Processing => None,
            StateName::Succeeded => Some(Outcome::Succeeded { result: None }),
            StateName::Failed => Some(Outcome::Failed { error: crate::server::error() }),
        };
        let server = self.server_with_lease(&format!("walker-{id}"), 365 * DAY).await;
        let claimed = server.cycle(CycleRequest { claim, ..server.request() }).await.claimed;
        assert_eq!(claimed[0].claim.job, id, "the only job of its queue");
        if let Some(outcome) = outcome {
            server.finish(claimed[0].claim, outcome).await;
        }
        assert_eq!(self.state(id).await, state);
        Some(id)
    }
}

/// Reading.
impl Stage {
    /// The job, if it is stored.
    pub async fn find(&self, job: JobId) -> Option<JobRecord> {
        self.storage().job(job).await.expect("the job is read")
    }

    /// The job.
    pub async fn record(&self, job: JobId) -> JobRecord {
        self.find(job).await.unwrap_or_else(|| panic!("job {job} is not stored"))
    }

    /// Where the job stands.
    pub async fn state(&self, job: JobId) -> StateName {
        self.record(job).await.state.name()
    }

    /// The job's history.
    pub async fn history(&self, job: JobId) -> Vec<HistoryEntry> {
        self.storage().history(job).await.expect("the history is read")
    }

    /// What moved the job, step by step.
    pub async fn causes(&self, job: JobId) -> Vec<Cause> {
        self.history(job).await.into_iter().map(|entry| entry.cause).collect()
    }

    /// The counters.
    pub async fn counts(&self) -> Counts {
        self.storage().counts().await.expect("the counters are read")
    }

    /// The queue, if it ever had a job or was paused.
    pub async fn queue(&self, name: &str) -> Option<QueueRecord> {
        let queues = self.storage().queues().await.expect("the queues are read");
        queues.into_iter().find(|queue| queue.name.as_str() == name)
    }

    /// The server, if it is listed.
    pub async fn server_record(&self, id: &ServerId) -> Option<ServerRecord> {
        let servers = self.storage().servers().await.expect("the servers are read");
        servers.into_iter().find(|server| server.id == *id)
    }

    /// Every job that the filter lets through, page by page, in the order of the pages.
    pub async fn list(&self, filter: JobFilter) -> Vec<JobRecord> {
        let mut filter = filter;
        let mut found = Vec::new();
        // More pages than any case has jobs: a cursor that does not go on is a fault, not a hang.
        for _ in 0..50_000 {
            let page = self.storage().jobs(filter.clone()).await.expect("the page is read");
            assert!(page.jobs.len() <= filter.page_size(), "a page is at most as large as asked");
            found.extend(page.jobs);
            let Some(next) = page.next else { return found };
            filter.after = Some(next);
        }
        panic!("the pages have no end");
    }

    /// The ids of the jobs that the filter lets through.
    pub async fn list_ids(&self, filter: JobFilter) -> Vec<JobId> {
        self.list(filter).await.into_iter().map(|job| job.id).collect()
    }

    /// Every stored job.
    pub async fn everything(&self) -> Vec<JobRecord> {
        self.list(JobFilter { max: portfire_core::monitor::PAGE_MAX, ..JobFilter::default() }).await
    }

    /// Asserts how many jobs the counters say stand in a state.
    pub async fn expect_count(&self, state: StateName, n: u64) {
        assert_eq!(self.counts().await.of(state), n, "jobs that are {state}");
    }

    /// Jobs by state, counted one by one.
    pub fn recount(jobs: &[JobRecord]) -> BTreeMap<StateName, u64> {
        let mut states = BTreeMap::new();
        for job in jobs {
            *states.entry(job.state.name()).or_insert(0) += 1;
        }
        states
    }
}
