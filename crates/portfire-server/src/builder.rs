//! Puts a server together: [`ServerBuilder`] checks everything at once, then starts it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::{Client, Limits, QueueName, RescueRequest, RetryPolicy, Storage};

use crate::core::Core;
use crate::declared::Declared;
use crate::filter::{AppliedFilter, ElectFilter, ServerFilter};
use crate::handler::{JobDescriptor, linked_jobs};
use crate::perform::{Performer, RESULT_BYTES_MAX, UNKNOWN_KIND_DELAY, UNKNOWN_KIND_GRACE};
use crate::pool::{Pool, WORKERS_MAX};
use crate::problem::{Problem, StartError};
use crate::process::BackgroundProcess;
use crate::queues::QueueOrder;
use crate::registry::Registry;
use crate::runtime::{Runtime, TokioRuntime};
use crate::server::Server;
use crate::services::Services;

/// The name of the pool that every server has.
const MAIN_POOL: &str = "main";

/// Puts a [`Server`] together. Made by [`Server::builder`].
#[must_use = "a server does not run until it is started"]
pub struct ServerBuilder {
    storage: Arc<dyn Storage>,
    options: Options,
    main: Pool,
    pools: Vec<Pool>,
    jobs: Option<Vec<&'static JobDescriptor>>,
    services: Services,
    filters: Vec<Arc<dyn ServerFilter>>,
    elect: Vec<Arc<dyn ElectFilter>>,
    applied: Vec<Arc<dyn AppliedFilter>>,
    processes: Vec<Arc<dyn BackgroundProcess>>,
    retry: RetryPolicy,
    unknown_kind_delay: Duration,
    unknown_kind_grace: Duration,
    result_bytes_max: usize,
    app: Option<String>,
    runtime: Option<Arc<dyn Runtime>>,
    client: Option<Client>,
}

/// The settings that the parts of a running server read.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) name: String,
    /// Of all pools.
    pub(crate) queues: Vec<QueueName>,
    /// Of all pools and both sorts.
    pub(crate) workers: u32,
    pub(crate) lease: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) rescue_interval: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) clean_interval: Duration,
    pub(crate) recoveries_max: u32,
    pub(crate) aging: Option<Duration>,
    pub(crate) schedulers: bool,
    pub(crate) sample_interval: Option<Duration>,
    pub(crate) stop_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
}

/// A pool whose settings are checked.
pub(crate) struct CheckedPool {
    pub(crate) queues: QueueOrder,
    pub(crate) workers: usize,
    pub(crate) blocking_workers: usize,
}

/// What was checked, with what came of it.
struct Checked {
    registry: Registry,
    pools: Vec<CheckedPool>,
    declared: Declared,
    runtime: Arc<dyn Runtime>,
}

/// A server whose settings are checked.
pub(crate) struct Parts {
    pub(crate) core: Core,
    pub(crate) pools: Vec<CheckedPool>,
    pub(crate) declared: Declared,
    pub(crate) processes: Vec<Arc<dyn BackgroundProcess>>,
}

impl ServerBuilder {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> ServerBuilder {
        ServerBuilder {
            storage,
            options: Options::default(),
            main: Pool::new(MAIN_POOL).queues(["default"]),
            pools: Vec::new(),
            jobs: None,
            services: Services::new(),
            filters: Vec::new(),
            elect: Vec::new(),
            applied: Vec::new(),
            processes: Vec::new(),
            retry: RetryPolicy::default(),
            unknown_kind_delay: UNKNOWN_KIND_DELAY,
            unknown_kind_grace: UNKNOWN_KIND_GRACE,
            result_bytes_max: RESULT_BYTES_MAX,
            app: None,
            runtime: None,
            client: None,
        }
    }

    /// The name that people see. Several servers may have the same. Default: the host's name where
    /// the environment tells it, else `server`.
    pub fn name(mut self, name: impl Into<String>) -> ServerBuilder {
        self.options.name = name.into();
        self
    }

