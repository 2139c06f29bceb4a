//! What the keys of limits are at: their running and waiting jobs, and their starts.
//!
//! A transaction reads a key once and writes it once, however many of its jobs it moves.

use std::collections::HashMap;
use std::time::Duration;

use portfire_core::engine::limits::{KeyState, Look, Scope, forget_at, scope};
use portfire_core::limit::RateWindow;
use portfire_core::storage::BATCH_MAX;
use portfire_core::{LimitRule, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use crate::error::{Failure, corrupt};
use crate::limits;
use crate::row::instant;
use crate::write::Write;

const SELECT_KEY: &str = "SELECT key, running, waiting, starts FROM portfire_key WHERE name = ?1";
const SELECT_NAME: &str = "SELECT name FROM portfire_key WHERE key = ?1";
const UPSERT_KEY: &str = "INSERT INTO portfire_key (name, key, running, waiting, starts, wake_at, \
    forget_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (name) DO UPDATE SET key = ?2, \
    running = ?3, waiting = ?4, starts = ?5, wake_at = ?6, forget_at = ?7";
const DELETE_KEY: &str = "DELETE FROM portfire_key WHERE name = ?1";
const SELECT_DUE: &str = "SELECT name FROM portfire_key WHERE wake_at <= ?1 LIMIT ?2";
const SELECT_NEXT: &str =
    "SELECT wake_at FROM portfire_key WHERE wake_at > ?1 ORDER BY wake_at LIMIT 1";
const SELECT_UNRULED: &str = "SELECT 1 FROM portfire_key WHERE wake_at = -1 LIMIT 1";
const UPDATE_LINES: &str = "UPDATE portfire_key SET wake_at = ?4 \
    WHERE (name = ?1 OR name >= ?2 AND name < ?3) AND waiting > 0 AND wake_at IS NOT ?4";
const UPDATE_STARTS: &str = "UPDATE portfire_key SET forget_at = 0 \
    WHERE (name = ?1 OR name >= ?2 AND name < ?3) AND starts IS NOT NULL AND forget_at > 0";
const SELECT_FORGOTTEN: &str = "SELECT name FROM portfire_key \
    WHERE forget_at <= ?1 AND running = 0 AND waiting = 0 LIMIT ?2";

/// How [`Look::Unruled`] and [`Look::AtOnce`] are stored; at any time they are due.
const UNRULED: i64 = -1;
const AT_ONCE: i64 = 0;

/// When a promotion has to look, as it is stored.
fn stored(look: Look) -> Option<i64> {
    match look {
        Look::Never => None,
        Look::AtOnce => Some(AT_ONCE),
        Look::Unruled => Some(UNRULED),
        Look::At(at) => Some(at.as_micros()),
    }
}

/// Most keys that are remembered from one transaction to the next; then all are forgotten.
const KNOWN_MAX: usize = 10_000;

/// The keys that were met, as they are in this transaction.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: HashMap<String, Key>,
    /// The names of those that were given a number, which may not be written yet.
    numbered: HashMap<i64, String>,
    /// The names of those that have changed.
    changed: Vec<String>,
    /// Keys of jobs that have left `processing` in this call, or their queue without being claimed.
    pub(crate) freed: Vec<String>,
}

/// What a key is at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Key {
    /// Under which lines name it, once it has had one.
    number: Option<i64>,
    /// Running jobs; those of a whole kind are counted elsewhere.
    pub(crate) running: i64,
    pub(crate) waiting: i64,
    pub(crate) starts: RateWindow,
    is_stored: bool,
    has_changed: bool,
}

impl Keys {
    /// Forgets what may have been undone, or changed by others.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
        self.numbered.clear();
        self.changed.clear();
        self.freed.clear();
    }

    /// Forgets what an operation has done that is undone; before it these were freed.
    pub(crate) fn undo(&mut self, freed: Vec<String>) {
        self.forget();
        self.freed = freed;
    }

    /// Forgets what is too much to remember, when all of it is written.
    pub(crate) fn shrink(&mut self) {
        if self.known.len() > KNOWN_MAX {
            self.forget();
        }
    }
}

