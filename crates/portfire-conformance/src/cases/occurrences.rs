//! Occurrences: clocks that change, runs that were missed, runs that overlap, and what is remembered of them.

use portfire_core::recurring::{OCCURRENCES_MAX, RUNS_KEPT};
use portfire_core::{
    After, Changed, Conflict, Dependency, FireAction, JobId, Misfire, NewRecurring, Overlap,
    RecurringChanged, Schedule, StateName, Timestamp, UniqueKey, UniqueScope,
};

use crate::server::{failure, success};
use crate::stage::{DAY, Stage, at, cron, every, name, recurring, secs};

use StateName::{Awaiting, Deleted, Enqueued, Failed, Processing, Succeeded};

/// The instants at which a schedule fires between two instants, the last one included, as a scheduler lives
/// through them.
async fn lived(s: &Stage, schedule: Schedule, from: &str, until: &str) -> Vec<String> {
    s.advance_to(at(from)).await;
    s.define(&recurring("r", schedule)).await;
    let runs = s.tick_until("r", at(until)).await;
    let jobs = s.everything().await;
    for planned in &runs {
        let id = JobId::of_occurrence(&name("r"), *planned);
        assert_eq!(jobs.iter().filter(|job| job.id == id).count(), 1, "a job at {planned}");
    }
    runs.iter().map(short).collect()
}

fn short(at: &Timestamp) -> String {
    at.to_string().replace(":00.000000Z", "Z")
}

/// A fixed time that the clocks skip runs at the first instant after the gap.
pub async fn recurring_dst_gap_fixed_time_after_gap(s: Stage) {
    let fixed = cron("30 2 * * *", "Europe/Amsterdam");
    let runs = lived(&s, fixed, "2030-03-30T00:00:00Z", "2030-04-01T12:00:00Z").await;
    assert_eq!(runs, ["2030-03-30T01:30Z", "2030-03-31T01:00Z", "2030-04-01T00:30Z"]);
}

/// A fixed time that the clocks show twice runs once, at the first.
pub async fn recurring_dst_overlap_fixed_once(s: Stage) {
    let fixed = cron("30 2 * * *", "Europe/Amsterdam");
    let runs = lived(&s, fixed, "2030-10-26T00:00:00Z", "2030-10-28T12:00:00Z").await;
    assert_eq!(runs, ["2030-10-26T00:30Z", "2030-10-27T00:30Z", "2030-10-28T01:30Z"]);
}

/// An interval runs in both of the hours that the clocks show twice.
pub async fn recurring_dst_overlap_interval_both(s: Stage) {
    let interval = cron("*/30 * * * *", "Europe/Amsterdam");
    let runs = lived(&s, interval, "2030-10-26T23:45:00Z", "2030-10-27T02:00:00Z").await;
    let expected = ["00:00", "00:30", "01:00", "01:30", "02:00"];
    assert_eq!(runs, expected.map(|time| format!("2030-10-27T{time}Z")));
}

/// An interval is not disturbed by a gap either.
pub async fn recurring_dst_gap_interval(s: Stage) {
    let interval = cron("*/30 * * * *", "Europe/Amsterdam");
    let runs = lived(&s, interval, "2030-03-31T00:15:00Z", "2030-03-31T02:00:00Z").await;
    let expected = ["00:30", "01:00", "01:30", "02:00"];
    assert_eq!(runs, expected.map(|time| format!("2030-03-31T{time}Z")));
}

/// Clocks that change by half an hour are followed as well: in spring, and in autumn both ways.
pub async fn recurring_half_hour_dst_lord_howe(s: Stage) {
    const ZONE: &str = "Australia/Lord_Howe";
    let once = cron("45 1 * * *", ZONE);
    let runs = lived(&s, once, "2030-04-05T20:00:00Z", "2030-04-07T20:00:00Z").await;
    assert_eq!(runs, ["2030-04-06T14:45Z", "2030-04-07T15:15Z"]);
    s.recur(portfire_core::RecurringChange::Remove(name("r"))).await;
    let gap = cron("15 2 * * *", ZONE);
    let runs = lived(&s, gap, "2030-10-04T20:00:00Z", "2030-10-06T20:00:00Z").await;
    assert_eq!(runs, ["2030-10-05T15:30Z", "2030-10-06T15:15Z"]);
    s.recur(portfire_core::RecurringChange::Remove(name("r"))).await;
    let both = cron("*/15 1 * * *", ZONE);
    let runs = lived(&s, both, "2031-04-05T10:00:00Z", "2031-04-05T20:00:00Z").await;
    let expected = ["14:00", "14:15", "14:30", "14:45", "15:00", "15:15"];
    assert_eq!(runs, expected.map(|time| format!("2031-04-05T{time}Z")));
}

