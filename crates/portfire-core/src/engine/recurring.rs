//! Recurring jobs: what a change makes of a definition, and what a plan does when it is fired.
//!
//! An overlap rule regards all runs that have not ended, not the last one alone: a short run by hand, or an older
//! run that was requeued, would else hide one that still runs. So of those that are remembered the ones that
//! have not ended are forgotten last.
//!
//! *When* one fires is decided by [`plan`](crate::recurring::plan), outside of the storage. Here a plan is
//! applied: [`Firing`] goes through its instants, one run after another.

use std::collections::HashSet;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::continuation::{After, DEPENDENCIES_MAX, Dependency};
use crate::job::{InvalidJob, JobId, Limits, NewJob, When};
use crate::recurring::{
    FAULTS_MAX, Fault, Fire, FireAction, MISFIRE_AFTER, NewRecurring, Overlap, Paused, RUNS_KEPT,
    RUNS_OPEN_MAX, RecurringChanged, RecurringId, RecurringRecord, RunRecord, jitter_of,
};
use crate::state::StateName;
use crate::ties::Occurrence;

/// How long a schedule that cannot be read is left alone.
pub const FAULT_RETRY: Duration = Duration::from_secs(60);

/// What a change makes of a recurring job.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Store this record, with its runs left as they are. The answer is [`applied`].
    Store(Box<RecurringRecord>),
    /// Store nothing. This is the answer.
    Leave(RecurringChanged),
}

impl Edit {
    /// Stores a definition that was changed.
    fn store(mut record: RecurringRecord) -> Edit {
        record.revision += 1;
        Edit::Store(Box::new(record))
    }
}

/// The answer to a change after which this record stands.
pub fn applied(record: &RecurringRecord) -> RecurringChanged {
    RecurringChanged::Applied { next_at: record.next_at }
}

/// What an upsert makes of the record that is stored under its name, if there is one.
///
/// # Errors
/// The first bound that the definition breaks.
pub fn upsert(
    stored: Option<&RecurringRecord>,
    new: &NewRecurring,
    limits: &Limits,
    now: Timestamp,
) -> Result<Edit, InvalidJob> {
    new.validate(limits)?;
    let Some(stored) = stored else {
        let mut record = first(new, now);
        record.next_at = record.next_after(now)?;
        return Ok(Edit::Store(Box::new(record)));
    };
    if stored.definition.app != new.app {
        return Ok(Edit::Leave(RecurringChanged::Owned { app: stored.definition.app.clone() }));
    }
    if stored.definition == *new && stored.fault.is_none() {
        return Ok(Edit::Leave(RecurringChanged::Unchanged));
    }
    let moves = stored.fault.is_some() || !stored.definition.has_timing_of(new);
    let mut record = RecurringRecord { definition: new.clone(), ..stored.clone() };
    if moves {
        record.next_at = record.next_after(now)?;
        record.fault = None;
    }
    Ok(Edit::store(record))
}

/// A recurring job that is stored for the first time.
fn first(new: &NewRecurring, now: Timestamp) -> RecurringRecord {
    RecurringRecord {
        definition: new.clone(),
        revision: RecurringRecord::first_revision(now),
        created_at: now,
        next_at: None,
        paused: None,
        fault: None,
        last_planned_at: None,
        last_job: None,
    }
}

/// What a pause makes of a stored record. A pause without an end is ended by [`resume`] alone.
pub fn pause(stored: Option<&RecurringRecord>, until: Option<Timestamp>) -> Edit {
    let paused = Some(Paused { until });
    match stored {
        None => Edit::Leave(RecurringChanged::Missing),
        Some(stored) if stored.paused == paused => Edit::Leave(RecurringChanged::Unchanged),
        Some(stored) => Edit::store(RecurringRecord { paused, ..stored.clone() }),
    }
}

/// What the end of a pause, or of a fault, makes of a stored record: it goes on with the first instant after
/// now.
///
/// # Errors
/// [`InvalidJob::Schedule`] when the schedule cannot be read here.
pub fn resume(stored: Option<&RecurringRecord>, now: Timestamp) -> Result<Edit, InvalidJob> {
    let Some(stored) = stored else { return Ok(Edit::Leave(RecurringChanged::Missing)) };
    if stored.paused.is_none() && stored.fault.is_none() {
        return Ok(Edit::Leave(RecurringChanged::Unchanged));
    }
    let next_at = stored.next_after(now)?;
    let record = RecurringRecord { next_at, paused: None, fault: None, ..stored.clone() };
    Ok(Edit::store(record))
}

