//! A handler's writes and the completion of its job in one commit: [`TransactionExt::tx`].

use std::any::Any;
use std::fmt;
use std::future::Future;

use portfire_core::{Enqueue, InvalidJob, JobError, JobId, Json, Storage, StorageError, Verdict};
use portfire_server::JobContext;
use portfire_sqlite::rusqlite::Connection;
use portfire_sqlite::{JobTransaction, SqliteStorage};
use serde::Serialize;

use crate::completed::Completed;

/// Adds [`tx`](TransactionExt::tx) to the context of a job that is stored in an SQLite file.
pub trait TransactionExt {
    /// Begins a transaction on the file that holds the job. What is written in it, the jobs that are
    /// [enqueued](JobTx::enqueue) in it and the job's own success become one commit by
    /// [`JobTx::complete`]: **exactly once, for effects in this file**. When the transaction is dropped
    /// instead, nothing is written, and the handler goes on as if it had never been.
    ///
    /// It holds the file's only write lock: everything else that writes waits, so keep it short, and
    /// enqueue through it, never through a client of the same file while it is open. A process that is
    /// stopped meanwhile (by `SIGSTOP`, a debugger or a frozen container) keeps the lock: every process on
    /// the file waits until it goes on or is killed, and is answered `Unavailable` after the busy timeout.
    ///
    /// # Errors
    /// A permanent error when the job is not in an SQLite file, or runs outside of a server;
    /// otherwise as [`SqliteStorage::begin`].
    ///
    /// # Cancel safety
    /// Dropping the future begins nothing.
    fn tx(&self) -> impl Future<Output = Result<JobTx, JobError>> + Send;
}

impl TransactionExt for JobContext {
    async fn tx(&self) -> Result<JobTx, JobError> {
        let storage: &dyn Storage = &**self.client().storage();
        let Some(sqlite) = (storage as &dyn Any).downcast_ref::<SqliteStorage>() else {
            let name = storage.info().name;
            let message = format!(
                "`cx.tx()` needs a job that is stored in an SQLite file, and this one is stored in `{name}`"
            );
            return Err(JobError::permanent(message).with_class("no_transaction"));
        };
        let Some(server) = self.server_id() else {
            let message = "`cx.tx()` needs a server that holds the job, and there is none here";
            return Err(JobError::permanent(message).with_class("no_transaction"));
        };
        let transaction = sqlite.begin(self.claim(), server.clone()).await?;
        Ok(JobTx { transaction, context: self.clone() })
    }
}

/// A transaction of a running job's handler. Made by [`TransactionExt::tx`].
#[must_use = "a transaction that is dropped writes nothing; call `complete`"]
pub struct JobTx {
    transaction: JobTransaction,
    context: JobContext,
}

impl JobTx {
    /// Runs SQL in the transaction, on a thread of its own; answers what the closure answers, usually a
    /// `rusqlite::Result`: `tx.run(|sql| sql.execute("…", [])).await??`.
    ///
    /// # Errors
    /// When earlier SQL has ended the transaction.
    ///
    /// # Panics
    /// When the closure does.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the closure run or not, within the transaction.
    pub async fn run<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&Connection) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        self.transaction.run(act).await
    }

    /// Stores a call or a chain with the commit: it exists when the job is completed, and never when it
    /// is not.
    ///
    /// # Errors
    /// As [`Client::enqueue`](portfire_core::Client::enqueue): the transaction goes on without it.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn enqueue(&mut self, call: impl Enqueue) -> Result<JobId, JobError> {
        Ok(self.context.client().enqueue_in(&mut self.transaction, call).await?)
    }

    /// Records the job's success with this value, and commits. What the job has said is in the same commit.
    ///
    /// The attempt is over then: return at once. What it still says is kept if its server lives on to send
    /// it. A value over the server's `result_bytes_max` is dropped, and the job's log says so.
    ///
    /// # Errors
    /// An error of class `fenced` when the job was taken from its holder meanwhile: then nothing was
    /// written, and what the handler returns counts for nothing. A permanent one when the value cannot be
    /// stored. Otherwise as [`JobTransaction::complete`].
    ///
    /// # Cancel safety
    /// Once polled, it is completed or rolled back whether or not the future is polled again.
    pub async fn complete<T: Serialize>(mut self, value: T) -> Result<Completed<T>, JobError> {
        let json = Json::encode(&value).map_err(|error| {
            let reason = match error {
                InvalidJob::Encode { reason } => reason,
                other => other.to_string(),
            };
            let message = format!("the result cannot be written as JSON: {reason}");
            JobError::permanent(message).with_class("unencodable_result")
        })?;
        let result = self.context.fit_result((json.as_str() != "null").then_some(json));
        let mut notes = self.context.lend_notes();
        for piece in notes.take() {
            self.transaction.note(piece).await?;
        }
        match self.transaction.complete(result.clone()).await? {
            Verdict::Applied => {
                notes.arrived();
                self.context.complete(result);
                Ok(Completed(value))
            }
            verdict => {
                let message = format!(
                    "the job is no longer held under this attempt ({verdict:?}): nothing was written"
                );
                Err(JobError::new(message).with_class("fenced"))
            }
        }
    }

    /// Ends the transaction without writing anything, and waits for that. The job is still running.
    ///
    /// # Errors
    /// As [`JobTransaction::rollback`].
    ///
    /// # Cancel safety
    /// Once polled, it is rolled back.
    pub async fn rollback(self) -> Result<(), JobError> {
        Ok(self.transaction.rollback().await?)
    }
}

impl fmt::Debug for JobTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobTx").field("job", &self.context.id()).finish_non_exhaustive()
    }
}