    /// What handlers can ask for.
    pub fn services(mut self, services: Services) -> ServerBuilder {
        self.services = services;
        self
    }

    /// Takes jobs from these queues, from a later one only when the earlier ones are empty.
    /// Default: `default`.
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> ServerBuilder {
        self.main = self.main.queues(queues);
        self
    }

    /// Takes jobs from these queues in proportion to their weights. See [`Pool::weighted_queues`].
    pub fn weighted_queues<Q: Into<String>>(
        mut self,
        queues: impl IntoIterator<Item = (Q, u32)>,
    ) -> ServerBuilder {
        self.main = self.main.weighted_queues(queues);
        self
    }

    /// Runs so many async handlers at a time. Default: five for each core, at most 20.
    pub fn workers(mut self, workers: usize) -> ServerBuilder {
        self.main = self.main.workers(workers);
        self
    }

    /// Runs so many blocking handlers at a time. Default: as for async ones. See
    /// [`Pool::blocking_workers`].
    pub fn blocking_workers(mut self, workers: usize) -> ServerBuilder {
        self.main = self.main.blocking_workers(workers);
        self
    }

    /// Adds queues of their own with workers of their own.
    pub fn pool(mut self, pool: Pool) -> ServerBuilder {
        self.pools.push(pool);
        self
    }

    /// Runs these jobs, and no others than those that are registered so. Default: all jobs that are
    /// linked into the program.
    pub fn register(
        mut self,
        jobs: impl IntoIterator<Item = &'static JobDescriptor>,
    ) -> ServerBuilder {
        self.jobs.get_or_insert_default().extend(jobs);
        self
    }

    /// Retries failures by this policy where neither the call nor the handler's attribute says
    /// anything. Default: [`RetryPolicy::default`], Hangfire's.
    pub fn retry(mut self, policy: RetryPolicy) -> ServerBuilder {
        self.retry = policy;
        self
    }

    /// Runs this filter around every handler, inside of those added before.
    pub fn filter(mut self, filter: impl ServerFilter) -> ServerBuilder {
        self.filters.push(Arc::new(filter));
        self
    }

    /// Lets this filter replace outcomes, after those added before.
    pub fn elect(mut self, filter: impl ElectFilter) -> ServerBuilder {
        self.elect.push(Arc::new(filter));
        self
    }

    /// Tells this filter of outcomes once they are stored.
    pub fn applied(mut self, filter: impl AppliedFilter) -> ServerBuilder {
        self.applied.push(Arc::new(filter));
        self
    }

    /// Runs this process as long as the server runs.
    pub fn process(mut self, process: impl BackgroundProcess) -> ServerBuilder {
        self.processes.push(Arc::new(process));
        self
    }

    /// How long the server is alive without a heartbeat. Default: 30 s.
    ///
    /// After a crash its jobs run again when the lease has lapsed and somebody has looked for it.
    /// More than two heartbeats long.
    pub fn lease(mut self, lease: Duration) -> ServerBuilder {
        self.options.lease = lease;
        self
    }

    /// Time between two heartbeats. Default: 10 s. Each is one small write.
    pub fn heartbeat_interval(mut self, interval: Duration) -> ServerBuilder {
        self.options.heartbeat_interval = interval;
        self
    }

    /// Time between two looks for dead servers. Default: 5 s.
    pub fn rescue_interval(mut self, interval: Duration) -> ServerBuilder {
        self.options.rescue_interval = interval;
        self
    }

    /// Longest time until a job is noticed whose wake-up was lost. Default: 1 s.
    pub fn poll_interval(mut self, interval: Duration) -> ServerBuilder {
        self.options.poll_interval = interval;
        self
    }

    /// Time between two looks for expired jobs. Default: 60 s.
    pub fn clean_interval(mut self, interval: Duration) -> ServerBuilder {
        self.options.clean_interval = interval;
        self
    }

