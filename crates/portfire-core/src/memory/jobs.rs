//! The jobs with every order they are found by. All state changes pass through
//! [`Jobs::transit`], which asks the state machine and keeps orders, history and counters in step.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Index;
use std::time::Duration;

use super::Hints;
use super::tally::Tally;
use crate::clock::Timestamp;
use crate::job::{JobId, Json, NewJob, QueueName};
use crate::monitor::QueueRecord;
use crate::state::{Cause, ErrorRecord, HistoryEntry, JobRecord, JobState, ServerId, StateName};
use crate::storage::{Claim, ClaimedJob};
use crate::transition::{Event, Place, Refusal, Retention, Standing, Transition, next};

/// A job's place in the order of creation, from 1; its locator outside.
pub(super) type Number = u64;

/// A place in a queue: negated priority, then the turn that was drawn at its end.
pub(super) type Rank = (i32, u64);

/// What a transition is about, beyond what the state machine decides.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) server: Option<ServerId>,
    pub(super) attempt: Option<u32>,
    pub(super) error: Option<ErrorRecord>,
    pub(super) reason: Option<String>,
    pub(super) result: Option<Json>,
    pub(super) duration: Duration,
}

/// One job.
pub(super) struct Job {
    pub(super) record: JobRecord,
    pub(super) history: Vec<HistoryEntry>,
    /// Set exactly while it is processing.
    pub(super) hold: Option<Hold>,
    /// Where it stands, or last stood, in its queue.
    rank: Rank,
    /// When it last entered its queue.
    enqueued_at: Timestamp,
}

/// What is remembered of a claim.
pub(super) struct Hold {
    /// The cycle that claimed.
    pub(super) key: u64,
    /// The claim's place among all claims.
    pub(super) order: u64,
}

impl Job {
    pub(super) fn standing(&self) -> Standing {
        let JobRecord { revision, attempt, failures, recoveries, .. } = self.record;
        Standing { state: self.record.state.name(), revision, attempt, failures, recoveries }
    }

    pub(super) fn holder(&self) -> Option<&ServerId> {
        match &self.record.state {
            JobState::Processing { server, .. } => Some(server),
            _ => None,
        }
    }

    pub(super) fn is_held(&self, server: &ServerId, attempt: u32) -> bool {
        self.holder() == Some(server) && self.record.attempt == attempt
    }

    /// Whether the finish of this attempt, by this server, was the last that happened to the job.
    pub(super) fn stands_where_finished(&self, server: &ServerId, attempt: u32) -> bool {
        let [.., claim, end] = &self.history[..] else { return false };
        end.cause != Cause::Claimed
            && end.attempt == Some(attempt)
            && claim.server.as_ref() == Some(server)
    }

    fn expires_at(&self) -> Option<Timestamp> {
        match self.record.state {
            JobState::Succeeded { expires_at, .. }
            | JobState::Failed { expires_at, .. }
            | JobState::Deleted { expires_at, .. } => expires_at,
            _ => None,
        }
    }
}

/// One queue.
#[derive(Default)]
struct Queue {
    paused: bool,
    states: BTreeMap<StateName, u64>,
    ready: BTreeMap<Rank, Number>,
}

