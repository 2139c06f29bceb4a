//! The clients: they create jobs and steer them, repeat what they do not know the outcome of, and
//! crash in between.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portfire_core::{
    Action, Change, Client, Expect, JobId, NewJob, QueueName, StateName, Storage, When,
};

use crate::executor::{DomainId, DomainOptions};
use crate::faulty::FaultyStorage;
use crate::handlers::Kind;
use crate::hosts;
use crate::invariants::{Invariant, require};
use crate::marks::Mark;
use crate::rng::Rng;
use crate::sync::lock;
use crate::tied::{Binder, Tied};
use crate::world::World;

const MILLI: Duration = Duration::from_millis(1);

/// What the clients have to do, shared by all of them.
pub(crate) struct Workload {
    todo: Mutex<VecDeque<Errand>>,
    /// Jobs that may be steered.
    known: Mutex<Vec<JobId>>,
    /// Clients that have not ended.
    at_work: AtomicUsize,
    processes: Mutex<Vec<DomainId>>,
}

/// Something a client does after a wait.
struct Errand {
    wait: Duration,
    what: What,
}

enum What {
    Create { kinds: Vec<(Kind, QueueName, i16)>, when: Delay },
    Tie(Tied),
    Steer { action: fn() -> Action, only: Vec<StateName> },
}

/// When the jobs of a create may run.
#[derive(Clone, Copy)]
enum Delay {
    None,
    In(Duration),
    At(Duration),
}

impl Workload {
    /// The errands of a plan.
    pub(crate) fn new(world: &World, rng: &mut Rng) -> Arc<Workload> {
        let plan = &world.plan;
        let mut todo = VecDeque::new();
        let mut left = plan.jobs;
        let pause = plan.trouble.mul_f64(2.4) / plan.jobs as u32;
        while left > 0 {
            let count = if rng.chance(0.6) { 1 } else { rng.between(2, 4) as usize }.min(left);
            left -= count;
            let kind = |rng: &mut Rng| {
                let queue = QueueName::stored(format!("q{}", rng.below(plan.queues as u64)));
                (*rng.pick(&plan.kinds), queue, rng.below(3) as i16 - 1)
            };
            let kinds = (0..count).map(|_| kind(rng)).collect();
            let delay = rng.time(MILLI, plan.lease);
            let when = match rng.below(5) {
                0 => Delay::In(delay),
                1 => Delay::At(delay),
                _ => Delay::None,
            };
            let wait = rng.time(Duration::ZERO, pause);
            todo.push_back(Errand { wait, what: What::Create { kinds, when } });
            while rng.chance(plan.steering.min(0.6)) {
                let wait = rng.heavy_tail(100 * MILLI, plan.lease);
                todo.push_back(Errand { wait, what: steer(rng) });
            }
        }
        for _ in 0..plan.tied {
            let at = rng.below(todo.len() as u64 + 1) as usize;
            let wait = rng.time(Duration::ZERO, plan.lease / 2);
            todo.insert(at, Errand { wait, what: What::Tie(Tied::draw(rng)) });
        }
        for _ in 0..plan.recurring {
            let at = rng.below(todo.len() as u64 / 2 + 1) as usize;
            let wait = rng.time(Duration::ZERO, plan.lease / 2);
            todo.insert(at, Errand { wait, what: What::Tie(Tied::Recur) });
        }
        Arc::new(Workload {
            todo: Mutex::new(todo),
            known: Mutex::default(),
            at_work: AtomicUsize::new(plan.clients),
            processes: Mutex::default(),
        })
    }

    /// Whether all errands were done.
    pub(crate) fn is_done(&self) -> bool {
        self.at_work.load(Ordering::Relaxed) == 0
    }

    /// The client processes that run now.
    pub(crate) fn processes(&self) -> Vec<DomainId> {
        lock(&self.processes).clone()
    }

    /// Runs one client process after the other until there is nothing left to do.
    pub(crate) async fn run(self: Arc<Workload>, world: Arc<World>) {
        let mut rng = world.fork_rng();
        while !lock(&self.todo).is_empty() {
            let domain = world.executor.new_domain(DomainOptions::default());
            lock(&self.processes).push(domain);
            let process = Arc::clone(&self).process(Arc::clone(&world), domain, rng.fork());
            world.executor.spawn(domain, "client", Box::pin(process));
            world.executor.crashed(domain).await;
            lock(&self.processes).retain(|&process| process != domain);
            world.sleep(rng.time(MILLI, 500 * MILLI)).await;
        }
        self.at_work.fetch_sub(1, Ordering::Relaxed);
    }

