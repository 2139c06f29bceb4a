//! Services, and jobs that are methods of one. `cargo run -p portfire --example services`
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portfire::prelude::*;

/// Shared by all jobs.
#[derive(Default)]
struct Outbox {
    sent: AtomicU64,
}

/// Cloned into each service that wants it.
#[derive(Clone)]
struct Config {
    from: String,
}

/// Made anew for each job, from the services that its fields name.
#[derive(FromServices)]
struct EmailService {
    outbox: Arc<Outbox>,
    config: Config,
}

#[jobs]
impl EmailService {
    /// Stored under the kind `EmailService.send`.
    #[job(queue = "mail")]
    async fn send(&self, to: &str, cx: &JobContext) -> Result<u64, JobError> {
        println!("{} writes to {to}, as job {}", self.config.from, cx.id());
        Ok(self.outbox.sent.fetch_add(1, Ordering::Relaxed))
    }
}

/// A function takes a service by `#[inject]`; callers do not pass it.
#[job]
async fn report(title: &str, #[inject] outbox: &Outbox) {
    println!("{title}: {} sent", outbox.sent.load(Ordering::Relaxed));
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());

    client.enqueue(EmailService::job().send("a@example.com")).await?;
    client.on::<EmailService>().enqueue(|x| x.send("b@example.com")).await?;
    let wait = Duration::from_millis(200);
    let last = client.schedule(report("e-mails"), wait).await?;

    // A server that lacks a service of one of its jobs does not start, and says which.
    let missing = Server::builder(storage.clone()).check().unwrap_err();
    println!("{missing}");

    let services = Services::new()
        .with(Outbox::default())
        .with(Config { from: "shop@example.com".to_owned() });
    let server =
        Server::builder(storage).services(services).queues(["mail", "default"]).start().await?;
    server.run_until(ended(&client, last)).await?;
    Ok(())
}

async fn ended(client: &Client, id: JobId) {
    while !client.job(id).await.is_ok_and(|job| job.is_some_and(|job| job.state.name().is_final()))
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
