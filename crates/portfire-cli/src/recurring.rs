//! `portfire recurring`: lists recurring jobs, shows one with its last runs, runs, stops and removes them.

use std::io::Write;
use std::time::Duration;

use portfire_core::recurring::{Fault, Paused};
use portfire_core::{
    Client, Cursor, JobId, JobOptions, Json, KindName, Misfire, NewRecurring, Overlap, QueueName,
    RecurringChange, RecurringChanged, RecurringFilter, RecurringId, RecurringRecord, RunRecord,
    Schedule, Storage, Ties, Timestamp,
};
use portfire_cron::duration;
use serde::Serialize;

use crate::command::{RecurringCommand, RecurringListArgs};
use crate::failure::Failure;
use crate::table::{Table, fields};
use crate::time::seconds;
use crate::{answer, escape};

pub(crate) async fn run(
    command: RecurringCommand,
    client: &Client,
    json: bool,
    out: &mut (dyn Write + Send),
    notes: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let storage = &**client.storage();
    let change = match command {
        RecurringCommand::List(args) => return list(storage, &args, json, out, notes).await,
        RecurringCommand::Show { id, runs } => return show(storage, id, runs, json, out).await,
        RecurringCommand::Trigger { id } => RecurringChange::Trigger { id, job: client.next_id() },
        RecurringCommand::Pause { id, until, for_ } => {
            let until = match (until, for_) {
                (None, Some(time)) => Some(after(storage.now().await?, time)?),
                (until, _) => until,
            };
            RecurringChange::Pause { id, until }
        }
        RecurringCommand::Resume { id } => RecurringChange::Resume(id),
        RecurringCommand::Remove { id } => RecurringChange::Remove(id),
    };
    apply(storage, change, json, out).await
}

fn after(now: Timestamp, time: Duration) -> Result<Timestamp, Failure> {
    now.checked_add(time)
        .ok_or_else(|| Failure::usage("a pause ends in the year 9999 at the latest"))
}

/// A recurring job, for programs.
#[derive(Serialize)]
struct Shown {
    id: RecurringId,
    app: String,
    declared: bool,
    schedule: Schedule,
    /// The schedule in words; null when it cannot be read here.
    words: Option<String>,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    jitter: Duration,
    misfire: Misfire,
    overlap: Overlap,
    kind: KindName,
    args: Json,
    queue: QueueName,
    priority: i16,
    options: JobOptions,
    #[serde(skip_serializing_if = "Ties::is_empty")]
    ties: Ties,
    created_at: Timestamp,
    revision: u64,
    next_at: Option<Timestamp>,
    paused: Option<Paused>,
    fault: Option<Fault>,
    last_planned_at: Option<Timestamp>,
    last_job: Option<JobId>,
    /// Its last runs, for `show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<Vec<RunRecord>>,
}

impl From<RecurringRecord> for Shown {
    fn from(record: RecurringRecord) -> Shown {
        let definition = record.definition;
        let words = in_words(&definition);
        Shown {
            id: definition.id,
            app: definition.app,
            declared: definition.declared,
            words,
            schedule: definition.schedule,
            starts_at: definition.starts_at,
            ends_at: definition.ends_at,
            jitter: definition.jitter,
            misfire: definition.misfire,
            overlap: definition.overlap,
            kind: definition.kind,
            args: definition.args,
            queue: definition.queue,
            priority: definition.priority,
            options: definition.options,
            ties: definition.ties,
            created_at: record.created_at,
            revision: record.revision,
            next_at: record.next_at,
            paused: record.paused,
            fault: record.fault,
            last_planned_at: record.last_planned_at,
            last_job: record.last_job,
            runs: None,
        }
    }
}

/// A page for programs.
#[derive(Serialize)]
struct Page {
    recurring: Vec<Shown>,
    next: Option<Cursor>,
}

