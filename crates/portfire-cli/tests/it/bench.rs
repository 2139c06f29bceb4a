//! `portfire bench`: every scenario in small, on a file and in memory.

use portfire_core::{Client, Json, KindName, NewJob};
use serde_json::Value;

use crate::program::{Database, portfire, unknown_id};

const KEYS: [&str; 11] = [
    "scenario",
    "storage",
    "jobs",
    "seconds",
    "jobs_per_second",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "rss_mb",
    "commits",
    "bytes_written",
];

#[track_caller]
fn measure(scenario: &str, storage: &str, words: &[&str]) -> Value {
    let words = [&["bench", scenario, "--storage", storage, "--json"][..], words].concat();
    let report = portfire(&words).json();
    let object = report.as_object().unwrap();
    for key in KEYS {
        assert!(object.contains_key(key), "{key} is missing in {report}");
    }
    assert_eq!(report["scenario"], scenario);
    assert!(report["seconds"].as_f64().unwrap() > 0.0, "{report}");
    report
}

#[test]
fn taking_in_is_measured() {
    for storage in ["sqlite:", "memory:"] {
        for scenario in ["enqueue-serial", "enqueue-concurrent", "enqueue-many"] {
            let report = measure(scenario, storage, &["--jobs", "300"]);
            assert_eq!(report["jobs"], 300);
            assert!(report["jobs_per_second"].as_f64().unwrap() > 0.0, "{report}");
            assert!(report["p50_ms"].as_f64() <= report["p99_ms"].as_f64(), "{report}");
            match storage {
                "sqlite:" => assert!((1..=300).contains(&report["commits"].as_u64().unwrap())),
                _ => assert_eq!(report["commits"], Value::Null),
            }
        }
    }
}

#[test]
fn serial_is_held_against_sqlite_itself() {
    let report = measure("enqueue-serial", "sqlite:", &["--jobs", "300"]);
    let ratio = report["jobs_per_second"].as_f64().unwrap()
        / report["raw_commits_per_second"].as_f64().unwrap();
    assert!((ratio - report["ratio"].as_f64().unwrap()).abs() < 0.01, "{report}");
    let memory = measure("enqueue-serial", "memory:", &["--jobs", "300"]);
    assert_eq!(memory.get("ratio"), None);
}

#[test]
fn draining_is_measured_with_history_and_backlog() {
    for storage in ["sqlite:", "memory:"] {
        let report = measure("drain", storage, &["--jobs", "300", "--history", "50"]);
        assert_eq!(report["jobs"], 300);
        let report = measure("backlog", storage, &["--jobs", "300", "--backlog", "1000"]);
        assert_eq!(report["jobs"], 300);
        assert!(report["jobs_per_second"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn features_are_held_against_plain_jobs() {
    for storage in ["sqlite:", "memory:"] {
        for scenario in ["continuations", "batch", "unique", "limits", "logs"] {
            let report = measure(scenario, storage, &["--jobs", "300"]);
            assert_eq!(report["jobs"], 300);
            let quotient = report["jobs_per_second"].as_f64().unwrap()
                / report["plain_jobs_per_second"].as_f64().unwrap();
            assert!((quotient - report["ratio"].as_f64().unwrap()).abs() < 0.01, "{report}");
            for half in ["ratio_enqueue", "ratio_drain"] {
                assert!(report[half].as_f64().unwrap() > 0.0, "{report}");
            }
        }
    }
}

#[test]
fn long_lines_are_held_against_short_ones() {
    for storage in ["sqlite:", "memory:"] {
        let report = measure("limit-waiters", storage, &["--jobs", "20"]);
        // Four lines of each length, and the times between the starts of each.
        assert_eq!(report["jobs"], 4 * 19);
        assert!(report["ratio"].as_f64().unwrap() > 0.0, "{report}");
        assert!(report["p50_ms"].as_f64() <= report["p99_ms"].as_f64(), "{report}");
    }
}

#[test]
fn recurring_jobs_of_one_instant_are_held_against_delayed_ones() {
    for storage in ["sqlite:", "memory:"] {
        let report = measure("recurring", storage, &["--jobs", "50"]);
        assert_eq!(report["jobs"], 50);
        let (fired, done) = (&report["seconds"], &report["done_seconds"]);
        assert!(fired.as_f64() <= done.as_f64(), "{report}");
        assert!(report["ratio"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn latency_is_measured_in_a_process_and_between_two() {
    for scenario in ["latency", "latency-processes"] {
        let report = measure(scenario, "sqlite:", &["--jobs", "10"]);
        assert_eq!(report["jobs"], 10);
        assert!(report["p99_ms"].as_f64().unwrap() > 0.0, "{report}");
        assert_eq!(report["jobs_per_second"], Value::Null);
    }
}

#[test]
fn idleness_is_measured() {
    let report = measure("idle", "sqlite:", &["--seconds", "1"]);
    if cfg!(target_os = "linux") {
        assert!(report["cpu_percent"].as_f64().is_some() && report["rss_mb"].as_f64().is_some());
    }
}

#[tokio::test]
async fn jobs_of_others_are_not_measured_with() {
    let database = Database::absent();
    let id = unknown_id().parse().unwrap();
    let job = NewJob::new(id, KindName::new("send_invoice").unwrap(), Json::empty());
    Client::new(database.open().await).create(vec![job]).await.unwrap();
    for scenario in ["drain", "enqueue-many", "latency", "idle"] {
        let complaint = database.run(&["bench", scenario]).failed(1);
        assert!(complaint.contains("not the bench's, such as `send_invoice`"), "{complaint}");
    }
    assert_eq!(database.ids().len(), 1);
}

#[test]
fn latency_is_not_measured_on_a_busy_server() {
    let complaint = Database::with_jobs(3).run(&["bench", "latency"]).failed(1);
    assert!(complaint.contains("3 jobs wait"), "{complaint}");
}
