//! Reading for people: counts from counters, one job, queues, servers, statistics. Pages of jobs are
//! in `pages.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use portfire_core::monitor::PAGE_MAX;
use portfire_core::{
    Antecedent, BatchId, Bucket, Continuation, Counts, ErrorRecord, HistoryEntry, JobId,
    JobOptions, JobRecord, JobState, Json, KindName, KindRecord, QueueName, QueueRecord, ServerId,
    ServerRecord, StateName, StatisticsRecord, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow};

use crate::clean::DEAD_SHOWN;
use crate::error::{Failure, corrupt};
use crate::row::{self, At, Body, Stand, body_columns, instant, maybe_instant, options};
use crate::servers::lease_until;
use crate::write::{Tally, bucket_code};
use crate::{codes, history, links};

const SELECT_QUEUES: &str = "SELECT q.name, q.paused, t.scheduled, t.awaiting, t.enqueued, \
    t.processing, t.succeeded, t.failed, t.deleted FROM portfire_queue q \
    JOIN portfire_tally t ON t.queue = q.queue ORDER BY q.name";
const SELECT_JOB: &str = concat!(
    "SELECT j.id, k.name, q.name, j.args, j.options, j.priority, b.id, ",
    body_columns!(),
    " FROM portfire_job j \
    JOIN portfire_kind k ON k.kind = j.kind JOIN portfire_queue q ON q.queue = j.queue \
    LEFT JOIN portfire_batch b ON b.batch = j.batch WHERE j.seq = ?1"
);
const SELECT_SEQ: &str = "SELECT seq FROM portfire_job WHERE id = ?1";
const SELECT_RESULT: &str = "SELECT result FROM portfire_result WHERE seq = ?1";
const SELECT_KINDS: &str = "SELECT k.name, t.scheduled, t.awaiting, t.enqueued, t.processing, \
    t.succeeded, t.failed, t.deleted FROM portfire_kind k \
    JOIN portfire_tally t ON t.queue = -k.kind ORDER BY k.name";
const SELECT_FOLLOWERS: &str = "SELECT l.follower, l.after, j.id FROM portfire_link l \
    CROSS JOIN portfire_job j ON j.seq = l.follower \
    WHERE l.antecedent = ?1 ORDER BY l.follower LIMIT ?2";
const SELECT_SERVERS: &str = "SELECT i.id, s.name, s.queues, s.workers, s.started_at, \
    s.heartbeat_at, s.lease, s.processing, s.died_at, s.kinds FROM portfire_server s \
    JOIN portfire_server_id i ON i.server = s.server ORDER BY i.id";
const SELECT_STATISTICS: &str = "SELECT start, succeeded, failed, deleted \
    FROM portfire_statistics WHERE bucket = ?1 AND start >= ?2 ORDER BY start";

/// The mark up to which storage time has come in what is committed.
pub(crate) fn high_water(conn: &Connection) -> Result<i64, Failure> {
    Ok(Tally::read(conn)?.high_water)
}

/// How many jobs stand where.
pub(crate) fn counts(conn: &Connection) -> Result<Counts, Failure> {
    let tally = Tally::read(conn)?;
    let states = StateName::ALL.into_iter().zip(tally.states.map(unsigned));
    Ok(Counts {
        states: states.collect(),
        created_total: unsigned(tally.created),
        succeeded_total: unsigned(tally.succeeded),
        failed_total: unsigned(tally.failed),
        deleted_total: unsigned(tally.deleted),
        retried_total: unsigned(tally.retried),
        recovered_total: unsigned(tally.recovered),
        cleaned_total: unsigned(tally.cleaned),
    })
}

/// Everything about a job.
pub(crate) fn job(conn: &Connection, id: JobId) -> Result<Option<JobRecord>, Failure> {
    let found: Option<i64> =
        conn.prepare_cached(SELECT_SEQ)?.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
    found.map(|seq| record(conn, seq)).transpose()
}

