//! How attempts end: success, failure, steering, panics, arguments and kinds that do not fit.

use std::time::Duration;

use portfire_core::{
    Backoff, CancelReason, Cancelled, Cause, Exceeded, JobError, JobState, Json, RetryPolicy,
    StateName,
};
use portfire_server::{Handler, HandlerDefaults, JobDescriptor, Runtime};

use crate::stage::{DONE, SECOND, describe, ms, play, play_async};

fn retry(max: u32) -> RetryPolicy {
    RetryPolicy::times(max).backoff(Backoff::Fixed(SECOND))
}

#[test]
fn a_job_runs_and_its_result_and_duration_are_kept() {
    play(|stage| async move {
        let world = stage.world.clone();
        stage.on("add", move |_| {
            let world = world.clone();
            async move {
                world.pass(ms(250)).await;
                Ok(Some(Json::encode(&42).unwrap()))
            }
        });
        let _server = stage.start().await;
        let id = stage.enqueue("add").await;
        let job = stage.until_state(id, StateName::Succeeded).await;
        let JobState::Succeeded { result, duration, .. } = job.state else { panic!("{job:?}") };
        assert_eq!(result, Some(Json::encode(&42).unwrap()));
        assert_eq!(duration, ms(250));
        assert_eq!(job.attempt, 1);
    });
}

#[test]
fn a_job_that_always_fails_runs_once_and_then_as_often_as_its_policy_says() {
    play(|stage| async move {
        let notes = stage.notes.clone();
        stage.on("fail", move |_| {
            notes.add("run");
            async { Err(JobError::new("no").with_class("Sad")) }
        });
        let _server = stage.server().retry(retry(3)).start().await.unwrap();
        let id = stage.enqueue("fail").await;
        let job = stage.until_state(id, StateName::Failed).await;
        assert_eq!(stage.notes.count("run"), 4);
        assert_eq!((job.failures, job.recoveries, job.attempt), (4, 0, 4));
        let JobState::Failed { error, .. } = job.state else { panic!("{job:?}") };
        assert_eq!((error.class.as_str(), error.message.as_str()), ("Sad", "no"));
    });
}

#[test]
fn the_policy_of_the_call_wins_over_the_attribute_and_that_over_the_server() {
    fn attribute() -> HandlerDefaults {
        let mut defaults = HandlerDefaults::default();
        defaults.retry = Some(RetryPolicy::times(1).backoff(Backoff::Fixed(ms(1))));
        defaults
    }
    play(|stage| async move {
        let fail = |_| async { Err(JobError::new("no")) };
        stage.on("plain", fail);
        let plain = describe("attributed", Handler::Async(play_async));
        stage.add(JobDescriptor { defaults: attribute, ..plain }, fail);
        let _server = stage.server().retry(retry(2)).start().await.unwrap();

        let by_server = stage.enqueue("plain").await;
        let by_attribute = stage.enqueue("attributed").await;
        let by_call = stage.enqueue_with("attributed", |mut job| {
            job.options.retry = Some(RetryPolicy::none());
            job
        });
        let by_call = by_call.await;
        for (id, failures) in [(by_server, 3), (by_attribute, 2), (by_call, 1)] {
            assert_eq!(stage.until_state(id, StateName::Failed).await.failures, failures);
        }
    });
}

#[test]
fn a_policy_can_delete_what_it_gives_up() {
    play(|stage| async move {
        stage.on("fail", |_| async { Err(JobError::new("no")) });
        let policy = RetryPolicy::none().exceeded(Exceeded::Delete);
        let _server = stage.server().retry(policy).start().await.unwrap();
        let id = stage.enqueue("fail").await;
        let job = stage.until_state(id, StateName::Deleted).await;
        let JobState::Deleted { error, .. } = job.state else { panic!("{job:?}") };
        assert_eq!((error.unwrap().message.as_str(), job.failures), ("no", 1));
    });
}

#[test]
fn the_waits_between_retries_are_those_of_the_policy() {
    play(|stage| async move {
        let (world, notes) = (stage.world.clone(), stage.notes.clone());
        stage.on("fail", move |_| {
            notes.add(format!("{:.0?}", portfire_server::Runtime::elapsed(&world)));
            async { Err(JobError::new("no")) }
        });
        let waits = vec![2 * SECOND, 5 * SECOND];
        let policy = RetryPolicy::times(2).backoff(Backoff::Delays(waits));
        let _server = stage.server().retry(policy).start().await.unwrap();
        let id = stage.enqueue("fail").await;
        stage.until_state(id, StateName::Failed).await;
        assert_eq!(stage.notes.all(), ["0ns", "2s", "7s"]);
    });
}

