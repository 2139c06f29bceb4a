//! Recurring jobs: a schedule, and the job that each of its instants fires.
//!
//! A storage knows no cron. It keeps the definition with the next instant, and fires on request: whoever
//! schedules asks for what is [due](crate::Storage::due_recurring), lets [`plan`] decide, and hands the plans to
//! [`fire`](crate::Storage::fire), which applies each only while the definition has the revision and the next
//! instant that the plan was made from. The jobs and the next instant are one commit, and the id of a job is
//! made from (recurring id, planned instant). So any number of servers may schedule, and an occurrence is
//! fired once.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use portfire_cron::{CronExpression, Zone};
use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::Timestamp;
use crate::job::{
    InvalidJob, JobId, JobOptions, Json, KindName, Limits, NewJob, QueueName, excerpt,
};
use crate::monitor::Cursor;
use crate::state::StateName;
use crate::ties::Ties;

/// How many runs of a recurring job are remembered: the last ones. Those that have not ended are forgotten last, so
/// that the rule about overlaps regards them.
pub const RUNS_KEPT: u32 = 200;

/// How many more are remembered while they have not ended. Under [`Overlap::Allow`] none is, and what has not ended
/// is forgotten in its turn.
pub const RUNS_OPEN_MAX: u32 = 1_000;

/// Faults in a row after which a recurring job is disabled.
pub const FAULTS_MAX: u32 = 5;

/// Most occurrences that one plan fires.
pub const OCCURRENCES_MAX: usize = 1_000;

/// The name of a recurring job, such as `daily-report`: 1 to 128 characters, none of them a control
/// character.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RecurringId(Box<str>);

