//! The reading half of the contract, for dashboards, command lines and tests.
//!
//! No read blocks a claim, and the work of each is bounded: counts come from maintained counters, lists are
//! pages that go on after a cursor, and what has to look at rows that it does not show (a page under several
//! filters, the jobs ahead of one in its queue) looks at 10,000 at most.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::batch::{BatchFilter, BatchId, BatchPage, BatchRecord};
use crate::clock::Timestamp;
use crate::continuation::{Antecedent, Continuation};
use crate::job::{JobId, KindName, QueueName};
use crate::limit::{KeyRecord, LimitName, LimitRecord};
use crate::lock::LockRecord;
use crate::notes::{LogPage, NotesRecord};
use crate::recurring::{RecurringFilter, RecurringId, RecurringPage, RecurringRecord, RunRecord};
use crate::state::{HistoryEntry, JobRecord, ServerId, StateName};
use crate::storage::Answer;

/// Most jobs on a page.
pub const PAGE_MAX: u32 = 500;

/// Reads what a storage holds. Every call sees one consistent moment.
pub trait Monitor: Send + Sync {
    /// The present in storage time.
    fn now(&self) -> Answer<'_, Timestamp>;

    /// How far storage time is ahead of the clock that it goes by, as it is after a commit by a clock that was
    /// ahead; zero when all is well, and for a storage that has a clock of its own. See [`clock`](crate::clock).
    ///
    /// Default: zero.
    fn skew(&self) -> Answer<'_, Duration> {
        Box::pin(std::future::ready(Ok(Duration::ZERO)))
    }

    /// How many jobs stand where.
    fn counts(&self) -> Answer<'_, Counts>;

    /// Everything about a job; `None` when it is not stored.
    fn job(&self, id: JobId) -> Answer<'_, Option<JobRecord>>;

    /// The history of a job from its creation: revisions rise from 1 without a gap but for what is
    /// [folded](HistoryEntry::folded), times never fall, the last entry is the state it is in. Empty when the job is not
    /// stored.
    fn history(&self, id: JobId) -> Answer<'_, Vec<HistoryEntry>>;

    /// A page of jobs.
    ///
    /// Jobs in `scheduled` come soonest first, in `enqueued` by queue name and then in the order in
    /// which a server that has all kinds would claim them, those that wait for a limit after those that can be
    /// claimed and in the order of their creation, and everything else the newest created first. A job that comes
    /// to be or moves meanwhile makes no other job appear twice or be passed over.
    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage>;

    /// Every queue that ever had a job or was paused, by name.
    fn queues(&self) -> Answer<'_, Vec<QueueRecord>>;

    /// Every kind of which a job was ever stored, by name.
    fn kinds(&self) -> Answer<'_, Vec<KindRecord>>;

    /// What holds back a job that is `enqueued`; `None` for others.
    fn waiting(&self, id: JobId) -> Answer<'_, Option<WaitingRecord>>;

    /// The jobs that wait or waited for the end of this one or of this batch, in the order of their creation; at
    /// most `max`, and at most [`PAGE_MAX`]. Known as long as the antecedent is stored. One that was created after the
    /// end never waited.
    fn continuations(&self, on: Antecedent, max: u32) -> Answer<'_, Vec<Continuation>>;

    /// Everything about a batch; `None` when it is not stored.
    fn batch(&self, id: BatchId) -> Answer<'_, Option<BatchRecord>>;

    /// A page of batches, the newest created first.
    fn batches(&self, filter: BatchFilter) -> Answer<'_, BatchPage>;

    /// Everything about a recurring job; `None` when it is not stored.
    fn recurring(&self, id: RecurringId) -> Answer<'_, Option<RecurringRecord>>;

    /// A page of recurring jobs, by id.
    fn recurring_jobs(&self, filter: RecurringFilter) -> Answer<'_, RecurringPage>;

    /// The last runs of a recurring job, the newest first, at most `max`; kept even when their jobs are not.
    fn runs(&self, id: RecurringId, max: u32) -> Answer<'_, Vec<RunRecord>>;

    /// The limits that have a rule, by target.
    fn limits(&self) -> Answer<'_, Vec<LimitRecord>>;

    /// The keys of a named limit that have running or waiting jobs, by key; at most [`PAGE_MAX`].
    fn limit_keys(&self, limit: LimitName) -> Answer<'_, Vec<KeyRecord>>;

    /// The locks that are held, by name.
    fn locks(&self) -> Answer<'_, Vec<LockRecord>>;

    /// What a job has said about itself, without its log; empty when that is nothing.
    fn notes(&self, id: JobId) -> Answer<'_, NotesRecord>;

    /// A page of a job's log, also while it runs; at most `max` lines, and at most [`PAGE_MAX`].
    fn log(&self, id: JobId, after: Option<Cursor>, max: u32) -> Answer<'_, LogPage>;

    /// The servers that are alive or died less than a day ago, by id.
    fn servers(&self) -> Answer<'_, Vec<ServerRecord>>;

    /// Outcomes per hour or day, oldest first, from the bucket that `since` lies in; buckets in which
    /// nothing happened are left out.
    fn statistics(&self, bucket: Bucket, since: Timestamp) -> Answer<'_, Vec<StatisticsRecord>>;
}

