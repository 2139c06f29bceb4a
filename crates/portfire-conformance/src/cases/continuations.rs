//! Continuations: a job that waits for ends of others, and what becomes of it at those ends.

use portfire_core::{
    After, Antecedent, Cause, Changed, Continuation, Dependency, InvalidJob, JobId, JobState,
    NewJob, StateName, Timestamp, When,
};

use crate::server::{Server, discard, error, failure, finish, retry, success};
use crate::stage::{DAY, Stage, ids, kind, secs};

use StateName::{Awaiting, Deleted, Enqueued, Scheduled, Succeeded};

/// Stores a parent and a continuation of each sort, then ends the parent; where the continuations stand.
async fn ends(s: &Stage, server: &Server, outcome: portfire_core::Outcome) -> [StateName; 4] {
    let parent = s.enqueue_one().await;
    let mut children = Vec::new();
    for after in [After::Success, After::Failure, After::Deletion, After::End] {
        children.push(s.continue_on(parent, after).await);
    }
    server.run(parent, outcome).await;
    let mut states = [Awaiting; 4];
    for (state, child) in states.iter_mut().zip(children) {
        *state = s.state(child).await;
        if *state == Enqueued {
            let _ = s.delete(child).await;
        }
    }
    states
}

/// A continuation waits, invisible to claims, until its parent has succeeded; then it is enqueued.
pub async fn continue_on_success(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_with(parent).await;
    assert_eq!((s.state(child).await, s.pending(child).await), (Awaiting, 1));
    assert_eq!(s.causes(child).await, [Cause::Created]);
    let held = server.claim(10).await;
    assert_eq!(held.len(), 1, "the parent alone is given out");
    server.end(held[0].claim, success()).await;
    assert_eq!(s.causes(child).await, [Cause::Created, Cause::Continued]);
    assert_eq!(s.history(child).await[1].state, Enqueued);
    server.run(child, success()).await;
}

/// A job that is to run after a success does not run after a failure. It is deleted, for a reason that names the parent,
/// when the failed parent is deleted.
pub async fn continue_not_on_failure_deleted(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_with(parent).await;
    server.run(parent, failure()).await;
    assert_eq!(s.state(child).await, Awaiting);
    let _ = s.delete(parent).await;
    let reason = Dependency::on(parent).unmet_reason(Deleted);
    assert_eq!((s.state(child).await, s.reason(child).await), (Deleted, reason.clone()));
    let entry = s.history(child).await.pop().expect("an entry");
    assert_eq!((entry.cause, entry.reason), (Cause::Deleted, Some(reason)));
    let JobState::Deleted { expires_at, .. } = s.record(child).await.state else { panic!() };
    assert_eq!(
        expires_at,
        Some(entry.at.saturating_add(DAY)),
        "it expires as what is deleted does"
    );
    assert_eq!(s.counts().await.deleted_total, 2);
}

/// A job that is to run after the end runs after each sort of it.
pub async fn continue_on_any_final(s: Stage) {
    let server = s.server("a").await;
    for outcome in [success(), failure(), discard()] {
        assert_eq!(ends(&s, &server, outcome).await[3], Enqueued);
    }
    let parent = s.enqueue_one().await;
    let child = s.continue_on(parent, After::End).await;
    let _ = s.delete(parent).await;
    assert_eq!(s.state(child).await, Enqueued);
}

/// A job that is to run after a failure runs after that alone.
pub async fn continue_on_failed_only(s: Stage) {
    let server = s.server("a").await;
    assert_eq!(ends(&s, &server, success()).await[1], Deleted);
    assert_eq!(ends(&s, &server, failure()).await[1], Enqueued);
    assert_eq!(ends(&s, &server, discard()).await[1], Deleted);
}

