//! Finishing and claiming, the two halves of a server's cycle.

use std::collections::HashMap;

use portfire_core::storage::BATCH_MAX;
use portfire_core::transition::{Standing, next};
use portfire_core::{
    Annotation, Claim, ClaimRequest, ClaimedJob, Cycle, CycleRequest, ErrorRecord, Event, Finish,
    JobId, JobOptions, Json, KindName, Outcome, QueueName, ServerId, StateName, Ties, Timestamp,
    Verdict,
};
use rusqlite::Row as SqlRow;

use crate::error::{Failure, corrupt};
use crate::history;
use crate::names::Queue;
use crate::notes;
use crate::row::{At, Body, Facts, Stand, body_columns, instant, maybe_instant, options, transit};
use crate::servers::alive;
use crate::ties;
use crate::write::Write;

/// A held job by its number, when it is the one that the claim names.
pub(crate) const SELECT_HELD: &str = concat!(
    "SELECT r.server, r.attempt, r.revision, r.failures, r.recoveries, \
    r.written, r.cycle, r.claimed_at, r.place, r.enqueued_at, ",
    body_columns!(),
    " FROM portfire_job j CROSS JOIN portfire_running r ON r.seq = j.seq \
    WHERE j.seq = ?1 AND j.id = ?2"
);

pub(crate) const SELECT_READY: &str = "SELECT r.rank, r.place, r.seq, r.enqueued_at, r.revision, r.attempt, \
    r.failures, r.recoveries, r.written, j.id, j.kind, j.priority, j.created_at, j.options, j.args, \
    j.ties, j.batch FROM portfire_ready r CROSS JOIN portfire_job j ON j.seq = r.seq \
    WHERE r.queue = ?1 ORDER BY r.rank, r.place LIMIT ?2";
const DELETE_READY: &str =
    "DELETE FROM portfire_ready WHERE queue = ?1 AND rank = ?2 AND place = ?3";
const INSERT_RUNNING: &str = "INSERT INTO portfire_running (seq, server, cycle, claimed_at, place, \
    enqueued_at, revision, attempt, failures, recoveries, written) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

const SELECT_CLAIMED: &str = "SELECT -j.priority, r.place, r.seq, r.enqueued_at, r.revision, \
    r.attempt, r.failures, r.recoveries, r.written, j.id, j.kind, j.priority, j.created_at, \
    j.options, j.args, j.ties, j.batch, r.claimed_at, q.name \
    FROM portfire_running r CROSS JOIN portfire_job j ON j.seq = r.seq \
    JOIN portfire_queue q ON q.queue = j.queue \
    WHERE r.server = ?1 AND r.cycle = ?2 ORDER BY q.queue, 1, r.place";

/// Records what a server finished, and claims more for it.
pub(crate) fn cycle(write: &mut Write<'_>, request: &CycleRequest) -> Result<Cycle, Failure> {
    let server = alive(write.conn, &request.server)?;
    let mut speakers = annotate(write, server, &request.notes)?;
    let mut verdicts = Vec::with_capacity(request.finished.len());
    for done in &request.finished {
        let found = match speakers.remove(&done.claim.job) {
            Some(found) => Some(found),
            None => find(write, done.claim)?,
        };
        verdicts.push(finish(write, &request.server, server, done, found)?);
    }
    let claimed = match &request.claim {
        None => Vec::new(),
        Some(wish) => {
            let again = match request.repeated {
                true => claimed_before(write, server, request.key, &wish.queues)?,
                false => Vec::new(),
            };
            if again.is_empty() { claim(write, server, request.key, wish)? } else { again }
        }
    };
    Ok(Cycle { verdicts, claimed })
}

/// Takes down what running jobs say. Answers where they stand, for the finishes that follow.
fn annotate(
    write: &mut Write<'_>,
    server: i64,
    annotations: &[Annotation],
) -> Result<HashMap<JobId, (Body, Stand)>, Failure> {
    let mut speakers = HashMap::new();
    for Annotation { claim, notes } in annotations {
        let found = match speakers.remove(&claim.job) {
            Some(found) => Some(found),
            None => find(write, *claim)?,
        };
        let Some((body, stand)) = found else { continue };
        if is_held(&stand, server, claim.attempt) {
            notes::annotate(write, body.seq, claim.attempt, notes)?;
        }
        speakers.insert(claim.job, (body, stand));
    }
    Ok(speakers)
}

