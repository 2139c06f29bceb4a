//! How long batches are kept: their retention, their members, and those who wait for them.

use portfire_core::batch::BATCH_RETENTION;
use portfire_core::{BatchFilter, BatchState, Retention};

use crate::stage::{DAY, Stage, secs};

/// An ended batch is kept for its retention, and as long as a member of it is stored.
pub async fn batch_expires_with_members(s: Stage) {
    let server = s.server_with_lease("a", 30 * DAY).await;
    let mut batch = s.new_batch();
    batch.retention = 2 * DAY;
    let mut long = s.new_member(batch.id);
    let kept = Retention { succeeded: Some(5 * DAY), ..Retention::default() };
    long.options.retention = Some(kept);
    s.store(vec![batch.clone()], vec![s.new_member(batch.id), long]).await;
    server.work_off().await;
    let record = s.batch_record(batch.id).await;
    let ended_at = record.ended_at.expect("it has ended");
    assert_eq!(record.expires_at, Some(ended_at.saturating_add(2 * DAY)));
    s.advance(3 * DAY).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    assert_eq!(s.batch_state(batch.id).await, BatchState::Succeeded);
    s.advance(3 * DAY).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    s.clean(10).await;
    assert_eq!(s.storage().batch(batch.id).await.expect("read"), None);
    assert!(s.batches(BatchFilter::default()).await.is_empty());
}

/// A batch that says nothing is kept for 7 days after its end; its cleaned members stay counted.
pub async fn batch_is_kept_for_a_week(s: Stage) {
    let server = s.server_with_lease("a", 30 * DAY).await;
    let (batch, _) = s.batch(1).await;
    server.work_off().await;
    s.advance(BATCH_RETENTION - secs(1)).await;
    s.clean(10).await;
    assert_eq!(s.members(batch).await, [1, 0, 1, 0, 0]);
    s.advance(secs(1)).await;
    s.clean(10).await;
    assert_eq!(s.storage().batch(batch).await.expect("read"), None);
}

/// An outer batch is kept as long as a nested one is stored.
pub async fn batch_outlives_its_nested_ones(s: Stage) {
    let mut outer = s.new_batch();
    outer.retention = DAY;
    let mut inner = s.new_batch();
    inner.parent = Some(outer.id);
    inner.retention = 3 * DAY;
    s.store(vec![outer.clone(), inner.clone()], vec![]).await;
    assert_eq!(s.batch_state(outer.id).await, BatchState::Succeeded);
    s.advance(2 * DAY).await;
    s.clean(10).await;
    assert_eq!(s.members(outer.id).await, [1, 0, 1, 0, 0]);
    s.advance(DAY).await;
    s.clean(10).await;
    s.clean(10).await;
    assert!(s.batches(BatchFilter::default()).await.is_empty());
}

/// A batch stays as long as jobs wait for it, though its retention has ended.
pub async fn batch_not_cleaned_while_jobs_wait(s: Stage) {
    let mut batch = s.new_open_batch();
    batch.retention = secs(0);
    let (batch, _) = s.batch_of(batch, 0).await;
    let children = s.continue_many(batch, 1_500).await;
    let _ = s.seal(batch).await;
    s.advance(secs(60)).await;
    s.clean(10).await;
    assert_eq!(s.batch_state(batch).await, BatchState::Succeeded);
    assert_eq!(s.pending(children[1_499]).await, 1);
    s.promote_all().await;
    s.clean(10).await;
    assert_eq!(s.storage().batch(batch).await.expect("read"), None);
}

/// Batches are cleaned in pieces as well; one is told while there is more.
pub async fn batches_are_cleaned_in_pieces(s: Stage) {
    for _ in 0..5 {
        s.batch(0).await;
    }
    s.advance(8 * DAY).await;
    let mut left = Vec::new();
    for _ in 0..3 {
        let cleaned = s.clean(2).await;
        left.push((s.batches(BatchFilter::default()).await.len(), cleaned.more));
        assert_eq!(cleaned.jobs, 0, "batches are no jobs");
    }
    assert_eq!(left, [(3, true), (1, true), (0, false)]);
}
