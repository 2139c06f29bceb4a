//! Dead ends made visible: what keeps jobs from running, or may, as data.
//!
//! [`problems`] reads what a storage holds and says what nobody would notice otherwise: a queue that no
//! server serves, a kind that none has a handler of, a recurring job that never fires. It writes nothing.
//! Why one certain job does not run is answered by [`explain`](crate::explain::explain).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::batch::{BatchFilter, BatchId, BatchState};
use crate::client::{Client, ClientError};
use crate::clock::Timestamp;
use crate::continuation::Antecedent;
use crate::engine::kinds;
use crate::error::StorageError;
use crate::explain::remedy;
use crate::job::{KindName, QueueName};
use crate::monitor::{JobFilter, KindRecord, PAGE_MAX, QueueRecord, ServerRecord};
use crate::recurring::{RecurringFilter, RecurringId, RecurringRecord};
use crate::state::{ServerId, StateName};
use crate::storage::Storage;

/// Most problems that are told at a time.
pub const PROBLEMS_MAX: usize = 1_000;

/// How long a batch may stand open before that is a problem.
pub const OPEN_LONG: Duration = Duration::from_secs(60 * 60);

/// How late a recurring job may be before that is a problem: a minute, many times what a server needs.
pub const OVERDUE_AFTER: Duration = Duration::from_secs(60);

/// How far storage time may be ahead of the clock before that is a problem: clocks are set by less every day.
pub const SKEW_MAX: Duration = Duration::from_secs(2);

/// Most pages that are read of one sort of things.
const PAGES_MAX: usize = 40;

/// Something that keeps jobs from running, or may. Written as a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// Jobs wait, and no server is alive.
    NoServer {
        /// Jobs that wait.
        waiting: u64,
    },
    /// Jobs stand in a queue from which no live server takes any.
    QueueWithoutServer {
        /// The queue.
        queue: QueueName,
        /// Its jobs that are enqueued.
        enqueued: u64,
    },
    /// Jobs of a kind wait, and no live server has a handler of it.
    KindWithoutHandler {
        /// The kind.
        kind: KindName,
        /// Its jobs that wait: enqueued, scheduled or awaiting.
        waiting: u64,
    },
    /// Jobs stand in a queue that is paused.
    QueuePaused {
        /// The queue.
        queue: QueueName,
        /// Its jobs that are enqueued.
        enqueued: u64,
    },
    /// A server's lease has run out, and nobody has returned its jobs yet.
    HeartbeatLost {
        /// Its id.
        server: ServerId,
        /// When it was last heard of.
        heartbeat_at: Timestamp,
        /// Jobs it holds.
        processing: u64,
    },
    /// A recurring job was given up after faults in a row.
    RecurringDisabled {
        /// Which.
        recurring: RecurringId,
        /// The last fault.
        reason: String,
    },
    /// The schedule of a recurring job cannot be read by the servers there are; it is tried again.
    RecurringFaulty {
        /// Which.
        recurring: RecurringId,
        /// The last fault.
        reason: String,
    },
    /// A recurring job has no next instant.
    RecurringNeverFires {
        /// Which.
        recurring: RecurringId,
    },
    /// A recurring job is due, and no server fires it.
    RecurringOverdue {
        /// Which.
        recurring: RecurringId,
        /// Since when.
        due_at: Timestamp,
    },
    /// A recurring job fires jobs of a kind that no live server has a handler of.
    RecurringWithoutHandler {
        /// Which.
        recurring: RecurringId,
        /// The kind.
        kind: KindName,
    },
    /// A batch was never sealed, so none of its members runs.
    BatchOpen {
        /// Which.
        batch: BatchId,
        /// What people call it.
        description: String,
        /// Since when it stands open.
        created_at: Timestamp,
    },
    /// Jobs or batches wait for the success or the deletion of a job or batch that has failed.
    FailedParent {
        /// What has failed.
        on: Antecedent,
        /// How many wait: those that were looked at.
        waiting: u64,
    },
    /// Storage time is ahead of the clock: a commit was made by a clock that was.
    ClockAhead {
        /// How far.
        by: Duration,
    },
    /// There is more to look at than is looked at in one go.
    Incomplete {
        /// What was not looked at to the end.
        of: &'static str,
    },
}

