//! Returns the jobs of servers that died: [`Rescuer`].

use std::sync::Arc;
use std::time::Duration;

use portfire_core::{BoxError, RescueRequest, Storage, Wakeups};

use crate::runtime::Runtime;
use crate::service::{Service, jittered};

/// Declares servers dead whose lease has lapsed and returns their jobs, in chunks.
pub(crate) struct Rescuer {
    storage: Arc<dyn Storage>,
    runtime: Arc<dyn Runtime>,
    wakeups: Wakeups,
    request: RescueRequest,
    interval: Duration,
}

impl Rescuer {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        runtime: Arc<dyn Runtime>,
        request: RescueRequest,
        interval: Duration,
    ) -> Rescuer {
        let wakeups = storage.wakeups();
        Rescuer { storage, runtime, wakeups, request, interval }
    }
}

impl Service for Rescuer {
    fn name(&self) -> &str {
        "rescuing the jobs of dead servers"
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        let rescued = self.storage.rescue(self.request).await?;
        for server in &rescued.dead {
            tracing::warn!(%server, "server is dead: its lease ran out");
        }
        if rescued.returned + rescued.poisoned > 0 {
            let (returned, poisoned) = (rescued.returned, rescued.poisoned);
            tracing::warn!(returned, poisoned, "jobs of dead servers were returned");
        }
        match rescued.more {
            true => Ok(Duration::ZERO),
            false => Ok(jittered(self.interval, self.runtime.random())),
        }
    }

    async fn hint(&mut self) {
        self.wakeups.control().await;
    }

    fn gap(&self) -> Duration {
        Duration::from_millis(200)
    }
}
