//! A parent that has failed is not at its end: who waits for its success waits on, until it is requeued and succeeds,
//! or is deleted, or its retention ends.

use portfire_core::storage::RELEASE_MAX;
use portfire_core::{
    After, BatchFilter, BatchState, Cause, Changed, Dependency, InvalidJob, JobId, Retention,
    StateName,
};

use crate::server::{discard, failure, result, success};
use crate::stage::{DAY, Stage, ids, json, secs};

use StateName::{Awaiting, Deleted, Enqueued, Failed, Scheduled, Succeeded};

/// Stores a job whose failure is kept for an hour.
async fn kept_for_an_hour(s: &Stage) -> JobId {
    let mut job = s.new_job();
    let failed = Some(secs(3_600));
    job.options.retention = Some(Retention { failed, ..Retention::default() });
    s.create_one(job).await
}

/// What waits for success waits on while its parent stands failed, and runs once the requeued parent has succeeded.
pub async fn failed_parent_keeps_those_who_wait_for_success(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_with(parent).await;
    for _ in 0..2 {
        server.run(parent, failure()).await;
        assert_eq!((s.state(child).await, s.pending(child).await), (Awaiting, 1));
        s.promote_all().await;
        assert!(s.requeue(parent).await.is_done());
        assert_eq!(s.record(child).await.revision, 1, "a requeue tells nobody anything");
    }
    server.run(parent, success()).await;
    assert_eq!(s.causes(child).await, [Cause::Created, Cause::Continued]);
    server.run(child, success()).await;
}

/// A job that is created after its parent has failed waits likewise, with the rest of its call.
pub async fn failed_parent_of_a_new_job_is_waited_for(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    server.run(parent, failure()).await;
    let child = s.new_after([Dependency::on(parent).passing()]);
    let next = s.new_after([Dependency::on(child.id)]);
    let (deleted, failed) = (
        s.new_after([Dependency::on(parent).after(After::Deletion)]),
        s.new_after([Dependency::on(parent).after(After::Failure)]),
    );
    let made = ids(&s.create(vec![child, next, deleted, failed]).await);
    assert_eq!(s.causes(made[3]).await, [Cause::Created], "that failure has come");
    server.run(made[3], success()).await;
    for &job in &made[..3] {
        assert_eq!((s.state(job).await, s.pending(job).await), (Awaiting, 1));
    }
    let _ = s.requeue(parent).await;
    server.run(parent, result("[7]")).await;
    assert_eq!(s.state(made[2]).await, Deleted);
    let claimed = server.claim_job(made[0]).await;
    assert_eq!(claimed.parents[0].result, Some(json("[7]")), "what the last end said");
    assert_eq!(s.state(made[1]).await, Awaiting);
}

/// What waits for a failure or for any end is released at the first one, once, however often the parent ends again.
pub async fn failed_parent_releases_once_who_waits_for_that(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let (failed, end) =
        (s.continue_on(parent, After::Failure).await, s.continue_on(parent, After::End).await);
    let success_of = s.continue_with(parent).await;
    for round in 0..3 {
        server.run(parent, failure()).await;
        for child in [failed, end] {
            if round == 0 {
                server.run(child, success()).await;
            }
            assert_eq!((s.state(child).await, s.record(child).await.revision), (Succeeded, 4));
        }
        let _ = s.requeue(parent).await;
    }
    server.run(parent, success()).await;
    assert_eq!(server.work_off().await, [success_of]);
    let _ = s.requeue(parent).await;
    server.run(parent, success()).await;
    assert!(server.claim(10).await.is_empty(), "nobody is left to be told");
}

/// A failed parent that is deleted takes those with it who wait for its success, down the chain, for that reason.
pub async fn failed_parent_deleted_takes_the_chain_with_it(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_with(parent).await;
    let next = s.continue_with(child).await;
    let (end, undo) =
        (s.continue_on(next, After::End).await, s.continue_on(parent, After::Deletion).await);
    server.run(parent, failure()).await;
    assert_eq!(s.delete(parent).await, Changed::Applied { from: Failed, revision: 4 });
    assert_eq!(s.reason(child).await, Dependency::on(parent).unmet_reason(Deleted));
    assert_eq!(s.reason(next).await, Dependency::on(child).unmet_reason(Deleted));
    assert_eq!((s.state(end).await, s.state(undo).await), (Enqueued, Enqueued));
}

