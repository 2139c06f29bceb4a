//! Which groups of the contract the sequences make use of.

/// The groups that a sequence uses, so that a storage can be compared before it has all of them.
///
/// The plain life of jobs, queues and servers is always in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Jobs that wait for others.
    pub continuations: bool,
    /// Batches; they wait for jobs when `continuations` is set too.
    pub batches: bool,
    /// Unique keys.
    pub unique: bool,
    /// Limits of all sorts, and what holds back a job.
    pub limits: bool,
    /// Claims that take first what has waited long.
    pub aging: bool,
    /// Recurring jobs.
    pub recurring: bool,
    /// Locks.
    pub locks: bool,
    /// What running jobs say.
    pub notes: bool,
    /// Counters by kind, and the kinds of servers.
    pub kinds: bool,
}

impl Scope {
    /// All groups.
    pub const ALL: Scope = Scope {
        continuations: true,
        batches: true,
        unique: true,
        limits: true,
        aging: true,
        recurring: true,
        locks: true,
        notes: true,
        kinds: true,
    };
    /// None of them.
    pub const PLAIN: Scope = Scope {
        continuations: false,
        batches: false,
        unique: false,
        limits: false,
        aging: false,
        recurring: false,
        locks: false,
        notes: false,
        kinds: false,
    };
}
