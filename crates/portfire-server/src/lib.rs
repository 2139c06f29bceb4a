//! The server of Portfire: workers and services that run stored jobs reliably.

pub mod context;
pub mod handler;
pub mod runtime;
pub mod services;

pub use context::{CancellationToken, JobContext};
pub use handler::{
    Handler, HandlerDefaults, HandlerResult, Invocation, JobDescriptor, JobSet, ParamShape,
};
pub use runtime::{Runtime, TaskHandle, TokioRuntime};
pub use services::{FromServices, Need, Scope, ServiceError, Services};
