//! What a job waits for before it may run: [`Dependency`], an antecedent with a condition on its end.
//!
//! The first end that decides counts. When the condition is met the dependency is fulfilled; when all of a job's are, it
//! is released. When one cannot be met any more the job is deleted, with a reason, and what waits for that job is decided
//! in turn. So nothing waits for ever for what cannot happen.
//!
//! Success and deletion decide everything. A failure decides only what waits for a failure or for any end: that is
//! released, once. **A failed parent is not at its end**: what waits for its success stays `awaiting`, also when it is
//! created then. It is released when the parent is requeued and succeeds, and deleted when the parent is deleted or its
//! retention ends. So an operator can repair the cause of a failure, requeue, and the chain goes on, as continuations of
//! Hangfire do and the `success` callbacks of Sidekiq's batches. [`explain`](crate::explain) and
//! [`problems`](crate::problems) tell who waits for what has failed.

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
/// Unlike in Hangfire, a continuation on [`End`](After::End) runs after `failed` too. What waits for success or deletion
/// waits on then.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// It succeeded.
    #[default]
    Success,
    /// It failed, and is not tried again by itself.
    Failure,
    /// It was deleted or discarded, or it had failed and its retention has ended.
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

    /// Whether who waits for this waits on after an end in this final state: a failed job may still be requeued and
    /// succeed, or be deleted. A batch that has failed for good is past that.
    pub const fn is_open_after(self, end: StateName) -> bool {
        matches!((self, end), (After::Success | After::Deletion, StateName::Failed))
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

    /// The reason with which a waiting job is deleted when the batch that it waits for has failed for good.
    pub fn unmet_for_good(&self) -> String {
        let (after, on) = (self.after.as_str(), self.on);
        format!(
            "it was to run after {after} of {on}, which has failed for good: a member was deleted"
        )
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
