//! The upkeep that any server may do: promotions move on what has become due, cleanings remove what is old.

use super::entries::Facts;
use super::jobs::Number;
use super::moves::sound;
use super::{Data, cut};
use crate::batch::BATCH_OPEN_MAX;
use crate::engine;
use crate::state::StateName;
use crate::storage::{Cleaned, Promoted};
use crate::transition::Event;

impl Data {
    pub(super) fn promote(&mut self, max: u32) -> Promoted {
        let max = cut(max);
        let mut released = sound(engine::work_off(self, max));
        released += sound(engine::sweep(self, max - released));

        let mut promoted = 0;
        while released + promoted < max
            && let Some(number) = self.jobs.first_due(self.now)
        {
            self.must(number, Event::Promote, Facts::default());
            promoted += 1;
        }
        // What freed slots allow is done here, and more: also those go on that no end tells of.
        self.freed.clear();
        released += self.let_go(max - released - promoted);
        self.jobs.hints.work |= self.jobs.limits.has_queue_again(self.now);
        Promoted { promoted: promoted as u32, released: released as u32, next_in: self.next_in() }
    }

    /// Moves waiters whose limit has room to their queues; says how many.
    fn let_go(&mut self, max: usize) -> usize {
        let mut left = max;
        for key in self.jobs.limits.lines() {
            let room = self.jobs.limits.let_go(&key, self.now);
            left -= self.wake(&key, room, left);
        }
        max - left
    }

    fn next_in(&self) -> Option<std::time::Duration> {
        let left = (!self.outbox.is_empty()).then_some(self.now);
        let due = self.jobs.next_run_at();
        let allowed = self.jobs.limits.next_at(self.now);
        let next_at = left.into_iter().chain(due).chain(allowed).min();
        next_at.map(|at| at.since(self.now))
    }

    pub(super) fn clean(&mut self, max: u32) -> Cleaned {
        for batch in self.batches.open_since(self.now.saturating_sub(BATCH_OPEN_MAX)) {
            sound(engine::cancel(self, batch, engine::NEVER_SEALED));
        }
        let expired = self.jobs.expired(self.now);
        let expired = expired.filter(|&number| !self.outbox.concerns(number));
        let expired: Vec<Number> = expired.take(cut(max)).collect();
        let (mut jobs, mut waited_for) = (0, Vec::new());
        for number in expired {
            let (job, state) = (self.row(number), self.jobs[number].standing().state);
            if sound(engine::expire(self, &job, state)) {
                self.remove_job(number, state);
                jobs += 1;
            } else {
                waited_for.push((number, state));
            }
        }
        self.settle();
        for (number, state) in waited_for {
            if !self.outbox.concerns(number) {
                self.remove_job(number, state);
                jobs += 1;
            }
        }
        sound(engine::put_off(self));
        let mut batches = 0;
        while batches < cut(max)
            && let Some(number) = self.first_expired_batch()
        {
            self.remove_batch(number);
            batches += 1;
        }
        self.keys.forget_old(self.now);
        self.locks.forget_old(self.now);
        self.jobs.limits.forget_old(self.now);
        self.jobs.tally.forget_old(self.now);
        self.servers.forget_old(self.now);
        let is_left = |number: &Number| !self.outbox.concerns(*number);
        let more = self.jobs.expired(self.now).any(|number| is_left(&number))
            || self.first_expired_batch().is_some();
        Cleaned { jobs, more }
    }

    /// Who waits for the end of a batch is told before: a failed one that can succeed still has members.
    fn first_expired_batch(&self) -> Option<Number> {
        self.batches.expired(self.now).find(|&number| !self.outbox.concerns(number))
    }

    fn remove_job(&mut self, number: Number, end: StateName) {
        let ties = &self.jobs[number].record.ties;
        for dependency in &ties.after {
            if let Some(parent) = self.find_antecedent(dependency.on) {
                self.links.forget_child(parent, number);
            }
        }
        if let Some(unique) = &ties.unique {
            self.keys.free(&unique.key, number);
        }
        if let Some(batch) = self.jobs[number].batch {
            sound(engine::member_removed(self, batch, end));
            self.batches.change(batch, |batch| batch.members.remove(&number));
        }
        self.links.forget(number);
        self.notes.remove(number);
        self.jobs.remove(number);
    }

    fn remove_batch(&mut self, number: Number) {
        let Some(batch) = self.batches.remove(number) else { return };
        for dependency in &batch.after {
            if let Some(parent) = self.find_antecedent(dependency.on) {
                self.links.forget_child(parent, number);
            }
        }
        if let Some(parent) = batch.row.parent {
            self.batches.change(parent, |parent| parent.members.remove(&number));
        }
        self.links.forget(number);
    }
}
