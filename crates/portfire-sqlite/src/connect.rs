//! Opening connections, with the checks that stand between a wrong file and its damage.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portfire_core::StorageError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, InterruptHandle, OpenFlags};

use crate::error::storage_error;
use crate::migrate;
use crate::options::{SqliteOptions, Synchronous};

/// Marks a file as one of Portfire's: `PFIR`.
pub(crate) const APPLICATION_ID: i64 = 0x5046_4952;

/// Statements that a connection keeps prepared; all there are.
const STATEMENTS_KEPT: usize = 400;

/// The first version in which a commit that meets the restart of the log cannot damage the file, and
/// the later one that had the defect again. Source: sqlite.org/wal.html, "The WAL-Reset Bug".
const VERSION_MIN: i32 = 3_051_003;
const VERSION_BAD: i32 = 3_052_000;

/// The log is copied by `checkpoint.rs`; a file of 16 MiB at most stays when it begins anew.
const WRITER: &str = "PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 16777216; \
    PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;";

/// The log is left to the writer here, too.
const HAND: &str = "PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -4096;";

/// On macOS a plain sync leaves data in the cache of the disk; elsewhere this changes nothing.
const SYNC: &str = "PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;";

/// Opens the connection that writes, after all checks; makes or migrates the tables.
pub(crate) fn open_writer(options: &SqliteOptions) -> Result<Connection, StorageError> {
    check_version(rusqlite::version_number(), rusqlite::version())?;
    let path = &options.path;
    check_path(path)?;
    refuse_filesystem(path)?;
    make_file(path)?;
    let conn = open(path, options.busy_timeout)?;
    let fail = |error: rusqlite::Error| storage_error(&error, path);
    check_owner(&conn, path, options.adopt)?;
    let mode = patiently(options.busy_timeout, || use_log(&conn)).map_err(fail)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(StorageError::Unsupported(format!(
            "{}: the write-ahead log cannot be used here (journal mode is `{mode}`); \
             put the database on a local disk",
            path.display()
        )));
    }
    limit_pages(&conn, options)?;
    conn.execute_batch(WRITER).map_err(fail)?;
    migrate::bring_up(&conn, path)?;
    Ok(conn)
}

/// Switches the file to the log; answers its mode.
fn use_log(conn: &Connection) -> rusqlite::Result<String> {
    let mut statement = conn.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    let mode = match rows.next()? {
        Some(row) => row.get(0)?,
        None => return Err(rusqlite::Error::QueryReturnedNoRows),
    };
    // SQLite commits the switch behind that row: only the next step tells of a disk that failed.
    rows.next()?;
    Ok(mode)
}

fn limit_pages(conn: &Connection, options: &SqliteOptions) -> Result<(), StorageError> {
    let Some(bytes) = options.file_bytes_max else { return Ok(()) };
    let fail = |error: rusqlite::Error| storage_error(&error, &options.path);
    let page: u32 = conn.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(fail)?;
    let pages = i64::try_from(bytes.div_ceil(u64::from(page)).max(1)).unwrap_or(i64::MAX);
    conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).map_err(fail)
}

/// Opens a connection that only reads.
pub(crate) fn open_reader(path: &Path, busy_timeout: Duration) -> Result<Connection, StorageError> {
    let conn = open(path, busy_timeout)?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4096;")
        .map_err(|error| storage_error(&error, path))?;
    Ok(conn)
}

/// Opens a connection for transactions of running jobs; each of their commits is as durable as is set.
pub(crate) fn open_hand(options: &SqliteOptions) -> Result<Connection, StorageError> {
    let path = &options.path;
    let conn = open(path, options.busy_timeout)?;
    let fail = |error: rusqlite::Error| storage_error(&error, path);
    limit_pages(&conn, options)?;
    conn.execute_batch(HAND).map_err(fail)?;
    set_synchronous(&conn, options.synchronous).map_err(fail)?;
    Ok(conn)
}

fn open(path: &Path, busy_timeout: Duration) -> Result<Connection, StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let fail = |error: rusqlite::Error| storage_error(&error, path);
    #[allow(unused_mut)] // The oldest rusqlite in the range takes `&self` below.
    let mut conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    BUSY_TIMEOUT.set(busy_timeout);
    conn.busy_handler(Some(wait_a_little as fn(i32) -> bool)).map_err(fail)?;
    conn.execute_batch(SYNC).map_err(fail)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // Without this a statement is planned anew whenever a value that it compares with has changed.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(fail)?;
    Ok(conn)
}

/// Sets what the commits that follow survive.
pub(crate) fn set_synchronous(conn: &Connection, to: Synchronous) -> rusqlite::Result<()> {
    conn.execute_batch(match to {
        Synchronous::Full => "PRAGMA synchronous = FULL",
        Synchronous::Normal => "PRAGMA synchronous = NORMAL",
        Synchronous::Off => "PRAGMA synchronous = OFF",
    })
}

thread_local! {
    // A connection stays on the thread that opened it, so the settings of its waits can stay there too.
    static BUSY_TIMEOUT: Cell<Duration> = const { Cell::new(Duration::from_secs(30)) };
    static WAITING_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    static INTERRUPT: RefCell<Option<InterruptHandle>> = const { RefCell::new(None) };
}

