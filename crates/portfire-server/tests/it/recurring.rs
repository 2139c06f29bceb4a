//! Recurring jobs: who fires them, when, and what code declares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::recurring::FAULTS_MAX;
use portfire_core::{
    JobId, JobState, Json, KindName, Monitor, NewRecurring, RecurringChange, RecurringChanged,
    RecurringFilter, RecurringId, RunRecord, Schedule, StateName, Storage,
};
use portfire_server::{Handler, JobDescriptor, Runtime, Server, StartError};

use crate::faulty::{Fault, Op};
use crate::stage::{DONE, SECOND, Stage, describe, ms, play, play_async};

fn every(id: &str, interval: Duration) -> NewRecurring {
    let (id, kind) = (RecurringId::new(id).unwrap(), KindName::stored("tick"));
    NewRecurring::new(id, Schedule::Every(interval), kind, Json::empty())
}

async fn upsert(stage: &Stage, definition: NewRecurring) {
    let change = RecurringChange::Upsert(Box::new(definition));
    stage.storage.change_recurring(change).await.unwrap();
}

async fn runs(stage: &Stage, id: &str) -> Vec<RunRecord> {
    stage.storage.runs(RecurringId::stored(id), 200).await.unwrap()
}

/// Adds a handler that notes the planned instant of each run, and how late it started.
fn on_tick(stage: &Stage) {
    let (world, notes) = (stage.world.clone(), stage.notes.clone());
    stage.on("tick", move |cx| {
        let tick = cx.tick();
        let late = portfire_core::Clock::now(&world).since(tick.nominal);
        notes.add(if late < ms(20) { "prompt" } else { "late" });
        notes.add(format!("{}@{}", tick.recurring.unwrap(), tick.nominal));
        async { DONE }
    });
}

#[test]
fn an_occurrence_is_fired_at_its_instant_and_its_run_knows_it() {
    play(|stage| async move {
        on_tick(&stage);
        let _server = stage.start().await;
        upsert(&stage, every("r", 10 * SECOND)).await;
        stage.world.pass(35 * SECOND).await;
        assert_eq!((stage.notes.count("prompt"), stage.notes.count("late")), (3, 0));
        let runs = runs(&stage, "r").await;
        assert_eq!(runs.len(), 3);
        assert!(runs.iter().all(|run| run.outcome == Some(StateName::Succeeded)), "{runs:?}");
        assert!(stage.notes.count(&format!("r@{}", runs[0].planned_at)) == 1);
    });
}

#[test]
fn eight_servers_fire_each_occurrence_once() {
    play(|stage| async move {
        on_tick(&stage);
        let mut servers: Vec<Server> = Vec::new();
        for _ in 0..8 {
            servers.push(stage.server().workers(2).start().await.unwrap());
        }
        for n in 0..20 {
            upsert(&stage, every(&format!("r{n}"), SECOND)).await;
        }
        stage.world.pass(60 * SECOND + ms(500)).await;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for note in stage.notes.all().into_iter().filter(|note| note.contains('@')) {
            *counts.entry(note).or_default() += 1;
        }
        assert_eq!(counts.len(), 20 * 60, "each occurrence");
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        assert_eq!(stage.notes.count("late"), 0);
        drop(servers);
    });
}

#[test]
fn a_server_that_dies_between_due_and_fire_costs_nothing_but_time() {
    play(|stage| async move {
        on_tick(&stage);
        upsert(&stage, every("r", 30 * SECOND)).await;
        let dying = stage.start().await;
        // It has seen what is due and hangs before it can fire.
        stage.storage.next(Op::Fire, Fault::Hangs);
        stage.world.pass(30 * SECOND + ms(500)).await;
        assert_eq!((stage.storage.calls(Op::Fire).len(), stage.notes.all().len()), (1, 0));
        drop(dying);
        let _living = stage.start().await;
        stage.world.pass(5 * SECOND).await;
        assert_eq!(runs(&stage, "r").await.len(), 1);
        assert_eq!(stage.notes.count("late"), 1);
    });
}

#[test]
fn an_occurrence_whose_answer_was_lost_is_fired_once() {
    play(|stage| async move {
        on_tick(&stage);
        let _server = stage.start().await;
        upsert(&stage, every("r", 10 * SECOND)).await;
        stage.storage.next(Op::Fire, Fault::AnswerLost);
        stage.world.pass(25 * SECOND).await;
        assert_eq!(runs(&stage, "r").await.len(), 2);
        assert_eq!(stage.notes.all().len(), 4);
    });
}

