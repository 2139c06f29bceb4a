//! Pausing and resuming queues.

use crate::client::{Client, ClientError};
use crate::job::QueueName;

impl Client {
    /// Pauses a queue: it takes jobs and gives none to any server until it is resumed. What runs, runs on.
    /// A queue that has had no job yet can be paused, too.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a name that is none; [`ClientError::Storage`] when the write failed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it paused or not.
    pub async fn pause_queue(&self, queue: &str) -> Result<(), ClientError> {
        self.set_queue_paused(queue, true).await
    }

    /// Resumes a queue that was paused; nothing happens to one that was not.
    ///
    /// # Errors
    /// As [`Client::pause_queue`].
    ///
    /// # Cancel safety
    /// As [`Client::pause_queue`].
    pub async fn resume_queue(&self, queue: &str) -> Result<(), ClientError> {
        self.set_queue_paused(queue, false).await
    }

    async fn set_queue_paused(&self, queue: &str, paused: bool) -> Result<(), ClientError> {
        let queue: QueueName = queue.parse()?;
        Ok(self.storage().set_queue_paused(queue, paused).await?)
    }
}
