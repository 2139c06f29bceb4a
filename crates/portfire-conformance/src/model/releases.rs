//! What the ends of jobs and batches, and the starts of batches, mean for those that wait for them.
//!
//! Each call has a line of ends and starts, and works it off when it has done the rest. What is over
//! [`RELEASE_MAX`] goes to the outbox, which promotions work off.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Data;
use super::batches::Batch;
use super::entries::Facts;
use super::jobs::Number;
use super::links::Links;
use super::progress;
use portfire_core::batch::BatchState;
use portfire_core::clock::Timestamp;
use portfire_core::continuation::{After, Antecedent, Dependency, ParentOutcome};
use portfire_core::state::{JobState, StateName};
use portfire_core::storage::RELEASE_MAX;
use portfire_core::transition::Event;

/// Something that others may wait for.
#[derive(Clone, Copy)]
pub(super) enum Release {
    /// A job or a batch has ended, so.
    Ended(Number, StateName),
    /// A batch has failed for good: a member was deleted.
    FailedForGood(Number),
    /// A batch has started.
    Started(Number),
}

impl Release {
    /// Whether it is a failure after which the parent may still succeed.
    fn is_failure(self) -> bool {
        matches!(self, Release::Ended(_, StateName::Failed))
    }
}

/// All of it that is not worked off.
#[derive(Default)]
pub(super) struct Releases {
    /// Of this call.
    line: VecDeque<Release>,
    /// Of calls before.
    outbox: VecDeque<Release>,
    /// The ends in it, of each parent in their order: a failure and what came after it, at most.
    ended_in_outbox: BTreeMap<Number, VecDeque<Release>>,
    started_in_outbox: BTreeSet<Number>,
    /// Cancelled batches, each with the last member that was seen to.
    pub(super) cancelled: VecDeque<(Number, Number)>,
}

impl Releases {
    pub(super) fn push(&mut self, release: Release) {
        self.line.push_back(release);
    }

    /// Puts what this call has not worked off behind the outbox.
    fn put_off(&mut self) {
        while let Some(release) = self.line.pop_front() {
            self.leave(release);
        }
    }

    /// Puts something behind the outbox.
    fn leave(&mut self, release: Release) {
        match release {
            Release::Ended(number, _) | Release::FailedForGood(number) => {
                self.ended_in_outbox.entry(number).or_default().push_back(release);
            }
            Release::Started(number) => _ = self.started_in_outbox.insert(number),
        }
        self.outbox.push_back(release);
    }

    fn take_from_outbox(&mut self) -> Option<Release> {
        let release = self.outbox.pop_front()?;
        match release {
            Release::Ended(number, _) | Release::FailedForGood(number) => {
                let ends = self.ended_in_outbox.get_mut(&number);
                if ends.is_some_and(|ends| ends.pop_front().is_some() && ends.is_empty()) {
                    self.ended_in_outbox.remove(&number);
                }
            }
            Release::Started(number) => _ = self.started_in_outbox.remove(&number),
        }
        Some(release)
    }

    fn give_back_to_outbox(&mut self, release: Release) {
        match release {
            Release::Ended(number, _) | Release::FailedForGood(number) => {
                self.ended_in_outbox.entry(number).or_default().push_front(release);
            }
            Release::Started(number) => _ = self.started_in_outbox.insert(number),
        }
        self.outbox.push_front(release);
    }

    pub(super) fn is_in_outbox(&self, number: Number) -> bool {
        self.ended_in_outbox.contains_key(&number) || self.started_in_outbox.contains(&number)
    }

    /// The last end of a parent that the outbox has still.
    fn last_end(&self, number: Number) -> Option<Release> {
        self.ended_in_outbox.get(&number)?.back().copied()
    }

    /// Whether a promotion has something to do.
    pub(super) fn is_left(&self) -> bool {
        !self.outbox.is_empty() || !self.cancelled.is_empty()
    }
}

impl Data {
    /// Takes note of an end, if anything ever waited for it. The first end that decides counts: while the outbox works one
    /// off, another counts for nothing, unless that one is a failure and this one is not.
    pub(super) fn push_end(&mut self, number: Number, end: Release) {
        let followed = match self.batches.get(number) {
            Some(batch) => batch.followed,
            None => self.jobs.contains(number) && self.jobs[number].followed,
        };
        if !followed {
            return;
        }
        match self.releases.last_end(number) {
            None => self.releases.push(end),
            Some(last) if last.is_failure() && !end.is_failure() => self.releases.leave(end),
            Some(_) => {}
        }
    }

