//! Jobs that belong together, in a test's storage: continuations, chains, batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portfire::prelude::*;
use portfire::testing::{TestPortfire, minutes};
use portfire::{BatchId, BatchState, ClientError, InvalidJob, StateName};

#[job]
async fn fetch(order: u32) -> Result<Vec<u32>, JobError> {
    Ok((1..=order).collect())
}

#[job]
async fn store(table: &str, #[parent] rows: &[u32]) -> Result<String, JobError> {
    Ok(format!("{table}:{}", rows.len()))
}

#[job]
async fn notify(channel: &str) -> Result<(), JobError> {
    let _ = channel;
    Ok(())
}

#[job(retry = none)]
async fn breaks(reason: String) -> Result<(), String> {
    Err(reason)
}

#[job]
async fn explain(#[parent] error: ParentError) -> Result<String, JobError> {
    Ok(error.error.map(|error| error.message).unwrap_or_default())
}

#[job]
async fn combine(#[parents] sizes: Vec<String>) -> Result<String, JobError> {
    Ok(sizes.join("+"))
}

fn state(pf: &TestPortfire, id: JobId) -> StateName {
    pf.job(id).expect("the job is stored").state.name()
}

#[portfire::test]
async fn a_chain_hands_results_on_and_is_stored_at_once(pf: TestPortfire) {
    let client = pf.client();
    let last = client.enqueue(fetch(3).pipe(store("t1")).then(notify("ops"))).await.unwrap();
    pf.assert_enqueued::<fetch>().at_once().once();
    let waiting = pf.assert_enqueued::<notify>().once();
    assert_eq!((waiting.id, waiting.state.name()), (last, StateName::Awaiting));
    let drained = pf.drain().await;
    drained.assert_all_succeeded();
    assert_eq!(drained.output::<store>(), "t1:3");
    let order: Vec<_> = drained.runs().iter().map(|run| run.kind.as_str()).collect();
    assert_eq!(order, ["fetch", "store", "notify"]);
    let counts = pf.storage().counts().await.unwrap();
    assert_eq!((counts.created_total, state(&pf, last)), (3, StateName::Succeeded));
}

#[portfire::test]
async fn a_continuation_follows_the_end_it_names_and_is_deleted_after_another(pf: TestPortfire) {
    let client = pf.client();
    let parent = client.enqueue(breaks("no disk".into())).await.unwrap();
    let on_failure = client.continue_with(parent, explain()).on(After::Failure).await.unwrap();
    let on_success = client.continue_with(parent, notify("ok")).await.unwrap();
    let on_end = client.continue_with(parent, notify("end")).on(After::End).await.unwrap();
    let after_deleted = client.enqueue(notify("never").after(on_success)).await.unwrap();
    let drained = pf.drain().await;
    assert_eq!(drained.output::<explain>(), "no disk");
    assert_eq!(state(&pf, on_failure), StateName::Succeeded);
    assert_eq!(state(&pf, on_end), StateName::Succeeded);
    // The parent may be requeued and succeed still.
    assert_eq!(state(&pf, on_success), StateName::Awaiting);
    drained.assert_ran::<notify>(1);
    assert!(client.delete(parent).await.unwrap().is_done());
    assert_eq!(state(&pf, on_success), StateName::Deleted);
    assert_eq!(state(&pf, after_deleted), StateName::Deleted);
}

#[portfire::test]
async fn a_parent_that_has_ended_decides_at_once_and_a_missing_one_is_refused(pf: TestPortfire) {
    let client = pf.client();
    let parent = client.enqueue(fetch(2)).await.unwrap();
    pf.drain().await.assert_all_succeeded();
    client.continue_with(parent, store("late")).await.unwrap();
    assert_eq!(pf.drain().await.output::<store>(), "late:2");
    let nobody = client.next_id();
    let refused = client.continue_with(nobody, notify("x")).await.unwrap_err();
    let missing = matches!(refused, ClientError::Invalid(InvalidJob::NoAntecedent { .. }));
    assert!(missing, "{refused:?}");
}

#[portfire::test]
async fn a_diamond_waits_for_both_sides(pf: TestPortfire) {
    let client = pf.client();
    let top = client.enqueue(fetch(4)).await.unwrap();
    let left = client.continue_with(top, store("left")).await.unwrap();
    let right = client.continue_with(top, store("right")).delay(minutes(5)).await.unwrap();
    client.enqueue(combine().after(left).after(right)).await.unwrap();
    pf.assert_enqueued::<combine>().after(left).after(right).once();
    pf.drain().await.assert_ran::<combine>(0).assert_ran::<store>(1);
    pf.advance(minutes(5)).await;
    assert_eq!(pf.drain().await.output::<combine>(), "left:4+right:4");
}

