//! A handler's own writes and the completion of its job in one commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::client::block_on;
use portfire_core::{
    Action, Call, Change, Claim, ClaimRequest, ClaimedJob, Client, ClientError, CycleRequest,
    Dependency, Finish, JobFn, JobId, JobState, Json, KindName, LimitName, LimitRule, LimitTarget,
    LimitUse, Monitor, NewJob, NewServer, Notes, Outcome, QueueName, ServerId, StateName, Storage,
    StorageError, Verdict,
};
use portfire_sqlite::rusqlite::{self, Connection};
use portfire_sqlite::{JobTransaction, SqliteOptions, SqliteStorage};

struct Noop;

impl JobFn for Noop {
    const KIND: &'static str = "noop";
    type Output = ();
}

fn call(text: &str) -> Call<Noop> {
    Call::new(&serde_json::json!({ "text": text }))
}

/// A storage with a server that holds one job, and a table of the user's.
struct Setup {
    _folder: tempfile::TempDir,
    path: PathBuf,
    storage: Arc<SqliteStorage>,
    client: Client,
    server: ServerId,
    job: ClaimedJob,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let storage = Arc::new(block_on(SqliteStorage::open(&path)).unwrap());
    let app = Connection::open(&path).unwrap();
    app.execute_batch("CREATE TABLE account (name TEXT UNIQUE)").unwrap();
    let client = Client::new(storage.clone());
    let server = ServerId::new("server");
    let new = NewServer {
        kinds: Vec::new(),
        id: server.clone(),
        name: "server".to_owned(),
        queues: vec![QueueName::DEFAULT],
        workers: 1,
        lease: Duration::from_secs(30),
    };
    block_on(storage.announce(new)).unwrap();
    block_on(client.enqueue(call("first"))).unwrap();
    let mut setup = claimed(&storage, &server, 1);
    let job = setup.pop().expect("the job is there to be claimed");
    Setup { _folder: folder, path, storage, client, server, job }
}

fn claimed(storage: &SqliteStorage, server: &ServerId, key: u64) -> Vec<ClaimedJob> {
    let mut request = CycleRequest::new(server.clone(), key);
    request.claim = Some(ClaimRequest { queues: vec![QueueName::DEFAULT], max: 10, aging: None });
    block_on(storage.cycle(request)).unwrap().claimed
}

impl Setup {
    fn begin(&self) -> JobTransaction {
        block_on(self.storage.begin(self.job.claim, self.server.clone())).unwrap()
    }

    fn accounts(&self) -> i64 {
        let app = Connection::open(&self.path).unwrap();
        app.query_row("SELECT count(*) FROM account", [], |row| row.get(0)).unwrap()
    }

    fn state(&self, id: JobId) -> Option<JobState> {
        block_on(self.storage.job(id)).unwrap().map(|job| job.state)
    }

    fn finish(&self) -> Verdict {
        let mut request = CycleRequest::new(self.server.clone(), 99);
        request.finished = vec![Finish {
            claim: self.job.claim,
            outcome: Outcome::Succeeded { result: None },
            duration: Duration::ZERO,
        }];
        block_on(self.storage.cycle(request)).unwrap().verdicts[0]
    }
}

fn insert(tx: &mut JobTransaction, name: &'static str) -> rusqlite::Result<usize> {
    let sql = "INSERT INTO account VALUES (?1)";
    block_on(tx.run(move |conn| conn.execute(sql, [name]))).unwrap()
}

