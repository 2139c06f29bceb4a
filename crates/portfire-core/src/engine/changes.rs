//! Explicit changes of jobs: what an action is to the state machine, and in which order a change is judged.
//!
//! 1. The job is not stored: [`Changed::Missing`].
//! 2. What was expected does not hold: [`Changed::Unexpected`].
//! 3. The job stands there already: [`Changed::Unchanged`].
//! 4. The state machine refuses: [`Changed::Refused`].
//! 5. The job would run, and its batch, or one around it, was cancelled: [`Changed::Refused`].
//! 6. The job would run anew, and another job holds its unique key: [`Changed::Conflict`].
//!
//! [`Step::judge`] is the second to the fourth, and says which of the rest a storage has to look up.

use crate::clock::Timestamp;
use crate::job::{InvalidJob, When};
use crate::state::StateName;
use crate::storage::{Action, Changed, Expect};
use crate::transition::{Event, Refusal, Retention, Standing, next};

/// An action, resolved in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<'a> {
    /// What it is to the state machine.
    pub event: Event,
    /// The reason that the history names.
    pub reason: Option<&'a str>,
}

/// What else is to be judged, in this order, before a change is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// When the batch of the job, or one around it, was cancelled, this is the answer.
    pub cancelled: Option<Changed>,
    /// Whether the job takes its unique key again, when that
    /// [is taken again](super::unique::is_taken_again): while another job holds it the answer is
    /// [`Changed::Conflict`].
    pub takes_key: bool,
}

impl Step<'_> {
    /// What an action means now.
    ///
    /// # Errors
    /// [`InvalidJob::Delay`] when an instant lies beyond the year 9999.
    pub fn of(action: &Action, now: Timestamp) -> Result<Step<'_>, InvalidJob> {
        let step = |event| Step { event, reason: None };
        Ok(match action {
            Action::Requeue => step(Event::Requeue),
            Action::Delete { reason } => Step { event: Event::Delete, reason: Some(reason) },
            // An instant that is past waits for the next promotion, unlike that of a create.
            Action::Reschedule(When::At(at)) => step(Event::Reschedule(*at)),
            Action::Reschedule(when) => step(Event::Reschedule(when.resolve(now)?.unwrap_or(now))),
        })
    }

    /// Judges the change of a job by where that stands.
    ///
    /// # Errors
    /// The answer, when nothing is to be changed.
    pub fn judge(
        &self,
        expect: Option<&Expect>,
        from: &Standing,
        now: Timestamp,
    ) -> Result<Open, Changed> {
        let (state, revision) = (from.state, from.revision);
        if expect.is_some_and(|expect| !expect.holds(state, revision)) {
            return Err(Changed::Unexpected { state, revision });
        }
        if self.leads_nowhere_from(state) {
            return Err(Changed::Unchanged);
        }
        // How long the job is kept has no part in whether it may move.
        next(from, self.event, now, &Retention::default()).map_err(Changed::Refused)?;
        let cancelled = self.runs_again().map(|verb| Changed::Refused(Refusal { state, verb }));
        Ok(Open { cancelled, takes_key: cancelled.is_some() && state.is_final() })
    }

    /// The word for it when it makes the job run, or wait to run.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn standing(state: StateName) -> Standing {
        Standing { state, revision: 3, attempt: 1, failures: 0, recoveries: 0, crashes: 0 }
    }

    #[test]
    fn an_action_is_resolved_in_time() {
        let later = NOW.saturating_add(Duration::from_secs(5));
        let table = [
            (Action::Requeue, Event::Requeue, None),
            (Action::Delete { reason: "no".into() }, Event::Delete, Some("no")),
            (Action::Reschedule(When::Now), Event::Reschedule(NOW), None),
            (Action::Reschedule(When::In(Duration::from_secs(5))), Event::Reschedule(later), None),
            (Action::Reschedule(When::At(Timestamp::MIN)), Event::Reschedule(Timestamp::MIN), None),
        ];
        for (action, event, reason) in &table {
            let step = Step::of(action, NOW).unwrap();
            assert_eq!((step.event, step.reason), (*event, *reason), "{action:?}");
        }
        assert!(Step::of(&Action::Reschedule(When::In(Duration::MAX)), NOW).is_err());
    }

    #[test]
    fn a_change_is_judged_in_one_order() {
        use StateName::{Deleted, Enqueued, Failed, Processing, Scheduled};
        let requeue = Step::of(&Action::Requeue, NOW).unwrap();
        let reason = Action::Delete { reason: String::new() };
        let delete = Step::of(&reason, NOW).unwrap();
        let refused = |state, verb| Changed::Refused(Refusal { state, verb });
        let unexpected = |state| Err(Changed::Unexpected { state, revision: 3 });
        let runs =
            |state, takes_key| Ok(Open { cancelled: Some(refused(state, "requeued")), takes_key });
        let other = Some(Expect::Revision(9));
        let table = [
            (requeue, other.clone(), Enqueued, unexpected(Enqueued)),
            (requeue, other, Processing, unexpected(Processing)),
            (requeue, Some(Expect::Revision(3)), Enqueued, Err(Changed::Unchanged)),
            (requeue, None, Processing, Err(refused(Processing, "requeued"))),
            (requeue, None, Scheduled, runs(Scheduled, false)),
            (requeue, None, Failed, runs(Failed, true)),
            (delete, None, Deleted, Err(Changed::Unchanged)),
            (delete, None, Failed, Ok(Open { cancelled: None, takes_key: false })),
        ];
        for (step, expect, state, expected) in table {
            let judged = step.judge(expect.as_ref(), &standing(state), NOW);
            assert_eq!(judged, expected, "{step:?} of a job that is {state}, expecting {expect:?}");
        }
    }
}