impl RecurringId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidJob::RecurringId`] when it is empty, too long or has control characters.
    pub fn new(name: impl Into<Box<str>>) -> Result<RecurringId, InvalidJob> {
        let name = name.into();
        if name.is_empty() || name.chars().count() > 128 || name.chars().any(char::is_control) {
            return Err(InvalidJob::RecurringId { text: excerpt(&name) });
        }
        Ok(RecurringId(name))
    }

    /// Takes a name that was checked when it was stored.
    pub fn stored(name: impl Into<Box<str>>) -> RecurringId {
        RecurringId(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecurringId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RecurringId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for RecurringId {
    type Err = InvalidJob;

    fn from_str(text: &str) -> Result<RecurringId, InvalidJob> {
        RecurringId::new(text)
    }
}

impl<'de> Deserialize<'de> for RecurringId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RecurringId, D::Error> {
        let text = String::deserialize(deserializer)?;
        RecurringId::new(text).map_err(serde::de::Error::custom)
    }
}

/// When a recurring job fires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// At the instants of a cron text, in a time zone.
    Cron {
        /// Five or six fields, or a macro such as `@daily`.
        text: String,
        /// The IANA name, such as `Europe/Amsterdam`.
        zone: String,
    },
    /// Always after so long: from the start if the definition names one, else from when it was stored.
    Every(Duration),
}

impl Schedule {
    /// A cron text in UTC.
    pub fn cron(text: impl Into<String>) -> Schedule {
        Schedule::Cron { text: text.into(), zone: "UTC".to_owned() }
    }

    /// The schedule in a form that finds instants, for a recurring job of this name: an `H` in a cron text
    /// stands for a value that is drawn from the name, so that jobs of one text do not all fire at once.
    ///
    /// # Errors
    /// [`InvalidJob::Schedule`] that says what is wrong with the text, the zone or the interval.
    pub fn compile(&self, id: &RecurringId) -> Result<Timetable, InvalidJob> {
        let refuse = |reason: String| InvalidJob::Schedule { reason };
        match self {
            Schedule::Cron { text, zone } => {
                let cron = CronExpression::parse_seeded(text, id.as_str());
                let cron = cron.map_err(|error| refuse(error.to_string()))?;
                let zone = Zone::parse(zone).map_err(|error| refuse(error.to_string()))?;
                Ok(Timetable::Cron(cron, zone))
            }
            Schedule::Every(interval) if *interval < Duration::from_secs(1) => {
                Err(refuse(format!("an interval of {interval:?}; at least a second is taken")))
            }
            Schedule::Every(interval) => {
                let micros = i64::try_from(interval.as_micros());
                let micros = micros.map_err(|_| {
                    let years = "at most some 290,000 years are taken";
                    refuse(format!("an interval of {interval:?}; {years}"))
                })?;
                Ok(Timetable::Every(micros))
            }
        }
    }
}

/// A schedule that was read, and finds instants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timetable {
    /// A cron expression in its zone.
    Cron(CronExpression, Zone),
    /// An interval in microseconds.
    Every(i64),
}

impl Timetable {
    /// The first instant after `from`, counting intervals from `anchor`; `None` when there is none.
    pub fn next_after(&self, from: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let from = from.as_micros();
        let next = match self {
            Timetable::Cron(cron, zone) => cron.next_after(from, zone)?,
            Timetable::Every(interval) => {
                let passed = from.checked_sub(anchor.as_micros())?;
                let turns = passed.div_euclid(*interval).checked_add(1)?;
                anchor.as_micros().checked_add(turns.checked_mul(*interval)?)?
            }
        };
        (next <= Timestamp::MAX.as_micros()).then(|| Timestamp::from_micros(next))
    }
}

/// What happens with occurrences that no server fired in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// One run for all that were missed, planned for the first of them (Hangfire's `Relaxed`).
    #[default]
    RunOnce,
    /// A run for each (Hangfire's `Strict`).
    All,
    /// None (Hangfire's `Ignorable`): what is late by more than [`MISFIRE_AFTER`] is passed over.
    Skip,
}

/// How late an occurrence is missed.
pub const MISFIRE_AFTER: Duration = Duration::from_secs(30);

/// What happens when an occurrence is due and a run before has not ended: any that is remembered, also one by hand,
/// or an older one that was requeued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// All run.
    #[default]
    Allow,
    /// The new one is passed over.
    Skip,
    /// The new one waits until all of them have ended; when one waits already, or over 100 have not ended, it is
    /// passed over.
    QueueOne,
    /// All of them are deleted, and their handlers are cancelled.
    CancelPrevious,
}

/// A recurring job as it is asked for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewRecurring {
    /// Its name.
    pub id: RecurringId,
    /// The application that owns it: at most 128 bytes. Another one's upsert is refused. Default: empty.
    pub app: String,
    /// Whether code declares it, so that [`RecurringChange::Prune`] removes it when code no longer does.
    pub declared: bool,
    /// When it fires.
    pub schedule: Schedule,
    /// The first instant at which it may fire; also the anchor of intervals.
    pub starts_at: Option<Timestamp>,
    /// The last instant at which it may fire.
    pub ends_at: Option<Timestamp>,
    /// Each run starts up to so much later, by a delay that is drawn from its id: the same on every server.
    pub jitter: Duration,
    /// What is done about missed occurrences.
    pub misfire: Misfire,
    /// What is done about a run that has not ended.
    pub overlap: Overlap,
    /// Which handler runs it.
    pub kind: KindName,
    /// The handler's arguments: evaluated now and the same in every run, as in Hangfire.
    pub args: Json,
    /// The queue of the runs.
    pub queue: QueueName,
    /// Their rank.
    pub priority: i16,
    /// Their options.
    pub options: JobOptions,
    /// Their limits and unique key. They wait for nothing and belong to no batch.
    pub ties: Ties,
}

impl NewRecurring {
    /// A recurring job with default rules.
    pub fn new(id: RecurringId, schedule: Schedule, kind: KindName, args: Json) -> NewRecurring {
        NewRecurring {
            id,
            app: String::new(),
            declared: false,
            schedule,
            starts_at: None,
            ends_at: None,
            jitter: Duration::ZERO,
            misfire: Misfire::default(),
            overlap: Overlap::default(),
            kind,
            args,
            queue: QueueName::DEFAULT,
            priority: 0,
            options: JobOptions::default(),
            ties: Ties::default(),
        }
    }

    /// Checks every bound, also the schedule; storages call it before they store anything.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn validate(&self, limits: &Limits) -> Result<(), InvalidJob> {
        let refuse = |reason: &str| Err(InvalidJob::Schedule { reason: reason.to_owned() });
        self.schedule.compile(&self.id)?;
        if let (Some(start), Some(end)) = (self.starts_at, self.ends_at)
            && end < start
        {
            return refuse("its end lies before its start");
        }
        if self.app.len() > 128 {
            return refuse("the name of its application has over 128 bytes");
        }
        if self.jitter > Duration::from_secs(24 * 60 * 60) {
            return refuse("its jitter is over a day");
        }
        if !self.ties.after.is_empty() || self.ties.batch.is_some() {
            return refuse("a recurring job waits for no other job and belongs to no batch");
        }
        self.job(JobId::from_bytes([0; 16])).validate(limits)
    }

    /// The job of a run, without its [`Occurrence`](crate::Occurrence).
    pub fn job(&self, id: JobId) -> NewJob {
        NewJob {
            queue: self.queue.clone(),
            priority: self.priority,
            options: self.options.clone(),
            ties: self.ties.clone(),
            ..NewJob::new(id, self.kind.clone(), self.args.clone())
        }
    }

    /// Whether another definition of the name fires at the same instants: then an upsert does not move the
    /// next one. The words do not count: `0 8 * * MON-FRI` is `0 8 * * 1-5`.
    pub fn has_timing_of(&self, other: &NewRecurring) -> bool {
        let times = |of: &NewRecurring| (of.starts_at, of.ends_at);
        let instants = |of: &NewRecurring| of.schedule.compile(&of.id).ok();
        let same = || instants(self).is_some_and(|own| Some(own) == instants(other));
        times(self) == times(other) && (self.schedule == other.schedule || same())
    }
}

/// Everything a storage knows about a recurring job.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurringRecord {
    /// What was asked for.
    pub definition: NewRecurring,
    /// Rises whenever the definition is changed, paused, resumed or moved on: the fence of [`Fire`]. Starts at
    /// [`first_revision`](Self::first_revision).
    pub revision: u64,
    /// When it was first stored.
    pub created_at: Timestamp,
    /// The next instant; `None` when there is none any more.
    pub next_at: Option<Timestamp>,
    /// Whether it is paused, and until when.
    pub paused: Option<Paused>,
    /// Why it fires no more, or what went wrong last.
    pub fault: Option<Fault>,
    /// The planned instant of the run before; runs by hand and those that were passed over do not count.
    pub last_planned_at: Option<Timestamp>,
    /// The job of the run before, also of one by hand.
    pub last_job: Option<JobId>,
}

impl RecurringRecord {
    /// The revision of a definition that was stored at this instant: above all that an earlier one of the
    /// same name has had, so that a plan from before its removal is never applied to it.
    pub fn first_revision(created_at: Timestamp) -> u64 {
        // A microsecond holds no second commit, and each commit raises it by one.
        u64::try_from(created_at.as_micros()).unwrap_or(0).saturating_add(1)
    }

    /// When whoever schedules has to look at it: its next instant, or the end of its pause.
    pub fn due_at(&self) -> Option<Timestamp> {
        match (&self.fault, self.paused) {
            (Some(fault), _) if fault.disabled => None,
            (_, Some(paused)) => paused.until,
            (Some(fault), None) => Some(fault.retry_at),
            (None, None) => self.next_at,
        }
    }

    /// From where intervals are counted.
    pub fn anchor(&self) -> Timestamp {
        self.definition.starts_at.unwrap_or(self.created_at)
    }

    /// The first instant after `from` that lies within start and end.
    ///
    /// # Errors
    /// [`InvalidJob::Schedule`] when the schedule cannot be read here.
    pub fn next_after(&self, from: Timestamp) -> Result<Option<Timestamp>, InvalidJob> {
        let timetable = self.definition.schedule.compile(&self.definition.id)?;
        Ok(self.next_in(&timetable, from))
    }

    fn next_in(&self, timetable: &Timetable, from: Timestamp) -> Option<Timestamp> {
        let definition = &self.definition;
        let before_start = definition.starts_at.map(|start| start.saturating_sub(MICROSECOND));
        let from = before_start.map_or(from, |before| from.max(before));
        let next = timetable.next_after(from, self.anchor())?;
        definition.ends_at.is_none_or(|end| next <= end).then_some(next)
    }
}

const MICROSECOND: Duration = Duration::from_micros(1);

/// A pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// What went wrong with the schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What, in words.
    pub reason: String,
    /// How often in a row.
    pub count: u32,
    /// When it is tried again.
    pub retry_at: Timestamp,
    /// Whether it was given up: an upsert or a resume enables it again.
    pub disabled: bool,
}

/// A run of a recurring job, remembered longer than its job: the last [`RUNS_KEPT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// The planned instant.
    pub planned_at: Timestamp,
    /// When it was fired or passed over.
    pub fired_at: Timestamp,
    /// Its job; `None` when it was passed over.
    pub job: Option<JobId>,
    /// Why it was passed over, in words.
    pub skipped: Option<String>,
    /// The final state of its job, while it has one.
    pub outcome: Option<StateName>,
    /// When its job ended.
    pub ended_at: Option<Timestamp>,
    /// Whether someone asked for it.
    pub triggered: bool,
}

