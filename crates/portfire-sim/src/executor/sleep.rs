//! Waits in virtual time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Executor;
use crate::sync::lock;
use crate::timers::{Fires, TimerKey};

/// A wait in virtual time. It begins when it is first polled.
pub(crate) struct Sleep {
    pub(super) executor: Arc<Executor>,
    pub(super) nanos: u64,
    pub(super) begun: Option<(u64, TimerKey)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let executor = Arc::clone(&self.executor);
        let mut core = lock(&executor.core);
        let wakes = Fires::Wakes(cx.waker().clone());
        match self.begun {
            None if self.nanos == 0 => return Poll::Ready(()),
            None => {
                let until = core.now.saturating_add(self.nanos);
                self.begun = Some((until, core.timers.set(until, wakes)));
            }
            Some((until, _)) if core.now >= until => return Poll::Ready(()),
            Some((_, timer)) => core.timers.replace(timer, wakes),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((_, timer)) = self.begun {
            lock(&self.executor.core).timers.clear(timer);
        }
    }
}