    /// Works off what this call has ended and started, as far as one call does that.
    pub(super) fn drain(&mut self) {
        let mut left = RELEASE_MAX;
        while left > 0
            && let Some(release) = self.releases.line.pop_front()
        {
            let (done, more) = self.work_off(release, left);
            left -= done;
            if more {
                self.releases.line.push_front(release);
            }
        }
        self.put_off();
    }

    /// Leaves what is not worked off to promotions.
    pub(super) fn put_off(&mut self) {
        self.releases.put_off();
        self.jobs.hints.work |= self.releases.is_left();
    }

    /// Works off the outbox; says how many jobs and batches that moved.
    pub(super) fn drain_outbox(&mut self, max: usize) -> usize {
        let mut left = max;
        while left > 0
            && let Some(release) = self.releases.take_from_outbox()
        {
            let (done, more) = self.work_off(release, left);
            left -= done;
            if more {
                self.releases.give_back_to_outbox(release);
            }
            self.put_off();
        }
        max - left
    }

    /// Works off one of them; says how many jobs and batches that moved, and whether there are more.
    fn work_off(&mut self, release: Release, max: usize) -> (usize, bool) {
        let mut done = 0;
        match release {
            Release::Ended(antecedent, _) | Release::FailedForGood(antecedent) => {
                let (end, for_good) = match release {
                    Release::Ended(_, end) => (end, false),
                    _ => (StateName::Failed, true),
                };
                let first = |links: &Links| match release.is_failure() {
                    true => links.first_open_to_failure(antecedent),
                    false => links.first_open(antecedent),
                };
                while let Some(follower) = first(&self.links) {
                    if done == max {
                        return (done, true);
                    }
                    self.links.close(antecedent, follower);
                    self.decide(antecedent, end, for_good, follower);
                    done += 1;
                }
            }
            Release::Started(batch) => {
                let first = |data: &Data| data.batches.get(batch)?.starting.first().copied();
                while let Some(member) = first(self) {
                    if done == max {
                        return (done, true);
                    }
                    self.batches.change(batch, |batch| batch.starting.remove(&member));
                    self.wait_for_less(member);
                    done += 1;
                }
            }
        }
        (done, false)
    }

    /// Decides what an end means for one that waited for it.
    fn decide(&mut self, antecedent: Number, end: StateName, for_good: bool, follower: Number) {
        let Some(on) = self.antecedent(antecedent) else { return };
        let Some((place, dependency)) = self.dependency(follower, on) else { return };
        if !dependency.after.is_met_by(end) {
            let reason = unmet_reason(&dependency, end, for_good);
            if self.batches.contains(follower) {
                self.cancel(follower, &reason);
            } else {
                self.must(follower, Event::Delete, Facts::reason(reason));
            }
            return;
        }
        if dependency.pass && self.jobs.contains(follower) {
            let outcome = self.outcome(antecedent, on, end);
            self.keep_parent(follower, place, outcome);
        }
        self.wait_for_less(follower);
    }

    /// One of the things that a job or a batch waits for has come.
    fn wait_for_less(&mut self, follower: Number) {
        if self.batches.contains(follower) {
            self.batches.change(follower, |batch| batch.waits = batch.waits.saturating_sub(1));
            self.start_if_due(follower);
            return;
        }
        let Some(job) = self.jobs.get_mut(follower) else { return };
        let JobState::Awaiting { pending } = &mut job.record.state else { return };
        *pending = pending.saturating_sub(1);
        if *pending == 0 {
            // A delay that ends after the last instant ends there.
            let run_at = job.when.resolve(self.now).unwrap_or(Some(Timestamp::MAX));
            self.must(follower, Event::Continue(run_at), Facts::default());
        }
    }

    pub(super) fn keep_parent(&mut self, job: Number, place: usize, outcome: ParentOutcome) {
        if let Some(job) = self.jobs.get_mut(job) {
            let at = job.parents.partition_point(|(before, _)| *before < place);
            job.parents.insert(at, (place, outcome));
        }
    }

    /// The place and the terms of what someone waits for.
    fn dependency(&self, follower: Number, on: Antecedent) -> Option<(usize, Dependency)> {
        let after = match self.batches.get(follower) {
            Some(batch) => &batch.record.after,
            None if self.jobs.contains(follower) => &self.jobs[follower].record.ties.after,
            None => return None,
        };
        let place = after.iter().position(|dependency| dependency.on == on)?;
        Some((place, after[place]))
    }

