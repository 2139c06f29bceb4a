//! Hearing of what other processes, and transactions of the user's, have committed to the same file.
//!
//! SQLite's `data_version` changes on a connection when another one has committed. The writer reads it
//! when it begins a transaction anyway and, while someone listens, every few milliseconds of idleness;
//! two numbers in the row of totals then tell whether there is anything to wake for. Where the system keeps
//! the times of files well, SQLite is asked only when the log has been written to.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use portfire_core::WakeupHub;
use rusqlite::Connection;

use crate::process::Process;
use crate::servers::processes;
use crate::write::{Book, Tally};

/// Time between two looks while someone listens and others have committed of late.
const TICK: Duration = Duration::from_millis(5);
/// Time between two looks when nobody has: a look wakes the processor.
const TICK_IDLE: Duration = Duration::from_millis(40);
/// For how long a commit of others is of late.
const LIVELY: Duration = Duration::from_secs(1);
/// After so long a file that is written to has another time than before: systems count it in steps.
const STEP_OF_FILE_TIMES: Duration = Duration::from_millis(30);
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
    log: LogTime,
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
    pub(crate) fn look(
        &mut self,
        conn: &Connection,
        log: &Path,
        book: &mut Book,
    ) -> rusqlite::Result<()> {
        if !self.log.is_still(log) && self.has_written(conn)? {
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
        self.log.forget();
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

/// When the log was last written to, by the time of its file.
#[derive(Debug, Default)]
struct LogTime {
    seen: Option<(SystemTime, Instant)>,
    /// SQLite was asked late enough: what came later has given the file another time.
    settled: bool,
}

impl LogTime {
    /// Whether nobody has written since SQLite was last asked; otherwise it is to be asked now.
    fn is_still(&mut self, log: &Path) -> bool {
        // Elsewhere the time of a file that is open may lag.
        if !cfg!(target_os = "linux") {
            return false;
        }
        let written_at = std::fs::metadata(log).and_then(|about| about.modified()).ok();
        self.is_still_at(written_at, Instant::now())
    }

    fn is_still_at(&mut self, written_at: Option<SystemTime>, now: Instant) -> bool {
        let Some(written_at) = written_at else { return false };
        match self.seen {
            Some((before, since)) if before == written_at => {
                let settled = self.settled;
                self.settled = now.duration_since(since) >= STEP_OF_FILE_TIMES;
                settled
            }
            _ => {
                (self.seen, self.settled) = (Some((written_at, now)), false);
                false
            }
        }
    }

    /// Has SQLite asked at the next look.
    fn forget(&mut self) {
        self.settled = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_is_asked_once_more_when_the_time_of_the_file_must_have_moved_on() {
        let (mut log, start) = (LogTime::default(), Instant::now());
        let mut is_still = |written: u64, at: u64| {
            let written = SystemTime::UNIX_EPOCH + Duration::from_millis(written);
            log.is_still_at(Some(written), start + Duration::from_millis(at))
        };
        assert!(!is_still(0, 0), "never seen");
        assert!(!is_still(0, 10), "a second commit may have the same time");
        assert!(!is_still(0, 40), "asked late enough now");
        assert!(is_still(0, 41) && is_still(0, 80));
        assert!(!is_still(90, 91), "written to");
        assert!(!is_still(90, 140) && is_still(90, 180));
        assert!(!log.is_still_at(None, start), "nobody knows");
    }

    #[test]
    fn sqlite_is_asked_now_and_then_whatever_the_file_says() {
        let (mut log, start) = (LogTime::default(), Instant::now());
        let written = Some(SystemTime::UNIX_EPOCH);
        log.is_still_at(written, start);
        let later = start + STEP_OF_FILE_TIMES;
        log.is_still_at(written, later);
        assert!(log.is_still_at(written, later));
        log.forget();
        assert!(!log.is_still_at(written, later));
    }
}
