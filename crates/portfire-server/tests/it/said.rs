//! What running jobs say: log lines, bars, metadata, tags; when it is sent, and what is dropped.

use std::sync::Arc;

use portfire_core::notes::LOG_BYTES_MAX;
use portfire_core::{JobError, Json, Level, Monitor, Progress, StateName};

use crate::faulty::{Fault, Op};
use crate::stage::{DONE, SECOND, Stage, ms, play};

/// Adds a handler that logs a line every so often.
fn on_talking(stage: &Stage, kind: &str, lines: u32, every: std::time::Duration) {
    let world = stage.world.clone();
    stage.on(kind, move |cx| {
        let world = world.clone();
        async move {
            for n in 0..lines {
                cx.log(format_args!("line {n}"));
                world.pass(every).await;
            }
            DONE
        }
    });
}

#[test]
fn a_log_can_be_read_while_its_job_runs_and_has_the_times_of_its_lines() {
    play(|stage| async move {
        on_talking(&stage, "talk", 10, SECOND);
        let _server = stage.start().await;
        let id = stage.enqueue("talk").await;
        stage.world.pass(ms(4_500)).await;
        assert_eq!(stage.state(id).await, StateName::Processing);
        let seen = stage.log(id).await.len();
        assert!((4..=5).contains(&seen), "{seen} lines after 4.5 s");
        let job = stage.until_state(id, StateName::Succeeded).await;
        let lines = stage.storage.log(id, None, 100).await.unwrap().lines;
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().enumerate().all(|(n, line)| line.text == format!("line {n}")));
        assert!(lines.iter().all(|line| (line.attempt, line.level) == (1, Level::Info)));
        let apart = lines[9].at.since(lines[0].at);
        assert!(apart >= 9 * SECOND && apart < 10 * SECOND, "{apart:?}");
        assert!(lines[0].at >= job.created_at);
    });
}

#[test]
fn a_job_that_talks_all_the_time_is_sent_at_most_once_a_second() {
    play(|stage| async move {
        on_talking(&stage, "talk", 1_000, ms(10));
        stage.on("short", |_| async { DONE });
        let _server = stage.server().workers(4).start().await.unwrap();
        let id = stage.enqueue("talk").await;
        // Cycles go all the time, and do not take the log along each time.
        for _ in 0..200 {
            stage.enqueue("short").await;
            stage.world.pass(ms(50)).await;
        }
        stage.until_state(id, StateName::Succeeded).await;
        let pieces = stage.storage.cycles().iter().map(|cycle| cycle.notes.len()).sum::<usize>();
        assert!((9..=13).contains(&pieces), "{pieces} pieces in 10 s");
        assert_eq!(stage.log(id).await.len(), 500, "a page");
    });
}

#[test]
fn jobs_that_say_nothing_send_nothing() {
    play(|stage| async move {
        stage.on("short", |_| async { DONE });
        let _server = stage.start().await;
        stage.enqueue_many("short", "default", 100).await;
        stage.until_count(StateName::Succeeded, 100).await;
        assert!(stage.storage.cycles().iter().all(|cycle| cycle.notes.is_empty()));
    });
}

#[test]
fn a_blocking_handler_says_as_much_as_another() {
    play(|stage| async move {
        let world = stage.world.clone();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        stage.on_blocking("sync", move |cx| {
            cx.log_at(Level::Warn, "odd");
            cx.progress(40);
            world.parked(|| wait.lock().unwrap().recv().unwrap());
            let bar = cx.progress_bar("rows", 3);
            let sum: u32 = bar.wrap([1, 2, 3]).sum();
            cx.log(format_args!("sum {sum}"));
            DONE
        });
        let _server = stage.start().await;
        let id = stage.enqueue("sync").await;
        // Written may be the first word at once, and then the rest at the next turn.
        stage.world.pass(2 * SECOND).await;
        assert_eq!(stage.log(id).await, ["odd"]);
        let bar = |bar: &str, done, total| Progress { bar: bar.into(), done, total };
        let notes = stage.storage.notes(id).await.unwrap();
        assert_eq!(notes.progress, [bar("progress", 40, 100)]);
        go.send(()).unwrap();
        stage.until_state(id, StateName::Succeeded).await;
        assert_eq!(stage.log(id).await, ["odd", "sum 6"]);
        let notes = stage.storage.notes(id).await.unwrap();
        assert_eq!(notes.progress, [bar("progress", 40, 100), bar("rows", 3, 3)]);
    });
}

