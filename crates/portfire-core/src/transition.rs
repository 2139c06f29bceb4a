//! The pure state machine: `(standing, event, now) → transition`.
//!
//! It reads no clock and touches no storage, so every backend, the simulator and the model tests
//! share it. A storage reads where a job stands, asks [`next`], and writes what it answers.
//!
//! | from \ to | scheduled | enqueued | processing | succeeded | failed | deleted |
//! |---|---|---|---|---|---|---|
//! | (none) | create | create | | | | |
//! | (none) | create → awaiting, when it waits for others | | | | | |
//! | scheduled | reschedule | promote, requeue | | | | delete |
//! | awaiting | continue (delayed), reschedule | continue, requeue | | | | delete |
//! | enqueued | reschedule | | claim | | unhandled | delete |
//! | processing | retry, snooze, park | release, rescue | | succeed | fail, rescue (poison) | discard, delete |
//! | final | reschedule | requeue | | | | delete (of succeeded, failed) |
//!
//! Of crashes two things are kept. `crashes` counts every crash of a server that held the job, since an attempt of
//! it last came to an end: it makes the job a [suspect](crate::suspects), which runs apart from others.
//! `recoveries` counts those crashes that it alone can have caused: it makes the job poison.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::state::{Cause, StateName};
use crate::suspects::SUSPECT_CRASHES;

/// Crashes that a job alone can have caused, and survives before it is given up. Default of [`RescueRequest`](crate::RescueRequest).
pub const RECOVERIES_MAX: u32 = 3;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a job is kept after its end, by outcome. `None` keeps it until someone deletes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Default: 1 day.
    pub succeeded: Option<Duration>,
    /// Default: `None`. A failed job is kept until someone acts, as in Hangfire.
    pub failed: Option<Duration>,
    /// Default: 1 day.
    pub deleted: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { succeeded: Some(DAY), failed: None, deleted: Some(DAY) }
    }
}

impl Retention {
    /// When a job that enters `state` now may be cleaned.
    pub fn expires_at(&self, state: StateName, now: Timestamp) -> Option<Timestamp> {
        let kept = match state {
            StateName::Succeeded => self.succeeded,
            StateName::Failed => self.failed,
            StateName::Deleted => self.deleted,
            _ => None,
        };
        kept.map(|time| now.saturating_add(time))
    }
}

/// What the state machine needs to know of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: StateName,
    /// Transitions made so far.
    pub revision: u32,
    /// Claims made so far.
    pub attempt: u32,
    /// Failures since its run began.
    pub failures: u32,
    /// Crashes since its run began that it alone can have caused, and survived.
    pub recoveries: u32,
    /// Crashes of servers that held it, since an attempt of it last came to an end by itself.
    pub crashes: u32,
}

impl Standing {
    /// That of a job that was just created.
    pub const fn created(state: StateName) -> Standing {
        Standing { state, revision: 1, attempt: 0, failures: 0, recoveries: 0, crashes: 0 }
    }

    /// Whether it is given out apart from others: see [`suspects`](crate::suspects).
    pub const fn is_suspect(&self) -> bool {
        self.crashes >= SUSPECT_CRASHES
    }
}

/// How a server was lost that held a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// Its lease lapsed, and its process lives: it was stopped for a while, or could not reach the storage. Nothing
    /// is counted.
    Lapsed,
    /// It crashed, and the job need not be the cause: other jobs were held too, or other servers crashed as well.
    Crashed,
    /// It crashed while it held this job and no other, and no other server crashed since the claim.
    CrashedAlone,
}

impl Loss {
    /// What the history says about it.
    pub const fn reason(self) -> &'static str {
        match self {
            Loss::Lapsed => "the lease of its server lapsed, and the process of that lives",
            Loss::Crashed => "its server crashed, and this job need not be the cause",
            Loss::CrashedAlone => "its server crashed while it held this job and no other",
        }
    }
}

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Its instant came.
    Promote,
    /// A server takes it.
    Claim,
    /// The handler returned.
    Succeed,
    /// The handler failed and is tried again after a wait.
    Retry(Duration),
    /// The handler asks to run later, at no cost.
    Snooze(Duration),
    /// No handler of this kind here; try again later, at no cost.
    Park(Duration),
    /// The server gives it back, at no cost.
    Release,
    /// The handler failed for the last time.
    Fail,
    /// The handler, a filter or the retry policy takes it out; `failed` when an error did.
    Discard {
        /// Whether an error led to it, which then counts as a failure.
        failed: bool,
    },
    /// Its server was declared dead.
    Rescue {
        /// How it was lost.
        loss: Loss,
        /// Crashes that the job alone can have caused, and may survive.
        recoveries_max: u32,
    },
    /// No live server has had a handler of its kind for too long.
    Unhandled,
    /// Someone wants another run.
    Requeue,
    /// Someone takes it out.
    Delete,
    /// Someone moves its instant.
    Reschedule(Timestamp),
    /// All that it waited for has ended as it was to; it runs now, or at an instant.
    Continue(Option<Timestamp>),
}

