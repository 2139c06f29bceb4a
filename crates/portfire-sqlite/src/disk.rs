//! How commits come to survive a power failure.
//!
//! On Linux the writer syncs the log itself, by `fdatasync` and only for answers that promise it, where
//! SQLite would sync each commit by `fsync`, which writes the file's times as well. What is synced is
//! the whole log, so an answered commit never depends on one that may still be lost. Elsewhere SQLite
//! syncs.

use std::fs::File;

use rusqlite::{Connection, ErrorCode, ffi};

use crate::connect::set_synchronous;
use crate::options::Synchronous;

const COPY_ALL: &str = "PRAGMA wal_checkpoint(FULL)";

/// The disk below one connection.
#[derive(Debug)]
pub(crate) struct Disk {
    synchronous: Synchronous,
    /// The log, when it is synced here.
    log: Option<File>,
    /// What SQLite is set to do at a commit, when that changes.
    set: Synchronous,
    /// A sync has failed: what is in the log may not be on the disk, and no later sync would tell.
    suspect: bool,
}

impl Disk {
    /// For the connection that writes.
    pub(crate) fn new(conn: &Connection, synchronous: Synchronous) -> rusqlite::Result<Disk> {
        let log = match synchronous {
            Synchronous::Full => open_log(conn),
            _ => None,
        };
        let set = if log.is_some() { Synchronous::Normal } else { synchronous };
        set_synchronous(conn, set)?;
        Ok(Disk { synchronous, log, set, suspect: false })
    }

    /// Readies the connection for a commit with or without a sync.
    pub(crate) fn prepare(&mut self, conn: &Connection, durable: bool) -> rusqlite::Result<()> {
        if self.suspect {
            copy_all(conn)?;
            self.suspect = false;
        }
        if self.synchronous != Synchronous::Full || self.log.is_some() {
            return Ok(());
        }
        let to = if durable { Synchronous::Full } else { Synchronous::Normal };
        if self.set != to {
            set_synchronous(conn, to)?;
            self.set = to;
        }
        Ok(())
    }

    /// Syncs what was committed, unless SQLite has done it. When that fails nobody knows what is on the
    /// disk; from then on SQLite syncs.
    pub(crate) fn sync(&mut self) -> std::io::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let synced = log.sync_data();
        if synced.is_err() {
            self.suspect = true;
            self.log = None;
        }
        synced
    }
}

/// SQLite's log, which lies beside the file that it has opened. It stays the same file as long as a
/// connection is open.
#[cfg(target_os = "linux")]
fn open_log(conn: &Connection) -> Option<File> {
    let path = format!("{}-wal", conn.path()?);
    File::open(path)
        .inspect_err(|error| tracing::debug!(%error, "SQLite syncs its log itself"))
        .ok()
}

#[cfg(not(target_os = "linux"))]
fn open_log(_conn: &Connection) -> Option<File> {
    None
}

/// Copies the whole log into the file and syncs that: then nothing depends on the log.
fn copy_all(conn: &Connection) -> rusqlite::Result<()> {
    let (busy, pages, copied): (bool, i64, i64) = conn
        .prepare_cached(COPY_ALL)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if !busy && pages == copied {
        return Ok(());
    }
    let code = ffi::Error { code: ErrorCode::DatabaseBusy, extended_code: ffi::SQLITE_BUSY };
    let text = "the log could not be copied after its sync had failed".to_owned();
    Err(rusqlite::Error::SqliteFailure(code, Some(text)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let conn = Connection::open(folder.path().join("jobs.db")).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE row (number INTEGER)").unwrap();
        (folder, conn)
    }

    fn synchronous(conn: &Connection) -> i64 {
        conn.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
    }

    #[test]
    fn the_log_is_synced_here_and_not_by_sqlite() {
        let (_folder, conn) = open();
        let mut disk = Disk::new(&conn, Synchronous::Full).unwrap();
        assert!(disk.log.is_some());
        disk.prepare(&conn, true).unwrap();
        assert_eq!(synchronous(&conn), 1, "NORMAL");
        disk.sync().unwrap();
    }

    #[test]
    fn without_the_log_sqlite_syncs_what_is_promised() {
        let (_folder, conn) = open();
        let mut disk = Disk::new(&conn, Synchronous::Full).unwrap();
        disk.log = None;
        disk.prepare(&conn, true).unwrap();
        assert_eq!(synchronous(&conn), 2, "FULL");
        disk.prepare(&conn, false).unwrap();
        assert_eq!(synchronous(&conn), 1, "NORMAL");
    }

    #[test]
    fn after_a_failed_sync_the_log_is_copied_and_sqlite_syncs() {
        let (_folder, conn) = open();
        let mut disk = Disk::new(&conn, Synchronous::Full).unwrap();
        // A device that cannot be synced.
        disk.log = Some(File::open("/dev/null").unwrap());
        conn.execute_batch("INSERT INTO row VALUES (1)").unwrap();
        disk.sync().unwrap_err();
        disk.prepare(&conn, true).unwrap();
        assert_eq!(synchronous(&conn), 2, "FULL");
        let log = "PRAGMA wal_checkpoint(NOOP)";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(1)?, row.get(2)?));
        let (pages, copied): (i64, i64) = conn.query_row(log, [], read).unwrap();
        assert_eq!(pages, copied, "nothing depends on the log that failed");
        disk.sync().unwrap();
    }

    #[test]
    fn a_weaker_setting_is_left_to_sqlite() {
        let (_folder, conn) = open();
        let mut disk = Disk::new(&conn, Synchronous::Off).unwrap();
        disk.prepare(&conn, true).unwrap();
        assert_eq!(synchronous(&conn), 0, "OFF");
        assert!(disk.log.is_none());
    }
}
