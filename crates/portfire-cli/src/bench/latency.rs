//! The scenarios about one job alone: from the call of enqueue to the start of its handler.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::figures::{Percentiles, Since};
use super::probe::{self, stamped};
use super::{Bench, Measured, serve};
use crate::failure::Failure;

/// Between two jobs: long enough that each finds an idle server.
const PACE: Duration = Duration::from_millis(20);

/// Jobs before those that count: they find cold caches and unstarted threads.
const WARM_UP: u64 = 25;

/// Longest wait for the last handler to start.
const LAST_START_MAX: Duration = Duration::from_secs(30);

pub(super) async fn in_process(bench: &Bench<'_>) -> Result<Measured, Failure> {
    let jobs = bench.jobs(500);
    let server = serve::start(bench).await?;
    enqueue_paced(bench, WARM_UP).await?;
    wait_for(WARM_UP).await?;
    probe::take_latencies();

    let since = Since::now(bench.commits());
    let begin = Instant::now();
    enqueue_paced(bench, jobs).await?;
    wait_for(jobs).await?;
    let (time, figures) = (begin.elapsed(), since.figures(bench.commits()));
    server.shutdown().await;
    let percentiles = Percentiles::of(probe::take_latencies());
    Ok(Measured { jobs, time, percentiles, figures, ..Measured::default() })
}

pub(super) async fn between_processes(bench: &Bench<'_>) -> Result<Measured, Failure> {
    if !bench.location.is_shared() {
        let message = format!("`{}` lives in one process; two cannot share it", bench.location);
        return Err(Failure::usage(message));
    }
    let jobs = bench.jobs(500);
    let server = serve::start(bench).await?;
    let since = Since::now(bench.commits());
    let begin = Instant::now();
    let fed = feed_from_a_process(bench, WARM_UP + jobs).await?;
    if !fed.success() {
        return Err(Failure::new(format!("the process that enqueues ended with {fed}")));
    }
    wait_for(WARM_UP + jobs).await?;
    let (time, figures) = (begin.elapsed(), since.figures(bench.commits()));
    server.shutdown().await;
    let latencies = probe::take_latencies();
    let percentiles = Percentiles::of(latencies.into_iter().skip(WARM_UP as usize).collect());
    Ok(Measured { jobs, time, percentiles, figures, ..Measured::default() })
}

/// Runs this program again, as the one that enqueues.
async fn feed_from_a_process(
    bench: &Bench<'_>,
    jobs: u64,
) -> Result<std::process::ExitStatus, Failure> {
    let program = std::env::current_exe()?;
    let mut command = std::process::Command::new(program);
    command.args(["bench", "feed", "--storage", bench.location.url(), "--jobs", &jobs.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let waiting = tokio::task::spawn_blocking(move || command.status());
    Ok(waiting.await.map_err(|error| Failure::new(error.to_string()))??)
}

/// What the other process does.
pub(super) async fn feed(bench: &Bench<'_>) -> Result<(), Failure> {
    enqueue_paced(bench, bench.jobs(500)).await
}

async fn enqueue_paced(bench: &Bench<'_>, jobs: u64) -> Result<(), Failure> {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for _ in 0..jobs {
        pace.tick().await;
        bench.client.enqueue(stamped(probe::now())).await?;
    }
    Ok(())
}

/// Waits until so many handlers have started.
async fn wait_for(jobs: u64) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut look = tokio::time::interval(PACE);
    while (probe::latencies() as u64) < jobs {
        look.tick().await;
        if begin.elapsed() > LAST_START_MAX {
            let started = probe::latencies();
            return Err(Failure::new(format!(
                "{started} of {jobs} jobs have started, {LAST_START_MAX:?} after the last was enqueued"
            )));
        }
    }
    Ok(())
}
