//! Everything that ties jobs at once: rules that meet in one job, and lives by chance after which nothing is
//! stuck.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use portfire_core::{
    Action, After, Antecedent, BatchId, BatchState, Claim, Conflict, Dependency, JobFilter, JobId,
    LimitRule, LimitUse, NewBatch, NewJob, Outcome, RescueRequest, StateName, StorageError,
    UniqueKey, UniqueScope, Window,
};

use crate::random::Random;
use crate::server::{Server, discard, failure, retry, success};
use crate::stage::{DAY, Stage, ids, secs, under};

use StateName::{Enqueued, Processing};

/// A member that waits for a slot leaves the line when its batch is cancelled.
pub async fn together_cancelled_members_leave_the_line(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::concurrency(1))).await;
    let batch = s.new_batch();
    let mut members = s.new_members(batch.id, 3);
    members.iter_mut().for_each(|member| member.ties.limits = vec![under("l")]);
    s.store(vec![batch.clone()], members).await;
    let other = s.enqueue_under("l", 1).await[0];
    assert_eq!(server.claim(10).await.len(), 1);
    assert_eq!(s.line("l").await, (1, 3));
    let _ = s.cancel(batch.id).await;
    s.promote_all().await;
    assert_eq!(s.batch_state(batch.id).await, BatchState::Cancelled);
    server.claim_job(other).await;
    assert_eq!(s.line("l").await, (1, 0));
}

/// A member that is replaced for its unique key counts as deleted, and may end its batch.
pub async fn together_replaced_member_counts(s: Stage) {
    let batch = s.new_batch();
    let mut member = s.new_unique("k", UniqueScope::UntilFinished, Conflict::Reject);
    member.ties.batch = Some(batch.id);
    s.store(vec![batch.clone()], vec![member]).await;
    let callback = s.continue_on(batch.id, After::Failure).await;
    let job = s.create_one(s.new_unique("k", UniqueScope::UntilFinished, Conflict::Replace)).await;
    assert_eq!(s.members(batch.id).await, [1, 0, 0, 0, 1]);
    assert_eq!((s.state(callback).await, s.state(job).await), (Enqueued, Enqueued));
}

/// A requeue that is refused for its unique key reopens no batch.
pub async fn together_refused_requeue_reopens_nothing(s: Stage) {
    let server = s.server("a").await;
    let batch = s.new_batch();
    let mut member = s.new_unique("k", UniqueScope::UntilFinished, Conflict::Reject);
    member.ties.batch = Some(batch.id);
    let member = ids(&s.store(vec![batch.clone()], vec![member]).await)[0];
    server.run(member, failure()).await;
    let _ = s.create_unique("k").await;
    let before = s.batch_record(batch.id).await;
    assert!(matches!(s.requeue(member).await, portfire_core::Changed::Conflict { .. }));
    assert_eq!(s.batch_record(batch.id).await, before);
}

/// A continuation that is released while its limit is used up waits in the line, and runs with what was passed.
pub async fn together_released_into_a_line(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::concurrency(1))).await;
    let parent = s.enqueue_under("l", 1).await[0];
    let held = server.claim_job(parent).await;
    let next = s.enqueue_under("l", 1).await[0];
    let mut child = s.new_after([Dependency::on(parent).passing()]);
    child.ties.limits = vec![under("l")];
    let child = s.create_one(child).await;
    server.end(held.claim, crate::server::result("7")).await;
    assert_eq!(s.line("l").await, (0, 1));
    let held = server.claim_job(next).await;
    server.end(held.claim, success()).await;
    assert_eq!(server.claim_job(child).await.parents.len(), 1);
}

/// Runs of a recurring job are under its limit, hold its key, and may be waited for like other jobs.
pub async fn together_runs_are_jobs_like_others(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.set_limit("l", Some(LimitRule::concurrency(1))).await;
    let mut definition = crate::stage::recurring("r", crate::stage::every(60));
    definition.ties.limits = vec![under("l")];
    s.define(&definition).await;
    let mut runs = Vec::new();
    for _ in 0..2 {
        s.advance(secs(60)).await;
        runs.extend(s.tick().await);
    }
    let child = s.continue_with(runs[0]).await;
    let held = server.claim_job(runs[0]).await;
    assert!(server.claim(10).await.is_empty());
    server.end(held.claim, success()).await;
    let order: Vec<_> = server.claim(10).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order.len(), 2);
    assert!(order.contains(&runs[1]) && order.contains(&child));
}

