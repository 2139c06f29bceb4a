//! A job's move, with all that follows from it: for its run, those that wait for it, its unique key, its limits
//! and its batch.

use super::rows::{Due, Facts, Job, Move, Position, Ran, Rows, StateRow, What};
use super::{batches, due, links, must_be, unique};
use crate::state::{Cause, StateName};
use crate::transition::{Event, Place, Refusal, Standing, Transition, next};

/// Does what happens to a job, or nothing when its state does not allow it. Answers where it stands then.
///
/// # Errors
/// Those of the storage.
pub fn transit<R: Rows>(
    rows: &mut R,
    job: &Job,
    from: &Position,
    event: Event,
    facts: &Facts<'_>,
) -> Result<Result<Standing, Refusal>, R::Error> {
    let retention = job.retention.unwrap_or(rows.retention());
    let mut made = match next(&from.standing, event, rows.now(), &retention) {
        Ok(made) => made,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Some(unique) = job.ties.as_ref().and_then(|ties| ties.unique.as_ref()) {
        unique.keep(&mut made, job.created_at);
    }
    let row = arrival(rows, job, from, &made, facts)?;
    let written = if is_derived(&made) { from.written } else { made.to.revision };
    let to = Position { standing: made.to, written, row };
    rows.move_job(Move { job, from, to: &to, made: &made, facts })?;
    if event == Event::Delete && matches!(from.row, StateRow::Running { .. }) {
        rows.hint_control();
    }
    rows.leave_limits(job, &from.row)?;
    follow(rows, job, from, &made)?;
    Ok(Ok(made.to))
}

/// As [`transit`], for an event that the job's state is known to allow.
///
/// # Errors
/// Those of the storage; a refusal means that its rows contradict one another.
pub fn must<R: Rows>(
    rows: &mut R,
    job: &Job,
    from: &Position,
    event: Event,
    facts: &Facts<'_>,
) -> Result<Standing, R::Error> {
    let made = transit(rows, job, from, event, facts)?;
    made.map_err(|refusal| super::Broken(format!("job number {}: {refusal}", job.seq)).into())
}

/// Whether the entry of a transition in the history is derived from the job's instants rather than written: the usual
/// path is, and is written down only when something unusual follows.
pub fn is_derived(made: &Transition) -> bool {
    match made.cause {
        Cause::Created | Cause::Promoted | Cause::Claimed | Cause::Succeeded => true,
        Cause::Continued => made.to.state == StateName::Enqueued,
        _ => false,
    }
}

/// The row to which a transition leads.
fn arrival<R: Rows>(
    rows: &mut R,
    job: &Job,
    from: &Position,
    made: &Transition,
    facts: &Facts<'_>,
) -> Result<StateRow, R::Error> {
    let now = rows.now();
    Ok(match made.to.state {
        StateName::Scheduled => {
            StateRow::Scheduled { run_at: made.run_at.unwrap_or(now), cause: made.cause }
        }
        StateName::Enqueued => {
            let enqueued_at = Some(now);
            if let (Some(Place::Old), StateRow::Running { place, .. }) = (made.place, from.row) {
                return Ok(StateRow::Ready { place, enqueued_at });
            }
            if made.place == Some(Place::Apart) {
                return Ok(StateRow::Apart { turn: rows.draw_place()?, enqueued_at });
            }
            match rows.line_up(job.ties.as_deref(), job.kind)? {
                Some(key) => StateRow::InLine { key, enqueued_at },
                None => StateRow::Ready { place: rows.draw_place()?, enqueued_at },
            }
        }
        StateName::Succeeded => {
            let ran = match from.row {
                StateRow::Running { server, claimed_at, enqueued_at, .. } => {
                    Some(Ran { server, claimed_at, enqueued_at, duration: facts.duration })
                }
                _ => None,
            };
            StateRow::Finished { finished_at: now, expires_at: made.expires_at, ran }
        }
        // Awaiting is never entered by a transition, and claims have a faster way of their own.
        StateName::Failed | StateName::Deleted | StateName::Awaiting | StateName::Processing => {
            StateRow::Finished { finished_at: now, expires_at: made.expires_at, ran: None }
        }
    })
}

/// What a transition means for those that the job is tied to, now that it stands where it was moved to. Claims do not
/// come here: they move many jobs at once, and have their own way.
fn follow<R: Rows>(
    rows: &mut R,
    job: &Job,
    from: &Position,
    made: &Transition,
) -> Result<(), R::Error> {
    if job.is_plain() {
        return Ok(());
    }
    let (was, is) = (from.standing.state, made.to.state);
    if let Some(ties) = &job.ties {
        match &ties.occurrence {
            Some(occurrence) if is.is_final() => rows.end_run(job.seq, occurrence, is)?,
            Some(occurrence) if was.is_final() => rows.reopen_run(job, occurrence)?,
            _ => {}
        }
        if was == StateName::Awaiting && made.cause != Cause::Continued {
            links::close(rows, job.seq, &ties.after)?;
        }
        if let Some(key) = &ties.unique
            && unique::ends_in(key, is)
        {
            rows.free_unique(key, job.seq)?;
        }
    }
    // Who waits for the success of a failed job hears of its deletion.
    if job.followed && is.is_final() && (!was.is_final() || was == StateName::Failed) {
        due::push(rows, Due::new(What::JobEnded(is), job.seq))?;
    }
    match job.batch {
        Some(batch) => batches::member_moved(rows, batch, Some(was), is),
        None => Ok(()),
    }
}

/// The job with this number, which another row names.
pub(super) fn job<R: Rows>(rows: &mut R, seq: i64) -> Result<(Job, Position), R::Error> {
    let found = rows.job(seq)?;
    must_be(found, || format!("job number {seq} is named and is not stored"))
}