#[test]
fn ten_thousand_that_are_due_at_once_are_fired_within_two_seconds() {
    play(|stage| async move {
        stage.on("tick", |_| async { DONE });
        for n in 0..10_000 {
            upsert(&stage, every(&format!("r{n}"), 60 * SECOND)).await;
        }
        // Each call takes as long as a commit of a thousand jobs may.
        for op in [Op::DueRecurring, Op::Fire] {
            stage.storage.all(op, Fault::Late(ms(40)));
        }
        let _servers = [stage.start().await, stage.start().await];
        let created = || async { stage.storage.counts().await.unwrap().created_total };
        stage.world.pass(60 * SECOND - ms(100) - stage.world.elapsed()).await;
        assert_eq!(created().await, 0);
        stage.world.pass(ms(2_100)).await;
        assert_eq!(created().await, 10_000);
    });
}

#[test]
fn a_new_recurring_job_is_noticed_without_waiting_for_the_poll() {
    play(|stage| async move {
        on_tick(&stage);
        let _server = stage.server().poll_interval(60 * SECOND).start().await.unwrap();
        stage.world.pass(ms(5_300)).await;
        upsert(&stage, every("r", SECOND)).await;
        stage.world.pass(ms(3_500)).await;
        assert_eq!((stage.notes.count("prompt"), stage.notes.count("late")), (3, 0));
    });
}

#[test]
fn an_idle_scheduler_looks_once_a_poll() {
    play(|stage| async move {
        on_tick(&stage);
        upsert(&stage, every("r", 3_600 * SECOND)).await;
        let _server = stage.start().await;
        stage.world.pass(60 * SECOND).await;
        let looks = stage.storage.calls(Op::DueRecurring).len();
        assert!((55..=62).contains(&looks), "{looks}");
        assert_eq!(stage.storage.calls(Op::Fire).len(), 0);
    });
}

#[test]
fn a_flood_of_jobs_does_not_make_the_scheduler_look_for_each() {
    play(|stage| async move {
        stage.on("short", |_| async { DONE });
        let _server = stage.start().await;
        for _ in 0..1_000 {
            stage.enqueue("short").await;
            stage.world.pass(ms(1)).await;
        }
        let looks = stage.storage.calls(Op::DueRecurring).len();
        assert!(looks <= 6, "{looks} looks in a second");
    });
}

#[test]
fn what_was_missed_while_no_server_ran_is_fired_by_its_rule() {
    play(|stage| async move {
        on_tick(&stage);
        for (id, misfire) in [
            ("once", portfire_core::Misfire::RunOnce),
            ("all", portfire_core::Misfire::All),
            ("skip", portfire_core::Misfire::Skip),
        ] {
            let mut definition = every(id, 60 * SECOND);
            definition.misfire = misfire;
            upsert(&stage, definition).await;
        }
        stage.world.pass(300 * SECOND + 45 * SECOND).await;
        let _server = stage.start().await;
        stage.world.pass(SECOND).await;
        let jobs = |runs: Vec<RunRecord>| runs.iter().filter(|run| run.job.is_some()).count();
        assert_eq!(jobs(runs(&stage, "once").await), 1);
        assert_eq!(jobs(runs(&stage, "all").await), 5);
        assert_eq!(jobs(runs(&stage, "skip").await), 0);
    });
}

#[test]
fn what_was_missed_is_made_up_in_pieces_and_holds_up_nothing_that_is_in_time() {
    play(|stage| async move {
        stage.on("tick", |_| async { DONE });
        for n in 0..20 {
            let mut definition = every(&format!("r{n}"), SECOND);
            definition.misfire = portfire_core::Misfire::All;
            upsert(&stage, definition).await;
        }
        upsert(&stage, every("prompt", 190 * SECOND)).await;
        stage.world.pass(190 * SECOND).await;
        // Each commit has an instant of its own.
        stage.storage.all(Op::Fire, Fault::Late(ms(1)));
        let _server = stage.start().await;
        stage.world.pass(ms(900)).await;
        let mut commits: BTreeMap<_, usize> = BTreeMap::new();
        for n in 0..20 {
            for run in runs(&stage, &format!("r{n}")).await {
                *commits.entry(run.fired_at).or_default() += 1;
            }
        }
        assert_eq!(commits.values().sum::<usize>(), 20 * 190);
        assert!(commits.values().all(|runs| *runs <= 1_200), "{commits:?}");
        let first = commits.keys().next().copied();
        assert_eq!(runs(&stage, "prompt").await.first().map(|run| run.fired_at), first);
    });
}

