//! Storing jobs.

use portfire_core::storage::BATCH_MAX;
use portfire_core::{Created, InvalidJob, NewJob, StateName, StorageError, Timestamp};
use rusqlite::params;

use crate::error::{Failure, corrupt};
use crate::lines::Waiter;
use crate::row::cause_code;
use crate::write::Write;
use crate::{limits, ties};

// A job whose id is stored already is found out by the index that the insert looks into anyway.
const INSERT_JOB: &str = "INSERT INTO portfire_job (seq, id, kind, queue, priority, created_at, \
    run_at, options, args, ties, batch, awaited, followed) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (id) DO NOTHING";
const INSERT_READY: &str = "INSERT INTO portfire_ready (queue, rank, place, seq, enqueued_at, \
    revision, attempt, failures, recoveries, written) VALUES (?1, ?2, ?3, ?3, NULL, 1, 0, 0, 0, 0)";
const INSERT_SCHEDULED: &str = "INSERT INTO portfire_scheduled (run_at, seq, cause, \
    revision, attempt, failures, recoveries, written) VALUES (?1, ?2, ?3, 1, 0, 0, 0, 0)";
const SELECT_SAME: &str = "SELECT k.name = ?2 AND j.args = ?3 FROM portfire_job j \
    JOIN portfire_kind k ON k.kind = j.kind WHERE j.id = ?1";

/// Stores the jobs, all or none.
pub(crate) fn create(write: &mut Write<'_>, jobs: &[NewJob]) -> Result<Vec<Created>, Failure> {
    if jobs.len() > BATCH_MAX {
        return Err(InvalidJob::TooManyJobs { count: jobs.len(), limit: BATCH_MAX }.into());
    }
    for job in jobs {
        job.validate(&write.limits)?;
        job.when.resolve(write.now)?;
    }
    match jobs {
        // A job alone whose id turns out to be taken has written nothing that would need undoing.
        [job] if write.names.know(&job.queue, &job.kind) => insert_all(write, jobs),
        _ => write.all_or_nothing(|write| insert_all(write, jobs)),
    }
}

/// Stores a job that the storage itself makes, with what else the call does.
pub(crate) fn create_one(write: &mut Write<'_>, job: &NewJob) -> Result<Created, Failure> {
    let mut created = create(write, std::slice::from_ref(job))?;
    created.pop().ok_or_else(|| corrupt("a job was created and is not told of"))
}

fn insert_all(write: &mut Write<'_>, jobs: &[NewJob]) -> Result<Vec<Created>, Failure> {
    let mut created = Vec::with_capacity(jobs.len());
    let mut insert_job = write.conn.prepare_cached(INSERT_JOB)?;
    let mut insert_ready = write.conn.prepare_cached(INSERT_READY)?;
    for job in jobs {
        let kind = write.names.number_kind(write.conn, &job.kind, &mut write.tally.names)?;
        let queue = write.names.number_queue(write.conn, &job.queue, &mut write.tally.names)?;
        let run_at = job.when.resolve(write.now)?;
        let options = stored_options(job)?;
        let seq = write.tally.next;
        let inserted = insert_job.execute(params![
            seq,
            job.id.as_bytes(),
            kind,
            queue,
            job.priority,
            write.now.as_micros(),
            run_at.map(Timestamp::as_micros),
            options,
            job.args.as_str(),
            ties::encode(&job.ties)?,
            None::<i64>,
            false,
            false
        ])?;
        let existing = inserted == 0;
        created.push(Created { id: job.id, existing });
        if existing {
            refuse_other(write, job)?;
            continue;
        }
        write.draw();
        limits::declare(write, &job.ties)?;
        let state = match run_at {
            None => {
                let rank = -i64::from(job.priority);
                match limits::entry(write, Some(&job.ties), kind)? {
                    None => _ = insert_ready.execute([queue, rank, seq])?,
                    Some(key) => _ = Waiter::new(rank, seq, queue).insert(write.conn, key)?,
                }
                StateName::Enqueued
            }
            Some(run_at) => {
                let cause = cause_code(portfire_core::Cause::Created);
                let values = [run_at.as_micros(), seq, cause];
                write.conn.prepare_cached(INSERT_SCHEDULED)?.execute(values)?;
                StateName::Scheduled
            }
        };
        write.count_created(queue, kind, state);
        write.hint_work();
    }
    Ok(created)
}

/// Only what a call said is stored.
fn stored_options(job: &NewJob) -> Result<Option<String>, Failure> {
    if job.options.is_default() {
        return Ok(None);
    }
    let encoded = serde_json::to_string(&job.options);
    encoded.map(Some).map_err(|error| InvalidJob::Encode { reason: error.to_string() }.into())
}

fn refuse_other(write: &Write<'_>, job: &NewJob) -> Result<(), Failure> {
    let same: bool = write
        .conn
        .prepare_cached(SELECT_SAME)?
        .query_row(params![job.id.as_bytes(), job.kind.as_str(), job.args.as_str()], |row| {
            row.get(0)
        })?;
    if same { Ok(()) } else { Err(StorageError::IdTaken { job: job.id }.into()) }
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[INSERT_JOB, INSERT_READY, INSERT_SCHEDULED, SELECT_SAME];