async fn list(
    storage: &dyn Storage,
    args: &RecurringListArgs,
    json: bool,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), Failure> {
    let filter = RecurringFilter {
        app: args.app.clone(),
        after: args.after.clone().map(Cursor),
        // 0 is the storage's page size, 50.
        max: args.limit.unwrap_or(0),
    };
    let page = storage.recurring_jobs(filter).await?;
    if json {
        let recurring = page.recurring.into_iter().map(Shown::from).collect();
        return answer::json(&Page { recurring, next: page.next }, out);
    }
    if page.recurring.is_empty() {
        writeln!(out, "No recurring jobs.")?;
        return Ok(());
    }
    let mut table = Table::new(["ID", "SCHEDULE", "KIND", "QUEUE", "NEXT", "LAST", ""]);
    for record in &page.recurring {
        let definition = &record.definition;
        table.row([
            definition.id.to_string(),
            schedule(&definition.schedule),
            definition.kind.to_string(),
            definition.queue.to_string(),
            next(record),
            record.last_planned_at.map_or(String::new(), seconds),
            standing(record),
        ]);
    }
    table.write(out)?;
    if let Some(Cursor(next)) = page.next {
        writeln!(notes, "There are more: --after {}", escape::plain(&next))?;
    }
    Ok(())
}

async fn show(
    storage: &dyn Storage,
    id: RecurringId,
    runs: u32,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let record = storage.recurring(id.clone()).await?.ok_or_else(|| missing(&id))?;
    let runs = storage.runs(id, runs).await?;
    if json {
        return answer::json(&Shown { runs: Some(runs), ..Shown::from(record) }, out);
    }
    let definition = &record.definition;
    let optional = |at: Option<Timestamp>| at.map_or(String::new(), seconds);
    let described = in_words(definition).map(|words| format!(" ({words})"));
    fields(
        &[
            ("id", definition.id.to_string()),
            ("schedule", schedule(&definition.schedule) + &described.unwrap_or_default()),
            ("starts", optional(definition.starts_at)),
            ("ends", optional(definition.ends_at)),
            ("next", next(&record)),
            ("last", optional(record.last_planned_at)),
            ("state", standing(&record)),
            ("kind", definition.kind.to_string()),
            ("queue", format!("{}, priority {}", definition.queue, definition.priority)),
            ("args", definition.args.as_str().to_owned()),
            ("rules", rules(&record)),
            ("limits", crate::ties::limits(&definition.ties)),
            ("unique", crate::ties::unique(&definition.ties)),
            ("app", definition.app.clone()),
            ("declared", if definition.declared { "by code".into() } else { String::new() }),
            ("created", seconds(record.created_at)),
        ],
        out,
    )?;
    writeln!(out)?;
    show_runs(&runs, out)
}

fn show_runs(runs: &[RunRecord], out: &mut dyn Write) -> Result<(), Failure> {
    if runs.is_empty() {
        writeln!(out, "It has not run.")?;
        return Ok(());
    }
    let mut table = Table::new(["PLANNED", "FIRED", "JOB", "OUTCOME", "ENDED", ""]);
    for run in runs {
        let remark = match &run.skipped {
            Some(why) => format!("passed over: {why}"),
            None if run.triggered => "by hand".to_owned(),
            None => String::new(),
        };
        table.row([
            seconds(run.planned_at),
            seconds(run.fired_at),
            run.job.map_or(String::new(), |job| job.to_string()),
            run.outcome.map_or(String::new(), |state| state.to_string()),
            run.ended_at.map_or(String::new(), seconds),
            remark,
        ]);
    }
    Ok(table.write(out)?)
}

/// What became of a change, for programs.
#[derive(Serialize)]
struct Done {
    id: RecurringId,
    /// `applied`, `unchanged` or `triggered`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
}