/// A job that is to run after a deletion runs after that and after a discard alone. A failed parent may still be deleted.
pub async fn continue_on_deleted(s: Stage) {
    let server = s.server("a").await;
    assert_eq!(ends(&s, &server, success()).await[2], Deleted);
    assert_eq!(ends(&s, &server, failure()).await[2], Awaiting);
    assert_eq!(ends(&s, &server, discard()).await[2], Enqueued);
    let parent = s.schedule(secs(60)).await;
    let child = s.continue_on(parent, After::Deletion).await;
    let _ = s.delete(parent).await;
    assert_eq!(s.state(child).await, Enqueued);
}

/// A continuation of a parent that has ended as it was to is created as if it waited for nothing.
pub async fn continue_added_after_final_runs_now(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    server.run(parent, success()).await;
    let child = s.continue_with(parent).await;
    assert_eq!(s.causes(child).await, [Cause::Created]);
    let mut delayed = s.new_after([Dependency::on(parent)]);
    delayed.when = When::In(secs(60));
    let delayed = s.create_one(delayed).await;
    assert_eq!((s.state(child).await, s.state(delayed).await), (Enqueued, Scheduled));
    assert_eq!(s.causes(delayed).await, [Cause::Created]);
    server.run(child, success()).await;
}

/// A continuation of a parent that has ended otherwise is created awaiting, and deleted in the same commit.
pub async fn continue_added_after_final_otherwise_is_deleted(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    server.run(parent, discard()).await;
    let child = s.new_after([Dependency::on(parent)]);
    let created = s.create(vec![child.clone()]).await[0];
    assert_eq!((created.id, created.existing), (child.id, false));
    let history = s.history(child.id).await;
    let steps: Vec<_> = history.iter().map(|entry| (entry.cause, entry.state)).collect();
    assert_eq!(steps, [(Cause::Created, Awaiting), (Cause::Deleted, Deleted)]);
    assert_eq!(s.reason(child.id).await, Dependency::on(parent).unmet_reason(Deleted));
    s.expect_count(Deleted, 2).await;
}

/// The present state of a parent counts: one that was requeued has not ended.
pub async fn continue_of_a_requeued_parent_waits(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    server.run(parent, failure()).await;
    let _ = s.requeue(parent).await;
    let child = s.continue_with(parent).await;
    assert_eq!(s.state(child).await, Awaiting);
    server.run(parent, success()).await;
    assert_eq!(s.state(child).await, Enqueued);
}

/// A job that waits for what is not there is refused, by both names, and nothing of its call is stored.
pub async fn continue_parent_missing_error(s: Stage) {
    let (missing, nowhere) = (s.id(), s.new_batch().id);
    for on in [Antecedent::Job(missing), Antecedent::Batch(nowhere)] {
        let child = s.new_after([Dependency::on(on)]);
        let id = child.id;
        let refused = s.refused(vec![], vec![s.new_job(), child]).await;
        assert_eq!(refused, InvalidJob::NoAntecedent { waiting: id.into(), on });
    }
    assert_eq!(s.queue("default").await, None, "a refused job makes no queue");
}

/// What is waited for stands earlier in the call: so no job waits for itself, and no circle closes.
pub async fn continue_order_within_a_call_counts(s: Stage) {
    let parent = s.new_job();
    let child = s.new_after([Dependency::on(parent.id)]);
    let refused = s.refused(vec![], vec![child.clone(), parent.clone()]).await;
    assert_eq!(
        refused,
        InvalidJob::NoAntecedent { waiting: child.id.into(), on: parent.id.into() }
    );
    let mut own_tail = s.new_job();
    own_tail.ties.after = vec![Dependency::on(own_tail.id)];
    let refused = s.refused(vec![], vec![own_tail]).await;
    assert!(matches!(refused, InvalidJob::NoAntecedent { .. }), "{refused:?}");
    s.create(vec![parent, child.clone()]).await;
    assert_eq!(s.state(child.id).await, Awaiting);
}

