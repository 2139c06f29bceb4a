//! The start of a batch, told to the members that wait for it: jobs and nested batches.

use super::due::Settled;
use super::rows::{Due, Node, Rows, Starter};
use super::{Broken, batches, links, moves};
use crate::state::StateName;
use crate::transition::{Event, Standing, next};

/// Tells the start of a batch to up to `room` of the members that wait for it, in the order of their creation.
pub(super) fn tell<R: Rows>(rows: &mut R, due: &Due, room: usize) -> Result<Settled, R::Error> {
    let mut starters = rows.starters(due.seq, due.position, room + 1)?;
    let settled = Settled::first_of(&mut starters, room, |starter| starter.node.seq());
    for run in starters.chunk_by(Starter::goes_with) {
        rows.item(|rows| match *run {
            [Starter { node: Node::Batch(seq), .. }] => batches::wait_for_less(rows, seq, true),
            [Starter { node: Node::Job(seq), plain: None }] => {
                let (job, position) = moves::job(rows, seq)?;
                links::wait_for_less(rows, &job, &position, true)
            }
            _ => enqueue(rows, run),
        })?;
    }
    Ok(settled)
}

impl Starter {
    /// Whether two can be released by the same statements: both are plain, and no number lies between theirs.
    fn goes_with(&self, next: &Starter) -> bool {
        self.plain.is_some() && next.plain.is_some() && self.node.seq() + 1 == next.node.seq()
    }
}

/// Puts plain jobs with neighbouring numbers at the ends of their queues.
fn enqueue<R: Rows>(rows: &mut R, run: &[Starter]) -> Result<(), R::Error> {
    let from = Standing::created(StateName::Awaiting);
    let made = next(&from, Event::Continue(None), rows.now(), &rows.retention());
    let made = made.map_err(|refusal| Broken(refusal.to_string()))?;
    rows.enqueue_run(run, &made)
}
