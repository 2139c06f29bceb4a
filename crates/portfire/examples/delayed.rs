//! Delayed jobs, many at once, and options of one call. `cargo run -p portfire --example delayed`
#![allow(clippy::print_stdout)]

use std::time::{Duration, SystemTime};

use portfire::prelude::*;
use portfire::{Changed, StateName};

#[job(queue = "mail")]
async fn send_coupon(user_id: u64) -> Result<(), JobError> {
    println!("a coupon for user {user_id}");
    Ok(())
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());

    // After a while, or at an instant.
    let soon = client.schedule(send_coupon(1), Duration::from_millis(200)).await?;
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let later = client.schedule(send_coupon(2).tag("eu").priority(7), tomorrow).await?;

    // Many calls in one commit.
    client.enqueue_many((10..13).map(|user_id| send_coupon(user_id).delay(tomorrow))).await?;
    let counts = storage.counts().await?;
    println!("{} jobs are scheduled", counts.of(StateName::Scheduled));

    // Not tomorrow but now; and the first one only if it has not run yet.
    let moved = client.reschedule(later, Duration::from_millis(100)).await?;
    assert!(moved.is_done(), "{moved:?}");
    let changed = client.change_if(soon, portfire::Action::Requeue, [StateName::Scheduled]).await?;
    assert!(matches!(changed, Changed::Applied { from: StateName::Scheduled, .. }));

    let server = Server::builder(storage).queues(["mail", "default"]).start().await?;
    server.run_until(ended(&client, [soon, later])).await?;
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