#[test]
fn effects_follow_ups_and_completion_are_one_commit() {
    let s = setup();
    let mut tx = s.begin();
    insert(&mut tx, "ann").unwrap();
    let next = block_on(s.client.enqueue_in(&mut tx, call("next"))).unwrap();
    assert_eq!((s.accounts(), s.state(next)), (0, None), "seen before the commit");
    let result = Some(Json::encode(&7).unwrap());
    assert_eq!(block_on(tx.complete(result.clone())).unwrap(), Verdict::Applied);
    assert_eq!(s.accounts(), 1);
    let Some(JobState::Succeeded { result: stored, .. }) = s.state(s.job.claim.job) else {
        panic!("{:?}", s.state(s.job.claim.job));
    };
    assert_eq!(stored, result);
    assert_eq!(s.finish(), Verdict::Already, "the worker's own finish comes later");
    // The writer's own numbers go on behind those of the transaction.
    let following = claimed(&s.storage, &s.server, 2);
    assert_eq!(following.iter().map(|job| job.claim.job).collect::<Vec<_>>(), [next]);
    let counts = block_on(s.storage.counts()).unwrap();
    assert_eq!((counts.succeeded_total, counts.created_total), (1, 2));
}

#[test]
fn what_the_job_said_is_in_the_commit_too() {
    let s = setup();
    let notes = |text: &str| Notes { tags: vec![text.to_owned()], ..Notes::default() };
    let mut dropped = s.begin();
    block_on(dropped.note(notes("dropped"))).unwrap();
    drop(dropped);
    let mut tx = s.begin();
    block_on(tx.note(notes("kept"))).unwrap();
    assert_eq!(block_on(tx.complete(None)).unwrap(), Verdict::Applied);
    let record = block_on(s.storage.notes(s.job.claim.job)).unwrap();
    assert_eq!(record.tags, ["kept"]);
}

#[test]
fn a_transaction_that_is_dropped_writes_nothing_and_leaves_the_job_running() {
    let s = setup();
    let mut tx = s.begin();
    insert(&mut tx, "ann").unwrap();
    let next = block_on(s.client.enqueue_in(&mut tx, call("next").queue("brand-new"))).unwrap();
    drop(tx);
    let mut tx = s.begin();
    insert(&mut tx, "ann").unwrap();
    block_on(tx.rollback()).unwrap();
    assert_eq!((s.accounts(), s.state(next)), (0, None));
    assert!(block_on(s.storage.queues()).unwrap().iter().all(|q| q.name.as_str() != "brand-new"));
    assert_eq!(s.finish(), Verdict::Applied);
}

#[test]
fn a_job_that_was_taken_from_its_holder_commits_nothing() {
    let s = setup();
    let reason = "no longer wanted".to_owned();
    let delete = Change { job: s.job.claim.job, action: Action::Delete { reason }, expect: None };
    block_on(s.storage.change(vec![delete])).unwrap();
    let mut tx = s.begin();
    insert(&mut tx, "ann").unwrap();
    assert_eq!(block_on(tx.complete(None)).unwrap(), Verdict::Fenced);
    assert_eq!(s.accounts(), 0);
    let state = s.state(s.job.claim.job).map(|state| state.name());
    assert_eq!(state, Some(StateName::Deleted));
}

#[test]
fn a_second_completion_commits_nothing() {
    let s = setup();
    assert_eq!(block_on(s.begin().complete(None)).unwrap(), Verdict::Applied);
    let mut tx = s.begin();
    insert(&mut tx, "ann").unwrap();
    assert_eq!(block_on(tx.complete(None)).unwrap(), Verdict::Already);
    assert_eq!(s.accounts(), 0);
}

#[test]
fn the_holder_of_a_dead_server_commits_nothing() {
    let s = setup();
    block_on(s.storage.retire(s.server.clone())).unwrap();
    let mut tx = s.begin();
    insert(&mut tx, "ann").unwrap();
    let gone = block_on(tx.complete(None)).unwrap_err();
    assert!(matches!(gone, StorageError::ServerGone { .. }), "{gone:?}");
    assert_eq!(s.accounts(), 0);
}

