//! Claiming: which jobs of which queues a server gets, and in which order.

use std::collections::HashSet;
use std::time::Duration;

use portfire_core::engine::{self, attempts::too_late};
use portfire_core::storage::{BATCH_MAX, RELEASE_MAX};
use portfire_core::suspects::Allowance;
use portfire_core::transition::{Standing, next};
use portfire_core::{
    Claim, ClaimRequest, ClaimedJob, Event, JobId, JobOptions, Json, KindName, QueueName,
    StateName, Ties, Timestamp,
};
use rusqlite::{OptionalExtension, Row as SqlRow, params};

use crate::error::{Failure, corrupt};
use crate::lines::Waiter;
use crate::names::Queue;
use crate::row::{self, instant, maybe_instant, options};
use crate::write::Write;
use crate::{limits, shelves, suspects, ties, told};

/// The columns of [`Ready::read`], up to the last two of a repeated claim.
macro_rules! columns {
    () => {
        "r.seq, r.enqueued_at, r.revision, r.attempt, r.failures, r.recoveries, r.written, j.id, \
         j.kind, j.priority, j.created_at, j.options, j.args, j.ties, j.batch, j.crashes"
    };
}

pub(crate) const SELECT_READY: &str = concat!(
    "SELECT r.rank, r.place, ",
    columns!(),
    " FROM portfire_ready r CROSS JOIN portfire_job j ON j.seq = r.seq \
    WHERE r.queue = ?1 ORDER BY r.rank, r.place LIMIT ?2"
);
const SELECT_RANK: &str = "SELECT rank FROM portfire_ready WHERE queue = ?1 AND rank > ?2 \
    ORDER BY rank LIMIT 1";
pub(crate) const SELECT_OF_RANK: &str = concat!(
    "SELECT r.rank, r.place, ",
    columns!(),
    ", r.woken FROM portfire_ready r CROSS JOIN portfire_job j ON j.seq = r.seq \
    WHERE r.queue = ?1 AND r.rank = ?2 ORDER BY r.place"
);
pub(crate) const SELECT_WOKEN: &str = concat!(
    "SELECT r.rank, r.place, ",
    columns!(),
    " FROM portfire_ready r CROSS JOIN portfire_job j ON j.seq = r.seq \
    WHERE r.queue = ?1 AND r.woken = 1 ORDER BY r.place"
);
const SELECT_AT_PLACE: &str = concat!(
    "SELECT r.rank, r.place, ",
    columns!(),
    " FROM portfire_ready r CROSS JOIN portfire_job j ON j.seq = r.seq \
    WHERE r.queue = ?1 AND r.rank = ?2 AND r.place = ?3"
);
const DELETE_READY: &str =
    "DELETE FROM portfire_ready WHERE queue = ?1 AND rank = ?2 AND place = ?3";
const INSERT_RUNNING: &str = "INSERT INTO portfire_running (seq, server, cycle, claimed_at, place, \
    enqueued_at, revision, attempt, failures, recoveries, written) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const SELECT_CLAIMED: &str = concat!(
    "SELECT -j.priority, r.place, ",
    columns!(),
    ", r.claimed_at, q.name FROM portfire_running r CROSS JOIN portfire_job j ON j.seq = r.seq \
    JOIN portfire_queue q ON q.queue = j.queue WHERE r.server = ?1 AND r.cycle = ?2"
);

/// Most jobs that one claim puts into lines, or deletes, instead of giving them out.
const TURNED_AWAY_MAX: usize = 1_000;
/// Jobs that are looked at in vain for one that has aged.
const PASSED_MAX: usize = 1_000;

/// A ready row with the body behind it.
pub(crate) struct Ready {
    /// Under which number of a queue or a shelf it stands.
    source: i64,
    rank: i64,
    place: i64,
    pub(crate) seq: i64,
    enqueued_at: Option<Timestamp>,
    standing: Standing,
    written: u32,
    kind: i64,
    batch: Option<i64>,
    pub(crate) job: ClaimedJob,
}

impl Ready {
    /// Whether it has waited so long that it comes before all others.
    fn is_aged(&self, oldest: Option<Timestamp>) -> bool {
        oldest.is_some_and(|oldest| self.job.enqueued_at <= oldest)
    }

