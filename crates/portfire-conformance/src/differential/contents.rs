//! Everything that a storage shows through [`Monitor`](portfire_core::Monitor), in one order.

use portfire_core::{
    Bucket, Counts, HistoryEntry, JobFilter, JobId, JobRecord, QueueRecord, ServerRecord,
    StateName, StatisticsRecord, Storage, StorageError, Timestamp,
};

/// One thing that is shown.
#[derive(Debug, PartialEq)]
pub(super) enum Item {
    Now(Timestamp),
    Counts(Counts),
    Queue(QueueRecord),
    Server(ServerRecord),
    Statistics(Bucket, StatisticsRecord),
    /// The jobs of a list, in its order.
    List(Option<StateName>, Vec<JobId>),
    Job(Box<JobRecord>),
    History(JobId, Vec<HistoryEntry>),
    Error(String),
}

/// Reads all of it.
pub(super) async fn read(storage: &dyn Storage) -> Vec<Item> {
    let mut items = Vec::new();
    if let Err(error) = read_into(&mut items, storage).await {
        items.push(Item::Error(format!("{error:?}")));
    }
    items
}

async fn read_into(items: &mut Vec<Item>, storage: &dyn Storage) -> Result<(), StorageError> {
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
    for state in StateName::ALL.map(Some).into_iter().chain([None]) {
        // A small page, so that lists go on after cursors.
        let filter = JobFilter { state, max: 9, ..JobFilter::default() };
        let jobs = all_pages(storage, filter).await?;
        items.push(Item::List(state, jobs.iter().map(|job| job.id).collect()));
        if state.is_some() {
            continue;
        }
        for job in jobs {
            let history = storage.history(job.id).await?;
            items.push(Item::History(job.id, history));
            items.push(Item::Job(Box::new(job)));
        }
    }
    Ok(())
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