#[test]
fn what_the_transaction_refuses_leaves_it_open_and_whole() {
    let s = setup();
    let mut tx = s.begin();
    insert(&mut tx, "ann").unwrap();
    insert(&mut tx, "ann").unwrap_err();
    let taken = call("other").id(s.job.claim.job);
    let taken = block_on(s.client.enqueue_in(&mut tx, taken)).unwrap_err();
    assert!(matches!(taken, ClientError::Storage(StorageError::IdTaken { .. })), "{taken:?}");
    let fine = block_on(s.client.enqueue_in(&mut tx, call("fine"))).unwrap();
    assert_eq!(block_on(tx.complete(None)).unwrap(), Verdict::Applied);
    assert_eq!(s.accounts(), 1);
    assert!(s.state(fine).is_some());
    assert_eq!(block_on(s.storage.counts()).unwrap().created_total, 2);
}

#[test]
fn sql_that_ends_the_transaction_is_told_and_the_job_is_not_completed() {
    let s = setup();
    let mut tx = s.begin();
    insert(&mut tx, "ann").unwrap();
    block_on(tx.run(|conn| conn.execute_batch("COMMIT"))).unwrap().unwrap();
    let late = block_on(tx.run(|conn| conn.execute_batch("SELECT 1"))).unwrap_err();
    assert!(late.to_string().contains("leave its end to `complete`"), "{late}");
    let refused = block_on(tx.complete(None)).unwrap_err();
    assert!(matches!(refused, StorageError::Unsupported(_)), "{refused:?}");
    assert_eq!(s.finish(), Verdict::Applied);
}

#[test]
fn a_panic_in_the_users_sql_is_the_handlers_and_writes_nothing() {
    let s = setup();
    let mut tx = s.begin();
    insert(&mut tx, "ann").unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        block_on(tx.run(|_| panic!("the balance is negative")))
    }));
    let panic = panicked.map(drop).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the balance is negative"));
    drop(tx);
    assert_eq!(s.accounts(), 0);
    assert_eq!(block_on(s.begin().complete(None)).unwrap(), Verdict::Applied);
}

#[test]
fn others_wait_for_the_transaction_and_see_what_it_has_done() {
    let s = setup();
    let mut tx = s.begin();
    block_on(s.client.enqueue_in(&mut tx, call("next"))).unwrap();
    let (storage, server) = (s.storage.clone(), s.server.clone());
    let waiting = std::thread::spawn(move || claimed(&storage, &server, 2));
    let (storage, server) = (s.storage.clone(), s.server.clone());
    let claim = Claim { attempt: s.job.claim.attempt + 1, ..s.job.claim };
    let second = std::thread::spawn(move || {
        let tx = block_on(storage.begin(claim, server)).unwrap();
        block_on(tx.complete(None)).unwrap()
    });
    assert!(!waiting.is_finished() && !second.is_finished());
    assert_eq!(block_on(tx.complete(None)).unwrap(), Verdict::Applied);
    assert_eq!(second.join().unwrap(), Verdict::Fenced);
    // The claim came before or after the commit of the second transaction, which changes nothing.
    assert_eq!(waiting.join().unwrap().len(), 1);
}

#[test]
fn whoever_waits_for_a_transaction_in_vain_hears_whose_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        SqliteOptions::new(folder.path().join("app.db")).busy_timeout(Duration::from_millis(20));
    let storage = block_on(options.open()).unwrap();
    let claim = Claim::new(JobId::from_bytes([7; 16]), 1);
    let tx = block_on(storage.begin(claim, ServerId::new("server"))).unwrap();
    let client = Client::new(Arc::new(storage.clone()));
    let error = block_on(client.enqueue(call("by the client"))).unwrap_err().to_string();
    assert!(
        error.contains(&format!("the transaction of job {} has been open", claim.job)),
        "{error}"
    );
    let twice = block_on(storage.begin(claim, ServerId::new("server"))).unwrap_err().to_string();
    assert!(twice.contains("has a transaction open already"), "{twice}");
    drop(tx);
    let again = block_on(storage.begin(claim, ServerId::new("server"))).unwrap();
    drop(again);
}