/// What a storage writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Where the job stands afterwards.
    pub to: Standing,
    /// What the history says about it.
    pub cause: Cause,
    /// The instant to wait for; set exactly when the state is `scheduled`.
    pub run_at: Option<Timestamp>,
    /// Its place in the queue; set exactly when the state is `enqueued`.
    pub place: Option<Place>,
    /// When it may be cleaned; only for final states.
    pub expires_at: Option<Timestamp>,
}

/// Where in its queue a job goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind all that wait.
    End,
    /// Where it stood before it was claimed.
    Old,
    /// Before all other suspects of its queue, which stand apart from its other jobs: the last that was held comes
    /// first, because it is the likeliest to have been the cause. Each suspect that enters its queue goes here.
    Apart,
}

/// An event that the job's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {state} cannot be {verb}")]
pub struct Refusal {
    /// The state of the job.
    pub state: StateName,
    /// What was asked.
    pub verb: &'static str,
}

/// Decides what an event makes of a job.
///
/// # Errors
/// [`Refusal`] when the state does not allow the event; nothing may be written then.
pub fn next(
    job: &Standing,
    event: Event,
    now: Timestamp,
    retention: &Retention,
) -> Result<Transition, Refusal> {
    use StateName::{Awaiting, Deleted, Enqueued, Failed, Processing, Scheduled, Succeeded};

    let moved = Moved { job, now, retention };
    let transition = match (job.state, event) {
        (Scheduled, Event::Promote) => moved.queued(Cause::Promoted, Place::End),
        (Enqueued, Event::Claim) => moved.claimed(),
        (Enqueued, Event::Unhandled) => moved.ended(Failed, Cause::Failed),

        (Processing, Event::Succeed) => moved.ended(Succeeded, Cause::Succeeded).cleared(),
        (Processing, Event::Fail) => moved.ended(Failed, Cause::Failed).plus_failure().cleared(),
        (Processing, Event::Discard { failed: true }) => {
            moved.ended(Deleted, Cause::Discarded).plus_failure().cleared()
        }
        (Processing, Event::Discard { failed: false }) => {
            moved.ended(Deleted, Cause::Discarded).cleared()
        }
        (Processing, Event::Retry(wait)) => {
            moved.waits(now.saturating_add(wait), Cause::Retried).plus_failure().cleared()
        }
        (Processing, Event::Snooze(wait)) => {
            moved.waits(now.saturating_add(wait), Cause::Snoozed).cleared()
        }
        (Processing, Event::Park(wait)) => moved.waits(now.saturating_add(wait), Cause::Parked),
        (Processing, Event::Release) => moved.queued(Cause::Released, Place::Old),
        (Processing, Event::Rescue { loss: Loss::Lapsed, .. }) => {
            moved.queued(Cause::Rescued, Place::Old)
        }
        (Processing, Event::Rescue { loss: Loss::Crashed, .. }) => {
            moved.queued(Cause::Rescued, Place::Old).plus_crash()
        }
        (Processing, Event::Rescue { loss: Loss::CrashedAlone, recoveries_max }) => {
            if job.recoveries >= recoveries_max {
                moved.ended(Failed, Cause::Poisoned).plus_crash()
            } else {
                moved.queued(Cause::Rescued, Place::Old).plus_crash().plus_recovery()
            }
        }

        (Awaiting, Event::Continue(None)) => moved.queued(Cause::Continued, Place::End),
        (Awaiting, Event::Continue(Some(at))) => moved.waits(at, Cause::Continued),
        (Scheduled | Awaiting, Event::Requeue) => moved.queued(Cause::Requeued, Place::End),
        (Succeeded | Failed | Deleted, Event::Requeue) => {
            moved.queued(Cause::Requeued, Place::End).new_run()
        }
        (Scheduled | Awaiting | Enqueued, Event::Reschedule(at)) => {
            moved.waits(at, Cause::Rescheduled)
        }
        (Succeeded | Failed | Deleted, Event::Reschedule(at)) => {
            moved.waits(at, Cause::Rescheduled).new_run()
        }
        (Scheduled | Awaiting | Enqueued | Processing | Succeeded | Failed, Event::Delete) => {
            moved.ended(Deleted, Cause::Deleted)
        }

        (state, event) => return Err(Refusal { state, verb: event.verb() }),
    };
    Ok(transition)
}

