//! How many jobs a second the server drains from memory, where the storage costs next to nothing:
//! the server's own cost per job.
//!
//! `cargo run --release -p portfire-server --example drain -- 500000 10 filtered`
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use portfire_core::{Client, Json, KindName, MemoryStorage, NewJob, Storage};
use portfire_server::{
    Handler, HandlerDefaults, JobContext, JobDescriptor, KindFilters, Next, Server, filter_fn,
};
use tokio::sync::Notify;

static LEFT: AtomicU64 = AtomicU64::new(0);
static LAST: Notify = Notify::const_new();

static NOOP: JobDescriptor = JobDescriptor {
    kind: "noop",
    aliases: &[],
    version: 1,
    queue: "default",
    defaults: HandlerDefaults::default,
    filters: KindFilters::default,
    params: Vec::new,
    needs: Vec::new,
    recurring: None,
    handler: Handler::Async(|_| {
        Box::pin(async {
            count_down();
            Ok(None)
        })
    }),
    location: "examples/drain.rs:1",
};

static BLOCKING: JobDescriptor = JobDescriptor {
    kind: "blocking",
    handler: Handler::Blocking(|_| {
        count_down();
        Ok(None)
    }),
    ..NOOP
};

fn count_down() {
    if LEFT.fetch_sub(1, Ordering::AcqRel) == 1 {
        LAST.notify_one();
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let jobs: u64 = args.next().map_or(Ok(200_000), |text| text.parse())?;
    let workers: usize = args.next().map_or(Ok(10), |text| text.parse())?;
    let variant = args.next().unwrap_or_default();
    let kind = if variant == "blocking" { "blocking" } else { "noop" };

    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let client = Client::new(Arc::clone(&storage));
    for _ in 0..jobs / 1_000 {
        let job = || NewJob::new(client.next_id(), KindName::stored(kind), Json::empty());
        client.create((0..1_000).map(|_| job()).collect()).await?;
    }
    let jobs = jobs / 1_000 * 1_000;
    LEFT.store(jobs, Ordering::Release);

    let mut builder = Server::builder(storage).register([&NOOP, &BLOCKING]).workers(workers);
    if variant == "filtered" {
        builder =
            builder.filter(filter_fn(async |job: &JobContext, next: Next<'_>| next.run(job).await));
    }
    let started = Instant::now();
    let server = builder.start().await?;
    LAST.notified().await;
    let took = started.elapsed();
    let cycles = server.stats().cycles_total;
    let report = server.shutdown().await;
    let per_second = jobs as f64 / took.as_secs_f64();
    println!("{jobs} jobs in {took:.3?}: {per_second:.0} jobs/s, {cycles} cycles, {report:?}");
    Ok(())
}
