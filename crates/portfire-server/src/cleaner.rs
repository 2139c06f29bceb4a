//! Removes final jobs whose retention has ended: [`Cleaner`].

use std::sync::Arc;
use std::time::Duration;

use portfire_core::{BoxError, Storage};

use crate::runtime::Runtime;
use crate::service::{Service, jittered};

/// Jobs in one pass: bounds how long other writers wait for it.
const CLEAN_MAX: u32 = 1_000;

/// Cleans in chunks, with room for other writers between them.
pub(crate) struct Cleaner {
    storage: Arc<dyn Storage>,
    runtime: Arc<dyn Runtime>,
    interval: Duration,
}

impl Cleaner {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        runtime: Arc<dyn Runtime>,
        interval: Duration,
    ) -> Cleaner {
        Cleaner { storage, runtime, interval }
    }
}

impl Service for Cleaner {
    fn name(&self) -> &str {
        "cleaning expired jobs"
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        let cleaned = self.storage.clean(CLEAN_MAX).await?;
        if cleaned.jobs > 0 {
            tracing::debug!(jobs = cleaned.jobs, "expired jobs were removed");
        }
        match cleaned.more {
            true => Ok(Duration::from_millis(10)),
            false => Ok(jittered(self.interval, self.runtime.random())),
        }
    }

    fn gap(&self) -> Duration {
        Duration::from_millis(10)
    }
}
