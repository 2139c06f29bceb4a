//! Fires the recurring jobs that are due: [`Scheduler`].
//!
//! Any number of servers may: what is due is read, [`plan`] decides what to do about it, and the storage
//! applies a plan only while the recurring job stands where the plan was made from. Of several servers
//! that see the same occurrence one fires it, and the others' plans are stale, which is as it should be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::recurring::plan;
use portfire_core::{
    BoxError, DueRecurring, Fire, FireAction, Fired, Misfire, RecurringId, RecurringRecord, Wakeups,
};

use crate::core::Core;
use crate::meters::Call;
use crate::service::Service;

/// Recurring jobs in one pass: bounds how long other writers wait for it.
const FIRE_MAX: u32 = 1_000;

/// Runs in one pass besides the first of each recurring job. Those of `Misfire::All` are a thousand each
/// after a long time without a server; what is over it waits for the next pass, and those that are in time
/// do not wait for it.
const MADE_UP_MAX: usize = 1_000;

/// Most faults that are remembered, so that each is logged once.
const FAULTS_KEPT: usize = 1_000;

/// Sleeps until the next occurrence, as the storage said last; at most `poll_interval`, because another
/// process may have stored something sooner without a hint that was heard.
pub(crate) struct Scheduler {
    core: Arc<Core>,
    wakeups: Wakeups,
    /// What was wrong with which schedule, as far as it was logged.
    faults: BTreeMap<RecurringId, String>,
}

impl Scheduler {
    pub(crate) fn new(core: Arc<Core>) -> Scheduler {
        let wakeups = core.storage.wakeups();
        Scheduler { core, wakeups, faults: BTreeMap::new() }
    }

    async fn fire(&mut self, planned: Vec<(&RecurringRecord, Fire)>) -> Result<(), BoxError> {
        let plans = planned.iter().map(|(_, plan)| plan.clone()).collect();
        let fired = self.core.ask(Call::Fire, self.core.storage.fire(plans)).await?;
        let mut jobs = 0;
        for ((record, plan), fired) in planned.iter().zip(&fired) {
            let Fired::Applied { jobs: created } = fired else { continue };
            jobs += created.len();
            match &plan.action {
                FireAction::Fault { reason } => self.fault(record, reason),
                _ => _ = self.faults.remove(&plan.id),
            }
        }
        self.core.meters.fired(jobs);
        if jobs > 0 {
            tracing::debug!(jobs, "recurring jobs were fired");
        }
        Ok(())
    }

    /// Says what is wrong with a schedule, once.
    fn fault(&mut self, record: &RecurringRecord, reason: &str) {
        let id = &record.definition.id;
        if self.faults.get(id).is_some_and(|known| known == reason) {
            return;
        }
        let faults = record.fault.as_ref().map_or(0, |fault| fault.count) + 1;
        tracing::error!(recurring = %id, reason, faults, "a recurring job cannot be scheduled here; it is tried again, and disabled after a few faults in a row");
        if self.faults.len() >= FAULTS_KEPT {
            self.faults.pop_first();
        }
        self.faults.insert(id.clone(), reason.to_owned());
    }
}

/// What to do in one pass about what is due.
fn plans(due: &DueRecurring) -> Vec<(&RecurringRecord, Fire)> {
    let mut made_up = 0;
    let mut planned = Vec::with_capacity(due.due.len());
    for record in &due.due {
        if record.definition.misfire == Misfire::All && made_up >= MADE_UP_MAX {
            continue;
        }
        let plan = plan(record, due.now);
        if let FireAction::Run { planned, .. } = &plan.action {
            made_up += planned.len().saturating_sub(1);
        }
        planned.push((record, plan));
    }
    planned
}

impl Service for Scheduler {
    fn name(&self) -> &str {
        "scheduling recurring jobs"
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        let due = self.core.storage.due_recurring(FIRE_MAX);
        let due = self.core.ask(Call::DueRecurring, due).await?;
        if !due.due.is_empty() {
            let planned = plans(&due);
            let all = planned.len() == due.due.len();
            self.fire(planned).await?;
            if !all {
                return Ok(Duration::ZERO);
            }
        }
        let poll_interval = self.core.options.poll_interval;
        Ok(due.next_in.unwrap_or(poll_interval).min(poll_interval))
    }

    async fn hint(&mut self) {
        self.wakeups.work().await;
    }

    fn gap(&self) -> Duration {
        // Most hints are of jobs, and what is due soon is known without one.
        Duration::from_millis(250)
    }
}
