//! What every test needs: a storage, handlers made of closures, and servers. See [`Stage`].

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portfire_core::{
    BoxFuture, Cause, Client, HistoryEntry, JobId, JobRecord, Json, KindName, LogLine,
    MemoryStorage, Monitor, NewJob, Outcome, QueueName, StateName, Storage,
};
use portfire_server::{
    Handler, HandlerDefaults, HandlerResult, Invocation, JobContext, JobDescriptor, KindFilters,
    Server, ServerBuilder, Services,
};

use crate::faulty::Faulty;
use crate::world::World;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// `n` milliseconds.
pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Runs a test on a stage of its own.
pub(crate) fn play<T, F>(test: impl FnOnce(Stage) -> F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let stage = Stage::new();
    let world = stage.world.clone();
    world.run(test(stage))
}

/// A storage in a virtual world, and the handlers of a test.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) storage: Arc<Faulty>,
    pub(crate) client: Client,
    script: Arc<Script>,
    /// What the handlers of the test have noted, in order.
    pub(crate) notes: Notes,
}

/// The handlers of a test, by kind.
#[derive(Default)]
struct Script {
    parts: Mutex<BTreeMap<String, Part>>,
    descriptors: Mutex<Vec<&'static JobDescriptor>>,
}

type Part = Arc<dyn Fn(JobContext) -> BoxFuture<'static, HandlerResult> + Send + Sync>;

/// A list that handlers and filters write to.
#[derive(Clone, Default, Debug)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn add(&self, note: impl Into<String>) {
        self.0.lock().unwrap().push(note.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, note: &str) -> usize {
        self.all().iter().filter(|noted| *noted == note).count()
    }
}

impl Stage {
    fn new() -> Stage {
        let world = World::new();
        let memory = MemoryStorage::with_clock(Arc::new(world.clone()));
        let storage = Arc::new(Faulty::new(world.clone(), memory));
        let client = Client::builder(Arc::clone(&storage) as Arc<dyn Storage>)
            .clock(Arc::new(world.clone()))
            .build();
        Stage { world, storage, client, script: Arc::default(), notes: Notes::default() }
    }

