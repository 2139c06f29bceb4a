//! Continuations and batches beyond the contract's cases: many of them, through several connections, over
//! a restart, beside calls that are refused, and in files of earlier versions.

use std::path::Path;
use std::sync::Arc;
use std::sync::Barrier;
use std::time::Duration;

use portfire_core::client::block_on;
use portfire_core::storage::RELEASE_MAX;
use portfire_core::{
    BatchChange, BatchChanged, BatchId, BatchState, ClaimRequest, ClaimedJob, CycleRequest,
    Dependency, Finish, JobFilter, JobId, JobState, Json, KindName, LimitName, LimitRule, LimitUse,
    Monitor, NewBatch, NewJob, NewServer, Outcome, QueueName, ServerId, StateName, Storage,
    StorageError, Verdict, When,
};
use portfire_sqlite::rusqlite::Connection;
use portfire_sqlite::{SqliteOptions, SqliteStorage, Synchronous, migrations};

fn id(number: u32) -> JobId {
    let mut id = [9; 16];
    id[12..].copy_from_slice(&number.to_be_bytes());
    JobId::from_bytes(id)
}

fn job(number: u32) -> NewJob {
    NewJob::new(id(number), KindName::stored("noop"), Json::empty())
}

fn after(number: u32, parent: u32) -> NewJob {
    let mut job = job(number);
    job.ties.after = vec![Dependency::on(id(parent))];
    job
}

fn member(number: u32, batch: BatchId) -> NewJob {
    let mut job = job(number);
    job.ties.batch = Some(batch);
    job
}

/// Power failures are not the question here.
fn open(path: &Path) -> SqliteStorage {
    block_on(SqliteOptions::new(path).synchronous(Synchronous::Off).open()).unwrap()
}

/// A server and what it asks.
struct Worker<'a> {
    storage: &'a SqliteStorage,
    server: ServerId,
    cycles: u64,
}

