//! The outbox: what has ended or started, and was too much to tell in one call.

use std::collections::HashSet;

use portfire_core::engine::{Due, What};
use rusqlite::{Connection, params};

use crate::codes;
use crate::error::Failure;
use crate::write::{Write, code};

const INSERT_DUE: &str =
    "INSERT INTO portfire_outbox (what, number, state, position) VALUES (?1, ?2, ?3, ?4)";
const SELECT_FIRST: &str =
    "SELECT turn, what, number, state, position FROM portfire_outbox ORDER BY turn LIMIT 1";
const UPDATE_POSITION: &str = "UPDATE portfire_outbox SET position = ?2 WHERE turn = ?1";
const DELETE_DUE: &str = "DELETE FROM portfire_outbox WHERE turn = ?1";
const SELECT_ANY: &str = "SELECT 1 FROM portfire_outbox LIMIT 1";
const SELECT_ENDED: &str = "SELECT number FROM portfire_outbox WHERE what = 0";
const SELECT_NUMBER: &str = "SELECT 1 FROM portfire_outbox WHERE number = ?1";
const SELECT_LAST_END: &str = "SELECT what, state FROM portfire_outbox \
    WHERE number = ?1 AND what IN (0, 1, 4) ORDER BY turn DESC LIMIT 1";

/// Puts something behind what is left of earlier calls.
pub(crate) fn push(write: &mut Write<'_>, due: &Due) -> rusqlite::Result<()> {
    let (what, end) = match due.what {
        What::JobEnded(end) => (0, Some(code(end) as i64)),
        What::BatchEnded(end) => (1, Some(code(end) as i64)),
        What::BatchStarted => (2, None),
        What::BatchEmptied => (3, None),
        What::BatchFailedForGood => (4, None),
    };
    let values = params![what, due.seq, end, due.position];
    write.conn.prepare_cached(INSERT_DUE)?.execute(values)?;
    write.outbox_is_empty = Some(false);
    write.hint_work();
    Ok(())
}

/// The first of it, with its turn.
pub(crate) fn first(conn: &Connection) -> Result<Option<(i64, Due)>, Failure> {
    let mut select = conn.prepare_cached(SELECT_FIRST)?;
    let mut rows = select.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let what = what(row.get(1)?, row.get(3)?)?;
    Ok(Some((row.get(0)?, Due { what, seq: row.get(2)?, position: row.get(4)? })))
}

fn what(code: i64, state: Option<i64>) -> Result<What, Failure> {
    let end = || codes::state(state.unwrap_or(-1));
    Ok(match code {
        0 => What::JobEnded(end()?),
        1 => What::BatchEnded(end()?),
        2 => What::BatchStarted,
        3 => What::BatchEmptied,
        4 => What::BatchFailedForGood,
        other => return Err(codes::unknown("entry of the outbox", other).into()),
    })
}

/// Remembers who was told last.
pub(crate) fn move_to(conn: &Connection, turn: i64, position: i64) -> rusqlite::Result<usize> {
    conn.prepare_cached(UPDATE_POSITION)?.execute([turn, position])
}

/// Removes what everyone was told of.
pub(crate) fn remove(conn: &Connection, turn: i64) -> rusqlite::Result<usize> {
    conn.prepare_cached(DELETE_DUE)?.execute([turn])
}

/// Whether earlier calls have left anything.
pub(crate) fn has_any(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached(SELECT_ANY)?.exists([])
}

/// The last end of this job or batch that is still to be told.
pub(crate) fn last_end(write: &mut Write<'_>, seq: i64) -> Result<Option<What>, Failure> {
    if write.outbox_is_empty()? {
        return Ok(None);
    }
    let mut select = write.conn.prepare_cached(SELECT_LAST_END)?;
    let mut rows = select.query([seq])?;
    rows.next()?.map(|row| what(row.get(0)?, row.get(1)?)).transpose()
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
    SELECT_LAST_END,
];
