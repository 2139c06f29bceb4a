//! The readers: threads with connections of their own, so that no read waits for a write and none
//! holds one up.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portfire_core::StorageError;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::connect::open_reader;
use crate::error::Failure;

/// How many reads may go on at once.
const READERS: usize = 2;

type Read = Box<dyn FnOnce(Result<&Connection, StorageError>) + Send>;

/// Where reads wait for a reader.
pub(crate) struct Readers {
    desk: Arc<Desk>,
}

struct Desk {
    path: PathBuf,
    busy_timeout: Duration,
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

#[derive(Default)]
struct Waiting {
    reads: VecDeque<Read>,
    /// Threads that were started, and those of them that have nothing to do.
    started: usize,
    idle: usize,
    closed: bool,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, busy_timeout: Duration) -> Readers {
        let waiting = Mutex::default();
        Readers { desk: Arc::new(Desk { path, busy_timeout, waiting, bell: Condvar::new() }) }
    }

    /// Reads in one transaction, so that everything is of one moment. Threads are started as they
    /// are needed; `running` is dropped when they have ended.
    pub(crate) fn read<T: Send + 'static>(
        &self,
        running: &watch::Sender<()>,
        act: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StorageError>>, StorageError> {
        let (reply, answer) = oneshot::channel();
        let path = self.desk.path.clone();
        let read = move |conn: Result<&Connection, StorageError>| {
            if reply.is_closed() {
                return;
            }
            let read = conn.and_then(|conn| {
                in_transaction(conn, act).map_err(|failure| failure.into_storage(&path))
            });
            // Whoever asked may have stopped waiting.
            let _ = reply.send(read);
        };
        let mut waiting = self.desk.lock();
        if waiting.closed {
            return Err(StorageError::Closed);
        }
        waiting.reads.push_back(Box::new(read));
        let more = waiting.idle < waiting.reads.len() && waiting.started < READERS;
        if more {
            waiting.started += 1;
        }
        drop(waiting);
        self.desk.bell.notify_one();
        if more {
            self.start(running.subscribe())?;
        }
        Ok(answer)
    }

    fn start(&self, running: watch::Receiver<()>) -> Result<(), StorageError> {
        let desk = Arc::clone(&self.desk);
        let serve = move || {
            desk.serve();
            drop(running);
        };
        let started = std::thread::Builder::new().name("portfire-read".to_owned()).spawn(serve);
        match started {
            Ok(_) => Ok(()),
            Err(error) => {
                self.desk.lock().started -= 1;
                Err(StorageError::unavailable(error))
            }
        }
    }

    /// Takes nothing more; what waits is still read.
    pub(crate) fn close(&self) {
        self.desk.lock().closed = true;
        self.desk.bell.notify_all();
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // The queue is whole between any two statements, so a panic elsewhere cannot have torn it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut conn = None;
        while let Some(read) = self.next() {
            if conn.is_none() {
                match open_reader(&self.path, self.busy_timeout) {
                    Ok(opened) => conn = Some(opened),
                    Err(error) => {
                        read(Err(error));
                        continue;
                    }
                }
            }
            if let Some(conn) = &conn {
                read(Ok(conn));
            }
        }
    }

    fn next(&self) -> Option<Read> {
        let mut waiting = self.lock();
        loop {
            if let Some(read) = waiting.reads.pop_front() {
                return Some(read);
            }
            if waiting.closed {
                return None;
            }
            waiting.idle += 1;
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
        }
    }
}

fn in_transaction<T>(
    conn: &Connection,
    act: impl FnOnce(&Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    conn.prepare_cached("BEGIN")?.execute([])?;
    let read = act(conn);
    // There is nothing to lose; a failed read may have ended the transaction itself.
    if !conn.is_autocommit() {
        conn.prepare_cached("ROLLBACK")?.execute([])?;
    }
    read
}
