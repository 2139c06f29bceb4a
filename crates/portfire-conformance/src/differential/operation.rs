//! The operations of a sequence, as plain data, and what a storage answers to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::recurring::plan;
use portfire_core::{
    BatchChange, BatchChanged, BatchId, Change, Changed, Claim, ClaimedJob, Clock, Continuation,
    Created, Cycle, CycleRequest, DueRecurring, Fire, FireAction, Fired, HistoryEntry, JobFilter,
    JobId, JobRecord, LimitRule, LimitTarget, LockAnswer, LockRequest, LogLine, Lost, ManualClock,
    NewBatch, NewJob, NewServer, NotesRecord, Promoted, QueueName, RecurringChange,
    RecurringChanged, RecurringId, RescueRequest, Rescued, ServerId, Storage, StorageError,
    Timestamp, WaitingRecord,
};

use super::scope::Scope;

/// One step of a sequence.
///
/// Claims in it have no locator; `located` says whether each storage gets its own.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Create(Vec<NewBatch>, Vec<NewJob>),
    ChangeBatch(BatchId, BatchChange),
    ChangeRecurring(RecurringChange),
    /// Fires what is due, so many at most, by the plans that are made of it.
    Tick(u32),
    /// Fires plans that were made before.
    Fire(Vec<Fire>),
    /// Fires a plan that no schedule asked for.
    Force(RecurringId, FireAction),
    SetLimit(LimitTarget, Option<LimitRule>),
    Lock(LockRequest),
    Announce(NewServer),
    Heartbeat {
        server: ServerId,
        held: Vec<Claim>,
        located: bool,
    },
    Verify {
        server: ServerId,
        held: Vec<Claim>,
        located: bool,
    },
    Retire(ServerId),
    Cycle {
        request: CycleRequest,
        located: bool,
    },
    /// Calls again while more is announced: which jobs come first is the storage's choice.
    Rescue(RescueRequest),
    Promote(u32),
    Change(Vec<Change>),
    /// Calls again while more is announced: which jobs come first is the storage's choice.
    Clean(u32),
    Pause(QueueName, bool),
    Look(JobId, Scope),
    List(JobFilter),
    Forward(Duration),
    Back(Duration),
}

/// What a storage answers, without what is its own affair.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Created(Vec<Created>),
    BatchChanged(BatchChanged),
    RecurringChanged(RecurringChanged),
    Ticked(DueRecurring, Vec<Fired>),
    Fired(Vec<Fired>),
    Locked(LockAnswer),
    Done,
    Lost(Vec<Lost>),
    Cycled(Cycle),
    Rescued {
        total: Rescued,
        calls: u32,
    },
    Promoted(Promoted),
    Changed(Vec<Changed>),
    Cleaned {
        jobs: u32,
        calls: u32,
    },
    Looked(Box<Looked>),
    Listed(Vec<JobId>),
    /// What a call answered that only reads, and the instant that was told after it.
    Read(Box<Answer>, Timestamp),
    Error(String),
}

/// What is shown of one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Looked {
    pub(super) job: Option<JobRecord>,
    pub(super) history: Vec<HistoryEntry>,
    pub(super) continuations: Vec<Continuation>,
    pub(super) waiting: Option<WaitingRecord>,
    pub(super) notes: NotesRecord,
    pub(super) log: Vec<LogLine>,
}

/// A storage with what a server of it remembers: where it finds the claims.
pub(super) struct Side {
    storage: Arc<dyn Storage>,
    locators: BTreeMap<(JobId, u32), i64>,
}

impl Operation {
    pub(super) fn move_clock(&self, clock: &ManualClock) {
        match self {
            Operation::Forward(by) => clock.advance(*by),
            Operation::Back(by) => clock.set(clock.now().saturating_sub(*by)),
            _ => {}
        }
    }

    /// Of several mistakes in one call it is the storage's choice which is told.
    fn told(&self, error: &StorageError) -> String {
        match self {
            Operation::Create(batches, jobs) if batches.len() + jobs.len() > 1 => {
                "the call is refused".to_owned()
            }
            _ => format!("{error:?}"),
        }
    }
}

impl Side {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Side {
        Side { storage, locators: BTreeMap::new() }
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(super) async fn apply(&mut self, operation: &Operation) -> Answer {
        let answer = self.try_apply(operation).await;
        answer.unwrap_or_else(|error| Answer::Error(operation.told(&error)))
    }

