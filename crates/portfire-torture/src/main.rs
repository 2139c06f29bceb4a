//! Real processes on one storage, real kills, and a checker over what the jobs left behind.
//!
//! Each torture starts this program several times, on one SQLite file, kills some of the processes without a
//! warning, and replaces them. The effects of the jobs are lines in the effect log of the process that ran
//! them. When all is over the logs, the storage and the file itself are handed to a checker.

// What a command line program is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod checker;
mod client;
mod directory;
mod effects;
mod fleet;
mod poison;
mod power;
mod processes;
mod recurring;
mod rules;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Any error, for a program that only reports it.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Parser)]
#[command(name = "portfire-torture", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Several processes enqueue, several others work, all on one SQLite file.
    Processes(processes::Plan),
    /// Several processes fire recurring jobs, two of which are killed and replaced all the time: each
    /// occurrence is there exactly once.
    Recurring(recurring::Plan),
    /// Chains, diamonds, batches with callbacks, unique keys and limits, while two servers are killed and
    /// replaced all the time.
    Rules(rules::Plan),
    /// Jobs that kill their processes among many that do not, and kills from outside.
    Poison(poison::Plan),
    /// Power losses: every write and sync of real processes is recorded, and whatever a power loss may leave at any
    /// point is opened and held against what was acknowledged. On Linux, with `strace`.
    Power(power::Plan),
    /// One of the processes that enqueue.
    #[command(hide = true)]
    Client(client::Share),
    /// One of the processes that work.
    #[command(hide = true)]
    Server(server::Post),
    /// One of the processes whose writes are recorded.
    #[command(hide = true)]
    PowerActor(power::actor::Role),
}

fn main() -> ExitCode {
    // The supervisor reads what its processes write here: a warning of any of them is a fault.
    let filter = tracing_subscriber::EnvFilter::new("warn");
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portfire-torture: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), AnyError> {
    if let Command::Power(plan) = &command {
        return power::run(plan);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Processes(plan) => processes::run(&plan).await,
            Command::Recurring(plan) => recurring::run(&plan).await,
            Command::Rules(plan) => rules::run(&plan).await,
            Command::Poison(plan) => poison::run(&plan).await,
            Command::Client(share) => client::run(share).await,
            Command::Server(post) => server::run(post).await,
            Command::PowerActor(role) => power::actor::run(role).await,
            Command::Power(_) => unreachable!("it needs no runtime"),
        }
    })
}
