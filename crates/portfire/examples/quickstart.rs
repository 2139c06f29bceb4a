//! The first job: stored, run, done. `cargo run -p portfire --example quickstart`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::prelude::*;

#[job]
async fn send_welcome(user_id: u64, lang: &str) -> Result<(), JobError> {
    println!("welcome, user {user_id}, in {lang}");
    Ok(())
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    // "sqlite://app.db" keeps the jobs in a file; they then survive the end of the program.
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());

    let id = client.enqueue(send_welcome(42, "en")).await?;
    println!("job {id} is stored");

    let server = Server::builder(storage).start().await?;
    // A real program runs until `shutdown_signal()`; this one until its job has ended.
    let report = server.run_until(ended(&client, id)).await?;
    println!("the server has ended: {report:?}");
    Ok(())
}

async fn ended(client: &Client, id: JobId) {
    while !client.job(id).await.is_ok_and(|job| job.is_some_and(|job| job.state.name().is_final()))
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
