//! `portfire jobs`: lists, shows and changes.

use crate::program::{Database, unknown_id};

#[test]
fn pages_hold_every_job_once() {
    let database = Database::with_jobs(5);
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    for _ in 0..5 {
        let mut words = vec!["jobs", "list", "--limit", "2", "--json"];
        if let Some(after) = &after {
            words.extend(["--after", after]);
        }
        let page = database.run(&words).json();
        let ids = page["jobs"].as_array().unwrap().iter();
        seen.extend(ids.map(|job| job["id"].as_str().unwrap().to_owned()));
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
}

#[test]
fn a_list_for_people_says_where_to_go_on() {
    let database = Database::with_jobs(3);
    let ended = database.run(&["jobs", "--limit", "2"]);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["ID", "STATE", "KIND", "QUEUE", "ATTEMPT", "SINCE"]
    );
    assert_eq!(lines.len(), 3, "{ended:?}");
    assert!(
        lines[1].contains(" enqueued ") && lines[1].contains(" portfire.bench.noop "),
        "{ended:?}"
    );
    assert!(ended.notes.starts_with("There are more: --after "), "{ended:?}");
}

#[test]
fn filters_narrow_the_list() {
    let database = Database::with_jobs(2);
    let count = |words: &[&str]| {
        let words = [&["jobs", "list", "--json"][..], words].concat();
        database.run(&words).json()["jobs"].as_array().unwrap().len()
    };
    assert_eq!(count(&["--state", "enqueued"]), 2);
    assert_eq!(count(&["--state", "failed"]), 0);
    assert_eq!(count(&["--queue", "default"]), 2);
    assert_eq!(count(&["--queue", "other"]), 0);
    assert_eq!(count(&["--kind", "portfire.bench.noop"]), 2);
    assert_eq!(count(&["--kind", "other"]), 0);
    assert_eq!(count(&["--id", &database.ids()[0]]), 1);
}

#[test]
fn a_job_is_shown_with_its_history() {
    let database = Database::with_jobs(1);
    let id = &database.ids()[0];
    let shown = database.run(&["jobs", "show", id]).ok();
    for part in [
        &format!("id        {id}") as &str,
        "kind      portfire.bench.noop",
        "queue     default, priority 0",
        "state     enqueued",
        r#"args      {"payload":"xxxxxxxxxxxxxxxx"}"#,
        "attempts  0, failures 0, recoveries 0",
    ] {
        assert!(shown.lines().any(|line| line == part), "{part:?} is missing in\n{shown}");
    }
    let history = shown.lines().last().unwrap();
    assert!(history.starts_with("1 ") && history.ends_with("enqueued  created"), "{shown}");

    let json = database.run(&["jobs", "show", id, "--json"]).json();
    assert_eq!(json["job"]["id"], **id);
    assert_eq!(json["history"][0]["cause"], "created");
}

#[test]
fn the_beginning_of_an_id_will_do_when_it_is_the_only_one() {
    let database = Database::with_jobs(2);
    let ids = database.ids();
    let common = ids[0].chars().zip(ids[1].chars()).take_while(|(a, b)| a == b).count();
    let enough = &ids[0][..(common + 1).max(6)];
    let shown = database.run(&["jobs", "show", enough, "--json"]).json();
    assert_eq!(shown["job"]["id"], *ids[0]);

    let complaint = database.run(&["jobs", "show", &ids[0][..6]]).failed(2);
    assert!(complaint.contains("more than one job begins with"), "{complaint}");
}

#[test]
fn a_job_that_is_not_there_is_named() {
    let database = Database::with_jobs(1);
    let id = unknown_id();
    let complaint = database.run(&["jobs", "show", &id]).failed(1);
    assert!(complaint.contains(&format!("there is no job `{id}`")), "{complaint}");
}

#[test]
fn deleting_and_requeueing_say_what_became_of_each() {
    let database = Database::with_jobs(2);
    let ids = database.ids();
    let out = database.run(&["jobs", "delete", &ids[0], "--reason", "a test"]).ok();
    assert_eq!(out, format!("{} applied, was enqueued\n", ids[0]));
    let shown = database.run(&["jobs", "show", &ids[0]]).ok();
    assert!(shown.contains("state     deleted a test"), "{shown}");

    let unknown = unknown_id();
    let ended = database.run(&["jobs", "requeue", &ids[0], &ids[1], &unknown]);
    let expected =
        format!("{} applied, was deleted\n{} unchanged\n{unknown} missing\n", ids[0], ids[1]);
    assert_eq!(ended.out, expected);
    assert!(ended.failed(1).contains("1 of 3 jobs were not changed"));
}

#[test]
fn changes_for_programs_are_a_line_each() {
    let database = Database::with_jobs(1);
    let id = &database.ids()[0];
    let changed = database.run(&["jobs", "delete", id, "--json"]).json();
    let expected =
        serde_json::json!({ "id": id, "outcome": "applied", "from": "enqueued", "revision": 2 });
    assert_eq!(changed, expected);
}

#[test]
fn one_id_that_is_none_changes_nothing() {
    let database = Database::with_jobs(1);
    let id = &database.ids()[0];
    let complaint = database.run(&["jobs", "delete", id, "nonsense"]).failed(2);
    assert!(complaint.contains("`nonsense` is not a job id"), "{complaint}");
    let status = database.run(&["status", "--json"]).json();
    assert_eq!(status["counts"]["states"]["enqueued"], 1);
}
