//! A job's move with all that follows from it: for its server, those that wait for it, its batch, its
//! unique key, the waiters of its limits, and the run that it is.

use super::Data;
use super::entries::Facts;
use super::jobs::Number;
use super::releases::Release;
use portfire_core::engine::unique::{ends_at_claim, ends_in, is_taken_again};
use portfire_core::state::{ServerId, StateName};
use portfire_core::storage::RELEASE_MAX;
use portfire_core::suspects::trial;
use portfire_core::transition::{Event, Refusal, Standing};

impl Data {
    /// Does what happens to a job, or nothing when its state does not allow it. Says where it stands then.
    pub(super) fn transit(
        &mut self,
        number: Number,
        event: Event,
        facts: Facts,
    ) -> Result<Standing, Refusal> {
        let job = &self.jobs[number];
        let from = job.standing().state;
        // Who leaves its queue without being claimed may have had a turn, which is the next one's then.
        let frees =
            from == StateName::Processing || from == StateName::Enqueued && job.line.is_none();
        let holder = job.holder().map(|(server, since)| (server.clone(), since));
        let to = self.jobs.transit(number, event, facts, self.now)?;
        if let Some((holder, since)) = holder {
            self.servers.drop_held(&holder, (since, number));
            self.jobs.hints.control |= event == Event::Delete;
            // What its server was not given meanwhile is to be had now.
            self.jobs.hints.work |= self.servers.end_trial(number);
        }
        if self.jobs.concerns_itself_alone(number) {
            return Ok(to);
        }
        let record = &self.jobs[number].record;
        if frees {
            self.freed.extend(self.jobs.limits.freed_by(record));
        }
        if !record.ties.is_empty() {
            self.follow(number, from, to.state);
        }
        if to.state.is_final() {
            self.push_end(number, Release::Ended(number, to.state));
            self.count_in_batch(number, from, to.state);
        }
        Ok(to)
    }

    /// As [`transit`](Self::transit), for events that the job's state is known to allow. Says which
    /// state the job is in then.
    pub(super) fn must(&mut self, number: Number, event: Event, facts: Facts) -> StateName {
        let made = self.transit(number, event, facts);
        debug_assert!(made.is_ok(), "{made:?}");
        made.map_or_else(|refusal| refusal.state, |to| to.state)
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

    fn follow(&mut self, number: Number, from: StateName, to: StateName) {
        if from == StateName::Awaiting {
            self.close_links_of_job(number);
        }
        let ties = &self.jobs[number].record.ties;
        if let Some(unique) = &ties.unique {
            if ends_in(unique, to) {
                self.keys.free(&unique.key, number);
            } else if from.is_final() && !to.is_final() && is_taken_again(unique) {
                self.keys.take(&unique.key, number, None);
            }
        }
        if let Some(occurrence) = &ties.occurrence
            && to.is_final()
        {
            let job = self.jobs[number].record.id;
            self.recurring.ended(&occurrence.recurring, job, to, self.now);
        }
        if from.is_final() && !to.is_final() {
            self.recurring.reopened(&self.jobs[number].record);
            if let Some(batch) = self.batch_of(number) {
                self.member_reopened(batch, number, from);
            }
        }
    }

    fn count_in_batch(&mut self, number: Number, from: StateName, to: StateName) {
        let Some(batch) = self.batch_of(number) else { return };
        if from.is_final() {
            self.member_moved(batch, from, to);
        } else {
            self.member_ended(batch, number, to);
        }
    }

    pub(super) fn batch_of(&self, number: Number) -> Option<Number> {
        self.batches.find(self.jobs[number].record.ties.batch?)
    }

    /// The end of a call: what it ended releases others, then those go on that waited for slots.
    pub(super) fn settle(&mut self) {
        self.drain();
        self.wake_waiters();
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
