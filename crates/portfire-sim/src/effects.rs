//! The log of effects: when which attempt of which job began and ended, as its handler saw it.
//! Kept outside of the storage and of the servers, so that neither can make itself look right.

use std::collections::{BTreeMap, BTreeSet};

use portfire_core::JobId;

use crate::executor::DomainId;

/// How a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It returned.
    Done,
    /// It failed, snoozed, panicked or noticed its cancellation.
    Undone,
}

/// One run of a handler.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) domain: DomainId,
    pub(crate) end: Option<End>,
}

impl Run {
    /// Whether the handler returned.
    pub(crate) fn is_done(&self) -> bool {
        self.end == Some(End::Done)
    }
}

/// All runs, by job and attempt.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    runs: BTreeMap<(JobId, u32), Run>,
    /// Attempts of whose end a filter has heard.
    heard: BTreeSet<(JobId, u32)>,
}

impl Effects {
    /// Notes a beginning; `false` when this attempt has begun before.
    pub(crate) fn begin(&mut self, job: JobId, attempt: u32, run: Run) -> bool {
        self.runs.insert((job, attempt), run).is_none()
    }

    /// Notes an end.
    pub(crate) fn end(&mut self, job: JobId, attempt: u32, end: End) {
        if let Some(run) = self.runs.get_mut(&(job, attempt)) {
            run.end = Some(end);
        }
    }

    /// How many handlers run.
    pub(crate) fn running(&self) -> usize {
        self.runs.values().filter(|run| run.end.is_none()).count()
    }

    /// Notes that a filter heard of the end of an attempt; `false` when one has before.
    pub(crate) fn hear(&mut self, job: JobId, attempt: u32) -> bool {
        self.heard.insert((job, attempt))
    }

    /// The run of an attempt.
    pub(crate) fn run(&self, job: JobId, attempt: u32) -> Option<&Run> {
        self.runs.get(&(job, attempt))
    }

    /// The runs of a job, by attempt.
    pub(crate) fn of(&self, job: JobId) -> impl Iterator<Item = (u32, &Run)> {
        self.runs.range((job, 0)..=(job, u32::MAX)).map(|(&(_, attempt), run)| (attempt, run))
    }
}
