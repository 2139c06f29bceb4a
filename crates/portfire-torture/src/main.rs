//! Real processes on one storage, real kills, and a checker over what the jobs left behind.
//!
//! `portfire-torture processes` starts this program several times: clients that enqueue numbered jobs,
//! and servers that run them. A job's only effect is a line in the effect log of the process that ran
//! it. When all jobs have succeeded the supervisor ends the servers and hands the logs to the
//! checker. With `--kills` servers are killed meanwhile, without a warning, and replaced.

// What a command line program is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod checker;
mod client;
mod effects;
mod server;
mod supervisor;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

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
    Processes(Plan),
    /// One of the processes that enqueue.
    #[command(hide = true)]
    Client(client::Share),
    /// One of the processes that work.
    #[command(hide = true)]
    Server(server::Post),
}

/// What is done to the storage.
#[derive(Clone, Debug, Args)]
struct Plan {
    /// Jobs that are enqueued in all.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    jobs: u64,
    /// Processes that enqueue.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    clients: u64,
    /// Processes that work.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    servers: u64,
    /// How often a server is killed without a warning, and replaced.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    kills: u64,
    /// Longest run of the whole, in seconds.
    #[arg(long, default_value_t = 600)]
    limit: u64,
    /// An empty or new directory for the database and the logs, which are kept. Default: one that is
    /// removed when everything passed.
    #[arg(long)]
    dir: Option<PathBuf>,
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Processes(plan) => supervisor::run(&plan).await,
            Command::Client(share) => client::run(share).await,
            Command::Server(post) => server::run(post).await,
        }
    })
}
