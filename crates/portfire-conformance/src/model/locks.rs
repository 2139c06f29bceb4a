//! The locks that are held.

use std::collections::BTreeMap;

use super::Data;
use portfire_core::clock::Timestamp;
use portfire_core::engine::locks::{Grant, Step, decide, is_held};
use portfire_core::error::StorageError;
use portfire_core::lock::{LockAnswer, LockRecord, LockRequest};

/// All locks, by name, and the fence of the last grant.
#[derive(Default)]
pub(super) struct Locks {
    locks: BTreeMap<String, LockRecord>,
    fence: u64,
}

impl Locks {
    fn grant(&self, name: &str) -> Option<Grant<'_>> {
        let LockRecord { owner, fence, until, .. } = self.locks.get(name)?;
        Some(Grant { owner, fence: *fence, until: *until })
    }

    /// The locks that are held, by name.
    pub(super) fn records(&self, now: Timestamp) -> Vec<LockRecord> {
        self.locks.values().filter(|lock| is_held(lock.until, now)).cloned().collect()
    }

    /// Forgets what has lapsed.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        self.locks.retain(|_, lock| is_held(lock.until, now));
    }
}

impl Data {
    pub(super) fn lock(&mut self, request: LockRequest) -> Result<LockAnswer, StorageError> {
        request.validate()?;
        let name = request.name().to_owned();
        Ok(match decide(self.locks.grant(&name), &request, self.now) {
            Step::Leave(answer) => answer,
            Step::Grant { owner, until } => {
                self.locks.fence += 1;
                let (fence, owner) = (self.locks.fence, owner.to_owned());
                self.locks.locks.insert(name.clone(), LockRecord { name, owner, fence, until });
                LockAnswer::Held { fence, until }
            }
            Step::Renew { fence, until } => {
                if let Some(lock) = self.locks.locks.get_mut(&name) {
                    lock.until = until;
                }
                LockAnswer::Held { fence, until }
            }
            Step::Release => {
                self.locks.locks.remove(&name);
                self.jobs.hints.control = true;
                LockAnswer::Released
            }
        })
    }
}
