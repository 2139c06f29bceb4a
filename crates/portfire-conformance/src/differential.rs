//! Compares a storage with the [`Model`], the reference: the same random sequence of operations
//! on both must give the same answers, and at the end the same contents.
//!
//! The suite has a case for each sentence of the contract; this finds what no one thought of. A
//! difference is shrunk before it is told: operations that it does not need are left out.
//!
//! Where the contract leaves a storage free (which of the lapsed jobs a bounded rescue returns
//! first, for instance), the sequences leave no trace of the choice.

mod contents;
mod grouped;
mod operation;
mod scope;
mod script;

use std::fmt;
use std::sync::Arc;

use portfire_core::{ManualClock, Storage};

pub use grouped::Grouped;
use operation::{Operation, Side};
pub use scope::Scope;
use script::Script;

use crate::model::Model;

/// Runs the sequence of `steps` operations that `seed` stands for on a reference and on a storage
/// that `make` opens, empty, on the clock that it is given.
///
/// `make` is called again, for another empty storage, each time a difference is shrunk.
///
/// # Errors
/// The first [`Difference`], shrunk.
pub async fn run(
    seed: u64,
    steps: usize,
    make: impl AsyncFn(Arc<ManualClock>) -> Arc<dyn Storage>,
) -> Result<(), Difference> {
    run_within(Scope::ALL, seed, steps, make).await
}

/// As [`run`], with the groups of the contract that are in the scope.
///
/// # Errors
/// As [`run`].
pub async fn run_within(
    scope: Scope,
    seed: u64,
    steps: usize,
    make: impl AsyncFn(Arc<ManualClock>) -> Arc<dyn Storage>,
) -> Result<(), Difference> {
    let make = async |clock| Side::new(make(clock).await);
    compare(Script::new(seed, scope), scope, seed, steps, &make).await
}

/// As [`run`], with a storage that is made to do several operations in one commit: the reference does them one
/// after the other, and they must not feel one another otherwise than so.
///
/// # Errors
/// As [`run`], and when operations that were handed in together did not share one commit.
pub async fn run_together(
    seed: u64,
    steps: usize,
    make: impl AsyncFn(Arc<ManualClock>) -> Arc<dyn Grouped>,
) -> Result<(), Difference> {
    let make = async |clock| Side::grouped(make(clock).await);
    compare(Script::together(seed, Scope::ALL), Scope::ALL, seed, steps, &make).await
}

async fn compare(
    mut script: Script,
    scope: Scope,
    seed: u64,
    steps: usize,
    make: &impl AsyncFn(Arc<ManualClock>) -> Side,
) -> Result<(), Difference> {
    let mut pair = Pair::new(scope, make).await;
    let mut operations = Vec::with_capacity(steps);
    for _ in 0..steps {
        let operation = script.next();
        operations.push(operation.clone());
        match pair.apply(&operation).await {
            Ok(answer) => script.learn(&operation, &answer),
            Err(mismatch) => return Err(shrink(scope, seed, operations, mismatch, make).await),
        }
    }
    match pair.compare_contents().await {
        Ok(()) => Ok(()),
        Err(mismatch) => Err(shrink(scope, seed, operations, mismatch, make).await),
    }
}

/// Where a storage parts from the reference.
#[derive(Debug)]
pub struct Difference {
    /// The sequence; running it again shows the difference again.
    pub seed: u64,
    /// The operation, counted from 1, at which the whole sequence showed a difference first; one
    /// past the last when only the contents at the end differed.
    pub step: usize,
    /// The operations that are needed to show a difference, the last one the one that shows it.
    pub operations: Vec<String>,
    /// What differs: an operation, or a part of the contents.
    pub subject: String,
    /// What the reference says.
    pub expected: String,
    /// What the storage says.
    pub actual: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} differs at step {}; shrunk to:", self.seed, self.step)?;
        for (place, operation) in self.operations.iter().enumerate() {
            writeln!(f, "  {}. {operation}", place + 1)?;
        }
        writeln!(f, "differs: {}", self.subject)?;
        writeln!(f, "reference: {}", self.expected)?;
        write!(f, "storage:   {}", self.actual)
    }
}

impl std::error::Error for Difference {}

