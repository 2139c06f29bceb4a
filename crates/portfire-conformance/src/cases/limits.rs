//! Limits of concurrency: slots, lines, turns, and rules that change while jobs run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use portfire_core::{
    Conflict, CycleRequest, Dependency, InvalidJob, JobId, KeyRecord, LimitRecord, LimitRule,
    LimitTarget, LimitUse, NewJob, Outcome, StateName, StorageError, Window,
};

use crate::server::{Server, failure, finish, retry, success};
use crate::stage::{DAY, Stage, ids, kind, limit, queue, secs, under};

use StateName::Enqueued;

const ONE: Option<LimitRule> = Some(LimitRule::concurrency(1));

async fn claimed(server: &Server, max: u32) -> Vec<JobId> {
    server.claim(max).await.iter().map(|job| job.claim.job).collect()
}

/// At most k jobs of a limit are claimed; the others wait in its line, still enqueued.
pub async fn limit_k_respected(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::concurrency(3))).await;
    let jobs = s.enqueue_under("l", 10).await;
    let held = server.claim(10).await;
    assert_eq!(held.iter().map(|job| job.claim.job).collect::<Vec<_>>(), jobs[..3]);
    assert!(server.claim(10).await.is_empty());
    assert_eq!(s.line("l").await, (3, 7));
    s.expect_count(Enqueued, 7).await;
    assert_eq!(s.state(jobs[9]).await, Enqueued);
    let plain = s.enqueue_one().await;
    assert_eq!(claimed(&server, 10).await, [plain], "others pass by");
    let mut done = 0;
    let mut held = held;
    while let Some(job) = held.pop() {
        server.end(job.claim, success()).await;
        done += 1;
        held.extend(server.claim(10).await);
        assert!(held.len() <= 3);
    }
    assert_eq!((done, s.line("l").await), (10, (0, 0)));
}

