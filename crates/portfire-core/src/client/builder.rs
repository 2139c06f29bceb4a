//! How a client is put together: [`ClientBuilder`].

use std::fmt;
use std::sync::Arc;

use crate::client::ids::{IdSource, os_random};
use crate::client::{Client, ClientFilter, Inner, TraceSource};
use crate::clock::{Clock, SystemClock};
use crate::storage::Storage;

/// Puts a [`Client`] together.
pub struct ClientBuilder {
    storage: Arc<dyn Storage>,
    filters: Vec<Arc<dyn ClientFilter>>,
    clock: Arc<dyn Clock>,
    entropy: Box<dyn Fn() -> u64 + Send + Sync>,
    traceparent: Option<TraceSource>,
}

impl ClientBuilder {
    pub(super) fn new(storage: Arc<dyn Storage>) -> ClientBuilder {
        ClientBuilder {
            storage,
            filters: Vec::new(),
            clock: Arc::new(SystemClock),
            entropy: Box::new(os_random),
            traceparent: None,
        }
    }

    /// Adds a filter; filters are asked in the order in which they were added.
    #[must_use]
    pub fn filter(mut self, filter: impl ClientFilter) -> ClientBuilder {
        self.filters.push(Arc::new(filter));
        self
    }

    /// Takes the time in ids from another clock. For tests and simulations.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> ClientBuilder {
        self.clock = clock;
        self
    }

    /// Takes the randomness in ids from another source. For simulations.
    #[must_use]
    pub fn entropy(mut self, entropy: impl Fn() -> u64 + Send + Sync + 'static) -> ClientBuilder {
        self.entropy = Box::new(entropy);
        self
    }

    /// Asks here for the W3C trace context (`traceparent`) of each job whose call names none: at the
    /// moment of the enqueue, on the thread that enqueues. A context that is no `traceparent` is refused
    /// with the job.
    #[must_use]
    pub fn traceparent(
        mut self,
        source: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> ClientBuilder {
        self.traceparent = Some(Box::new(source));
        self
    }

    /// The client.
    pub fn build(self) -> Client {
        let ClientBuilder { storage, filters, clock, entropy, traceparent } = self;
        let ids = IdSource::new(entropy);
        let inner = Arc::new(Inner { storage, filters, clock, ids, traceparent });
        Client { inner, traceparent: None }
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("storage", &self.storage).finish_non_exhaustive()
    }
}
