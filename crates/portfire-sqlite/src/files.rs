//! Whether the files are still those that were opened: [`Files`].
//!
//! SQLite goes on writing to a file that someone has removed or replaced, and all of it is lost. So the
//! paths are looked at before each commit, and again before its answers are sent.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use portfire_core::StorageError;
use rusqlite::Connection;

use crate::checkpoint::uncopied;
use crate::error::Lost;

/// Looks that must agree that the file was cut short: others may change it between two questions.
const LOOKS: usize = 3;

/// The database and its log, as they were when they were opened.
#[derive(Debug)]
pub(crate) struct Files {
    database: Watched,
    log: Watched,
    /// Bytes of a page.
    page: u64,
    /// The length of the database when it was last looked at.
    length: AtomicU64,
    /// What the last look found to have happened to them.
    changed: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    opened: Option<Identity>,
}

/// What makes a file another one than that which had the same path before. Where the system does not
/// tell, as on Windows, no file can be removed or replaced that SQLite has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    #[cfg(unix)]
    inode: (u64, u64),
}

impl Identity {
    #[cfg(unix)]
    fn of(about: &Metadata) -> Identity {
        use std::os::unix::fs::MetadataExt;
        Identity { inode: (about.dev(), about.ino()) }
    }

    #[cfg(not(unix))]
    fn of(_about: &Metadata) -> Identity {
        Identity {}
    }
}

impl Files {
    /// The files of a connection that was opened by this path.
    pub(crate) fn new(conn: &Connection, path: &Path) -> rusqlite::Result<Files> {
        let page: u32 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let log = PathBuf::from(format!("{}-wal", conn.path().unwrap_or_default()));
        Ok(Files {
            database: Watched::new(path.to_path_buf()),
            log: Watched::new(log),
            page: u64::from(page),
            length: AtomicU64::new(0),
            changed: Mutex::new(None),
        })
    }

    /// The length of the database when it was last looked at, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    /// Looks at the files, outside of a transaction.
    pub(crate) fn check(&self, conn: &Connection) -> Result<(), Lost> {
        let found = self.look(conn)?;
        self.changed().clone_from(&found);
        found.map_or(Ok(()), |text| Err(Lost::Disk(text)))
    }

    /// Refuses what would read them, when the last look found them changed.
    pub(crate) fn refuse_changed(&self) -> Result<(), StorageError> {
        self.changed().clone().map_or(Ok(()), |text| Err(StorageError::unavailable(text)))
    }

    fn changed(&self) -> MutexGuard<'_, Option<String>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what has happened to them.
    fn look(&self, conn: &Connection) -> rusqlite::Result<Option<String>> {
        let path = self.database.path.display();
        let length = match self.database.look() {
            Seen::Same(about) => about.len(),
            Seen::Removed => {
                return Ok(Some(format!(
                    "{path} was removed while this program had it open, and what is written now would be \
                     lost with it; put the file back, or restart this program to begin with a new one"
                )));
            }
            Seen::Replaced => {
                return Ok(Some(format!(
                    "{path} was replaced by another file while this program had the old one open; restart \
                     this program to work with the new file, or put the old one back"
                )));
            }
            Seen::Unknown => return Ok(None),
        };
        if let Seen::Removed | Seen::Replaced = self.log.look() {
            return Ok(Some(format!(
                "{}, the log of the database, was removed or replaced while this program had it open, and \
                 what is written now would be lost with it; put it back, or restart this program",
                self.log.path.display()
            )));
        }
        let before = self.length();
        if length < before && self.is_cut(conn)? {
            return Ok(Some(format!(
                "{path} was cut short by another program, from {before} to {length} bytes; end every \
                 program that has it open, and restore a copy"
            )));
        }
        self.length.store(length, Ordering::Relaxed);
        Ok(None)
    }

    /// Whether the file lacks pages that are not in the log, either. It also gets shorter by a `VACUUM`,
    /// and then it does not.
    fn is_cut(&self, conn: &Connection) -> rusqlite::Result<bool> {
        for _ in 0..LOOKS {
            let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
            let in_log = uncopied(conn)?;
            let length = fs::metadata(&self.database.path).map_or(0, |about| about.len());
            if length > 0 && length / self.page + in_log >= pages.max(0).cast_unsigned() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

enum Seen {
    Same(Metadata),
    Removed,
    Replaced,
    /// The system does not tell; a file that is no longer there is told by the commit.
    Unknown,
}

impl Watched {
    fn new(path: PathBuf) -> Watched {
        let opened = fs::metadata(&path).ok().map(|about| Identity::of(&about));
        Watched { path, opened }
    }

    fn look(&self) -> Seen {
        let Some(opened) = self.opened else { return Seen::Unknown };
        match fs::metadata(&self.path) {
            Ok(about) if Identity::of(&about) == opened => Seen::Same(about),
            Ok(_) => Seen::Replaced,
            Err(error) if error.kind() == ErrorKind::NotFound => Seen::Removed,
            Err(_) => Seen::Unknown,
        }
    }
}