/// A change of recurring jobs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RecurringChange {
    /// Stores a definition, or changes the stored one. The next instant moves only when the timing
    /// changed ([`NewRecurring::has_timing_of`]), or a fault is cleared by it; the pause stays. Repeating it
    /// changes nothing.
    Upsert(Box<NewRecurring>),
    /// Removes the definition and its runs; jobs that were fired stay.
    Remove(RecurringId),
    /// Creates a run now, under this job id, without jitter and whatever the run before does. The schedule does not
    /// move. When its unique key is held nothing is created or remembered, and the answer names the holder.
    Trigger {
        /// Of which.
        id: RecurringId,
        /// The id of the job; a repeat finds it there.
        job: JobId,
    },
    /// Stops the schedule, until an instant if one is given.
    Pause {
        /// Of which.
        id: RecurringId,
        /// When it goes on by itself.
        until: Option<Timestamp>,
    },
    /// Goes on with the first instant after now; what the pause covered is not made up for. Also enables
    /// a recurring job that was disabled by faults.
    Resume(RecurringId),
    /// Removes what an application's code declared once and does not any more.
    Prune {
        /// The application.
        app: String,
        /// What it declares.
        keep: Vec<RecurringId>,
    },
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecurringChanged {
    /// It is applied.
    Applied {
        /// The next instant now.
        next_at: Option<Timestamp>,
    },
    /// It was so already.
    Unchanged,
    /// The run was created, or was there already.
    Triggered(JobId),
    /// So many definitions were removed.
    Pruned(u32),
    /// The definition belongs to another application.
    Owned {
        /// Which.
        app: String,
    },
    /// There is no such recurring job.
    Missing,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DueRecurring {
    /// The present in storage time.
    pub now: Timestamp,
    /// Recurring jobs whose [`due_at`](RecurringRecord::due_at) has come, the earliest first.
    pub due: Vec<RecurringRecord>,
    /// Time until the next is due: zero when more are due now, `None` when none will be.
    pub next_in: Option<Duration>,
}

/// What to do about a recurring job that is due, made by [`plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fire {
    /// Which.
    pub id: RecurringId,
    /// The revision it was made from; at any other it is not applied.
    pub revision: u64,
    /// What to do.
    pub action: FireAction,
}

