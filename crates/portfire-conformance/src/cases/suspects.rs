//! Crashes, and what they prove: which are counted for a job, and how suspects are given out.

use std::collections::BTreeSet;

use portfire_core::explain::explain;
use portfire_core::suspects::{EMPTYING_MAX, PATIENCE, QUIET_TIME, trial};
use portfire_core::{
    Cause, ClaimedJob, JobFilter, JobId, LimitRule, Loss, Outcome, Reason, RescueRequest, StateName,
};

use crate::server::{Server, claims, retry, success};
use crate::stage::{DAY, LEASE, Stage, secs};

/// A server that has only just started, and lives as long as the case.
async fn fresh(s: &Stage, name: &str) -> Server {
    s.server_with_lease(name, DAY).await
}

/// Lets a new server claim so many jobs and crash. Which those are.
async fn crash_with(s: &Stage, name: &str, max: u32) -> Vec<JobId> {
    let server = s.server(name).await;
    let held = server.claim(max).await;
    s.advance(LEASE).await;
    assert_eq!(s.rescue().await.dead, [server.id()]);
    ids(&held)
}

fn ids(claimed: &[ClaimedJob]) -> Vec<JobId> {
    claimed.iter().map(|job| job.claim.job).collect()
}

async fn counted(s: &Stage, job: JobId) -> (u32, u32) {
    let record = s.record(job).await;
    (record.crashes, record.recoveries)
}

/// Makes so many jobs suspects, by two crashes of servers that held all of them.
async fn suspects(s: &Stage, n: usize) -> Vec<JobId> {
    let suspects = s.enqueue(n).await;
    for crash in ["first crash", "second crash"] {
        assert_eq!(crash_with(s, crash, n as u32).await, suspects);
    }
    suspects
}

/// A crash is counted as a recovery only for a job that was held alone.
pub async fn crash_of_several_blames_nobody(s: Stage) {
    let jobs = s.enqueue(2).await;
    assert_eq!(crash_with(&s, "a", 2).await, jobs);
    for &job in &jobs {
        assert_eq!(counted(&s, job).await, (1, 0));
        let entry = s.history(job).await.pop().expect("its rescue");
        assert_eq!(
            (entry.cause, entry.reason.as_deref()),
            (Cause::Rescued, Some(Loss::Crashed.reason()))
        );
    }
    assert_eq!(s.counts().await.recovered_total, 2);
}

/// Several that were held are never failed as poison, however few crashes are allowed.
pub async fn crash_of_several_poisons_nobody(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(2).await;
    server.claim(2).await;
    s.lapse().await;
    let none = RescueRequest { recoveries_max: 0, ..RescueRequest::default() };
    let rescued = s.rescue_with(none).await;
    assert_eq!((rescued.returned, rescued.poisoned), (2, 0));
}

/// What counts is how many were held at the crash, also when they are returned one by one.
pub async fn crash_returned_in_parts_blames_nobody(s: Stage) {
    let server = s.server("a").await;
    let jobs = s.enqueue(2).await;
    server.claim(2).await;
    s.lapse().await;
    for _ in 0..2 {
        let one = RescueRequest { max: 1, ..RescueRequest::default() };
        assert_eq!(s.rescue_with(one).await.returned, 1);
    }
    for job in jobs {
        assert_eq!(counted(&s, job).await, (1, 0));
    }
}

/// Servers that crash at the same time do so for a reason outside of their jobs.
pub async fn crash_of_two_servers_blames_nobody(s: Stage) {
    let jobs = s.enqueue(2).await;
    let servers = [s.server("a").await, s.server("b").await];
    for server in &servers {
        server.claim_one().await;
    }
    s.lapse().await;
    assert_eq!(s.rescue().await.dead.len(), 2);
    for job in jobs {
        assert_eq!(counted(&s, job).await, (1, 0));
    }
}

/// A job that was finished, or given back, before the crash was not held at it.
pub async fn crash_counts_what_is_held_then(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(3).await;
    let held = server.claim(3).await;
    server.end(held[0].claim, success()).await;
    server.end(held[1].claim, Outcome::Released).await;
    s.lapse().await;
    s.rescue().await;
    assert_eq!(counted(&s, held[1].claim.job).await, (0, 0));
    assert_eq!(counted(&s, held[2].claim.job).await, (1, 1));
}

