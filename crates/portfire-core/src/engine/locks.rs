//! Locks: who gets one, renews it or gives it back.

use crate::clock::Timestamp;
use crate::lock::{LockAnswer, LockRequest};

/// A grant as it is stored, perhaps lapsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    /// Whose it is.
    pub owner: &'a str,
    /// Its number.
    pub fence: u64,
    /// Until when it is held.
    pub until: Timestamp,
}

/// What a request does. It was [validated](LockRequest::validate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Store a grant to who asks, until then, under the next fence of the storage: fences only rise.
    Grant {
        /// Who asks.
        owner: &'a str,
        /// Until when.
        until: Timestamp,
    },
    /// Move the end of the stored grant. The answer is [`LockAnswer::Held`].
    Renew {
        /// The fence of the grant.
        fence: u64,
        /// Until when.
        until: Timestamp,
    },
    /// Remove the stored grant; those who wait get a control hint. The answer is [`LockAnswer::Released`].
    Release,
    /// Change nothing. This is the answer.
    Leave(LockAnswer),
}

/// Decides about a request for a lock of which this grant is stored, if any is.
pub fn decide<'a>(stored: Option<Grant<'_>>, request: &'a LockRequest, now: Timestamp) -> Step<'a> {
    let held = stored.filter(|grant| is_held(grant.until, now));
    match (request, held) {
        (LockRequest::Acquire { owner, lease, .. }, Some(grant)) if grant.owner == *owner => {
            Step::Renew { fence: grant.fence, until: now.saturating_add(*lease) }
        }
        (LockRequest::Acquire { .. }, Some(grant)) => {
            Step::Leave(LockAnswer::Taken { until: grant.until })
        }
        (LockRequest::Acquire { owner, lease, .. }, None) => {
            Step::Grant { owner, until: now.saturating_add(*lease) }
        }
        (LockRequest::Renew { fence, lease, .. }, Some(grant)) if grant.fence == *fence => {
            Step::Renew { fence: *fence, until: now.saturating_add(*lease) }
        }
        (LockRequest::Release { fence, .. }, Some(grant)) if grant.fence == *fence => Step::Release,
        (LockRequest::Renew { .. } | LockRequest::Release { .. }, _) => {
            Step::Leave(LockAnswer::Lost)
        }
    }
}

/// Whether a grant is held that ends then.
pub fn is_held(until: Timestamp, now: Timestamp) -> bool {
    until > now
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    #[test]
    fn a_request_is_decided_by_the_grant_that_is_held() {
        let lease = Duration::from_secs(5);
        let (later, until) =
            (NOW.saturating_add(Duration::from_secs(1)), NOW.saturating_add(lease));
        let name = || "l".to_owned();
        let acquire =
            |owner: &str| LockRequest::Acquire { name: name(), owner: owner.into(), lease };
        let renew = |fence| LockRequest::Renew { name: name(), fence, lease };
        let release = |fence| LockRequest::Release { name: name(), fence };
        let held = Some(Grant { owner: "a", fence: 7, until: later });
        let lapsed = Some(Grant { owner: "a", fence: 7, until: NOW });
        let lost = Step::Leave(LockAnswer::Lost);
        let table = [
            (None, acquire("a"), Step::Grant { owner: "a", until }),
            (lapsed, acquire("a"), Step::Grant { owner: "a", until }),
            (lapsed, acquire("b"), Step::Grant { owner: "b", until }),
            (held, acquire("a"), Step::Renew { fence: 7, until }),
            (held, acquire("b"), Step::Leave(LockAnswer::Taken { until: later })),
            (held, renew(7), Step::Renew { fence: 7, until }),
            (held, renew(6), lost),
            (lapsed, renew(7), lost),
            (None, renew(7), lost),
            (held, release(7), Step::Release),
            (held, release(8), lost),
            (lapsed, release(7), lost),
            (None, release(7), lost),
        ];
        for (stored, request, expected) in table {
            assert_eq!(decide(stored, &request, NOW), expected, "{request:?} of {stored:?}");
        }
    }
}
