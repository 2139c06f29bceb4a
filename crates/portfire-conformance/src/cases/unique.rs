//! Unique keys: who holds one, until when, and what becomes of a job that finds it held.

use std::collections::BTreeSet;
use std::time::Duration;

use portfire_core::{
    After, Cause, Changed, Conflict, Dependency, InvalidJob, JobState, NewJob, Outcome,
    RescueRequest, Retention, StateName, UniqueScope, When,
};

use crate::odd;
use crate::server::{Server, discard, error, failure, retry, success};
use crate::stage::{DAY, Stage, json, kind, queue, secs};

use Conflict::{Debounce, Reject, Replace};
use StateName::{Deleted, Enqueued, Scheduled};
use UniqueScope::{UntilFinished, UntilStarted, Within};

/// Asserts that a key is held: another job that wants it is answered with the holder's id.
async fn held(s: &Stage, key: &str, by: portfire_core::JobId) {
    let created = s.create_unique(key).await;
    assert_eq!((created.id, created.existing), (by, true), "`{key}` is held");
}

/// Asserts that a key is free: another job takes it, and is deleted again.
async fn free(s: &Stage, key: &str) {
    let created = s.create_unique(key).await;
    assert!(!created.existing, "`{key}` is free, and {} has it", created.id);
    let _ = s.delete(created.id).await;
}

/// A job whose key is held is not stored; the answer is the id of the holder.
pub async fn unique_reject(s: Stage) {
    let server = s.server("a").await;
    let first = s.create_unique("k").await;
    assert!(!first.existing);
    let second = s.new_unique("k", UntilFinished, Reject);
    let created = s.create(vec![second.clone()]).await[0];
    assert_eq!((created.id, created.existing), (first.id, true));
    assert_eq!(s.find(second.id).await, None);
    assert_eq!(s.record(first.id).await.revision, 1);
    assert_eq!(server.work_off().await, [first.id]);
}

/// A rejected job leaves no trace: no counter, no queue, no kind, no member, no link, no rule.
pub async fn unique_rejected_leaves_no_trace(s: Stage) {
    let parent = s.enqueue_one().await;
    let (batch, _) = s.batch(1).await;
    let holder = s.create_unique("k").await.id;
    let mut job = s.new_unique("k", UntilFinished, Reject);
    job.queue = queue("brand-new");
    job.kind = kind("brand-new");
    job.ties.after = vec![Dependency::on(parent)];
    job.ties.batch = Some(batch);
    let declared = Some(portfire_core::LimitRule::concurrency(1));
    job.ties.limits = vec![portfire_core::LimitUse { declared, ..crate::stage::under("new") }];
    let before = s.counts().await;
    assert_eq!(s.create(vec![job]).await[0].id, holder);
    assert_eq!(s.counts().await, before);
    assert_eq!(s.queue("brand-new").await, None);
    let kinds = s.storage().kinds().await.expect("read");
    assert!(kinds.iter().all(|known| known.name != kind("brand-new")));
    assert_eq!(s.continuations(parent).await, []);
    assert_eq!(s.members(batch).await[0], 1);
    assert_eq!(s.storage().limits().await.expect("read"), []);
}

/// Jobs of one call conflict as those of several do, in their order.
pub async fn unique_within_one_call(s: Stage) {
    let mut jobs: Vec<NewJob> = ["a", "b", "a", "a", "b"]
        .iter()
        .map(|key| s.new_unique(key, UntilFinished, Reject))
        .collect();
    jobs[3].ties.unique.as_mut().expect("a key").conflict = Replace;
    let created = s.create(jobs.clone()).await;
    let told: Vec<_> = created.iter().map(|created| (created.id, created.existing)).collect();
    let expected = [(0, false), (1, false), (0, true), (3, false), (1, true)];
    assert_eq!(told, expected.map(|(n, existing): (usize, bool)| (jobs[n].id, existing)));
    assert_eq!(s.state(jobs[0].id).await, Deleted);
    s.expect_count(Enqueued, 2).await;
}

