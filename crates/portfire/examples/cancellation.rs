//! Handlers that notice when they are to stop. `cargo run -p portfire --example cancellation`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::prelude::*;

/// A sync handler asks in its loop. At a shutdown it goes back to its queue, at no cost.
#[job]
fn count(iterations: u32, cancel: CancellationToken) -> Result<u32, JobError> {
    for _ in 0..iterations {
        cancel.check()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(iterations)
}

/// An async handler may wait for it beside something else.
#[job(timeout = "200ms", retry = none)]
async fn wait_for_ever(cancel: &CancellationToken) -> Result<(), JobError> {
    let cancelled = cancel.cancelled().await;
    println!("told to stop: {}", cancelled.reason);
    Err(cancelled.into())
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());
    let counting = client.enqueue(count(u32::MAX)).await?;
    let deleted = client.enqueue(count(u32::MAX)).await?;
    let timed_out = client.enqueue(wait_for_ever()).await?;

    let server = Server::builder(storage).stop_timeout(Duration::ZERO).start().await?;
    let stop = async {
        ended(&client, timed_out).await;
        let changed = client.delete(deleted).await;
        println!("deleted while it ran: {changed:?}");
    };
    let report = server.run_until(stop).await?;
    println!("{report:?}");

    for id in [counting, deleted, timed_out] {
        if let Some(job) = client.job(id).await? {
            println!("{}: {:?}", job.kind, job.state);
        }
    }
    Ok(())
}

async fn ended(client: &Client, id: JobId) {
    while !client.job(id).await.is_ok_and(|job| job.is_some_and(|job| job.state.name().is_final()))
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
