//! The creation of batches and jobs, all or none: first everything is checked, then everything is stored.

use std::collections::BTreeMap;

use super::Data;
use super::admission::Check;
use super::batches::Batch;
use super::entries::Facts;
use super::jobs::Number;
use super::releases::unmet_reason;
use portfire_core::batch::{BatchRecord, BatchState, NewBatch, Progression};
use portfire_core::clock::Timestamp;
use portfire_core::continuation::{After, Antecedent, Dependency, ParentOutcome};
use portfire_core::engine::unique::{Meeting, meet, replaced_by};
use portfire_core::error::StorageError;
use portfire_core::job::{InvalidJob, JobId, Limits, NewJob};
use portfire_core::state::{Cause, JobRecord, JobState};
use portfire_core::storage::{BATCH_MAX, Created};
use portfire_core::transition::Event;

impl Data {
    pub(super) fn create(
        &mut self,
        batches: Vec<NewBatch>,
        jobs: Vec<NewJob>,
        limits: &Limits,
    ) -> Result<Vec<Created>, StorageError> {
        let count = batches.len().max(jobs.len());
        if count > BATCH_MAX {
            return Err(InvalidJob::TooManyJobs { count, limit: BATCH_MAX }.into());
        }
        batches.iter().try_for_each(NewBatch::validate)?;
        for job in &jobs {
            job.validate(limits)?;
            job.when.resolve(self.now)?;
        }
        Check::new(self).check(&batches, &jobs)?;

        self.emptied = Some(Vec::new());
        let new: Vec<_> = batches.into_iter().filter_map(|batch| self.store_batch(batch)).collect();
        let mut rejected = BTreeMap::new();
        let created = jobs.into_iter().map(|mut job| {
            replace_rejected(&mut job.ties.after, &rejected);
            let id = job.id;
            let created = self.store(job);
            if created.id != id {
                rejected.insert(id, created.id);
            }
            created
        });
        let created = created.collect();
        self.settle_batches(new);
        self.settle();
        Ok(created)
    }

    /// Stores a batch, unless one with its id is there. Says which, and why it is to be cancelled, if it is.
    fn store_batch(&mut self, new: NewBatch) -> Option<(Number, Option<String>)> {
        if self.batches.find(new.id).is_some() {
            return None;
        }
        let number = self.jobs.draw_number();
        let weighed = self.weigh(&new.after);
        let parent = new.parent.and_then(|parent| self.batches.find(parent));
        let above = parent.and_then(|parent| self.batches.get(parent));
        let depth = above.map_or(1, |above| above.depth + 1);
        let starts_with_parent = above.is_some_and(|above| !above.has_started());
        let waits = weighed.open.len() as u32 + u32::from(starts_with_parent);
        let state = match () {
            () if new.open => BatchState::Open,
            () if waits > 0 || weighed.unmet.is_some() => BatchState::Awaiting,
            () => BatchState::Started,
        };
        let record = BatchRecord {
            id: new.id,
            description: new.description,
            parent: new.parent,
            after: new.after,
            state,
            reason: None,
            members: Progression::default(),
            created_at: self.now,
            ended_at: None,
            expires_at: None,
        };
        let batch = Batch {
            record,
            parent,
            depth,
            retention: new.retention,
            waits,
            followed: false,
            members: Default::default(),
            pending: Default::default(),
            starting: Default::default(),
        };
        self.batches.insert(number, batch);
        self.link(number, &weighed.open);
        if let Some(parent) = parent {
            self.add_member(parent, number);
            if starts_with_parent {
                self.batches.change(parent, |parent| parent.starting.insert(number));
            }
        }
        Some((number, weighed.unmet))
    }

    /// Stores a job, unless it is there or another holds its unique key.
    pub(super) fn store(&mut self, new: NewJob) -> Created {
        let id = new.id;
        if self.jobs.find(id).is_some() {
            return Created { id, existing: true };
        }
        if let Some(holder) = self.rejected_for(&new) {
            return Created { id: holder, existing: true };
        }
        self.jobs.limits.declare(&new.ties);
        let weighed = self.weigh(&new.ties.after);
        let unique = new.ties.unique.clone();
        let batch = new.ties.batch.and_then(|batch| self.batches.find(batch));
        let above = batch.and_then(|batch| self.batches.get(batch));
        let waits_for_start = above.is_some_and(|batch| !batch.has_started());

        let pending = weighed.open.len() as u32 + u32::from(waits_for_start);
        let awaits = pending > 0 || weighed.unmet.is_some();
        let run_at = new.when.resolve(self.now).unwrap_or(Some(Timestamp::MAX));
        let state = match run_at {
            _ if awaits => JobState::Awaiting { pending },
            Some(run_at) => JobState::Scheduled { run_at, cause: Cause::Created },
            None => JobState::Enqueued { enqueued_at: self.now },
        };
        let number = self.jobs.create(new, state, self.now);

        if let Some(unique) = unique {
            self.keys.take(&unique.key, number, unique.held_until(self.now));
        }
        for (place, outcome) in weighed.met {
            self.keep_parent(number, place, outcome);
        }
        if let Some(batch) = batch {
            self.add_member(batch, number);
            if waits_for_start {
                self.batches.change(batch, |batch| batch.starting.insert(number));
            }
        }
        match weighed.unmet {
            Some(reason) => {
                self.must(number, Event::Delete, Facts::reason(reason));
            }
            None => self.link(number, &weighed.open),
        }
        Created { id, existing: false }
    }