/// A parent that was cleaned is there no more.
pub async fn continue_of_a_cleaned_parent_is_refused(s: Stage) {
    let server = s.server_with_lease("a", 3 * DAY).await;
    let parent = s.enqueue_one().await;
    server.run(parent, success()).await;
    s.advance(DAY).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    let refused = s.refused(vec![], vec![s.new_after([Dependency::on(parent)])]).await;
    assert!(matches!(refused, InvalidJob::NoAntecedent { .. }), "{refused:?}");
}

/// More than 100 things to wait for are refused, and so is the same thing twice.
pub async fn continue_bounds_of_dependencies(s: Stage) {
    let parents = s.enqueue(101).await;
    let on = |jobs: &[JobId]| jobs.iter().map(|&job| Dependency::on(job)).collect::<Vec<_>>();
    let refused = s.refused(vec![], vec![s.new_after(on(&parents))]).await;
    assert_eq!(refused, InvalidJob::TooManyDependencies { count: 101 });
    let twice = [Dependency::on(parents[0]), Dependency::on(parents[0]).after(After::End)];
    let refused = s.refused(vec![], vec![s.new_after(twice)]).await;
    assert_eq!(refused, InvalidJob::DependencyTwice { on: parents[0].into() });
    let child = s.create_one(s.new_after(on(&parents[..100]))).await;
    assert_eq!(s.pending(child).await, 100);
    let server = s.server("a").await;
    for (n, claimed) in server.claim(99).await.into_iter().enumerate() {
        server.end(claimed.claim, success()).await;
        assert_eq!(s.pending(child).await, 99 - n as u32);
    }
    server.run(parents[99], success()).await;
    assert_eq!(s.state(child).await, Enqueued);
}

/// A hundred children are released in the order of their creation by the call that ends the parent.
pub async fn continue_many_children(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let mut children = s.continue_many(parent, 99).await;
    children.push(s.continue_with(parent).await);
    let held = server.claim_job(parent).await;
    let finished = vec![finish(held.claim, success())];
    let cycle = server.cycle(portfire_core::CycleRequest { finished, ..server.wish(1_000) }).await;
    let claimed: Vec<_> = cycle.claimed.iter().map(|job| job.claim.job).collect();
    assert_eq!(claimed, children, "what a cycle releases it can claim");
}

/// A chain that is stored in one call runs link by link, in order.
pub async fn continue_chain_10(s: Stage) {
    let server = s.server("a").await;
    let mut chain = vec![s.new_job()];
    for n in 1..10 {
        let before: &NewJob = &chain[n - 1];
        chain.push(s.new_after([Dependency::on(before.id)]));
    }
    let links = ids(&s.create(chain).await);
    for (n, &link) in links.iter().enumerate() {
        s.expect_count(Awaiting, 9 - n as u64).await;
        let claimed = server.claim(10).await;
        assert_eq!(claimed.len(), 1, "one link at a time");
        assert_eq!(claimed[0].claim.job, link);
        server.end(claimed[0].claim, success()).await;
    }
    s.expect_count(Succeeded, 10).await;
}

/// A job of several parents waits for all of them, in any order of their ends.
pub async fn continue_diamond_all_parents(s: Stage) {
    let server = s.server("a").await;
    let top = s.enqueue_one().await;
    let sides = s.continue_many(top, 2).await;
    let bottom = s.create_one(s.new_after(sides.iter().map(|&side| Dependency::on(side)))).await;
    assert_eq!(s.pending(bottom).await, 2);
    server.run(top, success()).await;
    let held = server.claim(10).await;
    assert_eq!(held.len(), 2);
    server.end(held[1].claim, success()).await;
    assert_eq!((s.state(bottom).await, s.pending(bottom).await), (Awaiting, 1));
    assert_eq!(s.record(bottom).await.revision, 1, "waiting for less is no transition");
    server.end(held[0].claim, success()).await;
    assert_eq!(s.causes(bottom).await, [Cause::Created, Cause::Continued]);
    server.run(bottom, success()).await;
}

