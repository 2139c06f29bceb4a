//! A job as it is stored: its body, and the narrow row of the state it stands in.

use std::time::Duration;

use portfire_core::transition::{Place, Standing, Transition, next};
use portfire_core::{
    Cause, ErrorRecord, Event, JobId, JobOptions, Json, Refusal, Retention, StateName, Ties,
    Timestamp, When,
};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow};

use crate::error::{Failure, corrupt};
use crate::lines::{self, Waiter};
use crate::write::Write;
use crate::{history, limits, ties};

/// What the other rows need of a job's body.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) seq: i64,
    pub(crate) kind: i64,
    pub(crate) queue: i64,
    pub(crate) rank: i64,
    pub(crate) created_at: Timestamp,
    /// Set when the job was created scheduled.
    pub(crate) run_at: Option<Timestamp>,
    /// Set when the call said how long to keep it.
    pub(crate) retention: Option<Retention>,
    /// What ties it to others, but for its batch.
    pub(crate) ties: Option<Box<Ties>>,
    /// The number of the batch it is a member of.
    pub(crate) batch: Option<i64>,
    /// Whether it was created awaiting.
    pub(crate) awaited: bool,
    /// Whether anything waits, or waited, for its end.
    pub(crate) followed: bool,
}

/// The columns of [`Body::read`], of the table of bodies under the name `j`.
macro_rules! body_columns {
    () => {
        "j.seq, j.kind, j.queue, j.priority, j.created_at, j.run_at, j.options, j.ties, j.batch, \
         j.awaited, j.followed"
    };
}
pub(crate) use body_columns;

const SELECT_BODY: &str =
    concat!("SELECT ", body_columns!(), " FROM portfire_job j WHERE j.id = ?1");
const SELECT_BODY_BY_SEQ: &str =
    concat!("SELECT ", body_columns!(), " FROM portfire_job j WHERE j.seq = ?1");

impl Body {
    /// The body of the job with this id, when it is stored.
    pub(crate) fn find(conn: &Connection, id: JobId) -> Result<Option<Body>, Failure> {
        let mut select = conn.prepare_cached(SELECT_BODY)?;
        let mut rows = select.query([id.as_bytes()])?;
        rows.next()?.map(|row| Body::read(row, 0)).transpose()
    }

    /// The body with this number.
    pub(crate) fn of(conn: &Connection, seq: i64) -> Result<Body, Failure> {
        let mut select = conn.prepare_cached(SELECT_BODY_BY_SEQ)?;
        let mut rows = select.query([seq])?;
        match rows.next()? {
            Some(row) => Body::read(row, 0),
            None => Err(corrupt(format!("job number {seq} has a row but no body"))),
        }
    }

    /// Reads the columns of [`body_columns`], which begin at `first`.
    pub(crate) fn read(row: &SqlRow<'_>, first: usize) -> Result<Body, Failure> {
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
            ties: text(7)?.map(|text| ties::decode(seq, text).map(Box::new)).transpose()?,
            batch: row.get(first + 8)?,
            awaited: row.get(first + 9)?,
            followed: row.get(first + 10)?,
        })
    }

    /// Whether nothing ties it to anything.
    pub(crate) fn is_plain(&self) -> bool {
        self.ties.is_none() && self.batch.is_none() && !self.followed
    }
}

/// Reads the stored options of a call.
pub(crate) fn options(seq: i64, text: &str) -> Result<JobOptions, Failure> {
    serde_json::from_str(text)
        .map_err(|error| corrupt(format!("the options of job number {seq}: {error}")))
}

/// Where a job stands.
#[derive(Clone, Debug)]
pub(crate) struct Stand {
    pub(crate) standing: Standing,
    /// The last revision with a row in the history; later ones are derived.
    pub(crate) written: u32,
    pub(crate) at: At,
}

/// What its state adds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    Awaiting {
        /// What it waits for still.
        pending: u32,
        /// Whether the start of its batch is among that.
        start: bool,
        /// When it runs after its release.
        when: When,
    },
    Ready {
        place: i64,
        enqueued_at: Option<Timestamp>,
    },
    /// Enqueued, and in the line of a limit.
    InLine {
        key: i64,
        enqueued_at: Option<Timestamp>,
    },
    Scheduled {
        run_at: Timestamp,
        cause: Cause,
    },
    Running {
        server: i64,
        cycle: i64,
        claimed_at: Timestamp,
        place: i64,
        enqueued_at: Option<Timestamp>,
    },
    Finished {
        finished_at: Timestamp,
        expires_at: Option<Timestamp>,
        ran: Option<Ran>,
    },
}

