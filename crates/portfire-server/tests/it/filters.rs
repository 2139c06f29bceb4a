//! Filters: around handlers, before an outcome is stored, and after it.

use std::sync::{Arc, Mutex};

use portfire_core::{
    BoxFuture, Cause, Finish, JobError, JobId, JobState, Json, Moved, NewJob, Outcome, RetryPolicy,
    StateName, When,
};
use portfire_server::{
    AppliedFilter, ElectFilter, Handler, HandlerResult, JobContext, JobDescriptor, KindFilters,
    Next, ServerFilter, filter_fn, filter_with,
};

use crate::faulty::{Fault, Op};
use crate::stage::{DONE, Notes, SECOND, Stage, describe, outcome_name, play, play_async};

struct Around(&'static str, Notes);

impl ServerFilter for Around {
    fn perform<'a>(&'a self, job: &'a JobContext, next: Next<'a>) -> BoxFuture<'a, HandlerResult> {
        Box::pin(async move {
            self.1.add(format!("{} before", self.0));
            let result = next.run(job).await;
            self.1.add(format!("{} after {}", self.0, result.is_ok()));
            result
        })
    }
}

struct Elect<F>(F);

impl<F: Fn(&JobContext, &mut Outcome) + Send + Sync + 'static> ElectFilter for Elect<F> {
    fn elect(&self, job: &JobContext, candidate: &mut Outcome) {
        (self.0)(job, candidate);
    }
}

struct Applied(Notes);

impl AppliedFilter for Applied {
    fn applied(&self, job: &JobContext, finish: &Finish) {
        self.0.add(format!("{} {}", job.kind(), outcome_name(&finish.outcome)));
    }
}

fn on_noted(stage: &Stage, kind: &str) {
    let notes = stage.notes.clone();
    stage.on(kind, move |_| {
        notes.add("handler");
        async { DONE }
    });
}

#[test]
fn filters_run_around_the_handler_the_first_outermost() {
    play(|stage| async move {
        on_noted(&stage, "job");
        let notes = stage.notes.clone();
        stage.on_blocking("sync", move |_| {
            notes.add("handler");
            DONE
        });
        let around = |name| Around(name, stage.notes.clone());
        let server = stage.server().filter(around("a")).filter(around("b"));
        let _server = server.start().await.unwrap();
        for kind in ["job", "sync"] {
            let from = stage.notes.all().len();
            let id = stage.enqueue(kind).await;
            stage.until_state(id, StateName::Succeeded).await;
            assert_eq!(
                stage.notes.all()[from..],
                ["a before", "b before", "handler", "b after true", "a after true"]
            );
        }
    });
}

#[test]
fn a_filter_that_goes_no_further_answers_for_the_handler() {
    play(|stage| async move {
        on_noted(&stage, "job");
        let stops = filter_fn(async |_: &JobContext, _: Next<'_>| Ok(Some(Json::stored("7"))));
        let _server = stage.server().filter(stops).start().await.unwrap();
        let id = stage.enqueue("job").await;
        let job = stage.until_state(id, StateName::Succeeded).await;
        let JobState::Succeeded { result, .. } = job.state else { panic!() };
        assert_eq!(result, Some(Json::stored("7")));
        assert!(stage.notes.all().is_empty());
    });
}

#[test]
fn a_filter_sees_a_panic_of_the_handler_as_an_error_and_its_own_is_a_failure() {
    play(|stage| async move {
        stage.on("panics", |_| async { panic!("in the handler") });
        on_noted(&stage, "fine");
        let watch = filter_with(
            stage.notes.clone(),
            async |notes: &Notes, job: &JobContext, next: Next<'_>| {
                assert_ne!(job.kind().as_str(), "fine", "in the filter");
                let result = next.run(job).await;
                if let Err(error) = &result {
                    notes.add(error.record().to_string());
                }
                result
            },
        );
        let server = stage.server().retry(RetryPolicy::none()).filter(watch);
        let _server = server.start().await.unwrap();
        let panics = stage.enqueue("panics").await;
        stage.until_state(panics, StateName::Failed).await;
        assert_eq!(stage.notes.all(), ["panic: in the handler"]);
        let fine = stage.enqueue("fine").await;
        let job = stage.until_state(fine, StateName::Failed).await;
        let JobState::Failed { error, .. } = job.state else { panic!() };
        assert_eq!(error.class, "panic");
        assert!(error.message.contains("in the filter"), "{error}");
    });
}

