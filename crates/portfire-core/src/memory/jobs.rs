//! The jobs with every order they are found by: they are created, moved and removed here, with orders, history and
//! counters in step. What a move means for others is the engine's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Index;
use std::sync::Arc;

use super::Hints;
use super::entries::{self, Facts};
use super::limits::Limits;
use super::queues::{Placed, Queues, Rank};
use super::tally::Tally;
use crate::clock::Timestamp;
use crate::continuation::ParentOutcome;
use crate::engine::Seq;
use crate::engine::attempts::Relation;
use crate::job::{JobId, KindName, NewJob, QueueName, When};
use crate::moved::Moved;
use crate::state::{Cause, HistoryEntry, JobRecord, JobState, ServerId, StateName};
use crate::storage::{Claim, ClaimedJob};
use crate::ties::Ties;
use crate::transition::{Event, Place, Refusal, Retention, Standing, Transition, next};

/// A place in the order of creation, from 1, of a job or a batch; a job's locator outside.
pub(super) type Number = Seq;

/// One job.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) record: JobRecord,
    pub(super) history: Vec<HistoryEntry>,
    /// Set exactly while it is processing.
    pub(super) hold: Option<Hold>,
    /// Its ties but for its batch, as the engine reads them; none when there are no others.
    pub(super) ties: Option<Arc<Ties>>,
    /// The batch it is a member of.
    pub(super) batch: Option<Number>,
    /// Whether something ever waited for its end.
    pub(super) followed: bool,
    /// Whether the start of its batch is among what it waits for.
    pub(super) start: bool,
    /// When it is to run, once it waits for nothing else.
    pub(super) when: When,
    /// How those ended that it waited for, as far as it asked, with their places in its ties.
    pub(super) parents: Vec<(usize, ParentOutcome)>,
    /// The key in whose line it waits.
    pub(super) line: Option<String>,
    /// Whether it was set aside, on the shelf of its kind.
    aside: bool,
    /// Where it stands, or last stood, in its queue.
    pub(super) rank: Rank,
    /// When it last entered its queue.
    enqueued_at: Timestamp,
}

/// Where an enqueued job stands.
pub(super) enum Lane<'a> {
    /// Among those that can be claimed.
    Ready,
    /// Among those that were set aside.
    Aside,
    /// Among the suspects, under this turn.
    Apart(i64),
    /// In the line of a key.
    Line(&'a str),
}

/// How a new job comes to stand, and what hangs on it.
pub(super) struct First {
    pub(super) state: JobState,
    /// The key in whose line it stands.
    pub(super) line: Option<String>,
    pub(super) batch: Option<Number>,
    pub(super) followed: bool,
    pub(super) start: bool,
}

/// Where in its queue a job comes to stand.
pub(super) struct Arrival {
    /// A turn that was drawn; without one it keeps its place.
    pub(super) place: Option<i64>,
    /// The key in whose line it stands.
    pub(super) line: Option<String>,
}

/// What is remembered of a claim.
#[derive(Clone, Copy)]
pub(super) struct Hold {
    /// The cycle that claimed.
    pub(super) key: u64,
    /// The claim's place among all claims.
    pub(super) order: u64,
}

impl Job {
    fn moved(&self, from: Option<StateName>, entry: HistoryEntry) -> Moved {
        let JobRecord { id, kind, queue, .. } = &self.record;
        Moved::new(*id, kind.clone(), queue.clone(), from, entry)
    }

    pub(super) fn standing(&self) -> Standing {
        let JobRecord { revision, attempt, failures, recoveries, crashes, .. } = self.record;
        let state = self.record.state.name();
        Standing { state, revision, attempt, failures, recoveries, crashes }
    }

    /// The server that holds it, and since when.
    pub(super) fn holder(&self) -> Option<(&ServerId, Timestamp)> {
        match &self.record.state {
            JobState::Processing { server, claimed_at } => Some((server, *claimed_at)),
            _ => None,
        }
    }

    pub(super) fn is_held(&self, server: &ServerId, attempt: u32) -> bool {
        self.holder().is_some_and(|(holder, _)| holder == server) && self.record.attempt == attempt
    }

