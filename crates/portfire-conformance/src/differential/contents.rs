//! Everything that a storage shows through [`Monitor`](portfire_core::Monitor), in one order.

use portfire_core::{
    BatchFilter, BatchId, BatchRecord, BatchState, Bucket, Continuation, Counts, JobFilter, JobId,
    JobRecord, KeyRecord, KindRecord, LimitRecord, LimitTarget, LockRecord, QueueRecord,
    RecurringFilter, RecurringRecord, RunRecord, ServerRecord, StateName, StatisticsRecord,
    Storage, StorageError, Timestamp,
};

use super::operation::{self, Looked};
use super::scope::Scope;

/// One thing that is shown.
#[derive(Debug, PartialEq)]
pub(super) enum Item {
    Now(Timestamp),
    Counts(Counts),
    Queue(QueueRecord),
    Kind(KindRecord),
    Server(ServerRecord),
    Statistics(Bucket, StatisticsRecord),
    /// The jobs of a list, in its order.
    List(Option<StateName>, Vec<JobId>),
    Job(JobId, Box<Looked>),
    /// The batches of a list, in its order.
    Batches(Option<BatchState>, Vec<BatchId>),
    /// A batch with its jobs, its nested ones and those that wait or waited for it.
    Batch(Box<BatchRecord>, Vec<JobId>, Vec<BatchId>, Vec<Continuation>),
    Recurring(Box<RecurringRecord>, Vec<RunRecord>),
    Limit(LimitRecord),
    Key(KeyRecord),
    Lock(LockRecord),
    Error(String),
}

/// Reads all of it.
pub(super) async fn read(storage: &dyn Storage, scope: Scope) -> Vec<Item> {
    let mut items = Vec::new();
    if let Err(error) = read_into(&mut items, storage, scope).await {
        items.push(Item::Error(format!("{error:?}")));
    }
    items
}

async fn read_into(
    items: &mut Vec<Item>,
    storage: &dyn Storage,
    scope: Scope,
) -> Result<(), StorageError> {
    items.push(Item::Now(storage.now().await?));
    items.push(Item::Counts(storage.counts().await?));
    for mut queue in storage.queues().await? {
        // A state without jobs may be left out.
        queue.states.retain(|_, count| *count > 0);
        items.push(Item::Queue(queue));
    }
    items.extend(storage.servers().await?.into_iter().map(Item::Server));
    for bucket in [Bucket::Hour, Bucket::Day] {
        let records = storage.statistics(bucket, Timestamp::MIN).await?;
        items.extend(records.into_iter().map(|record| Item::Statistics(bucket, record)));
    }
    if scope.kinds {
        for mut kind in storage.kinds().await? {
            kind.states.retain(|_, count| *count > 0);
            items.push(Item::Kind(kind));
        }
    }
    read_jobs(items, storage, scope).await?;
    if scope.batches {
        read_batches(items, storage).await?;
    }
    if scope.recurring {
        read_recurring(items, storage).await?;
    }
    if scope.limits {
        read_limits(items, storage).await?;
    }
    if scope.locks {
        items.extend(storage.locks().await?.into_iter().map(Item::Lock));
    }
    Ok(())
}

async fn read_jobs(
    items: &mut Vec<Item>,
    storage: &dyn Storage,
    scope: Scope,
) -> Result<(), StorageError> {
    for state in StateName::ALL.map(Some).into_iter().chain([None]) {
        // A small page, so that lists go on after cursors.
        let filter = JobFilter { state, max: 9, ..JobFilter::default() };
        let jobs = all_pages(storage, filter).await?;
        items.push(Item::List(state, jobs.iter().map(|job| job.id).collect()));
        if state.is_some() {
            continue;
        }
        for job in jobs {
            let looked = operation::look(storage, job.id, scope).await?;
            items.extend(contradiction(&job, looked.job.as_ref()));
            items.push(Item::Job(job.id, Box::new(looked)));
        }
    }
    Ok(())
}

