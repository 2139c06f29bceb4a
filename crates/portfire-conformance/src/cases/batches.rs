//! Batches: jobs that are stored together, counted together, and end together.

use std::collections::BTreeSet;
use std::sync::Arc;

use portfire_core::batch::BATCH_DEPTH_MAX;
use portfire_core::{
    After, Antecedent, BatchFilter, BatchState, Cause, Dependency, InvalidJob, JobFilter, NewBatch,
    RescueRequest, StateName, StorageError,
};

use crate::server::{discard, failure, retry, success};
use crate::stage::{DAY, Stage, ids, secs};

use StateName::{Awaiting, Deleted, Enqueued, Succeeded};

/// A batch and its members are stored together or not at all: an error in the last member stores nothing.
pub async fn batch_atomic_create(s: Stage) {
    let batch = s.new_batch();
    let mut jobs = s.new_members(batch.id, 3);
    jobs[2].options.tags = vec![String::new()];
    let refused = s.refused(vec![batch.clone()], jobs.clone()).await;
    assert!(matches!(refused, InvalidJob::Tag { .. }), "{refused:?}");
    let mut conflict = s.new_members(batch.id, 2);
    conflict[1].id = s.enqueue_one().await;
    conflict[1].args = crate::stage::json("[1]");
    let taken = s.storage().create_batches(vec![batch.clone()], conflict).await;
    assert!(matches!(taken, Err(StorageError::IdTaken { .. })), "{taken:?}");
    assert_eq!(s.storage().batch(batch.id).await.expect("read"), None);
    jobs[2].options.tags.clear();
    s.store(vec![batch.clone()], jobs).await;
    assert_eq!(s.batch_state(batch.id).await, BatchState::Started);
    assert_eq!(s.members(batch.id).await, [3, 3, 0, 0, 0]);
}

/// A batch comes out as it went in.
pub async fn batch_details_full(s: Stage) {
    let parent = s.batch(0).await.0;
    let mut batch = s.new_open_batch();
    batch.description = "é".repeat(100);
    batch.after = vec![Dependency::on(parent).after(After::End)];
    s.store(vec![batch.clone()], vec![]).await;
    let record = s.batch_record(batch.id).await;
    assert_eq!((record.id, &record.description), (batch.id, &batch.description));
    assert_eq!((record.parent, &record.after), (None, &batch.after));
    assert_eq!((record.state, record.ended_at, record.expires_at), (BatchState::Open, None, None));
    assert!(record.created_at <= s.now().await);
    assert_eq!(s.storage().batch(s.new_batch().id).await.expect("read"), None);
}

/// The members of a batch that waits for nothing may run at once, in their order.
pub async fn batch_members_are_plain_jobs(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(3).await;
    assert_eq!(s.causes(members[0]).await, [Cause::Created]);
    assert_eq!(s.record(members[0]).await.ties.batch, Some(batch));
    assert_eq!(server.work_off().await, members);
    s.enqueue(2).await;
    s.batch(2).await;
    let mut found = s.list_ids(JobFilter { batch: Some(batch), ..JobFilter::default() }).await;
    found.sort();
    assert_eq!(found, members);
}

/// What waits for a batch is released when its last member ends, once.
pub async fn batch_callback_once(s: Stage) {
    let server = s.server("a").await;
    let batch = s.new_batch();
    let mut jobs = s.new_members(batch.id, 3);
    jobs.push(s.new_after([Dependency::on(batch.id)]));
    let made = ids(&s.store(vec![batch.clone()], jobs).await);
    for &member in &made[..3] {
        assert_eq!(s.state(made[3]).await, Awaiting);
        server.run(member, success()).await;
    }
    assert_eq!(s.causes(made[3]).await, [Cause::Created, Cause::Continued]);
    let record = s.batch_record(batch.id).await;
    assert_eq!((record.state, record.members.total), (BatchState::Succeeded, 3), "of no member");
    assert_eq!(server.work_off().await, [made[3]]);
}

