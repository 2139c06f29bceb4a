//! The faults in what ties jobs together and in what recurs: what is changed on the way to the reference, and
//! what is done behind its back.

use std::sync::Arc;
use std::time::Duration;

use portfire_core::{
    Action, Antecedent, Change, Claim, Conflict, Cycle, CycleRequest, Finish, Fire, FireAction,
    JobId, JobState, LimitRule, LockAnswer, LockRequest, Monitor, NewBatch, NewJob, Overlap,
    RecurringChange, RecurringChanged, RecurringFilter, StateName, Storage, StorageError,
    Timestamp, UniqueScope, Verdict, When,
};

use super::{Fault, FaultyStorage};

/// Batches, dependencies and keys on their way in.
impl FaultyStorage {
    pub(super) fn twist_batches(&self, batches: &mut [NewBatch]) {
        for batch in batches {
            if self.is(Fault::StartsOpenBatches) {
                batch.open = false;
            }
            if self.is(Fault::ForgetsNesting) {
                batch.parent = None;
            }
        }
    }

    pub(super) async fn twist_job(&self, job: &mut NewJob) -> Result<(), StorageError> {
        if self.is(Fault::LosesALink) && job.ties.after.len() > 1 {
            job.ties.after.pop();
        }
        if self.is(Fault::DelaysFromCreation)
            && let When::In(delay) = job.when
        {
            job.when = When::At(self.inner.now().await?.saturating_add(delay));
        }
        if self.is(Fault::TakesMembersAfterTheEnd)
            && let Some(batch) = job.ties.batch
            && let Some(batch) = self.inner.batch(batch).await?
            && batch.state.end().is_some()
        {
            job.ties.batch = None;
        }
        if self.is(Fault::LineIgnoresRank) && !job.ties.limits.is_empty() {
            job.priority = 0;
        }
        for limit in &mut job.ties.limits {
            if self.is(Fault::MixesPartitions) {
                limit.partition.clear();
            }
            if self.is(Fault::CodeOverridesLimits) && limit.declared.is_some() {
                let target = portfire_core::LimitTarget::Named(limit.limit.clone());
                self.inner.set_limit(target, limit.declared).await?;
            }
        }
        self.twist_key(job).await
    }

    async fn twist_key(&self, job: &mut NewJob) -> Result<(), StorageError> {
        let Some(unique) = &mut job.ties.unique else { return Ok(()) };
        if self.is(Fault::ReplacesNothing) {
            unique.conflict = Conflict::Reject;
        }
        if self.is(Fault::LosesKeyAtTheClaim) {
            let last = self.memo().keys.get(&unique.key).copied();
            let state = self.state(last).await?;
            if matches!(state, Some(StateName::Processing | StateName::Scheduled)) {
                job.ties.unique = None;
                return Ok(());
            }
        }
        Ok(())
    }

    /// The job that a leaked key is said to be held by, when a single job wants it.
    pub(super) async fn leaked_key(&self, jobs: &[NewJob]) -> Result<Option<JobId>, StorageError> {
        let [job] = jobs else { return Ok(None) };
        let Some(unique) = &job.ties.unique else { return Ok(None) };
        let last = self.memo().keys.get(&unique.key).copied();
        let leaked = match self.state(last).await? {
            Some(StateName::Deleted) => self.is(Fault::KeepsKeyAfterDeletion),
            Some(StateName::Succeeded | StateName::Failed) => {
                self.is(Fault::KeepsKeyAfterTheEnd) && unique.scope == UniqueScope::UntilFinished
            }
            _ => false,
        };
        if leaked {
            return Ok(last.filter(|last| *last != job.id));
        }
        let free = self.state(last).await?.is_none_or(StateName::is_final);
        if free {
            self.memo().keys.insert(unique.key.clone(), job.id);
        }
        Ok(None)
    }

    async fn state(&self, job: Option<JobId>) -> Result<Option<StateName>, StorageError> {
        let Some(job) = job else { return Ok(None) };
        Ok(self.inner.job(job).await?.map(|job| job.state.name()))
    }
}

/// Cycles: what is said, finished and claimed.
impl FaultyStorage {
    pub(super) async fn before_cycle(
        &self,
        request: &mut CycleRequest,
    ) -> Result<(), StorageError> {
        if self.is(Fault::ReleasesBeforeTheEnd) {
            for finish in &request.finished {
                let waits = |state| state == StateName::Awaiting;
                self.requeue_children(finish.claim.job.into(), waits).await?;
            }
        }
        if self.is(Fault::NotesUnfenced) {
            self.note_for_anyone(request).await?;
        }
        if self.is(Fault::NotesTwice) {
            for annotation in &mut request.notes {
                self.memo().pieces += 1;
                Arc::make_mut(&mut annotation.notes).piece = 1_000 + self.memo().pieces;
            }
        }
        if self.memo().leaked {
            request.claim = None;
        }
        if let Some(claim) = request.claim.as_mut().filter(|_| self.is(Fault::IgnoresAging)) {
            claim.aging = None;
        }
        Ok(())
    }

