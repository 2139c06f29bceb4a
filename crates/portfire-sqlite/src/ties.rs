//! What ties a job to others, beside its body: how it is stored, and what follows from a transition for
//! those it is tied to.
//!
//! A plain job has no ties, and [`moved`] is done with it at once.

use portfire_core::transition::Transition;
use portfire_core::{Cause, ClaimedJob, InvalidJob, StateName, Ties};

use crate::error::{Failure, corrupt};
use crate::outbox::{Due, What};
use crate::row::{Body, Stand};
use crate::write::Write;
use crate::{batches, limits, links, outbox, outcomes, runs, unique};

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

/// What a transition means for those that the job is tied to, in the same commit.
///
/// Called after the job stands where it was moved to. Claims do not come here: they move many jobs
/// at once, and have their own way.
pub(crate) fn moved(
    write: &mut Write<'_>,
    body: &Body,
    from: &Stand,
    made: &Transition,
) -> Result<(), Failure> {
    if body.is_plain() {
        return Ok(());
    }
    let occurrence = body.ties.as_ref().and_then(|ties| ties.occurrence.as_ref());
    if let Some(occurrence) = occurrence
        && made.to.state.is_final()
    {
        runs::ended(write, body.seq, occurrence, made.to.state)?;
    }
    let (was, is) = (from.standing.state, made.to.state);
    if was == StateName::Awaiting
        && made.cause != Cause::Continued
        && let Some(ties) = &body.ties
    {
        links::close_waits(write, body.seq, &ties.after)?;
    }
    unique::moved(write, body, made)?;
    if body.followed && is.is_final() && !was.is_final() {
        outbox::push(write, Due::new(What::Job(is), body.seq))?;
    }
    match body.batch {
        Some(batch) => batches::member_moved(write, batch, Some(was), is),
        None => Ok(()),
    }
}

/// What a claim means for those that the job is tied to.
pub(crate) fn claimed(write: &mut Write<'_>, job: &ClaimedJob) -> Result<(), Failure> {
    unique::claimed(write, &job.ties, job.claim.locator)
}

/// Removes what is stored of a job's ties, besides its body, which is gone.
pub(crate) fn cleaned(write: &mut Write<'_>, body: &Body) -> Result<(), Failure> {
    if body.is_plain() {
        return Ok(());
    }
    unique::cleaned(write, body)?;
    links::forget(write.conn, body)?;
    match body.batch {
        Some(batch) => batches::member_cleaned(write, batch),
        None => Ok(()),
    }
}

/// What follows from all that a call has changed: the last thing in it, but for a cycle's claim.
pub(crate) fn settle(write: &mut Write<'_>) -> Result<(), Failure> {
    outbox::drain(write)?;
    limits::settle(write)
}
