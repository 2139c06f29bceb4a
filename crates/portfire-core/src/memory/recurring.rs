//! The recurring jobs with their runs. When they fire is decided outside; here each plan is applied once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Data;
use super::entries::Facts;
use crate::clock::Timestamp;
use crate::continuation::{After, Dependency};
use crate::error::StorageError;
use crate::job::{JobId, Limits, NewJob, When};
use crate::monitor::{Cursor, PAGE_MAX};
use crate::recurring::{
    DueRecurring, FAULTS_MAX, Fault, Fire, FireAction, Fired, NewRecurring, Overlap, Paused,
    RUNS_KEPT, RecurringChange, RecurringChanged, RecurringFilter, RecurringId, RecurringPage,
    RecurringRecord, RunRecord, jitter_of,
};
use crate::state::StateName;
use crate::ties::Occurrence;
use crate::transition::Event;

/// How long after a fault the schedule is read again.
const FAULT_RETRY: Duration = Duration::from_secs(60);

/// One recurring job.
struct Entry {
    record: RecurringRecord,
    /// The newest first.
    runs: VecDeque<RunRecord>,
}

/// All recurring jobs.
#[derive(Default)]
pub(super) struct Recurring {
    stored: BTreeMap<RecurringId, Entry>,
    due: BTreeSet<(Timestamp, RecurringId)>,
}

impl Recurring {
    pub(super) fn get(&self, id: &RecurringId) -> Option<&RecurringRecord> {
        self.stored.get(id).map(|entry| &entry.record)
    }

    /// Stores a record, new or in the place of another.
    fn put(&mut self, record: RecurringRecord) {
        let id = record.definition.id.clone();
        if let Some(due_at) = self.get(&id).and_then(RecurringRecord::due_at) {
            self.due.remove(&(due_at, id.clone()));
        }
        if let Some(due_at) = record.due_at() {
            self.due.insert((due_at, id.clone()));
        }
        match self.stored.get_mut(&id) {
            Some(entry) => entry.record = record,
            None => {
                self.stored.insert(id, Entry { record, runs: VecDeque::new() });
            }
        }
    }

    fn remove(&mut self, id: &RecurringId) -> bool {
        let Some(entry) = self.stored.remove(id) else { return false };
        if let Some(due_at) = entry.record.due_at() {
            self.due.remove(&(due_at, id.clone()));
        }
        true
    }

    fn remember(&mut self, id: &RecurringId, run: RunRecord) {
        if let Some(entry) = self.stored.get_mut(id) {
            entry.runs.push_front(run);
            entry.runs.truncate(RUNS_KEPT as usize);
        }
    }

    /// Takes note of the end of a run's job.
    pub(super) fn ended(&mut self, id: &RecurringId, job: JobId, end: StateName, now: Timestamp) {
        let Some(entry) = self.stored.get_mut(id) else { return };
        // A plan may name an instant again; the run is the first of that.
        if let Some(run) = entry.runs.iter_mut().rev().find(|run| run.job == Some(job)) {
            run.outcome = Some(end);
            run.ended_at = Some(now);
        }
    }

    /// The last runs, the newest first.
    pub(super) fn runs(&self, id: &RecurringId, max: u32) -> Vec<RunRecord> {
        let runs = self.stored.get(id).into_iter().flat_map(|entry| &entry.runs);
        runs.take(max as usize).cloned().collect()
    }

    /// What is due, the earliest first.
    pub(super) fn due(&self, max: usize, now: Timestamp) -> DueRecurring {
        let mut due = Vec::new();
        let mut next_in = None;
        for (due_at, id) in &self.due {
            if *due_at > now || due.len() == max {
                next_in = Some(due_at.since(now));
                break;
            }
            due.extend(self.get(id).cloned());
        }
        DueRecurring { now, due, next_in }
    }

    /// A page, by id.
    pub(super) fn page(&self, filter: &RecurringFilter) -> Result<RecurringPage, StorageError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = match &filter.after {
            Some(after) => {
                let id = RecurringId::new(after.0.as_str());
                Excluded(id.map_err(|_| super::pages::refuse(after))?)
            }
            None => Unbounded,
        };
        let size = if filter.max == 0 { 50 } else { filter.max.min(PAGE_MAX) as usize };
        let records = self.stored.range((from, Unbounded)).map(|(_, entry)| &entry.record);
        let mut records = records
            .filter(|record| filter.app.as_ref().is_none_or(|app| *app == record.definition.app));
        let recurring: Vec<_> = records.by_ref().take(size).cloned().collect();
        let last = recurring.last().map(|record| Cursor(record.definition.id.to_string()));
        let next = records.next().and(last);
        Ok(RecurringPage { recurring, next })
    }
}

