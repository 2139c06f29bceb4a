//! Random sequences of jobs that wait for one another, belong to batches, hold keys and stand in lines: the
//! same answers, and the same contents, from SQLite as from the reference.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::client::block_on;
use portfire_core::{
    Action, After, Antecedent, BatchChange, BatchFilter, BatchId, BatchState, Change, Claim,
    ClaimRequest, Conflict, CycleRequest, Dependency, ErrorRecord, Expect, Finish, JobFilter,
    JobId, Json, KindName, LimitName, LimitRule, LimitTarget, LimitUse, ManualClock, MemoryStorage,
    NewBatch, NewJob, NewServer, Outcome, QueueName, Rate, RescueRequest, Retention, ServerId,
    StateName, Storage, StorageError, Timestamp, UniqueKey, UniqueScope, When, Window,
};
use portfire_sqlite::{SqliteOptions, SqliteStorage, Synchronous};

const STEPS: usize = 120;
const SEEDS: u64 = 60;
const JOBS_MAX: usize = 60;
const BATCHES_MAX: usize = 14;

#[test]
fn ties_equal_the_reference() {
    let only = std::env::var("PORTFIRE_SEED").ok();
    let only: Option<u64> = only.map(|seed| seed.parse().expect("PORTFIRE_SEED is a number"));
    let many: u64 = std::env::var("PORTFIRE_SEEDS").map_or(SEEDS, |many| many.parse().unwrap());
    for seed in only.map_or(0..many, |seed| seed..seed + 1) {
        let folder = tempfile::tempdir().expect("the test may write to the temporary folder");
        let mut pair = Pair::new(seed, &folder.path().join("jobs.db"));
        for _ in 0..STEPS {
            pair.step();
        }
    }
}

/// The two storages, and what the sequence knows.
struct Pair {
    seed: u64,
    random: u64,
    clock: Arc<ManualClock>,
    memory: MemoryStorage,
    /// Two handles on one file, as two processes have; they take turns.
    sqlite: [SqliteStorage; 2],
    jobs: Vec<JobId>,
    batches: Vec<BatchId>,
    servers: Vec<ServerId>,
    announced: u32,
    held: BTreeSet<(ServerId, JobId, u32)>,
    cycles: u64,
    asked: usize,
    log: Vec<String>,
}

