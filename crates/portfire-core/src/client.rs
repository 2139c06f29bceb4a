//! The client: creates jobs and steers them. Processes that only enqueue need nothing else.
//!
//! What is more than one call has a builder of its own: [`ContinueWith`], [`Batch`], [`Recurring`],
//! [`Lock`].

mod batch;
mod blocking;
mod builder;
mod continuation;
mod error;
mod ids;
mod lock;
mod queue;
mod recurring;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::batch::{BatchChange, BatchChanged, BatchId, BatchRecord, NewBatch};
use crate::call::{AnyCall, Call, Enqueue, JobFn};
use crate::clock::Clock;
use crate::continuation::{After, Antecedent};
use crate::error::StorageError;
use crate::job::{InvalidJob, JobId, NewJob, When};
use crate::limit::{LimitRule, LimitTarget};
use crate::recurring::Schedule;
use crate::state::{JobRecord, StateName};
use crate::storage::{Action, BATCH_MAX, Change, Changed, Created, Expect, Storage};

pub use batch::{Batch, BatchHandle};
pub use blocking::{BlockingClient, BlockingRecurringJob, block_on};
pub use builder::ClientBuilder;
pub use continuation::ContinueWith;
pub use error::ClientError;
pub use lock::{Lock, LockGuard};
pub use recurring::{Recurring, RecurringJob, Upserted};

use builder::Repeats;
use ids::IdSource;

/// Creates jobs and steers them. Cheap to clone; all clones share the storage.
///
/// Every method returns once its effect is durable.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// The trace context of jobs that name none and of which the source of the builder knows none.
    traceparent: Option<Arc<str>>,
}

struct Inner {
    storage: Arc<dyn Storage>,
    filters: Vec<Arc<dyn ClientFilter>>,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    traceparent: Option<TraceSource>,
    repeats: Option<Repeats>,
}

/// Tells the W3C trace context of the caller.
type TraceSource = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Looks at jobs before and after they are stored (Hangfire's client filter).
pub trait ClientFilter: Send + Sync + 'static {
    /// May change the job, or refuse it with a reason. Called before anything is stored.
    ///
    /// # Errors
    /// The reason for which the job is not to be stored.
    fn creating(&self, job: &mut NewJob) -> Result<(), String> {
        let _ = job;
        Ok(())
    }

    /// Hears of a job that was stored, after the commit.
    fn created(&self, job: &NewJob, created: Created) {
        let _ = (job, created);
    }
}

impl Client {
    /// A client of this storage.
    pub fn new(storage: Arc<dyn Storage>) -> Client {
        Client::builder(storage).build()
    }

    /// A client with filters, or with its own source of ids.
    pub fn builder(storage: Arc<dyn Storage>) -> ClientBuilder {
        ClientBuilder::new(storage)
    }

    /// The same client, whose jobs belong to this W3C trace context unless their call, or the source of
    /// [`ClientBuilder::traceparent`], names another. The client of a running job is such a one.
    #[must_use]
    pub fn with_traceparent(&self, traceparent: impl Into<Arc<str>>) -> Client {
        Client { inner: Arc::clone(&self.inner), traceparent: Some(traceparent.into()) }
    }

