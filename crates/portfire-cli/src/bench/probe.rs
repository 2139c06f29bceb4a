//! The jobs that are measured, and what they leave behind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portfire::prelude::*;

/// How often [`noop`] has run in this process.
static RAN: AtomicU64 = AtomicU64::new(0);

/// How long each [`stamped`] took from its call to its start.
static LATENCIES: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

/// When each [`marked`] has started, in that order.
static STARTS: Mutex<Vec<Instant>> = Mutex::new(Vec::new());

/// A job that does nothing.
#[job(name = "portfire.bench.noop")]
pub(super) async fn noop(payload: &str) {
    let _ = payload;
    RAN.fetch_add(1, Ordering::Relaxed);
}

/// A job that says something, ten times.
#[job(name = "portfire.bench.talkative")]
pub(super) async fn talkative(payload: &str, cx: &JobContext) {
    for line in 0..10 {
        cx.log(format_args!("line {line} of {payload}"));
    }
    RAN.fetch_add(1, Ordering::Relaxed);
}

/// A job that knows when it was called, in nanoseconds since 1970.
#[job(name = "portfire.bench.stamped")]
pub(super) async fn stamped(called_at: u64) {
    let latency = Duration::from_nanos(now().saturating_sub(called_at));
    LATENCIES.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
}

/// A job that leaves behind when it started.
#[job(name = "portfire.bench.marked")]
pub(super) async fn marked() {
    STARTS.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
}

/// The present on the host's clock, which all its processes share, in nanoseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// How often [`noop`] has run in this process.
pub(super) fn ran() -> u64 {
    RAN.load(Ordering::Relaxed)
}

/// How many latencies there are.
pub(super) fn latencies() -> usize {
    LATENCIES.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Takes the latencies.
pub(super) fn take_latencies() -> Vec<Duration> {
    std::mem::take(&mut *LATENCIES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// How many starts there are.
pub(super) fn starts() -> usize {
    STARTS.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Takes the starts.
pub(super) fn take_starts() -> Vec<Instant> {
    std::mem::take(&mut *STARTS.lock().unwrap_or_else(PoisonError::into_inner))
}
