//! Moves scheduled jobs whose instant has come to their queues: [`Promoter`].
//!
//! Any number of servers may promote: each promotion is one atomic storage call, in storage time.

use std::sync::Arc;
use std::time::Duration;

use portfire_core::{BoxError, Storage, Wakeups};

use crate::runtime::Runtime;
use crate::service::Service;

/// Jobs in one pass.
const PROMOTE_MAX: u32 = 1_000;

/// Time between a hint and the look at what it may be about.
const HINT_DELAY: Duration = Duration::from_millis(5);

/// Sleeps until the next job is due, as the storage said last; at most `poll_interval`, because
/// another process may have scheduled something sooner without a hint that was heard.
pub(crate) struct Promoter {
    storage: Arc<dyn Storage>,
    runtime: Arc<dyn Runtime>,
    wakeups: Wakeups,
    poll_interval: Duration,
}

impl Promoter {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        runtime: Arc<dyn Runtime>,
        poll_interval: Duration,
    ) -> Promoter {
        let wakeups = storage.wakeups();
        Promoter { storage, runtime, wakeups, poll_interval }
    }
}

impl Service for Promoter {
    fn name(&self) -> &str {
        "promoting due jobs"
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        let promoted = self.storage.promote(PROMOTE_MAX).await?;
        if promoted.promoted > 0 {
            tracing::debug!(jobs = promoted.promoted, "jobs have become due");
        }
        let next_in = promoted.next_in.unwrap_or(self.poll_interval);
        Ok(next_in.min(self.poll_interval))
    }

    async fn hint(&mut self) {
        self.wakeups.work().await;
        // Most hints are of jobs that can be claimed at once: that call goes first.
        self.runtime.sleep(HINT_DELAY).await;
    }
}