/// The end of the retention of a failed parent is its deletion to those who wait; one that is kept for ever keeps them.
pub async fn failed_parent_whose_retention_ends(s: Stage) {
    let server = s.server_with_lease("a", 900 * DAY).await;
    let (parent, for_ever) = (kept_for_an_hour(&s).await, s.enqueue_one().await);
    let child = s.continue_with(parent).await;
    let next = s.continue_with(child).await;
    let waits_on = s.continue_with(for_ever).await;
    let undo = s.continue_on(parent, After::Deletion).await;
    for job in [parent, for_ever] {
        server.run(job, failure()).await;
    }
    s.advance(secs(3_599)).await;
    assert_eq!(s.clean(10).await.jobs, 0);
    assert_eq!(s.state(child).await, Awaiting);
    s.advance(secs(1)).await;
    let mut cleaned = 0;
    for _ in 0..3 {
        cleaned += s.clean(10).await.jobs;
    }
    assert_eq!((cleaned, s.find(parent).await), (1, None));
    assert_eq!(s.reason(child).await, Dependency::on(parent).unmet_reason(Deleted));
    assert_eq!((s.state(next).await, s.state(undo).await), (Deleted, Enqueued));
    s.advance(800 * DAY).await;
    s.clean(10).await;
    assert_eq!((s.state(for_ever).await, s.state(waits_on).await), (Failed, Awaiting));
}

/// Cleaning a failed parent of many settles them first, a thousand in a call; the parent goes after the last of them.
pub async fn failed_parent_is_cleaned_behind_its_many_children(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let parent = kept_for_an_hour(&s).await;
    s.continue_many(parent, 2_500).await;
    server.run(parent, failure()).await;
    s.expect_count(Awaiting, 2_500).await;
    s.advance(secs(3_600)).await;
    let cleaned = s.clean(10).await;
    assert_eq!((cleaned.jobs, cleaned.more), (0, false), "the rest is for promotions");
    s.expect_count(Deleted, RELEASE_MAX as u64).await;
    assert_eq!(s.clean(10).await.jobs, 0);
    assert_eq!(s.storage().promote(500).await.expect("promoted").released, 500);
    assert_eq!(s.clean(10).await.jobs, 0);
    assert_eq!(s.promote_all().await.released, 1_000);
    assert_eq!(s.clean(10).await.jobs, 1);
    assert_eq!(s.find(parent).await, None);
    s.expect_count(Awaiting, 0).await;
}

/// A job of several parents waits on while one has failed, and goes by the last words of all.
pub async fn failed_parent_among_several(s: Stage) {
    let server = s.server("a").await;
    let sides = s.enqueue(3).await;
    let bottom = s.create_one(s.new_after(sides.iter().map(|&side| Dependency::on(side)))).await;
    let other = s.create_one(s.new_after(sides.iter().map(|&side| Dependency::on(side)))).await;
    server.run(sides[0], failure()).await;
    server.run(sides[1], success()).await;
    server.run(sides[2], failure()).await;
    assert_eq!((s.pending(bottom).await, s.record(bottom).await.revision), (2, 1));
    let _ = s.requeue(sides[0]).await;
    server.run(sides[0], success()).await;
    assert_eq!(s.pending(bottom).await, 1);
    // Who leaves by hand waits for nothing any more.
    let _ = s.requeue(other).await;
    assert_eq!(s.state(other).await, Enqueued);
    let _ = s.delete(sides[2]).await;
    assert_eq!(s.reason(bottom).await, Dependency::on(sides[2]).unmet_reason(Deleted));
    assert_eq!(s.state(other).await, Enqueued);
}

