//! What mutants do to ties.
//!
//! The storage under test does it right, so a mutant stores a job with other ties than it was asked
//! for and keeps the right ones for whoever looks: to the ledger the job is what was asked for, and the
//! storage treats it as the planted fault would.

use portfire_core::{Antecedent, Continuation, Dependency, LimitRule, LimitTarget, Ties};

use super::*;

/// A limit that lets everybody in.
const NO_BOUND: LimitRule = LimitRule::concurrency(1_000);

impl Truth {
    /// The jobs of a create as the planted fault stores them.
    pub(super) fn mistied(&self, mut jobs: Vec<NewJob>) -> Vec<NewJob> {
        for job in &mut jobs {
            if self.record(job.id).is_some() {
                continue;
            }
            match self.mutant {
                Some(Mutant::BatchAddAfterDone) => {
                    let ended = |&batch: &BatchId| {
                        let record = now(self.memory.batch(batch)).ok().flatten();
                        record.is_some_and(|record| record.state.end().is_some())
                    };
                    if job.ties.batch.as_ref().is_some_and(ended) {
                        self.disguise(job, |ties| ties.batch = None);
                    }
                }
                Some(Mutant::UniqueFreedEarly) => {
                    let key = job.ties.unique.as_ref().map(|unique| unique.key.clone());
                    if key.is_some_and(|key| self.ledger().is_held_by_running(&key)) {
                        self.disguise(job, |ties| ties.unique = None);
                    }
                }
                Some(Mutant::BatchReadThenFire) => {
                    let of_batch = |dependency: &Dependency| {
                        matches!(dependency.on, Antecedent::Batch(_))
                            && self.end_of(dependency.on).is_none()
                    };
                    if job.ties.batch.is_none() && job.ties.after.iter().any(of_batch) {
                        let after = job.ties.after.clone();
                        lock(&self.planted).callbacks.push((job.id, after));
                        self.strand(job);
                    }
                }
                _ => {}
            }
        }
        jobs
    }

    /// What these jobs wait for and has not ended.
    pub(crate) fn open_antecedents(&self, jobs: &[NewJob]) -> BTreeSet<Antecedent> {
        let named = jobs.iter().flat_map(|job| &job.ties.after).map(|dependency| dependency.on);
        named.filter(|&on| self.is_stored(on) && self.end_of(on).is_none()).collect()
    }

    /// Stores jobs as somebody does who has read before what has not ended, and does not look again.
    pub(crate) fn create_linked(
        &self,
        batches: Vec<NewBatch>,
        mut jobs: Vec<NewJob>,
        open: &BTreeSet<Antecedent>,
    ) -> Result<Vec<Created>, StorageError> {
        for job in &mut jobs {
            let ended = |dependency: &Dependency| {
                open.contains(&dependency.on) && self.end_of(dependency.on).is_some()
            };
            if self.record(job.id).is_none() && job.ties.after.iter().any(ended) {
                self.strand(job);
            }
        }
        self.create_batches(batches, jobs)
    }

