//! `TestPortfire`: what users test their own code with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use portfire::prelude::*;
use portfire::testing::{TestPortfire, days, hours, minutes, seconds};
use portfire::{Outcome, StateName};

#[derive(Default)]
struct Counter(AtomicU32);

impl Counter {
    fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[job(queue = "mail")]
async fn mail(to: &str, #[inject] sent: &Counter) -> Result<u32, JobError> {
    if to == "nobody" {
        return Err(JobError::permanent("no such address"));
    }
    Ok(sent.next())
}

/// Fails until its third attempt.
#[job(retry(max = 5, backoff = fixed("10m")))]
async fn flaky(cx: &JobContext) -> Result<u32, JobError> {
    if cx.attempt() < 3 { Err(JobError::new("not yet")) } else { Ok(cx.attempt()) }
}

#[job]
fn counted(#[inject] counter: &Counter) {
    counter.next();
}

async fn signup(client: &Client, to: &str) -> portfire::Result<()> {
    client.schedule(mail(to).tag("eu"), days(1)).await?;
    client.enqueue(mail("ops")).await?;
    Ok(())
}

fn services() -> Services {
    Services::new().with(Counter::default())
}

#[portfire::test]
async fn signup_sends_mail(pf: TestPortfire) -> portfire::Result<()> {
    let pf = pf.services(services());
    signup(&pf.client(), "a@b.c").await?;
    let job = pf.assert_enqueued::<mail>().in_queue("mail").delayed_by(days(1)).once();
    assert_eq!(job.args.as_str(), r#"{"to":"a@b.c"}"#);
    pf.assert_enqueued::<mail>().times(2);
    pf.assert_enqueued::<mail>().with_args(mail("ops")).at_once().with_priority(0).once();
    pf.assert_enqueued_call(mail("a@b.c")).tagged("eu").once();
    pf.assert_enqueued::<mail>().matching(|args| args["to"] == "ops").once();
    pf.refute_enqueued::<flaky>();

    pf.drain().await.assert_all_succeeded().assert_ran::<mail>(1);
    assert_eq!(pf.drain().await.len(), 0);
    pf.advance(days(1)).await;
    let drained = pf.drain().await;
    assert_eq!(drained.assert_all_succeeded().output::<mail>(), 2);
    pf.assert_nothing_enqueued();
    assert_eq!(pf.job(job.id).unwrap().state.name(), StateName::Succeeded);
    Ok(())
}

#[portfire::test]
async fn retries_happen_as_time_is_advanced(pf: TestPortfire) {
    pf.client().enqueue(flaky()).await.unwrap();
    let first = pf.drain().await;
    assert!(
        matches!(first.runs()[0].outcome, Outcome::Retry { delay, .. } if delay == minutes(10))
    );
    assert!(pf.drain().await.is_empty());
    pf.advance(minutes(10) - seconds(1)).await;
    assert!(pf.drain().await.is_empty());
    pf.advance(seconds(1)).await;
    assert_eq!(pf.drain().await.len(), 1);
    pf.advance(minutes(10)).await;
    assert_eq!(pf.drain().await.output::<flaky>(), 3);
}

#[portfire::test]
async fn time_can_pass_as_a_server_sees_it(pf: TestPortfire) {
    let start = pf.now();
    pf.client().enqueue(flaky()).await.unwrap();
    let drained = pf.run_for(hours(1)).await;
    drained.assert_ran::<flaky>(3);
    assert_eq!(drained.output::<flaky>(), 3);
    assert_eq!(pf.now().since(start), hours(1));
}

#[portfire::test]
async fn the_global_client_is_the_tests_own(pf: TestPortfire) {
    #[job]
    fn enqueues_more(n: u8) -> Result<(), JobError> {
        if n > 0 {
            portfire::blocking::enqueue(enqueues_more(n - 1))?;
        }
        Ok(())
    }
    portfire::enqueue(enqueues_more(2)).await.unwrap();
    pf.drain().await.assert_all_succeeded().assert_ran::<enqueues_more>(3);
}

#[portfire::test]
async fn inline_mode_runs_what_is_enqueued_before_enqueue_returns(pf: TestPortfire) {
    #[job]
    async fn parent(cx: &JobContext) -> Result<(), JobError> {
        let child = cx.client().enqueue(counted()).await?;
        let state = cx.client().job(child).await?.map(|job| job.state.name());
        if state == Some(StateName::Succeeded) { Ok(()) } else { Err(JobError::permanent("later")) }
    }
    let counter = Arc::new(Counter::default());
    let pf = pf.services(Services::new().with_arc(counter.clone())).inline();
    let id = pf.client().enqueue(parent()).await.unwrap();
    assert_eq!(pf.job(id).unwrap().state.name(), StateName::Succeeded);
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    pf.client().schedule(counted(), hours(1)).await.unwrap();
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
}

#[portfire::test]
async fn filters_and_policies_are_the_real_ones(pf: TestPortfire) {
    #[job]
    async fn fails() -> Result<(), JobError> {
        Err(JobError::new("always"))
    }
    let pf =
        pf.retry(RetryPolicy::none()).filter(filter_fn(async |cx: &JobContext, next: Next<'_>| {
            let result = next.run(cx).await;
            result.map_err(|error| JobError::new(format!("seen by a filter: {error}")))
        }));
    let id = pf.client().enqueue(fails()).await.unwrap();
    let drained = pf.drain().await;
    let Outcome::Failed { error } = &drained.runs()[0].outcome else { panic!("{drained:?}") };
    assert_eq!(error.message, "seen by a filter: always");
    assert_eq!(pf.job(id).unwrap().state.name(), StateName::Failed);
}

#[portfire::test]
async fn a_timeout_fires_when_the_clock_is_moved(pf: TestPortfire) {
    #[job(timeout = "1m", retry = none)]
    async fn hangs() {
        std::future::pending::<()>().await;
    }
    pf.client().enqueue(hangs()).await.unwrap();
    let (drained, ()) = tokio::join!(pf.drain(), pf.advance(minutes(1)));
    let Outcome::Failed { error } = &drained.runs()[0].outcome else { panic!("{drained:?}") };
    assert_eq!(error.class, "timeout");
}

#[portfire::test]
async fn a_panic_is_a_failure_and_the_drain_goes_on(pf: TestPortfire) {
    #[job(retry = none)]
    fn panics() {
        panic!("out of ideas");
    }
    let pf = pf.services(services());
    pf.client().enqueue(panics()).await.unwrap();
    pf.client().enqueue(counted()).await.unwrap();
    let drained = pf.drain().await;
    assert_eq!(drained.len(), 2);
    let told = message(|| _ = drained.assert_all_succeeded());
    assert!(
        told.contains("1 of 2 runs did not succeed:\n  panics {} (attempt 1) failed for good"),
        "{told}"
    );
    assert!(told.contains("out of ideas"), "{told}");
}

#[test]
fn tests_share_nothing() {
    let (one, other) = (TestPortfire::new(), TestPortfire::new());
    one.client().blocking().enqueue(counted()).unwrap();
    one.assert_enqueued::<counted>().once();
    other.assert_nothing_enqueued();
}

#[test]
fn a_job_that_cannot_be_found_is_shown_beside_those_that_are() {
    let pf = TestPortfire::new();
    let client = pf.client();
    let told = message(|| _ = pf.assert_enqueued::<mail>());
    assert_eq!(told, "no call of `mail` is enqueued; nothing is enqueued");

    client.blocking().enqueue(mail("a")).unwrap();
    client.blocking().schedule(counted().tag("x"), days(1) + hours(2)).unwrap();
    let told = message(|| _ = pf.assert_enqueued::<mail>().in_queue("post"));
    let lines = "enqueued are:\n  mail {\"to\":\"a\"} in queue `mail`, at once\n  counted {} in queue `default`, in 1d 2h (created), tagged x";
    assert_eq!(told, format!("no call of `mail` in queue `post` is enqueued; {lines}"));
    let told = message(|| _ = pf.assert_enqueued::<mail>().with_args(mail("b")).once());
    assert!(told.starts_with("no call of `mail` with {\"to\":\"b\"} is enqueued; "), "{told}");
    let told = message(|| _ = pf.assert_enqueued::<counted>().delayed_by(days(1)));
    assert!(told.starts_with("no call of `counted` delayed by 1d is enqueued; "), "{told}");
    let told = message(|| _ = pf.assert_enqueued::<mail>().times(2));
    assert!(told.starts_with("1 call of `mail` enqueued and not 2; "), "{told}");
    let told = message(|| pf.refute_enqueued::<mail>());
    assert!(told.starts_with("`mail` is enqueued after all; enqueued are:\n  mail"), "{told}");
}

#[portfire::test]
async fn what_waits_for_others_is_listed_with_what_it_waits_for(pf: TestPortfire) {
    let client = pf.client();
    let parent = client.enqueue(mail("a")).await.unwrap();
    client.enqueue(mail("b").after(parent)).await.unwrap();
    let batch = client.batch("two").add(mail("c")).after_end(parent).enqueue().await.unwrap();
    let told = message(|| _ = pf.assert_enqueued::<mail>().times(1));
    assert!(told.contains("mail {\"to\":\"b\"} in queue `mail`, after 1 more end"), "{told}");
    let told = message(|| _ = pf.assert_enqueued::<mail>().with_args(mail("b")).at_once());
    assert!(told.starts_with("no call of `mail` with {\"to\":\"b\"} to run at once"), "{told}");
    let told = message(|| _ = pf.assert_enqueued::<mail>().in_batch(batch).fired_by("daily"));
    assert!(told.contains(&format!("in batch {batch} fired by `daily` is enqueued")), "{told}");
    let told = message(|| _ = pf.assert_enqueued::<mail>().unique());
    assert!(told.contains("no call of `mail` holding a unique key"), "{told}");
    let told = message(|| _ = pf.assert_enqueued::<mail>().under_limit("smtp"));
    assert!(told.contains("under the limit `smtp`"), "{told}");
    let told = message(|| _ = pf.assert_batch(batch, portfire::BatchState::Started));
    assert!(told.starts_with(&format!("batch {batch} is awaiting and not started; ")), "{told}");
    let told = message(|| _ = pf.assert_recurring("daily"));
    assert!(told.starts_with("`daily` is no recurring job; there are none"), "{told}");
    client.recurring("weekly", "0 8 * * MON", mail("w")).upsert().await.unwrap();
    let told = message(|| _ = pf.assert_recurring("daily"));
    assert_eq!(told, "`daily` is no recurring job; there are: weekly");
    assert_eq!(message(|| pf.refute_recurring("weekly")), "`weekly` is a recurring job after all");
}

#[portfire::test]
async fn missing_handlers_and_outputs_are_explained(pf: TestPortfire) {
    let pf = pf.register(portfire::jobs![counted]).services(services());
    pf.client().enqueue(mail("a")).await.unwrap();
    let drained = pf.drain().await;
    let told = message(|| _ = drained.assert_all_succeeded());
    assert!(told.contains("mail {\"to\":\"a\"} (attempt 1) has no handler here"), "{told}");
    let told = message(|| _ = drained.assert_ran::<counted>(1));
    assert!(told.starts_with("`counted` ran 0 times and not 1; there ran:\n  mail"), "{told}");
    assert!(message(|| _ = drained.output::<mail>()).starts_with("no output: mail"));
    let nothing = message(|| _ = portfire::testing::Drained::default().assert_all_succeeded());
    assert!(nothing.contains("nothing ran"), "{nothing}");
}

/// What an assertion says when it fails.
fn message(fails: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fails));
    let panic = panic.expect_err("the assertion holds, and should not");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&'static str>().expect("a text")).to_owned(),
    }
}
