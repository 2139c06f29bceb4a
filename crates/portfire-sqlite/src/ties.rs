//! What ties a job to others, beside its body: how it is stored, given out with a claim, and cleaned.

use portfire_core::{ClaimedJob, InvalidJob, StateName, Ties, engine};

use crate::error::{Failure, corrupt};
use crate::row::Body;
use crate::write::Write;
use crate::{batches, links, outcomes, unique};

/// The text that is stored for the ties of a job, its batch left out; `None` when there is nothing else.
pub(crate) fn encode(ties: &Ties) -> Result<Option<String>, Failure> {
    if ties.is_empty() {
        return Ok(None);
    }
    let encoded = match ties.batch {
        None => serde_json::to_string(ties),
        Some(_) => {
            let mut others = ties.clone();
            others.batch = None;
            if others.is_empty() {
                return Ok(None);
            }
            serde_json::to_string(&others)
        }
    };
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
    job.parents = outcomes::read(write.conn, job.claim.locator, &job.ties.after)?;
    Ok(())
}

/// What a claim means for those that the job is tied to.
pub(crate) fn claimed(write: &mut Write<'_>, job: &ClaimedJob) -> Result<(), Failure> {
    unique::claimed(write, &job.ties, job.claim.locator)
}

/// Removes what is stored of a job's ties, besides its body, which is gone.
pub(crate) fn cleaned(write: &mut Write<'_>, body: &Body, end: StateName) -> Result<(), Failure> {
    if body.is_plain() {
        return Ok(());
    }
    unique::cleaned(write, body)?;
    links::forget(write.conn, body)?;
    match body.batch {
        Some(batch) => {
            engine::member_removed(write, batch, end)?;
            batches::member_cleaned(write, batch)
        }
        None => Ok(()),
    }
}
