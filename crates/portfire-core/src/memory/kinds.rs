//! Jobs that were set aside because a claim met them whose server has no handler of their kind.

use super::entries::Facts;
use super::jobs::Number;
use super::{Data, cut};
use crate::engine::attempts::too_late;
use crate::engine::kinds;
use crate::state::ErrorRecord;
use crate::storage::RescueRequest;
use crate::transition::Event;

impl Data {
    /// Sets a job that can be claimed aside, or deletes it when it is too late for it.
    pub(super) fn delete_or_set_aside(&mut self, number: Number) {
        match self.too_late(number) {
            Some(reason) => _ = self.must(number, Event::Delete, Facts::reason(reason)),
            None => self.set_aside(number),
        }
    }

    fn too_late(&self, number: Number) -> Option<String> {
        let job = &self.jobs[number];
        too_late(&job.record.options, job.enqueued_at(), self.now)
    }

    fn set_aside(&mut self, number: Number) {
        let record = &self.jobs[number].record;
        let (kind, queue) = (record.kind.clone(), record.queue.clone());
        if let Some(queue) = self.jobs.queues.get_mut(&queue) {
            let (servers, now) = (&self.servers, self.now);
            queue.ensure_shelf(&kind, || {
                kinds::first_clock(kinds::had_until(&servers.handlers(), &kind), now)
            });
        }
        self.jobs.set_aside(number);
    }

    /// A server comes, or comes back: when none was alive before, that time does not count.
    pub(super) fn resume_clocks(&mut self) {
        let (handlers, now) = (self.servers.handlers(), self.now);
        let Some(resumed) = kinds::resumed(&handlers, now) else { return };
        for (_, queue) in self.jobs.queues.all_mut() {
            for (kind, shelf) in &mut queue.shelves {
                let had = kinds::had_until(&handlers, kind);
                shelf.missing_since = resumed(kinds::missing_since(shelf.missing_since, had, now));
            }
        }
    }

    /// Fails jobs whose kind no server has had for too long, and forgets empty shelves. Says how many were failed.
    pub(super) fn fail_unhandled(&mut self, request: &RescueRequest) -> usize {
        let (handlers, now, grace) =
            (self.servers.handlers(), self.now, request.unknown_kind_grace);
        let horizon = now.saturating_sub(grace);
        let mut overdue = Vec::new();
        for (_, queue) in self.jobs.queues.all_mut() {
            queue.shelves.retain(|_, shelf| !shelf.jobs.is_empty());
            for (kind, shelf) in &mut queue.shelves {
                let had = kinds::had_until(&handlers, kind);
                shelf.missing_since = kinds::missing_since(shelf.missing_since, had, now);
                shelf.grace = Some(grace);
                if shelf.missing_since.is_some_and(|since| now.since(since) >= grace) {
                    overdue.extend(shelf.jobs.by_place());
                }
            }
        }
        overdue.retain(|&number| self.jobs[number].enqueued_at() <= horizon);
        overdue.truncate(cut(request.max));
        for &number in &overdue {
            if let Some(reason) = self.too_late(number) {
                self.must(number, Event::Delete, Facts::reason(reason));
                continue;
            }
            let error = ErrorRecord::unknown_kind(&self.jobs[number].record.kind, grace);
            let facts = Facts { error: Some(error), ..Facts::default() };
            self.must(number, Event::Unhandled, facts);
        }
        // Also those that were emptied just now: how many calls it takes must not matter.
        for (_, queue) in self.jobs.queues.all_mut() {
            queue.shelves.retain(|_, shelf| !shelf.jobs.is_empty());
        }
        overdue.len()
    }
}