#[test]
fn a_run_that_lasts_is_followed_as_the_overlap_rule_says() {
    play(|stage| async move {
        let world = stage.world.clone();
        stage.on("tick", move |cx| {
            let (world, token) = (world.clone(), cx.cancellation().clone());
            async move {
                tokio::select! {
                    biased;
                    stop = token.cancelled() => Err(stop.into()),
                    () = world.sleep(25 * SECOND) => DONE,
                }
            }
        });
        use portfire_core::Overlap::{Allow, CancelPrevious, QueueOne, Skip};
        for (id, overlap) in
            [("allow", Allow), ("skip", Skip), ("queue", QueueOne), ("cancel", CancelPrevious)]
        {
            let mut definition = every(id, 10 * SECOND);
            definition.overlap = overlap;
            definition.ends_at =
                Some(stage.storage.now().await.unwrap().saturating_add(40 * SECOND));
            upsert(&stage, definition).await;
        }
        let _server = stage.start().await;
        stage.world.pass(200 * SECOND).await;
        let outcomes = |runs: Vec<RunRecord>| -> Vec<String> {
            let word = |run: &RunRecord| match run.outcome {
                Some(outcome) => outcome.to_string(),
                None => format!("{}", run.skipped.is_some()),
            };
            runs.iter().rev().map(word).collect()
        };
        let ok = "succeeded";
        assert_eq!(outcomes(runs(&stage, "allow").await), [ok; 4]);
        assert_eq!(outcomes(runs(&stage, "skip").await), [ok, "true", "true", ok]);
        assert_eq!(outcomes(runs(&stage, "queue").await), [ok, ok, "true", ok]);
        assert_eq!(outcomes(runs(&stage, "cancel").await), ["deleted", "deleted", "deleted", ok]);
    });
}

#[test]
fn a_lightweight_server_leaves_schedules_to_others() {
    play(|stage| async move {
        on_tick(&stage);
        upsert(&stage, every("r", SECOND)).await;
        stage.on("other", |_| async { DONE });
        let light = stage.server().schedulers(false).start().await.unwrap();
        let delayed = stage
            .enqueue_with("other", |mut job| {
                job.when = SECOND.into();
                job
            })
            .await;
        stage.world.pass(60 * SECOND).await;
        assert_eq!(stage.state(delayed).await, StateName::Scheduled);
        for op in [Op::Promote, Op::DueRecurring, Op::Rescue, Op::Clean] {
            assert_eq!(stage.storage.calls(op).len(), 0, "{op:?}");
        }
        assert!(light.health().live && light.health().ready);
        let _full = stage.start().await;
        stage.world.pass(ms(1_500)).await;
        assert_eq!(runs(&stage, "r").await.len(), 2, "one for all that were missed, and the next");
    });
}

// What code declares.

fn declaring(kind: &str, make: fn() -> NewRecurring) -> &'static JobDescriptor {
    let plain = describe(kind, Handler::Async(play_async));
    Box::leak(Box::new(JobDescriptor { recurring: Some(make), ..plain }))
}

fn hourly() -> NewRecurring {
    every("hourly", 3_600 * SECOND)
}

fn daily() -> NewRecurring {
    every("daily", 86_400 * SECOND)
}

async fn declared(stage: &Stage) -> Vec<(String, String)> {
    let page = stage.storage.recurring_jobs(RecurringFilter::default()).await.unwrap();
    let named = |record: &portfire_core::RecurringRecord| {
        (record.definition.id.to_string(), record.definition.app.clone())
    };
    page.recurring.iter().map(named).collect()
}

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(id, app)| (id.to_string(), app.to_string())).collect()
}

#[test]
fn what_code_declares_is_stored_and_what_it_declares_no_more_is_removed() {
    play(|stage| async move {
        stage.on("tick", |_| async { DONE });
        let shop = |jobs: Vec<&'static JobDescriptor>| stage.server().app("shop").register(jobs);
        let both = shop(vec![declaring("a", hourly), declaring("b", daily)]).start();
        both.await.unwrap().shutdown().await;
        assert_eq!(declared(&stage).await, named(&[("daily", "shop"), ("hourly", "shop")]));
        let next_at = stage.storage.recurring(RecurringId::stored("hourly")).await.unwrap();
        stage.world.pass(60 * SECOND).await;
        // Made by a client, not declared.
        let mut own = every("by-hand", SECOND);
        own.app = "shop".to_owned();
        upsert(&stage, own).await;

        shop(vec![declaring("a", hourly)]).start().await.unwrap().shutdown().await;
        assert_eq!(declared(&stage).await, named(&[("by-hand", "shop"), ("hourly", "shop")]));
        let still = stage.storage.recurring(RecurringId::stored("hourly")).await.unwrap();
        assert_eq!(still, next_at, "an unchanged schedule is not moved");
    });
}

