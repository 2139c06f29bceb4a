//! A process that works until its standard input ends.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use portfire::Server;

use crate::effects::{mark, occur, risk, step};
use crate::{AnyError, effects};

/// Where this process works.
#[derive(Debug, Args)]
pub(crate) struct Post {
    /// The storage.
    #[arg(long)]
    storage: String,
    /// Its name, which its replacement will have, too.
    #[arg(long)]
    name: String,
    /// Its effect log.
    #[arg(long)]
    effects: PathBuf,
    /// How many jobs it runs at a time. Default: as many as a server does by itself.
    #[arg(long)]
    workers: Option<usize>,
    /// Crashes that a job alone can have caused, and survives. Servers are killed here by far more often than a job
    /// is poison.
    #[arg(long, default_value_t = 1_000)]
    recoveries_max: u32,
}

pub(crate) async fn run(post: Post) -> Result<(), AnyError> {
    effects::open(&post.effects)?;
    let storage = portfire::open(&post.storage).await?;
    let mut server = Server::builder(storage)
        .name(post.name)
        .recoveries_max(post.recoveries_max)
        .register(portfire::jobs![mark, occur, step, risk]);
    if let Some(workers) = post.workers {
        server = server.workers(workers);
    }
    let server = server.start().await?;
    // The supervisor closes our input to end us, and so does its own death.
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = end.send(());
    });
    let _ = ended.await;
    server.shutdown().await;
    Ok(())
}
