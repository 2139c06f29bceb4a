//! Context that travels with a job: who enqueued it, and in which language. `cargo run -p portfire --example filters_context`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use portfire::prelude::*;
use portfire::{ClientFilter, HandlerResult, NewJob, ServerFilter};

tokio::task_local! {
    /// The language of the request, or of the job, that runs here.
    static LANGUAGE: String;
}

const KEY: &str = "language";

/// One filter for both ends: takes the context down where a job is enqueued, and restores it around its
/// handler, as Hangfire does with the culture.
struct Language;

impl ClientFilter for Language {
    fn creating(&self, job: &mut NewJob) -> Result<(), String> {
        if let Ok(language) = LANGUAGE.try_with(String::clone) {
            job.options.metadata.entry(KEY.to_owned()).or_insert(language);
        }
        Ok(())
    }
}

impl ServerFilter for Language {
    fn perform<'a>(
        &'a self,
        job: &'a JobContext,
        next: Next<'a>,
    ) -> portfire::BoxFuture<'a, HandlerResult> {
        let language = job.options().metadata.get(KEY).cloned().unwrap_or("en".to_owned());
        Box::pin(LANGUAGE.scope(language, next.run(job)))
    }
}

#[job]
async fn greet(name: &str) -> Result<(), JobError> {
    let greeting = LANGUAGE.with(|language| match language.as_str() {
        "nl" => "hallo",
        _ => "hello",
    });
    println!("{greeting}, {name}");
    Ok(())
}

#[tokio::main]
async fn main() -> portfire::Result<()> {
    let storage = portfire::open("memory:").await?;
    let client = Client::builder(storage.clone()).filter(Language).build();

    // A web server would do this for each request.
    let request = |language: &str, name: &'static str| {
        let client = client.clone();
        LANGUAGE.scope(language.to_owned(), async move { client.enqueue(greet(name)).await })
    };
    let jobs = [request("nl", "Anna").await?, request("en", "Bob").await?];

    let server = Server::builder(storage).client(client.clone()).filter(Language).start().await?;
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