/// The job with this number.
pub(crate) fn record(conn: &Connection, seq: i64) -> Result<JobRecord, Failure> {
    let mut select = conn.prepare_cached(SELECT_JOB)?;
    let mut rows = select.query([seq])?;
    let Some(row) = rows.next()? else {
        return Err(corrupt(format!("job number {seq} has a row but no body")));
    };
    let options = match row.get_ref(4)?.as_str_or_null().map_err(rusqlite::Error::from)? {
        Some(text) => options(seq, text)?,
        None => JobOptions::default(),
    };
    let body = row::read_body(row, 7)?;
    let stand = row::stand(conn, &body)?;
    let mut ties = body.ties.as_deref().cloned().unwrap_or_default();
    ties.batch = row.get::<_, Option<[u8; 16]>>(6)?.map(BatchId::from_bytes);
    Ok(JobRecord {
        id: JobId::from_bytes(row.get(0)?),
        kind: KindName::stored(row.get::<_, String>(1)?),
        args: Json::stored(row.get::<_, String>(3)?),
        queue: QueueName::stored(row.get::<_, String>(2)?),
        priority: row.get(5)?,
        options,
        ties,
        created_at: body.created_at,
        revision: stand.standing.revision,
        attempt: stand.standing.attempt,
        failures: stand.standing.failures,
        recoveries: stand.standing.recoveries,
        crashes: stand.standing.crashes,
        state: job_state(conn, &body, &stand)?,
    })
}

/// The state a job is in, with what the history knows of it.
fn job_state(conn: &Connection, body: &Body, stand: &Stand) -> Result<JobState, Failure> {
    Ok(match stand.row {
        At::Awaiting { pending, .. } => JobState::Awaiting { pending },
        At::Ready { enqueued_at, .. }
        | At::Apart { enqueued_at, .. }
        | At::Aside { enqueued_at, .. }
        | At::InLine { enqueued_at, .. } => {
            JobState::Enqueued { enqueued_at: enqueued_at.unwrap_or(body.created_at) }
        }
        At::Scheduled { run_at, cause } => JobState::Scheduled { run_at, cause },
        At::Running { server, claimed_at, .. } => {
            JobState::Processing { server: history::server_id(conn, server)?, claimed_at }
        }
        At::Finished { finished_at, expires_at, ran } => match stand.standing.state {
            StateName::Succeeded => JobState::Succeeded {
                succeeded_at: finished_at,
                result: result(conn, body.seq)?,
                duration: Duration::from_micros(unsigned(ran.map_or(0, |ran| ran.duration))),
                expires_at,
            },
            StateName::Failed => {
                let entry = history::last(conn, body, stand)?;
                let unknown = || ErrorRecord::new("unknown", "no error was recorded");
                let error = entry.error.unwrap_or_else(unknown);
                JobState::Failed { failed_at: finished_at, error, expires_at }
            }
            _ => {
                let entry = history::last(conn, body, stand)?;
                let reason = entry.reason.unwrap_or_default();
                let error = entry.error;
                JobState::Deleted { deleted_at: finished_at, reason, error, expires_at }
            }
        },
    })
}

fn result(conn: &Connection, seq: i64) -> rusqlite::Result<Option<Json>> {
    let mut select = conn.prepare_cached(SELECT_RESULT)?;
    let result: Option<String> = select.query_row([seq], |row| row.get(0)).optional()?;
    Ok(result.map(Json::stored))
}

/// The history of a job.
pub(crate) fn history(conn: &Connection, id: JobId) -> Result<Vec<HistoryEntry>, Failure> {
    let Some(body) = row::find_body(conn, id)? else { return Ok(Vec::new()) };
    let stand = row::stand(conn, &body)?;
    history::read(conn, &body, &stand)
}