impl Data {
    pub(super) fn change_recurring(
        &mut self,
        change: RecurringChange,
        limits: &Limits,
    ) -> Result<RecurringChanged, StorageError> {
        let changed = match change {
            RecurringChange::Upsert(definition) => self.upsert(*definition, limits)?,
            RecurringChange::Remove(id) => match self.recurring.remove(&id) {
                true => RecurringChanged::Applied { next_at: None },
                false => RecurringChanged::Missing,
            },
            RecurringChange::Trigger { id, job } => self.trigger(&id, job),
            RecurringChange::Pause { id, until } => self.pause(&id, until),
            RecurringChange::Resume(id) => self.resume(&id)?,
            RecurringChange::Prune { app, keep } => self.prune(&app, keep),
        };
        // Whoever schedules may have to look earlier than was known.
        self.jobs.hints.work |= matches!(changed, RecurringChanged::Applied { .. });
        self.settle();
        Ok(changed)
    }

    fn upsert(
        &mut self,
        definition: NewRecurring,
        limits: &Limits,
    ) -> Result<RecurringChanged, StorageError> {
        definition.validate(limits)?;
        let is_new = self.recurring.get(&definition.id).is_none();
        let mut record = match self.recurring.get(&definition.id) {
            Some(stored) => stored.clone(),
            None => RecurringRecord {
                definition: definition.clone(),
                // Raised by one when it is stored.
                revision: RecurringRecord::first_revision(self.now) - 1,
                created_at: self.now,
                next_at: None,
                paused: None,
                fault: None,
                last_planned_at: None,
                last_job: None,
            },
        };
        if record.definition.app != definition.app {
            return Ok(RecurringChanged::Owned { app: record.definition.app });
        }
        if !is_new && record.definition == definition && record.fault.is_none() {
            return Ok(RecurringChanged::Unchanged);
        }
        let moves =
            is_new || record.fault.is_some() || !record.definition.has_timing_of(&definition);
        record.definition = definition;
        if moves {
            record.next_at = record.next_after(self.now)?;
            record.fault = None;
        }
        Ok(self.store_changed(record))
    }

    /// Stores a definition that was changed.
    fn store_changed(&mut self, mut record: RecurringRecord) -> RecurringChanged {
        record.revision += 1;
        let next_at = record.next_at;
        self.recurring.put(record);
        RecurringChanged::Applied { next_at }
    }

    fn pause(&mut self, id: &RecurringId, until: Option<Timestamp>) -> RecurringChanged {
        let Some(record) = self.recurring.get(id) else { return RecurringChanged::Missing };
        let paused = Some(Paused { until });
        if record.paused == paused {
            return RecurringChanged::Unchanged;
        }
        let record = RecurringRecord { paused, ..record.clone() };
        self.store_changed(record)
    }

    fn resume(&mut self, id: &RecurringId) -> Result<RecurringChanged, StorageError> {
        let Some(record) = self.recurring.get(id) else { return Ok(RecurringChanged::Missing) };
        if record.paused.is_none() && record.fault.is_none() {
            return Ok(RecurringChanged::Unchanged);
        }
        let next_at = record.next_after(self.now)?;
        let record = RecurringRecord { next_at, paused: None, fault: None, ..record.clone() };
        Ok(self.store_changed(record))
    }

    fn prune(&mut self, app: &str, keep: Vec<RecurringId>) -> RecurringChanged {
        let keep: BTreeSet<RecurringId> = keep.into_iter().collect();
        let stored = self.recurring.stored.values().map(|entry| &entry.record.definition);
        let undeclared = stored.filter(|definition| {
            definition.declared && definition.app == app && !keep.contains(&definition.id)
        });
        let undeclared: Vec<_> = undeclared.map(|definition| definition.id.clone()).collect();
        undeclared.iter().for_each(|id| {
            self.recurring.remove(id);
        });
        RecurringChanged::Pruned(undeclared.len() as u32)
    }

    fn trigger(&mut self, id: &RecurringId, job: JobId) -> RecurringChanged {
        let Some(record) = self.recurring.get(id) else { return RecurringChanged::Missing };
        if self.jobs.find(job).is_some() {
            return RecurringChanged::Triggered(job);
        }
        let new = run(&record.definition, job, self.now, true);
        let record = RecurringRecord { last_job: Some(job), ..record.clone() };
        let created = self.store(new);
        if created.id == job {
            self.recurring.put(record);
            self.remember(id, self.now, true, Ok(job));
        }
        RecurringChanged::Triggered(created.id)
    }

