//! The seeded scheduler: one thread, virtual time, and tasks that belong to processes.
//!
//! A step takes one ready task at random and polls it. When nothing is ready, the clock jumps to the
//! next timer. A process ([`DomainId`]) can be crashed (its tasks are dropped where they stand),
//! paused (its tasks do not run while time goes on) and resumed. The ready tasks are kept in order
//! of their slots, so the order in which a step wakes tasks changes nothing.

mod core;
mod sleep;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use portfire_core::BoxFuture;

use self::core::{Core, Domain, Slot, Task, TaskEnd, TaskKey, TaskWaker};
pub(crate) use self::sleep::Sleep;
use crate::rng::Rng;
use crate::sync::lock;
use crate::timers::{Fires, Timers};
use crate::trace::Trace;

/// Panics with a text that begins so are part of the plan.
pub(crate) const PLANNED_PANIC: &str = "planned panic";

/// Longest time that passes by itself in one step.
const STEP_NANOS_MAX: u64 = 20_000;

/// One start of one process; the world itself is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DomainId(u32);

impl DomainId {
    /// The world outside of all processes: the network, the nemesis, the storage's machine.
    pub(crate) const WORLD: DomainId = DomainId(0);

    /// Its number.
    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// What a process is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DomainOptions {
    /// How fast its clock runs; 1.0 is right.
    pub(crate) clock_rate: f64,
    /// How often a task that is about to run is held up first.
    pub(crate) stall_chance: f64,
    /// Longest such stall.
    pub(crate) stall_max: Duration,
    /// Whether its clock stands while it is paused, as that of a suspended machine may.
    pub(crate) clock_stands_in_pauses: bool,
}

impl Default for DomainOptions {
    fn default() -> DomainOptions {
        DomainOptions {
            clock_rate: 1.0,
            stall_chance: 0.0,
            stall_max: Duration::ZERO,
            clock_stands_in_pauses: false,
        }
    }
}

/// Runs tasks, one at a time.
pub(crate) struct Executor {
    core: Mutex<Core>,
    woken: Arc<Mutex<Vec<TaskKey>>>,
    trace: Arc<Trace>,
}

/// A started task: ends it, or waits for its end.
#[derive(Clone)]
pub(crate) struct Started {
    executor: Arc<Executor>,
    key: Option<TaskKey>,
    end: Arc<Mutex<TaskEnd>>,
}

/// Unwinds code that blocks, when its process has crashed under it.
struct Crashed;

impl Executor {
    /// A world at time zero, without processes.
    pub(crate) fn new(rng: Rng, trace: Arc<Trace>) -> Arc<Executor> {
        let core = Core {
            now: 0,
            rng,
            slots: Vec::new(),
            free_slots: Vec::new(),
            ready: Vec::new(),
            timers: Timers::default(),
            domains: Vec::new(),
            steps: 0,
            panics: Vec::new(),
            stopped: false,
        };
        let executor = Executor { core: Mutex::new(core), woken: Arc::default(), trace };
        let executor = Arc::new(executor);
        executor.new_domain(DomainOptions::default());
        executor
    }

    /// Starts a process.
    pub(crate) fn new_domain(&self, options: DomainOptions) -> DomainId {
        let mut core = lock(&self.core);
        let rng = core.rng.fork();
        core.domains.push(Domain {
            options,
            alive: true,
            paused: false,
            paused_at: 0,
            resumed_at: 0,
            paused_nanos: 0,
            disturbances: 0,
            held: Vec::new(),
            fuse: None,
            rng,
            watching: Vec::new(),
        });
        DomainId(core.domains.len() as u32 - 1)
    }

