//! What handlers say through `tracing`, in their jobs' logs.
//!
//! A program of its own: `tracing` asks once whether anybody listens to a span, and whoever makes the
//! span first is asked. Beside tests without a listener that would be one of them.
#![cfg(feature = "capture")]

#[path = "it/faulty.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
mod faulty;
#[path = "it/stage.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
mod stage;
#[path = "it/world.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
mod world;

use std::sync::Once;

use portfire_core::{Level, StateName};
use portfire_server::Capture;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::stage::{DONE, SECOND, Stage, play};

/// Plays a test with the layer in place, for all threads and before the first span is made.
fn play_captured<F>(test: impl FnOnce(Stage) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| tracing_subscriber::registry().with(Capture::new()).init());
    play(test);
}

#[test]
fn events_of_a_handler_are_lines_of_its_log_and_of_no_others() {
    play_captured(|stage| async move {
        let world = stage.world.clone();
        stage.on("talk", move |_| {
            let world = world.clone();
            let rows = 7;
            async move {
                tracing::info!(rows, lang = "nl", "begun");
                // Two jobs take turns on one thread.
                world.pass(SECOND).await;
                let inner = async { tracing::warn!(row = ?"a\0b", "odd") };
                inner.instrument(tracing::info_span!("inner")).await;
                tracing::trace!("too fine");
                // As the bridge from the `log` crate makes them.
                tracing::error!(only = "fields", log.target = "elsewhere", log.line = 7);
                DONE
            }
        });
        stage.on("quiet", |_| async { DONE });
        stage.on_blocking("sync", |_| {
            tracing::debug!("on a thread");
            DONE
        });
        let _server = stage.server().workers(3).start().await.unwrap();
        let ids = [stage.enqueue("talk").await, stage.enqueue("talk").await];
        let quiet = stage.enqueue("quiet").await;
        for id in ids {
            stage.until_state(id, StateName::Succeeded).await;
            let lines = stage.all_lines(id).await;
            let said: Vec<_> = lines.iter().map(|line| (line.level, &*line.text)).collect();
            assert_eq!(
                said,
                [
                    (Level::Info, "begun rows=7 lang=nl"),
                    (Level::Warn, "odd row=\"a\\0b\""),
                    (Level::Error, "only=fields"),
                ]
            );
            assert!(lines[1].at.since(lines[0].at) >= SECOND);
        }
        let sync = stage.enqueue("sync").await;
        stage.until_state(sync, StateName::Succeeded).await;
        assert_eq!(stage.log(sync).await, ["on a thread"]);
        assert_eq!(stage.log(quiet).await, [] as [&str; 0], "the server itself is left out");
    });
}

#[test]
fn a_flood_of_events_is_bounded_as_the_log_is() {
    play_captured(|stage| async move {
        stage.on("flood", |_| async {
            (0..20_000).for_each(|n| tracing::info!(n, "a line of some length to fill the log"));
            DONE
        });
        let _server = stage.start().await;
        let id = stage.enqueue("flood").await;
        stage.until_state(id, StateName::Succeeded).await;
        let lines = stage.all_lines(id).await;
        assert!(lines.len() < 8_000, "{}", lines.len());
        assert!(lines.last().unwrap().text.contains("more lines"));
    });
}
