//! A storage that is closed and opened again has lost nothing. For storages that outlive a process.

use portfire_core::{
    BatchFilter, BatchState, Bucket, Conflict, Dependency, Fired, JobFilter, Level, LimitRule,
    LockAnswer, LogLine, Notes, Progress, RescueRequest, StateName, UniqueScope, Verdict, Window,
};

use crate::server::{Server, failure, finish, is_gone, retry, success};
use crate::stage::{DAY, Stage, cron, every, recurring, secs};

/// Jobs in every state come back as they were, with their histories.
pub async fn reopen_keeps_jobs_of_every_state(s: Stage) {
    for state in StateName::ALL {
        s.job_in(state).await;
    }
    let before = s.everything().await;
    let mut histories = Vec::new();
    for job in &before {
        histories.push(s.history(job.id).await);
    }
    s.reopen().await;
    assert_eq!(s.everything().await, before);
    for (job, history) in before.iter().zip(histories) {
        assert_eq!(s.history(job.id).await, history);
    }
}

/// Counters, totals and statistics come back as they were.
pub async fn reopen_keeps_counters(s: Stage) {
    let since = s.now().await;
    for state in StateName::ALL {
        s.job_in(state).await;
    }
    s.advance(DAY + secs(1)).await;
    s.clean(10).await;
    let counts = s.counts().await;
    let queues = s.storage().queues().await.expect("read");
    let days = s.storage().statistics(Bucket::Day, since).await.expect("read");
    s.reopen().await;
    assert_eq!(s.counts().await, counts);
    assert_eq!(s.storage().queues().await.expect("read"), queues);
    assert_eq!(s.storage().statistics(Bucket::Day, since).await.expect("read"), days);
}

/// The pause of a queue outlives a restart.
pub async fn reopen_keeps_pauses(s: Stage) {
    s.pause("default", true).await;
    s.pause("was", true).await;
    s.pause("was", false).await;
    s.reopen().await;
    let server = s.server("a").await;
    s.enqueue_one().await;
    assert!(server.claim(1).await.is_empty());
    assert!(!s.queue("was").await.expect("listed").paused);
}

/// What was set aside stands aside after a restart, in its place, and its clock goes on.
pub async fn reopen_keeps_shelves(s: Stage) {
    let of = |name: &str, kind| {
        let mut server = Server::new(s.clone(), name, 365 * DAY);
        server.new.kinds = vec![crate::stage::kind(kind)];
        server
    };
    let a = of("a", "other");
    a.announce().await.expect("taken");
    let mut jobs = s.enqueue(2).await;
    assert!(a.claim(5).await.is_empty());
    s.advance(secs(400)).await;
    let waiting = s.waiting(jobs[0]).await;
    s.reopen().await;
    assert_eq!(s.waiting(jobs[0]).await, waiting);
    assert!(s.delete(jobs[1]).await.is_done());
    let request = RescueRequest { unknown_kind_grace: secs(600), ..RescueRequest::default() };
    assert_eq!(s.rescue_with(request).await.unhandled, 0);
    jobs.extend(s.enqueue(1).await);
    s.reopen().await;
    let b = of("b", "probe");
    b.announce().await.expect("taken");
    let claimed: Vec<_> = b.claim(5).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(claimed, [jobs[0], jobs[2]]);
    jobs.extend(s.enqueue(1).await);
    b.retire().await;
    assert!(a.claim(5).await.is_empty());
    s.advance(secs(600)).await;
    s.reopen().await;
    assert_eq!(s.rescue_with(request).await.unhandled, 3);
}

/// The order of a queue outlives a restart, and new jobs come behind old ones.
pub async fn reopen_keeps_order(s: Stage) {
    let mut ids = s.enqueue(3).await;
    s.reopen().await;
    ids.extend(s.enqueue(2).await);
    s.reopen().await;
    ids.push(s.enqueue_one().await);
    let server = s.server("a").await;
    let order: Vec<_> = server.claim(10).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, ids);
}