/// What differed, and at which operation, counted from 1.
struct Mismatch {
    step: usize,
    subject: String,
    expected: String,
    actual: String,
}

/// The two storages on one clock.
struct Pair {
    scope: Scope,
    clock: Arc<ManualClock>,
    reference: Side,
    storage: Side,
    step: usize,
}

impl Pair {
    async fn new(scope: Scope, make: &impl AsyncFn(Arc<ManualClock>) -> Side) -> Pair {
        let clock = Arc::new(ManualClock::default());
        let reference = Side::new(Arc::new(Model::with_clock(clock.clone())));
        let storage = make(clock.clone()).await;
        Pair { scope, clock, reference, storage, step: 0 }
    }

    async fn apply(&mut self, operation: &Operation) -> Result<operation::Answer, Mismatch> {
        self.step += 1;
        if matches!(operation, Operation::Back(_)) {
            // Whether an instant that nobody was told holds time up is the storage's choice.
            for side in [&self.reference, &self.storage] {
                if let Err(error) = side.storage().now().await {
                    return Err(self.mismatch("the time", "an instant", &error.to_string()));
                }
            }
        }
        operation.move_clock(&self.clock);
        let expected = self.reference.apply(operation).await;
        let actual = self.storage.apply(operation).await;
        if expected == actual {
            return Ok(expected);
        }
        let (expected, actual) = (format!("{expected:?}"), format!("{actual:?}"));
        Err(self.mismatch(&format!("{operation:?}"), &expected, &actual))
    }

    fn mismatch(&self, subject: &str, expected: &str, actual: &str) -> Mismatch {
        let [subject, expected, actual] = [subject, expected, actual].map(str::to_owned);
        Mismatch { step: self.step, subject, expected, actual }
    }

    async fn compare_contents(&self) -> Result<(), Mismatch> {
        let expected = contents::read(self.reference.storage(), self.scope).await;
        let actual = contents::read(self.storage.storage(), self.scope).await;
        let Some((subject, expected, actual)) = contents::first_difference(&expected, &actual)
        else {
            return Ok(());
        };
        Err(Mismatch { step: self.step + 1, subject, expected, actual })
    }
}

/// Runs operations from the beginning; the first mismatch, if there still is one.
async fn replay(
    scope: Scope,
    operations: &[Operation],
    make: &impl AsyncFn(Arc<ManualClock>) -> Side,
) -> Option<Mismatch> {
    let mut pair = Pair::new(scope, make).await;
    for operation in operations {
        if let Err(mismatch) = pair.apply(operation).await {
            return Some(mismatch);
        }
    }
    pair.compare_contents().await.err()
}

/// Leaves out operations, from the last to the first, as long as a difference remains; then some of those that
/// stand together.
async fn shrink(
    scope: Scope,
    seed: u64,
    mut operations: Vec<Operation>,
    first: Mismatch,
    make: &impl AsyncFn(Arc<ManualClock>) -> Side,
) -> Difference {
    let step = first.step;
    let mut mismatch = first;
    let mut place = operations.len();
    while place > 0 {
        place -= 1;
        for fewer in without_one(&operations, place) {
            if let Some(found) = replay(scope, &fewer, make).await {
                operations = fewer;
                operations.truncate(found.step);
                mismatch = found;
                // A group that has lost one may lose another.
                place = (place + 1).min(operations.len());
                break;
            }
        }
    }
    let Mismatch { subject, expected, actual, .. } = mismatch;
    let operations = operations.iter().map(|operation| format!("{operation:?}")).collect();
    Difference { seed, step, operations, subject, expected, actual }
}

