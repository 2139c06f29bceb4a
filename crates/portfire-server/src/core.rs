//! What all parts of one server share: [`Core`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portfire_core::{
    Answer, Finish, KindName, NewServer, ServerId, Storage, StorageError, Verdict,
};

use tokio::sync::Notify;

use crate::builder::Options;
use crate::context::JobContext;
use crate::filter::AppliedFilter;
use crate::health::Pulse;
use crate::lease::Lease;
use crate::meters::{Call, Label, Meters};
use crate::panics::{caught, caught_in};
use crate::perform::Performer;
use crate::registry::Registered;
use crate::runtime::Runtime;

/// One server: its storage, its lease, its handlers, its settings.
pub(crate) struct Core {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) performer: Performer,
    applied: Vec<Arc<dyn AppliedFilter>>,
    /// Whether any filter hears of what is stored.
    pub(crate) is_heard: bool,
    pub(crate) options: Options,
    pub(crate) tallies: Tallies,
    pub(crate) meters: Meters,
    /// Of the heartbeat's thread.
    pub(crate) heart: Pulse,
    /// Of the storage: when it last answered.
    pub(crate) answered: Pulse,
    /// That it has handlers of.
    kinds: Vec<KindName>,
    /// Told when the outcome of a claim is unknown.
    pub(crate) doubts: Notify,
    /// Until when such a claim may still be applied, in nanoseconds of the runtime's clock.
    doubtful_until: AtomicU64,
    /// Names the cycles of this server. They are unique for each of its ids, and for all together.
    cycle_keys: AtomicU64,
}

/// What a server has counted since it started.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) claimed: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) fenced: AtomicU64,
    pub(crate) cycles: AtomicU64,
    pub(crate) heartbeats: AtomicU64,
}

impl Core {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        runtime: Arc<dyn Runtime>,
        performer: Performer,
        applied: Vec<Arc<dyn AppliedFilter>>,
        options: Options,
    ) -> Core {
        let first = new_server_id(&options.name, &*runtime);
        let lease = Arc::new(Lease::new(first, options.lease));
        let meters = Meters::new(performer.registry(), &options.queues);
        let kinds = performer.registry().kinds().map(KindName::stored).collect();
        let now = runtime.elapsed();
        let has_applied = |entry: &Registered| !entry.filters.applied.is_empty();
        let is_heard = !applied.is_empty() || performer.registry().iter().any(has_applied);
        Core {
            storage,
            runtime,
            lease,
            performer,
            applied,
            is_heard,
            options,
            tallies: Tallies::default(),
            meters,
            heart: Pulse::begun(now),
            answered: Pulse::begun(now),
            kinds,
            doubts: Notify::new(),
            doubtful_until: AtomicU64::new(0),
            cycle_keys: AtomicU64::new(1),
        }
    }

    pub(crate) fn next_cycle_key(&self) -> u64 {
        self.cycle_keys.fetch_add(1, Ordering::Relaxed)
    }

    /// A fresh id for this process. An id is never used twice, so that what the storage says of a
    /// dead one stays true.
    pub(crate) fn new_server_id(&self) -> ServerId {
        new_server_id(&self.options.name, &*self.runtime)
    }

    /// How the server announces itself under an id.
    pub(crate) fn announcement(&self, id: ServerId) -> NewServer {
        NewServer {
            kinds: self.kinds.clone(),
            id,
            name: self.options.name.clone(),
            queues: self.options.queues.clone(),
            workers: self.options.workers,
            lease: self.options.lease,
        }
    }

    /// Makes a call to the storage. When it panics, nobody knows whether it was applied.
    pub(crate) async fn ask<T>(
        &self,
        call: Call,
        answer: Answer<'_, T>,
    ) -> Result<T, StorageError> {
        let asked_at = self.runtime.elapsed();
        let answer = caught_in(answer).await;
        let panicked =
            |message| StorageError::unavailable(format!("the storage panicked: {message}"));
        let answer = answer.unwrap_or_else(|message| Err(panicked(message)));
        let now = self.runtime.elapsed();
        self.meters.called(call, now.saturating_sub(asked_at), answer.is_err());
        if answer.is_ok() {
            self.answered.beat(now, Duration::ZERO);
        }
        answer
    }

    /// The outcome of a claim is unknown: it may be applied at any time, though hardly after two leases.
    pub(crate) fn doubt(&self) {
        let until = self.runtime.elapsed() + 2 * self.options.lease;
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.doubtful_until.store(until, Ordering::Relaxed);
        self.doubts.notify_one();
    }

    /// Whether a claim of unknown outcome may still be applied.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let until = Duration::from_nanos(self.doubtful_until.load(Ordering::Relaxed));
        self.runtime.elapsed() < until
    }

    /// Counts a verdict and tells those who want to hear of what was applied.
    pub(crate) fn heard(
        &self,
        finish: &Finish,
        label: Option<Label>,
        context: Option<&JobContext>,
        verdict: Verdict,
    ) {
        match verdict {
            // Already: the answer to the first request was lost, or the handler has ended its attempt
            // itself, in a transaction of its own. Either way nobody has heard yet.
            Verdict::Applied | Verdict::Already => {
                self.tallies.finished.fetch_add(1, Ordering::Relaxed);
                match label {
                    Some(label) => self.meters.ended(label, &finish.outcome, finish.duration),
                    None => self.meters.released(),
                }
                if let Some(context) = context {
                    self.tell(finish, context);
                }
            }
            // The job was deleted while it ran, or was another's by then. Its outcome is dropped:
            // that is what fencing is for.
            Verdict::Fenced | Verdict::Missing => {
                self.tallies.fenced.fetch_add(1, Ordering::Relaxed);
                self.meters.fenced(1);
                let (job_id, attempt) = (finish.claim.job, finish.claim.attempt);
                tracing::debug!(%job_id, attempt, ?verdict, "an outcome came too late and is dropped");
            }
        }
    }

    /// Counts outcomes of an id that is dead: their jobs are others' by now.
    pub(crate) fn drop_outcomes(&self, finished: &[Finish]) {
        self.tallies.fenced.fetch_add(finished.len() as u64, Ordering::Relaxed);
        self.meters.fenced(finished.len());
        if !finished.is_empty() {
            tracing::debug!(jobs = finished.len(), "outcomes of a dead server are dropped");
        }
    }

    /// The filters that hear of jobs of a kind: the server's, then those of the kind.
    pub(crate) fn applied_to(&self, kind: &KindName) -> impl Iterator<Item = &dyn AppliedFilter> {
        let of_kind = self.performer.registry().find(kind.as_str());
        let of_kind = of_kind.into_iter().flat_map(|entry| &entry.filters.applied);
        self.applied.iter().chain(of_kind).map(|filter| &**filter)
    }

    fn tell(&self, finish: &Finish, context: &JobContext) {
        for filter in self.applied_to(context.kind()) {
            if let Err(message) = caught(|| filter.applied(context, finish)) {
                tracing::error!(job_id = %context.id(), message, "an applied filter panicked");
            }
        }
    }
}

fn new_server_id(name: &str, runtime: &dyn Runtime) -> ServerId {
    let (process, random) = (runtime.process_id(), runtime.random());
    ServerId::new(format!("{name}:{process}:{random:016x}"))
}
