//! What must hold after every case, whatever it did: counters equal a recount, batches know their
//! members, nothing waits for what has ended, and every history is whole and legal.

use std::collections::{BTreeMap, BTreeSet};

use portfire_core::StateName::Awaiting;
use portfire_core::{
    After, Antecedent, BatchFilter, BatchId, BatchRecord, BatchState, Cause, Dependency,
    HistoryEntry, JobRecord, JobState, KindName, QueueName, ServerId, StateName,
};

use crate::stage::{Stage, numbers};

/// Most histories that are read; cases with ten thousand jobs have them all alike.
const HISTORIES_MAX: usize = 300;

/// Asserts what must hold at any moment when nobody writes.
pub async fn audit(stage: &Stage) {
    let jobs = stage.everything().await;
    let ids: BTreeSet<_> = jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids.len(), jobs.len(), "audit: a list names no job twice");
    counters(stage, &jobs).await;
    queues(stage, &jobs).await;
    kinds(stage, &jobs).await;
    batches(stage, &jobs).await;
    limits(stage, &jobs).await;
    servers(stage, &jobs).await;
    for job in jobs.iter().take(HISTORIES_MAX) {
        check_history(job, &stage.history(job.id).await);
    }
    // Last, because it does what is left over.
    waits(stage, &jobs).await;
}

async fn counters(stage: &Stage, jobs: &[JobRecord]) {
    let counts = stage.counts().await;
    let recount = Stage::recount(jobs);
    for state in StateName::ALL {
        let counted = counts.states.get(&state).copied();
        let expected = recount.get(&state).copied().unwrap_or(0);
        assert_eq!(counted, Some(expected), "audit: counter of jobs that are {state}");
    }
    let stored = jobs.len() as u64;
    assert_eq!(
        counts.created_total,
        stored + counts.cleaned_total,
        "audit: what was created is stored or was cleaned"
    );
}

async fn queues(stage: &Stage, jobs: &[JobRecord]) {
    let mut recount: BTreeMap<&QueueName, Vec<JobRecord>> = BTreeMap::new();
    for job in jobs {
        recount.entry(&job.queue).or_default().push(job.clone());
    }
    let listed = stage.storage().queues().await.expect("the queues are read");
    assert!(listed.windows(2).all(|pair| pair[0].name < pair[1].name), "audit: queues by name");
    for (name, jobs) in &recount {
        let queue = listed.iter().find(|queue| queue.name == **name);
        let queue =
            queue.unwrap_or_else(|| panic!("audit: queue {name} has jobs and is not listed"));
        let mut counted = queue.states.clone();
        counted.retain(|_, n| *n > 0);
        assert_eq!(counted, Stage::recount(jobs), "audit: counters of queue {name}");
    }
    for queue in listed.iter().filter(|queue| !recount.contains_key(&queue.name)) {
        let left: u64 = queue.states.values().sum();
        assert_eq!(left, 0, "audit: counters of the empty queue {}", queue.name);
    }
}

async fn kinds(stage: &Stage, jobs: &[JobRecord]) {
    let mut recount: BTreeMap<&KindName, BTreeMap<StateName, u64>> = BTreeMap::new();
    for job in jobs {
        *recount.entry(&job.kind).or_default().entry(job.state.name()).or_default() += 1;
    }
    let listed = stage.storage().kinds().await.expect("the kinds are read");
    assert!(listed.windows(2).all(|pair| pair[0].name < pair[1].name), "audit: kinds by name");
    for kind in &listed {
        let mut counted = kind.states.clone();
        counted.retain(|_, n| *n > 0);
        let expected = recount.remove(&kind.name).unwrap_or_default();
        assert_eq!(counted, expected, "audit: counters of kind {}", kind.name);
    }
    assert!(recount.is_empty(), "audit: kinds that have jobs and are not listed: {recount:?}");
}