/// An instant that fell into a change of clocks while nobody scheduled is made up for once.
pub async fn recurring_missed_over_a_change_of_clocks(s: Stage) {
    s.advance_to(at("2030-03-30T12:00:00Z")).await;
    s.define(&recurring("r", cron("30 2 * * *", "Europe/Amsterdam"))).await;
    s.advance_to(at("2030-03-31T09:00:00Z")).await;
    let jobs = s.tick().await;
    assert_eq!(jobs, [JobId::of_occurrence(&name("r"), at("2030-03-31T01:00:00Z"))]);
    assert_eq!(s.recurring("r").await.next_at, Some(at("2030-04-01T00:30:00Z")));
}

/// Another zone is another timing: the next instant is computed anew.
pub async fn recurring_zone_change_recomputes(s: Stage) {
    s.advance_to(at("2030-06-01T00:00:00Z")).await;
    let at_eight = |zone: &str| recurring("r", cron("0 8 * * *", zone));
    let zones = [
        ("UTC", "2030-06-01T08:00:00Z"),
        ("Europe/Amsterdam", "2030-06-01T06:00:00Z"),
        ("America/New_York", "2030-06-01T12:00:00Z"),
        ("Asia/Kolkata", "2030-06-01T02:30:00Z"),
        ("Asia/Tokyo", "2030-06-01T23:00:00Z"),
    ];
    for (zone, next) in zones {
        assert_eq!(s.define(&at_eight(zone)).await, Some(at(next)), "{zone}");
    }
}

/// A definition that fires each minute, by this rule about missed runs, after ten minutes and some seconds
/// in which nobody scheduled; its first instant and the runs that come about.
async fn missed(s: &Stage, misfire: Misfire, seconds: u64) -> (Timestamp, Vec<Timestamp>) {
    let mut definition = recurring("r", every(60));
    definition.misfire = misfire;
    let first = s.define(&definition).await.expect("it has instants");
    s.advance_to(first.saturating_add(secs(540 + seconds))).await;
    let runs = s.tick_until("r", first.saturating_add(secs(540 + seconds))).await;
    (first, runs)
}

/// By default all missed occurrences are one run, planned for the first of them.
pub async fn recurring_misfire_coalesce_one(s: Stage) {
    let (first, runs) = missed(&s, Misfire::RunOnce, 10).await;
    assert_eq!(runs, [first]);
    assert_eq!(s.recurring("r").await.next_at, Some(first.saturating_add(secs(600))));
    s.advance(secs(50)).await;
    assert_eq!(s.tick().await.len(), 1, "afterwards it goes on as ever");
}

/// On request each missed occurrence is a run, the earliest first.
pub async fn recurring_misfire_strict_all(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let (first, runs) = missed(&s, Misfire::All, 10).await;
    let expected: Vec<_> = (0..10).map(|n| first.saturating_add(secs(n * 60))).collect();
    assert_eq!(runs, expected);
    let jobs: Vec<_> = runs.iter().map(|&at| JobId::of_occurrence(&name("r"), at)).collect();
    assert_eq!(server.work_off().await, jobs);
}

/// Missed occurrences without number are fired a thousand at a time, and none twice.
pub async fn recurring_misfire_all_in_pieces(s: Stage) {
    let mut definition = recurring("r", every(1));
    definition.misfire = Misfire::All;
    s.define(&definition).await;
    s.advance(secs(2_300)).await;
    let mut counts = Vec::new();
    for _ in 0..3 {
        counts.push(s.tick().await.len());
    }
    assert_eq!(counts, [OCCURRENCES_MAX, OCCURRENCES_MAX, 300]);
    assert_eq!(s.due().await.due.len(), 0);
    s.expect_count(Enqueued, 2_300).await;
}