    fn read(
        row: &SqlRow<'_>,
        source: i64,
        queue: &QueueName,
        now: Timestamp,
    ) -> Result<Ready, Failure> {
        let seq: i64 = row.get(2)?;
        let created_at = instant(row.get(12)?);
        let enqueued_at = maybe_instant(row, 3)?;
        let standing = Standing {
            state: StateName::Enqueued,
            revision: row.get(4)?,
            attempt: row.get(5)?,
            failures: row.get(6)?,
            recoveries: row.get(7)?,
            crashes: row.get(17)?,
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
            source,
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

    /// The job as it goes into a line.
    fn waiter(&self, queue: i64) -> Waiter {
        let Ready { rank, seq, enqueued_at, standing, written, .. } = *self;
        Waiter { rank, seq, queue, enqueued_at, standing, written }
    }
}

/// A claim in progress.
struct Claiming {
    server: i64,
    key: u64,
    /// Who was enqueued then, or sooner, comes before all others of the queue.
    oldest: Option<Timestamp>,
    claimed: Vec<ClaimedJob>,
    turned_away: usize,
}

/// Gives jobs to a server. Says as well whether it is to claim again.
pub(crate) fn claim(
    write: &mut Write<'_>,
    server: i64,
    key: u64,
    wish: &ClaimRequest,
) -> Result<(Vec<ClaimedJob>, bool), Failure> {
    let max = (wish.max as usize).min(BATCH_MAX);
    let oldest = oldest(write.now, wish.aging);
    let mut claiming = Claiming { server, key, oldest, claimed: Vec::new(), turned_away: 0 };
    let mut queues = Vec::with_capacity(wish.queues.len());
    for name in &wish.queues {
        let queue = write.names.queue(write.conn, name)?.filter(|queue| !queue.paused);
        queues.extend(queue.cloned());
    }
    if claiming.take_suspect(write, &queues, max)? {
        for queue in &queues {
            let room = max - claiming.claimed.len();
            if room == 0 || claiming.turned_away >= TURNED_AWAY_MAX {
                break;
            }
            claiming.take_from(write, queue, room)?;
        }
    }
    let more = claiming.turned_away >= TURNED_AWAY_MAX;
    let claimed = claiming.claimed;
    if !claimed.is_empty() {
        write.count_held(server, claimed.len() as i64);
    }
    // What was deleted instead of claimed may have been waited for.
    engine::put_off(write)?;
    Ok((claimed, more))
}

/// Up to when one must have been enqueued to be aged now; `None` when nobody can have been.
fn oldest(now: Timestamp, aging: Option<Duration>) -> Option<Timestamp> {
    let aging = i64::try_from(aging?.as_micros()).ok()?;
    let oldest = now.as_micros() - aging;
    (oldest >= 0).then(|| Timestamp::from_micros(oldest))
}

impl Claiming {
    /// Takes a suspect, if the server is to have one. Says whether it may have others.
    fn take_suspect(
        &mut self,
        write: &mut Write<'_>,
        queues: &[Queue],
        max: usize,
    ) -> Result<bool, Failure> {
        let mut next = suspects::first(write, self.server, queues, i64::MIN)?;
        match suspects::allowance(write, self.server, next)? {
            Allowance::Nothing => return Ok(false),
            Allowance::Empty => {
                suspects::empty(write, self.server)?;
                return Ok(false);
            }
            Allowance::Others => return Ok(true),
            Allowance::Suspect => {}
        }
        let mut looked_at = 0;
        while let Some(suspect) = next
            && max > 0
            && looked_at < RELEASE_MAX
        {
            looked_at += 1;
            let queue = queues.iter().find(|queue| queue.number == suspect.queue);
            if let Some(queue) = queue
                && self.take_if_admitted(write, queue, suspect.place)?
            {
                return Ok(false);
            }
            next = suspects::first(write, self.server, queues, suspect.place)?;
        }
        Ok(true)
    }

    /// Takes the suspect at a place, unless a limit keeps it there. It is deleted when its batch was cancelled.
    fn take_if_admitted(
        &mut self,
        write: &mut Write<'_>,
        queue: &Queue,
        place: i64,
    ) -> Result<bool, Failure> {
        let (key, now) = ([-queue.number, 0, place], write.now);
        let from = {
            let select = write.statement(SELECT_AT_PLACE)?;
            let mut rows = select.query(key)?;
            let Some(row) = rows.next()? else { return Ok(false) };
            Ready::read(row, key[0], &queue.name, now)?
        };
        if self.deletes_cancelled(write, &from)? {
            return Ok(false);
        }
        // It stays where it is: in the line of a limit it would stand among those that are no suspects.
        if !limits::have_room(write, Some(&from.job.ties), from.kind)?
            || limits::room_of(write, queue, 1)? == 0
        {
            return Ok(false);
        }
        limits::admit(write, Some(&from.job.ties), from.kind)?;
        write.statement(DELETE_READY)?.execute(key)?;
        suspects::begin_trial(write, from.seq, self.server, from.standing.crashes)?;
        self.hand_out(write, queue, from)?;
        limits::take_of(write, queue, 1)?;
        Ok(true)
    }

    /// Takes up to `room` jobs of a queue.
    fn take_from(
        &mut self,
        write: &mut Write<'_>,
        queue: &Queue,
        room: usize,
    ) -> Result<(), Failure> {
        let room = limits::room_of(write, queue, room)?;
        let sources = shelves::sources(write, self.server, queue.number)?;
        let first = self.claimed.len();
        loop {
            let left = room - (self.claimed.len() - first);
            if left == 0 || self.turned_away >= TURNED_AWAY_MAX {
                break;
            }
            let turned_away = self.turned_away;
            let ready = self.next_ready(write, &queue.name, &sources, left)?;
            if ready.is_empty() {
                break;
            }
            for from in ready {
                self.take(write, queue, from)?;
                if self.turned_away >= TURNED_AWAY_MAX {
                    // Whoever claims next goes on behind them.
                    write.hint_work();
                    break;
                }
            }
            if self.turned_away == turned_away {
                // Nobody was turned away, so either there is no room or there are no more.
                break;
            }
        }
        limits::take_of(write, queue, self.claimed.len() - first)
    }

    /// The jobs of a queue whose turn it is.
    fn next_ready(
        &self,
        write: &Write<'_>,
        queue: &QueueName,
        sources: &[i64],
        room: usize,
    ) -> Result<Vec<Ready>, Failure> {
        let mut ready = Vec::new();
        if let Some(oldest) = self.oldest {
            for &source in sources {
                ready.extend(aged(write, source, queue, oldest, room)?);
            }
            keep_first(&mut ready, sources, room, |ready| (0, ready.place));
        }
        if ready.len() == room {
            return Ok(ready);
        }
        let first: HashSet<i64> = ready.iter().map(|aged| aged.seq).collect();
        let mut others = Vec::new();
        for &source in sources {
            let mut select = write.conn.prepare_cached(SELECT_READY)?;
            let mut rows = select.query([source, room as i64])?;
            while let Some(row) = rows.next()? {
                let next = Ready::read(row, source, queue, write.now)?;
                if !first.contains(&next.seq) {
                    others.push(next);
                }
            }
        }
        keep_first(&mut others, sources, room - ready.len(), |ready| (ready.rank, ready.place));
        ready.append(&mut others);
        Ok(ready)
    }

    /// Gives a job out; or sets it aside when the server has no handler of its kind, or puts it into the line of a
    /// limit that is used up. Deletes it when its batch was cancelled, or when it would be set aside and is too late.
    fn take(&mut self, write: &mut Write<'_>, queue: &Queue, from: Ready) -> Result<(), Failure> {
        if self.deletes_cancelled(write, &from)? {
            return Ok(());
        }
        let key = [from.source, from.rank, from.place];
        if !write.names.has_handler(write.conn, self.server, from.kind)? {
            self.turned_away += 1;
            let job = &from.job;
            return match too_late(&job.options, job.enqueued_at, write.now) {
                Some(reason) => shelves::delete(write, from.seq, &reason),
                None => shelves::set_aside(write, key, from.kind),
            };
        }
        let line = limits::admit(write, Some(&from.job.ties), from.kind)?;
        write.statement(DELETE_READY)?.execute(key)?;
        if let Some(line) = line {
            from.waiter(queue.number).insert(write, line)?;
            self.turned_away += 1;
            return Ok(());
        }
        self.hand_out(write, queue, from)
    }

    /// Deletes a job whose batch was cancelled. Says whether it was.
    fn deletes_cancelled(&mut self, write: &mut Write<'_>, from: &Ready) -> Result<bool, Failure> {
        if from.batch.is_none() || engine::cancellation(write, from.batch)?.is_none() {
            return Ok(false);
        }
        let body = row::body(write.conn, from.seq)?;
        let stand = row::stand(write.conn, &body)?;
        engine::delete_member(write, &body, &stand)?;
        self.turned_away += 1;
        Ok(true)
    }

    /// Gives a job that was taken from its place to the server.
    fn hand_out(
        &mut self,
        write: &mut Write<'_>,
        queue: &Queue,
        from: Ready,
    ) -> Result<(), Failure> {
        let conn = write.conn;
        let retention = write.retention;
        let made = next(&from.standing, Event::Claim, write.now, &retention).map_err(corrupt)?;
        let now = write.now.as_micros();
        write.statement(INSERT_RUNNING)?.execute(params![
            from.seq,
            self.server,
            self.key.cast_signed(),
            now,
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
        job.kind = write.names.kind(conn, from.kind)?;
        ties::complete(write, &mut job, from.batch)?;
        ties::claimed(write, &job)?;
        told::claimed(write, &job, self.server, &made)?;
        self.claimed.push(job);
        Ok(())
    }
}

/// Keeps the first of what came from several sources, each in order.
fn keep_first<K: Ord>(
    ready: &mut Vec<Ready>,
    sources: &[i64],
    room: usize,
    key: impl Fn(&Ready) -> K,
) {
    if sources.len() > 1 {
        ready.sort_by_key(key);
    }
    ready.truncate(room);
}

/// Up to `room` jobs of a queue or a shelf that have aged, the earliest place first.
///
/// In each rank they stand first, but for two sorts: what was given back has an old place and a new
/// wait, and what came out of a line the other way round. The first are passed over, the others have
/// an index.
pub(crate) fn aged(
    write: &Write<'_>,
    source: i64,
    queue: &QueueName,
    oldest: Timestamp,
    room: usize,
) -> Result<Vec<Ready>, Failure> {
    let mut aged = Vec::new();
    let mut select_rank = write.conn.prepare_cached(SELECT_RANK)?;
    let mut select = write.conn.prepare_cached(SELECT_OF_RANK)?;
    let mut above = i64::MIN;
    while let Some(rank) = select_rank.query_row([source, above], |row| row.get(0)).optional()? {
        let (mut found, mut passed) = (0, 0);
        let mut rows = select.query([source, rank])?;
        while found < room
            && passed < PASSED_MAX
            && let Some(row) = rows.next()?
        {
            if row.get::<_, Option<bool>>(18)?.unwrap_or(false) {
                passed += 1;
                continue;
            }
            let next = Ready::read(row, source, queue, write.now)?;
            if next.is_aged(Some(oldest)) {
                aged.push(next);
                found += 1;
            } else if next.written < next.standing.revision {
                // It came to the end of its queue by itself, and so did those behind it.
                break;
            } else {
                passed += 1;
            }
        }
        above = rank;
    }
    let mut woken = write.conn.prepare_cached(SELECT_WOKEN)?;
    let mut rows = woken.query([source])?;
    let (mut found, mut passed) = (0, 0);
    while found < room
        && passed < PASSED_MAX
        && let Some(row) = rows.next()?
    {
        let next = Ready::read(row, source, queue, write.now)?;
        if next.is_aged(Some(oldest)) {
            aged.push(next);
            found += 1;
        } else {
            passed += 1;
        }
    }
    aged.sort_by_key(|ready| ready.place);
    aged.truncate(room);
    Ok(aged)
}

/// The jobs that the server still holds from its claim with this key, in the order of that claim.
pub(crate) fn claimed_before(
    write: &mut Write<'_>,
    server: i64,
    key: u64,
    wish: &ClaimRequest,
) -> Result<Vec<ClaimedJob>, Failure> {
    let mut held = Vec::new();
    let mut select = write.conn.prepare_cached(SELECT_CLAIMED)?;
    let mut rows = select.query([server, key.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let queue = QueueName::stored(row.get::<_, String>(19)?);
        held.push(Ready::read(row, 0, &queue, instant(row.get(18)?))?);
    }
    held.sort_by_key(|before| {
        let queue = wish.queues.iter().position(|queue| *queue == before.job.queue);
        let aged = before.is_aged(oldest(before.job.claimed_at, wish.aging));
        let is_other = !before.standing.is_suspect();
        (is_other, queue, !aged, if aged { 0 } else { before.rank }, before.place)
    });
    let complete = |mut before: Ready| -> Result<ClaimedJob, Failure> {
        before.job.kind = write.names.kind(write.conn, before.kind)?;
        ties::complete(write, &mut before.job, before.batch)?;
        Ok(before.job)
    };
    held.into_iter().map(complete).collect()
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_READY,
    SELECT_RANK,
    SELECT_OF_RANK,
    SELECT_WOKEN,
    SELECT_AT_PLACE,
    DELETE_READY,
    INSERT_RUNNING,
    SELECT_CLAIMED,
];