/// The last two members of a batch that end at the same time end it once, in 200 races.
pub async fn batch_last_two_concurrent_200_rounds(s: Stage) {
    const ROUNDS: usize = 200;
    let server = Arc::new(s.server_with_lease("a", DAY).await);
    let batches: Vec<NewBatch> = (0..ROUNDS).map(|_| s.new_batch()).collect();
    let names: Vec<_> = batches.iter().map(|batch| batch.id).collect();
    let members = names.iter().flat_map(|&batch| s.new_members(batch, 2)).collect();
    s.store(batches, members).await;
    let callbacks = names.iter().map(|&batch| s.new_after([Dependency::on(batch)])).collect();
    let callbacks = ids(&s.create(callbacks).await);
    let held = server.claim(2 * ROUNDS as u32).await;
    for pair in held.chunks(2) {
        let ends = [pair[0].claim, pair[1].claim].map(|claim| {
            let server = server.clone();
            tokio::spawn(async move { server.end(claim, success()).await })
        });
        for end in ends {
            end.await.expect("the member ends");
        }
    }
    for &batch in &names {
        let record = s.batch_record(batch).await;
        assert_eq!((record.state, record.members.succeeded), (BatchState::Succeeded, 2));
    }
    assert_eq!(server.work_off().await.into_iter().collect::<BTreeSet<_>>(), {
        callbacks.into_iter().collect()
    });
}

/// A batch without members ends the moment it starts, with success.
pub async fn batch_empty_completes(s: Stage) {
    let batch = s.new_batch();
    let on = |after| Dependency::on(batch.id).after(after);
    let jobs = vec![s.new_after([on(After::Success)]), s.new_after([on(After::Failure)])];
    let made = ids(&s.store(vec![batch.clone()], jobs).await);
    let record = s.batch_record(batch.id).await;
    assert_eq!(record.state, BatchState::Succeeded);
    assert_eq!(record.ended_at, Some(record.created_at));
    assert_eq!((s.state(made[0]).await, s.state(made[1]).await), (Enqueued, Deleted));
}

/// Only the final failure of a member counts as one; the batch has failed then.
pub async fn batch_member_fails_final_counts(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(2).await;
    let held = server.claim(2).await;
    server.end(held[0].claim, retry(0)).await;
    assert_eq!(s.members(batch).await, [2, 2, 0, 0, 0]);
    s.promote().await;
    server.run(members[0], failure()).await;
    assert_eq!(s.members(batch).await, [2, 1, 0, 1, 0]);
    assert_eq!(s.batch_state(batch).await, BatchState::Started, "it waits for all");
    server.end(held[1].claim, success()).await;
    assert_eq!(s.members(batch).await, [2, 0, 1, 1, 0]);
    assert_eq!(s.batch_state(batch).await, BatchState::Failed);
}

/// Callbacks tell success from the end: with a deleted or failed member only those run that wait for a
/// failure or for any end. With failed ones alone the others wait on: those members may be requeued.
pub async fn batch_on_success_vs_on_complete(s: Stage) {
    let server = s.server("a").await;
    let sorts = [After::Success, After::Failure, After::Deletion, After::End];
    let ends = [
        (success(), [Enqueued, Deleted, Deleted, Enqueued]),
        (failure(), [Awaiting, Enqueued, Awaiting, Enqueued]),
        (discard(), [Deleted, Enqueued, Deleted, Enqueued]),
    ];
    for (outcome, expected) in ends {
        let (batch, members) = s.batch(2).await;
        let mut callbacks = Vec::new();
        for after in sorts {
            callbacks.push(s.continue_on(batch, after).await);
        }
        server.run(members[0], success()).await;
        server.run(members[1], outcome).await;
        let mut states = Vec::new();
        for callback in callbacks {
            states.push(s.state(callback).await);
        }
        assert_eq!(states, expected);
        server.work_off().await;
    }
}

