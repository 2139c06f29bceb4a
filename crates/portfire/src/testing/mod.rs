//! Tests of code that enqueues and runs jobs: no server, no waiting, no file.
//!
//! ```standalone_crate
//! use portfire::prelude::*;
//! use portfire::testing::{TestPortfire, days};
//!
//! #[job(queue = "mail")]
//! async fn send_coupon(user_id: u64) -> Result<(), JobError> {
//!     let _ = user_id;
//!     Ok(())
//! }
//!
//! async fn signup(client: &Client, user_id: u64) -> portfire::Result<()> {
//!     client.schedule(send_coupon(user_id), days(1)).await?;
//!     Ok(())
//! }
//!
//! # mod tests { use super::*;
//! #[portfire::test]
//! async fn signup_sends_a_coupon_a_day_later(pf: TestPortfire) -> portfire::Result<()> {
//!     signup(&pf.client(), 42).await?;
//!     pf.assert_enqueued::<send_coupon>().with_args(send_coupon(42)).delayed_by(days(1)).once();
//!     pf.advance(days(1)).await;
//!     pf.drain().await.assert_all_succeeded();
//!     Ok(())
//! }
//! # }
//! # portfire::testing::run(async |pf: TestPortfire| {
//! #     signup(&pf.client(), 42).await.unwrap();
//! #     pf.assert_enqueued::<send_coupon>().with_args(send_coupon(42)).delayed_by(days(1)).once();
//! #     pf.advance(days(1)).await;
//! #     assert_eq!(pf.drain().await.assert_all_succeeded().len(), 1);
//! # });
//! ```
//!
//! The jobs are stored in a [`MemoryStorage`] on a [`ManualClock`], and run through the same
//! [`Performer`](portfire_server::Performer) as a server's, one at a time: retries, filters, services and
//! errors are the real ones. Only `tokio`'s own timers inside of handlers take real time.
//!
//! Continuations, batches, unique keys and limits do here what they do in a server.
//! [`advance`](TestPortfire::advance) fires recurring jobs at each of their instants, and
//! [`run_for`](TestPortfire::run_for) also runs what they fire. Those that the code declares are there after
//! [`store_declared`](TestPortfire::store_declared).

mod assertions;
mod drained;
mod runner;
mod runtime;
mod storage;

pub use assertions::Enqueued;
pub use drained::{Drained, Run};

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portfire_core::client::block_on;
use portfire_core::recurring::RUNS_KEPT;
use portfire_core::{
    BatchId, BatchRecord, BatchState, Client, Clock, JobFilter, JobFn, JobId, JobRecord,
    ManualClock, MemoryStorage, Monitor, RecurringChange, RecurringFilter, RecurringId,
    RecurringRecord, RetryPolicy, RunRecord, StateName, Storage, Timestamp,
};
use portfire_server::handler::linked_jobs;
use portfire_server::{ElectFilter, JobDescriptor, Registry, ServerFilter, Services};

use crate::Call;
use crate::global::ThreadGlobal;
use runner::{Runner, Settings};
use runtime::VirtualRuntime;
use storage::TestStorage;

/// Portfire for one test: a client, a clock that the test moves, and [`drain`](Self::drain) in place of
/// a server. `#[portfire::test]` makes one; [`new`](Self::new) does for other test attributes.
///
/// Two of them share nothing. A clone is the same one.
#[derive(Clone)]
pub struct TestPortfire {
    clock: Arc<ManualClock>,
    memory: Arc<MemoryStorage>,
    storage: Arc<TestStorage>,
    client: Client,
    runtime: Arc<VirtualRuntime>,
    settings: Settings,
    runner: Arc<OnceLock<Arc<Runner>>>,
}

impl TestPortfire {
    /// An empty one, at 2026-01-01T00:00:00Z.
    pub fn new() -> TestPortfire {
        let clock = Arc::new(ManualClock::default());
        let memory = Arc::new(MemoryStorage::with_clock(clock.clone()));
        let storage = Arc::new(TestStorage::new(memory.clone()));
        let ids = AtomicU64::new(0);
        let client = Client::builder(storage.clone())
            .clock(clock.clone())
            .entropy(move || ids.fetch_add(1, Ordering::Relaxed))
            .build();
        let runtime = Arc::new(VirtualRuntime::new(clock.clone(), client.clone()));
        let settings = Settings::default();
        TestPortfire { clock, memory, storage, client, runtime, settings, runner: Arc::default() }
    }

    /// Gives handlers these services: `let pf = pf.services(Services::new().with(db));`.
    #[must_use]
    pub fn services(mut self, services: Services) -> TestPortfire {
        self.settings.services = services;
        self.changed()
    }

    /// Runs these jobs only. Default: all jobs that are linked into the test.
    #[must_use]
    pub fn register(
        mut self,
        jobs: impl IntoIterator<Item = &'static JobDescriptor>,
    ) -> TestPortfire {
        self.settings.jobs.get_or_insert_default().extend(jobs);
        self.changed()
    }

