//! How commits come to survive a power failure.
//!
//! On Linux the writer syncs the log itself, by `fdatasync` and only for answers that promise it, where
//! SQLite would sync each commit by `fsync`, which writes the file's times as well. What is synced is
//! the whole log, so an answered commit never depends on one that may still be lost. Elsewhere SQLite
//! syncs.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, ErrorCode};

use crate::checkpoint;
use crate::connect::set_synchronous;
use crate::error::Lost;
use crate::files::Files;
use crate::log::write_again;
use crate::options::Synchronous;

/// How often the log may begin anew while it is to be written again.
const TRIES: usize = 5;

/// Whether what lies in the log is on the disk as well, for all connections of a storage.
///
/// Nobody knows when a sync has failed, nor at first: a process that was there before may have met a
/// failing sync and died. Then the log is written again before anything more is committed.
#[derive(Debug)]
pub(crate) struct Trust {
    files: Files,
    log: PathBuf,
    synchronous: Synchronous,
    /// Failures, the unknown past included, and how many of them a writing again has mended.
    doubts: AtomicU64,
    mended: AtomicU64,
}

impl Trust {
    /// For the file that this connection has open.
    pub(crate) fn new(
        conn: &Connection,
        path: &Path,
        synchronous: Synchronous,
    ) -> rusqlite::Result<Trust> {
        let files = Files::new(conn, path)?;
        let log = PathBuf::from(format!("{}-wal", conn.path().unwrap_or_default()));
        let (doubts, mended) = (AtomicU64::new(1), AtomicU64::new(0));
        Ok(Trust { files, log, synchronous, doubts, mended })
    }

    /// The files, which may be removed or replaced.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// The path of the log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// A sync of the log may have failed.
    pub(crate) fn lose(&self) {
        self.doubts.fetch_add(1, Ordering::AcqRel);
    }

    /// Loses the trust after an error that a failing disk may have caused.
    pub(crate) fn hear(&self, error: &rusqlite::Error) {
        if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
            self.lose();
        }
    }

    /// Whether the log may be copied into the file: what is lost from the log must not be half in it.
    pub(crate) fn is_whole(&self) -> bool {
        self.synchronous == Synchronous::Off
            || self.mended.load(Ordering::Acquire) >= self.doubts.load(Ordering::Acquire)
    }

    /// Refuses when the files are no longer those that were opened, and writes the log again when it may
    /// not be on the disk.
    pub(crate) fn restore(&self, conn: &Connection) -> Result<(), Lost> {
        self.files.check(conn)?;
        let doubts = self.doubts.load(Ordering::Acquire);
        if self.is_whole() {
            return Ok(());
        }
        self.write_again(conn)?;
        self.mended.fetch_max(doubts, Ordering::AcqRel);
        Ok(())
    }

    fn write_again(&self, conn: &Connection) -> Result<(), Lost> {
        for _ in 0..TRIES {
            // Asked before the transaction, in which SQLite does not tell.
            let pages = checkpoint::pages(conn)?;
            conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let written = open(&self.log).and_then(|mut log| write_again(&mut log));
            let written = written.and_then(|pages| sync_folder(&self.log).map(|()| pages));
            conn.prepare_cached("ROLLBACK")?.execute([])?;
            let written = written.map_err(|error| {
                Lost::Disk(format!(
                    "{}: a sync of the log has failed, and what it holds cannot be written again ({error}): \
                     a power failure may take it; see to its disk",
                    self.log.display()
                ))
            })?;
            if written >= pages {
                return Ok(());
            }
            // Another process has begun the log anew, unless this goes on.
        }
        Err(Lost::Corrupt(format!(
            "{}: a sync of the log has failed, and the log no longer reads as it was written; end every \
             program that has the database open, and look at the file with `PRAGMA integrity_check`",
            self.log.display()
        )))
    }
}

/// Brings the name of the log to the disk. SQLite does that when it makes the file, and hears no error.
#[cfg(unix)]
fn sync_folder(log: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind::{InvalidInput, Unsupported};
    // One that may not be read cannot be synced by anybody.
    let Some(folder) = log.parent().and_then(|folder| File::open(folder).ok()) else {
        return Ok(());
    };
    match folder.sync_all() {
        // Some filesystems have no sync of folders.
        Err(error) if matches!(error.kind(), InvalidInput | Unsupported) => Ok(()),
        synced => synced,
    }
}

#[cfg(not(unix))]
fn sync_folder(_log: &Path) -> std::io::Result<()> {
    Ok(())
}

fn open(log: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(log)
}

/// The disk below the connection that writes.
#[derive(Debug)]
pub(crate) struct Disk {
    synchronous: Synchronous,
    /// The log, when it is synced here.
    log: Option<File>,
    /// What SQLite is set to do at a commit, when that changes.
    set: Synchronous,
    trust: Arc<Trust>,
}

impl Disk {
    pub(crate) fn new(
        conn: &Connection,
        path: &Path,
        synchronous: Synchronous,
    ) -> rusqlite::Result<Disk> {
        let trust = Arc::new(Trust::new(conn, path, synchronous)?);
        let log = match synchronous {
            Synchronous::Full => open_log(&trust.log),
            _ => None,
        };
        let set = if log.is_some() { Synchronous::Normal } else { synchronous };
        set_synchronous(conn, set)?;
        Ok(Disk { synchronous, log, set, trust })
    }

