//! Processes of the user's own beside the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use portfire_server::{ProcessContext, Runtime, process_fn};

use crate::stage::{DONE, SECOND, play};

#[test]
fn a_process_runs_again_after_each_interval_until_the_server_stops() {
    play(|stage| async move {
        stage.on("job", |_| async { DONE });
        let notes = stage.notes.clone();
        let tick = process_fn("tick", 10 * SECOND, move |_: ProcessContext| {
            notes.add("tick");
            async { Ok(()) }
        });
        let server = stage.server().process(tick).start().await.unwrap();
        stage.world.pass(35 * SECOND).await;
        assert_eq!(stage.notes.count("tick"), 4);
        server.shutdown().await;
        stage.world.pass(60 * SECOND).await;
        assert_eq!(stage.notes.count("tick"), 4);
    });
}

#[test]
fn a_process_that_fails_or_panics_is_tried_again() {
    play(|stage| async move {
        stage.on("job", |_| async { DONE });
        let (passes, count) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let counted = Arc::clone(&count);
        let shaky = process_fn("shaky", 60 * SECOND, move |_: ProcessContext| {
            let pass = passes.fetch_add(1, Ordering::SeqCst);
            let counted = Arc::clone(&counted);
            async move {
                match pass {
                    0 => Err("not yet".into()),
                    1 => panic!("nor now"),
                    _ => {
                        counted.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    }
                }
            }
        });
        let _server = stage.server().process(shaky).start().await.unwrap();
        stage.world.until("it works", || count.load(Ordering::SeqCst) == 1).await;
        assert!(stage.world.elapsed() < SECOND);
    });
}

#[test]
fn a_process_can_enqueue_and_hears_of_the_end() {
    play(|stage| async move {
        stage.on("job", |_| async { DONE });
        let notes = stage.notes.clone();
        let waits = process_fn("waits", SECOND, move |cx: ProcessContext| {
            let notes = notes.clone();
            async move {
                let id = cx.client().next_id();
                let kind = portfire_core::KindName::stored("job");
                let job = portfire_core::NewJob::new(id, kind, portfire_core::Json::empty());
                cx.client().create(vec![job]).await?;
                let runs_on = cx.shutdown().sleep(1_000 * SECOND).await;
                notes.add(format!("runs on: {runs_on}"));
                Ok(())
            }
        });
        let server = stage.server().process(waits).start().await.unwrap();
        stage.until_count(portfire_core::StateName::Succeeded, 1).await;
        server.shutdown().await;
        // It heard; whether it also came to say so is up to the order in which tasks end.
        assert!(stage.notes.all().iter().all(|note| note == "runs on: false"));
    });
}
