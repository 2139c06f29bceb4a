//! Runs the jobs of a test: claims them one by one and performs them as a server's worker would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use portfire_core::recurring::plan;
use portfire_core::storage::BATCH_MAX;
use portfire_core::{
    Annotation, BoxFuture, ClaimRequest, ClaimedJob, Client, CycleRequest, Finish, MemoryStorage,
    Monitor, NewServer, QueueName, RetryPolicy, ServerId, Storage, StorageError, Verdict,
};
use portfire_server::{
    CancellationToken, ElectFilter, JobDescriptor, Performed, Performer, Registry, ServerFilter,
    Services,
};

use super::drained::{Drained, Run};
use super::runtime::VirtualRuntime;

/// Most jobs that one drain runs; more can only be a job that enqueues itself for ever.
const RUNS_MAX: usize = 100_000;

/// Most runs inside of runs, in inline mode.
const DEPTH_MAX: usize = 32;

/// How a test runs its jobs.
#[derive(Clone, Default)]
pub(super) struct Settings {
    pub(super) services: Services,
    pub(super) jobs: Option<Vec<&'static JobDescriptor>>,
    pub(super) retry: RetryPolicy,
    pub(super) filters: Vec<Arc<dyn ServerFilter>>,
    pub(super) elect: Vec<Arc<dyn ElectFilter>>,
}

impl Settings {
    pub(super) fn performer(
        &self,
        registry: Registry,
        client: &Client,
        runtime: &Arc<VirtualRuntime>,
    ) -> Performer {
        let performer =
            Performer::new(registry, self.services.clone(), client.clone(), runtime.clone())
                .retry(self.retry.clone());
        let performer = self.filters.iter().cloned().fold(performer, Performer::filter);
        self.elect.iter().cloned().fold(performer, Performer::elect)
    }
}

/// A server of one worker that works only when it is asked to.
pub(super) struct Runner {
    memory: Arc<MemoryStorage>,
    performer: Performer,
    server: ServerId,
    keys: AtomicU64,
    depth: AtomicUsize,
}

impl Runner {
    pub(super) fn new(memory: Arc<MemoryStorage>, performer: Performer) -> Runner {
        // A test that changes its settings has a second runner on the same storage.
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Runner {
            memory,
            performer,
            server: ServerId::new(format!("test:{count}")),
            keys: AtomicU64::new(1),
            depth: AtomicUsize::new(0),
        }
    }

    /// Boxed, because in inline mode a run drains again.
    pub(super) fn drain(&self) -> BoxFuture<'_, Drained> {
        Box::pin(async {
            let depth = Depth::enter(&self.depth);
            let drained = self.run_all().await.expect("the memory storage answers");
            drop(depth);
            drained
        })
    }

    async fn run_all(&self) -> Result<Drained, StorageError> {
        self.announce().await?;
        let mut drained = Drained::default();
        loop {
            settle(&self.memory).await;
            let Some(job) = self.claim().await? else { return Ok(drained) };
            assert!(
                drained.len() < RUNS_MAX,
                "{RUNS_MAX} jobs ran in one drain, and `{}` would be the next: some job enqueues itself for ever",
                job.kind
            );
            drained.push(self.perform(job).await?);
        }
    }

    async fn announce(&self) -> Result<(), StorageError> {
        let server = NewServer {
            kinds: Vec::new(),
            id: self.server.clone(),
            name: "test".to_owned(),
            queues: Vec::new(),
            workers: 1,
            // Nobody declares it dead, however far the test moves the clock.
            lease: Duration::from_secs(1_000 * 365 * 86_400),
        };
        self.memory.announce(server).await
    }

    async fn claim(&self) -> Result<Option<ClaimedJob>, StorageError> {
        let queues: Vec<QueueName> =
            self.memory.queues().await?.into_iter().map(|queue| queue.name).collect();
        let request = CycleRequest {
            claim: Some(ClaimRequest { queues, max: 1, aging: None }),
            ..self.request()
        };
        Ok(self.memory.cycle(request).await?.claimed.pop())
    }

    async fn perform(&self, job: ClaimedJob) -> Result<Run, StorageError> {
        let (token, held) = (CancellationToken::never(), job.clone());
        let Performed { finish, notes, .. } = self.performer.perform(job, token).await;
        let verdict = self.finish(finish.clone(), notes).await?;
        Ok(Run::new(held, finish.outcome, verdict == Some(Verdict::Applied)))
    }

    async fn finish(
        &self,
        finish: Finish,
        notes: Vec<Annotation>,
    ) -> Result<Option<Verdict>, StorageError> {
        let request = CycleRequest { notes, finished: vec![finish], ..self.request() };
        Ok(self.memory.cycle(request).await?.verdicts.pop())
    }

    fn request(&self) -> CycleRequest {
        CycleRequest::new(self.server.clone(), self.keys.fetch_add(1, Ordering::Relaxed))
    }
}

/// Most recurring jobs that are looked at in one go.
const DUE_MAX: u32 = 1_000;

/// Does what a server's services would do at this instant: fires what is due, and moves everything whose
/// turn has come into its queue.
pub(super) async fn settle(memory: &MemoryStorage) {
    fire(memory).await;
    promote(memory).await;
}

async fn fire(memory: &MemoryStorage) {
    loop {
        let due = memory.due_recurring(DUE_MAX).await.expect("the memory storage answers");
        if due.due.is_empty() {
            return;
        }
        let plans = due.due.iter().map(|record| plan(record, due.now)).collect();
        memory.fire(plans).await.expect("the memory storage answers");
    }
}

async fn promote(memory: &MemoryStorage) {
    loop {
        let promoted = memory.promote(BATCH_MAX as u32).await.expect("the memory storage answers");
        if promoted.next_in != Some(Duration::ZERO) {
            return;
        }
    }
}

/// Time until something is due; `None` when nothing is scheduled.
pub(super) async fn next_due(memory: &MemoryStorage) -> Option<Duration> {
    let jobs = memory.promote(0).await.expect("the memory storage answers").next_in;
    jobs.into_iter().chain(next_occurrence(memory).await).min()
}

/// Time until a recurring job is due; `None` when none will be.
pub(super) async fn next_occurrence(memory: &MemoryStorage) -> Option<Duration> {
    memory.due_recurring(0).await.expect("the memory storage answers").next_in
}

/// How many drains are inside of each other.
struct Depth<'a>(&'a AtomicUsize);

impl<'a> Depth<'a> {
    fn enter(depth: &'a AtomicUsize) -> Depth<'a> {
        let before = depth.fetch_add(1, Ordering::Relaxed);
        let entered = Depth(depth);
        assert!(
            before < DEPTH_MAX,
            "jobs run inside of {DEPTH_MAX} others: some job enqueues itself for ever"
        );
        entered
    }
}

impl Drop for Depth<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
