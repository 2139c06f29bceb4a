//! Enqueueing in the user's own transaction on the same file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::client::block_on;
use portfire_core::{
    Call, ClaimRequest, Client, ClientError, Clock, CycleRequest, InvalidJob, JobFn, JobId,
    JobState, Limits, ManualClock, Monitor, NewServer, QueueName, Retention, ServerId, StateName,
    Storage, StorageError,
};
use portfire_sqlite::rusqlite::{Connection, TransactionBehavior};
use portfire_sqlite::{SqliteOptions, SqliteStorage};

struct Noop;

impl JobFn for Noop {
    const KIND: &'static str = "noop";
    type Output = ();
}

fn call(text: &str) -> Call<Noop> {
    Call::new(&serde_json::json!({ "text": text }))
}

struct Setup {
    _folder: tempfile::TempDir,
    path: PathBuf,
    storage: Arc<SqliteStorage>,
    client: Client,
    app: Connection,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let storage = Arc::new(block_on(SqliteStorage::open(&path)).unwrap());
    let app = Connection::open(&path).unwrap();
    app.execute_batch("CREATE TABLE account (name TEXT)").unwrap();
    let client = Client::new(storage.clone());
    Setup { _folder: folder, path, storage, client, app }
}

impl Setup {
    fn claimable(&self) -> usize {
        let id = ServerId::new(format!("server-{}", self.client.next_id()));
        let server = NewServer {
            kinds: Vec::new(),
            id: id.clone(),
            name: "server".to_owned(),
            queues: vec![QueueName::DEFAULT],
            workers: 1,
            lease: Duration::from_secs(30),
        };
        block_on(self.storage.announce(server)).unwrap();
        let mut request = CycleRequest::new(id.clone(), 1);
        request.claim =
            Some(ClaimRequest { queues: vec![QueueName::DEFAULT], max: 10, aging: None });
        let claimed = block_on(self.storage.cycle(request)).unwrap().claimed.len();
        block_on(self.storage.retire(id)).unwrap();
        claimed
    }
}

#[test]
fn enqueue_in_user_tx_commit_visible() {
    let mut s = setup();
    let mut tx = s.app.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    tx.execute("INSERT INTO account VALUES ('ann')", []).unwrap();
    let id = block_on(s.client.enqueue_in(&mut tx, call("welcome"))).unwrap();
    tx.commit().unwrap();
    let job = block_on(s.storage.job(id)).unwrap().expect("the job is stored");
    assert_eq!(job.args.as_str(), r#"{"text":"welcome"}"#);
    let counts = block_on(s.storage.counts()).unwrap();
    assert_eq!((counts.created_total, counts.of(StateName::Enqueued)), (1, 1));
    // The writer's own numbers go on behind those of the transaction.
    let next = block_on(s.client.enqueue(call("next"))).unwrap();
    assert_ne!(next, id);
    assert_eq!(block_on(s.storage.counts()).unwrap().created_total, 2);
    assert_eq!(s.claimable(), 2);
}

#[test]
fn enqueue_in_user_tx_rollback_invisible() {
    let mut s = setup();
    let mut tx = s.app.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let id = block_on(s.client.enqueue_in(&mut tx, call("never").queue("brand-new"))).unwrap();
    tx.rollback().unwrap();
    assert_eq!(block_on(s.storage.job(id)).unwrap(), None);
    assert_eq!(block_on(s.storage.counts()).unwrap().created_total, 0);
    assert!(block_on(s.storage.queues()).unwrap().is_empty());
}

#[test]
fn enqueue_in_user_tx_not_claimable_before_commit() {
    let mut s = setup();
    let id = ServerId::new("server");
    let server = NewServer {
        kinds: Vec::new(),
        id: id.clone(),
        name: "server".to_owned(),
        queues: vec![QueueName::DEFAULT],
        workers: 1,
        lease: Duration::from_secs(30),
    };
    block_on(s.storage.announce(server)).unwrap();
    let mut tx = s.app.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    block_on(s.client.enqueue_in(&mut tx, call("soon"))).unwrap();
    assert_eq!(block_on(s.storage.counts()).unwrap().created_total, 0, "read before the commit");
    // A claim waits for the transaction, and then finds its job.
    let mut request = CycleRequest::new(id, 1);
    request.claim = Some(ClaimRequest { queues: vec![QueueName::DEFAULT], max: 10, aging: None });
    let storage = s.storage.clone();
    let waiting = std::thread::spawn(move || block_on(storage.cycle(request)).unwrap());
    assert!(!waiting.is_finished());
    tx.commit().unwrap();
    assert_eq!(waiting.join().unwrap().claimed.len(), 1);
}

#[test]
fn a_commit_of_the_users_wakes_those_who_listen() {
    let mut s = setup();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut wakeups = s.storage.wakeups();
        s.client.enqueue(call("first")).await.unwrap();
        wakeups.work().await;
        let mut tx = s.app.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        s.client.enqueue_in(&mut tx, call("second")).await.unwrap();
        tx.commit().unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(10), wakeups.work()).await;
        assert!(heard.is_ok(), "no wake-up within ten seconds");
    });
}

