//! The seeded scheduler: one thread, virtual time, and tasks that belong to processes.
//!
//! A step takes one ready task at random and polls it. When nothing is ready, the clock jumps to the
//! next timer. A process ([`DomainId`]) can be crashed (its tasks are dropped where they stand),
//! paused (its tasks do not run while time goes on) and resumed. The ready tasks are kept in order
//! of their slots, so the order in which a step wakes tasks changes nothing.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use portfire_core::BoxFuture;

use crate::rng::Rng;
use crate::sync::lock;
use crate::timers::{Fires, TimerKey, Timers};
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

#[derive(Clone, Copy, PartialEq, Eq)]
struct TaskKey {
    index: u32,
    generation: u32,
}

struct Core {
    now: u64,
    rng: Rng,
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
    /// Slots of the tasks that may run, in rising order.
    ready: Vec<u32>,
    timers: Timers<TaskKey>,
    domains: Vec<Domain>,
    steps: u64,
    panics: Vec<String>,
    stopped: bool,
}

struct Slot {
    generation: u32,
    task: Option<Task>,
}

struct Task {
    domain: DomainId,
    name: &'static str,
    /// Absent while it is being polled.
    future: Option<BoxFuture<'static, ()>>,
    waking: Arc<TaskWaker>,
    waker: Waker,
    end: Arc<Mutex<TaskEnd>>,
}

#[derive(Default)]
struct TaskEnd {
    ended: bool,
    waiting: Vec<Waker>,
}

struct Domain {
    options: DomainOptions,
    alive: bool,
    paused: bool,
    paused_at: u64,
    resumed_at: u64,
    paused_nanos: u64,
    /// How often it was paused or one of its tasks stalled.
    disturbances: u64,
    /// Ready tasks of a paused domain.
    held: Vec<u32>,
    /// Polls until it crashes.
    fuse: Option<u32>,
    rng: Rng,
    watching: Vec<Waker>,
}

struct TaskWaker {
    key: TaskKey,
    queued: AtomicBool,
    woken: Arc<Mutex<Vec<TaskKey>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.woken).push(self.key);
        }
    }
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
        Duration::from_nanos(core.now - stood).mul_f64(cell.options.clock_rate)
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

impl Core {
    fn domain(&self, domain: DomainId) -> &Domain {
        &self.domains[domain.0 as usize]
    }

    fn domain_mut(&mut self, domain: DomainId) -> &mut Domain {
        &mut self.domains[domain.0 as usize]
    }

    fn domain_of(&self, index: u32) -> DomainId {
        let task = self.slots[index as usize].task.as_ref();
        task.map_or(DomainId::WORLD, |task| task.domain)
    }

    fn wake(&mut self, key: TaskKey) {
        let slot = &self.slots[key.index as usize];
        if slot.generation != key.generation || slot.task.is_none() {
            return;
        }
        let domain = self.domain_of(key.index);
        let domain = self.domain_mut(domain);
        if !domain.paused {
            self.make_ready(key.index);
        } else if !domain.held.contains(&key.index) {
            domain.held.push(key.index);
        }
    }

    fn make_ready(&mut self, index: u32) {
        if let Err(place) = self.ready.binary_search(&index) {
            self.ready.insert(place, index);
        }
    }

    fn pick(&mut self) -> Option<u32> {
        if self.ready.is_empty() {
            return None;
        }
        let nth = self.rng.below(self.ready.len() as u64);
        Some(self.ready.remove(nth as usize))
    }

    /// Moves the clock to the next timer.
    fn jump(&mut self) -> bool {
        let Some(at) = self.timers.next() else { return false };
        self.now = self.now.max(at);
        true
    }

    fn fire(&mut self) {
        while let Some(fires) = self.timers.due(self.now) {
            match fires {
                Fires::Wakes(waker) => waker.wake(),
                Fires::Readies(key) => self.wake(key),
            }
        }
    }

    /// Holds a task up that was about to run, as an operating system does now and then.
    fn stalls(&mut self, index: u32) -> bool {
        let DomainOptions { stall_chance, stall_max, .. } =
            self.domain(self.domain_of(index)).options;
        if stall_chance == 0.0 || !self.rng.chance(stall_chance) {
            return false;
        }
        let stall = self.rng.heavy_tail(Duration::from_millis(1), stall_max);
        let domain = self.domain_of(index);
        self.domain_mut(domain).disturbances += 1;
        let generation = self.slots[index as usize].generation;
        let at = self.now + stall.as_nanos() as u64;
        self.timers.set(at, Fires::Readies(TaskKey { index, generation }));
        true
    }

