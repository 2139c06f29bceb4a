//! Claiming: which jobs a server gets, in which order, and that nobody else gets them.

use std::collections::BTreeSet;

use portfire_core::{ClaimRequest, CycleRequest, JobState, Outcome, StateName, Verdict};

use crate::server::{finish, is_gone, success};
use crate::stage::{DAY, LEASE, Stage, json, kind, queue, secs};

/// An empty queue gives nothing.
pub async fn claim_empty_returns_none(s: Stage) {
    let server = s.server("a").await;
    assert!(server.claim(10).await.is_empty());
    s.enqueue_one().await;
    server.claim_one().await;
    assert!(server.claim(10).await.is_empty(), "what is held is not given again");
}

/// A claimed job is processing, for readers and counters.
pub async fn claim_marks_processing(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.claim_one().await;
    assert_eq!(s.state(id).await, StateName::Processing);
    s.expect_count(StateName::Processing, 1).await;
    s.expect_count(StateName::Enqueued, 0).await;
}

/// Each claim of a job has an attempt one higher than the last.
pub async fn claim_increments_attempt(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    for attempt in 1..=4 {
        let claimed = server.claim_one().await;
        assert_eq!((claimed.claim.job, claimed.claim.attempt), (id, attempt));
        assert_eq!(s.record(id).await.attempt, attempt);
        server.end(claimed.claim, Outcome::Released).await;
    }
}

/// A claimed job names its server, and since when.
pub async fn claim_sets_owner(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    s.advance(secs(7)).await;
    let before = s.now().await;
    let claimed = server.claim_one().await;
    let JobState::Processing { server: owner, claimed_at } = s.record(id).await.state else {
        panic!("the job is processing");
    };
    assert_eq!(owner, server.id());
    assert!(claimed_at >= before);
    assert_eq!(claimed.claimed_at, claimed_at);
}

/// A worker gets everything about its job with the claim.
pub async fn claim_gives_the_whole_job(s: Stage) {
    let server = s.server("a").await;
    let mut job = s.new_job();
    job.kind = kind("crate::deep.name-2");
    job.args = json(r#"{"a":[1,{"b":null}]}"#);
    job.priority = -3;
    job.options.tags = vec!["blue".into()];
    s.create(vec![job.clone()]).await;
    s.advance(secs(2)).await;
    let claimed = server.claim_one().await;
    let stored = s.record(job.id).await;
    assert_eq!((&claimed.kind, &claimed.args), (&job.kind, &job.args));
    assert_eq!((&claimed.queue, claimed.priority), (&job.queue, job.priority));
    assert_eq!(claimed.options, job.options);
    assert_eq!(claimed.created_at, stored.created_at);
    assert_eq!(claimed.enqueued_at, stored.created_at);
    assert_eq!(claimed.claimed_at.since(claimed.created_at), secs(2));
    assert_eq!((claimed.failures, claimed.recoveries), (0, 0));
}

/// A worker hears how often its job has failed and crashed, and when it last entered its queue.
pub async fn claim_tells_failures_and_recoveries(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.enqueue_one().await;
    let first = server.claim_one().await;
    server.end(first.claim, crate::server::retry(10)).await;
    s.advance(secs(10)).await;
    s.promote().await;
    let promoted_at = s.now().await;
    let mortal = s.server("b").await;
    let second = mortal.claim_one().await;
    assert_eq!((second.failures, second.recoveries), (1, 0));
    assert_eq!(second.enqueued_at, promoted_at);
    s.lapse().await;
    s.rescue().await;
    let third = server.claim_one().await;
    assert_eq!((third.failures, third.recoveries, third.claim.attempt), (1, 1, 3));
}

/// Within a queue and a rank the earlier job goes first.
pub async fn claim_fifo_within_queue(s: Stage) {
    let server = s.server("a").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(s.enqueue_one().await);
        s.advance(secs(1)).await;
    }
    for id in ids {
        assert_eq!(server.claim_one().await.claim.job, id);
    }
}