/// Runs a statement that waits this long for all its locks, and is interrupted when it has not got one of
/// them. By itself SQLite would go on without it: a checkpoint copies what it can.
pub(crate) fn or_not_at_all<T>(
    conn: &Connection,
    patience: Duration,
    run: impl FnOnce() -> T,
) -> T {
    let usual = BUSY_TIMEOUT.replace(patience);
    INTERRUPT.set(Some(conn.get_interrupt_handle()));
    let done = run();
    INTERRUPT.set(None);
    BUSY_TIMEOUT.set(usual);
    done
}

/// Waits while another connection holds a lock: shortly, as a commit takes about a millisecond, and by
/// times that differ, so that several waiters do not come at once for ever.
///
/// SQLite lets in whoever asks at the right moment. Asking this often meets the gap between two
/// commits of a process that never stops writing within a few of them. Queueing by a lock file was
/// measured against it (`examples/throughput`, scenarios `processes` and `flood`): no fairer, slower.
fn wait_a_little(count: i32) -> bool {
    if count == 0 {
        WAITING_SINCE.set(Some(Instant::now()));
    }
    let waited = WAITING_SINCE.get().map(|since| since.elapsed()).unwrap_or_default();
    if waited >= BUSY_TIMEOUT.get() {
        INTERRUPT.with_borrow(|statement| statement.as_ref().map(InterruptHandle::interrupt));
        return false;
    }
    pause();
    true
}

fn pause() {
    std::thread::sleep(Duration::from_micros(50 + crate::random() % 200));
}

/// Repeats what SQLite refuses at once when another connection is in its way. Several that make a new file
/// at the same time all read it first, and of those who read SQLite lets nobody wait for the lock to write,
/// as they would wait for each other.
fn patiently<T>(
    patience: Duration,
    mut ask: impl FnMut() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let since = Instant::now();
    loop {
        match ask() {
            Err(error) if is_in_the_way(&error) && since.elapsed() < patience => pause(),
            done => return done,
        }
    }
}

fn is_in_the_way(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, FileLockingProtocolFailed};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseBusy | DatabaseLocked | FileLockingProtocolFailed)
    )
}

fn check_version(number: i32, text: &str) -> Result<(), StorageError> {
    if number >= VERSION_MIN && number != VERSION_BAD {
        return Ok(());
    }
    Err(StorageError::Unsupported(format!(
        "SQLite {text} can damage a database that several connections write (the WAL-reset defect); \
         use 3.51.3 or later, but not 3.52.0: the feature `bundled` brings one"
    )))
}

/// The path from the root, so that it stays the same file wherever the process goes.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, StorageError> {
    if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
        return Err(StorageError::Unsupported(format!(
            "`{}` names no file; for jobs that live in memory use `MemoryStorage`",
            path.display()
        )));
    }
    std::path::absolute(path).map_err(|error| io_error(&error, path))
}

fn check_path(path: &Path) -> Result<(), StorageError> {
    let folder = folder_of(path);
    let about = match fs::metadata(&folder) {
        Ok(about) => about,
        Err(error) => {
            return Err(StorageError::unavailable(format!(
                "{}: its folder {} cannot be reached ({error}); make it first",
                path.display(),
                folder.display()
            )));
        }
    };
    if !about.is_dir() {
        return Err(StorageError::unavailable(format!(
            "{}: {} is not a folder",
            path.display(),
            folder.display()
        )));
    }
    // On Windows the attribute of a folder says nothing about the files in it.
    if cfg!(unix) && about.permissions().readonly() {
        return Err(StorageError::ReadOnly(
            format!(
                "{}: its folder {} takes no writes, and SQLite puts two files beside the database; \
                 allow writing there",
                path.display(),
                folder.display()
            )
            .into(),
        ));
    }
    if fs::metadata(path).is_ok_and(|about| about.is_dir()) {
        return Err(StorageError::Unsupported(format!(
            "{} is a folder; give the path of a file",
            path.display()
        )));
    }
    if fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err(StorageError::Unsupported(format!(
            "{} is a pipe, a socket or a device, and a database is a plain file; give another path",
            path.display()
        )));
    }
    if fs::metadata(path).is_ok_and(|about| about.permissions().readonly()) {
        return Err(StorageError::ReadOnly(
            format!("{} takes no writes; allow writing to the file", path.display()).into(),
        ));
    }
    Ok(())
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Makes the file for its owner alone; SQLite gives the log beside it the same permissions.
fn make_file(path: &Path) -> Result<(), StorageError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_error(&error, path)),
    }
}

fn io_error(error: &std::io::Error, path: &Path) -> StorageError {
    use std::io::ErrorKind;
    let text = format!("{} cannot be made: {error}", path.display());
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StorageError::ReadOnly(text.into())
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StorageError::Full(text.into()),
        _ => StorageError::unavailable(text),
    }
}

