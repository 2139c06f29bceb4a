//! Several handles on one storage, as several processes have. For storages that can be shared.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use portfire_core::{CycleRequest, Dependency, LimitRule, LockAnswer, StateName, Verdict};

use crate::server::{Server, finish, is_gone, success};
use crate::stage::{DAY, LEASE, Stage, every, recurring, secs};

/// What one process has stored every other one sees from then on.
pub async fn second_sees_what_is_committed(s: Stage) {
    let other = s.second().await;
    let ids = s.enqueue(3).await;
    assert_eq!(other.record(ids[0]).await, s.record(ids[0]).await);
    let _ = other.delete(ids[1]).await;
    assert_eq!(s.state(ids[1]).await, StateName::Deleted);
    assert_eq!(s.counts().await, other.counts().await);
    s.pause("default", true).await;
    assert!(other.queue("default").await.expect("listed").paused);
}

/// What one process has set aside another claims, and what was aside is no more for the first one.
pub async fn second_claims_what_the_first_sets_aside(s: Stage) {
    let other = s.second().await;
    let of = |stage: &Stage, name: &str, kind| {
        let mut server = Server::new(stage.clone(), name, DAY);
        server.new.kinds = vec![crate::stage::kind(kind)];
        server
    };
    let (a, b) = (of(&s, "a", "other"), of(&other, "b", "probe"));
    a.announce().await.expect("taken");
    b.announce().await.expect("taken");
    for _ in 0..3 {
        let jobs = s.enqueue(2).await;
        assert!(a.claim(5).await.is_empty());
        let held = b.claim(5).await;
        let ids: Vec<_> = held.iter().map(|job| job.claim.job).collect();
        assert_eq!(ids, jobs);
        b.finish_all(held.iter().map(|job| finish(job.claim, success())).collect()).await;
        // It forgets the shelf, which the other must hear of.
        other.rescue().await;
    }
}

/// A job that one process has created can be claimed and finished by another.
pub async fn second_works_what_the_first_creates(s: Stage) {
    let other = s.second().await;
    let server = other.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    server.end(held.claim, success()).await;
    assert_eq!(s.state(id).await, StateName::Succeeded);
}

/// Each job goes to one process only, when two of them take at once.
pub async fn second_never_claims_the_same_job(s: Stage) {
    s.enqueue(2_000).await;
    let mut workers = Vec::new();
    for (n, stage) in [s.clone(), s.second().await, s.second().await].into_iter().enumerate() {
        let server = stage.server_with_lease(&format!("p{n}"), DAY).await;
        workers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut finished = Vec::new();
            loop {
                let cycle = server.cycle(CycleRequest { finished, ..server.wish(10) }).await;
                assert!(cycle.verdicts.iter().all(|verdict| *verdict == Verdict::Applied));
                if cycle.claimed.is_empty() {
                    return taken;
                }
                taken.extend(cycle.claimed.iter().map(|job| job.claim.job));
                finished = cycle.claimed.iter().map(|job| finish(job.claim, success())).collect();
            }
        }));
    }
    let mut taken = Vec::new();
    for worker in workers {
        taken.extend(worker.await.expect("the worker ends"));
    }
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 2_000);
    assert_eq!(taken.len(), 2_000);
    s.expect_count(StateName::Succeeded, 2_000).await;
}

/// Many processes that create at once lose nothing, and nobody is turned away.
pub async fn second_creates_at_once(s: Stage) {
    let stages = [s.clone(), s.second().await, s.second().await, s.second().await];
    let creators: Vec<_> = stages
        .into_iter()
        .map(|stage| {
            tokio::spawn(async move {
                for _ in 0..50 {
                    stage.enqueue(2).await;
                }
            })
        })
        .collect();
    for creator in creators {
        creator.await.expect("the creator ends");
    }
    s.expect_count(StateName::Enqueued, 400).await;
}

