//! Locks between processes: rows with a lease, fenced by a number that only rises.

use std::time::Duration;

use portfire_core::{LockAnswer, LockRecord, LockRequest, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Failure;
use crate::row::instant;
use crate::write::Write;

const SELECT_LOCK: &str = "SELECT owner, fence, until FROM portfire_lock WHERE name = ?1";
const UPSERT_LOCK: &str = "INSERT INTO portfire_lock (name, owner, fence, until) \
    VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE SET owner = ?2, fence = ?3, until = ?4";
const UPDATE_UNTIL: &str = "UPDATE portfire_lock SET until = ?2 WHERE name = ?1";
const DELETE_LOCK: &str = "DELETE FROM portfire_lock WHERE name = ?1";
const DELETE_LAPSED: &str = "DELETE FROM portfire_lock WHERE until <= ?1";
const SELECT_HELD: &str =
    "SELECT name, owner, fence, until FROM portfire_lock WHERE +until > ?1 ORDER BY name";
const UPDATE_FENCE: &str = "UPDATE portfire_fence SET fence = fence + 1 WHERE only = 1";
const SELECT_FENCE: &str = "SELECT fence FROM portfire_fence WHERE only = 1";

/// Takes, renews or gives back a lock.
pub(crate) fn lock(write: &mut Write<'_>, request: &LockRequest) -> Result<LockAnswer, Failure> {
    request.validate()?;
    match request {
        LockRequest::Acquire { name, owner, lease } => acquire(write, name, owner, *lease),
        LockRequest::Renew { name, fence, lease } => {
            if held(write, name)?.is_none_or(|held| held.fence != *fence) {
                return Ok(LockAnswer::Lost);
            }
            renew(write, name, *fence, *lease)
        }
        LockRequest::Release { name, fence } => {
            if held(write, name)?.is_none_or(|held| held.fence != *fence) {
                return Ok(LockAnswer::Lost);
            }
            write.conn.prepare_cached(DELETE_LOCK)?.execute([name])?;
            write.touch();
            write.hint_control();
            Ok(LockAnswer::Released)
        }
    }
}

fn acquire(
    write: &mut Write<'_>,
    name: &str,
    owner: &str,
    lease: Duration,
) -> Result<LockAnswer, Failure> {
    if let Some(held) = held(write, name)? {
        if held.owner == owner {
            return renew(write, name, held.fence, lease);
        }
        return Ok(LockAnswer::Taken { until: held.until });
    }
    write.conn.prepare_cached(UPDATE_FENCE)?.execute([])?;
    let fence: i64 = write.conn.prepare_cached(SELECT_FENCE)?.query_row([], |row| row.get(0))?;
    let until = write.now.saturating_add(lease);
    let values = params![name, owner, fence, until.as_micros()];
    write.conn.prepare_cached(UPSERT_LOCK)?.execute(values)?;
    write.touch();
    Ok(LockAnswer::Held { fence: fence.cast_unsigned(), until })
}

fn renew(
    write: &mut Write<'_>,
    name: &str,
    fence: u64,
    lease: Duration,
) -> Result<LockAnswer, Failure> {
    let until = write.now.saturating_add(lease);
    write.conn.prepare_cached(UPDATE_UNTIL)?.execute(params![name, until.as_micros()])?;
    write.touch();
    Ok(LockAnswer::Held { fence, until })
}

/// A grant that has not lapsed.
struct Held {
    owner: String,
    fence: u64,
    until: Timestamp,
}

fn held(write: &Write<'_>, name: &str) -> rusqlite::Result<Option<Held>> {
    let mut select = write.conn.prepare_cached(SELECT_LOCK)?;
    let found = select.query_row([name], |row| {
        let fence: i64 = row.get(1)?;
        Ok(Held { owner: row.get(0)?, fence: fence.cast_unsigned(), until: instant(row.get(2)?) })
    });
    Ok(found.optional()?.filter(|held| held.until > write.now))
}

/// Removes the locks whose holders have let them lapse. Says how many.
pub(crate) fn clean(write: &Write<'_>) -> rusqlite::Result<usize> {
    write.conn.prepare_cached(DELETE_LAPSED)?.execute([write.now.as_micros()])
}

/// The locks that are held, by name.
pub(crate) fn locks(conn: &Connection, now: Timestamp) -> Result<Vec<LockRecord>, Failure> {
    let mut select = conn.prepare_cached(SELECT_HELD)?;
    let rows = select.query_map([now.as_micros()], |row| {
        let fence: i64 = row.get(2)?;
        Ok(LockRecord {
            name: row.get(0)?,
            owner: row.get(1)?,
            fence: fence.cast_unsigned(),
            until: instant(row.get(3)?),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_LOCK,
    UPSERT_LOCK,
    UPDATE_UNTIL,
    DELETE_LOCK,
    DELETE_LAPSED,
    SELECT_HELD,
    UPDATE_FENCE,
    SELECT_FENCE,
];
