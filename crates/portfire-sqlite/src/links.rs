//! Links: who waits for the end of a job or a batch.

use portfire_core::engine::{Child, Reach, Waiter};
use portfire_core::{Antecedent, BatchId, Dependency, JobId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Failure;
use crate::row::{self, Body, body_columns};
use crate::write::Write;
use crate::{codes, outcomes};

const INSERT_LINK: &str = "INSERT INTO portfire_link (antecedent, follower, batch, after, pass, open) \
    VALUES (?1, ?2, ?3, ?4, ?5, 1)";
const UPDATE_FOLLOWED: &str = "UPDATE portfire_job SET followed = ?2 WHERE seq = ?1";
pub(crate) const SELECT_FOLLOWERS: &str = concat!(
    "SELECT l.follower, l.batch, l.after, l.pass, a.pending, a.start, a.delay, a.run_at, ",
    body_columns!(),
    " FROM portfire_link l LEFT JOIN portfire_awaiting a ON a.seq = l.follower \
    LEFT JOIN portfire_job j ON j.seq = a.seq \
    WHERE l.antecedent = ?1 AND l.follower > ?2 AND l.open = 1 ORDER BY l.follower LIMIT ?3"
);
/// Finds those about whom a failure decides by an index of their own.
pub(crate) const SELECT_FOLLOWERS_OF_FAILURE: &str = concat!(
    "SELECT l.follower, l.batch, l.after, l.pass, a.pending, a.start, a.delay, a.run_at, ",
    body_columns!(),
    " FROM portfire_link l INDEXED BY portfire_link_failure \
    LEFT JOIN portfire_awaiting a ON a.seq = l.follower \
    LEFT JOIN portfire_job j ON j.seq = a.seq \
    WHERE l.antecedent = ?1 AND l.follower > ?2 AND l.open = 1 AND l.after IN (1, 3) \
    ORDER BY l.follower LIMIT ?3"
);
const CLOSE_LINK: &str =
    "UPDATE portfire_link SET open = 0 WHERE antecedent = ?1 AND follower = ?2";
const SELECT_OPEN: &str =
    "SELECT 1 FROM portfire_link WHERE antecedent = ?1 AND follower = ?2 AND open = 1";
const UPDATE_PENDING: &str = "UPDATE portfire_awaiting SET pending = ?2, start = ?3 WHERE seq = ?1";
const SELECT_JOB_ID: &str = "SELECT id FROM portfire_job WHERE seq = ?1";
const SELECT_JOB: &str = "SELECT seq FROM portfire_job WHERE id = ?1";
const SELECT_BATCH: &str = "SELECT batch FROM portfire_batch WHERE id = ?1";
const DELETE_LINKS: &str = "DELETE FROM portfire_link WHERE antecedent = ?1";
const DELETE_LINK: &str = "DELETE FROM portfire_link WHERE antecedent = ?1 AND follower = ?2";

/// Makes a child wait for a parent.
pub(crate) fn open(
    write: &mut Write<'_>,
    parent: i64,
    child: i64,
    is_batch: bool,
    dependency: &Dependency,
    place: usize,
) -> rusqlite::Result<usize> {
    let pass = dependency.pass.then_some(place as i64);
    let values = params![parent, child, is_batch, codes::after_code(dependency.after), pass];
    write.statement(INSERT_LINK)?.execute(values)
}

/// Lets a child wait no more.
pub(crate) fn close(write: &mut Write<'_>, parent: i64, child: i64) -> rusqlite::Result<usize> {
    write.statement(CLOSE_LINK)?.execute([parent, child])
}

/// Whether one waits for the other still.
pub(crate) fn is_open(conn: &Connection, parent: i64, child: i64) -> rusqlite::Result<bool> {
    conn.prepare_cached(SELECT_OPEN)?.exists([parent, child])
}

/// Marks whether something waits, or waited, for a job.
pub(crate) fn mark_followed(conn: &Connection, seq: i64, is: bool) -> rusqlite::Result<usize> {
    conn.prepare_cached(UPDATE_FOLLOWED)?.execute(params![seq, is])
}

/// Writes what a job that is awaiting waits for still.
pub(crate) fn set_pending(
    write: &mut Write<'_>,
    seq: i64,
    pending: u32,
    start: bool,
) -> rusqlite::Result<usize> {
    write.statement(UPDATE_PENDING)?.execute(params![seq, pending, start])
}

/// The first of those who wait for a parent still and about whom an end decides, each with what it needs to be moved.
pub(crate) fn children(
    write: &mut Write<'_>,
    parent: i64,
    reach: Reach,
    after: i64,
    max: usize,
) -> Result<Vec<Child>, Failure> {
    let select = write.statement(match reach {
        Reach::All => SELECT_FOLLOWERS,
        Reach::OfFailure => SELECT_FOLLOWERS_OF_FAILURE,
    })?;
    let mut rows = select.query([parent, after, max as i64])?;
    let mut children = Vec::new();
    while let Some(row) = rows.next()? {
        let is_awaiting = row.get::<_, Option<i64>>(4)?.is_some();
        let who = match (row.get(1)?, is_awaiting) {
            (true, _) => Waiter::Batch,
            (false, false) => Waiter::Gone,
            (false, true) => {
                Waiter::Job(Box::new(row::read_body(row, 8)?), row::read_awaiting(row, 4)?)
            }
        };
        let pass = row.get::<_, Option<i64>>(3)?.and_then(|place| usize::try_from(place).ok());
        children.push(Child { seq: row.get(0)?, after: codes::after(row.get(2)?)?, pass, who });
    }
    Ok(children)
}

/// Removes what is known of a job's links, as far as it is one of two.
pub(crate) fn forget(conn: &Connection, body: &Body) -> Result<(), Failure> {
    if body.followed {
        conn.prepare_cached(DELETE_LINKS)?.execute([body.seq])?;
    }
    forget_waits(conn, body.seq, body.after())?;
    if body.after().iter().any(|dependency| dependency.pass) {
        outcomes::forget(conn, body.seq)?;
    }
    Ok(())
}

/// Removes the links of a child to those parents that are still stored.
pub(crate) fn forget_waits(
    conn: &Connection,
    child: i64,
    after: &[Dependency],
) -> rusqlite::Result<()> {
    for dependency in after {
        if let Some(parent) = number(conn, dependency.on)? {
            conn.prepare_cached(DELETE_LINK)?.execute([parent, child])?;
        }
    }
    Ok(())
}

/// Removes the links to a parent.
pub(crate) fn forget_followers(conn: &Connection, parent: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(DELETE_LINKS)?.execute([parent])?;
    Ok(())
}

/// The number of a job or a batch, when it is stored.
pub(crate) fn number(conn: &Connection, of: Antecedent) -> rusqlite::Result<Option<i64>> {
    let (sql, id) = match of {
        Antecedent::Job(id) => (SELECT_JOB, *id.as_bytes()),
        Antecedent::Batch(id) => (SELECT_BATCH, *id.as_bytes()),
    };
    conn.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()
}

/// The number of the batch with this id, when it is stored.
pub(crate) fn batch_number(conn: &Connection, id: BatchId) -> rusqlite::Result<Option<i64>> {
    number(conn, Antecedent::Batch(id))
}

/// The id of a job by its number.
pub(crate) fn job_id(conn: &Connection, seq: i64) -> rusqlite::Result<JobId> {
    let id = conn.prepare_cached(SELECT_JOB_ID)?.query_row([seq], |row| row.get(0))?;
    Ok(JobId::from_bytes(id))
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT_LINK,
    UPDATE_FOLLOWED,
    SELECT_FOLLOWERS,
    SELECT_FOLLOWERS_OF_FAILURE,
    CLOSE_LINK,
    SELECT_OPEN,
    UPDATE_PENDING,
    SELECT_JOB_ID,
    SELECT_JOB,
    SELECT_BATCH,
    DELETE_LINKS,
    DELETE_LINK,
];
