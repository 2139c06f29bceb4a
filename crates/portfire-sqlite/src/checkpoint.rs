//! Bringing the log into the database file, so that it begins anew and stays short.
//!
//! A pass copies the whole log, or nothing of it. SQLite's own passes may stop halfway: because commits
//! go on, or because a reader still needs an old page. Such a pass takes its pages for done, and has not
//! synced the file. When a later sync of the file fails, SQLite copies again only what came after it, and
//! the rest is lost: Linux tells of a failed write once, takes the pages for clean, and the next sync
//! succeeds. A whole pass takes nothing for done before its sync has succeeded, so the next pass, of
//! whatever process, copies all of it again.
//!
//! A pass is whole because it holds the write lock, under which the log does not grow, and because it is
//! interrupted before its first page when a reader does not make room in time.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::connect::or_not_at_all;
use crate::options::SqliteOptions;

const MIB: u64 = 1024 * 1024;
/// Pages of the log from which it is copied, unless the database itself is shorter: 16 MiB, so that a page
/// which changes with every commit is copied once for many of them.
pub(crate) const PAGES_BEGIN: u32 = 4_096;

/// Lengths of the log, in bytes, at which something is done.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// From here on it is copied.
    begin: u64,
    /// The same beside a small database, which may lie on a small disk: when the log is as long as the
    /// database, and not before this.
    begin_min: u64,
    /// From here on a pass is worth a wait of everybody who writes. Each process adds one commit at most
    /// before it waits, so that the log ends far below 64 MiB.
    long: u64,
    /// Growth until the next try of a pass that was held up or failed.
    step: u64,
}

impl Bounds {
    /// From the option, which tests lower. A page counts as one of 4 KiB, which nearly all are.
    fn from(pages: u32) -> Bounds {
        let begin = u64::from(pages) * 4_096;
        Bounds { begin, begin_min: begin / 4, long: begin * 2, step: begin / 4 }
    }
}

/// How long a pass waits for the lock and for readers.
const PATIENCE: Duration = Duration::from_millis(20);
/// The same when the log is long.
const PATIENCE_LONG: Duration = Duration::from_secs(1);

const LOOK: &str = "PRAGMA wal_checkpoint(NOOP)";
/// Copies under the write lock, and waits until no reader needs the log: the next commit begins it anew.
const COPY: &str = "PRAGMA wal_checkpoint(RESTART)";
/// The same, and gives the room of the log back.
const EMPTY: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Keeps the log of one connection short.
pub(crate) struct Checkpointer {
    path: PathBuf,
    bounds: Bounds,
    /// Bytes of a page.
    page: u64,
    /// Length of the log at the last look.
    length: u64,
    /// Length from which the next pass is tried, after one that has not done it.
    next: u64,
    /// Why the last pass failed. A log that is held up by readers has not failed.
    failed: Option<String>,
    warned: bool,
}

/// How far a pass came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// All of the log is in the file, and synced.
    Whole,
    /// Nothing was copied: someone held a lock or needed an old page.
    HeldUp,
}

/// The log as SQLite sees it, in pages.
struct Look {
    busy: bool,
    pages: i64,
    copied: i64,
}

impl Checkpointer {
    pub(crate) fn new(
        conn: &Connection,
        options: &SqliteOptions,
    ) -> rusqlite::Result<Checkpointer> {
        let page: u32 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
        Ok(Checkpointer {
            path: options.path.clone(),
            bounds: Bounds::from(options.log_pages),
            page: u64::from(page),
            length: 0,
            next: 0,
            failed: None,
            warned: false,
        })
    }

    /// Looks after the log; called by the writer after a commit. `database` is the length of the file.
    /// Says whether a pass met a failing disk.
    pub(crate) fn after_commit(&mut self, conn: &Connection, database: u64) -> bool {
        match look(conn, LOOK) {
            Ok(log) => self.length = log.pages.max(0).cast_unsigned() * self.page,
            Err(error) => {
                tracing::debug!(%error, path = %self.path.display(), "looking at the log");
                return false;
            }
        }
        if self.length < database.clamp(self.bounds.begin_min, self.bounds.begin) {
            self.next = 0;
            return false;
        }
        self.length >= self.next && self.pass(conn, COPY).is_err()
    }

