//! Every call can be repeated when nobody knows whether it was applied: what the second one finds and changes.

use portfire_core::{
    BatchChanged, BatchState, Dependency, Fired, JobId, LimitRule, LimitTarget, LockAnswer,
    RecurringChange, RecurringChanged, StateName,
};

use crate::server::success;
use crate::stage::{Stage, every, limit, name, recurring, secs, under};
use crate::wait::poll_once;

use RecurringChanged::{Applied, Missing, Pruned, Triggered, Unchanged};

/// A create of batches, chains and keys that was dropped half-way and is repeated has stored all of it once.
pub async fn repeat_of_a_dropped_create_with_ties(s: Stage) {
    for _ in 0..20 {
        let batch = s.new_batch();
        let mut jobs = s.new_members(batch.id, 3);
        jobs.push(s.new_after([Dependency::on(batch.id), Dependency::on(jobs[0].id)]));
        jobs[1].ties.limits = vec![under("l")];
        jobs[2].ties.unique = {
            let key = format!("k{}", jobs[2].id);
            let (scope, conflict) = Default::default();
            Some(portfire_core::UniqueKey { key, scope, conflict })
        };
        let before = s.counts().await.created_total;
        poll_once(s.storage().create_batches(vec![batch.clone()], jobs.clone())).await;
        let created = s.store(vec![batch.clone()], jobs.clone()).await;
        let ids: Vec<_> = created.iter().map(|created| created.id).collect();
        assert_eq!(ids, jobs.iter().map(|job| job.id).collect::<Vec<_>>());
        assert_eq!(s.members(batch.id).await, [3, 3, 0, 0, 0]);
        assert_eq!(s.pending(jobs[3].id).await, 2);
        assert_eq!(s.counts().await.created_total, before + 4);
    }
}

/// A finish whose answer was lost, repeated, releases nothing a second time.
pub async fn repeat_of_a_finish_releases_once(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(1).await;
    let callback = s.continue_with(batch).await;
    let child = s.continue_with(members[0]).await;
    let held = server.claim_job(members[0]).await;
    server.end(held.claim, success()).await;
    let again = server.finish(held.claim, success()).await;
    assert_eq!(again, portfire_core::Verdict::Already);
    assert_eq!(s.members(batch).await, [1, 0, 1, 0, 0]);
    for job in [callback, child] {
        assert_eq!((s.state(job).await, s.record(job).await.revision), (StateName::Enqueued, 2));
    }
}

/// A seal and a cancellation that are repeated change nothing the second time.
pub async fn repeat_of_a_batch_change(s: Stage) {
    let (batch, _) = s.batch_of(s.new_open_batch(), 1).await;
    assert_eq!(s.seal(batch).await, BatchChanged::Applied(BatchState::Started));
    let before = s.batch_record(batch).await;
    assert_eq!(s.seal(batch).await, BatchChanged::Unchanged(BatchState::Started));
    assert_eq!(s.batch_record(batch).await, before);
    assert_eq!(s.cancel(batch).await, BatchChanged::Applied(BatchState::Cancelling));
    assert_eq!(s.cancel(batch).await, BatchChanged::Unchanged(BatchState::Cancelling));
    s.promote_all().await;
    assert_eq!(s.cancel(batch).await, BatchChanged::Unchanged(BatchState::Cancelled));
    assert_eq!(s.promote_all().await.released, 0);
}

/// Every change of recurring jobs, repeated, says that it was so already and changes nothing.
pub async fn repeat_of_a_recurring_change(s: Stage) {
    let mut definition = recurring("r", every(60));
    definition.declared = true;
    let job = s.id();
    let prune = RecurringChange::Prune { app: String::new(), keep: vec![] };
    let steps: [(RecurringChange, RecurringChanged); 6] = [
        (RecurringChange::Upsert(Box::new(definition)), Unchanged),
        (RecurringChange::Trigger { id: name("r"), job }, Triggered(job)),
        (RecurringChange::Pause { id: name("r"), until: None }, Unchanged),
        (RecurringChange::Resume(name("r")), Unchanged),
        (prune, Pruned(0)),
        (RecurringChange::Remove(name("r")), Missing),
    ];
    for (change, repeated) in steps {
        let first = s.recur(change.clone()).await;
        let expected = matches!(first, Applied { .. } | Triggered(_) | Pruned(1) | Missing);
        assert!(expected, "{change:?}: {first:?}");
        let before = (s.find_recurring("r").await, s.runs("r").await, s.counts().await);
        assert_eq!(s.recur(change.clone()).await, repeated, "{change:?}");
        let after = (s.find_recurring("r").await, s.runs("r").await, s.counts().await);
        assert_eq!(after, before, "{change:?}");
    }
}

/// Plans that are repeated are stale, and the ids of their jobs are known beforehand.
pub async fn repeat_of_a_fire(s: Stage) {
    let first = s.define(&recurring("r", every(60))).await.expect("it has instants");
    s.advance_to(first).await;
    let plans = s.plans().await;
    let jobs = vec![JobId::of_occurrence(&name("r"), first)];
    assert_eq!(s.fire(plans.clone()).await, [Fired::Applied { jobs: jobs.clone() }]);
    assert_eq!(s.fire(plans).await, [Fired::Stale]);
    assert_eq!(s.record(jobs[0]).await.revision, 1);
}

/// A limit that is set again as it is changes nothing.
pub async fn repeat_of_a_limit(s: Stage) {
    let server = s.server("a").await;
    let rule = LimitRule::concurrency(1);
    s.set_limit("l", Some(rule)).await;
    s.enqueue_under("l", 3).await;
    assert_eq!(server.claim(10).await.len(), 1);
    s.set_limit("l", Some(rule)).await;
    assert_eq!(s.line("l").await, (1, 2));
    assert!(server.claim(10).await.is_empty());
    for _ in 0..2 {
        s.set_limit("l", None).await;
        let target = LimitTarget::Named(limit("l"));
        let limits = s.storage().limits().await.expect("read");
        assert!(limits.iter().all(|record| record.target != target));
    }
}

/// A lock that is asked for again by its holder is the same grant; a release that is repeated says that it is over.
pub async fn repeat_of_a_lock(s: Stage) {
    let fence = s.hold("l", "a", secs(10)).await;
    assert_eq!(s.hold("l", "a", secs(10)).await, fence);
    let first = s.renew("l", fence, secs(20)).await;
    assert_eq!(s.renew("l", fence, secs(20)).await, first);
    assert_eq!(s.release("l", fence).await, LockAnswer::Released);
    assert_eq!(s.release("l", fence).await, LockAnswer::Lost);
}

/// A cycle that claims the last slot of a limit, repeated, answers that claim again and takes no other.
pub async fn repeat_of_a_claim_takes_one_slot(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::concurrency(2))).await;
    s.enqueue_under("l", 4).await;
    let wish = server.wish(1);
    let first = server.cycle(wish.clone()).await.claimed;
    let again = portfire_core::CycleRequest { repeated: true, ..wish };
    assert_eq!(server.cycle(again).await.claimed, first);
    assert_eq!(s.line("l").await.0, 1);
}
