//! A transaction in which a handler writes its own tables and completes its job: both are in the file
//! after its commit, or neither is.
//!
//! SQLite's calls block, and a handler may run on threads that must not be blocked. So each transaction
//! has a thread with a connection of its own, which is kept for the next one.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use portfire_core::client::CreateIn;
use portfire_core::engine;
use portfire_core::{
    Annotation, Claim, Created, Finish, Json, Limits, Moved, NewJob, Notes, Outcome, Retention,
    ServerId, StorageError, TransitionHub, Verdict, WakeupHub,
};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::connect::open_hand;
use crate::create::create;
use crate::cycle::{annotate, find, finish};
use crate::disk::Trust;
use crate::error::{Failure, storage_error};
use crate::options::{SqliteOptions, StorageClock};
use crate::row::At;
use crate::servers::alive;
use crate::turns::Turn;
use crate::write::{Book, Write};
use crate::{SqliteStorage, UNANSWERED};

/// Threads that are kept for the next transaction. One transaction is open at a time, so few are needed.
const KEPT: usize = 2;

/// A transaction of a running job's handler, on the file that holds the job.
///
/// What is written through [`run`](Self::run), the jobs of [`create`](Self::create) and the job's own
/// success are one commit, made by [`complete`](Self::complete): **exactly once for effects in this
/// file**. It is fenced as a worker's finish is: when the job was taken from its holder meanwhile
/// (deleted, or rescued because the holder seemed dead), nothing is committed. When it is dropped
/// instead, nothing is written, and the job is still running.
///
/// It holds the file's only write lock from its beginning. Everything else that writes waits for it,
/// also heartbeats and claims, so keep it short; and enqueue through it, never through a client of the
/// same file while it is open: that would wait for itself.
///
/// A process that is stopped while it holds the lock (by `SIGSTOP`, a debugger or a frozen container) stops
/// everybody: other processes wait for the [busy timeout](SqliteOptions::busy_timeout), and are then answered
/// [`Unavailable`](StorageError::Unavailable), until it goes on or is killed. Its death frees the lock.
///
/// ```no_run
/// # use portfire_core::{Claim, ServerId, StorageError};
/// # use portfire_sqlite::SqliteStorage;
/// # async fn example(storage: SqliteStorage, claim: Claim, server: ServerId)
/// #     -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let mut tx = storage.begin(claim, server).await?;
/// tx.run(|sql| sql.execute("UPDATE account SET balance = balance - 10 WHERE name = 'ann'", []))
///     .await??;
/// tx.complete(None).await?;
/// # Ok(()) }
/// ```
#[must_use = "a transaction that is dropped writes nothing; call `complete`"]
pub struct JobTransaction {
    /// Taken when it ends.
    hand: Option<Hand>,
    /// Goes on to the next when the transaction has ended.
    turn: Option<Turn>,
    storage: SqliteStorage,
    claim: Claim,
    server: ServerId,
}

impl SqliteStorage {
    /// Begins a transaction in which the holder of this claim writes its own tables and completes its
    /// job. The transactions of one storage have their turns in the order in which they asked, however
    /// long that takes.
    ///
    /// # Errors
    /// [`Unsupported`](StorageError::Unsupported) when this attempt has one open already, which it would
    /// wait for; [`Unavailable`](StorageError::Unavailable) when other processes have kept the file locked
    /// for the [busy timeout](SqliteOptions::busy_timeout); [`Closed`](StorageError::Closed) after
    /// [`close`](Self::close).
    ///
    /// # Cancel safety
    /// Dropping the future begins nothing.
    pub async fn begin(
        &self,
        claim: Claim,
        server: ServerId,
    ) -> Result<JobTransaction, StorageError> {
        let turn = Some(self.inner.turns.of_job(claim).await?);
        let hand = Some(self.inner.hands.take(&self.inner.running)?);
        let storage = self.clone();
        // From here on a drop rolls back and gives the thread back.
        let mut transaction = JobTransaction { hand, turn, storage, claim, server };
        transaction.ask(Desk::begin).await??;
        Ok(transaction)
    }
}

