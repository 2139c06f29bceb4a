//! `portfire jobs show`: everything about one job.

use std::io::Write;

use portfire_core::{
    Antecedent, Continuation, HistoryEntry, JobRecord, JobState, LogLine, NotesRecord, Progress,
    Storage,
};
use serde::Serialize;

use crate::answer;
use crate::batches::CONTINUATIONS_MAX;
use crate::failure::Failure;
use crate::jobs::{detail, find};
use crate::log;
use crate::table::{Table, fields};
use crate::ties;
use crate::time::seconds;

/// Last lines of a job's log that are shown with it.
const TAIL: usize = 10;

/// Everything about one job, for programs.
#[derive(Serialize)]
struct Shown {
    job: JobRecord,
    history: Vec<HistoryEntry>,
    /// The first jobs that wait or waited for its end.
    continuations: Vec<Continuation>,
    /// What it said about itself.
    notes: NotesRecord,
    /// The last lines of its log.
    log: Vec<LogLine>,
}

pub(crate) async fn show(
    storage: &dyn Storage,
    id: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let job = find(storage, id).await?;
    let shown = Shown {
        history: storage.history(job.id).await?,
        continuations: storage.continuations(Antecedent::Job(job.id), CONTINUATIONS_MAX).await?,
        notes: storage.notes(job.id).await?,
        log: log::tail(storage, job.id, TAIL).await?,
        job,
    };
    if json {
        return answer::json(&shown, out);
    }
    let Shown { job, history, continuations, notes, log } = &shown;
    show_fields(job, notes, out)?;
    show_continuations(continuations, out)?;
    writeln!(out)?;
    show_history(history, out)?;
    if !log.is_empty() {
        writeln!(out, "\nlast lines of its log:")?;
        log::write(log, out)?;
    }
    Ok(())
}

fn show_fields(job: &JobRecord, notes: &NotesRecord, out: &mut dyn Write) -> Result<(), Failure> {
    let ties = &job.ties;
    let attempts =
        format!("{}, failures {}, recoveries {}", job.attempt, job.failures, job.recoveries);
    Ok(fields(
        &[
            ("id", job.id.to_string()),
            ("kind", job.kind.to_string()),
            ("queue", format!("{}, priority {}", job.queue, job.priority)),
            ("state", format!("{} {}", job.state.name(), detail(&job.state)).trim_end().to_owned()),
            ("created", seconds(job.created_at)),
            ("expires", expiry(&job.state)),
            ("attempts", attempts),
            ("args", job.args.as_str().to_owned()),
            ("result", result(&job.state)),
            ("options", options(job)),
            ("after", ties::dependencies(&ties.after)),
            ("batch", ties.batch.map_or(String::new(), |batch| batch.to_string())),
            ("unique", ties::unique(ties)),
            ("limits", ties::limits(ties)),
            ("run of", ties::occurrence(ties.occurrence.as_ref())),
            ("progress", notes.progress.iter().map(bar).collect::<Vec<_>>().join(", ")),
            ("noted", noted(notes)),
            ("tagged", notes.tags.join(", ")),
        ],
        out,
    )?)
}

fn show_continuations(continuations: &[Continuation], out: &mut dyn Write) -> Result<(), Failure> {
    ties::show_continuations(continuations, CONTINUATIONS_MAX, out)
}

fn show_history(history: &[HistoryEntry], out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new(["REVISION", "AT", "STATE", "CAUSE", "ATTEMPT", ""]);
    for entry in history {
        let server = entry.server.as_ref().map(|server| format!("on {server}"));
        let run_at = entry.run_at.map(|at| format!("for {}", seconds(at)));
        let error = entry.error.as_ref().map(ToString::to_string);
        let times = |folded: portfire::Folded| {
            format!("{} times since {}", folded.count, seconds(folded.since))
        };
        let folded = entry.folded.map(times);
        let words = [server, run_at, error, entry.reason.clone(), folded];
        let words: Vec<String> = words.into_iter().flatten().collect();
        table.row([
            entry.revision.to_string(),
            entry.at.to_string(),
            entry.state.to_string(),
            entry.cause.to_string(),
            entry.attempt.map_or(String::new(), |attempt| attempt.to_string()),
            words.join(", "),
        ]);
    }
    Ok(table.write(out)?)
}

/// When what has ended is cleaned; nothing of what has not.
fn expiry(state: &JobState) -> String {
    match state {
        JobState::Succeeded { expires_at, .. }
        | JobState::Failed { expires_at, .. }
        | JobState::Deleted { expires_at, .. } => expires_at.map_or("never".to_owned(), seconds),
        _ => String::new(),
    }
}

fn result(state: &JobState) -> String {
    match state {
        JobState::Succeeded { result: Some(result), .. } => result.as_str().to_owned(),
        _ => String::new(),
    }
}

fn options(job: &JobRecord) -> String {
    if job.options.is_default() {
        return String::new();
    }
    serde_json::to_string(&job.options).unwrap_or_default()
}

/// A bar as `rows 3,500 of 10,000 (35 %)`, without the separators.
fn bar(progress: &Progress) -> String {
    let Progress { bar, done, total } = progress;
    let percent = u128::from(*done) * 100 / u128::from(*total).max(1);
    format!("{bar} {done} of {total} ({percent} %)")
}

fn noted(notes: &NotesRecord) -> String {
    let one = |(key, value): (&String, &portfire_core::Json)| format!("{key}={}", value.as_str());
    notes.metadata.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_it_is() {
        let progress = |done, total| Progress { bar: "rows".to_owned(), done, total };
        assert_eq!(bar(&progress(1, 3)), "rows 1 of 3 (33 %)");
        assert_eq!(bar(&progress(0, 0)), "rows 0 of 0 (0 %)");
        assert_eq!(bar(&progress(u64::MAX, u64::MAX)).split_once('(').unwrap().1, "100 %)");
    }
}
