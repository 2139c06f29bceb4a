//! The processes: servers that start, run, crash, stop and come back, and clients beside them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portfire_core::{Claim, Client, Clock, Finish, JobId, Storage};
use portfire_server::{AppliedFilter, JobContext, Pool, Runtime, Server, Services};
use tokio::sync::watch;

use crate::executor::{DomainId, DomainOptions};
use crate::faulty::FaultyStorage;
use crate::handlers;
use crate::invariants::{self as rules, Invariant, require};
use crate::marks::Mark;
use crate::mutants::Mutant;
use crate::place::Place;
use crate::rng::Rng;
use crate::runtime::SimRuntime;
use crate::sync::lock;
use crate::world::{RECOVERIES_MAX, World};

const MILLI: Duration = Duration::from_millis(1);

/// Time that a server has for its jobs once it is asked to stop.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_millis(500);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// What it may take besides: dropping handlers, ending the heartbeat, retiring.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// How long jobs without a handler wait.
const UNKNOWN_KIND_GRACE: Duration = Duration::from_secs(4);

/// A machine that runs one server process after the other.
pub(crate) struct Host {
    number: usize,
    state: Mutex<HostState>,
    /// Asks the present process to stop in good order.
    stop: watch::Sender<u64>,
    /// No further process is started.
    closing: AtomicBool,
}

#[derive(Default)]
struct HostState {
    domain: Option<DomainId>,
    started_at: Option<Duration>,
    stopping_since: Option<Duration>,
    closed: bool,
}

impl Host {
    /// A machine, switched off.
    pub(crate) fn new(number: usize) -> Arc<Host> {
        Arc::new(Host {
            number,
            state: Mutex::default(),
            stop: watch::Sender::new(0),
            closing: AtomicBool::new(false),
        })
    }

    /// The process that runs now.
    pub(crate) fn domain(&self) -> Option<DomainId> {
        lock(&self.state).domain
    }

    /// Since when a server runs here.
    pub(crate) fn started_at(&self) -> Option<Duration> {
        lock(&self.state).started_at
    }

    /// Asks the process to stop in good order; another is started afterwards unless the host closes.
    pub(crate) fn stop(&self) {
        self.stop.send_modify(|count| *count += 1);
    }

    /// Stops the process in good order, for good.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Whether it was closed and has ended.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Runs processes until the host is closed.
    pub(crate) async fn run(self: Arc<Host>, world: Arc<World>) {
        let mut rng = world.fork_rng();
        let mut stop = self.stop.subscribe();
        world.sleep(rng.time(Duration::ZERO, 300 * MILLI)).await;
        while !self.closing.load(Ordering::Relaxed) {
            stop.mark_unchanged();
            let domain = self.start(&world, &mut rng, stop.clone());
            world.executor.crashed(domain).await;
            self.note_end(&world, domain);
            if !self.closing.load(Ordering::Relaxed) {
                world.down.fetch_add(1, Ordering::Relaxed);
                let away = rng.heavy_tail(300 * MILLI, 2 * world.plan.lease);
                world.sleep(away).await;
                world.down.fetch_sub(1, Ordering::Relaxed);
            }
        }
        lock(&self.state).closed = true;
    }

    fn note_end(&self, world: &World, domain: DomainId) {
        world.note(domain, || "the process has ended".to_owned());
        if world.down.load(Ordering::Relaxed) > 0 {
            world.hit(Mark::DoubleCrash);
        }
        let mut state = lock(&self.state);
        if state.started_at.is_some() {
            world.up.fetch_sub(1, Ordering::Relaxed);
        }
        match (state.started_at, state.stopping_since) {
            (None, _) => world.hit(Mark::CrashAtStart),
            (Some(_), Some(_)) => world.hit(Mark::CrashAtStop),
            _ => {}
        }
        *state = HostState::default();
    }

    fn start(
        self: &Arc<Host>,
        world: &Arc<World>,
        rng: &mut Rng,
        stop: watch::Receiver<u64>,
    ) -> DomainId {
        let skew = world.plan.skew * (2.0 * rng.fraction() - 1.0);
        let domain = world.executor.new_domain(DomainOptions {
            clock_rate: 1.0 + skew,
            stall_chance: if world.is_healed() { 0.0 } else { world.plan.stall },
            stall_max: world.plan.lease / 4,
            clock_stands_in_pauses: world.mutant == Some(Mutant::NoSelfFence),
        });
        *lock(&self.state) = HostState { domain: Some(domain), ..HostState::default() };
        world.note(domain, || format!("a process starts on host {}", self.number));
        let process = Arc::clone(self).process(Arc::clone(world), domain, stop, rng.fork());
        world.executor.spawn(domain, "main", Box::pin(process));
        domain
    }

