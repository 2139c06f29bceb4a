//! `portfire queues`: lists queues, pauses and resumes them.

use std::io::Write;

use portfire_core::{QueueName, Storage};
use serde::Serialize;

use crate::answer;
use crate::command::QueuesCommand;
use crate::failure::Failure;
use crate::status::show_queues;

/// What was set, for programs.
#[derive(Serialize)]
struct Set {
    queue: QueueName,
    paused: bool,
}

pub(crate) async fn run(
    command: QueuesCommand,
    storage: &dyn Storage,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let (queue, paused) = match command {
        QueuesCommand::List => {
            let queues = storage.queues().await?;
            return if json { answer::json(&queues, out) } else { show_queues(&queues, out) };
        }
        QueuesCommand::Pause { name } => (name, true),
        QueuesCommand::Resume { name } => (name, false),
    };
    storage.set_queue_paused(queue.clone(), paused).await?;
    if json {
        return answer::json(&Set { queue, paused }, out);
    }
    writeln!(out, "{queue} {}", if paused { "is paused" } else { "gives out jobs" })?;
    Ok(())
}
