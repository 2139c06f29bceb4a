//! The scenario about a long line: what a job costs that waits for a limit, with many before it and with few.

use std::time::{Duration, Instant};

use super::compare::limit;
use super::figures::{Percentiles, Since};
use super::probe::{self, marked};
use super::{Against, Bench, Measured, serve};
use crate::failure::Failure;

/// The short line.
const FEW: u64 = 10;

/// Lines of each length, of which as many short ones stand against a long one as it takes to have as many jobs.
const LINES: u64 = 4;

/// Between two looks at whether a line has gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Longest wait for the next start.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

/// Lets lines of one key go, one job at a time, long ones and short ones in turns. What counts is the
/// time from the start of one job to the start of the next of its line; on both sides the longest tenth of these times
/// is left out, because a busy machine takes most of them, and takes them from who works without a pause.
pub(super) async fn long_and_short(bench: &Bench<'_>) -> Result<Measured, Failure> {
    let many = bench.jobs(1_000).max(FEW);
    let server = serve::start(bench).await?;
    line(bench, FEW).await?;
    let since = Since::now(bench.commits());
    let (mut of_many, mut of_few) = (Vec::new(), Vec::new());
    for _ in 0..LINES {
        of_many.extend(line(bench, many).await?);
        for _ in 0..many.div_ceil(FEW) {
            of_few.extend(line(bench, FEW).await?);
        }
    }
    let figures = since.figures(bench.commits());
    server.shutdown().await;
    let jobs = of_many.len() as u64;
    let time = usual(&of_many).mul_f64(jobs as f64);
    // As if the short lines had had as many jobs.
    let plain = usual(&of_few).mul_f64(jobs as f64);
    Ok(Measured {
        jobs,
        time,
        is_rate: true,
        percentiles: Percentiles::of(of_many),
        figures,
        against: Some(Against { plain, enqueue: None, drain: None, cpu: None }),
        ..Measured::default()
    })
}

/// The mean without the longest tenth; zero of nothing.
fn usual(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.truncate((times.len() * 9).div_ceil(10));
    let count = u32::try_from(sorted.len()).unwrap_or(u32::MAX).max(1);
    sorted.iter().sum::<Duration>() / count
}

/// Stores a line of jobs in one call, and answers the times between their starts once all have ended.
async fn line(bench: &Bench<'_>, jobs: u64) -> Result<Vec<Duration>, Failure> {
    let succeeded_before = bench.storage.counts().await?.succeeded_total;
    probe::take_starts();
    let mut calls = Vec::with_capacity(jobs as usize);
    for _ in 0..jobs {
        let mut job = bench.client.prepare(marked())?;
        job.ties.limits = vec![limit("line".to_owned(), 1)?];
        calls.push(job);
    }
    bench.client.create(calls).await?;
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let (mut last, mut moved_at) = (0, Instant::now());
    loop {
        look.tick().await;
        let started = probe::starts() as u64;
        if started >= jobs
            && bench.storage.counts().await?.succeeded_total >= succeeded_before + jobs
        {
            break;
        }
        if started > last {
            (last, moved_at) = (started, Instant::now());
        }
        if moved_at.elapsed() > STANDSTILL_MAX {
            return Err(Failure::new(format!(
                "{started} of {jobs} jobs of a line have started, and nothing more for {STANDSTILL_MAX:?}"
            )));
        }
    }
    let starts = probe::take_starts();
    Ok(starts.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_time_leaves_the_longest_tenth_out() {
        let millis = |numbers: &[u64]| -> Vec<Duration> {
            numbers.iter().map(|&number| Duration::from_millis(number)).collect()
        };
        assert_eq!(usual(&millis(&[900, 1, 2, 3, 1, 2, 3, 1, 2, 3])), Duration::from_millis(2));
        assert_eq!(usual(&millis(&[5])), Duration::from_millis(5));
        assert_eq!(usual(&[]), Duration::ZERO);
    }
}
