//! How a database is opened: [`SqliteOptions`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portfire_core::clock::StorageTime;
use portfire_core::{Clock, Limits, Retention, StorageError, SystemClock, Timestamp};

use crate::SqliteStorage;
use crate::checkpoint::PAGES_BEGIN;

/// Largest args that [`Limits`] can allow.
const ARGS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a commit survives once a call has returned `Ok`. SQLite's `PRAGMA synchronous`, in WAL mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Synchronous {
    /// Each commit is on the disk before its calls return: it survives a power failure.
    #[default]
    Full,
    /// Commits reach the disk with the next checkpoint: a power failure or a crash of the operating
    /// system may undo the last of them, and never damages the file. A crash of the process undoes
    /// nothing.
    Normal,
    /// Nothing waits for the disk: a power failure may damage the file. For throw-away data.
    Off,
}

impl Synchronous {
    /// What is promised, in words.
    pub(crate) const fn durability(self) -> &'static str {
        match self {
            Synchronous::Full => "a power failure: every commit is synced to the disk",
            Synchronous::Normal => {
                "a crash of the process; a POWER FAILURE MAY UNDO the last commits (synchronous=NORMAL)"
            }
            Synchronous::Off => {
                "a crash of the process; a POWER FAILURE MAY DESTROY the file (synchronous=OFF)"
            }
        }
    }
}

/// Settings of a [`SqliteStorage`].
///
/// ```no_run
/// # async fn example() -> Result<(), portfire_core::StorageError> {
/// use portfire_sqlite::{SqliteOptions, Synchronous};
///
/// let storage = SqliteOptions::new("app.db").synchronous(Synchronous::Full).open().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until they are opened (`options.open().await?`)"]
pub struct SqliteOptions {
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention: Retention,
    pub(crate) limits: Limits,
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) file_bytes_max: Option<u64>,
    pub(crate) log_pages: u32,
    pub(crate) adopt: bool,
    /// Whether a server whose process lives has not crashed when its lease lapses.
    pub(crate) vouches: bool,
}

impl SqliteOptions {
    /// The settings for the database at this path, which is made when it is not there.
    pub fn new(path: impl AsRef<Path>) -> SqliteOptions {
        SqliteOptions {
            path: path.as_ref().to_path_buf(),
            clock: Arc::new(SystemClock),
            retention: Retention::default(),
            limits: Limits::default(),
            synchronous: Synchronous::default(),
            busy_timeout: Duration::from_secs(30),
            file_bytes_max: None,
            log_pages: PAGES_BEGIN,
            adopt: false,
            vouches: true,
        }
    }

    /// Takes the time from here; it never goes back in the storage, whatever this clock does.
    /// Default: the clock of the host. For tests: a lease that lapses by such a clock counts as a crash, though the
    /// process of its server, which is the test, lives.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> SqliteOptions {
        self.clock = clock;
        self.vouches = false;
        self
    }

    /// Keeps final jobs for so long, unless their call said otherwise. Default: [`Retention::default`].
    pub fn retention(mut self, retention: Retention) -> SqliteOptions {
        self.retention = retention;
        self
    }

    /// Takes jobs within these bounds; over 16 MiB of args means 16 MiB. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> SqliteOptions {
        self.limits = Limits { args_bytes_max: limits.args_bytes_max.min(ARGS_BYTES_MAX) };
        self
    }

    /// What a commit survives. Default: [`Synchronous::Full`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> SqliteOptions {
        self.synchronous = synchronous;
        self
    }

    /// How long a write waits for other processes before it is answered
    /// [`Unavailable`](StorageError::Unavailable). Default: 30 s.
    pub fn busy_timeout(mut self, timeout: Duration) -> SqliteOptions {
        self.busy_timeout = timeout;
        self
    }

    /// Lets the database file grow to so many bytes, rounded up to pages; a write that needs more is
    /// answered [`Full`](StorageError::Full), as on a full disk. Default: as far as the disk reaches.
    pub fn file_bytes_max(mut self, bytes: u64) -> SqliteOptions {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// Copies the log into the database file from so many pages on, or from a quarter of them on beside a
    /// small database.
    /// For tests, which want to see within a short record how a log begins anew.
    #[doc(hidden)]
    pub fn log_pages(mut self, pages: u32) -> SqliteOptions {
        self.log_pages = pages.max(10);
        self
    }

    /// Puts Portfire's tables also into a database that another application has marked as its own
    /// (by SQLite's `application_id`), so that jobs can be enqueued in that application's
    /// transactions. Default: such a file is refused, as it may have been opened by mistake.
    pub fn adopt(mut self, adopt: bool) -> SqliteOptions {
        self.adopt = adopt;
        self
    }

    /// Opens the database, makes or migrates its tables, and starts the threads that serve it.
    ///
    /// # Errors
    /// [`Unsupported`](StorageError::Unsupported) when the file is not a database, belongs to another
    /// application, has a newer schema, is a pipe or a device, lies on a network filesystem, or SQLite
    /// itself has the WAL defect that was fixed in 3.51.3; [`ReadOnly`](StorageError::ReadOnly) when file,
    /// folder or filesystem take no writes; [`Unavailable`](StorageError::Unavailable) when the file cannot be opened. Each
    /// names the path and what to do.
    ///
    /// # Cancel safety
    /// Dropping the future may leave an empty or migrated database behind, never half of one.
    pub async fn open(self) -> Result<SqliteStorage, StorageError> {
        SqliteStorage::start(self).await
    }
}

/// Storage time as this process sees it.
#[derive(Debug)]
pub(crate) struct StorageClock {
    time: StorageTime,
}

impl StorageClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> StorageClock {
        StorageClock { time: StorageTime::new(clock) }
    }

    /// The present, not before `high_water`, the latest instant in the file.
    pub(crate) fn now(&self, high_water: i64) -> Timestamp {
        self.time.now(Timestamp::from_micros(high_water))
    }

    /// How far the present is ahead of the clock.
    pub(crate) fn skew(&self, high_water: i64) -> Duration {
        self.time.skew(Timestamp::from_micros(high_water))
    }
}