/// After one crash a job returns to its old place, and is given out with others.
pub async fn suspect_is_nobody_after_one_crash(s: Stage) {
    let jobs = s.enqueue(3).await;
    assert_eq!(crash_with(&s, "a", 2).await, jobs[..2]);
    assert_eq!(ids(&fresh(&s, "b").await.claim(3).await), jobs);
}

/// A server that holds nothing gets a suspect alone, and nothing else until it has ended.
pub async fn suspect_is_claimed_alone(s: Stage) {
    let suspects = suspects(&s, 2).await;
    let other = s.enqueue_one().await;
    let server = fresh(&s, "b").await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let held = server.claim(5).await;
        assert_eq!(held.len(), 1);
        seen.insert(held[0].claim.job);
        assert!(server.claim(5).await.is_empty(), "it is on trial");
        server.end(held[0].claim, success()).await;
    }
    assert_eq!(seen, suspects.into_iter().collect());
    assert_eq!(ids(&server.claim(5).await), [other]);
}

/// The cycle that ends a trial claims what comes next.
pub async fn suspect_that_ends_makes_room_in_the_same_cycle(s: Stage) {
    suspects(&s, 1).await;
    let other = s.enqueue_one().await;
    let server = fresh(&s, "b").await;
    let held = server.claim_one().await;
    let mut request = server.wish(5);
    request.finished = vec![crate::server::finish(held.claim, success())];
    assert_eq!(ids(&server.cycle(request).await.claimed), [other]);
}

/// The suspect that was held last comes first, whatever its priority and its queue.
pub async fn suspect_held_last_comes_first(s: Stage) {
    let first = s.enqueue_ranked(100).await;
    let second = s.enqueue_in("late").await;
    for name in ["a", "b"] {
        let server = s.server(name).await;
        assert_eq!(server.claim_job(first).await.claim.job, first);
        s.advance(secs(1)).await;
        assert_eq!(ids(&server.claim_from(&["late"], 1).await), [second]);
        s.lapse().await;
        s.rescue().await;
    }
    let server = fresh(&s, "c").await;
    let next = server.claim_from(&["default", "late"], 5).await;
    assert_eq!(ids(&next), [second]);
}

/// When no server comes that holds nothing, one that is busy is given nothing until its jobs have ended, and then
/// the suspect.
pub async fn suspect_waits_for_a_server_to_be_emptied(s: Stage) {
    let server = fresh(&s, "busy").await;
    let busy_with = s.enqueue_one().await;
    let held = server.claim_job(busy_with).await;
    let suspects = suspects(&s, 2).await;
    let others = s.enqueue(4).await;
    let first = server.claim(1).await;
    assert_eq!(ids(&first), others[..1]);
    s.advance(PATIENCE - secs(1)).await;
    let second = server.claim(1).await;
    assert_eq!(ids(&second), others[1..2]);
    s.advance(secs(1)).await;
    assert!(server.claim(5).await.is_empty());
    server.end(held.claim, success()).await;
    server.end(second[0].claim, success()).await;
    assert!(server.claim(5).await.is_empty(), "it holds one still");
    server.end(first[0].claim, success()).await;
    let held = ids(&server.claim(5).await);
    assert_eq!(held, suspects[1..]);
}

/// A server is emptied whole: also claims from other queues get nothing meanwhile.
pub async fn suspect_has_all_queues_of_a_server_emptied(s: Stage) {
    let server = fresh(&s, "c").await;
    let busy_with = s.enqueue_one().await;
    let held = server.claim_job(busy_with).await;
    let suspects = suspects(&s, 1).await;
    let other = s.enqueue_in("other").await;
    s.advance(PATIENCE).await;
    assert!(server.claim(1).await.is_empty());
    assert!(server.claim_from(&["other"], 1).await.is_empty());
    server.end(held.claim, success()).await;
    assert!(server.claim_from(&["other"], 1).await.is_empty());
    let held = server.claim_one().await;
    assert_eq!(held.claim.job, suspects[0]);
    assert!(server.claim_from(&["other"], 1).await.is_empty());
    server.end(held.claim, success()).await;
    assert_eq!(ids(&server.claim_from(&["other"], 1).await), [other]);
}

