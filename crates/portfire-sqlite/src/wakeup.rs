//! Hearing of what other processes, and transactions of the user's, have committed to the same file.
//!
//! SQLite's `data_version` changes on a connection when another one has committed. The writer reads it
//! when it begins a transaction anyway and, while someone listens, every few milliseconds of idleness;
//! two numbers in the row of totals then tell whether there is anything to wake for.

use std::time::Duration;

use portfire_core::WakeupHub;
use rusqlite::Connection;

use crate::write::{Book, Tally};

/// Time between two looks while someone listens and nothing else happens.
const TICK: Duration = Duration::from_millis(5);

const SELECT_VERSION: &str = "PRAGMA data_version";

/// What is known of others' commits, and the wake-ups that are owed.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    version: Option<i64>,
    work: bool,
    control: bool,
}

impl Foreign {
    /// How long the writer may sleep before it looks around.
    pub(crate) fn tick(&self, hub: &WakeupHub) -> Option<Duration> {
        hub.is_heard().then_some(TICK)
    }

    /// Whether another connection has committed since the last look.
    pub(crate) fn has_written(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        let version = conn.prepare_cached(SELECT_VERSION)?.query_row([], |row| row.get(0))?;
        let before = self.version.replace(version);
        Ok(before != Some(version))
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