/// The last attempt of a job that succeeded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    pub(crate) server: i64,
    pub(crate) claimed_at: Timestamp,
    pub(crate) enqueued_at: Option<Timestamp>,
    /// In microseconds.
    pub(crate) duration: i64,
}

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
    enqueued_at FROM portfire_ready WHERE queue = ?1 AND rank = ?2 AND place = ?3";
pub(crate) const SELECT_READY_MOVED: &str = "SELECT revision, attempt, failures, recoveries, written, place, \
    enqueued_at FROM portfire_ready WHERE seq = ?1 AND place <> seq";
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
const INSERT_RESULT: &str = "INSERT INTO portfire_result (seq, result) VALUES (?1, ?2)";

impl Stand {
    /// Finds the row of a job, by at most one look at each table.
    pub(crate) fn find(conn: &Connection, body: &Body) -> Result<Stand, Failure> {
        let look = |sql: &str, key: &[i64], state: StateName| -> Result<Option<Stand>, Failure> {
            let mut select = conn.prepare_cached(sql)?;
            let found =
                select.query_row(rusqlite::params_from_iter(key), |row| Stand::read(row, state));
            Ok(found.optional()?)
        };
        let seq = body.seq;
        if body.awaited {
            let found = conn
                .prepare_cached(SELECT_AWAITING)?
                .query_row([seq], |row| Stand::read_awaiting(row, 0))
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
        let in_line = lines::find(conn, body)?;
        in_line.ok_or_else(|| corrupt(format!("job number {seq} has a body but stands nowhere")))
    }

    /// Reads a row of the table of a state, in the order of the statements above.
    fn read(row: &SqlRow<'_>, state: StateName) -> rusqlite::Result<Stand> {
        let standing = Standing {
            state,
            revision: row.get(0)?,
            attempt: row.get(1)?,
            failures: row.get(2)?,
            recoveries: row.get(3)?,
        };
        let at = match state {
            StateName::Enqueued => {
                At::Ready { place: row.get(5)?, enqueued_at: maybe_instant(row, 6)? }
            }
            StateName::Scheduled => {
                At::Scheduled { run_at: instant(row.get(5)?), cause: cause(row.get(6)?) }
            }
            StateName::Processing => At::Running {
                server: row.get(5)?,
                cycle: row.get(6)?,
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
        Ok(Stand { standing, written: row.get(4)?, at })
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
        Ok(Stand::awaiting(row.get(first)?, row.get(first + 1)?, when))
    }

    /// A job that is created awaiting.
    pub(crate) fn awaiting(pending: u32, start: bool, when: When) -> Stand {
        let standing = Standing {
            state: StateName::Awaiting,
            revision: 1,
            attempt: 0,
            failures: 0,
            recoveries: 0,
        };
        Stand { standing, written: 0, at: At::Awaiting { pending, start, when } }
    }

    /// Takes the row out of its table.
    pub(crate) fn remove(&self, write: &mut Write<'_>, body: &Body) -> rusqlite::Result<()> {
        let gone = match self.at {
            At::Awaiting { .. } => write.statement(DELETE_AWAITING)?.execute([body.seq]),
            At::Ready { place, .. } => {
                write.statement(DELETE_READY)?.execute([body.queue, body.rank, place])
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
            At::Finished { ran: None, .. } if self.standing.state == StateName::Failed => {
                write.statement(DELETE_FAILED)?.execute([body.seq])
            }
            At::Finished { ran: None, .. } => write.statement(DELETE_DELETED)?.execute([body.seq]),
        }?;
        debug_assert_eq!(gone, 1, "{self:?}");
        Ok(())
    }

    /// Puts the row into its table.
    pub(crate) fn insert(&self, write: &mut Write<'_>, body: &Body) -> rusqlite::Result<()> {
        let Standing { state, revision, attempt, failures, recoveries } = self.standing;
        let written = self.written;
        let micros = |at: Option<Timestamp>| at.map(Timestamp::as_micros);
        match self.at {
            At::Awaiting { pending, start, when } => {
                insert_awaiting(write, body.seq, pending, start, when)
            }
            At::Ready { place, enqueued_at } => {
                write.statement(INSERT_READY)?.execute(rusqlite::params![
                    body.queue,
                    body.rank,
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
                let standing = self.standing;
                Waiter { rank, seq, queue, enqueued_at, standing, written }.insert(write, key)
            }
            At::Scheduled { run_at, cause } => {
                write.statement(INSERT_SCHEDULED)?.execute(rusqlite::params![
                    run_at.as_micros(),
                    body.seq,
                    cause_code(cause),
                    revision,
                    attempt,
                    failures,
                    recoveries,
                    written
                ])
            }
            At::Running { server, cycle, claimed_at, place, enqueued_at } => {
                write.statement(INSERT_RUNNING)?.execute(rusqlite::params![
                    body.seq,
                    server,
                    cycle,
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
}

/// Puts a job where it waits for others.
pub(crate) fn insert_awaiting(
    write: &mut Write<'_>,
    seq: i64,
    pending: u32,
    start: bool,
    when: When,
) -> rusqlite::Result<usize> {
    let (delay, run_at) = match when {
        When::In(delay) => (i64::try_from(delay.as_micros()).ok(), None),
        When::At(run_at) => (None, Some(run_at.as_micros())),
        _ => (None, None),
    };
    let values = rusqlite::params![seq, pending, start, delay, run_at];
    write.statement(INSERT_AWAITING)?.execute(values)
}

/// What a transition is about, beyond what the state machine decides.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a> {
    /// The server, by its number.
    pub(crate) server: Option<i64>,
    pub(crate) attempt: Option<u32>,
    pub(crate) error: Option<&'a ErrorRecord>,
    pub(crate) reason: Option<&'a str>,
    pub(crate) result: Option<&'a Json>,
    /// How long the handler ran, in microseconds.
    pub(crate) duration: i64,
}

/// Does what happens to a job, or nothing when its state does not allow it.
pub(crate) fn transit(
    write: &mut Write<'_>,
    body: &Body,
    from: &Stand,
    event: Event,
    facts: &Facts<'_>,
) -> Result<Result<Standing, Refusal>, Failure> {
    let retention = body.retention.unwrap_or(write.retention);
    let mut made = match next(&from.standing, event, write.now, &retention) {
        Ok(made) => made,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Some(unique) = body.ties.as_ref().and_then(|ties| ties.unique.as_ref()) {
        unique.keep(&mut made, body.created_at);
    }
    let at = arrival(write, body, from, &made, facts)?;
    let mut to = Stand { standing: made.to, written: from.written, at };
    if !history::is_derived(&made) {
        history::write_down(write.conn, body, from)?;
        history::insert(write.conn, body.seq, &made, write.now, facts)?;
        to.written = made.to.revision;
    }
    from.remove(write, body)?;
    to.insert(write, body)?;
    if let (StateName::Succeeded, Some(result)) = (made.to.state, facts.result) {
        let result = result.as_str();
        write.statement(INSERT_RESULT)?.execute(rusqlite::params![body.seq, result])?;
    }
    if let At::Running { server, .. } = from.at {
        write.count_held(server, -1);
    }
    if let Some(expires_at) = made.expires_at {
        write.note_expiry(body.seq, made.to.state, expires_at);
    }
    write.count_moved(body.queue, body.kind, from.standing.state, &made);
    limits::moved(write, body, &from.at)?;
    ties::moved(write, body, from, &made)?;
    Ok(Ok(made.to))
}

/// The row to which a transition leads.
fn arrival(
    write: &mut Write<'_>,
    body: &Body,
    from: &Stand,
    made: &Transition,
    facts: &Facts<'_>,
) -> Result<At, Failure> {
    Ok(match made.to.state {
        StateName::Scheduled => {
            At::Scheduled { run_at: made.run_at.unwrap_or(write.now), cause: made.cause }
        }
        StateName::Enqueued => {
            let enqueued_at = Some(write.now);
            if let (Some(Place::Old), At::Running { place, .. }) = (made.place, from.at) {
                return Ok(At::Ready { place, enqueued_at });
            }
            match limits::entry(write, body.ties.as_deref(), body.kind)? {
                Some(key) => At::InLine { key, enqueued_at },
                None => At::Ready { place: write.draw(), enqueued_at },
            }
        }
        StateName::Succeeded => {
            let ran = match from.at {
                At::Running { server, claimed_at, enqueued_at, .. } => {
                    Some(Ran { server, claimed_at, enqueued_at, duration: facts.duration })
                }
                _ => None,
            };
            At::Finished { finished_at: write.now, expires_at: made.expires_at, ran }
        }
        // Awaiting is never entered by a transition, and claims have a faster way of their own.
        StateName::Failed | StateName::Deleted | StateName::Awaiting | StateName::Processing => {
            At::Finished { finished_at: write.now, expires_at: made.expires_at, ran: None }
        }
    })
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

/// The place of a cause in [`Cause::ALL`], under which it is stored.
pub(crate) fn cause_code(cause: Cause) -> i64 {
    let at = Cause::ALL.iter().position(|listed| *listed == cause);
    at.and_then(|at| i64::try_from(at).ok()).unwrap_or(0)
}

/// The cause that is stored under this number.
pub(crate) fn cause(code: i64) -> Cause {
    let at = usize::try_from(code).unwrap_or(0);
    Cause::ALL.get(at).copied().unwrap_or(Cause::Created)
}

/// The state that is stored under this number.
pub(crate) fn state(code: i64) -> StateName {
    let at = usize::try_from(code).unwrap_or(0);
    StateName::ALL.get(at).copied().unwrap_or(StateName::Deleted)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
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
];
