//! At most one job at a time for a key. `cargo run -p portfire --example unique`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::prelude::*;

/// One welcome for each user within a day, whatever its language.
#[job(unique(by("user_id"), within = "1d"))]
async fn send_welcome(user_id: u64, lang: &str) -> Result<(), JobError> {
    println!("welcome, user {user_id}, in {lang}");
    Ok(())
}

/// Each change of a document starts the wait anew, for two seconds at most.
#[job(unique(key = "index:{document}", debounce = "200ms", at_most = "2s"))]
async fn index(document: u64) -> Result<(), JobError> {
    println!("document {document} is indexed");
    Ok(())
}

#[job]
async fn sync_all() -> Result<(), JobError> {
    Ok(())
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());

    let first = client.enqueue(send_welcome(42, "en")).await?;
    let second = client.enqueue_unique(send_welcome(42, "nl")).await?;
    assert!(second.existing && second.id == first);

    let soon = Duration::from_millis(200);
    let indexed = client.enqueue(index(7)).await?;
    for _ in 0..10 {
        assert_eq!(client.enqueue(index(7)).await?, indexed);
    }

    // The key of one call: what waits is replaced by what comes.
    let sync = || sync_all().unique(Unique::by_key("sync").on_conflict(Conflict::Replace));
    let replaced = client.schedule(sync(), soon).await?;
    let sync = client.enqueue(sync()).await?;
    let old = client.job(replaced).await?.map(|job| job.state.name());
    println!("the first sync is {old:?}");

    let server = Server::builder(storage).start().await?;
    server.run_until(ended(&client, [first, indexed, sync])).await?;
    Ok(())
}

async fn ended(client: &Client, jobs: impl IntoIterator<Item = JobId>) {
    for id in jobs {
        while !client
            .job(id)
            .await
            .is_ok_and(|job| job.is_some_and(|job| job.state.name().is_final()))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