    /// Fires the callbacks of batches that have ended, as a server does that looks after its finish.
    pub(crate) fn fire_callbacks(&self) {
        let all = std::mem::take(&mut lock(&self.planted).callbacks);
        let (fires, waits): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, after)| {
            let met = |dependency: &Dependency| {
                self.end_of(dependency.on).is_some_and(|end| dependency.after.is_met_by(end))
            };
            after.iter().all(met)
        });
        lock(&self.planted).callbacks.extend(waits);
        let requeue = |(job, _)| Change { job, action: Action::Requeue, expect: None };
        let changes: Vec<Change> = fires.into_iter().map(requeue).collect();
        if !changes.is_empty() {
            let _ = self.change(changes);
        }
    }

    /// Lifts the limits of which this claim's own jobs would fill the rest.
    pub(super) fn lift_limits(&self, lifted: bool) {
        for limit in now(self.memory.limits()).unwrap_or_default() {
            let LimitTarget::Named(name) = &limit.target else { continue };
            let keys = now(self.memory.limit_keys(name.clone())).unwrap_or_default();
            let most = u64::from(limit.rule.concurrency.unwrap_or(0));
            if lifted && keys.iter().all(|key| key.running < most) && !limit.set {
                let _ = now(self.memory.set_limit(limit.target, Some(NO_BOUND)));
            } else if !lifted && limit.set {
                let _ = now(self.memory.set_limit(limit.target, None));
            }
        }
    }

    /// Releases those again that waited for a job which has ended again.
    pub(super) fn release_again(&self, request: &CycleRequest, cycle: &Cycle) {
        for (finish, verdict) in request.finished.iter().zip(&cycle.verdicts) {
            let job = finish.claim.job;
            let Some(record) = self.record(job) else { continue };
            let history = self.history(job);
            let again = history.iter().any(|line| line.cause == Cause::Requeued);
            if *verdict != Verdict::Applied || !again || !record.state.name().is_final() {
                continue;
            }
            let children = now(self.memory.continuations(job.into(), 10)).unwrap_or_default();
            for child in children.iter().filter(|child| child.state == StateName::Succeeded) {
                let change = Change { job: child.job, action: Action::Requeue, expect: None };
                let _ = now(self.memory.change(vec![change]));
            }
        }
    }

    /// Deletes those who wait for the success of a job that has failed.
    pub(super) fn end_all(&self, request: &CycleRequest) {
        for job in request.finished.iter().map(|finish| finish.claim.job) {
            for child in self.open_children(job) {
                let reason = Dependency::on(job).unmet_reason(StateName::Failed);
                let change = Change { job: child, action: Action::Delete { reason }, expect: None };
                let _ = now(self.memory.change(vec![change]));
            }
        }
    }

    /// Hides failed jobs whose retention has ended and for which others wait, as if they were removed, and nobody told. Says
    /// whether there are any.
    pub(super) fn forget_parents(&self) -> bool {
        let expired = self.expired();
        let waited_for = expired.into_iter().filter(|job| !self.open_children(*job).is_empty());
        let waited_for: Vec<JobId> = waited_for.collect();
        lock(&self.planted).removed.extend(&waited_for);
        !waited_for.is_empty()
    }

    /// The jobs that wait for the success of a job that has failed.
    fn open_children(&self, job: JobId) -> Vec<JobId> {
        if self.end_of(job.into()) != Some(StateName::Failed) {
            return Vec::new();
        }
        let children = now(self.memory.continuations(job.into(), 10)).unwrap_or_default();
        let waits = |child: &Continuation| {
            child.state == StateName::Awaiting && child.after.is_open_after(StateName::Failed)
        };
        children.into_iter().filter(waits).map(|child| child.job).collect()
    }

    /// The ties that were asked for, of a job that was stored with others.
    pub(super) fn undisguised(&self, mut record: JobRecord) -> JobRecord {
        if self.mutant.is_some()
            && let Some(ties) = lock(&self.planted).disguised.get(&record.id)
        {
            record.ties = ties.clone();
        }
        record
    }

    fn disguise(&self, job: &mut NewJob, change: impl FnOnce(&mut Ties)) {
        lock(&self.planted).disguised.entry(job.id).or_insert_with(|| job.ties.clone());
        change(&mut job.ties);
    }

    /// Lets a job wait for what never ends.
    fn strand(&self, job: &mut NewJob) {
        let never = BatchId::from_bytes([0xff; 16]);
        let mut batch = NewBatch::new(never);
        batch.open = true;
        let _ = now(self.memory.create_batches(vec![batch], Vec::new()));
        self.disguise(job, |ties| ties.after = vec![Dependency::on(never)]);
    }

    fn is_stored(&self, on: Antecedent) -> bool {
        match on {
            Antecedent::Job(job) => self.record(job).is_some(),
            Antecedent::Batch(batch) => now(self.memory.batch(batch)).is_ok_and(|it| it.is_some()),
        }
    }

    fn end_of(&self, on: Antecedent) -> Option<StateName> {
        match on {
            Antecedent::Job(job) => {
                self.record(job).map(|record| record.state.name()).filter(|state| state.is_final())
            }
            Antecedent::Batch(batch) => now(self.memory.batch(batch)).ok()??.state.end(),
        }
    }
}
