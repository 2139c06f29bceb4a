//! Recurring jobs as users write them: [`Recurring`], and [`RecurringJob`] for one that is stored.

use std::fmt;
use std::time::Duration;

use portfire_cron::CronExpression;

use crate::call::{Call, JobFn};
use crate::client::{Client, ClientError};
use crate::clock::Timestamp;
use crate::duration::IntoDuration;
use crate::job::{InvalidJob, JobId, NewJob, When};
use crate::recurring::{
    Misfire, NewRecurring, Overlap, RecurringChange, RecurringChanged, RecurringId,
    RecurringRecord, RunRecord, Schedule,
};

/// A text is read as cron, in UTC; it is checked when the recurring job is stored.
impl From<&str> for Schedule {
    fn from(text: &str) -> Schedule {
        Schedule::cron(text)
    }
}

/// A text is read as cron, in UTC; it is checked when the recurring job is stored.
impl From<String> for Schedule {
    fn from(text: String) -> Schedule {
        Schedule::cron(text)
    }
}

impl From<CronExpression> for Schedule {
    fn from(cron: CronExpression) -> Schedule {
        Schedule::cron(cron.as_str())
    }
}

/// Always after so long.
impl From<Duration> for Schedule {
    fn from(interval: Duration) -> Schedule {
        Schedule::Every(interval)
    }
}

/// A recurring job in the making. Made by [`Client::recurring`]; [`upsert`](Self::upsert) stores it.
///
/// ```
/// # use portfire_core::{Call, Client, ClientError, JobFn, Misfire, Overlap};
/// # struct job;
/// # impl JobFn for job { const KIND: &'static str = "job"; type Output = (); }
/// # async fn f(client: Client, report: fn(&str) -> Call<job>) -> Result<(), ClientError> {
/// client
///     .recurring("daily-report", "0 8 * * *", report("sales"))
///     .tz("Europe/Amsterdam")
///     .misfire(Misfire::RunOnce)
///     .overlap(Overlap::Skip)
///     .upsert()
///     .await?;
/// # Ok(()) }
/// ```
///
/// The arguments are evaluated now and are the same in every run, as in Hangfire. What the call says
/// about queue, priority, retries, unique keys and limits holds for every run. An `H` in a cron text is a
/// value that the name chooses: `H 3 * * *` is some minute past three, always the same.
#[must_use = "nothing is stored until `upsert().await`"]
pub struct Recurring<C> {
    client: C,
    definition: Result<NewRecurring, InvalidJob>,
}

impl Recurring<()> {
    /// One that no client is to store: for its [definition](Self::into_definition).
    pub fn new<J: JobFn>(id: &str, schedule: impl Into<Schedule>, call: Call<J>) -> Recurring<()> {
        Recurring::with((), id, schedule.into(), call)
    }
}

impl<C> Recurring<C> {
    pub(super) fn with<J: JobFn>(
        client: C,
        id: &str,
        schedule: Schedule,
        call: Call<J>,
    ) -> Recurring<C> {
        Recurring { client, definition: define(id, schedule, call) }
    }

    /// The time zone of a cron schedule, by its IANA name such as `Europe/Amsterdam`. Default: UTC.
    pub fn tz(self, name: impl Into<String>) -> Recurring<C> {
        self.with_checked(|definition| match &mut definition.schedule {
            Schedule::Cron { zone, .. } => {
                *zone = name.into();
                Ok(())
            }
            Schedule::Every(_) => refuse("an interval has no time zone: it is the same in all"),
        })
    }

    /// What happens with occurrences that no server fired in time. Default: [`Misfire::RunOnce`].
    pub fn misfire(self, misfire: Misfire) -> Recurring<C> {
        self.with_set(|definition| definition.misfire = misfire)
    }

    /// What happens when a run before has not ended. Default: [`Overlap::Allow`].
    pub fn overlap(self, overlap: Overlap) -> Recurring<C> {
        self.with_set(|definition| definition.overlap = overlap)
    }

    /// The first instant at which it may fire. Intervals are counted from it.
    pub fn starts_at(self, at: impl Into<Timestamp>) -> Recurring<C> {
        self.with_set(|definition| definition.starts_at = Some(at.into()))
    }

    /// The last instant at which it may fire.
    pub fn ends_at(self, at: impl Into<Timestamp>) -> Recurring<C> {
        self.with_set(|definition| definition.ends_at = Some(at.into()))
    }

