//! The scenarios with a server: how fast waiting jobs are run, and what a server costs that has none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portfire::Server;

use super::figures::Since;
use super::probe::{self, noop};
use super::{Bench, Measured};
use crate::failure::Failure;

/// Between two looks at whether the last job is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Longest wait for the next completion before the measurement is given up.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

/// Jobs in a call while the storage is filled.
pub(super) const FILL_BATCH: u64 = 1_000;

/// Runs jobs that wait already, to the last durable completion, with `backlog` others scheduled for
/// tomorrow.
pub(super) async fn drain(bench: &Bench<'_>, backlog: u64) -> Result<Measured, Failure> {
    let jobs = bench.jobs(100_000);
    let tomorrow = Duration::from_secs(86_400);
    if bench.args.history > 0 {
        fill(bench, bench.args.history, Duration::ZERO).await?;
        run_to_end(bench, bench.args.history).await?;
    }
    fill(bench, backlog, tomorrow).await?;
    fill(bench, jobs, Duration::ZERO).await?;
    let since = Since::now(bench.commits());
    let time = run_to_end(bench, jobs).await?;
    let figures = since.figures(bench.commits());
    Ok(Measured { jobs, time, is_rate: true, figures, ..Measured::default() })
}

async fn fill(bench: &Bench<'_>, jobs: u64, delay: Duration) -> Result<(), Failure> {
    let mut stored = 0;
    while stored < jobs {
        let batch = FILL_BATCH.min(jobs - stored);
        let calls = (0..batch).map(|_| noop(&bench.payload).delay(delay));
        bench.client.enqueue_many(calls).await?;
        stored += batch;
    }
    Ok(())
}

/// Starts a server, and answers how long it took until so many more jobs had succeeded, durably.
pub(super) async fn run_to_end(bench: &Bench<'_>, jobs: u64) -> Result<Duration, Failure> {
    let ran_before = probe::ran();
    let succeeded_before = bench.storage.counts().await?.succeeded_total;
    let begin = Instant::now();
    let server = start(bench).await?;
    wait_for_end(bench, jobs, ran_before, succeeded_before).await?;
    let time = begin.elapsed();
    server.shutdown().await;
    Ok(time)
}

/// Waits until so many more jobs have run, and have succeeded durably.
pub(super) async fn wait_for_end(
    bench: &Bench<'_>,
    jobs: u64,
    ran_before: u64,
    succeeded_before: u64,
) -> Result<(), Failure> {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let (mut last, mut moved_at) = (0, Instant::now());
    loop {
        look.tick().await;
        let ran = probe::ran() - ran_before;
        // Counting asks the storage; until the handlers have run there is nothing to ask.
        let succeeded = match ran >= jobs {
            true => bench.storage.counts().await?.succeeded_total - succeeded_before,
            false => 0,
        };
        if succeeded >= jobs {
            return Ok(());
        }
        if ran + succeeded > last {
            (last, moved_at) = (ran + succeeded, Instant::now());
        }
        if moved_at.elapsed() > STANDSTILL_MAX {
            return Err(Failure::new(format!(
                "{ran} of {jobs} jobs have run, and nothing more has happened for {STANDSTILL_MAX:?}"
            )));
        }
    }
}

/// A server for the measured jobs, and for no others that may be linked.
pub(super) async fn start(bench: &Bench<'_>) -> Result<Server, Failure> {
    let mut server = Server::builder(Arc::clone(&bench.storage))
        .name("bench")
        .register(portfire::jobs![probe::noop, probe::talkative, probe::stamped, probe::marked]);
    if let Some(workers) = bench.args.workers {
        server = server.workers(workers as usize);
    }
    server.start().await.map_err(|error| Failure::new(error.to_string()))
}

/// What a server costs that has nothing to do.
pub(super) async fn idle(bench: &Bench<'_>) -> Result<Measured, Failure> {
    let server = start(bench).await?;
    // What belongs to the start is over after the first heartbeat at the latest.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let since = Since::now(bench.commits());
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_secs(bench.args.seconds)).await;
    let time = begin.elapsed();
    let figures = since.figures_of_idleness(bench.commits());
    server.shutdown().await;
    Ok(Measured { time, figures, ..Measured::default() })
}
