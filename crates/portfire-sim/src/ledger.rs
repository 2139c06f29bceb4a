//! What is known of the storage from watching its answers: every job, every server, the totals.
//!
//! The ledger is kept apart from the storage and by other code. After each call it looks at the jobs
//! that may have moved, takes every new line of their histories through the [`invariants`](crate::invariants),
//! and remembers what it saw for the next time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portfire_core::{
    BatchId, BatchRecord, Cause, Claim, Counts, Cycle, CycleRequest, HistoryEntry, JobId,
    JobRecord, JobState, KindName, NewBatch, NewJob, NewServer, QueueName, ServerId, Standing,
    StateName, Timestamp, Verdict,
};

use crate::executor::DomainId;
use crate::handlers;
use crate::invariants::{self as rules, Check, Deed, Invariant, require};
use crate::marks::Marks;
use crate::recurring::RecurringLedger;
use crate::ties::{TieLedger, TieLook};

/// A job as it was last seen.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) standing: Standing,
    pub(crate) holder: Option<ServerId>,
    /// The instant it waits for, or last waited for.
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    at: Timestamp,
    pub(crate) cause: Cause,
    /// Whose finish moved it last, if a finish did.
    finished_by: Option<(ServerId, u32)>,
    /// How its handler behaves.
    pub(crate) kind: Option<handlers::Kind>,
    expected: Option<(Cause, u32)>,
}

impl Entry {
    /// Whether it waits for an instant that has come.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let waits = self.standing.state == StateName::Scheduled;
        waits && self.not_before.is_some_and(|at| at <= now)
    }

    /// Whether it is final and its retention has ended.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.standing.state.is_final() && self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A server as it was last seen.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) domain: DomainId,
    /// The kinds that it states.
    pub(crate) kinds: Vec<KindName>,
    lease: Duration,
    pub(crate) lease_until: Timestamp,
    pub(crate) dead: bool,
    /// How many jobs it held when it was declared dead.
    pub(crate) crashed_with: Option<usize>,
}

/// An attempt that lost its claim while its handler may have been running.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LostClaim {
    /// When, in virtual time.
    pub(crate) at: Duration,
    /// Whether by a delete or another explicit change.
    pub(crate) changed: bool,
}

/// How a job moved, in one line of its history.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) job: JobId,
    pub(crate) from: StateName,
    pub(crate) to: StateName,
    pub(crate) cause: Cause,
    pub(crate) reason: Option<String>,
    pub(crate) attempt: u32,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What clients set out to create, noted before the call.
    pub(crate) asked: BTreeMap<JobId, NewJob>,
    /// What was answered as created.
    pub(crate) promised: BTreeSet<JobId>,
    pub(crate) jobs: BTreeMap<JobId, Entry>,
    pub(crate) servers: BTreeMap<ServerId, Server>,
    pub(crate) cleaned: BTreeSet<JobId>,
    pub(crate) paused: BTreeSet<QueueName>,
    pub(crate) lost: BTreeMap<(JobId, u32), LostClaim>,
    /// To whom each attempt was granted.
    pub(crate) grants: BTreeMap<(JobId, u32), ServerId>,
    /// Attempts whose own finish was applied.
    pub(crate) finished: BTreeSet<(JobId, u32)>,
    /// What each cycle that was applied has claimed.
    claims: BTreeMap<(ServerId, u64), Vec<Claim>>,
    /// What clients set out to create in one call.
    batches: Vec<Vec<JobId>>,
    /// Jobs that somebody deleted, requeued or rescheduled.
    steered: BTreeSet<JobId>,
    /// What is known of recurring jobs.
    pub(crate) recurring: RecurringLedger,
    /// Moves of the call that is being looked at, for marks and the trace.
    pub(crate) moves: Vec<Moved>,
    /// Jobs that the call created, with the states they began in.
    pub(crate) born: Vec<(JobId, StateName)>,
    /// What is known of the ties between them.
    pub(crate) ties: TieLedger,
    recoveries_max: u32,
    totals: Counts,
    storage_now: (Timestamp, Duration),
}

