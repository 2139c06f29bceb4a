//! Unique keys: what a new job meets whose key is held, how long a job holds one, and who takes one again.

use crate::clock::Timestamp;
use crate::job::{InvalidJob, JobId, When};
use crate::state::StateName;
use crate::unique::{Conflict, UniqueKey, UniqueScope};

/// What becomes of a new job whose key another job holds, and of that job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The new job is not stored. The holder stands for it.
    Reject,
    /// As [`Reject`](Self::Reject), and the holder waits anew, for this instant.
    Postpone(Timestamp),
    /// The new job takes the key.
    TakeOver {
        /// Whether the holder is deleted first, for the reason of [`replaced_by`].
        deletes: bool,
    },
}

/// Whether a job holds a key that it has taken until then; the time has come when storage time is equal or later.
pub fn is_held(until: Option<Timestamp>, now: Timestamp) -> bool {
    until.is_none_or(|until| until > now)
}

/// Decides about a new job that is to run then, whose key is held by a job in this state. `created_at` is when the holder was
/// created, and `run_at` the instant that it waits for, when it is scheduled.
///
/// # Errors
/// [`InvalidJob::Delay`] when the instant of the new job lies beyond the year 9999.
pub fn meet(
    unique: &UniqueKey,
    when: When,
    state: StateName,
    created_at: Timestamp,
    run_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Meeting, InvalidJob> {
    Ok(match unique.conflict {
        Conflict::Replace if state == StateName::Processing => Meeting::Reject,
        Conflict::Replace => Meeting::TakeOver { deletes: !state.is_final() },
        conflict if matches!(state, StateName::Scheduled | StateName::Enqueued) => {
            let to = when.resolve(now)?;
            let to = to.and_then(|to| conflict.debounced(created_at, run_at, to, now));
            to.map_or(Meeting::Reject, Meeting::Postpone)
        }
        Conflict::Debounce | Conflict::DebounceAtMost(_) | Conflict::Reject => Meeting::Reject,
    })
}

/// Why the holder of a key is deleted that another job takes over.
pub fn replaced_by(job: JobId) -> String {
    format!("replaced by job {job}")
}

/// Whether a job gives its key back when it comes to stand in this state. A claim is told by [`ends_at_claim`].
pub fn ends_in(unique: &UniqueKey, state: StateName) -> bool {
    match unique.scope {
        UniqueScope::Within(_) => state == StateName::Deleted,
        UniqueScope::UntilStarted | UniqueScope::UntilFinished => state.is_final(),
    }
}

/// Whether a job gives its key back when it is claimed.
pub fn ends_at_claim(unique: &UniqueKey) -> bool {
    unique.scope == UniqueScope::UntilStarted
}

/// Whether a job that runs anew after its end takes its key again, and is refused when another job has it. A key
/// for a time is held by the job that was created with it, or by nobody.
pub fn is_taken_again(unique: &UniqueKey) -> bool {
    !matches!(unique.scope, UniqueScope::Within(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use StateName::{Awaiting, Deleted, Enqueued, Failed, Processing, Scheduled, Succeeded};

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn key(scope: UniqueScope, conflict: Conflict) -> UniqueKey {
        UniqueKey { key: "k".into(), scope, conflict }
    }

    #[test]
    fn a_conflict_is_decided_by_the_state_of_the_holder() {
        let (then, delay) = (NOW.saturating_add(MINUTE), When::In(MINUTE));
        let (delete, keep) =
            (Meeting::TakeOver { deletes: true }, Meeting::TakeOver { deletes: false });
        let table = [
            (Conflict::Reject, delay, Scheduled, None, Meeting::Reject),
            (Conflict::Replace, delay, Processing, None, Meeting::Reject),
            (Conflict::Replace, delay, Awaiting, None, delete),
            (Conflict::Replace, delay, Enqueued, None, delete),
            (Conflict::Replace, delay, Succeeded, None, keep),
            (Conflict::Debounce, delay, Enqueued, None, Meeting::Postpone(then)),
            (Conflict::Debounce, delay, Scheduled, Some(NOW), Meeting::Postpone(then)),
            (Conflict::Debounce, delay, Scheduled, Some(then), Meeting::Reject),
            (Conflict::Debounce, When::Now, Scheduled, Some(then), Meeting::Reject),
            (Conflict::Debounce, delay, Awaiting, None, Meeting::Reject),
            (Conflict::Debounce, delay, Processing, None, Meeting::Reject),
            (Conflict::Debounce, delay, Failed, None, Meeting::Reject),
        ];
        for (conflict, when, state, run_at, expected) in table {
            let unique = key(UniqueScope::UntilFinished, conflict);
            let met = meet(&unique, when, state, NOW, run_at, NOW).unwrap();
            assert_eq!(met, expected, "{conflict:?} with a holder that is {state}");
        }
    }

    #[test]
    fn a_key_is_given_back_at_the_end_of_its_scope() {
        let within = UniqueScope::Within(MINUTE);
        let table = [
            (UniqueScope::UntilStarted, true, [true, true, true], true),
            (UniqueScope::UntilFinished, false, [true, true, true], true),
            (within, false, [false, false, true], false),
        ];
        for (scope, at_claim, at_end, again) in table {
            let unique = key(scope, Conflict::Reject);
            let ends = [Succeeded, Failed, Deleted].map(|state| ends_in(&unique, state));
            assert_eq!(ends, at_end, "{scope:?}");
            assert!(!ends_in(&unique, Scheduled) && !ends_in(&unique, Enqueued), "{scope:?}");
            let said = (ends_at_claim(&unique), is_taken_again(&unique));
            assert_eq!(said, (at_claim, again), "{scope:?}");
        }
        assert!(is_held(None, NOW) && !is_held(Some(NOW), NOW));
    }
}
