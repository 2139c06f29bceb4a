//! What ties a job to others, beside its body: how it is stored, and what follows from a transition for
//! those it is tied to.
//!
//! A plain job has no ties, and [`moved`] is done with it at once.

use portfire_core::transition::Transition;
use portfire_core::{ClaimedJob, InvalidJob, ParentOutcome, Ties};

use crate::error::{Failure, corrupt};
use crate::recurring;
use crate::row::{Body, Facts, Stand};
use crate::write::Write;

const SELECT_PARENTS: &str = "SELECT outcome FROM portfire_parent WHERE seq = ?1 ORDER BY place";

/// The text that is stored for the ties of a job, its batch left out; `None` when there is nothing else.
pub(crate) fn encode(ties: &Ties) -> Result<Option<String>, Failure> {
    if ties.is_empty() {
        return Ok(None);
    }
    let mut ties = ties.clone();
    ties.batch = None;
    if ties.is_empty() {
        return Ok(None);
    }
    let encoded = serde_json::to_string(&ties);
    encoded.map(Some).map_err(|error| InvalidJob::Encode { reason: error.to_string() }.into())
}

/// Reads the stored ties of a job, which are all but its batch.
pub(crate) fn decode(seq: i64, text: &str) -> Result<Ties, Failure> {
    serde_json::from_str(text)
        .map_err(|error| corrupt(format!("the ties of job number {seq}: {error}")))
}

/// Adds to a claimed job what is stored elsewhere: its batch, and how its parents ended.
pub(crate) fn complete(
    write: &mut Write<'_>,
    job: &mut ClaimedJob,
    batch: Option<i64>,
) -> Result<(), Failure> {
    if let Some(batch) = batch {
        job.ties.batch = Some(write.names.batch(write.conn, batch)?);
    }
    if !job.ties.after.iter().any(|dependency| dependency.pass) {
        return Ok(());
    }
    let seq = job.claim.locator;
    let mut select = write.conn.prepare_cached(SELECT_PARENTS)?;
    let mut rows = select.query([seq])?;
    while let Some(row) = rows.next()? {
        let outcome = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let outcome: ParentOutcome = serde_json::from_str(outcome)
            .map_err(|error| corrupt(format!("a parent of job number {seq}: {error}")))?;
        job.parents.push(outcome);
    }
    Ok(())
}

/// What a transition means for those that the job is tied to, in the same commit.
///
/// Called after the job stands where it was moved to. Claims do not come here: they move many jobs
/// at once, and have their own way.
pub(crate) fn moved(
    write: &mut Write<'_>,
    body: &Body,
    _from: &Stand,
    made: &Transition,
    _facts: &Facts<'_>,
) -> Result<(), Failure> {
    if body.is_plain() {
        return Ok(());
    }
    let occurrence = body.ties.as_ref().and_then(|ties| ties.occurrence.as_ref());
    if let Some(occurrence) = occurrence
        && made.to.state.is_final()
    {
        recurring::ended(write, body.seq, occurrence, made.to.state)?;
    }
    Ok(())
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[SELECT_PARENTS];
