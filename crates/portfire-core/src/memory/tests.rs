//! Unit tests of what the conformance suite cannot see or what is chosen here alone.

mod rules;

use super::*;
use crate::client::block_on;
use crate::clock::ManualClock;
use crate::error::StorageError;
use crate::job::{JobOptions, Json, KindName, When};
use crate::monitor::Cursor;
use crate::state::{Cause, ErrorRecord, JobState, StateName};
use crate::storage::{
    Action, ClaimRequest, ClaimedJob, Expect, Finish, LostReason, Outcome, Verdict,
};
use crate::wakeup::Wakeup;

const LEASE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// A storage on a clock that the test moves, with one live server.
struct Bench {
    clock: Arc<ManualClock>,
    storage: MemoryStorage,
    server: ServerId,
    keys: std::cell::Cell<u64>,
}

impl Bench {
    fn new() -> Bench {
        let clock = Arc::new(ManualClock::default());
        let storage = MemoryStorage::with_clock(clock.clone());
        let bench =
            Bench { clock, storage, server: ServerId::new("s"), keys: std::cell::Cell::new(0) };
        bench.announce("s").unwrap();
        bench
    }

    fn announce(&self, id: &str) -> Result<(), StorageError> {
        block_on(self.storage.announce(NewServer {
            kinds: Vec::new(),
            id: ServerId::new(id),
            name: id.to_owned(),
            queues: vec![QueueName::DEFAULT],
            workers: 1,
            lease: LEASE,
        }))
    }

    fn create(&self, job: NewJob) -> Created {
        block_on(self.storage.create(vec![job])).unwrap()[0]
    }

    fn request(&self) -> CycleRequest {
        self.keys.set(self.keys.get() + 1);
        CycleRequest::new(self.server.clone(), self.keys.get())
    }

    fn claim_request(&self, max: u32) -> CycleRequest {
        let claim = Some(ClaimRequest { queues: vec![QueueName::DEFAULT], max, aging: None });
        CycleRequest { claim, ..self.request() }
    }

    fn claim(&self, max: u32) -> Vec<ClaimedJob> {
        block_on(self.storage.cycle(self.claim_request(max))).unwrap().claimed
    }

    fn finish(&self, claim: Claim, outcome: Outcome) -> Verdict {
        let finish = Finish { claim, outcome, duration: SECOND };
        let request = CycleRequest { finished: vec![finish], ..self.request() };
        block_on(self.storage.cycle(request)).unwrap().verdicts[0]
    }

    fn change(&self, job: JobId, action: Action) -> Changed {
        let change = Change { job, action, expect: None };
        block_on(self.storage.change(vec![change])).unwrap()[0]
    }

    fn record(&self, job: JobId) -> JobRecord {
        block_on(self.storage.job(job)).unwrap().unwrap()
    }

    fn causes(&self, job: JobId) -> Vec<Cause> {
        let history = block_on(self.storage.history(job)).unwrap();
        history.into_iter().map(|entry| entry.cause).collect()
    }
}

