//! Removing what has outlived its time: final jobs, dead servers, old statistics.

use std::time::Duration;

use portfire_core::engine;
use portfire_core::storage::BATCH_MAX;
use portfire_core::{Bucket, Cleaned};

use crate::error::Failure;
use crate::row::{self, At, Body, Stand};
use crate::servers::processes;
use crate::write::{Write, bucket_code};
use crate::{batches, expiry, keys, locks, notes, outbox, ties, unique};

/// How long a dead server is shown.
pub(crate) const DEAD_SHOWN: Duration = Duration::from_secs(24 * 60 * 60);

const DELETE_HISTORY: &str = "DELETE FROM portfire_history WHERE seq = ?1";
const DELETE_JOB: &str = "DELETE FROM portfire_job WHERE seq = ?1";
const DELETE_SERVERS: &str = "DELETE FROM portfire_server WHERE died_at <= ?1 AND processing = 0";
const DELETE_STATISTICS: &str = "DELETE FROM portfire_statistics WHERE bucket = ?1 AND start < ?2";

/// Removes up to `max` expired jobs, and the rest.
pub(crate) fn clean(write: &mut Write<'_>, max: u32) -> Result<Cleaned, Failure> {
    let max = (max as usize).min(BATCH_MAX);
    batches::give_up_open(write)?;
    // Others of this commit may have ended jobs that are not kept at all.
    write.flush_expiry()?;
    let kept = outbox::ended(write.conn)?;
    let (mut removed, mut waited_for) = (Vec::new(), Vec::new());
    for seq in expiry::take(write.conn, write.now, max, &kept)? {
        let body = row::body(write.conn, seq)?;
        let stand = row::stand(write.conn, &body)?;
        if engine::expire(write, &body, stand.standing.state)? {
            remove(write, &body, &stand)?;
            removed.push(seq);
        } else {
            waited_for.push((body, stand));
        }
    }
    engine::settle(write)?;
    for (body, stand) in waited_for {
        if !outbox::has(write, body.seq)? {
            remove(write, &body, &stand)?;
            removed.push(body.seq);
        } else if let At::Finished { expires_at: Some(at), .. } = stand.row {
            // Its run may be gone, for it promised nothing but what was taken.
            write.note_expiry(body.seq, stand.standing.state, at);
        }
    }
    engine::put_off(write)?;
    notes::remove(write.conn, &removed)?;
    write.flush_expiry()?;
    let kept = outbox::ended(write.conn)?;
    let mut more = expiry::has_more(write.conn, write.now, &kept)?;
    more |= batches::clean(write, max)?;
    forget_old(write)?;
    Ok(Cleaned { jobs: removed.len() as u32, more })
}

/// Removes a job, with its history and all else that belongs to it but its notes.
fn remove(write: &mut Write<'_>, body: &Body, stand: &Stand) -> Result<(), Failure> {
    let state = stand.standing.state;
    row::remove(write, body, stand)?;
    if stand.written > 0 {
        write.statement(DELETE_HISTORY)?.execute([body.seq])?;
    }
    write.statement(DELETE_JOB)?.execute([body.seq])?;
    ties::cleaned(write, body, state)?;
    write.count_cleaned(body.queue, body.kind, state);
    Ok(())
}

fn forget_old(write: &mut Write<'_>) -> Result<(), Failure> {
    let died_by = write.now.saturating_sub(DEAD_SHOWN).as_micros();
    keys::clean(write)?;
    let mut gone = unique::clean(write)? + locks::clean(write)?;
    // Before the first day is over nothing can have died a day ago.
    if died_by > 0 {
        write.flush_held()?;
        gone += write.conn.prepare_cached(DELETE_SERVERS)?.execute([died_by])?;
    }
    for bucket in [Bucket::Hour, Bucket::Day] {
        let oldest = bucket.start(write.now.saturating_sub(bucket.kept())).as_micros();
        let key = [bucket_code(bucket), oldest];
        gone += write.conn.prepare_cached(DELETE_STATISTICS)?.execute(key)?;
    }
    if gone > 0 {
        write.touch();
    }
    if let Some(process) = write.process.as_deref() {
        process.remove_strays(&processes(write.conn)?);
    }
    Ok(())
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] =
    &[DELETE_HISTORY, DELETE_JOB, DELETE_SERVERS, DELETE_STATISTICS];
