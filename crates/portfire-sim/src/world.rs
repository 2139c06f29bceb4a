//! The simulated world: what everybody in it shares.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use portfire_core::JobId;

use crate::effects::Effects;
use crate::executor::{DomainId, Executor};
use crate::marks::{Mark, Marks};
use crate::mutants::Mutant;
use crate::plan::{Network, Plan};
use crate::rng::Rng;
use crate::sync::lock;
use crate::trace::Trace;
use crate::truth::Truth;

/// Crashes a job may survive.
pub(crate) const RECOVERIES_MAX: u32 = 3;

/// One world, from one seed.
pub(crate) struct World {
    pub(crate) executor: Arc<Executor>,
    pub(crate) truth: Truth,
    pub(crate) plan: Plan,
    pub(crate) marks: Arc<Marks>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) mutant: Option<Mutant>,
    effects: Arc<Mutex<Effects>>,
    rng: Mutex<Rng>,
    /// The storage cannot be reached.
    outage: AtomicBool,
    /// The faults have stopped.
    healed: AtomicBool,
    healed_at: Mutex<Option<Duration>>,
    stopping: Mutex<BTreeMap<DomainId, Duration>>,
    /// Processes that are down and will come back.
    pub(crate) down: AtomicU32,
    /// Servers that run.
    pub(crate) up: AtomicU32,
    /// Jobs that nothing keeps from running, and since when.
    prompt: Mutex<BTreeMap<JobId, Duration>>,
}

impl World {
    /// The world of a seed.
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>, traced: bool) -> Arc<World> {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        let trace = Arc::new(Trace::new(traced));
        let executor = Executor::new(rng.fork(), Arc::clone(&trace));
        let marks = Arc::new(Marks::default());
        let effects = Arc::new(Mutex::new(Effects::default()));
        let truth = Truth::new(
            Arc::clone(&executor),
            plan.retention,
            plan.calm,
            RECOVERIES_MAX,
            mutant,
            Arc::clone(&marks),
            Arc::clone(&effects),
        );
        let world = World {
            executor,
            truth,
            plan,
            marks,
            trace,
            mutant,
            effects,
            rng: Mutex::new(rng),
            outage: AtomicBool::new(false),
            healed: AtomicBool::new(false),
            healed_at: Mutex::new(None),
            stopping: Mutex::default(),
            down: AtomicU32::new(0),
            up: AtomicU32::new(0),
            prompt: Mutex::default(),
        };
        world.trace.line(Duration::ZERO, || format!("{:#?}", world.plan));
        Arc::new(world)
    }

    /// The log of effects.
    pub(crate) fn effects(&self) -> MutexGuard<'_, Effects> {
        lock(&self.effects)
    }

    /// A stream of randomness of its own.
    pub(crate) fn fork_rng(&self) -> Rng {
        lock(&self.rng).fork()
    }

    /// How the network behaves now.
    pub(crate) fn network(&self) -> Network {
        if self.is_healed() {
            return Network::calm();
        }
        self.plan.network
    }

    /// Whether the storage cannot be reached.
    pub(crate) fn is_outage(&self) -> bool {
        self.outage.load(Ordering::Relaxed)
    }

    /// Begins or ends a time in which the storage cannot be reached.
    pub(crate) fn set_outage(&self, outage: bool) {
        self.outage.store(outage, Ordering::Relaxed);
    }

    /// Whether the faults have stopped.
    pub(crate) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    /// Stops the faults.
    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        *lock(&self.healed_at) = Some(self.executor.now());
        self.executor.stop_stalls();
        self.set_outage(false);
        self.note(DomainId::WORLD, || "the faults stop".to_owned());
    }

    /// Whether the faults had stopped by then, if there were any.
    pub(crate) fn healed_before(&self, at: Duration) -> bool {
        self.plan.calm || lock(&self.healed_at).is_some_and(|healed| healed <= at)
    }

    /// Notes that the server of a process is asked to stop.
    pub(crate) fn note_stop(&self, domain: DomainId) {
        lock(&self.stopping).insert(domain, self.executor.now());
    }

    /// Since when the server of a process is stopping.
    pub(crate) fn stopping_since(&self, domain: DomainId) -> Option<Duration> {
        lock(&self.stopping).get(&domain).copied()
    }

    /// Whether nothing goes wrong, all servers run, and none has anything to do.
    pub(crate) fn is_idle(&self) -> bool {
        let all_up = self.up.load(Ordering::Relaxed) == self.plan.servers as u32;
        self.plan.calm
            && self.plan.recurring == 0
            && all_up
            && self.truth.ledger().unfinished() == 0
            && self.effects().running() == 0
    }

    /// Notes a job that is to run at once.
    pub(crate) fn expect_promptly(&self, job: JobId) {
        lock(&self.prompt).insert(job, self.executor.now());
    }

    /// Since when a job is to run, if it was noted.
    pub(crate) fn expected_since(&self, job: JobId) -> Option<Duration> {
        lock(&self.prompt).remove(&job)
    }

    /// Waits in virtual time.
    pub(crate) async fn sleep(&self, time: Duration) {
        self.executor.sleep(DomainId::WORLD, time).await;
    }

    /// Counts a rare situation.
    pub(crate) fn hit(&self, mark: Mark) {
        self.marks.hit(mark);
    }

    /// Writes a line of the trace.
    pub(crate) fn note(&self, domain: DomainId, text: impl FnOnce() -> String) {
        if self.trace.is_kept() {
            self.trace.line(self.executor.now(), || format!("{domain:>4} {}", text()));
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("executor", &self.executor).finish_non_exhaustive()
    }
}