/// The call that is being looked at.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) deed: Deed,
    /// Storage time of the call.
    pub(crate) now: Timestamp,
    /// Virtual time.
    pub(crate) at: Duration,
    /// The cycle, when it was one.
    pub(crate) cycle: Option<&'a CycleRequest>,
    /// How soon a due job is to be promoted, when nothing goes wrong.
    pub(crate) promptly: Option<Duration>,
}

impl Ledger {
    /// Nothing was seen yet.
    pub(crate) fn new(recoveries_max: u32) -> Ledger {
        Ledger { recoveries_max, ..Ledger::default() }
    }

    /// Storage time, when the clock tells this and so much time has passed: the clock or, while that is behind
    /// what it told before, fifteen sixteenths of the time since then.
    pub(crate) fn tick(&mut self, clock: Timestamp, passed: Duration) -> Timestamp {
        let now = self.peek(clock, passed);
        let (at, then) = self.storage_now;
        let since = passed.saturating_sub(then);
        if now > at.saturating_add(since - since / 16) {
            self.storage_now = (now, passed);
        }
        now
    }

    /// Notes what somebody sets out to create in one call.
    pub(crate) fn ask(&mut self, jobs: &[NewJob]) {
        if self.asked.contains_key(&jobs[0].id) {
            return;
        }
        self.asked.extend(jobs.iter().map(|job| (job.id, job.clone())));
        self.batches.push(jobs.iter().map(|job| job.id).collect());
    }

    /// Notes what somebody sets out to create in one call, with ties.
    pub(crate) fn ask_tied(&mut self, batches: &[NewBatch], jobs: &[NewJob]) {
        self.ties.ask(batches, jobs);
        self.ask(jobs);
    }

    /// Whether a job that runs holds this unique key.
    pub(crate) fn is_held_by_running(&self, key: &str) -> bool {
        self.jobs.iter().any(|(&job, entry)| {
            entry.standing.state == StateName::Processing && self.ties.may_hold(key, job, entry)
        })
    }

    /// S14, S15, S20: looks at the ties after a call.
    pub(crate) fn look_at_ties(
        &mut self,
        records: &BTreeMap<BatchId, BatchRecord>,
        look: Look<'_>,
        marks: &Marks,
    ) -> Check {
        let tie_look = TieLook {
            deed: look.deed,
            at: look.at,
            now: look.now,
            jobs: &self.jobs,
            moves: &self.moves,
            born: &self.born,
            asked: &self.asked,
            marks,
        };
        self.ties.look(records, &tie_look)?;
        self.ties.mark(&tie_look);
        Ok(())
    }

    /// Storage time, without a look of the storage at it.
    pub(crate) fn peek(&self, clock: Timestamp, passed: Duration) -> Timestamp {
        let (at, then) = self.storage_now;
        let since = passed.saturating_sub(then);
        at.saturating_add(since - since / 16).max(clock)
    }

    /// Whether somebody deleted, requeued or rescheduled a job.
    pub(crate) fn was_steered(&self, job: JobId) -> bool {
        self.steered.contains(&job)
    }

    /// Jobs that are stored and not final.
    pub(crate) fn unfinished(&self) -> usize {
        self.jobs.values().filter(|entry| !entry.standing.state.is_final()).count()
    }

    /// The jobs in some states.
    pub(crate) fn jobs_in(&self, states: impl Fn(StateName) -> bool) -> Vec<JobId> {
        let wanted = self.jobs.iter().filter(|(_, entry)| states(entry.standing.state));
        wanted.map(|(&job, _)| job).collect()
    }

    /// The jobs that a server holds.
    pub(crate) fn held_by(&self, server: &ServerId) -> Vec<JobId> {
        let held = |entry: &&Entry| entry.holder.as_ref() == Some(server);
        self.jobs.iter().filter(|(_, entry)| held(entry)).map(|(&job, _)| job).collect()
    }

