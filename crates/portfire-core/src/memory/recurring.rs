//! The recurring jobs with their runs. When they fire is decided outside; here each plan is applied once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Data;
use super::entries::Facts;
use crate::clock::Timestamp;
use crate::engine::pages;
use crate::engine::recurring::{
    CANCELS, Edit, Firing, Forget, applied, forgets, forgotten_run, key_held_by, pause, resume,
    triggered, triggered_run, undeclared, upsert,
};
use crate::error::StorageError;
use crate::job::{JobId, Limits};
use crate::monitor::Cursor;
use crate::recurring::{
    DueRecurring, Fire, Fired, RecurringChange, RecurringChanged, RecurringFilter, RecurringId,
    RecurringPage, RecurringRecord, RunRecord,
};
use crate::state::{JobRecord, StateName};
use crate::transition::Event;

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

    /// All runs that are remembered.
    pub(super) fn all_runs(&self, id: &RecurringId) -> VecDeque<RunRecord> {
        self.stored.get(id).map(|entry| entry.runs.clone()).unwrap_or_default()
    }

    /// Puts the runs back as they were.
    pub(super) fn restore_runs(&mut self, id: &RecurringId, runs: VecDeque<RunRecord>) {
        if let Some(entry) = self.stored.get_mut(id) {
            entry.runs = runs;
        }
    }

    fn remember(&mut self, id: &RecurringId, run: RunRecord) {
        let Some(entry) = self.stored.get_mut(id) else { return };
        entry.runs.push_front(run);
        loop {
            let oldest = entry.runs.len() - 1;
            let forgotten = match forgets(entry.record.definition.overlap, entry.runs.len()) {
                Forget::Nothing => None,
                Forget::Oldest => Some(oldest),
                Forget::OldestEnded => entry.runs.iter().rposition(|run| !is_open(run)),
            };
            let Some(forgotten) = forgotten else { return };
            entry.runs.remove(forgotten);
        }
    }

    /// The jobs of the runs that are remembered and have not ended, the oldest first.
    fn open(&self, id: &RecurringId) -> Vec<JobId> {
        let runs = self.stored.get(id).into_iter().flat_map(|entry| entry.runs.iter().rev());
        runs.filter(|run| is_open(run)).filter_map(|run| run.job).collect()
    }

    /// Takes note that the job of a run, which had ended, is to run again.
    pub(super) fn reopened(&mut self, record: &JobRecord) {
        let Some(occurrence) = &record.ties.occurrence else { return };
        let Some(entry) = self.stored.get_mut(&occurrence.recurring) else { return };
        if let Some(run) = entry.runs.iter_mut().rev().find(|run| run.job == Some(record.id)) {
            (run.outcome, run.ended_at) = (None, None);
            return;
        }
        let run = forgotten_run(record.id, occurrence, record.created_at);
        let newer =
            |other: &RunRecord| (other.fired_at, other.planned_at) > (run.fired_at, run.planned_at);
        let place = entry.runs.partition_point(newer);
        entry.runs.insert(place, run);
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
                Excluded(id.map_err(|_| pages::refuse(after))?)
            }
            None => Unbounded,
        };
        let size = pages::size(filter.max);
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
            RecurringChange::Upsert(new) => {
                let stored = self.recurring.get(&new.id);
                let edit = upsert(stored, &new, limits, self.now)?;
                self.edit(edit)
            }
            RecurringChange::Remove(id) => match self.recurring.remove(&id) {
                true => RecurringChanged::Applied { next_at: None },
                false => RecurringChanged::Missing,
            },
            RecurringChange::Trigger { id, job } => self.trigger(&id, job),
            RecurringChange::Pause { id, until } => {
                let edit = pause(self.recurring.get(&id), until);
                self.edit(edit)
            }
            RecurringChange::Resume(id) => {
                let edit = resume(self.recurring.get(&id), self.now)?;
                self.edit(edit)
            }
            RecurringChange::Prune { app, keep } => self.prune(&app, &keep),
        };
        // Whoever schedules may have to look earlier than was known.
        self.jobs.hints.work |= matches!(changed, RecurringChanged::Applied { .. });
        self.settle();
        Ok(changed)
    }

    /// Does what was decided about a stored definition.
    fn edit(&mut self, edit: Edit) -> RecurringChanged {
        match edit {
            Edit::Leave(answer) => answer,
            Edit::Store(record) => {
                let answer = applied(&record);
                self.recurring.put(*record);
                answer
            }
        }
    }

    fn prune(&mut self, app: &str, keep: &[RecurringId]) -> RecurringChanged {
        let stored = self.recurring.stored.values().map(|entry| &entry.record.definition);
        let declared = stored.filter(|definition| definition.declared && definition.app == app);
        let undeclared = undeclared(declared.map(|definition| ((), definition.id.clone())), keep);
        for (_, id) in &undeclared {
            self.recurring.remove(id);
        }
        RecurringChanged::Pruned(undeclared.len() as u32)
    }

    fn trigger(&mut self, id: &RecurringId, job: JobId) -> RecurringChanged {
        let Some(record) = self.recurring.get(id) else { return RecurringChanged::Missing };
        if self.jobs.find(job).is_some() {
            return RecurringChanged::Triggered(job);
        }
        let new = triggered(record, job, self.now);
        let record = RecurringRecord { last_job: Some(job), ..record.clone() };
        let created = self.store_sound(&new);
        if created.id == job {
            self.recurring.put(record);
            self.recurring.remember(id, triggered_run(job, self.now));
        }
        RecurringChanged::Triggered(created.id)
    }

    pub(super) fn fire(&mut self, plans: Vec<Fire>) -> Vec<Fired> {
        let fired = plans.into_iter().map(|plan| self.fire_one(plan)).collect();
        self.settle();
        fired
    }

    fn fire_one(&mut self, plan: Fire) -> Fired {
        let id = plan.id.clone();
        let stored = self.recurring.get(&id).cloned();
        let Some(mut firing) = stored.and_then(|stored| Firing::of(stored, plan, self.now)) else {
            return Fired::Stale;
        };
        if let Some(missed) = firing.missed.take() {
            self.recurring.remember(&id, missed);
        }
        for planned_at in std::mem::take(&mut firing.planned) {
            let made = self.run_planned(&firing, planned_at);
            let run = firing.made(planned_at, made);
            self.recurring.remember(&id, run);
        }
        self.recurring.put(firing.record);
        Fired::Applied { jobs: firing.jobs }
    }

    /// The runs that the overlap rule regards.
    fn open_runs(&self, firing: &Firing) -> Vec<(JobId, StateName)> {
        if !firing.looks_back() {
            return Vec::new();
        }
        let runs = self.recurring.open(&firing.record.definition.id).into_iter();
        let states = runs.filter_map(|job| {
            let number = self.jobs.find(job)?;
            Some((job, self.jobs[number].standing().state))
        });
        states.filter(|(_, state)| !state.is_final()).collect()
    }

    /// Creates the run of an instant, or says why it is passed over.
    fn run_planned(&mut self, firing: &Firing, planned_at: Timestamp) -> Result<JobId, String> {
        let id = firing.job_at(planned_at);
        if self.jobs.find(id).is_some() {
            return Ok(id);
        }
        let run = firing.decide(planned_at, &self.open_runs(firing))?;
        for cancelled in run.cancels {
            if let Some(number) = self.jobs.find(cancelled) {
                self.must(number, Event::Delete, Facts::reason(CANCELS));
            }
        }
        let created = self.store_sound(&run.job);
        if created.id == id { Ok(id) } else { Err(key_held_by(created.id)) }
    }
}

fn is_open(run: &RunRecord) -> bool {
    run.job.is_some() && run.outcome.is_none()
}
