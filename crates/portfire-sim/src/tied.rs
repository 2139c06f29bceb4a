//! What clients do with ties: continuations, chains, diamonds, batches, unique keys and limits.

use std::sync::Arc;
use std::time::Duration;

use portfire_core::{
    Action, After, Antecedent, BatchChange, BatchId, BatchState, Change, Client, Conflict,
    Dependency, InvalidJob, JobId, LimitName, LimitRule, LimitUse, Misfire, NewBatch, NewJob,
    NewRecurring, Overlap, QueueName, Rate, RecurringChange, RecurringChanged, RecurringId,
    Schedule, StateName, Storage, StorageError, UniqueKey, UniqueScope, When, Window,
};

use crate::executor::DomainId;
use crate::handlers::Kind;
use crate::invariants::{Invariant, require};
use crate::marks::Mark;
use crate::rng::Rng;
use crate::world::World;

const MILLI: Duration = Duration::from_millis(1);

/// How often an operator requeues a job that fails.
const REPAIRS_MAX: u32 = 2;

/// What a client makes, or does, in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tied {
    /// Jobs after one that is there already, whatever it is doing, or after a batch.
    Continue,
    /// Jobs one after another.
    Chain,
    /// One, then two beside each other, then one after both.
    Diamond,
    /// A batch with callbacks, perhaps with another in it, perhaps open until all members are stored.
    Batch,
    /// A failed job is requeued whose success others wait for, or for that of its batch.
    Repair,
    /// A batch is cancelled.
    Cancel,
    /// Jobs that may not be there twice.
    Unique,
    /// Jobs of which only so many run at a time.
    Limited,
    /// One more member for a batch that is there, wherever it stands.
    Join,
    /// A recurring job is stored, paused, resumed, triggered or removed.
    Recur,
}

impl Tied {
    /// What a client does next.
    pub(crate) fn draw(rng: &mut Rng) -> Tied {
        *rng.pick(&[
            Tied::Continue,
            Tied::Continue,
            Tied::Chain,
            Tied::Diamond,
            Tied::Batch,
            Tied::Batch,
            Tied::Repair,
            Tied::Repair,
            Tied::Cancel,
            Tied::Unique,
            Tied::Unique,
            Tied::Limited,
            Tied::Join,
        ])
    }
}

/// A client at work.
pub(crate) struct Binder<'a> {
    pub(crate) world: &'a Arc<World>,
    pub(crate) domain: DomainId,
    pub(crate) client: &'a Client,
    pub(crate) storage: &'a Arc<dyn Storage>,
    pub(crate) rng: &'a mut Rng,
}

