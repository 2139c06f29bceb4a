//! The members of a batch, jobs and nested batches, in the order of their creation; and the cancelled batches whose
//! members are still to be deleted.

use portfire_core::StateName;
use portfire_core::engine::{Node, Starter, Sweep};
use portfire_core::transition::Transition;
use rusqlite::{Connection, OptionalExtension};

use crate::error::Failure;
use crate::write::Write;
use crate::{batches, told};

pub(crate) const SELECT_WAITING: &str = "SELECT j.seq, j.queue, j.kind, \
    j.ties IS NULL AND a.pending = 1 AND a.delay IS NULL AND a.run_at IS NULL \
    FROM portfire_job j CROSS JOIN portfire_awaiting a ON a.seq = j.seq \
    WHERE j.batch = ?1 AND j.seq > ?2 AND a.start = 1 ORDER BY j.seq LIMIT ?3";
const INSERT_READY: &str = "INSERT INTO portfire_ready (queue, rank, place, seq, enqueued_at, \
    revision, attempt, failures, recoveries, written) \
    SELECT queue, -priority, seq + ?3, seq, ?4, ?5, 0, 0, 0, 0 \
    FROM portfire_job WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq";
const DELETE_AWAITING: &str = "DELETE FROM portfire_awaiting WHERE seq BETWEEN ?1 AND ?2";
const SELECT_WAITING_BATCHES: &str = "SELECT batch FROM portfire_batch \
    WHERE parent = ?1 AND batch > ?2 AND start = 1 ORDER BY batch LIMIT ?3";
const SELECT_JOBS: &str =
    "SELECT seq FROM portfire_job WHERE batch = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
const SELECT_BATCHES: &str =
    "SELECT batch FROM portfire_batch WHERE parent = ?1 AND batch > ?2 ORDER BY batch LIMIT ?3";
const INSERT_CANCELLED: &str = "INSERT INTO portfire_cancelled (batch, position) VALUES (?1, 0)";
const SELECT_CANCELLED: &str =
    "SELECT turn, batch, position FROM portfire_cancelled ORDER BY turn LIMIT 1";
const UPDATE_POSITION: &str = "UPDATE portfire_cancelled SET position = ?2 WHERE turn = ?1";
const DELETE_CANCELLED: &str = "DELETE FROM portfire_cancelled WHERE turn = ?1";
const SELECT_ANY_CANCELLED: &str = "SELECT 1 FROM portfire_cancelled LIMIT 1";
const SELECT_HAS_JOB: &str = "SELECT 1 FROM portfire_job WHERE batch = ?1 LIMIT 1";
const SELECT_HAS_BATCH: &str = "SELECT 1 FROM portfire_batch WHERE parent = ?1 LIMIT 1";

/// The first members behind a number that wait for the start of their batch.
pub(crate) fn starters(
    write: &mut Write<'_>,
    batch: i64,
    after: i64,
    max: usize,
) -> Result<Vec<Starter>, Failure> {
    batches::flush(write)?;
    let conn = write.conn;
    let may_be_limited = write.names.rules(conn)?.limit_kinds();
    let values = [batch, after, max as i64];
    let mut starters = Vec::new();
    let mut select = conn.prepare_cached(SELECT_WAITING)?;
    let mut rows = select.query(values)?;
    while let Some(row) = rows.next()? {
        let is_plain = row.get(3)? && !may_be_limited;
        let plain = if is_plain { Some((row.get(1)?, row.get(2)?)) } else { None };
        starters.push(Starter { node: Node::Job(row.get(0)?), plain });
    }
    let mut select = conn.prepare_cached(SELECT_WAITING_BATCHES)?;
    for nested in select.query_map(values, |row| row.get(0))? {
        starters.push(Starter { node: Node::Batch(nested?), plain: None });
    }
    starters.sort_by_key(|starter| starter.node.seq());
    starters.truncate(max);
    Ok(starters)
}

/// Puts plain jobs with neighbouring numbers at the ends of their queues.
pub(crate) fn enqueue_run(
    write: &mut Write<'_>,
    members: &[Starter],
    made: &Transition,
) -> Result<(), Failure> {
    let [first, ..] = members else { return Ok(()) };
    let first = first.node.seq();
    let last = first + members.len() as i64 - 1;
    let shift = write.tally.next - first;
    for member in members {
        write.draw();
        if let Some((queue, kind)) = member.plain {
            write.count_moved(queue, kind, StateName::Awaiting, made);
        }
    }
    let (now, revision) = (write.now.as_micros(), i64::from(made.to.revision));
    write.conn.prepare_cached(INSERT_READY)?.execute([first, last, shift, now, revision])?;
    write.conn.prepare_cached(DELETE_AWAITING)?.execute([first, last])?;
    told::run(write, first..=last, made)
}

/// The first members behind a number.
pub(crate) fn after(
    conn: &Connection,
    batch: i64,
    after: i64,
    max: usize,
) -> rusqlite::Result<Vec<Node>> {
    let mut members = Vec::new();
    let sorts: [(&str, fn(i64) -> Node); 2] =
        [(SELECT_JOBS, Node::Job), (SELECT_BATCHES, Node::Batch)];
    for (sql, node) in sorts {
        let mut select = conn.prepare_cached(sql)?;
        let rows = select.query_map([batch, after, max as i64], |row| row.get(0))?;
        for number in rows {
            members.push(node(number?));
        }
    }
    members.sort_unstable_by_key(|member| member.seq());
    members.truncate(max);
    Ok(members)
}

/// Whether a batch has members that are stored.
pub(crate) fn has_any(conn: &Connection, batch: i64) -> rusqlite::Result<bool> {
    Ok(conn.prepare_cached(SELECT_HAS_JOB)?.exists([batch])?
        || conn.prepare_cached(SELECT_HAS_BATCH)?.exists([batch])?)
}

/// Has the members of a cancelled batch deleted.
pub(crate) fn begin_sweep(write: &mut Write<'_>, batch: i64) -> rusqlite::Result<usize> {
    write.hint_work();
    write.conn.prepare_cached(INSERT_CANCELLED)?.execute([batch])
}

/// The first cancelled batch whose members are still to be deleted.
pub(crate) fn first_sweep(conn: &Connection) -> rusqlite::Result<Option<Sweep>> {
    let mut select = conn.prepare_cached(SELECT_CANCELLED)?;
    let found = select.query_row([], |row| {
        Ok(Sweep { turn: row.get(0)?, batch: row.get(1)?, position: row.get(2)? })
    });
    found.optional()
}

/// Remembers how far a sweep has come.
pub(crate) fn move_sweep(conn: &Connection, turn: i64, position: i64) -> rusqlite::Result<usize> {
    conn.prepare_cached(UPDATE_POSITION)?.execute([turn, position])
}

/// Ends a sweep.
pub(crate) fn end_sweep(conn: &Connection, turn: i64) -> rusqlite::Result<usize> {
    conn.prepare_cached(DELETE_CANCELLED)?.execute([turn])
}

/// Whether members of cancelled batches are still to be deleted.
pub(crate) fn has_sweep(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached(SELECT_ANY_CANCELLED)?.exists([])
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_WAITING,
    INSERT_READY,
    DELETE_AWAITING,
    SELECT_WAITING_BATCHES,
    SELECT_JOBS,
    SELECT_BATCHES,
    INSERT_CANCELLED,
    SELECT_CANCELLED,
    UPDATE_POSITION,
    DELETE_CANCELLED,
    SELECT_ANY_CANCELLED,
    SELECT_HAS_JOB,
    SELECT_HAS_BATCH,
];
