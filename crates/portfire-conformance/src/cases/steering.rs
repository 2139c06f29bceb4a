//! Recurring jobs that are steered: triggered, paused, resumed, and disabled by faults.

use portfire_core::recurring::{FAULTS_MAX, Paused};
use portfire_core::{Fire, FireAction, Fired, JobId, RecurringChange, RecurringChanged, StateName};

use crate::stage::{DAY, Stage, every, name, recurring, secs};

use RecurringChanged::{Applied, Missing, Unchanged};

/// A run that someone asks for is created now, and the schedule does not move.
pub async fn recurring_trigger_now_keeps_next(s: Stage) {
    s.define(&recurring("r", every(60))).await;
    s.advance(secs(10)).await;
    let (now, before) = (s.now().await, s.recurring("r").await);
    let RecurringChanged::Triggered(job) = s.trigger("r").await else { panic!("triggered") };
    let after = s.recurring("r").await;
    assert_eq!((after.next_at, after.revision), (before.next_at, before.revision));
    assert_eq!(after.last_job, Some(job));
    let record = s.record(job).await;
    let occurrence = record.ties.occurrence.expect("a run");
    assert_eq!((occurrence.recurring, occurrence.triggered), (name("r"), true));
    assert!(occurrence.planned_at >= now);
    let runs = s.runs("r").await;
    assert_eq!((runs.len(), runs[0].job, runs[0].triggered), (1, Some(job), true));
    assert_eq!(runs[0].planned_at, occurrence.planned_at);
    assert_eq!(s.trigger("nobody").await, Missing);
}

/// Two triggers are two runs; a repeat of one, under its job id, is one.
pub async fn recurring_trigger_now_twice_two_jobs(s: Stage) {
    s.define(&recurring("r", every(60))).await;
    let RecurringChanged::Triggered(first) = s.trigger("r").await else { panic!("triggered") };
    let RecurringChanged::Triggered(second) = s.trigger("r").await else { panic!("triggered") };
    assert_ne!(first, second);
    let again = RecurringChange::Trigger { id: name("r"), job: second };
    assert_eq!(s.recur(again).await, RecurringChanged::Triggered(second));
    assert_eq!(s.runs("r").await.len(), 2);
    s.expect_count(StateName::Enqueued, 2).await;
}

/// A disabled or paused recurring job can be triggered all the same.
pub async fn recurring_trigger_of_a_paused_one(s: Stage) {
    s.define(&recurring("r", every(60))).await;
    s.pause_recurring("r", None).await;
    assert!(matches!(s.trigger("r").await, RecurringChanged::Triggered(_)));
    assert_eq!(s.recurring("r").await.paused, Some(Paused { until: None }));
    s.expect_count(StateName::Enqueued, 1).await;
}

/// A recurring job that faults have disabled is never due.
pub async fn recurring_disabled_not_fired(s: Stage) {
    s.define(&recurring("r", every(60))).await;
    disable(&s, "r").await;
    for _ in 0..3 {
        s.advance(DAY).await;
        let due = s.due().await;
        assert_eq!((due.due.len(), due.next_in), (0, None));
    }
    assert_eq!(s.counts().await.created_total, 0);
}

/// Reports faults until the recurring job is disabled, each when it is due again.
async fn disable(s: &Stage, id: &str) {
    for count in 1..=FAULTS_MAX {
        let revision = s.recurring(id).await.revision;
        let action = FireAction::Fault { reason: format!("no zone {count}") };
        let fired = s.fire(vec![Fire { id: name(id), revision, action }]).await;
        assert_eq!(fired, [Fired::Applied { jobs: vec![] }]);
        let fault = s.recurring(id).await.fault.expect("a fault");
        assert_eq!((fault.count, fault.disabled), (count, count == FAULTS_MAX));
        assert_eq!(fault.reason, format!("no zone {count}"));
        s.advance(secs(60)).await;
    }
}

/// A schedule that cannot be read is tried again each minute, and disabled after five faults in a row, with the
/// last reason kept; an upsert, also of the same definition, enables it again, and so does a resume.
pub async fn recurring_load_error_disabled_with_reason(s: Stage) {
    let definition = recurring("r", every(600));
    s.define(&definition).await;
    disable(&s, "r").await;
    let fault = s.recurring("r").await.fault.expect("a fault");
    assert_eq!((fault.reason.as_str(), fault.disabled), ("no zone 5", true));
    let created_at = s.recurring("r").await.created_at;
    let next = Some(created_at.saturating_add(secs(600)));
    assert_eq!(s.upsert(&definition).await, Applied { next_at: next });
    assert_eq!(s.recurring("r").await.fault, None);
    disable(&s, "r").await;
    let next = Some(created_at.saturating_add(secs(1_200)));
    assert_eq!(s.resume_recurring("r").await, Applied { next_at: next });
    assert_eq!(s.recurring("r").await.fault, None);
}

