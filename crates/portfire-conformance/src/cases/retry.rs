//! Retries: the policy decides, the storage counts, and a crash is not a failure.

use std::time::Duration;

use portfire_core::{AfterFailure, Cause, Exceeded, JobState, Outcome, RetryPolicy, StateName};

use crate::server::{Server, error, failure, retry, success};
use crate::stage::{DAY, Stage, secs};

/// What a server makes of a failure under a policy.
fn outcome(policy: &RetryPolicy, failures: u32) -> Outcome {
    match policy.after_failure(failures, &error(), 17) {
        AfterFailure::Retry(delay) => Outcome::Retry { delay, error: error() },
        AfterFailure::Fail => failure(),
        AfterFailure::Delete => {
            Outcome::Discarded { reason: "retries spent".into(), error: Some(error()) }
        }
    }
}

/// Lets the next job fail until its policy gives up; answers how often it ran.
async fn run_to_the_end(s: &Stage, server: &Server, policy: &RetryPolicy) -> u32 {
    for run in 1..=100 {
        let Some(claimed) = server.claim(1).await.pop() else { return run - 1 };
        server.end(claimed.claim, outcome(policy, claimed.failures)).await;
        if let Some(wait) = s.promote().await.next_in {
            s.advance(wait).await;
            s.promote().await;
        }
    }
    panic!("the job is retried without end");
}

/// A job that always fails runs exactly once more than it may be retried.
pub async fn retry_exact_count(s: Stage) {
    let server = s.server_with_lease("a", 1_000 * DAY).await;
    for max in [1, 3, 10] {
        let id = s.enqueue_one().await;
        assert_eq!(run_to_the_end(&s, &server, &RetryPolicy::times(max)).await, max + 1);
        let record = s.record(id).await;
        assert_eq!((record.failures, record.recoveries), (max + 1, 0));
        let retried = s.causes(id).await.iter().filter(|cause| **cause == Cause::Retried).count();
        assert_eq!(retried as u32, max);
        assert_eq!(record.state.name(), StateName::Failed);
    }
    assert_eq!(s.counts().await.retried_total, 14);
}

/// Without retries the first failure is the last.
pub async fn retry_zero(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    assert_eq!(run_to_the_end(&s, &server, &RetryPolicy::none()).await, 1);
    assert_eq!(s.state(id).await, StateName::Failed);
    assert_eq!(s.record(id).await.failures, 1);
}

/// A retry is not given out before its wait is over, to the last second.
pub async fn retry_backoff_at_least(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.enqueue_one().await;
    server.end(server.claim_one().await.claim, retry(100)).await;
    s.advance(secs(99)).await;
    assert_eq!(s.promote().await.promoted, 0);
    assert!(server.claim(1).await.is_empty());
    s.advance(secs(1)).await;
    assert_eq!(s.promote().await.promoted, 1);
    assert_eq!(server.claim_one().await.failures, 1);
}

/// Failures that were counted stay counted when the server dies in the next attempt.
pub async fn retry_count_survives_crash_before_finish(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    for _ in 0..2 {
        server.end(server.claim_one().await.claim, retry(0)).await;
        s.promote().await;
    }
    server.claim_one().await;
    s.lapse().await;
    s.rescue().await;
    assert_eq!(s.record(id).await.failures, 2);
    assert_eq!(s.server("b").await.claim_one().await.failures, 2);
}

/// A crash takes no retry away: the job runs as often as without it, and once more.
pub async fn crash_does_not_consume_retry(s: Stage) {
    let id = s.enqueue_one().await;
    s.server("a").await.claim_one().await;
    s.lapse().await;
    s.rescue().await;
    let server = s.server_with_lease("b", 1_000 * DAY).await;
    assert_eq!(run_to_the_end(&s, &server, &RetryPolicy::times(2)).await, 3);
    let record = s.record(id).await;
    assert_eq!((record.failures, record.recoveries, record.attempt), (3, 1, 4));
}

/// A job that succeeds after failures is succeeded, with nothing of the error in its state.
pub async fn retry_then_succeed_resets_view(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, retry(0)).await;
    s.promote().await;
    server.end(server.claim_one().await.claim, success()).await;
    let record = s.record(id).await;
    assert!(matches!(record.state, JobState::Succeeded { result: None, .. }));
    assert_eq!(record.failures, 1, "of this run");
    s.expect_count(StateName::Failed, 0).await;
    assert_eq!(s.counts().await.failed_total, 0);
}

/// A job whose retries are spent is failed, with the last error, and kept.
pub async fn retry_exhausted_failed(s: Stage) {
    let server = s.server_with_lease("a", 1_000 * DAY).await;
    let id = s.enqueue_one().await;
    run_to_the_end(&s, &server, &RetryPolicy::times(2)).await;
    let JobState::Failed { error: kept, expires_at, .. } = s.record(id).await.state else {
        panic!("the job is failed");
    };
    assert_eq!((kept, expires_at), (error(), None));
    assert_eq!(s.counts().await.failed_total, 1);
}

/// A job whose policy says so is deleted when its retries are spent, with the error kept.
pub async fn retry_exhausted_delete_option(s: Stage) {
    let server = s.server_with_lease("a", 1_000 * DAY).await;
    let id = s.enqueue_one().await;
    let policy = RetryPolicy::times(1).exceeded(Exceeded::Delete);
    assert_eq!(run_to_the_end(&s, &server, &policy).await, 2);
    let record = s.record(id).await;
    assert_eq!(record.failures, 2);
    let JobState::Deleted { error: kept, reason, .. } = record.state else {
        panic!("the job is deleted");
    };
    assert_eq!((kept, reason.as_str()), (Some(error()), "retries spent"));
    assert_eq!(s.counts().await.failed_total, 0);
}

/// The wait that an attempt names is kept to the microsecond.
pub async fn retry_after_hint_respected(s: Stage) {
    let server = s.server("a").await;
    for micros in [1, 999_999, 1_000_001, 86_400_000_000] {
        let delay = Duration::from_micros(micros);
        let id = s.enqueue_one().await;
        let held = server.claim_one().await;
        let now = s.now().await;
        server.end(held.claim, Outcome::Retry { delay, error: error() }).await;
        let JobState::Scheduled { run_at, cause } = s.record(id).await.state else {
            panic!("the job waits");
        };
        assert_eq!((run_at.since(now), cause), (delay, Cause::Retried));
    }
}

/// A retry after no time still goes through the schedule, and to the end of its queue.
pub async fn retry_without_wait_goes_behind(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(2).await;
    server.end(server.claim_one().await.claim, retry(0)).await;
    assert_eq!(s.state(ids[0]).await, StateName::Scheduled);
    s.promote().await;
    let order: Vec<_> = server.claim(2).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, [ids[1], ids[0]]);
}

/// An absurd wait ends at the last legal instant and breaks nothing.
pub async fn retry_absurd_wait_is_cut(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let delay = Duration::MAX;
    server.end(server.claim_one().await.claim, Outcome::Retry { delay, error: error() }).await;
    let JobState::Scheduled { run_at, .. } = s.record(id).await.state else {
        panic!("the job waits");
    };
    assert_eq!(run_at, portfire_core::Timestamp::MAX);
    assert_eq!(s.promote().await.promoted, 0);
    assert!(s.requeue(id).await.is_done());
}