impl Key {
    /// Reads number, running, waiting and starts.
    pub(crate) fn read(row: &SqlRow<'_>, first: usize) -> Result<Key, Failure> {
        let text = row.get_ref(first + 3)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        let starts = text.map(serde_json::from_str).transpose();
        let starts: Option<RateWindow> =
            starts.map_err(|error| corrupt(format!("the starts of a limit: {error}")))?;
        Ok(Key {
            number: row.get(first)?,
            running: row.get(first + 1)?,
            waiting: row.get(first + 2)?,
            starts: starts.unwrap_or_default(),
            is_stored: true,
            has_changed: false,
        })
    }
}

impl Key {
    /// What a rule looks at. Of a whole kind the running jobs are counted elsewhere.
    pub(crate) fn state(&self, of_kind: Option<i64>) -> KeyState<'_> {
        let count = |jobs: i64| u64::try_from(jobs).unwrap_or(0);
        KeyState {
            running: count(of_kind.unwrap_or(self.running)),
            waiting: count(self.waiting),
            starts: &self.starts,
        }
    }
}

/// What a key is at, as it was read once.
pub(crate) fn key<'w>(write: &'w mut Write<'_>, name: &str) -> Result<&'w mut Key, Failure> {
    if !write.keys.known.contains_key(name) {
        let mut select = write.conn.prepare_cached(SELECT_KEY)?;
        let mut rows = select.query([name])?;
        let key = rows.next()?.map(|row| Key::read(row, 0)).transpose()?;
        write.keys.known.insert(name.to_owned(), key.unwrap_or_default());
    }
    let key = write.keys.known.get_mut(name);
    key.ok_or_else(|| corrupt(format!("the limit {name} was read and is not there")))
}

/// Changes what a key is at.
pub(crate) fn change(
    write: &mut Write<'_>,
    name: &str,
    act: impl FnOnce(&mut Key),
) -> Result<(), Failure> {
    let key = key(write, name)?;
    act(key);
    debug_assert!(key.running >= 0 && key.waiting >= 0, "{name}: {key:?}");
    if !std::mem::replace(&mut key.has_changed, true) {
        write.keys.changed.push(name.to_owned());
        write.touch();
    }
    Ok(())
}

/// The number of a key, which is drawn when it has none.
pub(crate) fn number(write: &mut Write<'_>, name: &str) -> Result<i64, Failure> {
    if let Some(number) = key(write, name)?.number {
        return Ok(number);
    }
    let number = write.draw();
    change(write, name, |key| key.number = Some(number))?;
    write.keys.numbered.insert(number, name.to_owned());
    Ok(number)
}

/// The key with this number, as it may not be written yet.
pub(crate) fn numbered(write: &Write<'_>, number: i64) -> Result<String, Failure> {
    match write.keys.numbered.get(&number) {
        Some(name) => Ok(name.clone()),
        None => name(write.conn, number),
    }
}

/// The key with this number.
pub(crate) fn name(conn: &Connection, number: i64) -> Result<String, Failure> {
    let found =
        conn.prepare_cached(SELECT_NAME)?.query_row([number], |row| row.get(0)).optional()?;
    found.ok_or_else(|| {
        corrupt(format!("a job stands in the line of limit {number}, which is gone"))
    })
}

/// Writes the keys that have changed.
pub(crate) fn flush(write: &mut Write<'_>) -> Result<(), Failure> {
    // In this order what is stored is the same each time.
    let mut names = std::mem::take(&mut write.keys.changed);
    names.sort_unstable();
    for name in names {
        let wake_at = wake_at(write, &name)?;
        let (conn, now) = (write.conn, write.now);
        let has_starts = !key(write, &name)?.starts.is_empty();
        let rate = match has_starts {
            true => write.names.rules(conn)?.of_key(&name).and_then(|rule| rule.rate),
            false => None,
        };
        let key = key(write, &name)?;
        key.has_changed = false;
        if key.running == 0 && key.waiting == 0 && !has_starts {
            if std::mem::take(key).is_stored {
                conn.prepare_cached(DELETE_KEY)?.execute([name])?;
            }
            continue;
        }
        let starts = has_starts.then(|| serde_json::to_string(&key.starts)).transpose();
        let starts = starts.map_err(|error| corrupt(format!("the limit {name}: {error}")))?;
        let forget_at = has_starts.then(|| forget_at(&key.starts, rate, now).as_micros());
        let (number, running, waiting) = (key.number, key.running, key.waiting);
        let values = params![name, number, running, waiting, starts, wake_at, forget_at];
        conn.prepare_cached(UPSERT_KEY)?.execute(values)?;
        key.is_stored = true;
    }
    write.keys.numbered.clear();
    Ok(())
}

