//! One sort of workers of a pool, and the jobs for them: [`Lane`].
//!
//! Plain data under the lock of [`InHand`](crate::in_hand::InHand): a line of jobs that are ready, a
//! slot for each worker, and the pace at which jobs end.

use std::collections::VecDeque;
use std::time::Duration;

use portfire_core::{CancelReason, Claim, ClaimedJob, Lost, LostReason};

use crate::cancellation::{CancellationSource, CancellationToken};
use crate::meters::Label;
use crate::prefetch::Pace;

/// How long a job may wait here for a worker before it is given back, if more wait than the pool has
/// workers: other servers may have time for it.
const READY_MAX: Duration = Duration::from_secs(1);

/// Which of a pool's two sorts of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneName {
    /// For async handlers.
    Async,
    /// For handlers that block a thread.
    Blocking,
}

/// The place of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seat {
    pub(crate) lane: LaneName,
    pub(crate) slot: usize,
}

/// The jobs of one sort.
pub(crate) struct Lane {
    ready: VecDeque<Ready>,
    slots: Vec<Slot>,
    /// Slots that are not free.
    busy: usize,
    /// Workers that wait for a job.
    pub(crate) idle: usize,
    pace: Pace,
}

struct Ready {
    job: ClaimedJob,
    label: Label,
    since: Duration,
}

enum Slot {
    Free,
    Running {
        claim: Claim,
        source: CancellationSource,
    },
    /// What runs is no longer an attempt: it is reported, but its thread has not returned; or its
    /// job was lost with the server's former id.
    Lingering,
}

impl Lane {
    pub(crate) fn new(slots: usize) -> Lane {
        Lane {
            ready: VecDeque::new(),
            slots: (0..slots).map(|_| Slot::Free).collect(),
            busy: 0,
            idle: 0,
            pace: Pace::default(),
        }
    }

    /// Whether it has any workers.
    pub(crate) fn exists(&self) -> bool {
        !self.slots.is_empty()
    }

    /// A job was fetched.
    pub(crate) fn add(&mut self, job: ClaimedJob, label: Label, now: Duration) {
        self.ready.push_back(Ready { job, label, since: now });
    }

    /// Puts the next job into a free slot.
    pub(crate) fn start(&mut self, slot: usize) -> Option<(ClaimedJob, Label, CancellationToken)> {
        let Ready { job, label, .. } = self.ready.pop_front()?;
        let (source, token) = CancellationToken::new();
        self.slots[slot] = Slot::Running { claim: job.claim, source };
        self.busy += 1;
        Some((job, label, token))
    }

    /// The attempt in a slot has ended after this time.
    pub(crate) fn ended(&mut self, slot: usize, took: Duration, now: Duration) {
        self.free(slot);
        self.pace.ended(took, now);
    }

    /// The thread of an attempt that has ended still holds its slot.
    pub(crate) fn linger(&mut self, slot: usize) {
        self.slots[slot] = Slot::Lingering;
        self.busy += 1;
    }

    /// Nothing holds the slot any more.
    pub(crate) fn free(&mut self, slot: usize) {
        // A slot that was given up at the deadline is free already.
        if !matches!(self.slots[slot], Slot::Free) {
            self.slots[slot] = Slot::Free;
            self.busy -= 1;
        }
    }

    /// How many jobs may be fetched: those for free workers, and so many ahead as the workers end
    /// while a claim is under way. `None` when a full round of work waits already.
    pub(crate) fn room(&self, now: Duration) -> Option<usize> {
        let ahead = self.ahead(now);
        let free = self.slots.len().saturating_sub(self.busy);
        (self.ready.len() < self.slots.len() + ahead)
            .then(|| (free + ahead).saturating_sub(self.ready.len()))
    }

    /// Takes out what has waited long and is not for the next round: a slow job must not sit here
    /// while another server has nothing to do.
    pub(crate) fn take_stale(&mut self, now: Duration) -> Vec<Claim> {
        let keep = self.slots.len() + self.ahead(now);
        let oldest = self.ready.front().map(|ready| now.saturating_sub(ready.since));
        if self.ready.len() <= keep || oldest.is_none_or(|waited| waited < READY_MAX) {
            return Vec::new();
        }
        self.ready.drain(keep..).map(|ready| ready.job.claim).collect()
    }

    /// Takes out everything that is ready.
    pub(crate) fn take_ready(&mut self) -> Vec<Claim> {
        self.ready.drain(..).map(|ready| ready.job.claim).collect()
    }

    /// Some claims are no longer good: what is ready is dropped, what runs is cancelled. How many.
    pub(crate) fn lose(&mut self, lost: &[Lost]) -> u64 {
        let find = |held: &Claim| {
            let same =
                |lost: &&Lost| (lost.claim.job, lost.claim.attempt) == (held.job, held.attempt);
            lost.iter().find(same)
        };
        let before = self.ready.len();
        self.ready.retain(|ready| find(&ready.job.claim).is_none());
        let mut count = (before - self.ready.len()) as u64;
        for slot in &self.slots {
            if let Slot::Running { claim, source } = slot
                && let Some(lost) = find(claim)
            {
                source.cancel(cancel_reason(lost.reason));
                count += 1;
            }
        }
        count
    }

    /// Cancels everything that runs.
    pub(crate) fn cancel_all(&self, reason: CancelReason) {
        for slot in &self.slots {
            if let Slot::Running { source, .. } = slot {
                source.cancel(reason);
            }
        }
    }

    /// Nothing here is the server's any more. What runs keeps its slot until it has noticed. How many.
    pub(crate) fn forget_all(&mut self) -> u64 {
        let mut count = self.ready.len() as u64;
        self.ready.clear();
        for slot in self.slots.iter_mut().filter(|slot| slot.is_running()) {
            *slot = Slot::Lingering;
            count += 1;
        }
        count
    }

    /// Gives up what still runs. How many.
    pub(crate) fn abandon(&mut self) -> u64 {
        let running = self.running() as u64;
        self.slots.fill_with(|| Slot::Free);
        self.busy = 0;
        running
    }

    /// The claims of what is ready and of what runs.
    pub(crate) fn claims(&self) -> impl Iterator<Item = Claim> {
        let running = self.slots.iter().filter_map(|slot| match slot {
            Slot::Running { claim, .. } => Some(*claim),
            Slot::Free | Slot::Lingering => None,
        });
        self.ready.iter().map(|ready| ready.job.claim).chain(running)
    }

    /// How many are ready.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_running()).count()
    }

    /// Whether a worker waits for what is ready.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.idle > 0 && !self.ready.is_empty()
    }

    fn ahead(&self, now: Duration) -> usize {
        self.pace.ahead(self.slots.len(), self.busy, now)
    }
}

impl Slot {
    fn is_running(&self) -> bool {
        matches!(self, Slot::Running { .. })
    }
}

fn cancel_reason(lost: LostReason) -> CancelReason {
    match lost {
        LostReason::Deleted | LostReason::Missing => CancelReason::Deleted,
        LostReason::Taken => CancelReason::LeaseLost,
    }
}
