//! Tells filters of the transitions that this process makes: [`Listener`].

use std::sync::Arc;
use std::time::Duration;

use portfire_core::{BoxError, Heard, Transitions};

use crate::core::Core;
use crate::panics::caught;
use crate::service::Service;

/// How long nothing has to happen before it looks without a hint.
const IDLE: Duration = Duration::from_secs(60);

/// Listens to the storage, from its making on, and tells each filter of each transition.
pub(crate) struct Listener {
    core: Arc<Core>,
    transitions: Transitions,
    /// What came with the last hint.
    heard: Option<Heard>,
}

impl Listener {
    pub(crate) fn new(core: Arc<Core>) -> Listener {
        let transitions = core.storage.transitions();
        Listener { core, transitions, heard: None }
    }

    fn tell(&self, heard: &Heard) {
        let moved = match heard {
            Heard::Moved(moved) => moved,
            Heard::Missed(commits) => {
                tracing::warn!(commits, "applied filters are too slow, and missed transitions");
                return;
            }
        };
        for one in moved.iter() {
            for filter in self.core.applied_to(&one.kind) {
                if let Err(message) = caught(|| filter.moved(one)) {
                    tracing::error!(job_id = %one.job, message, "an applied filter panicked");
                }
            }
        }
    }
}

impl Service for Listener {
    fn name(&self) -> &str {
        "telling filters of transitions"
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        if let Some(heard) = self.heard.take() {
            self.tell(&heard);
        }
        while let Some(heard) = self.transitions.try_next() {
            self.tell(&heard);
        }
        Ok(IDLE)
    }

    async fn hint(&mut self) {
        self.heard = Some(self.transitions.next().await);
    }

    fn gap(&self) -> Duration {
        Duration::ZERO
    }
}

impl Drop for Listener {
    /// The last transitions of a server are made while it stops.
    fn drop(&mut self) {
        if let Some(heard) = self.heard.take() {
            self.tell(&heard);
        }
        while let Some(heard) = self.transitions.try_next() {
            self.tell(&heard);
        }
    }
}
