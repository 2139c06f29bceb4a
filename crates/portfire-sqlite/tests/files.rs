//! The file: what is refused when it is opened, what is left after a restart, a crash, a full disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::client::block_on;
use portfire_core::{
    ClaimRequest, Clock, CycleRequest, Finish, JobId, Json, KindName, Limits, ManualClock, Monitor,
    NewJob, NewServer, Outcome, QueueName, ServerId, StateName, Storage, StorageError, When,
};
use portfire_sqlite::rusqlite::Connection;
use portfire_sqlite::{SqliteOptions, SqliteStorage, Synchronous, migrations};

fn id(number: u32) -> JobId {
    let mut id = [7; 16];
    id[12..].copy_from_slice(&number.to_be_bytes());
    JobId::from_bytes(id)
}

fn job(number: u32) -> NewJob {
    NewJob::new(id(number), KindName::stored("noop"), Json::empty())
}

fn large(number: u32, bytes: usize) -> NewJob {
    let args = Json::encode(&"x".repeat(bytes)).unwrap();
    NewJob::new(id(number), KindName::stored("noop"), args)
}

fn open(path: &Path) -> Result<SqliteStorage, StorageError> {
    block_on(SqliteStorage::open(path))
}

/// What opening is refused with, which must name the path.
fn refusal(path: &Path) -> (StorageError, String) {
    let error = open(path).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "`{text}` does not name {}", path.display());
    (error, text)
}

fn announce(storage: &SqliteStorage, name: &str) -> ServerId {
    let id = ServerId::new(name);
    let server = NewServer {
        kinds: Vec::new(),
        id: id.clone(),
        name: name.to_owned(),
        queues: vec![QueueName::DEFAULT],
        workers: 1,
        lease: Duration::from_secs(30),
    };
    block_on(storage.announce(server)).unwrap();
    id
}

fn claim(server: &ServerId, max: u32) -> CycleRequest {
    let mut request = CycleRequest::new(server.clone(), 1);
    request.claim = Some(ClaimRequest { queues: vec![QueueName::DEFAULT], max, aging: None });
    request
}

#[test]
fn a_damaged_file_is_refused_with_what_can_be_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    drop(open(&path).unwrap());
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(other);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5_000).unwrap();
    let (error, text) = refusal(&path);
    assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
    assert!(text.contains("restore a copy") && text.contains(".recover"), "{text}");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.txt");
    let letter = "Dear database, you are none. ".repeat(100);
    std::fs::write(&path, &letter).unwrap();
    let (error, text) = refusal(&path);
    assert!(matches!(error, StorageError::Unsupported(_)), "{error:?}");
    assert!(text.contains("is not an SQLite database"), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), letter);
}

#[test]
fn a_database_of_another_application_is_refused_unless_it_is_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let app = Connection::open(&path).unwrap();
    app.execute_batch("PRAGMA application_id = 17; CREATE TABLE note (text TEXT)").unwrap();
    drop(app);
    let (error, text) = refusal(&path);
    assert!(matches!(error, StorageError::Unsupported(_)), "{error:?}");
    assert!(text.contains("another application") && text.contains("adopt(true)"), "{text}");

    let adopted = block_on(SqliteOptions::new(&path).adopt(true).open()).unwrap();
    block_on(adopted.create(vec![job(1)])).unwrap();
    drop(adopted);
    let again = open(&path).expect("once Portfire's tables are there the file is known");
    assert_eq!(block_on(again.counts()).unwrap().created_total, 1);
    let app = Connection::open(&path).unwrap();
    let mark: i64 = app.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
    assert_eq!(mark, 17, "the application's mark stays");
}

#[test]
fn a_newer_schema_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    drop(open(&path).unwrap());
    let newer = Connection::open(&path).unwrap();
    let add = "INSERT INTO portfire_schema VALUES (99, 'of the future', 99, '2036-01-01')";
    newer.execute_batch(add).unwrap();
    let (error, text) = refusal(&path);
    assert!(matches!(error, StorageError::Unsupported(_)), "{error:?}");
    let newest = migrations().last().unwrap().version;
    assert!(text.contains("version 99") && text.contains(&format!("up to {newest}")), "{text}");
}

