//! `portfire status`: how many jobs stand where, the queues, the servers.

use std::io::Write;

use portfire_core::{Counts, QueueRecord, ServerRecord, StateName, Storage, Timestamp};
use serde::Serialize;

use crate::answer;
use crate::escape;
use crate::failure::Failure;
use crate::table::Table;

/// What the command shows; with `--json` this is the answer.
#[derive(Debug, Serialize)]
struct Status {
    storage: portfire_core::StorageInfo,
    now: Timestamp,
    counts: Counts,
    queues: Vec<QueueRecord>,
    servers: Vec<ServerRecord>,
}

pub(crate) async fn run(
    storage: &dyn Storage,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let status = Status {
        storage: storage.info(),
        now: storage.now().await?,
        counts: storage.counts().await?,
        queues: storage.queues().await?,
        servers: storage.servers().await?,
    };
    if json { answer::json(&status, out) } else { show(&status, out) }
}

fn show(status: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    let info = &status.storage;
    writeln!(out, "{} {}", info.name, escape::plain(&info.location))?;
    writeln!(out, "{}\n", info.durability)?;

    let mut states = Table::new(["STATE", "JOBS"]);
    for state in StateName::ALL {
        states.row([state.to_string(), status.counts.of(state).to_string()]);
    }
    states.write(out)?;

    writeln!(out)?;
    show_queues(&status.queues, out)?;
    writeln!(out)?;
    show_servers(&status.servers, status.now, out)?;

    let counts = &status.counts;
    writeln!(
        out,
        "\nEver: {} created, {} succeeded, {} failed, {} deleted, {} retried, {} recovered, {} cleaned",
        counts.created_total,
        counts.succeeded_total,
        counts.failed_total,
        counts.deleted_total,
        counts.retried_total,
        counts.recovered_total,
        counts.cleaned_total
    )?;
    Ok(())
}

fn show_queues(queues: &[QueueRecord], out: &mut dyn Write) -> Result<(), Failure> {
    if queues.is_empty() {
        writeln!(out, "No queues yet.")?;
        return Ok(());
    }
    let mut table = Table::new(["QUEUE", "ENQUEUED", "PROCESSING", "SCHEDULED", "FAILED", ""]);
    for queue in queues {
        let of = |state| queue.states.get(&state).copied().unwrap_or(0).to_string();
        table.row([
            queue.name.to_string(),
            of(StateName::Enqueued),
            of(StateName::Processing),
            of(StateName::Scheduled),
            of(StateName::Failed),
            if queue.paused { "paused".to_owned() } else { String::new() },
        ]);
    }
    Ok(table.write(out)?)
}

fn show_servers(
    servers: &[ServerRecord],
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if servers.is_empty() {
        writeln!(out, "No servers.")?;
        return Ok(());
    }
    let mut table =
        Table::new(["SERVER", "NAME", "WORKERS", "PROCESSING", "QUEUES", "HEARD OF", ""]);
    for server in servers {
        let queues: Vec<&str> = server.queues.iter().map(|queue| queue.as_str()).collect();
        let state = match (server.dead, now > server.lease_until) {
            (true, _) => "dead",
            (false, true) => "lease lapsed",
            (false, false) => "",
        };
        table.row([
            server.id.to_string(),
            server.name.clone(),
            server.workers.to_string(),
            server.processing.to_string(),
            queues.join(","),
            format!("{} s ago", now.since(server.heartbeat_at).as_secs()),
            state.to_owned(),
        ]);
    }
    Ok(table.write(out)?)
}
