//! Several processes enqueue and several others work, on one file: every job runs, once without a kill.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use portfire::{Counts, Storage};

use crate::directory::Directory;
use crate::fleet::{Fleet, death};
use crate::{AnyError, checker, effects};

/// Between two looks at the processes and the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Longest that SQLite's log may get, in bytes, however many processes write.
const LOG_MAX: u64 = 64 * 1024 * 1024;

/// What is done to the storage.
#[derive(Clone, Debug, Args)]
pub(crate) struct Plan {
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

pub(crate) async fn run(plan: &Plan) -> Result<(), AnyError> {
    let directory = Directory::new(plan.dir.as_deref())?;
    let mut field = Field::start(plan, &directory).await?;
    let begin = Instant::now();
    let outcome = field.watch(begin).await;
    let time = begin.elapsed();
    // The processes end with their supervisor's pipes, also when the watch failed.
    let counts = outcome?;
    let mut faults = field.end()?;
    let kills = field.fleet.kills();
    let log_longest = field.log_longest;
    if log_longest > LOG_MAX {
        faults.push(format!("the log grew to {log_longest} bytes, and {LOG_MAX} are its bound"));
    }
    drop(field);
    let numbers = effects::numbers(directory.path())?;
    faults.extend(checker::check(plan.jobs, kills, &numbers, &counts));
    faults.extend(directory.warnings(kills)?);
    let Plan { jobs, clients, servers, .. } = plan;
    println!(
        "torture processes: {jobs} jobs, {clients} clients, {servers} servers, {kills} kills, \
         {} effects, {} recovered, longest log {:.1} MB, {:.1} s",
        numbers.len(),
        counts.recovered_total,
        log_longest as f64 / 1e6,
        time.as_secs_f64(),
    );
    directory.close("processes", &faults)
}

/// The running processes, and a look at what they do.
struct Field<'a> {
    plan: &'a Plan,
    directory: &'a Directory,
    fleet: Fleet,
    storage: Arc<dyn Storage>,
    clients: Vec<Child>,
    /// The longest that the log was seen, in bytes.
    log_longest: u64,
}

impl<'a> Field<'a> {
    async fn start(plan: &'a Plan, directory: &'a Directory) -> Result<Field<'a>, AnyError> {
        // All of them find no file and make it at the same time, and this process, too.
        let fleet = Fleet::start(directory, plan.servers)?;
        let clients = (0..plan.clients)
            .map(|number| client(plan, &fleet, number))
            .collect::<Result<_, _>>()?;
        let storage = portfire::open(&directory.url()).await?;
        Ok(Field { plan, directory, fleet, storage, clients, log_longest: 0 })
    }

    /// Waits until all jobs have succeeded, killing as planned: after equal shares of the jobs, so
    /// that a fast machine sees as many kills as a slow one. Answers the counters.
    async fn watch(&mut self, begin: Instant) -> Result<Counts, AnyError> {
        let Plan { jobs, servers, kills: planned, limit, .. } = *self.plan;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        loop {
            look.tick().await;
            self.log_longest = self.log_longest.max(self.directory.log_length());
            self.fail_if_one_died()?;
            let counts = self.storage.counts().await?;
            let (done, kills) = (counts.succeeded_total, self.fleet.kills());
            if done >= jobs {
                return match kills < planned {
                    true => Err(format!("all was done after {kills} kills: enqueue more").into()),
                    false => Ok(counts),
                };
            }
            if begin.elapsed() > Duration::from_secs(limit) {
                return Err(format!("not done after {limit} s: {counts:?}").into());
            }
            if kills < planned && done >= jobs * (kills + 1) / (planned + 1) {
                self.fleet.replace(kills % servers)?;
            }
        }
    }

    fn fail_if_one_died(&mut self) -> Result<(), AnyError> {
        for client in &mut self.clients {
            if let Some(status) = client.try_wait()?.filter(|status| !status.success()) {
                return Err(death("client", status, self.directory.path()));
            }
        }
        self.fleet.fail_if_one_died()
    }

    fn end(&mut self) -> Result<Vec<String>, AnyError> {
        for client in &mut self.clients {
            client.wait()?;
        }
        self.fleet.end()
    }
}

fn client(plan: &Plan, fleet: &Fleet, number: u64) -> Result<Child, AnyError> {
    let Plan { jobs, clients, .. } = plan;
    let (from, to) = (jobs * number / clients, jobs * (number + 1) / clients);
    let mut command = fleet.process(&format!("client-{number}"), "client")?;
    command.args(["--from", &from.to_string(), "--to", &to.to_string()]);
    Ok(command.stdin(Stdio::null()).spawn()?)
}

impl Drop for Field<'_> {
    /// Leaves no process behind.
    fn drop(&mut self) {
        for client in &mut self.clients {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}
