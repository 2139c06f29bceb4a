//! The global client: Hangfire's static `BackgroundJob`, for code that cannot be handed a client.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock};

use portfire_core::{Call, Client, ClientError, JobFn, JobId, When};

static GLOBAL: RwLock<Option<Client>> = RwLock::new(None);

thread_local! {
    /// The client of the test that runs on this thread: tests run side by side in one process.
    static OF_THIS_THREAD: RefCell<Option<Client>> = const { RefCell::new(None) };
}

/// Sets the client that [`enqueue`] and [`schedule`] use, in place of an earlier one.
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
pub async fn enqueue<J: JobFn>(call: Call<J>) -> Result<JobId, ClientError> {
    global()?.enqueue(call).await
}

/// As [`Client::schedule`], with the [global](set_global) client.
///
/// # Errors
/// As there, and [`ClientError::NoGlobal`].
///
/// # Cancel safety
/// As there.
pub async fn schedule<J: JobFn>(
    call: Call<J>,
    when: impl Into<When>,
) -> Result<JobId, ClientError> {
    global()?.schedule(call, when).await
}

/// The [global](set_global) client for code without a runtime. Not for async code: it blocks the thread.
pub mod blocking {
    use super::*;

    /// As [`Client::enqueue`].
    ///
    /// # Errors
    /// As there, and [`ClientError::NoGlobal`].
    pub fn enqueue<J: JobFn>(call: Call<J>) -> Result<JobId, ClientError> {
        global()?.blocking().enqueue(call)
    }

    /// As [`Client::schedule`].
    ///
    /// # Errors
    /// As there, and [`ClientError::NoGlobal`].
    pub fn schedule<J: JobFn>(call: Call<J>, when: impl Into<When>) -> Result<JobId, ClientError> {
        global()?.blocking().schedule(call, when)
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