/// Which of the definitions that an application's code has declared go, when it declares only `keep` now.
pub fn undeclared<T>(
    declared: impl IntoIterator<Item = (T, RecurringId)>,
    keep: &[RecurringId],
) -> Vec<(T, RecurringId)> {
    let keep: HashSet<&RecurringId> = keep.iter().collect();
    declared.into_iter().filter(|(_, id)| !keep.contains(id)).collect()
}

/// The job of a run by hand. It runs whatever the runs before do.
pub fn triggered(record: &RecurringRecord, job: JobId, now: Timestamp) -> NewJob {
    job_of(&record.definition, job, now, true)
}

/// The run that is remembered of a job by hand; of the record, [`last_job`](RecurringRecord::last_job) is this
/// job then.
pub fn triggered_run(job: JobId, now: Timestamp) -> RunRecord {
    RunRecord { triggered: true, ..run(now, now, Ok(job)) }
}

/// The run of a job that is to run again, when it was forgotten.
pub fn forgotten_run(job: JobId, occurrence: &Occurrence, created_at: Timestamp) -> RunRecord {
    let Occurrence { planned_at, triggered, .. } = *occurrence;
    RunRecord { triggered, ..run(planned_at, created_at, Ok(job)) }
}

fn job_of(definition: &NewRecurring, job: JobId, planned_at: Timestamp, triggered: bool) -> NewJob {
    let mut new = definition.job(job);
    let recurring = definition.id.clone();
    new.ties.occurrence = Some(Occurrence { recurring, planned_at, triggered });
    new
}

fn run(planned_at: Timestamp, fired_at: Timestamp, made: Result<JobId, String>) -> RunRecord {
    let (job, skipped) = match made {
        Ok(job) => (Some(job), None),
        Err(reason) => (None, Some(reason)),
    };
    let (outcome, ended_at, triggered) = (None, None, false);
    RunRecord { planned_at, fired_at, job, skipped, outcome, ended_at, triggered }
}

/// A plan that is being applied to its recurring job.
///
/// Of each instant in [`planned`](Self::planned), in this order: when [its job](Self::job_at) is stored, or
/// becomes so, [`made`](Self::made) is told its id; else the reason why not. What `made` answers is remembered.
/// At the end [`record`](Self::record) is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// The recurring job as it is to be stored.
    pub record: RecurringRecord,
    /// The instants that want a run, the earliest first.
    pub planned: Vec<Timestamp>,
    /// A run that is remembered as passed over.
    pub missed: Option<RunRecord>,
    /// The jobs of the runs that were made.
    pub jobs: Vec<JobId>,
    now: Timestamp,
}

/// A run that is to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its job.
    pub job: NewJob,
    /// Runs before it that are deleted first, for the reason [`CANCELS`].
    pub cancels: Vec<JobId>,
}

/// Why a run is deleted under [`Overlap::CancelPrevious`].
pub const CANCELS: &str = "its next occurrence is due";

impl Firing {
    /// Begins to apply a plan; `None` when it is stale, because the record has another revision by now.
    pub fn of(stored: RecurringRecord, plan: Fire, now: Timestamp) -> Option<Firing> {
        if stored.revision != plan.revision {
            return None;
        }
        let mut record = stored;
        record.revision += 1;
        let (mut runs, mut missed) = (Vec::new(), None);
        match plan.action {
            FireAction::Run { planned, next_at } => {
                runs = planned;
                record.next_at = next_at;
                record.fault = None;
            }
            FireAction::PassOver { planned, next_at } => {
                let late = format!("missed by more than {} s", MISFIRE_AFTER.as_secs());
                missed = Some(run(planned, now, Err(late)));
                record.next_at = next_at;
            }
            FireAction::Resume { next_at } => {
                record.paused = None;
                record.next_at = next_at;
            }
            FireAction::Fault { reason } => {
                record.fault = Some(fault(record.fault.as_ref(), reason, now))
            }
        }
        Some(Firing { record, planned: runs, missed, jobs: Vec::new(), now })
    }

