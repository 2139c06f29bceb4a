//! The server of Portfire: workers and services that run stored jobs reliably.
//!
//! A reader begins with [`worker`]: it tells the life of a job, step by step, and names the files in
//! which each step is taken. [`Performer`] runs one claimed job and decides its outcome;
//! [`shutdown`] tells how a server ends.
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
mod lane;
mod lease;
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
pub use filter::{AppliedFilter, ElectFilter, Next, ServerFilter, filter_fn, filter_with};
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