impl<'a> Worker<'a> {
    fn new(storage: &'a SqliteStorage, name: &str) -> Worker<'a> {
        let server = ServerId::new(name);
        let new = NewServer {
            id: server.clone(),
            name: name.to_owned(),
            queues: vec![QueueName::DEFAULT],
            workers: 1,
            lease: Duration::from_secs(3_600),
            kinds: Vec::new(),
        };
        block_on(storage.announce(new)).unwrap();
        Worker { storage, server, cycles: 0 }
    }

    fn cycle(&mut self, finished: Vec<Finish>, max: u32) -> (Vec<Verdict>, Vec<ClaimedJob>) {
        self.cycles += 1;
        let mut request = CycleRequest::new(self.server.clone(), self.cycles);
        request.finished = finished;
        request.claim = Some(ClaimRequest { queues: vec![QueueName::DEFAULT], max, aging: None });
        let cycle = block_on(self.storage.cycle(request)).unwrap();
        (cycle.verdicts, cycle.claimed)
    }

    fn claim(&mut self, max: u32) -> Vec<ClaimedJob> {
        self.cycle(Vec::new(), max).1
    }
}

fn done(job: &ClaimedJob) -> Finish {
    let outcome = Outcome::Succeeded { result: None };
    Finish { claim: job.claim, outcome, duration: Duration::ZERO }
}

fn of(storage: &SqliteStorage, state: StateName) -> u64 {
    block_on(storage.counts()).unwrap().of(state)
}

fn state(storage: &SqliteStorage, number: u32) -> JobState {
    block_on(storage.job(id(number))).unwrap().expect("the job is stored").state
}

#[test]
fn a_large_result_is_written_once_for_all_who_ask_for_it() {
    const CHILDREN: u32 = 300;
    const RESULT_BYTES: usize = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storage = open(&path);
    let asks = |child| {
        let mut child = after(child, 0);
        child.ties.after = vec![Dependency::on(id(0)).passing()];
        child
    };
    let mut jobs = vec![job(0)];
    jobs.extend((1..=CHILDREN).map(asks));
    block_on(storage.create(jobs)).unwrap();
    let mut worker = Worker::new(&storage, "a");
    let parent = worker.claim(1);
    let result = Json::encode(&"x".repeat(RESULT_BYTES)).unwrap();
    let outcome = Outcome::Succeeded { result: Some(result.clone()) };
    let finish = Finish { claim: parent[0].claim, outcome, duration: Duration::ZERO };
    worker.cycle(vec![finish], 0);
    block_on(storage.create((CHILDREN + 1..=2 * CHILDREN).map(asks).collect())).unwrap();
    let claimed = worker.claim(2 * CHILDREN);
    assert_eq!(claimed.len(), 2 * CHILDREN as usize);
    assert!(claimed.iter().all(|child| child.parents[0].result.as_ref() == Some(&result)));

    let conn = Connection::open(&path).unwrap();
    let written: i64 = conn
        .query_row(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(written < 10 * RESULT_BYTES as i64, "{written} bytes are written");
}

#[test]
fn no_commit_releases_more_than_its_bound_of_5000_children() {
    const CHILDREN: u32 = 5_000;
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder.path().join("jobs.db"));
    let mut jobs = vec![job(0)];
    jobs.extend((1..=CHILDREN).map(|child| after(child, 0)));
    block_on(storage.create(jobs)).unwrap();
    assert_eq!(of(&storage, StateName::Awaiting), u64::from(CHILDREN));
    let mut worker = Worker::new(&storage, "a");
    let parent = worker.claim(1);
    let (verdicts, claimed) = worker.cycle(vec![done(&parent[0])], 1);
    assert_eq!(verdicts, [Verdict::Applied]);
    assert_eq!(claimed[0].claim.job, id(1), "the first child is there for the same cycle");
    let bound = RELEASE_MAX as u64;
    for released in 1..=4 {
        assert_eq!(of(&storage, StateName::Awaiting), u64::from(CHILDREN) - released * bound);
        let promoted = block_on(storage.promote(1_000)).unwrap();
        assert_eq!(u64::from(promoted.released), bound);
        assert_eq!(promoted.next_in.is_some(), released < 4, "the last one says that all is done");
    }
    assert_eq!(of(&storage, StateName::Awaiting), 0);
    // They come in the order of their creation.
    let claimed = worker.claim(CHILDREN);
    let order: Vec<JobId> = claimed.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, (2..=CHILDREN).map(id).collect::<Vec<_>>());
}

#[test]
fn what_one_commit_was_too_small_for_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storage = open(&path);
    let mut jobs = vec![job(0)];
    jobs.extend((1..=2_500).map(|child| after(child, 0)));
    block_on(storage.create(jobs)).unwrap();
    let mut worker = Worker::new(&storage, "a");
    let parent = worker.claim(1);
    worker.cycle(vec![done(&parent[0])], 0);
    assert_eq!(of(&storage, StateName::Awaiting), 1_500);
    drop(storage);

    let storage = open(&path);
    assert_eq!(block_on(storage.promote(10_000)).unwrap().released, 1_500);
    assert_eq!((of(&storage, StateName::Awaiting), of(&storage, StateName::Enqueued)), (0, 2_500));
    let listed = block_on(storage.continuations(id(0).into(), 500)).unwrap();
    assert_eq!(listed.len(), 500);
    assert!(listed.iter().all(|child| child.state == StateName::Enqueued));
}

