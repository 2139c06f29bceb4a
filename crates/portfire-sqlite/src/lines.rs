//! The lines of limits: jobs that are enqueued and wait for a key, in the order of priority and creation.

use portfire_core::transition::Standing;
use portfire_core::{StateName, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Failure;
use crate::keys;
use crate::row::{At, Body, Stand, maybe_instant};
use crate::write::Write;

const INSERT: &str = "INSERT INTO portfire_line (key, rank, seq, queue, enqueued_at, \
    revision, attempt, failures, recoveries, written) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const DELETE: &str = "DELETE FROM portfire_line WHERE key = ?1 AND rank = ?2 AND seq = ?3";
const SELECT: &str = "SELECT revision, attempt, failures, recoveries, written, key, enqueued_at \
    FROM portfire_line WHERE queue = ?1 AND seq = ?2";
const SELECT_FIRST: &str = "SELECT l.rank, l.seq, l.queue, l.enqueued_at, l.revision, l.attempt, \
    l.failures, l.recoveries, l.written, q.paused FROM portfire_line l \
    CROSS JOIN portfire_queue q ON q.queue = l.queue WHERE l.key = ?1 ORDER BY l.rank, l.seq LIMIT ?2";
const INSERT_READY: &str = "INSERT INTO portfire_ready (queue, rank, place, seq, enqueued_at, \
    revision, attempt, failures, recoveries, written, woken) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1)";

/// A job as it goes into a line.
pub(crate) struct Waiter {
    pub(crate) rank: i64,
    pub(crate) seq: i64,
    pub(crate) queue: i64,
    pub(crate) enqueued_at: Option<Timestamp>,
    pub(crate) standing: Standing,
    pub(crate) written: u32,
}

impl Waiter {
    /// A job that is created in the line.
    pub(crate) fn new(rank: i64, seq: i64, queue: i64) -> Waiter {
        let state = StateName::Enqueued;
        let standing =
            Standing { state, revision: 1, attempt: 0, failures: 0, recoveries: 0, crashes: 0 };
        Waiter { rank, seq, queue, enqueued_at: None, standing, written: 0 }
    }

    /// Puts it into the line of a key.
    pub(crate) fn insert(&self, write: &mut Write<'_>, key: i64) -> rusqlite::Result<usize> {
        let Standing { revision, attempt, failures, recoveries, .. } = self.standing;
        write.statement(INSERT)?.execute(params![
            key,
            self.rank,
            self.seq,
            self.queue,
            self.enqueued_at.map(Timestamp::as_micros),
            revision,
            attempt,
            failures,
            recoveries,
            self.written
        ])
    }

    /// Moves it from the line to the end of its queue.
    fn go(&self, write: &mut Write<'_>, key: i64) -> Result<(), Failure> {
        let Standing { revision, attempt, failures, recoveries, .. } = self.standing;
        let place = write.draw();
        write.statement(DELETE)?.execute([key, self.rank, self.seq])?;
        write.statement(INSERT_READY)?.execute(params![
            self.queue,
            self.rank,
            place,
            self.seq,
            self.enqueued_at.map(Timestamp::as_micros),
            revision,
            attempt,
            failures,
            recoveries,
            self.written
        ])?;
        Ok(())
    }
}

/// Finds a job in the line it stands in.
pub(crate) fn find(conn: &Connection, body: &Body) -> Result<Option<Stand>, Failure> {
    let mut select = conn.prepare_cached(SELECT)?;
    let found = select.query_row([body.queue, body.seq], |row| {
        let standing = Standing {
            state: StateName::Enqueued,
            revision: row.get(0)?,
            attempt: row.get(1)?,
            failures: row.get(2)?,
            recoveries: row.get(3)?,
            crashes: body.crashes,
        };
        let at = At::InLine { key: row.get(5)?, enqueued_at: maybe_instant(row, 6)? };
        Ok(Stand { standing, written: row.get(4)?, row: at })
    });
    Ok(found.optional()?)
}

/// Takes a job out of a line.
pub(crate) fn remove(write: &mut Write<'_>, key: i64, body: &Body) -> rusqlite::Result<usize> {
    write.statement(DELETE)?.execute([key, body.rank, body.seq])
}

/// Moves the first of a line to the ends of their queues: so many that may be claimed there, and those of
/// paused queues that stand between them, up to `max` in all. Says how many.
pub(crate) fn wake(
    write: &mut Write<'_>,
    name: &str,
    turns: usize,
    max: usize,
) -> Result<usize, Failure> {
    let (mut left, mut moved) = (turns, 0);
    while left.min(max - moved) > 0 && keys::key(write, name)?.waiting > 0 {
        let key = keys::number(write, name)?;
        let first = first(write, key, left.min(max - moved))?;
        if first.is_empty() {
            break;
        }
        for (waiter, paused) in &first {
            waiter.go(write, key)?;
            left -= usize::from(!paused);
        }
        moved += first.len();
        keys::change(write, name, |key| key.waiting -= first.len() as i64)?;
        write.hint_work();
    }
    Ok(moved)
}

/// The first of a line, each with whether its queue is paused.
fn first(write: &Write<'_>, key: i64, max: usize) -> Result<Vec<(Waiter, bool)>, Failure> {
    let mut select = write.conn.prepare_cached(SELECT_FIRST)?;
    let most = i64::try_from(max).unwrap_or(i64::MAX);
    let rows = select.query_map([key, most], |row| {
        let waiter = Waiter {
            rank: row.get(0)?,
            seq: row.get(1)?,
            queue: row.get(2)?,
            enqueued_at: maybe_instant(row, 3)?,
            standing: Standing {
                state: StateName::Enqueued,
                revision: row.get(4)?,
                attempt: row.get(5)?,
                failures: row.get(6)?,
                recoveries: row.get(7)?,
                // It is not written with the row, and suspects stand in no line.
                crashes: 0,
            },
            written: row.get(8)?,
        };
        Ok((waiter, row.get(9)?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[INSERT, DELETE, SELECT, SELECT_FIRST, INSERT_READY];
