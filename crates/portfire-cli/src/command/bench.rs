//! The command line of `portfire bench`.

use clap::{Args, ValueEnum};

/// `portfire bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    pub scenario: Scenario,
    /// How many jobs. Default: 10000 serial, 200000 concurrent, 500000 many, 100000 drained and with a
    /// feature, 500 for latency, 1000 in a line, 10000 recurring.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub jobs: Option<u64>,
    /// How many jobs the server runs at a time. Default: the server's own.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub workers: Option<u32>,
    /// Bytes of text in each job's arguments.
    #[arg(long, value_name = "BYTES", default_value_t = 16, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub payload: u32,
    /// Callers at a time, for enqueue-concurrent.
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    /// Jobs in a call, for enqueue-many.
    #[arg(long, value_name = "N", default_value_t = 1_000, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// Jobs that are scheduled for tomorrow before the measurement, for backlog.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, allow_negative_numbers = true)]
    pub backlog: u64,
    /// Jobs that are run and kept before the measurement, for drain and backlog.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub history: u64,
    /// Parts of the limit, for limits.
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keys: u32,
    /// Jobs of each part that run at a time, for limits. By default so many that it is seldom full: what a
    /// full one costs is measured by limit-waiters.
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub concurrency: u32,
    /// How long to look, for idle.
    #[arg(long, value_name = "N", default_value_t = 30, allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
}

/// What `portfire bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One caller; each job is durable before the next is enqueued. Also measures what SQLite itself does.
    EnqueueSerial,
    /// Many callers at a time, one job each.
    EnqueueConcurrent,
    /// One caller, many jobs in a call.
    EnqueueMany,
    /// A server runs jobs that wait already, to the last durable completion.
    Drain,
    /// From the call of enqueue to the start of the handler, on an idle server, a job every 20 ms.
    Latency,
    /// The same, enqueued by another process.
    LatencyProcesses,
    /// As drain, while many jobs are scheduled for later.
    Backlog,
    /// What a server costs that has nothing to do.
    Idle,
    /// Every second job waits for the one before it. Rate of all jobs, storing and running them, over that of plain jobs
    /// in the same run: of the lower quartile of the turns of each side.
    Continuations,
    /// All jobs are members of batches. Rate over that of plain jobs, as continuations.
    Batch,
    /// Every job holds a unique key. Rate over that of plain jobs, as continuations.
    Unique,
    /// Every job is under a limit in --keys parts of --concurrency at a time. Rate over that of plain jobs, as continuations.
    Limits,
    /// Many jobs wait for a limit of one at a time. Rate from start to start over that of lines of ten jobs.
    LimitWaiters,
    /// Every job logs ten lines. Rate over that of plain jobs, as continuations.
    Logs,
    /// Many recurring jobs are due at one instant. Seconds from then until the last is fired; the ratio
    /// is of the times to the last completion: of as many delayed jobs, over that.
    Recurring,
    /// The other process of latency-processes.
    #[value(hide = true)]
    Feed,
}

impl Scenario {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Scenario::EnqueueSerial => "enqueue-serial",
            Scenario::EnqueueConcurrent => "enqueue-concurrent",
            Scenario::EnqueueMany => "enqueue-many",
            Scenario::Drain => "drain",
            Scenario::Latency => "latency",
            Scenario::LatencyProcesses => "latency-processes",
            Scenario::Backlog => "backlog",
            Scenario::Idle => "idle",
            Scenario::Continuations => "continuations",
            Scenario::Batch => "batch",
            Scenario::Unique => "unique",
            Scenario::Limits => "limits",
            Scenario::LimitWaiters => "limit-waiters",
            Scenario::Logs => "logs",
            Scenario::Recurring => "recurring",
            Scenario::Feed => "feed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_are_called_what_they_say() {
        for scenario in Scenario::value_variants() {
            let value = scenario.to_possible_value().unwrap();
            assert_eq!(value.get_name(), scenario.as_str());
        }
    }
}
