//! Explicit changes of jobs, and of queues.

use portfire_core::engine::{self, changes::Step};
use portfire_core::{Change, Changed, InvalidJob, QueueName};

use crate::error::Failure;
use crate::row::{self, Facts, transit};
use crate::unique;
use crate::write::Write;

const UPDATE_PAUSED: &str = "UPDATE portfire_queue SET paused = ?2 WHERE queue = ?1";

/// Applies the changes, each on its own.
pub(crate) fn change(write: &mut Write<'_>, changes: &[Change]) -> Result<Vec<Changed>, Failure> {
    let now = write.now;
    let steps: Result<Vec<_>, InvalidJob> =
        changes.iter().map(|change| Step::of(&change.action, now)).collect();
    let mut changed = Vec::with_capacity(changes.len());
    for (change, step) in changes.iter().zip(steps?) {
        changed.push(change_one(write, change, step)?);
    }
    Ok(changed)
}

fn change_one(write: &mut Write<'_>, change: &Change, step: Step<'_>) -> Result<Changed, Failure> {
    let Some(body) = row::find_body(write.conn, change.job)? else { return Ok(Changed::Missing) };
    let from = row::stand(write.conn, &body)?;
    let open = match step.judge(change.expect.as_ref(), &from.standing, write.now) {
        Err(answer) => return Ok(answer),
        Ok(open) => open,
    };
    if let Some(refused) = open.cancelled
        && engine::cancellation(write, body.batch)?.is_some()
    {
        return Ok(refused);
    }
    if open.takes_key
        && let Some(with) = unique::take_again(write, &body)?
    {
        return Ok(Changed::Conflict { with });
    }
    let facts = Facts { reason: step.reason, ..Facts::default() };
    match transit(write, &body, &from, step.event, &facts)? {
        Err(refusal) => Ok(Changed::Refused(refusal)),
        Ok(to) => Ok(Changed::Applied { from: from.standing.state, revision: to.revision }),
    }
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
