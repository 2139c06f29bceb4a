//! The timers of the virtual clock, the soonest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

/// What a timer does when its time has come.
pub(crate) enum Fires<T> {
    /// Wakes a future.
    Wakes(Waker),
    /// Lets a task run that was held up.
    Readies(T),
}

/// A timer that was set.
#[derive(Clone, Copy)]
pub(crate) struct TimerKey {
    cell: u32,
    number: u64,
}

/// Timers by their time, in nanoseconds; equal times in the order in which they were set.
pub(crate) struct Timers<T> {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    cells: Vec<Cell<T>>,
    free: Vec<u32>,
    made: u64,
}

struct Cell<T> {
    number: u64,
    /// Absent once it was cleared: the clock does not stop for it.
    fires: Option<Fires<T>>,
}

impl<T> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers { heap: BinaryHeap::new(), cells: Vec::new(), free: Vec::new(), made: 0 }
    }
}

impl<T> Timers<T> {
    /// Sets a timer.
    pub(crate) fn set(&mut self, at: u64, fires: Fires<T>) -> TimerKey {
        self.made += 1;
        let set = Cell { number: self.made, fires: Some(fires) };
        let cell = match self.free.pop() {
            Some(cell) => {
                self.cells[cell as usize] = set;
                cell
            }
            None => {
                self.cells.push(set);
                self.cells.len() as u32 - 1
            }
        };
        self.heap.push(Reverse((at, self.made, cell)));
        TimerKey { cell, number: self.made }
    }

    /// Lets a timer that has not fired do something else at its time.
    pub(crate) fn replace(&mut self, timer: TimerKey, fires: Fires<T>) {
        if let Some(cell) = self.cell(timer) {
            cell.fires = Some(fires);
        }
    }

    /// Takes a timer back, if it has not fired.
    pub(crate) fn clear(&mut self, timer: TimerKey) {
        if let Some(cell) = self.cell(timer) {
            cell.fires = None;
        }
    }

    /// When the next timer fires.
    pub(crate) fn next(&mut self) -> Option<u64> {
        while let Some(&Reverse((at, _, cell))) = self.heap.peek() {
            if self.cells[cell as usize].fires.is_some() {
                return Some(at);
            }
            self.pop();
        }
        None
    }

    /// What the next timer does, if its time has come.
    pub(crate) fn due(&mut self, now: u64) -> Option<Fires<T>> {
        if self.next()? <= now { self.pop() } else { None }
    }

    fn pop(&mut self) -> Option<Fires<T>> {
        let Reverse((_, _, cell)) = self.heap.pop()?;
        self.free.push(cell);
        let cell = &mut self.cells[cell as usize];
        cell.number = 0;
        cell.fires.take()
    }

    fn cell(&mut self, timer: TimerKey) -> Option<&mut Cell<T>> {
        self.cells.get_mut(timer.cell as usize).filter(|cell| cell.number == timer.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_cleared_ones_do_not() {
        let mut timers = Timers::default();
        timers.set(20, Fires::Readies("late"));
        let cleared = timers.set(5, Fires::Readies("cleared"));
        timers.set(10, Fires::Readies("first"));
        timers.set(10, Fires::Readies("second"));
        timers.clear(cleared);
        assert_eq!(timers.next(), Some(10));
        let mut fired = Vec::new();
        while let Some(Fires::Readies(name)) = timers.due(15) {
            fired.push(name);
        }
        assert_eq!(fired, ["first", "second"]);
        assert_eq!(timers.next(), Some(20));
    }

    #[test]
    fn a_key_of_a_timer_that_fired_touches_no_other() {
        let mut timers = Timers::default();
        let fired = timers.set(1, Fires::Readies("fired"));
        assert!(timers.due(1).is_some());
        timers.set(2, Fires::Readies("next"));
        timers.clear(fired);
        assert_eq!(timers.next(), Some(2));
    }
}
