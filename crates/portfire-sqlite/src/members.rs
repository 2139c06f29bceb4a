//! The members of a batch, in the order of their creation: jobs and nested batches that are released by its
//! start, or deleted because it was cancelled.

use portfire_core::transition::next;
use portfire_core::{Event, StateName, When};
use rusqlite::{Connection, OptionalExtension};

use crate::batches::{self, Batch};
use crate::error::{Failure, corrupt};
use crate::links;
use crate::outbox::{Due, Settled, spill};
use crate::row::{At, Body, Facts, Stand, transit};
use crate::write::Write;

pub(crate) const SELECT_WAITING: &str = "SELECT j.seq, j.queue, j.kind, \
    j.ties IS NULL AND a.pending = 1 AND a.delay IS NULL AND a.run_at IS NULL \
    FROM portfire_job j CROSS JOIN portfire_awaiting a ON a.seq = j.seq \
    WHERE j.batch = ?1 AND j.seq > ?2 AND a.start = 1 ORDER BY j.seq LIMIT ?3";
const INSERT_READY: &str = "INSERT INTO portfire_ready (queue, rank, place, seq, enqueued_at, \
    revision, attempt, failures, recoveries, written) \
    SELECT queue, -priority, seq + ?3, seq, ?4, ?5, 0, 0, 0, 0 \
    FROM portfire_job WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq";
const DELETE_AWAITING: &str = "DELETE FROM portfire_awaiting WHERE seq BETWEEN ?1 AND ?2";
const SELECT_WAITING_BATCHES: &str = "SELECT batch FROM portfire_batch \
    WHERE parent = ?1 AND batch > ?2 AND start = 1 ORDER BY batch LIMIT ?3";
const SELECT_JOBS: &str =
    "SELECT seq FROM portfire_job WHERE batch = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
const SELECT_BATCHES: &str =
    "SELECT batch FROM portfire_batch WHERE parent = ?1 AND batch > ?2 ORDER BY batch LIMIT ?3";
const SELECT_CANCELLED: &str =
    "SELECT turn, batch, position FROM portfire_cancelled ORDER BY turn LIMIT 1";
const UPDATE_POSITION: &str = "UPDATE portfire_cancelled SET position = ?2 WHERE turn = ?1";
const DELETE_CANCELLED: &str = "DELETE FROM portfire_cancelled WHERE turn = ?1";
const SELECT_ANY_CANCELLED: &str = "SELECT 1 FROM portfire_cancelled LIMIT 1";
const SELECT_HAS_JOB: &str = "SELECT 1 FROM portfire_job WHERE batch = ?1 LIMIT 1";
const SELECT_HAS_BATCH: &str = "SELECT 1 FROM portfire_batch WHERE parent = ?1 LIMIT 1";

/// Members that are looked at together.
const CHUNK: usize = 256;
/// Most members that one call looks at, most of which have ended long since.
const SCANNED_MAX: usize = 20_000;

/// A member that waits for the start of its batch.
#[derive(Clone, Copy)]
enum Waiting {
    /// A job that waits for nothing else, is under no limit, and then runs at once, as most do.
    Plain {
        seq: i64,
        queue: i64,
        kind: i64,
    },
    Job(i64),
    Batch(i64),
}

impl Waiting {
    fn number(self) -> i64 {
        match self {
            Waiting::Plain { seq, .. } | Waiting::Job(seq) => seq,
            Waiting::Batch(number) => number,
        }
    }

    /// Whether two can be released by the same statements: both are plain, and no number lies between theirs.
    fn goes_with(&self, next: &Waiting) -> bool {
        let are_plain = matches!((self, next), (Waiting::Plain { .. }, Waiting::Plain { .. }));
        are_plain && self.number() + 1 == next.number()
    }
}

