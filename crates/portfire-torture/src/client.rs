//! A process that enqueues its share of the jobs.

use std::ops::Range;

use clap::Args;
use portfire::Client;

use crate::AnyError;
use crate::effects::mark;

/// Callers that enqueue one job each at a time.
const IN_FLIGHT: u64 = 20;

/// Jobs in a call of the other kind.
const BATCH: u64 = 100;

/// What this process enqueues.
#[derive(Debug, Args)]
pub(crate) struct Share {
    /// Where.
    #[arg(long)]
    storage: String,
    /// The number of the first job.
    #[arg(long)]
    from: u64,
    /// The number after the last.
    #[arg(long)]
    to: u64,
}

/// Enqueues one half of the share in single calls, many at a time, and the other half in batches.
pub(crate) async fn run(share: Share) -> Result<(), AnyError> {
    let client = Client::new(portfire::open(&share.storage).await?);
    let middle = share.from + (share.to - share.from) / 2;
    let callers: Vec<_> = (0..IN_FLIGHT)
        .map(|caller| tokio::spawn(one_by_one(client.clone(), share.from + caller..middle)))
        .collect();
    let mut next = middle;
    while next < share.to {
        let end = share.to.min(next + BATCH);
        client.enqueue_many((next..end).map(mark)).await?;
        next = end;
    }
    for caller in callers {
        caller.await??;
    }
    Ok(())
}

/// Every [`IN_FLIGHT`]th of the numbers.
async fn one_by_one(client: Client, numbers: Range<u64>) -> Result<(), AnyError> {
    for number in numbers.step_by(IN_FLIGHT as usize) {
        client.enqueue(mark(number)).await?;
    }
    Ok(())
}
