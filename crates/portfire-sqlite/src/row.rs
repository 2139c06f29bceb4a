//! A job as it is stored: its body, and the narrow row of the state it stands in.

use std::sync::Arc;
use std::time::Duration;

pub(crate) use portfire_core::engine::{
    Facts, Job as Body, Position as Stand, Ran, StateRow as At, must, transit,
};
use portfire_core::engine::{FirstRow, Move, Numbers};
use portfire_core::transition::Standing;
use portfire_core::{Cause, JobId, JobOptions, NewJob, StateName, Timestamp, When};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow};

use crate::error::{Failure, corrupt};
use crate::lines::{self, Waiter};
use crate::write::Write;
use crate::{codes, history, shelves, suspects, ties, told};

/// The columns of [`read_body`], of the table of bodies under the name `j`.
macro_rules! body_columns {
    () => {
        "j.seq, j.kind, j.queue, j.priority, j.created_at, j.run_at, j.options, j.ties, j.batch, \
         j.awaited, j.followed, j.crashes"
    };
}
pub(crate) use body_columns;

const SELECT_BODY: &str =
    concat!("SELECT ", body_columns!(), " FROM portfire_job j WHERE j.id = ?1");
const SELECT_BODY_BY_SEQ: &str =
    concat!("SELECT ", body_columns!(), " FROM portfire_job j WHERE j.seq = ?1");
const INSERT_NEW_READY: &str = "INSERT INTO portfire_ready (queue, rank, place, seq, enqueued_at, \
    revision, attempt, failures, recoveries, written) VALUES (?1, ?2, ?3, ?3, NULL, 1, 0, 0, 0, 0)";
const INSERT_NEW_SCHEDULED: &str = "INSERT INTO portfire_scheduled (run_at, seq, cause, \
    revision, attempt, failures, recoveries, written) VALUES (?1, ?2, ?3, 1, 0, 0, 0, 0)";

const SELECT_RUNNING: &str = "SELECT revision, attempt, failures, recoveries, written, server, \
    cycle, claimed_at, place, enqueued_at FROM portfire_running WHERE seq = ?1";
const SELECT_SUCCEEDED: &str = "SELECT revision, attempt, failures, recoveries, written, \
    finished_at, expires_at, server, claimed_at, enqueued_at, duration \
    FROM portfire_succeeded WHERE seq = ?1";
const SELECT_FAILED: &str = "SELECT revision, attempt, failures, recoveries, written, \
    finished_at, expires_at FROM portfire_failed WHERE seq = ?1";
const SELECT_DELETED: &str = "SELECT revision, attempt, failures, recoveries, written, \
    finished_at, expires_at FROM portfire_deleted WHERE seq = ?1";
const SELECT_READY_AT_SEQ: &str = "SELECT revision, attempt, failures, recoveries, written, place, \
    enqueued_at, queue FROM portfire_ready WHERE queue = ?1 AND rank = ?2 AND place = ?3";
pub(crate) const SELECT_READY_MOVED: &str = "SELECT revision, attempt, failures, recoveries, written, place, \
    enqueued_at, queue FROM portfire_ready WHERE seq = ?1 AND place <> seq";
const SELECT_SCHEDULED_AS_CREATED: &str = "SELECT revision, attempt, failures, recoveries, \
    written, run_at, cause FROM portfire_scheduled WHERE run_at = ?1 AND seq = ?2";
const SELECT_AWAITING: &str =
    "SELECT pending, start, delay, run_at FROM portfire_awaiting WHERE seq = ?1";
pub(crate) const SELECT_SCHEDULED_MOVED: &str = "SELECT revision, attempt, failures, recoveries, \
    written, run_at, cause FROM portfire_scheduled WHERE seq = ?1 AND written > 0";

const DELETE_READY: &str =
    "DELETE FROM portfire_ready WHERE queue = ?1 AND rank = ?2 AND place = ?3";
const DELETE_SCHEDULED: &str = "DELETE FROM portfire_scheduled WHERE run_at = ?1 AND seq = ?2";
const DELETE_RUNNING: &str = "DELETE FROM portfire_running WHERE seq = ?1";
const DELETE_SUCCEEDED: &str = "DELETE FROM portfire_succeeded WHERE seq = ?1";
const DELETE_FAILED: &str = "DELETE FROM portfire_failed WHERE seq = ?1";
const DELETE_DELETED: &str = "DELETE FROM portfire_deleted WHERE seq = ?1";
const DELETE_AWAITING: &str = "DELETE FROM portfire_awaiting WHERE seq = ?1";
const DELETE_RESULT: &str = "DELETE FROM portfire_result WHERE seq = ?1";

