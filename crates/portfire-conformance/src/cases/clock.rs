//! The clock of the host steps back, and storage time does not. For storages that go by that clock.

use portfire_core::{JobState, StateName};

use crate::server::success;
use crate::stage::{DAY, LEASE, Stage, secs};

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

/// The instants of a history never fall, even when the host's clock does.
pub async fn history_times_monotonic_under_clock_step_back(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    s.advance(secs(60)).await;
    let held = server.claim_one().await;
    s.set_clock_back(secs(3_600)).await;
    server.end(held.claim, success()).await;
    s.set_clock_back(secs(3_600)).await;
    s.requeue(id).await;
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