    /// Why nothing may be written: the log is long, and cannot be brought into the file.
    pub(crate) fn before_commit(&mut self, conn: &Connection) -> Result<(), String> {
        if self.failed.is_none() || self.length < self.bounds.long {
            return Ok(());
        }
        match self.pass(conn, COPY) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!(
                "{}: its log has grown to {} MiB and cannot be brought into the file ({error}); \
                 see to its disk",
                self.path.display(),
                self.length / MIB
            )),
        }
    }

    /// Brings the log into the file and gives its room back, for a disk that is full. Says whether there
    /// is room now that was not there before.
    pub(crate) fn make_room(&mut self, conn: &Connection) -> bool {
        let log = look(conn, LOOK);
        log.is_ok_and(|log| log.pages > 0) && matches!(self.pass(conn, EMPTY), Ok(Pass::Whole))
    }

    fn pass(&mut self, conn: &Connection, mode: &str) -> rusqlite::Result<Pass> {
        let patience = if self.length < self.bounds.long { PATIENCE } else { PATIENCE_LONG };
        let pass = or_not_at_all(conn, patience, || pass(conn, mode));
        let path = self.path.display();
        match &pass {
            Ok(Pass::Whole) => {
                if self.failed.take().is_some() {
                    tracing::info!(%path, "the log is brought into the file again");
                }
                (self.next, self.warned) = (0, false);
            }
            Ok(Pass::HeldUp) => {
                self.next = self.length + self.bounds.step;
                if self.length >= self.bounds.long && !self.warned {
                    self.warned = true;
                    let mib = self.length / MIB;
                    tracing::warn!(
                        %path,
                        "the log has grown to {mib} MiB, because another connection has been reading for long \
                         (a backup, or a transaction that is left open); it ends growing when that ends"
                    );
                }
            }
            Err(error) => {
                self.next = self.length + self.bounds.step;
                // Nothing is lost: the log holds everything, and the next pass copies all of it again.
                if self.failed.is_none() {
                    tracing::error!(%path, %error, "the log could not be brought into the file");
                }
                self.failed = Some(error.to_string());
            }
        }
        pass
    }
}

/// Copies all of the log, or nothing.
fn pass(conn: &Connection, mode: &str) -> rusqlite::Result<Pass> {
    match look(conn, mode) {
        Ok(log) if !log.busy || log.pages >= 0 && log.pages == log.copied => Ok(Pass::Whole),
        Ok(_) => Ok(Pass::HeldUp),
        Err(error) if is_interrupted(&error) => Ok(Pass::HeldUp),
        Err(error) => Err(error),
    }
}

fn is_interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

fn look(conn: &Connection, pragma: &str) -> rusqlite::Result<Look> {
    conn.prepare_cached(pragma)?.query_row([], |row| {
        Ok(Look { busy: row.get(0)?, pages: row.get(1)?, copied: row.get(2)? })
    })
}

/// Pages in the log that are not in the file yet, at least so many as differ.
pub(crate) fn uncopied(conn: &Connection) -> rusqlite::Result<u64> {
    look(conn, LOOK).map(|log| (log.pages - log.copied).max(0).cast_unsigned())
}

