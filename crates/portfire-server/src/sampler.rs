//! Measures the queues for the gauges: [`Sampler`].

use std::sync::Arc;
use std::time::Duration;

use portfire_core::{BoxError, JobFilter, JobState, QueueRecord, StateName, Timestamp};

use crate::core::Core;
use crate::meters::{Call, QueueGauges};
use crate::service::{Service, jittered};

/// Reads how many jobs stand where and how long the next one has waited. Reads only.
pub(crate) struct Sampler {
    core: Arc<Core>,
    interval: Duration,
    gauges: QueueGauges,
}

impl Sampler {
    pub(crate) fn new(core: Arc<Core>, interval: Duration) -> Sampler {
        Sampler { core, interval, gauges: QueueGauges::default() }
    }

    /// How long the job has waited that is next in line.
    async fn waited(&self, queue: &QueueRecord, now: Timestamp) -> Result<Duration, BoxError> {
        if count(queue, StateName::Enqueued) == 0 {
            return Ok(Duration::ZERO);
        }
        let next = JobFilter {
            queue: Some(queue.name.clone()),
            max: 1,
            ..JobFilter::state(StateName::Enqueued)
        };
        let page = self.core.ask(Call::Read, self.core.storage.jobs(next)).await?;
        Ok(match page.jobs.first().map(|job| &job.state) {
            Some(JobState::Enqueued { enqueued_at }) => now.since(*enqueued_at),
            // Claimed in between.
            _ => Duration::ZERO,
        })
    }
}

fn count(queue: &QueueRecord, state: StateName) -> u64 {
    queue.states.get(&state).copied().unwrap_or(0)
}

impl Service for Sampler {
    fn name(&self) -> &str {
        "measuring the queues"
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        // Those that the server serves come first, however many others there are.
        for queue in &self.core.options.queues {
            self.gauges.keep(queue);
        }
        let now = self.core.ask(Call::Read, self.core.storage.now()).await?;
        for queue in self.core.ask(Call::Read, self.core.storage.queues()).await? {
            if !self.gauges.keep(&queue.name) {
                continue;
            }
            let waited = self.waited(&queue, now).await?;
            self.gauges.set(&queue.name, |state| count(&queue, state), waited);
        }
        Ok(jittered(self.interval, self.core.runtime.random()))
    }
}
