//! What must not be left when all is at rest: a key, a slot, a place in a line, a link, something to go on with.

use std::path::Path;
use std::sync::Arc;

use portfire::{Client, LimitName, Storage, Unique};
use rusqlite::{Connection, OpenFlags};

use super::work::{Work, unique_keys};
use crate::AnyError;
use crate::effects::step;

/// What must have no rows, as `from … where …`.
const EMPTY: [&str; 11] = [
    "portfire_ready",
    "portfire_scheduled",
    "portfire_awaiting",
    "portfire_running",
    "portfire_trial where seq > 0",
    "portfire_line",
    "portfire_outbox",
    "portfire_cancelled",
    "portfire_link where open = 1",
    "portfire_key where running > 0 or waiting > 0",
    "portfire_unique",
];

/// Asks the storage: whether keys of limits are still in use, there is something to promote, or a unique key
/// cannot be taken. The keys are given back.
pub(super) async fn in_storage(
    work: &Work,
    storage: &Arc<dyn Storage>,
) -> Result<Vec<String>, AnyError> {
    let mut faults = Vec::new();
    for key in work.limits.keys() {
        let name = key.split(':').next().unwrap_or_default();
        for left in storage.limit_keys(LimitName::new(name)?).await? {
            faults.push(format!("the limit is still in use: {left:?}"));
        }
    }
    let promoted = storage.promote(1_000).await?;
    if promoted != Default::default() {
        faults.push(format!("there was something to promote: {promoted:?}"));
    }
    let client = Client::new(Arc::clone(storage));
    for key in unique_keys() {
        let call = step(0, false).unique(Unique::by_key(key.clone()));
        let created = client.enqueue_unique(call).await?;
        if created.existing {
            faults.push(format!("job {} holds `{key}` although all have ended", created.id));
        } else {
            let deleted = client.delete(created.id).await?;
            if !deleted.is_done() {
                faults.push(format!("job {} cannot be deleted: {deleted:?}", created.id));
            }
        }
    }
    Ok(faults)
}

/// Looks into the file itself.
pub(super) fn in_file(database: &Path) -> Result<Vec<String>, AnyError> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut faults = Vec::new();
    for rows in EMPTY {
        let count = format!("select count(*) from {rows}");
        match connection.query_row(&count, [], |row| row.get::<_, i64>(0))? {
            0 => {}
            left => faults.push(format!("{left} rows are left in {rows}")),
        }
    }
    Ok(faults)
}