async fn apply(
    storage: &dyn Storage,
    change: RecurringChange,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (id, asked) = match &change {
        RecurringChange::Trigger { id, job } => (id.clone(), Some(*job)),
        RecurringChange::Pause { id, .. }
        | RecurringChange::Resume(id)
        | RecurringChange::Remove(id) => (id.clone(), None),
        // This command makes no other.
        _ => return Err(Failure::new("this change is not made here")),
    };
    // What is done is the sentence, except where the next instant is what one wants to know.
    let sentence = match &change {
        RecurringChange::Remove(_) => Some("is removed".to_owned()),
        RecurringChange::Pause { until: None, .. } => Some("is paused".to_owned()),
        RecurringChange::Pause { until: Some(until), .. } => {
            Some(format!("is paused until {}", seconds(*until)))
        }
        _ => None,
    };
    let bare = |outcome| Done { id: id.clone(), outcome, next_at: None, job: None };
    let (done, sentence) = match storage.change_recurring(change).await? {
        RecurringChanged::Applied { next_at } => {
            let next = || match next_at {
                Some(at) => format!("next at {}", seconds(at)),
                None => "has no next instant".to_owned(),
            };
            (Done { next_at, ..bare("applied") }, sentence.unwrap_or_else(next))
        }
        RecurringChanged::Unchanged => (bare("unchanged"), "unchanged".to_owned()),
        RecurringChanged::Triggered(job) if asked == Some(job) => {
            (Done { job: Some(job), ..bare("triggered") }, format!("runs as job {job}"))
        }
        RecurringChanged::Triggered(job) => {
            return Err(Failure::new(format!("job {job} holds the unique key of `{id}`")));
        }
        RecurringChanged::Missing => return Err(missing(&id)),
        other => return Err(Failure::new(format!("`{id}`: {other:?}"))),
    };
    if json {
        return answer::json(&done, out);
    }
    writeln!(out, "{}", escape::plain(&format!("{id} {sentence}")))?;
    Ok(())
}

fn missing(id: &RecurringId) -> Failure {
    Failure::new(format!("there is no recurring job `{id}`; `portfire recurring` lists them"))
}

fn schedule(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Cron { text, zone } => format!("{text} {zone}"),
        Schedule::Every(interval) => format!("every {}", duration::words(*interval)),
    }
}

/// A cron text in words; `None` of an interval, which is words already, and of what cannot be read.
fn in_words(definition: &NewRecurring) -> Option<String> {
    let Schedule::Cron { text, .. } = &definition.schedule else { return None };
    let seed = definition.id.as_str();
    Some(portfire_cron::CronExpression::parse_seeded(text, seed).ok()?.describe())
}

fn next(record: &RecurringRecord) -> String {
    record.next_at.map_or("never".to_owned(), seconds)
}

/// What keeps it from firing, in words.
fn standing(record: &RecurringRecord) -> String {
    let paused = record.paused.map(|paused| match paused.until {
        Some(until) => format!("paused until {}", seconds(until)),
        None => "paused".to_owned(),
    });
    let fault = record.fault.as_ref().map(|fault| match fault.disabled {
        true => format!("disabled after {} errors: {}", fault.count, fault.reason),
        false => format!("error, tried again at {}: {}", seconds(fault.retry_at), fault.reason),
    });
    [paused, fault].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn rules(record: &RecurringRecord) -> String {
    let definition = &record.definition;
    let misfire = match definition.misfire {
        Misfire::RunOnce => "one run for all that were missed",
        Misfire::All => "a run for each that was missed",
        Misfire::Skip => "none for those that were missed",
    };
    let overlap = match definition.overlap {
        Overlap::Allow => "runs may overlap",
        Overlap::Skip => "passed over while a run before has not ended",
        Overlap::QueueOne => "waits for the ends of the runs before",
        Overlap::CancelPrevious => "cancels the runs before",
    };
    let jitter = match definition.jitter.is_zero() {
        true => String::new(),
        false => format!(", up to {} later", duration::words(definition.jitter)),
    };
    format!("{misfire}, {overlap}{jitter}")
}
