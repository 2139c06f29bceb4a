//! A running server: [`Server`], its tasks and its end.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portfire_core::{Client, ServerId, Storage, StorageError};
use tokio::sync::{oneshot, watch};

use crate::auditor::Auditor;
use crate::builder::{CheckedPool, Parts, ServerBuilder};
use crate::cleaner::Cleaner;
use crate::core::Core;
use crate::dispatcher::Dispatcher;
use crate::health::{Health, Pulse};
use crate::heartbeat::Heartbeat;
use crate::in_hand::InHand;
use crate::lane::{LaneName, Seat};
use crate::listener::Listener;
use crate::meters::Call;
use crate::problem::StartError;
use crate::process::{BackgroundProcess, ProcessContext, UserProcess};
use crate::promoter::Promoter;
use crate::rescuer::Rescuer;
use crate::runtime::TaskHandle;
use crate::sampler::Sampler;
use crate::scheduler::Scheduler;
use crate::service::{self, Service};
use crate::shutdown::{Phase, Shutdown, ShutdownReport, second_signal};
use crate::worker::Worker;

/// How long dropped handlers may take to be gone, and the retirement may take, once the time of a
/// shutdown is over.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// A server that runs jobs. Made by [`Server::builder`].
///
/// Dropping it ends it as a crash would: its jobs run again elsewhere when its lease has lapsed. End
/// it with [`shutdown`](Self::shutdown) or [`run_until`](Self::run_until).
#[must_use = "a server that is dropped is gone at once; keep it, and end it with `shutdown`"]
pub struct Server {
    core: Arc<Core>,
    pools: Vec<Arc<InHand>>,
    phase: watch::Sender<Phase>,
    tasks: Tasks,
    /// Of the services, by their names.
    pulses: Vec<(String, Arc<Pulse>)>,
}

/// What a server has done and does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Jobs that are fetched and wait for a worker.
    pub ready: u64,
    /// Jobs that run.
    pub running: u64,
    /// Jobs that were claimed since the start.
    pub claimed_total: u64,
    /// Outcomes that the storage took.
    pub finished_total: u64,
    /// Outcomes that came too late and were dropped.
    pub fenced_total: u64,
    /// Jobs that were given back unstarted.
    pub released_total: u64,
    /// Jobs that were taken from this server while it had them: deleted, or rescued by another.
    pub lost_total: u64,
    /// Calls of [`Storage::cycle`].
    pub cycles_total: u64,
    /// Heartbeats that the storage took.
    pub heartbeats_total: u64,
    /// How often the server was declared dead and went on under a new id.
    pub restarts_total: u64,
}

#[derive(Default)]
struct Tasks {
    workers: Vec<TaskHandle>,
    dispatchers: Vec<TaskHandle>,
    services: Vec<TaskHandle>,
    heartbeat: Option<TaskHandle>,
    /// Tells filters what moves, until it is told that the server has retired.
    listener: Option<(oneshot::Sender<()>, TaskHandle)>,
}

impl Server {
    /// Begins to put a server of this storage together.
    pub fn builder(storage: Arc<dyn Storage>) -> ServerBuilder {
        ServerBuilder::new(storage)
    }

    pub(crate) async fn start(parts: Parts) -> Result<Server, StartError> {
        let Parts { core, pools: checked, declared, processes } = parts;
        let core = Arc::new(core);
        // First: a server that cannot store what it declares does not begin to run anything.
        declared.store(&core).await?;
        let holder = core.lease.holder();
        let sent_at = core.runtime.elapsed();
        let announcement = core.announcement(holder.server);
        core.ask(Call::Announce, core.storage.announce(announcement)).await?;
        core.lease.renewed(holder.incarnation, sent_at);

        let (pools, phase) = (Vec::new(), watch::Sender::new(Phase::Running));
        let (tasks, pulses) = (Tasks::default(), Vec::new());
        let mut server = Server { core, pools, phase, tasks, pulses };
        for pool in checked {
            server.start_pool(pool);
        }
        server.start_heartbeat();
        server.start_services(processes);
        tracing::info!(server = %server.id(), "server started");
        Ok(server)
    }

    /// The id under which the server acts. It changes when the storage had declared it dead.
    pub fn id(&self) -> ServerId {
        self.core.lease.holder().server
    }

    /// A client of the server's storage: the one that handlers get.
    pub fn client(&self) -> &Client {
        self.core.performer.client()
    }

    /// What it has done and does.
    pub fn stats(&self) -> ServerStats {
        let tallies = &self.core.tallies;
        let mut stats = ServerStats {
            claimed_total: tallies.claimed.load(Ordering::Relaxed),
            finished_total: tallies.finished.load(Ordering::Relaxed),
            fenced_total: tallies.fenced.load(Ordering::Relaxed),
            cycles_total: tallies.cycles.load(Ordering::Relaxed),
            heartbeats_total: tallies.heartbeats.load(Ordering::Relaxed),
            restarts_total: self.core.lease.holder().incarnation - 1,
            ..ServerStats::default()
        };
        for counts in self.pools.iter().map(|pool| pool.counts()) {
            stats.ready += counts.ready as u64;
            stats.running += counts.running as u64;
            stats.released_total += counts.released;
            stats.lost_total += counts.lost;
        }
        stats
    }

