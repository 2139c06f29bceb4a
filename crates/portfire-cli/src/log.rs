//! `portfire jobs log`: what a job has said, also while it runs.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use portfire_core::monitor::PAGE_MAX;
use portfire_core::{Cursor, JobId, LogLine, Storage};

use crate::failure::Failure;
use crate::jobs::find;
use crate::{answer, escape};

/// Between two looks at a log that is followed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Writes the log of a job, a line each; when followed, until the job has ended.
pub(crate) async fn run(
    storage: &dyn Storage,
    id: &str,
    follow: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let id = find(storage, id).await?.id;
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut after = None;
    loop {
        look.tick().await;
        // Looked at before the log: what is said until the end is then in it.
        let job = storage.job(id).await?;
        let ended = job.is_none_or(|job| job.state.name().is_final());
        loop {
            let page = page(storage, id, &mut after).await?;
            if page.is_empty() {
                break;
            }
            if json {
                page.iter().try_for_each(|line| answer::json(line, out))?;
            } else {
                write(&page, out)?;
            }
        }
        if ended || !follow {
            return Ok(());
        }
        out.flush()?;
    }
}

/// The last lines of a log.
pub(crate) async fn tail(
    storage: &dyn Storage,
    id: JobId,
    lines: usize,
) -> Result<Vec<LogLine>, Failure> {
    let mut tail = VecDeque::new();
    let mut after = None;
    loop {
        let page = page(storage, id, &mut after).await?;
        if page.is_empty() {
            return Ok(tail.into());
        }
        tail.extend(page);
        tail.drain(..tail.len().saturating_sub(lines));
    }
}

/// The next lines after a cursor, which is moved behind them; none at the end of the log.
async fn page(
    storage: &dyn Storage,
    id: JobId,
    after: &mut Option<Cursor>,
) -> Result<Vec<LogLine>, Failure> {
    let page = storage.log(id, after.clone(), PAGE_MAX).await?;
    if page.next.is_some() {
        *after = page.next;
    }
    Ok(page.lines)
}

/// Writes lines for people.
pub(crate) fn write(lines: &[LogLine], out: &mut dyn Write) -> Result<(), Failure> {
    for LogLine { attempt, at, level, text } in lines {
        let text = escape::plain(text);
        writeln!(out, "{at} {attempt} {:5} {text}", level.as_str())?;
    }
    Ok(())
}
