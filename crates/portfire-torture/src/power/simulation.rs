//! Every power loss that a record allows, or some of them: each leaves an image, which is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::AnyError;
use crate::power::disk::{Dice, Disk, Keep};
use crate::power::look::{Look, look, write_out};
use crate::power::record::{Event, Record};
use crate::power::story::{Fault, Line, Story};

/// Faults of a sort that are told.
const TOLD: usize = 3;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Points at which the power fails; `None` for every one.
    pub(crate) points: Option<usize>,
    /// Random images of each point.
    pub(crate) random: u64,
    pub(crate) seed: u64,
    /// Whether it ends at the first fault.
    pub(crate) first: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) points: usize,
    pub(crate) images: usize,
    pub(crate) distinct: usize,
    /// Images that are damaged, that lose something, and that are wrong otherwise.
    pub(crate) damaged: usize,
    pub(crate) losing: usize,
    pub(crate) wrong: usize,
    /// Some of the faults, with their places.
    pub(crate) faults: Vec<String>,
}

impl Report {
    fn add(&mut self, other: Report) {
        self.points += other.points;
        self.images += other.images;
        self.damaged += other.damaged;
        self.losing += other.losing;
        self.wrong += other.wrong;
        self.faults.extend(other.faults);
    }
}

/// Lets the power fail at points of a record. Images are written out below `images`; one of each sort of fault is kept
/// in `kept`.
pub(crate) fn simulate(
    record: &Record,
    extent: Extent,
    images: &Path,
    kept: Option<&Path>,
) -> Result<Report, AnyError> {
    let points: Vec<usize> = points(record, extent).into_iter().collect();
    let whole = record.story()?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(16);
    let field = Field {
        record,
        extent,
        whole: &whole,
        kept,
        looks: Mutex::default(),
        sorts: Mutex::default(),
        ended: AtomicBool::new(false),
    };
    let mut report = Report::default();
    std::thread::scope(|scope| -> Result<(), AnyError> {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                // Neighbours go to different threads, so that all have as much to do.
                let own: Vec<usize> =
                    points.iter().copied().skip(thread).step_by(threads).collect();
                let (field, place) = (&field, images.join(format!("image-{thread}")));
                let name = format!("power-look-{thread}");
                std::thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, move || field.run(&own, &place))
            })
            .collect::<Result<_, _>>()?;
        for handle in handles {
            let part = handle.join().map_err(|_| "a thread that looks at images panicked")??;
            report.add(part);
        }
        Ok(())
    })?;
    report.distinct = lock(&field.looks).len();
    Ok(report)
}

/// The points at which the power fails: numbers of events that have happened.
fn points(record: &Record, extent: Extent) -> BTreeSet<usize> {
    let all = record.events.len();
    let Some(count) = extent.points.filter(|count| *count < all) else {
        return (1..=all).collect();
    };
    let is_ack = |event: &Event| matches!(event, Event::Tell(Line::Stored(_) | Line::Ended(..)));
    let acks: Vec<usize> =
        (0..all).filter(|&at| is_ack(&record.events[at])).map(|at| at + 1).collect();
    let mut dice = Dice(extent.seed);
    // The last, and then as many that follow an acknowledgement as others.
    let mut points = BTreeSet::from([all]);
    for _ in 0..20 * count {
        if points.len() == count {
            break;
        }
        let after_ack = dice.of(2) == 0 && !acks.is_empty();
        points.insert(if after_ack { acks[dice.of(acks.len())] } else { 1 + dice.of(all) });
    }
    points
}

struct Field<'a> {
    record: &'a Record,
    extent: Extent,
    whole: &'a Story,
    kept: Option<&'a Path>,
    looks: Mutex<BTreeMap<u64, Arc<Look>>>,
    /// How often each sort of fault was told.
    sorts: Mutex<BTreeMap<&'static str, usize>>,
    ended: AtomicBool,
}

impl Field<'_> {
    /// Goes through the record once, and stops at points of it.
    fn run(&self, points: &[usize], place: &Path) -> Result<Report, AnyError> {
        let mut report = Report::default();
        let mut disk = Disk::default();
        let mut story = Story::default();
        let mut done = 0;
        for &point in points {
            for at in done..point {
                let event = &self.record.events[at];
                disk.apply(at, event);
                if let Event::Tell(line) = event {
                    story.tell(line)?;
                }
            }
            done = point;
            report.points += 1;
            for keep in self.keeps(&disk, point) {
                if self.ended.load(Ordering::Relaxed) {
                    return Ok(report);
                }
                self.lose(&disk, &story, point, keep, place, &mut report)?;
            }
        }
        Ok(report)
    }

    /// What a power loss may keep.
    fn keeps(&self, disk: &Disk, point: usize) -> Vec<Keep> {
        let unsynced = disk.unsynced();
        let mut keeps = vec![Keep::Nothing];
        if unsynced.is_empty() && !disk.has_new_names() {
            return keeps;
        }
        keeps.push(Keep::Everything);
        if unsynced.len() > 1 {
            keeps.extend(unsynced.into_iter().map(Keep::Only));
        }
        let seed = self.extent.seed.wrapping_mul(1_000_003).wrapping_add(point as u64);
        keeps.extend((0..self.extent.random).map(|n| Keep::Random(seed.wrapping_mul(64) + n)));
        keeps
    }

    fn lose(
        &self,
        disk: &Disk,
        story: &Story,
        point: usize,
        keep: Keep,
        place: &Path,
        report: &mut Report,
    ) -> Result<(), AnyError> {
        let image = disk.image(keep);
        let digest = image.digest();
        report.images += 1;
        let known = lock(&self.looks).get(&digest).cloned();
        let look = match known {
            Some(look) => look,
            None => {
                let look = Arc::new(look(&image, place, self.whole)?);
                lock(&self.looks).insert(digest, Arc::clone(&look));
                look
            }
        };
        let mut faults = look.faults.clone();
        if !matches!(faults[..], [Fault::Damaged(_), ..]) {
            faults.extend(story.faults(&look.standing));
        }
        let Some(worst) = faults.iter().min() else { return Ok(()) };
        match worst {
            Fault::Damaged(_) => report.damaged += 1,
            Fault::Lost(_) => report.losing += 1,
            Fault::Torn(_) | Fault::Invented(_) => report.wrong += 1,
        }
        if self.extent.first {
            self.ended.store(true, Ordering::Relaxed);
        }
        let told = {
            let mut sorts = lock(&self.sorts);
            let told = sorts.entry(worst.sort()).or_default();
            *told += 1;
            *told
        };
        if told > TOLD {
            return Ok(());
        }
        let mut text = format!("after event {point}, {}: {worst}", self.words(keep));
        if faults.len() > 1 {
            text.push_str(&format!(" (and {} more)", faults.len() - 1));
        }
        if told == 1
            && let Some(kept) = self.kept
        {
            let kept = kept.join(format!("image-{}-{point}", worst.sort()));
            std::fs::create_dir_all(&kept)?;
            write_out(&image, &kept)?;
            text.push_str(&format!("; the image is in {}", kept.display()));
        }
        report.faults.push(text);
        Ok(())
    }

    fn words(&self, keep: Keep) -> String {
        match keep {
            Keep::Nothing => "nothing unsynced is kept".to_owned(),
            Keep::Everything => "everything is kept".to_owned(),
            Keep::Only(file) => format!("only {} is kept", self.record.files[file.0]),
            Keep::Random(seed) => format!("random pages are kept (seed {seed})"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