/// A repeated create of the holder finds the holder; of the job that replaced it, that one.
pub async fn unique_repeat_of_the_create_changes_nothing(s: Stage) {
    let holder = s.new_unique("k", UntilFinished, Reject);
    let replacing = s.new_unique("k", UntilFinished, Replace);
    for existing in [false, true] {
        let created = s.create(vec![holder.clone()]).await[0];
        assert_eq!((created.id, created.existing), (holder.id, existing));
    }
    for existing in [false, true] {
        let created = s.create(vec![replacing.clone()]).await[0];
        assert_eq!((created.id, created.existing), (replacing.id, existing));
    }
    assert!(s.create(vec![holder.clone()]).await[0].existing);
    assert_eq!((s.state(holder.id).await, s.state(replacing.id).await), (Deleted, Enqueued));
    assert_eq!(s.record(holder.id).await.revision, 2);
}

/// A job that replaces takes the key, and the holder is deleted with a reason that names it.
pub async fn unique_replace(s: Stage) {
    let server = s.server("a").await;
    let parent = s.schedule(secs(3_600)).await;
    for sort in 0..3 {
        let mut holder = s.new_unique("k", UntilFinished, Reject);
        match sort {
            1 => holder.when = When::In(secs(60)),
            2 => holder.ties.after = vec![Dependency::on(parent)],
            _ => {}
        }
        let holder = s.create_one(holder).await;
        let undo = s.continue_on(holder, After::Deletion).await;
        let mut job = s.new_unique("k", UntilFinished, Replace);
        job.args = json("[1]");
        let created = s.create(vec![job.clone()]).await[0];
        assert_eq!((created.id, created.existing), (job.id, false));
        assert_eq!(s.reason(holder).await, format!("replaced by job {}", job.id));
        assert_eq!(s.state(undo).await, Enqueued, "what waits for its deletion is released");
        held(&s, "k", job.id).await;
        let mut done = server.work_off().await;
        done.sort();
        assert_eq!(done, [undo, job.id]);
    }
}

/// A holder that is processing is not replaced: the new job is rejected.
pub async fn unique_replace_spares_what_runs(s: Stage) {
    let server = s.server("a").await;
    let holder = s.create_unique("k").await.id;
    let claimed = server.claim_job(holder).await;
    let job = s.new_unique("k", UntilFinished, Replace);
    let created = s.create(vec![job.clone()]).await[0];
    assert_eq!((created.id, created.existing), (holder, true));
    assert_eq!(s.find(job.id).await, None);
    server.end(claimed.claim, success()).await;
}

/// A holder that has ended, and holds its key for a time, loses it to a job that replaces, and stays.
pub async fn unique_replace_of_an_ended_holder(s: Stage) {
    let server = s.server("a").await;
    let holder = s.create_one(s.new_unique("k", Within(secs(600)), Reject)).await;
    server.run(holder, success()).await;
    held(&s, "k", holder).await;
    let job = s.create_one(s.new_unique("k", UntilFinished, Replace)).await;
    assert_eq!((s.state(holder).await, s.state(job).await), (StateName::Succeeded, Enqueued));
    held(&s, "k", job).await;
}

/// A key that is held for a time is free when that has passed, and not when its job ends sooner.
pub async fn unique_window(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let holder = s.create_one(s.new_unique("k", Within(secs(60)), Reject)).await;
    s.advance(secs(30)).await;
    server.run(holder, success()).await;
    s.advance(secs(29)).await;
    held(&s, "k", holder).await;
    s.advance(secs(1)).await;
    let next = s.create_unique("k").await;
    assert!(!next.existing, "the instant itself is no longer within");
}

/// A window counts from the creation: what stands scheduled or runs longer holds the key no longer.
pub async fn unique_window_counts_from_creation(s: Stage) {
    let mut late = s.new_unique("k", Within(secs(60)), Reject);
    late.when = When::In(secs(600));
    let late = s.create_one(late).await;
    s.advance(secs(60)).await;
    let next = s.create_unique("k").await;
    assert!(!next.existing);
    assert_eq!(s.state(late).await, Scheduled);
}

