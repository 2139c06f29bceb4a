//! What holds back a job that is enqueued: those before it, and the limit in whose line it stands.

use portfire_core::engine::limits::{Scope, scope};
use portfire_core::monitor::PAGE_MAX;
use portfire_core::{JobId, KeyRecord, KindName, LimitName, LimitRule, Timestamp, WaitingRecord};
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Failure;
use crate::keys::{self, Key};
use crate::limits;
use crate::row::{self, At};
use crate::{shelves, suspects, ties};

const COUNT_BEFORE: &str = "SELECT count(*) FROM (SELECT 1 FROM portfire_ready \
    WHERE queue = ?1 AND (rank, place) < (?2, ?3) LIMIT ?4)";
const COUNT_IN_LINE: &str = "SELECT count(*) FROM (SELECT 1 FROM portfire_line \
    WHERE key = ?1 AND (rank, seq) < (?2, ?3) LIMIT ?4)";
const SELECT_KEY: &str =
    "SELECT name, key, running, waiting, starts FROM portfire_key WHERE name = ?1";
const SELECT_PARTS: &str = "SELECT name, key, running, waiting, starts FROM portfire_key \
    WHERE name >= ?1 AND name < ?2 AND (running > 0 OR waiting > 0) ORDER BY name LIMIT ?3";
const SELECT_KIND: &str = "SELECT k.kind, t.processing FROM portfire_kind k \
    JOIN portfire_tally t ON t.queue = -k.kind WHERE k.name = ?1";
const SELECT_KIND_NAME: &str = "SELECT name FROM portfire_kind WHERE kind = ?1";
const SELECT_HOLDERS_OF_KIND: &str = "SELECT j.id FROM portfire_running r \
    CROSS JOIN portfire_job j ON j.seq = r.seq WHERE j.kind = ?1 ORDER BY r.seq LIMIT ?2";
const SELECT_HOLDERS: &str = "SELECT j.id, j.seq, j.ties FROM portfire_running r \
    CROSS JOIN portfire_job j ON j.seq = r.seq WHERE instr(j.ties, ?1) > 0 ORDER BY r.seq";

/// Up to so many jobs ahead are counted.
const AHEAD_MAX: i64 = 10_000;
/// So many holders of a limit are named.
const HOLDERS_MAX: usize = 10;