    /// How it is. Asks nobody.
    pub fn health(&self) -> Health {
        let core = &self.core;
        let (now, phase) = (core.runtime.elapsed(), *self.phase.borrow());
        let patience = core.options.lease;
        let answered = core.answered.ago(now);
        let in_time = answered.is_some_and(|ago| ago <= core.options.lease);
        let services = self.pulses.iter();
        Health {
            live: phase < Phase::Ended && !core.heart.is_overdue(now, patience),
            ready: phase == Phase::Running && core.lease.is_valid(now) && in_time,
            server: self.id(),
            phase: phase.as_str(),
            lease: core.lease.valid_until().saturating_sub(now),
            storage_answered_ago: answered,
            services: services.map(|(name, pulse)| pulse.health(name, now, patience)).collect(),
        }
    }

    /// Claims nothing more; what it has is run to its end. For good: end it with
    /// [`shutdown`](Self::shutdown) when it suits.
    pub fn quiet(&self) {
        self.enter(Phase::Quiet);
    }

    /// Ends the server in good order; see [`shutdown`](crate::shutdown) for the phases.
    ///
    /// # Cancel safety
    /// Dropping the future drops the server: what then still runs is lost as in a crash.
    pub async fn shutdown(mut self) -> ShutdownReport {
        self.end_within(self.core.options.stop_timeout, self.core.options.shutdown_timeout).await
    }

    /// Runs until `stop` is ready, usually [`shutdown_signal()`](crate::shutdown_signal), and then
    /// [shuts down](Self::shutdown). A second signal of the process cuts the shutdown short: what
    /// still runs is given up at once.
    ///
    /// # Errors
    /// None so far; a server outlives the outages of its storage.
    ///
    /// # Cancel safety
    /// As [`shutdown`](Self::shutdown).
    pub async fn run_until(
        mut self,
        stop: impl Future<Output = ()>,
    ) -> Result<ShutdownReport, StartError> {
        stop.await;
        let (stop, all) = (self.core.options.stop_timeout, self.core.options.shutdown_timeout);
        let orderly = tokio::select! {
            biased;
            report = self.end_within(stop, all) => Some(report),
            () = second_signal() => None,
        };
        match orderly {
            Some(report) => Ok(report),
            None => {
                tracing::warn!("second signal: what still runs is given up");
                Ok(self.end_within(Duration::ZERO, Duration::ZERO).await)
            }
        }
    }

    async fn end_within(&mut self, stop_timeout: Duration, timeout: Duration) -> ShutdownReport {
        let began = self.core.runtime.elapsed();
        let before = self.stats();
        tracing::info!(server = %self.id(), "server stops");
        self.enter(Phase::Quiet);
        self.within(stop_timeout, self.idle()).await;

        self.enter(Phase::Stopping);
        self.pools.iter().for_each(|pool| pool.close());
        let took = self.core.runtime.elapsed().saturating_sub(began);
        self.within(timeout.saturating_sub(took), self.idle()).await;

        // A handler must be gone before its job is released: so the workers are dropped first.
        let overdue = self.pools.iter().map(|pool| pool.abandon()).sum();
        if overdue > 0 {
            tracing::warn!(jobs = overdue, "jobs did not end in time and are given up");
        }
        let Tasks { workers, services, .. } = &mut self.tasks;
        let dropped: Vec<TaskHandle> = services.drain(..).chain(workers.drain(..)).collect();
        dropped.iter().for_each(TaskHandle::abort);
        self.within(LAST_STEPS, ended(dropped)).await;
        // What has ended in the last moment is still reported.
        self.within(LAST_STEPS, self.idle()).await;
        self.tasks.dispatchers.iter().for_each(TaskHandle::abort);
        let released = self.stats().released_total - before.released_total;
        let retired = self.retire().await;
        if let Some((tell, listener)) = self.tasks.listener.take() {
            // It may have ended by a panic of its own.
            let _ = tell.send(());
            self.within(LAST_STEPS, listener.ended()).await;
        }
        let took = self.core.runtime.elapsed().saturating_sub(began);
        ShutdownReport { released, overdue, retired, took }
    }

    /// Ends the lease. The heartbeat stops first: it would take the retirement for a death.
    async fn retire(&mut self) -> bool {
        self.enter(Phase::Ended);
        if let Some(heartbeat) = self.tasks.heartbeat.take() {
            self.within(LAST_STEPS, heartbeat.ended()).await;
        }
        let mut outage = service::Outage::new(Arc::clone(&self.core.runtime));
        let retired = self.within(LAST_STEPS, async {
            while let Err(error) = self.retired().await {
                let wait = outage.wait_after("retiring the server", &error);
                self.core.runtime.sleep(wait).await;
            }
        });
        let retired = retired.await;
        match retired {
            true => tracing::info!(server = %self.id(), "server has stopped"),
            false => tracing::warn!(
                server = %self.id(),
                "the storage did not take the end of this server; its jobs return when its lease has lapsed"
            ),
        }
        retired
    }