    /// Retries by this policy where neither the call nor the handler's attribute says anything.
    /// Default: Hangfire's, as in a server.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> TestPortfire {
        self.settings.retry = policy;
        self.changed()
    }

    /// Runs this filter around every handler, inside of those added before.
    #[must_use]
    pub fn filter(mut self, filter: impl ServerFilter) -> TestPortfire {
        self.settings.filters.push(Arc::new(filter));
        self.changed()
    }

    /// Lets this filter replace outcomes, after those added before.
    #[must_use]
    pub fn elect(mut self, filter: impl ElectFilter) -> TestPortfire {
        self.settings.elect.push(Arc::new(filter));
        self.changed()
    }

    /// From here on `enqueue` also runs what it has stored, and all else that is due, before it
    /// returns. Delayed jobs and retries still wait for [`drain`](Self::drain).
    #[must_use]
    pub fn inline(self) -> TestPortfire {
        self.storage.run_at_once(&self.runner());
        self
    }

    /// A client of the test's storage.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The test's storage, for code under test that wants one.
    pub fn storage(&self) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the clock. Recurring jobs fire at their instants on the way, and jobs whose time has come
    /// move into their queues. Runs nothing: for what runs in between there is [`run_for`](Self::run_for).
    pub async fn advance(&self, by: Duration) {
        let end = self.now().saturating_add(by);
        runner::settle(&self.memory).await;
        while let Some(wait) = runner::next_occurrence(&self.memory).await {
            if self.now().saturating_add(wait) > end {
                break;
            }
            self.pass(wait).await;
        }
        self.pass(end.since(self.now())).await;
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.runtime.moved();
        runner::settle(&self.memory).await;
    }

    /// Stores the recurring jobs that the code declares, by `#[job(cron = ..)]`, as a server does when it
    /// starts. Answers how many there are: all of the linked jobs, or those of
    /// [`register`](Self::register).
    ///
    /// # Panics
    /// When one of them makes no sense, as a server would refuse to start.
    pub async fn store_declared(&self) -> usize {
        let jobs = self.settings.jobs.clone().unwrap_or_else(linked_jobs);
        let declared: Vec<_> = jobs.iter().filter_map(|job| job.recurring).collect();
        for make in &declared {
            let definition = make();
            let id = definition.id.clone();
            let upsert = RecurringChange::Upsert(Box::new(definition));
            if let Err(mistake) = self.memory.change_recurring(upsert).await {
                panic!("the recurring job `{id}` cannot be stored: {mistake}");
            }
        }
        declared.len()
    }

    /// Runs everything that is enqueued or due, and what that enqueues or releases, until nothing is left that may
    /// run now: one job at a time, the queues by name, in each the order in which a server claims.
    /// Paused queues are passed over. What failed and waits for its retry runs in a later drain, once
    /// the clock has been [advanced](Self::advance).
    ///
    /// # Panics
    /// After 100,000 runs: some job enqueues itself for ever.
    pub async fn drain(&self) -> Drained {
        self.runner().drain().await
    }

    /// Lets time pass as a server would see it: runs what is due, moves the clock to the next instant
    /// at which something is, and so on, until `time` is over. So all retries of that time happen.
    ///
    /// # Panics
    /// As [`drain`](Self::drain).
    pub async fn run_for(&self, time: Duration) -> Drained {
        let end = self.now().saturating_add(time);
        let mut all = self.drain().await;
        while let Some(wait) = runner::next_due(&self.memory).await {
            if self.now().saturating_add(wait) > end {
                break;
            }
            self.advance(wait).await;
            all.extend(self.drain().await);
        }
        self.advance(end.since(self.now())).await;
        all
    }

    /// Everything about a job; `None` when it is not stored.
    pub fn job(&self, id: JobId) -> Option<JobRecord> {
        ready(self.memory.job(id))
    }

    /// Everything about a batch; `None` when it is not stored.
    pub fn batch(&self, id: BatchId) -> Option<BatchRecord> {
        ready(self.memory.batch(id))
    }

    /// Fails the test unless this batch stands there.
    ///
    /// # Panics
    /// When it stands elsewhere, or is not stored. The message counts its members.
    #[track_caller]
    pub fn assert_batch(&self, id: BatchId, state: BatchState) -> BatchRecord {
        let Some(batch) = self.batch(id) else { panic!("batch {id} is not stored") };
        let (found, members) = (batch.state.as_str(), batch.members);
        assert!(
            batch.state == state,
            "batch {id} is {found} and not {}; {members:?}",
            state.as_str()
        );
        batch
    }

    /// Everything about a recurring job.
    ///
    /// # Panics
    /// When it is not stored. The message shows which are.
    #[track_caller]
    pub fn assert_recurring(&self, id: &str) -> RecurringRecord {
        match self.recurring(id) {
            Some(record) => record,
            None => panic!("`{id}` is no recurring job; {}", self.list_recurring()),
        }
    }

    /// Fails the test when there is a recurring job of this name.
    ///
    /// # Panics
    /// When there is one.
    #[track_caller]
    pub fn refute_recurring(&self, id: &str) {
        assert!(self.recurring(id).is_none(), "`{id}` is a recurring job after all");
    }

    /// The last runs of a recurring job, the newest first; those that were passed over too.
    pub fn runs(&self, id: &str) -> Vec<RunRecord> {
        match RecurringId::new(id) {
            Ok(id) => ready(self.memory.runs(id, RUNS_KEPT)),
            Err(_) => Vec::new(),
        }
    }

    fn recurring(&self, id: &str) -> Option<RecurringRecord> {
        ready(self.memory.recurring(RecurringId::new(id).ok()?))
    }

    fn list_recurring(&self) -> String {
        let page = ready(self.memory.recurring_jobs(RecurringFilter::default()));
        let ids: Vec<_> =
            page.recurring.iter().map(|record| record.definition.id.to_string()).collect();
        match ids.is_empty() {
            true => {
                "there are none; those that code declares are stored by `store_declared`".into()
            }
            false => format!("there are: {}", ids.join(", ")),
        }
    }

    /// Fails the test unless a call of this job waits to run, at once, later, or after another. What it returns narrows
    /// that down, and fails the test as soon as no call is left.
    ///
    /// # Panics
    /// When no call of it waits. The message shows what does.
    #[track_caller]
    pub fn assert_enqueued<J: JobFn>(&self) -> Enqueued<J> {
        Enqueued::all(self.waiting(), self.now())
    }

    /// Fails the test unless exactly this call waits to run: its job with its arguments.
    ///
    /// # Panics
    /// When it does not wait. The message shows what does.
    #[track_caller]
    pub fn assert_enqueued_call<J: JobFn>(&self, call: Call<J>) -> Enqueued<J> {
        self.assert_enqueued::<J>().with_args(call)
    }

    /// Fails the test when a call of this job waits to run.
    ///
    /// # Panics
    /// When one waits. The message shows it.
    #[track_caller]
    pub fn refute_enqueued<J: JobFn>(&self) {
        assertions::refute::<J>(&self.waiting(), self.now());
    }

    /// Fails the test when anything waits to run.
    ///
    /// # Panics
    /// When something waits. The message shows it.
    #[track_caller]
    pub fn assert_nothing_enqueued(&self) {
        assertions::refute_all(&self.waiting(), self.now());
    }

    fn changed(mut self) -> TestPortfire {
        // A clone may have made its runner by now; this one gets its own.
        self.runner = Arc::default();
        self
    }

    fn runner(&self) -> Arc<Runner> {
        let make = || {
            let jobs = self.settings.jobs.clone().unwrap_or_else(linked_jobs);
            let registry = Registry::new(jobs).unwrap_or_else(|problems| {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                panic!("the jobs of this test cannot be registered: {}", problems.join("; "))
            });
            let performer = self.settings.performer(registry, &self.client, &self.runtime);
            Arc::new(Runner::new(self.memory.clone(), performer))
        };
        Arc::clone(self.runner.get_or_init(make))
    }

    /// What waits to run, at once, later, or after another.
    fn waiting(&self) -> Vec<JobRecord> {
        let mut waiting = Vec::new();
        for state in [StateName::Enqueued, StateName::Scheduled, StateName::Awaiting] {
            let mut filter = JobFilter::state(state);
            loop {
                let page = ready(self.memory.jobs(filter.clone()));
                waiting.extend(page.jobs);
                filter.after = page.next;
                if filter.after.is_none() {
                    break;
                }
            }
        }
        waiting
    }
}

impl Default for TestPortfire {
    fn default() -> TestPortfire {
        TestPortfire::new()
    }
}

impl fmt::Debug for TestPortfire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestPortfire").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// The memory storage never waits and never fails.
fn ready<T>(answer: portfire_core::storage::Answer<'_, T>) -> T {
    block_on(answer).expect("the memory storage answers")
}

/// Runs a test on a tokio runtime of one thread. Its client is the [global](crate::global) one of the
/// thread. `#[portfire::test]` calls it.
///
/// # Panics
/// When the test does, or when there is no runtime to be had.
pub fn run<F, Fut>(test: F) -> Fut::Output
where
    F: FnOnce(TestPortfire) -> Fut,
    Fut: Future,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime of one thread");
    runtime.block_on(async {
        let pf = TestPortfire::new();
        let _global = ThreadGlobal::set(pf.client());
        test(pf).await
    })
}

/// So many seconds.
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// So many minutes.
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// So many hours.
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(3_600 * n)
}

/// So many days of 24 hours.
pub const fn days(n: u64) -> Duration {
    Duration::from_secs(86_400 * n)
}