    /// Whether a server is known and was not declared dead.
    pub(crate) fn is_alive(&self, server: &ServerId) -> bool {
        self.servers.get(server).is_some_and(|server| !server.dead)
    }

    /// Whether a server holds a job under this attempt.
    pub(crate) fn holds(&self, server: &ServerId, claim: &Claim) -> bool {
        self.jobs.get(&claim.job).is_some_and(|entry| {
            entry.holder.as_ref() == Some(server) && entry.standing.attempt == claim.attempt
        })
    }

    /// Notes what a cycle has claimed.
    pub(crate) fn note_claims(&mut self, request: &CycleRequest, cycle: &Cycle) {
        let of = (request.server.clone(), request.key);
        let claims = cycle.claimed.iter().map(|job| Claim::new(job.claim.job, job.claim.attempt));
        self.claims.entry(of).or_default().extend(claims);
    }

    /// Whether a cycle with this key was applied.
    pub(crate) fn was_applied(&self, server: &ServerId, key: u64) -> bool {
        self.claims.contains_key(&(server.clone(), key))
    }

    /// What a cycle with this key has claimed and its server still holds.
    pub(crate) fn still_held(&self, server: &ServerId, key: u64) -> Vec<Claim> {
        let claims = self.claims.get(&(server.clone(), key)).cloned().unwrap_or_default();
        claims.into_iter().filter(|claim| self.holds(server, claim)).collect()
    }

    /// Notes a server that was announced.
    pub(crate) fn announced(&mut self, new: &NewServer, domain: DomainId, now: Timestamp) {
        let lease_until = now.saturating_add(new.lease);
        let server = Server {
            domain,
            kinds: new.kinds.clone(),
            lease: new.lease,
            lease_until,
            dead: false,
            crashed_with: None,
        };
        self.servers.insert(new.id.clone(), server);
    }

    /// Notes a renewed lease.
    pub(crate) fn renewed(&mut self, server: &ServerId, now: Timestamp) {
        if let Some(server) = self.servers.get_mut(server) {
            server.lease_until = now.saturating_add(server.lease);
        }
    }

    /// A live server that has a handler of a kind.
    fn having(&self, kind: &str, now: Timestamp) -> Option<&ServerId> {
        let has = |server: &Server| {
            let known = server.kinds.iter().any(|known| known.as_str() == kind);
            !server.dead && server.lease_until > now && (known || server.kinds.is_empty())
        };
        self.servers.iter().find(|(_, server)| has(server)).map(|(id, _)| id)
    }

    /// Notes a death.
    pub(crate) fn died(&mut self, server: &ServerId) {
        let held = self.jobs.values().filter(|entry| entry.holder.as_ref() == Some(server)).count();
        if let Some(server) = self.servers.get_mut(server) {
            server.dead = true;
            server.crashed_with = Some(held);
        }
    }

    /// Looks at a job after a call; `record` is `None` when it is not stored.
    pub(crate) fn look(
        &mut self,
        job: JobId,
        record: Option<&JobRecord>,
        history: impl FnOnce() -> Vec<HistoryEntry>,
        look: Look<'_>,
    ) -> Check {
        match (self.jobs.get(&job), record) {
            (None, None) => Ok(()),
            (Some(entry), None) => {
                rules::s18_only_the_expired_go(
                    job,
                    entry.standing.state,
                    entry.expires_at,
                    look.now,
                )?;
                self.jobs.remove(&job);
                self.cleaned.insert(job);
                self.totals.cleaned_total += 1;
                Ok(())
            }
            (None, Some(record)) => {
                self.first_look(record, &history(), look)?;
                self.compare(record)
            }
            (Some(entry), Some(record)) => {
                if entry.standing.revision != record.revision {
                    let seen = entry.standing.revision;
                    for line in history().iter().filter(|line| line.revision > seen) {
                        self.follow(job, line, record, look)?;
                    }
                }
                self.compare(record)
            }
        }
    }