/// One server at a time is emptied; when it is not heard of, another is.
pub async fn suspect_has_one_server_emptied_at_a_time(s: Stage) {
    let (first, second) = (fresh(&s, "c").await, fresh(&s, "d").await);
    let busy = s.enqueue(2).await;
    first.claim_job(busy[0]).await;
    second.claim_job(busy[1]).await;
    suspects(&s, 1).await;
    let others = s.enqueue(3).await;
    s.advance(PATIENCE).await;
    assert!(first.claim(1).await.is_empty());
    assert_eq!(ids(&second.claim(1).await), others[..1]);
    s.advance(EMPTYING_MAX).await;
    assert!(second.claim(1).await.is_empty());
    assert_eq!(ids(&first.claim(1).await), others[1..2]);
}

/// For a while after a crash one suspect is on trial in the whole storage; then each server may have one.
pub async fn suspect_on_trial_is_the_only_one_after_a_crash(s: Stage) {
    suspects(&s, 3).await;
    let other = s.enqueue_one().await;
    let (first, second) = (fresh(&s, "c").await, fresh(&s, "d").await);
    first.claim_one().await;
    assert_eq!(ids(&second.claim(5).await), [other]);
    let third = fresh(&s, "e").await;
    assert!(third.claim(5).await.is_empty());
    // Longer than a trial, too: so this one takes the next.
    s.advance(QUIET_TIME).await;
    assert_eq!(third.claim(5).await.len(), 1);
}

/// A trial ends after its time: the suspect runs on, and others run beside it.
pub async fn suspect_is_on_trial_for_its_time(s: Stage) {
    suspects(&s, 1).await;
    let other = s.enqueue_one().await;
    let server = fresh(&s, "b").await;
    server.claim_one().await;
    s.advance(trial(2) - secs(1)).await;
    assert!(server.claim(5).await.is_empty());
    s.advance(secs(1)).await;
    assert_eq!(ids(&server.claim(5).await), [other]);
}

/// An attempt that ends by itself clears a suspect.
pub async fn suspect_is_cleared_by_an_end(s: Stage) {
    let suspects = suspects(&s, 1).await;
    let server = fresh(&s, "b").await;
    let held = server.claim_one().await;
    server.end(held.claim, retry(0)).await;
    s.promote().await;
    assert_eq!(counted(&s, suspects[0]).await.0, 0);
    let other = s.enqueue_one().await;
    assert_eq!(ids(&server.claim(5).await), [suspects[0], other]);
}

/// A suspect that is given back stays one.
pub async fn suspect_that_is_released_stays_one(s: Stage) {
    let suspects = suspects(&s, 1).await;
    s.enqueue_one().await;
    let server = s.server("b").await;
    server.end(server.claim_one().await.claim, Outcome::Released).await;
    assert_eq!(ids(&server.claim(5).await), suspects);
    server.retire().await;
    assert_eq!(counted(&s, suspects[0]).await.0, 2);
    assert_eq!(ids(&fresh(&s, "c").await.claim(5).await), suspects);
}

/// A suspect is steered like any job: it can be deleted, moved, and found in lists.
pub async fn suspect_is_listed_and_steered(s: Stage) {
    let suspects = suspects(&s, 3).await;
    let other = s.enqueue_one().await;
    let enqueued = JobFilter { state: Some(StateName::Enqueued), ..JobFilter::default() };
    let listed = s.list_ids(enqueued.clone()).await;
    assert_eq!(listed.len(), 4);
    assert_eq!((listed[0], listed[1]), (other, suspects[2]), "suspects stand behind");
    let pages = JobFilter { max: 1, ..enqueued };
    assert_eq!(s.list_ids(pages).await, listed, "page by page");
    assert_eq!(s.waiting(suspects[0]).await.expect("it waits").ahead, 2);
    let _ = s.delete(suspects[0]).await;
    let _ = s.reschedule(suspects[1], secs(0)).await;
    assert_eq!(s.state(suspects[0]).await, StateName::Deleted);
    s.promote().await;
    assert_eq!(ids(&fresh(&s, "b").await.claim(5).await), [suspects[1]], "it is one still");
    s.expect_count(StateName::Enqueued, 2).await;
}

