//! The counters: how many jobs stand where, totals, and outcomes per hour and day.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::monitor::{Bucket, Counts, StatisticsRecord};
use crate::state::{Cause, StateName};
use crate::transition::Transition;

/// All counters.
pub(super) struct Tally {
    counts: Counts,
    buckets: BTreeMap<(Bucket, Timestamp), StatisticsRecord>,
}

impl Default for Tally {
    fn default() -> Tally {
        let states = StateName::ALL.into_iter().map(|state| (state, 0)).collect();
        Tally { counts: Counts { states, ..Counts::default() }, buckets: BTreeMap::new() }
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

    pub(super) fn entered(&mut self, state: StateName) {
        *self.counts.states.entry(state).or_default() += 1;
    }

    pub(super) fn left(&mut self, state: StateName) {
        *self.counts.states.entry(state).or_default() -= 1;
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
