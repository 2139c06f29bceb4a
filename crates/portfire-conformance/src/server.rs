//! A server as the cases play it: it announces itself, claims and finishes, and runs nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portfire_core::{
    Annotation, Claim, ClaimRequest, ClaimedJob, Cycle, CycleRequest, ErrorRecord, Finish, JobId,
    Lost, NewServer, Notes, Outcome, ServerId, StorageError, Verdict,
};

use crate::stage::{Stage, json, queue};

/// An error as a handler would report it.
pub fn error() -> ErrorRecord {
    ErrorRecord::new("app::Broken", "the tea is cold")
}

/// The outcome of a handler that returned nothing.
pub fn success() -> Outcome {
    Outcome::Succeeded { result: None }
}

/// The outcome of a handler that returned this JSON text.
pub fn result(text: &str) -> Outcome {
    Outcome::Succeeded { result: Some(json(text)) }
}

/// The outcome of a handler that takes its own job out.
pub fn discard() -> Outcome {
    Outcome::Discarded { reason: "no longer needed".into(), error: None }
}

/// A failure that is tried again after so many seconds.
pub fn retry(seconds: u64) -> Outcome {
    Outcome::Retry { delay: Duration::from_secs(seconds), error: error() }
}

/// A failure that is the last.
pub fn failure() -> Outcome {
    Outcome::Failed { error: error() }
}

/// The end of an attempt, after a run of 5 ms.
pub fn finish(claim: Claim, outcome: Outcome) -> Finish {
    Finish { claim, outcome, duration: Duration::from_millis(5) }
}

/// The claims of these jobs.
pub fn claims(jobs: &[ClaimedJob]) -> Vec<Claim> {
    jobs.iter().map(|job| job.claim).collect()
}

/// Whether an answer says that the server is not alive.
pub fn is_gone<T>(answer: &Result<T, StorageError>) -> bool {
    matches!(answer, Err(StorageError::ServerGone { .. }))
}

/// A server of a case.
#[derive(Debug)]
pub struct Server {
    /// What it announces.
    pub new: NewServer,
    stage: Stage,
    keys: AtomicU64,
}

impl Server {
    /// A server that takes jobs from `default`, not yet announced.
    pub fn new(stage: Stage, name: &str, lease: Duration) -> Server {
        let new = NewServer {
            kinds: Vec::new(),
            id: ServerId::new(format!("{name}:1:0")),
            name: name.to_owned(),
            queues: vec![queue("default")],
            workers: 4,
            lease,
        };
        Server { new, stage, keys: AtomicU64::new(1) }
    }

    /// The same server, seen from another handle of the storage.
    pub fn from(&self, stage: &Stage) -> Server {
        let keys = AtomicU64::new(self.keys.load(Ordering::Relaxed) + 1_000);
        Server { new: self.new.clone(), stage: stage.clone(), keys }
    }

    /// Its id.
    pub fn id(&self) -> ServerId {
        self.new.id.clone()
    }

    /// Makes it known.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn announce(&self) -> Result<(), StorageError> {
        self.stage.storage().announce(self.new.clone()).await
    }

    /// A cycle with a fresh key that asks for nothing yet.
    pub fn request(&self) -> CycleRequest {
        CycleRequest::new(self.id(), self.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// A cycle with a fresh key that wants up to `max` jobs of `default`.
    pub fn wish(&self, max: u32) -> CycleRequest {
        let claim = Some(ClaimRequest { queues: vec![queue("default")], max, aging: None });
        CycleRequest { claim, ..self.request() }
    }

    /// Sends a cycle.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn try_cycle(&self, request: CycleRequest) -> Result<Cycle, StorageError> {
        self.stage.storage().cycle(request).await
    }

    /// Sends a cycle that is answered.
    pub async fn cycle(&self, request: CycleRequest) -> Cycle {
        let asked = request.finished.len();
        let cycle = self.try_cycle(request).await.expect("the cycle is answered");
        assert_eq!(cycle.verdicts.len(), asked, "one verdict for each finish");
        cycle
    }

    /// Claims up to `max` jobs of `default`.
    pub async fn claim(&self, max: u32) -> Vec<ClaimedJob> {
        self.cycle(self.wish(max)).await.claimed
    }

    /// Claims up to `max` jobs of these queues.
    pub async fn claim_from(&self, queues: &[&'static str], max: u32) -> Vec<ClaimedJob> {
        let queues = queues.iter().map(|name| queue(name)).collect();
        let claim = Some(ClaimRequest { queues, max, aging: None });
        self.cycle(CycleRequest { claim, ..self.request() }).await.claimed
    }

    /// Claims the next job of `default`.
    pub async fn claim_one(&self) -> ClaimedJob {
        self.claim(1).await.pop().expect("a job is there to be claimed")
    }

    /// Claims the next job of `default`, which must be this one.
    pub async fn claim_job(&self, job: JobId) -> ClaimedJob {
        let claimed = self.claim_one().await;
        assert_eq!(claimed.claim.job, job, "the next job");
        claimed
    }

    /// Claims the next job of `default`, which must be this one, and ends it.
    pub async fn run(&self, job: JobId, outcome: Outcome) {
        let claimed = self.claim_job(job).await;
        self.end(claimed.claim, outcome).await;
    }

    /// Runs what `default` holds and what follows from it, all with success; the jobs in the order of
    /// their claims.
    pub async fn work_off(&self) -> Vec<JobId> {
        let mut done = Vec::new();
        let mut finished = Vec::new();
        loop {
            let asked = CycleRequest { finished, ..self.wish(1_000) };
            let cycle = self.cycle(asked).await;
            assert!(cycle.verdicts.iter().all(|verdict| *verdict == Verdict::Applied));
            if cycle.claimed.is_empty() {
                return done;
            }
            done.extend(cycle.claimed.iter().map(|job| job.claim.job));
            finished = cycle.claimed.iter().map(|job| finish(job.claim, success())).collect();
        }
    }

    /// Sends a piece of what an attempt says.
    pub async fn note(&self, claim: Claim, notes: Notes) {
        let notes = vec![Annotation::new(claim, notes)];
        self.cycle(CycleRequest { notes, ..self.request() }).await;
    }

    /// Finishes one attempt.
    pub async fn finish(&self, claim: Claim, outcome: Outcome) -> Verdict {
        self.finish_all(vec![finish(claim, outcome)]).await[0]
    }

    /// Finishes several attempts in one cycle.
    pub async fn finish_all(&self, finished: Vec<Finish>) -> Vec<Verdict> {
        self.cycle(CycleRequest { finished, ..self.request() }).await.verdicts
    }

    /// Finishes one attempt that must still be good.
    pub async fn end(&self, claim: Claim, outcome: Outcome) {
        let told = format!("{outcome:?}");
        assert_eq!(self.finish(claim, outcome).await, Verdict::Applied, "{told}");
    }

    /// Renews the lease.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn heartbeat(&self, held: &[Claim]) -> Result<Vec<Lost>, StorageError> {
        self.stage.storage().heartbeat(self.id(), held.to_vec()).await
    }

    /// Asks what is lost.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn verify(&self, held: &[Claim]) -> Result<Vec<Lost>, StorageError> {
        self.stage.storage().verify(self.id(), held.to_vec()).await
    }

    /// Ends in good order.
    pub async fn retire(&self) {
        self.stage.storage().retire(self.id()).await.expect("the server retires");
    }
}
