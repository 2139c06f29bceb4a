//! The batches with their members and the orders they are found by. Their numbers are drawn from those of
//! the jobs, so that members and followers of both sorts have one order.
//!
//! What starts and ends them is in `progress.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::jobs::Number;
use portfire_core::batch::{BatchFilter, BatchId, BatchPage, BatchRecord, BatchState};
use portfire_core::clock::Timestamp;
use portfire_core::engine::pages;
use portfire_core::error::StorageError;
use portfire_core::monitor::Cursor;
use portfire_core::state::StateName;

/// One batch.
pub(super) struct Batch {
    pub(super) record: BatchRecord,
    pub(super) parent: Option<Number>,
    /// How deep it stands in others; 1 without a parent.
    pub(super) depth: usize,
    pub(super) retention: std::time::Duration,
    /// What it waits for still before it starts, the start of its parent included.
    pub(super) waits: u32,
    /// Whether something ever waited for its end.
    pub(super) followed: bool,
    /// Its stored members, jobs and nested batches.
    pub(super) members: BTreeSet<Number>,
    /// Those that are not final.
    pub(super) pending: BTreeSet<Number>,
    /// Those that wait for its start.
    pub(super) starting: BTreeSet<Number>,
}

impl Batch {
    /// Whether its members are to run, or have.
    pub(super) fn has_started(&self) -> bool {
        !matches!(self.record.state, BatchState::Open | BatchState::Awaiting)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        matches!(self.record.state, BatchState::Cancelling | BatchState::Cancelled)
    }

    /// Whether it has ended as failed, and succeeds no more when those that failed are requeued.
    pub(super) fn has_failed_for_good(&self) -> bool {
        self.record.state == BatchState::Failed && self.record.members.deleted > 0
    }

    /// As which of its members it counts in the one around it, when it has ended.
    pub(super) fn counts_as(&self) -> Option<StateName> {
        let end = self.record.state.end()?;
        Some(if self.has_failed_for_good() { StateName::Deleted } else { end })
    }

    fn place(&self) -> Place {
        let state = self.record.state;
        Place {
            state,
            open_since: (state == BatchState::Open).then_some(self.record.created_at),
            expires_at: self.record.expires_at.filter(|_| self.members.is_empty()),
        }
    }
}

/// Where a batch stands in the orders.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    state: BatchState,
    open_since: Option<Timestamp>,
    expires_at: Option<Timestamp>,
}

/// All batches.
#[derive(Default)]
pub(super) struct Batches {
    numbers: BTreeMap<BatchId, Number>,
    batches: BTreeMap<Number, Batch>,
    states: BTreeMap<BatchState, BTreeSet<Number>>,
    open: BTreeSet<(Timestamp, Number)>,
    /// Those that have ended and of which no member is stored.
    expiring: BTreeSet<(Timestamp, Number)>,
}

impl Batches {
    pub(super) fn find(&self, id: BatchId) -> Option<Number> {
        self.numbers.get(&id).copied()
    }

    pub(super) fn get(&self, number: Number) -> Option<&Batch> {
        self.batches.get(&number)
    }

    pub(super) fn contains(&self, number: Number) -> bool {
        self.batches.contains_key(&number)
    }

    pub(super) fn insert(&mut self, number: Number, batch: Batch) {
        self.numbers.insert(batch.record.id, number);
        let place = batch.place();
        self.batches.insert(number, batch);
        self.index(number, place);
    }

    /// Changes a batch, and keeps the orders in step.
    pub(super) fn change<T>(
        &mut self,
        number: Number,
        change: impl FnOnce(&mut Batch) -> T,
    ) -> Option<T> {
        let before = self.batches.get(&number)?.place();
        let batch = self.batches.get_mut(&number)?;
        let changed = change(batch);
        let after = batch.place();
        // Mostly a member is counted, which moves nothing.
        if before != after {
            self.unindex(number, before);
            self.index(number, after);
        }
        Some(changed)
    }

    pub(super) fn remove(&mut self, number: Number) -> Option<Batch> {
        let batch = self.batches.remove(&number)?;
        self.unindex(number, batch.place());
        self.numbers.remove(&batch.record.id);
        Some(batch)
    }

    /// The batch itself, and those it stands in, the nearest first.
    pub(super) fn upward(&self, number: Number) -> impl Iterator<Item = (Number, &Batch)> {
        let find = |number: Number| Some((number, self.batches.get(&number)?));
        std::iter::successors(find(number), move |(_, batch)| find(batch.parent?))
    }

    /// Those that stand open since this instant or longer.
    pub(super) fn open_since(&self, since: Timestamp) -> Vec<Number> {
        self.open.range(..=(since, Number::MAX)).map(|&(_, number)| number).collect()
    }

    /// Those whose retention has ended and of which no member is stored.
    pub(super) fn expired(&self, now: Timestamp) -> impl Iterator<Item = Number> {
        self.expiring.range(..=(now, Number::MAX)).map(|&(_, number)| number)
    }

    fn index(&mut self, number: Number, place: Place) {
        self.states.entry(place.state).or_default().insert(number);
        if let Some(at) = place.open_since {
            self.open.insert((at, number));
        }
        if let Some(at) = place.expires_at {
            self.expiring.insert((at, number));
        }
    }

    fn unindex(&mut self, number: Number, place: Place) {
        if let Some(standing) = self.states.get_mut(&place.state) {
            standing.remove(&number);
        }
        if let Some(at) = place.open_since {
            self.open.remove(&(at, number));
        }
        if let Some(at) = place.expires_at {
            self.expiring.remove(&(at, number));
        }
    }

    /// A page of batches, the newest created first.
    pub(super) fn page(&self, filter: &BatchFilter) -> Result<BatchPage, StorageError> {
        let before = match &filter.after {
            Some(after) => after.0.parse().map_err(|_| pages::refuse(after))?,
            None => Number::MAX,
        };
        let size = pages::size(filter.max);
        let fits = |batch: &Batch| {
            filter.state.is_none_or(|state| batch.record.state == state)
                && (filter.parent.is_none() || batch.record.parent == filter.parent)
        };
        let newest_first: Box<dyn Iterator<Item = Number>> = match (filter.parent, filter.state) {
            (Some(parent), _) => {
                let parent = self.find(parent).and_then(|parent| self.get(parent));
                let members =
                    parent.into_iter().flat_map(|parent| parent.members.range(..before).rev());
                Box::new(members.copied())
            }
            (None, Some(state)) => {
                let standing = self.states.get(&state).into_iter();
                Box::new(standing.flat_map(|numbers| numbers.range(..before).rev()).copied())
            }
            (None, None) => Box::new(self.batches.range(..before).rev().map(|(&number, _)| number)),
        };
        let mut page = BatchPage::default();
        let mut last = None;
        let found = newest_first.filter_map(|number| Some((number, self.get(number)?)));
        for (number, batch) in found.filter(|(_, batch)| fits(batch)) {
            if page.batches.len() == size {
                page.next = last.map(|last: Number| Cursor(last.to_string()));
                break;
            }
            page.batches.push(batch.record.clone());
            last = Some(number);
        }
        Ok(page)
    }
}
