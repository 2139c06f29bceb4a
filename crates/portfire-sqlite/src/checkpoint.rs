//! Bringing the log into the database file, beside the writer instead of in its way.
//!
//! A thread with a connection of its own copies what is committed while commits go on. Only when the
//! whole log is copied can it begin anew from its start, so the writer copies the last few pages
//! itself, between two commits.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use crate::connect::{open_checkpointer, set_synchronous};
use crate::options::{SqliteOptions, Synchronous};

/// Pages in the log from which it is copied: 16 MiB, so that a page which changes with every commit
/// is copied once for many of them.
pub(crate) const PAGES_BEGIN: u32 = 4_000;
/// Commits between two looks at the size of the log.
const COMMITS_BETWEEN: u32 = 8;
/// Attempts of the thread to come close to the end of a log that grows meanwhile.
const ROUNDS: u32 = 4;

const LOOK: &str = "PRAGMA wal_checkpoint(NOOP)";
const COPY: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Pages of the log at which something is done.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// From here on it is copied: [`PAGES_BEGIN`], unless a test wants to see it earlier.
    begin: i64,
    /// So many the writer copies itself.
    last: i64,
    /// From here on the writer waits until it is copied: it may not grow for ever.
    max: i64,
}

impl Bounds {
    fn from(begin: u32) -> Bounds {
        let begin = i64::from(begin);
        Bounds { begin, last: begin / 10, max: begin * 10 }
    }
}

/// The writer's side.
pub(crate) struct Checkpointer {
    path: PathBuf,
    busy_timeout: Duration,
    synchronous: Synchronous,
    bounds: Bounds,
    commits: u32,
    thread: Option<Thread>,
}

struct Thread {
    requests: SyncSender<()>,
    handle: JoinHandle<()>,
    /// Set when so little is left that the writer can copy it.
    nearly_done: std::sync::Arc<AtomicBool>,
}

impl Checkpointer {
    pub(crate) fn new(options: &SqliteOptions) -> Checkpointer {
        Checkpointer {
            path: options.path.clone(),
            busy_timeout: options.busy_timeout,
            synchronous: options.synchronous,
            bounds: Bounds::from(options.log_pages),
            commits: 0,
            thread: None,
        }
    }

    /// Looks after the log; called by the writer after a commit.
    pub(crate) fn after_commit(&mut self, conn: &Connection) {
        if self.thread.as_ref().is_some_and(|t| t.nearly_done.swap(false, Ordering::Relaxed)) {
            self.log_error(left_after(conn, COPY));
        }
        self.commits += 1;
        if self.commits < COMMITS_BETWEEN {
            return;
        }
        self.commits = 0;
        match left_after(conn, LOOK) {
            Ok(left) if left >= self.bounds.max => self.log_error(left_after(conn, COPY)),
            Ok(left) if left >= self.bounds.begin => self.request(conn),
            other => self.log_error(other),
        }
    }

    /// Wakes the thread, which is started when it is needed first.
    fn request(&mut self, conn: &Connection) {
        if self.thread.is_none() {
            match self.start() {
                Ok(thread) => self.thread = Some(thread),
                Err(error) => {
                    tracing::warn!(%error, "no thread to copy the log; the writer does it");
                    self.log_error(left_after(conn, COPY));
                }
            }
        }
        if let Some(thread) = &self.thread {
            // A request that waits already, or a thread that has ended, changes nothing: the writer
            // copies the log itself when it grows too long.
            let _ = thread.requests.try_send(());
        }
    }

    fn start(&self) -> std::io::Result<Thread> {
        let (requests, requested) = sync_channel(1);
        let nearly_done = std::sync::Arc::new(AtomicBool::new(false));
        let (path, busy_timeout, synchronous) =
            (self.path.clone(), self.busy_timeout, self.synchronous);
        let last = self.bounds.last;
        let done = std::sync::Arc::clone(&nearly_done);
        let serve = move || match open_checkpointer(&path, busy_timeout) {
            Ok(conn) => serve(&conn, synchronous, last, &requested, &done),
            Err(error) => tracing::warn!(%error, "the log cannot be copied beside the writer"),
        };
        let handle = std::thread::Builder::new().name("portfire-log".to_owned()).spawn(serve)?;
        Ok(Thread { requests, handle, nearly_done })
    }

    fn log_error(&self, done: rusqlite::Result<i64>) {
        if let Err(error) = done {
            // Nothing is lost: the log holds everything, and the next attempt comes soon.
            tracing::debug!(%error, path = %self.path.display(), "copying the log");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        if let Some(Thread { requests, handle, .. }) = self.thread.take() {
            drop(requests);
            // A thread that panicked has said so already.
            let _ = handle.join();
        }
    }
}

fn serve(
    conn: &Connection,
    synchronous: Synchronous,
    last: i64,
    requested: &Receiver<()>,
    nearly_done: &AtomicBool,
) {
    if let Err(error) = set_synchronous(conn, synchronous) {
        tracing::warn!(%error, "copying the log");
        return;
    }
    while requested.recv().is_ok() {
        for _ in 0..ROUNDS {
            match left_after(conn, COPY) {
                Ok(left) if left <= last => {
                    nearly_done.store(true, Ordering::Relaxed);
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "copying the log");
                    break;
                }
            }
        }
    }
}

/// Runs a checkpoint of some kind; tells how many pages of the log are not copied yet.
fn left_after(conn: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    conn.prepare_cached(pragma)?.query_row([], |row| {
        let (pages, copied): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(pages - copied)
    })
}