    /// Crashes that a job alone can have caused, and may survive before it is failed as poison. Default: 3. A crash
    /// of a server that held other jobs, too, is counted for none: see [`suspects`](portfire_core::suspects).
    pub fn recoveries_max(mut self, recoveries: u32) -> ServerBuilder {
        self.options.recoveries_max = recoveries;
        self
    }

    /// How long jobs may run on undisturbed when the server stops. Default: 500 ms.
    pub fn stop_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.options.stop_timeout = timeout;
        self
    }

    /// How long a shutdown may take in all. Default: 15 s. What still runs then is given up.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.options.shutdown_timeout = timeout;
        self
    }

    /// The wait of a job that this server was given and has no handler of: that happens to a server without any
    /// handlers only, because others are given jobs of their kinds alone. Default: 30 s.
    pub fn unknown_kind_delay(mut self, delay: Duration) -> ServerBuilder {
        self.unknown_kind_delay = delay;
        self
    }

    /// How long no live server must have had a handler of a job's kind before the job is failed, with an error that
    /// says so. Default: 24 h. Time in which no server was alive does not count. It is looked after by every server
    /// that [rescues](portfire_core::Storage::rescue), by its own setting: give all the same.
    pub fn unknown_kind_grace(mut self, grace: Duration) -> ServerBuilder {
        self.unknown_kind_grace = grace;
        self
    }

    /// Takes jobs that have waited so long in their queue before those of higher priority, the one that
    /// has waited longest first, so that a flood of important jobs starves no other. Default: priorities
    /// are strict.
    pub fn aging(mut self, after: Duration) -> ServerBuilder {
        self.options.aging = Some(after);
        self
    }

    /// The name of the application: 1 to 128 bytes. It owns the recurring jobs that its code declares
    /// (`#[job(cron = …)]`), so that applications on one storage do not touch each other's.
    ///
    /// When the server starts, recurring jobs that the application declared once and does not any more
    /// are removed: so all servers of an application are to have the same jobs. Default: no name; what is
    /// declared is stored, and nothing is removed.
    pub fn app(mut self, name: impl Into<String>) -> ServerBuilder {
        self.app = Some(name.into());
        self
    }

    /// The largest result that is kept, in bytes of JSON. Default: 1 MiB.
    ///
    /// A job whose result is larger, or cannot be JSON at all, succeeds without one, because its handler
    /// has done its work; its log says so.
    pub fn result_bytes_max(mut self, bytes: usize) -> ServerBuilder {
        self.result_bytes_max = bytes;
        self
    }

    /// Whether the server promotes scheduled jobs, fires recurring ones, rescues the jobs of dead servers,
    /// and cleans up. Default: it does. Without it the server only runs jobs, and needs another server of
    /// the storage for the rest.
    pub fn schedulers(mut self, schedulers: bool) -> ServerBuilder {
        self.options.schedulers = schedulers;
        self
    }

    /// Time between two looks at the queues for the gauges; `None` for never. Default: 15 s. Each is a few
    /// small reads.
    pub fn sample_interval(mut self, interval: impl Into<Option<Duration>>) -> ServerBuilder {
        self.options.sample_interval = interval.into();
        self
    }

    /// Runs in this runtime. Default: the tokio runtime that [`start`](Self::start) is called in.
    pub fn runtime(mut self, runtime: Arc<dyn Runtime>) -> ServerBuilder {
        self.runtime = Some(runtime);
        self
    }

    /// Gives handlers this client, for instance one with filters. Default: a plain one.
    pub fn client(mut self, client: Client) -> ServerBuilder {
        self.client = Some(client);
        self
    }

    /// Checks everything without starting anything.
    ///
    /// # Errors
    /// [`StartError::Invalid`] with everything that is wrong.
    pub fn check(&self) -> Result<(), StartError> {
        self.checked().map(|_| ()).map_err(StartError::Invalid)
    }

    /// Announces the server and starts its workers and services.
    ///
    /// # Errors
    /// [`StartError::Invalid`] with everything that is wrong, before anything was done;
    /// [`StartError::Storage`] when the storage did not take the announcement.
    ///
    /// # Cancel safety
    /// Dropping the future may leave an announced server behind, which holds no job and is
    /// forgotten when its lease has lapsed.
    pub async fn start(self) -> Result<Server, StartError> {
        let parts = self.into_parts().map_err(StartError::Invalid)?;
        Server::start(parts).await
    }

    fn into_parts(self) -> Result<Parts, Vec<Problem>> {
        let Checked { registry, pools, declared, runtime } = self.checked()?;
        let client = self.client.unwrap_or_else(|| Client::new(Arc::clone(&self.storage)));
        let mut performer = Performer::new(registry, self.services, client, Arc::clone(&runtime))
            .retry(self.retry)
            .unknown_kind_delay(self.unknown_kind_delay)
            .unknown_kind_grace(self.unknown_kind_grace)
            .result_bytes_max(self.result_bytes_max);
        performer = self.filters.into_iter().fold(performer, Performer::filter);
        performer = self.elect.into_iter().fold(performer, Performer::elect);
        let options = Options {
            queues: all_queues(&pools),
            workers: pools.iter().map(|pool| (pool.workers + pool.blocking_workers) as u32).sum(),
            ..self.options
        };
        let core = Core::new(self.storage, runtime, performer, self.applied, options);
        Ok(Parts { core, pools, declared, processes: self.processes })
    }

    fn checked(&self) -> Result<Checked, Vec<Problem>> {
        let mut problems = Vec::new();
        let registry = self.checked_jobs(&mut problems);
        let limits = Limits { args_bytes_max: self.storage.info().args_bytes_max };
        let app = self.app.as_deref();
        let declared = Declared::collect(&registry, app, &limits, &mut problems);
        let pools = self.checked_pools(&registry, &mut problems);
        self.options.check(&mut problems);
        self.check_retries(&mut problems);
        let current =
            || TokioRuntime::try_current().map(|tokio| Arc::new(tokio) as Arc<dyn Runtime>);
        let runtime = self.runtime.clone().or_else(current);
        if runtime.is_none() {
            problems.push(Problem::NoRuntime);
        }
        match runtime {
            Some(runtime) if problems.is_empty() => {
                Ok(Checked { registry, pools, declared, runtime })
            }
            _ => Err(problems),
        }
    }

    fn checked_jobs(&self, problems: &mut Vec<Problem>) -> Registry {
        let jobs = self.jobs.clone().unwrap_or_else(linked_jobs);
        if jobs.is_empty() {
            problems.push(Problem::NoJobs);
        }
        let (registry, mut wrong) = Registry::collect(jobs);
        problems.append(&mut wrong);
        problems.append(&mut registry.missing_services(&self.services));
        registry
    }

    fn checked_pools(&self, registry: &Registry, problems: &mut Vec<Problem>) -> Vec<CheckedPool> {
        let mut checked = Vec::new();
        let any_blocking = registry.iter().any(|job| job.is_blocking());
        let all: Vec<&Pool> = std::iter::once(&self.main).chain(&self.pools).collect();
        for (at, pool) in all.iter().enumerate() {
            if all[..at].iter().any(|before| before.name == pool.name) {
                problems.push(Problem::DuplicatePool { pool: pool.name.clone() });
            }
            check_workers(pool, any_blocking, problems);
            // Threads that no handler needs are neither started nor announced.
            let blocking_workers = if any_blocking { pool.blocking_workers } else { 0 };
            match pool.queues.order() {
                Ok(queues) if queues.is_empty() => {
                    problems.push(Problem::NoQueues { pool: pool.name.clone() });
                }
                Ok(queues) => {
                    checked.push(CheckedPool { queues, workers: pool.workers, blocking_workers })
                }
                Err(reasons) => problems.extend(
                    reasons
                        .into_iter()
                        .map(|reason| Problem::BadQueue { pool: pool.name.clone(), reason }),
                ),
            }
        }
        checked
    }

    fn check_retries(&self, problems: &mut Vec<Problem>) {
        if let Err(error) = self.retry.validate() {
            problems.push(Problem::BadSetting { name: "retry", reason: error.to_string() });
        }
        if self.unknown_kind_delay.is_zero() {
            problems.push(zero("unknown_kind_delay"));
        }
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("storage", &self.storage)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            name: host_name(),
            queues: Vec::new(),
            workers: 0,
            lease: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(10),
            rescue_interval: Duration::from_secs(5),
            poll_interval: Duration::from_secs(1),
            clean_interval: Duration::from_secs(60),
            recoveries_max: RescueRequest::default().recoveries_max,
            aging: None,
            schedulers: true,
            sample_interval: Some(Duration::from_secs(15)),
            stop_timeout: Duration::from_millis(500),
            shutdown_timeout: Duration::from_secs(15),
        }
    }
}

