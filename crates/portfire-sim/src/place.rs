//! Where handlers run: what they can do to their process, what they write to the log of effects, and
//! what is checked when they begin and while they go on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::{CancelReason, Cancelled, Claim, JobId, NewJob};
use portfire_server::JobContext;

use crate::effects::{End, Run};
use crate::executor::DomainId;
use crate::hosts::STOP_TIMEOUT;
use crate::invariants::{self as rules, Check, Invariant, require};
use crate::marks::Mark;
use crate::truth::PROMPT;
use crate::world::World;

const MILLI: Duration = Duration::from_millis(1);

/// The process that a handler runs in: the service that handlers ask for.
pub(crate) struct Place {
    world: Arc<World>,
    domain: DomainId,
}

/// Writes the end of a run, however it comes.
pub(crate) struct RunGuard {
    world: Arc<World>,
    domain: DomainId,
    claim: Claim,
    blocking: bool,
    done: bool,
}

impl Place {
    /// The place of a process.
    pub(crate) fn new(world: &Arc<World>, domain: DomainId) -> Place {
        Place { world: Arc::clone(world), domain }
    }

    /// The world.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Notes that a handler begins, and checks that it may.
    pub(crate) fn begin(&self, context: &JobContext, blocking: bool) -> RunGuard {
        let (world, domain) = (&self.world, self.domain);
        let claim = context.job().claim;
        let Claim { job, attempt, .. } = claim;
        world.note(domain, || format!("{} begins: job {job}, attempt {attempt}", context.kind()));
        world.truth.report(self.check_beginning(claim, blocking));
        if let Some(since) = world.expected_since(job) {
            world.hit(Mark::Prompt);
            let waited = world.executor.now() - since;
            world.truth.report(rules::l2_nothing_waits_for_nothing(job, "begun", waited, PROMPT));
        }
        let mut effects = world.effects();
        let beside = effects.of(job).any(|(_, run)| {
            run.end.is_none() && world.executor.is_alive(run.domain) && run.domain != domain
        });
        if beside {
            world.hit(Mark::ZombieOverlap);
        }
        let first = effects.begin(job, attempt, Run { domain, end: None });
        drop(effects);
        world.truth.report(require(Invariant::S4, first, || {
            format!("attempt {attempt} of job {job} begins a second time")
        }));
        RunGuard { world: Arc::clone(world), domain, claim, blocking, done: false }
    }

    /// Longest time for which a handler does not look at its token.
    pub(crate) fn patience(&self) -> Duration {
        self.world.plan.lease / 8
    }

    /// Waits by the clock of the process.
    pub(crate) async fn sleep(&self, time: Duration) {
        self.world.executor.sleep(self.domain, time).await;
    }

    /// Waits, or hears why to stop.
    pub(crate) async fn sleep_unless_cancelled(
        &self,
        context: &JobContext,
        time: Duration,
    ) -> Option<Cancelled> {
        let cancelled = context.cancellation().cancelled();
        tokio::select! {
            biased;
            cancelled = cancelled => {
                if cancelled.reason == CancelReason::LeaseLost {
                    self.world.hit(Mark::SelfFenced);
                }
                Some(cancelled)
            }
            () = self.sleep(time) => None,
        }
    }

    /// Blocks the thread.
    pub(crate) fn block(&self, time: Duration) {
        self.world.executor.block(self.domain, time);
    }

    /// Ends the process at once.
    pub(crate) fn crash(&self) {
        self.world.executor.crash(self.domain);
    }

    /// S5, S7, S22: an attempt begins where it was granted, under a lease that has not lapsed, and
    /// not in a server that is stopping.
    fn check_beginning(&self, claim: Claim, blocking: bool) -> Check {
        let (world, domain) = (&self.world, self.domain);
        let Claim { job, attempt, .. } = claim;
        let storage_now = world.truth.now();
        let ledger = world.truth.ledger();
        let granted = ledger.grants.get(&(job, attempt)).and_then(|id| ledger.servers.get(id));
        let granted = granted.filter(|server| server.domain == domain);
        let Some(server) = granted else {
            return require(Invariant::S5, false, || {
                format!(
                    "attempt {attempt} of job {job} begins in {domain}, which it was not granted to"
                )
            });
        };
        // A thread starts when it starts: what was checked before may no longer be so.
        if !blocking {
            let until = server.lease_until;
            require(Invariant::S7, !server.dead && until > storage_now, || {
                format!(
                    "attempt {attempt} of job {job} begins at {storage_now}; the lease of its server ended at {until}"
                )
            })?;
        }
        let now = world.executor.now();
        let late = |stop: Duration| now > stop + STOP_TIMEOUT.mul_f64(1.1) + 50 * MILLI;
        let undisturbed = world.executor.disturbances(domain) == 0;
        let stopping = world.stopping_since(domain).is_some_and(late) && undisturbed && !blocking;
        require(Invariant::S22, !stopping, || {
            format!("attempt {attempt} of job {job} begins while its server is stopping")
        })
    }

    /// S7, S21: a handler that heeds its token does not run on for long once its claim is lost.
    pub(crate) fn check_overtime(&self, context: &JobContext) {
        let (world, domain) = (&self.world, self.domain);
        let Claim { job, attempt, .. } = context.job().claim;
        let Some(lost) = world.truth.ledger().lost.get(&(job, attempt)).copied() else { return };
        let since = lost.at.max(world.executor.resumed_at(domain));
        let overtime = world.executor.now().saturating_sub(since);
        let plan = &world.plan;
        // A server that was declared dead had stopped by itself before; of a deletion it hears by its
        // next heartbeat, and when that fails it stops by itself at the end of its lease.
        let slack = self.patience() + 500 * MILLI;
        let bound = match (lost.changed, world.healed_before(lost.at)) {
            (true, true) => 2 * plan.heartbeat + slack,
            (true, false) => plan.lease.mul_f64(1.3) + slack,
            (false, _) => plan.lease + slack,
        };
        world.truth.report(rules::s7_a_zombie_stops(job, attempt, lost.changed, overtime, bound));
    }

    /// Counts a token that has fired and is ignored.
    pub(crate) fn note_ignored(&self, context: &JobContext) {
        if context.cancellation().is_cancelled() {
            self.world.hit(Mark::TokenIgnored);
        }
    }

    /// Whether a job has snoozed less often than it wants to.
    pub(crate) fn snoozes_left(&self, context: &JobContext, times: u32) -> bool {
        let effects = self.world.effects();
        (effects.of(context.id()).count() as u32) <= times
    }

    /// Notes what a handler sets out to create.
    pub(crate) fn asks_for(&self, job: &NewJob) {
        self.world.truth.ledger().ask_tied(&[], std::slice::from_ref(job));
    }

    /// S1: what was answered is stored.
    pub(crate) fn was_promised(&self, job: JobId) {
        let check = self.world.truth.ledger().promised(job);
        self.world.truth.report(check);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.domain)
    }
}

impl RunGuard {
    /// The handler returns now.
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        let end = if self.done { End::Done } else { End::Undone };
        let Claim { job, attempt, .. } = self.claim;
        self.world.effects().end(job, attempt, end);
        self.world.note(self.domain, || format!("job {job}, attempt {attempt} ends: {end:?}"));
        if self.blocking && !self.done && !self.world.executor.is_alive(self.domain) {
            self.world.hit(Mark::CrashWhileBlocking);
        }
    }
}
