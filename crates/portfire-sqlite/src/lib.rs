//! The embedded default storage of Portfire: one SQLite file, any number of processes.
//!
//! ```no_run
//! # async fn example() -> Result<(), portfire_core::StorageError> {
//! let storage = portfire_sqlite::SqliteStorage::open("app.db").await?;
//! let client = portfire_core::Client::new(std::sync::Arc::new(storage));
//! # Ok(()) }
//! ```
//!
//! One thread writes for the whole process, and what gathers while it commits goes into its next
//! commit; reads have connections of their own. Several processes may open the same file, on the same
//! host: each may serve, enqueue, or only read.
//!
//! # In your own transaction
//! A [`rusqlite::Transaction`] on the same file takes jobs by
//! [`Client::enqueue_in`](portfire_core::Client::enqueue_in): they exist when it commits, and never
//! when it does not. All tables are named `portfire_…`, so the file may hold your tables too.
//!
//! ```no_run
//! # use portfire_core::{Call, Client, JobFn};
//! # async fn example<J: JobFn>(client: &Client, call: Call<J>) -> Result<(), Box<dyn std::error::Error>> {
//! use portfire_sqlite::rusqlite::{Connection, TransactionBehavior};
//!
//! let mut app = Connection::open("app.db")?;
//! let mut tx = app.transaction_with_behavior(TransactionBehavior::Immediate)?;
//! tx.execute("INSERT INTO account (name) VALUES ('ann')", [])?;
//! client.enqueue_in(&mut tx, call).await?;
//! tx.commit()?;
//! # Ok(()) }
//! ```
//!
//! # Files
//! Beside `app.db` SQLite keeps its log, `app.db-wal` and `app.db-shm`, while any process has the
//! database open; a copy of the database needs the log too. The log is brought into the database when it is
//! 16 MiB long, or as long as a smaller database. It grows further only while a connection keeps a read
//! transaction open (a backup, a forgotten `BEGIN`), and by a single commit that is larger than that. A
//! connection of your own may set `PRAGMA wal_autocheckpoint = 0`: what it copies by itself is copied in
//! parts, which a failing disk can lose.
//!
//! `app.db-process-…` is the lock by which others notice at once that a process with servers has ended. All
//! files are readable by their owner alone.

mod batch_pages;
mod batches;
mod change;
mod checkpoint;
mod claim;
mod clean;
mod codes;
mod connect;
mod create;
mod cycle;
mod disk;
mod error;
mod expiry;
mod files;
mod history;
mod inbox;
mod job_tx;
mod keys;
mod limits;
mod lines;
mod links;
mod locks;
mod log;
mod members;
mod migrate;
mod monitor;
mod names;
mod notes;
mod options;
mod outbox;
mod outcomes;
mod pages;
#[cfg(test)]
mod plans;
mod process;
mod promote;
mod reader;
mod recurring;
mod row;
mod rows;
mod runs;
mod servers;
mod shelves;
mod suspects;
mod ties;
mod told;
mod transaction;
mod turns;
mod unique;
mod waiting;
mod wakeup;
mod write;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use portfire_core::client::block_on;
use portfire_core::engine;
use portfire_core::{
    Answer, Antecedent, BatchChange, BatchChanged, BatchFilter, BatchId, BatchPage, BatchRecord,
    Bucket, Capabilities, Change, Changed, Claim, Cleaned, Continuation, Counts, Created, Cursor,
    Cycle, CycleRequest, DueRecurring, Fire, Fired, HistoryEntry, JobFilter, JobId, JobPage,
    JobRecord, KeyRecord, KindRecord, LimitName, LimitRecord, LimitRule, LimitTarget, Limits,
    LockAnswer, LockRecord, LockRequest, LogPage, Lost, Monitor, NewBatch, NewJob, NewServer,
    NotesRecord, Promoted, QueueName, QueueRecord, RecurringChange, RecurringChanged,
    RecurringFilter, RecurringId, RecurringPage, RecurringRecord, RescueRequest, Rescued,
    Retention, RunRecord, ServerId, ServerRecord, StatisticsRecord, Storage, StorageError,
    StorageInfo, Timestamp, TransitionHub, Transitions, WaitingRecord, WakeupHub, Wakeups,
};
use tokio::sync::{oneshot, watch};