/// Jobs of one instant keep the order in which they came, over several calls.
pub async fn claim_order_stable_same_timestamp(s: Stage) {
    let server = s.server("a").await;
    let mut ids = s.enqueue(3).await;
    ids.push(s.enqueue_one().await);
    ids.extend(s.enqueue(3).await);
    for id in ids {
        assert_eq!(server.claim_one().await.claim.job, id);
    }
}

/// The order of arrival decides, not the order of the ids.
pub async fn claim_order_is_arrival_not_id(s: Stage) {
    let server = s.server("a").await;
    let mut jobs = s.new_jobs(4);
    jobs.reverse();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    s.create(jobs).await;
    for id in ids {
        assert_eq!(server.claim_one().await.claim.job, id);
    }
}

/// Within a queue the higher rank goes first, whenever it came.
pub async fn claim_respects_priority(s: Stage) {
    let server = s.server("a").await;
    let mut expected = Vec::new();
    for priority in [0, -5, 10, i16::MAX, i16::MIN, 10] {
        expected.push((std::cmp::Reverse(priority), s.enqueue_ranked(priority).await));
    }
    // Equal ranks stay in order of arrival: the ids rise.
    expected.sort();
    for (priority, id) in expected {
        assert_eq!(server.claim_one().await.claim.job, id, "rank {}", priority.0);
    }
}

/// The queues are emptied in the order in which they are named.
pub async fn claim_queue_order_strict(s: Stage) {
    let server = s.server("a").await;
    let low = s.enqueue_in("low").await;
    let high = s.enqueue_in("high").await;
    let mut urgent_low = s.new_job_in("low");
    urgent_low.priority = i16::MAX;
    let urgent_low = s.create_one(urgent_low).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(server.claim_from(&["high", "low"], 1).await[0].claim.job);
    }
    assert_eq!(order, [high, urgent_low, low], "the queue counts before the rank");
}

/// The same jobs come in the opposite order when the queues are named the other way round.
pub async fn claim_queue_order_is_the_callers(s: Stage) {
    let server = s.server("a").await;
    let a = s.enqueue_in("a").await;
    let b = s.enqueue_in("b").await;
    let claimed = server.claim_from(&["b", "a"], 1).await;
    assert_eq!(claimed[0].claim.job, b);
    let claimed = server.claim_from(&["b", "a"], 1).await;
    assert_eq!(claimed[0].claim.job, a);
}

/// Jobs of other queues are not given, even when nothing else is there.
pub async fn claim_only_listed_queues(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_in("other").await;
    assert!(server.claim(10).await.is_empty());
    assert!(server.claim_from(&["othe", "other2"], 10).await.is_empty());
    assert_eq!(s.state(id).await, StateName::Enqueued);
}

/// The request decides about the queues, not what the server announced.
pub async fn claim_queues_of_the_request_count(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_in("not-announced").await;
    assert_eq!(server.claim_from(&["not-announced"], 1).await[0].claim.job, id);
}

/// A queue that nobody has heard of gives nothing and stays unknown.
pub async fn claim_unknown_queue_is_empty(s: Stage) {
    let server = s.server("a").await;
    assert!(server.claim_from(&["nowhere"], 5).await.is_empty());
    assert_eq!(s.queue("nowhere").await, None);
}

/// A wish that names no queue gets nothing.
pub async fn claim_without_queues_is_empty(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    assert!(server.claim_from(&[], 5).await.is_empty());
}

/// A queue that is named twice gives each job once.
pub async fn claim_queue_named_twice_gives_once(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(3).await;
    let claimed = server.claim_from(&["default", "default"], 10).await;
    let ids: BTreeSet<_> = claimed.iter().map(|job| job.claim.job).collect();
    assert_eq!((claimed.len(), ids.len()), (3, 3));
}

/// Several jobs are claimed in one call.
pub async fn claim_batch_n(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(10).await;
    let claimed: Vec<_> = server.claim(4).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(claimed, ids[..4]);
    let claimed: Vec<_> = server.claim(100).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(claimed, ids[4..]);
}

