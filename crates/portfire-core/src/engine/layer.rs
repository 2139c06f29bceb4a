//! A layer of rows over what is loaded, whose last changes can be undone.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

/// Rows by their keys, with a journal of what they were before.
#[derive(Clone, Debug)]
pub(super) struct Layer<K, V> {
    rows: BTreeMap<K, V>,
    journal: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Layer<K, V> {
    fn default() -> Layer<K, V> {
        Layer { rows: BTreeMap::new(), journal: Vec::new() }
    }
}

impl<K: Ord + Clone, V: Clone> Layer<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    pub(super) fn put(&mut self, key: K, row: V) {
        let before = self.rows.insert(key.clone(), row);
        self.journal.push((key, before));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    pub(super) fn range(&self, keys: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.rows.range(keys)
    }

    /// Names how the rows are now.
    pub(super) fn mark(&self) -> usize {
        self.journal.len()
    }

    /// Goes back to a mark.
    pub(super) fn undo(&mut self, to: usize) {
        while self.journal.len() > to {
            let Some((key, before)) = self.journal.pop() else { break };
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }
}
