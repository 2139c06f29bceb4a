//! The writer: one thread that owns the connection and writes for everyone in this process.
//!
//! What has gathered while the last commit ran goes into the next one, so one operation alone waits
//! for nothing and a flood pays one sync for hundreds. Answers are sent after the commit, and after
//! the sync when they promise one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::{Limits, Moved, Retention, StorageError, TransitionHub, WakeupHub};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::checkpoint::Checkpointer;
use crate::connect::{open_writer, or_not_at_all};
use crate::disk::{Disk, Trust};
use crate::error::{Failure, Lost, storage_error};
use crate::inbox::{Durability, Inbox, LastOut, Operation, Woken};
use crate::options::{SqliteOptions, StorageClock};
use crate::process::Process;
use crate::turns::Turns;
use crate::wakeup::Foreign;
use crate::write::{Book, Write};

/// The thread's own.
pub(crate) struct Writer {
    conn: Connection,
    path: PathBuf,
    inbox: Arc<Inbox>,
    hub: Arc<WakeupHub>,
    transitions: Arc<TransitionHub>,
    clock: Arc<StorageClock>,
    retention: Retention,
    limits: Limits,
    disk: Disk,
    process: Process,
    checkpointer: Checkpointer,
    turns: Arc<Turns>,
    /// How long it waits for a transaction of a running job.
    patience: Duration,
}

impl Writer {
    /// Opens the database, on the thread that is to write.
    pub(crate) fn open(
        options: &SqliteOptions,
        inbox: Arc<Inbox>,
        (hub, transitions): (Arc<WakeupHub>, Arc<TransitionHub>),
        clock: Arc<StorageClock>,
        turns: Arc<Turns>,
    ) -> Result<Writer, StorageError> {
        let conn = open_writer(options)?;
        let fail = |error: rusqlite::Error| storage_error(&error, &options.path);
        let disk = Disk::new(&conn, &options.path, options.synchronous).map_err(fail)?;
        let checkpointer = Checkpointer::new(&conn, options).map_err(fail)?;
        // As SQLite has it, without links, so that all processes look at the same lock files.
        let file = conn.path().map_or_else(|| options.path.clone(), PathBuf::from);
        Ok(Writer {
            conn,
            path: options.path.clone(),
            inbox,
            hub,
            transitions,
            clock,
            retention: options.retention,
            limits: options.limits,
            disk,
            process: Process::new(&file, options.vouches),
            checkpointer,
            turns,
            patience: options.busy_timeout,
        })
    }

    /// Whether the log is on the disk, for other connections of this storage.
    pub(crate) fn trust(&self) -> Arc<Trust> {
        Arc::clone(self.disk.trust())
    }

    /// Serves until the inbox is closed and empty.
    pub(crate) fn run(self) {
        let _last_out = LastOut(Arc::clone(&self.inbox));
        let mut at_work =
            AtWork { book: Book::default(), foreign: Foreign::default(), told: None, writer: self };
        let mut group = Vec::new();
        loop {
            let tick = at_work.foreign.tick(&at_work.writer.hub);
            match at_work.writer.inbox.take(&mut group, tick) {
                Woken::Work => {
                    let answered = group.len();
                    at_work.commit_group(&mut group);
                    if answered > 1 {
                        at_work.writer.inbox.gather(answered);
                    }
                }
                Woken::Tick => at_work.look_around(),
                Woken::Closed => return at_work.writer.close(),
            }
        }
    }

    /// The last connection to a file brings the log into it at its end. A log that may not be on the disk
    /// is left to whoever opens the file next; who holds the write lock then is not waited for.
    fn close(self) {
        let Writer { conn, disk, path, .. } = &self;
        if or_not_at_all(conn, Duration::ZERO, || disk.may_close(conn)) {
            return;
        }
        if let Err(error) = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
            tracing::warn!(%error, path = %path.display(), "closing the file");
        }
    }
}

/// The writer with what it remembers from commit to commit.
struct AtWork {
    writer: Writer,
    book: Book,
    foreign: Foreign,
    /// The transitions of the last commit, until its operations are answered.
    told: Option<Vec<Moved>>,
}

impl AtWork {
    /// Does the operations in one commit; when SQLite refuses that, each in a commit of its own, so
    /// that one which does not fit on the disk does not take the others with it.
    fn commit_group(&mut self, group: &mut Vec<Box<dyn Operation>>) {
        group.retain(|operation| !operation.is_abandoned());
        if group.is_empty() {
            return;
        }
        match self.commit_or_make_room(group) {
            Ok(changed) => self.answer(group, changed),
            Err(lost) if group.len() > 1 && lost.is_about_one() => {
                for operation in group.drain(..) {
                    let mut alone = vec![operation];
                    match self.commit(&mut alone) {
                        Ok(changed) => self.answer(&mut alone, changed),
                        Err(lost) => self.answer_lost(&mut alone, &lost),
                    }
                }
            }
            Err(lost) => self.answer_lost(group, &lost),
        }
        self.foreign.announce(&self.writer.hub);
        let Writer { conn, disk, checkpointer, .. } = &mut self.writer;
        let trust = disk.trust();
        if trust.is_whole() && checkpointer.after_commit(conn, trust.files().length()) {
            trust.lose();
        }
    }

