//! A lock between processes, for what is no job. `cargo run -p portfire --example locks`
#![allow(clippy::print_stdout)]

use portfire::prelude::*;

/// Two replicas of a program start at the same time, and one of them migrates.
async fn start(replica: u32, client: Client) -> portfire::Result<()> {
    let lock = client.lock("migration").lease("30s").wait("10s");
    let mut guard = lock.acquire().await?;
    // What the lock protects can refuse lower fences, and so a holder that was paused for too long.
    println!("replica {replica} migrates, fence {}", guard.fence());
    for _step in 0..3 {
        guard.renew().await?;
    }
    guard.release().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage);
    let replicas = (1..=3).map(|replica| tokio::spawn(start(replica, client.clone())));
    for replica in replicas.collect::<Vec<_>>() {
        replica.await??;
    }

    let held = client.lock("report").acquire().await?;
    let other = client.lock("report").try_acquire().await?;
    println!("someone else gets it: {}", other.is_some());
    // Given back in the background; a program that ends before that leaves it to the lease.
    drop(held);
    Ok(())
}
