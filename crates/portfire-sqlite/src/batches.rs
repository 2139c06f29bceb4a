//! Batches: their rows, and which of them are cleaned.
//!
//! A row is read once in a transaction, changed in memory and written at its end, so a commit that ends a
//! thousand members writes their batch once. What reads rows by statements calls [`flush`] first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use portfire_core::batch::BATCH_OPEN_MAX;
use portfire_core::engine::{self, Batch, NEVER_SEALED};
use portfire_core::{BatchState, Dependency, InvalidJob, NewBatch, Progression, StateName};
use rusqlite::{Connection, Row as SqlRow, params};

use crate::error::{Failure, corrupt};
use crate::write::Write;
use crate::{codes, links, members, outbox};

const INSERT_BATCH: &str = "INSERT INTO portfire_batch (batch, id, parent, depth, description, \
    after, retention, created_at, state, waits, start, followed, total, pending, succeeded, \
    failed, deleted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, 0, 0, 0, 0, 0)";
const SELECT_BATCH: &str = "SELECT parent, depth, retention, state, waits, start, followed, \
    total, pending, succeeded, failed, deleted, ended_at, expires_at, clean_at, reason, for_good \
    FROM portfire_batch WHERE batch = ?1";
const UPDATE_BATCH: &str = "UPDATE portfire_batch SET state = ?2, waits = ?3, start = ?4, \
    followed = ?5, total = ?6, pending = ?7, succeeded = ?8, failed = ?9, deleted = ?10, \
    ended_at = ?11, expires_at = ?12, clean_at = ?13, reason = ?14, for_good = ?15 \
    WHERE batch = ?1";
const SELECT_ABANDONED: &str =
    "SELECT batch FROM portfire_batch WHERE state = ?1 AND created_at <= ?2 ORDER BY batch";
const SELECT_EXPIRED: &str = "SELECT batch FROM portfire_batch \
    WHERE clean_at <= ?1 ORDER BY clean_at, batch LIMIT ?2";
const UPDATE_CLEAN_AT: &str = "UPDATE portfire_batch SET clean_at = NULL WHERE batch = ?1";
const SELECT_AFTER: &str = "SELECT after FROM portfire_batch WHERE batch = ?1";
const DELETE_BATCH: &str = "DELETE FROM portfire_batch WHERE batch = ?1";

/// The rows that the transaction has read or made.
pub(crate) type Batches = HashMap<i64, BatchRow>;

/// A batch as the transaction knows it.
#[derive(Clone, Debug)]
pub(crate) struct BatchRow {
    pub(crate) batch: Batch,
    pub(crate) members: Progression,
    is_dirty: bool,
}

impl BatchRow {
    fn read(row: &SqlRow<'_>) -> Result<BatchRow, Failure> {
        let count = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
        let members = Progression {
            total: count(7)?,
            pending: count(8)?,
            succeeded: count(9)?,
            failed: count(10)?,
            deleted: count(11)?,
        };
        let batch = Batch {
            parent: row.get(0)?,
            depth: row.get(1)?,
            retention: row.get(2)?,
            state: codes::batch_state(row.get(3)?)?,
            waits: row.get(4)?,
            start: row.get(5)?,
            followed: row.get(6)?,
            for_good: row.get(16)?,
            ended_at: row.get(12)?,
            expires_at: row.get(13)?,
            clean_at: row.get(14)?,
            reason: row.get::<_, Option<String>>(15)?.map(Arc::from),
        };
        Ok(BatchRow { batch, members, is_dirty: false })
    }
}

/// Stores a batch, without members.
pub(crate) fn insert(
    write: &mut Write<'_>,
    number: i64,
    new: &NewBatch,
    batch: &Batch,
) -> Result<(), Failure> {
    let after = match &new.after[..] {
        [] => None,
        after => Some(
            serde_json::to_string(after)
                .map_err(|error| InvalidJob::Encode { reason: error.to_string() })?,
        ),
    };
    write.conn.prepare_cached(INSERT_BATCH)?.execute(params![
        number,
        new.id.as_bytes(),
        batch.parent,
        batch.depth,
        new.description,
        after,
        batch.retention,
        write.now.as_micros(),
        codes::batch_state_code(batch.state),
        batch.waits,
        batch.start
    ])?;
    // The number that was the next one is its own.
    write.draw();
    let members = Progression::default();
    let row = BatchRow { batch: batch.clone(), members, is_dirty: false };
    write.batches.insert(number, row);
    Ok(())
}

/// The row of a batch that is stored.
pub(crate) fn get<'w>(write: &'w mut Write<'_>, number: i64) -> Result<&'w mut BatchRow, Failure> {
    find(write, number)?.ok_or_else(|| corrupt(format!("batch number {number} is not stored")))
}

/// The row of a batch, when it is stored.
pub(crate) fn find<'w>(
    write: &'w mut Write<'_>,
    number: i64,
) -> Result<Option<&'w mut BatchRow>, Failure> {
    if !write.batches.contains_key(&number) {
        let mut select = write.conn.prepare_cached(SELECT_BATCH)?;
        let mut rows = select.query([number])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        write.batches.insert(number, BatchRow::read(row)?);
    }
    Ok(write.batches.get_mut(&number))
}

