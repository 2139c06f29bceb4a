//! Short words for jobs that are tied: continuations, batches, unique keys, limits and locks.

use std::time::Duration;

use portfire_core::{
    After, Antecedent, BatchChange, BatchChanged, BatchFilter, BatchId, BatchRecord, BatchState,
    Conflict, Continuation, Created, Dependency, InvalidJob, JobId, JobState, KeyRecord, LimitName,
    LimitRule, LimitTarget, LimitUse, LockAnswer, LockRequest, NewBatch, NewJob, Progression,
    Promoted, StorageError, UniqueKey, UniqueScope, WaitingRecord,
};

use super::Stage;

/// A limit's name that is known to be legal.
pub fn limit(name: &'static str) -> LimitName {
    LimitName::new(name).expect("a legal name of a limit")
}

/// The use of a limit, without a partition and without a rule of its own.
pub fn under(name: &'static str) -> LimitUse {
    LimitUse { limit: limit(name), partition: String::new(), declared: None }
}

/// Members of a batch by where they stand: total, pending, succeeded, failed, deleted.
pub fn numbers(members: &Progression) -> [u64; 5] {
    [members.total, members.pending, members.succeeded, members.failed, members.deleted]
}

/// The ids of what was created.
pub fn ids(created: &[Created]) -> Vec<JobId> {
    created.iter().map(|created| created.id).collect()
}

/// Jobs that wait for others.
impl Stage {
    /// A job of the default queue that waits for these.
    pub fn new_after(&self, after: impl IntoIterator<Item = Dependency>) -> NewJob {
        let mut job = self.new_job();
        job.ties.after = after.into_iter().collect();
        job
    }

    /// Stores a job that waits for one end of another job or of a batch.
    pub async fn continue_on(&self, on: impl Into<Antecedent>, after: After) -> JobId {
        self.create_one(self.new_after([Dependency::on(on).after(after)])).await
    }

    /// Stores a job that waits for the success of another job or of a batch.
    pub async fn continue_with(&self, on: impl Into<Antecedent>) -> JobId {
        self.continue_on(on, After::Success).await
    }

    /// Stores so many jobs in one call that wait for the success of another job or of a batch.
    pub async fn continue_many(&self, on: impl Into<Antecedent>, n: usize) -> Vec<JobId> {
        let on = on.into();
        let jobs = (0..n).map(|_| self.new_after([Dependency::on(on)])).collect();
        ids(&self.create(jobs).await)
    }

    /// How many things the job waits for still; 0 when it is not awaiting.
    pub async fn pending(&self, job: JobId) -> u32 {
        match self.record(job).await.state {
            JobState::Awaiting { pending } => pending,
            _ => 0,
        }
    }

    /// Why the job was deleted.
    pub async fn reason(&self, job: JobId) -> String {
        match self.record(job).await.state {
            JobState::Deleted { reason, .. } => reason,
            state => panic!("job {job} is not deleted: {state:?}"),
        }
    }

    /// The jobs that wait or waited for an end.
    pub async fn continuations(&self, on: impl Into<Antecedent>) -> Vec<Continuation> {
        let all = self.storage().continuations(on.into(), u32::MAX).await;
        all.expect("the continuations are read")
    }

    /// Tries to store new batches and jobs, which must be refused; nothing may be stored then.
    pub async fn refused(&self, batches: Vec<NewBatch>, jobs: Vec<NewJob>) -> InvalidJob {
        let before = self.counts().await;
        let new: Vec<BatchId> = batches.iter().map(|batch| batch.id).collect();
        let new_jobs: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let refused = match self.storage().create_batches(batches, jobs).await {
            Err(StorageError::Invalid(invalid)) => invalid,
            other => panic!("expected a refusal, not {other:?}"),
        };
        assert_eq!(self.counts().await, before, "a refused call changes no counter");
        for batch in new {
            let stored = self.storage().batch(batch).await.expect("the batch is read");
            assert_eq!(stored, None, "a refused call stores no batch");
        }
        for job in new_jobs {
            assert_eq!(self.find(job).await, None, "a refused call stores no job");
        }
        refused
    }