#[test]
fn an_error_can_ask_for_no_retry_for_another_wait_for_a_snooze_or_a_discard() {
    play(|stage| async move {
        stage.on("permanent", |_| async { Err(JobError::permanent("never")) });
        stage.on("later", |cx| async move {
            match cx.failures() {
                0 => Err(JobError::retry_after(3 * SECOND, "busy")),
                _ => DONE,
            }
        });
        stage.on("snooze", |cx| async move {
            match cx.attempt() {
                1 => Err(JobError::snooze(4 * SECOND)),
                _ => DONE,
            }
        });
        stage.on("discard", |_| async { Err(JobError::discard("not wanted")) });
        let _server = stage.start().await;
        let permanent = stage.enqueue("permanent").await;
        let later = stage.enqueue("later").await;
        let snooze = stage.enqueue("snooze").await;
        let discard = stage.enqueue("discard").await;

        assert_eq!(stage.until_state(permanent, StateName::Failed).await.failures, 1);
        let later = stage.until_state(later, StateName::Succeeded).await;
        assert_eq!((later.failures, later.attempt), (1, 2));
        let snoozed = stage.until_state(snooze, StateName::Succeeded).await;
        assert_eq!((snoozed.failures, snoozed.attempt), (0, 2));
        let discarded = stage.until_state(discard, StateName::Deleted).await;
        let JobState::Deleted { reason, error, .. } = discarded.state else { panic!() };
        assert_eq!((reason.as_str(), error), ("not wanted", None));
        let waited = |causes: &[Cause], cause| causes.contains(&cause);
        assert!(waited(&stage.causes(snooze).await, Cause::Snoozed));
    });
}

#[test]
fn retry_after_is_not_retried_more_often_than_the_policy_allows() {
    play(|stage| async move {
        stage.on("busy", |_| async { Err(JobError::retry_after(ms(10), "busy")) });
        let _server = stage.server().retry(retry(2)).start().await.unwrap();
        let id = stage.enqueue("busy").await;
        assert_eq!(stage.until_state(id, StateName::Failed).await.attempt, 3);
    });
}

#[test]
fn a_panic_is_a_failure_of_class_panic_with_its_message() {
    play(|stage| async move {
        stage.on("first", |_| async { panic!("at once") });
        let world = stage.world.clone();
        stage.on("later", move |_| {
            let world = world.clone();
            async move {
                world.pass(ms(5)).await;
                panic!("after {} ms", 5)
            }
        });
        stage.on_blocking("thread", |_| panic!("on a thread"));
        stage.on("made", |_| -> std::future::Ready<_> { panic!("before there is a future") });
        let _server = stage.server().retry(RetryPolicy::none()).start().await.unwrap();
        for (kind, message) in [
            ("first", "at once"),
            ("later", "after 5 ms"),
            ("thread", "on a thread"),
            ("made", "before there is a future"),
        ] {
            let id = stage.enqueue(kind).await;
            let job = stage.until_state(id, StateName::Failed).await;
            let JobState::Failed { error, .. } = job.state else { panic!() };
            assert_eq!((error.class.as_str(), error.message.as_str()), ("panic", message));
        }
    });
}

#[test]
fn a_panic_is_retried_by_the_policy() {
    play(|stage| async move {
        stage.on("shaky", |cx| async move {
            assert!(cx.attempt() > 2, "attempt {}", cx.attempt());
            DONE
        });
        let _server = stage.server().retry(retry(2)).start().await.unwrap();
        let id = stage.enqueue("shaky").await;
        assert_eq!(stage.until_state(id, StateName::Succeeded).await.failures, 2);
    });
}

#[test]
fn arguments_that_do_not_fit_fail_at_once_with_their_place() {
    play(|stage| async move {
        #[derive(serde::Deserialize)]
        struct Args {
            #[allow(dead_code)]
            items: Vec<u64>,
        }
        stage.on("typed", |cx| async move {
            portfire_server::handler::decode_args::<Args>(&cx.job().args)?;
            DONE
        });
        let _server = stage.server().retry(retry(5)).start().await.unwrap();
        let bad = r#"{"items":[1,"two"]}"#;
        let id = stage.enqueue_with("typed", |mut job| {
            job.args = Json::from_bytes(bad.as_bytes().to_vec()).unwrap();
            job
        });
        let id = id.await;
        let job = stage.until_state(id, StateName::Failed).await;
        assert_eq!((job.attempt, job.args.as_str()), (1, bad));
        let JobState::Failed { error, .. } = job.state else { panic!() };
        assert_eq!(error.class, "undecodable_args");
        assert!(error.message.contains("items[1]"), "{error}");
    });
}

