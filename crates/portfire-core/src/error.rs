//! The errors of a storage, with variants by what the caller does next.

use crate::job::{InvalidJob, JobId};
use crate::state::ServerId;

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A storage call that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The input breaks a bound. Nothing was stored; repeating it is useless.
    #[error(transparent)]
    Invalid(#[from] InvalidJob),
    /// A job with this id and another kind or other args is stored already. Nothing was stored.
    #[error("job {job} is stored already with another kind or other arguments")]
    IdTaken {
        /// The id.
        job: JobId,
    },
    /// The server was never announced, has retired, or was declared dead. It can never come back
    /// under this id: it drops what it holds and announces itself anew.
    #[error("server {server} is not alive in this storage: it was declared dead or has retired")]
    ServerGone {
        /// The server.
        server: ServerId,
    },
    /// The storage could not be reached, timed out, or lost the answer: the call **may have been
    /// applied**. Repeat it with the same ids and keys.
    #[error("the storage is unavailable: {0}")]
    Unavailable(#[source] BoxError),
    /// There is no room. Nothing was applied; repeat it when there is.
    #[error("the storage is full: {0}")]
    Full(#[source] BoxError),
    /// The storage takes no writes. Nothing was applied.
    #[error("the storage is read-only: {0}")]
    ReadOnly(#[source] BoxError),
    /// The storage was written by a newer version, or is not one of Portfire's.
    #[error("{0}")]
    Unsupported(String),
    /// What is stored is not what this version writes.
    #[error("the storage is damaged: {0}")]
    Corrupt(String),
    /// The storage was closed in this process.
    #[error("the storage is closed")]
    Closed,
}

impl StorageError {
    /// An [`Unavailable`](StorageError::Unavailable) with this reason.
    pub fn unavailable(reason: impl Into<BoxError>) -> StorageError {
        StorageError::Unavailable(reason.into())
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_transient(&self) -> bool {
        matches!(self, StorageError::Unavailable(_) | StorageError::Full(_))
    }

    /// Whether it is certain that nothing was applied.
    pub fn is_definite(&self) -> bool {
        !matches!(self, StorageError::Unavailable(_))
    }
}
