//! Batches as users build them: [`Batch`], and [`BatchHandle`] for one that is stored.

use std::fmt;
use std::time::Duration;

use crate::batch::{
    BATCH_RETENTION, BatchChange, BatchChanged, BatchId, BatchRecord, BatchState, NewBatch,
};
use crate::call::{AnyCall, Enqueue};
use crate::client::{Client, ClientError};
use crate::continuation::{After, Antecedent, Dependency};
use crate::error::BoxError;
use crate::job::{JobId, NewJob, When};
use crate::storage::BATCH_MAX;

/// A batch in the making: jobs that are created together and watched as one.
///
/// [`Client::batch`] makes one that can be enqueued, [`Batch::new`] one that is to be nested in another.
///
/// ```
/// # use portfire_core::{Batch, Call, Client, ClientError, JobFn};
/// # struct job;
/// # impl JobFn for job { const KIND: &'static str = "job"; type Output = (); }
/// # async fn f(client: Client, import_row: fn(u64) -> Call<job>, publish: fn(&str) -> Call<job>, cleanup: fn() -> Call<job>) -> Result<(), ClientError> {
/// let rows: Vec<u64> = (1..=500).collect();
/// let batch = client
///     .batch("import")
///     .add_all(rows.iter().map(|&row| import_row(row)))
///     .add_batch(Batch::new("pictures").add(import_row(0)))
///     .on_success(publish("import"))
///     .on_finish(cleanup())
///     .enqueue()
///     .await?;
/// # Ok(()) }
/// ```
///
/// Jobs are taken from iterators only while the batch is enqueued, a piece at a time, so a batch of a
/// million jobs needs no more memory than one of ten thousand.
#[must_use = "a batch does nothing until it is enqueued (`client.batch(..).enqueue().await?`)"]
pub struct Batch<'a, C = ()> {
    client: C,
    id: Option<BatchId>,
    description: String,
    after: Vec<Dependency>,
    retention: Duration,
    when: When,
    parts: Vec<Part<'a>>,
    callbacks: Vec<(After, Vec<AnyCall>)>,
}

/// Hands the calls of its next item over; `None` when there are no more.
type Source<'a> = Box<dyn FnMut(&mut Vec<AnyCall>) -> Option<Result<(), BoxError>> + Send + 'a>;

enum Part<'a> {
    Calls(Vec<AnyCall>),
    Source(Source<'a>),
    Batch(Batch<'a>),
}

impl Batch<'_> {
    /// A batch that is to be nested in another by [`add_batch`](Batch::add_batch). The description is
    /// for people: at most 200 bytes.
    pub fn new<'a>(description: impl Into<String>) -> Batch<'a> {
        Batch::with((), description.into())
    }
}

