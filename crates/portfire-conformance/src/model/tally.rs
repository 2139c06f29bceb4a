//! The counters: how many jobs stand where, also by kind, totals, and outcomes per hour and day.

use std::collections::BTreeMap;

use portfire_core::clock::Timestamp;
use portfire_core::job::KindName;
use portfire_core::monitor::{Bucket, Counts, KindRecord, StatisticsRecord};
use portfire_core::state::{Cause, StateName};
use portfire_core::transition::Transition;

/// How many jobs of something stand where.
#[derive(Default)]
pub(super) struct States([u64; StateName::ALL.len()]);

impl States {
    pub(super) fn of(&self, state: StateName) -> u64 {
        self.0[state as usize]
    }

    pub(super) fn entered(&mut self, state: StateName) {
        self.0[state as usize] += 1;
    }

    pub(super) fn left(&mut self, state: StateName) {
        self.0[state as usize] -= 1;
    }

    /// Those that are not zero.
    pub(super) fn shown(&self) -> BTreeMap<StateName, u64> {
        let counted = StateName::ALL.into_iter().map(|state| (state, self.of(state)));
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

/// All counters.
pub(super) struct Tally {
    counts: Counts,
    kinds: BTreeMap<KindName, States>,
    buckets: BTreeMap<(Bucket, Timestamp), StatisticsRecord>,
}

impl Default for Tally {
    fn default() -> Tally {
        let states = StateName::ALL.into_iter().map(|state| (state, 0)).collect();
        let counts = Counts { states, ..Counts::default() };
        Tally { counts, kinds: BTreeMap::new(), buckets: BTreeMap::new() }
    }
}

impl Tally {
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn created(&mut self) {
        self.counts.created_total += 1;
    }

    pub(super) fn cleaned(&mut self) {
        self.counts.cleaned_total += 1;
    }

    pub(super) fn entered(&mut self, kind: &KindName, state: StateName) {
        *self.counts.states.entry(state).or_default() += 1;
        match self.kinds.get_mut(kind) {
            Some(states) => states.entered(state),
            None => self.kinds.entry(kind.clone()).or_default().entered(state),
        }
    }

    pub(super) fn left(&mut self, kind: &KindName, state: StateName) {
        *self.counts.states.entry(state).or_default() -= 1;
        if let Some(states) = self.kinds.get_mut(kind) {
            states.left(state);
        }
    }

    pub(super) fn kinds(&self) -> Vec<KindRecord> {
        let record = |(name, states): (&KindName, &States)| KindRecord {
            name: name.clone(),
            states: states.shown(),
        };
        self.kinds.iter().map(record).collect()
    }

    /// Counts what a transition adds to the totals.
    pub(super) fn moved(&mut self, made: &Transition, now: Timestamp) {
        match made.cause {
            Cause::Retried => self.counts.retried_total += 1,
            Cause::Rescued => self.counts.recovered_total += 1,
            _ => {}
        }
        match made.to.state {
            StateName::Succeeded => self.counts.succeeded_total += 1,
            StateName::Failed => self.counts.failed_total += 1,
            StateName::Deleted => self.counts.deleted_total += 1,
            _ => return,
        }
        for bucket in [Bucket::Hour, Bucket::Day] {
            let start = bucket.start(now);
            let empty = StatisticsRecord { start, succeeded: 0, failed: 0, deleted: 0 };
            let record = self.buckets.entry((bucket, start)).or_insert(empty);
            match made.to.state {
                StateName::Succeeded => record.succeeded += 1,
                StateName::Failed => record.failed += 1,
                _ => record.deleted += 1,
            }
        }
    }

    pub(super) fn statistics(&self, bucket: Bucket, since: Timestamp) -> Vec<StatisticsRecord> {
        let range = (bucket, bucket.start(since))..=(bucket, Timestamp::MAX);
        self.buckets.range(range).map(|(_, record)| *record).collect()
    }

    /// Forgets the buckets that ended before their time.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        for bucket in [Bucket::Hour, Bucket::Day] {
            let oldest = bucket.start(now.saturating_sub(bucket.kept()));
            while let Some((&key, _)) =
                self.buckets.range((bucket, Timestamp::MIN)..(bucket, oldest)).next()
            {
                self.buckets.remove(&key);
            }
        }
    }
}
