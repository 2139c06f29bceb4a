//! The queues: in which order their jobs are claimed, and which of them wait in the line of a limit.

use std::collections::{BTreeMap, BTreeSet};

use super::jobs::Number;
use super::tally::States;
use portfire_core::clock::Timestamp;
use portfire_core::job::QueueName;
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
    pub(super) ready: BTreeMap<Rank, Number>,
    /// The suspects that are enqueued, by the turn that was drawn when they came here; the last is claimed first.
    pub(super) apart: BTreeMap<u64, Number>,
    /// The jobs that are enqueued and wait in the line of a limit.
    pub(super) waiting: BTreeSet<Number>,
    /// The jobs that can be claimed by how long they have waited; kept once a claim has asked for that.
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
    fn first(&self, horizon: Timestamp) -> Option<Number> {
        self.since.first().filter(|(since, _)| *since <= horizon)?;
        // Places and waits rise together, but for jobs that were given back: this looks at few.
        let aged = self.turns.values().find(|(since, _)| *since <= horizon);
        aged.map(|&(_, number)| number)
    }
}

impl Queue {
    pub(super) fn add(&mut self, placed: Placed) {
        self.ready.insert(placed.rank, placed.number);
        if let Some(ages) = &mut self.ages {
            ages.add(placed);
        }
    }

    pub(super) fn remove(&mut self, placed: Placed) {
        self.ready.remove(&placed.rank);
        if let Some(ages) = &mut self.ages {
            ages.remove(placed);
        }
    }

    pub(super) fn has_ages(&self) -> bool {
        self.ages.is_some()
    }

    pub(super) fn keep_ages(&mut self, ready: impl Iterator<Item = Placed>) {
        let mut ages = Ages::default();
        ready.for_each(|placed| ages.add(placed));
        self.ages = Some(ages);
    }

    /// The job that a claim takes first; those that wait since `horizon` or longer come before the others.
    pub(super) fn first(&self, horizon: Option<Timestamp>) -> Option<Number> {
        let ages = self.ages.as_ref();
        let aged = horizon.and_then(|horizon| ages?.first(horizon));
        aged.or_else(|| self.ready.first_key_value().map(|(_, &number)| number))
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
