//! The log: how long it gets, whoever writes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use portfire_core::client::block_on;
use portfire_core::{JobId, Json, KindName, NewJob, Storage};
use portfire_sqlite::{SqliteOptions, SqliteStorage, Synchronous};

const MIB: u64 = 1024 * 1024;

fn open(path: &Path) -> SqliteStorage {
    // The length of the log is what is tested here, not the disk: a sixteenth of it is enough.
    let options = SqliteOptions::new(path).synchronous(Synchronous::Off).log_pages(256);
    block_on(options.open()).unwrap()
}

fn job(writer: u32, number: u32) -> NewJob {
    let mut id = [7; 16];
    id[8..12].copy_from_slice(&writer.to_be_bytes());
    id[12..].copy_from_slice(&number.to_be_bytes());
    let args = Json::encode(&"x".repeat(4_000)).unwrap();
    NewJob::new(JobId::from_bytes(id), KindName::stored("noop"), args)
}

/// The length of the log's file, which is what it takes of the disk.
fn length(path: &Path) -> u64 {
    std::fs::metadata(path.with_extension("db-wal")).map_or(0, |about| about.len())
}

/// Storages of their own on one file, as several processes have them.
#[test]
fn several_writers_at_full_speed_keep_the_log_short() {
    const WRITERS: u32 = 3;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storages: Vec<SqliteStorage> = (0..WRITERS).map(|_| open(&path)).collect();
    let write = |writer: u32| {
        for call in 0..60 {
            let jobs = (0..50).map(|at| job(writer, call * 50 + at)).collect();
            block_on(storages[writer as usize].create(jobs)).unwrap();
        }
    };
    let done = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut longest = 0;
            while !done.load(Ordering::Relaxed) {
                longest = longest.max(length(&path));
                std::thread::yield_now();
            }
            longest
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let write = &write;
                    move || write(writer)
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert!(longest > MIB, "{longest} bytes: that was no flood");
    assert!(longest <= 4 * MIB, "the log grew to {longest} bytes");
}
