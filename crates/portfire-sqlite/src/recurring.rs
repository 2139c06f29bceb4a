//! Recurring jobs: their definitions, what is due, firing, and the runs that are remembered.

use std::time::Duration;

use portfire_core::engine::pages;
use portfire_core::engine::recurring::{self as rule, Edit, Firing};
use portfire_core::recurring::{Fault, Paused};
use portfire_core::storage::BATCH_MAX;
use portfire_core::{
    Created, Cursor, DueRecurring, Event, Fire, Fired, JobId, JobOptions, Json, KindName, Misfire,
    NewRecurring, Overlap, QueueName, RecurringChange, RecurringChanged, RecurringFilter,
    RecurringId, RecurringPage, RecurringRecord, RunRecord, Schedule, StateName, StorageError,
    Ties, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use serde::{Deserialize, Serialize};

use crate::create::create_one;
use crate::error::{Failure, corrupt, foreign_cursor};
use crate::row::{self, Facts, instant, maybe_instant, must};
use crate::runs;
use crate::write::Write;

/// The columns of [`Row::read`].
macro_rules! columns {
    () => {
        "recurring, id, app, declared, definition, args, revision, created_at, next_at, paused, \
         paused_until, fault, faults, fault_retry_at, last_planned_at, last_job, runs"
    };
}

const SELECT_ONE: &str = concat!("SELECT ", columns!(), " FROM portfire_recurring WHERE id = ?1");
const SELECT_DUE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM portfire_recurring WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?2"
);
const SELECT_DUE_AT: &str = "SELECT due_at FROM portfire_recurring WHERE due_at IS NOT NULL \
    ORDER BY due_at, id LIMIT 1 OFFSET ?1";
const SELECT_PAGE: &str =
    concat!("SELECT ", columns!(), " FROM portfire_recurring WHERE id > ?1 ORDER BY id LIMIT ?2");
const SELECT_PAGE_OF_APP: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM portfire_recurring WHERE app = ?3 AND id > ?1 ORDER BY id LIMIT ?2"
);
const SELECT_DECLARED: &str =
    "SELECT recurring, id FROM portfire_recurring WHERE app = ?1 AND declared = 1 ORDER BY id";
const INSERT: &str = "INSERT INTO portfire_recurring (id, app, declared, definition, args, \
    revision, created_at, due_at, next_at, paused, faults, runs) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, 0)";
const UPDATE_DEFINITION: &str = "UPDATE portfire_recurring SET declared = ?2, definition = ?3, \
    args = ?4 WHERE recurring = ?1";
const UPDATE: &str = "UPDATE portfire_recurring SET revision = ?2, due_at = ?3, next_at = ?4, \
    paused = ?5, paused_until = ?6, fault = ?7, faults = ?8, fault_retry_at = ?9, \
    last_planned_at = ?10, last_job = ?11, runs = ?12 WHERE recurring = ?1";
const DELETE: &str = "DELETE FROM portfire_recurring WHERE recurring = ?1";

/// Changes recurring jobs.
pub(crate) fn change_recurring(
    write: &mut Write<'_>,
    change: &RecurringChange,
) -> Result<RecurringChanged, Failure> {
    match change {
        RecurringChange::Upsert(new) => {
            let stored = Row::find(write.conn, &new.id)?;
            let record = stored.as_ref().map(|row| &row.record);
            let edit = rule::upsert(record, new, &write.limits, write.now)?;
            edited(write, stored, edit)
        }
        RecurringChange::Remove(id) => {
            let Some(row) = Row::find(write.conn, id)? else {
                return Ok(RecurringChanged::Missing);
            };
            remove(write, row.number)?;
            Ok(RecurringChanged::Applied { next_at: None })
        }
        RecurringChange::Trigger { id, job } => trigger(write, id, *job),
        RecurringChange::Pause { id, until } => {
            let stored = Row::find(write.conn, id)?;
            let edit = rule::pause(stored.as_ref().map(|row| &row.record), *until);
            edited(write, stored, edit)
        }
        RecurringChange::Resume(id) => {
            let stored = Row::find(write.conn, id)?;
            let edit = rule::resume(stored.as_ref().map(|row| &row.record), write.now)?;
            edited(write, stored, edit)
        }
        RecurringChange::Prune { app, keep } => prune(write, app, keep),
        unknown => {
            let text = format!("this version of the storage does not know the change {unknown:?}");
            Err(StorageError::Unsupported(text).into())
        }
    }
}

