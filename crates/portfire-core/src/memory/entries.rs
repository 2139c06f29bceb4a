//! What a transition writes: the entry of the history, and the state with its data.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::history::folds_over;
use crate::job::Json;
use crate::state::{Cause, ErrorRecord, Folded, HistoryEntry, JobState, ServerId, StateName};
use crate::storage::Outcome;
use crate::transition::Transition;

/// What a transition is about, beyond what the state machine decides.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) server: Option<ServerId>,
    pub(super) attempt: Option<u32>,
    pub(super) error: Option<ErrorRecord>,
    pub(super) reason: Option<String>,
    pub(super) result: Option<Json>,
    pub(super) duration: Duration,
}

impl Facts {
    /// What is said about something that has a reason and nothing else.
    pub(super) fn reason(reason: impl Into<String>) -> Facts {
        Facts { reason: Some(reason.into()), ..Facts::default() }
    }

    /// What the history and the state say about an outcome.
    pub(super) fn of(outcome: Outcome) -> Facts {
        let none = Facts::default();
        match outcome {
            Outcome::Succeeded { result } => Facts { result, ..none },
            Outcome::Retry { error, .. } | Outcome::Failed { error } => {
                Facts { error: Some(error), ..none }
            }
            Outcome::Discarded { reason, error } => Facts { reason: Some(reason), error, ..none },
            Outcome::Snoozed { .. } | Outcome::Parked { .. } | Outcome::Released => none,
        }
    }
}

/// The first entry of a history.
pub(super) fn created(state: &JobState, now: Timestamp) -> HistoryEntry {
    let run_at = match state {
        JobState::Scheduled { run_at, .. } => Some(*run_at),
        _ => None,
    };
    HistoryEntry {
        revision: 1,
        state: state.name(),
        at: now,
        cause: Cause::Created,
        server: None,
        attempt: None,
        run_at,
        error: None,
        reason: None,
        folded: None,
    }
}

/// What the history says about a transition.
pub(super) fn entry(made: &Transition, facts: &Facts, now: Timestamp) -> HistoryEntry {
    // A rescue comes with the error of a poisoned job, whether or not it turns out to be one.
    let error = if made.cause == Cause::Rescued { None } else { facts.error.clone() };
    HistoryEntry {
        revision: made.to.revision,
        state: made.to.state,
        at: now,
        cause: made.cause,
        server: facts.server.clone(),
        attempt: facts.attempt,
        run_at: made.run_at,
        error,
        reason: facts.reason.clone(),
        folded: None,
    }
}

/// Adds an entry to a history, or folds it with the one before it that says the same.
pub(super) fn push(history: &mut Vec<HistoryEntry>, mut entry: HistoryEntry) {
    if let Some(between) = folds_over(entry.cause)
        && let Some(place) = history.len().checked_sub(between.len() + 1)
        && history[place].cause == entry.cause
        && history[place + 1..].iter().map(|entry| &entry.cause).eq(between)
    {
        let before = &history[place];
        entry.folded = Some(Folded { count: before.count() + 1, since: before.since() });
        entry.server = history[place + 1..].iter().find_map(|between| between.server.clone());
        history.truncate(place);
    }
    history.push(entry);
}

/// The state that a transition leads to, with its data.
pub(super) fn state(made: &Transition, facts: Facts, now: Timestamp) -> JobState {
    let expires_at = made.expires_at;
    match made.to.state {
        StateName::Scheduled => {
            JobState::Scheduled { run_at: made.run_at.unwrap_or(now), cause: made.cause }
        }
        StateName::Awaiting => JobState::Awaiting { pending: 0 },
        StateName::Enqueued => JobState::Enqueued { enqueued_at: now },
        StateName::Processing => {
            let server = facts.server.unwrap_or_else(|| ServerId::new(""));
            JobState::Processing { server, claimed_at: now }
        }
        StateName::Succeeded => JobState::Succeeded {
            succeeded_at: now,
            result: facts.result,
            duration: facts.duration,
            expires_at,
        },
        StateName::Failed => {
            let unknown = || ErrorRecord::new("unknown", "no error was recorded");
            let error = facts.error.unwrap_or_else(unknown);
            JobState::Failed { failed_at: now, error, expires_at }
        }
        StateName::Deleted => JobState::Deleted {
            deleted_at: now,
            reason: facts.reason.unwrap_or_default(),
            error: facts.error,
            expires_at,
        },
    }
}
