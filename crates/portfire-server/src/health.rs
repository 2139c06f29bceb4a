//! How a server is: [`Health`], for the probes of whatever runs it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portfire_core::ServerId;
use serde::{Serialize, Serializer};

/// How a server is. Made by [`Server::health`](crate::Server::health) without asking anyone, so a probe
/// may ask as often as it likes.
///
/// ```text
/// {"live":true,"ready":true,"server":"web-1:4711:9f3c2a11","phase":"running","lease_ms":26900,
///  "storage_answered_ago_ms":812,"services":[{"name":"promoting due jobs","ok_ago_ms":812,
///  "failures":0,"stale":false}]}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether the heartbeat's thread runs. A process that is not live is better started anew.
    pub live: bool,
    /// Whether the server claims jobs: it is not stopping, holds its lease, and the storage answered
    /// within the time of a lease.
    pub ready: bool,
    /// The id under which it acts.
    pub server: ServerId,
    /// Where it stands on its way to its end: `running`, `quiet`, `stopping`, `ended`.
    pub phase: &'static str,
    /// How long it may act without another heartbeat; zero without a lease.
    #[serde(rename = "lease_ms", serialize_with = "millis")]
    pub lease: Duration,
    /// Since when the storage has not answered; `None` before its first answer.
    #[serde(rename = "storage_answered_ago_ms", serialize_with = "optional_millis")]
    pub storage_answered_ago: Option<Duration>,
    /// Its services: promoting, scheduling, rescuing, cleaning, the user's own.
    pub services: Vec<ServiceHealth>,
}

impl Health {
    /// The services that have not done their work for too long.
    pub fn stale(&self) -> impl Iterator<Item = &ServiceHealth> {
        self.services.iter().filter(|service| service.stale)
    }
}

/// How a service of a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServiceHealth {
    /// What it does.
    pub name: String,
    /// Since when no pass has succeeded; `None` before the first.
    #[serde(rename = "ok_ago_ms", serialize_with = "optional_millis")]
    pub ok_ago: Option<Duration>,
    /// Passes that have failed since.
    pub failures: u32,
    /// Whether the last pass that succeeded was so long ago that something is wrong: a lease longer than
    /// the service was to wait after it.
    pub stale: bool,
}

fn millis<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn optional_millis<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => millis(time, to),
        None => to.serialize_none(),
    }
}

/// When something was last well. Instants are of the runtime's clock.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// In nanoseconds and one more; 0 for never.
    beaten_at: AtomicU64,
    /// When it is to be well again at the latest, in nanoseconds.
    due_at: AtomicU64,
    failures: AtomicU64,
}

impl Pulse {
    /// A pulse that is to beat within this time.
    pub(crate) fn begun(now: Duration) -> Pulse {
        let pulse = Pulse::default();
        pulse.due_at.store(nanos(now), Ordering::Relaxed);
        pulse
    }

    /// It is well, and will be looked after again in `wait`.
    pub(crate) fn beat(&self, now: Duration, wait: Duration) {
        self.failures.store(0, Ordering::Relaxed);
        self.due_at.store(nanos(now.saturating_add(wait)), Ordering::Relaxed);
        self.beaten_at.store(nanos(now).saturating_add(1), Ordering::Release);
    }

    /// It is being looked after, which may take so long, unless it was overdue before.
    pub(crate) fn awaited(&self, now: Duration, limit: Duration) {
        if self.failures.load(Ordering::Relaxed) == 0 {
            self.due_at.store(nanos(now.saturating_add(limit)), Ordering::Relaxed);
        }
    }

    /// It has failed; from the first failure on it is due.
    pub(crate) fn missed(&self, now: Duration) {
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            self.due_at.store(nanos(now), Ordering::Relaxed);
        }
    }

    /// How long ago it was well.
    pub(crate) fn ago(&self, now: Duration) -> Option<Duration> {
        let at = self.beaten_at.load(Ordering::Acquire).checked_sub(1)?;
        Some(now.saturating_sub(Duration::from_nanos(at)))
    }

    /// Whether it is overdue by more than this.
    pub(crate) fn is_overdue(&self, now: Duration, by: Duration) -> bool {
        let due = Duration::from_nanos(self.due_at.load(Ordering::Relaxed));
        now > due.saturating_add(by)
    }

    /// How it is, under this name.
    pub(crate) fn health(&self, name: &str, now: Duration, patience: Duration) -> ServiceHealth {
        ServiceHealth {
            name: name.to_owned(),
            ok_ago: self.ago(now),
            failures: u32::try_from(self.failures.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            stale: self.is_overdue(now, patience),
        }
    }
}

/// 2^64 nanoseconds are 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