    async fn process(self: Arc<Workload>, world: Arc<World>, domain: DomainId, mut rng: Rng) {
        let storage = FaultyStorage::for_client(&world, domain) as Arc<dyn Storage>;
        let client = hosts::client(&world, domain, Arc::clone(&storage));
        loop {
            let Some(Errand { wait, what }) = lock(&self.todo).pop_front() else { break };
            world.executor.sleep(domain, wait).await;
            match what {
                What::Create { kinds, when } => {
                    self.create(&world, domain, &client, kinds, when, &mut rng).await;
                }
                What::Tie(tied) => {
                    let (world, client, storage) = (&world, &client, &storage);
                    let mut binder = Binder { world, domain, client, storage, rng: &mut rng };
                    let made = binder.make(tied).await;
                    lock(&self.known).extend(made);
                }
                What::Steer { action, only } => {
                    self.steer(&world, domain, &client, action, only, &mut rng).await;
                }
            }
        }
        world.executor.crash(domain);
    }

    async fn create(
        &self,
        world: &Arc<World>,
        domain: DomainId,
        client: &Client,
        kinds: Vec<(Kind, QueueName, i16)>,
        when: Delay,
        rng: &mut Rng,
    ) {
        let now = world.truth.now();
        let jobs = kinds.into_iter().map(|(kind, queue, priority)| {
            let mut job = kind.job(client.next_id(), world.plan.lease, rng);
            job.queue = queue;
            job.priority = priority;
            job.when = match when {
                Delay::None => When::Now,
                Delay::In(delay) => When::In(delay),
                Delay::At(delay) => When::At(now.saturating_add(delay)),
            };
            job
        });
        let jobs: Vec<NewJob> = jobs.collect();
        if let [job] = &jobs[..]
            && job.when == When::Now
            && job.kind.as_str() != Kind::Unknown.name()
            && world.is_idle()
        {
            world.expect_promptly(job.id);
        }
        world.truth.ledger().ask(&jobs);
        world.note(domain, || format!("creates {jobs:?}"));
        let crashing = CrashInCreate { world, domain, answered: false };
        let mut crashing = crashing;
        loop {
            match client.create(jobs.clone()).await {
                Ok(_) => break,
                Err(error) if error.is_transient() => {
                    let wait = rng.heavy_tail(50 * MILLI, world.plan.lease / 2);
                    world.executor.sleep(domain, wait).await;
                }
                Err(error) => {
                    return world.truth.report(require(Invariant::S1, false, || {
                        format!("a create was refused: {error}")
                    }));
                }
            }
        }
        crashing.answered = true;
        for job in &jobs {
            let check = world.truth.ledger().promised(job.id);
            world.truth.report(check);
            lock(&self.known).push(job.id);
        }
    }

    async fn steer(
        &self,
        world: &Arc<World>,
        domain: DomainId,
        client: &Client,
        action: fn() -> Action,
        only: Vec<StateName>,
        rng: &mut Rng,
    ) {
        // Who wants a job to run again looks at those that have ended, and at those first that will
        // soon be gone; who wants to stop one looks at those that run.
        let mut known = lock(&self.known).clone();
        if only.contains(&StateName::Succeeded) {
            known = world.truth.expired_jobs();
            if known.is_empty() {
                known = world.truth.ledger().jobs_in(StateName::is_final);
            }
        } else if only.contains(&StateName::Processing) {
            known = world.truth.ledger().jobs_in(|state| state == StateName::Processing);
        }
        if known.is_empty() {
            return;
        }
        let job = *rng.pick(&known);
        let expect = (!only.is_empty()).then_some(Expect::States(only));
        let change = Change { job, action: action(), expect };
        for _ in 0..rng.between(1, 3) {
            let changed = client.change(vec![change.clone()]).await;
            world.note(domain, || format!("{change:?} → {changed:?}"));
            if changed.is_ok() {
                break;
            }
            world.executor.sleep(domain, 100 * MILLI).await;
        }
    }
}

fn steer(rng: &mut Rng) -> What {
    let delete = || Action::Delete { reason: "not needed".to_owned() };
    let reschedule = || Action::Reschedule(When::In(Duration::from_millis(700)));
    let action: fn() -> Action = match rng.below(5) {
        0 | 1 => delete,
        2 | 3 => || Action::Requeue,
        _ => reschedule,
    };
    let (action, only) = match rng.below(5) {
        0 => (action, vec![StateName::Processing]),
        1 | 2 => {
            let again: fn() -> Action = || Action::Requeue;
            (again, vec![StateName::Succeeded, StateName::Failed, StateName::Deleted])
        }
        _ => (action, Vec::new()),
    };
    What::Steer { action, only }
}

/// Notes a client that crashes while a create is under way.
struct CrashInCreate<'a> {
    world: &'a World,
    domain: DomainId,
    answered: bool,
}

impl Drop for CrashInCreate<'_> {
    fn drop(&mut self) {
        if !self.answered && !self.world.executor.is_alive(self.domain) {
            self.world.hit(Mark::ClientCrash);
        }
    }
}