    /// Promotes until nothing is left to do; what all calls did together.
    pub async fn promote_all(&self) -> Promoted {
        let mut all = Promoted::default();
        for _ in 0..1_000 {
            let once = self.promote().await;
            all.promoted += once.promoted;
            all.released += once.released;
            all.next_in = once.next_in;
            if once.next_in != Some(Duration::ZERO) {
                return all;
            }
        }
        panic!("there is always more to promote");
    }
}

/// Batches.
impl Stage {
    /// A batch that may start at once, without members.
    pub fn new_batch(&self) -> NewBatch {
        NewBatch::new(BatchId::new(self.id()))
    }

    /// A batch that takes members until its seal.
    pub fn new_open_batch(&self) -> NewBatch {
        let mut batch = self.new_batch();
        batch.open = true;
        batch
    }

    /// A job that is a member of this batch.
    pub fn new_member(&self, batch: BatchId) -> NewJob {
        let mut job = self.new_job();
        job.ties.batch = Some(batch);
        job
    }

    /// Several of them.
    pub fn new_members(&self, batch: BatchId, n: usize) -> Vec<NewJob> {
        (0..n).map(|_| self.new_member(batch)).collect()
    }

    /// Stores batches and jobs.
    pub async fn store(&self, batches: Vec<NewBatch>, jobs: Vec<NewJob>) -> Vec<Created> {
        let asked = jobs.len();
        let created = self.storage().create_batches(batches, jobs).await;
        let created = created.expect("the batches and jobs are stored");
        assert_eq!(created.len(), asked, "one answer for each job");
        created
    }

    /// Stores a batch of so many members.
    pub async fn batch(&self, members: usize) -> (BatchId, Vec<JobId>) {
        let batch = self.new_batch();
        self.batch_of(batch, members).await
    }

    /// Stores this batch with so many members.
    pub async fn batch_of(&self, batch: NewBatch, members: usize) -> (BatchId, Vec<JobId>) {
        let id = batch.id;
        let jobs = self.new_members(id, members);
        (id, ids(&self.store(vec![batch], jobs).await))
    }

    /// Stores one more member.
    pub async fn add_member(&self, batch: BatchId) -> JobId {
        self.create_one(self.new_member(batch)).await
    }

    /// Everything about a batch.
    pub async fn batch_record(&self, batch: BatchId) -> BatchRecord {
        let found = self.storage().batch(batch).await.expect("the batch is read");
        found.unwrap_or_else(|| panic!("batch {batch} is not stored"))
    }

    /// Where a batch stands.
    pub async fn batch_state(&self, batch: BatchId) -> BatchState {
        self.batch_record(batch).await.state
    }

    /// Its members: total, pending, succeeded, failed, deleted.
    pub async fn members(&self, batch: BatchId) -> [u64; 5] {
        numbers(&self.batch_record(batch).await.members)
    }

    /// Every batch that the filter lets through, page by page.
    pub async fn batches(&self, filter: BatchFilter) -> Vec<BatchRecord> {
        let mut filter = filter;
        let mut found = Vec::new();
        for _ in 0..10_000 {
            let page = self.storage().batches(filter.clone()).await.expect("the page is read");
            found.extend(page.batches);
            let Some(next) = page.next else { return found };
            filter.after = Some(next);
        }
        panic!("the pages have no end");
    }

    /// Ends the building of a batch.
    pub async fn seal(&self, batch: BatchId) -> BatchChanged {
        self.change_batch(batch, BatchChange::Seal).await
    }

    /// Cancels a batch, because it is `enough`.
    pub async fn cancel(&self, batch: BatchId) -> BatchChanged {
        self.change_batch(batch, BatchChange::Cancel { reason: "enough".into() }).await
    }

