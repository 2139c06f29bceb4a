//! Why a job is not running: [`explain`] gives the reasons in order, and an estimate of the start.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::batch::{BATCH_DEPTH_MAX, BatchId, BatchState};
use crate::client::{Client, ClientError};
use crate::clock::Timestamp;
use crate::continuation::{After, Antecedent, Dependency};
use crate::error::StorageError;
use crate::job::{JobId, KindName, QueueName};
use crate::limit::{LimitName, LimitRecord, LimitRule, LimitTarget, Rate};
use crate::monitor::{Bucket, QueueRecord, ServerRecord, WaitingRecord};
use crate::problems::{Jobs, Staff};
use crate::state::{Cause, JobRecord, JobState, ServerId, StateName};
use crate::storage::Storage;
use crate::suspects::SUSPECT_CRASHES;

/// Why a job is not running. Written as sentences, the first reason first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// Which job.
    pub job: JobId,
    /// Where it stands.
    pub state: StateName,
    /// What holds it back, in the order in which it has to be overcome.
    pub reasons: Vec<Reason>,
    /// When it starts, as far as that can be told.
    pub start: Option<Estimate>,
}

/// When a job starts, as far as that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Estimate {
    /// Not before this instant, or about then.
    pub at: Timestamp,
    /// What it rests on.
    pub basis: Basis,
}

/// What an estimate rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Basis {
    /// The instant for which it is planned.
    Plan,
    /// The instant at which its rate allows the next start.
    Rate,
    /// The jobs before it, and how many ended in the last hour or two.
    Pace,
}

/// One thing that holds a job back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// It has ended.
    Ended {
        /// When.
        at: Timestamp,
        /// Its error or the reason of its deletion.
        why: Option<String>,
    },
    /// It is running, or about to.
    Running {
        /// The server that holds it.
        server: ServerId,
        /// Since when.
        since: Timestamp,
    },
    /// The server that holds it has not been heard of; the job runs again when that is declared dead.
    ServerLost {
        /// The server.
        server: ServerId,
        /// When it was last heard of, if it is known.
        heartbeat_at: Option<Timestamp>,
    },
    /// Its instant has not come.
    Instant {
        /// When it comes.
        run_at: Timestamp,
        /// What it waits for: a delay, a retry, a handler.
        cause: Cause,
    },
    /// Its instant has come, and no server has moved it to its queue yet.
    Due {
        /// Since when.
        run_at: Timestamp,
    },
    /// Something it waits for has not ended as it is to.
    Antecedent {
        /// What.
        on: Antecedent,
        /// Which end is waited for.
        after: After,
        /// Where it stands; `None` when it is not stored any more.
        state: Option<String>,
    },
    /// Its batch, or one around that, has not started.
    BatchNotStarted {
        /// Which batch.
        batch: BatchId,
        /// Where it stands.
        state: BatchState,
    },
    /// Its batch, or one around that, was cancelled: it is going to be deleted.
    BatchCancelled {
        /// Which batch.
        batch: BatchId,
    },
    /// It is too late: it is going to be deleted instead of run.
    TooLate {
        /// The instant by which it was to start.
        expires_at: Timestamp,
    },
    /// Its queue is paused.
    QueuePaused {
        /// The queue.
        queue: QueueName,
    },
    /// No server is alive.
    NoServer,
    /// No live server takes jobs from its queue.
    QueueWithoutServer {
        /// The queue.
        queue: QueueName,
    },
    /// No live server has a handler of its kind.
    KindWithoutHandler {
        /// The kind.
        kind: KindName,
        /// Since when, if a claim has met jobs of it.
        since: Option<Timestamp>,
        /// When the job is failed for that, if no server with a handler comes before.
        fails_at: Option<Timestamp>,
    },
    /// Servers that have a handler of its kind do not take jobs from its queue, and those that do have none.
    HandlerElsewhere {
        /// The kind.
        kind: KindName,
        /// The queue.
        queue: QueueName,
        /// The servers that have one; at most 10.
        servers: Vec<ServerId>,
    },
    /// It waits in the line of a limit whose slots are taken.
    LimitFull {
        /// The key of the limit.
        key: String,
        /// Its running jobs.
        running: u64,
        /// The oldest of them.
        holders: Vec<JobId>,
    },
    /// It waits in the line of a limit whose rate is used up.
    RateUsed {
        /// The key of the limit.
        key: String,
        /// When the next may start.
        next_at: Timestamp,
    },
    /// As many jobs of its queue run as its limit allows.
    QueueLimit {
        /// The queue.
        queue: QueueName,
        /// How many that is.
        concurrency: u32,
    },
    /// So many jobs of its queue start in a time; whether more may start now is not told.
    QueueRate {
        /// The queue.
        queue: QueueName,
        /// How many.
        count: u32,
        /// In how long a time.
        per: Duration,
    },
    /// Servers that held it have crashed, so it is given out apart from others.
    Suspect {
        /// How many of its servers in a row.
        crashes: u32,
    },
    /// Other jobs are claimed before it.
    Ahead {
        /// How many; counted up to 10,000.
        jobs: u64,
    },
    /// All workers that could run it are busy.
    AllBusy {
        /// How many there are.
        workers: u64,
    },
    /// Nothing holds it back: a server takes it with its next claim.
    Next,
}

