//! The reading half of the contract, for dashboards, command lines and tests.
//!
//! No read blocks a claim, and none counts or scans: counts come from maintained counters, lists are
//! pages that go on after a cursor.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::job::{JobId, KindName, QueueName};
use crate::state::{HistoryEntry, JobRecord, ServerId, StateName};
use crate::storage::Answer;

/// Most jobs on a page.
pub const PAGE_MAX: u32 = 500;

/// Reads what a storage holds. Every call sees one consistent moment.
pub trait Monitor: Send + Sync {
    /// The present in storage time.
    fn now(&self) -> Answer<'_, Timestamp>;

    /// How many jobs stand where.
    fn counts(&self) -> Answer<'_, Counts>;

    /// Everything about a job; `None` when it is not stored.
    fn job(&self, id: JobId) -> Answer<'_, Option<JobRecord>>;

    /// The history of a job from its creation: revisions 1, 2, 3, … without a gap, times never
    /// falling, the last entry the state it is in. Empty when the job is not stored.
    fn history(&self, id: JobId) -> Answer<'_, Vec<HistoryEntry>>;

    /// A page of jobs.
    ///
    /// Jobs in `scheduled` come soonest first, in `enqueued` by queue name and then in the order in
    /// which they would be claimed, and everything else the newest created first. A job that comes
    /// to be or moves meanwhile makes no other job appear twice or be passed over.
    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage>;

    /// Every queue that ever had a job or was paused, by name.
    fn queues(&self) -> Answer<'_, Vec<QueueRecord>>;

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
        if self.max == 0 { 50 } else { self.max.min(PAGE_MAX) as usize }
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
