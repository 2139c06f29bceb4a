//! What has ended or started, and must still be told to those who wait for it.
//!
//! A call gathers it in memory and sees to it before its end. What is too much for one commit goes into a
//! table, which promotions work off, in the order in which things happened.

use std::collections::HashSet;

use portfire_core::StateName;
use portfire_core::storage::RELEASE_MAX;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Failure;
use crate::row::state;
use crate::write::{Write, code};
use crate::{links, members};

const INSERT_DUE: &str =
    "INSERT INTO portfire_outbox (what, number, state, position) VALUES (?1, ?2, ?3, ?4)";
const SELECT_FIRST: &str =
    "SELECT turn, what, number, state, position FROM portfire_outbox ORDER BY turn LIMIT 1";
const UPDATE_POSITION: &str = "UPDATE portfire_outbox SET position = ?2 WHERE turn = ?1";
const DELETE_DUE: &str = "DELETE FROM portfire_outbox WHERE turn = ?1";
const SELECT_ANY: &str = "SELECT 1 FROM portfire_outbox LIMIT 1";
const SELECT_ENDED: &str = "SELECT number FROM portfire_outbox WHERE what = 0";
const SELECT_NUMBER: &str = "SELECT 1 FROM portfire_outbox WHERE number = ?1";

/// Something that others wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) what: What,
    /// To which job or batch.
    pub(crate) number: i64,
    /// The last of those who wait that was seen to.
    pub(crate) position: i64,
}

/// What has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// A job has ended so.
    Job(StateName),
    /// A batch has ended, as a job would so.
    Batch(StateName),
    /// A batch has started.
    Start,
}

/// How far one of them was seen to.
pub(crate) struct Settled {
    /// Those who wait that were seen to.
    pub(crate) count: usize,
    /// The last of them, when there are more.
    pub(crate) position: Option<i64>,
}

impl Due {
    pub(crate) fn new(what: What, number: i64) -> Due {
        Due { what, number, position: 0 }
    }

    fn settle(&self, write: &mut Write<'_>, room: usize) -> Result<Settled, Failure> {
        match self.what {
            What::Job(_) | What::Batch(_) => links::settle(write, self, room),
            What::Start => members::release(write, self, room),
        }
    }
}

/// Gathers what has ended or started. An end of what stands in the table already is not the first one, and
/// tells nobody anything.
pub(crate) fn push(write: &mut Write<'_>, due: Due) -> rusqlite::Result<()> {
    let is_end = !matches!(due.what, What::Start);
    if is_end && !write.outbox_is_empty()? && has(write, due.number)? {
        return Ok(());
    }
    write.due.push_back(due);
    Ok(())
}

/// Tells what the call has ended and started to those who wait, up to the bound of a call; the last
/// thing that a call changes, but for its claim.
pub(crate) fn drain(write: &mut Write<'_>) -> Result<(), Failure> {
    let mut room = RELEASE_MAX;
    while room > 0
        && let Some(due) = write.due.pop_front()
    {
        let Settled { count, position } = due.settle(write, room)?;
        room -= count;
        if let Some(position) = position {
            write.due.push_front(Due { position, ..due });
        }
    }
    spill(write)
}

/// Puts what was gathered behind what is left of earlier calls.
pub(crate) fn spill(write: &mut Write<'_>) -> Result<(), Failure> {
    while let Some(Due { what, number, position }) = write.due.pop_front() {
        let (what, end) = match what {
            What::Job(end) => (0, Some(code(end) as i64)),
            What::Batch(end) => (1, Some(code(end) as i64)),
            What::Start => (2, None),
        };
        let values = params![what, number, end, position];
        write.conn.prepare_cached(INSERT_DUE)?.execute(values)?;
        write.outbox_is_empty = Some(false);
        write.touch();
        write.hint_work();
    }
    Ok(())
}

/// Goes on with what earlier calls have left, for up to `max` of those who wait. Says for how many.
pub(crate) fn work_off(write: &mut Write<'_>, max: usize) -> Result<usize, Failure> {
    let mut done = 0;
    while done < max
        && let Some((turn, due)) = first(write)?
    {
        let Settled { count, position } = due.settle(write, max - done)?;
        done += count;
        match position {
            Some(position) => {
                write.conn.prepare_cached(UPDATE_POSITION)?.execute([turn, position])?
            }
            None => write.conn.prepare_cached(DELETE_DUE)?.execute([turn])?,
        };
        write.touch();
        spill(write)?;
    }
    Ok(done)
}

fn first(write: &Write<'_>) -> rusqlite::Result<Option<(i64, Due)>> {
    let mut select = write.conn.prepare_cached(SELECT_FIRST)?;
    let found = select.query_row([], |row| {
        let end = row.get::<_, Option<i64>>(3)?.map_or(StateName::Deleted, state);
        let what = match row.get(1)? {
            0 => What::Job(end),
            1 => What::Batch(end),
            _ => What::Start,
        };
        Ok((row.get(0)?, Due { what, number: row.get(2)?, position: row.get(4)? }))
    });
    found.optional()
}

/// Whether earlier calls have left anything.
pub(crate) fn has_any(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached(SELECT_ANY)?.exists([])
}

/// The jobs of whose end someone is still to be told.
pub(crate) fn ended(conn: &Connection) -> rusqlite::Result<HashSet<i64>> {
    conn.prepare_cached(SELECT_ENDED)?.query_map([], |row| row.get(0))?.collect()
}

/// Whether someone is still to be told of this job or batch.
pub(crate) fn has(write: &Write<'_>, number: i64) -> rusqlite::Result<bool> {
    write.conn.prepare_cached(SELECT_NUMBER)?.exists([number])
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT_DUE,
    SELECT_FIRST,
    UPDATE_POSITION,
    DELETE_DUE,
    SELECT_ANY,
    SELECT_ENDED,
    SELECT_NUMBER,
];
