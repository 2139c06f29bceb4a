//! Several servers fire recurring jobs, and two of them are killed and replaced all the time: each occurrence is
//! there exactly once.
//!
//! What is to be there is written down beforehand, by counting: every second from the start to the end of
//! each recurring job. It is compared with the jobs that are stored, with the runs that their recurring jobs
//! remember, and with the effects. A job whose server is killed runs again and may leave its
//! effect twice; a job is there once, so effects are told apart by it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use portfire::{Client, Counts, JobFilter, JobId, StateName, Storage, Timestamp};
use portfire_core::{Misfire, RecurringId, RunRecord};

use crate::AnyError;
use crate::checker::few;
use crate::directory::Directory;
use crate::effects::{self, occur};
use crate::fleet::{DOOMED, Fleet, at_rest};

/// Between two looks at the processes and the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// From the storing of the recurring jobs to their first occurrence.
const LEAD: Duration = Duration::from_secs(3);

/// Longest wait after the last occurrence until all jobs have ended.
const REST_MAX: Duration = Duration::from_secs(120);

/// What is done to the storage.
#[derive(Clone, Debug, Args)]
pub(crate) struct Plan {
    /// How long the recurring jobs fire.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
    /// Processes that work; two of them are killed and replaced all the time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(3..=64))]
    servers: u64,
    /// Recurring jobs, each due every second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    recurring: u64,
    /// An empty or new directory for the database and the logs, which are kept. Default: one that is
    /// removed when everything passed.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// A planned instant of a recurring job.
type Occurrence = (RecurringId, Timestamp);

pub(crate) async fn run(plan: &Plan) -> Result<(), AnyError> {
    let directory = Directory::new(plan.dir.as_deref())?;
    let storage = portfire::open(&directory.url()).await?;
    let mut fleet = Fleet::start(&directory, plan.servers)?;
    let expected = define(plan, &storage).await?;
    let begin = Instant::now();
    watch(&mut fleet, &*storage, &expected).await?;
    let time = begin.elapsed();
    let mut faults = fleet.end()?;
    let kills = fleet.kills();
    drop(fleet);

    let found = Found::read(&directory, &*storage, plan).await?;
    faults.extend(check(&expected, &found));
    faults.extend(directory.warnings(kills)?);
    let mut late: Vec<Duration> = found.jobs.iter().map(|job| job.late).collect();
    println!(
        "torture recurring: {} occurrences of {} recurring jobs, {} servers, {kills} kills, {} effects, \
         {} recovered, {:.1} s; fired after p50 {:.0?}, p99 {:.0?}, at most {:.0?}",
        found.jobs.len(),
        plan.recurring,
        plan.servers,
        found.effects.len(),
        found.counts.recovered_total,
        time.as_secs_f64(),
        percentile(&mut late, 50),
        percentile(&mut late, 99),
        percentile(&mut late, 100),
    );
    if kills < plan.seconds / 3 {
        faults.push(format!("only {kills} kills: the machine was too slow to torture anything"));
    }
    directory.close("recurring", &faults)
}

/// Stores the recurring jobs, and answers all that is to be fired.
async fn define(plan: &Plan, storage: &Arc<dyn Storage>) -> Result<BTreeSet<Occurrence>, AnyError> {
    let client = Client::new(Arc::clone(storage));
    let second = Duration::from_secs(1);
    let first = storage.now().await?.saturating_add(LEAD + second).as_micros() / 1_000_000;
    let at = |number: u64| Timestamp::from_micros((first + number as i64) * 1_000_000);
    let mut expected = BTreeSet::new();
    for number in 0..plan.recurring {
        let name = format!("every-second-{number}");
        client
            .recurring(&name, "* * * * * *", occur())
            .starts_at(at(0))
            .ends_at(at(plan.seconds - 1))
            // Nothing is left out when all servers are late: otherwise one run stands for several instants.
            .misfire(Misfire::All)
            .upsert()
            .await?;
        let id = RecurringId::new(name)?;
        expected.extend((0..plan.seconds).map(|number| (id.clone(), at(number))));
    }
    if storage.now().await? >= at(0) {
        return Err("the recurring jobs were stored too late for their first occurrence".into());
    }
    Ok(expected)
}

/// Kills until the last occurrence is over, then waits until all jobs have ended.
async fn watch(
    fleet: &mut Fleet,
    storage: &dyn Storage,
    expected: &BTreeSet<Occurrence>,
) -> Result<(), AnyError> {
    let end = expected.iter().map(|(_, at)| *at).max().unwrap_or_default();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut over = None;
    loop {
        look.tick().await;
        fleet.fail_if_one_died()?;
        if storage.now().await? < end.saturating_add(Duration::from_secs(1)) {
            fleet.kill_the_doomed(DOOMED)?;
            continue;
        }
        let over = *over.get_or_insert_with(Instant::now);
        let counts = storage.counts().await?;
        // More than there are to be is a fault, too, and is not waited for.
        if counts.succeeded_total >= expected.len() as u64 && at_rest(&counts) {
            return Ok(());
        }
        if over.elapsed() > REST_MAX {
            // The checker says what is missing.
            return Ok(());
        }
    }
}

/// What is there when all is over.
struct Found {
    jobs: Vec<FiredJob>,
    /// The runs that are remembered, by recurring job.
    runs: BTreeMap<RecurringId, Vec<RunRecord>>,
    /// Which occurrence an effect is of, and of which job.
    effects: Vec<(Occurrence, JobId)>,
    counts: Counts,
}

/// A stored job that a recurring job has fired.
struct FiredJob {
    id: JobId,
    occurrence: Occurrence,
    state: StateName,
    attempts: u32,
    late: Duration,
}

impl Found {
    async fn read(
        directory: &Directory,
        storage: &dyn Storage,
        plan: &Plan,
    ) -> Result<Found, AnyError> {
        let mut runs = BTreeMap::new();
        for number in 0..plan.recurring {
            let id = RecurringId::new(format!("every-second-{number}"))?;
            runs.insert(id.clone(), storage.runs(id, portfire_core::recurring::RUNS_KEPT).await?);
        }
        let lines = effects::lines(directory.path())?;
        Ok(Found {
            jobs: fired_jobs(storage).await?,
            runs,
            effects: lines.iter().map(|(_, line)| effect(line)).collect::<Result<_, _>>()?,
            counts: storage.counts().await?,
        })
    }
}

async fn fired_jobs(storage: &dyn Storage) -> Result<Vec<FiredJob>, AnyError> {
    let mut jobs = Vec::new();
    let mut filter = JobFilter { max: portfire_core::monitor::PAGE_MAX, ..JobFilter::default() };
    loop {
        let page = storage.jobs(filter.clone()).await?;
        for job in page.jobs {
            let occurrence = job.ties.occurrence.as_ref();
            let occurrence = occurrence.ok_or_else(|| format!("job {} was not fired", job.id))?;
            let planned = occurrence.planned_at;
            jobs.push(FiredJob {
                id: job.id,
                occurrence: (occurrence.recurring.clone(), planned),
                state: job.state.name(),
                attempts: job.attempt,
                late: job.created_at.since(planned),
            });
        }
        filter.after = page.next;
        if filter.after.is_none() {
            return Ok(jobs);
        }
    }
}

/// Reads what [`occur`] left behind.
fn effect(line: &str) -> Result<(Occurrence, JobId), AnyError> {
    let words: Vec<&str> = line.split(' ').collect();
    let [recurring, planned, job] = words[..] else {
        return Err(format!("`{line}` is no effect").into());
    };
    let planned = Timestamp::from_micros(planned.parse()?);
    Ok(((RecurringId::new(recurring)?, planned), job.parse()?))
}

/// Names everything that is wrong.
fn check(expected: &BTreeSet<Occurrence>, found: &Found) -> Vec<String> {
    let mut faults = Vec::new();
    let mut stored: BTreeMap<&Occurrence, &FiredJob> = BTreeMap::new();
    for job in &found.jobs {
        if let Some(other) = stored.insert(&job.occurrence, job) {
            let (id, at) = &job.occurrence;
            faults.push(format!("{id} at {at} was fired twice: jobs {} and {}", job.id, other.id));
        }
        if !expected.contains(&job.occurrence) {
            let (id, at) = &job.occurrence;
            faults.push(format!("{id} was fired for {at}, which is no occurrence"));
        }
        if job.state != StateName::Succeeded {
            faults.push(format!("job {} is {}", job.id, job.state));
        }
    }
    let missing: Vec<&Occurrence> =
        expected.iter().filter(|occurrence| !stored.contains_key(occurrence)).collect();
    if let Some((id, at)) = missing.first() {
        faults.push(format!("{} occurrences were not fired, such as {id} at {at}", missing.len()));
    }
    let effects = check_effects(&stored, found);
    let runs = found.runs.iter().flat_map(|(id, runs)| check_runs(id, runs, expected, &stored));
    [faults, effects, runs.collect()].into_iter().flat_map(few).collect()
}

/// Every job left its effect, no other did, and none more often than it was attempted.
fn check_effects(stored: &BTreeMap<&Occurrence, &FiredJob>, found: &Found) -> Vec<String> {
    let mut faults = Vec::new();
    let mut times: BTreeMap<JobId, u32> = BTreeMap::new();
    for (occurrence, job) in &found.effects {
        *times.entry(*job).or_default() += 1;
        if stored.get(occurrence).is_none_or(|stored| stored.id != *job) {
            let (id, at) = occurrence;
            faults.push(format!("job {job} ran for {id} at {at}, and is not the stored one"));
        }
    }
    let mut again = 0;
    for job in stored.values() {
        let times = times.get(&job.id).copied().unwrap_or(0);
        if times == 0 {
            faults.push(format!("job {} has succeeded and left no effect", job.id));
        }
        if times > job.attempts {
            let attempts = job.attempts;
            faults.push(format!("job {} ran {times} times in {attempts} attempts", job.id));
        }
        again += u64::from(times.saturating_sub(1));
    }
    let recovered = found.counts.recovered_total;
    if again > recovered {
        faults.push(format!("{again} runs too many, and {recovered} jobs recovered"));
    }
    faults
}

/// What is remembered are the last occurrences, each with its job and how it ended, the newest first.
fn check_runs(
    id: &RecurringId,
    runs: &[RunRecord],
    expected: &BTreeSet<Occurrence>,
    stored: &BTreeMap<&Occurrence, &FiredJob>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let own = expected.iter().filter(|(of, _)| of == id).map(|(_, at)| *at);
    let mut last: Vec<Timestamp> = own.collect();
    last.reverse();
    last.truncate(portfire_core::recurring::RUNS_KEPT as usize);
    let remembered: Vec<Timestamp> = runs.iter().map(|run| run.planned_at).collect();
    if remembered != last {
        let (has, wanted) = (remembered.len(), last.len());
        faults.push(format!("{id} remembers {has} runs, which are not its last {wanted}"));
    }
    for run in runs {
        let job = stored.get(&(id.clone(), run.planned_at)).map(|job| job.id);
        let ended = run.outcome == Some(StateName::Succeeded) && run.ended_at.is_some();
        if run.job.is_none() || run.job != job || run.skipped.is_some() || !ended || run.triggered {
            faults.push(format!("{id} remembers {run:?}, and its job is {job:?}"));
        }
    }
    faults
}

/// A percentile by the nearest rank; zero of nothing.
fn percentile(durations: &mut [Duration], percent: usize) -> Duration {
    durations.sort_unstable();
    let rank = (durations.len() * percent).div_ceil(100).max(1);
    durations.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> RecurringId {
        RecurringId::new("r").unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn job(second: i64, number: u128) -> FiredJob {
        FiredJob {
            id: JobId::from_parts(at(second), number),
            occurrence: (id(), at(second)),
            state: StateName::Succeeded,
            attempts: 1,
            late: Duration::ZERO,
        }
    }

    fn run(job: &FiredJob) -> RunRecord {
        RunRecord {
            planned_at: job.occurrence.1,
            fired_at: job.occurrence.1,
            job: Some(job.id),
            skipped: None,
            outcome: Some(StateName::Succeeded),
            ended_at: Some(job.occurrence.1),
            triggered: false,
        }
    }

    /// Three occurrences, each once.
    fn good() -> (BTreeSet<Occurrence>, Found) {
        let jobs: Vec<FiredJob> = (1..=3).map(|second| job(second, 1)).collect();
        let expected = jobs.iter().map(|job| job.occurrence.clone()).collect();
        let runs = [(id(), jobs.iter().rev().map(run).collect())].into();
        let effects = jobs.iter().map(|job| (job.occurrence.clone(), job.id)).collect();
        (expected, Found { jobs, runs, effects, counts: Counts::default() })
    }

    /// The faults of what is good but for one change.
    fn faults(change: impl FnOnce(&mut Found)) -> String {
        let (expected, mut found) = good();
        change(&mut found);
        check(&expected, &found).join("\n")
    }

    #[test]
    fn each_once_is_no_fault() {
        assert_eq!(faults(|_| {}), "");
    }

    #[test]
    fn a_gap_a_double_and_a_foreign_one_are_found() {
        let gap = faults(|found| drop(found.jobs.remove(1)));
        assert!(
            gap.contains("1 occurrences were not fired, such as r at 1970-01-01T00:00:02"),
            "{gap}"
        );
        assert!(gap.contains("is not the stored one"), "{gap}");
        assert!(faults(|found| found.jobs.push(job(2, 2))).contains("was fired twice"));
        assert!(faults(|found| found.jobs.push(job(4, 1))).contains("is no occurrence"));
        assert!(faults(|found| found.jobs[0].state = StateName::Failed).contains("is failed"));
    }

    #[test]
    fn effects_that_do_not_fit_are_found() {
        assert!(faults(|found| drop(found.effects.pop())).contains("left no effect"));
        let twice = faults(|found| found.effects.push(found.effects[0].clone()));
        assert!(twice.contains("ran 2 times in 1 attempts"), "{twice}");
        assert!(twice.contains("1 runs too many, and 0 jobs recovered"), "{twice}");
        let recovered = faults(|found| {
            found.effects.push(found.effects[0].clone());
            found.jobs[0].attempts = 2;
            found.counts.recovered_total = 1;
        });
        assert_eq!(recovered, "");
    }

    #[test]
    fn runs_that_do_not_fit_are_found() {
        let runs = |change: fn(&mut Vec<RunRecord>)| {
            faults(|found| change(found.runs.get_mut(&id()).unwrap()))
        };
        assert!(runs(|runs| drop(runs.pop())).contains("remembers 2 runs"));
        assert!(runs(|runs| runs.reverse()).contains("which are not its last 3"));
        assert!(runs(|runs| runs[0].outcome = None).contains("outcome: None"));
        assert!(runs(|runs| runs[0].skipped = Some("x".into())).contains("remembers"));
        assert!(runs(|runs| runs[0].job = None).contains("job: None"));
    }

    #[test]
    fn an_effect_is_read_as_it_is_left() {
        let ((recurring, planned), job) =
            effect("every-second-3 1764000000000000 018f0000-0000-7000-8000-000000000001").unwrap();
        assert_eq!(recurring.as_str(), "every-second-3");
        assert_eq!(planned, at(1_764_000_000));
        assert_eq!(job.to_string(), "018f0000-0000-7000-8000-000000000001");
        assert!(effect("r 1").is_err());
    }
}
