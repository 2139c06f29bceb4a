//! [`MemoryStorage`]: the contract of [`storage`](crate::storage) and [`monitor`](crate::monitor),
//! executable. The other storages are compared with it, operation by operation.
//!
//! One mutex around plain, ordered data; nothing waits inside it. Every answer is a function of the
//! calls and the clock alone, so a run can be repeated exactly.
//!
//! # What is chosen where the contract leaves room
//! - An instant has come when storage time is equal or later: a job is due at its `run_at`, expired
//!   at its `expires_at`, a server may be declared dead at its `lease_until`.
//! - Jobs that are due or expired at the same instant come in the order of their creation.
//! - "The newest created first" is by the order in which the storage took the jobs.
//! - All errors of input are found before any taken id.
//! - The end of an attempt by anything but its own finish (a retirement, a rescue, a deletion) bears
//!   no attempt in the history.
//! - A repeated cycle whose first claim holds nothing any more claims anew: the server never heard of
//!   those jobs, so it asks for as many as before.
//! - An id of a server that was forgotten after its day is still refused by `announce`.
//! - Bounds given as `max` are cut to [`BATCH_MAX`]; lists of finishes and changes are taken whole.

mod jobs;
mod pages;
mod servers;
mod tally;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::StorageError;
use crate::job::{InvalidJob, JobId, Limits, NewJob, QueueName};
use crate::monitor::{
    Bucket, Counts, JobFilter, JobPage, Monitor, QueueRecord, ServerRecord, StatisticsRecord,
};
use crate::state::{ErrorRecord, HistoryEntry, JobRecord, ServerId, StateName};
use crate::storage::{
    Action, Answer, BATCH_MAX, Change, Changed, Claim, ClaimRequest, ClaimedJob, Cleaned, Created,
    Cycle, CycleRequest, Finish, Lost, LostReason, NewServer, Outcome, Promoted, RescueRequest,
    Rescued, Storage, StorageInfo, Verdict,
};
use crate::transition::{Event, Retention};
use crate::wakeup::{WakeupHub, Wakeups};

use jobs::{Facts, Jobs, Number};
use servers::Servers;

/// Largest args that [`Limits`] can allow.
const ARGS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Keeps everything in this process: for tests, for simulation, and for jobs that may die with the
/// process. Use it as an `Arc<dyn Storage>`.
///
/// ```
/// use std::sync::Arc;
/// use portfire_core::{ManualClock, MemoryStorage, Storage};
///
/// let clock = Arc::new(ManualClock::default());
/// let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::with_clock(clock));
/// assert_eq!(storage.info().name, "memory");
/// ```
pub struct MemoryStorage {
    data: Mutex<Data>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    hub: WakeupHub,
}

impl MemoryStorage {
    /// An empty storage on the clock of the host, with default retention and limits.
    pub fn new() -> MemoryStorage {
        MemoryStorage::builder().build()
    }

    /// An empty storage on this clock, with default retention and limits.
    pub fn with_clock(clock: Arc<dyn Clock>) -> MemoryStorage {
        MemoryStorage::builder().clock(clock).build()
    }

    /// An empty storage with other settings.
    pub fn builder() -> MemoryStorageBuilder {
        MemoryStorageBuilder {
            clock: Arc::new(SystemClock),
            retention: Retention::default(),
            limits: Limits::default(),
        }
    }

    /// Does one call: all of it inside the lock, the hints after it.
    fn call<T>(&self, act: impl FnOnce(&mut Data) -> T) -> T {
        // Nothing in here panics half-way on anyone's input, so a poisoned lock still holds whole data.
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        data.now = data.now.max(self.clock.now());
        let answer = act(&mut data);
        let Hints { work, control } = std::mem::take(&mut data.jobs.hints);
        drop(data);
        if work {
            self.hub.work();
        }
        if control {
            self.hub.control();
        }
        answer
    }
}

impl Default for MemoryStorage {
    fn default() -> MemoryStorage {
        MemoryStorage::new()
    }
}

impl std::fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStorage").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// Settings of a [`MemoryStorage`]. Made by [`MemoryStorage::builder`].
#[derive(Clone, Debug)]
pub struct MemoryStorageBuilder {
    clock: Arc<dyn Clock>,
    retention: Retention,
    limits: Limits,
}

impl MemoryStorageBuilder {
    /// Takes the time from here. Default: the clock of the host.
    pub fn clock(self, clock: Arc<dyn Clock>) -> MemoryStorageBuilder {
        MemoryStorageBuilder { clock, ..self }
    }

    /// Keeps final jobs for so long, unless their call said otherwise. Default: [`Retention::default`].
    pub fn retention(self, retention: Retention) -> MemoryStorageBuilder {
        MemoryStorageBuilder { retention, ..self }
    }