    /// Starts a task in a process. In a process that has crashed it never runs.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        domain: DomainId,
        name: &'static str,
        future: BoxFuture<'static, ()>,
    ) -> Started {
        let end = Arc::new(Mutex::new(TaskEnd::default()));
        let mut core = lock(&self.core);
        if core.stopped || !core.domain(domain).alive {
            drop(core);
            drop(future);
            lock(&end).ended = true;
            return Started { executor: Arc::clone(self), key: None, end };
        }
        let index = core.free_slots.pop().unwrap_or_else(|| {
            core.slots.push(Slot { generation: 0, task: None });
            core.slots.len() as u32 - 1
        });
        let slot = &mut core.slots[index as usize];
        let key = TaskKey { index, generation: slot.generation };
        let waking = Arc::new(TaskWaker {
            key,
            queued: AtomicBool::new(true),
            woken: Arc::clone(&self.woken),
        });
        let waker = Waker::from(Arc::clone(&waking));
        let future = Some(future);
        slot.task = Some(Task { domain, name, future, waking, waker, end: Arc::clone(&end) });
        lock(&self.woken).push(key);
        Started { executor: Arc::clone(self), key: Some(key), end }
    }

    /// Virtual time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(lock(&self.core).now)
    }

    /// Steps made so far.
    pub(crate) fn steps(&self) -> u64 {
        lock(&self.core).steps
    }

    /// Time as the clock of a process tells it.
    pub(crate) fn elapsed(&self, domain: DomainId) -> Duration {
        let core = lock(&self.core);
        let cell = core.domain(domain);
        let stood = if cell.options.clock_stands_in_pauses { cell.paused_nanos } else { 0 };
        let passed = core.now - stood;
        match cell.options.clock_rate {
            1.0 => Duration::from_nanos(passed),
            rate => Duration::from_nanos((passed as f64 * rate) as u64),
        }
    }

    /// Waits, by the clock of a process.
    pub(crate) fn sleep(self: &Arc<Self>, domain: DomainId, time: Duration) -> Sleep {
        let rate = match domain {
            DomainId::WORLD => 1.0,
            _ => lock(&self.core).domain(domain).options.clock_rate,
        };
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // Rounded up: who waits until a moment must find that it has come.
        let nanos = match nanos {
            0 => 0,
            _ if rate == 1.0 => nanos,
            _ => (nanos as f64 / rate).ceil() as u64 + 1,
        };
        Sleep { executor: Arc::clone(self), nanos, begun: None }
    }

    /// Randomness of a process.
    pub(crate) fn random(&self, domain: DomainId) -> u64 {
        lock(&self.core).domain_mut(domain).rng.bits()
    }

    /// Ends a process as a power cut would: nothing of it runs any more.
    pub(crate) fn crash(&self, domain: DomainId) {
        let (dropped, ends, watching) = {
            let mut core = lock(&self.core);
            let cell = core.domain_mut(domain);
            cell.alive = false;
            cell.fuse = None;
            cell.held.clear();
            let watching = std::mem::take(&mut cell.watching);
            let doomed: Vec<u32> = (0..core.slots.len() as u32)
                .filter(|&index| {
                    let task = &core.slots[index as usize].task;
                    task.as_ref().is_some_and(|task| task.domain == domain)
                })
                .collect();
            let removed: Vec<Task> =
                doomed.into_iter().filter_map(|index| core.remove(index)).collect();
            let ends: Vec<_> = removed.iter().map(|task| Arc::clone(&task.end)).collect();
            (removed, ends, watching)
        };
        // Dropping runs code of the process, which finds its storage and its runtime gone.
        drop(dropped);
        ends.iter().for_each(TaskEnd::reach);
        watching.into_iter().for_each(Waker::wake);
    }

    /// Crashes a process after so many more polls of its tasks.
    pub(crate) fn light_fuse(&self, domain: DomainId, polls: u32) {
        lock(&self.core).domain_mut(domain).fuse = Some(polls);
    }

    /// Stops the tasks of a process while time goes on.
    pub(crate) fn pause(&self, domain: DomainId) {
        let mut core = lock(&self.core);
        let now = core.now;
        let cell = core.domain_mut(domain);
        if !cell.paused {
            cell.paused = true;
            cell.paused_at = now;
            cell.disturbances += 1;
        }
        let ready = std::mem::take(&mut core.ready);
        let (held, ready): (Vec<u32>, _) =
            ready.into_iter().partition(|&index| core.domain_of(index) == domain);
        core.ready = ready;
        core.domain_mut(domain).held.extend(held);
    }

    /// Lets the tasks of a paused process run on.
    pub(crate) fn resume(&self, domain: DomainId) {
        let mut core = lock(&self.core);
        let now = core.now;
        let cell = core.domain_mut(domain);
        if !cell.paused {
            return;
        }
        cell.paused = false;
        cell.resumed_at = now;
        cell.paused_nanos += now - cell.paused_at;
        let held = std::mem::take(&mut cell.held);
        held.into_iter().for_each(|index| core.make_ready(index));
    }

    /// Whether a process has not crashed.
    pub(crate) fn is_alive(&self, domain: DomainId) -> bool {
        lock(&self.core).domain(domain).alive
    }

    /// Whether a process is paused.
    pub(crate) fn is_paused(&self, domain: DomainId) -> bool {
        lock(&self.core).domain(domain).paused
    }

    /// When a process was resumed last; zero when it never was paused.
    pub(crate) fn resumed_at(&self, domain: DomainId) -> Duration {
        Duration::from_nanos(lock(&self.core).domain(domain).resumed_at)
    }

    /// How often a process was paused or one of its tasks held up.
    pub(crate) fn disturbances(&self, domain: DomainId) -> u64 {
        lock(&self.core).domain(domain).disturbances
    }

    /// Holds no task up any more.
    pub(crate) fn stop_stalls(&self) {
        lock(&self.core).domains.iter_mut().for_each(|cell| cell.options.stall_chance = 0.0);
    }

    /// Waits until a process has crashed.
    pub(crate) fn crashed(
        self: &Arc<Self>,
        domain: DomainId,
    ) -> impl Future<Output = ()> + Send + 'static {
        let executor = Arc::clone(self);
        std::future::poll_fn(move |cx| {
            let mut core = lock(&executor.core);
            let cell = core.domain_mut(domain);
            if !cell.alive {
                return Poll::Ready(());
            }
            if !cell.watching.iter().any(|waker| waker.will_wake(cx.waker())) {
                cell.watching.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Makes one step; `false` when nothing will ever happen again.
    pub(crate) fn step(&self) -> bool {
        let Some((key, mut future, waker)) = self.take_ready() else { return false };
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        self.after_poll(key, future, polled);
        true
    }

    /// Lets everything else go on until `time` has passed for a process: what a thread that blocks
    /// does to the world.
    ///
    /// # Panics
    /// Unwinds when the process crashes meanwhile: its thread is gone.
    pub(crate) fn block(&self, domain: DomainId, time: Duration) {
        let until = {
            let mut core = lock(&self.core);
            let until = core.now.saturating_add(time.as_nanos() as u64);
            // Bounds the jump of the clock.
            core.timers.set(until, Fires::Wakes(Waker::noop().clone()));
            until
        };
        let mut quiet = false;
        loop {
            {
                let core = lock(&self.core);
                let cell = core.domain(domain);
                if cell.alive && core.now >= until && !cell.paused {
                    return;
                }
                if !cell.alive || core.stopped || quiet {
                    break;
                }
            }
            // The last step of all may still have moved the clock to our own timer.
            quiet = !self.step();
        }
        resume_unwind(Box::new(Crashed));
    }

    /// What panicked that was not meant to.
    pub(crate) fn take_panics(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.core).panics)
    }

    /// Drops all tasks. Nothing runs any more.
    pub(crate) fn stop(&self) {
        let domains = {
            let mut core = lock(&self.core);
            core.stopped = true;
            core.domains.len() as u32
        };
        // The processes first: what they drop may still look at the world.
        (0..domains).rev().for_each(|domain| self.crash(DomainId(domain)));
    }

    fn take_ready(&self) -> Option<(TaskKey, BoxFuture<'static, ()>, Waker)> {
        let mut core = lock(&self.core);
        loop {
            self.gather(&mut core);
            let Some(index) = core.pick() else { if core.jump() { continue } else { return None } };
            core.steps += 1;
            core.now += core.rng.below(STEP_NANOS_MAX);
            if core.stalls(index) {
                continue;
            }
            let now = core.now;
            let slot = &mut core.slots[index as usize];
            let key = TaskKey { index, generation: slot.generation };
            let Some(task) = slot.task.as_mut() else { continue };
            let Some(future) = task.future.take() else { continue };
            task.waking.queued.store(false, Ordering::Relaxed);
            self.trace.mix(now ^ (u64::from(index) << 56));
            return Some((key, future, task.waker.clone()));
        }
    }

    /// Fires the timers that are due and takes over what was woken.
    fn gather(&self, core: &mut Core) {
        core.fire();
        let woken = std::mem::take(&mut *lock(&self.woken));
        for key in woken {
            core.wake(key);
        }
    }

    fn after_poll(
        &self,
        key: TaskKey,
        future: BoxFuture<'static, ()>,
        polled: Result<Poll<()>, Box<dyn Any + Send>>,
    ) {
        let mut future = Some(future);
        let mut ended = None;
        let mut burnt = None;
        {
            let mut core = lock(&self.core);
            let slot = &mut core.slots[key.index as usize];
            let current = slot.generation == key.generation;
            if let Some(task) = slot.task.as_mut().filter(|_| current) {
                let domain = task.domain;
                if matches!(polled, Ok(Poll::Pending)) {
                    task.future = future.take();
                } else {
                    ended = core.remove(key.index);
                }
                burnt = core.burn(domain);
            }
            if let Err(panic) = polled {
                let name = ended.as_ref().map_or("a task that had ended", |task| task.name);
                core.note_panic(name, &*panic);
            }
        }
        drop(future);
        if let Some(task) = ended {
            TaskEnd::reach(&task.end);
        }
        if let Some(domain) = burnt {
            self.crash(domain);
        }
    }

    fn abort(&self, key: TaskKey) {
        let removed = {
            let mut core = lock(&self.core);
            let current = core.slots[key.index as usize].generation == key.generation;
            if current { core.remove(key.index) } else { None }
        };
        if let Some(task) = removed {
            let end = Arc::clone(&task.end);
            drop(task);
            TaskEnd::reach(&end);
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = lock(&self.core);
        write!(f, "Executor at {:?} after {} steps", Duration::from_nanos(core.now), core.steps)
    }
}

impl Started {
    /// Drops the task where it stands.
    pub(crate) fn abort(&self) {
        if let Some(key) = self.key {
            self.executor.abort(key);
        }
    }

    /// Waits until the task has ended, however it ended.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        let end = Arc::clone(&self.end);
        std::future::poll_fn(move |cx| {
            let mut end = lock(&end);
            if end.ended {
                return Poll::Ready(());
            }
            if !end.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                end.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

#[cfg(test)]
mod tests;