#[test]
fn a_kind_without_a_handler_waits_at_no_cost_and_runs_when_there_is_one() {
    play(|stage| async move {
        stage.on("known", |_| async { DONE });
        let old = stage.start().await;
        let id = stage.enqueue("new").await;
        stage.world.pass(300 * SECOND).await;
        assert_eq!(stage.state(id).await, StateName::Enqueued);
        old.shutdown().await;

        stage.on("new", |_| async { DONE });
        let _new = stage.start().await;
        let job = stage.until_state(id, StateName::Succeeded).await;
        assert_eq!((job.failures, job.attempt), (0, 1));
        assert_eq!(stage.causes(id).await, [Cause::Created, Cause::Claimed, Cause::Succeeded]);
    });
}

#[test]
fn a_kind_without_a_handler_is_failed_after_the_grace() {
    play(|stage| async move {
        stage.on("known", |_| async { DONE });
        let server = stage.server().unknown_kind_grace(60 * SECOND);
        let _server = server.start().await.unwrap();
        let id = stage.enqueue("gone").await;
        stage.world.pass(59 * SECOND).await;
        assert_eq!(stage.state(id).await, StateName::Enqueued);
        stage.world.pass(15 * SECOND).await;
        let job = stage.job(id).await;
        let JobState::Failed { error, .. } = job.state else { panic!("{job:?}") };
        assert_eq!(error.class, "unknown_kind");
        assert!(error.message.contains("`gone`") && error.message.contains("60s"), "{error}");

        // A requeue begins a new run, with a new grace.
        let _ = stage.client.requeue(id).await.unwrap();
        stage.world.pass(30 * SECOND).await;
        assert_eq!(stage.state(id).await, StateName::Enqueued);
    });
}

/// What another program has to run is parked, whatever the retry policy says, and failed after the grace.
#[test]
fn a_job_for_another_program_costs_no_retry() {
    play(|stage| async move {
        stage.on("newer", |_| async {
            Err(JobError::elsewhere(10 * SECOND, "version 2 is not known here")
                .with_class("newer_args"))
        });
        let old = stage.server().unknown_kind_grace(60 * SECOND).start().await.unwrap();
        let id = stage
            .enqueue_with("newer", |mut job| {
                job.options.retry = Some(RetryPolicy::none());
                job
            })
            .await;
        stage.world.pass(55 * SECOND).await;
        let job = stage.job(id).await;
        assert!(!job.state.name().is_final() && job.failures == 0, "{job:?}");
        stage.world.pass(30 * SECOND).await;
        let job = stage.job(id).await;
        let JobState::Failed { error, .. } = job.state else { panic!("{job:?}") };
        assert_eq!(error.class, "newer_args");
        old.shutdown().await;
    });
}

/// A program that could run the job ends the wait: the grace of the next begins anew.
#[test]
fn the_wait_for_another_program_begins_anew_after_one_that_could_run_the_job() {
    play(|stage| async move {
        let attempts = std::sync::atomic::AtomicU32::new(0);
        stage.on("newer", move |_| {
            let attempt = attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                match attempt {
                    4 => Err(JobError::new("a newer program tried")),
                    _ => Err(JobError::elsewhere(10 * SECOND, "version 2 is not known here")),
                }
            }
        });
        let server = stage.server().retry(retry(1)).unknown_kind_grace(60 * SECOND);
        let server = server.start().await.unwrap();
        let id = stage.enqueue("newer").await;
        stage.world.pass(90 * SECOND).await;
        let job = stage.job(id).await;
        assert!(!job.state.name().is_final() && job.failures == 1, "{job:?}");
        stage.world.pass(60 * SECOND).await;
        assert_eq!(stage.state(id).await, StateName::Failed);
        server.shutdown().await;
    });
}

/// Two programs on one storage: the idle one without the handler is as if it were not there.
#[test]
fn a_server_without_the_handler_delays_no_job() {
    play(|stage| async move {
        stage.on("other", |_| async { DONE });
        let idle = stage.start().await;
        let world = stage.world.clone();
        stage.on("job", move |_| {
            let world = world.clone();
            async move {
                world.pass(ms(5)).await;
                DONE
            }
        });
        let busy = stage.server().workers(1).start().await.unwrap();
        let jobs = stage.enqueue_many("job", "default", 40).await;
        stage.until_count(StateName::Succeeded, 40).await;
        let took = Runtime::elapsed(&stage.world);
        assert!(took < SECOND, "{took:?}");
        for id in jobs {
            assert_eq!(stage.job(id).await.attempt, 1);
        }
        assert_eq!(idle.stats().finished_total, 0);
        assert_eq!(busy.stats().finished_total, 40);
    });
}

