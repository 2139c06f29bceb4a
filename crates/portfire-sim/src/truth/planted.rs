//! What mutants do to the storage in one step.

use portfire_core::JobState;

use super::*;

impl Truth {
    /// The cycle as the planted fault makes it.
    pub(super) fn mutated_cycle(&self, mut request: CycleRequest) -> Result<Cycle, StorageError> {
        let original = request.clone();
        match self.mutant {
            None => return now(self.memory.cycle(request)),
            Some(Mutant::ClaimTwiceOnRepeat) if request.repeated => {
                request.repeated = false;
                request.key ^= 1 << 63;
            }
            Some(Mutant::ReleaseLosesJob) => {
                for finish in &mut request.finished {
                    if finish.outcome == Outcome::Released {
                        let reason = "released".to_owned();
                        finish.outcome = Outcome::Discarded { reason, error: None };
                    }
                }
            }
            Some(Mutant::PausedQueueGives) => self.pause_all(false),
            Some(Mutant::LimitWithoutOwn) => self.lift_limits(true),
            _ => {}
        }
        let mut answer = now(self.memory.cycle(request));
        if self.is(Mutant::PausedQueueGives) {
            self.pause_all(true);
        }
        if self.is(Mutant::LimitWithoutOwn) {
            self.lift_limits(false);
        }
        if let Ok(cycle) = &mut answer {
            if self.is(Mutant::ReleaseAgain) {
                self.release_again(&original, cycle);
            }
            if self.is(Mutant::FailureEndsAll) {
                self.end_all(&original);
            }
            self.force_finishes(&original, cycle);
            self.count_fenced(cycle);
            self.count_failures_apart(cycle);
        }
        answer
    }

    /// Has each server that is about to be declared dead hold one job alone.
    pub(super) fn blame_one_of_many(&self) {
        let at = now(self.memory.now()).unwrap_or(Timestamp::MIN);
        let servers = now(self.memory.servers()).unwrap_or_default();
        for server in servers.iter().filter(|server| !server.dead && server.lease_until <= at) {
            let records = self.records().into_values();
            let held = records.filter(|job| {
                matches!(&job.state, JobState::Processing { server: by, .. } if *by == server.id)
            });
            let finished = held.skip(1).map(|job| Finish {
                claim: Claim::new(job.id, job.attempt),
                outcome: Outcome::Released,
                duration: Duration::ZERO,
            });
            let finished = finished.collect();
            let request = CycleRequest::new(server.id.clone(), u64::MAX);
            let _ = now(self.memory.cycle(CycleRequest { finished, ..request }));
        }
    }

    fn pause_all(&self, paused: bool) {
        for queue in &self.ledger().paused {
            let _ = now(self.memory.set_queue_paused(queue.clone(), paused));
        }
    }

    fn count_fenced(&self, cycle: &Cycle) {
        if self.is(Mutant::FencedFinishCounted) {
            let fenced = cycle.verdicts.iter().filter(|verdict| **verdict == Verdict::Fenced);
            lock(&self.planted).fenced += fenced.count() as u64;
        }
    }

    fn count_failures_apart(&self, cycle: &mut Cycle) {
        if self.is(Mutant::RetryCountedApart) {
            let planted = lock(&self.planted);
            for job in &mut cycle.claimed {
                let counted = planted.failures.get(&job.claim.job).copied();
                job.failures = counted.unwrap_or(job.failures).max(job.failures);
            }
        }
    }

    /// Applies what was rightly fenced, as far as the planted fault does.
    fn force_finishes(&self, request: &CycleRequest, cycle: &mut Cycle) {
        for (finish, verdict) in request.finished.iter().zip(&mut cycle.verdicts) {
            if *verdict != Verdict::Fenced {
                continue;
            }
            let Some(record) = self.record(finish.claim.job) else { continue };
            let forced = match (self.mutant, &record.state) {
                (Some(Mutant::FinishIgnoresAttempt), JobState::Processing { .. }) => true,
                (Some(Mutant::FinishIgnoresState), _) => true,
                (Some(Mutant::DeleteDoesNotFence), JobState::Deleted { .. }) => {
                    record.attempt == finish.claim.attempt
                }
                _ => false,
            };
            if forced && self.force(finish, &record) {
                *verdict = Verdict::Applied;
            }
        }
    }

    /// Finishes a job in the name of whoever holds it, or of a ghost that claims it for this purpose.
    fn force(&self, finish: &Finish, record: &JobRecord) -> bool {
        let (holder, attempt) = match &record.state {
            JobState::Processing { server, .. } => (server.clone(), record.attempt),
            JobState::Enqueued { .. } => (self.haunt(record), record.attempt + 1),
            _ => {
                let requeue = Change { job: record.id, action: Action::Requeue, expect: None };
                let _ = now(self.memory.change(vec![requeue]));
                (self.haunt(record), record.attempt + 1)
            }
        };
        let claim = Claim::new(record.id, attempt);
        let finish = Finish { claim, ..finish.clone() };
        let request =
            CycleRequest { finished: vec![finish], ..CycleRequest::new(holder, u64::MAX) };
        let forced = now(self.memory.cycle(request));
        forced.is_ok_and(|cycle| cycle.verdicts == [Verdict::Applied])
    }

