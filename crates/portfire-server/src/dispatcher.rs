//! Brings a pool its jobs and takes away what is done: [`Dispatcher`], one for each pool.
//!
//! It is a self-clocking pipe: the moment one storage call has returned, the next one takes what has
//! gathered meanwhile, finishes and the wish for more jobs together. One job alone goes at once; a
//! flood becomes batches of hundreds, without a timer or a setting.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portfire_core::{ClaimRequest, Cycle, CycleRequest, Finish, StorageError, Verdict, Wakeups};

use crate::context::JobContext;
use crate::core::Core;
use crate::in_hand::{Errand, InHand};
use crate::lane::LaneName;
use crate::lease::Lease;
use crate::meters::{Call, Label};
use crate::queues::QueueOrder;
use crate::service::Outage;
use crate::shutdown::{Phase, Shutdown};

/// Who is to hear what became of a finish.
type Hearer = (Option<Label>, Option<JobContext>);

/// One pool's way to the storage and back.
pub(crate) struct Dispatcher {
    core: Arc<Core>,
    in_hand: Arc<InHand>,
    queues: QueueOrder,
    wakeups: Wakeups,
    shutdown: Shutdown,
    outage: Outage,
    /// Whether there may be something to claim: the last claim was full, or a wake-up came since, or
    /// it was long ago.
    may_have_work: bool,
    claimed_at: Duration,
}

impl Dispatcher {
    pub(crate) fn new(
        core: Arc<Core>,
        in_hand: Arc<InHand>,
        queues: QueueOrder,
        shutdown: Shutdown,
    ) -> Dispatcher {
        let wakeups = core.storage.wakeups();
        let outage = Outage::new(Arc::clone(&core.runtime));
        let claimed_at = core.runtime.elapsed();
        let may_have_work = true;
        Dispatcher { core, in_hand, queues, wakeups, shutdown, outage, may_have_work, claimed_at }
    }

    /// Runs until the pool is closed and everything it had in hand is reported.
    pub(crate) async fn run(mut self) {
        loop {
            // Without a lease there is nobody to act for; what is in hand waits, or is forgotten.
            self.lease_is(|lease, now| lease.is_valid(now)).await;
            let claiming = self.may_have_work && self.shutdown.phase() == Phase::Running;
            match self.in_hand.errand(claiming) {
                Some(errand) => {
                    self.deliver(errand).await;
                    self.in_hand.delivered();
                }
                None if self.in_hand.is_finished() => return,
                None => self.wait().await,
            }
        }
    }

    /// Waits for something to report, for room, for a hint that there are jobs, or for the time to
    /// look without a hint.
    async fn wait(&mut self) {
        let since = self.core.runtime.elapsed().saturating_sub(self.claimed_at);
        let until_poll = self.core.options.poll_interval.saturating_sub(since);
        let running = self.shutdown.phase() == Phase::Running;
        tokio::select! {
            biased;
            () = self.in_hand.something_to_do() => {}
            () = self.in_hand.something_to_tell() => {}
            () = self.shutdown.reached(Phase::Quiet), if running => {}
            // Either hint will do: a queue that is resumed is a matter of control.
            _ = self.wakeups.next(), if running && !self.may_have_work => self.may_have_work = true,
            () = self.core.runtime.sleep(until_poll) => {
                self.may_have_work = true;
                self.claimed_at = self.core.runtime.elapsed();
            }
        }
    }