    /// Starts each run up to so much later, at most a day: a `Duration`, or a text such as `"5m"`. How
    /// much is drawn from the run's id, so it is the same on every server.
    pub fn jitter(self, time: impl IntoDuration) -> Recurring<C> {
        self.with_checked(|definition| {
            definition.jitter = time.into_duration()?;
            Ok(())
        })
    }

    /// The application that owns it, so that no other one changes it; at most 128 bytes. Default: none,
    /// and then it is only changed by those who name none.
    pub fn app(self, app: impl Into<String>) -> Recurring<C> {
        self.with_set(|definition| definition.app = app.into())
    }

    fn with_set(self, set: impl FnOnce(&mut NewRecurring)) -> Recurring<C> {
        self.with_checked(|definition| {
            set(definition);
            Ok(())
        })
    }

    fn with_checked(
        mut self,
        set: impl FnOnce(&mut NewRecurring) -> Result<(), InvalidJob>,
    ) -> Recurring<C> {
        if let Ok(definition) = &mut self.definition
            && let Err(mistake) = set(definition)
        {
            self.definition = Err(mistake);
        }
        self
    }

    /// What is asked for.
    ///
    /// # Errors
    /// The first mistake that was made in building it.
    pub fn into_definition(self) -> Result<NewRecurring, InvalidJob> {
        self.definition
    }
}

impl Recurring<Client> {
    /// Stores it, or changes the one of this name. Doing it again changes nothing, so a program does it
    /// whenever it starts. The next instant moves only when the schedule has changed; the same one in other
    /// words has not.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a mistake in the call or the schedule: a cron text that cannot be
    /// read, an unknown zone, an end before the start. [`ClientError::Owned`] when another application
    /// owns the name. [`ClientError::Storage`] when the write failed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it stored or not.
    pub async fn upsert(self) -> Result<Upserted, ClientError> {
        let Recurring { client, definition } = self;
        let name = definition.as_ref().map(|definition| definition.id.clone()).ok();
        let stored = Recurring { client: (), definition }.store(&client).await;
        stored.map_err(|error| match (error, name) {
            (ClientError::Invalid(InvalidJob::Schedule { reason }), Some(name)) => {
                InvalidJob::Schedule { reason: format!("`{name}`: {reason}") }.into()
            }
            (error, _) => error,
        })
    }
}

impl<C> Recurring<C> {
    pub(super) async fn store(self, client: &Client) -> Result<Upserted, ClientError> {
        let definition = client.filter_recurring(self.definition?)?;
        let id = definition.id.clone();
        let upsert = RecurringChange::Upsert(Box::new(definition));
        match client.storage().change_recurring(upsert).await? {
            RecurringChanged::Applied { next_at } => Ok(Upserted::Changed { next_at }),
            RecurringChanged::Owned { app } => Err(ClientError::Owned { id, app }),
            _ => Ok(Upserted::Unchanged),
        }
    }
}

fn define<J: JobFn>(
    id: &str,
    schedule: Schedule,
    call: Call<J>,
) -> Result<NewRecurring, InvalidJob> {
    let id = RecurringId::new(id)?;
    let call = call.any();
    if call.id.is_some() {
        return refuse("its call has an id, and each run is a job with an id of its own");
    }
    if call.when != When::Now {
        return refuse("its call has a delay: change the schedule instead, or give it a jitter");
    }
    if !call.after.is_empty() {
        return refuse(
            "its call waits for another job: let a continuation follow each run instead",
        );
    }
    let NewJob { kind, args, queue, priority, options, ties, .. } =
        call.into_new_job(|| JobId::from_name(id.as_str()), None)?;
    let mut definition = NewRecurring::new(id, schedule, kind, args);
    definition.queue = queue;
    definition.priority = priority;
    definition.options = options;
    definition.ties = ties;
    Ok(definition)
}

fn refuse<T>(reason: &str) -> Result<T, InvalidJob> {
    Err(InvalidJob::Schedule { reason: reason.to_owned() })
}

/// What an upsert did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upserted {
    /// It is stored, or changed.
    Changed {
        /// The next instant at which it fires; `None` when there is none.
        next_at: Option<Timestamp>,
    },
    /// It was stored like this already.
    Unchanged,
}

impl Client {
    /// A definition through the filters, which see the job of its runs.
    fn filter_recurring(&self, mut definition: NewRecurring) -> Result<NewRecurring, ClientError> {
        let mut job = [definition.job(JobId::from_name(definition.id.as_str()))];
        self.filter(&mut job)?;
        let [NewJob { kind, args, queue, priority, options, ties, .. }] = job;
        definition.kind = kind;
        definition.args = args;
        definition.queue = queue;
        definition.priority = priority;
        definition.options = options;
        definition.ties = ties;
        Ok(definition)
    }