/// What keeps jobs of this storage from running, or may; the worst first within each sort, and at most
/// [`PROBLEMS_MAX`].
///
/// # Errors
/// When the storage cannot be read.
pub async fn problems(storage: &dyn Storage) -> Result<Vec<Problem>, StorageError> {
    let now = storage.now().await?;
    let servers = storage.servers().await?;
    let staff = Staff::of(&servers, now);
    let mut found = Vec::new();
    let by = storage.skew().await?;
    if by > SKEW_MAX {
        found.push(Problem::ClockAhead { by });
    }
    queues(&storage.queues().await?, &staff, &mut found);
    kinds(&storage.kinds().await?, &staff, &mut found);
    found.extend(servers.iter().filter_map(|server| heartbeat_lost(server, now)));
    recurring(storage, &staff, now, &mut found).await?;
    open_batches(storage, now, &mut found).await?;
    failed_parents(storage, &mut found).await?;
    found.truncate(PROBLEMS_MAX);
    Ok(found)
}

impl Client {
    /// What keeps jobs from running, or may. See [`problems`](crate::problems).
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the storage cannot be read.
    pub async fn problems(&self) -> Result<Vec<Problem>, ClientError> {
        Ok(problems(&**self.storage()).await?)
    }
}

/// The servers that are alive, and what they can do.
pub(crate) struct Staff<'a> {
    live: Vec<&'a ServerRecord>,
}

impl<'a> Staff<'a> {
    pub(crate) fn of(servers: &'a [ServerRecord], now: Timestamp) -> Staff<'a> {
        Staff { live: servers.iter().filter(|server| is_live(server, now)).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Those that take jobs from a queue.
    pub(crate) fn serving(&self, queue: &QueueName) -> impl Iterator<Item = &'a ServerRecord> {
        let takes = |server: &&&ServerRecord| server.queues.contains(queue);
        self.live.iter().filter(takes).copied()
    }

    /// Those that take jobs of a kind from a queue, as far as they say.
    pub(crate) fn having<'b>(
        &'b self,
        kind: &'b KindName,
        queue: &'b QueueName,
    ) -> impl Iterator<Item = &'a ServerRecord> + use<'a, 'b> {
        self.serving(queue).filter(|server| kinds::has(&server.kinds, kind))
    }

    /// Whether one of them has a handler of a kind, as far as they say.
    pub(crate) fn handles(&self, kind: &KindName) -> bool {
        self.with_handler(kind).next().is_some()
    }

    /// Those that have a handler of a kind, as far as they say.
    pub(crate) fn with_handler<'b>(
        &'b self,
        kind: &'b KindName,
    ) -> impl Iterator<Item = &'a ServerRecord> + use<'a, 'b> {
        self.live.iter().copied().filter(|server| kinds::has(&server.kinds, kind))
    }

    /// Whether none takes jobs from a queue, or one of those that do has a handler of a kind, as far as they say.
    pub(crate) fn handles_in(&self, kind: &KindName, queue: &QueueName) -> bool {
        self.serving(queue).next().is_none() || self.having(kind, queue).next().is_some()
    }
}

fn is_live(server: &ServerRecord, now: Timestamp) -> bool {
    !server.dead && server.lease_until > now
}

fn queues(queues: &[QueueRecord], staff: &Staff<'_>, to: &mut Vec<Problem>) {
    let enqueued = |queue: &QueueRecord| queue.states.get(&StateName::Enqueued).copied();
    let enqueued = |queue: &QueueRecord| enqueued(queue).unwrap_or(0);
    let waiting: u64 = queues
        .iter()
        .flat_map(|queue| WAITING.map(|state| (queue, state)))
        .filter_map(|(queue, state)| queue.states.get(&state))
        .sum();
    if staff.is_empty() && waiting > 0 {
        to.push(Problem::NoServer { waiting });
    }
    for queue in queues.iter().filter(|queue| enqueued(queue) > 0) {
        let (name, enqueued) = (queue.name.clone(), enqueued(queue));
        if !staff.is_empty() && staff.serving(&name).next().is_none() {
            to.push(Problem::QueueWithoutServer { queue: name.clone(), enqueued });
        }
        if queue.paused {
            to.push(Problem::QueuePaused { queue: name, enqueued });
        }
    }
}

