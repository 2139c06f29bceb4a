//! Which instant of its schedule a run is for: [`Tick`].

use crate::clock::Timestamp;
use crate::recurring::RecurringId;
use crate::ties::{Occurrence, Ties};

/// Which instant of its schedule a run is for: a parameter of type `Tick` gets it from the server.
///
/// A run may start late; its `nominal` instant does not. Compute from it, and a run that is repeated
/// does the same again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// The instant that the schedule named. Of a run that was asked for by hand the instant of asking,
    /// of a job that no recurring job fired the instant of its creation.
    pub nominal: Timestamp,
    /// Whether someone asked for this run, outside of any schedule.
    pub triggered: bool,
    /// The recurring job, if one fired it.
    pub recurring: Option<RecurringId>,
}

impl Tick {
    /// The tick of a job with these ties that was stored at this instant.
    pub fn of(ties: &Ties, created_at: Timestamp) -> Tick {
        match &ties.occurrence {
            Some(Occurrence { recurring, planned_at, triggered }) => Tick {
                nominal: *planned_at,
                triggered: *triggered,
                recurring: Some(recurring.clone()),
            },
            None => Tick { nominal: created_at, triggered: true, recurring: None },
        }
    }
}
