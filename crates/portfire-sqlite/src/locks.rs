//! Locks between processes: rows with a lease, fenced by a number that only rises.

use portfire_core::engine::locks::{Grant, Step, decide};
use portfire_core::{LockAnswer, LockRecord, LockRequest, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::Failure;
use crate::row::instant;
use crate::write::Write;

const SELECT_LOCK: &str = "SELECT name, owner, fence, until FROM portfire_lock WHERE name = ?1";
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
    let name = request.name();
    let stored = find(write.conn, name)?;
    let grant = stored.as_ref().map(|lock| Grant {
        owner: &lock.owner,
        fence: lock.fence,
        until: lock.until,
    });
    let answer = match decide(grant, request, write.now) {
        Step::Leave(answer) => return Ok(answer),
        Step::Grant { owner, until } => {
            let fence = next_fence(write.conn)?;
            let values = params![name, owner, fence.cast_signed(), until.as_micros()];
            write.conn.prepare_cached(UPSERT_LOCK)?.execute(values)?;
            LockAnswer::Held { fence, until }
        }
        Step::Renew { fence, until } => {
            write.conn.prepare_cached(UPDATE_UNTIL)?.execute(params![name, until.as_micros()])?;
            LockAnswer::Held { fence, until }
        }
        Step::Release => {
            write.conn.prepare_cached(DELETE_LOCK)?.execute([name])?;
            write.hint_control();
            LockAnswer::Released
        }
    };
    write.touch();
    Ok(answer)
}

fn next_fence(conn: &Connection) -> rusqlite::Result<u64> {
    conn.prepare_cached(UPDATE_FENCE)?.execute([])?;
    let fence: i64 = conn.prepare_cached(SELECT_FENCE)?.query_row([], |row| row.get(0))?;
    Ok(fence.cast_unsigned())
}

/// A lock as it is stored, perhaps lapsed.
fn find(conn: &Connection, name: &str) -> rusqlite::Result<Option<LockRecord>> {
    let mut select = conn.prepare_cached(SELECT_LOCK)?;
    select.query_row([name], read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<LockRecord> {
    let fence: i64 = row.get(2)?;
    Ok(LockRecord {
        name: row.get(0)?,
        owner: row.get(1)?,
        fence: fence.cast_unsigned(),
        until: instant(row.get(3)?),
    })
}

/// Removes the locks whose holders have let them lapse. Says how many.
pub(crate) fn clean(write: &Write<'_>) -> rusqlite::Result<usize> {
    write.conn.prepare_cached(DELETE_LAPSED)?.execute([write.now.as_micros()])
}

/// The locks that are held, by name.
pub(crate) fn locks(conn: &Connection, now: Timestamp) -> Result<Vec<LockRecord>, Failure> {
    let mut select = conn.prepare_cached(SELECT_HELD)?;
    let rows = select.query_map([now.as_micros()], read)?;
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