/// The states in which a job waits to run.
const WAITING: [StateName; 3] = [StateName::Enqueued, StateName::Scheduled, StateName::Awaiting];

fn kinds(kinds: &[KindRecord], staff: &Staff<'_>, to: &mut Vec<Problem>) {
    if staff.is_empty() {
        return;
    }
    for kind in kinds.iter().filter(|kind| !staff.handles(&kind.name)) {
        let waiting = WAITING.iter().filter_map(|state| kind.states.get(state)).sum();
        if waiting > 0 {
            to.push(Problem::KindWithoutHandler { kind: kind.name.clone(), waiting });
        }
    }
}

fn heartbeat_lost(server: &ServerRecord, now: Timestamp) -> Option<Problem> {
    let holds = server.processing > 0;
    let lost = if server.dead { holds } else { server.lease_until <= now };
    lost.then(|| Problem::HeartbeatLost {
        server: server.id.clone(),
        heartbeat_at: server.heartbeat_at,
        processing: server.processing,
    })
}

async fn recurring(
    storage: &dyn Storage,
    staff: &Staff<'_>,
    now: Timestamp,
    to: &mut Vec<Problem>,
) -> Result<(), StorageError> {
    let mut filter = RecurringFilter { max: PAGE_MAX, ..RecurringFilter::default() };
    let mut kinds_told = BTreeSet::new();
    for _ in 0..PAGES_MAX {
        let page = storage.recurring_jobs(filter.clone()).await?;
        for record in &page.recurring {
            to.extend(schedule_problem(record, now));
            let kind = &record.definition.kind;
            // One recurring job stands for all of a kind.
            if !staff.is_empty() && !staff.handles(kind) && kinds_told.insert(kind.clone()) {
                let recurring = record.definition.id.clone();
                to.push(Problem::RecurringWithoutHandler { recurring, kind: kind.clone() });
            }
        }
        filter.after = page.next;
        if filter.after.is_none() {
            return Ok(());
        }
    }
    to.push(Problem::Incomplete { of: "recurring jobs" });
    Ok(())
}

fn schedule_problem(record: &RecurringRecord, now: Timestamp) -> Option<Problem> {
    let recurring = record.definition.id.clone();
    if let Some(fault) = &record.fault {
        let reason = fault.reason.clone();
        return Some(match fault.disabled {
            true => Problem::RecurringDisabled { recurring, reason },
            false => Problem::RecurringFaulty { recurring, reason },
        });
    }
    let ended = record.definition.ends_at.is_some_and(|end| end <= now);
    match record.due_at() {
        None if record.paused.is_none() && !ended => {
            Some(Problem::RecurringNeverFires { recurring })
        }
        Some(due_at) if now.since(due_at) > OVERDUE_AFTER => {
            Some(Problem::RecurringOverdue { recurring, due_at })
        }
        _ => None,
    }
}

async fn open_batches(
    storage: &dyn Storage,
    now: Timestamp,
    to: &mut Vec<Problem>,
) -> Result<(), StorageError> {
    let mut filter =
        BatchFilter { state: Some(BatchState::Open), max: PAGE_MAX, ..BatchFilter::default() };
    for _ in 0..PAGES_MAX {
        let page = storage.batches(filter.clone()).await?;
        let long = page.batches.into_iter().filter(|batch| now.since(batch.created_at) > OPEN_LONG);
        to.extend(long.map(|batch| Problem::BatchOpen {
            batch: batch.id,
            description: batch.description,
            created_at: batch.created_at,
        }));
        filter.after = page.next;
        if filter.after.is_none() {
            return Ok(());
        }
    }
    to.push(Problem::Incomplete { of: "open batches" });
    Ok(())
}