#[job]
async fn import(row: u32, cx: &JobContext) -> Result<(), JobError> {
    let batch = cx.batch().ok_or_else(|| JobError::permanent("no batch"))?;
    if row == 3 {
        batch.add(import(30)).await?;
    }
    Ok(())
}

#[portfire::test]
async fn a_batch_ends_after_its_members_and_those_they_add(pf: TestPortfire) {
    let rows = [1, 2, 3];
    let batch = pf
        .client()
        .batch("import")
        .add_all(rows.iter().map(|&row| import(row)))
        .add_batch(Batch::new("more").add(import(20)).on_finish(notify("nested")))
        .on_success(notify("done"))
        .on_failure(notify("broken"))
        .enqueue()
        .await
        .unwrap();
    let record = pf.assert_batch(batch, BatchState::Started);
    assert_eq!((record.members.total, record.description.as_str()), (4, "import"));
    pf.assert_enqueued::<import>().in_batch(batch).times(3);
    let drained = pf.drain().await;
    drained.assert_all_succeeded().assert_ran::<import>(5).assert_ran::<notify>(2);
    let record = pf.assert_batch(batch, BatchState::Succeeded);
    assert_eq!((record.members.total, record.members.succeeded), (5, 5));
    let late = pf.client().add_to_batch(batch, notify("late")).await.unwrap_err();
    assert!(late.to_string().contains("is succeeded and takes no more members"), "{late}");
}

#[portfire::test]
async fn an_error_in_the_builder_stores_nothing(pf: TestPortfire) {
    let rows = (0..10).map(|row| if row < 9 { Ok(notify("x")) } else { Err("a torn line") });
    let batch = pf.client().batch("import").try_add_all(rows).on_finish(notify("end"));
    let error = batch.enqueue().await.unwrap_err();
    assert!(error.to_string().ends_with("made from failed: a torn line"), "{error}");
    let wrong = pf.client().batch("import").add(notify("a")).add(notify("b").queue("No Queue"));
    assert!(wrong.enqueue().await.is_err());
    let counts = pf.storage().counts().await.unwrap();
    assert_eq!(counts.created_total, 0);
}

#[portfire::test]
async fn a_batch_larger_than_a_call_starts_when_it_is_whole(pf: TestPortfire) {
    let taken = Arc::new(AtomicUsize::new(0));
    let (storage, counted) = (pf.storage(), Arc::clone(&taken));
    let most_ahead = Arc::new(AtomicUsize::new(0));
    let ahead = Arc::clone(&most_ahead);
    let calls = (0..12_500).map(move |_| {
        let taken = counted.fetch_add(1, Ordering::Relaxed) + 1;
        let counts = portfire::block_on(storage.counts()).unwrap();
        assert_eq!(counts.of(StateName::Enqueued), 0, "a member could run before all are stored");
        ahead.fetch_max(taken - counts.created_total as usize, Ordering::Relaxed);
        notify("row")
    });
    let batch = pf.client().batch("huge").add_all(calls).on_success(notify("done"));
    let batch = batch.enqueue().await.unwrap();
    assert_eq!(taken.load(Ordering::Relaxed), 12_500);
    let most_ahead = most_ahead.load(Ordering::Relaxed);
    assert!(most_ahead <= 11_000, "{most_ahead} calls were held at once");
    assert_eq!(pf.assert_batch(batch, BatchState::Started).members.total, 12_500);
    pf.drain().await.assert_ran::<notify>(12_501);
    pf.assert_batch(batch, BatchState::Succeeded);
}

#[portfire::test]
async fn a_large_batch_that_cannot_be_created_whole_is_cancelled(pf: TestPortfire) {
    let rows = (0..10_500).map(|row| if row < 10_300 { Ok(notify("x")) } else { Err("torn") });
    let batch = pf.client().batch("torn").try_add_all(rows).on_finish(notify("end"));
    assert!(matches!(batch.enqueue().await, Err(ClientError::Source(_))));
    assert!(pf.drain().await.is_empty());
    pf.assert_nothing_enqueued();
    let batches = pf.storage().batches(Default::default()).await.unwrap().batches;
    assert_eq!(batches.len(), 1);
    pf.assert_batch(batches[0].id, BatchState::Cancelled);
}

