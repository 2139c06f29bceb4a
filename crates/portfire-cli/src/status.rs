//! `portfire status`: how many jobs stand where, the queues, the servers, how many rules there are.

use std::io::Write;

use portfire_core::monitor::PAGE_MAX;
use portfire_core::{
    BatchFilter, BatchState, Counts, QueueRecord, RecurringFilter, ServerRecord, StateName,
    Storage, Timestamp,
};
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
    recurring: Recurring,
    batches: Batches,
    /// Limits that have a rule.
    limits: usize,
}

/// Recurring jobs, of which one page is looked at.
#[derive(Debug, Serialize)]
struct Recurring {
    count: usize,
    /// Whether there are more than those.
    more: bool,
    paused: usize,
    /// Those whose schedule cannot be read, or that were given up.
    faulty: usize,
}

/// Batches that have started and not ended, of which one page is looked at.
#[derive(Debug, Serialize)]
struct Batches {
    started: usize,
    /// Whether there are more than those.
    more: bool,
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
        recurring: recurring(storage).await?,
        batches: batches(storage).await?,
        limits: storage.limits().await?.len(),
    };
    if json { answer::json(&status, out) } else { show(&status, out) }
}

async fn recurring(storage: &dyn Storage) -> Result<Recurring, Failure> {
    let filter = RecurringFilter { max: PAGE_MAX, ..RecurringFilter::default() };
    let page = storage.recurring_jobs(filter).await?;
    Ok(Recurring {
        count: page.recurring.len(),
        more: page.next.is_some(),
        paused: page.recurring.iter().filter(|record| record.paused.is_some()).count(),
        faulty: page.recurring.iter().filter(|record| record.fault.is_some()).count(),
    })
}

async fn batches(storage: &dyn Storage) -> Result<Batches, Failure> {
    let state = Some(BatchState::Started);
    let filter = BatchFilter { state, max: PAGE_MAX, ..BatchFilter::default() };
    let page = storage.batches(filter).await?;
    Ok(Batches { started: page.batches.len(), more: page.next.is_some() })
}

fn show(status: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    let info = &status.storage;
    writeln!(out, "{} {}", info.name, escape::plain(&info.location))?;
    writeln!(out, "an answered call survives {}", info.durability)?;
    for missing in info.capabilities.missing() {
        writeln!(out, "it cannot {missing}")?;
    }
    writeln!(out)?;

    let mut states = Table::new(["STATE", "JOBS"]);
    for state in StateName::ALL {
        states.row([state.to_string(), status.counts.of(state).to_string()]);
    }
    states.write(out)?;

    writeln!(out)?;
    show_queues(&status.queues, out)?;
    writeln!(out)?;
    show_servers(&status.servers, status.now, out)?;

    writeln!(out)?;
    show_rules(status, out)?;

    let counts = &status.counts;
    writeln!(
        out,
        "Ever: {} created, {} succeeded, {} failed, {} deleted, {} retried, {} recovered, {} cleaned",
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

/// Recurring jobs, batches and limits, where there are any.
fn show_rules(status: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    let Recurring { count, more, paused, faulty } = status.recurring;
    let or_more = |more: bool| if more { " or more" } else { "" };
    if count > 0 {
        let more = or_more(more);
        writeln!(out, "Recurring jobs: {count}{more}, {paused} paused, {faulty} with an error")?;
    }
    let Batches { started, more } = status.batches;
    if started > 0 {
        writeln!(out, "Batches that have started: {started}{}", or_more(more))?;
    }
    if status.limits > 0 {
        writeln!(out, "Limits: {}", status.limits)?;
    }
    Ok(())
}

pub(crate) fn show_queues(queues: &[QueueRecord], out: &mut dyn Write) -> Result<(), Failure> {
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