/// What holds back a job, when it is enqueued.
pub(crate) fn waiting(
    conn: &Connection,
    now: Timestamp,
    id: JobId,
) -> Result<Option<WaitingRecord>, Failure> {
    let Some(body) = row::find_body(conn, id)? else { return Ok(None) };
    let count = |sql: &str, key: i64, rank: i64, place: i64| -> Result<i64, Failure> {
        let values = params![key, rank, place, AHEAD_MAX];
        Ok(conn.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
    };
    let shelf = shelves::key(body.queue, body.kind);
    let (mut waiting, enqueued_at) = match row::stand(conn, &body)?.row {
        At::Ready { place, enqueued_at } | At::Aside { place, enqueued_at } => {
            let ready = count(COUNT_BEFORE, body.queue, body.rank, place)?;
            let ahead = ready + count(COUNT_BEFORE, shelf, body.rank, place)?;
            (WaitingRecord::behind(ahead.min(AHEAD_MAX).unsigned_abs()), enqueued_at)
        }
        At::Apart { turn, enqueued_at } => {
            let [queue, rank, place] = suspects::key(body.queue, turn);
            let ahead = count(COUNT_BEFORE, queue, rank, place)?;
            (WaitingRecord::behind(ahead.unsigned_abs()), enqueued_at)
        }
        At::InLine { key, enqueued_at } => {
            let ahead = count(COUNT_IN_LINE, key, body.rank, body.seq)?;
            let name = keys::name(conn, key)?;
            let waiting = WaitingRecord {
                holders: holders(conn, &name)?,
                limit: Some(of_name(conn, now, &name)?),
                ..WaitingRecord::behind(ahead.unsigned_abs())
            };
            (waiting, enqueued_at)
        }
        _ => return Ok(None),
    };
    let name: String =
        conn.prepare_cached(SELECT_KIND_NAME)?.query_row([body.kind], |row| row.get(0))?;
    let place = (body.queue, body.kind);
    let (since, grace) = shelves::missing(conn, now, place, &KindName::stored(name))?;
    waiting.miss_handler(since, grace, enqueued_at.unwrap_or(body.created_at));
    Ok(Some(waiting))
}

/// What a key is at, by its name.
fn of_name(conn: &Connection, now: Timestamp, name: &str) -> Result<KeyRecord, Failure> {
    let rule = limits::rule_of(conn, name)?;
    let mut select = conn.prepare_cached(SELECT_KEY)?;
    let mut rows = select.query([name])?;
    let key = rows.next()?.map(|row| Key::read(row, 1)).transpose()?.unwrap_or_default();
    let mut record = record(name.to_owned(), &key, rule, now);
    if let Scope::Kind(kind) = scope(name) {
        let mut select = conn.prepare_cached(SELECT_KIND)?;
        let processing = select.query_row([kind], |row| row.get::<_, i64>(1)).optional()?;
        record.running = processing.unwrap_or(0).unsigned_abs();
    }
    Ok(record)
}

fn record(key: String, at: &Key, rule: Option<LimitRule>, now: Timestamp) -> KeyRecord {
    let state = at.state(None);
    let next_at = state.next_at(rule, now);
    KeyRecord { key, running: state.running, waiting: state.waiting, next_at }
}

/// The running jobs that use up a limit, in the order of their creation.
fn holders(conn: &Connection, name: &str) -> Result<Vec<JobId>, Failure> {
    let mut holders = Vec::new();
    if let Scope::Kind(kind) = scope(name) {
        let mut select = conn.prepare_cached(SELECT_KIND)?;
        let number: Option<i64> = select.query_row([kind], |row| row.get(0)).optional()?;
        let Some(number) = number else { return Ok(holders) };
        let mut select = conn.prepare_cached(SELECT_HOLDERS_OF_KIND)?;
        let values = params![number, HOLDERS_MAX as i64];
        let rows = select.query_map(values, |row| row.get(0).map(JobId::from_bytes))?;
        return Ok(rows.collect::<rusqlite::Result<_>>()?);
    }
    // The name of the limit stands in the ties as it is; of the partition that is not certain.
    let limit = name.split(':').next().unwrap_or_default();
    let mut select = conn.prepare_cached(SELECT_HOLDERS)?;
    let mut rows = select.query([limit])?;
    while holders.len() < HOLDERS_MAX
        && let Some(row) = rows.next()?
    {
        let text = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
        let ties = ties::decode(row.get(1)?, text)?;
        if ties.limits.iter().any(|limit| limit.key() == name) {
            holders.push(JobId::from_bytes(row.get(0)?));
        }
    }
    Ok(holders)
}

/// The keys of a limit that have running or waiting jobs, by key.
pub(crate) fn limit_keys(
    conn: &Connection,
    now: Timestamp,
    limit: &LimitName,
) -> Result<Vec<KeyRecord>, Failure> {
    let rule = limits::rule_of(conn, limit.as_str())?;
    let mut records = Vec::new();
    let whole = of_name(conn, now, limit.as_str())?;
    if whole.running > 0 || whole.waiting > 0 {
        records.push(whole);
    }
    let room = PAGE_MAX as usize - records.len();
    let mut select = conn.prepare_cached(SELECT_PARTS)?;
    // What begins with the name and a colon: a semicolon comes next to that.
    let values = params![format!("{limit}:"), format!("{limit};"), room as i64];
    let mut rows = select.query(values)?;
    while let Some(row) = rows.next()? {
        records.push(record(row.get(0)?, &Key::read(row, 1)?, rule, now));
    }
    Ok(records)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    COUNT_BEFORE,
    COUNT_IN_LINE,
    SELECT_KEY,
    SELECT_PARTS,
    SELECT_KIND,
    SELECT_KIND_NAME,
    SELECT_HOLDERS_OF_KIND,
    SELECT_HOLDERS,
];