/// A key that is held until the end is free after each sort of it, and not before.
pub async fn unique_freed_on_final(s: Stage) {
    let server = s.server("a").await;
    for outcome in [success(), failure(), discard()] {
        let holder = s.create_unique("k").await;
        assert!(!holder.existing, "the last holder has ended");
        let claimed = server.claim_job(holder.id).await;
        held(&s, "k", holder.id).await;
        server.end(claimed.claim, outcome).await;
    }
    free(&s, "k").await;
}

/// A key is kept through retries, snoozes, releases and rescues, and is free when a rescue gives the job up.
pub async fn unique_kept_until_the_last_attempt(s: Stage) {
    let server = s.server_with_lease("a", secs(60)).await;
    let holder = s.create_unique("k").await.id;
    let waits = [retry(0), Outcome::Snoozed { delay: secs(0) }, Outcome::Released];
    for outcome in waits {
        server.run(holder, outcome).await;
        held(&s, "k", holder).await;
        s.promote().await;
    }
    server.claim_job(holder).await;
    s.advance(secs(61)).await;
    assert_eq!(s.rescue().await.returned, 1);
    held(&s, "k", holder).await;
    s.server("b").await.claim_job(holder).await;
    s.lapse().await;
    let at_once = RescueRequest { recoveries_max: 0, ..RescueRequest::default() };
    assert_eq!(s.rescue_with(at_once).await.poisoned, 1);
    free(&s, "k").await;
}

/// A key that is held until the start is free from the first claim on, and not taken again by a retry.
pub async fn unique_until_started(s: Stage) {
    let server = s.server("a").await;
    let first = s.create_one(s.new_unique("k", UntilStarted, Reject)).await;
    held(&s, "k", first).await;
    let claimed = server.claim_job(first).await;
    let second = s.create_one(s.new_unique("k", UntilStarted, Reject)).await;
    assert_ne!(second, first);
    server.end(claimed.claim, retry(0)).await;
    s.promote().await;
    held(&s, "k", second).await;
    let order: Vec<_> = server.claim(10).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, [second, first]);
    free(&s, "k").await;
}

/// A claim that is given back has started the job all the same.
pub async fn unique_until_started_is_the_first_claim(s: Stage) {
    let server = s.server("a").await;
    let first = s.create_one(s.new_unique("k", UntilStarted, Reject)).await;
    server.run(first, Outcome::Released).await;
    free(&s, "k").await;
}

/// A deletion frees a key of any scope, whatever deletes the job.
pub async fn unique_freed_on_deletion(s: Stage) {
    let server = s.server("a").await;
    for scope in [UntilStarted, UntilFinished, Within(DAY)] {
        let holder = s.create_one(s.new_unique("k", scope, Reject)).await;
        let _ = s.delete(holder).await;
        free(&s, "k").await;
        // While it runs.
        let holder = s.create_one(s.new_unique("k", scope, Reject)).await;
        server.claim_job(holder).await;
        let _ = s.delete(holder).await;
        free(&s, "k").await;
        // By its handler.
        let holder = s.create_one(s.new_unique("k", scope, Reject)).await;
        server.run(holder, discard()).await;
        free(&s, "k").await;
        // Because it cannot run any more.
        let parent = s.enqueue_one().await;
        let mut waits = s.new_unique("k", scope, Reject);
        waits.ties.after = vec![Dependency::on(parent)];
        let waits = s.create_one(waits).await;
        held(&s, "k", waits).await;
        server.run(parent, failure()).await;
        held(&s, "k", waits).await;
        let _ = s.delete(parent).await;
        assert_eq!(s.state(waits).await, Deleted);
        free(&s, "k").await;
    }
}

/// A job that ended is kept as long as it holds its key by time, and cleaned then. Its deletion gives the
/// key back, and leaves it its retention.
pub async fn unique_window_outlives_the_retention(s: Stage) {
    let server = s.server_with_lease("a", 2 * DAY).await;
    let short = Retention { succeeded: Some(secs(10)), failed: None, deleted: Some(secs(20)) };
    let mut jobs = ["k", "given-back"].map(|key| s.new_unique(key, Within(DAY), Reject));
    jobs.iter_mut().for_each(|job| job.options.retention = Some(short));
    let [holder, deleted] = [jobs[0].id, jobs[1].id];
    s.create(jobs.to_vec()).await;
    s.advance(secs(5)).await;
    for job in [holder, deleted] {
        server.run(job, success()).await;
    }
    let _ = s.delete(deleted).await;
    s.advance(secs(20)).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    assert_eq!(s.find(deleted).await, None);
    s.advance(DAY - secs(26)).await;
    assert_eq!(s.clean(10).await.jobs, 0);
    held(&s, "k", holder).await;
    s.advance(secs(1)).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    free(&s, "k").await;
}