/// A flood of jobs for another program is passed in one go, not at the pace of the polls.
#[test]
fn a_flood_of_foreign_jobs_holds_nobody_up() {
    play(|stage| async move {
        stage.on("own", |_| async { DONE });
        stage.storage.deafen();
        stage.enqueue_many("foreign", "default", 5_000).await;
        let own = stage.enqueue("own").await;
        let _server = stage.start().await;
        stage.until_state(own, StateName::Succeeded).await;
        let took = Runtime::elapsed(&stage.world);
        assert!(took < SECOND, "{took:?}");
        stage.enqueue("foreign").await;
        let next = stage.enqueue("own").await;
        stage.until_state(next, StateName::Succeeded).await;
        stage.until_count(StateName::Enqueued, 5_001).await;
    });
}

#[test]
fn an_alias_runs_jobs_of_the_former_kind() {
    play(|stage| async move {
        let plain = describe("mail.send", Handler::Async(play_async));
        let notes = stage.notes.clone();
        stage.add(JobDescriptor { aliases: &["send_mail"], ..plain }, |_| async { DONE });
        stage.add(describe("send_mail_part", Handler::Async(play_async)), move |_| {
            notes.add("wrong");
            async { DONE }
        });
        // The script of a test goes by the stored kind.
        stage.part("send_mail", |_| async { DONE });
        let _server = stage.start().await;
        let id = stage.enqueue("send_mail").await;
        stage.until_state(id, StateName::Succeeded).await;
        assert_eq!(stage.notes.count("wrong"), 0);
    });
}

#[test]
fn a_cancellation_that_nobody_asked_for_is_a_failure() {
    play(|stage| async move {
        stage.on("liar", |_| async { Err(Cancelled { reason: CancelReason::Shutdown }.into()) });
        let _server = stage.server().retry(retry(1)).start().await.unwrap();
        let id = stage.enqueue("liar").await;
        let job = stage.until_state(id, StateName::Failed).await;
        assert_eq!(job.attempt, 2);
    });
}

#[test]
fn delayed_jobs_run_when_they_are_due_and_not_before() {
    play(|stage| async move {
        let (world, notes) = (stage.world.clone(), stage.notes.clone());
        stage.on("noted", move |_| {
            notes.add(portfire_server::Runtime::elapsed(&world).as_millis().to_string());
            async { DONE }
        });
        let _server = stage.start().await;
        for delay in [2_500u64, 700, 1] {
            let delayed = stage.enqueue_with("noted", |mut job| {
                job.when = Duration::from_millis(delay).into();
                job
            });
            delayed.await;
        }
        stage.until_count(StateName::Succeeded, 3).await;
        let ran: Vec<u64> = stage.notes.all().iter().map(|at| at.parse().unwrap()).collect();
        for (ran, due) in ran.iter().zip([1, 700, 2_500]) {
            assert!((due..due + 60).contains(ran), "due {due}, ran {ran}");
        }
    });
}

#[test]
fn a_panic_in_what_a_handler_leaves_behind_is_a_failure_like_any_other() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    #[derive(Debug)]
    struct Unspeakable;
    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("in an error's text")
        }
    }
    impl std::error::Error for Unspeakable {}

    play(|stage| async move {
        stage.on("bomb", |_| {
            let bomb = Bomb;
            async move {
                let _bomb = bomb;
                std::future::pending().await
            }
        });
        stage.on("unspeakable", |_| async { Err(Unspeakable.into()) });
        stage.on("fine", |_| async { DONE });
        let server = stage.server().retry(RetryPolicy::none()).workers(1);
        let server = server.start().await.unwrap();
        for (kind, message) in [("bomb", "in a drop"), ("unspeakable", "in an error's text")] {
            let id = stage.enqueue_with(kind, |mut job| {
                job.options.timeout = Some(SECOND);
                job
            });
            let job = stage.until_state(id.await, StateName::Failed).await;
            let JobState::Failed { error, .. } = job.state else { panic!() };
            assert_eq!((error.class.as_str(), error.message.as_str()), ("panic", message));
        }
        // The only worker lives on.
        let fine = stage.enqueue("fine").await;
        stage.until_state(fine, StateName::Succeeded).await;
        assert_eq!(server.stats().running, 0);
    });
}
