//! The creation of batches and jobs, all or none.

use std::collections::BTreeMap;

use super::Data;
use super::jobs::First;
use crate::batch::NewBatch;
use crate::engine;
use crate::error::StorageError;
use crate::job::{JobId, NewJob};
use crate::state::{Cause, JobState};
use crate::storage::Created;

impl Data {
    pub(super) fn create(
        &mut self,
        batches: &[NewBatch],
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Created>, StorageError> {
        engine::check_new(self, batches, &jobs)?;
        let is_plain = batches.is_empty()
            && jobs.iter().all(|job| job.ties.is_empty())
            && !self.jobs.limits.limit_kinds();
        let created = match is_plain {
            true => self.create_plain(jobs)?,
            false => self.all_or_nothing(|data| engine::create(data, batches, &jobs))?,
        };
        self.settle();
        Ok(created)
    }

    /// Stores jobs that have no ties: nothing is asked of them but that their ids are theirs.
    fn create_plain(&mut self, jobs: Vec<NewJob>) -> Result<Vec<Created>, StorageError> {
        let mut new: BTreeMap<JobId, &NewJob> = BTreeMap::new();
        for job in &jobs {
            let is_same = self.is_same(job).unwrap_or_else(|| {
                let first = *new.entry(job.id).or_insert(job);
                (&first.kind, &first.args) == (&job.kind, &job.args)
            });
            if !is_same {
                return Err(StorageError::IdTaken { job: job.id });
            }
        }
        let created = jobs.into_iter().map(|job| {
            let id = job.id;
            let existing = self.jobs.find(id).is_some();
            if !existing {
                self.store_plain(job);
            }
            Created { id, existing }
        });
        Ok(created.collect())
    }

    fn store_plain(&mut self, job: NewJob) {
        // Each instant was looked at with the call.
        let state = match job.when.resolve(self.now).ok().flatten() {
            Some(run_at) => JobState::Scheduled { run_at, cause: Cause::Created },
            None => JobState::Enqueued { enqueued_at: self.now },
        };
        let first = First { state, line: None, batch: None, followed: false, start: false };
        self.jobs.create(job, first, self.now);
    }

    /// Stores a job that the storage itself makes: it waits for nothing, and its id is looked for before.
    pub(super) fn store_sound(&mut self, job: &NewJob) -> Created {
        let created = engine::create(self, &[], std::slice::from_ref(job));
        match created.as_deref() {
            Ok([created]) => *created,
            other => unreachable!("{other:?}"),
        }
    }

    /// Whether the job that is stored under this id has the same kind and args; `None` when none is.
    pub(super) fn is_same(&self, new: &NewJob) -> Option<bool> {
        let stored = &self.jobs[self.jobs.find(new.id)?].record;
        Some(stored.kind == new.kind && stored.args == new.args)
    }
}
