//! Recurring jobs: their changes, and the plans of those who fire them.

use portfire_core::{
    DueRecurring, Fire, FireAction, Fired, NewRecurring, Occurrence, RecurringChange,
    RecurringChanged, RecurringId, RecurringRecord,
};

use super::*;
use crate::recurring::Firing;

/// How late an occurrence may be fired when nothing goes wrong: a server may be starting.
const FIRED_PROMPTLY: Duration = Duration::from_secs(3);

impl Truth {
    pub(crate) fn due_recurring(&self, max: u32) -> Result<DueRecurring, StorageError> {
        now(self.memory.due_recurring(max))
    }

    pub(crate) fn change_recurring(
        &self,
        change: RecurringChange,
    ) -> Result<RecurringChanged, StorageError> {
        if let RecurringChange::Trigger { id, job } = &change
            && let Some(record) = self.recurring(id)
        {
            let planned_at = self.now();
            self.expect_run(&record.definition, *job, planned_at, true);
        }
        if let RecurringChange::Trigger { job, .. } = &change
            && self.ledger().cleaned.contains(job)
        {
            return Ok(RecurringChanged::Triggered(*job));
        }
        let answer = now(self.memory.change_recurring(change.clone()))?;
        self.look_after(Deed::Recurring, None, |ledger, _| {
            match (change, &answer) {
                (RecurringChange::Upsert(new), RecurringChanged::Applied { .. }) => {
                    ledger.recurring.stored(new.id);
                }
                (RecurringChange::Remove(id), _) => ledger.recurring.removed(id),
                _ => {}
            }
            Ok(())
        });
        Ok(answer)
    }

    pub(crate) fn fire(&self, mut plans: Vec<Fire>) -> Result<Vec<Fired>, StorageError> {
        let before: Vec<Option<RecurringRecord>> =
            plans.iter().map(|plan| self.recurring(&plan.id)).collect();
        for (plan, before) in plans.iter().zip(&before) {
            let FireAction::Run { planned, .. } = &plan.action else { continue };
            for &at in planned {
                let Some(record) = before else { continue };
                let job = JobId::of_occurrence(&plan.id, at);
                self.expect_run(&record.definition, job, at, false);
            }
        }
        let sent = plans.clone();
        if self.is(Mutant::FireWithoutCompare) {
            for (plan, before) in plans.iter_mut().zip(&before) {
                plan.revision = before.as_ref().map_or(plan.revision, |before| before.revision);
            }
        }
        let answer = now(self.memory.fire(plans))?;
        self.look_after(Deed::Fire, None, |ledger, look| {
            for ((plan, before), fired) in sent.iter().zip(&before).zip(&answer) {
                if *fired == Fired::Stale {
                    self.marks.hit(Mark::StalePlan);
                }
                let after = self.recurring(&plan.id);
                let runs = now(self.memory.runs(plan.id.clone(), u32::MAX)).unwrap_or_default();
                if runs.first().is_some_and(|run| run.skipped.is_some()) {
                    self.marks.hit(Mark::OccurrenceSkipped);
                }
                if matches!(&plan.action, FireAction::Run { planned, .. } if planned.len() > 1) {
                    self.marks.hit(Mark::OccurrencesMadeUp);
                }
                ledger.recurring.s13_fired(&Firing {
                    plan,
                    before: before.as_ref(),
                    after: after.as_ref(),
                    runs: &runs,
                    fired,
                    now: look.now,
                    promptly: look.promptly.map(|_| FIRED_PROMPTLY),
                })?;
            }
            Ok(())
        });
        Ok(answer)
    }

    /// The recurring job as it is stored.
    pub(crate) fn recurring(&self, id: &RecurringId) -> Option<RecurringRecord> {
        now(self.memory.recurring(id.clone())).ok().flatten()
    }

    /// Notes a job that its definition asks for.
    fn expect_run(&self, definition: &NewRecurring, job: JobId, planned: Timestamp, by_hand: bool) {
        let mut new = definition.job(job);
        let recurring = definition.id.clone();
        let occurrence = Occurrence { recurring, planned_at: planned, triggered: by_hand };
        new.ties.occurrence = Some(occurrence);
        self.ledger().ask_tied(&[], &[new]);
    }
}