    /// The id of the job of an instant. A stored job of this id is the run, whoever made it.
    pub fn job_at(&self, planned_at: Timestamp) -> JobId {
        JobId::of_occurrence(&self.record.definition.id, planned_at)
    }

    /// Whether [`decide`](Self::decide) has to know the runs that have not ended.
    pub fn looks_back(&self) -> bool {
        looks_back(self.record.definition.overlap)
    }

    /// Decides about the run of an instant. `open` are the jobs of all remembered runs that are stored and have
    /// not ended, the oldest first; none when the rule does not [look back](Self::looks_back).
    ///
    /// # Errors
    /// The reason to pass this run over.
    pub fn decide(
        &self,
        planned_at: Timestamp,
        open: &[(JobId, StateName)],
    ) -> Result<Run, String> {
        let definition = &self.record.definition;
        let id = self.job_at(planned_at);
        let mut job = job_of(definition, id, planned_at, false);
        if !definition.jitter.is_zero() {
            job.when = When::In(jitter_of(id, definition.jitter));
        }
        let mut cancels = Vec::new();
        match definition.overlap {
            Overlap::Allow => {}
            Overlap::Skip => {
                if let Some((run, state)) = open.last() {
                    return Err(format!("the run before, job {run}, is {state}"));
                }
            }
            Overlap::QueueOne => job.ties.after = queue_behind(open)?,
            Overlap::CancelPrevious => cancels.extend(open.iter().map(|(run, _)| *run)),
        }
        Ok(Run { job, cancels })
    }

    /// Takes note that the job of an instant is there, or why it is not. Answers the run to remember.
    pub fn made(&mut self, planned_at: Timestamp, made: Result<JobId, String>) -> RunRecord {
        if let Ok(job) = made {
            self.record.last_planned_at = Some(planned_at);
            self.record.last_job = Some(job);
            self.jobs.push(job);
        }
        run(planned_at, self.now, made)
    }
}

/// What a run waits for that is to start when all these have ended; the reason when it is passed over.
fn queue_behind(open: &[(JobId, StateName)]) -> Result<Vec<Dependency>, String> {
    if let Some((run, _)) = open.iter().find(|(_, state)| *state == StateName::Awaiting) {
        return Err(format!("job {run} waits already"));
    }
    if open.len() > DEPENDENCIES_MAX {
        return Err(format!("{} runs have not ended", open.len()));
    }
    Ok(open.iter().map(|(run, _)| Dependency::on(*run).after(After::End)).collect())
}

fn looks_back(overlap: Overlap) -> bool {
    overlap != Overlap::Allow
}

/// Which run of a recurring job is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// None.
    Nothing,
    /// The oldest that has ended, or was passed over; none if there is none.
    OldestEnded,
    /// The oldest.
    Oldest,
}

/// Which run is forgotten first when so many are remembered. Asked again until nothing is.
pub fn forgets(overlap: Overlap, remembered: usize) -> Forget {
    match remembered {
        0..=RUNS_KEPT_USIZE => Forget::Nothing,
        RUNS_MOST.. => Forget::Oldest,
        _ if looks_back(overlap) => Forget::OldestEnded,
        _ => Forget::Oldest,
    }
}

const RUNS_KEPT_USIZE: usize = RUNS_KEPT as usize;
const RUNS_MOST: usize = RUNS_KEPT_USIZE + RUNS_OPEN_MAX as usize + 1;

/// Why a run is passed over whose unique key another job holds.
pub fn key_held_by(holder: JobId) -> String {
    format!("job {holder} holds its unique key")
}

fn fault(before: Option<&Fault>, reason: String, now: Timestamp) -> Fault {
    let count = before.map_or(0, |fault| fault.count).saturating_add(1);
    Fault {
        reason,
        count,
        retry_at: now.saturating_add(FAULT_RETRY),
        disabled: is_disabled_by(count),
    }
}