/// A running member may add members: the batch cannot end before that one does.
pub async fn batch_add_from_member(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(1).await;
    let callback = s.continue_with(batch).await;
    let held = server.claim_job(members[0]).await;
    let added = s.add_member(batch).await;
    assert_eq!(s.members(batch).await, [2, 2, 0, 0, 0]);
    server.end(held.claim, success()).await;
    assert_eq!(s.state(callback).await, Awaiting);
    server.run(added, success()).await;
    assert_eq!(s.members(batch).await, [2, 0, 2, 0, 0]);
    assert_eq!(s.state(callback).await, Enqueued);
}

/// A batch that has ended takes no member: its callbacks have gone out. The refusal says where it stands.
pub async fn batch_add_after_complete_rejected(s: Stage) {
    let server = s.server("a").await;
    for (outcome, state) in [(success(), "succeeded"), (failure(), "failed")] {
        let (batch, members) = s.batch(1).await;
        server.run(members[0], outcome).await;
        let refused = s.refused(vec![], vec![s.new_job(), s.new_member(batch)]).await;
        assert_eq!(refused, InvalidJob::BatchEnded { batch, state });
        let mut nested = s.new_batch();
        nested.parent = Some(batch);
        let refused = s.refused(vec![nested], vec![]).await;
        assert_eq!(refused, InvalidJob::BatchEnded { batch, state });
        assert_eq!(s.members(batch).await[0], 1);
    }
}

/// A nested batch is one member of the outer one, which ends after it.
pub async fn batch_nested(s: Stage) {
    let server = s.server("a").await;
    let outer = s.new_batch();
    let mut inner = s.new_batch();
    inner.parent = Some(outer.id);
    let mut jobs = s.new_members(outer.id, 1);
    jobs.extend(s.new_members(inner.id, 2));
    jobs.push(s.new_after([Dependency::on(outer.id)]));
    let made = ids(&s.store(vec![outer.clone(), inner.clone()], jobs).await);
    assert_eq!(s.batch_record(inner.id).await.parent, Some(outer.id));
    assert_eq!((s.members(outer.id).await[0], s.members(inner.id).await[0]), (2, 2));
    server.run(made[0], success()).await;
    assert_eq!(s.members(outer.id).await, [2, 1, 1, 0, 0]);
    server.run(made[1], success()).await;
    assert_eq!(s.batch_state(outer.id).await, BatchState::Started);
    server.run(made[2], success()).await;
    assert_eq!(s.members(outer.id).await, [2, 0, 2, 0, 0]);
    assert_eq!(s.batch_state(outer.id).await, BatchState::Succeeded);
    assert_eq!(s.state(made[3]).await, Enqueued);
}

/// A nested batch that has failed is a failed member, through any number of levels.
pub async fn batch_nested_failure_counts_upwards(s: Stage) {
    let server = s.server("a").await;
    let mut batches = vec![s.new_batch()];
    for level in 1..5 {
        let mut inner = s.new_batch();
        inner.parent = Some(batches[level - 1].id);
        batches.push(inner);
    }
    let names: Vec<_> = batches.iter().map(|batch| batch.id).collect();
    let member = s.new_member(names[4]);
    let member = ids(&s.store(batches, vec![member]).await)[0];
    server.run(member, failure()).await;
    for &batch in &names {
        assert_eq!(s.batch_state(batch).await, BatchState::Failed);
        assert_eq!(s.members(batch).await, [1, 0, 0, 1, 0]);
    }
}

