//! Who waits, or waited, for whose end: jobs and batches by their numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::jobs::Number;
use crate::continuation::After;
use crate::engine::Reach;

/// A child that waits still.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) after: After,
    /// The place of the dependency among all of the child, when the child gets the outcome of the parent.
    pub(super) pass: Option<usize>,
    pub(super) is_batch: bool,
}

/// All links.
#[derive(Default)]
pub(super) struct Links {
    /// The children of a parent, in the order of their creation.
    children: BTreeMap<Number, BTreeSet<Number>>,
    /// Those of them that wait still.
    open: BTreeMap<Number, BTreeMap<Number, Link>>,
    /// Those of these about whom a failure decides.
    of_failure: BTreeMap<Number, BTreeMap<Number, Link>>,
}

impl Links {
    pub(super) fn add(&mut self, parent: Number, child: Number, link: Link) {
        self.children.entry(parent).or_default().insert(child);
        self.open.entry(parent).or_default().insert(child, link);
        if Reach::OfFailure.includes(link.after) {
            self.of_failure.entry(parent).or_default().insert(child, link);
        }
    }

    /// Closes a link; says which it was, if it was open.
    pub(super) fn close(&mut self, parent: Number, child: Number) -> Option<Link> {
        take(&mut self.of_failure, parent, child);
        take(&mut self.open, parent, child)
    }

    /// Those that wait still and about whom an end decides, in the order of their creation.
    pub(super) fn open(
        &self,
        parent: Number,
        reach: Reach,
    ) -> impl Iterator<Item = (Number, Link)> {
        let links = match reach {
            Reach::All => &self.open,
            Reach::OfFailure => &self.of_failure,
        };
        let open = links.get(&parent).into_iter().flatten();
        open.map(|(&child, &link)| (child, link))
    }

    /// Whether one waits for the other still.
    pub(super) fn is_open(&self, parent: Number, child: Number) -> bool {
        self.open.get(&parent).is_some_and(|open| open.contains_key(&child))
    }

    /// All that wait or waited, in the order of their creation.
    pub(super) fn children(&self, parent: Number) -> impl Iterator<Item = Number> {
        self.children.get(&parent).into_iter().flatten().copied()
    }

    /// Forgets a parent for which nobody waits any more.
    pub(super) fn forget(&mut self, parent: Number) {
        self.children.remove(&parent);
        self.open.remove(&parent);
        self.of_failure.remove(&parent);
    }

    /// Forgets that someone waited.
    pub(super) fn forget_child(&mut self, parent: Number, child: Number) {
        self.close(parent, child);
        if let Some(children) = self.children.get_mut(&parent) {
            children.remove(&child);
            if children.is_empty() {
                self.children.remove(&parent);
            }
        }
    }
}

fn take(
    links: &mut BTreeMap<Number, BTreeMap<Number, Link>>,
    parent: Number,
    child: Number,
) -> Option<Link> {
    let open = links.get_mut(&parent)?;
    let taken = open.remove(&child);
    if open.is_empty() {
        links.remove(&parent);
    }
    taken
}
