//! Batches: their rows, their members counted, and the states that follow from that.
//!
//! A row is read once in a transaction, changed in memory and written at its end, so a commit that ends a
//! thousand members writes their batch once. What reads rows by statements calls [`flush`] first.

use std::collections::{HashMap, HashSet};

use portfire_core::batch::BATCH_OPEN_MAX;
use portfire_core::{
    BatchChange, BatchChanged, BatchId, BatchState, Dependency, Progression, StateName,
};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use crate::error::{Failure, corrupt};
use crate::outbox::{Due, What};
use crate::write::Write;
use crate::{links, members, outbox};

const SELECT_BATCH: &str = "SELECT parent, depth, retention, state, waits, start, followed, \
    total, pending, succeeded, failed, deleted, ended_at, expires_at, clean_at, reason \
    FROM portfire_batch WHERE batch = ?1";
const UPDATE_BATCH: &str = "UPDATE portfire_batch SET state = ?2, waits = ?3, start = ?4, \
    followed = ?5, total = ?6, pending = ?7, succeeded = ?8, failed = ?9, deleted = ?10, \
    ended_at = ?11, expires_at = ?12, clean_at = ?13, reason = ?14 WHERE batch = ?1";
const SELECT_ABANDONED: &str =
    "SELECT batch FROM portfire_batch WHERE state = ?1 AND created_at <= ?2 ORDER BY batch";
const SELECT_EXPIRED: &str = "SELECT batch FROM portfire_batch \
    WHERE clean_at <= ?1 ORDER BY clean_at, batch LIMIT ?2";
const UPDATE_CLEAN_AT: &str = "UPDATE portfire_batch SET clean_at = NULL WHERE batch = ?1";
const SELECT_AFTER: &str = "SELECT after FROM portfire_batch WHERE batch = ?1";
const DELETE_BATCH: &str = "DELETE FROM portfire_batch WHERE batch = ?1";
const INSERT_CANCELLED: &str = "INSERT INTO portfire_cancelled (batch, position) VALUES (?1, 0)";

/// The rows that the transaction has read or made.
pub(crate) type Batches = HashMap<i64, Batch>;

/// A batch, but for what is written once and only shown.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) parent: Option<i64>,
    pub(crate) depth: u32,
    /// In microseconds.
    pub(crate) retention: i64,
    pub(crate) state: BatchState,
    /// What it waits for still, the start of its parent included.
    pub(crate) waits: u32,
    /// Whether the start of its parent is among that.
    pub(crate) start: bool,
    pub(crate) followed: bool,
    pub(crate) members: Progression,
    pub(crate) ended_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) clean_at: Option<i64>,
    pub(crate) reason: Option<String>,
    pub(crate) dirty: bool,
}

impl Batch {
    fn read(row: &SqlRow<'_>) -> rusqlite::Result<Batch> {
        let count = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
        let members = Progression {
            total: count(7)?,
            pending: count(8)?,
            succeeded: count(9)?,
            failed: count(10)?,
            deleted: count(11)?,
        };
        Ok(Batch {
            parent: row.get(0)?,
            depth: row.get(1)?,
            retention: row.get(2)?,
            state: batch_state(row.get(3)?),
            waits: row.get(4)?,
            start: row.get(5)?,
            followed: row.get(6)?,
            members,
            ended_at: row.get(12)?,
            expires_at: row.get(13)?,
            clean_at: row.get(14)?,
            reason: row.get(15)?,
            dirty: false,
        })
    }

    /// Whether its members may run.
    pub(crate) fn has_started(&self) -> bool {
        !matches!(self.state, BatchState::Open | BatchState::Awaiting)
    }

    /// Whether it was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self.state, BatchState::Cancelling | BatchState::Cancelled)
    }

    /// Moves a member from one state to another; `None` when it is new.
    fn count(&mut self, from: Option<StateName>, to: StateName) {
        self.dirty = true;
        match from {
            Some(from) => {
                let slot = slot(&mut self.members, from);
                *slot = slot.saturating_sub(1);
            }
            None => self.members.total += 1,
        }
        *slot(&mut self.members, to) += 1;
    }

    /// Ends it, if it can end and nothing is pending. Says between which states it moved by that, as a
    /// member of another.
    fn end(&mut self, now: i64) -> Option<(StateName, StateName)> {
        if self.members.pending > 0 {
            return None;
        }
        self.state = match self.state {
            BatchState::Started => self.members.end(false),
            BatchState::Cancelling => self.members.end(true),
            _ => return None,
        };
        self.dirty = true;
        self.ended_at = Some(now);
        self.expires_at = Some(now.saturating_add(self.retention));
        self.clean_at = self.expires_at;
        Some((PENDING, self.state.end()?))
    }

    /// An ended batch goes on when a member does.
    fn reopen(&mut self) -> Option<(StateName, StateName)> {
        let end = self.state.end()?;
        self.dirty = true;
        self.state = BatchState::Started;
        (self.ended_at, self.expires_at, self.clean_at) = (None, None, None);
        Some((end, PENDING))
    }
}