/// What to do about a recurring job that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FireAction {
    /// Create these runs, the earliest first, and move on.
    Run {
        /// Their planned instants.
        planned: Vec<Timestamp>,
        /// The next instant.
        next_at: Option<Timestamp>,
    },
    /// Create none, because the occurrences were missed, and move on. The first is remembered as passed over.
    PassOver {
        /// The first that is passed over.
        planned: Timestamp,
        /// The next instant.
        next_at: Option<Timestamp>,
    },
    /// The pause has ended.
    Resume {
        /// The next instant.
        next_at: Option<Timestamp>,
    },
    /// The schedule cannot be read here. After [`FAULTS_MAX`] in a row the recurring job is disabled;
    /// until then it is due again after a minute.
    Fault {
        /// Why, in words.
        reason: String,
    },
}

/// What became of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired {
    /// It is applied: these jobs were created. Those that the overlap rule passed over are not among them.
    Applied {
        /// The jobs.
        jobs: Vec<JobId>,
    },
    /// The recurring job has another revision by now, or is gone: someone else fired it, or changed it.
    Stale,
}

/// Decides what to do about a recurring job that is due at `now`.
pub fn plan(record: &RecurringRecord, now: Timestamp) -> Fire {
    let action = match record.definition.schedule.compile(&record.definition.id) {
        Ok(timetable) => action(record, &timetable, now),
        Err(mistake) => FireAction::Fault { reason: mistake.to_string() },
    };
    Fire { id: record.definition.id.clone(), revision: record.revision, action }
}