    /// What a process does: it starts a server, waits to be stopped, stops it, and exits.
    async fn process(
        self: Arc<Host>,
        world: Arc<World>,
        domain: DomainId,
        mut stop: watch::Receiver<u64>,
        mut rng: Rng,
    ) {
        let server = loop {
            // Who starts a server gives up when its storage does not answer at all.
            let started = tokio::select! {
                biased;
                started = self.start_server(&world, domain, &mut rng) => started,
                () = world.executor.sleep(domain, 2 * world.plan.lease) => {
                    world.note(domain, || "the server does not start".to_owned());
                    continue;
                }
            };
            match started {
                Ok(server) => break server,
                Err(error) => {
                    world.note(domain, || format!("the server did not start: {error}"));
                    require_transient(&world, &error);
                    world.executor.sleep(domain, 300 * MILLI).await;
                }
            }
        };
        lock(&self.state).started_at = Some(world.executor.now());
        world.up.fetch_add(1, Ordering::Relaxed);
        let _ = stop.changed().await;
        self.stop_server(&world, domain, server).await;
        // The process exits: nothing of it goes on.
        world.executor.crash(domain);
    }

    async fn start_server(
        &self,
        world: &Arc<World>,
        domain: DomainId,
        rng: &mut Rng,
    ) -> Result<Server, portfire_server::StartError> {
        let plan = &world.plan;
        let storage = FaultyStorage::for_server(world, domain);
        let runtime: Arc<dyn Runtime> =
            Arc::new(SimRuntime::new(Arc::clone(&world.executor), domain));
        let client = client(world, domain, Arc::clone(&storage) as Arc<dyn Storage>);
        let place = Place::new(world, domain);
        let queues: Vec<String> = (0..plan.queues).map(|queue| format!("q{queue}")).collect();
        let builder = Server::builder(storage)
            .name(format!("s{}", self.number))
            .services(Services::new().with(place))
            .workers(plan.workers as usize)
            .blocking_workers(plan.blocking_workers as usize)
            .register(handlers::of_program(self.number))
            .lease(plan.lease)
            .heartbeat_interval(plan.heartbeat)
            .rescue_interval(plan.rescue)
            .poll_interval(plan.poll)
            .clean_interval(plan.clean)
            .recoveries_max(RECOVERIES_MAX)
            .stop_timeout(STOP_TIMEOUT)
            .shutdown_timeout(SHUTDOWN_TIMEOUT)
            .unknown_kind_grace(UNKNOWN_KIND_GRACE)
            .applied(Listener { world: Arc::clone(world), domain })
            .runtime(runtime)
            .client(client);
        let shape = rng.below(3);
        let builder = if shape == 0 && plan.queues > 1 {
            let other =
                Pool::new("other").queues([queues[1].clone()]).workers(1).blocking_workers(1);
            builder.queues(queues).pool(other)
        } else if shape == 1 {
            builder.weighted_queues(queues.into_iter().zip([3, 1, 2]))
        } else {
            builder.queues(queues)
        };
        builder.start().await
    }

    async fn stop_server(&self, world: &Arc<World>, domain: DomainId, server: Server) {
        let began = world.executor.now();
        lock(&self.state).stopping_since = Some(began);
        world.note_stop(domain);
        let disturbances = world.executor.disturbances(domain);
        world.note(domain, || "the server is asked to stop".to_owned());
        let id = server.id();
        let report = server.shutdown().await;
        let took = world.executor.now() - began;
        world.note(domain, || format!("the server {id} has stopped: {report:?}"));
        lock(&self.state).stopping_since = None;
        let undisturbed = world.executor.disturbances(domain) == disturbances;
        let bound = (SHUTDOWN_TIMEOUT + LAST_STEPS).mul_f64(1.1);
        if undisturbed {
            world.truth.report(rules::s22_a_stop_is_in_time(domain, took, bound));
        }
        let ledger = world.truth.ledger();
        let servers = ledger.servers.iter().filter(|(_, known)| known.domain == domain);
        let kept: Vec<JobId> = servers.flat_map(|(server, _)| ledger.held_by(server)).collect();
        drop(ledger);
        // A retirement that the storage did not take is a fault of the storage, as long as there are any.
        if report.retired || (world.is_healed() && undisturbed) {
            world.truth.report(require(Invariant::S22, kept.is_empty(), || {
                format!("the server of {domain} has stopped and still holds {kept:?}")
            }));
        }
    }
}

fn require_transient(world: &World, error: &portfire_server::StartError) {
    let problems = error.problems();
    world.truth.report(require(Invariant::P1, problems.is_empty(), || {
        format!("the simulated server is put together wrongly: {error}")
    }));
}

/// Hears of the ends of attempts.
struct Listener {
    world: Arc<World>,
    domain: DomainId,
}

impl AppliedFilter for Listener {
    /// S6: only what was applied is heard of, and once.
    fn applied(&self, _: &JobContext, finish: &Finish) {
        let Claim { job, attempt, .. } = finish.claim;
        let first = self.world.effects().hear(job, attempt);
        let applied = self.world.truth.ledger().finished.contains(&(job, attempt));
        self.world.truth.report(require(Invariant::S6, first && applied, || {
            let domain = self.domain;
            format!(
                "{domain} hears of attempt {attempt} of job {job}: first {first}, applied {applied}"
            )
        }));
    }
}

/// A client of a process.
pub(crate) fn client(world: &Arc<World>, domain: DomainId, storage: Arc<dyn Storage>) -> Client {
    let executor = Arc::clone(&world.executor);
    let clock = Arc::clone(&world.truth.clock) as Arc<dyn Clock>;
    Client::builder(storage).clock(clock).entropy(move || executor.random(domain)).build()
}
