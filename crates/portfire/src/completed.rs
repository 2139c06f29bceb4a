//! The receipt of a job that was completed in its handler's own transaction: [`Completed`].

use portfire_core::JobError;
use portfire_core::job_error::IntoJobError;

/// What a handler returns that completes its job in a transaction of its own. Only a transaction's
/// `complete` makes one, so a handler with this return type cannot forget it:
///
/// ```no_run
/// # #[cfg(feature = "sqlite")] mod shop {
/// use portfire::prelude::*;
///
/// #[job]
/// async fn debit(account: i64, amount: i64, cx: &JobContext) -> Result<Completed<i64>, JobError> {
///     let mut tx = cx.tx().await?;
///     let left = tx
///         .run(move |sql| {
///             let update = "UPDATE account SET balance = balance - ?2 WHERE id = ?1 RETURNING balance";
///             sql.query_row(update, (account, amount), |row| row.get(0))
///         })
///         .await??;
///     tx.complete(left).await
/// }
/// # }
/// ```
///
/// To callers and continuations the job returns the value in it.
#[must_use = "return it: it says that the job was completed"]
#[derive(Debug)]
pub struct Completed<T>(pub(crate) T);

impl<T> Completed<T> {
    /// The value with which the job was completed.
    pub fn value(&self) -> &T {
        &self.0
    }
}

/// The value that a transaction has stored already. Called by what `#[job]` writes.
///
/// # Errors
/// The handler's.
pub fn without_receipt<T, E: IntoJobError>(
    returned: Result<Completed<T>, E>,
) -> Result<T, JobError> {
    returned.map(|Completed(value)| value).map_err(IntoJobError::into_job_error)
}