/// Batches equal a recount of their members, as far as those are stored.
async fn batches(stage: &Stage, jobs: &[JobRecord]) {
    let filter = BatchFilter { max: portfire_core::monitor::PAGE_MAX, ..BatchFilter::default() };
    let listed = stage.batches(filter).await;
    let mut recount: BTreeMap<BatchId, [u64; 5]> = BTreeMap::new();
    let mut count = |batch: BatchId, place: usize| {
        let numbers = recount.entry(batch).or_default();
        numbers[0] += 1;
        numbers[place] += 1;
    };
    for job in jobs {
        if let Some(batch) = job.ties.batch {
            count(batch, place(job.state.name()));
        }
    }
    for batch in &listed {
        if let Some(parent) = batch.parent {
            let failed_for_good = is_failed_for_good(batch);
            count(parent, if failed_for_good { 4 } else { batch.state.end().map_or(1, place) });
        }
    }
    for batch in &listed {
        let told = numbers(&batch.members);
        let [total, pending, succeeded, failed, deleted] = told;
        assert_eq!(total, pending + succeeded + failed + deleted, "audit: {batch:?}");
        let counted = recount.remove(&batch.id).unwrap_or_default();
        assert_eq!(pending, counted[1], "audit: what is pending is stored: {batch:?}");
        // Members that were cleaned stay counted.
        assert!(told.iter().zip(counted).all(|(told, n)| *told >= n), "audit: {batch:?}");
        if total == counted[0] {
            assert_eq!(told, counted, "audit: {batch:?}");
        }
        let ended = batch.state.end().is_some();
        assert_eq!(batch.ended_at.is_some(), ended, "audit: {batch:?}");
        assert!(!ended || pending == 0, "audit: it has ended: {batch:?}");
        let runs = matches!(batch.state, BatchState::Started | BatchState::Cancelling);
        assert!(!runs || pending > 0, "audit: nothing holds it up: {batch:?}");
    }
    assert!(recount.is_empty(), "audit: batches with members that are not listed: {recount:?}");
}

/// Whether it has failed, and requeues of its failed members alone do not make it succeed.
fn is_failed_for_good(batch: &BatchRecord) -> bool {
    batch.state == BatchState::Failed && batch.members.deleted > 0
}

/// Where a member that stands here is counted.
fn place(state: StateName) -> usize {
    match state {
        StateName::Succeeded => 2,
        StateName::Failed => 3,
        StateName::Deleted => 4,
        _ => 1,
    }
}

/// No job waits for nothing, or for more than it was to; and once all that is left over is done, none waits
/// for an end that has come.
async fn waits(stage: &Stage, jobs: &[JobRecord]) {
    let awaiting: Vec<_> = jobs.iter().filter(|job| job.state.name() == Awaiting).collect();
    for job in &awaiting {
        let JobState::Awaiting { pending } = job.state else { unreachable!("it was filtered") };
        let most = job.ties.after.len() + usize::from(job.ties.batch.is_some());
        assert!((1..=most).contains(&(pending as usize)), "audit: it waits for nothing: {job:?}");
    }
    if awaiting.is_empty() {
        return;
    }
    stage.promote_all().await;
    for job in awaiting.iter().take(HISTORIES_MAX) {
        let now = stage.find(job.id).await;
        let Some(JobState::Awaiting { pending }) = now.as_ref().map(|job| job.state.clone()) else {
            continue;
        };
        let mut open = 0;
        for dependency in &job.ties.after {
            open += u32::from(!is_decided(stage, dependency).await);
        }
        if let Some(batch) = job.ties.batch {
            let state = stage.batch_state(batch).await;
            open += u32::from(matches!(state, BatchState::Open | BatchState::Awaiting));
        }
        assert!(pending <= open, "audit: it waits for what has ended: {now:?}");
    }
}

/// Whether what is waited for stands where it decides. Who waits for the success or the deletion of what has failed waits
/// on.
async fn is_decided(stage: &Stage, Dependency { on, after, .. }: &Dependency) -> bool {
    let waits_on = matches!(after, After::Success | After::Deletion);
    match *on {
        // What was cleaned had ended.
        Antecedent::Job(job) => stage.find(job).await.is_none_or(|job| match job.state.name() {
            StateName::Failed => !waits_on,
            state => state.is_final(),
        }),
        Antecedent::Batch(batch) => {
            let found = stage.storage().batch(batch).await.expect("a batch is read");
            found.is_none_or(|batch| match batch.state {
                BatchState::Failed => !waits_on || is_failed_for_good(&batch),
                state => state.end().is_some(),
            })
        }
    }
}

