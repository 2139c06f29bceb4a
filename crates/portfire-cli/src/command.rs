//! The command line: what can be typed, and its help.

#[cfg(feature = "bench")]
use clap::ValueEnum;
mod cron;

use clap::{Args, Parser, Subcommand};
use portfire_core::{KindName, QueueName, StateName};

pub use cron::{CronArgs, CronCommand, CronTextArgs};

/// Looks at a storage of background jobs, steers it, and measures it.
#[derive(Debug, Parser)]
#[command(
    name = "portfire",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 the command line is at fault.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The storage: `sqlite://FILE` or `memory:`.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "PORTFIRE_STORAGE",
        hide_env_values = true
    )]
    pub storage: Option<String>,
    /// Write JSON for programs, one line for each answer.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows how many jobs stand where, the queues and the servers.
    Status,
    /// Lists jobs, shows one, or changes some.
    Jobs(Box<JobsArgs>),
    /// Says when a cron text is next due, and what it means.
    Cron(CronArgs),
    /// Makes the storage, or brings it to the form this version writes.
    Migrate(MigrateArgs),
    /// Measures a storage with jobs that do nothing.
    #[cfg(feature = "bench")]
    Bench(BenchArgs),
}

/// `portfire jobs`; without a further word it lists.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// What to do with jobs.
    #[command(subcommand)]
    pub command: Option<JobsCommand>,
    /// Which jobs to list when no further word is given.
    #[command(flatten)]
    pub list: ListArgs,
}

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Lists jobs, a page at a time.
    List(ListArgs),
    /// Shows everything about a job, with its history.
    Show {
        /// The job's id, or its beginning when no other job's begins so.
        id: String,
    },
    /// Runs jobs again, each at the end of its queue.
    Requeue {
        /// The jobs' ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Takes jobs out. One that runs is told to stop, and its result will not count.
    Delete {
        /// The jobs' ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Why; shown in the jobs' history.
        #[arg(long, default_value = "deleted on the command line")]
        reason: String,
    },
    /// Writes the kinds and parameters of the jobs that are linked into this program, for `jobs.lock`.
    Export,
}

/// Which jobs to list.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct ListArgs {
    /// Only jobs in this state.
    #[arg(long)]
    pub state: Option<StateName>,
    /// Only jobs of this queue.
    #[arg(long)]
    pub queue: Option<QueueName>,
    /// Only jobs of this kind.
    #[arg(long)]
    pub kind: Option<KindName>,
    /// Only jobs whose id begins so.
    #[arg(long, value_name = "PREFIX")]
    pub id: Option<String>,
    /// Most jobs to list. Default: 50.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: Option<u32>,
    /// Go on after a page, with the text that stood at its end.
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
}

/// `portfire migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Write the SQL to the output instead, and touch nothing.
    #[arg(long)]
    pub print: bool,
}

/// `portfire bench`.
#[cfg(feature = "bench")]
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    pub scenario: Scenario,
    /// How many jobs. Default: 10000 serial, 200000 concurrent, 500000 many, 100000 drained, 500 for latency.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub jobs: Option<u64>,
    /// How many jobs the server runs at a time. Default: the server's own.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub workers: Option<u32>,
    /// Bytes of text in each job's arguments.
    #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub payload: u32,
    /// Callers at a time, for enqueue-concurrent.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    /// Jobs in a call, for enqueue-many.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// Jobs that are scheduled for tomorrow before the measurement, for backlog.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub backlog: u64,
    /// Jobs that are run and kept before the measurement, for drain and backlog.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub history: u64,
    /// How long to look, for idle.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
}

/// What `portfire bench` measures.
#[cfg(feature = "bench")]
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
    /// The other process of latency-processes.
    #[value(hide = true)]
    Feed,
}

#[cfg(feature = "bench")]
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
            Scenario::Feed => "feed",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[cfg(feature = "bench")]
    #[test]
    fn the_scenarios_are_called_what_they_say() {
        for scenario in Scenario::value_variants() {
            let value = scenario.to_possible_value().unwrap();
            assert_eq!(value.get_name(), scenario.as_str());
        }
    }

    #[test]
    fn the_storage_may_stand_anywhere() {
        for line in [
            "portfire --storage memory: jobs show 1",
            "portfire jobs --storage memory: show 1",
            "portfire jobs show 1 --storage memory:",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.storage.as_deref(), Some("memory:"), "{line}");
        }
        let cli = Cli::try_parse_from(["portfire", "jobs", "--state", "failed"]).unwrap();
        let Command::Jobs(jobs) = cli.command else { unreachable!() };
        assert_eq!(jobs.list.state, Some(StateName::Failed));
    }
}
