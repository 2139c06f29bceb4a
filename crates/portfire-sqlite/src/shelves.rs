//! Shelves: where jobs stand aside that a claim has met whose server has no handler of their kind.
//!
//! They keep their rows in the table of those that are ready, under a number that follows from their queue and their
//! kind, with rank and place as they were. So a server that has the kind reads the rows of its queue and of the shelves
//! of its kinds in one order. Which shelves there are is remembered with the names: while there are none, nothing is asked.

use std::sync::Arc;
use std::time::Duration;

use portfire_core::engine::attempts::too_late;
use portfire_core::engine::kinds::{self, Handlers};
use portfire_core::storage::BATCH_MAX;
use portfire_core::{ErrorRecord, Event, KindName, QueueName, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::claim::aged;
use crate::error::{Failure, corrupt};
use crate::row::{self, Facts, maybe_instant, must};
use crate::servers::lease_until;
use crate::write::Write;

const SELECT_ALL: &str = "SELECT queue, kind FROM portfire_shelf ORDER BY queue, kind";
const SELECT_CLOCK: &str =
    "SELECT missing_since, grace FROM portfire_shelf WHERE queue = ?1 AND kind = ?2";
const SELECT_OF_QUEUE: &str = "SELECT kind FROM portfire_shelf WHERE queue = ?1 ORDER BY kind";
const INSERT: &str = "INSERT INTO portfire_shelf (queue, kind, missing_since) VALUES (?1, ?2, ?3)";
const UPDATE_CLOCK: &str =
    "UPDATE portfire_shelf SET missing_since = ?3, grace = ?4 WHERE queue = ?1 AND kind = ?2";
const DELETE: &str = "DELETE FROM portfire_shelf WHERE queue = ?1 AND kind = ?2";
const UPDATE_PLACE: &str =
    "UPDATE portfire_ready SET queue = ?4 WHERE queue = ?1 AND rank = ?2 AND place = ?3";
const SELECT_ANY: &str = "SELECT 1 FROM portfire_ready WHERE queue = ?1 LIMIT 1";
// A row for each server that is alive or died less than a day ago.
pub(crate) const SELECT_HANDLERS: &str =
    "SELECT kinds, heartbeat_at, lease, died_at FROM portfire_server";
const SELECT_KINDS_OF: &str = "SELECT kinds FROM portfire_server WHERE server = ?1";
const SELECT_QUEUE_NAME: &str = "SELECT name FROM portfire_queue WHERE queue = ?1";

/// The shelves by queue and kind.
pub(crate) type Shelves = Arc<Vec<(i64, i64)>>;

/// Under which number the jobs of a shelf stand in the table of those that are ready. Numbers of queues and kinds are
/// far below 2^31; suspects stand under the negated number of their queue alone.
pub(crate) fn key(queue: i64, kind: i64) -> i64 {
    -((kind << 32) + queue)
}

/// Whether that is the number of a shelf.
pub(crate) fn is_shelf(number: i64) -> bool {
    number < -i64::from(u32::MAX)
}

/// All shelves.
pub(crate) fn all(conn: &Connection) -> rusqlite::Result<Shelves> {
    let mut select = conn.prepare_cached(SELECT_ALL)?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Arc::new(rows.collect::<rusqlite::Result<_>>()?))
}

/// The shelves of a queue, for those who only read.
pub(crate) fn of_queue(conn: &Connection, queue: i64) -> rusqlite::Result<Vec<i64>> {
    let mut select = conn.prepare_cached(SELECT_OF_QUEUE)?;
    let kinds = select.query_map([queue], |row| Ok(key(queue, row.get(0)?)))?;
    kinds.collect()
}

/// The kinds that a server states.
pub(crate) fn stated(conn: &Connection, server: i64) -> Result<Vec<KindName>, Failure> {
    let text: String =
        conn.prepare_cached(SELECT_KINDS_OF)?.query_row([server], |row| row.get(0))?;
    read_kinds(&text)
}

fn read_kinds(text: &str) -> Result<Vec<KindName>, Failure> {
    let kinds: Vec<String> = serde_json::from_str(text)
        .map_err(|error| corrupt(format!("the kinds of a server: {error}")))?;
    Ok(kinds.into_iter().map(KindName::stored).collect())
}