/// A job that was running when the process ended runs again, once, with one recovery more.
pub async fn storage_restart_workers_continue(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.claim_one().await;
    s.reopen().await;
    assert_eq!(s.state(id).await, StateName::Processing);
    s.lapse().await;
    assert_eq!(s.rescue().await.returned, 1);
    let next = s.server("b").await;
    let claimed = next.claim_one().await;
    assert_eq!((claimed.claim.attempt, claimed.recoveries), (2, 1));
    next.end(claimed.claim, success()).await;
}

/// A server that was dead before a restart is dead after it.
pub async fn reopen_keeps_the_dead_dead(s: Stage) {
    let (dead, retired) = (s.server("dead").await, s.server_with_lease("retired", DAY).await);
    s.lapse().await;
    s.rescue().await;
    retired.retire().await;
    s.reopen().await;
    for server in [dead, retired] {
        assert!(is_gone(&server.heartbeat(&[]).await));
        assert!(is_gone(&server.announce().await));
    }
}

/// A rescue that was cut short by a restart goes on where it stopped.
pub async fn reopen_goes_on_with_a_rescue(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(5).await;
    server.claim(5).await;
    s.lapse().await;
    let two = RescueRequest { max: 2, ..RescueRequest::default() };
    assert!(s.rescue_with(two).await.more);
    s.reopen().await;
    let rescued = s.rescue().await;
    assert_eq!((rescued.returned, rescued.more), (3, false));
}

/// A create that is repeated after a restart finds its jobs.
pub async fn reopen_keeps_ids(s: Stage) {
    let jobs = s.new_jobs(3);
    s.create(jobs.clone()).await;
    s.reopen().await;
    assert!(s.create(jobs).await.iter().all(|created| created.existing));
}

/// Schedules and expiries go on through a restart.
pub async fn reopen_keeps_instants(s: Stage) {
    let later = s.schedule(secs(3_600)).await;
    let done = s.job_in(StateName::Succeeded).await.expect("a way leads there");
    s.reopen().await;
    assert_eq!(s.promote().await.next_in, Some(secs(3_600)));
    s.advance(DAY + secs(1)).await;
    assert_eq!((s.promote().await.promoted, s.clean(10).await.jobs), (1, 1));
    assert_eq!((s.state(later).await, s.find(done).await), (StateName::Enqueued, None));
}

/// Attempts go on through a restart, so that claims from before it stay fenced.
pub async fn reopen_keeps_the_fence(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let id = s.enqueue_one().await;
    let old = server.claim_one().await;
    server.end(old.claim, retry(0)).await;
    s.promote().await;
    s.reopen().await;
    let next = s.server("b").await;
    let new = next.claim_one().await;
    assert_eq!((new.claim.job, new.claim.attempt), (id, 2));
    let both = vec![finish(old.claim, success()), finish(new.claim, success())];
    assert_eq!(next.finish_all(both).await, [Verdict::Fenced, Verdict::Applied]);
}

/// A list that was begun before a restart goes on after it.
pub async fn reopen_keeps_cursors(s: Stage) {
    let ids = s.enqueue(6).await;
    let filter = JobFilter { max: 3, ..JobFilter::state(StateName::Enqueued) };
    let first = s.storage().jobs(filter.clone()).await.expect("read");
    s.reopen().await;
    let rest = s.list_ids(JobFilter { after: first.next, ..filter }).await;
    assert_eq!(rest, ids[3..]);
}