    async fn try_apply(&mut self, operation: &Operation) -> Result<Answer, StorageError> {
        let storage = self.storage.clone();
        Ok(match operation.clone() {
            Operation::Create(batches, jobs) => {
                Answer::Created(storage.create_batches(batches, jobs).await?)
            }
            Operation::ChangeBatch(batch, change) => {
                Answer::BatchChanged(storage.change_batch(batch, change).await?)
            }
            Operation::ChangeRecurring(change) => {
                Answer::RecurringChanged(storage.change_recurring(change).await?)
            }
            Operation::Tick(max) => tick(&*storage, max).await?,
            Operation::Fire(plans) => Answer::Fired(storage.fire(plans).await?),
            Operation::Force(id, action) => {
                let revision = storage.recurring(id.clone()).await?.map_or(1, |one| one.revision);
                Answer::Fired(storage.fire(vec![Fire { id, revision, action }]).await?)
            }
            Operation::SetLimit(target, rule) => {
                storage.set_limit(target, rule).await?;
                Answer::Done
            }
            Operation::Lock(request) => Answer::Locked(storage.lock(request).await?),
            Operation::Announce(server) => {
                storage.announce(server).await?;
                Answer::Done
            }
            Operation::Heartbeat { server, held, located } => {
                let held = held.iter().map(|claim| self.locate(claim, located)).collect();
                Answer::Lost(without_locators(storage.heartbeat(server, held).await?))
            }
            Operation::Verify { server, held, located } => {
                let held = held.iter().map(|claim| self.locate(claim, located)).collect();
                let lost = without_locators(storage.verify(server, held).await?);
                told(&*storage, Answer::Lost(lost)).await?
            }
            Operation::Retire(server) => {
                storage.retire(server).await?;
                Answer::Done
            }
            Operation::Cycle { mut request, located } => {
                for finish in &mut request.finished {
                    finish.claim = self.locate(&finish.claim, located);
                }
                for annotation in &mut request.notes {
                    annotation.claim = self.locate(&annotation.claim, located);
                }
                let mut cycle = storage.cycle(request).await?;
                cycle.claimed.iter_mut().for_each(|job| self.note_locator(job));
                Answer::Cycled(cycle)
            }
            Operation::Rescue(request) => rescue(&*storage, request).await?,
            Operation::Promote(max) => Answer::Promoted(storage.promote(max).await?),
            Operation::Change(changes) => Answer::Changed(storage.change(changes).await?),
            Operation::Clean(max) => clean(&*storage, max).await?,
            Operation::Pause(queue, paused) => {
                storage.set_queue_paused(queue, paused).await?;
                Answer::Done
            }
            Operation::Look(id, scope) => {
                let looked = look(&*storage, id, scope).await?;
                told(&*storage, Answer::Looked(Box::new(looked))).await?
            }
            Operation::List(filter) => {
                let listed = Answer::Listed(list(&*storage, filter).await?);
                told(&*storage, listed).await?
            }
            Operation::Forward(_) | Operation::Back(_) => Answer::Done,
        })
    }

    fn locate(&self, claim: &Claim, located: bool) -> Claim {
        let known = self.locators.get(&(claim.job, claim.attempt));
        let locator = known.copied().filter(|_| located).unwrap_or(0);
        Claim { locator, ..*claim }
    }

    fn note_locator(&mut self, job: &mut ClaimedJob) {
        let locator = std::mem::take(&mut job.claim.locator);
        self.locators.insert((job.claim.job, job.claim.attempt), locator);
    }
}

fn without_locators(mut lost: Vec<Lost>) -> Vec<Lost> {
    lost.iter_mut().for_each(|lost| lost.claim.locator = 0);
    lost
}

/// Most runs that one plan makes here: a plan is applied as it is, whatever its schedule would say.
const RUNS_MAX: usize = 4;

async fn tick(storage: &dyn Storage, max: u32) -> Result<Answer, StorageError> {
    let due = storage.due_recurring(max).await?;
    let plans = due.due.iter().map(|record| few(plan(record, due.now))).collect();
    let fired = storage.fire(plans).await?;
    Ok(Answer::Ticked(due, fired))
}

/// The plan with few runs, so that a year's sleep does not make a thousand jobs.
pub(super) fn few(mut plan: Fire) -> Fire {
    if let FireAction::Run { planned, .. } = &mut plan.action {
        planned.truncate(RUNS_MAX);
    }
    plan
}

async fn rescue(storage: &dyn Storage, request: RescueRequest) -> Result<Answer, StorageError> {
    let mut total = Rescued::default();
    let mut calls = 0;
    loop {
        let rescued = storage.rescue(request).await?;
        calls += 1;
        total.dead.extend(rescued.dead);
        total.returned += rescued.returned;
        total.poisoned += rescued.poisoned;
        total.more = rescued.more;
        if !rescued.more || request.max == 0 {
            total.dead.sort();
            return Ok(Answer::Rescued { total, calls });
        }
    }
}

async fn clean(storage: &dyn Storage, max: u32) -> Result<Answer, StorageError> {
    let mut jobs = 0;
    let mut calls = 0;
    loop {
        let cleaned = storage.clean(max).await?;
        calls += 1;
        jobs += cleaned.jobs;
        if !cleaned.more || max == 0 {
            return Ok(Answer::Cleaned { jobs, calls });
        }
    }
}

/// Has the time told after a call that only reads. Whether such a call alone holds time up, when the
/// clock then goes back, is the storage's choice: nobody was told the instant.
async fn told(storage: &dyn Storage, answer: Answer) -> Result<Answer, StorageError> {
    Ok(Answer::Read(Box::new(answer), storage.now().await?))
}

/// What is shown of a job, as far as the storage is asked for it.
pub(super) async fn look(
    storage: &dyn Storage,
    id: JobId,
    scope: Scope,
) -> Result<Looked, StorageError> {
    let mut looked = Looked {
        job: storage.job(id).await?,
        history: storage.history(id).await?,
        ..Looked::default()
    };
    if scope.continuations {
        looked.continuations = storage.continuations(id.into(), 7).await?;
    }
    if scope.limits {
        looked.waiting = storage.waiting(id).await?;
    }
    if scope.notes {
        looked.notes = storage.notes(id).await?;
        looked.log = log(storage, id).await?;
    }
    Ok(looked)
}

/// A whole log, by pages.
async fn log(storage: &dyn Storage, id: JobId) -> Result<Vec<LogLine>, StorageError> {
    let mut lines = Vec::new();
    let mut after = None;
    loop {
        let page = storage.log(id, after, 9).await?;
        if page.lines.is_empty() {
            return Ok(lines);
        }
        lines.extend(page.lines);
        after = page.next;
    }
}

/// All jobs that a filter finds, page by page.
async fn list(storage: &dyn Storage, filter: JobFilter) -> Result<Vec<JobId>, StorageError> {
    let jobs = super::contents::all_pages(storage, filter).await?;
    Ok(jobs.into_iter().map(|job| job.id).collect())
}