    /// Adds an async handler.
    pub(crate) fn on<F>(
        &self,
        kind: &str,
        handler: impl Fn(JobContext) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = HandlerResult> + Send + 'static,
    {
        self.add(describe(kind, Handler::Async(play_async)), handler);
    }

    /// Adds a blocking handler.
    pub(crate) fn on_blocking(
        &self,
        kind: &str,
        handler: impl Fn(JobContext) -> HandlerResult + Send + Sync + 'static,
    ) {
        let handler = Arc::new(handler);
        self.add(describe(kind, Handler::Blocking(play_blocking)), move |cx| {
            let handler = Arc::clone(&handler);
            async move { handler(cx) }
        });
    }

    /// Adds an async handler with a descriptor that differs from the plain one.
    pub(crate) fn add<F>(
        &self,
        descriptor: JobDescriptor,
        handler: impl Fn(JobContext) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = HandlerResult> + Send + 'static,
    {
        self.part(descriptor.kind, handler);
        self.script.descriptors.lock().unwrap().push(Box::leak(Box::new(descriptor)));
    }

    /// Writes the part of a kind, without a descriptor.
    pub(crate) fn part<F>(
        &self,
        kind: &str,
        handler: impl Fn(JobContext) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = HandlerResult> + Send + 'static,
    {
        let part: Part = Arc::new(move |cx| Box::pin(handler(cx)));
        self.script.parts.lock().unwrap().insert(kind.to_owned(), part);
    }

    /// A server with all handlers that were added.
    pub(crate) fn server(&self) -> ServerBuilder {
        let script = Arc::clone(&self.script);
        let storage: Arc<dyn Storage> = Arc::clone(&self.storage) as _;
        let descriptors = self.script.descriptors.lock().unwrap().clone();
        Server::builder(storage)
            .name("test")
            .services(Services::new().with_arc(script))
            .register(descriptors)
            .client(self.client.clone())
            .runtime(Arc::new(self.world.clone()))
    }

    /// A server with defaults, started.
    pub(crate) async fn start(&self) -> Server {
        self.server().start().await.unwrap()
    }

    /// Enqueues a job.
    pub(crate) async fn enqueue(&self, kind: &str) -> JobId {
        self.enqueue_with(kind, |job| job).await
    }

    /// Enqueues a job of which something is special.
    pub(crate) async fn enqueue_with(
        &self,
        kind: &str,
        with: impl FnOnce(NewJob) -> NewJob,
    ) -> JobId {
        let id = self.client.next_id();
        let job = with(NewJob::new(id, KindName::new(kind.to_owned()).unwrap(), Json::empty()));
        self.client.create(vec![job]).await.unwrap();
        id
    }

    /// Enqueues jobs into a queue, all at once.
    pub(crate) async fn enqueue_many(&self, kind: &str, queue: &str, count: usize) -> Vec<JobId> {
        let kind = KindName::new(kind.to_owned()).unwrap();
        let queue = QueueName::new(queue.to_owned()).unwrap();
        let job = || {
            let mut job = NewJob::new(self.client.next_id(), kind.clone(), Json::empty());
            job.queue = queue.clone();
            job
        };
        let jobs: Vec<NewJob> = (0..count).map(|_| job()).collect();
        let ids = jobs.iter().map(|job| job.id).collect();
        self.client.create(jobs).await.unwrap();
        ids
    }

    /// The job as it is stored.
    pub(crate) async fn job(&self, id: JobId) -> JobRecord {
        self.storage.job(id).await.unwrap().unwrap()
    }

    /// The state of a job.
    pub(crate) async fn state(&self, id: JobId) -> StateName {
        self.job(id).await.state.name()
    }

    /// What moved a job, from its creation on.
    pub(crate) async fn causes(&self, id: JobId) -> Vec<Cause> {
        let history: Vec<HistoryEntry> = self.storage.history(id).await.unwrap();
        history.into_iter().map(|entry| entry.cause).collect()
    }

    /// The texts of the first page of a job's log.
    pub(crate) async fn log(&self, id: JobId) -> Vec<String> {
        let page = self.storage.log(id, None, 500).await.unwrap();
        page.lines.into_iter().map(|line| line.text).collect()
    }

    /// All lines of a job's log.
    pub(crate) async fn all_lines(&self, id: JobId) -> Vec<LogLine> {
        let (mut lines, mut after) = (Vec::new(), None);
        loop {
            let page = self.storage.log(id, after, 500).await.unwrap();
            if page.lines.is_empty() {
                return lines;
            }
            lines.extend(page.lines);
            after = page.next;
        }
    }

    /// Waits, for at most a virtual day, until a job is in a state.
    pub(crate) async fn until_state(&self, id: JobId, state: StateName) -> JobRecord {
        let mut step = ms(1);
        for _ in 0..20_000 {
            let job = self.job(id).await;
            if job.state.name() == state {
                return job;
            }
            self.world.pass(step).await;
            // Fine at first, coarse for retries that wait for hours.
            step = (step + step / 50).min(10 * SECOND);
        }
        panic!("job {id} never was {state}: {:?}", self.storage.history(id).await);
    }

    /// Waits, for at most a virtual minute, until so many jobs are in a state.
    pub(crate) async fn until_count(&self, state: StateName, count: u64) {
        for _ in 0..60_000 {
            if self.storage.counts().await.unwrap().of(state) == count {
                return;
            }
            self.world.pass(ms(1)).await;
        }
        panic!("never {count} {state}: {:?}", self.storage.counts().await);
    }
}

/// A descriptor of a kind with nothing special.
pub(crate) fn describe(kind: &str, handler: Handler) -> JobDescriptor {
    let kind: &'static str = Box::leak(kind.to_owned().into_boxed_str());
    JobDescriptor {
        kind,
        aliases: &[],
        version: 1,
        queue: "default",
        defaults: HandlerDefaults::default,
        filters: KindFilters::default,
        params: Vec::new,
        needs: Vec::new,
        recurring: None,
        handler,
        location: Box::leak(format!("tests/{kind}.rs:1").into_boxed_str()),
    }
}

/// The async handler of all kinds: plays the part that the test wrote for the kind.
pub(crate) fn play_async(invocation: Invocation) -> BoxFuture<'static, HandlerResult> {
    let part = part_of(&invocation);
    part(invocation.context)
}

fn play_blocking(invocation: Invocation) -> HandlerResult {
    let part = part_of(&invocation);
    portfire_core::client::block_on(part(invocation.context))
}

fn part_of(invocation: &Invocation) -> Part {
    let script = invocation.services.get::<Script>().unwrap();
    let parts = script.parts.lock().unwrap();
    Arc::clone(&parts[invocation.context.kind().as_str()])
}

/// A handler's way to succeed.
pub(crate) const DONE: HandlerResult = Ok(None);

/// What an outcome is called, for notes.
pub(crate) fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Retry { .. } => "retry",
        Outcome::Failed { .. } => "failed",
        Outcome::Snoozed { .. } => "snoozed",
        Outcome::Parked { .. } => "parked",
        Outcome::Released => "released",
        Outcome::Discarded { .. } => "discarded",
        _ => "other",
    }
}
