//! The explicit changes: requeue, delete, reschedule.

use super::Data;
use super::entries::Facts;
use super::jobs::Number;
use crate::clock::Timestamp;
use crate::error::StorageError;
use crate::job::{InvalidJob, JobId, When};
use crate::state::StateName;
use crate::storage::{Action, Change, Changed};
use crate::transition::{Event, Refusal};
use crate::unique::UniqueScope;

impl Data {
    pub(super) fn change(&mut self, changes: Vec<Change>) -> Result<Vec<Changed>, StorageError> {
        let now = self.now;
        let steps: Result<Vec<_>, InvalidJob> = changes
            .into_iter()
            .map(|change| Ok((change.job, change.expect, Step::of(change.action, now)?)))
            .collect();
        let changed = steps?.into_iter().map(|(id, expect, step)| {
            let Some(number) = self.jobs.find(id) else { return Changed::Missing };
            let standing = self.jobs[number].standing();
            let (from, revision) = (standing.state, standing.revision);
            if expect.is_some_and(|expect| !expect.holds(from, revision)) {
                return Changed::Unexpected { state: from, revision };
            }
            if step.leads_nowhere_from(from) {
                return Changed::Unchanged;
            }
            self.change_one(number, from, step)
        });
        let changed = changed.collect();
        self.settle();
        Ok(changed)
    }

    fn change_one(&mut self, number: Number, from: StateName, step: Step) -> Changed {
        if let Some(verb) = step.runs_again()
            && from != StateName::Processing
        {
            let batch = self.batch_of(number);
            if batch.and_then(|batch| self.cancelled_above(batch)).is_some() {
                return Changed::Refused(Refusal { state: from, verb });
            }
            if let Some(with) = self.key_taken_from(number).filter(|_| from.is_final()) {
                return Changed::Conflict { with };
            }
        }
        match self.transit(number, step.event, step.facts) {
            Err(refusal) => Changed::Refused(refusal),
            Ok(to) => Changed::Applied { from, revision: to.revision },
        }
    }

    /// The job that holds the key which this one needs for another run.
    fn key_taken_from(&self, number: Number) -> Option<JobId> {
        let unique = self.jobs[number].record.ties.unique.as_ref()?;
        if matches!(unique.scope, UniqueScope::Within(_)) {
            return None;
        }
        let holder = self.keys.holder(&unique.key, self.now).filter(|&holder| holder != number)?;
        Some(self.jobs[holder].record.id)
    }
}

/// An explicit change, resolved in time.
struct Step {
    event: Event,
    facts: Facts,
}

impl Step {
    fn of(action: Action, now: Timestamp) -> Result<Step, InvalidJob> {
        let mut facts = Facts::default();
        let event = match action {
            Action::Requeue => Event::Requeue,
            Action::Delete { reason } => {
                facts.reason = Some(reason);
                Event::Delete
            }
            Action::Reschedule(when) => Event::Reschedule(instant(when, now)?),
        };
        Ok(Step { event, facts })
    }

    /// What it is called when it makes the job run, or wait to run.
    fn runs_again(&self) -> Option<&'static str> {
        match self.event {
            Event::Requeue => Some("requeued"),
            Event::Reschedule(_) => Some("rescheduled"),
            _ => None,
        }
    }

    fn leads_nowhere_from(&self, state: StateName) -> bool {
        matches!(
            (self.event, state),
            (Event::Requeue, StateName::Enqueued) | (Event::Delete, StateName::Deleted)
        )
    }
}

/// The instant a change names, which may be past: the job then waits for the next promotion.
fn instant(when: When, now: Timestamp) -> Result<Timestamp, InvalidJob> {
    match when {
        When::At(at) => Ok(at),
        When::Now | When::In(_) => Ok(when.resolve(now)?.unwrap_or(now)),
    }
}
