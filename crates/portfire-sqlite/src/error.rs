//! How SQLite's errors become [`StorageError`]s: by what the caller does next, with the path named.

use std::path::Path;

use portfire_core::{Cursor, InvalidJob, StorageError};
use rusqlite::ErrorCode;

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
    let shown: String = cursor.0.chars().take(80).flat_map(char::escape_debug).collect();
    let refusal =
        format!("`{shown}` is not where a page of this list ended; begin again without it");
    StorageError::Unsupported(refusal).into()
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
        Some(ErrorCode::ReadOnly) => StorageError::ReadOnly(text.into()),
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
        Some(ErrorCode::PermissionDenied) => StorageError::ReadOnly(text.into()),
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
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