    /// S2: a job is stored as it was asked for.
    fn first_look(
        &mut self,
        record: &JobRecord,
        history: &[HistoryEntry],
        look: Look<'_>,
    ) -> Check {
        let job = record.id;
        let Some(asked) = self.asked.get_mut(&job) else {
            return require(Invariant::S2, false, || format!("job {job} was asked for by nobody"));
        };
        if let (Some(asked_for), Some(stored)) = (&asked.ties.occurrence, &record.ties.occurrence) {
            // A run may wait for the run before; one by hand bears the instant of its creation.
            let same = (&asked_for.recurring, asked_for.triggered)
                == (&stored.recurring, stored.triggered)
                && (stored.triggered || asked_for.planned_at == stored.planned_at);
            require(Invariant::S13, same, || format!("job {job} is another run: {stored:?}"))?;
            asked.ties = record.ties.clone();
        }
        let whole = asked.kind == record.kind
            && asked.args == record.args
            && asked.queue == record.queue
            && asked.priority == record.priority
            && asked.options == record.options
            && asked.ties == record.ties;
        require(Invariant::S2, whole, || format!("job {job} is not as it was asked for"))?;
        let run_at = asked.when.resolve(look.now).unwrap_or_default();
        // Whether it rightly waits for others is a rule of its own.
        let awaits = !asked.ties.after.is_empty() || asked.ties.batch.is_some();
        let awaits =
            awaits && history.first().is_some_and(|line| line.state == StateName::Awaiting);
        let run_at = run_at.filter(|_| !awaits);
        let first = match run_at {
            _ if awaits => StateName::Awaiting,
            Some(_) => StateName::Scheduled,
            None => StateName::Enqueued,
        };
        let begun = history.first().is_some_and(|line| {
            (line.revision, line.cause, line.state) == (1, Cause::Created, first)
                && line.run_at == run_at
                && line.at == look.now
        });
        let creates = matches!(look.deed, Deed::Create | Deed::Fire | Deed::Recurring);
        require(Invariant::S2, begun && creates, || {
            format!(
                "job {job} began as {:?} by {:?}; {first} was asked for",
                history.first(),
                look.deed
            )
        })?;
        let standing = Standing {
            state: first,
            revision: 1,
            attempt: 0,
            failures: 0,
            recoveries: 0,
            crashes: 0,
        };
        let kind = handlers::Kind::named(record.kind.as_str());
        let entry = Entry {
            standing,
            holder: None,
            not_before: run_at,
            expires_at: None,
            at: look.now,
            cause: Cause::Created,
            finished_by: None,
            kind,
            expected: kind.and_then(|kind| kind.expected(&record.args)),
        };
        self.jobs.insert(job, entry);
        self.born.push((job, first));
        self.totals.created_total += 1;
        for line in history.iter().skip(1) {
            self.follow(job, line, record, look)?;
        }
        Ok(())
    }