pub use job_tx::JobTransaction;
pub use migrate::{Migration, migrations};
pub use options::{SqliteOptions, Synchronous};
pub use rusqlite;

use disk::Trust;
use error::Failure;
use inbox::Durability::{self, Always, IfChanged, Never};
use inbox::{Inbox, Line};
use job_tx::Hands;
use options::StorageClock;
use reader::Readers;
use transaction::Settings;
use turns::Turns;
use write::Write;
use writer::Writer;

/// Keeps jobs in an SQLite file. Cheap to clone; all clones share the threads that serve it.
///
/// When the last clone is dropped, what was handed in is written and the threads end; the drop waits
/// for that. To wait without blocking call [`close`](Self::close) first.
#[derive(Clone)]
pub struct SqliteStorage {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    inbox: Arc<Inbox>,
    readers: Readers,
    hands: Hands,
    turns: Arc<Turns>,
    hub: Arc<WakeupHub>,
    transitions: Arc<TransitionHub>,
    clock: Arc<StorageClock>,
    retention: Retention,
    limits: Limits,
    info: StorageInfo,
    trust: Arc<Trust>,
    writer: ThreadId,
    /// Each thread holds a receiver; when all are gone the file is closed.
    running: watch::Sender<()>,
}

impl SqliteStorage {
    /// Opens the database at this path with default settings; makes it when it is not there.
    ///
    /// # Errors
    /// As [`SqliteOptions::open`].
    ///
    /// # Cancel safety
    /// As [`SqliteOptions::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<SqliteStorage, StorageError> {
        SqliteOptions::new(path).open().await
    }

    /// The path of the database, from the root.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// How many commits this storage has made in this process; many calls share one.
    pub fn commits(&self) -> u64 {
        self.inner.inbox.commits()
    }

    /// Holds back every commit of this storage in this process until the answer is dropped; the calls that were
    /// handed in meanwhile are then done in one, in the order in which they came. For tests of that.
    #[doc(hidden)]
    pub fn hold_commits(&self) -> HeldCommits {
        self.inner.inbox.hold();
        HeldCommits(Arc::clone(&self.inner.inbox))
    }

    /// Ends this storage in this process, for all clones: what was handed in is still done,
    /// everything later is answered [`Closed`](StorageError::Closed), and the file is closed when
    /// this returns. It waits for every [`JobTransaction`] that is open.
    ///
    /// # Cancel safety
    /// Once polled, the storage ends whether or not the future is polled again.
    pub async fn close(&self) {
        self.inner.inbox.close();
        self.inner.readers.close();
        self.inner.hands.close();
        self.inner.running.closed().await;
    }

    async fn start(options: SqliteOptions) -> Result<SqliteStorage, StorageError> {
        let (opened, ready) = oneshot::channel();
        let (running, keep) = watch::channel(());
        let info = StorageInfo {
            name: "sqlite",
            location: options.path.display().to_string(),
            durability: options.synchronous.durability(),
            args_bytes_max: options.limits.args_bytes_max,
            capabilities: capabilities(),
        };
        let (retention, limits) = (options.retention, options.limits);
        let path = connect::absolute(&options.path)?;
        let options = SqliteOptions { path: path.clone(), ..options };
        let readers = Readers::new(path.clone(), options.busy_timeout);
        let inbox = Arc::new(Inbox::new());
        let hub = Arc::new(WakeupHub::default());
        let clock = Arc::new(StorageClock::new(options.clock.clone()));
        let turns = Arc::new(Turns::default());
        let transitions = Arc::new(TransitionHub::default());
        let hubs = (Arc::clone(&hub), Arc::clone(&transitions));
        let parts = (Arc::clone(&inbox), hubs.clone(), Arc::clone(&clock));
        let of_writer = Arc::clone(&turns);
        let of_hands = options.clone();
        // The connection is opened on the thread that uses it, which also keeps the caller's free.
        let serve = move || {
            let _keep = keep;
            match Writer::open(&options, parts.0, parts.1, parts.2, of_writer) {
                Ok(writer) => {
                    if opened.send(Ok(writer.trust())).is_ok() {
                        writer.run();
                    }
                }
                Err(error) => _ = opened.send(Err(error)),
            }
        };
        let writer = std::thread::Builder::new()
            .name("portfire-write".to_owned())
            .spawn(serve)
            .map_err(StorageError::unavailable)?;
        let trust = ready.await.unwrap_or(Err(StorageError::Closed))?;
        let hands = Hands::new(of_hands, hubs, Arc::clone(&clock), Arc::clone(&trust));
        let writer = writer.thread().id();
        let inner = Inner {
            path,
            inbox,
            readers,
            hands,
            turns,
            hub,
            transitions,
            clock,
            retention,
            limits,
            info,
            trust,
            writer,
            running,
        };
        Ok(SqliteStorage { inner: Arc::new(inner) })
    }

    /// What holds for jobs that are created in a transaction of the caller's.
    fn settings(&self) -> Settings {
        let Inner { clock, retention, limits, .. } = &*self.inner;
        Settings { clock: Arc::clone(clock), retention: *retention, limits: *limits }
    }

    /// Writes with others in one commit.
    fn write<'a, T: Send + 'static>(
        &'a self,
        line: Line,
        weight: usize,
        durability: Durability,
        act: impl FnMut(&mut Write<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            let answer = self.inner.inbox.hand_in(line, weight, durability, act)?;
            answer.await.unwrap_or_else(|_| Err(StorageError::unavailable(UNANSWERED)))
        })
    }

    /// Reads what depends on the present.
    fn read_now<'a, T: Send + 'static>(
        &'a self,
        act: impl FnOnce(&rusqlite::Connection, Timestamp) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<'a, T> {
        let clock = Arc::clone(&self.inner.clock);
        self.read(move |conn| {
            let now = clock.now(monitor::high_water(conn)?);
            act(conn, now)
        })
    }

    /// Reads on a connection of its own.
    fn read<'a, T: Send + 'static>(
        &'a self,
        act: impl FnOnce(&rusqlite::Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            // Whoever reads has seen the present, and nobody is told of an earlier one afterwards.
            self.inner.clock.now(0);
            self.inner.trust.files().refuse_changed()?;
            let answer = self.inner.readers.read(&self.inner.running, act)?;
            answer.await.unwrap_or_else(|_| Err(StorageError::unavailable(UNANSWERED)))
        })
    }
}