/// What jobs wait for, and what is left of a release, outlive a restart.
pub async fn reopen_keeps_continuations(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let (first, second) = (s.enqueue_one().await, s.enqueue_one().await);
    let passed = Dependency::on(first).passing();
    let bottom = s.create_one(s.new_after([passed, Dependency::on(second)])).await;
    let many = s.continue_many(first, 1_500).await;
    server.run(first, crate::server::result("[1]")).await;
    let known = s.continuations(first).await;
    s.reopen().await;
    assert_eq!(s.continuations(first).await, known);
    assert_eq!(s.pending(bottom).await, 1);
    assert_eq!(s.promote_all().await.released, 501);
    s.reopen().await;
    assert_eq!(s.promote_all().await.released, 0);
    server.run(second, success()).await;
    s.reopen().await;
    let claimed = server.claim(2_000).await;
    assert_eq!(claimed.len(), 1_501);
    let last = claimed.iter().find(|job| job.claim.job == bottom).expect("released");
    assert_eq!(last.parents[0].result, Some(crate::stage::json("[1]")));
    assert_eq!(s.record(many[1_499]).await.revision, 3);
}

/// Who waits for what has failed waits on after a restart, and a batch that has failed for good stays so.
pub async fn reopen_keeps_who_waits_for_what_has_failed(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let parent = s.enqueue_one().await;
    let child = s.continue_with(parent).await;
    server.run(parent, failure()).await;
    let (outer, mut inner) = (s.new_batch(), s.new_batch());
    inner.parent = Some(outer.id);
    let jobs = s.new_members(inner.id, 2);
    let members: Vec<_> = jobs.iter().map(|job| job.id).collect();
    s.store(vec![outer.clone(), inner.clone()], jobs).await;
    for &member in &members {
        server.run(member, failure()).await;
    }
    let good = s.continue_with(outer.id).await;
    s.reopen().await;
    assert_eq!((s.state(child).await, s.state(good).await), {
        (StateName::Awaiting, StateName::Awaiting)
    });
    let _ = s.requeue(parent).await;
    server.run(parent, success()).await;
    server.run(child, success()).await;
    let _ = s.delete(members[0]).await;
    s.reopen().await;
    let unmet = Dependency::on(outer.id).unmet_for_good();
    let late = s.continue_with(outer.id).await;
    assert_eq!((s.reason(good).await, s.reason(late).await), (unmet.clone(), unmet));
    let _ = s.requeue(members[0]).await;
    assert_eq!(s.members(outer.id).await, [1, 1, 0, 0, 0]);
    server.run(members[0], success()).await;
    s.reopen().await;
    let _ = s.requeue(members[1]).await;
    server.run(members[1], success()).await;
    for batch in [inner.id, outer.id] {
        assert_eq!(s.batch_state(batch).await, BatchState::Succeeded);
    }
}

/// Batches outlive a restart in every state, with their numbers.
pub async fn reopen_keeps_batches(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let (open, waiting) = s.batch_of(s.new_open_batch(), 2).await;
    let (started, members) = s.batch(2).await;
    let mut nested = s.new_batch();
    nested.parent = Some(started);
    let (nested, _) = s.batch_of(nested, 1).await;
    server.run(members[0], success()).await;
    let (cancelled, _) = s.batch(1_100).await;
    let _ = s.cancel(cancelled).await;
    let before = s.batches(BatchFilter::default()).await;
    s.reopen().await;
    assert_eq!(s.batches(BatchFilter::default()).await, before);
    s.promote_all().await;
    assert_eq!(s.batch_state(cancelled).await, BatchState::Cancelled);
    let _ = s.seal(open).await;
    s.reopen().await;
    assert_eq!(s.state(waiting[1]).await, StateName::Enqueued);
    server.work_off().await;
    for batch in [open, nested, started] {
        assert_eq!(s.batch_state(batch).await, BatchState::Succeeded);
    }
}

/// Unique keys outlive a restart with those that hold them.
pub async fn reopen_keeps_unique_keys(s: Stage) {
    let holder = s.create_unique("k").await.id;
    let window = UniqueScope::Within(secs(60));
    let within = s.create_one(s.new_unique("w", window, Conflict::Reject)).await;
    s.reopen().await;
    assert_eq!((s.create_unique("k").await.id, s.create_unique("w").await.id), (holder, within));
    let _ = s.delete(holder).await;
    s.advance(secs(60)).await;
    s.reopen().await;
    assert!(!s.create_unique("k").await.existing && !s.create_unique("w").await.existing);
}

