//! The unique keys and the jobs that hold them.

use std::collections::{BTreeMap, BTreeSet};

use super::jobs::Number;
use portfire_core::clock::Timestamp;
use portfire_core::engine::unique::is_held;

/// Who holds a key, and until when if its scope is a time.
struct Holder {
    job: Number,
    until: Option<Timestamp>,
}

/// All keys that are held.
#[derive(Default)]
pub(super) struct Keys {
    holders: BTreeMap<String, Holder>,
    lapsing: BTreeSet<(Timestamp, String)>,
}

impl Keys {
    /// The job that holds a key.
    pub(super) fn holder(&self, key: &str, now: Timestamp) -> Option<Number> {
        let held = |holder: &&Holder| is_held(holder.until, now);
        self.holders.get(key).filter(held).map(|holder| holder.job)
    }

    /// Gives a key to a job, whoever had it.
    pub(super) fn take(&mut self, key: &str, job: Number, until: Option<Timestamp>) {
        self.remove(key);
        self.holders.insert(key.to_owned(), Holder { job, until });
        if let Some(until) = until {
            self.lapsing.insert((until, key.to_owned()));
        }
    }

    /// Takes a key from a job, if it has it.
    pub(super) fn free(&mut self, key: &str, job: Number) {
        if self.holders.get(key).is_some_and(|holder| holder.job == job) {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &str) {
        let until = self.holders.remove(key).and_then(|holder| holder.until);
        if let Some(until) = until {
            self.lapsing.remove(&(until, key.to_owned()));
        }
    }

    /// Forgets the keys whose time is over.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        while let Some((until, key)) = self.lapsing.first()
            && *until <= now
        {
            let key = key.clone();
            self.remove(&key);
        }
    }
}
