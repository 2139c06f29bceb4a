//! One run from one seed: trouble, then peace, then the end; and what came of it.

use std::sync::Arc;
use std::time::Duration;

use portfire_core::{Cause, StateName};

use crate::executor::DomainId;
use crate::hosts::Host;
use crate::invariants::{Check, Invariant, Violation, require};
use crate::marks::Marks;
use crate::mutants::Mutant;
use crate::nemesis;
use crate::panics;
use crate::tied;
use crate::workload::Workload;
use crate::world::World;

/// Steps after which a run is given up: something goes round in circles.
const STEPS_MAX: u64 = 2_000_000;

/// Steps between two looks at whether a phase is over.
const STEPS_BETWEEN_LOOKS: u64 = 64;

/// What to simulate besides the seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A planted fault. Default: none.
    pub mutant: Option<Mutant>,
    /// Whether to keep the lines of the trace. Default: no.
    pub traced: bool,
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The first broken rule.
    pub violation: Option<Violation>,
    /// Equal for equal runs, and only for them.
    pub hash: u64,
    /// Steps of the scheduler.
    pub steps: u64,
    /// How long it took in virtual time.
    pub virtual_time: Duration,
    /// The rare situations that were met.
    pub marks: Arc<Marks>,
    /// What happened, when it was to be kept.
    pub lines: Vec<String>,
}

/// Runs a seed.
pub fn simulate(seed: u64, options: Options) -> Report {
    let panics = panics::listen();
    let world = World::new(seed, options.mutant, options.traced);
    let mut scenario = Scenario::new(Arc::clone(&world));
    scenario.run();
    let panicked = panics.heard().into_iter().chain(world.executor.take_panics()).next();
    world.executor.stop();
    let violation = match (world.truth.violation(), panicked) {
        (Some(violation), _) => Some(violation),
        (None, Some(detail)) => Some(Violation { invariant: Invariant::P1, detail }),
        (None, None) => None,
    };
    Report {
        seed,
        violation,
        hash: world.trace.hash(),
        steps: world.executor.steps(),
        virtual_time: world.executor.now(),
        marks: Arc::clone(&world.marks),
        lines: world.trace.take_lines(),
    }
}

struct Scenario {
    world: Arc<World>,
    hosts: Vec<Arc<Host>>,
    workload: Arc<Workload>,
}

impl Scenario {
    fn new(world: Arc<World>) -> Scenario {
        let mut rng = world.fork_rng();
        let hosts: Vec<_> = (0..world.plan.servers).map(Host::new).collect();
        let workload = Workload::new(&world, &mut rng);
        let spawn = |name, task| {
            world.executor.spawn(DomainId::WORLD, name, task);
        };
        for host in &hosts {
            spawn("host", Box::pin(Arc::clone(host).run(Arc::clone(&world))));
        }
        for _ in 0..world.plan.clients {
            spawn("clients", Box::pin(Arc::clone(&workload).run(Arc::clone(&world))));
        }
        let nemesis = nemesis::run(Arc::clone(&world), hosts.clone(), Arc::clone(&workload));
        spawn("nemesis", Box::pin(nemesis));
        Scenario { world, hosts, workload }
    }

    fn run(&mut self) {
        let world = Arc::clone(&self.world);
        let plan = &world.plan;
        if !self.run_until(plan.trouble, || false) {
            return;
        }
        world.heal();
        // The longest stay away, pause and call may still be under way, and storage time may stand.
        let bound = world.executor.now() + plan.lease * 80 + Duration::from_secs(120);
        let settled = || {
            if self.workload.is_done() {
                tied::abandon(&world);
                tied::end_recurring(&world);
                tied::repair(&world);
            }
            world.truth.report(self.s8_the_dead_hold_nothing());
            self.is_settled()
        };
        if !self.run_until(bound, settled) {
            return;
        }
        world.truth.report(self.l1_everything_ends());
        self.hosts.iter().for_each(|host| host.close());
        let closed = world.executor.now() + Duration::from_secs(30);
        if !self.run_until(closed, || self.hosts.iter().all(|host| host.is_closed())) {
            return;
        }
        world.truth.report(self.s22_all_have_stopped());
        world.truth.inspect();
        world.truth.report(self.s4_what_succeeded_was_done());
    }

