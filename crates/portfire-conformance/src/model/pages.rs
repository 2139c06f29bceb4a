//! Pages of jobs: each order of listing with the cursor that goes on in it.

use std::ops::Bound;

use super::Data;
use super::jobs::{Job, Jobs, Number};
use super::queues::{Queue, Rank};
use portfire_core::clock::Timestamp;
use portfire_core::engine::pages::refuse;
use portfire_core::error::StorageError;
use portfire_core::job::QueueName;
use portfire_core::monitor::{Cursor, JobFilter, JobPage};
use portfire_core::state::StateName;

/// Most jobs that are looked at for one page.
const SCANNED_MAX: usize = 10_000;

/// Reads a page.
pub(super) fn page(data: &Data, filter: &JobFilter) -> Result<JobPage, StorageError> {
    let jobs = &data.jobs;
    let after = filter.after.as_ref();
    let page = match filter.state {
        Some(StateName::Scheduled) => {
            let from = after.map_or(Ok(Bound::Unbounded), |after| {
                parse_scheduled(&after.0).map(Bound::Excluded).ok_or_else(|| refuse(after))
            })?;
            let rest = jobs.scheduled().range((from, Bound::Unbounded));
            collect(jobs, filter, rest.map(|&(at, number)| (Mark::Scheduled(at, number), number)))
        }
        Some(StateName::Enqueued) => {
            let from = after
                .map(|after| parse_enqueued(&after.0).ok_or_else(|| refuse(after)))
                .transpose()?;
            collect(jobs, filter, enqueued(jobs, filter, from))
        }
        state => {
            let before = after
                .map(|after| parse_created(&after.0).ok_or_else(|| refuse(after)))
                .transpose()?
                .unwrap_or(Number::MAX);
            let mark = |number: Number| (Mark::Created(number), number);
            match state {
                state if filter.batch.is_some() => {
                    let batch = filter.batch.and_then(|batch| data.batches.find(batch));
                    let batch = batch.and_then(|batch| data.batches.get(batch)).into_iter();
                    let rest = batch.flat_map(|batch| batch.members.range(..before).rev());
                    let wanted = rest.copied().filter(|&member| {
                        let standing = jobs.get(member).map(|job| job.standing().state);
                        standing.is_some_and(|standing| state.is_none_or(|state| state == standing))
                    });
                    collect(jobs, filter, wanted.map(mark))
                }
                None => {
                    let rest = jobs.by_number().range(..before).rev();
                    collect(jobs, filter, rest.map(|(&number, _)| mark(number)))
                }
                Some(state) => {
                    let standing = jobs.standing(state).into_iter();
                    let rest = standing.flat_map(|numbers| numbers.range(..before).rev());
                    collect(jobs, filter, rest.map(|&number| mark(number)))
                }
            }
        }
    };
    Ok(page)
}

/// A place in an order of listing; its text is the cursor.
#[derive(Clone)]
enum Mark<'a> {
    Created(Number),
    Scheduled(Timestamp, Number),
    Enqueued(&'a QueueName, Spot),
}

/// A place among the enqueued jobs of a queue: those that can be claimed come first, then those in the lines of
/// limits, then the suspects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    Ready(Rank),
    Waiting(Number),
    Apart(u64),
}

impl Mark<'_> {
    fn cursor(&self) -> Cursor {
        Cursor(match self {
            Mark::Created(number) => number.to_string(),
            Mark::Scheduled(at, number) => format!("{}.{number}", at.as_micros()),
            Mark::Enqueued(queue, Spot::Ready((priority, turn))) => {
                format!("{queue}.{priority}.{turn}")
            }
            Mark::Enqueued(queue, Spot::Waiting(number)) => format!("{queue}.waiting.{number}"),
            Mark::Enqueued(queue, Spot::Apart(turn)) => format!("{queue}.apart.{turn}"),
        })
    }
}

fn parse_created(text: &str) -> Option<Number> {
    text.parse().ok()
}

fn parse_scheduled(text: &str) -> Option<(Timestamp, Number)> {
    let (at, number) = text.split_once('.')?;
    Some((Timestamp::from_micros(at.parse().ok()?), number.parse().ok()?))
}

