//! Recurring jobs, unique keys, limits and locks, in a test's storage.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portfire::prelude::*;
use portfire::testing::{TestPortfire, days, hours, minutes, seconds};
use portfire::{ClientError, LimitName, LimitRule, LimitTarget, StateName, Timestamp, Upserted};

#[job]
async fn compile(kind: &str, tick: Tick) -> Result<String, JobError> {
    Ok(format!("{kind} {} {}", tick.nominal, tick.triggered))
}

#[job(cron = "30 4 * * *", tz = "Europe/Amsterdam")]
async fn tidy_up(tick: Tick) -> Result<Timestamp, JobError> {
    Ok(tick.nominal)
}

#[job(unique(by("user_id"), on_conflict = replace))]
async fn remind(user_id: u64, text: String) -> Result<String, JobError> {
    let _ = user_id;
    Ok(text)
}

#[job(limit("tenant:{tenant}", rate = "2/m"))]
async fn charge(tenant: &str) -> Result<(), JobError> {
    let _ = tenant;
    Ok(())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[portfire::test]
async fn a_recurring_job_fires_at_its_instants_as_time_passes(pf: TestPortfire) {
    let client = pf.client();
    let daily = || {
        client
            .recurring("daily", cron!("0 8 * * *"), compile("sales"))
            .tz("Europe/Amsterdam")
            .overlap(Overlap::Allow)
    };
    let next_at = Some(at("2026-01-01T07:00:00Z"));
    assert_eq!(daily().upsert().await.unwrap(), Upserted::Changed { next_at });
    assert_eq!(daily().upsert().await.unwrap(), Upserted::Unchanged);
    assert_eq!(pf.assert_recurring("daily").next_at, next_at);
    pf.assert_nothing_enqueued();

    pf.advance(days(3)).await;
    pf.assert_enqueued::<compile>().fired_by("daily").times(3);
    let drained = pf.drain().await;
    drained.assert_all_succeeded().assert_ran::<compile>(3);
    assert_eq!(drained.output::<compile>(), "sales 2026-01-03T07:00:00.000000Z false");
    let runs = pf.runs("daily");
    assert_eq!(runs.len(), 3);
    assert!(runs.iter().all(|run| run.outcome == Some(StateName::Succeeded)));

    assert!(client.recurring_job("daily").remove().await.unwrap());
    assert!(!client.recurring_job("daily").remove().await.unwrap());
    pf.refute_recurring("daily");
    pf.run_for(days(2)).await.assert_ran::<compile>(0);
}

#[portfire::test]
async fn a_recurring_job_is_triggered_paused_and_resumed(pf: TestPortfire) {
    let client = pf.client();
    client.recurring("pulse", Duration::from_secs(90), compile("pulse")).upsert().await.unwrap();
    let pulse = client.recurring_job("pulse");
    let run = pulse.trigger().await.unwrap();
    assert_eq!(pf.drain().await.output::<compile>(), "pulse 2026-01-01T00:00:00.000000Z true");
    assert_eq!(pulse.runs(10).await.unwrap()[0].job, Some(run));
    assert!(pulse.pause().await.unwrap());
    assert!(!pulse.pause().await.unwrap(), "it is paused already");
    pf.run_for(minutes(10)).await.assert_ran::<compile>(0);
    assert!(pulse.resume().await.unwrap());
    pf.run_for(minutes(3)).await.assert_ran::<compile>(2);
    assert!(pulse.pause_until(pf.now().saturating_add(hours(1))).await.unwrap());
    pf.run_for(minutes(59)).await.assert_ran::<compile>(0);
    pf.run_for(minutes(4)).await.assert_ran::<compile>(2);
    assert!(pulse.record().await.unwrap().unwrap().paused.is_none());

    let nobody = client.recurring_job("nobody");
    assert!(matches!(nobody.trigger().await, Err(ClientError::NoRecurring { .. })));
    assert!(matches!(nobody.pause().await, Err(ClientError::NoRecurring { .. })));
    assert!(nobody.record().await.unwrap().is_none());
    assert!(client.recurring_job("").trigger().await.unwrap_err().to_string().contains("1 to 128"));
}

#[portfire::test]
async fn a_bad_schedule_is_refused_with_its_place(pf: TestPortfire) {
    let client = pf.client();
    let refusal = async |recurring: portfire::Recurring<Client>| {
        recurring.upsert().await.unwrap_err().to_string()
    };
    let cron = refusal(client.recurring("r", "0 24 * * *", compile("x"))).await;
    assert!(cron.contains("hour") && cron.contains("24"), "{cron}");
    let zone = client.recurring("r", "0 8 * * *", compile("x")).tz("Europe/Amsterdm");
    let zone = refusal(zone).await;
    assert!(zone.contains("Europe/Amsterdm"), "{zone}");
    let start = at("2027-01-01T00:00:00Z");
    let ends = client.recurring("r", "0 8 * * *", compile("x")).starts_at(start);
    let ends = refusal(ends.ends_at(at("2026-01-01T00:00:00Z"))).await;
    assert!(ends.contains("its end lies before its start"), "{ends}");
    let often = refusal(client.recurring("r", Duration::from_millis(10), compile("x"))).await;
    assert!(often.contains("at least a second"), "{often}");
    pf.refute_recurring("r");
}

#[portfire::test]
async fn one_application_does_not_change_what_another_owns(pf: TestPortfire) {
    let client = pf.client();
    let owned = |app: &str| client.recurring("r", "0 8 * * *", compile("x")).app(app);
    owned("shop").upsert().await.unwrap();
    let refused = owned("blog").upsert().await.unwrap_err();
    assert!(matches!(&refused, ClientError::Owned { app, .. } if app == "shop"), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        "the recurring job `r` belongs to the application `shop`: take another name, or name that application by `.app(..)`"
    );
    client.recurring("nobody's", "@daily", compile("x")).upsert().await.unwrap();
    let refused = client.recurring("nobody's", "@daily", compile("x")).app("shop").upsert().await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the recurring job `nobody's` belongs to no application: take another name, or leave `.app(..)` out"
    );
    assert_eq!(pf.assert_recurring("r").definition.app, "shop");
}