const INSERT_READY: &str = "INSERT INTO portfire_ready (queue, rank, place, seq, enqueued_at, \
    revision, attempt, failures, recoveries, written) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const INSERT_SCHEDULED: &str = "INSERT INTO portfire_scheduled (run_at, seq, cause, \
    revision, attempt, failures, recoveries, written) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const INSERT_RUNNING: &str = "INSERT INTO portfire_running (seq, server, cycle, claimed_at, place, \
    enqueued_at, revision, attempt, failures, recoveries, written) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const INSERT_SUCCEEDED: &str = "INSERT INTO portfire_succeeded (seq, finished_at, expires_at, \
    revision, attempt, failures, recoveries, written, server, claimed_at, enqueued_at, duration) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
const INSERT_FAILED: &str = "INSERT INTO portfire_failed (seq, finished_at, expires_at, \
    revision, attempt, failures, recoveries, written) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const INSERT_DELETED: &str = "INSERT INTO portfire_deleted (seq, finished_at, expires_at, \
    revision, attempt, failures, recoveries, written) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const INSERT_AWAITING: &str = "INSERT INTO portfire_awaiting (seq, pending, start, delay, run_at) \
    VALUES (?1, ?2, ?3, ?4, ?5)";
const UPDATE_CRASHES: &str = "UPDATE portfire_job SET crashes = ?2 WHERE seq = ?1";
const INSERT_RESULT: &str = "INSERT INTO portfire_result (seq, result) VALUES (?1, ?2)";

/// The body of the job with this id, when it is stored.
pub(crate) fn find_body(conn: &Connection, id: JobId) -> Result<Option<Body>, Failure> {
    let mut select = conn.prepare_cached(SELECT_BODY)?;
    let mut rows = select.query([id.as_bytes()])?;
    rows.next()?.map(|row| read_body(row, 0)).transpose()
}

/// The body with this number, when it is stored.
pub(crate) fn find_body_by_seq(conn: &Connection, seq: i64) -> Result<Option<Body>, Failure> {
    let mut select = conn.prepare_cached(SELECT_BODY_BY_SEQ)?;
    let mut rows = select.query([seq])?;
    rows.next()?.map(|row| read_body(row, 0)).transpose()
}

/// The body with this number, which another row names.
pub(crate) fn body(conn: &Connection, seq: i64) -> Result<Body, Failure> {
    let found = find_body_by_seq(conn, seq)?;
    found.ok_or_else(|| corrupt(format!("job number {seq} has a row but no body")))
}

/// Reads the columns of [`body_columns`], which begin at `first`.
pub(crate) fn read_body(row: &SqlRow<'_>, first: usize) -> Result<Body, Failure> {
    let text = |column: usize| {
        row.get_ref(first + column)?.as_str_or_null().map_err(rusqlite::Error::from)
    };
    let seq = row.get(first)?;
    let retention = match text(6)? {
        Some(text) => options(seq, text)?.retention,
        None => None,
    };
    Ok(Body {
        seq,
        kind: row.get(first + 1)?,
        queue: row.get(first + 2)?,
        rank: -row.get::<_, i64>(first + 3)?,
        created_at: instant(row.get(first + 4)?),
        run_at: maybe_instant(row, first + 5)?,
        retention,
        ties: text(7)?.map(|text| ties::decode(seq, text).map(Arc::new)).transpose()?,
        batch: row.get(first + 8)?,
        awaited: row.get(first + 9)?,
        followed: row.get(first + 10)?,
        crashes: row.get(first + 11)?,
    })
}

/// Reads the stored options of a call.
pub(crate) fn options(seq: i64, text: &str) -> Result<JobOptions, Failure> {
    serde_json::from_str(text)
        .map_err(|error| corrupt(format!("the options of job number {seq}: {error}")))
}

/// Finds the row of a job, by at most one look at each table.
pub(crate) fn stand(conn: &Connection, body: &Body) -> Result<Stand, Failure> {
    let mut found = find_row(conn, body)?;
    found.standing.crashes = body.crashes;
    Ok(found)
}