/// The ends of several parents in one cycle count one by one.
pub async fn continue_diamond_ended_in_one_call(s: Stage) {
    let server = s.server("a").await;
    let sides = s.enqueue(2).await;
    let bottom = s.create_one(s.new_after(sides.iter().map(|&side| Dependency::on(side)))).await;
    let held = server.claim(2).await;
    let both = held.iter().map(|job| finish(job.claim, success())).collect();
    server.finish_all(both).await;
    assert_eq!(s.causes(bottom).await, [Cause::Created, Cause::Continued]);
}

/// One parent that ended otherwise decides: the job is deleted at once, and the rest changes nothing.
pub async fn continue_diamond_one_unmet_deletes(s: Stage) {
    let server = s.server("a").await;
    let sides = s.enqueue(2).await;
    let bottom = s.create_one(s.new_after(sides.iter().map(|&side| Dependency::on(side)))).await;
    server.run(sides[0], discard()).await;
    assert_eq!(s.reason(bottom).await, Dependency::on(sides[0]).unmet_reason(Deleted));
    server.run(sides[1], success()).await;
    assert_eq!(s.record(bottom).await.revision, 2);
    // Some of what is waited for may have ended before the job is created.
    let third = s.enqueue_one().await;
    let mixed = [Dependency::on(sides[1]), Dependency::on(third)];
    let mixed = s.create_one(s.new_after(mixed)).await;
    assert_eq!(s.pending(mixed).await, 1);
    server.run(third, success()).await;
    assert_eq!(s.state(mixed).await, Enqueued);
}

/// The first end counts: a parent that is requeued and ends again releases nothing twice.
pub async fn continue_fires_once_after_requeue(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_with(parent).await;
    server.run(parent, success()).await;
    server.run(child, success()).await;
    let _ = s.requeue(parent).await;
    server.run(parent, success()).await;
    assert_eq!((s.state(child).await, s.record(child).await.revision), (Succeeded, 4));
    assert!(server.claim(10).await.is_empty());
}

/// What the first end has deleted a second end does not bring back.
pub async fn continue_deleted_stays_deleted_after_requeue(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_with(parent).await;
    server.run(parent, discard()).await;
    let _ = s.requeue(parent).await;
    server.run(parent, success()).await;
    assert_eq!((s.state(child).await, s.record(child).await.revision), (Deleted, 2));
}

/// An attempt that is retried, snoozed, parked or given back is no end.
pub async fn continue_waits_for_the_last_attempt(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_on(parent, After::End).await;
    let waits = [
        retry(0),
        portfire_core::Outcome::Snoozed { delay: secs(0) },
        portfire_core::Outcome::Parked { delay: secs(0) },
        portfire_core::Outcome::Released,
    ];
    for outcome in waits {
        server.run(parent, outcome).await;
        s.promote().await;
        assert_eq!(s.state(child).await, Awaiting);
    }
    server.run(parent, failure()).await;
    assert_eq!(s.state(child).await, Enqueued);
}

/// A parent that is given up by a rescue has failed, and the rescue releases what waits for that.
pub async fn continue_of_a_poisoned_parent(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_on(parent, After::Failure).await;
    server.claim_one().await;
    s.lapse().await;
    let at_once = portfire_core::RescueRequest { recoveries_max: 0, ..Default::default() };
    assert_eq!(s.rescue_with(at_once).await.poisoned, 1);
    assert_eq!(s.state(child).await, Enqueued);
}

/// A parent that is returned by a rescue or a retirement has not ended.
pub async fn continue_of_a_returned_parent_waits(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_on(parent, After::End).await;
    server.claim_one().await;
    s.lapse().await;
    assert_eq!(s.rescue().await.returned, 1);
    let next = s.server("b").await;
    next.claim_job(parent).await;
    next.retire().await;
    assert_eq!(s.state(child).await, Awaiting);
}

