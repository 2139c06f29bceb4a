//! A write transaction in progress: the present, the counters, and what is to be told afterwards.
//!
//! Counters are summed up in memory while the transaction lasts and written once at its end, so a
//! commit of a thousand jobs changes as few counter rows as a commit of one.

use portfire_core::engine::Agenda;
use portfire_core::transition::Transition;
use portfire_core::{Bucket, Cause, Limits, Moved, Retention, StateName, Timestamp};
use rusqlite::{CachedStatement, Connection};

use crate::batches::Batches;
use crate::error::Failure;
use crate::keys::{self, Keys};
use crate::names::Names;
use crate::options::StorageClock;
use crate::outcomes::Said;
use crate::process::Process;
use crate::{batches, expiry, outbox};

/// The row of totals, as of the last commit that this connection knows of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Jobs by state.
    pub(crate) states: [i64; 7],
    pub(crate) next: i64,
    pub(crate) high_water: i64,
    pub(crate) work: i64,
    pub(crate) control: i64,
    pub(crate) names: i64,
    pub(crate) created: i64,
    pub(crate) succeeded: i64,
    pub(crate) failed: i64,
    pub(crate) deleted: i64,
    pub(crate) retried: i64,
    pub(crate) recovered: i64,
    pub(crate) cleaned: i64,
}

const SELECT_TALLY: &str = "SELECT scheduled, awaiting, enqueued, processing, succeeded, failed, \
    deleted, next, high_water, work, control, names, created_total, succeeded_total, failed_total, \
    deleted_total, retried_total, recovered_total, cleaned_total \
    FROM portfire_tally WHERE queue = 0";

const UPDATE_TALLY: &str = "UPDATE portfire_tally SET scheduled = ?1, awaiting = ?2, \
    enqueued = ?3, processing = ?4, succeeded = ?5, failed = ?6, deleted = ?7, next = ?8, \
    high_water = ?9, work = ?10, control = ?11, names = ?12, created_total = ?13, \
    succeeded_total = ?14, failed_total = ?15, deleted_total = ?16, retried_total = ?17, \
    recovered_total = ?18, cleaned_total = ?19 WHERE queue = 0";

const UPDATE_STATES: &str = "UPDATE portfire_tally SET scheduled = scheduled + ?2, \
    awaiting = awaiting + ?3, enqueued = enqueued + ?4, processing = processing + ?5, \
    succeeded = succeeded + ?6, failed = failed + ?7, deleted = deleted + ?8 WHERE queue = ?1";

const SELECT_PROCESSING: &str = "SELECT processing FROM portfire_tally WHERE queue = ?1";

const UPDATE_SERVER: &str =
    "UPDATE portfire_server SET processing = processing + ?2 WHERE server = ?1";

const UPSERT_STATISTICS: &str = "INSERT INTO portfire_statistics \
    (bucket, start, succeeded, failed, deleted) VALUES (?1, ?2, ?3, ?4, ?5) \
    ON CONFLICT (bucket, start) DO UPDATE SET succeeded = succeeded + ?3, \
    failed = failed + ?4, deleted = deleted + ?5";

impl Tally {
    pub(crate) fn read(conn: &Connection) -> rusqlite::Result<Tally> {
        conn.prepare_cached(SELECT_TALLY)?.query_row([], |row| {
            let mut states = [0; 7];
            for (at, count) in states.iter_mut().enumerate() {
                *count = row.get(at)?;
            }
            Ok(Tally {
                states,
                next: row.get(7)?,
                high_water: row.get(8)?,
                work: row.get(9)?,
                control: row.get(10)?,
                names: row.get(11)?,
                created: row.get(12)?,
                succeeded: row.get(13)?,
                failed: row.get(14)?,
                deleted: row.get(15)?,
                retried: row.get(16)?,
                recovered: row.get(17)?,
                cleaned: row.get(18)?,
            })
        })
    }

    fn write(&self, conn: &Connection) -> rusqlite::Result<()> {
        let [a, b, c, d, e, f, g] = self.states;
        conn.prepare_cached(UPDATE_TALLY)?.execute([
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            self.next,
            self.high_water,
            self.work,
            self.control,
            self.names,
            self.created,
            self.succeeded,
            self.failed,
            self.deleted,
            self.retried,
            self.recovered,
            self.cleaned,
        ])?;
        Ok(())
    }
}

