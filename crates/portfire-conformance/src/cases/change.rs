//! Explicit changes: requeue, delete and reschedule, from every state and under every condition.

use portfire_core::{
    Action, Cause, Change, Changed, Conflict, Expect, InvalidJob, JobState, Outcome, Refusal,
    StateName, StorageError, Timestamp, UniqueScope, Verdict, When,
};

use crate::server::{failure, retry, success};
use crate::stage::{DAY, Stage, secs};

use StateName::{Awaiting, Deleted, Enqueued, Failed, Processing, Scheduled, Succeeded};

fn delete() -> Action {
    Action::Delete { reason: "not wanted".into() }
}

fn later() -> Action {
    Action::Reschedule(When::In(secs(600)))
}

/// Every edge that the table of states allows for an explicit change is taken.
pub async fn transition_table_exhaustive_allowed(s: Stage) {
    let allowed = [
        (Action::Requeue, vec![Scheduled, Awaiting, Succeeded, Failed, Deleted], Enqueued),
        (delete(), vec![Scheduled, Awaiting, Enqueued, Processing, Succeeded, Failed], Deleted),
        (later(), vec![Scheduled, Awaiting, Enqueued, Succeeded, Failed, Deleted], Scheduled),
    ];
    for (action, states, to) in allowed {
        for from in states {
            let id = s.job_in(from).await.expect("a way leads there");
            let revision = s.record(id).await.revision + 1;
            let changed = s.change(id, action.clone()).await;
            assert_eq!(changed, Changed::Applied { from, revision }, "{action:?} of {from}");
            let record = s.record(id).await;
            assert_eq!((record.state.name(), record.revision), (to, revision));
        }
    }
}

/// Every other explicit change is answered by name and writes nothing.
pub async fn transition_table_exhaustive_denied(s: Stage) {
    let denied = [
        (Action::Requeue, Enqueued, None),
        (Action::Requeue, Processing, Some("requeued")),
        (delete(), Deleted, None),
        (later(), Processing, Some("rescheduled")),
    ];
    for (action, from, refused) in denied {
        let id = s.job_in(from).await.expect("a way leads there");
        let before = (s.record(id).await, s.history(id).await, s.counts().await);
        match (s.change(id, action.clone()).await, refused) {
            (Changed::Unchanged, None) => {}
            (Changed::Refused(refusal), Some(verb)) => {
                assert_eq!((refusal.state, refusal.verb), (from, verb));
            }
            (other, _) => panic!("{action:?} of {from}: {other:?}"),
        }
        assert_eq!((s.record(id).await, s.history(id).await, s.counts().await), before);
    }
}

/// A change that expects a revision is applied at that revision only.
pub async fn transition_expected_revision_cas(s: Stage) {
    let id = s.enqueue_one().await;
    let at = |revision| Some(Expect::Revision(revision));
    for wrong in [0, 2, u32::MAX] {
        let answer = s.change_if(id, delete(), at(wrong)).await;
        assert_eq!(answer, Changed::Unexpected { state: Enqueued, revision: 1 });
    }
    let answer = s.change_if(id, delete(), at(1)).await;
    assert_eq!(answer, Changed::Applied { from: Enqueued, revision: 2 });
    let answer = s.change_if(id, Action::Requeue, at(1)).await;
    assert_eq!(answer, Changed::Unexpected { state: Deleted, revision: 2 });
}