    /// Does the operations in one commit. When the disk is full the log is brought into the file, which
    /// may make room enough, and they are done again.
    fn commit_or_make_room(&mut self, group: &mut [Box<dyn Operation>]) -> Result<bool, Lost> {
        let done = self.commit(group);
        let Writer { conn, checkpointer, .. } = &mut self.writer;
        match done {
            Err(lost) if lost.is_full() && checkpointer.make_room(conn) => self.commit(group),
            done => done,
        }
    }

    /// Answers those who were not promised a sync, then syncs and answers the others. Listeners are
    /// woken before that: what they want next is handed in while the disk is at work.
    fn answer(&mut self, group: &mut Vec<Box<dyn Operation>>, changed: bool) {
        let waits = |operation: &mut Box<dyn Operation>| match operation.durability() {
            Durability::Always => true,
            Durability::IfChanged => changed,
            Durability::Never => false,
        };
        let waiting: Vec<_> = group.extract_if(.., waits).collect();
        let told = self.told.take().unwrap_or_default();
        if waiting.is_empty() {
            self.writer.transitions.tell(told);
            group.drain(..).for_each(|operation| operation.answer(None));
            return;
        }
        group.drain(..).for_each(|operation| operation.answer(None));
        self.foreign.announce(&self.writer.hub);
        let synced = self.writer.disk.sync(&self.writer.conn);
        self.writer.transitions.tell(told);
        for operation in waiting {
            operation.answer(synced.as_ref().err().map(|lost| lost.to_storage(&self.writer.path)));
        }
    }

    fn answer_lost(&self, group: &mut Vec<Box<dyn Operation>>, lost: &Lost) {
        for operation in group.drain(..) {
            operation.answer(Some(lost.to_storage(&self.writer.path)));
        }
    }

    /// Does the operations in one commit. Says whether anything was written.
    fn commit(&mut self, group: &mut [Box<dyn Operation>]) -> Result<bool, Lost> {
        let Writer { conn, disk, checkpointer, turns, patience, .. } = &mut self.writer;
        let _turn = turns.of_writer(*patience)?;
        disk.prepare(conn, group.iter().any(|op| op.durability() != Durability::Never))?;
        checkpointer.before_commit(conn).map_err(Lost::Disk)?;
        if !conn.is_autocommit() {
            // An earlier rollback failed, as it may on a disk that fails.
            conn.execute_batch("ROLLBACK")?;
        }
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let applied = self.apply(group);
        let conn = &self.writer.conn;
        let done = applied.and_then(|changed| {
            conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(changed)
        });
        match &done {
            Ok(_) => {
                self.writer.process.remove_ended();
                self.writer.inbox.count_commit();
            }
            Err(lost) => {
                if let Lost::Sql(error) = lost {
                    self.writer.disk.trust().hear(error);
                }
                self.book.forget();
                self.foreign.forget();
                // SQLite may have rolled back by itself.
                if !conn.is_autocommit()
                    && let Err(error) = conn.execute_batch("ROLLBACK")
                {
                    tracing::warn!(%error, "rolling back");
                }
            }
        }
        done
    }

    fn apply(&mut self, group: &mut [Box<dyn Operation>]) -> Result<bool, Lost> {
        let Writer { conn, clock, retention, limits, process, transitions, .. } = &mut self.writer;
        let stale = self.foreign.has_written(conn)?;
        let before = self.book.tally;
        let mut write = Write::begin(conn, &mut self.book, stale, clock, *retention, *limits)?;
        write.process = Some(process);
        write.told = transitions.is_heard().then(Vec::new);
        if stale {
            self.foreign.compare(&before, &write.tally);
        }
        for operation in group {
            operation.apply(&mut write)?;
        }
        let changed = write.flush().map_err(Failure::into_lost)?;
        self.told = write.told.take();
        let (work, control) = write.finish();
        self.foreign.owe(work, control);
        Ok(changed)
    }

    /// Looks whether other processes have written something to tell of.
    fn look_around(&mut self) {
        let Writer { conn, process, disk, .. } = &self.writer;
        let looked = self.foreign.look(conn, disk.trust().log(), &mut self.book);
        let looked = looked.and_then(|()| self.foreign.watch(conn, process));
        if let Err(error) = looked {
            tracing::debug!(%error, path = %self.writer.path.display(), "looking for foreign commits");
        }
        self.foreign.announce(&self.writer.hub);
    }
}