fn action(record: &RecurringRecord, timetable: &Timetable, now: Timestamp) -> FireAction {
    let next_in = |from: Timestamp| record.next_in(timetable, from);
    if let Some(paused) = record.paused {
        // A pause may be stored when its end is past: what was fired before is not fired again.
        let ends = paused.until.unwrap_or(now).max(record.next_at.unwrap_or(Timestamp::MIN));
        let from = ends.saturating_sub(MICROSECOND);
        return FireAction::Resume { next_at: next_in(from) };
    }
    let Some(first) = record.next_at.filter(|next| *next <= now) else {
        // It waited for the end of a fault, and nothing was missed meanwhile.
        return FireAction::Run { planned: Vec::new(), next_at: record.next_at };
    };
    match record.definition.misfire {
        Misfire::RunOnce => FireAction::Run { planned: vec![first], next_at: next_in(now) },
        Misfire::All => {
            let rest = std::iter::successors(Some(first), |&last| next_in(last));
            let planned: Vec<_> = rest.take_while(|at| *at <= now).take(OCCURRENCES_MAX).collect();
            let last = planned.last().copied().unwrap_or(first);
            FireAction::Run { planned, next_at: next_in(last) }
        }
        Misfire::Skip => {
            let in_time = now.saturating_sub(MISFIRE_AFTER);
            if first >= in_time {
                return FireAction::Run { planned: vec![first], next_at: next_in(now) };
            }
            match next_in(in_time.saturating_sub(MICROSECOND)).filter(|at| *at <= now) {
                // The last of those that were missed is not late yet.
                Some(fresh) => FireAction::Run { planned: vec![fresh], next_at: next_in(now) },
                None => FireAction::PassOver { planned: first, next_at: next_in(now) },
            }
        }
    }
}

/// The wait of a run after its planned instant, up to `jitter`: drawn from the id of its job, so that a
/// repeat draws the same.
pub fn jitter_of(job: JobId, jitter: Duration) -> Duration {
    let tail: [u8; 4] = std::array::from_fn(|i| job.as_bytes()[12 + i]);
    let fraction = f64::from(u32::from_be_bytes(tail)) / f64::from(u32::MAX);
    jitter.mul_f64(fraction)
}

/// Which recurring jobs to list; by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecurringFilter {
    /// Only of this application.
    pub app: Option<String>,
    /// Go on after the page that ended here.
    pub after: Option<Cursor>,
    /// Most on the page; 0 means 50, and at most [`PAGE_MAX`](crate::monitor::PAGE_MAX).
    pub max: u32,
}

