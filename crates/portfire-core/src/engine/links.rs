//! Links: who waits for the end of a job or a batch, and what that end makes of them.

use super::due::Settled;
use super::rows::{
    Child, Due, Facts, Job, Node, Position, Reach, RowChange, Rows, Seq, StateRow, Waiter,
};
use super::{Broken, batches, moves};
use crate::clock::Timestamp;
use crate::continuation::{After, Dependency};
use crate::state::StateName;
use crate::transition::Event;

/// Tells an end to up to `room` of those about whom it decides, in the order of their creation.
pub(super) fn tell<R: Rows>(
    rows: &mut R,
    due: &Due,
    mut end: End,
    room: usize,
) -> Result<Settled, R::Error> {
    let reach = due.what.reach().unwrap_or(Reach::All);
    let mut children = rows.children(due.seq, reach, due.position, room + 1)?;
    let settled = Settled::first_of(&mut children, room, |child| child.seq);
    for child in children {
        rows.item(|rows| {
            rows.put(RowChange::LinkClosed { parent: due.seq, child: child.seq })?;
            end.meet(rows, child)
        })?;
    }
    Ok(settled)
}

/// An end that is being told.
pub(super) struct End {
    parent: Node,
    state: StateName,
    /// Whether it is a batch that has failed for good.
    for_good: bool,
    /// Whose result or error goes with it; found out once, when someone asks.
    said: Option<Option<(Seq, u32)>>,
}

impl End {
    /// The end of a job or a batch.
    pub(super) fn of(parent: Node, state: StateName) -> End {
        End { parent, state, for_good: false, said: None }
    }

    /// A batch that has failed for good.
    pub(super) fn for_good(batch: Seq) -> End {
        End { for_good: true, ..End::of(Node::Batch(batch), StateName::Failed) }
    }

    fn meet<R: Rows>(&mut self, rows: &mut R, child: Child) -> Result<(), R::Error> {
        let Child { seq, after, pass, who } = child;
        let is_met = after.is_met_by(self.state);
        match who {
            Waiter::Gone => Ok(()),
            Waiter::Batch if is_met => batches::wait_for_less(rows, seq, false),
            Waiter::Batch => {
                let reason = self.unmet_reason(rows, after)?;
                batches::give_up(rows, seq, &reason)
            }
            Waiter::Job(job, position) if is_met => {
                if let Some(place) = pass {
                    let of = self.said(rows)?;
                    rows.put(RowChange::Passed { child: seq, place, end: self.state, of })?;
                }
                wait_for_less(rows, &job, &position, false)
            }
            Waiter::Job(job, position) => {
                let reason = self.unmet_reason(rows, after)?;
                let facts = Facts::reason(&reason);
                moves::must(rows, &job, &position, Event::Delete, &facts).map(drop)
            }
        }
    }

    fn unmet_reason<R: Rows>(&self, rows: &mut R, after: After) -> Result<String, R::Error> {
        let dependency = Dependency::on(rows.id_of(self.parent)?).after(after);
        Ok(match self.for_good {
            true => dependency.unmet_for_good(),
            false => dependency.unmet_reason(self.state),
        })
    }

    fn said<R: Rows>(&mut self, rows: &mut R) -> Result<Option<(Seq, u32)>, R::Error> {
        if let Some(known) = self.said {
            return Ok(known);
        }
        let said = said(rows, self.parent, self.state)?;
        self.said = Some(said);
        Ok(said)
    }
}

/// The job and the revision whose result or error a child gets with the end of a parent. It is none for a batch, and
/// for a job that has moved on since: of those a child hears the state alone.
pub(super) fn said<R: Rows>(
    rows: &mut R,
    parent: Node,
    end: StateName,
) -> Result<Option<(Seq, u32)>, R::Error> {
    let Node::Job(seq) = parent else { return Ok(None) };
    let (_, position) = moves::job(rows, seq)?;
    let standing = position.standing;
    Ok((standing.state == end).then_some((seq, standing.revision)))
}

/// One thing less that a job waits for, perhaps the start of its batch; the last one releases it.
pub(super) fn wait_for_less<R: Rows>(
    rows: &mut R,
    job: &Job,
    position: &Position,
    is_start: bool,
) -> Result<(), R::Error> {
    let StateRow::Awaiting { pending, start, when } = position.row else {
        let what = format!("job number {} is released and was not awaiting", job.seq);
        return Err(Broken(what).into());
    };
    if pending > 1 {
        let (pending, start) = (pending - 1, start && !is_start);
        return rows.put(RowChange::Pending { job: job.seq, pending, start });
    }
    // A delay that ends beyond the last instant waits for that one.
    let at = when.resolve(rows.now()).unwrap_or(Some(Timestamp::MAX));
    moves::must(rows, job, position, Event::Continue(at), &Facts::default()).map(drop)
}

/// Closes the links of a child that waits for nothing any more: it was moved by hand, deleted or cancelled.
pub(super) fn close<R: Rows>(
    rows: &mut R,
    child: Seq,
    after: &[Dependency],
) -> Result<(), R::Error> {
    for dependency in after {
        if let Some(parent) = rows.seq_of(dependency.on)? {
            rows.put(RowChange::LinkClosed { parent, child })?;
        }
    }
    Ok(())
}
