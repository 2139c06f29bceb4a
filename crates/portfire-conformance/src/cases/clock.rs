//! The clock of the host steps back, and storage time does not. For storages that go by that clock.

use portfire_core::problems::Problem;
use portfire_core::{
    Conflict, JobState, LimitRule, LockAnswer, StateName, Timestamp, UniqueScope, Window,
};

use crate::server::{retry, success};
use crate::stage::{DAY, LEASE, Stage, every, recurring, secs};

/// Storage time never runs backwards, even when the host's clock does.
pub async fn storage_time_never_goes_back(s: Stage) {
    s.advance(secs(100)).await;
    s.enqueue_one().await;
    let high = s.now().await;
    s.set_clock_back(secs(3_600)).await;
    assert!(s.now().await >= high);
    let id = s.enqueue_one().await;
    assert!(s.record(id).await.created_at >= high);
    s.advance(secs(10)).await;
    assert!(s.now().await >= high);
}

/// Behind an instant that is stored, storage time goes on by the time that passes, at most a sixteenth slower.
pub async fn storage_time_never_stands_still(s: Stage) {
    s.advance(secs(3_600)).await;
    s.enqueue_one().await;
    s.set_clock_back(secs(3_600)).await;
    let before = s.now().await;
    for _ in 0..32 {
        s.advance(secs(1)).await;
        s.enqueue_one().await;
    }
    let passed = s.now().await.since(before);
    assert!((secs(30)..=secs(32)).contains(&passed), "{passed:?} of 32 s");
}

/// After a commit of a clock that was ahead, delays, retries, rates, leases and recurring jobs go on at once.
pub async fn clock_jump_ahead_stops_nothing(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let silent = s.server("b").await;
    s.set_limit("l", Some(LimitRule::rate(1, secs(30), Window::Sliding))).await;
    s.advance(secs(3_600)).await;
    s.define(&recurring("r", every(30))).await;
    silent.heartbeat(&[]).await.expect("it is alive");
    let delayed = s.schedule(secs(30)).await;
    let retried = s.enqueue_one().await;
    server.run(retried, retry(30)).await;
    let rated = s.enqueue_under("l", 2).await;
    assert_eq!(server.claim(10).await.len(), 1);
    s.set_clock_back(secs(3_600)).await;
    s.advance(secs(33)).await;
    s.promote().await;
    assert_eq!(s.tick().await.len(), 1);
    for job in [delayed, retried, rated[1]] {
        assert_eq!(s.state(job).await, StateName::Enqueued);
    }
    assert_eq!(s.rescue().await.dead, [silent.id()]);
}

/// How far storage time is ahead of the clock is told, and gets less until the clock has caught up.
pub async fn clock_skew_is_told(s: Stage) {
    s.enqueue_one().await;
    assert_eq!(s.skew().await, secs(0));
    s.advance(secs(160)).await;
    s.enqueue_one().await;
    assert_eq!(s.skew().await, secs(0));
    s.set_clock_back(secs(160)).await;
    assert_eq!(s.skew().await, secs(160));
    let told = s.client().problems().await.expect("read");
    assert!(told.contains(&Problem::ClockAhead { by: secs(160) }), "{told:?}");
    s.advance(secs(1_600)).await;
    assert_eq!(s.skew().await, secs(60));
    s.advance(secs(960)).await;
    assert_eq!(s.skew().await, secs(0));
    let told = s.client().problems().await.expect("read");
    assert!(!told.iter().any(|one| matches!(one, Problem::ClockAhead { .. })), "{told:?}");
}

/// The instants of a history never fall, even when the host's clock does.
pub async fn history_times_monotonic_under_clock_step_back(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    s.advance(secs(60)).await;
    let held = server.claim_one().await;
    s.set_clock_back(secs(3_600)).await;
    server.end(held.claim, success()).await;
    s.set_clock_back(secs(3_600)).await;
    let _ = s.requeue(id).await;
    let history = s.history(id).await;
    assert_eq!(history.len(), 4);
    assert!(history.windows(2).all(|pair| pair[0].at <= pair[1].at), "{history:?}");
}

