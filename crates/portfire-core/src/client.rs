//! The client: creates jobs and steers them. Processes that only enqueue need nothing else.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::call::{Call, JobFn};
use crate::clock::{Clock, SystemClock};
use crate::error::StorageError;
use crate::job::{InvalidJob, JobId, NewJob, When};
use crate::state::{JobRecord, StateName};
use crate::storage::{Action, BATCH_MAX, Change, Changed, Created, Expect, Storage};

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
}

/// Tells the W3C trace context of the caller.
type TraceSource = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// A client call that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The call itself is at fault. Nothing was stored.
    #[error(transparent)]
    Invalid(#[from] InvalidJob),
    /// A filter refused the job. Nothing was stored.
    #[error("the job was refused by a filter: {reason}")]
    Refused {
        /// What the filter said.
        reason: String,
    },
    /// The storage did not do it; [`StorageError::is_definite`] tells whether it may have after all.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No global client was set.
    #[error("no global client: call `portfire::set_global(client)` when the program starts")]
    NoGlobal,
}

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
        ClientBuilder {
            storage,
            filters: Vec::new(),
            clock: Arc::new(SystemClock),
            entropy: Box::new(os_random),
            traceparent: None,
        }
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

    /// Stores a call. A server with a free worker usually starts it within a millisecond; without
    /// one it waits, for as long as it takes.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a mistake in the call: nothing is stored.
    /// [`ClientError::Storage`] when the write failed; when the connection broke after the commit the
    /// job may be stored. To repeat safely give the call an [id](Call::id).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the job either stored or not; never half.
    pub async fn enqueue<J: JobFn>(&self, call: Call<J>) -> Result<JobId, ClientError> {
        let job = call.into_new_job(|| self.next_id())?;
        let id = job.id;
        self.create(vec![job]).await?;
        Ok(id)
    }

    /// Stores a call to run later: after a `Duration`, or at a `SystemTime` or
    /// [`Timestamp`](crate::Timestamp). An instant that is past means now.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); an instant beyond the year 9999 is
    /// [`InvalidJob::Delay`].
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue).
    pub async fn schedule<J: JobFn>(
        &self,
        call: Call<J>,
        when: impl Into<When>,
    ) -> Result<JobId, ClientError> {
        self.enqueue(call.delay(when)).await
    }

    /// Stores many calls in one commit: all or none. They keep their order.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue). More than 10,000 calls are stored in several commits, in order;
    /// an error then means that a beginning of them may be stored.
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue), for each commit.
    pub async fn enqueue_many<J: JobFn>(
        &self,
        calls: impl IntoIterator<Item = Call<J>>,
    ) -> Result<Vec<JobId>, ClientError> {
        let jobs: Result<Vec<NewJob>, InvalidJob> =
            calls.into_iter().map(|call| call.into_new_job(|| self.next_id())).collect();
        let mut jobs = jobs?;
        let ids = jobs.iter().map(|job| job.id).collect();
        while jobs.len() > BATCH_MAX {
            let rest = jobs.split_off(BATCH_MAX);
            self.create(std::mem::replace(&mut jobs, rest)).await?;
        }
        self.create(jobs).await?;
        Ok(ids)
    }

    /// Stores jobs that were put together by hand, all or none, through the filters.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue).
    pub async fn create(&self, mut jobs: Vec<NewJob>) -> Result<Vec<Created>, ClientError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        self.filter(&mut jobs)?;
        if self.inner.filters.is_empty() {
            return Ok(self.inner.storage.create(jobs).await?);
        }
        let created = self.inner.storage.create(jobs.clone()).await?;
        for (job, &created) in jobs.iter().zip(&created) {
            self.inner.filters.iter().for_each(|filter| filter.created(job, created));
        }
        Ok(created)
    }

    /// Makes the job that a call would store, through the filters, without storing it: for storages
    /// that write it in a transaction of the user's.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] or [`ClientError::Refused`].
    pub fn prepare<J: JobFn>(&self, call: Call<J>) -> Result<NewJob, ClientError> {
        let mut jobs = [call.into_new_job(|| self.next_id())?];
        self.filter(&mut jobs)?;
        let [job] = jobs;
        Ok(job)
    }

    /// Stores a call in a transaction of the user's own, on the same database: the job exists when
    /// that transaction commits, and never when it does not. The transaction type comes from the
    /// storage's crate, for instance `rusqlite::Transaction` from `portfire-sqlite`.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); the user's transaction stays open.
    ///
    /// # Cancel safety
    /// As the transaction's.
    pub async fn enqueue_in<S, T: CreateIn<S> + ?Sized, J: JobFn>(
        &self,
        transaction: &mut T,
        call: Call<J>,
    ) -> Result<JobId, ClientError> {
        let job = self.prepare(call)?;
        let id = job.id;
        transaction.create_in(vec![job]).await?;
        Ok(id)
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
        BlockingClient { client: self }
    }

    /// A fresh id, later than all that this client made before.
    pub fn next_id(&self) -> JobId {
        self.inner.ids.next(self.inner.clock.now())
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

    fn filter(&self, jobs: &mut [NewJob]) -> Result<(), ClientError> {
        for job in jobs {
            if job.options.traceparent.is_none() {
                job.options.traceparent = self.present_traceparent();
            }
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
/// `S` is a type of the storage's crate. It makes the implementation belong to that crate although the
/// transaction's type comes from a driver; the compiler finds it, callers never name it.
pub trait CreateIn<S> {
    /// Writes the jobs as [`Storage::create`] does, in this transaction.
    fn create_in(
        &mut self,
        jobs: Vec<NewJob>,
    ) -> impl Future<Output = Result<Vec<Created>, StorageError>>;
}

/// Puts a [`Client`] together.
pub struct ClientBuilder {
    storage: Arc<dyn Storage>,
    filters: Vec<Arc<dyn ClientFilter>>,
    clock: Arc<dyn Clock>,
    entropy: Box<dyn Fn() -> u64 + Send + Sync>,
    traceparent: Option<TraceSource>,
}

impl ClientBuilder {
    /// Adds a filter; filters are asked in the order in which they were added.
    #[must_use]
    pub fn filter(mut self, filter: impl ClientFilter) -> ClientBuilder {
        self.filters.push(Arc::new(filter));
        self
    }

    /// Takes the time in ids from another clock. For tests and simulations.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> ClientBuilder {
        self.clock = clock;
        self
    }

    /// Takes the randomness in ids from another source. For simulations.
    #[must_use]
    pub fn entropy(mut self, entropy: impl Fn() -> u64 + Send + Sync + 'static) -> ClientBuilder {
        self.entropy = Box::new(entropy);
        self
    }

    /// Asks here for the W3C trace context (`traceparent`) of each job whose call names none: at the
    /// moment of the enqueue, on the thread that enqueues. A context that is no `traceparent` is refused
    /// with the job.
    #[must_use]
    pub fn traceparent(
        mut self,
        source: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> ClientBuilder {
        self.traceparent = Some(Box::new(source));
        self
    }

    /// The client.
    pub fn build(self) -> Client {
        let ids = IdSource { last: AtomicU64::new(0), entropy: self.entropy };
        let ClientBuilder { storage, filters, clock, traceparent, .. } = self;
        let inner = Arc::new(Inner { storage, filters, clock, ids, traceparent });
        Client { inner, traceparent: None }
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("storage", &self.storage).finish_non_exhaustive()
    }
}

/// Makes UUIDv7 ids that rise within the process, also within a millisecond and when the clock
/// steps back (RFC 9562, section 6.2, method 3: more precise time in the leading random bits).
struct IdSource {
    /// The last instant that was used, in units of 1/4096 ms.
    last: AtomicU64,
    entropy: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl IdSource {
    fn next(&self, now: crate::clock::Timestamp) -> JobId {
        let now = u64::try_from(now.as_micros()).unwrap_or(0).saturating_mul(4096) / 1000;
        let rise = |last: u64| now.max(last + 1);
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| Some(rise(l)));
        let tick = rise(last.unwrap_or_default());
        let at = crate::clock::Timestamp::from_micros(((tick / 4096) * 1000) as i64);
        // Of 80 bits the uuid takes 12 + 62: the version and variant overwrite six.
        let fine = u128::from(tick % 4096) << 64;
        JobId::from_parts(at, fine | u128::from((self.entropy)()))
    }
}

/// Randomness of the operating system, as the standard library hands it out for hash maps.
fn os_random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // A new state differs from the last; hashing a constant with its keys gives 64 mixed bits.
    RandomState::new().hash_one(0u64)
}

/// A [`Client`] for code without a runtime. Made by [`Client::blocking`].
///
/// Do not call it from async code: it blocks the thread.
#[derive(Clone, Copy, Debug)]
pub struct BlockingClient<'a> {
    client: &'a Client,
}

impl BlockingClient<'_> {
    /// As [`Client::enqueue`].
    ///
    /// # Errors
    /// As there.
    pub fn enqueue<J: JobFn>(&self, call: Call<J>) -> Result<JobId, ClientError> {
        block_on(self.client.enqueue(call))
    }

    /// As [`Client::schedule`].
    ///
    /// # Errors
    /// As there.
    pub fn schedule<J: JobFn>(
        &self,
        call: Call<J>,
        when: impl Into<When>,
    ) -> Result<JobId, ClientError> {
        block_on(self.client.schedule(call, when))
    }

    /// As [`Client::enqueue_many`].
    ///
    /// # Errors
    /// As there.
    pub fn enqueue_many<J: JobFn>(
        &self,
        calls: impl IntoIterator<Item = Call<J>>,
    ) -> Result<Vec<JobId>, ClientError> {
        block_on(self.client.enqueue_many(calls))
    }

    /// As [`Client::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(&self, jobs: Vec<NewJob>) -> Result<Vec<Created>, ClientError> {
        block_on(self.client.create(jobs))
    }

    /// As [`Client::enqueue_in`].
    ///
    /// # Errors
    /// As there.
    pub fn enqueue_in<S, T: CreateIn<S> + ?Sized, J: JobFn>(
        &self,
        transaction: &mut T,
        call: Call<J>,
    ) -> Result<JobId, ClientError> {
        block_on(self.client.enqueue_in(transaction, call))
    }

    /// As [`Client::change_if`].
    ///
    /// # Errors
    /// As there.
    pub fn change_if(
        &self,
        job: JobId,
        action: Action,
        states: impl IntoIterator<Item = StateName>,
    ) -> Result<Changed, ClientError> {
        block_on(self.client.change_if(job, action, states))
    }

    /// As [`Client::requeue`].
    ///
    /// # Errors
    /// As there.
    pub fn requeue(&self, job: JobId) -> Result<Changed, ClientError> {
        block_on(self.client.requeue(job))
    }

    /// As [`Client::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, job: JobId) -> Result<Changed, ClientError> {
        block_on(self.client.delete(job))
    }

    /// As [`Client::reschedule`].
    ///
    /// # Errors
    /// As there.
    pub fn reschedule(&self, job: JobId, when: impl Into<When>) -> Result<Changed, ClientError> {
        block_on(self.client.reschedule(job, when))
    }

    /// As [`Client::job`].
    ///
    /// # Errors
    /// As there.
    pub fn job(&self, job: JobId) -> Result<Option<JobRecord>, ClientError> {
        block_on(self.client.job(job))
    }
}

