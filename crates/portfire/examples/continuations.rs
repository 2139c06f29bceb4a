//! What runs after a job: after its success, its failure, or several jobs. `cargo run -p portfire --example continuations`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::prelude::*;

#[job(retry = none)]
async fn charge(order: u64) -> Result<u64, JobError> {
    if order == 13 { Err(JobError::new("the card was refused")) } else { Ok(order * 100) }
}

/// Takes what its parent returned.
#[job]
async fn ship(order: u64, #[parent] paid: u64) -> Result<(), JobError> {
    println!("order {order}, paid {paid}, is shipped");
    Ok(())
}

/// Takes why its parent failed.
#[job]
async fn apologise(order: u64, #[parent] error: ParentError) -> Result<(), JobError> {
    println!("order {order}: {error}");
    Ok(())
}

/// Takes what several parents returned, or how they ended instead.
#[job]
async fn close_books(#[parents] orders: Vec<ParentResult<u64>>) -> Result<(), JobError> {
    let paid: Vec<u64> = orders.into_iter().flatten().collect();
    println!("paid were {paid:?}");
    Ok(())
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::new(storage.clone());

    let mut books = close_books();
    for order in [12, 13] {
        let charged = client.enqueue(charge(order)).await?;
        client.continue_with(charged, ship(order)).await?;
        client.continue_with(charged, apologise(order)).on(After::Failure).await?;
        books = books.after_end(charged);
    }
    // A delay counts from the end of what is waited for.
    let books = client.enqueue(books.delay(Duration::from_millis(50))).await?;

    let server = Server::builder(storage).start().await?;
    server.run_until(ended(&client, books)).await?;
    Ok(())
}

async fn ended(client: &Client, id: JobId) {
    while !client.job(id).await.is_ok_and(|job| job.is_some_and(|job| job.state.name().is_final()))
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
