//! The global client: Hangfire's static `BackgroundJob`, for code that cannot be handed a client.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock};

use portfire_core::{
    After, Antecedent, Batch, BatchChanged, BatchId, Call, Changed, Client, ClientError,
    ContinueWith, Created, Enqueue, JobFn, JobId, Recurring, RecurringJob, Schedule, Upserted,
    When,
};

static GLOBAL: RwLock<Option<Client>> = RwLock::new(None);

thread_local! {
    /// The client of the test that runs on this thread: tests run side by side in one process.
    static OF_THIS_THREAD: RefCell<Option<Client>> = const { RefCell::new(None) };
}

/// Sets the client that [`enqueue`] and its like use, in place of an earlier one.
pub fn set_global(client: Client) {
    *GLOBAL.write().unwrap_or_else(PoisonError::into_inner) = Some(client);
}

/// The client that was set by [`set_global`]. In a `#[portfire::test]` it is the test's own.
///
/// # Errors
/// [`ClientError::NoGlobal`] when none was set.
pub fn global() -> Result<Client, ClientError> {
    if let Some(client) = OF_THIS_THREAD.with_borrow(Option::clone) {
        return Ok(client);
    }
    let client = GLOBAL.read().unwrap_or_else(PoisonError::into_inner);
    client.clone().ok_or(ClientError::NoGlobal)
}

/// As [`Client::enqueue`], with the [global](set_global) client.
///
/// # Errors
/// As there, and [`ClientError::NoGlobal`].
///
/// # Cancel safety
/// As there.
pub async fn enqueue(call: impl Enqueue) -> Result<JobId, ClientError> {
    global()?.enqueue(call).await
}

/// As [`Client::enqueue_unique`], with the [global](set_global) client.
///
/// # Errors
/// As there, and [`ClientError::NoGlobal`].
///
/// # Cancel safety
/// As there.
pub async fn enqueue_unique(call: impl Enqueue) -> Result<Created, ClientError> {
    global()?.enqueue_unique(call).await
}

/// As [`Client::enqueue_many`], with the [global](set_global) client.
///
/// # Errors
/// As there, and [`ClientError::NoGlobal`].
///
/// # Cancel safety
/// As there.
pub async fn enqueue_many<E: Enqueue>(
    calls: impl IntoIterator<Item = E>,
) -> Result<Vec<JobId>, ClientError> {
    global()?.enqueue_many(calls).await
}

/// As [`Client::schedule`], with the [global](set_global) client.
///
/// # Errors
/// As there, and [`ClientError::NoGlobal`].
///
/// # Cancel safety
/// As there.
pub async fn schedule(call: impl Enqueue, when: impl Into<When>) -> Result<JobId, ClientError> {
    global()?.schedule(call, when).await
}

/// As [`Client::continue_with`], with the [global](set_global) client:
/// `portfire::continue_with(id, audit("welcomed"))?.on(After::End).await?`.
///
/// # Errors
/// [`ClientError::NoGlobal`].
pub fn continue_with<E: Enqueue>(
    parent: impl Into<Antecedent>,
    call: E,
) -> Result<ContinueWith<E>, ClientError> {
    Ok(global()?.continue_with(parent, call))
}

/// As [`Client::batch`], with the [global](set_global) client:
/// `portfire::batch("import")?.add_all(calls).enqueue().await?`.
///
/// # Errors
/// [`ClientError::NoGlobal`].
pub fn batch<'a>(description: impl Into<String>) -> Result<Batch<'a, Client>, ClientError> {
    Ok(global()?.batch(description))
}

/// As [`Client::add_to_batch`], with the [global](set_global) client.
///
/// # Errors
/// As there, and [`ClientError::NoGlobal`].
///
/// # Cancel safety
/// As there.
pub async fn add_to_batch(batch: BatchId, call: impl Enqueue) -> Result<JobId, ClientError> {
    global()?.add_to_batch(batch, call).await
}

/// As [`Client::cancel_batch`], with the [global](set_global) client.
///
/// # Errors
/// As there, and [`ClientError::NoGlobal`].
pub async fn cancel_batch(batch: BatchId) -> Result<BatchChanged, ClientError> {
    global()?.cancel_batch(batch).await
}

