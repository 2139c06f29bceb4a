//! Sweeps: the members of cancelled batches are deleted in pieces, in the order of their creation.

use super::rows::{Facts, Job, Node, Position, RowChange, Rows, Seq, Sweep};
use super::{batches, due, moves};
use crate::transition::Event;

/// Members that are looked at together.
const CHUNK: usize = 256;
/// Most members that one call looks at, most of which have ended long since.
const SCANNED_MAX: usize = 20_000;

/// Goes on with deleting the members of cancelled batches, up to `max` of them. Answers how many it was.
///
/// # Errors
/// Those of the storage.
pub fn sweep<R: Rows>(rows: &mut R, max: usize) -> Result<usize, R::Error> {
    let mut pass = Pass { done: 0, max, scanned: 0 };
    while pass.goes_on()
        && let Some(sweep) = rows.first_sweep()?
    {
        let turn = sweep.turn;
        match pass.members(rows, sweep)? {
            Some(position) => {
                rows.put(RowChange::SweepMoved { turn, position })?;
                break;
            }
            None => rows.put(RowChange::SweepDone { turn })?,
        }
    }
    due::put_off(rows)?;
    Ok(pass.done)
}

/// Deletes a member because its batch was cancelled.
///
/// # Errors
/// Those of the storage.
pub fn delete_member<R: Rows>(
    rows: &mut R,
    job: &Job,
    position: &Position,
) -> Result<(), R::Error> {
    let reason = batches::cancellation(rows, job.batch)?;
    let facts = Facts { reason: reason.as_deref(), ..Facts::default() };
    moves::must(rows, job, position, Event::Delete, &facts).map(drop)
}

/// One pass over members of cancelled batches.
struct Pass {
    done: usize,
    max: usize,
    scanned: usize,
}

/// What a pass has done about a member.
enum Swept {
    /// It had ended before.
    Over,
    /// It was deleted or cancelled.
    Done,
    /// It is left for the next pass.
    Left,
}

impl Pass {
    fn goes_on(&self) -> bool {
        self.done < self.max && self.scanned < SCANNED_MAX
    }

    /// Deletes the members after a position. Answers after which to go on, when there are more.
    fn members<R: Rows>(&mut self, rows: &mut R, sweep: Sweep) -> Result<Option<Seq>, R::Error> {
        let Sweep { batch: of, mut position, .. } = sweep;
        let cancelled = rows.batch(of)?;
        let Some(reason) = cancelled.and_then(|batch| batch.reason) else { return Ok(None) };
        loop {
            let chunk = rows.members_after(of, position, CHUNK)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            for member in chunk {
                // With its last pending member gone the batch has ended.
                if batches::get(rows, of)?.has_ended() {
                    return Ok(None);
                }
                if self.scanned >= SCANNED_MAX {
                    return Ok(Some(position));
                }
                self.scanned += 1;
                let swept = match member {
                    Node::Batch(seq) => self.nested(rows, seq, &reason)?,
                    Node::Job(seq) => self.job(rows, seq)?,
                };
                match swept {
                    Swept::Over => {}
                    Swept::Done => self.done += 1,
                    Swept::Left => return Ok(Some(position)),
                }
                position = member.seq();
            }
        }
    }

    fn nested<R: Rows>(&self, rows: &mut R, seq: Seq, reason: &str) -> Result<Swept, R::Error> {
        let batch = batches::get(rows, seq)?;
        if batch.is_cancelled() || batch.has_ended() {
            return Ok(Swept::Over);
        }
        if self.done == self.max {
            return Ok(Swept::Left);
        }
        batches::cancel(rows, seq, reason)?;
        Ok(Swept::Done)
    }

    fn job<R: Rows>(&self, rows: &mut R, seq: Seq) -> Result<Swept, R::Error> {
        let (job, position) = moves::job(rows, seq)?;
        if position.standing.state.is_final() {
            return Ok(Swept::Over);
        }
        if self.done == self.max {
            return Ok(Swept::Left);
        }
        delete_member(rows, &job, &position)?;
        Ok(Swept::Done)
    }
}
