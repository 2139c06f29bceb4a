//! The server's [`Runtime`] in the simulated world: one for each process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::BoxFuture;
use portfire_server::{Runtime, TaskHandle};

use crate::executor::{DomainId, Executor};

/// Time, tasks and randomness of one simulated process.
#[derive(Clone)]
pub(crate) struct SimRuntime {
    executor: Arc<Executor>,
    domain: DomainId,
}

impl SimRuntime {
    /// The runtime of a process.
    pub(crate) fn new(executor: Arc<Executor>, domain: DomainId) -> SimRuntime {
        SimRuntime { executor, domain }
    }
}

impl Runtime for SimRuntime {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        let started = self.executor.spawn(self.domain, name, task);
        let ended = started.ended();
        TaskHandle::new(move || started.abort(), ended)
    }

    fn spawn_apart(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        // No task holds another up here: each is one poll.
        self.spawn(name, task)
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.executor.spawn(self.domain, "blocking work", Box::pin(async move { work() }));
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.executor.sleep(self.domain, time))
    }

    fn elapsed(&self) -> Duration {
        self.executor.elapsed(self.domain)
    }

    fn random(&self) -> u64 {
        self.executor.random(self.domain)
    }

    fn process_id(&self) -> u32 {
        self.domain.number()
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimRuntime({})", self.domain)
    }
}