/// As [`Client::recurring`], with the [global](set_global) client (Hangfire's `RecurringJob`):
/// `portfire::recurring("nightly", "0 3 * * *", sweep())?.upsert().await?`.
///
/// # Errors
/// [`ClientError::NoGlobal`].
pub fn recurring<J: JobFn>(
    id: &str,
    schedule: impl Into<Schedule>,
    call: Call<J>,
) -> Result<Recurring<Client>, ClientError> {
    Ok(global()?.recurring(id, schedule, call))
}

/// As [`Client::recurring_job`], with the [global](set_global) client:
/// `portfire::recurring_job("nightly")?.trigger().await?`.
///
/// # Errors
/// [`ClientError::NoGlobal`].
pub fn recurring_job(id: &str) -> Result<RecurringJob, ClientError> {
    Ok(global()?.recurring_job(id))
}

/// As [`Client::requeue`], with the [global](set_global) client.
///
/// # Errors
/// As there, and [`ClientError::NoGlobal`].
pub async fn requeue(job: JobId) -> Result<Changed, ClientError> {
    global()?.requeue(job).await
}

/// As [`Client::delete`], with the [global](set_global) client.
///
/// # Errors
/// As there, and [`ClientError::NoGlobal`].
pub async fn delete(job: JobId) -> Result<Changed, ClientError> {
    global()?.delete(job).await
}

/// The [global](set_global) client for code without a runtime. Not for async code: it blocks the thread.
///
/// What is not here is a method of the blocking client: `portfire::global()?.blocking()`.
pub mod blocking {
    use super::*;

    /// As [`Client::enqueue`].
    ///
    /// # Errors
    /// As there, and [`ClientError::NoGlobal`].
    pub fn enqueue(call: impl Enqueue) -> Result<JobId, ClientError> {
        global()?.blocking().enqueue(call)
    }

    /// As [`Client::enqueue_unique`].
    ///
    /// # Errors
    /// As there, and [`ClientError::NoGlobal`].
    pub fn enqueue_unique(call: impl Enqueue) -> Result<Created, ClientError> {
        global()?.blocking().enqueue_unique(call)
    }

    /// As [`Client::enqueue_many`].
    ///
    /// # Errors
    /// As there, and [`ClientError::NoGlobal`].
    pub fn enqueue_many<E: Enqueue>(
        calls: impl IntoIterator<Item = E>,
    ) -> Result<Vec<JobId>, ClientError> {
        global()?.blocking().enqueue_many(calls)
    }

    /// As [`Client::schedule`].
    ///
    /// # Errors
    /// As there, and [`ClientError::NoGlobal`].
    pub fn schedule(call: impl Enqueue, when: impl Into<When>) -> Result<JobId, ClientError> {
        global()?.blocking().schedule(call, when)
    }

    /// As [`Client::continue_with`], after this end of the parent.
    ///
    /// # Errors
    /// As there, and [`ClientError::NoGlobal`].
    pub fn continue_with(
        parent: impl Into<Antecedent>,
        on: After,
        call: impl Enqueue,
    ) -> Result<JobId, ClientError> {
        global()?.blocking().continue_with(parent, on, call)
    }

    /// As [`Batch::enqueue`].
    ///
    /// # Errors
    /// As there, and [`ClientError::NoGlobal`].
    pub fn enqueue_batch<C>(batch: Batch<'_, C>) -> Result<BatchId, ClientError> {
        global()?.blocking().enqueue_batch(batch)
    }

    /// As [`Recurring::upsert`].
    ///
    /// # Errors
    /// As there, and [`ClientError::NoGlobal`].
    pub fn upsert<C>(recurring: Recurring<C>) -> Result<Upserted, ClientError> {
        global()?.blocking().upsert(recurring)
    }

    /// As [`RecurringJob::trigger`], of the recurring job of this name.
    ///
    /// # Errors
    /// As there, and [`ClientError::NoGlobal`].
    pub fn trigger(id: &str) -> Result<JobId, ClientError> {
        global()?.blocking().recurring_job(id).trigger()
    }
}

/// Makes a client the global one of this thread until it is dropped.
#[derive(Debug)]
pub(crate) struct ThreadGlobal {
    before: Option<Client>,
}

impl ThreadGlobal {
    pub(crate) fn set(client: Client) -> ThreadGlobal {
        ThreadGlobal { before: OF_THIS_THREAD.replace(Some(client)) }
    }
}

impl Drop for ThreadGlobal {
    fn drop(&mut self) {
        OF_THIS_THREAD.replace(self.before.take());
    }
}
