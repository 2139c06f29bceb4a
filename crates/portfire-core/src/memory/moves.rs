//! A job's moves: those of a job that concerns no other are made at once, all others by the engine.

use super::Data;
use super::entries::Facts;
use super::jobs::Number;
use crate::engine;
use crate::engine::unique::ends_at_claim;
use crate::error::StorageError;
use crate::state::{ServerId, StateName};
use crate::storage::RELEASE_MAX;
use crate::suspects::trial;
use crate::transition::{Event, Refusal, Standing};

impl Data {
    /// Does what happens to a job, or nothing when its state does not allow it. Says where it stands then.
    pub(super) fn transit(
        &mut self,
        number: Number,
        event: Event,
        facts: Facts,
    ) -> Result<Standing, Refusal> {
        if self.jobs.concerns_itself_alone(number) {
            let holder = self.holder(number);
            let to = self.jobs.transit(number, event, facts, self.now)?;
            self.jobs.hints.control |= holder.is_some() && event == Event::Delete;
            self.left_holder(number, holder);
            return Ok(to);
        }
        let (job, from) = (self.row(number), self.position(number));
        let server = facts.server.as_ref().map(|server| self.names.servers.number(server));
        let told = engine::Facts {
            server,
            attempt: facts.attempt,
            error: facts.error.as_ref(),
            reason: facts.reason.as_deref(),
            result: facts.result.as_ref(),
            duration: i64::try_from(facts.duration.as_micros()).unwrap_or(i64::MAX),
        };
        sound(engine::transit(self, &job, &from, event, &told))
    }

    /// As [`transit`](Self::transit), for events that the job's state is known to allow. Says which
    /// state the job is in then.
    pub(super) fn must(&mut self, number: Number, event: Event, facts: Facts) -> StateName {
        let made = self.transit(number, event, facts);
        debug_assert!(made.is_ok(), "{made:?}");
        made.map_or_else(|refusal| refusal.state, |to| to.state)
    }

    /// The end of a call: what it ended releases others, then those go on that waited for slots.
    pub(super) fn settle(&mut self) {
        sound(engine::settle(self));
    }

    /// Gives a job to a server.
    pub(super) fn hold(&mut self, number: Number, server: &ServerId, key: u64) {
        self.jobs.hold(number, server, key, self.now);
        self.servers.add_held(server, (self.now, number));
        let standing = self.jobs[number].standing();
        if standing.is_suspect() {
            let until = self.now.saturating_add(trial(standing.crashes));
            self.servers.begin_trial(server, number, until);
        }
        if let Some(unique) = &self.jobs[number].record.ties.unique
            && ends_at_claim(unique)
        {
            self.keys.free(&unique.key, number);
        }
    }

    /// For each slot or turn that was freed, the first that waits for it goes to the end of its queue.
    pub(super) fn wake_waiters(&mut self) {
        for key in std::mem::take(&mut self.freed) {
            self.wake(&key, 1, RELEASE_MAX);
        }
    }

    /// Moves the first of a line to the ends of their queues while their key has room: so many that may be
    /// claimed there, and those of paused queues that stand between them, up to `max` in all. Says how many.
    pub(super) fn wake(&mut self, key: &str, turns: usize, max: usize) -> usize {
        let (mut left, mut moved) = (turns, 0);
        while left > 0
            && moved < max
            && let Some(waiter) = self.jobs.limits.first_with_room(key, self.now)
        {
            let queue = self.jobs.queues.get(&self.jobs[waiter].record.queue);
            left -= usize::from(queue.is_none_or(|queue| !queue.paused));
            self.jobs.set_line(waiter, None);
            moved += 1;
        }
        moved
    }
}

/// What the engine has done over these maps. It refuses nothing here, and rows of one process fit together.
pub(super) fn sound<T>(done: Result<T, StorageError>) -> T {
    done.unwrap_or_else(|broken| unreachable!("{broken:?}"))
}