/// All jobs.
pub(super) struct Jobs {
    pub(super) tally: Tally,
    pub(super) hints: Hints,
    retention: Retention,
    numbers: BTreeMap<JobId, Number>,
    /// Boxed, because the nodes of a map that only grows at its end are half empty.
    jobs: BTreeMap<Number, Box<Job>>,
    queues: BTreeMap<QueueName, Queue>,
    scheduled: BTreeSet<(Timestamp, Number)>,
    /// The jobs of the other states, in the order of their creation.
    standing: BTreeMap<StateName, BTreeSet<Number>>,
    expiring: BTreeSet<(Timestamp, Number)>,
    created: Number,
    turns: u64,
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
            retention,
            numbers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            queues: BTreeMap::new(),
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
        let located = u64::try_from(claim.locator).unwrap_or(0);
        match self.jobs.get(&located) {
            Some(job) if job.record.id == claim.job => Some(located),
            _ => self.find(claim.job),
        }
    }

    /// Stores a job whose id is free.
    pub(super) fn create(&mut self, new: NewJob, run_at: Option<Timestamp>, now: Timestamp) {
        let state = match run_at {
            Some(run_at) => JobState::Scheduled { run_at, cause: Cause::Created },
            None => JobState::Enqueued { enqueued_at: now },
        };
        let entry = HistoryEntry {
            revision: 1,
            state: state.name(),
            at: now,
            cause: Cause::Created,
            server: None,
            attempt: None,
            run_at,
            error: None,
            reason: None,
        };
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
            state,
        };
        self.created += 1;
        let rank = (-i32::from(new.priority), self.draw_turn());
        let job = Job { record, history: vec![entry], hold: None, rank, enqueued_at: now };
        self.numbers.insert(new.id, self.created);
        self.jobs.insert(self.created, Box::new(job));
        self.tally.created();
        self.enter(self.created);
    }

    /// Does what happens to a job, or nothing when its state does not allow it. Says where it stands then.
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

        self.leave(number);
        let turn = if made.place == Some(Place::End) { Some(self.draw_turn()) } else { None };
        if let Some(job) = self.jobs.get_mut(&number) {
            job.history.push(entry(&made, &facts, now));
            job.hold = None;
            job.rank.1 = turn.unwrap_or(job.rank.1);
            job.record.revision = made.to.revision;
            job.record.attempt = made.to.attempt;
            job.record.failures = made.to.failures;
            job.record.recoveries = made.to.recoveries;
            job.record.state = state(&made, facts, now);
            if made.place.is_some() {
                job.enqueued_at = now;
            }
        }
        self.tally.moved(&made, now);
        self.enter(number);
        Ok(made.to)
    }

    /// As [`transit`](Self::transit), for events that the job's state is known to allow. Says which
    /// state the job is in then.
    pub(super) fn must(
        &mut self,
        number: Number,
        event: Event,
        facts: Facts,
        now: Timestamp,
    ) -> StateName {
        let made = self.transit(number, event, facts, now);
        debug_assert!(made.is_ok(), "{made:?}");
        made.map_or_else(|refusal| refusal.state, |to| to.state)
    }

    /// Gives a job to a server.
    pub(super) fn hold(&mut self, number: Number, server: &ServerId, key: u64, now: Timestamp) {
        let attempt = Some(self[number].record.attempt.saturating_add(1));
        let facts = Facts { server: Some(server.clone()), attempt, ..Facts::default() };
        self.must(number, Event::Claim, facts, now);
        self.claims += 1;
        if let Some(job) = self.jobs.get_mut(&number) {
            job.hold = Some(Hold { key, order: self.claims });
        }
    }

    /// A job that is processing, as its worker gets it.
    pub(super) fn claimed(&self, number: Number) -> ClaimedJob {
        let Job { record, enqueued_at, .. } = &self[number];
        let claimed_at = match record.state {
            JobState::Processing { claimed_at, .. } => claimed_at,
            _ => *enqueued_at,
        };
        let locator = i64::try_from(number).unwrap_or(0);
        ClaimedJob {
            claim: Claim { job: record.id, attempt: record.attempt, locator },
            kind: record.kind.clone(),
            args: record.args.clone(),
            queue: record.queue.clone(),
            priority: record.priority,
            options: record.options.clone(),
            ties: record.ties.clone(),
            parents: Vec::new(),
            created_at: record.created_at,
            enqueued_at: *enqueued_at,
            claimed_at,
            failures: record.failures,
            recoveries: record.recoveries,
        }
    }

    /// The job that a claim on this queue would take first.
    pub(super) fn first_ready(&self, queue: &QueueName) -> Option<Number> {
        let queue = self.queues.get(queue).filter(|queue| !queue.paused)?;
        queue.ready.first_key_value().map(|(_, &number)| number)
    }

    pub(super) fn first_due(&self, now: Timestamp) -> Option<Number> {
        self.scheduled.first().filter(|(run_at, _)| *run_at <= now).map(|&(_, number)| number)
    }

    pub(super) fn next_run_at(&self) -> Option<Timestamp> {
        self.scheduled.first().map(|&(run_at, _)| run_at)
    }

    pub(super) fn first_expired(&self, now: Timestamp) -> Option<Number> {
        self.expiring.first().filter(|(at, _)| *at <= now).map(|&(_, number)| number)
    }

    /// Removes a job whose retention has ended, with all that belongs to it.
    pub(super) fn remove(&mut self, number: Number) {
        self.leave(number);
        if let Some(job) = self.jobs.remove(&number) {
            self.numbers.remove(&job.record.id);
            self.tally.cleaned();
        }
    }

    pub(super) fn set_queue_paused(&mut self, queue: QueueName, paused: bool) {
        let was = self.queues.get(&queue).is_some_and(|queue| queue.paused);
        if was == paused {
            return;
        }
        let queue = self.queues.entry(queue).or_default();
        queue.paused = paused;
        self.hints.control = true;
        self.hints.work |= !paused && !queue.ready.is_empty();
    }

    pub(super) fn queue_records(&self) -> Vec<QueueRecord> {
        let record = |(name, queue): (&QueueName, &Queue)| QueueRecord {
            name: name.clone(),
            paused: queue.paused,
            states: queue.states.clone(),
        };
        self.queues.iter().map(record).collect()
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

    /// The enqueued jobs of the queues from this one on, by name; each in the order of its claims.
    pub(super) fn ready_from(
        &self,
        first: &QueueName,
    ) -> impl Iterator<Item = (&QueueName, &BTreeMap<Rank, Number>)> {
        self.queues.range(first..).map(|(name, queue)| (name, &queue.ready))
    }

    fn draw_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// Puts a job into the orders of the state it is in.
    fn enter(&mut self, number: Number) {
        let Some(job) = self.jobs.get(&number) else { return };
        let state = job.record.state.name();
        self.tally.entered(state);
        if !self.queues.contains_key(&job.record.queue) {
            self.queues.insert(job.record.queue.clone(), Queue::default());
        }
        if let Some(queue) = self.queues.get_mut(&job.record.queue) {
            *queue.states.entry(state).or_default() += 1;
            if state == StateName::Enqueued {
                queue.ready.insert(job.rank, number);
                self.hints.work = true;
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
        self.tally.left(state);
        if let Some(queue) = self.queues.get_mut(&job.record.queue) {
            if state == StateName::Enqueued {
                queue.ready.remove(&job.rank);
            }
            if let Some(count) = queue.states.get_mut(&state) {
                *count -= 1;
                if *count == 0 {
                    queue.states.remove(&state);
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
        if let Some(at) = job.expires_at() {
            self.expiring.remove(&(at, number));
        }
    }
}

/// What the history says about a transition.
fn entry(made: &Transition, facts: &Facts, now: Timestamp) -> HistoryEntry {
    // A rescue comes with the error of a poisoned job, whether or not it turns out to be one.
    let error = if made.cause == Cause::Rescued { None } else { facts.error.clone() };
    HistoryEntry {
        revision: made.to.revision,
        state: made.to.state,
        at: now,
        cause: made.cause,
        server: facts.server.clone(),
        attempt: facts.attempt,
        run_at: made.run_at,
        error,
        reason: facts.reason.clone(),
    }
}

/// The state that a transition leads to, with its data.
fn state(made: &Transition, facts: Facts, now: Timestamp) -> JobState {
    let expires_at = made.expires_at;
    match made.to.state {
        StateName::Scheduled => {
            JobState::Scheduled { run_at: made.run_at.unwrap_or(now), cause: made.cause }
        }
        StateName::Awaiting => JobState::Awaiting { pending: 0 },
        StateName::Enqueued => JobState::Enqueued { enqueued_at: now },
        StateName::Processing => {
            let server = facts.server.unwrap_or_else(|| ServerId::new(""));
            JobState::Processing { server, claimed_at: now }
        }
        StateName::Succeeded => JobState::Succeeded {
            succeeded_at: now,
            result: facts.result,
            duration: facts.duration,
            expires_at,
        },
        StateName::Failed => {
            let unknown = || ErrorRecord::new("unknown", "no error was recorded");
            let error = facts.error.unwrap_or_else(unknown);
            JobState::Failed { failed_at: now, error, expires_at }
        }
        StateName::Deleted => JobState::Deleted {
            deleted_at: now,
            reason: facts.reason.unwrap_or_default(),
            error: facts.error,
            expires_at,
        },
    }
}
