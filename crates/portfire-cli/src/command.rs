//! The command line: what can be typed, and its help.

#[cfg(feature = "bench")]
mod bench;
mod cron;
mod rules;

use clap::{Args, Parser, Subcommand};
use portfire_core::{BatchId, KindName, QueueName, StateName};

#[cfg(feature = "bench")]
pub use bench::{BenchArgs, Scenario};
pub use cron::{CronArgs, CronCommand, CronTextArgs};
pub use rules::{
    BatchListArgs, BatchesArgs, BatchesCommand, LimitsArgs, LimitsCommand, QueuesArgs,
    QueuesCommand, RecurringArgs, RecurringCommand, RecurringListArgs, RuleArgs, WindowArg,
};

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
    /// Write JSON for programs, one line for each answer; what fails is `{"error":{"kind","message"}}`.
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
    /// Says why a job is not running, and when it will.
    Explain {
        /// The job's id, or its beginning when no other job's begins so.
        id: String,
    },
    /// Says what keeps jobs from running, or may: queues without a server, kinds without a handler, and the like.
    Problems {
        /// End with exit code 1 when there is any. For scripts that watch.
        #[arg(long)]
        fail: bool,
    },
    /// Lists recurring jobs, shows one, runs, stops or removes it.
    Recurring(RecurringArgs),
    /// Lists batches, shows or cancels one.
    Batches(BatchesArgs),
    /// Lists queues, pauses or resumes one.
    Queues(QueuesArgs),
    /// Lists limits, sets one, or takes back what was set.
    Limits(LimitsArgs),
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
    /// Writes what a job has logged: instant, attempt, level, text.
    Log {
        /// The job's id, or its beginning when no other job's begins so.
        id: String,
        /// Go on with what it says until it has ended.
        #[arg(long)]
        follow_until_end: bool,
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
    /// Only members of this batch.
    #[arg(long, value_name = "ID")]
    pub batch: Option<BatchId>,
    /// Only jobs whose id begins so.
    #[arg(long, value_name = "PREFIX")]
    pub id: Option<String>,
    /// Most jobs to list. Default: 50.
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=500))]
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
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