    /// Takes one new line of a history through the rules.
    fn follow(
        &mut self,
        job: JobId,
        line: &HistoryEntry,
        record: &JobRecord,
        look: Look<'_>,
    ) -> Check {
        let Some(entry) = self.jobs.get(&job) else { return Ok(()) };
        let before = entry.standing;
        rules::s10_final_is_final(job, before.state, line.cause)?;
        rules::s9_history_goes_on(job, (&before, entry.at), line, look.deed)?;
        rules::s16_not_early(job, line.cause, entry.not_before, look.now)?;
        rules::s12_poison_is_bounded(job, line, &before, self.recoveries_max)?;
        rules::s12_no_other_is_poison(job, line.cause, entry.kind)?;
        let (holder, entry_kind) = (entry.holder.clone(), entry.kind);
        if matches!(line.cause, Cause::Rescued | Cause::Poisoned)
            && let Some(holder) = &holder
        {
            let crashed_with = self.servers.get(holder).and_then(|server| server.crashed_with);
            rules::s12_one_alone_is_blamed(job, line, crashed_with)?;
            let lease_until = self.servers.get(holder).map(|server| server.lease_until);
            let lease_until = lease_until.unwrap_or(Timestamp::MAX);
            let dead = self.servers.get(holder).is_some_and(|server| server.dead);
            if !dead {
                rules::s5_the_living_keep_their_jobs(job, holder, lease_until, look.now)?;
            }
        }
        let finished_by = self.finisher(job, line, look);
        if finished_by.is_some() {
            self.finished.insert((job, before.attempt));
        }
        if let Some(bound) = look.promptly.filter(|_| line.cause == Cause::Promoted) {
            let waited = entry.not_before.map_or(Duration::ZERO, |at| look.now.since(at));
            rules::l2_nothing_waits_for_nothing(job, "promoted", waited, bound)?;
        }
        let after = rules::s11_counted(&before, line);
        let expected = self.jobs.get(&job).and_then(|entry| entry.expected);
        let own_end = matches!(line.cause, Cause::Succeeded | Cause::Failed | Cause::Discarded);
        let unhandled = line.cause == Cause::Failed && before.state == StateName::Enqueued;
        if unhandled && let Some(kind) = entry_kind {
            let kind = kind.name();
            rules::s27_nobody_has_the_kind(job, kind, self.having(kind, look.now))?;
        }
        if let Some(expected) = expected.filter(|_| own_end && !unhandled) {
            rules::s11_ends_as_its_handler_does(job, expected, (line.cause, after.failures))?;
        }
        self.count(line);
        let by_hand = matches!(look.deed, Deed::Change | Deed::Batch);
        if by_hand || (line.cause == Cause::Rescheduled && look.deed == Deed::Create) {
            self.steered.insert(job);
        }
        if before.state == StateName::Processing && finished_by.is_none() {
            let changed = line.cause == Cause::Deleted;
            self.lost.insert((job, before.attempt), LostClaim { at: look.at, changed });
        }
        if let Some(server) = line.server.as_ref().filter(|_| line.cause == Cause::Claimed) {
            self.grants.insert((job, after.attempt), server.clone());
        }
        let Some(entry) = self.jobs.get_mut(&job) else { return Ok(()) };
        self.moves.push(Moved {
            job,
            from: before.state,
            to: line.state,
            cause: line.cause,
            reason: line.reason.clone(),
            attempt: before.attempt,
        });
        entry.standing = after;
        entry.at = line.at;
        entry.cause = line.cause;
        entry.finished_by = finished_by;
        entry.holder = line.server.clone().filter(|_| line.cause == Cause::Claimed);
        entry.not_before = match line.cause {
            Cause::Requeued => None,
            _ => line.run_at.or(entry.not_before),
        };
        entry.expires_at = expires_at(record).filter(|_| line.revision == record.revision);
        Ok(())
    }

    /// Whose finish, of which attempt, wrote a line; `None` when no finish did.
    fn finisher(&self, job: JobId, line: &HistoryEntry, look: Look<'_>) -> Option<(ServerId, u32)> {
        let cycle = look.cycle.filter(|_| line.cause != Cause::Claimed)?;
        let finish = cycle.finished.iter().find(|finish| finish.claim.job == job)?;
        Some((cycle.server.clone(), finish.claim.attempt))
    }

    /// S9, S11: the record is what its history leads to, and nothing else has changed.
    fn compare(&self, record: &JobRecord) -> Check {
        let Some(entry) = self.jobs.get(&record.id) else { return Ok(()) };
        let JobRecord { revision, attempt, failures, recoveries, crashes, .. } = *record;
        let state = record.state.name();
        let stored = Standing { state, revision, attempt, failures, recoveries, crashes };
        rules::s11_counters_follow_history(record.id, &entry.standing, &stored)?;
        let holder = match &record.state {
            JobState::Processing { server, .. } => Some(server),
            _ => None,
        };
        require(Invariant::S5, holder == entry.holder.as_ref(), || {
            format!("job {}: held by {holder:?}, granted to {:?}", record.id, entry.holder)
        })
    }

