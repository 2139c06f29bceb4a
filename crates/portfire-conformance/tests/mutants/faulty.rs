//! The reference storage with one fault planted over it.

mod fault;
mod planted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portfire_core::{
    Action, Answer, BatchChange, BatchChanged, BatchId, BatchRecord, BatchState, Bucket, Change,
    Changed, Claim, Cleaned, Clock, Counts, Created, Cursor, Cycle, CycleRequest, Finish, Fire,
    Fired, HistoryEntry, JobFilter, JobId, JobPage, JobRecord, JobState, Json, Layer, LimitRule,
    LimitTarget, LockAnswer, LockRequest, Lost, ManualClock, MemoryStorage, Monitor, NewBatch,
    NewJob, NewServer, Outcome, Promoted, QueueRecord, RecurringChange, RecurringChanged,
    RescueRequest, Rescued, ServerId, StateName, StatisticsRecord, Storage, StorageError,
    Timestamp, Verdict, WakeupHub, Wakeups,
};

pub(crate) use fault::Fault;

/// A storage that is wrong in one place.
#[derive(Debug)]
pub(crate) struct FaultyStorage {
    inner: MemoryStorage,
    fault: Fault,
    clock: Arc<ManualClock>,
    silent: WakeupHub,
    memo: Mutex<Memo>,
}

/// What some faults need to remember.
#[derive(Debug, Default)]
struct Memo {
    /// Jobs that are gone for readers.
    hidden: BTreeSet<JobId>,
    /// Finishes that were fenced.
    fenced: u64,
    /// Ids made for repeated creates.
    copies: u8,
    /// Which job took a unique key last.
    keys: BTreeMap<String, JobId>,
    /// Batches whose cancellation was put off.
    cancelled: Vec<(BatchId, BatchChange)>,
    /// How often notes were taken down.
    pieces: u32,
    /// Whether a slot was leaked.
    leaked: bool,
}

impl FaultyStorage {
    pub(crate) fn new(
        inner: MemoryStorage,
        fault: Fault,
        clock: Arc<ManualClock>,
    ) -> FaultyStorage {
        FaultyStorage { inner, fault, clock, silent: WakeupHub::default(), memo: Mutex::default() }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn memo(&self) -> MutexGuard<'_, Memo> {
        self.memo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn everything(&self, filter: &JobFilter) -> Result<Vec<JobRecord>, StorageError> {
        let mut filter = JobFilter { after: None, max: 500, ..filter.clone() };
        let mut found = Vec::new();
        loop {
            let page = self.inner.jobs(filter.clone()).await?;
            found.extend(page.jobs);
            let Some(next) = page.next else { return Ok(found) };
            filter.after = Some(next);
        }
    }

    fn seen(&self, mut job: JobRecord) -> JobRecord {
        if self.is(Fault::RescueCountsNoRecovery) {
            job.recoveries = 0;
        }
        job
    }

    async fn twisted_finish(&self, finish: &mut Finish) -> Result<(), StorageError> {
        if self.is(Fault::FinishIgnoresAttempt)
            && let Some(job) = self.inner.job(finish.claim.job).await?
        {
            finish.claim.attempt = job.attempt;
        }
        let outcome = &mut finish.outcome;
        match outcome {
            Outcome::Retry { delay, .. } if self.is(Fault::RetryCountsNoFailure) => {
                *outcome = Outcome::Snoozed { delay: *delay };
            }
            Outcome::Released if self.is(Fault::ReleaseLosesPlace) => {
                *outcome = Outcome::Snoozed { delay: Duration::ZERO };
            }
            _ => {}
        }
        Ok(())
    }

    /// Finishes as whichever server holds the job.
    async fn finish_for_anyone(&self, request: &CycleRequest) -> Result<(), StorageError> {
        for finish in &request.finished {
            let Some(job) = self.inner.job(finish.claim.job).await? else { continue };
            if let JobState::Processing { server, .. } = job.state {
                let finished = vec![finish.clone()];
                let own = CycleRequest { finished, ..CycleRequest::new(server, u64::MAX) };
                self.inner.cycle(own).await?;
            }
        }
        Ok(())
    }

    async fn pause_all(&self, queues: &[QueueRecord], paused: bool) -> Result<(), StorageError> {
        for queue in queues.iter().filter(|queue| queue.paused) {
            self.inner.set_queue_paused(queue.name.clone(), paused).await?;
        }
        Ok(())
    }

    async fn requeue_soon_due(&self) -> Result<(), StorageError> {
        let soon = self.inner.now().await?.saturating_add(Duration::from_secs(30));
        for job in self.everything(&JobFilter::state(StateName::Scheduled)).await? {
            let due = matches!(job.state, JobState::Scheduled { run_at, .. } if run_at <= soon);
            if due {
                let change = Change { job: job.id, action: Action::Requeue, expect: None };
                self.inner.change(vec![change]).await?;
            }
        }
        Ok(())
    }

    async fn hide_once_expired(&self) -> Result<u32, StorageError> {
        let now = self.inner.now().await?;
        let mut gone = 0;
        for job in self.everything(&JobFilter::state(StateName::Enqueued)).await? {
            let history = self.inner.history(job.id).await?;
            let expired = |entry: &HistoryEntry| {
                entry.state.is_final() && now.since(entry.at) > Duration::from_secs(86_400)
            };
            gone += u32::from(history.iter().any(expired) && self.memo().hidden.insert(job.id));
        }
        Ok(gone)
    }

    async fn page_by_number(&self, filter: &JobFilter) -> Result<JobPage, StorageError> {
        let jobs = self.everything(filter).await?;
        let start = filter.after.as_ref().map_or(0, |cursor| cursor.0.parse().unwrap_or(0));
        let end = start + filter.page_size();
        let next = (end < jobs.len()).then(|| Cursor(end.to_string()));
        Ok(JobPage { jobs: jobs.into_iter().take(end).skip(start).collect(), next })
    }
}

impl Layer for FaultyStorage {
    fn inner(&self) -> &dyn Storage {
        &self.inner
    }