/// Limits, their lines, and the starts of their rates outlive a restart.
pub async fn reopen_keeps_limits(s: Stage) {
    let server = s.server_with_lease("a", 9 * DAY).await;
    s.set_limit("l", Some(LimitRule::concurrency(2))).await;
    let per = secs(600);
    s.set_limit("r", Some(LimitRule::rate(1, per, Window::Sliding))).await;
    let (jobs, rated) = (s.enqueue_under("l", 4).await, s.enqueue_under("r", 2).await);
    let held = server.claim(10).await;
    assert_eq!(held.len(), 3);
    let limits = s.storage().limits().await.expect("read");
    s.reopen().await;
    assert_eq!(s.storage().limits().await.expect("read"), limits);
    assert_eq!((s.line("l").await, s.line("r").await), ((2, 2), (1, 1)));
    assert!(server.claim(10).await.is_empty());
    server.end(held[0].claim, success()).await;
    s.reopen().await;
    server.claim_job(jobs[2]).await;
    s.advance(per + per / 16).await;
    assert_eq!(s.promote().await.released, 1);
    server.claim_job(rated[1]).await;
}

/// Recurring jobs outlive a restart with their runs, and no occurrence is fired twice.
pub async fn reopen_keeps_recurring_jobs(s: Stage) {
    let mut definition = recurring("r", cron("*/5 * * * *", "Europe/Amsterdam"));
    definition.jitter = secs(1);
    s.define(&definition).await;
    s.define(&recurring("paused", every(60))).await;
    s.pause_recurring("paused", None).await;
    s.advance(secs(300)).await;
    let plans = s.plans().await;
    s.fire(plans.clone()).await;
    let before = (s.recurring("r").await, s.runs("r").await, s.recurring("paused").await);
    s.reopen().await;
    let after = (s.recurring("r").await, s.runs("r").await, s.recurring("paused").await);
    assert_eq!(after, before);
    assert_eq!(s.fire(plans).await, [Fired::Stale]);
    s.advance(secs(300)).await;
    assert_eq!(s.tick().await.len(), 1);
}

/// Locks outlive a restart, and fences go on to rise.
pub async fn reopen_keeps_locks(s: Stage) {
    let fence = s.hold("l", "a", secs(60)).await;
    let over = s.hold("over", "a", secs(60)).await;
    s.release("over", over).await;
    let locks = s.storage().locks().await.expect("read");
    s.reopen().await;
    assert_eq!(s.storage().locks().await.expect("read"), locks);
    assert!(matches!(s.acquire("l", "b", secs(60)).await, LockAnswer::Taken { .. }));
    assert!(s.hold("over", "b", secs(60)).await > over);
    assert!(matches!(s.renew("l", fence, secs(60)).await, LockAnswer::Held { .. }));
}

/// What jobs have said outlives a restart, and a piece is not applied again after it.
pub async fn reopen_keeps_notes(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let job = s.enqueue_one().await;
    let claim = server.claim_job(job).await.claim;
    let at = s.now().await;
    let line = LogLine { attempt: 1, at, level: Level::Warn, text: "é".into() };
    let progress = vec![Progress { bar: "b".into(), done: 1, total: 2 }];
    let notes = Notes { lines: vec![line], progress, ..Notes::default() };
    server.note(claim, notes.clone()).await;
    let said = (s.storage().notes(job).await, s.storage().log(job, None, 10).await);
    s.reopen().await;
    server.note(claim, notes).await;
    let after = (s.storage().notes(job).await, s.storage().log(job, None, 10).await);
    assert_eq!(after.0.expect("read"), said.0.expect("read"));
    assert_eq!(after.1.expect("read"), said.1.expect("read"));
}

/// The storage says of itself that what it stores outlives the process.
pub async fn reopen_is_told(s: Stage) {
    assert!(s.storage().info().capabilities.persistent);
}