/// Pages in the log.
pub(crate) fn pages(conn: &Connection) -> rusqlite::Result<u64> {
    look(conn, LOOK).map(|log| log.pages.max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::open_writer;
    use crate::options::Synchronous;

    struct Scene {
        _folder: tempfile::TempDir,
        options: SqliteOptions,
        conn: Connection,
        checkpointer: Checkpointer,
    }

    fn scene() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(folder.path().join("jobs.db"));
        let conn = open_writer(&options).unwrap();
        crate::connect::set_synchronous(&conn, Synchronous::Off).unwrap();
        conn.execute_batch("CREATE TABLE row (text TEXT); PRAGMA wal_checkpoint(TRUNCATE)")
            .unwrap();
        let checkpointer = Checkpointer::new(&conn, &options).unwrap();
        Scene { _folder: folder, options, conn, checkpointer }
    }

    /// Adds about a mebibyte to the log.
    fn write(conn: &Connection) {
        conn.execute("INSERT INTO row VALUES (zeroblob(1000000))", []).unwrap();
    }

    fn reader(scene: &Scene) -> Connection {
        let reader = Connection::open(&scene.options.path).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM row").unwrap();
        reader
    }

    #[test]
    fn a_pass_that_a_reader_holds_up_copies_nothing() {
        let scene = scene();
        write(&scene.conn);
        let reader = reader(&scene);
        write(&scene.conn);
        let before = std::fs::metadata(&scene.options.path).unwrap().len();
        let held = or_not_at_all(&scene.conn, Duration::ZERO, || pass(&scene.conn, COPY)).unwrap();
        assert_eq!(held, Pass::HeldUp);
        assert_eq!(look(&scene.conn, LOOK).unwrap().copied, 0, "nothing is taken for done");
        assert_eq!(std::fs::metadata(&scene.options.path).unwrap().len(), before);
        drop(reader);
        let whole = or_not_at_all(&scene.conn, Duration::ZERO, || pass(&scene.conn, COPY)).unwrap();
        assert_eq!(whole, Pass::Whole);
        let log = look(&scene.conn, LOOK).unwrap();
        assert!(log.pages > 400 && log.copied == log.pages);
        write(&scene.conn);
        assert!(look(&scene.conn, LOOK).unwrap().pages < 300, "the log has begun anew");
    }

    #[test]
    fn a_pass_without_the_write_lock_copies_nothing() {
        let scene = scene();
        write(&scene.conn);
        let other = Connection::open(&scene.options.path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let held = or_not_at_all(&scene.conn, Duration::ZERO, || pass(&scene.conn, COPY)).unwrap();
        assert_eq!(held, Pass::HeldUp);
        assert_eq!(look(&scene.conn, LOOK).unwrap().copied, 0);
    }

    #[test]
    fn the_log_of_a_small_database_stays_short() {
        let mut scene = scene();
        let mut longest = 0;
        for _ in 0..40 {
            write(&scene.conn);
            scene.conn.execute("DELETE FROM row", []).unwrap();
            let file = std::fs::metadata(&scene.options.path).unwrap().len();
            scene.checkpointer.after_commit(&scene.conn, file);
            longest = longest.max(scene.checkpointer.length);
        }
        assert!(longest < 6 * MIB, "{longest}");
    }

    #[test]
    fn a_log_that_a_reader_holds_up_is_tried_again_as_it_grows_and_shortened_when_it_ends() {
        let mut scene = scene();
        write(&scene.conn);
        let reader = reader(&scene);
        let mut tries = 0;
        for _ in 0..20 {
            write(&scene.conn);
            let before = scene.checkpointer.next;
            scene.checkpointer.after_commit(&scene.conn, 0);
            tries += u32::from(scene.checkpointer.next != before);
        }
        assert!((3..=5).contains(&tries), "{tries} tries");
        assert!(scene.checkpointer.failed.is_none(), "a reader is no failure");
        drop(reader);
        for _ in 0..5 {
            write(&scene.conn);
            scene.checkpointer.after_commit(&scene.conn, 0);
        }
        assert!(scene.checkpointer.length < 6 * MIB, "{}", scene.checkpointer.length);
    }

    #[test]
    fn a_pass_that_failed_is_remembered_and_a_long_log_stops_the_writing() {
        let mut scene = scene();
        write(&scene.conn);
        let no_disk = |scene: &mut Scene| scene.checkpointer.pass(&scene.conn, "PRAGMA no_such(1)");
        no_disk(&mut scene).unwrap_err();
        assert!(scene.checkpointer.failed.is_some());
        scene.checkpointer.length = scene.checkpointer.bounds.long - 1;
        scene.checkpointer.before_commit(&scene.conn).unwrap();
        assert!(scene.checkpointer.failed.is_some(), "a short log is not looked at");
        scene.checkpointer.length = scene.checkpointer.bounds.long;
        scene.checkpointer.before_commit(&scene.conn).unwrap();
        assert!(scene.checkpointer.failed.is_none(), "the disk works again");
    }
}