impl Binder<'_> {
    /// Does it; answers the jobs that are there then.
    pub(crate) async fn make(&mut self, tied: Tied) -> Vec<JobId> {
        match tied {
            Tied::Continue => {
                let Some(parent) = self.some_antecedent() else { return Vec::new() };
                let count = self.rng.between(1, 2);
                let jobs = (0..count).map(|_| self.after(&[parent])).collect();
                self.store(Vec::new(), jobs).await
            }
            Tied::Chain => {
                let mut jobs = vec![self.job()];
                for _ in 0..self.rng.between(1, 3) {
                    let last = jobs[jobs.len() - 1].id;
                    jobs.push(self.after(&[last.into()]));
                }
                self.store(Vec::new(), jobs).await
            }
            Tied::Diamond => {
                let top = self.job();
                let (left, right) = (self.after(&[top.id.into()]), self.after(&[top.id.into()]));
                let bottom = self.after(&[left.id.into(), right.id.into()]);
                self.store(Vec::new(), vec![top, left, right, bottom]).await
            }
            Tied::Batch => self.batch().await,
            Tied::Repair => {
                self.repair().await;
                Vec::new()
            }
            Tied::Cancel => {
                self.cancel().await;
                Vec::new()
            }
            Tied::Unique => {
                let jobs = (0..self.rng.between(1, 3)).map(|_| self.unique()).collect();
                self.store(Vec::new(), jobs).await
            }
            Tied::Limited => {
                let jobs = (0..self.rng.between(2, 5)).map(|_| self.limited()).collect();
                self.store(Vec::new(), jobs).await
            }
            Tied::Join => {
                let batches = self.world.truth.ledger().ties.batches();
                if batches.is_empty() {
                    return Vec::new();
                }
                let mut job = self.job();
                job.ties.batch = Some(*self.rng.pick(&batches));
                self.store(Vec::new(), vec![job]).await
            }
            Tied::Recur => self.recur().await,
        }
    }

    fn job(&mut self) -> NewJob {
        let plan = &self.world.plan;
        let kind = *self.rng.pick(&plan.kinds);
        let mut job = kind.job(self.client.next_id(), plan.lease, self.rng);
        job.queue = QueueName::stored(format!("q{}", self.rng.below(plan.queues as u64)));
        if self.rng.chance(0.2) {
            job.when = When::In(self.rng.time(MILLI, plan.lease / 2));
        }
        job
    }

    fn after(&mut self, antecedents: &[Antecedent]) -> NewJob {
        let ends = [After::Success, After::Success, After::End, After::Failure, After::Deletion];
        let mut job = self.job();
        for &antecedent in antecedents {
            let dependency = Dependency::on(antecedent).after(*self.rng.pick(&ends));
            job.ties.after.push(if self.rng.chance(0.3) {
                dependency.passing()
            } else {
                dependency
            });
        }
        job
    }

    fn unique(&mut self) -> NewJob {
        let scope = self.rng.below(3);
        let (scope, name) = match scope {
            0 => (UniqueScope::UntilStarted, "start"),
            1 => (UniqueScope::UntilFinished, "end"),
            _ => (UniqueScope::Within(self.world.plan.lease / 2), "time"),
        };
        let conflict = *self.rng.pick(&[Conflict::Reject, Conflict::Replace, Conflict::Debounce]);
        let mut job = self.job();
        let key = format!("{name}-{}", self.rng.below(2));
        job.ties.unique = Some(UniqueKey { key, scope, conflict });
        job
    }

    fn limited(&mut self) -> NewJob {
        let most = self.rng.between(1, 3) as u32;
        let mut job = self.job();
        let part = self.rng.below(3);
        let partition = ["", "a", "b"][part as usize].to_owned();
        let rule = LimitRule::concurrency(most);
        job.ties.limits.extend(limit(&format!("at-most-{most}"), partition, rule));
        if self.rng.chance(0.2) {
            let window = *self.rng.pick(&[Window::Fixed, Window::Sliding]);
            let rate = Rate { count: 2, per: Duration::from_secs(1), window };
            let rule = LimitRule { rate: Some(rate), ..LimitRule::default() };
            job.ties.limits.extend(limit(&format!("{window:?}"), String::new(), rule));
        }
        job
    }

    async fn recur(&mut self) -> Vec<JobId> {
        let id = RecurringId::stored(format!("r{}", self.rng.below(3)));
        if self.world.truth.ledger().recurring.was_removed(&id) {
            return Vec::new();
        }
        let later = self.world.truth.now().saturating_add(self.world.plan.lease / 2);
        let known = self.world.truth.recurring(&id).is_some();
        let job = self.client.next_id();
        let change = match self.rng.below(if known { 10 } else { 1 }) {
            0 | 1 => RecurringChange::Upsert(Box::new(self.definition(id))),
            2 | 3 => {
                let until = self.rng.chance(0.7).then_some(later);
                RecurringChange::Pause { id, until }
            }
            4 | 5 => RecurringChange::Resume(id),
            6..=8 => RecurringChange::Trigger { id, job },
            _ => RecurringChange::Remove(id),
        };
        loop {
            match self.storage.change_recurring(change.clone()).await {
                Err(error) if error.is_transient() => self.wait().await,
                Ok(RecurringChanged::Triggered(job)) => return vec![job],
                _ => return Vec::new(),
            }
        }
    }

    fn definition(&mut self, id: RecurringId) -> NewRecurring {
        let kind = *self.rng.pick(&[Kind::Quick, Kind::Flaky, Kind::Sleepy, Kind::Long]);
        let job = kind.job(self.client.next_id(), self.world.plan.lease / 4, self.rng);
        let every = Schedule::Every(Duration::from_secs(self.rng.between(1, 3)));
        let mut new = NewRecurring::new(id, every, job.kind, job.args);
        new.queue =
            QueueName::stored(format!("q{}", self.rng.below(self.world.plan.queues as u64)));
        new.options = job.options;
        new.misfire = *self.rng.pick(&[Misfire::RunOnce, Misfire::All]);
        let overlaps = [Overlap::Allow, Overlap::Skip, Overlap::QueueOne, Overlap::CancelPrevious];
        new.overlap = *self.rng.pick(&overlaps);
        new
    }

    /// A job that is there, rather one that runs; or a batch.
    fn some_antecedent(&mut self) -> Option<Antecedent> {
        let ledger = self.world.truth.ledger();
        let batches = ledger.ties.batches();
        if !batches.is_empty() && self.rng.chance(0.2) {
            return Some((*self.rng.pick(&batches)).into());
        }
        let mut running = ledger.jobs_in(|state| state == StateName::Processing);
        if self.rng.chance(0.5) {
            // Its handler has returned: its finish is under way.
            let effects = self.world.effects();
            let ends = |job: &JobId| effects.of(*job).any(|(_, run)| run.is_done());
            if running.iter().any(ends) {
                running.retain(ends);
            }
        }
        let any = ledger.jobs_in(|_| true);
        let from = if !running.is_empty() && self.rng.chance(0.6) { running } else { any };
        (!from.is_empty()).then(|| (*self.rng.pick(&from)).into())
    }

    async fn batch(&mut self) -> Vec<JobId> {
        let id = BatchId::new(self.client.next_id());
        let mut batch = NewBatch::new(id);
        batch.open = self.rng.chance(0.4);
        if self.rng.chance(0.3)
            && let Some(antecedent) = self.some_antecedent()
        {
            let end = *self.rng.pick(&[After::End, After::End, After::Success]);
            batch.after.push(Dependency::on(antecedent).after(end));
        }
        let open = batch.open;
        let mut batches = vec![batch];
        let mut homes = vec![id];
        if self.rng.chance(0.3) {
            let mut nested = NewBatch::new(BatchId::new(self.client.next_id()));
            nested.parent = Some(id);
            homes.push(nested.id);
            batches.push(nested);
        }
        let mut jobs = self.members(&homes);
        for end in [After::Success, After::End, After::Failure] {
            if self.rng.chance(0.6) {
                let mut callback = self.job();
                callback.ties.after.push(Dependency::on(id).after(end));
                jobs.push(callback);
            }
        }
        let mut stored = self.store(batches, jobs).await;
        if stored.is_empty() || !open {
            return stored;
        }
        let more = self.members(&[id]);
        stored.extend(self.store(Vec::new(), more).await);
        self.change_batch(id, BatchChange::Seal).await;
        stored
    }

    fn members(&mut self, homes: &[BatchId]) -> Vec<NewJob> {
        let mut jobs: Vec<NewJob> = Vec::new();
        for _ in 0..self.rng.between(1, 4) {
            let after = jobs.last().map(|job| Antecedent::Job(job.id));
            let mut job = match after.filter(|_| self.rng.chance(0.2)) {
                Some(after) => self.after(&[after]),
                None => self.job(),
            };
            job.ties.batch = Some(*self.rng.pick(homes));
            jobs.push(job);
        }
        jobs
    }

    async fn repair(&mut self) {
        let failed = failed_parents(self.world);
        if failed.is_empty() {
            return;
        }
        let change = Change { job: *self.rng.pick(&failed), action: Action::Requeue, expect: None };
        while let Err(error) = self.storage.change(vec![change.clone()]).await
            && error.is_transient()
        {
            self.wait().await;
        }
    }

    async fn cancel(&mut self) {
        let open: Vec<BatchId> = {
            let ledger = self.world.truth.ledger();
            let open = ledger.ties.states().filter(|(_, state)| state.end().is_none());
            open.map(|(batch, _)| batch).collect()
        };
        if !open.is_empty() {
            let batch = *self.rng.pick(&open);
            let change = BatchChange::Cancel { reason: "not wanted".to_owned() };
            self.change_batch(batch, change).await;
        }
    }

    async fn change_batch(&mut self, batch: BatchId, change: BatchChange) {
        loop {
            match self.storage.change_batch(batch, change.clone()).await {
                Err(error) if error.is_transient() => self.wait().await,
                _ => return,
            }
        }
    }

    /// Stores it, as often as it takes; answers nothing when it was refused.
    async fn store(&mut self, batches: Vec<NewBatch>, jobs: Vec<NewJob>) -> Vec<JobId> {
        let world = self.world;
        world.truth.ledger().ask_tied(&batches, &jobs);
        world.note(self.domain, || format!("creates {batches:?} {jobs:?}"));
        let created = loop {
            match self.storage.create_batches(batches.clone(), jobs.clone()).await {
                Ok(created) => break created,
                Err(error) if error.is_transient() => self.wait().await,
                // What it names may be gone, or have ended, meanwhile.
                Err(StorageError::Invalid(
                    InvalidJob::NoAntecedent { .. }
                    | InvalidJob::BatchEnded { .. }
                    | InvalidJob::NoBatch { .. },
                )) => {
                    world.hit(Mark::TieRefused);
                    return Vec::new();
                }
                Err(error) => {
                    world.truth.report(require(Invariant::S1, false, || {
                        format!("a create was refused: {error}")
                    }));
                    return Vec::new();
                }
            }
        };
        for created in &created {
            let check = world.truth.ledger().promised(created.id);
            world.truth.report(check);
        }
        created.into_iter().map(|created| created.id).collect()
    }

    async fn wait(&mut self) {
        let wait = self.rng.heavy_tail(50 * MILLI, self.world.plan.lease / 2);
        self.world.executor.sleep(self.domain, wait).await;
    }
}