/// Stands for all states that are not final, where members are counted.
const PENDING: StateName = StateName::Enqueued;

fn slot(members: &mut Progression, state: StateName) -> &mut u64 {
    match state {
        StateName::Succeeded => &mut members.succeeded,
        StateName::Failed => &mut members.failed,
        StateName::Deleted => &mut members.deleted,
        _ => &mut members.pending,
    }
}

/// The batch with this number, to be changed; whoever does so marks it as dirty.
pub(crate) fn get<'w>(write: &'w mut Write<'_>, number: i64) -> Result<&'w mut Batch, Failure> {
    find(write, number)?.ok_or_else(|| corrupt(format!("batch number {number} is not stored")))
}

/// As [`get`], for a batch that may have been cleaned.
pub(crate) fn find<'w>(
    write: &'w mut Write<'_>,
    number: i64,
) -> Result<Option<&'w mut Batch>, Failure> {
    if !write.batches.contains_key(&number) {
        let mut select = write.conn.prepare_cached(SELECT_BATCH)?;
        let Some(found) = select.query_row([number], Batch::read).optional()? else {
            return Ok(None);
        };
        write.batches.insert(number, found);
    }
    Ok(write.batches.get_mut(&number))
}

/// Writes what was changed.
pub(crate) fn flush(write: &mut Write<'_>) -> rusqlite::Result<()> {
    let conn = write.conn;
    for (&number, batch) in write.batches.iter_mut().filter(|(_, batch)| batch.dirty) {
        let Progression { total, pending, succeeded, failed, deleted } = batch.members;
        let count = u64::cast_signed;
        conn.prepare_cached(UPDATE_BATCH)?.execute(params![
            number,
            state_code(batch.state),
            batch.waits,
            batch.start,
            batch.followed,
            count(total),
            count(pending),
            count(succeeded),
            count(failed),
            count(deleted),
            batch.ended_at,
            batch.expires_at,
            batch.clean_at,
            batch.reason
        ])?;
        batch.dirty = false;
    }
    Ok(())
}

/// Counts a member that moved, or was added, in its batch and, when that ends or goes on by it, in those
/// above.
pub(crate) fn member_moved(
    write: &mut Write<'_>,
    number: i64,
    from: Option<StateName>,
    to: StateName,
) -> Result<(), Failure> {
    if from.is_some_and(|from| !from.is_final() && !to.is_final()) {
        return Ok(());
    }
    write.touch();
    let batch = get(write, number)?;
    batch.count(from, to);
    if batch.members.pending > 0 {
        let moved = batch.reopen();
        return tell(write, number, moved);
    }
    end(write, number)
}

/// Ends a batch, if it can end and nothing is pending; not before all members are there that a call brings.
/// One that stands in a cancelled batch was cancelled with that.
fn end(write: &mut Write<'_>, number: i64) -> Result<(), Failure> {
    if let Some(emptied) = &mut write.emptied {
        emptied.push(number);
        return Ok(());
    }
    let now = write.now.as_micros();
    let above = get(write, number)?.parent;
    let above = cancelled_above(write, above)?.map(|batch| batch.reason.clone());
    let batch = get(write, number)?;
    if let Some(reason) = above
        && batch.state == BatchState::Started
        && batch.members.pending == 0
    {
        batch.state = BatchState::Cancelling;
        batch.reason = reason;
    }
    let moved = batch.end(now);
    tell(write, number, moved)
}

/// From here on no batch ends, because members are being added.
pub(crate) fn hold_open(write: &mut Write<'_>) {
    write.emptied = Some(Vec::new());
}

/// Lets the batches take their course that a call has made, with why those can never start that cannot, and
/// then those that lost their last pending member meanwhile.
pub(crate) fn let_end(
    write: &mut Write<'_>,
    made: Vec<(i64, Option<String>)>,
    emptied: Vec<i64>,
) -> Result<(), Failure> {
    for (number, unmet) in made {
        match unmet {
            Some(reason) => give_up(write, number, &reason)?,
            None => end(write, number)?,
        }
    }
    emptied.into_iter().try_for_each(|number| end(write, number))
}