/// The fence holds across processes: a claim that another process has taken over is worth nothing.
pub async fn second_fences_the_first(s: Stage) {
    let other = s.second().await;
    let old = s.server("a").await;
    let id = s.enqueue_one().await;
    let stale = old.claim_one().await;
    s.advance(LEASE + secs(1)).await;
    assert_eq!(other.rescue().await.returned, 1);
    let new = other.server("b").await;
    let held = new.claim_one().await;
    let finished = vec![finish(stale.claim, success())];
    assert!(is_gone(&old.try_cycle(CycleRequest { finished, ..old.request() }).await));
    assert!(is_gone(&old.heartbeat(&[stale.claim]).await));
    assert_eq!(s.state(id).await, StateName::Processing);
    new.end(held.claim, success()).await;
}

/// Rescuers of several processes return each job once.
pub async fn second_rescues_once(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(50).await;
    server.claim(50).await;
    s.advance(LEASE + secs(1)).await;
    let stages = [s.clone(), s.second().await, s.second().await];
    let rescuers: Vec<_> =
        stages.into_iter().map(|stage| tokio::spawn(async move { stage.rescue().await })).collect();
    let (mut dead, mut returned) = (0, 0);
    for rescuer in rescuers {
        let rescued = rescuer.await.expect("the rescuer ends");
        dead += rescued.dead.len();
        returned += rescued.returned;
    }
    assert_eq!((dead, returned), (1, 50));
    assert_eq!(s.counts().await.recovered_total, 50);
}

/// Promoters of several processes promote each job once.
pub async fn second_promotes_once(s: Stage) {
    let mut jobs = s.new_jobs(100);
    for job in &mut jobs {
        job.when = secs(1).into();
    }
    s.create(jobs).await;
    s.advance(secs(1)).await;
    let stages = [s.clone(), s.second().await];
    let promoters: Vec<_> = stages
        .into_iter()
        .map(|stage| tokio::spawn(async move { stage.promote().await.promoted }))
        .collect();
    let mut promoted = 0;
    for promoter in promoters {
        promoted += promoter.await.expect("the promoter ends");
    }
    assert_eq!(promoted, 100);
}

/// A server's calls may come over any handle: its lease and its claims are the storage's.
pub async fn second_handle_serves_the_same_server(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    let held = server.claim_one().await;
    let elsewhere = server.from(&s.second().await);
    assert!(elsewhere.heartbeat(&[held.claim]).await.expect("alive").is_empty());
    elsewhere.end(held.claim, success()).await;
    assert_eq!(server.finish(held.claim, success()).await, Verdict::Already);
}

/// Time is the storage's: no process sees it earlier than another has.
pub async fn second_shares_the_time(s: Stage) {
    let other = s.second().await;
    for _ in 0..10 {
        s.advance(secs(1)).await;
        let id = s.enqueue_one().await;
        assert!(other.now().await >= s.record(id).await.created_at);
    }
}

/// A parent that one process ends releases what another has added, in a hundred races.
pub async fn second_releases_what_the_first_adds(s: Stage) {
    const ROUNDS: usize = 100;
    let other = s.second().await;
    let server = Arc::new(other.server_with_lease("a", DAY).await);
    s.enqueue(ROUNDS).await;
    let held = server.claim(ROUNDS as u32).await;
    for job in &held {
        let child = s.new_after([Dependency::on(job.claim.job)]);
        let (server, claim) = (server.clone(), job.claim);
        let end = tokio::spawn(async move { server.end(claim, success()).await });
        s.create(vec![child]).await;
        end.await.expect("the parent ends");
    }
    s.expect_count(StateName::Awaiting, 0).await;
    s.expect_count(StateName::Enqueued, ROUNDS as u64).await;
}

/// Two processes that end the last two members of a batch end it once, in a hundred races.
pub async fn second_ends_a_batch_once(s: Stage) {
    let other = s.second().await;
    let (one, two) = (
        Arc::new(s.server_with_lease("a", DAY).await),
        Arc::new(other.server_with_lease("b", DAY).await),
    );
    for _ in 0..100 {
        let (batch, _) = s.batch(2).await;
        let callback = s.continue_with(batch).await;
        let claims = [(&one, one.claim_one().await), (&two, two.claim_one().await)];
        let ends = claims.map(|(server, job)| {
            let server = Arc::clone(server);
            tokio::spawn(async move { server.end(job.claim, success()).await })
        });
        for end in ends {
            end.await.expect("the member ends");
        }
        assert_eq!(other.members(batch).await, [2, 0, 2, 0, 0]);
        one.run(callback, success()).await;
    }
}