/// Who waits for what has failed: of the newest [`PAGE_MAX`] jobs and batches that have, and of as many batches that wait.
async fn failed_parents(storage: &dyn Storage, to: &mut Vec<Problem>) -> Result<(), StorageError> {
    if storage.counts().await?.of(StateName::Awaiting) == 0 {
        return Ok(());
    }
    let jobs = JobFilter { max: PAGE_MAX, ..JobFilter::state(StateName::Failed) };
    let failed_jobs = storage.jobs(jobs).await?.jobs;
    let of = |state| BatchFilter { state: Some(state), max: PAGE_MAX, ..BatchFilter::default() };
    let failed_batches = storage.batches(of(BatchState::Failed)).await?.batches;
    let mut waiting: Vec<(Antecedent, u64)> = Vec::new();
    let jobs = failed_jobs.iter().map(|job| Antecedent::Job(job.id));
    for on in jobs.chain(failed_batches.iter().map(|batch| Antecedent::Batch(batch.id))) {
        let children = storage.continuations(on, PAGE_MAX).await?;
        let waits = children.iter().filter(|child| {
            child.state == StateName::Awaiting && child.after.is_open_after(StateName::Failed)
        });
        waiting.push((on, waits.count() as u64));
    }
    for batch in storage.batches(of(BatchState::Awaiting)).await?.batches {
        let open = batch.after.iter().filter(|after| after.after.is_open_after(StateName::Failed));
        for dependency in open {
            let known = waiting.iter_mut().find(|(on, _)| *on == dependency.on);
            known.into_iter().for_each(|(_, count)| *count += 1);
        }
    }
    let waiting = waiting.into_iter().filter(|(_, count)| *count > 0);
    to.extend(waiting.map(|(on, waiting)| Problem::FailedParent { on, waiting }));
    Ok(())
}

/// A number of jobs in words.
pub(crate) struct Jobs(pub(crate) u64);

impl fmt::Display for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} job{plural}", self.0)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoServer { waiting } => {
                write!(f, "no server is alive: start one for the {} that may run", Jobs(*waiting))
            }
            Problem::QueueWithoutServer { queue, enqueued } => write!(
                f,
                "no live server takes jobs from queue `{queue}`, where there are {}: start one with `.queues([\"{queue}\"])`",
                Jobs(*enqueued)
            ),
            Problem::KindWithoutHandler { kind, waiting } => write!(
                f,
                "no live server has a handler of kind `{kind}`, of which there are {}: deploy one that has, or name `{kind}` an alias of its successor",
                Jobs(*waiting)
            ),
            Problem::QueuePaused { queue, enqueued } => {
                write!(
                    f,
                    "queue `{queue}` is paused with {} in it: resume it with `portfire queues resume {queue}`",
                    Jobs(*enqueued)
                )
            }
            Problem::HeartbeatLost { server, heartbeat_at, processing } => write!(
                f,
                "server `{server}` was last heard of at {heartbeat_at} and holds {}: a live server with schedulers returns them",
                Jobs(*processing)
            ),
            Problem::RecurringDisabled { recurring, reason } => write!(
                f,
                "recurring job `{recurring}` was disabled after faults in a row: {reason}; store it anew or resume it"
            ),
            Problem::RecurringFaulty { recurring, reason } => {
                write!(
                    f,
                    "recurring job `{recurring}` cannot be scheduled, and is tried again: {reason}"
                )
            }
            Problem::RecurringNeverFires { recurring } => write!(
                f,
                "recurring job `{recurring}` never fires again: its schedule has no next instant; change it or remove it"
            ),
            Problem::RecurringOverdue { recurring, due_at } => write!(
                f,
                "recurring job `{recurring}` is due since {due_at} and was not fired: start a server with schedulers"
            ),
            Problem::RecurringWithoutHandler { recurring, kind } => write!(
                f,
                "recurring job `{recurring}` fires jobs of kind `{kind}`, of which no live server has a handler: deploy one that has, or remove the recurring job"
            ),
            Problem::BatchOpen { batch, description, created_at } => write!(
                f,
                "batch {batch} ({description}) stands open since {created_at}: none of its members runs before it is sealed"
            ),
            Problem::FailedParent { on, waiting } => {
                let verb = if *waiting == 1 { "waits" } else { "wait" };
                write!(f, "{waiting} {verb} for {on}, which has failed: {}", remedy(*on))
            }
            Problem::ClockAhead { by } => write!(
                f,
                "storage time is {by:.1?} ahead of the clock: some process wrote with a clock that was ahead, or the clock went back; set the clocks of all hosts right. Recurring jobs fire early by that much, and waits are up to 7 % longer, until the clock has caught up"
            ),
            Problem::Incomplete { of } => write!(f, "there are more {of} than were looked at"),
        }
    }
}
