//! Jobs that run by a schedule. `cargo run -p portfire --example recurring`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::prelude::*;

/// Declared in code: stored when a server starts, removed by a later one that does not declare it.
#[job(cron = "30 3 * * *", tz = "Europe/Amsterdam", overlap = skip)]
async fn clean_up() -> Result<(), JobError> {
    println!("cleaned up");
    Ok(())
}

/// Has arguments, so a program stores it with them.
#[job]
async fn report(topic: &str, tick: Tick) -> Result<(), JobError> {
    let by_hand = if tick.triggered { ", by hand" } else { "" };
    println!("{topic} at {}{by_hand}", tick.nominal);
    Ok(())
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());

    // Storing it again changes nothing, so a program does it whenever it starts.
    client
        .recurring("daily-report", cron!("0 8 * * MON-FRI"), report("sales"))
        .tz("Europe/Amsterdam")
        .misfire(Misfire::RunOnce)
        .upsert()
        .await?;
    client.recurring("pulse", Duration::from_secs(1), report("pulse")).upsert().await?;

    let server = Server::builder(storage.clone()).app("example").start().await?;
    let daily = client.recurring_job("daily-report");
    println!("the next is at {:?}", daily.record().await?.and_then(|record| record.next_at));
    // Runs it now; its schedule does not move.
    daily.trigger().await?;
    client.recurring_job("clean_up").trigger().await?;

    server.run_until(ran(&client, "pulse", 2)).await?;
    for name in ["daily-report", "clean_up", "pulse"] {
        let runs = client.recurring_job(name).runs(10).await?;
        println!("{name}: {} runs", runs.len());
    }
    Ok(())
}

async fn ran(client: &Client, name: &str, times: usize) {
    let job = client.recurring_job(name);
    while !job
        .runs(10)
        .await
        .is_ok_and(|runs| runs.iter().filter(|run| run.outcome.is_some()).count() >= times)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
