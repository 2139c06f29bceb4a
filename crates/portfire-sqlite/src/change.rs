//! Explicit changes of jobs, and of queues.

use portfire_core::engine;
use portfire_core::transition::next;
use portfire_core::{
    Action, Change, Changed, Event, QueueName, Refusal, StateName, StorageError, Timestamp, When,
};

use crate::error::Failure;
use crate::row::{self, Body, Facts, Stand, transit};
use crate::unique;
use crate::write::Write;

const UPDATE_PAUSED: &str = "UPDATE portfire_queue SET paused = ?2 WHERE queue = ?1";

/// Applies the changes, each on its own.
pub(crate) fn change(write: &mut Write<'_>, changes: &[Change]) -> Result<Vec<Changed>, Failure> {
    let now = write.now;
    let steps: Result<Vec<_>, Failure> =
        changes.iter().map(|change| step(&change.action, now)).collect();
    let mut changed = Vec::with_capacity(changes.len());
    for (change, (event, reason)) in changes.iter().zip(steps?) {
        changed.push(change_one(write, change, event, reason)?);
    }
    Ok(changed)
}

fn change_one(
    write: &mut Write<'_>,
    change: &Change,
    event: Event,
    reason: Option<&str>,
) -> Result<Changed, Failure> {
    let Some(body) = row::find_body(write.conn, change.job)? else { return Ok(Changed::Missing) };
    let from = row::stand(write.conn, &body)?;
    let (state, revision) = (from.standing.state, from.standing.revision);
    if change.expect.as_ref().is_some_and(|expect| !expect.holds(state, revision)) {
        return Ok(Changed::Unexpected { state, revision });
    }
    if leads_nowhere(event, state) {
        return Ok(Changed::Unchanged);
    }
    if let Some(instead) = held_back(write, &body, &from, event)? {
        return Ok(instead);
    }
    let facts = Facts { reason, ..Facts::default() };
    match transit(write, &body, &from, event, &facts)? {
        Err(refusal) => Ok(Changed::Refused(refusal)),
        Ok(to) => Ok(Changed::Applied { from: state, revision: to.revision }),
    }
}

/// What keeps a job from running, or running again, beyond the state machine: its batch was cancelled, or
/// another job holds its unique key. A final job that is to run anew takes its key here.
fn held_back(
    write: &mut Write<'_>,
    body: &Body,
    from: &Stand,
    event: Event,
) -> Result<Option<Changed>, Failure> {
    if body.is_plain() || event == Event::Delete {
        return Ok(None);
    }
    let refusal = next(&from.standing, event, write.now, &write.retention).err();
    if let Some(refusal) = refusal {
        return Ok(Some(Changed::Refused(refusal)));
    }
    let state = from.standing.state;
    if engine::cancellation(write, body.batch)?.is_some() {
        let verb = if event == Event::Requeue { "requeued" } else { "rescheduled" };
        return Ok(Some(Changed::Refused(Refusal { state, verb })));
    }
    if !state.is_final() {
        return Ok(None);
    }
    let holder = unique::take_again(write, body)?;
    Ok(holder.map(|with| Changed::Conflict { with }))
}

/// What an action is to the state machine, and the reason that goes with it.
fn step(action: &Action, now: Timestamp) -> Result<(Event, Option<&str>), Failure> {
    Ok(match action {
        Action::Requeue => (Event::Requeue, None),
        Action::Delete { reason } => (Event::Delete, Some(reason)),
        // An instant that is past waits for the next promotion, unlike that of a create.
        Action::Reschedule(When::At(at)) => (Event::Reschedule(*at), None),
        Action::Reschedule(when) => (Event::Reschedule(when.resolve(now)?.unwrap_or(now)), None),
        unknown => {
            let text = format!("this version of the storage does not know the action {unknown:?}");
            return Err(StorageError::Unsupported(text).into());
        }
    })
}

fn leads_nowhere(event: Event, state: StateName) -> bool {
    matches!(
        (event, state),
        (Event::Requeue, StateName::Enqueued) | (Event::Delete, StateName::Deleted)
    )
}

/// Pauses or resumes a queue.
pub(crate) fn set_queue_paused(
    write: &mut Write<'_>,
    name: &QueueName,
    paused: bool,
) -> Result<(), Failure> {
    let is_paused = write.names.queue(write.conn, name)?.is_some_and(|queue| queue.paused);
    if is_paused == paused {
        return Ok(());
    }
    let number = write.names.number_queue(write.conn, name, &mut write.tally.names)?;
    write.conn.prepare_cached(UPDATE_PAUSED)?.execute(rusqlite::params![number, paused])?;
    write.names.clear();
    write.tally.names += 1;
    write.touch();
    write.hint_control();
    if !paused {
        write.hint_work();
    }
    Ok(())
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[UPDATE_PAUSED];
