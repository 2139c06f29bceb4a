//! What a server tells about itself: metrics, health, spans, the trace context of its jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use portfire_core::{Client, JobError, Json, StateName, Storage};
use portfire_server::Runtime;

use crate::faulty::{Fault, Op};
use crate::stage::{DONE, SECOND, Stage, ms, play};

/// Keeps the numbers of a test: by name and labels the sum of a counter, the value of a gauge, and how
/// often and how much of a histogram.
#[derive(Clone, Default)]
struct Numbers(Arc<Mutex<BTreeMap<String, Number>>>);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Number {
    count: u64,
    value: f64,
}

struct Meter(Numbers, String);

impl Numbers {
    fn of(&self, key: &str) -> Number {
        self.0.lock().unwrap().get(key).copied().unwrap_or_default()
    }

    fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    fn meter(&self, key: &Key) -> Arc<Meter> {
        let labels: Vec<_> = key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        let name = match labels.is_empty() {
            true => key.name().to_owned(),
            false => format!("{}{{{}}}", key.name(), labels.join(",")),
        };
        Arc::new(Meter(self.clone(), name))
    }
}

impl Meter {
    fn change(&self, change: impl FnOnce(&mut Number)) {
        change(self.0.0.lock().unwrap().entry(self.1.clone()).or_default());
    }
}

impl CounterFn for Meter {
    fn increment(&self, value: u64) {
        self.change(|number| number.count += value);
    }
    fn absolute(&self, value: u64) {
        self.change(|number| number.count = value);
    }
}

impl GaugeFn for Meter {
    fn increment(&self, value: f64) {
        self.change(|number| number.value += value);
    }
    fn decrement(&self, value: f64) {
        self.change(|number| number.value -= value);
    }
    fn set(&self, value: f64) {
        self.change(|number| number.value = value);
    }
}

impl HistogramFn for Meter {
    fn record(&self, value: f64) {
        self.change(|number| {
            number.count += 1;
            number.value += value;
        });
    }
}

impl Recorder for Numbers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.meter(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.meter(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.meter(key))
    }
}

/// Plays a test whose servers tell their numbers.
fn counted<F>(test: impl FnOnce(Stage, Numbers) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let numbers = Numbers::default();
    let recorder = numbers.clone();
    metrics::with_local_recorder(&recorder, || play(|stage| test(stage, numbers)));
}

#[test]
fn ends_are_counted_once_by_kind_queue_and_outcome_with_waits_and_runs() {
    counted(|stage, numbers| async move {
        let world = stage.world.clone();
        stage.on("work", move |cx| {
            let world = world.clone();
            async move {
                world.pass(2 * SECOND).await;
                if cx.attempt() == 1 { Err(JobError::new("again")) } else { DONE }
            }
        });
        let id = stage.enqueue("work").await;
        stage.world.pass(3 * SECOND).await;
        let _server = stage.start().await;
        // The answer to the first report is lost: it counts once all the same.
        stage.world.pass(SECOND).await;
        stage.storage.next(Op::Cycle, Fault::AnswerLost);
        stage.until_state(id, StateName::Succeeded).await;
        stage.world.pass(SECOND).await;
        let ended = |outcome: &str| {
            let labels = format!("kind=work,queue=default,outcome={outcome}");
            numbers.of(&format!("portfire_jobs_ended_total{{{labels}}}")).count
        };
        assert_eq!((ended("retried"), ended("succeeded"), ended("failed")), (1, 1, 0));
        let run = numbers.of("portfire_job_run_seconds{kind=work,queue=default}");
        assert_eq!((run.count, run.value.round()), (2, 4.0));
        let wait = numbers.of("portfire_job_wait_seconds{kind=work,queue=default}");
        assert!(wait.count == 2 && (3.0..4.2).contains(&wait.value), "{wait:?}");
        assert!(numbers.of("portfire_storage_call_seconds{call=cycle}").count >= 3);
        assert_eq!(numbers.of("portfire_storage_call_failures_total{call=cycle}").count, 1);
    });
}

