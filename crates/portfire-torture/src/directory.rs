//! Where a torture leaves its traces: the database, the effect logs and the logs of its processes.

use std::path::{Path, PathBuf};

use crate::AnyError;

/// A directory that is removed when everything passed, unless it was asked for.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    kept: bool,
}

impl Directory {
    pub(crate) fn new(wanted: Option<&Path>) -> Result<Directory, AnyError> {
        let own = || std::env::temp_dir().join(format!("portfire-torture-{}", std::process::id()));
        let path = wanted.map_or_else(own, Path::to_owned);
        std::fs::create_dir_all(&path)?;
        if std::fs::read_dir(&path)?.next().is_some() {
            return Err(format!("{} is not empty", path.display()).into());
        }
        Ok(Directory { path, kept: wanted.is_some() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("torture.db")
    }

    /// The URL of the database.
    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}", self.database().display())
    }

    /// How long SQLite's log is, in bytes.
    pub(crate) fn log_length(&self) -> u64 {
        std::fs::metadata(self.path.join("torture.db-wal")).map_or(0, |about| about.len())
    }

    /// What the processes warned of. Where servers are killed their death may be spoken of; a busy
    /// database never is.
    pub(crate) fn warnings(&self, kills: u64) -> Result<Vec<String>, AnyError> {
        let mut faults = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let log = std::fs::read_to_string(&path)?;
            let is_fault = |line: &&str| {
                let lower = line.to_lowercase();
                kills == 0
                    || lower.contains("busy")
                    || lower.contains("database is locked")
                    || lower.contains("panicked")
            };
            let mut lines = log.lines().filter(is_fault);
            if let Some(line) = lines.next() {
                let more = lines.count();
                faults.push(format!("{}: {line} (and {more} more)", path.display()));
            }
        }
        Ok(faults)
    }

    /// Says that the torture passed, and removes the traces; or fails with the faults, and keeps them.
    pub(crate) fn close(self, name: &str, faults: &[String]) -> Result<(), AnyError> {
        if !faults.is_empty() {
            let place = self.path.display();
            let list: Vec<String> = faults.iter().map(|fault| format!("\n- {fault}")).collect();
            return Err(format!("FAILED, traces are kept in {place}{}", list.concat()).into());
        }
        println!("torture {name}: passed");
        if !self.kept {
            std::fs::remove_dir_all(&self.path)?;
        }
        Ok(())
    }
}