impl Event {
    fn verb(self) -> &'static str {
        match self {
            Event::Promote => "promoted",
            Event::Claim => "claimed",
            Event::Succeed => "completed",
            Event::Retry(_) => "retried",
            Event::Snooze(_) => "snoozed",
            Event::Park(_) => "parked",
            Event::Release => "released",
            Event::Fail => "failed",
            Event::Discard { .. } => "discarded",
            Event::Rescue { .. } => "rescued",
            Event::Unhandled => "failed for want of a handler",
            Event::Requeue => "requeued",
            Event::Delete => "deleted",
            Event::Reschedule(_) => "rescheduled",
            Event::Continue(_) => "continued",
        }
    }
}

/// A job on the move: what all transitions have in common.
struct Moved<'a> {
    job: &'a Standing,
    now: Timestamp,
    retention: &'a Retention,
}

impl Moved<'_> {
    fn entering(&self, state: StateName, cause: Cause) -> Transition {
        // 4 thousand million transitions of one job do not happen; wrapping would break the history.
        let revision = self.job.revision.saturating_add(1);
        let to = Standing { state, revision, ..*self.job };
        Transition { to, cause, run_at: None, place: None, expires_at: None }
    }

    fn queued(&self, cause: Cause, place: Place) -> Transition {
        let place = Some(if self.job.is_suspect() { Place::Apart } else { place });
        Transition { place, ..self.entering(StateName::Enqueued, cause) }
    }

    fn claimed(&self) -> Transition {
        let mut claimed = self.entering(StateName::Processing, Cause::Claimed);
        claimed.to.attempt = self.job.attempt.saturating_add(1);
        claimed
    }

    fn waits(&self, run_at: Timestamp, cause: Cause) -> Transition {
        let run_at = Some(run_at);
        Transition { run_at, ..self.entering(StateName::Scheduled, cause) }
    }

    fn ended(&self, state: StateName, cause: Cause) -> Transition {
        let expires_at = self.retention.expires_at(state, self.now);
        Transition { expires_at, ..self.entering(state, cause) }
    }
}

impl Transition {
    fn plus_failure(mut self) -> Transition {
        self.to.failures = self.to.failures.saturating_add(1);
        self
    }

    fn plus_recovery(mut self) -> Transition {
        self.to.recoveries = self.to.recoveries.saturating_add(1);
        self
    }

    fn plus_crash(mut self) -> Transition {
        self.to.crashes = self.to.crashes.saturating_add(1);
        if self.place.is_some() && self.to.is_suspect() {
            self.place = Some(Place::Apart);
        }
        self
    }

    /// An attempt has come to an end by itself: it did not bring its server down.
    fn cleared(mut self) -> Transition {
        self.to.crashes = 0;
        self
    }