    /// Takes down what is said about jobs that run, in the name of their holders.
    async fn note_for_anyone(&self, request: &mut CycleRequest) -> Result<(), StorageError> {
        for mut annotation in std::mem::take(&mut request.notes) {
            let Some(job) = self.inner.job(annotation.claim.job).await? else { continue };
            if let JobState::Processing { server, .. } = job.state {
                annotation.claim = Claim::new(job.id, job.attempt);
                let notes = vec![annotation];
                let own = CycleRequest { notes, ..CycleRequest::new(server, u64::MAX - 1) };
                self.inner.cycle(own).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn after_finishes(
        &self,
        finished: &[Finish],
        cycle: &Cycle,
    ) -> Result<(), StorageError> {
        for (finish, verdict) in finished.iter().zip(&cycle.verdicts) {
            if *verdict != Verdict::Applied {
                continue;
            }
            let job = self.inner.job(finish.claim.job).await?;
            let Some(job) = job.filter(|job| job.state.name().is_final()) else { continue };
            if self.is(Fault::ReleasesAgain) {
                self.requeue_children(job.id.into(), StateName::is_final).await?;
            }
            if let Some(batch) = job.ties.batch {
                if self.is(Fault::CallsBackTwice) {
                    self.requeue_children(batch.into(), StateName::is_final).await?;
                }
                if self.is(Fault::NeverCallsBack) {
                    self.put_off_children(batch.into()).await?;
                }
            }
        }
        if self.is(Fault::ReleasesAllAtOnce) {
            self.inner.promote(u32::MAX).await?;
        }
        Ok(())
    }

    async fn requeue_children(
        &self,
        on: Antecedent,
        which: impl Fn(StateName) -> bool,
    ) -> Result<(), StorageError> {
        for child in self.inner.continuations(on, 500).await? {
            if which(child.state) {
                self.change_one(child.job, Action::Requeue).await?;
            }
        }
        Ok(())
    }

    async fn put_off_children(&self, on: Antecedent) -> Result<(), StorageError> {
        for child in self.inner.continuations(on, 500).await? {
            if child.state == StateName::Enqueued {
                let never = Action::Reschedule(When::At(Timestamp::MAX));
                self.change_one(child.job, never).await?;
            }
        }
        Ok(())
    }

    async fn change_one(&self, job: JobId, action: Action) -> Result<(), StorageError> {
        self.inner.change(vec![Change { job, action, expect: None }]).await?;
        Ok(())
    }
}

/// Limits and locks.
impl FaultyStorage {
    pub(super) fn twisted_rule(&self, rule: LimitRule) -> LimitRule {
        let more = u32::from(self.is(Fault::LimitOffByOne));
        LimitRule {
            concurrency: rule.concurrency.map(|jobs| jobs + more),
            rate: rule.rate.filter(|_| !self.is(Fault::ForgetsTheRate)),
        }
    }

    pub(super) async fn take_a_slot_of_each_limit(&self) -> Result<(), StorageError> {
        for limit in self.inner.limits().await? {
            let concurrency = limit.rule.concurrency.map(|jobs| jobs.saturating_sub(1).max(1));
            let rule = LimitRule { concurrency, ..limit.rule };
            self.inner.set_limit(limit.target, Some(rule)).await?;
        }
        Ok(())
    }

    pub(super) async fn twisted_lock(
        &self,
        mut request: LockRequest,
    ) -> Result<LockAnswer, StorageError> {
        match &mut request {
            LockRequest::Acquire { lease, .. } if self.is(Fault::LocksForEver) => {
                *lease = Duration::from_secs(86_400);
            }
            LockRequest::Release { name, fence } if self.is(Fault::ReleasesAnyLock) => {
                let locks = self.inner.locks().await?;
                if let Some(lock) = locks.iter().find(|lock| lock.name == *name) {
                    *fence = lock.fence;
                }
            }
            _ => {}
        }
        match self.inner.lock(request).await? {
            LockAnswer::Held { until, .. } if self.is(Fault::RepeatsFences) => {
                Ok(LockAnswer::Held { fence: 1, until })
            }
            answer => Ok(answer),
        }
    }
}

/// What recurs.
impl FaultyStorage {
    pub(super) async fn twist_plan(&self, plan: &mut Fire) -> Result<(), StorageError> {
        let Some(record) = self.inner.recurring(plan.id.clone()).await? else { return Ok(()) };
        if self.is(Fault::FiresStalePlans) {
            plan.revision = record.revision;
        }
        if let FireAction::Run { planned, next_at } = &mut plan.action {
            if self.is(Fault::MisfiresOnlyOne) {
                planned.truncate(1);
            }
            if self.is(Fault::FireMovesTwice)
                && let Some(next) = *next_at
            {
                *next_at = record.next_after(next)?;
            }
        }
        Ok(())
    }

    pub(super) async fn twisted_recurring(
        &self,
        mut change: RecurringChange,
    ) -> Result<RecurringChanged, StorageError> {
        match &mut change {
            RecurringChange::Upsert(new) => {
                if self.is(Fault::OverlapsAlways) {
                    new.overlap = Overlap::Allow;
                }
                if self.is(Fault::AppsShareNames)
                    && let Some(stored) = self.inner.recurring(new.id.clone()).await?
                {
                    new.app = stored.definition.app;
                }
                if self.is(Fault::UpsertBeginsAnew) {
                    let remove = RecurringChange::Remove(new.id.clone());
                    self.inner.change_recurring(remove).await?;
                }
            }
            RecurringChange::Trigger { id, .. } if self.is(Fault::TriggerIsAChange) => {
                let id = id.clone();
                let pause = RecurringChange::Pause { id: id.clone(), until: None };
                self.inner.change_recurring(pause).await?;
                self.inner.change_recurring(RecurringChange::Resume(id)).await?;
            }
            RecurringChange::Prune { app, keep } if self.is(Fault::PrunesTooMuch) => {
                let filter = RecurringFilter { app: Some(app.clone()), ..Default::default() };
                for record in self.inner.recurring_jobs(filter).await?.recurring {
                    if !record.definition.declared && !keep.contains(&record.definition.id) {
                        let remove = RecurringChange::Remove(record.definition.id);
                        self.inner.change_recurring(remove).await?;
                    }
                }
            }
            _ => {}
        }
        self.inner.change_recurring(change).await
    }
}
