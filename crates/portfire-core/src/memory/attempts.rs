//! The attempts of servers: claims, notes and ends, and what becomes of those of servers that are gone.

use std::sync::Arc;

use super::entries::Facts;
use super::jobs::Number;
use super::moves::sound;
use super::{Data, cut};
use crate::engine;
use crate::engine::attempts::{Relation, lost};
use crate::engine::kinds;
use crate::error::StorageError;
use crate::job::{KindName, QueueName};
use crate::notes::Annotation;
use crate::state::{ErrorRecord, ServerId, StateName};
use crate::storage::{
    Claim, ClaimRequest, ClaimedJob, Cycle, CycleRequest, Finish, Lost, NewServer, RELEASE_MAX,
    RescueRequest, Rescued, Verdict,
};
use crate::suspects::Allowance;
use crate::transition::Event;

impl Data {
    pub(super) fn announce(&mut self, server: NewServer) -> Result<(), StorageError> {
        self.servers.check_new(&server.id)?;
        self.resume_clocks();
        self.servers.announce(server, self.now)
    }

    pub(super) fn heartbeat(
        &mut self,
        server: &ServerId,
        held: &[Claim],
    ) -> Result<Vec<Lost>, StorageError> {
        self.servers.alive(server)?;
        self.resume_clocks();
        self.servers.alive(server)?.renew(self.now);
        Ok(self.lost(server, held))
    }

    pub(super) fn verify(
        &mut self,
        server: &ServerId,
        held: &[Claim],
    ) -> Result<Vec<Lost>, StorageError> {
        self.servers.alive(server)?;
        Ok(self.lost(server, held))
    }

    fn lost(&self, server: &ServerId, held: &[Claim]) -> Vec<Lost> {
        let reason = |claim: &Claim| {
            let job = self.jobs.find_claim(claim).map(|number| &self.jobs[number]);
            let holds = job.is_some_and(|job| job.is_held(server, claim.attempt));
            lost(job.map(|job| job.standing().state), holds)
        };
        let lost = held.iter().filter_map(|claim| Some((claim, reason(claim)?)));
        lost.map(|(&claim, reason)| Lost { claim, reason }).collect()
    }

    pub(super) fn retire(&mut self, server: &ServerId) {
        let Ok(alive) = self.servers.alive(server) else { return };
        alive.die(self.now);
        let held: Vec<Number> = self.servers.held(server).collect();
        for number in held {
            self.must(number, Event::Release, Facts::default());
        }
        self.jobs.hints.control = true;
        self.settle();
    }

    pub(super) fn cycle(&mut self, request: CycleRequest) -> Result<Cycle, StorageError> {
        self.servers.alive(&request.server)?;
        for annotation in request.notes {
            self.annotate(&request.server, annotation);
        }
        let finished = request.finished.into_iter();
        let verdicts = finished.map(|finish| self.finish(&request.server, finish)).collect();
        self.settle();
        let (claimed, more) = match request.claim {
            None => (Vec::new(), false),
            Some(wish) => {
                let again = if request.repeated {
                    self.claimed_before(&request.server, request.key)
                } else {
                    Vec::new()
                };
                if again.is_empty() {
                    self.claim(&request.server, request.key, &wish)
                } else {
                    (again, false)
                }
            }
        };
        Ok(Cycle { verdicts, claimed, more })
    }

    fn annotate(&mut self, server: &ServerId, annotation: Annotation) {
        let Annotation { claim, notes } = annotation;
        let Some(number) = self.jobs.find_claim(&claim) else { return };
        let job = &self.jobs[number];
        if job.relation(server, claim.attempt).is_heard() {
            let tags = &job.record.options.tags;
            self.notes.take(number, claim.attempt, Arc::unwrap_or_clone(notes), tags);
        }
    }

