//! Moving scheduled jobs whose instant has come to their queues.

use portfire_core::storage::BATCH_MAX;
use portfire_core::{Event, Promoted};
use rusqlite::OptionalExtension;

use crate::error::{Failure, corrupt};
use crate::limits;
use crate::row::{Body, Facts, Stand, instant, transit};
use crate::write::Write;

pub(crate) const SELECT_DUE: &str = "SELECT seq FROM portfire_scheduled WHERE run_at <= ?1 \
    ORDER BY run_at, seq LIMIT ?2";
const SELECT_NEXT: &str = "SELECT run_at FROM portfire_scheduled ORDER BY run_at LIMIT 1";

/// Promotes up to `max` jobs, the earliest first.
pub(crate) fn promote(write: &mut Write<'_>, max: u32) -> Result<Promoted, Failure> {
    let max = (max as usize).min(BATCH_MAX);
    let due: Vec<i64> = {
        let mut select = write.conn.prepare_cached(SELECT_DUE)?;
        let rows = select.query_map([write.now.as_micros(), max as i64], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut promoted = 0;
    for &seq in &due {
        let body = Body::of(write.conn, seq)?;
        let from = Stand::find(write.conn, &body)?;
        let made = transit(write, &body, &from, Event::Promote, &Facts::default())?;
        made.map_err(corrupt)?;
        promoted += 1;
    }
    let released = limits::promote(write, max - due.len())? as u32;
    let next: Option<i64> =
        write.conn.prepare_cached(SELECT_NEXT)?.query_row([], |row| row.get(0)).optional()?;
    let next_in = next.map(|run_at| instant(run_at).since(write.now));
    let next_in = [next_in, limits::next_in(write)?].into_iter().flatten().min();
    Ok(Promoted { promoted, released, next_in })
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[SELECT_DUE, SELECT_NEXT];
