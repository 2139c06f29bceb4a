//! The queues: in which order their jobs are claimed, and which of them wait in the line of a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use super::jobs::Number;
use super::tally::States;
use portfire_core::clock::Timestamp;
use portfire_core::engine::kinds;
use portfire_core::job::{KindName, QueueName};
use portfire_core::monitor::QueueRecord;

/// A place in a queue: negated priority, then the turn that was drawn at its end.
pub(super) type Rank = (i32, u64);

/// A job at its place.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub(super) rank: Rank,
    pub(super) enqueued_at: Timestamp,
    pub(super) number: Number,
}

/// One queue.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) paused: bool,
    pub(super) states: States,
    /// The jobs that can be claimed.
    pub(super) ready: Order,
    /// The jobs that were set aside, by kind.
    pub(super) shelves: BTreeMap<KindName, Shelf>,
    /// The suspects that are enqueued, by the turn that was drawn when they came here; the last is claimed first.
    pub(super) apart: BTreeMap<u64, Number>,
    /// The jobs that are enqueued and wait in the line of a limit.
    pub(super) waiting: BTreeSet<Number>,
    /// Whether a claim has asked for how long jobs have waited.
    has_ages: bool,
}

/// The jobs of a kind that were set aside in a queue.
pub(super) struct Shelf {
    pub(super) jobs: Order,
    /// Since when no live server has the kind, as it was at the last look.
    pub(super) missing_since: Option<Timestamp>,
    /// The grace of the last rescue.
    pub(super) grace: Option<Duration>,
}

/// Jobs in the order of claims.
#[derive(Default)]
pub(super) struct Order {
    pub(super) jobs: BTreeMap<Rank, Number>,
    /// The same by how long they have waited; kept once a claim has asked for that.
    ages: Option<Ages>,
}

#[derive(Default)]
struct Ages {
    since: BTreeSet<(Timestamp, u64)>,
    turns: BTreeMap<u64, (Timestamp, Number)>,
}

impl Ages {
    fn add(&mut self, placed: Placed) {
        let turn = placed.rank.1;
        self.since.insert((placed.enqueued_at, turn));
        self.turns.insert(turn, (placed.enqueued_at, placed.number));
    }

    fn remove(&mut self, placed: Placed) {
        let turn = placed.rank.1;
        self.since.remove(&(placed.enqueued_at, turn));
        self.turns.remove(&turn);
    }

    /// The first by place of those that wait since this instant or longer.
    fn first(&self, horizon: Timestamp) -> Option<(u64, Number)> {
        self.since.first().filter(|(since, _)| *since <= horizon)?;
        // Places and waits rise together, but for jobs that were given back: this looks at few.
        let aged = self.turns.iter().find(|(_, (since, _))| *since <= horizon);
        aged.map(|(&turn, &(_, number))| (turn, number))
    }
}

impl Order {
    pub(super) fn add(&mut self, placed: Placed) {
        self.jobs.insert(placed.rank, placed.number);
        if let Some(ages) = &mut self.ages {
            ages.add(placed);
        }
    }

    pub(super) fn remove(&mut self, placed: Placed) {
        self.jobs.remove(&placed.rank);
        if let Some(ages) = &mut self.ages {
            ages.remove(placed);
        }
    }

    fn keep_ages(&mut self, placed: &impl Fn(Number) -> Placed) {
        let mut ages = Ages::default();
        self.jobs.values().for_each(|&number| ages.add(placed(number)));
        self.ages = Some(ages);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// All of them, the earliest place first, whatever their priority.
    pub(super) fn by_place(&self) -> Vec<Number> {
        let mut places: Vec<_> = self.jobs.iter().map(|((_, turn), &job)| (*turn, job)).collect();
        places.sort_unstable();
        places.into_iter().map(|(_, job)| job).collect()
    }
}

impl Shelf {
    pub(super) fn new(missing_since: Option<Timestamp>) -> Shelf {
        Shelf { jobs: Order::default(), missing_since, grace: None }
    }
}

impl Queue {
    pub(super) fn has_ages(&self) -> bool {
        self.has_ages
    }

