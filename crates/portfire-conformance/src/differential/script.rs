//! Writes a sequence of operations, one at a time, and learns from the answers what there is to
//! act on: jobs, servers, claims, batches, recurring jobs, locks.

mod creation;
mod rules;
mod speech;

use std::collections::VecDeque;
use std::time::Duration;

use portfire_core::{
    Action, BatchChange, BatchId, Change, Claim, ClaimRequest, ClaimedJob, Clock, Cycle,
    CycleRequest, ErrorRecord, Expect, Finish, Fire, JobFilter, JobId, Json, KindName, ManualClock,
    NewJob, NewServer, Outcome, QueueName, RecurringId, RescueRequest, ServerId, StateName,
    Timestamp, Verdict, When,
};

use super::operation::{Answer, Operation};
use super::scope::Scope;
use crate::random::Random;

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Leases, delays, retentions and moves of the clock share their sizes, so that instants meet.
const SHORT: [Duration; 7] =
    [micros(0), micros(1), micros(1_500), seconds(1), seconds(5), seconds(10), seconds(30)];
const LONG: [Duration; 6] = [
    seconds(60),
    seconds(600),
    seconds(3_600),
    seconds(86_400),
    seconds(2 * 86_400),
    seconds(401 * 86_400),
];
const LEASES: [Duration; 3] = [seconds(5), seconds(10), seconds(30)];
const QUEUES: [&str; 4] = ["default", "mail", "a-1", "zz"];
const KINDS: [&str; 2] = ["send_welcome", "Report.build"];
/// How long jobs of a kind without a server wait.
const GRACES: [Duration; 3] =
    [Duration::from_secs(20), Duration::from_secs(60), Duration::from_secs(86_400)];

/// One sequence.
pub(super) struct Script {
    random: Random,
    scope: Scope,
    start: Timestamp,
    /// Jobs that were stored.
    jobs: Vec<NewJob>,
    /// Jobs that were stored because of a schedule.
    runs: Vec<JobId>,
    created: u64,
    /// Batches that were stored.
    batches: Vec<BatchId>,
    /// Those of them that take members, as far as is known.
    taking: Vec<BatchId>,
    /// Recurring jobs that are stored, as far as is known.
    recurring: Vec<RecurringId>,
    /// Plans that were made.
    plans: Vec<Fire>,
    /// Fences that were given out, with the names of their locks.
    fences: Vec<(String, u64)>,
    servers: Vec<NewServer>,
    /// Servers that are alive, as far as is known.
    alive: Vec<ServerId>,
    /// Claims that were given out and not finished, as far as is known.
    held: Vec<(ServerId, Claim)>,
    /// Claims that were finished.
    ended: Vec<(ServerId, Claim)>,
    /// Jobs that were to fail, for whose success others may wait.
    failed: Vec<JobId>,
    /// Cycles that were sent.
    cycles: Vec<CycleRequest>,
    keys: u64,
    /// Whether much time has passed and nothing was done about it yet.
    late: bool,
    /// What comes next in any case.
    planned: VecDeque<Operation>,
    /// Whether some operations stand together.
    together: bool,
    /// Whether the operation that is being written joins others, whose answers are not known.
    in_company: bool,
    /// What those create, as it seems.
    expected: Vec<Operation>,
}

/// Most operations that stand together.
const TOGETHER_MAX: usize = 6;

impl Script {
    pub(super) fn new(seed: u64, scope: Scope) -> Script {
        let mut random = Random::new(seed);
        let scope = some_of(scope, &mut random);
        Script {
            random,
            scope,
            start: ManualClock::default().now(),
            jobs: Vec::new(),
            runs: Vec::new(),
            created: 0,
            batches: Vec::new(),
            taking: Vec::new(),
            recurring: Vec::new(),
            plans: Vec::new(),
            fences: Vec::new(),
            servers: Vec::new(),
            alive: Vec::new(),
            held: Vec::new(),
            ended: Vec::new(),
            failed: Vec::new(),
            cycles: Vec::new(),
            keys: 0,
            late: false,
            planned: VecDeque::new(),
            together: false,
            in_company: false,
            expected: Vec::new(),
        }
    }

