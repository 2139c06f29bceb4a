//! Wake-ups: hints that there may be something to do. Lossy and coalesced; polling is the guarantee.

use std::future::Future;
use std::task::Poll;

use tokio::sync::watch;

/// Where a storage announces that something changed.
#[derive(Debug)]
pub struct WakeupHub {
    work: watch::Sender<u64>,
    control: watch::Sender<u64>,
}

impl Default for WakeupHub {
    fn default() -> WakeupHub {
        WakeupHub { work: watch::Sender::new(0), control: watch::Sender::new(0) }
    }
}

impl WakeupHub {
    /// Jobs may have become claimable, or due sooner than was known.
    pub fn work(&self) {
        self.work.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Held jobs may have been taken from their holder, or a queue paused or resumed, or a server died.
    pub fn control(&self) {
        self.control.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Whether anyone listens, so that looking for something to announce is worth its while.
    pub fn is_heard(&self) -> bool {
        self.work.receiver_count() > 0 || self.control.receiver_count() > 0
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> Wakeups {
        Wakeups { work: self.work.subscribe(), control: self.control.subscribe() }
    }
}

/// What a wake-up is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// Jobs may be claimable.
    Work,
    /// Held jobs may be lost, queues paused or resumed, a server dead.
    Control,
}

/// A listener to the wake-ups of a storage. Each listener hears all of them.
#[derive(Clone, Debug)]
pub struct Wakeups {
    work: watch::Receiver<u64>,
    control: watch::Receiver<u64>,
}

impl Wakeups {
    /// Waits for the next hint; several that came in between are one. Never returns after the
    /// storage is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: the hint is still there for the next call.
    pub async fn next(&mut self) -> Wakeup {
        let mut control = std::pin::pin!(heard(&mut self.control));
        let mut work = std::pin::pin!(heard(&mut self.work));
        std::future::poll_fn(|cx| {
            if control.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Wakeup::Control);
            }
            work.as_mut().poll(cx).map(|()| Wakeup::Work)
        })
        .await
    }

    /// Waits for a [`Wakeup::Work`] only.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn work(&mut self) {
        heard(&mut self.work).await;
    }

    /// Waits for a [`Wakeup::Control`] only.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn control(&mut self) {
        heard(&mut self.control).await;
    }
}

async fn heard(receiver: &mut watch::Receiver<u64>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