#[test]
fn a_newer_schema_that_says_it_fits_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    drop(open(&path).unwrap());
    let newer = Connection::open(&path).unwrap();
    let add = "INSERT INTO portfire_schema VALUES (99, 'an addition', 1, '2036-01-01')";
    newer.execute_batch(add).unwrap();
    let storage = open(&path).unwrap();
    block_on(storage.create(vec![job(1)])).unwrap();
}

#[test]
fn a_read_only_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    drop(open(&path).unwrap());
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let (error, text) = refusal(&path);
    assert!(matches!(error, StorageError::ReadOnly(_)), "{error:?}");
    assert!(text.contains("takes no writes"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let set = |mode| {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(0o500);
    let (error, text) = refusal(&path);
    set(0o700);
    assert!(matches!(error, StorageError::ReadOnly(_)), "{error:?}");
    assert!(text.contains("folder"), "{text}");
}

#[test]
fn a_missing_folder_and_a_folder_for_a_file_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (error, text) = refusal(&folder.path().join("missing").join("jobs.db"));
    assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
    assert!(text.contains("make it first"), "{text}");
    let (error, text) = refusal(folder.path());
    assert!(matches!(error, StorageError::Unsupported(_)), "{error:?}");
    assert!(text.contains("is a folder"), "{text}");
}

#[cfg(unix)]
#[test]
fn the_files_belong_to_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder.path().join("jobs.db")).unwrap();
    announce(&storage, "server");
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storage = open(&path).unwrap();
    let mut later = job(2);
    later.when = When::In(Duration::from_secs(3_600));
    block_on(storage.create(vec![job(1), later])).unwrap();
    let before = [block_on(storage.job(id(1))).unwrap(), block_on(storage.job(id(2))).unwrap()];
    drop(storage);

    let storage = open(&path).unwrap();
    let after = [block_on(storage.job(id(1))).unwrap(), block_on(storage.job(id(2))).unwrap()];
    assert_eq!(before, after);
    assert!(before[0].is_some() && before[1].is_some());
}

/// The file and its log as a crash leaves them: copied while the storage is open.
#[test]
fn what_was_acknowledged_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storage = open(&path).unwrap();
    block_on(storage.create((0..100).map(job).collect())).unwrap();
    let server = announce(&storage, "before");
    let claimed = block_on(storage.cycle(claim(&server, 10))).unwrap().claimed;
    let mut request = CycleRequest::new(server, 2);
    request.finished = claimed[..5]
        .iter()
        .map(|job| {
            let outcome = Outcome::Succeeded { result: None };
            Finish { claim: job.claim, outcome, duration: Duration::ZERO }
        })
        .collect();
    block_on(storage.cycle(request)).unwrap();

    let crashed = folder.path().join("crashed.db");
    std::fs::copy(&path, &crashed).unwrap();
    let log = |path: &Path| path.with_extension("db-wal");
    std::fs::copy(log(&path), log(&crashed)).unwrap();
    let after = open(&crashed).unwrap();
    let counts = block_on(after.counts()).unwrap();
    let found = [StateName::Enqueued, StateName::Processing, StateName::Succeeded]
        .map(|state| counts.of(state));
    assert_eq!(found, [90, 5, 5]);
}