#[test]
fn what_was_set_is_there_in_the_next_attempt() {
    play(|stage| async move {
        stage.on("resume", |cx| async move {
            let at: Option<u32> = cx.get("cursor").await.unwrap();
            let lang: Option<String> = cx.get("lang").await.unwrap();
            assert_eq!(lang.as_deref(), Some("nl"));
            cx.set("cursor", &(at.unwrap_or(0) + 10))?;
            assert_eq!(cx.get::<u32>("cursor").await.unwrap(), Some(at.unwrap_or(0) + 10));
            cx.tag("resumed");
            if cx.attempt() < 3 { Err(JobError::snooze(SECOND)) } else { DONE }
        });
        let _server = stage.start().await;
        let id = stage.enqueue_with("resume", |mut job| {
            job.options.metadata.insert("lang".to_owned(), "nl".to_owned());
            job
        });
        let id = id.await;
        stage.until_state(id, StateName::Succeeded).await;
        let notes = stage.storage.notes(id).await.unwrap();
        assert_eq!(notes.metadata["cursor"], Json::stored("30"));
        assert_eq!(notes.tags, ["resumed"]);
    });
}

#[test]
fn a_flood_of_lines_fills_neither_memory_nor_storage() {
    play(|stage| async move {
        stage.on("flood", |cx| async move {
            (0..100_000).for_each(|n| cx.log(format_args!("line {n} {}", "x".repeat(80))));
            DONE
        });
        let _server = stage.start().await;
        let id = stage.enqueue("flood").await;
        stage.until_state(id, StateName::Succeeded).await;
        let lines = stage.all_lines(id).await;
        let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
        assert!(bytes <= LOG_BYTES_MAX && bytes > LOG_BYTES_MAX / 2, "{bytes}");
        let last = lines.last().unwrap();
        assert!(last.text.contains("more lines") && last.level == Level::Warn, "{}", last.text);
    });
}

#[test]
fn a_piece_whose_answer_was_lost_is_there_once() {
    play(|stage| async move {
        on_talking(&stage, "talk", 5, SECOND);
        let _server = stage.start().await;
        let id = stage.enqueue("talk").await;
        for _ in 0..4 {
            stage.world.pass(SECOND).await;
            stage.storage.next(Op::Cycle, Fault::AnswerLost);
        }
        stage.until_state(id, StateName::Succeeded).await;
        assert!(
            stage.storage.cycles().iter().any(|cycle| cycle.repeated && !cycle.notes.is_empty())
        );
        assert_eq!(stage.log(id).await, ["line 0", "line 1", "line 2", "line 3", "line 4"]);
    });
}

#[test]
fn what_a_job_says_after_its_lease_was_lost_is_dropped() {
    play(|stage| async move {
        let (world, notes) = (stage.world.clone(), stage.notes.clone());
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        stage.on_blocking("deaf", move |cx| {
            cx.log(format_args!("attempt {}", cx.attempt()));
            if cx.attempt() == 1 {
                // Ignores its token, as code that blocks may.
                world.parked(|| wait.lock().unwrap().recv().unwrap());
            }
            cx.log(format_args!("end of {}", cx.attempt()));
            notes.add("ended");
            DONE
        });
        let server = || stage.server().blocking_workers(1).start();
        let _paused = server().await.unwrap();
        let id = stage.enqueue("deaf").await;
        stage.until_state(id, StateName::Processing).await;
        stage.world.pass(SECOND).await;
        for op in [Op::Heartbeat, Op::Verify] {
            stage.storage.all(op, Fault::Lost);
        }
        stage.world.pass(40 * SECOND).await;
        stage.storage.heal();
        let _other = server().await.unwrap();
        stage.until_state(id, StateName::Succeeded).await;
        go.send(()).unwrap();
        stage.world.until("the first has ended", || stage.notes.count("ended") == 2).await;
        stage.world.pass(5 * SECOND).await;
        assert_eq!(stage.log(id).await, ["attempt 1", "attempt 2", "end of 2"]);
    });
}