/// On request missed occurrences are passed over, and the first is remembered so.
pub async fn recurring_misfire_skip_none(s: Stage) {
    let (first, runs) = missed(&s, Misfire::Skip, 45).await;
    assert_eq!(runs, []);
    let record = s.recurring("r").await;
    assert_eq!(record.next_at, Some(first.saturating_add(secs(600))));
    assert_eq!((record.last_planned_at, record.last_job), (None, None));
    let remembered = s.runs("r").await;
    assert_eq!(remembered.len(), 1);
    assert_eq!((remembered[0].planned_at, remembered[0].job), (first, None));
    assert_eq!(remembered[0].skipped.as_deref(), Some("missed by more than 30 s"));
}

/// What is late by less than half a minute was not missed.
pub async fn recurring_misfire_skip_runs_what_is_fresh(s: Stage) {
    let (first, runs) = missed(&s, Misfire::Skip, 20).await;
    assert_eq!(runs, [first.saturating_add(secs(540))]);
}

/// A definition that fires each minute, by this rule about runs that have not ended.
async fn overlapping(s: &Stage, overlap: Overlap) -> Timestamp {
    let mut definition = recurring("r", every(60));
    definition.overlap = overlap;
    s.define(&definition).await.expect("it has instants")
}

/// The next minute; the job that it fires, if it does.
async fn minute(s: &Stage) -> Option<JobId> {
    s.advance(secs(60)).await;
    s.tick().await.pop()
}

/// By default runs may overlap.
pub async fn recurring_overlap_allow(s: Stage) {
    overlapping(&s, Overlap::Allow).await;
    let (one, two) = (minute(&s).await.expect("a job"), minute(&s).await.expect("a job"));
    assert_eq!((s.state(one).await, s.state(two).await), (Enqueued, Enqueued));
}

/// On request an occurrence is passed over while the run before has not ended, with a reason that names it.
pub async fn recurring_overlap_skip(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let first = overlapping(&s, Overlap::Skip).await;
    let job = minute(&s).await.expect("a job");
    assert_eq!(minute(&s).await, None);
    let held = server.claim_job(job).await;
    assert_eq!(minute(&s).await, None);
    let runs = s.runs("r").await;
    let told: Vec<_> = runs.iter().map(|run| run.skipped.clone()).collect();
    let reason = |state| Some(format!("the run before, job {job}, is {state}"));
    assert_eq!(told, [reason(Processing), reason(Enqueued), None]);
    assert_eq!((runs[0].job, runs[0].planned_at), (None, first.saturating_add(secs(120))));
    assert_eq!(s.recurring("r").await.last_job, Some(job));
    server.end(held.claim, success()).await;
    assert!(minute(&s).await.is_some());
    s.expect_count(Enqueued, 1).await;
}

/// On request an occurrence waits for the end of the run before, whatever it is; when one waits already, the next is
/// passed over.
pub async fn recurring_overlap_queue_one(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    overlapping(&s, Overlap::QueueOne).await;
    let one = minute(&s).await.expect("a job");
    let held = server.claim_job(one).await;
    let two = minute(&s).await.expect("a job");
    assert_eq!((s.state(two).await, s.pending(two).await), (Awaiting, 1));
    assert_eq!(s.record(two).await.ties.after, [Dependency::on(one).after(After::End)]);
    assert_eq!(minute(&s).await, None);
    let skipped = s.runs("r").await[0].skipped.clone();
    assert_eq!(skipped, Some(format!("job {two} waits already")));
    server.end(held.claim, failure()).await;
    let held = server.claim_job(two).await;
    let three = minute(&s).await.expect("it waits for the second now");
    assert_eq!(s.state(three).await, Awaiting);
    server.end(held.claim, success()).await;
    server.run(three, success()).await;
    let four = minute(&s).await.expect("a job");
    assert_eq!(s.state(four).await, Enqueued, "nothing runs: it waits for nothing");
}

