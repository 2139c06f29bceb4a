//! Batches that are built in several calls, and batches that are cancelled.

use portfire_core::batch::BATCH_OPEN_MAX;
use portfire_core::{
    After, BatchChange, BatchChanged, BatchState, Changed, Dependency, InvalidJob, JobFilter,
    StateName, Verdict,
};

use crate::server::{discard, success};
use crate::stage::{Stage, ids, secs};

use BatchChanged::{Applied, Missing, Unchanged};
use BatchState::{Cancelled, Cancelling, Open, Started};
use StateName::{Awaiting, Deleted, Enqueued, Processing, Succeeded};

/// The reason that the members of a cancelled batch are deleted with.
const ENOUGH: &str = "its batch was cancelled: enough";

/// No member of an open batch runs before the seal; with it all of them may.
pub async fn batch_open_starts_with_its_seal(s: Stage) {
    let server = s.server("a").await;
    let (batch, mut members) = s.batch_of(s.new_open_batch(), 2).await;
    let callback = s.continue_with(batch).await;
    for _ in 0..3 {
        members.push(s.add_member(batch).await);
        assert!(server.claim(10).await.is_empty());
    }
    assert_eq!((s.batch_state(batch).await, s.pending(members[4]).await), (Open, 1));
    assert_eq!(s.members(batch).await, [5, 5, 0, 0, 0]);
    assert_eq!(s.seal(batch).await, Applied(Started));
    assert_eq!(s.batch_state(batch).await, Started);
    members.push(callback);
    assert_eq!(server.work_off().await, members);
}

/// An open batch does not end, though all of its members have; a seal without members ends it.
pub async fn batch_open_does_not_end(s: Stage) {
    let (batch, members) = s.batch_of(s.new_open_batch(), 1).await;
    let callback = s.continue_on(batch, After::End).await;
    let _ = s.delete(members[0]).await;
    assert_eq!(s.members(batch).await, [1, 0, 0, 0, 1]);
    assert_eq!((s.batch_state(batch).await, s.state(callback).await), (Open, Awaiting));
    assert_eq!(s.seal(batch).await, Applied(BatchState::Failed));
    assert_eq!(s.state(callback).await, Enqueued);
    let empty = s.batch_of(s.new_open_batch(), 0).await.0;
    assert_eq!(s.seal(empty).await, Applied(BatchState::Succeeded));
}

/// A sealed batch that is to run after something awaits that; one whose seal comes later starts then.
pub async fn batch_open_after_a_job(s: Stage) {
    let server = s.server("a").await;
    let gate = s.enqueue_one().await;
    let mut batch = s.new_open_batch();
    batch.after = vec![Dependency::on(gate)];
    let mut later = s.new_open_batch();
    later.after = batch.after.clone();
    let (batch, members) = s.batch_of(batch, 1).await;
    let (later, others) = s.batch_of(later, 1).await;
    assert_eq!(s.seal(batch).await, Applied(BatchState::Awaiting));
    server.run(gate, success()).await;
    assert_eq!((s.batch_state(batch).await, s.state(members[0]).await), (Started, Enqueued));
    assert_eq!((s.batch_state(later).await, s.state(others[0]).await), (Open, Awaiting));
    assert_eq!(s.seal(later).await, Applied(Started));
    assert_eq!(s.state(others[0]).await, Enqueued);
}

/// A seal that finds nothing open changes nothing, and says where the batch stands.
pub async fn batch_seal_twice_changes_nothing(s: Stage) {
    let (batch, _) = s.batch(1).await;
    assert_eq!(s.seal(batch).await, Unchanged(Started));
    let ended = s.batch(0).await.0;
    assert_eq!(s.seal(ended).await, Unchanged(BatchState::Succeeded));
    assert_eq!(s.seal(s.new_batch().id).await, Missing);
    assert_eq!(s.cancel(s.new_batch().id).await, Missing);
}

/// A batch in an open one starts with that: its members wait for both.
pub async fn batch_nested_starts_with_the_outer_one(s: Stage) {
    let server = s.server("a").await;
    let outer = s.new_open_batch();
    let mut inner = s.new_batch();
    inner.parent = Some(outer.id);
    let mut jobs = s.new_members(inner.id, 1);
    jobs.extend(s.new_members(outer.id, 1));
    let made = ids(&s.store(vec![outer.clone(), inner.clone()], jobs).await);
    assert_eq!(s.batch_state(inner.id).await, BatchState::Awaiting);
    assert!(server.claim(10).await.is_empty());
    let _ = s.seal(outer.id).await;
    assert_eq!(s.batch_state(inner.id).await, Started);
    let mut done = server.work_off().await;
    done.sort();
    assert_eq!(done, made);
    assert_eq!(s.batch_state(outer.id).await, BatchState::Succeeded);
}