/// A step back makes no lease longer than it was: a silent server still dies in time.
pub async fn clock_step_back_keeps_leases(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    server.claim_one().await;
    s.advance(LEASE + secs(1)).await;
    s.now().await;
    s.enqueue_one().await;
    s.set_clock_back(secs(3_600)).await;
    let rescued = s.rescue().await;
    assert_eq!((rescued.dead, rescued.returned), (vec![server.id()], 1));
}

/// A step back makes nothing early and loses no instant.
pub async fn clock_step_back_keeps_schedules(s: Stage) {
    let id = s.schedule(secs(60)).await;
    let JobState::Scheduled { run_at, .. } = s.record(id).await.state else {
        panic!("the job waits");
    };
    s.set_clock_back(secs(3_600)).await;
    assert_eq!(s.promote().await.promoted, 0);
    s.advance(secs(3_600 + 61)).await;
    assert!(s.now().await >= run_at);
    assert_eq!(s.promote().await.promoted, 1);
}

/// A step back does not un-expire what had expired.
pub async fn clock_step_back_keeps_expiries(s: Stage) {
    let id = s.job_in(StateName::Succeeded).await.expect("a way leads there");
    s.advance(DAY + secs(1)).await;
    s.enqueue_one().await;
    s.set_clock_back(2 * DAY).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    assert_eq!(s.find(id).await, None);
}

/// A step back changes nothing in the order of jobs.
pub async fn clock_step_back_keeps_order(s: Stage) {
    let server = s.server("a").await;
    let first = s.enqueue_one().await;
    s.set_clock_back(secs(3_600)).await;
    let second = s.enqueue_one().await;
    let order: Vec<_> = server.claim(2).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, [first, second]);
}

/// A step back fires no occurrence a second time, and the next one not before its instant in storage time.
pub async fn clock_step_back_fires_nothing_twice(s: Stage) {
    s.define(&recurring("r", every(60))).await;
    s.advance(secs(60)).await;
    assert_eq!(s.tick().await.len(), 1);
    s.set_clock_back(secs(3_600)).await;
    assert_eq!((s.tick().await.len(), s.due().await.due.len()), (0, 0));
    s.advance(secs(59)).await;
    assert_eq!(s.tick().await.len(), 0);
    // It goes on up to a sixteenth slower than time does.
    s.advance(secs(5)).await;
    assert_eq!(s.tick().await.len(), 1);
    s.expect_count(StateName::Enqueued, 2).await;
}

/// A step back makes no lock, no unique key and no rate last longer or shorter than it was to.
pub async fn clock_step_back_keeps_terms(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.set_limit("l", Some(LimitRule::rate(1, secs(60), Window::Fixed))).await;
    let now = s.now().await.as_micros();
    s.advance_to(Timestamp::from_micros(now - now % 60_000_000 + 60_000_000)).await;
    s.hold("l", "a", secs(60)).await;
    let window = UniqueScope::Within(secs(60));
    let holder = s.create_one(s.new_unique("k", window, Conflict::Reject)).await;
    let rated = s.enqueue_under("l", 2).await;
    assert_eq!(server.claim(10).await.len(), 2);
    s.advance(secs(59)).await;
    s.now().await;
    s.set_clock_back(secs(3_600)).await;
    assert!(matches!(s.acquire("l", "b", secs(1)).await, LockAnswer::Taken { .. }));
    assert_eq!(s.create_unique("k").await.id, holder);
    assert_eq!(s.promote().await.released, 0);
    s.advance(secs(3_601)).await;
    assert!(matches!(s.acquire("l", "b", secs(1)).await, LockAnswer::Held { .. }));
    assert_eq!(s.promote().await.released, 1);
    server.claim_job(rated[1]).await;
    assert!(!s.create_unique("k").await.existing);
}
