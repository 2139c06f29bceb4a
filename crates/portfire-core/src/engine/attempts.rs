//! Attempts: what becomes of a finish, who is heard, and what a server has lost.

use crate::clock::Timestamp;
use crate::job::JobOptions;
use crate::state::StateName;
use crate::storage::{LostReason, Verdict};

/// How an attempt that a server speaks of is related to its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The job is not stored.
    Missing,
    /// The job is processing, held by this server, under this attempt.
    Holds,
    /// The job stands where this attempt's own finish, by this server, has put it.
    Finished,
    /// Anything else.
    Past,
}

impl Relation {
    /// What becomes of its finish; only an [applied](Verdict::Applied) one leaves a trace.
    pub fn verdict(self) -> Verdict {
        match self {
            Relation::Missing => Verdict::Missing,
            Relation::Holds => Verdict::Applied,
            Relation::Finished => Verdict::Already,
            Relation::Past => Verdict::Fenced,
        }
    }

    /// Whether what it says is taken down.
    pub fn is_heard(self) -> bool {
        matches!(self, Relation::Holds | Relation::Finished)
    }
}

/// Why a claim is no longer good whose job stands in this state, if it is stored; `None` while the claim
/// holds the job.
pub fn lost(state: Option<StateName>, holds: bool) -> Option<LostReason> {
    match state {
        None => Some(LostReason::Missing),
        Some(_) if holds => None,
        Some(StateName::Deleted) => Some(LostReason::Deleted),
        Some(_) => Some(LostReason::Taken),
    }
}

/// Why a job that came to its queue then is not to start any more, if it is not.
pub fn too_late(options: &JobOptions, enqueued_at: Timestamp, now: Timestamp) -> Option<String> {
    let waited = now.since(enqueued_at);
    match (options.start_deadline, options.expires_at) {
        (Some(deadline), _) if waited > deadline => Some(format!(
            "it was to start within {deadline:?} of being enqueued, and was claimed after {waited:?}"
        )),
        (_, Some(expires_at)) if now > expires_at => {
            Some(format!("it was to start by {expires_at}, and was claimed at {now}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finish_counts_while_its_attempt_holds_the_job() {
        let table = [
            (Relation::Missing, Verdict::Missing, false),
            (Relation::Holds, Verdict::Applied, true),
            (Relation::Finished, Verdict::Already, true),
            (Relation::Past, Verdict::Fenced, false),
        ];
        for (relation, verdict, heard) in table {
            assert_eq!((relation.verdict(), relation.is_heard()), (verdict, heard), "{relation:?}");
        }
    }

    #[test]
    fn a_lost_claim_is_told_why() {
        let table = [
            (None, false, Some(LostReason::Missing)),
            (Some(StateName::Processing), true, None),
            (Some(StateName::Processing), false, Some(LostReason::Taken)),
            (Some(StateName::Succeeded), false, Some(LostReason::Taken)),
            (Some(StateName::Deleted), false, Some(LostReason::Deleted)),
        ];
        for (state, holds, reason) in table {
            assert_eq!(lost(state, holds), reason, "{state:?}, {holds}");
        }
    }
}
