//! `portfire bench`: what a storage and a server do on this machine, through the public API.
//!
//! The jobs are real calls of a `#[job]` function that does nothing, durable as the storage is by
//! default. The answer is one line of JSON, or a few lines for people.

mod compare;
mod enqueue;
mod figures;
mod latency;
mod log_watch;
mod occurrences;
mod probe;
mod raw;
mod scratch;
mod serve;
mod waiters;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use portfire::sqlite::SqliteStorage;
use portfire_core::{Client, JobFilter, StateName, Storage};
use serde::Serialize;

use crate::answer;
use crate::command::{BenchArgs, Scenario};
use crate::escape;
use crate::failure::Failure;
use crate::jobs::BENCH_KINDS;
use crate::location::{Location, Missing};
use compare::Feature;
use figures::{Figures, Percentiles};
use log_watch::LogWatch;
use scratch::Scratch;

/// What a measurement found. A figure that does not apply, or cannot be had here, is null.
#[derive(Debug, Serialize)]
struct Report {
    scenario: &'static str,
    storage: String,
    /// Jobs that were measured.
    jobs: u64,
    seconds: f64,
    jobs_per_second: Option<f64>,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Most memory the process had at a time during the measurement (Linux).
    rss_mb: Option<f64>,
    /// Transactions that this process committed, when the storage counts them.
    commits: Option<u64>,
    /// Bytes that the process gave to its disks during the measurement (Linux).
    bytes_written: Option<u64>,
    /// Longest that SQLite's log was, filling included; null where looking would disturb.
    log_mb: Option<f64>,
    /// One-row commits of SQLite itself, as durable, in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_commits_per_second: Option<f64>,
    /// The same without the feature, in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_jobs_per_second: Option<f64>,
    /// Our rate over that of the two above which was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    /// The ratio of the times that storing the jobs took.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_enqueue: Option<f64>,
    /// The ratio of the times that running the jobs took.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_drain: Option<f64>,
    /// The ratio of the processor times of both (Linux).
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_cpu: Option<f64>,
    /// When the last job had succeeded, durably, where `seconds` is not that.
    #[serde(skip_serializing_if = "Option::is_none")]
    done_seconds: Option<f64>,
    /// Processor time of this process, of one processor's (Linux).
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
}

/// What one scenario measured.
#[derive(Debug, Default)]
struct Measured {
    jobs: u64,
    time: Duration,
    /// Whether jobs per second say something.
    is_rate: bool,
    percentiles: Option<Percentiles>,
    figures: Figures,
    raw_commits_per_second: Option<f64>,
    against: Option<Against>,
    /// Until the last job had succeeded, where `time` is not that.
    done: Option<Duration>,
}

/// What the same number of jobs took without the feature.
#[derive(Clone, Copy, Debug)]
struct Against {
    plain: Duration,
    /// The ratio of the times that storing took.
    enqueue: Option<f64>,
    /// The ratio of the times that running took.
    drain: Option<f64>,
    /// The ratio of the processor times.
    cpu: Option<f64>,
}

/// What a scenario works with.
struct Bench<'a> {
    location: &'a Location,
    storage: Arc<dyn Storage>,
    /// The same storage, when it is one that counts its commits.
    sqlite: Option<SqliteStorage>,
    client: Client,
    args: &'a BenchArgs,
    payload: String,
}

impl Bench<'_> {
    /// How many jobs to measure.
    fn jobs(&self, default: u64) -> u64 {
        self.args.jobs.unwrap_or(default)
    }

    /// Commits that the storage has made in this process.
    fn commits(&self) -> Option<u64> {
        self.sqlite.as_ref().map(SqliteStorage::commits)
    }
}

pub(crate) async fn run(
    location: &Location,
    args: &BenchArgs,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    // Removed when the measurement has ended, however it ends.
    let scratch = if location.is_anywhere() { Some(Scratch::new()?) } else { None };
    let location = scratch.as_ref().map_or(location, Scratch::location);
    let sqlite = match location.file() {
        Some(path) => Some(SqliteStorage::open(path).await?),
        None => None,
    };
    let storage: Arc<dyn Storage> = match &sqlite {
        Some(sqlite) => Arc::new(sqlite.clone()),
        None => location.open(Missing::Create).await?,
    };
    let bench = Bench {
        location,
        client: Client::new(Arc::clone(&storage)),
        storage,
        sqlite,
        args,
        payload: "x".repeat(args.payload as usize),
    };
    if args.scenario != Scenario::Feed {
        refuse_foreign_jobs(&bench).await?;
    }
    // Looking costs time of the processor, which these measure.
    let is_quiet = matches!(
        args.scenario,
        Scenario::Idle | Scenario::Latency | Scenario::LatencyProcesses | Scenario::Feed
    );
    let log = location.file().filter(|_| !is_quiet).map(LogWatch::of);
    let measured = match args.scenario {
        Scenario::EnqueueSerial => enqueue::serial(&bench).await?,
        Scenario::EnqueueConcurrent => enqueue::concurrent(&bench).await?,
        Scenario::EnqueueMany => enqueue::many(&bench).await?,
        Scenario::Drain => serve::drain(&bench, 0).await?,
        Scenario::Backlog => serve::drain(&bench, args.backlog).await?,
        Scenario::Idle => serve::idle(&bench).await?,
        Scenario::Latency => latency::in_process(&bench).await?,
        Scenario::LatencyProcesses => latency::between_processes(&bench).await?,
        Scenario::Continuations => compare::with_plain(&bench, Feature::Continuations).await?,
        Scenario::Batch => compare::with_plain(&bench, Feature::Batch).await?,
        Scenario::Unique => compare::with_plain(&bench, Feature::Unique).await?,
        Scenario::Limits => compare::with_plain(&bench, Feature::Limits).await?,
        Scenario::Logs => compare::with_plain(&bench, Feature::Logs).await?,
        Scenario::LimitWaiters => waiters::long_and_short(&bench).await?,
        Scenario::Recurring => occurrences::due_at_once(&bench).await?,
        Scenario::Feed => return latency::feed(&bench).await,
    };
    let mut report = report(args.scenario, location, &measured);
    report.log_mb = log.map(|log| round(log.longest() as f64 / 1e6, 2));
    if json { answer::json(&report, out) } else { show(&report, out) }
}