fn limit(name: &str, partition: String, rule: LimitRule) -> Option<LimitUse> {
    let limit = LimitName::new(name).ok()?;
    Some(LimitUse { limit, partition, declared: Some(rule) })
}

/// Removes the recurring jobs, which would go on for ever.
pub(crate) fn end_recurring(world: &World) {
    let present = world.truth.ledger().recurring.present();
    for id in present {
        let _ = world.truth.change_recurring(RecurringChange::Remove(id));
    }
}

/// Failed jobs whose success others wait for, or for that of a batch around them.
fn failed_parents(world: &World) -> Vec<JobId> {
    let ledger = world.truth.ledger();
    ledger.ties.failed_parents(&ledger.jobs_in(|state| state == StateName::Failed))
}

/// Does as an operator does when nothing goes on but that some wait for what has failed: that is requeued, and deleted
/// when it fails again and again or may not run.
pub(crate) fn repair(world: &World) {
    {
        let ledger = world.truth.ledger();
        let waiting = ledger.jobs_in(|state| state == StateName::Awaiting).len();
        if waiting == 0 || waiting < ledger.unfinished() {
            return;
        }
    }
    for job in failed_parents(world) {
        let requeue = Change { job, action: Action::Requeue, expect: None };
        let is_repaired = world.truth.ledger().ties.repair(job) < REPAIRS_MAX
            && world.truth.change(vec![requeue]).is_ok_and(|changed| changed[0].is_done());
        if !is_repaired {
            let reason = "not to be repaired".to_owned();
            let delete = Change { job, action: Action::Delete { reason }, expect: None };
            let _ = world.truth.change(vec![delete]);
        }
    }
}

/// Ends what a client that crashed has left open: an operator does, or the storage after a day.
pub(crate) fn abandon(world: &World) {
    let open: Vec<BatchId> = {
        let ledger = world.truth.ledger();
        let open = ledger.ties.states().filter(|&(_, state)| state == BatchState::Open);
        open.map(|(batch, _)| batch).collect()
    };
    for batch in open {
        world.hit(Mark::BatchAbandoned);
        let change = BatchChange::Cancel { reason: "abandoned".to_owned() };
        let _ = world.truth.change_batch(batch, change);
    }
}