/// When `promote` has to look at the line of a key, or at a queue whose rate is used up.
fn wake_at(write: &mut Write<'_>, name: &str) -> Result<Option<i64>, Failure> {
    let now = write.now;
    if matches!(scope(name), Scope::Queue(_)) {
        let rule = write.names.rules(write.conn)?.of_key(name);
        let next_at = key(write, name)?.state(None).next_at(rule, now);
        return Ok(next_at.map(Timestamp::as_micros));
    }
    if key(write, name)?.waiting == 0 {
        return Ok(None);
    }
    let (state, rule) = limits::of_key(write, name)?;
    Ok(stored(state.look(rule, now)))
}

/// The keys whose lines `promote` has to look at, by name; and those of queues that have something left of
/// their rate again.
pub(crate) fn due(write: &mut Write<'_>) -> Result<Vec<String>, Failure> {
    flush(write)?;
    let mut names: Vec<String> = {
        let mut select = write.conn.prepare_cached(SELECT_DUE)?;
        let values = params![write.now.as_micros(), BATCH_MAX as i64];
        let rows = select.query_map(values, |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    names.sort_unstable();
    // A rate has let the next start meanwhile; whether a slot is free shows when it is written.
    for name in &names {
        change(write, name, |_| ())?;
    }
    Ok(names)
}

/// Time until a rate lets someone start again; zero when a line has no rule any more.
pub(crate) fn next_in(write: &mut Write<'_>) -> Result<Option<Duration>, Failure> {
    flush(write)?;
    if write.conn.prepare_cached(SELECT_UNRULED)?.exists([])? {
        return Ok(Some(Duration::ZERO));
    }
    let now = write.now;
    let mut select = write.conn.prepare_cached(SELECT_NEXT)?;
    let next: Option<i64> = select.query_row([now.as_micros()], |row| row.get(0)).optional()?;
    Ok(next.map(|at| instant(at).since(now)))
}

/// The rule of a limit has changed: `promote` looks at its lines, and `clean` at its starts, as soon as they come.
pub(crate) fn look_again(
    write: &mut Write<'_>,
    limit: &str,
    rule: Option<LimitRule>,
) -> Result<(), Failure> {
    // Keys that this transaction has changed are written behind this anyway.
    let wake_at = stored(Look::after_change(rule));
    // What begins with the name and a colon: a semicolon comes next to that.
    let (first, end) = (format!("{limit}:"), format!("{limit};"));
    write.conn.prepare_cached(UPDATE_LINES)?.execute(params![limit, first, end, wake_at])?;
    write.conn.prepare_cached(UPDATE_STARTS)?.execute(params![limit, first, end])?;
    Ok(())
}

/// Forgets starts that no longer count, of keys without jobs.
pub(crate) fn clean(write: &mut Write<'_>) -> Result<(), Failure> {
    flush(write)?;
    let names: Vec<String> = {
        let mut select = write.conn.prepare_cached(SELECT_FORGOTTEN)?;
        let values = params![write.now.as_micros(), BATCH_MAX as i64];
        let rows = select.query_map(values, |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let now = write.now;
    for name in names {
        let rate = write.names.rules(write.conn)?.of_key(&name).and_then(|rule| rule.rate);
        change(write, &name, |key| {
            // The rule may have changed since it was said when they are forgotten.
            if forget_at(&key.starts, rate, now) <= now {
                key.starts = RateWindow::default();
            }
        })?;
    }
    Ok(())
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_KEY,
    SELECT_NAME,
    UPSERT_KEY,
    DELETE_KEY,
    SELECT_DUE,
    SELECT_NEXT,
    SELECT_UNRULED,
    UPDATE_LINES,
    UPDATE_STARTS,
    SELECT_FORGOTTEN,
];