/// Servers of the bench would take jobs that they have no handler for, and put them off.
async fn refuse_foreign_jobs(bench: &Bench<'_>) -> Result<(), Failure> {
    let newest = bench.storage.jobs(JobFilter::default()).await?;
    let foreign = newest.jobs.iter().find(|job| !job.kind.as_str().starts_with(BENCH_KINDS));
    if let Some(job) = foreign {
        return Err(Failure::new(format!(
            "`{}` holds jobs that are not the bench's, such as `{}`: measure in a new file, or say \
             `--storage sqlite:` for one that is removed afterwards",
            bench.location, job.kind
        )));
    }
    let waiting = bench.storage.counts().await?.of(StateName::Enqueued);
    let needs_idleness = matches!(
        bench.args.scenario,
        Scenario::Latency
            | Scenario::LatencyProcesses
            | Scenario::Idle
            | Scenario::Continuations
            | Scenario::Batch
            | Scenario::Unique
            | Scenario::Limits
            | Scenario::Logs
            | Scenario::LimitWaiters
            | Scenario::Recurring
    );
    if needs_idleness && waiting > 0 {
        return Err(Failure::new(format!(
            "{waiting} jobs wait in `{}`, and {} is measured on an idle server: use a new file",
            bench.location,
            bench.args.scenario.as_str()
        )));
    }
    Ok(())
}

fn report(scenario: Scenario, location: &Location, measured: &Measured) -> Report {
    let seconds = measured.time.as_secs_f64();
    let rate = (measured.is_rate && seconds > 0.0).then(|| measured.jobs as f64 / seconds);
    let against = measured.against;
    let plain = against
        .map(|against| against.plain.as_secs_f64())
        .filter(|plain| *plain > 0.0)
        .map(|plain| measured.jobs as f64 / plain);
    let percentile = |of: fn(&Percentiles) -> Duration| {
        measured.percentiles.as_ref().map(|all| round(of(all).as_secs_f64() * 1e3, 4))
    };
    Report {
        scenario: scenario.as_str(),
        storage: location.to_string(),
        jobs: measured.jobs,
        seconds: round(seconds, 6),
        jobs_per_second: rate.map(|rate| round(rate, 1)),
        p50_ms: percentile(|all| all.p50),
        p95_ms: percentile(|all| all.p95),
        p99_ms: percentile(|all| all.p99),
        rss_mb: measured.figures.peak_bytes.map(|bytes| round(bytes as f64 / 1e6, 2)),
        commits: measured.figures.commits,
        bytes_written: measured.figures.bytes_written,
        log_mb: None,
        raw_commits_per_second: measured.raw_commits_per_second.map(|raw| round(raw, 1)),
        plain_jobs_per_second: plain.map(|plain| round(plain, 1)),
        ratio: rate
            .zip(measured.raw_commits_per_second.or(plain))
            .map(|(ours, other)| round(ours / other, 4)),
        ratio_enqueue: against.and_then(|against| against.enqueue).map(|ratio| round(ratio, 4)),
        ratio_drain: against.and_then(|against| against.drain).map(|ratio| round(ratio, 4)),
        ratio_cpu: against.and_then(|against| against.cpu).map(|ratio| round(ratio, 4)),
        done_seconds: measured.done.map(|done| round(done.as_secs_f64(), 6)),
        cpu_percent: measured
            .figures
            .cpu
            .filter(|_| seconds > 0.0)
            .map(|cpu| round(cpu.as_secs_f64() / seconds * 100.0, 3)),
    }
}

fn round(figure: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (figure * scale).round() / scale
}

fn show(report: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{} on {}", report.scenario, escape::plain(&report.storage))?;
    writeln!(out, "{} jobs in {:.3} s", report.jobs, report.seconds)?;
    let lines = [
        ("jobs per second", report.jobs_per_second),
        ("p50 ms", report.p50_ms),
        ("p95 ms", report.p95_ms),
        ("p99 ms", report.p99_ms),
        ("raw commits per second", report.raw_commits_per_second),
        ("plain jobs per second", report.plain_jobs_per_second),
        ("ratio", report.ratio),
        ("ratio of storing", report.ratio_enqueue),
        ("ratio of running", report.ratio_drain),
        ("ratio of processor time", report.ratio_cpu),
        ("all done after s", report.done_seconds),
        ("peak memory MB", report.rss_mb),
        ("processor %", report.cpu_percent),
        ("commits", report.commits.map(|commits| commits as f64)),
        ("bytes written", report.bytes_written.map(|bytes| bytes as f64)),
        ("longest log MB", report.log_mb),
    ];
    for (name, figure) in lines {
        if let Some(figure) = figure {
            writeln!(out, "{name:24}{figure}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_does_not_apply_is_null() {
        let location = Location::parse("memory:").unwrap();
        let measured = Measured { jobs: 5, time: Duration::from_secs(2), ..Measured::default() };
        let report = serde_json::to_value(report(Scenario::Idle, &location, &measured)).unwrap();
        assert_eq!(report["jobs_per_second"], serde_json::Value::Null);
        assert_eq!(report["p99_ms"], serde_json::Value::Null);
        assert_eq!(report["seconds"], 2.0);
        assert!(report.get("ratio").is_none());
    }
}