/// Eight servers that claim and finish at once never run more than k jobs, and run all of them.
pub async fn limit_k_respected_by_8_servers(s: Stage) {
    s.set_limit("l", Some(LimitRule::concurrency(3))).await;
    s.enqueue_under("l", 120).await;
    let (running, done) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let mut workers = Vec::new();
    for n in 0..8 {
        let server = s.server_with_lease(&format!("w{n}"), DAY).await;
        let (running, done) = (running.clone(), done.clone());
        workers.push(tokio::spawn(async move {
            while done.load(Ordering::SeqCst) < 120 {
                let held = server.claim(2).await;
                let now = running.fetch_add(held.len() as i64, Ordering::SeqCst);
                assert!(now + held.len() as i64 <= 3, "{now} were running");
                tokio::task::yield_now().await;
                for job in held {
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
    s.expect_count(StateName::Succeeded, 120).await;
}

/// Those who wait come in the order of their rank, and then of their creation.
pub async fn limit_waiters_keep_their_order(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let mut jobs: Vec<NewJob> = (0..6).map(|_| s.new_limited([under("l")])).collect();
    jobs[3].priority = 5;
    jobs[5].priority = 5;
    jobs[1].priority = -1;
    let made = ids(&s.create(jobs).await);
    let mut order = Vec::new();
    for _ in 0..6 {
        let held = server.claim(10).await;
        assert_eq!(held.len(), 1);
        order.push(held[0].claim.job);
        server.end(held[0].claim, success()).await;
    }
    let expected = [3, 5, 0, 2, 4, 1].map(|n: usize| made[n]);
    assert_eq!(order, expected);
}

/// A job that waits for a slot makes no transition, in the line and out of it.
pub async fn limit_waiting_is_no_transition(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let jobs = s.enqueue_under("l", 2).await;
    let before = s.record(jobs[1]).await;
    let first = server.claim_job(jobs[0]).await;
    assert!(server.claim(1).await.is_empty());
    assert_eq!((s.line("l").await, s.record(jobs[1]).await), ((1, 1), before.clone()));
    s.advance(secs(5)).await;
    server.end(first.claim, success()).await;
    assert_eq!((s.line("l").await, s.record(jobs[1]).await), ((0, 0), before));
    assert_eq!(s.history(jobs[1]).await.len(), 1);
}

/// A slot is free the moment its job leaves `processing`, whatever takes it from there: the next of the
/// line can be claimed by the same call.
pub async fn limit_slot_freed_by_every_end(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let ends = [
        success(),
        failure(),
        retry(600),
        Outcome::Snoozed { delay: secs(600) },
        Outcome::Parked { delay: secs(600) },
        Outcome::Discarded { reason: "x".into(), error: None },
    ];
    let mut jobs = s.enqueue_under("l", ends.len() + 1).await.into_iter();
    let mut held = server.claim_job(jobs.next().expect("the first")).await;
    for outcome in ends {
        let finished = vec![finish(held.claim, outcome.clone())];
        let cycle = server.cycle(CycleRequest { finished, ..server.wish(10) }).await;
        let next: Vec<_> = cycle.claimed.iter().map(|job| job.claim.job).collect();
        assert_eq!(next, [jobs.next().expect("one more")], "after {outcome:?}");
        held = cycle.claimed.into_iter().next().expect("the next");
    }
}

/// A job that is given back goes to its old place, before those who waited for its slot.
pub async fn limit_slot_freed_by_a_release(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let jobs = s.enqueue_under("l", 3).await;
    let held = server.claim_job(jobs[0]).await;
    assert!(server.claim(10).await.is_empty());
    server.end(held.claim, Outcome::Released).await;
    assert_eq!(claimed(&server, 10).await, [jobs[0]]);
    assert_eq!(s.line("l").await, (1, 2));
}

/// No crash leaks a slot: with the jobs of a dead server their slots are free.
pub async fn limit_slot_freed_on_crash(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::concurrency(2))).await;
    let jobs = s.enqueue_under("l", 4).await;
    assert_eq!(server.claim(10).await.len(), 2);
    s.lapse().await;
    assert_eq!(s.rescue().await.returned, 2);
    let next = s.server("b").await;
    assert_eq!(claimed(&next, 10).await, jobs[..2]);
    assert_eq!(s.line("l").await, (2, 2));
    s.lapse().await;
    assert_eq!(s.rescue().await.returned, 2);
    // Twice is suspicious: they would be given out one by one.
    for &job in &jobs[..2] {
        let _ = s.delete(job).await;
    }
    let last = s.server("c").await;
    assert_eq!(claimed(&last, 10).await, jobs[2..]);
}

/// A server that retires frees its slots.
pub async fn limit_slot_freed_by_a_retirement(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let jobs = s.enqueue_under("l", 2).await;
    server.claim_job(jobs[0]).await;
    assert!(server.claim(1).await.is_empty());
    server.retire().await;
    let next = s.server("b").await;
    assert_eq!(claimed(&next, 10).await, [jobs[0]]);
}

/// A running job that is deleted frees its slot at once, before its worker hears of it.
pub async fn limit_slot_not_leaked_on_delete(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let jobs = s.enqueue_under("l", 3).await;
    let held = server.claim_job(jobs[0]).await;
    assert!(server.claim(10).await.is_empty());
    let _ = s.delete(jobs[0]).await;
    assert_eq!(s.line("l").await, (0, 1));
    assert_eq!(claimed(&server, 10).await, [jobs[1]]);
    server.finish(held.claim, success()).await;
    assert!(server.claim(10).await.is_empty(), "the late finish frees nothing more");
    assert_eq!(s.line("l").await, (1, 1));
}

/// A call that is refused after it was to make a job follow a running one takes no slot from that.
pub async fn limit_slot_outlives_a_refused_child(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let jobs = s.enqueue_under("l", 2).await;
    let held = server.claim_one().await;
    let mut orphan = s.new_job();
    orphan.ties.after = vec![Dependency::on(s.id())];
    let mut child = s.new_job();
    child.ties.after = vec![Dependency::on(held.claim.job)];
    let refused = s.storage().create(vec![child, orphan]).await;
    assert!(matches!(refused, Err(StorageError::Invalid(_))), "{refused:?}");
    assert!(server.claim(10).await.is_empty(), "the slot is taken still");
    server.end(held.claim, success()).await;
    assert_eq!(claimed(&server, 10).await, jobs[1..]);
}

/// A job that is deleted or rescheduled while it waits leaves the line, and the next comes up.
pub async fn limit_line_is_left_by_hand(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let jobs = s.enqueue_under("l", 5).await;
    let held = server.claim_job(jobs[0]).await;
    assert!(server.claim(10).await.is_empty());
    let _ = s.delete(jobs[1]).await;
    let _ = s.reschedule(jobs[2], secs(60)).await;
    assert_eq!(s.requeue(jobs[3]).await, portfire_core::Changed::Unchanged);
    assert_eq!(s.line("l").await, (1, 2));
    server.end(held.claim, success()).await;
    assert_eq!(claimed(&server, 10).await, [jobs[3]]);
    let _ = s.delete(jobs[4]).await;
    assert_eq!(s.line("l").await, (1, 0));
}

/// A job that comes to its queue while its limit is used up goes to the line at once, whatever brings it.
pub async fn limit_full_at_entry(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.set_limit("l", ONE).await;
    let parent = s.enqueue_one().await;
    let parent = server.claim_job(parent).await;
    let holder = s.enqueue_under("l", 1).await[0];
    server.claim_job(holder).await;
    let created = s.enqueue_under("l", 1).await[0];
    assert_eq!(s.line("l").await, (1, 1));
    let mut scheduled = s.new_limited([under("l")]);
    scheduled.when = secs(1).into();
    let mut waits = s.new_limited([under("l")]);
    waits.ties.after = vec![Dependency::on(parent.claim.job)];
    let made = ids(&s.create(vec![scheduled, waits]).await);
    s.advance(secs(1)).await;
    s.promote().await;
    assert_eq!(s.line("l").await, (1, 2));
    server.end(parent.claim, success()).await;
    assert_eq!(s.line("l").await, (1, 3));
    let _ = s.delete(made[1]).await;
    let _ = s.requeue(made[1]).await;
    assert_eq!(s.line("l").await, (1, 3));
    for id in [created, made[0], made[1]] {
        assert_eq!(s.state(id).await, Enqueued);
    }
    assert!(server.claim(10).await.is_empty());
}

/// A newcomer does not pass those who wait, though there is room.
pub async fn limit_newcomers_go_behind_the_line(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let mut jobs = s.enqueue_under("l", 3).await;
    server.claim_job(jobs[0]).await;
    assert!(server.claim(10).await.is_empty());
    s.set_limit("l", Some(LimitRule::concurrency(5))).await;
    jobs.extend(s.enqueue_under("l", 1).await);
    let mut order = vec![jobs[0]];
    for _ in 0..3 {
        s.promote().await;
        order.extend(claimed(&server, 10).await);
    }
    assert_eq!(order, jobs);
}

/// Each partition of a limit has its own slots under the same rule.
pub async fn limit_partitions_are_apart(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("tenant", ONE).await;
    let a = s.enqueue_for("tenant", "a", 2).await;
    let b = s.enqueue_for("tenant", "b:c", 2).await;
    let whole = s.enqueue_for("tenant", "", 2).await;
    assert_eq!(claimed(&server, 10).await, [a[0], b[0], whole[0]]);
    let key = |key: &str| KeyRecord { key: key.into(), running: 1, waiting: 1, next_at: None };
    let keys = s.limit_keys("tenant").await;
    assert_eq!(keys, [key("tenant"), key("tenant:a"), key("tenant:b:c")]);
    s.set_limit("tenan", ONE).await;
    assert_eq!(s.limit_keys("tenan").await, [], "another limit's keys are not listed");
}

/// Partitions take turns, however long the line of one of them is.
pub async fn limit_partitions_take_turns(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("tenant", ONE).await;
    let mut tenants = Vec::new();
    for (tenant, n) in [("a", 40), ("b", 5), ("c", 5)] {
        tenants.push((tenant, s.enqueue_for("tenant", tenant, n).await));
    }
    let of = |job: JobId| {
        let found = tenants.iter().find(|(_, jobs)| jobs.contains(&job));
        found.map(|(tenant, _)| *tenant).expect("a tenant's job")
    };
    let mut held = std::collections::VecDeque::from(server.claim(2).await);
    let mut turns: Vec<&str> = held.iter().map(|job| of(job.claim.job)).collect();
    while let Some(first) = held.pop_front() {
        let finished = vec![finish(first.claim, success())];
        let want = 2 - held.len() as u32;
        let cycle = server.cycle(CycleRequest { finished, ..server.wish(want) }).await;
        turns.extend(cycle.claimed.iter().map(|job| of(job.claim.job)));
        held.extend(cycle.claimed);
    }
    assert_eq!(turns.len(), 50);
    assert_eq!(turns[..15].concat(), "abcabcabcabcabc");
}

/// A job under several limits needs a slot of each; it waits for one at a time, and none leaks.
pub async fn limit_of_several_keys(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("one", ONE).await;
    s.set_limit("two", Some(LimitRule::concurrency(2))).await;
    let both = || s.new_limited([under("one"), under("two")]);
    let two = s.enqueue_under("two", 1).await[0];
    let jobs = ids(&s.create(vec![both(), both()]).await);
    let more = s.enqueue_under("two", 1).await[0];
    assert_eq!(claimed(&server, 10).await, [two, jobs[0]]);
    assert_eq!((s.line("one").await, s.line("two").await), ((1, 1), (2, 1)));
    let held = server.new.id.clone();
    assert_eq!(s.server_record(&held).await.expect("listed").processing, 2);
    // A slot of `two` alone helps only who waits for that.
    let _ = s.delete(two).await;
    assert_eq!(claimed(&server, 10).await, [more]);
    let _ = s.delete(jobs[0]).await;
    assert_eq!(claimed(&server, 10).await, [jobs[1]]);
    assert_eq!((s.line("one").await, s.line("two").await), ((1, 0), (2, 0)));
}

/// A job whose turn comes and that has to wait for another of its limits lets the next have the turn, though
/// nothing ends meanwhile.
pub async fn limit_turn_passed_on_by_who_waits_for_another(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("one", ONE).await;
    s.set_limit("two", ONE).await;
    let long = s.enqueue_under("two", 1).await[0];
    server.claim_job(long).await;
    let first = s.enqueue_under("one", 1).await[0];
    let first = server.claim_job(first).await;
    let both = (0..3).map(|_| s.new_limited([under("one"), under("two")])).collect();
    s.create(both).await;
    let alone = s.enqueue_under("one", 1).await[0];
    assert_eq!(s.line("one").await, (1, 4));
    server.end(first.claim, success()).await;
    // Each claim sends one of them from the line of `one` to that of `two`.
    for waiting in [3, 2, 1] {
        assert_eq!(s.line("one").await, (0, waiting));
        assert!(server.claim(1).await.is_empty());
    }
    assert_eq!(claimed(&server, 1).await, [alone]);
    assert_eq!((s.line("one").await, s.line("two").await), ((1, 0), (1, 3)));
}

/// A job whose turn has come and that is deleted or rescheduled instead, by hand or for another, lets the next
/// have the turn.
pub async fn limit_turn_passed_on_by_who_leaves_the_queue(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let mut jobs: Vec<NewJob> = (0..6).map(|_| s.new_limited([under("l")])).collect();
    let key = s.new_unique("k", portfire_core::UniqueScope::UntilFinished, Conflict::Replace);
    jobs[3].ties.unique = key.ties.unique.clone();
    let jobs = ids(&s.create(jobs).await);
    let held = server.claim_job(jobs[0]).await;
    assert!(server.claim(10).await.is_empty());
    server.end(held.claim, success()).await;
    assert_eq!(s.line("l").await, (0, 4));
    let _ = s.delete(jobs[1]).await;
    assert_eq!(s.line("l").await, (0, 3));
    let _ = s.reschedule(jobs[2], secs(60)).await;
    assert_eq!(s.line("l").await, (0, 2));
    s.create(vec![key.clone()]).await;
    assert_eq!(s.state(jobs[3]).await, StateName::Deleted);
    assert_eq!(s.line("l").await, (0, 1));
    assert_eq!(claimed(&server, 10).await, [key.id, jobs[4]]);
    let _ = s.delete(jobs[4]).await;
    assert_eq!(claimed(&server, 10).await, [jobs[5]]);
}

/// Jobs of a paused queue take no turn: those of other queues behind them have it. They wait in their queue.
pub async fn limit_paused_queue_takes_no_turn(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let mut jobs: Vec<NewJob> = (0..7).map(|_| s.new_limited([under("l")])).collect();
    jobs[1..5].iter_mut().for_each(|job| job.queue = queue("bulk"));
    let jobs = ids(&s.create(jobs).await);
    let held = server.claim_job(jobs[0]).await;
    assert!(server.claim_from(&["bulk", "default"], 10).await.is_empty());
    assert_eq!(s.line("l").await, (1, 6));
    s.pause("bulk", true).await;
    server.end(held.claim, success()).await;
    assert_eq!(s.line("l").await, (0, 1), "those of `bulk` and the first behind them");
    assert_eq!(claimed(&server, 10).await, [jobs[5]]);
    s.pause("bulk", false).await;
    assert!(server.claim_from(&["bulk"], 10).await.is_empty());
    assert_eq!(s.line("l").await, (1, 5));
    let mut running = jobs[5];
    for next in [jobs[1], jobs[2], jobs[3], jobs[4], jobs[6]] {
        let _ = s.delete(running).await;
        let claimed = server.claim_from(&["bulk", "default"], 10).await;
        assert_eq!(claimed.iter().map(|job| job.claim.job).collect::<Vec<_>>(), [next]);
        running = next;
    }
}

/// A limit that is raised while jobs run lets more of them run; promotions bring them up.
pub async fn limit_raised_live(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let jobs = s.enqueue_under("l", 6).await;
    assert_eq!(claimed(&server, 10).await, jobs[..1]);
    let mut wakeups = s.storage().wakeups();
    s.set_limit("l", Some(LimitRule::concurrency(4))).await;
    s.heard(wakeups.work(), "the raised limit").await;
    let mut running = jobs[..1].to_vec();
    for _ in 0..6 {
        s.promote().await;
        running.extend(claimed(&server, 10).await);
    }
    assert_eq!(running, jobs[..4]);
    assert_eq!(s.line("l").await, (4, 2));
}

/// A limit that is lowered takes no running job away; the next starts when there is room again.
pub async fn limit_lowered_live(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::concurrency(3))).await;
    let jobs = s.enqueue_under("l", 5).await;
    let held = server.claim(10).await;
    assert_eq!(held.len(), 3);
    s.set_limit("l", ONE).await;
    for job in &held[..2] {
        server.end(job.claim, success()).await;
        s.promote().await;
        assert!(server.claim(10).await.is_empty());
    }
    server.end(held[2].claim, success()).await;
    assert_eq!(claimed(&server, 10).await, [jobs[3]]);
}

/// A limit that is removed limits nothing: the next promotion brings up all who waited.
pub async fn limit_removed_live(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let jobs = s.enqueue_under("l", 20).await;
    assert_eq!(claimed(&server, 30).await, jobs[..1]);
    s.set_limit("l", None).await;
    assert_eq!(s.promote().await.released, 19);
    assert_eq!(claimed(&server, 30).await, jobs[1..]);
    assert_eq!(s.storage().limits().await.expect("read"), []);
}

/// A limit without a rule limits nothing.
pub async fn limit_without_a_rule(s: Stage) {
    let server = s.server("a").await;
    let jobs = s.enqueue_under("l", 20).await;
    assert_eq!(claimed(&server, 30).await, jobs);
}

/// A rule that code declares is stored with the job, and changed by the next that declares another.
pub async fn limit_declared_by_code(s: Stage) {
    let server = s.server("a").await;
    let declaring = |k| {
        let declared = Some(LimitRule::concurrency(k));
        s.new_limited([LimitUse { declared, ..under("l") }])
    };
    s.create(vec![declaring(1), declaring(2)]).await;
    let record = |k, set| LimitRecord {
        target: LimitTarget::Named(limit("l")),
        rule: LimitRule::concurrency(k),
        set,
    };
    assert_eq!(s.storage().limits().await.expect("read"), [record(2, false)]);
    s.enqueue_under("l", 3).await;
    assert_eq!(server.claim(10).await.len(), 2, "who declares nothing changes nothing");
    // What someone set by hand wins over code, until it is taken back.
    s.set_limit("l", Some(LimitRule::concurrency(7))).await;
    s.create(vec![declaring(1)]).await;
    assert_eq!(s.storage().limits().await.expect("read"), [record(7, true)]);
    s.set_limit("l", None).await;
    assert_eq!(s.storage().limits().await.expect("read"), [record(1, false)]);
}

/// A limit may be set for all jobs of a kind, without their naming it.
pub async fn limit_of_a_kind(s: Stage) {
    let server = s.server("a").await;
    s.set_limit_of(LimitTarget::Kind(kind("probe")), ONE).await;
    let jobs = s.enqueue(3).await;
    let mut other = s.new_job();
    other.kind = kind("other");
    let other = s.create_one(other).await;
    assert_eq!(claimed(&server, 10).await, [jobs[0], other]);
    let waiting = s.waiting(jobs[1]).await.expect("it waits");
    assert_eq!(waiting.limit.expect("for a limit").key, "kind probe");
    let _ = s.delete(jobs[0]).await;
    assert_eq!(claimed(&server, 10).await, [jobs[1]]);
}

/// A limit of a queue bounds how many of its jobs run; nobody waits in a line for it.
pub async fn limit_of_a_queue(s: Stage) {
    let server = s.server("a").await;
    s.set_limit_of(LimitTarget::Queue(queue("mail")), Some(LimitRule::concurrency(2))).await;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(s.enqueue_in("mail").await);
    }
    let other = s.enqueue_one().await;
    let held = server.claim_from(&["mail", "default"], 10).await;
    assert_eq!(held.iter().map(|job| job.claim.job).collect::<Vec<_>>(), {
        [jobs[0], jobs[1], other]
    });
    assert!(server.claim_from(&["mail"], 10).await.is_empty());
    server.end(held[0].claim, success()).await;
    let next = server.claim_from(&["mail"], 10).await;
    assert_eq!(next.iter().map(|job| job.claim.job).collect::<Vec<_>>(), [jobs[2]]);
    s.set_limit_of(LimitTarget::Queue(queue("mail")), None).await;
    assert_eq!(server.claim_from(&["mail"], 10).await.len(), 2);
}

/// A limit of a queue holds across servers.
pub async fn limit_of_a_queue_across_servers(s: Stage) {
    let (one, two) = (s.server("a").await, s.server("b").await);
    s.set_limit_of(LimitTarget::Queue(queue("default")), ONE).await;
    let jobs = s.enqueue(2).await;
    let held = one.claim_job(jobs[0]).await;
    assert!(two.claim(10).await.is_empty());
    one.end(held.claim, success()).await;
    two.claim_job(jobs[1]).await;
}

/// The limits that have a rule are listed by target, and say who set them.
pub async fn limits_are_listed(s: Stage) {
    assert_eq!(s.storage().limits().await.expect("read"), []);
    let rate = LimitRule::rate(10, secs(60), Window::Fixed);
    let both = LimitRule { concurrency: Some(2), ..rate };
    let mut expected = vec![
        (LimitTarget::Kind(kind("probe")), rate),
        (LimitTarget::Named(limit("b")), both),
        (LimitTarget::Queue(queue("q")), LimitRule::concurrency(9)),
        (LimitTarget::Named(limit("a")), LimitRule::concurrency(1)),
    ];
    for (target, rule) in &expected {
        s.set_limit_of(target.clone(), Some(*rule)).await;
    }
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    let listed = s.storage().limits().await.expect("read");
    let told: Vec<_> = listed.iter().map(|record| (record.target.clone(), record.rule)).collect();
    assert_eq!(told, expected);
    assert!(listed.iter().all(|record| record.set));
    for (target, _) in expected {
        s.set_limit_of(target, None).await;
    }
    assert_eq!(s.storage().limits().await.expect("read"), []);
}

/// Rules, partitions and numbers of limits beyond their bounds are refused, set by hand or declared.
pub async fn limit_bounds(s: Stage) {
    let rules = [
        LimitRule::concurrency(0),
        LimitRule::concurrency(100_001),
        LimitRule::rate(0, secs(1), Window::Fixed),
        LimitRule::rate(1_000_001, secs(1), Window::Sliding),
        LimitRule::rate(1, std::time::Duration::from_millis(99), Window::Fixed),
        LimitRule::rate(1, 367 * DAY, Window::Sliding),
    ];
    for rule in rules {
        let answer = s.storage().set_limit(LimitTarget::Named(limit("l")), Some(rule)).await;
        let named = matches!(
            &answer,
            Err(StorageError::Invalid(InvalidJob::Limit { name, .. })) if name == "l"
        );
        assert!(named, "{answer:?}");
        let job = s.new_limited([LimitUse { declared: Some(rule), ..under("l") }]);
        let refused = s.refused(vec![], vec![job]).await;
        assert!(matches!(refused, InvalidJob::Limit { .. }), "{refused:?}");
    }
    let long = LimitUse { partition: "x".repeat(201), ..under("l") };
    let refused = s.refused(vec![], vec![s.new_limited([long])]).await;
    assert!(matches!(refused, InvalidJob::Limit { .. }), "{refused:?}");
    let many = ["a", "b", "c", "d", "e"].map(under);
    let refused = s.refused(vec![], vec![s.new_limited(many)]).await;
    assert_eq!(refused, InvalidJob::TooManyLimits { count: 5 });
    assert_eq!(s.storage().limits().await.expect("read"), []);
}

/// A claim sorts at most a thousand jobs into lines and then stops: no call takes long for one full key.
pub async fn limit_claim_sorts_a_thousand(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let jobs = s.enqueue_under("l", 1_500).await;
    let plain = s.enqueue_one().await;
    let mut wakeups = s.storage().wakeups();
    assert_eq!(claimed(&server, 10).await, [jobs[0]]);
    assert_eq!(s.line("l").await, (1, 1_000));
    s.heard(wakeups.work(), "what is left to look at").await;
    assert_eq!(claimed(&server, 10).await, [plain]);
    assert_eq!(s.line("l").await, (1, 1_499));
}

/// A thousand who wait come up one by one, each once.
pub async fn limit_1000_waiters(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::concurrency(10))).await;
    let jobs = s.enqueue_under("l", 1_010).await;
    let mut held = server.claim(1_000).await;
    assert_eq!(held.len(), 10);
    let mut done = BTreeSet::new();
    while !held.is_empty() {
        done.extend(held.iter().map(|job| job.claim.job));
        let finished: Vec<_> = held.iter().map(|job| finish(job.claim, success())).collect();
        held = server.cycle(CycleRequest { finished, ..server.wish(1_000) }).await.claimed;
        assert!(held.len() <= 10);
    }
    assert_eq!(done, jobs.into_iter().collect());
}

/// The keys of partitions with any text in them are kept apart.
pub async fn limit_partitions_of_every_script(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", ONE).await;
    let mut firsts = Vec::new();
    for text in crate::odd::TEXTS {
        firsts.push(s.enqueue_for("l", text, 2).await[0]);
    }
    assert_eq!(claimed(&server, 100).await, firsts);
    assert_eq!(s.limit_keys("l").await.len(), firsts.len());
}