/// Jobs run after batches, batches after jobs, and batches after batches; members stand `awaiting` until
/// their batch has started.
pub async fn batch_continuation_of_batch(s: Stage) {
    let server = s.server("a").await;
    let first = s.enqueue_one().await;
    let mut one = s.new_batch();
    one.after = vec![Dependency::on(first)];
    let mut two = s.new_batch();
    two.after = vec![Dependency::on(one.id)];
    let mut jobs = s.new_members(one.id, 2);
    jobs.extend(s.new_members(two.id, 2));
    jobs.push(s.new_after([Dependency::on(two.id)]));
    let made = ids(&s.store(vec![one.clone(), two.clone()], jobs).await);
    assert_eq!(s.batch_state(one.id).await, BatchState::Awaiting);
    assert_eq!(s.members(one.id).await, [2, 2, 0, 0, 0]);
    assert_eq!((s.state(made[0]).await, s.pending(made[0]).await), (Awaiting, 1));
    server.run(first, success()).await;
    assert_eq!(s.batch_state(one.id).await, BatchState::Started);
    assert_eq!(s.batch_state(two.id).await, BatchState::Awaiting);
    assert_eq!(s.causes(made[1]).await, [Cause::Created, Cause::Continued]);
    assert_eq!(server.work_off().await, made);
    assert_eq!(s.batch_state(two.id).await, BatchState::Succeeded);
}

/// A batch waits for all that it is to run after; what has ended already counts at once.
pub async fn batch_after_several(s: Stage) {
    let server = s.server("a").await;
    let parents = s.enqueue(3).await;
    server.run(parents[0], success()).await;
    let mut batch = s.new_batch();
    batch.after = parents.iter().map(|&parent| Dependency::on(parent)).collect();
    let (batch, members) = s.batch_of(batch, 1).await;
    server.run(parents[1], success()).await;
    assert_eq!(s.batch_state(batch).await, BatchState::Awaiting);
    server.run(parents[2], success()).await;
    assert_eq!(s.batch_state(batch).await, BatchState::Started);
    assert_eq!(s.state(members[0]).await, Enqueued);
}

/// A member waits for what it names itself and for the start of its batch.
pub async fn batch_member_with_dependencies(s: Stage) {
    let server = s.server("a").await;
    let gate = s.enqueue_one().await;
    let mut batch = s.new_batch();
    batch.after = vec![Dependency::on(gate)];
    let first = s.new_member(batch.id);
    let mut second = s.new_after([Dependency::on(first.id)]);
    second.ties.batch = Some(batch.id);
    let made = ids(&s.store(vec![batch.clone()], vec![first, second]).await);
    assert_eq!((s.pending(made[0]).await, s.pending(made[1]).await), (1, 2));
    server.run(gate, success()).await;
    assert_eq!(s.pending(made[1]).await, 1);
    server.run(made[0], success()).await;
    assert_eq!(s.members(batch.id).await, [2, 1, 1, 0, 0]);
    server.run(made[1], success()).await;
    assert_eq!(s.batch_state(batch.id).await, BatchState::Succeeded);
}

/// A member that cannot run any more is counted as deleted, also when that is known at its creation.
pub async fn batch_member_unmet_is_deleted(s: Stage) {
    let server = s.server("a").await;
    let gone = s.enqueue_one().await;
    server.run(gone, discard()).await;
    let batch = s.new_batch();
    let mut unmet = s.new_after([Dependency::on(gone)]);
    unmet.ties.batch = Some(batch.id);
    let mut jobs = s.new_members(batch.id, 1);
    jobs.push(unmet);
    let made = ids(&s.store(vec![batch.clone()], jobs).await);
    assert_eq!(s.members(batch.id).await, [2, 1, 0, 0, 1]);
    server.run(made[0], success()).await;
    assert_eq!(s.batch_state(batch.id).await, BatchState::Failed);
}