/// Tells of a batch that has ended or goes on: to those who wait for it, and to the batches above.
fn tell(
    write: &mut Write<'_>,
    number: i64,
    moved: Option<(StateName, StateName)>,
) -> Result<(), Failure> {
    let Some((from, to)) = moved else { return Ok(()) };
    write.touch();
    let batch = get(write, number)?;
    let (parent, followed) = (batch.parent, batch.followed);
    if followed && to.is_final() {
        outbox::push(write, Due::new(What::Batch(to), number))?;
    }
    match parent {
        Some(parent) => member_moved(write, parent, Some(from), to),
        None => Ok(()),
    }
}

/// One thing less that a batch waits for; the last one starts it, when it is sealed.
pub(crate) fn fulfil(write: &mut Write<'_>, number: i64, is_start: bool) -> Result<(), Failure> {
    let batch = get(write, number)?;
    if batch.has_started() {
        return Ok(());
    }
    batch.dirty = true;
    batch.waits = batch.waits.saturating_sub(1);
    batch.start &= !is_start;
    let starts = batch.waits == 0 && batch.state == BatchState::Awaiting;
    write.touch();
    if starts { start(write, number) } else { Ok(()) }
}

/// A batch can never start, because something that it waited for ended otherwise.
pub(crate) fn give_up(write: &mut Write<'_>, number: i64, reason: &str) -> Result<(), Failure> {
    if get(write, number)?.has_started() { Ok(()) } else { cancel(write, number, reason) }
}

fn start(write: &mut Write<'_>, number: i64) -> Result<(), Failure> {
    let batch = get(write, number)?;
    batch.dirty = true;
    batch.state = BatchState::Started;
    let is_empty = batch.members.pending == 0;
    write.touch();
    if is_empty {
        return end(write, number);
    }
    Ok(outbox::push(write, Due::new(What::Start, number))?)
}

/// Cancels a batch that has not ended.
pub(crate) fn cancel(write: &mut Write<'_>, number: i64, reason: &str) -> Result<(), Failure> {
    let batch = get(write, number)?;
    if batch.is_cancelled() || batch.state.end().is_some() {
        return Ok(());
    }
    if batch.waits > 0 {
        let after = waits_for(write.conn, number)?;
        links::close_waits(write, number, &after)?;
    }
    let batch = get(write, number)?;
    (batch.waits, batch.start) = (0, false);
    batch.dirty = true;
    batch.state = BatchState::Cancelling;
    batch.reason = Some(reason.to_owned());
    let is_empty = batch.members.pending == 0;
    write.touch();
    if is_empty {
        return end(write, number);
    }
    write.conn.prepare_cached(INSERT_CANCELLED)?.execute([number])?;
    write.hint_work();
    Ok(())
}

/// After a member was cleaned: a batch that has outlived its time can be cleaned with the last one.
pub(crate) fn member_cleaned(write: &mut Write<'_>, number: i64) -> Result<(), Failure> {
    let conn = write.conn;
    let batch = get(write, number)?;
    if batch.expires_at.is_some() && batch.clean_at.is_none() && !members::has_any(conn, number)? {
        batch.clean_at = batch.expires_at;
        batch.dirty = true;
    }
    Ok(())
}

/// Cancels the batches that have stood open for too long.
pub(crate) fn give_up_open(write: &mut Write<'_>) -> Result<(), Failure> {
    let abandoned = write.now.saturating_sub(BATCH_OPEN_MAX).as_micros();
    let open = numbers(write.conn, SELECT_ABANDONED, [state_code(BatchState::Open), abandoned])?;
    open.into_iter().try_for_each(|number| cancel(write, number, "it was never sealed"))
}

/// Removes up to `max` ended batches that have outlived their time and whose members are gone, the
/// earliest first. Says whether there are more.
pub(crate) fn clean(write: &mut Write<'_>, max: usize) -> Result<bool, Failure> {
    let mut passed = HashSet::new();
    let mut removed = 0;
    loop {
        flush(write)?;
        let limit = passed.len() as i64 + 1;
        let expired = numbers(write.conn, SELECT_EXPIRED, [write.now.as_micros(), limit])?;
        let Some(&number) = expired.iter().find(|number| !passed.contains(*number)) else {
            return Ok(false);
        };
        if outbox::has(write, number)? {
            passed.insert(number);
        } else if members::has_any(write.conn, number)? {
            look_no_more(write, number)?;
        } else if removed == max {
            return Ok(true);
        } else {
            remove(write, number)?;
            removed += 1;
        }
    }
}

