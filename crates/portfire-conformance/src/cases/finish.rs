//! Finishing: what each outcome makes of a job, and the fence around it.

use portfire_core::{Cause, Claim, ErrorRecord, JobState, Outcome, StateName, Verdict};

use crate::server::{error, failure, finish, retry, success};
use crate::stage::{DAY, Stage, json, secs};

/// Every outcome that a handler, a filter or a server can report.
fn outcomes() -> Vec<(Outcome, StateName)> {
    vec![
        (success(), StateName::Succeeded),
        (Outcome::Succeeded { result: Some(json("{\"sum\":3}")) }, StateName::Succeeded),
        (retry(10), StateName::Scheduled),
        (failure(), StateName::Failed),
        (Outcome::Snoozed { delay: secs(10) }, StateName::Scheduled),
        (Outcome::Parked { delay: secs(10) }, StateName::Scheduled),
        (Outcome::Released, StateName::Enqueued),
        (Outcome::Discarded { reason: "no".into(), error: None }, StateName::Deleted),
        (Outcome::Discarded { reason: "no".into(), error: Some(error()) }, StateName::Deleted),
    ]
}

/// Each outcome leads to its state.
pub async fn finish_ok(s: Stage) {
    let server = s.server("a").await;
    for (outcome, state) in outcomes() {
        let id = s.enqueue_in("each").await;
        let held = server.claim_from(&["each"], 1).await;
        assert_eq!(held[0].claim.job, id);
        assert_eq!(server.finish(held[0].claim, outcome.clone()).await, Verdict::Applied);
        assert_eq!(s.state(id).await, state, "{outcome:?}");
        // Out of the way of the next outcome.
        let _ = s.delete(id).await;
    }
}

/// Each outcome that is reported again by the same attempt is known already and changes nothing.
pub async fn finish_twice_same_attempt_idempotent(s: Stage) {
    let server = s.server("a").await;
    for (outcome, _) in outcomes() {
        let id = s.enqueue_in("each").await;
        let held = server.claim_from(&["each"], 1).await;
        server.end(held[0].claim, outcome.clone()).await;
        let before = (s.record(id).await, s.history(id).await, s.counts().await);
        s.advance(secs(1)).await;
        let again = server.finish(held[0].claim, outcome.clone()).await;
        assert_eq!(again, Verdict::Already, "{outcome:?}");
        assert_eq!((s.record(id).await, s.history(id).await, s.counts().await), before);
        let _ = s.delete(id).await;
    }
}

/// The same finish twice in one cycle is applied once.
pub async fn finish_twice_in_one_call(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let twice = vec![finish(held.claim, retry(5)), finish(held.claim, retry(5))];
    assert_eq!(server.finish_all(twice).await, [Verdict::Applied, Verdict::Already]);
    assert_eq!(s.record(id).await.failures, 1);
}

/// A second, different end of the same attempt overwrites nothing.
pub async fn finish_other_outcome_overwrites_nothing(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    server.end(held.claim, success()).await;
    let before = (s.record(id).await, s.counts().await);
    let verdict = server.finish(held.claim, failure()).await;
    assert_ne!(verdict, Verdict::Applied);
    assert_eq!((s.record(id).await, s.counts().await), before);
}

/// A finish under an attempt that is over is fenced.
pub async fn finish_wrong_attempt_fenced(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let first = server.claim_one().await;
    server.end(first.claim, Outcome::Released).await;
    server.claim_one().await;
    assert_eq!(server.finish(first.claim, success()).await, Verdict::Fenced);
    assert_eq!(s.state(id).await, StateName::Processing);
}

/// A finish under an attempt that has not begun is fenced.
pub async fn finish_future_attempt_fenced(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    for attempt in [0, 2, u32::MAX] {
        let claim = Claim { attempt, ..held.claim };
        assert_eq!(server.finish(claim, success()).await, Verdict::Fenced, "attempt {attempt}");
    }
    assert_eq!(s.state(id).await, StateName::Processing);
}

/// A finish of a job that was never claimed is fenced.
pub async fn finish_of_unclaimed_job_fenced(s: Stage) {
    let server = s.server("a").await;
    for state in [StateName::Enqueued, StateName::Scheduled] {
        let id = s.job_in(state).await.expect("a way leads there");
        for attempt in [0, 1] {
            let verdict = server.finish(Claim::new(id, attempt), success()).await;
            assert_eq!(verdict, Verdict::Fenced, "{state}, attempt {attempt}");
        }
        assert_eq!(s.state(id).await, state);
    }
}

