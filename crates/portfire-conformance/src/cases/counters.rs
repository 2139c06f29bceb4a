//! Counters and statistics: they change with the jobs, and add up.

use portfire_core::{Action, Bucket, Claim, Outcome, StateName, StatisticsRecord};

use crate::random::Random;
use crate::server::{Server, error, failure, retry, success};
use crate::stage::{DAY, Stage, secs};

/// A random life of many jobs on three servers, some of which die.
async fn live(s: &Stage, seed: u64, steps: usize) {
    let mut random = Random::new(seed);
    let mut ids = Vec::new();
    let mut servers: Vec<(Server, Vec<Claim>)> = Vec::new();
    for step in 0..steps {
        match random.below(12) {
            0..=2 => {
                let mut jobs = s.new_jobs(1 + random.below(4));
                for job in &mut jobs {
                    job.queue = crate::stage::queue(random.pick(&["default", "mail", "low"]));
                    if random.below(3) == 0 {
                        job.when = secs(random.number() % 90).into();
                    }
                }
                ids.extend(s.create(jobs).await.into_iter().map(|created| created.id));
            }
            3..=5 => {
                if servers.len() < 3 {
                    let server = s.server(&format!("r{seed}-{step}")).await;
                    servers.push((server, Vec::new()));
                }
                let nth = random.below(servers.len());
                let (server, held) = &mut servers[nth];
                let claimed = server.claim_from(&["mail", "default", "low"], 3).await;
                held.extend(claimed.iter().map(|job| job.claim));
            }
            6..=8 => {
                for (server, held) in &mut servers {
                    let Some(claim) = held.pop() else { continue };
                    let outcome = random_outcome(&mut random);
                    server.finish(claim, outcome).await;
                }
            }
            9 if !ids.is_empty() => {
                let action = match random.below(3) {
                    0 => Action::Requeue,
                    1 => Action::Delete { reason: "by chance".into() },
                    _ => Action::Reschedule(secs(random.number() % 60).into()),
                };
                let _ = s.change(random.pick(&ids), action).await;
            }
            10 => {
                s.advance(secs(random.number() % 20)).await;
                s.promote().await;
                s.rescue().await;
                let mut alive = Vec::new();
                for (server, held) in servers {
                    let beats = random.below(4) > 0 && server.heartbeat(&held).await.is_ok();
                    if beats {
                        alive.push((server, held));
                    }
                }
                servers = alive;
            }
            _ => {
                if random.below(20) == 0 {
                    s.advance(DAY + secs(1)).await;
                    s.clean(5).await;
                    servers.clear();
                }
            }
        }
    }
}

fn random_outcome(random: &mut Random) -> Outcome {
    match random.below(8) {
        0..=2 => success(),
        3 => failure(),
        4 => retry(random.number() % 30),
        5 => Outcome::Snoozed { delay: secs(random.number() % 30) },
        6 => Outcome::Released,
        _ => Outcome::Discarded { reason: "by chance".into(), error: Some(error()) },
    }
}

/// After any life of many jobs the counters equal a recount.
pub async fn counter_equals_recount(s: Stage) {
    for seed in 1..=3 {
        live(&s, seed, 150).await;
        crate::audit::audit(&s).await;
    }
    let counts = s.counts().await;
    assert!(counts.created_total > 100, "the workload does something: {counts:?}");
    assert!(counts.recovered_total > 0 && counts.retried_total > 0, "{counts:?}");
}

