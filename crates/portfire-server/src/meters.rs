//! What the server counts and measures for outside systems, through the `metrics` facade: [`Meters`].
//!
//! The names are in the table of the crate's documentation. Each handle is made once, so with no recorder
//! installed a job costs a few comparisons. Labels come from the program alone (its kinds, its queues):
//! what is stored cannot make their number grow.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};
use portfire_core::{ClaimedJob, Outcome, QueueName, Rescued, StateName};

use crate::registry::Registry;

/// The label of kinds that have no handler here, and of queues that the server does not serve.
const OTHER: &str = "other";

/// Most queues that gauges are kept for.
const QUEUES_MAX: usize = 200;

/// The calls of a storage that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Announce,
    Heartbeat,
    Verify,
    Retire,
    Cycle,
    Promote,
    DueRecurring,
    Fire,
    Rescue,
    Clean,
    ChangeRecurring,
    Read,
}

impl Call {
    const ALL: [Call; 12] = [
        Call::Announce,
        Call::Heartbeat,
        Call::Verify,
        Call::Retire,
        Call::Cycle,
        Call::Promote,
        Call::DueRecurring,
        Call::Fire,
        Call::Rescue,
        Call::Clean,
        Call::ChangeRecurring,
        Call::Read,
    ];

    const fn name(self) -> &'static str {
        match self {
            Call::Announce => "announce",
            Call::Heartbeat => "heartbeat",
            Call::Verify => "verify",
            Call::Retire => "retire",
            Call::Cycle => "cycle",
            Call::Promote => "promote",
            Call::DueRecurring => "due_recurring",
            Call::Fire => "fire",
            Call::Rescue => "rescue",
            Call::Clean => "clean",
            Call::ChangeRecurring => "change_recurring",
            Call::Read => "read",
        }
    }
}

/// Which kind and queue a job is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// The meters of one server.
pub(crate) struct Meters {
    /// By the numbers of the registry; the last is `other`.
    kind_labels: Vec<&'static str>,
    queues: HashMap<QueueName, usize>,
    queue_labels: Vec<String>,
    /// By kind and queue, made when first needed: most handlers have one queue.
    jobs: Vec<OnceLock<Box<JobMeters>>>,
    calls: Vec<CallMeters>,
    fenced: Counter,
    released: Counter,
    rescued: Counter,
    poisoned: Counter,
    dead_servers: Counter,
    leases_lost: Counter,
    jobs_lost: Counter,
    fired: Counter,
}

/// Of the jobs of one kind in one queue.
struct JobMeters {
    wait: Histogram,
    run: Histogram,
    outcomes: [Counter; OUTCOMES.len()],
}

/// Of one call of the storage.
struct CallMeters {
    seconds: Histogram,
    failed: Counter,
}

/// The labels of outcomes.
const OUTCOMES: [&str; 8] =
    ["succeeded", "retried", "failed", "snoozed", "parked", "released", "discarded", OTHER];

fn outcome(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Succeeded { .. } => 0,
        Outcome::Retry { .. } => 1,
        Outcome::Failed { .. } => 2,
        Outcome::Snoozed { .. } => 3,
        Outcome::Parked { .. } => 4,
        Outcome::Released => 5,
        Outcome::Discarded { .. } => 6,
        _ => 7,
    }
}

impl Meters {
    /// The meters of a server with these handlers that serves these queues, with the recorder that is
    /// installed now.
    pub(crate) fn new(registry: &Registry, queues: &[QueueName]) -> Meters {
        describe();
        let kinds = registry.iter().map(|entry| entry.descriptor.kind);
        let kind_labels: Vec<&'static str> = kinds.chain([OTHER]).collect();
        let names = queues.iter().map(|queue| queue.as_str().to_owned());
        let queue_labels: Vec<String> = names.chain([OTHER.to_owned()]).collect();
        let pairs = kind_labels.len() * queue_labels.len();
        let call = |call: Call| CallMeters {
            seconds: metrics::histogram!("portfire_storage_call_seconds", "call" => call.name()),
            failed: metrics::counter!("portfire_storage_call_failures_total", "call" => call.name()),
        };
        Meters {
            kind_labels,
            queues: queues.iter().cloned().zip(0..).collect(),
            queue_labels,
            jobs: std::iter::repeat_with(OnceLock::new).take(pairs).collect(),
            calls: Call::ALL.into_iter().map(call).collect(),
            fenced: metrics::counter!("portfire_outcomes_fenced_total"),
            released: metrics::counter!("portfire_jobs_released_total"),
            rescued: metrics::counter!("portfire_jobs_rescued_total"),
            poisoned: metrics::counter!("portfire_jobs_poisoned_total"),
            dead_servers: metrics::counter!("portfire_servers_dead_total"),
            leases_lost: metrics::counter!("portfire_leases_lost_total"),
            jobs_lost: metrics::counter!("portfire_jobs_lost_total"),
            fired: metrics::counter!("portfire_occurrences_fired_total"),
        }
    }

    /// What a job is counted under whose handler has this number.
    pub(crate) fn label(&self, kind: Option<usize>, queue: &QueueName) -> Label {
        let kind = kind.unwrap_or(self.kind_labels.len() - 1);
        let queue = self.queues.get(queue).copied().unwrap_or(self.queue_labels.len() - 1);
        Label(kind * self.queue_labels.len() + queue)
    }

    /// A job was claimed.
    pub(crate) fn claimed(&self, label: Label, job: &ClaimedJob) {
        self.job(label).wait.record(job.claimed_at.since(job.enqueued_at));
    }

