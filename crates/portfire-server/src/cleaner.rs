//! Removes final jobs whose retention has ended: [`Cleaner`].

use std::sync::Arc;
use std::time::Duration;

use portfire_core::BoxError;

use crate::core::Core;
use crate::meters::Call;
use crate::service::{Service, jittered};

/// Jobs in one pass: bounds how long other writers wait for it.
const CLEAN_MAX: u32 = 1_000;

/// Cleans in chunks, with room for other writers between them.
pub(crate) struct Cleaner {
    core: Arc<Core>,
}

impl Cleaner {
    pub(crate) fn new(core: Arc<Core>) -> Cleaner {
        Cleaner { core }
    }
}

impl Service for Cleaner {
    fn name(&self) -> &str {
        "cleaning expired jobs"
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        let cleaned = self.core.ask(Call::Clean, self.core.storage.clean(CLEAN_MAX)).await?;
        if cleaned.jobs > 0 {
            tracing::debug!(jobs = cleaned.jobs, "expired jobs were removed");
        }
        match cleaned.more {
            true => Ok(Duration::from_millis(10)),
            false => Ok(jittered(self.core.options.clean_interval, self.core.runtime.random())),
        }
    }

    fn gap(&self) -> Duration {
        Duration::from_millis(10)
    }
}
