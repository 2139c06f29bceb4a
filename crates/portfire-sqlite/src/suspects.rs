//! Suspects: jobs whose servers crash, which are given out apart from others. The rules are in core's `suspects`;
//! here is where they stand, which of them are on trial, and how a server was lost.

use portfire_core::storage::RELEASE_MAX;
use portfire_core::suspects::{Allowance, EMPTYING_MAX, QUIET_TIME, Suspicion, trial};
use portfire_core::{Loss, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Failure;
use crate::names::Queue;
use crate::row::{At, maybe_instant};
use crate::write::Write;

const SELECT_PLACE: &str = "SELECT place, enqueued_at, seq FROM portfire_ready \
    WHERE queue = ?1 AND rank = 0 AND place > ?2 ORDER BY place LIMIT 1";
const SELECT_KIND: &str = "SELECT kind FROM portfire_job WHERE seq = ?1";
const SELECT_TRIALS: &str = "SELECT seq, server, until FROM portfire_trial";
const UPSERT_EMPTYING: &str = "INSERT INTO portfire_trial (seq, server, until) VALUES (0, ?1, ?2) \
    ON CONFLICT (seq) DO UPDATE SET server = ?1, until = ?2";
const DELETE_EMPTYING: &str = "DELETE FROM portfire_trial WHERE seq = 0 AND server = ?1";
const INSERT_TRIAL: &str = "INSERT INTO portfire_trial (seq, server, until) VALUES (?1, ?2, ?3)";
const DELETE_TRIAL: &str = "DELETE FROM portfire_trial WHERE seq = ?1";
const SELECT_BUSY: &str = "SELECT 1 FROM portfire_running WHERE server = ?1 \
    AND seq NOT IN (SELECT seq FROM portfire_trial) LIMIT 1";
const SELECT_CRASHED: &str = "SELECT 1 FROM portfire_server WHERE crashed_with IS NOT NULL \
    AND died_at > ?1 AND server <> ?2 LIMIT 1";

/// The key of a suspect in the table of those that are ready.
pub(crate) fn key(queue: i64, turn: i64) -> [i64; 3] {
    [-queue, 0, -turn]
}

/// A suspect that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) queue: i64,
    pub(crate) place: i64,
    enqueued_at: Timestamp,
}

/// The first suspect of these queues behind a place whose kind the server has. Suspects of all queues stand in one
/// order.
pub(crate) fn first(
    write: &mut Write<'_>,
    server: i64,
    queues: &[Queue],
    after: i64,
) -> Result<Option<Waiting>, Failure> {
    let mut first: Option<Waiting> = None;
    for &Queue { number: queue, .. } in queues {
        let found = first_of(write, server, queue, after)?;
        if let Some(found) = found
            && first.is_none_or(|first| found.place < first.place)
        {
            first = Some(found);
        }
    }
    Ok(first)
}

fn first_of(
    write: &mut Write<'_>,
    server: i64,
    queue: i64,
    mut after: i64,
) -> Result<Option<Waiting>, Failure> {
    for _ in 0..RELEASE_MAX {
        let select = write.statement(SELECT_PLACE)?;
        let found = select.query_row([-queue, after], |row| {
            let enqueued_at = maybe_instant(row, 1)?.unwrap_or(Timestamp::MIN);
            Ok((Waiting { queue, place: row.get(0)?, enqueued_at }, row.get::<_, i64>(2)?))
        });
        let Some((found, seq)) = found.optional()? else { return Ok(None) };
        let kind: i64 = write.statement(SELECT_KIND)?.query_row([seq], |row| row.get(0))?;
        if write.names.has_handler(write.conn, server, kind)? {
            return Ok(Some(found));
        }
        after = found.place;
    }
    Ok(None)
}