/// On request the run before is deleted, also while it runs, and its worker hears of it.
pub async fn recurring_overlap_cancel_previous(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    overlapping(&s, Overlap::CancelPrevious).await;
    let one = minute(&s).await.expect("a job");
    let held = server.claim_job(one).await;
    s.advance(secs(60)).await;
    let mut wakeups = s.storage().wakeups();
    let two = s.tick().await[0];
    s.heard(wakeups.control(), "the cancelled run").await;
    assert_eq!(s.reason(one).await, "its next occurrence is due");
    assert_eq!(server.finish(held.claim, success()).await, portfire_core::Verdict::Fenced);
    let three = minute(&s).await.expect("a job");
    assert_eq!((s.state(two).await, s.state(three).await), (Deleted, Enqueued));
    server.run(three, success()).await;
    minute(&s).await;
    assert_eq!(s.state(three).await, Succeeded, "a run that has ended stays");
}

/// The rule about overlaps holds among the runs of one plan as well.
pub async fn recurring_overlap_within_a_plan(s: Stage) {
    for (id, overlap, states) in [
        ("skip", Overlap::Skip, vec![Enqueued]),
        ("queue", Overlap::QueueOne, vec![Enqueued, Awaiting]),
        ("cancel", Overlap::CancelPrevious, vec![Deleted, Deleted, Enqueued]),
    ] {
        let mut definition = recurring(id, every(60));
        definition.overlap = overlap;
        definition.misfire = Misfire::All;
        s.define(&definition).await;
        s.advance(secs(180)).await;
        let jobs = s.tick().await;
        let mut told = Vec::new();
        for &job in &jobs {
            told.push(s.state(job).await);
        }
        assert_eq!(told, states, "{overlap:?}");
        let runs = s.runs(id).await;
        assert_eq!(runs.len(), 3);
        assert_eq!(runs.iter().filter(|run| run.skipped.is_some()).count(), 3 - states.len());
        s.recur(portfire_core::RecurringChange::Remove(name(id))).await;
    }
}

/// A run by hand does not look at overlaps; the next occurrence regards it as the run before.
pub async fn recurring_overlap_and_triggers(s: Stage) {
    overlapping(&s, Overlap::Skip).await;
    minute(&s).await;
    let RecurringChanged::Triggered(job) = s.trigger("r").await else { panic!("triggered") };
    assert_eq!(s.state(job).await, Enqueued);
    assert_eq!(minute(&s).await, None);
    let skipped = s.runs("r").await[0].skipped.clone();
    assert_eq!(skipped, Some(format!("the run before, job {job}, is enqueued")));
}

/// A run that has not ended is regarded however many have come and gone since, and one by hand that was short does
/// not hide it.
pub async fn recurring_overlap_behind_a_short_trigger(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    for overlap in [Overlap::Skip, Overlap::QueueOne, Overlap::CancelPrevious] {
        overlapping(&s, overlap).await;
        let long = minute(&s).await.expect("a job");
        let held = server.claim_job(long).await;
        let RecurringChanged::Triggered(short) = s.trigger("r").await else { panic!("triggered") };
        server.run(short, success()).await;
        regards(&s, overlap, long, Processing).await;
        if overlap != Overlap::CancelPrevious {
            server.end(held.claim, success()).await;
        }
        end_all(&s).await;
    }
}

/// An older run that was requeued is regarded until it ends again.
pub async fn recurring_overlap_with_a_requeued_run(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    for overlap in [Overlap::Skip, Overlap::QueueOne, Overlap::CancelPrevious] {
        overlapping(&s, overlap).await;
        let old = minute(&s).await.expect("a job");
        server.run(old, failure()).await;
        let new = minute(&s).await.expect("a job");
        server.run(new, success()).await;
        assert!(matches!(s.requeue(old).await, Changed::Applied { .. }));
        let run = s.runs("r").await.into_iter().find(|run| run.job == Some(old));
        assert_eq!(run.expect("its run").outcome, None, "it has not ended");
        regards(&s, overlap, old, Enqueued).await;
        end_all(&s).await;
    }
}