/// Does what was decided about a definition: a new one is stored, or this row is changed.
fn edited(
    write: &mut Write<'_>,
    stored: Option<Row>,
    edit: Edit,
) -> Result<RecurringChanged, Failure> {
    let record = match edit {
        Edit::Leave(answer) => return Ok(answer),
        Edit::Store(record) => *record,
    };
    let answer = rule::applied(&record);
    match stored {
        None => insert(write, &record)?,
        Some(row) => {
            if row.record.definition != record.definition {
                update_definition(write, row.number, &record.definition)?;
            }
            Row { record, ..row }.store(write)?;
        }
    }
    write.hint_work();
    Ok(answer)
}

fn update_definition(
    write: &mut Write<'_>,
    number: i64,
    new: &NewRecurring,
) -> Result<(), Failure> {
    let values = params![number, new.declared, encode(new)?, new.args.as_str()];
    write.conn.prepare_cached(UPDATE_DEFINITION)?.execute(values)?;
    Ok(())
}

fn insert(write: &mut Write<'_>, record: &RecurringRecord) -> Result<(), Failure> {
    let new = &record.definition;
    write.conn.prepare_cached(INSERT)?.execute(params![
        new.id.as_str(),
        new.app,
        new.declared,
        encode(new)?,
        new.args.as_str(),
        record.revision.cast_signed(),
        record.created_at.as_micros(),
        micros(record.due_at()),
        micros(record.next_at)
    ])?;
    write.touch();
    Ok(())
}