impl JobTransaction {
    /// Runs SQL in the transaction, on its own thread; answers what the closure answers.
    ///
    /// The closure sees what was written before it. It must not end the transaction: whatever comes
    /// after that is refused.
    ///
    /// # Errors
    /// [`Unsupported`](StorageError::Unsupported) when earlier SQL has ended the transaction, which SQLite
    /// also does by itself when the disk is full: then nothing is written.
    ///
    /// # Panics
    /// When the closure does, with its message; the transaction can only be dropped then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the closure run or not, within the transaction.
    pub async fn run<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&Connection) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let done = self.ask(move |desk| {
            desk.must_be_open()?;
            Ok(catch_unwind(AssertUnwindSafe(|| act(&desk.conn))))
        });
        let done: Result<Result<T, Box<dyn Any + Send>>, StorageError> = done.await?;
        match done? {
            Ok(answer) => Ok(answer),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Stores jobs when the transaction commits, as [`Storage::create`](portfire_core::Storage::create)
    /// does. For calls use [`Client::enqueue_in`](portfire_core::Client::enqueue_in) with this transaction.
    ///
    /// # Errors
    /// As `create`: the transaction goes on without these jobs. As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn create(&mut self, jobs: Vec<NewJob>) -> Result<Vec<Created>, StorageError> {
        self.ask(move |desk| desk.create(&jobs)).await?
    }

    /// Takes down what the job says about itself, when the transaction commits: what it has said and the
    /// server has not sent yet would be lost with the server after [`complete`](Self::complete). Of a job that is
    /// no longer held under this claim nothing is taken down.
    ///
    /// # Errors
    /// [`ServerGone`](StorageError::ServerGone) when the server was declared dead. As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn note(&mut self, notes: Notes) -> Result<(), StorageError> {
        let (said, server) = (Annotation::new(self.claim, notes), self.server.clone());
        self.ask(move |desk| desk.note(said, &server)).await?
    }

    /// Records the job's success with this result, and commits.
    ///
    /// [`Verdict::Applied`] when all of it is committed. Any other verdict means that the job is no longer
    /// held under this claim, and that nothing at all was written. A finish of the same attempt that the
    /// worker sends later is answered [`Verdict::Already`].
    ///
    /// # Errors
    /// [`ServerGone`](StorageError::ServerGone) when the server was declared dead: nothing was written.
    /// [`Unavailable`](StorageError::Unavailable) when the commit met a failing disk: it may have been made.
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// Once polled, it is completed or rolled back whether or not the future is polled again.
    pub async fn complete(mut self, result: Option<Json>) -> Result<Verdict, StorageError> {
        let (claim, server) = (self.claim, self.server.clone());
        self.ask(move |desk| desk.complete(claim, &server, result)).await?
    }

    /// Ends the transaction without writing anything, and waits for that. The job is still running.
    ///
    /// # Errors
    /// [`Unavailable`](StorageError::Unavailable) when the thread of the transaction has ended; nothing is
    /// written then, either.
    ///
    /// # Cancel safety
    /// Once polled, it is rolled back.
    pub async fn rollback(mut self) -> Result<(), StorageError> {
        self.ask(Desk::rollback).await
    }

    async fn ask<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        let act: Command = Box::new(move |desk| {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(desk.map(act));
        });
        let asked = self.hand.as_ref().is_some_and(|hand| hand.commands.send(act).is_ok());
        if !asked {
            return Err(StorageError::unavailable(UNANSWERED));
        }
        answer.await.unwrap_or_else(|_| Err(StorageError::unavailable(UNANSWERED)))
    }
}

impl Drop for JobTransaction {
    fn drop(&mut self) {
        let Some(hand) = self.hand.take() else { return };
        let turn = self.turn.take();
        if let Some(turn) = &turn {
            turn.ends();
        }
        // After an end there is nothing to roll back.
        let end: Command = Box::new(move |desk| {
            if let Ok(desk) = desk {
                desk.rollback();
            }
            drop(turn);
        });
        if hand.commands.send(end).is_ok() {
            self.storage.inner.hands.keep(hand);
        }
    }
}

impl fmt::Debug for JobTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobTransaction")
            .field("claim", &self.claim)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Follow-ups: they exist when the job is completed, and never when it is not.
