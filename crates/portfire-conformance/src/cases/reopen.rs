//! A storage that is closed and opened again has lost nothing. For storages that outlive a process.

use portfire_core::{Bucket, JobFilter, RescueRequest, StateName, Verdict};

use crate::server::{finish, is_gone, retry, success};
use crate::stage::{DAY, Stage, secs};

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