/// Whether so many faults in a row disable a recurring job.
pub fn is_disabled_by(faults: u32) -> bool {
    faults >= FAULTS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuation::Antecedent;
    use crate::job::{Json, KindName};
    use crate::recurring::Schedule;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn noon() -> Timestamp {
        at("2026-01-01T12:00:00Z")
    }

    fn hourly() -> NewRecurring {
        let id = RecurringId::stored("r");
        let schedule = Schedule::cron("0 * * * *");
        NewRecurring::new(id, schedule, KindName::stored("k"), Json::empty())
    }

    fn stored(new: &NewRecurring) -> RecurringRecord {
        edited(upsert(None, new, &Limits::default(), noon()).unwrap())
    }

    fn edited(edit: Edit) -> RecurringRecord {
        match edit {
            Edit::Store(record) => *record,
            Edit::Leave(answer) => panic!("{answer:?}"),
        }
    }

    fn plan_of(record: &RecurringRecord, action: FireAction) -> Fire {
        Fire { id: record.definition.id.clone(), revision: record.revision, action }
    }

    #[test]
    fn an_upsert_moves_the_next_instant_only_with_the_timing() {
        let record = stored(&hourly());
        assert_eq!(record.revision, RecurringRecord::first_revision(noon()));
        assert_eq!(record.next_at, Some(at("2026-01-01T13:00:00Z")));
        let later = at("2026-01-01T15:30:00Z");
        let again = |new: &NewRecurring| {
            upsert(Some(&record), new, &Limits::default(), later).expect("a valid definition")
        };
        assert_eq!(again(&hourly()), Edit::Leave(RecurringChanged::Unchanged));
        let other = edited(again(&NewRecurring { priority: 3, ..hourly() }));
        assert_eq!((other.next_at, other.revision), (record.next_at, record.revision + 1));
        let moved = again(&NewRecurring { schedule: Schedule::Every(HOUR), ..hourly() });
        assert_eq!(edited(moved).next_at, Some(at("2026-01-01T16:00:00Z")));
        let owned = again(&NewRecurring { app: "another".into(), ..hourly() });
        assert_eq!(owned, Edit::Leave(RecurringChanged::Owned { app: String::new() }));
    }

    #[test]
    fn a_pause_and_its_end_change_the_record_once() {
        let record = stored(&hourly());
        let paused = edited(pause(Some(&record), None));
        assert_eq!(pause(Some(&paused), None), Edit::Leave(RecurringChanged::Unchanged));
        let later = at("2026-01-01T15:30:00Z");
        let resumed = edited(resume(Some(&paused), later).unwrap());
        assert_eq!((resumed.paused, resumed.next_at), (None, Some(at("2026-01-01T16:00:00Z"))));
        let again = resume(Some(&resumed), later).unwrap();
        assert_eq!(again, Edit::Leave(RecurringChanged::Unchanged));
        let missing = Edit::Leave(RecurringChanged::Missing);
        assert_eq!((pause(None, None), resume(None, later).unwrap()), (missing.clone(), missing));
    }

    #[test]
    fn faults_in_a_row_disable_and_an_upsert_of_the_same_enables_again() {
        let mut record = stored(&hourly());
        for count in 1..=FAULTS_MAX {
            let action = FireAction::Fault { reason: "no such zone".into() };
            let plan = plan_of(&record, action);
            record = Firing::of(record, plan, noon()).unwrap().record;
            let fault = record.fault.as_ref().unwrap();
            assert_eq!((fault.count, fault.disabled), (count, count == FAULTS_MAX));
            assert_eq!(fault.retry_at, noon().saturating_add(FAULT_RETRY));
        }
        let enabled = upsert(Some(&record), &hourly(), &Limits::default(), noon()).unwrap();
        assert_eq!(edited(enabled).fault, None);
    }

    #[test]
    fn the_overlap_rule_regards_all_runs_that_have_not_ended() {
        use StateName::{Awaiting, Enqueued, Processing};
        let [one, two] = [1, 2].map(|byte| JobId::from_bytes([byte; 16]));
        let skipped = |run, state: StateName| Err(format!("the run before, job {run}, is {state}"));
        let runs = [(one, Processing), (two, Enqueued)];
        let many = vec![(one, Enqueued); DEPENDENCIES_MAX + 1];
        // What the run waits for and what it cancels, or the reason that there is none.
        let table = [
            (Overlap::Allow, &runs[..], Ok((vec![], vec![]))),
            (Overlap::Skip, &[], Ok((vec![], vec![]))),
            (Overlap::Skip, &runs[..1], skipped(one, Processing)),
            (Overlap::Skip, &runs, skipped(two, Enqueued)),
            (Overlap::QueueOne, &[], Ok((vec![], vec![]))),
            (Overlap::QueueOne, &runs, Ok((vec![one, two], vec![]))),
            (
                Overlap::QueueOne,
                &[(two, Awaiting), (one, Enqueued)],
                Err(format!("job {two} waits already")),
            ),
            (Overlap::QueueOne, &many, Err("101 runs have not ended".to_owned())),
            (Overlap::CancelPrevious, &[], Ok((vec![], vec![]))),
            (Overlap::CancelPrevious, &runs, Ok((vec![], vec![one, two]))),
        ];
        for (overlap, open, expected) in table {
            let record = stored(&NewRecurring { overlap, ..hourly() });
            let action = FireAction::Run { planned: vec![noon()], next_at: None };
            let plan = plan_of(&record, action);
            let firing = Firing::of(record, plan, noon()).unwrap();
            assert_eq!(firing.looks_back(), overlap != Overlap::Allow);
            let decided = firing.decide(noon(), open).map(|run| {
                assert!(run.job.ties.after.iter().all(|dependency| dependency.after == After::End));
                let after = run.job.ties.after.iter().map(|dependency| dependency.on);
                (after.collect::<Vec<_>>(), run.cancels)
            });
            let expected = expected.map(|(after, cancels)| {
                (after.into_iter().map(Antecedent::Job).collect::<Vec<_>>(), cancels)
            });
            assert_eq!(decided, expected, "{overlap:?} after {open:?}");
        }
    }

    #[test]
    fn of_the_remembered_runs_those_that_have_not_ended_go_last() {
        let kept = RUNS_KEPT as usize;
        let most = kept + RUNS_OPEN_MAX as usize;
        let table = [
            (Overlap::Skip, kept, Forget::Nothing),
            (Overlap::Skip, kept + 1, Forget::OldestEnded),
            (Overlap::QueueOne, most, Forget::OldestEnded),
            (Overlap::CancelPrevious, most + 1, Forget::Oldest),
            (Overlap::Allow, kept, Forget::Nothing),
            (Overlap::Allow, kept + 1, Forget::Oldest),
        ];
        for (overlap, remembered, expected) in table {
            assert_eq!(forgets(overlap, remembered), expected, "{overlap:?}, {remembered}");
        }
    }

    #[test]
    fn a_plan_is_applied_at_its_revision_only_and_remembers_each_instant() {
        let record = stored(&hourly());
        let planned = vec![noon(), noon().saturating_add(HOUR)];
        let plan = plan_of(&record, FireAction::Run { planned, next_at: None });
        let stale = Fire { revision: record.revision + 1, ..plan.clone() };
        assert_eq!(Firing::of(record.clone(), stale, noon()), None);

        let mut firing = Firing::of(record, plan, noon()).unwrap();
        let (first, second) = (firing.planned[0], firing.planned[1]);
        let job = firing.job_at(first);
        let run = firing.made(first, Ok(job));
        assert_eq!((run.job, run.skipped, run.triggered), (Some(job), None, false));
        let run = firing.made(second, Err(key_held_by(job)));
        assert_eq!((run.job, run.skipped), (None, Some(format!("job {job} holds its unique key"))));
        assert_eq!(
            (firing.record.last_job, firing.record.last_planned_at),
            (Some(job), Some(first))
        );
        assert_eq!(firing.jobs, [job]);
    }

    #[test]
    fn a_missed_occurrence_is_remembered_with_the_bound_that_it_broke() {
        let record = stored(&hourly());
        let action = FireAction::PassOver { planned: noon(), next_at: None };
        let plan = plan_of(&record, action);
        let missed = Firing::of(record, plan, noon()).unwrap().missed.unwrap();
        assert_eq!(missed.skipped.as_deref(), Some("missed by more than 30 s"));
    }
}
