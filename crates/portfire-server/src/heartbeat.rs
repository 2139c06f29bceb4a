//! Keeps the server's lease: [`Heartbeat`], on a thread of its own.
//!
//! It must not depend on anything that a handler can hold up, so it neither runs on the handlers'
//! threads nor waits for them. It renews the lease, hears which jobs were lost, fences the server
//! when the lease cannot be renewed in time, and announces the server anew, under another id, when
//! the storage has declared it dead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portfire_core::{Answer, CancelReason, Claim, Lost, StorageError, Wakeups};
use tokio::sync::watch;

use crate::core::Core;
use crate::in_hand::InHand;
use crate::lease::Holder;
use crate::meters::Call;
use crate::service::{Outage, jittered};
use crate::shutdown::{Phase, Shutdown};

/// Least time between two looks at which jobs were lost, however many hints come.
const VERIFY_GAP: Duration = Duration::from_millis(100);

/// The keeper of the lease.
pub(crate) struct Heartbeat {
    core: Arc<Core>,
    pools: Vec<Arc<InHand>>,
    wakeups: Wakeups,
    lease_changes: watch::Receiver<u64>,
    outage: Outage,
    next_beat: Duration,
    next_verify: Duration,
    /// Something may have been lost since the last look.
    verify_wanted: bool,
    /// The lease has lapsed and everything was cancelled for it.
    fenced: bool,
}

impl Heartbeat {
    /// The keeper of a lease that was granted just now.
    pub(crate) fn new(core: Arc<Core>, pools: Vec<Arc<InHand>>) -> Heartbeat {
        let wakeups = core.storage.wakeups();
        let lease_changes = core.lease.changes();
        let outage = Outage::new(Arc::clone(&core.runtime));
        let now = core.runtime.elapsed();
        let next_beat = now + core.options.heartbeat_interval;
        Heartbeat {
            core,
            pools,
            wakeups,
            lease_changes,
            outage,
            next_beat,
            next_verify: now,
            verify_wanted: false,
            fenced: false,
        }
    }