    fn count(&mut self, line: &HistoryEntry) {
        match line.cause {
            Cause::Retried => self.totals.retried_total += 1,
            Cause::Rescued => self.totals.recovered_total += 1,
            _ => {}
        }
        match line.state {
            StateName::Succeeded => self.totals.succeeded_total += 1,
            StateName::Failed => self.totals.failed_total += 1,
            StateName::Deleted => self.totals.deleted_total += 1,
            _ => {}
        }
    }

    /// S6: whether a finish would be right to be applied, or to be a repetition. Asked before the call.
    pub(crate) fn foresee(&self, server: &ServerId, claim: &Claim) -> (bool, bool, bool) {
        let Some(entry) = self.jobs.get(&claim.job) else { return (false, false, false) };
        let ended = entry
            .finished_by
            .as_ref()
            .is_some_and(|(by, attempt)| by == server && *attempt == claim.attempt);
        (true, self.holds(server, claim), ended)
    }

    /// S17: the counters are what was counted here.
    pub(crate) fn s17_counters_add_up(&self, counts: &Counts) -> Check {
        let mut recounted = self.totals.clone();
        recounted.states = StateName::ALL.into_iter().map(|state| (state, 0)).collect();
        for entry in self.jobs.values() {
            *recounted.states.entry(entry.standing.state).or_default() += 1;
        }
        require(Invariant::S17, recounted == *counts, || {
            format!("recounted {recounted:?}, counted {counts:?}")
        })
    }

    /// S1: what was promised is stored, or was cleaned.
    pub(crate) fn s1_nothing_is_lost(&self) -> Check {
        let lost = |job: &&JobId| !self.jobs.contains_key(job) && !self.cleaned.contains(job);
        let lost = self.promised.iter().find(lost);
        require(Invariant::S1, lost.is_none(), || format!("job {lost:?} was promised and is gone"))
    }

    /// S2: what was asked for in one call is there altogether, or not at all.
    pub(crate) fn s2_creates_are_whole(&self) -> Check {
        let there = |job: &JobId| self.jobs.contains_key(job) || self.cleaned.contains(job);
        let torn = |batch: &&Vec<JobId>| {
            // One whose unique key is held by another is not stored.
            let rejectable =
                |job: &JobId| self.asked.get(job).is_some_and(|asked| asked.ties.unique.is_some());
            let stored = batch.iter().filter(|job| there(job)).count();
            stored != 0 && batch.iter().any(|job| !there(job) && !rejectable(job))
        };
        let torn = self.batches.iter().find(torn);
        require(Invariant::S2, torn.is_none(), || format!("of {torn:?} some are stored, some not"))
    }

    /// Notes what was answered to a create. S1: it is stored, or was and is cleaned.
    pub(crate) fn promised(&mut self, job: JobId) -> Check {
        self.promised.insert(job);
        let known = self.jobs.contains_key(&job) || self.cleaned.contains(&job);
        require(Invariant::S1, known, || format!("job {job} was promised and is not stored"))
    }

    /// S6: what a verdict says is what was foreseen, and what was applied is written as it was said.
    pub(crate) fn judge(
        &self,
        finish: &portfire_core::Finish,
        foreseen: (bool, bool, bool),
        verdict: Verdict,
    ) -> Check {
        let (stored, held, ended) = foreseen;
        rules::s6_the_holder_alone_finishes(finish, stored, held, ended, verdict)?;
        let job = finish.claim.job;
        let written = self.moves.iter().find(|moved| moved.job == job);
        match (verdict, written, rules::cause_of(&finish.outcome)) {
            (Verdict::Applied, Some(moved), Some(said)) => {
                rules::s6_a_finish_is_what_it_says(job, said, moved.cause)
            }
            (Verdict::Applied, None, _) => require(Invariant::S6, false, || {
                format!("the finish of job {job} was applied and left no trace")
            }),
            _ => Ok(()),
        }
    }
}

fn expires_at(record: &JobRecord) -> Option<Timestamp> {
    match record.state {
        JobState::Succeeded { expires_at, .. }
        | JobState::Failed { expires_at, .. }
        | JobState::Deleted { expires_at, .. } => expires_at,
        _ => None,
    }
}
