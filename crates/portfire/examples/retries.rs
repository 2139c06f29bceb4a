//! What happens after a failure. `cargo run -p portfire --example retries`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::prelude::*;

#[job(retry(max = 3, backoff = delays("100ms", "200ms"), jitter = 0.1))]
async fn call_a_flaky_service(cx: &JobContext) -> anyhow::Result<String> {
    println!("attempt {}, {} failures so far", cx.attempt(), cx.failures());
    anyhow::ensure!(cx.failures() >= 2, "the service is down");
    Ok("answered".to_owned())
}

/// The error itself can say what happens next.
#[job]
async fn charge(card: &str) -> Result<(), JobError> {
    match card {
        "expired" => Err(JobError::permanent("the card has expired")), // no retry: failed at once
        "busy" => Err(JobError::retry_after(Duration::from_secs(1), "the bank is busy")),
        "early" => Err(JobError::snooze(Duration::from_secs(60))), // later, and no failure
        "closed" => Err(JobError::discard("the account is closed")), // deleted
        _ => Ok(()),
    }
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());
    let flaky = client.enqueue(call_a_flaky_service()).await?;
    let mut charges = Vec::new();
    for card in ["expired", "busy", "early", "closed", "good"] {
        // The policy of one call wins over that of the attribute.
        charges.push((card, client.enqueue(charge(card).retry(RetryPolicy::none())).await?));
    }

    let server = Server::builder(storage).poll_interval(Duration::from_millis(20)).start().await?;
    server.run_until(ended(&client, flaky)).await?;

    for (card, id) in charges {
        if let Some(job) = client.job(id).await? {
            println!("{card}: {:?}", job.state);
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
