//! Tells filters of the transitions that this process makes: [`Listener`].

use std::sync::Arc;

use portfire_core::{Heard, Transitions};
use tokio::sync::oneshot;

use crate::core::Core;
use crate::panics::caught;

/// Listens to the storage, from its making on, and tells each filter of each transition. It outlives the services: the
/// last transitions of a server are made while it stops.
pub(crate) struct Listener {
    core: Arc<Core>,
    transitions: Transitions,
}

impl Listener {
    pub(crate) fn new(core: Arc<Core>) -> Listener {
        let transitions = core.storage.transitions();
        Listener { core, transitions }
    }

    /// Runs until the server has retired, or is gone, and everything was told that was stored by then.
    pub(crate) async fn run(mut self, mut retired: oneshot::Receiver<()>) {
        loop {
            let heard = tokio::select! {
                biased;
                heard = self.transitions.next() => heard,
                _ = &mut retired => break,
            };
            self.tell(&heard);
        }
        while let Some(heard) = self.transitions.try_next() {
            self.tell(&heard);
        }
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
