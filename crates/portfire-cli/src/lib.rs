//! The `portfire` command: looks at a storage, steers it, measures it.
//!
//! It is a library, too, because handlers are compiled into the user's own program: there,
//! `portfire_cli::main()` gives the same commands with the user's jobs linked in, so that
//! `jobs export` knows them. Depend on it with `default-features = false` there: the feature `bench`
//! brings `portfire bench`, and links its jobs in beside yours.
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     portfire_cli::main()
//! }
//! ```
//!
//! Answers go to the standard output, everything else to the standard error. Nothing is asked.
//! Stored text is escaped before a terminal sees it, and secrets in URLs are masked.

mod answer;
mod batches;
#[cfg(feature = "bench")]
pub mod bench;
pub mod command;
mod cron;
pub mod escape;
mod explain;
pub mod failure;
mod job;
mod jobs;
mod limits;
pub mod location;
mod log;
mod migrate;
mod queues;
mod recurring;
mod status;
mod table;
mod ties;
mod time;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use portfire_core::{Action, Client};

use command::{
    BatchListArgs, BatchesCommand, Cli, Command, JobsArgs, JobsCommand, LimitsCommand, ListArgs,
    QueuesCommand, RecurringCommand, RecurringListArgs,
};
use failure::Failure;
use location::{Location, Missing};

/// Reads the command line of this process, does what it says, and tells how it ended: 0 when it is
/// done, 1 when it failed, 2 when the command line is at fault.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers and go to the output; mistakes do not.
            let _ = error.print();
            if error.use_stderr() && std::env::args_os().any(|word| word == "--json") {
                let text = error.to_string();
                let message = text.lines().next().unwrap_or_default();
                let message = message.strip_prefix("error: ").unwrap_or(message);
                let _ = Failure::usage(message).tell(&mut std::io::stdout());
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    log_to_stderr();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| {
            runtime.block_on(run(cli, &mut std::io::stdout(), &mut std::io::stderr()))
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.exit_code() != 0 {
                let message = escape::plain(&failure.to_string());
                let _ = writeln!(std::io::stderr(), "portfire: {message}");
                for line in failure.place() {
                    let _ = writeln!(std::io::stderr(), "{}", escape::plain(line));
                }
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Does what a command line says. Answers go to `out`, and what is beside them to `notes`. With `--json` a
/// failure is an answer, too: `{"error":{"kind":..,"message":..}}`.
///
/// # Errors
/// A [`Failure`] with its exit code.
pub async fn run(
    cli: Cli,
    out: &mut (dyn Write + Send),
    notes: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let json = cli.json;
    let done = perform(cli, out, notes).await;
    match &done {
        Err(failure) if json => failure.tell(out)?,
        _ => {}
    }
    done
}

async fn perform(
    cli: Cli,
    out: &mut (dyn Write + Send),
    notes: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let Cli { command, storage, json } = cli;
    // Needs no storage.
    if let Command::Jobs(args) = &command
        && let Some(JobsCommand::Export) = args.command
    {
        return jobs::export(out);
    }
    if let Command::Cron(args) = &command {
        return cron::run(&args.command, json, out);
    }
    let location = match &storage {
        Some(url) => Location::parse(url)?,
        None => {
            return Err(Failure::usage(
                "which storage? Say `--storage sqlite://FILE`, or set PORTFIRE_STORAGE",
            ));
        }
    };
    match command {
        Command::Status => {
            let storage = location.open(Missing::Refuse).await?;
            status::run(&*storage, json, out).await
        }
        Command::Jobs(args) => {
            let client = Client::new(location.open(Missing::Refuse).await?);
            run_jobs(*args, &client, json, out, notes).await
        }
        Command::Explain { id } => {
            let storage = location.open(Missing::Refuse).await?;
            explain::job(&*storage, &id, json, out).await
        }
        Command::Problems { fail } => {
            let storage = location.open(Missing::Refuse).await?;
            explain::all(&*storage, fail, json, out).await
        }
        Command::Recurring(args) => {
            refuse_options_before(
                args.command.is_some(),
                args.list != RecurringListArgs::default(),
                "recurring",
            )?;
            let client = Client::new(location.open(Missing::Refuse).await?);
            let command = args.command.unwrap_or(RecurringCommand::List(args.list));
            recurring::run(command, &client, json, out, notes).await
        }
        Command::Batches(args) => {
            refuse_options_before(
                args.command.is_some(),
                args.list != BatchListArgs::default(),
                "batches",
            )?;
            let storage = location.open(Missing::Refuse).await?;
            let command = args.command.unwrap_or(BatchesCommand::List(args.list));
            batches::run(command, &*storage, json, out, notes).await
        }
        Command::Queues(args) => {
            let storage = location.open(Missing::Refuse).await?;
            queues::run(args.command.unwrap_or(QueuesCommand::List), &*storage, json, out).await
        }
        Command::Limits(args) => {
            let storage = location.open(Missing::Refuse).await?;
            limits::run(args.command.unwrap_or(LimitsCommand::List), &*storage, json, out).await
        }
        // Answered above, without a storage.
        Command::Cron(_) => Ok(()),
        Command::Migrate(args) => migrate::run(&location, &args, json, out).await,
        #[cfg(feature = "bench")]
        Command::Bench(args) => bench::run(&location, &args, json, out).await,
    }
}

async fn run_jobs(
    args: JobsArgs,
    client: &Client,
    json: bool,
    out: &mut (dyn Write + Send),
    notes: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let storage = &**client.storage();
    let (command, list) = (args.command, args.list);
    refuse_options_before(command.is_some(), list != ListArgs::default(), "jobs")?;
    match command.unwrap_or(JobsCommand::List(list)) {
        JobsCommand::List(args) => jobs::list(storage, &args, json, out, notes).await,
        JobsCommand::Show { id } => job::show(storage, &id, json, out).await,
        JobsCommand::Log { id, follow_until_end } => {
            log::run(storage, &id, follow_until_end, json, out).await
        }
        JobsCommand::Requeue { ids } => {
            jobs::change(client, &ids, Action::Requeue, json, out).await
        }
        JobsCommand::Delete { ids, reason } => {
            jobs::change(client, &ids, Action::Delete { reason }, json, out).await
        }
        JobsCommand::Export => jobs::export(out),
    }
}

/// Options of a list that stand before another word than `list` would be passed over in silence.
fn refuse_options_before(word: bool, options: bool, command: &str) -> Result<(), Failure> {
    match word && options {
        true => Err(Failure::usage(format!(
            "`--limit`, `--after` and what narrows a list go with `{command} list`, after the word"
        ))),
        false => Ok(()),
    }
}

/// Log lines go to the standard error: warnings by default, more by `PORTFIRE_LOG`.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PORTFIRE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(!no_color && std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A program that embeds the commands may have a subscriber of its own.
    let _ = log.try_init();
}