    /// Has its jobs known by how long they have waited.
    pub(super) fn keep_ages(&mut self, placed: impl Fn(Number) -> Placed) {
        self.has_ages = true;
        self.ready.keep_ages(&placed);
        self.shelves.values_mut().for_each(|shelf| shelf.jobs.keep_ages(&placed));
    }

    /// Makes the shelf of a kind known.
    pub(super) fn ensure_shelf(&mut self, kind: &KindName, clock: impl Fn() -> Option<Timestamp>) {
        if !self.shelves.contains_key(kind) {
            let mut shelf = Shelf::new(clock());
            shelf.jobs.ages = self.has_ages.then(Ages::default);
            self.shelves.insert(kind.clone(), shelf);
        }
    }

    /// Whether there is nothing that a claim could meet.
    pub(super) fn has_none_to_claim(&self) -> bool {
        self.ready.is_empty() && self.shelves.values().all(|shelf| shelf.jobs.is_empty())
    }

    /// What a server with these kinds looks through for jobs.
    fn orders<'a>(&'a self, stated: &'a [KindName]) -> impl Iterator<Item = &'a Order> {
        let own = self.shelves.iter().filter(|(kind, _)| kinds::has(stated, kind));
        std::iter::once(&self.ready).chain(own.map(|(_, shelf)| &shelf.jobs))
    }

    /// The job that a claim of a server with these kinds takes first; those that wait since `horizon` or longer come
    /// before the others.
    pub(super) fn first(&self, horizon: Option<Timestamp>, stated: &[KindName]) -> Option<Number> {
        let ages = || self.orders(stated).filter_map(|order| order.ages.as_ref());
        let aged = horizon.and_then(|horizon| ages().filter_map(|ages| ages.first(horizon)).min());
        let first = || {
            let firsts = self.orders(stated).filter_map(|order| order.jobs.first_key_value());
            firsts.min().map(|(_, &number)| number)
        };
        aged.map(|(_, number)| number).or_else(first)
    }

    /// The jobs that can be claimed by one server or another, in their order, behind a place.
    pub(super) fn claimable(&self, behind: Bound<Rank>) -> impl Iterator<Item = (Rank, Number)> {
        let mut rest: Vec<_> = self
            .orders(&[])
            .map(|order| order.jobs.range((behind, Bound::Unbounded)).peekable())
            .collect();
        std::iter::from_fn(move || {
            let first = rest.iter_mut().filter_map(|order| {
                let (rank, _) = order.peek()?;
                Some((**rank, order))
            });
            let (_, order) = first.min_by_key(|(rank, _)| *rank)?;
            order.next().map(|(&rank, &number)| (rank, number))
        })
    }
}

/// All queues by name.
#[derive(Default)]
pub(super) struct Queues(BTreeMap<QueueName, Queue>);

impl Queues {
    pub(super) fn get(&self, name: &QueueName) -> Option<&Queue> {
        self.0.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &QueueName) -> Option<&mut Queue> {
        self.0.get_mut(name)
    }

    /// Makes the queue known.
    pub(super) fn ensure(&mut self, name: &QueueName) {
        if !self.0.contains_key(name) {
            self.0.insert(name.clone(), Queue::default());
        }
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = (&QueueName, &mut Queue)> {
        self.0.iter_mut()
    }

    /// The queues from this one on.
    pub(super) fn from(&self, first: &QueueName) -> impl Iterator<Item = (&QueueName, &Queue)> {
        self.0.range::<QueueName, _>(first..)
    }

    pub(super) fn records(&self) -> Vec<QueueRecord> {
        let record = |(name, queue): (&QueueName, &Queue)| QueueRecord {
            name: name.clone(),
            paused: queue.paused,
            states: queue.states.shown(),
        };
        self.0.iter().map(record).collect()
    }
}