/// Why a job is not running; `None` when it is not stored.
///
/// # Errors
/// When the storage cannot be read.
pub async fn explain(
    storage: &dyn Storage,
    id: JobId,
) -> Result<Option<Explanation>, StorageError> {
    let Some(job) = storage.job(id).await? else { return Ok(None) };
    let view = View {
        now: storage.now().await?,
        servers: storage.servers().await?,
        queues: storage.queues().await?,
    };
    let mut reasons = Vec::new();
    let mut start = None;
    match &job.state {
        JobState::Scheduled { run_at, cause } => {
            reasons.push(view.instant(*run_at, *cause));
            view.obstacles(&job, &mut reasons);
            let at = (*run_at).max(view.now);
            start = (reasons.len() == 1).then_some(Estimate { at, basis: Basis::Plan });
        }
        JobState::Awaiting { .. } => {
            antecedents(storage, job.created_at, &job.ties.after, &mut reasons).await?;
            batches(storage, &job, &mut reasons).await?;
            view.obstacles(&job, &mut reasons);
        }
        JobState::Enqueued { .. } => {
            batches(storage, &job, &mut reasons).await?;
            view.obstacles(&job, &mut reasons);
            let stuck = !reasons.is_empty();
            let limits = storage.limits().await?;
            let waiting = storage.waiting(id).await?;
            if let Some(waiting) = &waiting {
                date_missing_handler(waiting, &mut reasons);
            }
            view.turn(&job, waiting.as_ref(), &limits, &mut reasons);
            if !stuck {
                start = view.estimate(storage, &reasons, &limits).await?;
            }
        }
        JobState::Processing { server, claimed_at } => {
            reasons.push(view.running(server, *claimed_at));
        }
        ended => reasons.push(end(ended)),
    }
    if reasons.is_empty() {
        reasons.push(Reason::Next);
    }
    Ok(Some(Explanation { job: id, state: job.state.name(), reasons, start }))
}

impl Client {
    /// Why a job is not running; `None` when it is not stored. See [`explain`](crate::explain).
    ///
    /// # Errors
    /// [`ClientError::Storage`] when the storage cannot be read.
    pub async fn explain(&self, job: JobId) -> Result<Option<Explanation>, ClientError> {
        Ok(explain(&**self.storage(), job).await?)
    }
}

/// What is looked at for every job.
struct View {
    now: Timestamp,
    servers: Vec<ServerRecord>,
    queues: Vec<QueueRecord>,
}

