//! Storing batches and jobs.

use portfire_core::storage::BATCH_MAX;
use portfire_core::{
    Conflict, Created, Event, InvalidJob, NewBatch, NewJob, StateName, StorageError, Timestamp,
};
use rusqlite::params;

use crate::admission::{Call, Plan};
use crate::error::{Failure, corrupt};
use crate::lines::Waiter;
use crate::row::{Body, Facts, Stand, cause_code, insert_awaiting, transit};
use crate::unique::{self, Taken};
use crate::write::Write;
use crate::{batches, limits, ties};

// A job whose id is stored already is found out by the index that the insert looks into anyway.
const INSERT_PLAIN: &str = "INSERT INTO portfire_job (seq, id, kind, queue, priority, created_at, \
    run_at, options, args) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING";
const INSERT_TIED: &str = "INSERT INTO portfire_job (seq, id, kind, queue, priority, created_at, \
    run_at, options, args, ties, batch, awaited, followed) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (id) DO NOTHING";
const INSERT_READY: &str = "INSERT INTO portfire_ready (queue, rank, place, seq, enqueued_at, \
    revision, attempt, failures, recoveries, written) VALUES (?1, ?2, ?3, ?3, NULL, 1, 0, 0, 0, 0)";
const INSERT_SCHEDULED: &str = "INSERT INTO portfire_scheduled (run_at, seq, cause, \
    revision, attempt, failures, recoveries, written) VALUES (?1, ?2, ?3, 1, 0, 0, 0, 0)";
const SELECT_SAME: &str = "SELECT k.name = ?2 AND j.args = ?3 FROM portfire_job j \
    JOIN portfire_kind k ON k.kind = j.kind WHERE j.id = ?1";
const SELECT_STORED: &str = "SELECT 1 FROM portfire_job WHERE id = ?1";

/// Stores the batches and then the jobs, all or none.
pub(crate) fn create(
    write: &mut Write<'_>,
    batches: &[NewBatch],
    jobs: &[NewJob],
) -> Result<Vec<Created>, Failure> {
    check(write, batches, jobs)?;
    match jobs {
        // A job alone that turns out to be there has written nothing that would need undoing.
        [job] if batches.is_empty() && is_simple(write, job) => store(write, batches, jobs),
        _ => write.all_or_nothing(|write| store(write, batches, jobs)),
    }
}

/// Stores a job that the storage itself makes, with what else the call does.
pub(crate) fn create_one(write: &mut Write<'_>, job: &NewJob) -> Result<Created, Failure> {
    let mut created = create(write, &[], std::slice::from_ref(job))?;
    created.pop().ok_or_else(|| corrupt("a job was created and is not told of"))
}

/// Refuses what breaks a bound.
fn check(write: &Write<'_>, batches: &[NewBatch], jobs: &[NewJob]) -> Result<(), Failure> {
    let count = jobs.len().max(batches.len());
    if count > BATCH_MAX {
        return Err(InvalidJob::TooManyJobs { count, limit: BATCH_MAX }.into());
    }
    for batch in batches {
        batch.validate()?;
    }
    for job in jobs {
        job.validate(&write.limits)?;
        job.when.resolve(write.now)?;
    }
    Ok(())
}

/// Whether all that can be refused about a job is found out before anything is written.
fn is_simple(write: &Write<'_>, job: &NewJob) -> bool {
    let ties = &job.ties;
    let replaces = ties.unique.as_ref().is_some_and(|key| key.conflict == Conflict::Replace);
    is_alone(job) && !replaces && write.names.known(&job.queue, &job.kind).is_some()
}

/// Stores what was checked.
fn store(
    write: &mut Write<'_>,
    new_batches: &[NewBatch],
    jobs: &[NewJob],
) -> Result<Vec<Created>, Failure> {
    batches::hold_open(write);
    let stored = store_each(write, new_batches, jobs);
    let emptied = write.emptied.take().unwrap_or_default();
    let (created, call) = stored?;
    call.finish(write, emptied)?;
    Ok(created)
}

fn store_each(
    write: &mut Write<'_>,
    new_batches: &[NewBatch],
    jobs: &[NewJob],
) -> Result<(Vec<Created>, Call), Failure> {
    let mut call = Call::new(new_batches, jobs);
    for batch in new_batches {
        call.add_batch(write, batch)?;
    }
    let mut created = Vec::with_capacity(jobs.len());
    for job in jobs {
        let redirected = call.redirected(job);
        created.push(store_one(write, &mut call, redirected.as_ref().unwrap_or(job))?);
    }
    Ok((created, call))
}

