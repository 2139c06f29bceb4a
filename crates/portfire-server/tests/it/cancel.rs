//! Attempts that are to stop: timeouts and deletions, of async handlers and of threads.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;

use portfire_core::{
    CancelReason, Conflict, JobState, LimitName, LimitRule, LimitUse, NewJob, RetryPolicy,
    StateName, Storage, UniqueKey, UniqueScope,
};
use portfire_server::{HandlerResult, JobContext, Runtime};

use crate::stage::{DONE, Notes, SECOND, Stage, ms, play};

/// Notes when it is dropped.
struct Dropped(Notes);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add("dropped");
    }
}

/// Adds a handler that listens to nothing and never ends.
fn on_deaf(stage: &Stage, kind: &str) {
    let notes = stage.notes.clone();
    stage.on(kind, move |_| {
        let dropped = Dropped(notes.clone());
        async move {
            let _dropped = dropped;
            std::future::pending::<HandlerResult>().await
        }
    });
}

/// Adds a handler that waits for its cancellation and notes what it hears.
pub(crate) fn on_listening(stage: &Stage, kind: &str) {
    let notes = stage.notes.clone();
    stage.on(kind, move |cx: JobContext| {
        let notes = notes.clone();
        async move {
            notes.add("started");
            let cancelled = cx.cancellation().cancelled().await;
            notes.add(format!("{:?}", cancelled.reason));
            Err(cancelled.into())
        }
    });
}

/// Adds a blocking handler that does not end before the test says so, whatever its token says.
fn on_stubborn(stage: &Stage, kind: &str) -> mpsc::Sender<()> {
    let (go, wait) = mpsc::channel();
    let wait = Arc::new(Mutex::new(wait));
    let (world, notes) = (stage.world.clone(), stage.notes.clone());
    stage.on_blocking(kind, move |_| {
        notes.add("thread started");
        let went_on = world.parked(|| wait.lock().unwrap().recv());
        notes.add("thread returned");
        went_on.map_err(|_| portfire_core::JobError::new("the test is over"))?;
        DONE
    });
    go
}

#[test]
fn an_async_handler_that_ignores_its_timeout_is_dropped_and_has_failed() {
    play(|stage| async move {
        on_deaf(&stage, "deaf");
        let _server = stage.server().retry(RetryPolicy::none()).start().await.unwrap();
        let id = stage.enqueue_with("deaf", |mut job| {
            job.options.timeout = Some(2 * SECOND);
            job
        });
        let id = id.await;
        let job = stage.until_state(id, StateName::Failed).await;
        let JobState::Failed { error, .. } = job.state else { panic!() };
        assert_eq!(error.class, "timeout");
        assert!(error.message.contains("2s"), "{error}");
        assert_eq!(stage.notes.all(), ["dropped"]);
        assert!(stage.world.elapsed() < ms(2_200), "{:?}", stage.world.elapsed());
    });
}

#[test]
fn a_handler_that_hears_its_timeout_has_failed_by_timeout_too() {
    play(|stage| async move {
        on_listening(&stage, "listening");
        let _server = stage.server().retry(RetryPolicy::none()).start().await.unwrap();
        let id = stage.enqueue_with("listening", |mut job| {
            job.options.timeout = Some(SECOND);
            job
        });
        let job = stage.until_state(id.await, StateName::Failed).await;
        let JobState::Failed { error, .. } = job.state else { panic!() };
        assert_eq!(error.class, "timeout");
        assert_eq!(stage.notes.all(), ["started", "Timeout"]);
    });
}

#[test]
fn a_handler_in_time_is_not_disturbed_by_its_timeout() {
    play(|stage| async move {
        let world = stage.world.clone();
        stage.on("quick", move |_| {
            let world = world.clone();
            async move {
                world.pass(ms(900)).await;
                DONE
            }
        });
        let _server = stage.start().await;
        let id = stage.enqueue_with("quick", |mut job| {
            job.options.timeout = Some(SECOND);
            job
        });
        assert_eq!(stage.until_state(id.await, StateName::Succeeded).await.failures, 0);
    });
}