/// A finish by a server that does not hold the job is fenced, even with the right attempt.
pub async fn finish_by_other_server_fenced(s: Stage) {
    let (owner, thief) = (s.server("a").await, s.server("b").await);
    let id = s.enqueue_one().await;
    let held = owner.claim_one().await;
    assert_eq!(thief.finish(held.claim, success()).await, Verdict::Fenced);
    assert_eq!(s.state(id).await, StateName::Processing);
    owner.end(held.claim, success()).await;
    assert_eq!(thief.finish(held.claim, failure()).await, Verdict::Fenced);
    assert_eq!(s.state(id).await, StateName::Succeeded);
}

/// After another server has taken the job, the former holder's finish is fenced.
pub async fn finish_after_reclaim_fenced(s: Stage) {
    let (a, b) = (s.server("a").await, s.server("b").await);
    let id = s.enqueue_one().await;
    let old = a.claim_one().await;
    a.end(old.claim, Outcome::Released).await;
    let new = b.claim_one().await;
    assert_eq!(a.finish(old.claim, success()).await, Verdict::Fenced);
    assert_eq!(a.finish(old.claim, Outcome::Released).await, Verdict::Fenced);
    b.end(new.claim, failure()).await;
    assert_eq!(a.finish(old.claim, success()).await, Verdict::Fenced);
    assert_eq!(s.state(id).await, StateName::Failed);
}

/// A finish after the job was taken out is fenced.
pub async fn finish_after_delete_fenced(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let _ = s.delete(id).await;
    for (outcome, _) in outcomes() {
        let verdict = server.finish(held.claim, outcome.clone()).await;
        assert_eq!(verdict, Verdict::Fenced, "{outcome:?}");
    }
    assert_eq!(s.causes(id).await, [Cause::Created, Cause::Claimed, Cause::Deleted]);
}

/// A finish after the job was given back does not count, and is fenced once another has taken it.
pub async fn finish_after_release_fenced(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    server.end(held.claim, Outcome::Released).await;
    for outcome in [success(), failure(), retry(5)] {
        // Finishes are told apart by job and attempt: this attempt has reported its end already.
        assert_ne!(server.finish(held.claim, outcome).await, Verdict::Applied);
        assert_eq!(s.state(id).await, StateName::Enqueued);
    }
    server.claim_one().await;
    assert_eq!(server.finish(held.claim, success()).await, Verdict::Fenced);
    assert_eq!(s.state(id).await, StateName::Processing);
}

/// A finish whose job has been asked for again since is fenced: the job stands elsewhere.
pub async fn finish_repeat_after_requeue_fenced(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    server.end(held.claim, success()).await;
    let _ = s.requeue(id).await;
    assert_eq!(server.finish(held.claim, success()).await, Verdict::Fenced);
    assert_eq!(s.state(id).await, StateName::Enqueued);
}

/// A retry that was promoted since is no longer where it was put: its repeat is fenced.
pub async fn finish_repeat_after_promotion_fenced(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    server.end(held.claim, retry(5)).await;
    s.advance(secs(5)).await;
    s.promote().await;
    assert_eq!(server.finish(held.claim, retry(5)).await, Verdict::Fenced);
    assert_eq!((s.state(id).await, s.record(id).await.failures), (StateName::Enqueued, 1));
}

/// A retry that someone has moved since is no longer where it was put: its repeat is fenced.
pub async fn finish_repeat_after_reschedule_fenced(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    server.end(held.claim, retry(5)).await;
    let _ = s.reschedule(id, secs(60)).await;
    assert_eq!(server.finish(held.claim, retry(5)).await, Verdict::Fenced);
    assert_eq!(s.record(id).await.failures, 1);
}

/// A finish of a job that is not stored says so.
pub async fn finish_unknown_job_missing(s: Stage) {
    let server = s.server("a").await;
    let unknown = Claim::new(s.id(), 1);
    assert_eq!(server.finish(unknown, success()).await, Verdict::Missing);
    assert_eq!(s.counts().await.created_total, 0);
}

/// A finish of a job that was cleaned away says so.
pub async fn finish_of_cleaned_job_missing(s: Stage) {
    let server = s.server_with_lease("a", 10 * DAY).await;
    s.enqueue_one().await;
    let held = server.claim_one().await;
    server.end(held.claim, success()).await;
    s.advance(DAY + secs(1)).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    assert_eq!(server.finish(held.claim, success()).await, Verdict::Missing);
}