/// The numbers under which a server finds the jobs of a queue: its own, and those of the shelves of the server's kinds.
pub(crate) fn sources(write: &mut Write<'_>, server: i64, queue: i64) -> Result<Vec<i64>, Failure> {
    let mut sources = vec![queue];
    let shelves = write.names.shelves(write.conn)?;
    for &(of, kind) in shelves.iter().filter(|(of, _)| *of == queue) {
        if write.names.has_handler(write.conn, server, kind)? {
            sources.push(key(of, kind));
        }
    }
    Ok(sources)
}

/// Sets the job at a place of a queue aside.
pub(crate) fn set_aside(
    write: &mut Write<'_>,
    [queue, rank, place]: [i64; 3],
    kind: i64,
) -> Result<(), Failure> {
    let shelves = write.names.shelves(write.conn)?;
    if !shelves.contains(&(queue, kind)) {
        let name = write.names.kind(write.conn, kind)?;
        let had = kinds::had_until(&handlers(write.conn)?, &name);
        let clock = kinds::first_clock(had, write.now).map(Timestamp::as_micros);
        write.conn.prepare_cached(INSERT)?.execute(params![queue, kind, clock])?;
        let known = shelves.iter().copied().chain([(queue, kind)]).collect();
        put(write, known);
    }
    write.statement(UPDATE_PLACE)?.execute([queue, rank, place, key(queue, kind)])?;
    write.touch();
    Ok(())
}

/// Remembers which shelves there are, and has other processes look.
fn put(write: &mut Write<'_>, shelves: Vec<(i64, i64)>) {
    write.names.put_shelves(Arc::new(shelves));
    write.tally.names += 1;
}