    /// An outcome was stored of an attempt that ran so long.
    pub(crate) fn ended(&self, label: Label, ended: &Outcome, took: Duration) {
        let meters = self.job(label);
        meters.outcomes[outcome(ended)].increment(1);
        if !took.is_zero() {
            meters.run.record(took);
        }
    }

    /// A job went back that was fetched and not started.
    pub(crate) fn released(&self) {
        self.released.increment(1);
    }

    /// So many outcomes came too late.
    pub(crate) fn fenced(&self, count: usize) {
        self.fenced.increment(count as u64);
    }

    /// So many jobs were taken from this server.
    pub(crate) fn lost(&self, count: u64) {
        self.jobs_lost.increment(count);
    }

    /// The lease could not be renewed in time, or the storage has declared the server dead.
    pub(crate) fn lease_lost(&self) {
        self.leases_lost.increment(1);
    }

    /// What a rescue did.
    pub(crate) fn rescued(&self, rescued: &Rescued) {
        self.rescued.increment(u64::from(rescued.returned));
        self.poisoned.increment(u64::from(rescued.poisoned));
        self.dead_servers.increment(rescued.dead.len() as u64);
    }

    /// So many occurrences were fired.
    pub(crate) fn fired(&self, count: usize) {
        self.fired.increment(count as u64);
    }

    /// A call of the storage took so long.
    pub(crate) fn called(&self, call: Call, took: Duration, failed: bool) {
        let meters = &self.calls[call as usize];
        meters.seconds.record(took);
        if failed {
            meters.failed.increment(1);
        }
    }

    fn job(&self, label: Label) -> &JobMeters {
        self.jobs[label.0].get_or_init(|| {
            let kind = self.kind_labels[label.0 / self.queue_labels.len()];
            let queue = &self.queue_labels[label.0 % self.queue_labels.len()];
            let ended = |outcome: &'static str| {
                metrics::counter!(
                    "portfire_jobs_ended_total",
                    "kind" => kind, "queue" => queue.clone(), "outcome" => outcome,
                )
            };
            Box::new(JobMeters {
                wait: metrics::histogram!(
                    "portfire_job_wait_seconds", "kind" => kind, "queue" => queue.clone(),
                ),
                run: metrics::histogram!(
                    "portfire_job_run_seconds", "kind" => kind, "queue" => queue.clone(),
                ),
                outcomes: OUTCOMES.map(ended),
            })
        })
    }
}

/// The gauges of the queues. A queue that is seen once keeps its gauges, so that they can fall to zero.
#[derive(Default)]
pub(crate) struct QueueGauges {
    queues: HashMap<QueueName, QueueGauge>,
}

struct QueueGauge {
    states: Vec<(StateName, Gauge)>,
    oldest: Gauge,
}

impl QueueGauges {
    /// Whether gauges are kept for a queue; the first ones that are asked for have them.
    pub(crate) fn keep(&mut self, queue: &QueueName) -> bool {
        if !self.queues.contains_key(queue) && self.queues.len() < QUEUES_MAX {
            self.queues.insert(queue.clone(), QueueGauge::new(queue));
        }
        self.queues.contains_key(queue)
    }

    /// Sets the number of jobs of a queue in a state, and how long the one has waited that is next in line.
    pub(crate) fn set(
        &self,
        queue: &QueueName,
        count: impl Fn(StateName) -> u64,
        waited: Duration,
    ) {
        let Some(gauge) = self.queues.get(queue) else { return };
        for (state, gauge) in &gauge.states {
            gauge.set(count(*state) as f64);
        }
        gauge.oldest.set(waited.as_secs_f64());
    }
}

impl QueueGauge {
    fn new(queue: &QueueName) -> QueueGauge {
        let queue = queue.as_str().to_owned();
        let state = |state: StateName| {
            let gauge = metrics::gauge!(
                "portfire_queue_jobs", "queue" => queue.clone(), "state" => state.as_str(),
            );
            (state, gauge)
        };
        QueueGauge {
            states: StateName::ALL.into_iter().map(state).collect(),
            oldest: metrics::gauge!("portfire_queue_wait_seconds", "queue" => queue.clone()),
        }
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("portfire_jobs_ended_total", "Ends of attempts, by kind, queue and outcome");
    describe_histogram!("portfire_job_wait_seconds", Unit::Seconds, "From the queue to the claim");
    describe_histogram!("portfire_job_run_seconds", Unit::Seconds, "Runs of handlers");
    describe_counter!(
        "portfire_outcomes_fenced_total",
        "Outcomes that came too late and were dropped"
    );
    describe_counter!(
        "portfire_jobs_released_total",
        "Jobs that were fetched and given back unstarted"
    );
    describe_counter!(
        "portfire_jobs_lost_total",
        "Jobs that were taken from this server: deleted, or rescued"
    );
    describe_counter!(
        "portfire_jobs_rescued_total",
        "Jobs that this server returned from dead ones"
    );
    describe_counter!("portfire_jobs_poisoned_total", "Jobs that were given up as poison");
    describe_counter!("portfire_servers_dead_total", "Servers that this one declared dead");
    describe_counter!("portfire_leases_lost_total", "Times that this server's own lease ran out");
    describe_counter!(
        "portfire_occurrences_fired_total",
        "Runs of recurring jobs that this server fired"
    );
    describe_histogram!("portfire_storage_call_seconds", Unit::Seconds, "Calls of the storage");
    describe_counter!("portfire_storage_call_failures_total", "Calls of the storage that failed");
    describe_gauge!("portfire_queue_jobs", "Stored jobs by queue and state");
    describe_gauge!(
        "portfire_queue_wait_seconds",
        Unit::Seconds,
        "How long the next job of a queue has waited"
    );
}