fn id(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

fn job(n: u8) -> NewJob {
    NewJob::new(id(n), KindName::stored("k"), Json::empty())
}

fn ids(claimed: &[ClaimedJob]) -> Vec<JobId> {
    claimed.iter().map(|job| job.claim.job).collect()
}

fn succeeded() -> Outcome {
    Outcome::Succeeded { result: None }
}

#[test]
fn a_released_job_stands_before_what_came_after_it_and_a_requeued_one_behind() {
    let bench = Bench::new();
    for n in 1..=3 {
        let _ = bench.create(job(n));
    }
    let first = bench.claim(1)[0].claim;
    assert_eq!(bench.finish(first, Outcome::Released), Verdict::Applied);
    assert_eq!(ids(&bench.claim(1)), [id(1)]);

    assert!(bench.change(id(2), Action::Delete { reason: "no".into() }).is_done());
    assert!(bench.change(id(2), Action::Requeue).is_done());
    assert_eq!(ids(&bench.claim(9)), [id(3), id(2)]);
}

#[test]
fn a_finish_is_already_applied_only_while_the_job_stands_where_it_was_put() {
    let bench = Bench::new();
    let _ = bench.create(job(1));
    let claim = bench.claim(1)[0].claim;
    let retry = || Outcome::Retry { delay: SECOND, error: ErrorRecord::new("E", "broken") };
    assert_eq!(bench.finish(claim, retry()), Verdict::Applied);
    assert_eq!(bench.finish(claim, retry()), Verdict::Already);
    assert_eq!(bench.record(id(1)).failures, 1);

    bench.clock.advance(SECOND);
    block_on(bench.storage.promote(1)).unwrap();
    assert_eq!(bench.finish(claim, retry()), Verdict::Fenced);
    assert_eq!(bench.finish(Claim::new(id(9), 1), succeeded()), Verdict::Missing);
}

#[test]
fn a_finish_under_another_server_is_fenced_even_when_the_attempt_is_right() {
    let mut bench = Bench::new();
    let _ = bench.create(job(1));
    let claim = bench.claim(1)[0].claim;
    bench.announce("other").unwrap();
    bench.server = ServerId::new("other");
    assert_eq!(bench.finish(claim, succeeded()), Verdict::Fenced);
    assert_eq!(bench.causes(id(1)), [Cause::Created, Cause::Claimed]);
}

#[test]
fn a_repeated_cycle_answers_its_claim_again_and_claims_anew_when_it_was_never_applied() {
    let bench = Bench::new();
    for n in 1..=4 {
        let _ = bench.create(job(n));
    }
    let request = bench.claim_request(2);
    let repeat = CycleRequest { repeated: true, ..request.clone() };
    let first = block_on(bench.storage.cycle(request)).unwrap();
    assert_eq!(block_on(bench.storage.cycle(repeat.clone())).unwrap(), first);

    assert!(bench.change(id(1), Action::Delete { reason: "no".into() }).is_done());
    assert_eq!(ids(&block_on(bench.storage.cycle(repeat)).unwrap().claimed), [id(2)]);

    let lost = CycleRequest { repeated: true, ..bench.claim_request(9) };
    assert_eq!(ids(&block_on(bench.storage.cycle(lost)).unwrap().claimed), [id(3), id(4)]);
}

#[test]
fn a_dead_server_is_refused_for_ever_and_its_jobs_are_returned_in_chunks() {
    let bench = Bench::new();
    for n in 1..=3 {
        let _ = bench.create(job(n));
    }
    bench.claim(3);
    bench.clock.advance(LEASE);
    let two = RescueRequest { max: 2, ..RescueRequest::default() };
    let first = block_on(bench.storage.rescue(two)).unwrap();
    let server = bench.server.clone();
    assert_eq!(
        first,
        Rescued { dead: vec![server.clone()], returned: 2, more: true, ..Rescued::default() }
    );
    let rest = block_on(bench.storage.rescue(two)).unwrap();
    assert_eq!(rest, Rescued { returned: 1, ..Rescued::default() });

    let gone = |answer: Result<(), StorageError>| {
        assert!(matches!(answer, Err(StorageError::ServerGone { .. })), "{answer:?}");
    };
    gone(block_on(bench.storage.heartbeat(server, Vec::new())).map(drop));
    gone(bench.announce("s"));
    bench.clock.advance(DEAD_SHOWN);
    block_on(bench.storage.clean(1)).unwrap();
    assert_eq!(block_on(bench.storage.servers()).unwrap(), []);
    gone(bench.announce("s"));
}

#[test]
fn by_the_hosts_clock_a_lapsed_lease_is_no_crash() {
    let storage = MemoryStorage::new();
    block_on(storage.create(vec![job(1)])).unwrap();
    for n in 0..6 {
        let server = ServerId::new(format!("s{n}"));
        let brief = Duration::from_micros(1);
        let new = NewServer {
            id: server.clone(),
            name: "s".into(),
            queues: vec![QueueName::DEFAULT],
            workers: 1,
            lease: brief,
            kinds: Vec::new(),
        };
        block_on(storage.announce(new)).unwrap();
        let claim = ClaimRequest { queues: vec![QueueName::DEFAULT], max: 1, aging: None };
        let request = CycleRequest { claim: Some(claim), ..CycleRequest::new(server, 1) };
        assert_eq!(block_on(storage.cycle(request)).unwrap().claimed.len(), 1);
        while block_on(storage.rescue(RescueRequest::default())).unwrap().dead.is_empty() {}
    }
    let record = block_on(storage.job(id(1))).unwrap().unwrap();
    assert_eq!((record.recoveries, record.crashes, record.attempt), (0, 0, 6));
}

#[test]
fn a_job_that_kills_its_servers_is_failed_with_the_last_one_named() {
    let mut bench = Bench::new();
    // It would crash with the first, and that would then prove nothing.
    block_on(bench.storage.retire(bench.server.clone())).unwrap();
    let _ = bench.create(job(1));
    for n in 0..4 {
        let name = format!("s{n}");
        bench.announce(&name).unwrap();
        bench.server = ServerId::new(name);
        assert_eq!(bench.claim(1).len(), 1);
        bench.clock.advance(LEASE);
        block_on(bench.storage.rescue(RescueRequest::default())).unwrap();
    }
    let record = bench.record(id(1));
    let JobState::Failed { error, .. } = &record.state else { panic!("{record:?}") };
    assert_eq!(error.class, "poison");
    assert!(error.message.contains("s3"), "{}", error.message);
    let history = block_on(bench.storage.history(id(1))).unwrap();
    let rescued = history.iter().find(|entry| entry.cause == Cause::Rescued).unwrap();
    assert_eq!(
        (rescued.error.as_ref(), rescued.server.as_ref().map(ServerId::as_str)),
        (None, Some("s0"))
    );
}

#[test]
fn time_never_goes_back() {
    let bench = Bench::new();
    let start = bench.clock.now();
    bench.clock.set(start.saturating_sub(LEASE));
    let _ = bench.create(NewJob { when: When::In(SECOND), ..job(1) });
    assert_eq!(bench.record(id(1)).created_at, start);
    bench.clock.set(start.saturating_add(SECOND));
    let promoted = block_on(bench.storage.promote(9)).unwrap();
    assert_eq!(promoted, Promoted { promoted: 1, released: 0, next_in: None });
}

#[test]
fn the_retention_of_the_call_wins_over_the_storages() {
    let bench = Bench::new();
    let kept = Retention { succeeded: Some(SECOND), ..Retention::default() };
    let options = JobOptions { retention: Some(kept), ..JobOptions::default() };
    let _ = bench.create(NewJob { options, ..job(1) });
    let _ = bench.create(job(2));
    for claimed in bench.claim(2) {
        bench.finish(claimed.claim, succeeded());
    }
    bench.clock.advance(SECOND);
    let cleaned = block_on(bench.storage.clean(9)).unwrap();
    assert_eq!(cleaned, Cleaned { jobs: 1, more: false });
    assert!(block_on(bench.storage.job(id(1))).unwrap().is_none());
    assert!(block_on(bench.storage.history(id(1))).unwrap().is_empty());
}

#[test]
fn a_refused_batch_stores_nothing() {
    let bench = Bench::new();
    let other = NewJob { args: Json::stored("{\"a\":1}"), ..job(1) };
    let taken = block_on(bench.storage.create(vec![job(2), job(1), other]));
    assert!(matches!(taken, Err(StorageError::IdTaken { job }) if job == id(1)), "{taken:?}");
    let many = (0..=BATCH_MAX).map(|_| job(3)).collect();
    let refused = block_on(bench.storage.create(many));
    assert!(matches!(refused, Err(StorageError::Invalid(_))), "{refused:?}");
    let absurd = NewJob { when: When::In(Duration::MAX), ..job(4) };
    assert!(block_on(bench.storage.create(vec![job(5), absurd])).is_err());
    assert_eq!(block_on(bench.storage.counts()).unwrap().created_total, 0);

    let repeated = block_on(bench.storage.create(vec![job(1), job(1)])).unwrap();
    assert_eq!(repeated.iter().map(|created| created.existing).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn an_expectation_is_looked_at_before_the_change() {
    let bench = Bench::new();
    let _ = bench.create(job(1));
    let expect = Some(Expect::States(vec![StateName::Failed]));
    let change = Change { job: id(1), action: Action::Requeue, expect };
    let unexpected = Changed::Unexpected { state: StateName::Enqueued, revision: 1 };
    assert_eq!(block_on(bench.storage.change(vec![change])).unwrap(), [unexpected]);
    assert_eq!(bench.change(id(1), Action::Requeue), Changed::Unchanged);
    bench.claim(1);
    assert!(matches!(bench.change(id(1), Action::Requeue), Changed::Refused(_)));
}

#[test]
fn an_instant_that_is_past_waits_for_the_promotion() {
    let bench = Bench::new();
    let _ = bench.create(job(1));
    assert!(bench.change(id(1), Action::Reschedule(When::At(Timestamp::MIN))).is_done());
    assert_eq!(bench.claim(1), []);
    block_on(bench.storage.promote(1)).unwrap();
    assert_eq!(bench.claim(1).len(), 1);
}

#[test]
fn deleting_a_held_job_wakes_its_holder_who_then_hears_of_it() {
    let bench = Bench::new();
    let _ = bench.create(job(1));
    let claim = bench.claim(1)[0].claim;
    let mut wakeups = bench.storage.wakeups();
    assert!(bench.change(id(1), Action::Delete { reason: "no".into() }).is_done());
    assert_eq!(block_on(wakeups.next()), Wakeup::Control);
    let lost = block_on(bench.storage.verify(bench.server.clone(), vec![claim])).unwrap();
    assert_eq!(lost, [Lost { claim, reason: LostReason::Deleted }]);
    assert_eq!(block_on(bench.storage.servers()).unwrap()[0].processing, 0);
}

/// Reads a list by pages of two, while a job comes in between each two pages.
fn paged(bench: &Bench, state: Option<StateName>, priority: i16) -> Vec<JobId> {
    let mut found = Vec::new();
    let mut after = None;
    for new in 100.. {
        let filter = JobFilter { state, max: 2, after, ..JobFilter::default() };
        let page = block_on(bench.storage.jobs(filter)).unwrap();
        found.extend(page.jobs.iter().map(|job| job.id));
        let Some(next) = page.next else { break };
        after = Some(next);
        let _ = bench.create(NewJob { priority, ..job(new) });
    }
    found
}

#[test]
fn pages_of_all_jobs_come_newest_first_and_go_on_while_jobs_come() {
    let bench = Bench::new();
    for n in 1..=9 {
        let _ = bench.create(job(n));
    }
    let newest_first: Vec<JobId> = (1..=9).rev().map(id).collect();
    assert_eq!(paged(&bench, None, 0), newest_first);
}

#[test]
fn pages_of_enqueued_jobs_come_in_the_order_of_claims_and_go_on_while_jobs_come() {
    let bench = Bench::new();
    for n in 1..=9 {
        let _ = bench.create(NewJob { priority: i16::from(n % 3), ..job(n) });
    }
    let found = paged(&bench, Some(StateName::Enqueued), 9);
    assert_eq!(found, [2, 5, 8, 1, 4, 7, 3, 6, 9].map(id));
    assert_eq!(ids(&bench.claim(13))[4..], found);
}

#[test]
fn a_cursor_of_another_list_is_refused() {
    let bench = Bench::new();
    for text in ["x'; drop", "default.0.1", ""] {
        let after = Some(Cursor(text.into()));
        let refused = block_on(bench.storage.jobs(JobFilter { after, ..JobFilter::default() }));
        assert!(refused.unwrap_err().to_string().contains("is not where a page"), "{text}");
    }
}

#[test]
fn a_resumed_queue_wakes_and_an_unknown_one_is_listed_once_it_was_paused() {
    let bench = Bench::new();
    let mail = QueueName::new("mail").unwrap();
    block_on(bench.storage.set_queue_paused(mail.clone(), false)).unwrap();
    assert!(block_on(bench.storage.queues()).unwrap().is_empty());
    block_on(bench.storage.set_queue_paused(mail.clone(), true)).unwrap();
    let _ = bench.create(NewJob { queue: mail.clone(), ..job(1) });
    let wish = ClaimRequest { queues: vec![mail.clone()], max: 1, aging: None };
    let request = CycleRequest { claim: Some(wish), ..bench.request() };
    assert_eq!(block_on(bench.storage.cycle(request.clone())).unwrap().claimed, []);

    let mut wakeups = bench.storage.wakeups();
    block_on(bench.storage.set_queue_paused(mail, false)).unwrap();
    assert_eq!(block_on(wakeups.next()), Wakeup::Control);
    assert_eq!(block_on(wakeups.next()), Wakeup::Work);
    assert_eq!(block_on(bench.storage.cycle(request)).unwrap().claimed.len(), 1);
}
