//! What must hold after every case, whatever it did: counters equal a recount, and every history is
//! whole and legal.

use std::collections::{BTreeMap, BTreeSet};

use portfire_core::{Cause, HistoryEntry, JobRecord, JobState, QueueName, ServerId, StateName};

use crate::stage::Stage;

/// Most histories that are read; cases with ten thousand jobs have them all alike.
const HISTORIES_MAX: usize = 300;

/// Asserts what must hold at any moment when nobody writes.
pub async fn audit(stage: &Stage) {
    let jobs = stage.everything().await;
    let ids: BTreeSet<_> = jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids.len(), jobs.len(), "audit: a list names no job twice");
    counters(stage, &jobs).await;
    queues(stage, &jobs).await;
    servers(stage, &jobs).await;
    for job in jobs.iter().take(HISTORIES_MAX) {
        check_history(job, &stage.history(job.id).await);
    }
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
    assert_eq!(history.len() as u32, job.revision, "audit: {id} has one entry for each revision");
    for (index, entry) in history.iter().enumerate() {
        assert_eq!(entry.revision, index as u32 + 1, "audit: {id}: {history:?}");
    }
    let (Some(first), Some(last)) = (history.first(), history.last()) else {
        panic!("audit: {id} is stored and has no history");
    };
    assert_eq!((first.cause, first.at), (Cause::Created, job.created_at), "audit: {id}");
    assert_eq!(last.state, job.state.name(), "audit: {id}: {history:?}");
    for pair in history.windows(2) {
        assert!(pair[0].at <= pair[1].at, "audit: {id}: time goes back in {history:?}");
        assert!(is_edge(pair[0].state, pair[1].state), "audit: {id}: no such edge in {history:?}");
    }
    let claims: Vec<_> = history.iter().filter(|entry| entry.cause == Cause::Claimed).collect();
    assert_eq!(claims.len() as u32, job.attempt, "audit: {id}: {history:?}");
    for (index, claim) in claims.iter().enumerate() {
        assert_eq!(claim.attempt, Some(index as u32 + 1), "audit: {id}: {history:?}");
        assert!(claim.server.is_some(), "audit: {id}: {history:?}");
    }
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
        Enqueued => matches!(to, Processing | Scheduled | Deleted),
        Processing => matches!(to, Succeeded | Failed | Scheduled | Enqueued | Deleted),
        Succeeded | Failed => matches!(to, Enqueued | Scheduled | Deleted),
        Deleted => matches!(to, Enqueued | Scheduled),
    }
}
