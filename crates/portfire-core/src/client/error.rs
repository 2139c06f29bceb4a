//! Why a client did not do what it was asked: [`ClientError`].

use crate::error::{BoxError, StorageError};
use crate::job::{InvalidJob, JobId};
use crate::recurring::RecurringId;

/// A client call that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The call itself is at fault. Nothing was stored.
    #[error(transparent)]
    Invalid(#[from] InvalidJob),
    /// A filter refused the job. Nothing was stored.
    #[error("the job was refused by a filter: {reason}")]
    Refused {
        /// What the filter said.
        reason: String,
    },
    /// The storage did not do it; [`StorageError::is_definite`] tells whether it may have after all.
    #[error(transparent)]
    Storage(StorageError),
    /// The storage gave no answer to a create: what it was to store may be stored, or not.
    #[error(
        "{error}; {} may be stored: repeat the call with the same id (`.id(..)`), which stores it once",
        said(jobs)
    )]
    Unanswered {
        /// The jobs, in the order in which they were to be stored.
        jobs: Vec<JobId>,
        /// Why there was no answer.
        #[source]
        error: StorageError,
    },
    /// An iterator that a batch was made from failed. Nothing of the batch runs.
    #[error("the batch was not created, because what it was made from failed: {0}")]
    Source(#[source] BoxError),
    /// There is no recurring job of this name.
    #[error("there is no recurring job `{id}`")]
    NoRecurring {
        /// The name.
        id: RecurringId,
    },
    /// The recurring job of this name belongs to another application. Nothing was changed.
    #[error(
        "the recurring job `{id}` belongs to {}: take another name, or {}",
        if app.is_empty() { "no application".into() } else { format!("the application `{app}`") },
        if app.is_empty() { "leave `.app(..)` out" } else { "name that application by `.app(..)`" }
    )]
    Owned {
        /// The name.
        id: RecurringId,
        /// Who owns it.
        app: String,
    },
    /// Someone else held the lock all the time.
    #[error("the lock `{name}` is held by someone else; waited {waited:?}")]
    LockTaken {
        /// The lock.
        name: String,
        /// How long was waited.
        waited: std::time::Duration,
    },
    /// The lease of the lock had ended.
    #[error(
        "the lock `{name}` was lost: its lease had ended, and someone else may have held it since"
    )]
    LockLost {
        /// The lock.
        name: String,
    },
    /// No global client was set.
    #[error("no global client: call `portfire::set_global(client)` when the program starts")]
    NoGlobal,
}

impl ClientError {
    /// What failed for the create of these jobs.
    pub(super) fn of_create(error: StorageError, jobs: Vec<JobId>) -> ClientError {
        match error {
            StorageError::Unavailable(_) => ClientError::Unanswered { jobs, error },
            error => error.into(),
        }
    }

    /// Whether the same call may succeed later without a change; with the same ids nothing is stored twice.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Storage(error) | ClientError::Unanswered { error, .. } => {
                error.is_transient()
            }
            _ => false,
        }
    }

    /// The jobs that may be stored although there was no answer, in their order; otherwise none.
    pub fn unanswered(&self) -> &[JobId] {
        match self {
            ClientError::Unanswered { jobs, .. } => jobs,
            _ => &[],
        }
    }
}

/// Names jobs: the first, and how many more.
fn said(jobs: &[JobId]) -> String {
    match jobs {
        [] => "it".to_owned(),
        [job] => format!("job {job}"),
        [first, rest @ ..] => format!("job {first} and {} more", rest.len()),
    }
}

/// What a storage refuses because of what it says is [`Invalid`](ClientError::Invalid), whoever finds out.
impl From<StorageError> for ClientError {
    fn from(error: StorageError) -> ClientError {
        match error {
            StorageError::Invalid(mistake) => ClientError::Invalid(mistake),
            error => ClientError::Storage(error),
        }
    }
}