    async fn change_recurring(
        &self,
        id: &RecurringId,
        change: RecurringChange,
    ) -> Result<RecurringChanged, ClientError> {
        match self.storage().change_recurring(change).await? {
            RecurringChanged::Missing => Err(ClientError::NoRecurring { id: id.clone() }),
            changed => Ok(changed),
        }
    }
}

impl<C> fmt::Debug for Recurring<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.definition.as_ref().map(|definition| &definition.id);
        f.debug_struct("Recurring").field("id", &id).finish_non_exhaustive()
    }
}

/// A recurring job that is stored, by its name. Made by [`Client::recurring_job`].
#[derive(Clone, Debug)]
pub struct RecurringJob {
    client: Client,
    id: Result<RecurringId, InvalidJob>,
}

impl RecurringJob {
    pub(super) fn new(client: Client, id: &str) -> RecurringJob {
        RecurringJob { client, id: RecurringId::new(id) }
    }

    /// Runs it now, whatever its schedule and its pause say. The schedule does not move. Answers the
    /// job, or the one that holds its unique key.
    ///
    /// # Errors
    /// [`ClientError::NoRecurring`] when it is not stored, [`ClientError::Storage`] when the write failed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the run created or not.
    pub async fn trigger(&self) -> Result<JobId, ClientError> {
        let (id, job) = (self.id()?, self.client.next_id());
        let trigger = RecurringChange::Trigger { id: id.clone(), job };
        match self.client.change_recurring(id, trigger).await? {
            RecurringChanged::Triggered(job) => Ok(job),
            _ => Ok(job),
        }
    }

    /// Stops its schedule until [`resume`](Self::resume). Answers whether that changed anything.
    ///
    /// # Errors
    /// As [`trigger`](Self::trigger).
    ///
    /// # Cancel safety
    /// Dropping the future leaves it changed or not; so with all changes here.
    pub async fn pause(&self) -> Result<bool, ClientError> {
        self.set_paused(None).await
    }

    /// Stops its schedule until an instant. Answers whether that changed anything.
    ///
    /// # Errors
    /// As [`trigger`](Self::trigger).
    pub async fn pause_until(&self, until: impl Into<Timestamp>) -> Result<bool, ClientError> {
        self.set_paused(Some(until.into())).await
    }

    async fn set_paused(&self, until: Option<Timestamp>) -> Result<bool, ClientError> {
        let id = self.id()?;
        let pause = RecurringChange::Pause { id: id.clone(), until };
        Ok(is_applied(&self.client.change_recurring(id, pause).await?))
    }

    /// Goes on with the first instant after now: what the pause covered is not made up for. Enables it
    /// again, too, when it was disabled because its schedule could not be read. Answers whether that
    /// changed anything.
    ///
    /// # Errors
    /// As [`trigger`](Self::trigger).
    pub async fn resume(&self) -> Result<bool, ClientError> {
        let id = self.id()?;
        let resume = RecurringChange::Resume(id.clone());
        Ok(is_applied(&self.client.change_recurring(id, resume).await?))
    }

    /// Removes it with the memory of its runs; their jobs stay. Answers whether it was there.
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the write failed.
    pub async fn remove(&self) -> Result<bool, ClientError> {
        let remove = RecurringChange::Remove(self.id()?.clone());
        Ok(is_applied(&self.client.storage().change_recurring(remove).await?))
    }

    /// Everything about it; `None` when it is not stored.
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the read failed.
    pub async fn record(&self) -> Result<Option<RecurringRecord>, ClientError> {
        Ok(self.client.storage().recurring(self.id()?.clone()).await?)
    }

    /// Its last runs, the newest first: at most `max`, and at most the 200 that are remembered.
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the read failed.
    pub async fn runs(&self, max: u32) -> Result<Vec<RunRecord>, ClientError> {
        Ok(self.client.storage().runs(self.id()?.clone(), max).await?)
    }

    fn id(&self) -> Result<&RecurringId, ClientError> {
        self.id.as_ref().map_err(|mistake| ClientError::Invalid(mistake.clone()))
    }
}

fn is_applied(changed: &RecurringChanged) -> bool {
    matches!(changed, RecurringChanged::Applied { .. })
}