/// Tells the start of a batch to up to `room` of the members that wait for it.
pub(crate) fn release(write: &mut Write<'_>, due: &Due, room: usize) -> Result<Settled, Failure> {
    batches::flush(write)?;
    let mut waiting = waiting(write, due, room + 1)?;
    let more = waiting.len() > room;
    waiting.truncate(room);
    let settled = Settled {
        count: waiting.len(),
        position: waiting.last().filter(|_| more).map(|last| last.number()),
    };
    for members in waiting.chunk_by(Waiting::goes_with) {
        write.touch();
        match *members {
            [Waiting::Job(seq)] => {
                let body = Body::of(write.conn, seq)?;
                let stand = Stand::find(write.conn, &body)?;
                links::fulfil(write, &body, &stand, true)?;
            }
            [Waiting::Batch(number)] => batches::fulfil(write, number, true)?,
            _ => enqueue(write, members)?,
        }
    }
    Ok(settled)
}

/// Puts plain jobs with neighbouring numbers at the ends of their queues.
fn enqueue(write: &mut Write<'_>, members: &[Waiting]) -> Result<(), Failure> {
    let [first, ..] = members else { return Ok(()) };
    let first = first.number();
    let last = first + members.len() as i64 - 1;
    let from = Stand::awaiting(1, true, When::Now).standing;
    let made = next(&from, Event::Continue(None), write.now, &write.retention).map_err(corrupt)?;
    let shift = write.tally.next - first;
    for member in members {
        write.draw();
        if let Waiting::Plain { queue, kind, .. } = *member {
            write.count_moved(queue, kind, StateName::Awaiting, &made);
        }
    }
    let (now, revision) = (write.now.as_micros(), i64::from(made.to.revision));
    write.conn.prepare_cached(INSERT_READY)?.execute([first, last, shift, now, revision])?;
    write.conn.prepare_cached(DELETE_AWAITING)?.execute([first, last])?;
    Ok(())
}

fn waiting(write: &mut Write<'_>, due: &Due, limit: usize) -> Result<Vec<Waiting>, Failure> {
    let conn = write.conn;
    let may_be_limited = write.names.rules(conn)?.limit_kinds();
    let values = [due.number, due.position, limit as i64];
    let mut waiting = Vec::new();
    let mut select = conn.prepare_cached(SELECT_WAITING)?;
    let mut rows = select.query(values)?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        waiting.push(match row.get(3)? {
            true if !may_be_limited => {
                Waiting::Plain { seq, queue: row.get(1)?, kind: row.get(2)? }
            }
            _ => Waiting::Job(seq),
        });
    }
    let mut select = conn.prepare_cached(SELECT_WAITING_BATCHES)?;
    for nested in select.query_map(values, |row| row.get(0))? {
        waiting.push(Waiting::Batch(nested?));
    }
    waiting.sort_by_key(|member| member.number());
    waiting.truncate(limit);
    Ok(waiting)
}

/// Goes on with deleting the members of cancelled batches, up to `max` of them. Says how many it was.
pub(crate) fn delete_cancelled(write: &mut Write<'_>, max: usize) -> Result<usize, Failure> {
    let mut sweep = Sweep { done: 0, max, scanned: 0 };
    while sweep.goes_on()
        && let Some((turn, batch, position)) = first_cancelled(write.conn)?
    {
        match sweep.members(write, batch, position)? {
            Some(position) => {
                write.conn.prepare_cached(UPDATE_POSITION)?.execute([turn, position])?;
                write.touch();
                break;
            }
            None => write.conn.prepare_cached(DELETE_CANCELLED)?.execute([turn])?,
        };
        write.touch();
    }
    spill(write)?;
    Ok(sweep.done)
}

fn first_cancelled(conn: &Connection) -> rusqlite::Result<Option<(i64, i64, i64)>> {
    let mut select = conn.prepare_cached(SELECT_CANCELLED)?;
    select.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
}

/// Whether members of cancelled batches are still to be deleted.
pub(crate) fn has_cancelled(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached(SELECT_ANY_CANCELLED)?.exists([])
}

/// One pass over members of cancelled batches.
struct Sweep {
    done: usize,
    max: usize,
    scanned: usize,
}

/// What a pass has done about a member.
enum Swept {
    /// It had ended before.
    Over,
    Done,
    /// It is left for the next pass.
    Left,
}