/// Of many that change a job from one revision exactly one wins.
pub async fn transition_concurrent_one_wins(s: Stage) {
    let id = s.enqueue_one().await;
    let racers: Vec<_> = (0..16)
        .map(|n| {
            let s = s.clone();
            let action = if n % 2 == 0 { delete() } else { later() };
            tokio::spawn(async move { s.change_if(id, action, Some(Expect::Revision(1))).await })
        })
        .collect();
    let mut applied = 0;
    for racer in racers {
        match racer.await.expect("the racer ends") {
            Changed::Applied { from: Enqueued, revision: 2 } => applied += 1,
            Changed::Unexpected { revision: 2, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((applied, s.record(id).await.revision), (1, 2));
}

/// Time, promotion, rescue and claims leave a final job where it is.
pub async fn final_not_left_automatically(s: Stage) {
    let mut standing = Vec::new();
    for state in [Succeeded, Failed, Deleted] {
        standing.push(s.job_in(state).await.expect("a way leads there"));
    }
    let server = s.server("a").await;
    for _ in 0..5 {
        s.advance(secs(3_600)).await;
        s.promote().await;
        s.rescue().await;
        s.clean(100).await;
        if server.heartbeat(&[]).await.is_ok() {
            assert!(server.claim(10).await.is_empty());
        }
    }
    let mut states = Vec::new();
    for id in standing {
        states.push(s.state(id).await);
    }
    assert_eq!(states, [Succeeded, Failed, Deleted]);
}

/// A failed job that is asked for again waits at the end of its queue.
pub async fn requeue_failed(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, failure()).await;
    assert!(s.requeue(id).await.is_done());
    let claimed = server.claim_one().await;
    assert_eq!((claimed.claim.job, claimed.failures), (id, 0));
    server.end(claimed.claim, success()).await;
}

/// A succeeded job that is asked for again runs again.
pub async fn requeue_succeeded(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, success()).await;
    assert!(s.requeue(id).await.is_done());
    server.end(server.claim_one().await.claim, success()).await;
    assert_eq!(s.counts().await.succeeded_total, 2);
    assert_eq!(s.counts().await.created_total, 1);
}

/// A deleted job that is asked for again runs.
pub async fn requeue_deleted(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let _ = s.delete(id).await;
    assert!(s.requeue(id).await.is_done());
    assert_eq!(server.claim_one().await.claim.job, id);
}

/// A requeue takes the job's expiry away: it is cleaned only after its next end.
pub async fn requeue_clears_expiry(s: Stage) {
    let id = s.job_in(Succeeded).await.expect("a way leads there");
    let _ = s.requeue(id).await;
    s.advance(30 * DAY).await;
    assert_eq!(s.clean(100).await.jobs, 0);
    assert_eq!(s.state(id).await, Enqueued);
}

/// A requeue of a final job begins a new run; the attempts go on, so that old claims stay fenced.
pub async fn requeue_starts_new_run_counters(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, retry(0)).await;
    s.promote().await;
    let last = server.claim_one().await;
    server.end(last.claim, failure()).await;
    assert_eq!(s.record(id).await.failures, 2);
    let _ = s.requeue(id).await;
    let record = s.record(id).await;
    assert_eq!((record.failures, record.recoveries, record.attempt), (0, 0, 2));
    assert_eq!(server.claim_one().await.claim.attempt, 3);
    assert_eq!(server.finish(last.claim, success()).await, Verdict::Fenced);
}

/// A requeue of a job that waits for its retry starts it early, in the same run.
pub async fn requeue_scheduled_keeps_failures(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, retry(3_600)).await;
    assert!(s.requeue(id).await.is_done());
    let claimed = server.claim_one().await;
    assert_eq!((claimed.claim.job, claimed.failures), (id, 1));
    s.advance(secs(3_600)).await;
    assert_eq!(s.promote().await.promoted, 0, "its old instant is forgotten");
}

/// A requeue of a job that is in its queue leaves it at its place.
pub async fn requeue_enqueued_unchanged(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(2).await;
    assert_eq!(s.requeue(ids[0]).await, Changed::Unchanged);
    assert_eq!(server.claim_one().await.claim.job, ids[0]);
}

/// Whatever moves a job, its queue, rank, kind, args and options stay.
pub async fn changes_keep_the_body(s: Stage) {
    let mut job = s.new_job_in("mail");
    job.priority = 3;
    job.args = crate::stage::json("{\"a\": 1}");
    job.options.tags = vec!["t".into()];
    s.create(vec![job.clone()]).await;
    for action in [delete(), Action::Requeue, later(), Action::Requeue] {
        assert!(matches!(s.change(job.id, action).await, Changed::Applied { .. }));
        let record = s.record(job.id).await;
        assert_eq!((&record.queue, record.priority, &record.kind), (&job.queue, 3, &job.kind));
        assert_eq!((&record.args, &record.options), (&job.args, &job.options));
    }
    let server = s.server("a").await;
    assert_eq!(server.claim_from(&["mail"], 1).await[0].args, job.args);
}

/// A running job cannot be asked for again: it has not ended.
pub async fn requeue_processing_refused(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    assert!(matches!(s.requeue(id).await, Changed::Refused(_)));
    server.end(held.claim, success()).await;
}

/// A requeued job is announced to those that idle.
pub async fn requeue_wakes_idle_worker(s: Stage) {
    let id = s.job_in(Failed).await.expect("a way leads there");
    let mut wakeups = s.storage().wakeups();
    let _ = s.requeue(id).await;
    s.heard(wakeups.work(), "the requeued job").await;
}

