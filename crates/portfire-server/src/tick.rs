//! For which planned instant a run of a recurring job is: [`Tick`].

use portfire_core::{RecurringId, Timestamp};

/// For which planned instant a job runs.
///
/// A run that comes late, or again after a failure, has the same one: use it rather than the present to
/// decide what to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// The instant that the schedule named. Of a run that someone asked for, the instant at which they
    /// did; of a job that no recurring job fired, when it was stored.
    pub nominal: Timestamp,
    /// The recurring job that fired it.
    pub recurring: Option<RecurringId>,
    /// Whether someone asked for this run, outside of the schedule.
    pub triggered: bool,
}

impl Tick {
    /// A tick at an instant that no schedule named: for tests of handlers.
    pub fn at(nominal: Timestamp) -> Tick {
        Tick { nominal, recurring: None, triggered: false }
    }
}