/// The explanation of a suspect says that it is one.
pub async fn suspect_is_explained(s: Stage) {
    let suspects = suspects(&s, 1).await;
    let _server = fresh(&s, "b").await;
    let told = explain(&*s.storage(), suspects[0]).await.expect("read").expect("it is stored");
    assert_eq!(told.reasons, [Reason::Suspect { crashes: 2 }]);
    assert_eq!(told.start, None);
}

/// A suspect of a paused queue is not given out.
pub async fn suspect_of_a_paused_queue_waits(s: Stage) {
    let suspects = suspects(&s, 1).await;
    s.pause("default", true).await;
    let server = fresh(&s, "b").await;
    assert!(server.claim(5).await.is_empty());
    s.pause("default", false).await;
    assert_eq!(ids(&server.claim(5).await), suspects);
}

/// A suspect whose limit is used up stays where it is, and holds up nobody.
pub async fn suspect_under_a_full_limit_waits(s: Stage) {
    s.set_limit("few", Some(LimitRule { concurrency: Some(2), ..LimitRule::default() })).await;
    let limited = s.enqueue_under("few", 2).await;
    for crash in ["x", "y"] {
        assert_eq!(crash_with(&s, crash, 2).await, limited);
    }
    s.set_limit("few", Some(LimitRule { concurrency: Some(1), ..LimitRule::default() })).await;
    let (first, second) = (fresh(&s, "b").await, fresh(&s, "c").await);
    let held = first.claim(5).await;
    assert_eq!(held.len(), 1);
    s.advance(QUIET_TIME).await;
    let other = s.enqueue_one().await;
    assert_eq!(ids(&second.claim(5).await), [other]);
    first.end(held[0].claim, success()).await;
    assert_eq!(first.claim(5).await.len(), 1);
}

/// A repeated cycle answers the suspect of the first time.
pub async fn suspect_in_a_repeated_cycle(s: Stage) {
    suspects(&s, 2).await;
    let server = fresh(&s, "b").await;
    let mut request = server.wish(3);
    let claimed = server.cycle(request.clone()).await.claimed;
    assert_eq!(claimed.len(), 1);
    request.repeated = true;
    assert_eq!(claims(&server.cycle(request).await.claimed), claims(&claimed));
}

/// Of a killer among many jobs, run by servers that prefetch, only the killer is failed, after few crashes; all
/// others run to their ends.
pub async fn suspect_killer_among_many(s: Stage) {
    let jobs = s.enqueue(300).await;
    let killer = jobs[137];
    let mut crashes = 0;
    let mut turn = 0;
    let start = async |name: &str| (s.server(name).await, Vec::<ClaimedJob>::new());
    let mut servers = vec![start("s0").await, start("t0").await];
    while s.counts().await.succeeded_total < 299 || s.state(killer).await != StateName::Failed {
        turn += 1;
        assert!(turn < 2_000, "it ends");
        for place in 0..2 {
            let (server, held) = &mut servers[place];
            held.extend(server.claim(40 - held.len() as u32).await);
            if held.iter().any(|job| job.claim.job == killer) {
                crashes += 1;
                servers[place] = start(&format!("crash {crashes}")).await;
                // The lease of the one that crashed runs out; the others are heard of.
                s.advance(LEASE - secs(1)).await;
                for (server, _) in &servers {
                    server.heartbeat(&[]).await.expect("alive");
                }
                s.advance(secs(1)).await;
                assert_eq!(s.rescue().await.dead.len(), 1);
                continue;
            }
            let done = held.len().min(17);
            for job in held.drain(..done) {
                server.end(job.claim, success()).await;
            }
        }
    }
    assert!(crashes <= 6, "{crashes} crashes");
    let failed = JobFilter { state: Some(StateName::Failed), ..JobFilter::default() };
    assert_eq!(s.list_ids(failed).await, [killer]);
}

/// The end of a trial gives the hint of work: its server was not given what waits.
pub async fn suspect_that_ends_gives_the_work_hint(s: Stage) {
    suspects(&s, 2).await;
    let server = fresh(&s, "b").await;
    let held = server.claim_one().await;
    let mut wakeups = s.storage().wakeups();
    server.end(held.claim, success()).await;
    s.heard(wakeups.work(), "the end of a trial").await;
    assert_eq!(server.claim(5).await.len(), 1);
}
