//! Jobs and your own tables in one transaction: all of it happens, or none. `cargo run -p portfire --example transaction`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::prelude::*;
use portfire::sqlite::rusqlite::{Connection, TransactionBehavior};

/// Marks the order, enqueues the mail and completes the job in one commit: exactly once, for effects in
/// this file. Only `complete` makes what it returns.
#[job]
async fn write_invoice(order: i64, cx: &JobContext) -> Result<Completed<i64>, JobError> {
    let mut tx = cx.tx().await?;
    let sql = "UPDATE orders SET invoiced = invoiced + 1 WHERE id = ?1 RETURNING invoiced";
    let times = tx.run(move |db| db.query_row(sql, [order], |row| row.get(0))).await??;
    tx.enqueue(send_invoice(order)).await?;
    tx.complete(times).await
}

#[job]
async fn send_invoice(order: i64) -> Result<(), JobError> {
    println!("the invoice of order {order} is sent");
    Ok(())
}

/// Stores an order with the job that writes its invoice: both, or neither.
async fn place_order(
    orders: &mut Connection,
    client: &Client,
    total: i64,
) -> anyhow::Result<JobId> {
    let mut transaction = orders.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("INSERT INTO orders (total) VALUES (?1)", [total])?;
    let order = transaction.last_insert_rowid();
    let job = client.enqueue_in(&mut transaction, write_invoice(order)).await?;
    // Leaving here without a commit takes both back.
    anyhow::ensure!(total > 0, "an order of nothing");
    transaction.commit()?;
    Ok(job)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("shop.db");
    let storage = portfire::open(&format!("sqlite://{}", file.display())).await?;
    let client = Client::new(storage.clone());

    // A connection of the application's own, on the same file.
    let mut orders = Connection::open(&file)?;
    orders.busy_timeout(Duration::from_secs(5))?;
    orders.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER NOT NULL, invoiced INTEGER NOT NULL DEFAULT 0)")?;

    let job = place_order(&mut orders, &client, 4_200).await?;
    let refused = place_order(&mut orders, &client, 0).await;
    println!("refused: {}", refused.unwrap_err());
    println!("jobs created: {}", storage.counts().await?.created_total);

    let server = Server::builder(storage).start().await?;
    server.run_until(ended(&client, job)).await?;
    let invoiced: i64 =
        orders.query_row("SELECT sum(invoiced) FROM orders", [], |row| row.get(0))?;
    println!("invoices written: {invoiced}");
    Ok(())
}

async fn ended(client: &Client, id: JobId) {
    while !client.job(id).await.is_ok_and(|job| job.is_some_and(|job| job.state.name().is_final()))
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