fn find_row(conn: &Connection, body: &Body) -> Result<Stand, Failure> {
    let look = |sql: &str, key: &[i64], state: StateName| -> Result<Option<Stand>, Failure> {
        let mut select = conn.prepare_cached(sql)?;
        let found = select.query_row(rusqlite::params_from_iter(key), |row| read(row, state));
        Ok(found.optional()?)
    };
    let seq = body.seq;
    if body.awaited {
        let found = conn
            .prepare_cached(SELECT_AWAITING)?
            .query_row([seq], |row| read_awaiting(row, 0))
            .optional()?;
        if let Some(found) = found {
            return Ok(found);
        }
    }
    let by_seq = [
        (SELECT_RUNNING, StateName::Processing),
        (SELECT_SUCCEEDED, StateName::Succeeded),
        (SELECT_FAILED, StateName::Failed),
        (SELECT_DELETED, StateName::Deleted),
    ];
    for (sql, state) in by_seq {
        if let Some(found) = look(sql, &[seq], state)? {
            return Ok(found);
        }
    }
    if let Some(run_at) = body.run_at {
        let key = [run_at.as_micros(), seq];
        if let Some(found) = look(SELECT_SCHEDULED_AS_CREATED, &key, StateName::Scheduled)? {
            return Ok(found);
        }
    }
    let key = [body.queue, body.rank, seq];
    let places = [
        (SELECT_READY_AT_SEQ, &key[..], StateName::Enqueued),
        (SELECT_READY_MOVED, &[seq][..], StateName::Enqueued),
        (SELECT_SCHEDULED_MOVED, &[seq][..], StateName::Scheduled),
    ];
    for (sql, key, state) in places {
        if let Some(found) = look(sql, key, state)? {
            return Ok(found);
        }
    }
    if let Some(in_line) = lines::find(conn, body)? {
        return Ok(in_line);
    }
    let key = [shelves::key(body.queue, body.kind), body.rank, seq];
    let aside = look(SELECT_READY_AT_SEQ, &key, StateName::Enqueued)?;
    aside.ok_or_else(|| corrupt(format!("job number {seq} has a body but stands nowhere")))
}

/// Reads a row of the table of a state, in the order of the statements above. The crashes are in the body.
fn read(row: &SqlRow<'_>, state: StateName) -> rusqlite::Result<Stand> {
    let standing = Standing {
        state,
        revision: row.get(0)?,
        attempt: row.get(1)?,
        failures: row.get(2)?,
        recoveries: row.get(3)?,
        crashes: 0,
    };
    let at = match state {
        StateName::Enqueued if shelves::is_shelf(row.get(7)?) => {
            At::Aside { place: row.get(5)?, enqueued_at: maybe_instant(row, 6)? }
        }
        StateName::Enqueued if row.get::<_, i64>(7)? < 0 => {
            At::Apart { turn: -row.get::<_, i64>(5)?, enqueued_at: maybe_instant(row, 6)? }
        }
        StateName::Enqueued => {
            At::Ready { place: row.get(5)?, enqueued_at: maybe_instant(row, 6)? }
        }
        StateName::Scheduled => {
            At::Scheduled { run_at: instant(row.get(5)?), cause: codes::cause(row.get(6)?)? }
        }
        StateName::Processing => At::Running {
            server: row.get(5)?,
            exchange: row.get(6)?,
            claimed_at: instant(row.get(7)?),
            place: row.get(8)?,
            enqueued_at: maybe_instant(row, 9)?,
        },
        _ => At::Finished {
            finished_at: instant(row.get(5)?),
            expires_at: maybe_instant(row, 6)?,
            ran: match state {
                StateName::Succeeded => Some(Ran {
                    server: row.get(7)?,
                    claimed_at: instant(row.get(8)?),
                    enqueued_at: maybe_instant(row, 9)?,
                    duration: row.get(10)?,
                }),
                _ => None,
            },
        },
    };
    Ok(Stand { standing, written: row.get(4)?, row: at })
}

/// Reads pending, start, delay and run_at of a job that is awaiting.
pub(crate) fn read_awaiting(row: &SqlRow<'_>, first: usize) -> rusqlite::Result<Stand> {
    let delay: Option<i64> = row.get(first + 2)?;
    let run_at = maybe_instant(row, first + 3)?;
    let when = match (delay, run_at) {
        (Some(micros), _) => When::In(Duration::from_micros(micros.unsigned_abs())),
        (None, Some(run_at)) => When::At(run_at),
        (None, None) => When::Now,
    };
    let at = At::Awaiting { pending: row.get(first)?, start: row.get(first + 1)?, when };
    // A job is awaiting from its creation or never.
    Ok(Stand { standing: Standing::created(StateName::Awaiting), written: 0, row: at })
}

