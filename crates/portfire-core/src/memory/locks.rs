//! The locks that are held.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Data;
use crate::clock::Timestamp;
use crate::error::StorageError;
use crate::lock::{LockAnswer, LockRecord, LockRequest};

/// All locks, by name, and the fence of the last grant.
#[derive(Default)]
pub(super) struct Locks {
    locks: BTreeMap<String, LockRecord>,
    fence: u64,
}

impl Locks {
    fn held(&mut self, name: &str, now: Timestamp) -> Option<&mut LockRecord> {
        self.locks.get_mut(name).filter(|lock| lock.until > now)
    }

    fn acquire(
        &mut self,
        name: String,
        owner: String,
        lease: Duration,
        now: Timestamp,
    ) -> LockAnswer {
        match self.held(&name, now) {
            Some(lock) if lock.owner == owner => return renew(lock, lease, now),
            Some(lock) => return LockAnswer::Taken { until: lock.until },
            None => {}
        }
        self.fence += 1;
        let (fence, until) = (self.fence, now.saturating_add(lease));
        self.locks.insert(name.clone(), LockRecord { name, owner, fence, until });
        LockAnswer::Held { fence, until }
    }

    /// The locks that are held, by name.
    pub(super) fn records(&self, now: Timestamp) -> Vec<LockRecord> {
        self.locks.values().filter(|lock| lock.until > now).cloned().collect()
    }

    /// Forgets what has lapsed.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        self.locks.retain(|_, lock| lock.until > now);
    }
}

fn renew(lock: &mut LockRecord, lease: Duration, now: Timestamp) -> LockAnswer {
    lock.until = now.saturating_add(lease);
    LockAnswer::Held { fence: lock.fence, until: lock.until }
}

impl Data {
    pub(super) fn lock(&mut self, request: LockRequest) -> Result<LockAnswer, StorageError> {
        request.validate()?;
        let now = self.now;
        Ok(match request {
            LockRequest::Acquire { name, owner, lease } => {
                self.locks.acquire(name, owner, lease, now)
            }
            LockRequest::Renew { name, fence, lease } => match self.locks.held(&name, now) {
                Some(lock) if lock.fence == fence => renew(lock, lease, now),
                _ => LockAnswer::Lost,
            },
            LockRequest::Release { name, fence } => match self.locks.held(&name, now) {
                Some(lock) if lock.fence == fence => {
                    self.locks.locks.remove(&name);
                    self.jobs.hints.control = true;
                    LockAnswer::Released
                }
                _ => LockAnswer::Lost,
            },
        })
    }
}