/// The operations without the one at this place, or without one of those that stand together there.
fn without_one(operations: &[Operation], place: usize) -> Vec<Vec<Operation>> {
    let mut fewer = operations.to_vec();
    let mut all = Vec::new();
    if let Operation::Together(group) = fewer.remove(place) {
        all.push(fewer.clone());
        for left_out in (0..group.len()).filter(|_| group.len() > 1) {
            let mut group = group.clone();
            group.remove(left_out);
            let mut fewer = fewer.clone();
            fewer.insert(place, Operation::Together(group));
            all.push(fewer);
        }
        return all;
    }
    all.push(fewer);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use portfire_core::client::block_on;
    use portfire_core::{Cause, Changed, HistoryEntry, Loss, StateName};

    use super::contents::Item;
    use super::operation::Answer;
    use super::*;
    use crate::audit::audit;
    use crate::stage::Stage;
    use crate::{Fixtures, ManualFixture};

    fn causes(history: &[HistoryEntry]) -> Vec<String> {
        history.iter().map(|entry| format!("cause {}", entry.cause)).collect()
    }

    /// The sorts of things that an answer tells of.
    fn sorts(answer: &Answer) -> Vec<String> {
        match answer {
            Answer::Created(created) => {
                created.iter().map(|created| format!("existing: {}", created.existing)).collect()
            }
            Answer::BatchChanged(changed) => vec![format!("batch: {changed:?}")],
            Answer::RecurringChanged(changed) => vec![format!("recurring: {}", name(changed))],
            Answer::Ticked(due, fired) => {
                let later = due.next_in.is_some_and(|wait| !wait.is_zero());
                let mut sorts = vec![format!("due: {}, later: {later}", !due.due.is_empty())];
                sorts.extend(fired.iter().map(|fired| format!("ticked: {}", name(fired))));
                sorts
            }
            Answer::Fired(fired) => {
                fired.iter().map(|one| format!("fired: {}", name(one))).collect()
            }
            Answer::Locked(locked) => vec![format!("lock: {}", name(locked))],
            Answer::Lost(lost) => lost.iter().map(|lost| format!("{:?}", lost.reason)).collect(),
            Answer::Cycled(cycle) => {
                let mut sorts: Vec<_> = cycle.verdicts.iter().map(|v| format!("{v:?}")).collect();
                let parents = cycle.claimed.iter().flat_map(|job| &job.parents);
                sorts.extend(parents.map(|parent| format!("parent {}", parent.state)));
                sorts
            }
            Answer::Rescued { total, calls } => {
                let named = [("dead", total.dead.len() as u32), ("returned", total.returned)];
                let named = named
                    .into_iter()
                    .chain([("poisoned", total.poisoned), ("rescued in chunks", calls - 1)]);
                named.filter(|(_, count)| *count > 0).map(|(name, _)| name.to_owned()).collect()
            }
            Answer::Promoted(promoted) => {
                let later = promoted.next_in.is_some_and(|wait| !wait.is_zero());
                let released = (promoted.released > 0).then(|| "released".to_owned());
                let promoted = format!("promoted: {}, later: {later}", promoted.promoted > 0);
                released.into_iter().chain([promoted]).collect()
            }
            Answer::Changed(changed) => {
                let sort = |changed: &Changed| match changed {
                    Changed::Applied { from, .. } => format!("changed from {from}"),
                    other => name(other),
                };
                changed.iter().map(sort).collect()
            }
            Answer::Cleaned { jobs, calls } => {
                vec![format!("cleaned: {}, in chunks: {}", *jobs > 0, *calls > 1)]
            }
            Answer::Looked(looked) => causes(&looked.history),
            Answer::Listed(jobs) => vec![format!("listed over pages: {}", jobs.len() > 3)],
            Answer::Read(answer, _) => sorts(answer),
            Answer::Together(answers) => answers.iter().flat_map(sorts).collect(),
            Answer::Error(text) if text.starts_with("the call") => vec![text.clone()],
            Answer::Error(text) => vec![text.split([' ', '(']).next().unwrap().to_owned()],
            Answer::Done => Vec::new(),
        }
    }

    /// The name of a variant.
    fn name(variant: &impl fmt::Debug) -> String {
        format!("{variant:?}").split([' ', '(']).next().unwrap().to_owned()
    }

    /// Runs a sequence on the reference alone; each answer goes to `look`.
    async fn run_alone(
        seed: u64,
        stage: &Stage,
        clock: &ManualClock,
        mut look: impl FnMut(&Answer),
    ) {
        let mut script = Script::new(seed, Scope::ALL);
        let mut side = Side::new(stage.storage());
        for _ in 0..60 {
            let operation = script.next();
            operation.move_clock(clock);
            let answer = side.apply(&operation).await;
            script.learn(&operation, &answer);
            look(&answer);
        }
    }

    async fn stage(clock: &Arc<ManualClock>) -> Stage {
        let clock = Arc::clone(clock);
        let fixtures = Fixtures::new(move || {
            let storage = Arc::new(Model::with_clock(clock.clone()));
            std::future::ready(ManualFixture::new(storage, clock.clone()))
        });
        Stage::new(fixtures).await
    }

    /// Failures and recoveries since the last run began, told by the history alone.
    fn told(history: &[HistoryEntry]) -> (u32, u32) {
        let mut counts = (0, 0);
        let mut before = StateName::Enqueued;
        for entry in history {
            match entry.cause {
                // A job that no server has a handler of is failed without an attempt, and without a failure.
                Cause::Failed if entry.attempt.is_none() => {}
                Cause::Retried | Cause::Failed => counts.0 += 1,
                Cause::Discarded => counts.0 += u32::from(entry.error.is_some()),
                Cause::Rescued => {
                    let alone = entry.reason.as_deref() == Some(Loss::CrashedAlone.reason());
                    counts.1 += u32::from(alone);
                }
                Cause::Requeued | Cause::Rescheduled if before.is_final() => counts = (0, 0),
                _ => {}
            }
            before = entry.state;
        }
        counts
    }

    #[test]
    fn the_reference_keeps_the_rules_in_every_sequence() {
        for seed in 0..100 {
            let clock = Arc::new(ManualClock::default());
            block_on(async {
                let stage = stage(&clock).await;
                run_alone(seed, &stage, &clock, |_| {}).await;
                // The audit looks at what holds when nothing is left over.
                stage.promote_all().await;
                audit(&stage).await;
                for job in stage.everything().await {
                    let history = stage.history(job.id).await;
                    assert_eq!(told(&history), (job.failures, job.recoveries), "{history:#?}");
                }
            });
        }
    }

    #[test]
    fn the_sequences_reach_every_sort_of_answer() {
        let mut seen = BTreeMap::<String, u32>::new();
        for seed in 0..1_100 {
            let clock = Arc::new(ManualClock::default());
            let stage = block_on(stage(&clock));
            block_on(run_alone(seed, &stage, &clock, |answer| {
                sorts(answer).into_iter().for_each(|sort| *seen.entry(sort).or_default() += 1);
            }));
            for item in block_on(contents::read(&*stage.storage(), Scope::ALL)) {
                let Item::Job(_, looked) = item else { continue };
                causes(&looked.history).into_iter().for_each(|c| *seen.entry(c).or_default() += 1);
            }
        }
        let mut wanted: Vec<String> = [
            "existing: true",
            "IdTaken",
            "Invalid",
            "ServerGone",
            "Deleted",
            "Taken",
            "Missing",
            "Applied",
            "Already",
            "Fenced",
            "dead",
            "returned",
            "poisoned",
            "rescued in chunks",
            "promoted: true, later: true",
            "Unchanged",
            "Unexpected",
            "Refused",
            "cleaned: true, in chunks: true",
            "listed over pages: true",
            "the call is refused",
            "released",
            "parent succeeded",
            "parent failed",
            "parent deleted",
            "Conflict",
            "batch: Applied(Started)",
            "batch: Applied(Awaiting)",
            "batch: Applied(Succeeded)",
            "batch: Applied(Cancelling)",
            "batch: Applied(Cancelled)",
            "batch: Unchanged(Failed)",
            "recurring: Applied",
            "recurring: Unchanged",
            "recurring: Triggered",
            "recurring: Pruned",
            "recurring: Owned",
            "recurring: Missing",
            "due: true, later: false",
            "due: true, later: true",
            "ticked: Applied",
            "fired: Applied",
            "fired: Stale",
            "lock: Held",
            "lock: Taken",
            "lock: Lost",
            "lock: Released",
        ]
        .map(str::to_owned)
        .to_vec();
        for from in
            ["scheduled", "awaiting", "enqueued", "processing", "succeeded", "failed", "deleted"]
        {
            wanted.push(format!("changed from {from}"));
        }
        wanted.extend(Cause::ALL.iter().map(|cause| format!("cause {cause}")));
        let rare: Vec<_> =
            wanted.iter().filter(|sort| seen.get(*sort).is_none_or(|count| *count < 10)).collect();
        assert!(rare.is_empty(), "{rare:?} of {seen:#?}");
    }
}