    /// Whether the finish of this attempt, by this server, was the last that happened to the job.
    fn stands_where_finished(&self, server: &ServerId, attempt: u32) -> bool {
        let [rest @ .., end] = &self.history[..] else { return false };
        // The claim of a folded end is folded into it.
        let claim = if end.folded.is_some() { Some(end) } else { rest.last() };
        end.cause != Cause::Claimed
            && end.attempt == Some(attempt)
            && claim.is_some_and(|claim| claim.server.as_ref() == Some(server))
    }

    /// How an attempt of this server is related to it.
    pub(super) fn relation(&self, server: &ServerId, attempt: u32) -> Relation {
        match () {
            () if self.is_held(server, attempt) => Relation::Holds,
            () if self.stands_where_finished(server, attempt) => Relation::Finished,
            () => Relation::Past,
        }
    }

    /// When it last entered its queue.
    pub(super) fn enqueued_at(&self) -> Timestamp {
        self.enqueued_at
    }

    /// Among which jobs of its queue it stands when it is enqueued.
    pub(super) fn lane(&self) -> Lane<'_> {
        match &self.line {
            Some(key) => Lane::Line(key),
            None if self.standing().is_suspect() => Lane::Apart(self.rank.1),
            None if self.aside => Lane::Aside,
            None => Lane::Ready,
        }
    }

    /// Its place in a queue.
    pub(super) fn placed(&self, number: Number) -> Placed {
        Placed { rank: self.rank, enqueued_at: self.enqueued_at, number }
    }

    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        match self.record.state {
            JobState::Succeeded { expires_at, .. }
            | JobState::Failed { expires_at, .. }
            | JobState::Deleted { expires_at, .. } => expires_at,
            _ => None,
        }
    }
}

/// All jobs.
pub(super) struct Jobs {
    pub(super) tally: Tally,
    pub(super) hints: Hints,
    /// The transitions of this call, when somebody listens.
    pub(super) told: Option<Vec<Moved>>,
    pub(super) limits: Limits,
    pub(super) queues: Queues,
    pub(super) retention: Retention,
    numbers: BTreeMap<JobId, Number>,
    /// Boxed, because the nodes of a map that only grows at its end are half empty.
    jobs: BTreeMap<Number, Box<Job>>,
    scheduled: BTreeSet<(Timestamp, Number)>,
    /// The jobs of the other states, in the order of their creation.
    standing: BTreeMap<StateName, BTreeSet<Number>>,
    expiring: BTreeSet<(Timestamp, Number)>,
    created: Number,
    turns: i64,
    claims: u64,
}

impl Index<Number> for Jobs {
    type Output = Job;

    /// The job with a number that one of the orders, or the caller's lookup just now, gave out.
    fn index(&self, number: Number) -> &Job {
        &self.jobs[&number]
    }
}

impl Jobs {
    pub(super) fn new(retention: Retention) -> Jobs {
        Jobs {
            tally: Tally::default(),
            hints: Hints::default(),
            told: None,
            limits: Limits::default(),
            queues: Queues::default(),
            retention,
            numbers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            scheduled: BTreeSet::new(),
            standing: BTreeMap::new(),
            expiring: BTreeSet::new(),
            created: 0,
            turns: 0,
            claims: 0,
        }
    }

    pub(super) fn find(&self, id: JobId) -> Option<Number> {
        self.numbers.get(&id).copied()
    }

    /// Finds a claim's job, by its locator when that is right.
    pub(super) fn find_claim(&self, claim: &Claim) -> Option<Number> {
        match self.jobs.get(&claim.locator) {
            Some(job) if job.record.id == claim.job => Some(claim.locator),
            _ => self.find(claim.job),
        }
    }

    /// The number that the next job or batch gets.
    pub(super) fn next_number(&self) -> Number {
        self.created + 1
    }

    /// Gives out the number of the next job or batch.
    pub(super) fn draw_number(&mut self) -> Number {
        self.created += 1;
        self.created
    }