#[test]
fn a_batch_of_100_000_is_built_in_ten_calls_and_starts_with_its_seal() {
    const CALLS: u32 = 10;
    const MEMBERS: u32 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder.path().join("jobs.db"));
    let batch = BatchId::new(id(u32::MAX));
    let mut new = NewBatch::new(batch);
    new.open = true;
    block_on(storage.create_batches(vec![new], Vec::new())).unwrap();
    let mut callback = job(MEMBERS);
    callback.ties.after = vec![Dependency::on(batch)];
    block_on(storage.create(vec![callback])).unwrap();
    for call in 0..CALLS {
        let share = MEMBERS / CALLS;
        let members = (call * share..(call + 1) * share).map(|number| member(number, batch));
        block_on(storage.create(members.collect())).unwrap();
    }
    let record = block_on(storage.batch(batch)).unwrap().unwrap();
    assert_eq!((record.state, record.members.total), (BatchState::Open, u64::from(MEMBERS)));
    let mut worker = Worker::new(&storage, "a");
    assert_eq!(worker.claim(1), [], "no member runs before the seal");

    let sealed = block_on(storage.change_batch(batch, BatchChange::Seal)).unwrap();
    assert_eq!(sealed, BatchChanged::Applied(BatchState::Started));
    assert_eq!(of(&storage, StateName::Enqueued), RELEASE_MAX as u64);
    while block_on(storage.promote(10_000)).unwrap().next_in.is_some() {}
    assert_eq!(of(&storage, StateName::Enqueued), u64::from(MEMBERS));

    let mut finished = Vec::new();
    let mut ran = 0;
    loop {
        let claimed = worker.cycle(std::mem::take(&mut finished), 10_000).1;
        if claimed.iter().any(|job| job.claim.job == id(MEMBERS)) {
            assert_eq!(claimed.len(), 1, "the callback comes after all members");
            break;
        }
        ran += claimed.len() as u32;
        finished = claimed.iter().map(done).collect();
    }
    assert_eq!(ran, MEMBERS);
    let record = block_on(storage.batch(batch)).unwrap().unwrap();
    assert_eq!(record.state, BatchState::Succeeded);
    assert_eq!((record.members.pending, record.members.succeeded), (0, u64::from(MEMBERS)));
}

#[test]
fn a_cancelled_batch_of_many_is_deleted_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder.path().join("jobs.db"));
    let batch = BatchId::new(id(u32::MAX));
    let members = (0..3_000).map(|number| member(number, batch)).collect();
    block_on(storage.create_batches(vec![NewBatch::new(batch)], members)).unwrap();
    let mut worker = Worker::new(&storage, "a");
    let held = worker.claim(10);
    let cancel = BatchChange::Cancel { reason: "enough".to_owned() };
    let cancelled = block_on(storage.change_batch(batch, cancel)).unwrap();
    assert_eq!(cancelled, BatchChanged::Applied(BatchState::Cancelling));
    assert_eq!(of(&storage, StateName::Deleted), 0, "it is one write");
    assert_eq!(worker.claim(10), [], "none is given out any more");
    assert_eq!(of(&storage, StateName::Deleted), 1_000, "and a claim does not do all of it");
    let promoted = block_on(storage.promote(500)).unwrap();
    assert_eq!((promoted.released, promoted.next_in), (500, Some(Duration::ZERO)));
    while block_on(storage.promote(500)).unwrap().next_in.is_some() {}
    assert_eq!(of(&storage, StateName::Deleted), 3_000);
    let (verdicts, _) = worker.cycle(held.iter().map(done).collect(), 0);
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Fenced));
    let record = block_on(storage.batch(batch)).unwrap().unwrap();
    assert_eq!((record.state, record.members.deleted), (BatchState::Cancelled, 3_000));
}