#[portfire::test]
async fn what_code_declares_fires_once_it_is_stored(pf: TestPortfire) {
    let pf = pf.register(portfire::jobs![tidy_up, compile]);
    pf.run_for(days(2)).await.assert_ran::<tidy_up>(0);
    assert_eq!(pf.store_declared().await, 1);
    assert!(pf.assert_recurring("tidy_up").definition.declared);
    let drained = pf.run_for(days(1)).await;
    drained.assert_ran::<tidy_up>(1);
    assert_eq!(drained.output::<tidy_up>(), at("2026-01-03T03:30:00Z"));
}

#[portfire::test]
async fn a_unique_call_is_stored_once_and_answers_the_holder(pf: TestPortfire) {
    let client = pf.client();
    let call = || compile("x").unique(Unique::by_args());
    let first = client.enqueue_unique(call()).await.unwrap();
    assert!(!first.existing);
    let second = client.enqueue_unique(call()).await.unwrap();
    assert_eq!((second.id, second.existing), (first.id, true));
    assert_eq!(client.enqueue(call()).await.unwrap(), first.id);
    assert_ne!(client.enqueue(compile("y").unique(Unique::by_args())).await.unwrap(), first.id);
    pf.assert_enqueued::<compile>().unique().times(2);
    pf.drain().await.assert_ran::<compile>(2);
    assert!(!client.enqueue_unique(call()).await.unwrap().existing, "its end gives the key back");

    let within = || compile("z").unique(Unique::by_key("z").within("10m"));
    client.enqueue(within()).await.unwrap();
    pf.drain().await.assert_all_succeeded();
    pf.advance(minutes(9)).await;
    assert!(client.enqueue_unique(within()).await.unwrap().existing);
    pf.advance(minutes(1)).await;
    assert!(!client.enqueue_unique(within()).await.unwrap().existing);
}

#[portfire::test]
async fn the_key_of_an_attribute_replaces_what_waits(pf: TestPortfire) {
    let client = pf.client();
    client.schedule(remind(1, "first".into()), hours(1)).await.unwrap();
    client.schedule(remind(1, "second".into()), hours(1)).await.unwrap();
    client.schedule(remind(2, "other".into()), hours(1)).await.unwrap();
    client.schedule(remind(1, "apart".into()).unique(None), hours(1)).await.unwrap();
    pf.assert_enqueued::<remind>().times(3);
    let waiting = pf.assert_enqueued::<remind>().jobs().to_vec();
    assert!(!waiting.iter().any(|job| job.args.as_str().contains("first")), "it was replaced");
    assert_eq!(waiting.iter().filter(|job| job.ties.unique.is_some()).count(), 2);
}

