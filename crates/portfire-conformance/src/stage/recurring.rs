//! Short words for recurring jobs: definitions, instants, and a scheduler that fires what is due.

use std::time::Duration;

use portfire_core::recurring::plan;
use portfire_core::{
    DueRecurring, Fire, Fired, JobId, Json, NewRecurring, RecurringChange, RecurringChanged,
    RecurringFilter, RecurringId, RecurringRecord, RunRecord, Schedule, Timestamp,
};

use super::{Stage, kind};

/// The name of a recurring job that is known to be legal.
pub fn name(text: &str) -> RecurringId {
    RecurringId::new(text).expect("a legal name of a recurring job")
}

/// A cron text in a zone.
pub fn cron(text: &str, zone: &str) -> Schedule {
    Schedule::Cron { text: text.to_owned(), zone: zone.to_owned() }
}

/// Always after so many seconds.
pub const fn every(seconds: u64) -> Schedule {
    Schedule::Every(Duration::from_secs(seconds))
}

/// A recurring job of kind `tick` with default rules.
pub fn recurring(id: &str, schedule: Schedule) -> NewRecurring {
    NewRecurring::new(name(id), schedule, kind("tick"), Json::empty())
}

/// The instant of an RFC 3339 text.
pub fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

/// Definitions.
impl Stage {
    /// Changes recurring jobs.
    pub async fn recur(&self, change: RecurringChange) -> RecurringChanged {
        self.storage().change_recurring(change).await.expect("the change is answered")
    }

    /// Stores a definition.
    pub async fn upsert(&self, definition: &NewRecurring) -> RecurringChanged {
        self.recur(RecurringChange::Upsert(Box::new(definition.clone()))).await
    }

    /// Stores a definition that is new or changed; its next instant.
    pub async fn define(&self, definition: &NewRecurring) -> Option<Timestamp> {
        match self.upsert(definition).await {
            RecurringChanged::Applied { next_at } => next_at,
            other => panic!("{} was to be stored: {other:?}", definition.id),
        }
    }

    /// Creates a run now, under a fresh id.
    pub async fn trigger(&self, id: &str) -> RecurringChanged {
        let job = self.id();
        self.recur(RecurringChange::Trigger { id: name(id), job }).await
    }

    /// Stops a schedule, until an instant if one is given.
    pub async fn pause_recurring(&self, id: &str, until: Option<Timestamp>) -> RecurringChanged {
        self.recur(RecurringChange::Pause { id: name(id), until }).await
    }

    /// Lets a schedule go on.
    pub async fn resume_recurring(&self, id: &str) -> RecurringChanged {
        self.recur(RecurringChange::Resume(name(id))).await
    }

    /// Everything about a recurring job, if it is stored.
    pub async fn find_recurring(&self, id: &str) -> Option<RecurringRecord> {
        self.storage().recurring(name(id)).await.expect("the recurring job is read")
    }

    /// Everything about a recurring job.
    pub async fn recurring(&self, id: &str) -> RecurringRecord {
        let found = self.find_recurring(id).await;
        found.unwrap_or_else(|| panic!("recurring job {id} is not stored"))
    }

    /// Its runs, the newest first.
    pub async fn runs(&self, id: &str) -> Vec<RunRecord> {
        self.storage().runs(name(id), u32::MAX).await.expect("the runs are read")
    }

    /// Every recurring job that the filter lets through, page by page.
    pub async fn recurring_jobs(&self, filter: RecurringFilter) -> Vec<RecurringRecord> {
        let mut filter = filter;
        let mut found = Vec::new();
        for _ in 0..10_000 {
            let page = self.storage().recurring_jobs(filter.clone()).await;
            let page = page.expect("the page is read");
            found.extend(page.recurring);
            let Some(next) = page.next else { return found };
            filter.after = Some(next);
        }
        panic!("the pages have no end");
    }
}

/// Schedulers.
impl Stage {
    /// What is due.
    pub async fn due(&self) -> DueRecurring {
        self.storage().due_recurring(1_000).await.expect("what is due is told")
    }

    /// What a scheduler would do now.
    pub async fn plans(&self) -> Vec<Fire> {
        let due = self.due().await;
        due.due.iter().map(|record| plan(record, due.now)).collect()
    }

    /// Does it.
    pub async fn fire(&self, plans: Vec<Fire>) -> Vec<Fired> {
        let asked = plans.len();
        let fired = self.storage().fire(plans).await.expect("the plans are answered");
        assert_eq!(fired.len(), asked, "one answer for each plan");
        fired
    }

    /// Fires everything that is due, as one scheduler does in one pass; the jobs that it created.
    pub async fn tick(&self) -> Vec<JobId> {
        let plans = self.plans().await;
        let mut created = Vec::new();
        for fired in self.fire(plans).await {
            match fired {
                Fired::Applied { jobs } => created.extend(jobs),
                Fired::Stale => {}
            }
        }
        created
    }

    /// Moves storage time to an instant that lies ahead.
    pub async fn advance_to(&self, to: Timestamp) {
        let now = self.now().await;
        assert!(now <= to, "{to} has passed: it is {now}");
        self.advance(to.since(now)).await;
    }

    /// Lets time pass from one due instant to the next, up to and including `until`, and fires at each;
    /// the planned instants of the runs of `id` that came about, the earliest first.
    pub async fn tick_until(&self, id: &str, until: Timestamp) -> Vec<Timestamp> {
        let from = self.now().await;
        while let Some(next_at) = self.recurring(id).await.due_at() {
            if next_at > until {
                break;
            }
            if next_at > self.now().await {
                self.advance_to(next_at).await;
            }
            self.tick().await;
        }
        let now = self.now().await;
        if now < until {
            self.advance_to(until).await;
        }
        let runs = self.runs(id).await.into_iter().rev();
        let fired = runs.filter(|run| run.job.is_some() && run.fired_at >= from);
        fired.map(|run| run.planned_at).collect()
    }
}