    /// Runs until the server has ended.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.reached(Phase::Ended) => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        loop {
            // First: after the process was stopped for a while, nothing may go on under a lease that
            // has lapsed meanwhile.
            self.fence_if_lapsed();
            let now = self.core.runtime.elapsed();
            self.core.heart.beat(now, self.core.options.heartbeat_interval);
            if self.core.lease.is_gone() {
                self.begin_anew().await;
            } else if now >= self.next_beat {
                self.beat().await;
            } else if self.verify_wanted && now >= self.next_verify {
                self.verify().await;
            } else {
                self.wait(now).await;
            }
        }
    }

    async fn wait(&mut self, now: Duration) {
        let mut until = self.next_beat;
        if self.verify_wanted {
            until = until.min(self.next_verify);
        }
        if !self.fenced {
            until = until.min(self.core.lease.valid_until().max(now));
        }
        tokio::select! {
            biased;
            changed = self.lease_changes.changed() => {
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            () = self.wakeups.control(), if !self.verify_wanted => self.verify_wanted = true,
            () = self.core.runtime.sleep(until.saturating_sub(now)) => {}
        }
    }

    async fn beat(&mut self) {
        let holder = self.core.lease.holder();
        let core = Arc::clone(&self.core);
        let sent_at = core.runtime.elapsed();
        let call = core.storage.heartbeat(holder.server, self.held());
        match self.ask(Call::Heartbeat, call).await {
            Ok(lost) => {
                self.outage.over("the heartbeat");
                self.core.tallies.heartbeats.fetch_add(1, Ordering::Relaxed);
                self.renewed(holder.incarnation, sent_at);
                let interval = self.core.options.heartbeat_interval;
                self.next_beat = sent_at + jittered(interval, self.core.runtime.random());
                self.lose(&lost);
            }
            Err(StorageError::ServerGone { .. }) => self.core.lease.gone(holder.incarnation),
            Err(error) => {
                let wait = self.outage.wait_after("the heartbeat", &error);
                self.next_beat = self.core.runtime.elapsed() + wait;
            }
        }
    }

    /// Asks at once which jobs were lost, because a hint came that some may be.
    async fn verify(&mut self) {
        self.verify_wanted = false;
        self.next_verify = self.core.runtime.elapsed() + VERIFY_GAP;
        let held = self.held();
        if held.is_empty() {
            return;
        }
        let holder = self.core.lease.holder();
        let core = Arc::clone(&self.core);
        match self.ask(Call::Verify, core.storage.verify(holder.server, held)).await {
            Ok(lost) => self.lose(&lost),
            Err(StorageError::ServerGone { .. }) => self.core.lease.gone(holder.incarnation),
            // The next heartbeat asks the same.
            Err(error) => tracing::debug!(%error, "could not ask which jobs were lost"),
        }
    }

    /// The storage has declared the server dead: its jobs are others' by now. It forgets them and
    /// goes on under a new id.
    async fn begin_anew(&mut self) {
        let dead = self.core.lease.holder().server;
        let holder = self.core.lease.reborn(self.core.new_server_id());
        self.pools.iter().for_each(|pool| pool.forget_all(&holder));
        let Holder { server, incarnation, .. } = holder;
        tracing::warn!(%dead, %server, "the server was declared dead; it goes on under a new id");
        loop {
            let core = Arc::clone(&self.core);
            let sent_at = core.runtime.elapsed();
            core.heart.beat(sent_at, core.options.heartbeat_interval);
            let call = core.storage.announce(core.announcement(server.clone()));
            match self.ask(Call::Announce, call).await {
                Ok(()) => {
                    self.outage.over("announcing the server");
                    self.renewed(incarnation, sent_at);
                    self.next_beat = sent_at + self.core.options.heartbeat_interval;
                    return;
                }
                // An announcement that was applied, not heard of, and lapsed meanwhile.
                Err(StorageError::ServerGone { .. }) => {
                    self.core.lease.gone(incarnation);
                    return;
                }
                Err(error) => {
                    let wait = self.outage.wait_after("announcing the server", &error);
                    self.core.runtime.sleep(wait).await;
                }
            }
        }
    }

    /// Makes a call, and keeps watch over the lease while it is under way.
    async fn ask<T>(&mut self, call: Call, answer: Answer<'_, T>) -> Result<T, StorageError> {
        let core = Arc::clone(&self.core);
        let mut call = std::pin::pin!(core.ask(call, answer));
        let runtime = &core.runtime;
        let limit = self.core.options.heartbeat_interval;
        let mut too_long = runtime.sleep(limit);
        loop {
            let now = runtime.elapsed();
            let lapses_in = self.core.lease.valid_until().saturating_sub(now);
            tokio::select! {
                biased;
                answer = call.as_mut() => return answer,
                () = &mut too_long => {
                    return Err(StorageError::unavailable(format!("no answer within {limit:?}")));
                }
                () = runtime.sleep(lapses_in), if !self.fenced => self.fence_if_lapsed(),
            }
        }
    }

    fn renewed(&mut self, incarnation: u64, sent_at: Duration) {
        self.core.lease.renewed(incarnation, sent_at);
        self.fenced = false;
        self.fence_if_lapsed();
        self.pools.iter().for_each(|pool| pool.resume());
    }

    /// Stops everything that runs when the lease may be over: another server may begin the same jobs.
    fn fence_if_lapsed(&mut self) {
        if self.fenced || self.core.lease.is_valid(self.core.runtime.elapsed()) {
            return;
        }
        self.fenced = true;
        self.core.meters.lease_lost();
        if !self.core.lease.is_gone() {
            tracing::error!(
                "the lease could not be renewed in time: what runs is cancelled, and nothing is started until it is"
            );
        }
        self.pools.iter().for_each(|pool| pool.cancel_all(CancelReason::LeaseLost));
    }

    fn held(&self) -> Vec<Claim> {
        let mut held = Vec::new();
        self.pools.iter().for_each(|pool| pool.held(&mut held));
        held
    }

    fn lose(&self, lost: &[Lost]) {
        if !lost.is_empty() {
            tracing::debug!(jobs = lost.len(), "jobs were taken from this server");
            let count = self.pools.iter().map(|pool| pool.lose(lost)).sum();
            self.core.meters.lost(count);
        }
    }
}