    /// Changes a batch.
    pub async fn change_batch(&self, batch: BatchId, change: BatchChange) -> BatchChanged {
        self.storage().change_batch(batch, change).await.expect("the batch is changed")
    }
}

/// Unique keys, limits and locks.
impl Stage {
    /// A job with a unique key.
    pub fn new_unique(&self, key: &str, scope: UniqueScope, conflict: Conflict) -> NewJob {
        let mut job = self.new_job();
        job.ties.unique = Some(UniqueKey { key: key.to_owned(), scope, conflict });
        job
    }

    /// Stores a job that holds this key until its end, or is rejected.
    pub async fn create_unique(&self, key: &str) -> Created {
        let job = self.new_unique(key, UniqueScope::UntilFinished, Conflict::Reject);
        self.create(vec![job]).await[0]
    }

    /// A job under these limits.
    pub fn new_limited(&self, limits: impl IntoIterator<Item = LimitUse>) -> NewJob {
        let mut job = self.new_job();
        job.ties.limits = limits.into_iter().collect();
        job
    }

    /// Stores so many jobs under a limit, in one call.
    pub async fn enqueue_under(&self, name: &'static str, n: usize) -> Vec<JobId> {
        let jobs = (0..n).map(|_| self.new_limited([under(name)])).collect();
        ids(&self.create(jobs).await)
    }

    /// Stores so many jobs under a partition of a limit, in one call.
    pub async fn enqueue_for(&self, name: &'static str, partition: &str, n: usize) -> Vec<JobId> {
        let part = |_| {
            let partition = partition.to_owned();
            self.new_limited([LimitUse { partition, ..under(name) }])
        };
        ids(&self.create((0..n).map(part).collect()).await)
    }

    /// Sets a limit that jobs name, or removes it.
    pub async fn set_limit(&self, name: &'static str, rule: Option<LimitRule>) {
        self.set_limit_of(LimitTarget::Named(limit(name)), rule).await;
    }

    /// Sets a limit, or removes it.
    pub async fn set_limit_of(&self, target: LimitTarget, rule: Option<LimitRule>) {
        self.storage().set_limit(target, rule).await.expect("the limit is set");
    }

    /// The keys of a limit that have running or waiting jobs.
    pub async fn limit_keys(&self, name: &'static str) -> Vec<KeyRecord> {
        self.storage().limit_keys(limit(name)).await.expect("the keys are read")
    }

    /// Running and waiting jobs of a limit without partitions.
    pub async fn line(&self, name: &'static str) -> (u64, u64) {
        let keys = self.limit_keys(name).await;
        let key = keys.iter().find(|key| key.key == name);
        key.map_or((0, 0), |key| (key.running, key.waiting))
    }

    /// What holds back a job.
    pub async fn waiting(&self, job: JobId) -> Option<WaitingRecord> {
        self.storage().waiting(job).await.expect("what it waits for is read")
    }

    /// Asks something about a lock.
    pub async fn lock(&self, request: LockRequest) -> LockAnswer {
        self.storage().lock(request).await.expect("the lock is answered")
    }

    /// Asks for a lock.
    pub async fn acquire(&self, name: &str, owner: &str, lease: Duration) -> LockAnswer {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.lock(LockRequest::Acquire { name, owner, lease }).await
    }

    /// Takes a lock that is free; its fence.
    pub async fn hold(&self, name: &str, owner: &str, lease: Duration) -> u64 {
        match self.acquire(name, owner, lease).await {
            LockAnswer::Held { fence, .. } => fence,
            other => panic!("`{name}` was to be free: {other:?}"),
        }
    }

    /// Gives a lock back.
    pub async fn release(&self, name: &str, fence: u64) -> LockAnswer {
        self.lock(LockRequest::Release { name: name.to_owned(), fence }).await
    }

    /// Holds a lock longer.
    pub async fn renew(&self, name: &str, fence: u64, lease: Duration) -> LockAnswer {
        self.lock(LockRequest::Renew { name: name.to_owned(), fence, lease }).await
    }
}