/// A claim of many comes in the order of queues, ranks and arrival.
pub async fn claim_batch_in_order(s: Stage) {
    let server = s.server("a").await;
    let mut expected = Vec::new();
    for (place, name) in ["low", "mid", "high"].into_iter().enumerate() {
        for priority in [0, 5, 0, -5, 5] {
            let mut job = s.new_job_in(name);
            job.priority = priority;
            expected.push((2 - place, std::cmp::Reverse(priority), s.create_one(job).await));
        }
    }
    expected.sort();
    let claimed = server.claim_from(&["high", "mid", "low"], 100).await;
    let claimed: Vec<_> = claimed.iter().map(|job| job.claim.job).collect();
    let expected: Vec<_> = expected.into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(claimed, expected);
}

/// No claim gives more than was asked, over all queues together.
pub async fn claim_batch_never_exceeds_n(s: Stage) {
    let server = s.server("a").await;
    for name in ["x", "y", "z"] {
        let jobs = (0..5).map(|_| s.new_job_in(name)).collect();
        s.create(jobs).await;
    }
    assert_eq!(server.claim_from(&["x", "y", "z"], 7).await.len(), 7);
    assert_eq!(server.claim_from(&["x", "y", "z"], 7).await.len(), 7);
    assert_eq!(server.claim_from(&["x", "y", "z"], 7).await.len(), 1);
}

/// A wish for nothing gets nothing.
pub async fn claim_zero_claims_nothing(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    assert!(server.claim(0).await.is_empty());
    assert_eq!(s.record(id).await.revision, 1);
}

/// A wish for more than the largest batch is cut to it.
pub async fn claim_over_batch_max_is_cut(s: Stage) {
    let server = s.server("a").await;
    let max = portfire_core::storage::BATCH_MAX;
    s.enqueue(max).await;
    s.enqueue(5).await;
    let claimed = server.claim(u32::MAX).await.len();
    assert!((1..=max).contains(&claimed), "{claimed}");
    let rest = server.claim(u32::MAX).await.len();
    assert_eq!(claimed + rest, max + 5);
}

/// A queue that runs dry leaves the rest of the wish to the next.
pub async fn claim_fills_up_from_the_next_queue(s: Stage) {
    let server = s.server("a").await;
    let first = s.enqueue_in("first").await;
    let second = [s.enqueue_in("second").await, s.enqueue_in("second").await];
    let claimed = server.claim_from(&["first", "empty", "second"], 2).await;
    let ids: Vec<_> = claimed.iter().map(|job| job.claim.job).collect();
    assert_eq!(ids, [first, second[0]]);
}

/// A paused queue is passed over, and the next one served.
pub async fn claim_skips_paused_queue(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_in("stopped").await;
    let open = s.enqueue_in("open").await;
    s.pause("stopped", true).await;
    let claimed = server.claim_from(&["stopped", "open"], 10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].claim.job, open);
}

/// A job whose instant has not come is not given.
pub async fn claim_skips_scheduled_future(s: Stage) {
    let server = s.server("a").await;
    s.schedule(secs(60)).await;
    assert!(server.claim(10).await.is_empty());
}

/// A deleted job is not given.
pub async fn claim_skips_deleted(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(3).await;
    let _ = s.delete(ids[0]).await;
    let _ = s.delete(ids[1]).await;
    let claimed = server.claim(10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].claim.job, ids[2]);
}

/// A job that waits for others is not given out.
pub async fn claim_skips_awaiting(s: Stage) {
    let server = s.server("a").await;
    let parent = s.schedule(secs(60)).await;
    let child = s.continue_with(parent).await;
    assert!(server.claim(10).await.is_empty());
    assert_eq!((s.state(child).await, s.record(child).await.attempt), (StateName::Awaiting, 0));
}

/// Each job goes to one claim only, when two servers ask in turn.
pub async fn claim_two_workers_never_same_job(s: Stage) {
    let (a, b) = (s.server("a").await, s.server("b").await);
    s.enqueue(20).await;
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        assert!(seen.insert(a.claim_one().await.claim.job));
        assert!(seen.insert(b.claim_one().await.claim.job));
    }
    assert!(a.claim(1).await.is_empty());
}

