//! Power losses: real processes write to an SQLite file while every write and sync is recorded; then the power fails,
//! in a model of the disk, at every point of the record, and whatever that may leave must hold all that was
//! acknowledged.
//!
//! - `strace.rs` runs the processes and reads their calls, `record.rs` puts them in one order, `story.rs` knows what was
//!   acknowledged when.
//! - `disk.rs` is the model: what may be on a disk after writes, syncs and syncs that failed.
//! - `scenario.rs` is what is recorded, `actor.rs` the process, `simulation.rs` the power losses, `look.rs` the look at
//!   what they leave.
//! - `plant.rs` plants faults into good records, which must be found.

pub(crate) mod actor;
mod disk;
mod look;
mod plant;
mod record;
mod scenario;
mod simulation;
mod story;
mod strace;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::AnyError;
use crate::directory::Directory;
use record::Record;
use scenario::Scenario;
use simulation::{Extent, simulate};

/// Points at which a planted fault is looked for.
const PLANT_POINTS: usize = 400;

/// What is recorded, and how much is tried.
#[derive(Clone, Debug, Args)]
pub(crate) struct Plan {
    /// Scenarios; all of them when none is named.
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// Less of everything, for a look in between.
    #[arg(long)]
    small: bool,
    /// Records of each scenario. Default: 2; small: 1.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    records: Option<u64>,
    /// Jobs that each process stores and ends. Default: 120; small: 80.
    #[arg(long, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    jobs: Option<u64>,
    /// Points of a record at which the power fails, half of them behind an acknowledgement. Default: every one;
    /// small: 30.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    points: Option<u64>,
    /// Random images of each point, besides those that keep nothing, everything, or one file. Default: 3; small: 2.
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=64))]
    random: Option<u64>,
    /// Decides over all that is left to chance but the processes themselves.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// An empty or new directory for the records, which are kept. Default: one that is removed when everything
    /// passed.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Plan {
    /// What was asked for, else what is usual.
    fn or(&self, asked: Option<u64>, usual: u64, small: u64) -> u64 {
        asked.unwrap_or(if self.small { small } else { usual })
    }

    fn jobs(&self) -> u64 {
        self.or(self.jobs, 120, 80)
    }

    fn extent(&self) -> Extent {
        let points = self.points.or(self.small.then_some(30));
        Extent {
            points: points.map(|points| points as usize),
            random: self.or(self.random, 3, 2),
            seed: self.seed,
            first: false,
        }
    }
}

pub(crate) fn run(plan: &Plan) -> Result<(), AnyError> {
    strace::check()?;
    let directory = Directory::new(plan.dir.as_deref())?;
    let images = Images::new(directory.path())?;
    let scenarios = if plan.scenario.is_empty() { &scenario::ALL[..] } else { &plan.scenario[..] };
    quiet_threads();
    let patience = plan.or(None, 10, 3);
    let mut faults = Vec::new();
    for &scenario in scenarios {
        let mut next = plan.seed;
        for number in 0..plan.or(plan.records, 2, 1) {
            let (record, last) = scenario.record(directory.path(), plan.jobs(), next, patience)?;
            next = last + 1;
            let place = directory.path().join(format!("{}-{last}", scenario.name()));
            let found = lose_power(plan, scenario, last, &record, &images.0, &place)?;
            if found.is_empty() && plan.dir.is_none() {
                std::fs::remove_dir_all(&place)?;
            }
            faults.extend(found);
            if number == 0 && scenario == Scenario::Alone && faults.is_empty() {
                faults.extend(plant(plan, &record, &images.0)?);
            }
        }
    }
    drop(images);
    directory.close("power", &faults)
}

/// Lets the power fail in a record, and tells what was found.
fn lose_power(
    plan: &Plan,
    scenario: Scenario,
    number: u64,
    record: &Record,
    images: &Path,
    place: &Path,
) -> Result<Vec<String>, AnyError> {
    let begin = Instant::now();
    let report = simulate(record, plan.extent(), images, Some(place))?;
    let story = record.story()?;
    let name = scenario.name();
    println!(
        "torture power {name} {number}: {} events, {} log restarts, {} failed syncs, {} acknowledgements, {} refusals; \
         {} points, {} images, {} of them distinct, {} damaged, {} losing, {} otherwise wrong, {:.1} s",
        record.events.len(),
        record.log_restarts(),
        record.failed_syncs(""),
        story.acknowledged,
        story.refused,
        report.points,
        report.images,
        report.distinct,
        report.damaged,
        report.losing,
        report.wrong,
        begin.elapsed().as_secs_f64(),
    );
    let stopped = scenario.stopped(&story, plan.jobs()).into_iter();
    let faults = stopped.chain(report.faults);
    Ok(faults.map(|fault| format!("{name} {number}: {fault}")).collect())
}

/// Plants faults into a good record, and names those that are not found.
fn plant(plan: &Plan, record: &Record, images: &Path) -> Result<Vec<String>, AnyError> {
    let mut faults = Vec::new();
    for plant in plant::ALL {
        let extent = Extent { points: Some(PLANT_POINTS), random: 1, seed: plan.seed, first: true };
        let report = simulate(&plant.in_record(record), extent, images, None)?;
        match report.faults.first() {
            Some(found) => {
                println!("torture power, planted {}: found, {found}", plant.name());
            }
            None => faults.push(format!(
                "planted {}: not found in {} images: the simulation is blind",
                plant.name(),
                report.images
            )),
        }
    }
    Ok(faults)
}

/// Where images are written out and opened: in memory where the system has a place for that, because nothing is to be
/// proved of this disk.
struct Images(PathBuf);

impl Images {
    fn new(directory: &Path) -> Result<Images, AnyError> {
        let name = format!("portfire-torture-{}", std::process::id());
        let in_memory = Path::new("/dev/shm").join(&name);
        if std::fs::create_dir(&in_memory).is_ok() {
            return Ok(Images(in_memory));
        }
        let on_disk = directory.join("images");
        std::fs::create_dir_all(&on_disk)?;
        Ok(Images(on_disk))
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A panic of an audit is a finding, and is told as one.
fn quiet_threads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let current = std::thread::current();
        if !current.name().is_some_and(|name| name.starts_with("power-look")) {
            usual(panic);
        }
    }));
}