/// All servers that are remembered, as far as kinds go.
fn handlers(conn: &Connection) -> Result<Vec<Handlers>, Failure> {
    let mut select = conn.prepare_cached(SELECT_HANDLERS)?;
    let mut rows = select.query([])?;
    let mut handlers = Vec::new();
    while let Some(row) = rows.next()? {
        let kinds = read_kinds(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?;
        let lease_until = lease_until(row.get(1)?, row.get(2)?);
        handlers.push(Handlers::new(kinds, lease_until, maybe_instant(row, 3)?));
    }
    Ok(handlers)
}

/// The clock of a shelf as it was written last, and the grace of the last rescue.
type Clock = (Option<Timestamp>, Option<Duration>);

fn clock(conn: &Connection, queue: i64, kind: i64) -> rusqlite::Result<Option<Clock>> {
    let mut select = conn.prepare_cached(SELECT_CLOCK)?;
    let found = select.query_row([queue, kind], |row| {
        let grace: Option<i64> = row.get(1)?;
        let grace = grace.map(|micros| Duration::from_micros(micros.unsigned_abs()));
        Ok((maybe_instant(row, 0)?, grace))
    });
    found.optional()
}

fn write_clock(
    write: &mut Write<'_>,
    (queue, kind): (i64, i64),
    (since, grace): Clock,
) -> rusqlite::Result<()> {
    let since = since.map(Timestamp::as_micros);
    let grace = grace.map(|grace| i64::try_from(grace.as_micros()).unwrap_or(i64::MAX));
    write.conn.prepare_cached(UPDATE_CLOCK)?.execute(params![queue, kind, since, grace])?;
    write.touch();
    Ok(())
}

/// Since when no live server has had a kind, as far as jobs of it stand aside in a queue, and the grace of the last
/// rescue.
pub(crate) fn missing(
    conn: &Connection,
    now: Timestamp,
    (queue, kind): (i64, i64),
    name: &KindName,
) -> Result<Clock, Failure> {
    let Some((since, grace)) = clock(conn, queue, kind)? else { return Ok((None, None)) };
    let had = kinds::had_until(&handlers(conn)?, name);
    Ok((kinds::missing_since(since, had, now), grace))
}

/// A server comes, or comes back: when none was alive before, that time does not count.
pub(crate) fn resume_clocks(write: &mut Write<'_>) -> Result<(), Failure> {
    let shelves = write.names.shelves(write.conn)?;
    if shelves.is_empty() {
        return Ok(());
    }
    let handlers = handlers(write.conn)?;
    let Some(resumed) = kinds::resumed(&handlers, write.now) else { return Ok(()) };
    for &(queue, kind) in shelves.iter() {
        let (before, grace) = clock(write.conn, queue, kind)?.unwrap_or_default();
        let had = kinds::had_until(&handlers, &write.names.kind(write.conn, kind)?);
        let since = resumed(kinds::missing_since(before, had, write.now));
        if since != before {
            write_clock(write, (queue, kind), (since, grace))?;
        }
    }
    Ok(())
}

/// Fails jobs whose kind no server has had for too long, and forgets empty shelves. Says how many were failed.
pub(crate) fn fail_unhandled(
    write: &mut Write<'_>,
    grace: Duration,
    max: u32,
) -> Result<usize, Failure> {
    let shelves = write.names.shelves(write.conn)?;
    if shelves.is_empty() {
        return Ok(0);
    }
    let (handlers, room) = (handlers(write.conn)?, (max as usize).min(BATCH_MAX));
    let mut failed = 0;
    let mut kept = Vec::with_capacity(shelves.len());
    for &(queue, kind) in shelves.iter() {
        if forget_empty(write, queue, kind)? {
            continue;
        }
        let name = write.names.kind(write.conn, kind)?;
        let before = clock(write.conn, queue, kind)?.unwrap_or_default();
        let since = kinds::missing_since(before.0, kinds::had_until(&handlers, &name), write.now);
        if before != (since, Some(grace)) {
            write_clock(write, (queue, kind), (since, Some(grace)))?;
        }
        if since.is_some_and(|since| write.now.since(since) >= grace) {
            let error = ErrorRecord::unknown_kind(&name, grace);
            failed += fail(write, (queue, kind), grace, room - failed, &error)?;
        }
        // Also one that was emptied just now: how many calls it takes must not matter.
        if !forget_empty(write, queue, kind)? {
            kept.push((queue, kind));
        }
    }
    if kept.len() < shelves.len() {
        put(write, kept);
    }
    Ok(failed)
}

/// Forgets a shelf when it is empty. Says whether it was.
fn forget_empty(write: &mut Write<'_>, queue: i64, kind: i64) -> rusqlite::Result<bool> {
    if write.conn.prepare_cached(SELECT_ANY)?.exists([key(queue, kind)])? {
        return Ok(false);
    }
    write.conn.prepare_cached(DELETE)?.execute([queue, kind])?;
    write.touch();
    Ok(true)
}

/// Fails those of a shelf that have waited for the grace themselves, up to `max`.
fn fail(
    write: &mut Write<'_>,
    (queue, kind): (i64, i64),
    grace: Duration,
    max: usize,
    error: &ErrorRecord,
) -> Result<usize, Failure> {
    let name: String =
        write.conn.prepare_cached(SELECT_QUEUE_NAME)?.query_row([queue], |row| row.get(0))?;
    let horizon = write.now.saturating_sub(grace);
    let overdue = aged(write, key(queue, kind), &QueueName::stored(name), horizon, max)?;
    for job in &overdue {
        let too_late = too_late(&job.job.options, job.job.enqueued_at, write.now);
        if let Some(reason) = too_late {
            delete(write, job.seq, &reason)?;
            continue;
        }
        let body = row::body(write.conn, job.seq)?;
        let from = row::stand(write.conn, &body)?;
        let facts = Facts { error: Some(error), ..Facts::default() };
        must(write, &body, &from, Event::Unhandled, &facts)?;
    }
    Ok(overdue.len())
}

/// Deletes a job that is too late.
pub(crate) fn delete(write: &mut Write<'_>, seq: i64, reason: &str) -> Result<(), Failure> {
    let body = row::body(write.conn, seq)?;
    let from = row::stand(write.conn, &body)?;
    must(write, &body, &from, Event::Delete, &Facts { reason: Some(reason), ..Facts::default() })?;
    Ok(())
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_CLOCK,
    SELECT_OF_QUEUE,
    INSERT,
    UPDATE_CLOCK,
    DELETE,
    UPDATE_PLACE,
    SELECT_ANY,
    SELECT_KINDS_OF,
    SELECT_QUEUE_NAME,
];