#[test]
fn a_timeout_ends_what_the_filters_do_as_well() {
    play(|stage| async move {
        on_noted(&stage, "job");
        let hangs = filter_fn(async |_: &JobContext, _: Next<'_>| std::future::pending().await);
        let server = stage.server().retry(RetryPolicy::none()).filter(hangs);
        let _server = server.start().await.unwrap();
        let id = stage.enqueue_with("job", |mut job| {
            job.options.timeout = Some(SECOND);
            job
        });
        let job = stage.until_state(id.await, StateName::Failed).await;
        let JobState::Failed { error, .. } = job.state else { panic!() };
        assert_eq!(error.class, "timeout");
    });
}

#[test]
fn an_elect_filter_may_replace_the_outcome_and_the_next_sees_the_replacement() {
    play(|stage| async move {
        stage.on("fails", |_| async { Err(JobError::new("no")) });
        let first = Elect(|job: &JobContext, candidate: &mut Outcome| {
            if matches!(candidate, Outcome::Retry { .. }) && job.attempt() == 2 {
                *candidate = Outcome::Discarded { reason: "enough".into(), error: None };
            }
        });
        let notes = stage.notes.clone();
        let second = Elect(move |_: &JobContext, candidate: &mut Outcome| {
            notes.add(outcome_name(candidate));
        });
        let _server = stage.server().elect(first).elect(second).start().await.unwrap();
        let id = stage.enqueue("fails").await;
        let job = stage.until_state(id, StateName::Deleted).await;
        assert_eq!(stage.notes.all(), ["retry", "discarded"]);
        let JobState::Deleted { reason, .. } = job.state else { panic!() };
        assert_eq!((reason.as_str(), job.failures), ("enough", 1));
    });
}

#[test]
fn an_elect_filter_that_panics_leaves_the_outcome_as_it_was() {
    play(|stage| async move {
        on_noted(&stage, "job");
        let broken = Elect(|_: &JobContext, candidate: &mut Outcome| {
            *candidate = Outcome::Released;
            panic!("half-way");
        });
        let _server = stage.server().elect(broken).start().await.unwrap();
        let id = stage.enqueue("job").await;
        assert_eq!(stage.until_state(id, StateName::Succeeded).await.attempt, 1);
    });
}

#[test]
fn applied_filters_hear_once_and_only_what_was_stored() {
    play(|stage| async move {
        stage.on("good", |_| async { DONE });
        stage.on("bad", |_| async { Err(JobError::permanent("no")) });
        crate::cancel::on_listening(&stage, "deleted");
        let heard = Notes::default();
        let server = stage.server().applied(Applied(heard.clone())).start().await.unwrap();
        stage.storage.next(Op::Cycle, Fault::AnswerLost);
        let good = stage.enqueue("good").await;
        stage.until_state(good, StateName::Succeeded).await;
        for _ in 0..3 {
            stage.storage.next(Op::Cycle, Fault::AnswerLost);
        }
        let bad = stage.enqueue("bad").await;
        stage.until_state(bad, StateName::Failed).await;
        stage.storage.heal();
        let deleted = stage.enqueue("deleted").await;
        stage.until_state(deleted, StateName::Processing).await;
        let _ = stage.client.delete(deleted).await.unwrap();
        stage.world.until("it is fenced", || server.stats().fenced_total == 1).await;
        assert_eq!(heard.all(), ["good succeeded", "bad failed"]);
    });
}

/// Notes every transition that it hears of.
struct Noted(Arc<Mutex<Vec<(JobId, Cause)>>>);

impl AppliedFilter for Noted {
    fn moved(&self, moved: &Moved) {
        let count = {
            let mut noted = self.0.lock().unwrap();
            noted.push((moved.job, moved.entry.cause));
            noted.len()
        };
        assert!(count % 3 > 0, "a panic loses nothing of what others hear");
    }
}

#[test]
fn applied_filters_hear_of_every_transition() {
    play(|stage| async move {
        stage.on("fails", |_| async { Err(JobError::permanent("no disk")) });
        stage.on("works", |_| async { DONE });
        let noted = Arc::new(Mutex::new(Vec::new()));
        let (first, second) = (Noted(noted.clone()), Arc::new(Mutex::new(Vec::new())));
        stage.on("long", |_| std::future::pending());
        let server = stage.server().workers(2).shutdown_timeout(SECOND);
        let server = server.applied(first).applied(Noted(second.clone())).start().await.unwrap();
        let failed = stage.enqueue("fails").await;
        stage.until_state(failed, StateName::Failed).await;
        assert!(stage.client.requeue(failed).await.unwrap().is_done());
        let in_five = |mut job: NewJob| {
            job.when = When::In(5 * SECOND);
            job
        };
        let later = stage.enqueue_with("works", in_five).await;
        stage.until_state(later, StateName::Succeeded).await;
        stage.until_state(failed, StateName::Failed).await;
        assert!(stage.client.delete(failed).await.unwrap().is_done());
        // The server gives these back as it stops: two that run, and what it has fetched beside them.
        let held = stage.enqueue_many("long", "default", 4).await;
        stage.until_state(held[1], StateName::Processing).await;
        server.shutdown().await;
        assert!(stage.causes(held[0]).await.contains(&Cause::Released));

        for heard in [noted, second] {
            let heard = heard.lock().unwrap().clone();
            for id in [failed, later].into_iter().chain(held.clone()) {
                let causes: Vec<Cause> =
                    heard.iter().filter(|(job, _)| *job == id).map(|(_, cause)| *cause).collect();
                assert_eq!(causes, stage.causes(id).await);
            }
        }
    });
}

/// What the filters of one kind have done, and those of the server around them.
static AROUND: Mutex<Vec<&str>> = Mutex::new(Vec::new());
static APPLIED: Mutex<Vec<(String, Option<Cause>)>> = Mutex::new(Vec::new());

/// A filter of every sort that belongs to one kind.
struct Own;

impl ServerFilter for Own {
    fn perform<'a>(&'a self, job: &'a JobContext, next: Next<'a>) -> BoxFuture<'a, HandlerResult> {
        Box::pin(async move {
            AROUND.lock().unwrap().push("own before");
            let result = next.run(job).await;
            AROUND.lock().unwrap().push("own after");
            result
        })
    }
}