/// Adds a handler that never ends, never stops talking, and notes what it says.
fn on_endless(stage: &Stage, kind: &str) {
    let (world, notes) = (stage.world.clone(), stage.notes.clone());
    stage.on(kind, move |cx| {
        let (world, notes) = (world.clone(), notes.clone());
        async move {
            loop {
                notes.add(format!("line {}", notes.all().len()));
                cx.log(notes.all().last().unwrap());
                world.pass(ms(90)).await;
            }
        }
    });
}

#[test]
fn the_last_words_of_what_is_given_up_at_a_shutdown_are_kept() {
    play(|stage| async move {
        on_endless(&stage, "deaf");
        let id = stage.enqueue("deaf").await;
        let server = stage.server().shutdown_timeout(ms(5_500)).start().await.unwrap();
        stage.until_state(id, StateName::Processing).await;
        assert_eq!(server.shutdown().await.overdue, 1);
        let said = stage.notes.all();
        assert!(said.len() > 40, "{said:?}");
        assert_eq!(stage.log(id).await, said);
    });
}

#[test]
fn what_has_spoken_does_not_outlive_its_server() {
    play(|stage| async move {
        on_endless(&stage, "deaf");
        let runtime = Arc::new(stage.world.clone());
        let kept = Arc::downgrade(&runtime);
        let server = stage.server().runtime(runtime).start().await.unwrap();
        let id = stage.enqueue("deaf").await;
        stage.until_state(id, StateName::Processing).await;
        stage.world.pass(ms(1_500)).await;
        drop(server);
        stage.world.until("nothing is left of the server", || kept.strong_count() == 0).await;
    });
}

#[test]
fn a_bar_moves_as_its_rows_are_done() {
    play(|stage| async move {
        let world = stage.world.clone();
        stage.on("rows", move |cx| {
            let world = world.clone();
            async move {
                let bar = cx.progress_bar("rows", 4);
                for _ in bar.wrap(0..6) {
                    world.pass(SECOND).await;
                }
                DONE
            }
        });
        let _server = stage.start().await;
        let id = stage.enqueue("rows").await;
        stage.world.pass(ms(2_900)).await;
        let notes = stage.storage.notes(id).await.unwrap();
        assert!((1..=2).contains(&notes.progress[0].done), "{:?}", notes.progress);
        stage.until_state(id, StateName::Succeeded).await;
        assert_eq!(stage.storage.notes(id).await.unwrap().progress[0].done, 4);
        let log = stage.log(id).await;
        assert!(log.len() == 1 && log[0].contains("`rows` went beyond its total of 4"), "{log:?}");
    });
}

#[test]
fn a_result_that_cannot_be_kept_is_dropped_and_the_log_says_so() {
    play(|stage| async move {
        stage.on("large", |_| async { Ok(Some(Json::stored("1".repeat(101)))) });
        stage.on("map", |_| async {
            let odd = std::collections::BTreeMap::from([(vec![1u8], 1)]);
            portfire_server::handler::encode_result(&odd)
        });
        stage.on_blocking("map_sync", |_| {
            let odd = std::collections::BTreeMap::from([(vec![1u8], 1)]);
            portfire_server::handler::encode_result(&odd)
        });
        let _server = stage.server().result_bytes_max(100).start().await.unwrap();
        for (kind, why) in [
            ("large", "it has 101 bytes, and at most 100 are kept"),
            ("map", "it cannot be written as JSON: key must be a string"),
            ("map_sync", "it cannot be written as JSON: key must be a string"),
        ] {
            let id = stage.enqueue(kind).await;
            let job = stage.until_state(id, StateName::Succeeded).await;
            assert!(format!("{:?}", job.state).contains("result: None"), "{:?}", job.state);
            let log = stage.log(id).await;
            assert!(log.len() == 1 && log[0].contains(why), "{kind}: {log:?}");
        }
    });
}
