//! `portfire jobs`: lists jobs, finds one, requeues and deletes.

use std::io::Write;

use portfire_core::{
    Action, Change, Changed, Client, Cursor, JobFilter, JobId, JobRecord, JobState, StateName,
    Storage, Timestamp,
};
use portfire_server::handler::linked_jobs;
use serde::Serialize;

use crate::command::ListArgs;
use crate::failure::Failure;
use crate::table::Table;
use crate::time::seconds;
use crate::{answer, escape};

/// How the kinds of the bench begin.
pub(crate) const BENCH_KINDS: &str = "portfire.bench.";

/// Most jobs changed in one commit.
const CHANGES_MAX: usize = 1_000;

/// Writes a page of jobs; where to go on goes to `notes`.
pub(crate) async fn list(
    storage: &dyn Storage,
    args: &ListArgs,
    json: bool,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), Failure> {
    let filter = JobFilter {
        state: args.state,
        queue: args.queue.clone(),
        kind: args.kind.clone(),
        batch: args.batch,
        id_prefix: args.id.clone(),
        after: args.after.clone().map(Cursor),
        // 0 is the storage's page size, 50.
        max: args.limit.unwrap_or(0),
    };
    let page = storage.jobs(filter).await?;
    if json {
        return answer::json(&page, out);
    }
    if page.jobs.is_empty() && page.next.is_none() {
        writeln!(out, "No jobs.")?;
        return Ok(());
    }
    let mut table = Table::new(["ID", "STATE", "KIND", "QUEUE", "ATTEMPT", "SINCE", ""]);
    for job in &page.jobs {
        table.row([
            job.id.to_string(),
            job.state.name().to_string(),
            job.kind.to_string(),
            job.queue.to_string(),
            job.attempt.to_string(),
            seconds(since(job)),
            detail(&job.state),
        ]);
    }
    table.write(out)?;
    if let Some(Cursor(next)) = page.next {
        writeln!(notes, "There are more: --after {}", escape::plain(&next))?;
    }
    Ok(())
}

/// The job with this id, or the only one whose id begins so.
pub(crate) async fn find(storage: &dyn Storage, text: &str) -> Result<JobRecord, Failure> {
    let missing = || Failure::new(format!("there is no job `{text}`"));
    if let Ok(id) = text.parse::<JobId>() {
        return storage.job(id).await?.ok_or_else(missing);
    }
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if !hex || text.len() < 6 || text.len() > 36 {
        let message = format!(
            "`{text}` is not a job id: expected a UUID, or at least 6 of its first characters"
        );
        return Err(Failure::usage(message));
    }
    let id_prefix = Some(text.to_ascii_lowercase());
    let mut filter = JobFilter { id_prefix, max: 2, ..JobFilter::default() };
    let mut found = Vec::new();
    // A page may be short and have a next one.
    while found.len() < 2 {
        let page = storage.jobs(filter.clone()).await?;
        found.extend(page.jobs);
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    match found.len() {
        0 => Err(missing()),
        1 => Ok(found.remove(0)),
        _ => Err(Failure::usage(format!("more than one job begins with `{text}`: add characters"))),
    }
}

/// What became of one job of `requeue` or `delete`.
#[derive(Serialize)]
struct ChangedJob {
    id: JobId,
    /// `applied`, `unchanged`, `refused`, `conflict`, `missing` or `unexpected`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<StateName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Changes jobs, each on its own, and says what became of each.
pub(crate) async fn change(
    client: &Client,
    ids: &[String],
    action: Action,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let ids: Vec<JobId> = ids.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    let mut undone = 0;
    for ids in ids.chunks(CHANGES_MAX) {
        let change = |&job| Change { job, action: action.clone(), expect: None };
        let answers = client.change(ids.iter().map(change).collect()).await?;
        for (&id, &answer) in ids.iter().zip(&answers) {
            undone += u64::from(!answer.is_done());
            let changed = ChangedJob::new(id, answer);
            if json {
                answer::json(&changed, out)?;
            } else {
                writeln!(out, "{}", escape::plain(&changed.sentence()))?;
            }
        }
    }
    match undone {
        0 => Ok(()),
        count => {
            let message = format!("{count} of {} jobs were not changed", ids.len());
            Err(Failure::new(message).told())
        }
    }
}

impl ChangedJob {
    fn new(id: JobId, changed: Changed) -> ChangedJob {
        let bare = ChangedJob { id, outcome: "", from: None, revision: None, reason: None };
        match changed {
            Changed::Applied { from, revision } => ChangedJob {
                outcome: "applied",
                from: Some(from),
                revision: Some(revision),
                ..bare
            },
            Changed::Unchanged => ChangedJob { outcome: "unchanged", ..bare },
            Changed::Unexpected { state, revision } => ChangedJob {
                outcome: "unexpected",
                from: Some(state),
                revision: Some(revision),
                ..bare
            },
            Changed::Refused(refusal) => {
                ChangedJob { outcome: "refused", reason: Some(refusal.to_string()), ..bare }
            }
            Changed::Missing => ChangedJob { outcome: "missing", ..bare },
            Changed::Conflict { with } => {
                let reason = Some(format!("job {with} holds its unique key"));
                ChangedJob { outcome: "conflict", reason, ..bare }
            }
            other => ChangedJob { outcome: "other", reason: Some(format!("{other:?}")), ..bare },
        }
    }

    fn sentence(&self) -> String {
        let ChangedJob { id, outcome, from, reason, .. } = self;
        match (from, reason) {
            (Some(from), _) => format!("{id} {outcome}, was {from}"),
            (None, Some(reason)) => format!("{id} {outcome}: {reason}"),
            (None, None) => format!("{id} {outcome}"),
        }
    }
}

/// Writes `jobs.lock` for the jobs that are linked into this program.
pub(crate) fn export(out: &mut dyn Write) -> Result<(), Failure> {
    let jobs = linked_jobs();
    if jobs.iter().all(|job| job.kind.starts_with(BENCH_KINDS)) {
        let message = "no jobs are linked into this program: handlers are compiled into yours, so call \
                       `portfire_cli::main()` there";
        return Err(Failure::new(message));
    }
    Ok(out.write_all(portfire::lock::export_of(&jobs).as_bytes())?)
}

/// When the job entered its state.
fn since(job: &JobRecord) -> Timestamp {
    match &job.state {
        JobState::Enqueued { enqueued_at } => *enqueued_at,
        JobState::Processing { claimed_at, .. } => *claimed_at,
        JobState::Succeeded { succeeded_at, .. } => *succeeded_at,
        JobState::Failed { failed_at, .. } => *failed_at,
        JobState::Deleted { deleted_at, .. } => *deleted_at,
        _ => job.created_at,
    }
}

/// What there is to say about a state, in a few words.
pub(crate) fn detail(state: &JobState) -> String {
    match state {
        JobState::Scheduled { run_at, cause } => format!("for {} ({cause})", seconds(*run_at)),
        JobState::Awaiting { pending: 1 } => "for one more end".to_owned(),
        JobState::Awaiting { pending } => format!("for {pending} more ends"),
        JobState::Processing { server, .. } => format!("on {server}"),
        JobState::Succeeded { duration, .. } => format!("in {duration:.1?}"),
        JobState::Failed { error, .. } => error.to_string(),
        JobState::Deleted { reason, error: Some(error), .. } => format!("{reason}: {error}"),
        JobState::Deleted { reason, .. } => reason.clone(),
        _ => String::new(),
    }
}
