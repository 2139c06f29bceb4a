//! What a running handler knows of its job: [`JobContext`], and the [`CancellationToken`] it watches.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use portfire_core::{
    CancelReason, Cancelled, ClaimedJob, Client, JobId, JobOptions, KindName, QueueName, Timestamp,
};
use tokio::sync::watch;

/// The job that a handler runs, and its attempt. Cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    inner: Arc<Inner>,
}

struct Inner {
    job: ClaimedJob,
    token: CancellationToken,
    client: Client,
}

impl JobContext {
    /// The context of a claimed job.
    pub fn new(job: ClaimedJob, token: CancellationToken, client: Client) -> JobContext {
        JobContext { inner: Arc::new(Inner { job, token, client }) }
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.inner.job.claim.job
    }

    /// The number of this attempt, from 1: how often the job was claimed. It rises with every claim,
    /// so other systems can use it as a fencing token.
    pub fn attempt(&self) -> u32 {
        self.inner.job.claim.attempt
    }

    /// Failures of this job before this attempt.
    pub fn failures(&self) -> u32 {
        self.inner.job.failures
    }

    /// Crashes of its servers that this job has survived.
    pub fn recoveries(&self) -> u32 {
        self.inner.job.recoveries
    }

    /// The job's kind.
    pub fn kind(&self) -> &KindName {
        &self.inner.job.kind
    }

    /// The job's queue.
    pub fn queue(&self) -> &QueueName {
        &self.inner.job.queue
    }

    /// What its call said.
    pub fn options(&self) -> &JobOptions {
        &self.inner.job.options
    }

    /// When it was stored.
    pub fn created_at(&self) -> Timestamp {
        self.inner.job.created_at
    }

    /// When this attempt was claimed, in storage time.
    pub fn claimed_at(&self) -> Timestamp {
        self.inner.job.claimed_at
    }

    /// The job as it was claimed.
    pub fn job(&self) -> &ClaimedJob {
        &self.inner.job
    }

    /// Tells when the attempt is to stop.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.inner.token
    }

    /// A client of the same storage, to enqueue more.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("job", &self.id())
            .field("kind", self.kind())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

/// Tells a handler that its attempt is to stop, and why. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CancellationToken {
    reason: watch::Receiver<Option<CancelReason>>,
}

impl CancellationToken {
    /// A token and the source that fires it.
    pub fn new() -> (CancellationSource, CancellationToken) {
        let (sender, reason) = watch::channel(None);
        (CancellationSource { sender }, CancellationToken { reason })
    }

    /// A token that never fires: for inline runs and tests.
    pub fn never() -> CancellationToken {
        CancellationToken::new().1
    }

    /// Returns at once: an error when the attempt is to stop. For loops.
    ///
    /// # Errors
    /// [`Cancelled`], which `?` turns into the right [`JobError`](portfire_core::JobError).
    pub fn check(&self) -> Result<(), Cancelled> {
        match self.reason() {
            Some(reason) => Err(Cancelled { reason }),
            None => Ok(()),
        }
    }

    /// Why the attempt is to stop; `None` while it is not.
    pub fn reason(&self) -> Option<CancelReason> {
        *self.reason.borrow()
    }

    /// Whether the attempt is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Waits until the attempt is to stop; for ever when it never is.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub fn cancelled(&self) -> impl Future<Output = Cancelled> + Send + 'static {
        let mut reason = self.reason.clone();
        async move {
            let fired = reason.wait_for(Option::is_some).await.ok().and_then(|reason| *reason);
            match fired {
                Some(reason) => Cancelled { reason },
                None => std::future::pending().await,
            }
        }
    }
}

/// Fires a [`CancellationToken`].
#[derive(Debug)]
pub struct CancellationSource {
    sender: watch::Sender<Option<CancelReason>>,
}

impl CancellationSource {
    /// Fires the token. The first reason stays.
    pub fn cancel(&self, reason: CancelReason) {
        self.sender.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }
}