/// A batch that is larger than one call is built in several, and started in pieces.
pub async fn batch_larger_than_a_call(s: Stage) {
    let (id, _) = s.batch_of(s.new_open_batch(), 0).await;
    for _ in 0..3 {
        s.create(s.new_members(id, 4_000)).await;
    }
    assert_eq!(s.members(id).await, [12_000, 12_000, 0, 0, 0]);
    assert_eq!(s.seal(id).await, Applied(Started));
    s.expect_count(Enqueued, 1_000).await;
    let promoted = s.promote_all().await;
    assert_eq!((promoted.released, promoted.promoted), (11_000, 0));
    s.expect_count(Enqueued, 12_000).await;
}

/// A member that is added while its batch is being started does not get stuck.
pub async fn batch_added_while_starting(s: Stage) {
    let (batch, _) = s.batch_of(s.new_open_batch(), 1_200).await;
    let _ = s.seal(batch).await;
    let added = s.add_member(batch).await;
    assert_eq!(s.state(added).await, Enqueued, "its batch has started");
    s.promote_all().await;
    s.expect_count(Enqueued, 1_201).await;
}

/// A batch that was never sealed is cancelled after a day: who built it is gone.
pub async fn batch_open_too_long_is_cancelled(s: Stage) {
    let (batch, members) = s.batch_of(s.new_open_batch(), 2).await;
    s.advance(BATCH_OPEN_MAX - secs(1)).await;
    s.clean(10).await;
    assert_eq!(s.batch_state(batch).await, Open);
    s.advance(secs(2)).await;
    s.clean(10).await;
    assert_eq!(s.batch_state(batch).await, Cancelling);
    s.promote_all().await;
    let ended = s.batch_record(batch).await;
    assert_eq!((ended.state, ended.reason.as_deref()), (Cancelled, Some("it was never sealed")));
    assert_eq!(s.reason(members[0]).await, "its batch was cancelled: it was never sealed");
}

/// Cancelling takes out every member: those that wait, those whose turn comes, and those that run.
pub async fn batch_cancel_all(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(5).await;
    let callbacks = [After::Success, After::Deletion, After::End]
        .map(|after| s.new_after([Dependency::on(batch).after(after)]));
    let callbacks = ids(&s.create(callbacks.to_vec()).await);
    server.run(members[0], success()).await;
    let held = server.claim_job(members[1]).await;
    assert_eq!(s.cancel(batch).await, Applied(Cancelling));
    assert_eq!(s.members(batch).await, [5, 4, 1, 0, 0], "it is one write");
    assert_eq!(s.batch_record(batch).await.reason.as_deref(), Some("enough"));
    let promoted = s.promote_all().await;
    assert_eq!(
        (promoted.released, promoted.promoted),
        (7, 0),
        "members, and what waits for the end"
    );
    assert_eq!(s.batch_state(batch).await, Cancelled);
    assert_eq!(s.members(batch).await, [5, 0, 1, 0, 4]);
    for &member in &members[1..] {
        assert_eq!(s.reason(member).await, ENOUGH);
    }
    assert_eq!(server.finish(held.claim, success()).await, Verdict::Fenced);
    let mut states = Vec::new();
    for callback in callbacks {
        states.push(s.state(callback).await);
    }
    assert_eq!(states, [Deleted, Enqueued, Enqueued]);
}

/// From the call that cancels a batch on no member is given out: one whose turn comes is deleted instead.
pub async fn batch_cancel_at_claim(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(3).await;
    let other = s.enqueue_one().await;
    let _ = s.cancel(batch).await;
    assert_eq!(s.state(members[0]).await, Enqueued);
    let claimed = server.claim(2).await;
    assert_eq!(claimed.iter().map(|job| job.claim.job).collect::<Vec<_>>(), [other]);
    for &member in &members {
        assert_eq!((s.reason(member).await, s.record(member).await.attempt), (ENOUGH.into(), 0));
    }
    assert_eq!(s.batch_state(batch).await, Cancelled);
    assert_eq!(s.promote_all().await.released, 0);
}

/// A member of a batch in a cancelled one is not given out either.
pub async fn batch_cancel_nested_at_claim(s: Stage) {
    let server = s.server("a").await;
    let (outer, inner, members) = nested(&s, 2).await;
    let _ = s.cancel(outer).await;
    assert!(server.claim(10).await.is_empty());
    assert_eq!(s.reason(members[0]).await, ENOUGH);
    s.promote_all().await;
    for batch in [inner, outer] {
        let ended = s.batch_record(batch).await;
        assert_eq!((ended.state, ended.reason.as_deref()), (Cancelled, Some("enough")));
    }
}