impl Pair {
    fn new(seed: u64, path: &Path) -> Pair {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_700_000_000_000_000)));
        let open = || {
            let options = SqliteOptions::new(path).clock(clock.clone());
            block_on(options.synchronous(Synchronous::Off).open())
                .expect("an empty database is opened")
        };
        let mut pair = Pair {
            seed,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            memory: MemoryStorage::with_clock(clock.clone()),
            sqlite: [open(), open()],
            clock,
            jobs: Vec::new(),
            batches: Vec::new(),
            servers: Vec::new(),
            announced: 0,
            held: BTreeSet::new(),
            cycles: 0,
            asked: 0,
            log: Vec::new(),
        };
        pair.announce();
        pair
    }

    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        (drawn as usize) % bound.max(1)
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = self.below(from.len());
        from.get(at).cloned()
    }

    /// Asks both, and compares what they answer.
    fn both<T: Debug>(
        &mut self,
        what: String,
        ask: impl AsyncFn(&dyn Storage) -> Result<T, StorageError>,
    ) -> Option<T> {
        self.log.push(what);
        let text = |answer: &Result<T, StorageError>| match answer {
            Ok(answer) => format!("{answer:#?}"),
            Err(error) => format!("refused: {error}"),
        };
        let memory = block_on(ask(&self.memory));
        self.asked += 1;
        let sqlite = block_on(ask(&self.sqlite[self.asked % 2]));
        let (expected, found) = (text(&memory), text(&sqlite));
        self.log.push(format!("    {}", expected.replace('\n', " ")));
        if expected != found {
            self.differ(&expected, &found);
        }
        memory.ok()
    }

    fn differ(&self, expected: &str, found: &str) -> ! {
        let last = self.log.len().saturating_sub(120);
        let log = self.log[last..].join("\n");
        panic!("seed {}\n{log}\nmemory: {expected}\nsqlite: {found}", self.seed);
    }

    fn step(&mut self) {
        match self.below(20) {
            0..=4 => self.create(),
            5..=9 => self.cycle(),
            10..=11 => self.change(),
            12 => self.change_batch(),
            13..=14 => {
                let max = [1, 2, 3, 10_000][self.below(4)];
                self.both(format!("promote {max}"), async |storage| storage.promote(max).await);
            }
            15 => {
                let max = [1, 3, 10_000][self.below(3)];
                self.both(format!("clean {max}"), async |storage| storage.clean(max).await);
            }
            16 => self.limit(),
            17 => self.servers(),
            _ => {
                let hours = if self.one_in(12) { 30 } else { 0 };
                let by = Duration::from_secs(self.below(40) as u64 + hours * 3_600);
                self.log.push(format!("advance {by:?}"));
                self.clock.advance(by);
            }
        }
        if self.one_in(8) {
            self.compare();
        }
    }

    fn create(&mut self) {
        let mut batches = Vec::new();
        if self.one_in(3) && self.batches.len() < BATCHES_MAX {
            for _ in 0..=self.below(2) {
                let batch = self.new_batch(&batches);
                batches.push(batch);
            }
        }
        let fresh: Vec<BatchId> = batches.iter().map(|batch: &NewBatch| batch.id).collect();
        let mut jobs: Vec<NewJob> = Vec::new();
        for _ in 0..self.below(5) {
            if self.jobs.len() + jobs.len() < JOBS_MAX || self.one_in(10) {
                let job = self.new_job(&jobs, &fresh);
                jobs.push(job);
            }
        }
        let what = format!("create {batches:?} {jobs:?}");
        let created = self.both(what, async |storage| {
            storage.create_batches(batches.clone(), jobs.clone()).await
        });
        if let Some(created) = created {
            for (job, created) in jobs.iter().zip(created) {
                if !created.existing {
                    self.jobs.push(job.id);
                }
            }
            self.batches.extend(
                fresh.iter().filter(|id| !self.batches.contains(id)).copied().collect::<Vec<_>>(),
            );
        }
    }

    fn new_batch(&mut self, earlier: &[NewBatch]) -> NewBatch {
        let number = self.batches.len() + earlier.len();
        let id = match self.one_in(12) {
            true => self.pick(&self.batches.clone()).unwrap_or(batch_id(number)),
            false => batch_id(number),
        };
        let mut batch = NewBatch::new(id);
        batch.open = self.one_in(4);
        batch.retention = Duration::from_secs([5, 60, 40_000][self.below(3)]);
        let known: Vec<BatchId> =
            self.batches.iter().copied().chain(earlier.iter().map(|batch| batch.id)).collect();
        if self.one_in(2) {
            batch.parent = self.pick(&known);
        }
        if self.one_in(3) {
            batch.after = self.dependencies(&[], &known);
        }
        batch
    }

    fn new_job(&mut self, earlier: &[NewJob], fresh: &[BatchId]) -> NewJob {
        let number = self.jobs.len() + earlier.len();
        let id = match self.one_in(15) {
            true => self.pick(&self.jobs.clone()).unwrap_or(job_id(number)),
            false => job_id(number),
        };
        let kind = ["mail", "report"][self.below(2)];
        let mut job = NewJob::new(id, KindName::stored(kind), Json::empty());
        job.queue = QueueName::stored(["default", "slow"][self.below(2)]);
        job.priority = [0, 0, 0, 5][self.below(4)];
        job.when = match self.below(6) {
            0 => When::In(Duration::from_secs(10)),
            1 => When::At(Timestamp::from_micros(1_700_000_030_000_000)),
            _ => When::Now,
        };
        if self.one_in(2) {
            let kept = Some(Duration::from_secs([0, 20, 300][self.below(3)]));
            job.options.retention =
                Some(Retention { succeeded: kept, failed: kept, deleted: kept });
        }
        let known: Vec<BatchId> = self.batches.iter().chain(fresh).copied().collect();
        if self.one_in(3) {
            let of_call: Vec<JobId> = earlier.iter().map(|job| job.id).collect();
            job.ties.after = self.dependencies(&of_call, &known);
        }
        if self.one_in(2) {
            job.ties.batch = match self.one_in(3) {
                true => self.pick(&known),
                false => self.pick(
                    &fresh.iter().chain(&self.batches.clone()).copied().collect::<Vec<_>>()[..],
                ),
            };
        }
        if self.one_in(4) {
            job.ties.unique = Some(UniqueKey {
                key: ["a", "b", "c"][self.below(3)].to_owned(),
                scope: [
                    UniqueScope::UntilStarted,
                    UniqueScope::UntilFinished,
                    UniqueScope::Within(Duration::from_secs(40)),
                ][self.below(3)],
                conflict: [
                    Conflict::Reject,
                    Conflict::Replace,
                    Conflict::Debounce,
                    Conflict::DebounceAtMost(Duration::from_secs(15)),
                ][self.below(4)],
            });
        }
        while self.one_in(4) && job.ties.limits.len() < 3 {
            let limit = LimitName::new(["x", "y"][self.below(2)]).unwrap();
            let partition = ["", "1"][self.below(2)].to_owned();
            let declared = self.one_in(3).then_some(LimitRule::concurrency(1));
            job.ties.limits.push(LimitUse { limit, partition, declared });
        }
        job
    }

    /// One to three, most of them on something that is there.
    fn dependencies(&mut self, jobs: &[JobId], batches: &[BatchId]) -> Vec<Dependency> {
        let mut after: Vec<Dependency> = Vec::new();
        for _ in 0..=self.below(3) {
            let on: Antecedent = match self.below(6) {
                0 => match self.pick(batches) {
                    Some(batch) => batch.into(),
                    None => continue,
                },
                1 | 2 if !jobs.is_empty() => self.pick(jobs).map_or(job_id(0).into(), Into::into),
                3 if self.one_in(20) => job_id(100_000).into(),
                _ => match self.pick(&self.jobs.clone()) {
                    Some(job) => job.into(),
                    None => continue,
                },
            };
            let all = [After::Success, After::Failure, After::Deletion, After::End];
            let dependency = Dependency::on(on).after(all[self.below(4)]);
            let pass = self.one_in(2);
            if after.iter().all(|known| known.on != on) {
                after.push(if pass { dependency.passing() } else { dependency });
            }
        }
        after
    }

    fn cycle(&mut self) {
        let Some(server) = self.pick(&self.servers.clone()) else { return };
        self.cycles += 1;
        let mut request = CycleRequest::new(server.clone(), self.cycles);
        let held: Vec<_> = self.held.iter().filter(|held| held.0 == server).cloned().collect();
        for (_, job, attempt) in held {
            if self.one_in(2) {
                let outcome = self.outcome();
                let claim = Claim::new(job, attempt);
                request.finished.push(Finish { claim, outcome, duration: Duration::ZERO });
                self.held.remove(&(server.clone(), job, attempt));
            }
        }
        if !self.one_in(5) {
            let queues = ["default", "slow"].map(QueueName::stored).to_vec();
            let max = [1, 2, 5][self.below(3)];
            let aging = self.one_in(6).then_some(Duration::from_secs(20));
            request.claim = Some(ClaimRequest { queues, max, aging });
        }
        let cycle = self.both(format!("{request:?}"), async |storage| {
            let mut cycle = storage.cycle(request.clone()).await?;
            cycle.claimed.iter_mut().for_each(|job| job.claim.locator = 0);
            Ok(cycle)
        });
        if cycle.is_none() {
            self.servers.retain(|alive| *alive != server);
            self.announce();
        }
        for job in cycle.into_iter().flat_map(|cycle| cycle.claimed) {
            self.held.insert((server.clone(), job.claim.job, job.claim.attempt));
        }
    }

    fn outcome(&mut self) -> Outcome {
        let error = ErrorRecord::new("E", "it failed");
        match self.below(8) {
            0..=2 => Outcome::Succeeded { result: Some(Json::stored("17")) },
            3 => Outcome::Failed { error },
            4 => Outcome::Discarded { reason: "not needed".to_owned(), error: Some(error) },
            5 => Outcome::Retry { delay: Duration::from_secs(5), error },
            6 => Outcome::Released,
            _ => Outcome::Succeeded { result: None },
        }
    }

    fn change(&mut self) {
        let mut changes = Vec::new();
        for _ in 0..=self.below(3) {
            let Some(job) = self.pick(&self.jobs.clone()) else { return };
            let action = match self.below(4) {
                0 | 1 => Action::Requeue,
                2 => Action::Delete { reason: "by hand".to_owned() },
                _ => Action::Reschedule(When::In(Duration::from_secs(7))),
            };
            let expect = self.one_in(8).then(|| Expect::States(vec![StateName::Failed]));
            changes.push(Change { job, action, expect });
        }
        let what = format!("change {changes:?}");
        self.both(what, async |storage| storage.change(changes.clone()).await);
    }

    fn change_batch(&mut self) {
        let Some(batch) = self.pick(&self.batches.clone()) else { return };
        let change = match self.one_in(3) {
            true => BatchChange::Cancel { reason: "enough".to_owned() },
            false => BatchChange::Seal,
        };
        let what = format!("{change:?} {batch}");
        self.both(what, async |storage| storage.change_batch(batch, change.clone()).await);
    }

    fn limit(&mut self) {
        let target = match self.below(4) {
            0 => LimitTarget::Kind(KindName::stored("mail")),
            1 => LimitTarget::Queue(QueueName::stored("slow")),
            2 => LimitTarget::Named(LimitName::new("x").unwrap()),
            _ => LimitTarget::Named(LimitName::new("y").unwrap()),
        };
        let rate = Rate { count: 2, per: Duration::from_secs(16), window: Window::Sliding };
        let rule = match self.below(4) {
            0 => None,
            1 => Some(LimitRule { concurrency: None, rate: Some(rate) }),
            2 => Some(LimitRule::concurrency(1)),
            _ => Some(LimitRule { concurrency: Some(2), rate: Some(rate) }),
        };
        let what = format!("limit {target:?} {rule:?}");
        self.both(what, async |storage| storage.set_limit(target.clone(), rule).await);
    }

    fn announce(&mut self) {
        self.announced += 1;
        let id = ServerId::new(format!("server-{}", self.announced));
        let server = NewServer {
            id: id.clone(),
            name: "s".to_owned(),
            queues: vec![QueueName::DEFAULT],
            workers: 2,
            lease: Duration::from_secs(100),
            kinds: vec![KindName::stored("mail")],
        };
        self.servers.push(id);
        self.both(format!("{server:?}"), async |storage| storage.announce(server.clone()).await);
    }

    fn servers(&mut self) {
        match self.below(4) {
            0 => self.announce(),
            1 => {
                if self.servers.len() > 1 {
                    let server = self.servers.remove(0);
                    let what = format!("retire {server:?}");
                    self.both(what, async |storage| storage.retire(server.clone()).await);
                }
            }
            _ => {
                let request = RescueRequest { recoveries_max: 1, ..RescueRequest::default() };
                self.both("rescue".to_owned(), async |storage| storage.rescue(request).await);
            }
        }
    }

    /// Compares all that can be read.
    fn compare(&mut self) {
        let quiet = self.log.len();
        self.both("counts".to_owned(), async |storage| storage.counts().await);
        self.both("kinds".to_owned(), async |storage| storage.kinds().await);
        self.both("queues".to_owned(), async |storage| storage.queues().await);
        self.both("servers".to_owned(), async |storage| storage.servers().await);
        self.both("limits".to_owned(), async |storage| storage.limits().await);
        for limit in ["x", "y"].map(|name| LimitName::new(name).unwrap()) {
            let what = format!("keys of {limit}");
            self.both(what, async |storage| storage.limit_keys(limit.clone()).await);
        }
        for job in self.jobs.clone() {
            self.both(format!("job {job}"), async |storage| storage.job(job).await);
            self.both(format!("history {job}"), async |storage| storage.history(job).await);
            self.both(format!("waiting {job}"), async |storage| storage.waiting(job).await);
            let what = format!("continuations {job}");
            self.both(what, async |storage| storage.continuations(job.into(), 10).await);
        }
        for batch in self.batches.clone() {
            self.both(format!("batch {batch}"), async |storage| storage.batch(batch).await);
            let what = format!("continuations {batch}");
            self.both(what, async |storage| storage.continuations(batch.into(), 10).await);
            let state = StateName::ALL[self.below(7)];
            for state in [None, Some(state)] {
                let filter = JobFilter { batch: Some(batch), state, ..JobFilter::default() };
                self.list(&filter);
            }
        }
        for state in StateName::ALL {
            self.list(&JobFilter::state(state));
        }
        let state = BatchState::ALL[self.below(7)];
        let parent = self.pick(&self.batches.clone());
        for (state, parent) in
            [(None, None), (Some(state), None), (None, parent), (Some(state), parent)]
        {
            let filter = BatchFilter { state, parent, after: None, max: 3 };
            let what = format!("{filter:?}");
            self.both(what, async |storage| Ok(storage.batches(filter.clone()).await?.batches));
        }
        // What was equal says nothing about how a difference came to be.
        self.log.truncate(quiet);
    }

    fn list(&mut self, filter: &JobFilter) {
        self.both(format!("{filter:?}"), async |storage| {
            let page = storage.jobs(filter.clone()).await?;
            Ok(page.jobs.into_iter().map(|job| job.id).collect::<Vec<_>>())
        });
    }
}

fn job_id(number: usize) -> JobId {
    JobId::from_bytes((number as u128 + (7 << 100)).to_be_bytes())
}

fn batch_id(number: usize) -> BatchId {
    BatchId::from_bytes((number as u128 + (11 << 100)).to_be_bytes())
}