impl ElectFilter for Own {
    fn elect(&self, _: &JobContext, candidate: &mut Outcome) {
        AROUND.lock().unwrap().push("own elects");
        *candidate = Outcome::Discarded { reason: "elected".to_owned(), error: None };
    }
}

impl AppliedFilter for Own {
    fn applied(&self, job: &JobContext, _: &Finish) {
        APPLIED.lock().unwrap().push((job.kind().to_string(), None));
    }

    fn moved(&self, moved: &Moved) {
        APPLIED.lock().unwrap().push((moved.kind.to_string(), Some(moved.entry.cause)));
    }
}

fn own() -> KindFilters {
    KindFilters::default().filter(Own).elect(Own).applied(Own)
}

#[test]
fn the_filters_of_a_kind_are_inside_of_the_servers_and_hear_of_that_kind_alone() {
    play(|stage| async move {
        let plain = describe("own", Handler::Async(play_async));
        stage.add(JobDescriptor { filters: own, ..plain }, |_| async { DONE });
        stage.on("other", |_| async { DONE });
        let around = filter_fn(async |job: &JobContext, next: Next<'_>| {
            AROUND.lock().unwrap().push("server before");
            let result = next.run(job).await;
            AROUND.lock().unwrap().push("server after");
            result
        });
        let server = stage.server().filter(around).start().await.unwrap();
        let id = stage.enqueue("own").await;
        stage.until_state(id, StateName::Deleted).await;
        let turns = ["server before", "own before", "own after", "server after", "own elects"];
        assert_eq!(*AROUND.lock().unwrap(), turns);

        AROUND.lock().unwrap().clear();
        let other = stage.enqueue("other").await;
        stage.until_state(other, StateName::Succeeded).await;
        assert_eq!(*AROUND.lock().unwrap(), ["server before", "server after"]);
        server.shutdown().await;

        let heard = APPLIED.lock().unwrap().clone();
        assert!(heard.iter().all(|(kind, _)| kind == "own"), "{heard:?}");
        assert_eq!(heard.iter().filter(|(_, cause)| cause.is_none()).count(), 1, "{heard:?}");
        let moved: Vec<Cause> = heard.iter().filter_map(|(_, cause)| *cause).collect();
        assert_eq!(moved, stage.causes(id).await);
    });
}
