//! `portfire status` and `portfire migrate`.

use portfire_core::{
    BatchId, Client, Json, KindName, NewBatch, NewJob, NewRecurring, RecurringChange, RecurringId,
    Schedule,
};

use crate::program::{Database, portfire};

#[test]
fn a_file_that_does_not_exist_is_an_error_and_is_not_made() {
    let database = Database::absent();
    for words in [&["status"][..], &["jobs"], &["jobs", "show", "01234567"]] {
        let complaint = database.run(words).failed(1);
        assert!(complaint.contains("there is no such file"), "{complaint}");
        assert!(complaint.contains("jobs.db"), "{complaint}");
    }
    assert!(!database.path().exists());
}

#[test]
fn the_status_counts_by_state_and_queue() {
    let database = Database::with_jobs(3);
    let doomed = &database.ids()[0];
    database.run(&["jobs", "delete", doomed]).ok();

    let status = database.run(&["status"]).ok();
    let lines: Vec<&str> = status.lines().collect();
    assert!(lines[0].starts_with("sqlite ") && lines[0].ends_with("jobs.db"), "{status}");
    for line in
        ["STATE       JOBS", "enqueued    2", "deleted     1", "failed      0", "No servers."]
    {
        assert!(lines.contains(&line), "{line:?} is missing in\n{status}");
    }
    assert!(
        lines.iter().any(|line| line.split_whitespace().eq(["default", "2", "0", "0", "0"])),
        "{status}"
    );
    assert!(status.contains("\nEver: 3 created, 0 succeeded, 0 failed, 1 deleted,"), "{status}");
}

#[test]
fn the_status_for_programs_has_every_state() {
    let database = Database::with_jobs(2);
    let status = database.run(&["status", "--json"]).json();
    let states = &status["counts"]["states"];
    let expected = serde_json::json!({
        "scheduled": 0, "awaiting": 0, "enqueued": 2, "processing": 0,
        "succeeded": 0, "failed": 0, "deleted": 0
    });
    assert_eq!(*states, expected);
    assert_eq!(status["counts"]["created_total"], 2);
    assert_eq!(status["storage"]["name"], "sqlite");
    assert_eq!(status["queues"][0]["name"], "default");
    assert_eq!(status["servers"], serde_json::json!([]));
}

#[tokio::test]
async fn the_status_counts_recurring_jobs_batches_and_limits() {
    let database = Database::with_jobs(1);
    let before = database.run(&["status"]).ok();
    assert!(!before.contains("Recurring") && !before.contains("Limits"), "{before}");
    let client = Client::new(database.open().await);
    let kind = KindName::new("report").unwrap();
    for (id, text) in [("a", "@daily"), ("b", "@hourly")] {
        let id = RecurringId::new(id).unwrap();
        let new = NewRecurring::new(id, Schedule::cron(text), kind.clone(), Json::empty());
        let change = RecurringChange::Upsert(Box::new(new));
        client.storage().change_recurring(change).await.unwrap();
    }
    let batch = NewBatch::new(BatchId::new(client.next_id()));
    let mut member = NewJob::new(client.next_id(), kind, Json::empty());
    member.ties.batch = Some(batch.id);
    client.storage().create_batches(vec![batch], vec![member]).await.unwrap();
    database.run(&["recurring", "pause", "a"]).ok();
    database.run(&["limits", "set", "smtp", "--concurrency", "1"]).ok();

    let status = database.run(&["status"]).ok();
    for line in [
        "Recurring jobs: 2, 1 paused, 0 with an error",
        "Batches that have started: 1",
        "Limits: 1",
    ] {
        assert!(status.lines().any(|found| found == line), "{line:?} is missing in\n{status}");
    }
    let json = database.run(&["status", "--json"]).json();
    assert_eq!((&json["recurring"]["count"], &json["batches"]["started"]), (&2.into(), &1.into()));
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let database = Database::absent();
    let text = "This is a letter to my aunt, and by no means a database. ".repeat(100);
    std::fs::write(database.path(), &text).unwrap();
    let complaint = database.run(&["status"]).failed(1);
    assert!(complaint.starts_with("portfire: "), "{complaint}");
    assert_eq!(std::fs::read_to_string(database.path()).unwrap(), text);
}

#[test]
fn the_database_of_another_program_is_looked_at_and_left_alone() {
    let database = Database::absent();
    let other = rusqlite::Connection::open(database.path()).unwrap();
    other.execute_batch("create table letter (id integer primary key)").unwrap();
    drop(other);
    let before = std::fs::read(database.path()).unwrap();
    for words in [&["status"][..], &["jobs"]] {
        let complaint = database.run(words).failed(1);
        assert!(complaint.contains("has no tables of Portfire's"), "{complaint}");
    }
    assert_eq!(std::fs::read(database.path()).unwrap(), before);
}

#[test]
fn memory_has_a_status_too() {
    let status = portfire(&["status", "--storage", "memory:", "--json"]).json();
    assert_eq!(status["storage"]["name"], "memory");
}

#[test]
fn migrating_makes_the_database_and_again_changes_nothing() {
    let database = Database::absent();
    let first = database.run(&["migrate"]).ok();
    assert!(first.contains("jobs.db"), "{first}");
    let before = database.run(&["status", "--json"]).json();
    database.run(&["migrate"]).ok();
    let after = database.run(&["status", "--json"]).json();
    assert_eq!(before["counts"], after["counts"]);
}

#[test]
fn the_migrations_can_be_read_and_touch_nothing() {
    let database = Database::absent();
    let sql = database.run(&["migrate", "--print"]).ok();
    assert!(sql.to_lowercase().contains("create table"), "{sql}");
    assert!(!database.path().exists());
}
