//! A server's cycle: what running jobs say, what is finished, and then a claim (`claim.rs`).

use std::collections::HashMap;

use portfire_core::engine::{self, attempts::Relation};
use portfire_core::transition::Standing;
use portfire_core::{
    Annotation, Claim, Cycle, CycleRequest, ErrorRecord, Finish, JobId, Json, Outcome, ServerId,
    StateName, Verdict,
};

use crate::claim::{claim, claimed_before};
use crate::error::{Failure, corrupt};
use crate::row::{self, At, Body, Facts, Stand, body_columns, instant, maybe_instant, transit};
use crate::servers::alive;
use crate::write::Write;
use crate::{history, notes};

/// A held job by its number, when it is the one that the claim names.
pub(crate) const SELECT_HELD: &str = concat!(
    "SELECT r.server, r.attempt, r.revision, r.failures, r.recoveries, \
    r.written, r.cycle, r.claimed_at, r.place, r.enqueued_at, ",
    body_columns!(),
    " FROM portfire_job j CROSS JOIN portfire_running r ON r.seq = j.seq \
    WHERE j.seq = ?1 AND j.id = ?2"
);

/// Records what a server finished, and claims more for it.
pub(crate) fn cycle(write: &mut Write<'_>, request: &CycleRequest) -> Result<Cycle, Failure> {
    let server = alive(write.conn, &request.server)?;
    let mut speakers = annotate(write, &request.server, server, &request.notes)?;
    let mut verdicts = Vec::with_capacity(request.finished.len());
    for done in &request.finished {
        let found = match speakers.remove(&done.claim.job) {
            Some(found) => Some(found),
            None => find(write, done.claim)?,
        };
        verdicts.push(finish(write, &request.server, server, done, found)?);
    }
    engine::settle(write)?;
    let (claimed, more) = match &request.claim {
        None => (Vec::new(), false),
        Some(wish) => {
            let again = match request.repeated {
                true => claimed_before(write, server, request.key, wish)?,
                false => Vec::new(),
            };
            match again.is_empty() {
                true => claim(write, server, request.key, wish)?,
                false => (again, false),
            }
        }
    };
    Ok(Cycle { verdicts, claimed, more })
}

/// Takes down what running jobs say. Answers where they stand, for the finishes that follow.
pub(crate) fn annotate(
    write: &mut Write<'_>,
    id: &ServerId,
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
        if relation(write, (id, server), claim.attempt, &body, &stand)?.is_heard() {
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
    let Some((body, stand)) = found else { return Ok(Relation::Missing.verdict()) };
    let attempt = done.claim.attempt;
    let verdict = relation(write, (id, server), attempt, &body, &stand)?.verdict();
    if verdict != Verdict::Applied {
        return Ok(verdict);
    }
    let facts = facts(done, attempt);
    match transit(write, &body, &stand, done.outcome.event(), &facts)? {
        Ok(_) => Ok(verdict),
        Err(refusal) => Err(corrupt(refusal)),
    }
}

/// How an attempt of this server is related to a job.
fn relation(
    write: &Write<'_>,
    (id, server): (&ServerId, i64),
    attempt: u32,
    body: &Body,
    stand: &Stand,
) -> Result<Relation, Failure> {
    if is_held(stand, server, attempt) {
        return Ok(Relation::Holds);
    }
    let finished = history::stands_where_finished(write.conn, body, stand, id, attempt)?;
    Ok(if finished { Relation::Finished } else { Relation::Past })
}

pub(crate) fn is_held(stand: &Stand, server: i64, attempt: u32) -> bool {
    let held = matches!(stand.row, At::Running { server: holder, .. } if holder == server);
    held && stand.standing.attempt == attempt
}

/// Where the job of a claim stands.
pub(crate) fn find(write: &mut Write<'_>, claim: Claim) -> Result<Option<(Body, Stand)>, Failure> {
    if let Some(held) = held(write, claim.locator, claim.job)? {
        return Ok(Some(held));
    }
    let Some(body) = row::find_body(write.conn, claim.job)? else { return Ok(None) };
    let stand = row::stand(write.conn, &body)?;
    Ok(Some((body, stand)))
}

/// The job, when it stands where the claim says and is held by anyone.
fn held(write: &mut Write<'_>, seq: i64, id: JobId) -> Result<Option<(Body, Stand)>, Failure> {
    if seq <= 0 {
        return Ok(None);
    }
    let select = write.statement(SELECT_HELD)?;
    let mut rows = select.query(rusqlite::params![seq, id.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let body = row::read_body(row, 10)?;
    let standing = Standing {
        state: StateName::Processing,
        revision: row.get(2)?,
        attempt: row.get(1)?,
        failures: row.get(3)?,
        recoveries: row.get(4)?,
        crashes: body.crashes,
    };
    let at = At::Running {
        server: row.get(0)?,
        exchange: row.get(6)?,
        claimed_at: instant(row.get(7)?),
        place: row.get(8)?,
        enqueued_at: maybe_instant(row, 9)?,
    };
    Ok(Some((body, Stand { standing, written: row.get(5)?, row: at })))
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

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[SELECT_HELD];
