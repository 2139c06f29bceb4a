//! Servers: their leases, what they hold, and what becomes of it when they end.

use portfire_core::engine::attempts;
use portfire_core::storage::BATCH_MAX;
use portfire_core::{
    Claim, ErrorRecord, Event, Lost, LostReason, NewServer, RescueRequest, Rescued, ServerId,
    StateName, StorageError, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::cycle::is_held;
use crate::error::{Failure, corrupt};
use crate::process::Process;
use crate::row::{self, Facts, must};
use crate::write::Write;
use crate::{shelves, suspects};

const SELECT_ALIVE: &str = "SELECT s.server FROM portfire_server_id i \
    CROSS JOIN portfire_server s ON s.server = i.server WHERE i.id = ?1 AND s.died_at IS NULL";
const SELECT_KNOWN: &str = "SELECT 1 FROM portfire_server_id WHERE id = ?1";
const INSERT_ID: &str = "INSERT INTO portfire_server_id (id) VALUES (?1)";
const INSERT_SERVER: &str = "INSERT INTO portfire_server (server, name, queues, workers, lease, \
    started_at, heartbeat_at, died_at, processing, process, kinds) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, NULL, 0, ?7, ?8)";
const UPDATE_HEARTBEAT: &str =
    "UPDATE portfire_server SET heartbeat_at = ?2, process = ?3 WHERE server = ?1";
const UPDATE_DIED: &str =
    "UPDATE portfire_server SET died_at = ?2 WHERE server = ?1 AND died_at IS NULL";
const UPDATE_CRASHED: &str = "UPDATE portfire_server SET crashed_with = \
    (SELECT count(*) FROM portfire_running WHERE server = ?1) WHERE server = ?1";
const SELECT_HELD_OF: &str =
    "SELECT seq FROM portfire_running WHERE server = ?1 ORDER BY claimed_at, seq LIMIT ?2";
const SELECT_HOLDS: &str = "SELECT 1 FROM portfire_job j \
    CROSS JOIN portfire_running r ON r.seq = j.seq \
    WHERE j.seq = ?1 AND j.id = ?2 AND r.server = ?3 AND r.attempt = ?4";
const SELECT_LIVING: &str = "SELECT s.server, i.id, s.heartbeat_at, s.lease, s.process \
    FROM portfire_server s JOIN portfire_server_id i ON i.server = s.server \
    WHERE s.died_at IS NULL ORDER BY i.id";
const SELECT_PROCESSES: &str =
    "SELECT DISTINCT process FROM portfire_server WHERE died_at IS NULL AND process IS NOT NULL";
const SELECT_ORPHANED: &str = "SELECT s.server, i.id, s.processing, s.crashed_with FROM portfire_server s \
    JOIN portfire_server_id i ON i.server = s.server \
    WHERE s.died_at IS NOT NULL AND s.processing > 0 ORDER BY i.id";

/// The number of a server that is alive.
pub(crate) fn alive(conn: &Connection, id: &ServerId) -> Result<i64, Failure> {
    let found =
        conn.prepare_cached(SELECT_ALIVE)?.query_row([id.as_str()], |row| row.get(0)).optional()?;
    found.ok_or_else(|| StorageError::ServerGone { server: id.clone() }.into())
}

/// Makes a server known, or renews its lease.
pub(crate) fn announce(write: &mut Write<'_>, server: &NewServer) -> Result<(), Failure> {
    let id = server.id.as_str();
    if write.conn.prepare_cached(SELECT_KNOWN)?.exists([id])? {
        let number = alive(write.conn, &server.id)?;
        return renew(write, number);
    }
    shelves::resume_clocks(write)?;
    let number = write.conn.prepare_cached(INSERT_ID)?.insert([id])?;
    let unwritable = |error| corrupt(format!("the queues and kinds of server {id}: {error}"));
    let queues = serde_json::to_string(&server.queues).map_err(unwritable)?;
    let kinds = serde_json::to_string(&server.kinds).map_err(unwritable)?;
    let lease = i64::try_from(server.lease.as_micros()).unwrap_or(i64::MAX);
    let now = write.now.as_micros();
    let process = write.process.as_deref_mut().and_then(Process::name);
    let values = params![number, server.name, queues, server.workers, lease, now, process, kinds];
    write.conn.prepare_cached(INSERT_SERVER)?.execute(values)?;
    write.touch();
    Ok(())
}

/// Renews a server's lease, and tells which of the jobs it holds no longer.
pub(crate) fn heartbeat(
    write: &mut Write<'_>,
    id: &ServerId,
    held: &[Claim],
) -> Result<Vec<Lost>, Failure> {
    let server = alive(write.conn, id)?;
    renew(write, server)?;
    lost(write.conn, server, held)
}

fn renew(write: &mut Write<'_>, server: i64) -> Result<(), Failure> {
    shelves::resume_clocks(write)?;
    let process = write.process.as_deref_mut().and_then(Process::name);
    let values = params![server, write.now.as_micros(), process];
    write.conn.prepare_cached(UPDATE_HEARTBEAT)?.execute(values)?;
    write.touch();
    Ok(())
}

/// Tells which of the jobs a server holds no longer.
pub(crate) fn verify(
    conn: &Connection,
    id: &ServerId,
    held: &[Claim],
) -> Result<Vec<Lost>, Failure> {
    let server = alive(conn, id)?;
    lost(conn, server, held)
}

fn lost(conn: &Connection, server: i64, held: &[Claim]) -> Result<Vec<Lost>, Failure> {
    let mut lost = Vec::new();
    for &claim in held {
        let values = params![claim.locator, claim.job.as_bytes(), server, claim.attempt];
        if conn.prepare_cached(SELECT_HOLDS)?.exists(values)? {
            continue;
        }
        if let Some(reason) = lost_reason(conn, server, claim)? {
            lost.push(Lost { claim, reason });
        }
    }
    Ok(lost)
}

fn lost_reason(
    conn: &Connection,
    server: i64,
    claim: Claim,
) -> Result<Option<LostReason>, Failure> {
    let Some(body) = row::find_body(conn, claim.job)? else {
        return Ok(attempts::lost(None, false));
    };
    let stand = row::stand(conn, &body)?;
    let holds = is_held(&stand, server, claim.attempt);
    Ok(attempts::lost(Some(stand.standing.state), holds))
}

/// Ends a server in good order.
pub(crate) fn retire(write: &mut Write<'_>, id: &ServerId) -> Result<(), Failure> {
    let server = match alive(write.conn, id) {
        Ok(server) => server,
        Err(Failure::Refused(StorageError::ServerGone { .. })) => return Ok(()),
        Err(error) => return Err(error),
    };
    die(write, server)?;
    for seq in held_of(write.conn, server, i64::MAX)? {
        let body = row::body(write.conn, seq)?;
        let from = row::stand(write.conn, &body)?;
        must(write, &body, &from, Event::Release, &Facts::default())?;
    }
    Ok(())
}

fn die(write: &mut Write<'_>, server: i64) -> Result<(), Failure> {
    write.conn.prepare_cached(UPDATE_DIED)?.execute([server, write.now.as_micros()])?;
    write.touch();
    write.hint_control();
    Ok(())
}

fn held_of(conn: &Connection, server: i64, max: i64) -> rusqlite::Result<Vec<i64>> {
    let mut select = conn.prepare_cached(SELECT_HELD_OF)?;
    let rows = select.query_map([server, max], |row| row.get(0))?;
    rows.collect()
}

/// Declares dead what has lapsed or whose process has ended, and returns the jobs of the dead.
pub(crate) fn rescue(write: &mut Write<'_>, request: &RescueRequest) -> Result<Rescued, Failure> {
    let mut rescued = Rescued { dead: declare_dead(write)?, ..Rescued::default() };
    // What they hold is counted by statements, and others of this commit may have claimed for them.
    write.flush_held()?;
    let mut room = (request.max as usize).min(BATCH_MAX) as i64;
    for Orphaned { server, id, processing, crashed_with } in orphaned(write.conn)? {
        let taken = held_of(write.conn, server, room)?;
        room -= taken.len() as i64;
        rescued.more |= (taken.len() as i64) < processing;
        for seq in taken {
            let body = row::body(write.conn, seq)?;
            let from = row::stand(write.conn, &body)?;
            let error = ErrorRecord::poison(&id, from.standing.recoveries);
            let loss = suspects::loss(write.conn, server, crashed_with, &from.row)?;
            let reason = Some(loss.reason());
            let facts =
                Facts { server: Some(server), error: Some(&error), reason, ..Facts::default() };
            let event = Event::Rescue { loss, recoveries_max: request.recoveries_max };
            match must(write, &body, &from, event, &facts)?.state {
                StateName::Failed => rescued.poisoned += 1,
                _ => rescued.returned += 1,
            }
        }
    }
    let unhandled = shelves::fail_unhandled(write, request.unknown_kind_grace, request.max)?;
    rescued.unhandled = unhandled as u32;
    rescued.more |= unhandled > 0 && unhandled == (request.max as usize).min(BATCH_MAX);
    Ok(rescued)
}

/// A server that is not dead, as death is decided.
struct Living {
    server: i64,
    id: ServerId,
    lease_until: Timestamp,
    process: Option<String>,
}

fn declare_dead(write: &mut Write<'_>) -> Result<Vec<ServerId>, Failure> {
    let living: Vec<Living> = {
        let mut select = write.conn.prepare_cached(SELECT_LIVING)?;
        let rows = select.query_map([], |row| {
            Ok(Living {
                server: row.get(0)?,
                id: ServerId::new(row.get::<_, String>(1)?),
                lease_until: lease_until(row.get(2)?, row.get(3)?),
                process: row.get(4)?,
            })
        })?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut dead = Vec::new();
    for server in living {
        let process = server.process.as_deref();
        let has_ended = has_ended(write, process);
        if server.lease_until <= write.now || has_ended {
            die(write, server.server)?;
            if has_ended || !lives(write, process) {
                write.conn.prepare_cached(UPDATE_CRASHED)?.execute([server.server])?;
            }
            dead.push(server.id);
        }
    }
    Ok(dead)
}

fn has_ended(write: &Write<'_>, process: Option<&str>) -> bool {
    let Some((own, name)) = write.process.as_deref().zip(process) else { return false };
    let ended = own.has_ended(name);
    if ended {
        own.remove_later(name);
    }
    ended
}

fn lives(write: &Write<'_>, process: Option<&str>) -> bool {
    write.process.as_deref().zip(process).is_some_and(|(own, name)| own.lives(name))
}

/// The names of the processes whose servers are alive.
pub(crate) fn processes(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut select = conn.prepare_cached(SELECT_PROCESSES)?;
    select.query_map([], |row| row.get(0))?.collect()
}

/// Until when a server is alive without another heartbeat.
pub(crate) fn lease_until(heartbeat_at: i64, lease: i64) -> Timestamp {
    Timestamp::from_micros(heartbeat_at.saturating_add(lease))
}

/// A dead server that still holds jobs.
struct Orphaned {
    server: i64,
    id: ServerId,
    processing: i64,
    crashed_with: Option<i64>,
}

fn orphaned(conn: &Connection) -> rusqlite::Result<Vec<Orphaned>> {
    let mut select = conn.prepare_cached(SELECT_ORPHANED)?;
    let rows = select.query_map([], |row| {
        let id = ServerId::new(row.get::<_, String>(1)?);
        let (server, processing, crashed_with) = (row.get(0)?, row.get(2)?, row.get(3)?);
        Ok(Orphaned { server, id, processing, crashed_with })
    })?;
    rows.collect()
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_ALIVE,
    SELECT_KNOWN,
    INSERT_ID,
    INSERT_SERVER,
    UPDATE_HEARTBEAT,
    UPDATE_DIED,
    UPDATE_CRASHED,
    SELECT_HELD_OF,
    SELECT_HOLDS,
    SELECT_LIVING,
    SELECT_PROCESSES,
    SELECT_ORPHANED,
];