/// Records the end of an attempt of a job, which was found as it stands.
pub(crate) fn finish(
    write: &mut Write<'_>,
    id: &ServerId,
    server: i64,
    done: &Finish,
    found: Option<(Body, Stand)>,
) -> Result<Verdict, Failure> {
    let Some((body, stand)) = found else { return Ok(Verdict::Missing) };
    let attempt = done.claim.attempt;
    if !is_held(&stand, server, attempt) {
        let already = history::stands_where_finished(write.conn, &body, &stand, id, attempt)?;
        return Ok(if already { Verdict::Already } else { Verdict::Fenced });
    }
    let facts = facts(done, attempt);
    match transit(write, &body, &stand, done.outcome.event(), &facts)? {
        Ok(_) => Ok(Verdict::Applied),
        Err(refusal) => Err(corrupt(refusal)),
    }
}

fn is_held(stand: &Stand, server: i64, attempt: u32) -> bool {
    let held = matches!(stand.at, At::Running { server: holder, .. } if holder == server);
    held && stand.standing.attempt == attempt
}

/// Where the job of a claim stands.
pub(crate) fn find(write: &Write<'_>, claim: Claim) -> Result<Option<(Body, Stand)>, Failure> {
    if let Some(held) = held(write, claim.locator, claim.job)? {
        return Ok(Some(held));
    }
    let Some(body) = Body::find(write.conn, claim.job)? else { return Ok(None) };
    let stand = Stand::find(write.conn, &body)?;
    Ok(Some((body, stand)))
}