#[test]
fn a_full_disk_takes_nothing_that_was_acknowledged_and_work_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let small = SqliteOptions::new(&path).file_bytes_max(400 * 1024);
    let storage = block_on(small.open()).unwrap();
    let mut stored = 0;
    let full = loop {
        match block_on(storage.create(vec![large(stored, 4_000)])) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1_000, "the bound has no effect");
    };
    assert!(matches!(full, StorageError::Full(_)) && full.is_transient(), "{full:?}");
    assert!(full.to_string().contains("jobs.db"), "{full}");
    assert!(stored > 10);
    let counts = block_on(storage.counts()).unwrap();
    assert_eq!(counts.created_total, u64::from(stored), "exactly what was acknowledged");
    assert!(block_on(storage.job(id(stored))).unwrap().is_none());
    drop(storage);

    let roomy = open(&path).unwrap();
    block_on(roomy.create(vec![large(stored, 4_000)])).unwrap();
    let server = announce(&roomy, "server");
    let claimed = block_on(roomy.cycle(claim(&server, 1_000))).unwrap().claimed;
    assert_eq!(claimed.len(), stored as usize + 1);
}

#[test]
fn an_operation_that_does_not_fit_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let small = SqliteOptions::new(folder.path().join("jobs.db"))
        .file_bytes_max(600 * 1024)
        .limits(Limits { args_bytes_max: 1024 * 1024 });
    let storage = block_on(small.open()).unwrap();
    // Handed in before any of them is awaited, they share a commit or the next one.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (fits, too_large, fits_too) = runtime.block_on(async {
        tokio::join!(
            storage.create(vec![job(1)]),
            storage.create(vec![large(2, 900 * 1024)]),
            storage.create(vec![job(3)]),
        )
    });
    assert!(matches!(too_large, Err(StorageError::Full(_))), "{too_large:?}");
    assert!(fits.is_ok() && fits_too.is_ok(), "{fits:?} {fits_too:?}");
    assert_eq!(block_on(storage.counts()).unwrap().created_total, 2);
}

#[test]
fn a_damaged_row_is_named_and_nothing_is_done_by_halves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storage = open(&path).unwrap();
    block_on(storage.create(vec![job(1), job(2)])).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("UPDATE portfire_job SET options = 'damaged' WHERE seq = 2").unwrap();

    let server = announce(&storage, "server");
    let damaged = block_on(storage.cycle(claim(&server, 10))).unwrap_err();
    assert!(matches!(damaged, StorageError::Corrupt(_)), "{damaged:?}");
    assert!(damaged.to_string().contains("the options of job number 2"), "{damaged}");
    let counts = block_on(storage.counts()).unwrap();
    assert_eq!((counts.of(StateName::Enqueued), counts.of(StateName::Processing)), (2, 0));
    assert_eq!(block_on(storage.cycle(claim(&server, 1))).unwrap().claimed.len(), 1);
}

#[test]
fn storage_time_does_not_go_back_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let clock = Arc::new(ManualClock::default());
    let open = || block_on(SqliteOptions::new(&path).clock(clock.clone()).open()).unwrap();
    let storage = open();
    block_on(storage.create(vec![job(1)])).unwrap();
    let before = block_on(storage.now()).unwrap();
    drop(storage);

    clock.set(clock.now().saturating_sub(Duration::from_secs(3_600)));
    let storage = open();
    assert_eq!(block_on(storage.now()).unwrap(), before);
    block_on(storage.create(vec![job(2)])).unwrap();
    let created_at = block_on(storage.job(id(2))).unwrap().unwrap().created_at;
    assert_eq!(created_at, before);
    // Nor does it stand still, until the clock has caught up.
    assert_eq!(block_on(storage.skew()).unwrap(), Duration::from_secs(3_600));
    clock.advance(Duration::from_secs(16));
    assert_eq!(block_on(storage.now()).unwrap().since(before), Duration::from_secs(15));
}

