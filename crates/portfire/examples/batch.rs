//! Jobs that are created together and watched as one. `cargo run -p portfire --example batch`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::BatchId;
use portfire::prelude::*;

#[job]
async fn import_file(file: &str, cx: &JobContext) -> Result<(), JobError> {
    // A running member can add others: its batch cannot end before it does.
    if let Some(batch) = cx.batch() {
        let rows = (1..=3).map(|row| import_row(file, row));
        batch.add_all(rows).await?;
    }
    Ok(())
}

#[job]
async fn import_row(file: &str, row: u32) -> Result<(), JobError> {
    println!("row {row} of {file}");
    Ok(())
}

#[job]
async fn publish() -> Result<(), JobError> {
    println!("all of it is in: published");
    Ok(())
}

#[job]
async fn report(batch: String, cx: &JobContext) -> Result<(), JobError> {
    let id: BatchId = batch.parse()?;
    let members = cx.client().batch_record(id).await?.map(|batch| batch.members);
    println!("{members:?}");
    Ok(())
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());

    // One commit, or nothing when an iterator or a call is at fault. A nested batch is one member.
    let files = ["customers.csv", "orders.csv"];
    let batch = client
        .batch("import")
        .add_all(files.iter().map(|file| import_file(file)))
        .add_batch(Batch::new("pictures").add(import_row("pictures.zip", 1)))
        .on_success(publish())
        .on_failure(report("some of it failed".to_owned()))
        .enqueue()
        .await?;
    // What follows can also be said later, and of a batch that has ended.
    let last = client.continue_with(batch, report(batch.to_string())).on(After::End).await?;

    let server = Server::builder(storage).start().await?;
    server.run_until(ended(&client, last)).await?;
    Ok(())
}

async fn ended(client: &Client, id: JobId) {
    while !client.job(id).await.is_ok_and(|job| job.is_some_and(|job| job.state.name().is_final()))
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