    /// A sequence in which some operations stand together.
    pub(super) fn together(seed: u64, scope: Scope) -> Script {
        Script { together: true, ..Script::new(seed, scope) }
    }

    pub(super) fn next(&mut self) -> Operation {
        let first = self.next_one();
        if !self.together || !first.can_share() || self.random.chance(25) {
            return first;
        }
        let mut group = vec![first];
        self.in_company = true;
        for _ in 0..1 + self.random.below(TOGETHER_MAX - 1) {
            self.expect(&group[group.len() - 1].clone());
            let next = self.next_one();
            if !next.can_share() {
                self.planned.push_front(next);
                break;
            }
            group.push(next);
        }
        self.in_company = false;
        Operation::Together(group)
    }

    /// Takes note of what an operation is likely to store, for those that stand together with it.
    fn expect(&mut self, operation: &Operation) {
        if let Operation::Create(batches, jobs) = operation {
            self.expected.push(operation.clone());
            self.jobs.extend(jobs.iter().cloned());
            self.batches.extend(batches.iter().map(|batch| batch.id));
            self.taking.extend(batches.iter().map(|batch| batch.id));
        }
    }

    /// Forgets what was expected of an operation.
    fn forget(&mut self, operation: &Operation) {
        if let Operation::Create(batches, jobs) = operation {
            for job in jobs {
                if let Some(place) = self.jobs.iter().rposition(|known| known.id == job.id) {
                    self.jobs.remove(place);
                }
            }
            for batch in batches {
                self.batches.retain(|known| *known != batch.id);
                self.taking.retain(|known| *known != batch.id);
            }
        }
    }

    fn next_one(&mut self) -> Operation {
        if let Some(planned) = self.planned.pop_front() {
            return planned;
        }
        if self.alive.is_empty() {
            return self.announce_new();
        }
        if self.jobs.is_empty() {
            return self.create();
        }
        if self.in_company {
            // What looks at everything meets what was only just written.
            match self.random.below(100) {
                0..6 => return Operation::Clean(u32::MAX),
                6..11 => return Operation::Rescue(RescueRequest::default()),
                11..17 => return Operation::Promote(u32::MAX),
                _ => {}
            }
        }
        if std::mem::take(&mut self.late) {
            if self.together && self.random.chance(60) {
                return self.just_in_time();
            }
            match self.random.below(5) {
                0..2 => return Operation::Clean(self.small_max()),
                2 => return self.rescue(),
                3 => return Operation::Promote(self.small_max()),
                _ => {}
            }
        }
        if self.random.chance(25)
            && let Some(operation) = self.rule()
        {
            return operation;
        }
        match self.random.below(100) {
            0..14 => self.create(),
            14..51 => self.cycle(),
            51..60 => self.change(),
            60..66 => Operation::Promote(self.small_max()),
            66..78 => self.move_clock(),
            78..82 => self.announce(),
            82..85 => {
                let (server, held, located) = self.holding();
                Operation::Heartbeat { server, held, located }
            }
            85..87 => {
                let (server, held, located) = self.holding();
                Operation::Verify { server, held, located }
            }
            87..89 => Operation::Retire(self.server()),
            89..92 => self.rescue(),
            92..94 => Operation::Clean(self.small_max()),
            94..96 => Operation::Pause(self.queue(), self.random.chance(40)),
            96..98 => Operation::Look(self.job(), self.scope),
            _ => Operation::List(self.filter()),
        }
    }

    /// What is done at the last moment, and then what would have come to pass without it.
    fn just_in_time(&mut self) -> Operation {
        if self.random.chance(50) {
            let seal = |batch: &BatchId| Operation::ChangeBatch(*batch, BatchChange::Seal);
            let mut sealed = self.taking.iter().rev().take(4).map(seal);
            let first = sealed.next();
            self.planned.extend(sealed);
            self.planned.push_back(Operation::Clean(u32::MAX));
            if let Some(first) = first {
                return first;
            }
        } else {
            self.planned.push_back(Operation::Rescue(RescueRequest::default()));
        }
        self.cycle()
    }