#[test]
fn two_clocks_on_one_file_agree_on_the_pace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let [ahead, right] = [0, 1].map(|_| Arc::new(ManualClock::default()));
    let hour = Duration::from_secs(3_600);
    ahead.set(right.now().saturating_add(hour));
    let open = |clock: &Arc<ManualClock>| {
        block_on(SqliteOptions::new(&path).clock(clock.clone()).open()).unwrap()
    };
    let (wrong, other) = (open(&ahead), open(&right));
    block_on(wrong.create(vec![job(1)])).unwrap();
    let start = block_on(other.now()).unwrap();
    assert_eq!((start, block_on(other.skew()).unwrap()), (ahead.now(), hour));
    // Both keep on writing, and neither drives the other on.
    for n in 2..34 {
        ahead.advance(Duration::from_secs(1));
        right.advance(Duration::from_secs(1));
        let writer = if n % 2 == 0 { &wrong } else { &other };
        block_on(writer.create(vec![job(n)])).unwrap();
    }
    let passed = block_on(other.now()).unwrap().since(start);
    assert!(passed >= Duration::from_secs(31) && passed <= Duration::from_secs(32), "{passed:?}");
    // The one that is ahead is set right: time goes on.
    drop(wrong);
    ahead.set(right.now());
    let wrong = open(&ahead);
    let start = block_on(other.now()).unwrap();
    assert_eq!(block_on(wrong.now()).unwrap(), start);
    ahead.advance(Duration::from_secs(16));
    right.advance(Duration::from_secs(16));
    assert_eq!(block_on(wrong.now()).unwrap().since(start), Duration::from_secs(15));
    assert_eq!(block_on(other.now()).unwrap().since(start), Duration::from_secs(15));
}

#[test]
fn clones_share_the_storage_and_close_ends_it_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(&folder.path().join("jobs.db")).unwrap();
    let second = first.clone();
    block_on(first.create(vec![job(1)])).unwrap();
    drop(first);
    assert_eq!(block_on(second.counts()).unwrap().created_total, 1);
    let third = second.clone();
    block_on(second.close());
    assert!(matches!(block_on(third.create(vec![job(2)])), Err(StorageError::Closed)));
    assert!(matches!(block_on(third.counts()), Err(StorageError::Closed)));
}

#[test]
fn what_was_handed_in_is_written_before_the_file_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storage = open(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (created, ()) =
        runtime.block_on(async { tokio::join!(storage.create(vec![job(1)]), storage.close()) });
    created.unwrap();
    let log = path.with_extension("db-wal");
    assert!(!log.exists(), "the last connection brings the log into the file");
    assert!(block_on(open(&path).unwrap().job(id(1))).unwrap().is_some());
}

#[test]
fn a_weaker_durability_is_said_aloud() {
    let folder = tempfile::tempdir().unwrap();
    let told = |synchronous| {
        let path = folder.path().join(format!("{synchronous:?}.db"));
        let storage = block_on(SqliteOptions::new(path).synchronous(synchronous).open()).unwrap();
        storage.info().durability
    };
    assert!(told(Synchronous::Full).contains("synced"));
    assert!(told(Synchronous::Normal).contains("POWER FAILURE MAY UNDO"));
    assert!(told(Synchronous::Off).contains("POWER FAILURE MAY DESTROY"));
}

#[test]
fn a_second_migration_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let schema = || {
        drop(open(&path).unwrap());
        let conn = Connection::open(&path).unwrap();
        let mut select = conn.prepare("SELECT sql FROM sqlite_schema ORDER BY name").unwrap();
        let rows = select.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
        rows.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let first = schema();
    assert!(first.len() > 10);
    assert_eq!(first, schema());
}

#[test]
fn a_long_log_is_brought_into_the_file_while_commits_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let options = SqliteOptions::new(&path).synchronous(Synchronous::Off);
    let storage = block_on(options.open()).unwrap();
    for call in 0..60 {
        let jobs = (0..250).map(|at| large(call * 250 + at, 4_000)).collect();
        block_on(storage.create(jobs)).unwrap();
    }
    let file = std::fs::metadata(&path).unwrap().len();
    assert!(file > 20_000_000, "{file} bytes in the file");
}

