//! What a running job says about itself. `cargo run -p portfire --example progress_and_logs`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::prelude::*;

#[job]
async fn import(rows: u64, cx: &JobContext) -> Result<u64, JobError> {
    let bar = cx.progress_bar("rows", rows);
    cx.log(format!("{rows} rows to import"));
    for row in 1..=rows {
        bar.set(row);
        if row % 100 == 0 {
            cx.log(format!("row {row} is in"));
        }
    }
    cx.set("source", "orders.csv")?;
    cx.tag("imported");
    Ok(rows)
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());
    let id = client.enqueue(import(250)).await?;

    let server = Server::builder(storage.clone()).start().await?;
    server.run_until(ended(&client, id)).await?;

    // Kept with the job, and gone with it; readable while it runs, too.
    for line in storage.log(id, None, 100).await?.lines {
        println!("{} {}: {}", line.at, line.level.as_str(), line.text);
    }
    let notes = storage.notes(id).await?;
    for bar in notes.progress {
        println!("{}: {} of {}", bar.bar, bar.done, bar.total);
    }
    println!("{:?} {:?}", notes.metadata, notes.tags);
    Ok(())
}

async fn ended(client: &Client, id: JobId) {
    while !client.job(id).await.is_ok_and(|job| job.is_some_and(|job| job.state.name().is_final()))
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