/// Who waits for a failed parent can be requeued, rescheduled and deleted by hand; the parent then leaves it alone.
pub async fn failed_parent_and_waiters_moved_by_hand(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let waiting = s.continue_many(parent, 3).await;
    server.run(parent, failure()).await;
    assert_eq!(s.requeue(waiting[0]).await, Changed::Applied { from: Awaiting, revision: 2 });
    let _ = s.reschedule(waiting[1], secs(60)).await;
    let _ = s.delete(waiting[2]).await;
    server.run(waiting[0], success()).await;
    for end in [failure(), success()] {
        let _ = s.requeue(parent).await;
        server.run(parent, end).await;
    }
    let _ = s.delete(parent).await;
    let expected = [(Succeeded, 4), (Scheduled, 2), (Deleted, 2)];
    for (&job, expected) in waiting.iter().zip(expected) {
        assert_eq!((s.state(job).await, s.record(job).await.revision), expected);
    }
}

/// A chain goes on where it stopped, as often as one of its links fails and is repaired.
pub async fn failed_parent_repaired_at_each_link(s: Stage) {
    let server = s.server("a").await;
    let mut links = vec![s.enqueue_one().await];
    for n in 0..4 {
        links.push(s.continue_with(links[n]).await);
    }
    for (n, &link) in links.iter().enumerate() {
        server.run(link, failure()).await;
        s.expect_count(Awaiting, 4 - n as u64).await;
        let _ = s.requeue(link).await;
        server.run(link, success()).await;
    }
    s.expect_count(Succeeded, 5).await;
}

/// Those who wait for a failure are still being told of it when the parent is requeued and succeeds: each hears of the
/// end that decides for it, once.
pub async fn failed_parent_requeued_while_its_failure_is_told(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let many = |after| {
        let one = |_| s.new_after([Dependency::on(parent).after(after)]);
        (0..1_500).map(one).collect()
    };
    let failed = ids(&s.create(many(After::Failure)).await);
    let good = ids(&s.create(many(After::Success)).await);
    server.run(parent, failure()).await;
    s.expect_count(Enqueued, RELEASE_MAX as u64).await;
    let _ = s.requeue(parent).await;
    let held = server.claim(RELEASE_MAX as u32 + 1).await;
    let again = held.iter().find(|job| job.claim.job == parent).expect("it is claimed again");
    server.end(again.claim, success()).await;
    s.promote_all().await;
    s.expect_count(Awaiting, 0).await;
    s.expect_count(Deleted, 0).await;
    for job in [failed[1_499], good[0], good[1_499]] {
        assert_eq!(s.causes(job).await, [Cause::Created, Cause::Continued]);
    }
}

/// A batch whose members have failed has ended as failed, once to those who wait for that; when its members are
/// requeued and all have succeeded, it succeeds, once.
pub async fn failed_batch_succeeds_when_its_members_do(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(3).await;
    let good = s.continue_with(batch).await;
    let (bad, end) =
        (s.continue_on(batch, After::Failure).await, s.continue_on(batch, After::End).await);
    server.run(members[0], success()).await;
    server.run(members[1], failure()).await;
    server.run(members[2], failure()).await;
    assert_eq!(s.batch_state(batch).await, BatchState::Failed);
    assert_eq!(server.work_off().await, [bad, end]);
    // One that comes later waits as well.
    let late = s.continue_with(batch).await;
    assert_eq!((s.state(good).await, s.state(late).await), (Awaiting, Awaiting));
    for outcome in [failure(), success()] {
        let _ = s.requeue(members[1]).await;
        server.run(members[1], outcome).await;
        assert_eq!(s.batch_state(batch).await, BatchState::Failed);
    }
    let _ = s.requeue(members[2]).await;
    server.run(members[2], success()).await;
    assert_eq!(s.batch_state(batch).await, BatchState::Succeeded);
    assert_eq!(server.work_off().await, [good, late]);
    let _ = s.requeue(members[0]).await;
    server.run(members[0], success()).await;
    assert!(server.claim(10).await.is_empty());
}