impl<'a, C> Batch<'a, C> {
    pub(super) fn with(client: C, description: String) -> Batch<'a, C> {
        Batch {
            client,
            id: None,
            description,
            after: Vec::new(),
            retention: BATCH_RETENTION,
            when: When::Now,
            parts: Vec::new(),
            callbacks: Vec::new(),
        }
    }

    /// Adds a call; of a chain, each of its calls.
    #[expect(clippy::should_implement_trait, reason = "nobody adds a call to a batch by `+`")]
    pub fn add(mut self, call: impl Enqueue) -> Batch<'a, C> {
        if !matches!(self.parts.last(), Some(Part::Calls(_))) {
            self.parts.push(Part::Calls(Vec::new()));
        }
        if let Some(Part::Calls(calls)) = self.parts.last_mut() {
            call.for_each_call(&mut |call| calls.push(call));
        }
        self
    }

    /// Adds the calls of an iterator, which is asked for them while the batch is enqueued.
    pub fn add_all<I>(self, calls: I) -> Batch<'a, C>
    where
        I: IntoIterator,
        I::Item: Enqueue,
        I::IntoIter: Send + 'a,
    {
        let mut calls = calls.into_iter();
        self.source(move |to| {
            calls.next()?.for_each_call(&mut |call| to.push(call));
            Some(Ok(()))
        })
    }

    /// As [`add_all`](Self::add_all), from an iterator that may fail, such as the rows of a file.
    ///
    /// An error ends it: the batch is not created, and [`enqueue`](Batch::enqueue) answers
    /// [`ClientError::Source`].
    pub fn try_add_all<I, E, X>(self, calls: I) -> Batch<'a, C>
    where
        I: IntoIterator<Item = Result<E, X>>,
        I::IntoIter: Send + 'a,
        E: Enqueue,
        X: Into<BoxError>,
    {
        let mut calls = calls.into_iter();
        self.source(move |to| {
            let call = calls.next()?;
            Some(call.map(|call| call.for_each_call(&mut |call| to.push(call))).map_err(Into::into))
        })
    }

    fn source(
        mut self,
        source: impl FnMut(&mut Vec<AnyCall>) -> Option<Result<(), BoxError>> + Send + 'a,
    ) -> Batch<'a, C> {
        self.parts.push(Part::Source(Box::new(source)));
        self
    }

    /// Adds a batch as a member: it counts as one, and this batch ends after it. At most 100 stand in
    /// one another.
    pub fn add_batch<D>(mut self, batch: Batch<'a, D>) -> Batch<'a, C> {
        self.parts.push(Part::Batch(batch.without_client().1));
        self
    }

    /// Runs a call after all members have succeeded, also when some had failed and were requeued. It is deleted when a
    /// member is, or the batch is cancelled. It is no member.
    pub fn on_success(self, call: impl Enqueue) -> Batch<'a, C> {
        self.on(After::Success, call)
    }

    /// Runs a call after the batch has ended and some members did not succeed, once. It is no member.
    pub fn on_failure(self, call: impl Enqueue) -> Batch<'a, C> {
        self.on(After::Failure, call)
    }

    /// Runs a call after the batch was cancelled, and its last member has ended. It is no member.
    pub fn on_cancel(self, call: impl Enqueue) -> Batch<'a, C> {
        self.on(After::Deletion, call)
    }

    /// Runs a call after the batch has ended the first time, no matter how. It is no member.
    pub fn on_finish(self, call: impl Enqueue) -> Batch<'a, C> {
        self.on(After::End, call)
    }

    /// Runs a call after this end of the batch. It is no member.
    pub fn on(mut self, after: After, call: impl Enqueue) -> Batch<'a, C> {
        let mut calls = Vec::new();
        call.for_each_call(&mut |call| calls.push(call));
        self.callbacks.push((after, calls));
        self
    }

    /// Stores the batch under this id, so that creating it twice is creating it once, provided that its
    /// jobs have ids of their own too ([`Call::key`](crate::Call::key)).
    pub fn id(self, id: BatchId) -> Batch<'a, C> {
        Batch { id: Some(id), ..self }
    }

    /// Starts the batch after a job or another batch has succeeded. Named several times, it waits for
    /// all of them. When what it waits for ends otherwise, it is cancelled.
    pub fn after(self, antecedent: impl Into<Antecedent>) -> Batch<'a, C> {
        self.after_on(antecedent, After::Success)
    }

    /// Starts the batch after a job or another batch has ended, no matter how.
    pub fn after_end(self, antecedent: impl Into<Antecedent>) -> Batch<'a, C> {
        self.after_on(antecedent, After::End)
    }

    /// Starts the batch after this end of a job or another batch.
    pub fn after_on(mut self, antecedent: impl Into<Antecedent>, after: After) -> Batch<'a, C> {
        self.after.push(Dependency::on(antecedent).after(after));
        self
    }

    /// Delays each member that says nothing about its delay itself, from the start of the batch on.
    pub fn delay(self, when: impl Into<When>) -> Batch<'a, C> {
        Batch { when: when.into(), ..self }
    }

    /// Keeps the batch for so long after its end, and after its last member was cleaned. Default: 7 days.
    pub fn retention(self, retention: Duration) -> Batch<'a, C> {
        Batch { retention, ..self }
    }

    pub(super) fn without_client(self) -> (C, Batch<'a>) {
        let Batch { client, id, description, after, retention, when, parts, callbacks } = self;
        let rest = Batch { client: (), id, description, after, retention, when, parts, callbacks };
        (client, rest)
    }
}

impl Batch<'_, Client> {
    /// Stores the batch with all its members and callbacks.
    ///
    /// Up to 10,000 jobs are one commit. More are stored in several, into a batch that starts once all
    /// are: none of its jobs runs before, and an error on the way cancels what was stored, callbacks not
    /// among it. A member that is rejected by its unique key is no member.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a mistake in a call or in the batch, [`ClientError::Source`] when an
    /// iterator failed, [`ClientError::Refused`] when a filter refused a member,
    /// [`ClientError::Storage`] when the write failed, and [`ClientError::Unanswered`] when its last part may be stored.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a batch of up to 10,000 jobs stored or not. A larger one may be left
    /// open: nothing of it runs, and it is cancelled after a day.
    pub async fn enqueue(self) -> Result<BatchId, ClientError> {
        let (client, batch) = self.without_client();
        batch.store(&client, None).await
    }
}