/// The storage, its file, and where the file is moved to.
#[cfg(unix)]
fn moved_file() -> (tempfile::TempDir, SqliteStorage, [std::path::PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let [path, away] = ["jobs.db", "away.db"].map(|name| folder.path().join(name));
    let storage = open(&path).unwrap();
    block_on(storage.create(vec![job(1)])).unwrap();
    std::fs::rename(&path, &away).unwrap();
    (folder, storage, [path, away])
}

#[cfg(unix)]
#[test]
fn a_file_that_was_removed_takes_no_jobs_until_it_is_back() {
    let (_folder, storage, [path, away]) = moved_file();
    let refused = block_on(storage.create(vec![job(2)])).unwrap_err();
    let text = refused.to_string();
    assert!(refused.is_transient() && text.contains("jobs.db was removed"), "{text}");
    let unread = block_on(storage.counts()).unwrap_err().to_string();
    assert!(unread.contains("jobs.db was removed"), "{unread}");

    std::fs::rename(&away, &path).unwrap();
    block_on(storage.create(vec![job(3)])).unwrap();
    assert_eq!(block_on(storage.counts()).unwrap().created_total, 2, "nothing of what was refused");
}

#[cfg(unix)]
#[test]
fn a_file_that_was_replaced_takes_no_jobs() {
    let (_folder, storage, [path, away]) = moved_file();
    std::fs::copy(&away, &path).unwrap();
    let text = block_on(storage.create(vec![job(2)])).unwrap_err().to_string();
    assert!(text.contains("replaced by another file") && text.contains("restart"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_log_that_was_removed_takes_no_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storage = open(&path).unwrap();
    block_on(storage.create(vec![job(1)])).unwrap();
    std::fs::remove_file(path.with_extension("db-wal")).unwrap();
    let text = block_on(storage.create(vec![job(2)])).unwrap_err().to_string();
    assert!(text.contains("jobs.db-wal, the log of the database, was removed"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_file_that_was_cut_short_takes_no_jobs() {
    for left in [0, 4_096] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        let storage = open(&path).unwrap();
        block_on(storage.create(vec![job(1)])).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        block_on(storage.create(vec![job(2)])).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(left).unwrap();
        let text = block_on(storage.create(vec![job(3)])).unwrap_err().to_string();
        assert!(text.contains("cut short") && text.contains("restore a copy"), "{text}");
    }
}

#[test]
fn a_file_that_a_vacuum_has_shortened_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storage = open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    let add = "CREATE TABLE large (text TEXT); INSERT INTO large VALUES (zeroblob(1000000)); \
               PRAGMA wal_checkpoint(TRUNCATE)";
    other.execute_batch(add).unwrap();
    block_on(storage.create(vec![job(1)])).unwrap();
    let long = std::fs::metadata(&path).unwrap().len();
    other.execute_batch("DROP TABLE large; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() + 900_000 < long);
    block_on(storage.create(vec![job(2)])).unwrap();
    assert_eq!(block_on(storage.counts()).unwrap().created_total, 2);
}

#[test]
fn an_open_waits_as_long_as_it_says_for_others_that_make_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE note (text TEXT)").unwrap();
    let patience = Duration::from_millis(100);
    // The lock of one who makes the file, and of one who reads it and keeps the log from being turned on.
    for holds in ["BEGIN IMMEDIATE", "BEGIN; SELECT * FROM note"] {
        other.execute_batch(holds).unwrap();
        let begin = std::time::Instant::now();
        let refused =
            block_on(SqliteOptions::new(&path).busy_timeout(patience).open()).unwrap_err();
        assert!(begin.elapsed() >= patience, "refused after {:?}: {refused}", begin.elapsed());
        other.execute_batch("ROLLBACK").unwrap();
    }
    open(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_device_is_told_from_a_file() {
    for path in ["/dev/null", "/dev/zero"] {
        let (error, text) = refusal(Path::new(path));
        assert!(matches!(error, StorageError::Unsupported(_)), "{error:?}");
        assert!(text.contains("is a pipe, a socket or a device"), "{text}");
    }
}