    /// Takes jobs within these bounds; over 16 MiB of args means 16 MiB. Default: [`Limits::default`].
    pub fn limits(self, limits: Limits) -> MemoryStorageBuilder {
        let args_bytes_max = limits.args_bytes_max.min(ARGS_BYTES_MAX);
        MemoryStorageBuilder { limits: Limits { args_bytes_max }, ..self }
    }

    /// The storage, empty.
    pub fn build(self) -> MemoryStorage {
        let now = self.clock.now();
        let jobs = Jobs::new(self.retention);
        MemoryStorage {
            data: Mutex::new(Data { now, jobs, servers: Servers::default() }),
            clock: self.clock,
            limits: self.limits,
            hub: WakeupHub::default(),
        }
    }
}

/// Everything the storage holds.
struct Data {
    /// Storage time: the highest that the clock ever told.
    now: Timestamp,
    jobs: Jobs,
    servers: Servers,
}

/// Which wake-ups a call owes.
#[derive(Default)]
struct Hints {
    work: bool,
    control: bool,
}

impl Storage for MemoryStorage {
    fn create(&self, jobs: Vec<NewJob>) -> Answer<'_, Vec<Created>> {
        Box::pin(async move { self.call(|data| data.create(jobs, &self.limits)) })
    }

    fn announce(&self, server: NewServer) -> Answer<'_, ()> {
        Box::pin(async move { self.call(|data| data.servers.announce(server, data.now)) })
    }

    fn heartbeat(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        Box::pin(async move { self.call(|data| data.heartbeat(&server, &held)) })
    }

    fn verify(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        Box::pin(async move { self.call(|data| data.verify(&server, &held)) })
    }

    fn retire(&self, server: ServerId) -> Answer<'_, ()> {
        Box::pin(async move {
            self.call(|data| data.retire(&server));
            Ok(())
        })
    }

    fn cycle(&self, request: CycleRequest) -> Answer<'_, Cycle> {
        Box::pin(async move { self.call(|data| data.cycle(request)) })
    }

    fn rescue(&self, request: RescueRequest) -> Answer<'_, Rescued> {
        Box::pin(async move { Ok(self.call(|data| data.rescue(request))) })
    }

    fn promote(&self, max: u32) -> Answer<'_, Promoted> {
        Box::pin(async move { Ok(self.call(|data| data.promote(max))) })
    }

    fn change(&self, changes: Vec<Change>) -> Answer<'_, Vec<Changed>> {
        Box::pin(async move { self.call(|data| data.change(changes)) })
    }

    fn clean(&self, max: u32) -> Answer<'_, Cleaned> {
        Box::pin(async move { Ok(self.call(|data| data.clean(max))) })
    }

    fn set_queue_paused(&self, queue: QueueName, paused: bool) -> Answer<'_, ()> {
        Box::pin(async move {
            self.call(|data| data.jobs.set_queue_paused(queue, paused));
            Ok(())
        })
    }

    fn wakeups(&self) -> Wakeups {
        self.hub.subscribe()
    }

    fn info(&self) -> StorageInfo {
        StorageInfo {
            name: "memory",
            location: "this process".to_owned(),
            durability: "nothing: the jobs live as long as this process",
            args_bytes_max: self.limits.args_bytes_max,
        }
    }
}

impl Monitor for MemoryStorage {
    fn now(&self) -> Answer<'_, Timestamp> {
        Box::pin(async move { Ok(self.call(|data| data.now)) })
    }

    fn counts(&self) -> Answer<'_, Counts> {
        Box::pin(async move { Ok(self.call(|data| data.jobs.tally.counts().clone())) })
    }

    fn job(&self, id: JobId) -> Answer<'_, Option<JobRecord>> {
        Box::pin(async move {
            Ok(self.call(|data| data.jobs.find(id).map(|number| data.jobs[number].record.clone())))
        })
    }

    fn history(&self, id: JobId) -> Answer<'_, Vec<HistoryEntry>> {
        Box::pin(async move {
            let history = self
                .call(|data| data.jobs.find(id).map(|number| data.jobs[number].history.clone()));
            Ok(history.unwrap_or_default())
        })
    }

    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage> {
        Box::pin(async move { self.call(|data| pages::page(&data.jobs, &filter)) })
    }

    fn queues(&self) -> Answer<'_, Vec<QueueRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.jobs.queue_records())) })
    }

    fn servers(&self) -> Answer<'_, Vec<ServerRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.servers.records(data.now))) })
    }

    fn statistics(&self, bucket: Bucket, since: Timestamp) -> Answer<'_, Vec<StatisticsRecord>> {
        Box::pin(async move { Ok(self.call(|data| data.jobs.tally.statistics(bucket, since))) })
    }
}