/// Leaves a batch alone until the last of its members is cleaned.
fn look_no_more(write: &mut Write<'_>, number: i64) -> rusqlite::Result<()> {
    write.conn.prepare_cached(UPDATE_CLEAN_AT)?.execute([number])?;
    if let Some(batch) = write.batches.get_mut(&number) {
        batch.clean_at = None;
    }
    write.touch();
    Ok(())
}

fn numbers(conn: &Connection, sql: &str, values: [i64; 2]) -> rusqlite::Result<Vec<i64>> {
    conn.prepare_cached(sql)?.query_map(values, |row| row.get(0))?.collect()
}

fn remove(write: &mut Write<'_>, number: i64) -> Result<(), Failure> {
    let conn = write.conn;
    write.touch();
    let batch = get(write, number)?;
    let (parent, followed) = (batch.parent, batch.followed);
    links::forget_waits(conn, number, &waits_for(conn, number)?)?;
    if followed {
        links::forget_followers(conn, number)?;
    }
    conn.prepare_cached(DELETE_BATCH)?.execute([number])?;
    write.batches.remove(&number);
    match parent {
        Some(parent) => member_cleaned(write, parent),
        None => Ok(()),
    }
}

/// What a batch waits for, or waited.
pub(crate) fn waits_for(conn: &Connection, number: i64) -> Result<Vec<Dependency>, Failure> {
    let after: Option<String> =
        conn.prepare_cached(SELECT_AFTER)?.query_row([number], |row| row.get(0))?;
    let Some(text) = after else { return Ok(Vec::new()) };
    serde_json::from_str(&text)
        .map_err(|error| corrupt(format!("what batch number {number} waits for: {error}")))
}

/// Seals or cancels a batch.
pub(crate) fn change(
    write: &mut Write<'_>,
    id: BatchId,
    change: &BatchChange,
) -> Result<BatchChanged, Failure> {
    let Some(number) = links::batch_number(write.conn, id)? else {
        return Ok(BatchChanged::Missing);
    };
    let batch = get(write, number)?;
    match change {
        BatchChange::Seal if batch.state == BatchState::Open && batch.waits == 0 => {
            start(write, number)?;
        }
        BatchChange::Seal if batch.state == BatchState::Open => {
            batch.dirty = true;
            batch.state = BatchState::Awaiting;
            write.touch();
        }
        BatchChange::Cancel { reason } if !batch.is_cancelled() && batch.state.end().is_none() => {
            cancel(write, number, reason)?;
        }
        _ => return Ok(BatchChanged::Unchanged(batch.state)),
    }
    Ok(BatchChanged::Applied(get(write, number)?.state))
}

/// Why a member of this batch is given to nobody: the reason of the nearest batch that was cancelled.
pub(crate) fn cancellation(
    write: &mut Write<'_>,
    batch: Option<i64>,
) -> Result<Option<String>, Failure> {
    let cancelled = cancelled_above(write, batch)?;
    let reason = cancelled.map(|batch| batch.reason.as_deref().unwrap_or_default());
    Ok(reason.map(|reason| format!("its batch was cancelled: {reason}")))
}

/// The nearest batch that was cancelled, from this one upwards.
fn cancelled_above<'w>(
    write: &'w mut Write<'_>,
    mut batch: Option<i64>,
) -> Result<Option<&'w Batch>, Failure> {
    while let Some(number) = batch {
        let found = get(write, number)?;
        if found.is_cancelled() {
            break;
        }
        batch = found.parent;
    }
    Ok(batch.and_then(|number| write.batches.get(&number)))
}

/// The state that is stored under this number.
pub(crate) fn batch_state(code: i64) -> BatchState {
    let at = usize::try_from(code).unwrap_or(usize::MAX);
    BatchState::ALL.get(at).copied().unwrap_or(BatchState::Cancelled)
}

/// The place of a state in [`BatchState::ALL`], under which it is stored.
pub(crate) fn state_code(state: BatchState) -> i64 {
    let at = BatchState::ALL.iter().position(|listed| *listed == state);
    at.and_then(|at| i64::try_from(at).ok()).unwrap_or(0)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_BATCH,
    UPDATE_BATCH,
    SELECT_ABANDONED,
    SELECT_EXPIRED,
    UPDATE_CLEAN_AT,
    SELECT_AFTER,
    DELETE_BATCH,
    INSERT_CANCELLED,
];
