//! Waiting for a lock: [`LockExt`].

use std::future::Future;
use std::time::Instant;

use portfire_core::{BoxFuture, ClientError, Lock, LockGuard};
use tokio::runtime::Handle;

/// Adds [`acquire`](LockExt::acquire) to [`Lock`], in a tokio runtime.
pub trait LockExt {
    /// Takes the lock, and waits for it as long as [`Lock::wait`] says.
    ///
    /// ```
    /// # use portfire::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> portfire::Result<()> {
    /// let client = Client::new(portfire::open("memory:").await?);
    /// let guard = client.lock("migration").lease("30s").wait("10s").acquire().await?;
    /// let fence = guard.fence(); // for what the lock protects: it refuses lower ones
    /// # assert!(fence > 0 && client.lock("migration").try_acquire().await?.is_none());
    /// guard.release().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// A guard that is dropped without [`release`](LockGuard::release) is given back in the background.
    ///
    /// # Errors
    /// [`ClientError::LockTaken`] when someone else holds it to the end of the wait, else as
    /// [`Lock::try_acquire`].
    ///
    /// # Cancel safety
    /// When the future is dropped the lock may be held, until its lease ends.
    fn acquire(&self) -> impl Future<Output = Result<LockGuard, ClientError>> + Send;
}

impl LockExt for Lock {
    async fn acquire(&self) -> Result<LockGuard, ClientError> {
        let started = Instant::now();
        self.acquire_with(tokio::time::sleep, || started.elapsed(), Some(in_background)).await
    }
}

fn in_background(release: BoxFuture<'static, ()>) {
    // Without a runtime its lease ends it.
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn(release));
    }
}