/// Puts a new job where it stands first.
pub(crate) fn place(
    write: &mut Write<'_>,
    job: &NewJob,
    numbers: Numbers,
    row: FirstRow,
) -> rusqlite::Result<()> {
    let Numbers { seq, kind, queue } = numbers;
    let rank = -i64::from(job.priority);
    match row {
        FirstRow::Ready => write.statement(INSERT_NEW_READY)?.execute([queue, rank, seq])?,
        FirstRow::InLine(key) => Waiter::new(rank, seq, queue).insert(write, key)?,
        FirstRow::Scheduled(run_at) => {
            let values = [run_at.as_micros(), seq, codes::cause_code(Cause::Created)];
            write.statement(INSERT_NEW_SCHEDULED)?.execute(values)?
        }
        FirstRow::Awaiting { pending, start } => {
            insert_awaiting(write, seq, pending, start, job.when)?
        }
    };
    let run_at = match row {
        FirstRow::Scheduled(run_at) => Some(run_at),
        _ => None,
    };
    told::created(write, job, row.state(), run_at);
    write.count_created(queue, kind, row.state());
    if row.state() != StateName::Awaiting {
        write.hint_work();
    }
    Ok(())
}

/// Moves a job from row to row, with its history and the counters.
pub(crate) fn move_job(write: &mut Write<'_>, moved: Move<'_>) -> Result<(), Failure> {
    let Move { job, from, to, made, facts } = moved;
    if to.written == to.standing.revision
        && !history::fold(write.conn, job, from, made, write.now, facts)?
    {
        history::write_down(write.conn, job, from)?;
        history::insert(write.conn, job.seq, made, write.now, facts)?;
    }
    remove(write, job, from)?;
    insert(write, job, to)?;
    if let (StateName::Succeeded, Some(result)) = (made.to.state, facts.result) {
        let result = result.as_str();
        write.statement(INSERT_RESULT)?.execute(rusqlite::params![job.seq, result])?;
    }
    if made.to.crashes != from.standing.crashes {
        write.statement(UPDATE_CRASHES)?.execute([job.seq, i64::from(made.to.crashes)])?;
    }
    if let At::Running { server, .. } = from.row {
        write.count_held(server, -1);
        if from.standing.is_suspect() {
            suspects::end_trial(write, job.seq)?;
        }
    }
    if let Some(expires_at) = made.expires_at {
        write.note_expiry(job.seq, made.to.state, expires_at);
    }
    told::moved(write, job, from.standing.state, made, facts)?;
    write.count_moved(job.queue, job.kind, from.standing.state, made);
    Ok(())
}

/// Takes the row out of its table.
pub(crate) fn remove(write: &mut Write<'_>, body: &Body, from: &Stand) -> rusqlite::Result<()> {
    let gone = match from.row {
        At::Awaiting { .. } => write.statement(DELETE_AWAITING)?.execute([body.seq]),
        At::Ready { place, .. } => {
            write.statement(DELETE_READY)?.execute([body.queue, body.rank, place])
        }
        At::Apart { turn, .. } => {
            write.statement(DELETE_READY)?.execute(suspects::key(body.queue, turn))
        }
        At::Aside { place, .. } => {
            let key = [shelves::key(body.queue, body.kind), body.rank, place];
            write.statement(DELETE_READY)?.execute(key)
        }
        At::InLine { key, .. } => lines::remove(write, key, body),
        At::Scheduled { run_at, .. } => {
            write.statement(DELETE_SCHEDULED)?.execute([run_at.as_micros(), body.seq])
        }
        At::Running { .. } => write.statement(DELETE_RUNNING)?.execute([body.seq]),
        At::Finished { ran: Some(_), .. } => {
            write.statement(DELETE_RESULT)?.execute([body.seq])?;
            write.statement(DELETE_SUCCEEDED)?.execute([body.seq])
        }
        At::Finished { ran: None, .. } if from.standing.state == StateName::Failed => {
            write.statement(DELETE_FAILED)?.execute([body.seq])
        }
        At::Finished { ran: None, .. } => write.statement(DELETE_DELETED)?.execute([body.seq]),
    }?;
    debug_assert_eq!(gone, 1, "{from:?}");
    Ok(())
}