async fn read_batches(items: &mut Vec<Item>, storage: &dyn Storage) -> Result<(), StorageError> {
    for state in BatchState::ALL.map(Some).into_iter().chain([None]) {
        let filter = BatchFilter { state, max: 3, ..BatchFilter::default() };
        let batches = all_batches(storage, filter).await?;
        items.push(Item::Batches(state, batches.iter().map(|batch| batch.id).collect()));
        if state.is_some() {
            continue;
        }
        for listed in batches {
            let batch = Some(listed.id);
            let jobs = JobFilter { batch, max: 3, ..JobFilter::default() };
            let jobs = all_pages(storage, jobs).await?.iter().map(|job| job.id).collect();
            let nested = BatchFilter { parent: batch, max: 2, ..BatchFilter::default() };
            let nested = all_batches(storage, nested).await?.iter().map(|one| one.id).collect();
            let waiting = storage.continuations(listed.id.into(), 500).await?;
            let alone = storage.batch(listed.id).await?;
            items.extend(contradiction(&listed, alone.as_ref()));
            items.push(Item::Batch(Box::new(listed), jobs, nested, waiting));
        }
    }
    Ok(())
}

async fn read_recurring(items: &mut Vec<Item>, storage: &dyn Storage) -> Result<(), StorageError> {
    let mut filter = RecurringFilter { max: 2, ..RecurringFilter::default() };
    loop {
        let page = storage.recurring_jobs(filter.clone()).await?;
        for listed in page.recurring {
            let id = listed.definition.id.clone();
            let runs = storage.runs(id.clone(), 500).await?;
            let alone = storage.recurring(id).await?;
            items.extend(contradiction(&listed, alone.as_ref()));
            items.push(Item::Recurring(Box::new(listed), runs));
        }
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(()),
        }
    }
}

async fn read_limits(items: &mut Vec<Item>, storage: &dyn Storage) -> Result<(), StorageError> {
    let limits = storage.limits().await?;
    for limit in &limits {
        if let LimitTarget::Named(name) = &limit.target {
            let keys = storage.limit_keys(name.clone()).await?;
            items.extend(keys.into_iter().map(Item::Key));
        }
    }
    items.extend(limits.into_iter().map(Item::Limit));
    Ok(())
}

/// What is wrong when a list says one thing and a look at one of it another.
fn contradiction<T: PartialEq + std::fmt::Debug>(listed: &T, alone: Option<&T>) -> Option<Item> {
    (alone != Some(listed)).then(|| Item::Error(format!("listed: {listed:?}; alone: {alone:?}")))
}

/// Reads a list to its end.
pub(super) async fn all_pages(
    storage: &dyn Storage,
    mut filter: JobFilter,
) -> Result<Vec<JobRecord>, StorageError> {
    let mut jobs = Vec::new();
    loop {
        let page = storage.jobs(filter.clone()).await?;
        jobs.extend(page.jobs);
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(jobs),
        }
    }
}

async fn all_batches(
    storage: &dyn Storage,
    mut filter: BatchFilter,
) -> Result<Vec<BatchRecord>, StorageError> {
    let mut batches = Vec::new();
    loop {
        let page = storage.batches(filter.clone()).await?;
        batches.extend(page.batches);
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(batches),
        }
    }
}

/// The first part that differs, with what either side says: subject, expected, actual.
pub(super) fn first_difference(
    expected: &[Item],
    actual: &[Item],
) -> Option<(String, String, String)> {
    let longest = expected.len().max(actual.len());
    let place = (0..longest).find(|&place| expected.get(place) != actual.get(place))?;
    let text = |item: Option<&Item>| item.map_or("nothing".to_owned(), |item| format!("{item:?}"));
    Some(("the contents at the end".to_owned(), text(expected.get(place)), text(actual.get(place))))
}
