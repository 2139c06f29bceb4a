//! How SQLite's errors become [`StorageError`]s: by what the caller does next, with the path named.

use std::path::Path;

use portfire_core::{InvalidJob, StorageError};
use rusqlite::ErrorCode;

/// Why an operation did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The operation itself is refused and has written nothing; the transaction goes on.
    Refused(StorageError),
    /// SQLite failed; the transaction is lost.
    Sql(rusqlite::Error),
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
        Failure::Sql(error)
    }
}

impl Failure {
    /// What the caller hears.
    pub(crate) fn into_storage(self, path: &Path) -> StorageError {
        match self {
            Failure::Refused(error) => error,
            Failure::Sql(error) => storage_error(&error, path),
        }
    }
}

/// A stored value that this version does not write.
pub(crate) fn corrupt(what: impl std::fmt::Display) -> Failure {
    Failure::Refused(StorageError::Corrupt(what.to_string()))
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
        _ => StorageError::Corrupt(text),
    }
}