/// Of several processes that want a key at once one gets it.
pub async fn second_unique_one(s: Stage) {
    let stages = [s.clone(), s.second().await, s.second().await];
    for round in 0..20 {
        let callers: Vec<_> = stages
            .iter()
            .map(|stage| {
                let stage = stage.clone();
                tokio::spawn(async move { stage.create_unique(&format!("k{round}")).await })
            })
            .collect();
        let mut new = 0;
        for caller in callers {
            new += u32::from(!caller.await.expect("the caller ends").existing);
        }
        assert_eq!(new, 1);
    }
}

/// A limit holds across processes.
pub async fn second_keeps_the_limit(s: Stage) {
    s.set_limit("l", Some(LimitRule::concurrency(2))).await;
    s.enqueue_under("l", 60).await;
    let running = Arc::new(AtomicI64::new(0));
    let done = Arc::new(AtomicI64::new(0));
    let mut workers = Vec::new();
    for (n, stage) in [s.clone(), s.second().await, s.second().await].into_iter().enumerate() {
        let server = stage.server_with_lease(&format!("p{n}"), DAY).await;
        let (running, done) = (running.clone(), done.clone());
        workers.push(tokio::spawn(async move {
            while done.load(Ordering::SeqCst) < 60 {
                for job in server.claim(2).await {
                    assert!(running.fetch_add(1, Ordering::SeqCst) < 2, "more than two run");
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    server.end(job.claim, success()).await;
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        }));
    }
    for worker in workers {
        worker.await.expect("the worker ends");
    }
}

/// Schedulers of several processes fire each occurrence once.
pub async fn second_fires_once(s: Stage) {
    let stages = [s.clone(), s.second().await, s.second().await];
    for id in ["a", "b", "c"] {
        s.define(&recurring(id, every(10))).await;
    }
    for _ in 0..20 {
        s.advance(secs(10)).await;
        let schedulers: Vec<_> = stages
            .iter()
            .map(|stage| {
                let stage = stage.clone();
                tokio::spawn(async move { stage.tick().await })
            })
            .collect();
        for scheduler in schedulers {
            scheduler.await.expect("the scheduler ends");
        }
    }
    s.expect_count(StateName::Enqueued, 60).await;
    assert_eq!(s.counts().await.created_total, 60);
}

/// A lock is held against other processes as well, and each grant of it has a fence of its own.
pub async fn second_respects_locks(s: Stage) {
    let other = s.second().await;
    let fence = s.hold("l", "a", secs(10)).await;
    assert!(matches!(other.acquire("l", "b", secs(10)).await, LockAnswer::Taken { .. }));
    assert!(matches!(other.renew("l", fence, secs(10)).await, LockAnswer::Held { .. }));
    assert!(other.hold("m", "b", secs(10)).await > fence);
    assert_eq!(other.release("l", fence).await, LockAnswer::Released);
    assert!(s.hold("l", "a", secs(10)).await > fence + 1);
}

/// Promoters of several processes go on with one release, each child once.
pub async fn second_goes_on_with_a_release(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let children = s.continue_many(parent, 3_000).await;
    server.run(parent, success()).await;
    let stages = [s.clone(), s.second().await];
    let promoters: Vec<_> = stages
        .into_iter()
        .map(|stage| tokio::spawn(async move { stage.promote_all().await.released }))
        .collect();
    let mut released = 0;
    for promoter in promoters {
        released += promoter.await.expect("the promoter ends");
    }
    assert_eq!(released, 2_000);
    assert_eq!(s.record(children[2_999]).await.revision, 2);
}

/// The storage says of itself that several processes may work on it.
pub async fn second_is_told(s: Stage) {
    assert!(s.storage().info().capabilities.shared);
}
