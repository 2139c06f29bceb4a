//! The server of Portfire: workers and services that run stored jobs reliably.

pub mod builder;
pub mod context;
pub mod filter;
pub mod handler;
pub mod perform;
pub mod registry;
pub mod runtime;
pub mod services;

pub use builder::{Problem, StartError};
pub use context::{CancellationSource, CancellationToken, JobContext};
pub use filter::{AppliedFilter, ElectFilter, Next, ServerFilter, filter_fn, filter_with};
pub use handler::{
    Handler, HandlerDefaults, HandlerResult, Invocation, JobDescriptor, JobSet, ParamShape,
};
pub use perform::Performer;
pub use registry::Registry;
pub use runtime::{Runtime, TaskHandle, TokioRuntime};
pub use services::{FromServices, Need, Scope, ServiceError, Services};
