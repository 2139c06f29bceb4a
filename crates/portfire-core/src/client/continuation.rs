//! Continuations: [`ContinueWith`], made by [`Client::continue_with`](super::Client::continue_with).

use std::fmt;
use std::future::IntoFuture;

use crate::call::Enqueue;
use crate::client::{Client, ClientError};
use crate::continuation::{After, Antecedent, Dependency};
use crate::job::{JobId, When};
use crate::storage::BoxFuture;

/// A call that is to be stored as a continuation. Awaiting it stores it.
#[must_use = "nothing is stored until it is awaited"]
pub struct ContinueWith<E> {
    pub(super) client: Client,
    pub(super) parent: Antecedent,
    pub(super) after: After,
    pub(super) what: E,
}

impl<E: Enqueue> ContinueWith<E> {
    /// Which end of the parent is waited for. Default: [`After::Success`].
    pub fn on(self, after: After) -> ContinueWith<E> {
        ContinueWith { after, ..self }
    }

    /// Waits so long after that end, or until an instant if that is later.
    pub fn delay(mut self, when: impl Into<When>) -> ContinueWith<E> {
        self.what.head().when = when.into();
        self
    }

    pub(super) async fn store(mut self) -> Result<JobId, ClientError> {
        let parent = Dependency::on(self.parent).after(self.after);
        self.what.head().after.push(parent);
        self.client.enqueue(self.what).await
    }
}

/// Stores the continuation and answers its id; of a chain that of the last job.
///
/// # Errors
/// As [`Client::enqueue`]; a parent that is not stored is
/// [`InvalidJob::NoAntecedent`](crate::InvalidJob::NoAntecedent).
///
/// # Cancel safety
/// As [`Client::enqueue`].
impl<E: Enqueue + Send + 'static> IntoFuture for ContinueWith<E> {
    type Output = Result<JobId, ClientError>;
    type IntoFuture = BoxFuture<'static, Result<JobId, ClientError>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.store())
    }
}

impl<E> fmt::Debug for ContinueWith<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContinueWith")
            .field("parent", &self.parent)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}