/// What a connection keeps from one transaction to the next.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) tally: Tally,
    pub(crate) names: Names,
    keys: Keys,
    /// Whether all of the above is what the database holds.
    fresh: bool,
}

impl Book {
    /// Forgets what may not have been committed.
    pub(crate) fn forget(&mut self) {
        self.fresh = false;
        self.names.clear();
        self.keys.forget();
    }

    pub(crate) fn refresh(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let tally = Tally::read(conn)?;
        if tally.names != self.tally.names {
            self.names.clear();
        }
        self.keys.forget();
        self.tally = tally;
        self.fresh = true;
        Ok(())
    }
}

/// The changes of counters that the transaction has gathered.
#[derive(Clone, Debug, Default)]
struct Sums {
    changed: bool,
    /// Jobs by state for each queue, and for each kind under its negated number.
    states: Vec<(i64, [i64; 7])>,
    /// Jobs held by each server.
    servers: Vec<(i64, i64)>,
    /// Jobs that succeeded, failed, were deleted.
    ended: [i64; 3],
    /// When which final jobs expire: instant, state, job.
    expiring: Vec<(i64, i64, i64)>,
}

/// A write transaction in progress.
pub(crate) struct Write<'a> {
    pub(crate) conn: &'a Connection,
    /// Storage time of the whole transaction.
    pub(crate) now: Timestamp,
    pub(crate) retention: Retention,
    pub(crate) limits: Limits,
    pub(crate) tally: Tally,
    pub(crate) names: &'a mut Names,
    /// What the keys of limits are at.
    pub(crate) keys: &'a mut Keys,
    /// This process as others see it; `None` in a transaction of the user's.
    pub(crate) process: Option<&'a mut Process>,
    /// What the present operation must still do.
    pub(crate) agenda: Agenda,
    /// The transitions of this transaction, while somebody listens.
    pub(crate) told: Option<Vec<Moved>>,
    /// Whether nothing is left of earlier operations to tell of, once that was asked.
    pub(crate) outbox_is_empty: Option<bool>,
    pub(crate) batches: Batches,
    /// What the last parent said whose end was passed on.
    pub(crate) said: Option<Said>,
    before: Tally,
    book_tally: &'a mut Tally,
    sums: Sums,
    /// What [`statement`](Write::statement) has prepared.
    statements: Vec<(&'static str, CachedStatement<'a>)>,
}

/// Where an operation began, to go back to.
struct Mark {
    freed: Vec<String>,
    tally: Tally,
    sums: Sums,
    agenda: Agenda,
    told: usize,
}

