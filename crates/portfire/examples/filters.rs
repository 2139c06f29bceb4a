//! Rules around all jobs: when they are created, run, end. `cargo run -p portfire --example filters`
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use portfire::prelude::*;
use portfire::{
    AppliedFilter, BoxFuture, ClientFilter, ElectFilter, Finish, HandlerResult, Moved, NewJob,
    Outcome, ServerFilter, StateName,
};

/// Those of one kind stand in its attribute, and come inside of the server's.
#[job(filter = Announced("works"))]
async fn work(n: u32) -> Result<u32, JobError> {
    if n == 3 { Err(JobError::new("three is too much")) } else { Ok(n) }
}

/// Around the handlers of the kinds that name it.
struct Announced(&'static str);

impl ServerFilter for Announced {
    fn perform<'a>(&'a self, job: &'a JobContext, next: Next<'a>) -> BoxFuture<'a, HandlerResult> {
        println!("{} {}", job.id(), self.0);
        next.run(job)
    }
}

/// Before a job is stored: may change it, or refuse it.
struct Tagged;

impl ClientFilter for Tagged {
    fn creating(&self, job: &mut NewJob) -> Result<(), String> {
        job.options.tags.push("example".to_owned());
        if job.args.as_str().contains("13") { Err("unlucky".to_owned()) } else { Ok(()) }
    }
}

/// Before an outcome is stored: may replace it.
struct NoSecondChance;

impl ElectFilter for NoSecondChance {
    fn elect(&self, _job: &JobContext, candidate: &mut Outcome) {
        if let Outcome::Retry { error, .. } = candidate {
            *candidate = Outcome::Failed { error: error.clone() };
        }
    }
}

/// After an outcome, or any other transition, is stored.
struct Printed;

impl AppliedFilter for Printed {
    fn applied(&self, job: &JobContext, finish: &Finish) {
        println!("{} {} ended: {:?}", job.kind(), job.id(), finish.outcome);
    }

    // Also of jobs that failed without an attempt of theirs: as poison, say.
    fn moved(&self, moved: &Moved) {
        if moved.entry.state == StateName::Failed {
            println!("alert: {} {} has failed", moved.kind, moved.job);
        }
    }
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::builder(storage.clone()).filter(Tagged).build();
    println!("{}", client.enqueue(work(13)).await.unwrap_err());
    let jobs = client.enqueue_many((1..=3).map(work)).await?;

    // Around the handler: times it, whatever it returns.
    let timed = filter_fn(async |job: &JobContext, next: Next<'_>| {
        let started = Instant::now();
        let result = next.run(job).await;
        println!("{} took {:?}", job.id(), started.elapsed());
        result
    });
    let server = Server::builder(storage)
        .client(client.clone())
        .filter(timed)
        .elect(NoSecondChance)
        .applied(Printed)
        .start()
        .await?;
    server.run_until(ended(&client, jobs)).await?;
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