    /// The storage.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.inner.storage
    }

    /// Stores a call, or a [`Chain`](crate::Chain) in one commit. A server with a free worker usually
    /// starts it within a millisecond; without one it waits, for as long as it takes.
    ///
    /// Answers the id of the job; of a chain that of the last one. When another job holds the call's
    /// [unique key](Call::unique), nothing is stored and the answer is the id of that job; in a chain the
    /// next call waits for that job then.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a mistake in the call, also when it is to run
    /// [after](Call::after) something that is not stored: nothing is stored.
    /// [`ClientError::Storage`] when the write failed; [`ClientError::Unanswered`] when the job may be stored, because the
    /// connection broke, say. That names the id: give it to the [call](Call::id) to repeat it safely, or have the client
    /// [repeat](ClientBuilder::repeat) by itself.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the job either stored or not; never half.
    pub async fn enqueue(&self, call: impl Enqueue) -> Result<JobId, ClientError> {
        let mut jobs = Vec::with_capacity(1);
        self.jobs_of(call, None, &mut jobs)?;
        self.create_and_name_last(jobs).await
    }

    /// As [`enqueue`](Self::enqueue), and tells whether the job was there before: because it has the id
    /// or holds the unique key of the call. Of a chain it tells of the last job.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_unique(&self, call: impl Enqueue) -> Result<Created, ClientError> {
        let mut jobs = Vec::with_capacity(1);
        self.jobs_of(call, None, &mut jobs)?;
        self.create_chain(jobs).await
    }

    /// Stores a call to run later: after a `Duration`, or at a `SystemTime` or
    /// [`Timestamp`](crate::Timestamp). An instant that is past means now. Of a chain this is about the
    /// first call.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); an instant beyond the year 9999 is
    /// [`InvalidJob::Delay`].
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue).
    pub async fn schedule(
        &self,
        mut call: impl Enqueue,
        when: impl Into<When>,
    ) -> Result<JobId, ClientError> {
        call.head().when = when.into();
        self.enqueue(call).await
    }

    /// Stores many calls in one commit: all or none. They keep their order. The answers are those of
    /// [`enqueue`](Self::enqueue).
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue). More than 10,000 jobs are stored in several commits, in order;
    /// an error then means that a beginning of them may be stored.
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue), for each commit.
    pub async fn enqueue_many<E: Enqueue>(
        &self,
        calls: impl IntoIterator<Item = E>,
    ) -> Result<Vec<JobId>, ClientError> {
        self.enqueue_all(calls, None).await
    }

    /// Stores a call that runs after a job or a batch: after its success, unless
    /// [`on`](ContinueWith::on) says otherwise. Awaiting what this returns stores it.
    ///
    /// The parent may have ended already, or may be ending right now: then its end decides at once. When
    /// it ended, or ends, otherwise, the continuation is deleted.
    ///
    /// ```
    /// # use portfire_core::{After, Call, Client, ClientError, JobFn};
    /// # struct job;
    /// # impl JobFn for job { const KIND: &'static str = "job"; type Output = (); }
    /// # async fn f(client: Client, welcome: fn(u64) -> Call<job>, audit: fn(&str) -> Call<job>) -> Result<(), ClientError> {
    /// let id = client.enqueue(welcome(42)).await?;
    /// client.continue_with(id, audit("welcomed")).await?;
    /// client.continue_with(id, audit("not welcomed")).on(After::Failure).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// For several parents name them in the call: `merge().after(left).after(right)`.
    pub fn continue_with<E: Enqueue>(
        &self,
        parent: impl Into<Antecedent>,
        call: E,
    ) -> ContinueWith<E> {
        let (parent, after) = (parent.into(), After::Success);
        ContinueWith { client: self.clone(), parent, after, what: call }
    }

    /// A batch in the making: see [`Batch`]. The description is for people: at most 200 bytes.
    pub fn batch<'a>(&self, description: impl Into<String>) -> Batch<'a, Client> {
        Batch::with(self.clone(), description.into())
    }

    /// The batch of this id, to add members, to watch and to cancel it.
    pub fn batch_handle(&self, batch: BatchId) -> BatchHandle {
        BatchHandle::new(self.clone(), batch)
    }

    /// Adds a member to a batch: see [`BatchHandle::add`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn add_to_batch(
        &self,
        batch: BatchId,
        call: impl Enqueue,
    ) -> Result<JobId, ClientError> {
        self.batch_handle(batch).add(call).await
    }

    /// Cancels a batch with all that is in it: from now on no member starts, and those that run are asked
    /// to stop. One write, however many members there are.
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the write failed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it cancelled or not.
    pub async fn cancel_batch(&self, batch: BatchId) -> Result<BatchChanged, ClientError> {
        let reason = "cancelled by a client".to_owned();
        Ok(self.inner.storage.change_batch(batch, BatchChange::Cancel { reason }).await?)
    }

    /// Everything about a batch; `None` when it is not stored (any more).
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the read failed.
    pub async fn batch_record(&self, batch: BatchId) -> Result<Option<BatchRecord>, ClientError> {
        Ok(self.inner.storage.batch(batch).await?)
    }

    /// A recurring job in the making: see [`Recurring`]. Its name has 1 to 128 characters. The schedule is
    /// a cron text, `cron!("0 8 * * *")`, a `Duration`, or a [`Schedule`].
    pub fn recurring<J: JobFn>(
        &self,
        id: &str,
        schedule: impl Into<Schedule>,
        call: Call<J>,
    ) -> Recurring<Client> {
        Recurring::with(self.clone(), id, schedule.into(), call)
    }

    /// The recurring job of this name, to trigger, pause, watch and remove it.
    pub fn recurring_job(&self, id: &str) -> RecurringJob {
        RecurringJob::new(self.clone(), id)
    }

    /// Sets what a limit allows, at once and whatever the code declares; `None` hands it back to the code.
    /// Raising it wakes those who wait.
    ///
    /// ```
    /// # use portfire_core::{Client, ClientError, LimitName, LimitRule, LimitTarget};
    /// # async fn f(client: Client) -> Result<(), ClientError> {
    /// let mail = LimitTarget::Named(LimitName::new("mail")?);
    /// client.set_limit(mail, LimitRule::concurrency(5)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a rule that breaks a bound, such as a concurrency of 0;
    /// [`ClientError::Storage`] when the write failed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it set or not.
    pub async fn set_limit(
        &self,
        target: LimitTarget,
        rule: impl Into<Option<LimitRule>>,
    ) -> Result<(), ClientError> {
        Ok(self.inner.storage.set_limit(target, rule.into()).await?)
    }

    /// A lock that is to be taken: see [`Lock`]. Its name is any text of 1 to 255 bytes.
    pub fn lock(&self, name: impl Into<String>) -> Lock {
        Lock::new(self.clone(), name.into())
    }

    /// Stores jobs that were put together by hand, all or none, through the filters.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue).
    pub async fn create(&self, jobs: Vec<NewJob>) -> Result<Vec<Created>, ClientError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        self.create_batches(Vec::new(), jobs).await
    }

    /// As [`create`](Self::create), with batches before the jobs.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue).
    pub async fn create_batches(
        &self,
        batches: Vec<NewBatch>,
        mut jobs: Vec<NewJob>,
    ) -> Result<Vec<Created>, ClientError> {
        self.complete(&mut jobs)?;
        let heard = (!self.inner.filters.is_empty()).then(|| jobs.clone());
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let created = self.store(batches, jobs).await;
        let created = created.map_err(|error| ClientError::of_create(error, ids))?;
        for (job, &created) in heard.iter().flatten().zip(&created) {
            self.inner.filters.iter().for_each(|filter| filter.created(job, created));
        }
        Ok(created)
    }

    /// Stores jobs and batches, and repeats that as the builder says.
    async fn store(
        &self,
        batches: Vec<NewBatch>,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Created>, StorageError> {
        let storage = &self.inner.storage;
        let create = |batches: Vec<NewBatch>, jobs| match batches.is_empty() {
            true => storage.create(jobs),
            false => storage.create_batches(batches, jobs),
        };
        let Some(repeats) = &self.inner.repeats else { return create(batches, jobs).await };
        for attempt in 1..repeats.attempts {
            match create(batches.clone(), jobs.clone()).await {
                Err(StorageError::Unavailable(_)) => {
                    let wait = repeats.wait(attempt, self.random());
                    (repeats.sleep)(wait).await;
                }
                answer => return answer,
            }
        }
        create(batches, jobs).await
    }

    /// Makes the job that a call would store, through the filters, without storing it: for storages
    /// that write it in a transaction of the user's.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] and [`ClientError::Refused`].
    pub fn prepare<J: JobFn>(&self, call: Call<J>) -> Result<NewJob, ClientError> {
        let mut jobs = [call.into_new_job(|| self.next_id())?];
        self.complete(&mut jobs)?;
        let [job] = jobs;
        Ok(job)
    }

    /// Stores a call in a transaction of the user's own, on the same database: the job exists when
    /// that transaction commits, and never when it does not. The transaction type comes from the
    /// storage's crate, for instance `rusqlite::Transaction` from `portfire-sqlite`. The settings of this client's storage
    /// (retention, largest args, clock) hold there, too.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); the user's transaction stays open.
    ///
    /// # Cancel safety
    /// As the transaction's.
    pub async fn enqueue_in<S: 'static, T: CreateIn<S> + ?Sized>(
        &self,
        transaction: &mut T,
        call: impl Enqueue,
    ) -> Result<JobId, ClientError> {
        let mut jobs = Vec::with_capacity(1);
        self.jobs_of(call, None, &mut jobs)?;
        self.complete(&mut jobs)?;
        let Some(last) = jobs.last().map(|job| job.id) else { return Err(nothing()) };
        let storage: &dyn Any = &*self.inner.storage;
        let created = transaction.create_in(storage.downcast_ref::<S>(), jobs).await?;
        Ok(created.last().map_or(last, |created| created.id))
    }

    /// Runs a job again, at the end of its queue: a final one anew, a scheduled one at once.
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the write failed.
    pub async fn requeue(&self, job: JobId) -> Result<Changed, ClientError> {
        self.change_one(job, Action::Requeue, None).await
    }

    /// Takes a job out. When it runs, its token is cancelled and its result will not count.
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the write failed.
    pub async fn delete(&self, job: JobId) -> Result<Changed, ClientError> {
        let reason = "deleted by a client".to_owned();
        self.change_one(job, Action::Delete { reason }, None).await
    }

    /// Moves a job to another instant.
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the write failed or the instant lies beyond the year 9999.
    pub async fn reschedule(
        &self,
        job: JobId,
        when: impl Into<When>,
    ) -> Result<Changed, ClientError> {
        self.change_one(job, Action::Reschedule(when.into()), None).await
    }

    /// Changes a job only while it is in one of these states (Hangfire's `fromState`).
    ///
    /// ```no_run
    /// # async fn f(client: portfire_core::Client, id: portfire_core::JobId) -> Result<(), portfire_core::ClientError> {
    /// use portfire_core::{Action, StateName};
    /// let changed = client.change_if(id, Action::Requeue, [StateName::Failed]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the write failed.
    pub async fn change_if(
        &self,
        job: JobId,
        action: Action,
        states: impl IntoIterator<Item = StateName>,
    ) -> Result<Changed, ClientError> {
        let expect = Expect::States(states.into_iter().collect());
        self.change_one(job, action, Some(expect)).await
    }

    /// Applies many changes in one commit, each on its own.
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the write failed.
    pub async fn change(&self, changes: Vec<Change>) -> Result<Vec<Changed>, ClientError> {
        Ok(self.inner.storage.change(changes).await?)
    }

    /// Everything about a job; `None` when it is not stored (any more).
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the read failed.
    pub async fn job(&self, job: JobId) -> Result<Option<JobRecord>, ClientError> {
        Ok(self.inner.storage.job(job).await?)
    }

    /// The same client for code without a runtime: its methods wait by blocking the thread.
    pub fn blocking(&self) -> BlockingClient<'_> {
        BlockingClient::new(self)
    }

    /// A fresh id, later than all that this client made before.
    pub fn next_id(&self) -> JobId {
        self.inner.ids.next(self.inner.clock.now())
    }

    /// As [`next_id`](Self::next_id), for a batch.
    pub fn next_batch_id(&self) -> BatchId {
        BatchId::new(self.next_id())
    }

    fn random(&self) -> u64 {
        self.inner.ids.random()
    }

    /// Adds the jobs of what is to be enqueued, as members of a batch if there is one.
    fn jobs_of(
        &self,
        what: impl Enqueue,
        batch: Option<BatchId>,
        jobs: &mut Vec<NewJob>,
    ) -> Result<(), InvalidJob> {
        let (mut previous, mut mistake) = (None, None);
        what.for_each_call(&mut |call: AnyCall| {
            if mistake.is_some() {
                return;
            }
            match call.into_new_job(|| self.next_id(), previous) {
                Ok(mut job) => {
                    job.ties.batch = batch;
                    previous = Some(job.id);
                    jobs.push(job);
                }
                Err(refusal) => mistake = Some(refusal),
            }
        });
        mistake.map_or(Ok(()), Err)
    }

    /// Stores what [`jobs_of`](Self::jobs_of) made of one thing to enqueue.
    async fn create_chain(&self, jobs: Vec<NewJob>) -> Result<Created, ClientError> {
        let created = self.create(jobs).await?;
        created.last().copied().ok_or_else(nothing)
    }

    async fn create_and_name_last(&self, jobs: Vec<NewJob>) -> Result<JobId, ClientError> {
        Ok(self.create_chain(jobs).await?.id)
    }

    async fn enqueue_all<E: Enqueue>(
        &self,
        calls: impl IntoIterator<Item = E>,
        batch: Option<BatchId>,
    ) -> Result<Vec<JobId>, ClientError> {
        // Which job answers for each call: of a chain the last.
        let (mut jobs, mut last) = (Vec::new(), Vec::new());
        for call in calls {
            self.jobs_of(call, batch, &mut jobs)?;
            last.push(jobs.len().saturating_sub(1));
        }
        let mut ids = Vec::with_capacity(jobs.len());
        while !jobs.is_empty() {
            let rest = jobs.split_off(jobs.len().min(BATCH_MAX));
            let created = self.create(std::mem::replace(&mut jobs, rest)).await?;
            ids.extend(created.into_iter().map(|created| created.id));
        }
        Ok(last.into_iter().filter_map(|at| ids.get(at).copied()).collect())
    }

    async fn change_one(
        &self,
        job: JobId,
        action: Action,
        expect: Option<Expect>,
    ) -> Result<Changed, ClientError> {
        let changed = self.inner.storage.change(vec![Change { job, action, expect }]).await?;
        Ok(changed.first().copied().unwrap_or(Changed::Missing))
    }

    fn complete(&self, jobs: &mut [NewJob]) -> Result<(), ClientError> {
        for job in &mut *jobs {
            if job.options.traceparent.is_none() {
                job.options.traceparent = self.present_traceparent();
            }
        }
        self.filter(jobs)
    }

    fn filter(&self, jobs: &mut [NewJob]) -> Result<(), ClientError> {
        for job in jobs {
            for filter in &self.inner.filters {
                filter.creating(job).map_err(|reason| ClientError::Refused { reason })?;
            }
        }
        Ok(())
    }
}

