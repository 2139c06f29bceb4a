//! How many jobs run at a time, and how many start in a time. `cargo run -p portfire --example limits`
#![allow(clippy::print_stdout)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portfire::prelude::*;
use portfire::{LimitName, LimitRule, LimitTarget};

static RUNNING: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Two at a time for each mail domain, in all processes together.
#[job(limit("mail:{domain}", concurrency = 2))]
async fn send_mail(domain: &str, number: u32) -> Result<(), JobError> {
    let running = RUNNING.fetch_add(1, Ordering::Relaxed) + 1;
    MOST.fetch_max(running, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(10)).await;
    RUNNING.fetch_sub(1, Ordering::Relaxed);
    println!("mail {number} to {domain}");
    Ok(())
}

/// One run at a time: Hangfire's `DisableConcurrentExecution`.
#[job(limit(concurrency = 1))]
async fn rebuild() -> Result<(), JobError> {
    println!("rebuilt");
    Ok(())
}

#[job]
async fn ask_rates(currency: &str) -> Result<(), JobError> {
    println!("a {currency} is a {currency}");
    Ok(())
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());

    let mut jobs = client.enqueue_many((1..=8).map(|n| send_mail("example.org", n))).await?;
    jobs.extend(client.enqueue_many([rebuild(), rebuild()]).await?);
    // A limit of one call: others that name it share it.
    let slowly = || Limit::named("rates-api").rate(2, "500ms");
    let calls = ["EUR", "USD", "JPY"].map(|currency| ask_rates(currency).limit(slowly()));
    jobs.extend(client.enqueue_many(calls).await?);

    let server = Server::builder(storage).workers(8).start().await?;
    // Changed while jobs wait, at once and whatever the code declares.
    let mail = LimitTarget::Named(LimitName::new("mail")?);
    client.set_limit(mail, LimitRule::concurrency(3)).await?;
    server.run_until(ended(&client, jobs)).await?;
    println!("at most {} mails were sent at a time", MOST.load(Ordering::Relaxed));
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
