//! Two programs on one storage, each with handlers of its own, as in a rolling deploy.
//! `cargo run -p portfire --features sqlite --example two_programs`
#![allow(clippy::print_stdout)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portfire::prelude::*;
use portfire::{JobFilter, StateName};

/// Of the first program.
#[job]
async fn send_invoice(number: u32) -> Result<(), JobError> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    let _ = number;
    Ok(())
}

/// Of the second one.
#[job]
async fn resize_picture(name: &str) -> Result<(), JobError> {
    let _ = name;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    if let (Some(program), Some(file)) = (args.next(), args.next()) {
        return serve(&program, &file).await;
    }
    let directory = tempfile::tempdir()?;
    let file = format!("sqlite:{}", directory.path().join("jobs.db").display());
    let client = Client::new(portfire::open(&file).await?);
    // The one that has nothing to do is there first, and hears of each job.
    let mut idle = start("pictures", &file)?;
    let mut busy = start("invoices", &file)?;
    while client.storage().servers().await?.len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let began = Instant::now();
    for number in 0..40 {
        client.enqueue(send_invoice(number)).await?;
    }
    while client.storage().counts().await?.of(StateName::Succeeded) < 40 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed();
    let jobs = client.storage().jobs(JobFilter { max: 100, ..JobFilter::default() }).await?.jobs;
    let attempts: u32 = jobs.iter().map(|job| job.attempt).sum();
    println!("40 jobs of 5 ms took {took:?}, with {attempts} attempts");
    for child in [&mut idle, &mut busy] {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

fn start(program: &str, file: &str) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([program, file]).stdin(Stdio::null()).spawn()
}

/// What each of the programs is.
async fn serve(program: &str, file: &str) -> anyhow::Result<()> {
    let server = Server::builder(portfire::open(file).await?).workers(2);
    let server = match program {
        "invoices" => server.register(portfire::jobs![send_invoice]),
        _ => server.register(portfire::jobs![resize_picture]),
    };
    let server = server.start().await?;
    server.run_until(std::future::pending()).await?;
    Ok(())
}