/// A fenced finish leaves no line in the history and does not touch the job.
pub async fn fenced_finish_leaves_no_history(s: Stage) {
    let (a, b) = (s.server("a").await, s.server("b").await);
    let id = s.enqueue_one().await;
    let old = a.claim_one().await;
    a.end(old.claim, Outcome::Released).await;
    b.claim_one().await;
    let before = (s.record(id).await, s.history(id).await);
    for (outcome, _) in outcomes() {
        s.advance(secs(1)).await;
        assert_eq!(a.finish(old.claim, outcome).await, Verdict::Fenced);
        assert_eq!((s.record(id).await, s.history(id).await), before);
    }
}

/// A fenced finish moves no counter and no statistics.
pub async fn fenced_finish_changes_no_counter(s: Stage) {
    let (a, b) = (s.server("a").await, s.server("b").await);
    s.enqueue_one().await;
    let old = a.claim_one().await;
    a.end(old.claim, Outcome::Released).await;
    b.claim_one().await;
    let since = s.now().await;
    let bucket = portfire_core::Bucket::Hour;
    let before = (s.counts().await, s.storage().statistics(bucket, since).await.expect("read"));
    for (outcome, _) in outcomes() {
        assert_eq!(a.finish(old.claim, outcome).await, Verdict::Fenced);
    }
    let after = (s.counts().await, s.storage().statistics(bucket, since).await.expect("read"));
    assert_eq!(after, before);
}

/// A finish that comes too late releases no continuation and moves no batch.
pub async fn fenced_finish_fires_no_continuation(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let (batch, members) = s.batch(1).await;
    let children = [s.continue_with(members[0]).await, s.continue_with(batch).await];
    let stale = server.claim_job(members[0]).await;
    server.end(stale.claim, Outcome::Released).await;
    let held = server.claim_job(members[0]).await;
    assert_eq!(server.finish(stale.claim, success()).await, Verdict::Fenced);
    assert_eq!(s.members(batch).await, [1, 1, 0, 0, 0]);
    for child in children {
        assert_eq!((s.state(child).await, s.record(child).await.revision), {
            (StateName::Awaiting, 1)
        });
    }
    server.end(held.claim, success()).await;
    assert_eq!(s.members(batch).await, [1, 0, 1, 0, 0]);
}

/// The holder goes on undisturbed when another one's finish is fenced.
pub async fn fenced_finish_keeps_the_holder(s: Stage) {
    let (a, b) = (s.server("a").await, s.server("b").await);
    s.enqueue_one().await;
    let held = a.claim_one().await;
    assert_eq!(b.finish(held.claim, success()).await, Verdict::Fenced);
    assert!(a.verify(&[held.claim]).await.expect("answered").is_empty());
    a.end(held.claim, success()).await;
}

/// The locator only hints where a job lies: without it, or with another job's, the right job ends.
pub async fn finish_locator_is_no_right(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(4).await;
    let held = server.claim(4).await;
    let locators = [0, held[0].claim.locator, i64::MAX, -1];
    for (job, locator) in held.iter().zip(locators) {
        let claim = Claim { locator, ..job.claim };
        let result = Some(json(&format!("\"{}\"", claim.job)));
        server.end(claim, Outcome::Succeeded { result }).await;
    }
    for job in held {
        let JobState::Succeeded { result, .. } = s.record(job.claim.job).await.state else {
            panic!("{} has ended", job.claim.job);
        };
        assert_eq!(result, Some(json(&format!("\"{}\"", job.claim.job))));
    }
}

/// The result of a handler and the time it took are kept; no result is kept as none.
pub async fn finish_keeps_result_and_duration(s: Stage) {
    let server = s.server("a").await;
    for result in [None, Some(json("null")), Some(json("{ \"é\": [1,  2] }"))] {
        let id = s.enqueue_one().await;
        let held = server.claim_one().await;
        s.advance(secs(3)).await;
        let before = s.now().await;
        server.end(held.claim, Outcome::Succeeded { result: result.clone() }).await;
        let JobState::Succeeded { succeeded_at, result: kept, duration, expires_at } =
            s.record(id).await.state
        else {
            panic!("the job has ended");
        };
        assert_eq!((kept, duration.as_millis()), (result, 5));
        assert!(succeeded_at >= before);
        assert_eq!(expires_at, Some(succeeded_at.saturating_add(DAY)));
    }
}

/// The error of the last failure is kept with the job.
pub async fn finish_keeps_the_error(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let error = ErrorRecord::new("app::Odd", "'; -- \u{0}\n\t\"é👩‍👧");
    server.end(held.claim, Outcome::Failed { error: error.clone() }).await;
    let record = s.record(id).await;
    assert_eq!((record.failures, record.recoveries), (1, 0));
    let JobState::Failed { error: kept, expires_at, .. } = record.state else {
        panic!("the job is failed");
    };
    assert_eq!((kept, expires_at), (error, None));
}

