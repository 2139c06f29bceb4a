//! The server of Portfire: workers and services that run stored jobs reliably.
//!
//! A reader begins with [`worker`]: it tells the life of a job, step by step, and names the files in
//! which each step is taken. [`Performer`] runs one claimed job and decides its outcome;
//! [`shutdown`] tells how a server ends.
//!
//! # What it tells
//!
//! **Spans** of `tracing`. Events inside of them are those of handlers and of the server; with the feature
//! `capture` the layer `Capture` puts what a handler says into its job's log.
//!
//! | span | level | fields |
//! |---|---|---|
//! | `portfire.job` | info | `job_id`, `kind`, `queue`, `attempt`, `server`, `traceparent` (the W3C context of who enqueued it) |
//! | `portfire.service` | debug | `service`: what is done, as in [`Health`] |
//!
//! **Metrics** through the `metrics` facade, to the recorder that is installed when the server starts.
//! A kind is the name of a handler here, or `other`; a queue is one that the server serves, or `other`;
//! so what is stored cannot make labels grow without end. Counters end in `_total`, times are in seconds.
//!
//! | metric | sort | labels | what |
//! |---|---|---|---|
//! | `portfire_jobs_ended_total` | counter | `kind`, `queue`, `outcome` | attempts whose end is stored, once each; `outcome` is `succeeded`, `retried`, `failed`, `snoozed`, `parked`, `released` or `discarded` |
//! | `portfire_job_wait_seconds` | histogram | `kind`, `queue` | from the entry into the queue to the claim |
//! | `portfire_job_run_seconds` | histogram | `kind`, `queue` | how long handlers ran |
//! | `portfire_jobs_released_total` | counter | | jobs that were fetched and given back unstarted |
//! | `portfire_jobs_lost_total` | counter | | jobs that were taken from this server while it had them |
//! | `portfire_outcomes_fenced_total` | counter | | outcomes that came too late and were dropped |
//! | `portfire_jobs_rescued_total`, `portfire_jobs_poisoned_total` | counter | | jobs of dead servers that this one returned, or gave up |
//! | `portfire_servers_dead_total` | counter | | servers that this one declared dead |
//! | `portfire_leases_lost_total` | counter | | times that this server could not renew its own lease |
//! | `portfire_occurrences_fired_total` | counter | | runs of recurring jobs that this server created |
//! | `portfire_storage_call_seconds` | histogram | `call` | calls of the storage by this server |
//! | `portfire_storage_call_failures_total` | counter | `call` | those that failed |
//! | `portfire_queue_jobs` | gauge | `queue`, `state` | stored jobs; every server tells the same, so take the maximum; at most 200 queues |
//! | `portfire_queue_wait_seconds` | gauge | `queue` | how long the job has waited that is next in line |
//!
//! **Health** for probes: [`Server::health`].
//!
//! Everything reaches time, tasks and randomness through [`Runtime`], and the storage through
//! [`Storage`](portfire_core::Storage), so the simulator runs exactly this code in virtual time.

mod auditor;
pub mod bar;
pub mod builder;
pub mod cancellation;
#[cfg(feature = "capture")]
pub mod capture;
mod cleaner;
pub mod context;
mod core;
mod declared;
mod desk;
mod dispatcher;
pub mod filter;
pub mod handler;
pub mod health;
mod heartbeat;
mod in_hand;
mod innermost;
mod lane;
mod lease;
mod listener;
mod meters;
mod notebook;
mod panics;
pub mod perform;
pub mod pool;
mod prefetch;
pub mod problem;
pub mod process;
mod promoter;
mod queues;
pub mod registry;
mod rescuer;
pub mod runtime;
mod sampler;
mod scheduler;
pub mod server;
mod service;
pub mod services;
pub mod shutdown;
pub mod tick;
pub mod worker;

pub use bar::Bar;
pub use builder::ServerBuilder;
pub use cancellation::{CancellationSource, CancellationToken};
#[cfg(feature = "capture")]
pub use capture::Capture;
pub use context::JobContext;
pub use filter::{
    AppliedFilter, ElectFilter, KindFilters, Next, ServerFilter, filter_fn, filter_with,
};
pub use handler::{
    Handler, HandlerDefaults, HandlerResult, Invocation, JobDescriptor, JobSet, ParamShape,
};
pub use health::{Health, ServiceHealth};
pub use perform::{Performed, Performer};
pub use pool::Pool;
pub use problem::{Problem, StartError};
pub use process::{BackgroundProcess, ProcessContext, process_fn};
pub use registry::Registry;
pub use runtime::{Runtime, TaskHandle, TokioRuntime};
pub use server::{Server, ServerStats};
pub use services::{FromServices, Need, Scope, ServiceError, Services};
pub use shutdown::{Phase, Shutdown, ShutdownReport, shutdown_signal};
pub use tick::Tick;