/// Stores one job of a call.
fn store_one(write: &mut Write<'_>, call: &mut Call, job: &NewJob) -> Result<Created, Failure> {
    let seq = write.tally.next;
    if let Some(key) = &job.ties.unique {
        // What is wrong with a job is told whether or not its key is held.
        refuse_broken(write, call, job)?;
        match unique::take(write, key, job, seq)? {
            Taken::Free => {}
            Taken::Replaced => call.doubt(),
            Taken::Existing => return existing(write, job),
            Taken::Held(id) => {
                call.stands_for(id, job.id);
                return Ok(Created { id, existing: true });
            }
        }
    }
    let mut plan = plan(write, call, job)?;
    let run_at = match plan.is_awaiting() {
        true => None,
        false => job.when.resolve(write.now)?,
    };
    let (queue, kind) = match write.names.known(&job.queue, &job.kind) {
        Some(numbers) => numbers,
        // Names that it brings are not made known.
        None if is_stored(write, job)? => return found_stored(write, job, seq),
        None => {
            let Write { conn, names, tally, .. } = write;
            let kind = names.number_kind(conn, &job.kind, &mut tally.names)?;
            (names.number_queue(conn, &job.queue, &mut tally.names)?, kind)
        }
    };
    if !insert(write, call, job, (seq, kind, queue), run_at, &plan)? {
        return found_stored(write, job, seq);
    }
    // The number that was the next one is its own.
    write.draw();
    limits::declare(write, &job.ties)?;
    let state = match run_at {
        _ if plan.is_awaiting() => StateName::Awaiting,
        Some(run_at) => {
            let cause = cause_code(portfire_core::Cause::Created);
            let values = [run_at.as_micros(), seq, cause];
            write.statement(INSERT_SCHEDULED)?.execute(values)?;
            StateName::Scheduled
        }
        None => {
            let rank = -i64::from(job.priority);
            match limits::entry(write, Some(&job.ties), kind)? {
                None => _ = write.statement(INSERT_READY)?.execute([queue, rank, seq])?,
                Some(key) => _ = Waiter::new(rank, seq, queue).insert(write, key)?,
            }
            StateName::Enqueued
        }
    };
    write.count_created(queue, kind, state);
    call.made(job.id, seq);
    if let Some(batch) = plan.batch {
        batches::member_moved(write, batch, None, state)?;
    }
    if state == StateName::Awaiting {
        wait(write, call, job, seq, &mut plan)?;
    } else {
        call.link(write, seq, false, &mut plan)?;
        write.hint_work();
    }
    Ok(Created { id: job.id, existing: false })
}

/// Writes the body of a job under its numbers, unless its id is stored.
fn insert(
    write: &mut Write<'_>,
    call: &Call,
    job: &NewJob,
    (seq, kind, queue): (i64, i64, i64),
    run_at: Option<Timestamp>,
    plan: &Plan,
) -> Result<bool, Failure> {
    let (id, args) = (job.id.as_bytes(), job.args.as_str());
    let (created_at, run_at) = (write.now.as_micros(), run_at.map(Timestamp::as_micros));
    let (options, is_followed) = (stored_options(job)?, call.is_followed(job.id));
    let inserted = if job.ties.is_empty() && !is_followed {
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
            plan.batch,
            plan.is_awaiting(),
            is_followed
        ])?
    };
    Ok(inserted > 0)
}

/// What a job waits for and belongs to; most wait for nothing and belong to nothing. A job that is stored
/// already is not looked at.
fn plan(write: &mut Write<'_>, call: &mut Call, job: &NewJob) -> Result<Plan, Failure> {
    if is_alone(job) {
        return Ok(Plan::default());
    }
    match call.plan_job(write, job) {
        Err(Failure::Refused(_)) if is_stored(write, job)? => Ok(Plan::default()),
        planned => planned,
    }
}

fn refuse_broken(write: &mut Write<'_>, call: &mut Call, job: &NewJob) -> Result<(), Failure> {
    if is_alone(job) { Ok(()) } else { plan(write, call, job).map(|_| ()) }
}

fn is_alone(job: &NewJob) -> bool {
    job.ties.after.is_empty() && job.ties.batch.is_none()
}

/// Puts a job where it waits for others, or deletes it when it waits in vain.
fn wait(
    write: &mut Write<'_>,
    call: &mut Call,
    job: &NewJob,
    seq: i64,
    plan: &mut Plan,
) -> Result<(), Failure> {
    insert_awaiting(write, seq, plan.pending(), plan.start, job.when)?;
    call.link(write, seq, false, plan)?;
    if plan.unmet.is_some() {
        call.doubt();
        let body = Body::of(write.conn, seq)?;
        let stand = Stand::find(write.conn, &body)?;
        let facts = Facts { reason: plan.unmet.as_deref(), ..Facts::default() };
        transit(write, &body, &stand, Event::Delete, &facts)?.map_err(corrupt)?;
    }
    Ok(())
}

/// Only what a call said is stored.
fn stored_options(job: &NewJob) -> Result<Option<String>, Failure> {
    if job.options.is_default() {
        return Ok(None);
    }
    let encoded = serde_json::to_string(&job.options);
    encoded.map(Some).map_err(|error| InvalidJob::Encode { reason: error.to_string() }.into())
}

fn is_stored(write: &Write<'_>, job: &NewJob) -> rusqlite::Result<bool> {
    write.conn.prepare_cached(SELECT_STORED)?.exists([job.id.as_bytes()])
}

/// The answer for a job whose id turns out to be stored, after a key was taken for its number.
fn found_stored(write: &mut Write<'_>, job: &NewJob, seq: i64) -> Result<Created, Failure> {
    if let Some(key) = &job.ties.unique {
        unique::forget(write, key, seq)?;
    }
    existing(write, job)
}

/// The answer for a job whose id is stored, unless it is another job's.
fn existing(write: &Write<'_>, job: &NewJob) -> Result<Created, Failure> {
    let same: bool = write
        .conn
        .prepare_cached(SELECT_SAME)?
        .query_row(params![job.id.as_bytes(), job.kind.as_str(), job.args.as_str()], |row| {
            row.get(0)
        })?;
    match same {
        true => Ok(Created { id: job.id, existing: true }),
        false => Err(StorageError::IdTaken { job: job.id }.into()),
    }
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] =
    &[INSERT_PLAIN, INSERT_TIED, INSERT_READY, INSERT_SCHEDULED, SELECT_SAME, SELECT_STORED];