/// A batch and one in it with so many members; both and the members.
async fn nested(
    s: &Stage,
    members: usize,
) -> (portfire_core::BatchId, portfire_core::BatchId, Vec<portfire_core::JobId>) {
    let outer = s.new_batch();
    let mut inner = s.new_batch();
    inner.parent = Some(outer.id);
    let (outer_id, inner_id) = (outer.id, inner.id);
    let jobs = s.new_members(inner_id, members);
    (outer_id, inner_id, ids(&s.store(vec![outer, inner], jobs).await))
}

/// Promotions cancel what stands in a cancelled batch, down to the innermost.
pub async fn batch_cancel_nested(s: Stage) {
    let (outer, inner, members) = nested(&s, 3).await;
    let callback = s.continue_on(inner, After::Deletion).await;
    assert_eq!(s.cancel(outer).await, Applied(Cancelling));
    s.promote_all().await;
    for batch in [outer, inner] {
        assert_eq!(s.batch_state(batch).await, Cancelled);
    }
    assert_eq!(s.members(inner).await, [3, 0, 0, 0, 3]);
    assert_eq!(s.members(outer).await, [1, 0, 0, 0, 1]);
    assert_eq!(s.reason(members[2]).await, ENOUGH);
    assert_eq!(s.state(callback).await, Enqueued);
}

/// The outer batch of a cancelled one goes on, with one deleted member.
pub async fn batch_cancel_of_the_inner_alone(s: Stage) {
    let server = s.server("a").await;
    let (outer, inner, _) = nested(&s, 1).await;
    let last = s.add_member(outer).await;
    let _ = s.cancel(inner).await;
    s.promote_all().await;
    assert_eq!((s.batch_state(inner).await, s.batch_state(outer).await), (Cancelled, Started));
    assert_eq!(s.members(outer).await, [2, 1, 0, 0, 1]);
    server.run(last, success()).await;
    assert_eq!(s.batch_state(outer).await, BatchState::Failed);
}

/// A batch without pending members is cancelled at once; one that has ended is not cancelled any more.
pub async fn batch_cancel_of_what_has_nothing_left(s: Stage) {
    let open = s.batch_of(s.new_open_batch(), 0).await.0;
    assert_eq!(s.cancel(open).await, Applied(Cancelled));
    assert!(s.batch_record(open).await.ended_at.is_some());
    assert_eq!(s.cancel(open).await, Unchanged(Cancelled));
    assert_eq!(s.seal(open).await, Unchanged(Cancelled));
    let ended = s.batch(0).await.0;
    assert_eq!(s.cancel(ended).await, Unchanged(BatchState::Succeeded));
    let (running, _) = s.batch(1).await;
    assert_eq!(s.cancel(running).await, Applied(Cancelling));
    let again = BatchChange::Cancel { reason: "another".into() };
    assert_eq!(s.change_batch(running, again).await, Unchanged(Cancelling));
}

/// A batch is cancelled before its seal and before its start as well.
pub async fn batch_cancel_before_it_starts(s: Stage) {
    let server = s.server("a").await;
    let gate = s.enqueue_one().await;
    let mut waiting = s.new_batch();
    waiting.after = vec![Dependency::on(gate)];
    let (waiting, members) = s.batch_of(waiting, 2).await;
    let (open, others) = s.batch_of(s.new_open_batch(), 2).await;
    let _ = s.cancel(waiting).await;
    let _ = s.cancel(open).await;
    server.run(gate, success()).await;
    assert!(server.claim(10).await.is_empty(), "its start releases nothing any more");
    s.promote_all().await;
    assert_eq!((s.batch_state(waiting).await, s.batch_state(open).await), (Cancelled, Cancelled));
    assert_eq!((s.reason(members[1]).await, s.reason(others[1]).await), {
        (ENOUGH.into(), ENOUGH.into())
    });
}

/// A batch that cannot run any more is cancelled, for the reason that a job would be deleted with.
pub async fn batch_unmet_is_cancelled(s: Stage) {
    let server = s.server("a").await;
    let gate = s.enqueue_one().await;
    let after = Dependency::on(gate);
    let mut before = s.new_batch();
    before.after = vec![after];
    let (before, members) = s.batch_of(before, 2).await;
    let callback = s.continue_on(before, After::Deletion).await;
    server.run(gate, discard()).await;
    let mut behind = s.new_batch();
    behind.after = vec![after];
    let (behind, others) = s.batch_of(behind, 1).await;
    s.promote_all().await;
    let reason = after.unmet_reason(StateName::Deleted);
    for (batch, member) in [(before, members[1]), (behind, others[0])] {
        let ended = s.batch_record(batch).await;
        assert_eq!((ended.state, ended.reason.as_ref()), (Cancelled, Some(&reason)));
        assert_eq!(s.reason(member).await, format!("its batch was cancelled: {reason}"));
    }
    assert_eq!(s.state(callback).await, Enqueued);
}

