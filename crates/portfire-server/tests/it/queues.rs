//! Which job comes next: strict and weighted queues, priorities, pauses, pools.

use portfire_core::{Monitor, QueueName, StateName, Storage};
use portfire_server::Pool;

use crate::stage::{DONE, SECOND, Stage, ms, play};

/// Adds a handler that takes 10 ms and notes its queue.
fn on_noting_queue(stage: &Stage, kind: &str) {
    let (world, notes) = (stage.world.clone(), stage.notes.clone());
    stage.on(kind, move |cx| {
        let (world, notes) = (world.clone(), notes.clone());
        async move {
            notes.add(cx.queue().as_str());
            world.pass(ms(10)).await;
            DONE
        }
    });
}

#[test]
fn strict_queues_are_emptied_in_their_order() {
    play(|stage| async move {
        on_noting_queue(&stage, "job");
        stage.enqueue_many("job", "low", 20).await;
        stage.enqueue_many("job", "high", 20).await;
        let server = stage.server().workers(1).queues(["high", "low"]);
        let _server = server.start().await.unwrap();
        stage.until_count(StateName::Succeeded, 40).await;
        let ran = stage.notes.all();
        assert!(ran[..20].iter().all(|queue| queue == "high"), "{ran:?}");
    });
}

#[test]
fn weighted_queues_get_their_shares_and_none_starves() {
    play(|stage| async move {
        on_noting_queue(&stage, "job");
        stage.enqueue_many("job", "big", 600).await;
        stage.enqueue_many("job", "small", 600).await;
        let server = stage.server().workers(2).weighted_queues([("big", 5), ("small", 1)]);
        let _server = server.start().await.unwrap();
        stage.until_count(StateName::Succeeded, 600).await;
        let big = stage.notes.count("big");
        assert!((480..=520).contains(&big), "{big} of 600, and 500 are its share");
        stage.until_count(StateName::Succeeded, 1_200).await;
    });
}

#[test]
fn weighted_queues_leave_no_worker_idle_when_one_is_empty() {
    play(|stage| async move {
        on_noting_queue(&stage, "job");
        stage.enqueue_many("job", "small", 100).await;
        let server = stage.server().workers(1).weighted_queues([("big", 9), ("small", 1)]);
        let _server = server.start().await.unwrap();
        stage.until_count(StateName::Succeeded, 100).await;
        let took = portfire_server::Runtime::elapsed(&stage.world);
        assert!(took < ms(1_200), "{took:?}");
    });
}

#[test]
fn a_higher_priority_comes_first_within_its_queue() {
    play(|stage| async move {
        let notes = stage.notes.clone();
        stage.on("job", move |cx| {
            notes.add(cx.job().priority.to_string());
            async { DONE }
        });
        for priority in [0, 5, -3, 5, 9] {
            let job = stage.enqueue_with("job", |mut job| {
                job.priority = priority;
                job
            });
            job.await;
        }
        let _server = stage.server().workers(1).start().await.unwrap();
        stage.until_count(StateName::Succeeded, 5).await;
        assert_eq!(stage.notes.all(), ["9", "5", "5", "0", "-3"]);
    });
}

#[test]
fn a_paused_queue_gives_nothing_until_it_is_resumed_and_others_go_on() {
    play(|stage| async move {
        on_noting_queue(&stage, "job");
        let server = stage.server().queues(["paused", "open"]);
        let _server = server.start().await.unwrap();
        let paused = QueueName::new("paused").unwrap();
        stage.storage.set_queue_paused(paused.clone(), true).await.unwrap();
        stage.enqueue_many("job", "paused", 5).await;
        stage.enqueue_many("job", "open", 5).await;
        stage.until_count(StateName::Succeeded, 5).await;
        stage.world.pass(30 * SECOND).await;
        assert_eq!(stage.notes.count("paused"), 0);

        stage.storage.set_queue_paused(paused, false).await.unwrap();
        stage.until_count(StateName::Succeeded, 10).await;
        assert!(stage.storage.queues().await.unwrap().iter().all(|queue| !queue.paused));
    });
}

#[test]
fn a_queue_that_nobody_named_is_left_alone() {
    play(|stage| async move {
        on_noting_queue(&stage, "job");
        let _server = stage.start().await;
        stage.enqueue_many("job", "other", 1).await;
        stage.world.pass(10 * SECOND).await;
        assert!(stage.notes.all().is_empty());
    });
}

#[test]
fn pools_do_not_wait_for_each_other() {
    play(|stage| async move {
        let world = stage.world.clone();
        stage.on("slow", move |_| {
            let world = world.clone();
            async move {
                world.pass(100 * SECOND).await;
                DONE
            }
        });
        on_noting_queue(&stage, "mail");
        let mail = Pool::new("mail").queues(["mail"]).workers(2);
        let server = stage.server().workers(2).pool(mail).start().await.unwrap();
        stage.enqueue_many("slow", "default", 10).await;
        stage.world.until("the main pool is busy", || server.stats().running == 2).await;
        stage.enqueue_many("mail", "mail", 20).await;
        stage.until_count(StateName::Succeeded, 20).await;
        let took = portfire_server::Runtime::elapsed(&stage.world);
        assert!(took < ms(300), "{took:?}");
        assert_eq!(stage.notes.count("mail"), 20);
    });
}