    fn create_batches(
        &self,
        mut batches: Vec<NewBatch>,
        mut jobs: Vec<NewJob>,
    ) -> Answer<'_, Vec<Created>> {
        Box::pin(async move {
            if self.is(Fault::CreateIsNotIdempotent) {
                for job in &mut jobs {
                    if self.inner.job(job.id).await?.is_some() {
                        self.memo().copies += 1;
                        job.id = JobId::from_bytes([self.memo().copies; 16]);
                    }
                }
            }
            self.twist_batches(&mut batches);
            for job in &mut jobs {
                self.twist_job(job).await?;
            }
            if let Some(holder) = self.leaked_key(&jobs).await? {
                return Ok(vec![Created { id: holder, existing: true }]);
            }
            let created = self.inner.create_batches(batches, jobs.clone()).await;
            if created.is_err() && self.is(Fault::CreateIsHalf) {
                for job in jobs {
                    // What is refused alone is left out.
                    let _ = self.inner.create(vec![job]).await;
                }
            }
            created
        })
    }

    fn change_batch(&self, batch: BatchId, change: BatchChange) -> Answer<'_, BatchChanged> {
        if self.is(Fault::CancelsLate) && matches!(change, BatchChange::Cancel { .. }) {
            self.memo().cancelled.push((batch, change));
            let answer = Ok(BatchChanged::Applied(BatchState::Cancelling));
            return Box::pin(std::future::ready(answer));
        }
        self.inner.change_batch(batch, change)
    }

    fn change_recurring(&self, change: RecurringChange) -> Answer<'_, RecurringChanged> {
        Box::pin(self.twisted_recurring(change))
    }

    fn fire(&self, mut plans: Vec<Fire>) -> Answer<'_, Vec<Fired>> {
        Box::pin(async move {
            for plan in &mut plans {
                self.twist_plan(plan).await?;
            }
            self.inner.fire(plans).await
        })
    }

    fn set_limit(&self, target: LimitTarget, rule: Option<LimitRule>) -> Answer<'_, ()> {
        self.inner.set_limit(target, rule.map(|rule| self.twisted_rule(rule)))
    }

    fn lock(&self, request: LockRequest) -> Answer<'_, LockAnswer> {
        Box::pin(self.twisted_lock(request))
    }

    fn announce(&self, mut server: NewServer) -> Answer<'_, ()> {
        if self.is(Fault::KindsIgnored) {
            server.kinds.clear();
        }
        self.inner.announce(server)
    }

    fn heartbeat(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        Box::pin(async move {
            match self.inner.heartbeat(server, held).await {
                Err(StorageError::ServerGone { .. }) if self.is(Fault::HeartbeatRevivesDead) => {
                    Ok(Vec::new())
                }
                answer => answer,
            }
        })
    }

    fn verify(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        if self.is(Fault::VerifyRenews) {
            return self.inner.heartbeat(server, held);
        }
        self.inner.verify(server, held)
    }

    fn cycle(&self, mut request: CycleRequest) -> Answer<'_, Cycle> {
        Box::pin(async move {
            for finish in &mut request.finished {
                self.twisted_finish(finish).await?;
            }
            self.before_cycle(&mut request).await?;
            let finished = request.finished.clone();
            if self.is(Fault::FinishIgnoresServer) {
                self.finish_for_anyone(&request).await?;
            }
            if self.is(Fault::RepeatClaimsAnew) && request.repeated {
                request.repeated = false;
                request.key += 1_000_000;
            }
            if let Some(claim) = &mut request.claim {
                claim.max = claim.max.saturating_add(u32::from(self.is(Fault::ClaimsTooMany)));
                if self.is(Fault::ClaimSortsQueues) {
                    claim.queues.sort();
                }
            }
            let queues = self.inner.queues().await?;
            if self.is(Fault::ClaimIgnoresPause) {
                self.pause_all(&queues, false).await?;
            }
            let answer = self.inner.cycle(request).await;
            if self.is(Fault::ClaimIgnoresPause) {
                self.pause_all(&queues, true).await?;
            }
            if self.is(Fault::ReleaseLosesPlace) {
                self.inner.promote(u32::MAX).await?;
            }
            let mut cycle = answer?;
            self.after_finishes(&finished, &cycle).await?;
            for verdict in &mut cycle.verdicts {
                match verdict {
                    Verdict::Already if self.is(Fault::RepeatedFinishIsFenced) => {
                        *verdict = Verdict::Fenced;
                    }
                    Verdict::Fenced => self.memo().fenced += 1,
                    _ => {}
                }
            }
            for job in &mut cycle.claimed {
                if self.is(Fault::RescueCountsNoRecovery) {
                    job.recoveries = 0;
                }
                if self.is(Fault::PassesNothing) {
                    job.parents.clear();
                }
                if self.is(Fault::ClaimRewritesArgs)
                    && let Ok(value) = job.args.decode::<serde_json::Value>()
                {
                    job.args = Json::encode(&value)?;
                }
            }
            Ok(cycle)
        })
    }

    fn rescue(&self, mut request: RescueRequest) -> Answer<'_, Rescued> {
        Box::pin(async move {
            if self.is(Fault::RescueNeverPoisons) || self.is(Fault::RescueCountsNoRecovery) {
                request.recoveries_max = u32::MAX;
            }
            if self.is(Fault::UnhandledWait) {
                request.unknown_kind_grace = Duration::MAX;
            }
            if self.is(Fault::RescueKillsLive) {
                for server in self.inner.servers().await? {
                    self.inner.retire(server.id).await?;
                }
            }
            let rescued = self.inner.rescue(request).await?;
            if self.is(Fault::LeaksSlotAtRescue) && rescued.returned > 0 {
                self.take_a_slot_of_each_limit().await?;
            }
            Ok(rescued)
        })
    }

    fn promote(&self, max: u32) -> Answer<'_, Promoted> {
        Box::pin(async move {
            if self.is(Fault::PromotesEarly) {
                self.requeue_soon_due().await?;
            }
            let cancelled = std::mem::take(&mut self.memo().cancelled);
            for (batch, change) in cancelled {
                let _ = self.inner.change_batch(batch, change).await?;
            }
            let max = if self.is(Fault::PromoteIgnoresMax) { u32::MAX } else { max };
            self.inner.promote(max).await
        })
    }

    fn change(&self, mut changes: Vec<Change>) -> Answer<'_, Vec<Changed>> {
        Box::pin(async move {
            let mut answers = Vec::new();
            for change in &mut changes {
                if self.is(Fault::ChangeIgnoresExpectation) {
                    change.expect = None;
                }
                let job = self.inner.job(change.job).await?;
                let runs = job.is_some_and(|job| job.state.name() == StateName::Processing);
                let deletes = matches!(change.action, Action::Delete { .. });
                if runs && deletes && self.is(Fault::DeleteSparesRunning) {
                    answers.push(Changed::Unchanged);
                    continue;
                }
                self.memo().leaked |= runs && deletes && self.is(Fault::LeaksSlotAtDeletion);
                answers.extend(self.inner.change(vec![change.clone()]).await?);
            }
            Ok(answers)
        })
    }

    fn clean(&self, max: u32) -> Answer<'_, Cleaned> {
        Box::pin(async move {
            let max = if self.is(Fault::CleanIgnoresMax) { u32::MAX } else { max };
            let mut cleaned = self.inner.clean(max).await?;
            if self.is(Fault::CleanIgnoresRequeue) {
                cleaned.jobs += self.hide_once_expired().await?;
            }
            Ok(cleaned)
        })
    }

    fn wakeups(&self) -> Wakeups {
        if self.is(Fault::WakesNobody) {
            return self.silent.subscribe();
        }
        self.inner.wakeups()
    }

    fn now(&self) -> Answer<'_, Timestamp> {
        if self.is(Fault::TimeGoesBack) {
            return Box::pin(std::future::ready(Ok(self.clock.now())));
        }
        self.inner.now()
    }

    fn counts(&self) -> Answer<'_, Counts> {
        Box::pin(async move {
            let mut counts = self.inner.counts().await?;
            if self.is(Fault::CountersMissDeletions) {
                let deleted = counts.states.insert(StateName::Deleted, 0).unwrap_or(0);
                *counts.states.entry(StateName::Enqueued).or_default() += deleted;
                counts.deleted_total = 0;
            }
            if self.is(Fault::FencedFinishCounts) {
                counts.succeeded_total += self.memo().fenced;
            }
            Ok(counts)
        })
    }

    fn job(&self, id: JobId) -> Answer<'_, Option<JobRecord>> {
        Box::pin(async move {
            let job = self.inner.job(id).await?;
            Ok(job.filter(|job| !self.memo().hidden.contains(&job.id)).map(|job| self.seen(job)))
        })
    }

    fn history(&self, id: JobId) -> Answer<'_, Vec<HistoryEntry>> {
        Box::pin(async move {
            let mut history = self.inner.history(id).await?;
            if self.is(Fault::HistoryHasAGap) && history.len() > 2 {
                history.remove(1);
            }
            Ok(history)
        })
    }

    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage> {
        Box::pin(async move {
            let mut page = if self.is(Fault::PagesGoByNumber) {
                self.page_by_number(&filter).await?
            } else {
                self.inner.jobs(filter).await?
            };
            page.jobs.retain(|job| !self.memo().hidden.contains(&job.id));
            page.jobs = page.jobs.into_iter().map(|job| self.seen(job)).collect();
            Ok(page)
        })
    }

    fn batch(&self, id: BatchId) -> Answer<'_, Option<BatchRecord>> {
        Box::pin(async move {
            let mut found = self.inner.batch(id).await?;
            if let Some(batch) = found.as_mut().filter(|_| self.is(Fault::CountsMembersTwice)) {
                batch.members.succeeded *= 2;
            }
            Ok(found)
        })
    }

    fn statistics(&self, bucket: Bucket, since: Timestamp) -> Answer<'_, Vec<StatisticsRecord>> {
        Box::pin(async move {
            let mut records = self.inner.statistics(bucket, since).await?;
            if self.is(Fault::StatisticsMissFailures) {
                records.iter_mut().for_each(|record| record.failed = 0);
            }
            Ok(records)
        })
    }
}