    async fn retired(&self) -> Result<(), StorageError> {
        self.core.ask(Call::Retire, self.core.storage.retire(self.id())).await
    }

    /// Waits until no pool has anything to run or to report.
    async fn idle(&self) {
        for pool in &self.pools {
            pool.idle().await;
        }
    }

    /// Whether something ends in time.
    async fn within(&self, time: Duration, what: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = what => true,
            () = self.core.runtime.sleep(time) => false,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let forward = *now < phase;
            if forward {
                *now = phase;
            }
            forward
        });
    }

    fn start_pool(&mut self, pool: CheckedPool) {
        let CheckedPool { queues, workers, blocking_workers } = pool;
        let in_hand = Arc::new(InHand::new(
            Arc::clone(&self.core.lease),
            Arc::clone(&self.core.runtime),
            workers,
            blocking_workers,
        ));
        let seats = (0..workers).map(|slot| Seat { lane: LaneName::Async, slot });
        let blocking = (0..blocking_workers).map(|slot| Seat { lane: LaneName::Blocking, slot });
        for seat in seats.chain(blocking) {
            let worker = Worker::new(Arc::clone(&self.core), Arc::clone(&in_hand), seat);
            let task = self.core.runtime.spawn("portfire worker", Box::pin(worker.run()));
            self.tasks.workers.push(task);
        }
        let (core, pool) = (Arc::clone(&self.core), Arc::clone(&in_hand));
        let dispatcher = Dispatcher::new(core, pool, queues, self.shutdown_view());
        let task = self.core.runtime.spawn("portfire dispatcher", Box::pin(dispatcher.run()));
        self.tasks.dispatchers.push(task);
        self.pools.push(in_hand);
    }

    fn start_heartbeat(&mut self) {
        let heartbeat = Heartbeat::new(Arc::clone(&self.core), self.pools.clone());
        let run = Box::pin(heartbeat.run(self.shutdown_view()));
        self.tasks.heartbeat = Some(self.core.runtime.spawn_apart("portfire-heartbeat", run));
    }

    fn start_services(&mut self, processes: Vec<Arc<dyn BackgroundProcess>>) {
        let core = Arc::clone(&self.core);
        if core.options.schedulers {
            self.start_service(Promoter::new(Arc::clone(&core)));
            self.start_service(Scheduler::new(Arc::clone(&core)));
            self.start_service(Rescuer::new(Arc::clone(&core)));
            self.start_service(Cleaner::new(Arc::clone(&core)));
        }
        if core.is_heard {
            let (retired, hears_of_it) = oneshot::channel();
            let run = Listener::new(Arc::clone(&core)).run(hears_of_it);
            let task = core.runtime.spawn("portfire listener", Box::pin(run));
            self.tasks.listener = Some((retired, task));
        }
        if let Some(interval) = core.options.sample_interval {
            self.start_service(Sampler::new(core, interval));
        }
        self.start_service(Auditor::new(Arc::clone(&self.core), self.pools.clone()));
        for process in processes {
            let context = ProcessContext::new(self.client().clone(), self.shutdown_view());
            // What a user's process does may take as long as it likes.
            self.start_passes(UserProcess::new(process, context), None);
        }
    }

    /// Starts a service whose passes are calls of the storage.
    fn start_service(&mut self, service: impl Service + 'static) {
        self.start_passes(service, Some(self.core.options.lease));
    }

    fn start_passes(&mut self, service: impl Service + 'static, limit: Option<Duration>) {
        let runtime = Arc::clone(&self.core.runtime);
        let pulse = Arc::new(Pulse::begun(runtime.elapsed()));
        self.pulses.push((service.name().to_owned(), Arc::clone(&pulse)));
        let run = service::run(service, runtime, self.shutdown_view(), limit, pulse);
        self.tasks.services.push(self.core.runtime.spawn("portfire service", Box::pin(run)));
    }

    fn shutdown_view(&self) -> Shutdown {
        Shutdown::new(&self.phase, Arc::clone(&self.core.runtime))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.enter(Phase::Ended);
        // The listener hears of the end by itself, and tells what is left.
        let Tasks { workers, dispatchers, services, heartbeat, listener: _ } = &self.tasks;
        let tasks = workers.iter().chain(dispatchers).chain(services).chain(heartbeat);
        tasks.for_each(TaskHandle::abort);
        self.pools.iter().for_each(|pool| pool.clear());
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("id", &self.id())
            .field("phase", &*self.phase.borrow())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

async fn ended(tasks: Vec<TaskHandle>) {
    for task in tasks {
        task.ended().await;
    }
}
