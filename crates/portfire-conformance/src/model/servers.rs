//! The servers with their leases and what each of them holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::DEAD_SHOWN;
use super::jobs::Number;
use portfire_core::clock::Timestamp;
use portfire_core::engine::kinds::Handlers;
use portfire_core::error::StorageError;
use portfire_core::job::KindName;
use portfire_core::monitor::ServerRecord;
use portfire_core::state::ServerId;
use portfire_core::storage::NewServer;
use portfire_core::suspects::{EMPTYING_MAX, QUIET_TIME, Suspicion};
use portfire_core::transition::Loss;

/// One server, alive or dead.
pub(super) struct Server {
    announced: NewServer,
    started_at: Timestamp,
    heartbeat_at: Timestamp,
    died_at: Option<Timestamp>,
    /// How many jobs it held when it crashed; none as long as it has not.
    crashed_with: Option<usize>,
    /// The jobs it holds; of a dead server those that were not returned yet.
    pub(super) held: BTreeSet<Held>,
}

/// A held job: since when, and which.
pub(super) type Held = (Timestamp, Number);

/// A suspect that is held.
struct Trial {
    server: ServerId,
    /// When it has run so long that it is no longer on trial.
    until: Timestamp,
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
    /// Whether a server whose lease lapses lives for sure: it is in this process.
    vouches: bool,
    servers: BTreeMap<ServerId, Server>,
    /// Dead servers that still hold jobs.
    orphaned: BTreeSet<ServerId>,
    /// Ids of forgotten servers: dead for ever.
    gone: BTreeSet<ServerId>,
    /// The suspects that are held.
    trials: BTreeMap<Number, Trial>,
    /// The server that is being emptied for a suspect, and until when it need not be heard of.
    emptied: Option<(ServerId, Timestamp)>,
}

impl Servers {
    pub(super) fn new(vouches: bool) -> Servers {
        Servers { vouches, ..Servers::default() }
    }

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
            crashed_with: None,
            held: BTreeSet::new(),
        };
        self.servers.insert(id, announced);
        Ok(())
    }

    /// Refuses an id that is dead.
    pub(super) fn check_new(&mut self, server: &ServerId) -> Result<(), StorageError> {
        if self.servers.contains_key(server) || self.gone.contains(server) {
            self.alive(server)?;
        }
        Ok(())
    }

    /// The server, when it is known and not dead.
    pub(super) fn alive(&mut self, server: &ServerId) -> Result<&mut Server, StorageError> {
        let found = self.servers.get_mut(server).filter(|found| found.died_at.is_none());
        found.ok_or_else(|| StorageError::ServerGone { server: server.clone() })
    }

    /// The kinds that a server states.
    pub(super) fn kinds(&self, server: &ServerId) -> &[KindName] {
        self.servers.get(server).map_or(&[], |server| &server.announced.kinds)
    }

    /// All that are remembered, as far as kinds go.
    pub(super) fn handlers(&self) -> Vec<Handlers> {
        let handlers = |server: &Server| {
            let kinds = server.announced.kinds.clone();
            Handlers::new(kinds, server.lease_until(), server.died_at)
        };
        self.servers.values().map(handlers).collect()
    }

    /// What a server holds, in the order in which it was claimed.
    pub(super) fn held(&self, server: &ServerId) -> impl Iterator<Item = Number> {
        let held = self.servers.get(server).into_iter().flat_map(|server| &server.held);
        held.map(|&(_, number)| number)
    }

    pub(super) fn add_held(&mut self, server: &ServerId, held: Held) {
        if let Some(server) = self.servers.get_mut(server) {
            server.held.insert(held);
        }
    }

    pub(super) fn drop_held(&mut self, server: &ServerId, held: Held) {
        if let Some(found) = self.servers.get_mut(server) {
            found.held.remove(&held);
            if found.held.is_empty() {
                self.orphaned.remove(server);
            }
        }
    }

    /// A suspect was given to a server, and is on trial until this instant.
    pub(super) fn begin_trial(&mut self, server: &ServerId, job: Number, until: Timestamp) {
        self.trials.insert(job, Trial { server: server.clone(), until });
    }

    /// A job is held no longer. Says whether it was a suspect.
    pub(super) fn end_trial(&mut self, job: Number) -> bool {
        self.trials.remove(&job).is_some()
    }

    /// Whether any suspect is held, or a server is being emptied for one.
    pub(super) fn has_trials(&self) -> bool {
        !self.trials.is_empty() || self.emptied.is_some()
    }

    /// What decides whether a claim of a server is given a suspect.
    pub(super) fn suspicion(
        &self,
        server: &ServerId,
        waited: Option<Duration>,
        now: Timestamp,
    ) -> Suspicion {
        let on_trial = self.trials.values().filter(|trial| trial.until > now);
        let own = self.trials.values().filter(|trial| trial.server == *server).count();
        let held = self.servers.get(server).map_or(0, |server| server.held.len());
        let quiet_since = now.saturating_sub(QUIET_TIME);
        let emptied = self.emptied.as_ref().filter(|(_, until)| *until > now);
        Suspicion {
            waited,
            busy: held > own,
            on_trial_here: on_trial.clone().any(|trial| trial.server == *server),
            on_trial: on_trial.count() > 0,
            emptied_here: emptied.is_some_and(|(emptied, _)| emptied == server),
            another_empties: emptied.is_some_and(|(emptied, _)| emptied != server),
            crashed_lately: self.has_crashed_after(quiet_since, None),
        }
    }

    /// The server is being emptied for a suspect.
    pub(super) fn empty(&mut self, server: &ServerId, now: Timestamp) {
        self.emptied = Some((server.clone(), now.saturating_add(EMPTYING_MAX)));
    }

    /// A server has died, or was given its suspect.
    pub(super) fn stop_emptying(&mut self, server: &ServerId) {
        self.emptied.take_if(|(emptied, _)| emptied == server);
    }

    /// Whether a server has crashed after an instant, other than this one.
    fn has_crashed_after(&self, instant: Timestamp, but: Option<&ServerId>) -> bool {
        let crashed = self.servers.iter().filter(|(id, server)| {
            server.crashed_with.is_some() && server.died_at > Some(instant) && but != Some(*id)
        });
        crashed.count() > 0
    }

    /// How a server was lost to a job that it had claimed at this instant.
    fn loss(&self, server: &ServerId, claimed_at: Timestamp) -> Loss {
        match self.servers.get(server).and_then(|server| server.crashed_with) {
            None => Loss::Lapsed,
            Some(1) if !self.has_crashed_after(claimed_at, Some(server)) => Loss::CrashedAlone,
            Some(_) => Loss::Crashed,
        }
    }

    /// Declares dead what has outlived its lease.
    pub(super) fn declare_dead(&mut self, now: Timestamp) -> Vec<ServerId> {
        let mut dead = Vec::new();
        for (id, server) in &mut self.servers {
            if server.died_at.is_none() && server.lease_until() <= now {
                server.die(now);
                server.crashed_with = (!self.vouches).then_some(server.held.len());
                dead.push(id.clone());
                if !server.held.is_empty() {
                    self.orphaned.insert(id.clone());
                }
            }
        }
        dead
    }

    /// Takes a job from a dead server, the first that was claimed.
    pub(super) fn take_orphan(&mut self) -> Option<(ServerId, Number, Loss)> {
        let id = self.orphaned.first()?.clone();
        let server = self.servers.get_mut(&id)?;
        let (claimed_at, job) = server.held.pop_first()?;
        if server.held.is_empty() {
            self.orphaned.remove(&id);
        }
        let loss = self.loss(&id, claimed_at);
        Some((id, job, loss))
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
