//! The numbers under which the engine speaks of kinds, servers and the keys of limits.

use std::collections::BTreeMap;

use crate::engine::Number;
use crate::job::KindName;
use crate::state::ServerId;

/// All names that have a number.
#[derive(Default)]
pub(super) struct Names {
    pub(super) kinds: Numbered<KindName>,
    pub(super) servers: Numbered<ServerId>,
    /// Keys of limits. A number of one is good for the call that gave it out.
    pub(super) keys: Numbered<String>,
}

/// Names by their numbers, from 0.
pub(super) struct Numbered<T> {
    numbers: BTreeMap<T, Number>,
    names: Vec<T>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered { numbers: BTreeMap::new(), names: Vec::new() }
    }
}

impl<T: Ord + Clone> Numbered<T> {
    /// The number of a name, which it gets now if it had none.
    pub(super) fn number(&mut self, name: &T) -> Number {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as Number;
        self.numbers.insert(name.clone(), number);
        self.names.push(name.clone());
        number
    }

    /// The name that has this number.
    pub(super) fn name(&self, number: Number) -> Option<&T> {
        self.names.get(usize::try_from(number).ok()?)
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.numbers.clear();
        self.names.clear();
    }
}
