//! The end of a server in three phases, and the signals that ask for it.
//!
//! *Quiet*: no more jobs are claimed. *Stopping*, after `stop_timeout` or as soon as nothing runs:
//! tokens fire with [`CancelReason::Shutdown`](portfire_core::CancelReason::Shutdown), and jobs that
//! were fetched but not started go back at once. *Ended*, after `shutdown_timeout` at the latest:
//! what still runs is given up, the lease is retired, and the retirement releases whatever is left.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::runtime::Runtime;

/// Where a server stands on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It claims jobs and runs them.
    Running,
    /// It runs what it has and claims nothing more.
    Quiet,
    /// What runs has been asked to stop; nothing is started.
    Stopping,
    /// It is over.
    Ended,
}

/// What a service sees of the server's end. Cheap to clone.
#[derive(Clone)]
pub struct Shutdown {
    phase: watch::Receiver<Phase>,
    runtime: Arc<dyn Runtime>,
}

impl Shutdown {
    pub(crate) fn new(phase: &watch::Sender<Phase>, runtime: Arc<dyn Runtime>) -> Shutdown {
        Shutdown { phase: phase.subscribe(), runtime }
    }

    /// Where the server stands.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether services go on: until the server is stopping.
    pub fn is_running(&self) -> bool {
        self.phase() < Phase::Stopping
    }

    /// Waits until the server is in this phase or a later one.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn reached(&self, phase: Phase) {
        let mut changes = self.phase.clone();
        // The sender is dropped with its server: that is the end, too.
        let _ = changes.wait_for(|now| *now >= phase).await;
    }

    /// Waits for a time, or until the server is stopping; whether services go on.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn sleep(&self, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.reached(Phase::Stopping) => false,
            () = self.runtime.sleep(time) => self.is_running(),
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shutdown").field(&self.phase()).finish()
    }
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Jobs that were fetched but not started, and went back to their queues.
    pub released: u64,
    /// Jobs that still ran at the deadline and were given up. They run again elsewhere at once; on a
    /// blocking thread the old run may go on beside it until the process ends.
    pub overdue: u64,
    /// Whether the storage took the retirement. When not, the server's jobs return after its lease.
    pub retired: bool,
    /// How long it took.
    pub took: Duration,
}

/// Set once somebody listens to the signals of the process.
static LISTENING: AtomicBool = AtomicBool::new(false);

/// Waits for the signal to stop: Ctrl-C, on Unix also SIGTERM, on Windows also the console's close
/// and the system's shutdown.
///
/// A server that is [run until](crate::Server::run_until) it ends in good order at the first signal
/// and at once at the second. From the first call on the process no longer ends by these signals
/// on its own.
///
/// # Cancel safety
/// Signals that came before the call are not heard.
pub async fn shutdown_signal() {
    LISTENING.store(true, Ordering::Relaxed);
    next_signal().await;
}

/// Waits for another signal; for ever when nobody ever listened to them.
pub(crate) async fn second_signal() {
    if LISTENING.load(Ordering::Relaxed) {
        next_signal().await;
    } else {
        std::future::pending().await
    }
}

#[cfg(unix)]
async fn next_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => _ = signals.recv().await,
            Err(error) => unheard("SIGTERM", error).await,
        }
    };
    first_of(interrupted(), terminated).await;
}

#[cfg(windows)]
async fn next_signal() {
    use tokio::signal::windows::{ctrl_break, ctrl_close, ctrl_shutdown};
    let closed = async {
        match ctrl_close() {
            Ok(mut signals) => _ = signals.recv().await,
            Err(error) => unheard("CTRL_CLOSE_EVENT", error).await,
        }
    };
    let broken = async {
        match ctrl_break() {
            Ok(mut signals) => _ = signals.recv().await,
            Err(error) => unheard("CTRL_BREAK_EVENT", error).await,
        }
    };
    let shut_down = async {
        match ctrl_shutdown() {
            Ok(mut signals) => _ = signals.recv().await,
            Err(error) => unheard("CTRL_SHUTDOWN_EVENT", error).await,
        }
    };
    first_of(first_of(interrupted(), broken), first_of(closed, shut_down)).await;
}

#[cfg(not(any(unix, windows)))]
async fn next_signal() {
    interrupted().await;
}

async fn interrupted() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        unheard("Ctrl-C", error).await;
    }
}

async fn unheard(signal: &str, error: std::io::Error) {
    tracing::error!(%error, "{signal} cannot be listened to");
    std::future::pending().await
}

async fn first_of(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = one => {}
        () = other => {}
    }
}