#[test]
fn what_is_stored_cannot_make_labels_grow() {
    counted(|stage, numbers| async move {
        stage.on("work", |_| async { DONE });
        // Or else it is given none of them.
        stage.storage.hide_kinds();
        let _server = stage.start().await;
        for n in 0..50 {
            stage.enqueue(&format!("unknown{n}")).await;
        }
        stage.world.pass(SECOND).await;
        let parked = "portfire_jobs_ended_total{kind=other,queue=default,outcome=parked}";
        assert_eq!(numbers.of(parked).count, 50);
        assert!(numbers.keys().iter().all(|key| !key.contains("unknown")), "{:?}", numbers.keys());
    });
}

#[test]
fn queues_are_measured_at_an_interval() {
    counted(|stage, numbers| async move {
        let world = stage.world.clone();
        stage.on("work", move |_| {
            let world = world.clone();
            async move {
                world.pass(3_600 * SECOND).await;
                DONE
            }
        });
        let _server = stage.server().workers(1).start().await.unwrap();
        stage.enqueue_many("work", "default", 4).await;
        stage.enqueue_many("work", "mail", 7).await;
        stage.world.pass(31 * SECOND).await;
        let jobs = |queue: &str, state: &str| {
            numbers.of(&format!("portfire_queue_jobs{{queue={queue},state={state}}}")).value
        };
        assert_eq!((jobs("default", "processing"), jobs("default", "enqueued")), (1.0, 3.0));
        assert_eq!(jobs("mail", "enqueued"), 7.0);
        let waited = numbers.of("portfire_queue_wait_seconds{queue=mail}").value;
        assert!((15.0..31.0).contains(&waited), "{waited}");
    });
}

#[test]
fn queues_without_number_do_not_make_gauges_without_number() {
    counted(|stage, numbers| async move {
        stage.on("work", |_| async { DONE });
        for n in 0..300 {
            stage.enqueue_many("work", &format!("a{n:03}"), 1).await;
        }
        let _server = stage.server().queues(["z"]).start().await.unwrap();
        stage.enqueue_many("work", "z", 1).await;
        stage.world.pass(31 * SECOND).await;
        let gauges = |key: &&String| key.starts_with("portfire_queue_wait_seconds");
        assert_eq!(numbers.keys().iter().filter(gauges).count(), 200);
        assert_eq!(numbers.of("portfire_queue_jobs{queue=z,state=succeeded}").value, 1.0);
    });
}

#[test]
fn rescues_deaths_and_lost_leases_are_counted() {
    counted(|stage, numbers| async move {
        let world = stage.world.clone();
        stage.on("work", move |cx| {
            let world = world.clone();
            async move {
                world.pass(if cx.attempt() == 1 { 600 * SECOND } else { SECOND }).await;
                DONE
            }
        });
        let dying = stage.start().await;
        let id = stage.enqueue("work").await;
        stage.until_state(id, StateName::Processing).await;
        drop(dying);
        let _living = stage.start().await;
        stage.until_state(id, StateName::Succeeded).await;
        let count = |name: &str| numbers.of(name).count;
        assert_eq!(count("portfire_servers_dead_total"), 1);
        assert_eq!(count("portfire_jobs_rescued_total"), 1);
        assert_eq!(count("portfire_leases_lost_total"), 0);
        stage.storage.all(Op::Heartbeat, Fault::Lost);
        stage.world.pass(40 * SECOND).await;
        assert_eq!(count("portfire_leases_lost_total"), 1);
    });
}

