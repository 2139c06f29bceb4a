//! `portfire explain` and `portfire problems`.

use crate::program::{Database, unknown_id};

#[test]
fn a_job_that_waits_is_explained() {
    let database = Database::with_jobs(2);
    let id = &database.ids()[0];
    let said = database.run(&["explain", id]).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("{id} is enqueued"));
    assert!(lines[1].starts_with("- ") && lines[1].contains("no server"), "{said}");
    let json = database.run(&["explain", &id[..id.len() - 1], "--json"]).json();
    assert_eq!((&json["job"], &json["state"]), (&id.as_str().into(), &"enqueued".into()));
    assert_eq!(json["reasons"][0]["reason"], "no_server");
    let complaint = database.run(&["explain", &unknown_id()]).failed(1);
    assert!(complaint.contains("there is no job"), "{complaint}");
}

#[test]
fn what_keeps_jobs_from_running_is_listed() {
    let database = Database::absent();
    database.run(&["migrate"]).ok();
    assert_eq!(database.run(&["problems"]).ok(), "No problems.\n");
    database.run(&["problems", "--fail"]).ok();

    let database = Database::with_jobs(2);
    let said = database.run(&["problems"]).ok();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("no server") && said.contains('2'), "{said}");
    let ended = database.run(&["problems", "--fail", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(json[0]["problem"], "no_server");
    assert!(ended.failed(1).contains("there is a problem"));
}