/// The slots of each key are the running jobs that name it.
async fn limits(stage: &Stage, jobs: &[JobRecord]) {
    let mut running: BTreeMap<String, u64> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for job in jobs {
        for limit in &job.ties.limits {
            names.insert(limit.limit.clone());
            if job.state.name() == StateName::Processing {
                *running.entry(limit.key()).or_default() += 1;
            }
        }
    }
    for name in names {
        let keys = stage.storage().limit_keys(name.clone()).await.expect("the keys are read");
        for key in keys {
            let expected = running.get(&key.key).copied().unwrap_or(0);
            assert_eq!(key.running, expected, "audit: slots of {name}: {key:?}");
            assert!(key.running + key.waiting > 0, "audit: nobody uses {key:?}");
        }
    }
}

async fn servers(stage: &Stage, jobs: &[JobRecord]) {
    let mut held: BTreeMap<ServerId, u64> = BTreeMap::new();
    for job in jobs {
        if let JobState::Processing { server, .. } = &job.state {
            *held.entry(server.clone()).or_default() += 1;
        }
    }
    let listed = stage.storage().servers().await.expect("the servers are read");
    assert!(listed.windows(2).all(|pair| pair[0].id < pair[1].id), "audit: servers by id");
    for server in listed {
        let expected = held.get(&server.id).copied().unwrap_or(0);
        assert_eq!(server.processing, expected, "audit: jobs held by {}", server.id);
    }
}

/// Asserts that a history is whole: no gap, no step back in time, every edge legal, and its end is
/// where the job stands.
pub fn check_history(job: &JobRecord, history: &[HistoryEntry]) {
    let id = job.id;
    let mut revision = 0;
    for entry in history {
        let between = match entry.cause {
            Cause::Snoozed | Cause::Parked => 2,
            _ => 0,
        };
        revision += 1 + (entry.count() - 1) * (1 + between);
        assert_eq!(entry.revision, revision, "audit: {id}: {history:?}");
        assert!(entry.since() <= entry.at, "audit: {id}: {entry:?}");
    }
    assert_eq!(revision, job.revision, "audit: {id} has each revision in its history");
    let (Some(first), Some(last)) = (history.first(), history.last()) else {
        panic!("audit: {id} is stored and has no history");
    };
    assert_eq!((first.cause, first.at), (Cause::Created, job.created_at), "audit: {id}");
    assert_eq!(last.state, job.state.name(), "audit: {id}: {history:?}");
    for pair in history.windows(2) {
        assert!(pair[0].at <= pair[1].since(), "audit: {id}: time goes back in {history:?}");
        assert!(is_edge(pair[0].state, pair[1].state), "audit: {id}: no such edge in {history:?}");
    }
    let mut attempt = 0;
    for entry in history {
        match entry.cause {
            Cause::Claimed => attempt += 1,
            Cause::Snoozed | Cause::Parked => attempt += entry.count() - 1,
            _ => continue,
        }
        assert_eq!(entry.attempt, Some(attempt), "audit: {id}: {history:?}");
        let says_who = entry.cause == Cause::Claimed || entry.folded.is_some();
        assert_eq!(entry.server.is_some(), says_who, "audit: {id}: {history:?}");
    }
    assert_eq!(attempt, job.attempt, "audit: {id}: {history:?}");
    for entry in history {
        let waits = entry.state == StateName::Scheduled;
        assert_eq!(entry.run_at.is_some(), waits, "audit: {id}: {entry:?}");
    }
}

/// The legal edges, written down a second time and apart from the state machine.
fn is_edge(from: StateName, to: StateName) -> bool {
    use StateName::{Awaiting, Deleted, Enqueued, Failed, Processing, Scheduled, Succeeded};
    match from {
        Scheduled | Awaiting => matches!(to, Scheduled | Enqueued | Deleted),
        Enqueued => matches!(to, Processing | Scheduled | Failed | Deleted),
        Processing => matches!(to, Succeeded | Failed | Scheduled | Enqueued | Deleted),
        Succeeded | Failed => matches!(to, Enqueued | Scheduled | Deleted),
        Deleted => matches!(to, Enqueued | Scheduled),
    }
}