/// Of a hundred callers with the same key at once one creates, and all others hear its id.
pub async fn unique_100_concurrent_one(s: Stage) {
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let s = s.clone();
            tokio::spawn(async move { s.create_unique("k").await })
        })
        .collect();
    let mut holders = BTreeSet::new();
    let mut new = 0;
    for caller in callers {
        let created = caller.await.expect("the caller ends");
        holders.insert(created.id);
        new += u32::from(!created.existing);
    }
    assert_eq!((holders.len(), new), (1, 1));
    s.expect_count(Enqueued, 1).await;
    assert_eq!(s.counts().await.created_total, 1);
}

/// A debounced job is not stored: the holder waits anew, for the delay of the new job, with its own args.
pub async fn unique_debounce(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let debounced = |args: &str| {
        let mut job = s.new_unique("k", UntilFinished, Debounce);
        job.when = When::In(secs(60));
        job.args = json(args);
        job
    };
    let holder = s.create_one(debounced("[1]")).await;
    for _ in 0..3 {
        s.advance(secs(40)).await;
        let now = s.now().await;
        let created = s.create(vec![debounced("[2]")]).await[0];
        assert_eq!((created.id, created.existing), (holder, true));
        let JobState::Scheduled { run_at, cause } = s.record(holder).await.state else { panic!() };
        assert!(run_at >= now.saturating_add(secs(60)));
        assert_eq!(cause, Cause::Rescheduled);
        assert_eq!(s.promote().await.promoted, 0);
    }
    assert_eq!(s.record(holder).await.revision, 4);
    s.advance(secs(60)).await;
    assert_eq!(s.promote().await.promoted, 1);
    assert_eq!(server.claim_job(holder).await.args, json("[1]"));
}

/// A holder that waits in its queue goes back to wait for the delay.
pub async fn unique_debounce_of_an_enqueued_holder(s: Stage) {
    let server = s.server("a").await;
    let holder = s.create_unique("k").await.id;
    let mut job = s.new_unique("k", UntilFinished, Debounce);
    let at = s.now().await.saturating_add(secs(60));
    job.when = When::At(at);
    assert_eq!(s.create(vec![job]).await[0].id, holder);
    let JobState::Scheduled { run_at, .. } = s.record(holder).await.state else { panic!() };
    assert_eq!(run_at, at);
    assert!(server.claim(10).await.is_empty());
}

/// A storm of debounces at one instant moves the holder once.
pub async fn unique_debounce_storm_is_one_move(s: Stage) {
    let debounced = || {
        let mut job = s.new_unique("k", UntilFinished, Debounce);
        job.when = When::In(secs(60));
        job
    };
    let holder = s.create_one(debounced()).await;
    let at = s.now().await.saturating_add(secs(90));
    s.advance(secs(30)).await;
    let mut storm: Vec<_> = (0..1_000).map(|_| debounced()).collect();
    storm.iter_mut().for_each(|job| job.when = When::At(at));
    let answers = s.create(storm).await;
    assert!(answers.iter().all(|answer| answer.id == holder && answer.existing));
    assert_eq!(s.record(holder).await.revision, 2);
    assert_eq!(s.history(holder).await.last().expect("moved").run_at, Some(at));
    s.advance(secs(60)).await;
    assert_eq!(s.promote().await.promoted, 1);
}

