//! Moving scheduled jobs whose instant has come to their queues.

use std::time::Duration;

use portfire_core::engine;
use portfire_core::storage::BATCH_MAX;
use portfire_core::{Event, Promoted};
use rusqlite::OptionalExtension;

use crate::error::{Failure, corrupt};
use crate::row::{self, Facts, instant, transit};
use crate::write::Write;
use crate::{keys, limits, members, outbox};

pub(crate) const SELECT_DUE: &str = "SELECT seq FROM portfire_scheduled WHERE run_at <= ?1 \
    ORDER BY run_at, seq LIMIT ?2";
const SELECT_NEXT: &str = "SELECT run_at FROM portfire_scheduled ORDER BY run_at LIMIT 1";

/// Goes on with releases and with cancelled batches, then promotes jobs, the earliest first; up to `max`
/// in all.
pub(crate) fn promote(write: &mut Write<'_>, max: u32) -> Result<Promoted, Failure> {
    let max = (max as usize).min(BATCH_MAX);
    let mut released = engine::work_off(write, max)?;
    released += engine::sweep(write, max - released)?;
    let due: Vec<i64> = {
        let mut select = write.conn.prepare_cached(SELECT_DUE)?;
        let room = (max - released) as i64;
        let rows = select.query_map([write.now.as_micros(), room], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut promoted = 0;
    for &seq in &due {
        let body = row::body(write.conn, seq)?;
        let from = row::stand(write.conn, &body)?;
        let made = transit(write, &body, &from, Event::Promote, &Facts::default())?;
        made.map_err(corrupt)?;
        promoted += 1;
    }
    released += limits::promote(write, max - released - due.len())?;
    Ok(Promoted { promoted, released: released as u32, next_in: next_in(write)? })
}

/// Time until there is more to do.
fn next_in(write: &mut Write<'_>) -> Result<Option<Duration>, Failure> {
    if outbox::has_any(write.conn)? || members::has_sweep(write.conn)? {
        return Ok(Some(Duration::ZERO));
    }
    let next: Option<i64> =
        write.conn.prepare_cached(SELECT_NEXT)?.query_row([], |row| row.get(0)).optional()?;
    let next = next.map(|run_at| instant(run_at).since(write.now));
    Ok([next, keys::next_in(write)?].into_iter().flatten().min())
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[SELECT_DUE, SELECT_NEXT];