impl Options {
    fn check(&self, problems: &mut Vec<Problem>) {
        if self.name.is_empty() || self.name.len() > 128 {
            let reason = format!("a name has 1 to 128 bytes, and this has {}", self.name.len());
            problems.push(Problem::BadSetting { name: "name", reason });
        }
        let intervals = [
            ("heartbeat_interval", self.heartbeat_interval),
            ("rescue_interval", self.rescue_interval),
            ("poll_interval", self.poll_interval),
            ("clean_interval", self.clean_interval),
            ("sample_interval", self.sample_interval.unwrap_or(Duration::MAX)),
        ];
        for (name, _) in intervals.iter().filter(|(_, interval)| interval.is_zero()) {
            problems.push(zero(name));
        }
        if self.lease <= self.heartbeat_interval.saturating_mul(2) {
            let (lease, heartbeat_interval) = (self.lease, self.heartbeat_interval);
            problems.push(Problem::ShortLease { lease, heartbeat_interval });
        }
        if self.stop_timeout > self.shutdown_timeout {
            let (stop, shutdown) = (self.stop_timeout, self.shutdown_timeout);
            let reason =
                format!("{stop:?} is longer than the whole `shutdown_timeout` of {shutdown:?}");
            problems.push(Problem::BadSetting { name: "stop_timeout", reason });
        }
    }
}