impl Data {
    fn create(&mut self, new: Vec<NewJob>, limits: &Limits) -> Result<Vec<Created>, StorageError> {
        if new.len() > BATCH_MAX {
            let refusal = InvalidJob::TooManyJobs { count: new.len(), limit: BATCH_MAX };
            return Err(refusal.into());
        }
        let mut run_at = Vec::with_capacity(new.len());
        for job in &new {
            job.validate(limits)?;
            run_at.push(job.when.resolve(self.now)?);
        }
        self.refuse_taken_ids(&new)?;

        let mut created = Vec::with_capacity(new.len());
        for (job, run_at) in new.into_iter().zip(run_at) {
            let id = job.id;
            let existing = self.jobs.find(id).is_some();
            if !existing {
                self.jobs.create(job, run_at, self.now);
            }
            created.push(Created { id, existing });
        }
        Ok(created)
    }

    /// Refuses ids that are stored, or stand earlier in the same call, with another kind or other args.
    fn refuse_taken_ids(&self, new: &[NewJob]) -> Result<(), StorageError> {
        let mut earlier = std::collections::BTreeMap::new();
        for job in new {
            let (kind, args) = match self.jobs.find(job.id) {
                Some(number) => {
                    let stored = &self.jobs[number].record;
                    (&stored.kind, &stored.args)
                }
                None => *earlier.entry(job.id).or_insert((&job.kind, &job.args)),
            };
            if (kind, args) != (&job.kind, &job.args) {
                return Err(StorageError::IdTaken { job: job.id });
            }
        }
        Ok(())
    }

    fn heartbeat(&mut self, server: &ServerId, held: &[Claim]) -> Result<Vec<Lost>, StorageError> {
        self.servers.alive(server)?.renew(self.now);
        Ok(self.lost(server, held))
    }

    fn verify(&mut self, server: &ServerId, held: &[Claim]) -> Result<Vec<Lost>, StorageError> {
        self.servers.alive(server)?;
        Ok(self.lost(server, held))
    }

    fn lost(&self, server: &ServerId, held: &[Claim]) -> Vec<Lost> {
        let reason = |claim: &Claim| {
            let Some(number) = self.jobs.find_claim(claim) else {
                return Some(LostReason::Missing);
            };
            let job = &self.jobs[number];
            if job.is_held(server, claim.attempt) {
                None
            } else if job.standing().state == StateName::Deleted {
                Some(LostReason::Deleted)
            } else {
                Some(LostReason::Taken)
            }
        };
        let lost = held.iter().filter_map(|claim| Some((claim, reason(claim)?)));
        lost.map(|(&claim, reason)| Lost { claim, reason }).collect()
    }

    fn retire(&mut self, server: &ServerId) {
        let Ok(alive) = self.servers.alive(server) else { return };
        alive.die(self.now);
        for number in std::mem::take(&mut alive.held) {
            self.jobs.must(number, Event::Release, Facts::default(), self.now);
        }
        self.jobs.hints.control = true;
    }

    fn cycle(&mut self, request: CycleRequest) -> Result<Cycle, StorageError> {
        self.servers.alive(&request.server)?;
        let finished = request.finished.into_iter();
        let verdicts = finished.map(|finish| self.finish(&request.server, finish)).collect();
        let claimed = match request.claim {
            None => Vec::new(),
            Some(wish) => {
                let again = if request.repeated {
                    self.claimed_before(&request.server, request.key)
                } else {
                    Vec::new()
                };
                if again.is_empty() {
                    self.claim(&request.server, request.key, &wish)
                } else {
                    again
                }
            }
        };
        Ok(Cycle { verdicts, claimed })
    }