#[test]
fn a_blocking_handler_that_ignores_its_timeout_has_failed_but_keeps_its_slot() {
    play(|stage| async move {
        let go = on_stubborn(&stage, "stubborn");
        let policy = RetryPolicy::none();
        let server = stage.server().retry(policy).blocking_workers(1).start().await.unwrap();
        let id = stage.enqueue_with("stubborn", |mut job| {
            job.options.timeout = Some(2 * SECOND);
            job
        });
        let first = id.await;
        let job = stage.until_state(first, StateName::Failed).await;
        let JobState::Failed { error, .. } = job.state else { panic!() };
        assert_eq!(error.class, "timeout");
        assert_eq!(stage.notes.all(), ["thread started"]);

        // Its thread holds the only slot: the next one waits.
        let second = stage.enqueue("stubborn").await;
        stage.world.pass(10 * SECOND).await;
        assert_eq!(stage.notes.count("thread started"), 1);
        go.send(()).unwrap();
        stage
            .world
            .until("the second has started", || stage.notes.count("thread started") == 2)
            .await;
        go.send(()).unwrap();
        stage.until_state(second, StateName::Succeeded).await;
        assert_eq!(stage.state(first).await, StateName::Failed);
        assert_eq!(server.stats().fenced_total, 0);
    });
}

/// Under a limit of one at a time.
fn alone(mut job: NewJob) -> NewJob {
    let limit = LimitName::new("alone").unwrap();
    let declared = Some(LimitRule::concurrency(1));
    job.ties.limits = vec![LimitUse { limit, partition: String::new(), declared }];
    job
}

#[test]
fn a_blocking_handler_past_its_timeout_keeps_the_slot_of_its_limit() {
    play(|stage| async move {
        let go = on_stubborn(&stage, "stubborn");
        let policy = RetryPolicy::none();
        let server = stage.server().retry(policy).blocking_workers(4).start().await.unwrap();
        let first = stage.enqueue_with("stubborn", |mut job| {
            job.options.timeout = Some(2 * SECOND);
            alone(job)
        });
        let first = first.await;
        stage.world.until("it has started", || stage.notes.count("thread started") == 1).await;
        let second = stage.enqueue_with("stubborn", alone).await;
        stage.world.pass(30 * SECOND).await;
        assert_eq!(stage.notes.all(), ["thread started"], "a second one beside it");
        assert_eq!(stage.state(first).await, StateName::Processing);
        assert_eq!(stage.state(second).await, StateName::Enqueued);
        let log = stage.log(first).await;
        assert!(log.iter().any(|line| line.contains("its thread still runs")), "{log:?}");

        // The end of the thread is the end of the attempt, which has failed by its timeout.
        go.send(()).unwrap();
        let job = stage.until_state(first, StateName::Failed).await;
        let JobState::Failed { error, .. } = job.state else { panic!() };
        assert_eq!(error.class, "timeout");
        go.send(()).unwrap();
        stage.until_state(second, StateName::Succeeded).await;
        let turns = ["thread started", "thread returned", "thread started", "thread returned"];
        assert_eq!(stage.notes.all(), turns);
        assert_eq!(server.stats().fenced_total, 0);
    });
}

#[test]
fn a_blocking_handler_past_its_timeout_keeps_its_unique_key() {
    play(|stage| async move {
        let go = on_stubborn(&stage, "stubborn");
        let unique = |mut job: NewJob| {
            job.options.timeout = Some(2 * SECOND);
            let (scope, conflict) = (UniqueScope::UntilFinished, Conflict::Reject);
            job.ties.unique = Some(UniqueKey { key: "one".to_owned(), scope, conflict });
            job
        };
        let policy = RetryPolicy::none();
        let server = stage.server().retry(policy).blocking_workers(4).start().await.unwrap();
        let first = stage.enqueue_with("stubborn", unique).await;
        stage.world.until("it has started", || stage.notes.count("thread started") == 1).await;
        stage.world.pass(10 * SECOND).await;
        let kind = portfire_core::KindName::stored("stubborn");
        let again = NewJob::new(stage.client.next_id(), kind, portfire_core::Json::empty());
        let created = stage.storage.create(vec![unique(again)]).await.unwrap();
        assert_eq!((created[0].id, created[0].existing), (first, true));

        go.send(()).unwrap();
        let job = stage.until_state(first, StateName::Failed).await;
        let JobState::Failed { error, .. } = job.state else { panic!() };
        assert_eq!(error.class, "timeout");
        // Without a timeout: virtual time goes on while its thread wakes up.
        let second = stage.enqueue_with("stubborn", |job| {
            let mut job = unique(job);
            job.options.timeout = None;
            job
        });
        let second = second.await;
        stage
            .world
            .until("the next has started", || stage.notes.count("thread started") == 2)
            .await;
        go.send(()).unwrap();
        stage.until_state(second, StateName::Succeeded).await;
        assert_eq!(server.stats().fenced_total, 0);
    });
}