impl<'a> Batch<'a> {
    pub(super) async fn store(
        self,
        client: &Client,
        parent: Option<BatchId>,
    ) -> Result<BatchId, ClientError> {
        let mut feed = Feed::new(client, self, parent);
        let mut piece = Piece::default();
        let whole = feed.fill(&mut piece, BATCH_MAX)?;
        let id = feed.root;
        if whole && piece.jobs.len() + feed.callbacks.len() <= BATCH_MAX {
            piece.jobs.append(&mut feed.callbacks);
            client.create_batches(piece.batches, piece.jobs).await?;
            return Ok(id);
        }
        if let Some(root) = piece.batches.first_mut() {
            root.open = true;
        }
        // From here on something may be stored.
        match feed.store_open(piece, whole).await {
            Ok(()) => Ok(id),
            Err(error) => {
                if let Err(second) = cancel_open(client, id, &error).await {
                    tracing::warn!(batch = %id, error = %second, "a batch that could not be created whole was not cancelled; it is after a day");
                }
                Err(error)
            }
        }
    }
}

/// Cancels what was stored of a batch. One that was created whole before, under the same id, goes on.
async fn cancel_open(client: &Client, id: BatchId, error: &ClientError) -> Result<(), ClientError> {
    let open = |batch: &BatchRecord| batch.state == BatchState::Open;
    if client.batch_record(id).await?.is_some_and(|batch| open(&batch)) {
        let reason = format!("it could not be created whole: {error}");
        // Whatever it answers, the batch is not open any more.
        let _ended = client.storage().change_batch(id, BatchChange::Cancel { reason }).await?;
    }
    Ok(())
}

/// What goes into one call of the storage.
#[derive(Default)]
struct Piece {
    batches: Vec<NewBatch>,
    jobs: Vec<NewJob>,
}

/// The batches and jobs of a batch with those that are nested in it, in the order of their creation.
struct Feed<'c, 'a> {
    client: &'c Client,
    root: BatchId,
    /// The batches that are being read, the innermost last.
    stack: Vec<Reading<'a>>,
    /// Batches that are to be stored with the next piece.
    batches: Vec<NewBatch>,
    /// Jobs that are to be stored with the last piece: until all is stored nothing may follow the batch.
    callbacks: Vec<NewJob>,
    /// The job that did not fit into the piece before.
    held: Option<NewJob>,
}

/// How many calls are taken from an iterator at a time.
const TAKEN_AT_ONCE: usize = 256;

struct Reading<'a> {
    id: BatchId,
    when: When,
    parts: std::vec::IntoIter<Part<'a>>,
    source: Option<Source<'a>>,
    ready: std::vec::IntoIter<AnyCall>,
    /// The call before, for the calls of a chain.
    previous: Option<JobId>,
    callbacks: Vec<(After, Vec<AnyCall>)>,
}

impl Reading<'_> {
    fn take_from_source(&mut self) -> Result<(), ClientError> {
        let Some(source) = &mut self.source else { return Ok(()) };
        let mut taken = Vec::new();
        while taken.len() < TAKEN_AT_ONCE {
            match source(&mut taken) {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(ClientError::Source(error)),
                None => {
                    self.source = None;
                    break;
                }
            }
        }
        self.ready = taken.into_iter();
        Ok(())
    }
}

impl<'c, 'a> Feed<'c, 'a> {
    fn new(client: &'c Client, batch: Batch<'a>, parent: Option<BatchId>) -> Feed<'c, 'a> {
        let root = batch.id.unwrap_or_else(|| client.next_batch_id());
        let (stack, batches, callbacks) = (Vec::new(), Vec::new(), Vec::new());
        let mut feed = Feed { client, root, stack, batches, callbacks, held: None };
        feed.enter(batch, root, parent);
        feed
    }

    fn enter(&mut self, batch: Batch<'a>, id: BatchId, parent: Option<BatchId>) {
        let mut stored = NewBatch::new(id);
        stored.description = batch.description;
        stored.parent = parent;
        stored.after = batch.after;
        stored.retention = batch.retention;
        self.batches.push(stored);
        self.stack.push(Reading {
            id,
            when: batch.when,
            parts: batch.parts.into_iter(),
            source: None,
            ready: Vec::new().into_iter(),
            previous: None,
            callbacks: batch.callbacks,
        });
    }

    /// Adds to a piece until it has so many jobs or batches, or all are read: then it answers `true`.
    fn fill(&mut self, piece: &mut Piece, most: usize) -> Result<bool, ClientError> {
        piece.jobs.extend(self.held.take());
        loop {
            piece.batches.append(&mut self.batches);
            if piece.batches.len() >= most {
                return Ok(false);
            }
            let Some(reading) = self.stack.last_mut() else { return Ok(true) };
            if let Some(mut call) = reading.ready.next() {
                if call.when == When::Now && call.previous.is_none() {
                    call.when = reading.when;
                }
                let mut job = call.into_new_job(|| self.client.next_id(), reading.previous)?;
                job.ties.batch = Some(reading.id);
                reading.previous = Some(job.id);
                if piece.jobs.len() == most {
                    self.held = Some(job);
                    return Ok(false);
                }
                piece.jobs.push(job);
                continue;
            }
            if reading.source.is_some() {
                reading.take_from_source()?;
                continue;
            }
            match reading.parts.next() {
                Some(Part::Calls(calls)) => reading.ready = calls.into_iter(),
                Some(Part::Source(source)) => reading.source = Some(source),
                Some(Part::Batch(batch)) => {
                    let parent = reading.id;
                    let id = batch.id.unwrap_or_else(|| self.client.next_batch_id());
                    self.enter(batch, id, Some(parent));
                }
                None => self.leave()?,
            }
        }
    }