    /// Stores a job whose id is free, in the state that it is created in.
    pub(super) fn create(&mut self, new: NewJob, first: First, now: Timestamp) -> Number {
        let number = self.draw_number();
        let First { state, line, batch, followed, start } = first;
        let mut ties = new.ties.clone();
        ties.batch = None;
        let ties = (!ties.is_empty()).then(|| Arc::new(ties));
        let entry = entries::created(&state, now);
        let record = JobRecord {
            id: new.id,
            kind: new.kind,
            args: new.args,
            queue: new.queue,
            priority: new.priority,
            options: new.options,
            ties: new.ties,
            created_at: now,
            revision: 1,
            attempt: 0,
            failures: 0,
            recoveries: 0,
            crashes: 0,
            state,
        };
        let job = Job {
            rank: (-i32::from(new.priority), self.draw_turn()),
            record,
            history: vec![entry],
            hold: None,
            ties,
            batch,
            followed,
            start,
            when: new.when,
            parents: Vec::new(),
            line,
            aside: false,
            enqueued_at: now,
        };
        if let Some(told) = &mut self.told {
            told.push(job.moved(None, job.history[0].clone()));
        }
        self.numbers.insert(new.id, number);
        self.jobs.insert(number, Box::new(job));
        self.tally.created();
        self.enter(number);
        number
    }

    /// Does what happens to a job that concerns no other, or nothing when its state does not allow it. Says where it
    /// stands then.
    pub(super) fn transit(
        &mut self,
        number: Number,
        event: Event,
        facts: Facts,
        now: Timestamp,
    ) -> Result<Standing, Refusal> {
        let job = &self[number];
        let retention = job.record.options.retention.unwrap_or(self.retention);
        let made = next(&job.standing(), event, now, &retention)?;
        let place = match made.place {
            Some(Place::Apart | Place::End) => Some(self.draw_turn()),
            Some(Place::Old) | None => None,
        };
        self.arrive(number, &made, facts, Arrival { place, line: None }, now);
        Ok(made.to)
    }

    /// Moves a job as the state machine has decided.
    pub(super) fn arrive(
        &mut self,
        number: Number,
        made: &Transition,
        facts: Facts,
        Arrival { place, line }: Arrival,
        now: Timestamp,
    ) {
        self.leave(number);
        if let Some(job) = self.jobs.get_mut(&number) {
            let entry = entries::entry(made, &facts, now);
            if let Some(told) = &mut self.told {
                told.push(job.moved(Some(job.record.state.name()), entry.clone()));
            }
            entries::push(&mut job.history, entry);
            job.hold = None;
            job.start = false;
            job.rank.1 = place.unwrap_or(job.rank.1);
            job.line = line;
            job.aside = false;
            job.record.revision = made.to.revision;
            job.record.attempt = made.to.attempt;
            job.record.failures = made.to.failures;
            job.record.recoveries = made.to.recoveries;
            job.record.crashes = made.to.crashes;
            job.record.state = entries::state(made, facts, now);
            if made.place.is_some() {
                job.enqueued_at = now;
            }
        }
        self.tally.moved(made, now);
        self.enter(number);
    }

    /// Puts a job back as it was, or takes it away when it was not there.
    pub(super) fn restore(&mut self, number: Number, was: Option<Box<Job>>) {
        // Slots of limits are taken by claims alone.
        debug_assert!(was.as_ref().is_none_or(|job| job.hold.is_none()), "{number}");
        self.leave(number);
        match was {
            Some(job) => _ = self.jobs.insert(number, job),
            None => {
                if let Some(job) = self.jobs.remove(&number) {
                    self.numbers.remove(&job.record.id);
                }
            }
        }
        self.enter(number);
    }

    /// Gives a job to a server.
    pub(super) fn hold(&mut self, number: Number, server: &ServerId, key: u64, now: Timestamp) {
        let attempt = Some(self[number].record.attempt.saturating_add(1));
        let facts = Facts { server: Some(server.clone()), attempt, ..Facts::default() };
        let made = self.transit(number, Event::Claim, facts, now);
        debug_assert!(made.is_ok(), "{made:?}");
        self.claims += 1;
        if let Some(job) = self.jobs.get_mut(&number) {
            job.hold = Some(Hold { key, order: self.claims });
            self.limits.started(number, &job.record, now);
        }
    }