#[portfire::test]
async fn a_rate_is_kept_for_each_partition(pf: TestPortfire) {
    let client = pf.client();
    let calls = (0..5).flat_map(|_| [charge("acme"), charge("zeta")]);
    client.enqueue_many(calls).await.unwrap();
    pf.assert_enqueued::<charge>().under_limit("tenant:acme").times(5);
    pf.drain().await.assert_ran::<charge>(4);
    assert!(pf.drain().await.is_empty());
    pf.run_for(seconds(70)).await.assert_ran::<charge>(4);
    let tenants = LimitTarget::Named(LimitName::new("tenant").unwrap());
    client.set_limit(tenants.clone(), LimitRule::concurrency(1)).await.unwrap();
    pf.drain().await.assert_ran::<charge>(2);
    let zero = client.set_limit(tenants, LimitRule::concurrency(0)).await.unwrap_err();
    assert!(matches!(zero, ClientError::Invalid(_)), "{zero:?}");
}

static INSIDE: AtomicUsize = AtomicUsize::new(0);

#[portfire::test]
async fn a_lock_is_held_by_one_and_given_back(pf: TestPortfire) {
    let client = pf.client();
    let mut guard = client.lock("files").lease("30s").acquire().await.unwrap();
    assert_eq!(guard.until(), pf.now().saturating_add(seconds(30)));
    assert!(client.lock("files").try_acquire().await.unwrap().is_none());
    let again = client.lock("twice");
    let once = again.acquire().await.unwrap();
    assert!(again.try_acquire().await.unwrap().is_none(), "the same lock is not taken twice");
    once.release().await.unwrap();
    let taken = client.lock("files").acquire().await.unwrap_err();
    assert!(taken.to_string().contains("`files` is held by someone else"), "{taken}");

    let waits = client.lock("files").wait("60s");
    let waiting = tokio::spawn(async move {
        let guard = waits.acquire().await.unwrap();
        INSIDE.fetch_add(1, Ordering::Relaxed);
        guard
    });
    tokio::task::yield_now().await;
    pf.advance(seconds(20)).await;
    guard.renew().await.unwrap();
    assert_eq!(INSIDE.load(Ordering::Relaxed), 0);
    let fence = guard.fence();
    guard.release().await.unwrap();
    let mut second = waiting.await.unwrap();
    assert!(second.fence() > fence, "a later grant has a higher fence");

    pf.advance(seconds(31)).await;
    let third = client.lock("files").acquire().await.unwrap();
    assert!(matches!(second.renew().await, Err(ClientError::LockLost { .. })));
    drop(second);
    drop(third);
    tokio::task::yield_now().await;
    let fourth = client.lock("files").wait("60s").acquire().await.unwrap();
    fourth.release().await.unwrap();
    let long = client.lock("x".repeat(256)).acquire().await;
    assert!(matches!(long, Err(ClientError::Invalid(_))), "{long:?}");
    assert!(client.lock("files").lease("0s").acquire().await.is_err());
    assert!(client.lock("files").wait("soon").acquire().await.is_err());
}

#[portfire::test]
async fn the_global_client_does_all_of_it(pf: TestPortfire) {
    let parent = portfire::enqueue(compile("a")).await.unwrap();
    portfire::continue_with(parent, compile("b")).unwrap().on(After::End).await.unwrap();
    let batch = portfire::batch("c").unwrap().add(compile("c")).enqueue().await.unwrap();
    portfire::add_to_batch(batch, compile("d")).await.unwrap();
    portfire::recurring("e", "0 8 * * *", compile("e")).unwrap().upsert().await.unwrap();
    portfire::recurring_job("e").unwrap().trigger().await.unwrap();
    portfire::enqueue_many([compile("f"), compile("g")]).await.unwrap();
    let gone = portfire::schedule(compile("h"), hours(1)).await.unwrap();
    let _ = portfire::delete(gone).await.unwrap();
    assert!(
        !portfire::enqueue_unique(compile("i").unique(Unique::by_args())).await.unwrap().existing
    );
    portfire::blocking::trigger("e").unwrap();
    pf.drain().await.assert_all_succeeded().assert_ran::<compile>(9);
}

#[portfire::test]
async fn inline_mode_runs_continuations_batches_and_triggers_at_once(pf: TestPortfire) {
    let pf = pf.inline();
    let client = pf.client();
    let last = client.enqueue(compile("a").then(compile("b"))).await.unwrap();
    assert_eq!(pf.job(last).unwrap().state.name(), StateName::Succeeded);
    let batch =
        client.batch("c").add(compile("c")).on_finish(compile("d")).enqueue().await.unwrap();
    pf.assert_batch(batch, portfire::BatchState::Succeeded);
    client.recurring("e", "0 8 * * *", compile("e")).upsert().await.unwrap();
    let run = client.recurring_job("e").trigger().await.unwrap();
    assert_eq!(pf.job(run).unwrap().state.name(), StateName::Succeeded);
}