    /// Makes steps until a moment, or until something is so; `false` when a rule was broken.
    fn run_until(&self, moment: Duration, is_so: impl Fn() -> bool) -> bool {
        let executor = &self.world.executor;
        loop {
            let mut quiet = false;
            for _ in 0..STEPS_BETWEEN_LOOKS {
                quiet = !executor.step();
                if self.world.truth.is_violated() {
                    return false;
                }
                if quiet {
                    break;
                }
                if executor.now() >= moment {
                    return true;
                }
            }
            // When nothing will ever happen again, the moment is as good as here.
            if is_so() || quiet {
                return true;
            }
            if executor.steps() > STEPS_MAX {
                self.world.truth.report(require(Invariant::L1, false, || {
                    format!("no end after {STEPS_MAX} steps, at {:?}", executor.now())
                }));
                return false;
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.workload.is_done() && self.world.truth.ledger().unfinished() == 0
    }

    /// S8: the jobs of a server are taken back soon after its lease has lapsed, when another server
    /// has been there to do it.
    fn s8_the_dead_hold_nothing(&self) -> Check {
        let world = &self.world;
        let bound = world.plan.rescue.mul_f64(1.5) + Duration::from_secs(1);
        let began_before = world.executor.now().saturating_sub(bound);
        let rescuer = |host: &Arc<Host>| {
            let running = host.domain().is_some_and(|domain| !world.executor.is_paused(domain));
            let resumed = host.domain().map(|domain| world.executor.resumed_at(domain));
            let since = host.started_at().max(resumed);
            running && since.is_some_and(|since| since > Duration::ZERO && since <= began_before)
        };
        // The longest call that set out before may still be under way.
        let healed_before = began_before.saturating_sub(4 * world.plan.lease);
        if !world.healed_before(healed_before) || !self.hosts.iter().any(rescuer) {
            return Ok(());
        }
        let lapsed_before = world.truth.now().saturating_sub(bound);
        let ledger = world.truth.ledger();
        let orphan = ledger.jobs.iter().find(|(_, entry)| {
            let server = entry.holder.as_ref().and_then(|holder| ledger.servers.get(holder));
            server.is_some_and(|server| server.lease_until <= lapsed_before)
        });
        require(Invariant::S8, orphan.is_none(), || {
            format!("{orphan:?} is still held, though the lease of its server has lapsed")
        })
    }

    /// L1: every job is final.
    fn l1_everything_ends(&self) -> Check {
        let ledger = self.world.truth.ledger();
        let open = ledger.jobs.iter().find(|(_, entry)| !entry.standing.state.is_final());
        require(Invariant::L1, open.is_none() && self.workload.is_done(), || match open {
            Some((job, entry)) => format!(
                "job {job} is {} since revision {} ({}), held by {:?}, long after the faults stopped",
                entry.standing.state, entry.standing.revision, entry.cause, entry.holder
            ),
            None => "a client is still busy long after the faults stopped".to_owned(),
        })
    }

    /// S22: every host has stopped.
    fn s22_all_have_stopped(&self) -> Check {
        let stopped = self.hosts.iter().all(|host| host.is_closed());
        require(Invariant::S22, stopped, || "a server does not stop".to_owned())
    }

    /// S4: what succeeded has a complete run; without a fault, each handler ran as often as it asks for.
    fn s4_what_succeeded_was_done(&self) -> Check {
        let ledger = self.world.truth.ledger();
        let effects = self.world.effects();
        for (&job, entry) in &ledger.jobs {
            if entry.standing.state == StateName::Succeeded {
                let done = effects.of(job).any(|(_, run)| run.is_done());
                require(Invariant::S4, done, || format!("job {job} succeeded without a run"))?;
            }
            let Some(asked) = ledger.asked.get(&job).filter(|_| self.world.plan.calm) else {
                continue;
            };
            let steered = ledger.was_steered(job);
            let wanted = entry.kind.and_then(|kind| kind.runs_in_calm(&asked.args));
            if let Some(wanted) = wanted.filter(|_| !steered && entry.cause != Cause::Deleted) {
                let ran = effects.of(job).count();
                require(Invariant::S4, ran == wanted as usize, || {
                    format!(
                        "without a fault, job {job} ({}) ran {ran} times, not {wanted}",
                        asked.kind
                    )
                })?;
            }
        }
        Ok(())
    }
}