impl<'a> Write<'a> {
    /// Begins inside an open transaction that may write. `stale` when others may have written since
    /// the book was last used.
    pub(crate) fn begin(
        conn: &'a Connection,
        book: &'a mut Book,
        stale: bool,
        clock: &StorageClock,
        retention: Retention,
        limits: Limits,
    ) -> rusqlite::Result<Write<'a>> {
        if stale || !book.fresh {
            book.refresh(conn)?;
        }
        book.keys.shrink();
        let now = clock.now(book.tally.high_water);
        Ok(Write {
            conn,
            now,
            retention,
            limits,
            tally: book.tally,
            names: &mut book.names,
            keys: &mut book.keys,
            process: None,
            agenda: Agenda::default(),
            told: None,
            outbox_is_empty: None,
            batches: Batches::new(),
            said: None,
            before: book.tally,
            book_tally: &mut book.tally,
            sums: Sums::default(),
            statements: Vec::new(),
        })
    }

    /// Writes the counters. The last thing before the commit. Says whether the transaction has
    /// written anything at all.
    pub(crate) fn flush(&mut self) -> Result<bool, Failure> {
        debug_assert!(self.agenda.is_empty(), "{:?} was told to nobody", self.agenda);
        keys::flush(self)?;
        if !self.sums.changed && self.tally == self.before {
            return Ok(false);
        }
        self.tally.high_water = self.now.as_micros();
        batches::flush(self)?;
        self.tally.write(self.conn)?;
        for &(number, [a, b, c, d, e, f, g]) in &self.sums.states {
            self.conn.prepare_cached(UPDATE_STATES)?.execute([number, a, b, c, d, e, f, g])?;
        }
        self.flush_held()?;
        self.flush_expiry()?;
        if self.sums.ended != [0; 3] {
            for bucket in [Bucket::Hour, Bucket::Day] {
                let [succeeded, failed, deleted] = self.sums.ended;
                let start = bucket.start(self.now).as_micros();
                let values = [bucket_code(bucket), start, succeeded, failed, deleted];
                self.conn.prepare_cached(UPSERT_STATISTICS)?.execute(values)?;
            }
        }
        Ok(true)
    }

    /// Hands the new totals to the book, which forgets them again when the commit fails. Says whether
    /// there is work or control to announce.
    pub(crate) fn finish(self) -> (bool, bool) {
        let hints =
            (self.tally.work != self.before.work, self.tally.control != self.before.control);
        *self.book_tally = self.tally;
        hints
    }

    /// A statement that many jobs of a transaction need one after the other: it stays at hand, which costs less than
    /// to look it up among those of the connection each time. In a transaction it is to be had here alone.
    pub(crate) fn statement(
        &mut self,
        sql: &'static str,
    ) -> rusqlite::Result<&mut CachedStatement<'a>> {
        let is_same = |known: &'static str| std::ptr::eq(known, sql) || known == sql;
        let at = self.statements.iter().position(|(known, _)| is_same(known));
        let at = at.unwrap_or(self.statements.len());
        if at == self.statements.len() {
            self.statements.push((sql, self.conn.prepare_cached(sql)?));
        }
        Ok(&mut self.statements[at].1)
    }

    /// Something was written beyond the counters.
    pub(crate) fn touch(&mut self) {
        self.sums.changed = true;
    }

    /// Whether nothing is left of earlier operations to tell of.
    pub(crate) fn outbox_is_empty(&mut self) -> rusqlite::Result<bool> {
        if let Some(known) = self.outbox_is_empty {
            return Ok(known);
        }
        let is_empty = !outbox::has_any(self.conn)?;
        self.outbox_is_empty = Some(is_empty);
        Ok(is_empty)
    }

    /// Draws the next number for a job or for a place at the end of a queue.
    pub(crate) fn draw(&mut self) -> i64 {
        let number = self.tally.next;
        self.tally.next += 1;
        number
    }

    /// Jobs may have become claimable, or due sooner than was known.
    pub(crate) fn hint_work(&mut self) {
        if self.tally.work == self.before.work {
            self.tally.work += 1;
        }
    }

    /// Held jobs were taken from their holder, a queue was paused or resumed, a server died.
    pub(crate) fn hint_control(&mut self) {
        if self.tally.control == self.before.control {
            self.tally.control += 1;
        }
    }

    /// Counts a job that was created.
    pub(crate) fn count_created(&mut self, queue: i64, kind: i64, state: StateName) {
        self.tally.created += 1;
        self.count_state(queue, kind, state, 1);
    }

    /// Counts a job that was cleaned.
    pub(crate) fn count_cleaned(&mut self, queue: i64, kind: i64, state: StateName) {
        self.tally.cleaned += 1;
        self.count_state(queue, kind, state, -1);
    }

    /// Counts what a transition changes.
    pub(crate) fn count_moved(
        &mut self,
        queue: i64,
        kind: i64,
        from: StateName,
        made: &Transition,
    ) {
        let to = made.to.state;
        self.count_state(queue, kind, from, -1);
        self.count_state(queue, kind, to, 1);
        match made.cause {
            Cause::Retried => self.tally.retried += 1,
            Cause::Rescued => self.tally.recovered += 1,
            _ => {}
        }
        match to {
            StateName::Succeeded => {
                self.tally.succeeded += 1;
                self.sums.ended[0] += 1;
            }
            StateName::Failed => {
                self.tally.failed += 1;
                self.sums.ended[1] += 1;
            }
            StateName::Deleted => {
                self.tally.deleted += 1;
                self.sums.ended[2] += 1;
            }
            StateName::Enqueued | StateName::Scheduled => self.hint_work(),
            StateName::Awaiting | StateName::Processing => {}
        }
    }

    /// Jobs of a queue that are processing, with what this transaction has changed.
    pub(crate) fn processing_of_queue(&self, queue: i64) -> rusqlite::Result<i64> {
        self.processing(queue)
    }

    /// Jobs of a kind that are processing, with what this transaction has changed.
    pub(crate) fn processing_of_kind(&self, kind: i64) -> rusqlite::Result<i64> {
        self.processing(-kind)
    }

    fn processing(&self, number: i64) -> rusqlite::Result<i64> {
        let mut select = self.conn.prepare_cached(SELECT_PROCESSING)?;
        let before: i64 = select.query_row([number], |row| row.get(0))?;
        let sum = self.sums.states.iter().find(|(listed, _)| *listed == number);
        Ok(before + sum.map_or(0, |(_, sum)| sum[code(StateName::Processing)]))
    }

    /// Notes when a final job expires.
    pub(crate) fn note_expiry(&mut self, seq: i64, state: StateName, expires_at: Timestamp) {
        self.sums.expiring.push((expires_at.as_micros(), code(state) as i64, seq));
    }

    /// Counts a job that a server took (1) or holds no longer (-1).
    pub(crate) fn count_held(&mut self, server: i64, by: i64) {
        self.sums.changed = true;
        match self.sums.servers.iter_mut().find(|(number, _)| *number == server) {
            Some((_, sum)) => *sum += by,
            None => self.sums.servers.push((server, by)),
        }
    }

    /// Writes how many jobs the servers hold. What looks for that by statements calls it first.
    pub(crate) fn flush_held(&mut self) -> rusqlite::Result<()> {
        for (server, held) in self.sums.servers.drain(..) {
            self.conn.prepare_cached(UPDATE_SERVER)?.execute([server, held])?;
        }
        Ok(())
    }

    /// Writes which jobs expire when. What looks for those that have expired calls it first.
    pub(crate) fn flush_expiry(&mut self) -> rusqlite::Result<()> {
        expiry::write(self.conn, &mut self.sums.expiring)
    }

    fn count_state(&mut self, queue: i64, kind: i64, state: StateName, by: i64) {
        let state = code(state);
        self.sums.changed = true;
        self.tally.states[state] += by;
        let sums = &mut self.sums.states;
        for number in [queue, -kind] {
            let at = sums.iter().position(|(listed, _)| *listed == number).unwrap_or(sums.len());
            if at == sums.len() {
                sums.push((number, [0; 7]));
            }
            sums[at].1[state] += by;
        }
    }

    /// Does all of `act` or, when it fails, nothing of it.
    pub(crate) fn all_or_nothing<T>(
        &mut self,
        act: impl FnOnce(&mut Write<'a>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        // What others have done to keys and batches is not to be undone with this.
        keys::flush(self)?;
        batches::flush(self)?;
        let freed = self.keys.freed.clone();
        let told = self.told.as_ref().map_or(0, Vec::len);
        let (sums, agenda) = (self.sums.clone(), self.agenda.clone());
        let mark = Mark { freed, tally: self.tally, sums, agenda, told };
        self.conn.prepare_cached("SAVEPOINT portfire_operation")?.execute([])?;
        let done = act(self);
        // SQLite may have rolled the whole transaction back by itself.
        if done.is_err() && !self.conn.is_autocommit() {
            self.conn.prepare_cached("ROLLBACK TO portfire_operation")?.execute([])?;
            self.tally = mark.tally;
            self.sums = mark.sums;
            self.agenda = mark.agenda;
            if let Some(told) = &mut self.told {
                told.truncate(mark.told);
            }
            self.outbox_is_empty = None;
            self.batches.clear();
            self.said = None;
            self.names.clear();
            self.keys.undo(mark.freed);
        }
        if !self.conn.is_autocommit() {
            self.conn.prepare_cached("RELEASE portfire_operation")?.execute([])?;
        }
        done
    }
}

/// The number under which a bucket's width is stored.
pub(crate) fn bucket_code(bucket: Bucket) -> i64 {
    i64::try_from(bucket.width().as_secs()).unwrap_or(0)
}

/// The place of a state in [`StateName::ALL`], under which it is stored and counted.
pub(crate) fn code(state: StateName) -> usize {
    match state {
        StateName::Scheduled => 0,
        StateName::Awaiting => 1,
        StateName::Enqueued => 2,
        StateName::Processing => 3,
        StateName::Succeeded => 4,
        StateName::Failed => 5,
        StateName::Deleted => 6,
    }
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_PROCESSING,
    SELECT_TALLY,
    UPDATE_TALLY,
    UPDATE_STATES,
    UPDATE_SERVER,
    UPSERT_STATISTICS,
];
