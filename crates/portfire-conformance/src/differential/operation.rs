//! The operations of a sequence, as plain data, and what a storage answers to them.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use portfire_core::recurring::plan;
use portfire_core::{
    Action, BatchChange, BatchChanged, BatchId, Change, Changed, Claim, ClaimedJob, Clock,
    Continuation, Created, Cycle, CycleRequest, DueRecurring, Fire, FireAction, Fired,
    HistoryEntry, JobFilter, JobId, JobRecord, LimitRule, LimitTarget, LockAnswer, LockRequest,
    LogLine, Lost, ManualClock, NewBatch, NewJob, NewServer, NotesRecord, Promoted, QueueName,
    RecurringChange, RecurringChanged, RecurringId, RescueRequest, Rescued, ServerId, Storage,
    StorageError, Timestamp, WaitingRecord,
};

use super::grouped::Grouped;
use super::scope::Scope;

/// One step of a sequence.
///
/// Claims in it have no locator; `located` says whether each storage gets its own.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Create(Vec<NewBatch>, Vec<NewJob>),
    /// Stores an open batch with more members than one call releases, and a job that waits for its end.
    CreateCrowd(Crowd),
    /// Deletes those members by hand, in one call.
    DeleteCrowd(Crowd),
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
    /// Calls that a storage is made to do in one commit, in this order.
    Together(Vec<Operation>),
}

/// An open batch with many plain members.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    pub(super) batch: BatchId,
    pub(super) members: u32,
    /// Waits for the end of the batch.
    pub(super) follower: NewJob,
}

impl Crowd {
    fn member(&self, number: u32) -> JobId {
        JobId::from_parts(Timestamp::MIN, u128::from(number) + 1)
    }

    fn batch(&self) -> NewBatch {
        let mut batch = NewBatch::new(self.batch);
        batch.open = true;
        batch
    }

    fn jobs(&self) -> Vec<NewJob> {
        let member = |number| {
            let mut job = self.follower.clone();
            job.id = self.member(number);
            job.ties.after.clear();
            job.ties.batch = Some(self.batch);
            job
        };
        (0..self.members).map(member).chain([self.follower.clone()]).collect()
    }

    fn deletions(&self) -> Vec<Change> {
        let delete = || Action::Delete { reason: "by hand".to_owned() };
        let change = |number| Change { job: self.member(number), action: delete(), expect: None };
        (0..self.members).map(change).collect()
    }
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
    Together(Vec<Answer>),
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
    /// How it is made to do several calls in one commit.
    grouped: Option<Arc<dyn Grouped>>,
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