    fn new_run(mut self) -> Transition {
        self.to.failures = 0;
        self.to.recoveries = 0;
        self.to.crashes = 0;
        if self.place.is_some() {
            self.place = Some(Place::End);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StateName::{Awaiting, Deleted, Enqueued, Failed, Processing, Scheduled, Succeeded};

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);
    const WAIT: Duration = Duration::from_secs(5);

    fn standing(state: StateName) -> Standing {
        Standing { state, revision: 4, attempt: 2, failures: 1, recoveries: 1, crashes: 0 }
    }

    fn events() -> Vec<Event> {
        vec![
            Event::Promote,
            Event::Claim,
            Event::Succeed,
            Event::Retry(WAIT),
            Event::Snooze(WAIT),
            Event::Park(WAIT),
            Event::Release,
            Event::Fail,
            Event::Discard { failed: true },
            Event::Discard { failed: false },
            Event::Rescue { loss: Loss::Lapsed, recoveries_max: 1 },
            Event::Rescue { loss: Loss::Crashed, recoveries_max: 1 },
            Event::Rescue { loss: Loss::CrashedAlone, recoveries_max: 3 },
            Event::Rescue { loss: Loss::CrashedAlone, recoveries_max: 1 },
            Event::Unhandled,
            Event::Requeue,
            Event::Delete,
            Event::Reschedule(NOW),
            Event::Continue(None),
            Event::Continue(Some(NOW)),
        ]
    }

    /// The whole table, written out: what is not here is refused.
    fn expected(from: StateName, event: Event) -> Option<StateName> {
        match (from, event) {
            (Scheduled, Event::Promote) => Some(Enqueued),
            (Enqueued, Event::Claim) => Some(Processing),
            (Enqueued, Event::Unhandled) => Some(Failed),
            (Processing, Event::Succeed) => Some(Succeeded),
            (Processing, Event::Retry(_) | Event::Snooze(_) | Event::Park(_)) => Some(Scheduled),
            (Processing, Event::Release) => Some(Enqueued),
            (Processing, Event::Fail) => Some(Failed),
            (Processing, Event::Discard { .. }) => Some(Deleted),
            (Processing, Event::Rescue { loss: Loss::CrashedAlone, recoveries_max: 1 }) => {
                Some(Failed)
            }
            (Processing, Event::Rescue { .. }) => Some(Enqueued),
            (Awaiting, Event::Continue(None)) => Some(Enqueued),
            (Awaiting, Event::Continue(Some(_))) => Some(Scheduled),
            (Scheduled | Awaiting | Succeeded | Failed | Deleted, Event::Requeue) => Some(Enqueued),
            (Processing | Deleted, Event::Reschedule(_) | Event::Delete) => match (from, event) {
                (Processing, Event::Delete) => Some(Deleted),
                (Deleted, Event::Reschedule(_)) => Some(Scheduled),
                _ => None,
            },
            (_, Event::Delete) => Some(Deleted),
            (_, Event::Reschedule(_)) => Some(Scheduled),
            _ => None,
        }
    }

    #[test]
    fn every_pair_of_state_and_event_is_decided_as_the_table_says() {
        for from in StateName::ALL {
            for event in events() {
                let decided = next(&standing(from), event, NOW, &Retention::default());
                assert_eq!(
                    decided.ok().map(|transition| transition.to.state),
                    expected(from, event),
                    "{from} {event:?}"
                );
            }
        }
    }

    #[test]
    fn every_transition_is_one_revision_and_has_the_data_of_its_state() {
        for from in StateName::ALL {
            for event in events() {
                let job = standing(from);
                let Ok(made) = next(&job, event, NOW, &Retention::default()) else { continue };
                assert_eq!(made.to.revision, job.revision + 1, "{from} {event:?}");
                assert_eq!(made.run_at.is_some(), made.to.state == Scheduled, "{from} {event:?}");
                assert_eq!(made.place.is_some(), made.to.state == Enqueued, "{from} {event:?}");
                let expires = matches!(made.to.state, Succeeded | Deleted);
                assert_eq!(made.expires_at.is_some(), expires, "{from} {event:?}");
                let claims = u32::from(event == Event::Claim);
                assert_eq!(made.to.attempt, job.attempt + claims, "{from} {event:?}");
            }
        }
    }

    #[test]
    fn failures_and_recoveries_are_counted_apart() {
        let counts = |event| {
            let job = Standing { crashes: 1, ..standing(Processing) };
            let made = next(&job, event, NOW, &Retention::default()).unwrap();
            (made.to.failures, made.to.recoveries, made.to.crashes)
        };
        assert_eq!(counts(Event::Retry(WAIT)), (2, 1, 0));
        assert_eq!(counts(Event::Fail), (2, 1, 0));
        assert_eq!(counts(Event::Discard { failed: true }), (2, 1, 0));
        assert_eq!(counts(Event::Discard { failed: false }), (1, 1, 0));
        let rescue = |loss| Event::Rescue { loss, recoveries_max: 3 };
        assert_eq!(counts(rescue(Loss::CrashedAlone)), (1, 2, 2));
        assert_eq!(counts(rescue(Loss::Crashed)), (1, 1, 2));
        assert_eq!(counts(rescue(Loss::Lapsed)), (1, 1, 1));
        assert_eq!(counts(Event::Snooze(WAIT)), (1, 1, 0));
        assert_eq!(counts(Event::Park(WAIT)), (1, 1, 1));
        assert_eq!(counts(Event::Release), (1, 1, 1));
    }

    #[test]
    fn a_job_survives_three_crashes_and_not_a_fourth() {
        let mut job = Standing { recoveries: 0, ..standing(Processing) };
        for crash in 1..=RECOVERIES_MAX {
            let event = Event::Rescue { loss: Loss::CrashedAlone, recoveries_max: RECOVERIES_MAX };
            let made = next(&job, event, NOW, &Retention::default()).unwrap();
            assert_eq!((made.to.state, made.to.recoveries), (Enqueued, crash));
            job = Standing { state: Processing, ..made.to };
        }
        let event = Event::Rescue { loss: Loss::CrashedAlone, recoveries_max: RECOVERIES_MAX };
        let made = next(&job, event, NOW, &Retention::default()).unwrap();
        assert_eq!((made.to.state, made.cause), (Failed, Cause::Poisoned));
    }

    #[test]
    fn crashes_that_others_may_have_caused_and_lapsed_leases_never_make_a_job_poison() {
        for loss in [Loss::Crashed, Loss::Lapsed] {
            let mut job = Standing { recoveries: RECOVERIES_MAX, ..standing(Processing) };
            for _ in 0..100 {
                let event = Event::Rescue { loss, recoveries_max: RECOVERIES_MAX };
                let made = next(&job, event, NOW, &Retention::default()).unwrap();
                assert_eq!((made.to.state, made.to.recoveries), (Enqueued, RECOVERIES_MAX));
                job = Standing { state: Processing, ..made.to };
            }
        }
    }

    #[test]
    fn a_job_goes_apart_from_its_second_crash_on_until_an_attempt_has_ended_by_itself() {
        let rescue = Event::Rescue { loss: Loss::Crashed, recoveries_max: RECOVERIES_MAX };
        let place = |crashes, state, event| {
            let job = Standing { crashes, ..standing(state) };
            next(&job, event, NOW, &Retention::default()).unwrap().place
        };
        assert_eq!(place(0, Processing, rescue), Some(Place::Old));
        assert_eq!(place(1, Processing, rescue), Some(Place::Apart));
        assert_eq!(place(1, Processing, Event::Release), Some(Place::Old));
        assert_eq!(place(2, Processing, Event::Release), Some(Place::Apart));
        assert_eq!(place(2, Scheduled, Event::Promote), Some(Place::Apart), "it was parked");
        assert_eq!(place(2, Failed, Event::Requeue), Some(Place::End), "a new run");
        let retried = Standing { crashes: 2, ..standing(Processing) };
        let retried = next(&retried, Event::Retry(WAIT), NOW, &Retention::default()).unwrap();
        let back = next(&retried.to, Event::Promote, NOW, &Retention::default()).unwrap();
        assert_eq!(back.place, Some(Place::End));
    }

    #[test]
    fn a_requeue_of_a_final_job_begins_a_new_run() {
        for from in [Succeeded, Failed, Deleted] {
            let made = next(&standing(from), Event::Requeue, NOW, &Retention::default()).unwrap();
            assert_eq!((made.to.failures, made.to.recoveries, made.to.crashes), (0, 0, 0));
            assert_eq!(made.expires_at, None);
        }
        let early = next(&standing(Scheduled), Event::Requeue, NOW, &Retention::default()).unwrap();
        assert_eq!(early.to.failures, 1, "an early retry is the same run");
    }

    #[test]
    fn retention_decides_the_expiry_by_outcome() {
        let retention = Retention { succeeded: None, failed: Some(WAIT), deleted: Some(DAY) };
        let expires =
            |event| next(&standing(Processing), event, NOW, &retention).unwrap().expires_at;
        assert_eq!(expires(Event::Succeed), None);
        assert_eq!(expires(Event::Fail), Some(NOW.saturating_add(WAIT)));
        assert_eq!(expires(Event::Delete), Some(NOW.saturating_add(DAY)));
    }

    #[test]
    fn a_refusal_says_what_was_asked_of_what() {
        let refusal = next(&standing(Processing), Event::Requeue, NOW, &Retention::default());
        assert_eq!(refusal.unwrap_err().to_string(), "a job that is processing cannot be requeued");
    }
}