impl View {
    fn staff(&self) -> Staff<'_> {
        Staff::of(&self.servers, self.now)
    }

    fn queue(&self, job: &JobRecord) -> Option<&QueueRecord> {
        self.queues.iter().find(|queue| queue.name == job.queue)
    }

    fn instant(&self, run_at: Timestamp, cause: Cause) -> Reason {
        match run_at > self.now {
            true => Reason::Instant { run_at, cause },
            false => Reason::Due { run_at },
        }
    }

    fn running(&self, server: &ServerId, since: Timestamp) -> Reason {
        let holder = self.servers.iter().find(|record| record.id == *server);
        let lost = holder.is_none_or(|holder| holder.dead || holder.lease_until <= self.now);
        match lost {
            true => Reason::ServerLost {
                server: server.clone(),
                heartbeat_at: holder.map(|holder| holder.heartbeat_at),
            },
            false => Reason::Running { server: server.clone(), since },
        }
    }

    /// What no waiting overcomes.
    fn obstacles(&self, job: &JobRecord, to: &mut Vec<Reason>) {
        let staff = self.staff();
        if let Some(expires_at) = job.options.expires_at.filter(|expires_at| *expires_at < self.now)
        {
            to.push(Reason::TooLate { expires_at });
        }
        if self.queue(job).is_some_and(|queue| queue.paused) {
            to.push(Reason::QueuePaused { queue: job.queue.clone() });
        }
        if staff.is_empty() {
            to.push(Reason::NoServer);
        } else if staff.serving(&job.queue).next().is_none() {
            to.push(Reason::QueueWithoutServer { queue: job.queue.clone() });
        }
        if staff.is_empty() {
            return;
        }
        let kind = job.kind.clone();
        if !staff.handles(&kind) {
            to.push(Reason::KindWithoutHandler { kind, since: None, fails_at: None });
        } else if !staff.handles_in(&kind, &job.queue) {
            let having = staff.with_handler(&kind).map(|server| server.id.clone());
            let servers = having.take(SERVERS_SHOWN).collect();
            to.push(Reason::HandlerElsewhere { kind, queue: job.queue.clone(), servers });
        }
    }

    /// What an enqueued job has to wait for until its turn comes.
    fn turn(
        &self,
        job: &JobRecord,
        waiting: Option<&WaitingRecord>,
        limits: &[LimitRecord],
        to: &mut Vec<Reason>,
    ) {
        // Claimed in between: there is nothing left to wait for.
        let Some(waiting) = waiting else { return };
        if let Some(limit) = &waiting.limit {
            let key = limit.key.clone();
            match limit.next_at {
                Some(next_at) => to.push(Reason::RateUsed { key, next_at }),
                None => to.push(Reason::LimitFull {
                    key,
                    running: limit.running,
                    holders: waiting.holders.clone(),
                }),
            }
        }
        if let Some(rule) = rule_of(limits, &LimitTarget::Queue(job.queue.clone())) {
            to.extend(self.queue_limit(job, rule));
            let queue = job.queue.clone();
            let rate =
                rule.rate.map(|Rate { count, per, .. }| Reason::QueueRate { queue, count, per });
            to.extend(rate);
        }
        if job.crashes >= SUSPECT_CRASHES {
            to.push(Reason::Suspect { crashes: job.crashes });
        }
        if waiting.ahead > 0 {
            to.push(Reason::Ahead { jobs: waiting.ahead });
        }
        let staff = self.staff();
        let serving: Vec<_> = staff.having(&job.kind, &job.queue).collect();
        let workers: u64 = serving.iter().map(|server| u64::from(server.workers)).sum();
        let busy: u64 = serving.iter().map(|server| server.processing).sum();
        if workers > 0 && busy >= workers {
            to.push(Reason::AllBusy { workers });
        }
    }

    fn queue_limit(&self, job: &JobRecord, rule: &LimitRule) -> Option<Reason> {
        let concurrency = rule.concurrency?;
        let running = self.queue(job)?.states.get(&StateName::Processing).copied().unwrap_or(0);
        let full = running >= u64::from(concurrency);
        full.then(|| Reason::QueueLimit { queue: job.queue.clone(), concurrency })
    }

    /// When a job's turn comes that only has to wait for others.
    async fn estimate(
        &self,
        storage: &dyn Storage,
        reasons: &[Reason],
        limits: &[LimitRecord],
    ) -> Result<Option<Estimate>, StorageError> {
        let ahead = |reason: &Reason| match reason {
            Reason::Ahead { jobs } => Some(*jobs),
            _ => None,
        };
        let ahead = reasons.iter().find_map(ahead).unwrap_or(0);
        let mut before = 0;
        for reason in reasons {
            match reason {
                Reason::RateUsed { key, next_at } => {
                    let rate = limit_of(key).and_then(|target| rule_of(limits, &target)?.rate);
                    let turns =
                        rate.map_or(Duration::ZERO, |rate| windows(rate.count, rate.per, ahead));
                    let at = next_at.saturating_add(turns);
                    return Ok(Some(Estimate { at, basis: Basis::Rate }));
                }
                Reason::QueueRate { count, per, .. } => {
                    let at = self.now.saturating_add(windows(*count, *per, ahead));
                    return Ok(Some(Estimate { at, basis: Basis::Rate }));
                }
                Reason::Ahead { jobs } => before += jobs,
                Reason::AllBusy { .. } => before += 1,
                // Nobody knows how long those take that hold it up.
                _ => return Ok(None),
            }
        }
        if before == 0 {
            return Ok(Some(Estimate { at: self.now, basis: Basis::Plan }));
        }
        let since = self.now.saturating_sub(Bucket::Hour.width());
        let buckets = storage.statistics(Bucket::Hour, since).await?;
        let ended: u64 = buckets.iter().map(|b| b.succeeded + b.failed + b.deleted).sum();
        let span = self.now.since(Bucket::Hour.start(since));
        if ended == 0 {
            return Ok(None);
        }
        let wait = span.mul_f64(before as f64 / ended as f64).min(LONGEST_ESTIMATE);
        let at = self.now.saturating_add(wait);
        Ok(Some(Estimate { at, basis: Basis::Pace }))
    }
}