#[portfire::test]
async fn a_batch_with_an_id_is_created_once_and_a_failing_repeat_does_not_cancel_it(
    pf: TestPortfire,
) {
    let client = pf.client();
    let id = BatchId::new(JobId::from_name("import:7"));
    let rows = |last: u32| {
        let key = |row| notify("x").key(&format!("import:7:{row}"));
        (0..10_500).map(move |row| if row < last { Ok(key(row)) } else { Err("torn") })
    };
    let whole = client.batch("import").id(id).try_add_all(rows(10_500));
    assert_eq!(whole.enqueue().await.unwrap(), id);
    let repeat = client.batch("import").id(id).try_add_all(rows(10_500)).enqueue().await;
    assert_eq!(repeat.unwrap(), id);
    let torn = client.batch("import").id(id).try_add_all(rows(10_400)).enqueue().await;
    assert!(matches!(torn, Err(ClientError::Source(_))));
    assert_eq!(pf.assert_batch(id, BatchState::Started).members.total, 10_500);
}

#[portfire::test]
async fn batches_follow_jobs_and_batches_and_can_be_delayed_and_cancelled(pf: TestPortfire) {
    let client = pf.client();
    let first = client.batch("first").add(notify("1")).enqueue().await.unwrap();
    let second = client.batch("second").add(notify("2")).delay(minutes(1)).after(first);
    let second = second.enqueue().await.unwrap();
    let third = client.batch("third").add(notify("3")).after_end(second).enqueue().await.unwrap();
    let empty = client.batch("empty").on_success(notify("empty")).enqueue().await.unwrap();
    pf.assert_batch(second, BatchState::Awaiting);
    pf.drain().await.assert_ran::<notify>(2);
    pf.assert_batch(first, BatchState::Succeeded);
    pf.assert_batch(empty, BatchState::Succeeded);
    pf.assert_batch(second, BatchState::Started);
    pf.assert_enqueued::<notify>().in_batch(second).delayed_by(minutes(1));
    let handle = client.batch_handle(second);
    let _ = handle.cancel().await.unwrap();
    pf.drain().await.assert_ran::<notify>(1);
    pf.assert_batch(second, BatchState::Cancelled);
    assert_eq!(handle.record().await.unwrap().unwrap().members.deleted, 1);
    pf.assert_batch(third, BatchState::Succeeded);
}

#[portfire::test]
async fn calls_of_different_jobs_fit_into_one_list(pf: TestPortfire) {
    let client = pf.client();
    let ids = client.enqueue_many([fetch(1).any(), notify("x").any()]).await.unwrap();
    assert_eq!(ids.len(), 2);
    let chains = (1..=3).map(|order| fetch(order).pipe(store("t")));
    let last = client.enqueue_many(chains).await.unwrap();
    pf.drain().await.assert_all_succeeded().assert_ran::<store>(3);
    for id in last {
        assert_eq!(pf.job(id).unwrap().kind.as_str(), "store");
    }
}

#[portfire::test]
async fn a_chain_with_a_rejected_call_goes_on_after_the_holder_of_the_key(pf: TestPortfire) {
    let client = pf.client();
    let unique = || Unique::by_key("one");
    let holder = client.enqueue(fetch(1).unique(unique())).await.unwrap();
    client.enqueue(fetch(2).unique(unique()).pipe(store("t"))).await.unwrap();
    pf.assert_enqueued::<fetch>().unique().once();
    pf.assert_enqueued::<store>().after(holder).once();
    assert_eq!(pf.drain().await.output::<store>(), "t:1");
}

#[portfire::test]
async fn code_without_a_runtime_does_all_of_it_too(pf: TestPortfire) {
    let client = pf.client();
    let blocking = client.blocking();
    let parent = blocking.enqueue(fetch(1)).unwrap();
    blocking.continue_with(parent, After::End, store("t")).unwrap();
    let batch = Batch::new("import").add(notify("a")).add_all([notify("b")]);
    let batch = blocking.enqueue_batch(batch).unwrap();
    blocking.add_to_batch(batch, notify("c")).unwrap();
    assert_eq!(blocking.batch_record(batch).unwrap().unwrap().members.total, 3);
    let recurring = portfire::Recurring::new("r", Duration::from_secs(60), notify("r"));
    assert!(matches!(blocking.upsert(recurring), Ok(portfire::Upserted::Changed { .. })));
    blocking.recurring_job("r").trigger().unwrap();
    pf.drain().await.assert_all_succeeded().assert_ran::<notify>(4);
    let guard = blocking.acquire(client.lock("l")).unwrap();
    assert!(matches!(blocking.acquire(client.lock("l")), Err(ClientError::LockTaken { .. })));
    drop(guard);
    assert!(blocking.acquire(client.lock("l")).is_ok(), "a guard that is dropped gives it back");
}