/// How many jobs stand where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Stored jobs by state; every state is present.
    pub states: BTreeMap<StateName, u64>,
    /// Jobs that were ever created.
    pub created_total: u64,
    /// Transitions into `succeeded`, ever.
    pub succeeded_total: u64,
    /// Transitions into `failed`, ever.
    pub failed_total: u64,
    /// Transitions into `deleted`, ever.
    pub deleted_total: u64,
    /// Failures that were retried, ever.
    pub retried_total: u64,
    /// Jobs returned from dead servers, ever.
    pub recovered_total: u64,
    /// Jobs removed after their retention, ever.
    pub cleaned_total: u64,
}

impl Counts {
    /// Stored jobs in a state.
    pub fn of(&self, state: StateName) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }
}

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only in this state.
    pub state: Option<StateName>,
    /// Only of this queue.
    pub queue: Option<QueueName>,
    /// Only of this kind.
    pub kind: Option<KindName>,
    /// Only members of this batch.
    pub batch: Option<BatchId>,
    /// Only with an id whose text begins so.
    pub id_prefix: Option<String>,
    /// Go on after the page that ended here.
    pub after: Option<Cursor>,
    /// Most jobs on the page; 0 means 50, and at most [`PAGE_MAX`].
    pub max: u32,
}

impl JobFilter {
    /// Jobs in one state.
    pub fn state(state: StateName) -> JobFilter {
        JobFilter { state: Some(state), ..JobFilter::default() }
    }

    /// The page size in force.
    pub fn page_size(&self) -> usize {
        crate::engine::pages::size(self.max)
    }
}

/// Where a page ended; opaque text of the storage that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// A page of jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<JobRecord>,
    /// Where to go on; `None` when this was the last page. A page may be short and yet have a next
    /// one, when a filter passed over many jobs.
    pub next: Option<Cursor>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueRecord {
    /// Its name.
    pub name: QueueName,
    /// Whether it gives out jobs.
    pub paused: bool,
    /// Its stored jobs by state; states without any may be absent.
    pub states: BTreeMap<StateName, u64>,
}

/// A kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindRecord {
    /// Its name.
    pub name: KindName,
    /// Its stored jobs by state; states without any may be absent.
    pub states: BTreeMap<StateName, u64>,
}

/// What holds back a job that is enqueued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitingRecord {
    /// Jobs that are claimed before it, by priority and place in its queue, or in the line of its limit;
    /// counted up to 10,000. Jobs of other kinds that were set aside are not counted: they hold up nobody.
    pub ahead: u64,
    /// The key of the limit in whose line it waits.
    pub limit: Option<KeyRecord>,
    /// The jobs that use up that limit, the first created first; at most 10.
    pub holders: Vec<JobId>,
    /// Since when no live server has had a handler of its kind, as far as a claim has met such jobs in its queue;
    /// `None` while one has.
    pub no_handler_since: Option<Timestamp>,
    /// When it is failed for that, by the grace of the last [rescue](crate::Storage::rescue), if no server with a
    /// handler comes before.
    pub fails_at: Option<Timestamp>,
}

impl WaitingRecord {
    /// Of a job that so many come before, and nothing else holds back.
    pub fn behind(ahead: u64) -> WaitingRecord {
        WaitingRecord {
            ahead,
            limit: None,
            holders: Vec::new(),
            no_handler_since: None,
            fails_at: None,
        }
    }

    /// No live server has had a handler of its kind since then, if that is said; it came to its queue at `enqueued_at`.
    pub fn miss_handler(
        &mut self,
        since: Option<Timestamp>,
        grace: Option<Duration>,
        enqueued_at: Timestamp,
    ) {
        self.no_handler_since = since;
        let counts_from = since.map(|since| since.max(enqueued_at));
        self.fails_at = counts_from.zip(grace).map(|(from, grace)| from.saturating_add(grace));
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerRecord {
    /// Its id.
    pub id: ServerId,
    /// The name people gave it.
    pub name: String,
    /// The queues it takes jobs from.
    pub queues: Vec<QueueName>,
    /// How many jobs it runs at a time.
    pub workers: u32,
    /// When it was announced.
    pub started_at: Timestamp,
    /// When it was last heard of.
    pub heartbeat_at: Timestamp,
    /// Until when it is alive without another heartbeat.
    pub lease_until: Timestamp,
    /// Its lease.
    pub lease: Duration,
    /// The kinds that it has handlers of; empty when it does not say.
    pub kinds: Vec<KindName>,
    /// Jobs it holds.
    pub processing: u64,
    /// Whether it was declared dead.
    pub dead: bool,
}

/// The width of a bucket of statistics, aligned to UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// An hour; kept for 2 days.
    Hour,
    /// A day; kept for 400 days.
    Day,
}

impl Bucket {
    /// The width.
    pub const fn width(self) -> Duration {
        match self {
            Bucket::Hour => Duration::from_secs(3_600),
            Bucket::Day => Duration::from_secs(86_400),
        }
    }

    /// How long buckets of this width are kept.
    pub const fn kept(self) -> Duration {
        match self {
            Bucket::Hour => Duration::from_secs(2 * 86_400),
            Bucket::Day => Duration::from_secs(400 * 86_400),
        }
    }

    /// The beginning of the bucket that `at` lies in.
    pub fn start(self, at: Timestamp) -> Timestamp {
        let width = self.width().as_micros() as i64;
        Timestamp::from_micros(at.as_micros() - at.as_micros() % width)
    }
}

/// What happened in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StatisticsRecord {
    /// Its beginning.
    pub start: Timestamp,
    /// Transitions into `succeeded`.
    pub succeeded: u64,
    /// Transitions into `failed`.
    pub failed: u64,
    /// Transitions into `deleted`.
    pub deleted: u64,
}