fn zero(name: &'static str) -> Problem {
    let reason = "zero would do it without a pause: give it at least a millisecond".to_owned();
    Problem::BadSetting { name, reason }
}

fn check_workers(pool: &Pool, any_blocking: bool, problems: &mut Vec<Problem>) {
    let mut refuse = |reason: String| {
        problems.push(Problem::NoWorkers { pool: pool.name.clone(), reason });
    };
    if pool.workers == 0 {
        refuse("it has no workers: `.workers(n)` takes at least 1".to_owned());
    }
    if pool.blocking_workers == 0 && any_blocking {
        refuse(
            "it has no blocking workers, but there are jobs that are not async: \
             `.blocking_workers(n)` takes at least 1 then"
                .to_owned(),
        );
    }
    let most = pool.workers.max(pool.blocking_workers);
    if most > WORKERS_MAX {
        refuse(format!("it has {most} workers, and at most {WORKERS_MAX} of a sort are taken"));
    }
}

fn all_queues(pools: &[CheckedPool]) -> Vec<QueueName> {
    let mut queues = Vec::new();
    for queue in pools.iter().flat_map(|pool| pool.queues.names()) {
        if !queues.contains(queue) {
            queues.push(queue.clone());
        }
    }
    queues
}

fn host_name() -> String {
    let named = ["HOSTNAME", "COMPUTERNAME"].into_iter().find_map(|key| std::env::var(key).ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "server".to_owned())
}