/// A batch has failed for good once one of its members was deleted: who waits for its success is deleted, then or
/// when the batch ends. A member that is requeued all the same brings nobody back.
pub async fn failed_batch_with_a_deleted_member_has_failed_for_good(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(2).await;
    let (good, cancelled) =
        (s.continue_with(batch).await, s.continue_on(batch, After::Deletion).await);
    for &member in &members {
        server.run(member, failure()).await;
    }
    assert_eq!((s.state(good).await, s.state(cancelled).await), (Awaiting, Awaiting));
    let _ = s.delete(members[0]).await;
    assert_eq!(s.members(batch).await, [2, 0, 0, 1, 1]);
    let reason = Dependency::on(batch).unmet_for_good();
    assert_eq!((s.reason(good).await, s.state(cancelled).await), (reason.clone(), Deleted));
    let late = s.continue_with(batch).await;
    assert_eq!((s.reason(late).await, s.record(late).await.revision), (reason.clone(), 2));
    for &member in &members {
        let _ = s.requeue(member).await;
        server.run(member, success()).await;
    }
    assert_eq!(s.batch_state(batch).await, BatchState::Succeeded);
    assert_eq!(s.state(good).await, Deleted);
    // The member may be deleted before the batch has ended.
    let (batch, members) = s.batch(2).await;
    let good = s.continue_with(batch).await;
    server.run(members[0], discard()).await;
    server.run(members[1], failure()).await;
    assert_eq!(s.reason(good).await, Dependency::on(batch).unmet_for_good());
}

/// An outer batch that has failed because of an inner one succeeds when that does, through any number of levels.
pub async fn failed_batch_around_another_succeeds_with_it(s: Stage) {
    let server = s.server("a").await;
    let mut batches = vec![s.new_batch()];
    for level in 1..4 {
        let mut inner = s.new_batch();
        inner.parent = Some(batches[level - 1].id);
        batches.push(inner);
    }
    let names: Vec<_> = batches.iter().map(|batch| batch.id).collect();
    let mut jobs = s.new_members(names[3], 2);
    jobs.extend(names.iter().map(|&batch| s.new_after([Dependency::on(batch)])));
    let made = ids(&s.store(batches, jobs).await);
    for &member in &made[..2] {
        server.run(member, failure()).await;
    }
    for &batch in &names {
        assert_eq!(s.batch_state(batch).await, BatchState::Failed);
    }
    s.expect_count(Awaiting, 4).await;
    for &member in &made[..2] {
        let _ = s.requeue(member).await;
        server.run(member, success()).await;
    }
    for &batch in &names {
        assert_eq!(s.batch_state(batch).await, BatchState::Succeeded);
        assert_eq!(s.members(batch).await[3..], [0, 0]);
    }
    let mut released = server.work_off().await;
    released.sort();
    assert_eq!(released, made[2..]);
}

/// An inner batch that has failed for good is to the outer one what a deleted member is; one that is reopened is a
/// member that runs again.
pub async fn failed_batch_for_good_upwards(s: Stage) {
    let server = s.server("a").await;
    let outer = s.new_batch();
    let mut inner = s.new_batch();
    inner.parent = Some(outer.id);
    let mut jobs = s.new_members(inner.id, 2);
    jobs.push(s.new_after([Dependency::on(outer.id)]));
    let made = ids(&s.store(vec![outer.clone(), inner.clone()], jobs).await);
    server.run(made[0], failure()).await;
    server.run(made[1], failure()).await;
    assert_eq!(s.members(outer.id).await, [1, 0, 0, 1, 0]);
    let _ = s.delete(made[0]).await;
    assert_eq!(s.members(outer.id).await, [1, 0, 0, 0, 1]);
    assert_eq!(s.batch_state(outer.id).await, BatchState::Failed);
    assert_eq!(s.reason(made[2]).await, Dependency::on(outer.id).unmet_for_good());
    let _ = s.requeue(made[0]).await;
    assert_eq!(s.members(outer.id).await, [1, 1, 0, 0, 0]);
    server.run(made[0], success()).await;
    assert_eq!(s.members(outer.id).await, [1, 0, 0, 1, 0], "it can succeed again");
    let late = s.continue_with(outer.id).await;
    let _ = s.requeue(made[1]).await;
    server.run(made[1], success()).await;
    assert_eq!(s.members(outer.id).await, [1, 0, 1, 0, 0]);
    assert_eq!(s.state(late).await, Enqueued);
}

