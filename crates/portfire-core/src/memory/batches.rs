//! The batches with their members and the orders they are found by. Their numbers are drawn from those of
//! the jobs, so that members and children of both sorts have one order.

use std::collections::{BTreeMap, BTreeSet};

use super::jobs::Number;
use crate::batch::{
    BatchFilter, BatchId, BatchPage, BatchRecord, BatchState, NewBatch, Progression,
};
use crate::clock::Timestamp;
use crate::continuation::Dependency;
use crate::engine::Batch as Row;
use crate::engine::pages;
use crate::error::StorageError;
use crate::monitor::Cursor;

/// One batch.
pub(super) struct Batch {
    pub(super) id: BatchId,
    pub(super) description: String,
    pub(super) parent: Option<BatchId>,
    pub(super) after: Vec<Dependency>,
    pub(super) created_at: Timestamp,
    /// What the engine knows of it.
    pub(super) row: Row,
    /// How its members stand.
    pub(super) counts: Progression,
    /// Its stored members, jobs and nested batches.
    pub(super) members: BTreeSet<Number>,
    /// Those that wait for its start.
    pub(super) starting: BTreeSet<Number>,
}

impl Batch {
    /// A batch without members.
    pub(super) fn new(new: &NewBatch, row: Row, now: Timestamp) -> Batch {
        Batch {
            id: new.id,
            description: new.description.clone(),
            parent: new.parent,
            after: new.after.clone(),
            created_at: now,
            row,
            counts: Progression::default(),
            members: BTreeSet::new(),
            starting: BTreeSet::new(),
        }
    }

    /// As it is shown.
    pub(super) fn record(&self) -> BatchRecord {
        BatchRecord {
            id: self.id,
            description: self.description.clone(),
            parent: self.parent,
            after: self.after.clone(),
            state: self.row.state,
            reason: self.row.reason.as_deref().map(str::to_owned),
            members: self.counts,
            created_at: self.created_at,
            ended_at: self.row.ended_at.map(Timestamp::from_micros),
            expires_at: self.row.expires_at.map(Timestamp::from_micros),
        }
    }

    fn place(&self) -> Place {
        let expires_at = self.row.expires_at.map(Timestamp::from_micros);
        Place {
            state: self.row.state,
            open_since: (self.row.state == BatchState::Open).then_some(self.created_at),
            expires_at: expires_at.filter(|_| self.members.is_empty()),
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

    pub(super) fn insert(&mut self, number: Number, batch: Batch) {
        self.numbers.insert(batch.id, number);
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
        self.numbers.remove(&batch.id);
        Some(batch)
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
            filter.state.is_none_or(|state| batch.row.state == state)
                && (filter.parent.is_none() || batch.parent == filter.parent)
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
            page.batches.push(batch.record());
            last = Some(number);
        }
        Ok(page)
    }
}