/// The numbers of a batch are exact at any moment, whatever ends its members.
pub async fn batch_progress_numbers(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(6).await;
    assert_eq!(s.members(batch).await, [6, 6, 0, 0, 0]);
    let _ = s.delete(members[5]).await;
    assert_eq!(s.members(batch).await, [6, 5, 0, 0, 1]);
    server.run(members[0], success()).await;
    server.run(members[1], failure()).await;
    server.run(members[2], discard()).await;
    assert_eq!(s.members(batch).await, [6, 2, 1, 1, 2]);
    server.claim_job(members[3]).await;
    s.lapse().await;
    let at_once = RescueRequest { recoveries_max: 0, ..RescueRequest::default() };
    s.rescue_with(at_once).await;
    assert_eq!(s.members(batch).await, [6, 1, 1, 2, 2]);
    let _ = s.reschedule(members[4], secs(5)).await;
    assert_eq!(s.members(batch).await, [6, 1, 1, 2, 2], "waiting is not the end");
    let _ = s.delete(members[4]).await;
    assert_eq!(s.members(batch).await, [6, 0, 1, 2, 3]);
    assert_eq!(s.batch_state(batch).await, BatchState::Failed);
}

/// The numbers are exact when eight servers end members at once.
pub async fn batch_progress_exact_under_concurrency(s: Stage) {
    let (batch, _) = s.batch(800).await;
    let callback = s.continue_on(batch, After::End).await;
    let mut workers = Vec::new();
    for n in 0..8 {
        let server = s.server_with_lease(&format!("w{n}"), DAY).await;
        workers.push(tokio::spawn(async move {
            loop {
                let claimed = server.claim(10).await;
                if claimed.is_empty() {
                    return;
                }
                let ends = claimed.iter().enumerate().map(|(k, job)| {
                    let outcome = if k % 5 == 4 { failure() } else { success() };
                    crate::server::finish(job.claim, outcome)
                });
                server.finish_all(ends.collect()).await;
            }
        }));
    }
    for worker in workers {
        worker.await.expect("the worker ends");
    }
    let [total, pending, succeeded, failed, deleted] = s.members(batch).await;
    let members = s.list(JobFilter { batch: Some(batch), max: 500, ..JobFilter::default() }).await;
    let count = |state| members.iter().filter(|job| job.state.name() == state).count() as u64;
    assert_eq!((total, pending, deleted), (800, 0, 0));
    assert_eq!((succeeded, failed), (count(Succeeded), count(StateName::Failed)));
    assert_eq!(s.state(callback).await, if failed > 0 { Succeeded } else { Enqueued });
}

/// A member that is requeued reopens the batch, and the numbers stay exact; what was released stays so.
pub async fn batch_requeue_member_does_not_refire(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(2).await;
    let (good, bad) = (s.continue_with(batch).await, s.continue_on(batch, After::Failure).await);
    server.run(members[0], success()).await;
    server.run(members[1], failure()).await;
    server.run(bad, success()).await;
    let _ = s.requeue(members[1]).await;
    let record = s.batch_record(batch).await;
    assert_eq!((record.state, record.ended_at, record.expires_at), {
        (BatchState::Started, None, None)
    });
    assert_eq!(s.members(batch).await, [2, 1, 1, 0, 0]);
    server.run(members[1], success()).await;
    assert_eq!(s.members(batch).await, [2, 0, 2, 0, 0]);
    assert_eq!(s.batch_state(batch).await, BatchState::Succeeded);
    assert_eq!((s.state(good).await, s.record(good).await.revision), (Enqueued, 2));
    assert_eq!((s.state(bad).await, s.record(bad).await.revision), (Succeeded, 4));
    // A continuation that is added meanwhile goes by the present state.
    let late = s.continue_with(batch).await;
    assert_eq!(s.state(late).await, Enqueued);
}

/// A rescheduled member reopens the batches it stands in, up to the outermost.
pub async fn batch_reopens_upwards(s: Stage) {
    let server = s.server("a").await;
    let outer = s.new_batch();
    let mut inner = s.new_batch();
    inner.parent = Some(outer.id);
    let jobs = s.new_members(inner.id, 1);
    let member = ids(&s.store(vec![outer.clone(), inner.clone()], jobs).await)[0];
    server.run(member, success()).await;
    assert_eq!(s.batch_state(outer.id).await, BatchState::Succeeded);
    let _ = s.reschedule(member, secs(5)).await;
    for batch in [outer.id, inner.id] {
        assert_eq!(s.batch_state(batch).await, BatchState::Started);
        assert_eq!(s.members(batch).await, [1, 1, 0, 0, 0]);
    }
    let added = s.add_member(outer.id).await;
    let _ = s.delete(member).await;
    server.run(added, success()).await;
    assert_eq!(s.members(outer.id).await, [2, 0, 1, 0, 1], "the inner one has failed for good");
}