    pub(crate) fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// Readies the connection for a commit with or without a sync.
    pub(crate) fn prepare(&mut self, conn: &Connection, durable: bool) -> Result<(), Lost> {
        self.trust.restore(conn)?;
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

    /// Syncs what was committed, unless SQLite has done it, and makes sure that it is in the files that
    /// others find. When the sync fails the log is written again at once:
    /// this process may die, and no other one would hear of the failure.
    pub(crate) fn sync(&mut self, conn: &Connection) -> Result<(), Lost> {
        let synced = self.log.as_ref().map_or(Ok(()), File::sync_data);
        let Err(error) = synced else { return self.trust.files.check(conn) };
        self.trust.lose();
        let restored = self.trust.restore(conn);
        let path = self.trust.log.display();
        match &restored {
            Ok(()) => {
                tracing::error!(%path, %error, "a sync of the log failed; it was written again")
            }
            Err(_) => tracing::error!(%path, %error, "a sync of the log failed"),
        }
        restored
    }

    /// Before the connection is closed, whose end brings the log into the file when it is the last one.
    /// Says whether that may be.
    pub(crate) fn may_close(&self, conn: &Connection) -> bool {
        self.trust.restore(conn).is_ok()
    }
}

/// SQLite's log, which stays the same file as long as a connection is open.
#[cfg(target_os = "linux")]
fn open_log(path: &Path) -> Option<File> {
    File::open(path)
        .inspect_err(|error| tracing::debug!(%error, "SQLite syncs its log itself"))
        .ok()
}

#[cfg(not(target_os = "linux"))]
fn open_log(_path: &Path) -> Option<File> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let conn = Connection::open(folder.path().join("jobs.db")).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE row (number INTEGER)").unwrap();
        (folder, conn)
    }

    fn new(conn: &Connection, synchronous: Synchronous) -> rusqlite::Result<Disk> {
        Disk::new(conn, Path::new(conn.path().unwrap()), synchronous)
    }

    fn synchronous(conn: &Connection) -> i64 {
        conn.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
    }

    #[test]
    fn the_log_is_synced_here_and_not_by_sqlite() {
        let (_folder, conn) = file();
        let mut disk = new(&conn, Synchronous::Full).unwrap();
        assert!(disk.log.is_some());
        disk.prepare(&conn, true).unwrap();
        assert_eq!(synchronous(&conn), 1, "NORMAL");
        disk.sync(&conn).unwrap();
    }

    #[test]
    fn without_the_log_sqlite_syncs_what_is_promised() {
        let (_folder, conn) = file();
        let mut disk = new(&conn, Synchronous::Full).unwrap();
        disk.log = None;
        disk.prepare(&conn, true).unwrap();
        assert_eq!(synchronous(&conn), 2, "FULL");
        disk.prepare(&conn, false).unwrap();
        assert_eq!(synchronous(&conn), 1, "NORMAL");
    }

    #[test]
    fn whoever_opens_a_log_writes_it_again_before_the_first_commit() {
        let (_folder, conn) = file();
        let mut disk = new(&conn, Synchronous::Full).unwrap();
        assert!(!disk.trust.is_whole(), "nobody knows what others have met");
        disk.prepare(&conn, false).unwrap();
        assert!(disk.trust.is_whole());
    }

    #[test]
    fn after_a_failed_sync_the_log_is_written_again_at_once() {
        let (_folder, conn) = file();
        let mut disk = new(&conn, Synchronous::Full).unwrap();
        disk.prepare(&conn, true).unwrap();
        // A device that cannot be synced.
        disk.log = Some(File::open("/dev/null").unwrap());
        conn.execute_batch("INSERT INTO row VALUES (1)").unwrap();
        disk.sync(&conn).unwrap();
        assert!(disk.trust.is_whole(), "on the disk, by another way");
    }

    #[test]
    fn nothing_is_committed_while_the_log_cannot_be_written_again() {
        let (folder, conn) = file();
        let mut disk = new(&conn, Synchronous::Full).unwrap();
        disk.prepare(&conn, true).unwrap();
        let (log, away) = (folder.path().join("jobs.db-wal"), folder.path().join("away"));
        disk.log = Some(File::open("/dev/null").unwrap());
        std::fs::rename(&log, &away).unwrap();
        let lost = disk.sync(&conn).unwrap_err().to_storage(Path::new("jobs.db")).to_string();
        assert!(lost.contains("jobs.db-wal") && lost.contains("removed"), "{lost}");
        disk.prepare(&conn, false).unwrap_err();
        assert!(!disk.trust.is_whole());
        std::fs::rename(&away, &log).unwrap();
        disk.prepare(&conn, false).unwrap();
    }

    #[test]
    fn a_log_that_lost_what_was_written_is_told() {
        let (folder, conn) = file();
        let mut disk = new(&conn, Synchronous::Full).unwrap();
        let log = folder.path().join("jobs.db-wal");
        let mut bytes = std::fs::read(&log).unwrap();
        // As a page reads that was dropped from the cache, and never came to the disk.
        bytes[4_096..].fill(0);
        std::fs::write(&log, bytes).unwrap();
        let lost = disk.prepare(&conn, true).unwrap_err();
        assert!(
            matches!(&lost, Lost::Corrupt(text) if text.contains("integrity_check")),
            "{lost:?}"
        );
    }

    #[test]
    fn a_weaker_setting_is_left_to_sqlite() {
        let (_folder, conn) = file();
        let mut disk = new(&conn, Synchronous::Off).unwrap();
        disk.prepare(&conn, true).unwrap();
        assert_eq!(synchronous(&conn), 0, "OFF");
        assert!(disk.log.is_none());
    }
}