    /// Sends an errand until the storage has answered it, or the server has lost its id.
    async fn deliver(&mut self, errand: Errand) {
        let Errand { incarnation, notes, done, want } = errand;
        let holder = self.core.lease.holder();
        let (finished, hearers): (Vec<Finish>, Vec<Hearer>) =
            done.into_iter().map(|done| (done.finish, (done.label, done.context))).unzip();
        let claim = (want > 0).then(|| ClaimRequest {
            queues: self.queues.next(),
            max: self.queues.bounded(want),
            aging: self.core.options.aging,
        });
        let key = self.core.next_cycle_key();
        let mut request =
            CycleRequest { notes, finished, claim, ..CycleRequest::new(holder.server, key) };
        loop {
            if !self.may_send(incarnation).await {
                return self.core.drop_outcomes(&request.finished);
            }
            if self.shutdown.phase() != Phase::Running && !request.repeated {
                request.claim = None;
            }
            match self.send(request.clone()).await {
                Ok(answer) => {
                    self.outage.over("reporting and claiming jobs");
                    self.hear(&request.finished, &hearers, &answer.verdicts);
                    return self.take_in(answer, request.claim, incarnation);
                }
                Err(StorageError::ServerGone { .. }) => {
                    self.core.lease.gone(incarnation);
                    return self.core.drop_outcomes(&request.finished);
                }
                Err(error) => {
                    // Unknown is not no: only the same key tells the two apart, and a claim that was
                    // applied must not be lost.
                    request.repeated |= !error.is_definite();
                    if request.repeated && request.claim.is_some() {
                        self.core.doubt();
                    }
                    let wait = self.outage.wait_after("reporting and claiming jobs", &error);
                    self.core.runtime.sleep(wait).await;
                }
            }
        }
    }

    /// Waits until the server may act under this incarnation; `false` when it never may again.
    ///
    /// What is done is kept: as long as nobody has declared the server dead, a renewed lease makes
    /// it count.
    async fn may_send(&self, incarnation: u64) -> bool {
        let is_over = |lease: &Lease| lease.holder().incarnation != incarnation || lease.is_gone();
        self.lease_is(|lease, now| is_over(lease) || lease.is_valid(now)).await;
        !is_over(&self.core.lease)
    }

    async fn lease_is(&self, so: impl Fn(&Lease, Duration) -> bool) {
        let mut changes = self.core.lease.changes();
        while !so(&self.core.lease, self.core.runtime.elapsed()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn send(&self, request: CycleRequest) -> Result<Cycle, StorageError> {
        self.core.tallies.cycles.fetch_add(1, Ordering::Relaxed);
        // A storage that does not answer within a lease has lost the request or its answer.
        tokio::select! {
            biased;
            answer = self.core.ask(Call::Cycle, self.core.storage.cycle(request)) => answer,
            () = self.core.runtime.sleep(self.core.options.lease) => {
                Err(StorageError::unavailable("no answer within the time of a lease"))
            }
        }
    }

    fn hear(&self, finished: &[Finish], hearers: &[Hearer], verdicts: &[Verdict]) {
        if verdicts.len() != finished.len() {
            let (sent, heard) = (finished.len(), verdicts.len());
            tracing::error!(sent, heard, "the storage does not say what became of each finish");
        }
        for ((finish, (label, context)), verdict) in finished.iter().zip(hearers).zip(verdicts) {
            self.core.heard(finish, *label, context.as_ref(), *verdict);
        }
    }

    fn take_in(&mut self, answer: Cycle, claim: Option<ClaimRequest>, incarnation: u64) {
        let Some(claim) = claim else { return };
        let claimed = answer.claimed.len();
        self.claimed_at = self.core.runtime.elapsed();
        self.queues.claimed(&answer.claimed);
        // A claim that was not filled has seen the end of all queues, unless it says that it has only made its way
        // through jobs that are not for this server; what comes after it is told by a wake-up, or found by the
        // next poll.
        self.may_have_work = claimed >= claim.max as usize || answer.more;
        if claimed == 0 {
            if !answer.more {
                self.queues.drained();
            }
            return;
        }
        self.core.tallies.claimed.fetch_add(claimed as u64, Ordering::Relaxed);
        let (registry, meters) = (self.core.performer.registry(), &self.core.meters);
        self.in_hand.take_in(answer.claimed, incarnation, |job| {
            let handler = registry.numbered(job.kind.as_str());
            let label = meters.label(handler.map(|(number, _)| number), &job.queue);
            meters.claimed(label, job);
            match handler.is_some_and(|(_, handler)| handler.is_blocking()) {
                true => (LaneName::Blocking, label),
                false => (LaneName::Async, label),
            }
        });
    }
}
