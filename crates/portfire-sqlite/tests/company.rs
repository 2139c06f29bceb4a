//! Two calls that share a commit: the second sees what the first has done, though it is not written yet.
//!
//! The random sequences of `differential` look for such pairs; these are those that once were wrong.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use portfire_core::batch::BATCH_OPEN_MAX;
use portfire_core::client::block_on;
use portfire_core::{
    Answer, BatchChange, BatchChanged, BatchId, BatchState, ClaimRequest, CycleRequest, Finish,
    JobId, Json, KindName, ManualClock, Monitor, NewBatch, NewJob, NewServer, Outcome, QueueName,
    RescueRequest, Retention, ServerId, StateName, Storage, StorageError, Verdict,
};
use portfire_sqlite::{SqliteOptions, SqliteStorage, Synchronous};

const LEASE: Duration = Duration::from_secs(30);

/// A storage on a clock of its own.
struct Bench {
    storage: SqliteStorage,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().expect("the test may write to the temporary folder");
        let clock = Arc::new(ManualClock::default());
        let options = SqliteOptions::new(folder.path().join("jobs.db"))
            .clock(clock.clone())
            .synchronous(Synchronous::Off);
        let storage = options.open().await.expect("a new file opens");
        Bench { storage, clock, _folder: folder }
    }

    /// Does both in one commit, in this order.
    async fn together<A, B>(
        &self,
        mut first: Answer<'_, A>,
        mut second: Answer<'_, B>,
    ) -> Result<(A, B), StorageError> {
        let before = self.storage.commits();
        let mut held = Some(self.storage.hold_commits());
        let (mut a, mut b) = (None, None);
        poll_fn(|cx| {
            if a.is_none()
                && let Poll::Ready(answer) = first.as_mut().poll(cx)
            {
                a = Some(answer);
            }
            if b.is_none()
                && let Poll::Ready(answer) = second.as_mut().poll(cx)
            {
                b = Some(answer);
            }
            drop(held.take());
            if a.is_some() && b.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(self.storage.commits(), before + 1, "they share one commit");
        Ok((a.expect("answered")?, b.expect("answered")?))
    }

    fn server(&self) -> NewServer {
        NewServer {
            id: ServerId::new("web-1:1"),
            name: "web-1".to_owned(),
            queues: vec![QueueName::default()],
            workers: 1,
            lease: LEASE,
            kinds: Vec::new(),
        }
    }

    fn claim(&self) -> CycleRequest {
        let queues = vec![QueueName::default()];
        let claim = Some(ClaimRequest { queues, max: 1, aging: None });
        CycleRequest { claim, ..CycleRequest::new(self.server().id, 1) }
    }

    async fn state(&self, id: JobId) -> Option<StateName> {
        self.storage.job(id).await.expect("it is read").map(|job| job.state.name())
    }
}

fn job() -> NewJob {
    NewJob::new(JobId::from_bytes([1; 16]), KindName::stored("mail"), Json::empty())
}

#[test]
fn a_batch_that_is_sealed_at_the_last_moment_is_not_given_up() {
    block_on(async {
        let bench = Bench::new().await;
        let id = BatchId::new(JobId::from_bytes([2; 16]));
        let mut batch = NewBatch::new(id);
        batch.open = true;
        let mut member = job();
        member.ties.batch = Some(id);
        let stored = bench.storage.create_batches(vec![batch], vec![member.clone()]).await;
        assert_eq!(stored.expect("it is stored").len(), 1);
        bench.clock.advance(BATCH_OPEN_MAX);
        let seal = bench.storage.change_batch(id, BatchChange::Seal);
        let (sealed, _) =
            bench.together(seal, bench.storage.clean(10)).await.expect("both are done");
        assert_eq!(sealed, BatchChanged::Applied(BatchState::Started));
        let batch = bench.storage.batch(id).await.expect("it is read").expect("it is stored");
        assert_eq!((batch.state, batch.reason), (BatchState::Started, None));
        assert_eq!(bench.state(member.id).await, Some(StateName::Enqueued));
    });
}

#[test]
fn a_job_that_a_lapsed_server_claims_at_the_last_moment_is_returned() {
    block_on(async {
        let bench = Bench::new().await;
        bench.storage.announce(bench.server()).await.expect("it is announced");
        assert_eq!(bench.storage.create(vec![job()]).await.expect("it is stored").len(), 1);
        bench.clock.advance(LEASE);
        let claim = bench.storage.cycle(bench.claim());
        let rescue = bench.storage.rescue(RescueRequest::default());
        let (cycle, rescued) = bench.together(claim, rescue).await.expect("both are done");
        assert_eq!(cycle.claimed.len(), 1);
        assert_eq!((rescued.dead.len(), rescued.returned, rescued.more), (1, 1, false));
        assert_eq!(bench.state(job().id).await, Some(StateName::Enqueued));
    });
}

#[test]
fn a_job_that_is_not_kept_is_cleaned_in_the_commit_that_ends_it() {
    block_on(async {
        let bench = Bench::new().await;
        bench.storage.announce(bench.server()).await.expect("it is announced");
        let mut job = job();
        let none = Some(Duration::ZERO);
        job.options.retention = Some(Retention { succeeded: none, failed: none, deleted: none });
        let id = job.id;
        assert_eq!(bench.storage.create(vec![job]).await.expect("it is stored").len(), 1);
        let claim =
            bench.storage.cycle(bench.claim()).await.expect("it is claimed").claimed[0].claim;
        let outcome = Outcome::Succeeded { result: None };
        let finished = vec![Finish { claim, outcome, duration: Duration::ZERO }];
        let request = CycleRequest { finished, ..CycleRequest::new(bench.server().id, 2) };
        let finish = bench.storage.cycle(request);
        let (cycle, cleaned) =
            bench.together(finish, bench.storage.clean(10)).await.expect("both are done");
        assert_eq!(cycle.verdicts, [Verdict::Applied]);
        assert_eq!((cleaned.jobs, cleaned.more), (1, false));
        assert_eq!(bench.state(id).await, None);
    });
}