impl CreateIn<SqliteStorage> for JobTransaction {
    async fn create_in(
        &mut self,
        _storage: Option<&SqliteStorage>,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Created>, StorageError> {
        self.create(jobs).await
    }
}

/// Takes the error when the connection could not be opened.
type Command = Box<dyn FnOnce(Result<&mut Desk, StorageError>) + Send>;

/// A thread with a connection, as its user holds it. The thread ends when it is dropped.
struct Hand {
    commands: mpsc::Sender<Command>,
}

/// The threads of transactions.
pub(crate) struct Hands {
    options: SqliteOptions,
    hub: Arc<WakeupHub>,
    transitions: Arc<TransitionHub>,
    clock: Arc<StorageClock>,
    trust: Arc<Trust>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    hands: Vec<Hand>,
    closed: bool,
}

impl Hands {
    pub(crate) fn new(
        options: SqliteOptions,
        (hub, transitions): (Arc<WakeupHub>, Arc<TransitionHub>),
        clock: Arc<StorageClock>,
        trust: Arc<Trust>,
    ) -> Hands {
        Hands { options, hub, transitions, clock, trust, idle: Mutex::default() }
    }

    /// An idle thread, or a new one; `running` is subscribed to for as long as it lives.
    fn take(&self, running: &watch::Sender<()>) -> Result<Hand, StorageError> {
        let mut idle = self.lock();
        if idle.closed {
            return Err(StorageError::Closed);
        }
        if let Some(hand) = idle.hands.pop() {
            return Ok(hand);
        }
        drop(idle);
        let (commands, asked) = mpsc::channel();
        let (options, keep) = (self.options.clone(), running.subscribe());
        let hubs = (Arc::clone(&self.hub), Arc::clone(&self.transitions));
        let clock = Arc::clone(&self.clock);
        let trust = Arc::clone(&self.trust);
        let serve = move || {
            IS_HAND.set(true);
            serve(&options, &hubs, &clock, &trust, &asked);
            drop(keep);
        };
        std::thread::Builder::new()
            .name("portfire-job".to_owned())
            .spawn(serve)
            .map_err(StorageError::unavailable)?;
        Ok(Hand { commands })
    }

    fn keep(&self, hand: Hand) {
        let mut idle = self.lock();
        if !idle.closed && idle.hands.len() < KEPT {
            idle.hands.push(hand);
        }
    }