fn prune(
    write: &mut Write<'_>,
    app: &str,
    keep: &[RecurringId],
) -> Result<RecurringChanged, Failure> {
    let declared: Vec<(i64, RecurringId)> = {
        let mut select = write.conn.prepare_cached(SELECT_DECLARED)?;
        let id = |row: &SqlRow<'_>| row.get(1).map(|id: String| RecurringId::stored(id));
        let rows = select.query_map([app], |row| Ok((row.get(0)?, id(row)?)))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let undeclared = rule::undeclared(declared, keep);
    for (number, _) in &undeclared {
        remove(write, *number)?;
    }
    Ok(RecurringChanged::Pruned(undeclared.len() as u32))
}

fn remove(write: &mut Write<'_>, number: i64) -> Result<(), Failure> {
    runs::forget_all(write.conn, number)?;
    write.conn.prepare_cached(DELETE)?.execute([number])?;
    write.touch();
    write.hint_work();
    Ok(())
}

fn trigger(
    write: &mut Write<'_>,
    id: &RecurringId,
    job: JobId,
) -> Result<RecurringChanged, Failure> {
    let Some(mut row) = Row::find(write.conn, id)? else { return Ok(RecurringChanged::Missing) };
    if row::find_body(write.conn, job)?.is_some() {
        return Ok(RecurringChanged::Triggered(job));
    }
    let now = write.now;
    let created = create_one(write, &rule::triggered(&row.record, job, now))?;
    if !created.existing {
        let number = number_of(write, job)?;
        row.remember(write, number, &rule::triggered_run(job, now))?;
        row.record.last_job = Some(job);
        row.store(write)?;
    }
    Ok(RecurringChanged::Triggered(created.id))
}

/// Fires what was planned, each plan on its own.
pub(crate) fn fire(write: &mut Write<'_>, plans: &[Fire]) -> Result<Vec<Fired>, Failure> {
    plans.iter().map(|plan| fire_one(write, plan)).collect()
}

fn fire_one(write: &mut Write<'_>, plan: &Fire) -> Result<Fired, Failure> {
    let Some(mut row) = Row::find(write.conn, &plan.id)? else { return Ok(Fired::Stale) };
    let Some(mut firing) = Firing::of(row.record.clone(), plan.clone(), write.now) else {
        return Ok(Fired::Stale);
    };
    if let Some(missed) = firing.missed.take() {
        let number = write.draw();
        row.remember(write, number, &missed)?;
    }
    for planned_at in std::mem::take(&mut firing.planned) {
        let (number, made) = run(write, row.number, &firing, planned_at)?;
        row.remember(write, number, &firing.made(planned_at, made))?;
    }
    row.record = firing.record;
    row.store(write)?;
    write.hint_work();
    Ok(Fired::Applied { jobs: firing.jobs })
}

/// Creates the run of an instant, or says why it is passed over. Also answers the number of the run.
fn run(
    write: &mut Write<'_>,
    recurring: i64,
    firing: &Firing,
    planned_at: Timestamp,
) -> Result<(i64, Result<JobId, String>), Failure> {
    let id = firing.job_at(planned_at);
    if row::find_body(write.conn, id)?.is_some() {
        return Ok((write.draw(), Ok(id)));
    }
    let open = match firing.looks_back() {
        true => open_runs(write.conn, recurring)?,
        false => Vec::new(),
    };
    let run = match firing.decide(planned_at, &open) {
        Ok(run) => run,
        Err(reason) => return Ok((write.draw(), Err(reason))),
    };
    for cancelled in &run.cancels {
        cancel(write, *cancelled)?;
    }
    match create_one(write, &run.job) {
        Ok(Created { existing: false, .. }) => Ok((number_of(write, id)?, Ok(id))),
        Ok(Created { id: holder, .. }) => Ok((write.draw(), Err(rule::key_held_by(holder)))),
        // A run that cannot be stored holds up no other.
        Err(Failure::Refused(refusal)) => Ok((write.draw(), Err(refusal.to_string()))),
        Err(lost) => Err(lost),
    }
}

/// The runs that the overlap rule regards, the oldest first.
fn open_runs(conn: &Connection, recurring: i64) -> Result<Vec<(JobId, StateName)>, Failure> {
    let mut open = Vec::new();
    for job in runs::open(conn, recurring)? {
        let Some(body) = row::find_body(conn, job)? else { continue };
        let state = row::stand(conn, &body)?.standing.state;
        if !state.is_final() {
            open.push((job, state));
        }
    }
    Ok(open)
}

/// Deletes a run for the next one.
fn cancel(write: &mut Write<'_>, job: JobId) -> Result<(), Failure> {
    let Some(body) = row::find_body(write.conn, job)? else { return Ok(()) };
    let stand = row::stand(write.conn, &body)?;
    let facts = Facts { reason: Some(rule::CANCELS), ..Facts::default() };
    must(write, &body, &stand, Event::Delete, &facts)?;
    Ok(())
}

/// A recurring job with its number.
struct Row {
    number: i64,
    /// How many runs are remembered.
    runs: u32,
    record: RecurringRecord,
}

impl Row {
    fn find(conn: &Connection, id: &RecurringId) -> Result<Option<Row>, Failure> {
        let mut select = conn.prepare_cached(SELECT_ONE)?;
        let mut rows = select.query([id.as_str()])?;
        rows.next()?.map(Row::read).transpose()
    }

    fn read(row: &SqlRow<'_>) -> Result<Row, Failure> {
        let text = row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?;
        let id: String = row.get(1)?;
        let stored: Definition = serde_json::from_str(text)
            .map_err(|error| corrupt(format!("the recurring job {id}: {error}")))?;
        let args = Json::stored(row.get::<_, String>(5)?);
        let mut definition = stored.into_new(RecurringId::stored(id), args);
        definition.app = row.get(2)?;
        definition.declared = row.get(3)?;
        let paused: bool = row.get(9)?;
        let until = maybe_instant(row, 10)?;
        let reason: Option<String> = row.get(11)?;
        let count: u32 = row.get(12)?;
        let retry_at = instant(row.get::<_, Option<i64>>(13)?.unwrap_or(0));
        let fault =
            |reason| Fault { reason, count, retry_at, disabled: rule::is_disabled_by(count) };
        let record = RecurringRecord {
            definition,
            revision: row.get::<_, i64>(6)?.cast_unsigned(),
            created_at: instant(row.get(7)?),
            next_at: maybe_instant(row, 8)?,
            paused: paused.then_some(Paused { until }),
            fault: reason.map(fault),
            last_planned_at: maybe_instant(row, 14)?,
            last_job: row.get::<_, Option<[u8; 16]>>(15)?.map(JobId::from_bytes),
        };
        Ok(Row { number: row.get(0)?, runs: row.get(16)?, record })
    }

    /// Writes all but the definition.
    fn store(&self, write: &mut Write<'_>) -> Result<(), Failure> {
        let record = &self.record;
        let fault = record.fault.as_ref();
        write.conn.prepare_cached(UPDATE)?.execute(params![
            self.number,
            record.revision.cast_signed(),
            micros(record.due_at()),
            micros(record.next_at),
            record.paused.is_some(),
            micros(record.paused.and_then(|paused| paused.until)),
            fault.map(|fault| fault.reason.as_str()),
            fault.map_or(0, |fault| fault.count),
            micros(fault.map(|fault| fault.retry_at)),
            micros(record.last_planned_at),
            record.last_job.map(|job| *job.as_bytes()),
            self.runs
        ])?;
        write.touch();
        Ok(())
    }

    /// Remembers a run, and forgets those that are too many.
    fn remember(
        &mut self,
        write: &mut Write<'_>,
        number: i64,
        run: &RunRecord,
    ) -> Result<(), Failure> {
        runs::remember(write, self.number, number, run)?;
        self.runs += 1;
        write.touch();
        let overlap = self.record.definition.overlap;
        loop {
            let forget = rule::forgets(overlap, self.runs as usize);
            if !runs::forget(write.conn, self.number, forget)? {
                return Ok(());
            }
            self.runs -= 1;
        }
    }
}

/// The number of a job that was just created.
fn number_of(write: &Write<'_>, job: JobId) -> Result<i64, Failure> {
    let body = row::find_body(write.conn, job)?;
    let missing = || corrupt(format!("job {job} was just created and is not there"));
    body.map(|body| body.seq).ok_or_else(missing)
}

/// What is due, the earliest first.
pub(crate) fn due_recurring(
    conn: &Connection,
    now: Timestamp,
    max: u32,
) -> Result<DueRecurring, Failure> {
    let max = (max as usize).min(BATCH_MAX);
    let mut due = Vec::new();
    let mut select = conn.prepare_cached(SELECT_DUE)?;
    let mut rows = select.query(params![now.as_micros(), max as i64])?;
    while let Some(row) = rows.next()? {
        due.push(Row::read(row)?.record);
    }
    let mut select = conn.prepare_cached(SELECT_DUE_AT)?;
    let next: Option<i64> = select.query_row([due.len() as i64], |row| row.get(0)).optional()?;
    let next_in = next.map(|at| instant(at).since(now));
    Ok(DueRecurring { now, due, next_in })
}

/// Everything about a recurring job.
pub(crate) fn recurring(
    conn: &Connection,
    id: &RecurringId,
) -> Result<Option<RecurringRecord>, Failure> {
    Ok(Row::find(conn, id)?.map(|row| row.record))
}

/// A page of recurring jobs, by id.
pub(crate) fn page(conn: &Connection, filter: &RecurringFilter) -> Result<RecurringPage, Failure> {
    let after = match &filter.after {
        Some(cursor) => {
            RecurringId::new(cursor.0.as_str()).map_err(|_| foreign_cursor(cursor))?;
            cursor.0.as_str()
        }
        None => "",
    };
    let size = pages::size(filter.max);
    let limit = size as i64 + 1;
    let mut select;
    let mut rows = match &filter.app {
        None => {
            select = conn.prepare_cached(SELECT_PAGE)?;
            select.query(params![after, limit])?
        }
        Some(app) => {
            select = conn.prepare_cached(SELECT_PAGE_OF_APP)?;
            select.query(params![after, limit, app])?
        }
    };
    let mut page = RecurringPage::default();
    while let Some(row) = rows.next()? {
        if page.recurring.len() == size {
            let last = page.recurring.last();
            page.next = last.map(|record| Cursor(record.definition.id.as_str().to_owned()));
            break;
        }
        page.recurring.push(Row::read(row)?.record);
    }
    Ok(page)
}

/// A definition as it is stored; its name, owner and args have columns of their own.
#[derive(Serialize, Deserialize)]
struct Definition {
    schedule: Schedule,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starts_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
    #[serde(default)]
    jitter: Duration,
    #[serde(default)]
    misfire: Misfire,
    #[serde(default)]
    overlap: Overlap,
    kind: KindName,
    queue: QueueName,
    #[serde(default)]
    priority: i16,
    #[serde(default, skip_serializing_if = "JobOptions::is_default")]
    options: JobOptions,
    #[serde(default, skip_serializing_if = "Ties::is_empty")]
    ties: Ties,
}

fn encode(new: &NewRecurring) -> Result<String, Failure> {
    let definition = Definition {
        schedule: new.schedule.clone(),
        starts_at: new.starts_at,
        ends_at: new.ends_at,
        jitter: new.jitter,
        misfire: new.misfire,
        overlap: new.overlap,
        kind: new.kind.clone(),
        queue: new.queue.clone(),
        priority: new.priority,
        options: new.options.clone(),
        ties: new.ties.clone(),
    };
    let encoded = serde_json::to_string(&definition);
    encoded.map_err(|error| corrupt(format!("the recurring job {}: {error}", new.id)))
}

impl Definition {
    fn into_new(self, id: RecurringId, args: Json) -> NewRecurring {
        let mut new = NewRecurring::new(id, self.schedule, self.kind, args);
        new.starts_at = self.starts_at;
        new.ends_at = self.ends_at;
        new.jitter = self.jitter;
        new.misfire = self.misfire;
        new.overlap = self.overlap;
        new.queue = self.queue;
        new.priority = self.priority;
        new.options = self.options;
        new.ties = self.ties;
        new
    }
}

fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_ONE,
    SELECT_DUE,
    SELECT_DUE_AT,
    SELECT_PAGE,
    SELECT_PAGE_OF_APP,
    SELECT_DECLARED,
    INSERT,
    UPDATE_DEFINITION,
    UPDATE,
    DELETE,
];