    /// Takes note of an answer, which both storages gave.
    pub(super) fn learn(&mut self, operation: &Operation, answer: &Answer) {
        match (operation, answer) {
            (Operation::Together(group), Answer::Together(answers)) => {
                std::mem::take(&mut self.expected).iter().for_each(|one| self.forget(one));
                for (operation, answer) in group.iter().zip(answers) {
                    self.learn(operation, answer);
                }
            }
            (Operation::Create(batches, jobs), Answer::Created(created)) => {
                let new = jobs.iter().zip(created).filter(|(_, created)| !created.existing);
                self.jobs.extend(new.map(|(job, _)| job.clone()));
                self.batches.extend(batches.iter().map(|batch| batch.id));
                self.taking.extend(batches.iter().map(|batch| batch.id));
            }
            // Mostly because a batch takes no members any more.
            (Operation::Create(_, jobs), Answer::Error(_)) => {
                let named: Vec<_> = jobs.iter().filter_map(|job| job.ties.batch).collect();
                self.taking.retain(|batch| !named.contains(batch));
            }
            (Operation::Announce(server), Answer::Done) if !self.alive.contains(&server.id) => {
                self.alive.push(server.id.clone());
            }
            (Operation::Retire(server), _) => self.lose(server),
            (_, Answer::Rescued { total, .. }) => {
                total.dead.iter().for_each(|server| self.lose(server));
            }
            (Operation::Cycle { request, .. }, Answer::Cycled(cycle)) => {
                self.learn_cycle(request, cycle);
            }
            _ => self.learn_rule(operation, answer),
        }
    }

    fn learn_cycle(&mut self, request: &CycleRequest, cycle: &Cycle) {
        for (finish, verdict) in request.finished.iter().zip(&cycle.verdicts) {
            if *verdict == Verdict::Applied {
                self.held.retain(|(_, claim)| *claim != finish.claim);
                self.ended.push((request.server.clone(), finish.claim));
            }
        }
        for ClaimedJob { claim, .. } in &cycle.claimed {
            let held = (request.server.clone(), *claim);
            if !self.held.contains(&held) {
                self.held.push(held);
            }
        }
    }

    fn lose(&mut self, server: &ServerId) {
        self.alive.retain(|alive| alive != server);
        let held = self.held.iter().filter(|(holder, _)| holder == server).cloned();
        self.ended.extend(held);
        self.held.retain(|(holder, _)| holder != server);
    }

    fn announce(&mut self) -> Operation {
        match self.random.recent(&self.servers).cloned() {
            Some(server) if self.random.chance(50) => Operation::Announce(server),
            _ => self.announce_new(),
        }
    }

    fn announce_new(&mut self) -> Operation {
        let name = format!("web-{}", self.servers.len() + 1);
        let server = NewServer {
            kinds: self.some_kinds(),
            id: ServerId::new(format!("{name}:4711")),
            name,
            queues: QUEUES[..self.random.below(4)].iter().map(|q| QueueName::stored(*q)).collect(),
            workers: self.random.below(20) as u32,
            lease: self.random.pick(&LEASES),
        };
        self.servers.push(server.clone());
        Operation::Announce(server)
    }

    /// Some kinds or none, and none where the counters of kinds are not compared.
    fn some_kinds(&mut self) -> Vec<KindName> {
        let mut kinds = KINDS.to_vec();
        kinds.retain(|_| self.scope.kinds && self.random.chance(50));
        kinds.into_iter().map(KindName::stored).collect()
    }

    fn cycle(&mut self) -> Operation {
        let located = self.random.chance(70);
        if self.random.chance(10)
            && let Some(sent) = self.random.recent(&self.cycles)
        {
            let request = CycleRequest { repeated: true, ..sent.clone() };
            return Operation::Cycle { request, located };
        }
        self.keys += 1;
        let server = self.server();
        let mut request = CycleRequest::new(server.clone(), self.keys);
        // A first sending whose request was lost comes as a repeat of nothing.
        request.repeated = self.random.chance(4);
        let own = self.held.iter().filter(|(holder, _)| *holder == server).count();
        let odd = usize::from(self.random.chance(25));
        for _ in 0..self.random.below(own.min(4) + 1) + odd {
            request.finished.push(self.finish(&server));
        }
        if self.scope.notes {
            self.speak(&mut request);
        }
        if self.random.chance(75) {
            request.claim = Some(self.wish());
        }
        self.cycles.push(request.clone());
        Operation::Cycle { request, located }
    }

