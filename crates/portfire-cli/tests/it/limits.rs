//! `portfire limits`: lists, sets and takes back.

use portfire_core::{Client, Json, KindName, LimitName, LimitRule, LimitUse, NewJob};

use crate::program::Database;

#[tokio::test]
async fn what_is_set_is_listed_and_wins_over_code() {
    let database = Database::absent();
    let client = Client::new(database.open().await);
    assert_eq!(database.run(&["limits"]).ok(), "No limits.\n");
    let mut job = NewJob::new(client.next_id(), KindName::new("send").unwrap(), Json::empty());
    job.ties.limits = vec![LimitUse {
        limit: LimitName::new("smtp").unwrap(),
        partition: "example.org".to_owned(),
        declared: Some(LimitRule::concurrency(2)),
    }];
    let id = job.id.to_string();
    client.create(vec![job]).await.unwrap();

    let cells = |listed: &str, line: usize| -> Vec<String> {
        let line = listed.lines().nth(line).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(cells(&database.run(&["limits"]).ok(), 1), ["smtp", "2", "code"]);
    let set = database.run(&["limits", "set", "smtp", "--concurrency", "5", "--rate", "100/m"]);
    assert_eq!(set.ok(), "smtp: 5 at a time, 100/1m\n");
    assert_eq!(cells(&database.run(&["limits"]).ok(), 1), ["smtp", "5", "100/1m", "hand"]);
    let listed = database.run(&["limits", "list", "--json"]).json();
    assert_eq!(listed[0]["target"]["named"], "smtp");
    assert_eq!((&listed[0]["rule"]["concurrency"], &listed[0]["set"]), (&5.into(), &true.into()));
    database.run(&["limits", "unset", "smtp"]).ok();
    assert_eq!(cells(&database.run(&["limits"]).ok(), 1), ["smtp", "2", "code"]);

    let shown = database.run(&["jobs", "show", &id]).ok();
    let limits = "limits    smtp:example.org (declared: 2 at a time)";
    assert!(shown.lines().any(|line| line == limits), "{shown}");
}

#[test]
fn queues_and_kinds_are_limited_by_their_names() {
    let database = Database::with_jobs(1);
    database.run(&["limits", "set", "queue:mail", "--concurrency", "3"]).ok();
    let rate = ["limits", "set", "kind:send", "--rate", "10/1h", "--window", "fixed", "--json"];
    let set = database.run(&rate).json();
    assert_eq!(set["rule"]["rate"]["window"], "fixed");
    let listed = database.run(&["limits"]).ok();
    assert!(listed.contains("queue:mail") && listed.contains("10/1h fixed"), "{listed}");
}
