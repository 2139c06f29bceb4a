//! `portfire batches`: lists batches, shows one with what waits for its end, cancels.

use std::io::Write;

use portfire_core::{
    Antecedent, BatchChange, BatchChanged, BatchFilter, BatchId, BatchRecord, BatchState,
    Continuation, Cursor, Storage,
};
use serde::Serialize;

use crate::command::{BatchListArgs, BatchesCommand};
use crate::failure::Failure;
use crate::table::{Table, fields};
use crate::ties::{dependencies, show_continuations};
use crate::time::seconds;
use crate::{answer, escape};

/// Most continuations that are shown.
pub(crate) const CONTINUATIONS_MAX: u32 = 50;

pub(crate) async fn run(
    command: BatchesCommand,
    storage: &dyn Storage,
    json: bool,
    out: &mut (dyn Write + Send),
    notes: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        BatchesCommand::List(args) => list(storage, &args, json, out, notes).await,
        BatchesCommand::Show { id } => show(storage, id, json, out).await,
        BatchesCommand::Cancel { id, reason } => cancel(storage, id, reason, json, out).await,
    }
}

async fn list(
    storage: &dyn Storage,
    args: &BatchListArgs,
    json: bool,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), Failure> {
    let filter = BatchFilter {
        state: args.state,
        parent: args.parent,
        after: args.after.clone().map(Cursor),
        // 0 is the storage's page size, 50.
        max: args.limit.unwrap_or(0),
    };
    let page = storage.batches(filter).await?;
    if json {
        return answer::json(&page, out);
    }
    if page.batches.is_empty() {
        writeln!(out, "No batches.")?;
        return Ok(());
    }
    let mut table = Table::new([
        "ID",
        "STATE",
        "MEMBERS",
        "PENDING",
        "SUCCEEDED",
        "FAILED",
        "DELETED",
        "CREATED",
        "",
    ]);
    for batch in &page.batches {
        let members = batch.members;
        table.row([
            batch.id.to_string(),
            batch.state.as_str().to_owned(),
            members.total.to_string(),
            members.pending.to_string(),
            members.succeeded.to_string(),
            members.failed.to_string(),
            members.deleted.to_string(),
            seconds(batch.created_at),
            batch.description.clone(),
        ]);
    }
    table.write(out)?;
    if let Some(Cursor(next)) = page.next {
        writeln!(notes, "There are more: --after {}", escape::plain(&next))?;
    }
    Ok(())
}

/// A batch, for programs.
#[derive(Serialize)]
struct Shown {
    batch: BatchRecord,
    /// The first jobs that wait or waited for its end.
    continuations: Vec<Continuation>,
}

async fn show(
    storage: &dyn Storage,
    id: BatchId,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let batch = storage.batch(id).await?.ok_or_else(|| missing(id))?;
    let continuations = storage.continuations(Antecedent::Batch(id), CONTINUATIONS_MAX).await?;
    if json {
        return answer::json(&Shown { batch, continuations }, out);
    }
    let members = batch.members;
    let counts = format!(
        "{}, of which {} pending, {} succeeded, {} failed, {} deleted",
        members.total, members.pending, members.succeeded, members.failed, members.deleted
    );
    fields(
        &[
            ("id", batch.id.to_string()),
            ("called", batch.description.clone()),
            ("state", batch.state.as_str().to_owned()),
            ("reason", batch.reason.unwrap_or_default()),
            ("members", counts),
            ("in", batch.parent.map_or(String::new(), |parent| format!("batch {parent}"))),
            ("after", dependencies(&batch.after)),
            ("created", seconds(batch.created_at)),
            ("ended", batch.ended_at.map_or(String::new(), seconds)),
            ("expires", batch.expires_at.map_or(String::new(), seconds)),
        ],
        out,
    )?;
    show_continuations(&continuations, CONTINUATIONS_MAX, out)
}

/// What became of a cancellation, for programs.
#[derive(Serialize)]
struct Cancelled {
    id: BatchId,
    /// `applied` or `unchanged`.
    outcome: &'static str,
    state: BatchState,
}

async fn cancel(
    storage: &dyn Storage,
    id: BatchId,
    reason: String,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (outcome, state) = match storage.change_batch(id, BatchChange::Cancel { reason }).await? {
        BatchChanged::Applied(state) => ("applied", state),
        BatchChanged::Unchanged(state) => ("unchanged", state),
        BatchChanged::Missing => return Err(missing(id)),
        other => return Err(Failure::new(format!("batch {id}: {other:?}"))),
    };
    if json {
        return answer::json(&Cancelled { id, outcome, state }, out);
    }
    let sentence = match outcome {
        "applied" => format!("{id} is {}", state.as_str()),
        _ => format!("{id} unchanged, is {}", state.as_str()),
    };
    writeln!(out, "{sentence}")?;
    Ok(())
}

fn missing(id: BatchId) -> Failure {
    Failure::new(format!("there is no batch `{id}`; `portfire batches` lists them"))
}
