//! The transitions of a transaction, noted while somebody listens, and told after the commit.

use portfire_core::engine::{Facts, Job};
use portfire_core::transition::Transition;
use portfire_core::{
    Cause, ClaimedJob, HistoryEntry, JobId, KindName, Moved, NewJob, QueueName, ServerId,
    StateName, Timestamp,
};
use rusqlite::params;

use crate::error::Failure;
use crate::write::Write;

const SELECT_NAMES: &str = "SELECT j.id, k.name, q.name FROM portfire_job j \
    JOIN portfire_kind k ON k.kind = j.kind JOIN portfire_queue q ON q.queue = j.queue \
    WHERE j.seq = ?1";
const SELECT_SERVER: &str = "SELECT id FROM portfire_server_id WHERE server = ?1";

/// Notes that a job was created.
pub(crate) fn created(
    write: &mut Write<'_>,
    job: &NewJob,
    state: StateName,
    run_at: Option<Timestamp>,
) {
    let entry = HistoryEntry { run_at, ..entry(1, state, Cause::Created, write.now) };
    note(write, job.id, job.kind.clone(), job.queue.clone(), None, entry);
}

/// Notes a transition that the engine has decided.
pub(crate) fn moved(
    write: &mut Write<'_>,
    job: &Job,
    from: StateName,
    made: &Transition,
    facts: &Facts<'_>,
) -> Result<(), Failure> {
    if write.told.is_none() {
        return Ok(());
    }
    let server = match facts.server {
        Some(server) => Some(server_of(write, server)?),
        None => None,
    };
    let entry = HistoryEntry {
        server,
        attempt: facts.attempt,
        run_at: made.run_at,
        // A rescue comes with the error of a poisoned job, whether or not it turns out to be one.
        error: facts.error.filter(|_| made.cause != Cause::Rescued).cloned(),
        reason: facts.reason.map(str::to_owned),
        ..entry(made.to.revision, made.to.state, made.cause, write.now)
    };
    by_number(write, job.seq, from, entry)
}

/// Notes that a job was claimed.
pub(crate) fn claimed(
    write: &mut Write<'_>,
    job: &ClaimedJob,
    server: i64,
    made: &Transition,
) -> Result<(), Failure> {
    if write.told.is_none() {
        return Ok(());
    }
    let entry = HistoryEntry {
        server: Some(server_of(write, server)?),
        attempt: Some(made.to.attempt),
        ..entry(made.to.revision, made.to.state, made.cause, write.now)
    };
    let (kind, queue) = (job.kind.clone(), job.queue.clone());
    note(write, job.claim.job, kind, queue, Some(StateName::Enqueued), entry);
    Ok(())
}

/// Notes that members with neighbouring numbers were moved together.
pub(crate) fn run(
    write: &mut Write<'_>,
    numbers: std::ops::RangeInclusive<i64>,
    made: &Transition,
) -> Result<(), Failure> {
    if write.told.is_none() {
        return Ok(());
    }
    for seq in numbers {
        let entry = entry(made.to.revision, made.to.state, made.cause, write.now);
        by_number(write, seq, StateName::Awaiting, entry)?;
    }
    Ok(())
}

fn entry(revision: u32, state: StateName, cause: Cause, at: Timestamp) -> HistoryEntry {
    HistoryEntry {
        revision,
        state,
        at,
        cause,
        server: None,
        attempt: None,
        run_at: None,
        error: None,
        reason: None,
        folded: None,
    }
}

fn by_number(
    write: &mut Write<'_>,
    seq: i64,
    from: StateName,
    entry: HistoryEntry,
) -> Result<(), Failure> {
    let mut select = write.conn.prepare_cached(SELECT_NAMES)?;
    let (job, kind, queue) = select.query_row(params![seq], |row| {
        let (kind, queue) = (row.get::<_, String>(1)?, row.get::<_, String>(2)?);
        Ok((JobId::from_bytes(row.get(0)?), KindName::stored(kind), QueueName::stored(queue)))
    })?;
    drop(select);
    note(write, job, kind, queue, Some(from), entry);
    Ok(())
}

fn server_of(write: &Write<'_>, server: i64) -> rusqlite::Result<ServerId> {
    let mut select = write.conn.prepare_cached(SELECT_SERVER)?;
    select.query_row([server], |row| row.get::<_, String>(0)).map(ServerId::new)
}

fn note(
    write: &mut Write<'_>,
    job: JobId,
    kind: KindName,
    queue: QueueName,
    from: Option<StateName>,
    entry: HistoryEntry,
) {
    if let Some(told) = &mut write.told {
        told.push(Moved::new(job, kind, queue, from, entry));
    }
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[SELECT_NAMES, SELECT_SERVER];