    /// Lets the idle threads end, and the others after their transactions.
    pub(crate) fn close(&self) {
        let mut idle = self.lock();
        idle.closed = true;
        idle.hands.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // The list is whole between any two statements, so a panic elsewhere cannot have torn it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    static IS_HAND: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is one of those, and so must not wait for its own end.
pub(crate) fn is_hand() -> bool {
    IS_HAND.get()
}

fn serve(
    options: &SqliteOptions,
    hubs: &(Arc<WakeupHub>, Arc<TransitionHub>),
    clock: &Arc<StorageClock>,
    trust: &Arc<Trust>,
    asked: &mpsc::Receiver<Command>,
) {
    let mut open = None;
    while let Ok(command) = asked.recv() {
        if open.is_none() {
            // The connection is opened on the thread that uses it.
            match open_hand(options) {
                Ok(conn) => open = Some(Desk::new(conn, options, hubs, clock, trust)),
                Err(error) => {
                    command(Err(error));
                    continue;
                }
            }
        }
        if let Some(desk) = &mut open {
            command(Ok(desk));
        }
    }
}

/// The thread's own.
struct Desk {
    conn: Connection,
    path: PathBuf,
    hub: Arc<WakeupHub>,
    transitions: Arc<TransitionHub>,
    /// The transitions of the transaction, while somebody listens.
    told: Vec<Moved>,
    clock: Arc<StorageClock>,
    trust: Arc<Trust>,
    retention: Retention,
    limits: Limits,
    book: Book,
    /// Whether there is work, or control, to announce after the commit.
    hints: (bool, bool),
}

impl Desk {
    fn new(
        conn: Connection,
        options: &SqliteOptions,
        (hub, transitions): &(Arc<WakeupHub>, Arc<TransitionHub>),
        clock: &Arc<StorageClock>,
        trust: &Arc<Trust>,
    ) -> Desk {
        Desk {
            conn,
            path: options.path.clone(),
            hub: Arc::clone(hub),
            transitions: Arc::clone(transitions),
            told: Vec::new(),
            clock: Arc::clone(clock),
            trust: Arc::clone(trust),
            retention: options.retention,
            limits: options.limits,
            book: Book::default(),
            hints: (false, false),
        }
    }

    fn begin(&mut self) -> Result<(), StorageError> {
        self.hints = (false, false);
        self.told.clear();
        self.trust.restore(&self.conn).map_err(|lost| lost.to_storage(&self.path))?;
        let begun = self.conn.prepare_cached("BEGIN IMMEDIATE").and_then(|mut sql| sql.execute([]));
        begun.map(drop).map_err(|error| storage_error(&error, &self.path))
    }

    fn must_be_open(&self) -> Result<(), StorageError> {
        if !self.conn.is_autocommit() {
            return Ok(());
        }
        Err(StorageError::Unsupported(format!(
            "{}: the job's transaction was ended by its own SQL, or by SQLite after an error; \
             leave its end to `complete`",
            self.path.display()
        )))
    }

    fn create(&mut self, jobs: &[NewJob]) -> Result<Vec<Created>, StorageError> {
        self.must_be_open()?;
        self.write(|write| {
            write.all_or_nothing(|write| {
                let created = create(write, &[], jobs)?;
                engine::settle(write)?;
                write.flush()?;
                Ok(created)
            })
        })
    }

    fn note(&mut self, said: Annotation, server: &ServerId) -> Result<(), StorageError> {
        self.must_be_open()?;
        self.write(|write| {
            let number = alive(write.conn, server)?;
            annotate(write, server, number, &[said]).map(drop)
        })
    }

    fn complete(
        &mut self,
        claim: Claim,
        server: &ServerId,
        result: Option<Json>,
    ) -> Result<Verdict, StorageError> {
        self.must_be_open()?;
        let verdict = self.write(|write| {
            let number = alive(write.conn, server)?;
            let found = find(write, claim)?;
            let ran = match found.as_ref().map(|(_, stand)| stand.row) {
                Some(At::Running { claimed_at, .. }) => write.now.since(claimed_at),
                _ => Duration::ZERO,
            };
            let done = Finish { claim, outcome: Outcome::Succeeded { result }, duration: ran };
            let verdict = finish(write, server, number, &done, found)?;
            engine::settle(write)?;
            write.flush()?;
            Ok(verdict)
        });
        let commits = matches!(verdict, Ok(Verdict::Applied));
        let verdict = match verdict {
            Ok(Verdict::Applied) => self.commit().map(|()| Verdict::Applied),
            other => other,
        };
        if !commits || verdict.is_err() {
            self.rollback();
        }
        verdict
    }

    fn write<T>(
        &mut self,
        act: impl FnOnce(&mut Write<'_>) -> Result<T, Failure>,
    ) -> Result<T, StorageError> {
        let Desk { conn, book, clock, retention, limits, .. } = self;
        let begun = Write::begin(conn, book, true, clock, *retention, *limits);
        let mut write = begun.map_err(|error| storage_error(&error, &self.path))?;
        write.told = self.transitions.is_heard().then(Vec::new);
        let done = act(&mut write);
        if done.is_ok() {
            self.told.extend(write.told.take().unwrap_or_default());
            let (work, control) = write.finish();
            self.hints = (self.hints.0 || work, self.hints.1 || control);
        }
        done.map_err(|failure| failure.into_storage(&self.path))
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        let committed = self.conn.prepare_cached("COMMIT").and_then(|mut sql| sql.execute([]));
        committed.map_err(|error| {
            self.trust.hear(&error);
            storage_error(&error, &self.path)
        })?;
        let (work, control) = std::mem::take(&mut self.hints);
        let files = self.trust.files().check(&self.conn);
        files.map_err(|lost| lost.to_storage(&self.path))?;
        self.transitions.tell(std::mem::take(&mut self.told));
        if control {
            self.hub.control();
        }
        if work {
            self.hub.work();
        }
        Ok(())
    }

    fn rollback(&mut self) {
        // SQLite may have rolled back by itself.
        if self.conn.is_autocommit() {
            return;
        }
        self.book.forget();
        if let Err(error) = self.conn.execute_batch("ROLLBACK") {
            tracing::warn!(%error, path = %self.path.display(), "rolling back a job's transaction");
        }
    }
}