#[test]
fn a_server_is_ready_while_its_storage_answers_and_live_while_its_heart_beats() {
    play(|stage| async move {
        stage.on("work", |_| async { DONE });
        let server = stage.start().await;
        stage.world.pass(60 * SECOND).await;
        let well = server.health();
        assert!(well.live && well.ready && well.stale().count() == 0, "{well:?}");
        assert_eq!((well.phase, &well.server), ("running", &server.id()));
        assert!(well.storage_answered_ago.unwrap() <= SECOND);
        assert!(well.services.iter().any(|service| service.name == "scheduling recurring jobs"));

        stage.storage.outage();
        for op in [Op::DueRecurring, Op::Fire] {
            stage.storage.all(op, Fault::Lost);
        }
        stage.world.pass(90 * SECOND).await;
        let ill = server.health();
        assert!(ill.live && !ill.ready, "its thread runs, its storage does not answer: {ill:?}");
        let stale: Vec<&str> = ill.stale().map(|service| service.name.as_str()).collect();
        for name in
            ["promoting due jobs", "scheduling recurring jobs", "rescuing the jobs of dead servers"]
        {
            assert!(stale.contains(&name), "{stale:?}");
        }
        assert!(ill.services.iter().any(|service| service.failures > 10));

        stage.storage.heal();
        stage.world.pass(90 * SECOND).await;
        let well = server.health();
        assert!(well.live && well.ready && well.stale().count() == 0, "{well:?}");
        server.quiet();
        let quiet = server.health();
        assert!(quiet.live && !quiet.ready && quiet.phase == "quiet");
    });
}

#[test]
fn one_scheduler_that_hangs_is_named() {
    play(|stage| async move {
        stage.on("work", |_| async { DONE });
        let server = stage.start().await;
        stage.world.pass(5 * SECOND).await;
        stage.storage.all(Op::DueRecurring, Fault::Hangs);
        stage.world.pass(100 * SECOND).await;
        let health = server.health();
        assert!(health.live && health.ready);
        let stale: Vec<&str> = health.stale().map(|service| service.name.as_str()).collect();
        assert_eq!(stale, ["scheduling recurring jobs"]);
    });
}

#[test]
fn health_is_json_in_milliseconds() {
    play(|stage| async move {
        stage.on("work", |_| async { DONE });
        let server = stage.start().await;
        stage.world.pass(ms(500)).await;
        let json = serde_json::to_value(server.health()).unwrap();
        assert_eq!((&json["live"], &json["phase"]), (&true.into(), &"running".into()));
        assert!(json["lease_ms"].as_u64().unwrap() > 20_000, "{json}");
        assert!(json["services"][0]["ok_ago_ms"].is_u64(), "{json}");
        assert!(json["storage_answered_ago_ms"].as_u64().unwrap() <= 1_000);
    });
}

#[test]
fn the_trace_context_goes_from_the_enqueue_to_the_handler_and_on_to_what_it_enqueues() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    play(|stage| async move {
        let notes = stage.notes.clone();
        stage.on("child", move |cx| {
            notes.add(format!("child {:?}", cx.traceparent()));
            async { DONE }
        });
        let notes = stage.notes.clone();
        stage.on("parent", move |cx| {
            let notes = notes.clone();
            async move {
                notes.add(format!("parent {:?}", cx.traceparent()));
                let kind = portfire_core::KindName::stored("child");
                let id = cx.client().next_id();
                let job = portfire_core::NewJob::new(id, kind, Json::empty());
                cx.client().create(vec![job]).await.unwrap();
                DONE
            }
        });
        let _server = stage.start().await;
        let storage: Arc<dyn Storage> = Arc::clone(&stage.storage) as _;
        let traced = Client::builder(storage)
            .clock(Arc::new(stage.world.clone()))
            .traceparent(|| Some(TRACE.to_owned()))
            .build();
        let kind = portfire_core::KindName::stored("parent");
        let job = portfire_core::NewJob::new(traced.next_id(), kind, Json::empty());
        traced.create(vec![job]).await.unwrap();
        stage.until_count(StateName::Succeeded, 2).await;
        assert_eq!(
            stage.notes.all(),
            [format!("parent Some({TRACE:?})"), format!("child Some({TRACE:?})")]
        );
        assert!(stage.world.elapsed() < SECOND);
    });
}
