//! Jobs that are methods of a service: what `#[jobs]` implements, and `client.on::<Service>()`.

use std::fmt;
use std::marker::PhantomData;

use portfire_core::{
    Antecedent, Call, Client, ClientError, ContinueWith, Enqueue, JobFn, JobId, Recurring,
    Schedule, When,
};

/// A service with jobs. Implemented by `#[jobs]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no jobs",
    note = "put `#[jobs]` on an impl block of the type"
)]
pub trait JobService: 'static {
    /// The makers of calls: one method for each job, with the parameters that callers pass.
    type Jobs;

    /// The makers of calls; `Service::job()` is the same.
    fn jobs() -> Self::Jobs;
}

/// Adds [`on`](ClientExt::on) to the client.
pub trait ClientExt {
    /// The client for the jobs of one service, as Hangfire's `Enqueue<EmailService>(x => x.Send(..))`:
    /// `client.on::<EmailService>().enqueue(|x| x.send("a@b.c")).await?`.
    fn on<S: JobService>(&self) -> On<'_, S>;
}

impl ClientExt for Client {
    fn on<S: JobService>(&self) -> On<'_, S> {
        On { client: self, service: PhantomData }
    }
}

/// A client for the jobs of one service. Made by [`ClientExt::on`].
pub struct On<'a, S> {
    client: &'a Client,
    service: PhantomData<fn() -> S>,
}

impl<S: JobService> On<'_, S> {
    /// As [`Client::enqueue`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn enqueue<E: Enqueue>(
        &self,
        call: impl FnOnce(S::Jobs) -> E,
    ) -> Result<JobId, ClientError> {
        let call = call(S::jobs());
        self.client.enqueue(call).await
    }

    /// As [`Client::schedule`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn schedule<E: Enqueue>(
        &self,
        call: impl FnOnce(S::Jobs) -> E,
        when: impl Into<When>,
    ) -> Result<JobId, ClientError> {
        let call = call(S::jobs());
        self.client.schedule(call, when).await
    }
}

impl<S: JobService> On<'_, S> {
    /// As [`Client::continue_with`].
    pub fn continue_with<E: Enqueue>(
        &self,
        parent: impl Into<Antecedent>,
        call: impl FnOnce(S::Jobs) -> E,
    ) -> ContinueWith<E> {
        self.client.continue_with(parent, call(S::jobs()))
    }

    /// As [`Client::recurring`].
    pub fn recurring<J: JobFn>(
        &self,
        id: &str,
        schedule: impl Into<Schedule>,
        call: impl FnOnce(S::Jobs) -> Call<J>,
    ) -> Recurring<Client> {
        self.client.recurring(id, schedule, call(S::jobs()))
    }
}

impl<S> fmt::Debug for On<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("On").field("service", &std::any::type_name::<S>()).finish_non_exhaustive()
    }
}