/// The longest error and a result of a mebibyte come out whole.
pub async fn finish_keeps_what_is_long(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(2).await;
    let held = server.claim(2).await;
    let error = ErrorRecord::new("E", "é".repeat(portfire_core::state::ERROR_BYTES_MAX));
    server.end(held[0].claim, Outcome::Failed { error: error.clone() }).await;
    let result = Some(json(&format!("\"{}\"", "x".repeat(1024 * 1024))));
    server.end(held[1].claim, Outcome::Succeeded { result: result.clone() }).await;
    let failed = s.record(ids[0]).await.state;
    assert!(matches!(failed, JobState::Failed { error: kept, .. } if kept == error));
    let succeeded = s.record(ids[1]).await.state;
    assert!(matches!(succeeded, JobState::Succeeded { result: kept, .. } if kept == result));
    assert_eq!(s.history(ids[0]).await[2].error, Some(error));
}

/// A discarded job keeps why, and the error that led to it counts as a failure.
pub async fn finish_discarded_keeps_reason(s: Stage) {
    let server = s.server("a").await;
    for cause in [None, Some(error())] {
        let id = s.enqueue_one().await;
        let held = server.claim_one().await;
        let reason = "the user has gone".to_owned();
        let outcome = Outcome::Discarded { reason: reason.clone(), error: cause.clone() };
        server.end(held.claim, outcome).await;
        let record = s.record(id).await;
        assert_eq!(record.failures, u32::from(cause.is_some()));
        let JobState::Deleted { reason: kept, error, .. } = record.state else {
            panic!("the job is deleted");
        };
        assert_eq!((kept, error), (reason, cause));
    }
}

/// A job that asks to run later waits exactly so long, and no failure is counted.
pub async fn snooze_keeps_failures(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let now = s.now().await;
    server.end(held.claim, Outcome::Snoozed { delay: secs(20) }).await;
    let record = s.record(id).await;
    assert_eq!((record.failures, record.recoveries), (0, 0));
    let JobState::Scheduled { run_at, cause } = record.state else { panic!("it waits") };
    assert_eq!((run_at.since(now), cause), (secs(20), Cause::Snoozed));
    assert_eq!(s.counts().await.retried_total, 0);
}

/// A job without a handler waits exactly so long, and no failure is counted.
pub async fn park_keeps_failures(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let now = s.now().await;
    server.end(held.claim, Outcome::Parked { delay: secs(30) }).await;
    let record = s.record(id).await;
    assert_eq!((record.failures, record.recoveries), (0, 0));
    let JobState::Scheduled { run_at, cause } = record.state else { panic!("it waits") };
    assert_eq!((run_at.since(now), cause), (secs(30), Cause::Parked));
    assert_eq!(s.counts().await.retried_total, 0);
}

/// A released job can be claimed again at once.
pub async fn release_requeues_now(s: Stage) {
    let (a, b) = (s.server("a").await, s.server("b").await);
    let id = s.enqueue_one().await;
    let held = a.claim_one().await;
    a.end(held.claim, Outcome::Released).await;
    assert_eq!(s.state(id).await, StateName::Enqueued);
    assert_eq!(b.claim_one().await.claim.job, id);
}

/// A release under an attempt that is over is fenced.
pub async fn release_wrong_attempt_fenced(s: Stage) {
    let (a, b) = (s.server("a").await, s.server("b").await);
    let id = s.enqueue_one().await;
    let old = a.claim_one().await;
    a.end(old.claim, Outcome::Released).await;
    let new = b.claim_one().await;
    assert_eq!(a.finish(old.claim, Outcome::Released).await, Verdict::Fenced);
    assert_eq!(b.finish(old.claim, Outcome::Released).await, Verdict::Fenced);
    assert_eq!(s.state(id).await, StateName::Processing);
    b.end(new.claim, success()).await;
}

/// Of many that finish one attempt at once exactly one is applied.
pub async fn finish_concurrent_one_applied(s: Stage) {
    let server = std::sync::Arc::new(s.server("a").await);
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let racers: Vec<_> = (0..16)
        .map(|_| {
            let (server, claim) = (server.clone(), held.claim);
            tokio::spawn(async move { server.finish(claim, retry(60)).await })
        })
        .collect();
    let mut applied = 0;
    for racer in racers {
        match racer.await.expect("the racer ends") {
            Verdict::Applied => applied += 1,
            verdict => assert_eq!(verdict, Verdict::Already),
        }
    }
    assert_eq!((applied, s.record(id).await.failures), (1, 1));
}