/// Refuses a file that another application has marked and that holds no table of Portfire's.
fn check_owner(conn: &Connection, path: &Path, adopt: bool) -> Result<(), StorageError> {
    let fail = |error: rusqlite::Error| storage_error(&error, path);
    let id: i64 =
        conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(fail)?;
    if adopt || id == 0 || id == APPLICATION_ID || migrate::is_ours(conn).map_err(fail)? {
        return Ok(());
    }
    Err(StorageError::Unsupported(format!(
        "{} belongs to another application (its application_id is {id:#x}); give another path, or \
         open it with `SqliteOptions::adopt(true)` when jobs are to live beside that application's tables",
        path.display()
    )))
}

/// Refuses filesystems that take no writes, and those of the network: their locks and shared memory do not
/// hold what the log needs.
#[cfg(target_os = "linux")]
fn refuse_filesystem(path: &Path) -> Result<(), StorageError> {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    let Ok(folder) = fs::canonicalize(folder_of(path)) else { return Ok(()) };
    let path = path.display();
    match filesystem_of(&folder, &mounts) {
        Some(Filesystem { kind, .. }) if is_network(kind) => Err(StorageError::Unsupported(format!(
            "{path} lies on a network filesystem ({kind}), where SQLite's log does not work; \
             put the database on a local disk, or use a storage with a server"
        ))),
        Some(Filesystem { read_only: true, point, .. }) => Err(StorageError::ReadOnly(
            format!(
                "{path} lies on a filesystem that is mounted read-only, at {point}; put the database \
                 elsewhere, or mount that for writing"
            )
            .into(),
        )),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_filesystem(_path: &Path) -> Result<(), StorageError> {
    Ok(())
}

#[cfg(any(target_os = "linux", test))]
#[derive(Debug, PartialEq, Eq)]
struct Filesystem<'a> {
    kind: &'a str,
    read_only: bool,
    /// Where it is mounted.
    point: String,
}

/// The filesystem that a folder lies on, out of the text of `/proc/self/mountinfo`.
#[cfg(any(target_os = "linux", test))]
fn filesystem_of<'a>(folder: &Path, mounts: &'a str) -> Option<Filesystem<'a>> {
    let mount = |line: &'a str| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        let takes_no_writes = |options: Option<&str>| {
            options.is_some_and(|options| options.split(',').any(|option| option == "ro"))
        };
        let read_only =
            takes_no_writes(before.split(' ').nth(5)) || takes_no_writes(after.split(' ').nth(2));
        let kind = after.split(' ').next()?;
        folder.starts_with(&point).then_some(Filesystem { kind, read_only, point })
    };
    // Of mounts at the same point the later one covers the earlier.
    mounts.lines().filter_map(mount).max_by_key(|found| found.point.len())
}

#[cfg(any(target_os = "linux", test))]
fn is_network(kind: &str) -> bool {
    const NETWORK: [&str; 14] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "ceph",
        "fuse.sshfs",
        "fuse.glusterfs",
        "glusterfs",
        "lustre",
        "gpfs",
        "beegfs",
        "fuse.s3fs",
    ];
    NETWORK.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_the_log_defect_are_refused() {
        assert!(check_version(3_051_003, "3.51.3").is_ok());
        assert!(check_version(3_054_001, "3.54.1").is_ok());
        for (number, text) in [(3_051_002, "3.51.2"), (3_052_000, "3.52.0"), (3_040_001, "3.40.1")]
        {
            let refusal = check_version(number, text).unwrap_err().to_string();
            assert!(refusal.contains(text) && refusal.contains("3.51.3"), "{refusal}");
        }
    }

    #[test]
    fn the_innermost_mount_decides() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      30 22 0:40 / /srv/data rw,relatime shared:1 - nfs4 host:/data rw\n\
                      31 30 8:2 / /srv/data/local rw - xfs /dev/sdb1 rw\n\
                      32 22 0:41 / /mnt/my\\040share rw - cifs //host/share rw\n\
                      33 22 8:3 / /usr/share ro,relatime - ext4 /dev/sdc1 rw\n\
                      34 22 8:4 / /media/disc rw,relatime - iso9660 /dev/sr0 ro,nojoliet\n";
        let found = |path: &str| filesystem_of(Path::new(path), mounts);
        let kind = |path: &str| found(path).map(|found| found.kind);
        assert_eq!(kind("/srv"), Some("ext4"));
        assert_eq!(kind("/srv/data/jobs"), Some("nfs4"));
        assert_eq!(kind("/srv/data/local"), Some("xfs"));
        assert_eq!(kind("/mnt/my share/jobs"), Some("cifs"));
        let read_only = |path: &str| found(path).map(|found| found.read_only);
        assert_eq!(read_only("/srv/data/local"), Some(false));
        assert_eq!(read_only("/usr/share/jobs"), Some(true));
        assert_eq!(read_only("/media/disc/jobs"), Some(true), "the whole of it is");
        assert!(is_network("nfs4") && is_network("cifs") && !is_network("ext4"));
    }

    #[test]
    fn a_path_that_names_no_file_is_refused() {
        for path in ["", ":memory:"] {
            let refusal = absolute(Path::new(path)).unwrap_err().to_string();
            assert!(refusal.contains("MemoryStorage"), "{refusal}");
        }
    }
}