    fn antecedent(&self, number: Number) -> Option<Antecedent> {
        match self.batches.get(number) {
            Some(batch) => Some(Antecedent::Batch(batch.record.id)),
            None if self.jobs.contains(number) => {
                Some(Antecedent::Job(self.jobs[number].record.id))
            }
            None => None,
        }
    }

    /// The number of what is waited for, if it is stored.
    pub(super) fn find_antecedent(&self, on: Antecedent) -> Option<Number> {
        match on {
            Antecedent::Job(job) => self.jobs.find(job),
            Antecedent::Batch(batch) => self.batches.find(batch),
        }
    }

    /// How something has ended; `None` while it has not.
    pub(super) fn end_of(&self, number: Number) -> Option<StateName> {
        match self.batches.get(number) {
            Some(batch) => batch.record.state.end(),
            None => Some(self.jobs[number].standing().state).filter(|state| state.is_final()),
        }
    }

    /// How something has ended, as far as that decides for who waits for this end of it; and whether it is a batch that
    /// has failed for good.
    pub(super) fn end_for(&self, number: Number, after: After) -> Option<(StateName, bool)> {
        let for_good = self.batches.get(number).is_some_and(Batch::has_failed_for_good);
        let end = self.end_of(number).filter(|end| for_good || !after.is_open_after(*end))?;
        Some((end, for_good))
    }

    /// What a follower gets to know of an end. Of a job that has moved on since, the state alone.
    pub(super) fn outcome(
        &self,
        number: Number,
        parent: Antecedent,
        state: StateName,
    ) -> ParentOutcome {
        let mut outcome = ParentOutcome { parent, state, result: None, error: None };
        if self.jobs.contains(number) && self.jobs[number].standing().state == state {
            match &self.jobs[number].record.state {
                JobState::Succeeded { result, .. } => outcome.result = result.clone(),
                JobState::Failed { error, .. } => outcome.error = Some(error.clone()),
                JobState::Deleted { error, .. } => outcome.error = error.clone(),
                _ => {}
            }
        }
        outcome
    }

    /// A job waits for nothing any more: it was released, or moved by hand.
    pub(super) fn close_links_of_job(&mut self, number: Number) {
        let ties = &self.jobs[number].record.ties;
        for dependency in &ties.after {
            if let Some(antecedent) = self.find_antecedent(dependency.on) {
                self.links.close(antecedent, number);
            }
        }
        if let Some(batch) = ties.batch.and_then(|batch| self.batches.find(batch)) {
            self.batches.change(batch, |batch| batch.starting.remove(&number));
        }
    }

    /// A batch waits for nothing any more: it was cancelled.
    pub(super) fn close_links_of_batch(&mut self, number: Number) {
        let Some(batch) = self.batches.get(number) else { return };
        let parent = batch.parent;
        for dependency in &batch.record.after {
            if let Some(antecedent) = self.find_antecedent(dependency.on) {
                self.links.close(antecedent, number);
            }
        }
        if let Some(parent) = parent {
            self.batches.change(parent, |parent| parent.starting.remove(&number));
        }
    }

    /// Deletes the members of cancelled batches; says how many that were.
    pub(super) fn delete_cancelled(&mut self, max: usize) -> usize {
        let mut left = max;
        while left > 0
            && let Some((number, mut last)) = self.releases.cancelled.pop_front()
        {
            while left > 0
                && let Some(member) = self.next_pending(number, last)
            {
                last = member;
                let Some(batch) = self.batches.get(number) else { break };
                if self.batches.contains(member) {
                    let reason = batch.record.reason.clone().unwrap_or_default();
                    self.cancel(member, &reason);
                } else {
                    let facts = Facts::reason(progress::reason(batch));
                    self.must(member, Event::Delete, facts);
                }
                left -= 1;
            }
            if self.next_pending(number, last).is_some() {
                self.releases.cancelled.push_front((number, last));
            }
            self.put_off();
        }
        max - left
    }

    /// The first member behind this one that is to be deleted or cancelled.
    fn next_pending(&self, batch: Number, last: Number) -> Option<Number> {
        let pending = &self.batches.get(batch)?.pending;
        let mut behind = pending.range(last + 1..).copied();
        behind.find(|&member| {
            let nested = self.batches.get(member);
            nested.is_none_or(|nested| nested.record.state != BatchState::Cancelling)
        })
    }
}

/// Why somebody who waited for a parent waits in vain.
pub(super) fn unmet_reason(dependency: &Dependency, end: StateName, for_good: bool) -> String {
    match for_good {
        true => dependency.unmet_for_good(),
        false => dependency.unmet_reason(end),
    }
}
