//! Enqueueing in a transaction of the user's own, on the same file: the jobs exist when it commits.

use std::sync::Arc;

use portfire_core::client::CreateIn;
use portfire_core::engine;
use portfire_core::{Created, Limits, NewJob, Retention, StorageError, SystemClock};
use rusqlite::{Connection, ErrorCode, Transaction};

use crate::SqliteStorage;
use crate::create::create;
use crate::error::{Failure, Lost};
use crate::migrate;
use crate::options::StorageClock;
use crate::write::{Book, Write};

/// Jobs are created as [`Storage::create`](portfire_core::Storage::create) does, with the retention, the limits and the
/// clock of the client's storage, and start when the transaction commits: at once or, when another process or no server
/// of this storage sees them first, with its next look.
///
/// Begin the transaction with
/// [`TransactionBehavior::Immediate`](rusqlite::TransactionBehavior::Immediate). A deferred one that
/// has read before it writes fails with [`Unavailable`](StorageError::Unavailable) whenever another
/// connection has committed in between; that is how SQLite keeps it isolated.
///
/// The future is ready at once: the work is done when it is first polled, on this thread.
impl CreateIn<SqliteStorage> for Transaction<'_> {
    async fn create_in(
        &mut self,
        storage: Option<&SqliteStorage>,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Created>, StorageError> {
        let settings = storage.map_or_else(Settings::default, SqliteStorage::settings);
        create_in(self, &settings, &jobs).map_err(|failure| explain(failure, self))
    }
}

/// Changes nothing, and makes the transaction one that writes.
const LOCK: &str = "UPDATE portfire_tally SET work = work WHERE queue = 0";

/// What holds for jobs that are created.
pub(crate) struct Settings {
    pub(crate) clock: Arc<StorageClock>,
    pub(crate) retention: Retention,
    pub(crate) limits: Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        let clock = Arc::new(StorageClock::new(Arc::new(SystemClock)));
        Settings { clock, retention: Retention::default(), limits: Limits::default() }
    }
}

fn create_in(
    conn: &Connection,
    settings: &Settings,
    jobs: &[NewJob],
) -> Result<Vec<Created>, Failure> {
    if !migrate::is_ours(conn)? {
        let text =
            "this database has no tables of Portfire's; open it once with `SqliteStorage::open`";
        return Err(StorageError::Unsupported(text.to_owned()).into());
    }
    let mut book = Book::default();
    // The first write takes the lock, before the row of totals is read.
    conn.prepare_cached(LOCK)?.execute([])?;
    let Settings { clock, retention, limits } = settings;
    let mut write = Write::begin(conn, &mut book, true, clock, *retention, *limits)?;
    write.all_or_nothing(|write| {
        let created = create(write, &[], jobs)?;
        engine::settle(write)?;
        write.flush()?;
        Ok(created)
    })
}

fn explain(failure: Failure, conn: &Connection) -> StorageError {
    let path = conn.path().unwrap_or_default().to_owned();
    match &failure {
        Failure::Lost(Lost::Sql(error))
            if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) =>
        {
            StorageError::unavailable(format!(
                "{path}: another connection is writing, or has written since this transaction read \
                 ({error}); begin it with TransactionBehavior::Immediate and set a busy timeout"
            ))
        }
        _ => failure.into_storage(path.as_ref()),
    }
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[LOCK];