/// What a claim of a server is given, when `first` is the suspect that it may have.
pub(crate) fn allowance(
    write: &mut Write<'_>,
    server: i64,
    first: Option<Waiting>,
) -> rusqlite::Result<Allowance> {
    let trials: Vec<(i64, i64, i64)> = {
        let select = write.statement(SELECT_TRIALS)?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    if first.is_none() && trials.is_empty() {
        return Ok(Allowance::Others);
    }
    let now = write.now.as_micros();
    let running = trials.iter().filter(|(_, _, until)| *until > now);
    let mut on_trial = running.clone().filter(|(seq, ..)| *seq != 0);
    let emptied = running.clone().find(|(seq, ..)| *seq == 0).map(|(_, emptied, _)| *emptied);
    let quiet_since = write.now.saturating_sub(QUIET_TIME);
    let suspicion = Suspicion {
        waited: first.map(|first| write.now.since(first.enqueued_at)),
        busy: write.conn.prepare_cached(SELECT_BUSY)?.exists([server])?,
        on_trial_here: on_trial.clone().any(|(_, holder, _)| *holder == server),
        on_trial: on_trial.next().is_some(),
        emptied_here: emptied == Some(server),
        another_empties: emptied.is_some_and(|emptied| emptied != server),
        crashed_lately: has_crashed_after(write.conn, quiet_since, None)?,
    };
    Ok(suspicion.allowance())
}

/// The server is being emptied for a suspect.
pub(crate) fn empty(write: &mut Write<'_>, server: i64) -> rusqlite::Result<()> {
    let until = write.now.saturating_add(EMPTYING_MAX).as_micros();
    write.statement(UPSERT_EMPTYING)?.execute([server, until])?;
    write.touch();
    Ok(())
}

/// A suspect with so many crashes was given to a server.
pub(crate) fn begin_trial(
    write: &mut Write<'_>,
    seq: i64,
    server: i64,
    crashes: u32,
) -> rusqlite::Result<()> {
    let until = write.now.saturating_add(trial(crashes)).as_micros();
    write.statement(DELETE_EMPTYING)?.execute([server])?;
    write.statement(INSERT_TRIAL)?.execute([seq, server, until])?;
    Ok(())
}

/// A suspect is held no longer.
pub(crate) fn end_trial(write: &mut Write<'_>, seq: i64) -> rusqlite::Result<()> {
    write.statement(DELETE_TRIAL)?.execute([seq])?;
    // What its server was not given meanwhile is to be had now.
    write.hint_work();
    Ok(())
}

/// How a dead server was lost to a job that it still holds.
pub(crate) fn loss(
    conn: &Connection,
    server: i64,
    crashed_with: Option<i64>,
    at: &At,
) -> Result<Loss, Failure> {
    let claimed_at = match at {
        At::Running { claimed_at, .. } => *claimed_at,
        _ => Timestamp::MIN,
    };
    Ok(match crashed_with {
        None => Loss::Lapsed,
        Some(1) if !has_crashed_after(conn, claimed_at, Some(server))? => Loss::CrashedAlone,
        Some(_) => Loss::Crashed,
    })
}

/// Whether a server has crashed after an instant, other than this one.
fn has_crashed_after(
    conn: &Connection,
    instant: Timestamp,
    but: Option<i64>,
) -> rusqlite::Result<bool> {
    let values = params![instant.as_micros(), but.unwrap_or(0)];
    conn.prepare_cached(SELECT_CRASHED)?.exists(values)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_PLACE,
    SELECT_KIND,
    SELECT_TRIALS,
    UPSERT_EMPTYING,
    DELETE_EMPTYING,
    INSERT_TRIAL,
    DELETE_TRIAL,
    SELECT_BUSY,
    SELECT_CRASHED,
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use portfire_core::{
        ClaimRequest, CycleRequest, JobId, Json, KindName, ManualClock, Monitor, NewJob, NewServer,
        QueueName, RescueRequest, ServerId, Storage,
    };

    use super::*;
    use crate::SqliteOptions;

    /// Another program holds the file longer than the lease, or the process is stopped for a while.
    #[tokio::test]
    async fn a_lease_that_lapses_while_its_process_lives_is_no_crash() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let mut options =
            SqliteOptions::new(directory.path().join("jobs.db")).clock(Arc::clone(&clock) as _);
        options.vouches = true;
        let storage = options.open().await.unwrap();
        let id = JobId::from_bytes([7; 16]);
        let job = NewJob::new(id, KindName::stored("k"), Json::empty());
        storage.create(vec![job]).await.unwrap();
        for lapse in 0..6 {
            let server = ServerId::new(format!("s{lapse}"));
            let new = NewServer {
                id: server.clone(),
                name: "s".into(),
                queues: vec![QueueName::DEFAULT],
                workers: 1,
                lease: Duration::from_secs(30),
                kinds: Vec::new(),
            };
            storage.announce(new).await.unwrap();
            let wish = ClaimRequest { queues: vec![QueueName::DEFAULT], max: 5, aging: None };
            let request = CycleRequest { claim: Some(wish), ..CycleRequest::new(server, 1) };
            assert_eq!(storage.cycle(request).await.unwrap().claimed.len(), 1);
            clock.advance(Duration::from_secs(30));
            let rescued = storage.rescue(RescueRequest::default()).await.unwrap();
            assert_eq!((rescued.returned, rescued.poisoned), (1, 0));
        }
        let record = storage.job(id).await.unwrap().unwrap();
        assert_eq!((record.recoveries, record.crashes, record.attempt), (0, 0, 6));
        let last = storage.history(id).await.unwrap().pop().unwrap();
        assert_eq!(last.reason.as_deref(), Some(Loss::Lapsed.reason()));
    }
}