/// Without a delay, and of a holder that runs, waits for others or has ended, a debounce rejects.
pub async fn unique_debounce_otherwise_rejects(s: Stage) {
    let server = s.server("a").await;
    let holder = s.create_one(s.new_unique("k", Within(DAY), Reject)).await;
    let unchanged = async |job: NewJob| {
        let before = s.record(holder).await;
        assert_eq!(s.create(vec![job]).await[0].id, holder);
        assert_eq!(s.record(holder).await, before);
    };
    let later = || {
        let mut job = s.new_unique("k", UntilFinished, Debounce);
        job.when = When::In(secs(60));
        job
    };
    unchanged(s.new_unique("k", UntilFinished, Debounce)).await;
    let claimed = server.claim_job(holder).await;
    unchanged(later()).await;
    server.end(claimed.claim, success()).await;
    unchanged(later()).await;
    let parent = s.enqueue_one().await;
    let mut waits = s.new_unique("other", UntilFinished, Reject);
    waits.ties.after = vec![Dependency::on(parent)];
    let waits = s.create_one(waits).await;
    let mut job = s.new_unique("other", UntilFinished, Debounce);
    job.when = When::In(secs(60));
    assert_eq!(s.create(vec![job]).await[0].id, waits);
    assert_eq!(s.record(waits).await.revision, 1);
}

/// A job that is requeued after its end takes its key again, and is refused when another holds it.
pub async fn unique_requeue_takes_the_key_again(s: Stage) {
    let server = s.server("a").await;
    for scope in [UntilStarted, UntilFinished] {
        let first = s.create_one(s.new_unique("k", scope, Reject)).await;
        server.run(first, failure()).await;
        let second = s.create_one(s.new_unique("k", scope, Reject)).await;
        let before = s.record(first).await;
        assert_eq!(s.requeue(first).await, Changed::Conflict { with: second });
        assert_eq!(s.reschedule(first, secs(5)).await, Changed::Conflict { with: second });
        assert_eq!(s.record(first).await, before);
        server.run(second, success()).await;
        assert!(matches!(s.requeue(first).await, Changed::Applied { .. }));
        held(&s, "k", first).await;
        assert_eq!(s.requeue(second).await, Changed::Conflict { with: first });
        server.run(first, success()).await;
        assert!(matches!(s.reschedule(first, secs(5)).await, Changed::Applied { .. }));
        held(&s, "k", first).await;
        let _ = s.delete(first).await;
    }
}

/// A requeue of a deleted job takes its key again as well.
pub async fn unique_requeue_of_a_deleted_job(s: Stage) {
    let first = s.create_unique("k").await.id;
    let second = s.create_one(s.new_unique("k", UntilFinished, Replace)).await;
    assert_eq!(s.requeue(first).await, Changed::Conflict { with: second });
    let _ = s.delete(second).await;
    assert!(matches!(s.requeue(first).await, Changed::Applied { .. }));
    held(&s, "k", first).await;
}

/// A requeue of a job that holds its key, before its end, is a plain one.
pub async fn unique_requeue_of_the_holder(s: Stage) {
    let mut job = s.new_unique("k", UntilFinished, Reject);
    job.when = When::In(secs(60));
    let holder = s.create_one(job).await;
    assert_eq!(s.requeue(holder).await, Changed::Applied { from: Scheduled, revision: 2 });
    held(&s, "k", holder).await;
}

/// All kinds and queues share the keys; another key is another thing, also one that looks alike.
pub async fn unique_keys_are_shared_and_exact(s: Stage) {
    let mut elsewhere = s.new_unique("k", UntilFinished, Reject);
    elsewhere.queue = queue("mail");
    elsewhere.kind = kind("other");
    let holder = s.create_one(elsewhere).await;
    held(&s, "k", holder).await;
    for key in ["K", "k ", " k", "k\u{0}", "kk", "ｋ"] {
        assert!(!s.create_unique(key).await.existing, "{key:?}");
    }
    for text in odd::TEXTS.iter().filter(|text| !text.is_empty()) {
        let first = s.create_unique(text).await;
        assert!(!first.existing, "{text:?}");
        held(&s, text, first.id).await;
    }
    let long = "é".repeat(256);
    let first = s.create_unique(&long).await;
    held(&s, &long, first.id).await;
}

/// An empty key, one over 512 bytes, and one that is held for no time are refused.
pub async fn unique_bounds(s: Stage) {
    for key in ["", &"x".repeat(513)] {
        let refused = s.refused(vec![], vec![s.new_unique(key, UntilFinished, Reject)]).await;
        assert!(matches!(refused, InvalidJob::UniqueKey { size, .. } if size == key.len()));
    }
    let never = s.new_unique("k", Within(Duration::ZERO), Reject);
    let refused = s.refused(vec![], vec![never]).await;
    assert!(matches!(refused, InvalidJob::UniqueWithin { .. }), "{refused:?}");
}

