//! Finds jobs that the storage holds for this server and that the server has never heard of: [`Auditor`].
//!
//! A claim whose answer is lost is repeated under the same key, and the storage answers it again. But
//! on a network the first request can be applied *after* its repeat was answered with nothing: then
//! the jobs are held for a server that does not know of them, and no rescue comes, because it lives.
//! The auditor compares both sides and releases such jobs. It looks after claims whose outcome was
//! unknown, and once in a long while for anything else that may have gone wrong.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::{
    BoxError, Claim, CycleRequest, Finish, JobFilter, JobId, JobState, Outcome, ServerId,
    StateName, StorageError,
};

use crate::core::Core;
use crate::in_hand::{Errands, InHand};
use crate::lease::Holder;
use crate::meters::Call;
use crate::service::Service;

/// Time between two looks while nothing is in doubt.
const CALM_INTERVAL: Duration = Duration::from_secs(600);

/// Which job in which attempt.
type Held = (JobId, u32);

/// Compares what the storage holds for this server with what the server has in hand.
pub(crate) struct Auditor {
    core: Arc<Core>,
    pools: Vec<Arc<InHand>>,
    last: Option<Look>,
}

/// What was seen at one time.
struct Look {
    incarnation: u64,
    /// Held by the storage for this server, and not in hand.
    suspects: BTreeSet<Held>,
    /// How far the pools' dispatchers were. A claim that was under way may still bring the suspects.
    errands: Vec<Errands>,
}

impl Auditor {
    pub(crate) fn new(core: Arc<Core>, pools: Vec<Arc<InHand>>) -> Auditor {
        Auditor { core, pools, last: None }
    }

    async fn look(&self, holder: &Holder) -> Result<Look, StorageError> {
        // First the storage, then the hands: a job that ends in between is gone by the next look.
        let mut suspects = self.held_by_storage(&holder.server).await?;
        let mut in_hand = BTreeSet::new();
        self.pools.iter().for_each(|pool| pool.answers_for(&mut in_hand));
        suspects.retain(|held| !in_hand.contains(held));
        let errands = self.pools.iter().map(|pool| pool.errands()).collect();
        Ok(Look { incarnation: holder.incarnation, suspects, errands })
    }

    async fn held_by_storage(&self, server: &ServerId) -> Result<BTreeSet<Held>, StorageError> {
        let mut held = BTreeSet::new();
        let max = portfire_core::monitor::PAGE_MAX;
        let mut filter = JobFilter { max, ..JobFilter::state(StateName::Processing) };
        loop {
            let page = self.core.ask(Call::Read, self.core.storage.jobs(filter.clone())).await?;
            for job in page.jobs {
                if matches!(&job.state, JobState::Processing { server: by, .. } if by == server) {
                    held.insert((job.id, job.attempt));
                }
            }
            filter.after = page.next;
            if filter.after.is_none() {
                return Ok(held);
            }
        }
    }

    /// What both looks have seen, when every claim that was under way at the first has ended since.
    fn strays(&self, look: &Look) -> Vec<Held> {
        let Some(last) = &self.last else { return Vec::new() };
        let moved_on =
            last.errands.iter().zip(&look.errands).all(|(then, now)| now.are_past(*then));
        match last.incarnation == look.incarnation && moved_on {
            true => last.suspects.intersection(&look.suspects).copied().collect(),
            false => Vec::new(),
        }
    }

    async fn release(&self, strays: &[Held], holder: &Holder) -> Result<(), StorageError> {
        let released = |&(job, attempt): &Held| Finish {
            claim: Claim::new(job, attempt),
            outcome: Outcome::Released,
            duration: Duration::ZERO,
        };
        let key = self.core.next_cycle_key();
        let finished = strays.iter().map(released).collect();
        let request = CycleRequest { finished, ..CycleRequest::new(holder.server.clone(), key) };
        tracing::warn!(
            jobs = strays.len(),
            "jobs were held for this server that it never heard of; they go back to their queues"
        );
        self.core.ask(Call::Cycle, self.core.storage.cycle(request)).await.map(|_| ())
    }
}

impl Service for Auditor {
    fn name(&self) -> &str {
        "looking for jobs that this server does not know of"
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        let soon = self.core.options.heartbeat_interval;
        let holder = self.core.lease.holder();
        if !self.core.lease.is_valid(self.core.runtime.elapsed()) {
            return Ok(soon);
        }
        let look = self.look(&holder).await?;
        let strays = self.strays(&look);
        if !strays.is_empty() {
            self.release(&strays, &holder).await?;
        }
        let calm = look.suspects.is_empty() && !self.core.is_in_doubt();
        self.last = Some(look);
        Ok(if calm { CALM_INTERVAL } else { soon })
    }

    async fn hint(&mut self) {
        self.core.doubts.notified().await;
    }

    fn gap(&self) -> Duration {
        // A claim that was in doubt just now is usually settled by its repeat.
        self.core.options.heartbeat_interval
    }
}
