//! Returns the jobs of servers that died: [`Rescuer`].

use std::sync::Arc;
use std::time::Duration;

use portfire_core::{BoxError, RescueRequest, Wakeups};

use crate::core::Core;
use crate::meters::Call;
use crate::service::{Service, jittered};

/// Declares servers dead whose lease has lapsed and returns their jobs, in chunks; fails jobs whose kind no server has
/// had for too long.
pub(crate) struct Rescuer {
    core: Arc<Core>,
    wakeups: Wakeups,
}

impl Rescuer {
    pub(crate) fn new(core: Arc<Core>) -> Rescuer {
        let wakeups = core.storage.wakeups();
        Rescuer { core, wakeups }
    }
}

impl Service for Rescuer {
    fn name(&self) -> &str {
        "rescuing the jobs of dead servers"
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        let options = &self.core.options;
        let recoveries_max = options.recoveries_max;
        let unknown_kind_grace = self.core.performer.grace();
        let request =
            RescueRequest { recoveries_max, unknown_kind_grace, ..RescueRequest::default() };
        let rescued = self.core.ask(Call::Rescue, self.core.storage.rescue(request)).await?;
        self.core.meters.rescued(&rescued);
        for server in &rescued.dead {
            tracing::warn!(%server, "server is dead: its lease ran out");
        }
        if rescued.returned + rescued.poisoned > 0 {
            let (returned, poisoned) = (rescued.returned, rescued.poisoned);
            tracing::warn!(returned, poisoned, "jobs of dead servers were returned");
        }
        if rescued.unhandled > 0 {
            let jobs = rescued.unhandled;
            tracing::error!(jobs, "jobs were failed: no server has had a handler of their kinds");
        }
        match rescued.more {
            true => Ok(Duration::ZERO),
            false => Ok(jittered(options.rescue_interval, self.core.runtime.random())),
        }
    }

    async fn hint(&mut self) {
        self.wakeups.control().await;
    }

    fn gap(&self) -> Duration {
        Duration::from_millis(200)
    }
}