/// Runs a future on this thread, parking it while the future waits.
///
/// For futures that need no runtime, as those of the embedded storages.
pub fn block_on<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn ids() -> IdSource {
        IdSource { last: AtomicU64::new(0), entropy: Box::new(|| 7) }
    }

    #[test]
    fn ids_rise_within_a_millisecond_and_against_the_clock() {
        let clock = ManualClock::default();
        let ids = ids();
        let first = ids.next(clock.now());
        let second = ids.next(clock.now());
        clock.set(clock.now().saturating_sub(std::time::Duration::from_secs(3600)));
        let third = ids.next(clock.now());
        assert!(first < second && second < third);
    }

    #[test]
    fn the_randomness_differs_from_call_to_call() {
        let drawn: std::collections::BTreeSet<u64> = (0..100).map(|_| os_random()).collect();
        assert_eq!(drawn.len(), 100);
    }

    #[test]
    fn the_trace_context_is_the_calls_then_the_sources_then_the_inherited_one() {
        let job = |client: &Client, own: Option<&str>| {
            let kind = crate::job::KindName::stored("k");
            let mut job = NewJob::new(client.next_id(), kind, crate::job::Json::empty());
            job.options.traceparent = own.map(str::to_owned);
            let mut jobs = [job];
            client.filter(&mut jobs).unwrap();
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

    #[test]
    fn blocking_waits_for_another_thread() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || sender.send(5).ok());
        assert_eq!(block_on(receiver), Ok(5));
        thread.join().unwrap();
    }
}
