//! The shop while its workers are killed: nothing may be lost, nothing done twice.
//!
//! One process submits the sample's files and watches, others do the work, and every second one of
//! those is killed without warning and replaced. At the end every e-mail and every invoice is compared
//! with what the files ask for.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::parse_duration;
use crate::expected::Expected;
use crate::report::Totals;

/// Jobs that each worker process runs at a time.
const WORKERS: u32 = 4;

/// Time between two looks at the process that watches.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How the shop is tortured.
#[derive(Debug, Args)]
pub struct Torture {
    /// Folder with the files to import
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data"))]
    data: PathBuf,

    /// How often a worker process is killed
    #[arg(long, value_name = "N", default_value_t = 25)]
    kills: u32,

    /// Time between two kills
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    every: Duration,

    /// Worker processes that live at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    processes: u32,

    /// Longest time the whole may take
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    within: Duration,

    /// Folder to work in, which is kept; a new one that is removed when all is well if not given
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Verdict {
    kills: u32,
    #[serde(flatten)]
    totals: Totals,
    seconds: f64,
    violations: Vec<String>,
}

/// Tortures the shop; the exit code is 0 when nothing was lost or done twice.
///
/// # Errors
/// When a process cannot be started, or the work does not end in time.
pub async fn run(torture: &Torture) -> anyhow::Result<ExitCode> {
    let given = torture.folder.clone();
    let folder = given.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("shop-torture-{}", std::process::id()))
    });
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let verdict = Stage::new(torture, &folder).play().await?;
    let line = serde_json::to_string(&verdict)?;
    writeln!(std::io::stdout(), "{line}")?;
    if !verdict.violations.is_empty() {
        tracing::error!(folder = %folder.display(), "the traces are kept");
        return Ok(ExitCode::FAILURE);
    }
    if given.is_none() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder and the processes.
struct Stage<'a> {
    torture: &'a Torture,
    folder: &'a Path,
}

/// A process that does not outlive the torture.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<'a> Stage<'a> {
    fn new(torture: &'a Torture, folder: &'a Path) -> Stage<'a> {
        Stage { torture, folder }
    }

    async fn play(&self) -> anyhow::Result<Verdict> {
        let began = jiff::Timestamp::now();
        let expected = Expected::read(&self.torture.data)?;
        // So slow that the work outlasts the kills by half, whatever the folder holds.
        let slots = f64::from(self.torture.processes * WORKERS);
        let time = self.torture.every.as_secs_f64() * f64::from(self.torture.kills) * 1.5;
        let slow_ms =
            (time * slots * 1_000.0 / expected.jobs.max(1) as f64).clamp(4.0, 5_000.0) as u64;

        let mut observer = Guarded(self.observer(&self.folder.join("report.json"))?);
        let killing = self.kill_workers(&mut observer, slow_ms);
        let killed = timeout(self.torture.within, killing).await;
        let kills = killed.context("the work did not end in time; see --within")??;
        let totals: Totals = self.report("report.json")?;

        let mut violations =
            expected.compare(&self.folder.join("out"), &self.db(), &totals).await?;
        if kills < self.torture.kills {
            violations.push(format!("only {kills} kills before the work was done"));
        }
        if totals.recovered == 0 {
            violations.push("no kill hit a running job".to_owned());
        }
        violations.extend(self.repeat()?);
        let seconds = jiff::Timestamp::now().duration_since(began).as_secs_f64();
        Ok(Verdict { kills, totals, seconds, violations })
    }

    /// Kills and replaces workers, one after the other, until the observer has seen the end of the
    /// work; tells how many were killed.
    async fn kill_workers(&self, observer: &mut Guarded, slow_ms: u64) -> anyhow::Result<u32> {
        let start = || self.worker(slow_ms).map(Guarded);
        let mut workers =
            (0..self.torture.processes).map(|_| start()).collect::<anyhow::Result<Vec<_>>>()?;
        let mut looks = interval(LOOK_INTERVAL);
        let mut kill = interval(self.torture.every);
        kill.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        kill.tick().await;
        let mut kills = 0;
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    if let Some(status) = observer.0.try_wait()? {
                        return match status.success() {
                            true => Ok(kills),
                            false => bail!("the process that watches ended with {status}; see {}", self.log().display()),
                        };
                    }
                }
                _ = kill.tick(), if kills < self.torture.kills => {
                    let at = kills as usize % workers.len();
                    // SIGKILL, or what comes closest: no handler, no clean-up, no last words.
                    workers[at].0.kill()?;
                    workers[at].0.wait()?;
                    workers[at] = start()?;
                    kills += 1;
                }
            }
        }
    }

    /// Importing the same files once more must do nothing at all.
    fn repeat(&self) -> anyhow::Result<Vec<String>> {
        let status = self.observer(&self.folder.join("again.json"))?.wait()?;
        let again = self.report("again.json")?;
        let nothing = status.success() && again == Totals::default();
        Ok(match nothing {
            true => Vec::new(),
            false => vec![format!("the same files again: {status}, {again:?}")],
        })
    }

    /// The process that submits the files and waits for the end of the work; it does none itself.
    fn observer(&self, report: &Path) -> anyhow::Result<Child> {
        let mut command = self.shop()?;
        command.args(["run", "--json", "--workers", "0", "--data"]).arg(&self.torture.data);
        command.stdout(File::create(report)?);
        Ok(command.spawn()?)
    }

    fn worker(&self, slow_ms: u64) -> anyhow::Result<Child> {
        let mut command = self.shop()?;
        command.args(["--workers-only", "--workers", &WORKERS.to_string()]);
        command.args(["--coupon-after", "1s", "--slow-ms", &slow_ms.to_string()]);
        command.stdout(Stdio::null());
        Ok(command.spawn()?)
    }

    /// This same program, on the database and folder of the stage.
    fn shop(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        let log = File::options().create(true).append(true).open(self.log())?;
        command.arg("--db").arg(self.db()).arg("--out").arg(self.folder.join("out"));
        command.stdin(Stdio::null()).stderr(log);
        Ok(command)
    }

    fn report(&self, name: &str) -> anyhow::Result<Totals> {
        let mut text = String::new();
        File::open(self.folder.join(name))?.read_to_string(&mut text)?;
        serde_json::from_str(&text).with_context(|| format!("the report {text:?}"))
    }

    fn db(&self) -> PathBuf {
        self.folder.join("shop.db")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}
