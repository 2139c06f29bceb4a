//! What has ended or started, and must still be told to those who wait for it.
//!
//! A call gathers it and sees to it before its end. What is too much for one call goes to the outbox, which
//! promotions work off in the order in which things happened.

use super::links::End;
use super::rows::{Due, Job, Node, Reach, RowChange, Rows, Seq, What};
use super::{batches, links, starts};
use crate::state::StateName;
use crate::storage::RELEASE_MAX;

/// How far something was told.
pub(super) struct Settled {
    /// How many of those who wait were told.
    count: usize,
    /// The last of them, when there are more.
    position: Option<Seq>,
}

impl Settled {
    /// Cuts those who wait to the first `room`.
    pub(super) fn first_of<T>(
        waiting: &mut Vec<T>,
        room: usize,
        seq: impl Fn(&T) -> Seq,
    ) -> Settled {
        let more = waiting.len() > room;
        waiting.truncate(room);
        let position = waiting.last().filter(|_| more).map(seq);
        Settled { count: waiting.len(), position }
    }
}

/// Gathers what has ended or started. The first end that decides counts: while one waits in the outbox that decides about
/// all, or about as many, another end of the same job or batch tells nobody anything. An end after a failure that is still
/// being told waits behind it.
pub(super) fn push<R: Rows>(rows: &mut R, due: Due) -> Result<(), R::Error> {
    if let Some(reach) = due.what.reach()
        && let Some(last) = rows.last_end_due(due.seq)?
    {
        return match last.reach() {
            Some(Reach::OfFailure) if reach == Reach::All => rows.put(RowChange::DueNew(&due)),
            _ => Ok(()),
        };
    }
    rows.agenda().due.push_back(due);
    Ok(())
}

/// Sees to those who wait for a final job whose retention has ended: to them that is its deletion. Answers whether the job
/// can be removed now. When not, [`settle`] is to follow: then it can be unless its end is in the outbox.
///
/// # Errors
/// Those of the storage.
pub fn expire<R: Rows>(rows: &mut R, job: &Job, state: StateName) -> Result<bool, R::Error> {
    // Every other end has decided about all when it came.
    if state != StateName::Failed || !job.followed {
        return Ok(true);
    }
    if rows.children(job.seq, Reach::All, 0, 1)?.is_empty() {
        return Ok(true);
    }
    push(rows, Due::new(What::JobEnded(StateName::Deleted), job.seq))?;
    Ok(false)
}

/// Does what follows from all that a call has changed: the last thing in it, but for a claim.
///
/// # Errors
/// Those of the storage.
pub fn settle<R: Rows>(rows: &mut R) -> Result<(), R::Error> {
    let mut room = RELEASE_MAX;
    while room > 0
        && let Some(due) = rows.agenda().due.pop_front()
    {
        let Settled { count, position } = tell(rows, &due, room)?;
        room -= count;
        if let Some(position) = position {
            rows.agenda().due.push_front(Due { position, ..due });
        }
    }
    put_off(rows)?;
    rows.settle_limits()
}

/// Leaves what was gathered to promotions, behind what earlier calls left.
///
/// # Errors
/// Those of the storage.
pub fn put_off<R: Rows>(rows: &mut R) -> Result<(), R::Error> {
    while let Some(due) = rows.agenda().due.pop_front() {
        rows.put(RowChange::DueNew(&due))?;
    }
    Ok(())
}

/// Goes on with what earlier calls left, for up to `max` of those who wait. Answers for how many.
///
/// # Errors
/// Those of the storage.
pub fn work_off<R: Rows>(rows: &mut R, max: usize) -> Result<usize, R::Error> {
    let mut done = 0;
    while done < max
        && let Some((turn, due)) = rows.first_due()?
    {
        let Settled { count, position } = tell(rows, &due, max - done)?;
        done += count;
        rows.put(match position {
            Some(position) => RowChange::DueMoved { turn, position },
            None => RowChange::DueDone { turn },
        })?;
        put_off(rows)?;
    }
    Ok(done)
}

fn tell<R: Rows>(rows: &mut R, due: &Due, room: usize) -> Result<Settled, R::Error> {
    match due.what {
        What::JobEnded(end) => links::tell(rows, due, End::of(Node::Job(due.seq), end), room),
        What::BatchEnded(end) => links::tell(rows, due, End::of(Node::Batch(due.seq), end), room),
        What::BatchFailedForGood => links::tell(rows, due, End::for_good(due.seq), room),
        What::BatchStarted => starts::tell(rows, due, room),
        What::BatchEmptied => {
            batches::end_emptied(rows, due.seq)?;
            Ok(Settled { count: 1, position: None })
        }
    }
}