/// A cleaning forgets no rate, no key and no lock before its time.
pub async fn together_cleaning_keeps_terms(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::rate(1, secs(3_600), Window::Sliding))).await;
    let rated = s.enqueue_under("l", 2).await;
    let window = UniqueScope::Within(secs(3_600));
    let holder = s.create_one(s.new_unique("k", window, Conflict::Reject)).await;
    server.run(rated[0], success()).await;
    server.run(holder, success()).await;
    s.hold("x", "a", secs(3_600)).await;
    let rules = s.storage().limits().await.expect("read");
    for _ in 0..3 {
        s.advance(secs(5)).await;
        s.clean(100).await;
    }
    assert!(server.claim(10).await.is_empty());
    assert_eq!(s.create_unique("k").await.id, holder);
    assert_eq!(s.storage().locks().await.expect("read").len(), 1);
    assert_eq!(s.storage().limits().await.expect("read"), rules);
}

/// What is read about ties is at most a page, however much there is.
pub async fn together_reads_are_bounded(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let children = s.continue_many(parent, 600).await;
    let all = s.continuations(parent).await;
    assert_eq!(all.iter().map(|child| child.job).collect::<Vec<_>>(), children[..500]);
    server.claim_job(parent).await;
    let part = |n: usize| {
        let partition = format!("p{n:03}");
        s.new_limited([LimitUse { partition, ..under("l") }])
    };
    s.create((0..600).map(part).collect()).await;
    assert_eq!(server.claim(1_000).await.len(), 600);
    let keys = s.limit_keys("l").await;
    assert_eq!((keys.len(), keys[499].key.as_str()), (500, "l:p499"));
    for n in 0..600 {
        s.define(&crate::stage::recurring(&format!("r{n:03}"), crate::stage::every(60))).await;
    }
    let page = s.storage().recurring_jobs(Default::default()).await.expect("read");
    assert_eq!((page.recurring.len(), page.next.is_some()), (50, true));
}

/// Whatever happens to tied jobs: no key is held twice, no limit is exceeded, every number is right, and in the
/// end everything has ended.
pub async fn together_by_chance_nothing_is_stuck(s: Stage) {
    for seed in 1..=2 {
        let stage = if seed == 1 { s.clone() } else { s.elsewhere().await };
        let mut life = Life::new(stage, seed).await;
        for step in 0..150 {
            life.step(step).await;
            if step % 10 == 0 {
                life.check().await;
            }
        }
        crate::audit::audit(&life.s).await;
        life.end().await;
        crate::audit::audit(&life.s).await;
    }
}

/// A life of many jobs by chance.
struct Life {
    s: Stage,
    random: Random,
    jobs: Vec<JobId>,
    /// Jobs that wait for no batch, nor for a job that does. Members wait for none but these: a member that
    /// waits for a job that waits for its batch would wait for ever.
    free: BTreeSet<JobId>,
    batches: Vec<BatchId>,
    servers: Vec<(Server, Vec<Claim>)>,
}

impl Life {
    async fn new(s: Stage, seed: u64) -> Life {
        s.set_limit("two", Some(LimitRule::concurrency(2))).await;
        s.set_limit("part", Some(LimitRule::concurrency(1))).await;
        s.set_limit("rate", Some(LimitRule::rate(3, secs(30), Window::Sliding))).await;
        let random = Random::new(seed);
        let (jobs, free) = (Vec::new(), BTreeSet::new());
        Life { s, random, jobs, free, batches: Vec::new(), servers: Vec::new() }
    }

    async fn step(&mut self, step: usize) {
        match self.random.below(12) {
            0..=3 => self.create().await,
            4 | 5 => self.claim(step).await,
            6..=8 => self.finish().await,
            9 => self.change().await,
            10 => self.change_batch().await,
            _ => self.pass().await,
        }
    }

