//! How a running handler learns that its attempt is to stop: the [`CancellationToken`] that it watches.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use portfire_core::{CancelReason, Cancelled};
use tokio::sync::Notify;

/// Tells a handler that its attempt is to stop, and why. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CancellationToken {
    signal: Arc<Signal>,
}

/// One allocation for each attempt: most are never cancelled and never waited on.
#[derive(Debug, Default)]
struct Signal {
    reason: OnceLock<CancelReason>,
    fired: Notify,
}

impl CancellationToken {
    /// A token and the source that fires it.
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> (CancellationSource, CancellationToken) {
        let source = CancellationSource { signal: Arc::default() };
        let token = source.token();
        (source, token)
    }

    /// A token that never fires: for inline runs and tests.
    pub fn never() -> CancellationToken {
        CancellationToken::new().1
    }

    /// Returns at once: an error when the attempt is to stop. For loops.
    ///
    /// # Errors
    /// [`Cancelled`], which `?` turns into the right [`JobError`](portfire_core::JobError).
    pub fn check(&self) -> Result<(), Cancelled> {
        match self.reason() {
            Some(reason) => Err(Cancelled { reason }),
            None => Ok(()),
        }
    }

    /// Why the attempt is to stop; `None` while it is not.
    pub fn reason(&self) -> Option<CancelReason> {
        self.signal.reason.get().copied()
    }

    /// Whether the attempt is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Waits until the attempt is to stop; for ever when it never is.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub fn cancelled(&self) -> impl Future<Output = Cancelled> + Send + 'static {
        let signal = Arc::clone(&self.signal);
        async move {
            loop {
                let mut fired = std::pin::pin!(signal.fired.notified());
                // Listens before it looks: a reason that is set in between is heard.
                fired.as_mut().enable();
                if let Some(&reason) = signal.reason.get() {
                    return Cancelled { reason };
                }
                fired.await;
            }
        }
    }

    /// The source of this token, for whoever performs the attempt.
    pub(crate) fn source(&self) -> CancellationSource {
        CancellationSource { signal: Arc::clone(&self.signal) }
    }
}

/// Fires a [`CancellationToken`].
#[derive(Clone, Debug)]
pub struct CancellationSource {
    signal: Arc<Signal>,
}

impl CancellationSource {
    /// Fires the token. The first reason stays.
    pub fn cancel(&self, reason: CancelReason) {
        if self.signal.reason.set(reason).is_ok() {
            self.signal.fired.notify_waiters();
        }
    }

    /// The token that this fires.
    pub fn token(&self) -> CancellationToken {
        CancellationToken { signal: Arc::clone(&self.signal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portfire_core::client::block_on;

    #[test]
    fn the_first_reason_stays() {
        let (source, token) = CancellationToken::new();
        assert_eq!(token.check(), Ok(()));
        source.cancel(CancelReason::Deleted);
        source.cancel(CancelReason::Shutdown);
        assert_eq!(token.check(), Err(Cancelled { reason: CancelReason::Deleted }));
    }

    #[test]
    fn a_wait_ends_whether_it_began_before_or_after() {
        let (source, token) = CancellationToken::new();
        let before = token.cancelled();
        let thread = std::thread::spawn(move || block_on(before).reason);
        source.cancel(CancelReason::Timeout);
        assert_eq!(thread.join().unwrap(), CancelReason::Timeout);
        assert_eq!(block_on(token.cancelled()).reason, CancelReason::Timeout);
    }
}
