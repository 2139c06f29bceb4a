//! The end of a server in three phases, and the signals that ask for it.
//!
//! *Quiet*: no more jobs are claimed. *Stopping*, after `stop_timeout` or as soon as nothing runs:
//! tokens fire with [`CancelReason::Shutdown`](portfire_core::CancelReason::Shutdown), and jobs that
//! were fetched but not started go back at once. *Ended*, after `shutdown_timeout` at the latest:
//! what still runs is given up, the lease is retired, and the retirement releases whatever is left.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;

use crate::panics::caught;

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

impl Phase {
    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Running => "running",
            Phase::Quiet => "quiet",
            Phase::Stopping => "stopping",
            Phase::Ended => "ended",
        }
    }
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

/// Waits for the signal to stop: Ctrl-C, on Unix also SIGTERM, on Windows also Ctrl-Break, the
/// console's close and the system's shutdown. Listens from the call on, not from the first await.
///
/// A server that is [run until](crate::Server::run_until) it ends in good order at the first signal
/// and at once at the second. From the first call on the process no longer ends by these signals
/// on its own. Outside of tokio nothing is heard, and the log says so.
///
/// # Cancel safety
/// A signal that came before the future was dropped is not heard by a later call.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    LISTENING.store(true, Ordering::Relaxed);
    Signals::listen().next()
}

/// Waits for another signal; for ever when nobody ever listened to them.
pub(crate) async fn second_signal() {
    if LISTENING.load(Ordering::Relaxed) {
        Signals::listen().next().await;
    } else {
        std::future::pending().await
    }
}

/// Listens to the signals of the process that ask for its end.
struct Signals {
    sources: Vec<Source>,
}

type Source = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<()>> + Send>;

impl Signals {
    fn listen() -> Signals {
        // Tokio panics where it has no driver for signals.
        let sources =
            caught(sources).unwrap_or_else(|message| vec![Err(io::Error::other(message))]);
        let heard = |source: io::Result<Source>| {
            source
                .inspect_err(|error| tracing::error!(%error, "a signal cannot be listened to"))
                .ok()
        };
        Signals { sources: sources.into_iter().filter_map(heard).collect() }
    }

    async fn next(mut self) {
        std::future::poll_fn(|cx| {
            // All are asked, so that all wake this task.
            let came = self.sources.iter_mut().filter_map(|source| match source(cx) {
                Poll::Ready(Some(())) => Some(()),
                Poll::Ready(None) | Poll::Pending => None,
            });
            if came.count() > 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(unix)]
fn sources() -> Vec<io::Result<Source>> {
    use tokio::signal::unix::{SignalKind, signal};
    let source = |kind| {
        let mut signals = signal(kind)?;
        Ok(Box::new(move |cx: &mut Context<'_>| signals.poll_recv(cx)) as Source)
    };
    vec![source(SignalKind::interrupt()), source(SignalKind::terminate())]
}

#[cfg(windows)]
fn sources() -> Vec<io::Result<Source>> {
    use tokio::signal::windows;
    macro_rules! source {
        ($listen:path) => {
            $listen().map(|mut signals| {
                Box::new(move |cx: &mut Context<'_>| signals.poll_recv(cx)) as Source
            })
        };
    }
    vec![
        source!(windows::ctrl_c),
        source!(windows::ctrl_break),
        source!(windows::ctrl_close),
        source!(windows::ctrl_shutdown),
    ]
}

#[cfg(not(any(unix, windows)))]
fn sources() -> Vec<io::Result<Source>> {
    vec![Err(io::Error::other("this system has no signals"))]
}