    async fn create(&mut self) {
        let mut batches = Vec::new();
        if self.random.below(3) == 0 {
            batches.push(self.new_batch());
        }
        let mut known = self.batches.clone();
        known.extend(batches.iter().map(|batch| batch.id));
        let mut jobs: Vec<NewJob> = Vec::new();
        for _ in 0..1 + self.random.below(5) {
            let mut parents: Vec<Antecedent> = self.jobs.iter().map(|&job| job.into()).collect();
            parents.extend(jobs.iter().map(|job| Antecedent::from(job.id)));
            parents.extend(known.iter().map(|&batch| Antecedent::from(batch)));
            jobs.push(self.new_job(&parents, &known));
        }
        let new_batches: Vec<BatchId> = batches.iter().map(|batch| batch.id).collect();
        let new_jobs = jobs.clone();
        match self.s.storage().create_batches(batches, jobs).await {
            Ok(created) => {
                for (made, job) in created.iter().zip(new_jobs).filter(|(a, b)| a.id == b.id) {
                    self.jobs.push(made.id);
                    if job.ties.after.iter().all(|dependency| self.is_free(dependency.on)) {
                        self.free.insert(made.id);
                    }
                }
                self.batches.extend(new_batches);
            }
            // A batch that has ended takes no members.
            Err(StorageError::Invalid(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn is_free(&self, on: Antecedent) -> bool {
        matches!(on, Antecedent::Job(job) if self.free.contains(&job))
    }

    fn new_batch(&mut self) -> NewBatch {
        let mut batch = self.s.new_batch();
        batch.open = self.random.below(3) == 0;
        if !self.batches.is_empty() && self.random.below(3) == 0 {
            batch.parent = Some(self.random.pick(&self.batches));
        }
        if !self.free.is_empty() && self.random.below(3) == 0 {
            let free: Vec<JobId> = self.free.iter().copied().collect();
            let on = self.random.pick(&free);
            batch.after = vec![Dependency::on(on).after(self.after())];
        }
        batch
    }

    fn new_job(&mut self, parents: &[Antecedent], batches: &[BatchId]) -> NewJob {
        let mut job = self.s.new_job();
        job.priority = self.random.below(3) as i16;
        if self.random.below(6) == 0 {
            job.when = secs(self.random.number() % 40).into();
        }
        if !batches.is_empty() && self.random.below(3) == 0 {
            job.ties.batch = Some(self.random.pick(batches));
        }
        let mut parents = parents.to_vec();
        if job.ties.batch.is_some() {
            parents.retain(|&on| self.is_free(on));
        }
        let wanted = [0, 0, 0, 1, 1, 2][self.random.below(6)];
        let mut named = BTreeSet::new();
        for _ in 0..wanted.min(parents.len()) {
            let on = self.random.pick(&parents);
            if named.insert(on) {
                job.ties.after.push(Dependency::on(on).after(self.after()).passing());
            }
        }
        if self.random.below(5) == 0 {
            let key = format!("k{}", self.random.below(3));
            let within = UniqueScope::Within(secs(50));
            let scopes = [UniqueScope::UntilStarted, UniqueScope::UntilFinished, within];
            let conflicts = [Conflict::Reject, Conflict::Replace, Conflict::Debounce];
            let (scope, conflict) = (self.random.pick(&scopes), self.random.pick(&conflicts));
            job.ties.unique = Some(UniqueKey { key, scope, conflict });
        }
        for name in ["two", "part", "rate"] {
            if self.random.below(4) == 0 {
                let partition = match name {
                    "part" => format!("p{}", self.random.below(3)),
                    _ => String::new(),
                };
                job.ties.limits.push(LimitUse { partition, ..under(name) });
            }
        }
        job
    }

    fn after(&mut self) -> After {
        self.random.pick(&[After::Success, After::End, After::End, After::Failure, After::Deletion])
    }

    async fn claim(&mut self, step: usize) {
        if self.servers.len() < 3 {
            let server = self.s.server(&format!("life-{step}")).await;
            self.servers.push((server, Vec::new()));
        }
        let nth = self.random.below(self.servers.len());
        let (server, held) = &mut self.servers[nth];
        held.extend(server.claim(4).await.iter().map(|job| job.claim));
    }

    async fn finish(&mut self) {
        for (server, held) in &mut self.servers {
            let Some(claim) = held.pop() else { continue };
            let outcome = match self.random.below(8) {
                0..=3 => success(),
                4 => failure(),
                5 => retry(self.random.number() % 20),
                6 => Outcome::Released,
                _ => discard(),
            };
            server.finish(claim, outcome).await;
        }
    }

    async fn change(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let action = match self.random.below(3) {
            0 => Action::Requeue,
            1 => Action::Delete { reason: "by chance".into() },
            _ => Action::Reschedule(secs(self.random.number() % 30).into()),
        };
        let _ = self.s.change(self.random.pick(&self.jobs), action).await;
    }

    async fn change_batch(&mut self) {
        if self.batches.is_empty() {
            return;
        }
        let batch = self.random.pick(&self.batches);
        match self.random.below(3) {
            0 => drop(self.s.cancel(batch).await),
            _ => drop(self.s.seal(batch).await),
        }
    }

    async fn pass(&mut self) {
        self.s.advance(secs(self.random.number() % 15)).await;
        self.s.storage().promote(1 + self.random.below(20) as u32).await.expect("promoted");
        self.s.rescue_with(RescueRequest { max: 5, ..RescueRequest::default() }).await;
        let mut alive = Vec::new();
        for (server, held) in std::mem::take(&mut self.servers) {
            if self.random.below(4) > 0 && server.heartbeat(&held).await.is_ok() {
                alive.push((server, held));
            }
        }
        self.servers = alive;
    }

    /// No key has two holders, and no limit more running jobs than it allows.
    async fn check(&self) {
        let jobs = self.s.list(JobFilter { max: 500, ..JobFilter::default() }).await;
        let mut holders = BTreeMap::new();
        let mut running: BTreeMap<String, u32> = BTreeMap::new();
        for job in jobs.iter().filter(|job| !job.state.name().is_final()) {
            if let Some(unique) = &job.ties.unique
                && unique.scope == UniqueScope::UntilFinished
            {
                let other = holders.insert(unique.key.clone(), job.id);
                assert_eq!(other, None, "`{}` is held by {} as well", unique.key, job.id);
            }
            if job.state.name() == Processing {
                for limit in &job.ties.limits {
                    *running.entry(limit.key()).or_default() += 1;
                }
            }
        }
        for (key, running) in running {
            let most = match key.as_str() {
                "two" => 2,
                "rate" => u32::MAX,
                _ => 1,
            };
            assert!(running <= most, "{running} jobs of `{key}` run");
        }
    }

    /// Lets everything come to its end, which takes a bounded time.
    async fn end(&mut self) {
        self.servers.clear();
        self.s.advance(secs(60)).await;
        while self.s.rescue().await.more {}
        for &batch in &self.batches {
            let _ = self.s.seal(batch).await;
        }
        let server = self.s.server_with_lease("the last", 30 * DAY).await;
        for _ in 0..2_000 {
            self.s.promote_all().await;
            let done = server.work_off().await;
            let counts = self.s.counts().await;
            let open: u64 = StateName::ALL
                .into_iter()
                .filter(|state| !state.is_final())
                .map(|state| counts.of(state))
                .sum();
            if open == 0 {
                return;
            }
            if done.is_empty() {
                self.repair().await;
                self.s.advance(secs(5)).await;
            }
        }
        panic!("these are stuck:{}", self.stuck().await);
    }

    /// Does as an operator does for those who wait for what has failed: that is requeued, or deleted when it may not run.
    async fn repair(&self) {
        for failed in self.s.list_ids(JobFilter::state(StateName::Failed)).await {
            if !self.s.requeue(failed).await.is_done() {
                let _ = self.s.delete(failed).await;
            }
        }
    }

    /// What has not ended, with the lives of what it waits for.
    async fn stuck(&self) -> String {
        let mut told = String::new();
        for job in self.s.everything().await.iter().filter(|job| !job.state.name().is_final()) {
            let _ = write!(told, "\n{} {:?} {:?}", job.id, job.state, job.ties);
            for dependency in &job.ties.after {
                let _ = match dependency.on {
                    Antecedent::Job(job) => write!(told, "\n  {:?}", self.s.causes(job).await),
                    Antecedent::Batch(batch) => {
                        write!(told, "\n  {:?}", self.s.batch_record(batch).await)
                    }
                };
            }
        }
        told
    }
}