    pub(super) fn fire(&mut self, plans: Vec<Fire>) -> Vec<Fired> {
        let fired = plans.into_iter().map(|plan| self.fire_one(plan)).collect();
        self.settle();
        fired
    }

    fn fire_one(&mut self, plan: Fire) -> Fired {
        let stored = self.recurring.get(&plan.id);
        let Some(stored) = stored.filter(|stored| stored.revision == plan.revision) else {
            return Fired::Stale;
        };
        let mut record = stored.clone();
        let mut jobs = Vec::new();
        match plan.action {
            FireAction::Run { planned, next_at } => {
                for planned_at in planned {
                    let made = self.run_planned(&record, planned_at);
                    if let Ok(job) = made {
                        record.last_planned_at = Some(planned_at);
                        record.last_job = Some(job);
                        jobs.push(job);
                    }
                    self.remember(&plan.id, planned_at, false, made);
                }
                record.next_at = next_at;
                record.fault = None;
            }
            FireAction::PassOver { planned, next_at } => {
                let missed = "missed by more than 30 s".to_owned();
                self.remember(&plan.id, planned, false, Err(missed));
                record.next_at = next_at;
            }
            FireAction::Resume { next_at } => {
                record.paused = None;
                record.next_at = next_at;
            }
            FireAction::Fault { reason } => {
                let count = record.fault.map_or(0, |fault| fault.count).saturating_add(1);
                let retry_at = self.now.saturating_add(FAULT_RETRY);
                let disabled = count >= FAULTS_MAX;
                record.fault = Some(Fault { reason, count, retry_at, disabled });
            }
        }
        record.revision += 1;
        self.recurring.put(record);
        Fired::Applied { jobs }
    }

    /// Creates the run of an instant, or says why it is passed over.
    fn run_planned(
        &mut self,
        record: &RecurringRecord,
        planned_at: Timestamp,
    ) -> Result<JobId, String> {
        let definition = &record.definition;
        let id = JobId::of_occurrence(&definition.id, planned_at);
        if self.jobs.find(id).is_some() {
            return Ok(id);
        }
        let mut new = run(definition, id, planned_at, false);
        if !definition.jitter.is_zero() {
            new.when = When::In(jitter_of(id, definition.jitter));
        }
        if let Some(last) = record.last_job {
            self.overlap(definition.overlap, last, &mut new)?;
        }
        let created = self.store(new);
        if created.id == id {
            Ok(id)
        } else {
            Err(format!("job {} holds its unique key", created.id))
        }
    }

    /// Does what is asked for when the run before has not ended.
    fn overlap(&mut self, overlap: Overlap, last: JobId, new: &mut NewJob) -> Result<(), String> {
        let Some(number) = self.jobs.find(last) else { return Ok(()) };
        let state = self.jobs[number].standing().state;
        if state.is_final() {
            return Ok(());
        }
        match overlap {
            Overlap::Allow => {}
            Overlap::Skip => return Err(format!("the run before, job {last}, is {state}")),
            Overlap::QueueOne if state == StateName::Awaiting => {
                return Err(format!("job {last} waits already"));
            }
            Overlap::QueueOne => new.ties.after = vec![Dependency::on(last).after(After::End)],
            Overlap::CancelPrevious => {
                self.must(number, Event::Delete, Facts::reason("its next occurrence is due"));
            }
        }
        Ok(())
    }

    fn remember(
        &mut self,
        id: &RecurringId,
        planned_at: Timestamp,
        triggered: bool,
        made: Result<JobId, String>,
    ) {
        let (job, skipped) = match made {
            Ok(job) => (Some(job), None),
            Err(reason) => (None, Some(reason)),
        };
        let run = RunRecord {
            planned_at,
            fired_at: self.now,
            job,
            skipped,
            outcome: None,
            ended_at: None,
            triggered,
        };
        self.recurring.remember(id, run);
    }
}

/// The job of a run.
fn run(definition: &NewRecurring, job: JobId, planned_at: Timestamp, triggered: bool) -> NewJob {
    let mut new = definition.job(job);
    let recurring = definition.id.clone();
    new.ties.occurrence = Some(Occurrence { recurring, planned_at, triggered });
    new
}