/// A child that is deleted by hand stays deleted when its parent ends.
pub async fn continue_child_deleted_before_parent(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_with(parent).await;
    assert_eq!(s.delete(child).await, Changed::Applied { from: Awaiting, revision: 2 });
    server.run(parent, success()).await;
    assert_eq!((s.state(child).await, s.record(child).await.revision), (Deleted, 2));
    let _ = s.requeue(child).await;
    assert_eq!(s.state(child).await, Enqueued, "by hand it runs, whatever it waited for");
}

/// A child that is asked for by hand waits no longer, and its parent's end leaves it alone.
pub async fn continue_child_requeued_before_parent(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let (now, later) = (s.continue_with(parent).await, s.continue_with(parent).await);
    assert_eq!(s.requeue(now).await, Changed::Applied { from: Awaiting, revision: 2 });
    let moved = s.reschedule(later, secs(60)).await;
    assert_eq!(moved, Changed::Applied { from: Awaiting, revision: 2 });
    assert_eq!((s.state(now).await, s.state(later).await), (Enqueued, Scheduled));
    server.run(parent, failure()).await;
    assert_eq!((s.state(now).await, s.state(later).await), (Enqueued, Scheduled));
    server.run(now, success()).await;
}

/// A stale finish of the parent releases nothing.
pub async fn continue_fenced_parent_does_not_fire(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let parent = s.enqueue_one().await;
    let child = s.continue_on(parent, After::End).await;
    let stale = server.claim_job(parent).await;
    server.end(stale.claim, portfire_core::Outcome::Released).await;
    let held = server.claim_job(parent).await;
    let verdict = server.finish(stale.claim, success()).await;
    assert_eq!(verdict, portfire_core::Verdict::Fenced);
    assert_eq!((s.state(child).await, s.record(child).await.revision), (Awaiting, 1));
    server.end(held.claim, success()).await;
    assert_eq!(s.state(child).await, Enqueued);
}

/// A delay counts from the release, and an instant that has passed then is now.
pub async fn continue_scheduled_next_state(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let mut delayed = s.new_after([Dependency::on(parent)]);
    delayed.when = When::In(secs(60));
    let mut passed = s.new_after([Dependency::on(parent)]);
    passed.when = When::At(s.now().await.saturating_add(secs(5)));
    let made = ids(&s.create(vec![delayed, passed]).await);
    s.advance(secs(10)).await;
    server.run(parent, success()).await;
    let history = s.history(made[0]).await;
    assert_eq!((history[1].cause, history[1].state), (Cause::Continued, Scheduled));
    assert_eq!(history[1].run_at, Some(history[1].at.saturating_add(secs(60))));
    let JobState::Scheduled { run_at, cause } = s.record(made[0]).await.state else { panic!() };
    assert_eq!((Some(run_at), cause), (history[1].run_at, Cause::Continued));
    server.run(made[1], success()).await;
    s.advance(secs(60)).await;
    assert_eq!(s.promote().await.promoted, 1);
    server.run(made[0], success()).await;
}

/// A released job goes to its own queue, by its own rank, behind those that wait there.
pub async fn continue_goes_to_its_own_queue_and_rank(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let mut elsewhere = s.new_after([Dependency::on(parent)]);
    elsewhere.queue = crate::stage::queue("mail");
    elsewhere.kind = kind("send");
    let mut first = s.new_after([Dependency::on(parent)]);
    first.priority = 5;
    let made = ids(&s.create(vec![s.new_after([Dependency::on(parent)]), first, elsewhere]).await);
    let held = server.claim_job(parent).await;
    let before = s.enqueue_one().await;
    server.end(held.claim, success()).await;
    let order: Vec<_> = server.claim(10).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, [made[1], before, made[0]]);
    let mail = server.claim_from(&["mail"], 10).await;
    assert_eq!(mail.iter().map(|job| job.claim.job).collect::<Vec<_>>(), [made[2]]);
}

