//! How long SQLite's log gets while something is measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

/// Between two looks at the log.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Looks at the length of a log until it is dropped.
#[derive(Debug)]
pub(super) struct LogWatch {
    longest: Arc<AtomicU64>,
    looks: JoinHandle<()>,
}

impl LogWatch {
    /// Of the database at this path.
    pub(super) fn of(database: &Path) -> LogWatch {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let log = PathBuf::from(log);
        let longest = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&longest);
        let looks = tokio::spawn(async move {
            let mut look = tokio::time::interval(LOOK_INTERVAL);
            loop {
                look.tick().await;
                let length = std::fs::metadata(&log).map_or(0, |about| about.len());
                seen.fetch_max(length, Ordering::Relaxed);
            }
        });
        LogWatch { longest, looks }
    }

    /// The greatest length that was seen, in bytes: what the file took of the disk.
    pub(super) fn longest(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }
}

impl Drop for LogWatch {
    fn drop(&mut self) {
        self.looks.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_greatest_length_stays() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("jobs.db-wal");
        std::fs::write(&log, [0; 5_000]).unwrap();
        let watch = LogWatch::of(&folder.path().join("jobs.db"));
        while watch.longest() == 0 {
            tokio::task::yield_now().await;
        }
        std::fs::write(&log, [0; 10]).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(watch.longest(), 5_000);
    }
}