    fn finish(&mut self, server: &ServerId, finish: Finish) -> Verdict {
        let Some(number) = self.jobs.find_claim(&finish.claim) else {
            return Verdict::Missing;
        };
        let attempt = finish.claim.attempt;
        let job = &self.jobs[number];
        if !job.is_held(server, attempt) {
            let already = job.stands_where_finished(server, attempt);
            return if already { Verdict::Already } else { Verdict::Fenced };
        }
        let event = finish.outcome.event();
        let facts =
            Facts { attempt: Some(attempt), duration: finish.duration, ..facts(finish.outcome) };
        self.jobs.must(number, event, facts, self.now);
        self.servers.drop_held(server, number);
        Verdict::Applied
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

    fn claim(&mut self, server: &ServerId, key: u64, wish: &ClaimRequest) -> Vec<ClaimedJob> {
        let mut claimed = Vec::new();
        for queue in &wish.queues {
            while claimed.len() < cut(wish.max) {
                let Some(number) = self.jobs.first_ready(queue) else { break };
                self.jobs.hold(number, server, key, self.now);
                self.servers.add_held(server, number);
                claimed.push(self.jobs.claimed(number));
            }
        }
        claimed
    }

    fn rescue(&mut self, request: RescueRequest) -> Rescued {
        let dead = self.servers.declare_dead(self.now);
        self.jobs.hints.control |= !dead.is_empty();

        let mut rescued = Rescued { dead, ..Rescued::default() };
        for _ in 0..cut(request.max) {
            let Some((server, number)) = self.servers.take_orphan() else { break };
            let job = &self.jobs[number].record;
            let error = Some(ErrorRecord::poison(&server, job.recoveries));
            let facts = Facts { server: Some(server), error, ..Facts::default() };
            let event = Event::Rescue { recoveries_max: request.recoveries_max };
            match self.jobs.must(number, event, facts, self.now) {
                StateName::Failed => rescued.poisoned += 1,
                _ => rescued.returned += 1,
            }
        }
        rescued.more = self.servers.has_orphans();
        rescued
    }

    fn promote(&mut self, max: u32) -> Promoted {
        let mut promoted = 0;
        while promoted < cut(max) as u32 {
            let Some(number) = self.jobs.first_due(self.now) else { break };
            self.jobs.must(number, Event::Promote, Facts::default(), self.now);
            promoted += 1;
        }
        let next_in = self.jobs.next_run_at().map(|at| at.since(self.now));
        Promoted { promoted, released: 0, next_in }
    }

    fn change(&mut self, changes: Vec<Change>) -> Result<Vec<Changed>, StorageError> {
        let now = self.now;
        let steps: Result<Vec<_>, InvalidJob> = changes
            .into_iter()
            .map(|change| Ok((change.job, change.expect, Step::of(change.action, now)?)))
            .collect();
        let changed = steps?.into_iter().map(|(id, expect, step)| {
            let Some(number) = self.jobs.find(id) else { return Changed::Missing };
            let standing = self.jobs[number].standing();
            let (from, revision) = (standing.state, standing.revision);
            if expect.is_some_and(|expect| !expect.holds(from, revision)) {
                return Changed::Unexpected { state: from, revision };
            }
            if step.leads_nowhere_from(from) {
                return Changed::Unchanged;
            }
            self.change_one(number, step)
        });
        Ok(changed.collect())
    }

    fn change_one(&mut self, number: Number, step: Step) -> Changed {
        let holder = self.jobs[number].holder().cloned();
        let from = self.jobs[number].standing().state;
        match self.jobs.transit(number, step.event, step.facts, self.now) {
            Err(refusal) => Changed::Refused(refusal),
            Ok(to) => {
                if let Some(holder) = holder {
                    self.servers.drop_held(&holder, number);
                    self.jobs.hints.control = true;
                }
                Changed::Applied { from, revision: to.revision }
            }
        }
    }

    fn clean(&mut self, max: u32) -> Cleaned {
        let mut jobs = 0;
        while jobs < cut(max) as u32 {
            let Some(number) = self.jobs.first_expired(self.now) else { break };
            self.jobs.remove(number);
            jobs += 1;
        }
        self.jobs.tally.forget_old(self.now);
        self.servers.forget_old(self.now);
        Cleaned { jobs, more: self.jobs.first_expired(self.now).is_some() }
    }
}

/// What the history and the state say about an outcome, beyond the transition.
fn facts(outcome: Outcome) -> Facts {
    let none = Facts::default();
    match outcome {
        Outcome::Succeeded { result } => Facts { result, ..none },
        Outcome::Retry { error, .. } | Outcome::Failed { error } => {
            Facts { error: Some(error), ..none }
        }
        Outcome::Discarded { reason, error } => Facts { reason: Some(reason), error, ..none },
        Outcome::Snoozed { .. } | Outcome::Parked { .. } | Outcome::Released => none,
    }
}

/// An explicit change, resolved in time.
struct Step {
    event: Event,
    facts: Facts,
}

impl Step {
    fn of(action: Action, now: Timestamp) -> Result<Step, InvalidJob> {
        let mut facts = Facts::default();
        let event = match action {
            Action::Requeue => Event::Requeue,
            Action::Delete { reason } => {
                facts.reason = Some(reason);
                Event::Delete
            }
            Action::Reschedule(when) => Event::Reschedule(instant(when, now)?),
        };
        Ok(Step { event, facts })
    }

    fn leads_nowhere_from(&self, state: StateName) -> bool {
        matches!(
            (self.event, state),
            (Event::Requeue, StateName::Enqueued) | (Event::Delete, StateName::Deleted)
        )
    }
}

/// The instant a change names, which may be past: the job then waits for the next promotion.
fn instant(when: crate::job::When, now: Timestamp) -> Result<Timestamp, InvalidJob> {
    use crate::job::When;
    match when {
        When::At(at) => Ok(at),
        When::Now | When::In(_) => Ok(when.resolve(now)?.unwrap_or(now)),
    }
}

fn cut(max: u32) -> usize {
    (max as usize).min(BATCH_MAX)
}

/// How long a dead server is shown.
const DEAD_SHOWN: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
