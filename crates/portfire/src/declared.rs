//! The recurring job that a job's attribute declares: `#[job(cron = "0 3 * * *")]`.

use std::time::Duration;

use portfire_core::{
    Call, JobFn, Json, KindName, Misfire, NewRecurring, Overlap, Recurring, RecurringId, Schedule,
};

/// What an attribute says about its schedule.
#[derive(Clone, Debug)]
pub struct Declared {
    /// When it fires.
    pub schedule: Schedule,
    /// What is done about missed occurrences.
    pub misfire: Misfire,
    /// What is done about a run that has not ended.
    pub overlap: Overlap,
    /// Each run starts up to so much later.
    pub jitter: Duration,
}

impl Declared {
    /// A schedule with default rules.
    pub fn new(schedule: Schedule) -> Declared {
        let (misfire, overlap, jitter) = Default::default();
        Declared { schedule, misfire, overlap, jitter }
    }
}

/// The recurring job, named after the kind of its job.
pub fn declare<J: JobFn>(call: Call<J>, declared: Declared) -> NewRecurring {
    let Declared { schedule, misfire, overlap, jitter } = declared;
    let recurring = Recurring::new(J::KIND, schedule, call)
        .misfire(misfire)
        .overlap(overlap)
        .jitter(jitter)
        .into_definition();
    let mut definition = recurring.unwrap_or_else(|mistake| {
        // The macro has checked all of it. Should it have missed something, the server says so when it
        // starts: a mistake in words is no cron text.
        let schedule = Schedule::cron(mistake.to_string());
        let (id, kind) = (RecurringId::stored(J::KIND), KindName::stored(J::KIND));
        NewRecurring::new(id, schedule, kind, Json::empty())
    });
    definition.declared = true;
    definition
}