/// Jobs that wait or waited are listed in the order of their creation, with where they stand.
pub async fn continuations_are_listed(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let mut expected = Vec::new();
    for after in [After::End, After::Failure, After::Success] {
        let job = s.continue_on(parent, after).await;
        expected.push(Continuation { job, after, state: Awaiting });
    }
    assert_eq!(s.continuations(parent).await, expected);
    server.run(parent, success()).await;
    expected[0].state = Enqueued;
    expected[1].state = Deleted;
    expected[2].state = Enqueued;
    assert_eq!(s.continuations(parent).await, expected);
    let two = s.storage().continuations(parent.into(), 2).await.expect("read");
    assert_eq!(two, expected[..2]);
    assert_eq!(s.continuations(s.id()).await, []);
}

/// A repeated create of a continuation changes nothing, wherever it stands meanwhile.
pub async fn continue_repeat_of_the_create_changes_nothing(s: Stage) {
    let server = s.server_with_lease("a", 3 * DAY).await;
    let parent = s.enqueue_one().await;
    let child = s.new_after([Dependency::on(parent)]);
    for _ in 0..2 {
        s.create(vec![child.clone()]).await;
        assert_eq!((s.state(child.id).await, s.pending(child.id).await), (Awaiting, 1));
    }
    server.run(parent, success()).await;
    assert!(s.create(vec![child.clone()]).await[0].existing);
    assert_eq!(s.record(child.id).await.revision, 2);
    s.advance(DAY).await;
    s.clean(10).await;
    assert_eq!(s.find(parent).await, None);
    let again = s.create(vec![child.clone()]).await;
    assert!(again[0].existing, "of a job that is stored nothing more is looked at");
}

/// A listener that idles hears of what an end releases.
pub async fn continue_wakes_idle_worker(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    s.continue_on(parent, After::Deletion).await;
    let held = server.claim_job(parent).await;
    let mut wakeups = s.storage().wakeups();
    let _ = s.delete(held.claim.job).await;
    s.heard(wakeups.work(), "the released job").await;
}

/// What a job waits for is part of it, for readers and workers.
pub async fn continue_ties_are_kept(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let batch = s.batch(0).await.0;
    let after = [Dependency::on(parent).after(After::End).passing(), Dependency::on(batch)];
    let child = s.new_after(after);
    s.create(vec![child.clone()]).await;
    assert_eq!(s.record(child.id).await.ties, child.ties);
    server.run(parent, success()).await;
    let claimed = server.claim_job(child.id).await;
    assert_eq!(claimed.ties, child.ties);
    assert_eq!(s.list(portfire_core::JobFilter::default()).await[0].ties, child.ties);
}

/// Time, promotion, rescue and cleaning leave a job that waits where it is.
pub async fn continue_waits_for_nothing_else(s: Stage) {
    let parent = s.schedule(When::At(Timestamp::MAX)).await;
    let child = s.continue_with(parent).await;
    for _ in 0..3 {
        s.advance(30 * DAY).await;
        s.promote().await;
        s.rescue().await;
        s.clean(100).await;
    }
    assert_eq!((s.state(child).await, s.record(child).await.revision), (Awaiting, 1));
}

/// An error of the parent that was discarded, with its message, ends it as deleted.
pub async fn continue_on_a_discard_with_an_error(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_on(parent, After::Deletion).await;
    let outcome = portfire_core::Outcome::Discarded { reason: "gone".into(), error: Some(error()) };
    server.run(parent, outcome).await;
    assert_eq!(s.state(child).await, Enqueued);
}

/// A delay that would end after the year 9999 ends at the last instant there is.
pub async fn continue_absurd_delay_is_cut(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let mut child = s.new_after([Dependency::on(parent)]);
    let now = s.now().await;
    child.when = When::In(Timestamp::MAX.since(now));
    let child = s.create_one(child).await;
    s.advance(secs(10)).await;
    server.run(parent, success()).await;
    let JobState::Scheduled { run_at, .. } = s.record(child).await.state else { panic!() };
    assert_eq!(run_at, Timestamp::MAX);
}
