//! Locks as users take them: [`Lock`], and [`LockGuard`] for one that is held.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::client::{Client, ClientError};
use crate::clock::Timestamp;
use crate::duration::IntoDuration;
use crate::job::InvalidJob;
use crate::lock::{LockAnswer, LockRequest};
use crate::storage::BoxFuture;

/// How long a lock is held without a renewal unless it says otherwise.
const LEASE: Duration = Duration::from_secs(30);

/// How long whoever waits sleeps at most before it asks again, should a hint have been lost.
const POLL: Duration = Duration::from_secs(1);

/// A lock that is to be taken. Made by [`Client::lock`].
///
/// It is known to all processes that share the storage. It ends with its holder's lease at the latest,
/// so a holder that was paused may believe that it still holds it: hand the [fence](LockGuard::fence)
/// to what it protects, which then refuses lower ones.
#[derive(Clone, Debug)]
#[must_use = "nothing is taken until it is acquired"]
pub struct Lock {
    client: Client,
    name: String,
    lease: Result<Duration, InvalidJob>,
    wait: Result<Duration, InvalidJob>,
}

impl Lock {
    pub(super) fn new(client: Client, name: String) -> Lock {
        Lock { client, name, lease: Ok(LEASE), wait: Ok(Duration::ZERO) }
    }

    /// How long it is held without a renewal, 1 ms to a day: a `Duration`, or a text such as `"30s"`.
    /// Default: 30 s.
    pub fn lease(self, lease: impl IntoDuration) -> Lock {
        Lock { lease: lease.into_duration(), ..self }
    }

    /// How long to wait for whoever holds it: a `Duration`, or a text such as `"10s"`. Default: not at
    /// all.
    pub fn wait(self, wait: impl IntoDuration) -> Lock {
        Lock { wait: wait.into_duration(), ..self }
    }

    /// Takes it, if nobody holds it; `None` when someone does. It is held until its
    /// [release](LockGuard::release) or the end of its lease, also when the guard is dropped.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a name or a lease over its bound, [`ClientError::Storage`] when the
    /// write failed: it may be held then, until its lease ends.
    ///
    /// # Cancel safety
    /// When the future is dropped the lock may be held, until its lease ends.
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>, ClientError> {
        // Each try is someone else's: who holds the lock does not get it again.
        let owner = format!("{:016x}", self.client.random());
        let (name, lease) = (self.name.clone(), self.lease.clone()?);
        match self.client.storage().lock(LockRequest::Acquire { name, owner, lease }).await? {
            LockAnswer::Held { fence, until } => Ok(Some(LockGuard {
                client: self.client.clone(),
                name: self.name.clone(),
                fence,
                until,
                lease,
                held: true,
                release: None,
            })),
            _ => Ok(None),
        }
    }

    /// Takes it, and waits for it as long as [`wait`](Self::wait) says, in a runtime that can `sleep`.
    /// The storage tells of releases as far as it can hear of them; asking again every second is the
    /// guarantee. `spawn` gets the release of a guard that is dropped.
    #[doc(hidden)]
    pub async fn acquire_with<S: Future<Output = ()>>(
        &self,
        sleep: impl Fn(Duration) -> S,
        elapsed: impl Fn() -> Duration,
        release: Option<fn(BoxFuture<'static, ()>)>,
    ) -> Result<LockGuard, ClientError> {
        let wait = self.wait.clone()?;
        let started = elapsed();
        // Listens before it looks: a release in between is heard.
        let mut wakeups = self.client.storage().wakeups();
        loop {
            if let Some(mut guard) = self.try_acquire().await? {
                guard.release = release;
                return Ok(guard);
            }
            let left = wait.saturating_sub(elapsed().saturating_sub(started));
            if left.is_zero() {
                return Err(ClientError::LockTaken { name: self.name.clone(), waited: wait });
            }
            first(wakeups.control(), sleep(left.min(POLL))).await;
        }
    }
}

/// Waits for either of two.
async fn first(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    std::future::poll_fn(|cx| match one.as_mut().poll(cx) {
        std::task::Poll::Ready(()) => std::task::Poll::Ready(()),
        std::task::Poll::Pending => other.as_mut().poll(cx),
    })
    .await;
}

/// A lock that is held. [`release`](Self::release) gives it back.
///
/// A guard that is dropped without it is given back in the background when it was taken by `acquire`, in a
/// runtime. One of [`try_acquire`](Lock::try_acquire) is not: its lease ends it.
#[must_use = "the lock is held only as long as its guard"]
pub struct LockGuard {
    client: Client,
    name: String,
    fence: u64,
    until: Timestamp,
    lease: Duration,
    held: bool,
    release: Option<fn(BoxFuture<'static, ()>)>,
}

impl LockGuard {
    /// The lock's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of this grant: higher than that of every earlier one. What the lock protects can
    /// refuse lower numbers, and so whoever held it before and does not know that it has lost it.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Until when it is held without a renewal, in storage time.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Holds it for another lease from now on.
    ///
    /// # Errors
    /// [`ClientError::LockLost`] when its lease has ended: someone else may hold it by now. When
    /// [`ClientError::Storage`] says that the write failed, it is held as long as before, at least.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it renewed or not.
    pub async fn renew(&mut self) -> Result<(), ClientError> {
        let (name, fence, lease) = (self.name.clone(), self.fence, self.lease);
        match self.client.storage().lock(LockRequest::Renew { name, fence, lease }).await? {
            LockAnswer::Held { until, .. } => {
                self.until = until;
                Ok(())
            }
            _ => {
                self.held = false;
                Err(ClientError::LockLost { name: self.name.clone() })
            }
        }
    }

    /// Gives it back.
    ///
    /// # Errors
    /// [`ClientError::LockLost`] when its lease had ended before, so that someone else may have held it
    /// meanwhile; [`ClientError::Storage`] when the write failed: its lease ends it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it given back or held.
    pub async fn release(mut self) -> Result<(), ClientError> {
        self.held = false;
        let (name, fence) = (self.name.clone(), self.fence);
        match self.client.storage().lock(LockRequest::Release { name, fence }).await? {
            LockAnswer::Released => Ok(()),
            _ => Err(ClientError::LockLost { name: self.name.clone() }),
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let Some(spawn) = self.release.filter(|_| self.held) else { return };
        let (client, name, fence) = (self.client.clone(), self.name.clone(), self.fence);
        spawn(Box::pin(async move {
            let release = LockRequest::Release { name: name.clone(), fence };
            if let Err(error) = client.storage().lock(release).await {
                tracing::warn!(lock = name, %error, "a lock was not given back; its lease ends it");
            }
        }));
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("name", &self.name)
            .field("fence", &self.fence)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}
