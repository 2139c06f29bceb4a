//! The scenario about recurring jobs that are all due at one instant, against as many delayed jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portfire_core::recurring::RecurringChange;
use portfire_core::{NewRecurring, RecurringId, Schedule, Storage, Timestamp};

use super::figures::{Percentiles, Since};
use super::probe::{self, noop};
use super::serve::{FILL_BATCH, start, wait_for_end};
use super::{Against, Bench, Measured};
use crate::failure::Failure;

/// The application that the bench's recurring jobs belong to.
const APP: &str = "portfire.bench";

/// How long before their instant the first attempt begins to store the jobs.
const LEAD: Duration = Duration::from_secs(2);

/// The longest lead; a storage that has not stored the jobs by then is too slow to measure.
const LEAD_MAX: Duration = Duration::from_secs(600);

/// What is left of the lead when all are stored, at least: a server starts in it.
const REST: Duration = Duration::from_secs(1);

/// Fires so many recurring jobs of one instant. The time is that from the instant until the last has been
/// fired, by storage time; the percentiles are over all. The ratio is of the times until the last
/// job has succeeded: of delayed jobs of one instant, over that of recurring ones.
pub(super) async fn due_at_once(bench: &Bench<'_>) -> Result<Measured, Failure> {
    let jobs = bench.jobs(10_000);
    let delayed = run_at(bench, jobs, delay(bench, jobs).await?).await?;
    let since = Since::now(bench.commits());
    let at = define(bench, jobs).await?;
    let recurring = run_at(bench, jobs, at).await?;
    let figures = since.figures(bench.commits());
    let late = lateness(bench, jobs, at).await?;
    // Only its own; a storage may be someone's file.
    let prune = RecurringChange::Prune { app: APP.to_owned(), keep: Vec::new() };
    bench.storage.change_recurring(prune).await?;
    let time = late.iter().max().copied().unwrap_or_default();
    Ok(Measured {
        jobs,
        time,
        is_rate: true,
        percentiles: Percentiles::of(late),
        figures,
        done: Some(recurring),
        // Scaled, so that the ratio of the rates is the ratio of the ends.
        against: Some(Against {
            plain: time.mul_f64(delayed.as_secs_f64() / recurring.as_secs_f64()),
            enqueue: None,
            drain: None,
            cpu: None,
        }),
        ..Measured::default()
    })
}

/// Starts a server before the instant, and answers how long after it the last job had succeeded.
async fn run_at(bench: &Bench<'_>, jobs: u64, at: Timestamp) -> Result<Duration, Failure> {
    let ran_before = probe::ran();
    let succeeded_before = bench.storage.counts().await?.succeeded_total;
    let server = start(bench).await?;
    let until = at.since(bench.storage.now().await?);
    tokio::time::sleep(until).await;
    wait_for_end(bench, jobs, ran_before, succeeded_before).await?;
    // By storage time, as the instant: the sleep ends a little late.
    let time = bench.storage.now().await?.since(at);
    server.shutdown().await;
    Ok(time)
}

/// Stores recurring jobs that are due once, at one instant, which it answers.
async fn define(bench: &Bench<'_>, jobs: u64) -> Result<Timestamp, Failure> {
    let mut lead = LEAD;
    loop {
        let at = instant(&*bench.storage, lead).await?;
        let next = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..bench.args.in_flight)
            .map(|_| {
                let (storage, next) = (Arc::clone(&bench.storage), Arc::clone(&next));
                let job = bench.client.prepare(noop(&bench.payload));
                tokio::spawn(async move {
                    let job = job?;
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= jobs {
                            return Ok::<_, Failure>(());
                        }
                        let schedule = Schedule::Every(Duration::from_secs(86_400));
                        let (kind, args) = (job.kind.clone(), job.args.clone());
                        let mut new = NewRecurring::new(id(number)?, schedule, kind, args);
                        new.app = APP.to_owned();
                        new.declared = true;
                        (new.starts_at, new.ends_at) = (Some(at), Some(at));
                        let change = RecurringChange::Upsert(Box::new(new));
                        storage.change_recurring(change).await?;
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.map_err(|error| Failure::new(error.to_string()))??;
        }
        if in_time(&*bench.storage, at, &mut lead).await? {
            return Ok(at);
        }
    }
}

fn id(number: u64) -> Result<RecurringId, Failure> {
    Ok(RecurringId::new(format!("{APP}.{number}"))?)
}

/// Stores delayed jobs that are due at one instant, which it answers.
async fn delay(bench: &Bench<'_>, jobs: u64) -> Result<Timestamp, Failure> {
    let mut lead = LEAD;
    loop {
        let at = instant(&*bench.storage, lead).await?;
        let mut stored = 0;
        while stored < jobs {
            let count = FILL_BATCH.min(jobs - stored);
            let calls = (0..count).map(|_| noop(&bench.payload).delay(at));
            bench.client.enqueue_many(calls).await?;
            stored += count;
        }
        if in_time(&*bench.storage, at, &mut lead).await? {
            return Ok(at);
        }
        // They are due already: out of the way before the next attempt.
        super::serve::run_to_end(bench, jobs).await?;
    }
}

async fn instant(storage: &dyn Storage, lead: Duration) -> Result<Timestamp, Failure> {
    let at = storage.now().await?.checked_add(lead + REST);
    at.ok_or_else(|| Failure::new("the storage's clock stands at the end of time"))
}

/// Whether enough is left until the instant; otherwise the next attempt begins earlier.
async fn in_time(
    storage: &dyn Storage,
    at: Timestamp,
    lead: &mut Duration,
) -> Result<bool, Failure> {
    if at.since(storage.now().await?) >= REST {
        return Ok(true);
    }
    *lead *= 3;
    if *lead > LEAD_MAX {
        return Err(Failure::new(format!("so many jobs are not stored within {LEAD_MAX:?}")));
    }
    Ok(false)
}

/// How long after the instant each was fired.
async fn lateness(bench: &Bench<'_>, jobs: u64, at: Timestamp) -> Result<Vec<Duration>, Failure> {
    let mut late = Vec::with_capacity(jobs as usize);
    for number in 0..jobs {
        let runs = bench.storage.runs(id(number)?, 2).await?;
        match &runs[..] {
            [run] if run.job.is_some() && run.planned_at == at => late.push(run.fired_at.since(at)),
            other => {
                return Err(Failure::new(format!("recurring job {number} ran as {other:?}")));
            }
        }
    }
    Ok(late)
}
