//! The servers with their leases and what each of them holds.

use std::collections::{BTreeMap, BTreeSet};

use super::DEAD_SHOWN;
use super::jobs::Number;
use crate::clock::Timestamp;
use crate::error::StorageError;
use crate::monitor::ServerRecord;
use crate::state::ServerId;
use crate::storage::NewServer;

/// One server, alive or dead.
pub(super) struct Server {
    announced: NewServer,
    started_at: Timestamp,
    heartbeat_at: Timestamp,
    died_at: Option<Timestamp>,
    /// The jobs it holds; of a dead server those that were not returned yet.
    pub(super) held: BTreeSet<Number>,
}

impl Server {
    pub(super) fn renew(&mut self, now: Timestamp) {
        self.heartbeat_at = now;
    }

    pub(super) fn die(&mut self, now: Timestamp) {
        self.died_at = Some(now);
    }

    fn lease_until(&self) -> Timestamp {
        self.heartbeat_at.saturating_add(self.announced.lease)
    }

    fn is_forgettable(&self, now: Timestamp) -> bool {
        self.died_at.is_some_and(|died_at| died_at.saturating_add(DEAD_SHOWN) <= now)
    }

    fn record(&self) -> ServerRecord {
        ServerRecord {
            id: self.announced.id.clone(),
            name: self.announced.name.clone(),
            queues: self.announced.queues.clone(),
            workers: self.announced.workers,
            started_at: self.started_at,
            heartbeat_at: self.heartbeat_at,
            lease_until: self.lease_until(),
            lease: self.announced.lease,
            kinds: self.announced.kinds.clone(),
            processing: self.held.len() as u64,
            dead: self.died_at.is_some(),
        }
    }
}

/// All servers.
#[derive(Default)]
pub(super) struct Servers {
    servers: BTreeMap<ServerId, Server>,
    /// Dead servers that still hold jobs.
    orphaned: BTreeSet<ServerId>,
    /// Ids of forgotten servers: dead for ever.
    gone: BTreeSet<ServerId>,
}

impl Servers {
    pub(super) fn announce(
        &mut self,
        server: NewServer,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        if self.servers.contains_key(&server.id) || self.gone.contains(&server.id) {
            self.alive(&server.id)?.renew(now);
            return Ok(());
        }
        let id = server.id.clone();
        let announced = Server {
            announced: server,
            started_at: now,
            heartbeat_at: now,
            died_at: None,
            held: BTreeSet::new(),
        };
        self.servers.insert(id, announced);
        Ok(())
    }

    /// The server, when it is known and not dead.
    pub(super) fn alive(&mut self, server: &ServerId) -> Result<&mut Server, StorageError> {
        let found = self.servers.get_mut(server).filter(|found| found.died_at.is_none());
        found.ok_or_else(|| StorageError::ServerGone { server: server.clone() })
    }

    pub(super) fn held(&self, server: &ServerId) -> impl Iterator<Item = Number> {
        self.servers.get(server).into_iter().flat_map(|server| server.held.iter().copied())
    }

    pub(super) fn add_held(&mut self, server: &ServerId, job: Number) {
        if let Some(server) = self.servers.get_mut(server) {
            server.held.insert(job);
        }
    }

    pub(super) fn drop_held(&mut self, server: &ServerId, job: Number) {
        if let Some(found) = self.servers.get_mut(server) {
            found.held.remove(&job);
            if found.held.is_empty() {
                self.orphaned.remove(server);
            }
        }
    }

    /// Declares dead what has outlived its lease.
    pub(super) fn declare_dead(&mut self, now: Timestamp) -> Vec<ServerId> {
        let mut dead = Vec::new();
        for (id, server) in &mut self.servers {
            if server.died_at.is_none() && server.lease_until() <= now {
                server.die(now);
                dead.push(id.clone());
                if !server.held.is_empty() {
                    self.orphaned.insert(id.clone());
                }
            }
        }
        dead
    }

    /// Takes a job from a dead server.
    pub(super) fn take_orphan(&mut self) -> Option<(ServerId, Number)> {
        let id = self.orphaned.first()?.clone();
        let server = self.servers.get_mut(&id)?;
        let job = server.held.pop_first()?;
        if server.held.is_empty() {
            self.orphaned.remove(&id);
        }
        Some((id, job))
    }

    pub(super) fn has_orphans(&self) -> bool {
        !self.orphaned.is_empty()
    }

    /// Forgets servers that died a day ago and hold nothing; their ids stay dead.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let old = |server: &Server| server.is_forgettable(now) && server.held.is_empty();
        let forgotten = self.servers.iter().filter(|(_, server)| old(server));
        self.gone.extend(forgotten.map(|(id, _)| id.clone()));
        self.servers.retain(|_, server| !old(server));
    }

    pub(super) fn records(&self, now: Timestamp) -> Vec<ServerRecord> {
        let shown = self.servers.values().filter(|server| !server.is_forgettable(now));
        shown.map(Server::record).collect()
    }
}
