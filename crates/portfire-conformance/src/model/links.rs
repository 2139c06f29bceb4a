//! Who waits, or waited, for whose end: jobs and batches by their numbers.
//!
//! What exactly a follower waits for stands in its own dependencies, which never change.

use std::collections::{BTreeMap, BTreeSet};

use super::jobs::Number;
use portfire_core::continuation::After;
use portfire_core::state::StateName;

/// All links.
#[derive(Default)]
pub(super) struct Links {
    /// The followers of an antecedent, in the order of their creation.
    followers: BTreeMap<Number, BTreeSet<Number>>,
    /// Those of them that wait still.
    open: BTreeMap<Number, BTreeSet<Number>>,
    /// Those of them about whom a failure decides.
    open_to_failure: BTreeMap<Number, BTreeSet<Number>>,
}

impl Links {
    pub(super) fn add(&mut self, antecedent: Number, follower: Number, after: After) {
        self.followers.entry(antecedent).or_default().insert(follower);
        self.open.entry(antecedent).or_default().insert(follower);
        if !after.is_open_after(StateName::Failed) {
            self.open_to_failure.entry(antecedent).or_default().insert(follower);
        }
    }

    pub(super) fn close(&mut self, antecedent: Number, follower: Number) {
        for links in [&mut self.open, &mut self.open_to_failure] {
            if let Some(open) = links.get_mut(&antecedent) {
                open.remove(&follower);
                if open.is_empty() {
                    links.remove(&antecedent);
                }
            }
        }
    }

    /// The first that waits still.
    pub(super) fn first_open(&self, antecedent: Number) -> Option<Number> {
        self.open.get(&antecedent)?.first().copied()
    }

    /// The first that waits still for a failure, or for any end.
    pub(super) fn first_open_to_failure(&self, antecedent: Number) -> Option<Number> {
        self.open_to_failure.get(&antecedent)?.first().copied()
    }

    /// Whether one waits for the other still.
    pub(super) fn is_open(&self, antecedent: Number, follower: Number) -> bool {
        self.open.get(&antecedent).is_some_and(|open| open.contains(&follower))
    }

    /// All that wait or waited, in the order of their creation.
    pub(super) fn followers(&self, antecedent: Number) -> impl Iterator<Item = Number> {
        self.followers.get(&antecedent).into_iter().flatten().copied()
    }

    /// Forgets an antecedent for which nobody waits any more.
    pub(super) fn forget(&mut self, antecedent: Number) {
        self.followers.remove(&antecedent);
        self.open.remove(&antecedent);
        self.open_to_failure.remove(&antecedent);
    }

    /// Forgets that someone waited.
    pub(super) fn forget_follower(&mut self, antecedent: Number, follower: Number) {
        self.close(antecedent, follower);
        if let Some(followers) = self.followers.get_mut(&antecedent) {
            followers.remove(&follower);
            if followers.is_empty() {
                self.followers.remove(&antecedent);
            }
        }
    }
}
