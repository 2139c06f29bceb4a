//! The progress of batches: their members are counted, and they start, end, go on and are cancelled.

use std::sync::Arc;

use super::rows::{Batch, Due, RowChange, Rows, Seq, What};
use super::{due, links, must_be};
use crate::batch::{BatchChange, BatchChanged, BatchId, BatchState};
use crate::state::StateName;

/// Why a batch is cancelled that was never sealed.
pub const NEVER_SEALED: &str = "it was never sealed";

/// Stands for all states that are not final, where members are counted.
const PENDING: StateName = StateName::Enqueued;

/// Counts a member that moved, or was added, in its batch and, when that ends or goes on by it, in those above.
pub(super) fn member_moved<R: Rows>(
    rows: &mut R,
    batch: Seq,
    from: Option<StateName>,
    to: StateName,
) -> Result<(), R::Error> {
    if from.is_some_and(|from| !from.is_final() && !to.is_final()) {
        return Ok(());
    }
    let members = rows.count_member(batch, from, to)?;
    match (from, members) {
        (Some(from), _) if from.is_final() && !to.is_final() => reopen(rows, batch),
        (Some(from), _) if from.is_final() => fail_for_good(rows, batch),
        (_, Some(members)) if members.pending == 0 => end_emptied(rows, batch),
        _ => Ok(()),
    }
}

/// Counts a member as deleted that has failed and whose retention has ended: it is removed, and cannot be requeued.
///
/// # Errors
/// Those of the storage.
pub fn member_removed<R: Rows>(rows: &mut R, batch: Seq, end: StateName) -> Result<(), R::Error> {
    match end {
        StateName::Failed => member_moved(rows, batch, Some(end), StateName::Deleted),
        _ => Ok(()),
    }
}

/// A failed batch one of whose final members was deleted succeeds no more. To the batch around it that is a member that
/// was deleted.
fn fail_for_good<R: Rows>(rows: &mut R, seq: Seq) -> Result<(), R::Error> {
    let mut batch = get(rows, seq)?;
    if batch.state != BatchState::Failed || batch.for_good {
        return Ok(());
    }
    batch.for_good = true;
    rows.put(RowChange::BatchPut { seq, batch: &batch })?;
    if batch.followed {
        due::push(rows, Due::new(What::BatchFailedForGood, seq))?;
    }
    match batch.parent {
        Some(parent) => member_moved(rows, parent, Some(StateName::Failed), StateName::Deleted),
        None => Ok(()),
    }
}

/// Ends a batch that has nothing pending, if it can end; not before all members are there that a call brings.
/// One that stands in a cancelled batch was cancelled with that.
///
/// # Errors
/// Those of the storage.
pub fn end_emptied<R: Rows>(rows: &mut R, seq: Seq) -> Result<(), R::Error> {
    if let Some(emptied) = &mut rows.agenda().emptied {
        emptied.push(seq);
        return Ok(());
    }
    let mut batch = get(rows, seq)?;
    if !matches!(batch.state, BatchState::Started | BatchState::Cancelling) {
        return Ok(());
    }
    let members = rows.members(seq)?;
    if members.pending > 0 {
        return Ok(());
    }
    let above = cancelled_above(rows, batch.parent)?;
    let is_cancelled = batch.is_cancelled() || above.is_some();
    if batch.state == BatchState::Started
        && let Some(above) = above
    {
        batch.reason = above.reason;
    }
    batch.state = members.end(is_cancelled);
    batch.for_good = batch.state == BatchState::Failed && members.deleted > 0;
    let now = rows.now().as_micros();
    batch.ended_at = Some(now);
    batch.expires_at = Some(now.saturating_add(batch.retention));
    batch.clean_at = batch.expires_at;
    rows.put(RowChange::BatchPut { seq, batch: &batch })?;
    let (Some(end), Some(counted)) = (batch.state.end(), batch.counts_as()) else { return Ok(()) };
    if batch.followed {
        let what = if batch.for_good { What::BatchFailedForGood } else { What::BatchEnded(end) };
        due::push(rows, Due::new(what, seq))?;
    }
    match batch.parent {
        Some(parent) => member_moved(rows, parent, Some(PENDING), counted),
        None => Ok(()),
    }
}

/// An ended batch goes on when a member does.
fn reopen<R: Rows>(rows: &mut R, seq: Seq) -> Result<(), R::Error> {
    let mut batch = get(rows, seq)?;
    let Some(counted) = batch.counts_as() else { return Ok(()) };
    (batch.state, batch.for_good) = (BatchState::Started, false);
    (batch.ended_at, batch.expires_at, batch.clean_at) = (None, None, None);
    rows.put(RowChange::BatchPut { seq, batch: &batch })?;
    match batch.parent {
        Some(parent) => member_moved(rows, parent, Some(counted), PENDING),
        None => Ok(()),
    }
}