#[test]
fn a_cancelled_batch_whose_members_have_mostly_ended_is_looked_through_in_pieces() {
    const MEMBERS: u32 = 30_000;
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder.path().join("jobs.db"));
    let batch = BatchId::new(id(u32::MAX));
    let mut batches = vec![NewBatch::new(batch)];
    for call in 0..MEMBERS / 10_000 {
        let members = (call * 10_000..(call + 1) * 10_000).map(|number| member(number, batch));
        block_on(storage.create_batches(std::mem::take(&mut batches), members.collect())).unwrap();
    }
    let mut worker = Worker::new(&storage, "a");
    let mut left = MEMBERS - 1;
    while left > 0 {
        let claimed = worker.claim(left.min(10_000));
        left -= claimed.len() as u32;
        worker.cycle(claimed.iter().map(done).collect(), 0);
    }
    let cancel = BatchChange::Cancel { reason: "enough".to_owned() };
    let _ = block_on(storage.change_batch(batch, cancel)).unwrap();
    let first = block_on(storage.promote(100)).unwrap();
    assert_eq!((first.released, first.next_in), (0, Some(Duration::ZERO)), "there is more");
    let second = block_on(storage.promote(100)).unwrap();
    assert_eq!((second.released, second.next_in), (1, None));
    let record = block_on(storage.batch(batch)).unwrap().unwrap();
    assert_eq!((record.state, record.members.deleted), (BatchState::Cancelled, 1));
}

#[test]
fn a_child_that_is_created_while_its_parent_ends_is_never_stranded() {
    const ROUNDS: u32 = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storage = open(&path);
    let parents = (0..ROUNDS).map(job).collect();
    block_on(storage.create(parents)).unwrap();
    let other = open(&path);
    let barrier = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&barrier);
    let creator = std::thread::spawn(move || {
        for round in 0..ROUNDS {
            gate.wait();
            block_on(other.create(vec![after(ROUNDS + round, round)])).unwrap();
            gate.wait();
        }
    });
    let mut worker = Worker::new(&storage, "a");
    let claimed = worker.claim(ROUNDS);
    for round in 0..ROUNDS {
        barrier.wait();
        let parent = &claimed[round as usize];
        assert_eq!(worker.cycle(vec![done(parent)], 0).0, [Verdict::Applied]);
        barrier.wait();
        let child = state(&storage, ROUNDS + round);
        assert_eq!(child.name(), StateName::Enqueued, "round {round}: {child:?}");
    }
    creator.join().unwrap();
    assert_eq!(of(&storage, StateName::Awaiting), 0);
    assert_eq!(worker.claim(2 * ROUNDS).len() as u32, ROUNDS, "each child once");
}

/// Calls that come together share a commit; one that is refused takes nothing of the others with it, nor
/// leaves anything in what they keep in memory.
#[test]
fn a_refused_call_leaves_nothing_in_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder.path().join("jobs.db"));
    let batch = BatchId::new(id(u32::MAX));
    let first = vec![member(0, batch)];
    block_on(storage.create_batches(vec![NewBatch::new(batch)], first)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for round in 0..50 {
            let at = 1 + round * 10;
            let good = storage.create(vec![member(at, batch), member(at + 1, batch)]);
            let stray = vec![member(at + 2, batch), after(at + 3, u32::MAX - 1)];
            let refused = storage.create(stray);
            let alone = storage.create(vec![member(at + 4, batch)]);
            let (good, refused, alone) = tokio::join!(good, refused, alone);
            good.unwrap();
            alone.unwrap();
            assert!(matches!(refused, Err(StorageError::Invalid(_))), "{refused:?}");
        }
    });
    // Nor does a single one that is refused keep others' batches from ending.
    let empty = BatchId::new(id(u32::MAX - 2));
    runtime.block_on(async {
        let mut taken = job(0);
        taken.args = Json::stored("1");
        let refused = storage.create(vec![taken]);
        let ended = storage.create_batches(vec![NewBatch::new(empty)], Vec::new());
        let (refused, ended) = tokio::join!(refused, ended);
        assert!(matches!(refused, Err(StorageError::IdTaken { .. })), "{refused:?}");
        ended.unwrap();
    });
    assert_eq!(block_on(storage.batch(empty)).unwrap().unwrap().state, BatchState::Succeeded);
    let record = block_on(storage.batch(batch)).unwrap().unwrap();
    assert_eq!((record.members.total, record.members.pending), (151, 151));
    let filter = JobFilter { batch: Some(batch), max: 500, ..JobFilter::default() };
    assert_eq!(block_on(storage.jobs(filter)).unwrap().jobs.len(), 151);
}

