//! Writes a sequence of operations, one at a time, and learns from the answers what there is to
//! act on: jobs, servers, claims.

use std::time::Duration;

use portfire_core::{
    Action, Backoff, Change, Claim, ClaimRequest, ClaimedJob, Clock, Cycle, CycleRequest,
    ErrorRecord, Expect, Finish, JobFilter, JobId, JobOptions, Json, KindName, ManualClock, NewJob,
    NewServer, Outcome, QueueName, RescueRequest, Retention, RetryPolicy, ServerId, StateName,
    Timestamp, Verdict, When,
};

use super::operation::{Answer, Operation};
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

/// One sequence.
pub(super) struct Script {
    random: Random,
    start: Timestamp,
    /// Jobs that were stored.
    jobs: Vec<NewJob>,
    created: u64,
    servers: Vec<NewServer>,
    /// Servers that are alive, as far as is known.
    alive: Vec<ServerId>,
    /// Claims that were given out and not finished, as far as is known.
    held: Vec<(ServerId, Claim)>,
    /// Claims that were finished.
    ended: Vec<(ServerId, Claim)>,
    /// Cycles that were sent.
    cycles: Vec<CycleRequest>,
    keys: u64,
    /// Whether much time has passed and nothing was done about it yet.
    late: bool,
}

impl Script {
    pub(super) fn new(seed: u64) -> Script {
        Script {
            random: Random::new(seed),
            start: ManualClock::default().now(),
            jobs: Vec::new(),
            created: 0,
            servers: Vec::new(),
            alive: Vec::new(),
            held: Vec::new(),
            ended: Vec::new(),
            cycles: Vec::new(),
            keys: 0,
            late: false,
        }
    }

    pub(super) fn next(&mut self) -> Operation {
        if self.alive.is_empty() {
            return self.announce_new();
        }
        if self.jobs.is_empty() {
            return self.create();
        }
        if std::mem::take(&mut self.late) {
            match self.random.below(5) {
                0..2 => return Operation::Clean(self.small_max()),
                2 => return self.rescue(),
                3 => return Operation::Promote(self.small_max()),
                _ => {}
            }
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
            96..98 => Operation::Look(self.job()),
            _ => Operation::List(self.filter()),
        }
    }

    /// Takes note of an answer, which both storages gave.
    pub(super) fn learn(&mut self, operation: &Operation, answer: &Answer) {
        match (operation, answer) {
            (Operation::Create(jobs), Answer::Created(created)) => {
                let new = jobs.iter().zip(created).filter(|(_, created)| !created.existing);
                self.jobs.extend(new.map(|(job, _)| job.clone()));
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
            _ => {}
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

    fn create(&mut self) -> Operation {
        let mut jobs = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            // Again one that is stored, or one of this very call.
            let again = match self.random.below(24) {
                0 => self.random.recent(&self.jobs).cloned(),
                1 => self.random.recent(&jobs).cloned(),
                _ => None,
            };
            jobs.push(again.unwrap_or_else(|| self.new_job()));
        }
        // One fault in a call at most: which of two is told is the storage's choice.
        if self.random.chance(6) {
            let place = self.random.below(jobs.len());
            self.spoil(&mut jobs[place]);
        }
        Operation::Create(jobs)
    }

    fn new_job(&mut self) -> NewJob {
        self.created += 1;
        let number = self.created;
        let at = self.start.saturating_add(Duration::from_millis(number));
        let id = JobId::from_parts(at, u128::from(self.random.number()));
        let kind = KindName::stored(self.random.pick(&KINDS));
        let args = Json::stored(format!("{{\"n\": {number},\"text\":\"é\\u0000 ' \\\" \"}}"));
        let mut job = NewJob::new(id, kind, args);
        job.queue = self.queue();
        job.priority = self.random.pick(&[0, 0, 0, 0, 1, -1, 5, i16::MAX, i16::MIN]);
        job.when = match self.random.below(10) {
            0..7 => When::Now,
            7..9 => When::In(self.wait()),
            _ => When::At(self.instant()),
        };
        if self.random.chance(30) {
            job.options = self.options();
        }
        job
    }

    fn options(&mut self) -> JobOptions {
        let mut options = JobOptions::default();
        match self.random.below(4) {
            0 => options.tags = vec!["eu".to_owned(), "päivä".to_owned()],
            1 => {
                options.metadata.insert("key".to_owned(), "a 'value'\n".to_owned());
                options.timeout = Some(self.wait());
            }
            2 => {
                let backoff = Backoff::Exponential { base: seconds(1), cap: seconds(60) };
                let policy = RetryPolicy::times(3).backoff(backoff);
                options.retry = Some(RetryPolicy { jitter: 0.25, ..policy });
            }
            _ => {
                let kept = [None, Some(Duration::ZERO), Some(seconds(1)), Some(seconds(3_600))];
                options.retention = Some(Retention {
                    succeeded: self.random.pick(&kept),
                    failed: self.random.pick(&kept),
                    deleted: self.random.pick(&kept),
                });
            }
        }
        options
    }

    /// Makes a job that is refused, if it is new or if it is not.
    fn spoil(&mut self, job: &mut NewJob) {
        match self.random.below(3) {
            0 => job.when = When::In(Duration::MAX),
            1 => job.options.tags = vec![String::new()],
            _ => {
                if let Some(stored) = self.random.recent(&self.jobs) {
                    job.id = stored.id;
                }
                job.args = Json::stored("[\"other\"]");
            }
        }
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
            kinds: Vec::new(),
            id: ServerId::new(format!("{name}:4711")),
            name,
            queues: QUEUES[..self.random.below(4)].iter().map(|q| QueueName::stored(*q)).collect(),
            workers: self.random.below(20) as u32,
            lease: self.random.pick(&LEASES),
        };
        self.servers.push(server.clone());
        Operation::Announce(server)
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
        ClaimRequest { queues, max: self.random.pick(&[0, 1, 1, 2, 3, 7, u32::MAX]), aging: None }
    }

    fn finish(&mut self, server: &ServerId) -> Finish {
        let mut claim = self.claim_of(server);
        if self.random.chance(4) {
            claim.attempt = self.random.pick(&[0, claim.attempt + 1, u32::MAX]);
        }
        let outcome = self.outcome();
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
        if self.random.chance(4) {
            changes[0].action = Action::Reschedule(When::In(Duration::MAX));
        }
        Operation::Change(changes)
    }

    fn rescue(&mut self) -> Operation {
        let recoveries_max = self.random.pick(&[0, 1, 3]);
        Operation::Rescue(RescueRequest { recoveries_max, max: self.small_max() })
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
        filter
    }

    fn holding(&mut self) -> (ServerId, Vec<Claim>, bool) {
        let server = self.server();
        let held = (0..self.random.below(5)).map(|_| self.claim_of(&server)).collect();
        (server, held, self.random.chance(70))
    }

    /// Mostly a claim that the server holds; else one that it held, or one of another server.
    fn claim_of(&mut self, server: &ServerId) -> Claim {
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
        let known = self.random.recent(&self.jobs).map(|job| job.id);
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