impl Sweep {
    fn goes_on(&self) -> bool {
        self.done < self.max && self.scanned < SCANNED_MAX
    }

    /// Deletes the members after a position. Says after which to go on, when there are more.
    fn members(
        &mut self,
        write: &mut Write<'_>,
        batch: i64,
        mut position: i64,
    ) -> Result<Option<i64>, Failure> {
        let Some(Batch { reason: Some(reason), .. }) = batches::find(write, batch)?.cloned() else {
            return Ok(None);
        };
        loop {
            let chunk = members_after(write.conn, batch, position, CHUNK)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            for (number, is_batch) in chunk {
                // With its last pending member gone the batch has ended.
                if batches::get(write, batch)?.state.end().is_some() {
                    return Ok(None);
                }
                if self.scanned >= SCANNED_MAX {
                    return Ok(Some(position));
                }
                self.scanned += 1;
                let swept = match is_batch {
                    true => self.nested(write, number, &reason)?,
                    false => self.job(write, number)?,
                };
                match swept {
                    Swept::Over => {}
                    Swept::Done => self.done += 1,
                    Swept::Left => return Ok(Some(position)),
                }
                position = number;
            }
        }
    }

    fn nested(&self, write: &mut Write<'_>, number: i64, reason: &str) -> Result<Swept, Failure> {
        let batch = batches::get(write, number)?;
        if batch.is_cancelled() || batch.state.end().is_some() {
            return Ok(Swept::Over);
        }
        if self.done == self.max {
            return Ok(Swept::Left);
        }
        batches::cancel(write, number, reason)?;
        Ok(Swept::Done)
    }

    fn job(&self, write: &mut Write<'_>, seq: i64) -> Result<Swept, Failure> {
        let body = Body::of(write.conn, seq)?;
        let stand = Stand::find(write.conn, &body)?;
        if stand.standing.state.is_final() {
            return Ok(Swept::Over);
        }
        if self.done == self.max {
            return Ok(Swept::Left);
        }
        delete(write, &body, &stand)?;
        Ok(Swept::Done)
    }
}

/// Deletes a member because its batch was cancelled.
pub(crate) fn delete(write: &mut Write<'_>, body: &Body, stand: &Stand) -> Result<(), Failure> {
    let reason = batches::cancellation(write, body.batch)?;
    if matches!(stand.at, At::Running { .. }) {
        write.hint_control();
    }
    let facts = Facts { reason: reason.as_deref(), ..Facts::default() };
    transit(write, body, stand, Event::Delete, &facts)?.map_err(corrupt)?;
    Ok(())
}

/// The members after a position, by number; whether each is a batch.
pub(crate) fn members_after(
    conn: &Connection,
    batch: i64,
    position: i64,
    limit: usize,
) -> rusqlite::Result<Vec<(i64, bool)>> {
    let mut members = Vec::new();
    for (sql, is_batch) in [(SELECT_JOBS, false), (SELECT_BATCHES, true)] {
        let mut select = conn.prepare_cached(sql)?;
        let rows = select.query_map([batch, position, limit as i64], |row| row.get(0))?;
        for number in rows {
            members.push((number?, is_batch));
        }
    }
    members.sort_unstable();
    members.truncate(limit);
    Ok(members)
}

/// Whether a batch has members that are stored.
pub(crate) fn has_any(conn: &Connection, batch: i64) -> rusqlite::Result<bool> {
    Ok(conn.prepare_cached(SELECT_HAS_JOB)?.exists([batch])?
        || conn.prepare_cached(SELECT_HAS_BATCH)?.exists([batch])?)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_WAITING,
    INSERT_READY,
    DELETE_AWAITING,
    SELECT_WAITING_BATCHES,
    SELECT_JOBS,
    SELECT_BATCHES,
    SELECT_CANCELLED,
    UPDATE_POSITION,
    DELETE_CANCELLED,
    SELECT_ANY_CANCELLED,
    SELECT_HAS_JOB,
    SELECT_HAS_BATCH,
];
