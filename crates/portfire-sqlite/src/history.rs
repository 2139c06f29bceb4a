//! The history of a job. Rows are written for the unusual; the usual path (created, promoted, claimed,
//! succeeded) is derived from the instants that the narrow rows keep anyway, and written down only
//! when something unusual follows.

use portfire_core::engine::history::folds_over;
use portfire_core::transition::Transition;
use portfire_core::{Cause, ErrorRecord, Folded, HistoryEntry, ServerId, StateName, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use crate::codes;
use crate::error::{Failure, corrupt};
use crate::row::{At, Body, Facts, Ran, Stand, instant, maybe_instant};
use crate::write::code;

const INSERT: &str = "INSERT INTO portfire_history (seq, revision, state, at, cause, server, \
    attempt, run_at, error_class, error_message, reason) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const FOLD: &str = "UPDATE portfire_history SET revision = ?3, at = ?4, server = ?5, attempt = ?6, \
    run_at = ?7, count = coalesce(count, 1) + 1, since = coalesce(since, at) \
    WHERE seq = ?1 AND revision = ?2 AND cause = ?8";
const SELECT: &str = "SELECT h.revision, h.state, h.at, h.cause, s.id, h.attempt, h.run_at, \
    h.error_class, h.error_message, h.reason, h.count, h.since FROM portfire_history h \
    LEFT JOIN portfire_server_id s ON s.server = h.server WHERE h.seq = ?1 ORDER BY h.revision";
const SELECT_ONE: &str = "SELECT h.revision, h.state, h.at, h.cause, s.id, h.attempt, h.run_at, \
    h.error_class, h.error_message, h.reason, h.count, h.since FROM portfire_history h \
    LEFT JOIN portfire_server_id s ON s.server = h.server WHERE h.seq = ?1 AND h.revision = ?2";
const SELECT_SERVER_ID: &str = "SELECT id FROM portfire_server_id WHERE server = ?1";

/// An entry that has no row: the usual path.
#[derive(Clone, Copy, Debug)]
struct Derived {
    revision: u32,
    state: StateName,
    at: Timestamp,
    cause: Cause,
    server: Option<i64>,
    attempt: Option<u32>,
    run_at: Option<Timestamp>,
}

/// Writes the entry of a transition.
pub(crate) fn insert(
    conn: &Connection,
    seq: i64,
    made: &Transition,
    now: Timestamp,
    facts: &Facts<'_>,
) -> rusqlite::Result<()> {
    // A rescue comes with the error of a poisoned job, whether or not it turns out to be one.
    let error = facts.error.filter(|_| made.cause != Cause::Rescued);
    conn.prepare_cached(INSERT)?.execute(rusqlite::params![
        seq,
        made.to.revision,
        code(made.to.state) as i64,
        now.as_micros(),
        codes::cause_code(made.cause),
        facts.server,
        facts.attempt,
        made.run_at.map(Timestamp::as_micros),
        error.map(|error| error.class.as_str()),
        error.map(|error| error.message.as_str()),
        facts.reason
    ])?;
    Ok(())
}

/// Folds the entry of a transition with the last one that is written, when that says the same and nothing else lies
/// between them than may. Says whether it did.
pub(crate) fn fold(
    conn: &Connection,
    body: &Body,
    from: &Stand,
    made: &Transition,
    now: Timestamp,
    facts: &Facts<'_>,
) -> rusqlite::Result<bool> {
    let Some(between) = folds_over(made.cause).filter(|_| from.written > 0) else {
        return Ok(false);
    };
    let derived: Vec<Derived> = derive(body, from).collect();
    if !derived.iter().map(|entry| &entry.cause).eq(between) {
        return Ok(false);
    }
    let server = derived.iter().find_map(|entry| entry.server);
    let folded = conn.prepare_cached(FOLD)?.execute(rusqlite::params![
        body.seq,
        from.written,
        made.to.revision,
        now.as_micros(),
        server,
        facts.attempt,
        made.run_at.map(Timestamp::as_micros),
        codes::cause_code(made.cause)
    ])?;
    Ok(folded > 0)
}

/// Writes the entries that were derived so far, so that an unusual one may follow.
pub(crate) fn write_down(conn: &Connection, body: &Body, stand: &Stand) -> rusqlite::Result<()> {
    for entry in derive(body, stand) {
        conn.prepare_cached(INSERT)?.execute(rusqlite::params![
            body.seq,
            entry.revision,
            code(entry.state) as i64,
            entry.at.as_micros(),
            codes::cause_code(entry.cause),
            entry.server,
            entry.attempt,
            entry.run_at.map(Timestamp::as_micros),
            None::<&str>,
            None::<&str>,
            None::<&str>
        ])?;
    }
    Ok(())
}

/// The whole history of a job.
pub(crate) fn read(
    conn: &Connection,
    body: &Body,
    stand: &Stand,
) -> Result<Vec<HistoryEntry>, Failure> {
    let mut entries = Vec::with_capacity(stand.standing.revision.min(64) as usize);
    if stand.written > 0 {
        let mut select = conn.prepare_cached(SELECT)?;
        let mut rows = select.query([body.seq])?;
        while let Some(row) = rows.next()? {
            entries.push(entry(row)?);
        }
    }
    for derived in derive(body, stand) {
        entries.push(with_server(conn, derived)?);
    }
    Ok(entries)
}

/// The last entry of a job's history: what moved it to where it stands.
pub(crate) fn last(conn: &Connection, body: &Body, stand: &Stand) -> Result<HistoryEntry, Failure> {
    at_revision(conn, body, stand, stand.standing.revision)
}

/// Whether the finish of this attempt, by this server, was the last that happened to the job.
pub(crate) fn stands_where_finished(
    conn: &Connection,
    body: &Body,
    stand: &Stand,
    server: &ServerId,
    attempt: u32,
) -> Result<bool, Failure> {
    if stand.standing.revision < 2 {
        return Ok(false);
    }
    let end = last(conn, body, stand)?;
    if end.cause == Cause::Claimed || end.attempt != Some(attempt) {
        return Ok(false);
    }
    // The claim of a folded end is folded into it.
    if end.folded.is_some() {
        return Ok(end.server.as_ref() == Some(server));
    }
    let claim = at_revision(conn, body, stand, stand.standing.revision - 1)?;
    Ok(claim.server.as_ref() == Some(server))
}

fn at_revision(
    conn: &Connection,
    body: &Body,
    stand: &Stand,
    revision: u32,
) -> Result<HistoryEntry, Failure> {
    if revision <= stand.written {
        let found = conn
            .prepare_cached(SELECT_ONE)?
            .query_row(rusqlite::params![body.seq, revision], entry)
            .optional()?;
        return found.ok_or_else(|| {
            corrupt(format!("job number {} has no history entry {revision}", body.seq))
        });
    }
    match derive(body, stand).find(|entry| entry.revision == revision) {
        Some(derived) => Ok(with_server(conn, derived)?),
        None => Err(corrupt(format!("job number {} never had revision {revision}", body.seq))),
    }
}

fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<HistoryEntry> {
    let class: Option<String> = row.get(7)?;
    let message: Option<String> = row.get(8)?;
    Ok(HistoryEntry {
        revision: row.get(0)?,
        state: codes::state(row.get(1)?)?,
        at: instant(row.get(2)?),
        cause: codes::cause(row.get(3)?)?,
        server: row.get::<_, Option<String>>(4)?.map(ServerId::new),
        attempt: row.get(5)?,
        run_at: maybe_instant(row, 6)?,
        error: class.zip(message).map(|(class, message)| ErrorRecord { class, message }),
        reason: row.get(9)?,
        folded: match (row.get(10)?, maybe_instant(row, 11)?) {
            (Some(count), Some(since)) => Some(Folded { count, since }),
            _ => None,
        },
    })
}

fn with_server(conn: &Connection, derived: Derived) -> rusqlite::Result<HistoryEntry> {
    let server = match derived.server {
        Some(number) => Some(server_id(conn, number)?),
        None => None,
    };
    Ok(HistoryEntry {
        revision: derived.revision,
        state: derived.state,
        at: derived.at,
        cause: derived.cause,
        server,
        attempt: derived.attempt,
        run_at: derived.run_at,
        error: None,
        reason: None,
        folded: None,
    })
}

/// The id of a server by its number.
pub(crate) fn server_id(conn: &Connection, number: i64) -> rusqlite::Result<ServerId> {
    let id: String =
        conn.prepare_cached(SELECT_SERVER_ID)?.query_row([number], |row| row.get(0))?;
    Ok(ServerId::new(id))
}

/// The entries after the last written one.
fn derive(body: &Body, stand: &Stand) -> impl Iterator<Item = Derived> + use<> {
    let revision = stand.standing.revision;
    let attempt = Some(stand.standing.attempt);
    let enqueued_at = |at: Option<Timestamp>| at.unwrap_or(body.created_at);
    // How the job left its queue, if it did: the claim, and the success.
    let (queued_at, claim, success) = match stand.row {
        At::Ready { enqueued_at: at, .. }
        | At::Apart { enqueued_at: at, .. }
        | At::Aside { enqueued_at: at, .. }
        | At::InLine { enqueued_at: at, .. } => (enqueued_at(at), None, None),
        At::Awaiting { .. } | At::Scheduled { .. } => (body.created_at, None, None),
        At::Running { server, claimed_at, enqueued_at: at, .. } => {
            (enqueued_at(at), Some((server, claimed_at)), None)
        }
        At::Finished {
            finished_at,
            ran: Some(Ran { server, claimed_at, enqueued_at: at, .. }),
            ..
        } => (enqueued_at(at), Some((server, claimed_at)), Some(finished_at)),
        At::Finished { finished_at, ran: None, .. } => (finished_at, None, None),
    };
    let claimed = revision - u32::from(success.is_some());
    let queued = claimed - u32::from(claim.is_some());

    let first = Derived {
        revision: 1,
        state: match body.run_at {
            _ if body.awaited => StateName::Awaiting,
            Some(_) => StateName::Scheduled,
            None => StateName::Enqueued,
        },
        at: body.created_at,
        cause: Cause::Created,
        server: None,
        attempt: None,
        run_at: body.run_at,
    };
    let none = Derived { run_at: None, ..first };
    let promotion = Derived {
        revision: queued,
        state: StateName::Enqueued,
        at: queued_at,
        // What was released after a wait of its own has its release written down.
        cause: match body.awaited && stand.written == 0 {
            true => Cause::Continued,
            false => Cause::Promoted,
        },
        ..none
    };
    let claim = claim.map(|(server, at)| Derived {
        revision: claimed,
        state: StateName::Processing,
        at,
        cause: Cause::Claimed,
        server: Some(server),
        attempt,
        ..none
    });
    let success = success.map(|at| Derived {
        revision,
        state: StateName::Succeeded,
        at,
        cause: Cause::Succeeded,
        attempt,
        ..none
    });

    let written = stand.written;
    let created = (written == 0).then_some(first);
    let promoted = (queued > written.max(1)).then_some(promotion);
    [created, promoted, claim, success].into_iter().flatten().filter(move |e| e.revision > written)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[INSERT, FOLD, SELECT, SELECT_ONE, SELECT_SERVER_ID];