/// So many that they would starve each other if each asked SQLite for itself.
#[test]
fn a_hundred_transactions_at_once_all_have_their_turn() {
    let s = setup();
    let threads: Vec<_> = (0..100u32)
        .map(|n| {
            let (storage, server, client) = (s.storage.clone(), s.server.clone(), s.client.clone());
            let claim = Claim { attempt: n + 2, ..s.job.claim };
            std::thread::spawn(move || {
                let mut tx = block_on(storage.begin(claim, server)).unwrap();
                let sql = "UPDATE account SET name = ?1";
                block_on(tx.run(move |conn| conn.execute(sql, [n]))).unwrap().unwrap();
                block_on(client.enqueue_in(&mut tx, call("never"))).unwrap();
                drop(tx);
                block_on(client.enqueue(call("beside it"))).unwrap();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(block_on(s.storage.counts()).unwrap().created_total, 101);
}

#[test]
fn a_completion_frees_the_slot_of_a_limit_and_releases_what_waits() {
    let s = setup();
    let limit = LimitName::new("mutex").unwrap();
    let target = LimitTarget::Named(limit.clone());
    block_on(s.storage.set_limit(target, Some(LimitRule::concurrency(1)))).unwrap();
    let mut jobs: Vec<NewJob> = (1..=3u8)
        .map(|n| NewJob::new(JobId::from_bytes([n; 16]), KindName::stored("noop"), Json::empty()))
        .collect();
    for job in &mut jobs[..2] {
        let limit = limit.clone();
        job.ties.limits = vec![LimitUse { limit, partition: String::new(), declared: None }];
    }
    jobs[2].ties.after = vec![Dependency::on(jobs[0].id)];
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    block_on(s.storage.create(jobs)).unwrap();
    let first = claimed(&s.storage, &s.server, 2);
    assert_eq!(first.iter().map(|job| job.claim.job).collect::<Vec<_>>(), ids[..1]);
    let tx = block_on(s.storage.begin(first[0].claim, s.server.clone())).unwrap();
    assert_eq!(block_on(tx.complete(None)).unwrap(), Verdict::Applied);
    let next = claimed(&s.storage, &s.server, 3);
    let mut next: Vec<_> = next.iter().map(|job| job.claim.job).collect();
    next.sort_unstable();
    assert_eq!(next, ids[1..]);
}

#[test]
fn the_commit_wakes_those_who_listen() {
    let s = setup();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut wakeups = s.storage.wakeups();
        let mut tx = s.storage.begin(s.job.claim, s.server.clone()).await.unwrap();
        s.client.enqueue_in(&mut tx, call("second")).await.unwrap();
        tx.complete(None).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(10), wakeups.work()).await;
        assert!(heard.is_ok(), "no wake-up within ten seconds");
    });
}

#[test]
fn closing_waits_for_the_transaction() {
    let s = setup();
    let mut tx = s.begin();
    insert(&mut tx, "ann").unwrap();
    let storage = s.storage.clone();
    let closing = std::thread::spawn(move || block_on(storage.close()));
    assert!(!closing.is_finished());
    assert_eq!(block_on(tx.complete(None)).unwrap(), Verdict::Applied);
    closing.join().unwrap();
    let late = block_on(s.storage.begin(s.job.claim, s.server.clone())).unwrap_err();
    assert!(matches!(late, StorageError::Closed), "{late:?}");
    assert_eq!(s.accounts(), 1);
}

#[test]
fn the_storage_may_be_dropped_before_its_transaction() {
    let Setup { _folder, path, storage, client, server, job } = setup();
    let mut tx = block_on(storage.begin(job.claim, server)).unwrap();
    drop((storage, client));
    insert(&mut tx, "ann").unwrap();
    assert_eq!(block_on(tx.complete(None)).unwrap(), Verdict::Applied);
    let app = Connection::open(&path).unwrap();
    let accounts: i64 =
        app.query_row("SELECT count(*) FROM account", [], |row| row.get(0)).unwrap();
    assert_eq!(accounts, 1);
}