    fn finish(&mut self, server: &ServerId, finish: Finish) -> Verdict {
        let Some(number) = self.jobs.find_claim(&finish.claim) else {
            return Relation::Missing.verdict();
        };
        let attempt = finish.claim.attempt;
        let verdict = self.jobs[number].relation(server, attempt).verdict();
        if verdict != Verdict::Applied {
            return verdict;
        }
        let event = finish.outcome.event();
        let facts = Facts::of(finish.outcome);
        let facts = Facts { attempt: Some(attempt), duration: finish.duration, ..facts };
        self.must(number, event, facts);
        verdict
    }

    /// The jobs that the server still holds from its claim with this key, in the order of that claim.
    fn claimed_before(&self, server: &ServerId, key: u64) -> Vec<ClaimedJob> {
        let held = self.servers.held(server);
        let mut claims: Vec<_> = held
            .filter_map(|number| {
                let hold = self.jobs[number].hold.as_ref()?;
                (hold.key == key).then_some((hold.order, number))
            })
            .collect();
        claims.sort_unstable();
        claims.into_iter().map(|(_, number)| self.jobs.claimed(number)).collect()
    }

    /// The jobs that a server is given, and whether it is to claim again.
    fn claim(
        &mut self,
        server: &ServerId,
        key: u64,
        wish: &ClaimRequest,
    ) -> (Vec<ClaimedJob>, bool) {
        let (mut claimed, mut more) = (Vec::new(), false);
        let stated = self.servers.kinds(server).to_vec();
        match self.allowance(server, wish, &stated) {
            Allowance::Nothing => return (claimed, false),
            Allowance::Empty => {
                self.servers.empty(server, self.now);
                return (claimed, false);
            }
            Allowance::Suspect if wish.max > 0 => {
                if let Some(number) = self.admissible_suspect(&wish.queues, &stated) {
                    self.servers.stop_emptying(server);
                    self.hold(number, server, key);
                    claimed.push(self.jobs.claimed(number));
                }
            }
            _ => {}
        }
        if claimed.is_empty() {
            more = self.claim_others((server, &stated), key, wish, &mut claimed);
        }
        sound(engine::put_off(self));
        self.wake_waiters();
        (claimed, more)
    }

    /// Whether a claim is given a suspect.
    fn allowance(&self, server: &ServerId, wish: &ClaimRequest, stated: &[KindName]) -> Allowance {
        let first = self.suspects(&wish.queues, stated).next();
        if first.is_none() && !self.servers.has_trials() {
            return Allowance::Others;
        }
        let waited = first.map(|number| self.now.since(self.jobs[number].enqueued_at()));
        self.servers.suspicion(server, waited, self.now).allowance()
    }

    /// The suspects of these kinds that wait in these queues, those that were held last first.
    fn suspects(&self, queues: &[QueueName], stated: &[KindName]) -> impl Iterator<Item = Number> {
        let queues = queues.iter().filter_map(|name| self.jobs.queues.get(name));
        let queues: Vec<_> = queues.filter(|queue| !queue.paused).collect();
        let mut turn = None;
        std::iter::from_fn(move || {
            let before = turn.unwrap_or(i64::MAX);
            let own = |number: &Number| kinds::has(stated, &self.jobs[*number].record.kind);
            let next = queues.iter().filter_map(|queue| {
                queue.apart.range(..before).rev().find(|(_, number)| own(number))
            });
            let (&last, &number) = next.max()?;
            turn = Some(last);
            Some(number)
        })
    }

    /// The first suspect that nothing but its suspicion keeps from being claimed.
    fn admissible_suspect(&mut self, queues: &[QueueName], stated: &[KindName]) -> Option<Number> {
        let suspects: Vec<Number> = self.suspects(queues, stated).take(RELEASE_MAX).collect();
        suspects.into_iter().find(|&number| {
            if let Some(reason) = self.cancellation(number) {
                self.must(number, Event::Delete, Facts::reason(reason));
                return false;
            }
            let record = &self.jobs[number].record;
            let full = self.jobs.limits.full_at_claim(record, self.now).is_some();
            // It stays where it is: in the line of a limit it would stand among those that are no suspects.
            !full && self.room_in(&record.queue) > 0
        })
    }

