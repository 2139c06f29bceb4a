//! What keeps a server from starting, all of it at once: [`StartError`].

use std::fmt;
use std::time::Duration;

use portfire_core::StorageError;

/// A server that could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It was put together wrongly: the whole list.
    #[error("the server cannot start: {}", list(.0))]
    Invalid(Vec<Problem>),
    /// The storage did not take its announcement.
    #[error("the server cannot start: {0}")]
    Storage(#[from] StorageError),
}

impl StartError {
    /// What is wrong with how the server was put together; empty when that was not the reason.
    pub fn problems(&self) -> &[Problem] {
        match self {
            StartError::Invalid(problems) => problems,
            StartError::Storage(_) => &[],
        }
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  - {problem}")).collect()
}

/// One thing that keeps a server from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// There is no job to run.
    NoJobs,
    /// Two functions have the same kind, or one has the other's as an alias.
    DuplicateKind {
        /// The kind.
        kind: &'static str,
        /// Where the first is.
        first: &'static str,
        /// Where the second is.
        second: &'static str,
    },
    /// A job's attribute says something illegal.
    BadJob {
        /// Its kind.
        kind: &'static str,
        /// Where it is.
        location: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Handlers need a service that was not given.
    MissingService {
        /// The type of the service.
        service: &'static str,
        /// The kinds that need it.
        kinds: Vec<&'static str>,
    },
    /// A pool has an illegal queue.
    BadQueue {
        /// The pool.
        pool: String,
        /// What is wrong.
        reason: String,
    },
    /// A pool has no queue.
    NoQueues {
        /// The pool.
        pool: String,
    },
    /// A pool can run nothing, or something that is registered cannot run in any pool.
    NoWorkers {
        /// The pool.
        pool: String,
        /// What is wrong.
        reason: String,
    },
    /// Two pools have the same name.
    DuplicatePool {
        /// The name.
        pool: String,
    },
    /// The lease is too short for the heartbeat.
    ShortLease {
        /// The lease.
        lease: Duration,
        /// The time between heartbeats.
        heartbeat_interval: Duration,
    },
    /// A setting is out of its bounds.
    BadSetting {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A recurring job that code declares cannot be stored.
    BadRecurring {
        /// Its name.
        recurring: String,
        /// Where it is declared.
        location: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// There is no runtime to run in.
    NoRuntime,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoJobs => f.write_str(
                "there is no job to run: put `#[job]` on a function; when the jobs are in another \
                 crate that is otherwise unused, the linker drops them: name them with `.register(jobs![…])`",
            ),
            Problem::DuplicateKind { kind, first, second } => write!(
                f,
                "two jobs are called `{kind}`, at {first} and at {second}: rename one with `#[job(name = \"…\")]`"
            ),
            Problem::BadJob { kind, location, reason } => {
                write!(f, "job `{kind}` at {location}: {reason}")
            }
            Problem::MissingService { service, kinds } => write!(
                f,
                "no service `{service}`, needed by {}: add it with `Services::with` or `with_factory`",
                kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ")
            ),
            Problem::BadQueue { pool, reason } => write!(f, "pool `{pool}`: {reason}"),
            Problem::NoQueues { pool } => {
                write!(f, "pool `{pool}` has no queue: name at least one with `.queues([…])`")
            }
            Problem::NoWorkers { pool, reason } => write!(f, "pool `{pool}`: {reason}"),
            Problem::DuplicatePool { pool } => {
                write!(f, "two pools are called `{pool}`: the pool of the server itself is `main`")
            }
            Problem::ShortLease { lease, heartbeat_interval } => write!(
                f,
                "a lease of {lease:?} is too short for a heartbeat every {heartbeat_interval:?}: \
                 it must be more than twice as long, so that one lost heartbeat does no harm"
            ),
            Problem::BadSetting { name, reason } => write!(f, "`{name}`: {reason}"),
            Problem::BadRecurring { recurring, location, reason } => {
                write!(f, "recurring job `{recurring}`, declared at {location}: {reason}")
            }
            Problem::NoRuntime => f.write_str(
                "there is no runtime: start the server inside of tokio (`#[tokio::main]`), or give it one with `.runtime(…)`",
            ),
        }
    }
}
