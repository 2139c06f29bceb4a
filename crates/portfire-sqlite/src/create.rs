//! Storing batches and jobs.

use portfire_core::engine::{self, Numbers, Origin};
use portfire_core::{Conflict, Created, InvalidJob, NewBatch, NewJob, Timestamp};
use rusqlite::{OptionalExtension, params};

use crate::error::{Failure, corrupt};
use crate::ties;
use crate::write::Write;

// A job whose id is stored already is found out by the index that the insert looks into anyway.
const INSERT_PLAIN: &str = "INSERT INTO portfire_job (seq, id, kind, queue, priority, created_at, \
    run_at, options, args) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING";
const INSERT_TIED: &str = "INSERT INTO portfire_job (seq, id, kind, queue, priority, created_at, \
    run_at, options, args, ties, batch, awaited, followed) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (id) DO NOTHING";
const SELECT_SAME: &str = "SELECT k.name = ?2 AND j.args = ?3 FROM portfire_job j \
    JOIN portfire_kind k ON k.kind = j.kind WHERE j.id = ?1";

/// Stores the batches and then the jobs, all or none.
pub(crate) fn create(
    write: &mut Write<'_>,
    batches: &[NewBatch],
    jobs: &[NewJob],
) -> Result<Vec<Created>, Failure> {
    engine::check_new(write, batches, jobs)?;
    match jobs {
        // A job alone that turns out to be there has written nothing that would need undoing.
        [job] if batches.is_empty() && is_simple(write, job) => {
            engine::create(write, batches, jobs)
        }
        _ => write.all_or_nothing(|write| engine::create(write, batches, jobs)),
    }
}

/// Stores a job that the storage itself makes, with what else the call does.
pub(crate) fn create_one(write: &mut Write<'_>, job: &NewJob) -> Result<Created, Failure> {
    let mut created = create(write, &[], std::slice::from_ref(job))?;
    created.pop().ok_or_else(|| corrupt("a job was created and is not told of"))
}

/// Whether all that can be refused about a job is found out before anything is written.
fn is_simple(write: &Write<'_>, job: &NewJob) -> bool {
    let unique = job.ties.unique.as_ref();
    let replaces = unique.is_some_and(|key| key.conflict == Conflict::Replace);
    engine::is_alone(job) && !replaces && write.names.known(&job.queue, &job.kind).is_some()
}

/// Writes the body of a job under the next number, unless its id is stored.
pub(crate) fn add(
    write: &mut Write<'_>,
    job: &NewJob,
    origin: Origin,
) -> Result<Option<Numbers>, Failure> {
    let (queue, kind) = match write.names.known(&job.queue, &job.kind) {
        Some(numbers) => numbers,
        // Names that a job brings which is stored already are not made known.
        None if is_same(write, job)?.is_some() => return Ok(None),
        None => {
            let Write { conn, names, tally, .. } = write;
            let kind = names.number_kind(conn, &job.kind, &mut tally.names)?;
            (names.number_queue(conn, &job.queue, &mut tally.names)?, kind)
        }
    };
    let numbers = Numbers { seq: write.tally.next, kind, queue };
    if !insert(write, job, numbers, origin)? {
        return Ok(None);
    }
    // The number that was the next one is its own.
    write.draw();
    Ok(Some(numbers))
}

fn insert(
    write: &mut Write<'_>,
    job: &NewJob,
    Numbers { seq, kind, queue }: Numbers,
    origin: Origin,
) -> Result<bool, Failure> {
    let (id, args) = (job.id.as_bytes(), job.args.as_str());
    let created_at = write.now.as_micros();
    let run_at = origin.run_at.map(Timestamp::as_micros);
    let options = stored_options(job)?;
    let inserted = if job.ties.is_empty() && !origin.followed {
        let values = params![seq, id, kind, queue, job.priority, created_at, run_at, options, args];
        write.statement(INSERT_PLAIN)?.execute(values)?
    } else {
        write.statement(INSERT_TIED)?.execute(params![
            seq,
            id,
            kind,
            queue,
            job.priority,
            created_at,
            run_at,
            options,
            args,
            ties::encode(&job.ties)?,
            origin.batch,
            origin.awaited,
            origin.followed
        ])?
    };
    Ok(inserted > 0)
}

/// Only what a call said is stored.
fn stored_options(job: &NewJob) -> Result<Option<String>, Failure> {
    if job.options.is_default() {
        return Ok(None);
    }
    let encoded = serde_json::to_string(&job.options);
    encoded.map(Some).map_err(|error| InvalidJob::Encode { reason: error.to_string() }.into())
}

/// Whether the job that is stored under this id has the same kind and args; `None` when none is.
pub(crate) fn is_same(write: &Write<'_>, job: &NewJob) -> rusqlite::Result<Option<bool>> {
    let values = params![job.id.as_bytes(), job.kind.as_str(), job.args.as_str()];
    write.conn.prepare_cached(SELECT_SAME)?.query_row(values, |row| row.get(0)).optional()
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[INSERT_PLAIN, INSERT_TIED, SELECT_SAME];