    /// Claims jobs that are no suspects, until so many are claimed as are wished for. Says whether there may be more
    /// behind those that it moved.
    fn claim_others(
        &mut self,
        (server, stated): (&ServerId, &[KindName]),
        key: u64,
        wish: &ClaimRequest,
        claimed: &mut Vec<ClaimedJob>,
    ) -> bool {
        let horizon = wish.aging.map(|aging| self.now.saturating_sub(aging));
        // Jobs that were set aside, moved into lines or deleted instead of claimed.
        let mut passed = 0;
        for name in &wish.queues {
            if horizon.is_some() {
                self.jobs.know_ages(name);
            }
            let mut room = self.room_in(name).min(cut(wish.max) - claimed.len());
            let before = claimed.len();
            while room > 0 && passed < RELEASE_MAX {
                let queue = self.jobs.queues.get(name).filter(|queue| !queue.paused);
                let first = queue.and_then(|queue| queue.first(horizon, stated));
                let Some(number) = first else { break };
                if self.pass_over(number, stated) {
                    passed += 1;
                    continue;
                }
                self.hold(number, server, key);
                claimed.push(self.jobs.claimed(number));
                room -= 1;
            }
            if claimed.len() > before && self.jobs.limits.is_used_up(name) {
                // Whoever promotes has to know when there is something left again.
                self.jobs.hints.work = true;
            }
        }
        self.jobs.hints.work |= passed == RELEASE_MAX;
        passed == RELEASE_MAX
    }

    fn room_in(&self, name: &QueueName) -> usize {
        let running =
            self.jobs.queues.get(name).map(|queue| queue.states.of(StateName::Processing));
        self.jobs.limits.room_in(name, running.unwrap_or(0), self.now)
    }

    /// Takes a job out of the way of a claim that may not have it: it is deleted because its batch was
    /// cancelled, is set aside because its server has no handler of its kind, or goes into the line of a limit that is
    /// used up.
    fn pass_over(&mut self, number: Number, stated: &[KindName]) -> bool {
        if let Some(reason) = self.cancellation(number) {
            self.must(number, Event::Delete, Facts::reason(reason));
            return true;
        }
        if !kinds::has(stated, &self.jobs[number].record.kind) {
            self.delete_or_set_aside(number);
            return true;
        }
        if self.jobs.concerns_itself_alone(number) {
            return false;
        }
        let record = &self.jobs[number].record;
        let full = self.jobs.limits.full_at_claim(record, self.now);
        let passes = full.is_some();
        if passes {
            // Its turn with its other keys is the next one's.
            let mut others = self.jobs.limits.freed_by(record);
            others.retain(|key| Some(key) != full.as_ref());
            self.freed.extend(others);
            self.jobs.set_line(number, full);
        }
        passes
    }

    pub(super) fn rescue(&mut self, request: RescueRequest) -> Rescued {
        let dead = self.servers.declare_dead(self.now);
        self.jobs.hints.control |= !dead.is_empty();

        let mut rescued = Rescued { dead, ..Rescued::default() };
        for _ in 0..cut(request.max) {
            let Some((server, number, loss)) = self.servers.take_orphan() else { break };
            let job = &self.jobs[number].record;
            let error = Some(ErrorRecord::poison(&server, job.recoveries));
            let facts = Facts { server: Some(server), error, ..Facts::reason(loss.reason()) };
            let event = Event::Rescue { loss, recoveries_max: request.recoveries_max };
            match self.must(number, event, facts) {
                StateName::Failed => rescued.poisoned += 1,
                _ => rescued.returned += 1,
            }
        }
        let unhandled = self.fail_unhandled(&request);
        rescued.unhandled = unhandled as u32;
        let may_be_more = unhandled > 0 && unhandled == cut(request.max);
        rescued.more = self.servers.has_orphans() || may_be_more;
        self.settle();
        rescued
    }
}
