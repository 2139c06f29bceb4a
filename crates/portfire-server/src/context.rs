//! What a running handler knows of its job, and what it may say about it: [`JobContext`].

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portfire_core::{
    Annotation, BatchHandle, Claim, ClaimedJob, Client, ClientError, ErrorRecord, InvalidJob,
    JobError, JobId, JobOptions, Json, KindName, Level, Notes, Occurrence, ParentOutcome,
    QueueName, ServerId, Ties, Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bar::Bar;
use crate::cancellation::CancellationToken;
use crate::desk::Desk;
use crate::lane::Seat;
use crate::notebook::{Line, Notebook, Pages};
use crate::tick::Tick;

/// The name of the bar of [`JobContext::progress`].
const PLAIN_BAR: &str = "progress";

/// The job that a handler runs, and its attempt. Cheap to clone.
///
/// What a handler says (`log`, `progress`, `set`, `tag`) is put down in memory and never waits, also not
/// in a blocking handler. The server sends it about once a second, and the last of it in the commit that
/// ends the attempt. It counts like the outcome: only as long as the attempt holds the job.
#[derive(Clone)]
pub struct JobContext {
    inner: Arc<Inner>,
}

struct Inner {
    job: ClaimedJob,
    token: CancellationToken,
    client: Client,
    notebook: Notebook,
    place: Option<Place>,
    /// What the handler stored as its result in a transaction of its own.
    completed: OnceLock<Option<Json>>,
}

/// Where an attempt runs.
pub(crate) struct Place {
    pub(crate) desk: Arc<Desk>,
    /// Its worker's; none where nobody collects what is said while it runs.
    pub(crate) seat: Option<Seat>,
    /// When it began, on the clock of the desk's runtime.
    pub(crate) started: Duration,
    /// The largest result that is kept.
    pub(crate) result_bytes_max: usize,
}

impl JobContext {
    /// The context of a claimed job outside of a server, for tests of handlers: what the handler says is
    /// heard by nobody, and all of it at the instant of the claim.
    pub fn new(job: ClaimedJob, token: CancellationToken, client: Client) -> JobContext {
        JobContext::placed(job, token, client, None)
    }

    pub(crate) fn placed(
        job: ClaimedJob,
        token: CancellationToken,
        client: Client,
        place: Option<Place>,
    ) -> JobContext {
        let notebook = Notebook::new(job.claim.attempt);
        let client = match job.options.traceparent.as_deref() {
            Some(traceparent) => client.with_traceparent(traceparent),
            None => client,
        };
        let completed = OnceLock::new();
        JobContext { inner: Arc::new(Inner { job, token, client, notebook, place, completed }) }
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.inner.job.claim.job
    }

    /// The number of this attempt, from 1: how often the job was claimed. It rises with every claim,
    /// so other systems can use it as a fencing token.
    ///
    /// One case is excepted: SQLite does not sync a claim by itself, so a power failure of the host may undo
    /// the last claims with the processes that held them. Such a job is claimed again under the same number.
    /// An outside system that survived the power failure must take the same number twice.
    pub fn attempt(&self) -> u32 {
        self.inner.job.claim.attempt
    }

    /// The right to finish this attempt.
    pub fn claim(&self) -> Claim {
        self.inner.job.claim
    }

    /// The server that holds the job, under the id by which it claimed it; `None` outside of a server.
    pub fn server_id(&self) -> Option<&ServerId> {
        self.inner.place.as_ref()?.desk.server.as_ref()
    }

    /// Failures of this job before this attempt.
    pub fn failures(&self) -> u32 {
        self.inner.job.failures
    }

    /// Crashes of its servers that this job alone can have caused, and has survived.
    pub fn recoveries(&self) -> u32 {
        self.inner.job.recoveries
    }

    /// The job's kind.
    pub fn kind(&self) -> &KindName {
        &self.inner.job.kind
    }

    /// The job's queue.
    pub fn queue(&self) -> &QueueName {
        &self.inner.job.queue
    }

    /// What its call said.
    pub fn options(&self) -> &JobOptions {
        &self.inner.job.options
    }

    /// What it waited for, belongs to, and is limited by.
    pub fn ties(&self) -> &Ties {
        &self.inner.job.ties
    }

    /// The batch it is a member of. It takes more members while this job runs, because it cannot end
    /// before its members have: `batch.add(import_row(9)).await?`.
    pub fn batch(&self) -> Option<BatchHandle> {
        Some(self.client().batch_handle(self.ties().batch?))
    }

    /// Which run of a recurring job it is; `None` when it is none.
    pub fn occurrence(&self) -> Option<&Occurrence> {
        self.ties().occurrence.as_ref()
    }

    /// For which planned instant it runs.
    pub fn tick(&self) -> Tick {
        match self.occurrence() {
            Some(occurrence) => Tick {
                nominal: occurrence.planned_at,
                recurring: Some(occurrence.recurring.clone()),
                triggered: occurrence.triggered,
            },
            None => Tick::at(self.created_at()),
        }
    }

    /// How those ended that it waited for, as far as their outcome was to be
    /// [passed on](portfire_core::Dependency::passing), in the order of its dependencies.
    pub fn parents(&self) -> &[ParentOutcome] {
        &self.inner.job.parents
    }

    /// What the first of its [`parents`](Self::parents) returned. A parent that returned nothing counts
    /// as `null`, so `()` and `Option` take it.
    ///
    /// # Errors
    /// A permanent [`JobError`] of class `no_parent` when no parent was passed on or it did not succeed,
    /// and of class `undecodable_parent` when what it returned is of another shape.
    pub fn parent<T: DeserializeOwned>(&self) -> Result<T, JobError> {
        let permanent =
            |class, message| Err(JobError::permanent::<String>(message).with_class(class));
        let Some(parent) = self.parents().first() else {
            let message = "it has no parent whose outcome is passed on".to_owned();
            return permanent("no_parent", message);
        };
        if let Some(error) = &parent.error {
            let message = format!("its parent, {}, is {}: {error}", parent.parent, parent.state);
            return permanent("no_parent", message);
        }
        let text = parent.result.as_ref().map_or("null", Json::as_str);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(&mut deserializer).or_else(|error| {
            let (path, inner) = (error.path().to_string(), error.inner());
            let message = format!(
                "the result of its parent, {}, does not fit, at `{path}`: {inner}",
                parent.parent
            );
            permanent("undecodable_parent", message)
        })
    }

    /// What went wrong in the first of its [`parents`](Self::parents).
    pub fn parent_error(&self) -> Option<&ErrorRecord> {
        self.parents().first()?.error.as_ref()
    }

    /// The W3C trace context of who enqueued it. Jobs that are enqueued by [`client`](Self::client)
    /// inherit it.
    pub fn traceparent(&self) -> Option<&str> {
        self.options().traceparent.as_deref()
    }

    /// When it was stored.
    pub fn created_at(&self) -> Timestamp {
        self.inner.job.created_at
    }

    /// When this attempt was claimed, in storage time.
    pub fn claimed_at(&self) -> Timestamp {
        self.inner.job.claimed_at
    }

    /// The job as it was claimed.
    pub fn job(&self) -> &ClaimedJob {
        &self.inner.job
    }

    /// Tells when the attempt is to stop.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.inner.token
    }

    /// A client of the same storage, to enqueue more.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }
}

