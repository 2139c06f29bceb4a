//! The tables, by numbered steps that go forward only.
//!
//! Each step is one SQL file, which ends by recording itself. It runs in one transaction, so any number
//! of programs may start on the same file at once: one does the step, the others find it done.

use std::path::Path;

use portfire_core::StorageError;
use rusqlite::{Connection, TransactionBehavior};

use crate::connect::APPLICATION_ID;
use crate::error::storage_error;

/// A step of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// Its number, from 1 without a gap.
    pub version: u32,
    /// What it does, in a word.
    pub name: &'static str,
    /// The oldest version whose programs may go on working once this step is done.
    pub compatible_from: u32,
    /// Its statements, the record of the step included; to be run in one transaction.
    pub sql: &'static str,
}

const MIGRATIONS: [Migration; 3] = [
    Migration {
        version: 1,
        name: "initial",
        compatible_from: 1,
        sql: include_str!("../migrations/0001_initial.sql"),
    },
    Migration {
        version: 2,
        name: "ties",
        compatible_from: 2,
        sql: include_str!("../migrations/0002_ties.sql"),
    },
    Migration {
        version: 3,
        name: "rules",
        compatible_from: 3,
        sql: include_str!("../migrations/0003_rules.sql"),
    },
];

const SELECT_HAS_SCHEMA: &str =
    "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'portfire_schema'";
const SELECT_IS_EMPTY: &str = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)";
const SELECT_VERSIONS: &str =
    "SELECT coalesce(max(version), 0), coalesce(max(compatible_from), 0) FROM portfire_schema";
/// All steps, in order, for those who want to read or apply the SQL themselves.
///
/// [`SqliteStorage::open`](crate::SqliteStorage::open) applies what is missing.
pub fn migrations() -> &'static [Migration] {
    &MIGRATIONS
}

/// Whether the file has tables of Portfire's.
pub(crate) fn is_ours(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare(SELECT_HAS_SCHEMA)?.exists([])
}

/// Applies the steps that are missing.
pub(crate) fn bring_up(conn: &Connection, path: &Path) -> Result<(), StorageError> {
    let fail = |error: rusqlite::Error| storage_error(&error, path);
    if missing_from(conn, path)?.is_empty() {
        return Ok(());
    }
    let behavior = TransactionBehavior::Immediate;
    let step = rusqlite::Transaction::new_unchecked(conn, behavior).map_err(fail)?;
    // A file that another program is to mark as its own is left unmarked.
    let is_empty: bool = step.query_row(SELECT_IS_EMPTY, [], |row| row.get(0)).map_err(fail)?;
    if is_empty {
        step.pragma_update(None, "application_id", APPLICATION_ID).map_err(fail)?;
    }
    for missing in missing_from(&step, path)? {
        step.execute_batch(missing.sql).map_err(fail)?;
    }
    step.commit().map_err(fail)
}

/// The steps that a file lacks; an error when it is too new for this program.
fn missing_from(conn: &Connection, path: &Path) -> Result<&'static [Migration], StorageError> {
    if !is_ours(conn).map_err(|error| storage_error(&error, path))? {
        return Ok(&MIGRATIONS);
    }
    let (version, compatible_from): (u32, u32) = conn
        .query_row(SELECT_VERSIONS, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(|error| storage_error(&error, path))?;
    let newest = MIGRATIONS.len() as u32;
    if compatible_from > newest {
        return Err(StorageError::Unsupported(format!(
            "{} has schema version {version}, and this program knows versions up to {newest}; \
             use a newer version of Portfire",
            path.display()
        )));
    }
    Ok(MIGRATIONS.get(version as usize..).unwrap_or(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_are_numbered_without_a_gap() {
        for (at, step) in migrations().iter().enumerate() {
            assert_eq!(step.version as usize, at + 1, "{}", step.name);
            assert!(step.compatible_from <= step.version, "{}", step.name);
        }
    }

    #[test]
    fn a_step_records_itself_as_it_is_listed() {
        let conn = Connection::open_in_memory().unwrap();
        for step in migrations() {
            conn.execute_batch(step.sql).unwrap();
            let sql = "SELECT name, compatible_from FROM portfire_schema WHERE version = ?1";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let recorded: (String, u32) = conn.query_row(sql, [step.version], read).unwrap();
            assert_eq!(recorded, (step.name.to_owned(), step.compatible_from));
        }
        assert!(missing_from(&conn, Path::new("memory")).unwrap().is_empty());
    }
}