/// Says since when no server has had a handler, where that is a reason.
fn date_missing_handler(waiting: &WaitingRecord, reasons: &mut [Reason]) {
    for reason in reasons {
        if let Reason::KindWithoutHandler { since, fails_at, .. } = reason {
            (*since, *fails_at) = (waiting.no_handler_since, waiting.fails_at);
        }
    }
}

/// The rule of a target.
fn rule_of<'a>(limits: &'a [LimitRecord], target: &LimitTarget) -> Option<&'a LimitRule> {
    limits.iter().find(|limit| limit.target == *target).map(|limit| &limit.rule)
}

/// Whose key this is.
fn limit_of(key: &str) -> Option<LimitTarget> {
    match key.strip_prefix("kind ") {
        Some(kind) => Some(LimitTarget::Kind(KindName::stored(kind.to_owned()))),
        None => LimitName::new(key.split(':').next()?).ok().map(LimitTarget::Named),
    }
}

/// How long the windows are that those ahead fill.
fn windows(count: u32, per: Duration, ahead: u64) -> Duration {
    let full = u32::try_from(ahead / u64::from(count.max(1))).unwrap_or(u32::MAX);
    per.saturating_mul(full).min(LONGEST_ESTIMATE)
}

/// Most servers that are named.
const SERVERS_SHOWN: usize = 10;

/// What is estimated to be later than this is not worth another number.
const LONGEST_ESTIMATE: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What of `after` somebody waits for still who was created `since` then.
async fn antecedents(
    storage: &dyn Storage,
    since: Timestamp,
    after: &[Dependency],
    to: &mut Vec<Reason>,
) -> Result<(), StorageError> {
    for dependency in after {
        let (state, end) = match dependency.on {
            Antecedent::Job(job) => {
                let state = storage.job(job).await?.map(|job| job.state.name());
                (state.map(|state| state.to_string()), state)
            }
            Antecedent::Batch(batch) => {
                let state = storage.batch(batch).await?.map(|batch| batch.state);
                (state.map(|state| state.as_str().to_owned()), state.and_then(BatchState::end))
            }
        };
        // What has ended as it was to holds nobody back, also when it was requeued since.
        let is_met = end.is_some_and(|end| dependency.after.is_met_by(end));
        if !is_met && !was_met(storage, since, dependency).await? {
            let Dependency { on, after, .. } = *dependency;
            to.push(Reason::Antecedent { on, after, state });
        }
    }
    Ok(())
}

