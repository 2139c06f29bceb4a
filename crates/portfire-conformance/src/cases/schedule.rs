//! Delayed jobs: never early, promoted once, in the order of their instants.

use std::sync::Arc;

use portfire_core::{
    Call, Client, InvalidJob, JobFn, JobState, ManualClock, StateName, StorageError, Timestamp,
    When,
};

use crate::stage::{DAY, Stage, secs};

/// A delayed job is not promoted before its instant, to the last microsecond.
pub async fn schedule_not_early(s: Stage) {
    let id = s.schedule(secs(60)).await;
    s.advance(secs(60) - std::time::Duration::from_micros(1)).await;
    assert_eq!(s.promote().await.promoted, 0);
    assert_eq!(s.state(id).await, StateName::Scheduled);
    s.advance(std::time::Duration::from_micros(1)).await;
    assert_eq!(s.promote().await.promoted, 1);
    assert_eq!(s.state(id).await, StateName::Enqueued);
}

/// A delayed job goes to its queue when its instant has come, and says since when it waits there.
pub async fn schedule_promoted_when_due(s: Stage) {
    let server = s.server("a").await;
    let mut job = s.new_job_in("mail");
    job.when = When::In(secs(5));
    let id = s.create_one(job).await;
    s.advance(secs(6)).await;
    s.promote().await;
    let now = s.now().await;
    assert_eq!(s.record(id).await.state, JobState::Enqueued { enqueued_at: now });
    assert_eq!(server.claim_from(&["mail"], 1).await[0].claim.job, id);
}

/// An instant that is past means now.
pub async fn schedule_in_past_is_now(s: Stage) {
    let now = s.now().await;
    for when in [Timestamp::MIN, now.saturating_sub(secs(1)), now] {
        let id = s.schedule(when).await;
        assert_eq!(s.state(id).await, StateName::Enqueued, "{when}");
    }
}

/// No delay means now.
pub async fn schedule_zero_delay_is_now(s: Stage) {
    let id = s.schedule(secs(0)).await;
    assert_eq!(s.state(id).await, StateName::Enqueued);
    let id = s.schedule(std::time::Duration::from_micros(1)).await;
    assert_eq!(s.state(id).await, StateName::Scheduled);
}

/// The instant to wait for is the storage's present and the delay, to the microsecond.
pub async fn schedule_instant_is_kept(s: Stage) {
    let now = s.now().await;
    let delay = std::time::Duration::from_micros(123_456_789);
    for when in [When::In(delay), When::At(now.saturating_add(delay))] {
        let id = s.schedule(when).await;
        let JobState::Scheduled { run_at, cause } = s.record(id).await.state else {
            panic!("the job waits");
        };
        assert_eq!((run_at.since(now), cause), (delay, portfire_core::Cause::Created));
    }
}

/// A thousand jobs that are due at once are promoted in one call.
pub async fn schedule_promote_batch_1000(s: Stage) {
    let mut jobs = s.new_jobs(1_000);
    for job in &mut jobs {
        job.when = When::In(secs(10));
    }
    s.create(jobs).await;
    s.advance(secs(10)).await;
    assert_eq!(s.promote().await.promoted, 1_000);
    s.expect_count(StateName::Enqueued, 1_000).await;
    s.expect_count(StateName::Scheduled, 0).await;
}

/// Promoters at once promote each job once.
pub async fn schedule_two_promoters_once(s: Stage) {
    let mut jobs = s.new_jobs(200);
    for job in &mut jobs {
        job.when = When::In(secs(1));
    }
    s.create(jobs).await;
    s.advance(secs(1)).await;
    let promoters: Vec<_> = (0..4)
        .map(|_| {
            let s = s.clone();
            tokio::spawn(async move {
                let mut promoted = 0;
                for _ in 0..10 {
                    promoted += s.storage().promote(30).await.expect("promoted").promoted;
                }
                promoted
            })
        })
        .collect();
    let mut promoted = 0;
    for promoter in promoters {
        promoted += promoter.await.expect("the promoter ends");
    }
    assert_eq!(promoted, 200);
    s.expect_count(StateName::Enqueued, 200).await;
}

/// A delayed job that is deleted before its instant never runs.
pub async fn schedule_delete_before_due(s: Stage) {
    let server = s.server("a").await;
    let id = s.schedule(secs(5)).await;
    let _ = s.delete(id).await;
    s.advance(secs(6)).await;
    s.promote().await;
    assert!(server.claim(1).await.is_empty());
    assert_eq!(s.state(id).await, StateName::Deleted);
}

/// A delayed job that is moved waits for the new instant and no longer for the old one.
pub async fn schedule_reschedule(s: Stage) {
    let id = s.schedule(secs(10)).await;
    let _ = s.reschedule(id, secs(100)).await;
    s.advance(secs(50)).await;
    assert_eq!(s.promote().await.promoted, 0);
    let _ = s.reschedule(id, secs(5)).await;
    s.advance(secs(5)).await;
    assert_eq!(s.promote().await.promoted, 1);
    s.advance(secs(1_000)).await;
    assert_eq!(s.promote().await.promoted, 0);
}

/// The year 2999 is legal, and its jobs are in no one's way.
pub async fn schedule_far_future_2999(s: Stage) {
    let far: Timestamp = "2999-12-31T23:59:59.999999Z".parse().expect("an instant");
    let id = s.schedule(far).await;
    let JobState::Scheduled { run_at, .. } = s.record(id).await.state else {
        panic!("the job waits");
    };
    assert_eq!(run_at, far);
    s.schedule(secs(1)).await;
    s.advance(secs(1)).await;
    let promoted = s.promote().await;
    assert_eq!(promoted.promoted, 1);
    assert_eq!(promoted.next_in, Some(far.since(s.now().await)));
    let last = s.schedule(Timestamp::MAX).await;
    assert_eq!(s.state(last).await, StateName::Scheduled);
}