/// A final member that is deleted by hand counts as deleted; the end of its batch stays what it was.
pub async fn batch_delete_of_a_final_member(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(2).await;
    server.run(members[0], success()).await;
    let _ = s.delete(members[0]).await;
    assert_eq!(s.members(batch).await, [2, 1, 0, 0, 1]);
    server.run(members[1], failure()).await;
    let ended = s.batch_record(batch).await;
    let _ = s.delete(members[1]).await;
    assert_eq!(s.members(batch).await, [2, 0, 0, 0, 2]);
    let after = s.batch_record(batch).await;
    assert_eq!((after.state, after.ended_at), (BatchState::Failed, ended.ended_at));
}

/// A batch id that is stored already changes nothing; its members are found by their own ids.
pub async fn batch_repeat_of_the_create_changes_nothing(s: Stage) {
    let server = s.server("a").await;
    let mut batch = s.new_batch();
    let jobs = s.new_members(batch.id, 2);
    s.store(vec![batch.clone()], jobs.clone()).await;
    server.claim_one().await;
    let before = s.batch_record(batch.id).await;
    batch.description = "another".into();
    batch.open = true;
    let again = s.store(vec![batch.clone(), batch.clone()], jobs.clone()).await;
    assert!(again.iter().all(|created| created.existing));
    assert_eq!(s.batch_record(batch.id).await, before);
    let mut more = jobs.clone();
    more.push(s.new_member(batch.id));
    let again = s.store(vec![batch.clone()], more).await;
    assert_eq!(again.iter().filter(|created| created.existing).count(), 2);
    assert_eq!(s.members(batch.id).await, [3, 3, 0, 0, 0]);
    server.work_off().await;
}

/// A repeated create of a batch that has ended meanwhile finds it, and its members.
pub async fn batch_repeat_after_the_end_changes_nothing(s: Stage) {
    let server = s.server("a").await;
    let batch = s.new_batch();
    let jobs = s.new_members(batch.id, 2);
    s.store(vec![batch.clone()], jobs.clone()).await;
    server.work_off().await;
    let again = s.store(vec![batch.clone()], jobs).await;
    assert!(again.iter().all(|created| created.existing));
    assert_eq!(s.members(batch.id).await, [2, 0, 2, 0, 0]);
    assert_eq!(s.batch_state(batch.id).await, BatchState::Succeeded);
}

/// A member of a batch that is not there is refused, and so is a batch in one that is not there.
pub async fn batch_missing_is_refused(s: Stage) {
    let nowhere = s.new_batch().id;
    let refused = s.refused(vec![], vec![s.new_job(), s.new_member(nowhere)]).await;
    assert_eq!(refused, InvalidJob::NoBatch { batch: nowhere });
    let mut inner = s.new_batch();
    inner.parent = Some(nowhere);
    let refused = s.refused(vec![inner], vec![]).await;
    assert_eq!(refused, InvalidJob::NoBatch { batch: nowhere });
    // The outer one stands earlier in the call.
    let outer = s.new_batch();
    let mut inner = s.new_batch();
    inner.parent = Some(outer.id);
    let refused = s.refused(vec![inner, outer.clone()], vec![]).await;
    assert_eq!(refused, InvalidJob::NoBatch { batch: outer.id });
    let mut after = s.new_batch();
    after.after = vec![Dependency::on(nowhere)];
    let waiting = after.id.into();
    let refused = s.refused(vec![after], vec![]).await;
    assert_eq!(refused, InvalidJob::NoAntecedent { waiting, on: Antecedent::Batch(nowhere) });
}