/// One thing less that a batch waits for; the last one starts it, when it is sealed.
pub(super) fn wait_for_less<R: Rows>(
    rows: &mut R,
    seq: Seq,
    is_start: bool,
) -> Result<(), R::Error> {
    let mut batch = get(rows, seq)?;
    if batch.has_started() {
        return Ok(());
    }
    batch.waits = batch.waits.saturating_sub(1);
    batch.start &= !is_start;
    if batch.waits == 0 && batch.state == BatchState::Awaiting {
        return start(rows, seq, batch);
    }
    rows.put(RowChange::BatchPut { seq, batch: &batch })
}

fn start<R: Rows>(rows: &mut R, seq: Seq, mut batch: Batch) -> Result<(), R::Error> {
    batch.state = BatchState::Started;
    rows.put(RowChange::BatchPut { seq, batch: &batch })?;
    match rows.members(seq)?.pending {
        0 => end_emptied(rows, seq),
        _ => due::push(rows, Due::new(What::BatchStarted, seq)),
    }
}

/// A batch can never start, because something that it waited for ended otherwise.
pub(super) fn give_up<R: Rows>(rows: &mut R, seq: Seq, reason: &str) -> Result<(), R::Error> {
    if get(rows, seq)?.has_started() { Ok(()) } else { cancel(rows, seq, reason) }
}

/// Cancels a batch that has not ended.
///
/// # Errors
/// Those of the storage.
pub fn cancel<R: Rows>(rows: &mut R, seq: Seq, reason: &str) -> Result<(), R::Error> {
    let mut batch = get(rows, seq)?;
    if batch.is_cancelled() || batch.has_ended() {
        return Ok(());
    }
    if batch.waits > 0 {
        let after = rows.batch_after(seq)?;
        links::close(rows, seq, &after)?;
    }
    (batch.waits, batch.start) = (0, false);
    batch.state = BatchState::Cancelling;
    batch.reason = Some(Arc::from(reason));
    rows.put(RowChange::BatchPut { seq, batch: &batch })?;
    match rows.members(seq)?.pending {
        0 => end_emptied(rows, seq),
        _ => rows.put(RowChange::SweepNew { batch: seq }),
    }
}

/// Seals or cancels a batch.
///
/// # Errors
/// Those of the storage.
pub fn change_batch<R: Rows>(
    rows: &mut R,
    id: BatchId,
    change: &BatchChange,
) -> Result<BatchChanged, R::Error> {
    let Some(seq) = rows.batch_by_id(id)? else { return Ok(BatchChanged::Missing) };
    let mut batch = get(rows, seq)?;
    match change {
        BatchChange::Seal if batch.state == BatchState::Open && batch.waits == 0 => {
            start(rows, seq, batch)?;
        }
        BatchChange::Seal if batch.state == BatchState::Open => {
            batch.state = BatchState::Awaiting;
            rows.put(RowChange::BatchPut { seq, batch: &batch })?;
        }
        BatchChange::Cancel { reason } if !batch.is_cancelled() && !batch.has_ended() => {
            cancel(rows, seq, reason)?;
        }
        _ => return Ok(BatchChanged::Unchanged(batch.state)),
    }
    Ok(BatchChanged::Applied(get(rows, seq)?.state))
}

/// Why a member of this batch is given to nobody: the reason of the nearest batch that was cancelled.
///
/// # Errors
/// Those of the storage.
pub fn cancellation<R: Rows>(rows: &mut R, batch: Option<Seq>) -> Result<Option<String>, R::Error> {
    let cancelled = cancelled_above(rows, batch)?;
    Ok(cancelled.map(|batch| {
        format!("its batch was cancelled: {}", batch.reason.as_deref().unwrap_or_default())
    }))
}

/// The nearest batch that was cancelled, from this one upwards.
fn cancelled_above<R: Rows>(
    rows: &mut R,
    mut batch: Option<Seq>,
) -> Result<Option<Batch>, R::Error> {
    while let Some(seq) = batch {
        let found = get(rows, seq)?;
        if found.is_cancelled() {
            return Ok(Some(found));
        }
        batch = found.parent;
    }
    Ok(None)
}

/// The batch with this number, which another row names.
pub(super) fn get<R: Rows>(rows: &mut R, seq: Seq) -> Result<Batch, R::Error> {
    let found = rows.batch(seq)?;
    must_be(found, || format!("batch number {seq} is named and is not stored"))
}