    /// A job that is processing, as its worker gets it.
    pub(super) fn claimed(&self, number: Number) -> ClaimedJob {
        let Job { record, enqueued_at, parents, .. } = &self[number];
        let claimed_at = match record.state {
            JobState::Processing { claimed_at, .. } => claimed_at,
            _ => *enqueued_at,
        };
        ClaimedJob {
            claim: Claim { job: record.id, attempt: record.attempt, locator: number },
            kind: record.kind.clone(),
            args: record.args.clone(),
            queue: record.queue.clone(),
            priority: record.priority,
            options: record.options.clone(),
            ties: record.ties.clone(),
            parents: parents.iter().map(|(_, outcome)| outcome.clone()).collect(),
            created_at: record.created_at,
            enqueued_at: *enqueued_at,
            claimed_at,
            failures: record.failures,
            recoveries: record.recoveries,
        }
    }

    /// Has those of a queue known by how long they have waited, for claims that ask for it.
    pub(super) fn know_ages(&mut self, name: &QueueName) {
        let Some(queue) = self.queues.get_mut(name).filter(|queue| !queue.has_ages()) else {
            return;
        };
        let jobs = &self.jobs;
        queue.keep_ages(|number| jobs[&number].placed(number));
    }

    /// Sets a job that can be claimed aside, on the shelf of its kind, which is there. That is no transition, and it
    /// keeps its place.
    pub(super) fn set_aside(&mut self, number: Number) {
        self.leave(number);
        if let Some(job) = self.jobs.get_mut(&number) {
            job.aside = true;
        }
        self.enter(number);
    }

    /// Moves a job that can be claimed into the line of one of its keys, or out of a line to the end of
    /// those that can be claimed. Neither is a transition.
    pub(super) fn set_line(&mut self, number: Number, line: Option<String>) {
        self.leave(number);
        let turn = self.draw_turn();
        if let Some(job) = self.jobs.get_mut(&number) {
            job.rank.1 = turn;
            job.line = line;
            job.aside = false;
        }
        self.enter(number);
    }

    pub(super) fn get(&self, number: Number) -> Option<&Job> {
        self.jobs.get(&number).map(|job| &**job)
    }

    /// Changes what is kept beside the record of a job.
    pub(super) fn get_mut(&mut self, number: Number) -> Option<&mut Job> {
        self.jobs.get_mut(&number).map(|job| &mut **job)
    }

    /// Whether nothing follows from what happens to a job for any other.
    pub(super) fn concerns_itself_alone(&self, number: Number) -> bool {
        let Job { record, followed, .. } = &self[number];
        record.ties.is_empty() && !followed && self.limits.is_free(record)
    }

    /// Has the limits know which jobs of a kind run.
    pub(super) fn track_kind(&mut self, kind: &KindName) {
        let running = self.standing.get(&StateName::Processing).into_iter().flatten();
        for &number in running.filter(|number| self.jobs[number].record.kind == *kind) {
            self.limits.track(kind, number);
        }
    }

    pub(super) fn first_due(&self, now: Timestamp) -> Option<Number> {
        self.scheduled.first().filter(|(run_at, _)| *run_at <= now).map(|&(_, number)| number)
    }

    pub(super) fn next_run_at(&self) -> Option<Timestamp> {
        self.scheduled.first().map(|&(run_at, _)| run_at)
    }

    /// Those whose retention has ended, the first expired first.
    pub(super) fn expired(&self, now: Timestamp) -> impl Iterator<Item = Number> {
        self.expiring.range(..=(now, Number::MAX)).map(|&(_, number)| number)
    }

    /// Removes a job whose retention has ended, with all that belongs to it.
    pub(super) fn remove(&mut self, number: Number) {
        self.leave(number);
        if let Some(job) = self.jobs.remove(&number) {
            self.numbers.remove(&job.record.id);
            self.tally.cleaned();
        }
    }

