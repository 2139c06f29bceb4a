//! Jobs that run one after another, each taking what the one before returned. `cargo run -p portfire --example chain_pipe`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::prelude::*;

#[job]
async fn extract(source: &str) -> Result<Vec<String>, JobError> {
    Ok(source.split(',').map(str::to_owned).collect())
}

#[job]
async fn load(table: &str, #[parent] rows: &[String]) -> Result<usize, JobError> {
    println!("{} rows go into {table}", rows.len());
    Ok(rows.len())
}

#[job]
async fn notify(channel: &str, #[parent] rows: usize) -> Result<(), JobError> {
    println!("{channel}: {rows} rows were loaded");
    Ok(())
}

#[job]
fn clean_up() {
    println!("what is left over is thrown away");
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());

    // `pipe` compiles because `load` takes what `extract` returns. All four are stored in one commit.
    let chain = extract("nut,bolt,washer")
        .pipe(load("parts").queue("database"))
        .pipe(notify("ops"))
        .then_on(After::End, clean_up());
    let last = client.enqueue(chain).await?;
    println!("{} jobs are stored", storage.counts().await?.created_total);

    let server = Server::builder(storage).queues(["database", "default"]).start().await?;
    server.run_until(ended(&client, last)).await?;
    Ok(())
}

async fn ended(client: &Client, id: JobId) {
    while !client.job(id).await.is_ok_and(|job| job.is_some_and(|job| job.state.name().is_final()))
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