/// Thirty-two servers at once take ten thousand jobs, each job once, and finish them.
pub async fn claim_32_workers_10k_jobs_each_once(s: Stage) {
    s.enqueue(10_000).await;
    let mut workers = Vec::new();
    for n in 0..32 {
        let server = s.server_with_lease(&format!("w{n}"), DAY).await;
        workers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut finished = Vec::new();
            loop {
                let request = CycleRequest { finished, ..server.wish(20) };
                let cycle = server.cycle(request).await;
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
    let once: BTreeSet<_> = taken.iter().copied().collect();
    assert_eq!((taken.len(), once.len()), (10_000, 10_000));
    s.expect_count(StateName::Succeeded, 10_000).await;
}

/// A job that is given back goes to its old place, before jobs that came later.
pub async fn claim_released_keeps_place(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(3).await;
    let first = server.claim(2).await;
    s.enqueue_one().await;
    server.end(first[1].claim, Outcome::Released).await;
    server.end(first[0].claim, Outcome::Released).await;
    for id in ids {
        assert_eq!(server.claim_one().await.claim.job, id);
    }
}

/// A rescued job goes to its old place too.
pub async fn claim_rescued_keeps_place(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(3).await;
    server.claim(2).await;
    s.lapse().await;
    assert_eq!(s.rescue().await.returned, 2);
    let next = s.server("b").await;
    let again: Vec<_> = next.claim(10).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(again, ids);
}

/// The old place is a place among equals: the rank still counts first.
pub async fn claim_released_keeps_rank(s: Stage) {
    let server = s.server("a").await;
    let low = s.enqueue_ranked(0).await;
    let claimed = server.claim_one().await;
    let high = s.enqueue_ranked(1).await;
    server.end(claimed.claim, Outcome::Released).await;
    assert_eq!(server.claim_one().await.claim.job, high);
    assert_eq!(server.claim_one().await.claim.job, low);
}

/// A job that someone asks for again goes to the end.
pub async fn claim_requeued_goes_to_end(s: Stage) {
    let server = s.server("a").await;
    let again = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, success()).await;
    let waiting = s.enqueue_one().await;
    let _ = s.requeue(again).await;
    let order: Vec<_> = server.claim(2).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, [waiting, again]);
}

/// A retried job goes to the end when its instant has come.
pub async fn claim_retried_goes_to_end(s: Stage) {
    let server = s.server("a").await;
    let retried = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, crate::server::retry(1)).await;
    let waiting = s.enqueue_one().await;
    s.advance(secs(1)).await;
    s.promote().await;
    let order: Vec<_> = server.claim(2).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, [waiting, retried]);
}

/// The claim after a release has a new attempt.
pub async fn claim_after_release_new_attempt(s: Stage) {
    let (a, b) = (s.server("a").await, s.server("b").await);
    let id = s.enqueue_one().await;
    let first = a.claim_one().await;
    a.end(first.claim, Outcome::Released).await;
    let second = b.claim_one().await;
    assert_eq!((second.claim.job, second.claim.attempt), (id, first.claim.attempt + 1));
}

/// A server that was never announced gets nothing.
pub async fn claim_server_unregistered_rejected(s: Stage) {
    let id = s.enqueue_one().await;
    let server = crate::server::Server::new(s.clone(), "ghost", LEASE);
    let answer = server.try_cycle(server.wish(1)).await;
    assert!(is_gone(&answer), "{answer:?}");
    assert_eq!(s.state(id).await, StateName::Enqueued);
}

/// A claim looks at the queues only, not at what its server holds already.
pub async fn claim_may_exceed_the_workers_of_its_server(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(20).await;
    let claim = Some(ClaimRequest { queues: vec![queue("default")], max: 20, aging: None });
    let cycle = server.cycle(CycleRequest { claim, ..server.request() }).await;
    assert_eq!(cycle.claimed.len(), 20, "the server announced 4 workers and asked for 20 jobs");
}

/// A job that is given back is announced to those that idle.
pub async fn release_wakes_idle_worker(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    let claimed = server.claim_one().await;
    let mut wakeups = s.storage().wakeups();
    server.end(claimed.claim, Outcome::Released).await;
    s.heard(wakeups.work(), "the released job").await;
}
