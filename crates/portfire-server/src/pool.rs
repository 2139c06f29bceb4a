//! A pool: queues and the workers that take jobs from them.

use std::sync::OnceLock;

use crate::queues::QueueNames;

/// Queues of their own with workers of their own, inside a server. Pools do not wait for each other:
/// a flood in one leaves the workers of the others alone.
///
/// ```
/// use portfire_server::Pool;
/// let mail = Pool::new("mail").queues(["mail"]).workers(4).blocking_workers(1);
/// # let _ = mail;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a pool does nothing until it is given to a server"]
pub struct Pool {
    pub(crate) name: String,
    pub(crate) queues: QueueNames,
    pub(crate) workers: usize,
    pub(crate) blocking_workers: usize,
}

/// Most workers of one sort in a pool.
pub(crate) const WORKERS_MAX: usize = 10_000;

impl Pool {
    /// A pool of this name without queues, with default workers.
    pub fn new(name: impl Into<String>) -> Pool {
        let workers = default_workers();
        Pool {
            name: name.into(),
            queues: QueueNames::Strict(Vec::new()),
            workers,
            blocking_workers: workers,
        }
    }

    /// Takes jobs from these queues, from a later one only when the earlier ones are empty.
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Pool {
        self.queues = QueueNames::Strict(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Takes jobs from these queues in proportion to their weights, which are 1 to 1,000. No queue
    /// starves, and a queue's unused share goes to the others.
    pub fn weighted_queues<Q: Into<String>>(
        mut self,
        queues: impl IntoIterator<Item = (Q, u32)>,
    ) -> Pool {
        let named = |(queue, weight): (Q, u32)| (queue.into(), weight);
        self.queues = QueueNames::Weighted(queues.into_iter().map(named).collect());
        self
    }

    /// Runs so many async handlers at a time. Default: five for each core, at most 20.
    pub fn workers(mut self, workers: usize) -> Pool {
        self.workers = workers;
        self
    }

    /// Runs so many blocking handlers at a time, each on a thread. Default: as for async ones.
    ///
    /// Both sorts of jobs come from the same queues in their order: when all threads are taken and
    /// a round of jobs for them waits already, async jobs behind them wait too. Give slow blocking
    /// jobs a pool of their own.
    pub fn blocking_workers(mut self, workers: usize) -> Pool {
        self.blocking_workers = workers;
        self
    }
}

/// Hangfire's rule: five for each core, at most 20.
fn default_workers() -> usize {
    // Asked once: on Linux the answer takes a dozen system calls.
    static CORES: OnceLock<usize> = OnceLock::new();
    let count = || std::thread::available_parallelism().map_or(1, usize::from);
    (CORES.get_or_init(count) * 5).min(20)
}