/// Counters stay exact when many write at once.
pub async fn counter_fold_concurrent(s: Stage) {
    let writers: Vec<_> = (0..8)
        .map(|seed| {
            let s = s.clone();
            tokio::spawn(async move {
                let server = s.server_with_lease(&format!("w{seed}"), DAY).await;
                for _ in 0..15 {
                    s.enqueue(2).await;
                    // Out of the workers' reach, so that no job both succeeds and is deleted.
                    let aside = s.enqueue_in("aside").await;
                    let _ = s.delete(aside).await;
                    for job in server.claim(2).await {
                        server.finish(job.claim, success()).await;
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("the writer ends");
    }
    let counts = s.counts().await;
    assert_eq!(counts.created_total, 8 * 15 * 3);
    let stored: u64 = counts.states.values().sum();
    assert_eq!(stored, 8 * 15 * 3);
    assert_eq!(counts.succeeded_total, counts.of(StateName::Succeeded));
    assert_eq!(counts.deleted_total, counts.of(StateName::Deleted));
}

/// Every state is counted, and none is left out when it is empty.
pub async fn stats_by_state(s: Stage) {
    let counts = s.counts().await;
    assert_eq!(counts.states.len(), 7);
    assert!(counts.states.values().all(|n| *n == 0));
    for (n, state) in StateName::ALL.into_iter().enumerate() {
        for _ in 0..=n {
            s.job_in(state).await;
        }
    }
    let counts = s.counts().await;
    for (n, state) in StateName::ALL.into_iter().enumerate() {
        assert_eq!(counts.of(state), n as u64 + 1, "{state}");
    }
}

/// Each total counts its own transitions, ever.
pub async fn counter_totals_count_transitions(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    for outcome in [success(), failure(), success()] {
        server.end(server.claim_one().await.claim, outcome).await;
        let _ = s.requeue(id).await;
    }
    server.end(server.claim_one().await.claim, retry(0)).await;
    let _ = s.delete(id).await;
    let counts = s.counts().await;
    assert_eq!((counts.created_total, counts.succeeded_total, counts.failed_total), (1, 2, 1));
    assert_eq!((counts.retried_total, counts.deleted_total), (1, 1));
    assert_eq!((counts.recovered_total, counts.cleaned_total), (0, 0));
}

/// Jobs of each queue are counted by state.
pub async fn counter_by_queue(s: Stage) {
    let server = s.server("a").await;
    for name in ["x", "x", "x", "y"] {
        s.enqueue_in(name).await;
    }
    let held = server.claim_from(&["x"], 2).await;
    server.end(held[0].claim, success()).await;
    let x = s.queue("x").await.expect("listed").states;
    let of = |state| x.get(&state).copied().unwrap_or(0);
    let (waiting, running) = (of(StateName::Enqueued), of(StateName::Processing));
    assert_eq!((waiting, running, of(StateName::Succeeded)), (1, 1, 1));
    let y = s.queue("y").await.expect("listed").states;
    assert_eq!(y.get(&StateName::Enqueued), Some(&1));
}

/// A deletion is taken from the state that the job was in, each time.
pub async fn counter_follows_a_deletion(s: Stage) {
    for state in [
        StateName::Scheduled,
        StateName::Enqueued,
        StateName::Processing,
        StateName::Succeeded,
        StateName::Failed,
    ] {
        let id = s.job_in(state).await.expect("a way leads there");
        let before = s.counts().await;
        let _ = s.delete(id).await;
        let after = s.counts().await;
        assert_eq!(after.of(state) + 1, before.of(state), "{state}");
        assert_eq!(after.of(StateName::Deleted), before.of(StateName::Deleted) + 1, "{state}");
        assert_eq!(after.deleted_total, before.deleted_total + 1, "{state}");
    }
}

async fn bucket(s: &Stage, bucket: Bucket, since: portfire_core::Timestamp) -> Vec<[u64; 3]> {
    let records = s.storage().statistics(bucket, since).await.expect("read");
    records.iter().map(|record| [record.succeeded, record.failed, record.deleted]).collect()
}

/// Outcomes are counted in the hour and the day in which they came.
pub async fn stats_hourly_daily_buckets(s: Stage) {
    let since = s.now().await;
    s.job_in(StateName::Succeeded).await;
    s.job_in(StateName::Succeeded).await;
    s.job_in(StateName::Failed).await;
    s.advance(DAY).await;
    let next = s.now().await;
    s.job_in(StateName::Deleted).await;
    s.job_in(StateName::Failed).await;
    for width in [Bucket::Hour, Bucket::Day] {
        let records = s.storage().statistics(width, since).await.expect("read");
        let expected = [
            StatisticsRecord { start: width.start(since), succeeded: 2, failed: 1, deleted: 0 },
            StatisticsRecord { start: width.start(next), succeeded: 0, failed: 1, deleted: 1 },
        ];
        assert_eq!(records, expected, "{width:?}");
    }
}

/// Statistics begin with the bucket that the instant lies in, and leave out empty ones.
pub async fn stats_begin_where_asked(s: Stage) {
    let start = Bucket::Hour.start(s.now().await).saturating_add(secs(3_600));
    s.advance(start.since(s.now().await)).await;
    for _ in 0..3 {
        s.job_in(StateName::Succeeded).await;
        s.advance(secs(2 * 3_600)).await;
    }
    let one = [1, 0, 0];
    let middle = start.saturating_add(secs(2 * 3_600));
    assert_eq!(bucket(&s, Bucket::Hour, start).await, [one; 3]);
    assert_eq!(bucket(&s, Bucket::Hour, middle).await, [one; 2]);
    let inside = middle.saturating_add(secs(3_599));
    assert_eq!(bucket(&s, Bucket::Hour, inside).await, [one; 2], "the bucket it lies in counts");
    let after = middle.saturating_add(secs(3_600));
    assert_eq!(bucket(&s, Bucket::Hour, after).await, [one; 1]);
    assert_eq!(bucket(&s, Bucket::Hour, portfire_core::Timestamp::MAX).await.len(), 0);
}

/// Each outcome counts in its column: discards are deletions, poison is a failure, retries are none.
pub async fn stats_count_each_outcome(s: Stage) {
    let since = s.now().await;
    let server = s.server("a").await;
    s.enqueue(5).await;
    let held = server.claim(5).await;
    server.end(held[0].claim, retry(600)).await;
    server.end(held[1].claim, Outcome::Snoozed { delay: secs(600) }).await;
    let gone = Outcome::Discarded { reason: "no".into(), error: None };
    server.end(held[2].claim, gone).await;
    server.end(held[3].claim, failure()).await;
    s.lapse().await;
    let request = portfire_core::RescueRequest { recoveries_max: 0, max: 10, ..Default::default() };
    assert_eq!(s.rescue_with(request).await.poisoned, 1);
    assert_eq!(bucket(&s, Bucket::Day, since).await, [[0, 2, 1]]);
}

/// The buckets of all days add up to the totals.
pub async fn stats_add_up_to_the_totals(s: Stage) {
    let since = s.now().await;
    live(&s, 42, 150).await;
    let counts = s.counts().await;
    let mut sums = [0; 3];
    for day in bucket(&s, Bucket::Day, since).await {
        for (sum, n) in sums.iter_mut().zip(day) {
            *sum += n;
        }
    }
    assert_eq!(sums, [counts.succeeded_total, counts.failed_total, counts.deleted_total]);
}
