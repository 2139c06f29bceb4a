//! What ties a job to other jobs and to rules: [`Ties`], stored with its body and as immutable as that.
//!
//! A plain job has none, and a storage then keeps, reads and writes nothing on their behalf.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::batch::BatchId;
use crate::clock::Timestamp;
use crate::continuation::{DEPENDENCIES_MAX, Dependency};
use crate::job::{InvalidJob, excerpt};
use crate::limit::{LIMITS_MAX, LimitUse};
use crate::recurring::RecurringId;
use crate::unique::{UNIQUE_KEY_BYTES_MAX, UniqueKey, UniqueScope};

/// What a job waits for, belongs to, and is limited by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Ties {
    /// What it waits for before it may run; at most [`DEPENDENCIES_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Dependency>,
    /// The batch it is a member of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// The key it holds alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<UniqueKey>,
    /// The limits it is under, besides those of its queue and its kind; at most [`LIMITS_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitUse>,
    /// The recurring job that fired it; set by the storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<Occurrence>,
}

/// Which run of a recurring job a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// Of which recurring job.
    pub recurring: RecurringId,
    /// The instant that the schedule named; for a run by hand the instant it was asked for.
    pub planned_at: Timestamp,
    /// Whether someone asked for it, outside of the schedule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub triggered: bool,
}

impl Ties {
    /// Whether the job is a plain one.
    pub fn is_empty(&self) -> bool {
        self.after.is_empty()
            && self.batch.is_none()
            && self.unique.is_none()
            && self.limits.is_empty()
            && self.occurrence.is_none()
    }

    /// Whether something else may not start, or not be stored, before the job's handler has ended: the job is
    /// under a limit, holds a unique key until its end, or is a run of a recurring job.
    ///
    /// A server reports the end of such an attempt only when the handler runs no more, also after a timeout.
    pub fn bar_others(&self) -> bool {
        let holds_key = |unique: &UniqueKey| matches!(unique.scope, UniqueScope::UntilFinished);
        !self.limits.is_empty()
            || self.unique.as_ref().is_some_and(holds_key)
            || self.occurrence.is_some()
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// The first bound that is broken, by name and with its limit.
    pub fn validate(&self) -> Result<(), InvalidJob> {
        validate_dependencies(&self.after)?;
        if let Some(unique) = &self.unique {
            validate_unique(unique)?;
        }
        if self.limits.len() > LIMITS_MAX {
            return Err(InvalidJob::TooManyLimits { count: self.limits.len() });
        }
        self.limits.iter().try_for_each(LimitUse::validate)
    }
}

pub(crate) fn validate_dependencies(after: &[Dependency]) -> Result<(), InvalidJob> {
    if after.len() > DEPENDENCIES_MAX {
        return Err(InvalidJob::TooManyDependencies { count: after.len() });
    }
    let mut seen = BTreeSet::new();
    match after.iter().find(|dependency| !seen.insert(dependency.on)) {
        Some(twice) => Err(InvalidJob::DependencyTwice { on: twice.on }),
        None => Ok(()),
    }
}

fn validate_unique(unique: &UniqueKey) -> Result<(), InvalidJob> {
    if !(1..=UNIQUE_KEY_BYTES_MAX).contains(&unique.key.len()) {
        return Err(InvalidJob::UniqueKey { key: excerpt(&unique.key), size: unique.key.len() });
    }
    match unique.scope {
        UniqueScope::Within(time) if time.is_zero() => {
            Err(InvalidJob::UniqueWithin { key: excerpt(&unique.key) })
        }
        _ => Ok(()),
    }
}