#[test]
fn members_are_released_in_order_whoever_stands_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder.path().join("jobs.db"));
    let (batch, nested) = (BatchId::new(id(900)), BatchId::new(id(901)));
    let mut opened = NewBatch::new(batch);
    opened.open = true;
    let mut inner = NewBatch::new(nested);
    inner.parent = Some(batch);
    let mut limited = member(7, batch);
    limited.ties.limits = vec![LimitUse {
        limit: LimitName::new("one").unwrap(),
        partition: String::new(),
        declared: Some(LimitRule::concurrency(1)),
    }];
    let mut waits_more = member(8, batch);
    waits_more.ties.after = vec![Dependency::on(id(0))];
    let mut urgent = member(9, batch);
    urgent.priority = 5;
    let mut later = member(10, batch);
    later.when = When::In(Duration::from_secs(3_600));
    let mut elsewhere = member(11, batch);
    elsewhere.queue = QueueName::new("other").unwrap();
    elsewhere.kind = KindName::stored("unusual");
    block_on(storage.create(vec![job(0), job(1)])).unwrap();
    block_on(storage.create_batches(vec![opened, inner], vec![member(2, batch), member(3, batch)]))
        .unwrap();
    let others = vec![after(4, 0), member(5, batch), member(6, nested), limited, waits_more];
    block_on(storage.create(others)).unwrap();
    let rest = vec![urgent, later, elsewhere, member(12, batch), member(13, batch)];
    block_on(storage.create(rest)).unwrap();
    assert_eq!(of(&storage, StateName::Awaiting), 12);
    block_on(storage.create(vec![job(14)])).unwrap();

    let sealed = block_on(storage.change_batch(batch, BatchChange::Seal)).unwrap();
    assert_eq!(sealed, BatchChanged::Applied(BatchState::Started));
    assert_eq!(of(&storage, StateName::Awaiting), 2, "4 and 8 wait for job 0");
    assert_eq!(state(&storage, 10).name(), StateName::Scheduled);
    let kinds = block_on(storage.kinds()).unwrap();
    let enqueued = |at: usize| kinds[at].states.get(&StateName::Enqueued).copied();
    assert_eq!((enqueued(0), enqueued(1)), (Some(11), Some(1)), "{kinds:?}");
    let mut worker = Worker::new(&storage, "a");
    let order: Vec<JobId> = worker.claim(20).iter().map(|job| job.claim.job).collect();
    // What was there comes first, then the members as they were created; 6 with its batch, when that starts.
    assert_eq!(order, [9, 0, 1, 14, 2, 3, 5, 7, 12, 13, 6].map(id));
    for number in [2, 3, 5, 12, 13] {
        let history = block_on(storage.history(id(number))).unwrap();
        assert_eq!(history.len(), 3, "{history:?}");
    }
}