/// Puts the row into its table.
fn insert(write: &mut Write<'_>, body: &Body, to: &Stand) -> rusqlite::Result<()> {
    // The crashes stand in the body.
    let Standing { state, revision, attempt, failures, recoveries, crashes: _ } = to.standing;
    let written = to.written;
    let micros = |at: Option<Timestamp>| at.map(Timestamp::as_micros);
    match to.row {
        At::Awaiting { pending, start, when } => {
            insert_awaiting(write, body.seq, pending, start, when)
        }
        At::Ready { enqueued_at, .. }
        | At::Apart { enqueued_at, .. }
        | At::Aside { enqueued_at, .. } => {
            let [queue, rank, place] = match to.row {
                At::Apart { turn, .. } => suspects::key(body.queue, turn),
                At::Aside { place, .. } => [shelves::key(body.queue, body.kind), body.rank, place],
                At::Ready { place, .. } => [body.queue, body.rank, place],
                _ => unreachable!("matched above"),
            };
            write.statement(INSERT_READY)?.execute(rusqlite::params![
                queue,
                rank,
                place,
                body.seq,
                micros(enqueued_at),
                revision,
                attempt,
                failures,
                recoveries,
                written
            ])
        }
        At::InLine { key, enqueued_at } => {
            let (seq, queue, rank) = (body.seq, body.queue, body.rank);
            let standing = to.standing;
            Waiter { rank, seq, queue, enqueued_at, standing, written }.insert(write, key)
        }
        At::Scheduled { run_at, cause } => {
            write.statement(INSERT_SCHEDULED)?.execute(rusqlite::params![
                run_at.as_micros(),
                body.seq,
                codes::cause_code(cause),
                revision,
                attempt,
                failures,
                recoveries,
                written
            ])
        }
        At::Running { server, exchange, claimed_at, place, enqueued_at } => {
            write.statement(INSERT_RUNNING)?.execute(rusqlite::params![
                body.seq,
                server,
                exchange,
                claimed_at.as_micros(),
                place,
                micros(enqueued_at),
                revision,
                attempt,
                failures,
                recoveries,
                written
            ])
        }
        At::Finished { finished_at, expires_at, ran: Some(ran) } => {
            write.statement(INSERT_SUCCEEDED)?.execute(rusqlite::params![
                body.seq,
                finished_at.as_micros(),
                micros(expires_at),
                revision,
                attempt,
                failures,
                recoveries,
                written,
                ran.server,
                ran.claimed_at.as_micros(),
                micros(ran.enqueued_at),
                ran.duration
            ])
        }
        At::Finished { finished_at, expires_at, ran: None } => {
            let failed = state == StateName::Failed;
            let sql = if failed { INSERT_FAILED } else { INSERT_DELETED };
            write.statement(sql)?.execute(rusqlite::params![
                body.seq,
                finished_at.as_micros(),
                micros(expires_at),
                revision,
                attempt,
                failures,
                recoveries,
                written
            ])
        }
    }?;
    Ok(())
}

/// Puts a job where it waits for others.
fn insert_awaiting(
    write: &mut Write<'_>,
    seq: i64,
    pending: u32,
    start: bool,
    when: When,
) -> rusqlite::Result<usize> {
    let (delay, run_at) = match when {
        When::In(delay) => (i64::try_from(delay.as_micros()).ok(), None),
        When::At(run_at) => (None, Some(run_at.as_micros())),
        When::Now => (None, None),
        // To store it as one of those above would run the job at the wrong time.
        other => {
            let unknown = format!("{other:?} cannot be stored by this version");
            return Err(rusqlite::Error::ToSqlConversionFailure(unknown.into()));
        }
    };
    let values = rusqlite::params![seq, pending, start, delay, run_at];
    write.statement(INSERT_AWAITING)?.execute(values)
}

/// A stored instant.
pub(crate) fn instant(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

pub(crate) fn maybe_instant(
    row: &SqlRow<'_>,
    column: usize,
) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(instant))
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT_NEW_READY,
    INSERT_NEW_SCHEDULED,
    SELECT_BODY,
    SELECT_BODY_BY_SEQ,
    SELECT_RUNNING,
    SELECT_SUCCEEDED,
    SELECT_FAILED,
    SELECT_DELETED,
    SELECT_READY_AT_SEQ,
    SELECT_READY_MOVED,
    SELECT_SCHEDULED_AS_CREATED,
    SELECT_SCHEDULED_MOVED,
    SELECT_AWAITING,
    DELETE_AWAITING,
    INSERT_AWAITING,
    DELETE_READY,
    DELETE_SCHEDULED,
    DELETE_RUNNING,
    DELETE_SUCCEEDED,
    DELETE_FAILED,
    DELETE_DELETED,
    DELETE_RESULT,
    INSERT_READY,
    INSERT_SCHEDULED,
    INSERT_RUNNING,
    INSERT_SUCCEEDED,
    INSERT_FAILED,
    INSERT_DELETED,
    INSERT_RESULT,
    UPDATE_CRASHES,
];
