//! What a continuation learns of its parent: [`ParentResult`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::continuation::{Antecedent, ParentOutcome};
use crate::state::{ErrorRecord, StateName};

/// What a parent returned, or how it ended instead: `#[parent] outcome: ParentResult<Rows>`.
pub type ParentResult<T> = Result<T, ParentError>;

/// How a parent ended that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParentError {
    /// Which parent.
    pub parent: Antecedent,
    /// Its final state: failed or deleted. A cancelled batch counts as deleted.
    pub state: StateName,
    /// What went wrong; nothing is known of a batch, or of a job that was deleted by hand.
    pub error: Option<ErrorRecord>,
}

impl ParentError {
    /// What is known of a parent that did not succeed.
    pub fn new(outcome: &ParentOutcome) -> ParentError {
        ParentError { parent: outcome.parent, state: outcome.state, error: outcome.error.clone() }
    }
}

impl fmt::Display for ParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.parent, self.state)?;
        match &self.error {
            Some(error) => write!(f, ": {}: {}", error.class, error.message),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParentError {}