    fn wish(&mut self) -> ClaimRequest {
        let mut queues: Vec<QueueName> = QUEUES.map(QueueName::stored).to_vec();
        for _ in 0..3 {
            let (one, other) = (self.random.below(4), self.random.below(4));
            queues.swap(one, other);
        }
        queues.truncate(1 + self.random.below(4));
        if self.random.chance(10) {
            queues.push(queues[0].clone());
            queues.insert(0, QueueName::stored("unheard-of"));
        }
        let aged = self.scope.aging && self.random.chance(30);
        let aging = aged.then(|| self.wait());
        ClaimRequest { queues, max: self.random.pick(&[0, 1, 1, 2, 3, 7, u32::MAX]), aging }
    }

    fn finish(&mut self, server: &ServerId) -> Finish {
        let mut claim = self.claim_of(server);
        if self.random.chance(4) {
            claim.attempt = self.random.pick(&[0, claim.attempt + 1, u32::MAX]);
        }
        let outcome = self.outcome();
        if matches!(outcome, Outcome::Failed { .. }) {
            self.failed.push(claim.job);
        }
        Finish { claim, outcome, duration: self.wait() }
    }

    fn outcome(&mut self) -> Outcome {
        let delay = self.wait();
        let error = ErrorRecord::new("app::Timeout", "it took ' \" too long\n");
        match self.random.below(12) {
            0..3 => Outcome::Succeeded {
                result: self.random.chance(50).then(|| Json::stored("{\"rows\": 1}")),
            },
            3..5 => Outcome::Retry { delay, error },
            5..7 => Outcome::Failed { error },
            7 => Outcome::Snoozed { delay },
            8 => Outcome::Parked { delay },
            9 => Outcome::Released,
            _ => Outcome::Discarded {
                reason: "out of date".to_owned(),
                error: self.random.chance(50).then_some(error),
            },
        }
    }

