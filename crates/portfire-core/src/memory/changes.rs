//! The explicit changes: requeue, delete, reschedule; of a batch, seal and cancel.

use super::Data;
use super::entries::Facts;
use super::jobs::Number;
use super::moves::sound;
use crate::batch::{BatchChange, BatchChanged, BatchId};
use crate::engine;
use crate::engine::changes::Step;
use crate::engine::unique::is_taken_again;
use crate::error::StorageError;
use crate::job::{InvalidJob, JobId};
use crate::storage::{Change, Changed};

impl Data {
    pub(super) fn change_batch(&mut self, id: BatchId, change: &BatchChange) -> BatchChanged {
        let changed = sound(engine::change_batch(self, id, change));
        self.settle();
        changed
    }

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
        if let Some(refused) = open.cancelled
            && self.cancellation(number).is_some()
        {
            return refused;
        }
        if open.takes_key
            && let Some(with) = self.take_again(number)
        {
            return Changed::Conflict { with };
        }
        let facts = Facts { reason: step.reason.map(str::to_owned), ..Facts::default() };
        match self.transit(number, step.event, facts) {
            Err(refusal) => Changed::Refused(refusal),
            Ok(to) => Changed::Applied { from: from.state, revision: to.revision },
        }
    }

    /// Takes the key of a final job again that is to run anew, unless another job holds it, which is the answer.
    fn take_again(&mut self, number: Number) -> Option<JobId> {
        let unique = self.jobs[number].record.ties.unique.as_ref();
        let key = unique.filter(|unique| is_taken_again(unique))?.key.clone();
        match self.keys.holder(&key, self.now) {
            Some(holder) if holder != number => Some(self.jobs[holder].record.id),
            _ => {
                self.keys.take(&key, number, None);
                None
            }
        }
    }

    /// Why a member of a cancelled batch is given to nobody.
    pub(super) fn cancellation(&mut self, number: Number) -> Option<String> {
        let batch = self.jobs[number].batch;
        sound(engine::cancellation(self, batch))
    }
}