/// A delay that ends after the year 9999 is refused, and nothing of its call is stored.
pub async fn schedule_beyond_9999_rejected(s: Stage) {
    let mut jobs = s.new_jobs(2);
    jobs[1].when = When::In(std::time::Duration::MAX);
    let refused = s.storage().create(jobs).await;
    let named = matches!(refused, Err(StorageError::Invalid(InvalidJob::Delay { .. })));
    assert!(named, "{refused:?}");
    assert_eq!(s.counts().await.created_total, 0);
}

/// A client whose clock is ahead makes nothing early: delays count in storage time.
pub async fn schedule_server_clock_ahead_not_early(s: Stage) {
    enum Probe {}
    impl JobFn for Probe {
        const KIND: &'static str = "probe";
        type Output = ();
    }
    let now = s.now().await;
    let ahead = Arc::new(ManualClock::at(now.saturating_add(DAY)));
    let client = Client::builder(s.storage()).clock(ahead).build();
    let call = Call::<Probe>::new(&serde_json::json!({}));
    let id = client.schedule(call, secs(60)).await.expect("scheduled");
    let JobState::Scheduled { run_at, .. } = s.record(id).await.state else {
        panic!("the job waits");
    };
    assert_eq!(run_at.since(now), secs(60));
    assert_eq!(s.promote().await.promoted, 0);
}

/// Jobs are promoted in the order of their instants, whenever they were stored.
pub async fn promote_earliest_first(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let mut expected = Vec::new();
    for seconds in [50, 10, 40, 20, 30] {
        expected.push((seconds, s.schedule(secs(seconds)).await));
    }
    expected.sort();
    s.advance(secs(60)).await;
    s.promote().await;
    let order: Vec<_> = server.claim(10).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

/// A promotion moves at most as many as asked, the earliest, and says that more are due.
pub async fn promote_max_is_kept(s: Stage) {
    let mut ids = Vec::new();
    for seconds in 1..=5 {
        ids.push(s.schedule(secs(seconds)).await);
    }
    s.advance(secs(10)).await;
    let first = s.storage().promote(3).await.expect("promoted");
    assert_eq!((first.promoted, first.next_in), (3, Some(secs(0))));
    assert_eq!(s.state(ids[2]).await, StateName::Enqueued);
    assert_eq!(s.state(ids[3]).await, StateName::Scheduled);
    let second = s.storage().promote(3).await.expect("promoted");
    assert_eq!((second.promoted, second.next_in), (2, None));
}

/// A promotion tells how long it is until the next job is due.
pub async fn promote_tells_the_next(s: Stage) {
    assert_eq!(s.promote().await.next_in, None, "none is scheduled");
    s.schedule(secs(90)).await;
    s.schedule(secs(30)).await;
    assert_eq!(s.promote().await.next_in, Some(secs(30)));
    s.advance(secs(10)).await;
    assert_eq!(s.promote().await.next_in, Some(secs(20)));
    s.advance(secs(20)).await;
    let promoted = s.promote().await;
    assert_eq!((promoted.promoted, promoted.next_in), (1, Some(secs(60))));
}

/// A promoted job goes to the end of its queue, behind jobs that came while it waited.
pub async fn promote_goes_to_the_end(s: Stage) {
    let server = s.server("a").await;
    let delayed = s.schedule(secs(5)).await;
    let waiting = s.enqueue_one().await;
    s.advance(secs(5)).await;
    s.promote().await;
    let order: Vec<_> = server.claim(2).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, [waiting, delayed]);
}

/// A promoted job keeps its rank.
pub async fn promote_keeps_priority(s: Stage) {
    let server = s.server("a").await;
    let mut job = s.new_job();
    job.when = When::In(secs(5));
    job.priority = 3;
    let delayed = s.create_one(job).await;
    s.enqueue_one().await;
    s.advance(secs(5)).await;
    s.promote().await;
    assert_eq!(server.claim_one().await.claim.job, delayed);
}

/// A promotion that is repeated changes nothing.
pub async fn promote_repeat_changes_nothing(s: Stage) {
    let id = s.schedule(secs(5)).await;
    s.advance(secs(5)).await;
    s.promote().await;
    let before = (s.record(id).await, s.counts().await);
    assert_eq!(s.promote().await.promoted, 0);
    assert_eq!((s.record(id).await, s.counts().await), before);
}

/// A promotion of none promotes none.
pub async fn promote_zero_promotes_nothing(s: Stage) {
    let id = s.schedule(secs(1)).await;
    s.advance(secs(1)).await;
    let promoted = s.storage().promote(0).await.expect("answered");
    assert_eq!((promoted.promoted, promoted.next_in), (0, Some(secs(0))));
    assert_eq!(s.state(id).await, StateName::Scheduled);
}

/// Promoted jobs are announced to those that idle.
pub async fn promote_wakes_idle_worker(s: Stage) {
    s.schedule(secs(5)).await;
    s.advance(secs(5)).await;
    let mut wakeups = s.storage().wakeups();
    s.promote().await;
    s.heard(wakeups.work(), "the promoted job").await;
}

/// A job that is due sooner than was known is announced to the promoter.
pub async fn schedule_wakes_the_promoter(s: Stage) {
    s.schedule(secs(600)).await;
    let mut wakeups = s.storage().wakeups();
    s.schedule(secs(5)).await;
    s.heard(wakeups.work(), "the job that is due sooner").await;
}
