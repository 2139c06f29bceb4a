//! The upkeep that any server may do: promotions move on what has become due, cleanings remove what is old.

use super::entries::Facts;
use super::jobs::Number;
use super::{Data, cut};
use crate::batch::BATCH_OPEN_MAX;
use crate::engine;
use crate::storage::{Cleaned, Promoted};
use crate::transition::Event;

impl Data {
    pub(super) fn promote(&mut self, max: u32) -> Promoted {
        let max = cut(max);
        let mut released = self.drain_outbox(max);
        released += self.delete_cancelled(max - released);

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
        let left = self.releases.is_left().then_some(self.now);
        let due = self.jobs.next_run_at();
        let allowed = self.jobs.limits.next_at(self.now);
        let next_at = left.into_iter().chain(due).chain(allowed).min();
        next_at.map(|at| at.since(self.now))
    }

    pub(super) fn clean(&mut self, max: u32) -> Cleaned {
        for batch in self.batches.open_since(self.now.saturating_sub(BATCH_OPEN_MAX)) {
            self.cancel(batch, engine::NEVER_SEALED);
        }
        self.settle();

        let mut jobs = 0;
        while jobs < cut(max) as u32
            && let Some(number) = self.first_expired_job()
        {
            self.remove_job(number);
            jobs += 1;
        }
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
        let more = self.first_expired_job().is_some() || self.first_expired_batch().is_some();
        Cleaned { jobs, more }
    }

    fn first_expired_job(&self) -> Option<Number> {
        self.jobs.expired(self.now).find(|&number| !self.is_needed(number))
    }

    fn first_expired_batch(&self) -> Option<Number> {
        self.batches.expired(self.now).find(|&number| !self.is_needed(number))
    }

    /// Whether someone waits for its end still, which the outbox has not come to.
    fn is_needed(&self, number: Number) -> bool {
        self.releases.is_in_outbox(number) || self.links.first_open(number).is_some()
    }

    fn remove_job(&mut self, number: Number) {
        let ties = &self.jobs[number].record.ties;
        for dependency in &ties.after {
            if let Some(antecedent) = self.find_antecedent(dependency.on) {
                self.links.forget_follower(antecedent, number);
            }
        }
        if let Some(unique) = &ties.unique {
            self.keys.free(&unique.key, number);
        }
        if let Some(batch) = self.batch_of(number) {
            self.batches.change(batch, |batch| batch.members.remove(&number));
        }
        self.links.forget(number);
        self.notes.remove(number);
        self.jobs.remove(number);
    }

    fn remove_batch(&mut self, number: Number) {
        let Some(batch) = self.batches.remove(number) else { return };
        for dependency in &batch.record.after {
            if let Some(antecedent) = self.find_antecedent(dependency.on) {
                self.links.forget_follower(antecedent, number);
            }
        }
        if let Some(parent) = batch.parent {
            self.batches.change(parent, |parent| parent.members.remove(&number));
        }
        self.links.forget(number);
    }
}
