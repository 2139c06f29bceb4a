//! The end of a server: what ends in time counts, the rest goes back where it was.

use portfire_core::{Cause, Monitor, StateName};
use portfire_server::{HandlerResult, Phase, Runtime};

use crate::cancel::on_listening;
use crate::faulty::{Fault, Op};
use crate::stage::{DONE, SECOND, Stage, ms, play};

fn on_lasting(stage: &Stage, kind: &str, time: std::time::Duration) {
    let world = stage.world.clone();
    stage.on(kind, move |_| {
        let world = world.clone();
        async move {
            world.pass(time).await;
            DONE
        }
    });
}

#[test]
fn an_idle_server_ends_at_once_and_is_gone() {
    play(|stage| async move {
        on_lasting(&stage, "job", SECOND);
        let server = stage.start().await;
        let report = server.shutdown().await;
        assert_eq!((report.released, report.overdue, report.retired), (0, 0, true));
        assert!(report.took < ms(10), "{report:?}");
        let servers = stage.storage.servers().await.unwrap();
        assert!(servers.iter().all(|server| server.dead), "{servers:?}");
    });
}

#[test]
fn a_job_that_ends_in_time_is_committed() {
    play(|stage| async move {
        on_lasting(&stage, "short", ms(300));
        on_lasting(&stage, "long", 10 * SECOND);
        let server = stage.start().await;
        let (short, long) = (stage.enqueue("short").await, stage.enqueue("long").await);
        stage.until_state(long, StateName::Processing).await;
        let report = server.shutdown().await;
        assert_eq!((report.overdue, report.retired), (0, true));
        assert!((9 * SECOND..11 * SECOND).contains(&report.took), "{report:?}");
        for id in [short, long] {
            let job = stage.job(id).await;
            assert_eq!((job.state.name(), job.attempt), (StateName::Succeeded, 1));
        }
    });
}

#[test]
fn a_job_that_hears_the_shutdown_goes_back_to_its_place_at_no_cost() {
    play(|stage| async move {
        on_listening(&stage, "listening");
        let server = stage.server().workers(1).start().await.unwrap();
        let first = stage.enqueue("listening").await;
        let second = stage.enqueue("listening").await;
        stage.until_state(first, StateName::Processing).await;
        let report = server.shutdown().await;
        assert!((ms(500)..ms(520)).contains(&report.took), "{report:?}");
        assert_eq!((report.overdue, report.retired), (0, true));
        let job = stage.job(first).await;
        assert_eq!((job.state.name(), job.failures), (StateName::Enqueued, 0));
        assert_eq!(stage.notes.all(), ["started", "Shutdown"]);

        // Its old place is before the second.
        let _next = stage.server().workers(1).start().await.unwrap();
        stage.until_state(first, StateName::Processing).await;
        assert_eq!(stage.state(second).await, StateName::Enqueued);
    });
}

#[test]
fn what_still_runs_at_the_deadline_is_given_up_and_goes_back() {
    play(|stage| async move {
        let notes = stage.notes.clone();
        stage.on("deaf", move |_| {
            notes.add("started");
            std::future::pending::<HandlerResult>()
        });
        let server = stage.server().shutdown_timeout(5 * SECOND).start().await.unwrap();
        let id = stage.enqueue("deaf").await;
        stage.until_state(id, StateName::Processing).await;
        let report = server.shutdown().await;
        assert_eq!((report.overdue, report.retired), (1, true));
        assert!((5 * SECOND..ms(5_100)).contains(&report.took), "{report:?}");
        let job = stage.job(id).await;
        assert_eq!((job.state.name(), job.failures), (StateName::Enqueued, 0));
        assert_eq!(job.recoveries, 0);

        let _next = stage.start().await;
        stage.world.until("it runs again", || stage.notes.count("started") == 2).await;
    });
}

#[test]
fn a_blocking_handler_that_ignores_the_shutdown_is_abandoned_and_fenced() {
    play(|stage| async move {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let (world, notes) = (stage.world.clone(), stage.notes.clone());
        stage.on_blocking("stubborn", move |cx| {
            notes.add(format!("attempt {}", cx.attempt()));
            if cx.attempt() == 1 {
                let _ = world.parked(|| wait.lock().unwrap().recv());
                notes.add("returned");
            }
            DONE
        });
        let server = stage.server().shutdown_timeout(2 * SECOND).start().await.unwrap();
        let id = stage.enqueue("stubborn").await;
        stage.until_state(id, StateName::Processing).await;
        let report = server.shutdown().await;
        assert_eq!((report.overdue, report.retired), (1, true));
        let _next = stage.start().await;
        let job = stage.until_state(id, StateName::Succeeded).await;
        assert_eq!((job.attempt, job.failures, job.recoveries), (2, 0, 0));
        go.send(()).unwrap();
        stage.world.until("the old one is back", || stage.notes.count("returned") == 1).await;
        assert_eq!(stage.job(id).await.revision, job.revision);
    });
}

