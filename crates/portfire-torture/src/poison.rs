//! Jobs that kill their processes among many that do not, and kills from outside: the killers are failed, and no
//! other job is.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use portfire::{Client, Counts, JobFilter, JobId, JobState, StateName, Storage};

use crate::directory::Directory;
use crate::effects::risk;
use crate::fleet::{Fleet, at_rest};
use crate::{AnyError, checker, effects};

/// Between two looks at the processes and the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Jobs in a call.
const BATCH: usize = 1_000;

/// Crashes of a killer: two that it may share with others, three that it survives, the last, and two more at which
/// other killers or kills from outside hide it.
const CRASHES_MAX: u64 = 8;

/// What is done to the storage.
#[derive(Clone, Debug, Args)]
pub(crate) struct Plan {
    /// Jobs in all.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    jobs: u64,
    /// How many of them kill the process that runs them, at equal distances.
    #[arg(long, default_value_t = 1)]
    killers: u64,
    /// Processes that work. One that is killed, by a job or from outside, is started again at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    servers: u64,
    /// Jobs that each runs at a time.
    #[arg(long, default_value_t = 40)]
    workers: u64,
    /// How long a job takes, in milliseconds.
    #[arg(long, default_value_t = 20)]
    millis: u64,
    /// For how many seconds servers are killed from outside, one after the other.
    #[arg(long, default_value_t = 0)]
    storm: u64,
    /// Time between two such kills, in milliseconds.
    #[arg(long, default_value_t = 500)]
    every: u64,
    /// Longest run of the whole, in seconds.
    #[arg(long, default_value_t = 300)]
    limit: u64,
    /// An empty or new directory for the database and the logs, which are kept. Default: one that is
    /// removed when everything passed.
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(plan: &Plan) -> Result<(), AnyError> {
    let directory = Directory::new(plan.dir.as_deref())?;
    let storage = portfire::open(&directory.url()).await?;
    let killers = enqueue(plan, &Client::new(Arc::clone(&storage))).await?;
    let workers = plan.workers.to_string();
    let words = ["--workers", &workers, "--recoveries-max", "3"].map(str::to_owned).to_vec();
    let mut fleet = Fleet::start_with(&directory, plan.servers, words)?;
    let begin = Instant::now();
    let counts = watch(plan, &mut fleet, &*storage, begin).await?;
    let time = begin.elapsed();
    let mut faults = fleet.end()?;
    let numbers = effects::numbers(directory.path())?;
    faults.extend(check(plan, &killers, &*storage, &counts).await?);
    faults.extend(runs(plan, &numbers, &counts));
    let (crashes, kills) = (fleet.crashes(), fleet.kills());
    if crashes > plan.killers * CRASHES_MAX + kills {
        faults.push(format!("{} killers crashed {crashes} servers", plan.killers));
    }
    faults.extend(directory.warnings(crashes + kills)?);
    let Plan { jobs, servers, workers, .. } = plan;
    println!(
        "torture poison: {jobs} jobs, {} killers, {servers} servers with {workers} workers, {crashes} crashes, \
         {kills} kills, {} failed, {} recovered, {:.1} s",
        killers.len(),
        counts.failed_total,
        counts.recovered_total,
        time.as_secs_f64(),
    );
    directory.close("poison", &faults)
}

fn is_killer(plan: &Plan, number: u64) -> bool {
    let (jobs, killers) = (plan.jobs, plan.killers);
    (0..killers).any(|killer| number == jobs * (killer + 1) / (killers + 1))
}

/// Stores the jobs. Which of them are killers.
async fn enqueue(plan: &Plan, client: &Client) -> Result<BTreeSet<JobId>, AnyError> {
    let mut killers = BTreeSet::new();
    let numbers: Vec<u64> = (0..plan.jobs).collect();
    for numbers in numbers.chunks(BATCH) {
        let calls =
            numbers.iter().map(|&number| risk(number, plan.millis, is_killer(plan, number)));
        let ids = client.enqueue_many(calls).await?;
        let both = numbers.iter().zip(&ids);
        killers.extend(both.filter(|(number, _)| is_killer(plan, **number)).map(|(_, id)| *id));
    }
    Ok(killers)
}

/// Replaces what has crashed, and kills as planned, until every job has ended. Answers the counters.
async fn watch(
    plan: &Plan,
    fleet: &mut Fleet,
    storage: &dyn Storage,
    begin: Instant,
) -> Result<Counts, AnyError> {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let (mut kills, mut looks) = (0, 0_u64);
    loop {
        look.tick().await;
        looks += 1;
        fleet.replace_the_crashed()?;
        let due = begin.elapsed() >= Duration::from_millis(plan.every * (kills + 1));
        if due && begin.elapsed() < Duration::from_secs(plan.storm) {
            fleet.replace(kills * 7 % plan.servers)?;
            kills += 1;
        }
        // The counters are a read of the file that all write to: now and then is enough.
        if looks % 10 == 0 {
            let counts = storage.counts().await?;
            if at_rest(&counts) {
                return Ok(counts);
            }
            if begin.elapsed() > Duration::from_secs(plan.limit) {
                return Err(format!("not done after {} s: {counts:?}", plan.limit).into());
            }
        }
    }
}

/// What is wrong with the ends of the jobs.
async fn check(
    plan: &Plan,
    killers: &BTreeSet<JobId>,
    storage: &dyn Storage,
    counts: &Counts,
) -> Result<Vec<String>, AnyError> {
    let mut faults = Vec::new();
    let mut filter = JobFilter { state: Some(StateName::Failed), ..JobFilter::default() };
    let mut failed = BTreeSet::new();
    loop {
        let page = storage.jobs(filter.clone()).await?;
        for job in page.jobs {
            if !killers.contains(&job.id) {
                faults
                    .push(format!("job {} kills nothing, and has failed: {:?}", job.id, job.state));
            } else if !matches!(&job.state, JobState::Failed { error, .. } if error.class == "poison")
            {
                faults.push(format!("killer {} has not failed as poison: {:?}", job.id, job.state));
            }
            failed.insert(job.id);
        }
        let Some(next) = page.next else { break };
        filter.after = Some(next);
    }
    faults.extend(
        killers.difference(&failed).map(|killer| format!("killer {killer} has not failed")),
    );
    let innocent = plan.jobs - killers.len() as u64;
    if counts.of(StateName::Succeeded) != innocent {
        let succeeded = counts.of(StateName::Succeeded);
        faults.push(format!("{succeeded} jobs succeeded, and {innocent} expected"));
    }
    Ok(checker::few(faults))
}

/// What is wrong with the runs: each job that is no killer ran to its end, and none more often than it was recovered.
fn runs(plan: &Plan, numbers: &[u64], counts: &Counts) -> Vec<String> {
    let ran: BTreeSet<u64> = numbers.iter().copied().collect();
    let mut faults = Vec::new();
    let missing =
        (0..plan.jobs).filter(|&number| !is_killer(plan, number) && !ran.contains(&number));
    faults.extend(missing.map(|number| format!("job {number} never ran to its end")));
    let again = numbers.len() - ran.len();
    if again as u64 > counts.recovered_total {
        let recovered = counts.recovered_total;
        faults.push(format!("{again} runs too many, and {recovered} jobs recovered"));
    }
    checker::few(faults)
}