/// A reopened batch that is cancelled deletes who waits for its success; one that has ended is not cancelled.
pub async fn failed_batch_that_is_cancelled(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(2).await;
    let (good, undo) = (s.continue_with(batch).await, s.continue_on(batch, After::Deletion).await);
    for &member in &members {
        server.run(member, failure()).await;
    }
    let ended = portfire_core::BatchChanged::Unchanged(BatchState::Failed);
    assert_eq!(s.cancel(batch).await, ended);
    assert_eq!(s.state(good).await, Awaiting);
    let _ = s.requeue(members[0]).await;
    let _ = s.cancel(batch).await;
    s.promote_all().await;
    assert_eq!(s.batch_state(batch).await, BatchState::Cancelled);
    assert_eq!(s.reason(good).await, Dependency::on(batch).unmet_reason(Deleted));
    assert_eq!(s.state(undo).await, Enqueued);
}

/// A failed batch is kept while a failed member is, for that can be requeued; with the retention of a failed member
/// the batch has failed for good, and those who wait for its success are deleted.
pub async fn failed_batch_whose_members_retention_ends(s: Stage) {
    let server = s.server_with_lease("a", 900 * DAY).await;
    let mut batch = s.new_batch();
    batch.retention = DAY;
    let mut short = s.new_member(batch.id);
    let failed = Some(2 * DAY);
    short.options.retention = Some(Retention { failed, ..Retention::default() });
    let members = ids(&s.store(vec![batch.clone()], vec![short, s.new_member(batch.id)]).await);
    let good = s.continue_with(batch.id).await;
    for &member in &members {
        server.run(member, failure()).await;
    }
    s.advance(DAY + secs(3_600)).await;
    s.clean(10).await;
    assert_eq!((s.batch_state(batch.id).await, s.state(good).await), {
        (BatchState::Failed, Awaiting)
    });
    s.advance(DAY).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    s.promote_all().await;
    assert_eq!(s.reason(good).await, Dependency::on(batch.id).unmet_for_good());
    assert_eq!(s.members(batch.id).await, [2, 0, 0, 1, 1]);
    // The other is kept for ever, and so is the batch.
    s.advance(100 * DAY).await;
    s.clean(10).await;
    assert_eq!(s.batch_state(batch.id).await, BatchState::Failed);
    let _ = s.delete(members[1]).await;
    s.advance(2 * DAY).await;
    for _ in 0..3 {
        s.clean(10).await;
    }
    assert!(s.batches(BatchFilter::default()).await.is_empty());
}

/// A batch that is to run after a failed parent waits with all of its members, and is cancelled with the parent.
pub async fn failed_parent_of_a_batch(s: Stage) {
    let server = s.server("a").await;
    let parents = s.enqueue(2).await;
    let mut made = Vec::new();
    for &parent in &parents {
        server.run(parent, failure()).await;
        let mut batch = s.new_batch();
        batch.after = vec![Dependency::on(parent)];
        made.push(s.batch_of(batch, 2).await);
    }
    for (batch, members) in &made {
        assert_eq!(s.batch_state(*batch).await, BatchState::Awaiting);
        assert_eq!(s.state(members[1]).await, Awaiting);
    }
    let _ = s.requeue(parents[0]).await;
    server.run(parents[0], success()).await;
    let _ = s.delete(parents[1]).await;
    s.promote_all().await;
    assert_eq!(s.state(made[0].1[1]).await, Enqueued);
    assert_eq!(s.state(made[1].1[1]).await, Deleted);
    let reason = Dependency::on(parents[1]).unmet_reason(Deleted);
    assert_eq!(s.batch_record(made[1].0).await.reason, Some(reason));
}

/// A failed batch takes no member; a reopened one refuses a member that would wait for what waits for it.
pub async fn failed_batch_and_circles(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(1).await;
    server.run(members[0], failure()).await;
    let waits = s.continue_with(batch).await;
    let refused = s.refused(vec![], vec![s.new_member(batch)]).await;
    assert_eq!(refused, InvalidJob::BatchEnded { batch, state: "failed" });
    let _ = s.requeue(members[0]).await;
    let mut member = s.new_after([Dependency::on(waits)]);
    member.ties.batch = Some(batch);
    let refused = s.refused(vec![], vec![member]).await;
    assert!(matches!(refused, InvalidJob::Batch { batch: of, .. } if of == batch), "{refused:?}");
    server.run(members[0], success()).await;
    assert_eq!(s.state(waits).await, Enqueued);
}