    pub(super) fn set_queue_paused(&mut self, name: &QueueName, paused: bool) {
        let was = self.queues.get(name).is_some_and(|queue| queue.paused);
        if was == paused {
            return;
        }
        self.queues.ensure(name);
        let Some(queue) = self.queues.get_mut(name) else { return };
        queue.paused = paused;
        self.hints.control = true;
        self.hints.work |= !paused && !queue.has_none_to_claim();
    }

    /// All jobs by the order of creation.
    pub(super) fn by_number(&self) -> &BTreeMap<Number, Box<Job>> {
        &self.jobs
    }

    /// The jobs of a state that is neither scheduled nor enqueued, by the order of creation.
    pub(super) fn standing(&self, state: StateName) -> Option<&BTreeSet<Number>> {
        self.standing.get(&state)
    }

    /// The scheduled jobs, soonest first.
    pub(super) fn scheduled(&self) -> &BTreeSet<(Timestamp, Number)> {
        &self.scheduled
    }

    pub(super) fn draw_turn(&mut self) -> i64 {
        self.turns += 1;
        self.turns
    }

    /// Puts a job into the orders of the state it is in.
    fn enter(&mut self, number: Number) {
        let Some(job) = self.jobs.get(&number) else { return };
        let state = job.record.state.name();
        self.tally.entered(&job.record.kind, state);
        self.queues.ensure(&job.record.queue);
        if let Some(queue) = self.queues.get_mut(&job.record.queue) {
            queue.states.entered(state);
            match job.lane() {
                _ if state != StateName::Enqueued => {}
                Lane::Ready => {
                    queue.ready.add(job.placed(number));
                    self.hints.work = true;
                }
                Lane::Aside => {
                    if let Some(shelf) = queue.shelves.get_mut(&job.record.kind) {
                        shelf.jobs.add(job.placed(number));
                    }
                }
                Lane::Apart(turn) => {
                    queue.apart.insert(turn, number);
                    self.hints.work = true;
                }
                Lane::Line(key) => {
                    queue.waiting.insert(number);
                    self.limits.join(key, number, &job.record);
                }
            }
        }
        match job.record.state {
            JobState::Enqueued { .. } => {}
            JobState::Scheduled { run_at, .. } => {
                self.scheduled.insert((run_at, number));
                self.hints.work |= self.scheduled.first() == Some(&(run_at, number));
            }
            _ => {
                self.standing.entry(state).or_default().insert(number);
            }
        }
        if let Some(at) = job.expires_at() {
            self.expiring.insert((at, number));
        }
    }

    /// Takes a job out of the orders of the state it is in.
    fn leave(&mut self, number: Number) {
        let Some(job) = self.jobs.get(&number) else { return };
        let state = job.record.state.name();
        self.tally.left(&job.record.kind, state);
        if let Some(queue) = self.queues.get_mut(&job.record.queue) {
            queue.states.left(state);
            match job.lane() {
                _ if state != StateName::Enqueued => {}
                Lane::Ready => queue.ready.remove(job.placed(number)),
                Lane::Aside => {
                    if let Some(shelf) = queue.shelves.get_mut(&job.record.kind) {
                        shelf.jobs.remove(job.placed(number));
                    }
                }
                Lane::Apart(turn) => {
                    queue.apart.remove(&turn);
                }
                Lane::Line(key) => {
                    queue.waiting.remove(&number);
                    self.limits.quit(key, number, &job.record);
                }
            }
        }
        match job.record.state {
            JobState::Enqueued { .. } => {}
            JobState::Scheduled { run_at, .. } => {
                self.scheduled.remove(&(run_at, number));
            }
            _ => {
                if let Some(standing) = self.standing.get_mut(&state) {
                    standing.remove(&number);
                }
            }
        }
        if state == StateName::Processing {
            self.limits.stopped(number, &job.record);
        }
        if let Some(at) = job.expires_at() {
            self.expiring.remove(&(at, number));
        }
    }
}
