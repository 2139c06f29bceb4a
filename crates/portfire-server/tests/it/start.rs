//! What keeps a server from starting, all of it at once.

use std::sync::Arc;

use portfire_core::{MemoryStorage, RetryPolicy, StateName};
use portfire_server::{
    Handler, HandlerDefaults, JobDescriptor, Need, Pool, Problem, Server, Services, StartError,
};

use crate::faulty::{Fault, Op};
use crate::stage::{DONE, SECOND, describe, ms, play, play_async};

struct Db;
struct Mailer;

fn needy(kind: &str, needs: fn() -> Vec<Need>) -> &'static JobDescriptor {
    let plain = describe(kind, Handler::Async(play_async));
    Box::leak(Box::new(JobDescriptor { needs, ..plain }))
}

fn plain(kind: &str) -> &'static JobDescriptor {
    Box::leak(Box::new(describe(kind, Handler::Async(play_async))))
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let twin = JobDescriptor { location: "other.rs:9", ..*plain("twin") };
    let absurd = || {
        let mut defaults = HandlerDefaults::default();
        defaults.retry = Some(RetryPolicy::times(5_000));
        defaults
    };
    let absurd = JobDescriptor { defaults: absurd, queue: "No Queue", ..*plain("absurd") };
    let jobs = [
        plain("twin"),
        Box::leak(Box::new(twin)),
        Box::leak(Box::new(absurd)),
        plain("bad kind"),
        needy("store", || vec![Need::of::<Db>()]),
        needy("send", || vec![Need::of::<Db>(), Need::of::<Mailer>()]),
        Box::leak(Box::new(describe("sync", Handler::Blocking(|_| DONE)))),
    ];
    let server = Server::builder(Arc::new(MemoryStorage::new()))
        .register(jobs)
        .name("")
        .queues(["Bad", "twice", "twice"])
        .workers(0)
        .pool(Pool::new("main").queues(["a"]).blocking_workers(0))
        .pool(Pool::new("empty").workers(1_000_000))
        .pool(Pool::new("weights").weighted_queues([("a", 0)]))
        .lease(20 * SECOND)
        .poll_interval(ms(0))
        .stop_timeout(20 * SECOND)
        .unknown_kind_delay(ms(0))
        .retry(RetryPolicy { jitter: 2.0, ..RetryPolicy::default() });
    let refusal = server.check().unwrap_err();
    let text = refusal.to_string();
    for expected in [
        "two jobs are called `twin`, at tests/twin.rs:1 and at other.rs:9",
        "`No Queue` is not a queue name",
        "5000 retries",
        "`bad kind` is not a kind",
        "Db`, needed by `store`, `send`",
        "Mailer`, needed by `send`",
        "a name has 1 to 128 bytes",
        "`Bad` is not a queue name",
        "queue `twice` is named twice",
        "pool `main`: it has no workers",
        "two pools are called `main`",
        "it has no blocking workers",
        "pool `empty` has no queue",
        "1000000 workers",
        "queue `a` has weight 0, and a weight is 1 to 1000",
        "a lease of 20s is too short for a heartbeat every 10s",
        "`poll_interval`",
        "`stop_timeout`",
        "`unknown_kind_delay`",
        "a jitter of 2 is not between 0 and 1",
        "there is no runtime",
    ] {
        assert!(text.contains(expected), "`{expected}` is missing in {text}");
    }
    assert_eq!(refusal.problems().len(), 21, "{text}");
}

#[test]
fn a_server_without_a_job_does_not_start_and_says_why() {
    let refusal = Server::builder(Arc::new(MemoryStorage::new())).check().unwrap_err();
    assert!(refusal.problems().contains(&Problem::NoJobs));
    assert!(refusal.to_string().contains("the linker drops them"), "{refusal}");
}

#[test]
fn a_job_that_is_registered_twice_counts_once() {
    play(|stage| async move {
        stage.on("job", |_| async { DONE });
        let again = plain("job");
        let _server = stage.server().register([again]).start().await.unwrap();
        let id = stage.enqueue("job").await;
        stage.until_state(id, StateName::Succeeded).await;
    });
}

#[test]
fn a_service_that_is_there_is_no_problem() {
    let job = needy("store", || vec![Need::of::<Db>()]);
    let builder = || Server::builder(Arc::new(MemoryStorage::new())).register([job]);
    let with = builder().services(Services::new().with(Db)).check().unwrap_err();
    assert_eq!(with.problems(), [Problem::NoRuntime]);
    assert_eq!(builder().check().unwrap_err().problems().len(), 2);
}

#[test]
fn a_storage_that_cannot_be_reached_is_said_at_start() {
    play(|stage| async move {
        stage.on("job", |_| async { DONE });
        stage.storage.next(Op::Announce, Fault::Lost);
        let refusal = stage.server().start().await.unwrap_err();
        assert!(matches!(refusal, StartError::Storage(_)), "{refusal}");
        assert!(refusal.problems().is_empty());
        stage.start().await.shutdown().await;
    });
}
