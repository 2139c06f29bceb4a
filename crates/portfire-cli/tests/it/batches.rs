//! `portfire batches`: lists, shows and cancels.

use portfire_core::{
    After, Antecedent, BatchId, Client, Dependency, JobId, Json, KindName, NewBatch, NewJob,
};

use crate::program::{Database, unknown_id};

fn job(client: &Client) -> NewJob {
    NewJob::new(client.next_id(), KindName::new("import_row").unwrap(), Json::empty())
}

/// A batch of two with a callback, and another that is in it.
async fn prepared(database: &Database) -> (BatchId, BatchId, JobId) {
    let client = Client::new(database.open().await);
    let (outer, inner) = (BatchId::new(client.next_id()), BatchId::new(client.next_id()));
    let mut batch = NewBatch::new(outer);
    batch.description = "import \u{1b}[31m".to_owned();
    let mut nested = NewBatch::new(inner);
    nested.parent = Some(outer);
    let mut jobs = [job(&client), job(&client), job(&client)];
    jobs[0].ties.batch = Some(outer);
    jobs[1].ties.batch = Some(inner);
    jobs[2].ties.after = vec![Dependency::on(outer).after(After::End)];
    let callback = jobs[2].id;
    client.storage().create_batches(vec![batch, nested], jobs.into()).await.unwrap();
    (outer, inner, callback)
}

#[tokio::test]
async fn they_are_listed_and_shown() {
    let database = Database::absent();
    let (outer, inner, callback) = prepared(&database).await;
    let listed = database.run(&["batches"]).ok();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(lines[1].starts_with(&format!("{inner}  started  1 ")), "{listed}");
    assert!(lines[2].ends_with("  import \\u{1b}[31m"), "{listed}");
    let page = database.run(&["batches", "--json", "--parent", &outer.to_string()]).json();
    assert_eq!(page["batches"][0]["id"], inner.to_string());
    assert_eq!(database.run(&["batches", "--state", "succeeded"]).ok(), "No batches.\n");

    let shown = database.run(&["batches", "show", &outer.to_string()]).ok();
    let members = "members   2, of which 2 pending, 0 succeeded, 0 failed, 0 deleted";
    assert!(shown.lines().any(|line| line == members), "{shown}");
    let last = shown.lines().last().unwrap();
    assert_eq!(
        last.split_whitespace().collect::<Vec<_>>(),
        [&callback.to_string(), "end", "awaiting"]
    );
    let shown = database.run(&["batches", "show", &inner.to_string(), "--json"]).json();
    assert_eq!(shown["batch"]["parent"], outer.to_string());
    assert_eq!(shown["continuations"], serde_json::json!([]));

    let members = database.run(&["jobs", "--batch", &outer.to_string(), "--json"]).json();
    assert_eq!(members["jobs"].as_array().unwrap().len(), 1, "{members}");
    let shown = database.run(&["jobs", "show", &callback.to_string()]).ok();
    let after = format!("after     end of {}", Antecedent::Batch(outer));
    assert!(shown.lines().any(|line| line == after), "{shown}");
    assert!(shown.contains("state     awaiting for one more end\n"), "{shown}");
}

#[tokio::test]
async fn a_cancelled_one_says_so_and_again_changes_nothing() {
    let database = Database::absent();
    let (outer, _, _) = prepared(&database).await;
    let id = outer.to_string();
    let out = database.run(&["batches", "cancel", &id, "--reason", "a test"]).ok();
    assert_eq!(out, format!("{id} is cancelling\n"));
    let shown = database.run(&["batches", "show", &id]).ok();
    assert!(shown.contains("reason    a test\n"), "{shown}");
    let again = database.run(&["batches", "cancel", &id, "--json"]).json();
    let unchanged = serde_json::json!({ "id": id, "outcome": "unchanged", "state": "cancelling" });
    assert_eq!(again, unchanged);
    let unknown = unknown_id();
    for word in ["cancel", "show"] {
        let complaint = database.run(&["batches", word, &unknown]).failed(1);
        assert!(complaint.contains(&format!("there is no batch `{unknown}`")), "{complaint}");
    }
}
