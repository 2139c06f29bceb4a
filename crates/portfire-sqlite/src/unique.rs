//! Unique keys: taken in the commit that stores a job, given back in the one that ends its scope.

use portfire_core::engine::Taken;
use portfire_core::engine::unique::{self as rule, Meeting};
use portfire_core::{Event, JobId, NewJob, Ties, Timestamp, UniqueKey};
use rusqlite::{OptionalExtension, params};

use crate::error::Failure;
use crate::links::job_id;
use crate::row::{self, At, Body, Facts, instant, must};
use crate::write::Write;

const INSERT_KEY: &str = "INSERT INTO portfire_unique (key, seq, until) VALUES (?1, ?2, ?3) \
    ON CONFLICT (key) DO NOTHING";
const SELECT_HOLDER: &str = "SELECT seq, until FROM portfire_unique WHERE key = ?1";
const UPDATE_HOLDER: &str = "UPDATE portfire_unique SET seq = ?2, until = ?3 WHERE key = ?1";
const DELETE_KEY: &str = "DELETE FROM portfire_unique WHERE key = ?1 AND seq = ?2";
const DELETE_LAPSED: &str = "DELETE FROM portfire_unique WHERE until <= ?1";
const SELECT_STORED: &str = "SELECT 1 FROM portfire_job WHERE id = ?1";

/// Takes the key of a job that is to be stored under this number.
pub(crate) fn take(
    write: &mut Write<'_>,
    unique: &UniqueKey,
    job: &NewJob,
    seq: i64,
) -> Result<Taken, Failure> {
    if insert(write, unique, seq)? {
        return Ok(Taken::Free);
    }
    if write.conn.prepare_cached(SELECT_STORED)?.exists([job.id.as_bytes()])? {
        return Ok(Taken::Existing);
    }
    let Some(holder) = holder(write, &unique.key)? else {
        update(write, unique, seq)?;
        return Ok(Taken::Free);
    };
    let body = row::body(write.conn, holder)?;
    let stand = row::stand(write.conn, &body)?;
    let run_at = match stand.row {
        At::Scheduled { run_at, .. } => Some(run_at),
        _ => None,
    };
    match rule::meet(unique, job.when, stand.standing.state, body.created_at, run_at, write.now)? {
        Meeting::TakeOver { deletes } => {
            if deletes {
                let reason = rule::replaced_by(job.id);
                let facts = Facts { reason: Some(&reason), ..Facts::default() };
                must(write, &body, &stand, Event::Delete, &facts)?;
            }
            if !insert(write, unique, seq)? {
                update(write, unique, seq)?;
            }
            return Ok(Taken::Replaced);
        }
        Meeting::Postpone(run_at) => {
            let event = Event::Reschedule(run_at);
            must(write, &body, &stand, event, &Facts::default())?;
        }
        Meeting::Reject => {}
    }
    Ok(Taken::Held(job_id(write.conn, holder)?))
}

/// Takes the key of a final job again that is to run anew, unless another job holds it, which is the answer.
pub(crate) fn take_again(write: &mut Write<'_>, body: &Body) -> Result<Option<JobId>, Failure> {
    let Some(unique) = of(body.ties.as_deref()) else { return Ok(None) };
    if !rule::is_taken_again(unique) || insert(write, unique, body.seq)? {
        return Ok(None);
    }
    match holder(write, &unique.key)? {
        Some(holder) if holder != body.seq => Ok(Some(job_id(write.conn, holder)?)),
        Some(_) => Ok(None),
        None => {
            update(write, unique, body.seq)?;
            Ok(None)
        }
    }
}

/// Gives back the key of a job that is claimed, when it was held until then.
pub(crate) fn claimed(write: &mut Write<'_>, ties: &Ties, seq: i64) -> Result<(), Failure> {
    match of(Some(ties)) {
        Some(unique) if rule::ends_at_claim(unique) => forget(write, unique, seq),
        _ => Ok(()),
    }
}

/// Gives back whatever key a job that is cleaned still holds.
pub(crate) fn cleaned(write: &mut Write<'_>, body: &Body) -> Result<(), Failure> {
    match of(body.ties.as_deref()) {
        Some(unique) => forget(write, unique, body.seq),
        None => Ok(()),
    }
}

/// Removes the keys whose time is over. Says how many.
pub(crate) fn clean(write: &mut Write<'_>) -> rusqlite::Result<usize> {
    write.conn.prepare_cached(DELETE_LAPSED)?.execute([write.now.as_micros()])
}

/// Gives a key back, if the job with this number has it.
pub(crate) fn forget(write: &mut Write<'_>, unique: &UniqueKey, seq: i64) -> Result<(), Failure> {
    write.statement(DELETE_KEY)?.execute(params![unique.key, seq])?;
    write.touch();
    Ok(())
}

fn of(ties: Option<&Ties>) -> Option<&UniqueKey> {
    ties.and_then(|ties| ties.unique.as_ref())
}

/// The number of the job that holds a key now.
fn holder(write: &Write<'_>, key: &str) -> rusqlite::Result<Option<i64>> {
    let mut select = write.conn.prepare_cached(SELECT_HOLDER)?;
    let found: Option<(i64, Option<i64>)> =
        select.query_row([key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let held = |until: Option<i64>| rule::is_held(until.map(instant), write.now);
    Ok(found.filter(|(_, until)| held(*until)).map(|(seq, _)| seq))
}

fn insert(write: &mut Write<'_>, unique: &UniqueKey, seq: i64) -> rusqlite::Result<bool> {
    let until = until(write, unique);
    let inserted = write.statement(INSERT_KEY)?.execute(params![unique.key, seq, until])?;
    if inserted > 0 {
        write.touch();
    }
    Ok(inserted > 0)
}

fn update(write: &mut Write<'_>, unique: &UniqueKey, seq: i64) -> rusqlite::Result<()> {
    let values = params![unique.key, seq, until(write, unique)];
    write.conn.prepare_cached(UPDATE_HOLDER)?.execute(values)?;
    write.touch();
    Ok(())
}

fn until(write: &Write<'_>, unique: &UniqueKey) -> Option<i64> {
    unique.held_until(write.now).map(Timestamp::as_micros)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] =
    &[INSERT_KEY, SELECT_HOLDER, UPDATE_HOLDER, DELETE_KEY, DELETE_LAPSED, SELECT_STORED];
