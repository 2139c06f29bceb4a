//! `portfire recurring`: lists, shows, triggers, pauses, resumes and removes.

use std::time::Duration;

use portfire_core::recurring::plan;
use portfire_core::{
    Client, Json, KindName, NewRecurring, RecurringChange, RecurringId, Schedule, Storage,
};

use crate::program::Database;

async fn upsert(storage: &dyn Storage, id: &str, schedule: Schedule) {
    let kind = KindName::new("report").unwrap();
    let id = RecurringId::new(id).unwrap();
    let mut new = NewRecurring::new(id, schedule, kind, Json::empty());
    new.app = "shop".to_owned();
    let change = RecurringChange::Upsert(Box::new(new));
    storage.change_recurring(change).await.unwrap();
}

/// A database with one that fires at eight, and one that fires every ninety seconds.
async fn prepared() -> Database {
    let database = Database::absent();
    let storage = database.open().await;
    let zone = "Europe/Amsterdam".to_owned();
    upsert(&*storage, "daily", Schedule::Cron { text: "0 8 * * *".to_owned(), zone }).await;
    upsert(&*storage, "often", Schedule::Every(Duration::from_secs(90))).await;
    database
}

#[tokio::test]
async fn they_are_listed_with_their_next_instants() {
    let database = prepared().await;
    let listed = database.run(&["recurring"]).ok();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["ID", "SCHEDULE", "KIND", "QUEUE", "NEXT", "LAST"]
    );
    assert!(
        lines[1].starts_with("daily  0 8 * * * Europe/Amsterdam  report  default  20"),
        "{listed}"
    );
    assert!(lines[2].starts_with("often  every 1m30s "), "{listed}");

    let page = database.run(&["recurring", "list", "--limit", "1", "--json"]).json();
    assert_eq!(page["recurring"][0]["id"], "daily");
    assert_eq!(page["recurring"][0]["schedule"]["cron"]["zone"], "Europe/Amsterdam");
    assert_eq!(page["recurring"][0]["words"], "every day at 08:00");
    let after = page["next"].as_str().unwrap();
    let page = database.run(&["recurring", "list", "--after", after, "--json"]).json();
    assert_eq!(page["recurring"][0]["id"], "often");
    assert_eq!(page["recurring"].as_array().unwrap().len(), 1);
    let other = database.run(&["recurring", "--app", "other", "--json"]).json();
    assert_eq!(other["recurring"], serde_json::json!([]));
}

#[tokio::test]
async fn one_is_shown_with_its_last_runs() {
    let database = prepared().await;
    let shown = database.run(&["recurring", "show", "daily"]).ok();
    for line in [
        "id        daily",
        "schedule  0 8 * * * Europe/Amsterdam (every day at 08:00)",
        "kind      report",
        "rules     one run for all that were missed, runs may overlap",
        "app       shop",
        "It has not run.",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line:?} is missing in\n{shown}");
    }

    let triggered = database.run(&["recurring", "trigger", "daily", "--json"]).json();
    let job = triggered["job"].as_str().unwrap().to_owned();
    assert_eq!(triggered["outcome"], "triggered");
    let shown = database.run(&["recurring", "show", "daily"]).ok();
    let run = shown.lines().last().unwrap();
    assert!(run.contains(&job) && run.ends_with("by hand"), "{shown}");
    let shown = database.run(&["recurring", "show", "daily", "--json"]).json();
    assert_eq!(shown["runs"][0]["job"], *job);
    let shown = database.run(&["jobs", "show", &job]).ok();
    assert!(shown.contains("\nrun of    daily, planned for 20"), "{shown}");
}

#[tokio::test]
async fn a_pause_a_resumption_and_a_removal_say_what_became_of_it() {
    let database = prepared().await;
    assert_eq!(database.run(&["recurring", "pause", "daily"]).ok(), "daily is paused\n");
    assert!(database.run(&["recurring"]).ok().lines().nth(1).unwrap().ends_with("  paused"));
    assert_eq!(database.run(&["recurring", "pause", "daily"]).ok(), "daily unchanged\n");
    let until = "2099-01-01T00:00:00Z";
    let paused = database.run(&["recurring", "pause", "daily", "--until", until]).ok();
    assert_eq!(paused, format!("daily is paused until {until}\n"));
    let listed = database.run(&["recurring"]).ok();
    assert!(listed.contains(&format!("paused until {until}")), "{listed}");
    let resumed = database.run(&["recurring", "resume", "daily"]).ok();
    assert!(resumed.starts_with("daily next at 20"), "{resumed}");

    database.run(&["recurring", "pause", "often", "--for", "2h", "--json"]).json();
    let shown = database.run(&["recurring", "show", "often", "--json"]).json();
    assert!(shown["paused"]["until"].is_string(), "{shown}");

    assert_eq!(database.run(&["recurring", "remove", "daily"]).ok(), "daily is removed\n");
    let complaint = database.run(&["recurring", "show", "daily"]).failed(1);
    assert!(complaint.contains("there is no recurring job `daily`"), "{complaint}");
    let complaint = database.run(&["recurring", "trigger", "daily"]).failed(1);
    assert!(complaint.contains("there is no recurring job `daily`"), "{complaint}");
}

#[tokio::test]
async fn one_that_cannot_fire_says_why() {
    let database = prepared().await;
    let storage = database.open().await;
    let id = RecurringId::new("often").unwrap();
    let record = storage.recurring(id).await.unwrap().unwrap();
    let mut fire = plan(&record, storage.now().await.unwrap());
    let reason = "no zone of that name \u{1b}[2J".to_owned();
    fire.action = portfire_core::FireAction::Fault { reason };
    storage.fire(vec![fire]).await.unwrap();
    let listed = database.run(&["recurring"]).ok();
    assert!(listed.contains("error, tried again at 20"), "{listed}");
    assert!(listed.contains("no zone of that name \\u{1b}[2J"), "{listed}");
}

#[tokio::test]
async fn a_held_unique_key_is_named_at_a_trigger() {
    let database = Database::absent();
    let storage = database.open().await;
    let kind = KindName::new("report").unwrap();
    let id = RecurringId::new("alone").unwrap();
    let mut new = NewRecurring::new(id, Schedule::cron("@daily"), kind, Json::empty());
    new.ties.unique = Some(portfire_core::UniqueKey {
        key: "report".to_owned(),
        scope: portfire_core::UniqueScope::UntilFinished,
        conflict: portfire_core::Conflict::Reject,
    });
    storage.change_recurring(RecurringChange::Upsert(Box::new(new))).await.unwrap();
    database.run(&["recurring", "trigger", "alone"]).ok();
    let complaint = database.run(&["recurring", "trigger", "alone"]).failed(1);
    let holder = &database.ids()[0];
    assert!(
        complaint.contains(&format!("job {holder} holds the unique key of `alone`")),
        "{complaint}"
    );
    assert_eq!(Client::new(storage).storage().counts().await.unwrap().created_total, 1);
}
