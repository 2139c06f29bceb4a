//! Reading batches for people: one, and pages of them.

use portfire_core::engine::pages;
use portfire_core::{
    BatchFilter, BatchId, BatchPage, BatchRecord, Cursor, Dependency, Progression,
};
use rusqlite::{Connection, Row as SqlRow, params};

use crate::codes;
use crate::error::{Failure, corrupt, foreign_cursor};
use crate::links::batch_number;
use crate::row::{instant, maybe_instant};

/// The columns of [`read`], of batches under the name `b` and those they are in under the name `p`.
macro_rules! batch_columns {
    () => {
        "b.batch, b.id, b.description, p.id, b.after, b.state, b.total, b.pending, b.succeeded, \
         b.failed, b.deleted, b.created_at, b.ended_at, b.expires_at, b.reason \
         FROM portfire_batch b LEFT JOIN portfire_batch p ON p.batch = b.parent"
    };
}

const SELECT_ONE: &str = concat!("SELECT ", batch_columns!(), " WHERE b.id = ?1");
const SELECT_ALL: &str =
    concat!("SELECT ", batch_columns!(), " WHERE b.batch < ?1 ORDER BY b.batch DESC LIMIT ?2");
const SELECT_BY_STATE: &str = concat!(
    "SELECT ",
    batch_columns!(),
    " WHERE b.state = ?3 AND b.batch < ?1 ORDER BY b.batch DESC LIMIT ?2"
);
const SELECT_BY_PARENT: &str = concat!(
    "SELECT ",
    batch_columns!(),
    " WHERE b.parent = ?3 AND b.batch < ?1 ORDER BY b.batch DESC LIMIT ?2"
);
// Those of one parent are looked through; they are few beside those of a state.
const SELECT_BY_BOTH: &str = concat!(
    "SELECT ",
    batch_columns!(),
    " WHERE b.parent = ?3 AND +b.state = ?4 AND b.batch < ?1 ORDER BY b.batch DESC LIMIT ?2"
);

/// Everything about a batch.
pub(crate) fn batch(conn: &Connection, id: BatchId) -> Result<Option<BatchRecord>, Failure> {
    let mut select = conn.prepare_cached(SELECT_ONE)?;
    let mut rows = select.query([id.as_bytes()])?;
    rows.next()?.map(|row| Ok(read(row)?.1)).transpose()
}

/// A page of batches, the newest created first.
pub(crate) fn page(conn: &Connection, filter: &BatchFilter) -> Result<BatchPage, Failure> {
    let before = match &filter.after {
        Some(cursor) => cursor.0.parse().map_err(|_| foreign_cursor(cursor))?,
        None => i64::MAX,
    };
    let parent = match filter.parent {
        Some(id) => match batch_number(conn, id)? {
            Some(number) => Some(number),
            None => return Ok(BatchPage::default()),
        },
        None => None,
    };
    let size = pages::size(filter.max);
    let limit = size as i64 + 1;
    let mut select;
    let mut rows = match (parent, filter.state.map(codes::batch_state_code)) {
        (None, None) => {
            select = conn.prepare_cached(SELECT_ALL)?;
            select.query([before, limit])?
        }
        (None, Some(state)) => {
            select = conn.prepare_cached(SELECT_BY_STATE)?;
            select.query([before, limit, state])?
        }
        (Some(parent), None) => {
            select = conn.prepare_cached(SELECT_BY_PARENT)?;
            select.query([before, limit, parent])?
        }
        (Some(parent), Some(state)) => {
            select = conn.prepare_cached(SELECT_BY_BOTH)?;
            select.query(params![before, limit, parent, state])?
        }
    };
    let mut page = BatchPage::default();
    let mut last = None;
    while let Some(row) = rows.next()? {
        if page.batches.len() == size {
            page.next = last.map(|number: i64| Cursor(number.to_string()));
            break;
        }
        let (number, record) = read(row)?;
        page.batches.push(record);
        last = Some(number);
    }
    Ok(page)
}

fn read(row: &SqlRow<'_>) -> Result<(i64, BatchRecord), Failure> {
    let number: i64 = row.get(0)?;
    let after: Vec<Dependency> = match row.get::<_, Option<String>>(4)? {
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| corrupt(format!("what batch number {number} waits for: {error}")))?,
        None => Vec::new(),
    };
    let count = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let members = Progression {
        total: count(6)?,
        pending: count(7)?,
        succeeded: count(8)?,
        failed: count(9)?,
        deleted: count(10)?,
    };
    let record = BatchRecord {
        id: BatchId::from_bytes(row.get(1)?),
        description: row.get(2)?,
        parent: row.get::<_, Option<[u8; 16]>>(3)?.map(BatchId::from_bytes),
        after,
        state: codes::batch_state(row.get(5)?)?,
        reason: row.get(14)?,
        members,
        created_at: instant(row.get(11)?),
        ended_at: maybe_instant(row, 12)?,
        expires_at: maybe_instant(row, 13)?,
    };
    Ok((number, record))
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] =
    &[SELECT_ONE, SELECT_ALL, SELECT_BY_STATE, SELECT_BY_PARENT, SELECT_BY_BOTH];