/// No commit is made while this lives.
#[doc(hidden)]
#[derive(Debug)]
#[must_use = "commits are made again when it is dropped"]
pub struct HeldCommits(Arc<Inbox>);

impl Drop for HeldCommits {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.inbox.close();
        self.readers.close();
        self.hands.close();
        // A waker that a thread of the storage calls may drop the last clone on that very thread.
        if self.writer != std::thread::current().id() && !job_tx::is_hand() {
            block_on(self.running.closed());
        }
    }
}

impl fmt::Debug for SqliteStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStorage").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// All of them: a file can do them all.
fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::default();
    capabilities.persistent = true;
    capabilities.shared = true;
    capabilities.sees_processes = true;
    capabilities.caller_transactions = true;
    capabilities.job_transactions = true;
    capabilities.tells_transitions = true;
    capabilities
}

impl Storage for SqliteStorage {
    fn create_batches(
        &self,
        batches: Vec<NewBatch>,
        jobs: Vec<NewJob>,
    ) -> Answer<'_, Vec<Created>> {
        let weight = batches.len() + jobs.len();
        let act = move |write: &mut Write<'_>| create::create(write, &batches, &jobs);
        self.write(Line::Bulk, weight, Always, act)
    }

    fn change_batch(&self, batch: BatchId, change: BatchChange) -> Answer<'_, BatchChanged> {
        let act = move |write: &mut Write<'_>| engine::change_batch(write, batch, &change);
        self.write(Line::Bulk, 1, Always, act)
    }

    fn announce(&self, server: NewServer) -> Answer<'_, ()> {
        self.write(Line::First, 1, Always, move |write| servers::announce(write, &server))
    }

    fn heartbeat(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        self.write(Line::First, 1, Never, move |write| servers::heartbeat(write, &server, &held))
    }

    fn verify(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        self.read(move |conn| servers::verify(conn, &server, &held))
    }

    fn retire(&self, server: ServerId) -> Answer<'_, ()> {
        self.write(Line::First, 1, Always, move |write| servers::retire(write, &server))
    }

    fn cycle(&self, request: CycleRequest) -> Answer<'_, Cycle> {
        let finished = request.finished.len();
        let act = move |write: &mut Write<'_>| cycle::cycle(write, &request);
        let durability = if finished > 0 { Always } else { Never };
        self.write(Line::First, finished.max(1), durability, act)
    }

    fn rescue(&self, request: RescueRequest) -> Answer<'_, Rescued> {
        self.write(Line::First, 1, IfChanged, move |write| servers::rescue(write, &request))
    }

    fn promote(&self, max: u32) -> Answer<'_, Promoted> {
        self.write(Line::First, 1, IfChanged, move |write| promote::promote(write, max))
    }

    fn change(&self, changes: Vec<Change>) -> Answer<'_, Vec<Changed>> {
        let weight = changes.len();
        self.write(Line::Bulk, weight, Always, move |write| change::change(write, &changes))
    }

    fn clean(&self, max: u32) -> Answer<'_, Cleaned> {
        self.write(Line::Bulk, 1, IfChanged, move |write| clean::clean(write, max))
    }

    fn set_queue_paused(&self, queue: QueueName, paused: bool) -> Answer<'_, ()> {
        let act = move |write: &mut Write<'_>| change::set_queue_paused(write, &queue, paused);
        self.write(Line::First, 1, Always, act)
    }

    fn change_recurring(&self, change: RecurringChange) -> Answer<'_, RecurringChanged> {
        let act = move |write: &mut Write<'_>| recurring::change_recurring(write, &change);
        self.write(Line::First, 1, Always, act)
    }

    fn due_recurring(&self, max: u32) -> Answer<'_, DueRecurring> {
        self.read_now(move |conn, now| recurring::due_recurring(conn, now, max))
    }

    fn fire(&self, plans: Vec<Fire>) -> Answer<'_, Vec<Fired>> {
        let weight = plans.len();
        self.write(Line::First, weight, Always, move |write| recurring::fire(write, &plans))
    }

    fn lock(&self, request: LockRequest) -> Answer<'_, LockAnswer> {
        // A grant that a power failure undid would be given out again under the same fence.
        self.write(Line::First, 1, Always, move |write| locks::lock(write, &request))
    }

    fn set_limit(&self, target: LimitTarget, rule: Option<LimitRule>) -> Answer<'_, ()> {
        let act = move |write: &mut Write<'_>| limits::set_limit(write, &target, rule);
        self.write(Line::First, 1, Always, act)
    }

    fn wakeups(&self) -> Wakeups {
        let wakeups = self.inner.hub.subscribe();
        self.inner.inbox.nudge();
        wakeups
    }

    fn transitions(&self) -> Transitions {
        self.inner.transitions.subscribe()
    }

    fn info(&self) -> StorageInfo {
        self.inner.info.clone()
    }
}