/// A member that waits for the end of its own batch, or of one around it, would wait for ever: it is refused.
pub async fn batch_member_cannot_wait_for_its_own_batch(s: Stage) {
    let outer = s.new_batch();
    let mut inner = s.new_batch();
    inner.parent = Some(outer.id);
    for on in [inner.id, outer.id] {
        let mut member = s.new_member(inner.id);
        member.ties.after = vec![Dependency::on(on).after(After::End)];
        let refused = s.refused(vec![outer.clone(), inner.clone()], vec![member]).await;
        assert!(matches!(refused, InvalidJob::Batch { batch, .. } if batch == on), "{refused:?}");
    }
    let mut inner = inner.clone();
    inner.after = vec![Dependency::on(outer.id)];
    let refused = s.refused(vec![outer.clone(), inner], vec![]).await;
    assert!(matches!(refused, InvalidJob::Batch { batch, .. } if batch == outer.id), "{refused:?}");
}

/// A description over 200 bytes, too many dependencies and the same one twice are refused.
pub async fn batch_bounds(s: Stage) {
    let mut long = s.new_batch();
    long.description = "x".repeat(201);
    let refused = s.refused(vec![long.clone()], vec![]).await;
    assert!(matches!(refused, InvalidJob::Batch { batch, .. } if batch == long.id), "{refused:?}");
    let parents = s.enqueue(101).await;
    let mut many = s.new_batch();
    many.after = parents.iter().map(|&parent| Dependency::on(parent)).collect();
    let refused = s.refused(vec![many], vec![]).await;
    assert_eq!(refused, InvalidJob::TooManyDependencies { count: 101 });
    let mut twice = s.new_batch();
    twice.after = vec![Dependency::on(parents[0]); 2];
    let refused = s.refused(vec![twice], vec![]).await;
    assert!(matches!(refused, InvalidJob::DependencyTwice { .. }), "{refused:?}");
}

/// Batches stand in one another 100 deep, and no deeper.
pub async fn batch_depth_is_bounded(s: Stage) {
    let mut batches = vec![s.new_open_batch()];
    for level in 1..=BATCH_DEPTH_MAX {
        let mut inner = s.new_batch();
        inner.parent = Some(batches[level - 1].id);
        batches.push(inner);
    }
    let deepest = batches.pop().expect("the last");
    s.store(batches, vec![]).await;
    let id = deepest.id;
    let refused = s.refused(vec![deepest], vec![]).await;
    assert!(matches!(refused, InvalidJob::Batch { batch, .. } if batch == id), "{refused:?}");
}

/// Batches are listed the newest first, by state and by outer batch, over pages of any size.
pub async fn batches_are_listed(s: Stage) {
    let outer = s.new_open_batch();
    s.store(vec![outer.clone()], vec![]).await;
    let mut names = vec![outer.id];
    for n in 0..7 {
        s.advance(secs(1)).await;
        let mut batch = s.new_batch();
        batch.parent = (n % 2 == 0).then_some(outer.id);
        names.push(s.batch_of(batch, n % 3).await.0);
    }
    names.reverse();
    for max in [1, 3, 500] {
        let all = s.batches(BatchFilter { max, ..BatchFilter::default() }).await;
        assert_eq!(all.iter().map(|batch| batch.id).collect::<Vec<_>>(), names);
    }
    let mut nested = BatchFilter { parent: Some(outer.id), max: 2, ..BatchFilter::default() };
    assert_eq!(s.batches(nested.clone()).await.len(), 4);
    nested.state = Some(BatchState::Open);
    assert!(s.batches(nested).await.is_empty());
    let open = BatchFilter { state: Some(BatchState::Open), ..BatchFilter::default() };
    let open = s.batches(open).await;
    assert_eq!(open, [s.batch_record(outer.id).await]);
    let page = s.storage().batches(BatchFilter { max: 2, ..BatchFilter::default() }).await;
    assert_eq!(page.expect("read").batches.len(), 2);
}
