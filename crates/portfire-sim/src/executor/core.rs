//! What the scheduler knows: tasks, timers, processes, and which task may run next.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use portfire_core::BoxFuture;

use super::{Crashed, DomainId, DomainOptions, PLANNED_PANIC};
use crate::rng::Rng;
use crate::sync::lock;
use crate::timers::{Fires, Timers};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

pub(super) struct Core {
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) slots: Vec<Slot>,
    pub(super) free_slots: Vec<u32>,
    /// Slots of the tasks that may run, in rising order.
    pub(super) ready: Vec<u32>,
    pub(super) timers: Timers<TaskKey>,
    pub(super) domains: Vec<Domain>,
    pub(super) steps: u64,
    pub(super) panics: Vec<String>,
    pub(super) stopped: bool,
}

pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) task: Option<Task>,
}

pub(super) struct Task {
    pub(super) domain: DomainId,
    pub(super) name: &'static str,
    /// Absent while it is being polled.
    pub(super) future: Option<BoxFuture<'static, ()>>,
    pub(super) waking: Arc<TaskWaker>,
    pub(super) waker: Waker,
    pub(super) end: Arc<Mutex<TaskEnd>>,
}

#[derive(Default)]
pub(super) struct TaskEnd {
    pub(super) ended: bool,
    pub(super) waiting: Vec<Waker>,
}

pub(super) struct Domain {
    pub(super) options: DomainOptions,
    pub(super) alive: bool,
    pub(super) paused: bool,
    pub(super) paused_at: u64,
    pub(super) resumed_at: u64,
    pub(super) paused_nanos: u64,
    /// How often it was paused or one of its tasks stalled.
    pub(super) disturbances: u64,
    /// Ready tasks of a paused domain.
    pub(super) held: Vec<u32>,
    /// Polls until it crashes.
    pub(super) fuse: Option<u32>,
    pub(super) rng: Rng,
    pub(super) watching: Vec<Waker>,
}

pub(super) struct TaskWaker {
    pub(super) key: TaskKey,
    pub(super) queued: AtomicBool,
    pub(super) woken: Arc<Mutex<Vec<TaskKey>>>,
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

impl Core {
    pub(super) fn domain(&self, domain: DomainId) -> &Domain {
        &self.domains[domain.0 as usize]
    }

    pub(super) fn domain_mut(&mut self, domain: DomainId) -> &mut Domain {
        &mut self.domains[domain.0 as usize]
    }

    pub(super) fn domain_of(&self, index: u32) -> DomainId {
        let task = self.slots[index as usize].task.as_ref();
        task.map_or(DomainId::WORLD, |task| task.domain)
    }

    pub(super) fn wake(&mut self, key: TaskKey) {
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

    pub(super) fn make_ready(&mut self, index: u32) {
        if let Err(place) = self.ready.binary_search(&index) {
            self.ready.insert(place, index);
        }
    }

    pub(super) fn pick(&mut self) -> Option<u32> {
        if self.ready.is_empty() {
            return None;
        }
        let nth = self.rng.below(self.ready.len() as u64);
        Some(self.ready.remove(nth as usize))
    }

    /// Moves the clock to the next timer.
    pub(super) fn jump(&mut self) -> bool {
        let Some(at) = self.timers.next() else { return false };
        self.now = self.now.max(at);
        true
    }

    pub(super) fn fire(&mut self) {
        while let Some(fires) = self.timers.due(self.now) {
            match fires {
                Fires::Wakes(waker) => waker.wake(),
                Fires::Readies(key) => self.wake(key),
            }
        }
    }

    /// Holds a task up that was about to run, as an operating system does now and then.
    pub(super) fn stalls(&mut self, index: u32) -> bool {
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

    pub(super) fn remove(&mut self, index: u32) -> Option<Task> {
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
    pub(super) fn burn(&mut self, domain: DomainId) -> Option<DomainId> {
        let fuse = self.domain_mut(domain).fuse.as_mut()?;
        *fuse = fuse.saturating_sub(1);
        (*fuse == 0).then_some(domain)
    }

    pub(super) fn note_panic(&mut self, task: &str, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let planned = text.as_ref().is_some_and(|text| text.starts_with(PLANNED_PANIC));
        if !planned && !panic.is::<Crashed>() {
            self.panics.push(format!("{task}: {}", text.unwrap_or_default()));
        }
    }
}

impl TaskEnd {
    pub(super) fn reach(end: &Arc<Mutex<TaskEnd>>) {
        let waiting = {
            let mut end = lock(end);
            end.ended = true;
            std::mem::take(&mut end.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}