#[test]
fn one_application_never_touches_anothers() {
    play(|stage| async move {
        stage.on("tick", |_| async { DONE });
        let app = |app: &str, job| stage.server().app(app).register([job]);
        app("shop", declaring("a", hourly)).start().await.unwrap().shutdown().await;
        app("crm", declaring("b", daily)).start().await.unwrap().shutdown().await;
        assert_eq!(declared(&stage).await, named(&[("daily", "crm"), ("hourly", "shop")]));
        // A server without a name removes nothing at all.
        stage.start().await.shutdown().await;
        assert_eq!(declared(&stage).await.len(), 2);
        let refusal = app("crm", declaring("c", hourly)).start().await.unwrap_err().to_string();
        assert!(refusal.contains("recurring job `hourly`, declared at tests/c.rs:1"), "{refusal}");
        assert!(refusal.contains("it belongs to application `shop`"), "{refusal}");
        let theirs = stage.storage.recurring(RecurringId::stored("hourly")).await.unwrap().unwrap();
        assert_eq!(theirs.definition.app, "shop");
    });
}

#[test]
fn bad_declarations_are_listed_with_everything_else() {
    let bad_cron = || {
        let (id, kind) = (RecurringId::stored("bad"), KindName::stored("tick"));
        NewRecurring::new(id, Schedule::cron("0 25 * * *"), kind, Json::empty())
    };
    let bad_zone = || {
        let zone = "Europe/Atlantis".to_owned();
        let schedule = Schedule::Cron { text: "@daily".to_owned(), zone };
        let (id, kind) = (RecurringId::stored("lost"), KindName::stored("tick"));
        NewRecurring::new(id, schedule, kind, Json::empty())
    };
    let jobs = [
        declaring("a", bad_cron),
        declaring("b", bad_zone),
        declaring("c", hourly),
        declaring("d", hourly),
    ];
    let server = Server::builder(Arc::new(portfire_core::MemoryStorage::new()));
    let refusal = server.register(jobs).app("").workers(0).check().unwrap_err();
    let text = refusal.to_string();
    for expected in [
        "recurring job `bad`, declared at tests/a.rs:1: recurring job: ",
        "recurring job `lost`, declared at tests/b.rs:1: recurring job: ",
        "Europe/Atlantis",
        "recurring job `hourly`, declared at tests/d.rs:1: it is declared at tests/c.rs:1 too",
        "`app`: the name of an application has 1 to 128 bytes",
        "it has no workers",
        "there is no runtime",
    ] {
        assert!(text.contains(expected), "`{expected}` is missing in {text}");
    }
}

#[test]
fn a_storage_that_does_not_take_what_is_declared_is_said_at_start() {
    play(|stage| async move {
        stage.on("tick", |_| async { DONE });
        stage.storage.next(Op::ChangeRecurring, Fault::Lost);
        let server = || stage.server().app("shop").register([declaring("a", hourly)]);
        let refusal = server().start().await.unwrap_err();
        assert!(matches!(refusal, StartError::Storage(_)), "{refusal}");
        assert_eq!(stage.storage.servers().await.unwrap(), [], "nothing was announced");
        server().start().await.unwrap().shutdown().await;
    });
}

#[test]
fn a_run_by_hand_does_not_move_the_schedule_and_says_what_it_is() {
    play(|stage| async move {
        let notes = stage.notes.clone();
        stage.on("tick", move |cx| {
            notes.add(format!("triggered {}", cx.tick().triggered));
            async { DONE }
        });
        let _server = stage.start().await;
        upsert(&stage, every("r", 60 * SECOND)).await;
        let (id, job): (_, JobId) = (RecurringId::stored("r"), stage.client.next_id());
        let trigger = RecurringChange::Trigger { id, job };
        let changed = stage.storage.change_recurring(trigger).await.unwrap();
        assert_eq!(changed, RecurringChanged::Triggered(job));
        let done = stage.until_state(job, StateName::Succeeded).await;
        assert!(matches!(done.state, JobState::Succeeded { .. }));
        stage.world.pass(61 * SECOND).await;
        assert_eq!(stage.notes.all(), ["triggered true", "triggered false"]);
    });
}

#[test]
fn faults_in_a_row_disable_a_recurring_job_and_leave_the_others_alone() {
    play(|stage| async move {
        on_tick(&stage);
        upsert(&stage, every("good", 10 * SECOND)).await;
        upsert(&stage, every("bad", 10 * SECOND)).await;
        // Servers with older time zone data than whoever stored it may fail to read a schedule: each
        // look then answers a record that cannot be compiled here.
        stage.storage.garble("bad");
        let _server = stage.start().await;
        stage.world.pass(Duration::from_secs(60 * u64::from(FAULTS_MAX) + 35)).await;
        let record = stage.storage.recurring(RecurringId::stored("bad")).await.unwrap().unwrap();
        let fault = record.fault.unwrap();
        assert!(fault.disabled && fault.count == FAULTS_MAX, "{fault:?}");
        assert!(fault.reason.contains("Atlantis"), "{fault:?}");
        assert_eq!(runs(&stage, "good").await.len(), 33);
    });
}
