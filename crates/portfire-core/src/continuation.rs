//! What a job waits for before it may run: [`Dependency`], an antecedent with a condition on its end.
//!
//! The first end of the antecedent decides. When the condition is met the dependency is fulfilled; when
//! all of a job's are, it is released. When one is not met the job is deleted, with a reason, and what
//! waits for that job is decided in turn. So nothing waits for ever for what cannot happen.

use serde::{Deserialize, Serialize};

use crate::batch::BatchId;
use crate::job::{JobId, Json};
use crate::state::{ErrorRecord, StateName};

/// Most dependencies of one job or batch.
pub const DEPENDENCIES_MAX: usize = 100;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Antecedent {
    /// The end of a job.
    Job(JobId),
    /// The end of a batch: all of its members are final.
    Batch(BatchId),
}

impl From<JobId> for Antecedent {
    fn from(job: JobId) -> Antecedent {
        Antecedent::Job(job)
    }
}

impl From<BatchId> for Antecedent {
    fn from(batch: BatchId) -> Antecedent {
        Antecedent::Batch(batch)
    }
}

impl std::fmt::Display for Antecedent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Antecedent::Job(job) => write!(f, "job {job}"),
            Antecedent::Batch(batch) => write!(f, "batch {batch}"),
        }
    }
}

/// Which end of the antecedent is waited for.
///
/// A batch ends `succeeded` when all members succeeded, `deleted` when it was cancelled, else `failed`.
/// Unlike in Hangfire, `failed` is an end: a continuation on [`End`](After::End) runs after it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// It succeeded.
    #[default]
    Success,
    /// It failed for the last time.
    Failure,
    /// It was deleted or discarded.
    Deletion,
    /// It ended, no matter how.
    End,
}

impl After {
    /// Whether an end in this final state is the one that is waited for.
    pub const fn is_met_by(self, end: StateName) -> bool {
        match self {
            After::Success => matches!(end, StateName::Succeeded),
            After::Failure => matches!(end, StateName::Failed),
            After::Deletion => matches!(end, StateName::Deleted),
            After::End => end.is_final(),
        }
    }

    /// The name in lower case, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            After::Success => "success",
            After::Failure => "failure",
            After::Deletion => "deletion",
            After::End => "end",
        }
    }
}

/// One thing that a job or a batch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dependency {
    /// What is waited for. It must be stored, or stand earlier in the call that creates the job.
    pub on: Antecedent,
    /// Which end of it.
    #[serde(default)]
    pub after: After,
    /// Whether its result or error is kept for the job that waits, see [`ParentOutcome`]. Of a batch
    /// only the state is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pass: bool,
}

impl Dependency {
    /// On the success of a job or a batch.
    pub fn on(antecedent: impl Into<Antecedent>) -> Dependency {
        Dependency { on: antecedent.into(), after: After::Success, pass: false }
    }

    /// On another end.
    #[must_use]
    pub const fn after(self, after: After) -> Dependency {
        Dependency { after, ..self }
    }

    /// Hands the antecedent's result or error to the job that waits.
    #[must_use]
    pub const fn passing(self) -> Dependency {
        Dependency { pass: true, ..self }
    }

    /// The reason with which a waiting job is deleted when the antecedent ended otherwise.
    pub fn unmet_reason(&self, end: StateName) -> String {
        format!("it was to run after {} of {}, which is {end}", self.after.as_str(), self.on)
    }
}

/// How a parent ended, as its continuation gets it; kept with the continuation, however long the parent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentOutcome {
    /// Which parent.
    pub parent: Antecedent,
    /// The final state in which it was when it released the continuation.
    pub state: StateName,
    /// What it returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRecord>,
}

/// A job that waits, or waited, for an antecedent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Continuation {
    /// The job that waits.
    pub job: JobId,
    /// For which end.
    pub after: After,
    /// Where the job stands now.
    pub state: StateName,
}
