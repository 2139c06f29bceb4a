//! The command line: `shop` opens the shop, `shop run` imports a folder and ends, `shop torture`
//! kills it in the meantime. Results go to the standard output, the log to the standard error.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use crate::app::App;
use crate::batch::{self, End};
use crate::config::Config;
use crate::torture::{self, Torture};
use crate::{jobs, web};

/// How long requests may take that are being answered when the program is told to end.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// A small web shop that does its work in background jobs.
#[derive(Debug, Parser)]
#[command(name = "shop", version)]
struct Cli {
    #[command(flatten)]
    config: Config,

    #[command(flatten)]
    open: Open,

    #[command(subcommand)]
    command: Option<Command>,
}

/// How the shop is opened when no command is given.
#[derive(Debug, clap::Args)]
struct Open {
    /// Only the web page: enqueues, and runs no jobs
    #[arg(long, conflicts_with = "workers_only")]
    web_only: bool,

    /// Only the workers: no web page
    #[arg(long)]
    workers_only: bool,

    /// Port of the web page on this machine; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Imports every file of a folder, runs until the queue is empty, and says what it did
    Run {
        /// Folder with the .csv, .json and .xml files
        #[arg(long, value_name = "DIR")]
        data: PathBuf,

        /// One JSON object on the standard output instead of a sentence
        #[arg(long)]
        json: bool,
    },
    /// Runs an import while its workers are killed again and again, and checks that nothing is lost
    /// or done twice
    Torture(Torture),
}

/// Runs the program; the exit code is 0 when it did what it was asked, 1 when it did not, 2 when the
/// command line was not understood, 130 when it was interrupted.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.command.is_none());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => open(&cli.config, &cli.open).await,
        Some(Command::Run { data, json }) => import(&cli.config, data, json).await,
        Some(Command::Torture(torture)) => torture::run(&torture).await,
    }
}

async fn open(config: &Config, open: &Open) -> anyhow::Result<ExitCode> {
    let serves = !open.web_only && config.workers > 0;
    if open.workers_only && !serves {
        bail!("--workers-only with --workers 0 would do nothing");
    }
    let app = App::open(config).await?;
    let listener = match open.workers_only {
        true => None,
        false => Some(listen(open.port).await?),
    };
    let workers = if serves { config.workers } else { 0 };
    match listener {
        None => app.work_until(workers, portfire::shutdown_signal()).await?,
        Some(listener) => {
            let mut served = Ok(());
            let page = async { served = serve_page(&app, listener).await };
            app.work_until(workers, page).await?;
            served?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A place for the page that only this machine can reach.
async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("the web page at {address}; choose another with --port"))
}

/// Serves the page until the program is told to end.
async fn serve_page(app: &Arc<App>, listener: TcpListener) -> anyhow::Result<()> {
    jobs::schedule_renewals(&app.client).await?;
    print(&format!("the shop is open at http://{}", listener.local_addr()?))?;
    let page = axum::serve(listener, web::router(Arc::clone(app)));
    let page = page.with_graceful_shutdown(portfire::shutdown_signal());
    let overdue = async {
        portfire::shutdown_signal().await;
        let _ = timeout(LAST_REQUESTS, std::future::pending::<()>()).await;
    };
    tokio::select! {
        served = page => Ok(served?),
        () = overdue => Ok(()),
    }
}

async fn import(config: &Config, data: PathBuf, json: bool) -> anyhow::Result<ExitCode> {
    let app = App::open(config).await?;
    match batch::run(&app, data, config.workers).await? {
        End::Done(report) if json => print(&serde_json::to_string(&report)?)?,
        End::Done(report) => print(&report.to_string())?,
        End::Interrupted => {
            tracing::warn!("interrupted; the jobs are stored: run it again to go on");
            return Ok(ExitCode::from(130));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn start_log(chatty: bool) {
    let default = if chatty { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(std::io::stderr)
        .init();
}

/// A line on the standard output; a reader who has gone away is no reason to panic.
fn print(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Says what went wrong, with the causes that the text above them does not tell already.
fn fail(error: &anyhow::Error) -> ExitCode {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    let _ = writeln!(std::io::stderr(), "error: {text}");
    ExitCode::FAILURE
}
