//! What SQLite itself does with one row a commit, as durable as the storage: the yardstick of
//! `enqueue-serial`.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use crate::failure::Failure;

/// A database of its own beside the measured one, on the same disk.
pub(super) struct RawCommits {
    path: PathBuf,
    connection: Option<Connection>,
    written: u64,
}

impl RawCommits {
    pub(super) fn beside(file: &Path) -> Result<RawCommits, Failure> {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".raw-{}", std::process::id()));
        let path = PathBuf::from(name);
        let connection = Connection::open(&path).map_err(failed)?;
        connection
            .execute_batch(
                "pragma journal_mode = wal;
                 pragma synchronous = full;
                 create table row (id integer primary key, body text not null);",
            )
            .map_err(failed)?;
        Ok(RawCommits { path, connection: Some(connection), written: 0 })
    }

    /// Writes so many rows, each in a transaction of its own.
    pub(super) fn commit(&mut self, rows: u64, body: &str) -> Result<(), Failure> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let mut insert =
            connection.prepare("insert into row (id, body) values (?1, ?2)").map_err(failed)?;
        for _ in 0..rows {
            self.written += 1;
            insert.execute(params![self.written as i64, body]).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for RawCommits {
    fn drop(&mut self) {
        // Closed before it is removed, for Windows.
        self.connection = None;
        for ending in ["", "-wal", "-shm"] {
            let mut file = self.path.clone().into_os_string();
            file.push(ending);
            let _ = std::fs::remove_file(file);
        }
    }
}

fn failed(error: rusqlite::Error) -> Failure {
    Failure::new(format!("SQLite's own commits cannot be measured: {error}"))
}