/// Whether a job has ended as it was to, as far as its history tells. Batches have none.
async fn was_met(
    storage: &dyn Storage,
    since: Timestamp,
    dependency: &Dependency,
) -> Result<bool, StorageError> {
    let Antecedent::Job(job) = dependency.on else { return Ok(false) };
    let history = storage.history(job).await?;
    let mut later = history.iter().rev().take_while(|entry| entry.at >= since);
    Ok(later.any(|entry| entry.state.is_final() && dependency.after.is_met_by(entry.state)))
}

/// What somebody can do about what has failed and is waited for.
pub(crate) fn remedy(failed: Antecedent) -> &'static str {
    match failed {
        Antecedent::Job(_) => "requeue or delete it",
        Antecedent::Batch(_) => "requeue the members that failed, or delete one of them",
    }
}

/// The batches around a job, from the inmost outwards.
async fn batches(
    storage: &dyn Storage,
    job: &JobRecord,
    to: &mut Vec<Reason>,
) -> Result<(), StorageError> {
    let mut next = job.ties.batch;
    for _ in 0..=BATCH_DEPTH_MAX {
        let Some(batch) = next else { return Ok(()) };
        let Some(record) = storage.batch(batch).await? else { return Ok(()) };
        match record.state {
            state @ (BatchState::Open | BatchState::Awaiting) => {
                to.push(Reason::BatchNotStarted { batch, state });
                antecedents(storage, record.created_at, &record.after, to).await?;
            }
            BatchState::Cancelling | BatchState::Cancelled => {
                to.push(Reason::BatchCancelled { batch });
            }
            BatchState::Started | BatchState::Succeeded | BatchState::Failed => {}
        }
        next = record.parent;
    }
    Ok(())
}

/// Why a job waits for an instant.
fn why_then(cause: Cause) -> &'static str {
    match cause {
        Cause::Created | Cause::Continued => "it was scheduled for then",
        Cause::Retried => "it failed, and is tried again then",
        Cause::Snoozed => "it asked to run again then",
        Cause::Parked => "a server that had no handler of its kind put it off",
        Cause::Rescheduled => "it was rescheduled",
        _ => "its time has not come",
    }
}