#[test]
fn a_running_job_that_is_deleted_hears_it_within_a_second_and_its_result_is_dropped() {
    play(|stage| async move {
        on_listening(&stage, "listening");
        let server = stage.start().await;
        let id = stage.enqueue("listening").await;
        stage.until_state(id, StateName::Processing).await;
        stage.world.pass(3 * SECOND).await;
        let _ = stage.client.delete(id).await.unwrap();
        let deleted_at = stage.world.elapsed();
        stage.world.until("it hears", || stage.notes.count("Deleted") == 1).await;
        assert!(stage.world.elapsed() - deleted_at < SECOND);
        stage.world.until("it is fenced", || server.stats().fenced_total == 1).await;
        let job = stage.job(id).await;
        assert_eq!((job.state.name(), job.attempt, job.failures), (StateName::Deleted, 1, 0));
        assert_eq!(server.stats().lost_total, 1);
    });
}

#[test]
fn a_handler_that_ignores_its_deletion_is_dropped_after_the_grace() {
    play(|stage| async move {
        on_deaf(&stage, "deaf");
        let server = stage.server().workers(1).start().await.unwrap();
        let id = stage.enqueue("deaf").await;
        stage.until_state(id, StateName::Processing).await;
        let _ = stage.client.delete(id).await.unwrap();
        stage.world.pass(4 * SECOND).await;
        assert_eq!(server.stats().running, 1);
        stage.world.pass(2 * SECOND).await;
        assert_eq!(server.stats().running, 0);
        assert_eq!(stage.notes.all(), ["dropped"]);
    });
}

#[test]
fn a_job_that_is_deleted_before_a_worker_takes_it_never_starts() {
    play(|stage| async move {
        let notes = stage.notes.clone();
        stage.on("short", |_| async { DONE });
        stage.on("noted", move |cx| {
            notes.add(cx.id().to_string());
            async { DONE }
        });
        on_listening(&stage, "long");
        let server = stage.server().workers(1).start().await.unwrap();
        stage.enqueue_many("short", "default", 100).await;
        stage.until_count(StateName::Succeeded, 100).await;

        // The pace of short jobs makes the pool fetch what stands behind the long one.
        let new_job = |kind: &'static str| {
            let kind = portfire_core::KindName::stored(kind);
            portfire_core::NewJob::new(stage.client.next_id(), kind, portfire_core::Json::empty())
        };
        let jobs = vec![new_job("long"), new_job("noted"), new_job("noted")];
        let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
        stage.client.create(jobs).await.unwrap();
        stage.world.until("two are ready", || server.stats().ready == 2).await;
        let _ = stage.client.delete(ids[1]).await.unwrap();
        stage.world.until("one is ready", || server.stats().ready == 1).await;
        let _ = stage.client.delete(ids[0]).await.unwrap();
        stage.until_state(ids[2], StateName::Succeeded).await;
        assert_eq!(stage.notes.all().last(), Some(&ids[2].to_string()));
        assert_eq!(stage.notes.count(&ids[1].to_string()), 0);
    });
}

#[test]
fn a_blocking_handler_hears_of_its_deletion_and_is_waited_for() {
    play(|stage| async move {
        let (world, notes) = (stage.world.clone(), stage.notes.clone());
        stage.on_blocking("watching", move |cx| {
            world.parked(|| portfire_core::client::block_on(cx.cancellation().cancelled()));
            notes.add(format!("{:?}", cx.cancellation().reason()));
            cx.cancellation().check()?;
            DONE
        });
        let server = stage.start().await;
        let id = stage.enqueue("watching").await;
        stage.until_state(id, StateName::Processing).await;
        let _ = stage.client.delete(id).await.unwrap();
        stage.world.until("it returns", || server.stats().fenced_total == 1).await;
        assert_eq!(stage.notes.all(), [format!("{:?}", Some(CancelReason::Deleted))]);
        assert_eq!(stage.state(id).await, StateName::Deleted);
    });
}
