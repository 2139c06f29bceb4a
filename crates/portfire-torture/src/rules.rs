//! Continuations, batches, unique keys and limits while servers are killed: what was stored decides what must
//! hold, and when all is at rest the effects, the storage and the file are held against it.

mod check;
mod residue;
mod trace;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use portfire::{Action, Change, Client, JobFilter, JobRecord, StateName, Storage};

use crate::directory::Directory;
use crate::fleet::{DOOMED, Fleet, at_rest};
use check::Found;
use trace::Trace;
use work::Work;

use crate::{AnyError, effects};

/// Between two looks at the processes and the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Most jobs that wait at a time: then nothing more is stored, so that the rest is done soon.
const BACKLOG_MAX: u64 = 2_000;

/// Longest wait after the last job was stored until all have ended.
const REST_MAX: Duration = Duration::from_secs(180);

/// What is done to the storage.
#[derive(Clone, Debug, Args)]
pub(crate) struct Plan {
    /// How long jobs are stored.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..=86_400))]
    seconds: u64,
    /// Processes that work; two of them are killed and replaced all the time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(3..=64))]
    servers: u64,
    /// An empty or new directory for the database and the logs, which are kept. Default: one that is
    /// removed when everything passed.
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(plan: &Plan) -> Result<(), AnyError> {
    let directory = Directory::new(plan.dir.as_deref())?;
    let storage = portfire::open(&directory.url()).await?;
    let mut fleet = Fleet::start(&directory, plan.servers)?;
    let begin = Instant::now();
    let work = torture(plan, &directory, &mut fleet, &storage).await?;
    let time = begin.elapsed();
    let mut faults = fleet.end()?;
    let kills = fleet.kills();
    let trace = Trace::read(directory.path(), fleet.deaths())?;
    drop(fleet);

    let found = Found::read(&work, &*storage).await?;
    faults.extend(check::all(&work, &trace, &found));
    faults.extend(residue::in_storage(&work, &storage).await?);
    faults.extend(residue::in_file(&directory.database())?);
    faults.extend(directory.warnings(kills)?);
    println!(
        "torture rules: {} jobs, {} batches, {} orders, {} keys, {} limits, {} servers, {kills} kills, \
         {} that failed and were requeued, {} attempts, {} recovered, {:.1} s",
        work.ends.len(),
        work.batches.len(),
        work.orders.len(),
        work.unique.len(),
        work.limits.len(),
        plan.servers,
        work.repaired,
        trace.attempts(),
        found.counts.recovered_total,
        time.as_secs_f64(),
    );
    if kills < plan.seconds / 3 {
        faults.push(format!("only {kills} kills: the machine was too slow to torture anything"));
    }
    directory.close("rules", &faults)
}

/// Stores work as fast as it is done, and kills, until the time is over. Waits until nothing goes on but that some wait for
/// what has failed; then repairs the cause, requeues all that has failed, and waits until all have ended.
async fn torture(
    plan: &Plan,
    directory: &Directory,
    fleet: &mut Fleet,
    storage: &Arc<dyn Storage>,
) -> Result<Work, AnyError> {
    let client = Client::new(Arc::clone(storage));
    let mut work = Work::default();
    let begin = Instant::now();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    while begin.elapsed() < Duration::from_secs(plan.seconds) {
        fleet.fail_if_one_died()?;
        fleet.kill_the_doomed(DOOMED)?;
        if waiting(&**storage).await? < BACKLOG_MAX {
            work.store_a_set(&client).await?;
        } else {
            look.tick().await;
        }
    }
    let stored = Instant::now();
    let mut is_repaired = false;
    loop {
        look.tick().await;
        fleet.fail_if_one_died()?;
        let counts = storage.counts().await?;
        // Who waits too long is named by the checker.
        if is_repaired && at_rest(&counts) || stored.elapsed() > REST_MAX {
            return Ok(work);
        }
        if !is_repaired && waiting(&**storage).await? == counts.of(StateName::Awaiting) {
            effects::repair(directory.path())?;
            work.repaired = requeue_failed(&**storage).await?;
            is_repaired = true;
        }
        if waiting(&**storage).await? > BACKLOG_MAX / 10 {
            fleet.kill_the_doomed(DOOMED)?;
        }
    }
}

/// Requeues all that has failed, some of it in a commit; says how many jobs that were.
async fn requeue_failed(storage: &dyn Storage) -> Result<u64, AnyError> {
    let mut requeued = 0;
    loop {
        let failed = JobFilter { max: 100, ..JobFilter::state(StateName::Failed) };
        let page = storage.jobs(failed).await?.jobs;
        if page.is_empty() {
            return Ok(requeued);
        }
        let requeue =
            |job: &JobRecord| Change { job: job.id, action: Action::Requeue, expect: None };
        let changed = storage.change(page.iter().map(requeue).collect()).await?;
        requeued += changed.iter().filter(|changed| changed.is_done()).count() as u64;
    }
}

async fn waiting(storage: &dyn Storage) -> Result<u64, AnyError> {
    let states = storage.counts().await?.states;
    Ok(states.iter().filter(|(state, _)| !state.is_final()).map(|(_, jobs)| jobs).sum())
}