fn end(state: &JobState) -> Reason {
    match state {
        JobState::Succeeded { succeeded_at, .. } => Reason::Ended { at: *succeeded_at, why: None },
        JobState::Failed { failed_at, error, .. } => {
            Reason::Ended { at: *failed_at, why: Some(error.to_string()) }
        }
        JobState::Deleted { deleted_at, reason, .. } => {
            Reason::Ended { at: *deleted_at, why: Some(reason.clone()) }
        }
        JobState::Scheduled { .. }
        | JobState::Awaiting { .. }
        | JobState::Enqueued { .. }
        | JobState::Processing { .. } => Reason::Next,
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} is {}", self.job, self.state)?;
        for reason in &self.reasons {
            write!(f, "\n  - {reason}")?;
        }
        match self.start {
            Some(estimate) => write!(f, "\n{estimate}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.basis {
            Basis::Plan => write!(f, "it may start at {}", self.at),
            Basis::Rate => write!(f, "it may start at {}, when its rate allows the next", self.at),
            Basis::Pace => write!(f, "it starts about {}, at the pace of the last hour", self.at),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Ended { at, why: None } => write!(f, "it ended at {at}"),
            Reason::Ended { at, why: Some(why) } => write!(f, "it ended at {at}: {why}"),
            Reason::Running { server, since } => {
                write!(f, "server `{server}` has been running it since {since}")
            }
            Reason::ServerLost { server, heartbeat_at: Some(at) } => write!(
                f,
                "server `{server}`, which runs it, was last heard of at {at}; it runs again when that server is declared dead"
            ),
            Reason::ServerLost { server, heartbeat_at: None } => {
                write!(f, "server `{server}`, which ran it, is gone; it runs again soon")
            }
            Reason::Instant { run_at, cause } => {
                write!(f, "it waits until {run_at}: {}", why_then(*cause))
            }
            Reason::Due { run_at } => {
                write!(
                    f,
                    "it is due since {run_at}, and a server with schedulers moves it to its queue"
                )
            }
            Reason::Antecedent { on, after, state: Some(state) }
                if state == StateName::Failed.as_str()
                    && after.is_open_after(StateName::Failed) =>
            {
                let (end, remedy) = (after.as_str(), remedy(*on));
                write!(f, "it waits for the {end} of {on}, which has failed: {remedy}")
            }
            Reason::Antecedent { on, after, state: Some(state) } => {
                write!(f, "it waits for the {} of {on}, which is {state}", after.as_str())
            }
            Reason::Antecedent { on, after, state: None } => {
                write!(
                    f,
                    "it waits for the {} of {on}, which is not stored any more",
                    after.as_str()
                )
            }
            Reason::BatchNotStarted { batch, state: BatchState::Open } => {
                write!(f, "its batch {batch} was not sealed yet")
            }
            Reason::BatchNotStarted { batch, .. } => {
                write!(f, "its batch {batch} has not started: it waits for others")
            }
            Reason::BatchCancelled { batch } => {
                write!(f, "its batch {batch} was cancelled; it is going to be deleted")
            }
            Reason::TooLate { expires_at } => {
                write!(f, "it was to start by {expires_at}; it is going to be deleted instead")
            }
            Reason::QueuePaused { queue } => write!(f, "queue `{queue}` is paused"),
            Reason::NoServer => f.write_str("no server is alive"),
            Reason::QueueWithoutServer { queue } => {
                write!(f, "no live server takes jobs from queue `{queue}`")
            }
            Reason::KindWithoutHandler { kind, since, fails_at } => {
                write!(f, "no live server has a handler of kind `{kind}`")?;
                if let Some(since) = since {
                    write!(f, ", since {since}")?;
                }
                match fails_at {
                    Some(at) => write!(f, "; it is failed at {at} if none comes before"),
                    None => Ok(()),
                }
            }
            Reason::HandlerElsewhere { kind, queue, servers } => {
                let servers: Vec<String> = servers.iter().map(|id| format!("`{id}`")).collect();
                write!(
                    f,
                    "no live server that takes jobs from queue `{queue}` has a handler of kind `{kind}`; these have, and take from others: {}",
                    servers.join(", ")
                )
            }
            Reason::LimitFull { key, running, holders } => {
                write!(f, "limit `{key}` is used up by {}", Jobs(*running))?;
                let shown: Vec<String> = holders.iter().map(JobId::to_string).collect();
                if shown.is_empty() { Ok(()) } else { write!(f, ": {}", shown.join(", ")) }
            }
            Reason::RateUsed { key, next_at } => {
                write!(f, "the rate of limit `{key}` is used up until {next_at}")
            }
            Reason::QueueLimit { queue, concurrency } => {
                write!(
                    f,
                    "queue `{queue}` runs at most {} at a time",
                    Jobs(u64::from(*concurrency))
                )
            }
            Reason::QueueRate { queue, count, per } => write!(
                f,
                "queue `{queue}` starts at most {} in {}",
                Jobs(u64::from(*count)),
                portfire_cron::duration::words(*per)
            ),
            Reason::Suspect { crashes } => write!(
                f,
                "{crashes} servers that held it have crashed in a row: it waits for a server that has nothing else to run"
            ),
            Reason::Ahead { jobs: 1 } => f.write_str("1 job comes before it"),
            Reason::Ahead { jobs } => write!(f, "{} come before it", Jobs(*jobs)),
            Reason::AllBusy { workers } => {
                write!(f, "all {workers} workers that take its queue are busy")
            }
            Reason::Next => f.write_str("nothing holds it back: it is taken with the next claim"),
        }
    }
}