    /// A server that claims this enqueued job, and gives back what it took besides.
    fn haunt(&self, record: &JobRecord) -> ServerId {
        let number = {
            let mut planted = lock(&self.planted);
            planted.ghosts += 1;
            planted.ghosts
        };
        let id = ServerId::new(format!("ghost-{number}"));
        let queues = vec![record.queue.clone()];
        let lease = Duration::from_secs(3600);
        let ghost = NewServer {
            kinds: Vec::new(),
            id: id.clone(),
            name: "ghost".into(),
            queues: queues.clone(),
            workers: 1,
            lease,
        };
        let _ = now(self.memory.announce(ghost));
        let claim = Some(ClaimRequest { queues, max: 10_000, aging: None });
        let request = CycleRequest { claim, ..CycleRequest::new(id.clone(), 1) };
        let claimed = now(self.memory.cycle(request)).map(|cycle| cycle.claimed);
        let others =
            claimed.unwrap_or_default().into_iter().filter(|job| job.claim.job != record.id);
        let released = |job: portfire_core::ClaimedJob| Finish {
            claim: job.claim,
            outcome: Outcome::Released,
            duration: Duration::ZERO,
        };
        let finished = others.map(released).collect();
        let _ =
            now(self.memory.cycle(CycleRequest { finished, ..CycleRequest::new(id.clone(), 2) }));
        id
    }

    /// A create as the planted fault makes it: an id that is taken gets another.
    pub(super) fn renamed(&self, mut jobs: Vec<NewJob>) -> Vec<NewJob> {
        for job in &mut jobs {
            if self.record(job.id).is_some() {
                let mut bytes = *job.id.as_bytes();
                bytes[15] ^= 0x5a;
                job.id = JobId::from_bytes(bytes);
            }
        }
        jobs
    }

    /// Does something with the storage's clock put ahead.
    pub(crate) fn ahead<T>(&self, by: Duration, act: impl FnOnce() -> T) -> T {
        self.clock.ahead.store(by.as_micros() as i64, Ordering::Relaxed);
        let done = act();
        self.clock.ahead.store(0, Ordering::Relaxed);
        done
    }

    /// The living servers whose leases have lapsed, or will have at a time that lies ahead.
    pub(crate) fn lapsing(&self, ahead: Duration) -> Vec<ServerId> {
        let then = self.now().saturating_add(ahead);
        let ledger = self.ledger();
        let lapsing =
            ledger.servers.iter().filter(|(_, known)| !known.dead && known.lease_until <= then);
        lapsing.map(|(id, _)| id.clone()).collect()
    }

    /// Declares servers dead that had lapsed when somebody looked, whatever happened since.
    pub(crate) fn rescue_these(
        &self,
        servers: &[ServerId],
        request: RescueRequest,
    ) -> Result<Rescued, StorageError> {
        let now = self.now();
        let ends = {
            let ledger = self.ledger();
            let alive = |id: &&ServerId| ledger.is_alive(id);
            let ends = servers.iter().filter(alive).filter_map(|id| ledger.servers.get(id));
            ends.map(|known| known.lease_until).max()
        };
        let ahead = ends.map_or(Duration::ZERO, |end| end.since(now));
        self.ahead(ahead, || self.rescue(request))
    }

    /// Whether a scheduled job will be due at a time that lies ahead, and is not yet.
    pub(crate) fn is_due_within(&self, ahead: Duration) -> bool {
        let now = self.now();
        let then = now.saturating_add(ahead);
        self.records().values().any(|record| match record.state {
            JobState::Scheduled { run_at, .. } => run_at > now && run_at <= then,
            _ => false,
        })
    }

    /// Jobs that a cleaner would remove now.
    pub(crate) fn expired(&self) -> Vec<JobId> {
        let now = self.now();
        let expired = |record: &JobRecord| match record.state {
            JobState::Succeeded { expires_at, .. }
            | JobState::Failed { expires_at, .. }
            | JobState::Deleted { expires_at, .. } => expires_at.is_some_and(|at| at <= now),
            _ => false,
        };
        let records = self.records();
        records.values().filter(|record| expired(record)).map(|record| record.id).collect()
    }

    /// Removes jobs whatever they are now.
    pub(crate) fn remove(&self, jobs: &[JobId]) -> Result<Cleaned, StorageError> {
        let expired = self.expired();
        let survivors: Vec<JobId> =
            jobs.iter().copied().filter(|job| !expired.contains(job)).collect();
        let cleaned = self.clean(1_000)?;
        let stored: Vec<JobId> =
            survivors.into_iter().filter(|&job| self.record(job).is_some()).collect();
        lock(&self.planted).removed.extend(&stored);
        self.inspect();
        Ok(cleaned)
    }

    /// Stores jobs without their place in a queue; those that are there already are left alone.
    pub(crate) fn draft(&self, jobs: Vec<NewJob>) -> Vec<Created> {
        let mut created = Vec::new();
        for job in jobs {
            let id = job.id;
            let stored = self.record(id).is_some();
            let mut planted = lock(&self.planted);
            let existing = stored || planted.drafts.contains_key(&id);
            if !existing {
                planted.drafts.insert(id, job);
            }
            created.push(Created { id, existing });
        }
        created
    }

    /// Puts drafts into their queues.
    pub(crate) fn publish(&self, created: &[Created]) -> Result<(), StorageError> {
        let fresh = created.iter().filter(|created| !created.existing);
        let jobs: Vec<NewJob> =
            fresh.filter_map(|created| lock(&self.planted).drafts.remove(&created.id)).collect();
        self.create(jobs).map(drop)
    }

    /// Writes the counts of failures of what is to be retried, before the states.
    pub(crate) fn count_ahead(&self, request: &CycleRequest) {
        for finish in &request.finished {
            let fails = matches!(finish.outcome, Outcome::Retry { .. } | Outcome::Failed { .. });
            let job = finish.claim.job;
            if let Some(record) = self.record(job).filter(|_| fails) {
                let mut planted = lock(&self.planted);
                let counted = planted.failures.entry(job).or_insert(record.failures);
                *counted += 1;
            }
        }
    }
}