#[test]
fn a_refused_job_leaves_the_users_transaction_open_and_whole() {
    let mut s = setup();
    let id = JobId::from_bytes([9; 16]);
    block_on(s.client.enqueue(call("one").id(id))).unwrap();
    let mut tx = s.app.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    tx.execute("INSERT INTO account VALUES ('ann')", []).unwrap();
    let taken = block_on(s.client.enqueue_in(&mut tx, call("other").id(id))).unwrap_err();
    assert!(matches!(taken, ClientError::Storage(StorageError::IdTaken { .. })), "{taken:?}");
    let fine = block_on(s.client.enqueue_in(&mut tx, call("another"))).unwrap();
    tx.commit().unwrap();
    let accounts: i64 =
        s.app.query_row("SELECT count(*) FROM account", [], |row| row.get(0)).unwrap();
    assert_eq!(accounts, 1);
    assert!(block_on(s.storage.job(fine)).unwrap().is_some());
    assert_eq!(block_on(s.storage.counts()).unwrap().created_total, 2);
}

#[test]
fn a_transaction_that_has_read_too_early_is_told_how_to_begin() {
    let mut s = setup();
    let mut tx = s.app.transaction_with_behavior(TransactionBehavior::Deferred).unwrap();
    let _: i64 = tx.query_row("SELECT count(*) FROM account", [], |row| row.get(0)).unwrap();
    block_on(s.client.enqueue(call("in between"))).unwrap();
    let late = block_on(s.client.enqueue_in(&mut tx, call("late"))).unwrap_err();
    assert!(matches!(late, ClientError::Storage(StorageError::Unavailable(_))), "{late:?}");
    assert!(late.to_string().contains("TransactionBehavior::Immediate"), "{late}");
}

#[test]
fn a_database_without_portfires_tables_is_told_apart() {
    let s = setup();
    let other = s.path.with_file_name("other.db");
    let mut app = Connection::open(&other).unwrap();
    let mut tx = app.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let lost = block_on(s.client.enqueue_in(&mut tx, call("lost"))).unwrap_err();
    assert!(matches!(lost, ClientError::Storage(StorageError::Unsupported(_))), "{lost:?}");
    assert!(lost.to_string().contains("SqliteStorage::open"), "{lost}");
}

/// The settings of the storage hold for what is enqueued in a transaction, too: retention, largest args, clock.
#[test]
fn enqueue_in_keeps_the_settings_of_the_storage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let clock = Arc::new(ManualClock::default());
    let hour = Duration::from_secs(3_600);
    let options = SqliteOptions::new(&path)
        .clock(clock.clone())
        .retention(Retention { deleted: Some(hour), ..Retention::default() })
        .limits(Limits { args_bytes_max: 40 });
    let storage = Arc::new(block_on(options.open()).unwrap());
    let client = Client::new(storage.clone());
    let mut app = Connection::open(&path).unwrap();

    let mut tx = app.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let refused = block_on(client.enqueue_in(&mut tx, call(&"x".repeat(40))));
    assert!(
        matches!(refused, Err(ClientError::Invalid(InvalidJob::ArgsTooLarge { .. }))),
        "{refused:?}"
    );
    let parent = block_on(client.enqueue_in(&mut tx, call("a"))).unwrap();
    let created_at = clock.now();
    tx.commit().unwrap();
    assert_eq!(block_on(storage.job(parent)).unwrap().unwrap().created_at, created_at);

    // What is deleted in the transaction itself is kept as long as the storage keeps it.
    assert!(block_on(client.delete(parent)).unwrap().is_done());
    let mut tx = app.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let child = block_on(client.enqueue_in(&mut tx, call("b").after(parent))).unwrap();
    tx.commit().unwrap();
    let child = block_on(storage.job(child)).unwrap().unwrap();
    let JobState::Deleted { deleted_at, expires_at, .. } = child.state else { panic!("{child:?}") };
    assert_eq!(expires_at, Some(deleted_at.saturating_add(hour)));
}
