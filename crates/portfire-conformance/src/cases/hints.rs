//! Wake-ups across handles. For storages that can hear other processes.

use crate::server::success;
use crate::stage::{Stage, every, recurring, secs};

/// A listener hears of a job that another process has created.
pub async fn hint_of_a_job_from_elsewhere(s: Stage) {
    let other = s.second().await;
    let mut wakeups = other.storage().wakeups();
    for _ in 0..3 {
        s.enqueue_one().await;
        s.heard(wakeups.work(), "a job of another process").await;
    }
}

/// A listener hears that another process has taken out what runs here.
pub async fn hint_of_a_cancellation_from_elsewhere(s: Stage) {
    let other = s.second().await;
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let mut wakeups = s.storage().wakeups();
    let _ = other.delete(id).await;
    s.heard(wakeups.next(), "the cancellation by another process").await;
    assert_eq!(server.verify(&[held.claim]).await.expect("alive").len(), 1);
}

/// A listener hears that another process has given a job back.
pub async fn hint_of_a_release_from_elsewhere(s: Stage) {
    let other = s.second().await;
    let server = s.server("a").await;
    s.enqueue(2).await;
    let held = server.claim(2).await;
    let mut wakeups = other.storage().wakeups();
    server.end(held[0].claim, success()).await;
    server.end(held[1].claim, portfire_core::Outcome::Released).await;
    s.heard(wakeups.next(), "the job given back by another process").await;
}

/// A listener hears that another process has given back a lock.
pub async fn hint_of_a_lock_from_elsewhere(s: Stage) {
    let other = s.second().await;
    let fence = other.hold("l", "a", secs(60)).await;
    let mut wakeups = s.storage().wakeups();
    other.release("l", fence).await;
    s.heard(wakeups.next(), "the lock given back by another process").await;
    s.hold("l", "b", secs(60)).await;
}

/// A listener hears of a recurring job that another process has defined.
pub async fn hint_of_a_recurring_job_from_elsewhere(s: Stage) {
    let other = s.second().await;
    let mut wakeups = s.storage().wakeups();
    other.define(&recurring("r", every(60))).await;
    s.heard(wakeups.work(), "the recurring job of another process").await;
}

/// A listener hears of what another process has released.
pub async fn hint_of_a_continuation_from_elsewhere(s: Stage) {
    let other = s.second().await;
    let server = other.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_with(parent).await;
    let held = server.claim_job(parent).await;
    let mut wakeups = s.storage().wakeups();
    server.end(held.claim, success()).await;
    s.heard(wakeups.work(), "the job that another process has released").await;
    server.run(child, success()).await;
}