/// Every queue, by name.
pub(crate) fn queues(conn: &Connection) -> Result<Vec<QueueRecord>, Failure> {
    let mut select = conn.prepare_cached(SELECT_QUEUES)?;
    let rows = select.query_map([], |row| {
        let name = QueueName::stored(row.get::<_, String>(0)?);
        Ok(QueueRecord { name, paused: row.get(1)?, states: states(row, 2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Every kind, by name.
pub(crate) fn kinds(conn: &Connection) -> Result<Vec<KindRecord>, Failure> {
    let mut select = conn.prepare_cached(SELECT_KINDS)?;
    let rows = select.query_map([], |row| {
        let name = KindName::stored(row.get::<_, String>(0)?);
        Ok(KindRecord { name, states: states(row, 1)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Counts by state, in the columns from `first` on.
fn states(row: &SqlRow<'_>, first: usize) -> rusqlite::Result<BTreeMap<StateName, u64>> {
    let mut states = BTreeMap::new();
    for (at, state) in StateName::ALL.into_iter().enumerate() {
        let count = unsigned(row.get(first + at)?);
        if count > 0 {
            states.insert(state, count);
        }
    }
    Ok(states)
}

/// The jobs that wait or waited for an end.
pub(crate) fn continuations(
    conn: &Connection,
    on: Antecedent,
    max: u32,
) -> Result<Vec<Continuation>, Failure> {
    let Some(antecedent) = links::number(conn, on)? else { return Ok(Vec::new()) };
    let mut select = conn.prepare_cached(SELECT_FOLLOWERS)?;
    let mut rows = select.query([antecedent, i64::from(max.min(PAGE_MAX))])?;
    let mut continuations = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row::body(conn, row.get(0)?)?;
        let state = row::stand(conn, &body)?.standing.state;
        let after = codes::after(row.get(1)?)?;
        continuations.push(Continuation { job: JobId::from_bytes(row.get(2)?), after, state });
    }
    Ok(continuations)
}

/// The servers that are alive or died less than a day ago, by id.
pub(crate) fn servers(conn: &Connection, now: Timestamp) -> Result<Vec<ServerRecord>, Failure> {
    let mut select = conn.prepare_cached(SELECT_SERVERS)?;
    let mut rows = select.query([])?;
    let mut servers = Vec::new();
    while let Some(row) = rows.next()? {
        let died_at = maybe_instant(row, 8)?;
        if died_at.is_none_or(|died_at| died_at.saturating_add(DEAD_SHOWN) > now) {
            servers.push(server(row, died_at.is_some())?);
        }
    }
    Ok(servers)
}

fn server(row: &SqlRow<'_>, dead: bool) -> Result<ServerRecord, Failure> {
    let id: String = row.get(0)?;
    let queues: Vec<String> = serde_json::from_str(&row.get::<_, String>(2)?)
        .map_err(|error| corrupt(format!("the queues of server {id}: {error}")))?;
    let kinds: Vec<String> = serde_json::from_str(&row.get::<_, String>(9)?)
        .map_err(|error| corrupt(format!("the kinds of server {id}: {error}")))?;
    let heartbeat_at: i64 = row.get(5)?;
    let lease: i64 = row.get(6)?;
    Ok(ServerRecord {
        id: ServerId::new(id),
        name: row.get(1)?,
        queues: queues.into_iter().map(QueueName::stored).collect(),
        workers: row.get(3)?,
        started_at: instant(row.get(4)?),
        heartbeat_at: instant(heartbeat_at),
        lease_until: lease_until(heartbeat_at, lease),
        lease: Duration::from_micros(unsigned(lease)),
        kinds: kinds.into_iter().map(KindName::stored).collect(),
        processing: unsigned(row.get(7)?),
        dead,
    })
}

/// Outcomes per hour or day.
pub(crate) fn statistics(
    conn: &Connection,
    bucket: Bucket,
    since: Timestamp,
) -> Result<Vec<StatisticsRecord>, Failure> {
    let mut select = conn.prepare_cached(SELECT_STATISTICS)?;
    let key = [bucket_code(bucket), bucket.start(since).as_micros()];
    let rows = select.query_map(key, |row| {
        Ok(StatisticsRecord {
            start: instant(row.get(0)?),
            succeeded: unsigned(row.get(1)?),
            failed: unsigned(row.get(2)?),
            deleted: unsigned(row.get(3)?),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A count, which is stored signed and never negative.
fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_QUEUES,
    SELECT_JOB,
    SELECT_SEQ,
    SELECT_RESULT,
    SELECT_KINDS,
    SELECT_FOLLOWERS,
    SELECT_SERVERS,
    SELECT_STATISTICS,
];