/// A cancelled batch takes no member, before and after its end.
pub async fn batch_cancelled_takes_no_member(s: Stage) {
    let (batch, _) = s.batch(1).await;
    let _ = s.cancel(batch).await;
    let refused = s.refused(vec![], vec![s.new_member(batch)]).await;
    assert_eq!(refused, InvalidJob::BatchEnded { batch, state: "cancelling" });
    s.promote_all().await;
    let refused = s.refused(vec![], vec![s.new_member(batch)]).await;
    assert_eq!(refused, InvalidJob::BatchEnded { batch, state: "cancelled" });
}

/// No member of a cancelled batch runs again, not by hand either.
pub async fn batch_cancelled_members_stay_out(s: Stage) {
    let server = s.server("a").await;
    let (outer, inner, members) = nested(&s, 2).await;
    server.run(members[0], success()).await;
    let _ = s.cancel(outer).await;
    assert!(matches!(s.requeue(members[0]).await, Changed::Refused(_)));
    s.promote_all().await;
    assert_eq!(s.batch_state(inner).await, Cancelled);
    for &member in &members {
        let before = s.record(member).await;
        assert!(matches!(s.requeue(member).await, Changed::Refused(_)));
        assert!(matches!(s.reschedule(member, secs(5)).await, Changed::Refused(_)));
        assert_eq!(s.record(member).await, before);
    }
    assert_eq!(s.members(inner).await, [2, 0, 1, 0, 1]);
}

/// A member that runs may end by itself before the cancellation gets to it, and counts as it ended.
pub async fn batch_cancel_lets_a_finish_win(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(2).await;
    let held = server.claim_job(members[0]).await;
    let _ = s.cancel(batch).await;
    server.end(held.claim, success()).await;
    s.promote_all().await;
    assert_eq!(s.members(batch).await, [2, 0, 1, 0, 1]);
    assert_eq!(s.batch_state(batch).await, Cancelled);
}

/// Whoever runs a member hears that its batch was cancelled.
pub async fn batch_cancel_is_heard(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(1).await;
    let held = server.claim_job(members[0]).await;
    assert_eq!(s.state(members[0]).await, Processing);
    let _ = s.cancel(batch).await;
    let mut wakeups = s.storage().wakeups();
    s.promote_all().await;
    s.heard(wakeups.control(), "the cancelled member").await;
    let lost = server.verify(&[held.claim]).await.expect("alive");
    assert_eq!(lost[0].reason, portfire_core::LostReason::Deleted);
}

/// A promoter that idles hears that a batch was cancelled.
pub async fn batch_cancel_wakes_the_promoter(s: Stage) {
    let (batch, _) = s.batch(1).await;
    let mut wakeups = s.storage().wakeups();
    let _ = s.cancel(batch).await;
    s.heard(wakeups.work(), "the cancellation").await;
}

/// A large batch is cancelled in pieces, as the promotions ask.
pub async fn batch_cancel_in_pieces(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(1_100).await;
    let _ = s.cancel(batch).await;
    let promoted = s.storage().promote(7).await.expect("promoted");
    assert_eq!((promoted.released, promoted.next_in), (7, Some(secs(0))));
    assert_eq!(s.members(batch).await, [1_100, 1_093, 0, 0, 7]);
    assert_eq!((s.state(members[6]).await, s.state(members[7]).await), (Deleted, Enqueued));
    s.promote_all().await;
    s.expect_count(Deleted, 1_100).await;
    assert_eq!(s.batch_state(batch).await, Cancelled);
    assert!(server.claim(10).await.is_empty());
    let some = JobFilter { batch: Some(batch), max: 500, ..JobFilter::state(Succeeded) };
    assert!(s.list(some).await.is_empty());
}

/// A claim deletes at most a thousand members of cancelled batches and then stops: no call takes long for them.
pub async fn batch_cancel_at_claim_in_pieces(s: Stage) {
    let server = s.server("a").await;
    let (batch, _) = s.batch(1_020).await;
    let plain = s.enqueue_one().await;
    let _ = s.cancel(batch).await;
    assert!(server.claim(10).await.is_empty());
    assert_eq!(s.members(batch).await, [1_020, 20, 0, 0, 1_000]);
    server.claim_job(plain).await;
    assert_eq!(s.batch_state(batch).await, Cancelled);
}
