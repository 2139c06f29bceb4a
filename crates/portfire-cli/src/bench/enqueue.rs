//! The scenarios without a server: how fast jobs are taken in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::figures::{self, Percentiles, Since};
use super::probe::noop;
use super::raw::RawCommits;
use super::{Bench, Measured};
use crate::failure::Failure;

/// Jobs between two turns of the raw commits.
const TURN: u64 = 250;

/// One caller, each job durable before the next. SQLite's own one-row commits take turns with it, so
/// that both see the same moods of the disk.
pub(super) async fn serial(bench: &Bench<'_>) -> Result<Measured, Failure> {
    let jobs = bench.jobs(10_000);
    let mut raw = match bench.location.file() {
        Some(file) => Some(RawCommits::beside(file)?),
        None => None,
    };
    // The first enqueue opens what is opened late; it is not what is measured.
    bench.client.enqueue(noop(&bench.payload)).await?;

    let since = Since::now(bench.commits());
    let (mut time, mut raw_time, mut raw_written) = (Duration::ZERO, Duration::ZERO, 0);
    let mut latencies = Vec::with_capacity(jobs as usize);
    while (latencies.len() as u64) < jobs {
        let turn = TURN.min(jobs - latencies.len() as u64);
        let begin = Instant::now();
        for _ in 0..turn {
            let begin = Instant::now();
            bench.client.enqueue(noop(&bench.payload)).await?;
            latencies.push(begin.elapsed());
        }
        time += begin.elapsed();
        if let Some(raw) = &mut raw {
            let written = figures::bytes_written().unwrap_or(0);
            let begin = Instant::now();
            raw.commit(turn, &bench.payload)?;
            raw_time += begin.elapsed();
            raw_written += figures::bytes_written().unwrap_or(0).saturating_sub(written);
        }
    }
    let mut figures = since.figures(bench.commits());
    figures.bytes_written = figures.bytes_written.map(|bytes| bytes.saturating_sub(raw_written));
    Ok(Measured {
        jobs,
        time,
        is_rate: true,
        percentiles: Percentiles::of(latencies),
        figures,
        raw_commits_per_second: raw.map(|_| jobs as f64 / raw_time.as_secs_f64()),
        ..Measured::default()
    })
}

/// Many callers at a time, one job each.
pub(super) async fn concurrent(bench: &Bench<'_>) -> Result<Measured, Failure> {
    let jobs = bench.jobs(200_000);
    let taken = Arc::new(AtomicU64::new(0));
    let since = Since::now(bench.commits());
    let begin = Instant::now();
    let callers: Vec<_> = (0..bench.args.in_flight)
        .map(|_| {
            let (client, payload) = (bench.client.clone(), bench.payload.clone());
            let taken = Arc::clone(&taken);
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while taken.fetch_add(1, Ordering::Relaxed) < jobs {
                    let begin = Instant::now();
                    client.enqueue(noop(&payload)).await?;
                    latencies.push(begin.elapsed());
                }
                Ok::<_, Failure>(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::with_capacity(jobs as usize);
    for caller in callers {
        let of_one = caller.await.map_err(|error| Failure::new(error.to_string()))?;
        latencies.extend(of_one?);
    }
    let time = begin.elapsed();
    let figures = since.figures(bench.commits());
    let percentiles = Percentiles::of(latencies);
    Ok(Measured { jobs, time, is_rate: true, percentiles, figures, ..Measured::default() })
}

/// One caller, many jobs in a call.
pub(super) async fn many(bench: &Bench<'_>) -> Result<Measured, Failure> {
    let jobs = bench.jobs(500_000);
    let since = Since::now(bench.commits());
    let begin = Instant::now();
    let mut latencies = Vec::new();
    let mut stored = 0;
    while stored < jobs {
        let batch = u64::from(bench.args.batch).min(jobs - stored);
        let begin = Instant::now();
        bench.client.enqueue_many((0..batch).map(|_| noop(&bench.payload))).await?;
        latencies.push(begin.elapsed());
        stored += batch;
    }
    let time = begin.elapsed();
    let figures = since.figures(bench.commits());
    let percentiles = Percentiles::of(latencies);
    Ok(Measured { jobs, time, is_rate: true, percentiles, figures, ..Measured::default() })
}