fn parse_enqueued(text: &str) -> Option<(QueueName, Spot)> {
    let mut parts = text.splitn(3, '.');
    let queue = parts.next()?.parse().ok()?;
    let (priority, place) = (parts.next()?, parts.next()?.parse().ok()?);
    Some(match priority {
        "waiting" => (queue, Spot::Waiting(place)),
        "apart" => (queue, Spot::Apart(place)),
        priority => (queue, Spot::Ready((priority.parse().ok()?, place))),
    })
}

/// The enqueued jobs behind a place, of the queue in the filter or else of all by name.
fn enqueued<'a>(
    jobs: &'a Jobs,
    filter: &'a JobFilter,
    from: Option<(QueueName, Spot)>,
) -> impl Iterator<Item = (Mark<'a>, Number)> {
    // Names are never empty, so nothing comes before this one.
    let first = match (&from, &filter.queue) {
        (Some((queue, _)), _) => queue.clone(),
        (None, Some(queue)) => queue.clone(),
        (None, None) => QueueName::stored(""),
    };
    let wanted = move |name: &QueueName| filter.queue.as_ref().is_none_or(|queue| queue == name);
    let queues: Vec<_> = jobs.queues.from(&first).filter(|(name, _)| wanted(name)).collect();
    queues.into_iter().flat_map(move |(name, queue)| {
        let behind = match &from {
            Some((from, spot)) if from == name => Some(*spot),
            _ => None,
        };
        spots(queue, behind).map(move |(spot, number)| (Mark::Enqueued(name, spot), number))
    })
}

/// The enqueued jobs of a queue behind a spot.
fn spots(queue: &Queue, behind: Option<Spot>) -> impl Iterator<Item = (Spot, Number)> {
    use Bound::{Excluded, Unbounded};
    let (ready, waiting, apart) = match behind {
        None => (Some(Unbounded), Some(Unbounded), Unbounded),
        Some(Spot::Ready(rank)) => (Some(Excluded(rank)), Some(Unbounded), Unbounded),
        Some(Spot::Waiting(number)) => (None, Some(Excluded(number)), Unbounded),
        Some(Spot::Apart(turn)) => (None, None, Excluded(turn)),
    };
    let ready = ready.into_iter().flat_map(|from| queue.claimable(from));
    let ready = ready.map(|(rank, number)| (Spot::Ready(rank), number));
    let waiting =
        waiting.into_iter().flat_map(|from| queue.waiting.range((from, Unbounded)).copied());
    let waiting = waiting.map(|number| (Spot::Waiting(number), number));
    // The last that came is claimed first.
    let apart = queue.apart.range((Unbounded, apart)).rev();
    ready.chain(waiting).chain(apart.map(|(&turn, &number)| (Spot::Apart(turn), number)))
}

/// Takes the matching jobs of an order, up to a page, looking at a bounded number of them.
fn collect<'a>(
    jobs: &Jobs,
    filter: &JobFilter,
    order: impl Iterator<Item = (Mark<'a>, Number)>,
) -> JobPage {
    let mut page = JobPage::default();
    let mut last = None;
    for (scanned, (mark, number)) in order.enumerate() {
        let job = &jobs[number];
        let matching = matches(filter, job);
        // The page ends at the last job that was looked at and need not be looked at again.
        if scanned == SCANNED_MAX || (matching && page.jobs.len() == filter.page_size()) {
            page.next = last.as_ref().map(Mark::cursor);
            break;
        }
        if matching {
            page.jobs.push(job.record.clone());
        }
        last = Some(mark);
    }
    page
}

fn matches(filter: &JobFilter, job: &Job) -> bool {
    let record = &job.record;
    filter.queue.as_ref().is_none_or(|queue| *queue == record.queue)
        && filter.kind.as_ref().is_none_or(|kind| *kind == record.kind)
        && (filter.batch.is_none() || filter.batch == record.ties.batch)
        && filter
            .id_prefix
            .as_ref()
            .is_none_or(|prefix| record.id.to_string().starts_with(prefix.as_str()))
}