/// The job, when it stands where the claim says and is held by anyone.
fn held(write: &Write<'_>, seq: i64, id: JobId) -> Result<Option<(Body, Stand)>, Failure> {
    if seq <= 0 {
        return Ok(None);
    }
    let mut select = write.conn.prepare_cached(SELECT_HELD)?;
    let mut rows = select.query(rusqlite::params![seq, id.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let body = Body::read(row, 10)?;
    let standing = Standing {
        state: StateName::Processing,
        revision: row.get(2)?,
        attempt: row.get(1)?,
        failures: row.get(3)?,
        recoveries: row.get(4)?,
    };
    let at = At::Running {
        server: row.get(0)?,
        cycle: row.get(6)?,
        claimed_at: instant(row.get(7)?),
        place: row.get(8)?,
        enqueued_at: maybe_instant(row, 9)?,
    };
    Ok(Some((body, Stand { standing, written: row.get(5)?, at })))
}

/// What the history and the state say about a finish, beyond the transition.
fn facts(done: &Finish, attempt: u32) -> Facts<'_> {
    let duration = i64::try_from(done.duration.as_micros()).unwrap_or(i64::MAX);
    let none = Facts { attempt: Some(attempt), duration, ..Facts::default() };
    let (error, reason, result): (Option<&ErrorRecord>, Option<&str>, Option<&Json>) =
        match &done.outcome {
            Outcome::Succeeded { result } => (None, None, result.as_ref()),
            Outcome::Retry { error, .. } | Outcome::Failed { error } => (Some(error), None, None),
            Outcome::Discarded { reason, error } => (error.as_ref(), Some(reason), None),
            _ => (None, None, None),
        };
    Facts { error, reason, result, ..none }
}

/// A ready row with the body behind it.
struct Ready {
    rank: i64,
    place: i64,
    seq: i64,
    enqueued_at: Option<Timestamp>,
    standing: Standing,
    written: u32,
    kind: i64,
    batch: Option<i64>,
    job: ClaimedJob,
}

impl Ready {
    fn read(row: &SqlRow<'_>, queue: &QueueName, now: Timestamp) -> Result<Ready, Failure> {
        let seq: i64 = row.get(2)?;
        let created_at = instant(row.get(12)?);
        let enqueued_at = maybe_instant(row, 3)?;
        let standing = Standing {
            state: StateName::Enqueued,
            revision: row.get(4)?,
            attempt: row.get(5)?,
            failures: row.get(6)?,
            recoveries: row.get(7)?,
        };
        let job = ClaimedJob {
            claim: Claim {
                job: JobId::from_bytes(row.get(9)?),
                attempt: standing.attempt,
                locator: seq,
            },
            kind: KindName::stored(""),
            args: Json::stored(row.get_ref(14)?.as_str().map_err(rusqlite::Error::from)?),
            queue: queue.clone(),
            priority: row.get(11)?,
            options: match row.get_ref(13)?.as_str_or_null().map_err(rusqlite::Error::from)? {
                Some(text) => options(seq, text)?,
                None => JobOptions::default(),
            },
            ties: match row.get_ref(15)?.as_str_or_null().map_err(rusqlite::Error::from)? {
                Some(text) => ties::decode(seq, text)?,
                None => Ties::default(),
            },
            parents: Vec::new(),
            created_at,
            enqueued_at: enqueued_at.unwrap_or(created_at),
            claimed_at: now,
            failures: standing.failures,
            recoveries: standing.recoveries,
        };
        Ok(Ready {
            rank: row.get(0)?,
            place: row.get(1)?,
            seq,
            enqueued_at,
            standing,
            written: row.get(8)?,
            kind: row.get(10)?,
            batch: row.get(16)?,
            job,
        })
    }
}

fn claim(
    write: &mut Write<'_>,
    server: i64,
    key: u64,
    wish: &ClaimRequest,
) -> Result<Vec<ClaimedJob>, Failure> {
    let max = (wish.max as usize).min(BATCH_MAX);
    let mut claimed = Vec::new();
    for name in &wish.queues {
        let room = max - claimed.len();
        if room == 0 {
            break;
        }
        let Some(queue) = write.names.queue(write.conn, name)?.cloned() else { continue };
        if !queue.paused {
            claim_from(write, server, key, &queue, room, &mut claimed)?;
        }
    }
    Ok(claimed)
}

fn claim_from(
    write: &mut Write<'_>,
    server: i64,
    key: u64,
    queue: &Queue,
    room: usize,
    claimed: &mut Vec<ClaimedJob>,
) -> Result<(), Failure> {
    let first = claimed.len();
    let mut ready = Vec::new();
    {
        let mut select = write.conn.prepare_cached(SELECT_READY)?;
        let mut rows = select.query([queue.number, room as i64])?;
        while let Some(row) = rows.next()? {
            ready.push(Ready::read(row, &queue.name, write.now)?);
        }
    }
    let mut delete = write.conn.prepare_cached(DELETE_READY)?;
    let mut insert = write.conn.prepare_cached(INSERT_RUNNING)?;
    for from in ready {
        let retention = write.retention;
        let made = next(&from.standing, Event::Claim, write.now, &retention).map_err(corrupt)?;
        delete.execute([queue.number, from.rank, from.place])?;
        insert.execute(rusqlite::params![
            from.seq,
            server,
            key.cast_signed(),
            write.now.as_micros(),
            from.place,
            from.enqueued_at.map(Timestamp::as_micros),
            made.to.revision,
            made.to.attempt,
            made.to.failures,
            made.to.recoveries,
            from.written
        ])?;
        write.count_moved(queue.number, from.kind, StateName::Enqueued, &made);
        let mut job = from.job;
        job.claim.attempt = made.to.attempt;
        job.kind = write.names.kind(write.conn, from.kind)?;
        ties::complete(write, &mut job, from.batch)?;
        claimed.push(job);
    }
    if claimed.len() > first {
        write.count_held(server, (claimed.len() - first) as i64);
    }
    Ok(())
}

/// The jobs that the server still holds from its claim with this key, in the order of that claim.
fn claimed_before(
    write: &mut Write<'_>,
    server: i64,
    key: u64,
    queues: &[QueueName],
) -> Result<Vec<ClaimedJob>, Failure> {
    let mut claimed = Vec::new();
    let mut select = write.conn.prepare_cached(SELECT_CLAIMED)?;
    let mut rows = select.query([server, key.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let queue = QueueName::stored(row.get::<_, String>(18)?);
        let mut before = Ready::read(row, &queue, instant(row.get(17)?))?;
        before.job.kind = write.names.kind(write.conn, before.kind)?;
        ties::complete(write, &mut before.job, before.batch)?;
        claimed.push(before.job);
    }
    // The rows come by queue number; a claim goes by the order of its wish.
    claimed.sort_by_key(|job| queues.iter().position(|queue| *queue == job.queue));
    Ok(claimed)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] =
    &[SELECT_HELD, SELECT_READY, DELETE_READY, INSERT_RUNNING, SELECT_CLAIMED];
