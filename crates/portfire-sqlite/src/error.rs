//! How SQLite's errors become [`StorageError`]s: by what the caller does next, with the path named.

use std::path::Path;

use portfire_core::{Cursor, InvalidJob, StorageError};
use rusqlite::{ErrorCode, ffi};

use crate::turns::Held;

/// Why an operation did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The operation itself is refused and has written nothing; the transaction goes on.
    Refused(StorageError),
    /// The transaction is lost, with whatever the operation had written.
    Lost(Lost),
}

/// Why a transaction is lost.
#[derive(Debug)]
pub(crate) enum Lost {
    /// SQLite failed.
    Sql(rusqlite::Error),
    /// Something is stored that this version does not write.
    Corrupt(String),
    /// The disk does not keep what is written, for a reason that is told.
    Disk(String),
    /// A running job's transaction was open for too long.
    Waited(Held),
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure::Refused(error)
    }
}

impl From<InvalidJob> for Failure {
    fn from(error: InvalidJob) -> Failure {
        Failure::Refused(error.into())
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        Failure::Lost(Lost::Sql(error))
    }
}

impl From<Held> for Lost {
    fn from(held: Held) -> Lost {
        Lost::Waited(held)
    }
}

impl From<rusqlite::Error> for Lost {
    fn from(error: rusqlite::Error) -> Lost {
        Lost::Sql(error)
    }
}

impl Failure {
    /// What it means where nothing can be refused any more.
    pub(crate) fn into_lost(self) -> Lost {
        match self {
            Failure::Refused(refusal) => Lost::Corrupt(refusal.to_string()),
            Failure::Lost(lost) => lost,
        }
    }

    /// What the caller hears.
    pub(crate) fn into_storage(self, path: &Path) -> StorageError {
        match self {
            Failure::Refused(error) => error,
            Failure::Lost(lost) => lost.to_storage(path),
        }
    }
}

impl Lost {
    /// What those hear whose operations were in the transaction: one error answers all of them.
    pub(crate) fn to_storage(&self, path: &Path) -> StorageError {
        match self {
            Lost::Sql(error) => storage_error(error, path),
            Lost::Corrupt(what) => StorageError::Corrupt(format!("{}: {what}", path.display())),
            Lost::Disk(text) => StorageError::unavailable(text.clone()),
            Lost::Waited(Held { job, waited }) => {
                let path = path.display();
                let whose = job.map_or_else(|| "a job".to_owned(), |job| format!("job {job}"));
                StorageError::unavailable(format!(
                    "{path}: the transaction of {whose} has been open for more than {waited:?}, and everything \
                     that writes waits for it; keep it short, and enqueue through it while it is open"
                ))
            }
        }
    }

    /// Whether there was no room on the disk.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Lost::Sql(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
            _ => false,
        }
    }

    /// Whether doing the operations again, each on its own, is safe and sensible: it was something
    /// about one of them, and nothing is left of the transaction.
    pub(crate) fn is_about_one(&self) -> bool {
        let error = match self {
            Lost::Sql(error) => error,
            Lost::Corrupt(_) => return true,
            Lost::Disk(_) | Lost::Waited(_) => return false,
        };
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
}

/// A stored value that this version does not write.
pub(crate) fn corrupt(what: impl std::fmt::Display) -> Failure {
    Failure::Lost(Lost::Corrupt(what.to_string()))
}

/// A cursor that no page of this list ended with.
pub(crate) fn foreign_cursor(cursor: &Cursor) -> Failure {
    portfire_core::engine::pages::refuse(cursor).into()
}

/// In words, what the operating system refused.
fn failed_call(error: &rusqlite::Error) -> Option<&'static str> {
    match error.sqlite_error()?.extended_code {
        ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => {
            Some("what was written could not be synced to the disk")
        }
        ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ => Some("the file could not be read"),
        ffi::SQLITE_IOERR_WRITE => Some("the file could not be written"),
        ffi::SQLITE_IOERR_TRUNCATE => Some("the file could not be shortened"),
        ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMMAP | ffi::SQLITE_IOERR_SHMOPEN => {
            Some("the index of the log could not be made or enlarged")
        }
        ffi::SQLITE_IOERR_LOCK | ffi::SQLITE_IOERR_RDLOCK | ffi::SQLITE_IOERR_SHMLOCK => {
            Some("the file could not be locked")
        }
        _ => None,
    }
}

/// Sorts an error of SQLite's. Takes it by reference, because one error answers a whole group.
pub(crate) fn storage_error(error: &rusqlite::Error, path: &Path) -> StorageError {
    let at = path.display();
    let text = format!("{at}: {error}");
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            let text = format!("{at}: no room to write; free some space on its disk ({error})");
            StorageError::Full(text.into())
        }
        Some(ErrorCode::ReadOnly) => StorageError::ReadOnly(
            format!("{text}; allow writing to the file, to its folder and to its filesystem")
                .into(),
        ),
        Some(ErrorCode::NotADatabase) => StorageError::Unsupported(format!(
            "{at} is not an SQLite database; give another path or move the file away"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let text = format!("{at}: another process kept the database locked ({error})");
            StorageError::unavailable(text)
        }
        Some(ErrorCode::CannotOpen) => StorageError::unavailable(format!(
            "{at} cannot be opened; check that its folder exists and may be written ({error})"
        )),
        Some(ErrorCode::SystemIoFailure) => StorageError::unavailable(match failed_call(error) {
            Some(what) => format!("{at}: {what} ({error}); see to its disk"),
            None => format!("{text}; see to its disk"),
        }),
        Some(ErrorCode::PermissionDenied) => StorageError::ReadOnly(text.into()),
        Some(
            ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged,
        ) => StorageError::unavailable(text),
        Some(ErrorCode::DatabaseCorrupt) => StorageError::Corrupt(format!(
            "{text}; restore a copy, or save what can be read with `sqlite3 {at} .recover`"
        )),
        _ => StorageError::Corrupt(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(extended_code: i32) -> String {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(extended_code), None);
        storage_error(&error, Path::new("jobs.db")).to_string()
    }

    #[test]
    fn an_error_of_the_disk_says_what_failed_and_never_speaks_of_a_lock() {
        for (code, what) in [
            (ffi::SQLITE_IOERR_FSYNC, "synced"),
            (ffi::SQLITE_IOERR_WRITE, "written"),
            (ffi::SQLITE_IOERR_READ, "read"),
            (ffi::SQLITE_IOERR_SHMMAP, "index of the log"),
            (ffi::SQLITE_IOERR_CLOSE, "see to its disk"),
        ] {
            let text = text(code);
            assert!(text.contains(what) && text.contains("jobs.db"), "{text}");
            assert!(text.contains("see to its disk") && !text.contains("locked"), "{text}");
        }
        assert!(text(ffi::SQLITE_BUSY).contains("locked"));
    }
}
