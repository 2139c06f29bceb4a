use portfire::prelude::*;

async fn plain(user_id: u64) -> Result<(), JobError> {
    let _ = user_id;
    Ok(())
}

struct Service;

async fn enqueue(client: Client) {
    let _ = client.enqueue(plain(42)).await;
    let _ = client.enqueue(async { 1 }).await;
    let _ = client.on::<Service>();
    let _ = portfire::jobs![Service];
}

fn main() {}