/// What a handler says. None of these waits for anything.
impl JobContext {
    /// Adds a line to the job's log.
    ///
    /// A line is cut at 8 KiB. An attempt keeps 256 KiB; what is more is dropped, and a last line says
    /// how much.
    pub fn log(&self, text: impl fmt::Display) {
        self.log_at(Level::Info, text);
    }

    /// Adds a line of this importance to the job's log, as [`log`](Self::log).
    pub fn log_at(&self, level: Level, text: impl fmt::Display) {
        let line = Line::of(text);
        self.note(|pages, at| pages.log(level, at, line));
    }

    /// Says how far the job is, in per cent: the bar `progress`.
    pub fn progress(&self, percent: u32) {
        self.progress_bar(PLAIN_BAR, 100).set(u64::from(percent));
    }

    /// A progress bar that goes as far as `total`. The same name is the same bar. A job has at most 32;
    /// further ones are not shown. A name has 1 to 64 bytes; a longer one is cut.
    pub fn progress_bar(&self, name: impl AsRef<str>, total: u64) -> Bar {
        let index = self.note(|pages, _| pages.bar(name.as_ref(), total)).flatten();
        Bar::new(self.clone(), index)
    }

    /// Sets metadata: it is shown with the job, and [`get`](Self::get) of this and of later attempts
    /// answers it.
    ///
    /// # Errors
    /// [`InvalidJob::MetadataValue`] when the value refuses, [`InvalidJob::Metadata`] for a key of none or over
    /// 128 bytes or a value of over 64 KiB, [`InvalidJob::TooMuchMetadata`] for more than 64 keys.
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), InvalidJob> {
        let value = Json::encode(value).map_err(|error| unwritten(key, error))?;
        self.note(|pages, _| pages.set(key, value)).unwrap_or(Ok(()))
    }

    /// Adds a word to find the job by: 1 to 64 bytes; a longer one is cut. A job has at most 16 with those of
    /// its call; further ones are dropped.
    pub fn tag(&self, tag: impl AsRef<str>) {
        self.note(|pages, _| pages.tag(tag.as_ref(), &self.options().tags));
    }

    /// What was last set under a key: by this attempt, else by an earlier one, else by the call. `None`
    /// when nothing was. Only the second of the three asks the storage.
    ///
    /// In a blocking handler: `portfire_core::client::block_on(cx.get("key"))`.
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the read failed, [`ClientError::Invalid`] when the value is of
    /// another shape.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ClientError> {
        let Some(value) = self.metadata(key).await? else { return Ok(None) };
        let decoded = serde_json::from_str(value.as_str());
        decoded.map(Some).map_err(|error| {
            let (key, reason) = (key.to_owned(), error.to_string());
            ClientError::Invalid(InvalidJob::MetadataValue { key, reason })
        })
    }

    async fn metadata(&self, key: &str) -> Result<Option<Json>, ClientError> {
        if let Some(value) = self.inner.notebook.metadata(key) {
            return Ok(Some(value));
        }
        // Before the first attempt nobody can have set anything.
        if self.attempt() > 1 {
            let mut noted = self.client().storage().notes(self.id()).await?;
            if let Some(value) = noted.metadata.remove(key) {
                return Ok(Some(value));
            }
        }
        let called = self.options().metadata.get(key);
        Ok(called.map(Json::encode).transpose()?)
    }

    /// Writes something down at the present instant, unless the attempt has ended.
    pub(crate) fn note<T>(&self, write: impl FnOnce(&mut Pages, Timestamp) -> T) -> Option<T> {
        let now = self.now();
        let (written, announce) = self.inner.notebook.write(|pages| write(pages, now));
        if announce && let Some(Place { desk, seat: Some(seat), .. }) = &self.inner.place {
            desk.put(*seat, self.clone());
        }
        written
    }

    /// What was said and may not have arrived yet. For who sends it in another way than the server does:
    /// in the transaction that ends the attempt.
    #[doc(hidden)]
    pub fn lend_notes(&self) -> LentNotes {
        LentNotes { pieces: self.inner.notebook.lend(), of: self.clone(), arrived: false }
    }

    /// The result without what is more than a result may have; the log says so.
    #[doc(hidden)]
    pub fn fit_result(&self, result: Option<Json>) -> Option<Json> {
        let limit = self.inner.place.as_ref().map_or(usize::MAX, |place| place.result_bytes_max);
        let size = result.as_ref().map_or(0, |result| result.as_str().len());
        if size <= limit {
            return result;
        }
        self.log_at(
            Level::Warn,
            format_args!(
                "the result was dropped: it has {size} bytes, and at most {limit} are kept"
            ),
        );
        None
    }

    /// What was said and not sent yet.
    #[doc(hidden)]
    pub fn take_notes(&self) -> Option<Annotation> {
        let notes = self.inner.notebook.take()?;
        Some(Annotation::new(self.claim(), notes))
    }

    /// The attempt has been ended in a transaction of the handler's, with this result. What happens to
    /// the handler from here on changes nothing.
    #[doc(hidden)]
    pub fn complete(&self, result: Option<Json>) {
        // A second one would be refused by the storage, too.
        let _ = self.inner.completed.set(result);
    }

    /// The result with which the attempt has been ended already.
    pub(crate) fn completed(&self) -> Option<&Option<Json>> {
        self.inner.completed.get()
    }

    /// The attempt has ended: the last of what was said. What is said from now on is dropped.
    pub(crate) fn close(&self) -> Option<Notes> {
        self.inner.notebook.close(self.now())
    }

    /// The present, as the instant of the claim and what has passed since; storage time in all but name.
    fn now(&self) -> Timestamp {
        let passed = |place: &Place| place.desk.runtime.elapsed().saturating_sub(place.started);
        let passed = self.inner.place.as_ref().map_or(Duration::ZERO, passed);
        self.claimed_at().saturating_add(passed)
    }
}

/// Why the value of a key cannot be set.
fn unwritten(key: &str, error: InvalidJob) -> InvalidJob {
    match error {
        InvalidJob::Encode { reason } => InvalidJob::MetadataValue { key: key.to_owned(), reason },
        other => other,
    }
}

/// What somebody else than the server tries to bring to the storage. Unless it has arrived, the server
/// sends it after all.
#[doc(hidden)]
#[derive(Debug)]
pub struct LentNotes {
    pieces: Vec<Notes>,
    of: JobContext,
    arrived: bool,
}

impl LentNotes {
    /// Takes the pieces out, to be sent.
    pub fn take(&mut self) -> Vec<Notes> {
        std::mem::take(&mut self.pieces)
    }

    /// All of them have arrived.
    pub fn arrived(mut self) {
        self.arrived = true;
    }
}

impl Drop for LentNotes {
    fn drop(&mut self) {
        self.of.inner.notebook.lent(self.arrived);
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("job", &self.id())
            .field("kind", self.kind())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
