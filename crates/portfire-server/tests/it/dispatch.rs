//! How jobs come to the workers: batches, prefetch, bounds, wake-ups and polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portfire_core::{Cause, Monitor, StateName};
use portfire_server::Runtime;

use crate::faulty::Op;
use crate::stage::{DONE, SECOND, Stage, ms, play};

/// Adds a handler that takes a time and counts how many run beside it.
fn on_counted(stage: &Stage, kind: &str, takes: Duration) -> Arc<AtomicUsize> {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (world, result) = (stage.world.clone(), Arc::clone(&most));
    stage.on(kind, move |_| {
        let (world, running, most) = (world.clone(), Arc::clone(&running), Arc::clone(&most));
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            world.pass(takes).await;
            running.fetch_sub(1, Ordering::SeqCst);
            DONE
        }
    });
    result
}

#[test]
fn no_more_async_handlers_run_at_a_time_than_there_are_workers() {
    play(|stage| async move {
        let most = on_counted(&stage, "job", ms(20));
        let _server = stage.server().workers(3).start().await.unwrap();
        stage.enqueue_many("job", "default", 50).await;
        stage.until_count(StateName::Succeeded, 50).await;
        assert_eq!(most.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn blocking_handlers_have_slots_of_their_own() {
    play(|stage| async move {
        let (notes, most) = (stage.notes.clone(), on_counted(&stage, "async", ms(20)));
        let running = Arc::new(AtomicUsize::new(0));
        stage.on_blocking("sync", move |_| {
            assert!(running.fetch_add(1, Ordering::SeqCst) < 2, "three at a time");
            notes.add("ran");
            running.fetch_sub(1, Ordering::SeqCst);
            DONE
        });
        let server = stage.server().workers(1).blocking_workers(2);
        let _server = server.start().await.unwrap();
        for _ in 0..10 {
            stage.enqueue("sync").await;
            stage.enqueue("async").await;
        }
        stage.until_count(StateName::Succeeded, 20).await;
        assert_eq!((stage.notes.count("ran"), most.load(Ordering::SeqCst)), (10, 1));
    });
}

#[test]
fn a_flood_of_short_jobs_is_claimed_and_finished_in_batches_of_hundreds() {
    play(|stage| async move {
        stage.on("short", |_| async { DONE });
        stage.storage.cycles_take(ms(5));
        stage.enqueue_many("short", "default", 10_000).await;
        let server = stage.start().await;
        stage.world.until("all are reported", || server.stats().finished_total == 10_000).await;
        let stats = server.stats();
        assert!(stats.cycles_total < 40, "{stats:?}");
        assert_eq!((stats.claimed_total, stats.fenced_total), (10_000, 0));
        let largest = stage.storage.cycles().iter().map(|cycle| cycle.finished.len()).max();
        assert!((500..=1_024).contains(&largest.unwrap()), "{largest:?}");
    });
}

#[test]
fn a_single_job_goes_at_once() {
    play(|stage| async move {
        stage.on("short", |_| async { DONE });
        let _server = stage.start().await;
        stage.world.pass(ms(2_345)).await;
        let before = stage.world.elapsed();
        let id = stage.enqueue("short").await;
        stage.until_state(id, StateName::Succeeded).await;
        assert!(stage.world.elapsed() - before <= ms(2));
    });
}

#[test]
fn long_jobs_are_left_to_servers_that_have_time() {
    play(|stage| async move {
        on_counted(&stage, "long", 10 * SECOND);
        let one = stage.server().workers(4).start().await.unwrap();
        stage.enqueue_many("long", "default", 8).await;
        stage.world.pass(ms(10)).await;
        let other = stage.server().workers(4).start().await.unwrap();
        stage.world.pass(ms(10)).await;
        assert_eq!((one.stats().running, other.stats().running), (4, 4));
        stage.until_count(StateName::Succeeded, 8).await;
        assert!(stage.world.elapsed() < 11 * SECOND);
    });
}

#[test]
fn what_was_fetched_ahead_in_vain_is_given_back() {
    play(|stage| async move {
        on_counted(&stage, "long", 60 * SECOND);
        stage.on("short", |_| async { DONE });
        let one = stage.server().workers(2).start().await.unwrap();
        stage.enqueue_many("short", "default", 100).await;
        stage.until_count(StateName::Succeeded, 100).await;
        let ids = stage.enqueue_many("long", "default", 20).await;
        stage.world.until("they are fetched", || one.stats().ready == 18).await;
        stage.world.pass(3 * SECOND).await;
        assert_eq!((one.stats().running, one.stats().ready), (2, 2));
        let other = stage.server().workers(16).start().await.unwrap();
        stage.world.until("the other runs them", || other.stats().running == 16).await;
        let last = stage.job(ids[19]).await;
        assert_eq!((last.failures, last.recoveries, last.attempt), (0, 0, 2));
        assert!(stage.causes(ids[19]).await.contains(&Cause::Released));
    });
}

#[test]
fn a_lost_wake_up_costs_no_more_than_a_poll() {
    play(|stage| async move {
        stage.on("short", |_| async { DONE });
        stage.storage.deafen();
        let _server = stage.server().poll_interval(2 * SECOND).start().await.unwrap();
        stage.world.pass(ms(5_100)).await;
        let before = stage.world.elapsed();
        let id = stage.enqueue("short").await;
        stage.until_state(id, StateName::Succeeded).await;
        assert!(stage.world.elapsed() - before <= 2 * SECOND + ms(5));
        let delayed = stage.enqueue_with("short", |mut job| {
            job.when = ms(500).into();
            job
        });
        let delayed = delayed.await;
        let before = stage.world.elapsed();
        stage.until_state(delayed, StateName::Succeeded).await;
        assert!(stage.world.elapsed() - before <= 5 * SECOND);
    });
}

#[test]
fn an_idle_server_looks_once_a_poll_and_beats_once_a_heartbeat() {
    play(|stage| async move {
        stage.on("short", |_| async { DONE });
        let _server = stage.start().await;
        let before = stage.world.elapsed();
        stage.world.pass(60 * SECOND).await;
        let since = |op| stage.storage.calls(op).iter().filter(|at| **at > before).count();
        assert!((55..=61).contains(&since(Op::Cycle)), "{}", since(Op::Cycle));
        assert!((55..=61).contains(&since(Op::Promote)), "{}", since(Op::Promote));
        assert!((5..=7).contains(&since(Op::Heartbeat)), "{}", since(Op::Heartbeat));
        assert!((11..=14).contains(&since(Op::Rescue)), "{}", since(Op::Rescue));
        assert!((1..=2).contains(&since(Op::Clean)), "{}", since(Op::Clean));
        assert_eq!(since(Op::Verify), 0);
    });
}

#[test]
fn wake_ups_in_a_flood_do_not_make_the_promoter_run_for_each() {
    play(|stage| async move {
        stage.on("short", |_| async { DONE });
        let _server = stage.start().await;
        for _ in 0..1_000 {
            stage.enqueue("short").await;
            stage.world.pass(ms(1)).await;
        }
        let passes = stage.storage.calls(Op::Promote).len();
        assert!(passes <= 25, "{passes} passes in a second");
    });
}

#[test]
fn expired_jobs_are_cleaned_in_chunks() {
    play(|stage| async move {
        stage.on("short", |_| async { DONE });
        // A day of looking once a second is a day of waiting for the test.
        let _server = stage.server().poll_interval(600 * SECOND).start().await.unwrap();
        stage.enqueue_many("short", "default", 2_500).await;
        stage.until_count(StateName::Succeeded, 2_500).await;
        stage.world.pass(86_400 * SECOND + 70 * SECOND).await;
        let counts = stage.storage.counts().await.unwrap();
        assert_eq!((counts.of(StateName::Succeeded), counts.cleaned_total), (0, 2_500));
    });
}