/// A deleted job leaves its queue at once.
pub async fn delete_enqueued(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    assert_eq!(s.delete(id).await, Changed::Applied { from: Enqueued, revision: 2 });
    assert!(server.claim(1).await.is_empty());
    s.expect_count(Enqueued, 0).await;
    s.expect_count(Deleted, 1).await;
}

/// A deleted job does not come up when its instant would have come.
pub async fn delete_scheduled_removes_schedule(s: Stage) {
    let id = s.schedule(secs(10)).await;
    let _ = s.delete(id).await;
    s.advance(secs(20)).await;
    let promoted = s.promote().await;
    assert_eq!((promoted.promoted, promoted.next_in), (0, None));
    assert_eq!(s.state(id).await, Deleted);
}

/// The reason of a deletion is kept, whatever it says.
pub async fn delete_keeps_reason(s: Stage) {
    for text in crate::odd::TEXTS {
        let id = s.enqueue_one().await;
        let _ = s.change(id, Action::Delete { reason: (*text).to_owned() }).await;
        let JobState::Deleted { reason, .. } = s.record(id).await.state else {
            panic!("the job is deleted");
        };
        assert_eq!(reason, *text);
    }
}

/// Deleting a job that is final already gives it the expiry of a deleted one.
pub async fn delete_final_sets_expiry(s: Stage) {
    let id = s.job_in(Failed).await.expect("a way leads there");
    s.advance(10 * DAY).await;
    assert!(s.delete(id).await.is_done());
    let JobState::Deleted { deleted_at, expires_at, .. } = s.record(id).await.state else {
        panic!("the job is deleted");
    };
    assert_eq!(expires_at, Some(deleted_at.saturating_add(DAY)));
    s.advance(DAY + secs(1)).await;
    assert_eq!(s.clean(10).await.jobs, 1);
}

/// Deleting twice changes nothing the second time, not even the reason or the expiry.
pub async fn delete_deleted_unchanged(s: Stage) {
    let id = s.enqueue_one().await;
    let _ = s.delete(id).await;
    let before = s.record(id).await;
    s.advance(secs(60)).await;
    let again = s.change(id, Action::Delete { reason: "another".into() }).await;
    assert_eq!(again, Changed::Unchanged);
    assert_eq!(s.record(id).await, before);
}

/// A job in its queue that is moved to an instant waits for it.
pub async fn reschedule_enqueued(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let now = s.now().await;
    let _ = s.reschedule(id, secs(30)).await;
    let JobState::Scheduled { run_at, cause } = s.record(id).await.state else {
        panic!("the job waits");
    };
    assert_eq!((run_at.since(now), cause), (secs(30), Cause::Rescheduled));
    assert!(server.claim(1).await.is_empty());
}

/// A final job that is moved to an instant begins a new run when it comes.
pub async fn reschedule_final_begins_new_run(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, failure()).await;
    let _ = s.reschedule(id, secs(5)).await;
    assert_eq!(s.record(id).await.failures, 0);
    s.advance(secs(5)).await;
    s.promote().await;
    let claimed = server.claim_one().await;
    assert_eq!((claimed.claim.job, claimed.failures, claimed.claim.attempt), (id, 0, 2));
}

/// A job that is moved to an instant that is past waits until the next promotion.
pub async fn reschedule_past_waits_for_promotion(s: Stage) {
    let server = s.server("a").await;
    for when in [When::Now, When::In(secs(0)), When::At(Timestamp::MIN)] {
        let id = s.enqueue_one().await;
        let changed = s.change(id, Action::Reschedule(when)).await;
        assert_eq!(changed, Changed::Applied { from: Enqueued, revision: 2 }, "{when:?}");
        assert_eq!(s.state(id).await, Scheduled);
        assert!(server.claim(1).await.is_empty());
        assert_eq!(s.promote().await.promoted, 1);
        assert_eq!(server.claim_one().await.claim.job, id);
    }
}

/// A running job cannot be moved to an instant.
pub async fn reschedule_processing_refused(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    assert!(matches!(s.reschedule(id, secs(5)).await, Changed::Refused(_)));
    server.end(held.claim, success()).await;
}

/// An instant beyond the year 9999 fails the whole call: no other change of it is applied.
pub async fn reschedule_beyond_9999_applies_nothing(s: Stage) {
    let ids = s.enqueue(2).await;
    let absurd = Action::Reschedule(When::In(std::time::Duration::MAX));
    let changes = vec![
        Change { job: ids[0], action: delete(), expect: None },
        Change { job: ids[1], action: absurd, expect: None },
    ];
    let refused = s.storage().change(changes).await;
    let named = matches!(refused, Err(StorageError::Invalid(InvalidJob::Delay { .. })));
    assert!(named, "{refused:?}");
    assert_eq!((s.state(ids[0]).await, s.state(ids[1]).await), (Enqueued, Enqueued));
}