    /// Whether it is one call that writes, so that it can share a commit with others.
    pub(super) fn can_share(&self) -> bool {
        match self {
            Operation::Rescue(request) => is_whole(request.max),
            Operation::Clean(max) => is_whole(*max),
            Operation::Create(..)
            | Operation::ChangeBatch(..)
            | Operation::ChangeRecurring(_)
            | Operation::Fire(_)
            | Operation::SetLimit(..)
            | Operation::Lock(_)
            | Operation::Announce(_)
            | Operation::Heartbeat { .. }
            | Operation::Retire(_)
            | Operation::Cycle { .. }
            | Operation::Promote(_)
            | Operation::Change(_)
            | Operation::Pause(..) => true,
            // Each of these fills a commit by itself.
            Operation::CreateCrowd(_) | Operation::DeleteCrowd(_) => false,
            Operation::Tick(_)
            | Operation::Force(..)
            | Operation::Verify { .. }
            | Operation::Look(..)
            | Operation::List(_)
            | Operation::Forward(_)
            | Operation::Back(_)
            | Operation::Together(_) => false,
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

/// Whether this bound leaves nothing to a second call, in the short sequences here.
fn is_whole(max: u32) -> bool {
    max == 0 || max >= 1_000
}

impl Side {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Side {
        Side { storage, grouped: None, locators: BTreeMap::new() }
    }

    /// A side that does what stands together in one commit.
    pub(super) fn grouped(grouped: Arc<dyn Grouped>) -> Side {
        Side { grouped: Some(Arc::clone(&grouped)), ..Side::new(grouped.storage()) }
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(super) async fn apply(&mut self, operation: &Operation) -> Answer {
        let Operation::Together(group) = operation else {
            let done = ask(Arc::clone(&self.storage), self.locate(operation)).await;
            return self.take_down(operation, done);
        };
        let done = match self.grouped.clone() {
            Some(grouped) => self.ask_together(&*grouped, group).await,
            None => {
                let mut done = Vec::with_capacity(group.len());
                for operation in group {
                    done.push(ask(Arc::clone(&self.storage), self.locate(operation)).await);
                }
                done
            }
        };
        let of = group.iter().map(Some).chain([None]);
        let taken = of.zip(done).map(|(operation, done)| match operation {
            Some(operation) => self.take_down(operation, done),
            None => done.unwrap_or(Answer::Done),
        });
        Answer::Together(taken.collect())
    }

    /// Hands in all of them while no commit is made, and then waits for all answers.
    async fn ask_together(
        &self,
        grouped: &dyn Grouped,
        group: &[Operation],
    ) -> Vec<Result<Answer, StorageError>> {
        let mut asked: Vec<_> = group
            .iter()
            .map(|operation| Box::pin(ask(Arc::clone(&self.storage), self.locate(operation))))
            .collect();
        let mut done: Vec<_> = group.iter().map(|_| None).collect();
        let before = grouped.commits();
        let mut held = Some(grouped.hold());
        poll_fn(|cx| {
            for (asked, done) in asked.iter_mut().zip(&mut done) {
                if done.is_none()
                    && let Poll::Ready(answer) = asked.as_mut().poll(cx)
                {
                    *done = Some(answer);
                }
            }
            drop(held.take());
            if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let mut done: Vec<_> = done.into_iter().flatten().collect();
        if grouped.commits() != before.map(|before| before + 1) {
            // The reference says nothing of the kind, so that this is told as a difference.
            done.push(Ok(Answer::Error("they did not share one commit".to_owned())));
        }
        done
    }

    /// The operation with the places of its claims, as this storage gave them out.
    fn locate(&self, operation: &Operation) -> Operation {
        let mut operation = operation.clone();
        match &mut operation {
            Operation::Heartbeat { held, located: true, .. }
            | Operation::Verify { held, located: true, .. } => {
                held.iter_mut().for_each(|claim| self.locate_claim(claim));
            }
            Operation::Cycle { request, located: true } => {
                let finished = request.finished.iter_mut().map(|finish| &mut finish.claim);
                let noted = request.notes.iter_mut().map(|annotation| &mut annotation.claim);
                finished.chain(noted).for_each(|claim| self.locate_claim(claim));
            }
            _ => {}
        }
        operation
    }

    fn locate_claim(&self, claim: &mut Claim) {
        claim.locator = self.locators.get(&(claim.job, claim.attempt)).copied().unwrap_or(0);
    }

    /// The answer without what is the storage's own affair.
    fn take_down(&mut self, operation: &Operation, done: Result<Answer, StorageError>) -> Answer {
        let mut answer = done.unwrap_or_else(|error| Answer::Error(operation.told(&error)));
        match &mut answer {
            Answer::Cycled(cycle) => {
                for ClaimedJob { claim, .. } in &mut cycle.claimed {
                    let locator = std::mem::take(&mut claim.locator);
                    self.locators.insert((claim.job, claim.attempt), locator);
                }
            }
            Answer::Lost(lost) => lost.iter_mut().for_each(|lost| lost.claim.locator = 0),
            Answer::Read(read, _) => {
                if let Answer::Lost(lost) = &mut **read {
                    lost.iter_mut().for_each(|lost| lost.claim.locator = 0);
                }
            }
            _ => {}
        }
        answer
    }
}

async fn ask(storage: Arc<dyn Storage>, operation: Operation) -> Result<Answer, StorageError> {
    Ok(match operation {
        Operation::Create(batches, jobs) => {
            Answer::Created(storage.create_batches(batches, jobs).await?)
        }
        Operation::CreateCrowd(crowd) => {
            Answer::Created(storage.create_batches(vec![crowd.batch()], crowd.jobs()).await?)
        }
        Operation::DeleteCrowd(crowd) => Answer::Changed(storage.change(crowd.deletions()).await?),
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
        Operation::Heartbeat { server, held, .. } => {
            Answer::Lost(storage.heartbeat(server, held).await?)
        }
        Operation::Verify { server, held, .. } => {
            let lost = storage.verify(server, held).await?;
            told(&*storage, Answer::Lost(lost)).await?
        }
        Operation::Retire(server) => {
            storage.retire(server).await?;
            Answer::Done
        }
        Operation::Cycle { request, .. } => Answer::Cycled(storage.cycle(request).await?),
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
        Operation::Forward(_) | Operation::Back(_) | Operation::Together(_) => Answer::Done,
    })
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