/// A page of recurring jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecurringPage {
    /// The recurring jobs.
    pub recurring: Vec<RecurringRecord>,
    /// Where to go on; `None` when this was the last page.
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(schedule: Schedule, next_at: &str) -> RecurringRecord {
        let id = RecurringId::stored("r");
        let definition = NewRecurring::new(id, schedule, KindName::stored("k"), Json::empty());
        RecurringRecord {
            definition,
            revision: 7,
            created_at: at("2026-01-01T00:00:00Z"),
            next_at: Some(at(next_at)),
            paused: None,
            fault: None,
            last_planned_at: None,
            last_job: None,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_missed_is_made_up_for_as_the_policy_says() {
        let mut hourly = record(Schedule::cron("0 * * * *"), "2026-01-01T10:00:00Z");
        let now = at("2026-01-01T13:20:00Z");
        let next_at = Some(at("2026-01-01T14:00:00Z"));
        let first = at("2026-01-01T10:00:00Z");
        assert_eq!(plan(&hourly, now).action, FireAction::Run { planned: vec![first], next_at });
        hourly.definition.misfire = Misfire::All;
        let FireAction::Run { planned, next_at: next } = plan(&hourly, now).action else {
            panic!("no run")
        };
        assert_eq!((planned.len(), next), (4, next_at));
        hourly.definition.misfire = Misfire::Skip;
        assert_eq!(plan(&hourly, now).action, FireAction::PassOver { planned: first, next_at });
        let in_time = at("2026-01-01T13:00:10Z");
        let last = at("2026-01-01T13:00:00Z");
        assert_eq!(plan(&hourly, in_time).action, FireAction::Run { planned: vec![last], next_at });
    }

    #[test]
    fn an_interval_is_counted_from_its_anchor() {
        let mut every = record(Schedule::Every(Duration::from_secs(90)), "2026-01-01T00:01:30Z");
        let after = |every: &RecurringRecord, from: &str| every.next_after(at(from)).unwrap();
        assert_eq!(after(&every, "2026-01-01T00:01:30Z"), Some(at("2026-01-01T00:03:00Z")));
        every.definition.ends_at = Some(at("2026-01-01T00:02:00Z"));
        assert_eq!(after(&every, "2026-01-01T00:01:30Z"), None);
        every.definition.starts_at = Some(at("2026-01-01T00:01:00Z"));
        assert_eq!(after(&every, "2025-01-01T00:00:00Z"), Some(at("2026-01-01T00:01:00Z")));
    }

    #[test]
    fn a_text_with_h_fires_at_an_instant_of_the_names_own() {
        let midnight = at("2026-01-01T00:00:00Z");
        let next = |name: &str| {
            let mut job = record(Schedule::cron("H 3 * * *"), "2026-01-01T00:00:00Z");
            job.definition.id = RecurringId::stored(name);
            job.next_after(midnight).unwrap().unwrap()
        };
        let instants: std::collections::BTreeSet<Timestamp> =
            (0..40).map(|number| next(&format!("report-{number}"))).collect();
        assert_eq!(next("report-1"), next("report-1"));
        assert!(instants.len() > 15, "{instants:?}");
        let hour = at("2026-01-01T03:00:00Z")..at("2026-01-01T04:00:00Z");
        assert!(instants.iter().all(|instant| hour.contains(instant)), "{instants:?}");
    }

    #[test]
    fn a_schedule_that_cannot_be_read_is_a_fault_and_a_pause_ends_without_making_up() {
        let zone = Schedule::Cron { text: "0 * * * *".into(), zone: "Europe/Atlantis".into() };
        let lost = record(zone, "2026-01-01T10:00:00Z");
        let FireAction::Fault { reason } = plan(&lost, at("2026-01-01T10:00:00Z")).action else {
            panic!("no fault")
        };
        assert!(reason.contains("Atlantis"), "{reason}");
        let noon = at("2026-01-01T12:00:00Z");
        let mut paused = record(Schedule::cron("0 * * * *"), "2026-01-01T10:00:00Z");
        paused.paused = Some(Paused { until: Some(noon) });
        assert_eq!(plan(&paused, noon).action, FireAction::Resume { next_at: Some(noon) });
    }
}