#[test]
fn what_was_fetched_and_not_started_goes_back_at_once() {
    play(|stage| async move {
        stage.on("short", |_| async { DONE });
        on_listening(&stage, "long");
        let server = stage.server().workers(1).start().await.unwrap();
        stage.enqueue_many("short", "default", 100).await;
        stage.until_count(StateName::Succeeded, 100).await;
        let long = stage.enqueue_many("long", "default", 11).await;
        stage.world.until("ten are ready", || server.stats().ready == 10).await;
        let report = server.shutdown().await;
        assert_eq!((report.released, report.overdue), (10, 0));
        for id in &long {
            let job = stage.job(*id).await;
            assert_eq!((job.state.name(), job.failures), (StateName::Enqueued, 0));
        }
        assert_eq!(stage.causes(long[5]).await.last(), Some(&Cause::Released));
        assert_eq!(stage.notes.count("started"), 1);
    });
}

#[test]
fn a_quiet_server_claims_nothing_and_ends_what_it_has() {
    play(|stage| async move {
        on_lasting(&stage, "job", 2 * SECOND);
        let server = stage.server().workers(1).start().await.unwrap();
        let first = stage.enqueue("job").await;
        stage.until_state(first, StateName::Processing).await;
        server.quiet();
        let second = stage.enqueue("job").await;
        stage.until_state(first, StateName::Succeeded).await;
        stage.world.pass(60 * SECOND).await;
        assert_eq!(stage.state(second).await, StateName::Enqueued);
        assert!(server.stats().heartbeats_total >= 5);
        let report = server.shutdown().await;
        assert!(report.took < ms(10));
    });
}

#[test]
fn a_server_runs_until_it_is_told_to_stop() {
    play(|stage| async move {
        on_lasting(&stage, "job", SECOND);
        let server = stage.start().await;
        let id = stage.enqueue("job").await;
        let stop = stage.world.sleep(ms(100));
        let report = server.run_until(stop).await.unwrap();
        assert!(report.retired);
        assert_eq!(stage.state(id).await, StateName::Succeeded);
    });
}

#[test]
fn a_shutdown_without_a_storage_ends_in_time() {
    play(|stage| async move {
        on_lasting(&stage, "job", SECOND);
        let server = stage.server().shutdown_timeout(5 * SECOND).start().await.unwrap();
        let id = stage.enqueue("job").await;
        stage.until_state(id, StateName::Processing).await;
        stage.storage.outage();
        let report = server.shutdown().await;
        assert!(!report.retired);
        assert!(report.took <= 10 * SECOND, "{report:?}");

        stage.storage.heal();
        let _next = stage.start().await;
        let job = stage.until_state(id, StateName::Succeeded).await;
        assert_eq!((job.recoveries, job.failures), (1, 0));
    });
}

#[test]
fn a_retirement_whose_answer_is_lost_is_repeated() {
    play(|stage| async move {
        on_lasting(&stage, "job", SECOND);
        let server = stage.start().await;
        stage.storage.next(Op::Retire, Fault::AnswerLost);
        assert!(server.shutdown().await.retired);
        assert_eq!(stage.storage.calls(Op::Retire).len(), 2);
        // The heartbeat did not take the retirement for a death and announce the server anew.
        stage.world.pass(60 * SECOND).await;
        assert_eq!(stage.storage.calls(Op::Announce).len(), 1);
    });
}

#[test]
fn heartbeats_go_on_while_the_server_stops() {
    play(|stage| async move {
        on_lasting(&stage, "job", 100 * SECOND);
        let server = stage.server().shutdown_timeout(200 * SECOND).start().await.unwrap();
        let id = stage.enqueue("job").await;
        stage.until_state(id, StateName::Processing).await;
        let other = stage.start().await;
        let report = server.shutdown().await;
        assert_eq!((report.overdue, report.retired), (0, true));
        let job = stage.job(id).await;
        assert_eq!((job.state.name(), job.attempt, job.recoveries), (StateName::Succeeded, 1, 0));
        drop(other);
    });
}

#[test]
fn phases_come_in_order() {
    let phases = [Phase::Running, Phase::Quiet, Phase::Stopping, Phase::Ended];
    assert!(phases.is_sorted());
}
