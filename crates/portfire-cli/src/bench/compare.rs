//! The scenarios that hold a feature against plain jobs, in turns, in one run.
//!
//! A turn stores its jobs in calls of [`FILL_BATCH`] and then runs them to the last durable completion; both
//! count. Turns of plain jobs and turns with the feature alternate on the same storage, and have the same number
//! of jobs, so that both see the same moods of the machine. Of each side the lower quartile of its turns
//! counts: what others do on the machine only ever makes a turn longer, and on a busy one most of them. The *ratio* is the rate with the feature
//! over the plain rate; `ratio_enqueue` and `ratio_drain` are the same of the two halves alone, and `ratio_cpu` is that
//! of the processor time, which says most on a machine that does other things, too.

use std::time::{Duration, Instant};

use portfire_core::{
    Antecedent, BatchChange, BatchChanged, BatchId, Dependency, JobId, LimitName, LimitRule,
    LimitUse, NewBatch, NewJob, UniqueKey, UniqueScope,
};

use super::figures::{self, Figures, Since};
use super::probe::{noop, talkative};
use super::serve::{FILL_BATCH, run_to_end};
use super::{Against, Bench, Measured};
use crate::failure::Failure;

/// Turns of each side.
const TURNS: u64 = 15;

/// What is held against plain jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// Every second job waits for the one before it, which is stored in the same call.
    Continuations,
    /// All jobs of a turn are members of one batch, which is stored open and sealed at the end, and
    /// of which a job waits that is not counted.
    Batch,
    /// Every job holds a key of its own until it has ended.
    Unique,
    /// Every job is under a limit with as many parts as `--keys` says, of which each runs `--concurrency` at a time.
    Limits,
    /// Every job logs ten lines.
    Logs,
}

/// What turns took.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    store: Duration,
    run: Duration,
    /// Processor time; zero where the system does not tell.
    cpu: Duration,
}

/// The lower quartile of what turns took, of one of their halves or of both.
fn quartile(turns: &[Spent], of: fn(&Spent) -> Duration) -> Duration {
    let mut times: Vec<Duration> = turns.iter().map(of).collect();
    times.sort_unstable();
    times.get(times.len() / 4).copied().unwrap_or_default()
}

pub(super) async fn with_plain(bench: &Bench<'_>, feature: Feature) -> Result<Measured, Failure> {
    let share = (bench.jobs(100_000) / TURNS).max(1);
    // The first jobs open and make what is opened and made late; they are not what is measured.
    turn(bench, None, 100).await?;
    turn(bench, Some(feature), 100).await?;
    let (mut plain, mut featured) = (Vec::new(), Vec::new());
    let mut figures = Figures::default();
    for number in 0..TURNS {
        let mut sides = [None, Some(feature)];
        // Neither side is always the first.
        if number % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            let since = Since::now(bench.commits());
            let spent = turn(bench, side, share).await?;
            match side {
                None => plain.push(spent),
                Some(_) => {
                    featured.push(spent);
                    figures.add(since.figures(bench.commits()));
                }
            }
        }
    }
    let ratio = |of: fn(&Spent) -> Duration| {
        quartile(&plain, of).as_secs_f64() / quartile(&featured, of).as_secs_f64()
    };
    let all: fn(&Spent) -> Duration = |spent| spent.store + spent.run;
    let turns = TURNS as u32;
    Ok(Measured {
        jobs: share * TURNS,
        time: quartile(&featured, all) * turns,
        is_rate: true,
        figures,
        against: Some(Against {
            plain: quartile(&plain, all) * turns,
            enqueue: Some(ratio(|spent| spent.store)),
            drain: Some(ratio(|spent| spent.run)),
            cpu: Some(ratio(|spent| spent.cpu)).filter(|ratio| ratio.is_finite()),
        }),
        ..Measured::default()
    })
}

/// Stores so many jobs and runs them.
async fn turn(bench: &Bench<'_>, feature: Option<Feature>, jobs: u64) -> Result<Spent, Failure> {
    let cpu = figures::cpu().unwrap_or_default();
    let begin = Instant::now();
    let mut expected = jobs;
    match feature {
        None => store(bench, jobs, quiet, |_| Ok(())).await?,
        Some(Feature::Logs) => store(bench, jobs, talking, |_| Ok(())).await?,
        Some(Feature::Batch) => {
            store_batch(bench, jobs).await?;
            expected += 1;
        }
        Some(feature) => store(bench, jobs, quiet, |jobs| tie(bench, feature, jobs)).await?,
    }
    let store = begin.elapsed();
    let run = run_to_end(bench, expected).await?;
    let cpu = figures::cpu().unwrap_or_default().saturating_sub(cpu);
    Ok(Spent { store, run, cpu })
}

async fn store(
    bench: &Bench<'_>,
    jobs: u64,
    make: impl Fn(&Bench<'_>) -> Result<NewJob, Failure>,
    tie: impl Fn(&mut [NewJob]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut stored = 0;
    while stored < jobs {
        let count = FILL_BATCH.min(jobs - stored);
        let mut batch = (0..count).map(|_| make(bench)).collect::<Result<Vec<_>, _>>()?;
        tie(&mut batch)?;
        bench.client.create(batch).await?;
        stored += count;
    }
    Ok(())
}

fn quiet(bench: &Bench<'_>) -> Result<NewJob, Failure> {
    Ok(bench.client.prepare(noop(&bench.payload))?)
}

fn talking(bench: &Bench<'_>) -> Result<NewJob, Failure> {
    Ok(bench.client.prepare(talkative(&bench.payload))?)
}

/// Gives the jobs of one call what the feature is about.
fn tie(bench: &Bench<'_>, feature: Feature, jobs: &mut [NewJob]) -> Result<(), Failure> {
    let mut parent: Option<JobId> = None;
    for (number, job) in jobs.iter_mut().enumerate() {
        match feature {
            Feature::Continuations => match parent.take() {
                None => parent = Some(job.id),
                Some(parent) => job.ties.after = vec![Dependency::on(parent)],
            },
            Feature::Unique => {
                let key = format!("portfire.bench:{}", job.id);
                let scope = UniqueScope::UntilFinished;
                job.ties.unique = Some(UniqueKey { key, scope, conflict: Default::default() });
            }
            Feature::Limits => {
                let partition = format!("tenant-{}", number as u64 % u64::from(bench.args.keys));
                job.ties.limits = vec![limit(partition, bench.args.concurrency)?];
            }
            Feature::Batch | Feature::Logs => {}
        }
    }
    Ok(())
}

/// A part of the limit of the bench.
pub(super) fn limit(partition: String, concurrency: u32) -> Result<LimitUse, Failure> {
    let name = format!("portfire.bench.{concurrency}");
    let declared = Some(LimitRule::concurrency(concurrency));
    Ok(LimitUse { limit: LimitName::new(name)?, partition, declared })
}

async fn store_batch(bench: &Bench<'_>, jobs: u64) -> Result<(), Failure> {
    let id = BatchId::new(bench.client.next_id());
    let mut batch = NewBatch::new(id);
    batch.open = true;
    let mut callback = quiet(bench)?;
    callback.ties.after = vec![Dependency::on(Antecedent::Batch(id))];
    bench.storage.create_batches(vec![batch], vec![callback]).await?;
    store(bench, jobs, quiet, |members| {
        members.iter_mut().for_each(|member| member.ties.batch = Some(id));
        Ok(())
    })
    .await?;
    match bench.storage.change_batch(id, BatchChange::Seal).await? {
        BatchChanged::Applied(_) => Ok(()),
        other => Err(Failure::new(format!("the batch was not sealed: {other:?}"))),
    }
}
