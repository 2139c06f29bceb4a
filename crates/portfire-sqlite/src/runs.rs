//! The runs of recurring jobs, remembered longer than their jobs.

use portfire_core::engine::recurring::{Forget, forgotten_run};
use portfire_core::{JobId, Occurrence, RecurringId, RunRecord, StateName};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codes;
use crate::error::Failure;
use crate::links::job_id;
use crate::row::{Body, instant, maybe_instant};
use crate::write::{Write, code};

const INSERT: &str = "INSERT INTO portfire_run (recurring, run, planned_at, fired_at, job, \
    skipped, outcome, ended_at, triggered) VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, NULL, ?7)";
const UPDATE: &str = "UPDATE portfire_run SET outcome = ?3, ended_at = ?4 \
    WHERE recurring = (SELECT recurring FROM portfire_recurring WHERE id = ?1) AND run = ?2";
const UPDATE_BY_JOB: &str = "UPDATE portfire_run SET outcome = ?3, ended_at = ?4 \
    WHERE (recurring, run) = (SELECT recurring, min(run) FROM portfire_run WHERE recurring = \
    (SELECT recurring FROM portfire_recurring WHERE id = ?1) AND job = ?2)";
const SELECT: &str = "SELECT r.planned_at, r.fired_at, r.job, r.skipped, r.outcome, \
    r.ended_at, r.triggered FROM portfire_recurring d \
    CROSS JOIN portfire_run r ON r.recurring = d.recurring \
    WHERE d.id = ?1 ORDER BY r.run DESC LIMIT ?2";
const SELECT_OPEN: &str = "SELECT job FROM portfire_run \
    WHERE recurring = ?1 AND outcome IS NULL AND job IS NOT NULL ORDER BY run";
const REOPEN: &str = "UPDATE portfire_run SET outcome = NULL, ended_at = NULL \
    WHERE recurring = (SELECT recurring FROM portfire_recurring WHERE id = ?1) AND run = ?2";
const REOPEN_BY_JOB: &str = "UPDATE portfire_run SET outcome = NULL, ended_at = NULL \
    WHERE (recurring, run) = (SELECT recurring, min(run) FROM portfire_run WHERE recurring = \
    (SELECT recurring FROM portfire_recurring WHERE id = ?1) AND job = ?2)";
const SELECT_RECURRING: &str = "SELECT recurring FROM portfire_recurring WHERE id = ?1";
const UPDATE_RUNS: &str = "UPDATE portfire_recurring SET runs = runs + 1 WHERE recurring = ?1";
const DELETE_OLDEST_ENDED: &str = "DELETE FROM portfire_run WHERE recurring = ?1 AND run = \
    (SELECT min(run) FROM portfire_run WHERE recurring = ?1 \
    AND (outcome IS NOT NULL OR job IS NULL))";
const DELETE_OLDEST: &str = "DELETE FROM portfire_run WHERE recurring = ?1 AND run = \
    (SELECT min(run) FROM portfire_run WHERE recurring = ?1)";
const DELETE_ALL: &str = "DELETE FROM portfire_run WHERE recurring = ?1";

/// Remembers a run of the recurring job of this number. The number of the run rises from run to run; it is
/// that of its job, if the run has just created one: by it the run is found when the job ends.
pub(crate) fn remember(
    write: &Write<'_>,
    recurring: i64,
    number: i64,
    run: &RunRecord,
) -> rusqlite::Result<()> {
    write.conn.prepare_cached(INSERT)?.execute(params![
        recurring,
        number,
        run.planned_at.as_micros(),
        run.fired_at.as_micros(),
        run.job.map(|job| *job.as_bytes()),
        run.skipped,
        run.triggered
    ])?;
    Ok(())
}

