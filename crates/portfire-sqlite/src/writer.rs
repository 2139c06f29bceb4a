//! The writer: one thread that owns the connection and writes for everyone in this process.
//!
//! What has gathered while the last commit ran goes into the next one, so one operation alone waits
//! for nothing and a flood pays one sync for hundreds. Answers are sent after the commit.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portfire_core::{Limits, Retention, StorageError, WakeupHub};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::checkpoint::Checkpointer;
use crate::connect::{open_writer, set_synchronous};
use crate::error::{Failure, storage_error};
use crate::options::{SqliteOptions, StorageClock, Synchronous};
use crate::process::Process;
use crate::wakeup::Foreign;
use crate::write::{Book, Write};

/// Most operations in one commit.
const OPERATIONS_MAX: usize = 256;
/// A commit takes no further operation once it has so many jobs.
const JOBS_MAX: usize = 1_000;

/// How often the writer lets others run while it waits for those it has just answered.
const GATHER_MAX: usize = 16;

/// Something to do in a transaction, and someone who waits for its answer.
pub(crate) trait Operation: Send {
    /// How many jobs it is about.
    fn weight(&self) -> usize;
    /// Whether its answer promises that the effect survives a power failure.
    fn is_durable(&self) -> bool;
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    /// Does it. An error of SQLite's loses the transaction; it may then be done again.
    fn apply(&mut self, write: &mut Write<'_>) -> rusqlite::Result<()>;
    /// Sends the answer, which is the error when the transaction was lost.
    fn answer(self: Box<Self>, lost: Option<StorageError>);
}

/// An operation made of a closure.
struct Pending<T, F> {
    weight: usize,
    durable: bool,
    act: F,
    answer: Option<Result<T, StorageError>>,
    reply: oneshot::Sender<Result<T, StorageError>>,
}

impl<T, F> Operation for Pending<T, F>
where
    T: Send,
    F: FnMut(&mut Write<'_>) -> Result<T, Failure> + Send,
{
    fn weight(&self) -> usize {
        self.weight
    }

    fn is_durable(&self) -> bool {
        self.durable
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn apply(&mut self, write: &mut Write<'_>) -> rusqlite::Result<()> {
        self.answer = Some(match (self.act)(write) {
            Ok(done) => Ok(done),
            Err(Failure::Refused(refusal)) => Err(refusal),
            Err(Failure::Sql(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, lost: Option<StorageError>) {
        let answer = match lost {
            Some(error) => Err(error),
            None => self.answer.unwrap_or(Err(StorageError::Closed)),
        };
        // Whoever asked may have stopped waiting.
        let _ = self.reply.send(answer);
    }
}

/// In which line an operation waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Heartbeats, cycles and whatever else keeps servers going: no flood of new jobs delays it.
    First,
    /// Creates, changes, cleaning.
    Bulk,
}

/// Where operations wait for the writer.
pub(crate) struct Inbox {
    lines: Mutex<Lines>,
    bell: Condvar,
    commits: AtomicU64,
}

#[derive(Default)]
struct Lines {
    first: VecDeque<Box<dyn Operation>>,
    bulk: VecDeque<Box<dyn Operation>>,
    closed: bool,
    asleep: bool,
}

/// Why the writer was woken.
enum Woken {
    Work,
    Tick,
    Closed,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { lines: Mutex::default(), bell: Condvar::new(), commits: AtomicU64::new(0) }
    }

    /// Hands an operation in; the receiver gets its answer.
    pub(crate) fn hand_in<T: Send + 'static>(
        &self,
        line: Line,
        weight: usize,
        durable: bool,
        act: impl FnMut(&mut Write<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StorageError>>, StorageError> {
        let (reply, answer) = oneshot::channel();
        let pending = Box::new(Pending { weight, durable, act, answer: None, reply });
        let mut lines = self.lock();
        if lines.closed {
            return Err(StorageError::Closed);
        }
        match line {
            Line::First => lines.first.push_back(pending),
            Line::Bulk => lines.bulk.push_back(pending),
        }
        let asleep = std::mem::take(&mut lines.asleep);
        drop(lines);
        if asleep {
            self.bell.notify_one();
        }
        Ok(answer)
    }

    /// Takes nothing more; what waits is still done.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_one();
    }

    /// Lets the writer look around, for instance because someone began to listen.
    pub(crate) fn nudge(&self) {
        self.bell.notify_one();
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // The lines are whole between any two statements, so a panic elsewhere cannot have torn them.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets those who were just answered hand in what they want next, when they were many: otherwise
    /// the first of them would have a commit to themselves, and the rest another one. It ends as soon
    /// as nobody comes, and after a few turns at the latest.
    fn gather(&self, answered: usize) {
        let mut waiting = self.lock().len();
        for _ in 0..GATHER_MAX {
            if waiting >= answered {
                return;
            }
            std::thread::yield_now();
            let now = self.lock().len();
            if now == waiting {
                return;
            }
            waiting = now;
        }
    }

    /// Waits for operations and moves a commit's worth of them into `group`.
    fn take(&self, group: &mut Vec<Box<dyn Operation>>, tick: Option<Duration>) -> Woken {
        let mut lines = self.lock();
        if lines.is_empty() && !lines.closed {
            lines.asleep = true;
            lines = match tick {
                Some(tick) => {
                    self.bell.wait_timeout(lines, tick).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.bell.wait(lines).unwrap_or_else(PoisonError::into_inner),
            };
            lines.asleep = false;
        }
        if lines.is_empty() {
            return if lines.closed { Woken::Closed } else { Woken::Tick };
        }
        lines.fill(group);
        Woken::Work
    }
}

impl Lines {
    fn len(&self) -> usize {
        self.first.len() + self.bulk.len()
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.bulk.is_empty()
    }

    /// The first line has its turn first, and at least one of the bulk goes with every commit.
    fn fill(&mut self, group: &mut Vec<Box<dyn Operation>>) {
        let mut jobs = 0;
        while let Some(operation) = self.first.pop_front() {
            jobs += operation.weight();
            group.push(operation);
            if jobs >= JOBS_MAX || group.len() >= OPERATIONS_MAX {
                break;
            }
        }
        while let Some(operation) = self.bulk.pop_front() {
            jobs += operation.weight();
            group.push(operation);
            if jobs >= JOBS_MAX || group.len() >= OPERATIONS_MAX {
                break;
            }
        }
    }
}

/// Closes the inbox when the writer ends, also by a panic, so that nobody waits for ever.
struct LastOut(Arc<Inbox>);

impl Drop for LastOut {
    fn drop(&mut self) {
        let mut lines = self.0.lock();
        lines.closed = true;
        let left = (std::mem::take(&mut lines.first), std::mem::take(&mut lines.bulk));
        drop(lines);
        for operation in left.0.into_iter().chain(left.1) {
            operation.answer(Some(StorageError::Closed));
        }
    }
}

/// The thread's own.
pub(crate) struct Writer {
    conn: Connection,
    path: PathBuf,
    inbox: Arc<Inbox>,
    hub: Arc<WakeupHub>,
    clock: Arc<StorageClock>,
    retention: Retention,
    limits: Limits,
    synchronous: Synchronous,
    process: Process,
    checkpointer: Checkpointer,
}

impl Writer {
    /// Opens the database, on the thread that is to write.
    pub(crate) fn open(
        options: &SqliteOptions,
        inbox: Arc<Inbox>,
        hub: Arc<WakeupHub>,
        clock: Arc<StorageClock>,
    ) -> Result<Writer, StorageError> {
        Ok(Writer {
            conn: open_writer(options)?,
            path: options.path.clone(),
            inbox,
            hub,
            clock,
            retention: options.retention,
            limits: options.limits,
            synchronous: options.synchronous,
            process: Process::new(&options.path),
            checkpointer: Checkpointer::new(options),
        })
    }

    /// Serves until the inbox is closed and empty.
    pub(crate) fn run(self) {
        let _last_out = LastOut(Arc::clone(&self.inbox));
        let mut at_work = AtWork {
            book: Book::default(),
            foreign: Foreign::default(),
            relaxed: false,
            writer: self,
        };
        let mut group = Vec::new();
        loop {
            let tick = at_work.foreign.tick(&at_work.writer.hub);
            match at_work.writer.inbox.take(&mut group, tick) {
                Woken::Work => {
                    let answered = group.len();
                    at_work.commit_group(&mut group);
                    if answered > 1 {
                        at_work.writer.inbox.gather(answered);
                    }
                }
                Woken::Tick => at_work.look_around(),
                Woken::Closed => return,
            }
        }
    }
}

/// The writer with what it remembers from commit to commit.
struct AtWork {
    writer: Writer,
    book: Book,
    foreign: Foreign,
    /// Whether the connection is set to commit without a sync.
    relaxed: bool,
}

impl AtWork {
    /// Does the operations in one commit; when SQLite refuses that, each in a commit of its own, so
    /// that one which does not fit on the disk does not take the others with it.
    fn commit_group(&mut self, group: &mut Vec<Box<dyn Operation>>) {
        group.retain(|operation| !operation.is_abandoned());
        if group.is_empty() {
            return;
        }
        match self.commit(group) {
            Ok(()) => group.drain(..).for_each(|operation| operation.answer(None)),
            Err(error) if group.len() > 1 && rolls_back(&error) => {
                for operation in group.drain(..) {
                    let mut alone = vec![operation];
                    let lost = self.commit(&mut alone).err();
                    self.answer_lost(alone, lost);
                }
            }
            Err(error) => self.answer_lost(std::mem::take(group), Some(error)),
        }
        self.foreign.announce(&self.writer.hub);
        self.writer.checkpointer.after_commit(&self.writer.conn);
    }

    fn answer_lost(&self, group: Vec<Box<dyn Operation>>, lost: Option<rusqlite::Error>) {
        for operation in group {
            let lost = lost.as_ref().map(|error| storage_error(error, &self.writer.path));
            operation.answer(lost);
        }
    }

    fn commit(&mut self, group: &mut [Box<dyn Operation>]) -> rusqlite::Result<()> {
        let durable = group.iter().any(|operation| operation.is_durable());
        self.relax(!durable)?;
        let conn = &self.writer.conn;
        if !conn.is_autocommit() {
            // An earlier rollback failed, as it may on a disk that fails.
            conn.execute_batch("ROLLBACK")?;
        }
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let done = self.apply(group);
        let conn = &self.writer.conn;
        let done = done.and_then(|()| conn.prepare_cached("COMMIT")?.execute([]).map(drop));
        match done {
            Ok(()) => {
                self.writer.process.remove_ended();
                self.writer.inbox.commits.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.book.forget();
                self.foreign.forget();
                // SQLite may have rolled back by itself.
                if !conn.is_autocommit()
                    && let Err(error) = conn.execute_batch("ROLLBACK")
                {
                    tracing::warn!(%error, "rolling back");
                }
                Err(error)
            }
        }
    }

    fn apply(&mut self, group: &mut [Box<dyn Operation>]) -> rusqlite::Result<()> {
        let Writer { conn, clock, retention, limits, process, .. } = &mut self.writer;
        let stale = self.foreign.has_written(conn)?;
        let before = self.book.tally;
        let mut write = Write::begin(conn, &mut self.book, stale, clock, *retention, *limits)?;
        write.process = Some(process);
        if stale {
            self.foreign.compare(&before, &write.tally);
        }
        for operation in group {
            operation.apply(&mut write)?;
        }
        write.flush()?;
        let (work, control) = write.finish();
        self.foreign.owe(work, control);
        Ok(())
    }

    /// Commits of claims and heartbeats alone need no sync: a power failure that undoes them has
    /// ended every process that could know of them, so the job simply runs again, under the same
    /// attempt number and without a recovery counted. A crash of the process undoes nothing. The
    /// next commit of anything else syncs them too.
    fn relax(&mut self, relaxed: bool) -> rusqlite::Result<()> {
        if relaxed != self.relaxed && self.writer.synchronous == Synchronous::Full {
            let to = if relaxed { Synchronous::Normal } else { Synchronous::Full };
            set_synchronous(&self.writer.conn, to)?;
            self.relaxed = relaxed;
        }
        Ok(())
    }

    /// Looks whether other processes have written something to tell of.
    fn look_around(&mut self) {
        let Writer { conn, process, .. } = &self.writer;
        let looked = self.foreign.look(conn, &mut self.book);
        let looked = looked.and_then(|()| self.foreign.watch(conn, process));
        if let Err(error) = looked {
            tracing::debug!(%error, path = %self.writer.path.display(), "looking for foreign commits");
        }
        self.foreign.announce(&self.writer.hub);
    }
}

/// Whether an error has left nothing behind, so that doing the operations again is safe and sensible.
fn rolls_back(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    !matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
        )
    )
}