/// Asserts that the next occurrence regards a run of this state, the only one that has not ended.
async fn regards(s: &Stage, overlap: Overlap, run: JobId, state: StateName) {
    assert_eq!(s.state(run).await, state);
    let next = minute(s).await;
    match overlap {
        Overlap::Skip => {
            assert_eq!(next, None, "{overlap:?}");
            let skipped = s.runs("r").await[0].skipped.clone();
            assert_eq!(skipped, Some(format!("the run before, job {run}, is {state}")));
        }
        Overlap::QueueOne => {
            let next = next.expect("a job");
            assert_eq!(s.record(next).await.ties.after, [Dependency::on(run).after(After::End)]);
            assert_eq!(s.state(next).await, Awaiting, "{overlap:?}");
            assert_eq!(minute(s).await, None, "one waits already");
        }
        _ => {
            assert_eq!(s.reason(run).await, "its next occurrence is due", "{overlap:?}");
            assert_eq!(s.state(next.expect("a job")).await, Enqueued);
        }
    }
}

/// Deletes the recurring job and all of its runs that have not ended.
async fn end_all(s: &Stage) {
    s.recur(portfire_core::RecurringChange::Remove(name("r"))).await;
    for job in s.everything().await {
        let _ = s.delete(job.id).await;
    }
}

/// An occurrence waits for the ends of all runs that have not ended, or they are all deleted.
pub async fn recurring_overlap_with_several_runs(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    overlapping(&s, Overlap::QueueOne).await;
    let one = minute(&s).await.expect("a job");
    let RecurringChanged::Triggered(two) = s.trigger("r").await else { panic!("triggered") };
    let held = [server.claim_job(one).await, server.claim_job(two).await];
    let three = minute(&s).await.expect("a job");
    let after = [one, two].map(|run| Dependency::on(run).after(After::End));
    assert_eq!(s.record(three).await.ties.after, after);
    server.end(held[1].claim, success()).await;
    assert_eq!(s.state(three).await, Awaiting, "the first runs on");
    let mut definition = s.recurring("r").await.definition;
    definition.overlap = Overlap::CancelPrevious;
    s.define(&definition).await;
    let four = minute(&s).await.expect("a job");
    assert_eq!((s.state(one).await, s.state(three).await), (Deleted, Deleted));
    assert_eq!((s.state(two).await, s.state(four).await), (Succeeded, Enqueued));
    assert_eq!(server.finish(held[0].claim, success()).await, portfire_core::Verdict::Fenced);
}

/// A run that has not ended is remembered, and regarded, though many were passed over since.
pub async fn recurring_overlap_outlives_many_passed_over(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    overlapping(&s, Overlap::Skip).await;
    let long = minute(&s).await.expect("a job");
    let held = server.claim_job(long).await;
    for _ in 0..=RUNS_KEPT {
        assert_eq!(minute(&s).await, None);
    }
    let runs = s.storage().runs(name("r"), 2 * RUNS_KEPT).await.expect("read");
    assert_eq!(runs.last().and_then(|run| run.job), Some(long), "the oldest");
    assert_eq!(runs.len() as u32, RUNS_KEPT, "it takes the place of one");
    server.end(held.claim, success()).await;
    assert!(minute(&s).await.is_some());
    let runs = s.storage().runs(name("r"), 2 * RUNS_KEPT).await.expect("read");
    assert_eq!(runs.len() as u32, RUNS_KEPT);
    assert!(runs.iter().all(|run| run.job != Some(long)), "what has ended is forgotten in turn");
}

fn unique(id: &str) -> NewRecurring {
    let mut definition = recurring(id, every(60));
    let scope = UniqueScope::UntilFinished;
    let key = UniqueKey { key: "k".into(), scope, conflict: Conflict::Reject };
    definition.ties.unique = Some(key);
    definition
}

/// A run whose unique key is held is passed over, with a reason that names the holder.
pub async fn recurring_unique_key_held(s: Stage) {
    s.define(&unique("r")).await;
    let holder = s.create_unique("k").await.id;
    assert_eq!(minute(&s).await, None);
    let runs = s.runs("r").await;
    assert_eq!((runs.len(), runs[0].job), (1, None));
    assert_eq!(runs[0].skipped, Some(format!("job {holder} holds its unique key")));
    assert_eq!(s.trigger("r").await, RecurringChanged::Triggered(holder));
    assert_eq!((s.runs("r").await.len(), s.recurring("r").await.last_job), (1, None));
    let _ = s.delete(holder).await;
    let job = minute(&s).await.expect("the key is free");
    assert!(s.create_unique("k").await.existing);
    assert_eq!(s.trigger("r").await, RecurringChanged::Triggered(job));
}