/// Forgets a run of a recurring job; says whether there was one.
pub(crate) fn forget(conn: &Connection, recurring: i64, run: Forget) -> rusqlite::Result<bool> {
    let sql = match run {
        Forget::Nothing => return Ok(false),
        Forget::OldestEnded => DELETE_OLDEST_ENDED,
        Forget::Oldest => DELETE_OLDEST,
    };
    Ok(conn.prepare_cached(sql)?.execute([recurring])? > 0)
}

/// The jobs of the runs that are remembered and have not ended, the oldest first.
pub(crate) fn open(conn: &Connection, recurring: i64) -> rusqlite::Result<Vec<JobId>> {
    let mut select = conn.prepare_cached(SELECT_OPEN)?;
    let rows = select.query_map([recurring], |row| row.get(0).map(JobId::from_bytes))?;
    rows.collect()
}

/// Forgets all runs of a recurring job.
pub(crate) fn forget_all(conn: &Connection, recurring: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(DELETE_ALL)?.execute([recurring]).map(drop)
}

/// A job of a recurring job has ended: what its run came to.
pub(crate) fn ended(
    write: &Write<'_>,
    seq: i64,
    occurrence: &Occurrence,
    outcome: StateName,
) -> Result<(), Failure> {
    let (id, now) = (occurrence.recurring.as_str(), write.now.as_micros());
    let outcome = code(outcome) as i64;
    let values = params![id, seq, outcome, now];
    if write.conn.prepare_cached(UPDATE)?.execute(values)? > 0 {
        return Ok(());
    }
    // The run is forgotten, or was remembered when the job was there already.
    let job = JobId::of_occurrence(&occurrence.recurring, occurrence.planned_at);
    let values = params![id, job.as_bytes(), outcome, now];
    write.conn.prepare_cached(UPDATE_BY_JOB)?.execute(values)?;
    Ok(())
}

/// A job of a recurring job that had ended is to run again: so is its run, which is remembered again when it was
/// forgotten.
pub(crate) fn reopened(
    write: &mut Write<'_>,
    body: &Body,
    occurrence: &Occurrence,
) -> Result<(), Failure> {
    let (conn, id) = (write.conn, occurrence.recurring.as_str());
    if conn.prepare_cached(REOPEN)?.execute(params![id, body.seq])? > 0 {
        return Ok(());
    }
    let job = job_id(conn, body.seq)?;
    if conn.prepare_cached(REOPEN_BY_JOB)?.execute(params![id, job.as_bytes()])? > 0 {
        return Ok(());
    }
    let mut select = conn.prepare_cached(SELECT_RECURRING)?;
    let Some(recurring) = select.query_row([id], |row| row.get(0)).optional()? else {
        return Ok(());
    };
    remember(write, recurring, body.seq, &forgotten_run(job, occurrence, body.created_at))?;
    conn.prepare_cached(UPDATE_RUNS)?.execute([recurring])?;
    Ok(())
}

/// The last runs of a recurring job, the newest first.
pub(crate) fn runs(
    conn: &Connection,
    id: &RecurringId,
    max: u32,
) -> Result<Vec<RunRecord>, Failure> {
    let mut select = conn.prepare_cached(SELECT)?;
    let rows = select.query_map(params![id.as_str(), max], |row| {
        Ok(RunRecord {
            planned_at: instant(row.get(0)?),
            fired_at: instant(row.get(1)?),
            job: row.get::<_, Option<[u8; 16]>>(2)?.map(JobId::from_bytes),
            skipped: row.get(3)?,
            outcome: row.get::<_, Option<i64>>(4)?.map(codes::state).transpose()?,
            ended_at: maybe_instant(row, 5)?,
            triggered: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT,
    UPDATE,
    UPDATE_BY_JOB,
    SELECT,
    SELECT_OPEN,
    REOPEN,
    REOPEN_BY_JOB,
    SELECT_RECURRING,
    UPDATE_RUNS,
    DELETE_OLDEST_ENDED,
    DELETE_OLDEST,
    DELETE_ALL,
];
