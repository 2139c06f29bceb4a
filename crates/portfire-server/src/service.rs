//! The one skeleton of everything that a server does again and again: promoting, rescuing, cleaning,
//! and the user's own processes.
//!
//! A service is one pass, [`run_once`](Service::run_once), and how long to wait after it. The loop
//! around it sleeps, calls and logs: a pass that fails is logged at most once a minute and repeated
//! with growing waits, so an outage of the storage is survived without a restart.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::BoxError;
use tracing::Instrument;

use crate::health::Pulse;
use crate::panics::caught_in;
use crate::runtime::Runtime;
use crate::shutdown::Shutdown;

/// Something that is done again and again.
pub(crate) trait Service: Send {
    /// What it is called in the log.
    fn name(&self) -> &str;

    /// One pass; how long to wait before the next.
    fn run_once(&mut self) -> impl Future<Output = Result<Duration, BoxError>> + Send;

    /// Returns when the next pass should come sooner.
    fn hint(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// The least time between two passes, however many hints come.
    fn gap(&self) -> Duration {
        Duration::from_millis(50)
    }
}

/// Runs a service until the server stops. A pass that takes longer than `limit` is dropped, as failed:
/// a storage that has not answered by then has lost the call or its answer.
pub(crate) async fn run(
    mut service: impl Service,
    runtime: Arc<dyn Runtime>,
    shutdown: Shutdown,
    limit: Option<Duration>,
    pulse: Arc<Pulse>,
) {
    let mut outage = Outage::new(Arc::clone(&runtime));
    while shutdown.is_running() {
        let began = runtime.elapsed();
        pulse.awaited(began, limit.unwrap_or(Duration::MAX));
        let too_long = async {
            match limit {
                Some(limit) => runtime.sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let span = tracing::debug_span!("portfire.service", service = service.name());
        let passed = tokio::select! {
            biased;
            passed = caught_in(service.run_once()).instrument(span) => Some(passed),
            () = too_long => None,
        };
        let wait = match passed {
            Some(Ok(Ok(wait))) => {
                outage.over(service.name());
                pulse.beat(runtime.elapsed(), wait);
                wait
            }
            Some(Ok(Err(error))) => outage.wait_after(service.name(), &error),
            Some(Err(message)) => {
                outage.wait_after(service.name(), &format!("it panicked: {message}"))
            }
            None => {
                let limit = limit.unwrap_or_default();
                outage.wait_after(service.name(), &format!("no answer within {limit:?}"))
            }
        };
        if outage.lasts() {
            pulse.missed(runtime.elapsed());
        }
        let gap = service.gap().saturating_sub(runtime.elapsed().saturating_sub(began));
        let next = async {
            runtime.sleep(gap.min(wait)).await;
            tokio::select! {
                biased;
                () = service.hint(), if !outage.lasts() => {}
                () = runtime.sleep(wait.saturating_sub(gap)) => {}
            }
        };
        tokio::select! {
            biased;
            () = shutdown.reached(crate::shutdown::Phase::Stopping) => return,
            () = next => {}
        }
    }
}

/// A row of failures: waits that grow, and few words about them.
#[derive(Debug)]
pub(crate) struct Outage {
    runtime: Arc<dyn Runtime>,
    failures: u32,
    /// Whether this row of failures was worth a warning.
    warned: bool,
    warned_at: Option<Duration>,
}

/// The longest wait between two tries: the storage is back in use at most so long after it is back.
const WAIT_MAX: Duration = Duration::from_secs(2);
const WAIT_MIN: Duration = Duration::from_millis(50);
const LOG_EVERY: Duration = Duration::from_secs(60);

impl Outage {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Outage {
        Outage { runtime, failures: 0, warned: false, warned_at: None }
    }

    /// A try has failed: how long to wait before the next.
    pub(crate) fn wait_after(&mut self, what: &str, error: &dyn fmt::Display) -> Duration {
        let now = self.runtime.elapsed();
        let recent = |warned: Duration| now.saturating_sub(warned) < LOG_EVERY;
        self.failures = self.failures.saturating_add(1);
        if self.warned_at.is_some_and(recent) {
            tracing::debug!(error = %error, failures = self.failures, "{what} failed again");
        } else {
            tracing::warn!(error = %error, failures = self.failures, "{what} failed and is tried again");
            self.warned = true;
            self.warned_at = Some(now);
        }
        self.next_wait()
    }

    /// A try has succeeded.
    pub(crate) fn over(&mut self, what: &str) {
        if self.warned {
            tracing::info!(failures = self.failures, "{what} works again");
        }
        // The time of the last warning stays: a failure that comes and goes fills no log either.
        self.warned = false;
        self.failures = 0;
    }

    /// Whether the last try failed.
    pub(crate) fn lasts(&self) -> bool {
        self.failures > 0
    }

    /// From 50 ms doubling to 2 s, each between the half of it and the whole.
    fn next_wait(&self) -> Duration {
        let factor = 1u32 << (self.failures.saturating_sub(1)).min(16);
        let wait = WAIT_MIN.saturating_mul(factor).min(WAIT_MAX);
        wait / 2 + (wait / 2).mul_f64(fraction(self.runtime.random()))
    }
}

/// A time between nine tenths of `time` and the whole, so that many servers do not act in step.
pub(crate) fn jittered(time: Duration, random: u64) -> Duration {
    time - (time / 10).mul_f64(fraction(random))
}

/// A number in [0, 1): 53 random bits make one without rounding.
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}