/// A fault puts the recurring job off for a minute; a run that comes about then clears it.
pub async fn recurring_fault_is_cleared_by_a_run(s: Stage) {
    let first = s.define(&recurring("r", every(60))).await.expect("it has instants");
    s.advance_to(first).await;
    let revision = s.recurring("r").await.revision;
    let action = FireAction::Fault { reason: "no zone".into() };
    s.fire(vec![Fire { id: name("r"), revision, action }]).await;
    let due = s.due().await;
    assert_eq!((due.due.len(), due.next_in), (0, Some(secs(60))));
    let record = s.recurring("r").await;
    assert_eq!(record.next_at, Some(first), "nothing was fired for it");
    s.advance(secs(60)).await;
    assert_eq!(s.tick().await, [JobId::of_occurrence(&name("r"), first)]);
    assert_eq!(s.recurring("r").await.fault, None);
}

/// A paused recurring job fires nothing; resumed, it goes on with the first instant after now.
pub async fn recurring_paused_resume(s: Stage) {
    let first = s.define(&recurring("r", every(60))).await.expect("it has instants");
    let before = s.recurring("r").await;
    assert!(matches!(s.pause_recurring("r", None).await, Applied { .. }));
    assert_eq!(s.pause_recurring("r", None).await, Unchanged);
    let record = s.recurring("r").await;
    assert_eq!(record.paused, Some(Paused { until: None }));
    assert!(record.revision > before.revision);
    s.advance(secs(610)).await;
    let due = s.due().await;
    assert_eq!((due.due.len(), due.next_in), (0, None));
    let next = first.saturating_add(secs(600));
    assert_eq!(s.resume_recurring("r").await, Applied { next_at: Some(next) });
    assert_eq!(s.resume_recurring("r").await, Unchanged);
    s.advance_to(next).await;
    assert_eq!(s.tick().await, [JobId::of_occurrence(&name("r"), next)]);
    assert_eq!(s.pause_recurring("nobody", None).await, Missing);
    assert_eq!(s.resume_recurring("nobody").await, Missing);
}

/// A pause ends by itself at its instant, and what it covered is not made up for.
pub async fn recurring_pause_until(s: Stage) {
    let first = s.define(&recurring("r", every(60))).await.expect("it has instants");
    let until = first.saturating_add(secs(150));
    s.pause_recurring("r", Some(until)).await;
    assert_eq!(s.pause_recurring("r", Some(until)).await, Unchanged);
    s.advance_to(until.saturating_sub(secs(1))).await;
    let due = s.due().await;
    assert_eq!((due.due.len(), due.next_in), (0, Some(secs(1))));
    s.advance(secs(1)).await;
    assert_eq!(s.tick().await, []);
    let record = s.recurring("r").await;
    assert_eq!(record.paused, None);
    assert_eq!(record.next_at, Some(first.saturating_add(secs(180))));
    let later = Some(until.saturating_add(secs(5)));
    assert!(matches!(s.pause_recurring("r", later).await, Applied { .. }));
    assert!(matches!(s.pause_recurring("r", None).await, Applied { .. }), "another pause");
    assert_eq!(s.recurring("r").await.paused, Some(Paused { until: None }));
}

/// An instant at the very end of a pause is not covered by it.
pub async fn recurring_pause_ends_on_an_instant(s: Stage) {
    let first = s.define(&recurring("r", every(60))).await.expect("it has instants");
    s.pause_recurring("r", Some(first)).await;
    s.advance_to(first).await;
    s.tick().await;
    assert_eq!(s.recurring("r").await.next_at, Some(first));
    assert_eq!(s.tick().await, [JobId::of_occurrence(&name("r"), first)]);
}

/// The pause stays through an upsert.
pub async fn recurring_upsert_keeps_the_pause(s: Stage) {
    let mut definition = recurring("r", every(60));
    s.define(&definition).await;
    s.pause_recurring("r", None).await;
    definition.schedule = every(30);
    s.define(&definition).await;
    assert_eq!(s.recurring("r").await.paused, Some(Paused { until: None }));
    s.advance(DAY).await;
    assert_eq!(s.tick().await, []);
}
