//! Recurring jobs: definitions, the instants they name, and that each occurrence is fired once.

use std::collections::BTreeSet;
use std::time::Duration;

use portfire_core::recurring::jitter_of;
use portfire_core::{
    Cause, Fire, FireAction, Fired, InvalidJob, JobId, JobOptions, JobState, NewRecurring,
    Occurrence, RecurringChange, RecurringChanged, RecurringFilter, RecurringId, Schedule,
    StateName, StorageError, Timestamp,
};

use crate::stage::{DAY, Stage, at, cron, every, json, kind, name, queue, recurring, secs, under};

use RecurringChanged::{Applied, Missing, Owned, Pruned, Unchanged};

/// The instant of an hour of the day, in UTC, that comes next after `now`.
fn next_hour_of_day(now: Timestamp, hour: i64) -> Timestamp {
    let (day, hour) = (86_400_000_000, hour * 3_600_000_000);
    let today = now.as_micros() - now.as_micros() % day + hour;
    Timestamp::from_micros(if today > now.as_micros() { today } else { today + day })
}

/// A definition is stored with its first instant, and comes out as it went in.
pub async fn recurring_add(s: Stage) {
    let now = s.now().await;
    let mut definition = recurring("daily-report", cron("0 8 * * *", "UTC"));
    definition.app = "shop".into();
    definition.kind = kind("report");
    definition.args = json(r#"{ "month" : 1 }"#);
    definition.queue = queue("reports");
    definition.priority = -3;
    definition.options = JobOptions::default();
    definition.options.tags = vec!["eu".into()];
    definition.ties.limits = vec![under("l")];
    let next_at = next_hour_of_day(now, 8);
    assert_eq!(s.upsert(&definition).await, Applied { next_at: Some(next_at) });
    let record = s.recurring("daily-report").await;
    assert_eq!((&record.definition, record.next_at), (&definition, Some(next_at)));
    assert!(record.created_at >= now);
    assert_eq!((record.paused, &record.fault), (None, &None));
    assert_eq!((record.last_planned_at, record.last_job), (None, None));
    assert_eq!((s.runs("daily-report").await, s.everything().await), (vec![], vec![]));
    assert_eq!(s.find_recurring("weekly-report").await, None);
}

/// A job of a run has everything that its definition says, and says which run it is.
pub async fn recurring_job_is_the_definitions(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let mut definition = recurring("r", every(60));
    definition.kind = kind("report");
    definition.args = json(r#"{ "month" : 1 }"#);
    definition.queue = queue("reports");
    definition.priority = -3;
    definition.options.timeout = Some(secs(5));
    definition.ties.limits = vec![under("l")];
    let next_at = s.define(&definition).await.expect("it has instants");
    s.advance_to(next_at).await;
    let jobs = s.tick().await;
    assert_eq!(jobs, [JobId::of_occurrence(&name("r"), next_at)]);
    let record = s.record(jobs[0]).await;
    assert_eq!((&record.kind, &record.args), (&definition.kind, &definition.args));
    assert_eq!((&record.queue, record.priority), (&definition.queue, -3));
    assert_eq!((&record.options, &record.ties.limits), {
        (&definition.options, &definition.ties.limits)
    });
    let occurrence = Occurrence { recurring: name("r"), planned_at: next_at, triggered: false };
    assert_eq!(record.ties.occurrence, Some(occurrence.clone()));
    assert_eq!(s.causes(jobs[0]).await, [Cause::Created]);
    let claimed = server.claim_from(&["reports"], 1).await;
    assert_eq!(claimed[0].ties.occurrence, Some(occurrence));
}

/// A definition whose timing is the same keeps its next instant and what it remembers.
pub async fn recurring_update_keeps_last(s: Stage) {
    let mut definition = recurring("r", every(60));
    let first = s.define(&definition).await.expect("it has instants");
    s.advance_to(first).await;
    s.tick().await;
    s.advance(secs(10)).await;
    let before = s.recurring("r").await;
    definition.args = json("[2]");
    definition.jitter = secs(1);
    assert_eq!(s.define(&definition).await, before.next_at);
    let after = s.recurring("r").await;
    assert_eq!(after.definition, definition);
    assert!(after.revision > before.revision, "plans from before it are stale");
    assert_eq!((after.created_at, after.next_at), (before.created_at, before.next_at));
    assert_eq!((after.last_job, after.last_planned_at), (before.last_job, before.last_planned_at));
    assert_eq!(s.runs("r").await.len(), 1);
}

/// An upsert of what is stored changes nothing, however often it is repeated.
pub async fn recurring_upsert_unchanged(s: Stage) {
    let definition = recurring("r", cron("*/5 * * * *", "Europe/Amsterdam"));
    s.define(&definition).await;
    let before = s.recurring("r").await;
    s.advance(secs(100)).await;
    for _ in 0..3 {
        assert_eq!(s.upsert(&definition).await, Unchanged);
    }
    assert_eq!(s.recurring("r").await, before);
    // What is due is not lost by a schedule that says the same in other words.
    s.advance(secs(300)).await;
    let (due, now) = (before.next_at, s.now().await);
    assert!(due.is_some_and(|due| due <= now), "it is due, and nothing has fired it");
    for (text, zone) in [("0/5 * * * ?", "Europe/Amsterdam"), ("*/5 * * * *", "europe/amsterdam")] {
        let definition = recurring("r", cron(text, zone));
        assert_eq!(s.upsert(&definition).await, Applied { next_at: due });
        assert_eq!(s.recurring("r").await.definition, definition);
    }
}

/// A definition whose timing changes begins anew with the first instant after now.
pub async fn recurring_changed_schedule_moves(s: Stage) {
    let mut definition = recurring("r", every(3_600));
    s.define(&definition).await;
    s.advance(secs(100)).await;
    definition.schedule = every(60);
    let created_at = s.recurring("r").await.created_at;
    assert_eq!(s.define(&definition).await, Some(created_at.saturating_add(secs(120))));
    definition.starts_at = Some(created_at.saturating_add(secs(1_000)));
    assert_eq!(s.define(&definition).await, definition.starts_at);
    definition.ends_at = Some(created_at.saturating_add(secs(500)));
    definition.starts_at = None;
    s.advance(secs(500)).await;
    assert_eq!(s.define(&definition).await, None, "its end has passed");
}

/// A removed definition fires no more, and is gone with its runs; its jobs stay.
pub async fn recurring_remove_stops(s: Stage) {
    let definition = recurring("r", every(60));
    let first = s.define(&definition).await.expect("it has instants");
    s.advance_to(first).await;
    let jobs = s.tick().await;
    assert_eq!(s.recur(RecurringChange::Remove(name("r"))).await, Applied { next_at: None });
    assert_eq!(s.find_recurring("r").await, None);
    assert_eq!(s.runs("r").await, []);
    s.advance(DAY).await;
    let due = s.due().await;
    assert_eq!((due.due.len(), due.next_in), (0, None));
    assert_eq!(s.state(jobs[0]).await, StateName::Enqueued);
    assert_eq!(s.recur(RecurringChange::Remove(name("r"))).await, Missing);
    s.define(&definition).await;
    assert_eq!(s.runs("r").await, [], "another definition begins with nothing");
}

/// Eight schedulers that look at the same instants fire each occurrence once.
pub async fn recurring_fires_once_8_schedulers(s: Stage) {
    let names = ["a", "b", "c", "d", "e"];
    for id in names {
        s.define(&recurring(id, every(10))).await;
    }
    let mut fired = 0;
    for _ in 0..10 {
        s.advance(secs(10)).await;
        let schedulers: Vec<_> = (0..8)
            .map(|_| {
                let s = s.clone();
                tokio::spawn(async move { s.tick().await.len() })
            })
            .collect();
        for scheduler in schedulers {
            fired += scheduler.await.expect("the scheduler ends");
        }
    }
    assert_eq!(fired, 50, "each scheduler tells of what it created alone");
    s.expect_count(StateName::Enqueued, 50).await;
    for id in names {
        let planned: BTreeSet<_> = s.runs(id).await.iter().map(|run| run.planned_at).collect();
        assert_eq!(planned.len(), 10);
    }
}

/// The id of a run's job is made from its name and instant: one that is stored already is not stored twice,
/// even when a plan asks for it.
pub async fn recurring_unique_occurrence_key(s: Stage) {
    let first = s.define(&recurring("r", every(60))).await.expect("it has instants");
    s.advance_to(first).await;
    assert_eq!(s.tick().await.len(), 1);
    let next_at = s.recurring("r").await.next_at;
    let revision = s.recurring("r").await.revision;
    let action = FireAction::Run { planned: vec![first], next_at };
    s.fire(vec![Fire { id: name("r"), revision, action }]).await;
    s.expect_count(StateName::Enqueued, 1).await;
    assert_eq!(s.counts().await.created_total, 1);
    let other = JobId::of_occurrence(&name("r2"), first);
    assert_ne!(other, JobId::of_occurrence(&name("r"), first));
}

/// The job and the next instant are one commit: whatever becomes of the call, both are there or neither.
pub async fn recurring_crash_between_is_atomic(s: Stage) {
    let mut fired = 0;
    s.define(&recurring("r", every(60))).await;
    for _ in 0..20 {
        s.advance(secs(60)).await;
        let plans = s.plans().await;
        let planned = s.recurring("r").await.next_at;
        crate::wait::poll_once(s.storage().fire(plans.clone())).await;
        // The call may still be on its way: what is seen first must not be ahead of what is seen next.
        let moved = s.recurring("r").await.next_at != planned;
        let stored = s.counts().await.created_total > fired;
        let moved_then = s.recurring("r").await.next_at != planned;
        assert!(stored || !moved, "the next instant moved without a job");
        assert!(moved_then || !stored, "a job was stored, and the next instant did not move");
        // Whoever does not know asks again.
        s.fire(plans).await;
        fired += 1;
        assert_eq!(s.counts().await.created_total, fired);
    }
    assert_eq!(s.runs("r").await.len(), 20);
}

/// A plan that was made before another was applied does nothing.
pub async fn recurring_cas_stale_next_noop(s: Stage) {
    let first = s.define(&recurring("r", every(60))).await.expect("it has instants");
    s.advance_to(first).await;
    let plans = s.plans().await;
    let applied = s.fire(plans.clone()).await;
    assert!(matches!(&applied[0], Fired::Applied { jobs } if jobs.len() == 1));
    let (record, runs) = (s.recurring("r").await, s.runs("r").await);
    assert_eq!(s.fire(plans.clone()).await, [Fired::Stale]);
    assert_eq!((s.recurring("r").await, s.runs("r").await), (record.clone(), runs));
    let ahead = Fire { revision: record.revision + 1, ..plans[0].clone() };
    assert_eq!(s.fire(vec![ahead]).await, [Fired::Stale]);
    s.recur(RecurringChange::Remove(name("r"))).await;
    assert_eq!(s.fire(plans).await, [Fired::Stale]);
    assert_eq!(s.counts().await.created_total, 1);
}

/// A plan from before a removal does nothing to a definition that was stored under the same name since.
pub async fn recurring_removed_and_stored_anew(s: Stage) {
    let first = s.define(&recurring("r", every(60))).await.expect("it has instants");
    s.advance_to(first).await;
    let plans = s.plans().await;
    s.recur(RecurringChange::Remove(name("r"))).await;
    let anew = s.define(&recurring("r", every(90))).await;
    assert_eq!(s.fire(plans).await, [Fired::Stale]);
    let record = s.recurring("r").await;
    assert_eq!(record.next_at, anew);
    assert_eq!((record.last_job, s.runs("r").await.len()), (None, 0));
    assert_eq!(s.counts().await.created_total, 0);
}

/// Plans of one call are applied each on its own: a stale one does not hold up the others.
pub async fn recurring_plans_are_apart(s: Stage) {
    for id in ["a", "b", "c"] {
        s.define(&recurring(id, every(60))).await;
    }
    s.advance(secs(60)).await;
    let plans = s.plans().await;
    let order: Vec<&str> = plans.iter().map(|plan| plan.id.as_str()).collect();
    assert_eq!(order, ["a", "b", "c"], "what is due at once comes by name");
    s.fire(vec![plans[1].clone()]).await;
    let fired = s.fire(plans).await;
    let stale: Vec<_> = fired.iter().map(|fired| *fired == Fired::Stale).collect();
    assert_eq!(stale, [false, true, false]);
    s.expect_count(StateName::Enqueued, 3).await;
}

/// A definition that changes between plan and fire makes the plan stale, and so do a pause and its end.
pub async fn recurring_update_while_firing(s: Stage) {
    let mut definition = recurring("r", every(60));
    s.define(&definition).await;
    for change in 0..3 {
        s.advance(secs(60)).await;
        let plans = s.plans().await;
        match change {
            0 => {
                definition.args = json("[1]");
                s.define(&definition).await;
            }
            1 => drop(s.pause_recurring("r", None).await),
            _ => {
                s.pause_recurring("r", None).await;
                s.resume_recurring("r").await;
            }
        }
        assert_eq!(s.fire(plans).await, [Fired::Stale]);
        s.resume_recurring("r").await;
    }
    assert_eq!(s.counts().await.created_total, 0);
}

/// A text that is no schedule, an unknown zone and every other bound is refused, and nothing is stored.
pub async fn recurring_invalid_cron_rejected(s: Stage) {
    let bad: [fn(&mut NewRecurring); 10] = [
        |new| new.schedule = cron("61 * * * *", "UTC"),
        |new| new.schedule = cron("* * *", "UTC"),
        |new| new.schedule = cron("", "UTC"),
        |new| new.schedule = cron("0 8 * * *", "Europe/Amsterdamm"),
        |new| new.schedule = Schedule::Every(Duration::from_millis(999)),
        |new| new.schedule = Schedule::Every(Duration::MAX),
        |new| new.app = "x".repeat(129),
        |new| new.jitter = DAY + secs(1),
        |new| new.ties.after = vec![portfire_core::Dependency::on(JobId::from_name("p"))],
        |new| {
            new.starts_at = Some(at("2030-01-02T00:00:00Z"));
            new.ends_at = Some(at("2030-01-01T00:00:00Z"));
        },
    ];
    for (n, make_bad) in bad.into_iter().enumerate() {
        let mut definition = recurring("r", every(60));
        make_bad(&mut definition);
        let change = RecurringChange::Upsert(Box::new(definition));
        let answer = s.storage().change_recurring(change).await;
        let refused = matches!(answer, Err(StorageError::Invalid(InvalidJob::Schedule { ref reason })) if !reason.is_empty());
        assert!(refused, "{n}: {answer:?}");
    }
    let mut tagged = recurring("r", every(60));
    tagged.options.tags = vec![String::new()];
    let change = RecurringChange::Upsert(Box::new(tagged));
    let answer = s.storage().change_recurring(change).await;
    assert!(matches!(answer, Err(StorageError::Invalid(InvalidJob::Tag { .. }))), "{answer:?}");
    assert_eq!(s.recurring_jobs(RecurringFilter::default()).await, []);
    assert!(RecurringId::new("").is_err() && RecurringId::new("a\nb").is_err());
}

/// A refused upsert leaves the definition that is stored as it was.
pub async fn recurring_refused_upsert_changes_nothing(s: Stage) {
    s.define(&recurring("r", every(60))).await;
    let before = s.recurring("r").await;
    let bad = RecurringChange::Upsert(Box::new(recurring("r", cron("nonsense", "UTC"))));
    assert!(s.storage().change_recurring(bad).await.is_err());
    assert_eq!(s.recurring("r").await, before);
}

/// A schedule that names no instant at all is stored, and never due.
pub async fn recurring_unreachable_feb30_next_none(s: Stage) {
    assert_eq!(s.define(&recurring("r", cron("0 0 30 2 *", "UTC"))).await, None);
    s.advance(400 * DAY).await;
    let due = s.due().await;
    assert_eq!((due.due.len(), due.next_in), (0, None));
}

/// The job of the last run is remembered, and its planned instant.
pub async fn recurring_last_job_id_recorded(s: Stage) {
    let mut planned = s.define(&recurring("r", every(60))).await.expect("it has instants");
    for _ in 0..3 {
        s.advance_to(planned).await;
        let jobs = s.tick().await;
        let record = s.recurring("r").await;
        assert_eq!(record.last_job, jobs.first().copied());
        assert_eq!(record.last_planned_at, Some(planned));
        planned = record.next_at.expect("it goes on");
    }
}

/// Intervals count from the creation, whenever the runs come about; a start is their anchor.
pub async fn recurring_interval_keeps_its_anchor(s: Stage) {
    let now = s.now().await;
    let next = s.define(&recurring("r", every(90))).await.expect("it has instants");
    let created_at = s.recurring("r").await.created_at;
    assert_eq!(next, created_at.saturating_add(secs(90)));
    s.advance(secs(100)).await;
    s.tick().await;
    assert_eq!(s.recurring("r").await.next_at, Some(created_at.saturating_add(secs(180))));
    let mut anchored = recurring("s", every(90));
    anchored.starts_at = Some(now.saturating_add(secs(1_000)));
    anchored.ends_at = Some(now.saturating_add(secs(1_180)));
    assert_eq!(s.define(&anchored).await, anchored.starts_at, "the start itself is an instant");
    let runs = s.tick_until("s", now.saturating_add(secs(2_000))).await;
    let expected = [1_000, 1_090, 1_180].map(|after| now.saturating_add(secs(after)));
    assert_eq!(runs, expected, "and so is the end");
    assert_eq!(s.recurring("s").await.next_at, None);
}

/// A start that has passed keeps its anchor and makes up for nothing.
pub async fn recurring_start_in_the_past(s: Stage) {
    let now = s.now().await;
    let mut definition = recurring("r", every(100));
    definition.starts_at = Some(now.saturating_sub(secs(250)));
    assert_eq!(s.define(&definition).await, Some(now.saturating_add(secs(50))));
}

/// Each run starts later by a delay that is drawn from its id: a repeat draws the same.
pub async fn recurring_jitter_delays_the_job(s: Stage) {
    let mut definition = recurring("r", every(600));
    definition.jitter = secs(300);
    s.define(&definition).await;
    let mut delays = BTreeSet::new();
    for _ in 0..5 {
        s.advance(secs(600)).await;
        let job = s.tick().await[0];
        let record = s.record(job).await;
        let JobState::Scheduled { run_at, cause } = record.state else { panic!("{record:?}") };
        let drawn = jitter_of(job, secs(300));
        let expected = record.created_at.saturating_add(drawn);
        assert_eq!((run_at, cause), (expected, Cause::Created));
        delays.insert(drawn);
    }
    assert!(delays.len() > 1 && delays.iter().all(|delay| *delay <= secs(300)));
}

/// What is due comes the earliest first, up to what was asked; then one is told that there is more, or when.
pub async fn recurring_due_in_order(s: Stage) {
    for (id, seconds) in [("a", 30), ("b", 10), ("c", 20), ("d", 10)] {
        s.define(&recurring(id, every(seconds))).await;
    }
    let due = s.due().await;
    assert_eq!((due.due.len(), due.next_in), (0, Some(secs(10))));
    s.advance(secs(25)).await;
    let due = s.due().await;
    let names: Vec<&str> = due.due.iter().map(|record| record.definition.id.as_str()).collect();
    assert_eq!((names, due.next_in), (vec!["b", "d", "c"], Some(secs(5))));
    assert!(due.now >= due.due[2].next_at.expect("due"));
    assert_eq!(due.due[0], s.recurring("b").await);
    let two = s.storage().due_recurring(2).await.expect("told");
    assert_eq!((two.due.len(), two.next_in), (2, Some(secs(0))));
    let none = s.storage().due_recurring(0).await.expect("told");
    assert_eq!((none.due.len(), none.next_in), (0, Some(secs(0))));
    assert_eq!(s.counts().await.created_total, 0, "asking writes nothing");
}

/// Another application's definition is not touched; the answer says whose it is.
pub async fn recurring_belongs_to_its_application(s: Stage) {
    let mut shop = recurring("clean-up", every(60));
    shop.app = "shop".into();
    s.define(&shop).await;
    let before = s.recurring("clean-up").await;
    let mut blog = shop.clone();
    blog.app = "blog".into();
    assert_eq!(s.upsert(&blog).await, Owned { app: "shop".into() });
    blog.app = String::new();
    assert_eq!(s.upsert(&blog).await, Owned { app: "shop".into() });
    assert_eq!(s.recurring("clean-up").await, before);
    s.recur(RecurringChange::Remove(name("clean-up"))).await;
    s.define(&blog).await;
}

/// What an application's code declared once and does not any more is removed; nothing else.
pub async fn recurring_prune(s: Stage) {
    let sorts = [
        ("kept", "shop", true),
        ("gone", "shop", true),
        ("gone-too", "shop", true),
        ("by-hand", "shop", false),
        ("blogs", "blog", true),
        ("nobodys", "", true),
    ];
    for (id, app, declared) in sorts {
        let mut definition = recurring(id, every(60));
        definition.app = app.into();
        definition.declared = declared;
        s.define(&definition).await;
    }
    let keep = vec![name("kept"), name("not-there-yet")];
    let prune = RecurringChange::Prune { app: "shop".into(), keep };
    assert_eq!(s.recur(prune.clone()).await, Pruned(2));
    assert_eq!(s.recur(prune).await, Pruned(0));
    let left = s.recurring_jobs(RecurringFilter::default()).await;
    let left: Vec<_> = left.iter().map(|record| record.definition.id.as_str()).collect();
    assert_eq!(left, ["blogs", "by-hand", "kept", "nobodys"]);
    s.advance(secs(60)).await;
    assert_eq!(s.tick().await.len(), 4);
}

/// Recurring jobs are listed by name, of one application or of all, over pages of any size.
pub async fn recurring_jobs_are_listed(s: Stage) {
    let mut names: Vec<String> = (0..11).map(|n| format!("r{}", n * 7 % 11)).collect();
    for (n, id) in names.iter().enumerate() {
        let mut definition = recurring(id, every(60 + n as u64));
        definition.app = if n % 3 == 0 { "shop".into() } else { String::new() };
        s.define(&definition).await;
    }
    names.sort();
    for max in [1, 4, 500] {
        let all = s.recurring_jobs(RecurringFilter { max, ..RecurringFilter::default() }).await;
        let told: Vec<_> = all.iter().map(|record| record.definition.id.as_str()).collect();
        assert_eq!(told, names);
    }
    let shop = RecurringFilter { app: Some("shop".into()), max: 3, ..RecurringFilter::default() };
    let shop = s.recurring_jobs(shop).await;
    assert_eq!(shop.len(), 4);
    assert_eq!(shop[0], s.recurring(shop[0].definition.id.as_str()).await);
}

/// Any text without control characters names a recurring job, and no two texts the same.
pub async fn recurring_names_of_every_script(s: Stage) {
    let mut names = Vec::new();
    for text in crate::odd::TEXTS {
        if RecurringId::new(*text).is_ok() {
            names.push(*text);
            s.define(&recurring(text, every(60))).await;
        }
    }
    for text in ["r", "R", "r ", " r", "r%"] {
        names.push(text);
        s.define(&recurring(text, every(60))).await;
    }
    names.sort_unstable();
    let all = s.recurring_jobs(RecurringFilter { max: 5, ..RecurringFilter::default() }).await;
    assert_eq!(all.iter().map(|r| r.definition.id.as_str()).collect::<Vec<_>>(), names);
    s.advance(secs(60)).await;
    assert_eq!(s.tick().await.len(), names.len());
}

/// A scheduler that idles hears of a definition that is new, changed or goes on.
pub async fn recurring_change_wakes_the_scheduler(s: Stage) {
    let mut wakeups = s.storage().wakeups();
    let mut definition = recurring("r", every(60));
    s.define(&definition).await;
    s.heard(wakeups.work(), "the new definition").await;
    definition.schedule = every(30);
    s.define(&definition).await;
    s.heard(wakeups.work(), "the changed definition").await;
    s.pause_recurring("r", None).await;
    let mut wakeups = s.storage().wakeups();
    s.resume_recurring("r").await;
    s.heard(wakeups.work(), "the end of the pause").await;
}

/// A worker that idles hears of a job that was fired or triggered.
pub async fn recurring_fire_wakes_idle_worker(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let first = s.define(&recurring("r", every(60))).await.expect("it has instants");
    s.advance_to(first).await;
    let mut wakeups = s.storage().wakeups();
    s.tick().await;
    s.heard(wakeups.work(), "the fired job").await;
    s.trigger("r").await;
    s.heard(wakeups.work(), "the triggered job").await;
    assert_eq!(server.work_off().await.len(), 2);
}