    fn change(&mut self) -> Operation {
        let mut changes = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let action = match self.random.below(10) {
                0..4 => Action::Requeue,
                4..7 => Action::Delete { reason: "by hand".to_owned() },
                7 => Action::Reschedule(When::Now),
                8 => Action::Reschedule(When::In(self.wait())),
                _ => Action::Reschedule(When::At(self.instant())),
            };
            let expect = match self.random.below(10) {
                0..7 => None,
                7 => Some(Expect::Revision(1 + self.random.below(6) as u32)),
                _ => {
                    let states = 0..self.random.below(4);
                    let states = states.map(|_| self.random.pick(&StateName::ALL)).collect();
                    Some(Expect::States(states))
                }
            };
            changes.push(Change { job: self.job(), action, expect });
        }
        if !self.failed.is_empty() && self.random.chance(40) {
            // As an operator does who has repaired the cause, or gives it up.
            let job = self.random.pick(&self.failed);
            let give_up = Action::Delete { reason: "not to be repaired".to_owned() };
            let action = if self.random.chance(75) { Action::Requeue } else { give_up };
            let expect = Some(Expect::States(vec![StateName::Failed]));
            changes.push(Change { job, action, expect });
        }
        if self.random.chance(4) {
            changes[0].action = Action::Reschedule(When::In(Duration::MAX));
        }
        Operation::Change(changes)
    }

    fn rescue(&mut self) -> Operation {
        let recoveries_max = self.random.pick(&[0, 1, 3]);
        // As short as the steps of time, so that it ends now and then.
        let unknown_kind_grace = self.random.pick(&GRACES);
        let max = self.small_max();
        Operation::Rescue(RescueRequest { recoveries_max, max, unknown_kind_grace })
    }

    fn move_clock(&mut self) -> Operation {
        match self.random.below(20) {
            0..16 => Operation::Forward(self.random.pick(&SHORT)),
            16..18 => {
                self.late = true;
                Operation::Forward(self.random.pick(&LONG))
            }
            _ => Operation::Back(self.random.pick(&[seconds(1), seconds(30), seconds(3_600)])),
        }
    }

    fn filter(&mut self) -> JobFilter {
        let mut filter = JobFilter { max: self.random.pick(&[0, 1, 3]), ..JobFilter::default() };
        if self.random.chance(60) {
            filter.state = Some(self.random.pick(&StateName::ALL));
        }
        if self.random.chance(40) {
            filter.queue = Some(self.queue());
        }
        if self.random.chance(25) {
            filter.kind = Some(KindName::stored(self.random.pick(&KINDS)));
        }
        if self.random.chance(15) {
            let text = self.job().to_string();
            let shown = self.random.pick(&[0, 1, 8, 12, 14, 36]);
            filter.id_prefix = Some(text[..shown].to_owned());
        }
        if self.scope.batches && self.random.chance(25) {
            filter.batch = self.random.recent(&self.batches).copied();
        }
        filter
    }

    fn holding(&mut self) -> (ServerId, Vec<Claim>, bool) {
        let server = self.server();
        let held = (0..self.random.below(5)).map(|_| self.claim_of(&server)).collect();
        (server, held, self.random.chance(70))
    }

    /// Mostly a claim that the server holds; else one that it held, or one of another server.
    fn claim_of(&mut self, server: &ServerId) -> Claim {
        // It may have been claimed by one of those that this stands together with.
        if self.in_company && self.random.chance(30) {
            return Claim::new(self.job(), 1);
        }
        let of_server = |claims: &[(ServerId, Claim)]| -> Vec<Claim> {
            claims.iter().filter(|(by, _)| by == server).map(|(_, claim)| *claim).collect()
        };
        let own = of_server(&self.held);
        let found = match self.random.below(20) {
            0..16 if !own.is_empty() => self.random.recent(&own).copied(),
            0..18 => {
                let ended = of_server(&self.ended);
                self.random.recent(&ended).copied()
            }
            _ => self.random.recent(&self.held).map(|(_, claim)| *claim),
        };
        found.unwrap_or_else(|| Claim::new(self.job(), 1))
    }

    fn server(&mut self) -> ServerId {
        let dead = self.random.recent(&self.servers).map(|server| server.id.clone());
        let alive = self.random.recent(&self.alive).cloned();
        let found = match self.random.below(40) {
            0 => None,
            1..3 => dead,
            _ => alive,
        };
        found.unwrap_or_else(|| ServerId::new("never-announced"))
    }

    fn job(&mut self) -> JobId {
        let unknown = self.random.chance(3);
        let known = match self.random.recent(&self.runs) {
            Some(run) if self.random.chance(15) => Some(*run),
            _ => self.random.recent(&self.jobs).map(|job| job.id),
        };
        known.filter(|_| !unknown).unwrap_or(JobId::from_bytes([7; 16]))
    }

    fn queue(&mut self) -> QueueName {
        QueueName::stored(self.random.pick(&QUEUES))
    }

    fn wait(&mut self) -> Duration {
        if self.random.chance(85) { self.random.pick(&SHORT) } else { self.random.pick(&LONG) }
    }

    /// An instant around the time of the sequence, or at the end of all time.
    fn instant(&mut self) -> Timestamp {
        match self.random.below(8) {
            0 => Timestamp::MIN,
            1 => Timestamp::MAX,
            2 => self.start.saturating_sub(self.wait()),
            _ => self.start.saturating_add(self.wait()),
        }
    }

    fn small_max(&mut self) -> u32 {
        self.random.pick(&[0, 1, 2, 5, 1_000, u32::MAX])
    }
}

/// Some groups of a scope: a sequence of all of them meets none of them often.
fn some_of(scope: Scope, random: &mut Random) -> Scope {
    let mut keep = |group: bool| group && random.chance(55);
    Scope {
        continuations: keep(scope.continuations),
        batches: keep(scope.batches),
        unique: keep(scope.unique),
        limits: keep(scope.limits),
        aging: keep(scope.aging),
        recurring: keep(scope.recurring),
        locks: keep(scope.locks),
        notes: keep(scope.notes),
        kinds: scope.kinds,
    }
}

impl Random {
    /// True so many times in a hundred.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these, if there is one; the later ones are likelier.
    fn recent<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let window = if self.chance(70) { choices.len().min(6) } else { choices.len() };
        let place = self.below(window.max(1));
        choices.get(choices.len() - window + place)
    }
}
