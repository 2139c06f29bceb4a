//! How long SQLite's log gets while something is measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Between two looks at the log.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Looks at the length of a log until it is dropped. It has a thread of its own: a task with a timer would change how
/// the runtime that is measured waits.
#[derive(Debug)]
pub(super) struct LogWatch {
    longest: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl LogWatch {
    /// Of the database at this path.
    pub(super) fn of(database: &Path) -> LogWatch {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let log = PathBuf::from(log);
        let longest = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let (seen, ended) = (Arc::clone(&longest), Arc::clone(&over));
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let length = std::fs::metadata(&log).map_or(0, |about| about.len());
                seen.fetch_max(length, Ordering::Relaxed);
                thread::park_timeout(LOOK_INTERVAL);
            }
        });
        LogWatch { longest, over }
    }

    /// The greatest length that was seen, in bytes: what the file took of the disk.
    pub(super) fn longest(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }
}

impl Drop for LogWatch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_length_stays() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("jobs.db-wal");
        std::fs::write(&log, [0; 5_000]).unwrap();
        let watch = LogWatch::of(&folder.path().join("jobs.db"));
        while watch.longest() == 0 {
            thread::yield_now();
        }
        std::fs::write(&log, [0; 10]).unwrap();
        assert_eq!(watch.longest(), 5_000);
    }
}
