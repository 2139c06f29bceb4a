//! How a client is put together: [`ClientBuilder`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::ids::{IdSource, os_random};
use crate::client::{Client, ClientFilter, Inner, TraceSource};
use crate::clock::{Clock, SystemClock};
use crate::storage::{BoxFuture, Storage};

/// Puts a [`Client`] together.
pub struct ClientBuilder {
    storage: Arc<dyn Storage>,
    filters: Vec<Arc<dyn ClientFilter>>,
    clock: Arc<dyn Clock>,
    entropy: Box<dyn Fn() -> u64 + Send + Sync>,
    traceparent: Option<TraceSource>,
    repeats: Option<Repeats>,
}

/// How a create is repeated to which the storage gives no answer.
pub(super) struct Repeats {
    /// How often it is sent in all.
    pub(super) attempts: u32,
    pub(super) sleep: Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Repeats {
    /// The wait after this attempt: anything up to 100 ms, twice as much after each, up to 10 s. So many clients do not
    /// come back together when a storage does ("full jitter": M. Brooker, *Exponential Backoff And Jitter*, AWS, 2015).
    pub(super) fn wait(&self, attempt: u32, random: u64) -> Duration {
        let doubled = 1 << attempt.saturating_sub(1).min(10);
        let most = FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT);
        most.mul_f64(random as f64 / u64::MAX as f64)
    }
}

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl ClientBuilder {
    pub(super) fn new(storage: Arc<dyn Storage>) -> ClientBuilder {
        ClientBuilder {
            storage,
            filters: Vec::new(),
            clock: Arc::new(SystemClock),
            entropy: Box::new(os_random),
            traceparent: None,
            repeats: None,
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

    /// Sends jobs and batches again to which the storage gives no answer, up to so many times in all, with the same ids: so
    /// each is stored once. Between two attempts it waits in `sleep`: up to 100 ms, twice as long after each, at most
    /// 10 s, by chance. Default: once, and the [error](super::ClientError::Unanswered) names the ids.
    ///
    /// Only what may have been stored is sent again. What the storage refuses is an error at once.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use portfire_core::{Client, MemoryStorage};
    /// # mod tokio { pub mod time { pub async fn sleep(_: std::time::Duration) {} } }
    /// let storage = Arc::new(MemoryStorage::new());
    /// let client = Client::builder(storage).repeat(5, |wait| Box::pin(tokio::time::sleep(wait))).build();
    /// ```
    #[must_use]
    pub fn repeat(
        mut self,
        attempts: u32,
        sleep: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> ClientBuilder {
        self.repeats = Some(Repeats { attempts, sleep: Box::new(sleep) });
        self
    }

    /// The client.
    pub fn build(self) -> Client {
        let ClientBuilder { storage, filters, clock, entropy, traceparent, repeats } = self;
        let ids = IdSource::new(entropy);
        let inner = Arc::new(Inner { storage, filters, clock, ids, traceparent, repeats });
        Client { inner, traceparent: None }
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("storage", &self.storage).finish_non_exhaustive()
    }
}