/// Runs are remembered the newest first, with the outcome of their jobs once those have ended.
pub async fn recurring_runs_and_outcomes(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let first = overlapping(&s, Overlap::Allow).await;
    let jobs = [minute(&s).await, minute(&s).await, minute(&s).await].map(|job| job.expect("one"));
    server.run(jobs[0], success()).await;
    server.run(jobs[1], failure()).await;
    let ended = s.now().await;
    let _ = s.delete(jobs[2]).await;
    let runs = s.runs("r").await;
    let told: Vec<_> = runs.iter().map(|run| (run.job, run.outcome)).collect();
    let expected = [(2, Deleted), (1, Failed), (0, Succeeded)];
    assert_eq!(told, expected.map(|(n, outcome): (usize, _)| (Some(jobs[n]), Some(outcome))));
    assert_eq!(runs[2].planned_at, first);
    assert!(runs.iter().all(|run| run.ended_at.is_some_and(|at| at >= ended)));
    assert!(runs.iter().all(|run| run.fired_at >= run.planned_at && !run.triggered));
    let two = s.storage().runs(name("r"), 2).await.expect("read");
    assert_eq!(two, runs[..2]);
    assert_eq!(s.runs("nobody").await, []);
    // Another end of the same job has the last word.
    assert!(matches!(s.requeue(jobs[1]).await, Changed::Applied { .. }));
    s.advance(secs(5)).await;
    server.run(jobs[1], success()).await;
    let again = s.runs("r").await[1].clone();
    assert_eq!(again.outcome, Some(Succeeded));
    assert!(again.ended_at > runs[1].ended_at);
    let _ = s.delete(jobs[0]).await;
    assert_eq!(s.runs("r").await[2].outcome, Some(Deleted));
}

/// The last 200 runs are remembered, also when their jobs were cleaned.
pub async fn recurring_runs_are_kept(s: Stage) {
    let server = s.server_with_lease("a", 9 * DAY).await;
    let mut definition = recurring("r", every(60));
    definition.misfire = Misfire::All;
    let first = s.define(&definition).await.expect("it has instants");
    s.advance_to(first.saturating_add(secs(60 * 249))).await;
    assert_eq!(s.tick().await.len(), 250);
    assert_eq!(server.work_off().await.len(), 250);
    s.advance(DAY).await;
    assert_eq!(s.clean(1_000).await.jobs, 250);
    let runs = s.runs("r").await;
    assert_eq!(runs.len(), RUNS_KEPT as usize);
    assert_eq!(runs[0].planned_at, first.saturating_add(secs(60 * 249)));
    assert_eq!(runs[199].planned_at, first.saturating_add(secs(60 * 50)));
    assert!(runs.iter().all(|run| run.outcome == Some(Succeeded)));
}

/// A scheduler decides by what is stored: a plan that creates nothing moves on all the same.
pub async fn recurring_plan_moves_on(s: Stage) {
    let first = overlapping(&s, Overlap::Allow).await;
    s.advance_to(first).await;
    let mut plans = s.plans().await;
    let later = first.saturating_add(secs(3_600));
    plans[0].action = FireAction::Run { planned: vec![], next_at: Some(later) };
    s.fire(plans).await;
    let record = s.recurring("r").await;
    assert_eq!((record.next_at, record.last_planned_at), (Some(later), None));
    let mut plans = s.plans().await;
    assert_eq!(plans, []);
    let action = FireAction::Run { planned: vec![later], next_at: None };
    plans.push(portfire_core::Fire { id: name("r"), revision: record.revision, action });
    assert_eq!(s.fire(plans).await.len(), 1);
    assert_eq!(s.recurring("r").await.next_at, None);
    assert_eq!(s.due().await.next_in, None);
}