/// A refused call takes no key.
pub async fn unique_refused_call_takes_no_key(s: Stage) {
    let holder = s.create_unique("kept").await.id;
    let taking = s.new_unique("k", UntilFinished, Reject);
    let replacing = s.new_unique("kept", UntilFinished, Replace);
    let mut broken = s.new_job();
    broken.options.tags = vec![String::new()];
    s.refused(vec![], vec![taking, replacing, broken]).await;
    free(&s, "k").await;
    held(&s, "kept", holder).await;
    assert_eq!(s.record(holder).await.revision, 1);
}

/// Kept errors, retries and other fates of one holder after another leak no key.
pub async fn unique_never_leaks(s: Stage) {
    let server = s.server_with_lease("a", 30 * DAY).await;
    let broken = Outcome::Discarded { reason: "x".into(), error: Some(error()) };
    for n in 0..40u64 {
        let created = s.create_unique("k").await;
        assert!(!created.existing, "round {n}");
        fate(&s, &server, created.id, n, &broken).await;
    }
}

async fn fate(s: &Stage, server: &Server, job: portfire_core::JobId, n: u64, broken: &Outcome) {
    match n % 8 {
        0 => server.run(job, success()).await,
        1 => server.run(job, failure()).await,
        2 => server.run(job, broken.clone()).await,
        3 => assert!(matches!(s.delete(job).await, Changed::Applied { .. })),
        4 => {
            server.run(job, retry(5)).await;
            let _ = s.delete(job).await;
        }
        5 => {
            let claimed = server.claim_job(job).await;
            let _ = s.delete(job).await;
            server.finish(claimed.claim, success()).await;
        }
        6 => {
            let _ = s.reschedule(job, secs(5)).await;
            let _ = s.requeue(job).await;
            server.run(job, success()).await;
        }
        _ => {
            server.run(job, success()).await;
            let _ = s.requeue(job).await;
            server.run(job, failure()).await;
        }
    }
}

/// A job that waits for one that was rejected in the same call waits for the holder instead.
pub async fn unique_rejected_parent_is_its_holder(s: Stage) {
    let server = s.server("a").await;
    let holder = s.create_unique("k").await.id;
    let rejected = s.new_unique("k", UntilFinished, Reject);
    let child = s.new_after([Dependency::on(rejected.id)]);
    s.create(vec![rejected.clone(), child.clone()]).await;
    assert_eq!(s.find(rejected.id).await, None);
    assert_eq!(s.record(child.id).await.ties.after, [Dependency::on(holder)]);
    server.run(holder, success()).await;
    assert_eq!(s.state(child.id).await, Enqueued);
}

/// A job that is debounced all the time runs at its bound: from its creation, by the call that comes.
pub async fn unique_debounce_at_most(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let call = || {
        let at_most = Conflict::DebounceAtMost(secs(100));
        let mut job = s.new_unique("k", UniqueScope::UntilStarted, at_most);
        job.when = When::In(secs(30));
        job
    };
    let first = s.create_one(call()).await;
    // Not yet at the bound it is delayed as ever.
    for _ in 0..7 {
        s.advance(secs(10)).await;
        assert_eq!(s.create_one(call()).await, first);
        assert_eq!(s.promote().await.promoted, 0);
    }
    let entries = s.history(first).await.len();
    for _ in 0..2 {
        s.advance(secs(10)).await;
        assert_eq!(s.create_one(call()).await, first);
    }
    assert_eq!(s.history(first).await.len(), entries, "it waits for its bound already");
    assert_eq!(s.promote().await.promoted, 0);
    s.advance(secs(10)).await;
    assert_eq!(s.promote().await.promoted, 1);
    // What is due is not taken out of its queue again.
    assert_eq!(s.create_one(call()).await, first);
    assert_eq!(s.state(first).await, StateName::Enqueued);
    server.claim_job(first).await;
    assert_ne!(s.create_one(call()).await, first);
}