/// Changes a batch.
pub(crate) fn put(write: &mut Write<'_>, number: i64, batch: &Batch) -> Result<(), Failure> {
    let row = get(write, number)?;
    row.batch = batch.clone();
    row.is_dirty = true;
    Ok(())
}

/// Counts a member that moved, or was added. Answers how the members stand then.
pub(crate) fn count(
    write: &mut Write<'_>,
    number: i64,
    from: Option<StateName>,
    to: StateName,
) -> Result<Progression, Failure> {
    write.touch();
    let row = get(write, number)?;
    row.members.count(from, to);
    row.is_dirty = true;
    Ok(row.members)
}

/// Writes what was changed.
pub(crate) fn flush(write: &mut Write<'_>) -> rusqlite::Result<()> {
    let conn = write.conn;
    for (&number, row) in write.batches.iter_mut().filter(|(_, row)| row.is_dirty) {
        let Progression { total, pending, succeeded, failed, deleted } = row.members;
        let count = u64::cast_signed;
        let batch = &row.batch;
        conn.prepare_cached(UPDATE_BATCH)?.execute(params![
            number,
            codes::batch_state_code(batch.state),
            batch.waits,
            batch.start,
            batch.followed,
            count(total),
            count(pending),
            count(succeeded),
            count(failed),
            count(deleted),
            batch.ended_at,
            batch.expires_at,
            batch.clean_at,
            batch.reason.as_deref(),
            batch.for_good
        ])?;
        row.is_dirty = false;
    }
    Ok(())
}

/// After a member was cleaned: a batch that has outlived its time can be cleaned with the last one.
pub(crate) fn member_cleaned(write: &mut Write<'_>, number: i64) -> Result<(), Failure> {
    let conn = write.conn;
    let BatchRow { batch, is_dirty, .. } = get(write, number)?;
    if batch.expires_at.is_some() && batch.clean_at.is_none() && !members::has_any(conn, number)? {
        batch.clean_at = batch.expires_at;
        *is_dirty = true;
    }
    Ok(())
}

/// Cancels the batches that have stood open for too long.
pub(crate) fn give_up_open(write: &mut Write<'_>) -> Result<(), Failure> {
    // One may have been sealed by another operation of this commit.
    flush(write)?;
    let abandoned = write.now.saturating_sub(BATCH_OPEN_MAX).as_micros();
    let open = numbers(
        write.conn,
        SELECT_ABANDONED,
        [codes::batch_state_code(BatchState::Open), abandoned],
    )?;
    open.into_iter().try_for_each(|number| engine::cancel(write, number, NEVER_SEALED))
}

/// Removes up to `max` ended batches that have outlived their time and whose members are gone, the
/// earliest first. Says whether there are more.
pub(crate) fn clean(write: &mut Write<'_>, max: usize) -> Result<bool, Failure> {
    let mut passed = HashSet::new();
    let mut removed = 0;
    loop {
        flush(write)?;
        let limit = passed.len() as i64 + 1;
        let expired = numbers(write.conn, SELECT_EXPIRED, [write.now.as_micros(), limit])?;
        let Some(&number) = expired.iter().find(|number| !passed.contains(*number)) else {
            return Ok(false);
        };
        if outbox::has(write, number)? {
            passed.insert(number);
        } else if members::has_any(write.conn, number)? {
            look_no_more(write, number)?;
        } else if removed == max {
            return Ok(true);
        } else {
            remove(write, number)?;
            removed += 1;
        }
    }
}

/// Leaves a batch alone until the last of its members is cleaned.
fn look_no_more(write: &mut Write<'_>, number: i64) -> rusqlite::Result<()> {
    write.conn.prepare_cached(UPDATE_CLEAN_AT)?.execute([number])?;
    if let Some(row) = write.batches.get_mut(&number) {
        row.batch.clean_at = None;
    }
    write.touch();
    Ok(())
}

fn numbers(conn: &Connection, sql: &str, values: [i64; 2]) -> rusqlite::Result<Vec<i64>> {
    conn.prepare_cached(sql)?.query_map(values, |row| row.get(0))?.collect()
}

fn remove(write: &mut Write<'_>, number: i64) -> Result<(), Failure> {
    let conn = write.conn;
    write.touch();
    let batch = &get(write, number)?.batch;
    let (parent, followed) = (batch.parent, batch.followed);
    links::forget_waits(conn, number, &waits_for(conn, number)?)?;
    if followed {
        links::forget_followers(conn, number)?;
    }
    conn.prepare_cached(DELETE_BATCH)?.execute([number])?;
    write.batches.remove(&number);
    match parent {
        Some(parent) => member_cleaned(write, parent),
        None => Ok(()),
    }
}

/// What a batch waits for, or waited.
pub(crate) fn waits_for(conn: &Connection, number: i64) -> Result<Vec<Dependency>, Failure> {
    let after: Option<String> =
        conn.prepare_cached(SELECT_AFTER)?.query_row([number], |row| row.get(0))?;
    let Some(text) = after else { return Ok(Vec::new()) };
    serde_json::from_str(&text)
        .map_err(|error| corrupt(format!("what batch number {number} waits for: {error}")))
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_BATCH,
    UPDATE_BATCH,
    SELECT_ABANDONED,
    SELECT_EXPIRED,
    UPDATE_CLEAN_AT,
    SELECT_AFTER,
    DELETE_BATCH,
    INSERT_BATCH,
];