impl Monitor for SqliteStorage {
    fn now(&self) -> Answer<'_, Timestamp> {
        Box::pin(async move {
            let high_water = self.read(monitor::high_water).await?;
            Ok(self.inner.clock.now(high_water))
        })
    }

    fn skew(&self) -> Answer<'_, Duration> {
        Box::pin(async move {
            let high_water = self.read(monitor::high_water).await?;
            Ok(self.inner.clock.skew(high_water))
        })
    }

    fn counts(&self) -> Answer<'_, Counts> {
        self.read(monitor::counts)
    }

    fn job(&self, id: JobId) -> Answer<'_, Option<JobRecord>> {
        self.read(move |conn| monitor::job(conn, id))
    }

    fn history(&self, id: JobId) -> Answer<'_, Vec<HistoryEntry>> {
        self.read(move |conn| monitor::history(conn, id))
    }

    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage> {
        self.read(move |conn| pages::page(conn, &filter))
    }

    fn queues(&self) -> Answer<'_, Vec<QueueRecord>> {
        self.read(monitor::queues)
    }

    fn kinds(&self) -> Answer<'_, Vec<KindRecord>> {
        self.read(monitor::kinds)
    }

    fn continuations(&self, on: Antecedent, max: u32) -> Answer<'_, Vec<Continuation>> {
        self.read(move |conn| monitor::continuations(conn, on, max))
    }

    fn batch(&self, id: BatchId) -> Answer<'_, Option<BatchRecord>> {
        self.read(move |conn| batch_pages::batch(conn, id))
    }

    fn batches(&self, filter: BatchFilter) -> Answer<'_, BatchPage> {
        self.read(move |conn| batch_pages::page(conn, &filter))
    }

    fn servers(&self) -> Answer<'_, Vec<ServerRecord>> {
        self.read_now(monitor::servers)
    }

    fn recurring(&self, id: RecurringId) -> Answer<'_, Option<RecurringRecord>> {
        self.read(move |conn| recurring::recurring(conn, &id))
    }

    fn recurring_jobs(&self, filter: RecurringFilter) -> Answer<'_, RecurringPage> {
        self.read(move |conn| recurring::page(conn, &filter))
    }

    fn runs(&self, id: RecurringId, max: u32) -> Answer<'_, Vec<RunRecord>> {
        self.read(move |conn| runs::runs(conn, &id, max))
    }

    fn waiting(&self, id: JobId) -> Answer<'_, Option<WaitingRecord>> {
        self.read_now(move |conn, now| waiting::waiting(conn, now, id))
    }

    fn limits(&self) -> Answer<'_, Vec<LimitRecord>> {
        self.read(limits::limits)
    }

    fn limit_keys(&self, limit: LimitName) -> Answer<'_, Vec<KeyRecord>> {
        self.read_now(move |conn, now| waiting::limit_keys(conn, now, &limit))
    }

    fn locks(&self) -> Answer<'_, Vec<LockRecord>> {
        self.read_now(locks::locks)
    }

    fn notes(&self, id: JobId) -> Answer<'_, NotesRecord> {
        self.read(move |conn| notes::notes(conn, id))
    }

    fn log(&self, id: JobId, after: Option<Cursor>, max: u32) -> Answer<'_, LogPage> {
        self.read(move |conn| notes::log(conn, id, after, max))
    }

    fn statistics(&self, bucket: Bucket, since: Timestamp) -> Answer<'_, Vec<StatisticsRecord>> {
        self.read(move |conn| monitor::statistics(conn, bucket, since))
    }
}

/// What a caller hears when a thread of the storage ended by a panic; the panic was printed.
const UNANSWERED: &str = "a thread of the storage ended before it answered";

/// 64 bits that differ from call to call, as the standard library hands them out for hash maps.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u64)
}
