//! `portfire queues`: lists, pauses and resumes.

use crate::program::Database;

#[test]
fn a_queue_is_paused_and_resumed() {
    let database = Database::absent();
    database.run(&["migrate"]).ok();
    assert_eq!(database.run(&["queues"]).ok(), "No queues yet.\n");
    let database = Database::with_jobs(2);
    let paused = |queues: &serde_json::Value| queues[0]["paused"].clone();
    assert_eq!(paused(&database.run(&["queues", "list", "--json"]).json()), false);
    assert_eq!(database.run(&["queues", "pause", "default"]).ok(), "default is paused\n");
    assert_eq!(paused(&database.run(&["queues", "--json"]).json()), true);
    let listed = database.run(&["queues"]).ok();
    assert!(listed.lines().nth(1).unwrap().ends_with("paused"), "{listed}");
    let said = database.run(&["problems"]).ok();
    assert!(said.contains("`portfire queues resume default`"), "{said}");
    let resumed = database.run(&["queues", "resume", "default", "--json"]).json();
    assert_eq!(resumed, serde_json::json!({ "queue": "default", "paused": false }));
    assert_eq!(paused(&database.run(&["queues", "--json"]).json()), false);
}