    /// The innermost batch has been read.
    fn leave(&mut self) -> Result<(), ClientError> {
        let Some(reading) = self.stack.pop() else { return Ok(()) };
        for (after, calls) in reading.callbacks {
            let mut previous = None;
            for mut call in calls {
                if previous.is_none() {
                    call.after.push(Dependency::on(reading.id).after(after));
                }
                let job = call.into_new_job(|| self.client.next_id(), previous)?;
                previous = Some(job.id);
                self.callbacks.push(job);
            }
        }
        Ok(())
    }

    /// Stores the pieces of a batch that is open until all are there.
    async fn store_open(&mut self, mut piece: Piece, mut whole: bool) -> Result<(), ClientError> {
        loop {
            let Piece { batches, jobs } = std::mem::take(&mut piece);
            self.client.create_batches(batches, jobs).await?;
            if whole {
                break;
            }
            whole = self.fill(&mut piece, BATCH_MAX)?;
        }
        let mut callbacks = std::mem::take(&mut self.callbacks);
        while !callbacks.is_empty() {
            let rest = callbacks.split_off(callbacks.len().min(BATCH_MAX));
            self.client.create(std::mem::replace(&mut callbacks, rest)).await?;
        }
        // Somebody may have cancelled it meanwhile: then its members are deleted, as that wants it.
        let _sealed = self.client.storage().change_batch(self.root, BatchChange::Seal).await?;
        Ok(())
    }
}

impl<C> fmt::Debug for Batch<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("description", &self.description).finish_non_exhaustive()
    }
}

/// A batch that is stored. Made by [`Client::batch_handle`]; a running member gets the one of its own
/// batch. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BatchHandle {
    client: Client,
    id: BatchId,
}

impl BatchHandle {
    pub(super) fn new(client: Client, id: BatchId) -> BatchHandle {
        BatchHandle { client, id }
    }

    /// Its name.
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// Adds a member; of a chain, each of its calls. Answers its id, of a chain that of the last job.
    ///
    /// A batch that has ended takes no members, since its callbacks have gone out without them. A running
    /// member can add others at any time: the batch cannot end before it does.
    ///
    /// # Errors
    /// [`InvalidJob::BatchEnded`](crate::InvalidJob::BatchEnded) for a batch that has ended or was
    /// cancelled, else as [`Client::enqueue`].
    ///
    /// # Cancel safety
    /// As [`Client::enqueue`].
    pub async fn add(&self, call: impl Enqueue) -> Result<JobId, ClientError> {
        let mut jobs = Vec::new();
        self.client.jobs_of(call, Some(self.id), &mut jobs)?;
        self.client.create_and_name_last(jobs).await
    }

    /// Adds members, up to 10,000 in one commit. Answers their ids.
    ///
    /// # Errors
    /// As [`add`](Self::add). Of more than 10,000 jobs a beginning may be stored.
    ///
    /// # Cancel safety
    /// As [`add`](Self::add), for each commit.
    pub async fn add_all<E: Enqueue>(
        &self,
        calls: impl IntoIterator<Item = E>,
    ) -> Result<Vec<JobId>, ClientError> {
        self.client.enqueue_all(calls, Some(self.id)).await
    }

    /// Adds a batch as a member.
    ///
    /// # Errors
    /// As [`Batch::enqueue`], and as [`add`](Self::add).
    ///
    /// # Cancel safety
    /// As [`Batch::enqueue`].
    pub async fn add_batch<D>(&self, batch: Batch<'_, D>) -> Result<BatchId, ClientError> {
        batch.without_client().1.store(&self.client, Some(self.id)).await
    }

    /// Cancels it with all that is in it: from now on no member starts, and those that run are asked to
    /// stop.
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the write failed.
    pub async fn cancel(&self) -> Result<BatchChanged, ClientError> {
        self.client.cancel_batch(self.id).await
    }

    /// Everything about it; `None` when it is not stored (any more).
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the read failed.
    pub async fn record(&self) -> Result<Option<BatchRecord>, ClientError> {
        self.client.batch_record(self.id).await
    }
}
