//! The explicit changes: requeue, delete, reschedule.

use super::Data;
use super::entries::Facts;
use super::jobs::Number;
use portfire_core::engine::changes::Step;
use portfire_core::engine::unique::is_taken_again;
use portfire_core::error::StorageError;
use portfire_core::job::{InvalidJob, JobId};
use portfire_core::storage::{Change, Changed};

impl Data {
    pub(super) fn change(&mut self, changes: Vec<Change>) -> Result<Vec<Changed>, StorageError> {
        let now = self.now;
        let steps: Result<Vec<Step<'_>>, InvalidJob> =
            changes.iter().map(|change| Step::of(&change.action, now)).collect();
        let changed =
            changes.iter().zip(steps?).map(|(change, step)| self.change_one(change, step));
        let changed = changed.collect();
        self.settle();
        Ok(changed)
    }

    fn change_one(&mut self, change: &Change, step: Step<'_>) -> Changed {
        let Some(number) = self.jobs.find(change.job) else { return Changed::Missing };
        let from = self.jobs[number].standing();
        let open = match step.judge(change.expect.as_ref(), &from, self.now) {
            Err(answer) => return answer,
            Ok(open) => open,
        };
        if let Some(refused) = open.cancelled {
            let batch = self.batch_of(number);
            if batch.and_then(|batch| self.cancelled_above(batch)).is_some() {
                return refused;
            }
        }
        if let Some(with) = self.key_taken_from(number).filter(|_| open.takes_key) {
            return Changed::Conflict { with };
        }
        let facts = Facts { reason: step.reason.map(str::to_owned), ..Facts::default() };
        match self.transit(number, step.event, facts) {
            Err(refusal) => Changed::Refused(refusal),
            Ok(to) => Changed::Applied { from: from.state, revision: to.revision },
        }
    }

    /// The job that holds the key which this one needs for another run.
    fn key_taken_from(&self, number: Number) -> Option<JobId> {
        let unique = self.jobs[number].record.ties.unique.as_ref();
        let unique = unique.filter(|unique| is_taken_again(unique))?;
        let holder = self.keys.holder(&unique.key, self.now).filter(|&holder| holder != number)?;
        Some(self.jobs[holder].record.id)
    }
}
