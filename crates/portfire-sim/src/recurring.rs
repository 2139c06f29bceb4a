//! What is known of recurring jobs: their instants, found by counting, and the runs that were fired.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portfire_core::{
    Fire, FireAction, Fired, JobId, Misfire, RecurringId, RecurringRecord, RunRecord, Schedule,
    Timestamp,
};

use crate::invariants::{Check, Invariant, require};

/// All recurring jobs that were seen.
#[derive(Debug, Default)]
pub(crate) struct RecurringLedger {
    /// The planned instants that have a job, also one that was cleaned.
    fired: BTreeMap<RecurringId, BTreeMap<Timestamp, JobId>>,
    /// Those that are there.
    present: BTreeSet<RecurringId>,
    /// Those that were removed: their names are not used again.
    removed: BTreeSet<RecurringId>,
}

/// A plan, what it was made for, and what came of it.
pub(crate) struct Firing<'a> {
    pub(crate) plan: &'a Fire,
    pub(crate) before: Option<&'a RecurringRecord>,
    pub(crate) after: Option<&'a RecurringRecord>,
    pub(crate) runs: &'a [RunRecord],
    pub(crate) fired: &'a Fired,
    pub(crate) now: Timestamp,
    /// How late an occurrence may be when nothing goes wrong.
    pub(crate) promptly: Option<Duration>,
}

impl RecurringLedger {
    /// Notes a definition that is stored.
    pub(crate) fn stored(&mut self, id: RecurringId) {
        self.present.insert(id);
    }

    /// Notes a definition that was removed.
    pub(crate) fn removed(&mut self, id: RecurringId) {
        self.present.remove(&id);
        self.removed.insert(id);
    }

    /// Whether a name was used and is used no more.
    pub(crate) fn was_removed(&self, id: &RecurringId) -> bool {
        self.removed.contains(id)
    }

    /// The definitions that are there.
    pub(crate) fn present(&self) -> Vec<RecurringId> {
        self.present.iter().cloned().collect()
    }

    /// S13: a plan is applied at its revision alone, fires what is due by counting, and moves on to a
    /// later instant, passing over none but those it stands for; and no instant is fired twice.
    pub(crate) fn s13_fired(&mut self, firing: &Firing<'_>) -> Check {
        let Firing { plan, before, after, fired, now, .. } = *firing;
        let id = &plan.id;
        let fresh = before.is_some_and(|before| before.revision == plan.revision);
        let applied = matches!(fired, Fired::Applied { .. });
        require(Invariant::S13, fresh == applied, || {
            let stands = before.map(|before| before.revision);
            format!("{plan:?} was answered {fired:?}; `{id}` stood at revision {stands:?}")
        })?;
        let (Some(before), Some(after), true) = (before, after, applied) else { return Ok(()) };
        let FireAction::Run { planned, .. } = &plan.action else { return Ok(()) };
        let due = instants(before, before.next_at, now);
        // A plan was made a while ago: it goes up to an instant that may be past by now.
        let ahead = first_after(before, now);
        let covered = due.iter().copied().filter(|&at| after.next_at.is_none_or(|next| at < next));
        let covered: Vec<Timestamp> = covered.collect();
        let right = match before.definition.misfire {
            _ if before.paused.is_some() || before.fault.is_some() => true,
            Misfire::All => *planned == covered,
            _ => planned.len() == 1 && covered.first() == planned.first(),
        };
        require(Invariant::S13, right, || {
            format!("`{id}` fires {planned:?}; due by {now} are {due:?}")
        })?;
        let counted = instants(before, planned.last().copied(), ahead.unwrap_or(now));
        let moves_on =
            after.next_at.is_some_and(|next| counted.iter().skip(1).any(|at| *at == next));
        require(Invariant::S13, planned.is_empty() || moves_on, || {
            format!("`{id}` goes on at {:?}; its instants are {counted:?}", after.next_at)
        })?;
        if let (Some(bound), Some(first)) = (firing.promptly, planned.first()) {
            let late = now.since(*first);
            require(Invariant::L2, late <= bound, || {
                format!("`{id}` was fired {late:?} late, without a reason")
            })?;
        }
        self.s13_runs(firing, planned)
    }

    /// S13: each planned instant is remembered once, and has at most one job for ever.
    fn s13_runs(&mut self, firing: &Firing<'_>, planned: &[Timestamp]) -> Check {
        let id = &firing.plan.id;
        let all = self.fired.entry(id.clone()).or_default();
        for &at in planned {
            let of_instant = |run: &&RunRecord| run.planned_at == at && !run.triggered;
            let runs: Vec<&RunRecord> = firing.runs.iter().filter(of_instant).collect();
            let once = matches!(runs[..], [run] if run.job.is_some() != run.skipped.is_some());
            require(Invariant::S13, once, || format!("`{id}` at {at} is remembered as {runs:?}"))?;
            let Some(job) = runs[0].job else { continue };
            let told = match firing.fired {
                Fired::Applied { jobs } => jobs.contains(&job),
                Fired::Stale => false,
            };
            let first = all.insert(at, job).is_none();
            require(Invariant::S13, first && told, || {
                format!("`{id}` at {at}: job {job} is one of two, or was not told of")
            })?;
        }
        Ok(())
    }
}

/// The interval of a definition; the simulated ones have no other schedule.
fn interval(record: &RecurringRecord) -> i64 {
    match record.definition.schedule {
        Schedule::Every(interval) => (interval.as_micros() as i64).max(1),
        _ => i64::MAX,
    }
}

/// The instants from the next one until now, by counting.
fn instants(record: &RecurringRecord, from: Option<Timestamp>, now: Timestamp) -> Vec<Timestamp> {
    let (step, anchor) = (interval(record), record.created_at.as_micros());
    let Some(from) = from else { return Vec::new() };
    let counted = (1..).map(|nth| anchor + nth * step).take_while(|&at| at <= now.as_micros());
    counted.map(Timestamp::from_micros).filter(|at| *at >= from).collect()
}

/// The first instant after now, by counting.
fn first_after(record: &RecurringRecord, now: Timestamp) -> Option<Timestamp> {
    let (step, anchor) = (interval(record), record.created_at.as_micros());
    let mut ahead = (1..).map(|nth| anchor + nth * step);
    ahead.find(|&at| at > now.as_micros()).map(Timestamp::from_micros)
}