/// A database as version 1 left it, with a job in each state, most of them of one kind.
fn version_1(path: &Path) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(migrations()[0].sql).unwrap();
    conn.execute_batch(
        "INSERT INTO portfire_queue VALUES (1, 'default', 0);
         INSERT INTO portfire_kind VALUES (1, 'noop'), (2, 'other');
         INSERT INTO portfire_server_id VALUES (1, 'old');
         INSERT INTO portfire_server VALUES (1, 'old', '[\"default\"]', 1, 3600000000, 0, 1, NULL, 1, NULL);
         INSERT INTO portfire_ready VALUES (1, 0, 1, 1, NULL, 1, 0, 0, 0, 0);
         INSERT INTO portfire_ready VALUES (1, 0, 7, 7, NULL, 1, 0, 0, 0, 0);
         INSERT INTO portfire_scheduled VALUES (9000000000000000, 2, 0, 1, 0, 0, 0, 0);
         INSERT INTO portfire_running VALUES (3, 1, 1, 5, 3, NULL, 2, 1, 0, 0, 0);
         INSERT INTO portfire_succeeded VALUES (4, 6, NULL, 3, 1, 0, 0, 0, 1, 5, NULL, 1);
         INSERT INTO portfire_failed VALUES (5, 6, NULL, 3, 1, 1, 0, 3);
         INSERT INTO portfire_history VALUES (5, 1, 2, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL);
         INSERT INTO portfire_history VALUES (5, 2, 3, 5, 2, 1, 1, NULL, NULL, NULL, NULL);
         INSERT INTO portfire_history VALUES (5, 3, 5, 6, 10, NULL, 1, NULL, 'E', 'no', NULL);
         INSERT INTO portfire_deleted VALUES (6, 6, NULL, 2, 0, 0, 0, 2);
         INSERT INTO portfire_history VALUES (6, 1, 2, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL);
         INSERT INTO portfire_history VALUES (6, 2, 6, 6, 13, NULL, NULL, NULL, NULL, NULL, 'why');
         UPDATE portfire_tally SET scheduled = 1, enqueued = 2, processing = 1, succeeded = 1,
             failed = 1, deleted = 1, next = 8, high_water = 6, created_total = 7;
         INSERT INTO portfire_tally (queue, scheduled, enqueued, processing, succeeded, failed, deleted)
             VALUES (1, 1, 2, 1, 1, 1, 1);",
    )
    .unwrap();
    let body = "INSERT INTO portfire_job VALUES (?1, ?2, ?3, 1, 0, 1, ?4, NULL, '{}')";
    for seq in 1..=7u32 {
        let kind = if seq == 7 { 2 } else { 1 };
        let run_at = (seq == 2).then_some(9_000_000_000_000_000i64);
        let values = (seq, *id(seq).as_bytes(), kind, run_at);
        conn.execute(body, values).unwrap();
    }
}

#[test]
fn a_file_of_the_first_version_is_brought_up_with_its_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    version_1(&path);
    let storage = open(&path);
    let states = [
        StateName::Enqueued,
        StateName::Scheduled,
        StateName::Processing,
        StateName::Succeeded,
        StateName::Failed,
        StateName::Deleted,
    ];
    for (number, expected) in (1..).zip(states) {
        let record = block_on(storage.job(id(number))).unwrap().unwrap();
        assert_eq!((record.state.name(), record.ties.is_empty()), (expected, true));
        let history = block_on(storage.history(id(number))).unwrap();
        assert_eq!(history.len() as u32, record.revision, "{history:?}");
    }
    let kinds = block_on(storage.kinds()).unwrap();
    let noop = states.into_iter().map(|state| (state, 1)).collect();
    assert_eq!((kinds[0].name.as_str(), &kinds[0].states), ("noop", &noop));
    let other = [(StateName::Enqueued, 1)].into_iter().collect();
    assert_eq!((kinds[1].name.as_str(), &kinds[1].states), ("other", &other));

    // The old jobs are parents as any other.
    let children = vec![after(11, 1), after(13, 3), after(14, 4), after(15, 5), after(16, 6)];
    block_on(storage.create(children)).unwrap();
    let names = [11, 13, 14, 15, 16].map(|number| state(&storage, number).name());
    use StateName::{Awaiting, Deleted, Enqueued};
    assert_eq!(names, [Awaiting, Awaiting, Enqueued, Awaiting, Deleted]);
    let mut worker = Worker::new(&storage, "new");
    let claimed = worker.claim(1);
    assert_eq!(claimed[0].claim.job, id(1));
    worker.cycle(vec![done(&claimed[0])], 0);
    assert_eq!(state(&storage, 11).name(), Enqueued);
}