    /// Does what is asked for when the key of a new job is held. Says whose id stands for the new job, unless
    /// the key is its own now.
    fn rejected_for(&mut self, new: &NewJob) -> Option<JobId> {
        let unique = new.ties.unique.as_ref()?;
        let holder = self.keys.holder(&unique.key, self.now)?;
        let JobRecord { id, created_at, ref state, .. } = self.jobs[holder].record;
        let run_at = match state {
            JobState::Scheduled { run_at, .. } => Some(*run_at),
            _ => None,
        };
        match meet(unique, new.when, state.name(), created_at, run_at, self.now) {
            Ok(Meeting::TakeOver { deletes }) => {
                if deletes {
                    self.must(holder, Event::Delete, Facts::reason(replaced_by(new.id)));
                }
                return None;
            }
            Ok(Meeting::Postpone(run_at)) => {
                self.must(holder, Event::Reschedule(run_at), Facts::default());
            }
            // Its instant was looked at with the call, and that of a run's jitter is within bounds.
            Ok(Meeting::Reject) | Err(_) => {}
        }
        Some(id)
    }

    /// Looks at what someone is to wait for.
    fn weigh(&self, after: &[Dependency]) -> Weighed {
        let mut weighed = Weighed::default();
        for (place, dependency) in after.iter().enumerate() {
            let Some(number) = self.find_antecedent(dependency.on) else { continue };
            match self.end_for(number, dependency.after) {
                None => weighed.open.push((number, dependency.after)),
                Some((end, _)) if dependency.after.is_met_by(end) => {
                    if dependency.pass {
                        let outcome = self.outcome(number, dependency.on, end);
                        weighed.met.push((place, outcome));
                    }
                }
                Some((end, for_good)) => {
                    weighed.unmet.get_or_insert_with(|| unmet_reason(dependency, end, for_good));
                }
            }
        }
        if weighed.unmet.is_some() {
            weighed.open.clear();
        }
        weighed
    }

    fn link(&mut self, follower: Number, open: &[(Number, After)]) {
        for &(antecedent, after) in open {
            self.links.add(antecedent, follower, after);
            if self.batches.contains(antecedent) {
                self.batches.change(antecedent, |batch| batch.followed = true);
            } else if let Some(job) = self.jobs.get_mut(antecedent) {
                job.followed = true;
            }
        }
    }

    /// Now that all jobs of the call are stored: its batches are cancelled or end, if they are to.
    fn settle_batches(&mut self, new: Vec<(Number, Option<String>)>) {
        let emptied = self.emptied.take().unwrap_or_default();
        for (number, unmet) in new {
            match unmet {
                Some(reason) => self.cancel(number, &reason),
                None => self.end_if_empty(number),
            }
        }
        for number in emptied {
            self.end_if_empty(number);
        }
    }
}

/// What someone is to wait for, as it stands.
#[derive(Default)]
struct Weighed {
    /// What is waited for still, and for which end of it; nothing when a condition cannot be met any more.
    open: Vec<(Number, After)>,
    /// The outcomes to pass of what has ended as it was to, by place.
    met: Vec<(usize, ParentOutcome)>,
    /// Why the first condition that cannot be met cannot.
    unmet: Option<String>,
}

/// A job that was rejected earlier in the call is waited for in the one that holds its key.
fn replace_rejected(after: &mut Vec<Dependency>, rejected: &BTreeMap<JobId, JobId>) {
    if rejected.is_empty() || after.is_empty() {
        return;
    }
    for dependency in after.iter_mut() {
        if let Antecedent::Job(job) = dependency.on
            && let Some(&holder) = rejected.get(&job)
        {
            dependency.on = holder.into();
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    after.retain(|dependency| seen.insert(dependency.on));
}