impl Client {
    fn present_traceparent(&self) -> Option<String> {
        let told = self.inner.traceparent.as_ref().and_then(|source| source());
        told.or_else(|| self.traceparent.as_deref().map(str::to_owned))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("storage", &self.inner.storage).finish_non_exhaustive()
    }
}

/// A transaction of the user's own that takes jobs. Implemented by the SQL storages' crates.
///
/// `S` is the storage of that crate. It makes the implementation belong to that crate although the
/// transaction's type comes from a driver; the compiler finds it, callers never name it.
pub trait CreateIn<S> {
    /// Writes the jobs as [`Storage::create`] does, in this transaction. `storage` is that of the client, whose settings
    /// hold; with another storage, or one that another storage stands before, it is `None`, and defaults hold.
    fn create_in(
        &mut self,
        storage: Option<&S>,
        jobs: Vec<NewJob>,
    ) -> impl Future<Output = Result<Vec<Created>, StorageError>>;
}

/// An error for what stood for no job at all.
fn nothing() -> ClientError {
    ClientError::Storage(StorageError::Corrupt("a create without an answer".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_context_is_the_calls_then_the_sources_then_the_inherited_one() {
        let job = |client: &Client, own: Option<&str>| {
            let kind = crate::job::KindName::stored("k");
            let mut job = NewJob::new(client.next_id(), kind, crate::job::Json::empty());
            job.options.traceparent = own.map(str::to_owned);
            let mut jobs = [job];
            client.complete(&mut jobs).unwrap();
            jobs[0].options.traceparent.clone()
        };
        let storage: Arc<dyn Storage> = Arc::new(crate::memory::MemoryStorage::new());
        let plain = Client::new(Arc::clone(&storage));
        assert_eq!(job(&plain, None), None);
        let heir = plain.with_traceparent("inherited");
        assert_eq!(job(&heir, None).as_deref(), Some("inherited"));
        assert_eq!(job(&heir, Some("own")).as_deref(), Some("own"));
        let told = Client::builder(storage).traceparent(|| Some("told".to_owned())).build();
        assert_eq!(job(&told.with_traceparent("inherited"), None).as_deref(), Some("told"));
    }
}