    fn remove(&mut self, index: u32) -> Option<Task> {
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let task = slot.task.take()?;
        self.free_slots.push(index);
        if let Ok(place) = self.ready.binary_search(&index) {
            self.ready.remove(place);
        }
        self.domain_mut(task.domain).held.retain(|&held| held != index);
        Some(task)
    }

    /// Counts a poll against the fuse of a process; the process when it has burnt down.
    fn burn(&mut self, domain: DomainId) -> Option<DomainId> {
        let fuse = self.domain_mut(domain).fuse.as_mut()?;
        *fuse = fuse.saturating_sub(1);
        (*fuse == 0).then_some(domain)
    }

    fn note_panic(&mut self, task: &str, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let planned = text.as_ref().is_some_and(|text| text.starts_with(PLANNED_PANIC));
        if !planned && !panic.is::<Crashed>() {
            self.panics.push(format!("{task}: {}", text.unwrap_or_default()));
        }
    }
}

impl TaskEnd {
    fn reach(end: &Arc<Mutex<TaskEnd>>) {
        let waiting = {
            let mut end = lock(end);
            end.ended = true;
            std::mem::take(&mut end.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
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

/// A wait in virtual time. It begins when it is first polled.
pub(crate) struct Sleep {
    executor: Arc<Executor>,
    nanos: u64,
    begun: Option<(u64, TimerKey)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let executor = Arc::clone(&self.executor);
        let mut core = lock(&executor.core);
        let wakes = Fires::Wakes(cx.waker().clone());
        match self.begun {
            None if self.nanos == 0 => return Poll::Ready(()),
            None => {
                let until = core.now.saturating_add(self.nanos);
                self.begun = Some((until, core.timers.set(until, wakes)));
            }
            Some((until, _)) if core.now >= until => return Poll::Ready(()),
            Some((_, timer)) => core.timers.replace(timer, wakes),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((_, timer)) = self.begun {
            lock(&self.executor.core).timers.clear(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Log = Arc<Mutex<Vec<(u64, &'static str)>>>;

    fn world(seed: u64) -> (Arc<Executor>, Log) {
        (Executor::new(Rng::new(seed), Arc::default()), Log::default())
    }

    fn sleeper(
        executor: &Arc<Executor>,
        domain: DomainId,
        millis: &'static [u64],
        name: &'static str,
        log: &Log,
    ) -> Started {
        let (inner, log) = (Arc::clone(executor), Arc::clone(log));
        let task = async move {
            for &wait in millis {
                inner.sleep(domain, Duration::from_millis(wait)).await;
                lock(&log).push((inner.now().as_millis() as u64, name));
            }
        };
        executor.spawn(domain, name, Box::pin(task))
    }

    fn run(executor: &Arc<Executor>) {
        while executor.step() {}
        assert_eq!(executor.take_panics(), [] as [String; 0]);
    }

    #[test]
    fn the_clock_jumps_from_timer_to_timer() {
        let (executor, log) = world(1);
        sleeper(&executor, DomainId::WORLD, &[10, 3_600_000], "a", &log);
        sleeper(&executor, DomainId::WORLD, &[500], "b", &log);
        run(&executor);
        assert_eq!(*lock(&log), [(10, "a"), (500, "b"), (3_600_010, "a")]);
        assert!(executor.steps() < 20);
    }

    #[test]
    fn a_seed_decides_the_order_of_ready_tasks() {
        let order = |seed| {
            let (executor, log) = world(seed);
            for name in ["a", "b", "c", "d", "e"] {
                sleeper(&executor, DomainId::WORLD, &[0], name, &log);
            }
            run(&executor);
            let order: String = lock(&log).iter().map(|&(_, name)| name).collect();
            order
        };
        assert_eq!(order(7), order(7));
        let orders: std::collections::BTreeSet<String> = (0..50).map(order).collect();
        assert!(orders.len() > 20, "{}", orders.len());
    }

    #[test]
    fn a_crashed_process_stops_where_it_stands_and_its_watchers_hear_of_it() {
        let (executor, log) = world(2);
        let process = executor.new_domain(DomainOptions::default());
        let task = sleeper(&executor, process, &[10, 10, 10], "process", &log);
        let (inner, heard) = (Arc::clone(&executor), Arc::clone(&log));
        let watcher = async move {
            inner.sleep(DomainId::WORLD, Duration::from_millis(15)).await;
            inner.crash(process);
            inner.crashed(process).await;
            task.ended().await;
            lock(&heard).push((inner.now().as_millis() as u64, "crashed"));
            let late = inner.spawn(process, "late", Box::pin(async { unreachable!() }));
            late.ended().await;
        };
        executor.spawn(DomainId::WORLD, "watcher", Box::pin(watcher));
        run(&executor);
        assert_eq!(*lock(&log), [(10, "process"), (15, "crashed")]);
    }

    #[test]
    fn a_fuse_crashes_between_two_awaits() {
        let (executor, log) = world(3);
        let process = executor.new_domain(DomainOptions::default());
        sleeper(&executor, process, &[1, 1, 1, 1, 1, 1], "process", &log);
        executor.light_fuse(process, 4);
        run(&executor);
        assert_eq!(lock(&log).len(), 3, "the first of four polls only begins to wait");
        assert!(!executor.is_alive(process));
    }

    #[test]
    fn a_paused_process_runs_on_when_it_is_resumed() {
        let (executor, log) = world(4);
        let process = executor.new_domain(DomainOptions::default());
        sleeper(&executor, process, &[10, 10], "process", &log);
        sleeper(&executor, DomainId::WORLD, &[100], "world", &log);
        executor.pause(process);
        let inner = Arc::clone(&executor);
        let nemesis = async move {
            inner.sleep(DomainId::WORLD, Duration::from_millis(200)).await;
            assert!(inner.is_paused(process));
            inner.resume(process);
        };
        executor.spawn(DomainId::WORLD, "nemesis", Box::pin(nemesis));
        run(&executor);
        assert_eq!(*lock(&log), [(100, "world"), (210, "process"), (220, "process")]);
    }

    #[test]
    fn a_skewed_clock_runs_at_its_own_rate() {
        let (executor, log) = world(5);
        let fast = DomainOptions { clock_rate: 2.0, ..DomainOptions::default() };
        let process = executor.new_domain(fast);
        sleeper(&executor, process, &[100], "process", &log);
        run(&executor);
        assert_eq!(*lock(&log), [(50, "process")]);
        assert_eq!(executor.elapsed(process).as_millis(), 100);
    }

    #[test]
    fn code_that_blocks_lets_the_others_run() {
        let (executor, log) = world(6);
        let process = executor.new_domain(DomainOptions::default());
        sleeper(&executor, process, &[10], "beside", &log);
        let (inner, heard) = (Arc::clone(&executor), Arc::clone(&log));
        let blocks = async move {
            inner.block(process, Duration::from_millis(50));
            lock(&heard).push((inner.now().as_millis() as u64, "blocked"));
        };
        executor.spawn(process, "blocks", Box::pin(blocks));
        run(&executor);
        assert_eq!(*lock(&log), [(10, "beside"), (50, "blocked")]);
    }

    #[test]
    fn a_crash_unwinds_the_thread_that_blocks() {
        let (executor, log) = world(7);
        let process = executor.new_domain(DomainOptions::default());
        let (inner, heard) = (Arc::clone(&executor), Arc::clone(&log));
        let blocks = async move {
            inner.block(process, Duration::from_millis(50));
            lock(&heard).push((0, "never"));
        };
        executor.spawn(process, "blocks", Box::pin(blocks));
        let inner = Arc::clone(&executor);
        let nemesis = async move {
            inner.sleep(DomainId::WORLD, Duration::from_millis(20)).await;
            inner.crash(process);
        };
        executor.spawn(DomainId::WORLD, "nemesis", Box::pin(nemesis));
        run(&executor);
        assert!(lock(&log).is_empty());
    }

    #[test]
    fn aborted_tasks_end_and_unplanned_panics_are_noted() {
        let (executor, log) = world(8);
        let doomed = sleeper(&executor, DomainId::WORLD, &[10], "doomed", &log);
        doomed.abort();
        for text in ["a bug", PLANNED_PANIC] {
            let task = async move { resume_unwind(Box::new(text)) };
            executor.spawn(DomainId::WORLD, "panics", Box::pin(task));
        }
        while executor.step() {}
        assert!(lock(&log).is_empty());
        assert_eq!(executor.take_panics(), ["panics: a bug"]);
    }
}