/// A change of a job that is not stored says so.
pub async fn change_missing(s: Stage) {
    for action in [Action::Requeue, delete(), later()] {
        assert_eq!(s.change(s.id(), action.clone()).await, Changed::Missing);
        let expect = Some(Expect::States(vec![Enqueued]));
        assert_eq!(s.change_if(s.id(), action, expect).await, Changed::Missing);
    }
}

/// A call without changes is answered.
pub async fn change_empty(s: Stage) {
    assert_eq!(s.storage().change(Vec::new()).await.expect("answered"), []);
}

/// Each change of a call is judged on its own, and the answers come in its order.
pub async fn change_each_on_its_own(s: Stage) {
    let running = s.job_in(Processing).await.expect("a way leads there");
    let ids = s.enqueue(3).await;
    let change = |job, action, expect| Change { job, action, expect };
    let answers = s
        .storage()
        .change(vec![
            change(running, Action::Requeue, None),
            change(ids[0], delete(), None),
            change(s.id(), delete(), None),
            change(ids[1], delete(), Some(Expect::States(vec![Failed]))),
            change(ids[2], Action::Requeue, None),
            change(ids[1], later(), None),
        ])
        .await
        .expect("answered");
    assert!(matches!(answers[0], Changed::Refused(_)));
    let rest = [
        Changed::Applied { from: Enqueued, revision: 2 },
        Changed::Missing,
        Changed::Unexpected { state: Enqueued, revision: 1 },
        Changed::Unchanged,
        Changed::Applied { from: Enqueued, revision: 2 },
    ];
    assert_eq!(answers[1..], rest);
}

/// Changes of one job in one call are applied one after the other.
pub async fn change_same_job_twice_in_one_call(s: Stage) {
    let id = s.enqueue_one().await;
    let change = |action| Change { job: id, action, expect: None };
    let changes = vec![change(delete()), change(Action::Requeue), change(delete())];
    let answers = s.storage().change(changes).await.expect("answered");
    let expected = [
        Changed::Applied { from: Enqueued, revision: 2 },
        Changed::Applied { from: Deleted, revision: 3 },
        Changed::Applied { from: Enqueued, revision: 4 },
    ];
    assert_eq!(answers, expected);
    assert_eq!(s.counts().await.deleted_total, 2);
}

/// A change that expects a state is applied in any of the states named.
pub async fn change_expected_state(s: Stage) {
    for state in [Enqueued, Scheduled, Failed] {
        let id = s.job_in(state).await.expect("a way leads there");
        let expect = Some(Expect::States(vec![Scheduled, Failed, Enqueued]));
        assert!(matches!(s.change_if(id, delete(), expect).await, Changed::Applied { .. }));
    }
}

/// A change that expects another state changes nothing and tells where the job stands.
pub async fn change_unexpected_state(s: Stage) {
    let id = s.enqueue_one().await;
    let before = (s.record(id).await, s.counts().await);
    for expected in [vec![], vec![Failed], vec![Scheduled, Processing]] {
        let answer = s.change_if(id, delete(), Some(Expect::States(expected))).await;
        assert_eq!(answer, Changed::Unexpected { state: Enqueued, revision: 1 });
    }
    assert_eq!((s.record(id).await, s.counts().await), before);
}

/// What was expected is looked at first: before `unchanged` and before a refusal.
pub async fn change_expectation_comes_first(s: Stage) {
    let waiting = s.enqueue_one().await;
    let failed = || Some(Expect::States(vec![Failed]));
    let answer = s.change_if(waiting, Action::Requeue, failed()).await;
    assert_eq!(answer, Changed::Unexpected { state: Enqueued, revision: 1 });
    let running = s.job_in(Processing).await.expect("a way leads there");
    let answer = s.change_if(running, Action::Requeue, failed()).await;
    assert_eq!(answer, Changed::Unexpected { state: Processing, revision: 2 });
}

