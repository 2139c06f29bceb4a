//! Moves scheduled jobs whose instant has come to their queues: [`Promoter`].
//!
//! Any number of servers may promote: each promotion is one atomic storage call, in storage time.

use std::sync::Arc;
use std::time::Duration;

use portfire_core::{BoxError, Wakeups};

use crate::core::Core;
use crate::meters::Call;
use crate::service::Service;

/// Jobs in one pass.
const PROMOTE_MAX: u32 = 1_000;

/// Time between a hint and the look at what it may be about.
const HINT_DELAY: Duration = Duration::from_millis(5);

/// Sleeps until the next job is due, as the storage said last; at most `poll_interval`, because
/// another process may have scheduled something sooner without a hint that was heard.
pub(crate) struct Promoter {
    core: Arc<Core>,
    wakeups: Wakeups,
}

impl Promoter {
    pub(crate) fn new(core: Arc<Core>) -> Promoter {
        let wakeups = core.storage.wakeups();
        Promoter { core, wakeups }
    }
}

impl Service for Promoter {
    fn name(&self) -> &str {
        "promoting due jobs"
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        let call = self.core.storage.promote(PROMOTE_MAX);
        let promoted = self.core.ask(Call::Promote, call).await?;
        if promoted.promoted > 0 {
            tracing::debug!(jobs = promoted.promoted, "jobs have become due");
        }
        let poll_interval = self.core.options.poll_interval;
        Ok(promoted.next_in.unwrap_or(poll_interval).min(poll_interval))
    }

    async fn hint(&mut self) {
        self.wakeups.work().await;
        // Most hints are of jobs that can be claimed at once: that call goes first.
        self.core.runtime.sleep(HINT_DELAY).await;
    }
}
