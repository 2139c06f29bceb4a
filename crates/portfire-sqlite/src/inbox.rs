//! Where operations wait for the writer: two lines, so that no flood of new jobs keeps a server from its
//! heartbeat.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portfire_core::StorageError;
use portfire_core::engine;
use tokio::sync::oneshot;

use crate::error::{Failure, Lost};
use crate::write::Write;

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
    /// Whether its answer waits for the disk.
    fn durability(&self) -> Durability;
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    /// Does it. An error means that the transaction is lost; it may then be done again.
    fn apply(&mut self, write: &mut Write<'_>) -> Result<(), Lost>;
    /// Sends the answer, which is the error when the transaction was lost.
    fn answer(self: Box<Self>, lost: Option<StorageError>);
}

/// Whether an answer promises that what it tells of survives a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It does, also when the operation found its effect there already.
    Always,
    /// It does, and says nothing when there was nothing to do.
    IfChanged,
    /// It does not: claims and heartbeats. A power failure that undoes them has ended every process
    /// that could know of them, so the job simply runs again, under the same attempt number and
    /// without a recovery counted. A crash of the process undoes nothing.
    Never,
}

/// An operation made of a closure.
struct Pending<T, F> {
    weight: usize,
    durability: Durability,
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

    fn durability(&self) -> Durability {
        self.durability
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn apply(&mut self, write: &mut Write<'_>) -> Result<(), Lost> {
        let done = (self.act)(write).and_then(|done| {
            engine::settle(write)?;
            Ok(done)
        });
        self.answer = Some(match done {
            Ok(done) => Ok(done),
            Err(Failure::Refused(refusal)) => Err(refusal),
            Err(Failure::Lost(lost)) => return Err(lost),
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
    /// How many hold the writer back.
    held: usize,
}

/// Why the writer was woken.
pub(crate) enum Woken {
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
        durability: Durability,
        act: impl FnMut(&mut Write<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StorageError>>, StorageError> {
        let (reply, answer) = oneshot::channel();
        let pending = Box::new(Pending { weight, durability, act, answer: None, reply });
        let mut lines = self.lock();
        if lines.closed {
            return Err(StorageError::Closed);
        }
        match line {
            // What is held back is done in the order in which it came.
            _ if lines.held > 0 => lines.first.push_back(pending),
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

    /// Keeps the writer from its next commit until [`let_go`](Inbox::let_go).
    pub(crate) fn hold(&self) {
        self.lock().held += 1;
    }

    pub(crate) fn let_go(&self) {
        self.lock().held -= 1;
        self.bell.notify_one();
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

    /// Counts a commit.
    pub(crate) fn count_commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
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
    pub(crate) fn gather(&self, answered: usize) {
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
    pub(crate) fn take(
        &self,
        group: &mut Vec<Box<dyn Operation>>,
        tick: Option<Duration>,
    ) -> Woken {
        let mut lines = self.lock();
        if (lines.is_empty() || lines.held > 0) && !lines.closed {
            lines.asleep = true;
            lines = match tick {
                Some(tick) => {
                    self.bell.wait_timeout(lines, tick).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.bell.wait(lines).unwrap_or_else(PoisonError::into_inner),
            };
            lines.asleep = false;
        }
        if lines.is_empty() || (lines.held > 0 && !lines.closed) {
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

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

/// Closes the inbox when the writer ends, also by a panic, so that nobody waits for ever.
pub(crate) struct LastOut(pub(crate) Arc<Inbox>);

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
