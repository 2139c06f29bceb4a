//! Jobs that wait for others: limits, tenants, continuations, batches, as servers run them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use portfire_core::{
    After, BatchId, BatchState, Dependency, JobError, JobId, Json, LimitName, LimitRule,
    LimitTarget, LimitUse, Monitor, NewBatch, NewJob, StateName, Storage,
};
use portfire_server::Runtime;

use crate::stage::{DONE, SECOND, Stage, ms, play};

fn limited(name: &str, partition: &str, concurrency: u32) -> impl Fn(NewJob) -> NewJob + use<> {
    let limit_use = LimitUse {
        limit: LimitName::new(name).unwrap(),
        partition: partition.to_owned(),
        declared: Some(LimitRule::concurrency(concurrency)),
    };
    move |mut job| {
        job.ties.limits = vec![limit_use.clone()];
        job
    }
}

fn after(parent: JobId, on: After) -> impl FnOnce(NewJob) -> NewJob {
    move |mut job| {
        job.ties.after = vec![Dependency::on(parent).after(on).passing()];
        job
    }
}

/// Adds a handler that takes a time and counts how many run beside it, in all servers.
fn on_counted(stage: &Stage, kind: &str, takes: std::time::Duration) -> Arc<AtomicUsize> {
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
fn a_limit_of_one_holds_over_four_servers_and_wastes_no_time() {
    play(|stage| async move {
        let most = on_counted(&stage, "alone", ms(100));
        let mut servers = Vec::new();
        for _ in 0..4 {
            servers.push(stage.server().workers(4).start().await.unwrap());
        }
        let one = limited("mutex", "", 1);
        for _ in 0..40 {
            stage.enqueue_with("alone", &one).await;
        }
        let began = stage.world.elapsed();
        stage.until_count(StateName::Succeeded, 40).await;
        assert_eq!(most.load(Ordering::SeqCst), 1);
        let took = stage.world.elapsed() - began;
        assert!(took < 5 * SECOND, "40 jobs of 100 ms one after the other took {took:?}");
        drop(servers);
    });
}

#[test]
fn a_limit_that_is_raised_lets_more_run_at_once() {
    play(|stage| async move {
        let most = on_counted(&stage, "some", SECOND);
        let _server = stage.server().workers(10).start().await.unwrap();
        let one = limited("pool", "", 1);
        for _ in 0..20 {
            stage.enqueue_with("some", &one).await;
        }
        stage.world.pass(ms(2_500)).await;
        assert_eq!(most.load(Ordering::SeqCst), 1);
        let target = LimitTarget::Named(LimitName::new("pool").unwrap());
        stage.storage.set_limit(target, Some(LimitRule::concurrency(5))).await.unwrap();
        let began = stage.world.elapsed();
        stage.until_count(StateName::Succeeded, 20).await;
        assert_eq!(most.load(Ordering::SeqCst), 5);
        assert!(stage.world.elapsed() - began < 10 * SECOND);
    });
}

#[test]
fn a_dead_servers_slot_is_free_once_its_job_is_returned() {
    play(|stage| async move {
        on_counted(&stage, "alone", 5 * SECOND);
        let dying = stage.start().await;
        let one = limited("mutex", "", 1);
        let first = stage.enqueue_with("alone", &one).await;
        stage.until_state(first, StateName::Processing).await;
        let second = stage.enqueue_with("alone", &one).await;
        let _living = stage.start().await;
        stage.world.pass(SECOND).await;
        assert_eq!(stage.state(second).await, StateName::Enqueued);
        drop(dying);
        stage.until_count(StateName::Succeeded, 2).await;
        assert_eq!(stage.job(first).await.recoveries, 1);
    });
}

#[test]
fn tenants_take_turns_however_long_their_lines_are() {
    play(|stage| async move {
        let (world, notes) = (stage.world.clone(), stage.notes.clone());
        stage.on("work", move |cx| {
            let (world, notes) = (world.clone(), notes.clone());
            async move {
                notes.add(cx.ties().limits[0].partition.clone());
                world.pass(ms(100)).await;
                DONE
            }
        });
        // One tenant comes first with a hundred jobs, the others with five each.
        for (tenant, jobs) in [("big", 100), ("a", 5), ("b", 5), ("c", 5)] {
            let of_tenant = limited("tenant", tenant, 1);
            for _ in 0..jobs {
                stage.enqueue_with("work", &of_tenant).await;
            }
        }
        let _servers = [
            stage.server().workers(1).start().await.unwrap(),
            stage.server().workers(1).start().await.unwrap(),
        ];
        stage.until_count(StateName::Succeeded, 115).await;
        let order = stage.notes.all();
        for tenant in ["a", "b", "c"] {
            let last = order.iter().rposition(|noted| noted == tenant).unwrap();
            assert!(last < 40, "tenant {tenant} waits for the big one: {order:?}");
        }
    });
}

#[test]
fn a_continuation_runs_at_once_in_the_same_server_and_gets_what_its_parent_returned() {
    play(|stage| async move {
        stage.on("extract", |_| async { Ok(Some(Json::stored("[3,4]"))) });
        stage.on("load", |cx| async move {
            let rows: Vec<u32> = cx.parent()?;
            assert_eq!(cx.parents()[0].state, StateName::Succeeded);
            Ok(Some(Json::encode(&rows.iter().sum::<u32>())?))
        });
        let _server = stage.server().poll_interval(60 * SECOND).start().await.unwrap();
        stage.world.pass(ms(1_234)).await;
        let parent = stage.client.next_id();
        let kind = |kind: &str| portfire_core::KindName::new(kind.to_owned()).unwrap();
        let child = stage.client.next_id();
        let jobs = vec![
            NewJob::new(parent, kind("extract"), Json::empty()),
            after(parent, After::Success)(NewJob::new(child, kind("load"), Json::empty())),
        ];
        let began = stage.world.elapsed();
        stage.client.create(jobs).await.unwrap();
        let done = stage.until_state(child, StateName::Succeeded).await;
        assert!(stage.world.elapsed() - began <= ms(5), "it waits for no poll");
        assert!(format!("{:?}", done.state).contains("result: Some(7)"), "{:?}", done.state);
    });
}

#[test]
fn a_continuation_on_failure_gets_the_error() {
    play(|stage| async move {
        stage.on("fails", |_| async { Err(JobError::permanent("no paper")) });
        let notes = stage.notes.clone();
        stage.on("clean", move |cx| {
            notes.add(cx.parent_error().unwrap().message.clone());
            let refused = cx.parent::<u32>().unwrap_err().to_string();
            assert!(refused.contains("no paper"), "{refused}");
            async { DONE }
        });
        stage.on("never", |_| async { DONE });
        let _server = stage.start().await;
        let parent = stage.enqueue("fails").await;
        let child = stage.enqueue_with("clean", after(parent, After::Failure)).await;
        let never = stage.enqueue_with("never", after(parent, After::Success)).await;
        stage.until_state(child, StateName::Succeeded).await;
        // The parent may be requeued and succeed still.
        stage.until_state(never, StateName::Awaiting).await;
        assert!(stage.client.delete(parent).await.unwrap().is_done());
        stage.until_state(never, StateName::Deleted).await;
        assert_eq!(stage.notes.all(), ["no paper"]);
    });
}

#[test]
fn a_parent_whose_result_is_of_another_shape_is_a_permanent_error_with_the_path() {
    play(|stage| async move {
        stage.on("extract", |_| async { Ok(Some(Json::stored(r#"{"rows":["x"]}"#))) });
        stage.on("load", |cx| async move {
            #[derive(Debug, serde::Deserialize)]
            struct Rows {
                #[allow(dead_code)]
                rows: Vec<u32>,
            }
            cx.parent::<Rows>().map(|_| None)
        });
        let _server = stage.start().await;
        let parent = stage.enqueue("extract").await;
        let child = stage.enqueue_with("load", after(parent, After::Success)).await;
        let failed = stage.until_state(child, StateName::Failed).await;
        let text = format!("{:?}", failed.state);
        assert!(text.contains("undecodable_parent") && text.contains("rows[0]"), "{text}");
    });
}

#[test]
fn a_batch_is_followed_by_its_callback_and_takes_members_from_inside() {
    play(|stage| async move {
        let notes = stage.notes.clone();
        let client = stage.client.clone();
        stage.on("row", move |cx| {
            let (notes, client) = (notes.clone(), client.clone());
            async move {
                notes.add("row");
                let batch = cx.ties().batch.unwrap();
                assert_eq!(cx.batch().unwrap().id(), batch);
                if cx.options().tags.is_empty() {
                    let kind = portfire_core::KindName::stored("row");
                    let mut more = NewJob::new(client.next_id(), kind, Json::empty());
                    more.ties.batch = Some(batch);
                    more.options.tags = vec!["more".to_owned()];
                    cx.client().create(vec![more]).await.unwrap();
                }
                DONE
            }
        });
        let notes = stage.notes.clone();
        stage.on("publish", move |_| {
            notes.add("published");
            async { DONE }
        });
        let _server = stage.start().await;
        let batch = BatchId::new(stage.client.next_id());
        let kind = |kind: &str| portfire_core::KindName::new(kind.to_owned()).unwrap();
        let member = || {
            let mut job = NewJob::new(stage.client.next_id(), kind("row"), Json::empty());
            job.ties.batch = Some(batch);
            job
        };
        let mut callback = NewJob::new(stage.client.next_id(), kind("publish"), Json::empty());
        callback.ties.after = vec![Dependency::on(batch)];
        let last = callback.id;
        let jobs = (0..10).map(|_| member()).chain([callback]).collect();
        stage.storage.create_batches(vec![NewBatch::new(batch)], jobs).await.unwrap();
        stage.until_state(last, StateName::Succeeded).await;
        let order = stage.notes.all();
        assert_eq!((order.len(), order.last().map(String::as_str)), (21, Some("published")));
        let record = stage.storage.batch(batch).await.unwrap().unwrap();
        assert_eq!((record.state, record.members.succeeded), (BatchState::Succeeded, 20));
    });
}

#[test]
fn a_cancelled_batch_stops_what_runs_and_deletes_what_waits() {
    play(|stage| async move {
        let notes = stage.notes.clone();
        stage.on("row", move |cx| {
            let notes = notes.clone();
            async move {
                let stop = cx.cancellation().cancelled().await;
                notes.add(format!("{:?}", stop.reason));
                Err(stop.into())
            }
        });
        let _server = stage.server().workers(2).start().await.unwrap();
        let batch = BatchId::new(stage.client.next_id());
        let member = || {
            let kind = portfire_core::KindName::stored("row");
            let mut job = NewJob::new(stage.client.next_id(), kind, Json::empty());
            job.ties.batch = Some(batch);
            job
        };
        let jobs = (0..100).map(|_| member()).collect();
        stage.storage.create_batches(vec![NewBatch::new(batch)], jobs).await.unwrap();
        stage.until_count(StateName::Processing, 2).await;
        let reason = "the file was wrong".to_owned();
        let cancel = portfire_core::BatchChange::Cancel { reason };
        let _ = stage.storage.change_batch(batch, cancel).await.unwrap();
        stage.until_count(StateName::Deleted, 100).await;
        stage.world.until("both heard", || stage.notes.count("Deleted") == 2).await;
        let record = stage.storage.batch(batch).await.unwrap().unwrap();
        assert_eq!(record.state, BatchState::Cancelled);
    });
}

#[test]
fn an_attempt_that_was_ended_in_a_transaction_is_a_success_like_others() {
    play(|stage| async move {
        let storage = Arc::clone(&stage.storage);
        // As a storage does it in the handler's transaction: the finish is applied before the handler
        // returns, and the server's own comes later.
        stage.on("tx", move |cx| {
            let storage = Arc::clone(&storage);
            async move {
                cx.log("in the transaction");
                let mut request =
                    portfire_core::CycleRequest::new(cx.server_id().unwrap().clone(), 1 << 40);
                let result = Some(Json::stored("1"));
                request.notes = cx.take_notes().into_iter().collect();
                request.finished = vec![portfire_core::Finish {
                    claim: cx.claim(),
                    outcome: portfire_core::Outcome::Succeeded { result: result.clone() },
                    duration: ms(1),
                }];
                let answer = storage.cycle(request).await.unwrap();
                assert_eq!(answer.verdicts, [portfire_core::Verdict::Applied]);
                cx.complete(result);
                // Whatever happens to the handler now changes nothing.
                Err(JobError::new("the line was cut after the commit"))
            }
        });
        let server = stage.start().await;
        let id = stage.enqueue("tx").await;
        stage.until_state(id, StateName::Succeeded).await;
        stage.world.until("it is reported", || server.stats().finished_total == 1).await;
        assert_eq!((server.stats().fenced_total, stage.job(id).await.failures), (0, 0));
        assert_eq!(stage.log(id).await, ["in the transaction"]);
    });
}
