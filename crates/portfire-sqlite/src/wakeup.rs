//! Hearing of what other processes, and transactions of the user's, have committed to the same file.
//!
//! SQLite's `data_version` changes on a connection when another one has committed. The writer reads it
//! when it begins a transaction anyway and, while someone listens, every few milliseconds of idleness;
//! two numbers in the row of totals then tell whether there is anything to wake for.

use std::time::{Duration, Instant};

use portfire_core::WakeupHub;
use rusqlite::Connection;

use crate::process::Process;
use crate::servers::processes;
use crate::write::{Book, Tally};

/// Time between two looks while someone listens and others have committed of late.
const TICK: Duration = Duration::from_millis(5);
/// Time between two looks when nobody has: a look costs about 40 microseconds, waking included.
const TICK_IDLE: Duration = Duration::from_millis(15);
/// For how long a commit of others is of late.
const LIVELY: Duration = Duration::from_secs(1);
/// Time between two looks at the lock files of other processes.
const WATCH: Duration = Duration::from_millis(500);

const SELECT_VERSION: &str = "PRAGMA data_version";

/// What is known of others' commits and lives, and the wake-ups that are owed.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    version: Option<i64>,
    /// When others were last found to have committed.
    heard_at: Option<Instant>,
    watched_at: Option<Instant>,
    /// Processes whose end was announced already.
    ended: Vec<String>,
    work: bool,
    control: bool,
}

impl Foreign {
    /// How long the writer may sleep before it looks around.
    pub(crate) fn tick(&self, hub: &WakeupHub) -> Option<Duration> {
        let lively = self.heard_at.is_some_and(|at| at.elapsed() < LIVELY);
        hub.is_heard().then_some(if lively { TICK } else { TICK_IDLE })
    }

    /// Whether another connection has committed since the last look.
    pub(crate) fn has_written(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        let version = conn.prepare_cached(SELECT_VERSION)?.query_row([], |row| row.get(0))?;
        let before = self.version.replace(version);
        let changed = before != Some(version);
        if changed && before.is_some() {
            self.heard_at = Some(Instant::now());
        }
        Ok(changed)
    }

    /// Takes the next look for a change.
    pub(crate) fn forget(&mut self) {
        self.version = None;
    }

    /// Looks, outside of a transaction.
    pub(crate) fn look(&mut self, conn: &Connection, book: &mut Book) -> rusqlite::Result<()> {
        if self.has_written(conn)? {
            let before = book.tally;
            book.refresh(conn)?;
            self.compare(&before, &book.tally);
        }
        Ok(())
    }

    /// Looks, now and then, whether a process has ended that has servers: they can be rescued at once.
    pub(crate) fn watch(&mut self, conn: &Connection, own: &Process) -> rusqlite::Result<()> {
        if self.watched_at.is_some_and(|at| at.elapsed() < WATCH) {
            return Ok(());
        }
        self.watched_at = Some(Instant::now());
        let living = processes(conn)?;
        self.ended.retain(|name| living.contains(name));
        for name in living {
            if !self.ended.contains(&name) && own.has_ended(&name) {
                self.ended.push(name);
                self.control = true;
            }
        }
        Ok(())
    }

    /// Owes what others' commits have announced.
    pub(crate) fn compare(&mut self, before: &Tally, after: &Tally) {
        self.owe(before.work != after.work, before.control != after.control);
    }

    /// Owes wake-ups of a commit.
    pub(crate) fn owe(&mut self, work: bool, control: bool) {
        self.work |= work;
        self.control |= control;
    }

    /// Pays what is owed.
    pub(crate) fn announce(&mut self, hub: &WakeupHub) {
        if std::mem::take(&mut self.control) {
            hub.control();
        }
        if std::mem::take(&mut self.work) {
            hub.work();
        }
    }
}