/// A change is judged in one order: missing, unexpected, unchanged, refused by the state machine, refused by a
/// cancelled batch, key held by another. Where several apply, the first is the answer.
pub async fn change_judged_in_one_order(s: Stage) {
    let server = s.server("a").await;
    let batch = s.new_batch();
    let mut ended = s.new_unique("k", UniqueScope::UntilFinished, Conflict::Reject);
    ended.ties.batch = Some(batch.id);
    ended.priority = 2;
    let mut running = s.new_member(batch.id);
    running.priority = 1;
    let (ended_id, running_id) = (ended.id, running.id);
    let waiting = s.new_member(batch.id);
    let waiting_id = waiting.id;
    s.store(vec![batch.clone()], vec![ended, running, waiting]).await;
    server.run(ended_id, failure()).await;
    assert_eq!(server.claim_one().await.claim.job, running_id);
    let holder = s.create_unique("k").await;
    assert!(!holder.existing, "the member has ended");
    assert_eq!(s.requeue(ended_id).await, Changed::Conflict { with: holder.id });
    let _ = s.cancel(batch.id).await;

    let odd = || Some(Expect::Revision(99));
    assert_eq!(s.change_if(s.id(), Action::Requeue, odd()).await, Changed::Missing);
    for (job, state) in [(ended_id, Failed), (running_id, Processing), (waiting_id, Enqueued)] {
        let revision = s.record(job).await.revision;
        let answer = s.change_if(job, Action::Requeue, odd()).await;
        assert_eq!(answer, Changed::Unexpected { state, revision });
    }
    assert_eq!(s.requeue(waiting_id).await, Changed::Unchanged);
    let refused = |state, verb| Changed::Refused(Refusal { state, verb });
    assert_eq!(s.requeue(running_id).await, refused(Processing, "requeued"));
    // Its batch was cancelled, and its key is held: the batch comes first.
    assert_eq!(s.requeue(ended_id).await, refused(Failed, "requeued"));
    assert_eq!(s.change(ended_id, later()).await, refused(Failed, "rescheduled"));
    assert_eq!(s.change(waiting_id, later()).await, refused(Enqueued, "rescheduled"));
    // Nobody asks for the batch or the key of a job that is deleted.
    assert!(matches!(s.delete(ended_id).await, Changed::Applied { from: Failed, .. }));
    assert_eq!(s.delete(ended_id).await, Changed::Unchanged);
}

/// A change by revision whose outcome was unknown can be repeated: it is applied once.
pub async fn change_repeat_by_revision_is_harmless(s: Stage) {
    let id = s.job_in(Failed).await.expect("a way leads there");
    let revision = s.record(id).await.revision;
    let expect = Some(Expect::Revision(revision));
    let _ = s.change_if(id, Action::Requeue, expect.clone()).await;
    let before = s.record(id).await;
    let again = s.change_if(id, Action::Requeue, expect).await;
    assert_eq!(again, Changed::Unexpected { state: Enqueued, revision: revision + 1 });
    assert_eq!(s.record(id).await, before);
}

/// A thousand changes go in one call.
pub async fn change_of_a_thousand(s: Stage) {
    let ids = s.enqueue(1_000).await;
    let changes = ids.iter().map(|&job| Change { job, action: delete(), expect: None }).collect();
    let answers = s.storage().change(changes).await.expect("answered");
    assert!(answers.iter().all(|answer| answer.is_done()));
    s.expect_count(Deleted, 1_000).await;
    s.expect_count(Enqueued, 0).await;
}

/// The client's words for these changes do the same.
pub async fn change_by_the_client(s: Stage) {
    let client = s.client();
    let id = s.enqueue_one().await;
    assert!(client.delete(id).await.expect("answered").is_done());
    assert_eq!(s.state(id).await, Deleted);
    assert!(client.requeue(id).await.expect("answered").is_done());
    assert!(client.reschedule(id, secs(9)).await.expect("answered").is_done());
    assert_eq!(s.state(id).await, Scheduled);
    let only_failed = client.change_if(id, Action::Requeue, [Failed]).await.expect("answered");
    assert!(matches!(only_failed, Changed::Unexpected { state: Scheduled, .. }));
    assert_eq!(client.job(id).await.expect("answered"), s.find(id).await);
    let far = client.reschedule(id, std::time::Duration::MAX).await;
    assert!(far.is_err());
}

/// A job that was given back can be deleted, moved and asked for like any other.
pub async fn change_after_release(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, Outcome::Released).await;
    assert_eq!(s.requeue(id).await, Changed::Unchanged);
    assert!(matches!(s.reschedule(id, secs(1)).await, Changed::Applied { from: Enqueued, .. }));
    s.advance(secs(1)).await;
    s.promote().await;
    assert_eq!(server.claim_one().await.claim.attempt, 2);
}
